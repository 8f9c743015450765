/* HTTP/1.1 requests, read strictly: one meaning for every byte (RFC 9112 without its permissions).
 * A pure state machine over the bytes of one connection; it owns no socket and never waits.
 *
 *     http_reader_init → loop { http_reader_feed until it reports a whole request or an error;
 *     answer; http_reader_next } → http_reader_deinit
 *
 * Refused, with a status to answer and the connection to be closed: a bare LF or CR, spaces before
 * a colon, folded headers, control characters, two Content-Length or two Host headers,
 * Content-Length with Transfer-Encoding, any transfer coding but "chunked", signs or spaces in
 * lengths, HTTP/1.0 with a transfer coding, a target that is no absolute path. What two readers
 * could take differently is an attack. One thread at a time. */
#ifndef NET_HTTP_READER_H
#define NET_HTTP_READER_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/view.h"

struct http_limits {
    uint32_t line_bytes;   /* request line, and each header line */
    uint32_t header_count; /* */
    uint32_t header_bytes; /* all header lines together */
    uint64_t body_bytes;   /* decoded */
};

/* 8 KiB lines, 100 headers, 64 KiB of them, 64 MiB of body. */
extern const struct http_limits http_limits_default;

struct http_header {
    struct text_view name;  /* as sent; compare with http_name_is */
    struct text_view value; /* without spaces around it */
};

struct http_request {
    struct text_view method; /* "GET"; a token */
    struct text_view target; /* as sent: path and query */
    struct text_view path;   /* before '?', not decoded */
    struct text_view query;  /* after '?', may be empty */
    bool version_1_0;
    bool keep_alive;      /* what the client wants, defaults applied */
    bool expect_continue; /* the client waits for "100 Continue" before it sends the body */
    struct text_view host;
    struct http_header *headers;
    uint32_t header_count;
    struct text_view body; /* decoded, whole */
};

enum http_progress {
    HTTP_MORE,    /* everything was taken, the request is not whole yet */
    HTTP_HEADERS, /* the header section is whole, the body is still to come: reported once */
    HTTP_REQUEST, /* a whole request */
    HTTP_REFUSED  /* answer http_reader.refusal and close */
};

struct http_reader {
    struct http_limits limits;
    struct arena arena; /* of the current request */
    struct http_request request;
    int refusal;           /* HTTP status of HTTP_REFUSED: 400, 411, 413, 414, 417, 431, 501, 505 */
    const char *reason;    /* of the refusal: a phrase for the answer */
    int state;             /* private */
    struct buffer line;    /* private: the current line */
    struct buffer body;    /* private */
    uint64_t body_left;    /* private: of the body or the chunk */
    uint64_t header_bytes; /* private */
    uint32_t header_capacity; /* private */
    bool chunked;             /* private */
    bool has_length;          /* private */
};

void http_reader_init(struct http_reader *reader, const struct http_limits *limits);
void http_reader_deinit(struct http_reader *reader);

/* Takes bytes up to the end of the current request and says how many in *taken: bytes behind it
 * belong to the next one (pipelining) and are to be fed again after http_reader_next. */
enum http_progress http_reader_feed(struct http_reader *reader, const char *data, size_t bytes,
                                    size_t *taken);

/* Forgets the request that was read; its views become invalid. */
void http_reader_next(struct http_reader *reader);

/* True from the first byte of a request to its end: whether a pause of the client is one inside a
 * request. */
bool http_reader_busy(const struct http_reader *reader);

/* The value of a header, NULL data when absent. With equal names the first. */
struct text_view http_request_header(const struct http_request *request, const char *name);

/* Compares a header name as ASCII without case. */
bool http_name_is(struct text_view name, const char *lower_case);

/* True when a comma-separated header value holds the token, without case. */
bool http_value_has_token(struct text_view value, const char *lower_case);

#endif
