/* Stories through the whole way of a GPU, on the emulated one: the oracle's, word by word, and the
 * demo model's, which must be what the CPU tells. STORY_TOKENS and DEMO_TOKENS say how much. */
#include "support/test_support.h"

#include "base/buffer.h"
#include "base/file.h"
#include "llcuda/llcuda.h"

static void tell(const char *path, const char *device, const char *prompt, uint32_t tokens,
                 struct buffer *text)
{
    llcuda_engine_options options;
    llcuda_request_options wanted;
    llcuda_engine *engine;
    llcuda_request *request;
    llcuda_error error;
    const llcuda_event *event;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.device = device;
    options.gpu_kernel_cache = KERNEL_CACHE;
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    llcuda_request_options_init(&wanted, sizeof wanted);
    wanted.prompt = prompt;
    wanted.prompt_bytes = strlen(prompt);
    wanted.max_tokens = tokens;
    assert_ok(llcuda_submit(engine, &wanted, &request, &error), error);
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        buffer_append(text, event->text, event->text_bytes);
    } while (event->kind != LLCUDA_EVENT_DONE);
    assert_int_equal(event->status, LLCUDA_OK);
    llcuda_request_release(request);
    llcuda_engine_close(engine);
}

static void check_story(const char *name)
{
    char *path = test_oracle_path(name);
    char *expected_path = test_oracle_path("models/stories260K-expected.txt");
    if (!path || !expected_path) {
        free(path);
        free(expected_path);
        skip();
    }
    struct buffer expected = {0};
    struct buffer text = {0};
    struct llcuda_error error;
    assert_ok(file_read_all(expected_path, 1 << 20, &expected, &error), error);
    tell(path, "emu", "", STORY_TOKENS, &text);
    assert_true(text.length > 0 && text.length <= expected.length);
    if (STORY_TOKENS < 200) { /* the expected text is that of 200 tokens */
        expected.length = text.length;
    }
    assert_int_equal(text.length, expected.length);
    assert_memory_equal(text.data, expected.data, text.length);
    buffer_deinit(&text);
    buffer_deinit(&expected);
    free(path);
    free(expected_path);
}

static void the_story_from_gguf(void **state)
{
    (void)state;
    check_story("models/stories260K-f32.gguf");
}

static void the_story_from_safetensors(void **state)
{
    (void)state;
    check_story("models/stories260K-hf");
}

/* The CPU rounds activations to bytes for quantised weights, which a GPU does not: the story of the
 * GPU is that of the weights before they were quantised. */
static void the_demo_model(void **state)
{
    (void)state;
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    char *whole = test_source_path("models/demo/hf");
    if (!file_exists(path)) {
        free(path);
        free(whole);
        skip();
    }
    struct buffer expected = {0};
    struct buffer text = {0};
    tell(whole, "cpu", "Once upon a time", DEMO_TOKENS, &expected);
    tell(path, "emu", "Once upon a time", DEMO_TOKENS, &text);
    assert_true(text.length > 0);
    assert_int_equal(text.length, expected.length);
    assert_memory_equal(text.data, expected.data, text.length);
    buffer_deinit(&text);
    buffer_deinit(&expected);
    free(path);
    free(whole);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_story_from_gguf),
    cmocka_unit_test(the_story_from_safetensors),
    cmocka_unit_test(the_demo_model),
};

TEST_MAIN(tests)
