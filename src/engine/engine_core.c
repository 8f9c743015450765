/* Owns the life of a request between mailbox and DONE: docs/internals/engine.md numbers its steps.
 *
 * Invariants. A request is in the `live` list from its submission's arrival until DONE, and holds a
 * reference meanwhile. A choice is known to the scheduler, or waits for its request's first choice,
 * or is finished. Before a sequence gets a row, its request's ring has room for the events of it.
 * One request's failure ends that request alone. It must not know files, templates or how ids
 * become text. */
#include "engine/engine_core.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/embedding.h"

static uint64_t now_ns(const struct engine_core *core)
{
    return core->options.clock_ns ? core->options.clock_ns(core->options.clock_user)
                                  : clock_now_ns();
}

static size_t text_bytes(const struct core_options *options)
{
    return 2 * (size_t)options->piece_bytes_max + LIMIT_STOP_STRING_BYTES + 64;
}

uint64_t core_bytes(const struct core_options *options)
{
    const struct scheduler_options *s = &options->scheduler;
    uint64_t block = sizeof(struct prefix_node) + 4 * sizeof(uint32_t);
    uint64_t slot = (uint64_t)kv_blocks_for(s->context_max) * sizeof(uint32_t) + 64;
    return sampler_workspace_bytes(options->vocabulary_size, s->context_max) + text_bytes(options) +
           block * s->block_count + slot * s->running_max +
           (uint64_t)s->sequence_max * (2 * sizeof(struct tenant) + 32) +
           (uint64_t)s->rows_max * 4 * sizeof(uint32_t);
}

