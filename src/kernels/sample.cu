/* sample: from rows of logits to tokens, as docs/internals/sampling.md defines the chain, so that only
 * ids travel to the host. Four kernels, each launched whatever the settings, which are data:
 *
 *   sample_edit      grid (rows)          penalties, biases, forbidden tokens, in place
 *   sample_scan      grid (slices, rows)  reads the row once: largest of each block of 64, and where
 *                                         the mass of everything is needed, each block's mass
 *   sample_draw      grid (rows)          the chain and the draw, from the blocks that can matter
 *   sample_logprobs  grid (rows)          takes the edits back; log-probabilities and alternatives
 *
 * Nothing is sorted. Every cut, and the draw itself, asks for the first item, in the order "larger
 * first, then lower id", at which a count or a mass is exceeded: sample_select finds it digit by
 * digit of the item's sort key, with a histogram a digit in shared memory.
 *
 * Masses are integers (units of 2^-44 of the best token's), so that sums are the same in any order:
 * a row's token depends on the row and its settings alone. Weights are computed as the host does, to
 * the bit. What differs from the host: its sums of doubles against these integers, V · 2^-44, and
 * where the mass of the whole vocabulary is needed, block sums, relative error below 1e-6. A token
 * differs when the draw falls that close to a boundary.
 *
 * Bound: the logits once, 4 V bytes a row (0.5 MB at V = 128,256; 256 rows: 131 MB, 29 µs at
 * 4.5 TB/s), and some passes over the few blocks that matter, about 0.3 µs each. A flat row under
 * top-p alone makes all blocks matter: then about eight passes over the row by one thread block. */
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

/* --- edits ----------------------------------------------------------------------------------- */

__device__ __forceinline__ float sample_edited(float x, uint32_t kind, double amount,
                                               double repetition)
{
    double value = (double)x;
    if (kind == SAMPLE_EDIT_FORBID) {
        return SAMPLE_LOWEST;
    }
    if (kind == SAMPLE_EDIT_PENALISE) {
        value = value > 0 ? value / repetition : value * repetition;
        value -= amount;
        value = value < -1e38 ? -1e38 : value > 1e38 ? 1e38 : value;
        return (float)value;
    }
    if (kind == SAMPLE_EDIT_LOWER) {
        return (float)(value - amount);
    }
    const float sum = x + (float)amount;
    return sum > SAMPLE_LOWEST ? sum : SAMPLE_LOWEST;
}

extern "C" __global__ void KERNEL_BOUNDS(256, 1)
    sample_edit(const struct sample_arguments arguments)
{
    const struct sample_arguments &a = arguments;
    release_successor();
    wait_for_predecessor();
    if (blockIdx.x >= *a.count) {
        return;
    }
    const struct sample_row &row = a.rows[blockIdx.x];
    if (row.flags & SAMPLE_ON_HOST || row.edit_ends[SAMPLE_EDIT_KINDS - 1] == 0) {
        return;
    }
    struct sample_edit *edits = (struct sample_edit *)(a.step + row.edits);
    float *logits = a.logits + (uint64_t)blockIdx.x * a.width;
    uint32_t begin = 0;
    for (uint32_t kind = 0; kind < SAMPLE_EDIT_KINDS; kind++) {
        const uint32_t end = row.edit_ends[kind];
        for (uint32_t i = begin + threadIdx.x; i < end; i += 256) {
            union sample_bits word;
            word.value = logits[edits[i].token];
            edits[i].original = word.bits;
            if (word.value - word.value == 0.0f) { /* what is not finite stays to be seen */
                logits[edits[i].token] =
                    sample_edited(word.value, kind, edits[i].amount, row.repetition);
            }
        }
        begin = end;
        __syncthreads();
    }
}

/* What sample_edit did, backwards. */
__device__ __forceinline__ void sample_restore(const struct sample_edit *edits,
                                               const struct sample_row &row, float *logits)
{
    for (uint32_t kind = SAMPLE_EDIT_KINDS; kind-- != 0;) {
        const uint32_t begin = kind == 0 ? 0 : row.edit_ends[kind - 1];
        for (uint32_t i = begin + threadIdx.x; i < row.edit_ends[kind]; i += SAMPLE_THREADS) {
            union sample_bits word;
            word.bits = edits[i].original;
            logits[edits[i].token] = word.value;
        }
        __syncthreads();
    }
}

/* --- scan ------------------------------------------------------------------------------------ */

