/* What kernels that stream weights for few rows share: a block makes tiles of sixteen rows of W,
 * its warps share the columns, and their sums are added in the order of the warps. */
#define DECODE_WARPS_LINEAR 16
#define DECODE_THREADS      (32 * DECODE_WARPS_LINEAR)

enum { DECODE_FROM_ACTIVATIONS, DECODE_FROM_NORM };
enum { DECODE_STORE, DECODE_ADD, DECODE_PAIR };

#if ACT_TYPE == TYPE_BF16
#define decode_mma(d, a, b) mma_bf16(d, a, b)
#else
#define decode_mma(d, a, b) mma_f16(d, a, b)
#endif

__device__ __forceinline__ uint32_t act_pair(float low, float high)
{
    return (uint32_t)act_of_float(low) | (uint32_t)act_of_float(high) << 16;
}

/* The tiles of up to three matrices, one after another; pairs count those of the first. */
struct tile_range {
    uint32_t first[DECODE_PARTS_MAX]; /* tiles before a part */
    uint32_t count;
};

template <int SETS>
__device__ __forceinline__ struct tile_range tiles_of(const struct linear_decode_arguments &a)
{
    struct tile_range range;
    range.first[0] = 0;
    range.first[1] = (a.rows[0] + 15) / 16;
    range.first[2] = range.first[1] + (a.rows[1] + 15) / 16;
    range.count = SETS == 2 ? range.first[1] : range.first[2] + (a.rows[2] + 15) / 16;
    return range;
}

/* The matrix of a tile, and in `tile` the tile's number in it. */
template <int SETS>
__device__ __forceinline__ uint32_t part_of(const struct tile_range &range, uint32_t &tile)
{
    if (SETS == 2 || tile < range.first[1]) {
        return 0;
    }
    if (tile < range.first[2]) {
        tile -= range.first[1];
        return 1;
    }
    tile -= range.first[2];
    return 2;
}

/* Parameters have no changing index without a copy on the stack. */
__device__ __forceinline__ const void *part_weights(const struct linear_decode_arguments &a,
                                                    uint32_t part)
{
    return part == 0 ? a.weights[0] : part == 1 ? a.weights[1] : a.weights[2];
}

/* Sums of a warp for a tile: [16 · TOKENS], a token's sixteen rows side by side. */
template <int TOKEN_TILES>
__device__ __forceinline__ void leave_sums(float *to, float (&d)[TOKEN_TILES][4])
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int tile = 0; tile < TOKEN_TILES; tile++) {
        float *at = to + (tile * 8 + 2 * t) * 16 + g;
        at[0] = d[tile][0];
        at[8] = d[tile][2];
        at[16] = d[tile][1];
        at[24] = d[tile][3];
        d[tile][0] = d[tile][1] = d[tile][2] = d[tile][3] = 0;
    }
}

/* What becomes of row `row` of tile `tile` for token `first + token`. `sums`: of all warps, set by
 * set. */
template <int SETS, int TOKENS, int TO, int ACTIVATION>
__device__ __forceinline__ void
finish_row(const struct linear_decode_arguments &a, const struct tile_range &range,
           const float (*sums)[DECODE_WARPS_LINEAR][16 * TOKENS], uint32_t tile, uint32_t first,
           uint32_t token, uint32_t row)
{
    float y[SETS];
#pragma unroll
    for (int m = 0; m < SETS; m++) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < DECODE_WARPS_LINEAR; w++) {
            sum += sums[m][w][token * 16 + row];
        }
        y[m] = sum;
    }
    const uint32_t part = part_of<SETS>(range, tile);
    const uint32_t r = tile * 16 + row;
    if (r >= (part == 0 ? a.rows[0] : part == 1 ? a.rows[1] : a.rows[2])) {
        return;
    }
    const uint64_t at = (uint64_t)(first + token) * a.output_stride + r +
                        (part > 0 ? a.rows[0] : 0) + (part > 1 ? a.rows[1] : 0);
    if (TO == DECODE_STORE) {
        ((float *)a.output)[at] = y[0];
    } else if (TO == DECODE_ADD) {
        ((float *)a.output)[at] += y[0];
    } else {
        ((act_value *)a.output)[at] = act_of_float(activated(y[0], ACTIVATION) * y[SETS - 1]);
    }
}

