/* One kernel for each group of words; test_words.c says what each must compute. */

struct words_arguments {
    const uint32_t *in;
    uint32_t *out;
    uint32_t count;
    uint32_t value;
};

extern "C" __global__ void KERNEL_BOUNDS((64) + 64, 1)
    indices(const struct words_arguments arguments); /* declared, and defined below */

extern "C" __global__ void KERNEL_BOUNDS(128, 1) indices(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < arguments.count) {
        arguments.out[i] = arguments.in[i] * arguments.value + gridDim.x;
    }
}

/* Made by a macro, as a family of kernels is. */
#define INDICES_KERNEL(name)                                                                  \
    extern "C" __global__ void KERNEL_BOUNDS(32 * 2, 1) name(const struct words_arguments a)   \
    {                                                                                         \
        a.out[threadIdx.x] = threadIdx.x + (sizeof("__global__ void in_a_string(") > 8);      \
    }
#define KERNEL_FAMILY(X) X(made_by_macro) X(made_too)
KERNEL_FAMILY(INDICES_KERNEL)
#if 0
extern "C" __global__ void not_compiled(const struct words_arguments arguments) {}
#endif

/* Grid of three dimensions. */
extern "C" __global__ void indices3(const struct words_arguments arguments)
{
    uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    arguments.out[block * blockDim.x + threadIdx.x] =
        blockIdx.x | blockIdx.y << 8 | blockIdx.z << 16 | threadIdx.x << 24;
}

/* Reverses a block through static and dynamic shared memory. */
extern "C" __global__ void KERNEL_BOUNDS(256, 1) reverse(const struct words_arguments arguments)
{
    __shared__ uint32_t first[256];
    SHARED_DYNAMIC(uint32_t, second);
    uint32_t i = threadIdx.x;
    first[i] = arguments.in[blockIdx.x * blockDim.x + i];
    __syncthreads();
    second[i] = first[blockDim.x - 1 - i];
    __syncthreads();
    arguments.out[blockIdx.x * blockDim.x + i] = second[i ^ 1u];
}

/* What shared memory holds at a block's start. */
extern "C" __global__ void poison(const struct words_arguments arguments)
{
    __shared__ uint32_t fixed[64];
    SHARED_DYNAMIC(uint32_t, dynamic);
    uint32_t i = blockIdx.x * 64u + threadIdx.x;
    arguments.out[2 * i] = fixed[threadIdx.x];
    arguments.out[2 * i + 1] = dynamic[threadIdx.x];
    fixed[threadIdx.x] = 1;
    dynamic[threadIdx.x] = 1;
}

/* Each thread writes 8 words: what the warp's words give it. */
extern "C" __global__ void shuffles(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t lane = threadIdx.x % 32u;
    uint32_t value = arguments.in[i];
    uint32_t *out = arguments.out + i * 8;
    out[0] = warp_shuffle(value, (lane + 5u) % 32u);
    out[1] = warp_shuffle_xor(value, 9u);
    out[2] = (uint32_t)warp_shuffle((int)value, 31u - lane);
    out[3] = (uint32_t)(warp_shuffle((float)(value % 1000u), 3u) * 2.0f);
    out[4] = (uint32_t)warp_shuffle_xor((float)(value % 1000u), 16u);
    out[5] = warp_ballot(value % 3u == 0);
    out[6] = warp_any(value % 64u == 0);
    out[7] = (uint32_t)warp_shuffle_xor((int)value, 1u);
}

/* A warp's sum and maximum by shuffles, and where the vendor has them as words of its own: the same
 * bits. */
extern "C" __global__ void reductions(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const float value = ((const float *)arguments.in)[i];
    float *out = (float *)arguments.out + 4 * i;
    float sum = value;
    float largest = value;
    for (uint32_t mask = 16; mask; mask /= 2) {
        sum += warp_shuffle_xor(sum, mask);
        largest = fmaxf(largest, warp_shuffle_xor(largest, mask));
    }
    out[0] = sum;
    out[1] = largest;
#ifdef VENDOR_WARP_REDUCE
    out[2] = vendor_warp_sum(value);
    out[3] = vendor_warp_max(value);
#else
    out[2] = sum;
    out[3] = largest;
#endif
}

/* Sum of a block's values: shuffles within warps, shared memory across. */
extern "C" __global__ void KERNEL_BOUNDS(1024, 1) block_sum(const struct words_arguments arguments)
{
    __shared__ uint32_t sums[32];
    uint32_t value = arguments.in[blockIdx.x * blockDim.x + threadIdx.x];
    for (uint32_t mask = 16; mask; mask >>= 1) {
        value += warp_shuffle_xor(value, mask);
    }
    if (threadIdx.x % 32u == 0) {
        sums[threadIdx.x / 32u] = value;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < blockDim.x / 32u; i++) {
            sum += sums[i];
        }
        arguments.out[blockIdx.x] = sum;
    }
}

/* The last block to arrive adds up what all have left. */
extern "C" __global__ void last_block(const struct words_arguments arguments)
{
    __shared__ uint32_t is_last;
    uint32_t *counter = arguments.out;
    uint32_t *parts = arguments.out + 1;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = arguments.in[blockIdx.x];
        thread_fence();
        is_last = atomic_add(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last && threadIdx.x == 0) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < gridDim.x; i++) {
            sum += load_volatile(&parts[i]);
        }
        arguments.out[1 + gridDim.x] = sum;
    }
}

