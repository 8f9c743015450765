/* What is counted, and how Prometheus reads it. Any thread: counters are atomic, and a reader sees
 * each of them as it is. Names are in docs/internals/server.md. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/buffer.h"
#include "llcuda/llcuda.h"
#include "server/server.h"

struct metrics;

/* One of each a model. Values are nanoseconds, or tokens where the name says so. */
enum metric_histogram {
    METRIC_FIRST_TOKEN,   /* from the whole request to its first token */
    METRIC_INTER_TOKEN,   /* between tokens of a request */
    METRIC_END_TO_END,    /* of generating requests */
    METRIC_QUEUE,         /* before the first step */
    METRIC_PREFILL,       /* first step to first token */
    METRIC_DECODE,        /* first token to the last one */
    METRIC_PROMPT_TOKENS, /* of a request */
    METRIC_ANSWER_TOKENS, /* likewise, all choices */
    METRIC_HISTOGRAM_COUNT
};

/* NULL without memory. */
struct metrics *metrics_create(uint32_t model_count);
void metrics_destroy(struct metrics *metrics);

void metrics_observe(struct metrics *metrics, uint32_t model, enum metric_histogram which,
                     uint64_t value);
/* A generating request has ended in order, or (CANCELLED) its client has left. */
void metrics_count_finish(struct metrics *metrics, uint32_t model, llcuda_finish_reason reason);

/* An HTTP request has ended. `route` is the pattern, static; `status` 0: the client went away
 * before an answer began. `refusal`: static, why it was refused, or NULL. */
void metrics_count_request(struct metrics *metrics, const char *route, int status,
                           const char *refusal);
/* A span could not be sent, or was. */
void metrics_count_spans(struct metrics *metrics, uint64_t sent, uint64_t lost);

/* Facts of the moment that the server gives. */
struct metrics_gauges {
    uint32_t connections;
    uint32_t exchanges;
    uint64_t admitted_tokens;
    uint64_t queue_tokens;
    bool draining;
    bool ready;
    double engine_stall_seconds;
    double uptime_seconds;
    const char *version;
    const struct device_reading *devices;
    uint32_t device_count;
};

/* A configured model; `stats` are zero while it has no engine. */
struct metrics_model {
    const char *name;
    enum model_state state;
    llcuda_stats stats;
};

/* Appends the whole text exposition. */
void metrics_write(struct metrics *metrics, const struct metrics_model *models, uint32_t count,
                   const struct metrics_gauges *gauges, struct buffer *out);

/* metrics_vllm.c: the same figures under vLLM's names, for its dashboards and for gateways. */
void metrics_write_vllm(struct metrics *metrics, const struct metrics_model *models, uint32_t count,
                        struct buffer *out);

/* For the two writers. A histogram's lines, one set a model, labelled LABEL="NAME" and what `extra`
 * adds (",engine=\"0\""). */
void metrics_write_histogram(struct metrics *metrics, enum metric_histogram which,
                             const char *metric, const char *help, const char *label,
                             const char *extra, const struct metrics_model *models, uint32_t count,
                             struct buffer *out);
uint64_t metrics_finished(const struct metrics *metrics, uint32_t model,
                          llcuda_finish_reason reason);
void metrics_write_head(struct buffer *out, const char *name, const char *type, const char *help);
/* A label's value, escaped. */
void metrics_write_label(struct buffer *out, const char *text);

#endif
