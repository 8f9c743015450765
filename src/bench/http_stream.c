/* Owns the reading of answers. Lines may end in LF or CRLF: servers differ, and a client that only
 * measures has nothing to protect but itself. */
#include "bench/http_stream.h"

#include <strings.h>

#define LINE_BYTES_MAX  (1u << 20)
#define BODY_BYTES_MAX  65536u
#define FRAME_BYTES_MAX 1024u
#define LENGTH_MAX      (1ull << 40)

enum { STATUS_LINE, HEADERS, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILERS };

void http_stream_reset(struct http_stream *stream)
{
    struct buffer line = stream->line;
    struct buffer body = stream->body;
    struct buffer frame = stream->frame;
    buffer_clear(&frame);
    buffer_clear(&line);
    buffer_clear(&body);
    *stream = (struct http_stream){.line = line, .body = body, .frame = frame};
}

void http_stream_deinit(struct http_stream *stream)
{
    buffer_deinit(&stream->line);
    buffer_deinit(&stream->body);
    buffer_deinit(&stream->frame);
}

static bool read_digits(struct text_view text, uint32_t base, uint64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < text.length; i++) {
        char c = text.data[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 99;
        if (digit >= base) {
            break;
        }
        value = value * base + digit;
        if (value > LENGTH_MAX) {
            return false;
        }
    }
    *out = value;
    return i > 0;
}

static bool has_prefix(struct text_view line, const char *prefix, struct text_view *rest)
{
    size_t length = strlen(prefix);
    if (line.length < length || strncasecmp(line.data, prefix, length) != 0) {
        return false;
    }
    *rest = text_view_make(line.data + length, line.length - length);
    while (rest->length && rest->data[0] == ' ') {
        rest->data++;
        rest->length--;
    }
    return true;
}

static void take_header(struct http_stream *stream, struct text_view line)
{
    struct text_view value;
    if (has_prefix(line, "content-length:", &value)) {
        stream->has_length = read_digits(value, 10, &stream->left);
        stream->broken = !stream->has_length;
    } else if (has_prefix(line, "transfer-encoding:", &value)) {
        stream->chunked = has_prefix(value, "chunked", &value);
    } else if (has_prefix(line, "content-type:", &value)) {
        stream->events = has_prefix(value, "text/event-stream", &value);
    } else if (has_prefix(line, "connection:", &value)) {
        stream->close = has_prefix(value, "close", &value);
    }
}

static void end_head(struct http_stream *stream)
{
    if (stream->status == 100) {
        stream->state = STATUS_LINE; /* the real answer follows */
    } else if (stream->chunked) {
        stream->state = CHUNK_SIZE;
    } else {
        stream->state = BODY;
        stream->done = (stream->has_length && stream->left == 0) || stream->status == 204;
    }
}

/* A whole line of the framing, without its end. */
static void take_line(struct http_stream *stream, struct text_view line)
{
    uint64_t number = 0;
    struct text_view rest;
    if (stream->state == STATUS_LINE) {
        bool fine = has_prefix(line, "HTTP/1.", &rest) && rest.length > 2;
        fine = fine && read_digits(text_view_make(rest.data + 2, rest.length - 2), 10, &number);
        stream->broken = !fine || number > 999;
        stream->status = (int)number;
        stream->state = HEADERS;
    } else if (stream->state == HEADERS) {
        if (line.length == 0) {
            end_head(stream);
        } else {
            take_header(stream, line);
        }
    } else if (stream->state == CHUNK_SIZE) {
        stream->broken = !read_digits(line, 16, &stream->left);
        stream->state = stream->left ? CHUNK : TRAILERS;
    } else if (stream->state == CHUNK_END) {
        stream->broken = line.length != 0;
        stream->state = CHUNK_SIZE;
    } else if (stream->state == TRAILERS) {
        stream->done = line.length == 0;
    }
}

/* Finds a line's end in `data`; true when the line is whole, and then *line is it without its end,
 * where it lies or, if it began before, in `part`, which is to be cleared behind it. *taken counts
 * the end too. */
static bool gather_line(struct http_stream *stream, struct buffer *part, size_t bytes_max,
                        struct text_view data, size_t *taken, struct text_view *line)
{
    const char *end = memchr(data.data, '\n', data.length);
    *taken = end ? (size_t)(end - data.data) + 1 : data.length;
    *line = text_view_make(data.data, end ? *taken - 1 : *taken);
    if (line->length > bytes_max - part->length ||
        ((!end || part->length) && !buffer_append_view(part, *line))) {
        stream->broken = true;
        return false;
    }
    *line = part->length ? buffer_view(part) : *line;
    line->length -= end && line->length && line->data[line->length - 1] == '\r';
    return end != NULL;
}

static void take_content(struct http_stream *stream, const char *data, size_t bytes,
                         void (*event)(void *user, struct text_view data), void *user)
{
    if (!stream->events) {
        size_t room = BODY_BYTES_MAX - stream->body.length;
        buffer_append(&stream->body, data, bytes < room ? bytes : room);
        return;
    }
    while (bytes && !stream->broken) {
        size_t taken;
        struct text_view line;
        struct text_view text;
        bool whole = gather_line(stream, &stream->line, LINE_BYTES_MAX, text_view_make(data, bytes),
                                 &taken, &line);
        if (whole && has_prefix(line, "data:", &text)) {
            event(user, text);
        }
        if (whole) {
            buffer_clear(&stream->line);
        }
        data += taken;
        bytes -= taken;
    }
}

size_t http_stream_feed(struct http_stream *stream, const char *data, size_t bytes,
                        void (*event)(void *user, struct text_view data), void *user)
{
    size_t used = 0;
    while (used < bytes && !stream->done && !stream->broken) {
        size_t taken;
        if (stream->state == BODY || stream->state == CHUNK) {
            uint64_t room =
                stream->state == CHUNK || stream->has_length ? stream->left : UINT64_MAX;
            taken = bytes - used < room ? bytes - used : (size_t)room;
            take_content(stream, data + used, taken, event, user);
            stream->left -= room == UINT64_MAX ? 0 : taken;
            if (room != UINT64_MAX && stream->left == 0) {
                stream->done = stream->state == BODY;
                stream->state = stream->state == CHUNK ? CHUNK_END : stream->state;
            }
        } else {
            /* A chunk may end inside an event's line, which is kept meanwhile. */
            bool frame = stream->chunked && stream->state >= CHUNK_SIZE;
            struct buffer *part = frame ? &stream->frame : &stream->line;
            struct text_view line;
            if (gather_line(stream, part, frame ? FRAME_BYTES_MAX : LINE_BYTES_MAX,
                            text_view_make(data + used, bytes - used), &taken, &line)) {
                take_line(stream, line);
                buffer_clear(part);
            }
        }
        used += taken;
    }
    return used;
}

void http_stream_close(struct http_stream *stream)
{
    bool whole = stream->state == BODY && !stream->has_length;
    stream->done = stream->done || whole;
    stream->broken = !stream->done;
}
