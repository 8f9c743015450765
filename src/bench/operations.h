/* Where an engine's time goes, in words that engines which are built differently share: the
 * vocabulary, and the answer of an adapter to `profile` (docs/internals/bench-protocol.md). An
 * engine that does two of them in one piece of work tells the time under the larger one, and says
 * with which others. */
#ifndef BENCH_OPERATIONS_H
#define BENCH_OPERATIONS_H

#include "base/error.h"
#include "base/json.h"
#include "bench/config.h"

/* X(id, name, whether it is a product with weights, or work for one alone, what it is) */
#define OPERATION_LIST(X)                                                                      \
    X(EMBED, "embed", false, "looking up the tokens' embeddings")                              \
    X(NORM, "norm", false, "the norms of the residual stream, of heads and of results")        \
    X(QKV, "qkv", true, "the products that make queries, keys and values")                     \
    X(ROTARY, "rotary", false, "the rotation of queries and keys, and its angles")             \
    X(CACHE, "cache", false, "writing keys and values to the cache")                           \
    X(ATTENTION, "attention", false, "scores, softmax, and the sums of values")                \
    X(OUTPUT, "output", true,                                                                  \
      "the product behind attention, and its addition to the residual stream")                 \
    X(GATE_UP, "gate_up", true, "the first products of a feed-forward layer")                  \
    X(ACTIVATION, "activation", false, "the function between its products, and the gating")    \
    X(DOWN, "down", true,                                                                      \
      "the last product of a feed-forward layer, and its addition to the residual stream")     \
    X(ROUTER, "router", true, "the choice of experts")                                         \
    X(EXPERTS, "experts", true, "the products of experts")                                     \
    X(LOGITS, "logits", true, "the product with the vocabulary")                               \
    X(PREPARE, "prepare", true,                                                                \
      "bringing the two sides of products into the types that they multiply")                  \
    X(MATMUL, "matmul", true, "products with weights of which the engine does not say which")  \
    X(SAMPLING, "sampling", false, "from logits to the greedy token")                          \
    X(OTHER, "other", false,                                                                   \
      "what is left of the test's time: the host's work between the others, and whatever has " \
      "no word here")

enum operation {
#define OPERATION_ENUM(id, ...) OPERATION_##id,
    OPERATION_LIST(OPERATION_ENUM)
#undef OPERATION_ENUM
        OPERATION_COUNT
};

struct operation_word {
    const char *name;
    bool is_product;
    const char *meaning;
};
extern const struct operation_word operation_words[OPERATION_COUNT];

/* The word's operation; OTHER for a word that is none. */
enum operation operation_find(struct text_view name);

/* Writes the array of the words whose bits are set in `operations`. */
void operations_write_words(struct json_writer *writer, uint32_t operations);

/* "gate_up + activation": the words whose bits are set. */
void operations_title(uint32_t operations, char *out, size_t bytes);

/* What is profiled: a prompt from position 0 on, and the tokens after some depth. */
enum operation_test { OPERATION_PROMPT, OPERATION_GENERATE, OPERATION_TEST_COUNT };
const char *operation_test_name(enum operation_test test);
/* The tokens of a test; 0: it is not asked for. */
uint32_t operation_test_tokens(const struct config_analysis *analysis, enum operation_test test);

/* "a prompt of 512 tokens". */
void operation_test_title(const struct config_analysis *analysis, enum operation_test test,
                          char *out, size_t bytes);

struct operation_time {
    bool told;
    double ns, times;
    uint32_t with; /* bit o: operation o is in it */
};

struct operation_answer {
    struct {
        double ns; /* of the whole test; all times of its operations together */
        struct operation_time operations[OPERATION_COUNT];
    } tests[OPERATION_TEST_COUNT];
};

/* Appends the request of the protocol. */
void operations_request(const struct config_analysis *analysis, struct buffer *out);

/* Reads the answer to it. Words that are not of the vocabulary count as OTHER, and so does what is
 * missing of the test's time. BAD_FORMAT with a sentence when a test is missing, is of another
 * length, has a time that is no number or below 0, or operations that take longer than it. */
llcuda_status operations_read(const struct json_value *answer,
                              const struct config_analysis *analysis, struct operation_answer *out,
                              struct llcuda_error *error);

#endif
