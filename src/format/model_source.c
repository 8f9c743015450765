/* Owns the choice between containers and hides it from those who read a model. Invariant: exactly
 * one of `gguf` and the folder is open. Immutable after opening, so any thread may read. Knows
 * general.architecture and model_type, and no other key. */
#include "format/model_source.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf_parts.h"
#include "format/hf_folder.h"

#define ARCHITECTURE_BYTES_MAX 64u
#define KEY_BYTES_MAX          192u

struct model_source {
    char *path;
    struct gguf *gguf; /* the first of `parts`; NULL: a Hugging Face folder */
    struct gguf_parts parts;
    struct hf_folder folder;
    struct text_view architecture;
    bool mapped;
};

static bool ends_in(const char *path, const char *suffix)
{
    size_t length = strlen(path);
    size_t tail = strlen(suffix);
    return length >= tail && memcmp(path + length - tail, suffix, tail) == 0;
}

static char *copy_text(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

/* The name goes into metadata keys and messages. */
static llcuda_status check_architecture(struct text_view name, const char *key,
                                        struct llcuda_error *error)
{
    bool printable = name.length > 0 && name.length <= ARCHITECTURE_BYTES_MAX;
    for (size_t i = 0; printable && i < name.length; i++) {
        printable = name.data[i] > 0x20 && name.data[i] < 0x7f;
    }
    return printable ? LLCUDA_OK
                     : error_set(error, LLCUDA_BAD_FORMAT,
                                 "%s is no name of 1 to %u printable characters", key,
                                 ARCHITECTURE_BYTES_MAX);
}

static llcuda_status adopt_gguf(struct model_source *source, struct llcuda_error *error)
{
    static const char key[] = "general.architecture";
    llcuda_status status = gguf_read_text(source->gguf, key, &source->architecture, error);
    if (status == LLCUDA_NOT_FOUND) {
        return error_set(error, LLCUDA_BAD_FORMAT, "the GGUF file has no %s", key);
    }
    if (!status) {
        status = check_architecture(source->architecture, key, error);
    }
    return status;
}

static llcuda_status open_gguf(struct model_source *source, const char *path, bool header_only,
                               struct llcuda_error *error)
{
    llcuda_status status = gguf_parts_open(path, header_only, &source->parts, error);
    if (!status) {
        source->gguf = source->parts.files[0];
        status = adopt_gguf(source, error);
        if (status) {
            error_prefix(error, status, "'%s'", path);
        }
    }
    return status;
}

static llcuda_status open_hf(struct model_source *source, const char *folder, const char *weights,
                             bool header_only, struct llcuda_error *error)
{
    llcuda_status status = hf_folder_open(&source->folder, folder, weights, header_only, error);
    if (status) {
        return status;
    }
    const struct json_value *root = json_root(source->folder.config.document);
    status = hf_config_text(root, "model_type", &source->architecture, error);
    if (status == LLCUDA_NOT_FOUND) {
        status = error_set(error, LLCUDA_BAD_FORMAT, "the configuration has no model_type");
    }
    if (!status) {
        status = check_architecture(source->architecture, "model_type", error);
    }
    if (status) {
        error_prefix(error, status, "'%s/config.json'", folder);
    }
    return status;
}

/* A folder whose only model is a GGUF file, or all parts of one. *found is the number of files. */
static llcuda_status open_gguf_in(struct model_source *source, const char *folder, bool header_only,
                                  uint32_t *found, struct llcuda_error *error)
{
    char *name;
    llcuda_status status = file_folder_find(folder, ".gguf", &name, found, error);
    if (status || *found == 0) {
        return status;
    }
    uint32_t number;
    uint32_t count;
    size_t stem;
    bool whole = *found == 1 || (gguf_part_name(name, &number, &count, &stem) && count == *found);
    if (!whole) {
        free(name);
        return error_set(error, LLCUDA_NOT_FOUND,
                         "'%s' holds %u .gguf files; give the path of one of them", folder, *found);
    }
    char *path = file_path_join(folder, name);
    free(name);
    if (!path) {
        return error_no_memory(error, "a file name", strlen(folder));
    }
    free(source->path);
    source->path = path;
    return open_gguf(source, path, header_only, error);
}

static llcuda_status open_folder(struct model_source *source, const char *folder, bool header_only,
                                 struct llcuda_error *error)
{
    struct hf_folder_files files;
    uint32_t found;
    llcuda_status status = hf_folder_look(folder, &files, error);
    if (status) {
        return status;
    }
    bool weights = files.single || files.index;
    if (files.config && weights) {
        return open_hf(source, folder, NULL, header_only, error);
    }
    status = open_gguf_in(source, folder, header_only, &found, error);
    if (status || found) {
        return status;
    }
    if (header_only && files.tokenizer && !weights) {
        return hf_folder_open_bare(&source->folder, folder, error);
    }
    /* Opening it as what it is nearest to tells what is missing. */
    if (files.config || weights) {
        return open_hf(source, folder, NULL, header_only, error);
    }
    return error_set(error, LLCUDA_NOT_FOUND,
                     "'%s' holds no model: neither config.json with model.safetensors or "
                     "model.safetensors.index.json, nor a .gguf file",
                     folder);
}

/* A weight file alone: its folder has the configuration. */
static llcuda_status open_weights(struct model_source *source, const char *path, bool header_only,
                                  struct llcuda_error *error)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 1;
    char *folder = copy_text(slash ? path : ".", length ? length : 1);
    if (!folder) {
        return error_no_memory(error, "a file name", strlen(path));
    }
    llcuda_status status = open_hf(source, folder, slash ? slash + 1 : path, header_only, error);
    free(folder);
    return status;
}

