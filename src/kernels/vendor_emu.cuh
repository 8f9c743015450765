/* The words of docs/internals/gpu-kernels.md in plain C++, for the emulated driver. Joined after
 * src/gpu/emu_abi.h, which says what a thread, a warp and a block are here. Every word that joins
 * threads takes the place of its caller as a hidden last argument, so that the driver can tell two
 * barriers apart. `__global__` and `KERNEL_BOUNDS` stay in the preprocessed text, where the driver
 * finds the kernels by them. */

#define VENDOR_EMU 1
#define __device__
#define __host__
#define __constant__    const
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define WARP_SIZE       32

/* Thread-local storage of the module is one run of bytes, which the driver poisons before each
 * block. The sanitizer guards plain statics instead, and finds accesses past an array's end. */
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

extern "C" {
__attribute__((visibility("hidden"))) struct emu_thread *emu_self;
__attribute__((visibility("hidden"))) const struct emu_runtime *emu_runtime;
float expf(float) noexcept;
float exp2f(float) noexcept;
float logf(float) noexcept;
float log2f(float) noexcept;
float powf(float, float) noexcept;
float sqrtf(float) noexcept;
float sinf(float) noexcept;
float cosf(float) noexcept;
float tanhf(float) noexcept;
float fabsf(float) noexcept;
float floorf(float) noexcept;
float ceilf(float) noexcept;
float rintf(float) noexcept;
float truncf(float) noexcept;
float fmaf(float, float, float) noexcept;
float fmaxf(float, float) noexcept;
float fminf(float, float) noexcept;
float erff(float) noexcept;
float log1pf(float) noexcept;
float expm1f(float) noexcept;
float copysignf(float, float) noexcept;
double log(double) noexcept;
double fabs(double) noexcept;
double floor(double) noexcept;
double ceil(double) noexcept;
}

#define threadIdx (emu_self->index)
#define blockIdx  (emu_self->block->block_index)
#define blockDim  (emu_self->block->block_size)
#define gridDim   (emu_self->block->grid_size)

#define SHARED_DYNAMIC(T, name) T *name = (T *)emu_self->block->shared_dynamic

/* The caller's place. */
#define EMU_CALLER    const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMU_SITE(word) {word, file, line}

static inline void emu_fail(const char *word, const char *what, const char *file, int line)
{
    const struct emu_site site = EMU_SITE(word);
    emu_runtime->fail(emu_self, &site, what);
}

/* Barriers. */

static inline void __syncthreads(EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("__syncthreads");
    emu_runtime->block_wait(emu_self, &site);
}

static inline void __syncwarp(EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("__syncwarp");
    emu_runtime->warp_wait(emu_self, &site);
}

/* A lane puts words into its slot, meets the others, and reads theirs. */

static inline struct emu_mailbox *emu_mailbox_next()
{
    struct emu_mailbox *box = &emu_self->warp->mailboxes[emu_self->turn];
    emu_self->turn ^= 1u;
    return box;
}

static inline uint32_t emu_exchange(const char *word, uint32_t value, uint32_t lane,
                                    const char *file, int line)
{
    const struct emu_site site = EMU_SITE(word);
    struct emu_mailbox *box = emu_mailbox_next();
    box->words[emu_self->lane][0] = value;
    emu_runtime->warp_wait(emu_self, &site);
    if (lane >= emu_self->warp->lane_count) {
        emu_fail(word, "reads from a lane that does not exist", file, line);
    }
    return box->words[lane][0];
}

static inline uint32_t emu_bits(float value)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

