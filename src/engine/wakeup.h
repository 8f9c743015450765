/* One sleeper, many wakers. Waking a sleeper that is awake costs one atomic load; the lock is only
 * taken around real sleep. What the sleeper waits for must be published with a sequentially
 * consistent store before wakeup_signal, and looked at again after wakeup_prepare. */
#ifndef ENGINE_WAKEUP_H
#define ENGINE_WAKEUP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WAKEUP_FOREVER UINT64_MAX

struct wakeup {
    _Atomic uint32_t asleep; /* 1 from prepare until a signal takes it */
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

/* False when the system has no more of them. */
bool wakeup_init(struct wakeup *wakeup);
void wakeup_deinit(struct wakeup *wakeup);

/* The sleeper announces itself, then looks for work once more, then sleeps (or cancels). */
static inline void wakeup_prepare(struct wakeup *wakeup)
{
    atomic_store(&wakeup->asleep, 1);
}

static inline void wakeup_cancel(struct wakeup *wakeup)
{
    atomic_store(&wakeup->asleep, 0);
}

/* Sleeps until a signal or until the clock (base/clock.h) reaches `until_ns`. */
void wakeup_sleep(struct wakeup *wakeup, uint64_t until_ns);

/* Any thread. */
void wakeup_signal_slow(struct wakeup *wakeup);
static inline void wakeup_signal(struct wakeup *wakeup)
{
    if (atomic_load(&wakeup->asleep) != 0) {
        wakeup_signal_slow(wakeup);
    }
}

#endif
