/* Owns one connection: bytes to requests, answers to bytes, and when to close.
 *
 * Invariants. Everything runs on the connection's worker. A connection that is closed goes to the
 * worker's list of the dead and is freed later, so that no caller up the stack holds a pointer to
 * freed memory; each function looks at the state again after it has called the handler. Pipelined
 * requests are answered one after the other by the loop in `advance`, never by recursion. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_internal.h"

static const struct http_handler *handler_of(const struct http_exchange *exchange)
{
    return exchange->worker->server->options.handler;
}

static void *user_of(const struct http_exchange *exchange)
{
    return exchange->worker->server->options.handler_user;
}

static bool draining(const struct http_exchange *exchange)
{
    return atomic_load(&exchange->worker->server->draining_ns) != 0;
}

static void set_state(struct http_exchange *exchange, enum connection_state state)
{
    exchange->state = state;
    exchange->state_ns = clock_now_ns();
}

/* ------------------------------------------------------------------ closing */

/* Tells the handler that the exchange is over, if there is one. */
static void end_exchange(struct http_exchange *exchange, bool complete)
{
    if (exchange->state != CONNECTION_ANSWERING) {
        return;
    }
    exchange->state = CONNECTION_FLUSHING;
    handler_of(exchange)->on_end(user_of(exchange), exchange, complete);
    exchange->attachment = NULL;
    if (exchange->waker) {
        waker_release(exchange->waker);
        exchange->waker = NULL;
    }
    atomic_fetch_sub(&exchange->worker->server->exchange_count, 1);
}

void connection_close(struct http_exchange *exchange)
{
    struct worker *worker = exchange->worker;
    if (exchange->state == CONNECTION_DEAD) {
        return;
    }
    end_exchange(exchange, false);
    exchange->state = CONNECTION_DEAD;
    bufferevent_free(exchange->stream);
    exchange->stream = NULL;
    exchange->output = NULL;
    if (exchange->previous) {
        exchange->previous->next = exchange->next;
    } else {
        worker->connections = exchange->next;
    }
    if (exchange->next) {
        exchange->next->previous = exchange->previous;
    }
    exchange->next = worker->dead;
    worker->dead = exchange;
    atomic_fetch_sub(&worker->server->connection_count, 1);
}

void connection_free(struct http_exchange *exchange)
{
    http_reader_deinit(&exchange->reader);
    free(exchange);
}

/* What a client sends to a connection that takes no more requests. */
static void discard_input(struct http_exchange *exchange)
{
    struct evbuffer *input = bufferevent_get_input(exchange->stream);
    size_t bytes = evbuffer_get_length(input);
    exchange->lingered_bytes += bytes;
    evbuffer_drain(input, bytes);
}

/* Everything has been sent: closes our side and waits a moment for the client's. */
static void linger(struct http_exchange *exchange)
{
    discard_input(exchange);
    int descriptor = bufferevent_getfd(exchange->stream);
    if (exchange->secure || descriptor < 0 || shutdown(descriptor, SHUT_WR) != 0) {
        connection_close(exchange);
        return;
    }
    set_state(exchange, CONNECTION_LINGERING);
}

/* ------------------------------------------------------------------ requests */

static void begin_answering(struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->reader.request;
    set_state(exchange, CONNECTION_ANSWERING);
    exchange->begin_ns = exchange->state_ns;
    exchange->keep_alive = request->keep_alive && !draining(exchange);
    exchange->started = false;
    exchange->full = false;
    exchange->sent_bytes = 0;
    atomic_fetch_add(&exchange->worker->server->exchange_count, 1);
}

/* The headers are in: may the body come? */
static void announce_body(struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->reader.request;
    begin_answering(exchange);
    exchange->keep_alive = false;
    if (!handler_of(exchange)->on_headers(user_of(exchange), exchange)) {
        return;
    }
    set_state(exchange, CONNECTION_READING);
    exchange->body_announced = true;
    atomic_fetch_sub(&exchange->worker->server->exchange_count, 1);
    if (request->expect_continue &&
        evbuffer_get_length(bufferevent_get_input(exchange->stream)) == 0) {
        static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
        evbuffer_add(exchange->output, text, sizeof text - 1);
    }
}

