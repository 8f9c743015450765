/* What the kernels of sample.cu are made of: items of a row and the order among them, sums over a
 * thread block, and the selection of the first item at which a count or a mass is exceeded. */
#define SAMPLE_THREADS 512u
#define SAMPLE_WARPS   (SAMPLE_THREADS / 32u)
#define SAMPLE_BINS    2048u
#define SAMPLE_LOWEST  (-3.402823466e+38f) /* stands for "forbidden" in edited rows */
#define SAMPLE_ONE     17592186044416.0    /* 2^44 */
#define SAMPLE_ID_BITS 20u                 /* below the value's bits in an item's key */

/* --- items ----------------------------------------------------------------------------------- */

/* A row as it is read: what the mask forbids is lowest. */
struct sample_view {
    const float *logits;
    const uint32_t *mask; /* or NULL */
    uint32_t width;
};

__device__ __forceinline__ float sample_value(const struct sample_view &view, uint32_t id)
{
    if (view.mask && (view.mask[id / 32] >> id % 32 & 1u) == 0) {
        return SAMPLE_LOWEST;
    }
    return view.logits[id];
}

union sample_bits {
    float value;
    uint32_t bits;
};

/* Sorts ascending by value, larger first, then by id. */
__device__ __forceinline__ uint64_t sample_key(float value, uint32_t id)
{
    union sample_bits word;
    word.value = value;
    const uint32_t ordered =
        word.bits & 0x80000000u ? ~word.bits : word.bits | 0x80000000u;
    return (uint64_t)(uint32_t)~ordered << SAMPLE_ID_BITS | id;
}

__device__ __forceinline__ float sample_key_value(uint64_t key)
{
    const uint32_t ordered = ~(uint32_t)(key >> SAMPLE_ID_BITS);
    union sample_bits word;
    word.bits = ordered & 0x80000000u ? ordered & 0x7FFFFFFFu : ~ordered;
    return word.value;
}

__device__ __forceinline__ uint32_t sample_key_id(uint64_t key)
{
    return (uint32_t)key & ((1u << SAMPLE_ID_BITS) - 1u);
}

/* select_exp of the host's sampler, the same bits: exp(y) for y ≤ 0. */
__device__ __forceinline__ float sample_exp(float y)
{
    const float clamped = y < -87.0f ? -87.0f : y;
    union sample_bits n;
    n.value = add_rn(mul_rn(clamped, 1.44269504f), 12582912.0f);
    const uint32_t bits = n.bits;
    const float whole = add_rn(n.value, -12582912.0f);
    float f = add_rn(clamped, -mul_rn(whole, 0.693359375f));
    f = add_rn(f, -mul_rn(whole, -2.12194440e-4f));
    float p = 1.9875691500e-4f;
    p = add_rn(mul_rn(p, f), 1.3981999507e-3f);
    p = add_rn(mul_rn(p, f), 8.3334519073e-3f);
    p = add_rn(mul_rn(p, f), 4.1665795894e-2f);
    p = add_rn(mul_rn(p, f), 1.6666665459e-1f);
    p = add_rn(mul_rn(p, f), 5.0000001201e-1f);
    p = add_rn(add_rn(mul_rn(mul_rn(p, f), f), f), 1.0f);
    union sample_bits scale;
    scale.bits = (bits - 0x4B400000u + 127u) << 23;
    return y < -87.0f ? 0.0f : mul_rn(p, scale.value);
}

__device__ __forceinline__ uint64_t sample_mass(float weight)
{
    return (uint64_t)((double)weight * SAMPLE_ONE);
}

/* random_uniform of base/random.h: Philox4x32-10, 53 bits in [0, 1). */
__device__ __forceinline__ double sample_uniform(uint64_t seed, uint32_t position)
{
    uint32_t key0 = (uint32_t)seed;
    uint32_t key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = position;
    uint32_t c1 = 0;
    uint32_t c2 = 0;
    uint32_t c3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
        const uint32_t next2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    const uint64_t bits = ((uint64_t)c0 << 32 | c1) >> 11;
    return (double)bits * (1.0 / 9007199254740992.0);
}

/* --- a thread block's own sums --------------------------------------------------------------- */

