/* The prefix tree: what it finds has equal tokens, an equal salt and the same adapter; what nobody
 * holds goes oldest leaf first; nothing is lost over a long random life. */
#include "support/test_support.h"

#include "engine/prefix_tree.h"

#define BLOCKS 40u

struct world {
    struct kv_pool pool;
    struct prefix_tree tree;
};

static void world_open(struct world *world, uint32_t blocks, uint32_t domains, bool enabled)
{
    struct llcuda_error error;
    assert_ok(kv_pool_init(&world->pool, blocks, &error), error);
    assert_ok(prefix_tree_init(&world->tree, &world->pool, domains, enabled, &error), error);
}

static void world_close(struct world *world)
{
    assert_true(prefix_tree_valid(&world->tree));
    prefix_tree_deinit(&world->tree);
    kv_pool_deinit(&world->pool);
}

/* Holds blocks for `count` whole blocks of tokens, from the tree as far as possible. Returns how
 * many were found there. */
static uint32_t hold(struct world *world, uint32_t domain, const uint32_t *tokens, uint32_t count,
                     uint32_t *blocks)
{
    uint32_t found =
        prefix_tree_match(&world->tree, domain, tokens, count * KV_BLOCK_TOKENS, blocks);
    for (uint32_t i = found; i < count; i++) {
        blocks[i] = prefix_tree_take(&world->tree);
        assert_int_not_equal(blocks[i], KV_NO_BLOCK);
        blocks[i] = prefix_tree_insert(&world->tree, domain, i > 0 ? blocks[i - 1] : KV_NO_BLOCK,
                                       tokens + i * KV_BLOCK_TOKENS, blocks[i]);
    }
    return found;
}

static void drop(struct world *world, const uint32_t *blocks, uint32_t count)
{
    while (count > 0) {
        prefix_tree_drop(&world->tree, blocks[--count]);
    }
}

static uint32_t domain_of(struct world *world, const char *salt)
{
    return prefix_domain_acquire(&world->tree, 0, text_view_of(salt));
}

static void salts_and_adapters_are_walls(void **state)
{
    (void)state;
    struct world world;
    uint32_t tokens[64] = {0};
    uint32_t blocks[4];
    world_open(&world, BLOCKS, 8, true);
    struct prefix_tree *tree = &world.tree;
    uint32_t a = domain_of(&world, "alpha");
    uint32_t b = domain_of(&world, "beta");
    uint32_t c = prefix_domain_acquire(tree, 1, text_view_of("alpha"));
    assert_int_equal(domain_of(&world, "alpha"), a);
    assert_true(a != b && a != c && b != c);
    assert_int_equal(hold(&world, a, tokens, 4, blocks), 0);
    drop(&world, blocks, 4);
    assert_int_equal(hold(&world, a, tokens, 4, blocks), 4);
    drop(&world, blocks, 4);
    assert_int_equal(hold(&world, b, tokens, 4, blocks), 0);
    drop(&world, blocks, 4);
    assert_int_equal(hold(&world, c, tokens, 4, blocks), 0);
    drop(&world, blocks, 4);
    tokens[40] = 9; /* the third block differs */
    assert_int_equal(hold(&world, a, tokens, 4, blocks), 2);
    drop(&world, blocks, 4);
    assert_int_equal(prefix_tree_match(tree, a, tokens, 31, blocks), 1); /* whole blocks only */
    drop(&world, blocks, 1);
    char long_salt[PREFIX_SALT_BYTES + 1] = {0};
    assert_int_equal(prefix_domain_acquire(tree, 0, text_view_make(long_salt, sizeof long_salt)),
                     PREFIX_NO_DOMAIN);
    world_close(&world);
}

static void equal_blocks_become_one(void **state)
{
    (void)state;
    struct world world;
    uint32_t tokens[16] = {1, 2, 3};
    world_open(&world, 4, 4, true);
    uint32_t domain = domain_of(&world, "");
    uint32_t first = prefix_tree_take(&world.tree);
    uint32_t second = prefix_tree_take(&world.tree); /* computed beside it, at the same time */
    first = prefix_tree_insert(&world.tree, domain, KV_NO_BLOCK, tokens, first);
    uint32_t shared = prefix_tree_insert(&world.tree, domain, KV_NO_BLOCK, tokens, second);
    assert_int_equal(shared, first);
    assert_int_equal(world.pool.references[first], 2);
    assert_int_equal(world.pool.free_count, 3);
    prefix_tree_drop(&world.tree, first);
    prefix_tree_drop(&world.tree, first);
    assert_int_equal(prefix_tree_available(&world.tree), 4);
    world_close(&world);
}

static void the_oldest_leaf_goes_first(void **state)
{
    (void)state;
    struct world world;
    uint32_t tokens[3][48];
    uint32_t blocks[3];
    world_open(&world, 9, 4, true);
    uint32_t domain = domain_of(&world, "");
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 48; k++) {
            tokens[i][k] = i;
        }
        hold(&world, domain, tokens[i], 3, blocks);
        drop(&world, blocks, 3);
    }
    assert_int_equal(world.pool.free_count, 0);
    assert_int_equal(hold(&world, domain, tokens[0], 3, blocks), 3); /* used again: the newest */
    drop(&world, blocks, 3);
    uint32_t taken[4];
    for (int i = 0; i < 4; i++) {
        taken[i] = prefix_tree_take(&world.tree);
        assert_true(prefix_tree_valid(&world.tree));
    }
    /* All of chain 1 is gone and the last block of chain 2. */
    assert_int_equal(prefix_tree_match(&world.tree, domain, tokens[1], 48, blocks), 0);
    assert_int_equal(prefix_tree_match(&world.tree, domain, tokens[2], 48, blocks), 2);
    drop(&world, blocks, 2);
    assert_int_equal(prefix_tree_match(&world.tree, domain, tokens[0], 48, blocks), 3);
    assert_int_equal(world.tree.evictions, 4);
    /* Held blocks are never given away. */
    assert_int_equal(prefix_tree_available(&world.tree), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(prefix_tree_take(&world.tree), KV_NO_BLOCK);
    }
    assert_int_equal(prefix_tree_take(&world.tree), KV_NO_BLOCK);
    (void)taken;
    assert_true(prefix_tree_valid(&world.tree));
    world_close(&world);
}