/* Eight of a block's values for one of its eight lanes, as they are and as the mask leaves them. */
__device__ __forceinline__ bool sample_load(const struct sample_view &view, uint32_t block,
                                            uint32_t part, float values[8])
{
    const uint32_t first = block * SAMPLE_BLOCK + part * 4u;
    bool finite = true;
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t id = first + half * 32u;
        if (view.width % 4u == 0 && id + 4u <= view.width) {
            const struct word4 words = load16(view.logits + id);
            const uint32_t bits[4] = {words.x, words.y, words.z, words.w};
            for (uint32_t i = 0; i < 4; i++) {
                union sample_bits word;
                word.bits = bits[i];
                values[half * 4u + i] = word.value;
            }
        } else {
            for (uint32_t i = 0; i < 4; i++) {
                values[half * 4u + i] = id + i < view.width ? view.logits[id + i] : SAMPLE_LOWEST;
            }
        }
        const uint32_t allowed =
            view.mask && id < view.width ? view.mask[id / 32] >> id % 32 : ~0u;
        for (uint32_t i = 0; i < 4; i++) {
            float &value = values[half * 4u + i];
            finite = finite && value - value == 0.0f;
            value = allowed >> i & 1u ? value : SAMPLE_LOWEST;
        }
    }
    return finite;
}

extern "C" __global__ void KERNEL_BOUNDS(256, 1)
    sample_scan(const struct sample_arguments arguments)
{
    const struct sample_arguments &a = arguments;
    __shared__ float warp_max[8];
    __shared__ uint32_t bad;
    release_successor();
    wait_for_predecessor();
    const uint32_t index = blockIdx.y;
    if (index >= *a.count) {
        return;
    }
    const struct sample_row &row = a.rows[index];
    if (row.flags & SAMPLE_ON_HOST) {
        return;
    }
    if (threadIdx.x == 0) {
        bad = 0;
    }
    __syncthreads();
    const struct sample_view view = {
        a.logits + (uint64_t)index * a.width,
        row.mask ? (const uint32_t *)(a.step + row.mask) : (const uint32_t *)0, a.width};
    const uint32_t begin = (uint32_t)((uint64_t)a.blocks * blockIdx.x / SAMPLE_SLICES);
    const uint32_t end = (uint32_t)((uint64_t)a.blocks * (blockIdx.x + 1) / SAMPLE_SLICES);
    const float scale = row.inverse * 1.4426950408889634f;
    const bool weigh = (row.flags & SAMPLE_WEIGH) != 0;
    const uint32_t part = threadIdx.x % 8u;
    float most = SAMPLE_LOWEST;
    bool finite = true;
    for (uint32_t base = begin + threadIdx.x / 32u * 4u; base < end; base += 32u) {
        const uint32_t block = base + threadIdx.x % 32u / 8u;
        float values[8];
        for (uint32_t i = 0; i < 8; i++) {
            values[i] = SAMPLE_LOWEST;
        }
        if (block < end) {
            finite = sample_load(view, block, part, values) && finite;
        }
        float largest = values[0];
        for (uint32_t i = 1; i < 8; i++) {
            largest = values[i] > largest ? values[i] : largest;
        }
        for (uint32_t mask = 4; mask != 0; mask /= 2) {
            const float other = warp_shuffle_xor(largest, mask);
            largest = other > largest ? other : largest;
        }
        most = largest > most ? largest : most;
        float sum = 0;
        if (weigh) {
            for (uint32_t i = 0; i < 8; i++) {
                sum += values[i] > SAMPLE_LOWEST ? fast_exp2((values[i] - largest) * scale) : 0.0f;
            }
            for (uint32_t mask = 4; mask != 0; mask /= 2) {
                sum += warp_shuffle_xor(sum, mask);
            }
        }
        if (block < end && part == 0) {
            a.block_max[(uint64_t)index * a.blocks + block] = largest;
            a.block_sum[(uint64_t)index * a.blocks + block] = sum;
        }
    }
    if (!finite) {
        bad = 1; /* whoever writes, writes the same */
    }
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const float other = warp_shuffle_xor(most, mask);
        most = other > most ? other : most;
    }
    if (threadIdx.x % 32u == 0) {
        warp_max[threadIdx.x / 32u] = most;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t w = 1; w < 8; w++) {
            most = warp_max[w] > most ? warp_max[w] : most;
        }
        union sample_bits infinite;
        infinite.bits = 0x7F800000u;
        a.slices[index * SAMPLE_SLICES + blockIdx.x] = bad ? infinite.value : most;
    }
}

/* --- the chain ------------------------------------------------------------------------------- */

