/* Measures a GPU's ceilings with the kernels of src/kernels/measure.cu. Owns its memory and module
 * for the time of one call. Best of a few repetitions, since a ceiling is what can be reached. */
#include "gpu/measure.h"

#include "gpu/jit.h"
#include "kernels/arguments_measure.h"

#define BYTES_DEFAULT       (2ull << 30)
#define HOST_BYTES          (64ull << 20)
#define MATRIX_SIZE_DEFAULT 8192u
#define REPETITIONS_DEFAULT 5u
#define MATRIX_ROUNDS       20000u
#define EMU_BYTES           (1ull << 20) /* what threads of a processor do in a moment */
#define EMU_ROUNDS          4u
#define MATRIX_FLOP         4096.0 /* of one mma: 16 · 8 · 16 · 2 */
#define WARP                32u

struct measuring {
    struct gpu_driver *driver;
    struct gpu_device_info info;
    struct gpu_stream *stream;
    struct gpu_event *begin, *end;
    struct gpu_module *module;
    struct gpu_function *fill, *read, *matrix;
    struct gpu_matmul *matmul;
    uint64_t memory, target, workspace; /* device addresses */
    void *host;
    uint64_t bytes;
    uint32_t matrix_size, repetitions;
};

static llcuda_status compile(struct measuring *m, struct llcuda_error *error)
{
    static const char *const files[] = {"arguments_measure.h", "measure.cu"};
    static const struct gpu_jit_options options = {.thread_count = 1};
    const struct gpu_jit_module module = {.name = "measure",
                                          .prelude =
                                              text_view_of("#define KERNEL_POINTER(type) type *\n"),
                                          .files = files,
                                          .file_count = 2};
    const struct {
        const char *name;
        struct gpu_function **function;
    } functions[] = {
        {"measure_fill", &m->fill}, {"measure_read", &m->read}, {"measure_matrix", &m->matrix}};
    struct gpu_driver *driver = m->driver;
    struct gpu_jit *jit = NULL;
    llcuda_status status = gpu_jit_create(driver, &options, &jit, error);
    if (!status) {
        status = gpu_jit_load(jit, &module, &m->module, error);
    }
    for (size_t i = 0; !status && i < sizeof functions / sizeof *functions; i++) {
        status = driver->function_get(driver, m->module, functions[i].name, functions[i].function,
                                      error);
    }
    gpu_jit_destroy(jit);
    return status;
}

static llcuda_status prepare(struct measuring *m, const struct gpu_measure_options *options,
                             struct llcuda_error *error)
{
    struct gpu_driver *driver = m->driver;
    uint64_t free_bytes = 0, total_bytes = 0;
    driver->describe(driver, &m->info);
    m->repetitions = options && options->repetitions ? options->repetitions : REPETITIONS_DEFAULT;
    m->matrix_size = options && options->matrix_size ? options->matrix_size : MATRIX_SIZE_DEFAULT;
    llcuda_status status = driver->memory_info(driver, &free_bytes, &total_bytes, error);
    if (status) {
        return status;
    }
    /* One size that every grid of read_rate divides. */
    uint64_t unit = 16ull * MEASURE_LOADS * MEASURE_THREADS * 4 * m->info.multiprocessor_count;
    m->bytes = BYTES_DEFAULT < free_bytes / 4 ? BYTES_DEFAULT : free_bytes / 4;
    m->bytes = m->info.vendor == GPU_EMU ? EMU_BYTES : m->bytes;
    m->bytes = options && options->bytes ? options->bytes : m->bytes;
    m->bytes = m->bytes < unit ? unit : m->bytes / unit * unit;
    status = compile(m, error);
    if (!status) {
        status = driver->stream_create(driver, &m->stream, error);
    }
    if (!status) {
        status = driver->event_create(driver, true, &m->begin, error);
    }
    if (!status) {
        status = driver->event_create(driver, true, &m->end, error);
    }
    if (!status) {
        status = driver->memory_alloc(driver, m->bytes, &m->memory, error);
    }
    if (!status) {
        status = driver->memory_alloc(driver, 256, &m->target, error);
    }
    if (!status) {
        status = driver->host_alloc(driver, HOST_BYTES, &m->host, error);
    }
    return status;
}

