/* Owns the merging of one word's symbols. Invariant: each of the three ways performs the same
 * merges in the same order, so that the result does not depend on the length at which one takes
 * over from another. It knows symbols, not text. */
#include "text/merge.h"

#include <stdlib.h>

#include "base/checked.h"

/* Measured: a scan beats a heap up to some thirty symbols; lists pay for their tables from a few
 * thousand on. */
#define SCAN_SYMBOLS_MAX 32u
#define HEAP_SYMBOLS_MAX 4096u

struct merge_node {
    uint32_t position;
    uint32_t next;
};

struct merge_bucket {
    uint32_t head; /* nodes in order of arrival; SYMBOL_NONE: empty */
    uint32_t tail;
};

struct merger {
    const struct merge_table *table;
    struct merge_scratch *scratch;
    uint32_t *symbols;
    uint32_t *previous;
    uint32_t *next;
    size_t heap_count;
    /* Lists by rank. */
    uint32_t node_free;
    uint32_t node_count;
    uint32_t list_floor; /* pairs of this rank and above wait in lists */
    bool lists;
    bool failed;
};

/* `memory` with room for `count` items of `size` bytes, NULL without memory (it then stays). */
static void *grow(void *memory, size_t *capacity, size_t count, size_t size)
{
    if (count <= *capacity) {
        return memory;
    }
    size_t wanted = *capacity + *capacity / 2;
    wanted = wanted < count ? count : wanted;
    uint64_t bytes;
    if (!checked_mul_u64(wanted, size, &bytes)) {
        return NULL;
    }
    void *grown = realloc(memory, (size_t)bytes);
    if (grown) {
        *capacity = wanted;
    }
    return grown;
}

void merge_scratch_deinit(struct merge_scratch *scratch)
{
    free(scratch->links);
    free(scratch->heap);
    free(scratch->nodes);
    free(scratch->buckets);
    free(scratch->bits);
    free(scratch->positions);
    free(scratch->reverse);
    *scratch = (struct merge_scratch){0};
}

/* Looks a pair up and, for vocabularies with unused tokens, notes what its result is made of. */
static inline const struct merge_pair *look_up(const struct merge_table *table,
                                               struct merge_scratch *scratch, uint32_t left,
                                               uint32_t right)
{
    const struct merge_pair *pair = merge_find(table, left, right);
    if (pair && table->reversible) {
        scratch->reverse[2 * (size_t)pair->result] = left;
        scratch->reverse[2 * (size_t)pair->result + 1] = right;
    }
    return pair;
}

static size_t merge_by_scan(const struct merge_table *table, struct merge_scratch *scratch,
                            uint32_t *symbols, size_t count)
{
    uint32_t ranks[SCAN_SYMBOLS_MAX];
    uint32_t results[SCAN_SYMBOLS_MAX];
    for (size_t i = 0; i + 1 < count; i++) {
        const struct merge_pair *pair = look_up(table, scratch, symbols[i], symbols[i + 1]);
        ranks[i] = pair ? pair->rank : SYMBOL_NONE;
        results[i] = pair ? pair->result : 0;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == SYMBOL_NONE) {
            break;
        }
        symbols[best] = results[best];
        count--;
        for (size_t i = best + 1; i < count; i++) {
            symbols[i] = symbols[i + 1];
            ranks[i - 1] = ranks[i];
            results[i - 1] = results[i];
        }
        size_t from = best > 0 ? best - 1 : 0;
        for (size_t i = from; i <= best && i + 1 < count; i++) {
            const struct merge_pair *pair = look_up(table, scratch, symbols[i], symbols[i + 1]);
            ranks[i] = pair ? pair->rank : SYMBOL_NONE;
            results[i] = pair ? pair->result : 0;
        }
    }
    return count;
}

