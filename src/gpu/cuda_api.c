/* Loading NVIDIA's libraries and turning their result codes into sentences. Holds no state. Any
 * thread. Knows nothing of devices or kernels. */
#include "gpu/cuda_api.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WHY_BYTES    256

#define CUDA_SHARED_CALL(member, symbol, hip, parameters) .member = #symbol,
#define HIP_SHARED_CALL(member, symbol, hip, parameters)  .member = #hip,
#define CUDA_ONLY_CALL(member, symbol, parameters)        .member = #symbol,
static const struct cuda_call_names cuda_names = {GPU_VENDOR_LIST(CUDA_SHARED_CALL)
                                                      CUDA_ONLY_LIST(CUDA_ONLY_CALL)};
static const struct cuda_call_names hip_names = {GPU_VENDOR_LIST(HIP_SHARED_CALL)};

#define CUDA_SHARED_SYMBOL(member, symbol, hip, parameters) \
    {#symbol, offsetof(struct cuda_driver_api, member)},
#define HIP_SHARED_SYMBOL(member, symbol, hip, parameters) \
    {#hip, offsetof(struct cuda_driver_api, member)},
#define CUDA_ONLY_SYMBOL(member, symbol, parameters) \
    {#symbol, offsetof(struct cuda_driver_api, member)},
#define NVRTC_SYMBOL(member, symbol, hip, parameters)  {#symbol, offsetof(struct rtc_api, member)},
#define HIPRTC_SYMBOL(member, symbol, hip, parameters) {#hip, offsetof(struct rtc_api, member)},
#define CUBLASLT_SYMBOL(member, symbol, parameters) \
    {#symbol, offsetof(struct cublaslt_api, member)},
#define NVML_SYMBOL(member, symbol, parameters) {#symbol, offsetof(struct nvml_api, member)},

static const struct library_symbol driver_symbols[] = {GPU_VENDOR_LIST(CUDA_SHARED_SYMBOL)
                                                           CUDA_ONLY_LIST(CUDA_ONLY_SYMBOL)};
static const struct library_symbol hip_symbols[] = {
    GPU_VENDOR_LIST(HIP_SHARED_SYMBOL){"hipGetErrorName",
                                       offsetof(struct cuda_driver_api, hip_error_name)},
    {"hipGetErrorString", offsetof(struct cuda_driver_api, hip_error_text)},
};
static const struct library_symbol nvrtc_symbols[] = {
    RTC_LIST(NVRTC_SYMBOL){"nvrtcGetErrorString", offsetof(struct rtc_api, text)},
    {"nvrtcGetNumSupportedArchs", offsetof(struct rtc_api, arch_count)},
    {"nvrtcGetSupportedArchs", offsetof(struct rtc_api, archs)},
};
static const struct library_symbol hiprtc_symbols[] = {
    RTC_LIST(HIPRTC_SYMBOL){"hiprtcGetErrorString", offsetof(struct rtc_api, text)},
};
static const struct library_symbol cublaslt_symbols[] = {
    CUBLASLT_LIST(CUBLASLT_SYMBOL){"cublasLtGetStatusString", offsetof(struct cublaslt_api, text)},
};
static const struct library_symbol nvml_symbols[] = {
    NVML_LIST(NVML_SYMBOL){"nvmlErrorString", offsetof(struct nvml_api, text)},
};

static const char *const driver_names[] = {"libcuda.so.1", NULL};

bool cuda_driver_present(const char *folders)
{
    char why[WHY_BYTES];
    return library_open(driver_names, folders, why, sizeof why) || *why;
}

llcuda_status cuda_driver_load(const char *folders, struct cuda_driver_api *api,
                               struct llcuda_error *error)
{
    char why[WHY_BYTES];
    api->names = &cuda_names;
    void *library = library_open(driver_names, folders, why, sizeof why);
    if (!library && *why) {
        return error_set(error, LLCUDA_UNSUPPORTED, "the NVIDIA driver cannot be loaded: %s", why);
    }
    if (!library) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no NVIDIA driver on this machine (libcuda.so.1): install one, version "
                         "%s or newer, or compute with --device cpu",
                         CUDA_DRIVER_NAME_MIN);
    }
    const char *missing = library_bind(library, driver_symbols, COUNT(driver_symbols), api);
    if (missing) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the NVIDIA driver is too old (it has no %s): install version %s or newer",
                         missing, CUDA_DRIVER_NAME_MIN);
    }
    return LLCUDA_OK;
}

