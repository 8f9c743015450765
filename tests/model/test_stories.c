/* A trained model continues its story to the letter, from both containers. The model lies in the
 * oracle folder; without it the tests are skipped. */
#include "base/file.h"
#include "model/model_run.h"

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

/* The pieces of a SentencePiece vocabulary, put together by hand: "▁" is a space, "<0x0A>" a byte.
 */
static void append_piece(struct buffer *text, struct text_view piece)
{
    unsigned byte;
    char name[8] = {0};
    memcpy(name, piece.data, piece.length < 7 ? piece.length : 7);
    if (piece.length == 6 && sscanf(name, "<0x%02X>", &byte) == 1) {
        buffer_append_byte(text, (char)byte);
        return;
    }
    for (size_t i = 0; i < piece.length; i++) {
        if (piece.length - i >= 3 && memcmp(piece.data + i, "\xE2\x96\x81", 3) == 0) {
            buffer_append_byte(text, ' ');
            i += 2;
        } else {
            buffer_append_byte(text, piece.data[i]);
        }
    }
}

static void stories_are_told_to_the_letter(void **state)
{
    (void)state;
    char *gguf = test_oracle_path("models/stories260K-f32.gguf");
    char *folder = test_oracle_path("models/stories260K-hf");
    char *expected_path = test_oracle_path("models/stories260K-expected.txt");
    if (!gguf || !folder || !expected_path) {
        free(gguf);
        free(folder);
        free(expected_path);
        skip();
    }
    struct llcuda_error error;
    struct buffer expected = {0};
    assert_ok(file_read_all(expected_path, 1 << 16, &expected, &error), error);
    struct model_source *source;
    assert_ok(model_source_open(gguf, true, &source, &error), error);
    const struct gguf_value *pieces;
    assert_ok(gguf_read_array(model_source_gguf(source), "tokenizer.ggml.tokens", GGUF_STRING, 512,
                              &pieces, &error),
              error);
    enum cpu_level levels[CPU_LEVEL_COUNT];
    size_t level_count = model_run_levels(levels);
    for (size_t l = 0; l < level_count; l++) {
        struct device *device = model_run_device(levels[l], false);
        for (int variant = 0; variant < 4; variant++) {
            uint32_t ids[STEPS + 1];
            struct buffer text = {0};
            continue_greedily(variant & 1 ? folder : gguf, device,
                              variant & 2 ? DTYPE_F16 : DTYPE_F32, ids);
            for (uint32_t i = 1; i <= STEPS; i++) {
                append_piece(&text, pieces->texts[ids[i]]);
            }
            const char *told = buffer_text(&text);
            if (strcmp(told + (*told == ' '), expected.data) != 0) {
                fail_msg("%s, %s, cache %s:\n%s\nwanted is\n%s", variant & 1 ? folder : gguf,
                         cpu_level_name(levels[l]), variant & 2 ? "f16" : "f32", told,
                         expected.data);
            }
            buffer_deinit(&text);
        }
        device_close(device);
    }
    model_source_close(source);
    buffer_deinit(&expected);
    free(gguf);
    free(folder);
    free(expected_path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(stories_are_told_to_the_letter),
};

TEST_MAIN(tests)
