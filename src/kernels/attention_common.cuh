/* What the kernels of attention share: the types of the cache and of activations, the way to a
 * cache block, and the finishing of a raw projection (bias, head norm, rotary), which prefill and
 * decode must do to the bit alike: whoever writes a key, the cache holds the same.
 *
 * KV_STORE says how the cache keeps keys and values: as they are computed with (KV_TYPE), or as
 * bytes that become halves when they meet the tensor cores – floats of e4m3, saturated, or integers
 * with a scale a key or value of a head. Scales are halves, kept as floats.
 *
 * Of the prelude: HEADS, KV_HEADS, HEAD_SIZE (even; with bytes a multiple of 16), KV_TYPE, ACT_TYPE
 * (TYPE_*), KV_STORE (KV_STORE_*), DECODE_WARPS, DECODE_GROUPS_MAX, ATTENTION_EXACT (0 or
 * 1). Products and sums that could be contracted are written as fmaf, so that no
 * compiler has a choice. */

#define TYPE_F32  0
#define TYPE_F16  1
#define TYPE_BF16 2

#define KV_STORE_PLAIN 0
#define KV_STORE_E4M3  1
#define KV_STORE_Q8_0  2

#define KV_BLOCK         16u
#define KV_IS_BYTES      (KV_STORE != KV_STORE_PLAIN)
#define HEAD_GROUP       (HEADS / KV_HEADS)
#define ATTENTION_MATRIX (KV_TYPE != TYPE_F32 && HEAD_SIZE % 8 == 0)
/* Sums in the one order of attention_exact.cu; the host sets it where the tensor cores are used and
 * the cache is no bytes. */
#define EXACT_MATRIX ATTENTION_EXACT
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

#if KV_IS_BYTES
static_assert(ATTENTION_MATRIX && KV_TYPE == TYPE_F16 && HEAD_SIZE % 16 == 0,
              "bytes become halves, sixteen at a time");
typedef uint8_t kv_store;
typedef struct word2 kv_piece; /* eight elements on their way */
#else
typedef kv_value kv_store;
typedef struct word4 kv_piece;
#endif

/* Behind a unit's values: the scales of 16 keys, then of 16 values. */
#define KV_UNIT_ELEMENTS (2 * KV_BLOCK * HEAD_SIZE)
#define KV_UNIT_BYTES                        \
    (KV_UNIT_ELEMENTS * sizeof(kv_store) +   \
     (KV_STORE == KV_STORE_Q8_0 ? 2 * KV_BLOCK * sizeof(float) : 0))

/* Keys [16][D] of a block; its values follow. */
__device__ __forceinline__ const kv_store *kv_unit(const void *cache, uint32_t block,
                                                   uint32_t kv_head)
{
    return (const kv_store *)((const uint8_t *)cache +
                              ((uint64_t)block * KV_HEADS + kv_head) * KV_UNIT_BYTES);
}

/* The scale of a key, or of a value: slot + 16. */
__device__ __forceinline__ const float *kv_scale(const kv_store *unit, uint32_t slot)
{
    return (const float *)(unit + KV_UNIT_ELEMENTS) + slot;
}

#if ATTENTION_MATRIX
__device__ __forceinline__ void kv_piece_load(struct word4 *piece, const void *from)
{
    *piece = load_stream16(from);
}

__device__ __forceinline__ void kv_piece_load(struct word2 *piece, const void *from)
{
    *piece = load_stream8(from);
}

__device__ __forceinline__ void kv_piece_load_shared(struct word4 *piece, const void *from)
{
    *piece = load16(from);
}

__device__ __forceinline__ void kv_piece_load_shared(struct word2 *piece, const void *from)
{
    *piece = load_pair(from);
}

/* Eight values of a piece as what the tensor cores take. */
__device__ __forceinline__ struct word4 kv_widen(const struct word4 &piece, float)
{
    return piece;
}

#if KV_STORE == KV_STORE_E4M3

#ifndef VENDOR_E4M3
/* Two floats of e4m3, the low half of `bits`, as halves. The bits of one, put where those of a half
 * are, are 2^-8 of its value; NaN, which saturation does not leave, counts as 480. */
__device__ __forceinline__ uint32_t f16x2_of_e4m3(uint32_t bits)
{
    const uint32_t spread = byte_permute(bits, 0, 0x1404);
    return half2_mul((spread & 0x80008000u) | (spread & 0x7f007f00u) >> 1, 0x5c005c00u);
}
#endif