llcuda_status model_source_open(const char *path, bool header_only, struct model_source **source,
                                struct llcuda_error *error)
{
    *source = NULL;
    struct model_source *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a model source", sizeof *made);
    }
    llcuda_status status;
    made->path = copy_text(path, strlen(path));
    if (!made->path) {
        status = error_no_memory(error, "a file name", strlen(path));
    } else if (file_is_folder(path)) {
        status = open_folder(made, path, header_only, error);
    } else if (ends_in(path, ".safetensors") && file_exists(path)) {
        status = open_weights(made, path, header_only, error);
    } else {
        status = open_gguf(made, path, header_only, error);
    }
    if (status) {
        model_source_close(made);
        return status;
    }
    made->mapped = !header_only;
    *source = made;
    return LLCUDA_OK;
}

llcuda_status model_source_open_memory(const void *data, uint64_t bytes,
                                       struct model_source **source, struct llcuda_error *error)
{
    *source = NULL;
    static const char path[] = "(built in)";
    struct model_source *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a model source", sizeof *made);
    }
    llcuda_status status = LLCUDA_OK;
    made->path = copy_text(path, sizeof path - 1);
    if (!made->path) {
        status = error_no_memory(error, "a file name", sizeof path);
    }
    struct gguf *gguf = NULL;
    if (!status) {
        status = gguf_open_memory(data, bytes, &gguf, error);
    }
    if (!status) {
        status = gguf_parts_adopt(gguf, &made->parts, error);
    }
    if (!status) {
        made->gguf = gguf;
        status = adopt_gguf(made, error);
    }
    if (status) {
        model_source_close(made);
        return status;
    }
    *source = made;
    return LLCUDA_OK;
}

void model_source_close(struct model_source *source)
{
    if (source) {
        gguf_parts_close(&source->parts);
        hf_folder_close(&source->folder);
        free(source->path);
        free(source);
    }
}

enum model_container model_source_container(const struct model_source *source)
{
    return source->gguf ? MODEL_GGUF : MODEL_HUGGING_FACE;
}

const char *model_source_path(const struct model_source *source)
{
    return source->path;
}

uint64_t model_source_file_bytes(const struct model_source *source)
{
    return source->gguf ? source->parts.file_bytes : source->folder.file_bytes;
}

bool model_source_mapped(const struct model_source *source)
{
    return source->mapped;
}

bool model_source_damaged(const struct model_source *source)
{
    return source->gguf ? gguf_parts_damaged(&source->parts) : hf_folder_damaged(&source->folder);
}

struct text_view model_source_architecture(const struct model_source *source)
{
    return source->architecture;
}

const struct gguf *model_source_gguf(const struct model_source *source)
{
    return source->gguf;
}

const struct json_value *model_source_config(const struct model_source *source)
{
    const struct json_document *document = source->folder.config.document;
    return document ? json_root(document) : NULL;
}

const struct json_value *model_source_generation(const struct model_source *source)
{
    const struct json_document *document = source->folder.generation.document;
    return document ? json_root(document) : NULL;
}

const char *model_source_folder(const struct model_source *source)
{
    return source->folder.folder;
}

static llcuda_status absent(const char *gguf_key, const char *hf_key, struct llcuda_error *error)
{
    const char *known = gguf_key ? gguf_key : hf_key;
    return error_set(error, LLCUDA_NOT_FOUND, "this container has no place for '%s'",
                     known ? known : "");
}

/* "block_count" → "llama.block_count". Keys come from our own code, so that too long a key is a
 * programmer's mistake. */
