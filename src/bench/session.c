/* Owns a session: starting the engine, the order of its workloads, and what becomes of failures. A
 * failure of the engine is a result, written to the raw file; only trouble of the harness itself,
 * or the user's interrupt, is an error.
 * Measuring is single-threaded here; the monitor has a thread of its own. */
#include "bench/session.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "bench/arrivals.h"
#include "bench/driver_group.h"
#include "bench/driver_http.h"
#include "bench/monitor_gpu.h"
#include "bench/operations.h"
#include "bench/raw_write.h"

#define PROMPT_SLOTS     1024u          /* a wave's prompts are alive at once */
#define DURATION_NS      10000000000ull /* of loads that have no other end */
#define READY_TIMEOUT_MS 2000u
#define END_GRACE_MS     5000u
#define PROFILE_MS_MAX   300000u
#define WARM_UP_INDEX    (1ull << 40) /* prompts of warming up are never those that count */

struct session {
    const struct session_options *options;
    const struct config *config;
    const struct config_engine *engine;
    struct adapter adapters[CONFIG_RANKS_MAX]; /* one a rank */
    struct driver_group group;
    struct http_driver http;
    struct process server;
    struct driver *driver;
    struct monitor *monitor;
    struct raw_file raw;
    uint64_t end_ns; /* the session must be over then */
    bool interrupted;
    struct buffer hello, load;
    double load_ms;
    double gpu_before_bytes; /* in use on the GPUs before the engine began; NaN */
    uint32_t gpus[MONITOR_GPUS_MAX], gpu_count;
    /* of the current measurement */
    const struct config_workload *workload;
    const struct config_point *point;
    uint64_t seed;
    uint64_t first_index;
    struct arrivals arrivals;
    uint32_t *ids; /* PROMPT_SLOTS prompts of id_capacity */
    uint32_t id_capacity;
    struct buffer texts[PROMPT_SLOTS];
    double share_begin, share_end; /* of the session's progress */
    uint64_t expected_count, expected_ns;
    char what[160];
    /* of the comparison of tokens */
    struct buffer *contents; /* texts, or ids as uint32_t */
    bool contents_are_ids;
};

static bool report(struct session *session, double share)
{
    const struct session_options *options = session->options;
    double whole = session->share_begin + share * (session->share_end - session->share_begin);
    if (options->progress && !options->progress(options->user, session->what, whole)) {
        session->interrupted = true;
    }
    return !session->interrupted;
}

static const char *stop_reason(void *user)
{
    struct session *session = user;
    const char *alarm = session->monitor ? monitor_alarm(session->monitor) : NULL;
    if (session->interrupted) {
        return "interrupted";
    }
    return alarm                              ? alarm
           : clock_now_ns() > session->end_ns ? "stopped: the session took longer than its limit"
                                              : NULL;
}

static void load_progress(void *user, uint64_t done, uint64_t elapsed_ns)
{
    struct session *session = user;
    const double by_count = (double)done / (double)session->expected_count;
    const double by_time = (double)elapsed_ns / (double)session->expected_ns;
    report(session, fmin(fmax(by_count, by_time), 1));
}

/* ---------------------------------------------------------------- starting and ending */

/* The device of a rank: ranks after the first take the following ones. */
static void rank_device(const struct config_engine *engine, uint32_t rank, char *out, size_t bytes)
{
    const char *colon = strchr(engine->device, ':');
    int first = 0;
    if (colon && rank && sscanf(colon + 1, "%d", &first) == 1) {
        snprintf(out, bytes, "%.*s:%d", (int)(colon - engine->device), engine->device,
                 first + (int)rank);
    } else {
        snprintf(out, bytes, "%s", engine->device);
    }
}

