/* dequantize_TYPE: rows of a quantised weight as activations, for a matrix product of many rows. Of
 * the prelude: LINEAR_PLAIN_FORMATS(X), the types wanted as published; PACKED_FORMATS(X), those in
 * the order of packed_formats.cuh. A thread makes 8 columns.
 *
 * Grid: x = threads of a row, y = rows. Bound: row_bytes read and 2 bytes a column written. */
#define DEQUANTIZE_THREADS 256
#define DEQUANTIZE_UNITS   4

template <class READER>
__device__ __forceinline__ void dequantize(const struct dequantize_arguments &a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t k = (blockIdx.x * DEQUANTIZE_THREADS + threadIdx.x) * 8;
    const uint32_t row = blockIdx.y;
    if (k >= a.columns) {
        return;
    }
    float w[8];
    READER::load8(a.weight, a.row_bytes, row, k, a.columns, w);
    act_value *to = (act_value *)a.output + (uint64_t)row * a.columns + k;
    for (uint32_t i = 0; i < 8 && k + i < a.columns; i++) {
        to[i] = act_of_float(w[i]);
    }
}

__device__ __forceinline__ uint32_t scaled_pair(uint32_t halves, float scale, float shift)
{
    return f16x2_of_floats(fmaf(half_of_word(halves, 0), scale, shift),
                           fmaf(half_of_word(halves, 1), scale, shift));
}

/* The same for packed weights: a warp makes a unit, reading as it lies and writing 8 bytes a lane.
 * Grid: x = units of a tile by fours, y = tiles of sixteen rows. */
template <class FORMAT>
__device__ __forceinline__ void dequantize_packed(const struct dequantize_arguments &a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t lane = threadIdx.x % 32, tile = blockIdx.y;
    const uint32_t units = a.columns / PACK_COLUMNS;
    const uint32_t unit = blockIdx.x * DEQUANTIZE_UNITS + threadIdx.x / 32;
    if (unit >= units) {
        return;
    }
    const uint32_t record = tile * (units / FORMAT::UNITS) + unit / FORMAT::UNITS;
    typename FORMAT::unit u;
    const uint8_t *from = a.weight + (uint64_t)record * FORMAT::RECORD;
    FORMAT::template load<pack_memory>(u, from + unit % FORMAT::UNITS * FORMAT::UNIT,
                                       from + FORMAT::UNITS * FORMAT::UNIT, lane);
    const typename FORMAT::shared_scales scales = FORMAT::scales_of(u);
    act_value *upper = (act_value *)a.output + (uint64_t)(tile * 16 + lane / 4) * a.columns +
                       unit * PACK_COLUMNS + lane % 4 * 4;
    act_value *lower = upper + 8 * (uint64_t)a.columns;
#pragma unroll
    for (int m = 0; m < PACK_STEPS; m++) {
        uint32_t codes[4];
        FORMAT::codes(u, m, codes);
        const struct pack_terms terms = FORMAT::terms(scales, m);
        store_pair(upper + m * 16, scaled_pair(codes[0], terms.upper_scale, terms.upper_shift),
                   scaled_pair(codes[2], terms.upper_scale, terms.upper_shift));
        store_pair(lower + m * 16, scaled_pair(codes[1], terms.lower_scale, terms.lower_shift),
                   scaled_pair(codes[3], terms.lower_scale, terms.lower_shift));
    }
}

#define DEQUANTIZE_ROWS(format)                                          \
    extern "C" __global__ void KERNEL_BOUNDS(DEQUANTIZE_THREADS, 1)      \
        dequantize_##format(const struct dequantize_arguments arguments) \
    {                                                                    \
        dequantize<row_reader<format_##format>>(arguments);              \
    }
#define DEQUANTIZE_PACKED(format)                                               \
    extern "C" __global__ void KERNEL_BOUNDS(32 * DEQUANTIZE_UNITS, 1)          \
        dequantize_packed_##format(const struct dequantize_arguments arguments) \
    {                                                                           \
        dequantize_packed<packed_##format>(arguments);                          \
    }

LINEAR_PLAIN_FORMATS(DEQUANTIZE_ROWS)
PACKED_FORMATS(DEQUANTIZE_PACKED)