static void refuse(struct http_exchange *exchange)
{
    begin_answering(exchange);
    exchange->keep_alive = false;
    handler_of(exchange)->on_refused(user_of(exchange), exchange, exchange->reader.refusal,
                                     exchange->reader.reason);
}

/* Reads one contiguous piece of input; false when there is none. */
static bool feed(struct http_exchange *exchange)
{
    struct evbuffer *input = bufferevent_get_input(exchange->stream);
    struct evbuffer_iovec piece;
    if (evbuffer_peek(input, -1, NULL, &piece, 1) < 1 || piece.iov_len == 0) {
        return false;
    }
    if (!http_reader_busy(&exchange->reader)) {
        exchange->state_ns = clock_now_ns();
        exchange->body_announced = false;
    }
    size_t taken = 0;
    enum http_progress progress =
        http_reader_feed(&exchange->reader, piece.iov_base, piece.iov_len, &taken);
    evbuffer_drain(input, taken);
    switch (progress) {
    case HTTP_MORE:
        break;
    case HTTP_HEADERS:
        announce_body(exchange);
        break;
    case HTTP_REQUEST:
        begin_answering(exchange);
        handler_of(exchange)->on_request(user_of(exchange), exchange);
        break;
    case HTTP_REFUSED:
        refuse(exchange);
        break;
    }
    return true;
}

/* Looks at the first bytes of a connection. False: it is another protocol's and gone, or there are
 * too few bytes to tell. */
static bool decide_protocol(struct http_exchange *exchange)
{
    const struct http_server_options *options = &exchange->worker->server->options;
    struct evbuffer *input = bufferevent_get_input(exchange->stream);
    char begin[16];
    exchange->is_http = exchange->is_http || !options->other_magic || exchange->secure;
    if (exchange->is_http) {
        return true;
    }
    ev_ssize_t count = evbuffer_copyout(input, begin, options->other_magic_bytes);
    if (count <= 0 || memcmp(begin, options->other_magic, (size_t)count) != 0) {
        exchange->is_http = count > 0;
        return exchange->is_http;
    }
    if ((size_t)count < options->other_magic_bytes) {
        return false;
    }
    size_t bytes = evbuffer_get_length(input);
    int descriptor = fcntl(bufferevent_getfd(exchange->stream), F_DUPFD_CLOEXEC, 0);
    if (descriptor >= 0) {
        options->take_over(options->handler_user, descriptor, evbuffer_pullup(input, -1), bytes);
    }
    connection_close(exchange);
    return false;
}

/* Bytes that libevent has not seen yet: a request may be among them. */
static bool input_waits(const struct http_exchange *exchange)
{
    struct pollfd look = {.fd = bufferevent_getfd(exchange->stream), .events = POLLIN};
    return poll(&look, 1, 0) > 0 && (look.revents & POLLIN) != 0;
}

/* Draining: whether no request is awaited here any more. A client that has just come may still send
 * its first one. */
static bool done_with(const struct http_exchange *exchange)
{
    return draining(exchange) && !http_reader_busy(&exchange->reader) && exchange->begin_ns > 0 &&
           !input_waits(exchange);
}

/* Reads as many requests as can be answered at once. */
static void advance(struct http_exchange *exchange)
{
    if (exchange->advancing || !decide_protocol(exchange)) {
        return;
    }
    exchange->advancing = true;
    uint32_t room = exchange->worker->server->options.output_bytes;
    while (exchange->state == CONNECTION_READING && evbuffer_get_length(exchange->output) <= room &&
           feed(exchange)) {
    }
    exchange->advancing = false;
    if (exchange->state == CONNECTION_READING && done_with(exchange)) {
        set_state(exchange, CONNECTION_FLUSHING);
    }
    if (exchange->state == CONNECTION_FLUSHING) {
        discard_input(exchange);
        if (evbuffer_get_length(exchange->output) == 0) {
            linger(exchange);
        }
    }
}

/* The answer has been handed over: on to the next request, or to the end. */
static void finish_answer(struct http_exchange *exchange, bool complete)
{
    end_exchange(exchange, complete);
    if (exchange->keep_alive) {
        http_reader_next(&exchange->reader);
        set_state(exchange, CONNECTION_READING);
    } else {
        set_state(exchange, CONNECTION_FLUSHING);
    }
    advance(exchange);
}