static llcuda_status load_adapter(struct session *session, uint32_t rank,
                                  struct llcuda_error *error)
{
    const struct config_engine *engine = session->engine;
    char device[64];
    rank_device(engine, rank, device, sizeof device);
    struct buffer line = {0};
    struct buffer options = {0};
    struct json_writer writer;
    buffer_append_text(&options, engine->options);
    json_writer_init(&writer, &line, 0);
    json_begin_object(&writer);
    json_key(&writer, "op");
    json_write_string(&writer, "load");
    const struct {
        const char *key, *value;
    } texts[] = {{"model", engine->model}, {"device", device}};
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"threads", engine->threads}, {"context", engine->context}, {"parallel", engine->parallel}};
    for (size_t i = 0; i < 2; i++) {
        json_key(&writer, texts[i].key);
        json_write_string(&writer, texts[i].value);
    }
    for (size_t i = 0; i < 3; i++) {
        json_key(&writer, numbers[i].key);
        json_write_unsigned(&writer, numbers[i].value);
    }
    json_end_object(&writer);
    line.length--;
    buffer_printf(&line, ",\"options\":%s}", options.length ? buffer_text(&options) : "{}");
    struct buffer other = {0};
    llcuda_status status =
        adapter_call(&session->adapters[rank], buffer_text(&line), "load",
                     engine->start_seconds * 1000, rank ? &other : &session->load, error);
    buffer_deinit(&other);
    buffer_deinit(&line);
    buffer_deinit(&options);
    return status;
}

static llcuda_status start_adapter(struct session *session, struct llcuda_error *error)
{
    const struct config_engine *engine = session->engine;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t rank = 0; !status && rank < engine->ranks; rank++) {
        struct buffer other = {0};
        status =
            adapter_start(&session->adapters[rank], engine->command, session->options->environment,
                          engine->environment, session->options->log_path,
                          engine->start_seconds * 1000, rank ? &other : &session->hello, error);
        buffer_deinit(&other);
        if (!status) {
            status = load_adapter(session, rank, error);
        }
    }
    driver_group_init(&session->group, session->adapters, engine->ranks);
    session->driver = engine->ranks == 1 ? &session->adapters[0].driver : &session->group.driver;
    return status;
}

/* A port that nobody listens on now. */
static uint32_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    uint32_t port = 0;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0) {
        if (bind(descriptor, (struct sockaddr *)(void *)&address, sizeof address) == 0 &&
            getsockname(descriptor, (struct sockaddr *)(void *)&address, &length) == 0) {
            port = ntohs(address.sin_port);
        }
        close(descriptor);
    }
    return port;
}

static llcuda_status launch_server(struct session *session, uint32_t port,
                                   struct llcuda_error *error)
{
    const struct config_engine *engine = session->engine;
    const char *command[CONFIG_COMMAND_MAX + 1] = {NULL};
    char words[CONFIG_LIST_MAX][256];
    uint32_t filled = 0;
    for (uint32_t i = 0; i < engine->command_count; i++) {
        const char *place = strstr(engine->command[i], "{port}");
        command[i] = engine->command[i];
        if (place && filled < CONFIG_LIST_MAX) {
            snprintf(words[filled], sizeof words[filled], "%.*s%u%s",
                     (int)(place - engine->command[i]), engine->command[i], port,
                     place + strlen("{port}"));
            command[i] = words[filled++];
        }
    }
    return process_start(&session->server, command, session->options->environment,
                         engine->environment, session->options->log_path, false, error);
}

/* Waits until the server answers, or has died, or is too slow. */
static llcuda_status wait_ready(struct session *session, struct llcuda_error *error)
{
    uint64_t until = clock_now_ns() + session->engine->start_seconds * 1000000000ull;
    bool launched = session->engine->command_count > 0;
    for (;;) {
        llcuda_status status =
            http_driver_ready(&session->http, READY_TIMEOUT_MS, &session->hello, error);
        if (!status) {
            return LLCUDA_OK;
        }
        if (launched && !process_running(&session->server)) {
            char how[64];
            char tail[300];
            process_describe_end(&session->server, how, sizeof how);
            process_log_tail(&session->server, tail, sizeof tail);
            /* What Python says of a server that is a module of it. */
            bool absent = strstr(tail, "No module named") != NULL;
            return error_set(error, absent ? LLCUDA_NOT_FOUND : LLCUDA_IO,
                             "the server ended (%s); its log ends with: %s", how, tail);
        }
        if (clock_now_ns() > until || !launched) {
            return status;
        }
        if (!report(session, 0)) {
            return error_set(error, LLCUDA_CANCELLED, "interrupted");
        }
        const struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
    }
}

