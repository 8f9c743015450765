/* `llcuda bench engine`: llcuda behind the engine protocol of its own benchmark suite
 * (docs/internals/bench-protocol.md), so that it is measured like everybody else, in a process of
 * its own. One thread reads lines and events; the engine's thread only rings the bell. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/adapter_columns.h"
#include "build_config.h"
#include "cli/bench_profile.h"
#include "cli/bench_suite.h"
#include "cli/open.h"

#define LINE_BYTES_MAX (64u << 20)
#define HOLD_US_MAX    10000000

struct stream {
    llcuda_request *request;
    uint64_t run;
    uint32_t index;
    struct stream *next;
};

struct adapter_side {
    struct options *options; /* of the command; a profile opens the model by them */
    llcuda_engine *engine;
    struct buffer load; /* the request that loaded it */
    struct stream *streams;
    struct buffer in, out;
    struct buffer columns[COLUMN_COUNT]; /* of tokens that are not in `out` yet */
    uint64_t hold_ns;    /* how long tokens may wait for company; the harness says */
    uint64_t written_ns; /* when something was last written */
    bool urgent;         /* something in `out` must not wait */
    int bell;
    bool stopped;
};

static void ring(void *user)
{
    const struct adapter_side *side = user;
    uint64_t one = 1;
    ssize_t written = write(side->bell, &one, sizeof one);
    (void)written; /* a full counter rings all the same */
}

static void refuse(struct adapter_side *side, struct text_view op, int64_t id, const char *reason)
{
    struct json_writer writer;
    json_writer_init(&writer, &side->out, 0);
    json_begin_object(&writer);
    json_key(&writer, "ok");
    json_write_bool(&writer, false);
    json_key(&writer, "op");
    json_write_text(&writer, op);
    json_key(&writer, "id");
    json_write_integer(&writer, id);
    json_key(&writer, "error");
    json_write_string(&writer, reason);
    json_end_object(&writer);
    buffer_append_byte(&side->out, '\n');
}

static void text_option(const struct json_value *value, char *out, size_t bytes)
{
    struct text_view text = json_text(value);
    snprintf(out, bytes, "%.*s", TEXT_ARGUMENTS(text));
}

static void integer_option(const struct json_value *value, uint32_t *out)
{
    int64_t number;
    if (json_integer(value, 0, UINT32_MAX, &number)) {
        *out = (uint32_t)number;
    }
}

static void load(struct adapter_side *side, const struct json_value *root, struct text_view line)
{
    char model[4096];
    char device[64];
    char cache[16];
    llcuda_engine_options options;
    struct llcuda_error error = {0};
    const struct json_value *more = json_member(root, "options");
    llcuda_engine_options_init(&options, sizeof options);
    text_option(json_member(root, "model"), model, sizeof model);
    text_option(json_member(root, "device"), device, sizeof device);
    text_option(json_member(more, "cache_type"), cache, sizeof cache);
    if (strcmp(model, "builtin") == 0) {
        options.builtin_model = builtin_model_data();
        options.builtin_model_bytes = builtin_model_bytes();
    } else {
        options.model = model;
    }
    options.device = device[0] ? device : NULL;
    if (cache[0] && !cache_type_find(cache, &options.kv_type, NULL)) {
        refuse(side, text_view_of("load"), 0, "there is no such cache_type");
        return;
    }
    options.prefix_cache = json_bool(json_member(more, "prefix_cache"), true);
    integer_option(json_member(root, "threads"), &options.threads);
    integer_option(json_member(root, "context"), &options.context_length);
    integer_option(json_member(root, "parallel"), &options.running_max);
    integer_option(json_member(more, "step_tokens"), &options.step_tokens);
    options.queue_max = 65536;
    if (side->engine || llcuda_engine_open(&options, &side->engine, &error)) {
        refuse(side, text_view_of("load"), 0,
               error.message[0] ? error.message : "a model is loaded already");
        return;
    }
    buffer_clear(&side->load);
    buffer_append_view(&side->load, line);
    const llcuda_engine_info *info = llcuda_engine_get_info(side->engine);
    struct json_writer writer;
    json_writer_init(&writer, &side->out, 0);
    json_begin_object(&writer);
    json_key(&writer, "ok");
    json_write_bool(&writer, true);
    json_key(&writer, "op");
    json_write_string(&writer, "load");
    json_key(&writer, "load_ms");
    json_write_number(&writer, info->load_ms);
    json_key(&writer, "details");
    json_begin_object(&writer);
    json_key(&writer, "device");
    json_write_string(&writer, info->device);
    json_key(&writer, "weight_types");
    json_write_string(&writer, info->weight_types);
    json_key(&writer, "threads");
    json_write_unsigned(&writer, info->threads);
    json_key(&writer, "weight_bytes");
    json_write_unsigned(&writer, info->weight_bytes);
    json_key(&writer, "kv_bytes");
    json_write_unsigned(&writer, info->kv_bytes);
    json_key(&writer, "kv_bytes_per_token");
    json_write_unsigned(&writer, info->kv_bytes_per_token);
    json_key(&writer, "parameters");
    json_write_unsigned(&writer, info->parameter_count);
    json_end_object(&writer);
    json_end_object(&writer);
    buffer_append_byte(&side->out, '\n');
}

