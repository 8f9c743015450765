/* The service: OpenAI's routes, probes and metrics over one engine.
 *
 *     server_create → server_run (returns when asked to stop, drained) → llcuda_engine_close →
 *     server_destroy
 *
 * The engine is closed before the server is destroyed: its thread may still wake requests that have
 * been given back, and the memory for that belongs to the server. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "llcuda/llcuda.h"
#include "net/http_server.h"

struct server;

struct server_options {
    struct http_server_options http; /* handler and its user are filled in by server_create */
    const char *model_name;          /* what clients call the model; NULL: the model's own name */
    const char *allowed_hosts;       /* names with commas, besides the loopback ones; may be NULL */
    uint32_t drain_timeout_ms;       /* streams that are not done then end with an error event */
    uint32_t keep_alive_ms;          /* a silent stream gets a comment so often */
    const char *key_file;            /* API keys; NULL: none */
    const char *keys;                /* API keys with commas, of any scope; NULL: none */
    bool open;                       /* any address may be served without a key */
    /* One JSON object for each request, no newline; from any thread. May be NULL. */
    void (*access_log)(void *user, const char *line, size_t bytes);
    void *access_log_user;
};

void server_options_init(struct server_options *options);

/* Starts to listen. What options point to outlives the server. Errors: as http_server_create, and
 * REFUSED when the address is not a loopback one and there is no key. */
llcuda_status server_create(const struct server_options *options, llcuda_engine *engine,
                            struct server **server, struct llcuda_error *error);

/* "http://127.0.0.1:8080" or "unix:/path"; owned by the server. */
const char *server_address(const struct server *server);
/* The name under which the model is served. */
const char *server_model_name(const struct server *server);

/* Serves until server_stop is called, then drains: new requests are refused, running ones may end
 * within the drain timeout, and connections close. */
void server_run(struct server *server);

/* Asks server_run to end, or to read its keys again. Any thread, also a signal handler. */
void server_stop(struct server *server);
void server_reload(struct server *server);

/* NULL is fine. */
void server_destroy(struct server *server);

#endif
