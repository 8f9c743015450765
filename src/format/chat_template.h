/* Where a model keeps its chat template. */
#ifndef FORMAT_CHAT_TEMPLATE_H
#define FORMAT_CHAT_TEMPLATE_H

#include "base/buffer.h"
#include "format/model_source.h"

/* Appends the template's source text. GGUF: tokenizer.chat_template. Folder: chat_template.jinja,
 * or chat_template in tokenizer_config.json (a text, or a list of {name, template} of which
 * "default" is taken), or chat_template.json. NOT_FOUND when the model has none; BAD_FORMAT, LIMIT,
 * IO. */
llcuda_status chat_template_read(const struct model_source *source, struct buffer *out,
                                 struct llcuda_error *error);

#endif
