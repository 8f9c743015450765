/* The vendor's matrix product through cublasLt. Owns the library's handle (made on first use, since
 * loading takes a tenth of a second) and one set of descriptors a shape.
 *
 * cublasLt counts columns first, so that our row-major y[n, rows] is its D[rows, n], W[rows,
 * columns] is A[columns, rows] used transposed, and x[n, columns] is B[columns, n]: D = Aᵀ·B. One
 * thread. */
#include "gpu/cuda_driver.h"

#include <stdlib.h>

/* What every address that reaches matmul_run is aligned to, in bytes. */
#define ADDRESS_ALIGNMENT 16u

/* One matrix product, ready to run. */
struct gpu_matmul {
    void *descriptor;
    void *weight_layout;
    void *x_layout;
    void *y_layout;
    uint64_t algorithm[8];
    bool accumulate;
};

static llcuda_status check(const struct cuda_driver *cuda, int result, const char *call,
                           struct llcuda_error *error)
{
    if (!result) {
        return LLCUDA_OK;
    }
    llcuda_status status = result == CUBLASLT_NOT_SUPPORTED  ? LLCUDA_UNSUPPORTED
                           : result == CUBLASLT_ALLOC_FAILED ? LLCUDA_OUT_OF_MEMORY
                                                             : LLCUDA_DEVICE;
    return error_set(error, status, "%s: %s", call, cuda->cublaslt.text(result));
}

static llcuda_status load(struct cuda_driver *cuda, struct llcuda_error *error)
{
    if (cuda->cublaslt_handle) {
        return LLCUDA_OK;
    }
    llcuda_status status =
        cublaslt_load(cuda->folders, cuda->info.driver_version, &cuda->cublaslt, error);
    return status ? status
                  : check(cuda, cuda->cublaslt.create(&cuda->cublaslt_handle), "cublasLtCreate",
                          error);
}

static int type_number(enum dtype dtype)
{
    return dtype == DTYPE_F32   ? CUBLASLT_TYPE_F32
           : dtype == DTYPE_F16 ? CUBLASLT_TYPE_F16
                                : CUBLASLT_TYPE_BF16;
}

static llcuda_status check_shape(const struct gpu_matmul_shape *shape, struct llcuda_error *error)
{
    if ((shape->weight != DTYPE_F16 && shape->weight != DTYPE_BF16) ||
        (shape->output != DTYPE_F32 && shape->output != shape->weight)) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no matrix product of the vendor's for %s weights and %s results",
                         dtype_info(shape->weight)->name, dtype_info(shape->output)->name);
    }
    if (!shape->n || !shape->rows || !shape->columns || shape->output_stride < shape->rows) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a matrix product of [%u, %u] and [%u, %u] with stride %u", shape->n,
                         shape->columns, shape->rows, shape->columns, shape->output_stride);
    }
    return LLCUDA_OK;
}

static llcuda_status make_layouts(struct cuda_driver *cuda, const struct gpu_matmul_shape *shape,
                                  struct gpu_matmul *matmul, struct llcuda_error *error)
{
    const struct cublaslt_api *api = &cuda->cublaslt;
    int type = type_number(shape->weight);
    const int32_t transpose = CUBLASLT_OPERATION_TRANSPOSE;
    llcuda_status status = check(
        cuda, api->descriptor_create(&matmul->descriptor, CUBLASLT_COMPUTE_F32, CUBLASLT_TYPE_F32),
        "cublasLtMatmulDescCreate", error);
    if (!status) {
        status = check(cuda,
                       api->descriptor_set(matmul->descriptor, CUBLASLT_DESCRIPTOR_TRANSPOSE_A,
                                           &transpose, sizeof transpose),
                       "cublasLtMatmulDescSetAttribute", error);
    }
    if (!status) {
        status = check(cuda,
                       api->layout_create(&matmul->weight_layout, type, shape->columns, shape->rows,
                                          shape->columns),
                       "cublasLtMatrixLayoutCreate of W", error);
    }
    if (!status) {
        status = check(
            cuda,
            api->layout_create(&matmul->x_layout, type, shape->columns, shape->n, shape->columns),
            "cublasLtMatrixLayoutCreate of x", error);
    }
    if (!status) {
        status = check(cuda,
                       api->layout_create(&matmul->y_layout, type_number(shape->output),
                                          shape->rows, shape->n, shape->output_stride),
                       "cublasLtMatrixLayoutCreate of y", error);
    }
    return status;
}

