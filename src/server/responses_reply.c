/* Owns the JSON of /v1/responses: the items of an output, and the events that tell them while they
 * are being made. One item is open at a time; the next kind of output, or the end, closes it. */
#include <stdio.h>

#include "build_config.h"
#include "server/generation.h"

enum { OPEN_NONE, OPEN_REASONING, OPEN_MESSAGE };

/* ------------------------------------------------------------------ events */

/* An event is written between these two. */
static struct buffer *begin_event(struct generation *generation, const char *type)
{
    struct buffer *out = &generation->piece;
    buffer_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type,
                  generation->response.sequence++);
    return out;
}

static void end_event(struct generation *generation)
{
    buffer_append_text(&generation->piece, "}\n\n");
}

/* The id of the item that is open or being told. */
static void write_item_id(struct generation *generation, struct buffer *out, const char *prefix)
{
    buffer_printf(out, "\"%s_%s_%u\"", prefix, generation->id + 5, generation->response.item_count);
}

static const char *open_prefix(const struct generation *generation)
{
    return generation->response.open == OPEN_REASONING ? "rs" : "msg";
}

/* ,"item_id":…,"output_index":…,"content_index":0 */
static void write_place(struct generation *generation, struct buffer *out)
{
    buffer_append_text(out, ",\"item_id\":");
    write_item_id(generation, out, open_prefix(generation));
    buffer_printf(out, ",\"output_index\":%u,\"content_index\":0", generation->response.item_count);
}

/* ------------------------------------------------------------------ items */

static void write_part(const struct generation *generation, struct text_view text,
                       struct buffer *out)
{
    bool message = generation->response.open == OPEN_MESSAGE;
    buffer_printf(out, "{\"type\":\"%s\",\"text\":", message ? "output_text" : "reasoning_text");
    json_quote(out, text);
    buffer_append_text(out, message ? ",\"annotations\":[],\"logprobs\":[]}" : "}");
}

/* The open item; without its text while it is in progress. */
static void write_item(struct generation *generation, const char *status, struct buffer *out)
{
    bool message = generation->response.open == OPEN_MESSAGE;
    bool begun = strcmp(status, "in_progress") == 0;
    buffer_append_text(out, "{\"id\":");
    write_item_id(generation, out, open_prefix(generation));
    buffer_printf(out,
                  message
                      ? ",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
                        "\"content\":["
                      : ",\"type\":\"reasoning\",\"status\":\"%s\",\"summary\":[],\"content\":[",
                  status);
    if (!begun) {
        write_part(generation, buffer_view(&generation->response.text), out);
    }
    buffer_append_text(out, "]}");
}

static void open_item(struct generation *generation, int kind)
{
    generation->response.open = kind;
    buffer_clear(&generation->response.text);
    if (!generation->streaming) {
        return;
    }
    struct buffer *out = begin_event(generation, "response.output_item.added");
    buffer_printf(out, ",\"output_index\":%u,\"item\":", generation->response.item_count);
    write_item(generation, "in_progress", out);
    end_event(generation);
    out = begin_event(generation, "response.content_part.added");
    write_place(generation, out);
    buffer_append_text(out, ",\"part\":");
    write_part(generation, text_view_make("", 0), out);
    end_event(generation);
}

static void item_done(struct generation *generation, size_t from)
{
    struct response_output *response = &generation->response;
    struct text_view item =
        text_view_make(buffer_text(&response->items) + from, response->items.length - from);
    if (generation->streaming) {
        struct buffer *out = begin_event(generation, "response.output_item.done");
        buffer_printf(out, ",\"output_index\":%u,\"item\":", response->item_count);
        buffer_append_view(out, item);
        end_event(generation);
    }
    response->item_count++;
}

/* Where the next finished item begins, after a comma. */
static size_t next_item(struct response_output *response)
{
    if (response->items.length) {
        buffer_append_byte(&response->items, ',');
    }
    return response->items.length;
}

