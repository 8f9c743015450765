/* A client that loads a server, cheaply enough not to be what is measured: one thread, one epoll,
 * no allocation a request. load.py starts it and reads the one line of JSON that it prints.
 *
 *   load_client PORT closed CLIENTS SECONDS WARM_UP   so many requests at a time
 *   load_client PORT open RATE SECONDS WARM_UP        so many requests a second, whatever comes
 * back load_client PORT hold COUNT SECONDS               half of the connections idle, half send a
 * byte of a header each half second
 *
 * The request comes from standard input and has to ask for the connection to be closed, since the
 * end of the connection is the end of the answer. Only what ends between the warm-up and SECONDS
 * counts as done. It talks to 127.0.0.1 only. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 65536
#define CONNECTIONS_MAX   32768
#define SAMPLES_MAX       4000000
#define EVENTS_MAX        256
#define TAIL_BYTES        64

struct connection {
    int descriptor; /* -1: free */
    int status;     /* 0: no byte of the answer yet */
    bool sent;
    bool whole; /* a mark of the end was seen: of a stream, or of a JSON document */
    uint64_t begin_ns, first_ns;
    char tail[TAIL_BYTES + 1];
    size_t tail_bytes;
};

static struct connection connections[CONNECTIONS_MAX];
static uint32_t free_list[CONNECTIONS_MAX];
static uint32_t free_count;
static char request[REQUEST_BYTES_MAX];
static size_t request_bytes;
static int epoll_descriptor;
static struct sockaddr_in address;

static double *refusal_ms, *first_ms, *whole_ms;
static size_t refusal_count, first_count, whole_count;
static uint64_t sent_count, good_count, good_in_window, refused_in_window, other_count, lost_count;
static uint64_t window_begin_ns, window_end_ns;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note(double *samples, size_t *count, uint64_t taken_ns)
{
    if (*count < SAMPLES_MAX) {
        samples[(*count)++] = (double)taken_ns / 1e6;
    }
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double percentile(const double *sorted, size_t count, double share)
{
    size_t at = (size_t)((double)count * share);
    return count ? sorted[at < count ? at : count - 1] : 0;
}

/* ------------------------------------------------------------------ requests */

static bool begin(void)
{
    if (free_count == 0) {
        return false;
    }
    uint32_t index = free_list[--free_count];
    struct connection *connection = &connections[index];
    *connection = (struct connection){.begin_ns = now_ns()};
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sent_count++;
    if (connection->descriptor < 0 ||
        (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0 &&
         errno != EINPROGRESS)) {
        perror("load_client: connect");
        exit(1);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = index};
    epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, connection->descriptor, &event);
    return true;
}

static void end(struct connection *connection)
{
    uint64_t now = now_ns();
    bool counts = now >= window_begin_ns && now < window_end_ns;
    close(connection->descriptor);
    connection->descriptor = -1;
    free_list[free_count++] = (uint32_t)(connection - connections);
    if (connection->status == 200 && connection->whole) {
        good_count++;
        good_in_window += counts;
        note(first_ms, &first_count, connection->first_ns - connection->begin_ns);
        note(whole_ms, &whole_count, now - connection->begin_ns);
    } else if (connection->status == 429) {
        refused_in_window += counts;
        note(refusal_ms, &refusal_count, connection->first_ns - connection->begin_ns);
    } else if (connection->status) {
        other_count++;
    } else {
        lost_count++;
    }
}

/* Keeps the last bytes, which tell whether the answer is whole. */
static void look_at(struct connection *connection, const char *data, size_t bytes)
{
    if (connection->status == 0) {
        connection->first_ns = now_ns();
        connection->status = bytes > 12 ? atoi(data + 9) : -1;
    }
    size_t keep = bytes >= TAIL_BYTES ? 0 : TAIL_BYTES - bytes;
    keep = keep < connection->tail_bytes ? keep : connection->tail_bytes;
    memmove(connection->tail, connection->tail + connection->tail_bytes - keep, keep);
    size_t fresh = bytes < TAIL_BYTES ? bytes : TAIL_BYTES;
    memcpy(connection->tail + keep, data + bytes - fresh, fresh);
    connection->tail_bytes = keep + fresh;
    connection->tail[connection->tail_bytes] = 0;
    connection->whole = strstr(connection->tail, "data: [DONE]\n\n\r\n0\r\n\r\n") != NULL ||
                        connection->tail[connection->tail_bytes - 1] == '}';
}

static void serve(uint32_t index, uint32_t events)
{
    struct connection *connection = &connections[index];
    if (!connection->sent && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
        connection->sent = true;
        if (send(connection->descriptor, request, request_bytes, MSG_NOSIGNAL) !=
            (ssize_t)request_bytes) {
            end(connection);
            return;
        }
        epoll_ctl(epoll_descriptor, EPOLL_CTL_MOD, connection->descriptor, &event);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        char data[16384];
        ssize_t got = recv(connection->descriptor, data, sizeof data - 1, 0);
        if (got > 0) {
            data[got] = 0;
            look_at(connection, data, (size_t)got);
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            end(connection);
        }
    }
}

/* Waits for what comes, until a moment at the latest. */
static void turn(uint64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_ns();
    struct timespec wait = {0};
    if (until_ns > now) {
        wait.tv_nsec = (long)(until_ns - now > 50000000u ? 50000000u : until_ns - now);
    }
    int count = epoll_pwait2(epoll_descriptor, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < count; i++) {
        if (connections[events[i].data.u32].descriptor >= 0) {
            serve(events[i].data.u32, events[i].events);
        }
    }
}

