/* Owns the JSON of answers to chat and completions: chunks and whole ones. Written by hand into a
 * buffer, because a chunk is made for every token. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "build_config.h"
#include "server/generation.h"

static bool is_chat(const struct generation *generation)
{
    return generation->request.api == OPENAI_CHAT;
}

static void begin(struct generation *generation)
{
    struct buffer *out = &generation->prefix;
    const char *object = !is_chat(generation)         ? "text_completion"
                         : generation->request.stream ? "chat.completion.chunk"
                                                      : "chat.completion";
    buffer_printf(out, "{\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%lld,\"model\":",
                  is_chat(generation) ? "chatcmpl-" : "cmpl-", generation->id, object,
                  (long long)generation->created);
    json_quote(out, text_view_of(generation->model->name));
    buffer_append_text(out, ",\"system_fingerprint\":\"llcuda-" LLCUDA_VERSION "\",\"choices\":[");
}

/* ------------------------------------------------------------------ log-probabilities */

/* A token that was ruled out has no finite logarithm, which JSON cannot say; this is what OpenAI
 * writes instead. */
static void write_logprob(struct buffer *out, float value)
{
    json_format_number(out, isfinite(value) && value > -9999 ? (double)value : -9999.0, true);
}

static void comma(struct buffer *out)
{
    if (out->length > 0) {
        buffer_append_byte(out, ',');
    }
}

/* The text of one token, special ones spelled out; "" without memory. */
static char *token_text(const struct generation *generation, uint32_t token, size_t *bytes)
{
    char *text = NULL;
    *bytes = 0;
    llcuda_detokenize(generation->model->engine, &token, 1, true, &text, bytes, NULL);
    return text;
}

static void write_token(struct buffer *out, const char *text, size_t bytes, float logprob)
{
    buffer_append_text(out, "{\"token\":");
    json_quote(out, text_view_make(text, bytes));
    buffer_append_text(out, ",\"logprob\":");
    write_logprob(out, logprob);
    buffer_append_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes; i++) {
        buffer_printf(out, i ? ",%u" : "%u", (unsigned char)text[i]);
    }
    buffer_append_byte(out, ']');
}

static void note_chat(struct generation *generation, struct buffer *out,
                      const llcuda_token_logprob *logprob)
{
    size_t bytes;
    char *text = token_text(generation, logprob->token, &bytes);
    comma(out);
    write_token(out, text, bytes, logprob->logprob);
    llcuda_free(text);
    buffer_append_text(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < logprob->top_count; i++) {
        text = token_text(generation, logprob->top[i].token, &bytes);
        buffer_append_text(out, i ? "," : "");
        write_token(out, text, bytes, logprob->top[i].logprob);
        buffer_append_byte(out, '}');
        llcuda_free(text);
    }
    buffer_append_text(out, "]}");
}

static void note_completion(struct generation *generation, struct choice_output *choice,
                            uint32_t token, const llcuda_token_logprob *logprob)
{
    size_t bytes;
    char *text = token_text(generation, token, &bytes);
    comma(&choice->tokens);
    json_quote(&choice->tokens, text_view_make(text, bytes));
    llcuda_free(text);
    comma(&choice->values);
    comma(&choice->tops);
    comma(&choice->offsets);
    buffer_printf(&choice->offsets, "%llu", (unsigned long long)choice->text_characters);
    if (!logprob) { /* of the prompt, which is not scored */
        buffer_append_text(&choice->values, "null");
        buffer_append_text(&choice->tops, "null");
        return;
    }
    write_logprob(&choice->values, logprob->logprob);
    buffer_append_byte(&choice->tops, '{');
    for (uint32_t i = 0; i < logprob->top_count; i++) {
        text = token_text(generation, logprob->top[i].token, &bytes);
        buffer_append_text(&choice->tops, i ? "," : "");
        json_quote(&choice->tops, text_view_make(text, bytes));
        buffer_append_byte(&choice->tops, ':');
        write_logprob(&choice->tops, logprob->top[i].logprob);
        llcuda_free(text);
    }
    buffer_append_byte(&choice->tops, '}');
}

