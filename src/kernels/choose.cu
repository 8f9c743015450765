/* choose: the greedy token of every row of logits, so that only ids travel to the host. The first of
 * equal logits wins, as it does in the host's sampler.
 *
 * Grid: x = CHOOSE_SLICES slices of a row, y = rows of the bucket. The block of a row that arrives
 * last merges the slices, in their order. Bound: the logits once, from the second-level cache. */
#define CHOOSE_THREADS 256
#define CHOOSE_LOWEST  (-3.402823466e+38f)

/* The better of two candidates in `value` and `index`. */
__device__ __forceinline__ void choose_better(float &value, uint32_t &index, float other,
                                              uint32_t other_index)
{
    if (other > value || (other == value && other_index < index)) {
        value = other;
        index = other_index;
    }
}

__device__ __forceinline__ void choose_best_of_warp(float &value, uint32_t &index)
{
    for (uint32_t mask = 16; mask != 0; mask /= 2) {
        const float other = warp_shuffle_xor(value, mask);
        const uint32_t other_index = warp_shuffle_xor(index, mask);
        choose_better(value, index, other, other_index);
    }
}

extern "C" __global__ void KERNEL_BOUNDS(CHOOSE_THREADS, 1)
    choose(const struct choose_arguments arguments)
{
    const struct choose_arguments &a = arguments;
    __shared__ float values[CHOOSE_THREADS / 32];
    __shared__ uint32_t indices[CHOOSE_THREADS / 32];
    __shared__ uint32_t bad, last;
    release_successor();
    const uint32_t row = blockIdx.y;
    const uint32_t count = *a.count; /* written before anything that overlaps */
    wait_for_predecessor();
    if (row >= count) {
        return;
    }
    if (threadIdx.x == 0) {
        bad = 0;
    }
    __syncthreads();
    const uint32_t begin = (uint32_t)((uint64_t)a.width * blockIdx.x / CHOOSE_SLICES);
    const uint32_t end = (uint32_t)((uint64_t)a.width * (blockIdx.x + 1) / CHOOSE_SLICES);
    const float *logits = a.logits + (uint64_t)row * a.width;
    float value = CHOOSE_LOWEST;
    uint32_t index = CHOOSE_NONE;
    bool finite = true;
#pragma unroll 8
    for (uint32_t i = begin + threadIdx.x; i < end; i += CHOOSE_THREADS) {
        const float x = logits[i];
        finite = finite && x - x == 0.0f;
        choose_better(value, index, x, i);
    }
    if (!finite) {
        bad = 1; /* whoever writes, writes the same */
    }
    choose_best_of_warp(value, index);
    if (threadIdx.x % 32 == 0) {
        values[threadIdx.x / 32] = value;
        indices[threadIdx.x / 32] = index;
    }
    __syncthreads();
    const uint32_t slot = row * CHOOSE_SLICES;
    if (threadIdx.x == 0) {
        for (uint32_t w = 1; w < CHOOSE_THREADS / 32; w++) {
            choose_better(value, index, values[w], indices[w]);
        }
        a.values[slot + blockIdx.x] = value;
        /* Rows shorter than the slices are many leave some empty: these lose to every other. */
        a.indices[slot + blockIdx.x] = bad ? CHOOSE_NONE : begin == end ? 0 : index;
        thread_fence();
        last = atomic_add(a.arrived + row, 1) == CHOOSE_SLICES - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x >= 32) {
        return;
    }
    /* A lane a slice. */
    static_assert(CHOOSE_SLICES == 32, "one warp merges the slices");
    thread_fence();
    index = load_volatile(a.indices + slot + threadIdx.x);
    value = ((const volatile float *)a.values)[slot + threadIdx.x];
    const bool broken = warp_any(index == CHOOSE_NONE);
    choose_best_of_warp(value, index);
    if (threadIdx.x == 0) {
        a.chosen[row] = broken ? CHOOSE_NONE : index;
        a.arrived[row] = 0;
    }
}
