/* The three ways of merging against the definition, on random merges in random order. */
#include "support/test_support.h"

#include "text/merge.h"

#define BASE_SYMBOLS 3u
#define MERGES       40u
#define WORD_MAX     300u

/* Merges of what there is into new tokens, in an order that need not be one that training gives. */
static void make_vocabulary(struct vocabulary *vocabulary, bool shuffled)
{
    uint32_t tokens = BASE_SYMBOLS;
    uint32_t count = 0;
    bool used[BASE_SYMBOLS + MERGES][BASE_SYMBOLS + MERGES] = {{false}};
    while (count < MERGES) {
        uint32_t left = (uint32_t)test_random_below(tokens);
        uint32_t right = (uint32_t)test_random_below(tokens);
        if (!used[left][right]) {
            used[left][right] = true;
            /* Now and then a token that something else makes too. */
            uint32_t result =
                tokens > BASE_SYMBOLS && test_random_below(2) == 0
                    ? BASE_SYMBOLS + (uint32_t)test_random_below(tokens - BASE_SYMBOLS)
                    : tokens++;
            vocabulary->merges[count++] = (struct vocabulary_merge){left, right, result};
        }
    }
    for (uint32_t i = count; shuffled && i > 1; i--) {
        uint32_t other = (uint32_t)test_random_below(i);
        struct vocabulary_merge kept = vocabulary->merges[i - 1];
        vocabulary->merges[i - 1] = vocabulary->merges[other];
        vocabulary->merges[other] = kept;
    }
    vocabulary->merge_count = count;
    vocabulary->token_count = tokens;
}

/* The definition: the pair of the lowest rank, the leftmost of those, until there is none. */
static size_t merge_by_definition(const struct vocabulary *vocabulary, uint32_t *symbols,
                                  size_t count)
{
    for (;;) {
        uint32_t best_rank = UINT32_MAX;
        size_t best = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (uint32_t rank = 0; rank < vocabulary->merge_count && rank < best_rank; rank++) {
                if (vocabulary->merges[rank].left == symbols[i] &&
                    vocabulary->merges[rank].right == symbols[i + 1]) {
                    best_rank = rank;
                    best = i;
                }
            }
        }
        if (best_rank == UINT32_MAX) {
            return count;
        }
        symbols[best] = vocabulary->merges[best_rank].result;
        count--;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof *symbols);
    }
}

static void check(const struct merge_table *table, struct merge_scratch *scratch,
                  const struct vocabulary *vocabulary, size_t count)
{
    uint32_t word[WORD_MAX];
    uint32_t expected[WORD_MAX];
    bool runs = test_random_below(3) == 0;
    for (size_t i = 0; i < count; i++) {
        word[i] = runs && i > 0 && test_random_below(8) ? word[i - 1]
                                                        : (uint32_t)test_random_below(BASE_SYMBOLS);
    }
    memcpy(expected, word, count * sizeof *word);
    size_t expected_count = merge_by_definition(vocabulary, expected, count);
    static const enum merge_method methods[] = {MERGE_BY_LENGTH, MERGE_BY_HEAP, MERGE_BY_LISTS,
                                                MERGE_BY_SCAN};
    for (size_t m = 0; m < (count <= 32 ? 4u : 3u); m++) {
        uint32_t found[WORD_MAX];
        size_t found_count = count;
        struct llcuda_error error;
        memcpy(found, word, count * sizeof *word);
        assert_ok(merge_symbols(table, scratch, methods[m], found, &found_count, &error), error);
        assert_int_equal(found_count, expected_count);
        assert_memory_equal(found, expected, found_count * sizeof *found);
    }
}

static void every_way_gives_the_same(void **state)
{
    (void)state;
    struct merge_scratch scratch = {0};
    for (int round = 0; round < 60; round++) {
        struct vocabulary_merge merges[MERGES];
        struct vocabulary vocabulary = {.merges = merges};
        make_vocabulary(&vocabulary, round % 2 == 1);
        struct merge_table table;
        struct llcuda_error error;
        assert_ok(merge_table_from_merges(&table, &vocabulary, &error), error);
        for (int i = 0; i < 60; i++) {
            check(&table, &scratch, &vocabulary, 1 + test_random_below(40));
        }
        for (int i = 0; i < 4; i++) {
            check(&table, &scratch, &vocabulary, 1 + test_random_below(WORD_MAX));
        }
        merge_table_deinit(&table);
        merge_scratch_deinit(&scratch);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_way_gives_the_same),
};

TEST_MAIN(tests)