static inline float emu_float(uint32_t bits)
{
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t warp_shuffle(uint32_t value, uint32_t lane, EMU_CALLER)
{
    return emu_exchange("warp_shuffle", value, lane, file, line);
}

static inline int warp_shuffle(int value, uint32_t lane, EMU_CALLER)
{
    return (int)emu_exchange("warp_shuffle", (uint32_t)value, lane, file, line);
}

static inline float warp_shuffle(float value, uint32_t lane, EMU_CALLER)
{
    return emu_float(emu_exchange("warp_shuffle", emu_bits(value), lane, file, line));
}

static inline uint32_t warp_shuffle_xor(uint32_t value, uint32_t mask, EMU_CALLER)
{
    return emu_exchange("warp_shuffle_xor", value, emu_self->lane ^ mask, file, line);
}

static inline int warp_shuffle_xor(int value, uint32_t mask, EMU_CALLER)
{
    return (int)emu_exchange("warp_shuffle_xor", (uint32_t)value, emu_self->lane ^ mask, file,
                             line);
}

static inline float warp_shuffle_xor(float value, uint32_t mask, EMU_CALLER)
{
    return emu_float(
        emu_exchange("warp_shuffle_xor", emu_bits(value), emu_self->lane ^ mask, file, line));
}

static inline uint32_t warp_ballot(bool predicate, EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("warp_ballot");
    struct emu_mailbox *box = emu_mailbox_next();
    box->words[emu_self->lane][0] = predicate;
    emu_runtime->warp_wait(emu_self, &site);
    uint32_t bits = 0;
    for (uint32_t lane = 0; lane < emu_self->warp->lane_count; lane++) {
        bits |= box->words[lane][0] << lane;
    }
    return bits;
}

static inline bool warp_any(bool predicate, EMU_CALLER)
{
    return warp_ballot(predicate, file, line) != 0;
}

/* What is made of the words of all lanes: by the driver, once, for the first lane that goes on. */
static inline void emu_combine_once(struct emu_mailbox *box, enum emu_combine how)
{
    if (!box->tile_ready) {
        emu_runtime->combine(box, how);
        box->tile_ready = 1;
    }
}

/* Sums and maxima over a warp in one meeting instead of five, to the bits of the butterfly of
 * warp_shuffle_xor with masks 16, 8, 4, 2, 1: device code takes these where VENDOR_WARP_REDUCE is
 * defined. */
#define VENDOR_WARP_REDUCE 1

static inline float emu_reduce(float value, enum emu_combine how, const char *word,
                               const char *file, int line)
{
    const struct emu_site site = EMU_SITE(word);
    if (emu_self->warp->lane_count != 32) {
        emu_fail(word, "needs a full warp", file, line);
    }
    struct emu_mailbox *box = emu_mailbox_next();
    box->words[emu_self->lane][0] = emu_bits(value);
    box->tile_ready = 0;
    emu_runtime->warp_wait(emu_self, &site);
    emu_combine_once(box, how);
    return box->tile[0];
}

static inline float vendor_warp_sum(float value, EMU_CALLER)
{
    return emu_reduce(value, EMU_WARP_SUM, "warp_sum", file, line);
}

static inline float vendor_warp_max(float value, EMU_CALLER)
{
    return emu_reduce(value, EMU_WARP_MAX, "warp_max", file, line);
}

/* Memory. */

struct word2 {
    uint32_t x, y;
};

struct word4 {
    uint32_t x, y, z, w;
};

struct tensor_map; /* arguments_linear.h */

#define KERNEL_CONSTANT

static inline uint32_t atomic_add(uint32_t *to, uint32_t value)
{
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

static inline uint64_t atomic_add64(uint64_t *to, uint64_t value)
{
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

/* Blocks run on one thread of the system: only the compiler must keep the order. */
static inline void thread_fence()
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void emu_aligned(const char *word, const void *address, const char *file, int line)
{
    if ((uint64_t)address & 15u) {
        emu_fail(word, "an address is not aligned to 16 bytes", file, line);
    }
}

static inline struct word2 load_stream8(const void *from, EMU_CALLER)
{
    if ((uint64_t)from & 7u) {
        emu_fail("load_stream8", "an address is not aligned to 8 bytes", file, line);
    }
    return *(const struct word2 *)from;
}

static inline uint32_t load_stream4(const void *from, EMU_CALLER)
{
    if ((uint64_t)from & 3u) {
        emu_fail("load_stream4", "an address is not aligned to 4 bytes", file, line);
    }
    return *(const uint32_t *)from;
}

static inline void store_pair(void *to, uint32_t x, uint32_t y, EMU_CALLER)
{
    if ((uint64_t)to & 7u) {
        emu_fail("store_pair", "an address is not aligned to 8 bytes", file, line);
    }
    const struct word2 pair = {x, y};
    *(struct word2 *)to = pair;
}

static inline struct word2 load_pair(const void *from, EMU_CALLER)
{
    if ((uint64_t)from & 7u) {
        emu_fail("load_pair", "an address is not aligned to 8 bytes", file, line);
    }
    return *(const struct word2 *)from;
}

/* Byte i of the result is the byte of a (0 … 3) and b (4 … 7) that nibble i of `selector` names. */
static inline uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector)
{
    const uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 4; i++) {
        result |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    }
    return result;
}

static inline uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits)
{
    return (a & mask) | bits;
}