/* 16 bytes a thread by every way; the last quarter of the background copies is not valid. */
extern "C" __global__ void KERNEL_BOUNDS(64, 1) copies(const struct words_arguments arguments)
{
    __shared__ struct word4 first[64];
    __shared__ struct word4 second[64];
    uint32_t i = threadIdx.x;
    const struct word4 *in = (const struct word4 *)arguments.in;
    struct word4 *out = (struct word4 *)arguments.out;
    wait_for_predecessor();
    prefetch_l2(in, 64 * 16);
    copy_async16(&first[i], &in[i], i < 48);
    copy_async_commit();
    copy_async16(&second[i], &in[63 - i], true);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    store16(&out[i], first[i ^ 1u]);
    copy_async_wait<0>();
    __syncthreads();
    store16(&out[64 + i], second[i ^ 1u]);
    store16(&out[128 + i], load16(&in[i]));
    store16(&out[192 + i], load_stream16(&in[i]));
    release_successor();
}

/* Reads a background copy without waiting for it. */
extern "C" __global__ void copies_early(const struct words_arguments arguments)
{
    __shared__ struct word4 place[32];
    const struct word4 *in = (const struct word4 *)arguments.in;
    copy_async16(&place[threadIdx.x], &in[threadIdx.x], true);
    copy_async_commit();
    store16((struct word4 *)arguments.out + threadIdx.x, place[threadIdx.x]);
    copy_async_wait<0>();
}

/* Every half in both directions: out[i] = bits of the float, out[65536 + i] = back again. */
extern "C" __global__ void halves(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    float *floats = (float *)arguments.out;
    const uint16_t bits = (uint16_t)i;
    floats[i] = arguments.value ? float_of_bf16(bits) : float_of_f16(bits);
    arguments.out[65536 + i] = arguments.value ? bf16_of_float(floats[i]) : f16_of_float(floats[i]);
}

/* Floats to halves: out[2 i] = f16, out[2 i + 1] = bf16. */
extern "C" __global__ void to_halves(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const float value = ((const float *)arguments.in)[i];
    arguments.out[2 * i] = f16_of_float(value);
    arguments.out[2 * i + 1] = bf16_of_float(value);
}

/* Three words a thread in, four out. */
extern "C" __global__ void half_pairs(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t *in = arguments.in + 3 * i;
    uint32_t *out = arguments.out + 4 * i;
    out[0] = half2_fma(in[0], in[1], in[2]);
    out[1] = half2_mul(in[0], in[1]);
    out[2] = half2_sub(in[0], in[1]);
    out[3] = half2_add(in[0], in[1]);
}

/* Three words a thread in, four out. */
extern "C" __global__ void word_parts(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t *in = arguments.in + 4 * i;
    uint32_t *out = arguments.out + 4 * i;
    const struct word2 loaded = load_pair(in + 2);
    const struct word2 streamed = load_stream8(in + 2);
    const struct word2 pair = {loaded.x, streamed.y};
    out[0] = byte_permute(in[0], in[1], pair.x & 0x7777u);
    out[1] = and_or(in[0], in[1], pair.x);
    store_pair(out + 2, load_stream4(in + 3), float_of_bits(pair.y) == 1.5f ? 1u : 0u);
}

extern "C" __global__ void fast_words(const struct words_arguments arguments)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const float x = ((const float *)arguments.in)[i];
    float *out = (float *)arguments.out + 6 * i;
    out[0] = fast_exp2(x);
    out[1] = fast_rsqrt(x);
    out[2] = fast_tanh(x);
    out[3] = fast_exp(x);
    out[4] = fast_log2(x);
    out[5] = fast_rcp(x);
}

/* D [16, 8] = C + A·B; in: A [16, 16] and Bᵀ [8, 16] as halves, C [16, 8] as floats. With
 * `value` & 2 the fragments of A come through shared memory and ldmatrix4. */
extern "C" __global__ void KERNEL_BOUNDS(64, 1) matrix(const struct words_arguments arguments)
{
    __shared__ __align__(16) uint32_t tile[2][16 * 8];
    uint32_t lane = threadIdx.x % 32u;
    uint32_t warp = threadIdx.x / 32u;
    const uint32_t *from = arguments.in + warp * (128 + 64 + 128);
    const uint32_t *bt = from + 128;
    const float *c = (const float *)(from + 128 + 64);
    float *out = (float *)arguments.out + warp * 128;
    uint32_t row = lane / 4, pair = lane % 4;
    uint32_t a[4] = {from[row * 8 + pair], from[(row + 8) * 8 + pair], from[row * 8 + pair + 4],
                     from[(row + 8) * 8 + pair + 4]};
    uint32_t b[2] = {bt[row * 8 + pair], bt[row * 8 + pair + 4]};
    float d[4] = {c[row * 8 + pair * 2], c[row * 8 + pair * 2 + 1], c[(row + 8) * 8 + pair * 2],
                  c[(row + 8) * 8 + pair * 2 + 1]};
    if (arguments.value & 2u) {
        for (uint32_t i = lane; i < 128; i += 32) {
            tile[warp][i] = from[i];
        }
        __syncwarp();
        ldmatrix4(a, &tile[warp][(lane % 16u) * 8 + lane / 16u * 4]);
    }
    if (arguments.value & 1u) {
        mma_bf16(d, a, b);
    } else {
        mma_f16(d, a, b);
    }
    out[row * 8 + pair * 2] = d[0];
    out[row * 8 + pair * 2 + 1] = d[1];
    out[(row + 8) * 8 + pair * 2] = d[2];
    out[(row + 8) * 8 + pair * 2 + 1] = d[3];
}
