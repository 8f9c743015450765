/* Owns the nodes of the prefix tree, the list of idle blocks and the domains.
 *
 * Invariants. A holder of a node holds every ancestor too, because holds are taken from the root
 * (match) or one after another (insert), and given up from the leaf. Hence a node without holders
 * has no held descendants, and became idle after them: the oldest idle node is always a leaf, and
 * eviction takes it in constant time. */
#include "engine/prefix_tree.h"

#include <assert.h>
#include <stdlib.h>

#include "base/random.h"

#define NO_NODE     UINT32_MAX
#define PREFIX_ROOT 0x80000000u /* parents at or above are domains */

llcuda_status prefix_tree_init(struct prefix_tree *tree, struct kv_pool *pool, uint32_t domain_max,
                               bool enabled, struct llcuda_error *error)
{
    *tree = (struct prefix_tree){.pool = pool, .enabled = enabled, .seed = random_seed()};
    tree->oldest = NO_NODE;
    tree->newest = NO_NODE;
    if (pool->block_count >= PREFIX_ROOT || domain_max == 0 || domain_max >= PREFIX_ROOT) {
        return error_set(error, LLCUDA_LIMIT, "a prefix tree cannot have %u blocks",
                         pool->block_count);
    }
    tree->bucket_count = 16;
    while (tree->bucket_count < pool->block_count) {
        tree->bucket_count *= 2;
    }
    tree->domain_count = domain_max;
    tree->nodes = calloc(pool->block_count, sizeof *tree->nodes);
    tree->buckets = malloc(tree->bucket_count * sizeof *tree->buckets);
    tree->domains = calloc(domain_max, sizeof *tree->domains);
    if (!tree->nodes || !tree->buckets || !tree->domains) {
        prefix_tree_deinit(tree);
        return error_no_memory(error, "the prefix tree",
                               (uint64_t)pool->block_count * sizeof *tree->nodes);
    }
    memset(tree->buckets, 0xFF, tree->bucket_count * sizeof *tree->buckets);
    return LLCUDA_OK;
}

void prefix_tree_deinit(struct prefix_tree *tree)
{
    free(tree->domains);
    free(tree->buckets);
    free(tree->nodes);
    *tree = (struct prefix_tree){0};
}

static uint32_t hash_of(const struct prefix_tree *tree, uint32_t parent, const uint32_t *tokens)
{
    uint64_t hash = random_mix(tree->seed ^ parent);
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i += 2) {
        hash = (hash ^ ((uint64_t)tokens[i] << 32 | tokens[i + 1])) * 0x9E3779B97F4A7C15ull;
        hash ^= hash >> 29;
    }
    return (uint32_t)random_mix(hash);
}

static uint32_t find(const struct prefix_tree *tree, uint32_t parent, const uint32_t *tokens,
                     uint32_t hash)
{
    uint32_t node = tree->buckets[hash & (tree->bucket_count - 1)];
    while (node != NO_NODE) {
        const struct prefix_node *n = &tree->nodes[node];
        if (n->hash == hash && n->parent == parent &&
            memcmp(n->tokens, tokens, sizeof n->tokens) == 0) {
            break;
        }
        node = n->next;
    }
    return node;
}

static void idle_remove(struct prefix_tree *tree, uint32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    if (node->lru_older != NO_NODE) {
        tree->nodes[node->lru_older].lru_newer = node->lru_newer;
    } else {
        tree->oldest = node->lru_newer;
    }
    if (node->lru_newer != NO_NODE) {
        tree->nodes[node->lru_newer].lru_older = node->lru_older;
    } else {
        tree->newest = node->lru_older;
    }
    tree->idle_count--;
}

static void idle_append(struct prefix_tree *tree, uint32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    node->lru_older = tree->newest;
    node->lru_newer = NO_NODE;
    if (tree->newest != NO_NODE) {
        tree->nodes[tree->newest].lru_newer = block;
    } else {
        tree->oldest = block;
    }
    tree->newest = block;
    tree->idle_count++;
}