static inline float float_of_bits(uint32_t bits)
{
    return emu_float(bits);
}

static inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline struct word4 load16(const void *from, EMU_CALLER)
{
    emu_aligned("load16", from, file, line);
    return *(const struct word4 *)from;
}

static inline struct word4 load_stream16(const void *from, EMU_CALLER)
{
    emu_aligned("load_stream16", from, file, line);
    return *(const struct word4 *)from;
}

static inline void store16(void *to, struct word4 value, EMU_CALLER)
{
    emu_aligned("store16", to, file, line);
    *(struct word4 *)to = value;
}

static inline uint32_t load_volatile(const uint32_t *from)
{
    return *(const volatile uint32_t *)from;
}

/* Background copies happen when they are waited for, as late as the rules allow; until then the
 * destination holds NaNs. */

static inline struct emu_copy *emu_copy_at(uint32_t place)
{
    return &emu_self->copies[(emu_self->copy_first + place) % EMU_COPIES_MAX];
}

static inline void emu_copy_oldest()
{
    const struct emu_copy *oldest = emu_copy_at(0);
    const struct word4 zeros = {0, 0, 0, 0};
    *(struct word4 *)oldest->to = oldest->from ? *(const struct word4 *)oldest->from : zeros;
    emu_self->copy_first++;
    emu_self->copy_count--;
}

static inline void emu_copy_begin(void *to, const void *from)
{
    if (emu_self->copy_count == EMU_COPIES_MAX) {
        emu_copy_oldest();
    }
    struct emu_copy *copy = emu_copy_at(emu_self->copy_count++);
    copy->to = to;
    copy->from = from;
    copy->group = emu_self->copy_group;
    const struct word4 nans = {~0u, ~0u, ~0u, ~0u};
    *(struct word4 *)to = nans;
}

static inline void copy_async16(void *to, const void *from, bool valid, EMU_CALLER)
{
    emu_aligned("copy_async16", to, file, line);
    if (valid) {
        emu_aligned("copy_async16", from, file, line);
    }
    emu_copy_begin(to, valid ? from : nullptr);
}

static inline void copy_async_commit()
{
    emu_self->copy_group++;
}

/* Waits until at most N of the committed groups are unfinished. */
template <int N> static inline void copy_async_wait()
{
    while (emu_self->copy_count && emu_copy_at(0)->group + N < emu_self->copy_group) {
        emu_copy_oldest();
    }
}

static inline void prefetch_l2(const void *, uint32_t)
{
}

static inline void wait_for_predecessor()
{
}

static inline void release_successor()
{
}

/* Half types. */

/* 2²³ + byte `index` of a word, which a float holds exactly. */
static inline float biased_float_of_byte(uint32_t word, uint32_t index)
{
    return emu_float(0x4B000000u | (word >> 8 * index & 0xFFu));
}

