/* Owns what an engine tells about itself: constant facts, counters, and the text functions that
 * need no weights. Any thread. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "engine/engine.h"

/* ------------------------------------------------------------------ facts */

/* "q4_k, q6_k, f32", most bytes first. */
static void weight_types(const struct plan *plan, struct buffer *out)
{
    uint64_t bytes[DTYPE_COUNT] = {0};
    for (uint32_t i = 0; i < plan->weight_count; i++) {
        bytes[plan->weights[i].dtype] += plan->weights[i].bytes;
    }
    for (;;) {
        int best = -1;
        for (int i = 0; i < DTYPE_COUNT; i++) {
            if (bytes[i] > 0 && (best < 0 || bytes[i] > bytes[best])) {
                best = i;
            }
        }
        if (best < 0) {
            return;
        }
        bytes[best] = 0;
        buffer_printf(out, "%s%s", out->length > 0 ? ", " : "", dtype_info((enum dtype)best)->name);
    }
}

static struct text_view model_name(const struct model_source *source)
{
    struct text_view name = {0};
    const struct gguf *gguf = model_source_gguf(source);
    if (gguf && gguf_read_text(gguf, "general.name", &name, NULL) == LLCUDA_OK && name.length > 0) {
        return name;
    }
    struct text_view path = text_view_of(model_source_path(source));
    while (path.length > 1 && path.data[path.length - 1] == '/') {
        path.length--;
    }
    for (size_t i = path.length; i-- > 0;) {
        if (path.data[i] == '/') {
            return text_view_make(path.data + i + 1, path.length - i - 1);
        }
    }
    return path;
}

/* Keeps a text with the engine; remembers failure in *good. */
static const char *keep(struct llcuda_engine *engine, struct text_view text, bool *good)
{
    struct text_view copy = arena_copy_text(&engine->arena, text);
    *good = *good && copy.data;
    return copy.data ? copy.data : "";
}

static void device_facts(struct llcuda_engine *engine, bool *good)
{
    const struct loaded_model *model = &engine->model;
    llcuda_engine_info *info = &engine->info;
    struct device_info device;
    struct buffer types = {0};
    device_describe(model->device, &device);
    weight_types(model->plan, &types);
    info->weight_types = keep(engine, buffer_view(&types), good);
    buffer_deinit(&types);
    info->device = keep(engine, text_view_of(device.name), good);
    info->device_kind = keep(engine, text_view_of(device.kind), good);
    info->threads = device.thread_count;
    info->parameter_count = model->plan->parameter_count;
    info->kv_bytes = engine->sizing.kv_bytes;
    info->kv_bytes_per_token =
        device_kv_block_bytes(model->plan, model->kv_dtype) / KV_BLOCK_TOKENS;
    info->memory_bytes = atomic_load(&engine->memory_bytes);
    info->weight_bytes = model->info.weight_bytes;
    info->logits_bytes = engine->sizing.logits_bytes;
    info->host_bytes = engine->sizing.host_bytes;
    info->embeddings = device_gives_hidden(model->device);
    info->sequence_max = engine->sizing.sequence_max;
    info->context_length = engine->sizing.context_length;
    info->model_context_length = model->plan->context_length;
    info->embedding_length = model->plan->embedding_length;
    info->layer_count = model->plan->layer_count;
    info->gpu_layer_count = model->device_model ? device_gpu_layers(model->device_model) : 0;
    info->kv_block_count = engine->sizing.kv_block_count;
    info->running_max = engine->sizing.running_max;
    info->step_tokens = engine->sizing.rows_max;
}