void reply_note_logprobs(struct generation *generation, struct choice_output *choice,
                         const llcuda_event *event)
{
    if (!generation->request.options.logprobs) {
        return;
    }
    for (uint32_t i = 0; i < event->token_count; i++) {
        const llcuda_token_logprob *logprob = event->logprobs ? &event->logprobs[i] : NULL;
        if (!is_chat(generation)) {
            note_completion(generation, choice, event->tokens[i], logprob);
        } else if (logprob) {
            note_chat(generation, &choice->tokens, logprob);
        }
    }
}

/* Writes what was noted, and forgets it. */
static void write_logprobs(struct generation *generation, struct choice_output *choice)
{
    struct buffer *out = &generation->piece;
    buffer_append_text(out, ",\"logprobs\":");
    if (!generation->request.options.logprobs ||
        (generation->streaming && choice->tokens.length == 0)) {
        buffer_append_text(out, "null");
        return;
    }
    if (is_chat(generation)) {
        buffer_append_text(out, "{\"content\":[");
        buffer_append_view(out, buffer_view(&choice->tokens));
        buffer_append_text(out, "],\"refusal\":null}");
    } else {
        buffer_append_text(out, "{\"tokens\":[");
        buffer_append_view(out, buffer_view(&choice->tokens));
        buffer_append_text(out, "],\"token_logprobs\":[");
        buffer_append_view(out, buffer_view(&choice->values));
        buffer_append_text(out, "],\"top_logprobs\":[");
        buffer_append_view(out, buffer_view(&choice->tops));
        buffer_append_text(out, "],\"text_offset\":[");
        buffer_append_view(out, buffer_view(&choice->offsets));
        buffer_append_text(out, "]}");
    }
    buffer_clear(&choice->tokens);
    buffer_clear(&choice->values);
    buffer_clear(&choice->tops);
    buffer_clear(&choice->offsets);
}

/* ------------------------------------------------------------------ choices and usage */

static bool ended_in_calls(const struct choice_output *choice)
{
    return choice->call_count > 0 && choice->finish_reason == LLCUDA_FINISH_STOP;
}

static void write_finish(struct buffer *out, const struct choice_output *choice)
{
    buffer_printf(out, ",\"finish_reason\":\"%s\"}",
                  ended_in_calls(choice) ? "tool_calls"
                                         : llcuda_finish_reason_name(choice->finish_reason));
}

static void write_usage(const struct generation *generation, struct buffer *out)
{
    const llcuda_usage *usage = &generation->usage;
    buffer_printf(out,
                  "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%u},"
                  "\"completion_tokens_details\":{\"reasoning_tokens\":%u}}",
                  usage->prompt_tokens, usage->completion_tokens,
                  (unsigned long long)usage->prompt_tokens + usage->completion_tokens,
                  usage->cached_tokens, generation->reasoning_tokens);
}

/* ------------------------------------------------------------------ chunks */

/* A chunk is written between these two: what stands between is the delta, or the text. */
static struct buffer *begin_chunk(struct generation *generation, uint32_t index)
{
    struct buffer *out = &generation->piece;
    buffer_append_text(out, "data: ");
    buffer_append_view(out, buffer_view(&generation->prefix));
    buffer_printf(out, "{\"index\":%u,", index);
    return out;
}

