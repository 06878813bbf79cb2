/* crc32c: the checksum of RFC 3720 (Castagnoli), as iSCSI, ext4 and SCTP use it. */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what `before` is the checksum of (0 for nothing), followed by these bytes. */
uint32_t crc32c(uint32_t before, const void *data, size_t size);

#endif
