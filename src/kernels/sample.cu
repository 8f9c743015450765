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
 * digit of the item's sort key, with a histogram a digit in shared memory (sample_select.cuh).
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
    struct sample_shared &s = sample_memory();
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
    struct sample_shared &s = sample_memory();
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
