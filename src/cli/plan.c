/* `llcuda plan`: the memory that a model will take, and on which device, before anything is loaded:
 * the same pure functions that the engine and the devices size themselves with. */
#include <stdio.h>

#include "cli/evaluator.h"
#include "engine/sizing.h"
#include "format/model_source.h"
#include "model/model.h"

struct memory_plan {
    struct model_info info;
    struct sizing sizing;
    uint64_t kv_bytes_per_token;
    uint64_t free_bytes; /* of the machine now, 0 when unknown */
    uint32_t sampler_workers, step_rows;
    uint32_t batch;
    uint32_t layer_count;
    struct device_part parts[DEVICE_PARTS_MAX];
    uint32_t part_count;
    bool fits;
    uint32_t gpu_layers_fit; /* of a GPU that is asked for more than it has */
};

static const char *const kind_keys[DEVICE_MEMORY_KIND_COUNT] = {
    [DEVICE_MEMORY_WEIGHTS] = "weight_bytes",
    [DEVICE_MEMORY_CACHE] = "kv_bytes",
    [DEVICE_MEMORY_WORKSPACE] = "workspace_bytes",
    [DEVICE_MEMORY_STEP] = "step_bytes",
};
static const char *const kind_names[DEVICE_MEMORY_KIND_COUNT] = {
    [DEVICE_MEMORY_WEIGHTS] = "weights",
    [DEVICE_MEMORY_CACHE] = "key-value cache",
    [DEVICE_MEMORY_WORKSPACE] = "workspace",
    [DEVICE_MEMORY_STEP] = "step data, logits",
};

static llcuda_status open_model(const struct options *options, struct model_source **source,
                                struct llcuda_error *error)
{
    if (options->argument_count) {
        return model_source_open(options->arguments[0], false, source, error);
    }
    return model_source_open_memory(builtin_model_data(), builtin_model_bytes(), source, error);
}

static void ask_device(struct device *device, struct memory_plan *memory)
{
    struct device_info info = {0};
    device_describe(device, &info);
    memory->sampler_workers = sizing_workers(device);
    memory->free_bytes = info.memory_free_bytes;
    memory->step_rows = info.step_rows;
}

static bool is_gpu(const struct device_part *part)
{
    return strcmp(part->kind, "cpu") != 0;
}

/* How many layers `auto` would give the GPU. */
static llcuda_status find_fitting(struct options *options, const struct plan *plan,
                                  const struct device_model_options *model_options,
                                  struct memory_plan *memory, struct llcuda_error *error)
{
    static const int32_t automatic = LLCUDA_GPU_LAYERS_AUTO;
    struct device_part parts[DEVICE_PARTS_MAX];
    struct device *device = NULL;
    uint32_t count = 0;
    llcuda_status status = evaluator_open_device_sharing(options, &automatic, &device, error);
    if (!status) {
        status = device_place(device, plan, model_options, parts, &count, error);
    }
    if (!status) {
        const struct device_part *last = &parts[count - 1];
        memory->gpu_layers_fit = is_gpu(last) ? last->layer_end - last->layer_begin : 0;
    }
    device_close(device);
    return status;
}

/* What goes where, with what the engine would tell the device. */
static llcuda_status place(struct options *options, struct device *device, const struct plan *plan,
                           enum dtype kv_dtype, struct memory_plan *memory,
                           struct llcuda_error *error)
{
    const struct device_model_options model_options = {
        .kv_block_count = memory->sizing.kv_block_count,
        .kv_dtype = kv_dtype,
        .rows_max = memory->sizing.rows_max,
        .logits_rows_max = memory->sizing.logits_rows_max,
    };
    llcuda_status status =
        device_place(device, plan, &model_options, memory->parts, &memory->part_count, error);
    if (status) {
        return status;
    }
    const struct device_part *last = &memory->parts[memory->part_count - 1];
    memory->layer_count = plan->layer_count;
    memory->gpu_layers_fit = is_gpu(last) ? last->layer_end - last->layer_begin : 0;
    memory->fits = true;
    for (uint32_t i = 0; i < memory->part_count && !status; i++) {
        if (device_part_exceeds(&memory->parts[i])) {
            memory->fits = false;
            status = is_gpu(&memory->parts[i])
                         ? find_fitting(options, plan, &model_options, memory, error)
                         : LLCUDA_OK;
        }
    }
    return status;
}

