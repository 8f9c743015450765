/* Bodies of OpenAI requests: what is read, what is refused, what is reported. */
#include "support/test_support.h"

#include "server/openai_request.h"

#define VOCABULARY 100u

struct result {
    struct openai_request request;
    struct api_error error;
    bool good;
};

static struct result read_body(enum openai_api api, const char *body)
{
    struct result result = {0};
    llcuda_request_options defaults;
    llcuda_request_options_init(&defaults, sizeof defaults);
    result.good = openai_request_open(&result.request, api, text_view_of(body), &result.error) &&
                  openai_request_read(&result.request, &defaults, VOCABULARY, &result.error);
    return result;
}

static void expect_error(enum openai_api api, const char *body, const char *code, const char *param)
{
    struct result result = read_body(api, body);
    assert_false(result.good);
    assert_int_equal(result.error.status, 400);
    assert_string_equal(result.error.type, "invalid_request_error");
    assert_string_equal(result.error.code, code);
    assert_string_equal(result.error.param, param);
    assert_true(strlen(result.error.message) > 10);
    openai_request_deinit(&result.request);
}

static void reads_every_field(void **state)
{
    (void)state;
    struct result result = read_body(
        OPENAI_CHAT,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"a\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},"
        "{\"type\":\"text\",\"text\":\"c\"}],\"weight\":1}],\"max_completion_tokens\":7,"
        "\"temperature\":0.5,\"top_p\":0.25,\"top_k\":3,\"min_p\":0.125,\"n\":2,\"seed\":-1,"
        "\"stop\":[\"x\",\"yz\"],\"logit_bias\":{\"99\":-100},\"logprobs\":true,"
        "\"top_logprobs\":4,\"stream\":true,\"stream_options\":{\"include_usage\":true,\"o\":1},"
        "\"presence_penalty\":-2,\"frequency_penalty\":2,\"stop_token_ids\":[5],\"user\":\"u\","
        "\"metadata\":{},\"new\":null,\"repetition_penalty\":1.5,\"cache_salt\":\"s\"}");
    const llcuda_request_options *options = &result.request.options;
    assert_true(result.good);
    assert_true(text_view_is(result.request.model, "m"));
    assert_string_equal(buffer_text(&result.request.messages),
                        "{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}, "
                        "{\"role\": \"user\", \"content\": \"bc\"}], "
                        "\"add_generation_prompt\": true}");
    assert_int_equal(options->max_tokens, 7);
    assert_true(result.request.max_tokens_given);
    assert_near(options->temperature, 0.5, 0);
    assert_near(options->top_p, 0.25, 0);
    assert_near(options->min_p, 0.125, 0);
    assert_near(options->repetition_penalty, 1.5, 0);
    assert_near(options->presence_penalty, -2, 0);
    assert_near(options->frequency_penalty, 2, 0);
    assert_int_equal(options->top_k, 3);
    assert_int_equal(options->choice_count, 2);
    assert_true(options->seed_given && options->seed == UINT64_MAX);
    assert_int_equal(options->stop_count, 2);
    assert_memory_equal(options->stop[1].data, "yz", 2);
    assert_int_equal(options->logit_bias_count, 1);
    assert_int_equal(options->logit_bias[0].token, 99);
    assert_near(options->logit_bias[0].bias, -100, 0);
    assert_true(options->logprobs && options->top_logprobs == 4);
    assert_int_equal(options->stop_tokens[0], 5);
    assert_string_equal(options->cache_salt, "s");
    assert_true(result.request.stream && result.request.include_usage);
    assert_string_equal(buffer_text(&result.request.ignored), "user,metadata");
    assert_string_equal(buffer_text(&result.request.unknown),
                        "messages.weight,stream_options.o,new");
    openai_request_deinit(&result.request);
}

