/* The prefix tree: full cache blocks under the tokens that made them, so that equal beginnings are
 * computed once. A node is a full block; its key is its parent node and its 16 tokens, compared by
 * content, never by a hash alone. The root of a tree is a *domain*: model, adapter and tenant salt
 * (one tree serves one model; the domain holds the rest).
 *
 * The tree sits on a kv_pool and decides what happens to blocks that nobody holds: blocks in the
 * tree stay as *idle* until their memory is needed, the least recently used leaf first.
 * One owner, one thread at a time; after init nothing is allocated. */
#ifndef ENGINE_PREFIX_TREE_H
#define ENGINE_PREFIX_TREE_H

#include "engine/kv_pool.h"

/* A domain that shares nothing: every lookup misses, nothing is inserted. */
#define PREFIX_NO_DOMAIN  UINT32_MAX
#define PREFIX_SALT_BYTES 128u

struct prefix_node {
    uint32_t parent; /* a block, or PREFIX_ROOT | domain */
    uint32_t domain;
    uint32_t hash;
    uint32_t next;                 /* in the hash chain */
    uint32_t child_count;          /* nodes whose parent this is */
    uint32_t lru_older, lru_newer; /* among idle nodes */
    bool present;
    uint32_t tokens[KV_BLOCK_TOKENS];
};

struct prefix_domain {
    char salt[PREFIX_SALT_BYTES];
    uint32_t salt_bytes;
    uint32_t adapter;
    uint32_t holders;    /* sequences */
    uint32_t node_count; /* blocks in its tree */
    uint64_t used;       /* tick of the last acquire */
};

struct prefix_tree {
    struct kv_pool *pool; /* borrowed */
    bool enabled;
    struct prefix_node *nodes; /* [block_count], indexed by block */
    uint32_t *buckets;         /* [bucket_count] first node of each chain */
    uint32_t bucket_count;     /* a power of two */
    uint64_t seed;             /* of the hash: nobody can prepare prompts that collide */
    struct prefix_domain *domains;
    uint32_t domain_count;   /* capacity */
    uint32_t oldest, newest; /* ends of the list of idle nodes */
    uint32_t idle_count;     /* cached blocks that nobody holds */
    uint32_t node_count;
    uint64_t tick;
    uint64_t evictions;
};

/* `domain_max`: salts that can be known at once. With `enabled` false nothing is ever shared. */
llcuda_status prefix_tree_init(struct prefix_tree *tree, struct kv_pool *pool, uint32_t domain_max,
                               bool enabled, struct llcuda_error *error);
void prefix_tree_deinit(struct prefix_tree *tree);

/* The domain of (adapter, salt), made when new; forgets the least recently used domain that nobody
 * holds when all are taken; PREFIX_NO_DOMAIN when that is impossible, the salt is too long or
 * sharing is off. Pair with prefix_domain_release. */
uint32_t prefix_domain_acquire(struct prefix_tree *tree, uint32_t adapter, struct text_view salt);
void prefix_domain_release(struct prefix_tree *tree, uint32_t domain);

/* Finds the longest cached beginning of tokens[0 … count), in whole blocks, and takes a hold of its
 * blocks: blocks[0 … result). */
uint32_t prefix_tree_match(struct prefix_tree *tree, uint32_t domain, const uint32_t *tokens,
                           uint32_t count, uint32_t *blocks);

/* Says that `block`, held by the caller, is full and was made by `tokens` [16] after `parent` (the
 * block before it in its sequence, itself in the tree, or KV_NO_BLOCK at the beginning). Returns
 * the block to hold from now on: the same, or an equal one that was there first (the hold of
 * `block` is then exchanged for a hold of that one). */
uint32_t prefix_tree_insert(struct prefix_tree *tree, uint32_t domain, uint32_t parent,
                            const uint32_t *tokens, uint32_t block);

/* Gives up a hold: the block becomes idle when it is in the tree and nobody else holds it,
 * otherwise free. A sequence gives up its blocks from the last to the first. */
void prefix_tree_drop(struct prefix_tree *tree, uint32_t block);

/* A free block for one holder, evicting the least recently used idle leaf when there is no free
 * one; KV_NO_BLOCK when every block is held. */
uint32_t prefix_tree_take(struct prefix_tree *tree);

/* Blocks that prefix_tree_take can give, one after another. */
static inline uint32_t prefix_tree_available(const struct prefix_tree *tree)
{
    return tree->pool->free_count + tree->idle_count;
}

/* Forgets every idle block: the cache's contents are void, or memory goes back. */
void prefix_tree_clear(struct prefix_tree *tree);

/* True when all invariants hold; for tests, linear in the number of blocks. */
bool prefix_tree_valid(const struct prefix_tree *tree);

#endif
