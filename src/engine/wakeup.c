/* Owns the lock and the condition of one sleeper. Invariant: whoever turns `asleep` from 1 to 0
 * signals under the lock, and the sleeper looks at `asleep` under the lock before it waits, so that
 * no signal falls between. */
#include "engine/wakeup.h"

#include <time.h>

bool wakeup_init(struct wakeup *wakeup)
{
    atomic_init(&wakeup->asleep, 0);
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    bool done = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(&wakeup->condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    if (done && pthread_mutex_init(&wakeup->mutex, NULL) != 0) {
        pthread_cond_destroy(&wakeup->condition);
        done = false;
    }
    return done;
}

void wakeup_deinit(struct wakeup *wakeup)
{
    pthread_cond_destroy(&wakeup->condition);
    pthread_mutex_destroy(&wakeup->mutex);
}

void wakeup_sleep(struct wakeup *wakeup, uint64_t until_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u),
        .tv_nsec = (long)(until_ns % 1000000000u),
    };
    pthread_mutex_lock(&wakeup->mutex);
    while (atomic_load(&wakeup->asleep) != 0) {
        if (until_ns == WAKEUP_FOREVER) {
            pthread_cond_wait(&wakeup->condition, &wakeup->mutex);
        } else if (pthread_cond_timedwait(&wakeup->condition, &wakeup->mutex, &until) != 0) {
            break;
        }
    }
    pthread_mutex_unlock(&wakeup->mutex);
    atomic_store(&wakeup->asleep, 0);
}

void wakeup_signal_slow(struct wakeup *wakeup)
{
    if (atomic_exchange(&wakeup->asleep, 0) != 0) {
        pthread_mutex_lock(&wakeup->mutex);
        pthread_cond_signal(&wakeup->condition);
        pthread_mutex_unlock(&wakeup->mutex);
    }
}
