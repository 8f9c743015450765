/* Owns the thread that waits for drivers that do not answer. The main thread tells it what is
 * called; a lock guards that. It must not know what a driver is. */
#include "cli/patience.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const char *command, *device, *call; /* call NULL: nothing is waited for */
    uint32_t timeout_ms;
    struct timespec deadline;
    bool running, stopped;
} patience;

/* With the lock held. Output that the main thread has gathered stays unwritten: it may be half. */
static void give_up(void)
{
    fprintf(
        stderr,
        "llcuda %s: the driver of %s did not answer '%s' within %u seconds: look for its errors "
        "in the kernel's log (dmesg), reset the GPU or restart the machine; --device cpu does "
        "without it\n",
        patience.command, patience.device, patience.call, patience.timeout_ms / 1000);
    _exit(EXIT_FAILED);
}

static void *wait_for_calls(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&patience.mutex);
    while (!patience.stopped) {
        if (!patience.call) {
            pthread_cond_wait(&patience.changed, &patience.mutex);
            continue;
        }
        struct timespec now;
        struct timespec deadline = patience.deadline;
        pthread_cond_timedwait(&patience.changed, &patience.mutex, &deadline);
        clock_gettime(CLOCK_MONOTONIC, &now);
        deadline = patience.deadline;
        if (!patience.stopped && patience.call &&
            (now.tv_sec > deadline.tv_sec ||
             (now.tv_sec == deadline.tv_sec && now.tv_nsec >= deadline.tv_nsec))) {
            give_up();
        }
    }
    pthread_mutex_unlock(&patience.mutex);
    return NULL;
}

void patience_begin(const struct options *options)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&patience.mutex, NULL);
    pthread_cond_init(&patience.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    patience.command = command_spec(options->command)->name;
    patience.stopped = false;
    patience.call = NULL;
    patience.running = pthread_create(&patience.thread, NULL, wait_for_calls, NULL) == 0;
}

void patience_expect(const char *device, const char *call, uint32_t timeout_ms)
{
    if (!patience.running) {
        return;
    }
    pthread_mutex_lock(&patience.mutex);
    patience.device = device;
    patience.call = call;
    patience.timeout_ms = timeout_ms;
    clock_gettime(CLOCK_MONOTONIC, &patience.deadline);
    patience.deadline.tv_sec += timeout_ms / 1000;
    pthread_cond_signal(&patience.changed);
    pthread_mutex_unlock(&patience.mutex);
}

void patience_end(void)
{
    if (!patience.running) {
        return;
    }
    pthread_mutex_lock(&patience.mutex);
    patience.stopped = true;
    pthread_cond_signal(&patience.changed);
    pthread_mutex_unlock(&patience.mutex);
    pthread_join(patience.thread, NULL);
    patience.running = false;
}
