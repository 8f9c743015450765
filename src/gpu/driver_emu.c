/* Owns the driver that needs no GPU: kernels compiled by the system's C++ compiler and run on the
 * CPU, in order, by the thread that calls.
 *
 * Device memory is ordinary memory, each allocation of exactly its size, so that a sanitizer build
 * sees a kernel leave it; copies are checked against the live allocations in every build. Streams
 * do their work when it is submitted. Every call that can fail counts itself and can be made to
 * fail (struct gpu_faults). It must not know what kernels compute. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "gpu/emu_internal.h"
#include "gpu/library.h"

#define MEMORY_BYTES_DEFAULT (8ull << 30)
#define POISON_BYTES_MAX     (64ull << 20)
#define MULTIPROCESSORS      4u

static struct emu_driver *driver_of(struct gpu_driver *table)
{
    return (struct emu_driver *)table;
}

void emu_count(uint64_t *counter, int64_t change)
{
    __atomic_fetch_add(counter, (uint64_t)change, __ATOMIC_RELAXED);
}

llcuda_status emu_enter(struct emu_driver *driver, const char *call, struct llcuda_error *error)
{
    struct gpu_faults *faults = driver->faults;
    const uint64_t number = __atomic_add_fetch(&faults->calls, 1, __ATOMIC_RELAXED);
    if (number == faults->fail_at) {
        return error_set(error, LLCUDA_DEVICE, "%s failed: injected at call %llu", call,
                         (unsigned long long)number);
    }
    return LLCUDA_OK;
}

/* An allocation is about to be made. */
static llcuda_status enter_allocation(struct emu_driver *driver, const char *call, uint64_t bytes,
                                      struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver, call, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct gpu_faults *faults = driver->faults;
    if (++faults->allocations == faults->fail_alloc_at) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY, "%s of %llu bytes failed: injected", call,
                         (unsigned long long)bytes);
    }
    return LLCUDA_OK;
}

/* Device memory. */

/* Index of the first allocation above `address`. */
static size_t allocation_after(const struct emu_driver *driver, uint64_t address)
{
    size_t low = 0;
    size_t high = driver->allocation_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (driver->allocations[middle].address > address) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

llcuda_status emu_range_check(const struct emu_driver *driver, const char *call, uint64_t address,
                              uint64_t bytes, struct llcuda_error *error)
{
    const size_t after = allocation_after(driver, address);
    if (after > 0) {
        const struct emu_allocation *found = &driver->allocations[after - 1];
        const uint64_t offset = address - found->address;
        if (offset <= found->bytes && bytes <= found->bytes - offset) {
            return LLCUDA_OK;
        }
    }
    return error_set(error, LLCUDA_DEVICE,
                     "%s: %llu bytes at 0x%llx are not inside one device allocation", call,
                     (unsigned long long)bytes, (unsigned long long)address);
}

static llcuda_status memory_info(struct gpu_driver *table, uint64_t *free_bytes,
                                 uint64_t *total_bytes, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "memory_info", error);
    if (status == LLCUDA_OK) {
        *total_bytes = driver->memory_bytes;
        *free_bytes = driver->memory_bytes - driver->used_bytes;
    }
    return status;
}

static llcuda_status allocation_add(struct emu_driver *driver, void *memory, uint64_t bytes,
                                    struct llcuda_error *error)
{
    const uint64_t address = (uint64_t)(uintptr_t)memory;
    if (driver->allocation_count == driver->allocation_capacity) {
        const size_t capacity = driver->allocation_capacity * 2 + 16;
        struct emu_allocation *grown =
            realloc(driver->allocations, capacity * sizeof *driver->allocations);
        if (!grown) {
            return error_no_memory(error, "device memory", bytes);
        }
        driver->allocations = grown;
        driver->allocation_capacity = capacity;
    }
    const size_t at = allocation_after(driver, address);
    memmove(driver->allocations + at + 1, driver->allocations + at,
            (driver->allocation_count - at) * sizeof *driver->allocations);
    driver->allocations[at] = (struct emu_allocation){address, bytes};
    driver->allocation_count++;
    driver->used_bytes += bytes;
    return LLCUDA_OK;
}

