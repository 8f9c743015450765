/* Owns the running of an emulated kernel: the threads of a block are fibres that take turns on the
 * calling thread, and meet at barriers and warp operations.
 *
 * Invariants. A thread runs until it must wait; a thread that never waits needs no fibre of its
 * own, since the worker that ran it goes on with the next one, so that a kernel without barriers
 * is a plain loop. Whoever completes a meeting queues all who met, in the order of the run, before
 * everybody else: threads run as far ahead of each other as their barriers allow, which is what
 * makes a missing barrier show. When no thread can run and some wait, the rules of barriers were
 * broken: the block ends and the run fails with both places.
 *
 * It must not know how modules are made or loaded, nor who owns the memory they work on. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buffer.h"
#include "base/random.h"
#include "gpu/emu_combine.h"
#include "gpu/emu_run.h"
#include "gpu/fibre.h"

#define THREADS_MAX 1024u
#define GUARD_BYTES 4096u
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
#define STACK_BYTES (256u << 10) /* instrumented frames are large */
#else
#define STACK_BYTES (64u << 10)
#endif
#define STACKS_BYTES ((size_t)THREADS_MAX * (STACK_BYTES + GUARD_BYTES))

enum thread_state {
    THREAD_READY,
    THREAD_WAITS_BLOCK,
    THREAD_WAITS_WARP,
    THREAD_WAITS_KEY,
    THREAD_ENDED
};

struct worker {
    struct fibre fibre;
    struct emu_runner *runner;
    struct thread *thread;
};

struct thread {
    struct emu_thread view; /* first: the module knows a thread by it */
    struct emu_runner *runner;
    struct worker *worker; /* NULL: not started */
    enum thread_state state;
    /* Where it waits: on its own stack, so only while it does. A copy would read at once, in one
     * piece, what was just written in several: the processor then waits for its stores. */
    const struct emu_site *site;
    const void *key; /* and for what, of THREAD_WAITS_KEY */
};

struct meeting {
    uint32_t arrived;
    uint32_t expected;
    struct thread *first;
};

struct emu_runner {
    enum gpu_emu_order order;
    uint64_t random;
    struct fibre home;
    const struct emu_grid *grid;
    struct emu_thread **self; /* the module's word for the running thread */
    struct emu_block block;
    uint32_t thread_count;
    uint32_t ended_count;
    struct thread threads[THREADS_MAX];
    struct meeting block_meeting;
    struct meeting warp_meetings[THREADS_MAX / EMU_WARP_SIZE];
    struct emu_warp warps[THREADS_MAX / EMU_WARP_SIZE];
    struct emu_copy copies[THREADS_MAX][EMU_COPIES_MAX];
    uint32_t queue[THREADS_MAX]; /* a ring of threads that can run */
    uint32_t queue_head, queue_count;
    struct worker workers[THREADS_MAX];
    uint32_t worker_count; /* made so far */
    struct worker *idle[THREADS_MAX];
    uint32_t idle_count;
    char *stacks; /* [THREADS_MAX] of STACK_BYTES, each above a guard page */
    bool failed;
    char message[256];
};

/* The queue. */

static void queue_push_front(struct emu_runner *runner, uint32_t thread)
{
    runner->queue_head = (runner->queue_head - 1) % THREADS_MAX;
    runner->queue[runner->queue_head] = thread;
    runner->queue_count++;
}

/* NULL when nobody can run. */
static struct thread *queue_pop(struct emu_runner *runner)
{
    if (runner->queue_count == 0) {
        return NULL;
    }
    const uint32_t head = runner->queue_head;
    if (runner->order == GPU_EMU_RANDOM) {
        runner->random += 0x9E3779B97F4A7C15u;
        const uint32_t other =
            (head + (uint32_t)(random_mix(runner->random) % runner->queue_count)) % THREADS_MAX;
        const uint32_t thread = runner->queue[other];
        runner->queue[other] = runner->queue[head];
        runner->queue[head] = thread;
    }
    runner->queue_head = (head + 1) % THREADS_MAX;
    runner->queue_count--;
    return &runner->threads[runner->queue[head]];
}

/* Threads first … first + count - 1, so that they leave the queue in the order of the run. */
static void queue_push_range(struct emu_runner *runner, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const bool reverse = runner->order == GPU_EMU_REVERSE;
        queue_push_front(runner, reverse ? first + i : first + count - 1 - i);
    }
}

/* Failing. */

