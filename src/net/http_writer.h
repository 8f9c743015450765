/* The bytes of HTTP/1.1 answers. Pure functions into a buffer; what is written is decided by the
 * caller. Header values must not hold control characters: values that come from outside go through
 * http_write_header, which drops them. */
#ifndef NET_HTTP_WRITER_H
#define NET_HTTP_WRITER_H

#include "base/buffer.h"

enum http_body_kind {
    HTTP_BODY_SIZED,      /* Content-Length */
    HTTP_BODY_CHUNKED,    /* Transfer-Encoding: chunked */
    HTTP_BODY_UNTIL_CLOSE /* for HTTP/1.0 clients: the end of the connection ends the body */
};

/* The reason phrase of a status; "Unknown" for one that is not in the list. */
const char *http_status_text(int status);

/* Status line and the headers that frame the answer; `headers` are further lines, each ending in
 * CRLF. The empty line is written too. `content_type` may be NULL when there is no body. */
void http_write_head(struct buffer *out, int status, const char *content_type,
                     enum http_body_kind kind, size_t body_bytes, bool keep_alive,
                     struct text_view headers);

/* Appends "name: value" CRLF; bytes of the value that no header may hold are left out. */
void http_write_header(struct buffer *out, const char *name, struct text_view value);

/* One chunk of a chunked body; nothing at all for no bytes, because an empty chunk ends a body. */
void http_write_chunk(struct buffer *out, struct text_view data);
/* The end of a chunked body. */
void http_write_last_chunk(struct buffer *out);

#endif
