/* The words of docs/internals/gpu-kernels.md for AMD GPUs, in plain HIP: correct first. A warp of the
 * text has 32 lanes on every GPU; where the hardware's has 64, two of ours share one, and words that
 * join lanes stay within their half. There are no background copies and no dependent launches. */

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;

#define VENDOR_AMD 1
#define WARP_SIZE  32
/* HIP's second number is waves a SIMD, not blocks: left to the compiler. */
#define KERNEL_BOUNDS(threads, blocks) __launch_bounds__(threads)
#define SHARED_DYNAMIC(T, name)                                                      \
    extern __shared__ __attribute__((aligned(128))) uint8_t shared_dynamic_bytes[]; \
    T *name = (T *)shared_dynamic_bytes

struct word2 {
    uint32_t x, y;
};

struct word4 {
    uint32_t x, y, z, w;
};

/* Warps. */

/* All lanes of a hardware warp run in step; what is left is to keep the compiler from moving memory
 * accesses across. */
__device__ __forceinline__ void sync_warp_amd()
{
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
}
#define __syncwarp sync_warp_amd

template <class T> __device__ __forceinline__ T warp_shuffle(T value, uint32_t lane)
{
    return __shfl(value, (int)lane, WARP_SIZE);
}

template <class T> __device__ __forceinline__ T warp_shuffle_xor(T value, uint32_t mask)
{
    return __shfl_xor(value, (int)mask, WARP_SIZE);
}

__device__ __forceinline__ uint32_t warp_ballot(bool predicate)
{
    return (uint32_t)((uint64_t)__ballot(predicate) >> (__lane_id() & 32u));
}

__device__ __forceinline__ bool warp_any(bool predicate)
{
    return warp_ballot(predicate) != 0;
}

/* Memory. */

typedef uint32_t amd_word4 __attribute__((ext_vector_type(4)));

__device__ __forceinline__ uint32_t atomic_add(uint32_t *to, uint32_t value)
{
    return atomicAdd(to, value);
}

__device__ __forceinline__ uint64_t atomic_add64(uint64_t *to, uint64_t value)
{
    return atomicAdd((unsigned long long *)to, (unsigned long long)value);
}

__device__ __forceinline__ void thread_fence()
{
    __threadfence();
}

__device__ __forceinline__ struct word4 load16(const void *from)
{
    const amd_word4 value = *(const amd_word4 *)from;
    const struct word4 result = {value.x, value.y, value.z, value.w};
    return result;
}

__device__ __forceinline__ void store16(void *to, struct word4 value)
{
    const amd_word4 words = {value.x, value.y, value.z, value.w};
    *(amd_word4 *)to = words;
}

__device__ __forceinline__ struct word4 load_stream16(const void *from)
{
    const amd_word4 value = __builtin_nontemporal_load((const amd_word4 *)from);
    const struct word4 result = {value.x, value.y, value.z, value.w};
    return result;
}

__device__ __forceinline__ struct word2 load_stream8(const void *from)
{
    const uint32_t *words = (const uint32_t *)from;
    const struct word2 value = {__builtin_nontemporal_load(words),
                                __builtin_nontemporal_load(words + 1)};
    return value;
}

__device__ __forceinline__ uint32_t load_stream4(const void *from)
{
    return __builtin_nontemporal_load((const uint32_t *)from);
}

__device__ __forceinline__ void store_pair(void *to, uint32_t x, uint32_t y)
{
    const struct word2 pair = {x, y};
    *(struct word2 *)to = pair;
}

__device__ __forceinline__ struct word2 load_pair(const void *from)
{
    return *(const struct word2 *)from;
}

__device__ __forceinline__ uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector)
{
    const uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 4; i++) {
        result |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    }
    return result;
}

__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits)
{
    return (a & mask) | bits;
}

__device__ __forceinline__ float float_of_bits(uint32_t bits)
{
    return __builtin_bit_cast(float, bits);
}

__device__ __forceinline__ uint32_t bits_of_float(float value)
{
    return __builtin_bit_cast(uint32_t, value);
}

