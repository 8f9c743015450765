/* The service: OpenAI's routes, probes and metrics over configured models.
 *
 *     server_create → server_run (returns when asked to stop, drained) → server_destroy
 *
 * It listens from the beginning; while models are being loaded, /readyz and generating routes
 * answer 503. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "net/http_server.h"
#include "server/keys.h"
#include "server/model_set.h"

struct server;

/* A reading of one accelerator, for the metrics. Values that are not known are NaN. */
struct device_reading {
    char name[64];
    double utilization_ratio;   /* 0 to 1 */
    double temperature_celsius; /* */
    double power_watts;
    double memory_used_bytes;
    double memory_bytes;
    bool failed; /* the device can compute no more: the server is not ready */
};

struct server_options {
    struct http_server_options http;   /* handler and its user are filled in by server_create */
    const struct model_config *models; /* [model_count], copied; at least one */
    uint32_t model_count;
    uint64_t memory_limit_bytes; /* of all models together; 0: none */
    uint64_t idle_ms;            /* a model nobody uses for so long goes to sleep; 0: none does */
    const char *allowed_hosts;   /* names with commas, besides the loopback ones; may be NULL */
    uint32_t drain_timeout_ms;   /* streams that are not done then end with an error event */
    uint32_t keep_alive_ms;      /* a silent stream gets a comment so often */
    uint32_t heartbeat_ms;       /* an engine with work and no step for so long has hung */
    uint64_t
        request_timeout_ms; /* no answer takes longer, whatever its request says; 0: no limit */
    uint64_t queue_tokens;  /* price of all requests that wait or run; 0: 64 times the cache */
    const char *key_file;   /* API keys; NULL: none */
    const char *keys;       /* API keys with commas, of any scope; NULL: none */
    struct key_limits key_limits;
    bool open;             /* any address may be served without a key */
    bool metrics_vllm;     /* also under the names that vLLM gives them */
    bool log_prompts;      /* the access log also has the bodies of generating requests */
    const char *trace_url; /* spans go there: "http://host:4318/v1/traces"; NULL: nowhere */
    /* One JSON object for each request, no newline; from any thread. May be NULL. */
    void (*access_log)(void *user, const char *line, size_t bytes);
    void *access_log_user;
    /* From server_run's thread: once when all models to be preloaded are, and some four times a
     * second while the engines and the network threads make progress. May be NULL. */
    void (*on_ready)(void *user);
    void (*on_beat)(void *user);
    void *event_user;
    /* Fills in up to `count` readings and returns how many there are. Called by metrics and health
     * from any thread. May be NULL. */
    uint32_t (*read_devices)(void *user, struct device_reading *readings, uint32_t count);
    void *read_devices_user;
};

void server_options_init(struct server_options *options);

/* Starts to listen and to load. What options point to outlives the server. Errors: as
 * http_server_create and model_set_create, and REFUSED when the address is not a loopback one and
 * there is no key. */
llcuda_status server_create(const struct server_options *options, struct server **server,
                            struct llcuda_error *error);

/* "http://127.0.0.1:8090" or "unix:/path"; owned by the server. */
const char *server_address(const struct server *server);
/* The first model that is loaded, for messages; the first one and 0 while none is. */
void server_first_model(struct server *server, const char **name, uint32_t *context_length);

/* Serves until server_stop is called, then drains: new requests are refused, running ones may end
 * within the drain timeout, and connections close. Errors: those of llcuda_engine_open, when a
 * model that is to be preloaded cannot be loaded. */
llcuda_status server_run(struct server *server, struct llcuda_error *error);

/* Asks server_run to end, or to read its keys again. Any thread, also a signal handler. */
void server_stop(struct server *server);
void server_reload(struct server *server);

/* NULL is fine. */
void server_destroy(struct server *server);

#endif
