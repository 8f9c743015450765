/* What the files of the CUDA driver share; nobody else includes this. */
#ifndef GPU_CUDA_DRIVER_H
#define GPU_CUDA_DRIVER_H

#include "gpu/cuda_api.h"
#include "gpu/driver.h"
#include "gpu/rtc.h"

struct cuda_driver {
    struct gpu_driver table; /* first: what callers hold */
    struct cuda_driver_api api;
    struct rtc_api rtc;           /* filled when info.compiler_version is not 0 */
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
    cuda_check(&(cuda)->api, (cuda)->api.member(__VA_ARGS__), (cuda)->api.names->member, (error))

/* Makes the device's context the thread's: creating calls do it by themselves, so that one thread
 * may use several drivers in turn for everything but launches. */
llcuda_status cuda_enter(struct cuda_driver *cuda, struct llcuda_error *error);

/* Fills what CUDA and HIP have in common: all but compile and the matrix products. */
void cuda_table_fill(struct gpu_driver *table);
/* Also of a driver that was opened in part. */
void cuda_close(struct gpu_driver *driver);
void cuda_describe(const struct gpu_driver *driver, struct gpu_device_info *info);

/* Starts the vendor's driver ("NVIDIA", "AMD"), whose functions are loaded, and counts devices.
 * NOT_FOUND when there is none. */
llcuda_status cuda_start(struct cuda_driver *cuda, const char *who, int *count,
                         struct llcuda_error *error);

/* An attribute by the vendor's number, and the int that it goes to. */
struct cuda_attribute {
    int attribute;
    void *value;
};
/* Name, memory, place on the bus and attributes of device `index` of `count`. */
llcuda_status cuda_read_device(struct cuda_driver *cuda, uint32_t index, uint32_t count,
                               const struct cuda_attribute *attributes, size_t attribute_count,
                               struct llcuda_error *error);
/* Retains the device's primary context and makes it the thread's. */
llcuda_status cuda_open_context(struct cuda_driver *cuda, struct llcuda_error *error);
/* The version of the loaded compiler, 0 (and compiler_error) when it does not say. */
uint32_t cuda_find_compiler(struct cuda_driver *cuda);

/* A driver that only compiles, for options->arch, in two steps: between them the caller looks for
 * its vendor's compiler. *cuda is the caller's; finish gives it away, or releases it when no
 * compiler was found. */
llcuda_status cuda_compiler_create(const struct gpu_open_options *options, enum gpu_vendor vendor,
                                   llcuda_status (*compile)(struct gpu_driver *,
                                                            const struct gpu_compile_request *,
                                                            struct buffer *, struct buffer *,
                                                            struct llcuda_error *),
                                   struct cuda_driver **cuda, struct llcuda_error *error);
llcuda_status cuda_compiler_finish(struct cuda_driver *cuda, struct gpu_driver **driver,
                                   struct llcuda_error *error);

/* The parts of the table, by file. */
llcuda_status cuda_compile(struct gpu_driver *driver, const struct gpu_compile_request *request,
                           struct buffer *binary, struct buffer *log, struct llcuda_error *error);
void cuda_kernel_fill(struct gpu_driver *table);
void cuda_matmul_fill(struct gpu_driver *table);
void cuda_matmul_close(struct cuda_driver *cuda);
llcuda_status cuda_telemetry(struct gpu_driver *driver, struct gpu_telemetry *telemetry,
                             struct llcuda_error *error);
void cuda_surroundings(struct gpu_driver *driver, struct gpu_surroundings *around);
void cuda_telemetry_close(struct cuda_driver *cuda);

#endif
