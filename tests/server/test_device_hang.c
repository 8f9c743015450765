/* A device that stops answering under a server: its requests end with a clear answer within five
 * seconds, the server is not ready and says why, the model beside it goes on. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "gpu/driver.h"
#include "server/server.h"
#include "support/test_support.h"

static struct gpu_faults faults;
static _Atomic bool hangs;
static _Atomic uint64_t hung_ns; /* when the device was first waited for in vain */

/* Launches come before waits, in the engine's own thread: there the device breaks down. */
static llcuda_status (*real_wait)(struct gpu_driver *, struct gpu_event *, uint32_t,
                                  struct llcuda_error *);
static llcuda_status wait_or_hang(struct gpu_driver *driver, struct gpu_event *event,
                                  uint32_t timeout_ms, struct llcuda_error *error)
{
    faults.hang = faults.hang_waits = atomic_load(&hangs);
    uint64_t never = 0;
    if (faults.hang) {
        atomic_compare_exchange_strong(&hung_ns, &never, clock_now_ns());
    }
    return real_wait(driver, event, timeout_ms, error);
}

llcuda_status __real_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error);
llcuda_status __wrap_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error);
llcuda_status __wrap_gpu_driver_open_emu(const struct gpu_open_options *options,
                                         struct gpu_driver **driver, struct llcuda_error *error)
{
    struct gpu_open_options with = *options;
    with.faults = &faults;
    llcuda_status status = __real_gpu_driver_open_emu(&with, driver, error);
    if (status == LLCUDA_OK) {
        real_wait = (*driver)->event_wait;
        (*driver)->event_wait = wait_or_hang;
    }
    return status;
}

static void *run(void *user)
{
    struct llcuda_error error;
    assert_ok(server_run(user, &error), error);
    return NULL;
}

/* The whole answer to a request of this head and body. */
static void talk(const struct server *server, const char *head, const char *body, char *out,
                 size_t bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[1000];
    size_t length = 0;
    ssize_t got = 0;
    const char *colon = strrchr(server_address(server), ':');
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    int link = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(link, (struct sockaddr *)&address, sizeof address), 0);
    int size = snprintf(request, sizeof request,
                        "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        head, strlen(body), body);
    assert_int_equal(send(link, request, (size_t)size, 0), size);
    while (length < bytes - 1 && (got = recv(link, out + length, bytes - 1 - length, 0)) > 0) {
        length += (size_t)got;
    }
    out[length] = 0;
    close(link);
}

static void complete(const struct server *server, const char *model, char *out, size_t bytes)
{
    char body[200];
    snprintf(body, sizeof body, "{\"model\": \"%s\", \"prompt\": \"Once\", \"max_tokens\": 4}",
             model);
    talk(server, "POST /v1/completions", body, out, bytes);
}

static void wait_for_status(const struct server *server, const char *status)
{
    char text[8192];
    for (int i = 0; i < 1200; i++) {
        talk(server, "GET /readyz", "", text, sizeof text);
        if (memcmp(text + 9, status, 3) == 0) {
            return;
        }
        usleep(50000);
    }
    fail_msg("never %s: %s", status, text);
}

static void a_hang_is_an_answer(void **state)
{
    (void)state;
    static char text[1 << 16];
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        skip();
    }
    struct model_config models[] = {{.name = "gpu", .preload = true},
                                    {.name = "cpu", .preload = true}};
    struct server_options options;
    struct server *server;
    struct llcuda_error error;
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        llcuda_engine_options_init(&models[i].engine, sizeof models[i].engine);
        models[i].engine.model = path;
        models[i].engine.device = i ? "cpu" : "emu";
        models[i].engine.gpu_kernel_cache = KERNEL_CACHE;
        models[i].engine.context_length = 64;
        models[i].engine.running_max = 2;
    }
    server_options_init(&options);
    options.http.port = 0;
    options.models = models;
    options.model_count = 2;
    assert_ok(server_create(&options, &server, &error), error);
    assert_int_equal(pthread_create(&thread, NULL, run, server), 0);
    wait_for_status(server, "200");
    complete(server, "gpu", text, sizeof text);
    assert_memory_equal(text, "HTTP/1.1 200", 12);
    atomic_store(&hangs, true);
    complete(server, "gpu", text, sizeof text);
    assert_int_not_equal(atomic_load(&hung_ns), 0);
    assert_true(clock_now_ns() - atomic_load(&hung_ns) < 5000000000u);
    assert_memory_equal(text, "HTTP/1.1 500", 12);
    assert_non_null(strstr(text, "the device stopped answering"));
    wait_for_status(server, "503");
    complete(server, "gpu", text, sizeof text);
    assert_memory_equal(text, "HTTP/1.1 5", 10);
    complete(server, "cpu", text, sizeof text);
    assert_memory_equal(text, "HTTP/1.1 200", 12);
    talk(server, "GET /metrics", "", text, sizeof text);
    assert_non_null(strstr(text, "llcuda_steps_failed_total{model=\"gpu\"} "));
    assert_null(strstr(text, "llcuda_steps_failed_total{model=\"gpu\"} 0\n"));
    assert_non_null(strstr(text, "llcuda_steps_failed_total{model=\"cpu\"} 0\n"));
    server_stop(server);
    pthread_join(thread, NULL);
    server_destroy(server);
    assert_int_equal(faults.live_allocations, 0);
    free(path);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(a_hang_is_an_answer)};

TEST_MAIN(tests)
