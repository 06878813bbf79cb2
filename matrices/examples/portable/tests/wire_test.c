/* The bytes of numbers. Every expected byte is written out: a library that is wrong both ways agrees with itself. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../wire.h"
#include "suites.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const uint8_t counting[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10};

/* --- fixed ---------------------------------------------------------------------------------------------- */

static void writes_the_lowest_byte_first(void)
{
    uint8_t buffer[15];
    wire_writer out = wire_writer_on(buffer, sizeof buffer);

    wire_put_u8(&out, 0x01);
    wire_put_u16(&out, 0x0302);
    wire_put_u32(&out, 0x07060504);
    wire_put_u64(&out, 0x0f0e0d0c0b0a0908);
    CHECK(!out.failed);
    CHECK_BYTES(buffer, out.used, counting, 15);
}

static void reads_the_lowest_byte_first(void)
{
    wire_reader in = wire_reader_on(counting, 15);

    CHECK_U64(wire_get_u8(&in), 0x01);
    CHECK_U64(wire_get_u16(&in), 0x0302);
    CHECK_U64(wire_get_u32(&in), 0x07060504);
    CHECK_U64(wire_get_u64(&in), 0x0f0e0d0c0b0a0908);
    CHECK(!in.failed && in.left == 0);
}

static void reads_at_every_alignment(void)
{
    for (size_t offset = 0; offset < 8; offset++) {
        uint64_t first = offset + 1;
        wire_reader in = wire_reader_on(counting + offset, 8);

        CHECK_U64(wire_get_u64(&in), first * 0x0101010101010101 + 0x0706050403020100);
        in = wire_reader_on(counting + offset, 4);
        CHECK_U64(wire_get_u32(&in), first * 0x01010101 + 0x03020100);
    }
}

static void writes_at_every_alignment(void)
{
    for (size_t offset = 0; offset < 8; offset++) {
        uint8_t buffer[16] = {0};
        wire_writer out = wire_writer_on(buffer + offset, 8);

        wire_put_u64(&out, 0x0807060504030201);
        CHECK_BYTES(buffer + offset, 8, counting, 8);
    }
}

static void keeps_the_top_bit_of_every_width(void)
{
    static const uint8_t bytes[] = {0x80, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80};
    wire_reader in = wire_reader_on(bytes, sizeof bytes);

    CHECK_U64(wire_get_u8(&in), 0x80);
    CHECK_U64(wire_get_u16(&in), 0x8000);
    CHECK_U64(wire_get_u32(&in), 0x80000000);
    CHECK_U64(wire_get_u64(&in), 0x8000000000000000);
}

static void a_full_buffer_takes_nothing_more(void)
{
    uint8_t buffer[4] = {0};
    wire_writer out = wire_writer_on(buffer, 3);

    wire_put_u16(&out, 0x0201);
    wire_put_u16(&out, 0xffff);
    CHECK(out.failed);
    wire_put_u8(&out, 0xff);
    CHECK_U64(out.used, 2);
    CHECK_U64(buffer[2], 0);
}

static void an_empty_reader_gives_zero_and_says_so(void)
{
    wire_reader in = wire_reader_on(counting, 3);

    CHECK_U64(wire_get_u32(&in), 0);
    CHECK(in.failed);
    CHECK_U64(wire_get_u8(&in), 0);
}

static void a_size_past_the_address_space_is_too_large(void)
{
    wire_reader in = wire_reader_on(counting, sizeof counting);

    CHECK(wire_get_bytes(&in, 0x100000001) == NULL); /* 1, if it were cut to 32 bits */
    CHECK(in.failed);
}

const check_test fixed_tests[] = {
    TEST(writes_the_lowest_byte_first),
    TEST(reads_the_lowest_byte_first),
    TEST(reads_at_every_alignment),
    TEST(writes_at_every_alignment),
    TEST(keeps_the_top_bit_of_every_width),
    TEST(a_full_buffer_takes_nothing_more),
    TEST(an_empty_reader_gives_zero_and_says_so),
    TEST(a_size_past_the_address_space_is_too_large),
    TESTS_END,
};

/* --- varint --------------------------------------------------------------------------------------------- */

static const struct {
    uint64_t value;
    uint8_t bytes[10];
    size_t size;
} varints[] = {
    {0, {0x00}, 1},
    {1, {0x01}, 1},
    {127, {0x7f}, 1},
    {128, {0x80, 0x01}, 2},
    {300, {0xac, 0x02}, 2},
    {16383, {0xff, 0x7f}, 2},
    {16384, {0x80, 0x80, 0x01}, 3},
    {UINT32_MAX, {0xff, 0xff, 0xff, 0xff, 0x0f}, 5},
    {0x100000000, {0x80, 0x80, 0x80, 0x80, 0x10}, 5},
    {INT64_MAX, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 9},
    {UINT64_MAX, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10},
};

