/* What CUDA and HIP have in common of the driver table: devices, memory, copies, streams and
 * events. Owns the retained primary context of one device. Invariant: a handle of the table *is*
 * the vendor's handle, so that nothing has to be looked up; every call's result is checked and
 * named.
 *
 * One thread at a time. Knows nothing of kernels, models or pools. */
#include "gpu/cuda_driver.h"

#include "gpu/arch.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Waiting: a step is over in about a millisecond, so waits spin this long before they nap. */
#define SPIN_NS 20000000u
#define NAP_NS  20000
/* Queries between two looks at the clock. */
#define QUERIES_A_LOOK 32u

llcuda_status cuda_enter(struct cuda_driver *cuda, struct llcuda_error *error)
{
    return CUDA_CALL(cuda, error, context_set, cuda->context);
}

static llcuda_status attach(struct gpu_driver *driver, struct llcuda_error *error)
{
    return cuda_enter(cuda_driver_of(driver), error);
}

void cuda_describe(const struct gpu_driver *driver, struct gpu_device_info *info)
{
    *info = ((const struct cuda_driver *)driver)->info;
}

static llcuda_status memory_info(struct gpu_driver *driver, uint64_t *free_bytes,
                                 uint64_t *total_bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    size_t free_size = 0, total_size = 0;
    llcuda_status status = cuda_enter(cuda, error);
    if (!status) {
        status = CUDA_CALL(cuda, error, memory_info, &free_size, &total_size);
    }
    *free_bytes = free_size;
    *total_bytes = total_size;
    return status;
}

/* Says how much was asked for and how much there is, which the vendor's sentence does not. */
static llcuda_status explain_no_memory(struct cuda_driver *cuda, uint64_t bytes, const char *what,
                                       llcuda_status status, struct llcuda_error *error)
{
    size_t free_size = 0, total_size = 0;
    if (status != LLCUDA_OUT_OF_MEMORY) {
        return status;
    }
    if (cuda->api.memory_info(&free_size, &total_size)) {
        return error_prefix(error, status, "no %.1f MiB of %s", (double)bytes / 0x1p20, what);
    }
    return error_prefix(error, status, "no %.1f MiB of %s (%.1f of the device's %.1f MiB are free)",
                        (double)bytes / 0x1p20, what, (double)free_size / 0x1p20,
                        (double)total_size / 0x1p20);
}

static llcuda_status memory_alloc(struct gpu_driver *driver, uint64_t bytes, uint64_t *address,
                                  struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    *address = 0;
    llcuda_status status = cuda_enter(cuda, error);
    if (!status && bytes) {
        status = CUDA_CALL(cuda, error, memory_alloc, address, bytes);
        status = explain_no_memory(cuda, bytes, "device memory", status, error);
    }
    return status;
}

static void memory_free(struct gpu_driver *driver, uint64_t address)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (address) {
        cuda_enter(cuda, NULL);
        cuda->api.memory_free(address);
    }
}

static llcuda_status host_alloc(struct gpu_driver *driver, uint64_t bytes, void **memory,
                                struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    *memory = NULL;
    llcuda_status status = cuda_enter(cuda, error);
    if (!status && bytes) {
        status = CUDA_CALL(cuda, error, host_alloc, memory, bytes, CUDA_HOST_PORTABLE);
        if (status == LLCUDA_OUT_OF_MEMORY) {
            error_prefix(error, status, "no %.1f MiB of pinned host memory",
                         (double)bytes / 0x1p20);
        }
    }
    return status;
}

static void host_free(struct gpu_driver *driver, void *memory)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (memory) {
        cuda_enter(cuda, NULL);
        cuda->api.host_free(memory);
    }
}

static llcuda_status copy_in(struct gpu_driver *driver, struct gpu_stream *stream, uint64_t to,
                             const void *from, uint64_t bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return bytes ? CUDA_CALL(cuda, error, copy_in, to, from, bytes, stream) : LLCUDA_OK;
}

static llcuda_status copy_out(struct gpu_driver *driver, struct gpu_stream *stream, void *to,
                              uint64_t from, uint64_t bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return bytes ? CUDA_CALL(cuda, error, copy_out, to, from, bytes, stream) : LLCUDA_OK;
}

static llcuda_status copy(struct gpu_driver *driver, struct gpu_stream *stream, uint64_t to,
                          uint64_t from, uint64_t bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return bytes ? CUDA_CALL(cuda, error, copy, to, from, bytes, stream) : LLCUDA_OK;
}

