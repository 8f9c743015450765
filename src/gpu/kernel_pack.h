/* Compiled kernels in a file: an entry of the cache holds one binary, a pack that `llcuda kernels`
 * has made holds many. Bytes: docs/internals/gpu-jit.md. Any thread; a pack is read-only. */
#ifndef GPU_KERNEL_PACK_H
#define GPU_KERNEL_PACK_H

#include "base/buffer.h"
#include "base/file.h"
#include "base/sha256.h"

#define KERNEL_PACK_NAME_BYTES 40u

struct kernel_pack_item {
    uint8_t key[SHA256_BYTES];
    char name[KERNEL_PACK_NAME_BYTES]; /* for people; NUL-terminated */
    uint32_t compiler_version;
    const void *data; /* borrowed */
    uint64_t bytes;
};

/* Appends a whole pack to `out`. */
llcuda_status kernel_pack_write(const struct kernel_pack_item *items, uint32_t count,
                                struct buffer *out, struct llcuda_error *error);

/* A pack in memory; its bytes stay the caller's and outlive it. */
struct kernel_pack {
    const uint8_t *data;
    uint64_t bytes;
    uint32_t count;
};

/* Checks all that the table promises; binaries are checked when they are taken. */
llcuda_status kernel_pack_open(struct kernel_pack *pack, const void *data, uint64_t bytes,
                               struct llcuda_error *error);

/* The item of this number, in [0, count). */
void kernel_pack_item(const struct kernel_pack *pack, uint32_t index,
                      struct kernel_pack_item *item);

/* The binary of this key. NOT_FOUND; BAD_FORMAT when its checksum is wrong. */
llcuda_status kernel_pack_find(const struct kernel_pack *pack, const uint8_t key[SHA256_BYTES],
                               struct kernel_pack_item *item, struct llcuda_error *error);

#endif
