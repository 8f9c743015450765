/* The one table of figures: name, unit, which way is better, and the formula that the report prints
 * beside the name. X(id, key, title, unit, higher is better, formula) */
#ifndef BENCH_METRICS_H
#define BENCH_METRICS_H

#define METRIC_LIST(X)                                                                            \
    X(TTFT, "ttft_ms", "time to first token", "ms", false,                                        \
      "first token − due; in a closed loop due is when the request was sent")                     \
    X(TPOT, "tpot_ms", "time per output token", "ms", false,                                      \
      "(last token − first token) / (output tokens − 1), per request")                            \
    X(ITL, "itl_ms", "inter-token latency", "ms", false,                                          \
      "gaps between events with tokens, pooled over requests (a uniform choice of 65,536)")       \
    X(E2E, "e2e_ms", "end to end", "ms", false, "last token − due")                               \
    X(LATE, "late_ms", "schedule error", "ms", false, "sent − due, of the load generator itself") \
    X(TOKENS_S, "output_tokens_s", "throughput", "tokens/s", true,                                \
      "output tokens of all requests / (last end − first due)")                                   \
    X(USER_TOKENS_S, "user_tokens_s", "speed of one stream", "tokens/s", true,                    \
      "Σ (output tokens − 1) / Σ (last token − first token), over requests")                      \
    X(TOTAL_TOKENS_S, "total_tokens_s", "prompt and output", "tokens/s", true,                    \
      "(prompt + output tokens) / (last end − first due)")                                        \
    X(REQUESTS_S, "requests_s", "request rate", "1/s", true,                                      \
      "requests that succeeded / (last end − first due)")                                         \
    X(GOODPUT_S, "goodput_s", "goodput", "1/s", true,                                             \
      "requests within every bound of `goodput` / (last end − first due)")                        \
    X(FAILED, "failed_share", "failed requests", "share", false, "failed / sent")                 \
    X(MEMORY_PEAK, "memory_peak_mb", "peak memory", "MB", false,                                  \
      "largest resident memory of the engine's process group")                                    \
    X(MEMORY_MEAN, "memory_mean_mb", "sustained memory", "MB", false,                             \
      "mean resident memory of the engine's process group")                                       \
    X(KV_EFFICIENCY, "kv_efficiency", "KV efficiency", "share", true,                             \
      "mean over time of the tokens in flight × cache bytes a token / cache bytes reserved; "    \
      "tokens "                                                                                   \
      "in flight: Σ (prompt + output / 2) × (end − due) / wall time")                             \
    X(CPU_PER_TOKEN, "cpu_ms_token", "CPU overhead a token", "ms", false,                         \
      "processor time of the engine's group / (prompt + output tokens)")                          \
    X(OVERHEAD, "harness_share", "cost of the harness", "share", false,                           \
      "processor time of the harness / wall time of the measurement")                             \
    X(STOLEN, "stolen_share", "time the host took", "share", false,                               \
      "time of all processors that the host of a virtual machine gave to others (steal of "       \
      "/proc/stat) / all their time")                                                             \
    X(GPU, "gpu_share", "GPU utilisation", "share", true, "mean of NVML's samples")               \
    X(GPU_MEMORY, "gpu_memory_peak_mb", "peak GPU memory", "MB", false,                           \
      "largest memory in use on the watched GPUs by NVML, whoever uses it")                       \
    X(GPU_THROTTLED, "gpu_throttled_share", "GPU throttled", "share", false,                      \
      "NVML's samples in which power or heat held the clocks down / samples")                     \
    X(ENERGY, "energy_j_token", "energy a token", "J", false,                                     \
      "(energy of all packages and their memory by RAPL, where it may be read, + power of the "   \
      "GPUs × time, where the engine uses them) / output tokens")

/* Figures of a whole cell or engine, which come from those above: key, title, unit, formula. */
#define DERIVED_LIST(X)                                                                            \
    X("scaling_factor", "scaling factor", "×",                                                     \
      "throughput / throughput of the same engine at its lowest level of the same prompt length")  \
    X("batch_efficiency", "batch efficiency", "share", "scaling factor × lowest level / level")    \
    X("speedup", "speed-up over ranks", "×", "throughput / that of the same engine with one rank") \
    X("rank_efficiency", "efficiency over ranks", "share", "speed-up / ranks")                     \
    X("cost_per_million_tokens", "cost per million tokens", "currency",                            \
      "price an hour / (throughput × 3,600) × 10⁶; with a price of electricity, and "          \
      "where energy was measured, + price a kWh × energy a token / 3.6")                           \
    X("operation_ms", "time of an operation", "ms",                                                \
      "its time in the fastest of several passes: of a prompt's whole, or of generated tokens / "  \
      "their number; then the mean over runs")                                                     \
    X("throughput_against_baseline", "score of the ranking", "×",                                  \
      "geometric mean over common points of throughput / throughput of the baseline; in open "     \
      "loops, where arrivals set the throughput, of the baseline's end to end / its own")

enum metric {
#define METRIC_ENUM(id, ...) METRIC_##id,
    METRIC_LIST(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

#endif
