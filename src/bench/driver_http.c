/* Owns the connections to a server. All sockets are non-blocking under one epoll; a request that
 * fails says why and takes its connection with it. A kept connection that the server closed before
 * it answered anything is tried once more on a fresh one: that is no failure of the server. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "bench/http_connection.h"

#define EVENTS_AT_ONCE 256
#define PIECE_BYTES    2048u   /* of a token's chunk, at most */
#define CROWD          3u      /* answers at once, from which on their tokens are read together */
#define NAP_NS_MAX     150000u /* how long the first of them may wait for the others */
#define IDLE_SHORT_NS  1000000000u /* no server's limit for idle connections is below it */

static uint64_t now_ns(struct driver *driver)
{
    (void)driver;
    return clock_now_ns();
}

llcuda_status http_driver_open(struct http_driver *driver, const char *url, const char *model,
                               const char *extra, bool prompt_text, struct llcuda_error *error)
{
    char name[200];
    char port[8] = "80";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    *driver = (struct http_driver){.model = model,
                                   .extra = extra,
                                   .prompt_text = prompt_text,
                                   .ignore_eos = true,
                                   .epoll = -1};
    const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : NULL;
    size_t authority = rest ? strcspn(rest, "/") : 0;
    size_t length = rest ? strcspn(rest, ":/") : 0;
    if (!rest || length == 0 || length >= sizeof name || authority >= sizeof driver->host ||
        authority - length > sizeof port - 1 || strlen(rest + authority) >= sizeof driver->prefix) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "'%s' is no address like http://host:port",
                         url);
    }
    snprintf(name, sizeof name, "%.*s", (int)length, rest);
    if (authority > length + 1) {
        snprintf(port, sizeof port, "%.*s", (int)(authority - length - 1), rest + length + 1);
    }
    snprintf(driver->host, sizeof driver->host, "%.*s", (int)authority, rest);
    snprintf(driver->prefix, sizeof driver->prefix, "%s", rest + authority);
    for (size_t end = strlen(driver->prefix); end && driver->prefix[end - 1] == '/';) {
        driver->prefix[--end] = 0;
    }
    int failed = getaddrinfo(name, port, &hints, &address);
    if (failed) {
        return error_set(error, LLCUDA_NOT_FOUND, "'%s': %s", url, gai_strerror(failed));
    }
    driver->address = address;
    driver->epoll = epoll_create1(EPOLL_CLOEXEC);
    return driver->epoll >= 0 ? LLCUDA_OK : error_from_errno(error, errno, "watch", url);
}

/* Drops what is held, without looking at it. */
static void forget_held(struct http_connection *connection)
{
    struct http_connection **link = &connection->driver->held;
    while (*link && *link != connection) {
        link = &(*link)->next_held;
    }
    if (*link) {
        *link = connection->next_held;
    }
    connection->held.count = 0;
    buffer_clear(&connection->held.bytes);
}

static void close_connection(struct http_connection *connection)
{
    struct http_driver *driver = connection->driver;
    struct http_connection **link = &driver->idle;
    while (*link && *link != connection) {
        link = &(*link)->next_idle;
    }
    if (*link) {
        *link = connection->next_idle;
    }
    forget_held(connection);
    http_tap_forget(driver->tap, &connection->tap);
    driver->speaking -= connection->speaks;
    driver->busy -= connection->busy;
    buffer_deinit(&connection->held.bytes);
    driver->connections[connection->place] = driver->connections[--driver->connection_count];
    driver->connections[connection->place]->place = connection->place;
    if (connection->socket >= 0) {
        close(connection->socket);
    }
    buffer_deinit(&connection->out);
    http_stream_deinit(&connection->stream);
    http_event_reader_deinit(&connection->events);
    free(connection);
}

void http_driver_close(struct http_driver *driver)
{
    while (driver->connection_count) {
        close_connection(driver->connections[driver->connection_count - 1]);
    }
    free(driver->connections);
    http_tap_close(driver->tap);
    if (driver->address) {
        freeaddrinfo(driver->address);
    }
    if (driver->epoll >= 0 && driver->address) {
        close(driver->epoll);
    }
    *driver = (struct http_driver){.epoll = -1};
}

