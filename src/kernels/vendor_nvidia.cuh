/* The words of docs/internals/gpu-kernels.md for NVIDIA GPUs, by inline PTX. `__CUDA_ARCH__` chooses:
 * what an architecture lacks (mma of bf16 and background copies before sm_80, dependent launches
 * before sm_90) is done with plain loads, shuffles and float arithmetic to the same meaning.
 *
 * Everything that reads or writes memory is `volatile`, so that the compiler keeps its place relative
 * to wait_for_predecessor() and barriers. */

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;

#define VENDOR_NVIDIA 1
#define WARP_SIZE     32
#define KERNEL_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define SHARED_DYNAMIC(T, name)                                    \
    extern __shared__ __align__(128) uint8_t shared_dynamic_bytes[]; \
    T *name = (T *)shared_dynamic_bytes

struct word2 {
    uint32_t x, y;
};

struct word4 {
    uint32_t x, y, z, w;
};

struct tensor_map; /* arguments_linear.h */

#define KERNEL_CONSTANT __grid_constant__

/* Warps. */

template <class T> __device__ __forceinline__ T warp_shuffle(T value, uint32_t lane)
{
    return __shfl_sync(0xffffffffu, value, (int)lane);
}

template <class T> __device__ __forceinline__ T warp_shuffle_xor(T value, uint32_t mask)
{
    return __shfl_xor_sync(0xffffffffu, value, (int)mask);
}

__device__ __forceinline__ uint32_t warp_ballot(bool predicate)
{
    return __ballot_sync(0xffffffffu, predicate);
}

__device__ __forceinline__ bool warp_any(bool predicate)
{
    return __any_sync(0xffffffffu, predicate);
}

/* Memory. */

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

/* A place in shared memory as the instructions of this vendor name it. */
__device__ __forceinline__ uint32_t shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

__device__ __forceinline__ struct word4 load16(const void *from)
{
    const uint4 value = *(const uint4 *)from;
    const struct word4 result = {value.x, value.y, value.z, value.w};
    return result;
}

__device__ __forceinline__ void store16(void *to, struct word4 value)
{
    *(uint4 *)to = make_uint4(value.x, value.y, value.z, value.w);
}

__device__ __forceinline__ struct word4 load_stream16(const void *from)
{
    struct word4 value;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(__cvta_generic_to_global(from)));
    return value;
}

__device__ __forceinline__ struct word2 load_stream8(const void *from)
{
    struct word2 value;
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(value.x), "=r"(value.y)
                 : "l"(__cvta_generic_to_global(from)));
    return value;
}

__device__ __forceinline__ uint32_t load_stream4(const void *from)
{
    uint32_t value;
    asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(from)));
    return value;
}

__device__ __forceinline__ void store_pair(void *to, uint32_t x, uint32_t y)
{
    *(uint2 *)to = make_uint2(x, y);
}

__device__ __forceinline__ struct word2 load_pair(const void *from)
{
    const uint2 value = *(const uint2 *)from;
    const struct word2 result = {value.x, value.y};
    return result;
}

__device__ __forceinline__ uint32_t load_volatile(const uint32_t *from)
{
    return *(const volatile uint32_t *)from;
}

__device__ __forceinline__ void copy_async16(void *shared, const void *from, bool valid)
{
#if __CUDA_ARCH__ >= 800
    const uint32_t bytes = valid ? 16u : 0u;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
#else
    struct word4 value = {0, 0, 0, 0};
    if (valid) {
        value = load16(from);
    }
    store16(shared, value);
#endif
}

__device__ __forceinline__ void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most N of the committed groups are unfinished. */
template <int N> __device__ __forceinline__ void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

__device__ __forceinline__ void prefetch_l2(const void *from, uint32_t bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
                 "r"(bytes & ~15u));
#else
    for (uint32_t at = 0; at < bytes; at += 128) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(
            __cvta_generic_to_global((const uint8_t *)from + at)));
    }
