/* Owns the order of sessions, the output folder and its resumption. Every repeat starts each engine
 * once, in an order drawn anew from the seed, so that whatever drifts in the machine falls on all
 * of them alike. */
#include "bench/runner.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "bench/host.h"
#include "bench/session.h"

/* How often a session is measured again at most, when the host took too much. */
#define AGAIN_MAX 9u

struct runner {
    const struct config *config;
    const struct runner_options *options;
    struct prompts *prompts;
    uint64_t begin_ns;
    uint32_t done, count, done_before;
    bool given_up[CONFIG_ENGINE_MAX]; /* not installed: no point in trying again */
};

char *runner_raw_path(const struct config *config, const char *folder, uint32_t engine,
                      uint32_t repeat)
{
    char name[160];
    int length = snprintf(name, sizeof name, "raw_data/%02u-", engine);
    for (const char *c = config->engines[engine].name; *c && length < 100; c++) {
        name[length++] = isalnum((unsigned char)*c) || *c == '_' || *c == '.' ? *c : '-';
    }
    snprintf(name + length, sizeof name - (size_t)length, ".run%u.jsonl", repeat + 1);
    return file_path_join(folder, name);
}

char *runner_set_aside_path(const char *raw_path, uint32_t number)
{
    char ending[40];
    struct buffer path = {0};
    snprintf(ending, sizeof ending, ".stolen%u.jsonl", number);
    buffer_append(&path, raw_path, strlen(raw_path) - strlen(".jsonl"));
    buffer_append_text(&path, ending);
    return path.failed ? NULL : path.data;
}

static llcuda_status make_folder(const char *path, struct llcuda_error *error)
{
    if (mkdir(path, 0755) && errno != EEXIST) {
        return error_from_errno(error, errno, "make the folder", path);
    }
    return LLCUDA_OK;
}

static llcuda_status make_subfolder(const char *folder, const char *name,
                                    struct llcuda_error *error)
{
    char *path = file_path_join(folder, name);
    llcuda_status status = path ? make_folder(path, error) : error_no_memory(error, "a path", 1);
    free(path);
    return status;
}

static bool folder_is_empty(const char *path)
{
    DIR *folder = opendir(path);
    bool empty = true;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        empty = empty && entry->d_name[0] == '.';
    }
    if (folder) {
        closedir(folder);
    }
    return empty;
}

/* Whether a session was stopped by the machine's heat and is to be measured again: the last lines
 * of its file say so. */
static bool wants_again(const char *path)
{
    static char text[32768]; /* far more than a failure's line, whose log may be all escapes */
    FILE *file = fopen(path, "re");
    bool again = false;
    if (file) {
        bool whole = fseek(file, -(long)(sizeof text - 1), SEEK_END) != 0;
        if (whole) {
            rewind(file);
        }
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
            struct json_document *document = NULL;
            if (!json_parse(text_view_make(line, (size_t)(end - line)), NULL, &document, NULL)) {
                const struct json_value *root = json_root(document);
                again = again || (text_view_is(json_text(json_member(root, "kind")), "failure") &&
                                  json_bool(json_member(root, "again"), false));
                json_destroy(document);
            }
        }
    }
    return again;
}

static uint32_t count_again(const struct config *config, const char *folder)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->engine_count * config->repeats; i++) {
        char *raw = runner_raw_path(config, folder, i / config->repeats, i % config->repeats);
        count += raw && wants_again(raw);
        free(raw);
    }
    return count;
}

