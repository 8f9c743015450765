/* The CUDA driver's kernels: NVRTC, modules, launches and graphs. Owns nothing: modules, functions
 * and graphs are the vendor's handles. One thread at a time, except cuda_compile, which touches no
 * context and may run on several threads. Knows nothing of what the kernels compute. */
#include "gpu/cuda_driver.h"

#include <stdio.h>
#include <string.h>

#define ARCHS_MAX 64
#define LOG_BYTES 512

/* 0 for an arch that is not "sm_…". */
static int arch_number(const char *arch)
{
    int number = 0;
    if (strncmp(arch, "sm_", 3) != 0) {
        return 0;
    }
    for (arch += 3; *arch >= '0' && *arch <= '9' && number < 1000; arch++) {
        number = number * 10 + (*arch - '0');
    }
    return *arch == 0 || ((*arch == 'a' || *arch == 'f') && arch[1] == 0) ? number : 0;
}

/* NVRTC's own words about an unknown architecture help nobody. */
static llcuda_status check_arch(const struct cuda_driver *cuda, const char *arch,
                                struct llcuda_error *error)
{
    const struct rtc_api *nvrtc = &cuda->rtc;
    int archs[ARCHS_MAX] = {0};
    int count = 0;
    int number = arch_number(arch);
    if (number == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "'%s' is no architecture of NVIDIA's, such as sm_80 or sm_90a", arch);
    }
    if (nvrtc->arch_count(&count) || count <= 0 || count > ARCHS_MAX || nvrtc->archs(archs)) {
        return LLCUDA_OK; /* the compiler will say */
    }
    for (int i = 0; i < count; i++) {
        if (archs[i] == number) {
            return LLCUDA_OK;
        }
    }
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "NVRTC %u.%u does not compile for %s, only sm_%d to sm_%d: install %s one",
                     cuda->info.compiler_version / 1000, cuda->info.compiler_version % 1000 / 10,
                     arch, archs[0], archs[count - 1], number < archs[0] ? "an older" : "a newer");
}

llcuda_status cuda_compile(struct gpu_driver *driver, const struct gpu_compile_request *request,
                           struct buffer *binary, struct buffer *log, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const char *arch = request->arch ? request->arch : cuda->info.arch;
    static const char *const options[] = {"--std=c++17", "--device-as-default-execution-space"};
    if (!cuda->info.compiler_version) {
        return error_set(error, LLCUDA_UNSUPPORTED, "%s", cuda->compiler_error.message);
    }
    llcuda_status status = check_arch(cuda, arch, error);
    return status ? status
                  : rtc_compile(&cuda->rtc, request, arch, options,
                                sizeof options / sizeof *options, binary, log, error);
}

static llcuda_status module_load(struct gpu_driver *driver, const void *binary, uint64_t bytes,
                                 struct gpu_module **module, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    char log[LOG_BYTES] = "";
    int options[] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    void *handle = NULL;
    *module = NULL;
    /* The vendor takes no length: what is no ELF file of at least a header would be read as text.
     */
    if (bytes < 64 || memcmp(binary, "\177ELF", 4) != 0) {
        return error_set(error, LLCUDA_BAD_FORMAT, "a compiled kernel of %llu bytes is no cubin",
                         (unsigned long long)bytes);
    }
    llcuda_status status = cuda_enter(cuda, error);
    if (!status) {
        status = CUDA_CALL(cuda, error, module_load, &handle, binary, 2, options, values);
        log[sizeof log - 1] = 0;
        if (status && *log) {
            error_prefix(error, status, "%s", log);
        }
    }
    *module = handle;
    return status;
}

static void module_unload(struct gpu_driver *driver, struct gpu_module *module)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (module) {
        cuda_enter(cuda, NULL);
        cuda->api.module_unload(module);
    }
}

static llcuda_status function_get(struct gpu_driver *driver, struct gpu_module *module,
                                  const char *name, struct gpu_function **function,
                                  struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    void *handle = NULL;
    *function = NULL;
    llcuda_status status = cuda_enter(cuda, error);
    if (status) {
        return status;
    }
    int result = cuda->api.module_function(&handle, module, name);
    if (result == CUDA_NOT_FOUND) {
        return error_set(error, LLCUDA_NOT_FOUND, "the module has no kernel '%s'", name);
    }
    *function = handle;
    return cuda_check(&cuda->api, result, cuda->api.names->module_function, error);
}

