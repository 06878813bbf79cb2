/* Checksums, text and whole records, held against bytes and vectors from elsewhere. */
#include <string.h>

#include "../crc32c.h"
#include "../record.h"
#include "suites.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* --- checksum: RFC 3720, appendix B.4 ------------------------------------------------------------------- */

static void the_check_value_is_right(void)
{
    CHECK_U64(crc32c(0, "123456789", 9), 0xe3069283);
}

static void the_vectors_of_rfc_3720_are_right(void)
{
    uint8_t bytes[32];

    memset(bytes, 0x00, sizeof bytes);
    CHECK_U64(crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    CHECK_U64(crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    CHECK_U64(crc32c(0, bytes, sizeof bytes), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    CHECK_U64(crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
}

static void pieces_have_the_checksum_of_the_whole(void)
{
    const char *text = "a checksum may be continued";
    size_t size = strlen(text);

    for (size_t cut = 0; cut <= size; cut++)
        CHECK_U64(crc32c(crc32c(0, text, cut), text + cut, size - cut), crc32c(0, text, size));
    CHECK_U64(crc32c(0, NULL, 0), 0);
}

static void characters_above_127_count_as_bytes(void)
{
    const char text[] = {(char)0xc3, (char)0xa9, (char)0x80, (char)0xff};

    CHECK_U64(crc32c(0, text, sizeof text), 0x728edd62);
}

const check_test checksum_tests[] = {
    TEST(the_check_value_is_right),
    TEST(the_vectors_of_rfc_3720_are_right),
    TEST(pieces_have_the_checksum_of_the_whole),
    TEST(characters_above_127_count_as_bytes),
    TESTS_END,
};

/* --- text ----------------------------------------------------------------------------------------------- */

static void text_in_any_script_is_accepted(void)
{
    static const char *const texts[] = {
        "", "plain", "caf\xc3\xa9", "\xe2\x82\xac", "\xe6\x97\xa5\xe6\x9c\xac", "\xf0\x9f\x90\x8b", "\xf4\x8f\xbf\xbf",
    };

    for (size_t i = 0; i < LENGTH(texts); i++)
        CHECK(record_is_utf8(texts[i], strlen(texts[i])));
}

static void bytes_that_are_no_text_are_refused(void)
{
    static const char *const texts[] = {
        "\x80",             /* a continuation without a start */
        "caf\xe9",          /* Latin-1 */
        "\xff",             /* in no encoding */
        "\xc0\xaf",         /* an overlong slash */
        "\xe0\x80\xaf",     /* a longer one */
        "\xed\xa0\x80",     /* a surrogate */
        "\xf4\x90\x80\x80", /* past the last character */
        "\xc3(",            /* a start without its continuation */
    };

    for (size_t i = 0; i < LENGTH(texts); i++)
        CHECK(!record_is_utf8(texts[i], strlen(texts[i])));
}

static void a_character_cut_short_is_refused(void)
{
    for (size_t size = 1; size < 4; size++)
        CHECK(!record_is_utf8("\xf0\x9f\x90\x8b", size));
}

const check_test text_tests[] = {
    TEST(text_in_any_script_is_accepted),
    TEST(bytes_that_are_no_text_are_refused),
    TEST(a_character_cut_short_is_refused),
    TESTS_END,
};

/* --- record --------------------------------------------------------------------------------------------- */

static const uint32_t samples[] = {5, 0, 31, 16, 1};

/* The same record on every machine, byte for byte. */
static const uint8_t reference[] = {
    0x50, 0x52, 0x01, 0x00, 0x33, 0x00, 0x00, 0x00,             /* PR, version 1, 51 bytes */
    0x08, 0xac, 0x02,                                           /* 1: uint 300 */
    0x11, 0xa3, 0x13,                                           /* 2: sint -1234 */
    0x1a, 0x00, 0x00, 0x20, 0xc0,                               /* 3: f32 -2.5 */
    0x23, 0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0x40,       /* 4: f64 pi */
    0x2c, 0x0a, 'G',  'r',  0xc3, 0xbc, 0xc3, 0x9f, 'e', 0xe2, 0x82, 0xac, /* 5: text */
    0x35, 0x03, 0x00, 0x80, 0xff,                               /* 6: blob */
    0x3e, 0x05, 0x05, 0x05, 0x7c, 0x18, 0x00,                   /* 7: packed, 5 numbers of 5 bits */
    0x80, 0x7d, 0xff, 0xff, 0xff, 0xff, 0x0f,                   /* 2000: uint, the largest of 32 bits */
    0x63, 0xd3, 0x46, 0x3d,                                     /* CRC-32C */
};

static size_t write_sample(uint8_t *buffer, size_t size)
{
    static const uint8_t blob[] = {0x00, 0x80, 0xff};
    wire_writer out = record_begin(buffer, size);

    record_put_uint(&out, 1, 300);
    record_put_sint(&out, 2, -1234);
    record_put_f32(&out, 3, -2.5f);
    record_put_f64(&out, 4, 3.141592653589793);
    record_put_text(&out, 5, "Gr\xc3\xbc\xc3\x9f" "e\xe2\x82\xac");
    record_put_blob(&out, 6, blob, sizeof blob);
    record_put_packed(&out, 7, samples, LENGTH(samples), 5);
    record_put_uint(&out, 2000, UINT32_MAX);
    return record_end(&out);
}

static void check_sample(const void *data, size_t size)
{
    wire_reader in;
    record_field field;
    uint32_t values[LENGTH(samples)];

    CHECK_U64(record_open(&in, data, size), RECORD_OK);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 1 && field.type == RECORD_UINT);
    CHECK_U64(field.value.u, 300);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 2 && field.type == RECORD_SINT);
    CHECK_S64(field.value.s, -1234);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 3 && field.type == RECORD_F32);
    CHECK_F64((double)field.value.f32, -2.5);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 4 && field.type == RECORD_F64);
    CHECK_F64(field.value.f64, 3.141592653589793);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 5 && field.type == RECORD_TEXT);
    CHECK_BYTES(field.value.bytes.data, field.value.bytes.size, "Gr\xc3\xbc\xc3\x9f" "e\xe2\x82\xac", 10);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 6 && field.type == RECORD_BLOB);
    CHECK_BYTES(field.value.bytes.data, field.value.bytes.size, "\x00\x80\xff", 3);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 7 && field.type == RECORD_PACKED);
    CHECK_U64(field.value.bytes.count, LENGTH(samples));
    CHECK_U64(record_unpack(&field, values), RECORD_OK);
    CHECK_BYTES(values, sizeof values, samples, sizeof samples);
    CHECK(record_next(&in, &field) == RECORD_OK && field.number == 2000 && field.type == RECORD_UINT);
    CHECK_U64(field.value.u, UINT32_MAX);
    CHECK_U64(record_next(&in, &field), RECORD_END);
}

