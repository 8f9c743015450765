/* Owns the way of a body to the engine: read, rendered, priced, admitted, submitted.
 *
 * Runs on the worker for short bodies and on the thread of offload.c for long ones, therefore it
 * touches neither the call nor the exchange. The price of a request is what it may take at most:
 * its prompt, and for each choice the tokens asked for. It is checked before the engine hears of
 * the request. Counting the tokens of a prompt needs tokenising it, which the engine does again; so
 * the bound "no more tokens than bytes" is tried first, and most prompts are tokenised once. */
#include <stdlib.h>

#include "server/generation.h"

/* Beginning and end tokens that a model's files ask for. */
#define EXTRA_TOKENS 4u
/* What an answer without max_tokens is priced with; it may become longer. */
#define ASSUMED_TOKENS 512u
/* Without --queue-tokens: so many caches full may wait. */
#define CACHES_QUEUED 64u

static bool make_room(struct generation *generation)
{
    struct openai_request *request = &generation->request;
    generation->choices_each = request->options.choice_count;
    generation->requests = calloc(request->prompt_count, sizeof(llcuda_request *));
    generation->done = calloc(request->prompt_count, sizeof *generation->done);
    generation->vectors = calloc(request->prompt_count, sizeof *generation->vectors);
    generation->choices = calloc((size_t)request->prompt_count * generation->choices_each,
                                 sizeof *generation->choices);
    return (generation->requests && generation->done && generation->choices &&
            generation->vectors) ||
           api_error_from(&generation->error, LLCUDA_OUT_OF_MEMORY, NULL);
}

static bool talks(const struct generation *generation)
{
    return generation->request.api == OPENAI_CHAT || generation->request.api == OPENAI_RESPONSES;
}

/* Tools need a template that shows them and calls that can be read. */
static bool check_tools(struct generation *generation)
{
    enum tool_format format = generation->model->facts.tools;
    struct openai_request *request = &generation->request;
    if (!request->has_tools) {
        return true;
    }
    if (format == TOOLS_NONE || format == TOOLS_UNKNOWN) {
        return api_error_set(&generation->error, 400, "unsupported_parameter", "tools",
                             format == TOOLS_NONE
                                 ? "this model's chat template knows no tools"
                                 : "this model writes tool calls in a way that is not understood "
                                   "here");
    }
    /* The marks around calls are special tokens in some vocabularies. */
    request->options.special_text = true;
    return true;
}

static bool check_embeddings(struct generation *generation)
{
    const llcuda_engine_info *info = llcuda_engine_get_info(generation->model->engine);
    uint32_t wanted = generation->request.dimensions;
    if (generation->request.api != OPENAI_EMBEDDINGS) {
        return true;
    }
    if (!info->embeddings) {
        return api_error_set(&generation->error, 400, "unsupported_parameter", "model",
                             "this model's device gives no embeddings");
    }
    return wanted == 0 || wanted == info->embedding_length ||
           api_error_set(&generation->error, 400, "unsupported_parameter", "dimensions",
                         "this model's embeddings have %u dimensions", info->embedding_length);
}

/* ------------------------------------------------------------------ price */

static uint64_t queue_limit(struct generation *generation)
{
    struct server *server = generation->server;
    uint64_t limit = atomic_load(&server->queue_tokens);
    if (limit == 0) {
        const llcuda_engine_info *info = llcuda_engine_get_info(generation->model->engine);
        limit = (uint64_t)info->kv_block_count * 16u * CACHES_QUEUED;
        atomic_store(&server->queue_tokens, limit);
    }
    return limit;
}

/* Takes `price` tokens from what may be queued; false when there is no room. */
static bool admit(struct generation *generation, uint64_t price)
{
    struct server *server = generation->server;
    uint64_t limit = queue_limit(generation);
    uint64_t now = atomic_load(&server->admitted_tokens);
    do {
        if (price > limit || now > limit - price) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&server->admitted_tokens, &now, now + price));
    generation->admitted_tokens += price;
    return true;
}

static void give_back(struct generation *generation, uint64_t tokens)
{
    generation->admitted_tokens -= tokens;
    atomic_fetch_sub(&generation->server->admitted_tokens, tokens);
}

static uint64_t price_of(const struct generation *generation, uint64_t prompt_tokens)
{
    const llcuda_request_options *options = &generation->request.options;
    uint64_t context = llcuda_engine_get_info(generation->model->engine)->context_length;
    if (generation->request.api == OPENAI_EMBEDDINGS) {
        return prompt_tokens;
    }
    uint64_t room = context > prompt_tokens ? context - prompt_tokens : 0;
    uint64_t answer = options->max_tokens     ? options->max_tokens
                      : room < ASSUMED_TOKENS ? room
                                              : ASSUMED_TOKENS;
    return prompt_tokens + answer * options->choice_count;
}

/* Tokens that must fit behind the prompt. */
static uint64_t wanted_tokens(const struct generation *generation)
{
    const struct openai_request *request = &generation->request;
    return request->api == OPENAI_EMBEDDINGS ? 0
           : request->max_tokens_given       ? request->options.max_tokens
                                             : 1;
}

/* What is wrong with a prompt of so many tokens; false with the error. */
static bool check_context(struct generation *generation, uint64_t prompt_tokens)
{
    const llcuda_engine_info *info = llcuda_engine_get_info(generation->model->engine);
    static const char *const params[] = {"messages", "prompt", "input", "input"};
    uint64_t wanted = wanted_tokens(generation);
    return prompt_tokens + wanted <= info->context_length ||
           api_error_set(
               &generation->error, 400, "context_length_exceeded", params[generation->request.api],
               "the context holds %u tokens, but the prompt has %llu and %llu more are "
               "wanted",
               info->context_length, (unsigned long long)prompt_tokens, (unsigned long long)wanted);
}

