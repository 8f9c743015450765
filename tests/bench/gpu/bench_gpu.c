/* Speed, memory and correctness of the GPU device with a model file, through the device's own
 * interface:
 *
 *     bench_gpu MODEL.gguf [--device cuda|hip|emu] [--index N] [--cache FOLDER] [--plain]
 *         [--own] [--logits] [--no-graphs] [--no-overlap] [--all-rows] [--deterministic] [--check]
 *         [--batches 1,8,32] [--prompt 2048] [--steps 64] [--library-path FOLDERS] [--launches]
 *         [--cache-type f16|fp8|q8_0]
 *
 * --launches measures only what launching adds to a decode step's kernels, by graph and one by one,
 * as the host sees it: with a model of many layers and little width (make_random_model) that is
 * nearly all of the step.
 *
 * --check compares logits with the CPU device, in chunks and token by token. Every line is printed
 * as soon as it is known; the table of all results comes last. A decode step ends when the host has
 * the token with the largest logit of each row, or with --logits all logits. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "cpu/cpu.h"
#include "format/model_source.h"
#include "gpu/gpu.h"
#include "model/model.h"

#define BATCHES_MAX  16u
#define PROMPT       32u
#define LINES_MAX    64u
#define CHECK_TOKENS 40u

struct bench {
    const char *path, *device_name, *library_path;
    uint32_t index, batches[BATCHES_MAX], batch_count, prompt, steps;
    bool check, logits, launches;
    struct gpu_device_options options;
    enum dtype kv_dtype;
    struct model_source *source;
    struct plan *plan;
    struct model_info info;
    struct device *device;
    struct device_model *model;
    uint32_t rows_max, blocks_each, sequences_max;
    uint32_t *tokens, *positions, *sequences, *tables, *rows;
    uint64_t state;
    char lines[LINES_MAX][120];
    uint32_t line_count;
    struct llcuda_error error;
};

static bool failed(struct bench *bench, llcuda_status status, const char *what)
{
    if (status != LLCUDA_OK) {
        printf("FAILED: %s: %s: %s\n", what, llcuda_status_name(status), bench->error.message);
        fflush(stdout);
    }
    return status != LLCUDA_OK;
}

__attribute__((format(printf, 2, 3))) static void say(struct bench *bench, const char *format, ...)
{
    char *line = bench->lines[bench->line_count < LINES_MAX - 1 ? bench->line_count++ : 0];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof bench->lines[0], format, arguments);
    va_end(arguments);
    printf("%s\n", line);
    fflush(stdout);
}

static void write_log(void *user, enum log_level level, const char *message)
{
    (void)user;
    printf("log %d: %s\n", (int)level, message);
    fflush(stdout);
}

static const struct log_sink log_sink = {write_log, NULL, LOG_INFO};

static uint32_t random_token(struct bench *bench)
{
    bench->state += 0x9E3779B97F4A7C15ull;
    return (uint32_t)(random_mix(bench->state) % bench->plan->vocabulary_size);
}

/* --- opening --------------------------------------------------------------------------------- */

static llcuda_status open_driver(struct bench *bench, struct gpu_driver **driver)
{
    const struct gpu_open_options open = {
        .index = bench->index,
        .library_path = bench->library_path,
    };
    if (strcmp(bench->device_name, "emu") == 0) {
        return gpu_driver_open_emu(&open, driver, &bench->error);
    }
    return strcmp(bench->device_name, "hip") == 0
               ? gpu_driver_open_hip(&open, driver, &bench->error)
               : gpu_driver_open_cuda(&open, driver, &bench->error);
}

static llcuda_status load(struct bench *bench, struct device *device, struct device_model **model)
{
    const struct device_model_options options = {
        .kv_block_count = bench->blocks_each * bench->sequences_max,
        .kv_dtype = bench->kv_dtype,
        .rows_max = bench->rows_max,
        .logits_rows_max = bench->check && bench->sequences_max < CHECK_TOKENS
                               ? CHECK_TOKENS
                               : bench->sequences_max,
    };
    return device_model_load(device, bench->plan, &options, NULL, model, &bench->error);
}

