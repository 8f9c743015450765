/* What all kernels share, in the words of docs/internals/gpu-kernels.md: the types of activations,
 * sums over a warp and over a block. Of the prelude: KERNEL_POINTER, a pointer in a struct of
 * arguments (C has an integer in its place); ACT_TYPE (TYPE_*), the type in which rows wait for a
 * linear layer. */

#define TYPE_F32  0
#define TYPE_F16  1
#define TYPE_BF16 2

template <int type> struct value_type {
    typedef uint16_t store;
};
template <> struct value_type<TYPE_F32> {
    typedef float store;
};

/* Halves saturate: an activation beyond their range stays finite. */
template <int type>
__device__ __forceinline__ typename value_type<type>::store value_of_float(float x)
{
    if constexpr (type == TYPE_F32) {
        return x;
    } else if constexpr (type == TYPE_F16) {
        return f16_of_float(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
    } else {
        return bf16_of_float(x);
    }
}

template <int type>
__device__ __forceinline__ float float_of_value(typename value_type<type>::store x)
{
    if constexpr (type == TYPE_F32) {
        return x;
    } else if constexpr (type == TYPE_F16) {
        return float_of_f16(x);
    } else {
        return float_of_bf16(x);
    }
}

typedef value_type<ACT_TYPE>::store act_value;

__device__ __forceinline__ act_value act_of_float(float x)
{
    return value_of_float<ACT_TYPE>(x);
}

__device__ __forceinline__ float float_of_act(act_value x)
{
    return float_of_value<ACT_TYPE>(x);
}

/* Neighbours in a row that a thread takes where it goes element by element. Rows whose width is a
 * multiple of it begin at multiples of 16 bytes, whatever they are of. */
#define UNIT_ELEMENTS 8

/* Those from x[0] on; of a row of another width `count` of them. */
__device__ __forceinline__ void unit_load(float unit[UNIT_ELEMENTS], const float *x, uint32_t width,
                                          uint32_t count)
{
    if (width % UNIT_ELEMENTS == 0) {
        const struct word4 low = load16(x), high = load16(x + 4);
        const uint32_t words[UNIT_ELEMENTS] = {low.x,  low.y,  low.z,  low.w,
                                      high.x, high.y, high.z, high.w};
#pragma unroll
        for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
            unit[e] = float_of_bits(words[e]);
        }
        return;
    }
#pragma unroll
    for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
        unit[e] = e < count ? x[e] : 0.0f;
    }
}

template <int type>
__device__ __forceinline__ void unit_store(typename value_type<type>::store *to,
                                           const float unit[UNIT_ELEMENTS], uint32_t width,
                                           uint32_t count)
{
    typename value_type<type>::store values[UNIT_ELEMENTS];
#pragma unroll
    for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
        values[e] = value_of_float<type>(unit[e]);
    }
    if (width % UNIT_ELEMENTS == 0) {
        if constexpr (type == TYPE_F32) {
            store16(to, {bits_of_float(values[0]), bits_of_float(values[1]),
                         bits_of_float(values[2]), bits_of_float(values[3])});
            store16(to + 4, {bits_of_float(values[4]), bits_of_float(values[5]),
                             bits_of_float(values[6]), bits_of_float(values[7])});
        } else {
            store16(to, {values[0] | (uint32_t)values[1] << 16,
                         values[2] | (uint32_t)values[3] << 16,
                         values[4] | (uint32_t)values[5] << 16,
                         values[6] | (uint32_t)values[7] << 16});
        }
        return;
    }
#pragma unroll
    for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
        if (e < count) {
            to[e] = values[e];
        }
    }
}

/* The sum over the lanes of a warp, the same bits in all of them. */
__device__ __forceinline__ float warp_sum(float x)
{
#ifdef VENDOR_WARP_REDUCE
    return vendor_warp_sum(x); /* the same bits, cheaper there */
#else
    for (int mask = 16; mask; mask /= 2) {
        x += warp_shuffle_xor(x, mask);
    }
    return x;
#endif
}

/* The sum over a block of WARPS full warps, the same bits in all threads. `scratch`: [WARPS] in
 * shared memory, free again after the next barrier. */
template <int WARPS> __device__ __forceinline__ float block_sum(float x, float *scratch)
{
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = x;
    }
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < WARPS; i++) {
        sum += scratch[i];
    }
    return sum;
}

/* A row is normed by blocks of NORM_THREADS: thread i sums elements i, i + NORM_THREADS, …, so that
 * all kernels that norm come to the same bits. */
#define NORM_WARPS   16
#define NORM_THREADS (32 * NORM_WARPS)

__device__ __forceinline__ float norm_scale(float squares, uint32_t width, float epsilon)
{
    return 1.0f / sqrtf(squares / (float)width + epsilon);
}

__device__ __forceinline__ float norm_scaled(float x, float scale, float weight_offset,
                                             float weight)
{
    return (x * scale) * (weight_offset + weight);
}

__device__ __forceinline__ float activated(float x, uint32_t kind)
{
    if (kind == ACTIVATION_SILU) {
        return x * fast_rcp(1.0f + expf(-x)); /* a division has a branch */
    }
    if (kind == ACTIVATION_GELU_TANH) {
        return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    }
    return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
}
