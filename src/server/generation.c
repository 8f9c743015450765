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

/* Bodies above this are prepared on the other thread: some 2 ms of work. */
#define OFFLOAD_BYTES 32768u

static void free_all(struct generation *generation)
{
    uint32_t choice_count = generation->request.prompt_count * generation->choices_each;
    generation_unprepare(generation);
    for (uint32_t i = 0; generation->choices && i < choice_count; i++) {
        struct choice_output *choice = &generation->choices[i];
        output_parser_deinit(&choice->parser);
        buffer_deinit(&choice->text);
        buffer_deinit(&choice->reasoning);
        buffer_deinit(&choice->calls);
        buffer_deinit(&choice->tokens);
        buffer_deinit(&choice->values);
        buffer_deinit(&choice->tops);
        buffer_deinit(&choice->offsets);
    }
    free(generation->requests);
    free(generation->done);
    free(generation->choices);
    free(generation->vectors);
    buffer_deinit(&generation->response.items);
    buffer_deinit(&generation->response.text);
    buffer_deinit(&generation->prefix);
    buffer_deinit(&generation->piece);
    openai_request_deinit(&generation->request);
    buffer_deinit(&generation->body);
    free(generation);
}

void generation_destroy(struct generation *generation)
{
    if (!generation || (generation->preparing &&
                        !offload_withdraw(generation->server->offload, &generation->job))) {
        return; /* the other thread has it, and frees it */
    }
    free_all(generation);
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
    call->finish_reason = "error";
    call->error_code = error->code;
    generation->format->fail(generation, error);
    if (generation->format->ends_with_done) {
        buffer_append_text(&generation->piece, "data: [DONE]\n\n");
    }
    call_settle(call, true);
    flush(generation);
    http_exchange_end(call->exchange);
}

static void end_well(struct generation *generation)
{
    struct call *call = generation->call;
    struct metrics *metrics = generation->server->metrics;
    uint32_t model = generation->model->index;
    generation->ended = true;
    if (generation->request.api == OPENAI_EMBEDDINGS) {
        generation->choices[0].finish_reason = LLCUDA_FINISH_STOP;
    }
    call->finish_reason = llcuda_finish_reason_name(generation->choices[0].finish_reason);
    metrics_count_finish(metrics, model, generation->choices[0].finish_reason);
    metrics_observe(metrics, model, METRIC_PROMPT_TOKENS, generation->usage.prompt_tokens);
    metrics_observe(metrics, model, METRIC_ANSWER_TOKENS, generation->usage.completion_tokens);
    if (generation->streaming) {
        generation->format->end_stream(generation);
        if (generation->format->ends_with_done) {
            buffer_append_text(&generation->piece, "data: [DONE]\n\n");
        }
        call_settle(call, true);
        flush(generation);
        http_exchange_end(call->exchange);
        return;
    }
    generation->format->whole(generation);
    call_respond_json(call, 200, &generation->piece);
}

/* ------------------------------------------------------------------ events */

static void note_times(struct generation *generation)
{
    struct metrics *metrics = generation->server->metrics;
    uint32_t model = generation->model->index;
    uint64_t now_ns = clock_now_ns();
    if (generation->first_token_ns == 0) {
        generation->first_token_ns = now_ns;
        metrics_observe(metrics, model, METRIC_FIRST_TOKEN,
                        now_ns - http_exchange_begin_ns(generation->call->exchange));
    } else {
        metrics_observe(metrics, model, METRIC_INTER_TOKEN, now_ns - generation->last_token_ns);
    }
    generation->last_token_ns = now_ns;
}

/* What the parser's sink writes to. */
struct destination {
    struct generation *generation;
    uint32_t index;
};

static void on_content(void *user, struct text_view text)
{
    struct destination *to = user;
    to->generation->format->content(to->generation, to->index, text);
}

static void on_reasoning(void *user, struct text_view text)
{
    struct destination *to = user;
    to->generation->format->reasoning(to->generation, to->index, text);
}

static void on_tool_call(void *user, struct text_view name, struct text_view arguments)
{
    struct destination *to = user;
    to->generation->format->tool_call(to->generation, to->index, name, arguments);
}

static void take_text(struct generation *generation, uint32_t index, const llcuda_event *event)
{
    struct choice_output *choice = &generation->choices[index];
    struct text_view text = text_view_make(event->text, event->text_bytes);
    bool finished = event->kind == LLCUDA_EVENT_FINISHED;
    reply_note_logprobs(generation, choice, event);
    if (generation->request.api == OPENAI_COMPLETION) {
        for (size_t i = 0; i < text.length; i++) {
            choice->text_characters += ((unsigned char)text.data[i] & 0xc0) != 0x80;
        }
        if (text.length > 0) {
            generation->format->content(generation, index, text);
        }
        return;
    }
    struct destination to = {generation, index};
    const struct output_sink sink = {on_content, on_reasoning, on_tool_call, &to};
    if (output_parser_is_reasoning(&choice->parser)) {
        generation->reasoning_tokens += event->token_count;
    }
    output_parser_feed(&choice->parser, text, &sink);
    if (finished) {
        output_parser_finish(&choice->parser, &sink);
    }
    generation->piece.failed = generation->piece.failed || choice->parser.failed;
}

