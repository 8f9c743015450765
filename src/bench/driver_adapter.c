/* Owns the conversation with an adapter: lines out, lines in, and which run each request belongs
 * to. Input and output never block, so that an engine that does not read cannot stop the clock.
 * What an adapter prints is outside bytes: lengths are bounded, rubbish ends the session. */
#include "bench/driver_adapter.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/adapter_columns.h"

#define LINE_BYTES_MAX (16u << 20)
#define READ_BYTES     65536u
#define IDS_MAX        4096u
/* An adapter that says when it knew a token may keep lines back for so long: without it, every
 * token would wake this process, and waking up is most of what the harness costs. Slow ones may for
 * longer, as long as what waits stays well below what a pipe takes at once (64 KB). */
#define HOLD_US_MIN 50000u
#define HOLD_US_MAX 250000u
#define HOLD_BYTES  32768u

struct adapter_run {
    uint64_t id;
    uint32_t first; /* index of its first request; the others follow */
    uint32_t count;
    uint32_t pending;               /* not done yet */
    uint64_t last_ns;               /* of its latest event; before any, when it was submitted */
    uint64_t begin_ns, begin_bytes; /* when it was submitted, and how much had been read then */
    uint8_t done[];                 /* [count] */
};

static llcuda_status rubbish(struct text_view line, struct llcuda_error *error)
{
    char shown[80];
    size_t length = line.length < sizeof shown - 1 ? line.length : sizeof shown - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)line.data[i];
        shown[i] = byte < 0x20 || byte > 0x7e ? '?' : line.data[i];
    }
    shown[length] = 0;
    return error_set(error, LLCUDA_BAD_FORMAT,
                     "the engine printed what is no message of the protocol: '%s'", shown);
}

/* The next whole line, borrowed until the next fill_in. */
static bool next_line(struct adapter *adapter, struct text_view *line)
{
    const char *begin = adapter->in.data ? adapter->in.data + adapter->in_used : NULL;
    size_t left = adapter->in.length - adapter->in_used;
    const char *end = left ? memchr(begin, '\n', left) : NULL;
    if (!end) {
        return false;
    }
    *line = text_view_make(begin, (size_t)(end - begin));
    adapter->in_used += line->length + 1;
    return true;
}

/* The first line that is no message, of those that a program printed before it went. */
static bool last_line(struct adapter *adapter, struct text_view *line)
{
    struct json_document *document = NULL;
    struct buffer *in = &adapter->in;
    if (buffer_reserve(in, READ_BYTES)) {
        ssize_t count = read(adapter->process.output, in->data + in->length, READ_BYTES);
        in->length += count > 0 ? (size_t)count : 0;
    }
    while (next_line(adapter, line)) {
        if (json_parse(*line, NULL, &document, NULL)) {
            return true;
        }
        json_destroy(document);
    }
    return false;
}

static llcuda_status ended(struct adapter *adapter, struct llcuda_error *error)
{
    char how[64];
    char tail[300];
    struct text_view line;
    if (last_line(adapter, &line)) {
        return rubbish(line, error);
    }
    process_wait(&adapter->process, 1000);
    bool running = process_running(&adapter->process);
    process_describe_end(&adapter->process, how, sizeof how);
    process_log_tail(&adapter->process, tail, sizeof tail);
    return error_set(error, LLCUDA_IO, "the engine ended (%s); its log ends with: %s",
                     running ? "it closed its output" : how, tail[0] ? tail : "nothing");
}

/* Writes what the pipe takes. */
static llcuda_status flush_out(struct adapter *adapter, struct llcuda_error *error)
{
    while (adapter->out_sent < adapter->out.length) {
        ssize_t written = write(adapter->process.input, adapter->out.data + adapter->out_sent,
                                adapter->out.length - adapter->out_sent);
        if (written < 0 && (errno == EAGAIN || errno == EINTR)) {
            return LLCUDA_OK;
        }
        if (written < 0) {
            return ended(adapter, error);
        }
        adapter->out_sent += (size_t)written;
    }
    buffer_clear(&adapter->out);
    adapter->out_sent = 0;
    return LLCUDA_OK;
}

