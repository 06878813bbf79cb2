#include "crc32c.h"

/* What four bits do to the remainder; the polynomial is 0x1edc6f41, its bits the other way round. */
static const uint32_t of_nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
    0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
    0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c(uint32_t before, const void *data, size_t size)
{
    /* By way of uint8_t: where char is signed, a char from 0x80 on would be a negative index. */
    const uint8_t *bytes = data;
    uint32_t crc = ~before;

    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ of_nibble[crc & 0xf];
        crc = crc >> 4 ^ of_nibble[crc & 0xf];
    }
    return ~crc;
}