static void reads_prompts(void **state)
{
    (void)state;
    struct result result =
        read_body(OPENAI_COMPLETION, "{\"prompt\":[\"a\",[1,2]],\"logprobs\":0,\"echo\":true}");
    assert_true(result.good);
    assert_int_equal(result.request.prompt_count, 2);
    openai_request_select(&result.request, 0);
    assert_int_equal(result.request.options.prompt_bytes, 1);
    assert_null(result.request.options.prompt_tokens);
    openai_request_select(&result.request, 1);
    assert_null(result.request.options.prompt);
    assert_int_equal(result.request.options.prompt_token_count, 2);
    assert_int_equal(result.request.options.prompt_tokens[1], 2);
    assert_true(result.request.options.logprobs && result.request.options.echo);
    assert_int_equal(result.request.options.max_tokens, 16);
    assert_false(result.request.max_tokens_given);
    openai_request_deinit(&result.request);
    result = read_body(OPENAI_COMPLETION, "{\"prompt\":\"\"}");
    assert_true(result.good);
    openai_request_select(&result.request, 0);
    assert_string_equal(result.request.options.prompt, "");
    openai_request_deinit(&result.request);
}

static void refuses(void **state)
{
    static const struct {
        enum openai_api api;
        const char *body, *code, *param;
    } rows[] = {
        {OPENAI_CHAT, "", "invalid_json", ""},
        {OPENAI_CHAT, "3", "invalid_json", ""},
        {OPENAI_CHAT, "{\"n\":1,\"n\":2}", "invalid_json", ""},
        {OPENAI_CHAT, "{}", "missing_required_parameter", "messages"},
        {OPENAI_COMPLETION, "{}", "missing_required_parameter", "prompt"},
        {OPENAI_COMPLETION, "{\"prompt\":[100]}", "invalid_value", "prompt"},
        {OPENAI_COMPLETION, "{\"prompt\":[1.5]}", "invalid_value", "prompt"},
        {OPENAI_COMPLETION, "{\"prompt\":[[]]}", "invalid_value", "prompt"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"temperature\":1e400}", "invalid_value",
         "temperature"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"top_p\":1.01}", "invalid_value", "top_p"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"top_k\":-1}", "invalid_value", "top_k"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"n\":129}", "invalid_value", "n"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"n\":4294967297}", "invalid_value", "n"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"max_tokens\":-1}", "invalid_value", "max_tokens"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"logprobs\":21}", "invalid_value", "logprobs"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"logit_bias\":{\"100\":1}}", "invalid_value",
         "logit_bias"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"logit_bias\":{\"-1\":1}}", "invalid_value",
         "logit_bias"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"logit_bias\":{\"1\":101}}", "invalid_value",
         "logit_bias"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"stop_token_ids\":[100]}", "invalid_value",
         "stop_token_ids"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"stream_options\":{\"include_usage\":true}}",
         "invalid_value", "stream_options"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"suffix\":\"b\"}", "unsupported_parameter",
         "suffix"},
        {OPENAI_COMPLETION, "{\"prompt\":\"a\",\"cache_salt\":\"a\\u0000\"}", "invalid_value",
         "cache_salt"},
        {OPENAI_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", "invalid_value", "messages"},
        {OPENAI_CHAT,
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
         "\"chat_template_kwargs\":{\"messages\":[]}}",
         "unsupported_parameter", "chat_template_kwargs"},
        {OPENAI_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[1]}",
         "unsupported_parameter", "tools"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_error(rows[i].api, rows[i].body, rows[i].code, rows[i].param);
    }
}

/* A body may be as deep as it likes without cost, and no deeper than the writer can follow. */
static void refuses_depth(void **state)
{
    (void)state;
    char body[4096] = "{\"messages\":";
    size_t length = strlen(body);
    memset(body + length, '[', 2000);
    expect_error(OPENAI_CHAT, body, "invalid_json", "");
}

static void errors_are_cut_at_characters(void **state)
{
    (void)state;
    struct api_error error;
    char text[2 * LLCUDA_ERROR_MESSAGE_BYTES];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    text[sizeof text - 2] = 0;
    api_error_set(&error, 429, NULL, NULL, "%s", text);
    size_t length = strlen(error.message);
    assert_int_equal(length % 2, 0);
    assert_true(length > LLCUDA_ERROR_MESSAGE_BYTES - 4);
    assert_string_equal(error.type, "rate_limit_error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_field),
        cmocka_unit_test(reads_prompts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_depth),
        cmocka_unit_test(errors_are_cut_at_characters),
    };
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
