/* Owns the choice between tokeniser files: which of them a model or a folder has, and what the
 * files beside them add. */
#include "format/tokenizer_source.h"

#include <stdlib.h>

#include "base/limits.h"
#include "format/tokenizer_internal.h"

/* Reads folder/name when it is there; *there tells. */
static llcuda_status read_file(const char *folder, const char *name, uint64_t limit,
                               struct buffer *contents, bool *there, struct llcuda_error *error)
{
    char *path = file_path_join(folder, name);
    if (!path) {
        return error_no_memory(error, "a path", strlen(folder));
    }
    *there = file_exists(path);
    llcuda_status status = *there ? file_read_all(path, limit, contents, error) : LLCUDA_OK;
    free(path);
    return status;
}

/* eos_token_id of generation_config.json and config.json: a number or a list of them. */
static llcuda_status apply_end_ids(struct vocabulary *vocabulary, const struct json_value *root,
                                   struct llcuda_error *error)
{
    const struct json_value *value = json_member(root, "eos_token_id");
    llcuda_status status = LLCUDA_OK;
    int64_t top = (int64_t)vocabulary->token_count - 1;
    int64_t id;
    if (json_integer(value, 0, top, &id)) {
        status = vocabulary_add_end(vocabulary, (uint32_t)id, error);
        if (vocabulary->eos_id == TOKEN_NONE) {
            vocabulary->eos_id = (uint32_t)id;
        }
    }
    JSON_EACH(item, json_is(value, JSON_ARRAY) ? value : NULL)
    {
        if (!status && json_integer(item, 0, top, &id)) {
            status = vocabulary_add_end(vocabulary, (uint32_t)id, error);
        }
    }
    if (vocabulary->bos_id == TOKEN_NONE &&
        json_integer(json_member(root, "bos_token_id"), 0, top, &id)) {
        vocabulary->bos_id = (uint32_t)id;
    }
    return status;
}

static llcuda_status apply_model_config(struct vocabulary *vocabulary, const char *folder,
                                        const char *name, struct llcuda_error *error)
{
    struct buffer contents = {0};
    struct json_document *json = NULL;
    bool there = false;
    llcuda_status status = read_file(folder, name, LIMIT_CONFIG_BYTES, &contents, &there, error);
    if (!status && there) {
        status = json_parse(buffer_view(&contents), NULL, &json, error);
    }
    if (!status && there) {
        status = apply_end_ids(vocabulary, json_root(json), error);
    }
    json_destroy(json);
    buffer_deinit(&contents);
    return status ? error_prefix(error, status, "%s", name) : LLCUDA_OK;
}

static llcuda_status read_vocabulary(const char *folder, struct text_view config,
                                     struct vocabulary **vocabulary, struct llcuda_error *error)
{
    struct buffer contents = {0};
    bool there = false;
    const char *name = "tokenizer.json";
    llcuda_status status = read_file(folder, name, LIMIT_JSON_BYTES, &contents, &there, error);
    if (!status && there) {
        status = vocabulary_from_json(buffer_view(&contents), config, vocabulary, error);
    } else if (!status) {
        name = "tokenizer.model";
        status = read_file(folder, name, LIMIT_JSON_BYTES, &contents, &there, error);
        if (!status && there) {
            status = vocabulary_from_sentencepiece(buffer_text(&contents), contents.length, config,
                                                   vocabulary, error);
        }
    }
    buffer_deinit(&contents);
    if (!status && !there) {
        return error_set(error, LLCUDA_NOT_FOUND,
                         "'%s' has neither tokenizer.json nor tokenizer.model", folder);
    }
    return status ? error_prefix(error, status, "%s", name) : LLCUDA_OK;
}

llcuda_status vocabulary_from_folder(const char *folder, struct vocabulary **vocabulary,
                                     struct llcuda_error *error)
{
    *vocabulary = NULL;
    struct buffer config = {0};
    bool there = false;
    llcuda_status status =
        read_file(folder, "tokenizer_config.json", LIMIT_CONFIG_BYTES, &config, &there, error);
    if (!status) {
        status = read_vocabulary(folder, buffer_view(&config), vocabulary, error);
    }
    buffer_deinit(&config);
    if (!status) {
        status = apply_model_config(*vocabulary, folder, "generation_config.json", error);
    }
    if (!status) {
        status = apply_model_config(*vocabulary, folder, "config.json", error);
    }
    if (!status) {
        surround_with_bos_eos(*vocabulary);
        status = vocabulary_check(*vocabulary, error);
    }
    if (status) {
        vocabulary_destroy(*vocabulary);
        *vocabulary = NULL;
    }
    return status;
}
