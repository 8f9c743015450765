/* An arena: many allocations, one release. Growable by chunks, bounded by a limit.
 * One owner, one thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/view.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used;                /* bytes used in the newest chunk */
    size_t allocated_bytes;     /* of all chunks together */
    size_t limit_bytes;         /* allocated_bytes never exceeds it */
};

/* In place, allocates nothing. `limit_bytes` 0 means no limit. */
void arena_init(struct arena *arena, size_t limit_bytes);

/* Frees every chunk; the arena is empty and usable again. */
void arena_deinit(struct arena *arena);

/* Keeps the newest chunk and forgets everything in it: cheap reuse for a step or a request. */
void arena_reset(struct arena *arena);

/* Zeroed memory for `count` items of `size` bytes, aligned to 16 bytes; NULL when memory or the
 * limit is exhausted or the product overflows. A zero-sized request gives a valid pointer. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);

/* A copy with a NUL after it (the NUL is not counted in the view); data is NULL on failure. */
struct text_view arena_copy_text(struct arena *arena, struct text_view text);

#endif