struct sample_shared {
    uint64_t masses[SAMPLE_BINS];
    uint32_t counts[SAMPLE_BINS];
    uint32_t lasts[SAMPLE_BINS];           /* low word of the key of some item of the bin */
    uint16_t active[SAMPLE_BLOCKS_MAX];    /* blocks that can matter, ascending */
    uint32_t active_count;
    uint64_t warp_masses[SAMPLE_WARPS];
    uint32_t warp_counts[SAMPLE_WARPS];
    float warp_values[SAMPLE_WARPS];
    uint32_t bin; /* that a select goes on in; SAMPLE_BINS: none */
    uint64_t mass_before;
    uint32_t count_before;
    uint32_t list_count;
    uint64_t list[SAMPLE_TOP_MAX];
};

/* One variable for both kernels that use it: a compiler may give each kernel all those that are
 * reached through references, and two exceed what AMD's hardware has. */
__device__ __forceinline__ struct sample_shared &sample_memory()
{
    __shared__ struct sample_shared s;
    return s;
}

__device__ __forceinline__ uint64_t sample_shuffle64(uint64_t value, uint32_t lane)
{
    const uint64_t low = warp_shuffle((uint32_t)value, lane);
    const uint64_t high = warp_shuffle((uint32_t)(value >> 32), lane);
    return high << 32 | low;
}

/* Mass and count of all threads before this one; the totals too. */
__device__ __forceinline__ void sample_scan_block(struct sample_shared &s, uint64_t &mass,
                                                  uint32_t &count, uint64_t &mass_total)
{
    const uint32_t lane = threadIdx.x % 32u;
    const uint32_t warp = threadIdx.x / 32u;
    uint64_t masses = mass;
    uint32_t counts = count;
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t from = lane >= step ? lane - step : lane;
        const uint64_t other_mass = sample_shuffle64(masses, from);
        const uint32_t other_count = warp_shuffle(counts, from);
        if (lane >= step) {
            masses += other_mass;
            counts += other_count;
        }
    }
    __syncthreads();
    if (lane == 31) {
        s.warp_masses[warp] = masses;
        s.warp_counts[warp] = counts;
    }
    __syncthreads();
    mass = masses - mass;
    count = counts - count;
    mass_total = 0;
    for (uint32_t w = 0; w < SAMPLE_WARPS; w++) {
        mass += w < warp ? s.warp_masses[w] : 0;
        count += w < warp ? s.warp_counts[w] : 0;
        mass_total += s.warp_masses[w];
    }
}

__device__ __forceinline__ uint64_t sample_sum(struct sample_shared &s, uint64_t mass)
{
    uint32_t count = 0;
    uint64_t total;
    sample_scan_block(s, mass, count, total);
    return total;
}

__device__ __forceinline__ float sample_max(struct sample_shared &s, float value)
{
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const float other = warp_shuffle_xor(value, mask);
        value = other > value ? other : value;
    }
    __syncthreads();
    if (threadIdx.x % 32u == 0) {
        s.warp_values[threadIdx.x / 32u] = value;
    }
    __syncthreads();
    for (uint32_t w = 0; w < SAMPLE_WARPS; w++) {
        value = s.warp_values[w] > value ? s.warp_values[w] : value;
    }
    return value;
}

/* --- selection ------------------------------------------------------------------------------- */

struct sample_found {
    uint64_t key;
    uint64_t mass; /* of all items up to this one, itself included */
};

/* Where the digit's cut falls: the first bin that takes the running sum beyond `target`. */
template <bool by_mass>
__device__ __forceinline__ void sample_find_bin(struct sample_shared &s, uint64_t target,
                                                uint64_t mass_before, uint32_t count_before)
{
    const uint32_t each = SAMPLE_BINS / SAMPLE_THREADS;
    const uint32_t begin = threadIdx.x * each;
    uint64_t mass = 0;
    uint32_t count = 0;
    for (uint32_t i = begin; i < begin + each; i++) {
        mass += s.masses[i];
        count += s.counts[i];
    }
    uint64_t total;
    sample_scan_block(s, mass, count, total);
    mass += mass_before;
    count += count_before;
    for (uint32_t i = begin; i < begin + each; i++) {
        const uint64_t before = by_mass ? mass : count;
        const uint64_t own = by_mass ? s.masses[i] : s.counts[i];
        if (before <= target && target < before + own) {
            s.bin = i;
            s.mass_before = mass;
            s.count_before = count;
        }
        mass += s.masses[i];
        count += s.counts[i];
    }
}

/* The first item, ascending by key, with which the running count (or mass) exceeds `target`; false
 * when all together do not. each(take) calls take(key, mass) for every item, each of them by one
 * thread. Keys differ. */
