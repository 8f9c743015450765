/* Owns the way from a GGUF source to items: they are its tensors under their own names, and its
 * metadata but for what describes the types of weights. */
#include "convert/items.h"

#include <stdio.h>
#include <stdlib.h>

static uint32_t read_size(const struct model_source *source, const char *key, uint32_t fallback)
{
    uint32_t value;
    return model_source_u32(source, key, NULL, 1, 1u << 20, &value, NULL) ? fallback : value;
}

static llcuda_status items_gguf(const struct model_source *source, struct convert_items *items,
                                struct llcuda_error *error)
{
    uint32_t heads = read_size(source, "attention.head_count", 1);
    uint32_t kv_heads = read_size(source, "attention.head_count_kv", heads);
    items->model.layer_count = read_size(source, "block_count", 1);
    items->model.group_size = heads / kv_heads;
    for (uint64_t i = 0; i < items->count; i++) {
        const struct tensor *tensor = model_source_tensor_at(source, i);
        struct convert_item *item = &items->items[i];
        if (tensor->name.length >= sizeof item->name) {
            return error_set(error, LLCUDA_LIMIT, "the name of tensor %llu has %zu bytes",
                             (unsigned long long)i, tensor->name.length);
        }
        snprintf(item->name, sizeof item->name, "%.*s", TEXT_ARGUMENTS(tensor->name));
        item->tensor = tensor;
    }
    return LLCUDA_OK;
}

llcuda_status convert_items_make(const struct model_source *source, struct convert_items *items,
                                 struct llcuda_error *error)
{
    *items = (struct convert_items){.count = model_source_tensor_count(source)};
    if (items->count == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the model holds no tensors");
    }
    items->items = calloc(items->count + 1, sizeof *items->items);
    if (!items->items) {
        return error_no_memory(error, "a tensor table", items->count * sizeof *items->items);
    }
    llcuda_status status = model_source_container(source) == MODEL_GGUF
                               ? items_gguf(source, items, error)
                               : convert_items_hf(source, items, error);
    items->model.tied = true;
    for (uint64_t i = 0; i < items->count; i++) {
        items->model.tied = items->model.tied && strcmp(items->items[i].name, "output.weight") != 0;
    }
    return status;
}

void convert_items_deinit(struct convert_items *items)
{
    for (uint64_t i = 0; items->merges && i < items->merge_count; i++) {
        free(items->merges[i].parts);
    }
    free(items->merges);
    free(items->items);
    free(items->divisors);
    *items = (struct convert_items){0};
}

static bool describes_types(struct text_view key)
{
    static const char prefix[] = "quantize.";
    return text_view_is(key, "general.file_type") ||
           text_view_is(key, "general.quantization_version") ||
           text_view_is(key, "general.alignment") ||
           (key.length >= sizeof prefix - 1 && memcmp(key.data, prefix, sizeof prefix - 1) == 0);
}

llcuda_status convert_metadata(const struct model_source *source, struct gguf_writer *writer,
                               struct llcuda_error *error)
{
    const struct gguf *gguf = model_source_gguf(source);
    if (!gguf) {
        return convert_metadata_hf(source, writer, error);
    }
    uint64_t parts;
    if (gguf_read_u64(gguf, "split.count", 0, UINT32_MAX, &parts, NULL) == LLCUDA_OK && parts > 1) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the file is one of %llu parts of a model; merge them first",
                         (unsigned long long)parts);
    }
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        if (!describes_types(value->key)) {
            gguf_writer_add_value(writer, value);
        }
    }
    return LLCUDA_OK;
}
