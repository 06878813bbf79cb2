/*
 * wire: the bytes of numbers, the same on every machine.
 *
 * Fixed-width numbers are little-endian; floating-point numbers are IEEE 754; lengths and small numbers
 * are varints (seven bits a byte, the lowest first, the top bit says that another byte follows); signed
 * numbers are zigzag varints (0, -1, 1, -2, ... become 0, 1, 2, 3, ...).
 *
 * Nothing here looks at memory as anything but bytes. So neither byte order nor alignment, neither the
 * width of long and size_t nor the sign of plain char can show in the result.
 *
 * Readers and writers remember the first failure (too little room, too few bytes, an impossible value):
 * what follows does nothing, or gives 0, and one look at `failed` at the end is enough.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *start;
    size_t size;
    size_t used;
    bool failed;
} wire_writer;

typedef struct {
    const uint8_t *next;
    size_t left;
    bool failed;
} wire_reader;

wire_writer wire_writer_on(void *buffer, size_t size);
wire_reader wire_reader_on(const void *data, size_t size);

void wire_put_u8(wire_writer *out, uint8_t value);
void wire_put_u16(wire_writer *out, uint16_t value);
void wire_put_u32(wire_writer *out, uint32_t value);
void wire_put_u64(wire_writer *out, uint64_t value);
void wire_put_f32(wire_writer *out, float value);
void wire_put_f64(wire_writer *out, double value);
void wire_put_varint(wire_writer *out, uint64_t value);
void wire_put_zigzag(wire_writer *out, int64_t value);
void wire_put_bytes(wire_writer *out, const void *data, size_t size);

uint8_t wire_get_u8(wire_reader *in);
uint16_t wire_get_u16(wire_reader *in);
uint32_t wire_get_u32(wire_reader *in);
uint64_t wire_get_u64(wire_reader *in);
float wire_get_f32(wire_reader *in);
double wire_get_f64(wire_reader *in);

/* A varint has one spelling: longer ones, and those past 64 bits, are failures. */
uint64_t wire_get_varint(wire_reader *in);
int64_t wire_get_zigzag(wire_reader *in);

/* The next `size` bytes, which stay where they are; NULL where there are fewer. */
const uint8_t *wire_get_bytes(wire_reader *in, uint64_t size);

/* `count` numbers of `width` bits each (1 to 32), packed without gaps, the lowest bit of each first. */
void wire_put_packed(wire_writer *out, const uint32_t *values, size_t count, unsigned width);
void wire_get_packed(wire_reader *in, uint32_t *values, size_t count, unsigned width);

#endif