/* Reads what is there; *got is false when there was nothing. */
static llcuda_status fill_in(struct adapter *adapter, bool *got, struct llcuda_error *error)
{
    *got = false;
    if (adapter->in_used == adapter->in.length) {
        buffer_clear(&adapter->in);
        adapter->in_used = 0;
    } else if (adapter->in_used > READ_BYTES) {
        size_t left = adapter->in.length - adapter->in_used;
        memmove(adapter->in.data, adapter->in.data + adapter->in_used, left);
        adapter->in.length = left;
        adapter->in_used = 0;
    }
    if (!buffer_reserve(&adapter->in, READ_BYTES)) {
        return error_set(error, LLCUDA_LIMIT, "the engine printed a line of more than %u bytes",
                         LINE_BYTES_MAX);
    }
    ssize_t count =
        read(adapter->process.output, adapter->in.data + adapter->in.length, READ_BYTES);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return LLCUDA_OK;
    }
    if (count <= 0) {
        return ended(adapter, error);
    }
    adapter->in_bytes += (uint64_t)count;
    adapter->in.length += (size_t)count;
    adapter->in.data[adapter->in.length] = 0;
    *got = true;
    return LLCUDA_OK;
}

static void wait_for_bytes(struct adapter *adapter, uint64_t until_ns)
{
    uint64_t now = clock_now_ns();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    const struct timespec time = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    struct pollfd waits[2] = {{adapter->process.output, POLLIN, 0},
                              {adapter->process.input, POLLOUT, 0}};
    nfds_t count = adapter->out_sent < adapter->out.length ? 2 : 1;
    ppoll(waits, count, &time, NULL);
}

static uint64_t now_ns(struct driver *driver)
{
    (void)driver;
    return clock_now_ns();
}

static struct adapter_run *run_add(struct adapter *adapter, uint32_t first, uint32_t count)
{
    struct adapter_run *run = calloc(1, sizeof *run + count);
    if (!run) {
        return NULL;
    }
    if (adapter->run_count == adapter->run_capacity) {
        uint32_t capacity = adapter->run_capacity ? adapter->run_capacity * 2 : 16;
        void *runs = realloc(adapter->runs, capacity * sizeof(struct adapter_run *));
        if (!runs) {
            free(run);
            return NULL;
        }
        adapter->runs = runs;
        adapter->run_capacity = capacity;
    }
    run->id = adapter->next_run++;
    run->first = first;
    run->count = run->pending = count;
    run->last_ns = run->begin_ns = clock_now_ns();
    run->begin_bytes = adapter->in_bytes;
    adapter->runs[adapter->run_count++] = run;
    return run;
}

static struct adapter_run *run_find(struct adapter *adapter, int64_t id)
{
    for (uint32_t i = 0; i < adapter->run_count; i++) {
        if (id >= 0 && adapter->runs[i]->id == (uint64_t)id) {
            return adapter->runs[i];
        }
    }
    return NULL;
}

static void run_remove(struct adapter *adapter, struct adapter_run *run)
{
    struct adapter_run **runs = adapter->runs;
    for (uint32_t i = 0; i < adapter->run_count; i++) {
        if (runs[i] == run) {
            runs[i] = runs[--adapter->run_count];
            break;
        }
    }
    free(run);
}

static uint32_t hold_us(const struct adapter *adapter)
{
    const double us = adapter->byte_ns * HOLD_BYTES / 1e3;
    return us > HOLD_US_MAX ? HOLD_US_MAX : us > HOLD_US_MIN ? (uint32_t)us : HOLD_US_MIN;
}

static llcuda_status submit(struct driver *driver, const struct load_request *requests,
                            uint32_t count, struct llcuda_error *error)
{
    struct adapter *adapter = (struct adapter *)(void *)driver;
    struct buffer *out = &adapter->out;
    struct adapter_run *run = run_add(adapter, requests[0].index, count);
    if (!run) {
        return error_no_memory(error, "a run", sizeof *run);
    }
    buffer_printf(out,
                  "{\"op\":\"run\",\"id\":%llu,\"ignore_eos\":%s,\"hold_us\":%u,"
                  "\"requests\":[",
                  (unsigned long long)run->id, adapter->ignore_eos ? "true" : "false",
                  hold_us(adapter));
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(out, "%s{\"max_tokens\":%u,\"prompt_ids\":[", i ? "," : "",
                      requests[i].max_tokens);
        buffer_append_list(out, requests[i].ids, requests[i].id_count);
        buffer_append_byte(out, ']');
        if (adapter->wants_text) {
            buffer_append_text(out, ",\"prompt\":");
            json_quote(out, requests[i].text);
        }
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}\n");
    if (out->failed) {
        return error_no_memory(error, "a run", out->length);
    }
    return flush_out(adapter, error);
}

