/* linear_plain_TYPE: output = input · Wᵀ for weights of any type and any shape, with plain
 * multiply-adds: the reference of the fast kernels, and all that float32 weights have. Of the
 * prelude: LINEAR_PLAIN_FORMATS(X), the types wanted.
 *
 * A warp makes one row of W for PLAIN_TOKENS rows of the input; lane l takes columns 8 l … 8 l + 7
 * of every 256, and the lanes' sums are added as a tree: one order for any number of rows.
 *
 * Grid: x = PLAIN_WARPS rows of W, y = PLAIN_TOKENS rows of the bucket. Bound: row_bytes a row of W
 * once a PLAIN_TOKENS rows, from memory; decoding single bytes keeps it far from that. */
#define PLAIN_WARPS  8
#define PLAIN_TOKENS 8

template <class FORMAT, bool GROUPED>
__device__ __forceinline__ void linear_plain(const struct linear_plain_arguments &a,
                                             const struct row_view<GROUPED> &view)
{
    const uint32_t row = blockIdx.x * PLAIN_WARPS + threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t tokens = view.n;
    if (row >= a.rows || tokens == 0) {
        return;
    }
    const uint8_t *weight = view.weights(a.weight) + row * a.row_bytes;
    const act_value *input = (const act_value *)a.input;
    float sums[PLAIN_TOKENS] = {0};
    for (uint32_t k = lane * 8; k < a.columns; k += 256) {
        float w[8];
        FORMAT::load8(weight, k, a.columns, w);
        for (uint32_t t = 0; t < PLAIN_TOKENS && t < tokens; t++) {
            const act_value *x = input + (uint64_t)view.input(t) * a.columns + k;
            for (uint32_t i = 0; i < 8 && k + i < a.columns; i++) {
                sums[t] = fmaf(w[i], float_of_act(x[i]), sums[t]);
            }
        }
    }
    float own = 0;
    for (uint32_t t = 0; t < PLAIN_TOKENS; t++) {
        if (t < tokens) { /* the same for all lanes */
            const float sum = warp_sum(sums[t]);
            own = lane == t ? sum : own;
        }
    }
    if (lane < tokens) {
        float y = (own + (a.bias ? a.bias[row] : 0.0f)) * a.scale;
        y = a.soft_cap != 0.0f ? a.soft_cap * tanhf(y / a.soft_cap) : y;
        float *to = a.output + (uint64_t)view.output(lane) * a.output_stride + row;
        *to = a.mode == LINEAR_ADD ? *to + y : y;
    }
}

#define LINEAR_PLAIN_KERNEL(format)                                                            \
    extern "C" __global__ void KERNEL_BOUNDS(32 * PLAIN_WARPS, 1)                              \
        linear_plain_##format(const struct linear_plain_arguments arguments)                   \
    {                                                                                          \
        release_successor();                                                                   \
        wait_for_predecessor();                                                                \
        linear_plain<format_##format, false>(                                                  \
            arguments, rows_from(blockIdx.y * PLAIN_TOKENS, *arguments.count, PLAIN_TOKENS));  \
    }

LINEAR_PLAIN_FORMATS(LINEAR_PLAIN_KERNEL)

/* The same of experts: y = tiles of PLAIN_TOKENS rows. LINEAR_PLAIN_GROUPS(X), the types wanted. */
#define LINEAR_PLAIN_GROUP(format)                                                             \
    extern "C" __global__ void KERNEL_BOUNDS(32 * PLAIN_WARPS, 1)                              \
        linear_plain_group_##format(const struct linear_plain_group_arguments arguments)       \
    {                                                                                          \
        release_successor();                                                                   \
        wait_for_predecessor();                                                                \
        linear_plain<format_##format, true>(arguments.linear,                                  \
                                            rows_of_tile(arguments.group, blockIdx.y));        \
    }

#ifdef LINEAR_PLAIN_GROUPS
LINEAR_PLAIN_GROUPS(LINEAR_PLAIN_GROUP)
#endif
