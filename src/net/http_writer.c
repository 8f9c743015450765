/* Owns how answers look on the wire. Knows nothing of connections. */
#include "net/http_writer.h"

#include <time.h>

/* X(status, phrase) */
#define STATUS_LIST(X)                        \
    X(100, "Continue")                        \
    X(200, "OK")                              \
    X(204, "No Content")                      \
    X(304, "Not Modified")                    \
    X(400, "Bad Request")                     \
    X(401, "Unauthorized")                    \
    X(403, "Forbidden")                       \
    X(404, "Not Found")                       \
    X(405, "Method Not Allowed")              \
    X(408, "Request Timeout")                 \
    X(411, "Length Required")                 \
    X(413, "Content Too Large")               \
    X(414, "URI Too Long")                    \
    X(415, "Unsupported Media Type")          \
    X(417, "Expectation Failed")              \
    X(421, "Misdirected Request")             \
    X(422, "Unprocessable Content")           \
    X(429, "Too Many Requests")               \
    X(431, "Request Header Fields Too Large") \
    X(500, "Internal Server Error")           \
    X(501, "Not Implemented")                 \
    X(503, "Service Unavailable")             \
    X(504, "Gateway Timeout")                 \
    X(505, "HTTP Version Not Supported")

const char *http_status_text(int status)
{
    switch (status) {
#define STATUS_CASE(number, phrase) \
    case number:                    \
        return phrase;
        STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "Unknown";
    }
}

static void write_date(struct buffer *out)
{
    char text[64];
    time_t now = time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) &&
        strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts) > 0) {
        buffer_append_text(out, text);
    }
}

void http_write_head(struct buffer *out, int status, const char *content_type,
                     enum http_body_kind kind, size_t body_bytes, bool keep_alive,
                     struct text_view headers)
{
    buffer_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    write_date(out);
    if (content_type) {
        buffer_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (kind == HTTP_BODY_SIZED && status != 204 && status != 304) {
        buffer_printf(out, "Content-Length: %zu\r\n", body_bytes);
    } else if (kind == HTTP_BODY_CHUNKED) {
        buffer_append_text(out, "Transfer-Encoding: chunked\r\n");
    }
    if (!keep_alive || kind == HTTP_BODY_UNTIL_CLOSE) {
        buffer_append_text(out, "Connection: close\r\n");
    }
    buffer_append_view(out, headers);
    buffer_append_text(out, "\r\n");
}

void http_write_header(struct buffer *out, const char *name, struct text_view value)
{
    buffer_printf(out, "%s: ", name);
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c >= ' ' && c < 0x7f) {
            buffer_append_byte(out, (char)c);
        }
    }
    buffer_append_text(out, "\r\n");
}

void http_write_chunk(struct buffer *out, struct text_view data)
{
    if (data.length > 0) {
        buffer_printf(out, "%zx\r\n", data.length);
        buffer_append_view(out, data);
        buffer_append_text(out, "\r\n");
    }
}

void http_write_last_chunk(struct buffer *out)
{
    buffer_append_text(out, "0\r\n\r\n");
}
