/* `llcuda bench --mode concurrent|memory|sweep|scaling` and the load of latency and throughput by
 * direct flags: makes the configuration that a file would hold, and runs the suite with it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "bench/analysis.h"
#include "bench/local.h"
#include "cli/bench_suite.h"
#include "cli/open.h"

#define LIST_MAX 16u

/* What a sweep looks at, as shares of the rate at which the engine is full. */
static const double sweep_shares[] = {0.1, 0.25, 0.5, 0.75, 0.9, 1.1};

static const enum option_id load_options[] = {
    OPTION_BENCH_CONCURRENCY, OPTION_BENCH_RATE,    OPTION_BENCH_ARRIVAL,
    OPTION_BENCH_BATCH,       OPTION_BENCH_ITERS,   OPTION_BENCH_WARMUP,
    OPTION_BENCH_DURATION,    OPTION_BENCH_GOODPUT, OPTION_BENCH_DATASET,
};

struct direct {
    struct options *options;
    const char *mode;
    struct json_writer writer;
    struct buffer text;
    double rates[LIST_MAX]; /* of a sweep, once they are known */
    uint32_t rate_count;
    bool finding_limit; /* of a sweep: the closed loop before it */
    bool wrong_flag;    /* what was given makes no configuration */
};

bool bench_direct_wanted(const struct options *options)
{
    static const char *const modes[] = {"concurrent", "memory", "sweep", "scaling"};
    const char *mode = option_text(options, OPTION_BENCH_MODE);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode, modes[i]) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof load_options / sizeof load_options[0]; i++) {
        if (option_given(options, load_options[i])) {
            return true;
        }
    }
    /* A folder is asked for where a report is wanted; kernels puts other things there. */
    return option_given(options, OPTION_OUTPUT) && !option_given(options, OPTION_CONFIG) &&
           strcmp(mode, "kernels") != 0;
}

/* ---------------------------------------------------------------- the configuration */

static void key_text(struct direct *direct, const char *key, const char *value)
{
    json_key(&direct->writer, key);
    json_write_string(&direct->writer, value);
}

static void key_number(struct direct *direct, const char *key, double value)
{
    json_key(&direct->writer, key);
    json_write_number(&direct->writer, value);
}

/* Words between commas, as they are: what is no number is found by the configuration's reader. */
static void key_list(struct direct *direct, const char *key, const char *list)
{
    json_key(&direct->writer, key);
    json_begin_array(&direct->writer);
    while (*list) {
        size_t length = strcspn(list, ",");
        char word[32];
        char *end = word;
        snprintf(word, sizeof word, "%.*s", (int)(length < 31 ? length : 31), list);
        double value = strtod(word, &end);
        if (end > word && !*end) {
            json_write_number(&direct->writer, value);
        } else {
            json_write_string(&direct->writer, word);
        }
        list += length + (list[length] == ',');
    }
    json_end_array(&direct->writer);
}

static const char *text_or(const struct direct *direct, enum option_id id, const char *otherwise)
{
    return option_given(direct->options, id) ? option_text(direct->options, id) : otherwise;
}

/* NAME or NAME:FILE. A trace also decides what kind of load it is. */
static void write_dataset(struct direct *direct)
{
    const char *given = option_text(direct->options, OPTION_BENCH_DATASET);
    if (!given) {
        return;
    }
    const char *colon = strchr(given, ':');
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)(colon ? colon - given : 31), given);
    key_text(direct, strcmp(name, "trace") == 0 ? "type" : "dataset", name);
    if (strcmp(name, "shared-prefix") == 0) {
        key_number(direct, "prefix_tokens", colon ? strtod(colon + 1, NULL) : 32);
    } else if (colon) {
        key_text(direct, "dataset_path", colon + 1);
    }
}

/* "ttft:500,tpot:50" */
static void write_goodput(struct direct *direct)
{
    const char *list = option_text(direct->options, OPTION_BENCH_GOODPUT);
    if (!list) {
        return;
    }
    json_key(&direct->writer, "goodput");
    json_begin_object(&direct->writer);
    while (*list) {
        char name[16];
        size_t length = strcspn(list, ",");
        size_t colon = strcspn(list, ":,");
        char *end = NULL;
        snprintf(name, sizeof name, "%.*s", (int)(colon < 15 ? colon : 15), list);
        double value = colon < length ? strtod(list + colon + 1, &end) : NAN;
        json_key(&direct->writer, name);
        json_write_number(&direct->writer, value);
        list += length + (list[length] == ',');
    }
    json_end_object(&direct->writer);
}