/* ------------------------------------------------------------------ libevent's callbacks */

static void on_read(struct bufferevent *stream, void *user)
{
    struct http_exchange *exchange = user;
    (void)stream;
    exchange->read_ns = clock_now_ns();
    if (exchange->state == CONNECTION_READING) {
        advance(exchange);
    } else if (exchange->state == CONNECTION_FLUSHING || exchange->state == CONNECTION_LINGERING) {
        discard_input(exchange);
        if (exchange->lingered_bytes > LINGER_BYTES) {
            connection_close(exchange);
        }
    }
}

static void on_write(struct bufferevent *stream, void *user)
{
    struct http_exchange *exchange = user;
    (void)stream;
    if (exchange->state == CONNECTION_FLUSHING) {
        linger(exchange);
    } else if (exchange->state == CONNECTION_READING) {
        advance(exchange);
    } else if (exchange->state == CONNECTION_ANSWERING && exchange->full) {
        exchange->full = false;
        handler_of(exchange)->on_writable(user_of(exchange), exchange);
    }
}

static void on_event(struct bufferevent *stream, short events, void *user)
{
    struct http_exchange *exchange = user;
    (void)stream;
    bool over = (events & BEV_EVENT_EOF) != 0;
    bool sending = evbuffer_get_length(exchange->output) > 0;
    if (events & BEV_EVENT_ERROR) {
        connection_close(exchange);
    } else if (over && sending &&
               (exchange->state == CONNECTION_READING || exchange->state == CONNECTION_FLUSHING)) {
        set_state(exchange, CONNECTION_FLUSHING); /* it may have closed one side only */
    } else if (over) {
        connection_close(exchange);
    }
}

/* Keeps the time of the last byte that the client took. */
static void on_output_change(struct evbuffer *output, const struct evbuffer_cb_info *info,
                             void *user)
{
    struct http_exchange *exchange = user;
    (void)output;
    if (info->n_deleted > 0 || info->orig_size == 0) {
        exchange->write_ns = clock_now_ns();
    }
}