static llcuda_status memory_alloc(struct gpu_driver *table, uint64_t bytes, uint64_t *address,
                                  struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    void *memory;
    llcuda_status status = enter_allocation(driver, "memory_alloc", bytes, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (bytes == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "memory_alloc of 0 bytes");
    }
    if (bytes > driver->memory_bytes - driver->used_bytes ||
        posix_memalign(&memory, 256, bytes) != 0) {
        return error_set(error, LLCUDA_OUT_OF_MEMORY,
                         "memory_alloc: %llu bytes wanted, %llu of %llu free",
                         (unsigned long long)bytes,
                         (unsigned long long)(driver->memory_bytes - driver->used_bytes),
                         (unsigned long long)driver->memory_bytes);
    }
    status = allocation_add(driver, memory, bytes, error);
    if (status != LLCUDA_OK) {
        free(memory);
        return status;
    }
    /* Real memory holds what was there before: here NaNs, as far as that costs little. */
    memset(memory, 0xff, bytes < POISON_BYTES_MAX ? bytes : POISON_BYTES_MAX);
    emu_count(&driver->faults->live_allocations, 1);
    *address = (uint64_t)(uintptr_t)memory;
    return LLCUDA_OK;
}

static void memory_free(struct gpu_driver *table, uint64_t address)
{
    struct emu_driver *driver = driver_of(table);
    const size_t after = allocation_after(driver, address);
    if (address == 0 || after == 0 || driver->allocations[after - 1].address != address) {
        return; /* not an allocation: live_allocations will tell */
    }
    driver->used_bytes -= driver->allocations[after - 1].bytes;
    memmove(driver->allocations + after - 1, driver->allocations + after,
            (driver->allocation_count - after) * sizeof *driver->allocations);
    driver->allocation_count--;
    free((void *)(uintptr_t)address);
    emu_count(&driver->faults->live_allocations, -1);
}

static llcuda_status host_alloc(struct gpu_driver *table, uint64_t bytes, void **memory,
                                struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = enter_allocation(driver, "host_alloc", bytes, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (posix_memalign(memory, 4096, bytes ? bytes : 1) != 0) {
        return error_no_memory(error, "pinned host memory", bytes);
    }
    emu_count(&driver->faults->live_allocations, 1);
    return LLCUDA_OK;
}

static void host_free(struct gpu_driver *table, void *memory)
{
    if (memory) {
        free(memory);
        emu_count(&driver_of(table)->faults->live_allocations, -1);
    }
}

/* Copies and fills. Device addresses are the addresses of ordinary memory here. */

static char *device_pointer(uint64_t address)
{
    return (char *)(uintptr_t)address;
}

static llcuda_status submit_copy(struct emu_driver *driver, struct gpu_stream *stream,
                                 const char *call, struct emu_work *work, bool to_device,
                                 bool from_device, struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver, call, error);
    if (status == LLCUDA_OK && to_device) {
        status = emu_range_check(driver, call, (uint64_t)(uintptr_t)work->to, work->bytes, error);
    }
    if (status == LLCUDA_OK && from_device) {
        status = emu_range_check(driver, call, (uint64_t)(uintptr_t)work->from, work->bytes, error);
    }
    return status == LLCUDA_OK ? emu_submit(driver, stream, work, error) : status;
}

static llcuda_status copy_in(struct gpu_driver *table, struct gpu_stream *stream, uint64_t to,
                             const void *from, uint64_t bytes, struct llcuda_error *error)
{
    struct emu_work work = {
        .kind = EMU_COPY, .to = device_pointer(to), .from = from, .bytes = bytes};
    return submit_copy(driver_of(table), stream, "copy_in", &work, true, false, error);
}

static llcuda_status copy_out(struct gpu_driver *table, struct gpu_stream *stream, void *to,
                              uint64_t from, uint64_t bytes, struct llcuda_error *error)
{
    struct emu_work work = {
        .kind = EMU_COPY, .to = to, .from = device_pointer(from), .bytes = bytes};
    return submit_copy(driver_of(table), stream, "copy_out", &work, false, true, error);
}

static llcuda_status copy(struct gpu_driver *table, struct gpu_stream *stream, uint64_t to,
                          uint64_t from, uint64_t bytes, struct llcuda_error *error)
{
    struct emu_work work = {
        .kind = EMU_COPY, .to = device_pointer(to), .from = device_pointer(from), .bytes = bytes};
    return submit_copy(driver_of(table), stream, "copy", &work, true, true, error);
}

