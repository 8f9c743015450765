/* What is used of NVIDIA's libraries, in declarations of our own: libcuda (the driver API), NVRTC,
 * cublasLt and NVML; and of AMD's HIP, whose driver API has the same shape. Idea: each library is
 * one list X(member, symbol, parameters), which becomes a struct of pointers, a table of symbols
 * and the names in messages.
 *
 * Numbers and layouts follow the CUDA 12 and 13 documentation of the driver API, NVRTC, cuBLAS and
 * NVML; they are part of those libraries' ABI. Handles are plain pointers. */
#ifndef GPU_CUDA_API_H
#define GPU_CUDA_API_H

#include "gpu/library.h"

#include <assert.h>

/* The oldest driver: CUDA 12.0, 525.60.13. */
#define CUDA_DRIVER_VERSION_MIN 12000
#define CUDA_DRIVER_NAME_MIN    "525.60.13"
/* Stands for a driver that loads the binaries of every compiler that there is. */
#define CUDA_DRIVER_VERSION_ANY 16000
/* Programmatic dependent launches inside graphs: CUDA 12.3. */
#define CUDA_DRIVER_VERSION_OVERLAP 12030
/* The oldest GPUs that kernels are compiled for: Volta. */
#define CUDA_CAPABILITY_MIN     70u
#define CUDA_CAPABILITY_OVERLAP 90u

/* CUresult, as far as code depends on it. */
enum cuda_result {
    CUDA_SUCCESS = 0,
    CUDA_INVALID_VALUE = 1,
    CUDA_OUT_OF_MEMORY = 2,
    CUDA_STUB_LIBRARY = 34,
    CUDA_DEVICE_UNAVAILABLE = 46,
    CUDA_NO_DEVICE = 100,
    CUDA_INVALID_DEVICE = 101,
    CUDA_INVALID_IMAGE = 200,
    CUDA_NO_BINARY_FOR_GPU = 209,
    CUDA_NOT_FOUND = 500,
    CUDA_NOT_READY = 600,
    CUDA_ILLEGAL_ADDRESS = 700,
    CUDA_LAUNCH_TIMEOUT = 702,
    CUDA_LAUNCH_FAILED = 719,
    CUDA_NOT_SUPPORTED = 801,
    CUDA_SYSTEM_NOT_READY = 802,
    CUDA_SYSTEM_DRIVER_MISMATCH = 803,
    CUDA_COMPAT_NOT_SUPPORTED = 804,
    CUDA_UNKNOWN = 999,
};

/* CUdevice_attribute */
enum cuda_device_attribute {
    CUDA_DEVICE_WARP_SIZE = 10,
    CUDA_DEVICE_MULTIPROCESSOR_COUNT = 16,
    CUDA_DEVICE_L2_BYTES = 38,
    CUDA_DEVICE_THREADS_MULTIPROCESSOR = 39,
    CUDA_DEVICE_CAPABILITY_MAJOR = 75,
    CUDA_DEVICE_CAPABILITY_MINOR = 76,
    CUDA_DEVICE_SHARED_MULTIPROCESSOR = 81,
    CUDA_DEVICE_REGISTERS_MULTIPROCESSOR = 82,
    CUDA_DEVICE_SHARED_BLOCK_OPTIN = 97,
};

/* CUfunction_attribute */
enum cuda_function_attribute {
    CUDA_FUNCTION_THREADS_MAX = 0,
    CUDA_FUNCTION_SHARED_BYTES = 1,
    CUDA_FUNCTION_LOCAL_BYTES = 3,
    CUDA_FUNCTION_REGISTERS = 4,
    CUDA_FUNCTION_DYNAMIC_SHARED_BYTES_MAX = 8,
};

#define CUDA_STREAM_NON_BLOCKING                  1u
#define CUDA_EVENT_DEFAULT                        0u
#define CUDA_EVENT_DISABLE_TIMING                 2u
#define CUDA_HOST_PORTABLE                        1u
#define CUDA_CAPTURE_THREAD_LOCAL                 1
#define CUDA_CAPTURE_RELAXED                      2
#define CUDA_JIT_ERROR_LOG                        5
#define CUDA_JIT_ERROR_LOG_BYTES                  6
#define CUDA_ATTRIBUTE_PROGRAMMATIC_SERIALIZATION 6u

