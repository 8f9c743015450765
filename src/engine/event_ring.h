/* A bounded ring of event records from the engine thread to a request's reader: one writer, one
 * reader, no lock. Records have any length; the writer looks at the room first and never blocks.
 * Positions count bytes since the beginning and never wrap in practice (64 bits). */
#ifndef ENGINE_EVENT_RING_H
#define ENGINE_EVENT_RING_H

#include <stdatomic.h>

#include "base/view.h"
#include "llcuda/llcuda.h"

enum event_record_kind { RECORD_TOKEN, RECORD_FINISHED, RECORD_DONE };

/* A record in the ring: this, then `top_count` llcuda_top_logprob, then `text_bytes` of text. */
struct event_record {
    uint8_t kind; /* enum event_record_kind */
    uint8_t has_logprob;
    uint8_t finish_reason;
    uint8_t top_count;
    uint32_t choice;
    uint32_t token;
    int32_t stop_index;
    uint32_t text_bytes;
    float logprob;
    uint32_t rank;
};

struct event_ring {
    char *data;
    uint32_t mask;          /* capacity − 1, capacity a power of two */
    uint64_t write_pending; /* writer: written, not yet published */
    _Atomic uint64_t head;  /* published by the writer */
    _Atomic uint64_t tail;  /* published by the reader */
};

/* `data`: [capacity] bytes, owned elsewhere. */
void event_ring_init(struct event_ring *ring, char *data, uint32_t capacity);

/* Writer. */
uint32_t event_ring_room(const struct event_ring *ring);
/* The caller has looked at the room. */
void event_ring_write(struct event_ring *ring, const struct event_record *record,
                      const llcuda_top_logprob *top, struct text_view text);
void event_ring_publish(struct event_ring *ring);

/* Reader. False when empty; `record` is a copy, the rest stays in the ring until event_ring_pop. */
bool event_ring_peek(const struct event_ring *ring, struct event_record *record);
/* Copies the rest of the record just peeked, `top` [top_count] and `text` [text_bytes], and frees
 * its place. */
void event_ring_pop(struct event_ring *ring, const struct event_record *record,
                    llcuda_top_logprob *top, char *text);

#endif