static int connect_socket(const struct http_driver *driver)
{
    const struct addrinfo *address = driver->address;
    int on = 1;
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return -1;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    arrival_watch(descriptor);
    if (connect(descriptor, address->ai_addr, address->ai_addrlen) && errno != EINPROGRESS) {
        int number = errno;
        close(descriptor);
        errno = number;
        return -1;
    }
    return descriptor;
}

/* On the same machine a connection is there at once, which saves a waiting. */
static bool is_connected(int descriptor)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    return getpeername(descriptor, (struct sockaddr *)(void *)&peer, &length) == 0;
}

static void watch(struct http_connection *connection, bool add, bool write)
{
    if (!add && connection->watches_room == write) {
        return;
    }
    connection->watches_room = write;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(connection->driver->epoll, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, connection->socket,
              &event);
}

static bool reconnect(struct http_connection *connection)
{
    if (connection->socket >= 0) {
        close(connection->socket);
    }
    connection->socket = connect_socket(connection->driver);
    if (connection->socket < 0) {
        return false;
    }
    http_tap_watch(connection->driver->tap, &connection->tap, connection->socket);
    connection->connecting = !is_connected(connection->socket);
    connection->reused = connection->answered = false;
    connection->out_sent = 0;
    connection->wake_bytes = 0;
    if (connection->driver->tap) {
        http_record_begin(connection);
    }
    http_stream_reset(&connection->stream);
    watch(connection, true, connection->connecting || connection->out.length);
    return true;
}

/* An idle connection, or a new one; NULL with errno. */
static struct http_connection *take_connection(struct http_driver *driver)
{
    struct http_connection *connection = driver->idle;
    if (connection) {
        driver->idle = connection->next_idle;
        connection->next_idle = NULL;
        connection->reused = true;
        return connection;
    }
    if (driver->connection_count == HTTP_CONNECTION_MAX) {
        errno = EMFILE;
        return NULL;
    }
    if (driver->connection_count == driver->connection_capacity) {
        uint32_t capacity = driver->connection_capacity ? driver->connection_capacity * 2 : 64;
        struct http_connection **grown =
            realloc(driver->connections, capacity * sizeof *driver->connections);
        if (!grown) {
            return NULL;
        }
        driver->connections = grown;
        driver->connection_capacity = capacity;
    }
    connection = calloc(1, sizeof *connection);
    if (!connection) {
        return NULL;
    }
    connection->driver = driver;
    connection->socket = -1;
    connection->place = driver->connection_count;
    driver->connections[driver->connection_count++] = connection;
    if (!reconnect(connection)) {
        int number = errno;
        close_connection(connection);
        errno = number;
        return NULL;
    }
    return connection;
}

static void write_body(const struct http_driver *driver, const struct load_request *request,
                       struct buffer *body)
{
    struct json_writer writer;
    json_writer_init(&writer, body, 0);
    json_begin_object(&writer);
    json_key(&writer, "model");
    json_write_string(&writer, driver->model ? driver->model : driver->found_model);
    json_key(&writer, "prompt");
    if (driver->prompt_text || !request->ids) {
        json_write_text(&writer, request->text);
    } else {
        json_write_unsigned_array(&writer, request->ids, request->id_count);
    }
    json_end_object(&writer);
    body->length--; /* the rest is always the same */
    buffer_printf(body,
                  ",\"max_tokens\":%u,\"temperature\":0,\"stream\":true,"
                  "\"stream_options\":{\"include_usage\":true}%s",
                  request->max_tokens, driver->ignore_eos ? ",\"ignore_eos\":true" : "");
    size_t extra = driver->extra ? strlen(driver->extra) : 0;
    if (extra > 2) {
        buffer_append_byte(body, ',');
        buffer_append(body, driver->extra + 1, extra - 2);
    }
    buffer_append_byte(body, '}');
}