static inline float float_of_f16(uint16_t bits)
{
    /* The exponent is moved by a multiplication, which is exact and also right for subnormals. */
    const float scaled = emu_float((uint32_t)(bits & 0x7fffu) << 13) * 0x1p112f;
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t special = (bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0;
    return emu_float(emu_bits(scaled) | special | sign);
}

static inline uint16_t f16_of_float(float value)
{
    const uint32_t bits = emu_bits(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (magnitude <
        0x38800000u) { /* below 2^-14: count in units of 2^-24 by the adder's rounding */
        const float shifted = emu_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (emu_bits(shifted) - 0x3f000000u));
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

static inline float float_of_bf16(uint16_t bits)
{
    return emu_float((uint32_t)bits << 16);
}

static inline uint16_t bf16_of_float(float value)
{
    const uint32_t bits = emu_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* Two values rounded into a word, `low` first in memory. */
static inline uint32_t f16x2_of_floats(float low, float high)
{
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
}

static inline uint32_t bf16x2_of_floats(float low, float high)
{
    return bf16_of_float(low) | (uint32_t)bf16_of_float(high) << 16;
}

/* Two halves a word; the product of a fused operation is not rounded: 22 bits fit a double, and so
 * does the sum at the exponents of halves. */
static inline uint16_t emu_f16_of_double(double value)
{
    /* Through float with rounding to odd, so that rounding twice is rounding once. */
    float nearest = (float)value;
    uint32_t bits = emu_bits(nearest);
    if ((double)nearest != value && nearest - nearest == 0) {
        const bool too_far = __builtin_fabs((double)nearest) > __builtin_fabs(value);
        bits = too_far ? (bits - 1) | 1u : bits | 1u;
    }
    return f16_of_float(emu_float(bits));
}

static inline uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    const double low =
        (double)float_of_f16((uint16_t)a) * float_of_f16((uint16_t)b) + float_of_f16((uint16_t)c);
    const double high =
        (double)float_of_f16((uint16_t)(a >> 16)) * float_of_f16((uint16_t)(b >> 16)) +
        float_of_f16((uint16_t)(c >> 16));
    return emu_f16_of_double(low) | (uint32_t)emu_f16_of_double(high) << 16;
}

static inline uint32_t half2_mul(uint32_t a, uint32_t b)
{
    const float low = float_of_f16((uint16_t)a) * float_of_f16((uint16_t)b);
    const float high = float_of_f16((uint16_t)(a >> 16)) * float_of_f16((uint16_t)(b >> 16));
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
}

static inline uint32_t half2_sub(uint32_t a, uint32_t b)
{
    const float low = float_of_f16((uint16_t)a) - float_of_f16((uint16_t)b);
    const float high = float_of_f16((uint16_t)(a >> 16)) - float_of_f16((uint16_t)(b >> 16));
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
}

static inline uint32_t half2_add(uint32_t a, uint32_t b)
{
    const float low = float_of_f16((uint16_t)a) + float_of_f16((uint16_t)b);
    const float high = float_of_f16((uint16_t)(a >> 16)) + float_of_f16((uint16_t)(b >> 16));
    return f16_of_float(low) | (uint32_t)f16_of_float(high) << 16;
}

/* Approximations of the hardware. */

static inline float mul_rn(float a, float b)
{
    return a * b; /* modules are compiled without contraction */
}

static inline float add_rn(float a, float b)
{
    return a + b;
}

static inline float fast_exp2(float x)
{
    return exp2f(x);
}

static inline float fast_exp(float x)
{
    return expf(x);
}

static inline float fast_log2(float x)
{
    return log2f(x);
}

static inline float fast_rsqrt(float x)
{
    return 1.0f / sqrtf(x);
}

static inline float fast_rcp(float x)
{
    return 1.0f / x;
}

static inline float fast_tanh(float x)
{
    return tanhf(x);
}

/* Matrix products of one warp: the fragments of all lanes are gathered into tiles, multiplied once
 * in float32 with k ascending, and handed back. Layouts: PTX ISA, mma.m16n8k16. */

template <bool is_bf16> static inline float emu_half(uint32_t bits)
{
    return is_bf16 ? float_of_bf16((uint16_t)bits) : float_of_f16((uint16_t)bits);
}

/* Hands over what a lane holds of A, B and D. Word by word, as the kernel has just written them: a
 * processor that loads several at once waits for all of the stores before. */
static inline struct emu_mailbox *emu_mma(const uint32_t a[4], const uint32_t b[2],
                                          const uint32_t d[4], enum emu_combine how,
                                          const char *word, const char *file, int line)
{
    const struct emu_site site = EMU_SITE(word);
    if (emu_self->warp->lane_count != 32) {
        emu_fail(word, "needs a full warp", file, line);
    }
    struct emu_mailbox *box = emu_mailbox_next();
    uint32_t *slot = box->words[emu_self->lane];
    slot[0] = a[0];
    slot[1] = a[1];
    slot[2] = a[2];
    slot[3] = a[3];
    slot[4] = b[0];
    slot[5] = b[1];
    slot[6] = d[0];
    slot[7] = d[1];
    slot[8] = d[2];
    slot[9] = d[3];
    box->tile_ready = 0;
    emu_runtime->warp_wait(emu_self, &site);
    emu_combine_once(box, how);
    return box;
}

static inline void emu_mma_floats(float d[4], const uint32_t a[4], const uint32_t b[2],
                                  enum emu_combine how, const char *word, const char *file,
                                  int line)
{
    const struct emu_mailbox *box = emu_mma(a, b, (const uint32_t *)d, how, word, file, line);
    const float *tile = box->tile + emu_self->lane / 4 * 8 + emu_self->lane % 4 * 2;
    d[0] = tile[0];
    d[1] = tile[1];
    d[2] = tile[64];
    d[3] = tile[65];
}

static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_CALLER)
{
    emu_mma_floats(d, a, b, EMU_MMA_BF16, "mma_bf16", file, line);
}

static inline void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_CALLER)
{
    emu_mma_floats(d, a, b, EMU_MMA_F16, "mma_f16", file, line);
}

static inline void mma_u8_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], EMU_CALLER)
{
    const struct emu_mailbox *box =
        emu_mma(a, b, (const uint32_t *)d, EMU_MMA_BYTES, "mma_u8_s8", file, line);
    const int32_t *tile =
        (const int32_t *)box->tile + emu_self->lane / 4 * 8 + emu_self->lane % 4 * 2;
    d[0] = tile[0];
    d[1] = tile[1];
    d[2] = tile[64];
    d[3] = tile[65];
}

