/* What follows a linear layer element by element. */
#define ELEMENT_THREADS 256

/* hidden = activation(gate) · up. Grid: x = ELEMENT_THREADS units of a row, y = rows of the bucket.
 * Bound: 8 bytes read and 2 written an element, in the second-level cache as long as they fit. */
extern "C" __global__ void KERNEL_BOUNDS(ELEMENT_THREADS, 1)
    activate(const struct activate_arguments a)
{
    release_successor();
    const uint32_t i = (blockIdx.x * ELEMENT_THREADS + threadIdx.x) * UNIT_ELEMENTS;
    const uint32_t row = blockIdx.y;
    const uint32_t count = *a.count; /* written before anything that overlaps */
    wait_for_predecessor();
    if (row >= count || i >= a.width) {
        return;
    }
    const uint32_t left = a.width - i;
    const uint32_t here = left < UNIT_ELEMENTS ? left : UNIT_ELEMENTS;
    const float *raw = a.raw + (uint64_t)row * a.width * (a.is_gated ? 2 : 1) + i;
    float gate[UNIT_ELEMENTS], up[UNIT_ELEMENTS];
    unit_load(up, raw + (a.is_gated ? a.width : 0), a.width, here);
    if (a.is_gated) {
        unit_load(gate, raw, a.width, here);
    }
#pragma unroll
    for (uint32_t e = 0; e < UNIT_ELEMENTS; e++) {
        const uint32_t at = i + (e < here ? e : 0);
        up[e] += a.up_bias ? a.up_bias[at] : 0.0f;
        if (a.is_gated) {
            up[e] *= activated(gate[e] + (a.gate_bias ? a.gate_bias[at] : 0.0f), a.kind);
        } else {
            up[e] = activated(up[e], a.kind);
        }
    }
    unit_store<ACT_TYPE>((act_value *)a.hidden + (uint64_t)row * a.width + i, up, a.width, here);
}

__device__ __forceinline__ float soft_capped(float x, float cap)
{
    return cap != 0.0f ? cap * tanhf(x / cap) : x;
}

/* logits = cap(scale · (logits + bias)), in place. Grid and bound as above. */
extern "C" __global__ void KERNEL_BOUNDS(ELEMENT_THREADS, 1)
    logits_finish(const struct logits_finish_arguments a)
{
    release_successor();
    const uint32_t i = blockIdx.x * ELEMENT_THREADS + threadIdx.x;
    const uint32_t row = blockIdx.y;
    const uint32_t count = *a.count; /* written before anything that overlaps */
    wait_for_predecessor();
    if (row >= count || i >= a.width) {
        return;
    }
    float *at = a.logits + (uint64_t)row * a.width + i;
    *at = soft_capped((*at + (a.bias ? a.bias[i] : 0.0f)) * a.scale, a.soft_cap);
}
