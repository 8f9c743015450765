/* Owns nothing: sifts pointers in arrays of the scheduler. */
#include "engine/sequence_heap.h"

#include "engine/scheduler.h"

bool sequence_before(const struct sequence *a, const struct sequence *b)
{
    return a->tag != b->tag ? a->tag < b->tag : a->id < b->id;
}

static bool before(const struct heap *heap, const struct sequence *a, const struct sequence *b)
{
    if (heap->order == HEAP_BY_DEADLINE) {
        return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->id < b->id;
    }
    return sequence_before(a, b);
}

static uint32_t *index_of(const struct heap *heap, struct sequence *sequence)
{
    return heap->order == HEAP_BY_DEADLINE ? &sequence->deadline_index : &sequence->wait_index;
}

static void place(struct heap *heap, uint32_t index, struct sequence *sequence)
{
    heap->items[index] = sequence;
    *index_of(heap, sequence) = index;
}

static void sift_up(struct heap *heap, uint32_t index, struct sequence *sequence)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!before(heap, sequence, heap->items[parent])) {
            break;
        }
        place(heap, index, heap->items[parent]);
        index = parent;
    }
    place(heap, index, sequence);
}

static void sift_down(struct heap *heap, uint32_t index, struct sequence *sequence)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && before(heap, heap->items[child + 1], heap->items[child])) {
            child++;
        }
        if (!before(heap, heap->items[child], sequence)) {
            break;
        }
        place(heap, index, heap->items[child]);
        index = child;
    }
    place(heap, index, sequence);
}

void heap_push(struct heap *heap, struct sequence *sequence)
{
    sift_up(heap, heap->count++, sequence);
}

void heap_remove(struct heap *heap, struct sequence *sequence)
{
    uint32_t index = *index_of(heap, sequence);
    if (index == HEAP_NO_INDEX) {
        return;
    }
    *index_of(heap, sequence) = HEAP_NO_INDEX;
    struct sequence *last = heap->items[--heap->count];
    if (last == sequence) {
        return;
    }
    if (index > 0 && before(heap, last, heap->items[(index - 1) / 2])) {
        sift_up(heap, index, last);
    } else {
        sift_down(heap, index, last);
    }
}

bool heap_valid(const struct heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++) {
        if (*index_of(heap, heap->items[i]) != i ||
            (i > 0 && before(heap, heap->items[i], heap->items[(i - 1) / 2]))) {
            return false;
        }
    }
    return true;
}
