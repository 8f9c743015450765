/* A machine with an NVIDIA GPU as far as a program's calls can tell: libcuda, NVRTC, cublasLt and
 * NVML in one shared object. Writes every call with its arguments into a log, fails on demand, and
 * computes nothing. Names, parameters and layouts are written out as NVIDIA's documentation has
 * them, and not taken from the code that is tested. One thread. */
#include "fake_cuda.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_BYTES 65536

static struct fake_machine machine;
static char log_text[LOG_BYTES];
static size_t log_length;
static const char *fail_call;
static int fail_result;
static int fail_at, fail_at_result, call_count;
static int live;
static int queries;
static int capture_mode_now;
static const char *hanging_call;

void fake_reset(const struct fake_machine *wanted);
void fake_fail(const char *call, int result);
void fake_fail_at(int n, int result);
const char *fake_log(void);
int fake_live(void);

void fake_reset(const struct fake_machine *wanted)
{
    machine = *wanted;
    log_text[0] = 0;
    log_length = 0;
    fail_call = NULL;
    fail_at = 0;
    call_count = 0;
    queries = 0;
    capture_mode_now = 0;
}

/* FAKE_CUDA_HANG names a call that never returns, FAKE_CUDA_FAIL one that fails.
 *
 * A program that cannot call fake_reset says what the machine is like in FAKE_CUDA: driver,
 * capability, devices, megabytes of memory, its errors, as "13000,90,2,80000,0". */
__attribute__((constructor)) static void read_environment(void)
{
    const char *wanted = getenv("FAKE_CUDA");
    hanging_call = getenv("FAKE_CUDA_HANG");
    fail_call = getenv("FAKE_CUDA_FAIL");
    fail_result = 7;
    size_t megabytes = 0;
    if (wanted && sscanf(wanted, "%d,%d,%d,%zu,%d", &machine.driver_version, &machine.capability,
                         &machine.device_count, &megabytes, &machine.memory_errors) < 3) {
        abort();
    }
    machine.memory_free = megabytes << 20;
}

void fake_fail(const char *call, int result)
{
    fail_call = call;
    fail_result = result;
}

void fake_fail_at(int n, int result)
{
    fail_at = n;
    fail_at_result = result;
    call_count = 0;
}

const char *fake_log(void)
{
    return log_text;
}

int fake_live(void)
{
    return live;
}

/* Logs a call; the result it must answer with, 0 when it is to succeed. */
__attribute__((format(printf, 2, 3))) static int called(const char *name, const char *format, ...)
{
    va_list arguments;
    if (log_length + 512 < LOG_BYTES) {
        log_length += (size_t)snprintf(log_text + log_length, 256, "%s(", name);
        va_start(arguments, format);
        int length = vsnprintf(log_text + log_length, 240, format, arguments);
        log_length += length < 240 ? (size_t)length : 239; /* whole texts of modules are longer */
        va_end(arguments);
        log_length += (size_t)snprintf(log_text + log_length, 8, ")\n");
    }
    while (hanging_call && strcmp(hanging_call, name) == 0) {
        pause();
    }
    call_count++;
    if (fail_at && call_count == fail_at) {
        return fail_at_result;
    }
    return fail_call && strcmp(fail_call, name) == 0 ? fail_result : 0;
}

#define HANDLE(number) ((void *)(uintptr_t)(number))
#define NUMBER(handle) ((unsigned long)(uintptr_t)(handle))

/* A creating function: logs, fails, or hands out a handle. */
#define CREATE(out, number, ...)                 \
    do {                                         \
        int create_result = called(__VA_ARGS__); \
        if (create_result) {                     \
            return create_result;                \
        }                                        \
        *(out) = HANDLE(number);                 \
        live++;                                  \
        return 0;                                \
    } while (0)

#define DESTROY(...)                \
    do {                            \
        live--;                     \
        return called(__VA_ARGS__); \
    } while (0)

/* libcuda */

int cuGetErrorName(int error, const char **text)
{
    *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return 0;
}

int cuGetErrorString(int error, const char **text)
{
    *text = error == 2 ? "out of memory" : "fake trouble";
    return 0;
}

