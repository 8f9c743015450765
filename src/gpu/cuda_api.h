/* What is used of NVIDIA's libraries, in declarations of our own: libcuda (the driver API), NVRTC,
 * cublasLt and NVML. Idea: each library is one list X(member, symbol, parameters), which becomes a
 * struct of pointers, a table of symbols and the names in messages.
 *
 * Numbers and layouts follow the CUDA 12 and 13 documentation of the driver API, NVRTC, cuBLAS and
 * NVML; they are part of those libraries' ABI. Handles are plain pointers. */
#ifndef GPU_CUDA_API_H
#define GPU_CUDA_API_H

#include "gpu/library.h"

/* The oldest driver: CUDA 12.0, 525.60.13. */
#define CUDA_DRIVER_VERSION_MIN 12000
#define CUDA_DRIVER_NAME_MIN    "525.60.13"
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

#define CUDA_DRIVER_LIST(X)                                                                       \
    X(get_error_name, cuGetErrorName, (int, const char **))                                       \
    X(get_error_string, cuGetErrorString, (int, const char **))                                   \
    X(init, cuInit, (unsigned))                                                                   \
    X(driver_version, cuDriverGetVersion, (int *))                                                \
    X(device_get, cuDeviceGet, (int *, int))                                                      \
    X(device_count, cuDeviceGetCount, (int *))                                                    \
    X(device_name, cuDeviceGetName, (char *, int, int))                                           \
    X(device_memory, cuDeviceTotalMem_v2, (size_t *, int))                                        \
    X(device_attribute, cuDeviceGetAttribute, (int *, int, int))                                  \
    X(device_pci_bus_id, cuDeviceGetPCIBusId, (char *, int, int))                                 \
    X(context_retain, cuDevicePrimaryCtxRetain, (void **, int))                                   \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (int))                                       \
    X(context_set, cuCtxSetCurrent, (void *))                                                     \
    X(memory_info, cuMemGetInfo_v2, (size_t *, size_t *))                                         \
    X(memory_alloc, cuMemAlloc_v2, (uint64_t *, size_t))                                          \
    X(memory_free, cuMemFree_v2, (uint64_t))                                                      \
    X(host_alloc, cuMemHostAlloc, (void **, size_t, unsigned))                                    \
    X(host_free, cuMemFreeHost, (void *))                                                         \
    X(copy_in, cuMemcpyHtoDAsync_v2, (uint64_t, const void *, size_t, void *))                    \
    X(copy_out, cuMemcpyDtoHAsync_v2, (void *, uint64_t, size_t, void *))                         \
    X(copy, cuMemcpyDtoDAsync_v2, (uint64_t, uint64_t, size_t, void *))                           \
    X(fill, cuMemsetD8Async, (uint64_t, unsigned char, size_t, void *))                           \
    X(stream_create, cuStreamCreate, (void **, unsigned))                                         \
    X(stream_destroy, cuStreamDestroy_v2, (void *))                                               \
    X(stream_query, cuStreamQuery, (void *))                                                      \
    X(stream_wait_event, cuStreamWaitEvent, (void *, void *, unsigned))                           \
    X(event_create, cuEventCreate, (void **, unsigned))                                           \
    X(event_destroy, cuEventDestroy_v2, (void *))                                                 \
    X(event_record, cuEventRecord, (void *, void *))                                              \
    X(event_query, cuEventQuery, (void *))                                                        \
    X(event_elapsed, cuEventElapsedTime, (float *, void *, void *))                               \
    X(module_load, cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **))         \
    X(module_unload, cuModuleUnload, (void *))                                                    \
    X(module_function, cuModuleGetFunction, (void **, void *, const char *))                      \
    X(function_attribute, cuFuncGetAttribute, (int *, int, void *))                               \
    X(function_attribute_set, cuFuncSetAttribute, (void *, int, int))                             \
    X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, void *, int, size_t))       \
    X(launch, cuLaunchKernel,                                                                     \
      (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,      \
       void **, void **))                                                                         \
    X(launch_ex, cuLaunchKernelEx, (const struct cuda_launch_config *, void *, void **, void **)) \
    X(capture_begin, cuStreamBeginCapture_v2, (void *, int))                                      \
    X(capture_end, cuStreamEndCapture, (void *, void **))                                         \
    X(capture_mode, cuThreadExchangeStreamCaptureMode, (int *))                                   \
    X(graph_instantiate, cuGraphInstantiateWithFlags, (void **, void *, unsigned long long))      \
    X(graph_launch, cuGraphLaunch, (void *, void *))                                              \
    X(graph_destroy, cuGraphDestroy, (void *))                                                    \
    X(graph_exec_destroy, cuGraphExecDestroy, (void *))

