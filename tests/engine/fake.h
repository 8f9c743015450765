/* A device, a codec and a clock for the engine's tests, and what a request must answer when it is
 * alone in the world.
 *
 * The fake device's cache entry of a position is a hash of all tokens up to it, made from the
 * entries that the block table leads to: a wrong block, a missing copy or a stale entry changes
 * every later logit. Its logits are a function of that hash. */
#ifndef TESTS_ENGINE_FAKE_H
#define TESTS_ENGINE_FAKE_H

#include "support/test_support.h"

#include "engine/engine_core.h"

/* A row whose newest token is this one gives a NaN. */
#define FAKE_NAN_TOKEN 7u
/* The model's end token. */
#define FAKE_END_TOKEN 1u

/* Width of its hidden states. */
#define FAKE_EMBEDDING 6u

struct fake_model {
    struct device_model base;
    struct plan plan;
    uint64_t *cache; /* [block_count, KV_BLOCK_TOKENS] */
    float *logits;
    float *hidden; /* [rows_max, FAKE_EMBEDDING] */
    uint64_t weight_bytes_read;
    uint64_t rows; /* of all steps */
    uint64_t steps;
    uint64_t fail_at_step; /* 0: never; the step with this number fails */
    bool nan_token;        /* FAKE_NAN_TOKEN works */
    uint64_t parallel_runs;
    /* One step ahead: */
    bool flying;
    struct step_batch batch;
    void *copies[6];                                      /* of its arrays */
    void (*on_end)(struct fake_model *model, void *user); /* before a step is waited for; or NULL */
    void *on_end_user;
};

/* Fails the test without memory unless `quiet`; NULL then. */
struct fake_model *fake_model_make(const struct core_options *options, uint32_t vocabulary_size);
/* From now on a step is begun and ended in two calls, and there are helpers. */
void fake_run_ahead(struct fake_model *model);
void fake_model_free(struct fake_model *model);

/* Text of a token: one to three letters; FAKE_END_TOKEN and token 2 are special and have none. */
extern const struct text_codec fake_codec;
void fake_text(uint32_t token, struct buffer *out);

/* A core with a fake device, a mailbox and a clock that tests turn. */
struct fake_engine {
    struct engine_core core;
    struct mailbox *mailbox;
    struct fake_model *model;
    struct request_setup setup;
    uint64_t now_ns;
};

/* The parts of an engine around a fake device: what fake_engine_open and the threaded tests make.
 * `core->options.clock_ns` NULL is the real clock. False without memory; nothing is left then. */
bool fake_core_open(struct engine_core *core, struct core_options *options, struct mailbox *mailbox,
                    struct fake_model **model, struct request_setup *setup);

/* False when an allocation failed; everything is freed then. */
bool fake_engine_open(struct fake_engine *engine, const struct scheduler_options *options,
                      uint32_t vocabulary_size);
void fake_engine_close(struct fake_engine *engine);
/* Checks, creates and posts a request, as llcuda_submit does. NULL when refused; *status says why.
 */
llcuda_request *fake_submit(struct fake_engine *engine, const llcuda_request_options *options,
                            llcuda_status *status);

/* The same with another mailbox and clock. */
llcuda_request *fake_post(const struct request_setup *setup, const llcuda_request_options *options,
                          uint64_t now_ns, llcuda_status *status);

/* What choice `index` of a request must answer: tokens (caller frees), and how it ends. */
struct fake_answer {
    uint32_t *tokens;
    uint32_t count;
    llcuda_finish_reason reason;
    struct buffer text;
};
void fake_answer_make(const struct request_setup *setup, const llcuda_request_options *options,
                      uint64_t seed, uint32_t index, bool nan_token, struct fake_answer *answer);
/* What an embedding request must give: [FAKE_EMBEDDING]. */
void fake_embedding_make(const llcuda_request_options *options, float *embedding);
void fake_answer_free(struct fake_answer *answer);

#endif