llcuda_status core_init(struct engine_core *core, const struct core_options *options,
                        struct llcuda_error *error)
{
    memset(core, 0, sizeof *core);
    core->options = *options;
    uint32_t rows = options->scheduler.rows_max;
    llcuda_status status = scheduler_init(&core->scheduler, &options->scheduler, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = sampler_workspace_init(&core->workspace, options->vocabulary_size,
                                    options->scheduler.context_max, error);
    if (status != LLCUDA_OK) {
        goto fail;
    }
    core->tokens = calloc(rows, sizeof *core->tokens);
    core->positions = calloc(rows, sizeof *core->positions);
    core->sequences = calloc(rows, sizeof *core->sequences);
    core->hidden_rows = calloc(rows, sizeof *core->hidden_rows);
    core->logits_rows = calloc(options->scheduler.running_max, sizeof *core->logits_rows);
    if (!core->tokens || !core->positions || !core->sequences || !core->hidden_rows ||
        !core->logits_rows || !buffer_reserve(&core->text, text_bytes(options))) {
        status = error_no_memory(error, "a step's batch", 16ull * rows);
        goto fail;
    }
    return LLCUDA_OK;

fail:
    core_deinit(core);
    return status;
}

void core_deinit(struct engine_core *core)
{
    assert(!core->live);
    buffer_deinit(&core->text);
    free(core->logits_rows);
    free(core->hidden_rows);
    free(core->sequences);
    free(core->positions);
    free(core->tokens);
    sampler_workspace_deinit(&core->workspace);
    scheduler_deinit(&core->scheduler);
}

void core_set_device(struct engine_core *core, struct device_model *device)
{
    assert(core->scheduler.running_count == 0);
    prefix_tree_clear(&core->scheduler.tree);
    core->device = device;
}

uint64_t core_next_deadline_ns(const struct engine_core *core)
{
    uint64_t next = scheduler_next_deadline_ns(&core->scheduler);
    const llcuda_request *request = core->held ? core->live : NULL;
    for (; request; request = request->live_next) {
        uint64_t deadline = request->choices[0].sequence.deadline_ns;
        if (request->held && deadline > 0 && (next == 0 || deadline < next)) {
            next = deadline;
        }
    }
    return next;
}

uint32_t core_sequence_count(const struct engine_core *core)
{
    return scheduler_sequence_count(&core->scheduler);
}

static struct choice *choice_of(struct sequence *sequence)
{
    return (struct choice *)((char *)sequence - offsetof(struct choice, sequence));
}

/* ------------------------------------------------------------------ endings */

static void unlink_request(struct engine_core *core, llcuda_request *request)
{
    if (request->live_previous) {
        request->live_previous->live_next = request->live_next;
    } else {
        core->live = request->live_next;
    }
    if (request->live_next) {
        request->live_next->live_previous = request->live_previous;
    }
    request->live = false;
}

/* All choices have ended: the last event, and the request leaves the list. */
static void finish_request(struct engine_core *core, llcuda_request *request)
{
    request->end_ns = now_ns(core);
    core->counters[CORE_FINISHED]++;
    core->counters[CORE_CANCELLED] += request->status == LLCUDA_CANCELLED;
    core->counters[CORE_TIMED_OUT] += request->status == LLCUDA_TIMEOUT;
    core->counters[CORE_FAILED] += request->status != LLCUDA_OK &&
                                   request->status != LLCUDA_CANCELLED &&
                                   request->status != LLCUDA_TIMEOUT;
    core->counters[CORE_REQUESTS]--;
    struct event_record record = {
        .kind = RECORD_DONE,
        .finish_reason = (uint8_t)request->choices[0].reason,
        .stop_index = -1,
    };
    event_ring_write(&request->ring, &record, NULL, text_view_make(NULL, 0));
    unlink_request(core, request);
    atomic_fetch_sub(&core->options.mailbox->sequences_live, request->choice_count);
    atomic_store(&request->finished, true);
    request_publish(request);
    request->live_next = core->dead;
    core->dead = request;
}

/* Lets go of the requests that have ended. Not at once: the plan of the running step may still
 * point to them. */
static void bury(struct engine_core *core)
{
    while (core->dead) {
        llcuda_request *request = core->dead;
        core->dead = request->live_next;
        request_unref(request);
    }
}

/* Ends one choice with the text in core->text (which passed the stop strings already). */
static void finish_choice(struct engine_core *core, struct choice *choice,
                          llcuda_finish_reason reason, int32_t stop_index)
{
    llcuda_request *request = choice->request;
    scheduler_remove(&core->scheduler, &choice->sequence);
    request->codec->stream_destroy(choice->stream);
    choice->stream = NULL;
    choice->finished = true;
    choice->reason = reason;
    struct event_record record = {
        .kind = RECORD_FINISHED,
        .choice = choice->index,
        .finish_reason = (uint8_t)reason,
        .stop_index = stop_index,
        .text_bytes = (uint32_t)core->text.length,
    };
    event_ring_write(&request->ring, &record, NULL, buffer_view(&core->text));
    if (--request->choices_left == 0) {
        finish_request(core, request);
    } else {
        request_publish(request);
    }
}

/* Ends what is left of a request. The text that was held back is lost with it: it may be half a
 * stop string, and the answer is not complete anyway. */
static void end_request(struct engine_core *core, llcuda_request *request,
                        llcuda_finish_reason reason, llcuda_status status, const char *message)
{
    if (!request->live) {
        return;
    }
    request->status = status;
    snprintf(request->message, sizeof request->message, "%s", message);
    for (uint32_t i = 0, left = request->choices_left; left > 0; i++) {
        struct choice *choice = &request->choices[i];
        if (!choice->finished) {
            left--;
            buffer_clear(&core->text);
            finish_choice(core, choice, reason, -1);
        }
    }
}

static void fail_request(struct engine_core *core, llcuda_request *request, llcuda_status status,
                         const char *message)
{
    end_request(core, request, LLCUDA_FINISH_ERROR, status, message);
}

void core_end_all(struct engine_core *core, llcuda_status status, const char *message)
{
    while (core->live) {
        end_request(core, core->live,
                    status == LLCUDA_CANCELLED ? LLCUDA_FINISH_CANCELLED : LLCUDA_FINISH_ERROR,
                    status, message);
    }
    bury(core);
}

/* ------------------------------------------------------------------ news */

static void accept_request(struct engine_core *core, llcuda_request *request)
{
    request_retain(request);
    request->live = true;
    request->live_previous = NULL;
    request->live_next = core->live;
    if (core->live) {
        core->live->live_previous = request;
    }
    core->live = request;
    core->counters[CORE_SUBMITTED]++;
    core->counters[CORE_REQUESTS]++;
    request->held = core->held;
    if (!request->held) {
        scheduler_add(&core->scheduler, &request->choices[0].sequence);
    }
}

void core_hold(struct engine_core *core, bool held)
{
    core->held = held;
    if (held) {
        return;
    }
    llcuda_request *request = core->live; /* the newest; the oldest must go first */
    while (request && request->live_next) {
        request = request->live_next;
    }
    for (; request; request = request->live_previous) {
        if (request->held) {
            request->held = false;
            scheduler_add(&core->scheduler, &request->choices[0].sequence);
        }
    }
}

static void set_paused(struct engine_core *core, llcuda_request *request, bool paused)
{
    atomic_store(&request->paused, paused);
    for (uint32_t i = 0; i < request->choice_count; i++) {
        scheduler_pause(&core->scheduler, &request->choices[i].sequence, paused);
    }
}

/* After `paused` is set the ring is looked at again: the reader may have emptied it before it could
 * see the flag. */
static void update_pause(struct engine_core *core, llcuda_request *request)
{
    bool paused = !request_has_room(request);
    if (paused == atomic_load_explicit(&request->paused, memory_order_relaxed)) {
        return;
    }
    set_paused(core, request, paused);
    if (paused && request_has_room(request)) {
        set_paused(core, request, false);
    }
}

void core_take_mail(struct engine_core *core)
{
    llcuda_request *request = mailbox_take(core->options.mailbox);
    while (request) {
        llcuda_request *next = request->mail_next;
        uint32_t flags = atomic_exchange(&request->mail_flags, 0);
        if ((flags & MAIL_SUBMIT) != 0) {
            accept_request(core, request);
        }
        if ((flags & MAIL_CANCEL) != 0) {
            end_request(core, request, LLCUDA_FINISH_CANCELLED, LLCUDA_CANCELLED,
                        "the request was cancelled");
        }
        if ((flags & MAIL_DRAINED) != 0 && request->live) {
            update_pause(core, request);
        }
        request_unref(request);
        request = next;
    }
    bury(core);
}

static const char overdue[] = "the request's time is over";

/* Those that are held are not in the scheduler's heap of deadlines. */
static void end_overdue_held(struct engine_core *core, uint64_t now)
{
    llcuda_request *request = core->live;
    while (request) {
        llcuda_request *next = request->live_next;
        uint64_t deadline = request->choices[0].sequence.deadline_ns;
        if (request->held && deadline > 0 && deadline <= now) {
            end_request(core, request, LLCUDA_FINISH_TIMEOUT, LLCUDA_TIMEOUT, overdue);
        }
        request = next;
    }
}

static void end_overdue(struct engine_core *core, uint64_t now)
{
    struct sequence *sequence;
    if (core->held) {
        end_overdue_held(core, now);
    }
    while ((sequence = scheduler_expired(&core->scheduler, now)) != NULL) {
        end_request(core, choice_of(sequence)->request, LLCUDA_FINISH_TIMEOUT, LLCUDA_TIMEOUT,
                    overdue);
    }
}

/* Pauses running requests whose readers are behind; waiting ones have room. */
static void update_pauses(struct engine_core *core)
{
    struct scheduler *scheduler = &core->scheduler;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        update_pause(core, choice_of(scheduler->running[i])->request);
    }
}

