/* The yardsticks of a GPU: the bytes a second that all multiprocessors read, and the rate of the
 * tensor cores. A kernel's result depends on all it has read, so that nothing can be left out. */

/* to[i] = pseudo-random bf16 pairs in (-2, 2): a multiplication of zeros takes less power, and would
 * be faster than any real one. Grid: any, one dimension. */
extern "C" __global__ void KERNEL_BOUNDS(MEASURE_THREADS, 1)
    measure_fill(const struct measure_arguments arguments)
{
    const uint64_t stride = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < arguments.bytes / 4;
         i += stride) {
        uint32_t bits = (uint32_t)i * 2654435761u + 12345u;
        bits ^= bits >> 15;
        bits *= 2246822519u;
        bits ^= bits >> 13;
        /* Sign and mantissa are random, the exponent is that of 1.0 or 0.5. */
        arguments.to[i] = (bits & 0x80ff80ffu) | 0x3f003f00u;
    }
}

/* Reads [bytes] once. Bound: bytes. Grid: any, one dimension; neighbouring threads read
 * neighbouring words, each MEASURE_LOADS of them before it looks at the first. */
extern "C" __global__ void KERNEL_BOUNDS(MEASURE_THREADS, 2)
    measure_read(const struct measure_arguments arguments)
{
    const uint64_t stride = (uint64_t)gridDim.x * blockDim.x;
    const uint64_t count = arguments.bytes / 16;
    uint32_t sum = 0;
#pragma unroll 1
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += stride * MEASURE_LOADS) {
        struct word4 words[MEASURE_LOADS];
#pragma unroll
        for (int load = 0; load < MEASURE_LOADS; load++) {
            words[load] = load_stream16(arguments.from + (i + load * stride) * 16);
        }
#pragma unroll
        for (int load = 0; load < MEASURE_LOADS; load++) {
            sum ^= words[load].x ^ words[load].y ^ words[load].z ^ words[load].w;
        }
    }
    atomic_add(arguments.to, sum);
}

/* Multiplies tiles in registers. Bound: 4,096 · MEASURE_TILES · rounds FLOP a warp. */
extern "C" __global__ void KERNEL_BOUNDS(MEASURE_THREADS, 1)
    measure_matrix(const struct measure_arguments arguments)
{
    float sums[MEASURE_TILES][4];
    uint32_t a[4];
    uint32_t b[2];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        a[i] = 0x3f803f80u ^ (threadIdx.x * 2654435761u >> i & 0x807f807fu);
        b[i & 1] = 0x3f803f80u ^ (threadIdx.x * 2246822519u >> i & 0x807f807fu);
    }
#pragma unroll
    for (int tile = 0; tile < MEASURE_TILES; tile++) {
        sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0;
    }
    for (uint32_t round = 0; round < arguments.rounds; round++) {
#pragma unroll
        for (int tile = 0; tile < MEASURE_TILES; tile++) {
            mma_bf16(sums[tile], a, b);
        }
    }
    float sum = 0;
#pragma unroll
    for (int tile = 0; tile < MEASURE_TILES; tile++) {
        sum += sums[tile][0] + sums[tile][1] + sums[tile][2] + sums[tile][3];
    }
    atomic_add(arguments.to, sum != 0);
}