__device__ __forceinline__ uint32_t load_volatile(const uint32_t *from)
{
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

__device__ __forceinline__ void copy_async16(void *shared, const void *from, bool valid)
{
    struct word4 value = {0, 0, 0, 0};
    if (valid) {
        value = load16(from);
    }
    store16(shared, value);
}

__device__ __forceinline__ void copy_async_commit()
{
}

template <int N> __device__ __forceinline__ void copy_async_wait()
{
}

__device__ __forceinline__ void prefetch_l2(const void *, uint32_t)
{
}

__device__ __forceinline__ void wait_for_predecessor()
{
}

__device__ __forceinline__ void release_successor()
{
}

/* Half types. */

/* 2²³ + byte `index` of a word, which a float holds exactly. */
__device__ __forceinline__ float biased_float_of_byte(uint32_t word, uint32_t index)
{
    return __uint_as_float(0x4B000000u | (word >> 8 * index & 0xFFu));
}

__device__ __forceinline__ float float_of_f16(uint16_t bits)
{
    return (float)__builtin_bit_cast(_Float16, bits);
}

__device__ __forceinline__ uint16_t f16_of_float(float value)
{
    return __builtin_bit_cast(uint16_t, (_Float16)value);
}

__device__ __forceinline__ float float_of_bf16(uint16_t bits)
{
    return __builtin_bit_cast(float, (uint32_t)bits << 16);
}

__device__ __forceinline__ uint16_t bf16_of_float(float value)
{
    const uint32_t bits = __builtin_bit_cast(uint32_t, value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* Two values rounded into a word, `low` first in memory. */
__device__ __forceinline__ uint32_t f16x2_of_floats(float low, float high)
{
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
}

__device__ __forceinline__ uint32_t bf16x2_of_floats(float low, float high)
{
    return bf16_of_float(low) | (uint32_t)bf16_of_float(high) << 16;
}

typedef _Float16 amd_half2 __attribute__((ext_vector_type(2)));

__device__ __forceinline__ uint32_t half2_add(uint32_t a, uint32_t b)
{
    return __builtin_bit_cast(uint32_t,
                              __builtin_bit_cast(amd_half2, a) + __builtin_bit_cast(amd_half2, b));
}

__device__ __forceinline__ uint32_t half2_sub(uint32_t a, uint32_t b)
{
    return __builtin_bit_cast(uint32_t,
                              __builtin_bit_cast(amd_half2, a) - __builtin_bit_cast(amd_half2, b));
}

__device__ __forceinline__ uint32_t half2_mul(uint32_t a, uint32_t b)
{
    return __builtin_bit_cast(uint32_t,
                              __builtin_bit_cast(amd_half2, a) * __builtin_bit_cast(amd_half2, b));
}

__device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    const amd_half2 x = __builtin_bit_cast(amd_half2, a);
    const amd_half2 y = __builtin_bit_cast(amd_half2, b);
    const amd_half2 z = __builtin_bit_cast(amd_half2, c);
    const amd_half2 result = {(_Float16)__builtin_fmaf16(x.x, y.x, z.x),
                              (_Float16)__builtin_fmaf16(x.y, y.y, z.y)};
    return __builtin_bit_cast(uint32_t, result);
}

/* Rounded each by itself, never contracted with a neighbour. */

__device__ __forceinline__ float mul_rn(float a, float b)
{
#pragma clang fp contract(off)
    return a * b;
}

__device__ __forceinline__ float add_rn(float a, float b)
{
#pragma clang fp contract(off)
    return a + b;
}

/* Approximations of the hardware. */

__device__ __forceinline__ float fast_exp2(float x)
{
    return exp2f(x);
}

__device__ __forceinline__ float fast_exp(float x)
{
    return __expf(x);
}

__device__ __forceinline__ float fast_log2(float x)
{
    return __log2f(x);
}

__device__ __forceinline__ float fast_rsqrt(float x)
{
    return __frsqrt_rn(x);
}

__device__ __forceinline__ float fast_rcp(float x)
{
    return __builtin_amdgcn_rcpf(x);
}

__device__ __forceinline__ float fast_tanh(float x)
{
    return tanhf(x);
}

/* Matrix products of one warp, by shuffles, k ascending: lane 4g + t holds A[g], A[g + 8] and B[.][g]
 * at k = 2t, 2t + 1 (and + 8), and D[g], D[g + 8] at columns 2t, 2t + 1. */
template <class Decode>
__device__ __forceinline__ void mma_by_shuffles(float d[4], const uint32_t a[4],
                                                const uint32_t b[2], Decode decode)
{
    const uint32_t lane = threadIdx.x % 32u;
    const uint32_t row_lane = lane & ~3u;
    const uint32_t column_lane = lane % 4u * 8u;
    for (uint32_t part = 0; part < 2; part++) {
        for (uint32_t t = 0; t < 4; t++) {
            const uint32_t upper = warp_shuffle(a[part * 2], row_lane + t);
            const uint32_t lower = warp_shuffle(a[part * 2 + 1], row_lane + t);
            const uint32_t left = warp_shuffle(b[part], column_lane + t);
            const uint32_t right = warp_shuffle(b[part], column_lane + 4u + t);
            for (uint32_t shift = 0; shift < 32; shift += 16) {
                const float x = decode((uint16_t)(upper >> shift));
                const float y = decode((uint16_t)(lower >> shift));
                const float l = decode((uint16_t)(left >> shift));
                const float r = decode((uint16_t)(right >> shift));
                d[0] = fmaf(x, l, d[0]);
                d[1] = fmaf(x, r, d[1]);
                d[2] = fmaf(y, l, d[2]);
                d[3] = fmaf(y, r, d[3]);
            }
        }
    }
}

__device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_by_shuffles(d, a, b, [](uint16_t bits) { return float_of_bf16(bits); });
}

__device__ __forceinline__ void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_by_shuffles(d, a, b, [](uint16_t bits) { return float_of_f16(bits); });
}

