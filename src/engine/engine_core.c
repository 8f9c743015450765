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

#include "engine/engine_internal.h"

static size_t text_bytes(const struct core_options *options)
{
    return 2 * (size_t)options->piece_bytes_max + LIMIT_STOP_STRING_BYTES + 64;
}

static uint32_t worker_count(const struct core_options *options)
{
    return options->sampler_workers > 0 ? options->sampler_workers : 1;
}

uint64_t core_bytes(const struct core_options *options)
{
    const struct scheduler_options *s = &options->scheduler;
    uint64_t block = sizeof(struct prefix_node) + 4 * sizeof(uint32_t);
    uint64_t slot = (uint64_t)kv_blocks_for(s->context_max) * sizeof(uint32_t) + 64;
    uint64_t flight = sizeof(struct flight_entry) + sizeof(llcuda_token_logprob);
    return worker_count(options) *
               sampler_workspace_bytes(options->vocabulary_size, s->context_max) +
           text_bytes(options) + 2 * flight * s->running_max + block * s->block_count +
           slot * s->running_max + (uint64_t)s->sequence_max * (2 * sizeof(struct tenant) + 32) +
           (uint64_t)s->rows_max * 4 * sizeof(uint32_t) +
           s->running_max * sizeof(struct step_sampling) +
           STEP_EDITS_MAX * sizeof(struct step_edit);
}

static llcuda_status init_workspaces(struct engine_core *core, struct llcuda_error *error)
{
    const struct core_options *options = &core->options;
    uint32_t wanted = worker_count(options);
    core->workspaces = calloc(wanted, sizeof *core->workspaces);
    if (!core->workspaces) {
        return error_no_memory(error, "the sampler", wanted * sizeof *core->workspaces);
    }
    llcuda_status status = LLCUDA_OK;
    while (core->workspace_count < wanted && status == LLCUDA_OK) {
        status =
            sampler_workspace_init(&core->workspaces[core->workspace_count],
                                   options->vocabulary_size, options->scheduler.context_max, error);
        core->workspace_count += status == LLCUDA_OK;
    }
    return status;
}

static bool allocate_batch(struct engine_core *core)
{
    uint32_t rows = core->options.scheduler.rows_max;
    uint32_t slots = core->options.scheduler.running_max;
    core->tokens = calloc(rows, sizeof *core->tokens);
    core->positions = calloc(rows, sizeof *core->positions);
    core->sequences = calloc(rows, sizeof *core->sequences);
    core->hidden_rows = calloc(rows, sizeof *core->hidden_rows);
    core->logits_rows = calloc(slots, sizeof *core->logits_rows);
    core->samplings = calloc(slots, sizeof *core->samplings);
    core->edits = calloc(STEP_EDITS_MAX, sizeof *core->edits);
    bool good = core->tokens && core->positions && core->sequences && core->hidden_rows &&
                core->logits_rows && core->samplings && core->edits;
    for (int i = 0; i < 2; i++) {
        struct flight *flight = &core->flights[i];
        flight->entries = calloc(slots, sizeof *flight->entries);
        flight->logprobs = calloc(slots, sizeof *flight->logprobs);
        good = good && flight->entries && flight->logprobs;
    }
    return good;
}

llcuda_status core_init(struct engine_core *core, const struct core_options *options,
                        struct llcuda_error *error)
{
    memset(core, 0, sizeof *core);
    core->options = *options;
    llcuda_status status = scheduler_init(&core->scheduler, &options->scheduler, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = init_workspaces(core, error);
    if (status != LLCUDA_OK) {
        goto fail;
    }
    if (!allocate_batch(core) || !buffer_reserve(&core->text, text_bytes(options))) {
        status = error_no_memory(error, "a step's batch", 16ull * options->scheduler.rows_max);
        goto fail;
    }
    return LLCUDA_OK;

fail:
    core_deinit(core);
    return status;
}

void core_deinit(struct engine_core *core)
{
    assert(!core->live && !core->dead && !core->buried);
    buffer_deinit(&core->text);
    for (int i = 0; i < 2; i++) {
        free(core->flights[i].logprobs);
        free(core->flights[i].entries);
    }
    free(core->edits);
    free(core->samplings);
    free(core->logits_rows);
    free(core->hidden_rows);
    free(core->sequences);
    free(core->positions);
    free(core->tokens);
    while (core->workspace_count > 0) {
        sampler_workspace_deinit(&core->workspaces[--core->workspace_count]);
    }
    free(core->workspaces);
    scheduler_deinit(&core->scheduler);
}

void core_set_device(struct engine_core *core, struct device_model *device)
{
    assert(core->scheduler.running_count == 0 && !core->flying);
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
    request->end_ns = core_now_ns(core);
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
    core_publish_stats(core); /* who has read the end of an answer finds it counted */
    atomic_fetch_sub(&core->options.mailbox->sequences_live, request->choice_count);
    atomic_store(&request->finished, true);
    core->readers_called |= request_publish(request);
    request->live_next = core->dead;
    core->dead = request;
}

static void unref_all(llcuda_request **list)
{
    while (*list) {
        llcuda_request *request = *list;
        *list = request->live_next;
        request_unref(request);
    }
}

/* A request that ends while a step runs may be in that step; the step after it is the first one
 * that cannot know it. */
void core_bury(struct engine_core *core)
{
    unref_all(&core->buried);
    if (core->flying) {
        core->buried = core->dead;
        core->dead = NULL;
    } else {
        unref_all(&core->dead);
    }
}

/* Ends one choice with the text in core->text (which passed the stop strings already). */
void core_finish_choice(struct engine_core *core, struct choice *choice,
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
        core->readers_called |= request_publish(request);
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
            core_finish_choice(core, choice, reason, -1);
        }
    }
}

void core_fail_request(struct engine_core *core, llcuda_request *request, llcuda_status status,
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
    core_abandon_step(core);
    core_bury(core);
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
void core_update_pause(struct engine_core *core, llcuda_request *request)
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
            core_update_pause(core, request);
        }
        request_unref(request);
        request = next;
    }
    if (!core->flying) {
        core_bury(core);
    }
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

void core_end_overdue(struct engine_core *core, uint64_t now)
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

void core_publish_stats(struct engine_core *core)
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