static void finish(struct http_connection *connection, const char *reason)
{
    struct load_event event = {.index = connection->index,
                               .now_ns = connection->now_ns,
                               .done = true,
                               .failed = reason != NULL,
                               .reason = reason,
                               .prompt_tokens = connection->prompt_tokens,
                               .output_tokens = connection->output_tokens};
    struct http_driver *driver = connection->driver;
    bool keep = !reason && connection->stream.done && !connection->stream.close && !driver->closes;
    connection->busy = false;
    driver->busy--;
    driver->speaking -= connection->speaks;
    connection->speaks = false;
    driver->ended = true;
    driver->ended_early =
        driver->ended_early || reason || connection->tokens_seen < connection->tokens_due;
    if (!reason) {
        http_note_answer(connection);
    }
    if (driver->sink) {
        driver->sink->event(driver->sink->user, &event);
    }
    if (keep) {
        http_stream_reset(&connection->stream);
        connection->next_idle = driver->idle;
        driver->idle = connection;
        watch(connection, false, false);
    } else {
        close_connection(connection);
    }
}

/* Sends what the socket takes; false after a failure. */
static bool flush_out(struct http_connection *connection)
{
    while (connection->out_sent < connection->out.length) {
        ssize_t sent = send(connection->socket, connection->out.data + connection->out_sent,
                            connection->out.length - connection->out_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        connection->out_sent += (size_t)sent;
    }
    watch(connection, false, false);
    return true;
}

static llcuda_status submit(struct driver *base, const struct load_request *requests,
                            uint32_t count, struct llcuda_error *error)
{
    struct http_driver *driver = (struct http_driver *)(void *)base;
    struct buffer body = {0};
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < count && !status; i++) {
        struct http_connection *connection = take_connection(driver);
        if (!connection) {
            status = error_from_errno(error, errno, "connect to", driver->host);
            break;
        }
        buffer_clear(&body);
        buffer_clear(&connection->out);
        write_body(driver, &requests[i], &body);
        buffer_printf(&connection->out,
                      "POST %s/v1/completions HTTP/1.1\r\nHost: %s\r\n"
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                      driver->prefix, driver->host, body.length);
        buffer_append(&connection->out, body.data, body.length);
        driver->busy += !connection->busy;
        connection->busy = true;
        const uint64_t now = clock_now_ns();
        connection->rested = now - connection->at_ns > IDLE_SHORT_NS;
        connection->at_ns = now;
        connection->saw_done = connection->answered = false;
        connection->index = requests[i].index;
        connection->output_tokens = connection->prompt_tokens = 0;
        connection->tokens_asked = driver->ignore_eos ? requests[i].max_tokens : 0;
        connection->tokens_due = http_tokens_due(driver, connection->tokens_asked);
        connection->tokens_seen = 0;
        connection->kept = false;
        connection->out_sent = 0;
        if (driver->tap) {
            http_record_begin(connection);
        }
        if (connection->out.failed || body.failed) {
            status = error_no_memory(error, "a request", body.length);
        } else if (!connection->connecting && !flush_out(connection) && !reconnect(connection)) {
            status = error_from_errno(error, errno, "connect to", driver->host);
        } else if (connection->out_sent < connection->out.length) {
            watch(connection, false, true);
        }
    }
    buffer_deinit(&body);
    return status;
}

/* The data of one event of a stream. */
static void take_data(void *user, struct text_view data)
{
    struct http_connection *connection = user;
    struct http_driver *driver = connection->driver;
    struct http_event said;
    if (text_view_is(data, "[DONE]")) {
        connection->saw_done = true;
        return;
    }
    http_event_read(&connection->events, data, &said); /* rubbish is counted by what is missing */
    if (said.text.length && driver->sink) {
        const struct load_event event = {.index = connection->index,
                                         .now_ns = connection->now_ns,
                                         .tokens = 1,
                                         .text = said.text};
        driver->sink->event(driver->sink->user, &event);
        driver->speaking += !connection->speaks;
        connection->speaks = true;
        connection->joined += connection->tokens_seen && connection->token_ns == event.now_ns;
        connection->token_ns = event.now_ns;
        connection->tokens_seen++;
    }
    if (said.has_output_tokens) {
        connection->output_tokens = said.output_tokens;
    }
    if (said.has_prompt_tokens) {
        connection->prompt_tokens = said.prompt_tokens;
    }
}