/* ------------------------------------------------------------------ a token's way out */

static bool is_end_token(const llcuda_request *request, uint32_t token)
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
        fail_request(core, request, status, error.message);
        return;
    }
    int32_t found = apply_stops(core, choice, fresh, true);
    finish_choice(core, choice, found >= 0 ? LLCUDA_FINISH_STOP : reason, found);
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

/* A choice has drawn a token: history, text, event, and perhaps the end. */
static void emit_token(struct engine_core *core, struct choice *choice, uint32_t token,
                       const llcuda_token_logprob *logprob, uint64_t now)
{
    llcuda_request *request = choice->request;
    struct sequence *sequence = &choice->sequence;
    choice->tokens[sequence->known++] = token;
    choice->generated++;
    request->generated++;
    request->last_ns = now;
    core->counters[CORE_GENERATED_TOKENS]++;
    sampler_accept(&choice->sampler, choice->tokens, sequence->known, sequence->prompt_count);
    bool end = is_end_token(request, token);
    begin_text(core, choice);
    size_t fresh = core->text.length;
    int32_t found = -1;
    if (!end) {
        struct llcuda_error error;
        llcuda_status status =
            request->codec->stream_push(choice->stream, token, &core->text, &error);
        if (status != LLCUDA_OK || core->text.failed) {
            fail_request(core, request, status != LLCUDA_OK ? status : LLCUDA_OUT_OF_MEMORY,
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
        finish_choice(core, choice, LLCUDA_FINISH_STOP, found);
    } else if (end) {
        conclude(core, choice, LLCUDA_FINISH_STOP);
    } else if (sequence->known == sequence->token_max) {
        conclude(core, choice, LLCUDA_FINISH_LENGTH);
    } else {
        request_publish(request);
    }
}

/* Draws the next token of a choice from its logits. False when the request has failed. */
static bool draw_token(struct engine_core *core, struct choice *choice, const float *logits,
                       uint32_t *token, llcuda_token_logprob *logprob)
{
    struct llcuda_error error;
    llcuda_status status = sampler_choose(&choice->sampler, &core->workspace, logits,
                                          choice->tokens, choice->sequence.known,
                                          choice->sequence.prompt_count, token, logprob, &error);
    if (status != LLCUDA_OK) {
        fail_request(core, choice->request, status, error.message);
        return false;
    }
    return true;
}

/* The prompt is in the cache: the other choices draw from the same logits, and share its blocks. A
 * choice that finds no slot waits in the queue with its first token drawn. */
static void start_siblings(struct engine_core *core, llcuda_request *request, const float *logits,
                           uint64_t now)
{
    const struct sequence *first = &request->choices[0].sequence;
    request->choices_started = true;
    for (uint32_t i = 1; i < request->choice_count; i++) {
        struct choice *choice = &request->choices[i];
        uint32_t token;
        llcuda_token_logprob logprob;
        llcuda_token_logprob *wanted = request->sampler_params.logprobs ? &logprob : NULL;
        if (!draw_token(core, choice, logits, &token, wanted)) {
            return;
        }
        if (!scheduler_fork(&core->scheduler, first, &choice->sequence)) {
            scheduler_add(&core->scheduler, &choice->sequence);
        }
        emit_token(core, choice, token, wanted, now);
        if (!request->live) {
            return;
        }
    }
}

/* Logits have come for a sequence of the plan. */
static void take_logits(struct engine_core *core, struct choice *choice, const float *logits,
                        uint64_t now)
{
    llcuda_request *request = choice->request;
    uint32_t token;
    llcuda_token_logprob logprob;
    llcuda_token_logprob *wanted = request->sampler_params.logprobs ? &logprob : NULL;
    if (!draw_token(core, choice, logits, &token, wanted)) {
        return;
    }
    if (request->first_ns == 0) {
        request->first_ns = now;
    }
    bool siblings = choice->index == 0 && !request->choices_started;
    if (siblings) {
        /* Siblings first: emitting may end the first choice and give its blocks back. */
        start_siblings(core, request, logits, now);
        if (choice->finished) {
            return; /* a sibling's failure has ended the request */
        }
    }
    emit_token(core, choice, token, wanted, now);
    if (siblings && request->live) {
        update_pause(core, request); /* those in the queue are not looked at otherwise */
    }
}

/* ------------------------------------------------------------------ embeddings */

/* Before the plan's sequences are committed: `computed` still is where their rows begin. */
static void pool_plan(struct engine_core *core, const struct step_plan *plan, uint32_t count)
{
    if (count == 0) {
        return;
    }
    uint64_t stride;
    const float *hidden = device_hidden(core->device, &stride);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        llcuda_request *request = choice_of(plan->sequences[i])->request;
        if (request->embedding_length > 0) {
            hidden += embedding_pool(request, plan->sequences[i], hidden, stride) * stride;
        }
    }
}

static void finish_embedding(struct engine_core *core, struct choice *choice, uint64_t now)
{
    llcuda_request *request = choice->request;
    struct llcuda_error error;
    llcuda_status status = embedding_finish(request, &error);
    if (status != LLCUDA_OK) {
        fail_request(core, request, status, error.message);
        return;
    }
    request->first_ns = now;
    request->last_ns = now;
    buffer_clear(&core->text);
    finish_choice(core, choice, LLCUDA_FINISH_STOP, -1);
}

/* ------------------------------------------------------------------ a step */

static void build_batch(struct engine_core *core, const struct step_plan *plan,
                        struct step_batch *batch, uint64_t now)
{
    uint32_t row = 0;
    uint32_t logits = 0;
    uint32_t hidden = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct sequence *sequence = plan->sequences[i];
        for (uint32_t r = 0; r < sequence->plan_rows; r++) {
            core->tokens[row + r] = sequence->tokens[sequence->computed + r];
            core->positions[row + r] = sequence->computed + r;
            core->sequences[row + r] = sequence->slot;
            if (embedding_wants(sequence, r)) {
                core->hidden_rows[hidden++] = row + r;
            }
        }
        row += sequence->plan_rows;
        if (sequence->want_logits) {
            core->logits_rows[logits++] = row - 1;
        }
        struct choice *choice = choice_of(plan->sequences[i]);
        if (choice->request->begin_ns == 0) {
            choice->request->begin_ns = now;
            choice->request->prompt_rows = sequence->prompt_count - sequence->cached;
        }
        bool decodes = sequence->want_logits && sequence->known > sequence->prompt_count;
        core->counters[CORE_PROMPT_TOKENS] += sequence->plan_rows - decodes;
    }
    assert(row == plan->row_count && logits == plan->logits_count);
    *batch = (struct step_batch){
        .row_count = row,
        .tokens = core->tokens,
        .positions = core->positions,
        .sequences = core->sequences,
        .sequence_count = core->scheduler.options.running_max,
        .block_tables = core->scheduler.tables,
        .block_table_stride = core->scheduler.table_stride,
        .logits_count = logits,
        .logits_rows = core->logits_rows,
        .hidden_count = hidden,
        .hidden_rows = core->hidden_rows,
    };
}

