/* Owns the files of a Hugging Face folder that make a model: configuration and weight shards.
 * Invariants: tensor names are unique over all shards; every tensor of an index is in the shard
 * that the index names. Shards that no index entry names are not opened. Immutable after opening.
 */
#include "format/hf_folder.h"

#include <stdlib.h>

#include "base/limits.h"
#include "format/hf_index.h"

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME  "model.safetensors.index.json"

static llcuda_status join(const char *folder, const char *name, char **path,
                          struct llcuda_error *error)
{
    *path = file_path_join(folder, name);
    return *path ? LLCUDA_OK : error_no_memory(error, "a file name", strlen(folder));
}

static llcuda_status look(const char *folder, const char *name, bool *found,
                          struct llcuda_error *error)
{
    char *path;
    llcuda_status status = join(folder, name, &path, error);
    *found = path && file_exists(path);
    free(path);
    return status;
}

llcuda_status hf_folder_look(const char *folder, struct hf_folder_files *files,
                             struct llcuda_error *error)
{
    *files = (struct hf_folder_files){0};
    llcuda_status status = look(folder, "config.json", &files->config, error);
    if (!status) {
        status = look(folder, "generation_config.json", &files->generation, error);
    }
    if (!status) {
        status = look(folder, SINGLE_NAME, &files->single, error);
    }
    if (!status) {
        status = look(folder, INDEX_NAME, &files->index, error);
    }
    if (!status) {
        status = look(folder, "tokenizer.json", &files->tokenizer, error);
    }
    if (!status && !files->tokenizer) {
        status = look(folder, "tokenizer.model", &files->tokenizer, error);
    }
    return status;
}

static llcuda_status open_config(const char *folder, const char *name, struct hf_config *config,
                                 struct llcuda_error *error)
{
    char *path;
    llcuda_status status = join(folder, name, &path, error);
    if (!status) {
        status = hf_config_open(config, path, error);
    }
    free(path);
    return status;
}

static llcuda_status make_shards(struct hf_folder *model, uint32_t count,
                                 struct llcuda_error *error)
{
    model->shards = calloc(count, sizeof *model->shards);
    if (!model->shards) {
        return error_no_memory(error, "a list of weight files", count * sizeof *model->shards);
    }
    model->shard_count = count;
    return LLCUDA_OK;
}

static llcuda_status open_shard(struct hf_folder *model, uint32_t shard, const char *name,
                                bool header_only, struct llcuda_error *error)
{
    char *path;
    llcuda_status status = join(model->folder, name, &path, error);
    if (!status) {
        status = safetensors_open(path, header_only, &model->shards[shard], error);
    }
    free(path);
    return status;
}

static struct text_view name_of(const void *items, uint32_t index)
{
    const struct safetensors_tensor *const *tensors = items;
    return tensors[index]->tensor.name;
}

static void append(struct hf_folder *model, bool usable)
{
    for (uint32_t i = 0; i < model->shard_count; i++) {
        for (uint32_t k = 0; k < safetensors_count(model->shards[i]); k++) {
            const struct safetensors_tensor *tensor = safetensors_at(model->shards[i], k);
            if (tensor->type->usable == usable) {
                model->tensors[model->tensor_count++] = tensor;
            }
        }
    }
}

/* One list of all shards' tensors. */
static llcuda_status merge(struct hf_folder *model, struct llcuda_error *error)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < model->shard_count; i++) {
        count += safetensors_count(model->shards[i]);
        model->file_bytes += safetensors_file_bytes(model->shards[i]);
    }
    if (count > LIMIT_TENSOR_COUNT) {
        return error_set(error, LLCUDA_LIMIT, "%llu tensors are more than the limit of %u",
                         (unsigned long long)count, LIMIT_TENSOR_COUNT);
    }
    model->tensors = calloc((size_t)count + 1, sizeof *model->tensors);
    if (!model->tensors) {
        return error_no_memory(error, "a list of tensors", count * sizeof *model->tensors);
    }
    append(model, true);
    model->usable_count = model->tensor_count;
    append(model, false);
    uint32_t duplicate;
    llcuda_status status = name_index_init(&model->names, model->tensors, model->tensor_count,
                                           name_of, &duplicate, error);
    if (!status && duplicate != ORDER_NONE) {
        struct text_view name = model->tensors[duplicate]->tensor.name;
        status = error_set(error, LLCUDA_BAD_FORMAT, "the tensor '%.*s' is in two weight files",
                           TEXT_ARGUMENTS(name_clip(name)));
    }
    return status;
}

struct map_check {
    const struct hf_folder *model;
    const struct hf_index *index;
};