static void release(struct measuring *m)
{
    struct gpu_driver *driver = m->driver;
    if (driver->matmul_destroy) {
        driver->matmul_destroy(driver, m->matmul);
    }
    driver->host_free(driver, m->host);
    driver->memory_free(driver, m->workspace);
    driver->memory_free(driver, m->target);
    driver->memory_free(driver, m->memory);
    driver->event_destroy(driver, m->end);
    driver->event_destroy(driver, m->begin);
    driver->stream_destroy(driver, m->stream);
    driver->module_unload(driver, m->module);
}

static llcuda_status launch(struct measuring *m, struct gpu_function *function, uint32_t blocks,
                            uint32_t rounds, uint64_t to, struct llcuda_error *error)
{
    struct measure_arguments arguments = {
        .from = m->memory, .to = to, .bytes = m->bytes, .rounds = rounds};
    struct gpu_launch shape = {.grid = {blocks, 1, 1}, .block = {MEASURE_THREADS, 1, 1}};
    return m->driver->launch(m->driver, m->stream, function, &shape, &arguments, sizeof arguments,
                             error);
}

/* One of the things that are timed; `variant` 0, 1, … until `variants`. */
typedef llcuda_status timed_work(struct measuring *m, uint32_t variant, struct llcuda_error *error);

static llcuda_status time_once(struct measuring *m, timed_work *work, uint32_t variant,
                               double *milliseconds, struct llcuda_error *error)
{
    struct gpu_driver *driver = m->driver;
    llcuda_status status = driver->event_record(driver, m->begin, m->stream, error);
    if (!status) {
        status = work(m, variant, error);
    }
    if (!status) {
        status = driver->event_record(driver, m->end, m->stream, error);
    }
    if (!status) {
        status = driver->stream_wait(driver, m->stream, 0, error);
    }
    return status ? status : driver->event_elapsed(driver, m->begin, m->end, milliseconds, error);
}

/* The shortest time of all variants and repetitions, the first of each not counted. */
static llcuda_status time_best(struct measuring *m, timed_work *work, uint32_t variants,
                               double *seconds, struct llcuda_error *error)
{
    double best = 0;
    for (uint32_t variant = 0; variant < variants; variant++) {
        for (uint32_t i = 0; i <= m->repetitions; i++) {
            double milliseconds = 0;
            llcuda_status status = time_once(m, work, variant, &milliseconds, error);
            if (status) {
                return status;
            }
            if (i && milliseconds > 0 && (best == 0 || milliseconds < best)) {
                best = milliseconds;
            }
        }
    }
    *seconds = best / 1e3;
    return LLCUDA_OK;
}

static llcuda_status work_read(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    return launch(m, m->read, m->info.multiprocessor_count << variant, 0, m->target, error);
}

static llcuda_status work_copy(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    (void)variant;
    uint64_t half = m->bytes / 2;
    return m->driver->copy(m->driver, m->stream, m->memory, m->memory + half, half, error);
}

static uint64_t host_bytes(const struct measuring *m)
{
    return m->bytes < HOST_BYTES ? m->bytes : HOST_BYTES;
}

static llcuda_status work_in(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    (void)variant;
    return m->driver->copy_in(m->driver, m->stream, m->memory, m->host, host_bytes(m), error);
}

static llcuda_status work_out(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    (void)variant;
    return m->driver->copy_out(m->driver, m->stream, m->host, m->memory, host_bytes(m), error);
}

static uint32_t matrix_rounds(const struct measuring *m)
{
    return m->info.vendor == GPU_EMU ? EMU_ROUNDS : MATRIX_ROUNDS;
}

