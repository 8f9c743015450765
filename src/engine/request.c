/* Owns requests from submission to release, and the reader's end of the event ring.
 *
 * Invariants. The engine side never blocks on a reader: it looks for room before a choice gets a
 * row, and pauses the request otherwise. A reader that finds the ring empty announces itself
 * (ready_wanted, or the wakeup) and looks again, the engine publishes and then looks for
 * announcements: both with sequentially consistent operations, so that one of them sees the other.
 */
#include "engine/request.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/random.h"

/* Tokens of events that fit a ring at least, so that a reader may sleep a little. */
#define EVENTS_AHEAD 64u
/* Prompt tokens that give a detokeniser its context: more than any character has bytes. */
#define CONTEXT_TOKENS 16u

/* ------------------------------------------------------------------ making */

static void *copy_array(struct arena *arena, const void *data, size_t count, size_t size)
{
    void *copy = arena_alloc(arena, count, size);
    if (copy && count > 0) {
        memcpy(copy, data, count * size);
    }
    return copy;
}

static int by_token(const void *a, const void *b)
{
    const llcuda_logit_bias *x = a;
    const llcuda_logit_bias *y = b;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* Biases of the same token add up to one: the sampler wants each token once. */
static uint32_t merge_biases(llcuda_logit_bias *bias, uint32_t count)
{
    uint32_t kept = 0;
    qsort(bias, count, sizeof *bias, by_token);
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && bias[kept - 1].token == bias[i].token) {
            bias[kept - 1].bias += bias[i].bias;
        } else {
            bias[kept++] = bias[i];
        }
    }
    return kept;
}

/* Appends what is not there yet. */
static uint32_t append_tokens(uint32_t *tokens, uint32_t count, const uint32_t *more,
                              uint32_t more_count)
{
    for (uint32_t i = 0; i < more_count; i++) {
        uint32_t at = 0;
        while (at < count && tokens[at] != more[i]) {
            at++;
        }
        tokens[at] = more[i];
        count += at == count;
    }
    return count;
}

static bool copy_params(llcuda_request *request, const struct request_setup *setup,
                        const llcuda_request_options *options, const uint8_t *breakers)
{
    uint32_t ends = options->ignore_eos ? 0 : setup->end_token_count;
    uint32_t *end_tokens =
        arena_alloc(&request->arena, (size_t)ends + options->stop_token_count, sizeof *end_tokens);
    uint8_t *own_breakers = NULL;
    if (options->dry_multiplier > 0 && breakers) {
        own_breakers =
            copy_array(&request->arena, breakers, (size_t)setup->vocabulary_size / 8 + 1, 1);
        if (!own_breakers) {
            return false;
        }
    }
    struct llcuda_logit_bias *bias =
        copy_array(&request->arena, options->logit_bias, options->logit_bias_count, sizeof *bias);
    if (!end_tokens || !bias) {
        return false;
    }
    uint32_t end_count = append_tokens(end_tokens, 0, setup->end_tokens, ends);
    end_count =
        append_tokens(end_tokens, end_count, options->stop_tokens, options->stop_token_count);
    uint32_t bias_count = options->logit_bias_count;
    bias_count = bias_count > 1 ? merge_biases(bias, bias_count) : bias_count;
    request->sampler_params = (struct sampler_params){
        .vocabulary_size = setup->vocabulary_size,
        .temperature = options->temperature,
        .top_p = options->top_p,
        .typical_p = options->typical_p,
        .min_p = options->min_p,
        .repetition_penalty = options->repetition_penalty,
        .presence_penalty = options->presence_penalty,
        .frequency_penalty = options->frequency_penalty,
        .dry_multiplier = options->dry_multiplier,
        .dry_base = options->dry_base,
        .dry_allowed_length = options->dry_allowed_length,
        .dry_window = options->dry_window,
        .top_k = options->top_k,
        .penalty_window = options->penalty_window,
        .dry_breakers = own_breakers,
        .bias = bias,
        .bias_count = bias_count,
        .end_tokens = end_tokens,
        .end_count = end_count,
        .min_tokens = options->min_tokens,
        .logprobs = options->logprobs || options->top_logprobs > 0,
        .top_logprobs = options->top_logprobs,
    };
    return true;
}

