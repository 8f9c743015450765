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

/* Where column k of a row lies, of which the eight of 32 columns that a lane brings are side by side.
 */
__device__ __forceinline__ uint32_t staged_column(uint32_t k)
{
    return (k & ~31u) + k % 16 / 4 * 8 + k % 32 / 16 * 4 + k % 4;
}

/* Where row `row` of tile `tile` of token `token` goes in the output. */
struct output_place {
    uint64_t at;
    bool valid; /* the last tile of a matrix may have rows that are not there */
};
template <int SETS, int TO>
__device__ __forceinline__ struct output_place
output_place_of(const struct linear_decode_arguments &a, const struct tile_range &range,
                uint32_t tile, uint32_t token, uint32_t row)
{
    const uint32_t part = part_of<SETS>(range, tile);
    const uint32_t r = tile * 16 + row;
    const uint32_t column = TO == DECODE_PAIR && a.output_is_staged ? staged_column(r) : r;
    return output_place{(uint64_t)token * a.output_stride + column + (part > 0 ? a.rows[0] : 0) +
                            (part > 1 ? a.rows[1] : 0),
                        r < (part == 0   ? a.rows[0]
                             : part == 1 ? a.rows[1]
                                         : a.rows[2])};
}

/* What an output that is added to holds before: nothing for the others. */
template <int TO>
__device__ __forceinline__ float output_before(const struct linear_decode_arguments &a,
                                               const struct output_place &place)
{
    return TO == DECODE_ADD && place.valid ? ((const float *)a.output)[place.at] : 0.0f;
}

/* Copies of BYTES a block that may be on their way while the predecessor has not ended: 64 KB a
 * multiprocessor, of which 132 of an H200 read 8 MB in 2 us. */
template <int BYTES> struct pace_of {
    static constexpr int VALUE = BYTES < 64 << 10 ? (64 << 10) / BYTES : 1;
};

/* What becomes of row `row` of a tile for token `token` of its group. `sums`: of all warps, set by
 * set. `before`: of output_before. */
template <int SETS, int TOKENS, int TO, int ACTIVATION>
__device__ __forceinline__ void finish_row(const struct linear_decode_arguments &a,
                                           const float (*sums)[DECODE_WARPS_LINEAR][16 * TOKENS],
                                           const struct output_place &place, float before,
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
    if (!place.valid) {
        return;
    }
    if (TO == DECODE_STORE) {
        ((float *)a.output)[place.at] = y[0];
    } else if (TO == DECODE_ADD) {
        ((float *)a.output)[place.at] = before + y[0];
    } else {
        ((act_value *)a.output)[place.at] = act_of_float(activated(y[0], ACTIVATION) * y[SETS - 1]);
    }
}

/* Columns of a row that a thread norms. */
#define NORM_EACH(columns) (((columns) + DECODE_THREADS - 1) / DECODE_THREADS)

/* A norm's weights of a thread's columns: they do not depend on the predecessor. */
template <int COLUMNS>
__device__ __forceinline__ void load_norm_weights(const struct linear_decode_arguments &a,
                                                  float (&weights)[NORM_EACH(COLUMNS)])
{
#pragma unroll
    for (int e = 0; e < NORM_EACH(COLUMNS); e++) {
        const uint32_t k = threadIdx.x + e * DECODE_THREADS;
        weights[e] = k < COLUMNS ? a.norm_weight[k] : 0.0f;
    }
}

/* Norms ROUND rows of x, from `from` of the block's n on, into `staged`, where all may read them
 * afterwards; two barriers. A value is read once and comes to its place from a register. The sum of
 * squares has the order of norm.cu. `squares`: [ROUND]. */
template <int COLUMNS, int ROUND>
__device__ __forceinline__ void
stage_normed(const struct linear_decode_arguments &a, uint32_t first, uint32_t from, uint32_t n,
             const float (&weights)[NORM_EACH(COLUMNS)], float (*squares)[DECODE_WARPS_LINEAR],
             act_value (*staged)[COLUMNS])
{
    constexpr int EACH = NORM_EACH(COLUMNS);
    const float *input = (const float *)a.input + (uint64_t)(first + from) * COLUMNS;
    float x[ROUND][EACH];
#pragma unroll
    for (int row = 0; row < ROUND; row++) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const uint32_t k = threadIdx.x + e * DECODE_THREADS;
            x[row][e] = from + row < n && k < COLUMNS ? input[(uint64_t)row * COLUMNS + k] : 0.0f;
        }
    }
#pragma unroll
    for (int row = 0; row < ROUND; row++) {
        if (from + row < n) { /* the same for all threads */
            float sum = 0;
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                sum = fmaf(x[row][e], x[row][e], sum);
            }
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0) {
                squares[row][threadIdx.x / 32] = sum;
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int row = 0; row < ROUND; row++) {
        if (from + row < n) {
            float sum = 0;
#pragma unroll
            for (int w = 0; w < DECODE_WARPS_LINEAR; w++) {
                sum += squares[row][w];
            }
            const float scale = norm_scale(sum, COLUMNS, a.norm_epsilon);
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                const uint32_t k = threadIdx.x + e * DECODE_THREADS;
                if (k < COLUMNS) {
                    staged[row][staged_column(k)] = act_of_float(
                        norm_scaled(x[row][e], scale, a.norm_weight_offset, weights[e]));
                }
            }
        }
    }
    __syncthreads();
}

/* What a lane brings of a row for the two products of a chunk of 32 columns: four columns at
 * `from`, of the first sixteen, and four at the same place among the others. */
__device__ __forceinline__ word4 columns_of(const act_value *from)
{
    const word2 first = load_pair(from), second = load_pair(from + 16);
    return word4{first.x, first.y, second.x, second.y};
}

/* The same of weights, which are read once. */
__device__ __forceinline__ word4 stream_columns(const uint16_t *from)
{
    const word2 first = load_stream8(from), second = load_stream8(from + 16);
    return word4{first.x, first.y, second.x, second.y};
}

/* The same of the 32 columns of a row of x from column k on. Only kernels for eight rows ask for
 * staged ones: others load between products, where a branch would keep loads apart. */
template <int COLUMNS, bool MAY_BE_STAGED>
__device__ __forceinline__ word4 tokens_at(const struct linear_decode_arguments &a, uint32_t row,
                                           uint32_t k)
{
    const act_value *x = (const act_value *)a.input + (uint64_t)row * COLUMNS + k;
    const uint32_t t = threadIdx.x % 4;
    return MAY_BE_STAGED && a.input_is_staged ? load16(x + t * 8) : columns_of(x + t * 4);
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