static bool open_all(struct bench *bench)
{
    struct gpu_driver *driver;
    uint64_t begin = clock_now_ns();
    if (failed(bench, open_driver(bench, &driver), "opening the driver") ||
        failed(bench, gpu_device_open(driver, &bench->options, &bench->device, &bench->error),
               "opening the device")) {
        return false;
    }
    struct device_info info;
    device_describe(bench->device, &info);
    say(bench, "device              %.70s", info.name);
    say(bench, "open                %.1f ms", clock_ms(clock_now_ns() - begin));
    for (int round = 0; round < 2; round++) {
        device_model_unload(bench->model);
        bench->model = NULL;
        begin = clock_now_ns();
        if (failed(bench, load(bench, bench->device, &bench->model), "loading the model")) {
            return false;
        }
        say(bench, "load, %s        %.1f ms", round ? "warm " : "first",
            clock_ms(clock_now_ns() - begin));
    }
    say(bench, "memory              %.1f MB on the device",
        (double)device_model_memory_bytes(bench->model) / 1e6);
    return true;
}

/* --- steps ----------------------------------------------------------------------------------- */

/* `count` rows of each of `sequences` sequences from `position`; the last of each wants logits. */
static llcuda_status run(struct bench *bench, struct device_model *model, uint32_t sequences,
                         uint32_t position, uint32_t count, bool all_logits, const float **logits)
{
    uint32_t n = 0;
    uint32_t m = 0;
    for (uint32_t s = 0; s < sequences; s++) {
        for (uint32_t i = 0; i < count; i++, n++) {
            bench->positions[n] = position + i;
            bench->sequences[n] = s;
            if (all_logits || i + 1 == count) {
                bench->rows[m++] = n;
            }
        }
    }
    const struct step_batch batch = {
        .row_count = n,
        .tokens = bench->tokens,
        .positions = bench->positions,
        .sequences = bench->sequences,
        .sequence_count = sequences,
        .block_tables = bench->tables,
        .block_table_stride = bench->blocks_each,
        .logits_count = m,
        .logits_rows = bench->rows,
        .choose = !all_logits && !bench->logits,
    };
    return device_step(model, &batch, logits, &bench->error);
}

static void random_tokens(struct bench *bench, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bench->tokens[i] = random_token(bench);
    }
}

static bool decode(struct bench *bench, uint32_t batch)
{
    const float *logits;
    random_tokens(bench, bench->rows_max);
    uint32_t together = bench->rows_max / PROMPT < batch ? 1 : PROMPT;
    for (uint32_t p = 0; p < PROMPT; p += together) {
        if (failed(bench, run(bench, bench->model, batch, p, together, false, &logits),
                   "prefill")) {
            return false;
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (failed(bench, run(bench, bench->model, batch, PROMPT + i, 1, false, &logits),
                   "decode")) {
            return false;
        }
    }
    uint64_t bytes = device_weight_bytes_read(bench->model);
    uint64_t begin = clock_now_ns();
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < bench->steps; i++) {
        uint64_t step = clock_now_ns();
        if (failed(bench, run(bench, bench->model, batch, PROMPT + 3 + i, 1, false, &logits),
                   "decode")) {
            return false;
        }
        step = clock_now_ns() - step;
        least = step < least ? step : least;
    }
    double seconds = (double)(clock_now_ns() - begin) / 1e9;
    bytes = device_weight_bytes_read(bench->model) - bytes;
    say(bench, "decode, batch %-4u  %8.3f ms a step (best %.3f), %9.1f tok/s, weights %.0f GB/s",
        batch, seconds / bench->steps * 1e3, clock_ms(least), bench->steps * batch / seconds,
        (double)bytes / seconds / 1e9);
    return true;
}