/* CUtensorMapDataType, …Swizzle, …L2promotion */
#define CUDA_TENSOR_FLOAT16      6
#define CUDA_TENSOR_BFLOAT16     9
#define CUDA_TENSOR_SWIZZLE_128B 3
#define CUDA_TENSOR_L2_256B      3

/* CUlaunchAttribute: an id, padded to 8, and a union of 64 bytes. */
struct cuda_launch_attribute {
    uint32_t id;
    uint32_t padding;
    union {
        uint8_t bytes[64];
        int32_t enabled;
        uint64_t alignment;
    } value;
};
_Static_assert(sizeof(struct cuda_launch_attribute) == 72, "CUlaunchAttribute");
_Static_assert(offsetof(struct cuda_launch_attribute, value) == 8, "CUlaunchAttribute.value");

/* CUlaunchConfig */
struct cuda_launch_config {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    void *stream;
    struct cuda_launch_attribute *attributes;
    uint32_t attribute_count;
};
_Static_assert(offsetof(struct cuda_launch_config, stream) == 32, "CUlaunchConfig.hStream");
_Static_assert(offsetof(struct cuda_launch_config, attribute_count) == 48, "numAttrs");
_Static_assert(sizeof(struct cuda_launch_config) == 56, "CUlaunchConfig");

/* X(member, CUDA symbol, HIP symbol, parameters): what both vendors have, HIP with the same numbers
 * and layouts under other names. */
#define GPU_VENDOR_LIST(X)                                                                         \
    X(init, cuInit, hipInit, (unsigned))                                                           \
    X(driver_version, cuDriverGetVersion, hipDriverGetVersion, (int *))                            \
    X(device_get, cuDeviceGet, hipDeviceGet, (int *, int))                                         \
    X(device_count, cuDeviceGetCount, hipGetDeviceCount, (int *))                                  \
    X(device_name, cuDeviceGetName, hipDeviceGetName, (char *, int, int))                          \
    X(device_memory, cuDeviceTotalMem_v2, hipDeviceTotalMem, (size_t *, int))                      \
    X(device_attribute, cuDeviceGetAttribute, hipDeviceGetAttribute, (int *, int, int))            \
    X(device_pci_bus_id, cuDeviceGetPCIBusId, hipDeviceGetPCIBusId, (char *, int, int))            \
    X(context_retain, cuDevicePrimaryCtxRetain, hipDevicePrimaryCtxRetain, (void **, int))         \
    X(context_release, cuDevicePrimaryCtxRelease_v2, hipDevicePrimaryCtxRelease, (int))            \
    X(context_set, cuCtxSetCurrent, hipCtxSetCurrent, (void *))                                    \
    X(memory_info, cuMemGetInfo_v2, hipMemGetInfo, (size_t *, size_t *))                           \
    X(memory_alloc, cuMemAlloc_v2, hipMalloc, (uint64_t *, size_t))                                \
    X(memory_free, cuMemFree_v2, hipFree, (uint64_t))                                              \
    X(host_alloc, cuMemHostAlloc, hipHostMalloc, (void **, size_t, unsigned))                      \
    X(host_free, cuMemFreeHost, hipHostFree, (void *))                                             \
    X(copy_in, cuMemcpyHtoDAsync_v2, hipMemcpyHtoDAsync, (uint64_t, const void *, size_t, void *)) \
    X(copy_out, cuMemcpyDtoHAsync_v2, hipMemcpyDtoHAsync, (void *, uint64_t, size_t, void *))      \
    X(copy, cuMemcpyDtoDAsync_v2, hipMemcpyDtoDAsync, (uint64_t, uint64_t, size_t, void *))        \
    X(fill, cuMemsetD8Async, hipMemsetD8Async, (uint64_t, unsigned char, size_t, void *))          \
    X(stream_create, cuStreamCreate, hipStreamCreateWithFlags, (void **, unsigned))                \
    X(stream_destroy, cuStreamDestroy_v2, hipStreamDestroy, (void *))                              \
    X(stream_query, cuStreamQuery, hipStreamQuery, (void *))                                       \
    X(stream_wait_event, cuStreamWaitEvent, hipStreamWaitEvent, (void *, void *, unsigned))        \
    X(event_create, cuEventCreate, hipEventCreateWithFlags, (void **, unsigned))                   \
    X(event_destroy, cuEventDestroy_v2, hipEventDestroy, (void *))                                 \
    X(event_record, cuEventRecord, hipEventRecord, (void *, void *))                               \
    X(event_query, cuEventQuery, hipEventQuery, (void *))                                          \
    X(event_elapsed, cuEventElapsedTime, hipEventElapsedTime, (float *, void *, void *))           \
    X(module_load, cuModuleLoadDataEx, hipModuleLoadDataEx,                                        \
      (void **, const void *, unsigned, int *, void **))                                           \
    X(module_unload, cuModuleUnload, hipModuleUnload, (void *))                                    \
    X(module_function, cuModuleGetFunction, hipModuleGetFunction, (void **, void *, const char *)) \
    X(function_attribute, cuFuncGetAttribute, hipFuncGetAttribute, (int *, int, void *))           \
    X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                      \
      hipModuleOccupancyMaxActiveBlocksPerMultiprocessor, (int *, void *, int, size_t))            \
    X(launch, cuLaunchKernel, hipModuleLaunchKernel,                                               \
      (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,       \
       void **, void **))                                                                          \
    X(capture_begin, cuStreamBeginCapture_v2, hipStreamBeginCapture, (void *, int))                \
    X(capture_end, cuStreamEndCapture, hipStreamEndCapture, (void *, void **))                     \
    X(graph_instantiate, cuGraphInstantiateWithFlags, hipGraphInstantiateWithFlags,                \
      (void **, void *, unsigned long long))                                                       \
    X(graph_launch, cuGraphLaunch, hipGraphLaunch, (void *, void *))                               \
    X(graph_destroy, cuGraphDestroy, hipGraphDestroy, (void *))                                    \
    X(graph_exec_destroy, cuGraphExecDestroy, hipGraphExecDestroy, (void *))

