/* Owns the strict reading of HTTP/1.1 requests. Invariant: a byte is looked at once, and a request
 * is either whole and unambiguous or refused. Knows nothing of sockets or of what requests mean. */
#include "net/http_reader.h"

const struct http_limits http_limits_default = {
    .line_bytes = 8192,
    .header_count = 100,
    .header_bytes = 65536,
    .body_bytes = 64ull << 20,
};

enum state {
    STATE_START, /* before the first byte of a request: one empty line is forgiven, as RFC 9112 asks
                  */
    STATE_REQUEST_LINE,
    STATE_HEADER,
    STATE_BODY,
    STATE_CHUNK_SIZE,
    STATE_CHUNK_DATA,
    STATE_CHUNK_END,
    STATE_TRAILER,
    STATE_DONE,
    STATE_REFUSED
};

void http_reader_init(struct http_reader *reader, const struct http_limits *limits)
{
    *reader = (struct http_reader){.limits = limits ? *limits : http_limits_default};
    arena_init(&reader->arena, 0);
}

void http_reader_deinit(struct http_reader *reader)
{
    arena_deinit(&reader->arena);
    buffer_deinit(&reader->line);
    buffer_deinit(&reader->body);
}

void http_reader_next(struct http_reader *reader)
{
    arena_reset(&reader->arena);
    buffer_clear(&reader->line);
    /* A connection that once sent a large body does not hold its memory for ever. */
    if (reader->body.capacity > 65536) {
        buffer_deinit(&reader->body);
    }
    buffer_clear(&reader->body);
    reader->request = (struct http_request){0};
    reader->state = STATE_START;
    reader->body_left = 0;
    reader->header_bytes = 0;
    reader->header_capacity = 0;
    reader->chunked = false;
    reader->has_length = false;
}

bool http_reader_busy(const struct http_reader *reader)
{
    return reader->state != STATE_START || reader->line.length > 0;
}

static bool refuse(struct http_reader *reader, int status, const char *reason)
{
    reader->state = STATE_REFUSED;
    reader->refusal = status;
    reader->reason = reason;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_token_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct text_view text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (!is_token_character(text.data[i])) {
            return false;
        }
    }
    return text.length > 0;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool http_name_is(struct text_view name, const char *lower_case)
{
    size_t i = 0;
    for (; i < name.length && lower_case[i]; i++) {
        if (lower(name.data[i]) != lower_case[i]) {
            return false;
        }
    }
    return i == name.length && lower_case[i] == 0;
}