llcuda_status engine_make_info(struct llcuda_engine *engine, double load_ms,
                               struct llcuda_error *error)
{
    const struct loaded_model *model = &engine->model;
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    bool good = true;
    engine->info = (llcuda_engine_info){
        .model_name = keep(engine, model_name(model->source), &good),
        .model_path = keep(engine, text_view_of(model_source_path(model->source)), &good),
        .architecture = keep(engine, model_source_architecture(model->source), &good),
        .weight_types = "",
        .device = "",
        .device_kind = "",
        .file_bytes = model_source_file_bytes(model->source),
        .vocabulary_size = model->vocabulary_size,
        .bos_token = vocabulary->bos_id,
        .eos_token = vocabulary->eos_id,
        .has_chat_template = model->template != NULL,
        .load_ms = load_ms,
    };
    if (model->plan) {
        device_facts(engine, &good);
    }
    return good ? LLCUDA_OK : error_no_memory(error, "facts about the model", 4096);
}

const llcuda_engine_info *llcuda_engine_get_info(const llcuda_engine *engine)
{
    return &engine->info;
}

/* ------------------------------------------------------------------ counters */

void llcuda_engine_get_stats(const llcuda_engine *engine, llcuda_stats *stats)
{
    llcuda_stats full = {.size = stats->size};
    if (engine->core_made) {
        uint64_t c[CORE_COUNTER_COUNT];
        core_read_stats(&engine->core, c);
        full.requests = (uint32_t)c[CORE_REQUESTS];
        full.sequences = (uint32_t)c[CORE_SEQUENCES];
        full.waiting = (uint32_t)c[CORE_WAITING];
        full.running = (uint32_t)c[CORE_RUNNING];
        full.paused = (uint32_t)c[CORE_PAUSED];
        full.blocks_total = engine->sizing.kv_block_count;
        full.blocks_used = (uint32_t)c[CORE_BLOCKS_USED];
        full.blocks_cached = (uint32_t)c[CORE_BLOCKS_CACHED];
        full.asleep = atomic_load(&engine->actual) == ENGINE_ASLEEP;
        full.requests_submitted = c[CORE_SUBMITTED];
        full.requests_finished = c[CORE_FINISHED];
        full.requests_cancelled = c[CORE_CANCELLED];
        full.requests_timed_out = c[CORE_TIMED_OUT];
        full.requests_failed = c[CORE_FAILED];
        full.requests_rejected = atomic_load(&engine->rejected);
        full.steps = c[CORE_STEPS];
        full.prompt_tokens = c[CORE_PROMPT_TOKENS];
        full.generated_tokens = c[CORE_GENERATED_TOKENS];
        full.prefix_lookup_tokens = c[CORE_LOOKUP_TOKENS];
        full.prefix_hit_tokens = c[CORE_HIT_TOKENS];
        full.preemptions = c[CORE_PREEMPTIONS];
        full.evictions = c[CORE_EVICTIONS];
        full.copied_blocks = c[CORE_COPIED_BLOCKS];
        full.step_ns = c[CORE_STEP_NS];
        full.host_ns = c[CORE_HOST_NS];
        full.step_rows_max = c[CORE_STEP_ROWS_MAX];
        full.weight_bytes_read = c[CORE_WEIGHT_BYTES_READ];
        full.tokens_drawn_device = c[CORE_DEVICE_DRAWS];
        full.tokens_drawn_host = c[CORE_HOST_DRAWS];
        full.steps_failed = c[CORE_STEPS_FAILED];
        full.device_failed = c[CORE_DEVICE_FAILED] != 0;
        full.memory_bytes = atomic_load(&engine->memory_bytes);
        full.memory_weight_bytes = atomic_load(&engine->memory_kind_bytes[DEVICE_MEMORY_WEIGHTS]);
        full.memory_kv_bytes = atomic_load(&engine->memory_kind_bytes[DEVICE_MEMORY_CACHE]);
        full.memory_workspace_bytes =
            atomic_load(&engine->memory_kind_bytes[DEVICE_MEMORY_WORKSPACE]);
        full.memory_step_bytes = atomic_load(&engine->memory_kind_bytes[DEVICE_MEMORY_STEP]);
        full.memory_limit_bytes = atomic_load(&engine->memory_limit_bytes);
    }
    size_t size = stats->size < sizeof full ? stats->size : sizeof full;
    memcpy(stats, &full, size);
}

