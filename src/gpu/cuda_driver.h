/* What the files of the CUDA driver share; nobody else includes this. */
#ifndef GPU_CUDA_DRIVER_H
#define GPU_CUDA_DRIVER_H

#include "gpu/cuda_api.h"
#include "gpu/driver.h"

struct cuda_driver {
    struct gpu_driver table; /* first: what callers hold */
    struct cuda_driver_api api;
    struct nvrtc_api nvrtc;       /* filled when info.compiler_version is not 0 */
    struct cublaslt_api cublaslt; /* filled when cublaslt_handle is not NULL */
    struct nvml_api nvml;         /* filled when nvml_device is not NULL */
    struct gpu_device_info info;
    char *folders; /* library_path, or NULL */
    void *context; /* the device's primary context; NULL: not yet retained */
    int device;
    void *cublaslt_handle;
    void *nvml_device;
    bool nvml_tried;
    /* Why there is no compiler, said again by every compile(). */
    struct llcuda_error compiler_error;
};

static inline struct cuda_driver *cuda_driver_of(struct gpu_driver *driver)
{
    return (struct cuda_driver *)driver;
}

/* Calls a function of libcuda and turns its result into a status with the call's name. */
#define CUDA_CALL(cuda, error, member, ...) \
    cuda_check(&(cuda)->api, (cuda)->api.member(__VA_ARGS__), cuda_call_names.member, (error))

/* Makes the device's context the thread's: creating calls do it by themselves, so that one thread
 * may use several drivers in turn for everything but launches. */
llcuda_status cuda_enter(struct cuda_driver *cuda, struct llcuda_error *error);

/* The parts of the table, by file. */
llcuda_status cuda_compile(struct gpu_driver *driver, const struct gpu_compile_request *request,
                           struct buffer *binary, struct buffer *log, struct llcuda_error *error);
void cuda_kernel_fill(struct gpu_driver *table);
void cuda_matmul_fill(struct gpu_driver *table);
void cuda_matmul_close(struct cuda_driver *cuda);
llcuda_status cuda_telemetry(struct gpu_driver *driver, struct gpu_telemetry *telemetry,
                             struct llcuda_error *error);
void cuda_telemetry_close(struct cuda_driver *cuda);

#endif