void http_conclude(struct http_connection *connection)
{
    char reason[256];
    const struct http_stream *stream = &connection->stream;
    if (!connection->answered && connection->reused && reconnect(connection)) {
        /* Closed right after an answer: this server does so, whatever it says of keeping alive. */
        connection->driver->closes = connection->driver->closes || !connection->rested;
        return;
    }
    if (stream->status == 0) {
        snprintf(reason, sizeof reason, "the server closed the connection without an answer");
    } else if (stream->status != 200) {
        snprintf(reason, sizeof reason, "HTTP %d: %.200s", stream->status,
                 buffer_text(&stream->body));
    } else if (!stream->events) {
        snprintf(reason, sizeof reason, "the server did not stream: %.150s",
                 buffer_text(&stream->body));
    } else if (!connection->saw_done) {
        snprintf(reason, sizeof reason, "the stream ended before [DONE]");
    } else {
        finish(connection, NULL);
        return;
    }
    finish(connection, reason);
}

/* Whether nothing has to happen because of these bytes now: they are a token's chunk, and do not
 * end an answer. A judgement that is wrong costs the end of an answer some milliseconds of not
 * being seen, nothing of its time. */
static bool can_wait(const struct http_connection *connection, const char *data, size_t bytes)
{
    static const char last_chunk[] = "0\r\n\r\n";
    const size_t last = sizeof last_chunk - 1;
    return connection->speaks && connection->stream.chunked && bytes > last &&
           bytes <= PIECE_BYTES && memcmp(data + bytes - last, last_chunk, last) != 0;
}

static bool hold(struct http_connection *connection, const char *data, size_t bytes)
{
    if (!arrivals_hold(&connection->held, data, bytes, connection->at_ns)) {
        return false;
    }
    if (connection->held.count == 1) {
        connection->next_held = connection->driver->held;
        connection->driver->held = connection;
    }
    return true;
}

bool http_feed(struct http_connection *connection, const char *data, size_t bytes, uint64_t at_ns)
{
    connection->now_ns = at_ns;
    http_stream_feed(&connection->stream, data, bytes, take_data, connection);
    return !connection->stream.done && !connection->stream.broken;
}

bool http_feed_held(struct http_connection *connection)
{
    const struct arrivals_held *held = &connection->held;
    const char *data = held->bytes.data;
    bool goes_on = true;
    for (uint32_t i = 0; goes_on && i < held->count; i++) {
        goes_on = http_feed(connection, data, held->pieces[i].bytes, held->pieces[i].at_ns);
        data += held->pieces[i].bytes;
    }
    if (held->count) {
        forget_held(connection);
    }
    return goes_on;
}

/* Likewise, and concludes: false when the answer was over, and perhaps the connection with it. */
static bool take_held(struct http_connection *connection)
{
    const bool goes_on = http_feed_held(connection);
    if (!goes_on) {
        http_conclude(connection);
    }
    return goes_on;
}

static void receive(struct http_connection *connection)
{
    char data[HTTP_READ_BYTES];
    struct http_driver *driver = connection->driver;
    uint64_t before_ns = connection->at_ns;
    const struct arrival_clock clock = {driver->clock_offset_ns, before_ns};
    ssize_t got =
        arrival_receive(connection->socket, data, sizeof data, &clock, &connection->at_ns);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got > 0 && can_wait(connection, data, (size_t)got) && hold(connection, data, (size_t)got)) {
        http_note_gap(driver, connection->at_ns - before_ns);
        return;
    }
    if (!take_held(connection)) {
        return;
    }
    if (got <= 0) {
        connection->now_ns = connection->at_ns;
        http_stream_close(&connection->stream);
        http_conclude(connection);
        return;
    }
    connection->answered = true;
    if (!http_feed(connection, data, (size_t)got, connection->at_ns)) {
        http_conclude(connection);
    }
}

