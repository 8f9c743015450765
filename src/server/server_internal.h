/* What the files of the room share. Private to it. */
#ifndef SERVER_SERVER_INTERNAL_H
#define SERVER_SERVER_INTERNAL_H

#include <stdatomic.h>

#include "base/buffer.h"
#include "server/api_error.h"
#include "server/server.h"

#define REQUEST_ID_BYTES 68

struct call;
struct generation;
struct keys;
struct metrics;
struct offload;
struct traces;
struct health;
struct text_job;

/* Who may use a route. */
enum route_access {
    ACCESS_OPEN,  /* probes: everybody */
    ACCESS_USER,  /* any key, or, with no key configured, local programs */
    ACCESS_ADMIN, /* a key of admin scope, always */
};

struct route {
    const char *method;
    const char *path;
    enum route_access access;
    bool generates; /* refused while draining */
    bool prefix;    /* the path goes on with a name */
    void (*answer)(struct call *call);
};

struct server {
    struct server_options options;
    struct http_server *http;
    struct model_set *models;
    struct offload *offload;
    struct keys *keys;
    struct metrics *metrics;
    struct traces *traces; /* NULL: not wanted */
    struct health *health;
    char address[300];
    int64_t started_unix;
    uint64_t started_ns;
    uint64_t id_seed;
    int control_descriptor; /* an eventfd: server_run sleeps on it */
    atomic_bool stop_wanted;
    atomic_bool reload_wanted;
    atomic_bool draining;
    atomic_bool cutting; /* the drain timeout is over */
    _Atomic uint64_t id_count;
    _Atomic uint64_t admitted_tokens; /* price of the requests that wait or run */
    _Atomic uint64_t queue_tokens;    /* at most so many; 0 while it is not known */
};

/* One HTTP request and what the server knows about it. Lives on one worker's thread, from
 * on_request to on_end. Each function that ends the exchange frees the call: return at once
 * afterwards. */
struct call {
    struct server *server;
    struct http_exchange *exchange;
    const struct http_request *request;
    const struct route *route;   /* NULL: none fits */
    struct key_account *account; /* who asks; the anonymous one without a key */
    bool counted;                /* with the account: key_account_end is due */
    bool settled;                /* call_settle was called */
    char request_id[REQUEST_ID_BYTES];
    char trace[56];       /* a traceparent: the client's trace, or ours, with a span of ours */
    char parent_span[17]; /* the client's; "": none */
    int64_t begin_unix_ns;
    int status;
    uint32_t retry_after_s;        /* with 429 and 503; 0: 1 */
    const char *error_code;        /* static, or NULL */
    const char *finish_reason;     /* likewise */
    struct buffer headers;         /* further lines of the answer's head */
    struct generation *generation; /* or NULL */
    struct text_job *text_job;     /* or NULL */
};

/* call.c */
extern const struct http_handler call_handler;
/* Counts the request and frees its place, once; before the end of its answer is sent. */
void call_settle(struct call *call, bool complete);

/* answer.c: these end the exchange. */
void call_respond(struct call *call, int status, const char *content_type, struct text_view body);
void call_respond_json(struct call *call, int status, struct buffer *body);
void call_fail(struct call *call, const struct api_error *error);
/* Request id, trace and what else every answer says, as header lines. */
struct text_view call_headers(struct call *call);

/* A 24-digit hexadecimal name that the server has not given before. */
void server_make_id(struct server *server, char out[25]);

/* generation.c */
void generation_start_chat(struct call *call);
void generation_start_completion(struct call *call);
void generation_start_responses(struct call *call);
void generation_start_embeddings(struct call *call);
void generation_pull(struct generation *generation);
/* The client has read again. */
void generation_resume(struct generation *generation);
void generation_tick(struct generation *generation);
/* Cancels what still runs. */
void generation_destroy(struct generation *generation);

/* routes_text.c: the answer of a text route that was made elsewhere. */
void text_job_pull(struct call *call);
void text_job_destroy(struct text_job *job);

/* health.c: the engines and the network threads, looked at by server_run's thread. */
llcuda_status health_create(struct server *server, struct health **health,
                            struct llcuda_error *error);
void health_destroy(struct health *health);
/* Looks at everything; some four times a second. */
void health_look(struct health *health);
/* Whether everything that has work makes progress, as of the last look. Any thread. */
bool health_is_good(const struct health *health);
/* How long the slowest engine has taken no step while it had work. Any thread. */
double health_engine_stall_s(const struct health *health);
/* Whether the server may be given requests, and the document that says why not. Any thread. */
bool health_write(struct health *health, struct json_writer *writer);

/* routes.c: NULL when none fits; then *allowed is what the path takes, NULL when there is no such
 * path. Each path takes one method, HEAD beside GET. */
const struct route *route_find(struct text_view method, struct text_view path,
                               const char **allowed);

/* guard.c: false after *error was filled in. */
bool guard_check(struct call *call, struct api_error *error);
/* Whether `host` can only be reached from this machine. */
bool guard_is_loopback(const char *host);

#endif