struct cuda_driver_api {
    CUDA_DRIVER_LIST(LIBRARY_MEMBER)
};

/* The call's name for messages, from the list: cuda_call_names.memory_alloc. */
#define CUDA_CALL_NAME(member, symbol, parameters) const char *member;
extern const struct cuda_call_names {
    CUDA_DRIVER_LIST(CUDA_CALL_NAME)
} cuda_call_names;

/* nvrtcGetErrorString, cublasLtGetStatusString and nvmlErrorString return text; they are called
 * through their own type. */
typedef const char *cuda_status_text(int status);

#define NVRTC_LIST(X)                                                                       \
    X(version, nvrtcVersion, (int *, int *))                                                \
    X(arch_count, nvrtcGetNumSupportedArchs, (int *))                                       \
    X(archs, nvrtcGetSupportedArchs, (int *))                                               \
    X(create, nvrtcCreateProgram,                                                           \
      (void **, const char *, const char *, int, const char *const *, const char *const *)) \
    X(destroy, nvrtcDestroyProgram, (void **))                                              \
    X(compile, nvrtcCompileProgram, (void *, int, const char *const *))                     \
    X(binary_size, nvrtcGetCUBINSize, (void *, size_t *))                                   \
    X(binary, nvrtcGetCUBIN, (void *, char *))                                              \
    X(log_size, nvrtcGetProgramLogSize, (void *, size_t *))                                 \
    X(log, nvrtcGetProgramLog, (void *, char *))

#define NVRTC_ERROR_COMPILATION 6

struct nvrtc_api {
    NVRTC_LIST(LIBRARY_MEMBER)
    cuda_status_text *text;
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

#define NVML_CLOCK_MULTIPROCESSOR 1
#define NVML_CLOCK_MEMORY         2
#define NVML_TEMPERATURE_GPU      0

#define NVML_LIST(X)                                                                   \
    X(init, nvmlInit_v2, (void))                                                       \
    X(shutdown, nvmlShutdown, (void))                                                  \
    X(device, nvmlDeviceGetHandleByPciBusId_v2, (const char *, void **))               \
    X(utilisation, nvmlDeviceGetUtilizationRates, (void *, struct nvml_utilisation *)) \
    X(temperature, nvmlDeviceGetTemperature, (void *, int, unsigned *))                \
    X(power, nvmlDeviceGetPowerUsage, (void *, unsigned *))                            \
    X(power_limit, nvmlDeviceGetEnforcedPowerLimit, (void *, unsigned *))              \
    X(clock, nvmlDeviceGetClockInfo, (void *, int, unsigned *))                        \
    X(memory, nvmlDeviceGetMemoryInfo, (void *, struct nvml_memory *))                 \
    X(driver_name, nvmlSystemGetDriverVersion, (char *, unsigned))

struct nvml_api {
    NVML_LIST(LIBRARY_MEMBER)
    cuda_status_text *text;
};

/* Each loads a library (folders as library_open) and fills its table. UNSUPPORTED when it is not on
 * this machine, cannot be loaded or lacks a function; the sentence says what to do. */
llcuda_status cuda_driver_load(const char *folders, struct cuda_driver_api *api,
                               struct llcuda_error *error);
/* `path`: this file and no other (NULL: found). Only libraries up to the driver's major version,
 * since a driver does not load binaries of a newer one. */
llcuda_status nvrtc_load(const char *path, const char *folders, uint32_t driver_version,
                         struct nvrtc_api *api, struct llcuda_error *error);
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
