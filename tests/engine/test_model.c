/* The whole engine through its public interface on real models: the built-in one, and the oracle's
 * when it is there. */
#include "support/test_support.h"

#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "format/gguf_write.h"
#include "llcuda/llcuda.h"

static char *demo_path(void)
{
    char *path = test_source_path("models/demo/llcuda-demo-q8_0.gguf");
    if (!file_exists(path)) {
        free(path);
        return NULL;
    }
    return path;
}

static llcuda_engine *open_with(const char *path, const llcuda_engine_options *given)
{
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    if (given) {
        options = *given;
    }
    options.model = path;
    assert_ok(llcuda_engine_open(&options, &engine, &error), error);
    return engine;
}

struct answer {
    struct buffer text;
    uint32_t tokens[256];
    float logprobs[256];
    uint32_t count;
    llcuda_finish_reason reason;
    llcuda_status status;
    llcuda_usage usage;
    llcuda_timings timings;
};

/* Reads choice 0 to the end and releases the request. */
static void read_answer(llcuda_request *request, struct answer *answer)
{
    *answer = (struct answer){0};
    const llcuda_event *event;
    llcuda_error error;
    do {
        assert_ok(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), error);
        if (event->choice != 0) {
            continue;
        }
        buffer_append(&answer->text, event->text, event->text_bytes);
        for (uint32_t i = 0; i < event->token_count && event->kind == LLCUDA_EVENT_TOKENS; i++) {
            assert_true(answer->count < 256);
            answer->logprobs[answer->count] = event->logprobs ? event->logprobs[i].logprob : 0;
            answer->tokens[answer->count++] = event->tokens[i];
        }
        if (event->kind == LLCUDA_EVENT_FINISHED) {
            answer->reason = event->finish_reason;
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    answer->status = event->status;
    answer->usage = event->usage;
    answer->timings = event->timings;
    llcuda_request_release(request);
}

static llcuda_request *submit(llcuda_engine *engine, const llcuda_request_options *options)
{
    llcuda_request *request;
    llcuda_error error;
    assert_ok(llcuda_submit(engine, options, &request, &error), error);
    return request;
}

static void ask(llcuda_engine *engine, const char *prompt, uint32_t max_tokens,
                struct answer *answer)
{
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = prompt;
    options.prompt_bytes = strlen(prompt);
    options.max_tokens = max_tokens;
    read_answer(submit(engine, &options), answer);
    assert_int_equal(answer->status, LLCUDA_OK);
}

/* ------------------------------------------------------------------ the oracle's story */

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
    struct llcuda_error error;
    assert_ok(file_read_all(expected_path, 1 << 20, &expected, &error), error);
    llcuda_engine *engine = open_with(path, NULL);
    struct answer answer;
    ask(engine, "", 200, &answer);
    assert_string_equal(buffer_text(&answer.text), buffer_text(&expected));
    assert_int_equal(answer.reason, LLCUDA_FINISH_LENGTH);
    buffer_deinit(&answer.text);
    buffer_deinit(&expected);
    llcuda_engine_close(engine);
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

/* ------------------------------------------------------------------ company */

#define COMPANY 64u

/* A mixed lot of requests: lengths, prompts that share beginnings, sampling of all kinds. */
static void mixed_options(uint32_t index, char prompt[2000], llcuda_request_options *options)
{
    static const char *const beginnings[] = {
        "What is 47 + 38?", "Tell me a story about a dog and a boat. ", "A kilometre has",
        "Fill in the form: name, age, city. "};
    llcuda_request_options_init(options, sizeof *options);
    size_t length = 0;
    for (uint32_t i = 0; i <= index % 7; i++) {
        length +=
            (size_t)snprintf(prompt + length, 2000 - length, "%s", beginnings[(index / 3 + i) % 4]);
    }
    for (uint32_t i = 0; i < index % 5; i++) {
        length += (size_t)snprintf(prompt + length, 2000 - length, " %u and then", index * i);
    }
    options->prompt = prompt;
    options->prompt_bytes = length;
    options->max_tokens = 8 + index % 40;
    options->temperature = index % 3 == 0 ? 0 : 0.5 + index % 4 * 0.4;
    options->top_k = index % 4 == 1 ? 40 : 0;
    options->top_p = index % 5 == 2 ? 0.9 : 1;
    options->repetition_penalty = index % 6 == 3 ? 1.2 : 1;
    options->ignore_eos = index % 2 == 0;
    options->seed_given = true;
    options->seed = 1000 + index;
    options->logprobs = true;
    options->priority = (int32_t)(index % 5) - 2;
    options->tenant = index % 2 ? "odd" : "even";
}

static void company_changes_nothing(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    options.context_length = 512;
    options.running_max = 1;
    options.prefix_cache = false;
    llcuda_engine *lone = open_with(path, &options);
    options.running_max = 16;
    options.prefix_cache = true;
    options.step_tokens = 48; /* prompts come in chunks */
    options.kv_bytes = 33 * 16 * llcuda_engine_get_info(lone)->kv_bytes_per_token; /* too few */
    options.asleep = true; /* so that all are there when the first one starts */
    llcuda_engine *busy = open_with(path, &options);

    llcuda_request *requests[COMPANY];
    char prompt[2000];
    for (uint32_t i = 0; i < COMPANY; i++) {
        llcuda_request_options request;
        mixed_options(i, prompt, &request);
        requests[i] = submit(busy, &request);
    }
    llcuda_error error;
    assert_ok(llcuda_engine_wake(busy, &error), error);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < COMPANY; i++) {
        static struct answer together, alone;
        llcuda_request_options request;
        mixed_options(i, prompt, &request);
        read_answer(requests[i], &together);
        read_answer(submit(lone, &request), &alone);
        assert_int_equal(together.status, LLCUDA_OK);
        assert_int_equal(together.count, alone.count);
        assert_memory_equal(together.tokens, alone.tokens, alone.count * sizeof alone.tokens[0]);
        /* The logits too, to the last bit. */
        assert_memory_equal(together.logprobs, alone.logprobs, alone.count * sizeof(float));
        assert_string_equal(buffer_text(&together.text), buffer_text(&alone.text));
        assert_int_equal(together.reason, alone.reason);
        tokens += alone.count;
        buffer_deinit(&together.text);
        buffer_deinit(&alone.text);
    }
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(busy, &stats);
    printf("%u requests, %llu tokens, %llu steps; %llu preemptions, %llu of %llu prompt tokens "
           "found in the prefix tree\n",
           COMPANY, (unsigned long long)tokens, (unsigned long long)stats.steps,
           (unsigned long long)stats.preemptions, (unsigned long long)stats.prefix_hit_tokens,
           (unsigned long long)stats.prefix_lookup_tokens);
    assert_true(stats.preemptions > 0 && stats.prefix_hit_tokens > 0);
    assert_int_equal(stats.blocks_used, 0);
    llcuda_engine_close(lone);
    llcuda_engine_close(busy);
    free(path);
}