static void end_chunk(struct generation *generation, uint32_t index, bool finished)
{
    struct buffer *out = &generation->piece;
    write_logprobs(generation, &generation->choices[index]);
    if (finished) {
        write_finish(out, &generation->choices[index]);
    } else {
        buffer_append_text(out, ",\"finish_reason\":null}");
    }
    buffer_append_text(out, generation->request.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void begin_stream(struct generation *generation)
{
    uint32_t count = generation->request_count * generation->choices_each;
    for (uint32_t i = 0; i < count && is_chat(generation); i++) {
        buffer_append_text(begin_chunk(generation, i),
                           "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
        end_chunk(generation, i, false);
    }
}

static void give_delta(struct generation *generation, uint32_t index, const char *member,
                       struct text_view text)
{
    struct buffer *out = begin_chunk(generation, index);
    buffer_printf(out, "\"delta\":{\"%s\":", member);
    json_quote(out, text);
    buffer_append_byte(out, '}');
    end_chunk(generation, index, false);
}

static void content(struct generation *generation, uint32_t index, struct text_view text)
{
    if (!generation->streaming) {
        buffer_append_view(&generation->choices[index].text, text);
    } else if (is_chat(generation)) {
        give_delta(generation, index, "content", text);
    } else {
        struct buffer *out = begin_chunk(generation, index);
        buffer_append_text(out, "\"text\":");
        json_quote(out, text);
        end_chunk(generation, index, false);
    }
}

static void reasoning(struct generation *generation, uint32_t index, struct text_view text)
{
    if (generation->streaming) {
        give_delta(generation, index, "reasoning_content", text);
    } else {
        buffer_append_view(&generation->choices[index].reasoning, text);
    }
}

void reply_make_call_id(struct generation *generation, char id[32])
{
    char name[25];
    server_make_id(generation->server, name);
    if (generation->model->facts.tools == TOOLS_MISTRAL) {
        snprintf(id, 32, "%.9s", name);
    } else {
        snprintf(id, 32, "call_%s", name);
    }
}

static void tool_call(struct generation *generation, uint32_t index, struct text_view name,
                      struct text_view arguments)
{
    struct choice_output *choice = &generation->choices[index];
    struct buffer *out = &choice->calls;
    char id[32];
    reply_make_call_id(generation, id);
    if (generation->streaming) {
        out = begin_chunk(generation, index);
        buffer_printf(out, "\"delta\":{\"tool_calls\":[{\"index\":%u,", choice->call_count);
    } else {
        buffer_append_text(out, choice->call_count ? ",{" : "{");
    }
    buffer_printf(out, "\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", id);
    json_quote(out, name);
    buffer_append_text(out, ",\"arguments\":");
    json_quote(out, arguments);
    buffer_append_text(out, "}}");
    choice->call_count++;
    if (generation->streaming) {
        buffer_append_text(out, "]}");
        end_chunk(generation, index, false);
    }
}

static void finish(struct generation *generation, uint32_t index)
{
    buffer_append_text(begin_chunk(generation, index),
                       is_chat(generation) ? "\"delta\":{}" : "\"text\":\"\"");
    end_chunk(generation, index, true);
}

static void end_stream(struct generation *generation)
{
    struct buffer *out = &generation->piece;
    if (!generation->request.include_usage) {
        return;
    }
    buffer_append_text(out, "data: ");
    buffer_append_view(out, buffer_view(&generation->prefix));
    buffer_append_text(out, "],");
    write_usage(generation, out);
    buffer_append_text(out, "}\n\n");
}

static void fail(struct generation *generation, const struct api_error *error)
{
    struct json_writer writer;
    buffer_append_text(&generation->piece, "data: ");
    json_writer_init(&writer, &generation->piece, 0);
    api_error_write(error, &writer);
    buffer_append_text(&generation->piece, "\n\n");
}

/* ------------------------------------------------------------------ whole answers */

static void write_message(const struct choice_output *choice, struct buffer *out)
{
    buffer_append_text(out, "\"message\":{\"role\":\"assistant\",\"content\":");
    if (choice->call_count > 0 && choice->text.length == 0) {
        buffer_append_text(out, "null");
    } else {
        json_quote(out, buffer_view(&choice->text));
    }
    if (choice->reasoning.length > 0) {
        buffer_append_text(out, ",\"reasoning_content\":");
        json_quote(out, buffer_view(&choice->reasoning));
    }
    if (choice->call_count > 0) {
        buffer_append_text(out, ",\"tool_calls\":[");
        buffer_append_view(out, buffer_view(&choice->calls));
        buffer_append_byte(out, ']');
    }
    buffer_append_text(out, ",\"refusal\":null}");
}

static void whole(struct generation *generation)
{
    struct buffer *out = &generation->piece;
    uint32_t count = generation->request_count * generation->choices_each;
    buffer_append_view(out, buffer_view(&generation->prefix));
    for (uint32_t i = 0; i < count; i++) {
        struct choice_output *choice = &generation->choices[i];
        buffer_printf(out, i ? ",{\"index\":%u," : "{\"index\":%u,", i);
        if (is_chat(generation)) {
            write_message(choice, out);
        } else {
            buffer_append_text(out, "\"text\":");
            json_quote(out, buffer_view(&choice->text));
        }
        out->failed =
            out->failed || choice->text.failed || choice->reasoning.failed || choice->calls.failed;
        write_logprobs(generation, choice);
        write_finish(out, choice);
    }
    buffer_append_text(out, "],");
    write_usage(generation, out);
    buffer_append_byte(out, '}');
}

const struct reply_format reply_openai = {
    .id_prefix = "",
    .ends_with_done = true,
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
