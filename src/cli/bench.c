/* `llcuda bench`: how fast this machine is with a model. --mode decides what is measured; the
 * measuring itself is in bench/. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "bench/local.h"
#include "bench/roofline.h"
#include "cli/bench_chooser.h"
#include "cli/bench_suite.h"
#include "cli/bench_tokenize.h"
#include "cli/evaluator.h"
#include "cpu/cpu.h"

static bool keep_going(void *user, uint32_t done, uint32_t total)
{
    return console_progress_report(user, done, total) && !console_interrupted();
}

static int read_options(struct options *options, struct local_options *local)
{
    static const struct {
        enum option_id id;
        const char *name;
        uint32_t minimum;
    } rows[] = {{OPTION_BENCH_PROMPT, "--pp", 0},
                {OPTION_BENCH_GENERATE, "--tg", 0},
                {OPTION_BENCH_DEPTH, "--depth", 0},
                {OPTION_BENCH_PARALLEL, "--parallel", 1}};
    struct local_list *lists[] = {&local->prompts, &local->generations, &local->depths,
                                  &local->parallel};
    struct llcuda_error error = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (local_list_read(lists[i], rows[i].name, option_text(options, rows[i].id),
                            rows[i].minimum, &error)) {
            return console_usage(options->command, "%s", error.message);
        }
    }
    local->repeats = (uint32_t)option_integer(options, OPTION_BENCH_REPEATS, 5);
    return EXIT_DONE;
}

/* Gives an option the value that the measurements need, unless the user has. */
static llcuda_status default_to(struct options *options, enum option_id id, uint32_t value,
                                struct llcuda_error *error)
{
    char text[16];
    snprintf(text, sizeof text, "%u", value);
    return option_given(options, id) ? LLCUDA_OK
                                     : option_set(options, id, text, ORIGIN_DEFAULT, error);
}

static int print(struct options *options, llcuda_status status, const struct llcuda_error *error,
                 const struct buffer *out)
{
    if (status) {
        return console_fail(options, error);
    }
    return console_write_buffer(out) ? EXIT_DONE : EXIT_FAILED;
}

/* Through the engine, one request at a time or many together. */
static int run_requests(struct options *options, struct local_options *local, const char *mode,
                        bool parallel)
{
    struct llcuda_error error = {0};
    llcuda_engine *engine = NULL;
    struct local_report report = {0};
    struct console_progress progress;
    struct buffer out = {0};
    uint32_t most = 1;
    for (uint32_t i = 0; parallel && i < local->parallel.count; i++) {
        most = local->parallel.values[i] > most ? local->parallel.values[i] : most;
    }
    llcuda_status status = default_to(options, OPTION_CONTEXT, local_context_length(local), &error);
    if (!status) {
        status = default_to(options, OPTION_RUNNING_MAX, most, &error);
    }
    int result = status ? console_fail(options, &error) : open_engine(options, false, &engine);
    if (result) {
        return result;
    }
    console_progress_begin(&progress, "measuring");
    local->proceed = keep_going;
    local->user = &progress;
    status = parallel ? local_throughput(engine, local, &report, &error)
                      : local_latency(engine, local, &report, &error);
    console_progress_end(&progress);
    if (option_flag(options, OPTION_JSON)) {
        local_report_json(llcuda_engine_get_info(engine), mode, &report, &out);
    } else {
        local_report_text(llcuda_engine_get_info(engine), &report, &out);
    }
    result = print(options, status, &error, &out);
    local_report_deinit(&report);
    buffer_deinit(&out);
    llcuda_engine_close(engine);
    return result;
}

/* kernels.json and roofline.svg into a folder; the folder of a run gets its report made again with
 * them. */
