/* Owns the sticky status of a build and the set of tensors that it has used. Invariants: after the
 * first failure nothing is read or added; a tensor enters the plan only with the shape that the
 * configuration demands. Used by one thread for the length of model_plan_build. */
#include "model/builder.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/random.h"

#define NAME_BYTES 192

llcuda_status model_fail(struct model_builder *builder, llcuda_status status, const char *format,
                         ...)
{
    if (builder->status == LLCUDA_OK) {
        char message[LLCUDA_ERROR_MESSAGE_BYTES];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, sizeof message, format, arguments);
        va_end(arguments);
        builder->status = error_set(builder->error, status, "%s", message);
    }
    return builder->status;
}

bool model_is_gguf(const struct model_builder *builder)
{
    return model_source_container(builder->source) == MODEL_GGUF;
}

/* A key of config.json with the builder's prefix, in `buffer`; NULL stays NULL. */
static const char *prefixed(const struct model_builder *builder, const char *hf_key,
                            char buffer[NAME_BYTES])
{
    if (!hf_key || builder->hf_config_prefix[0] == '\0') {
        return hf_key;
    }
    snprintf(buffer, NAME_BYTES, "%s%s", builder->hf_config_prefix, hf_key);
    return buffer;
}

/* Records what a read gave. True when there is a value. */
static bool have_value(struct model_builder *builder, llcuda_status status)
{
    if (status != LLCUDA_OK && status != LLCUDA_NOT_FOUND) {
        builder->status = status;
    }
    return status == LLCUDA_OK;
}

static void fail_missing(struct model_builder *builder, const char *gguf_key, const char *hf_key)
{
    bool gguf = model_is_gguf(builder);
    const char *key = gguf ? gguf_key : hf_key;
    struct text_view architecture = model_source_architecture(builder->source);
    model_fail(builder, LLCUDA_BAD_FORMAT, "configuration value '%.*s%s%s' is missing",
               gguf ? (int)architecture.length : 0, gguf ? architecture.data : "", gguf ? "." : "",
               key ? key : "(none)");
}

/* Reads a u32; false when it is absent or a failure is recorded. */
static bool read_u32(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                     uint32_t minimum, uint32_t maximum, uint32_t *out)
{
    char buffer[NAME_BYTES];
    return builder->status == LLCUDA_OK &&
           have_value(builder,
                      model_source_u32(builder->source, gguf_key, prefixed(builder, hf_key, buffer),
                                       minimum, maximum, out, builder->error));
}

static bool read_number(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                        double minimum, double maximum, double *out)
{
    char buffer[NAME_BYTES];
    return builder->status == LLCUDA_OK &&
           have_value(builder, model_source_number(builder->source, gguf_key,
                                                   prefixed(builder, hf_key, buffer), minimum,
                                                   maximum, out, builder->error));
}

uint32_t model_read_u32(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                        uint32_t minimum, uint32_t maximum)
{
    uint32_t value = minimum;
    if (!read_u32(builder, gguf_key, hf_key, minimum, maximum, &value) &&
        builder->status == LLCUDA_OK) {
        fail_missing(builder, gguf_key, hf_key);
    }
    return value;
}

uint32_t model_read_u32_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                           uint32_t minimum, uint32_t maximum, uint32_t fallback)
{
    uint32_t value;
    return read_u32(builder, gguf_key, hf_key, minimum, maximum, &value) ? value : fallback;
}

double model_read_number(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                         double minimum, double maximum)
{
    double value = minimum;
    if (!read_number(builder, gguf_key, hf_key, minimum, maximum, &value) &&
        builder->status == LLCUDA_OK) {
        fail_missing(builder, gguf_key, hf_key);
    }
    return value;
}

double model_read_number_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                            double minimum, double maximum, double fallback)
{
    double value;
    return read_number(builder, gguf_key, hf_key, minimum, maximum, &value) ? value : fallback;
}

bool model_read_bool_or(struct model_builder *builder, const char *gguf_key, const char *hf_key,
                        bool fallback)
{
    char buffer[NAME_BYTES];
    bool value;
    if (builder->status == LLCUDA_OK &&
        have_value(builder,
                   model_source_bool(builder->source, gguf_key, prefixed(builder, hf_key, buffer),
                                     &value, builder->error))) {
        return value;
    }
    return fallback;
}

struct text_view model_read_text(struct model_builder *builder, const char *gguf_key,
                                 const char *hf_key)
{
    char buffer[NAME_BYTES];
    struct text_view value;
    if (builder->status == LLCUDA_OK &&
        have_value(builder,
                   model_source_text(builder->source, gguf_key, prefixed(builder, hf_key, buffer),
                                     &value, builder->error))) {
        return value;
    }
    return (struct text_view){NULL, 0};
}