static llcuda_status fill(struct gpu_driver *table, struct gpu_stream *stream, uint64_t to,
                          uint8_t value, uint64_t bytes, struct llcuda_error *error)
{
    struct emu_work work = {
        .kind = EMU_FILL, .to = device_pointer(to), .value = value, .bytes = bytes};
    return submit_copy(driver_of(table), stream, "fill", &work, true, false, error);
}

/* Streams and events. */

/* The size of every object that is made through this: counted, zeroed. */
static void *object_create(struct emu_driver *driver, const char *call, size_t bytes,
                           llcuda_status *status, struct llcuda_error *error)
{
    *status = emu_enter(driver, call, error);
    if (*status != LLCUDA_OK) {
        return NULL;
    }
    void *object = calloc(1, bytes);
    if (!object) {
        *status = error_no_memory(error, call, bytes);
        return NULL;
    }
    emu_count(&driver->faults->live_objects, 1);
    return object;
}

static void object_destroy(struct gpu_driver *table, void *object)
{
    if (object) {
        free(object);
        emu_count(&driver_of(table)->faults->live_objects, -1);
    }
}

static llcuda_status stream_create(struct gpu_driver *table, struct gpu_stream **stream,
                                   struct llcuda_error *error)
{
    llcuda_status status;
    *stream = object_create(driver_of(table), "stream_create", sizeof **stream, &status, error);
    return status;
}

static void stream_destroy(struct gpu_driver *table, struct gpu_stream *stream)
{
    if (stream && stream->capture) {
        emu_graph_free(stream->capture);
    }
    object_destroy(table, stream);
}

/* What every wait does: a device that hangs ends no work. */
static llcuda_status wait(struct emu_driver *driver, const char *call, uint32_t timeout_ms,
                          struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver, call, error);
    if (status == LLCUDA_OK && driver->faults->hang && timeout_ms) {
        if (driver->faults->hang_waits) {
            const struct timespec pause = {timeout_ms / 1000, timeout_ms % 1000 * 1000000l};
            nanosleep(&pause, NULL);
        }
        status = error_set(error, LLCUDA_TIMEOUT, "%s: no answer within %u ms", call, timeout_ms);
    }
    return status;
}

static llcuda_status stream_wait(struct gpu_driver *table, struct gpu_stream *stream,
                                 uint32_t timeout_ms, struct llcuda_error *error)
{
    llcuda_status status = wait(driver_of(table), "stream_wait", timeout_ms, error);
    if (status == LLCUDA_OK && stream->capture) {
        status = error_set(error, LLCUDA_DEVICE, "stream_wait during a capture");
    }
    return status;
}

static llcuda_status stream_wait_event(struct gpu_driver *table, struct gpu_stream *stream,
                                       struct gpu_event *event, struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "stream_wait_event", error);
    if (status == LLCUDA_OK && stream->capture != event->capture && event->capture) {
        status = error_set(error, LLCUDA_UNSUPPORTED,
                           "stream_wait_event: the emulated GPU captures one stream at a time");
    }
    return status;
}

static llcuda_status event_create(struct gpu_driver *table, bool timing, struct gpu_event **event,
                                  struct llcuda_error *error)
{
    llcuda_status status;
    *event = object_create(driver_of(table), "event_create", sizeof **event, &status, error);
    if (*event) {
        (*event)->timing = timing;
    }
    return status;
}

static void event_destroy(struct gpu_driver *table, struct gpu_event *event)
{
    object_destroy(table, event);
}

static llcuda_status event_record(struct gpu_driver *table, struct gpu_event *event,
                                  struct gpu_stream *stream, struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "event_record", error);
    if (status == LLCUDA_OK) {
        event->capture = stream->capture;
        event->recorded = !stream->capture;
        event->time_ns = clock_now_ns();
    }
    return status;
}

static llcuda_status event_wait(struct gpu_driver *table, struct gpu_event *event,
                                uint32_t timeout_ms, struct llcuda_error *error)
{
    llcuda_status status = wait(driver_of(table), "event_wait", timeout_ms, error);
    if (status == LLCUDA_OK && event->capture) {
        status = error_set(error, LLCUDA_DEVICE, "event_wait for an event of a capture");
    }
    return status;
}