static int keep_kernels(struct options *options, const char *folder, const struct buffer *json)
{
    struct llcuda_error error = {0};
    struct buffer svg = {0};
    struct roofline *roofline = malloc(sizeof *roofline);
    char *kernels = file_path_join(folder, "kernels.json");
    char *picture = file_path_join(folder, "roofline.svg");
    char *summary = file_path_join(folder, "summary.json");
    bool named = roofline && kernels && picture && summary;
    llcuda_status status = named ? LLCUDA_OK : error_no_memory(&error, "a roofline", 1);
    if (!status && mkdir(folder, 0755) && errno != EEXIST) {
        status = error_from_errno(&error, errno, "make the folder", folder);
    }
    if (!status) {
        status = file_write_atomic(kernels, json->data, json->length, &error);
    }
    if (!status) {
        status = roofline_read(buffer_view(json), roofline, &error);
    }
    if (!status) {
        roofline_svg(roofline, &svg);
        status = file_write_atomic(picture, svg.data, svg.length, &error);
    }
    bool run = !status && file_exists(summary);
    buffer_deinit(&svg);
    free(roofline);
    free(kernels);
    free(picture);
    free(summary);
    if (status) {
        return console_fail(options, &error);
    }
    fprintf(stderr, "%s: kernels.json, roofline.svg\n", folder);
    return run ? bench_make_report(options, folder) : EXIT_DONE;
}

/* Directly on the device, with a profile. */
static int run_kernels(struct options *options, struct local_options *local)
{
    struct llcuda_error error = {0};
    struct evaluator evaluator = {.steps_as_served = true, .logits_rows_max = 1};
    struct device_ceilings ceilings = {0};
    struct bench_chooser chooser = {0};
    struct console_progress progress;
    struct buffer out = {0};
    uint32_t positions = local_context_length(local);
    llcuda_status status = evaluator_open(&evaluator, options, positions, &error);
    if (!status && evaluator.context_length < positions) {
        status = error_set(&error, LLCUDA_CONTEXT_FULL,
                           "these measurements need %u positions and the context has %u", positions,
                           evaluator.context_length);
    }
    if (!status) {
        status = device_measure(evaluator.device, &ceilings, &error);
    }
    if (!status) {
        struct device_info info;
        const char *colon = strchr(option_text(options, OPTION_DEVICE), ':');
        device_describe(evaluator.device, &info);
        local->has_counters = strcmp(info.kind, "cuda") == 0;
        if (!colon || sscanf(colon + 1, "%d", &local->counters_device) != 1) {
            local->counters_device = 0; /* the first is what `auto` takes */
        }
        status = bench_chooser_init(&chooser, evaluator.plan->vocabulary_size, 0.8, &error);
        local->choose = bench_choose;
        local->chooser = &chooser;
        local->tokenizer = bench_tokenizer_open(&evaluator);
        local->tokenize = local->tokenizer ? bench_tokenize : NULL;
    }
    if (!status) {
        console_progress_begin(&progress, "measuring");
        local->proceed = keep_going;
        local->user = &progress;
        status =
            local_kernels(evaluator.model, evaluator.blocks, &ceilings, local,
                          option_flag(options, OPTION_JSON) || option_given(options, OPTION_OUTPUT),
                          &out, &error);
        console_progress_end(&progress);
    }
    const char *folder = option_text(options, OPTION_OUTPUT);
    int result = !status && folder ? keep_kernels(options, folder, &out)
                                   : print(options, status, &error, &out);
    bench_tokenizer_close(local->tokenizer);
    bench_chooser_deinit(&chooser);
    evaluator_close(&evaluator);
    buffer_deinit(&out);
    return result;
}

int command_bench(struct options *options)
{
    struct local_options local = {0};
    const char *mode = option_text(options, OPTION_BENCH_MODE);
    bool kernels = strcmp(mode, "kernels") == 0 && !option_given(options, OPTION_CONFIG) &&
                   options->argument_count == 0;
    if (!kernels && bench_suite_wanted(options)) {
        return bench_suite(options);
    }
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    if (bench_direct_wanted(options)) {
        return bench_direct(options);
    }
    int result = read_options(options, &local);
    if (result) {
        return result;
    }
    if (strcmp(mode, "latency") == 0 || strcmp(mode, "throughput") == 0) {
        return run_requests(options, &local, mode, mode[0] == 't');
    }
    if (strcmp(mode, "kernels") == 0) {
        return run_kernels(options, &local);
    }
    return console_usage(options->command,
                         "--mode is latency, throughput, concurrent, memory, kernels, sweep or "
                         "scaling, not '%s'",
                         mode);
}