static const char *full_key(const struct model_source *source, const char *key, char *out)
{
    int length = snprintf(out, KEY_BYTES_MAX, "%.*s.%s", TEXT_ARGUMENTS(source->architecture), key);
    assert(length > 0 && (unsigned)length < KEY_BYTES_MAX);
    (void)length;
    return out;
}

llcuda_status model_source_u32(const struct model_source *source, const char *gguf_key,
                               const char *hf_key, uint32_t minimum, uint32_t maximum,
                               uint32_t *out, struct llcuda_error *error)
{
    if (!(source->gguf ? gguf_key : hf_key)) {
        return absent(gguf_key, hf_key, error);
    }
    if (!source->gguf) {
        return hf_config_u32(model_source_config(source), hf_key, minimum, maximum, out, error);
    }
    char key[KEY_BYTES_MAX];
    uint64_t value;
    llcuda_status status = gguf_read_u64(source->gguf, full_key(source, gguf_key, key), minimum,
                                         maximum, &value, error);
    if (!status) {
        *out = (uint32_t)value;
    }
    return status;
}

llcuda_status model_source_number(const struct model_source *source, const char *gguf_key,
                                  const char *hf_key, double minimum, double maximum, double *out,
                                  struct llcuda_error *error)
{
    if (!(source->gguf ? gguf_key : hf_key)) {
        return absent(gguf_key, hf_key, error);
    }
    if (!source->gguf) {
        return hf_config_number(model_source_config(source), hf_key, minimum, maximum, out, error);
    }
    char key[KEY_BYTES_MAX];
    return gguf_read_number(source->gguf, full_key(source, gguf_key, key), minimum, maximum, out,
                            error);
}

llcuda_status model_source_bool(const struct model_source *source, const char *gguf_key,
                                const char *hf_key, bool *out, struct llcuda_error *error)
{
    if (!(source->gguf ? gguf_key : hf_key)) {
        return absent(gguf_key, hf_key, error);
    }
    if (!source->gguf) {
        return hf_config_bool(model_source_config(source), hf_key, out, error);
    }
    char key[KEY_BYTES_MAX];
    return gguf_read_bool(source->gguf, full_key(source, gguf_key, key), out, error);
}

llcuda_status model_source_text(const struct model_source *source, const char *gguf_key,
                                const char *hf_key, struct text_view *out,
                                struct llcuda_error *error)
{
    if (!(source->gguf ? gguf_key : hf_key)) {
        return absent(gguf_key, hf_key, error);
    }
    if (!source->gguf) {
        return hf_config_text(model_source_config(source), hf_key, out, error);
    }
    char key[KEY_BYTES_MAX];
    return gguf_read_text(source->gguf, full_key(source, gguf_key, key), out, error);
}

uint64_t model_source_tensor_count(const struct model_source *source)
{
    return source->gguf ? source->parts.tensor_count : source->folder.usable_count;
}

const struct tensor *model_source_tensor_at(const struct model_source *source, uint64_t index)
{
    if (source->gguf) {
        return index < source->parts.tensor_count ? source->parts.tensors[index] : NULL;
    }
    return index < source->folder.usable_count ? &source->folder.tensors[index]->tensor : NULL;
}

const struct tensor *model_source_find(const struct model_source *source, struct text_view name)
{
    if (source->gguf) {
        return gguf_parts_find(&source->parts, name);
    }
    uint32_t index = name_index_find(&source->folder.names, name);
    return index < source->folder.usable_count ? &source->folder.tensors[index]->tensor : NULL;
}

llcuda_status model_source_require(const struct model_source *source, struct text_view name,
                                   const struct tensor **tensor, struct llcuda_error *error)
{
    *tensor = model_source_find(source, name);
    if (*tensor) {
        return LLCUDA_OK;
    }
    uint32_t index = source->gguf ? ORDER_NONE : name_index_find(&source->folder.names, name);
    if (index == ORDER_NONE) {
        return error_set(error, LLCUDA_NOT_FOUND, "the tensor '%.*s' is missing",
                         TEXT_ARGUMENTS(name_clip(name)));
    }
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "the tensor '%.*s' has the type %s, which is not supported",
                     TEXT_ARGUMENTS(name_clip(name)), source->folder.tensors[index]->type->name);
}

uint64_t model_source_unusable_count(const struct model_source *source)
{
    return source->folder.tensor_count - source->folder.usable_count;
}

bool model_source_unusable_at(const struct model_source *source, uint64_t index,
                              struct model_source_unusable *out)
{
    if (index >= model_source_unusable_count(source)) {
        return false;
    }
    const struct safetensors_tensor *tensor =
        source->folder.tensors[source->folder.usable_count + index];
    out->name = tensor->tensor.name;
    out->type = tensor->type->name;
    out->bytes = tensor->tensor.bytes;
    return true;
}