static llcuda_status event_elapsed(struct gpu_driver *table, struct gpu_event *from,
                                   struct gpu_event *to, double *milliseconds,
                                   struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "event_elapsed", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (!from->timing || !to->timing || !from->recorded || !to->recorded) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "event_elapsed: both events must be made with timing and recorded");
    }
    *milliseconds = ((double)to->time_ns - (double)from->time_ns) / 1e6;
    return LLCUDA_OK;
}

/* Kernels. */

static llcuda_status compile(struct gpu_driver *table, const struct gpu_compile_request *request,
                             struct buffer *binary, struct buffer *log, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "compile", error);
    return status == LLCUDA_OK ? emu_compile(&driver->compiler, request, binary, log, error)
                               : status;
}

static llcuda_status launch_check(const struct gpu_function *function,
                                  const struct gpu_launch *launch, uint32_t argument_bytes,
                                  struct llcuda_error *error)
{
    const struct emu_kernel *kernel = function->kernel;
    const uint32_t threads_max = kernel->threads_max ? kernel->threads_max : EMU_THREADS_MAX;
    const uint32_t *grid = launch->grid;
    if (launch->block[1] != 1 || launch->block[2] != 1 || launch->block[0] == 0 ||
        launch->block[0] > threads_max || launch->block[0] > EMU_THREADS_MAX) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "launch of '%s': a block of %u x %u x %u threads, at most %u x 1 x 1",
                         kernel->name, launch->block[0], launch->block[1], launch->block[2],
                         threads_max);
    }
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > INT32_MAX || grid[1] > 65535 ||
        grid[2] > 65535 || (uint64_t)grid[0] * grid[1] * grid[2] > UINT32_MAX) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "launch of '%s': a grid of %u x %u x %u",
                         kernel->name, grid[0], grid[1], grid[2]);
    }
    if (launch->shared_bytes > function->shared_limit) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "launch of '%s': %u bytes of shared memory, but function_shared_limit "
                         "allows %u",
                         kernel->name, launch->shared_bytes, function->shared_limit);
    }
    if (argument_bytes != kernel->argument_bytes) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "launch of '%s': %u bytes of arguments, but the kernel takes %u",
                         kernel->name, argument_bytes, kernel->argument_bytes);
    }
    return LLCUDA_OK;
}

static llcuda_status launch(struct gpu_driver *table, struct gpu_stream *stream,
                            struct gpu_function *function, const struct gpu_launch *launch,
                            const void *arguments, uint32_t argument_bytes,
                            struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "launch", error);
    if (status == LLCUDA_OK) {
        status = launch_check(function, launch, argument_bytes, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    struct emu_work work = {.kind = EMU_LAUNCH, .function = function, .launch = *launch};
    if (posix_memalign(&work.arguments, 64, argument_bytes ? argument_bytes : 1)) {
        return error_no_memory(error, "arguments of a kernel", argument_bytes);
    }
    memcpy(work.arguments, arguments, argument_bytes);
    return emu_submit(driver, stream, &work, error);
}

static llcuda_status tensor_map(struct gpu_driver *table, const struct gpu_tensor_shape *shape,
                                uint64_t map[16], struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "tensor_map", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct emu_tensor_map made = {
        .address = shape->address,
        .size = {shape->columns, 1, 1, 1},
        .box = {64, 1, 1, 1},
        .magic = EMU_TENSOR_MAP_MAGIC,
    };
    bool fits = shape->dimensions >= 2 && shape->dimensions <= 4 && shape->address % 16 == 0 &&
                shape->columns % 8 == 0;
    for (uint32_t i = 0; i + 1 < shape->dimensions && fits; i++) {
        made.stride[i] = shape->row_strides[i];
        made.size[i + 1] = shape->rows[i];
        made.box[i + 1] = shape->box_rows[i];
        fits = made.stride[i] % 16 == 0 && made.size[i + 1] != 0 && made.box[i + 1] != 0 &&
               made.box[i + 1] <= 256;
    }
    memset(map, 0, 16 * sizeof *map);
    memcpy(map, &made, sizeof made);
    return fits ? LLCUDA_OK
                : error_set(error, LLCUDA_INVALID_ARGUMENT, "tensor_map: no shape for boxes");
}

/* Graphs. */

static llcuda_status capture_begin(struct gpu_driver *table, struct gpu_stream *stream,
                                   struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "capture_begin", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (stream->capture) {
        return error_set(error, LLCUDA_DEVICE, "capture_begin: the stream is being captured");
    }
    stream->capture = calloc(1, sizeof *stream->capture);
    if (!stream->capture) {
        return error_no_memory(error, "a graph", sizeof *stream->capture);
    }
    stream->capture->driver = driver;
    return LLCUDA_OK;
}

/* Also when it fails the stream is captured no more. */
static llcuda_status capture_end(struct gpu_driver *table, struct gpu_stream *stream,
                                 struct gpu_graph **graph, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "capture_end", error);
    struct gpu_graph *captured = stream->capture;
    stream->capture = NULL;
    if (status == LLCUDA_OK && !captured) {
        status = error_set(error, LLCUDA_DEVICE, "capture_end: the stream is not being captured");
    }
    if (status != LLCUDA_OK) {
        if (captured) {
            emu_graph_free(captured);
        }
        return status;
    }
    emu_count(&driver->faults->live_objects, 1);
    *graph = captured;
    return LLCUDA_OK;
}

