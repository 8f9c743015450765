/* Owns a generation: submits it, moves events to the client as fast as the client takes them, and
 * cancels what nobody waits for any more.
 *
 * Invariants. Everything runs on the worker of the exchange. Ending the exchange frees the
 * generation (through on_end), so `ended` is looked at after every step that may do so, by way of
 * the return value of the functions below: false means "gone, touch nothing". A client that does
 * not read fills its output; then no more events are taken, and the engine pauses the request. */
#include "server/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/metrics.h"

/* A chunk with this much text goes out before more is put into it. */
#define PIECE_BYTES 16384u

void generation_destroy(struct generation *generation)
{
    if (!generation) {
        return;
    }
    uint32_t choice_count = generation->request.prompt_count * generation->choices_each;
    for (uint32_t i = 0; i < generation->request_count; i++) {
        llcuda_request_release(generation->requests[i]);
    }
    for (uint32_t i = 0; generation->choices && i < choice_count; i++) {
        struct choice_output *choice = &generation->choices[i];
        buffer_deinit(&choice->text);
        buffer_deinit(&choice->tokens);
        buffer_deinit(&choice->values);
        buffer_deinit(&choice->tops);
        buffer_deinit(&choice->offsets);
    }
    free(generation->requests);
    free(generation->done);
    free(generation->choices);
    buffer_deinit(&generation->prefix);
    buffer_deinit(&generation->piece);
    openai_request_deinit(&generation->request);
    free(generation);
}

/* ------------------------------------------------------------------ output */

/* Sends the piece that was written; false when the client is to be waited for. */
static bool flush(struct generation *generation)
{
    if (generation->piece.length == 0) {
        return true;
    }
    bool room = http_exchange_write(generation->call->exchange, buffer_view(&generation->piece));
    buffer_clear(&generation->piece);
    generation->last_write_ns = clock_now_ns();
    generation->blocked = !room;
    return room;
}

/* Ends with an error: a status where that is still possible, otherwise an event in the stream. Gone
 * afterwards. */
static void end_with_error(struct generation *generation, const struct api_error *error)
{
    struct call *call = generation->call;
    generation->ended = true;
    if (!generation->streaming) {
        call_fail(call, error);
        return;
    }
    struct json_writer writer;
    call->finish_reason = "error";
    buffer_append_text(&generation->piece, "data: ");
    json_writer_init(&writer, &generation->piece, 0);
    api_error_write(error, &writer);
    buffer_append_text(&generation->piece, "\n\ndata: [DONE]\n\n");
    flush(generation);
    http_exchange_end(call->exchange);
}

static void end_well(struct generation *generation)
{
    struct call *call = generation->call;
    generation->ended = true;
    call->finish_reason = llcuda_finish_reason_name(generation->choices[0].finish_reason);
    call->prompt_tokens = generation->usage.prompt_tokens;
    call->completion_tokens = generation->usage.completion_tokens;
    if (generation->streaming) {
        if (generation->request.include_usage) {
            reply_usage_chunk(generation);
        }
        buffer_append_text(&generation->piece, "data: [DONE]\n\n");
        flush(generation);
        http_exchange_end(call->exchange);
        return;
    }
    reply_whole(generation);
    call_respond_json(call, 200, &generation->piece);
}

/* ------------------------------------------------------------------ events */

static void note_times(struct generation *generation)
{
    struct metrics *metrics = generation->call->server->metrics;
    uint64_t now_ns = clock_now_ns();
    if (generation->first_token_ns == 0) {
        generation->first_token_ns = now_ns;
        metrics_observe(metrics, METRIC_FIRST_TOKEN,
                        now_ns - http_exchange_begin_ns(generation->call->exchange));
    } else {
        metrics_observe(metrics, METRIC_INTER_TOKEN, now_ns - generation->last_token_ns);
    }
    generation->last_token_ns = now_ns;
}

static void take_text(struct generation *generation, uint32_t index, const llcuda_event *event)
{
    struct choice_output *choice = &generation->choices[index];
    struct text_view text = text_view_make(event->text, event->text_bytes);
    reply_note_logprobs(generation, choice, event);
    for (size_t i = 0; i < text.length; i++) {
        choice->text_characters += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    }
    if (!generation->streaming) {
        buffer_append_view(&choice->text, text);
    } else if (text.length > 0) {
        reply_chunk(generation, index, text, false, LLCUDA_FINISH_NONE);
    }
}