llcuda_status hip_driver_load(const char *folders, struct cuda_driver_api *api, void **library,
                              struct llcuda_error *error)
{
    static const char *const names[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5",
                                        NULL};
    char why[WHY_BYTES];
    api->names = &hip_names;
    *library = library_open(names, folders, why, sizeof why);
    if (!*library) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no AMD driver on this machine (libamdhip64.so)%s%s: install ROCm 5.2 or "
                         "newer, or compute with --device cpu",
                         *why ? ", or one that cannot be loaded: " : "", why);
    }
    const char *missing = library_bind(*library, hip_symbols, COUNT(hip_symbols), api);
    return missing
               ? error_set(error, LLCUDA_UNSUPPORTED,
                           "the AMD driver is too old (it has no %s): install ROCm 5.2 or newer",
                           missing)
               : LLCUDA_OK;
}

/* Library names with a major version in them, newest first. */
struct version_names {
    char text[8][32];
    const char *names[9];
};

static void version_names_fill(struct version_names *list, const char *stem,
                               uint32_t driver_version)
{
    uint32_t count = 0;
    uint32_t oldest = CUDA_DRIVER_VERSION_MIN / 1000;
    for (uint32_t major = driver_version / 1000; major >= oldest && count < COUNT(list->text);
         major--) {
        snprintf(list->text[count], sizeof list->text[count], "%s.so.%u", stem, major);
        list->names[count] = list->text[count];
        count++;
    }
    list->names[count] = NULL;
}

llcuda_status nvrtc_load(const char *path, const char *folders, uint32_t driver_version,
                         struct rtc_api *api, struct llcuda_error *error)
{
    struct version_names list;
    char why[WHY_BYTES];
    version_names_fill(&list, "libnvrtc", driver_version);
    void *library = path ? library_open_file(path, why, sizeof why)
                         : library_open(list.names, folders, why, sizeof why);
    if (!library && (path || *why)) {
        return error_set(error, LLCUDA_UNSUPPORTED, "the kernel compiler cannot be loaded: %s",
                         why);
    }
    if (!library) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no NVRTC (libnvrtc.so) to compile kernels with: install it (pip install "
                         "nvidia-cuda-nvrtc) and name its folder in LLCUDA_CUDA_PATH, or use a "
                         "pack of kernels");
    }
    const char *missing = library_bind(library, nvrtc_symbols, COUNT(nvrtc_symbols), api);
    return missing
               ? error_set(error, LLCUDA_UNSUPPORTED,
                           "NVRTC is too old (it has no %s): install CUDA 12.0 or newer", missing)
               : LLCUDA_OK;
}

void nvrtc_load_builtins(const struct rtc_api *api, uint32_t compiler_version)
{
    char name[48];
    void *function;
    memcpy(&function, &api->version, sizeof function);
    snprintf(name, sizeof name, "libnvrtc-builtins.so.%u.%u", compiler_version / 1000,
             compiler_version % 1000 / 10);
    library_open_beside(function, name);
}

llcuda_status hiprtc_load(const char *path, const char *folders, struct rtc_api *api,
                          struct llcuda_error *error)
{
    /* Before ROCm 6 the compiler is part of the driver's library. */
    static const char *const names[] = {"libhiprtc.so.7", "libhiprtc.so.6", "libamdhip64.so.5",
                                        NULL};
    char why[WHY_BYTES];
    void *library = path ? library_open_file(path, why, sizeof why)
                         : library_open(names, folders, why, sizeof why);
    if (!library) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no hipRTC (libhiprtc.so) to compile kernels with%s%s: install it, name "
                         "its folder in LLCUDA_CUDA_PATH, or use a pack of kernels",
                         *why ? ", or one that cannot be loaded: " : "", why);
    }
    const char *missing = library_bind(library, hiprtc_symbols, COUNT(hiprtc_symbols), api);
    return missing
               ? error_set(error, LLCUDA_UNSUPPORTED, "hipRTC is too old (it has no %s)", missing)
               : LLCUDA_OK;
}