static llcuda_status graph_launch(struct gpu_driver *table, struct gpu_stream *stream,
                                  struct gpu_graph *graph, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "graph_launch", error);
    if (status == LLCUDA_OK && stream->capture) {
        status = error_set(error, LLCUDA_DEVICE, "graph_launch during a capture");
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    emu_count(&driver->faults->graph_launches, 1);
    return emu_graph_run(driver, graph, error);
}

static void graph_destroy(struct gpu_driver *table, struct gpu_graph *graph)
{
    if (graph) {
        emu_graph_free(graph);
        emu_count(&driver_of(table)->faults->live_objects, -1);
    }
}

/* Matrix products in plain C, where asked for: they stand in for a vendor's library. */

static llcuda_status matmul_create(struct gpu_driver *table, const struct gpu_matmul_shape *shape,
                                   struct gpu_matmul **matmul, struct llcuda_error *error)
{
    llcuda_status status;
    if ((shape->weight != DTYPE_F16 && shape->weight != DTYPE_BF16) ||
        (shape->output != DTYPE_F32 && shape->output != shape->weight) ||
        shape->output_stride < shape->rows) {
        return error_set(error, LLCUDA_UNSUPPORTED, "matmul_create: types or strides");
    }
    *matmul = object_create(driver_of(table), "matmul_create", sizeof **matmul, &status, error);
    if (*matmul) {
        (*matmul)->shape = *shape;
    }
    return status;
}

static void matmul_destroy(struct gpu_driver *table, struct gpu_matmul *matmul)
{
    object_destroy(table, matmul);
}

