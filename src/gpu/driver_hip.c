/* Opens AMD GPUs through HIP, whose driver API has the shape of CUDA's: the table itself is that of
 * cuda_table.c and cuda_kernel.c over other symbols. What differs is here: versions, attributes,
 * the name of the architecture, and the compiler, which runs in a child process. No matrix products
 * and no telemetry of the vendor's. One thread at a time. */
#include "gpu/arch.h"
#include "gpu/cuda_driver.h"
#include "gpu/hip_compile.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPILE_TIMEOUT_MS 300000u
/* hipDeviceProp_t grows from version to version; none is longer. */
#define PROPERTIES_BYTES 16384

/* hipDeviceAttribute_t */
enum hip_device_attribute {
    HIP_DEVICE_L2_BYTES = 19,
    HIP_DEVICE_THREADS_MULTIPROCESSOR = 57,
    HIP_DEVICE_MULTIPROCESSOR_COUNT = 63,
    HIP_DEVICE_REGISTERS_MULTIPROCESSOR = 72,
    HIP_DEVICE_SHARED_BLOCK = 74,
    HIP_DEVICE_SHARED_MULTIPROCESSOR = 10002,
};

/* "gfx90a:sramecc+" in a device's properties, up to the colon. The struct's layout depends on the
 * version, so the name is looked for: no other text in it begins like this. */
static llcuda_status read_arch(struct cuda_driver *cuda, void *library, struct llcuda_error *error)
{
    int (*properties_of)(void *, int) = NULL;
    llcuda_status status = LLCUDA_OK;
    void *symbol = dlsym(library, "hipGetDevicePropertiesR0600");
    symbol = symbol ? symbol : dlsym(library, "hipGetDeviceProperties");
    memcpy(&properties_of, &symbol, sizeof symbol);
    char *properties = calloc(1, PROPERTIES_BYTES);
    if (!properties) {
        return error_no_memory(error, "a device's properties", PROPERTIES_BYTES);
    }
    int result = symbol ? properties_of(properties, cuda->device) : CUDA_NOT_SUPPORTED;
    status = cuda_check(&cuda->api, result, "hipGetDeviceProperties", error);
    for (size_t at = 1; !status && at + sizeof cuda->info.arch < PROPERTIES_BYTES; at++) {
        if (properties[at - 1] == 0 && memcmp(properties + at, "gfx", 3) == 0) {
            size_t length = strcspn(properties + at, ":");
            snprintf(cuda->info.arch, sizeof cuda->info.arch, "%.*s",
                     (int)(length < sizeof cuda->info.arch ? length : 0), properties + at);
            break;
        }
    }
    free(properties);
    if (!status && !cuda->info.arch[0]) {
        status = error_set(error, LLCUDA_UNSUPPORTED, "%s does not tell its architecture",
                           cuda->info.name);
    }
    return status;
}

static llcuda_status read_device(struct cuda_driver *cuda, uint32_t index, int count,
                                 struct llcuda_error *error)
{
    int l2_bytes = 0;
    struct gpu_device_info *info = &cuda->info;
    const struct cuda_attribute list[] = {
        {HIP_DEVICE_L2_BYTES, &l2_bytes},
        {HIP_DEVICE_MULTIPROCESSOR_COUNT, &info->multiprocessor_count},
        {HIP_DEVICE_SHARED_BLOCK, &info->shared_bytes_block_max},
        {HIP_DEVICE_SHARED_MULTIPROCESSOR, &info->shared_bytes_multiprocessor},
        {HIP_DEVICE_THREADS_MULTIPROCESSOR, &info->threads_multiprocessor_max},
        {HIP_DEVICE_REGISTERS_MULTIPROCESSOR, &info->registers_multiprocessor},
    };
    llcuda_status status =
        cuda_read_device(cuda, index, (uint32_t)count, list, sizeof list / sizeof *list, error);
    info->l2_bytes = (uint64_t)l2_bytes;
    info->warp_size = 32; /* what kernels see: vendor_amd.cuh */
    return status;
}

