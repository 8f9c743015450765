/* Owns the way from an open model to its vocabulary. */
#include "format/tokenizer_source.h"

llcuda_status vocabulary_open(const struct model_source *source, struct vocabulary **vocabulary,
                              struct llcuda_error *error)
{
    *vocabulary = NULL;
    const struct gguf *gguf = model_source_gguf(source);
    llcuda_status status =
        gguf ? vocabulary_from_gguf(gguf, vocabulary, error)
             : vocabulary_from_folder(model_source_folder(source), vocabulary, error);
    return status ? error_prefix(error, status, "%s", model_source_path(source)) : LLCUDA_OK;
}