/* A binary heap of rank and position in one number: the smallest is the next merge. */
static void heap_push(struct merger *m, uint64_t key)
{
    uint64_t *heap =
        grow(m->scratch->heap, &m->scratch->heap_capacity, m->heap_count + 1, sizeof *heap);
    if (!heap) {
        m->failed = true;
        return;
    }
    m->scratch->heap = heap;
    size_t i = m->heap_count++;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

static uint64_t heap_pop(struct merger *m)
{
    uint64_t *heap = m->scratch->heap;
    uint64_t top = heap[0];
    uint64_t moved = heap[--m->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->heap_count) {
            break;
        }
        child += child + 1 < m->heap_count && heap[child + 1] < heap[child];
        if (heap[child] >= moved) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
    return top;
}

/* Three levels of bits say which bucket is the first that is not empty. */
static size_t bits_words(uint32_t bucket_count, unsigned level)
{
    return ((size_t)bucket_count >> (6 * (level + 1))) + 1;
}

static void bits_set(struct merge_scratch *scratch, uint32_t rank, bool on)
{
    uint64_t *words = scratch->bits;
    for (unsigned level = 0; level < 3; level++) {
        uint64_t *word = &words[rank >> 6];
        if (on) {
            *word |= 1ull << (rank & 63);
        } else {
            *word &= ~(1ull << (rank & 63));
            if (*word) {
                return;
            }
        }
        words += bits_words(scratch->bucket_count, level);
        rank >>= 6;
    }
}

static uint32_t bits_first(const struct merge_scratch *scratch)
{
    const uint64_t *levels[3] = {scratch->bits};
    levels[1] = levels[0] + bits_words(scratch->bucket_count, 0);
    levels[2] = levels[1] + bits_words(scratch->bucket_count, 1);
    size_t top_words = bits_words(scratch->bucket_count, 2);
    for (size_t word = 0; word < top_words; word++) {
        if (levels[2][word]) {
            size_t index = word << 6 | (unsigned)__builtin_ctzll(levels[2][word]);
            index = index << 6 | (unsigned)__builtin_ctzll(levels[1][index]);
            index = index << 6 | (unsigned)__builtin_ctzll(levels[0][index]);
            return (uint32_t)index;
        }
    }
    return SYMBOL_NONE;
}

static void bucket_push(struct merger *m, uint32_t rank, uint32_t position)
{
    struct merge_scratch *scratch = m->scratch;
    uint32_t node = m->node_free;
    if (node != SYMBOL_NONE) {
        m->node_free = scratch->nodes[node].next;
    } else {
        struct merge_node *nodes =
            grow(scratch->nodes, &scratch->node_capacity, (size_t)m->node_count + 1, sizeof *nodes);
        if (!nodes || m->node_count == SYMBOL_NONE - 1) {
            m->failed = true;
            return;
        }
        scratch->nodes = nodes;
        node = m->node_count++;
    }
    scratch->nodes[node] = (struct merge_node){position, SYMBOL_NONE};
    struct merge_bucket *bucket = &scratch->buckets[rank];
    if (bucket->head == SYMBOL_NONE) {
        bucket->head = node;
        bits_set(scratch, rank, true);
    } else {
        scratch->nodes[bucket->tail].next = node;
    }
    bucket->tail = node;
}

/* Queues the pair that begins at `position`, if it merges. */
static void queue_pair(struct merger *m, uint32_t position)
{
    const struct merge_pair *pair =
        look_up(m->table, m->scratch, m->symbols[position], m->symbols[m->next[position]]);
    if (!pair) {
        return;
    }
    /* Lists are for ranks to come. What must be done before the current list ends waits in the
     * heap, which is empty nearly always. */
    if (m->lists && pair->rank >= m->list_floor) {
        bucket_push(m, pair->rank, position);
    } else {
        heap_push(m, (uint64_t)pair->rank << 32 | position);
    }
}

/* Does the merge at `position` if the pair there still has this rank. */
static void try_merge(struct merger *m, uint32_t rank, uint32_t position)
{
    uint32_t right = m->symbols[position] == SYMBOL_NONE ? SYMBOL_NONE : m->next[position];
    if (right == SYMBOL_NONE) {
        return;
    }
    const struct merge_pair *pair = merge_find(m->table, m->symbols[position], m->symbols[right]);
    if (!pair || pair->rank != rank) {
        return;
    }
    m->symbols[position] = pair->result;
    m->symbols[right] = SYMBOL_NONE;
    m->next[position] = m->next[right];
    if (m->next[right] != SYMBOL_NONE) {
        m->previous[m->next[right]] = position;
    }
    if (m->previous[position] != SYMBOL_NONE) {
        queue_pair(m, m->previous[position]);
    }
    if (m->next[position] != SYMBOL_NONE) {
        queue_pair(m, position);
    }
}

static int compare_positions(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* Moves a bucket into scratch->positions, ascending; its nodes become free. */
static size_t open_bucket(struct merger *m, uint32_t rank)
{
    struct merge_scratch *scratch = m->scratch;
    struct merge_bucket *bucket = &scratch->buckets[rank];
    size_t count = 0;
    bool sorted = true;
    uint32_t node = bucket->head;
    while (node != SYMBOL_NONE) {
        uint32_t *positions =
            grow(scratch->positions, &scratch->position_capacity, count + 1, sizeof *positions);
        if (!positions) {
            m->failed = true;
            return 0;
        }
        scratch->positions = positions;
        uint32_t position = scratch->nodes[node].position;
        sorted = sorted && (count == 0 || scratch->positions[count - 1] <= position);
        scratch->positions[count++] = position;
        uint32_t next = scratch->nodes[node].next;
        scratch->nodes[node].next = m->node_free;
        m->node_free = node;
        node = next;
    }
    bucket->head = SYMBOL_NONE;
    bits_set(scratch, rank, false);
    if (!sorted) {
        qsort(scratch->positions, count, sizeof *scratch->positions, compare_positions);
    }
    return count;
}

static void run_lists(struct merger *m)
{
    uint32_t rank;
    while (!m->failed && (rank = bits_first(m->scratch)) != SYMBOL_NONE) {
        m->list_floor = rank + 1;
        size_t count = open_bucket(m, rank);
        size_t i = 0;
        while (!m->failed && (i < count || m->heap_count > 0)) {
            uint64_t key = i < count ? (uint64_t)rank << 32 | m->scratch->positions[i] : UINT64_MAX;
            if (m->heap_count > 0 && m->scratch->heap[0] < key) {
                key = heap_pop(m);
            } else {
                i++;
            }
            try_merge(m, (uint32_t)(key >> 32), (uint32_t)key);
        }
    }
}

static bool prepare_lists(struct merger *m)
{
    struct merge_scratch *scratch = m->scratch;
    m->lists = true;
    m->node_free = SYMBOL_NONE;
    m->list_floor = 0;
    if (scratch->buckets) {
        return true; /* every run leaves them empty */
    }
    uint32_t count = m->table->rank_count + 1;
    size_t words = bits_words(count, 0) + bits_words(count, 1) + bits_words(count, 2);
    scratch->buckets = malloc((size_t)count * sizeof *scratch->buckets);
    scratch->bits = calloc(words, sizeof *scratch->bits);
    if (!scratch->buckets || !scratch->bits) {
        free(scratch->buckets);
        free(scratch->bits);
        scratch->buckets = NULL;
        scratch->bits = NULL;
        return false;
    }
    scratch->bucket_count = count;
    memset(scratch->buckets, 0xFF, (size_t)count * sizeof *scratch->buckets);
    return true;
}

/* After a failure the lists are not empty: drop them. */
static void drop_lists(struct merge_scratch *scratch)
{
    free(scratch->buckets);
    free(scratch->bits);
    scratch->buckets = NULL;
    scratch->bits = NULL;
}

static llcuda_status merge_linked(struct merger *m, bool lists, size_t *count,
                                  struct llcuda_error *error)
{
    size_t n = *count;
    uint32_t *links = grow(m->scratch->links, &m->scratch->link_capacity, 2 * n, sizeof *links);
    if (links) {
        m->scratch->links = links;
    }
    if (!links || (lists && !prepare_lists(m))) {
        return error_no_memory(error, "the symbols of a word", n * 8);
    }
    m->previous = m->scratch->links;
    m->next = m->scratch->links + n;
    for (size_t i = 0; i < n; i++) {
        m->previous[i] = i ? (uint32_t)(i - 1) : SYMBOL_NONE;
        m->next[i] = i + 1 < n ? (uint32_t)(i + 1) : SYMBOL_NONE;
    }
    for (size_t i = 0; i + 1 < n && !m->failed; i++) {
        queue_pair(m, (uint32_t)i);
    }
    while (m->heap_count > 0 && !m->failed) {
        uint64_t key = heap_pop(m);
        try_merge(m, (uint32_t)(key >> 32), (uint32_t)key);
    }
    if (lists) {
        run_lists(m);
        if (m->failed) {
            drop_lists(m->scratch);
        }
    }
    if (m->failed) {
        return error_no_memory(error, "the merges of a word", n * 8);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (m->symbols[i] != SYMBOL_NONE) {
            m->symbols[kept++] = m->symbols[i];
        }
    }
    *count = kept;
    return LLCUDA_OK;
}

llcuda_status merge_symbols(const struct merge_table *table, struct merge_scratch *scratch,
                            enum merge_method method, uint32_t *symbols, size_t *count,
                            struct llcuda_error *error)
{
    if (*count < 2) {
        return LLCUDA_OK;
    }
    if (table->reversible && !scratch->reverse) {
        scratch->reverse = malloc(2 * (size_t)table->token_count * sizeof *scratch->reverse);
        if (!scratch->reverse) {
            return error_no_memory(error, "the parts of unused tokens", table->token_count * 8ull);
        }
        memset(scratch->reverse, 0xFF, 2 * (size_t)table->token_count * sizeof *scratch->reverse);
    }
    if (method == MERGE_BY_LENGTH) {
        method = *count <= SCAN_SYMBOLS_MAX   ? MERGE_BY_SCAN
                 : *count <= HEAP_SYMBOLS_MAX ? MERGE_BY_HEAP
                                              : MERGE_BY_LISTS;
    }
    if (method == MERGE_BY_SCAN) {
        *count = merge_by_scan(table, scratch, symbols, *count);
        return LLCUDA_OK;
    }
    struct merger merger = {.table = table, .scratch = scratch, .symbols = symbols};
    return merge_linked(&merger, method == MERGE_BY_LISTS, count, error);
}
