/* A model whose layers the emulated GPU and the CPU share, through the whole engine: the stories
 * are those of the oracle whichever layers are where, and neither a cache that is too small nor
 * shared beginnings change a token. */
#include "support/test_support.h"

#include "base/buffer.h"
#include "base/file.h"
#include "llcuda/llcuda.h"

#define REQUESTS 12u
#define TOKENS   24u

struct answer {
    uint32_t tokens[TOKENS];
    uint32_t count;
};

/* `layers` as in the options; "cpu" when the GPU has no part at all. */
static llcuda_engine *open_engine(const char *path, const char *device, int32_t layers,
                                  uint64_t kv_blocks)
{
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.device = device;
    options.gpu_layers = layers;
    options.gpu_kernel_cache = KERNEL_CACHE;
    options.running_max = REQUESTS;
    options.kv_type = LLCUDA_KV_F32;
    options.context_length = kv_blocks ? 128 : 0;
    /* Eight heads of a size of eight, four of them with keys and values, in five layers. */
    options.kv_bytes = kv_blocks * 16 * 5 * 2 * 4 * 8 * 4;
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    return engine;
}

static llcuda_request *submit(llcuda_engine *engine, const char *prompt, uint32_t tokens,
                              double temperature)
{
    llcuda_request_options options;
    llcuda_request *request;
    llcuda_error error;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = prompt;
    options.prompt_bytes = strlen(prompt);
    options.max_tokens = tokens;
    options.temperature = temperature;
    options.seed_given = true;
    options.seed = 5;
    assert_ok(llcuda_submit(engine, &options, &request, &error), error);
    return request;
}

static void read_answer(llcuda_request *request, struct answer *answer, struct buffer *text)
{
    const llcuda_event *event;
    llcuda_error error;
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        for (uint32_t i = 0; answer && event->kind == LLCUDA_EVENT_TOKENS && i < event->token_count;
             i++) {
            assert_true(answer->count < TOKENS);
            answer->tokens[answer->count++] = event->tokens[i];
        }
        if (text) {
            buffer_append(text, event->text, event->text_bytes);
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    assert_int_equal(event->status, LLCUDA_OK);
    llcuda_request_release(request);
}

static void the_story_is_the_same_wherever_layers_are(void **state)
{
    (void)state;
    static const int32_t layers[] = {LLCUDA_GPU_LAYERS_NONE, 1, 2, 4, 5, LLCUDA_GPU_LAYERS_AUTO, 0};
    static const uint32_t expected_layers[] = {0, 1, 2, 4, 5, 5, 5};
    char *path = test_oracle_path("models/stories260K-f32.gguf");
    char *expected_path = test_oracle_path("models/stories260K-expected.txt");
    if (!path || !expected_path) {
        free(path);
        free(expected_path);
        skip();
    }
    struct buffer expected = {0};
    struct llcuda_error error;
    assert_ok(file_read_all(expected_path, 1 << 20, &expected, &error), error);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        struct buffer text = {0};
        llcuda_engine *engine = open_engine(path, "emu", layers[i], 0);
        const llcuda_engine_info *info = llcuda_engine_get_info(engine);
        assert_int_equal(info->gpu_layer_count, expected_layers[i]);
        assert_int_equal(info->layer_count, 5);
        read_answer(submit(engine, "", STORY_TOKENS, 0), NULL, &text);
        assert_true(text.length > 0 && text.length <= expected.length);
        assert_memory_equal(text.data, expected.data, text.length);
        if (STORY_TOKENS == 200) { /* what the expected text is of */
            assert_int_equal(text.length, expected.length);
        }
        buffer_deinit(&text);
        llcuda_engine_close(engine);
    }
    buffer_deinit(&expected);
    free(path);
    free(expected_path);
}

static const char *const prompts[] = {
    "Once upon a time, there was a little girl named Lily. She",
    "Once upon a time, there was a little girl named Lily. He",
    "Once upon a time, there was a little boy",
    "The dog",
};

/* All requests at once in a cache of 10 blocks, which holds a few of them. */
static llcuda_stats run_crowd(const char *path, const char *device, int32_t layers,
                              struct answer *answers)
{
    llcuda_engine *engine = open_engine(path, device, layers, 10);
    llcuda_request *requests[REQUESTS];
    for (uint32_t i = 0; i < REQUESTS; i++) {
        requests[i] = submit(engine, prompts[i % 4], TOKENS, 0);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        read_answer(requests[i], &answers[i], NULL);
    }
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    llcuda_engine_close(engine);
    return stats;
}

