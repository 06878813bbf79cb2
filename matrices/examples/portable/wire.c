#include "wire.h"

#include <assert.h>
#include <float.h>
#include <string.h>

static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24 && sizeof(float) == 4, "float is not IEEE 754 binary32");
static_assert(DBL_MANT_DIG == 53 && sizeof(double) == 8, "double is not IEEE 754 binary64");

enum { VARINT_LONGEST = 10 }; /* bytes, for 64 bits in groups of seven */

wire_writer wire_writer_on(void *buffer, size_t size)
{
    return (wire_writer){.start = buffer, .size = size};
}

wire_reader wire_reader_on(const void *data, size_t size)
{
    return (wire_reader){.next = data, .left = size};
}

void wire_put_bytes(wire_writer *out, const void *data, size_t size)
{
    if (out->failed || size > out->size - out->used) {
        out->failed = true;
        return;
    }
    if (size > 0) /* memcpy may not be given NULL, even for nothing */
        memcpy(out->start + out->used, data, size);
    out->used += size;
}

const uint8_t *wire_get_bytes(wire_reader *in, uint64_t size)
{
    const uint8_t *data = in->next;

    /* Compared before it is narrowed: a size_t may have 32 bits. */
    if (in->failed || size > in->left) {
        in->failed = true;
        return NULL;
    }
    in->next += (size_t)size;
    in->left -= (size_t)size;
    return data;
}

/* Little-endian by arithmetic, which is the same everywhere: the machine's own order is never asked. */

static void put_little(wire_writer *out, uint64_t value, size_t width)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    wire_put_bytes(out, bytes, width);
}

static uint64_t get_little(wire_reader *in, size_t width)
{
    const uint8_t *bytes = wire_get_bytes(in, width);
    uint64_t value = 0;

    for (size_t i = 0; bytes != NULL && i < width; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

void wire_put_u8(wire_writer *out, uint8_t value)
{
    put_little(out, value, 1);
}

void wire_put_u16(wire_writer *out, uint16_t value)
{
    put_little(out, value, 2);
}

void wire_put_u32(wire_writer *out, uint32_t value)
{
    put_little(out, value, 4);
}

void wire_put_u64(wire_writer *out, uint64_t value)
{
    put_little(out, value, 8);
}

uint8_t wire_get_u8(wire_reader *in)
{
    return (uint8_t)get_little(in, 1);
}

uint16_t wire_get_u16(wire_reader *in)
{
    return (uint16_t)get_little(in, 2);
}

uint32_t wire_get_u32(wire_reader *in)
{
    return (uint32_t)get_little(in, 4);
}

uint64_t wire_get_u64(wire_reader *in)
{
    return get_little(in, 8);
}

/* A number and the integer with its bits have the same order in memory; from there on it is arithmetic. */

void wire_put_f32(wire_writer *out, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    wire_put_u32(out, bits);
}

void wire_put_f64(wire_writer *out, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    wire_put_u64(out, bits);
}

float wire_get_f32(wire_reader *in)
{
    uint32_t bits = wire_get_u32(in);
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

#ifdef BUG
/* Wrong on purpose (make BUG=on): the file's bytes taken for the machine's. No little-endian machine can tell. */
double wire_get_f64(wire_reader *in)
{
    const uint8_t *bytes = wire_get_bytes(in, 8);
    double value = 0;

    if (bytes != NULL)
        memcpy(&value, bytes, sizeof value);
    return value;
}
#else
double wire_get_f64(wire_reader *in)
{
    uint64_t bits = wire_get_u64(in);
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

void wire_put_varint(wire_writer *out, uint64_t value)
{
    while (value > 0x7f) {
        wire_put_u8(out, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    wire_put_u8(out, (uint8_t)value);
}

uint64_t wire_get_varint(wire_reader *in)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < VARINT_LONGEST; i++) {
        uint8_t byte = wire_get_u8(in);

        if (in->failed || (i == VARINT_LONGEST - 1 && byte > 1))
            break;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            if (byte == 0 && i > 0)
                break; /* 80 00 is another way to write 00 */
            return value;
        }
    }
    in->failed = true;
    return 0;
}

/* Shifting a negative number, and converting one that does not fit, are the compiler's choice: do neither. */

void wire_put_zigzag(wire_writer *out, int64_t value)
{
    uint64_t doubled = (uint64_t)value << 1;

    wire_put_varint(out, value < 0 ? ~doubled : doubled);
}

int64_t wire_get_zigzag(wire_reader *in)
{
    uint64_t coded = wire_get_varint(in);
    int64_t half = (int64_t)(coded >> 1);

    return coded & 1 ? -half - 1 : half;
}

void wire_put_packed(wire_writer *out, const uint32_t *values, size_t count, unsigned width)
{
    uint64_t held = 0; /* up to 7 bits wait here for the rest of their byte, then `width` join them */
    unsigned bits = 0;

    if (width < 1 || width > 32) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (width < 32 && values[i] >> width != 0)
            out->failed = true;
        held |= (uint64_t)values[i] << bits;
        for (bits += width; bits >= 8; bits -= 8) {
            wire_put_u8(out, (uint8_t)held);
            held >>= 8;
        }
    }
    if (bits > 0)
        wire_put_u8(out, (uint8_t)held);
}

void wire_get_packed(wire_reader *in, uint32_t *values, size_t count, unsigned width)
{
    uint64_t held = 0;
    unsigned bits = 0;

    if (width < 1 || width > 32) {
        in->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        for (; bits < width; bits += 8)
            held |= (uint64_t)wire_get_u8(in) << bits;
        values[i] = (uint32_t)(held & (UINT64_MAX >> (64 - width)));
        held >>= width;
        bits -= width;
    }
    if (held != 0)
        in->failed = true; /* the bits that fill up the last byte are zero */
}