/* A choice has ended in order; other ends are told by DONE. */
static void take_finish(struct generation *generation, uint32_t index, const llcuda_event *event)
{
    struct choice_output *choice = &generation->choices[index];
    choice->finish_reason = event->finish_reason;
    if (generation->streaming && (event->finish_reason == LLCUDA_FINISH_STOP ||
                                  event->finish_reason == LLCUDA_FINISH_LENGTH)) {
        generation->format->finish(generation, index);
    }
}

/* The end of one engine request; false when it was the end of the generation. */
static bool take_done(struct generation *generation, uint32_t request, const llcuda_event *event)
{
    struct api_error error;
    struct metrics *metrics = generation->server->metrics;
    uint32_t model = generation->model->index;
    generation->done[request] = true;
    generation->done_count++;
    generation->usage.prompt_tokens += event->usage.prompt_tokens;
    generation->usage.completion_tokens += event->usage.completion_tokens;
    generation->usage.cached_tokens += event->usage.cached_tokens;
    generation->timings = event->timings;
    generation->vectors[request] = event->embedding;
    generation->vector_length = event->embedding_length;
    metrics_observe(metrics, model, METRIC_QUEUE, (uint64_t)(event->timings.queue_ms * 1e6));
    if (event->usage.completion_tokens > 0) {
        metrics_observe(metrics, model, METRIC_PREFILL,
                        (uint64_t)(event->timings.prefill_ms * 1e6));
        metrics_observe(metrics, model, METRIC_DECODE, (uint64_t)(event->timings.decode_ms * 1e6));
    }
    if (event->status != LLCUDA_OK) {
        metrics_count_finish(metrics, model,
                             event->status == LLCUDA_TIMEOUT     ? LLCUDA_FINISH_TIMEOUT
                             : event->status == LLCUDA_CANCELLED ? LLCUDA_FINISH_CANCELLED
                                                                 : LLCUDA_FINISH_ERROR);
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

static void begin_answer(struct generation *generation);

void generation_pull(struct generation *generation)
{
    if (generation->preparing) {
        if (offload_is_done(generation->server->offload, &generation->job)) {
            generation->preparing = false;
            begin_answer(generation);
        }
        return;
    }
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
    struct server *server = generation->server;
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

/* The head and the first events. */
static void begin_stream(struct generation *generation)
{
    struct call *call = generation->call;
    generation->streaming = true;
    call->status = 200;
    buffer_append_text(&call->headers, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    http_exchange_begin(call->exchange, 200, "text/event-stream; charset=utf-8",
                        call_headers(call));
    generation->format->begin_stream(generation);
    flush(generation);
}

/* The request has been prepared, well or not. */
static void begin_answer(struct generation *generation)
{
    struct call *call = generation->call;
    note_fields(generation);
    if (!generation->prepared) {
        const struct api_error error = generation->error;
        generation->ended = true;
        call_fail(call, &error);
        return;
    }
    generation->format->begin(generation);
    if (generation->request.stream) {
        begin_stream(generation);
    }
    generation_pull(generation);
}

static void run_job(struct offload_job *job)
{
    struct generation *generation = (struct generation *)job;
    generation->prepared = generation_prepare(generation);
}

static void wake_owner(struct offload_job *job)
{
    http_waker_signal(((struct generation *)job)->waker);
}

static void drop_job(struct offload_job *job)
{
    free_all((struct generation *)job);
}

/* Short bodies are prepared here and now, long ones elsewhere. */
static void prepare(struct generation *generation)
{
    struct call *call = generation->call;
    if (generation->body.length <= OFFLOAD_BYTES) {
        generation->prepared = generation_prepare(generation);
        begin_answer(generation);
        return;
    }
    generation->job = (struct offload_job){.run = run_job, .done = wake_owner, .drop = drop_job};
    generation->preparing = true;
    if (!offload_submit(generation->server->offload, &generation->job)) {
        struct api_error error;
        generation->preparing = false;
        api_error_set(&error, 429, "queue_full", NULL, "too many long prompts wait already");
        call_fail(call, &error);
    }
}

static void start(struct call *call, enum openai_api api, const struct reply_format *format)
{
    struct server *server = call->server;
    struct generation *generation = calloc(1, sizeof *generation);
    struct http_waker *waker = http_exchange_waker(call->exchange);
    char id[25];
    if (!generation || !waker) {
        struct api_error error;
        free(generation);
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        call_fail(call, &error);
        return;
    }
    call->generation = generation;
    generation->call = call;
    generation->server = server;
    generation->waker = waker;
    generation->format = format;
    generation->request.api = api;
    key_account_name(call->account, generation->tenant);
    server_make_id(server, id);
    snprintf(generation->id, sizeof generation->id, "%s%s", format->id_prefix, id);
    generation->created = (int64_t)time(NULL);
    generation->last_write_ns = clock_now_ns();
    http_exchange_take_body(call->exchange, &generation->body);
    prepare(generation);
}

void generation_start_chat(struct call *call)
{
    start(call, OPENAI_CHAT, &reply_openai);
}

void generation_start_completion(struct call *call)
{
    start(call, OPENAI_COMPLETION, &reply_openai);
}

void generation_start_responses(struct call *call)
{
    start(call, OPENAI_RESPONSES, &reply_responses);
}

void generation_start_embeddings(struct call *call)
{
    start(call, OPENAI_EMBEDDINGS, &reply_embeddings);
}