/* Ends the requests of a run that are not done. */
static void finish_run(struct adapter *adapter, struct adapter_run *run, const char *reason,
                       uint64_t now, const struct load_sink *sink)
{
    for (uint32_t i = 0; i < run->count; i++) {
        if (!run->done[i]) {
            struct load_event event = {.index = run->first + i,
                                       .now_ns = now,
                                       .done = true,
                                       .failed = true,
                                       .reason = reason};
            sink->event(sink->user, &event);
        }
    }
    run_remove(adapter, run);
}

static void read_ids(const struct json_value *value, uint32_t *ids, struct load_event *event)
{
    const struct json_value *tokens = json_member(value, "tokens");
    const struct json_value *token = json_member(value, "token");
    int64_t id;
    event->ids = ids;
    if (json_integer(token, 0, UINT32_MAX, &id)) {
        ids[event->id_count++] = (uint32_t)id;
    }
    JSON_EACH(item, tokens)
    {
        if (event->id_count < IDS_MAX && json_integer(item, 0, UINT32_MAX, &id)) {
            ids[event->id_count++] = (uint32_t)id;
        }
    }
    event->tokens = event->id_count;
}

/* When an event happened: as the engine says, in the bounds of what can be true. A run's events
 * follow one another, its submission comes before them, and none lies in the future. */
static uint64_t event_time(struct adapter_run *run, uint64_t said_ns, uint64_t now)
{
    const uint64_t at = said_ns < run->last_ns ? run->last_ns : said_ns;
    run->last_ns = at > now ? now : at;
    return run->last_ns;
}

static bool take_token_event(struct adapter *adapter, const struct json_value *root,
                             struct text_view kind, uint64_t now, const struct load_sink *sink)
{
    uint32_t ids[IDS_MAX];
    int64_t id = -1;
    int64_t index = 0;
    int64_t number;
    int64_t said_ns = (int64_t)now;
    json_integer(json_member(root, "id"), 0, INT64_MAX, &id);
    json_integer(json_member(root, "at_ns"), 0, INT64_MAX, &said_ns);
    struct adapter_run *run = run_find(adapter, id);
    if (!run || !json_integer(json_member(root, "index"), 0, run->count - 1, &index)) {
        return false;
    }
    struct load_event event = {.index = run->first + (uint32_t)index,
                               .now_ns = event_time(run, (uint64_t)said_ns, now),
                               .text = json_text(json_member(root, "text"))};
    if (text_view_is(kind, "token")) {
        read_ids(root, ids, &event);
        /* An engine that knows texts only: a piece is a token, until it says how many it made. */
        event.tokens += event.tokens == 0 && event.text.length > 0;
    } else if (text_view_is(kind, "done")) {
        if (run->done[index]) {
            return false;
        }
        run->done[index] = 1;
        run->pending--;
        event.done = true;
        if (json_integer(json_member(root, "prompt_tokens"), 0, UINT32_MAX, &number)) {
            event.prompt_tokens = (uint32_t)number;
        }
        if (json_integer(json_member(root, "completion_tokens"), 0, UINT32_MAX, &number)) {
            event.output_tokens = (uint32_t)number;
        }
    } else {
        return false;
    }
    sink->event(sink->user, &event);
    return true;
}