const struct json_value *model_config_value(const struct model_builder *builder, const char *path)
{
    char whole[NAME_BYTES];
    snprintf(whole, sizeof whole, "%s%s", builder->hf_config_prefix, path);
    const struct json_value *value = model_source_config(builder->source);
    for (char *part = whole; value && part;) {
        char *dot = strchr(part, '.');
        if (dot) {
            *dot = '\0';
        }
        value = json_member(value, part);
        part = dot ? dot + 1 : NULL;
    }
    return json_is(value, JSON_NULL) ? NULL : value;
}

/* The name of a tensor in the container at hand, for searching and for messages. */
static void tensor_name(const struct model_builder *builder, uint32_t layer, const char *gguf_name,
                        const char *hf_name, char name[NAME_BYTES])
{
    if (model_is_gguf(builder)) {
        if (layer == MODEL_NO_LAYER) {
            snprintf(name, NAME_BYTES, "%s", gguf_name);
        } else {
            snprintf(name, NAME_BYTES, "blk.%u.%s", layer, gguf_name);
        }
    } else if (hf_name[0] == '/') {
        snprintf(name, NAME_BYTES, "%s", hf_name + 1);
    } else if (layer == MODEL_NO_LAYER) {
        snprintf(name, NAME_BYTES, "%s%s", builder->hf_tensor_prefix, hf_name);
    } else {
        snprintf(name, NAME_BYTES, "%slayers.%u.%s", builder->hf_tensor_prefix, layer, hf_name);
    }
}

const struct tensor *model_find(struct model_builder *builder, uint32_t layer,
                                const char *gguf_name, const char *hf_name)
{
    const char *wanted = model_is_gguf(builder) ? gguf_name : hf_name;
    if (builder->status != LLCUDA_OK || !wanted) {
        return NULL;
    }
    char name[NAME_BYTES];
    tensor_name(builder, layer, gguf_name, hf_name, name);
    return model_source_find(builder->source, text_view_of(name));
}

/* The slot of a tensor in the set: its own, or the free one where it belongs. */
static const struct tensor **bound_slot(struct model_builder *builder, const struct tensor *tensor)
{
    size_t slot = (size_t)random_mix((uint64_t)(uintptr_t)tensor) & builder->bound_mask;
    while (builder->bound[slot] && builder->bound[slot] != tensor) {
        slot = (slot + 1) & builder->bound_mask;
    }
    return &builder->bound[slot];
}

/* "[64, 128]" */
static void shape_text(uint32_t rank, const uint64_t *shape, char *out, size_t bytes)
{
    size_t length = (size_t)snprintf(out, bytes, "[");
    for (uint32_t i = 0; i < rank && length < bytes; i++) {
        length += (size_t)snprintf(out + length, bytes - length, "%s%llu", i ? ", " : "",
                                   (unsigned long long)shape[i]);
    }
    if (length < bytes) {
        snprintf(out + length, bytes - length, "]");
    }
}

void model_mark_bound(struct model_builder *builder, const struct tensor *tensor)
{
    *bound_slot(builder, tensor) = tensor;
}

const struct tensor *model_demand(struct model_builder *builder, uint32_t layer,
                                  const char *gguf_name, const char *hf_name, uint64_t rows,
                                  uint64_t columns)
{
    const uint64_t wanted[2] = {rows, columns};
    return model_demand_shape(builder, layer, gguf_name, hf_name, columns ? 2 : 1, wanted);
}

const struct tensor *model_demand_shape(struct model_builder *builder, uint32_t layer,
                                        const char *gguf_name, const char *hf_name, uint32_t rank,
                                        const uint64_t *wanted)
{
    if (builder->status != LLCUDA_OK) {
        return NULL;
    }
    const struct tensor *tensor = model_find(builder, layer, gguf_name, hf_name);
    char name[NAME_BYTES];
    tensor_name(builder, layer, gguf_name ? gguf_name : "?", hf_name ? hf_name : "?", name);
    char wanted_text[112];
    shape_text(rank, wanted, wanted_text, sizeof wanted_text);
    if (!tensor) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%s' %s is missing", name, wanted_text);
        return NULL;
    }
    if (tensor->rank != rank || memcmp(tensor->shape, wanted, rank * sizeof *wanted) != 0) {
        char found_text[112];
        shape_text(tensor->rank, tensor->shape, found_text, sizeof found_text);
        model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%s' is %s, wanted is %s", name, found_text,
                   wanted_text);
        return NULL;
    }
    model_mark_bound(builder, tensor);
    return tensor;
}