/* Who has read an answer's end finds it in the counters, at once: steps, bytes and requests. */
static void an_answer_that_ended_is_counted(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine *engine = open_with(path, NULL);
    llcuda_stats stats = {.size = sizeof stats};
    for (uint64_t i = 1; i <= 200; i++) {
        llcuda_request_options options;
        llcuda_request_options_init(&options, sizeof options);
        options.prompt = "One";
        options.prompt_bytes = 3;
        options.max_tokens = 1;
        llcuda_request *request = submit(engine, &options);
        const llcuda_event *event = NULL;
        while (!event || event->kind != LLCUDA_EVENT_DONE) { /* awake: nobody has to wake it */
            event = NULL;
            llcuda_status status = llcuda_request_next(request, 0, &event, NULL);
            assert_true(status == (event ? LLCUDA_OK : LLCUDA_TIMEOUT));
        }
        llcuda_engine_get_stats(engine, &stats);
        llcuda_request_release(request);
        assert_int_equal(stats.requests, 0);
        assert_int_equal(stats.blocks_used, 0);
        assert_int_equal(stats.generated_tokens, i);
        assert_int_equal(stats.steps, i);
        assert_int_equal(stats.weight_bytes_read % i, 0);
    }
    llcuda_engine_close(engine);
    free(path);
}

