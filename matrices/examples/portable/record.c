#include "record.h"

#include <string.h>

#include "crc32c.h"

static const uint8_t magic[2] = {0x50, 0x52}; /* "PR" in ASCII, whatever the compiler's character set is */

wire_writer record_begin(void *buffer, size_t size)
{
    wire_writer out = wire_writer_on(buffer, size);

    wire_put_bytes(&out, magic, sizeof magic);
    wire_put_u16(&out, RECORD_VERSION);
    wire_put_u32(&out, 0); /* the size, known at the end */
    return out;
}

size_t record_end(wire_writer *out)
{
    wire_writer header = wire_writer_on(out->start, RECORD_HEADER);

    if (out->failed || (uint64_t)out->used - RECORD_HEADER > UINT32_MAX)
        return 0;
    header.used = RECORD_HEADER - 4;
    wire_put_u32(&header, (uint32_t)(out->used - RECORD_HEADER));
    wire_put_u32(out, crc32c(0, out->start, out->used));
    return out->failed ? 0 : out->used;
}

static void put_key(wire_writer *out, uint64_t number, record_type type)
{
    if (number > UINT64_MAX >> 3)
        out->failed = true;
    wire_put_varint(out, number << 3 | (uint64_t)type);
}

void record_put_uint(wire_writer *out, uint64_t number, uint64_t value)
{
    put_key(out, number, RECORD_UINT);
    wire_put_varint(out, value);
}

void record_put_sint(wire_writer *out, uint64_t number, int64_t value)
{
    put_key(out, number, RECORD_SINT);
    wire_put_zigzag(out, value);
}

void record_put_f32(wire_writer *out, uint64_t number, float value)
{
    put_key(out, number, RECORD_F32);
    wire_put_f32(out, value);
}

void record_put_f64(wire_writer *out, uint64_t number, double value)
{
    put_key(out, number, RECORD_F64);
    wire_put_f64(out, value);
}

static void put_sized(wire_writer *out, const void *data, size_t size)
{
    wire_put_varint(out, size);
    wire_put_bytes(out, data, size);
}

void record_put_text(wire_writer *out, uint64_t number, const char *text)
{
    size_t size = strlen(text);

    if (!record_is_utf8(text, size))
        out->failed = true;
    put_key(out, number, RECORD_TEXT);
    put_sized(out, text, size);
}

void record_put_blob(wire_writer *out, uint64_t number, const void *data, size_t size)
{
    put_key(out, number, RECORD_BLOB);
    put_sized(out, data, size);
}

void record_put_packed(wire_writer *out, uint64_t number, const uint32_t *values, size_t count, unsigned width)
{
    put_key(out, number, RECORD_PACKED);
    wire_put_varint(out, count);
    wire_put_u8(out, (uint8_t)width);
    wire_put_packed(out, values, count, width);
}

record_status record_open(wire_reader *in, const void *data, size_t size)
{
    wire_reader frame = wire_reader_on(data, size);
    const uint8_t *start = wire_get_bytes(&frame, sizeof magic);
    uint16_t version = wire_get_u16(&frame);
    uint32_t body_size = wire_get_u32(&frame);
    const uint8_t *body;
    uint32_t checksum;

    if (frame.failed)
        return RECORD_TRUNCATED;
    if (memcmp(start, magic, sizeof magic) != 0 || version != RECORD_VERSION)
        return RECORD_FOREIGN;
    body = wire_get_bytes(&frame, body_size);
    checksum = wire_get_u32(&frame);
    if (frame.failed)
        return RECORD_TRUNCATED;
    if (checksum != crc32c(0, start, RECORD_HEADER + (size_t)body_size))
        return RECORD_DAMAGED;
    *in = wire_reader_on(body, body_size);
    return RECORD_OK;
}

static void get_sized(wire_reader *in, record_field *field)
{
    uint64_t size = wire_get_varint(in);

    field->value.bytes.data = wire_get_bytes(in, size);
    field->value.bytes.size = in->failed ? 0 : (size_t)size;
}

static void get_packed(wire_reader *in, record_field *field)
{
    uint64_t count = wire_get_varint(in);
    unsigned width = wire_get_u8(in);

    /* Checked by division: the product may have more bits than any integer. */
    if (width < 1 || width > 32 || count > (uint64_t)in->left * 8 / width) {
        in->failed = true;
        return;
    }
    field->value.bytes.count = (size_t)count;
    field->value.bytes.width = width;
    field->value.bytes.size = (size_t)((count * width + 7) / 8);
    field->value.bytes.data = wire_get_bytes(in, field->value.bytes.size);
}

static void get_value(wire_reader *in, record_field *field)
{
    switch (field->type) {
    case RECORD_UINT:
        field->value.u = wire_get_varint(in);
        break;
    case RECORD_SINT:
        field->value.s = wire_get_zigzag(in);
        break;
    case RECORD_F32:
        field->value.f32 = wire_get_f32(in);
        break;
    case RECORD_F64:
        field->value.f64 = wire_get_f64(in);
        break;
    case RECORD_TEXT:
        get_sized(in, field);
        if (!in->failed && !record_is_utf8((const char *)field->value.bytes.data, field->value.bytes.size))
            in->failed = true;
        break;
    case RECORD_BLOB:
        get_sized(in, field);
        break;
    case RECORD_PACKED:
        get_packed(in, field);
        break;
    default:
        in->failed = true;
    }
}

record_status record_next(wire_reader *in, record_field *field)
{
    uint64_t key;

    if (!in->failed && in->left == 0)
        return RECORD_END;
    memset(field, 0, sizeof *field);
    key = wire_get_varint(in);
    field->number = key >> 3;
    field->type = (record_type)(key & 7);
    get_value(in, field);
    return in->failed ? RECORD_INVALID : RECORD_OK;
}

record_status record_unpack(const record_field *field, uint32_t *values)
{
    wire_reader in = wire_reader_on(field->value.bytes.data, field->value.bytes.size);

    if (field->type != RECORD_PACKED)
        return RECORD_INVALID;
    wire_get_packed(&in, values, field->value.bytes.count, field->value.bytes.width);
    return in.failed ? RECORD_INVALID : RECORD_OK;
}

/* How many bytes follow a first byte, and what the second one may be: it rules out overlong forms (e0, f0),
   surrogates (ed) and what is past U+10FFFF (f4). */
static const struct {
    uint8_t first, last, more, second_low, second_high;
} forms[] = {
    {0x00, 0x7f, 0, 0x00, 0x00}, {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf},
    {0xe1, 0xec, 2, 0x80, 0xbf}, {0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf},
    {0xf0, 0xf0, 3, 0x90, 0xbf}, {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

/* The size of the character that the bytes start with; 0 if it is none. */
static size_t character_size(const uint8_t *bytes, size_t left)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t size = (size_t)forms[i].more + 1;

        if (bytes[0] < forms[i].first || bytes[0] > forms[i].last)
            continue;
        if (size > left || (size > 1 && (bytes[1] < forms[i].second_low || bytes[1] > forms[i].second_high)))
            return 0;
        for (size_t k = 2; k < size; k++)
            if ((bytes[k] & 0xc0) != 0x80)
                return 0;
        return size;
    }
    return 0;
}

bool record_is_utf8(const char *text, size_t size)
{
    /* Compared as uint8_t: a plain char from 0x80 on is below 0 on amd64 and above 127 on s390x and riscv64. */
    const uint8_t *bytes = (const uint8_t *)text;

    for (size_t at = 0, step; at < size; at += step) {
        step = character_size(bytes + at, size - at);
        if (step == 0)
            return false;
    }
    return true;
}
