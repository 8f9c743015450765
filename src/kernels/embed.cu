/* embed_TYPE: residual[row] = scale · embedding[token]. Of the prelude: EMBED_FORMATS(X), the types
 * wanted as published; PACKED_EMBED_FORMATS(X), those in the order of packed_formats.cuh. Grid: x = rows of the bucket; 128 threads. Bound: one row of the table read and 4 bytes
 * an element written; a few KB a row, so latency decides. */
template <class READER> __device__ __forceinline__ void embed(const struct embed_arguments &a)
{
    release_successor();
    wait_for_predecessor();
    const uint32_t row = blockIdx.x;
    if (row >= *a.count) {
        return;
    }
    const uint32_t token = a.tokens[row];
    float *to = a.residual + (uint64_t)row * a.columns;
    for (uint32_t k = threadIdx.x * UNIT_ELEMENTS; k < a.columns; k += 128 * UNIT_ELEMENTS) {
        float w[UNIT_ELEMENTS];
        READER::load8(a.weight, a.row_bytes, token, k, a.columns, w);
#pragma unroll
        for (uint32_t i = 0; i < UNIT_ELEMENTS; i++) {
            w[i] *= a.scale;
        }
        unit_store<TYPE_F32>(to + k, w, a.columns, a.columns - k);
    }
}

#define EMBED_KERNEL(format, reader)                                                           \
    extern "C" __global__ void KERNEL_BOUNDS(128, 1)                                           \
        embed_##format(const struct embed_arguments arguments)                                 \
    {                                                                                          \
        embed<reader>(arguments);                                                              \
    }
#define EMBED_ROWS(format)   EMBED_KERNEL(format, row_reader<format_##format>)
#define EMBED_PACKED(format) EMBED_KERNEL(packed_##format, tile_reader<packed_##format>)

EMBED_FORMATS(EMBED_ROWS)
PACKED_EMBED_FORMATS(EMBED_PACKED)
