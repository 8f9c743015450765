/* What the kernels of attention share: the types of the cache and of activations, the way to a
 * cache block, and the finishing of a raw projection (bias, head norm, rotary), which prefill and
 * decode must do to the bit alike: whoever writes a key, the cache holds the same.
 *
 * Of the prelude: HEADS, KV_HEADS, HEAD_SIZE (even), KV_TYPE, ACT_TYPE (TYPE_*), DECODE_WARPS,
 * DECODE_GROUPS_MAX, ATTENTION_EXACT (0 or 1). Products and sums that could be contracted are written as fmaf, so that no
 * compiler has a choice. */

#define TYPE_F32  0
#define TYPE_F16  1
#define TYPE_BF16 2

#define KV_BLOCK         16u
#define HEAD_GROUP       (HEADS / KV_HEADS)
#define ATTENTION_MATRIX (KV_TYPE != TYPE_F32 && HEAD_SIZE % 8 == 0)
/* Sums in the one order of attention_exact.cu. */
#define EXACT_MATRIX (ATTENTION_EXACT && ATTENTION_MATRIX)
#define LOG2_E           1.44269504088896340736f
/* Stands for "no position yet": finite, so that differences of two are zero and not NaN. */
#define SCORE_NONE (-1e30f)
/* A position that is not attended to: its weight is exactly zero. */
#define SCORE_MASKED (-3e38f)

template <int type> struct value_type {
    typedef uint16_t store;
};
template <> struct value_type<TYPE_F32> {
    typedef float store;
};
typedef value_type<KV_TYPE>::store kv_value;
typedef value_type<ACT_TYPE>::store act_value;

template <int type>
__device__ __forceinline__ typename value_type<type>::store value_of_float(float x)
{
    if constexpr (type == TYPE_F32) {
        return x;
    } else if constexpr (type == TYPE_F16) {
        return f16_of_float(x);
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

#if ATTENTION_MATRIX
/* Two values of the cache's type in a word, `low` first in memory. */
__device__ __forceinline__ uint32_t kv_pair(float low, float high)
{
    if constexpr (KV_TYPE == TYPE_F16) {
        return f16x2_of_floats(low, high);
    } else {
        return bf16x2_of_floats(low, high);
    }
}

__device__ __forceinline__ void kv_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    if constexpr (KV_TYPE == TYPE_F16) {
        mma_f16(d, a, b);
    } else {
        mma_bf16(d, a, b);
    }
}
#endif

/* Keys [16][D] of a block; its values follow. */
__device__ __forceinline__ const kv_value *kv_unit(const void *cache, uint32_t block,
                                                   uint32_t kv_head)
{
    return (const kv_value *)cache +
           ((uint64_t)block * KV_HEADS + kv_head) * (2 * KV_BLOCK * HEAD_SIZE);
}

__device__ __forceinline__ float bits_float(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } both;
    both.bits = bits;
    return both.value;
}

__device__ __forceinline__ float warp_sum(float x)
{
#ifdef VENDOR_WARP_REDUCE
    return vendor_warp_sum(x); /* the same bits, cheaper there */
#else
    for (uint32_t mask = 16; mask; mask >>= 1) {
        x += warp_shuffle_xor(x, mask);
    }
    return x;
#endif
}

__device__ __forceinline__ float warp_max(float x)
{
#ifdef VENDOR_WARP_REDUCE
    return vendor_warp_max(x);
#else
    for (uint32_t mask = 16; mask; mask >>= 1) {
        x = fmaxf(x, warp_shuffle_xor(x, mask));
    }
    return x;
#endif
}

/* A capped score. tanh through exp2: its error of 1e-7 is times the cap what the score is wrong by,
 * where the hardware's tanh would be wrong by 5e-4 times the cap. */
__device__ __forceinline__ float score_capped(float product, const struct attention_score &score)
{
    const float e = fast_exp2(product * score.cap_factor);
    return fmaf(-2.0f * score.cap, fast_rcp(e + 1.0f), score.cap);
}

/* Sine and cosine of an angle below 2^20 in magnitude to about 1 unit in the last place. The
 * multiple of pi/2 is taken off in three parts: the first difference is exact, since both sides are
 * multiples of 2^-24 and the result is below 1. Polynomials: the minimax ones of Cephes. */
__device__ __forceinline__ void sine_cosine(float angle, float *sine, float *cosine)
{
    float turns = rintf(angle * 0.636619772367581343f);
    float x = fmaf(turns, -1.57079637050628662109375f, angle);
    x = fmaf(turns, 4.371138828673792887e-8f, x);
    x = fmaf(turns, 1.71512451000588187e-15f, x);
    float xx = x * x;
    float s = fmaf(fmaf(-1.9515295891e-4f, xx, 8.3321608736e-3f), xx, -1.6666654611e-1f);
    s = fmaf(s * xx, x, x);
    float c =
        fmaf(fmaf(2.443315711809948e-5f, xx, -1.388731625493765e-3f), xx, 4.166664568298827e-2f);
    c = fmaf(c * xx, xx, fmaf(-0.5f, xx, 1.0f));
    int quadrant = (int)turns & 3;
    float a = quadrant & 1 ? c : s;
    float b = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -a : a;
    *cosine = (quadrant + 1) & 2 ? -b : b;
}

