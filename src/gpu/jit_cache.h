/* The cache of compiled kernels on disk: a private folder of small packs, one binary each. Safe
 * with many threads and processes at once. */
#ifndef GPU_JIT_CACHE_H
#define GPU_JIT_CACHE_H

#include "base/buffer.h"
#include "base/sha256.h"

struct jit_cache {
    int folder; /* descriptor; < 0: there is no cache */
    uint64_t bytes_max;
};

/* Opens the folder, and makes it when it is not there. REFUSED when it is a link, belongs to
 * somebody else, or lets others in: then there is no cache, and the sentence says why. */
llcuda_status jit_cache_open(struct jit_cache *cache, const char *folder, uint64_t bytes_max,
                             struct llcuda_error *error);
void jit_cache_close(struct jit_cache *cache);

/* Appends the binary of this key to `binary`. `compiler_version` 0 takes that of any compiler,
 * since there is none to make another. NOT_FOUND; BAD_FORMAT when the entry was damaged: it is
 * removed. */
llcuda_status jit_cache_read(const struct jit_cache *cache, const uint8_t key[SHA256_BYTES],
                             uint32_t compiler_version, struct buffer *binary,
                             struct llcuda_error *error);

/* Adds an entry, or replaces it; the oldest entries go when the folder grows too large. */
llcuda_status jit_cache_write(const struct jit_cache *cache, const uint8_t key[SHA256_BYTES],
                              uint32_t compiler_version, const char *name,
                              const struct buffer *binary, struct llcuda_error *error);

#endif
