/* Two orders over sequences and binary heaps in them: the queue, by tag, and the deadlines. A
 * sequence knows its place in each, so that it can leave at any moment. */
#ifndef ENGINE_SEQUENCE_HEAP_H
#define ENGINE_SEQUENCE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#define HEAP_NO_INDEX UINT32_MAX

struct sequence;

enum heap_order { HEAP_BY_TAG, HEAP_BY_DEADLINE };

struct heap {
    struct sequence **items; /* owned by the scheduler, with room for every sequence */
    uint32_t count;
    enum heap_order order;
};

/* True when `a` goes before `b` in tag order; ids break ties, so that the order is strict. */
bool sequence_before(const struct sequence *a, const struct sequence *b);

void heap_push(struct heap *heap, struct sequence *sequence);
/* Removes a sequence; nothing when it is not in this heap. */
void heap_remove(struct heap *heap, struct sequence *sequence);
/* True when every item goes before its children and knows its place; for tests. */
bool heap_valid(const struct heap *heap);

#endif