static void varints_have_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(varints); i++) {
        uint8_t buffer[10];
        wire_writer out = wire_writer_on(buffer, sizeof buffer);

        wire_put_varint(&out, varints[i].value);
        CHECK_BYTES(buffer, out.used, varints[i].bytes, varints[i].size);
    }
}

static void varints_are_read_from_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(varints); i++) {
        wire_reader in = wire_reader_on(varints[i].bytes, varints[i].size);

        CHECK_U64(wire_get_varint(&in), varints[i].value);
        CHECK(!in.failed && in.left == 0);
    }
}

static void a_varint_without_its_end_is_refused(void)
{
    for (size_t size = 0; size < 10; size++) {
        wire_reader in = wire_reader_on(varints[LENGTH(varints) - 1].bytes, size);

        CHECK_U64(wire_get_varint(&in), 0);
        CHECK(in.failed);
    }
}

static void refuses(const uint8_t *bytes, size_t size)
{
    wire_reader in = wire_reader_on(bytes, size);

    CHECK_U64(wire_get_varint(&in), 0);
    CHECK(in.failed);
}

static void a_varint_past_64_bits_is_refused(void)
{
    static const uint8_t bit_64[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02};
    static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01};

    refuses(bit_64, sizeof bit_64);
    refuses(eleven, sizeof eleven);
}

static void a_varint_longer_than_needed_is_refused(void)
{
    static const uint8_t zero[] = {0x80, 0x00}, one[] = {0x81, 0x80, 0x00};

    refuses(zero, sizeof zero);
    refuses(one, sizeof one);
}

static const struct {
    int64_t value;
    uint8_t bytes[10];
    size_t size;
} zigzags[] = {
    {0, {0x00}, 1},
    {-1, {0x01}, 1},
    {1, {0x02}, 1},
    {-2, {0x03}, 1},
    {63, {0x7e}, 1},
    {-64, {0x7f}, 1},
    {64, {0x80, 0x01}, 2},
    {INT32_MIN, {0xff, 0xff, 0xff, 0xff, 0x0f}, 5},
    {INT64_MAX, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10},
    {INT64_MIN, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10},
};

static void zigzags_have_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(zigzags); i++) {
        uint8_t buffer[10];
        wire_writer out = wire_writer_on(buffer, sizeof buffer);

        wire_put_zigzag(&out, zigzags[i].value);
        CHECK_BYTES(buffer, out.used, zigzags[i].bytes, zigzags[i].size);
    }
}

static void zigzags_are_read_from_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(zigzags); i++) {
        wire_reader in = wire_reader_on(zigzags[i].bytes, zigzags[i].size);

        CHECK_S64(wire_get_zigzag(&in), zigzags[i].value);
    }
}

const check_test varint_tests[] = {
    TEST(varints_have_the_known_bytes),
    TEST(varints_are_read_from_the_known_bytes),
    TEST(a_varint_without_its_end_is_refused),
    TEST(a_varint_past_64_bits_is_refused),
    TEST(a_varint_longer_than_needed_is_refused),
    TEST(zigzags_have_the_known_bytes),
    TEST(zigzags_are_read_from_the_known_bytes),
    TESTS_END,
};

/* --- float ---------------------------------------------------------------------------------------------- */

static const struct {
    double value;
    uint8_t bytes[8];
} doubles[] = {
    {1.0, {0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
    {-2.5, {0, 0, 0, 0, 0, 0, 0x04, 0xc0}},
    {-0.0, {0, 0, 0, 0, 0, 0, 0, 0x80}},
    {3.141592653589793, {0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0x40}},
    {DBL_MAX, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0x7f}},
    {DBL_MIN, {0, 0, 0, 0, 0, 0, 0x10, 0}},
    {4.9406564584124654e-324, {0x01, 0, 0, 0, 0, 0, 0, 0}}, /* the smallest there is */
};

static void doubles_have_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(doubles); i++) {
        uint8_t buffer[8];
        wire_writer out = wire_writer_on(buffer, sizeof buffer);

        wire_put_f64(&out, doubles[i].value);
        CHECK_BYTES(buffer, out.used, doubles[i].bytes, 8);
    }
}

static void doubles_are_read_from_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(doubles); i++) {
        wire_reader in = wire_reader_on(doubles[i].bytes, 8);

        CHECK_F64(wire_get_f64(&in), doubles[i].value);
    }
}

static void doubles_come_back_at_every_alignment(void)
{
    for (size_t offset = 0; offset < 8; offset++) {
        uint8_t buffer[16];
        wire_writer out = wire_writer_on(buffer + offset, 8);
        wire_reader in = wire_reader_on(buffer + offset, 8);

        wire_put_f64(&out, 1.0 / 3.0);
        CHECK_F64(wire_get_f64(&in), 1.0 / 3.0);
    }
}