/* Bytes, A unsigned, B signed: lane 4g + t holds A[g], A[g + 8] and B[.][g] at
 * k = 4t … 4t + 3 (and + 16). */
__device__ __forceinline__ void mma_u8_s8(int32_t d[4], const uint32_t a[4],
                                                      const uint32_t b[2])
{
    const uint32_t row_lane = threadIdx.x % 32u & ~3u;
    const uint32_t column_lane = threadIdx.x % 4u * 8u;
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t part = i / 4, t = i % 4;
        const uint32_t upper = warp_shuffle(a[part * 2], row_lane + t);
        const uint32_t lower = warp_shuffle(a[part * 2 + 1], row_lane + t);
        const uint32_t left = warp_shuffle(b[part], column_lane + t);
        const uint32_t right = warp_shuffle(b[part], column_lane + 4u + t);
        for (uint32_t shift = 0; shift < 32; shift += 8) {
            const int32_t x = (int32_t)(upper >> shift & 0xffu), y = (int32_t)(lower >> shift & 0xffu);
            const int32_t l = (int8_t)(left >> shift), r = (int8_t)(right >> shift);
            d[0] += x * l;
            d[1] += x * r;
            d[2] += y * l;
            d[3] += y * r;
        }
    }
}

/* The address that another lane has. */
__device__ __forceinline__ const uint32_t *address_of_lane(const void *own, uint32_t lane)
{
    const uint64_t bits = (uint64_t)own;
    const uint64_t low = warp_shuffle((uint32_t)bits, lane);
    const uint64_t high = warp_shuffle((uint32_t)(bits >> 32), lane);
    return (const uint32_t *)(high << 32 | low);
}

__device__ __forceinline__ void ldmatrix4(uint32_t r[4], const void *shared)
{
    const uint32_t lane = threadIdx.x % 32u;
    for (uint32_t i = 0; i < 4; i++) {
        r[i] = address_of_lane(shared, i * 8u + lane / 4u)[lane % 4u];
    }
}

/* The same with each 8 by 8 tile transposed: the values of two rows a word. */
__device__ __forceinline__ void ldmatrix4_transposed(uint32_t r[4], const void *shared)
{
    const uint32_t lane = threadIdx.x % 32u;
    const uint32_t shift = lane / 4u % 2u * 16u;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = i * 8u + lane % 4u * 2u;
        const uint32_t first = address_of_lane(shared, row)[lane / 8u] >> shift & 0xffffu;
        r[i] = first | (address_of_lane(shared, row + 1u)[lane / 8u] >> shift) << 16;
    }
}