template <bool by_mass, class Each>
__device__ __noinline__ bool sample_select(struct sample_shared &s, uint64_t target,
                                           const Each &each, struct sample_found &found)
{
    uint64_t prefix = 0;
    uint64_t mass_before = 0;
    uint32_t count_before = 0;
    uint32_t upper = 52; /* bits of a key that are not fixed yet */
    for (uint32_t digit = 0; upper != 0; digit++) {
        const uint32_t bits = upper < 11u ? upper : 11u;
        const uint32_t shift = upper - bits;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < SAMPLE_BINS; i += SAMPLE_THREADS) {
            s.masses[i] = 0;
            s.counts[i] = 0;
        }
        if (threadIdx.x == 0) {
            s.bin = SAMPLE_BINS;
        }
        __syncthreads();
        each([&](uint64_t key, uint64_t mass) {
            if (key >> upper == prefix) {
                const uint32_t bin = (uint32_t)(key >> shift) & ((1u << bits) - 1u);
                atomic_add(&s.counts[bin], 1);
                if (mass != 0) {
                    atomic_add64(&s.masses[bin], mass);
                }
                s.lasts[bin] = (uint32_t)key; /* whoever is last; alone, it is the item */
            }
        });
        __syncthreads();
        sample_find_bin<by_mass>(s, target, mass_before, count_before);
        __syncthreads();
        const uint32_t bin = s.bin;
        if (bin == SAMPLE_BINS) {
            return false;
        }
        mass_before = s.mass_before;
        count_before = s.count_before;
        prefix = prefix << bits | bin;
        upper = shift;
        if (upper <= 32u && s.counts[bin] == 1) {
            found.key = prefix << upper >> 32 << 32 | s.lasts[bin];
            found.mass = mass_before + s.masses[bin];
            return true;
        }
    }
    return false; /* not reached: keys differ */
}

/* The value that `count` blocks' largest reach; SAMPLE_LOWEST when there are fewer. */
__device__ __forceinline__ float sample_floor(struct sample_shared &s, const float *block_max,
                                              uint32_t blocks, uint32_t count)
{
    struct sample_found found;
    const bool exists = sample_select<false>(
        s, count - 1u,
        [&](auto take) {
            for (uint32_t b = threadIdx.x; b < blocks; b += SAMPLE_THREADS) {
                if (block_max[b] > SAMPLE_LOWEST) {
                    take(sample_key(block_max[b], b), 0);
                }
            }
        },
        found);
    return exists ? sample_key_value(found.key) : SAMPLE_LOWEST;
}

/* Lists the blocks whose largest is `floor` or more. */
__device__ __forceinline__ void sample_activate(struct sample_shared &s, const float *block_max,
                                                uint32_t blocks, float floor)
{
    const uint32_t each = (blocks + SAMPLE_THREADS - 1u) / SAMPLE_THREADS;
    const uint32_t begin = threadIdx.x * each;
    const uint32_t end = begin + each < blocks ? begin + each : blocks;
    uint32_t count = 0;
    for (uint32_t b = begin; b < end; b++) {
        count += block_max[b] >= floor && block_max[b] > SAMPLE_LOWEST;
    }
    uint64_t mass = count;
    uint64_t total;
    sample_scan_block(s, mass, count, total);
    for (uint32_t b = begin; b < end; b++) {
        if (block_max[b] >= floor && block_max[b] > SAMPLE_LOWEST) {
            s.active[count++] = (uint16_t)b;
        }
    }
    if (threadIdx.x == 0) {
        s.active_count = (uint32_t)total;
    }
    __syncthreads();
}

/* visit(value, id) for all that is allowed in the listed blocks. */
template <class Visit>
__device__ __forceinline__ void sample_visit(const struct sample_shared &s,
                                             const struct sample_view &view, const Visit &visit)
{
    const uint32_t lane = threadIdx.x % 32u;
    for (uint32_t i = threadIdx.x / 32u; i < s.active_count; i += SAMPLE_WARPS) {
        const uint32_t first = s.active[i] * SAMPLE_BLOCK + lane;
        const uint32_t second = first + 32u;
        const float x = first < view.width ? sample_value(view, first) : SAMPLE_LOWEST;
        const float y = second < view.width ? sample_value(view, second) : SAMPLE_LOWEST;
        if (x > SAMPLE_LOWEST) {
            visit(x, first);
        }
        if (y > SAMPLE_LOWEST) {
            visit(y, second);
        }
    }
}