/* Whether the folder holds a run of this very configuration that can go on. */
static llcuda_status check_same(const struct config *config, const char *folder,
                                struct llcuda_error *error)
{
    struct buffer kept = {0};
    char *path = file_path_join(folder, "config.yaml");
    char *summary = file_path_join(folder, "summary.json");
    llcuda_status status = LLCUDA_OK;
    if (!path || !summary) {
        status = error_no_memory(error, "a path", 1);
    } else if (!file_exists(path) || file_read_all(path, 1u << 24, &kept, NULL)) {
        status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                           "the folder '%s' exists and holds no run; choose another one", folder);
    } else if (file_exists(summary) && !count_again(config, folder)) {
        status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                           "the folder '%s' holds a finished run; choose another one", folder);
    } else if (!text_view_is(buffer_view(&kept), config->text)) {
        status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                           "the folder '%s' holds a run of another configuration", folder);
    } else if (remove(summary) && errno != ENOENT) { /* it is not finished any more */
        status = error_from_errno(error, errno, "remove", summary);
    }
    buffer_deinit(&kept);
    free(path);
    free(summary);
    return status;
}

struct reading {
    const struct runner *runner;
    const char *path;
};

static bool reading_progress(void *user, double share)
{
    const struct reading *reading = user;
    const struct runner_options *options = reading->runner->options;
    const struct config *config = reading->runner->config;
    char what[160];
    snprintf(what, sizeof what, "checksum of %s, %.0f %%", reading->path, 100 * share);
    const struct runner_progress progress = {
        .session_count = config->repeats * config->engine_count,
        .what = what,
        .seconds_left = NAN,
    };
    return !options->progress || options->progress(options->user, &progress);
}

/* The files that engines run, each once; those that cannot be read are left out. */
static llcuda_status write_models(const struct runner *runner, struct json_writer *writer,
                                  struct llcuda_error *error)
{
    const struct config *config = runner->config;
    const char *paths[3 + CONFIG_ENGINE_MAX] = {config->model_path, config->model_gguf,
                                                config->model_hf};
    size_t count = 3;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < config->engine_count; i++) {
        paths[count++] = config->engines[i].model;
    }
    for (size_t i = 0; status != LLCUDA_CANCELLED && i < count; i++) {
        char digest[65];
        bool known = !paths[i] || strcmp(paths[i], "builtin") == 0;
        for (size_t before = 0; !known && before < i; before++) {
            known = paths[before] && strcmp(paths[before], paths[i]) == 0;
        }
        struct reading reading = {runner, paths[i]};
        status = known ? LLCUDA_OK
                       : host_model_digest(paths[i], reading_progress, &reading, digest, error);
        if (!known && !status) {
            json_key(writer, paths[i]);
            json_write_string(writer, digest);
        }
    }
    return status == LLCUDA_CANCELLED ? status : LLCUDA_OK;
}

/* host.json: where, with what, from which files. A run that goes on has it already, unless it was
 * ended while files were read for it. */
static llcuda_status write_host(const struct runner *runner, struct llcuda_error *error)
{
    const struct config *config = runner->config;
    struct buffer text = {0};
    struct json_writer writer;
    char *path = file_path_join(runner->options->folder, "host.json");
    if (path && file_exists(path)) {
        free(path);
        return LLCUDA_OK;
    }
    json_writer_init(&writer, &text, 2);
    json_begin_object(&writer);
    host_write(&writer, config, runner->options->environment);
    json_key(&writer, "seed");
    json_write_unsigned(&writer, config->seed);
    json_key(&writer, "models");
    json_begin_object(&writer);
    llcuda_status status = write_models(runner, &writer, error);
    json_end_object(&writer);
    json_end_object(&writer);
    buffer_append_byte(&text, '\n');
    if (!status) {
        status = path && !text.failed
                     ? file_write_atomic(path, text.data, text.length, error)
                     : error_no_memory(error, "the record of the machine", text.length);
    }
    free(path);
    buffer_deinit(&text);
    return status;
}