/* X(member, symbol, parameters): what only CUDA has. */
#define CUDA_ONLY_LIST(X)                                                                         \
    X(get_error_name, cuGetErrorName, (int, const char **))                                       \
    X(get_error_string, cuGetErrorString, (int, const char **))                                   \
    X(function_attribute_set, cuFuncSetAttribute, (void *, int, int))                             \
    X(launch_ex, cuLaunchKernelEx, (const struct cuda_launch_config *, void *, void **, void **)) \
    X(capture_mode, cuThreadExchangeStreamCaptureMode, (int *))                                   \
    X(tensor_map, cuTensorMapEncodeTiled,                                                         \
      (void *, int, unsigned, void *, const uint64_t *, const uint64_t *, const unsigned *,       \
       const unsigned *, int, int, int, int))

/* The driver's functions. Of HIP those of CUDA_ONLY_LIST are NULL, of CUDA hip_error_…. */
struct cuda_driver_api {
#define CUDA_SHARED_MEMBER(member, symbol, hip, parameters) int(*member) parameters;
    GPU_VENDOR_LIST(CUDA_SHARED_MEMBER)
#undef CUDA_SHARED_MEMBER
    CUDA_ONLY_LIST(LIBRARY_MEMBER)
    const struct cuda_call_names *names;
    const char *(*hip_error_name)(int);
    const char *(*hip_error_text)(int);
};

/* The calls' names for messages: names->memory_alloc. */
struct cuda_call_names {
#define CUDA_SHARED_NAME(member, symbol, hip, parameters) const char *member;
    GPU_VENDOR_LIST(CUDA_SHARED_NAME)
#undef CUDA_SHARED_NAME
#define CUDA_ONLY_NAME(member, symbol, parameters) const char *member;
    CUDA_ONLY_LIST(CUDA_ONLY_NAME)
#undef CUDA_ONLY_NAME
};

/* nvrtcGetErrorString, cublasLtGetStatusString and nvmlErrorString return text; they are called
 * through their own type. */
typedef const char *cuda_status_text(int status);

/* X(member, NVRTC symbol, hipRTC symbol, parameters) */
#define RTC_LIST(X)                                                                           \
    X(version, nvrtcVersion, hiprtcVersion, (int *, int *))                                   \
    X(create, nvrtcCreateProgram, hiprtcCreateProgram,                                        \
      (void **, const char *, const char *, int, const char *const *, const char *const *))   \
    X(destroy, nvrtcDestroyProgram, hiprtcDestroyProgram, (void **))                          \
    X(compile, nvrtcCompileProgram, hiprtcCompileProgram, (void *, int, const char *const *)) \
    X(binary_size, nvrtcGetCUBINSize, hiprtcGetCodeSize, (void *, size_t *))                  \
    X(binary, nvrtcGetCUBIN, hiprtcGetCode, (void *, char *))                                 \
    X(log_size, nvrtcGetProgramLogSize, hiprtcGetProgramLogSize, (void *, size_t *))          \
    X(log, nvrtcGetProgramLog, hiprtcGetProgramLog, (void *, char *))

