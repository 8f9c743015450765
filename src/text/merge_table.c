/* Owns the table of pairs: open addressing, at most two thirds full, seeded so that a file cannot
 * be made of collisions. Immutable once built. */
#include "text/merge.h"

#include <stdlib.h>

#include "base/random.h"
#include "base/utf8.h"
#include "text/unicode.h"

static llcuda_status make_slots(struct merge_table *table, uint64_t count,
                                struct llcuda_error *error)
{
    size_t capacity = 16;
    while (capacity < count + count / 2) {
        capacity *= 2;
    }
    table->slots = malloc(capacity * sizeof *table->slots);
    table->pairs = malloc(((size_t)count + 1) * sizeof *table->pairs);
    if (!table->slots || !table->pairs) {
        return error_no_memory(error, "a table of merges",
                               capacity * sizeof *table->slots + count * sizeof *table->pairs);
    }
    memset(table->slots, 0xFF, capacity * sizeof *table->slots);
    table->mask = capacity - 1;
    table->seed = random_seed();
    return LLCUDA_OK;
}

static void insert(struct merge_table *table, struct merge_pair pair)
{
    uint64_t hash = merge_hash(table, pair.left, pair.right);
    uint32_t tag = (uint32_t)(hash >> 32);
    size_t slot = (size_t)hash & table->mask;
    while (table->slots[slot].pair != SYMBOL_NONE) {
        struct merge_pair *other = &table->pairs[table->slots[slot].pair];
        if (table->slots[slot].tag == tag && other->left == pair.left &&
            other->right == pair.right) {
            *other = pair;
            return;
        }
        slot = (slot + 1) & table->mask;
    }
    table->slots[slot] = (struct merge_slot){tag, table->pair_count};
    table->pairs[table->pair_count++] = pair;
}

llcuda_status merge_table_from_merges(struct merge_table *table,
                                      const struct vocabulary *vocabulary,
                                      struct llcuda_error *error)
{
    *table = (struct merge_table){0};
    llcuda_status status = make_slots(table, vocabulary->merge_count, error);
    if (status) {
        return status;
    }
    table->rank_count = vocabulary->merge_count;
    table->token_count = vocabulary->token_count;
    for (uint32_t rank = 0; rank < vocabulary->merge_count; rank++) {
        const struct vocabulary_merge *merge = &vocabulary->merges[rank];
        insert(table, (struct merge_pair){merge->left, merge->right, rank, merge->result});
    }
    return LLCUDA_OK;
}

static bool takes_part(const struct vocabulary *vocabulary, uint32_t id)
{
    uint8_t kind = vocabulary->kinds[id];
    return vocabulary->in_model[id] &&
           (kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED || kind == TOKEN_UNUSED);
}

struct scored {
    double score;
    uint32_t id;
};

/* Best first; not-a-number last, so that the order is total. */
static int compare_scores(const void *a, const void *b)
{
    const struct scored *left = a;
    const struct scored *right = b;
    bool left_odd = left->score != left->score;
    bool right_odd = right->score != right->score;
    if (left_odd || right_odd) {
        return left_odd - right_odd;
    }
    return left->score > right->score ? -1 : left->score < right->score;
}

uint32_t merge_symbol_of(const struct vocabulary *vocabulary, const char *text, size_t length,
                         uint32_t code)
{
    uint32_t id = vocabulary_find(vocabulary, text_view_make(text, length));
    return id != TOKEN_NONE && takes_part(vocabulary, id) ? id : SYMBOL_CHARACTER | code;
}

/* The symbol that a part of a piece can be: a token, or a single character. */
static uint32_t part_symbol(const struct vocabulary *vocabulary, const char *text, size_t length)
{
    size_t first;
    uint32_t code = unicode_next(text, &first);
    uint32_t symbol = merge_symbol_of(vocabulary, text, length, code);
    return (symbol & SYMBOL_CHARACTER) && first != length ? SYMBOL_NONE : symbol;
}

/* Calls insert for each cut of a piece, or only counts them when `table` is NULL. */
static uint64_t cut_piece(struct merge_table *table, const struct vocabulary *vocabulary,
                          uint32_t id, uint32_t rank)
{
    struct text_view piece = vocabulary->pieces[id];
    uint64_t count = 0;
    size_t step;
    for (size_t cut = 0; cut < piece.length; cut += step) {
        unicode_next(piece.data + cut, &step);
        if (cut == 0) {
            continue;
        }
        if (!table) {
            count++;
            continue;
        }
        uint32_t left = part_symbol(vocabulary, piece.data, cut);
        uint32_t right = left == SYMBOL_NONE
                             ? SYMBOL_NONE
                             : part_symbol(vocabulary, piece.data + cut, piece.length - cut);
        if (right != SYMBOL_NONE) {
            insert(table, (struct merge_pair){left, right, rank, id});
        }
    }
    return count;
}

llcuda_status merge_table_from_scores(struct merge_table *table,
                                      const struct vocabulary *vocabulary,
                                      struct llcuda_error *error)
{
    *table = (struct merge_table){0};
    struct scored *order = malloc(((size_t)vocabulary->token_count + 1) * sizeof *order);
    if (!order) {
        return error_no_memory(error, "the order of scores",
                               (uint64_t)vocabulary->token_count * sizeof *order);
    }
    uint32_t count = 0;
    uint64_t cuts = 0;
    for (uint32_t id = 0; id < vocabulary->token_count; id++) {
        /* A piece that another id had first cannot be found, so nothing merges into it. */
        if (takes_part(vocabulary, id) &&
            vocabulary_find(vocabulary, vocabulary->pieces[id]) == id) {
            order[count++] = (struct scored){vocabulary->scores[id], id};
            cuts += cut_piece(NULL, vocabulary, id, 0);
            table->reversible |= vocabulary->kinds[id] == TOKEN_UNUSED;
        }
    }
    qsort(order, count, sizeof *order, compare_scores);
    llcuda_status status = make_slots(table, cuts, error);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        rank += i > 0 && compare_scores(&order[i - 1], &order[i]) != 0;
        cut_piece(table, vocabulary, order[i].id, rank);
    }
    table->rank_count = rank + 1;
    table->token_count = vocabulary->token_count;
    free(order);
    return status;
}

void merge_table_deinit(struct merge_table *table)
{
    free(table->slots);
    free(table->pairs);
    *table = (struct merge_table){0};
}