static bool take_columns(struct adapter *adapter, struct columns *columns, uint64_t now,
                         const struct load_sink *sink)
{
    struct adapter_run *run = NULL;
    uint64_t row[COLUMN_COUNT];
    while (columns_next(columns, row)) {
        if (row[COLUMN_ID] > INT64_MAX) {
            return false;
        }
        run = run && run->id == row[COLUMN_ID] ? run : run_find(adapter, (int64_t)row[COLUMN_ID]);
        if (!run || row[COLUMN_INDEX] >= run->count || row[COLUMN_TOKEN] > UINT32_MAX) {
            return false;
        }
        const uint32_t token = (uint32_t)row[COLUMN_TOKEN];
        const struct load_event event = {.index = run->first + (uint32_t)row[COLUMN_INDEX],
                                         .now_ns = event_time(run, row[COLUMN_AT_NS], now),
                                         .ids = &token,
                                         .id_count = 1,
                                         .tokens = 1};
        sink->event(sink->user, &event);
    }
    return columns->whole;
}

/* The answer to a run as a whole. */
static bool take_run_reply(struct adapter *adapter, const struct json_value *root, uint64_t now,
                           const struct load_sink *sink)
{
    char reason[256] = "the engine said that it was done before it was";
    int64_t id = -1;
    json_integer(json_member(root, "id"), 0, INT64_MAX, &id);
    struct adapter_run *run = run_find(adapter, id);
    if (!run || !text_view_is(json_text(json_member(root, "op")), "run")) {
        return false;
    }
    if (!json_bool(json_member(root, "ok"), false)) {
        struct text_view text = json_text(json_member(root, "error"));
        snprintf(reason, sizeof reason, "%.*s", TEXT_ARGUMENTS(text));
    }
    adapter->byte_ns =
        (double)(now - run->begin_ns) / (double)(adapter->in_bytes - run->begin_bytes);
    finish_run(adapter, run, reason, now, sink);
    return true;
}

static llcuda_status take_line(struct adapter *adapter, struct text_view line, uint64_t now,
                               const struct load_sink *sink, struct llcuda_error *error)
{
    struct json_document *document = NULL;
    struct columns columns;
    if (columns_open(line, &columns)) {
        return take_columns(adapter, &columns, now, sink) ? LLCUDA_OK : rubbish(line, error);
    }
    if (json_parse(line, NULL, &document, NULL)) {
        return rubbish(line, error);
    }
    const struct json_value *root = json_root(document);
    struct text_view kind = json_text(json_member(root, "event"));
    bool known = kind.data ? take_token_event(adapter, root, kind, now, sink)
                           : take_run_reply(adapter, root, now, sink);
    json_destroy(document);
    return known ? LLCUDA_OK : rubbish(line, error);
}

static llcuda_status wait_events(struct driver *driver, uint64_t until_ns,
                                 const struct load_sink *sink, struct llcuda_error *error)
{
    struct adapter *adapter = (struct adapter *)(void *)driver;
    bool got = false;
    wait_for_bytes(adapter, until_ns);
    llcuda_status status = flush_out(adapter, error);
    if (!status) {
        status = fill_in(adapter, &got, error);
    }
    uint64_t now = clock_now_ns();
    struct text_view line;
    while (!status && got && next_line(adapter, &line)) {
        status = take_line(adapter, line, now, sink, error);
    }
    return status;
}

static const struct driver_ops adapter_ops = {now_ns, submit, wait_events};

/* Waits for a line. */
static llcuda_status wait_line(struct adapter *adapter, uint64_t until, struct text_view *line,
                               struct llcuda_error *error)
{
    llcuda_status status = flush_out(adapter, error);
    while (!status && !next_line(adapter, line)) {
        bool got = false;
        if (clock_now_ns() >= until) {
            return error_set(error, LLCUDA_TIMEOUT, "no answer");
        }
        wait_for_bytes(adapter, until);
        status = flush_out(adapter, error);
        if (!status) {
            status = fill_in(adapter, &got, error);
        }
    }
    return status;
}

/* What an answer says of the call. */
static llcuda_status check_answer(const struct json_value *root, struct text_view text,
                                  const char *op, struct buffer *reply, struct llcuda_error *error)
{
    if (!text_view_is(json_text(json_member(root, "op")), op)) {
        return rubbish(text, error);
    }
    if (!json_bool(json_member(root, "ok"), false)) {
        struct text_view reason = json_text(json_member(root, "error"));
        bool installed = json_bool(json_member(root, "installed"), true);
        return error_set(error, installed ? LLCUDA_REFUSED : LLCUDA_NOT_FOUND, "%.*s",
                         TEXT_ARGUMENTS(reason));
    }
    buffer_append_view(reply, text);
    return LLCUDA_OK;
}