static void close_item(struct generation *generation, const char *status)
{
    struct response_output *response = &generation->response;
    bool message = response->open == OPEN_MESSAGE;
    if (response->open == OPEN_NONE) {
        return;
    }
    if (generation->streaming) {
        struct buffer *out = begin_event(generation, message ? "response.output_text.done"
                                                             : "response.reasoning_text.done");
        write_place(generation, out);
        buffer_append_text(out, ",\"text\":");
        json_quote(out, buffer_view(&response->text));
        buffer_append_text(out, message ? ",\"logprobs\":[]" : "");
        end_event(generation);
        out = begin_event(generation, "response.content_part.done");
        write_place(generation, out);
        buffer_append_text(out, ",\"part\":");
        write_part(generation, buffer_view(&response->text), out);
        end_event(generation);
    }
    size_t from = next_item(response);
    write_item(generation, status, &response->items);
    item_done(generation, from);
    response->open = OPEN_NONE;
}

static void give_text(struct generation *generation, int kind, struct text_view text)
{
    if (generation->response.open != kind) {
        close_item(generation, "completed");
        open_item(generation, kind);
    }
    buffer_append_view(&generation->response.text, text);
    if (generation->streaming) {
        bool message = kind == OPEN_MESSAGE;
        struct buffer *out = begin_event(generation, message ? "response.output_text.delta"
                                                             : "response.reasoning_text.delta");
        write_place(generation, out);
        buffer_append_text(out, ",\"delta\":");
        json_quote(out, text);
        buffer_append_text(out, message ? ",\"logprobs\":[]" : "");
        end_event(generation);
    }
}

static void content(struct generation *generation, uint32_t index, struct text_view text)
{
    (void)index;
    give_text(generation, OPEN_MESSAGE, text);
}

static void reasoning(struct generation *generation, uint32_t index, struct text_view text)
{
    (void)index;
    give_text(generation, OPEN_REASONING, text);
}

static void write_call(struct generation *generation, const char *call_id, struct text_view name,
                       struct text_view arguments, const char *status, struct buffer *out)
{
    buffer_append_text(out, "{\"id\":");
    write_item_id(generation, out, "fc");
    buffer_printf(out, ",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":\"%s\",\"name\":",
                  status, call_id);
    json_quote(out, name);
    buffer_append_text(out, ",\"arguments\":");
    json_quote(out, arguments);
    buffer_append_byte(out, '}');
}

static void tell_call(struct generation *generation, const char *call_id, struct text_view name,
                      struct text_view arguments)
{
    uint32_t index = generation->response.item_count;
    struct buffer *out = begin_event(generation, "response.output_item.added");
    buffer_printf(out, ",\"output_index\":%u,\"item\":", index);
    write_call(generation, call_id, name, text_view_make("", 0), "in_progress", out);
    end_event(generation);
    for (int done = 0; done < 2; done++) {
        out = begin_event(generation, done ? "response.function_call_arguments.done"
                                           : "response.function_call_arguments.delta");
        buffer_append_text(out, ",\"item_id\":");
        write_item_id(generation, out, "fc");
        buffer_printf(out, ",\"output_index\":%u,", index);
        if (done) {
            buffer_append_text(out, "\"name\":");
            json_quote(out, name);
            buffer_append_text(out, ",\"arguments\":");
        } else {
            buffer_append_text(out, "\"delta\":");
        }
        json_quote(out, arguments);
        end_event(generation);
    }
}

static void tool_call(struct generation *generation, uint32_t index, struct text_view name,
                      struct text_view arguments)
{
    struct response_output *response = &generation->response;
    char call_id[32];
    close_item(generation, "completed");
    generation->choices[index].call_count++;
    reply_make_call_id(generation, call_id);
    if (generation->streaming) {
        tell_call(generation, call_id, name, arguments);
    }
    size_t from = next_item(response);
    write_call(generation, call_id, name, arguments, "completed", &response->items);
    item_done(generation, from);
}

/* ------------------------------------------------------------------ the response */

static void write_number(struct buffer *out, const char *name, double value)
{
    buffer_printf(out, ",\"%s\":", name);
    json_format_number(out, value, false);
}

