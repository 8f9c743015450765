/* SHA-256 (FIPS 180-4), for keys and checksums of files that this program writes itself. One owner,
 * one thread at a time. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u

struct sha256 {
    uint32_t state[8];
    uint64_t byte_count;
    uint8_t block[64]; /* the last byte_count % 64 bytes */
};

void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *data, size_t bytes);
/* The hash is void afterwards. */
void sha256_finish(struct sha256 *hash, uint8_t digest[SHA256_BYTES]);

/* All at once. */
void sha256_of(const void *data, size_t bytes, uint8_t digest[SHA256_BYTES]);

#endif