__device__ __forceinline__ struct word4 kv_widen(const struct word2 &piece, float)
{
    const struct word4 halves = {f16x2_of_e4m3(piece.x), f16x2_of_e4m3(piece.x >> 16),
                                 f16x2_of_e4m3(piece.y), f16x2_of_e4m3(piece.y >> 16)};
    return halves;
}

#elif KV_STORE == KV_STORE_Q8_0

/* Bytes i and i + 1 of what was biased by 128, behind the exponent of 1024: integers, exactly. */
__device__ __forceinline__ uint32_t kv_halves(uint32_t biased, uint32_t selector, uint32_t scale)
{
    const uint32_t halves = byte_permute(biased, 0x64646464u, selector);
    return half2_mul(half2_sub(halves, 0x64806480u), scale);
}

__device__ __forceinline__ struct word4 kv_widen(const struct word2 &piece, float scale)
{
    const uint32_t pair = f16x2_of_floats(scale, scale);
    const uint32_t x = piece.x ^ 0x80808080u;
    const uint32_t y = piece.y ^ 0x80808080u;
    const struct word4 halves = {kv_halves(x, 0x4140, pair), kv_halves(x, 0x4342, pair),
                                 kv_halves(y, 0x4140, pair), kv_halves(y, 0x4342, pair)};
    return halves;
}

#endif
#endif

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

#if KV_STORE == KV_STORE_E4M3
/* To nearest, ties to even; beyond 448 it is 448, and NaN stays. */
__device__ __forceinline__ uint8_t e4m3_of_float(float x)
{
    const float size = fminf(fabsf(x), 448.0f);
    const uint32_t bits = bits_of_float(size);
    const uint32_t exponent = bits >> 23 < 121 ? 121 : bits >> 23; /* of 2^-6, the least */
    /* How many times the last place, 2^(exponent - 127 - 3), it is: 8 to 16, or below 8 when small. */
    const uint32_t count = (uint32_t)rintf(size * float_of_bits((257 - exponent) << 23));
    return x != x ? 127 : (uint8_t)((exponent - 121) * 8 + count + (x < 0 ? 128 : 0));
}
#elif KV_STORE == KV_STORE_Q8_0
/* The scale of a vector: the half at or above its largest value / 127, which is at most 65504 / 127
 * as a half's largest is; NaN when a value is not finite. */
__device__ __forceinline__ float head_scale(const struct head_pairs *head)
{
    float largest = 0;
    bool finite = true;
#pragma unroll
    for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
        if (threadIdx.x % 32 + 32 * p < HEAD_SIZE / 2) {
            const float size = fmaxf(fabsf(head->first[p]), fabsf(head->second[p]));
            finite = finite && fabsf(head->first[p]) < 3e38f && fabsf(head->second[p]) < 3e38f;
            largest = fmaxf(largest, size);
        }
    }
    if (warp_any(!finite)) {
        return float_of_bits(0x7fc00000u);
    }
    largest = fminf(warp_max(largest), 65504.0f);
    uint16_t bits = f16_of_float(largest * (1.0f / 127.0f));
    return float_of_f16(float_of_f16(bits) * 127.0f < largest ? bits + 1 : bits);
}

__device__ __forceinline__ uint8_t byte_of_float(float x, float scale)
{
    const float steps = scale > 0 ? rintf(x / scale) : 0.0f;
    return (uint8_t)(int32_t)fmaxf(-127.0f, fminf(steps, 127.0f));
}
#endif

/* Keeps a key or value as the cache does, at `out`; its scale, where it has one, at `scale`. */
__device__ __forceinline__ void head_keep(const struct head_pairs *head, kv_store *out, float *scale)
{
#if KV_IS_BYTES
#if KV_STORE == KV_STORE_Q8_0
    const float step = head_scale(head);
    if (threadIdx.x % 32 == 0) {
        *scale = step;
    }
#else
    (void)scale;
#endif
#pragma unroll
    for (uint32_t p = 0; p < HEAD_PAIRS; p++) {
        if (threadIdx.x % 32 + 32 * p < HEAD_SIZE / 2) {
#if KV_STORE == KV_STORE_Q8_0
            out[head->first_index[p]] = byte_of_float(head->first[p], step);
            out[head->second_index[p]] = byte_of_float(head->second[p], step);
#else
            out[head->first_index[p]] = e4m3_of_float(head->first[p]);
            out[head->second_index[p]] = e4m3_of_float(head->second[p]);
#endif
        }
    }
#else
    (void)scale;
    head_store(head, out);
#endif
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