static bool count_tokens(struct generation *generation, uint64_t *count)
{
    const llcuda_request_options *options = &generation->request.options;
    struct llcuda_error error = {0};
    uint32_t *tokens = NULL;
    size_t found = 0;
    llcuda_status status =
        llcuda_tokenize(generation->model->engine, options->prompt, options->prompt_bytes,
                        options->add_bos, options->special, &tokens, &found, &error);
    llcuda_free(tokens);
    *count = found;
    return status == LLCUDA_OK || api_error_from(&generation->error, status, error.message);
}

/* Prices and admits the prompt that the options point to. *price is what was taken. */
static bool admit_prompt(struct generation *generation, uint64_t *price)
{
    const llcuda_request_options *options = &generation->request.options;
    const llcuda_engine_info *info = llcuda_engine_get_info(generation->model->engine);
    bool exact = options->prompt_tokens != NULL;
    uint64_t count = exact ? options->prompt_token_count : options->prompt_bytes + EXTRA_TOKENS;
    uint64_t wanted = wanted_tokens(generation);
    *price = price_of(generation, count);
    if (!exact && count + wanted <= info->context_length && admit(generation, *price)) {
        return true;
    }
    if ((!exact && !count_tokens(generation, &count)) || !check_context(generation, count)) {
        return false;
    }
    *price = price_of(generation, count);
    if (*price > queue_limit(generation)) {
        return api_error_set(&generation->error, 400, "request_too_large", NULL,
                             "the request may take %llu tokens, more than may wait here at all",
                             (unsigned long long)*price);
    }
    return admit(generation, *price) ||
           api_error_set(&generation->error, 429, "queue_full", NULL,
                         "as many tokens as are allowed wait already; try again later");
}

/* ------------------------------------------------------------------ submission */

static bool submit(struct generation *generation)
{
    struct openai_request *request = &generation->request;
    struct llcuda_error error = {0};
    uint64_t price = 0;
    size_t prompt_tokens = 0;
    if (!admit_prompt(generation, &price)) {
        return false;
    }
    llcuda_request **made = &generation->requests[generation->request_count];
    llcuda_status status =
        llcuda_submit(generation->model->engine, &request->options, made, &error);
    if (status) {
        return api_error_from(&generation->error, status, error.message);
    }
    generation->request_count++;
    llcuda_request_prompt(*made, &prompt_tokens);
    uint64_t true_price = price_of(generation, prompt_tokens);
    if (true_price < price) {
        give_back(generation, price - true_price);
    }
    return check_context(generation, prompt_tokens);
}

/* Renders the conversation and submits it as text. */
static bool submit_messages(struct generation *generation)
{
    struct openai_request *request = &generation->request;
    struct llcuda_error error = {0};
    char *text = NULL;
    size_t bytes = 0;
    llcuda_status status =
        llcuda_apply_template(generation->model->engine, buffer_text(&request->messages),
                              request->messages.length, &text, &bytes, &error);
    if (status) {
        return api_error_from(&generation->error, status, error.message);
    }
    enum tool_format tools = request->has_tools ? generation->model->facts.tools : TOOLS_NONE;
    bool begun = output_prompt_opens_reasoning(text_view_make(text, bytes));
    for (uint32_t i = 0; i < generation->choices_each; i++) {
        output_parser_init(&generation->choices[i].parser, tools, !request->keep_reasoning, begun);
    }
    request->options.prompt = text;
    request->options.prompt_bytes = bytes;
    request->options.add_bos = LLCUDA_NO;
    bool good = submit(generation);
    llcuda_free(text);
    request->options.prompt = NULL;
    return good;
}

static bool submit_all(struct generation *generation)
{
    struct openai_request *request = &generation->request;
    uint64_t deadline_ms = generation->server->options.request_timeout_ms;
    uint64_t *wanted_ms = &request->options.timeout_ms;
    *wanted_ms =
        deadline_ms && (*wanted_ms == 0 || *wanted_ms > deadline_ms) ? deadline_ms : *wanted_ms;
    request->options.on_ready = http_waker_note; /* the worker is woken after the step */
    request->options.on_ready_user = generation->waker;
    request->options.tenant = generation->tenant;
    if (talks(generation)) {
        return submit_messages(generation);
    }
    for (uint32_t i = 0; i < request->prompt_count; i++) {
        openai_request_select(request, i);
        if (!submit(generation)) {
            return false;
        }
    }
    return true;
}

bool generation_prepare(struct generation *generation)
{
    struct openai_request *request = &generation->request;
    struct api_error *error = &generation->error;
    llcuda_request_options defaults;
    if (!openai_request_open(request, request->api, buffer_view(&generation->body), error) ||
        !model_set_take(generation->server->models, request->model, true, &generation->model,
                        error)) {
        return false;
    }
    llcuda_engine *engine = generation->model->engine;
    llcuda_engine_request_defaults(engine, &defaults, sizeof defaults);
    return openai_request_read(request, &defaults, llcuda_engine_get_info(engine)->vocabulary_size,
                               error) &&
           check_tools(generation) && check_embeddings(generation) && make_room(generation) &&
           submit_all(generation);
}

void generation_release(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->request_count; i++) {
        llcuda_request_release(generation->requests[i]);
    }
    generation->request_count = 0;
    give_back(generation, generation->admitted_tokens);
}

void generation_unprepare(struct generation *generation)
{
    generation_release(generation);
    if (generation->model) {
        model_set_give(generation->server->models, generation->model, true);
        generation->model = NULL;
    }
}