/* The ids of a prompt into `ids`; false when there are none. */
static bool read_prompt_ids(const struct json_value *list, struct buffer *ids)
{
    buffer_clear(ids);
    JSON_EACH(item, list)
    {
        int64_t id;
        if (!json_integer(item, 0, UINT32_MAX, &id)) {
            return false;
        }
        uint32_t value = (uint32_t)id;
        buffer_append(ids, &value, sizeof value);
    }
    return ids->length > 0 && !ids->failed;
}

static llcuda_status submit_one(struct adapter_side *side, const struct json_value *item,
                                struct buffer *ids, bool ignore_eos, struct stream *stream,
                                struct llcuda_error *error)
{
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    if (!read_prompt_ids(json_member(item, "prompt_ids"), ids)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "a request has no prompt_ids");
    }
    options.prompt_tokens = (const uint32_t *)(const void *)ids->data;
    options.prompt_token_count = ids->length / sizeof(uint32_t);
    integer_option(json_member(item, "max_tokens"), &options.max_tokens);
    options.ignore_eos = ignore_eos;
    options.on_ready = ring;
    options.on_ready_user = side;
    return llcuda_submit(side->engine, &options, &stream->request, error);
}

static void run(struct adapter_side *side, const struct json_value *root)
{
    struct buffer ids = {0};
    struct llcuda_error error = {0};
    const struct json_value *requests = json_member(root, "requests");
    int64_t id = 0;
    int64_t hold_us = 0;
    uint32_t index = 0;
    llcuda_status status = LLCUDA_OK;
    json_integer(json_member(root, "id"), 0, INT64_MAX, &id);
    json_integer(json_member(root, "hold_us"), 0, HOLD_US_MAX, &hold_us);
    side->hold_ns = (uint64_t)hold_us * 1000;
    if (!side->engine) {
        status = error_set(&error, LLCUDA_INVALID_ARGUMENT, "run before load");
    }
    JSON_EACH(item, requests)
    {
        struct stream *stream = status ? NULL : calloc(1, sizeof *stream);
        if (!stream) {
            break;
        }
        stream->run = (uint64_t)id;
        stream->index = index++;
        status = submit_one(side, item, &ids, json_bool(json_member(root, "ignore_eos"), true),
                            stream, &error);
        if (status) {
            free(stream);
        } else {
            stream->next = side->streams;
            side->streams = stream;
        }
    }
    buffer_deinit(&ids);
    if (status) {
        refuse(side, text_view_of("run"), id, error.message);
    }
    ring(side); /* events may be there already */
}

/* Tokens wait in columns and become one line: an event of their own each would cost this process
 * and the harness more than all else that they do for a token. */
static void add_tokens(struct adapter_side *side, const struct stream *stream,
                       const llcuda_event *event)
{
    uint64_t now = clock_now_ns();
    for (uint32_t i = 0; i < event->token_count; i++) {
        const uint64_t row[COLUMN_COUNT] = {stream->run, stream->index, event->tokens[i], now};
        for (int column = 0; column < COLUMN_COUNT; column++) {
            struct buffer *out = &side->columns[column];
            buffer_append_text(out, out->length ? "," : "");
            buffer_append_unsigned(out, row[column]);
        }
    }
}

static void write_columns(struct adapter_side *side)
{
    static const char *const heads[COLUMN_COUNT] = {
        "{\"event\":\"tokens\",\"id\":[", "],\"index\":[", "],\"token\":[", "],\"at_ns\":["};
    if (side->columns[COLUMN_ID].length == 0) {
        return;
    }
    for (int column = 0; column < COLUMN_COUNT; column++) {
        buffer_append_text(&side->out, heads[column]);
        buffer_append_view(&side->out, buffer_view(&side->columns[column]));
        buffer_clear(&side->columns[column]);
    }
    buffer_append_text(&side->out, "]}\n");
}