#endif
}

__device__ __forceinline__ void wait_for_predecessor()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void release_successor()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Byte i of the result is the byte of a (0 … 3) and b (4 … 7) that nibble i of `selector` names. */
__device__ __forceinline__ uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector)
{
    return __byte_perm(a, b, selector);
}

/* (a & mask) | bits in one instruction. */
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits)
{
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(a), "r"(mask), "r"(bits));
    return result;
}

__device__ __forceinline__ float float_of_bits(uint32_t bits)
{
    return __uint_as_float(bits);
}

__device__ __forceinline__ uint32_t bits_of_float(float value)
{
    return __float_as_uint(value);
}

/* Half types. */

/* 2²³ + byte `index` of a word, which a float holds exactly. */
__device__ __forceinline__ float biased_float_of_byte(uint32_t word, uint32_t index)
{
    return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7440u + index));
}

__device__ __forceinline__ float float_of_f16(uint16_t bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ uint16_t f16_of_float(float value)
{
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float float_of_bf16(uint16_t bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

__device__ __forceinline__ uint16_t bf16_of_float(float value)
{
#if __CUDA_ARCH__ >= 800
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#endif
}

/* Two values rounded into a word, `low` first in memory. */
__device__ __forceinline__ uint32_t f16x2_of_floats(float low, float high)
{
#if __CUDA_ARCH__ >= 800
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
#endif
}

__device__ __forceinline__ uint32_t bf16x2_of_floats(float low, float high)
{
#if __CUDA_ARCH__ >= 800
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    return bf16_of_float(low) | (uint32_t)bf16_of_float(high) << 16;
#endif
}

#define HALF2_WORD(name, instruction)                                       \
    __device__ __forceinline__ uint32_t name(uint32_t a, uint32_t b)        \
    {                                                                       \
        uint32_t result;                                                    \
        asm(instruction " %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));    \
        return result;                                                      \
    }
HALF2_WORD(half2_add, "add.rn.f16x2")
HALF2_WORD(half2_sub, "sub.rn.f16x2")
HALF2_WORD(half2_mul, "mul.rn.f16x2")
#undef HALF2_WORD

__device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t result;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

#if __CUDA_ARCH__ >= 890
/* Two floats of e4m3 in the low half of `bits`, as halves. */
#define VENDOR_E4M3
__device__ __forceinline__ uint32_t f16x2_of_e4m3(uint32_t bits)
{
    uint32_t result;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(result) : "h"((uint16_t)bits));
    return result;
}
#endif

/* Rounded each by itself, never contracted with a neighbour. */

__device__ __forceinline__ float mul_rn(float a, float b)
{
    return __fmul_rn(a, b);
}

__device__ __forceinline__ float add_rn(float a, float b)
{
    return __fadd_rn(a, b);
}

/* Approximations of the hardware; subnormal numbers count as zero. */

#define FAST_WORD(name, instruction)                             \
    __device__ __forceinline__ float name(float x)               \
    {                                                            \
        float result;                                            \
        asm(instruction " %0, %1;" : "=f"(result) : "f"(x));     \
        return result;                                           \
    }
FAST_WORD(fast_exp2, "ex2.approx.ftz.f32")
FAST_WORD(fast_log2, "lg2.approx.ftz.f32")
FAST_WORD(fast_rsqrt, "rsqrt.approx.ftz.f32")
FAST_WORD(fast_rcp, "rcp.approx.ftz.f32")
#undef FAST_WORD

__device__ __forceinline__ float fast_exp(float x)
{
    return fast_exp2(x * 1.4426950408889634f);
}

/* The hardware's own tanh is right to three digits only. */
__device__ __forceinline__ float fast_tanh(float x)
{
    return 1.0f - 2.0f * fast_rcp(fast_exp(2.0f * x) + 1.0f);
}

/* Matrix products of one warp. */

#if __CUDA_ARCH__ < 800
/* The meaning of mma.m16n8k32 of bytes by shuffles: lane 4g + t holds A[g], A[g + 8] and B[.][g] at
 * k = 4t … 4t + 3 (and + 16). */
__device__ __forceinline__ void mma_bytes_by_shuffles(int32_t d[4], const uint32_t a[4],
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

/* The meaning of mma.m16n8k16 by shuffles, k ascending: lane 4g + t holds A[g], A[g + 8] and B[.][g]
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
#endif

__device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_by_shuffles(d, a, b, [](uint16_t bits) { return float_of_bf16(bits); });
#endif
}

__device__ __forceinline__ void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif __CUDA_ARCH__ >= 750
    for (int part = 0; part < 2; part++) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[part * 2]), "r"(a[part * 2 + 1]), "r"(b[part]));
    }
#else
    mma_by_shuffles(d, a, b, [](uint16_t bits) { return float_of_f16(bits); });
#endif
}

/* Bytes: A unsigned, B signed. */
__device__ __forceinline__ void mma_u8_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_bytes_by_shuffles(d, a, b);
#endif
}

#if __CUDA_ARCH__ < 750
/* The address that another lane has. */
__device__ __forceinline__ const uint32_t *address_of_lane(const void *own, uint32_t lane)
{
    const uint64_t bits = (uint64_t)own;
    const uint64_t low = warp_shuffle((uint32_t)bits, lane);
    const uint64_t high = warp_shuffle((uint32_t)(bits >> 32), lane);
    return (const uint32_t *)(high << 32 | low);
}
#endif

__device__ __forceinline__ void ldmatrix4(uint32_t r[4], const void *shared)
{
#if __CUDA_ARCH__ >= 750
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared))
                 : "memory");
#else
    const uint32_t lane = threadIdx.x % 32u;
    for (uint32_t i = 0; i < 4; i++) {
        r[i] = address_of_lane(shared, i * 8u + lane / 4u)[lane % 4u];
    }
#endif
}

/* The same with each 8 by 8 tile transposed: the values of two rows a word. */
__device__ __forceinline__ void ldmatrix4_transposed(uint32_t r[4], const void *shared)
{
#if __CUDA_ARCH__ >= 750
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared))
                 : "memory");