static inline void ldmatrix4(uint32_t r[4], const void *shared, EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("ldmatrix4");
    struct emu_thread *self = emu_self;
    emu_aligned("ldmatrix4", shared, file, line);
    if (self->warp->lane_count != 32) {
        emu_fail("ldmatrix4", "needs a full warp", file, line);
    }
    struct emu_mailbox *box = emu_mailbox_next();
    *(struct word4 *)box->words[self->lane] = *(const struct word4 *)shared;
    emu_runtime->warp_wait(self, &site);
    for (uint32_t i = 0; i < 4; i++) {
        r[i] = box->words[i * 8 + self->lane / 4][self->lane % 4];
    }
}

/* The same with each 8 by 8 tile transposed: the values of two rows a word. */
static inline void ldmatrix4_transposed(uint32_t r[4], const void *shared, EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("ldmatrix4_transposed");
    struct emu_thread *self = emu_self;
    emu_aligned("ldmatrix4_transposed", shared, file, line);
    if (self->warp->lane_count != 32) {
        emu_fail("ldmatrix4_transposed", "needs a full warp", file, line);
    }
    struct emu_mailbox *box = emu_mailbox_next();
    *(struct word4 *)box->words[self->lane] = *(const struct word4 *)shared;
    emu_runtime->warp_wait(self, &site);
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = i * 8 + self->lane % 4 * 2;
        const uint32_t shift = self->lane / 4 % 2 * 16;
        const uint32_t first = box->words[row][self->lane / 8] >> shift & 0xffffu;
        r[i] = first | (box->words[row + 1][self->lane / 8] >> shift) << 16;
    }
}

