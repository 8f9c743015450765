/* A trained model continues its story to the letter, from both containers. The model lies in the
 * oracle folder; without it the tests are skipped. */
#include "model/model_run.h"

#include "base/file.h"
#include "format/tokenizer_source.h"
#include "text/tokenizer.h"

enum { STEPS = 200, BOS = 1 };

/* Greedy continuation of the beginning-of-sequence token by STEPS tokens. */
static void continue_greedily(const char *path, struct device *device, enum dtype kv_dtype,
                              uint32_t ids[STEPS + 1])
{
    struct llcuda_error error;
    struct model_run run;
    model_run_open(&run, path);
    assert_ok(model_run_load(&run, device, kv_dtype, STEPS, 1, &error), error);
    float *logits = calloc(run.plan->vocabulary_size, sizeof *logits);
    assert_non_null(logits);
    ids[0] = BOS;
    for (uint32_t i = 0; i < STEPS; i++) {
        assert_ok(model_run_tokens(&run, &ids[i], i, 1, 1, logits, &error), error);
        ids[i + 1] = model_run_best(logits, run.plan->vocabulary_size);
    }
    free(logits);
    model_run_close(&run);
}

/* The tokeniser of a model, from its own container. */
static struct tokenizer *open_tokenizer(const char *path)
{
    struct llcuda_error error;
    struct model_source *source;
    struct vocabulary *vocabulary;
    struct tokenizer *tokenizer;
    assert_ok(model_source_open(path, true, &source, &error), error);
    assert_ok(vocabulary_open(source, &vocabulary, &error), error);
    assert_ok(tokenizer_create(vocabulary, &tokenizer, &error), error);
    model_source_close(source);
    return tokenizer;
}

/* One model on every level and with both cache types. */
static void tell(const char *path, const char *expected)
{
    struct llcuda_error error;
    struct tokenizer *tokenizer = open_tokenizer(path);
    enum cpu_level levels[CPU_LEVEL_COUNT];
    size_t level_count = model_run_levels(levels);
    for (size_t l = 0; l < level_count; l++) {
        struct device *device = model_run_device(levels[l], false);
        for (int half = 0; half <= 1; half++) {
            uint32_t ids[STEPS + 1];
            struct buffer text = {0};
            continue_greedily(path, device, half ? DTYPE_F16 : DTYPE_F32, ids);
            assert_ok(tokenizer_decode(tokenizer, ids + 1, STEPS, true, &text, &error), error);
            const char *told = buffer_text(&text);
            if (strcmp(told + (*told == ' '), expected) != 0) {
                fail_msg("%s, %s, cache %s:\n%s\nwanted is\n%s", path, cpu_level_name(levels[l]),
                         half ? "f16" : "f32", told, expected);
            }
            buffer_deinit(&text);
        }
        device_close(device);
    }
    tokenizer_destroy(tokenizer);
}

static void story_is_told_to_the_letter(void **state)
{
    char *path = test_oracle_path(*state);
    char *expected_path = test_oracle_path("models/stories260K-expected.txt");
    if (!path || !expected_path) {
        free(path);
        free(expected_path);
        skip();
    }
    struct llcuda_error error;
    struct buffer expected = {0};
    assert_ok(file_read_all(expected_path, 1 << 16, &expected, &error), error);
    assert_true(expected.length > 400);
    tell(path, buffer_text(&expected));
    buffer_deinit(&expected);
    free(path);
    free(expected_path);
}

static char gguf[] = "models/stories260K-f32.gguf";
static char folder[] = "models/stories260K-hf";

static const struct CMUnitTest tests[] = {
    {"from GGUF", story_is_told_to_the_letter, NULL, NULL, gguf},
    {"from a Hugging Face folder", story_is_told_to_the_letter, NULL, NULL, folder},
};

TEST_MAIN(tests)
