/* Bodies of the OpenAI routes. The first byte chooses the route. What comes out must keep
 * its promises: either an error with a sentence, or options within their ranges and ids within the
 * vocabulary. */
#include "fuzz.h"

#include <stdlib.h>

#include "server/openai_request.h"

#define VOCABULARY 1000u

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void check(struct openai_request *request)
{
    const llcuda_request_options *options = &request->options;
    require(request->prompt_count >= 1 && options->choice_count >= 1);
    require(request->prompt_count * options->choice_count <= OPENAI_CHOICES_MAX);
    require(options->temperature >= 0 && options->temperature <= 100);
    require(options->top_p >= 0 && options->top_p <= 1);
    for (uint32_t i = 0; i < options->logit_bias_count; i++) {
        require(options->logit_bias[i].token < VOCABULARY);
        require(options->logit_bias[i].bias >= -100 && options->logit_bias[i].bias <= 100);
    }
    for (uint32_t i = 0; i < options->stop_token_count; i++) {
        require(options->stop_tokens[i] < VOCABULARY);
    }
    for (uint32_t i = 0; i < options->stop_count; i++) {
        require(options->stop[i].bytes > 0 && options->stop[i].bytes <= 1024);
    }
    bool talk = request->api == OPENAI_CHAT || request->api == OPENAI_RESPONSES;
    require(!talk || request->messages.length > 0);
    for (uint32_t i = 0; i < request->prompt_count && !talk; i++) {
        openai_request_select(request, i);
        require((options->prompt != NULL) + (options->prompt_tokens != NULL) == 1);
        for (size_t j = 0; j < options->prompt_token_count; j++) {
            require(options->prompt_tokens[j] < VOCABULARY);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_error error = {0};
    struct openai_request request;
    llcuda_request_options defaults;
    if (size == 0) {
        return 0;
    }
    llcuda_request_options_init(&defaults, sizeof defaults);
    enum openai_api api = (enum openai_api)(data[0] & 3);
    struct text_view body = text_view_make((const char *)data + 1, size - 1);
    if (openai_request_open(&request, api, body, &error) &&
        openai_request_read(&request, &defaults, VOCABULARY, &error)) {
        check(&request);
    } else {
        require(error.status >= 400 && error.message[0] != 0);
    }
    openai_request_deinit(&request);
    return 0;
}