/* A step reads each weight once, however many rows it has. */
static void a_step_reads_the_weights_once(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine *engine = open_with(path, NULL);
    uint64_t bytes_per_step[2];
    uint64_t tokens_per_step[2];
    for (int round = 0; round < 2; round++) {
        llcuda_stats before = {.size = sizeof before};
        llcuda_stats after = {.size = sizeof after};
        llcuda_engine_get_stats(engine, &before);
        llcuda_request_options options;
        llcuda_request_options_init(&options, sizeof options);
        options.prompt = "One";
        options.prompt_bytes = 3;
        options.max_tokens = 32;
        options.ignore_eos = true;
        options.choice_count = round == 0 ? 1 : 16;
        struct answer answer;
        read_answer(submit(engine, &options), &answer);
        buffer_deinit(&answer.text);
        llcuda_engine_get_stats(engine, &after);
        bytes_per_step[round] =
            (after.weight_bytes_read - before.weight_bytes_read) / (after.steps - before.steps);
        tokens_per_step[round] =
            (after.generated_tokens - before.generated_tokens) / (after.steps - before.steps);
    }
    assert_true(bytes_per_step[0] > 0);
    assert_int_equal(bytes_per_step[0], bytes_per_step[1]);
    assert_int_equal(tokens_per_step[0], 1);
    assert_int_equal(tokens_per_step[1], 16);
    llcuda_engine_close(engine);
    free(path);
}

/* A long shared beginning is computed once. */
static void a_shared_prefix_is_found(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    double best = 1;
    double times[2] = {0};
    for (int attempt = 0; attempt < 5 && best > 0.1; attempt++) {
        llcuda_engine *engine = open_with(path, NULL);
        static uint32_t prompt[1010];
        for (uint32_t i = 0; i < 1010; i++) {
            prompt[i] = 300 + i * 7 % 600;
        }
        for (int round = 0; round < 2; round++) {
            llcuda_request_options options;
            llcuda_request_options_init(&options, sizeof options);
            prompt[1005] = 300 + (uint32_t)round;
            options.prompt_tokens = prompt;
            options.prompt_token_count = 1010;
            options.max_tokens = 2;
            options.ignore_eos = true;
            struct answer answer;
            read_answer(submit(engine, &options), &answer);
            buffer_deinit(&answer.text);
            assert_int_equal(answer.usage.cached_tokens, round == 0 ? 0 : 992);
            times[round] = answer.timings.ttft_ms;
        }
        best = times[1] / times[0] < best ? times[1] / times[0] : best;
        llcuda_engine_close(engine);
    }
    printf("time to first token: %.2f ms, with the cached prefix %.2f ms (at best %.1f %%)\n",
           times[0], times[1], 100 * best);
    assert_true(best <= 0.1);
    free(path);
}

/* ------------------------------------------------------------------ the request's edges */

static void stops_echo_and_choices(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine *engine = open_with(path, NULL);
    static struct answer whole, cut, echoed;
    ask(engine, "Tell me a story.", 60, &whole);
    assert_true(whole.text.length > 20);
    /* A piece of the answer's middle as stop string ends it there. */
    char stop_text[8];
    memcpy(stop_text, whole.text.data + 11, 6);
    llcuda_text stop = {stop_text, 6};
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = "Tell me a story.";
    options.prompt_bytes = strlen(options.prompt);
    options.max_tokens = 60;
    options.stop = &stop;
    options.stop_count = 1;
    read_answer(submit(engine, &options), &cut);
    const char *where = memmem(whole.text.data, whole.text.length, stop_text, 6);
    assert_int_equal(cut.text.length, (size_t)(where - whole.text.data));
    assert_memory_equal(cut.text.data, whole.text.data, cut.text.length);
    assert_int_equal(cut.reason, LLCUDA_FINISH_STOP);
    options.stop_count = 0;
    options.echo = true;
    read_answer(submit(engine, &options), &echoed);
    assert_memory_equal(echoed.text.data, options.prompt, options.prompt_bytes);
    assert_string_equal(echoed.text.data + options.prompt_bytes, buffer_text(&whole.text));
    buffer_deinit(&whole.text);
    buffer_deinit(&cut.text);
    buffer_deinit(&echoed.text);
    llcuda_engine_close(engine);
    free(path);
}