/* Whether other streams of this run are still going. */
static bool run_goes_on(const struct adapter_side *side, uint64_t run)
{
    for (const struct stream *stream = side->streams; stream; stream = stream->next) {
        if (stream->run == run) {
            return true;
        }
    }
    return false;
}

static void finish_stream(struct adapter_side *side, struct stream **link,
                          const llcuda_event *event)
{
    struct stream *stream = *link;
    uint64_t id = stream->run;
    write_columns(side); /* what was made comes before its end */
    side->urgent = true;
    *link = stream->next;
    if (event->status == LLCUDA_OK) {
        buffer_printf(&side->out,
                      "{\"event\":\"done\",\"id\":%llu,\"index\":%u,\"prompt_tokens\":%u,"
                      "\"completion_tokens\":%u,\"finish\":\"%s\"}\n",
                      (unsigned long long)id, stream->index, event->usage.prompt_tokens,
                      event->usage.completion_tokens,
                      llcuda_finish_reason_name(event->finish_reason));
    } else {
        refuse(side, text_view_of("run"), (int64_t)id, event->message);
    }
    bool last = !run_goes_on(side, id) && event->status == LLCUDA_OK;
    llcuda_request_release(stream->request);
    free(stream);
    if (last) {
        buffer_printf(&side->out, "{\"ok\":true,\"op\":\"run\",\"id\":%llu}\n",
                      (unsigned long long)id);
    }
}

/* Takes every event that is there now. */
static void drain(struct adapter_side *side)
{
    struct stream **link = &side->streams;
    while (*link) {
        const llcuda_event *event;
        bool ended = false;
        while (!ended && llcuda_request_next((*link)->request, 0, &event, NULL) == LLCUDA_OK) {
            if (event->token_count && event->kind != LLCUDA_EVENT_PROMPT) {
                add_tokens(side, *link, event);
            }
            ended = event->kind == LLCUDA_EVENT_DONE;
        }
        if (ended) {
            finish_stream(side, link, event);
        } else {
            link = &(*link)->next;
        }
    }
}

static void metrics(struct adapter_side *side)
{
    llcuda_stats stats = {.size = sizeof stats};
    if (side->engine) {
        llcuda_engine_get_stats(side->engine, &stats);
    }
    buffer_printf(
        &side->out,
        "{\"ok\":true,\"op\":\"metrics\",\"metrics\":{\"steps\":%llu,\"step_ns\":%llu,"
        "\"host_ns\":%llu,\"prompt_tokens\":%llu,\"generated_tokens\":%llu,"
        "\"prefix_hit_tokens\":%llu,\"preemptions\":%llu,\"weight_bytes_read\":%llu,"
        "\"memory_bytes\":%llu,\"blocks_total\":%u,\"step_rows_max\":%llu}}\n",
        (unsigned long long)stats.steps, (unsigned long long)stats.step_ns,
        (unsigned long long)stats.host_ns, (unsigned long long)stats.prompt_tokens,
        (unsigned long long)stats.generated_tokens, (unsigned long long)stats.prefix_hit_tokens,
        (unsigned long long)stats.preemptions, (unsigned long long)stats.weight_bytes_read,
        (unsigned long long)stats.memory_bytes, stats.blocks_total,
        (unsigned long long)stats.step_rows_max);
}

/* The engine makes room: its cache may fill a GPU, and what is profiled is a model of its own. */
static void profile(struct adapter_side *side, const struct json_value *root)
{
    struct llcuda_error error = {0};
    struct buffer tests = {0};
    llcuda_status status = LLCUDA_OK;
    if (side->load.length == 0 || side->streams) {
        status = error_set(&error, LLCUDA_INVALID_ARGUMENT,
                           "a profile comes after load, and not during a run");
    }
    if (!status) {
        llcuda_engine_close(side->engine);
        side->engine = NULL;
        status = bench_profile(side->options, buffer_view(&side->load), root, &tests, &error);
    }
    if (status) {
        refuse(side, text_view_of("profile"), 0, error.message);
    } else {
        buffer_append_text(&side->out, "{\"ok\":true,\"op\":\"profile\",\"tests\":");
        buffer_append_view(&side->out, buffer_view(&tests));
        buffer_append_text(&side->out, "}\n");
    }
    buffer_deinit(&tests);
}

