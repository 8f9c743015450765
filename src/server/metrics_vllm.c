/* Owns the list of vLLM's metric names that have a counterpart here (--metrics-compat vllm). */
#include "server/metrics.h"

#define EXTRA ",engine=\"0\""

static void write_rows(const struct metrics_model *models, uint32_t count, const char *name,
                       const char *type, const char *help, double (*value)(const llcuda_stats *),
                       struct buffer *out)
{
    metrics_write_head(out, name, type, help);
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(out, "%s{model_name=\"", name);
        metrics_write_label(out, models[i].name);
        buffer_printf(out, "\"" EXTRA "} %.17g\n", value(&models[i].stats));
    }
}

#define VALUE(name, expression)                   \
    static double name(const llcuda_stats *stats) \
    {                                             \
        return (double)(expression);              \
    }
VALUE(running, stats->running)
VALUE(waiting, stats->waiting)
VALUE(cache_usage, stats->blocks_total ? (double)stats->blocks_used / stats->blocks_total : 0)
VALUE(prefix_queries, stats->prefix_lookup_tokens)
VALUE(prefix_hits, stats->prefix_hit_tokens)
VALUE(preemptions, stats->preemptions)
VALUE(prompt_tokens, stats->prompt_tokens)
VALUE(answer_tokens, stats->generated_tokens)
VALUE(asleep, stats->asleep)

static const struct {
    const char *name, *type, *help;
    double (*value)(const llcuda_stats *stats);
} rows[] = {
    {"vllm:num_requests_running", "gauge", "Requests in the batch.", running},
    {"vllm:num_requests_waiting", "gauge", "Requests that wait.", waiting},
    {"vllm:kv_cache_usage_perc", "gauge", "Cache in use; 1 is full.", cache_usage},
    {"vllm:engine_sleep_state", "gauge", "1 while the engine sleeps.", asleep},
    {"vllm:prefix_cache_queries_total", "counter", "Tokens looked for in the cache.",
     prefix_queries},
    {"vllm:prefix_cache_hits_total", "counter", "Tokens found in the cache.", prefix_hits},
    {"vllm:num_preemptions_total", "counter", "Preemptions.", preemptions},
    {"vllm:prompt_tokens_total", "counter", "Prompt tokens computed.", prompt_tokens},
    {"vllm:generation_tokens_total", "counter", "Tokens generated.", answer_tokens},
};

static const struct {
    enum metric_histogram which;
    const char *name, *help;
} histograms[] = {
    {METRIC_FIRST_TOKEN, "vllm:time_to_first_token_seconds", "Time to the first token."},
    {METRIC_INTER_TOKEN, "vllm:inter_token_latency_seconds", "Time between tokens."},
    {METRIC_END_TO_END, "vllm:e2e_request_latency_seconds", "Time from end to end."},
    {METRIC_QUEUE, "vllm:request_queue_time_seconds", "Time in the queue."},
    {METRIC_PREFILL, "vllm:request_prefill_time_seconds", "Time in prefill."},
    {METRIC_DECODE, "vllm:request_decode_time_seconds", "Time in decode."},
    {METRIC_PROMPT_TOKENS, "vllm:request_prompt_tokens", "Prompt tokens of a request."},
    {METRIC_ANSWER_TOKENS, "vllm:request_generation_tokens", "Tokens generated for a request."},
};

void metrics_write_vllm(struct metrics *metrics, const struct metrics_model *models, uint32_t count,
                        struct buffer *out)
{
    static const llcuda_finish_reason reasons[] = {LLCUDA_FINISH_STOP, LLCUDA_FINISH_LENGTH,
                                                   LLCUDA_FINISH_CANCELLED, LLCUDA_FINISH_ERROR};
    static const char *const names[] = {"stop", "length", "abort", "error"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_rows(models, count, rows[i].name, rows[i].type, rows[i].help, rows[i].value, out);
    }
    metrics_write_head(out, "vllm:request_success_total", "counter", "Requests by their end.");
    for (uint32_t i = 0; i < count; i++) {
        for (size_t j = 0; j < sizeof reasons / sizeof reasons[0]; j++) {
            buffer_append_text(out, "vllm:request_success_total{model_name=\"");
            metrics_write_label(out, models[i].name);
            buffer_printf(out, "\"" EXTRA ",finished_reason=\"%s\"} %llu\n", names[j],
                          (unsigned long long)metrics_finished(metrics, i, reasons[j]));
        }
    }
    for (size_t i = 0; i < sizeof histograms / sizeof histograms[0]; i++) {
        metrics_write_histogram(metrics, histograms[i].which, histograms[i].name,
                                histograms[i].help, "model_name", EXTRA, models, count, out);
    }
}
