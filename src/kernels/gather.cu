/* gather_rows: the rows that are still wanted after the last layer's attention, moved together:
 * residual and attended rows [count] from rows[i] of those of all. The two ends never overlap.
 *
 * Grid: x = rows of the bucket; 256 threads. Bound: a few KB a row read from the second-level cache
 * and written; latency decides. */
extern "C" __global__ void KERNEL_BOUNDS(256, 1)
    gather_rows(const struct gather_arguments a)
{
    release_successor();
    const uint32_t row = blockIdx.x;
    const bool surplus = row >= *a.count; /* written before anything that overlaps, as are the rows */
    const uint32_t from = surplus ? 0 : a.rows[row];
    wait_for_predecessor();
    if (surplus) {
        return;
    }
    const uint32_t *residual = a.residual + (uint64_t)from * a.residual_words;
    for (uint32_t i = threadIdx.x; i < a.residual_words; i += 256) {
        a.residual_to[(uint64_t)row * a.residual_words + i] = residual[i];
    }
    const uint32_t *attended = a.attended + (uint64_t)from * a.attended_words;
    for (uint32_t i = threadIdx.x; i < a.attended_words; i += 256) {
        a.attended_to[(uint64_t)row * a.attended_words + i] = attended[i];
    }
}
