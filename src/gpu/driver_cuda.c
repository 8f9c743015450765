/* Opens NVIDIA GPUs: libcuda's version, a device's attributes, NVRTC, and whether cublasLt is
 * there. What the table does is in cuda_table.c, cuda_kernel.c, cuda_matmul.c and cuda_monitor.c.
 * One thread at a time. */
#include "gpu/arch.h"
#include "gpu/cuda_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static llcuda_status read_device(struct cuda_driver *cuda, uint32_t index, int count,
                                 struct llcuda_error *error)
{
    int major = 0, minor = 0, l2_bytes = 0;
    struct gpu_device_info *info = &cuda->info;
    const struct cuda_attribute list[] = {
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
    llcuda_status status =
        cuda_read_device(cuda, index, (uint32_t)count, list, sizeof list / sizeof *list, error);
    if (status) {
        return status;
    }
    info->capability = (uint32_t)(major * 10 + minor);
    info->l2_bytes = (uint64_t)l2_bytes;
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
    return cuda_start(cuda, "NVIDIA", count, error);
}

static void find_compiler(struct cuda_driver *cuda, const struct gpu_open_options *options,
                          uint32_t driver_version)
{
    if (!nvrtc_load(options->compiler, options->library_path, driver_version, &cuda->rtc,
                    &cuda->compiler_error)) {
        cuda->info.compiler_version = cuda_find_compiler(cuda);
        nvrtc_load_builtins(&cuda->rtc, cuda->info.compiler_version);
    }
}

/* A driver whose device has been read; closed again when that failed. */
static llcuda_status open_device(const struct gpu_open_options *options, struct cuda_driver **made,
                                 struct llcuda_error *error)
{
    int count = 0;
    llcuda_status status = LLCUDA_OK;
    struct cuda_driver *cuda = calloc(1, sizeof *cuda);
    if (!cuda) {
        return error_no_memory(error, "a CUDA driver", sizeof *cuda);
    }
    cuda_table_fill(&cuda->table);
    cuda->table.compile = cuda_compile;
    cuda->info.vendor = GPU_CUDA;
    if (options->library_path && !(cuda->folders = strdup(options->library_path))) {
        status = error_no_memory(error, "a path", strlen(options->library_path));
    }
    if (!status) {
        status = start(cuda, cuda->folders, &count, error);
    }
    if (!status) {
        status = read_device(cuda, options->index, count, error);
    }
    if (status) {
        cuda_close(&cuda->table);
        return status;
    }
    *made = cuda;
    return LLCUDA_OK;
}

llcuda_status gpu_driver_open_cuda(const struct gpu_open_options *options,
                                   struct gpu_driver **driver, struct llcuda_error *error)
{
    struct cuda_driver *cuda = NULL;
    *driver = NULL;
    llcuda_status status = open_device(options, &cuda, error);
    if (status) {
        return status;
    }
    status = cuda_open_context(cuda, error);
    if (status) {
        cuda_close(&cuda->table);
        return status;
    }
    find_compiler(cuda, options, cuda->info.driver_version);
    if (cublaslt_present(cuda->folders, cuda->info.driver_version)) {
        cuda_matmul_fill(&cuda->table);
    }
    *driver = &cuda->table;
    return LLCUDA_OK;
}

llcuda_status gpu_driver_watch_cuda(const struct gpu_open_options *options,
                                    struct gpu_driver **driver, struct llcuda_error *error)
{
    struct cuda_driver *cuda = NULL;
    llcuda_status status = open_device(options, &cuda, error);
    *driver = status ? NULL : &cuda->table;
    return status;
}

llcuda_status gpu_compiler_open_cuda(const struct gpu_open_options *options,
                                     struct gpu_driver **driver, struct llcuda_error *error)
{
    struct cuda_driver *cuda;
    *driver = NULL;
    llcuda_status status = cuda_compiler_create(options, GPU_CUDA, cuda_compile, &cuda, error);
    if (status) {
        return status;
    }
    find_compiler(cuda, options, CUDA_DRIVER_VERSION_ANY);
    return cuda_compiler_finish(cuda, driver, error);
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

bool gpu_driver_present_cuda(const struct gpu_open_options *options)
{
    return cuda_driver_present(options->library_path);
}

uint32_t gpu_driver_count_cuda(void)
{
    const struct gpu_open_options options = {0};
    uint32_t count = 0;
    gpu_driver_probe_cuda(&options, &count, NULL);
    return count;
}
