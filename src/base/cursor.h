/* A byte cursor over outside bytes: little-endian reads that cannot leave the range. A read past
 * the end returns false and moves nothing. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/view.h"

struct cursor {
    const uint8_t *data;
    uint64_t size;
    uint64_t position; /* never exceeds size */
};

static inline struct cursor cursor_make(const void *data, uint64_t size)
{
    struct cursor cursor = {data, size, 0};
    return cursor;
}

static inline uint64_t cursor_left(const struct cursor *cursor)
{
    return cursor->size - cursor->position;
}

/* Borrows the next `bytes` bytes. */
static inline bool cursor_take(struct cursor *cursor, uint64_t bytes, const uint8_t **data)
{
    if (bytes > cursor_left(cursor)) {
        return false;
    }
    *data = cursor->data + cursor->position;
    cursor->position += bytes;
    return true;
}

static inline bool cursor_read(struct cursor *cursor, void *out, size_t bytes)
{
    const uint8_t *data;
    if (!cursor_take(cursor, bytes, &data)) {
        return false;
    }
    memcpy(out, data, bytes);
    return true;
}

/* The supported machines are little-endian; base/platform.c asserts it. */
static inline bool cursor_read_u8(struct cursor *cursor, uint8_t *out)
{
    return cursor_read(cursor, out, sizeof *out);
}

static inline bool cursor_read_u32(struct cursor *cursor, uint32_t *out)
{
    return cursor_read(cursor, out, sizeof *out);
}

static inline bool cursor_read_u64(struct cursor *cursor, uint64_t *out)
{
    return cursor_read(cursor, out, sizeof *out);
}

#endif
