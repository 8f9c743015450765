/* `llcuda plan`: the memory that a model will take, before anything is loaded: the same pure
 * function that the engine sizes itself with. */
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
    uint32_t sampler_workers;
    uint32_t batch;
};

static llcuda_status open_model(const struct options *options, struct model_source **source,
                                struct llcuda_error *error)
{
    if (options->argument_count) {
        return model_source_open(options->arguments[0], true, source, error);
    }
    return model_source_open_memory(builtin_model_data(), builtin_model_bytes(), source, error);
}

static llcuda_status ask_device(struct options *options, struct memory_plan *memory,
                                struct llcuda_error *error)
{
    struct device *device = NULL;
    struct device_info info = {0};
    llcuda_status status = evaluator_open_device(options, &device, error);
    if (status == LLCUDA_OK) {
        device_describe(device, &info);
        memory->sampler_workers = sizing_workers(device);
        memory->free_bytes = info.memory_free_bytes;
        device_close(device);
    }
    return status;
}

static llcuda_status make_plan(struct options *options, struct memory_plan *memory,
                               struct llcuda_error *error)
{
    struct model_source *source = NULL;
    struct plan *plan = NULL;
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
        status = ask_device(options, memory, error);
    }
    if (!status) {
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
        };
        status = sizing_compute(&input, &memory->sizing, error);
    }
    plan_destroy(plan);
    model_source_close(source);
    return status;
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
    };
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_object(&writer);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_key(&writer, rows[i].key);
        json_write_unsigned(&writer, rows[i].value);
    }
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

static void write_row(struct buffer *out, const char *what, uint64_t bytes, const char *note)
{
    buffer_printf(out, "%-22s %12.1f MiB  %s\n", what, (double)bytes / 0x1p20, note);
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
                  total <= memory->free_bytes ? "it fits" : "it does not fit");
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