bool cublaslt_present(const char *folders, uint32_t driver_version)
{
    struct version_names list;
    version_names_fill(&list, "libcublasLt", driver_version);
    return library_present(list.names, folders) || library_open(list.names, NULL, NULL, 0) != NULL;
}

llcuda_status cublaslt_load(const char *folders, uint32_t driver_version, struct cublaslt_api *api,
                            struct llcuda_error *error)
{
    struct version_names list;
    char why[WHY_BYTES];
    version_names_fill(&list, "libcublasLt", driver_version);
    void *library = library_open(list.names, folders, why, sizeof why);
    if (!library) {
        return error_set(error, LLCUDA_UNSUPPORTED, "no cuBLASLt: %s",
                         *why ? why : "libcublasLt.so is not on this machine");
    }
    const char *missing = library_bind(library, cublaslt_symbols, COUNT(cublaslt_symbols), api);
    return missing ? error_set(error, LLCUDA_UNSUPPORTED, "cuBLASLt has no %s", missing)
                   : LLCUDA_OK;
}

llcuda_status nvml_load(const char *folders, struct nvml_api *api, struct llcuda_error *error)
{
    static const char *const names[] = {"libnvidia-ml.so.1", NULL};
    void *library = library_open(names, folders, NULL, 0);
    if (!library) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no NVML (libnvidia-ml.so.1) on this machine: no telemetry");
    }
    const char *missing = library_bind(library, nvml_symbols, COUNT(nvml_symbols), api);
    return missing ? error_set(error, LLCUDA_UNSUPPORTED, "NVML has no %s", missing) : LLCUDA_OK;
}

/* What a person can do about a result code; empty where nothing is known to help. */
static const char *advice(int result)
{
    static const struct {
        int result;
        const char *text;
    } list[] = {
        {CUDA_STUB_LIBRARY, ": a toolkit's stub was loaded in place of the driver's library"},
        {CUDA_DEVICE_UNAVAILABLE, ": another process holds the device for itself"},
        {CUDA_NO_DEVICE, ": no GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES"},
        {CUDA_INVALID_DEVICE, ": no GPU is visible; look at rocminfo and HIP_VISIBLE_DEVICES"},
        {CUDA_INVALID_IMAGE, ": the compiler is newer than the driver, or the binary is damaged"},
        {CUDA_NO_BINARY_FOR_GPU, ": the kernels were compiled for another GPU"},
        {CUDA_ILLEGAL_ADDRESS, ": the device's context is lost and must be opened again"},
        {CUDA_LAUNCH_TIMEOUT, ": the device's context is lost and must be opened again"},
        {CUDA_LAUNCH_FAILED, ": the device's context is lost and must be opened again"},
        {CUDA_SYSTEM_NOT_READY, ": start nvidia-fabricmanager, or wait until it is up"},
        {CUDA_SYSTEM_DRIVER_MISMATCH,
         ": the kernel module and the library differ in version; restart the machine"},
        {CUDA_COMPAT_NOT_SUPPORTED, ": the compatibility package does not support this GPU"},
        {CUDA_UNKNOWN, ": is the kernel module loaded (nvidia-smi)?"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        if (list[i].result == result) {
            return list[i].text;
        }
    }
    return "";
}

llcuda_status cuda_check(const struct cuda_driver_api *api, int result, const char *call,
                         struct llcuda_error *error)
{
    const char *name = NULL;
    const char *text = NULL;
    llcuda_status status = LLCUDA_DEVICE;
    if (result == CUDA_SUCCESS) {
        return LLCUDA_OK;
    }
    if (result == CUDA_OUT_OF_MEMORY) {
        status = LLCUDA_OUT_OF_MEMORY;
    } else if (result == CUDA_NOT_SUPPORTED) {
        status = LLCUDA_UNSUPPORTED;
    }
    if (api->hip_error_name) {
        name = api->hip_error_name(result);
        text = api->hip_error_text(result);
    } else if (api->get_error_name(result, &name) || api->get_error_string(result, &text)) {
        name = NULL;
    }
    if (!name || !text) {
        return error_set(error, status, "%s: error %d%s", call, result, advice(result));
    }
    return error_set(error, status, "%s: %s (%s)%s", call, name, text, advice(result));
}