static void run_closed(uint32_t clients, uint64_t end_ns)
{
    for (uint64_t now; (now = now_ns()) < end_ns;) {
        while (CONNECTIONS_MAX - free_count < clients && begin()) {
        }
        turn(end_ns);
    }
}

static void run_open(double rate, uint64_t begin_ns, uint64_t end_ns)
{
    for (uint64_t now, due = begin_ns; (now = now_ns()) < end_ns;) {
        while (due <= now && begin()) {
            due = begin_ns + (uint64_t)((double)sent_count * 1e9 / rate);
        }
        turn(due < end_ns ? due : end_ns);
    }
}

static void print_requests(double seconds)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    qsort(refusal_ms, refusal_count, sizeof(double), compare);
    qsort(first_ms, first_count, sizeof(double), compare);
    qsort(whole_ms, whole_count, sizeof(double), compare);
    printf("{\"sent\": %llu, \"good\": %llu, \"refused\": %zu, \"other\": %llu, \"lost\": %llu, "
           "\"goodput\": %.3f, \"refused_a_second\": %.3f, ",
           (unsigned long long)sent_count, (unsigned long long)good_count, refusal_count,
           (unsigned long long)other_count, (unsigned long long)lost_count,
           (double)good_in_window / seconds, (double)refused_in_window / seconds);
    printf("\"refusal_p50_ms\": %.3f, \"refusal_p99_ms\": %.3f, \"first_p50_ms\": %.3f, "
           "\"first_p99_ms\": %.3f, \"whole_p50_ms\": %.3f, \"cpu_s\": %.3f}\n",
           percentile(refusal_ms, refusal_count, 0.5), percentile(refusal_ms, refusal_count, 0.99),
           percentile(first_ms, first_count, 0.5), percentile(first_ms, first_count, 0.99),
           percentile(whole_ms, whole_count, 0.5),
           (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
               1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
}

/* ------------------------------------------------------------------ connections that do nothing */

/* Every second connection sends a byte each half second, spread over that time as those of
 * strangers are. */
static int run_hold(uint32_t count, double seconds)
{
    static const char header[] = "GET /livez HTTP/1.1\r\nHost: loc";
    uint32_t lost = 0;
    for (uint32_t i = 0; i < count; i++) {
        connections[i].descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connections[i].descriptor < 0 ||
            connect(connections[i].descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
            perror("load_client: connect");
            return 1;
        }
    }
    printf("{\"held\": %u}\n", count);
    fflush(stdout);
    for (uint32_t i = 1; i < count; i += 2) {
        lost += send(connections[i].descriptor, header, sizeof header - 1, MSG_NOSIGNAL) < 0;
    }
    uint64_t begin_ns = now_ns();
    uint64_t end_ns = begin_ns + (uint64_t)(seconds * 1e9);
    for (uint64_t sent = 0, now; (now = now_ns()) < end_ns;) {
        uint64_t due = (now - begin_ns) / 500000000u * (count / 2) +
                       (now - begin_ns) % 500000000u * (count / 2) / 500000000u;
        for (; sent < due; sent++) {
            int descriptor = connections[(sent * 2 + 1) % count].descriptor;
            lost += send(descriptor, "a", 1, MSG_NOSIGNAL) != 1;
        }
        usleep(1000);
    }
    for (uint32_t i = 0; i < count; i++) {
        char byte;
        lost += recv(connections[i].descriptor, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
        close(connections[i].descriptor);
    }
    printf("{\"lost\": %u}\n", lost);
    return 0;
}

static void raise_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **arguments)
{
    if (count < 5) {
        fprintf(stderr, "load_client PORT closed|open|hold AMOUNT SECONDS [WARM_UP]\n");
        return 2;
    }
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)atoi(arguments[1])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    raise_limit();
    double amount = atof(arguments[3]), seconds = atof(arguments[4]);
    double warm_up = count > 5 ? atof(arguments[5]) : 0;
    uint64_t begin_ns = now_ns();
    window_begin_ns = begin_ns + (uint64_t)(warm_up * 1e9);
    window_end_ns = begin_ns + (uint64_t)(seconds * 1e9);
    if (strcmp(arguments[2], "hold") == 0) {
        return run_hold((uint32_t)(amount < CONNECTIONS_MAX ? amount : CONNECTIONS_MAX), seconds);
    }
    request_bytes = fread(request, 1, sizeof request, stdin);
    refusal_ms = malloc(SAMPLES_MAX * sizeof(double));
    first_ms = malloc(SAMPLES_MAX * sizeof(double));
    whole_ms = malloc(SAMPLES_MAX * sizeof(double));
    epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (!refusal_ms || !first_ms || !whole_ms || epoll_descriptor < 0) {
        return 1;
    }
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        connections[i].descriptor = -1;
        free_list[free_count++] = i;
    }
    if (strcmp(arguments[2], "open") == 0) {
        run_open(amount, begin_ns, window_end_ns);
    } else {
        run_closed((uint32_t)amount, window_end_ns);
    }
    uint64_t patience_ns = window_end_ns + 60000000000u;
    while (free_count < CONNECTIONS_MAX && now_ns() < patience_ns) {
        turn(patience_ns);
    }
    lost_count += CONNECTIONS_MAX - free_count;
    print_requests(seconds - warm_up);
    return 0;
}
