/* Owns the defaults that depend on the machine and the model. No state.
 *
 * The cache's default: room for one request of the model's whole context, or for as many short ones
 * as may run at once, whichever is more, but no more than a quarter of the memory that is free
 * after the weights. Pages of the cache that are never used are never touched, so that a large
 * cache costs a small run nothing. */
#include "engine/sizing.h"

#define DEFAULT_RUNNING      64u
#define DEFAULT_QUEUE        1024u
#define SHORT_REQUEST_TOKENS 2048u
#define BLOCKS_MAX           (1u << 20)
#define UNKNOWN_MEMORY       (8ull << 30)
#define WORKERS_MAX          8u
#define PARALLEL_LOGITS_MIN  (1u << 16)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Bytes that the cache may take. */
static uint64_t cache_budget(const struct sizing_input *input)
{
    const llcuda_engine_options *options = input->options;
    if (options->kv_bytes > 0) {
        return options->kv_bytes;
    }
    if (options->memory_limit_bytes > 0) {
        return options->memory_limit_bytes / 8 * 7; /* the rest for logits and workspace */
    }
    uint64_t free_bytes = input->memory_free_bytes ? input->memory_free_bytes : UNKNOWN_MEMORY;
    free_bytes -= min_u64(free_bytes, input->weight_bytes);
    return free_bytes / 4;
}

/* Blocks of the cache, by budget and by need. */
static uint64_t choose_blocks(const struct sizing_input *input, uint32_t running_max)
{
    const llcuda_engine_options *options = input->options;
    uint64_t block_bytes = input->kv_block_bytes ? input->kv_block_bytes : 1;
    uint64_t blocks = min_u64(cache_budget(input) / block_bytes, BLOCKS_MAX);
    if (options->kv_bytes > 0) {
        return blocks;
    }
    uint64_t context =
        options->context_length ? options->context_length : input->model_context_length;
    uint64_t each = min_u64(context, SHORT_REQUEST_TOKENS);
    uint64_t one = kv_blocks_for(context);
    uint64_t many = (uint64_t)running_max * kv_blocks_for(each);
    uint64_t wanted = one > many ? one : many;
    if (options->context_length > 0 && options->memory_limit_bytes == 0 && blocks < one) {
        return one; /* asked for by name: the allocation will tell */
    }
    return min_u64(blocks, wanted);
}

llcuda_status sizing_compute(const struct sizing_input *input, struct sizing *sizing,
                             struct llcuda_error *error)
{
    const llcuda_engine_options *options = input->options;
    uint32_t running = options->running_max ? options->running_max : DEFAULT_RUNNING;
    uint32_t rows = options->step_tokens ? options->step_tokens : input->step_rows;
    if (rows < running + SCHEDULER_PREFILL_ROWS_MIN) {
        rows = running + SCHEDULER_PREFILL_ROWS_MIN;
    }
    uint32_t sequences = options->queue_max ? options->queue_max : DEFAULT_QUEUE;
    uint64_t blocks = choose_blocks(input, running);
    uint64_t positions = blocks * KV_BLOCK_TOKENS;
    if (options->context_length > 0 && positions < options->context_length) {
        return error_set(
            error, LLCUDA_LIMIT,
            "a context of %u positions takes %llu bytes of cache, but only %llu are allowed: "
            "use a smaller --ctx, or allow more memory",
            options->context_length,
            (unsigned long long)(kv_blocks_for(options->context_length) * input->kv_block_bytes),
            (unsigned long long)(blocks * input->kv_block_bytes));
    }
    if (blocks == 0) {
        return error_set(error, LLCUDA_LIMIT,
                         "a block of the cache takes %llu bytes, more than is left of the device's "
                         "memory: use a smaller model, --gpu-layers auto or --device cpu, or allow "
                         "more memory",
                         (unsigned long long)input->kv_block_bytes);
    }
    uint64_t context =
        options->context_length ? options->context_length : input->model_context_length;
    *sizing = (struct sizing){
        .context_length = (uint32_t)min_u64(context, positions),
        .kv_block_count = (uint32_t)blocks,
        .kv_bytes = blocks * input->kv_block_bytes,
        .running_max = running,
        .rows_max = rows,
        .logits_rows_max = running,
        .sequence_max = sequences < running ? running : sequences,
        .logits_bytes = (uint64_t)running * input->vocabulary_size * sizeof(float),
    };
    struct core_options core;
    sizing_core_options(input, sizing, &core);
    sizing->host_bytes = core_bytes(&core);
    sizing->total_bytes = sizing->kv_bytes + sizing->logits_bytes + sizing->host_bytes;
    return LLCUDA_OK;
}

void sizing_core_options(const struct sizing_input *input, const struct sizing *sizing,
                         struct core_options *core)
{
    *core = (struct core_options){
        .scheduler =
            {
                .block_count = sizing->kv_block_count,
                .running_max = sizing->running_max,
                .rows_max = sizing->rows_max,
                .sequence_max = sizing->sequence_max,
                .context_max = sizing->context_length,
                .throughput_bias = input->options->throughput_bias,
                .prefix_cache = input->options->prefix_cache,
            },
        .vocabulary_size = input->vocabulary_size,
        .piece_bytes_max = input->piece_bytes_max,
        .sampler_workers = input->sampler_workers,
        .parallel_min = PARALLEL_LOGITS_MIN,
    };
}

uint32_t sizing_workers(const struct device *device)
{
    struct device_info info;
    device_describe(device, &info);
    if (!device->interface->parallel) {
        return 1;
    }
    return info.thread_count < WORKERS_MAX ? info.thread_count : WORKERS_MAX;
}
