/* dequantize_TYPE: rows of a quantised weight as activations, for a matrix product of many rows. Of
 * the prelude: LINEAR_PLAIN_FORMATS(X), the types wanted. A thread makes 8 columns.
 *
 * Grid: x = threads of a row, y = rows. Bound: row_bytes read and 2 bytes a column written. */
#define DEQUANTIZE_THREADS 256

template <class FORMAT>
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
    FORMAT::load8(a.weight + row * a.row_bytes, k, a.columns, w);
    act_value *to = (act_value *)a.output + (uint64_t)row * a.columns + k;
    for (uint32_t i = 0; i < 8 && k + i < a.columns; i++) {
        to[i] = act_of_float(w[i]);
    }
}

#define DEQUANTIZE_KERNEL(format)                                                              \
    extern "C" __global__ void KERNEL_BOUNDS(DEQUANTIZE_THREADS, 1)                            \
        dequantize_##format(const struct dequantize_arguments arguments)                       \
    {                                                                                          \
        dequantize<format_##format>(arguments);                                                \
    }

LINEAR_PLAIN_FORMATS(DEQUANTIZE_KERNEL)