static void writes_the_reference_record(void)
{
    uint8_t buffer[sizeof reference];
    size_t size = write_sample(buffer, sizeof buffer);

    CHECK_BYTES(buffer, size, reference, sizeof reference);
}

static void reads_the_reference_record(void)
{
    check_sample(reference, sizeof reference);
}

static void a_record_may_lie_at_any_address(void)
{
    uint8_t buffer[sizeof reference + 8];
    wire_reader in;

    for (size_t offset = 0; offset < 8; offset++) {
        memcpy(buffer + offset, reference, sizeof reference);
        CHECK_U64(record_open(&in, buffer + offset, sizeof reference), RECORD_OK);
    }
}

static void a_buffer_that_is_too_small_gives_no_record(void)
{
    uint8_t buffer[sizeof reference];

    for (size_t size = 0; size < sizeof reference; size++)
        CHECK_U64(write_sample(buffer, size), 0);
}

static void a_record_cut_short_is_truncated(void)
{
    wire_reader in;

    for (size_t size = 0; size < sizeof reference; size++)
        CHECK_U64(record_open(&in, reference, size), RECORD_TRUNCATED);
}

static void every_flipped_bit_is_noticed(void)
{
    uint8_t damaged[sizeof reference];
    wire_reader in;

    for (size_t bit = 0; bit < 8 * sizeof reference; bit++) {
        memcpy(damaged, reference, sizeof reference);
        damaged[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(record_open(&in, damaged, sizeof damaged) != RECORD_OK);
    }
}

static void another_format_or_version_is_foreign(void)
{
    uint8_t other[sizeof reference];
    wire_reader in;

    memcpy(other, reference, sizeof other);
    other[2] = 2;
    CHECK_U64(record_open(&in, other, sizeof other), RECORD_FOREIGN);
    CHECK_U64(record_open(&in, "\x7f" "ELF\x02\x02\x01\x00", 8), RECORD_FOREIGN);
}

/* A record with a right checksum around a body that nobody but an attacker would write. */
static record_status first_field_of(const char *body, size_t size, record_field *field)
{
    uint8_t buffer[64];
    wire_writer out = record_begin(buffer, sizeof buffer);
    wire_reader in;

    wire_put_bytes(&out, body, size);
    CHECK_U64(record_open(&in, buffer, record_end(&out)), RECORD_OK);
    return record_next(&in, field);
}

static void fields_that_make_no_sense_are_invalid(void)
{
    static const struct {
        const char *body;
        size_t size;
    } bodies[] = {
        {"\x0f", 1},                                             /* type 7 does not exist */
        {"\x08", 1},                                             /* a uint without its value */
        {"\x0b\x00\x00\x00", 4},                                 /* half a double */
        {"\x0c\x05" "abc", 5},                                   /* text of 5 bytes in 3 */
        {"\x0c\x02\xc3(", 4},                                    /* text that is none */
        {"\x0d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "x", 12}, /* a blob of 2^64 - 1 bytes */
        {"\x0e\x08\x02" "x", 4},                                 /* 16 bits in one byte */
        {"\x0e\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10" "x", 13}, /* 2^64 - 1 numbers: their size overflows */
        {"\x0e\x01\x00" "x", 4},                                 /* numbers without bits */
    };
    record_field field;

    for (size_t i = 0; i < LENGTH(bodies); i++)
        CHECK_U64(first_field_of(bodies[i].body, bodies[i].size, &field), RECORD_INVALID);
}

static void a_record_without_fields_is_one(void)
{
    record_field field;

    CHECK_U64(first_field_of("", 0, &field), RECORD_END);
}

static void text_that_is_none_is_not_written(void)
{
    uint8_t buffer[64];
    wire_writer out = record_begin(buffer, sizeof buffer);

    record_put_text(&out, 1, "caf\xe9");
    CHECK_U64(record_end(&out), 0);
}

const check_test record_tests[] = {
    TEST(writes_the_reference_record),
    TEST(reads_the_reference_record),
    TEST(a_record_may_lie_at_any_address),
    TEST(a_buffer_that_is_too_small_gives_no_record),
    TEST(a_record_cut_short_is_truncated),
    TEST(every_flipped_bit_is_noticed),
    TEST(another_format_or_version_is_foreign),
    TEST(fields_that_make_no_sense_are_invalid),
    TEST(a_record_without_fields_is_one),
    TEST(text_that_is_none_is_not_written),
    TESTS_END,
};