static void expect_refusal(llcuda_engine *engine, const llcuda_request_options *options,
                           llcuda_status status)
{
    llcuda_request *request = (llcuda_request *)(void *)&status;
    llcuda_error error = {0};
    assert_int_equal(llcuda_submit(engine, options, &request, &error), status);
    assert_null(request);
    assert_true(strlen(error.message) > 10);
}

static void bad_requests_get_a_sentence(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine_options engine_options;
    llcuda_engine_options_init(&engine_options, sizeof engine_options);
    engine_options.context_length = 256;
    engine_options.queue_max = 64;
    llcuda_engine *engine = open_with(path, &engine_options);
    /* A good one runs all the while and does not notice. */
    llcuda_request_options good;
    llcuda_request_options_init(&good, sizeof good);
    good.prompt = "One, two, three";
    good.prompt_bytes = strlen(good.prompt);
    good.max_tokens = 200;
    good.ignore_eos = true;
    static struct answer before, during;
    read_answer(submit(engine, &good), &before);
    llcuda_request *running = submit(engine, &good);

    static char text[100000];
    memset(text, 'x', sizeof text);
    static const uint32_t ids[3] = {1, 2, 4000000000u};
    llcuda_request_options bad = good;
    bad.prompt = text;
    bad.prompt_bytes = sizeof text;
    expect_refusal(engine, &bad, LLCUDA_CONTEXT_FULL);
    bad = good;
    bad.prompt = NULL;
    bad.prompt_tokens = ids;
    bad.prompt_token_count = 3;
    expect_refusal(engine, &bad, LLCUDA_INVALID_ARGUMENT);
    bad = good;
    bad.temperature = NAN;
    expect_refusal(engine, &bad, LLCUDA_INVALID_ARGUMENT);
    bad = good;
    bad.choice_count = 0;
    expect_refusal(engine, &bad, LLCUDA_INVALID_ARGUMENT);
    bad.choice_count = 65; /* fits the table, not this queue */
    expect_refusal(engine, &bad, LLCUDA_BUSY);
    llcuda_text stop = {text, 2ull << 30};
    bad = good;
    bad.stop = &stop;
    bad.stop_count = 1;
    expect_refusal(engine, &bad, LLCUDA_LIMIT);
    bad = good;
    bad.prompt = NULL;
    bad.messages = "[{\"role\": \"user\", \"content\": }]";
    bad.messages_bytes = strlen(bad.messages);
    expect_refusal(engine, &bad, LLCUDA_BAD_FORMAT);
    bad.messages = "17";
    bad.messages_bytes = 2;
    expect_refusal(engine, &bad, LLCUDA_BAD_FORMAT);

    read_answer(running, &during);
    assert_int_equal(during.count, before.count);
    assert_memory_equal(during.tokens, before.tokens, before.count * sizeof before.tokens[0]);
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    assert_int_equal(stats.requests_rejected, 8);
    buffer_deinit(&before.text);
    buffer_deinit(&during.text);
    llcuda_engine_close(engine);
    free(path);
}

static void texts_tokens_and_templates(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    options.vocabulary_only = true;
    llcuda_engine *engine = open_with(path, &options);
    llcuda_error error;
    uint32_t *ids;
    size_t count;
    char *text;
    size_t bytes;
    assert_ok(llcuda_tokenize(engine, "Hello, world", 12, LLCUDA_NO, true, &ids, &count, &error),
              error);
    assert_true(count > 1);
    assert_ok(llcuda_detokenize(engine, ids, count, false, &text, &bytes, &error), error);
    assert_string_equal(text, "Hello, world");
    llcuda_free(text);
    ids[0] = UINT32_MAX;
    assert_int_equal(llcuda_detokenize(engine, ids, count, false, &text, &bytes, &error),
                     LLCUDA_INVALID_ARGUMENT);
    assert_null(text);
    llcuda_free(ids);
    assert_ok(llcuda_tokenize(engine, "", 0, LLCUDA_NO, true, &ids, &count, &error), error);
    assert_int_equal(count, 0);
    llcuda_free(ids);
    const char *messages = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
    assert_ok(llcuda_apply_template(engine, messages, strlen(messages), &text, &bytes, &error),
              error);
    assert_non_null(strstr(text, "Hi"));
    llcuda_free(text);
    llcuda_request_options request;
    llcuda_engine_request_defaults(engine, &request, sizeof request);
    request.prompt = "x";
    request.prompt_bytes = 1;
    expect_refusal(engine, &request, LLCUDA_UNSUPPORTED);
    llcuda_engine_close(engine);
    free(path);
}

