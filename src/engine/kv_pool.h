/* The blocks of a key-value cache as numbers: which are free, and how many sequences hold each.
 * What is in a block is the device's business; that equal blocks may be shared is the prefix
 * tree's. One owner, one thread at a time. */
#ifndef ENGINE_KV_POOL_H
#define ENGINE_KV_POOL_H

#include "base/error.h"
#include "device/device.h"

#define KV_NO_BLOCK UINT32_MAX

struct kv_pool {
    uint32_t block_count;
    uint32_t free_count;
    uint32_t *free_blocks; /* [block_count] a stack; the first free_count are free */
    uint32_t *references;  /* [block_count] holders; 0 for free and for idle cached blocks */
};

/* All blocks free. Errors: INVALID_ARGUMENT (no blocks), OUT_OF_MEMORY. */
llcuda_status kv_pool_init(struct kv_pool *pool, uint32_t block_count, struct llcuda_error *error);
void kv_pool_deinit(struct kv_pool *pool);

/* Takes a free block for one holder; KV_NO_BLOCK when none is free. */
uint32_t kv_pool_acquire(struct kv_pool *pool);

/* One holder more, also of a block that nobody held (an idle cached one). */
static inline void kv_pool_retain(struct kv_pool *pool, uint32_t block)
{
    pool->references[block]++;
}

/* One holder less; true when it was the last: the caller then frees or caches the block. */
bool kv_pool_release(struct kv_pool *pool, uint32_t block);

/* Puts a block without holders back among the free ones. */
void kv_pool_free(struct kv_pool *pool, uint32_t block);

/* Blocks that hold `positions` positions. */
static inline uint32_t kv_blocks_for(uint64_t positions)
{
    return (uint32_t)((positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
}

#endif
