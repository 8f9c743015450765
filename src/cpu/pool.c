/* Owns the worker threads. The `gate` is one atomic word that says whether a loop is open, which
 * one it is (a generation), and how many workers are inside:
 *
 *     bits 63…32 generation | bit 16 open | bits 15…0 workers inside
 *
 * The caller writes the loop's fields, opens the gate, works, closes it, and waits until nobody is
 * inside. A worker enters by adding one and looks at the loop only if the gate was open in the same
 * atomic operation; so the fields are never written while a worker reads them. Workers spin for a
 * short while between loops, fetching what they were told to, then sleep on a condition variable.
 * Knows nothing of what is run. */
#include "cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"

#define GATE_INSIDE     0xFFFFull
#define GATE_OPEN       0x10000ull
#define GATE_GENERATION (1ull << 32)

/* Longer than the gap between two loops of a step, shorter than anybody's patience with a fan. */
#define SPIN_NS 100000u

_Static_assert(LIMIT_THREADS < GATE_INSIDE, "a worker counts one in the gate");

/* Bytes that a waiting thread fetches before it looks at the gate again: about 0.1 µs. */
#define FETCH_BYTES 1024u

/* Memory that somebody who waits may bring into his cache. */
struct fetch {
    const unsigned char *data;
    uint64_t bytes;
};

/* A worker's share of the items, on a cache line of its own. Its owner takes from the front, so
 * that his items follow one another in memory, others from the back. */
struct share {
    _Alignas(64) _Atomic uint64_t span; /* end in the upper half, next in the lower */
    uint64_t base;                      /* item of the span's 0 */
    struct fetch meanwhile;             /* for the owner, when nothing is left */
};

struct worker {
    struct pool *pool;
    uint32_t index;
    uint32_t cpu; /* UINT32_MAX: not pinned */
    pthread_t thread;
};

