/* What the files of the HTTP server share: workers and their connections. Private to the room. */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <pthread.h>
#include <stdatomic.h>

#include "net/http_server.h"

#define TICK_MS           250
#define LINGER_MS         1000
#define DRAIN_PATIENCE_MS 500   /* for a request whose connection is there already */
#define READ_AHEAD_BYTES  16384 /* of the next request, while this one is being answered */
#define LINGER_BYTES      (256u << 10)
#define BODY_TIMEOUTS_MAX 10u /* a body that trickles ends after so many times its timeout */
#define INBOX_CAPACITY    1024u
#define PEER_BYTES        48

struct tls;
struct worker;

enum connection_state {
    CONNECTION_READING,   /* a request is awaited or coming in */
    CONNECTION_ANSWERING, /* the handler has the exchange */
    CONNECTION_FLUSHING,  /* the last answer is on its way, then the connection closes */
    CONNECTION_LINGERING, /* our side is closed; what still comes in is thrown away for a moment,
                             so that a reset does not overtake the answer */
    CONNECTION_DEAD       /* unlinked, freed by worker_reap */
};

/* A connection and its current exchange. */
struct http_exchange {
    struct worker *worker;
    struct http_exchange *previous, *next;
    struct bufferevent *stream;
    struct evbuffer *output; /* of `stream` */
    struct http_reader reader;
    enum connection_state state;
    bool advancing;      /* http_connection_advance is on the stack */
    bool is_http;        /* the first bytes were no other protocol's */
    bool body_announced; /* the headers are in, the body is coming */
    bool started;        /* the head of the answer has been written */
    bool chunked;        /* how its body is framed */
    bool keep_alive;     /* after this answer */
    bool full;           /* a write has found the output full */
    bool secure;         /* TLS */
    uint64_t begin_ns;   /* the request was whole */
    uint64_t state_ns;   /* first byte of the request, or the state's begin */
    uint64_t read_ns;    /* last byte in */
    uint64_t write_ns;   /* last byte taken by the client, or output became non-empty */
    uint64_t sent_bytes; /* of the current answer */
    uint64_t lingered_bytes;
    void *attachment;
    struct http_waker *waker;
    char peer[PEER_BYTES];
};

/* Never freed before the server: a late signal must find memory. */
struct http_waker {
    struct worker *worker;
    struct http_exchange *exchange; /* NULL while on the free list; worker's thread only */
    struct http_waker *free_next;   /* worker's thread only */
    struct http_waker *all_next;    /* worker's thread only */
    _Atomic(struct http_waker *) signal_next;
    atomic_bool signalled; /* on the stack of signals */
};

struct accepted {
    int descriptor;
    char peer[PEER_BYTES];
};

struct worker {
    struct http_server *server;
    pthread_t thread;
    bool started;
    struct event_base *base;
    struct event *wake_event; /* wake_descriptor is readable */
    struct event *tick_event;
    int wake_descriptor; /* an eventfd */
    struct http_exchange *connections;
    struct http_exchange *dead;
    struct http_waker *free_wakers;
    struct http_waker *all_wakers;
    struct buffer scratch;    /* for building heads and chunks */
    _Atomic uint64_t beat_ns; /* of the last tick; 0 before the first one */
    _Atomic(struct http_waker *) signalled;
    pthread_mutex_t inbox_mutex;
    struct accepted inbox[INBOX_CAPACITY];
    uint32_t inbox_count;
};

struct http_server {
    struct http_server_options options;
    struct worker *workers;
    uint32_t worker_count; /* that were initialised */
    uint32_t next_worker;  /* accepting thread only */
    int listen_descriptor;
    struct evconnlistener *listener; /* of the first worker's base */
    bool listener_paused;            /* no descriptors were left; tried again at the next tick */
    struct tls *tls;
    uint16_t port;
    bool unix_bound; /* the socket file is ours to remove */
    bool stopped;
    _Atomic uint64_t draining_ns; /* since when; 0 while it is not */
    atomic_bool closed;           /* nobody is accepted any more */
    atomic_bool stopping;
    _Atomic uint32_t connection_count;
    _Atomic uint32_t exchange_count;
};

/* connection.c */
/* Takes the descriptor over, also when it fails. */
void connection_open(struct worker *worker, const struct accepted *accepted);
void connection_close(struct http_exchange *connection);
void connection_tick(struct http_exchange *connection, uint64_t now_ns);
void connection_free(struct http_exchange *connection);

/* worker.c */
llcuda_status worker_init(struct worker *worker, struct http_server *server,
                          struct llcuda_error *error);
llcuda_status worker_start(struct worker *worker, struct llcuda_error *error);
void worker_wake(struct worker *worker);
/* False when its inbox is full. Any thread. */
bool worker_give(struct worker *worker, const struct accepted *accepted);
void worker_deinit(struct worker *worker);
void waker_release(struct http_waker *waker);

/* http_server.c */
void http_server_look_at_listener(struct http_server *server);

/* tls.c */
llcuda_status tls_create(const char *certificate, const char *key, struct tls **tls,
                         struct llcuda_error *error);
void tls_destroy(struct tls *tls);
/* NULL without memory; closes the descriptor when it is freed. */
struct bufferevent *tls_accept(struct tls *tls, struct event_base *base, int descriptor);

#endif