static llcuda_status start_server(struct session *session, struct llcuda_error *error)
{
    const struct config_engine *engine = session->engine;
    char url[64];
    uint64_t begin = clock_now_ns();
    llcuda_status status = LLCUDA_OK;
    if (engine->command_count) {
        uint32_t port = free_port();
        snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
        status = launch_server(session, port, error);
    }
    if (!status) {
        status = http_driver_open(
            &session->http, engine->url ? engine->url : url, engine->api_model, engine->options,
            engine->prompt_text || !prompts_have_ids(session->options->prompts), error);
    }
    if (!status) {
        status = wait_ready(session, error);
    }
    session->driver = &session->http.driver;
    session->load_ms = clock_ms(clock_now_ns() - begin);
    return status;
}

static llcuda_status start_engine(struct session *session, struct llcuda_error *error)
{
    uint64_t begin = clock_now_ns();
    llcuda_status status = session->engine->kind == ENGINE_HTTP ? start_server(session, error)
                                                                : start_adapter(session, error);
    session->load_ms = clock_ms(clock_now_ns() - begin);
    if (status == LLCUDA_NOT_FOUND) {
        char advice[300];
        snprintf(advice, sizeof advice, "%s", session->engine->install);
        error_prefix(error, status, "not installed (%s)", advice);
    }
    return status;
}

/* Those of the engine; of one on the CPU the first, to see that nobody uses it. And what others
 * have of them already: the engines before have ended, and took theirs along. */
static void find_gpus(struct session *session)
{
    const char *stated = session->config->system.gpu_device;
    const char *device = stated ? stated : session->engine->device;
    bool on_gpu = strncmp(session->engine->device, "cpu", 3) != 0;
    int first = 0;
    if (sscanf(device, "cuda:%d", &first) != 1 || first < 0) {
        first = 0;
    }
    session->gpu_before_bytes = NAN;
    for (uint32_t i = 0; strcmp(device, "none") && i < (on_gpu ? session->engine->ranks : 1u);
         i++) {
        struct monitor_sample sample = {.gpu_memory_bytes = NAN};
        struct monitor_gpu *gpu = monitor_gpu_open(first + (int)i);
        session->gpus[session->gpu_count++] = (uint32_t)first + i;
        if (gpu) {
            monitor_gpu_read(gpu, &sample);
            monitor_gpu_close(gpu);
            session->gpu_before_bytes =
                sample.gpu_memory_bytes + (i ? session->gpu_before_bytes : 0);
        }
    }
}

static llcuda_status start_monitor(struct session *session, struct llcuda_error *error)
{
    const struct config_system *system = &session->config->system;
    bool on_gpu = strncmp(session->engine->device, "cpu", 3) != 0;
    struct monitor_options options = {
        .group = session->engine->kind == ENGINE_HTTP ? session->server.pid
                                                      : session->adapters[0].process.pid,
        .rate_hz = system->monitor_hz,
        .thermal_limit_c = system->thermal_limit_c,
        .memory_limit_bytes = system->memory_limit_gb * 1e9,
        .gpu_memory_limited = on_gpu,
        .processors_file = session->options->processors_file,
        .stolen_since_start = session->engine->replayed,
    };
    memcpy(options.gpus, session->gpus, sizeof options.gpus);
    options.gpu_count = session->gpu_count;
    for (uint32_t rank = 1; rank < session->engine->ranks; rank++) {
        options.more_groups[options.more_group_count++] = session->adapters[rank].process.pid;
    }
    return monitor_start(&options, &session->monitor, error);
}