/* What has been cut so far: an item stays that is not beyond any of these. */
struct sample_chain {
    struct sample_view view;
    float maximum, inverse;
    float floor;          /* values below cannot matter */
    uint64_t cut;         /* keys by value */
    bool typical;         /* … and by how typical they are: */
    uint64_t typical_cut;
    double log_sum, entropy;
    double weight_min;
};

__device__ __forceinline__ uint64_t sample_typical_key(const struct sample_chain &c, float y,
                                                       uint32_t id)
{
    const double surprise = c.log_sum - (double)y;
    return sample_key(-(float)fabs(surprise - c.entropy), id);
}

/* visit(value, id, y, weight) of what is left: y = (value − maximum) / temperature. */
template <class Visit>
__device__ __forceinline__ void sample_left(const struct sample_shared &s,
                                            const struct sample_chain &c, const Visit &visit)
{
    sample_visit(s, c.view, [&](float x, uint32_t id) {
        if (x < c.floor || sample_key(x, id) > c.cut) {
            return;
        }
        const float y = mul_rn(add_rn(x, -c.maximum), c.inverse);
        const float weight = sample_exp(y);
        if ((double)weight < c.weight_min ||
            (c.typical && sample_typical_key(c, y, id) > c.typical_cut)) {
            return;
        }
        visit(x, id, y, weight);
    });
}

/* The first of what is left, by value, with which count or mass exceeds `target`. */
template <bool by_mass>
__device__ __forceinline__ bool sample_select_left(struct sample_shared &s,
                                                   const struct sample_chain &c, uint64_t target,
                                                   struct sample_found &found)
{
    return sample_select<by_mass>(
        s, target,
        [&](auto take) {
            sample_left(s, c, [&](float x, uint32_t id, float, float weight) {
                take(sample_key(x, id), sample_mass(weight));
            });
        },
        found);
}

__device__ __forceinline__ uint64_t sample_mass_left(struct sample_shared &s,
                                                     const struct sample_chain &c)
{
    uint64_t mass = 0;
    sample_left(s, c, [&](float, uint32_t, float, float weight) { mass += sample_mass(weight); });
    return sample_sum(s, mass);
}

/* Keeps going "while the mass is below share · mass": as the target of a select. */
__device__ __forceinline__ uint64_t sample_share(double share, uint64_t mass)
{
    const double wanted = ceil(share * (double)mass);
    return wanted >= 1.0 ? (uint64_t)wanted - 1u : 0;
}

/* Returns the mass that is left. */
__device__ __noinline__ uint64_t sample_keep_typical(struct sample_shared &s,
                                                     struct sample_chain &c, uint64_t mass,
                                                     double share)
{
    uint64_t surprise = 0; /* Σ weight · −y, in units of 2^-44 */
    sample_left(s, c, [&](float, uint32_t, float y, float weight) {
        surprise += (uint64_t)((double)weight * -(double)y * SAMPLE_ONE);
    });
    surprise = sample_sum(s, surprise);
    c.log_sum = log((double)mass / SAMPLE_ONE);
    c.entropy = c.log_sum + (double)surprise / (double)mass;
    struct sample_found found;
    const bool cuts = sample_select<true>(
        s, sample_share(share, mass),
        [&](auto take) {
            sample_left(s, c, [&](float, uint32_t id, float y, float weight) {
                take(sample_typical_key(c, y, id), sample_mass(weight));
            });
        },
        found);
    if (!cuts) {
        return mass;
    }
    c.typical = true;
    c.typical_cut = found.key;
    return found.mass;
}

/* The mass of block b by its sum. */
__device__ __forceinline__ uint64_t sample_block_mass(const float *block_max,
                                                      const float *block_sum, uint32_t b,
                                                      const struct sample_chain &c)
{
    if (!(block_max[b] > SAMPLE_LOWEST)) {
        return 0;
    }
    const float y = mul_rn(add_rn(block_max[b], -c.maximum), c.inverse);
    return (uint64_t)((double)block_sum[b] * (double)sample_exp(y) * SAMPLE_ONE);
}