#define RTC_COMPILATION_FAILED 6

/* A run-time compiler; hipRTC has the shape of NVRTC. */
struct rtc_api {
#define RTC_MEMBER(member, symbol, hip, parameters) int(*member) parameters;
    RTC_LIST(RTC_MEMBER)
#undef RTC_MEMBER
    cuda_status_text *text;
    /* Of NVRTC only: */
    int (*arch_count)(int *);
    int (*archs)(int *);
};

/* cublasLtMatmulHeuristicResult_t */
struct cublaslt_choice {
    uint64_t algorithm[8];
    size_t workspace_bytes;
    int32_t state;
    float waves;
    int32_t reserved[4];
};
_Static_assert(sizeof(struct cublaslt_choice) == 96, "cublasLtMatmulHeuristicResult_t");

enum cublaslt_number {
    CUBLASLT_NOT_SUPPORTED = 15,      /* CUBLAS_STATUS_NOT_SUPPORTED */
    CUBLASLT_ALLOC_FAILED = 3,        /* CUBLAS_STATUS_ALLOC_FAILED */
    CUBLASLT_OPERATION_TRANSPOSE = 1, /* CUBLAS_OP_T */
    CUBLASLT_COMPUTE_F32 = 68,        /* CUBLAS_COMPUTE_32F */
    CUBLASLT_TYPE_F32 = 0,            /* CUDA_R_32F */
    CUBLASLT_TYPE_F16 = 2,            /* CUDA_R_16F */
    CUBLASLT_TYPE_BF16 = 14,          /* CUDA_R_16BF */
    CUBLASLT_DESCRIPTOR_TRANSPOSE_A = 3,
    CUBLASLT_PREFERENCE_WORKSPACE_BYTES = 1,
    CUBLASLT_PREFERENCE_ALIGNMENT_A = 5, /* B, C and D follow */
};

#define CUBLASLT_LIST(X)                                                                         \
    X(create, cublasLtCreate, (void **))                                                         \
    X(destroy, cublasLtDestroy, (void *))                                                        \
    X(descriptor_create, cublasLtMatmulDescCreate, (void **, int, int))                          \
    X(descriptor_destroy, cublasLtMatmulDescDestroy, (void *))                                   \
    X(descriptor_set, cublasLtMatmulDescSetAttribute, (void *, int, const void *, size_t))       \
    X(layout_create, cublasLtMatrixLayoutCreate, (void **, int, uint64_t, uint64_t, int64_t))    \
    X(layout_destroy, cublasLtMatrixLayoutDestroy, (void *))                                     \
    X(preference_create, cublasLtMatmulPreferenceCreate, (void **))                              \
    X(preference_destroy, cublasLtMatmulPreferenceDestroy, (void *))                             \
    X(preference_set, cublasLtMatmulPreferenceSetAttribute, (void *, int, const void *, size_t)) \
    X(heuristic, cublasLtMatmulAlgoGetHeuristic,                                                 \
      (void *, void *, void *, void *, void *, void *, void *, int, struct cublaslt_choice *,    \
       int *))                                                                                   \
    X(matmul, cublasLtMatmul,                                                                    \
      (void *, void *, const void *, uint64_t, void *, uint64_t, void *, const void *, uint64_t, \
       void *, uint64_t, void *, const uint64_t *, uint64_t, size_t, void *))

struct cublaslt_api {
    CUBLASLT_LIST(LIBRARY_MEMBER)
    cuda_status_text *text;
};

/* nvmlUtilization_t and nvmlMemory_t */
struct nvml_utilisation {
    unsigned gpu_percent;
    unsigned memory_percent;
};
struct nvml_memory {
    unsigned long long total, free, used;
};

/* nvmlPciInfo_t and nvmlFieldValue_t */
struct nvml_place {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};
struct nvml_field {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned type;
    int result;
    union {
        double number;
        unsigned narrow;
        unsigned long long wide;
    } value;
};
static_assert(sizeof(struct nvml_place) == 68 && sizeof(struct nvml_field) == 40,
              "structs of NVML's ABI");