static void end_engine(struct session *session)
{
    monitor_stop(session->monitor);
    session->monitor = NULL;
    for (uint32_t rank = 0; rank < CONFIG_RANKS_MAX; rank++) {
        adapter_end(&session->adapters[rank], END_GRACE_MS);
    }
    http_driver_close(&session->http);
    process_end(&session->server, END_GRACE_MS);
}

/* ---------------------------------------------------------------- one measurement */

static void make_request(void *user, uint64_t index, struct load_request *request)
{
    struct session *session = user;
    uint64_t number = session->first_index + index;
    uint64_t slot = index % PROMPT_SLOTS;
    struct prompt prompt = {.ids = session->ids + slot * session->id_capacity,
                            .id_capacity = session->id_capacity};
    prompts_make(session->options->prompts, session->workload, session->point->length,
                 session->seed, number, &prompt);
    request->ids = prompt.ids;
    request->id_count = prompt.id_count;
    request->max_tokens = prompt.max_tokens;
    if (session->engine->kind == ENGINE_HTTP ? session->http.prompt_text || prompt.id_count == 0
                                             : session->adapters[0].wants_text) {
        struct buffer *text = &session->texts[slot];
        buffer_clear(text);
        prompts_text(session->options->prompts, &prompt, session->seed, number,
                     session->point->length, text);
        request->text = buffer_view(text);
    }
}

static uint64_t arrival_due(void *user, uint64_t index)
{
    struct session *session = user;
    uint64_t due = 0;
    uint32_t unused;
    if (session->workload->kind == LOAD_TRACE) {
        prompts_trace(session->options->prompts, session->workload, session->first_index + index,
                      &due, &unused, &unused);
        return (uint64_t)((double)due / session->point->level); /* level: how much faster */
    }
    return arrivals_next(&session->arrivals);
}

static void make_plan(struct session *session, bool warm, struct load_plan *plan)
{
    const struct config_workload *workload = session->workload;
    uint64_t timeout = session->end_ns - clock_now_ns();
    uint32_t level = (uint32_t)session->point->level;
    bool closed = workload->kind == LOAD_BATCH || workload->kind == LOAD_CONCURRENT;
    uint64_t left = session->end_ns > clock_now_ns() ? timeout : 1;
    *plan = (struct load_plan){.first = true,
                               .waves = workload->kind == LOAD_BATCH,
                               .parallel = closed ? level : 0,
                               .request_count = UINT64_MAX,
                               .duration_ns = UINT64_MAX,
                               .timeout_ns = left,
                               .seed = session->seed,
                               .user = session,
                               .request = make_request,
                               .due_ns = arrival_due,
                               .stop = stop_reason,
                               .progress = load_progress};
    if (workload->kind == LOAD_BATCH) {
        plan->request_count = (uint64_t)level * workload->iterations;
    } else if (workload->kind == LOAD_TRACE) {
        plan->request_count = prompts_trace_count(session->options->prompts, workload);
    } else if (workload->request_count) {
        plan->request_count = workload->request_count;
    }
    if (warm) {
        uint32_t wave = closed ? level : 1;
        plan->waves = true;
        plan->parallel = wave;
        plan->request_count = (uint64_t)wave * workload->warmup;
    } else if (workload->duration_seconds > 0) {
        plan->duration_ns = (uint64_t)(workload->duration_seconds * 1e9);
    } else if (plan->request_count == UINT64_MAX) {
        plan->duration_ns = DURATION_NS;
    }
    session->expected_count = plan->request_count;
    session->expected_ns = plan->duration_ns;
}

static llcuda_status run_plan(struct session *session, bool warm, struct load_result *result,
                              struct llcuda_error *error)
{
    struct load_plan plan;
    make_plan(session, warm, &plan);
    session->first_index = warm ? WARM_UP_INDEX : 0;
    if (warm && session->workload->kind == LOAD_TRACE) {
        session->first_index = 0; /* lengths are those of the trace */
    }
    if (!warm && session->workload->kind == LOAD_RATE) {
        arrivals_init(&session->arrivals, session->workload->arrival, session->point->level,
                      session->workload->burstiness, random_mix(session->seed));
    }
    return load_run(session->driver, &plan, result, error);
}