#else
    const uint32_t lane = threadIdx.x % 32u;
    const uint32_t shift = lane / 4u % 2u * 16u;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = i * 8u + lane % 4u * 2u;
        const uint32_t first = address_of_lane(shared, row)[lane / 8u] >> shift & 0xffffu;
        r[i] = first | (address_of_lane(shared, row + 1u)[lane / 8u] >> shift) << 16;
    }
#endif
}

/* Matrix products of four warps together, which run on while the warps do other things: only on
 * compute capability 9.0. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define VENDOR_WARPGROUPS 1
/* How often a block looks for others that it could wait for: about half a microsecond each. */
#ifndef VENDOR_LOOKS
#define VENDOR_LOOKS 256u
#endif

__device__ __forceinline__ struct word4 load_volatile16(const void *from)
{
    struct word4 value;
    asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(__cvta_generic_to_global(from))
                 : "memory");
    return value;
}

struct warpgroup_operand {
    uint64_t bits;
};

/* Rows of sixteen halves, 128 bytes apart in shared memory, where tensor_copy has put them. */
__device__ __forceinline__ struct warpgroup_operand warpgroup_operand_of(const void *shared)
{
    const struct warpgroup_operand operand = {(uint64_t)(shared_address(shared) >> 4 & 0x3fffu) |
                                              (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
                                              (uint64_t)1 << 62};
    return operand;
}

__device__ __forceinline__ void warpgroup_arrive()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void warpgroup_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int N> __device__ __forceinline__ void warpgroup_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Registers that a thread of these four warps has from here on, of those that others gave up. */
template <int N> __device__ __forceinline__ void warpgroup_registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> __device__ __forceinline__ void warpgroup_registers_fewer()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* Barriers in shared memory, and copies that arrive at them. */

__device__ __forceinline__ void barrier_init(uint64_t *barrier, uint32_t count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(count)
                 : "memory");
}