static llcuda_status set_preference(struct cuda_driver *cuda, void *preference,
                                    struct llcuda_error *error)
{
    const struct cublaslt_api *api = &cuda->cublaslt;
    const uint64_t workspace = GPU_MATMUL_WORKSPACE_BYTES;
    const uint32_t alignment = ADDRESS_ALIGNMENT;
    llcuda_status status =
        check(cuda,
              api->preference_set(preference, CUBLASLT_PREFERENCE_WORKSPACE_BYTES, &workspace,
                                  sizeof workspace),
              "cublasLtMatmulPreferenceSetAttribute of the workspace", error);
    for (int matrix = 0; !status && matrix < 4; matrix++) {
        status = check(cuda,
                       api->preference_set(preference, CUBLASLT_PREFERENCE_ALIGNMENT_A + matrix,
                                           &alignment, sizeof alignment),
                       "cublasLtMatmulPreferenceSetAttribute of the alignment", error);
    }
    return status;
}

/* The first of the vendor's proposals is the one that it expects to be the fastest. */
static llcuda_status choose(struct cuda_driver *cuda, struct gpu_matmul *matmul,
                            struct llcuda_error *error)
{
    const struct cublaslt_api *api = &cuda->cublaslt;
    struct cublaslt_choice choice = {0};
    void *preference = NULL;
    int count = 0;
    llcuda_status status =
        check(cuda, api->preference_create(&preference), "cublasLtMatmulPreferenceCreate", error);
    if (!status) {
        status = set_preference(cuda, preference, error);
    }
    if (!status) {
        status = check(cuda,
                       api->heuristic(cuda->cublaslt_handle, matmul->descriptor,
                                      matmul->weight_layout, matmul->x_layout, matmul->y_layout,
                                      matmul->y_layout, preference, 1, &choice, &count),
                       "cublasLtMatmulAlgoGetHeuristic", error);
    }
    if (!status &&
        (count < 1 || choice.state || choice.workspace_bytes > GPU_MATMUL_WORKSPACE_BYTES)) {
        status = error_set(error, LLCUDA_UNSUPPORTED, "cuBLASLt has no algorithm for this product");
    }
    memcpy(matmul->algorithm, choice.algorithm, sizeof matmul->algorithm);
    if (preference) {
        api->preference_destroy(preference);
    }
    return status;
}

static void matmul_destroy(struct gpu_driver *driver, struct gpu_matmul *matmul)
{
    const struct cublaslt_api *api = &cuda_driver_of(driver)->cublaslt;
    if (!matmul) {
        return;
    }
    void *const layouts[] = {matmul->weight_layout, matmul->x_layout, matmul->y_layout};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (layouts[i]) {
            api->layout_destroy(layouts[i]);
        }
    }
    if (matmul->descriptor) {
        api->descriptor_destroy(matmul->descriptor);
    }
    free(matmul);
}

static llcuda_status matmul_create(struct gpu_driver *driver, const struct gpu_matmul_shape *shape,
                                   struct gpu_matmul **result, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    *result = NULL;
    llcuda_status status = check_shape(shape, error);
    if (!status) {
        status = cuda_enter(cuda, error);
    }
    if (!status) {
        status = load(cuda, error);
    }
    if (status) {
        return status;
    }
    struct gpu_matmul *matmul = calloc(1, sizeof *matmul);
    if (!matmul) {
        return error_no_memory(error, "a matrix product", sizeof *matmul);
    }
    matmul->accumulate = shape->accumulate;
    status = make_layouts(cuda, shape, matmul, error);
    if (!status) {
        status = choose(cuda, matmul, error);
    }
    if (status) {
        matmul_destroy(driver, matmul);
        return status;
    }
    *result = matmul;
    return LLCUDA_OK;
}

static llcuda_status matmul_run(struct gpu_driver *driver, struct gpu_stream *stream,
                                struct gpu_matmul *matmul, uint64_t y, uint64_t x, uint64_t weight,
                                uint64_t workspace, struct llcuda_error *error)
{
    struct cuda_driver *cuda = cuda_driver_of(driver);
    const float alpha = 1.0f;
    const float beta = matmul->accumulate ? 1.0f : 0.0f;
    /* The library loads its kernels when they are first used, which a capturing thread may only do
     * in the relaxed mode. */
    int mode = CUDA_CAPTURE_RELAXED;
    llcuda_status status = CUDA_CALL(cuda, error, capture_mode, &mode);
    if (status) {
        return status;
    }
    int result = cuda->cublaslt.matmul(cuda->cublaslt_handle, matmul->descriptor, &alpha, weight,
                                       matmul->weight_layout, x, matmul->x_layout, &beta, y,
                                       matmul->y_layout, y, matmul->y_layout, matmul->algorithm,
                                       workspace, GPU_MATMUL_WORKSPACE_BYTES, stream);
    cuda->api.capture_mode(&mode);
    return check(cuda, result, "cublasLtMatmul", error);
}

void cuda_matmul_fill(struct gpu_driver *table)
{
    table->matmul_create = matmul_create;
    table->matmul_destroy = matmul_destroy;
    table->matmul_run = matmul_run;
}

void cuda_matmul_close(struct cuda_driver *cuda)
{
    if (cuda->cublaslt_handle) {
        cuda->cublaslt.destroy(cuda->cublaslt_handle);
        cuda->cublaslt_handle = NULL;
    }
}
