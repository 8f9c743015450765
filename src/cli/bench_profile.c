/* Owns the model that is opened for a profile: by the words of the adapter's `load`, as the engine
 * would have it. One thread. */
#include "cli/bench_profile.h"

#include <stdio.h>

#include "bench/local_operations.h"
#include "cli/bench_chooser.h"
#include "cli/evaluator.h"

/* After one run that warms up. */
#define REPEATS 3u

/* An option as the request has it; absent, empty and 0 are the engine's own choice. */
static llcuda_status take_option(struct options *options, enum option_id id,
                                 const struct json_value *value, struct llcuda_error *error)
{
    char number[24];
    int64_t integer;
    struct text_view text = json_text(value);
    if (json_integer(value, 1, UINT32_MAX, &integer)) {
        snprintf(number, sizeof number, "%lld", (long long)integer);
        text = text_view_of(number);
    }
    if (text.length == 0) {
        return LLCUDA_OK;
    }
    struct text_view kept = arena_copy_text(&options->arena, text);
    return kept.data ? option_set(options, id, kept.data, ORIGIN_FLAG, error)
                     : error_no_memory(error, "an option", text.length);
}

static llcuda_status take_load(struct options *options, struct evaluator *evaluator,
                               struct text_view load, struct llcuda_error *error)
{
    struct json_document *document = NULL;
    llcuda_status status = json_parse(load, NULL, &document, error);
    if (status) {
        return status;
    }
    const struct json_value *root = json_root(document);
    const struct json_value *more = json_member(root, "options");
    const struct json_value *model = json_member(root, "model");
    int64_t rows = 0;
    if (text_view_is(json_text(model), "builtin")) {
        /* Whatever else may have named one. */
        options->values[OPTION_MODEL] = (struct option_value){0};
        model = NULL;
    }
    const struct {
        enum option_id id;
        const struct json_value *value;
    } taken[] = {{OPTION_MODEL, model},
                 {OPTION_DEVICE, json_member(root, "device")},
                 {OPTION_THREADS, json_member(root, "threads")},
                 {OPTION_CACHE_TYPE, json_member(more, "cache_type")}};
    for (size_t i = 0; !status && i < sizeof taken / sizeof taken[0]; i++) {
        status = take_option(options, taken[i].id, taken[i].value, error);
    }
    if (json_integer(json_member(more, "step_tokens"), 1, UINT32_MAX, &rows)) {
        evaluator->rows_max = (uint32_t)rows;
        evaluator->steps_as_served = false;
    }
    json_destroy(document);
    return status;
}

llcuda_status bench_profile(struct options *options, struct text_view load,
                            const struct json_value *request, struct buffer *out,
                            struct llcuda_error *error)
{
    struct evaluator evaluator = {.steps_as_served = true, .logits_rows_max = 1};
    struct bench_chooser chooser = {0};
    struct local_tests tests;
    struct local_options local = {
        .repeats = REPEATS, .greedy = true, .choose = bench_choose, .chooser = &chooser};
    llcuda_status status = local_tests_read(request, &tests, error);
    if (!status) {
        status = take_load(options, &evaluator, load, error);
    }
    if (!status) {
        status = evaluator_open(&evaluator, options, tests.positions, error);
    }
    if (!status && evaluator.context_length < tests.positions) {
        status = error_set(error, LLCUDA_CONTEXT_FULL,
                           "the profile needs %u positions and the model has %u", tests.positions,
                           evaluator.context_length);
    }
    if (!status) {
        status = bench_chooser_init(&chooser, evaluator.plan->vocabulary_size, 0, error);
    }
    if (!status) {
        struct json_writer writer;
        json_writer_init(&writer, out, 0);
        status =
            local_operations(evaluator.model, evaluator.blocks, &local, &tests, &writer, error);
    }
    bench_chooser_deinit(&chooser);
    evaluator_close(&evaluator);
    return status;
}