int cuInit(unsigned int flags)
{
    return called("cuInit", "%u", flags);
}

int cuDriverGetVersion(int *version)
{
    *version = machine.driver_version;
    return called("cuDriverGetVersion", "%s", "");
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = 40 + ordinal;
    return called("cuDeviceGet", "%d", ordinal);
}

int cuDeviceGetCount(int *count)
{
    *count = machine.device_count;
    return called("cuDeviceGetCount", "%s", "");
}

int cuDeviceGetName(char *name, int length, int device)
{
    snprintf(name, (size_t)length, "Fake H200");
    return called("cuDeviceGetName", "%d, %d", length, device);
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = (size_t)141 << 30;
    return called("cuDeviceTotalMem_v2", "%d", device);
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    static const struct {
        int attribute, value;
    } list[] = {{10, 32},     {16, 132},   {38, 62914560}, {39, 2048},
                {81, 233472}, {82, 65536}, {97, 232448}};
    *value = attribute == 75 ? machine.capability / 10 : machine.capability % 10;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].attribute == attribute) {
            *value = list[i].value;
        }
    }
    return called("cuDeviceGetAttribute", "%d, %d", attribute, device);
}

int cuDeviceGetPCIBusId(char *text, int length, int device)
{
    snprintf(text, (size_t)length, "0000:41:00.0");
    return called("cuDeviceGetPCIBusId", "%d, %d", length, device);
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    CREATE(context, 0xc0, "cuDevicePrimaryCtxRetain", "%d", device);
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    DESTROY("cuDevicePrimaryCtxRelease_v2", "%d", device);
}

int cuCtxSetCurrent(void *context)
{
    return called("cuCtxSetCurrent", "%lx", NUMBER(context));
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = machine.memory_free ? machine.memory_free : 1000;
    *total_bytes = machine.memory_free ? machine.memory_free : 5000;
    return called("cuMemGetInfo_v2", "%s", "");
}

int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    int result = called("cuMemAlloc_v2", "%zu", bytes);
    if (!result) {
        *address = 0xd00000;
        live++;
    }
    return result;
}

int cuMemFree_v2(uint64_t address)
{
    DESTROY("cuMemFree_v2", "%lx", (unsigned long)address);
}

int cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags)
{
    /* A whole program writes into it. */
    void *real = machine.memory_free ? malloc(bytes) : NULL;
    CREATE(memory, real ? (uintptr_t)real : 0xb00000, "cuMemHostAlloc", "%zu, %u", bytes, flags);
}

int cuMemFreeHost(void *memory)
{
    if (machine.memory_free) {
        free(memory);
    }
    DESTROY("cuMemFreeHost", "%lx", NUMBER(memory));
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    return called("cuMemcpyHtoDAsync_v2", "%lx, %lx, %zu, %lx", (unsigned long)to, NUMBER(from),
                  bytes, NUMBER(stream));
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    return called("cuMemcpyDtoHAsync_v2", "%lx, %lx, %zu, %lx", NUMBER(to), (unsigned long)from,
                  bytes, NUMBER(stream));
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    return called("cuMemcpyDtoDAsync_v2", "%lx, %lx, %zu, %lx", (unsigned long)to,
                  (unsigned long)from, bytes, NUMBER(stream));
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream)
{
    return called("cuMemsetD8Async", "%lx, %u, %zu, %lx", (unsigned long)to, value, bytes,
                  NUMBER(stream));
}

int cuStreamCreate(void **stream, unsigned int flags)
{
    CREATE(stream, 0x51, "cuStreamCreate", "%u", flags);
}

int cuStreamDestroy_v2(void *stream)
{
    DESTROY("cuStreamDestroy_v2", "%lx", NUMBER(stream));
}

static int ready(void)
{
    return machine.not_ready < 0 || queries++ < machine.not_ready ? 600 : 0;
}

int cuStreamQuery(void *stream)
{
    int result = called("cuStreamQuery", "%lx", NUMBER(stream));
    return result ? result : ready();
}