static llcuda_status measure(struct session *session, struct llcuda_error *error)
{
    struct load_result result = {0};
    struct monitor_totals totals;
    llcuda_status status = LLCUDA_OK;
    snprintf(session->what, sizeof session->what, "%s: %s, %s, run %u", session->engine->name,
             session->workload->name, session->point->key, session->options->repeat + 1);
    if (session->workload->warmup) {
        status = run_plan(session, true, &result, error);
        if (!status && result.failed == result.count) {
            status = error_set(error, LLCUDA_IO, "no request succeeded while warming up: %s",
                               result.first_failure);
        }
        load_result_deinit(&result);
    }
    if (!status) {
        monitor_mark(session->monitor);
        status = run_plan(session, false, &result, error);
        monitor_get_totals(session->monitor, &totals);
    }
    if (!status) {
        raw_point(&session->raw, session->workload->name, session->point->key, &result, &totals);
        *session->options->stolen = fmax(*session->options->stolen, totals.stolen_share);
    }
    load_result_deinit(&result);
    return status;
}

/* ---------------------------------------------------------------- greedy tokens */

static void keep_content(void *user, const struct load_event *event)
{
    struct session *session = user;
    if (event->index >= session->config->analysis.token_prompts) {
        return;
    }
    struct buffer *content = &session->contents[event->index];
    if (event->id_count) {
        session->contents_are_ids = true;
        buffer_append(content, event->ids, event->id_count * sizeof *event->ids);
    } else if (event->text.length) {
        buffer_append_view(content, event->text);
    }
}

static void sentence_request(void *user, uint64_t index, struct load_request *request)
{
    struct session *session = user;
    struct prompt prompt = {.ids = session->ids + (index % PROMPT_SLOTS) * session->id_capacity,
                            .id_capacity = session->id_capacity};
    struct buffer *text = &session->texts[index % PROMPT_SLOTS];
    buffer_clear(text);
    prompts_sentence(session->options->prompts, index, &prompt, text);
    request->ids = prompt.ids;
    request->id_count = prompt.id_count;
    request->text = buffer_view(text);
    request->max_tokens = session->config->analysis.token_count;
}

static void write_tokens(struct session *session, uint32_t prompt)
{
    const struct buffer *content = &session->contents[prompt];
    struct buffer text = {0};
    raw_begin(&session->raw, "tokens");
    raw_number(&session->raw, "prompt", prompt);
    if (session->contents_are_ids) {
        const uint32_t *ids = (const uint32_t *)(const void *)content->data;
        uint32_t count = (uint32_t)(content->length / sizeof *ids);
        json_key(&session->raw.writer, "ids");
        json_begin_array(&session->raw.writer);
        for (uint32_t i = 0; i < count; i++) {
            json_write_unsigned(&session->raw.writer, ids[i]);
        }
        json_end_array(&session->raw.writer);
        prompts_detokenize(session->options->prompts, ids, count, &text);
    } else {
        buffer_append_view(&text, buffer_view(content));
    }
    json_key(&session->raw.writer, "text");
    json_write_text(&session->raw.writer, buffer_view(&text));
    raw_end(&session->raw);
    buffer_deinit(&text);
}

static void set_ignore_eos(struct session *session, bool ignore)
{
    session->http.ignore_eos = ignore;
    for (uint32_t rank = 0; rank < CONFIG_RANKS_MAX; rank++) {
        session->adapters[rank].ignore_eos = ignore;
    }
}