static void preemption_and_shared_beginnings_change_no_token(void **state)
{
    (void)state;
    static const int32_t layers[] = {1, 3, 5};
    static struct answer expected[REQUESTS];
    char *path = test_oracle_path("models/stories260K-f32.gguf");
    if (!path) {
        skip();
    }
    memset(expected, 0, sizeof expected);
    run_crowd(path, "cpu", 0, expected);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        struct answer answers[REQUESTS] = {{{0}, 0}};
        llcuda_stats stats = run_crowd(path, "emu", layers[i], answers);
        assert_true(stats.preemptions > 0);
        assert_true(stats.prefix_hit_tokens > 0);
        for (uint32_t r = 0; r < REQUESTS; r++) {
            assert_int_equal(answers[r].count, expected[r].count);
            assert_memory_equal(answers[r].tokens, expected[r].tokens,
                                expected[r].count * sizeof(uint32_t));
        }
    }
    free(path);
}

/* Choices of one request begin as copies of the same blocks, the last of which is not full: copied
 * on both sides when the first of them writes. */
static void choices_fork_on_both_sides(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu", "emu"};
    struct buffer texts[2][3] = {{{0}}};
    char *path = test_oracle_path("models/stories260K-f32.gguf");
    if (!path) {
        skip();
    }
    for (int i = 0; i < 2; i++) {
        llcuda_engine *engine = open_engine(path, devices[i], i ? 2 : 0, 40);
        llcuda_request_options options;
        llcuda_request *request;
        llcuda_error error;
        const llcuda_event *event;
        llcuda_request_options_init(&options, sizeof options);
        options.prompt = prompts[2];
        options.prompt_bytes = strlen(prompts[2]);
        options.max_tokens = TOKENS;
        options.choice_count = 3;
        options.temperature = 0.8;
        options.seed_given = true;
        options.seed = 9;
        assert_ok(llcuda_submit(engine, &options, &request, &error), error);
        do {
            assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
            buffer_append(&texts[i][event->choice % 3], event->text, event->text_bytes);
        } while (event->kind != LLCUDA_EVENT_DONE);
        assert_int_equal(event->status, LLCUDA_OK);
        llcuda_stats stats = {.size = sizeof stats};
        llcuda_engine_get_stats(engine, &stats);
        assert_true(stats.copied_blocks > 0);
        llcuda_request_release(request);
        llcuda_engine_close(engine);
    }
    for (int choice = 0; choice < 3; choice++) {
        assert_true(texts[0][choice].length > 0);
        assert_string_equal(buffer_text(&texts[1][choice]), buffer_text(&texts[0][choice]));
        buffer_deinit(&texts[0][choice]);
        buffer_deinit(&texts[1][choice]);
    }
    free(path);
}

/* Asleep nothing is held on either side; awake the same tokens come. */
static void sleep_gives_both_sides_back(void **state)
{
    (void)state;
    struct answer answers[2] = {{{0}, 0}};
    llcuda_error error;
    char *path = test_oracle_path("models/stories260K-f32.gguf");
    if (!path) {
        skip();
    }
    llcuda_engine *engine = open_engine(path, "emu", 2, 40);
    for (int i = 0; i < 2; i++) {
        llcuda_stats stats = {.size = sizeof stats};
        read_answer(submit(engine, prompts[0], TOKENS, 0), &answers[i], NULL);
        llcuda_engine_get_stats(engine, &stats);
        assert_true(stats.memory_bytes > 0);
        assert_ok(llcuda_engine_sleep(engine, &error), error);
        llcuda_engine_get_stats(engine, &stats);
        assert_int_equal(stats.memory_bytes, 0);
        assert_ok(llcuda_engine_wake(engine, &error), error);
    }
    assert_int_equal(answers[0].count, answers[1].count);
    assert_memory_equal(answers[0].tokens, answers[1].tokens, sizeof answers[0].tokens);
    llcuda_engine_close(engine);
    free(path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_story_is_the_same_wherever_layers_are),
    cmocka_unit_test(preemption_and_shared_beginnings_change_no_token),
    cmocka_unit_test(choices_fork_on_both_sides),
    cmocka_unit_test(sleep_gives_both_sides_back),
};

TEST_MAIN(tests)