static llcuda_status fill(struct gpu_driver *driver, struct gpu_stream *stream, uint64_t to,
                          uint8_t value, uint64_t bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return bytes ? CUDA_CALL(cuda, error, fill, to, value, bytes, stream) : LLCUDA_OK;
}

static llcuda_status stream_create(struct gpu_driver *driver, struct gpu_stream **stream,
                                   struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    void *handle = NULL;
    llcuda_status status = cuda_enter(cuda, error);
    if (!status) {
        status = CUDA_CALL(cuda, error, stream_create, &handle, CUDA_STREAM_NON_BLOCKING);
    }
    *stream = handle;
    return status;
}

static void stream_destroy(struct gpu_driver *driver, struct gpu_stream *stream)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (stream) {
        cuda_enter(cuda, NULL);
        cuda->api.stream_destroy(stream);
    }
}

static void nap(void)
{
    struct timespec time = {0, NAP_NS};
    nanosleep(&time, NULL);
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Asks `query` about `handle` until it is no longer NOT_READY or the time is over. */
static llcuda_status poll(struct cuda_driver *cuda, int (*query)(void *), const char *call,
                          void *handle, uint32_t timeout_ms, struct llcuda_error *error)
{
    uint64_t start = clock_now_ns();
    uint64_t waited = 0;
    for (uint32_t count = 1;; count++) {
        int result = query(handle);
        if (result != CUDA_NOT_READY) {
            return cuda_check(&cuda->api, result, call, error);
        }
        if (count % QUERIES_A_LOOK == 0 || waited > SPIN_NS) {
            waited = clock_now_ns() - start;
        }
        if (timeout_ms && waited > (uint64_t)timeout_ms * 1000000u) {
            return error_set(error, LLCUDA_TIMEOUT, "%s: the device did not finish within %u ms",
                             call, timeout_ms);
        }
        if (waited > SPIN_NS) {
            nap();
        } else {
            pause_briefly();
        }
    }
}

static llcuda_status stream_wait(struct gpu_driver *driver, struct gpu_stream *stream,
                                 uint32_t timeout_ms, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return poll(cuda, cuda->api.stream_query, cuda->api.names->stream_query, stream, timeout_ms,
                error);
}

static llcuda_status stream_wait_event(struct gpu_driver *driver, struct gpu_stream *stream,
                                       struct gpu_event *event, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return CUDA_CALL(cuda, error, stream_wait_event, stream, event, 0);
}

static llcuda_status event_create(struct gpu_driver *driver, bool timing, struct gpu_event **event,
                                  struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    void *handle = NULL;
    llcuda_status status = cuda_enter(cuda, error);
    if (!status) {
        status = CUDA_CALL(cuda, error, event_create, &handle,
                           timing ? CUDA_EVENT_DEFAULT : CUDA_EVENT_DISABLE_TIMING);
    }
    *event = handle;
    return status;
}

static void event_destroy(struct gpu_driver *driver, struct gpu_event *event)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (event) {
        cuda_enter(cuda, NULL);
        cuda->api.event_destroy(event);
    }
}

static llcuda_status event_record(struct gpu_driver *driver, struct gpu_event *event,
                                  struct gpu_stream *stream, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return CUDA_CALL(cuda, error, event_record, event, stream);
}

static llcuda_status event_wait(struct gpu_driver *driver, struct gpu_event *event,
                                uint32_t timeout_ms, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return poll(cuda, cuda->api.event_query, cuda->api.names->event_query, event, timeout_ms,
                error);
}

static llcuda_status event_elapsed(struct gpu_driver *driver, struct gpu_event *from,
                                   struct gpu_event *to, double *milliseconds,
                                   struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    float elapsed = 0;
    llcuda_status status = CUDA_CALL(cuda, error, event_elapsed, &elapsed, from, to);
    *milliseconds = (double)elapsed;
    return status;
}

void cuda_close(struct gpu_driver *driver)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (cuda->context) {
        cuda_enter(cuda, NULL);
        cuda_matmul_close(cuda);
        cuda->api.context_set(NULL);
        cuda->api.context_release(cuda->device);
    }
    cuda_telemetry_close(cuda);
    free(cuda->folders);
    free(cuda);
}

void cuda_table_fill(struct gpu_driver *table)
{
    *table = (struct gpu_driver){
        .close = cuda_close,
        .attach = attach,
        .describe = cuda_describe,
        .telemetry = cuda_telemetry,
        .surroundings = cuda_surroundings,
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
    };
    cuda_kernel_fill(table);
}