/* What the engine says to a few prompts, one at a time, greedily. */
static llcuda_status check_tokens(struct session *session, struct llcuda_error *error)
{
    const struct config_analysis *analysis = &session->config->analysis;
    uint32_t count = analysis->token_prompts;
    static const struct config_workload none = {.name = "greedy tokens"};
    struct load_result result = {0};
    if (count == 0 || session->options->repeat > 0) {
        return LLCUDA_OK;
    }
    snprintf(session->what, sizeof session->what, "%s: greedy tokens", session->engine->name);
    session->workload = &none;
    session->expected_count = count;
    session->expected_ns = UINT64_MAX;
    session->contents = calloc(count, sizeof *session->contents);
    if (!session->contents) {
        return error_no_memory(error, "answers", count * sizeof *session->contents);
    }
    struct load_plan plan = {.waves = true,
                             .parallel = 1,
                             .request_count = count,
                             .duration_ns = UINT64_MAX,
                             .timeout_ns = (uint64_t)session->config->timeout_seconds * 1000000000u,
                             .user = session,
                             .request = sentence_request,
                             .content = keep_content,
                             .stop = stop_reason,
                             .progress = load_progress};
    /* Greedy answers may end: what comes after an end is nobody's business to agree on. */
    set_ignore_eos(session, false);
    llcuda_status status = load_run(session->driver, &plan, &result, error);
    set_ignore_eos(session, true);
    for (uint32_t i = 0; i < count; i++) {
        if (!status && load_sample_at(&result, i)->state == LOAD_OK) {
            write_tokens(session, i);
        }
        buffer_deinit(&session->contents[i]);
    }
    free(session->contents);
    load_result_deinit(&result);
    return status;
}

/* ---------------------------------------------------------------- the whole */

/* Who says when a token came. */
static const char *times_of(const struct session *session)
{
    return session->driver != &session->http.driver ? "adapter"
           : session->http.tap                      ? "packets"
                                                    : "socket";
}

static void write_head(struct session *session)
{
    const struct config_engine *engine = session->engine;
    struct raw_file *raw = &session->raw;
    raw_begin(raw, "session");
    raw_text(raw, "engine", engine->name);
    raw_text(raw, "type", engine->type);
    raw_number(raw, "repeat", session->options->repeat);
    raw_number(raw, "started_unix", (double)time(NULL));
    raw_text(raw, "model", engine->model);
    raw_text(raw, "device", engine->device);
    raw_number(raw, "threads", engine->threads);
    raw_number(raw, "context", engine->context);
    raw_number(raw, "ranks", engine->ranks);
    raw_number(raw, "start_ms", session->load_ms);
    raw_number(raw, "gpu_memory_before_bytes", session->gpu_before_bytes);
    raw_text(raw, "engine_version", session->http.version); /* of a server; adapters say hello */
    raw_text(raw, "times", times_of(session));
    json_key(&raw->writer, "command");
    json_begin_array(&raw->writer);
    for (uint32_t i = 0; i < engine->command_count; i++) {
        json_write_string(&raw->writer, engine->command[i]);
    }
    json_end_array(&raw->writer);
    json_key(&raw->writer, "environment");
    json_begin_array(&raw->writer);
    for (uint32_t i = 0; i < engine->environment_count; i++) {
        json_write_string(&raw->writer, engine->environment[i]);
    }
    json_end_array(&raw->writer);
    raw_json(raw, "hello", &session->hello);
    raw_json(raw, "load", &session->load);
    raw_end(raw);
}

static llcuda_status run_workloads(struct session *session, struct llcuda_error *error)
{
    const struct config *config = session->config;
    struct config_point points[CONFIG_LIST_MAX * CONFIG_LIST_MAX];
    llcuda_status status = check_tokens(session, error);
    uint32_t total = 0;
    uint32_t done = 0;
    for (uint32_t w = 0; w < config->workload_count; w++) {
        total += config_points(config, w, points);
    }
    for (uint32_t w = 0; !status && w < config->workload_count; w++) {
        uint32_t count = config_points(config, w, points);
        for (uint32_t p = 0; !status && p < count; p++, done++) {
            session->workload = &config->workloads[w];
            session->point = &points[p];
            /* The same for every engine, another one in each repeat and point. */
            session->seed = random_mix(
                config->seed ^ random_mix(session->options->repeat * 65536u + w * 1024u + p));
            session->share_begin = (double)done / total;
            session->share_end = (double)(done + 1) / total;
            status = measure(session, error);
        }
    }
    return status;
}