static llcuda_status function_info(struct gpu_driver *driver, struct gpu_function *function,
                                   struct gpu_function_info *info, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const struct {
        int attribute;
        void *value;
    } list[] = {
        {CUDA_FUNCTION_REGISTERS, &info->registers},
        {CUDA_FUNCTION_LOCAL_BYTES, &info->local_bytes},
        {CUDA_FUNCTION_SHARED_BYTES, &info->shared_bytes},
        {CUDA_FUNCTION_THREADS_MAX, &info->threads_max},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        llcuda_status status =
            CUDA_CALL(cuda, error, function_attribute, list[i].value, list[i].attribute, function);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

static llcuda_status function_shared_limit(struct gpu_driver *driver, struct gpu_function *function,
                                           uint32_t bytes, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (cuda->info.vendor == GPU_HIP) { /* has no limit below that of the device */
        return bytes <= cuda->info.shared_bytes_block_max
                   ? LLCUDA_OK
                   : error_set(error, LLCUDA_UNSUPPORTED,
                               "a kernel needs %u bytes of shared memory, the device has %u", bytes,
                               cuda->info.shared_bytes_block_max);
    }
    return CUDA_CALL(cuda, error, function_attribute_set, function,
                     CUDA_FUNCTION_DYNAMIC_SHARED_BYTES_MAX, (int)bytes);
}

static llcuda_status function_occupancy(struct gpu_driver *driver, struct gpu_function *function,
                                        uint32_t threads, uint32_t shared_bytes, uint32_t *blocks,
                                        struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    int count = 0;
    llcuda_status status =
        CUDA_CALL(cuda, error, occupancy, &count, function, (int)threads, shared_bytes);
    *blocks = (uint32_t)count;
    return status;
}

static llcuda_status launch(struct gpu_driver *driver, struct gpu_stream *stream,
                            struct gpu_function *function, const struct gpu_launch *shape,
                            const void *arguments, uint32_t argument_bytes,
                            struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    /* The vendor reads through a pointer that is not const, and copies. */
    void *parameters[] = {(void *)(uintptr_t)arguments};
    (void)argument_bytes;
    if (!shape->overlap || cuda->info.capability < CUDA_CAPABILITY_OVERLAP ||
        cuda->info.driver_version < CUDA_DRIVER_VERSION_OVERLAP) {
        return CUDA_CALL(cuda, error, launch, function, shape->grid[0], shape->grid[1],
                         shape->grid[2], shape->block[0], shape->block[1], shape->block[2],
                         shape->shared_bytes, stream, parameters, NULL);
    }
    struct cuda_launch_attribute attribute = {.id = CUDA_ATTRIBUTE_PROGRAMMATIC_SERIALIZATION,
                                              .value = {.enabled = 1}};
    struct cuda_launch_config config = {
        .grid = {shape->grid[0], shape->grid[1], shape->grid[2]},
        .block = {shape->block[0], shape->block[1], shape->block[2]},
        .shared_bytes = shape->shared_bytes,
        .stream = stream,
        .attributes = &attribute,
        .attribute_count = 1,
    };
    return CUDA_CALL(cuda, error, launch_ex, &config, function, parameters, NULL);
}

static llcuda_status tensor_map(struct gpu_driver *driver, const struct gpu_tensor_shape *shape,
                                uint64_t map[16], struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const uint64_t sizes[4] = {shape->columns, shape->rows[0], shape->rows[1], shape->rows[2]};
    const uint32_t box[4] = {64, shape->box_rows[0], shape->box_rows[1], shape->box_rows[2]};
    const uint32_t steps[4] = {1, 1, 1, 1};
    _Alignas(64) uint64_t made[16]; /* the vendor wants it so */
    llcuda_status status =
        CUDA_CALL(cuda, error, tensor_map, made,
                  shape->type == DTYPE_BF16 ? CUDA_TENSOR_BFLOAT16 : CUDA_TENSOR_FLOAT16,
                  shape->dimensions, (void *)(uintptr_t)shape->address, sizes, shape->row_strides,
                  box, steps, 0, CUDA_TENSOR_SWIZZLE_128B, CUDA_TENSOR_L2_256B, 0);
    if (status == LLCUDA_OK) {
        memcpy(map, made, sizeof made);
    }
    return status;
}

static llcuda_status capture_begin(struct gpu_driver *driver, struct gpu_stream *stream,
                                   struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return CUDA_CALL(cuda, error, capture_begin, stream, CUDA_CAPTURE_THREAD_LOCAL);
}

static llcuda_status capture_end(struct gpu_driver *driver, struct gpu_stream *stream,
                                 struct gpu_graph **graph, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    void *captured = NULL;
    void *executable = NULL;
    *graph = NULL;
    llcuda_status status = CUDA_CALL(cuda, error, capture_end, stream, &captured);
    if (!status) {
        status = CUDA_CALL(cuda, error, graph_instantiate, &executable, captured, 0);
    }
    if (captured) {
        cuda->api.graph_destroy(captured);
    }
    *graph = executable;
    return status;
}

static llcuda_status graph_launch(struct gpu_driver *driver, struct gpu_stream *stream,
                                  struct gpu_graph *graph, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    return CUDA_CALL(cuda, error, graph_launch, graph, stream);
}

static void graph_destroy(struct gpu_driver *driver, struct gpu_graph *graph)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    if (graph) {
        cuda_enter(cuda, NULL);
        cuda->api.graph_exec_destroy(graph);
    }
}

void cuda_kernel_fill(struct gpu_driver *table)
{
    table->compile = cuda_compile;
    table->module_load = module_load;
    table->module_unload = module_unload;
    table->function_get = function_get;
    table->function_info = function_info;
    table->function_shared_limit = function_shared_limit;
    table->function_occupancy = function_occupancy;
    table->launch = launch;
    table->tensor_map = tensor_map;
    table->capture_begin = capture_begin;
    table->capture_end = capture_end;
    table->graph_launch = graph_launch;
    table->graph_destroy = graph_destroy;
}