/* Holds a node: idle ones leave the list. */
static void hold(struct prefix_tree *tree, uint32_t block)
{
    if (tree->pool->references[block] == 0) {
        idle_remove(tree, block);
    }
    kv_pool_retain(tree->pool, block);
}

static bool is_root(uint32_t parent)
{
    return parent >= PREFIX_ROOT;
}

/* Takes an idle leaf out of the tree; the block belongs to nobody then. */
static void evict(struct prefix_tree *tree, uint32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    assert(node->present && node->child_count == 0 && tree->pool->references[block] == 0);
    idle_remove(tree, block);
    uint32_t *link = &tree->buckets[node->hash & (tree->bucket_count - 1)];
    while (*link != block) {
        link = &tree->nodes[*link].next;
    }
    *link = node->next;
    if (!is_root(node->parent)) {
        tree->nodes[node->parent].child_count--;
    }
    tree->domains[node->domain].node_count--;
    node->present = false;
    tree->node_count--;
    tree->evictions++;
    kv_pool_free(tree->pool, block);
}

/* Forgets a whole domain that nobody holds: all its nodes are idle, children older than parents. */
static void domain_clear(struct prefix_tree *tree, uint32_t domain)
{
    uint32_t block = tree->oldest;
    while (block != NO_NODE && tree->domains[domain].node_count > 0) {
        uint32_t newer = tree->nodes[block].lru_newer;
        if (tree->nodes[block].domain == domain) {
            evict(tree, block);
        }
        block = newer;
    }
    assert(tree->domains[domain].node_count == 0);
}

uint32_t prefix_domain_acquire(struct prefix_tree *tree, uint32_t adapter, struct text_view salt)
{
    if (!tree->enabled || salt.length > PREFIX_SALT_BYTES) {
        return PREFIX_NO_DOMAIN;
    }
    uint32_t best = PREFIX_NO_DOMAIN;
    uint64_t best_used = UINT64_MAX;
    for (uint32_t i = 0; i < tree->domain_count; i++) {
        struct prefix_domain *domain = &tree->domains[i];
        bool live = domain->holders > 0 || domain->node_count > 0;
        if (live && domain->adapter == adapter && domain->salt_bytes == salt.length &&
            (salt.length == 0 || memcmp(domain->salt, salt.data, salt.length) == 0)) {
            domain->holders++;
            domain->used = ++tree->tick;
            return i;
        }
        uint64_t used = live ? domain->used : 0; /* an empty one is the best to take */
        if (domain->holders == 0 && used < best_used) {
            best = i;
            best_used = used;
        }
    }
    if (best == PREFIX_NO_DOMAIN) {
        return best;
    }
    domain_clear(tree, best);
    struct prefix_domain *domain = &tree->domains[best];
    *domain = (struct prefix_domain){
        .adapter = adapter,
        .salt_bytes = (uint32_t)salt.length,
        .holders = 1,
        .used = ++tree->tick,
    };
    if (salt.length > 0) {
        memcpy(domain->salt, salt.data, salt.length);
    }
    return best;
}

void prefix_domain_release(struct prefix_tree *tree, uint32_t domain)
{
    if (domain != PREFIX_NO_DOMAIN) {
        assert(tree->domains[domain].holders > 0);
        tree->domains[domain].holders--;
    }
}

uint32_t prefix_tree_match(struct prefix_tree *tree, uint32_t domain, const uint32_t *tokens,
                           uint32_t count, uint32_t *blocks)
{
    if (domain == PREFIX_NO_DOMAIN) {
        return 0;
    }
    uint32_t found = 0;
    uint32_t parent = PREFIX_ROOT | domain;
    while ((uint64_t)(found + 1) * KV_BLOCK_TOKENS <= count) {
        const uint32_t *key = tokens + (size_t)found * KV_BLOCK_TOKENS;
        uint32_t node = find(tree, parent, key, hash_of(tree, parent, key));
        if (node == NO_NODE) {
            break;
        }
        hold(tree, node);
        blocks[found++] = node;
        parent = node;
    }
    return found;
}

