/* Owns a token's way out: from an id to text, past the stop strings, into the request's ring.
 *
 * Invariant: what a reader gets is certain: no half character, and nothing that a stop string may
 * still take back. The engine thread only. It must not know steps or devices. */
#include "engine/engine_internal.h"

bool core_is_end_token(const llcuda_request *request, uint32_t token)
{
    const struct sampler_params *params = &request->sampler_params;
    for (uint32_t i = 0; i < params->end_count; i++) {
        if (params->end_tokens[i] == token) {
            return true;
        }
    }
    return false;
}

/* core->text holds held-back and new text: cuts it where a stop string ends it (the index is
 * returned) or holds back what may become one. `last`: nothing more will come. */
static int32_t apply_stops(struct engine_core *core, struct choice *choice, size_t fresh_begin,
                           bool last)
{
    const struct stop_set *stops = &choice->request->stops;
    struct buffer *text = &core->text;
    choice->held_bytes = 0;
    if (stops->count == 0 || choice->generated < choice->request->sampler_params.min_tokens) {
        return -1;
    }
    size_t consumed;
    int32_t found = stop_set_feed(stops, &choice->stop, text->data + fresh_begin,
                                  text->length - fresh_begin, &consumed);
    if (found >= 0) {
        text->length = fresh_begin + consumed - stops->strings[found].text.length;
        return found;
    }
    if (!last) {
        size_t held = stop_set_held(stops, &choice->stop);
        text->length -= held;
        memcpy(choice->held, text->data + text->length, held);
        choice->held_bytes = (uint32_t)held;
    }
    return -1;
}

/* Puts the text that was held back into core->text, for new text to follow. */
static void begin_text(struct engine_core *core, struct choice *choice)
{
    buffer_clear(&core->text);
    buffer_append(&core->text, choice->held, choice->held_bytes);
}

/* The end of an answer: what detokeniser and stop strings held back comes out, or is cut. */
static void conclude(struct engine_core *core, struct choice *choice, llcuda_finish_reason reason)
{
    llcuda_request *request = choice->request;
    begin_text(core, choice);
    size_t fresh = core->text.length;
    struct llcuda_error error;
    llcuda_status status = request->codec->stream_finish(choice->stream, &core->text, &error);
    if (status != LLCUDA_OK) {
        core_fail_request(core, request, status, error.message);
        return;
    }
    int32_t found = apply_stops(core, choice, fresh, true);
    core_finish_choice(core, choice, found >= 0 ? LLCUDA_FINISH_STOP : reason, found);
}

static void write_token(struct engine_core *core, struct choice *choice, uint32_t token,
                        const llcuda_token_logprob *logprob)
{
    struct event_record record = {
        .kind = RECORD_TOKEN,
        .choice = choice->index,
        .token = token,
        .stop_index = -1,
        .text_bytes = (uint32_t)core->text.length,
    };
    const llcuda_top_logprob *top = NULL;
    if (logprob) {
        record.has_logprob = 1;
        record.logprob = logprob->logprob;
        record.rank = logprob->rank;
        record.top_count = (uint8_t)logprob->top_count;
        top = logprob->top;
    }
    event_ring_write(&choice->request->ring, &record, top, buffer_view(&core->text));
}

void core_emit_token(struct engine_core *core, struct choice *choice, uint32_t at,
                     const llcuda_token_logprob *logprob, uint64_t now)
{
    llcuda_request *request = choice->request;
    uint32_t token = choice->tokens[at];
    choice->generated++;
    request->generated++;
    request->last_ns = now;
    core->counters[CORE_GENERATED_TOKENS]++;
    bool end = core_is_end_token(request, token);
    begin_text(core, choice);
    size_t fresh = core->text.length;
    int32_t found = -1;
    if (!end) {
        struct llcuda_error error;
        llcuda_status status =
            request->codec->stream_push(choice->stream, token, &core->text, &error);
        if (status != LLCUDA_OK || core->text.failed) {
            core_fail_request(core, request, status != LLCUDA_OK ? status : LLCUDA_OUT_OF_MEMORY,
                              status != LLCUDA_OK ? error.message : "no memory for text");
            return;
        }
        found = apply_stops(core, choice, fresh, false);
    } else {
        core->text.length = 0; /* stays held until the end has been decided */
    }
    write_token(core, choice, token, logprob);
    if (found >= 0) {
        buffer_clear(&core->text);
        core_finish_choice(core, choice, LLCUDA_FINISH_STOP, found);
    } else if (end) {
        conclude(core, choice, LLCUDA_FINISH_STOP);
    } else if (at + 1 == choice->sequence.token_max) {
        conclude(core, choice, LLCUDA_FINISH_LENGTH);
    } else {
        core->readers_called |= request_publish(request);
    }
}
