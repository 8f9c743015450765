/* Owns the yardsticks of the machine: how fast all threads together read, copy and multiply. The
 * buffer is larger than any cache of today where memory allows; it is read in pieces and the best
 * piece counts, because whoever shares the machine can only make a piece slower. Takes about two
 * seconds. */
#include "cpu/measure.h"

#include "base/clock.h"
#include "base/limits.h"
#include "cpu/model.h"

#define BUFFER_BYTES (1ull << 30)
#define ITEM_BYTES   (1ull << 20)
#define PIECE_ITEMS  128u /* of the buffer, read or copied at a time */
#define PASSES       4    /* over the buffer */
#define ROUNDS       200000u
#define REPEATS      100

struct measure {
    const struct measure_kernels *kernels;
    uint64_t (*integer)(uint64_t rounds, int32_t *sink);
    unsigned char *data;
    uint64_t bytes;
    uint64_t first_item; /* of the piece */
    struct result {
        _Alignas(64) uint64_t value;
        float number;
        int32_t whole;
    } results[LIMIT_THREADS];
};

static void fill_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    struct measure *measure = context;
    uint64_t *words = (uint64_t *)(void *)(measure->data + item * ITEM_BYTES);
    for (uint64_t i = 0; i < ITEM_BYTES / 8; i++) {
        words[i] = item * ITEM_BYTES + i;
    }
}

static void read_item(void *context, uint32_t worker, uint64_t item)
{
    struct measure *measure = context;
    measure->results[worker].value += measure->kernels->read(
        measure->data + (measure->first_item + item) * ITEM_BYTES, ITEM_BYTES);
}

/* Copies the first half of the buffer into the second. */
static void copy_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    struct measure *measure = context;
    unsigned char *from = measure->data + (measure->first_item + item) * ITEM_BYTES;
    measure->kernels->copy(from + measure->bytes / 2, from, ITEM_BYTES);
}

static void multiply_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    struct measure *measure = context;
    measure->results[item].number = 0.999f;
    measure->results[item].value =
        measure->kernels->multiply_add(ROUNDS, &measure->results[item].number);
}

static void integer_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    struct measure *measure = context;
    measure->results[item].whole = 3;
    measure->results[item].value = measure->integer(ROUNDS, &measure->results[item].whole);
}

static uint64_t timed_ns(struct pool *pool, uint64_t items,
                         void (*task)(void *context, uint32_t worker, uint64_t item),
                         struct measure *measure)
{
    uint64_t begin = clock_now_ns();
    pool_run(pool, items, task, measure);
    uint64_t taken = clock_now_ns() - begin;
    return taken ? taken : 1;
}

/* Bytes a second of the fastest piece among `items` items in turn. */
static double best_rate(struct pool *pool, uint64_t items,
                        void (*task)(void *context, uint32_t worker, uint64_t item),
                        struct measure *measure)
{
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (uint64_t first = 0; first < items; first += PIECE_ITEMS) {
            uint64_t count = items - first < PIECE_ITEMS ? items - first : PIECE_ITEMS;
            measure->first_item = first;
            double rate =
                (double)(count * ITEM_BYTES) * 1e9 / (double)timed_ns(pool, count, task, measure);
            best = rate > best ? rate : best;
        }
    }
    return best;
}

/* Nanoseconds of the fastest run of one item a thread. */
static double best_ns(struct pool *pool,
                      void (*task)(void *context, uint32_t worker, uint64_t item),
                      struct measure *measure)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < REPEATS; i++) {
        uint64_t taken = timed_ns(pool, pool_thread_count(pool), task, measure);
        best = taken < best ? taken : best;
    }
    return (double)best;
}

static double sum_values(const struct measure *measure, uint32_t threads)
{
    double sum = 0;
    for (uint32_t i = 0; i < threads; i++) {
        sum += (double)measure->results[i].value;
    }
    return sum;
}

static void choose(struct measure *measure, const struct cpu_device *device)
{
    measure->kernels = &measure_scalar;
#if defined(__x86_64__)
    if (device->level == CPU_AVX2) {
        measure->kernels = &measure_avx2;
    } else if (device->level == CPU_AVX512) {
        measure->kernels = &measure_avx512;
    }
    if (device->features.amx_int8) {
        measure->integer = measure_integer_amxint8;
        return;
    }
    if (device->features.avx512_vnni) {
        measure->integer = measure_integer_avx512vnni;
        return;
    }
#else
    (void)device;
#endif
    measure->integer = measure->kernels->integer;
}

llcuda_status cpu_device_measure(struct device *base, struct device_ceilings *ceilings,
                                 struct llcuda_error *error)
{
    struct cpu_device *device = (struct cpu_device *)base;
    struct region buffer = {0};
    struct region state = {0};
    uint64_t free_bytes = memory_free_bytes();
    uint64_t bytes = BUFFER_BYTES;
    while (free_bytes && bytes > free_bytes / 4 && bytes > 2 * ITEM_BYTES) {
        bytes /= 2;
    }
    if (!region_map(&state, sizeof(struct measure)) || !region_map(&buffer, bytes)) {
        region_unmap(&state);
        return error_no_memory(error, "the measurement of memory", bytes);
    }
    struct measure *measure = state.data;
    measure->data = buffer.data;
    measure->bytes = bytes;
    choose(measure, device);
    uint32_t threads = pool_thread_count(device->pool);
    uint64_t items = bytes / ITEM_BYTES;
    *ceilings = (struct device_ceilings){0};
    pool_run(device->pool, items, fill_item, measure);
    ceilings->read_bytes_per_second = best_rate(device->pool, items, read_item, measure);
    /* As many bytes are read as are written. */
    ceilings->copy_bytes_per_second = 2 * best_rate(device->pool, items / 2, copy_item, measure);
    double multiply_ns = best_ns(device->pool, multiply_item, measure);
    ceilings->flop_per_second = sum_values(measure, threads) / multiply_ns * 1e9;
    if (measure->integer) {
        double integer_ns = best_ns(device->pool, integer_item, measure);
        ceilings->integer_op_per_second = sum_values(measure, threads) / integer_ns * 1e9;
    }
    region_unmap(&buffer);
    region_unmap(&state);
    return LLCUDA_OK;
}