/* Room for the events of a step: a token's record with its text and what was held back, and the
 * record of an end. */
static bool make_ring(llcuda_request *request)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < request->stops.count; i++) {
        uint32_t length = (uint32_t)request->stops.strings[i].text.length;
        held = length > held ? length : held;
    }
    uint32_t text = 2 * request->codec->piece_bytes_max + held;
    request->event_room =
        2 * (uint32_t)sizeof(struct event_record) + text +
        request->sampler_params.top_logprobs * (uint32_t)sizeof(llcuda_top_logprob);
    uint64_t choices = request->choice_count;
    uint64_t wanted = REQUEST_STEPS_AHEAD * request->event_room * choices +
                      sizeof(struct event_record) * (choices + 1) + EVENTS_AHEAD * 96;
    uint64_t capacity = 4096;
    while (capacity < wanted) {
        capacity *= 2;
    }
    if (capacity > UINT32_MAX / 2) {
        return false;
    }
    char *data = arena_alloc(&request->arena, (size_t)capacity, 1);
    request->event_text = arena_alloc(&request->arena, text + 1, 1);
    request->echoed = arena_alloc(&request->arena, request->choice_count, sizeof(bool));
    if (!data || !request->event_text || !request->echoed) {
        return false;
    }
    event_ring_init(&request->ring, data, (uint32_t)capacity);
    for (uint32_t i = 0; i < request->choice_count && held > 0; i++) {
        request->choices[i].held = arena_alloc(&request->arena, held, 1);
        if (!request->choices[i].held) {
            return false;
        }
    }
    return true;
}

static enum sequence_output output_of(const llcuda_request *request)
{
    if (request->embedding_length == 0) {
        return SEQUENCE_LOGITS;
    }
    return request->pooling == LLCUDA_POOLING_MEAN ? SEQUENCE_ALL : SEQUENCE_LAST;
}