/* Brings the norm's weights, which do not depend on the predecessor, near before they are wanted.
 */
template <int COLUMNS>
__device__ __forceinline__ void touch_norm(const struct linear_decode_arguments &a)
{
    for (uint32_t k = threadIdx.x * 32; k < COLUMNS; k += DECODE_THREADS * 32) {
        prefetch_line(a.norm_weight + k); /* 128 bytes */
    }
}

/* Scales of the norm of this block's rows, in shared memory; barriers inside. `squares`:
 * [n][DECODE_WARPS_LINEAR]. */
template <int COLUMNS>
__device__ __forceinline__ void norm_scales(const struct linear_decode_arguments &a, uint32_t first,
                                            uint32_t n, float (*squares)[DECODE_WARPS_LINEAR],
                                            float *scales)
{
    const float *input = (const float *)a.input + (uint64_t)first * COLUMNS;
    /* Eight rows at a time, so that they are on their way together. */
    for (uint32_t from = 0; from < n; from += 8) {
        float sum[8] = {};
#pragma unroll 4
        for (uint32_t i = threadIdx.x; i < COLUMNS; i += DECODE_THREADS) {
#pragma unroll
            for (uint32_t token = 0; token < 8; token++) {
                const float x =
                    from + token < n ? input[(uint64_t)(from + token) * COLUMNS + i] : 0.0f;
                sum[token] = fmaf(x, x, sum[token]);
            }
        }
#pragma unroll
        for (uint32_t token = 0; token < 8; token++) {
            if (from + token < n) { /* the same for all threads */
                const float of_warp = warp_sum(sum[token]);
                if (threadIdx.x % 32 == 0) {
                    squares[from + token][threadIdx.x / 32] = of_warp;
                }
            }
        }
    }
    __syncthreads();
    if (threadIdx.x < n) {
        float sum = 0;
        for (int w = 0; w < DECODE_WARPS_LINEAR; w++) {
            sum += squares[threadIdx.x][w];
        }
        scales[threadIdx.x] = norm_scale(sum, COLUMNS, a.norm_epsilon);
    }
    __syncthreads();
}

/* What a lane brings of a row for the two products of a chunk of 32 columns: four columns at `from`,
 * of the first sixteen, and four at the same place among the others. */
__device__ __forceinline__ word4 stream_columns(const uint16_t *from)
{
    const word2 first = load_stream8(from), second = load_stream8(from + 16);
    return word4{first.x, first.y, second.x, second.y};
}

/* The same of a row of x from column k: activations as they are, or floats that are normed. */
template <int COLUMNS, int FROM>
__device__ __forceinline__ word4 tokens_at(const struct linear_decode_arguments &a, uint32_t row,
                                           float scale, uint32_t k)
{
    if (FROM == DECODE_FROM_ACTIVATIONS) {
        const uint16_t *x = (const uint16_t *)a.input + (uint64_t)row * COLUMNS + k;
        const word2 first = load_pair(x), second = load_pair(x + 16);
        return word4{first.x, first.y, second.x, second.y};
    }
    const float *x = (const float *)a.input + (uint64_t)row * COLUMNS + k;
    const float *w = a.norm_weight + k;
    float y[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int at = i / 4 * 16 + i % 4;
        y[i] = norm_scaled(x[at], scale, a.norm_weight_offset, w[at]);
    }
    return word4{act_pair(y[0], y[1]), act_pair(y[2], y[3]), act_pair(y[4], y[5]),
                 act_pair(y[6], y[7])};
}

/* Sixteen rows of weights times eight rows of x, 32 columns as above: `upper` of row g, `lower` of
 * g + 8. */
__device__ __forceinline__ void multiply_chunk(float (&d)[4], const word4 &upper,
                                               const word4 &lower, const word4 &tokens)
{
    const uint32_t b0[2] = {tokens.x, tokens.y}, b1[2] = {tokens.z, tokens.w};
    const uint32_t a0[4] = {upper.x, lower.x, upper.y, lower.y};
    const uint32_t a1[4] = {upper.z, lower.z, upper.w, lower.w};
    decode_mma(d, a0, b0);
    decode_mma(d, a1, b1);
}