static void write_level(struct direct *direct)
{
    const char *mode = direct->mode;
    const char *dataset = option_text(direct->options, OPTION_BENCH_DATASET);
    const char *rates = option_text(direct->options, OPTION_BENCH_RATE);
    const char *concurrency = option_text(direct->options, OPTION_BENCH_CONCURRENCY);
    bool closed = strcmp(mode, "concurrent") == 0 || strcmp(mode, "scaling") == 0;
    if (dataset && strncmp(dataset, "trace", 5) == 0) {
        return;
    }
    if (direct->finding_limit) {
        key_list(direct, "concurrency", concurrency ? concurrency : "32");
    } else if (direct->rate_count) {
        json_key(&direct->writer, "request_rates");
        json_begin_array(&direct->writer);
        for (uint32_t i = 0; i < direct->rate_count; i++) {
            json_write_number(&direct->writer, direct->rates[i]);
        }
        json_end_array(&direct->writer);
    } else if (rates) {
        key_list(direct, "request_rates", rates);
    } else if (closed || concurrency) {
        key_list(direct, "concurrency",
                 concurrency                ? concurrency
                 : closed && mode[0] == 's' ? "8"
                                            : "1,4,16");
    } else {
        key_list(direct, "batch_sizes",
                 text_or(direct, OPTION_BENCH_BATCH,
                         mode[0] == 'l'   ? "1"
                         : mode[0] == 'm' ? "1,4,16"
                                          : "1,8,32"));
    }
}

static void write_workload(struct direct *direct)
{
    static const struct {
        enum option_id id;
        const char *key;
    } numbers[] = {{OPTION_BENCH_ITERS, "iterations"}, {OPTION_BENCH_WARMUP, "warmup"}};
    bool memory = strcmp(direct->mode, "memory") == 0;
    json_begin_object(&direct->writer);
    key_text(direct, "name", direct->mode);
    write_level(direct);
    key_list(direct, "sequence_lengths",
             text_or(direct, OPTION_BENCH_PROMPT, memory ? "128,512,1024" : "128"));
    const char *output = text_or(direct, OPTION_BENCH_GENERATE, memory ? "8" : "64");
    key_number(direct, "output_tokens", strtod(output, NULL));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (option_given(direct->options, numbers[i].id)) {
            key_number(direct, numbers[i].key,
                       (double)option_integer(direct->options, numbers[i].id, 1));
        }
    }
    if (option_given(direct->options, OPTION_BENCH_DURATION)) {
        key_number(direct, "duration", option_number(direct->options, OPTION_BENCH_DURATION, 10));
    }
    if (option_given(direct->options, OPTION_BENCH_ARRIVAL)) {
        const char *arrival = option_text(direct->options, OPTION_BENCH_ARRIVAL);
        key_text(direct, "arrival", arrival);
        if (strcmp(arrival, "gamma") == 0) {
            key_number(direct, "burstiness", 0.5);
        }
    }
    write_dataset(direct);
    write_goodput(direct);
    json_end_object(&direct->writer);
}

/* One engine; with `ranks` so many processes that share the load. */
static void write_engine(struct direct *direct, const char *device, uint32_t ranks, int64_t threads)
{
    bool cpu = strcmp(device, "cpu") == 0;
    char name[64];
    snprintf(name, sizeof name, ranks == 1 ? "one %s" : "%2$u %1$ss", cpu ? "rank" : "device",
             ranks);
    json_begin_object(&direct->writer);
    key_text(direct, "name", ranks ? name : "llcuda");
    key_text(direct, "engine", cpu ? "llcuda_cpu" : "llcuda_gpu");
    key_text(direct, "device", device);
    if (ranks > 1) {
        key_number(direct, "ranks", ranks);
    }
    if (threads > 0) {
        key_number(direct, "threads", (double)threads);
    }
    if (option_given(direct->options, OPTION_CONTEXT)) {
        key_number(direct, "context",
                   (double)option_integer(direct->options, OPTION_CONTEXT, 2048));
    }
    json_end_object(&direct->writer);
}

static llcuda_status write_engines(struct direct *direct, struct llcuda_error *error)
{
    struct options *options = direct->options;
    struct local_list ranks = {0};
    const char *device = option_text(options, OPTION_DEVICE);
    int64_t threads = option_integer(options, OPTION_THREADS, 0);
    const char *listed = option_text(options, OPTION_BENCH_RANKS);
    device = strcmp(device, "auto") == 0 ? "cpu" : device;
    if (strcmp(direct->mode, "scaling") != 0) {
        write_engine(direct, device, 0, threads);
        return LLCUDA_OK;
    }
    llcuda_status status = local_list_read(&ranks, "--ranks", listed ? listed : "1,2", 1, error);
    uint32_t most = 1;
    for (uint32_t i = 0; !status && i < ranks.count; i++) {
        most = ranks.values[i] > most ? ranks.values[i] : most;
    }
    if (strcmp(device, "cpu") == 0 && threads == 0) {
        /* The largest number shares the machine; one rank gets what one of them gets. */
        threads = sysconf(_SC_NPROCESSORS_ONLN) / most;
        threads = threads < 1 ? 1 : threads;
    }
    for (uint32_t i = 0; !status && i < ranks.count; i++) {
        write_engine(direct, device, ranks.values[i], threads);
    }
    return status;
}