static void describe_thread(struct buffer *text, const struct thread *thread)
{
    buffer_printf(text, "thread %u ", thread->view.index.x);
    if (thread->state == THREAD_ENDED) {
        buffer_append_text(text, "has ended");
    } else if (thread->state == THREAD_READY) {
        buffer_append_text(text, "runs");
    } else {
        buffer_printf(text, "waits at %s (%s:%d)", thread->site->word, thread->site->file,
                      thread->site->line);
    }
}

/* Leaves the block, from a fibre, for good. Not said to be of no return, nor so to the compiler:
 * the address sanitizer would clean the whole stack of such a caller, which is that of all fibres.
 */
static void leave_block(struct emu_runner *runner, struct worker *worker, const struct buffer *text)
{
    const struct emu_index *at = &runner->block.block_index;
    struct buffer message = {0};
    buffer_printf(&message, "kernel '%s', block (%u, %u, %u): %s", runner->grid->name, at->x, at->y,
                  at->z, buffer_text(text));
    strncpy(runner->message, buffer_text(&message), sizeof runner->message - 1);
    buffer_deinit(&message);
    runner->failed = true;
    fibre_switch(&worker->fibre, &runner->home); /* the worker is restarted before its next use */
}

static void fail_apart(struct emu_runner *runner, struct worker *worker, const struct thread *one,
                       const struct thread *other)
{
    struct buffer text = {0};
    describe_thread(&text, one);
    buffer_append_text(&text, " but ");
    describe_thread(&text, other);
    char copy[192];
    strncpy(copy, buffer_text(&text), sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    buffer_deinit(&text);
    const struct buffer view = {.data = copy, .length = strlen(copy)};
    leave_block(runner, worker, &view);
}

/* Nobody can run, and not all have ended: finds two threads that wait for each other. */
static void fail_stuck(struct emu_runner *runner, struct worker *worker)
{
    const struct thread *waiting = NULL;
    for (uint32_t i = 0; i < runner->thread_count && !waiting; i++) {
        if (runner->threads[i].state != THREAD_ENDED) {
            waiting = &runner->threads[i];
        }
    }
    const struct thread *other = waiting;
    for (uint32_t i = 0; i < runner->thread_count; i++) {
        const struct thread *thread = &runner->threads[i];
        const bool together =
            waiting->state == THREAD_WAITS_BLOCK || thread->view.warp == waiting->view.warp;
        if (together && thread->state != waiting->state) {
            other = thread;
            break;
        }
    }
    fail_apart(runner, worker, waiting, other);
}

static void runtime_fail(struct emu_thread *self, const struct emu_site *site, const char *what)
{
    struct thread *thread = (struct thread *)self;
    char text[192];
    struct buffer words = {0};
    buffer_printf(&words, "thread %u, %s (%s:%d): %s", self->index.x, site->word, site->file,
                  site->line, what);
    strncpy(text, buffer_text(&words), sizeof text - 1);
    text[sizeof text - 1] = 0;
    buffer_deinit(&words);
    const struct buffer view = {.data = text, .length = strlen(text)};
    leave_block(thread->runner, thread->worker, &view);
}

/* Workers. */

static void worker_run(void *user);

static struct worker *worker_take(struct emu_runner *runner)
{
    if (runner->idle_count) {
        return runner->idle[--runner->idle_count];
    }
    const size_t index = runner->worker_count++;
    struct worker *worker = &runner->workers[index];
    char *stack = runner->stacks + index * (STACK_BYTES + GUARD_BYTES) + GUARD_BYTES;
    /* Tops at different distances from a page: otherwise all fibres' innermost frames would share
     * one set of the first-level cache. */
    const size_t colour = index % 32 * 320;
    worker->runner = runner;
    const struct fibre_region all = {runner->stacks, STACKS_BYTES};
    fibre_init(&worker->fibre, &all, stack, STACK_BYTES - colour, worker_run, worker);
    return worker;
}

/* Gives the processor to `next`, from a fibre that will be woken later or never. */
static void go_to(struct fibre *from, struct thread *next)
{
    struct emu_runner *runner = next->runner;
    if (!next->worker) {
        next->worker = worker_take(runner);
        next->worker->thread = next;
    }
    *runner->self = &next->view;
    fibre_switch(from, &next->worker->fibre);
}

/* The life of a worker: threads one after the other; switched away from when there is none. */
static void worker_run(void *user)
{
    struct worker *worker = user;
    struct emu_runner *runner = worker->runner;
    for (;;) {
        runner->grid->kernel->call(runner->grid->arguments);
        worker->thread->state = THREAD_ENDED;
        runner->ended_count++;
        struct thread *next = queue_pop(runner);
        if (next && !next->worker) {
            next->worker = worker;
            worker->thread = next;
            *runner->self = &next->view;
            continue;
        }
        if (!next && runner->ended_count < runner->thread_count) {
            fail_stuck(runner, worker);
            return;
        }
        runner->idle[runner->idle_count++] = worker;
        if (next) {
            go_to(&worker->fibre, next);
        } else {
            fibre_switch(&worker->fibre, &runner->home);
        }
    }
}

/* Meetings. */

static bool same_site(const struct emu_site *a, const struct emu_site *b)
{
    return a->line == b->line && (a->word == b->word || strcmp(a->word, b->word) == 0) &&
           (a->file == b->file || strcmp(a->file, b->file) == 0);
}

static void meet(struct thread *thread, struct meeting *meeting, uint32_t first,
                 enum thread_state waits, const struct emu_site *site)
{
    struct emu_runner *runner = thread->runner;
    thread->state = waits;
    thread->site = site;
    if (meeting->arrived == 0) {
        meeting->first = thread;
    } else if (!same_site(meeting->first->site, site)) {
        fail_apart(runner, thread->worker, meeting->first, thread);
        return;
    }
    if (++meeting->arrived == meeting->expected) {
        meeting->arrived = 0;
        for (uint32_t i = 0; i < meeting->expected; i++) {
            runner->threads[first + i].state = THREAD_READY;
        }
        queue_push_range(runner, first, meeting->expected);
    }
    struct thread *next = queue_pop(runner);
    if (!next) {
        fail_stuck(runner, thread->worker);
        return;
    }
    if (next != thread) {
        go_to(&thread->worker->fibre, next);
    }
}

static void block_wait(struct emu_thread *self, const struct emu_site *site)
{
    struct thread *thread = (struct thread *)self;
    meet(thread, &thread->runner->block_meeting, 0, THREAD_WAITS_BLOCK, site);
}

static void warp_wait(struct emu_thread *self, const struct emu_site *site)
{
    struct thread *thread = (struct thread *)self;
    const uint32_t warp = self->index.x / EMU_WARP_SIZE;
    meet(thread, &thread->runner->warp_meetings[warp], warp * EMU_WARP_SIZE, THREAD_WAITS_WARP,
         site);
}

static void key_wait(struct emu_thread *self, const struct emu_site *site, const void *key)
{
    struct thread *thread = (struct thread *)self;
    thread->state = THREAD_WAITS_KEY;
    thread->site = site;
    thread->key = key;
    struct thread *next = queue_pop(thread->runner);
    if (!next) {
        fail_stuck(thread->runner, thread->worker);
        return;
    }
    go_to(&thread->worker->fibre, next); /* never itself: it is in no queue */
}

static void key_wake(struct emu_thread *self, const void *key)
{
    struct emu_runner *runner = ((struct thread *)self)->runner;
    for (uint32_t i = 0; i < runner->thread_count; i++) {
        struct thread *thread = &runner->threads[i];
        if (thread->state == THREAD_WAITS_KEY && thread->key == key) {
            thread->state = THREAD_READY;
            queue_push_range(runner, i, 1);
        }
    }
}

const struct emu_runtime emu_run_runtime = {block_wait, warp_wait,         key_wait,
                                            key_wake,   emu_combine_words, runtime_fail};

/* Blocks. */

static void threads_init(struct emu_runner *runner)
{
    for (uint32_t i = 0; i < runner->thread_count; i++) {
        struct thread *thread = &runner->threads[i];
        struct emu_warp *warp = &runner->warps[i / EMU_WARP_SIZE];
        const uint32_t left = runner->thread_count - i / EMU_WARP_SIZE * EMU_WARP_SIZE;
        warp->lane_count = left < EMU_WARP_SIZE ? left : EMU_WARP_SIZE;
        runner->warp_meetings[i / EMU_WARP_SIZE] = (struct meeting){.expected = warp->lane_count};
        thread->runner = runner;
        thread->view = (struct emu_thread){.index = {i, 0, 0},
                                           .lane = i % EMU_WARP_SIZE,
                                           .warp = warp,
                                           .block = &runner->block,
                                           .copies = runner->copies[i]};
    }
    runner->block_meeting = (struct meeting){.expected = runner->thread_count};
}

static void run_block(struct emu_runner *runner)
{
    const struct emu_grid *grid = runner->grid;
    for (uint32_t i = 0; i < runner->thread_count; i++) {
        struct thread *thread = &runner->threads[i];
        thread->worker = NULL;
        thread->state = THREAD_READY;
        thread->view.turn = 0;
        thread->view.copy_first = 0;
        thread->view.copy_count = 0;
        thread->view.copy_group = 0;
    }
    /* Bytes of ones are a NaN as any float, and an index out of every range. */
    memset(runner->block.shared_dynamic, 0xff, runner->block.shared_bytes);
    memset(grid->static_shared, 0xff, grid->static_shared_bytes);
    runner->ended_count = 0;
    runner->queue_count = 0;
    queue_push_range(runner, 0, runner->thread_count);
    struct thread *first = queue_pop(runner);
    if (first) {
        go_to(&runner->home, first);
    }
}

/* After a failure fibres stand in the middle of their threads: start all anew. */
static void workers_restart(struct emu_runner *runner)
{
    runner->idle_count = 0;
    for (uint32_t i = 0; i < runner->worker_count; i++) {
        fibre_restart(&runner->workers[i].fibre);
        runner->idle[runner->idle_count++] = &runner->workers[i];
    }
    runner->failed = false;
}

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Blocks are visited as (start + i · stride) mod count, with a stride that has no divisor in
 * common with the count. */
static void block_order(struct emu_runner *runner, uint64_t count, uint64_t *start,
                        uint64_t *stride)
{
    *start = runner->order == GPU_EMU_REVERSE ? count - 1 : 0;
    *stride = runner->order == GPU_EMU_REVERSE ? count - 1 : 1;
    if (runner->order == GPU_EMU_RANDOM) {
        runner->random += 0x9E3779B97F4A7C15u;
        *start = random_mix(runner->random) % count;
        *stride = random_mix(~runner->random) % count;
        while (greatest_divisor(*stride, count) != 1) {
            (*stride)++;
        }
    }
}

llcuda_status emu_run(struct emu_runner *runner, const struct emu_grid *grid,
                      struct llcuda_error *error)
{
    const struct gpu_launch *launch = grid->launch;
    const uint32_t *size = launch->grid;
    const uint64_t count = (uint64_t)size[0] * size[1] * size[2];
    llcuda_status status = LLCUDA_OK;
    uint64_t start;
    uint64_t stride;
    runner->grid = grid;
    runner->self = grid->module->self;
    runner->thread_count = launch->block[0];
    runner->block.block_size = (struct emu_index){launch->block[0], 1, 1};
    runner->block.grid_size = (struct emu_index){size[0], size[1], size[2]};
    runner->block.shared_bytes = launch->shared_bytes;
    /* Of exactly this size, so that the sanitizer sees an access past its end. */
    if (posix_memalign(&runner->block.shared_dynamic, 128,
                       launch->shared_bytes ? launch->shared_bytes : 1)) {
        return error_no_memory(error, "the shared memory of a block", launch->shared_bytes);
    }
    threads_init(runner);
    block_order(runner, count, &start, &stride);
    for (uint64_t i = 0; i < count && !runner->failed; i++) {
        const uint64_t block = (start + i % count * stride) % count;
        runner->block.block_index =
            (struct emu_index){(uint32_t)(block % size[0]), (uint32_t)(block / size[0] % size[1]),
                               (uint32_t)(block / size[0] / size[1])};
        run_block(runner);
    }
    if (runner->failed) {
        status = error_set(error, LLCUDA_DEVICE, "%s", runner->message);
        workers_restart(runner);
    }
    free(runner->block.shared_dynamic);
    runner->block.shared_dynamic = NULL;
    *runner->self = NULL;
    return status;
}

llcuda_status emu_runner_create(enum gpu_emu_order order, uint64_t seed, struct emu_runner **result,
                                struct llcuda_error *error)
{
    struct emu_runner *runner = calloc(1, sizeof *runner);
    if (!runner) {
        return error_no_memory(error, "the emulated device", sizeof *runner);
    }
    void *stacks = mmap(NULL, STACKS_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
        free(runner);
        return error_no_memory(error, "the stacks of the emulated device", STACKS_BYTES);
    }
    runner->stacks = stacks;
    /* An overflowing stack meets a page that faults, not its neighbour. */
    for (uint32_t i = 0; i < THREADS_MAX; i++) {
        mprotect(runner->stacks + (size_t)i * (STACK_BYTES + GUARD_BYTES), GUARD_BYTES, PROT_NONE);
    }
    runner->order = order;
    runner->random = seed;
    fibre_init_home(&runner->home);
    *result = runner;
    return LLCUDA_OK;
}

void emu_runner_destroy(struct emu_runner *runner)
{
    if (!runner) {
        return;
    }
    for (uint32_t i = 0; i < runner->worker_count; i++) {
        fibre_deinit(&runner->workers[i].fibre);
    }
    munmap(runner->stacks, STACKS_BYTES);
    free(runner);
}