__device__ __forceinline__ void barriers_made()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}

__device__ __forceinline__ void barrier_expect(uint64_t *barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_wait(uint64_t *barrier, uint32_t parity)
{
    asm volatile("{\n.reg .pred p;\nWAIT_%=:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra WAIT_%=;\n}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

__device__ __forceinline__ void tensor_copy2(void *to, const struct tensor_map *map,
                                             uint64_t *barrier, uint32_t column, uint32_t row)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
                 : "memory");
}

__device__ __forceinline__ void tensor_copy4(void *to, const struct tensor_map *map,
                                             uint64_t *barrier, uint32_t c0, uint32_t c1,
                                             uint32_t c2, uint32_t c3)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

#define GROUP_SUMS4(d, j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define GROUP_SUMS32(d, j)                                                                         \
    GROUP_SUMS4(d, j), GROUP_SUMS4(d, j + 1), GROUP_SUMS4(d, j + 2), GROUP_SUMS4(d, j + 3),        \
        GROUP_SUMS4(d, j + 4), GROUP_SUMS4(d, j + 5), GROUP_SUMS4(d, j + 6), GROUP_SUMS4(d, j + 7)
#define GROUP_NAMES16                                                                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define GROUP_NAMES0 \
    "%0, %1, %2, %3, %4, %5, %6, %7, " \
    "%8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define GROUP_NAMES1 \
    "%32, %33, %34, %35, %36, %37, %38, %39, " \
    "%40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, " \
    "%56, %57, %58, %59, %60, %61, %62, %63"
#define GROUP_NAMES2 \
    "%64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, " \
    "%88, %89, %90, %91, %92, %93, %94, %95"
#define GROUP_WORD(word, type, tokens, names, sums, a_name, b_name, more_name)                      \
    __device__ __forceinline__ void word(float (&d)[tokens / 8][4], struct warpgroup_operand a,    \
                                         struct warpgroup_operand b, bool more)                    \
    {                                                                                              \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " more_name ", 0;\n"                        \
                     "wgmma.mma_async.sync.aligned.m64n" #tokens "k16.f32." type "." type          \
                     " {" names "}, " a_name ", " b_name ", p, 1, 1, 0, 0;\n}"                     \
                     : sums                                                                        \
                     : "l"(a.bits), "l"(b.bits), "r"((int)more));                                  \
    }
#define GROUP_SUMS16(d, j)                                                                         \
    GROUP_SUMS4(d, j), GROUP_SUMS4(d, j + 1), GROUP_SUMS4(d, j + 2), GROUP_SUMS4(d, j + 3)
#define GROUP_WORDS(word, type)                                                                    \
    GROUP_WORD(word, type, 32, GROUP_NAMES16, GROUP_SUMS16(d, 0), "%16", "%17", "%18")             \
    GROUP_WORD(word, type, 64, GROUP_NAMES0, GROUP_SUMS32(d, 0), "%32", "%33", "%34")              \
    GROUP_WORD(word, type, 128, GROUP_NAMES0 ", " GROUP_NAMES1,                                    \
               GROUP_LIST(GROUP_SUMS32(d, 0), GROUP_SUMS32(d, 8)), "%64", "%65", "%66")            \
    GROUP_WORD(word, type, 192, GROUP_NAMES0 ", " GROUP_NAMES1 ", " GROUP_NAMES2,                  \
               GROUP_LIST(GROUP_SUMS32(d, 0), GROUP_SUMS32(d, 8), GROUP_SUMS32(d, 16)), "%96",     \
               "%97", "%98")
#define GROUP_LIST(...) __VA_ARGS__
GROUP_WORDS(warpgroup_mma_bf16, "bf16")
GROUP_WORDS(warpgroup_mma_f16, "f16")
#endif
