/* A model on disk, whatever its container: typed configuration values and tensors under both of
 * their names. What is in GGUF under "llama.block_count" is in a Hugging Face folder under
 * "num_hidden_layers" of config.json; an architecture file asks for both at once. */
#ifndef FORMAT_MODEL_SOURCE_H
#define FORMAT_MODEL_SOURCE_H

#include "base/error.h"
#include "base/json.h"
#include "format/gguf.h"
#include "tensor/tensor.h"

struct model_source;

enum model_container { MODEL_GGUF, MODEL_HUGGING_FACE };

/* Opens a GGUF file or a Hugging Face folder (config.json and model.safetensors, or
 * model.safetensors.index.json with its shards). With `header_only` no weights are mapped. A folder
 * without SafeTensors weights but with exactly one .gguf file opens that file. A .safetensors file
 * opens the folder that it lies in. */
llcuda_status model_source_open(const char *path, bool header_only, struct model_source **source,
                                struct llcuda_error *error);
/* A GGUF file in memory, which must outlive the source. */
llcuda_status model_source_open_memory(const void *data, uint64_t bytes,
                                       struct model_source **source, struct llcuda_error *error);
void model_source_close(struct model_source *source);

enum model_container model_source_container(const struct model_source *source);
const char *model_source_path(const struct model_source *source); /* "(built in)" from memory */
/* Bytes of all weight files together. */
uint64_t model_source_file_bytes(const struct model_source *source);
/* True when tensor data lies in maps of files, so that its pages may be dropped and read again;
 * false for a model in memory and for one opened with header_only. */
bool model_source_mapped(const struct model_source *source);
/* True when a mapped file shrank and its contents are void. */
bool model_source_damaged(const struct model_source *source);

/* "llama", "qwen2" …: general.architecture, or model_type of config.json. */
struct text_view model_source_architecture(const struct model_source *source);

/* The container itself, for what only one of them has. NULL when it is the other one. */
const struct gguf *model_source_gguf(const struct model_source *source);
const struct json_value *model_source_config(const struct model_source *source); /* config.json */
const struct json_value *model_source_generation(const struct model_source *source); /* or NULL */
const char *model_source_folder(const struct model_source *source);

/* A configuration value. `gguf_key` is written without the architecture prefix ("block_count"
 * reads "llama.block_count"), `hf_key` is a member of config.json, dots descend into objects
 * ("rope_scaling.factor"). A NULL key is absent in that container; a JSON null counts as absent.
 * NOT_FOUND when absent; BAD_FORMAT with a sentence when the type is wrong or the value leaves
 * [minimum, maximum]. */
llcuda_status model_source_u32(const struct model_source *source, const char *gguf_key,
                               const char *hf_key, uint32_t minimum, uint32_t maximum,
                               uint32_t *out, struct llcuda_error *error);
llcuda_status model_source_number(const struct model_source *source, const char *gguf_key,
                                  const char *hf_key, double minimum, double maximum, double *out,
                                  struct llcuda_error *error);
llcuda_status model_source_bool(const struct model_source *source, const char *gguf_key,
                                const char *hf_key, bool *out, struct llcuda_error *error);
llcuda_status model_source_text(const struct model_source *source, const char *gguf_key,
                                const char *hf_key, struct text_view *out,
                                struct llcuda_error *error);

uint64_t model_source_tensor_count(const struct model_source *source);
const struct tensor *model_source_tensor_at(const struct model_source *source, uint64_t index);
/* By the name of the container at hand; NULL when absent. */
const struct tensor *model_source_find(const struct model_source *source, struct text_view name);
/* The same for a tensor that the model cannot do without: NOT_FOUND when it is absent, UNSUPPORTED
 * with its type when the container holds it in a type that this build does not compute with. */
llcuda_status model_source_require(const struct model_source *source, struct text_view name,
                                   const struct tensor **tensor, struct llcuda_error *error);

/* Tensors of types that this build does not compute with (integers, F64 …), which SafeTensors files
 * may hold beside the weights; they are in neither of the functions above. For inspection. */
struct model_source_unusable {
    struct text_view name;
    const char *type; /* as published, such as "I64" */
    uint64_t bytes;
};
uint64_t model_source_unusable_count(const struct model_source *source);
/* False past the end. */
bool model_source_unusable_at(const struct model_source *source, uint64_t index,
                              struct model_source_unusable *out);

#endif
