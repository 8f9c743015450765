/* Embedding requests through the public interface on the built-in model. */
#include <math.h>

#include "base/file.h"
#include "llcuda/llcuda.h"
#include "support/test_support.h"

#define WIDTH_MAX 1024u

static llcuda_engine *open_demo(uint64_t kv_bytes, uint32_t step_tokens)
{
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        return NULL;
    }
    llcuda_engine_options_init(&options, sizeof options);
    options.model = path;
    options.kv_bytes = kv_bytes;
    options.context_length = 512;
    options.step_tokens = step_tokens;
    options.running_max = 8;
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    assert_true(llcuda_engine_get_info(engine)->embeddings);
    assert_true(llcuda_engine_get_info(engine)->embedding_length <= WIDTH_MAX);
    free(path);
    return engine;
}

static llcuda_request *ask(llcuda_engine *engine, const char *text, llcuda_pooling pooling)
{
    llcuda_request_options options;
    llcuda_request *request;
    llcuda_error error;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = text;
    options.prompt_bytes = strlen(text);
    options.embedding = pooling;
    assert_ok(llcuda_submit(engine, &options, &request, &error), error);
    return request;
}

/* Reads to the end; returns the width. */
static uint32_t read_embedding(llcuda_request *request, float *embedding, llcuda_usage *usage)
{
    const llcuda_event *event;
    llcuda_error error;
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        assert_int_equal(event->token_count, 0);
        assert_int_equal(event->text_bytes, 0);
        assert_true((event->embedding != NULL) == (event->kind == LLCUDA_EVENT_DONE));
    } while (event->kind != LLCUDA_EVENT_DONE);
    assert_int_equal(event->status, LLCUDA_OK);
    uint32_t width = event->embedding_length;
    memcpy(embedding, event->embedding, width * sizeof *embedding);
    if (usage) {
        *usage = event->usage;
    }
    llcuda_request_release(request);
    return width;
}

static double dot(const float *a, const float *b, uint32_t width)
{
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static char *long_text(uint32_t sentences)
{
    static char text[4096];
    size_t length = 0;
    for (uint32_t i = 0; i < sentences; i++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "What is %u + %u? ", i, i);
    }
    return text;
}

static void vectors_have_length_one_and_meaning(void **state)
{
    (void)state;
    llcuda_engine *engine = open_demo(0, 0);
    if (!engine) {
        skip();
    }
    float same[WIDTH_MAX], again[WIDTH_MAX], near[WIDTH_MAX], far[WIDTH_MAX];
    for (int pooling = LLCUDA_POOLING_MEAN; pooling <= LLCUDA_POOLING_LAST; pooling++) {
        llcuda_pooling how = (llcuda_pooling)pooling;
        llcuda_usage usage;
        uint32_t width = read_embedding(ask(engine, "What is 2+2?", how), same, &usage);
        assert_int_equal(width, llcuda_engine_get_info(engine)->embedding_length);
        assert_true(usage.prompt_tokens > 3);
        assert_int_equal(usage.completion_tokens, 0);
        read_embedding(ask(engine, "What is 2+2?", how), again, NULL);
        assert_memory_equal(same, again, width * sizeof *same);
        read_embedding(ask(engine, "What is 2+3?", how), near, NULL);
        read_embedding(ask(engine, "Hello there, friend.", how), far, NULL);
        assert_true(fabs(dot(same, same, width) - 1) < 1e-5);
        assert_true(dot(same, near, width) < 0.99999);
        assert_true(dot(same, near, width) > dot(same, far, width));
    }
    llcuda_engine_close(engine);
}

/* A mean is the mean: the raw vector of one position is the one that `last` gives for it, and what
 * all beginnings of a prompt give adds up to the mean. */