struct pool {
    _Alignas(64) _Atomic uint64_t gate;
    _Alignas(64) _Atomic uint32_t sleeper_count;
    _Atomic bool stopping;
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    uint32_t thread_count;
    uint32_t started_count; /* threads that run, worker 0 not counted */
    struct worker *workers; /* [thread_count] */
    struct share *shares;   /* [thread_count] */
    void (*task)(void *context, uint32_t worker, uint64_t begin, uint64_t end);
    void *context;
    uint64_t most; /* items of a range */
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes half of what is left, at most `most` items, from the front to the next multiple of it or
 * from the back to the one before. */
static bool take(struct share *share, bool from_back, uint64_t most, uint64_t *begin, uint64_t *end)
{
    uint64_t span = atomic_load_explicit(&share->span, memory_order_relaxed);
    uint64_t rest;
    do {
        uint64_t first = share->base + (uint32_t)span;
        uint64_t last = share->base + (span >> 32);
        if (first >= last) {
            return false;
        }
        uint64_t count = (last - first + 1) / 2;
        uint64_t room = from_back ? (last - 1) % most + 1 : most - first % most;
        count = count < room ? count : room;
        *begin = from_back ? last - count : first;
        *end = *begin + count;
        rest = from_back ? span - (count << 32) : span + count;
    } while (!atomic_compare_exchange_weak_explicit(&share->span, &span, rest, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

/* Takes items from the worker's own share, then from everybody's. */
static void work(struct pool *pool, uint32_t worker)
{
    for (uint32_t i = 0; i < pool->thread_count; i++) {
        struct share *share = &pool->shares[(worker + i) % pool->thread_count];
        uint64_t begin;
        uint64_t end;
        while (take(share, i > 0, pool->most, &begin, &end)) {
            pool->task(pool->context, worker, begin, end);
        }
    }
}

/* Some of it; false when nothing is left. */
static bool fetch_some(struct fetch *fetch)
{
    uint64_t bytes = fetch->bytes < FETCH_BYTES ? fetch->bytes : FETCH_BYTES;
    for (uint64_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(fetch->data + i, 0, 2);
    }
    fetch->data += bytes;
    fetch->bytes -= bytes;
    return bytes != 0;
}

/* True when a loop is open that this worker has not yet been in. */
static bool is_new(uint64_t gate, uint64_t seen)
{
    return (gate & GATE_OPEN) && gate / GATE_GENERATION != seen;
}

static bool spin(struct pool *pool, uint64_t seen, struct fetch *fetch)
{
    uint64_t deadline = clock_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (is_new(atomic_load_explicit(&pool->gate, memory_order_acquire), seen) ||
                atomic_load_explicit(&pool->stopping, memory_order_relaxed)) {
                return true;
            }
            if (!fetch_some(fetch)) {
                relax();
            }
        }
    } while (clock_now_ns() < deadline);
    return false;
}

/* The order "count myself, then look at the gate" against the caller's "open the gate, then look at
 * the count", both sequentially consistent, is what makes sure that nobody sleeps through a loop.
 */
static void sleep_until_new(struct pool *pool, uint64_t seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleeper_count, 1);
    while (!is_new(atomic_load(&pool->gate), seen) && !atomic_load(&pool->stopping)) {
        pthread_cond_wait(&pool->opened, &pool->mutex);
    }
    atomic_fetch_sub(&pool->sleeper_count, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void pin(uint32_t cpu)
{
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    /* A refusal costs speed only. */
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
    (void)cpu;
#endif
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    uint64_t seen = 0;
    struct fetch fetch = {0};
    if (worker->cpu != UINT32_MAX) {
        pin(worker->cpu);
    }
    for (;;) {
        if (!spin(pool, seen, &fetch)) {
            sleep_until_new(pool, seen);
        }
        if (atomic_load(&pool->stopping)) {
            return NULL;
        }
        uint64_t gate = atomic_fetch_add(&pool->gate, 1);
        if (is_new(gate, seen)) {
            seen = gate / GATE_GENERATION;
            work(pool, worker->index);
            fetch = pool->shares[worker->index].meanwhile;
        }
        atomic_fetch_sub(&pool->gate, 1);
    }
}

/* A loop of at most as many items as 32 bits count, for all threads. */
static void run_items(struct pool *pool, uint64_t first, uint64_t item_count)
{
    uint64_t begin = first;
    for (uint32_t i = 0; i < pool->thread_count; i++) {
        uint64_t part = item_count / pool->thread_count + (i < item_count % pool->thread_count);
        pool->shares[i].base = begin;
        atomic_store_explicit(&pool->shares[i].span, part << 32, memory_order_relaxed);
        begin += part;
    }
    atomic_fetch_add(&pool->gate, GATE_GENERATION + GATE_OPEN);
    if (atomic_load(&pool->sleeper_count) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->opened);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    atomic_fetch_sub(&pool->gate, GATE_OPEN);
    struct fetch fetch = pool->shares[0].meanwhile;
    for (uint32_t i = 1; (atomic_load(&pool->gate) & GATE_INSIDE) != 0; i++) {
        if (!fetch_some(&fetch)) {
            relax();
        }
        if (i % 1024 == 0) {
            sched_yield(); /* more workers than CPUs: let the last one finish */
        }
    }
}

void pool_run_ranges(struct pool *pool, uint64_t item_count, uint64_t most,
                     void (*task)(void *context, uint32_t worker, uint64_t begin, uint64_t end),
                     void *context)
{
    if (pool->thread_count == 1 || item_count <= 1) {
        for (uint64_t begin = 0; begin < item_count; begin += most) {
            task(context, 0, begin, item_count - begin < most ? item_count : begin + most);
        }
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->most = most;
    for (uint64_t first = 0; first < item_count; first += UINT32_MAX) {
        uint64_t rest = item_count - first;
        run_items(pool, first, rest < UINT32_MAX ? rest : UINT32_MAX);
    }
}

/* A loop over single items. */
struct items {
    void (*task)(void *context, uint32_t worker, uint64_t item);
    void *context;
};

static void run_each(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    const struct items *items = context;
    for (uint64_t item = begin; item < end; item++) {
        items->task(items->context, worker, item);
    }
}

void pool_run(struct pool *pool, uint64_t item_count,
              void (*task)(void *context, uint32_t worker, uint64_t item), void *context)
{
    struct items items = {task, context};
    pool_run_ranges(pool, item_count, 1, run_each, &items);
}

uint64_t pool_share_begin(const struct pool *pool, uint32_t worker, uint64_t item_count)
{
    uint64_t longer = item_count % pool->thread_count;
    return worker * (item_count / pool->thread_count) + (worker < longer ? worker : longer);
}

void pool_fetch_meanwhile(struct pool *pool, uint32_t worker, const void *data, uint64_t bytes)
{
    pool->shares[worker].meanwhile = (struct fetch){data, bytes};
}

uint32_t pool_thread_count(const struct pool *pool)
{
    return pool->thread_count;
}

static llcuda_status start_threads(struct pool *pool, struct llcuda_error *error)
{
    for (uint32_t i = 1; i < pool->thread_count; i++) {
        int code = pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (code != 0) {
            return error_set(error, LLCUDA_OUT_OF_MEMORY,
                             "cannot start worker thread %u of %u: the system refuses (code %d)", i,
                             pool->thread_count, code);
        }
        pool->started_count++;
    }
    return LLCUDA_OK;
}

llcuda_status pool_create(uint32_t thread_count, const uint32_t *cpus, uint32_t cpu_count,
                          struct pool **pool_out, struct llcuda_error *error)
{
    if (thread_count < 1 || thread_count > LIMIT_THREADS) {
        return error_set(error, LLCUDA_LIMIT, "%u threads, wanted are 1 … %u", thread_count,
                         LIMIT_THREADS);
    }
    size_t bytes = (sizeof(struct pool) + 63) / 64 * 64;
    struct pool *pool = aligned_alloc(64, bytes);
    if (!pool) {
        return error_no_memory(error, "the worker pool", bytes);
    }
    *pool = (struct pool){.thread_count = thread_count};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->opened, NULL);
    pool->workers = calloc(thread_count, sizeof *pool->workers);
    pool->shares = aligned_alloc(64, thread_count * sizeof *pool->shares);
    llcuda_status status = LLCUDA_OK;
    if (!pool->workers || !pool->shares) {
        status = error_no_memory(error, "the worker pool", thread_count * sizeof *pool->shares);
    }
    for (uint32_t i = 0; status == LLCUDA_OK && i < thread_count; i++) {
        bool pinned = cpus && cpu_count >= thread_count;
        pool->shares[i] = (struct share){0};
        pool->workers[i] =
            (struct worker){.pool = pool, .index = i, .cpu = pinned ? cpus[i] : UINT32_MAX};
    }
    if (status == LLCUDA_OK) {
        status = start_threads(pool, error);
    }
    if (status != LLCUDA_OK) {
        pool_destroy(pool);
        return status;
    }
    *pool_out = pool;
    return LLCUDA_OK;
}

void pool_destroy(struct pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stopping, true);
    pthread_cond_broadcast(&pool->opened);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i <= pool->started_count; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->opened);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->shares);
    free(pool->workers);
    free(pool);
}