void connection_open(struct worker *worker, const struct accepted *accepted)
{
    struct http_server *server = worker->server;
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    struct bufferevent *stream = NULL;
    if (exchange) {
        stream = server->tls ? tls_accept(server->tls, worker->base, accepted->descriptor)
                             : bufferevent_socket_new(worker->base, accepted->descriptor,
                                                      BEV_OPT_CLOSE_ON_FREE);
    }
    if (!stream) {
        free(exchange);
        close(accepted->descriptor);
        atomic_fetch_sub(&server->connection_count, 1);
        return;
    }
    exchange->worker = worker;
    exchange->stream = stream;
    exchange->output = bufferevent_get_output(stream);
    exchange->secure = server->tls != NULL;
    memcpy(exchange->peer, accepted->peer, sizeof exchange->peer);
    http_reader_init(&exchange->reader, &server->options.limits);
    set_state(exchange, CONNECTION_READING);
    exchange->read_ns = exchange->write_ns = exchange->state_ns;
    exchange->next = worker->connections;
    if (worker->connections) {
        worker->connections->previous = exchange;
    }
    worker->connections = exchange;
    evbuffer_add_cb(exchange->output, on_output_change, exchange);
    bufferevent_setcb(stream, on_read, on_write, on_event, exchange);
    bufferevent_setwatermark(stream, EV_READ, 0, READ_AHEAD_BYTES);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

/* ------------------------------------------------------------------ time */

static bool older(uint64_t since_ns, uint64_t now_ns, uint32_t limit_ms)
{
    return now_ns > since_ns && now_ns - since_ns > (uint64_t)limit_ms * 1000000u;
}

/* A client that has filled our input buffer is not read from, so its end would go unnoticed. */
static bool peer_is_gone(const struct http_exchange *exchange)
{
    if (evbuffer_get_length(bufferevent_get_input(exchange->stream)) < READ_AHEAD_BYTES) {
        return false;
    }
    struct pollfd look = {.fd = bufferevent_getfd(exchange->stream), .events = POLLRDHUP};
    return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* A client too slow with its request: an answer where one can still be understood. */
static void time_out(struct http_exchange *exchange, int status, const char *reason)
{
    if (evbuffer_get_length(exchange->output) > 0) {
        connection_close(exchange);
        return;
    }
    begin_answering(exchange);
    exchange->keep_alive = false;
    handler_of(exchange)->on_refused(user_of(exchange), exchange, status, reason);
}

/* Draining. A request that is on its way is answered, for which a client that has just come gets a
 * moment; half a request is refused when that is over. Nobody is cut off without a word. */
static void drain_reading(struct http_exchange *exchange, uint64_t now_ns)
{
    uint64_t draining_ns = atomic_load(&exchange->worker->server->draining_ns);
    uint64_t since_ns = exchange->state_ns > draining_ns ? exchange->state_ns : draining_ns;
    bool late = older(since_ns, now_ns, DRAIN_PATIENCE_MS);
    if (late && http_reader_busy(&exchange->reader)) {
        time_out(exchange, 503, "the server is shutting down");
    } else if (done_with(exchange) || (late && !input_waits(exchange))) {
        connection_close(exchange);
    }
}

void connection_tick(struct http_exchange *exchange, uint64_t now_ns)
{
    const struct http_server_options *options = &exchange->worker->server->options;
    bool sending = evbuffer_get_length(exchange->output) > 0;
    bool stalled = sending && older(exchange->write_ns, now_ns, options->write_timeout_ms);
    bool busy = http_reader_busy(&exchange->reader);
    switch (exchange->state) {
    case CONNECTION_READING:
        if (stalled ||
            (!busy && !sending && older(exchange->state_ns, now_ns, options->idle_timeout_ms))) {
            connection_close(exchange);
        } else if (busy && exchange->body_announced
                       ? older(exchange->read_ns, now_ns, options->body_timeout_ms) ||
                             older(exchange->state_ns, now_ns,
                                   BODY_TIMEOUTS_MAX * options->body_timeout_ms)
                       : busy && older(exchange->state_ns, now_ns, options->header_timeout_ms)) {
            time_out(exchange, 408, "the request took too long to arrive");
        } else if (draining(exchange) && !sending) {
            drain_reading(exchange, now_ns);
        }
        break;
    case CONNECTION_ANSWERING:
        if (stalled || peer_is_gone(exchange)) {
            connection_close(exchange);
        } else {
            handler_of(exchange)->on_tick(user_of(exchange), exchange);
        }
        break;
    case CONNECTION_FLUSHING:
        if (stalled) {
            connection_close(exchange);
        }
        break;
    case CONNECTION_LINGERING:
        if (older(exchange->state_ns, now_ns, LINGER_MS)) {
            connection_close(exchange);
        }
        break;
    case CONNECTION_DEAD:
        break;
    }
}

/* ------------------------------------------------------------------ what the handler calls */

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
    return &exchange->reader.request;
}

void http_exchange_take_body(struct http_exchange *exchange, struct buffer *body)
{
    *body = exchange->reader.body;
    exchange->reader.body = (struct buffer){.limit_bytes = body->limit_bytes};
}

uint64_t http_exchange_begin_ns(const struct http_exchange *exchange)
{
    return exchange->begin_ns;
}

uint64_t http_exchange_sent_bytes(const struct http_exchange *exchange)
{
    return exchange->sent_bytes;
}

const char *http_exchange_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

void http_exchange_attach(struct http_exchange *exchange, void *attachment)
{
    exchange->attachment = attachment;
}

void *http_exchange_attachment(const struct http_exchange *exchange)
{
    return exchange->attachment;
}

static bool is_head(const struct http_exchange *exchange)
{
    return text_view_is(exchange->reader.request.method, "HEAD");
}

/* How much of these the socket takes at once. Mostly all of it, which saves waiting for it to
 * become writable: two changes of what is polled, and a turn of the loop. An error is left for the
 * event loop to find. */
static size_t send_now(const struct http_exchange *exchange, struct text_view head,
                       struct text_view body)
{
    if (exchange->secure || evbuffer_get_length(exchange->output) > 0) {
        return 0;
    }
    struct iovec pieces[2] = {{.iov_base = (char *)(uintptr_t)head.data, .iov_len = head.length},
                              {.iov_base = (char *)(uintptr_t)body.data, .iov_len = body.length}};
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = body.length > 0 ? 2 : 1};
    ssize_t sent =
        sendmsg(bufferevent_getfd(exchange->stream), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? (size_t)sent : 0;
}

/* Queues what follows the first `sent` bytes. */
static bool queue_rest(struct http_exchange *exchange, struct text_view data, size_t sent)
{
    return sent >= data.length ||
           evbuffer_add(exchange->output, data.data + sent, data.length - sent) == 0;
}

/* Sends what is in the scratch buffer, and a body behind it; without memory the connection cannot
 * be trusted any more. */
static bool send_scratch(struct http_exchange *exchange, struct text_view body)
{
    struct buffer *scratch = &exchange->worker->scratch;
    struct text_view head = buffer_view(scratch);
    bool good = !scratch->failed;
    if (good) {
        size_t sent = send_now(exchange, head, body);
        good = queue_rest(exchange, head, sent) &&
               queue_rest(exchange, body, sent > head.length ? sent - head.length : 0);
    }
    exchange->sent_bytes += head.length + body.length;
    buffer_clear(scratch);
    return good;
}

static const struct text_view no_body = {0};

/* Without memory the answer cannot go on. The loop finds the connection closed and ends the
 * exchange, so that the caller's things stay valid for now. */
static void break_off(struct http_exchange *exchange)
{
    exchange->keep_alive = false;
    exchange->full = true;
    shutdown(bufferevent_getfd(exchange->stream), SHUT_RDWR);
}

void http_exchange_respond(struct http_exchange *exchange, int status, const char *content_type,
                           struct text_view headers, struct text_view body)
{
    struct buffer *scratch = &exchange->worker->scratch;
    if (exchange->state != CONNECTION_ANSWERING || exchange->started) {
        return;
    }
    exchange->started = true;
    buffer_clear(scratch);
    http_write_head(scratch, status, content_type, HTTP_BODY_SIZED, body.length,
                    exchange->keep_alive, headers);
    if (send_scratch(exchange, is_head(exchange) ? no_body : body)) {
        finish_answer(exchange, true);
    } else {
        connection_close(exchange);
    }
}

void http_exchange_begin(struct http_exchange *exchange, int status, const char *content_type,
                         struct text_view headers)
{
    struct buffer *scratch = &exchange->worker->scratch;
    if (exchange->state != CONNECTION_ANSWERING || exchange->started) {
        return;
    }
    exchange->started = true;
    exchange->chunked = !exchange->reader.request.version_1_0;
    exchange->keep_alive = exchange->keep_alive && exchange->chunked;
    buffer_clear(scratch);
    http_write_head(scratch, status, content_type,
                    exchange->chunked ? HTTP_BODY_CHUNKED : HTTP_BODY_UNTIL_CLOSE, 0,
                    exchange->keep_alive, headers);
    /* Queued, since the first piece of the body mostly follows at once. */
    exchange->sent_bytes += scratch->length;
    if (scratch->failed || !queue_rest(exchange, buffer_view(scratch), 0)) {
        break_off(exchange);
    }
}

bool http_exchange_write(struct http_exchange *exchange, struct text_view data)
{
    struct buffer *scratch = &exchange->worker->scratch;
    if (exchange->state != CONNECTION_ANSWERING || data.length == 0) {
        return true;
    }
    buffer_clear(scratch);
    if (exchange->chunked) {
        http_write_chunk(scratch, data);
    } else {
        buffer_append_view(scratch, data);
    }
    if (!send_scratch(exchange, no_body)) {
        break_off(exchange);
        return false;
    }
    exchange->full =
        evbuffer_get_length(exchange->output) > exchange->worker->server->options.output_bytes;
    return !exchange->full;
}

void http_exchange_end(struct http_exchange *exchange)
{
    struct buffer *scratch = &exchange->worker->scratch;
    if (exchange->state != CONNECTION_ANSWERING || !exchange->started) {
        return;
    }
    if (exchange->chunked) {
        buffer_clear(scratch);
        http_write_last_chunk(scratch);
        if (!send_scratch(exchange, no_body)) {
            connection_close(exchange);
            return;
        }
    }
    finish_answer(exchange, true);
}

void http_exchange_abort(struct http_exchange *exchange)
{
    if (exchange->state == CONNECTION_ANSWERING) {
        exchange->keep_alive = false;
        finish_answer(exchange, false);
    }
}