/* The plan's sequences after the device has run it. A request may end while they are walked, and
 * its other sequences with it. */
static void absorb(struct engine_core *core, const struct step_plan *plan, const float *logits,
                   uint64_t now)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        scheduler_commit(&core->scheduler, plan->sequences[i]);
    }
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        struct choice *choice = choice_of(plan->sequences[i]);
        if (choice->sequence.want_logits) {
            if (!choice->finished) {
                take_logits(core, choice, logits, now);
            }
            logits += core->options.vocabulary_size;
        } else if (choice->request->embedding_length > 0 && !choice->finished &&
                   choice->sequence.computed == choice->sequence.known) {
            finish_embedding(core, choice, now);
        }
    }
}

static void fail_step(struct engine_core *core, const struct step_plan *plan, llcuda_status status,
                      const char *message)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        fail_request(core, choice_of(plan->sequences[i])->request, status, message);
    }
}

static void publish_stats(struct engine_core *core)
{
    const struct scheduler *scheduler = &core->scheduler;
    uint64_t *counters = core->counters;
    counters[CORE_SEQUENCES] = scheduler_sequence_count(scheduler);
    counters[CORE_WAITING] = scheduler->waiting.count + scheduler->parked_count;
    counters[CORE_RUNNING] = scheduler->running_count;
    counters[CORE_PAUSED] = scheduler->paused_count + scheduler->parked_count;
    counters[CORE_BLOCKS_CACHED] = scheduler->tree.idle_count;
    counters[CORE_BLOCKS_USED] =
        scheduler->pool.block_count - scheduler->pool.free_count - scheduler->tree.idle_count;
    counters[CORE_LOOKUP_TOKENS] = scheduler->lookup_tokens;
    counters[CORE_HIT_TOKENS] = scheduler->hit_tokens;
    counters[CORE_PREEMPTIONS] = scheduler->preemptions;
    counters[CORE_EVICTIONS] = scheduler->tree.evictions;
    counters[CORE_COPIED_BLOCKS] = scheduler->copied_blocks;
    if (core->device) {
        counters[CORE_WEIGHT_BYTES_READ] = device_weight_bytes_read(core->device);
    }
    uint32_t version = atomic_load_explicit(&core->published_version, memory_order_relaxed);
    atomic_store(&core->published_version, version + 1);
    for (uint32_t i = 0; i < CORE_COUNTER_COUNT; i++) {
        atomic_store_explicit(&core->published[i], counters[i], memory_order_release);
    }
    atomic_store(&core->published_version, version + 2);
}