llcuda_status cuda_start(struct cuda_driver *cuda, const char *who, int *count,
                         struct llcuda_error *error)
{
    int result = cuda->api.init(0);
    *count = 0;
    /* HIP says "invalid device" when there is none to choose from. */
    if (result == CUDA_NO_DEVICE || (result == CUDA_INVALID_DEVICE && cuda->api.hip_error_name)) {
        error_prefix(error, cuda_check(&cuda->api, result, cuda->api.names->init, error),
                     "the %s driver sees no GPU", who);
        if (error) {
            error->status = LLCUDA_NOT_FOUND;
        }
        return LLCUDA_NOT_FOUND;
    }
    llcuda_status status = cuda_check(&cuda->api, result, cuda->api.names->init, error);
    return status ? status : CUDA_CALL(cuda, error, device_count, count);
}

llcuda_status cuda_read_device(struct cuda_driver *cuda, uint32_t index, uint32_t count,
                               const struct cuda_attribute *attributes, size_t attribute_count,
                               struct llcuda_error *error)
{
    struct gpu_device_info *info = &cuda->info;
    size_t bytes = 0;
    if (index >= count) {
        return error_set(error, LLCUDA_NOT_FOUND,
                         "there is no %s device %u: the machine has %u (`llcuda devices` lists "
                         "them)",
                         info->vendor == GPU_HIP ? "HIP" : "CUDA", index, count);
    }
    llcuda_status status = CUDA_CALL(cuda, error, device_get, &cuda->device, (int)index);
    if (!status) {
        status = CUDA_CALL(cuda, error, device_name, info->name, sizeof info->name, cuda->device);
    }
    if (!status) {
        status = CUDA_CALL(cuda, error, device_memory, &bytes, cuda->device);
    }
    info->name[sizeof info->name - 1] = 0;
    info->memory_bytes = bytes;
    for (size_t i = 0; i < attribute_count && !status; i++) {
        status = CUDA_CALL(cuda, error, device_attribute, attributes[i].value,
                           attributes[i].attribute, cuda->device);
    }
    if (!status &&
        cuda->api.device_pci_bus_id(info->pci_bus_id, sizeof info->pci_bus_id, cuda->device)) {
        info->pci_bus_id[0] = 0;
    }
    return status;
}

llcuda_status cuda_open_context(struct cuda_driver *cuda, struct llcuda_error *error)
{
    llcuda_status status = CUDA_CALL(cuda, error, context_retain, &cuda->context, cuda->device);
    return status ? status : cuda_enter(cuda, error);
}

uint32_t cuda_find_compiler(struct cuda_driver *cuda)
{
    int major = 0, minor = 0;
    int result = cuda->rtc.version(&major, &minor);
    if (result) {
        error_set(&cuda->compiler_error, LLCUDA_DEVICE,
                  "the compiler does not know its version: %s", cuda->rtc.text(result));
        return 0;
    }
    return (uint32_t)(major * 1000 + minor * 10);
}

llcuda_status cuda_compiler_create(const struct gpu_open_options *options, enum gpu_vendor vendor,
                                   llcuda_status (*compile)(struct gpu_driver *,
                                                            const struct gpu_compile_request *,
                                                            struct buffer *, struct buffer *,
                                                            struct llcuda_error *),
                                   struct cuda_driver **cuda, struct llcuda_error *error)
{
    struct gpu_device_info info = {.vendor = vendor, .warp_size = 32};
    llcuda_status status = options->arch ? gpu_arch_info(options->arch, &info, error) : LLCUDA_OK;
    if (status) {
        return status;
    }
    *cuda = calloc(1, sizeof **cuda);
    if (!*cuda) {
        return error_no_memory(error, "a compiler", sizeof **cuda);
    }
    (*cuda)->table.close = cuda_close;
    (*cuda)->table.describe = cuda_describe;
    (*cuda)->table.compile = compile;
    (*cuda)->info = info;
    return LLCUDA_OK;
}

llcuda_status cuda_compiler_finish(struct cuda_driver *cuda, struct gpu_driver **driver,
                                   struct llcuda_error *error)
{
    if (!cuda->info.compiler_version) {
        llcuda_status status =
            error_set(error, cuda->compiler_error.status, "%s", cuda->compiler_error.message);
        cuda_close(&cuda->table);
        return status;
    }
    *driver = &cuda->table;
    return LLCUDA_OK;
}