llcuda_status adapter_call(struct adapter *adapter, const char *line, const char *op,
                           uint32_t timeout_ms, struct buffer *reply, struct llcuda_error *error)
{
    uint64_t until = clock_now_ns() + timeout_ms * 1000000ull;
    bool is_late = true;
    llcuda_status status = LLCUDA_OK;
    buffer_append_text(&adapter->out, line);
    buffer_append_byte(&adapter->out, '\n');
    while (!status && is_late) {
        struct json_document *document = NULL;
        struct text_view text = {0};
        status = wait_line(adapter, until, &text, error);
        if (status == LLCUDA_TIMEOUT) {
            return error_set(error, status, "the engine did not answer '%s' within %.0f s", op,
                             timeout_ms / 1e3);
        }
        if (!status && json_parse(text, NULL, &document, NULL)) {
            status = rubbish(text, error);
        }
        if (status) {
            return status;
        }
        /* A run is over for its requests before its own answer is here. */
        const struct json_value *root = json_root(document);
        is_late = text_view_is(json_text(json_member(root, "op")), "run") &&
                  json_bool(json_member(root, "ok"), false);
        status = is_late ? LLCUDA_OK : check_answer(root, text, op, reply, error);
        json_destroy(document);
    }
    return status;
}

llcuda_status adapter_start(struct adapter *adapter, const char *const *command,
                            char *const *environment, const char *const *extra,
                            const char *log_path, uint32_t timeout_ms, struct buffer *hello,
                            struct llcuda_error *error)
{
    *adapter = (struct adapter){.driver = {&adapter_ops}, .ignore_eos = true};
    adapter->process.input = adapter->process.output = -1;
    buffer_init(&adapter->in, LINE_BYTES_MAX);
    /* An interpreter would start, and say in its own words that the script is not there. */
    const char *script = command[1];
    size_t length = script ? strlen(script) : 0;
    if (length > 3 && strcmp(script + length - 3, ".py") == 0 && access(script, R_OK)) {
        return error_set(error, LLCUDA_NOT_FOUND,
                         "there is no adapter '%s'; --engines DIR says where they are", script);
    }
    llcuda_status status =
        process_start(&adapter->process, command, environment, extra, log_path, true, error);
    if (!status) {
        status = adapter_call(adapter, "{\"op\":\"hello\",\"version\":1}", "hello", timeout_ms,
                              hello, error);
    }
    if (!status) {
        struct json_document *document = NULL;
        int64_t version = 0;
        status = json_parse(buffer_view(hello), NULL, &document, error);
        if (!status &&
            !json_integer(json_member(json_root(document), "version"), ADAPTER_PROTOCOL_VERSION,
                          ADAPTER_PROTOCOL_VERSION, &version)) {
            status = error_set(error, LLCUDA_UNSUPPORTED,
                               "the adapter does not speak version %d of the protocol",
                               ADAPTER_PROTOCOL_VERSION);
        }
        if (!status) {
            const struct json_value *root = json_root(document);
            adapter->wants_text = json_bool(json_member(root, "wants_text"), false);
            adapter->tells_operations = json_bool(json_member(root, "profile"), false);
        }
        json_destroy(document);
    }
    if (status) {
        adapter_end(adapter, 0);
    }
    return status;
}

void adapter_end(struct adapter *adapter, uint32_t grace_ms)
{
    if (adapter->process.pid > 0 && grace_ms) {
        struct buffer reply = {0};
        if (!adapter_call(adapter, "{\"op\":\"stop\"}", "stop", grace_ms, &reply, NULL)) {
            process_wait(&adapter->process, grace_ms);
        }
        buffer_deinit(&reply);
    }
    if (adapter->driver.ops) {
        process_end(&adapter->process, grace_ms);
    }
    while (adapter->run_count) {
        run_remove(adapter, adapter->runs[0]);
    }
    free(adapter->runs);
    buffer_deinit(&adapter->out);
    buffer_deinit(&adapter->in);
    *adapter = (struct adapter){0};
}