/* A choice has ended in order; other ends are told by DONE. */
static void take_finish(struct generation *generation, uint32_t index, const llcuda_event *event)
{
    struct choice_output *choice = &generation->choices[index];
    choice->finish_reason = event->finish_reason;
    if (generation->streaming && (event->finish_reason == LLCUDA_FINISH_STOP ||
                                  event->finish_reason == LLCUDA_FINISH_LENGTH)) {
        reply_chunk(generation, index, text_view_make("", 0), false, event->finish_reason);
    }
}

/* The end of one engine request; false when it was the end of the generation. */
static bool take_done(struct generation *generation, uint32_t request, const llcuda_event *event)
{
    struct api_error error;
    struct metrics *metrics = generation->call->server->metrics;
    generation->done[request] = true;
    generation->done_count++;
    generation->usage.prompt_tokens += event->usage.prompt_tokens;
    generation->usage.completion_tokens += event->usage.completion_tokens;
    generation->usage.cached_tokens += event->usage.cached_tokens;
    metrics_observe(metrics, METRIC_QUEUE, (uint64_t)(event->timings.queue_ms * 1e6));
    if (event->status != LLCUDA_OK) {
        api_error_from(&error, event->status, event->message);
        end_with_error(generation, &error);
        return false;
    }
    if (generation->done_count == generation->request_count) {
        end_well(generation);
        return false;
    }
    return true;
}

/* One event; false when the generation is gone. */
static bool take_event(struct generation *generation, uint32_t request, const llcuda_event *event)
{
    uint32_t index = request * generation->choices_each + event->choice;
    switch (event->kind) {
    case LLCUDA_EVENT_TOKENS:
        note_times(generation);
        take_text(generation, index, event);
        break;
    case LLCUDA_EVENT_PROMPT:
        take_text(generation, index, event);
        break;
    case LLCUDA_EVENT_FINISHED:
        take_text(generation, index, event);
        take_finish(generation, index, event);
        break;
    case LLCUDA_EVENT_DONE:
        return take_done(generation, request, event);
    }
    if (generation->piece.failed) {
        struct api_error error;
        buffer_clear(&generation->piece);
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        end_with_error(generation, &error);
        return false;
    }
    return true;
}

/* Takes what one engine request has; false when the generation is gone. *room turns false when the
 * client is to be waited for. */
static bool pull_request(struct generation *generation, uint32_t request, bool *room)
{
    const llcuda_event *event;
    while (*room && !generation->done[request] &&
           llcuda_request_next(generation->requests[request], 0, &event, NULL) == LLCUDA_OK) {
        if (!take_event(generation, request, event)) {
            return false;
        }
        if (generation->streaming && generation->piece.length > PIECE_BYTES) {
            *room = flush(generation);
        }
    }
    return true;
}

void generation_pull(struct generation *generation)
{
    bool room = !generation->blocked;
    for (uint32_t i = 0; i < generation->request_count; i++) {
        if (!pull_request(generation, i, &room)) {
            return;
        }
    }
    if (generation->streaming) {
        flush(generation);
    }
}

void generation_resume(struct generation *generation)
{
    generation->blocked = false;
    generation_pull(generation);
}

void generation_tick(struct generation *generation)
{
    struct server *server = generation->call->server;
    uint64_t silence_ns = (uint64_t)server->options.keep_alive_ms * 1000000u;
    if (atomic_load(&server->cutting)) {
        struct api_error error;
        api_error_set(&error, 503, "server_shutdown", NULL,
                      "the server is shutting down and could not finish this answer");
        end_with_error(generation, &error);
    } else if (generation->streaming && !generation->blocked &&
               clock_now_ns() - generation->last_write_ns > silence_ns) {
        buffer_append_text(&generation->piece, ": still here\n\n");
        flush(generation);
    }
}

/* ------------------------------------------------------------------ beginning */

static bool make_room(struct generation *generation, struct api_error *error)
{
    struct openai_request *request = &generation->request;
    generation->choices_each = request->options.choice_count;
    generation->requests = calloc(request->prompt_count, sizeof(llcuda_request *));
    generation->done = calloc(request->prompt_count, sizeof *generation->done);
    generation->choices = calloc((size_t)request->prompt_count * generation->choices_each,
                                 sizeof *generation->choices);
    return (generation->requests && generation->done && generation->choices) ||
           api_error_from(error, LLCUDA_OUT_OF_MEMORY, NULL);
}