static void write_usage(const struct generation *generation, struct buffer *out)
{
    const llcuda_usage *usage = &generation->usage;
    buffer_printf(out,
                  "{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},"
                  "\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":%u},"
                  "\"total_tokens\":%llu}",
                  usage->prompt_tokens, usage->cached_tokens, usage->completion_tokens,
                  generation->reasoning_tokens,
                  (unsigned long long)usage->prompt_tokens + usage->completion_tokens);
}

static void write_response(struct generation *generation, const char *status,
                           const struct api_error *error, struct buffer *out)
{
    const struct response_output *response = &generation->response;
    const llcuda_request_options *options = &generation->request.options;
    bool done = strcmp(status, "completed") == 0 || strcmp(status, "incomplete") == 0;
    buffer_printf(out,
                  "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\","
                  "\"background\":false,\"error\":",
                  generation->id, (long long)generation->created, status);
    if (error) {
        buffer_append_text(out, "{\"code\":\"server_error\",\"message\":");
        json_quote(out, text_view_of(error->message));
        buffer_append_byte(out, '}');
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, strcmp(status, "incomplete") == 0
                                ? ",\"incomplete_details\":{\"reason\":\"max_output_tokens\"}"
                                : ",\"incomplete_details\":null");
    buffer_append_text(out, ",\"instructions\":null,\"max_output_tokens\":");
    if (generation->request.max_tokens_given) {
        buffer_printf(out, "%u", options->max_tokens);
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, ",\"model\":");
    json_quote(out, text_view_of(generation->model->name));
    buffer_append_text(out, ",\"output\":[");
    buffer_append_view(out, buffer_view(&response->items));
    buffer_append_text(out, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                            "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false");
    write_number(out, "temperature", options->temperature);
    write_number(out, "top_p", options->top_p);
    buffer_append_text(out, ",\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\","
                            "\"tools\":[],\"truncation\":\"disabled\",\"metadata\":{},\"usage\":");
    if (done) {
        write_usage(generation, out);
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_byte(out, '}');
    out->failed = out->failed || response->items.failed || response->text.failed;
}

static void tell_response(struct generation *generation, const char *type, const char *status,
                          const struct api_error *error)
{
    struct buffer *out = begin_event(generation, type);
    buffer_append_text(out, ",\"response\":");
    write_response(generation, status, error, out);
    end_event(generation);
}

static void begin(struct generation *generation)
{
    (void)generation;
}

static void begin_stream(struct generation *generation)
{
    tell_response(generation, "response.created", "in_progress", NULL);
    tell_response(generation, "response.in_progress", "in_progress", NULL);
}

static bool was_cut(const struct generation *generation)
{
    return generation->choices[0].finish_reason == LLCUDA_FINISH_LENGTH;
}

static void finish(struct generation *generation, uint32_t index)
{
    (void)index;
    close_item(generation, was_cut(generation) ? "incomplete" : "completed");
}

static void end_stream(struct generation *generation)
{
    bool cut = was_cut(generation);
    tell_response(generation, cut ? "response.incomplete" : "response.completed",
                  cut ? "incomplete" : "completed", NULL);
}

static void whole(struct generation *generation)
{
    finish(generation, 0);
    write_response(generation, was_cut(generation) ? "incomplete" : "completed", NULL,
                   &generation->piece);
}

/* Both: clients of either event see the end. */
static void fail(struct generation *generation, const struct api_error *error)
{
    struct buffer *out = begin_event(generation, "error");
    buffer_append_text(out, ",\"code\":");
    json_quote(out, text_view_of(error->code ? error->code : "server_error"));
    buffer_append_text(out, ",\"message\":");
    json_quote(out, text_view_of(error->message));
    buffer_append_text(out, ",\"param\":null");
    end_event(generation);
    close_item(generation, "incomplete");
    tell_response(generation, "response.failed", "failed", error);
}

const struct reply_format reply_responses = {
    .id_prefix = "resp_",
    .begin = begin,
    .begin_stream = begin_stream,
    .content = content,
    .reasoning = reasoning,
    .tool_call = tool_call,
    .finish = finish,
    .end_stream = end_stream,
    .whole = whole,
    .fail = fail,
};
