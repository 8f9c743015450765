/* Owns the way from the option table to the public API. */
#include "cli/open.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"
#include "engine/device_open.h"

static void write_engine_log(void *user, llcuda_log_level level, const char *message)
{
    log_message(user, (enum log_level)level, "%s", message);
}

llcuda_status open_device_name(struct options *options, const char **name,
                               struct llcuda_error *error)
{
    const char *device = option_text(options, OPTION_DEVICE);
    const char *level = option_text(options, OPTION_CPU_LEVEL);
    /* Who names no device is told nothing of GPUs that the machine does not have. */
    *name = option_given(options, OPTION_DEVICE) ? device : NULL;
    if (!level) {
        return LLCUDA_OK;
    }
    if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "--cpu-level goes with --device cpu, not '%s'", device);
    }
    struct buffer text = {0};
    buffer_printf(&text, "cpu:%s", level);
    *name = arena_copy_text(&options->arena, buffer_view(&text)).data;
    buffer_deinit(&text);
    return *name ? LLCUDA_OK : error_no_memory(error, "a device's name", strlen(level));
}

bool cache_type_find(const char *name, llcuda_kv_type *type, enum dtype *dtype)
{
    static const struct {
        const char *name;
        llcuda_kv_type type;
        enum dtype dtype;
    } types[] = {{"f16", LLCUDA_KV_F16, DTYPE_F16},
                 {"f32", LLCUDA_KV_F32, DTYPE_F32},
                 {"bf16", LLCUDA_KV_BF16, DTYPE_BF16},
                 {"q8_0", LLCUDA_KV_Q8_0, DTYPE_Q8_0},
                 {"fp8", LLCUDA_KV_FP8, DTYPE_F8_E4M3}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) == 0) {
            if (type) {
                *type = types[i].type;
            }
            if (dtype) {
                *dtype = types[i].dtype;
            }
            return true;
        }
    }
    return false;
}

static bool cache_type(const struct options *options, llcuda_kv_type *type)
{
    const char *text = option_text(options, OPTION_CACHE_TYPE);
    bool known = cache_type_find(text, type, NULL);
    if (!known) {
        console_usage(options->command, "--cache-type is f16, bf16, f32, q8_0 or fp8, not '%s'",
                      text);
    }
    return known;
}

/* The text of --template, kept in the options' arena; EXIT_DONE with NULL when it was not given. */
static int read_template(struct options *options, const char **text)
{
    struct llcuda_error error = {0};
    struct buffer contents = {0};
    const char *path = option_text(options, OPTION_TEMPLATE);
    *text = NULL;
    if (!path) {
        return EXIT_DONE;
    }
    llcuda_status status = file_read_all(path, LIMIT_TEMPLATE_BYTES, &contents, &error);
    if (!status) {
        *text = arena_copy_text(&options->arena, buffer_view(&contents)).data;
        status = *text ? LLCUDA_OK : error_no_memory(&error, path, contents.length);
    }
    buffer_deinit(&contents);
    return status ? console_fail(options, &error) : EXIT_DONE;
}

/* The folder of compiled kernels, where the XDG rules put caches; without a home none are kept. */
static const char *kernel_cache(struct options *options)
{
    const char *given = option_text(options, OPTION_KERNEL_CACHE);
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (given) {
        return *given ? given : NULL;
    }
    struct buffer path = {0};
    if (cache && cache[0] == '/') {
        buffer_printf(&path, "%s/llcuda/kernels", cache);
    } else if (home && home[0] == '/') {
        buffer_printf(&path, "%s/.cache/llcuda/kernels", home);
    }
    const char *kept =
        path.length ? arena_copy_text(&options->arena, buffer_view(&path)).data : NULL;
    buffer_deinit(&path);
    return kept;
}