static llcuda_status matmul_run(struct gpu_driver *table, struct gpu_stream *stream,
                                struct gpu_matmul *matmul, uint64_t y, uint64_t x, uint64_t weight,
                                uint64_t workspace, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    const struct gpu_matmul_shape *shape = &matmul->shape;
    const uint64_t output_bytes = shape->output == DTYPE_F32 ? 4 : 2;
    const uint64_t y_elements = (uint64_t)(shape->n - 1) * shape->output_stride + shape->rows;
    llcuda_status status = emu_enter(driver, "matmul_run", error);
    if (status == LLCUDA_OK) {
        status = emu_range_check(driver, "matmul_run, y", y, y_elements * output_bytes, error);
    }
    if (status == LLCUDA_OK) {
        status = emu_range_check(driver, "matmul_run, x", x,
                                 (uint64_t)shape->n * shape->columns * 2, error);
    }
    if (status == LLCUDA_OK) {
        status = emu_range_check(driver, "matmul_run, weight", weight,
                                 (uint64_t)shape->rows * shape->columns * 2, error);
    }
    if (status == LLCUDA_OK) {
        status = emu_range_check(driver, "matmul_run, workspace", workspace,
                                 GPU_MATMUL_WORKSPACE_BYTES, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    struct emu_work work = {.kind = EMU_MATMUL,
                            .to = device_pointer(y),
                            .from = device_pointer(x),
                            .weight = device_pointer(weight),
                            .shape = *shape};
    return emu_submit(driver, stream, &work, error);
}

/* The device. */

static llcuda_status attach(struct gpu_driver *table, struct llcuda_error *error)
{
    return emu_enter(driver_of(table), "attach", error);
}

static void describe(const struct gpu_driver *table, struct gpu_device_info *info)
{
    const struct emu_driver *driver = (const struct emu_driver *)table;
    *info = (struct gpu_device_info){
        .name = "emulated GPU",
        .vendor = GPU_EMU,
        .multiprocessor_count = MULTIPROCESSORS,
        .warp_size = EMU_WARP_SIZE,
        .shared_bytes_block_max = EMU_SHARED_BYTES_MAX,
        .shared_bytes_multiprocessor = EMU_SHARED_BYTES_MAX + 1024,
        .threads_multiprocessor_max = 2048,
        .registers_multiprocessor = 65536,
        .memory_bytes = driver->memory_bytes,
        .l2_bytes = 32u << 20,
        .driver_version = EMU_ABI_VERSION,
        .compiler_version = driver->compiler.version,
    };
    snprintf(info->arch, sizeof info->arch, "%s", emu_arch());
}

static llcuda_status telemetry(struct gpu_driver *table, struct gpu_telemetry *telemetry,
                               struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "telemetry", error);
    if (status == LLCUDA_OK) {
        const double unknown = __builtin_nan("");
        *telemetry = (struct gpu_telemetry){
            unknown, unknown, unknown, unknown, unknown, unknown, driver->used_bytes, false};
    }
    return status;
}

static void close_driver(struct gpu_driver *table)
{
    struct emu_driver *driver = driver_of(table);
    /* What the caller forgot stays counted in live_allocations, but is given back. */
    for (size_t i = 0; i < driver->allocation_count; i++) {
        free((void *)(uintptr_t)driver->allocations[i].address);
    }
    free(driver->allocations);
    emu_runner_destroy(driver->runner);
    free(driver);
}

static const struct gpu_driver entries = {
    .close = close_driver,
    .attach = attach,
    .describe = describe,
    .telemetry = telemetry,
    .memory_info = memory_info,
    .memory_alloc = memory_alloc,
    .memory_free = memory_free,
    .host_alloc = host_alloc,
    .host_free = host_free,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .copy = copy,
    .fill = fill,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_wait = stream_wait,
    .stream_wait_event = stream_wait_event,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_elapsed = event_elapsed,
    .compile = compile,
    .launch = launch,
    .tensor_map = tensor_map,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
};

llcuda_status gpu_driver_open_emu(const struct gpu_open_options *options,
                                  struct gpu_driver **result, struct llcuda_error *error)
{
    if (options->index != 0) {
        return error_set(error, LLCUDA_NOT_FOUND, "there is one emulated GPU, number 0, not %u",
                         options->index);
    }
    struct emu_driver *driver = calloc(1, sizeof *driver);
    if (!driver) {
        return error_no_memory(error, "the emulated device", sizeof *driver);
    }
    driver->table = entries;
    emu_module_entries(&driver->table);
    if (options->emu_matmul) {
        driver->table.matmul_create = matmul_create;
        driver->table.matmul_destroy = matmul_destroy;
        driver->table.matmul_run = matmul_run;
    }
    driver->faults = options->faults ? options->faults : &driver->own_faults;
    driver->memory_bytes =
        options->emu_memory_bytes ? options->emu_memory_bytes : MEMORY_BYTES_DEFAULT;
    if (options->cache) {
        snprintf(driver->cache, sizeof driver->cache, "%s", options->cache);
    }
    llcuda_status status =
        emu_runner_create(options->emu_order, options->emu_seed, &driver->runner, error);
    if (status != LLCUDA_OK) {
        free(driver);
        return status;
    }
    static const char *const compilers[] = {"c++", NULL};
    char given[LIBRARY_PATH_BYTES];
    const char *compiler = options->compiler;
    if (!compiler && library_find(compilers, options->library_path, given)) {
        compiler = given;
    }
    emu_compiler_find(&driver->compiler, compiler, options->cache);
    *result = &driver->table;
    return LLCUDA_OK;
}
