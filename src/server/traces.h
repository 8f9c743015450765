/* Spans of generating requests, sent to an OTLP collector as JSON over HTTP by a thread of its own.
 * A collector that is slow or gone costs spans, which are counted, and nothing else. */
#ifndef SERVER_TRACES_H
#define SERVER_TRACES_H

#include "llcuda/llcuda.h"
#include "server/metrics.h"

struct traces;

/* A request that has ended. Its children are the queue, the prefill and the decoding. */
struct trace_record {
    char trace_id[33], span_id[17], parent_id[17]; /* parent "": none */
    char request_id[68];
    char model[64];
    const char *route;                      /* static */
    const char *finish_reason, *error_code; /* static, or NULL */
    int64_t begin_unix_ns;
    uint64_t taken_ns;
    uint64_t queued_after_ns; /* from the begin to the submission */
    int status;
    llcuda_usage usage;
    llcuda_timings timings; /* all 0 when nothing was generated */
};

/* `url` is borrowed. Errors: INVALID_ARGUMENT (the address), OUT_OF_MEMORY, IO. */
llcuda_status traces_create(const char *url, struct metrics *metrics, uint64_t id_seed,
                            struct traces **traces, struct llcuda_error *error);
/* Sends what is left, for two seconds at most. NULL is fine. */
void traces_destroy(struct traces *traces);

/* Copies the record. Any thread; never blocks on the collector. NULL is fine. */
void traces_add(struct traces *traces, const struct trace_record *record);

/* The document of some records. Pure; `span_id` makes the ids of the children from a number. */
void traces_write(const struct trace_record *records, uint32_t count, uint64_t id_seed,
                  struct buffer *out);

#endif