static llcuda_status start(struct cuda_driver *cuda, const char *folders, void **library,
                           int *count, struct llcuda_error *error)
{
    int version = 0;
    llcuda_status status = hip_driver_load(folders, &cuda->api, library, error);
    if (!status) {
        status = cuda_start(cuda, "AMD", count, error);
    }
    if (!status) {
        status = CUDA_CALL(cuda, error, driver_version, &version);
    }
    /* 50221153 is 5.2. */
    cuda->info.driver_version = (uint32_t)(version / 10000000 * 1000 + version / 100000 % 100 * 10);
    return status;
}

static llcuda_status compile(struct gpu_driver *driver, const struct gpu_compile_request *request,
                             struct buffer *binary, struct buffer *log, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const char *arch = request->arch ? request->arch : cuda->info.arch;
    size_t length = strspn(arch, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (!cuda->info.compiler_version) {
        return error_set(error, LLCUDA_UNSUPPORTED, "%s", cuda->compiler_error.message);
    }
    if (strncmp(arch, "gfx", 3) != 0 || arch[length] || length < 6) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "'%s' is no architecture of AMD's, such as gfx90a or gfx1030", arch);
    }
    return hip_compile_in_child(&cuda->rtc, request, arch, COMPILE_TIMEOUT_MS, binary, log, error);
}

static void find_compiler(struct cuda_driver *cuda, const struct gpu_open_options *options)
{
    if (!hiprtc_load(options->compiler, options->library_path, &cuda->rtc, &cuda->compiler_error)) {
        cuda->info.compiler_version = cuda_find_compiler(cuda);
    }
}

llcuda_status gpu_driver_open_hip(const struct gpu_open_options *options,
                                  struct gpu_driver **driver, struct llcuda_error *error)
{
    int count = 0;
    void *library = NULL;
    *driver = NULL;
    struct cuda_driver *cuda = calloc(1, sizeof *cuda);
    if (!cuda) {
        return error_no_memory(error, "a HIP driver", sizeof *cuda);
    }
    cuda_table_fill(&cuda->table);
    cuda->table.tensor_map = NULL;
    cuda->table.compile = compile;
    cuda->info.vendor = GPU_HIP;
    cuda->nvml_tried = true; /* another vendor's */
    llcuda_status status = start(cuda, options->library_path, &library, &count, error);
    if (!status) {
        status = read_device(cuda, options->index, count, error);
    }
    if (!status) {
        status = read_arch(cuda, library, error);
    }
    if (!status) {
        status = cuda_open_context(cuda, error);
    }
    if (status) {
        cuda_close(&cuda->table);
        return status;
    }
    find_compiler(cuda, options);
    *driver = &cuda->table;
    return LLCUDA_OK;
}

llcuda_status gpu_compiler_open_hip(const struct gpu_open_options *options,
                                    struct gpu_driver **driver, struct llcuda_error *error)
{
    struct cuda_driver *cuda;
    *driver = NULL;
    llcuda_status status = cuda_compiler_create(options, GPU_HIP, compile, &cuda, error);
    if (status) {
        return status;
    }
    find_compiler(cuda, options);
    return cuda_compiler_finish(cuda, driver, error);
}

llcuda_status gpu_driver_probe_hip(const struct gpu_open_options *options, uint32_t *count,
                                   struct llcuda_error *error)
{
    int found = 0;
    void *library = NULL;
    struct cuda_driver cuda = {0};
    llcuda_status status = start(&cuda, options->library_path, &library, &found, error);
    *count = status || found < 0 ? 0 : (uint32_t)found;
    return status;
}

uint32_t gpu_driver_count_hip(void)
{
    const struct gpu_open_options options = {0};
    uint32_t count = 0;
    gpu_driver_probe_hip(&options, &count, NULL);
    return count;
}