static bool prefill(struct bench *bench, uint32_t tokens, const char *name)
{
    const float *logits;
    uint64_t best = UINT64_MAX;
    random_tokens(bench, tokens);
    for (int round = 0; round < 4; round++) {
        uint64_t begin = clock_now_ns();
        if (failed(bench, run(bench, bench->model, 1, 0, tokens, false, &logits), name)) {
            return false;
        }
        uint64_t took = clock_now_ns() - begin;
        best = took < best ? took : best;
    }
    double flop = bench->plan->expert_count
                      ? (double)plan_step_cost(bench->plan, tokens, 0, 1, bench->kv_dtype).flop
                      : 2.0 * (double)bench->plan->parameter_count * tokens;
    say(bench, "%s %-5u       %8.3f ms, %9.1f tok/s, %.1f TFLOP/s of the layers", name, tokens,
        clock_ms(best), tokens / ((double)best / 1e9), flop / (double)best / 1e3);
    return true;
}

/* Steps of one row a sequence: their launches, and what each way of launching adds to the time that
 * the kernels take. */
static bool launches(struct bench *bench, uint32_t batch)
{
    enum { STEPS = 8 };
    struct device_profile_steps steps;
    struct device_profile_kernel kernels[1];
    const float *logits;
    random_tokens(bench, bench->rows_max);
    device_profile(bench->model, NULL, 0);
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX}; /* of launches, by graph and plainly */
    uint64_t submit[2] = {UINT64_MAX, UINT64_MAX};
    uint64_t kernel_ns = UINT64_MAX;
    uint64_t count = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        if (failed(bench, run(bench, bench->model, batch, i, 1, false, &logits), "a step")) {
            return false;
        }
        device_profile_kernels(bench->model, &steps, kernels, 1);
        device_profile(bench->model, NULL, 0);
        if (!steps.has_graphs) {
            say(bench, "launches            nothing to compare without graphs");
            return true;
        }
        count = steps.launches;
        best[0] = steps.graph_ns < best[0] ? steps.graph_ns : best[0];
        best[1] = steps.plain_ns < best[1] ? steps.plain_ns : best[1];
        submit[0] = steps.graph_submit_ns < submit[0] ? steps.graph_submit_ns : submit[0];
        submit[1] = steps.plain_submit_ns < submit[1] ? steps.plain_submit_ns : submit[1];
        kernel_ns = steps.kernel_ns < kernel_ns ? steps.kernel_ns : kernel_ns;
    }
    double graph = ((double)best[0] - (double)kernel_ns) / 1e3;
    double plain = ((double)best[1] - (double)kernel_ns) / 1e3;
    say(bench,
        "launches, batch %-4u %llu a step: kernels %.1f us, plain %+.1f us, graph %+.1f us: "
        "%+.0f %%",
        batch, (unsigned long long)count, (double)kernel_ns / 1e3, plain, graph,
        plain > 0 ? 100 * (graph / plain - 1) : 0);
    say(bench, "the host's calls    plain %.1f us, graph %.1f us: %+.0f %%",
        (double)submit[1] / 1e3, (double)submit[0] / 1e3,
        100 * ((double)submit[0] / (double)submit[1] - 1));
    return true;
}

/* --- correctness ----------------------------------------------------------------------------- */