int cuStreamWaitEvent(void *stream, void *event, unsigned int flags)
{
    return called("cuStreamWaitEvent", "%lx, %lx, %u", NUMBER(stream), NUMBER(event), flags);
}

int cuEventCreate(void **event, unsigned int flags)
{
    CREATE(event, 0xe1, "cuEventCreate", "%u", flags);
}

int cuEventDestroy_v2(void *event)
{
    DESTROY("cuEventDestroy_v2", "%lx", NUMBER(event));
}

int cuEventRecord(void *event, void *stream)
{
    return called("cuEventRecord", "%lx, %lx", NUMBER(event), NUMBER(stream));
}

int cuEventQuery(void *event)
{
    int result = called("cuEventQuery", "%lx", NUMBER(event));
    return result ? result : ready();
}

int cuEventElapsedTime(float *milliseconds, void *from, void *to)
{
    *milliseconds = 2.5f;
    return called("cuEventElapsedTime", "%lx, %lx", NUMBER(from), NUMBER(to));
}

/* Options 5 and 6: a buffer for the error's words, and its size as a value. */
int cuModuleLoadDataEx(void **module, const void *image, unsigned int count, int *options,
                       void **values)
{
    int result = called("cuModuleLoadDataEx", "%.3s, %u, %d, %d, %lu", (const char *)image + 1,
                        count, options[0], options[1], NUMBER(values[1]));
    if (result) {
        snprintf(values[0], (size_t)(uintptr_t)values[1], "words of the loader");
        return result;
    }
    *module = HANDLE(0x30d);
    live++;
    return 0;
}

int cuModuleUnload(void *module)
{
    DESTROY("cuModuleUnload", "%lx", NUMBER(module));
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    int result = called("cuModuleGetFunction", "%lx, %s", NUMBER(module), name);
    *function = HANDLE(0xf1);
    return result ? result : strcmp(name, "absent") == 0 ? 500 : 0;
}

int cuFuncGetAttribute(int *value, int attribute, void *function)
{
    *value = 100 + attribute;
    return called("cuFuncGetAttribute", "%d, %lx", attribute, NUMBER(function));
}

int cuFuncSetAttribute(void *function, int attribute, int value)
{
    return called("cuFuncSetAttribute", "%lx, %d, %d", NUMBER(function), attribute, value);
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads,
                                                size_t shared_bytes)
{
    *blocks = 3;
    return called("cuOccupancyMaxActiveBlocksPerMultiprocessor", "%lx, %d, %zu", NUMBER(function),
                  threads, shared_bytes);
}

static unsigned long first_argument(void **parameters)
{
    unsigned long value;
    memcpy(&value, parameters[0], sizeof value);
    return value;
}

int cuLaunchKernel(void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                   unsigned int block_x, unsigned int block_y, unsigned int block_z,
                   unsigned int shared_bytes, void *stream, void **parameters, void **extra)
{
    return called("cuLaunchKernel", "%lx, %u %u %u, %u %u %u, %u, %lx, %lx, %lx", NUMBER(function),
                  grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, NUMBER(stream),
                  first_argument(parameters), NUMBER(extra));
}

struct launch_attribute {
    int id;
    char pad[4];
    union {
        char pad[64];
        int serialization_allowed;
        void *pointer;
    } value;
};

struct launch_config {
    unsigned int grid_x, grid_y, grid_z;
    unsigned int block_x, block_y, block_z;
    unsigned int shared_bytes;
    void *stream;
    struct launch_attribute *attributes;
    unsigned int attribute_count;
};

int cuLaunchKernelEx(const struct launch_config *config, void *function, void **parameters,
                     void **extra)
{
    return called("cuLaunchKernelEx", "%lx, %u %u %u, %u %u %u, %u, %lx, %lx, %lx, %u: %d = %d",
                  NUMBER(function), config->grid_x, config->grid_y, config->grid_z, config->block_x,
                  config->block_y, config->block_z, config->shared_bytes, NUMBER(config->stream),
                  first_argument(parameters), NUMBER(extra), config->attribute_count,
                  config->attributes[0].id, config->attributes[0].value.serialization_allowed);
}

