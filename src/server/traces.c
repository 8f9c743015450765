/* Owns the queue of spans and the thread that sends them. Names follow OpenTelemetry's conventions
 * for generative AI as far as they are settled. */
#include "server/traces.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/json.h"
#include "base/random.h"
#include "build_config.h"
#include "net/http_post.h"

#define RECORDS_MAX 2048u
#define PAUSE_S     1
#define TIMEOUT_MS  2000u

enum { KIND_INTERNAL = 1, KIND_SERVER = 2 };

struct traces {
    const char *url;
    struct metrics *metrics;
    uint64_t id_seed;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wakeup;
    struct trace_record *waiting, *sending; /* [RECORDS_MAX] each */
    uint32_t count;
    bool stopping;
};

/* ------------------------------------------------------------------ the document */

static void write_text(struct json_writer *writer, const char *key, const char *value)
{
    json_begin_object(writer);
    json_key(writer, "key");
    json_write_string(writer, key);
    json_key(writer, "value");
    json_begin_object(writer);
    json_key(writer, "stringValue");
    json_write_string(writer, value);
    json_end_object(writer);
    json_end_object(writer);
}

/* 64-bit integers are strings in this format. */
static void write_count(struct json_writer *writer, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    json_begin_object(writer);
    json_key(writer, "key");
    json_write_string(writer, key);
    json_key(writer, "value");
    json_begin_object(writer);
    json_key(writer, "intValue");
    json_write_string(writer, text);
    json_end_object(writer);
    json_end_object(writer);
}

static void write_time(struct json_writer *writer, const char *key, int64_t unix_ns)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)unix_ns);
    json_key(writer, key);
    json_write_string(writer, text);
}

/* Opens a span up to its attributes. */
static void begin_span(struct json_writer *writer, const char *trace_id, const char *span_id,
                       const char *parent_id, const char *name, int kind, int64_t begin_ns,
                       int64_t end_ns)
{
    json_begin_object(writer);
    json_key(writer, "traceId");
    json_write_string(writer, trace_id);
    json_key(writer, "spanId");
    json_write_string(writer, span_id);
    if (parent_id[0]) {
        json_key(writer, "parentSpanId");
        json_write_string(writer, parent_id);
    }
    json_key(writer, "name");
    json_write_string(writer, name);
    json_key(writer, "kind");
    json_write_integer(writer, kind);
    write_time(writer, "startTimeUnixNano", begin_ns);
    write_time(writer, "endTimeUnixNano", end_ns);
    json_key(writer, "attributes");
    json_begin_array(writer);
}

static const char *operation_of(const char *route)
{
    return strcmp(route, "/v1/completions") == 0  ? "text_completion"
           : strcmp(route, "/v1/embeddings") == 0 ? "embeddings"
                                                  : "chat";
}

static void write_request(struct json_writer *writer, const struct trace_record *record)
{
    char name[100];
    const char *operation = operation_of(record->route);
    snprintf(name, sizeof name, "%s %s", operation, record->model);
    begin_span(writer, record->trace_id, record->span_id, record->parent_id, name, KIND_SERVER,
               record->begin_unix_ns, record->begin_unix_ns + (int64_t)record->taken_ns);
    write_text(writer, "gen_ai.operation.name", operation);
    write_text(writer, "gen_ai.provider.name", "llcuda");
    write_text(writer, "gen_ai.request.model", record->model);
    write_text(writer, "http.route", record->route);
    write_text(writer, "llcuda.request_id", record->request_id);
    write_count(writer, "http.response.status_code", (uint64_t)record->status);
    write_count(writer, "gen_ai.usage.input_tokens", record->usage.prompt_tokens);
    write_count(writer, "gen_ai.usage.output_tokens", record->usage.completion_tokens);
    write_count(writer, "gen_ai.usage.cache_read.input_tokens", record->usage.cached_tokens);
    if (record->finish_reason) {
        write_text(writer, "gen_ai.response.finish_reason", record->finish_reason);
    }
    if (record->error_code) {
        write_text(writer, "error.type", record->error_code);
    }
    json_end_array(writer);
    json_key(writer, "status");
    json_begin_object(writer);
    if (record->error_code) {
        json_key(writer, "code");
        json_write_integer(writer, 2);
    }
    json_end_object(writer);
    json_end_object(writer);
}

static void write_children(struct json_writer *writer, const struct trace_record *record,
                           uint64_t *id)
{
    const struct {
        const char *name;
        double ms;
    } children[] = {{"queue", record->timings.queue_ms},
                    {"prefill", record->timings.prefill_ms},
                    {"decode", record->timings.decode_ms}};
    int64_t begin_ns = record->begin_unix_ns + (int64_t)record->queued_after_ns;
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
        char span_id[17];
        int64_t end_ns = begin_ns + (int64_t)(children[i].ms * 1e6);
        *id = random_mix(*id + 1);
        snprintf(span_id, sizeof span_id, "%016llx", (unsigned long long)(*id | 1));
        begin_span(writer, record->trace_id, span_id, record->span_id, children[i].name,
                   KIND_INTERNAL, begin_ns, end_ns);
        json_end_array(writer);
        json_end_object(writer);
        begin_ns = end_ns;
    }
}

