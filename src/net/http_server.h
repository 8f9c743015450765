/* An HTTP/1.1 server without meaning: connections in, whole requests to a handler, bytes out.
 *
 * Threads. `worker_count` threads with one event loop each; the first one also accepts. A
 * connection lives on one worker for ever, and the handler's functions are called on that worker's
 * thread only. Everything here that takes an exchange may only be called there too; the exceptions
 * are named.
 *
 * An exchange is one request and its answer. It begins with on_request and ends, exactly once, with
 * on_end: when the answer has been handed over, or earlier because the client is gone. A client
 * that closes its side while it waits for an answer counts as gone.
 *
 * What bounds what: lines, headers and bodies by http_limits; output by `output_bytes` (a writer
 * that has filled it is told to wait for on_writable); silence by the timeouts. */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include "base/error.h"
#include "net/http_reader.h"
#include "net/http_writer.h"

struct http_server;
struct http_exchange;
struct http_waker;

struct http_handler {
    /* The header section is whole and a body follows. False: the handler has answered already
     * (http_exchange_respond) and the connection closes without the body being read. */
    bool (*on_headers)(void *user, struct http_exchange *exchange);
    /* A whole request: answer now, or keep the exchange and answer later. */
    void (*on_request)(void *user, struct http_exchange *exchange);
    /* Bytes that are no request: to be answered with `status` (http_exchange_respond). */
    void (*on_refused)(void *user, struct http_exchange *exchange, int status, const char *reason);
    /* After http_waker_signal; may come without need. */
    void (*on_wake)(void *user, struct http_exchange *exchange);
    /* The output that was full has been sent. */
    void (*on_writable)(void *user, struct http_exchange *exchange);
    /* Some four times a second while an answer is being made. */
    void (*on_tick)(void *user, struct http_exchange *exchange);
    /* The exchange is over; what is attached is to be given back. `complete`: the whole answer was
     * handed over. */
    void (*on_end)(void *user, struct http_exchange *exchange, bool complete);
};

struct http_server_options {
    const char *host;            /* an address or name to listen on; not used with unix_path */
    uint16_t port;               /* 0: any free one */
    const char *unix_path;       /* a Unix socket with mode 0600 instead, or NULL */
    const char *tls_certificate; /* PEM files, both or neither */
    const char *tls_key;
    uint32_t worker_count;
    uint32_t connection_max; /* more are answered 503 and closed */
    struct http_limits limits;
    uint32_t header_timeout_ms; /* from the first byte of a request to the end of its headers */
    uint32_t body_timeout_ms;   /* without a byte of the body */
    uint32_t idle_timeout_ms;   /* between requests */
    uint32_t write_timeout_ms;  /* without the client taking a byte */
    uint32_t output_bytes;
    const struct http_handler *handler; /* outlives the server */
    void *handler_user;
    /* Another protocol on the same port, or NULL: a connection without TLS whose first bytes are
     * these is not HTTP. `take_over` gets its descriptor, in non-blocking mode, and the bytes read
     * so far, on the connection's worker. */
    const char *other_magic; /* [other_magic_bytes], at most 16 */
    size_t other_magic_bytes;
    void (*take_over)(void *handler_user, int descriptor, const void *data, size_t bytes);
};

void http_server_options_init(struct http_server_options *options);

/* Binds and listens. The texts in options are borrowed until the server is destroyed. Errors:
 * INVALID_ARGUMENT, IO, BAD_FORMAT (a certificate), OUT_OF_MEMORY. */
llcuda_status http_server_create(const struct http_server_options *options,
                                 struct http_server **server, struct llcuda_error *error);

/* Starts the workers: from here on the handler is called. On failure the server is to be destroyed.
 * Errors: IO. */
llcuda_status http_server_start(struct http_server *server, struct llcuda_error *error);

/* The port that is listened on; 0 with a Unix socket. Any thread. */
uint16_t http_server_port(const struct http_server *server);
/* Connections and exchanges of this moment. Any thread. */
uint32_t http_server_connections(const struct http_server *server);
uint32_t http_server_exchanges(const struct http_server *server);

/* Nanoseconds since the slowest worker has last gone round its loop; some 250 ms when all is well.
 * Any thread. */
uint64_t http_server_lag_ns(const struct http_server *server);

/* Stops accepting and closes each connection when its exchange is over. Who has connected before
 * has half a second for a request, which reaches the handler as any other. Any thread. */
void http_server_drain(struct http_server *server);
/* Whether it has come to that: nobody is accepted and no connection is left. Any thread. */
bool http_server_drained(const struct http_server *server);

/* Closes every connection (on_end is called for exchanges) and ends the workers. Wakers stay valid
 * until http_server_destroy, so that late signals do no harm. One thread. */
void http_server_stop(struct http_server *server);
/* Stops if need be, and frees. NULL is fine. */
void http_server_destroy(struct http_server *server);

/* The request; valid until the exchange ends. */
const struct http_request *http_exchange_request(const struct http_exchange *exchange);
/* Moves the request's body out of the connection: its view stays valid as long as *body, which is
 * the caller's to deinit, also when the exchange ends earlier. */
void http_exchange_take_body(struct http_exchange *exchange, struct buffer *body);
/* Nanoseconds (base/clock.h) of the moment when the request was whole. */
uint64_t http_exchange_begin_ns(const struct http_exchange *exchange);
/* Bytes of the answer so far, framing included. */
uint64_t http_exchange_sent_bytes(const struct http_exchange *exchange);
/* The other end as text: an address, or "unix". */
const char *http_exchange_peer(const struct http_exchange *exchange);

void http_exchange_attach(struct http_exchange *exchange, void *attachment);
void *http_exchange_attachment(const struct http_exchange *exchange);

/* A whole answer; ends the exchange. `headers` as for http_write_head. */
void http_exchange_respond(struct http_exchange *exchange, int status, const char *content_type,
                           struct text_view headers, struct text_view body);

/* An answer in pieces: begin, write, …, end. The last call ends the exchange. http_exchange_write
 * returns false when the output is full; the bytes are taken all the same. */
void http_exchange_begin(struct http_exchange *exchange, int status, const char *content_type,
                         struct text_view headers);
bool http_exchange_write(struct http_exchange *exchange, struct text_view data);
void http_exchange_end(struct http_exchange *exchange);
/* Closes the connection after what has been written, without the end of the body: a client sees
 * that the answer is not whole. Ends the exchange. */
void http_exchange_abort(struct http_exchange *exchange);

/* Wakes the exchange from another thread. It is given back by itself when the exchange ends; a
 * signal that comes later wakes nobody, or the next owner without need. NULL without memory. */
struct http_waker *http_exchange_waker(struct http_exchange *exchange);
/* Any thread; never blocks. The argument is a struct http_waker, untyped to fit callbacks. */
void http_waker_signal(void *waker);
/* The same in two steps, for one thread that signals many exchanges at once: a worker that is woken
 * for the first of them would take the processor from that thread, and sleep again before the
 * second. Whoever notes must wake soon. */
void http_waker_note(void *waker);
void http_server_wake(struct http_server *server);

#endif
