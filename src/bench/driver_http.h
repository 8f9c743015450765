/* An OpenAI-compatible server as a driver: each request a streamed POST /v1/completions on a
 * connection of its own while it lasts; idle connections are used again. One thread. */
#ifndef BENCH_DRIVER_HTTP_H
#define BENCH_DRIVER_HTTP_H

#include "base/buffer.h"
#include "bench/driver.h"

struct http_connection; /* private */
struct http_tap;

struct http_driver {
    struct driver driver; /* first: a driver is cast back */
    char host[256];       /* for the Host header, with the port */
    char prefix[256];     /* path before /v1, without a slash at its end */
    const char *model;    /* in requests; NULL: the first that the server names */
    char found_model[256];
    char version[80];  /* as the server tells it; "" */
    const char *extra; /* members for each request's JSON object, "{…}" */
    bool prompt_text;  /* send text, not ids */
    bool ignore_eos;
    bool no_tap;          /* do not ask the kernel for a record of arrivals, or it gives none */
    struct http_tap *tap; /* that record; NULL without one */
    void *address;        /* a resolved address, addrinfo */
    int epoll;
    struct http_connection **connections; /* all open ones */
    uint32_t connection_count, connection_capacity;
    struct http_connection *idle; /* a list through them */
    struct http_connection *held; /* with bytes that were not looked at, a list */
    uint32_t busy;                /* requests in flight */
    uint32_t speaking;            /* answers that are coming */
    bool closes;                  /* the server closes a connection after an answer */
    bool ended_early;             /* an answer, before it had the tokens that were asked for */
    uint32_t spare;               /* tokens of an answer's end that are not slept through */
    uint32_t silent;              /* part of an answer's tokens that are not seen */
    uint32_t doubt;               /* whether this server may be slept through; 0: none */
    uint64_t awake_until_ns;      /* it is not, before */
    uint64_t swept_ns;            /* when all answers were last looked at, with a tap */
    bool listens; /* to every segment, with a tap: this server's ends are not told */
    const struct load_sink *sink; /* during a wait */
    uint64_t gap_ns;              /* between an answer's tokens, of late */
    bool ended;                   /* during a wait: an answer is over */
    int64_t clock_offset_ns;      /* of the kernel's times of arrival */
};

#define HTTP_CONNECTION_MAX 16384u

/* Resolves "http://host[:port][/prefix]". Nothing is connected yet. The texts of `model` and
 * `extra` are borrowed. Errors: INVALID_ARGUMENT, NOT_FOUND (no such host). */
llcuda_status http_driver_open(struct http_driver *driver, const char *url, const char *model,
                               const char *extra, bool prompt_text, struct llcuda_error *error);
void http_driver_close(struct http_driver *driver);

/* Asks once for /v1/models, whose first model is asked for from then on unless one was given, and
 * then where servers tell their version, waiting up to `timeout_ms`: OK when the server answers
 * 200 and does not say at /health that it still loads; otherwise BUSY with what it answered
 * instead. `body` (may be NULL) gets the answer. */
llcuda_status http_driver_ready(struct http_driver *driver, uint32_t timeout_ms,
                                struct buffer *body, struct llcuda_error *error);

#endif
