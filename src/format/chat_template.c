/* Owns the search for a model's chat template. Knows nothing of the template language. */
#include "format/chat_template.h"

#include <stdlib.h>

#include "base/limits.h"

static llcuda_status append(struct text_view text, struct buffer *out, struct llcuda_error *error)
{
    if (text.length > LIMIT_TEMPLATE_BYTES) {
        return error_set(error, LLCUDA_LIMIT, "the chat template has %zu bytes, more than %u",
                         text.length, LIMIT_TEMPLATE_BYTES);
    }
    return buffer_append_view(out, text) ? LLCUDA_OK
                                         : error_no_memory(error, "a chat template", text.length);
}

/* A text, or a list of named templates. */
static struct text_view pick(const struct json_value *value)
{
    struct text_view found = json_text(value);
    JSON_EACH(entry, value)
    {
        struct text_view candidate = json_text(json_member(entry, "template"));
        bool is_default = text_view_is(json_text(json_member(entry, "name")), "default");
        if (candidate.data && (is_default || !found.data)) {
            found = candidate;
        }
    }
    return found;
}

/* NOT_FOUND when the file is absent or has no such member. */
static llcuda_status read_json_file(const char *path, struct buffer *out,
                                    struct llcuda_error *error)
{
    struct buffer contents = {0};
    struct json_document *document = NULL;
    llcuda_status status = file_read_all(path, LIMIT_CONFIG_BYTES, &contents, error);
    if (!status) {
        status = json_parse(buffer_view(&contents), NULL, &document, error);
        if (status) {
            error_prefix(error, status, "%s", path);
        }
    }
    if (!status) {
        struct text_view text = pick(json_member(json_root(document), "chat_template"));
        status = text.data ? append(text, out, error)
                           : error_set(error, LLCUDA_NOT_FOUND, "%s has no chat template", path);
    }
    json_destroy(document);
    buffer_deinit(&contents);
    return status;
}

static llcuda_status read_folder(const char *folder, struct buffer *out, struct llcuda_error *error)
{
    static const char *const names[] = {"chat_template.jinja", "tokenizer_config.json",
                                        "chat_template.json"};
    llcuda_status status = LLCUDA_NOT_FOUND;
    for (size_t i = 0; status == LLCUDA_NOT_FOUND && i < sizeof names / sizeof names[0]; i++) {
        char *path = file_path_join(folder, names[i]);
        if (!path) {
            return error_no_memory(error, "a file name", strlen(folder));
        }
        if (!file_exists(path)) {
            free(path);
            continue;
        }
        status = i == 0 ? file_read_all(path, LIMIT_TEMPLATE_BYTES, out, error)
                        : read_json_file(path, out, error);
        free(path);
    }
    if (status == LLCUDA_NOT_FOUND) {
        error_set(error, status, "the model in '%s' has no chat template", folder);
    }
    return status;
}

llcuda_status chat_template_read(const struct model_source *source, struct buffer *out,
                                 struct llcuda_error *error)
{
    if (model_source_container(source) == MODEL_HUGGING_FACE) {
        return read_folder(model_source_folder(source), out, error);
    }
    struct text_view text;
    llcuda_status status =
        gguf_read_text(model_source_gguf(source), "tokenizer.chat_template", &text, error);
    if (status == LLCUDA_NOT_FOUND) {
        error_set(error, status, "the model '%s' has no chat template", model_source_path(source));
    }
    return status ? status : append(text, out, error);
}