static double distance(const float *a, const float *b, uint64_t count)
{
    double difference = 0;
    double size = 1e-30;
    for (uint64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

static bool run_check(struct bench *bench, struct device_model *model, uint32_t chunk, float *out)
{
    uint32_t width = bench->plan->vocabulary_size;
    uint32_t all[CHECK_TOKENS];
    bench->state = 7;
    for (uint32_t i = 0; i < CHECK_TOKENS; i++) {
        all[i] = random_token(bench);
    }
    for (uint32_t p = 0; p < CHECK_TOKENS; p += chunk) {
        uint32_t count = CHECK_TOKENS - p < chunk ? CHECK_TOKENS - p : chunk;
        const float *logits;
        memcpy(bench->tokens, all + p, count * sizeof *all);
        if (failed(bench, run(bench, model, 1, p, count, true, &logits), "a step")) {
            return false;
        }
        memcpy(out + (uint64_t)(p / chunk) * width, logits, width * sizeof *out);
    }
    return true;
}

static bool check(struct bench *bench)
{
    uint32_t width = bench->plan->vocabulary_size;
    float *expected = calloc((size_t)CHECK_TOKENS * width, sizeof *expected);
    float *given = calloc((size_t)CHECK_TOKENS * width, sizeof *given);
    struct device *cpu = NULL;
    struct device_model *model = NULL;
    const struct cpu_options options = {.level_max = CPU_AVX512};
    bool fine = expected && given;
    fine = fine && !failed(bench, cpu_device_open(&options, &cpu, &bench->error), "the CPU") &&
           !failed(bench, load(bench, cpu, &model), "the CPU's model");
    static const uint32_t chunks[] = {1, 8, CHECK_TOKENS};
    for (size_t i = 0; i < 3 && fine; i++) {
        uint32_t count = CHECK_TOKENS / chunks[i];
        fine = run_check(bench, model, chunks[i], expected) &&
               run_check(bench, bench->model, chunks[i], given) &&
               run_check(bench, bench->model, chunks[i], given); /* the second time as a graph */
        double d = distance(given, expected, (uint64_t)count * width);
        if (fine) {
            say(bench, "check, chunks of %-3u distance to the CPU device %.2e %s", chunks[i], d,
                d < 0.03 ? "ok" : "TOO FAR");
        }
        fine = fine && d < 0.03;
    }
    device_model_unload(model);
    device_close(cpu);
    free(expected);
    free(given);
    return fine;
}

/* --- options --------------------------------------------------------------------------------- */

static void read_batches(struct bench *bench, const char *text)
{
    bench->batch_count = 0;
    while (*text && bench->batch_count < BATCHES_MAX) {
        char *end;
        bench->batches[bench->batch_count++] = (uint32_t)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : "";
    }
}

static bool read_options(struct bench *bench, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        const char *value = i + 1 < count ? words[i + 1] : "";
        bool *flag = strcmp(word, "--no-graphs") == 0       ? &bench->options.no_graphs
                     : strcmp(word, "--no-overlap") == 0    ? &bench->options.no_overlap
                     : strcmp(word, "--all-rows") == 0      ? &bench->options.all_rows
                     : strcmp(word, "--deterministic") == 0 ? &bench->options.deterministic
                     : strcmp(word, "--check") == 0         ? &bench->check
                     : strcmp(word, "--logits") == 0        ? &bench->logits
                     : strcmp(word, "--launches") == 0      ? &bench->launches
                                                            : NULL;
        if (flag) {
            *flag = true;
        } else if (strcmp(word, "--plain") == 0) {
            bench->options.linear = GPU_LINEAR_PLAIN;
        } else if (strcmp(word, "--own") == 0) {
            bench->options.linear = GPU_LINEAR_OWN;
        } else if (word[0] != '-') {
            bench->path = word;
        } else {
            i++;
            if (strcmp(word, "--device") == 0) {
                bench->device_name = value;
            } else if (strcmp(word, "--index") == 0) {
                bench->index = (uint32_t)atoi(value);
            } else if (strcmp(word, "--cache") == 0) {
                bench->options.cache = value;
            } else if (strcmp(word, "--library-path") == 0) {
                bench->library_path = value;
            } else if (strcmp(word, "--cache-type") == 0) {
                bench->kv_dtype = strcmp(value, "fp8") == 0    ? DTYPE_F8_E4M3
                                  : strcmp(value, "q8_0") == 0 ? DTYPE_Q8_0
                                                               : DTYPE_F16;
            } else if (strcmp(word, "--batches") == 0) {
                read_batches(bench, value);
            } else if (strcmp(word, "--prompt") == 0) {
                bench->prompt = (uint32_t)atoi(value);
            } else if (strcmp(word, "--steps") == 0) {
                bench->steps = (uint32_t)atoi(value);
            } else {
                return false;
            }
        }
    }
    return bench->path != NULL && bench->prompt > 0 && bench->steps > 0;
}

static bool prepare(struct bench *bench)
{
    if (failed(bench, model_source_open(bench->path, false, &bench->source, &bench->error),
               "opening the file") ||
        failed(bench, model_plan_build(bench->source, &bench->plan, &bench->info, &bench->error),
               "the plan")) {
        return false;
    }
    bench->sequences_max = 1;
    for (uint32_t i = 0; i < bench->batch_count; i++) {
        bench->sequences_max =
            bench->batches[i] > bench->sequences_max ? bench->batches[i] : bench->sequences_max;
    }
    uint32_t tokens = bench->prompt;
    tokens = tokens < PROMPT + bench->steps + 4 ? PROMPT + bench->steps + 4 : tokens;
    tokens = tokens < CHECK_TOKENS ? CHECK_TOKENS : tokens;
    bench->rows_max = tokens < 512 ? 512 : tokens;
    /* One long sequence or many short ones. */
    uint32_t each = (PROMPT + bench->steps + 4 + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint32_t needed = (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    bench->blocks_each = each * bench->sequences_max < needed ? needed : each;
    bench->blocks_each = bench->blocks_each > needed ? bench->blocks_each : needed;
    bench->tokens = calloc(bench->rows_max, sizeof(uint32_t));
    bench->positions = calloc(bench->rows_max, sizeof(uint32_t));
    bench->sequences = calloc(bench->rows_max, sizeof(uint32_t));
    bench->rows = calloc(bench->rows_max, sizeof(uint32_t));
    uint64_t entries = (uint64_t)bench->blocks_each * bench->sequences_max;
    bench->tables = calloc(entries, sizeof(uint32_t));
    if (!bench->tokens || !bench->positions || !bench->sequences || !bench->rows ||
        !bench->tables) {
        printf("FAILED: no memory\n");
        return false;
    }
    for (uint64_t i = 0; i < entries; i++) {
        bench->tables[i] = (uint32_t)(entries - 1 - i);
    }
    return true;
}

int main(int count, char **words)
{
    static struct bench bench = {
        .device_name = "cuda", .kv_dtype = DTYPE_F16, .prompt = 2048, .steps = 64};
    bench.options.log = &log_sink;
    read_batches(&bench, "1,8,32,64,256");
    if (!read_options(&bench, count, words)) {
        printf("usage: bench_gpu MODEL.gguf [--device cuda|hip|emu] [--index N] [--cache FOLDER] "
               "[--plain] [--own]\n    [--no-graphs] [--no-overlap] [--all-rows] [--deterministic] "
               "[--check] "
               "[--batches 1,8,32] [--prompt N] [--steps N] [--launches]\n");
        return 2;
    }
    bool fine = prepare(&bench) && open_all(&bench);
    if (fine && bench.check) {
        fine = check(&bench);
    }
    for (uint32_t i = 0; i < bench.batch_count && fine; i++) {
        fine =
            bench.launches ? launches(&bench, bench.batches[i]) : decode(&bench, bench.batches[i]);
    }
    if (!bench.launches) {
        fine = fine && prefill(&bench, bench.prompt, "prefill");
        fine = fine && (bench.prompt < 512 || prefill(&bench, 512, "first token"));
    }
    printf("\n%s%s%s%s%s%s\n", bench.path,
           bench.options.linear == GPU_LINEAR_PLAIN ? ", plain kernels"
           : bench.options.linear == GPU_LINEAR_OWN ? ", own kernels"
                                                    : "",
           bench.options.no_graphs ? ", no graphs" : "",
           bench.options.no_overlap ? ", no overlap" : "",
           bench.options.all_rows ? ", all rows" : "",
           bench.options.deterministic ? ", deterministic" : "");
    for (uint32_t i = 0; i < bench.line_count; i++) {
        printf("    %s\n", bench.lines[i]);
    }
    device_model_unload(bench.model);
    device_close(bench.device);
    plan_destroy(bench.plan);
    model_source_close(bench.source);
    free(bench.tokens);
    free(bench.positions);
    free(bench.sequences);
    free(bench.rows);
    free(bench.tables);
    return fine ? 0 : 1;
}
