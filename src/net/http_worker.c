/* Owns a worker: its thread, its event loop, what other threads hand to it (accepted sockets, wake
 * signals) and the wakers.
 *
 * Invariants. Signals are a stack without lock: a waker is pushed when its flag goes from false to
 * true, and the flag is cleared by the worker before it calls the handler, so that no signal is
 * lost. Only the first waker on an empty stack writes to the eventfd, or whoever noted it, once it
 * has noted all. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http_internal.h"

void worker_wake(struct worker *worker)
{
    /* Its event is edge-triggered: each write wakes, and nobody reads. A counter that is full after
     * some 2^64 writes is not to be reached. */
    uint64_t one = 1;
    while (write(worker->wake_descriptor, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* ------------------------------------------------------------------ wakers */

/* Whether it was pushed on an empty stack: then its worker has to be woken. */
static bool push(struct http_waker *waker)
{
    struct worker *worker = waker->worker;
    if (atomic_exchange(&waker->signalled, true)) {
        return false;
    }
    struct http_waker *top = atomic_load(&worker->signalled);
    do {
        atomic_store(&waker->signal_next, top);
    } while (!atomic_compare_exchange_weak(&worker->signalled, &top, waker));
    return top == NULL;
}

void http_waker_signal(void *user)
{
    struct http_waker *waker = user;
    if (push(waker)) {
        worker_wake(waker->worker);
    }
}

void http_waker_note(void *user)
{
    push(user);
}

void http_server_wake(struct http_server *server)
{
    for (uint32_t i = 0; i < server->worker_count; i++) {
        if (atomic_load(&server->workers[i].signalled)) {
            worker_wake(&server->workers[i]);
        }
    }
}

struct http_waker *http_exchange_waker(struct http_exchange *exchange)
{
    struct worker *worker = exchange->worker;
    if (exchange->waker || exchange->state != CONNECTION_ANSWERING) {
        return exchange->waker;
    }
    struct http_waker *waker = worker->free_wakers;
    if (waker) {
        worker->free_wakers = waker->free_next;
    } else {
        waker = calloc(1, sizeof *waker);
        if (!waker) {
            return NULL;
        }
        waker->worker = worker;
        waker->all_next = worker->all_wakers;
        worker->all_wakers = waker;
    }
    waker->exchange = exchange;
    exchange->waker = waker;
    return waker;
}

void waker_release(struct http_waker *waker)
{
    waker->exchange = NULL;
    waker->free_next = waker->worker->free_wakers;
    waker->worker->free_wakers = waker;
}

static void take_signals(struct worker *worker)
{
    const struct http_server_options *options = &worker->server->options;
    struct http_waker *waker = atomic_exchange(&worker->signalled, NULL);
    while (waker) {
        struct http_waker *next = atomic_load(&waker->signal_next);
        atomic_store(&waker->signalled, false);
        if (waker->exchange) {
            options->handler->on_wake(options->handler_user, waker->exchange);
        }
        waker = next;
    }
}

/* ------------------------------------------------------------------ the inbox */

bool worker_give(struct worker *worker, const struct accepted *accepted)
{
    pthread_mutex_lock(&worker->inbox_mutex);
    bool room = worker->inbox_count < INBOX_CAPACITY;
    if (room) {
        worker->inbox[worker->inbox_count++] = *accepted;
    }
    pthread_mutex_unlock(&worker->inbox_mutex);
    if (room) {
        worker_wake(worker);
    }
    return room;
}

static void take_inbox(struct worker *worker)
{
    for (;;) {
        struct accepted accepted;
        pthread_mutex_lock(&worker->inbox_mutex);
        bool more = worker->inbox_count > 0;
        if (more) {
            accepted = worker->inbox[--worker->inbox_count];
        }
        pthread_mutex_unlock(&worker->inbox_mutex);
        if (!more) {
            return;
        }
        connection_open(worker, &accepted);
    }
}

/* ------------------------------------------------------------------ the loop */

static void reap(struct worker *worker)
{
    while (worker->dead) {
        struct http_exchange *exchange = worker->dead;
        worker->dead = exchange->next;
        connection_free(exchange);
    }
}

/* Time passes for every connection. A connection may close itself, and only itself. */
static void look_round(struct worker *worker)
{
    uint64_t now_ns = clock_now_ns();
    struct http_exchange *next = NULL;
    for (struct http_exchange *exchange = worker->connections; exchange; exchange = next) {
        next = exchange->next;
        connection_tick(exchange, now_ns);
    }
    reap(worker);
}

static void on_tick(evutil_socket_t descriptor, short events, void *user)
{
    struct worker *worker = user;
    (void)descriptor;
    (void)events;
    atomic_store(&worker->beat_ns, clock_now_ns());
    look_round(worker);
    if (worker == worker->server->workers) {
        http_server_look_at_listener(worker->server);
    }
}

static void on_wake(evutil_socket_t descriptor, short events, void *user)
{
    struct worker *worker = user;
    (void)descriptor;
    (void)events;
    take_inbox(worker);
    take_signals(worker);
    if (atomic_load(&worker->server->stopping)) {
        event_base_loopbreak(worker->base);
    }
}

static void *run(void *user)
{
    struct worker *worker = user;
    pthread_setname_np(pthread_self(), "llcuda-net");
    event_base_dispatch(worker->base);
    take_inbox(worker);
    while (worker->connections) {
        connection_close(worker->connections);
    }
    reap(worker);
    return NULL;
}

llcuda_status worker_init(struct worker *worker, struct http_server *server,
                          struct llcuda_error *error)
{
    static const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    worker->server = server;
    worker->wake_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&worker->inbox_mutex, NULL);
    if (worker->wake_descriptor < 0) {
        return error_from_errno(error, errno, "make", "an event descriptor");
    }
    worker->base = event_base_new();
    if (!worker->base) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY, "the system gives no event loop");
    }
    worker->wake_event = event_new(worker->base, worker->wake_descriptor,
                                   EV_READ | EV_PERSIST | EV_ET, on_wake, worker);
    worker->tick_event = event_new(worker->base, -1, EV_PERSIST, on_tick, worker);
    if (!worker->wake_event || !worker->tick_event || event_add(worker->wake_event, NULL) != 0 ||
        event_add(worker->tick_event, &tick) != 0) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY, "the system gives no events");
    }
    return LLCUDA_OK;
}

llcuda_status worker_start(struct worker *worker, struct llcuda_error *error)
{
    int failure = pthread_create(&worker->thread, NULL, run, worker);
    if (failure != 0) {
        return error_from_errno(error, failure, "start", "a network thread");
    }
    worker->started = true;
    return LLCUDA_OK;
}

void worker_deinit(struct worker *worker)
{
    while (worker->all_wakers) {
        struct http_waker *waker = worker->all_wakers;
        worker->all_wakers = waker->all_next;
        free(waker);
    }
    for (uint32_t i = 0; i < worker->inbox_count; i++) {
        close(worker->inbox[i].descriptor);
    }
    if (worker->wake_event) {
        event_free(worker->wake_event);
    }
    if (worker->tick_event) {
        event_free(worker->tick_event);
    }
    if (worker->base) {
        event_base_free(worker->base);
    }
    if (worker->wake_descriptor >= 0) {
        close(worker->wake_descriptor);
    }
    buffer_deinit(&worker->scratch);
    pthread_mutex_destroy(&worker->inbox_mutex);
}