/* What the module exports; the driver appends the list of kernels. */

/* Beside what is shared: with the address sanitizer no module has memory of a thread's own, of which
 * the leak sanitizer, at the end, may look at what a closed module has left. */
__shared__ char emu_shared_anchor_byte;

static char *emu_shared_anchor()
{
    return &emu_shared_anchor_byte;
}

template <class Arguments>
static inline void emu_invoke(void (*kernel)(Arguments), const void *arguments)
{
    kernel(*(const Arguments *)arguments);
}

template <class Arguments> constexpr uint32_t emu_argument_bytes(void (*)(Arguments))
{
    return sizeof(Arguments);
}

/* Products of four warps together: each thread makes its own elements when it asks for them. The
 * hardware's sum of sixteen has no order; here it is that in which mma_bf16 meets the columns when
 * pieces of four of them are its lanes' own, so that both come to the same bits. */
#define VENDOR_WARPGROUPS 1
#ifndef VENDOR_LOOKS
#define VENDOR_LOOKS 1u /* the others have run before, or will after */
#endif

static inline struct word4 load_volatile16(const void *from, EMU_CALLER)
{
    return load16(from, file, line);
}

struct warpgroup_operand {
    const uint8_t *shared;
};

static inline struct warpgroup_operand warpgroup_operand_of(const void *shared, EMU_CALLER)
{
    emu_aligned("warpgroup_operand_of", shared, file, line);
    return {(const uint8_t *)shared};
}

static inline uint32_t shared_address(const void *shared)
{
    return (uint32_t)(uint64_t)shared;
}

/* Where tensor_copy puts a byte that would lie at `place` without its exchanges. */
static inline uint64_t emu_swizzled(uint64_t place)
{
    return place ^ (place >> 7 & 7) << 4;
}

static inline void warpgroup_arrive()
{
}

static inline void warpgroup_commit()
{
}

/* The lanes of a warp come here together, whatever they wait for. */
template <int N> static inline void warpgroup_wait(EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("warpgroup_wait");
    emu_runtime->warp_wait(emu_self, &site);
}

template <int N> static inline void warpgroup_registers_more()
{
}

template <int N> static inline void warpgroup_registers_fewer()
{
}

/* Sixteen values of a row in the order above. */
template <bool is_bf16>
static inline void emu_group_row(const struct warpgroup_operand &from, uint32_t row, float to[16])
{
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t k = i % 8 / 2 * 4 + i / 8 * 2 + i % 2;
        uint16_t bits;
        const uint64_t place = (uint64_t)from.shared + row * 128 + k * 2;
        __builtin_memcpy(&bits, (const void *)emu_swizzled(place), 2);
        to[i] = emu_half<is_bf16>(bits);
    }
}

template <bool is_bf16, int TILES>
static inline void emu_group_mma(float (&d)[TILES][4], const struct warpgroup_operand &a,
                                 const struct warpgroup_operand &b, bool more)
{
    const uint32_t lane = emu_self->lane, warp = threadIdx.x / 32 % 4;
    float rows[2][16];
    emu_group_row<is_bf16>(a, 16 * warp + lane / 4, rows[0]);
    emu_group_row<is_bf16>(a, 16 * warp + lane / 4 + 8, rows[1]);
    for (int j = 0; j < TILES; j++) {
        for (uint32_t e = 0; e < 2; e++) {
            float column[16];
            emu_group_row<is_bf16>(b, 8 * j + lane % 4 * 2 + e, column);
            for (uint32_t half = 0; half < 2; half++) {
                float sum = more ? d[j][2 * half + e] : 0.0f;
                for (uint32_t k = 0; k < 16; k++) {
                    sum += rows[half][k] * column[k];
                }
                d[j][2 * half + e] = sum;
            }
        }
    }
}