/* Temperature alone: the draw finds its block, in order of ids, and then its token. */
__device__ __forceinline__ void sample_from_all(struct sample_shared &s,
                                                const struct sample_chain &c,
                                                const float *block_max, const float *block_sum,
                                                uint32_t blocks, double uniform, uint32_t *chosen)
{
    const uint32_t each = (blocks + SAMPLE_THREADS - 1u) / SAMPLE_THREADS;
    const uint32_t begin = threadIdx.x * each;
    const uint32_t end = begin + each < blocks ? begin + each : blocks;
    uint64_t mass = 0;
    for (uint32_t b = begin; b < end; b++) {
        mass += sample_block_mass(block_max, block_sum, b, c);
    }
    uint32_t count = 0;
    uint64_t total;
    sample_scan_block(s, mass, count, total);
    const uint64_t target = (uint64_t)floor(uniform * (double)total);
    for (uint32_t b = begin; b < end; b++) {
        const uint64_t own = sample_block_mass(block_max, block_sum, b, c);
        if (mass <= target && target < mass + own) {
            s.bin = b;
            s.mass_before = mass;
        }
        mass += own;
    }
    __syncthreads();
    if (threadIdx.x >= 32u) {
        return;
    }
    uint64_t masses[2];
    const uint32_t first = s.bin * SAMPLE_BLOCK + threadIdx.x * 2u;
    for (uint32_t i = 0; i < 2; i++) {
        const float x =
            first + i < c.view.width ? sample_value(c.view, first + i) : SAMPLE_LOWEST;
        masses[i] = x > SAMPLE_LOWEST
                        ? sample_mass(sample_exp(mul_rn(add_rn(x, -c.maximum), c.inverse)))
                        : 0;
    }
    uint64_t sum = masses[0] + masses[1];
    uint32_t last = masses[1] ? first + 1u : masses[0] ? first : 0u;
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint64_t other = sample_shuffle64(sum, threadIdx.x >= step ? threadIdx.x - step : 0);
        sum += threadIdx.x >= step ? other : 0;
        const uint32_t other_last = warp_shuffle_xor(last, step);
        last = other_last > last ? other_last : last;
    }
    const uint64_t rest = target - s.mass_before;
    const uint64_t before = sum - masses[0] - masses[1];
    const bool mine = before <= rest && rest < sum;
    if (mine) {
        *chosen = rest < before + masses[0] ? first : first + 1u;
    }
    /* The block's own sum may be a little larger than that of its tokens: then the last one. */
    if (!warp_any(mine) && threadIdx.x == 0) {
        *chosen = last;
    }
}

/* Cuts by top-k, or lists the blocks for what comes after; returns the mass that is left. */
__device__ __forceinline__ uint64_t sample_begin(struct sample_shared &s, struct sample_chain &c,
                                                 const struct sample_row &row,
                                                 const float *block_max, uint32_t blocks)
{
    if (row.top_k != 0) {
        c.floor = sample_floor(s, block_max, blocks, row.top_k);
    } else if (row.typical_p >= 1.0) { /* min-p alone */
        c.floor = (float)((double)c.maximum + row.min_p_depth);
    }
    sample_activate(s, block_max, blocks, c.floor);
    struct sample_found found;
    if (row.top_k != 0 && sample_select_left<false>(s, c, row.top_k - 1u, found)) {
        c.cut = found.key;
        return found.mass;
    }
    return sample_mass_left(s, c);
}

/* Top-p over the whole vocabulary: the mass of everything from the blocks' sums, then the depth
 * below the best token that holds the share. Returns the mass of everything. */
__device__ __forceinline__ uint64_t sample_nucleus(struct sample_shared &s, struct sample_chain &c,
                                                   double share, const float *block_max,
                                                   const float *block_sum, uint32_t blocks)
{
    uint64_t mass = 0;
    for (uint32_t b = threadIdx.x; b < blocks; b += SAMPLE_THREADS) {
        mass += sample_block_mass(block_max, block_sum, b, c);
    }
    const uint64_t total = sample_sum(s, mass);
    const double wanted = share * (double)total;
    for (float depth = 5.0f; depth < 30.0f; depth *= 2.0f) {
        c.floor = c.maximum - depth / c.inverse;
        sample_activate(s, block_max, blocks, c.floor);
        if ((double)sample_mass_left(s, c) >= wanted) {
            return total;
        }
    }
    c.floor = SAMPLE_LOWEST;
    sample_activate(s, block_max, blocks, c.floor);
    return total;
}

/* After min-p alone nothing was ordered by value: the draw goes by ids. */
__device__ __forceinline__ uint32_t sample_by_id(struct sample_shared &s,
                                                 const struct sample_chain &c, uint64_t target)
{
    struct sample_found found;
    const bool exists = sample_select<true>(
        s, target,
        [&](auto take) {
            sample_left(s, c, [&](float, uint32_t id, float, float weight) {
                take((uint64_t)id << 32, sample_mass(weight));
            });
        },
        found);
    return exists ? (uint32_t)(found.key >> 32) : SAMPLE_REFUSED;
}

