/* Owns one growing allocation. Invariant: data is NULL or data[length] is NUL. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buffer_init(struct buffer *buffer, size_t limit_bytes)
{
    *buffer = (struct buffer){.limit_bytes = limit_bytes};
}

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->data);
    buffer_init(buffer, buffer->limit_bytes);
}

void buffer_clear(struct buffer *buffer)
{
    buffer->length = 0;
    buffer->failed = false;
    if (buffer->data) {
        buffer->data[0] = 0;
    }
}

bool buffer_reserve(struct buffer *buffer, size_t bytes)
{
    size_t limit = buffer->limit_bytes ? buffer->limit_bytes : SIZE_MAX - 1;
    if (bytes > limit || buffer->length > limit - bytes) {
        buffer->failed = true;
        return false;
    }
    size_t needed = buffer->length + bytes + 1;
    if (needed <= buffer->capacity) {
        return true;
    }
    size_t capacity = buffer->capacity < 32 ? 64 : buffer->capacity;
    while (capacity < needed) {
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    }
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    buffer->data[buffer->length] = 0;
    return true;
}

bool buffer_append(struct buffer *buffer, const void *data, size_t bytes)
{
    if (!buffer_reserve(buffer, bytes)) {
        return false;
    }
    if (bytes) {
        memcpy(buffer->data + buffer->length, data, bytes);
    }
    buffer->length += bytes;
    buffer->data[buffer->length] = 0;
    return true;
}

bool buffer_append_text(struct buffer *buffer, const char *text)
{
    return buffer_append(buffer, text, strlen(text));
}

bool buffer_append_view(struct buffer *buffer, struct text_view view)
{
    return buffer_append(buffer, view.data, view.length);
}

bool buffer_append_byte(struct buffer *buffer, char byte)
{
    return buffer_append(buffer, &byte, 1);
}

bool buffer_append_unsigned(struct buffer *buffer, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return buffer_append(buffer, digits + at, sizeof digits - at);
}

#define DIGITS_MAX 10u /* of 32 bits */

static size_t count_digits(uint32_t value)
{
    static const uint32_t powers[] = {10,      100,      1000,      10000,     100000,
                                      1000000, 10000000, 100000000, 1000000000};
    size_t digits = 1;
    while (digits < DIGITS_MAX && value >= powers[digits - 1]) {
        digits++;
    }
    return digits;
}

/* The digits of a value, two at a time and each at its place; returns their end. */
static char *put_digits(char *at, uint32_t value)
{
    static const char pairs[] = "0001020304050607080910111213141516171819"
                                "2021222324252627282930313233343536373839"
                                "4041424344454647484950515253545556575859"
                                "6061626364656667686970717273747576777879"
                                "8081828384858687888990919293949596979899";
    char *end = at + count_digits(value);
    for (at = end; value >= 10; value /= 100) {
        at -= 2;
        memcpy(at, pairs + 2 * (value % 100), 2);
    }
    if (value || at == end) {
        *--at = (char)('0' + value);
    }
    return end;
}

bool buffer_append_list(struct buffer *buffer, const uint32_t *values, size_t count)
{
    if (count > SIZE_MAX / (DIGITS_MAX + 1) || !buffer_reserve(buffer, count * (DIGITS_MAX + 1))) {
        buffer->failed = true;
        return false;
    }
    char *at = buffer->data + buffer->length;
    for (size_t i = 0; i < count; i++) {
        at = put_digits(at, values[i]);
        *at++ = ',';
    }
    buffer->length = (size_t)(at - buffer->data) - (count > 0);
    buffer->data[buffer->length] = 0;
    return true;
}

bool buffer_printf(struct buffer *buffer, const char *format, ...)
{
    /* Mostly there is room, and once is enough. */
    va_list arguments;
    size_t room = buffer->data ? buffer->capacity - buffer->length : 0;
    va_start(arguments, format);
    int length = vsnprintf(room ? buffer->data + buffer->length : NULL, room, format, arguments);
    va_end(arguments);
    bool limited =
        buffer->limit_bytes && length >= 0 && buffer->length + (size_t)length > buffer->limit_bytes;
    if (length >= 0 && (size_t)length < room && !limited) {
        buffer->length += (size_t)length;
        return true;
    }
    if (room) {
        buffer->data[buffer->length] = 0;
    }
    if (length < 0 || !buffer_reserve(buffer, (size_t)length)) {
        buffer->failed = true;
        return false;
    }
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
    return true;
}

const char *buffer_text(const struct buffer *buffer)
{
    return buffer->data ? buffer->data : "";
}

struct text_view buffer_view(const struct buffer *buffer)
{
    return text_view_make(buffer_text(buffer), buffer->length);
}
