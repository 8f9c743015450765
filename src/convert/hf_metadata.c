#include "convert/items.h"
llcuda_status convert_metadata_hf(const struct model_source *source, struct gguf_writer *writer,
                                  struct llcuda_error *error)
{
    (void)source;
    (void)writer;
    return error_set(error, LLCUDA_UNSUPPORTED, "folders");
}