/* "auto", "all" or a number; false for anything else. */
static bool read_layers(const char *text, int32_t *layers)
{
    uint32_t value = 0;
    if (strcmp(text, "auto") == 0 || strcmp(text, "all") == 0) {
        *layers = strcmp(text, "auto") == 0 ? LLCUDA_GPU_LAYERS_AUTO : 0;
        return true;
    }
    for (const char *digit = text; *digit; digit++) {
        if (*digit < '0' || *digit > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(*digit - '0');
        if (value > LIMIT_LAYER_COUNT) {
            return false;
        }
    }
    *layers = value == 0 ? LLCUDA_GPU_LAYERS_NONE : (int32_t)value;
    return *text != 0;
}

/* "1.5" GiB or "90%"; NULL is no limit. False for anything else. */
static bool read_memory_limit(const char *text, llcuda_engine_options *engine_options)
{
    if (!text) {
        return true;
    }
    char *end;
    double value = strtod(text, &end);
    bool is_number = *text >= '0' && *text <= '9';
    if (is_number && strcmp(end, "%") == 0 && value >= 1 && value <= 100) {
        engine_options->gpu_memory_share = value / 100;
        return true;
    }
    if (!is_number || *end != 0 || !(value >= 0.001 && value <= 1000000)) {
        return false;
    }
    engine_options->gpu_memory_limit_bytes = (uint64_t)(value * 0x1p30);
    return true;
}

int open_gpu_options(struct options *options, llcuda_engine_options *engine_options)
{
    const char *limit = option_text(options, OPTION_GPU_MEMORY_LIMIT);
    const char *layers = option_text(options, OPTION_GPU_LAYERS);
    if (!read_layers(layers, &engine_options->gpu_layers)) {
        return console_usage(options->command,
                             "--gpu-layers is a number up to %u, auto or all, not '%s'",
                             LIMIT_LAYER_COUNT, layers);
    }
    const char *graphs = option_text(options, OPTION_GPU_GRAPHS);
    if (strcmp(graphs, "on") != 0 && strcmp(graphs, "off") != 0) {
        return console_usage(options->command, "--gpu-graphs is on or off, not '%s'", graphs);
    }
    engine_options->gpu_no_graphs = strcmp(graphs, "off") == 0;
    engine_options->gpu_library_path = option_text(options, OPTION_CUDA_PATH);
    engine_options->gpu_kernel_cache = kernel_cache(options);
    engine_options->gpu_kernel_pack = option_text(options, OPTION_KERNEL_PACK);
    if (engine_options->gpu_kernel_pack && !file_exists(engine_options->gpu_kernel_pack)) {
        return console_usage(options->command, "--kernel-pack: there is no file '%s'",
                             engine_options->gpu_kernel_pack);
    }
    if (!read_memory_limit(limit, engine_options)) {
        return console_usage(
            options->command,
            "--gpu-memory-limit is a number of GiB from 0.001 on or a share of 1%% "
            "to 100%%, not '%s'",
            limit);
    }
    engine_options->deterministic = option_flag(options, OPTION_DETERMINISTIC);
    return EXIT_DONE;
}

int open_check_options(struct options *options)
{
    struct log_sink log;
    llcuda_kv_type type;
    llcuda_engine_options gpu;
    const char *device;
    struct llcuda_error error = {0};
    llcuda_engine_options_init(&gpu, sizeof gpu);
    if (!console_log_sink(options, &log) || !cache_type(options, &type)) {
        return EXIT_USAGE;
    }
    if (open_device_name(options, &device, &error) || device_name_check(device, &error)) {
        return console_usage(options->command, "%s", error.message);
    }
    const struct option_value *stops = &options->values[OPTION_STOP];
    for (uint32_t i = 0; i < stops->text_count; i++) {
        if (!*stops->texts[i]) {
            return console_usage(options->command, "--stop takes a text, not an empty one");
        }
    }
    return open_gpu_options(options, &gpu);
}

int open_engine_options(struct options *options, llcuda_engine_options *engine_options)
{
    /* It is used as long as the engine is open. */
    struct log_sink *log = arena_alloc(&options->arena, 1, sizeof *log);
    llcuda_engine_options_init(engine_options, sizeof *engine_options);
    engine_options->model = option_text(options, OPTION_MODEL);
    engine_options->builtin_model = builtin_model_data();
    engine_options->builtin_model_bytes = builtin_model_bytes();
    engine_options->threads = (uint32_t)option_integer(options, OPTION_THREADS, 0);
    engine_options->context_length = (uint32_t)option_integer(options, OPTION_CONTEXT, 0);
    engine_options->running_max = (uint32_t)option_integer(options, OPTION_RUNNING_MAX, 0);
    engine_options->step_tokens = (uint32_t)option_integer(options, OPTION_STEP_TOKENS, 0);
    /* Nobody waits for a line of a batch. */
    engine_options->throughput_bias =
        option_number(options, OPTION_THROUGHPUT, options->command == COMMAND_BATCH ? 1 : 0.5);
    engine_options->queue_max = (uint32_t)option_integer(options, OPTION_QUEUE_MAX, 0);
    if (!log) {
        return console_usage(options->command, "not enough memory for the options");
    }
    if (!console_log_sink(options, log) || !cache_type(options, &engine_options->kv_type)) {
        return EXIT_USAGE;
    }
    struct llcuda_error error = {0};
    if (open_device_name(options, &engine_options->device, &error)) {
        return console_usage(options->command, "%s", error.message);
    }
    int result = open_gpu_options(options, engine_options);
    if (result) {
        return result;
    }
    engine_options->log = write_engine_log;
    engine_options->log_user = log;
    engine_options->log_level = (llcuda_log_level)log->level_max;
    return read_template(options, &engine_options->chat_template);
}

int open_engine(struct options *options, bool vocabulary_only, llcuda_engine **engine)
{
    struct console_progress progress;
    llcuda_engine_options engine_options;
    int result = open_engine_options(options, &engine_options);
    if (result) {
        return result;
    }
    engine_options.vocabulary_only = vocabulary_only;
    console_progress_begin(&progress, "loading the model");
    engine_options.progress = console_progress_report;
    engine_options.progress_user = &progress;
    struct llcuda_error error = {0};
    llcuda_status status = llcuda_engine_open(&engine_options, engine, &error);
    console_progress_end(&progress);
    return status ? console_fail(options, &error) : EXIT_DONE;
}

/* "ID=BIAS" with a decimal id. */
static bool read_bias(const char *text, llcuda_logit_bias *bias)
{
    uint64_t token = 0;
    size_t digits = 0;
    while (text[digits] >= '0' && text[digits] <= '9' && digits < 10) {
        token = token * 10 + (uint64_t)(text[digits++] - '0');
    }
    if (digits == 0 || text[digits] != '=' || token > UINT32_MAX || text[digits + 1] == 0) {
        return false;
    }
    char *end;
    double value = strtod(text + digits + 1, &end);
    bias->token = (uint32_t)token;
    bias->bias = (float)value;
    return *end == 0 && !isnan(value);
}

static int read_lists(struct options *options, llcuda_request_options *request)
{
    const struct option_value *stops = &options->values[OPTION_STOP];
    const struct option_value *biases = &options->values[OPTION_LOGIT_BIAS];
    llcuda_text *stop = arena_alloc(&options->arena, stops->text_count, sizeof *stop);
    llcuda_logit_bias *bias = arena_alloc(&options->arena, biases->text_count, sizeof *bias);
    if (!stop || !bias) {
        return console_usage(options->command, "not enough memory for the options");
    }
    for (uint32_t i = 0; i < stops->text_count; i++) {
        stop[i] = (llcuda_text){stops->texts[i], strlen(stops->texts[i])};
    }
    for (uint32_t i = 0; i < biases->text_count; i++) {
        if (!read_bias(biases->texts[i], &bias[i])) {
            return console_usage(options->command, "--logit-bias takes ID=BIAS, not '%s'",
                                 biases->texts[i]);
        }
    }
    request->stop = stop;
    request->stop_count = stops->text_count;
    request->logit_bias = bias;
    request->logit_bias_count = biases->text_count;
    return EXIT_DONE;
}

int open_request_options(struct options *options, const llcuda_engine *engine,
                         llcuda_request_options *request)
{
    llcuda_engine_request_defaults(engine, request, sizeof *request);
    request->max_tokens = (uint32_t)option_integer(options, OPTION_MAX_TOKENS, 0);
    request->ignore_eos = option_flag(options, OPTION_IGNORE_EOS);
    request->temperature = option_number(options, OPTION_TEMPERATURE, request->temperature);
    request->top_k = (uint32_t)option_integer(options, OPTION_TOP_K, request->top_k);
    request->top_p = option_number(options, OPTION_TOP_P, request->top_p);
    request->min_p = option_number(options, OPTION_MIN_P, request->min_p);
    request->typical_p = option_number(options, OPTION_TYPICAL_P, request->typical_p);
    request->repetition_penalty =
        option_number(options, OPTION_REPEAT_PENALTY, request->repetition_penalty);
    request->presence_penalty =
        option_number(options, OPTION_PRESENCE_PENALTY, request->presence_penalty);
    request->frequency_penalty =
        option_number(options, OPTION_FREQUENCY_PENALTY, request->frequency_penalty);
    request->dry_multiplier =
        option_number(options, OPTION_DRY_MULTIPLIER, request->dry_multiplier);
    request->dry_base = option_number(options, OPTION_DRY_BASE, request->dry_base);
    request->dry_allowed_length =
        (uint32_t)option_integer(options, OPTION_DRY_ALLOWED, request->dry_allowed_length);
    request->seed_given = option_given(options, OPTION_SEED);
    request->seed = (uint64_t)option_integer(options, OPTION_SEED, 0);
    return read_lists(options, request);
}

static uint64_t prompt_rows(const llcuda_engine *engine)
{
    llcuda_stats stats = {.size = sizeof stats};
    if (engine) {
        llcuda_engine_get_stats(engine, &stats);
    }
    return stats.prompt_tokens;
}

llcuda_status run_request(llcuda_request *request, struct request_sink *sink,
                          const llcuda_event **done, struct llcuda_error *error)
{
    struct console_progress progress;
    const uint64_t rows_before = prompt_rows(sink->engine);
    size_t rows = 0;
    bool reading = sink->engine && llcuda_request_prompt(request, &rows) && rows;
    console_progress_begin(&progress, "reading the prompt");
    for (;;) {
        const llcuda_event *event;
        llcuda_status status = llcuda_request_next(request, 100, &event, error);
        if (console_interrupted()) {
            llcuda_request_cancel(request);
        }
        if (status == LLCUDA_TIMEOUT) {
            if (reading) {
                console_progress_report(&progress, prompt_rows(sink->engine) - rows_before, rows);
            }
            continue;
        }
        console_progress_end(&progress);
        reading = false;
        if (status) {
            return status;
        }
        if (event->kind == LLCUDA_EVENT_DONE) {
            *done = event;
            return LLCUDA_OK;
        }
        if (event->choice != 0) {
            continue;
        }
        if (sink->on_text && event->text_bytes && !sink->stopped &&
            !sink->on_text(sink->user, event->text, event->text_bytes)) {
            sink->stopped = true;
            llcuda_request_cancel(request);
        }
        if (sink->text) {
            buffer_append(sink->text, event->text, event->text_bytes);
        }
        if (sink->ids && event->kind != LLCUDA_EVENT_PROMPT && event->token_count) {
            buffer_append(sink->ids, event->tokens, event->token_count * sizeof *event->tokens);
        }
        if (event->kind == LLCUDA_EVENT_FINISHED) {
            sink->finish_reason = event->finish_reason;
        }
    }
}

void write_message(struct json_writer *writer, const char *role, struct text_view content)
{
    json_begin_object(writer);
    json_key(writer, "role");
    json_write_string(writer, role);
    json_key(writer, "content");
    json_write_text(writer, content);
    json_end_object(writer);
}