static void the_mean_is_the_mean_of_the_positions(void **state)
{
    (void)state;
    llcuda_engine *engine = open_demo(0, 0);
    if (!engine) {
        skip();
    }
    static const uint32_t prompt[] = {5, 9, 17, 20, 33};
    double sums[WIDTH_MAX] = {0};
    float vector[WIDTH_MAX];
    llcuda_error error;
    llcuda_request *request;
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.embedding_raw = true;
    options.embedding = LLCUDA_POOLING_LAST;
    uint32_t width = 0;
    for (uint32_t n = 1; n <= 5; n++) {
        options.prompt_token_count = n;
        assert_ok(llcuda_submit(engine, &options, &request, &error), error);
        width = read_embedding(request, vector, NULL);
        for (uint32_t i = 0; i < width; i++) {
            sums[i] += (double)vector[i] / 5;
        }
    }
    options.embedding = LLCUDA_POOLING_MEAN;
    assert_ok(llcuda_submit(engine, &options, &request, &error), error);
    read_embedding(request, vector, NULL);
    for (uint32_t i = 0; i < width; i++) {
        assert_true(fabs(sums[i] - (double)vector[i]) < 1e-6 * (1 + fabs(sums[i])));
    }
    llcuda_engine_close(engine);
}

/* Long texts in a small cache, in small steps, beside answers: the bits of a lone run. */
static void company_changes_no_bit(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    static float alone[COUNT][WIDTH_MAX];
    static float together[WIDTH_MAX];
    llcuda_engine *engine = open_demo(0, 0);
    if (!engine) {
        skip();
    }
    uint64_t per_token = llcuda_engine_get_info(engine)->kv_bytes_per_token;
    uint32_t width = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        llcuda_pooling how = i % 2 ? LLCUDA_POOLING_MEAN : LLCUDA_POOLING_LAST;
        width = read_embedding(ask(engine, long_text(3 * i + 1), how), alone[i], NULL);
    }
    llcuda_engine_close(engine);
    engine = open_demo(600 * per_token, 24);
    llcuda_request *requests[COUNT], *answers[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        answers[i] = ask(engine, "What is 5+6?", LLCUDA_POOLING_NONE);
        requests[i] =
            ask(engine, long_text(3 * i + 1), i % 2 ? LLCUDA_POOLING_MEAN : LLCUDA_POOLING_LAST);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        read_embedding(requests[i], together, NULL);
        assert_memory_equal(together, alone[i], width * sizeof *together);
        llcuda_request_release(answers[i]);
    }
    llcuda_engine_close(engine);
}

static void bad_requests_get_a_sentence(void **state)
{
    (void)state;
    llcuda_engine *engine = open_demo(0, 0);
    if (!engine) {
        skip();
    }
    static uint32_t prompt[513];
    float vector[WIDTH_MAX];
    llcuda_error error;
    llcuda_request *request;
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    for (uint32_t i = 0; i < 513; i++) {
        prompt[i] = 3 + i % 50;
    }
    options.prompt_tokens = prompt;
    options.prompt_token_count = 513;
    options.embedding = LLCUDA_POOLING_MODEL;
    assert_int_equal(llcuda_submit(engine, &options, &request, &error), LLCUDA_CONTEXT_FULL);
    assert_non_null(strstr(error.message, "513"));
    options.prompt_token_count = 512; /* the whole context, and no room for an answer is needed */
    assert_ok(llcuda_submit(engine, &options, &request, &error), error);
    read_embedding(request, vector, NULL);
    options.embedding = (llcuda_pooling)9;
    assert_int_equal(llcuda_submit(engine, &options, &request, &error), LLCUDA_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "embedding"));
    request = ask(engine, long_text(20), LLCUDA_POOLING_MEAN);
    llcuda_request_cancel(request);
    const llcuda_event *event;
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
    } while (event->kind != LLCUDA_EVENT_DONE);
    assert_true((event->embedding == NULL) == (event->status == LLCUDA_CANCELLED));
    llcuda_request_release(request);
    llcuda_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_have_length_one_and_meaning),
        cmocka_unit_test(the_mean_is_the_mean_of_the_positions),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(bad_requests_get_a_sentence),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("embeddings", tests, NULL, NULL);
}