uint32_t prefix_tree_insert(struct prefix_tree *tree, uint32_t domain, uint32_t parent,
                            const uint32_t *tokens, uint32_t block)
{
    if (domain == PREFIX_NO_DOMAIN) {
        return block;
    }
    assert(tree->pool->references[block] > 0 && !tree->nodes[block].present);
    assert(parent == KV_NO_BLOCK || tree->nodes[parent].present);
    uint32_t up = parent == KV_NO_BLOCK ? PREFIX_ROOT | domain : parent;
    uint32_t hash = hash_of(tree, up, tokens);
    uint32_t other = find(tree, up, tokens, hash);
    if (other != NO_NODE) {
        hold(tree, other);
        prefix_tree_drop(tree, block);
        return other;
    }
    struct prefix_node *node = &tree->nodes[block];
    uint32_t *bucket = &tree->buckets[hash & (tree->bucket_count - 1)];
    *node = (struct prefix_node){
        .parent = up,
        .domain = domain,
        .hash = hash,
        .next = *bucket,
        .lru_older = NO_NODE,
        .lru_newer = NO_NODE,
        .present = true,
    };
    memcpy(node->tokens, tokens, sizeof node->tokens);
    *bucket = block;
    if (parent != KV_NO_BLOCK) {
        tree->nodes[parent].child_count++;
    }
    tree->domains[domain].node_count++;
    tree->node_count++;
    return block;
}

void prefix_tree_drop(struct prefix_tree *tree, uint32_t block)
{
    if (!kv_pool_release(tree->pool, block)) {
        return;
    }
    if (tree->nodes[block].present) {
        idle_append(tree, block);
    } else {
        kv_pool_free(tree->pool, block);
    }
}

uint32_t prefix_tree_take(struct prefix_tree *tree)
{
    if (tree->pool->free_count == 0 && tree->oldest != NO_NODE) {
        evict(tree, tree->oldest);
    }
    return kv_pool_acquire(tree->pool);
}

void prefix_tree_clear(struct prefix_tree *tree)
{
    while (tree->oldest != NO_NODE) {
        evict(tree, tree->oldest);
    }
}

/* Every idle node is in the list once, and its children are idle and older. */
static bool idle_valid(const struct prefix_tree *tree)
{
    uint32_t seen = 0;
    uint32_t older = NO_NODE;
    for (uint32_t i = tree->oldest; i != NO_NODE; i = tree->nodes[i].lru_newer) {
        const struct prefix_node *node = &tree->nodes[i];
        if (!node->present || tree->pool->references[i] != 0 || node->lru_older != older ||
            ++seen > tree->idle_count) {
            return false;
        }
        older = i;
    }
    return seen == tree->idle_count && older == tree->newest;
}

bool prefix_tree_valid(const struct prefix_tree *tree)
{
    const struct kv_pool *pool = tree->pool;
    uint32_t present = 0;
    uint32_t idle = 0;
    uint32_t held = 0;
    uint64_t children = 0;
    for (uint32_t i = 0; i < pool->block_count; i++) {
        const struct prefix_node *node = &tree->nodes[i];
        held += pool->references[i] > 0;
        if (!node->present) {
            continue;
        }
        present++;
        idle += pool->references[i] == 0;
        if (!is_root(node->parent)) {
            const struct prefix_node *parent = &tree->nodes[node->parent];
            children++;
            if (!parent->present || parent->domain != node->domain ||
                (pool->references[i] > 0 && pool->references[node->parent] == 0)) {
                return false;
            }
        }
        if (find(tree, node->parent, node->tokens, node->hash) != i) {
            return false;
        }
    }
    uint64_t counted = 0;
    for (uint32_t i = 0; i < pool->block_count; i++) {
        counted += tree->nodes[i].present ? tree->nodes[i].child_count : 0;
    }
    return present == tree->node_count && idle == tree->idle_count && counted == children &&
           held + idle + pool->free_count == pool->block_count && idle_valid(tree);
}
