/* Owns the chunks of an arena. Invariant: `used` counts bytes in the newest chunk only; older
 * chunks are full or were too small for a large request. Not thread-safe by design. */
#include "base/arena.h"

#include <stdlib.h>

#include "base/checked.h"

#define ARENA_ALIGNMENT 16u
/* The first chunk. Small, because each request of a server has several arenas; doubling makes up
 * for it where more is needed. */
#define ARENA_CHUNK_BYTES 1024u

struct arena_chunk {
    struct arena_chunk *older;
    size_t capacity; /* bytes of data behind the header */
    _Alignas(ARENA_ALIGNMENT) unsigned char data[];
};

void arena_init(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){.limit_bytes = limit_bytes ? limit_bytes : SIZE_MAX};
}

static void free_chain(struct arena_chunk *chunk)
{
    while (chunk) {
        struct arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
}

void arena_deinit(struct arena *arena)
{
    free_chain(arena->chunks);
    arena_init(arena, arena->limit_bytes == SIZE_MAX ? 0 : arena->limit_bytes);
}

void arena_reset(struct arena *arena)
{
    if (arena->chunks) {
        free_chain(arena->chunks->older);
        arena->chunks->older = NULL;
        arena->allocated_bytes = sizeof *arena->chunks + arena->chunks->capacity;
    }
    arena->used = 0;
}

/* Chunks double, so that an arena of n bytes costs O(log n) allocations. */
static bool grow(struct arena *arena, size_t bytes)
{
    size_t capacity = arena->chunks ? arena->chunks->capacity : ARENA_CHUNK_BYTES / 2;
    capacity = capacity > SIZE_MAX / 4 ? bytes : capacity * 2;
    if (capacity < bytes) {
        capacity = bytes;
    }
    size_t left = arena->limit_bytes - arena->allocated_bytes;
    if (left < sizeof(struct arena_chunk) || left - sizeof(struct arena_chunk) < bytes) {
        return false;
    }
    if (capacity > left - sizeof(struct arena_chunk)) {
        capacity = bytes;
    }
    struct arena_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (!chunk) {
        return false;
    }
    chunk->older = arena->chunks;
    chunk->capacity = capacity;
    arena->chunks = chunk;
    arena->used = 0;
    arena->allocated_bytes += sizeof *chunk + capacity;
    return true;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
    uint64_t bytes;
    if (!checked_mul_u64(count, size, &bytes) ||
        !checked_align_up_u64(bytes ? bytes : 1, ARENA_ALIGNMENT, &bytes) || bytes > SIZE_MAX / 2) {
        return NULL;
    }
    if (!arena->chunks || arena->chunks->capacity - arena->used < bytes) {
        if (!grow(arena, (size_t)bytes)) {
            return NULL;
        }
    }
    void *result = arena->chunks->data + arena->used;
    arena->used += (size_t)bytes;
    memset(result, 0, (size_t)bytes);
    return result;
}

struct text_view arena_copy_text(struct arena *arena, struct text_view text)
{
    char *copy = arena_alloc(arena, text.length + 1, 1);
    if (!copy) {
        return text_view_make(NULL, 0);
    }
    if (text.length) {
        memcpy(copy, text.data, text.length);
    }
    return text_view_make(copy, text.length);
}