static llcuda_status make_plan(struct options *options, struct memory_plan *memory,
                               struct llcuda_error *error)
{
    struct model_source *source = NULL;
    struct plan *plan = NULL;
    struct device *device = NULL;
    llcuda_engine_options engine_options;
    enum dtype kv_dtype = DTYPE_F16;
    llcuda_engine_options_init(&engine_options, sizeof engine_options);
    llcuda_status status = open_model(options, &source, error);
    if (!status && !cache_type_find(option_text(options, OPTION_CACHE_TYPE), NULL, &kv_dtype)) {
        status = error_set(error, LLCUDA_INVALID_ARGUMENT,
                           "--cache-type is f16, bf16, f32, q8_0 or fp8, not '%s'",
                           option_text(options, OPTION_CACHE_TYPE));
    }
    if (!status) {
        status = model_plan_build(source, &plan, &memory->info, error);
    }
    if (!status) {
        status = evaluator_open_device(options, &device, error);
    }
    if (!status) {
        ask_device(device, memory);
        uint64_t block_bytes = device_kv_block_bytes(plan, kv_dtype);
        uint32_t natural = plan->context_length < 8192 ? plan->context_length : 8192;
        uint32_t context = (uint32_t)option_integer(options, OPTION_CONTEXT, natural);
        uint64_t blocks = ((uint64_t)context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
        memory->batch = (uint32_t)option_integer(options, OPTION_BATCH_SIZE, 1);
        memory->kv_bytes_per_token = block_bytes / KV_BLOCK_TOKENS;
        engine_options.context_length = context;
        engine_options.running_max = memory->batch;
        engine_options.kv_bytes = blocks * memory->batch * block_bytes;
        struct sizing_input input = {
            .options = &engine_options,
            .kv_block_bytes = block_bytes,
            .weight_bytes = memory->info.weight_bytes,
            .model_context_length = plan->context_length,
            .vocabulary_size = plan->vocabulary_size,
            .memory_free_bytes = memory->free_bytes,
            .sampler_workers = memory->sampler_workers,
            .step_rows = memory->step_rows,
        };
        status = sizing_compute(&input, &memory->sizing, error);
        if (!status && memory->sizing.kv_block_count < blocks * memory->batch) {
            status = error_set(error, LLCUDA_LIMIT,
                               "%u requests of %u positions take %llu positions of cache, and a "
                               "cache has at most %llu: use a smaller --batch or --ctx",
                               memory->batch, context,
                               (unsigned long long)(blocks * memory->batch * KV_BLOCK_TOKENS),
                               (unsigned long long)memory->sizing.kv_block_count * KV_BLOCK_TOKENS);
        }
    }
    if (!status) {
        status = place(options, device, plan, kv_dtype, memory, error);
    }
    device_close(device);
    plan_destroy(plan);
    model_source_close(source);
    return status;
}

static void write_part_json(const struct device_part *part, struct json_writer *writer)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"layer_begin", part->layer_begin},         {"layer_end", part->layer_end},
        {"reserve_bytes", part->reserve_bytes},     {"total_bytes", device_part_bytes(part)},
        {"available_bytes", part->available_bytes},
    };
    json_begin_object(writer);
    json_key(writer, "kind");
    json_write_string(writer, part->kind);
    json_key(writer, "name");
    json_write_string(writer, part->name);
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        json_key(writer, kind_keys[kind]);
        json_write_unsigned(writer, part->bytes[kind]);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_key(writer, rows[i].key);
        json_write_unsigned(writer, rows[i].value);
    }
    json_key(writer, "gives_logits");
    json_write_bool(writer, part->gives_logits);
    json_key(writer, "is_limited");
    json_write_bool(writer, part->is_limited);
    json_key(writer, "fits");
    json_write_bool(writer, !device_part_exceeds(part));
    json_end_object(writer);
}