static llcuda_status prepare_folder(const struct runner *runner, struct llcuda_error *error)
{
    const char *folder = runner->options->folder;
    const struct config *config = runner->config;
    llcuda_status status = LLCUDA_OK;
    if (file_is_folder(folder) && !folder_is_empty(folder)) {
        status = check_same(config, folder, error);
        return status ? status : write_host(runner, error);
    }
    status = make_folder(folder, error);
    if (!status) {
        status = make_subfolder(folder, "raw_data", error);
    }
    if (!status) {
        status = make_subfolder(folder, "logs", error);
    }
    if (!status) {
        char *path = file_path_join(folder, "config.yaml");
        status = path ? file_write_atomic(path, config->text, strlen(config->text), error)
                      : error_no_memory(error, "a path", 1);
        free(path);
    }
    return status ? status : write_host(runner, error);
}

static bool session_progress(void *user, const char *what, double share)
{
    struct runner *runner = user;
    double seconds = (double)(clock_now_ns() - runner->begin_ns) / 1e9;
    double here = (double)(runner->done - runner->done_before) + share;
    struct runner_progress progress = {
        .sessions_done = runner->done,
        .session_count = runner->count,
        .what = what,
        .share = share,
        .seconds_left =
            here > 0.02 ? seconds / here * ((double)runner->count - (double)runner->done - share)
                        : NAN,
    };
    return !runner->options->progress ||
           runner->options->progress(runner->options->user, &progress);
}

static void say(const struct runner *runner, const char *format, ...) BASE_PRINTF(2, 3);

static void say(const struct runner *runner, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (runner->options->message) {
        runner->options->message(runner->options->user, text);
    }
}

/* Keeps the raw file of a session under another name. */
static llcuda_status set_aside(const char *raw_path, struct llcuda_error *error)
{
    char *path = NULL;
    uint32_t number = 0;
    do {
        free(path);
        path = runner_set_aside_path(raw_path, ++number);
    } while (path && file_exists(path));
    llcuda_status status = !path ? error_no_memory(error, "a path", 1)
                           : rename(raw_path, path)
                               ? error_from_errno(error, errno, "rename", raw_path)
                               : LLCUDA_OK;
    free(path);
    return status;
}

/* *stolen gets what the host took at the worst point; NaN when nothing was measured, or the engine
 * failed. */
static llcuda_status run_session(struct runner *runner, uint32_t engine, uint32_t repeat,
                                 double *stolen, struct llcuda_error *error)
{
    const struct config *config = runner->config;
    char failure[256] = "";
    char *raw = runner_raw_path(config, runner->options->folder, engine, repeat);
    char log_name[200];
    const char *base = raw ? strrchr(raw, '/') + 1 : "";
    snprintf(log_name, sizeof log_name, "logs/%.*s.log", (int)(strlen(base) - 6), base);
    char *log = raw ? file_path_join(runner->options->folder, log_name) : NULL;
    llcuda_status status = LLCUDA_OK;
    *stolen = NAN;
    if (!raw || !log) {
        status = error_no_memory(error, "a path", 1);
    } else if (file_exists(raw) && !wants_again(raw)) {
        runner->done_before++;
    } else if (!runner->given_up[engine] || repeat == 0) {
        struct session_options options = {.config = config,
                                          .prompts = runner->prompts,
                                          .engine = engine,
                                          .repeat = repeat,
                                          .raw_path = raw,
                                          .log_path = log,
                                          .environment = runner->options->environment,
                                          .user = runner,
                                          .progress = session_progress,
                                          .processors_file = runner->options->processors_file,
                                          .stolen = stolen};
        status = session_run(&options, failure, error);
        if (failure[0]) {
            say(runner, "%s, run %u: %s", config->engines[engine].name, repeat + 1, failure);
            *stolen = NAN; /* a failure stands */
            runner->given_up[engine] = strncmp(failure, "not installed", 13) == 0;
        }
        if (config->cooldown_seconds > 0 && !status) {
            const struct timespec pause = {(time_t)config->cooldown_seconds,
                                           (long)(fmod(config->cooldown_seconds, 1) * 1e9)};
            nanosleep(&pause, NULL);
        }
    }
    free(raw);
    free(log);
    return status;
}

