/* The profile of llcuda's own steps in the words of the engine protocol: the answer of its adapter
 * to `profile`. */
#ifndef BENCH_LOCAL_OPERATIONS_H
#define BENCH_LOCAL_OPERATIONS_H

#include "base/json.h"
#include "bench/local.h"

#define LOCAL_TESTS_MAX 16u

struct local_test {
    struct text_view name; /* borrowed from the request */
    uint32_t tokens, depth;
    bool is_prompt; /* its tokens go through together, otherwise one by one */
};

struct local_tests {
    struct local_test tests[LOCAL_TESTS_MAX];
    uint32_t count;
    uint32_t positions; /* that they need */
};

/* Reads "tests" of a request. BAD_FORMAT with a sentence for anything else than a prompt or a
 * generation. */
llcuda_status local_tests_read(const struct json_value *request, struct local_tests *tests,
                               struct llcuda_error *error);

/* Runs the tests on a model with room for their positions and appends the array "tests" of the
 * answer. The model is in its first steps: `options->repeats` + 1 runs of each test warm it up and
 * the smallest total counts. Errors: those of steps, UNSUPPORTED by a device without a profile. */
llcuda_status local_operations(struct device_model *model, const uint32_t *blocks,
                               const struct local_options *options, const struct local_tests *tests,
                               struct json_writer *json, struct llcuda_error *error);

#endif