/* ------------------------------------------------------------------ text and tokens */

static llcuda_status check_length(size_t bytes, const char *what, struct llcuda_error *error)
{
    if (bytes > LIMIT_PROMPT_BYTES) {
        return error_set(error, LLCUDA_LIMIT, "%s has %zu bytes, at most %llu are allowed", what,
                         bytes, (unsigned long long)LIMIT_PROMPT_BYTES);
    }
    return LLCUDA_OK;
}

llcuda_status llcuda_tokenize(const llcuda_engine *engine, const char *text, size_t text_bytes,
                              llcuda_tristate add_bos, bool special, uint32_t **tokens,
                              size_t *count, llcuda_error *error)
{
    const struct loaded_model *model = &engine->model;
    *tokens = NULL;
    *count = 0;
    llcuda_status status = check_length(text_bytes, "the text", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct token_ids ids = {0};
    struct tokenizer_encode_options encode = {
        .add_special = add_bos != LLCUDA_NO,
        .parse_special = special,
    };
    const struct vocabulary *vocabulary = tokenizer_vocabulary(model->tokenizer);
    if (add_bos == LLCUDA_YES && vocabulary->prefix_count == 0 &&
        vocabulary->bos_id != TOKEN_NONE && !token_ids_append(&ids, vocabulary->bos_id)) {
        status = error_no_memory(error, "token ids", sizeof(uint32_t));
    }
    if (status == LLCUDA_OK) {
        status = tokenizer_encode(model->tokenizer, text_view_make(text, text_bytes), &encode, NULL,
                                  &ids, error);
    }
    if (status != LLCUDA_OK) {
        token_ids_deinit(&ids);
        return status;
    }
    *tokens = ids.data;
    *count = ids.count;
    return LLCUDA_OK;
}

/* Hands a buffer's memory to a caller who frees it with llcuda_free. */
static llcuda_status hand_over(struct buffer *buffer, char **text, size_t *text_bytes,
                               struct llcuda_error *error)
{
    if (!buffer->data && !buffer_reserve(buffer, 1)) {
        return error_no_memory(error, "a text", 1);
    }
    buffer->data[buffer->length] = 0;
    *text = buffer->data;
    *text_bytes = buffer->length;
    return LLCUDA_OK;
}

llcuda_status llcuda_detokenize(const llcuda_engine *engine, const uint32_t *tokens, size_t count,
                                bool special, char **text, size_t *text_bytes, llcuda_error *error)
{
    *text = NULL;
    *text_bytes = 0;
    uint32_t known = tokenizer_token_count(engine->model.tokenizer);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] >= known) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "token %u does not exist: the vocabulary has %u", tokens[i], known);
        }
    }
    struct buffer out = {0};
    llcuda_status status =
        tokenizer_decode(engine->model.tokenizer, tokens, count, !special, &out, error);
    if (status == LLCUDA_OK) {
        status = hand_over(&out, text, text_bytes, error);
    }
    if (status != LLCUDA_OK) {
        buffer_deinit(&out);
    }
    return status;
}

llcuda_status llcuda_apply_template(const llcuda_engine *engine, const char *json,
                                    size_t json_bytes, char **text, size_t *text_bytes,
                                    llcuda_error *error)
{
    *text = NULL;
    *text_bytes = 0;
    llcuda_status status = check_length(json_bytes, "the messages", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct buffer out = {0};
    status = loaded_model_render(&engine->model, text_view_make(json, json_bytes), &out, error);
    if (status == LLCUDA_OK) {
        status = hand_over(&out, text, text_bytes, error);
    }
    if (status != LLCUDA_OK) {
        buffer_deinit(&out);
    }
    return status;
}