/* The engines of a repeat in their drawn order. */
static void draw_order(const struct config *config, uint32_t repeat, uint32_t *order)
{
    for (uint32_t i = 0; i < config->engine_count; i++) {
        order[i] = i;
    }
    for (uint32_t i = config->engine_count; i > 1; i--) {
        uint32_t j = (uint32_t)(random_mix(config->seed ^ random_mix(repeat * 1000u + i)) % i);
        uint32_t held = order[i - 1];
        order[i - 1] = order[j];
        order[j] = held;
    }
}

/* Sessions that the host of the virtual machine took too much of, once more, after all others: such
 * times pass. A rule that does not look at results does not bend them. What was measured before is
 * kept under another name. */
static llcuda_status run_again(struct runner *runner, double *stolen, struct llcuda_error *error)
{
    const struct config *config = runner->config;
    const double limit = config->system.steal_limit;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; !status && limit > 0 && i < config->repeats * config->engine_count; i++) {
        const uint32_t engine = i % config->engine_count;
        const uint32_t repeat = i / config->engine_count;
        if (!(stolen[i] > limit)) {
            continue;
        }
        char *raw = runner_raw_path(config, runner->options->folder, engine, repeat);
        say(runner, "%s, run %u: the host took %.0f %% of the processors' time; once more",
            config->engines[engine].name, repeat + 1, stolen[i] * 100);
        status = raw ? set_aside(raw, error) : error_no_memory(error, "a path", 1);
        free(raw);
        if (!status) {
            runner->count++;
            status = run_session(runner, engine, repeat, &stolen[i], error);
            runner->done++;
        }
    }
    return status;
}

static llcuda_status run_all(struct runner *runner, struct llcuda_error *error)
{
    const struct config *config = runner->config;
    llcuda_status status = LLCUDA_OK;
    double *stolen = calloc((size_t)config->repeats * config->engine_count, sizeof *stolen);
    if (!stolen) {
        return error_no_memory(error, "what hosts took", sizeof *stolen);
    }
    runner->begin_ns = clock_now_ns();
    runner->count = config->repeats * config->engine_count;
    for (uint32_t repeat = 0; !status && repeat < config->repeats; repeat++) {
        uint32_t order[CONFIG_ENGINE_MAX];
        draw_order(config, repeat, order);
        for (uint32_t i = 0; !status && i < config->engine_count; i++) {
            status = run_session(runner, order[i], repeat,
                                 &stolen[repeat * config->engine_count + order[i]], error);
            runner->done++;
        }
    }
    for (uint32_t i = 0; !status && i < AGAIN_MAX; i++) {
        status = run_again(runner, stolen, error);
    }
    free(stolen);
    return status;
}

llcuda_status runner_run(const struct config *config, const struct runner_options *options,
                         struct llcuda_error *error)
{
    struct runner runner = {.config = config, .options = options};
    const char *model = config->model_gguf ? config->model_gguf
                        : config->model_hf ? config->model_hf
                                           : config->model_path;
    llcuda_status status = prompts_open(model, options->builtin_model, options->builtin_model_bytes,
                                        &runner.prompts, error);
    for (uint32_t i = 0; !status && i < config->workload_count; i++) {
        status = prompts_add_file(runner.prompts, &config->workloads[i], error);
    }
    bool needs_ids = false;
    for (uint32_t i = 0; i < config->engine_count; i++) {
        needs_ids = needs_ids || config->engines[i].kind == ENGINE_ADAPTER;
    }
    if (!status && needs_ids && !prompts_have_ids(runner.prompts)) {
        status = error_set(error, LLCUDA_NOT_FOUND,
                           "the model '%s' could not be read, so there are no prompts for adapters",
                           model);
    }
    if (!status) {
        status = prepare_folder(&runner, error);
    }
    if (!status) {
        status = run_all(&runner, error);
    }
    uint32_t again = status ? 0 : count_again(config, options->folder);
    if (again) {
        say(&runner, "%u sessions were stopped by heat; start the same again to measure them",
            again);
    }
    prompts_destroy(runner.prompts);
    return status;
}