/* From temperature to the draw. */
__device__ __forceinline__ uint32_t sample_random(struct sample_shared &s, struct sample_chain &c,
                                                  const struct sample_row &row,
                                                  const float *block_max, const float *block_sum,
                                                  uint32_t blocks, double uniform)
{
    const bool typical = row.typical_p < 1.0;
    const bool top_p = row.top_p < 1.0;
    uint64_t mass;
    if (row.top_k == 0 && !typical && top_p) {
        mass = sample_nucleus(s, c, row.top_p, block_max, block_sum, blocks);
    } else {
        mass = sample_begin(s, c, row, block_max, blocks);
    }
    if (typical) {
        mass = sample_keep_typical(s, c, mass, row.typical_p);
    }
    struct sample_found found;
    if (top_p) {
        if (sample_select_left<true>(s, c, sample_share(row.top_p, mass), found)) {
            c.cut = found.key;
            mass = found.mass;
        } else {
            mass = sample_mass_left(s, c);
        }
    }
    if (row.min_p > 0.0) {
        float largest = 0.0f;
        sample_left(s, c, [&](float, uint32_t, float, float weight) {
            largest = weight > largest ? weight : largest;
        });
        c.weight_min = row.min_p * (double)sample_max(s, largest);
        mass = sample_mass_left(s, c);
    }
    const uint64_t target = (uint64_t)floor(uniform * (double)mass);
    if (row.top_k == 0 && !typical && !top_p) {
        return sample_by_id(s, c, target);
    }
    if (!sample_select_left<true>(s, c, target, found) &&
        !sample_select_left<false>(s, c, 0, found)) {
        return SAMPLE_REFUSED; /* not reached: the best token is never cut */
    }
    return sample_key_id(found.key);
}

extern "C" __global__ void KERNEL_BOUNDS(SAMPLE_THREADS, 1)
    sample_draw(const struct sample_arguments arguments)
{
    const struct sample_arguments &a = arguments;
    __shared__ struct sample_shared s;
    release_successor();
    wait_for_predecessor();
    const uint32_t index = blockIdx.x;
    if (index >= *a.count) {
        return;
    }
    const struct sample_row &row = a.rows[index];
    if (row.flags & SAMPLE_ON_HOST) {
        return;
    }
    float maximum = a.slices[index * SAMPLE_SLICES + threadIdx.x % SAMPLE_SLICES];
    const bool bad = warp_any(maximum - maximum != 0.0f);
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const float other = warp_shuffle_xor(maximum, mask);
        maximum = other > maximum ? other : maximum;
    }
    if (bad || maximum == SAMPLE_LOWEST) {
        if (threadIdx.x == 0) {
            a.chosen[index] = bad ? SAMPLE_NONE : SAMPLE_REFUSED;
        }
        return;
    }
    const float *block_max = a.block_max + (uint64_t)index * a.blocks;
    const float *block_sum = a.block_sum + (uint64_t)index * a.blocks;
    struct sample_chain c = {
        {a.logits + (uint64_t)index * a.width,
         row.mask ? (const uint32_t *)(a.step + row.mask) : (const uint32_t *)0, a.width},
        maximum, row.inverse, SAMPLE_LOWEST, ~(uint64_t)0, false, 0, 0.0, 0.0, 0.0};
    if (row.inverse == 0.0f) { /* greedy */
        c.floor = maximum;
        sample_activate(s, block_max, a.blocks, maximum);
        struct sample_found found;
        const bool exists = sample_select_left<false>(s, c, 0, found);
        if (threadIdx.x == 0) {
            a.chosen[index] = exists ? sample_key_id(found.key) : SAMPLE_REFUSED;
        }
        return;
    }
    const double uniform = sample_uniform(row.seed, row.position);
    if (row.top_k == 0 && row.typical_p >= 1.0 && row.top_p >= 1.0 && row.min_p <= 0.0) {
        sample_from_all(s, c, block_max, block_sum, a.blocks, uniform, a.chosen + index);
        return;
    }
    const uint32_t token = sample_random(s, c, row, block_max, block_sum, a.blocks, uniform);
    if (threadIdx.x == 0) {
        a.chosen[index] = token;
    }
}

/* --- log-probabilities ----------------------------------------------------------------------- */

