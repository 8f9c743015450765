/* Measurements of one model on this machine, in the manner of llama-bench: prompts of N tokens,
 * generations of N tokens, at chosen depths of context, repeated; several at once; and where the
 * time of a step goes. Results are collected in a report, which is printed as a table or as JSON.
 *
 * What is measured is what a program gets that links the library: requests go through the public
 * interface, sampling included. Only the profile of kernels talks to a device. */
#ifndef BENCH_LOCAL_H
#define BENCH_LOCAL_H

#include "base/buffer.h"
#include "base/error.h"
#include "device/device.h"
#include "llcuda/llcuda.h"

/* Sizes of one kind in one run, and repeats of one measurement. */
#define LOCAL_LIST_MAX    32u
#define LOCAL_REPEATS_MAX 1000u

struct local_list {
    uint32_t values[LOCAL_LIST_MAX];
    uint32_t count;
};

/* Reads "512" or "128,512" with numbers from `minimum` to 16,777,216. INVALID_ARGUMENT with a
 * sentence that names `option`. */
llcuda_status local_list_read(struct local_list *list, const char *option, const char *text,
                              uint32_t minimum, struct llcuda_error *error);

/* A text that was tokenised. */
struct local_text {
    uint64_t bytes, tokens, ns;
};

struct local_options {
    struct local_list prompts;     /* tokens; 0: leave out */
    struct local_list generations; /* tokens; 0: leave out */
    struct local_list depths;      /* positions in the cache beforehand */
    struct local_list parallel;    /* requests at once, for throughput */
    uint32_t repeats;              /* at least 1, after one run that does not count */
    bool has_counters;             /* kernels: the device is CUDA device `counters_device` */
    int counters_device;
    /* Called between measurements; false cancels. May be NULL. */
    bool (*proceed)(void *user, uint32_t done, uint32_t total);
    void *user;
    /* For the profile of kernels: chooses a token from logits [vocabulary]. May be NULL. */
    llcuda_status (*choose)(void *chooser, const float *logits, struct llcuda_error *error);
    void *chooser;
    bool greedy; /* likewise: a device that can takes the largest logit itself, and `choose` does it
                    for the others */
    /* Likewise: makes tokens of a text, another one each time. */
    llcuda_status (*tokenize)(void *tokenizer, struct local_text *text, struct llcuda_error *error);
    void *tokenizer;
};

/* One measurement: tokens a second of each repeat. */
struct local_result {
    char name[48]; /* "pp512", "tg128", "32 x pp128+tg128" */
    uint32_t depth, parallel;
    uint32_t prompt_tokens, generated_tokens; /* of one repeat, all requests together */
    uint32_t repeats;
    double *rates;          /* [repeats] tokens a second */
    double bytes_per_token; /* weights read from memory; 0 where it says nothing */
};

struct local_report {
    struct local_result *results;
    uint32_t count, capacity;
};

void local_report_deinit(struct local_report *report);

/* Positions that a context must have for these measurements. */
uint32_t local_context_length(const struct local_options *options);

/* Prompts and generations of single requests. Errors: those of the engine, CANCELLED. */
llcuda_status local_latency(llcuda_engine *engine, const struct local_options *options,
                            struct local_report *report, struct llcuda_error *error);

/* Requests in parallel, each of the first prompt and generation length; the rate counts prompt and
 * generated tokens. */
llcuda_status local_throughput(llcuda_engine *engine, const struct local_options *options,
                               struct local_report *report, struct llcuda_error *error);

/* Statistics of a result. The deviation is that of a sample, 0 for a single repeat. */
struct local_summary {
    double mean, deviation, median;
};
struct local_summary local_summarize(const struct local_result *result);

void local_report_text(const llcuda_engine_info *info, const struct local_report *report,
                       struct buffer *out);
void local_report_json(const llcuda_engine_info *info, const char *mode,
                       const struct local_report *report, struct buffer *out);

/* Where the time of steps goes: operations and types with their rates as shares of the ceilings
 * measured before. Runs each prompt and generation of the options directly on the model; `blocks`
 * [kv_block_count] is any permutation of the model's cache blocks. UNSUPPORTED when the device
 * keeps no profile. */
llcuda_status local_kernels(struct device_model *model, const uint32_t *blocks,
                            const struct device_ceilings *ceilings,
                            const struct local_options *options, bool json, struct buffer *out,
                            struct llcuda_error *error);

#endif
