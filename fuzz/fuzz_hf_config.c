/* Files of a Hugging Face folder: the bytes as config.json with every typed read, and as
 * model.safetensors.index.json with a walk over its map. */
#include "fuzz.h"

#include <stdlib.h>

#include "base/limits.h"
#include "format/hf_config.h"
#include "format/hf_index.h"

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void read_config(struct text_view text)
{
    static const char *const keys[] = {
        "model_type",
        "num_hidden_layers",
        "rope_theta",
        "rope_scaling.factor",
        "rope_scaling.rope_type",
        "a.b.c",
        "a",
        "",
        ".",
        "tie_word_embeddings",
    };
    struct json_document *document;
    struct llcuda_error error = {0};
    if (hf_config_parse(text, &document, &error)) {
        check(error.message[0] &&
              (error.offset == LLCUDA_NO_OFFSET || error.offset <= text.length));
        return;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct json_value *root = json_root(document);
        uint32_t integer;
        double number;
        bool boolean;
        struct text_view value;
        if (!hf_config_u32(root, keys[i], 1, 1u << 20, &integer, &error)) {
            check(integer >= 1 && integer <= 1u << 20);
        }
        if (!hf_config_number(root, keys[i], -1, 1e9, &number, &error)) {
            check(number >= -1 && number <= 1e9);
        }
        hf_config_bool(root, keys[i], &boolean, &error);
        hf_config_text(root, keys[i], &value, &error);
    }
    json_destroy(document);
}

static llcuda_status visit(void *context, struct text_view name, uint32_t file, uint64_t offset,
                           struct llcuda_error *error)
{
    const struct hf_index *index = context;
    (void)error;
    check(file < index->file_count && offset < index->text.length);
    check(name.length <= index->text.length);
    return LLCUDA_OK;
}

static void read_index(struct text_view text)
{
    struct hf_index index;
    struct llcuda_error error = {0};
    if (!hf_index_init(&index, text, &error)) {
        check(index.file_count > 0 && index.file_count <= LIMIT_SAFETENSORS_FILES);
        for (uint32_t i = 0; i < index.file_count; i++) {
            struct text_view file = index.files[i];
            check(file.data[file.length] == 0 && strlen(file.data) == file.length);
            check(!strchr(file.data, '/') && !strstr(file.data, ".."));
            check(hf_index_find_file(&index, file) == i);
        }
        check(!hf_index_each(&index, visit, &index, &error));
    } else {
        check(error.message[0] &&
              (error.offset == LLCUDA_NO_OFFSET || error.offset <= text.length));
    }
    hf_index_deinit(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_view text = text_view_make((const char *)data, size);
    read_config(text);
    read_index(text);
    return 0;
}