/* The largest of each block, of the row as the model gave it; returns that of all. */
__device__ __forceinline__ float sample_rescan(struct sample_shared &s,
                                               const struct sample_view &view, float *block_max,
                                               uint32_t blocks)
{
    float most = SAMPLE_LOWEST;
    for (uint32_t block = threadIdx.x / 32u; block < blocks; block += SAMPLE_WARPS) {
        const uint32_t id = block * SAMPLE_BLOCK + threadIdx.x % 32u;
        const float x = id < view.width ? view.logits[id] : SAMPLE_LOWEST;
        const float y = id + 32u < view.width ? view.logits[id + 32u] : SAMPLE_LOWEST;
        float largest = y > x ? y : x;
        for (uint32_t mask = 16; mask != 0; mask /= 2) {
            const float other = warp_shuffle_xor(largest, mask);
            largest = other > largest ? other : largest;
        }
        if (threadIdx.x % 32u == 0) {
            block_max[block] = largest;
        }
        most = largest > most ? largest : most;
    }
    most = sample_max(s, most);
    __syncthreads(); /* block_max, too, is there for all */
    return most;
}

/* The alternatives: the largest ones of the row, in order. */
__device__ __forceinline__ void sample_alternatives(struct sample_shared &s,
                                                    const struct sample_view &view,
                                                    const float *block_max, uint32_t blocks,
                                                    uint32_t wanted, double log_sum,
                                                    struct sample_logprob *result)
{
    const float floor = sample_floor(s, block_max, blocks, wanted);
    sample_activate(s, block_max, blocks, floor);
    struct sample_found found;
    const bool cuts = sample_select<false>(
        s, wanted - 1u,
        [&](auto take) {
            sample_visit(s, view, [&](float x, uint32_t id) { take(sample_key(x, id), 0); });
        },
        found);
    const uint64_t cut = cuts ? found.key : ~(uint64_t)0;
    if (threadIdx.x == 0) {
        s.list_count = 0;
    }
    __syncthreads();
    sample_visit(s, view, [&](float x, uint32_t id) {
        if (sample_key(x, id) <= cut) {
            s.list[atomic_add(&s.list_count, 1)] = sample_key(x, id);
        }
    });
    __syncthreads();
    const uint32_t count = s.list_count;
    if (threadIdx.x < count) {
        const uint64_t own = s.list[threadIdx.x];
        uint32_t place = 0;
        for (uint32_t i = 0; i < count; i++) {
            place += s.list[i] < own;
        }
        result->top[place].token = sample_key_id(own);
        result->top[place].logprob = (float)((double)sample_key_value(own) - log_sum);
    }
    if (threadIdx.x == 0) {
        result->top_count = count;
    }
}

extern "C" __global__ void KERNEL_BOUNDS(SAMPLE_THREADS, 1)
    sample_logprobs(const struct sample_arguments arguments)
{
    const struct sample_arguments &a = arguments;
    __shared__ struct sample_shared s;
    release_successor();
    wait_for_predecessor();
    const uint32_t index = blockIdx.x;
    if (index >= *a.count) {
        return;
    }
    const struct sample_row &row = a.rows[index];
    const uint32_t token = row.flags & SAMPLE_LOGPROBS ? a.chosen[index] : SAMPLE_NONE;
    if (token >= SAMPLE_REFUSED) {
        return;
    }
    float *logits = a.logits + (uint64_t)index * a.width;
    sample_restore((const struct sample_edit *)(a.step + row.edits), row, logits);
    const struct sample_view view = {logits, (const uint32_t *)0, a.width};
    float *block_max = a.block_max + (uint64_t)index * a.blocks;
    const float maximum = sample_rescan(s, view, block_max, a.blocks);
    const float chosen = logits[token];
    uint64_t mass = 0;
    uint32_t rank = 0;
    for (uint32_t id = threadIdx.x; id < a.width; id += SAMPLE_THREADS) {
        const float x = logits[id];
        mass += sample_mass(fast_exp(x - maximum));
        rank += x > chosen || (x == chosen && id < token);
    }
    mass = sample_sum(s, mass);
    const uint32_t rank_total = (uint32_t)sample_sum(s, rank);
    const double log_sum = (double)maximum + log((double)mass / SAMPLE_ONE);
    struct sample_logprob *result = a.results + index;
    if (threadIdx.x == 0) {
        result->token = token;
        result->logprob = (float)((double)chosen - log_sum);
        result->rank = rank_total;
        result->top_count = 0;
    }
    if (row.top_count != 0) {
        sample_alternatives(s, view, block_max, a.blocks, row.top_count, log_sum, result);
    }
}
