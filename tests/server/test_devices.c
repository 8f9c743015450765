/* Accelerators as the service shows them: a table of readings becomes metrics, and a device that is
 * lost makes the server not ready. No model is loaded. */
#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/server.h"
#include "support/test_support.h"

struct fake_devices {
    struct device_reading readings[2];
    pthread_mutex_t mutex;
};

static uint32_t read_devices(void *user, struct device_reading *readings, uint32_t count)
{
    struct fake_devices *fake = user;
    assert_true(count >= 2);
    pthread_mutex_lock(&fake->mutex);
    memcpy(readings, fake->readings, sizeof fake->readings);
    pthread_mutex_unlock(&fake->mutex);
    return 2;
}

static void *run(void *user)
{
    struct llcuda_error error;
    assert_ok(server_run(user, &error), error);
    return NULL;
}

/* The whole answer to a GET. */
static void get(const struct server *server, const char *path, char *out, size_t bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[200];
    size_t length = 0;
    ssize_t got = 0;
    const char *colon = strrchr(server_address(server), ':');
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    int link = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(link, (struct sockaddr *)&address, sizeof address), 0);
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(send(link, request, (size_t)size, 0), size);
    while (length < bytes - 1 && (got = recv(link, out + length, bytes - 1 - length, 0)) > 0) {
        length += (size_t)got;
    }
    out[length] = 0;
    close(link);
}

static void assert_has(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        fail_msg("no '%s' in:\n%s", words, text);
    }
}

static void wait_for_status(const struct server *server, const char *status, const char *words)
{
    char text[4096];
    for (int i = 0; i < 200; i++) {
        get(server, "/readyz", text, sizeof text);
        if (memcmp(text + 9, status, 3) == 0) {
            assert_has(text, words);
            return;
        }
        usleep(50000);
    }
    fail_msg("never %s: %s", status, text);
}

static void set_failed(struct fake_devices *fake, bool failed)
{
    pthread_mutex_lock(&fake->mutex);
    fake->readings[1].failed = failed;
    pthread_mutex_unlock(&fake->mutex);
}

static void test_devices(void **state)
{
    (void)state;
    static char text[1 << 16];
    struct fake_devices fake = {
        .readings = {{"NVIDIA \"H200\"", 0.5, 61, 350.25, 1e9, 141e9, false},
                     {"NVIDIA A10", NAN, NAN, NAN, NAN, 24e9, false}},
        .mutex = PTHREAD_MUTEX_INITIALIZER,
    };
    struct model_config model = {.name = "none"};
    struct server_options options;
    struct server *server;
    struct llcuda_error error;
    pthread_t thread;
    llcuda_engine_options_init(&model.engine, sizeof model.engine);
    model.engine.model = "/nowhere/model.gguf";
    server_options_init(&options);
    options.http.port = 0;
    options.models = &model;
    options.model_count = 1;
    options.read_devices = read_devices;
    options.read_devices_user = &fake;
    assert_ok(server_create(&options, &server, &error), error);
    assert_int_equal(pthread_create(&thread, NULL, run, server), 0);
    wait_for_status(server, "200", "\"device\": \"ok\"");
    get(server, "/metrics", text, sizeof text);
    assert_has(text,
               "llcuda_device_utilization_ratio{device=\"0\",name=\"NVIDIA \\\"H200\\\"\"} 0.5\n");
    assert_has(text,
               "llcuda_device_temperature_celsius{device=\"0\",name=\"NVIDIA \\\"H200\\\"\"} 61\n");
    assert_has(text,
               "llcuda_device_power_watts{device=\"0\",name=\"NVIDIA \\\"H200\\\"\"} 350.25\n");
    assert_has(text, "llcuda_device_memory_bytes{device=\"1\",name=\"NVIDIA A10\"} 24000000000\n");
    assert_has(text, "llcuda_device_memory_used_ratio{device=\"0\",name=\"NVIDIA \\\"H200\\\"\"} "
                     "0.0070921985815602835\n");
    assert_null(strstr(text, "llcuda_device_memory_used_ratio{device=\"1\""));
    assert_null(strstr(text, "nan")); /* what is not known is left out */
    assert_has(text, "llcuda_memory_kind_bytes{model=\"none\",kind=\"kv_cache\"} 0\n");
    set_failed(&fake, true);
    wait_for_status(server, "503", "\"status\": \"device_failed\"");
    get(server, "/livez", text, sizeof text);
    assert_memory_equal(text, "HTTP/1.1 200", 12);
    set_failed(&fake, false);
    wait_for_status(server, "200", "ready");
    server_stop(server);
    pthread_join(thread, NULL);
    server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
