/* Normalisations over the width of a row. Sums run in one order that depends on the width alone.
 * Grid: x = rows of the bucket; NORM_THREADS threads. Bound: 4 bytes an element read from the
 * second-level cache three times at most and 2 written: latency decides. */
/* What x must be shifted by and multiplied with. */
struct norm_moments {
    float mean;
    float scale;
};

/* Of x[i] + bias[i]; `bias` may be null. */
__device__ __forceinline__ struct norm_moments moments_of(const float *x, const float *bias,
                                                          const struct norm_parameters &norm)
{
    __shared__ float scratch[2][NORM_WARPS];
    struct norm_moments moments = {0.0f, 0.0f};
    if (norm.kind == NORM_LAYER) { /* the same for all threads */
        float sum = 0;
        for (uint32_t i = threadIdx.x; i < norm.width; i += NORM_THREADS) {
            sum += x[i] + (bias ? bias[i] : 0.0f);
        }
        moments.mean = block_sum<NORM_WARPS>(sum, scratch[0]) / (float)norm.width;
    }
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < norm.width; i += NORM_THREADS) {
        const float centred = x[i] + (bias ? bias[i] : 0.0f) - moments.mean;
        squares = fmaf(centred, centred, squares);
    }
    squares = block_sum<NORM_WARPS>(squares, scratch[1]);
    moments.scale = norm_scale(squares, norm.width, norm.epsilon);
    return moments;
}

__device__ __forceinline__ float normed(float x, uint32_t i, const struct norm_moments &moments,
                                        const struct norm_parameters &norm)
{
    const float y = norm_scaled(x - moments.mean, moments.scale, norm.weight_offset,
                                norm.weight[i]);
    return norm.bias ? y + norm.bias[i] : y;
}

template <int type> __device__ __forceinline__ void norm_to(const struct norm_arguments &a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t row = blockIdx.x;
    if (row >= *a.count) {
        return;
    }
    const float *x = a.input + (uint64_t)(a.rows ? a.rows[row] : row) * a.norm.width;
    typename value_type<type>::store *to =
        (typename value_type<type>::store *)a.output + (uint64_t)row * a.norm.width;
    const struct norm_moments moments = moments_of(x, nullptr, a.norm);
    for (uint32_t i = threadIdx.x; i < a.norm.width; i += NORM_THREADS) {
        to[i] = value_of_float<type>(normed(x[i], i, moments, a.norm));
    }
}

/* output[i] = norm(input[rows[i]]) as activations. */
extern "C" __global__ void KERNEL_BOUNDS(NORM_THREADS, 1)
    norm_rows(const struct norm_arguments arguments)
{
    norm_to<ACT_TYPE>(arguments);
}

/* The same as floats: hidden states. */
extern "C" __global__ void KERNEL_BOUNDS(NORM_THREADS, 1)
    norm_floats(const struct norm_arguments arguments)
{
    norm_to<TYPE_F32>(arguments);
}

/* residual += norm(product + bias), or product + bias where there is no norm. */
extern "C" __global__ void KERNEL_BOUNDS(NORM_THREADS, 1)
    project_finish(const struct project_finish_arguments a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t row = blockIdx.x;
    if (row >= *a.count) {
        return;
    }
    const float *x = a.product + (uint64_t)row * a.norm.width;
    float *to = a.residual + (uint64_t)row * a.norm.width;
    struct norm_moments moments = {0.0f, 1.0f};
    if (a.norm.weight) {
        moments = moments_of(x, a.bias, a.norm);
    }
    for (uint32_t i = threadIdx.x; i < a.norm.width; i += NORM_THREADS) {
        const float y = x[i] + (a.bias ? a.bias[i] : 0.0f);
        to[i] += a.norm.weight ? normed(y, i, moments, a.norm) : y;
    }
}