static void write_monitor(struct session *session)
{
    enum { SHOWN = 512 };
    static struct monitor_sample samples[4096];
    size_t count = session->monitor ? monitor_copy(session->monitor, samples, 4096) : 0;
    size_t step = count / SHOWN + 1;
    for (size_t i = 0; i < count; i += step) {
        const struct monitor_sample *sample = &samples[i];
        raw_begin(&session->raw, "monitor");
        raw_number(&session->raw, "seconds", round(sample->seconds * 1000) / 1000);
        raw_number(&session->raw, "memory_bytes", sample->memory_bytes);
        raw_number(&session->raw, "processor", sample->processor_share);
        raw_number(&session->raw, "temperature_c", sample->temperature_c);
        if (!isnan(sample->gpu_share)) {
            raw_number(&session->raw, "gpu", sample->gpu_share);
            raw_number(&session->raw, "gpu_memory_bytes", sample->gpu_memory_bytes);
            raw_number(&session->raw, "gpu_power_w", sample->gpu_power_w);
            raw_number(&session->raw, "gpu_temperature_c", sample->gpu_temperature_c);
            raw_number(&session->raw, "gpu_clock_mhz", sample->gpu_clock_mhz);
        }
        raw_end(&session->raw);
    }
}

/* Asks the adapter what it knows about itself. */
static void write_metrics(struct session *session)
{
    struct buffer reply = {0};
    if (session->engine->kind == ENGINE_ADAPTER &&
        !adapter_call(&session->adapters[0], "{\"op\":\"metrics\"}", "metrics", 10000, &reply,
                      NULL)) {
        raw_begin(&session->raw, "metrics");
        raw_json(&session->raw, "answer", &reply);
        raw_end(&session->raw);
    }
    buffer_deinit(&reply);
}

/* Milliseconds of the session that are left for its profile. */
static uint32_t profile_ms(const struct session *session)
{
    uint64_t now = clock_now_ns();
    uint64_t left = session->end_ns > now ? (session->end_ns - now) / 1000000 : 0;
    return left < PROFILE_MS_MAX ? (uint32_t)left : PROFILE_MS_MAX;
}

static llcuda_status ask_operations(struct session *session, struct buffer *reply,
                                    struct llcuda_error *error)
{
    struct buffer line = {0};
    struct json_document *document = NULL;
    struct operation_answer told;
    operations_request(&session->config->analysis, &line);
    llcuda_status status = adapter_call(&session->adapters[0], buffer_text(&line), "profile",
                                        profile_ms(session), reply, error);
    if (!status) {
        status = json_parse(buffer_view(reply), NULL, &document, error);
    }
    if (!status) {
        status = operations_read(json_root(document), &session->config->analysis, &told, error);
        json_destroy(document);
    }
    buffer_deinit(&line);
    return status;
}

/* What the engine's operations take, when nothing else will be measured: an adapter may give up its
 * engine for it. Whatever goes wrong is a sentence in the report and no failure of the session. */
static void write_profile(struct session *session)
{
    const struct config_analysis *analysis = &session->config->analysis;
    struct llcuda_error trouble = {0};
    struct buffer reply = {0};
    bool wanted = analysis->profile_prompt || analysis->profile_generate;
    if (!wanted || session->engine->kind != ENGINE_ADAPTER ||
        !session->adapters[0].tells_operations) {
        return;
    }
    snprintf(session->what, sizeof session->what, "%s: operations, run %u", session->engine->name,
             session->options->repeat + 1);
    session->share_begin = session->share_end = 1;
    if (report(session, 1)) {
        llcuda_status status = ask_operations(session, &reply, &trouble);
        raw_begin(&session->raw, "profile");
        if (status) {
            raw_text(&session->raw, "reason", trouble.message);
        } else {
            raw_json(&session->raw, "answer", &reply);
        }
        raw_end(&session->raw);
    }
    buffer_deinit(&reply);
}