/* ------------------------------------------------------------------ opening, sleeping, several */

static void opening_fails_with_a_sentence(void **state)
{
    (void)state;
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_NOT_FOUND);
    assert_null(engine);
    options.model = "/nonexistent/model.gguf";
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_NOT_FOUND);
    char *path = demo_path();
    if (!path) {
        skip();
    }
    options.model = path;
    options.device = "cuda:0";
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_UNSUPPORTED);
    options.device = "cpu:mmx";
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_INVALID_ARGUMENT);
    options.device = NULL;
    options.throughput_bias = 2;
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_INVALID_ARGUMENT);
    options.throughput_bias = 0.5;
    options.kv_bytes = 1;
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_LIMIT);
    options.kv_bytes = 0;
    options.chat_template = "{% if %}";
    assert_int_equal(llcuda_engine_open(&options, &engine, &error), LLCUDA_BAD_FORMAT);
    assert_true(strlen(error.message) > 10);
    free(path);
}

static void sleep_and_wake_keep_the_tokens(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine *engine = open_with(path, NULL);
    struct answer before;
    struct answer after;
    llcuda_error error;
    llcuda_stats stats = {.size = sizeof stats};
    ask(engine, "What is 2+2?", 30, &before);
    llcuda_engine_get_stats(engine, &stats);
    assert_true(stats.memory_bytes > 1 << 20);
    assert_ok(llcuda_engine_sleep(engine, &error), error);
    assert_ok(llcuda_engine_sleep(engine, &error), error);
    llcuda_engine_get_stats(engine, &stats);
    assert_true(stats.asleep && stats.memory_bytes == 0);
    assert_ok(llcuda_engine_wake(engine, &error), error);
    ask(engine, "What is 2+2?", 30, &after);
    assert_int_equal(after.count, before.count);
    assert_memory_equal(after.tokens, before.tokens, before.count * sizeof before.tokens[0]);
    buffer_deinit(&before.text);
    buffer_deinit(&after.text);
    llcuda_engine_close(engine);
    free(path);
}

