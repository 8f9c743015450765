/* What the tokeniser tests share: opening any tokeniser file, and comparing ids and texts. */
#ifndef TOKENIZER_SUPPORT_H
#define TOKENIZER_SUPPORT_H

#include "support/test_support.h"

#include "base/json.h"
#include "format/tokenizer_source.h"
#include "text/tokenizer.h"

/* A .gguf file, a .json or .model file, or a folder. Fails the test when it cannot be opened. */
struct tokenizer *open_tokenizer(const char *path);
/* The same without the test failing. */
llcuda_status try_tokenizer(const char *path, struct tokenizer **tokenizer,
                            struct llcuda_error *error);

/* Encodes without special tokens around and compares with the ids of a JSON array. Prints both and
 * fails when they differ. */
void assert_encodes(const struct tokenizer *tokenizer, struct text_view text,
                    const struct json_value *ids, bool add_special);

/* Decodes the ids of a JSON array, whole and as a stream, and compares with `text`. */
void assert_decodes(const struct tokenizer *tokenizer, const struct json_value *ids,
                    bool skip_special, struct text_view text);

/* Reads and parses a file; the buffer must outlive the document. */
struct json_document *read_json(const char *path, struct buffer *contents);

#endif