template <int TILES>
static inline void warpgroup_mma_bf16(float (&d)[TILES][4], const struct warpgroup_operand &a,
                                      const struct warpgroup_operand &b, bool more)
{
    emu_group_mma<true>(d, a, b, more);
}

template <int TILES>
static inline void warpgroup_mma_f16(float (&d)[TILES][4], const struct warpgroup_operand &a,
                                     const struct warpgroup_operand &b, bool more)
{
    emu_group_mma<false>(d, a, b, more);
}

/* Barriers in shared memory, and copies that arrive at them. A phase ends when `count` threads have
 * arrived and all bytes that were expected are there. A copy happens when somebody waits for it, as
 * late as the rules allow; until then its place holds NaNs. */

struct emu_phase {
    uint32_t parity : 1, count : 11, missing : 11, magic : 9;
    uint32_t bytes;
};
static_assert(sizeof(struct emu_phase) == 8, "a barrier is eight bytes");
#define EMU_PHASE_MAGIC 0x155u

struct emu_tensor_copy {
    uint8_t *to;
    struct emu_tensor_map map; /* arguments end with their thread */
    const void *barrier;
    uint32_t at[4];
};

#define EMU_TENSOR_COPIES_MAX 64u
static struct emu_tensor_copy emu_tensor_copies[EMU_TENSOR_COPIES_MAX];
static uint32_t emu_tensor_copy_count;

static inline uint32_t emu_box_rows(const struct emu_tensor_map *map)
{
    return map->box[1] * map->box[2] * map->box[3];
}

static inline void emu_tensor_copy_do(const struct emu_tensor_copy &copy)
{
    const struct emu_tensor_map *map = &copy.map;
    for (uint32_t row = 0; row < emu_box_rows(map); row++) {
        const uint32_t at[3] = {copy.at[1] + row % map->box[1],
                                copy.at[2] + row / map->box[1] % map->box[2],
                                copy.at[3] + row / map->box[1] / map->box[2]};
        const uint8_t *from = (const uint8_t *)map->address;
        bool inside = true;
        for (uint32_t i = 0; i < 3; i++) {
            from += at[i] * map->stride[i];
            inside = inside && at[i] < map->size[i + 1];
        }
        for (uint32_t unit = 0; unit < map->box[0] / 8; unit++) {
            const uint32_t column = copy.at[0] + unit * 8;
            void *to = (void *)emu_swizzled((uint64_t)copy.to + row * 128 + unit * 16);
            if (inside && column < map->size[0]) {
                __builtin_memcpy(to, from + (uint64_t)column * 2, 16);
            } else {
                __builtin_memset(to, 0, 16);
            }
        }
    }
}

static inline struct emu_phase *emu_phase_of(const char *word, uint64_t *barrier, const char *file,
                                             int line)
{
    struct emu_phase *phase = (struct emu_phase *)barrier;
    if (phase->magic != EMU_PHASE_MAGIC) {
        emu_fail(word, "a barrier that was not made", file, line);
    }
    return phase;
}

static inline void barrier_init(uint64_t *barrier, uint32_t count)
{
    struct emu_phase *phase = (struct emu_phase *)barrier;
    uint32_t kept = 0; /* a block that failed left copies behind */
    for (uint32_t i = 0; i < emu_tensor_copy_count; i++) {
        if (emu_tensor_copies[i].barrier != barrier) {
            emu_tensor_copies[kept++] = emu_tensor_copies[i];
        }
    }
    emu_tensor_copy_count = kept;
    phase->magic = EMU_PHASE_MAGIC;
    phase->parity = 0;
    phase->count = phase->missing = count;
    phase->bytes = 0;
}

