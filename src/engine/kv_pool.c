/* Owns the free list and the reference counts of cache blocks. Invariant: a block is on the free
 * stack exactly once, or not at all; only blocks without holders are on it. */
#include "engine/kv_pool.h"

#include <assert.h>
#include <stdlib.h>

llcuda_status kv_pool_init(struct kv_pool *pool, uint32_t block_count, struct llcuda_error *error)
{
    *pool = (struct kv_pool){0};
    if (block_count == 0 || block_count == KV_NO_BLOCK) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "a cache cannot have %u blocks",
                         block_count);
    }
    pool->free_blocks = calloc(block_count, sizeof *pool->free_blocks);
    pool->references = calloc(block_count, sizeof *pool->references);
    if (!pool->free_blocks || !pool->references) {
        kv_pool_deinit(pool);
        return error_no_memory(error, "the block table", 8ull * block_count);
    }
    pool->block_count = block_count;
    pool->free_count = block_count;
    for (uint32_t i = 0; i < block_count; i++) {
        pool->free_blocks[i] = block_count - 1 - i; /* low numbers first */
    }
    return LLCUDA_OK;
}

void kv_pool_deinit(struct kv_pool *pool)
{
    free(pool->references);
    free(pool->free_blocks);
    *pool = (struct kv_pool){0};
}

uint32_t kv_pool_acquire(struct kv_pool *pool)
{
    if (pool->free_count == 0) {
        return KV_NO_BLOCK;
    }
    uint32_t block = pool->free_blocks[--pool->free_count];
    assert(pool->references[block] == 0);
    pool->references[block] = 1;
    return block;
}

bool kv_pool_release(struct kv_pool *pool, uint32_t block)
{
    assert(block < pool->block_count && pool->references[block] > 0);
    return --pool->references[block] == 0;
}

void kv_pool_free(struct kv_pool *pool, uint32_t block)
{
    assert(pool->references[block] == 0 && pool->free_count < pool->block_count);
    pool->free_blocks[pool->free_count++] = block;
}