static llcuda_status make_choice(llcuda_request *request, const llcuda_request_options *options,
                                 uint32_t index, struct text_view tenant, struct text_view salt,
                                 struct llcuda_error *error)
{
    struct choice *choice = &request->choices[index];
    uint32_t token_max = request->prompt_count + request->max_tokens;
    choice->request = request;
    choice->index = index;
    choice->tokens = request->tokens + (size_t)token_max * index;
    memcpy(choice->tokens, request->prompt, request->prompt_count * sizeof *choice->tokens);
    choice->sequence = (struct sequence){
        .tokens = choice->tokens,
        .known = request->prompt_count,
        .prompt_count = request->prompt_count,
        .token_max = token_max,
        .priority = options->priority,
        .output = output_of(request),
        .tenant = tenant,
        .salt = salt,
        .deadline_ns =
            options->timeout_ms > 0 ? request->submit_ns + options->timeout_ms * 1000000u : 0,
    };
    llcuda_status status = sampler_init(&choice->sampler, &request->sampler_params,
                                        sampler_choice_seed(request->seed, index), request->prompt,
                                        request->prompt_count, token_max, &request->arena, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    const uint32_t *context = NULL;
    size_t context_count = 0;
    if (request->context_text) {
        context_count =
            request->prompt_count < CONTEXT_TOKENS ? request->prompt_count : CONTEXT_TOKENS;
        context = request->prompt + request->prompt_count - context_count;
    }
    return request->codec->stream_create(request->codec->user, !options->special_text, context,
                                         context_count, &choice->stream, error);
}

static llcuda_status fill(llcuda_request *request, const struct request_setup *setup,
                          const llcuda_request_options *options, const uint32_t *prompt,
                          struct text_view prompt_text, const uint8_t *breakers,
                          struct llcuda_error *error)
{
    struct arena *arena = &request->arena;
    request->prompt = copy_array(arena, prompt, request->prompt_count, sizeof *prompt);
    request->choices = arena_alloc(arena, request->choice_count, sizeof *request->choices);
    request->prompt_text =
        arena_copy_text(arena, request->echo ? prompt_text : text_view_make(NULL, 0));
    struct text_view tenant = arena_copy_text(arena, text_view_of(options->tenant));
    struct text_view salt = arena_copy_text(arena, text_view_of(options->cache_salt));
    request->pooled = arena_alloc(arena, request->embedding_length, sizeof *request->pooled);
    request->embedding = arena_alloc(arena, request->embedding_length, sizeof *request->embedding);
    if (!request->pooled || !request->embedding || !request->prompt || !request->choices ||
        !request->prompt_text.data || !tenant.data || !salt.data ||
        !stop_set_init(&request->stops, options->stop, options->stop_count, arena) ||
        !copy_params(request, setup, options, breakers) || !make_ring(request)) {
        return error_no_memory(error, "a request", arena->allocated_bytes);
    }
    size_t tokens = (size_t)(request->prompt_count + request->max_tokens) * request->choice_count;
    request->tokens = malloc(tokens * sizeof *request->tokens);
    if (!request->tokens) {
        return error_no_memory(error, "a request's tokens", tokens * sizeof *request->tokens);
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < request->choice_count && status == LLCUDA_OK; i++) {
        status = make_choice(request, options, i, tenant, salt, error);
    }
    return status;
}

static llcuda_status check_size(const struct request_setup *setup, bool embedding,
                                size_t prompt_count, struct llcuda_error *error)
{
    if (prompt_count == 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the prompt has no tokens");
    }
    if (embedding && prompt_count > setup->context_length) {
        return error_set(error, LLCUDA_CONTEXT_FULL,
                         "the prompt has %zu tokens, more than a context of %u", prompt_count,
                         setup->context_length);
    }
    if (!embedding && prompt_count >= setup->context_length) {
        return error_set(error, LLCUDA_CONTEXT_FULL,
                         "the prompt has %zu tokens, which leaves no room for an answer in a "
                         "context of %u",
                         prompt_count, setup->context_length);
    }
    return LLCUDA_OK;
}

/* An embedding is a request of one choice that draws nothing. */
static llcuda_status prepare_embedding(const struct request_setup *setup, llcuda_request *request,
                                       const llcuda_request_options *options,
                                       struct llcuda_error *error)
{
    if (setup->embedding_length == 0) {
        return error_set(error, LLCUDA_UNSUPPORTED, "this device gives no embeddings");
    }
    request->pooling =
        options->embedding == LLCUDA_POOLING_MODEL ? setup->pooling : options->embedding;
    if (request->pooling == LLCUDA_POOLING_NONE) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the model's own pooling is neither the mean nor the last position");
    }
    request->embedding_length = setup->embedding_length;
    request->embedding_raw = options->embedding_raw;
    request->max_tokens = 0;
    return LLCUDA_OK;
}

/* What does not count for an embedding is as if it had not been set. */
static llcuda_request_options without_answer(const llcuda_request_options *options)
{
    llcuda_request_options plain;
    llcuda_request_options_init(&plain, sizeof plain);
    plain.embedding = options->embedding;
    plain.embedding_raw = options->embedding_raw;
    plain.priority = options->priority;
    plain.timeout_ms = options->timeout_ms;
    plain.tenant = options->tenant;
    plain.cache_salt = options->cache_salt;
    plain.on_ready = options->on_ready;
    plain.on_ready_user = options->on_ready_user;
    return plain;
}