/* The factors of a weight of 8-bit floats: "NAME_scale_inv" by blocks, "NAME_scale" otherwise; both
 * are multiplied with, whatever their name. */
static void bind_scales(struct model_builder *builder, const struct tensor *tensor, uint32_t index)
{
    static const char *const endings[] = {"_scale_inv", "_scale"};
    uint64_t block[2] = {0, 0};
    const struct json_value *sizes =
        model_config_value(builder, "quantization_config.weight_block_size");
    uint32_t count = 0;
    if (json_is(sizes, JSON_ARRAY) && sizes->count == 2) {
        JSON_EACH(size, sizes)
        {
            int64_t value = 0;
            json_integer(size, 0, INT32_MAX, &value);
            block[count++] = (uint64_t)value;
        }
    }
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%.*s%s", TEXT_ARGUMENTS(tensor->name), endings[i]);
        const struct tensor *scales = model_source_find(builder->source, text_view_of(name));
        if (scales) {
            *bound_slot(builder, scales) = scales;
            llcuda_status status =
                plan_set_scales(builder->plan, index, scales, block, builder->error);
            builder->status = builder->status == LLCUDA_OK ? status : builder->status;
            return;
        }
    }
    model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%.*s' of 8-bit floats has no scales",
               TEXT_ARGUMENTS(tensor->name));
}

uint32_t model_bind(struct model_builder *builder, uint32_t layer, const char *gguf_name,
                    const char *hf_name, uint64_t rows, uint64_t columns)
{
    const struct tensor *tensor = model_demand(builder, layer, gguf_name, hf_name, rows, columns);
    uint32_t index = tensor ? plan_add_weight(builder->plan, tensor, 0, rows) : PLAN_NONE;
    if (index != PLAN_NONE && tensor->dtype == DTYPE_F8_E4M3) {
        bind_scales(builder, tensor, index);
    }
    return index;
}

uint32_t model_bind_vector(struct model_builder *builder, enum model_presence presence,
                           uint32_t layer, const char *gguf_name, const char *hf_name,
                           uint64_t elements)
{
    if (presence == MODEL_ABSENT ||
        (presence == MODEL_OPTIONAL && !model_find(builder, layer, gguf_name, hf_name))) {
        return PLAN_NONE;
    }
    return model_bind(builder, layer, gguf_name, hf_name, elements, 0);
}

struct plan_op *model_add_op(struct model_builder *builder, enum plan_op_kind kind, uint32_t layer)
{
    if (builder->status != LLCUDA_OK) {
        return NULL;
    }
    struct plan_op *op = plan_add_op(builder->plan, kind, layer);
    if (!op) {
        builder->status = error_no_memory(builder->error, "the plan of a model", sizeof *op);
    }
    return op;
}

static bool ends_with(struct text_view text, const char *end)
{
    size_t length = strlen(end);
    return text.length >= length && memcmp(text.data + (text.length - length), end, length) == 0;
}

static bool begins_with(struct text_view text, const char *begin)
{
    size_t length = strlen(begin);
    return text.length >= length && memcmp(text.data, begin, length) == 0;
}

/* Tables that old checkpoints carry along and that follow from the configuration, and the output
 * matrix, which is there but void when the embedding takes its place. Of a model with several
 * parts (a vision tower) only those under the builder's prefix concern us. */
static bool may_be_unused(const struct model_builder *builder, struct text_view name)
{
    if (!model_is_gguf(builder) && builder->hf_config_prefix[0] != '\0' &&
        !begins_with(name, builder->hf_tensor_prefix)) {
        return true;
    }
    /* Activations and caches stay in 16 bits, which need no scale. */
    if (ends_with(name, ".input_scale") || ends_with(name, ".k_scale") ||
        ends_with(name, ".v_scale")) {
        return true;
    }
    return ends_with(name, "rotary_emb.inv_freq") || ends_with(name, "attn_rot_embd.weight") ||
           ends_with(name, "lm_head.weight");
}

llcuda_status model_check_all_bound(struct model_builder *builder)
{
    uint64_t count = model_source_tensor_count(builder->source);
    for (uint64_t i = 0; builder->status == LLCUDA_OK && i < count; i++) {
        const struct tensor *tensor = model_source_tensor_at(builder->source, i);
        if (!*bound_slot(builder, tensor) && !may_be_unused(builder, tensor->name)) {
            model_fail(builder, LLCUDA_UNSUPPORTED,
                       "tensor '%.*s' has no place in this architecture; without it the model "
                       "would give wrong text",
                       TEXT_ARGUMENTS(tensor->name));
        }
    }
    return builder->status;
}
