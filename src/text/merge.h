/* The merges of byte-pair encoding: which two neighbouring symbols become one, and in which order.
 *
 * The order is that of the rank, then of the position from the left, looked up again after each
 * merge (Sennrich et al., "Neural machine translation of rare words with subword units", 2016).
 * Three ways give that same result: a scan for short words, a heap for longer ones, and lists by
 * rank for very long ones, which take time linear in the word. */
#ifndef TEXT_MERGE_H
#define TEXT_MERGE_H

#include "base/error.h"
#include "base/vocabulary.h"

/* A symbol is a token id, or a character that is no token: the flag and the code point. */
#define SYMBOL_CHARACTER 0x80000000u
/* An empty slot, and the place of a symbol that was merged away. */
#define SYMBOL_NONE UINT32_MAX

struct merge_pair {
    uint32_t left, right;
    uint32_t rank;
    uint32_t result;
};

/* Half of the slots and more are empty, so most look-ups that find nothing touch eight bytes. */
struct merge_slot {
    uint32_t tag;  /* high half of the hash */
    uint32_t pair; /* index of pairs[]; SYMBOL_NONE: empty */
};

struct merge_table {
    struct merge_slot *slots;
    size_t mask;
    struct merge_pair *pairs; /* by rank, so that the frequent ones lie together */
    uint32_t pair_count;
    uint64_t seed;
    uint32_t rank_count;
    uint32_t token_count;
    bool reversible; /* some results are unused tokens, which are taken apart again */
};

/* From the merges of a vocabulary: the rank is the position; of equal pairs the last counts. */
llcuda_status merge_table_from_merges(struct merge_table *table,
                                      const struct vocabulary *vocabulary,
                                      struct llcuda_error *error);
/* From scores: every way to cut a piece in two gives a pair whose rank is that of its score; equal
 * scores share a rank. Pieces of the kinds normal, user-defined and unused take part. */
llcuda_status merge_table_from_scores(struct merge_table *table,
                                      const struct vocabulary *vocabulary,
                                      struct llcuda_error *error);
void merge_table_deinit(struct merge_table *table);

/* The symbol of one character of a vocabulary: its token or SYMBOL_CHARACTER | code. */
uint32_t merge_symbol_of(const struct vocabulary *vocabulary, const char *text, size_t length,
                         uint32_t code);

static inline uint64_t merge_hash(const struct merge_table *table, uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) ^ table->seed;
    unsigned __int128 product = (unsigned __int128)key * 0x9E3779B97F4A7C15ull;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* NULL when the two do not merge. */
static inline const struct merge_pair *merge_find(const struct merge_table *table, uint32_t left,
                                                  uint32_t right)
{
    uint64_t hash = merge_hash(table, left, right);
    uint32_t tag = (uint32_t)(hash >> 32);
    size_t slot = (size_t)hash & table->mask;
    while (table->slots[slot].pair != SYMBOL_NONE) {
        if (table->slots[slot].tag == tag) {
            const struct merge_pair *pair = &table->pairs[table->slots[slot].pair];
            if (pair->left == left && pair->right == right) {
                return pair;
            }
        }
        slot = (slot + 1) & table->mask;
    }
    return NULL;
}

/* Buffers of one thread. A zeroed struct is ready. */
struct merge_scratch {
    uint32_t *links; /* previous and next of every symbol */
    size_t link_capacity;
    uint64_t *heap;
    size_t heap_capacity;
    struct merge_node *nodes;
    size_t node_capacity;
    struct merge_bucket *buckets; /* one a rank */
    uint64_t *bits;               /* which buckets are not empty, with summaries above */
    uint32_t bucket_count;
    uint32_t *positions;
    size_t position_capacity;
    uint32_t *reverse; /* for each token the pair it was last seen made of, when reversible */
};
void merge_scratch_deinit(struct merge_scratch *scratch);

enum merge_method { MERGE_BY_LENGTH, MERGE_BY_SCAN, MERGE_BY_HEAP, MERGE_BY_LISTS };

/* Merges symbols[0, *count) in place. `method` other than BY_LENGTH is for tests. OUT_OF_MEMORY
 * leaves the symbols unusable. */
llcuda_status merge_symbols(const struct merge_table *table, struct merge_scratch *scratch,
                            enum merge_method method, uint32_t *symbols, size_t *count,
                            struct llcuda_error *error);

#endif