static struct text_view trim(struct text_view text)
{
    while (text.length && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length &&
           (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

bool http_value_has_token(struct text_view value, const char *lower_case)
{
    size_t begin = 0;
    for (size_t i = 0; i <= value.length; i++) {
        if (i == value.length || value.data[i] == ',') {
            struct text_view item = trim(text_view_make(value.data + begin, i - begin));
            if (http_name_is(item, lower_case)) {
                return true;
            }
            begin = i + 1;
        }
    }
    return false;
}

struct text_view http_request_header(const struct http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (http_name_is(request->headers[i].name, name)) {
            return request->headers[i].value;
        }
    }
    return text_view_make(NULL, 0);
}

/* "GET /path HTTP/1.1": one space each, nothing else. */
static bool read_request_line(struct http_reader *reader)
{
    struct http_request *request = &reader->request;
    struct text_view line = arena_copy_text(&reader->arena, buffer_view(&reader->line));
    if (!line.data) {
        return refuse(reader, 503, "out of memory");
    }
    const char *first = memchr(line.data, ' ', line.length);
    const char *end = line.data + line.length;
    const char *second = first ? memchr(first + 1, ' ', (size_t)(end - first - 1)) : NULL;
    if (!second) {
        return refuse(reader, 400, "malformed request line");
    }
    request->method = text_view_make(line.data, (size_t)(first - line.data));
    request->target = text_view_make(first + 1, (size_t)(second - first - 1));
    struct text_view version = text_view_make(second + 1, (size_t)(end - second - 1));
    if (!is_token(request->method)) {
        return refuse(reader, 400, "malformed method");
    }
    if (text_view_is(version, "HTTP/1.0")) {
        request->version_1_0 = true;
    } else if (!text_view_is(version, "HTTP/1.1")) {
        bool other = version.length == 8 && memcmp(version.data, "HTTP/", 5) == 0 &&
                     is_digit(version.data[5]) && version.data[6] == '.' &&
                     is_digit(version.data[7]);
        return refuse(reader, other ? 505 : 400, other ? "HTTP version" : "malformed version");
    }
    if (request->target.length == 0 || request->target.data[0] != '/') {
        return refuse(reader, 400, "the target is no absolute path");
    }
    for (size_t i = 0; i < request->target.length; i++) {
        unsigned char c = (unsigned char)request->target.data[i];
        if (c <= ' ' || c >= 0x7f || c == '#') {
            return refuse(reader, 400, "malformed target");
        }
    }
    const char *question = memchr(request->target.data, '?', request->target.length);
    request->path = request->target;
    if (question) {
        request->path.length = (size_t)(question - request->target.data);
        request->query =
            text_view_make(question + 1, request->target.length - request->path.length - 1);
    }
    request->keep_alive = !request->version_1_0;
    reader->state = STATE_HEADER;
    return true;
}

/* Digits only, no sign, no space, no more than 18 of them. */
static bool read_length(struct text_view text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.length == 0 || text.length > 18) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (!is_digit(text.data[i])) {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *out = value;
    return true;
}

/* Headers that decide where the request ends or whom it is for. */
static bool read_framing(struct http_reader *reader, const struct http_header *header)
{
    struct http_request *request = &reader->request;
    if (http_name_is(header->name, "content-length")) {
        if (reader->has_length || !read_length(header->value, &reader->body_left)) {
            return refuse(reader, 400, "malformed Content-Length");
        }
        reader->has_length = true;
    } else if (http_name_is(header->name, "transfer-encoding")) {
        if (reader->chunked || request->version_1_0) {
            return refuse(reader, 400, "malformed Transfer-Encoding");
        }
        if (!http_name_is(header->value, "chunked")) {
            return refuse(reader, 501, "only the chunked transfer coding is supported");
        }
        reader->chunked = true;
    } else if (http_name_is(header->name, "host")) {
        if (request->host.data) {
            return refuse(reader, 400, "two Host headers");
        }
        request->host = header->value;
    } else if (http_name_is(header->name, "connection")) {
        if (http_value_has_token(header->value, "close")) {
            request->keep_alive = false;
        } else if (request->version_1_0 && http_value_has_token(header->value, "keep-alive")) {
            request->keep_alive = true;
        }
    } else if (http_name_is(header->name, "expect")) {
        if (!http_name_is(header->value, "100-continue")) {
            return refuse(reader, 417, "unknown expectation");
        }
        request->expect_continue = !request->version_1_0;
    }
    return true;
}

static bool grow_headers(struct http_reader *reader)
{
    struct http_request *request = &reader->request;
    uint32_t capacity = reader->header_capacity ? reader->header_capacity * 2 : 16;
    struct http_header *headers = arena_alloc(&reader->arena, capacity, sizeof *request->headers);
    if (!headers) {
        return refuse(reader, 503, "out of memory");
    }
    if (request->header_count) {
        memcpy(headers, request->headers, request->header_count * sizeof *headers);
    }
    request->headers = headers;
    reader->header_capacity = capacity;
    return true;
}

static bool read_header(struct http_reader *reader)
{
    struct http_request *request = &reader->request;
    struct text_view line = arena_copy_text(&reader->arena, buffer_view(&reader->line));
    if (!line.data) {
        return refuse(reader, 503, "out of memory");
    }
    if (request->header_count >= reader->limits.header_count) {
        return refuse(reader, 431, "too many headers");
    }
    const char *colon = memchr(line.data, ':', line.length);
    struct http_header header = {0};
    if (colon) {
        header.name = text_view_make(line.data, (size_t)(colon - line.data));
        header.value = trim(text_view_make(colon + 1, line.length - header.name.length - 1));
    }
    /* A token has no spaces: this refuses "Name : value" and folded lines alike. */
    if (!is_token(header.name)) {
        return refuse(reader, 400, "malformed header");
    }
    for (size_t i = 0; i < header.value.length; i++) {
        unsigned char c = (unsigned char)header.value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return refuse(reader, 400, "control character in a header");
        }
    }
    if (request->header_count == reader->header_capacity && !grow_headers(reader)) {
        return false;
    }
    request->headers[request->header_count++] = header;
    return read_framing(reader, &header);
}

static void finish(struct http_reader *reader)
{
    reader->request.body = buffer_view(&reader->body);
    reader->state = STATE_DONE;
}

/* The empty line after the headers. */
static bool end_headers(struct http_reader *reader)
{
    const struct http_request *request = &reader->request;
    if (!request->host.data && !request->version_1_0) {
        return refuse(reader, 400, "no Host header");
    }
    if (reader->chunked && reader->has_length) {
        return refuse(reader, 400, "Content-Length with Transfer-Encoding");
    }
    if (reader->has_length && reader->body_left > reader->limits.body_bytes) {
        return refuse(reader, 413, "the body is too large");
    }
    if (reader->chunked) {
        reader->state = STATE_CHUNK_SIZE;
    } else if (reader->has_length && reader->body_left > 0) {
        reader->state = STATE_BODY;
    } else {
        finish(reader);
    }
    return true;
}

/* Hexadecimal digits, then nothing or an extension, which is passed over. */
static bool read_chunk_size(struct http_reader *reader)
{
    struct text_view line = buffer_view(&reader->line);
    uint64_t size = 0;
    size_t digits = 0;
    while (digits < line.length && digits < 16) {
        char c = lower(line.data[digits]);
        if (is_digit(c)) {
            size = size << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            size = size << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            break;
        }
        digits++;
    }
    bool ended = digits == line.length || line.data[digits] == ';';
    if (digits == 0 || digits > 15 || !ended) {
        return refuse(reader, 400, "malformed chunk size");
    }
    if (line.length > digits + 256) {
        return refuse(reader, 400, "the chunk extension is too long");
    }
    if (size > reader->limits.body_bytes - reader->body.length) {
        return refuse(reader, 413, "the body is too large");
    }
    reader->body_left = size;
    reader->state = size ? STATE_CHUNK_DATA : STATE_TRAILER;
    return true;
}

/* A whole line, without its CRLF, is in reader->line. */
static bool read_line(struct http_reader *reader)
{
    bool empty = reader->line.length == 0;
    switch ((enum state)reader->state) {
    case STATE_START:
        if (empty) {
            reader->state = STATE_REQUEST_LINE;
            return true;
        }
        return read_request_line(reader);
    case STATE_REQUEST_LINE:
        return read_request_line(reader);
    case STATE_HEADER:
        return empty ? end_headers(reader) : read_header(reader);
    case STATE_CHUNK_SIZE:
        return read_chunk_size(reader);
    case STATE_CHUNK_END:
        if (!empty) {
            return refuse(reader, 400, "no line end after a chunk");
        }
        reader->state = STATE_CHUNK_SIZE;
        return true;
    case STATE_TRAILER:
        /* Trailers could only change what has been decided: they are counted and dropped. */
        if (empty) {
            finish(reader);
        }
        return true;
    case STATE_BODY:
    case STATE_CHUNK_DATA:
    case STATE_DONE:
    case STATE_REFUSED:
        break;
    }
    return refuse(reader, 500, "internal state");
}

/* Chunk-size lines are bounded by the body: each carries a byte of it. */
static bool count_line(struct http_reader *reader)
{
    if (reader->state != STATE_HEADER && reader->state != STATE_TRAILER) {
        return true;
    }
    reader->header_bytes += reader->line.length + 2;
    return reader->header_bytes <= reader->limits.header_bytes ||
           refuse(reader, 431, "the headers are too large");
}

/* Takes bytes of a line; true in *whole when it has ended. */
static bool take_line(struct http_reader *reader, const char *data, size_t bytes, size_t *taken,
                      bool *whole)
{
    bool first = reader->state == STATE_START || reader->state == STATE_REQUEST_LINE;
    const char *end = memchr(data, '\n', bytes);
    size_t length = end ? (size_t)(end - data) + 1 : bytes;
    *taken = length;
    *whole = end != NULL;
    if (reader->line.length + length > (size_t)reader->limits.line_bytes + 2) {
        return first ? refuse(reader, 414, "the request line is too long")
                     : refuse(reader, 431, "a header line is too long");
    }
    if (!buffer_append(&reader->line, data, length)) {
        return refuse(reader, 503, "out of memory");
    }
    if (!end) {
        return true;
    }
    size_t total = reader->line.length;
    if (total < 2 || reader->line.data[total - 2] != '\r') {
        return refuse(reader, 400, "bare line feed");
    }
    reader->line.length = total - 2;
    reader->line.data[total - 2] = 0;
    if (memchr(reader->line.data, '\r', total - 2) || memchr(reader->line.data, 0, total - 2)) {
        return refuse(reader, 400, "bare carriage return or NUL");
    }
    return true;
}

static bool take_body(struct http_reader *reader, const char *data, size_t bytes, size_t *taken)
{
    size_t length = bytes < reader->body_left ? bytes : (size_t)reader->body_left;
    *taken = length;
    if (!buffer_append(&reader->body, data, length)) {
        return refuse(reader, 503, "out of memory");
    }
    reader->body_left -= length;
    if (reader->body_left == 0) {
        if (reader->state == STATE_BODY) {
            finish(reader);
        } else {
            reader->state = STATE_CHUNK_END;
        }
    }
    return true;
}

enum http_progress http_reader_feed(struct http_reader *reader, const char *data, size_t bytes,
                                    size_t *taken)
{
    *taken = 0;
    while (*taken < bytes && reader->state != STATE_DONE && reader->state != STATE_REFUSED) {
        size_t part = 0;
        bool in_headers = reader->state == STATE_HEADER;
        if (reader->state == STATE_BODY || reader->state == STATE_CHUNK_DATA) {
            take_body(reader, data + *taken, bytes - *taken, &part);
        } else {
            bool whole = false;
            if (take_line(reader, data + *taken, bytes - *taken, &part, &whole) && whole &&
                count_line(reader)) {
                read_line(reader);
                buffer_clear(&reader->line);
            }
        }
        *taken += part;
        if (in_headers && (reader->state == STATE_BODY || reader->state == STATE_CHUNK_SIZE)) {
            return HTTP_HEADERS;
        }
    }
    if (reader->state == STATE_REFUSED) {
        return HTTP_REFUSED;
    }
    return reader->state == STATE_DONE ? HTTP_REQUEST : HTTP_MORE;
}
