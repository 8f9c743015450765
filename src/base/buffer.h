/* A growing byte buffer, for text that is being built. A failed append is remembered, so that a
 * caller may append many times and look once at the end. One owner, one thread at a time. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include "base/error.h"
#include "base/view.h"

struct buffer {
    char *data; /* NUL-terminated whenever it is not NULL */
    size_t length;
    size_t capacity;
    size_t limit_bytes; /* 0: no limit */
    bool failed;        /* an append found no memory or hit the limit; contents stay as they were */
};

/* In place, allocates nothing. A zeroed struct is a valid empty buffer without a limit. */
void buffer_init(struct buffer *buffer, size_t limit_bytes);
void buffer_deinit(struct buffer *buffer);
/* Empties the buffer and forgets a failure; keeps its memory. */
void buffer_clear(struct buffer *buffer);

/* Makes room for `bytes` more; false (and failed) when that is impossible. */
bool buffer_reserve(struct buffer *buffer, size_t bytes);

bool buffer_append(struct buffer *buffer, const void *data, size_t bytes);
bool buffer_append_text(struct buffer *buffer, const char *text);
bool buffer_append_view(struct buffer *buffer, struct text_view view);
bool buffer_append_byte(struct buffer *buffer, char byte);
/* Decimal digits, at a tenth of what buffer_printf takes. */
bool buffer_append_unsigned(struct buffer *buffer, uint64_t value);
/* Numbers with commas between them, in one go. */
bool buffer_append_list(struct buffer *buffer, const uint32_t *values, size_t count);
bool buffer_printf(struct buffer *buffer, const char *format, ...) BASE_PRINTF(2, 3);

/* The contents as a C string: never NULL. */
const char *buffer_text(const struct buffer *buffer);
struct text_view buffer_view(const struct buffer *buffer);

#endif