static void take_line(struct adapter_side *side, struct text_view line)
{
    struct json_document *document = NULL;
    struct llcuda_error error = {0};
    if (json_parse(line, NULL, &document, &error)) {
        refuse(side, text_view_of(""), 0, error.message);
        return;
    }
    const struct json_value *root = json_root(document);
    struct text_view op = json_text(json_member(root, "op"));
    if (text_view_is(op, "hello")) {
        buffer_append_text(&side->out, "{\"ok\":true,\"op\":\"hello\",\"version\":1,"
                                       "\"engine\":\"llcuda\",\"engine_version\":\"" LLCUDA_VERSION
                                       "\",\"concurrent\":4096,\"profile\":true}\n");
    } else if (text_view_is(op, "load")) {
        load(side, root, line);
    } else if (text_view_is(op, "run")) {
        run(side, root);
    } else if (text_view_is(op, "metrics")) {
        metrics(side);
    } else if (text_view_is(op, "profile")) {
        profile(side, root);
    } else if (text_view_is(op, "stop")) {
        buffer_append_text(&side->out, "{\"ok\":true,\"op\":\"stop\"}\n");
        side->stopped = true;
    } else {
        refuse(side, op, 0, "there is no such operation");
    }
    json_destroy(document);
}

/* Reads what is there and takes whole lines; false at the end of the input. */
static bool read_lines(struct adapter_side *side)
{
    if (!buffer_reserve(&side->in, 65536)) {
        return false;
    }
    ssize_t got = read(STDIN_FILENO, side->in.data + side->in.length, 65536);
    if (got <= 0) {
        return got < 0 && errno == EINTR;
    }
    side->in.length += (size_t)got;
    size_t used = 0;
    const char *end;
    while (!side->stopped &&
           (end = memchr(side->in.data + used, '\n', side->in.length - used)) != NULL) {
        size_t length = (size_t)(end - side->in.data) - used;
        take_line(side, text_view_make(side->in.data + used, length));
        used += length + 1;
    }
    memmove(side->in.data, side->in.data + used, side->in.length - used);
    side->in.length -= used;
    return true;
}

/* Milliseconds for which what is to be written may wait; 0 when it may not. */
static int hold_left_ms(const struct adapter_side *side)
{
    uint64_t due = side->written_ns + side->hold_ns;
    uint64_t now = clock_now_ns();
    bool waits = side->out.length || side->columns[COLUMN_ID].length;
    return side->urgent || !waits || now >= due ? 0 : (int)((due - now) / 1000000) + 1;
}

static bool write_out(struct adapter_side *side)
{
    size_t sent = 0;
    write_columns(side);
    if (side->out.length == 0) {
        return true;
    }
    while (sent < side->out.length) {
        ssize_t written = write(STDOUT_FILENO, side->out.data + sent, side->out.length - sent);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        sent += written > 0 ? (size_t)written : 0;
    }
    buffer_clear(&side->out);
    side->written_ns = clock_now_ns();
    side->urgent = false;
    return true;
}

int bench_engine(struct options *options)
{
    struct adapter_side side = {.options = options, .bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    buffer_init(&side.in, LINE_BYTES_MAX);
    bool alive = side.bell >= 0;
    while (alive && !side.stopped && !console_interrupted()) {
        struct pollfd waits[2] = {{STDIN_FILENO, POLLIN, 0}, {side.bell, POLLIN, 0}};
        int hold_ms = hold_left_ms(&side);
        poll(waits, 2, hold_ms ? hold_ms : 1000);
        if (waits[1].revents) {
            uint64_t count;
            ssize_t got = read(side.bell, &count, sizeof count);
            (void)got;
        }
        if (waits[0].revents) {
            alive = read_lines(&side);
            side.urgent = side.urgent || side.out.length > 0; /* answers do not wait */
        }
        drain(&side);
        if (hold_left_ms(&side) == 0) {
            alive = write_out(&side) && alive;
        }
    }
    while (side.streams) {
        struct stream *next = side.streams->next;
        llcuda_request_release(side.streams->request);
        free(side.streams);
        side.streams = next;
    }
    llcuda_engine_close(side.engine);
    buffer_deinit(&side.load);
    buffer_deinit(&side.in);
    buffer_deinit(&side.out);
    for (int column = 0; column < COLUMN_COUNT; column++) {
        buffer_deinit(&side.columns[column]);
    }
    if (side.bell >= 0) {
        close(side.bell);
    }
    return alive || side.stopped ? EXIT_DONE : EXIT_FAILED;
}