static void a_new_salt_replaces_the_oldest_idle_one(void **state)
{
    (void)state;
    struct world world;
    uint32_t tokens[32] = {0};
    uint32_t blocks[2];
    world_open(&world, BLOCKS, 3, true);
    for (uint32_t i = 0; i < 50; i++) {
        char salt[16];
        snprintf(salt, sizeof salt, "salt %u", i);
        uint32_t domain = domain_of(&world, salt);
        assert_int_not_equal(domain, PREFIX_NO_DOMAIN);
        assert_int_equal(hold(&world, domain, tokens, 2, blocks), 0);
        drop(&world, blocks, 2);
        assert_int_equal(hold(&world, domain, tokens, 2, blocks), 2);
        drop(&world, blocks, 2);
        prefix_domain_release(&world.tree, domain);
        assert_true(prefix_tree_valid(&world.tree));
    }
    for (uint32_t i = 0; i < 3; i++) {
        char salt[16];
        snprintf(salt, sizeof salt, "held %u", i);
        assert_int_not_equal(domain_of(&world, salt), PREFIX_NO_DOMAIN);
    }
    assert_int_equal(domain_of(&world, "one too many"), PREFIX_NO_DOMAIN);
    world_close(&world);
}

static void switched_off_it_shares_nothing(void **state)
{
    (void)state;
    struct world world;
    uint32_t tokens[32] = {0};
    uint32_t blocks[2];
    world_open(&world, BLOCKS, 3, false);
    uint32_t domain = domain_of(&world, "");
    assert_int_equal(domain, PREFIX_NO_DOMAIN);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hold(&world, domain, tokens, 2, blocks), 0);
        drop(&world, blocks, 2);
        assert_int_equal(world.pool.free_count, BLOCKS);
    }
    world_close(&world);
}

/* Many holders of random chains in a small pool; each chain's tokens are remembered by block, so
 * that whatever a match returns can be compared. */
static void a_long_random_life(void **state)
{
    (void)state;
    enum { HOLDERS = 6, LENGTH = 5 };
    struct world world;
    world_open(&world, BLOCKS, 6, true);
    uint32_t contents[BLOCKS][KV_BLOCK_TOKENS + 1]; /* and the domain */
    struct {
        uint32_t blocks[LENGTH], count, domain;
    } holders[HOLDERS] = {0};
    for (int step = 0; step < 20000; step++) {
        uint32_t h = (uint32_t)test_random_below(HOLDERS);
        drop(&world, holders[h].blocks, holders[h].count);
        if (holders[h].count > 0) {
            prefix_domain_release(&world.tree, holders[h].domain);
        }
        char salt[2] = {(char)('a' + test_random_below(4)), 0};
        uint32_t domain = domain_of(&world, salt);
        uint32_t count = 1 + (uint32_t)test_random_below(LENGTH);
        uint32_t tokens[LENGTH * KV_BLOCK_TOKENS];
        for (uint32_t i = 0; i < count; i++) { /* few kinds of blocks: many equal beginnings */
            for (uint32_t k = 0; k < KV_BLOCK_TOKENS; k++) {
                tokens[i * KV_BLOCK_TOKENS + k] = k;
            }
            tokens[i * KV_BLOCK_TOKENS + 7] = (uint32_t)test_random_below(3);
        }
        uint32_t found = hold(&world, domain, tokens, count, holders[h].blocks);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t *content = contents[holders[h].blocks[i]];
            const uint32_t *own = tokens + i * KV_BLOCK_TOKENS;
            if (i < found) {
                assert_memory_equal(content, own, KV_BLOCK_TOKENS * sizeof *own);
                assert_int_equal(content[KV_BLOCK_TOKENS], domain);
            }
            memcpy(content, own, KV_BLOCK_TOKENS * sizeof *own);
            content[KV_BLOCK_TOKENS] = domain;
        }
        holders[h].count = count;
        holders[h].domain = domain;
        if (step % 16 == 0) {
            assert_true(prefix_tree_valid(&world.tree));
        }
    }
    for (uint32_t h = 0; h < HOLDERS; h++) {
        drop(&world, holders[h].blocks, holders[h].count);
    }
    assert_int_equal(prefix_tree_available(&world.tree), BLOCKS);
    prefix_tree_clear(&world.tree);
    assert_int_equal(world.pool.free_count, BLOCKS);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(salts_and_adapters_are_walls),
        cmocka_unit_test(equal_blocks_become_one),
        cmocka_unit_test(the_oldest_leaf_goes_first),
        cmocka_unit_test(a_new_salt_replaces_the_oldest_idle_one),
        cmocka_unit_test(switched_off_it_shares_nothing),
        cmocka_unit_test(a_long_random_life),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("prefix tree", tests, NULL, NULL);
}
