/* Tokeniser files to vocabulary tables: GGUF metadata, tokenizer.json with tokenizer_config.json,
 * SentencePiece's tokenizer.model. Every count and id is checked; errors name the file, what is
 * wrong and the byte. On success *vocabulary is owned by the caller (vocabulary_destroy) and
 * borrows nothing from its source. */
#ifndef FORMAT_TOKENIZER_SOURCE_H
#define FORMAT_TOKENIZER_SOURCE_H

#include "base/vocabulary.h"
#include "format/gguf.h"
#include "format/model_source.h"

/* The tokeniser of a model, wherever its container keeps it. NOT_FOUND when it has none. */
llcuda_status vocabulary_open(const struct model_source *source, struct vocabulary **vocabulary,
                              struct llcuda_error *error);

/* tokenizer.ggml.*: "llama", "gpt2", "bert", "t5", "gemma4". */
llcuda_status vocabulary_from_gguf(const struct gguf *gguf, struct vocabulary **vocabulary,
                                   struct llcuda_error *error);

/* A folder with tokenizer.json, or else tokenizer.model; tokenizer_config.json, config.json and
 * generation_config.json are read when they are there. */
llcuda_status vocabulary_from_folder(const char *folder, struct vocabulary **vocabulary,
                                     struct llcuda_error *error);

/* tokenizer.json in memory; `config` is tokenizer_config.json and may be empty. */
llcuda_status vocabulary_from_json(struct text_view json, struct text_view config,
                                   struct vocabulary **vocabulary, struct llcuda_error *error);

/* tokenizer.model in memory: a SentencePiece ModelProto; `config` as above. */
llcuda_status vocabulary_from_sentencepiece(const void *data, size_t bytes, struct text_view config,
                                            struct vocabulary **vocabulary,
                                            struct llcuda_error *error);

#endif
