/* What is asked: prompts as token ids, the same for every engine, made from a seed and a number.
 * Several sessions share one set; it is constant after prompts_open. */
#ifndef BENCH_PROMPTS_H
#define BENCH_PROMPTS_H

#include "base/buffer.h"
#include "bench/config.h"
#include "llcuda/llcuda.h"

struct prompts;

/* `model` is a path or "builtin" (then `builtin` bytes are the file): its vocabulary is read. When
 * it cannot be read by llcuda, prompts are plain words without ids: good for servers only.
 * *prompts is the caller's (prompts_destroy). Errors: OUT_OF_MEMORY. */
llcuda_status prompts_open(const char *model, const void *builtin, uint64_t builtin_bytes,
                           struct prompts **prompts, struct llcuda_error *error);
void prompts_destroy(struct prompts *prompts);

/* Whether there are ids. */
bool prompts_have_ids(const struct prompts *prompts);

/* Reads the file of a workload, when it has one, for prompts_make. Errors: those of files,
 * BAD_FORMAT, UNSUPPORTED (a file needs a vocabulary). */
llcuda_status prompts_add_file(struct prompts *prompts, const struct config_workload *workload,
                               struct llcuda_error *error);

struct prompt {
    uint32_t *ids; /* [capacity] of the caller */
    uint32_t id_count, id_capacity;
    uint32_t max_tokens;
};

/* Prompt `index` of the stream `seed`, `length` tokens long (a data set may have shorter ones).
 * Fills in ids and max_tokens. */
void prompts_make(const struct prompts *prompts, const struct config_workload *workload,
                  uint32_t length, uint64_t seed, uint64_t index, struct prompt *prompt);

/* The same as text, appended to `text`. */
void prompts_text(const struct prompts *prompts, const struct prompt *prompt, uint64_t seed,
                  uint64_t index, uint32_t length, struct buffer *text);

/* The text of generated ids, for comparing engines that say ids with those that say text. */
void prompts_detokenize(const struct prompts *prompts, const uint32_t *ids, uint32_t count,
                        struct buffer *text);

/* A readable prompt for the comparison of greedy tokens: sentence `index`, as ids and as text. */
void prompts_sentence(const struct prompts *prompts, uint64_t index, struct prompt *prompt,
                      struct buffer *text);

/* The trace of a workload: request `index` comes at *due_ns; false when there are no more. */
bool prompts_trace(const struct prompts *prompts, const struct config_workload *workload,
                   uint64_t index, uint64_t *due_ns, uint32_t *length, uint32_t *output);
uint64_t prompts_trace_count(const struct prompts *prompts, const struct config_workload *workload);

#endif