static const struct {
    float value;
    uint8_t bytes[4];
} floats[] = {
    {1.0f, {0, 0, 0x80, 0x3f}},
    {-2.5f, {0, 0, 0x20, 0xc0}},
    {FLT_MAX, {0xff, 0xff, 0x7f, 0x7f}},
    {0.1f, {0xcd, 0xcc, 0xcc, 0x3d}},
    {INFINITY, {0, 0, 0x80, 0x7f}},
    {-INFINITY, {0, 0, 0x80, 0xff}},
};

static void floats_have_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(floats); i++) {
        uint8_t buffer[4];
        wire_writer out = wire_writer_on(buffer, sizeof buffer);

        wire_put_f32(&out, floats[i].value);
        CHECK_BYTES(buffer, out.used, floats[i].bytes, 4);
    }
}

static void floats_are_read_from_the_known_bytes(void)
{
    for (size_t i = 0; i < LENGTH(floats); i++) {
        wire_reader in = wire_reader_on(floats[i].bytes, 4);

        CHECK_F64((double)wire_get_f32(&in), (double)floats[i].value);
    }
}

static void what_is_not_a_number_stays_so(void)
{
    static const uint8_t quiet_nan[] = {0x01, 0x00, 0xc0, 0x7f};
    wire_reader in = wire_reader_on(quiet_nan, sizeof quiet_nan);

    CHECK(isnan(wire_get_f32(&in)));
}

const check_test float_tests[] = {
    TEST(doubles_have_the_known_bytes),
    TEST(doubles_are_read_from_the_known_bytes),
    TEST(doubles_come_back_at_every_alignment),
    TEST(floats_have_the_known_bytes),
    TEST(floats_are_read_from_the_known_bytes),
    TEST(what_is_not_a_number_stays_so),
    TESTS_END,
};

/* --- packed --------------------------------------------------------------------------------------------- */

static const uint32_t threes[] = {1, 2, 3, 4, 5, 6, 7};
static const uint8_t threes_packed[] = {0xd1, 0x58, 0x1f}; /* ...11 010 001, 0 101 100 0, 000 111 11 0 */

static void bits_are_packed_from_the_lowest(void)
{
    uint8_t buffer[8];
    wire_writer out = wire_writer_on(buffer, sizeof buffer);

    wire_put_packed(&out, threes, LENGTH(threes), 3);
    CHECK(!out.failed);
    CHECK_BYTES(buffer, out.used, threes_packed, sizeof threes_packed);
}

static void bits_are_unpacked_from_the_lowest(void)
{
    wire_reader in = wire_reader_on(threes_packed, sizeof threes_packed);
    uint32_t values[LENGTH(threes)];

    wire_get_packed(&in, values, LENGTH(values), 3);
    CHECK(!in.failed);
    CHECK_BYTES(values, sizeof values, threes, sizeof threes);
}

static void every_width_comes_back(void)
{
    for (unsigned width = 1; width <= 32; width++) {
        uint32_t top = UINT32_MAX >> (32 - width), values[9], got[9];
        uint8_t buffer[36];
        wire_writer out = wire_writer_on(buffer, sizeof buffer);
        wire_reader in;

        for (uint32_t i = 0; i < 9; i++)
            values[i] = i % 2 ? top : (0x9e3779b9u * i) & top;
        wire_put_packed(&out, values, 9, width);
        CHECK_U64(out.used, (9 * width + 7) / 8);
        in = wire_reader_on(buffer, out.used);
        wire_get_packed(&in, got, 9, width);
        CHECK(!in.failed);
        CHECK_BYTES(got, sizeof got, values, sizeof values);
    }
}

static void a_number_wider_than_its_width_is_refused(void)
{
    static const uint32_t eight = 8;
    uint8_t buffer[4];
    wire_writer out = wire_writer_on(buffer, sizeof buffer);

    wire_put_packed(&out, &eight, 1, 3);
    CHECK(out.failed);
}

static void widths_of_0_and_33_are_refused(void)
{
    uint8_t buffer[8] = {0};
    uint32_t value = 0;

    for (unsigned width = 0; width <= 33; width += 33) {
        wire_writer out = wire_writer_on(buffer, sizeof buffer);
        wire_reader in = wire_reader_on(buffer, sizeof buffer);

        wire_put_packed(&out, &value, 1, width);
        wire_get_packed(&in, &value, 1, width);
        CHECK(out.failed && in.failed);
    }
}

static void bits_after_the_last_number_must_be_zero(void)
{
    static const uint8_t bytes[] = {0xd1, 0x58, 0x3f};
    wire_reader in = wire_reader_on(bytes, sizeof bytes);
    uint32_t values[LENGTH(threes)];

    wire_get_packed(&in, values, LENGTH(values), 3);
    CHECK(in.failed);
}

const check_test packed_tests[] = {
    TEST(bits_are_packed_from_the_lowest),
    TEST(bits_are_unpacked_from_the_lowest),
    TEST(every_width_comes_back),
    TEST(a_number_wider_than_its_width_is_refused),
    TEST(widths_of_0_and_33_are_refused),
    TEST(bits_after_the_last_number_must_be_zero),
    TESTS_END,
};
