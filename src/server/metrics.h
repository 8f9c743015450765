/* What is counted, and how Prometheus reads it. Any thread: counters are atomic, and a reader sees
 * each of them as it is. Names are in docs/internals/server.md. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/buffer.h"
#include "llcuda/llcuda.h"

struct metrics;

enum metric_histogram {
    METRIC_FIRST_TOKEN, /* from the whole request to its first token */
    METRIC_INTER_TOKEN, /* between tokens of a request */
    METRIC_END_TO_END,  /* of generating requests */
    METRIC_QUEUE,       /* before the first step */
    METRIC_HISTOGRAM_COUNT
};

/* NULL without memory. */
struct metrics *metrics_create(void);
void metrics_destroy(struct metrics *metrics);

void metrics_observe(struct metrics *metrics, enum metric_histogram which, uint64_t duration_ns);

/* An HTTP request has ended. `route` is the pattern, static, and one of at most 32; `status` 0: the
 * client went away before an answer began. */
void metrics_count_request(struct metrics *metrics, const char *route, int status);

/* Facts of the moment that the server gives. */
struct metrics_gauges {
    uint32_t connections;
    uint32_t exchanges;
    bool draining;
    double uptime_seconds;
    const char *model_name;
    const char *version;
};

/* Appends the whole text exposition. */
void metrics_write(struct metrics *metrics, const llcuda_stats *stats,
                   const struct metrics_gauges *gauges, struct buffer *out);

#endif