/* Sines and cosines of a row, shared by all its heads. */
struct rotary_row {
    float cosines[HEAD_SIZE / 2];
    float sines[HEAD_SIZE / 2];
};

/* Every thread of the block calls this; a barrier must follow before the table is read. */
__device__ __forceinline__ void rotary_fill(struct rotary_row *table,
                                            const struct attention_projection &projection,
                                            uint32_t position)
{
    for (uint32_t i = threadIdx.x; i < projection.rotary_size / 2; i += blockDim.x) {
        float sine;
        float cosine;
        sine_cosine((float)position * projection.frequencies[i], &sine, &cosine);
        table->sines[i] = sine * projection.magnitude;
        table->cosines[i] = cosine * projection.magnitude;
    }
}

/* One head of one row by one warp: out[d] = rotary(norm(raw + bias)) in the cache's type. A lane
 * keeps the pairs lane, lane + 32 … of the head; what does not turn is paired with its neighbour.
 * `norm` may be null, and `table` is for values. */
#define HEAD_PAIRS ((HEAD_SIZE / 2 + 31) / 32)
struct head_pairs {
    float first[HEAD_PAIRS];
    float second[HEAD_PAIRS];
    uint32_t first_index[HEAD_PAIRS];
    uint32_t second_index[HEAD_PAIRS];
};

__device__ __forceinline__ void head_finish(struct head_pairs *head, const float *raw,
                                            const float *bias, const float *norm,
                                            const struct rotary_row *table,
                                            const struct attention_projection &projection)
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t turning = table ? projection.rotary_size / 2 : 0;
    const bool interleaved = projection.rotary_kind == ROTARY_INTERLEAVED;
    float squares = 0;
#pragma unroll
    for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
        uint32_t pair = lane + 32 * p;
        bool halves = pair < turning && !interleaved;
        uint32_t first = halves ? pair : 2 * pair;
        uint32_t second = halves ? pair + turning : 2 * pair + 1;
        bool inside = pair < HEAD_SIZE / 2;
        float a = inside ? raw[first] : 0.0f;
        float b = inside ? raw[second] : 0.0f;
        if (bias && inside) {
            a += bias[first];
            b += bias[second];
        }
        squares = fmaf(a, a, squares);
        squares = fmaf(b, b, squares);
        head->first[p] = a;
        head->second[p] = b;
        head->first_index[p] = first;
        head->second_index[p] = second;
    }
    if (norm) {
        float scale =
            1.0f / sqrtf(fmaf(warp_sum(squares), 1.0f / HEAD_SIZE, projection.norm_epsilon));
#pragma unroll
        for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
            if (lane + 32 * p < HEAD_SIZE / 2) {
                head->first[p] *=
                    scale * (projection.norm_weight_offset + norm[head->first_index[p]]);
                head->second[p] *=
                    scale * (projection.norm_weight_offset + norm[head->second_index[p]]);
            }
        }
    }
#pragma unroll
    for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
        if (lane + 32 * p < turning) {
            float cosine = table->cosines[lane + 32 * p];
            float sine = table->sines[lane + 32 * p];
            float a = head->first[p];
            float b = head->second[p];
            head->first[p] = fmaf(a, cosine, -(b * sine));
            head->second[p] = fmaf(b, cosine, a * sine);
        }
    }
}

__device__ __forceinline__ void head_store(const struct head_pairs *head, kv_value *out)
{
#pragma unroll
    for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
        if (threadIdx.x % 32 + 32 * p < HEAD_SIZE / 2) {
            out[head->first_index[p]] = value_of_float<KV_TYPE>(head->first[p]);
            out[head->second_index[p]] = value_of_float<KV_TYPE>(head->second[p]);
        }
    }
}

/* The vector of a row's raw projections: heads 0 … H − 1 are queries, then K keys, K values. */
__device__ __forceinline__ void vector_finish(struct head_pairs *head, uint32_t vector,
                                              uint32_t row, const struct rotary_row *table,
                                              const struct attention_projection &projection)
{
    const float *raw =
        projection.raw + ((uint64_t)row * (HEADS + 2 * KV_HEADS) + vector) * HEAD_SIZE;
    const float *bias = projection.query_bias;
    const float *norm = projection.query_norm;
    uint32_t within = vector;
    if (vector >= HEADS + KV_HEADS) {
        within = vector - HEADS - KV_HEADS;
        bias = projection.value_bias;
        norm = nullptr;
        table = nullptr;
    } else if (vector >= HEADS) {
        within = vector - HEADS;
        bias = projection.key_bias;
        norm = projection.key_norm;
    }
    head_finish(head, raw, bias ? bias + within * HEAD_SIZE : nullptr, norm, table, projection);
}
