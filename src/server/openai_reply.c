/* Owns the JSON of answers: chunks and whole ones, for chat and completions. Written by hand into a
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

void reply_begin(struct generation *generation)
{
    struct buffer *out = &generation->prefix;
    const char *object = !is_chat(generation)         ? "text_completion"
                         : generation->request.stream ? "chat.completion.chunk"
                                                      : "chat.completion";
    buffer_printf(out,
                  "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", generation->id,
                  object, (long long)generation->created);
    json_quote(out, text_view_of(generation->call->server->model_name));
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
    llcuda_detokenize(generation->call->server->engine, &token, 1, true, &text, bytes, NULL);
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

static void write_finish(struct buffer *out, llcuda_finish_reason reason)
{
    if (reason == LLCUDA_FINISH_NONE) {
        buffer_append_text(out, ",\"finish_reason\":null}");
    } else {
        buffer_printf(out, ",\"finish_reason\":\"%s\"}", llcuda_finish_reason_name(reason));
    }
}

static void write_usage(struct buffer *out, const llcuda_usage *usage)
{
    buffer_printf(out,
                  "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%u},"
                  "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
                  usage->prompt_tokens, usage->completion_tokens,
                  (unsigned long long)usage->prompt_tokens + usage->completion_tokens,
                  usage->cached_tokens);
}

void reply_chunk(struct generation *generation, uint32_t index, struct text_view text, bool role,
                 llcuda_finish_reason finish_reason)
{
    struct buffer *out = &generation->piece;
    buffer_append_text(out, "data: ");
    buffer_append_view(out, buffer_view(&generation->prefix));
    buffer_printf(out, "{\"index\":%u,", index);
    if (is_chat(generation)) {
        buffer_append_text(out, role ? "\"delta\":{\"role\":\"assistant\"" : "\"delta\":{");
        if (role || text.length > 0) {
            buffer_append_text(out, role ? ",\"content\":" : "\"content\":");
            json_quote(out, text);
        }
        buffer_append_byte(out, '}');
    } else {
        buffer_append_text(out, "\"text\":");
        json_quote(out, text);
    }
    write_logprobs(generation, &generation->choices[index]);
    write_finish(out, finish_reason);
    buffer_append_text(out, generation->request.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

void reply_usage_chunk(struct generation *generation)
{
    struct buffer *out = &generation->piece;
    buffer_append_text(out, "data: ");
    buffer_append_view(out, buffer_view(&generation->prefix));
    buffer_append_text(out, "],");
    write_usage(out, &generation->usage);
    buffer_append_text(out, "}\n\n");
}

void reply_whole(struct generation *generation)
{
    struct buffer *out = &generation->piece;
    uint32_t count = generation->request_count * generation->choices_each;
    buffer_append_view(out, buffer_view(&generation->prefix));
    for (uint32_t i = 0; i < count; i++) {
        struct choice_output *choice = &generation->choices[i];
        buffer_printf(out, i ? ",{\"index\":%u," : "{\"index\":%u,", i);
        if (is_chat(generation)) {
            buffer_append_text(out, "\"message\":{\"role\":\"assistant\",\"content\":");
            json_quote(out, buffer_view(&choice->text));
            buffer_append_text(out, ",\"refusal\":null}");
        } else {
            buffer_append_text(out, "\"text\":");
            json_quote(out, buffer_view(&choice->text));
        }
        write_logprobs(generation, choice);
        write_finish(out, choice->finish_reason);
    }
    buffer_append_text(out, "],");
    write_usage(out, &generation->usage);
    buffer_append_byte(out, '}');
}
