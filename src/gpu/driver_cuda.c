/* The driver table over libcuda: devices, memory, copies, streams and events. Owns the retained
 * primary context and the vendor's libraries of one device. Invariant: a handle of the table *is*
 * the vendor's handle, so that nothing has to be looked up; every call's result is checked and
 * named.
 *
 * One thread at a time. Knows nothing of kernels, models or pools. */
#include "gpu/cuda_driver.h"

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

static void describe(const struct gpu_driver *driver, struct gpu_device_info *info)
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
    if (address && !cuda_enter(cuda, NULL)) {
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
    if (memory && !cuda_enter(cuda, NULL)) {
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
    if (stream && !cuda_enter(cuda, NULL)) {
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
    return poll(cuda, cuda->api.stream_query, cuda_call_names.stream_query, stream, timeout_ms,
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
    if (event && !cuda_enter(cuda, NULL)) {
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
    return poll(cuda, cuda->api.event_query, cuda_call_names.event_query, event, timeout_ms, error);
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

static void close_driver(struct gpu_driver *driver)
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

static void fill_table(struct gpu_driver *table)
{
    *table = (struct gpu_driver){
        .close = close_driver,
        .attach = attach,
        .describe = describe,
        .telemetry = cuda_telemetry,
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
        .compile = cuda_compile,
    };
    cuda_kernel_fill(table);
}

static llcuda_status read_attributes(struct cuda_driver *cuda, struct llcuda_error *error)
{
    int major = 0, minor = 0, l2_bytes = 0;
    struct gpu_device_info *info = &cuda->info;
    const struct {
        int attribute;
        void *value;
    } list[] = {
        {CUDA_DEVICE_CAPABILITY_MAJOR, &major},
        {CUDA_DEVICE_CAPABILITY_MINOR, &minor},
        {CUDA_DEVICE_L2_BYTES, &l2_bytes},
        {CUDA_DEVICE_MULTIPROCESSOR_COUNT, &info->multiprocessor_count},
        {CUDA_DEVICE_WARP_SIZE, &info->warp_size},
        {CUDA_DEVICE_SHARED_BLOCK_OPTIN, &info->shared_bytes_block_max},
        {CUDA_DEVICE_SHARED_MULTIPROCESSOR, &info->shared_bytes_multiprocessor},
        {CUDA_DEVICE_THREADS_MULTIPROCESSOR, &info->threads_multiprocessor_max},
        {CUDA_DEVICE_REGISTERS_MULTIPROCESSOR, &info->registers_multiprocessor},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        llcuda_status status = CUDA_CALL(cuda, error, device_attribute, list[i].value,
                                         list[i].attribute, cuda->device);
        if (status) {
            return status;
        }
    }
    info->capability = (uint32_t)(major * 10 + minor);
    info->l2_bytes = (uint64_t)l2_bytes;
    return LLCUDA_OK;
}

static llcuda_status read_device(struct cuda_driver *cuda, struct llcuda_error *error)
{
    struct gpu_device_info *info = &cuda->info;
    size_t bytes = 0;
    llcuda_status status =
        CUDA_CALL(cuda, error, device_name, info->name, sizeof info->name, cuda->device);
    info->name[sizeof info->name - 1] = 0;
    if (!status) {
        status = CUDA_CALL(cuda, error, device_memory, &bytes, cuda->device);
    }
    if (!status) {
        status = read_attributes(cuda, error);
    }
    if (status) {
        return status;
    }
    if (cuda->api.device_pci_bus_id(info->pci_bus_id, sizeof info->pci_bus_id, cuda->device)) {
        info->pci_bus_id[0] = 0;
    }
    info->vendor = GPU_CUDA;
    info->memory_bytes = bytes;
    /* "a": with the instructions that only this architecture has, such as wgmma. */
    snprintf(info->arch, sizeof info->arch, "sm_%u%s", info->capability,
             info->capability == 90 ? "a" : "");
    if (info->capability < CUDA_CAPABILITY_MIN) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "%s has compute capability %u.%u; kernels need %u.%u or newer: use "
                         "another GPU or --device cpu",
                         info->name, info->capability / 10, info->capability % 10,
                         CUDA_CAPABILITY_MIN / 10, CUDA_CAPABILITY_MIN % 10);
    }
    return LLCUDA_OK;
}

/* Loads libcuda, starts it, and counts devices. */
static llcuda_status start(struct cuda_driver *cuda, const char *folders, int *count,
                           struct llcuda_error *error)
{
    int version = 0;
    llcuda_status status = cuda_driver_load(folders, &cuda->api, error);
    if (!status) {
        status = CUDA_CALL(cuda, error, driver_version, &version);
    }
    if (status) {
        return status;
    }
    if (version < CUDA_DRIVER_VERSION_MIN) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the NVIDIA driver knows CUDA %d.%d only: install version %s or newer",
                         version / 1000, version % 1000 / 10, CUDA_DRIVER_NAME_MIN);
    }
    cuda->info.driver_version = (uint32_t)version;
    int result = cuda->api.init(0);
    *count = 0;
    if (result == CUDA_NO_DEVICE) {
        error_prefix(error, cuda_check(&cuda->api, result, cuda_call_names.init, error),
                     "the NVIDIA driver sees no GPU");
        if (error) {
            error->status = LLCUDA_NOT_FOUND;
        }
        return LLCUDA_NOT_FOUND;
    }
    status = cuda_check(&cuda->api, result, cuda_call_names.init, error);
    return status ? status : CUDA_CALL(cuda, error, device_count, count);
}

static void find_compiler(struct cuda_driver *cuda, const struct gpu_open_options *options)
{
    int major = 0, minor = 0;
    if (nvrtc_load(options->compiler, cuda->folders, cuda->info.driver_version, &cuda->nvrtc,
                   &cuda->compiler_error)) {
        return;
    }
    int result = cuda->nvrtc.version(&major, &minor);
    if (result) {
        error_set(&cuda->compiler_error, LLCUDA_DEVICE, "nvrtcVersion: %s",
                  cuda->nvrtc.text(result));
        return;
    }
    cuda->info.compiler_version = (uint32_t)(major * 1000 + minor * 10);
}

llcuda_status gpu_driver_open_cuda(const struct gpu_open_options *options,
                                   struct gpu_driver **driver, struct llcuda_error *error)
{
    int count = 0;
    llcuda_status status = LLCUDA_OK;
    *driver = NULL;
    struct cuda_driver *cuda = calloc(1, sizeof *cuda);
    if (!cuda) {
        return error_no_memory(error, "a CUDA driver", sizeof *cuda);
    }
    fill_table(&cuda->table);
    if (options->library_path && !(cuda->folders = strdup(options->library_path))) {
        status = error_no_memory(error, "a path", strlen(options->library_path));
        goto fail;
    }
    status = start(cuda, cuda->folders, &count, error);
    if (!status && options->index >= (uint32_t)count) {
        status = error_set(error, LLCUDA_NOT_FOUND,
                           "there is no CUDA device %u: the machine has %d (`llcuda devices` "
                           "lists them)",
                           options->index, count);
    }
    if (!status) {
        status = CUDA_CALL(cuda, error, device_get, &cuda->device, (int)options->index);
    }
    if (!status) {
        status = read_device(cuda, error);
    }
    if (!status) {
        status = CUDA_CALL(cuda, error, context_retain, &cuda->context, cuda->device);
    }
    if (!status) {
        status = cuda_enter(cuda, error);
    }
    if (status) {
        goto fail;
    }
    find_compiler(cuda, options);
    if (cublaslt_present(cuda->folders, cuda->info.driver_version)) {
        cuda_matmul_fill(&cuda->table);
    }
    *driver = &cuda->table;
    return LLCUDA_OK;

fail:
    close_driver(&cuda->table);
    return status;
}

llcuda_status gpu_driver_probe_cuda(const struct gpu_open_options *options, uint32_t *count,
                                    struct llcuda_error *error)
{
    int found = 0;
    struct cuda_driver cuda = {0};
    llcuda_status status = start(&cuda, options->library_path, &found, error);
    *count = status || found < 0 ? 0 : (uint32_t)found;
    return status;
}

uint32_t gpu_driver_count_cuda(void)
{
    const struct gpu_open_options options = {0};
    uint32_t count = 0;
    gpu_driver_probe_cuda(&options, &count, NULL);
    return count;
}
