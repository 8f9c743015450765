/* What follows a linear layer element by element. */
#define ELEMENT_THREADS 256

/* hidden = activation(gate) · up. Grid: x = ELEMENT_THREADS elements of a row, y = rows of the
 * bucket. Bound: 8 bytes read and 2 written an element, all in the second-level cache. */
extern "C" __global__ void KERNEL_BOUNDS(ELEMENT_THREADS, 1)
    activate(const struct activate_arguments a)
{
    release_successor();
    const uint32_t i = blockIdx.x * ELEMENT_THREADS + threadIdx.x;
    const uint32_t row = blockIdx.y;
    const uint32_t count = *a.count; /* written before anything that overlaps */
    wait_for_predecessor();
    if (row >= count || i >= a.width) {
        return;
    }
    const float *raw = a.raw + (uint64_t)row * a.width * (a.is_gated ? 2 : 1);
    const float up = raw[(a.is_gated ? a.width : 0) + i] + (a.up_bias ? a.up_bias[i] : 0.0f);
    float y;
    if (a.is_gated) {
        y = activated(raw[i] + (a.gate_bias ? a.gate_bias[i] : 0.0f), a.kind) * up;
    } else {
        y = activated(up, a.kind);
    }
    ((act_value *)a.hidden)[(uint64_t)row * a.width + i] = act_of_float(y);
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