#define NVML_FIELD_LINK_SPEED     90 /* megabytes a second, common to all links that are up */
#define NVML_LINK_TO_SWITCH       2
#define NVML_ERRORS_UNCORRECTED   1
#define NVML_ERRORS_SINCE_LOADED  0
#define NVML_CLOCK_MULTIPROCESSOR 1
#define NVML_CLOCK_MEMORY         2
#define NVML_TEMPERATURE_GPU      0

#define NVML_LIST(X)                                                                            \
    X(init, nvmlInit_v2, (void))                                                                \
    X(shutdown, nvmlShutdown, (void))                                                           \
    X(device, nvmlDeviceGetHandleByPciBusId_v2, (const char *, void **))                        \
    X(utilisation, nvmlDeviceGetUtilizationRates, (void *, struct nvml_utilisation *))          \
    X(temperature, nvmlDeviceGetTemperature, (void *, int, unsigned *))                         \
    X(power, nvmlDeviceGetPowerUsage, (void *, unsigned *))                                     \
    X(power_limit, nvmlDeviceGetEnforcedPowerLimit, (void *, unsigned *))                       \
    X(clock, nvmlDeviceGetClockInfo, (void *, int, unsigned *))                                 \
    X(memory, nvmlDeviceGetMemoryInfo, (void *, struct nvml_memory *))                          \
    X(driver_name, nvmlSystemGetDriverVersion, (char *, unsigned))                              \
    X(pcie_generation, nvmlDeviceGetCurrPcieLinkGeneration, (void *, unsigned *))               \
    X(pcie_lanes, nvmlDeviceGetCurrPcieLinkWidth, (void *, unsigned *))                         \
    X(link_state, nvmlDeviceGetNvLinkState, (void *, unsigned, int *))                          \
    X(link_place, nvmlDeviceGetNvLinkRemotePciInfo_v2, (void *, unsigned, struct nvml_place *)) \
    X(link_type, nvmlDeviceGetNvLinkRemoteDeviceType, (void *, unsigned, int *))                \
    X(fields, nvmlDeviceGetFieldValues, (void *, int, struct nvml_field *))                     \
    X(errors, nvmlDeviceGetTotalEccErrors, (void *, int, int, unsigned long long *))

/* nvmlReturn_t */
#define NVML_GPU_IS_LOST 15

struct nvml_api {
    NVML_LIST(LIBRARY_MEMBER)
    cuda_status_text *text;
};

/* Whether there is a library of that name, be it one that can be loaded or not. */
bool cuda_driver_present(const char *folders);

/* Each loads a library (folders as library_open) and fills its table. UNSUPPORTED when it is not on
 * this machine, cannot be loaded or lacks a function; the sentence says what to do. */
llcuda_status cuda_driver_load(const char *folders, struct cuda_driver_api *api,
                               struct llcuda_error *error);
/* The same table from AMD's libamdhip64, of which *library becomes the handle. */
llcuda_status hip_driver_load(const char *folders, struct cuda_driver_api *api, void **library,
                              struct llcuda_error *error);
/* `path`: this file and no other (NULL: found). Only libraries up to the driver's major version,
 * since a driver does not load binaries of a newer one. */
llcuda_status nvrtc_load(const char *path, const char *folders, uint32_t driver_version,
                         struct rtc_api *api, struct llcuda_error *error);
/* NVRTC asks the system's loader, by its name alone, for a library that lies beside it and has what
 * compilations need: found only when it is loaded already, where NVRTC's folder was named to us and
 * not to the loader. Nothing happens when there is none. */
void nvrtc_load_builtins(const struct rtc_api *api, uint32_t compiler_version);
llcuda_status hiprtc_load(const char *path, const char *folders, struct rtc_api *api,
                          struct llcuda_error *error);
llcuda_status cublaslt_load(const char *folders, uint32_t driver_version, struct cublaslt_api *api,
                            struct llcuda_error *error);
/* Whether cublaslt_load has a chance, without the tenth of a second that loading takes. */
bool cublaslt_present(const char *folders, uint32_t driver_version);
llcuda_status nvml_load(const char *folders, struct nvml_api *api, struct llcuda_error *error);

/* The status and sentence for a CUresult: OK for 0; "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (out
 * of memory)" and what to do about it otherwise. */
llcuda_status cuda_check(const struct cuda_driver_api *api, int result, const char *call,
                         struct llcuda_error *error);

#endif
