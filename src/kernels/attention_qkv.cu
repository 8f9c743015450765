/* qkv_finish: raw projections [n, (H + 2K) D] of a step become queries [n, H D] and cache entries:
 * bias, norm of each head of q and k, rotary.
 *
 * Grid: x = rows of the bucket; blocks of 256 threads, a warp a head in turn. Bound: 4 bytes read
 * and 2 written an element; for one row of 48 heads of 64 that is 18 KB, so latency decides. */
extern "C" __global__ void KERNEL_BOUNDS(256, 2)
    qkv_finish(const struct qkv_finish_arguments arguments)
{
    __shared__ struct rotary_row table;
    const uint32_t row = blockIdx.x;
    const struct attention_step &step = arguments.step;
    release_successor();
    bool surplus = row >= step.state->row_count;
    if (surplus) {
        /* One block of every launch waits, so that launches end in their order. */
        if (row == 0) {
            wait_for_predecessor();
        }
        return;
    }
    const uint32_t position = step.positions[row];
    const uint32_t stride = step.state->block_table_stride;
    const uint32_t block =
        step.block_tables[(uint64_t)step.sequences[row] * stride + position / KV_BLOCK];
    rotary_fill(&table, arguments.projection, position);
    __syncthreads();
    wait_for_predecessor();
    for (uint32_t vector = threadIdx.x / 32; vector < HEADS + 2 * KV_HEADS; vector += 8) {
        struct head_pairs head;
        vector_finish(&head, vector, row, &table, arguments.projection);
        if (vector < HEADS) {
            head_store(&head,
                       (kv_value *)arguments.query + ((uint64_t)row * HEADS + vector) * HEAD_SIZE);
        } else {
            bool is_value = vector >= HEADS + KV_HEADS;
            uint32_t kv_head = vector - HEADS - (is_value ? KV_HEADS : 0);
            const uint32_t slot = (is_value ? KV_BLOCK : 0) + position % KV_BLOCK;
            kv_store *unit = (kv_store *)kv_unit(arguments.cache, block, kv_head);
            head_keep(&head, unit + slot * HEAD_SIZE, (float *)kv_scale(unit, slot));
        }
    }
}
