/* Three kernels of the usual kinds, each wrong when any one of its barriers is missing; and kernels
 * that break the rules of barriers. Tiles are 64 threads. */

struct barrier_arguments {
    const float *in;
    float *out;
    uint32_t rounds;
    uint32_t unused;
};

/* Running sums of 64 values, by doubling distances. */
extern "C" __global__ void KERNEL_BOUNDS(64, 1) running_sum(const struct barrier_arguments arguments)
{
    __shared__ float sums[64];
    uint32_t i = threadIdx.x;
    sums[i] = arguments.in[blockIdx.x * 64 + i];
    __syncthreads();
    for (uint32_t distance = 1; distance < 64; distance *= 2) {
        float sum = sums[i] + (i >= distance ? sums[i - distance] : 0);
        __syncthreads();
        sums[i] = sum;
        __syncthreads();
    }
    arguments.out[blockIdx.x * 64 + i] = sums[63 - i];
}

/* Tiles pass through one buffer: every thread reads what another has written, then the buffer is
 * written anew. */
extern "C" __global__ void KERNEL_BOUNDS(64, 1) tile_loop(const struct barrier_arguments arguments)
{
    __shared__ float tile[64];
    uint32_t i = threadIdx.x;
    float sum = 0;
    for (uint32_t round = 0; round < arguments.rounds; round++) {
        tile[i] = arguments.in[round * 64 + i];
        __syncthreads();
        sum = sum * 0.5f + tile[(i * 7 + round) % 64];
        __syncthreads();
    }
    arguments.out[blockIdx.x * 64 + i] = sum;
}

/* Two warps exchange through shared memory what they have made together by warp operations. */
extern "C" __global__ void KERNEL_BOUNDS(64, 1) warp_relay(const struct barrier_arguments arguments)
{
    __shared__ float totals[2];
    __shared__ float lanes[64];
    uint32_t i = threadIdx.x;
    uint32_t lane = i % 32;
    lanes[i] = arguments.in[blockIdx.x * 64 + i];
    __syncwarp();
    float x = lanes[i - lane + (lane * 5 + 3) % 32];
    for (uint32_t mask = 16; mask; mask /= 2) {
        x += warp_shuffle_xor(x, mask);
    }
    if (lane == 31) {
        totals[i / 32] = x;
    }
    __syncthreads();
    lanes[i] = totals[1 - i / 32] * (float)i;
    __syncthreads();
    arguments.out[blockIdx.x * 64 + i] = lanes[63 - i];
}

extern "C" __global__ void leaves_early(const struct barrier_arguments arguments)
{
    if (threadIdx.x == 5) {
        return;
    }
    __syncthreads();
    arguments.out[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers(const struct barrier_arguments arguments)
{
    if (threadIdx.x < 32) {
        __syncthreads();
        arguments.out[threadIdx.x] = 1;
    } else {
        __syncthreads();
        arguments.out[threadIdx.x] = 2;
    }
}

extern "C" __global__ void half_a_warp(const struct barrier_arguments arguments)
{
    float x = 1;
    if (threadIdx.x % 32 < 16) {
        x = warp_shuffle(x, 3);
    }
    arguments.out[threadIdx.x] = x;
}

extern "C" __global__ void barrier_meets_shuffle(const struct barrier_arguments arguments)
{
    if (threadIdx.x == 7) {
        __syncthreads();
    } else {
        arguments.out[threadIdx.x] = warp_shuffle(1.0f, 3);
        __syncthreads();
    }
}

extern "C" __global__ void unaligned(const struct barrier_arguments arguments)
{
    struct word4 value = {1, 2, 3, 4};
    store16((char *)arguments.out + 4 * (threadIdx.x == 9), value);
}

extern "C" __global__ void past_the_end(const struct barrier_arguments arguments)
{
    arguments.out[threadIdx.x] = arguments.in[threadIdx.x + arguments.rounds];
}

extern "C" __global__ void past_shared(const struct barrier_arguments arguments)
{
    __shared__ float fixed[64];
    SHARED_DYNAMIC(float, dynamic);
    float *place = arguments.unused ? dynamic : fixed;
    place[threadIdx.x + arguments.rounds] = 1;
    arguments.out[threadIdx.x] = place[threadIdx.x];
}
