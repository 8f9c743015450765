/* Tokenising as one of the works that `llcuda bench --mode kernels` times. */
#ifndef CLI_BENCH_TOKENIZE_H
#define CLI_BENCH_TOKENIZE_H

#include "bench/local.h"
#include "cli/evaluator.h"

struct bench_tokenizer;

/* NULL when the model's files have no tokeniser that can be read, or memory is short. */
struct bench_tokenizer *bench_tokenizer_open(const struct evaluator *evaluator);
void bench_tokenizer_close(struct bench_tokenizer *tokenizer);
/* Makes tokens of some 64 KB of prose; `user` is a bench_tokenizer. For local_options. */
llcuda_status bench_tokenize(void *user, struct local_text *text, struct llcuda_error *error);

#endif