static void write_json(const struct memory_plan *memory, struct buffer *out)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"weight_bytes", memory->info.weight_bytes},
        {"kv_bytes_per_token", memory->kv_bytes_per_token},
        {"kv_bytes", memory->sizing.kv_bytes},
        {"kv_blocks", memory->sizing.kv_block_count},
        {"logits_bytes", memory->sizing.logits_bytes},
        {"host_bytes", memory->sizing.host_bytes},
        {"total_bytes", memory->info.weight_bytes + memory->sizing.total_bytes},
        {"free_bytes", memory->free_bytes},
        {"context", memory->sizing.context_length},
        {"batch", memory->batch},
        {"layers", memory->layer_count},
        {"gpu_layers_fit", memory->gpu_layers_fit},
    };
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_object(&writer);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_key(&writer, rows[i].key);
        json_write_unsigned(&writer, rows[i].value);
    }
    json_key(&writer, "fits");
    json_write_bool(&writer, memory->fits);
    json_key(&writer, "parts");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < memory->part_count; i++) {
        write_part_json(&memory->parts[i], &writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

static void write_row(struct buffer *out, const char *what, uint64_t bytes, const char *note)
{
    buffer_printf(out, "%-22s %12.1f MiB%s%s\n", what, (double)bytes / 0x1p20, *note ? "  " : "",
                  note);
}

static void write_part(const struct memory_plan *memory, const struct device_part *part,
                       struct buffer *out)
{
    char note[96];
    bool fits = !device_part_exceeds(part);
    buffer_printf(out, "\n%s: %s\n", part->kind, part->name);
    buffer_printf(out, "%-22s %u … %u of %u%s%s\n", "layers", part->layer_begin + 1,
                  part->layer_end, memory->layer_count, part->embeds ? ", embedding" : "",
                  part->gives_logits ? ", logits" : "");
    for (int kind = 0; kind < DEVICE_MEMORY_KIND_COUNT; kind++) {
        write_row(out, kind_names[kind], part->bytes[kind], "");
    }
    write_row(out, "total", device_part_bytes(part), "");
    if (part->reserve_bytes) {
        write_row(out, "driver, graphs", part->reserve_bytes, "left free for them");
    }
    if (fits || !is_gpu(part)) {
        snprintf(note, sizeof note, "%s", fits ? "it fits" : "it does not fit");
    } else if (memory->gpu_layers_fit == 0) {
        snprintf(note, sizeof note, "it does not fit, nor would one layer");
    } else {
        snprintf(note, sizeof note, "it does not fit; %u of %u layers would: --gpu-layers %u",
                 memory->gpu_layers_fit, memory->layer_count, memory->gpu_layers_fit);
    }
    write_row(out, part->is_limited ? "left of the limit" : "free for models",
              part->available_bytes, note);
}

static void write_text(const struct memory_plan *memory, struct buffer *out)
{
    char note[96];
    uint64_t total = memory->info.weight_bytes + memory->sizing.total_bytes;
    write_row(out, "weights", memory->info.weight_bytes, "");
    snprintf(note, sizeof note, "%u requests × %u positions × %.1f KiB", memory->batch,
             memory->sizing.context_length, (double)memory->kv_bytes_per_token / 1024);
    write_row(out, "key-value cache", memory->sizing.kv_bytes, note);
    write_row(out, "logits", memory->sizing.logits_bytes, "");
    write_row(out, "scheduler, sampler", memory->sizing.host_bytes, "");
    write_row(out, "total", total, "");
    if (memory->free_bytes) {
        write_row(out, "free now", memory->free_bytes,
                  total <= memory->free_bytes && memory->fits ? "it fits" : "it does not fit");
    }
    for (uint32_t i = 0; i < memory->part_count; i++) {
        if (memory->part_count > 1 || is_gpu(&memory->parts[i])) {
            write_part(memory, &memory->parts[i], out);
        }
    }
}

int command_plan(struct options *options)
{
    struct memory_plan memory = {0};
    struct llcuda_error error = {0};
    struct buffer out = {0};
    if (options->argument_count > 1) {
        return console_usage(options->command, "give one MODEL");
    }
    llcuda_status status = make_plan(options, &memory, &error);
    if (status) {
        return console_fail(options, &error);
    }
    if (option_flag(options, OPTION_JSON)) {
        write_json(&memory, &out);
    } else {
        write_text(&memory, &out);
    }
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written ? EXIT_DONE : EXIT_FAILED;
}
