/* Kernels that show whether the entries of the driver table do what they say; test_table.c. */

struct table_arguments {
    uint32_t *data;
    uint32_t count;
    uint32_t value;
};

/* data[i] = data[i] * 3 + value: not the same when two launches change places. */
extern "C" __global__ void KERNEL_BOUNDS(128, 1) step(const struct table_arguments arguments)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    wait_for_predecessor();
    if (i < arguments.count) {
        arguments.data[i] = arguments.data[i] * 3u + arguments.value;
    }
    release_successor();
}

/* Each launch reads what all blocks of the one before it wrote: data holds two halves, and `value`
 * says which is read. Threads let the successor start at once and take their time. */
extern "C" __global__ void KERNEL_BOUNDS(128, 1) mix(const struct table_arguments arguments)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t *from = arguments.data + arguments.value * arguments.count;
    uint32_t *to = arguments.data + (1u - arguments.value) * arguments.count;
    release_successor();
    wait_for_predecessor();
    uint32_t sum = 0;
    for (uint32_t j = 0; j < 8; j++) {
        sum = sum * 5u + load_volatile(from + (i * 37u + j * 1001u) % arguments.count);
    }
    to[i] = sum;
}

/* Reverses count words through dynamic shared memory, one block. */
extern "C" __global__ void KERNEL_BOUNDS(256, 1) large(const struct table_arguments arguments)
{
    SHARED_DYNAMIC(uint32_t, room);
    for (uint32_t i = threadIdx.x; i < arguments.count; i += blockDim.x) {
        room[i] = arguments.data[i];
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < arguments.count; i += blockDim.x) {
        arguments.data[i] = room[arguments.count - 1 - i];
    }
}
