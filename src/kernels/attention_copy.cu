/* copy_blocks: cache block from[i] becomes block to[i] in every layer. Grid: x = 4 KB pieces of a
 * block, y = layer, z = i; 256 threads of 16 bytes. Bound: reads and writes at memory bandwidth. */
extern "C" __global__ void KERNEL_BOUNDS(256, 2)
    copy_blocks(const struct copy_blocks_arguments arguments)
{
    release_successor();
    wait_for_predecessor();
    uint64_t offset = ((uint64_t)blockIdx.x * 256 + threadIdx.x) * 16;
    if (offset < arguments.block_bytes) {
        uint8_t *layer = (uint8_t *)arguments.cache + blockIdx.y * arguments.layer_bytes + offset;
        store16(layer + arguments.to[blockIdx.z] * arguments.block_bytes,
                load16(layer + arguments.from[blockIdx.z] * arguments.block_bytes));
    }
}