static inline void barriers_made()
{
}

static inline void emu_phase_arrive(const char *word, uint64_t *barrier, uint32_t bytes,
                                    const char *file, int line)
{
    struct emu_phase *phase = emu_phase_of(word, barrier, file, line);
    if (phase->missing == 0) {
        emu_fail(word, "more arrive than a barrier was made for", file, line);
    }
    phase->bytes += bytes;
    if (--phase->missing == 0) {
        if (phase->bytes == 0) {
            phase->parity ^= 1;
            phase->missing = phase->count;
        }
        emu_runtime->key_wake(emu_self, barrier);
    }
}

static inline void barrier_arrive(uint64_t *barrier, EMU_CALLER)
{
    emu_phase_arrive("barrier_arrive", barrier, 0, file, line);
}

static inline void barrier_expect(uint64_t *barrier, uint32_t bytes, EMU_CALLER)
{
    emu_phase_arrive("barrier_expect", barrier, bytes, file, line);
}

static inline void barrier_wait(uint64_t *barrier, uint32_t parity, EMU_CALLER)
{
    const struct emu_site site = EMU_SITE("barrier_wait");
    struct emu_phase *phase = emu_phase_of("barrier_wait", barrier, file, line);
    while (phase->parity == parity) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < emu_tensor_copy_count; i++) {
            const struct emu_tensor_copy &copy = emu_tensor_copies[i];
            if (copy.barrier == barrier && phase->missing == 0) {
                emu_tensor_copy_do(copy);
                phase->bytes -= emu_box_rows(&copy.map) * 128;
            } else {
                emu_tensor_copies[kept++] = copy;
            }
        }
        emu_tensor_copy_count = kept;
        if (phase->missing == 0 && phase->bytes == 0) {
            phase->parity ^= 1;
            phase->missing = phase->count;
            emu_runtime->key_wake(emu_self, barrier);
        } else {
            emu_runtime->key_wait(emu_self, &site, barrier);
        }
    }
}

static inline void emu_tensor_copy_begin(void *to, const struct tensor_map *map, uint64_t *barrier,
                                         uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                         const char *file, int line)
{
    const struct emu_tensor_map *shape = (const struct emu_tensor_map *)map;
    emu_phase_of("tensor_copy", barrier, file, line);
    if ((uint64_t)to % 1024 || (uint64_t)map % 64 || c0 % 8) {
        emu_fail("tensor_copy", "a place or column that is not aligned", file, line);
    }
    if (shape->magic != EMU_TENSOR_MAP_MAGIC || shape->box[0] != 64) {
        emu_fail("tensor_copy", "no map of boxes of 64 columns", file, line);
    }
    if (emu_tensor_copy_count == EMU_TENSOR_COPIES_MAX) {
        emu_fail("tensor_copy", "too many copies at a time", file, line);
    }
    __builtin_memset(to, 0xff, emu_box_rows(shape) * 128);
    emu_tensor_copies[emu_tensor_copy_count++] = {(uint8_t *)to, *shape, barrier, {c0, c1, c2, c3}};
    emu_runtime->key_wake(emu_self, barrier);
}

static inline void tensor_copy2(void *to, const struct tensor_map *map, uint64_t *barrier,
                                uint32_t column, uint32_t row, EMU_CALLER)
{
    emu_tensor_copy_begin(to, map, barrier, column, row, 0, 0, file, line);
}

static inline void tensor_copy4(void *to, const struct tensor_map *map, uint64_t *barrier,
                                uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, EMU_CALLER)
{
    emu_tensor_copy_begin(to, map, barrier, c0, c1, c2, c3, file, line);
}
