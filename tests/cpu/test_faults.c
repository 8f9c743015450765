/* Opening, loading and stepping while the n-th allocation fails, for every n: an error comes back
 * with a sentence, nothing leaks (the sanitizer looks), and a step allocates nothing at all. */
#include <pthread.h>
#include <sys/mman.h>

#include "cpu/toy.h"

static long failing; /* the how-manieth allocation from now fails; 0: none */
static long counted;

static bool fails(void)
{
    counted++;
    return counted == failing;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__real_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, bytes);
}

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, bytes, protection, flags, file, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    return fails() ? 11 : __real_pthread_create(thread, attributes, function, argument);
}

/* Opens, loads, steps; true when all went well, otherwise the error is checked. */
static bool run_once(const struct toy *toy, struct toy_batch *batch, long *step_allocations)
{
    struct llcuda_error error = {0};
    struct device *device = NULL;
    struct device_model *model = NULL;
    const float *logits;
    struct cpu_options options = {.thread_count = 3, .level_max = CPU_LEVEL_COUNT};
    struct device_model_options model_options = {
        .kv_block_count = 8, .kv_dtype = DTYPE_F16, .rows_max = 16, .logits_rows_max = 16};
    llcuda_status status = cpu_device_open(&options, &device, &error);
    if (status == LLCUDA_OK) {
        status = device_model_load(device, toy->plan, &model_options, NULL, &model, &error);
    }
    if (status == LLCUDA_OK) {
        long before = counted;
        status = device_step(model, &batch->batch, &logits, &error);
        *step_allocations = counted - before;
        device_model_unload(model);
    }
    device_close(device);
    if (status != LLCUDA_OK) {
        assert_int_equal(status, LLCUDA_OUT_OF_MEMORY);
        assert_true(error.message[0] != '\0');
        return false;
    }
    return true;
}

static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    static struct toy_batch batch;
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct toy_options options = toy_defaults();
    options.biases = true;
    struct toy *toy = toy_create(&options);
    toy_batch_init(&batch, 1, 8);
    toy_batch_add(&batch, 0, tokens, 0, 9);
    long failures = 0;
    for (long n = 1;; n++) {
        long step_allocations = -1;
        counted = 0;
        failing = n;
        bool done = run_once(toy, &batch, &step_allocations);
        long used = counted;
        failing = 0;
        if (done) {
            assert_int_equal(step_allocations, 0);
            if (used < n) {
                break;
            }
        } else {
            failures++;
        }
        assert_true(n < 10000);
    }
    assert_true(failures > 5);
    toy_destroy(toy);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_failed_allocation_is_an_error),
};

TEST_MAIN(tests)