llcuda_status request_create(const struct request_setup *setup,
                             const llcuda_request_options *options, const uint32_t *prompt,
                             size_t prompt_count, struct text_view prompt_text,
                             const uint8_t *breakers, uint64_t now_ns, llcuda_request **request,
                             struct llcuda_error *error)
{
    llcuda_request_options plain;
    bool embedding = options->embedding != LLCUDA_POOLING_NONE;
    llcuda_status status = check_size(setup, embedding, prompt_count, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (embedding) {
        plain = without_answer(options);
        options = &plain;
        breakers = NULL;
    }
    llcuda_request *made = calloc(1, sizeof *made);
    if (!made || !wakeup_init(&made->wakeup)) {
        free(made);
        return error_no_memory(error, "a request", sizeof *made);
    }
    uint32_t room = setup->context_length - (uint32_t)prompt_count;
    arena_init(&made->arena, 0);
    atomic_init(&made->references, 1);
    made->mailbox = setup->mailbox;
    mailbox_retain(made->mailbox);
    made->codec = setup->codec;
    made->prompt_count = (uint32_t)prompt_count;
    made->choice_count = options->choice_count;
    made->choices_left = options->choice_count;
    made->max_tokens =
        options->max_tokens > 0 && options->max_tokens < room ? options->max_tokens : room;
    /* A seed that was drawn is reported, and must come back whole through JSON readers and options,
     * for which a number is a double: 53 bits. */
    made->seed = options->seed_given ? options->seed : random_seed() >> 11;
    made->echo = options->echo;
    made->context_text = options->messages == NULL;
    made->on_ready = options->on_ready;
    made->on_ready_user = options->on_ready_user;
    made->submit_ns = now_ns;
    if (embedding) {
        status = prepare_embedding(setup, made, options, error);
    }
    if (status == LLCUDA_OK) {
        status = fill(made, setup, options, prompt, prompt_text, breakers, error);
    }
    if (status != LLCUDA_OK) {
        request_unref(made);
        return status;
    }
    *request = made;
    return LLCUDA_OK;
}

void request_unref(llcuda_request *request)
{
    if (atomic_fetch_sub(&request->references, 1) != 1) {
        return;
    }
    for (uint32_t i = 0; request->choices && i < request->choice_count; i++) {
        if (request->choices[i].stream) {
            request->codec->stream_destroy(request->choices[i].stream);
        }
    }
    struct mailbox *mailbox = request->mailbox;
    wakeup_deinit(&request->wakeup);
    free(request->tokens);
    arena_deinit(&request->arena);
    free(request);
    mailbox_release(mailbox);
}

bool request_publish(llcuda_request *request)
{
    event_ring_publish(&request->ring);
    wakeup_signal(&request->wakeup);
    if (request->on_ready && atomic_load(&request->ready_wanted) &&
        atomic_exchange(&request->ready_wanted, false)) {
        request->on_ready(request->on_ready_user);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ the reader */

uint64_t llcuda_request_seed(const llcuda_request *request)
{
    return request->seed;
}

const uint32_t *llcuda_request_prompt(const llcuda_request *request, size_t *count)
{
    *count = request->prompt_count;
    return request->prompt;
}

const char *llcuda_finish_reason_name(llcuda_finish_reason reason)
{
    switch (reason) {
    case LLCUDA_FINISH_NONE:
        break;
    case LLCUDA_FINISH_STOP:
        return "stop";
    case LLCUDA_FINISH_LENGTH:
        return "length";
    case LLCUDA_FINISH_CANCELLED:
        return "cancelled";
    case LLCUDA_FINISH_TIMEOUT:
        return "timeout";
    case LLCUDA_FINISH_ERROR:
        return "error";
    }
    return "";
}

static double rate(double count, double milliseconds)
{
    return count > 0 && milliseconds > 0 ? count / milliseconds * 1e3 : 0;
}

/* Differences of clock readings; 0 when the later one never came. */
static double between_ms(uint64_t from, uint64_t to)
{
    return from > 0 && to > from ? clock_ms(to - from) : 0;
}

static void fill_timings(const llcuda_request *request, llcuda_timings *timings)
{
    timings->queue_ms = between_ms(request->submit_ns, request->begin_ns);
    timings->prefill_ms = between_ms(request->begin_ns, request->first_ns);
    timings->ttft_ms = between_ms(request->submit_ns, request->first_ns);
    timings->decode_ms = between_ms(request->first_ns, request->last_ns);
    timings->total_ms = between_ms(request->submit_ns, request->end_ns);
    timings->prefill_tokens_per_second = rate(request->prompt_rows, timings->prefill_ms);
    double later = (double)request->generated - request->choice_count;
    timings->decode_tokens_per_second = rate(later, timings->decode_ms);
}

/* Turns the next record into request->event; false when there is none. */
static bool read_event(llcuda_request *request)
{
    struct event_record record;
    if (!event_ring_peek(&request->ring, &record)) {
        return false;
    }
    llcuda_event *event = &request->event;
    *event = (llcuda_event){.choice = record.choice, .text = "", .message = "", .stop_index = -1};
    if (request->echo && record.kind != RECORD_DONE && !request->echoed[record.choice]) {
        request->echoed[record.choice] = true;
        event->kind = LLCUDA_EVENT_PROMPT;
        event->text = request->prompt_text.data;
        event->text_bytes = request->prompt_text.length;
        event->tokens = request->prompt;
        event->token_count = request->prompt_count;
    } else {
        llcuda_token_logprob *logprob = &request->event_logprob;
        event_ring_pop(&request->ring, &record, logprob->top, request->event_text);
        request->event_text[record.text_bytes] = 0;
        event->text = request->event_text;
        event->text_bytes = record.text_bytes;
        event->finish_reason = (llcuda_finish_reason)record.finish_reason;
        event->stop_index = record.stop_index;
        event->kind = record.kind == RECORD_TOKEN      ? LLCUDA_EVENT_TOKENS
                      : record.kind == RECORD_FINISHED ? LLCUDA_EVENT_FINISHED
                                                       : LLCUDA_EVENT_DONE;
        if (record.kind == RECORD_TOKEN) {
            request->event_token = record.token;
            request->tokens_read++;
            event->tokens = &request->event_token;
            event->token_count = 1;
        }
        if (record.has_logprob) {
            logprob->token = record.token;
            logprob->logprob = record.logprob;
            logprob->rank = record.rank;
            logprob->top_count = record.top_count;
            event->logprobs = logprob;
        }
    }
    event->usage.prompt_tokens = request->prompt_count;
    event->usage.completion_tokens = request->tokens_read;
    event->usage.cached_tokens = request->choices[0].sequence.cached;
    if (event->kind == LLCUDA_EVENT_DONE) {
        request->done_read = true;
        event->status = request->status;
        event->message = request->message;
        if (request->status == LLCUDA_OK && request->embedding_length > 0) {
            event->embedding = request->embedding;
            event->embedding_length = request->embedding_length;
        }
        fill_timings(request, &event->timings);
    } else if (atomic_load(&request->paused)) {
        mailbox_post(request->mailbox, request, MAIL_DRAINED);
    }
    return true;
}

static bool ring_empty(const llcuda_request *request)
{
    struct event_record record;
    return !event_ring_peek(&request->ring, &record);
}

llcuda_status llcuda_request_next(llcuda_request *request, int64_t timeout_ms,
                                  const llcuda_event **event, llcuda_error *error)
{
    uint64_t until = WAKEUP_FOREVER;
    if (timeout_ms > 0) { /* 0 asks no clock */
        uint64_t wait_ns = (uint64_t)timeout_ms > UINT64_MAX / 4000000u
                               ? UINT64_MAX / 4
                               : (uint64_t)timeout_ms * 1000000u;
        until = clock_now_ns() + wait_ns;
    }
    while (!request->done_read && !read_event(request)) {
        if (timeout_ms >= 0 && (timeout_ms == 0 || clock_now_ns() >= until)) {
            atomic_store(&request->ready_wanted, true);
            if (!ring_empty(request)) {
                continue; /* it came between; on_ready may be called all the same */
            }
            return error_set(error, LLCUDA_TIMEOUT, "no event yet");
        }
        wakeup_prepare(&request->wakeup);
        if (!ring_empty(request)) {
            wakeup_cancel(&request->wakeup);
            continue;
        }
        wakeup_sleep(&request->wakeup, until);
    }
    *event = &request->event;
    return LLCUDA_OK;
}

void llcuda_request_cancel(llcuda_request *request)
{
    if (!atomic_load(&request->finished)) {
        mailbox_post(request->mailbox, request, MAIL_CANCEL);
    }
}

void llcuda_request_release(llcuda_request *request)
{
    if (!request) {
        return;
    }
    llcuda_request_cancel(request);
    struct mailbox *mailbox = request->mailbox;
    mailbox_retain(mailbox);
    request_unref(request);
    if (atomic_load(&mailbox->stopped)) {
        /* Nobody reads the mailbox any more: drop what a late cancel has put there. */
        llcuda_request *late = mailbox_take(mailbox);
        while (late) {
            llcuda_request *next = late->mail_next;
            atomic_store(&late->mail_flags, 0);
            request_unref(late);
            late = next;
        }
    }
    mailbox_release(mailbox);
}