void traces_write(const struct trace_record *records, uint32_t count, uint64_t id_seed,
                  struct buffer *out)
{
    struct json_writer writer;
    uint64_t id = id_seed;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    json_key(&writer, "resourceSpans");
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_key(&writer, "resource");
    json_begin_object(&writer);
    json_key(&writer, "attributes");
    json_begin_array(&writer);
    write_text(&writer, "service.name", "llcuda");
    write_text(&writer, "service.version", LLCUDA_VERSION);
    json_end_array(&writer);
    json_end_object(&writer);
    json_key(&writer, "scopeSpans");
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_key(&writer, "scope");
    json_begin_object(&writer);
    json_key(&writer, "name");
    json_write_string(&writer, "llcuda.server");
    json_end_object(&writer);
    json_key(&writer, "spans");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++) {
        write_request(&writer, &records[i]);
        if (records[i].timings.total_ms > 0) {
            write_children(&writer, &records[i], &id);
        }
    }
    json_end_array(&writer);
    json_end_object(&writer);
    json_end_array(&writer);
    json_end_object(&writer);
    json_end_array(&writer);
    json_end_object(&writer);
}

/* ------------------------------------------------------------------ the thread */

/* Sends what has been gathered in `sending`. */
static void send_records(struct traces *traces, uint32_t count)
{
    struct buffer body = {0};
    int status = 0;
    traces->id_seed = random_mix(traces->id_seed + count);
    traces_write(traces->sending, count, traces->id_seed, &body);
    bool sent = !body.failed &&
                http_post(traces->url, "application/json", buffer_view(&body), TIMEOUT_MS, &status,
                          NULL) == LLCUDA_OK &&
                status / 100 == 2;
    metrics_count_spans(traces->metrics, sent ? count : 0, sent ? 0 : count);
    buffer_deinit(&body);
}

static void *run(void *user)
{
    struct traces *traces = user;
    bool stopping = false;
    pthread_setname_np(pthread_self(), "llcuda-traces");
    while (!stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PAUSE_S;
        pthread_mutex_lock(&traces->mutex);
        if (!traces->stopping) {
            pthread_cond_timedwait(&traces->wakeup, &traces->mutex, &until);
        }
        stopping = traces->stopping;
        uint32_t count = traces->count;
        struct trace_record *records = traces->waiting;
        traces->waiting = traces->sending;
        traces->sending = records;
        traces->count = 0;
        pthread_mutex_unlock(&traces->mutex);
        if (count > 0) {
            send_records(traces, count);
        }
    }
    return NULL;
}

llcuda_status traces_create(const char *url, struct metrics *metrics, uint64_t id_seed,
                            struct traces **made, struct llcuda_error *error)
{
    struct http_url parts;
    llcuda_status status = http_url_read(url, &parts, error);
    if (status) {
        return status;
    }
    struct traces *traces = calloc(1, sizeof *traces);
    if (traces) {
        traces->waiting = calloc(RECORDS_MAX, sizeof *traces->waiting);
        traces->sending = calloc(RECORDS_MAX, sizeof *traces->sending);
    }
    if (!traces || !traces->waiting || !traces->sending) {
        traces_destroy(traces);
        return error_no_memory(error, "traces", 2 * RECORDS_MAX * sizeof *traces->waiting);
    }
    traces->url = url;
    traces->metrics = metrics;
    traces->id_seed = id_seed;
    pthread_mutex_init(&traces->mutex, NULL);
    pthread_cond_init(&traces->wakeup, NULL);
    int failure = pthread_create(&traces->thread, NULL, run, traces);
    if (failure != 0) {
        traces->metrics = NULL;
        traces_destroy(traces);
        return error_from_errno(error, failure, "start", "the thread for traces");
    }
    *made = traces;
    return LLCUDA_OK;
}

void traces_destroy(struct traces *traces)
{
    if (!traces) {
        return;
    }
    if (traces->metrics) { /* the thread has been started */
        pthread_mutex_lock(&traces->mutex);
        traces->stopping = true;
        pthread_cond_signal(&traces->wakeup);
        pthread_mutex_unlock(&traces->mutex);
        pthread_join(traces->thread, NULL);
        pthread_mutex_destroy(&traces->mutex);
        pthread_cond_destroy(&traces->wakeup);
    }
    free(traces->waiting);
    free(traces->sending);
    free(traces);
}

void traces_add(struct traces *traces, const struct trace_record *record)
{
    if (!traces) {
        return;
    }
    pthread_mutex_lock(&traces->mutex);
    bool room = traces->count < RECORDS_MAX;
    if (room) {
        traces->waiting[traces->count++] = *record;
    }
    if (traces->count == RECORDS_MAX / 2) {
        pthread_cond_signal(&traces->wakeup);
    }
    pthread_mutex_unlock(&traces->mutex);
    if (!room) {
        metrics_count_spans(traces->metrics, 0, 1);
    }
}