static llcuda_status check_entry(void *context, struct text_view name, uint32_t file,
                                 uint64_t offset, struct llcuda_error *error)
{
    const struct map_check *check = context;
    if (!safetensors_find(check->model->shards[file], name)) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, offset,
                            INDEX_NAME " says at byte %llu that the tensor '%.*s' is in '%s', but "
                                       "it is not",
                            (unsigned long long)offset, TEXT_ARGUMENTS(name_clip(name)),
                            check->index->files[file].data);
    }
    return LLCUDA_OK;
}

static llcuda_status open_indexed(struct hf_folder *model, const struct hf_index *index,
                                  bool header_only, struct llcuda_error *error)
{
    llcuda_status status = make_shards(model, index->file_count, error);
    for (uint32_t i = 0; !status && i < index->file_count; i++) {
        status = open_shard(model, i, index->files[i].data, header_only, error);
        if (status == LLCUDA_NOT_FOUND) {
            error_set(error, status,
                      "the weight file '%s', which " INDEX_NAME " names, is missing in '%s'",
                      index->files[i].data, model->folder);
        }
    }
    struct map_check check = {model, index};
    return status ? status : hf_index_each(index, check_entry, &check, error);
}

/* With `weights`: *used tells whether the index names that file; without: it is always used. */
static llcuda_status open_index(struct hf_folder *model, const char *weights, bool header_only,
                                bool *used, struct llcuda_error *error)
{
    char *path;
    struct buffer text = {0};
    struct hf_index index = {0};
    *used = false;
    llcuda_status status = join(model->folder, INDEX_NAME, &path, error);
    if (!status) {
        status = file_read_all(path, LIMIT_SAFETENSORS_HEADER, &text, error);
    }
    if (!status) {
        status = hf_index_init(&index, buffer_view(&text), error);
        if (status) {
            error_prefix(error, status, "'%s'", path);
        }
    }
    if (!status) {
        *used = !weights || hf_index_find_file(&index, text_view_of(weights)) < index.file_count;
    }
    if (*used) {
        status = open_indexed(model, &index, header_only, error);
    }
    hf_index_deinit(&index);
    buffer_deinit(&text);
    free(path);
    return status;
}

static llcuda_status open_weights(struct hf_folder *model, const struct hf_folder_files *files,
                                  const char *weights, bool header_only, struct llcuda_error *error)
{
    bool single = weights || files->single;
    if (files->index && (weights || !single)) {
        bool used;
        llcuda_status status = open_index(model, weights, header_only, &used, error);
        if (status || used) {
            return status;
        }
    }
    if (!single) {
        return error_set(error, LLCUDA_NOT_FOUND,
                         "'%s' has a config.json, but neither " SINGLE_NAME " nor " INDEX_NAME
                         "; other weight formats must be converted to SafeTensors or GGUF",
                         model->folder);
    }
    llcuda_status status = make_shards(model, 1, error);
    return status ? status
                  : open_shard(model, 0, weights ? weights : SINGLE_NAME, header_only, error);
}

llcuda_status hf_folder_open_bare(struct hf_folder *model, const char *folder,
                                  struct llcuda_error *error)
{
    size_t bytes = strlen(folder) + 1;
    model->folder = malloc(bytes);
    if (!model->folder) {
        return error_no_memory(error, "a file name", bytes);
    }
    memcpy(model->folder, folder, bytes);
    return LLCUDA_OK;
}

llcuda_status hf_folder_open(struct hf_folder *model, const char *folder, const char *weights,
                             bool header_only, struct llcuda_error *error)
{
    *model = (struct hf_folder){0};
    struct hf_folder_files files;
    llcuda_status status = hf_folder_look(folder, &files, error);
    if (status) {
        return status;
    }
    if (!files.config) {
        return error_set(error, LLCUDA_NOT_FOUND, "'%s' has no config.json", folder);
    }
    status = hf_folder_open_bare(model, folder, error);
    if (status) {
        return status;
    }
    status = open_config(folder, "config.json", &model->config, error);
    if (!status && files.generation) {
        status = open_config(folder, "generation_config.json", &model->generation, error);
    }
    if (!status) {
        status = open_weights(model, &files, weights, header_only, error);
    }
    if (!status) {
        status = merge(model, error);
    }
    if (status) {
        hf_folder_close(model);
    }
    return status;
}

void hf_folder_close(struct hf_folder *model)
{
    name_index_deinit(&model->names);
    free(model->tensors);
    for (uint32_t i = 0; i < model->shard_count; i++) {
        safetensors_close(model->shards[i]);
    }
    free(model->shards);
    hf_config_close(&model->generation);
    hf_config_close(&model->config);
    free(model->folder);
    *model = (struct hf_folder){0};
}

bool hf_folder_damaged(const struct hf_folder *model)
{
    bool damaged = false;
    for (uint32_t i = 0; i < model->shard_count; i++) {
        damaged = damaged || safetensors_damaged(model->shards[i]);
    }
    return damaged;
}
