/* One HTTP/1.1 POST, for telling collectors something: a connection of its own, no TLS, no
 * redirects, the body of the answer is not read. Blocks up to the timeout; for threads that may. */
#ifndef NET_HTTP_POST_H
#define NET_HTTP_POST_H

#include "base/error.h"
#include "base/view.h"

/* "http://host[:port][/path]", taken apart; views into the text. */
struct http_url {
    struct text_view host; /* without brackets */
    struct text_view port; /* "80" when it is not given */
    struct text_view path; /* "/" likewise; with the query */
};

/* Errors: INVALID_ARGUMENT. */
llcuda_status http_url_read(const char *text, struct http_url *url, struct llcuda_error *error);

/* Sends and waits for the status line: *status. `url` as for http_url_read. The name is looked up
 * anew each time. Errors: INVALID_ARGUMENT, IO, TIMEOUT, BAD_FORMAT (no HTTP answer),
 * OUT_OF_MEMORY. */
llcuda_status http_post(const char *url, const char *content_type, struct text_view body,
                        uint32_t timeout_ms, int *status, struct llcuda_error *error);

#endif
