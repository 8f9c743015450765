/* embed_TYPE: residual[row] = scale · embedding[token]. Of the prelude: EMBED_FORMATS(X), the types
 * wanted. Grid: x = rows of the bucket; 128 threads. Bound: one row of the table read and 4 bytes
 * an element written; a few KB a row, so latency decides. */
template <class FORMAT> __device__ __forceinline__ void embed(const struct embed_arguments &a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t row = blockIdx.x;
    if (row >= *a.count) {
        return;
    }
    const uint8_t *from = a.weight + a.tokens[row] * a.row_bytes;
    float *to = a.residual + (uint64_t)row * a.columns;
    for (uint32_t k = threadIdx.x * 8; k < a.columns; k += 128 * 8) {
        float w[8];
        FORMAT::load8(from, k, a.columns, w);
        for (uint32_t i = 0; i < 8 && k + i < a.columns; i++) {
            to[k + i] = w[i] * a.scale;
        }
    }
}

#define EMBED_KERNEL(format)                                                                   \
    extern "C" __global__ void KERNEL_BOUNDS(128, 1)                                           \
        embed_##format(const struct embed_arguments arguments)                                 \
    {                                                                                          \
        embed<format_##format>(arguments);                                                     \
    }

EMBED_FORMATS(EMBED_KERNEL)
