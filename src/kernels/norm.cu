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

/* Elements of a row that a thread keeps in registers, of rows that are no wider. */
#define NORM_HELD 8

/* The same bits as by moments_of and normed, in one pass over a row: what does not depend on the
 * predecessor is asked for before it ends. */
template <int type>
__device__ __forceinline__ void rms_norm_to(const struct norm_arguments &a, uint32_t row,
                                            uint32_t count)
{
    __shared__ float scratch[NORM_WARPS];
    float weight[NORM_HELD], x[NORM_HELD];
    const uint32_t from = a.rows ? a.rows[row] : row;
#pragma unroll
    for (uint32_t e = 0; e < NORM_HELD; e++) {
        const uint32_t i = threadIdx.x + e * NORM_THREADS;
        weight[e] = i < a.norm.width ? a.norm.weight[i] : 0.0f;
    }
    wait_for_predecessor();
    if (row >= count) {
        return;
    }
    const float *input = a.input + (uint64_t)from * a.norm.width;
#pragma unroll
    for (uint32_t e = 0; e < NORM_HELD; e++) {
        const uint32_t i = threadIdx.x + e * NORM_THREADS;
        x[e] = i < a.norm.width ? input[i] : 0.0f;
    }
    float squares = 0;
#pragma unroll
    for (uint32_t e = 0; e < NORM_HELD; e++) {
        squares = fmaf(x[e], x[e], squares);
    }
    squares = block_sum<NORM_WARPS>(squares, scratch);
    const float scale = norm_scale(squares, a.norm.width, a.norm.epsilon);
    typename value_type<type>::store *to =
        (typename value_type<type>::store *)a.output + (uint64_t)row * a.norm.width;
#pragma unroll
    for (uint32_t e = 0; e < NORM_HELD; e++) {
        const uint32_t i = threadIdx.x + e * NORM_THREADS;
        if (i < a.norm.width) {
            to[i] = value_of_float<type>(
                norm_scaled(x[e], scale, a.norm.weight_offset, weight[e]));
        }
    }
}

template <int type> __device__ __forceinline__ void norm_to(const struct norm_arguments &a)
{
    release_successor();
    const uint32_t row = blockIdx.x;
    const uint32_t count = *a.count; /* written before anything that overlaps, as are the rows */
    if (a.norm.kind == NORM_RMS && !a.norm.bias && a.norm.width <= NORM_HELD * NORM_THREADS) {
        rms_norm_to<type>(a, row, count);
        return;
    }
    wait_for_predecessor();
    if (row >= count) {
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
    const uint32_t row = blockIdx.x;
    const uint32_t count = *a.count;
    wait_for_predecessor();
    if (row >= count) {
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