void core_read_stats(const struct engine_core *core, uint64_t counters[CORE_COUNTER_COUNT])
{
    for (;;) {
        uint32_t before = atomic_load(&core->published_version);
        for (uint32_t i = 0; i < CORE_COUNTER_COUNT; i++) {
            counters[i] = atomic_load_explicit(&core->published[i], memory_order_acquire);
        }
        if (before % 2 == 0 && atomic_load(&core->published_version) == before) {
            return;
        }
    }
}

bool core_step(struct engine_core *core)
{
    uint64_t begin = now_ns(core);
    end_overdue(core, begin);
    bury(core);
    update_pauses(core);
    if (!core->device) {
        publish_stats(core);
        return false;
    }
    const struct step_plan *plan = scheduler_plan(&core->scheduler);
    if (plan->row_count == 0) {
        publish_stats(core);
        return false;
    }
    struct step_batch batch;
    build_batch(core, plan, &batch, begin);
    struct llcuda_error error;
    llcuda_status status = LLCUDA_OK;
    uint64_t device_begin = now_ns(core);
    if (plan->copy_count > 0) {
        status = device_copy_blocks(core->device, plan->copy_from, plan->copy_to, plan->copy_count,
                                    &error);
    }
    const float *logits = NULL;
    if (status == LLCUDA_OK) {
        status = device_step(core->device, &batch, &logits, &error);
    }
    if (status == LLCUDA_OK && core->options.step_void &&
        core->options.step_void(core->options.step_void_user)) {
        status = error_set(&error, LLCUDA_IO, "the model file shrank while it was in use");
    }
    uint64_t device_end = now_ns(core);
    core->counters[CORE_STEPS]++;
    if (batch.row_count > core->counters[CORE_STEP_ROWS_MAX]) {
        core->counters[CORE_STEP_ROWS_MAX] = batch.row_count;
    }
    if (status == LLCUDA_OK) {
        pool_plan(core, plan, batch.hidden_count);
        absorb(core, plan, logits, device_end);
    } else {
        fail_step(core, plan, status, error.message);
    }
    bury(core);
    uint64_t end = now_ns(core);
    core->counters[CORE_STEP_NS] += device_end - device_begin;
    core->counters[CORE_HOST_NS] += (device_begin - begin) + (end - device_end);
    publish_stats(core);
    return true;
}