static llcuda_status write_config(struct direct *direct, struct llcuda_error *error)
{
    struct options *options = direct->options;
    const struct option_value *models = &options->values[OPTION_MODEL];
    struct json_writer *writer = &direct->writer;
    char title[64];
    buffer_clear(&direct->text);
    json_writer_init(writer, &direct->text, 1);
    json_begin_object(writer);
    json_key(writer, "benchmark");
    json_begin_object(writer);
    snprintf(title, sizeof title, "llcuda bench --mode %s", direct->mode);
    key_text(direct, "name", title);
    key_text(direct, "model_path", models->text_count ? models->texts[0] : "builtin");
    key_number(direct, "repeats",
               direct->finding_limit
                   ? 1
                   : (double)option_integer(options, OPTION_BENCH_REPEATS,
                                            option_given(options, OPTION_BENCH_REPEATS) ? 5 : 3));
    json_end_object(writer);
    json_key(writer, "engines");
    json_begin_array(writer);
    llcuda_status status = write_engines(direct, error);
    json_end_array(writer);
    json_key(writer, "workloads");
    json_begin_array(writer);
    write_workload(direct);
    json_end_array(writer);
    json_end_object(writer);
    buffer_append_byte(&direct->text, '\n');
    return !status && direct->text.failed ? error_no_memory(error, "a configuration", 1) : status;
}

/* ---------------------------------------------------------------- running it */

static llcuda_status measure(struct direct *direct, const char *folder, struct llcuda_error *error)
{
    struct config *config = NULL;
    struct config_places places;
    char self[4096];
    llcuda_status status = write_config(direct, error);
    bench_find_places(direct->options, &places, self, sizeof self);
    if (!status) {
        status = config_read("options.json", buffer_text(&direct->text), &places, &config, error);
        const char *place = status && error ? strstr(error->message, ": ") : NULL;
        if (place && strncmp(error->message, "options.json:", 13) == 0) {
            /* Nobody has seen that file: what was expected is what helps. */
            char message[400];
            snprintf(message, sizeof message, "%s", place + 2);
            error_set(error, status, "a flag of the load: %s", message);
            direct->wrong_flag = true;
        }
    }
    if (!status) {
        status = bench_run_config(config, folder, error);
    }
    config_destroy(config);
    return status;
}

/* The rates of a sweep, from how many requests a second a full engine answers. */
static llcuda_status find_rates(struct direct *direct, const char *folder,
                                struct llcuda_error *error)
{
    struct analysis *analysis = NULL;
    double full = 0;
    char *below = file_path_join(folder, "limit");
    direct->finding_limit = true;
    llcuda_status status =
        below ? measure(direct, below, error) : error_no_memory(error, "a path", 1);
    direct->finding_limit = false;
    if (!status) {
        status = analysis_open(below, &analysis, error);
    }
    for (uint32_t p = 0; !status && p < analysis->point_count; p++) {
        full = fmax(full, analysis_cell(analysis, 0, p)->figures[METRIC_REQUESTS_S].mean);
    }
    if (!status && !(full > 0)) {
        status = error_set(error, LLCUDA_IO, "the engine answered nothing in a closed loop: %s",
                           analysis->engines[0].reason);
    }
    for (size_t i = 0; !status && i < sizeof sweep_shares / sizeof sweep_shares[0]; i++) {
        double rate = full * sweep_shares[i];
        direct->rates[direct->rate_count++] = round(rate * 1000) / 1000;
    }
    fprintf(stderr, "full at %.4g requests a second\n", full);
    analysis_close(analysis);
    free(below);
    return status;
}

int bench_direct(struct options *options)
{
    struct direct direct = {.options = options, .mode = option_text(options, OPTION_BENCH_MODE)};
    struct llcuda_error error = {0};
    char made[] = "/tmp/llcuda-bench-XXXXXX";
    const char *folder = option_text(options, OPTION_OUTPUT);
    llcuda_status status = LLCUDA_OK;
    if (strcmp(direct.mode, "kernels") == 0) {
        return console_usage(options->command, "--mode kernels takes --pp and --tg, no load");
    }
    if (!folder) {
        folder = mkdtemp(made);
        status = folder ? LLCUDA_OK : error_set(&error, LLCUDA_IO, "no folder in /tmp");
    }
    if (!status && strcmp(direct.mode, "sweep") == 0 && !option_given(options, OPTION_BENCH_RATE)) {
        char below[] = "/tmp/llcuda-sweep-XXXXXX";
        status = mkdtemp(below) ? find_rates(&direct, below, &error)
                                : error_set(&error, LLCUDA_IO, "no folder in /tmp");
    }
    if (!status) {
        status = measure(&direct, folder, &error);
    }
    buffer_deinit(&direct.text);
    if (direct.wrong_flag) {
        return console_usage(options->command, "%s", error.message);
    }
    return status ? console_fail(options, &error) : bench_make_report(options, folder);
}
