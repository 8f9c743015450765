/* Folders that our converter turns into GGUF give the logits of PyTorch and transformers: names,
 * reordered rows, merged experts. And a converted file converts again. */
#include "model/model_run.h"

#include "base/file.h"
#include "convert/quantize.h"

enum { TOKENS = 48, VOCABULARY = 96 };

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = test_folder_make();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static void convert(const char *from, const char *to, const char *type)
{
    struct llcuda_error error;
    struct model_source *source;
    struct quantize_result result;
    const struct quantize_options options = {.recipe = recipe_find(type), .thread_count = 2};
    assert_ok(model_source_open(from, false, &source, &error), error);
    assert_ok(quantize_model(source, to, &options, &result, &error), error);
    model_source_close(source);
}

static void expect_logits(const char *path, const char *reference)
{
    struct llcuda_error error;
    struct model_run run;
    float *logits = calloc(TOKENS * VOCABULARY, sizeof *logits);
    struct device *device = model_run_device(CPU_SCALAR, true);
    model_run_open(&run, path);
    uint32_t *tokens = model_run_npy(reference, "tokens.npy", "<i4", TOKENS);
    float *expected = model_run_npy(reference, "logits.npy", "<f4", TOKENS * VOCABULARY);
    assert_ok(model_run_load(&run, device, DTYPE_F32, TOKENS, TOKENS, &error), error);
    assert_ok(model_run_tokens(&run, tokens, 0, TOKENS, TOKENS, logits, &error), error);
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < TOKENS * VOCABULARY; i++) {
        double d = (double)logits[i] - (double)expected[i];
        difference += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    if (!(sqrt(difference / norm) < 1e-5)) {
        fail_msg("%s: %.3e from the reference", path, sqrt(difference / norm));
    }
    model_run_unload(&run);
    model_run_close(&run);
    device_close(device);
    free(tokens);
    free(expected);
    free(logits);
}

static void converted_folders_give_the_same_logits(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "qwen3", "mixtral", "qwen2moe", "qwen3moe"};
    char *first = file_path_join(folder, "first.gguf");
    char *second = file_path_join(folder, "second.gguf");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/oracle/data/%s", models[i]);
        char *source = test_source_path(path);
        convert(source, first, "f32");
        expect_logits(first, source);
        if (i > 0) { /* its weights are halves */
            convert(first, second, "f16");
            expect_logits(second, source);
        }
        free(source);
    }
    free(first);
    free(second);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(converted_folders_give_the_same_logits, make_folder,
                                    remove_folder),
};

TEST_MAIN(tests)
