/* Logits against PyTorch and transformers: every family, both containers, every level of the CPU
 * device, and the same logits bit for bit however a prompt is cut into steps. The models and their
 * logits come from tests/oracle/make_models.py. */
#include "model/model_run.h"

enum { TOKENS = 48, VOCABULARY = 96 };

static const char *const models[] = {
    "llama",         "llama-rope3",    "llama-linear-bias",
    "llama-yarn",    "mistral-window", "qwen2",
    "qwen2-window",  "qwen3",          "gemma",
    "gemma2",        "gemma3",         "phi3",
    "phi3-longrope", "mixtral",        "qwen2moe",
    "qwen3moe",      "gpt-oss",
};
#define MODEL_COUNT (sizeof models / sizeof *models)

/* Whether a family is read from folders. */
static bool has_folder(const char *name)
{
    return strcmp(name, "gpt-oss") != 0;
}

/* What a test needs of one model in one container. */
struct sample {
    const char *name;
    const char *container;
    struct model_run run;
    uint32_t *tokens;
    float *expected; /* [TOKENS, VOCABULARY] */
};

static void open_sample(struct sample *sample, const char *name, bool gguf)
{
    char path[128];
    sample->name = name;
    sample->container = gguf ? "gguf" : "hugging face";
    snprintf(path, sizeof path, "tests/oracle/data/%s", name);
    char *folder = test_source_path(path);
    snprintf(path, sizeof path, "tests/oracle/data/%s%s", name, gguf ? "/model.gguf" : "");
    char *model = test_source_path(path);
    model_run_open(&sample->run, model);
    sample->tokens = model_run_npy(folder, "tokens.npy", "<i4", TOKENS);
    sample->expected = model_run_npy(folder, "logits.npy", "<f4", TOKENS * VOCABULARY);
    assert_int_equal(sample->run.plan->vocabulary_size, VOCABULARY);
    free(folder);
    free(model);
}

static void close_sample(struct sample *sample)
{
    free(sample->tokens);
    free(sample->expected);
    model_run_close(&sample->run);
}

/* Logits of the whole sequence, in chunks; owned by the caller. */
static float *logits_of(struct sample *sample, struct device *device, enum dtype kv_dtype,
                        uint32_t chunk)
{
    struct llcuda_error error;
    float *logits = calloc(TOKENS * VOCABULARY, sizeof *logits);
    assert_non_null(logits);
    assert_ok(model_run_load(&sample->run, device, kv_dtype, TOKENS, chunk, &error), error);
    assert_ok(model_run_tokens(&sample->run, sample->tokens, 0, TOKENS, chunk, logits, &error),
              error);
    model_run_unload(&sample->run);
    return logits;
}

/* ‖a − b‖ / ‖b‖ */
static double distance(const float *a, const float *b)
{
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < TOKENS * VOCABULARY; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

static void compare(struct sample *sample, struct device *device, const char *level,
                    double tolerance)
{
    float *logits = logits_of(sample, device, DTYPE_F32, TOKENS);
    double found = distance(logits, sample->expected);
    printf("%-18s %-12s %-16s %.2e\n", sample->name, sample->container, level, found);
    if (!(found < tolerance)) {
        fail_msg("%s (%s), %s: %.3e from the reference, allowed is %.0e", sample->name,
                 sample->container, level, found, tolerance);
    }
    for (size_t i = 0; i < TOKENS; i++) {
        uint32_t ours = model_run_best(logits + i * VOCABULARY, VOCABULARY);
        uint32_t theirs = model_run_best(sample->expected + i * VOCABULARY, VOCABULARY);
        if (ours != theirs) {
            fail_msg("%s (%s), %s: best token %u at position %zu, wanted is %u", sample->name,
                     sample->container, level, ours, i, theirs);
        }
    }
    free(logits);
}

static void for_each_sample(void (*visit)(struct sample *sample, struct device *device,
                                          enum cpu_level level, bool no_extensions))
{
    enum cpu_level levels[CPU_LEVEL_COUNT];
    size_t count = model_run_levels(levels);
    for (size_t l = 0; l < count; l++) {
        for (int plain = 0; plain <= (levels[l] != CPU_SCALAR); plain++) {
            struct device *device = model_run_device(levels[l], plain != 0);
            for (size_t m = 0; m < 2 * MODEL_COUNT; m++) {
                struct sample sample;
                if (m % 2 == 0 && !has_folder(models[m / 2])) {
                    continue;
                }
                open_sample(&sample, models[m / 2], m % 2 == 1);
                visit(&sample, device, levels[l], plain != 0);
                close_sample(&sample);
            }
            device_close(device);
        }
    }
}

static void visit_reference(struct sample *sample, struct device *device, enum cpu_level level,
                            bool no_extensions)
{
    char name[32];
    snprintf(name, sizeof name, "%s%s", cpu_level_name(level), no_extensions ? " plain" : "");
    compare(sample, device, name, level == CPU_SCALAR ? 1e-5 : 1e-3);
}

static void logits_agree_with_the_reference(void **state)
{
    (void)state;
    for_each_sample(visit_reference);
}

static void visit_chunks(struct sample *sample, struct device *device, enum cpu_level level,
                         bool no_extensions)
{
    /* Both cache types need not meet both containers: rotary layouts differ between those. */
    static const uint32_t chunks[] = {7, 1, 31};
    bool gguf = strcmp(sample->container, "gguf") == 0;
    enum dtype kv_dtype = gguf ? DTYPE_F32 : DTYPE_F16;
    float *whole = logits_of(sample, device, kv_dtype, TOKENS);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        float *pieces = logits_of(sample, device, kv_dtype, chunks[i]);
        if (memcmp(whole, pieces, TOKENS * VOCABULARY * sizeof *whole) != 0) {
            fail_msg("%s (%s), %s%s, cache %s: chunks of %u give other bits", sample->name,
                     sample->container, cpu_level_name(level), no_extensions ? " plain" : "",
                     dtype_info(kv_dtype)->name, chunks[i]);
        }
        free(pieces);
    }
    free(whole);
}

static void chunks_do_not_change_a_bit(void **state)
{
    (void)state;
    for_each_sample(visit_chunks);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(logits_agree_with_the_reference),
    cmocka_unit_test(chunks_do_not_change_a_bit),
};

TEST_MAIN(tests)