static llcuda_status work_matrix(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    (void)variant;
    return launch(m, m->matrix, m->info.multiprocessor_count, matrix_rounds(m), m->target, error);
}

/* x and W lie one after the other at the beginning of the memory, y behind them. */
static llcuda_status work_matmul(struct measuring *m, uint32_t variant, struct llcuda_error *error)
{
    (void)variant;
    uint64_t bytes = 2ull * m->matrix_size * m->matrix_size;
    return m->driver->matmul_run(m->driver, m->stream, m->matmul, m->memory + 2 * bytes, m->memory,
                                 m->memory + bytes, m->workspace, error);
}

/* The vendor's product when there is one that fits the memory; its failure is no failure of ours.
 */
static bool prepare_matmul(struct measuring *m)
{
    struct gpu_driver *driver = m->driver;
    uint64_t bytes = 2ull * m->matrix_size * m->matrix_size;
    const struct gpu_matmul_shape shape = {.weight = DTYPE_BF16,
                                           .output = DTYPE_BF16,
                                           .n = m->matrix_size,
                                           .rows = m->matrix_size,
                                           .columns = m->matrix_size,
                                           .output_stride = m->matrix_size};
    return driver->matmul_create && 3 * bytes <= m->bytes &&
           !driver->matmul_create(driver, &shape, &m->matmul, NULL) &&
           !driver->memory_alloc(driver, GPU_MATMUL_WORKSPACE_BYTES, &m->workspace, NULL);
}

static llcuda_status matrix_rate(struct measuring *m, struct gpu_ceilings *ceilings,
                                 struct llcuda_error *error)
{
    double seconds = 0, flop = 0;
    llcuda_status status =
        launch(m, m->fill, m->info.multiprocessor_count * 2, 0, m->memory, error);
    if (!status && prepare_matmul(m)) {
        ceilings->matrix_vendor = true;
        flop = 2.0 * m->matrix_size * m->matrix_size * m->matrix_size;
        status = time_best(m, work_matmul, 1, &seconds, error);
    } else if (!status) {
        flop = MATRIX_FLOP * MEASURE_TILES * matrix_rounds(m) * (MEASURE_THREADS / WARP) *
               m->info.multiprocessor_count;
        status = time_best(m, work_matrix, 1, &seconds, error);
    }
    ceilings->matrix_flop_per_second = seconds > 0 ? flop / seconds : 0;
    return status;
}

llcuda_status gpu_measure(struct gpu_driver *driver, const struct gpu_measure_options *options,
                          struct gpu_ceilings *ceilings, struct llcuda_error *error)
{
    struct measuring m = {.driver = driver};
    double seconds[4] = {0};
    *ceilings = (struct gpu_ceilings){0};
    llcuda_status status = prepare(&m, options, error);
    if (!status) {
        status = launch(&m, m.fill, m.info.multiprocessor_count * 2, 0, m.memory, error);
    }
    if (!status) {
        status = time_best(&m, work_read, 3, &seconds[0], error);
    }
    if (!status) {
        status = time_best(&m, work_copy, 1, &seconds[1], error);
    }
    if (!status) {
        status = time_best(&m, work_in, 1, &seconds[2], error);
    }
    if (!status) {
        status = time_best(&m, work_out, 1, &seconds[3], error);
    }
    if (!status) {
        const double bytes[] = {(double)m.bytes, (double)(m.bytes), (double)host_bytes(&m),
                                (double)host_bytes(&m)};
        double *const rates[] = {&ceilings->read_bytes_per_second, &ceilings->copy_bytes_per_second,
                                 &ceilings->to_device_bytes_per_second,
                                 &ceilings->from_device_bytes_per_second};
        for (int i = 0; i < 4; i++) {
            *rates[i] = seconds[i] > 0 ? bytes[i] / seconds[i] : 0;
        }
        status = matrix_rate(&m, ceilings, error);
    }
    release(&m);
    return status;
}