int cuStreamBeginCapture_v2(void *stream, int mode)
{
    return called("cuStreamBeginCapture_v2", "%lx, %d", NUMBER(stream), mode);
}

int cuStreamEndCapture(void *stream, void **graph)
{
    CREATE(graph, 0x64, "cuStreamEndCapture", "%lx", NUMBER(stream));
}

int cuTensorMapEncodeTiled(void *map, int type, unsigned int rank, void *address,
                           const uint64_t *sizes, const uint64_t *strides, const unsigned int *box,
                           const unsigned int *steps, int interleave, int swizzle, int promotion,
                           int fill)
{
    memset(map, 0x7a, 128);
    return called("cuTensorMapEncodeTiled", "%d, %u, %lx, %lu %lu, %lu, %u %u, %u %u, %d %d %d %d",
                  type, rank, NUMBER(address), (unsigned long)sizes[0], (unsigned long)sizes[1],
                  (unsigned long)strides[0], box[0], box[1], steps[0], steps[1], interleave,
                  swizzle, promotion, fill);
}

int cuThreadExchangeStreamCaptureMode(int *mode)
{
    int previous = capture_mode_now;
    int result = called("cuThreadExchangeStreamCaptureMode", "%d", *mode);
    capture_mode_now = *mode;
    *mode = previous;
    return result;
}

int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags)
{
    CREATE(executable, 0x65, "cuGraphInstantiateWithFlags", "%lx, %llu", NUMBER(graph), flags);
}

int cuGraphLaunch(void *executable, void *stream)
{
    return called("cuGraphLaunch", "%lx, %lx", NUMBER(executable), NUMBER(stream));
}

int cuGraphDestroy(void *graph)
{
    DESTROY("cuGraphDestroy", "%lx", NUMBER(graph));
}

int cuGraphExecDestroy(void *executable)
{
    DESTROY("cuGraphExecDestroy", "%lx", NUMBER(executable));
}

/* NVRTC */

const char *nvrtcGetErrorString(int result)
{
    return result == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_FAKE";
}

int nvrtcVersion(int *major, int *minor)
{
    *major = 13;
    *minor = 2;
    return called("nvrtcVersion", "%s", "");
}

int nvrtcGetNumSupportedArchs(int *count)
{
    *count = 3;
    return called("nvrtcGetNumSupportedArchs", "%s", "");
}

int nvrtcGetSupportedArchs(int *archs)
{
    archs[0] = 75;
    archs[1] = 80;
    archs[2] = 90;
    return called("nvrtcGetSupportedArchs", "%s", "");
}

int nvrtcCreateProgram(void **program, const char *source, const char *name, int header_count,
                       const char *const *headers, const char *const *names)
{
    CREATE(program, 0x70, "nvrtcCreateProgram", "%s, %s, %d, %lx, %lx", source, name, header_count,
           NUMBER(headers), NUMBER(names));
}

int nvrtcDestroyProgram(void **program)
{
    unsigned long number = NUMBER(*program);
    *program = NULL;
    DESTROY("nvrtcDestroyProgram", "%lx", number);
}

int nvrtcCompileProgram(void *program, int count, const char *const *options)
{
    char text[200] = "";
    for (int i = 0; i < count; i++) {
        strncat(text, " ", sizeof text - strlen(text) - 1);
        strncat(text, options[i], sizeof text - strlen(text) - 1);
    }
    int result = called("nvrtcCompileProgram", "%lx,%s", NUMBER(program), text);
    return result ? result : machine.compile_result;
}

static const char binary[80] = "\177ELF binary";
static const char compile_log[] = "a remark\nkernel.cu(7): error: no such word\nmore\n";

int nvrtcGetCUBINSize(void *program, size_t *bytes)
{
    *bytes = sizeof binary;
    return called("nvrtcGetCUBINSize", "%lx", NUMBER(program));
}

int nvrtcGetCUBIN(void *program, char *out)
{
    memcpy(out, binary, sizeof binary);
    return called("nvrtcGetCUBIN", "%lx", NUMBER(program));
}

