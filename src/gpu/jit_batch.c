/* Owns making many modules at once: threads take them in order, compile or find them, and leave
 * binaries; the driver's thread then loads those. Invariants: a job is written by the thread that
 * took it, and read by others after that thread was joined; a batch that stops early takes no more
 * jobs, and what runs is waited for. */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "gpu/jit_internal.h"

#define THREADS_MAX 64u

struct job {
    struct buffer binary;
    llcuda_status status;
    struct llcuda_error error;
};

struct gpu_jit_batch {
    struct gpu_jit *jit;
    const struct gpu_jit_module *modules;
    struct job *jobs; /* [count] */
    uint32_t count;
    atomic_uint next; /* job that nobody has taken */
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
};

static void *work(void *user)
{
    struct gpu_jit_batch *batch = user;
    for (;;) {
        const uint32_t index = atomic_fetch_add(&batch->next, 1);
        if (index >= batch->count) {
            return NULL;
        }
        struct job *job = &batch->jobs[index];
        job->status = gpu_jit_build(batch->jit, &batch->modules[index], &job->binary, &job->error);
    }
}

static void join(struct gpu_jit_batch *batch)
{
    for (uint32_t i = 0; i < batch->thread_count; i++) {
        pthread_join(batch->threads[i], NULL);
    }
    batch->thread_count = 0;
}

static void release(struct gpu_jit_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        buffer_deinit(&batch->jobs[i].binary);
    }
    free(batch->jobs);
    free(batch);
}

llcuda_status gpu_jit_start(struct gpu_jit *jit, const struct gpu_jit_module *modules,
                            uint32_t count, struct gpu_jit_batch **result,
                            struct llcuda_error *error)
{
    if (count > JIT_MODULES_MAX) {
        return error_set(error, LLCUDA_LIMIT, "%u modules of kernels at once; at most %u", count,
                         JIT_MODULES_MAX);
    }
    struct gpu_jit_batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        return error_no_memory(error, "the modules' batch", sizeof *batch);
    }
    batch->jobs = calloc(count + 1u, sizeof *batch->jobs);
    if (!batch->jobs) {
        free(batch);
        return error_no_memory(error, "the modules' batch", count * sizeof(struct job));
    }
    batch->jit = jit;
    batch->modules = modules;
    batch->count = count;
    uint32_t wanted = jit->thread_count < count ? jit->thread_count : count;
    wanted = wanted < THREADS_MAX ? wanted : THREADS_MAX;
    while (batch->thread_count < wanted &&
           pthread_create(&batch->threads[batch->thread_count], NULL, work, batch) == 0) {
        batch->thread_count++;
    }
    /* Without a single thread gpu_jit_finish does the work. */
    *result = batch;
    return LLCUDA_OK;
}

llcuda_status gpu_jit_finish(struct gpu_jit_batch *batch, struct gpu_module **loaded,
                             struct llcuda_error *error)
{
    struct gpu_jit *jit = batch->jit;
    struct gpu_driver *driver = jit->driver;
    llcuda_status status = LLCUDA_OK;
    const uint64_t start = clock_now_ns();
    uint32_t count = 0;
    work(batch);
    join(batch);
    pthread_mutex_lock(&jit->lock);
    jit->statistics.wait_ms += clock_ms(clock_now_ns() - start);
    pthread_mutex_unlock(&jit->lock);
    for (uint32_t i = 0; i < batch->count; i++) {
        loaded[i] = NULL;
    }
    while (count < batch->count && status == LLCUDA_OK) {
        const struct job *job = &batch->jobs[count];
        status = job->status;
        if (status != LLCUDA_OK && error) {
            *error = job->error;
        }
        if (status == LLCUDA_OK) {
            status = driver->module_load(driver, job->binary.data, job->binary.length,
                                         &loaded[count], error);
        }
        count++;
    }
    for (uint32_t i = 0; status != LLCUDA_OK && i < batch->count; i++) {
        driver->module_unload(driver, loaded[i]);
        loaded[i] = NULL;
    }
    release(batch);
    return status;
}

void gpu_jit_cancel(struct gpu_jit_batch *batch)
{
    if (batch) {
        atomic_store(&batch->next, batch->count);
        join(batch);
        release(batch);
    }
}

llcuda_status gpu_jit_load(struct gpu_jit *jit, const struct gpu_jit_module *module,
                           struct gpu_module **loaded, struct llcuda_error *error)
{
    struct buffer binary = {0};
    struct gpu_driver *driver = jit->driver;
    llcuda_status status = gpu_jit_build(jit, module, &binary, error);
    if (status == LLCUDA_OK) {
        status = driver->module_load(driver, binary.data, binary.length, loaded, error);
    }
    buffer_deinit(&binary);
    return status;
}