static void serve_event(const struct epoll_event *event)
{
    struct http_connection *connection = event->data.ptr;
    if (connection->connecting && (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int number = 0;
        socklen_t length = sizeof number;
        getsockopt(connection->socket, SOL_SOCKET, SO_ERROR, &number, &length);
        connection->connecting = false;
        if (number) {
            char reason[128];
            snprintf(reason, sizeof reason, "cannot connect: %s", strerror(number));
            connection->now_ns = clock_now_ns();
            finish(connection, reason);
            return;
        }
    }
    if ((event->events & EPOLLOUT) && connection->busy && !flush_out(connection)) {
        connection->now_ns = clock_now_ns();
        http_conclude(connection);
        return;
    }
    if (!(event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        return;
    }
    if (!connection->busy) {
        close_connection(connection); /* an idle one that the server closed, or that talks */
    } else if (connection->driver->tap) {
        http_record_read(connection, false);
    } else {
        receive(connection);
    }
}

struct timespec http_time_until(uint64_t until_ns, uint64_t at_most_ns)
{
    uint64_t now = clock_now_ns();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    left = left < at_most_ns ? left : at_most_ns;
    return (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
}

static int wait_sockets(const struct http_driver *driver, struct epoll_event *events,
                        uint64_t until_ns)
{
    const struct timespec time = http_time_until(until_ns, UINT64_MAX);
    int count = epoll_pwait2(driver->epoll, events, EVENTS_AT_ONCE, &time, NULL);
    if (count < 0 && errno == ENOSYS) {
        /* Before Linux 5.11 only milliseconds: round down and come back. */
        count = epoll_wait(driver->epoll, events, EVENTS_AT_ONCE,
                           (int)(time.tv_sec * 1000 + time.tv_nsec / 1000000));
    }
    return count;
}

/* When a few of many answers have got the next token, the others' are on their way: one more waking
 * for all of them instead of one for each. The kernel keeps the times; an eighth of the time
 * between an answer's tokens keeps two of them from coming together. */
static void nap(const struct http_driver *driver, uint32_t served, uint64_t until_ns)
{
    if (driver->speaking >= CROWD && served * 2 < driver->speaking) {
        const uint64_t gap_ns = driver->gap_ns / 8;
        const struct timespec time =
            http_time_until(until_ns, gap_ns < NAP_NS_MAX ? gap_ns : NAP_NS_MAX);
        nanosleep(&time, NULL);
    }
}

/* Ends before all else, which come again: an answer whose connection closes behind it was told of,
 * and whoever reads it may take the connection with it. */
static void serve_events(struct http_driver *driver, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) {
            http_record_take_ends(driver);
            return;
        }
    }
    for (int i = 0; i < count; i++) {
        serve_event(&events[i]);
    }
}

/* Goes on until an answer is over or the time is: until then nobody has to do anything. Without a
 * tap bytes are kept with their times and understood together, at a fraction of the cost. Only the
 * reading itself cannot wait: a server whose socket gathers small writes (without TCP_NODELAY)
 * sends the next token when the last was read, so that reading late would slow the engine down. */
static llcuda_status wait_events(struct driver *base, uint64_t until_ns,
                                 const struct load_sink *sink, struct llcuda_error *error)
{
    struct http_driver *driver = (struct http_driver *)(void *)base;
    struct epoll_event events[EVENTS_AT_ONCE];
    int count;
    driver->sink = sink;
    driver->ended = false;
    driver->clock_offset_ns = arrival_clock_offset_ns();
    do {
        if (!driver->tap && http_sleep_through(driver, until_ns)) {
            count = 1;
            continue;
        }
        count = wait_sockets(driver, events, until_ns);
        if (count < 0 && errno != EINTR) {
            return error_from_errno(error, errno, "wait for", driver->host);
        }
        serve_events(driver, events, count);
        if (count > 0 && !driver->ended && (!driver->tap || driver->listens)) {
            nap(driver, (uint32_t)count, until_ns);
        }
    } while (count > 0 && !driver->ended && clock_now_ns() < until_ns);
    while (driver->held) {
        take_held(driver->held);
    }
    if (driver->tap) {
        http_record_sweep(driver);
    }
    driver->sink = NULL;
    return LLCUDA_OK;
}

static const struct driver_ops http_ops = {now_ns, submit, wait_events};

static bool wait_socket(int descriptor, short events, uint64_t until_ns)
{
    uint64_t now = clock_now_ns();
    struct pollfd wait = {descriptor, events, 0};
    return now < until_ns && poll(&wait, 1, (int)((until_ns - now) / 1000000) + 1) > 0;
}

/* The first name of {"data": [{"id": …}]}. */
static void find_model(struct http_driver *driver, struct text_view body)
{
    struct json_document *document = NULL;
    snprintf(driver->found_model, sizeof driver->found_model, "default");
    if (json_parse(body, NULL, &document, NULL)) {
        return;
    }
    const struct json_value *data = json_member(json_root(document), "data");
    const struct json_value *first = json_is(data, JSON_ARRAY) && data->count ? data + 1 : NULL;
    struct text_view name = json_text(json_member(first, "id"));
    if (name.length && name.length < sizeof driver->found_model) {
        snprintf(driver->found_model, sizeof driver->found_model, "%.*s", TEXT_ARGUMENTS(name));
    }
    json_destroy(document);
}

static void ignore_event(void *user, struct text_view data)
{
    (void)user;
    (void)data;
}

/* GET `prefix``path`: the status of the answer, 0 without one; its body is in `stream`. */
static int get(struct http_driver *driver, const char *prefix, const char *path, uint64_t until,
               struct http_stream *stream)
{
    char text[700];
    char data[4096];
    int descriptor = connect_socket(driver);
    int length =
        snprintf(text, sizeof text, "GET %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                 prefix, path, driver->host);
    bool sent = descriptor >= 0 && wait_socket(descriptor, POLLOUT, until) &&
                send(descriptor, text, (size_t)length, MSG_NOSIGNAL) == length;
    while (sent && !stream->done && !stream->broken && wait_socket(descriptor, POLLIN, until)) {
        ssize_t got = recv(descriptor, data, sizeof data, 0);
        if (got > 0) {
            http_stream_feed(stream, data, (size_t)got, ignore_event, NULL);
        } else {
            http_stream_close(stream);
        }
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    return stream->done ? stream->status : 0;
}

/* Servers that load their model after they listen say so at /health; others do not know it. */
static bool is_loading(struct http_driver *driver, uint64_t until)
{
    struct http_stream stream = {0};
    int status = get(driver, "", "/health", until, &stream);
    http_stream_deinit(&stream);
    return status == 503;
}

/* Where servers tell their version: vLLM and llcuda, llama.cpp, TGI. None does: "" remains. */
static void find_version(struct http_driver *driver, uint64_t until)
{
    static const struct {
        const char *path, *member;
    } rows[] = {{"/version", "version"}, {"/props", "build_info"}, {"/info", "version"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !driver->version[0]; i++) {
        struct http_stream stream = {0};
        struct json_document *document = NULL;
        if (get(driver, "", rows[i].path, until, &stream) == 200 &&
            !json_parse(buffer_view(&stream.body), NULL, &document, NULL)) {
            struct text_view version = json_text(json_member(json_root(document), rows[i].member));
            snprintf(driver->version, sizeof driver->version, "%.*s", TEXT_ARGUMENTS(version));
        }
        json_destroy(document);
        http_stream_deinit(&stream);
    }
}

llcuda_status http_driver_ready(struct http_driver *driver, uint32_t timeout_ms,
                                struct buffer *body, struct llcuda_error *error)
{
    struct http_stream stream = {0};
    uint64_t until = clock_now_ns() + timeout_ms * 1000000ull;
    driver->driver.ops = &http_ops;
    if (!driver->tap && !driver->no_tap) {
        const struct addrinfo *address = driver->address;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        driver->tap = http_tap_open(address->ai_addr);
        driver->no_tap = !driver->tap;
        if (driver->tap) {
            epoll_ctl(driver->epoll, EPOLL_CTL_ADD, http_tap_ends(driver->tap), &event);
        }
    }
    int status = get(driver, driver->prefix, "/v1/models", until, &stream);
    /* Asked after an answer: a server that does not listen yet is not one that is not loading. */
    if (status == 200 && is_loading(driver, until)) {
        http_stream_deinit(&stream);
        return error_set(error, LLCUDA_BUSY, "the server at http://%s is loading", driver->host);
    }
    if (status == 200) {
        find_version(driver, until);
        find_model(driver, buffer_view(&stream.body));
    }
    if (status == 200 && body) {
        buffer_append_view(body, buffer_view(&stream.body));
    }
    http_stream_deinit(&stream);
    if (status == 200) {
        return LLCUDA_OK;
    }
    return status ? error_set(error, LLCUDA_BUSY, "the server answers %d to /v1/models", status)
                  : error_set(error, LLCUDA_BUSY, "nothing answers at http://%s", driver->host);
}
