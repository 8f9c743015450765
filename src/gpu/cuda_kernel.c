/* The CUDA driver's kernels: NVRTC, modules, launches and graphs. Owns nothing: modules, functions
 * and graphs are the vendor's handles. One thread at a time, except cuda_compile, which touches no
 * context and may run on several threads. Knows nothing of what the kernels compute. */
#include "gpu/cuda_driver.h"

#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 32u
#define ARCHS_MAX   64
#define LOG_BYTES   512

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
    const struct nvrtc_api *nvrtc = &cuda->nvrtc;
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

static llcuda_status nvrtc_check(const struct cuda_driver *cuda, int result, const char *call,
                                 const char *name, struct llcuda_error *error)
{
    if (!result) {
        return LLCUDA_OK;
    }
    return error_set(error, LLCUDA_DEVICE, "%s of %s: %s", call, name, cuda->nvrtc.text(result));
}

static void read_log(const struct cuda_driver *cuda, void *program, struct buffer *log)
{
    size_t bytes = 0;
    /* The size counts the NUL, which the buffer has room for beyond what is reserved. */
    if (!cuda->nvrtc.log_size(program, &bytes) && bytes > 1 && buffer_reserve(log, bytes) &&
        !cuda->nvrtc.log(program, log->data + log->length)) {
        log->length += strnlen(log->data + log->length, bytes - 1);
        log->data[log->length] = 0;
    }
}

static llcuda_status read_binary(const struct cuda_driver *cuda, void *program, const char *name,
                                 struct buffer *binary, struct llcuda_error *error)
{
    size_t bytes = 0;
    llcuda_status status = nvrtc_check(cuda, cuda->nvrtc.binary_size(program, &bytes),
                                       "nvrtcGetCUBINSize", name, error);
    if (status) {
        return status;
    }
    if (!buffer_reserve(binary, bytes)) {
        return error_no_memory(error, "a compiled kernel", bytes);
    }
    status = nvrtc_check(cuda, cuda->nvrtc.binary(program, binary->data + binary->length),
                         "nvrtcGetCUBIN", name, error);
    if (!status) {
        binary->length += bytes;
        binary->data[binary->length] = 0;
    }
    return status;
}

/* The first line of the log that speaks of an error, for the sentence. */
static struct text_view first_error(const struct buffer *log, size_t from)
{
    const char *text = buffer_text(log) + (from < log->length ? from : log->length);
    const char *found = strstr(text, "error");
    while (found && found > text && found[-1] != '\n') {
        found--;
    }
    found = found ? found : text;
    return text_view_make(found, strcspn(found, "\n"));
}

llcuda_status cuda_compile(struct gpu_driver *driver, const struct gpu_compile_request *request,
                           struct buffer *binary, struct buffer *log, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const struct nvrtc_api *nvrtc = &cuda->nvrtc;
    const char *arch = request->arch ? request->arch : cuda->info.arch;
    const char *options[OPTIONS_MAX + 3];
    char arch_option[64];
    uint32_t count = 0;
    void *program = NULL;
    struct buffer source = {0};
    size_t log_start = log->length;
    if (!cuda->info.compiler_version) {
        return error_set(error, LLCUDA_UNSUPPORTED, "%s", cuda->compiler_error.message);
    }
    llcuda_status status = check_arch(cuda, arch, error);
    if (status) {
        return status;
    }
    if (request->option_count > OPTIONS_MAX) {
        return error_set(error, LLCUDA_LIMIT, "%u compiler options are more than %u",
                         request->option_count, OPTIONS_MAX);
    }
    snprintf(arch_option, sizeof arch_option, "--gpu-architecture=%s", arch);
    options[count++] = arch_option;
    options[count++] = "--std=c++17";
    options[count++] = "--device-as-default-execution-space";
    for (uint32_t i = 0; i < request->option_count; i++) {
        options[count++] = request->options[i];
    }
    if (!buffer_append_view(&source, request->source)) {
        status = error_no_memory(error, "a kernel's text", request->source.length);
        goto done;
    }
    status = nvrtc_check(
        cuda, nvrtc->create(&program, buffer_text(&source), request->name, 0, NULL, NULL),
        "nvrtcCreateProgram", request->name, error);
    if (status) {
        goto done;
    }
    int result = nvrtc->compile(program, (int)count, options);
    read_log(cuda, program, log);
    if (result == NVRTC_ERROR_COMPILATION) {
        struct text_view line = first_error(log, log_start);
        status = error_set(error, LLCUDA_BAD_FORMAT, "%s does not compile for %s: %.*s",
                           request->name, arch, TEXT_ARGUMENTS(line));
    } else {
        status = nvrtc_check(cuda, result, "nvrtcCompileProgram", request->name, error);
    }
    if (!status) {
        status = read_binary(cuda, program, request->name, binary, error);
    }

done:
    if (program) {
        nvrtc->destroy(&program);
    }
    buffer_deinit(&source);
    return status;
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
    if (module && !cuda_enter(cuda, NULL)) {
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
    return cuda_check(&cuda->api, result, cuda_call_names.module_function, error);
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
    if (graph && !cuda_enter(cuda, NULL)) {
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
    table->capture_begin = capture_begin;
    table->capture_end = capture_end;
    table->graph_launch = graph_launch;
    table->graph_destroy = graph_destroy;
}
