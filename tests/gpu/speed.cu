/* What bench_emu.c times: one word each, `rounds` times a thread. */

struct speed_arguments {
    float *out;
    uint64_t rounds;
    uint64_t unused;
};

/* rounds multiply-adds in a dependent chain: what a plain loop costs. */
extern "C" __global__ void plain(const struct speed_arguments arguments)
{
    float x = (float)threadIdx.x;
    for (uint64_t i = 0; i < arguments.rounds; i++) {
        x = x * 0.5f + 1.0f;
    }
    arguments.out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

extern "C" __global__ void shuffle(const struct speed_arguments arguments)
{
    float x = (float)threadIdx.x;
    for (uint64_t i = 0; i < arguments.rounds; i++) {
        x += warp_shuffle_xor(x, 16);
    }
    arguments.out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

extern "C" __global__ void reduce(const struct speed_arguments arguments)
{
    float x = (float)threadIdx.x;
    for (uint64_t i = 0; i < arguments.rounds; i++) {
        x = vendor_warp_sum(x) * 0.03f;
    }
    arguments.out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

extern "C" __global__ void barrier(const struct speed_arguments arguments)
{
    for (uint64_t i = 0; i < arguments.rounds; i++) {
        __syncthreads();
    }
    arguments.out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

extern "C" __global__ void matrix(const struct speed_arguments arguments)
{
    float d[4] = {0, 0, 0, 0};
    const uint32_t a[4] = {threadIdx.x, 1, 2, 3};
    const uint32_t b[2] = {4, 5};
    for (uint64_t i = 0; i < arguments.rounds; i++) {
        mma_bf16(d, a, b);
    }
    arguments.out[blockIdx.x * blockDim.x + threadIdx.x] = d[0];
}
