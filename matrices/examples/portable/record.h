/*
 * record: a small self-describing binary record, with a checksum.
 *
 *     "PR"  u16 version  u32 size of the body  body  u32 CRC-32C of all before it
 *
 * The body is a sequence of fields, each a varint (number * 8 + type) and a value.
 */
#ifndef RECORD_H
#define RECORD_H

#include "wire.h"

enum { RECORD_VERSION = 1, RECORD_HEADER = 8, RECORD_TRAILER = 4 };

typedef enum {
    RECORD_UINT, /* varint */
    RECORD_SINT, /* zigzag varint */
    RECORD_F32,
    RECORD_F64,
    RECORD_TEXT,   /* varint size, then UTF-8 without a final zero */
    RECORD_BLOB,   /* varint size, then bytes */
    RECORD_PACKED, /* varint count, u8 width, then the packed bits */
    RECORD_TYPES
} record_type;

typedef enum {
    RECORD_OK,
    RECORD_END,       /* there is no further field */
    RECORD_TRUNCATED, /* the data end before the record does */
    RECORD_FOREIGN,   /* these are not the bytes of a record of this version */
    RECORD_DAMAGED,   /* the checksum is wrong */
    RECORD_INVALID,   /* the checksum is right, and still a field makes no sense */
} record_status;

typedef struct {
    uint64_t number;
    record_type type;
    union {
        uint64_t u;
        int64_t s;
        float f32;
        double f64;
        struct {
            const uint8_t *data; /* in the record itself; of text, too: there is no final zero */
            size_t size;
            size_t count;   /* of packed numbers */
            unsigned width; /* of packed numbers, in bits */
        } bytes;
    } value;
} record_field;

/* Writing: begin, put the fields, end. */
wire_writer record_begin(void *buffer, size_t size);
void record_put_uint(wire_writer *out, uint64_t number, uint64_t value);
void record_put_sint(wire_writer *out, uint64_t number, int64_t value);
void record_put_f32(wire_writer *out, uint64_t number, float value);
void record_put_f64(wire_writer *out, uint64_t number, double value);
void record_put_text(wire_writer *out, uint64_t number, const char *text);
void record_put_blob(wire_writer *out, uint64_t number, const void *data, size_t size);
void record_put_packed(wire_writer *out, uint64_t number, const uint32_t *values, size_t count, unsigned width);

/* The size of the finished record; 0 if it did not fit or a value was not allowed. */
size_t record_end(wire_writer *out);

/* Reading: open checks frame and checksum, next gives a field at a time until RECORD_END. */
record_status record_open(wire_reader *in, const void *data, size_t size);
record_status record_next(wire_reader *in, record_field *field);

/* The numbers of a packed field; `values` has room for `field->value.bytes.count`. */
record_status record_unpack(const record_field *field, uint32_t *values);

/* Whether these are well-formed UTF-8 (Unicode, table 3-7): no overlong forms, no surrogates. */
bool record_is_utf8(const char *text, size_t size);

#endif
