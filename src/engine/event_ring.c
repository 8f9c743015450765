/* Owns nothing: moves bytes in a ring that a request owns. Invariant: tail ≤ head ≤ write_pending ≤
 * tail + capacity. Stores of head and tail are sequentially consistent, because each side looks at
 * a flag of the other one afterwards (a sleeping reader, a paused writer). */
#include "engine/event_ring.h"

#include <assert.h>

void event_ring_init(struct event_ring *ring, char *data, uint32_t capacity)
{
    assert((capacity & (capacity - 1)) == 0);
    *ring = (struct event_ring){.data = data, .mask = capacity - 1};
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
}

uint32_t event_ring_room(const struct event_ring *ring)
{
    uint64_t used = ring->write_pending - atomic_load(&ring->tail);
    return ring->mask + 1 - (uint32_t)used;
}

static void put(struct event_ring *ring, const void *data, size_t bytes)
{
    uint32_t at = (uint32_t)ring->write_pending & ring->mask;
    size_t first = (size_t)ring->mask + 1 - at;
    if (first > bytes) {
        first = bytes;
    }
    if (bytes > 0) {
        memcpy(ring->data + at, data, first);
        memcpy(ring->data, (const char *)data + first, bytes - first);
    }
    ring->write_pending += bytes;
}

static void get(const struct event_ring *ring, uint64_t position, void *data, size_t bytes)
{
    uint32_t at = (uint32_t)position & ring->mask;
    size_t first = (size_t)ring->mask + 1 - at;
    if (first > bytes) {
        first = bytes;
    }
    if (bytes > 0) {
        memcpy(data, ring->data + at, first);
        memcpy((char *)data + first, ring->data, bytes - first);
    }
}

void event_ring_write(struct event_ring *ring, const struct event_record *record,
                      const llcuda_top_logprob *top, struct text_view text)
{
    assert(record->text_bytes == text.length);
    assert(sizeof *record + record->top_count * sizeof *top + text.length <= event_ring_room(ring));
    put(ring, record, sizeof *record);
    put(ring, top, record->top_count * sizeof *top);
    put(ring, text.data, text.length);
}

void event_ring_publish(struct event_ring *ring)
{
    atomic_store(&ring->head, ring->write_pending);
}

bool event_ring_peek(const struct event_ring *ring, struct event_record *record)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (atomic_load(&ring->head) == tail) {
        return false;
    }
    get(ring, tail, record, sizeof *record);
    return true;
}

void event_ring_pop(struct event_ring *ring, const struct event_record *record,
                    llcuda_top_logprob *top, char *text)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t position = tail + sizeof *record;
    get(ring, position, top, record->top_count * sizeof *top);
    position += record->top_count * sizeof *top;
    get(ring, position, text, record->text_bytes);
    atomic_store(&ring->tail, position + record->text_bytes);
}