/* The engine would cut an answer to what fits; a client that has asked for more is told instead. */
static bool check_context(const struct generation *generation, const llcuda_request *submitted,
                          struct api_error *error)
{
    const llcuda_engine_info *info = llcuda_engine_get_info(generation->call->server->engine);
    uint32_t wanted = generation->request.options.max_tokens;
    size_t prompt;
    llcuda_request_prompt(submitted, &prompt);
    if (generation->request.max_tokens_given && prompt + wanted > info->context_length) {
        return api_error_set(error, 400, "context_length_exceeded",
                             generation->request.api == OPENAI_CHAT ? "messages" : "prompt",
                             "the context holds %u tokens, but the prompt has %zu and %u more were "
                             "asked for",
                             info->context_length, prompt, wanted);
    }
    return true;
}

static bool submit(struct generation *generation, struct api_error *error)
{
    struct call *call = generation->call;
    struct openai_request *request = &generation->request;
    struct http_waker *waker = http_exchange_waker(call->exchange);
    if (!waker) {
        return api_error_from(error, LLCUDA_OUT_OF_MEMORY, NULL);
    }
    request->options.on_ready = http_waker_signal;
    request->options.on_ready_user = waker;
    for (uint32_t i = 0; i < request->prompt_count; i++) {
        struct llcuda_error submit_error = {0};
        openai_request_select(request, i);
        llcuda_status status =
            llcuda_submit(call->server->engine, &request->options,
                          &generation->requests[generation->request_count], &submit_error);
        if (status) {
            api_error_from(error, status, submit_error.message);
            return false;
        }
        generation->request_count++;
        if (!check_context(generation, generation->requests[i], error)) {
            return false;
        }
    }
    return true;
}

static bool check_model(const struct generation *generation, struct api_error *error)
{
    struct text_view model = generation->request.model;
    const char *served = generation->call->server->model_name;
    return !model.data || text_view_is(model, served) ||
           api_error_set(error, 404, "model_not_found", "model",
                         "there is no model '%.*s' here; '%s' is served",
                         model.length > 100 ? 100 : (int)model.length, model.data, served);
}

static void note_fields(struct generation *generation)
{
    struct buffer *headers = &generation->call->headers;
    if (generation->request.ignored.length) {
        http_write_header(headers, "X-Llcuda-Ignored-Fields",
                          buffer_view(&generation->request.ignored));
    }
    if (generation->request.unknown.length) {
        http_write_header(headers, "X-Llcuda-Unknown-Fields",
                          buffer_view(&generation->request.unknown));
    }
}

/* The head and, for chat, the first chunk of each choice, which names the role. */
static void begin_stream(struct generation *generation)
{
    struct call *call = generation->call;
    uint32_t count = generation->request_count * generation->choices_each;
    generation->streaming = true;
    call->status = 200;
    buffer_append_text(&call->headers, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    http_exchange_begin(call->exchange, 200, "text/event-stream; charset=utf-8",
                        call_headers(call));
    for (uint32_t i = 0; i < count && generation->request.api == OPENAI_CHAT; i++) {
        reply_chunk(generation, i, text_view_make("", 0), true, LLCUDA_FINISH_NONE);
    }
    flush(generation);
}

static void start(struct call *call, enum openai_api api)
{
    struct api_error error;
    llcuda_request_options defaults;
    struct server *server = call->server;
    struct generation *generation = calloc(1, sizeof *generation);
    char id[25];
    if (!generation) {
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        call_fail(call, &error);
        return;
    }
    call->generation = generation;
    generation->call = call;
    server_make_id(server, id);
    snprintf(generation->id, sizeof generation->id, "%s-%s",
             api == OPENAI_CHAT ? "chatcmpl" : "cmpl", id);
    generation->created = (int64_t)time(NULL);
    generation->last_write_ns = clock_now_ns();
    llcuda_engine_request_defaults(server->engine, &defaults, sizeof defaults);
    bool good =
        openai_request_read(&generation->request, api, call->request->body, &defaults,
                            llcuda_engine_get_info(server->engine)->vocabulary_size, &error) &&
        check_model(generation, &error) && make_room(generation, &error);
    note_fields(generation);
    if (!good || !submit(generation, &error)) {
        generation->ended = true;
        call_fail(call, &error);
        return;
    }
    reply_begin(generation);
    if (generation->request.stream) {
        begin_stream(generation);
    }
    generation_pull(generation);
}

void generation_start_chat(struct call *call)
{
    start(call, OPENAI_CHAT);
}

void generation_start_completion(struct call *call)
{
    start(call, OPENAI_COMPLETION);
}