static uint32_t longest_prompt(const struct session *session)
{
    uint32_t longest = 256;
    for (uint32_t w = 0; w < session->config->workload_count; w++) {
        const struct config_workload *workload = &session->config->workloads[w];
        for (uint32_t i = 0; i < workload->length_count; i++) {
            longest = workload->lengths[i] > longest ? workload->lengths[i] : longest;
        }
        for (uint64_t i = 0; i < prompts_trace_count(session->options->prompts, workload); i++) {
            uint64_t due;
            uint32_t length;
            uint32_t output;
            prompts_trace(session->options->prompts, workload, i, &due, &length, &output);
            longest = length > longest ? length : longest;
        }
    }
    return longest;
}

static void write_failure(struct session *session, llcuda_status status, const char *reason)
{
    struct raw_file *raw = &session->raw;
    bool http = session->engine->kind == ENGINE_HTTP;
    char log[1000];
    process_log_tail(http ? &session->server : &session->adapters[0].process, log, sizeof log);
    raw_begin(raw, "failure");
    raw_text(raw, "status", llcuda_status_name(status));
    raw_text(raw, "workload", session->workload ? session->workload->name : "");
    raw_text(raw, "point", session->point ? session->point->key : "");
    raw_text(raw, "reason", reason);
    raw_text(raw, "log", log);
    json_key(&raw->writer, "again"); /* when the run is resumed */
    json_write_bool(&raw->writer, session->monitor && monitor_is_hot(session->monitor));
    raw_end(raw);
}

static llcuda_status run(struct session *session, char failure[256], struct llcuda_error *error)
{
    struct llcuda_error trouble = {0};
    session->id_capacity = longest_prompt(session);
    session->ids = malloc((size_t)PROMPT_SLOTS * session->id_capacity * sizeof *session->ids);
    if (!session->ids) {
        return error_no_memory(error, "prompts", (uint64_t)PROMPT_SLOTS * session->id_capacity);
    }
    report(session, 0);
    find_gpus(session);
    llcuda_status status = start_engine(session, &trouble);
    write_head(session);
    if (!status) {
        status = start_monitor(session, &trouble);
    }
    if (!status) {
        status = run_workloads(session, &trouble);
    }
    if (!status) {
        write_metrics(session);
    }
    write_monitor(session);
    if (!status) {
        write_profile(session);
    }
    if (session->interrupted) {
        return error_set(error, LLCUDA_CANCELLED, "interrupted");
    }
    if (status) {
        snprintf(failure, 256, "%s", trouble.message);
        write_failure(session, status, trouble.message);
    }
    raw_begin(&session->raw, "end");
    raw_end(&session->raw);
    return LLCUDA_OK;
}

llcuda_status session_run(const struct session_options *options, char failure[256],
                          struct llcuda_error *error)
{
    struct session *session = calloc(1, sizeof *session);
    failure[0] = 0;
    *options->stolen = NAN;
    if (!session) {
        return error_no_memory(error, "a session", sizeof *session);
    }
    session->options = options;
    session->config = options->config;
    session->engine = &options->config->engines[options->engine];
    session->http.epoll = -1;
    session->server.input = session->server.output = -1;
    session->end_ns = clock_now_ns() + options->config->timeout_seconds * 1000000000ull;
    snprintf(session->what, sizeof session->what, "starting %s", session->engine->name);
    llcuda_status status = raw_open(&session->raw, options->raw_path, error);
    if (!status) {
        status = run(session, failure, error);
        end_engine(session);
        if (status) {
            raw_abort(&session->raw);
        } else {
            status = raw_commit(&session->raw, error);
        }
    }
    for (uint32_t i = 0; i < PROMPT_SLOTS; i++) {
        buffer_deinit(&session->texts[i]);
    }
    buffer_deinit(&session->hello);
    buffer_deinit(&session->load);
    free(session->ids);
    free(session);
    return status;
}