int nvrtcGetProgramLogSize(void *program, size_t *bytes)
{
    *bytes = sizeof compile_log;
    return called("nvrtcGetProgramLogSize", "%lx", NUMBER(program));
}

int nvrtcGetProgramLog(void *program, char *out)
{
    memcpy(out, compile_log, sizeof compile_log);
    return called("nvrtcGetProgramLog", "%lx", NUMBER(program));
}

/* cublasLt */

const char *cublasLtGetStatusString(int status)
{
    return status == 15 ? "the product is not supported" : "CUBLAS_STATUS_FAKE";
}

int cublasLtCreate(void **handle)
{
    CREATE(handle, 0x17, "cublasLtCreate", "%s", "");
}

int cublasLtDestroy(void *handle)
{
    DESTROY("cublasLtDestroy", "%lx", NUMBER(handle));
}

int cublasLtMatmulDescCreate(void **descriptor, int compute_type, int scale_type)
{
    CREATE(descriptor, 0xde, "cublasLtMatmulDescCreate", "%d, %d", compute_type, scale_type);
}

int cublasLtMatmulDescDestroy(void *descriptor)
{
    DESTROY("cublasLtMatmulDescDestroy", "%lx", NUMBER(descriptor));
}

int cublasLtMatmulDescSetAttribute(void *descriptor, int attribute, const void *value, size_t bytes)
{
    return called("cublasLtMatmulDescSetAttribute", "%lx, %d, %d, %zu", NUMBER(descriptor),
                  attribute, *(const int *)value, bytes);
}

int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns,
                               int64_t leading)
{
    CREATE(layout, 0x1a, "cublasLtMatrixLayoutCreate", "%d, %lu, %lu, %ld", type,
           (unsigned long)rows, (unsigned long)columns, (long)leading);
}

int cublasLtMatrixLayoutDestroy(void *layout)
{
    DESTROY("cublasLtMatrixLayoutDestroy", "%lx", NUMBER(layout));
}

int cublasLtMatmulPreferenceCreate(void **preference)
{
    CREATE(preference, 0x9f, "cublasLtMatmulPreferenceCreate", "%s", "");
}

int cublasLtMatmulPreferenceDestroy(void *preference)
{
    DESTROY("cublasLtMatmulPreferenceDestroy", "%lx", NUMBER(preference));
}

int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value,
                                         size_t bytes)
{
    unsigned long number = bytes == 8 ? *(const uint64_t *)value : *(const uint32_t *)value;
    return called("cublasLtMatmulPreferenceSetAttribute", "%lx, %d, %lu, %zu", NUMBER(preference),
                  attribute, number, bytes);
}

struct heuristic_result {
    struct {
        uint64_t data[8];
    } algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *descriptor, void *a, void *b, void *c,
                                   void *d, void *preference, int wanted,
                                   struct heuristic_result *results, int *count)
{
    results[0].algorithm.data[0] = 0xa190;
    results[0].workspace_bytes = 4096;
    *count = machine.algorithm_count;
    return called("cublasLtMatmulAlgoGetHeuristic", "%lx, %lx, %lx, %lx, %lx, %lx, %lx, %d",
                  NUMBER(handle), NUMBER(descriptor), NUMBER(a), NUMBER(b), NUMBER(c), NUMBER(d),
                  NUMBER(preference), wanted);
}

int cublasLtMatmul(void *handle, void *descriptor, const void *alpha, const void *a, void *a_layout,
                   const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                   void *d, void *d_layout, const uint64_t *algorithm, void *workspace,
                   size_t workspace_bytes, void *stream)
{
    (void)a_layout;
    (void)b_layout;
    (void)c_layout;
    (void)d_layout;
    return called("cublasLtMatmul", "%lx, %lx, %g, %lx, %lx, %g, %lx, %lx, %lx, %lx, %zu, %lx",
                  NUMBER(handle), NUMBER(descriptor), (double)*(const float *)alpha, NUMBER(a),
                  NUMBER(b), (double)*(const float *)beta, NUMBER(c), NUMBER(d),
                  (unsigned long)algorithm[0], NUMBER(workspace), workspace_bytes, NUMBER(stream));
}