static void models_share_a_limit(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    options.asleep = true;
    llcuda_engine *engine = open_with(path, &options);
    const llcuda_engine_info *info = llcuda_engine_get_info(engine);
    assert_int_equal(info->memory_bytes, 0);
    uint64_t one = info->weight_bytes + info->kv_bytes + info->logits_bytes;
    llcuda_engine_close(engine);

    llcuda_models *models;
    llcuda_error error;
    llcuda_engine *first;
    llcuda_engine *second;
    llcuda_engine *third;
    llcuda_model_state entry;
    assert_ok(llcuda_models_create(one * 5 / 2, &models, &error), error);
    options.asleep = false;
    options.model = path;
    assert_ok(llcuda_models_add(models, "a", &options, &error), error);
    assert_ok(llcuda_models_add(models, "b", &options, &error), error);
    assert_ok(llcuda_models_add(models, "c", &options, &error), error);
    assert_int_equal(llcuda_models_add(models, "a", &options, &error), LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(llcuda_models_acquire(models, "d", &first, &error), LLCUDA_NOT_FOUND);
    assert_ok(llcuda_models_acquire(models, "a", &first, &error), error);
    assert_ok(llcuda_models_acquire(models, "b", &second, &error), error);
    /* Two fit, three do not, and nobody can give way. */
    assert_int_equal(llcuda_models_acquire(models, "c", &third, &error), LLCUDA_BUSY);
    struct answer answer;
    ask(first, "What is 2+2?", 5, &answer);
    buffer_deinit(&answer.text);
    llcuda_models_release(models, first);
    llcuda_models_release(models, second);
    assert_ok(llcuda_models_acquire(models, "a", &first, &error), error); /* a is newer than b */
    llcuda_models_release(models, first);
    assert_ok(llcuda_models_acquire(models, "c", &third, &error), error);
    assert_true(llcuda_models_get_state(models, 0, &entry) && !entry.asleep);
    assert_true(llcuda_models_get_state(models, 1, &entry) && entry.asleep);
    assert_string_equal(entry.name, "b");
    assert_true(llcuda_models_get_state(models, 2, &entry) && entry.holders == 1);
    assert_false(llcuda_models_get_state(models, 3, &entry));
    assert_int_equal(llcuda_models_remove(models, "c", &error), LLCUDA_BUSY);
    assert_int_equal(llcuda_models_sleep(models, "c", &error), LLCUDA_BUSY);
    llcuda_models_release(models, third);
    assert_ok(llcuda_models_sleep(models, "c", &error), error);
    assert_ok(llcuda_models_remove(models, "c", &error), error);
    llcuda_models_destroy(models);
    assert_ok(llcuda_models_create(one / 2, &models, &error), error);
    assert_ok(llcuda_models_add(models, "a", &options, &error), error);
    assert_int_equal(llcuda_models_acquire(models, "a", &first, &error), LLCUDA_LIMIT);
    llcuda_models_destroy(models);
    free(path);
}

/* Part `number` of three of a GGUF file: all metadata in the first, a third of the tensors in each.
 */
static void write_part(const struct gguf *whole, const char *folder, uint32_t number)
{
    char name[64];
    struct gguf_writer *writer;
    struct llcuda_error error;
    snprintf(name, sizeof name, "part-%05u-of-00003.gguf", number + 1);
    char *path = file_path_join(folder, name);
    assert_ok(gguf_writer_create(path, &writer, &error), error);
    for (uint64_t i = 0; number == 0 && i < gguf_value_count(whole); i++) {
        gguf_writer_add_value(writer, gguf_value_at(whole, i));
    }
    gguf_writer_add_u32(writer, "split.no", number);
    gguf_writer_add_u32(writer, "split.count", 3);
    uint64_t count = gguf_tensor_count(whole);
    uint64_t begin = count * number / 3;
    uint64_t end = count * (number + 1) / 3;
    for (uint64_t i = begin; i < end; i++) {
        const struct tensor *tensor = gguf_tensor_at(whole, i);
        assert_ok(gguf_writer_add_tensor(writer, tensor->name, tensor->dtype, tensor->rank,
                                         tensor->shape, &error),
                  error);
    }
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    for (uint64_t i = begin; i < end; i++) {
        const struct tensor *tensor = gguf_tensor_at(whole, i);
        assert_ok(gguf_writer_data(writer, tensor->data, tensor->bytes, &error), error);
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
    free(path);
}

static void a_split_model_answers_alike(void **state)
{
    (void)state;
    char *path = demo_path();
    if (!path) {
        skip();
    }
    struct gguf *whole;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    assert_ok(gguf_open(path, false, &whole, &error), error);
    for (uint32_t i = 0; i < 3; i++) {
        write_part(whole, folder, i);
    }
    gguf_close(whole);
    char *second = file_path_join(folder, "part-00002-of-00003.gguf");
    struct answer answers[2];
    for (int i = 0; i < 2; i++) {
        llcuda_engine *engine = open_with(i == 0 ? path : second, NULL);
        ask(engine, "What is 47 + 38?", 20, &answers[i]);
        llcuda_engine_close(engine);
    }
    assert_true(answers[0].count > 1);
    assert_int_equal(answers[0].count, answers[1].count);
    assert_memory_equal(answers[0].tokens, answers[1].tokens,
                        answers[0].count * sizeof answers[0].tokens[0]);
    buffer_deinit(&answers[0].text);
    buffer_deinit(&answers[1].text);
    test_folder_remove(folder);
    free(second);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_story_from_gguf),
        cmocka_unit_test(the_story_from_safetensors),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(an_answer_that_ended_is_counted),
        cmocka_unit_test(a_step_reads_the_weights_once),
        cmocka_unit_test(a_shared_prefix_is_found),
        cmocka_unit_test(stops_echo_and_choices),
        cmocka_unit_test(bad_requests_get_a_sentence),
        cmocka_unit_test(texts_tokens_and_templates),
        cmocka_unit_test(opening_fails_with_a_sentence),
        cmocka_unit_test(sleep_and_wake_keep_the_tokens),
        cmocka_unit_test(models_share_a_limit),
        cmocka_unit_test(a_split_model_answers_alike),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("engine on models", tests, NULL, NULL);
}