/* NVML */

const char *nvmlErrorString(int result)
{
    (void)result;
    return "fake";
}

int nvmlInit_v2(void)
{
    int result = called("nvmlInit_v2", "%s", "");
    live += result == 0;
    return result;
}

int nvmlShutdown(void)
{
    DESTROY("nvmlShutdown", "%s", "");
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *place, void **device)
{
    *device = HANDLE(0x33);
    return called("nvmlDeviceGetHandleByPciBusId_v2", "%s", place);
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned int rates[2])
{
    rates[0] = 42;
    rates[1] = 17;
    return called("nvmlDeviceGetUtilizationRates", "%lx", NUMBER(device));
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *value)
{
    *value = 54;
    called("nvmlDeviceGetTemperature", "%lx, %d", NUMBER(device), sensor);
    return machine.nvml_fails;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts)
{
    *milliwatts = 612500;
    return called("nvmlDeviceGetPowerUsage", "%lx", NUMBER(device));
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts)
{
    *milliwatts = 700000;
    return called("nvmlDeviceGetEnforcedPowerLimit", "%lx", NUMBER(device));
}

int nvmlDeviceGetClockInfo(void *device, int clock, unsigned int *megahertz)
{
    *megahertz = clock == 1 ? 1980 : 3201;
    return called("nvmlDeviceGetClockInfo", "%lx, %d", NUMBER(device), clock);
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long memory[3])
{
    memory[0] = 9000;
    memory[1] = 7000;
    memory[2] = 2000;
    return called("nvmlDeviceGetMemoryInfo", "%lx", NUMBER(device));
}

int nvmlSystemGetDriverVersion(char *text, unsigned int length)
{
    snprintf(text, length, "580.65.06");
    return called("nvmlSystemGetDriverVersion", "%u", length);
}

int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned int *generation)
{
    *generation = 5;
    return called("nvmlDeviceGetCurrPcieLinkGeneration", "%lx", NUMBER(device));
}

int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned int *lanes)
{
    *lanes = 16;
    return called("nvmlDeviceGetCurrPcieLinkWidth", "%lx", NUMBER(device));
}

/* Six links, of which the third is down: two to a GPU, three to a switch. */
int nvmlDeviceGetNvLinkState(void *device, unsigned int link, int *is_active)
{
    *is_active = link != 2;
    int result = called("nvmlDeviceGetNvLinkState", "%lx, %u", NUMBER(device), link);
    return result ? result : link < 6 ? 0 : 2;
}

/* nvmlPciInfo_t: the old text of the place, five numbers, the text. */
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned int link, char place[68])
{
    const unsigned int numbers[5] = {0, link < 2 ? 0x42 : 0xa5, 0, 0x233010de, 0};
    memset(place, 0, 68);
    memcpy(place + 16, numbers, sizeof numbers);
    snprintf(place + 36, 32, "%08X:%02X:%02X.0", numbers[0], numbers[1], numbers[2]);
    return called("nvmlDeviceGetNvLinkRemotePciInfo_v2", "%lx, %u", NUMBER(device), link);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned int link, int *type)
{
    *type = link < 2 ? 0 : 2;
    return called("nvmlDeviceGetNvLinkRemoteDeviceType", "%lx, %u", NUMBER(device), link);
}

/* nvmlFieldValue_t: id, scope, time, latency, type, result, value: 40 bytes. */
int nvmlDeviceGetFieldValues(void *device, int count, char *values)
{
    const unsigned int speed = 26562;
    unsigned int id;
    memcpy(&id, values, sizeof id);
    const int result = id == 90 ? 0 : 3;
    memcpy(values + 28, &result, sizeof result);
    memcpy(values + 32, &speed, sizeof speed);
    return called("nvmlDeviceGetFieldValues", "%lx, %d, %u", NUMBER(device), count, id);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *errors)
{
    *errors = (unsigned long long)machine.memory_errors;
    return called("nvmlDeviceGetTotalEccErrors", "%lx, %d, %d", NUMBER(device), kind, counter);
}
