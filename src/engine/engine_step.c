/* Owns steps: a plan becomes a batch, the batch flies, its logits become tokens.
 *
 * On a device that computes by itself the engine is one step ahead. While a step flies the next one
 * is planned, from what will be known when it lands: every position but the tokens themselves. Then
 *
 *     plan n + 1 | wait for n, draw its tokens | launch n + 1 | text and events of n
 *
 * and only drawing lies between two steps. A device that computes in this thread does the same in
 * another order: plan, launch, draw, text and events.
 *
 * Invariants. A launched row counts as computed, since the device runs steps in order; when a step
 * fails, all that is cached is forgotten. A sequence whose answer may end with the token that is
 * still in the air is planned all the same and left out at launch. Whoever ends while a step flies
 * is passed over when it lands. It must not know files, templates, or how ids become text. */
#include "engine/engine_core.h"

#include <assert.h>

#include "engine/embedding.h"
#include "engine/engine_internal.h"
#include "engine/sampler_step.h"

/* ------------------------------------------------------------------ launching */

static void add_rows(struct engine_core *core, struct step_batch *batch,
                     const struct sequence *sequence)
{
    for (uint32_t r = 0; r < sequence->plan_rows; r++) {
        uint32_t row = batch->row_count++;
        core->tokens[row] = sequence->tokens[sequence->computed + r];
        core->positions[row] = sequence->computed + r;
        core->sequences[row] = sequence->slot;
        if (embedding_wants(sequence, sequence->computed + r)) {
            core->hidden_rows[batch->hidden_count++] = row;
        }
    }
    if (sequence->want_logits) {
        core->logits_rows[batch->logits_count++] = batch->row_count - 1;
    }
}

/* Whether this row of logits matters for its largest element alone. Siblings draw from the logits
 * of the first. */
static bool only_largest_matters(const struct choice *choice)
{
    const struct llcuda_request *request = choice->request;
    return sampler_is_greedy(&request->sampler_params) &&
           (request->choice_count == 1 || request->choices_started || choice->index != 0);
}

/* A request whose other choices draw from the same logits. */
static bool leads(const struct choice *choice)
{
    return choice->index == 0 && !choice->request->choices_started &&
           choice->request->choice_count > 1;
}

/* How each row's token is drawn: by the device, unless siblings need the logits or the edits are
 * too many for a step. */
static void describe_draws(struct engine_core *core, struct flight *flight,
                           struct step_batch *batch)
{
    uint32_t edits = 0;
    uint32_t row = 0;
    for (uint32_t i = 0; i < flight->count; i++) {
        struct flight_entry *entry = &flight->entries[i];
        struct choice *choice = entry->choice;
        struct step_sampling *sampling = &core->samplings[row];
        if (!entry->logits) {
            continue;
        }
        entry->on_host = leads(choice) ||
                         !sampler_describe(&choice->sampler, &core->workspaces[0], choice->tokens,
                                           entry->at, choice->sequence.prompt_count,
                                           core->edits + edits, STEP_EDITS_MAX - edits, sampling);
        if (entry->on_host) {
            *sampling = (struct step_sampling){.on_host = true};
        }
        edits += sampler_edit_count(sampling);
        row++;
    }
    batch->sampling = core->samplings;
}

/* The plan without those who have ended since; what is launched is noted in `flight`. */
static void build_batch(struct engine_core *core, const struct step_plan *plan,
                        struct flight *flight, struct step_batch *batch, uint64_t now)
{
    *batch = (struct step_batch){
        .tokens = core->tokens,
        .positions = core->positions,
        .sequences = core->sequences,
        .sequence_count = core->scheduler.options.running_max,
        .block_tables = core->scheduler.tables,
        .block_table_stride = core->scheduler.table_stride,
        .logits_rows = core->logits_rows,
        .hidden_rows = core->hidden_rows,
    };
    flight->count = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct sequence *sequence = plan->sequences[i];
        struct choice *choice = choice_of(plan->sequences[i]);
        if (choice->finished || choice->ending) {
            continue;
        }
        add_rows(core, batch, sequence);
        flight->entries[flight->count++] = (struct flight_entry){
            .choice = choice,
            .begin = sequence->computed,
            .rows = sequence->plan_rows,
            .at = sequence->known,
            .logits = sequence->want_logits,
        };
        if (choice->request->begin_ns == 0) {
            choice->request->begin_ns = now;
            choice->request->prompt_rows = sequence->prompt_count - sequence->cached;
        }
        bool decodes = sequence->want_logits && sequence->known > sequence->prompt_count;
        core->counters[CORE_PROMPT_TOKENS] += sequence->plan_rows - decodes;
    }
    batch->choose = batch->logits_count > 0;
    for (uint32_t i = 0; i < flight->count && batch->choose; i++) {
        batch->choose =
            !flight->entries[i].logits || only_largest_matters(flight->entries[i].choice);
    }
    flight->samples = !batch->choose && batch->logits_count > 0 && device_samples(core->device);
    if (flight->samples) {
        describe_draws(core, flight, batch);
    }
    flight->logits_count = batch->logits_count;
    flight->hidden_count = batch->hidden_count;
}

/* The requests of a step that failed end, and nothing of the cache is believed any more. */
static void fail_flight(struct engine_core *core, const struct flight *flight,
                        const struct llcuda_error *error)
{
    core->counters[CORE_STEPS_FAILED]++;
    core->counters[CORE_DEVICE_FAILED] = error->status == LLCUDA_DEVICE;
    for (uint32_t i = 0; i < flight->count; i++) {
        core_fail_request(core, flight->entries[i].choice->request, error->status, error->message);
    }
    scheduler_forget_cache(&core->scheduler);
}

/* The rows are on their way: they count as computed, and a token is awaited for each row of logits.
 * A choice that its siblings will follow, or whose answer ends with that token, is not planned
 * again before the token is there. */
static void commit(struct engine_core *core, const struct flight *flight)
{
    for (uint32_t i = 0; i < flight->count; i++) {
        struct choice *choice = flight->entries[i].choice;
        struct sequence *sequence = &choice->sequence;
        scheduler_commit(&core->scheduler, sequence);
        if (flight->entries[i].logits) {
            sequence->known++;
            sequence->frozen = leads(choice) || sequence->known == sequence->token_max;
        }
    }
}

static void launch(struct engine_core *core, const struct step_plan *plan)
{
    struct flight *flight = &core->flights[core->flight_index];
    struct step_batch batch;
    struct llcuda_error error;
    uint64_t begin = core_now_ns(core);
    build_batch(core, plan, flight, &batch, begin);
    if (flight->count == 0) {
        return;
    }
    uint64_t device_begin = core_now_ns(core);
    llcuda_status status = LLCUDA_OK;
    if (plan->copy_count > 0) {
        status = device_copy_blocks(core->device, plan->copy_from, plan->copy_to, plan->copy_count,
                                    &error);
    }
    if (status == LLCUDA_OK) {
        status = device_runs_ahead(core->device)
                     ? device_step_begin(core->device, &batch, &error)
                     : device_step(core->device, &batch, &core->logits, &error);
    }
    core->device_ns += core_now_ns(core) - device_begin;
    core->counters[CORE_STEPS]++;
    if (batch.row_count > core->counters[CORE_STEP_ROWS_MAX]) {
        core->counters[CORE_STEP_ROWS_MAX] = batch.row_count;
    }
    if (status != LLCUDA_OK) {
        fail_flight(core, flight, &error);
        return;
    }
    commit(core, flight);
    core->flying = true;
}

/* ------------------------------------------------------------------ landing */

/* Waits for the device, when it does not compute in this thread. */
static llcuda_status wait_for_device(struct engine_core *core, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    if (device_runs_ahead(core->device)) {
        uint64_t begin = core_now_ns(core);
        status = device_step_end(core->device, &core->logits, error);
        core->device_ns += core_now_ns(core) - begin;
    }
    core->flying = false;
    if (status == LLCUDA_OK && core->options.step_void &&
        core->options.step_void(core->options.step_void_user)) {
        status = error_set(error, LLCUDA_IO, "the model file shrank while it was in use");
    }
    return status;
}

/* The draws of one flight, shared out to workspaces: item w takes every entry from w on in steps of
 * item_count. A draw touches its own choice only. */
struct draws {
    struct engine_core *core;
    struct flight *flight;
    uint32_t item_count;
};

static void draw_item(void *context, uint32_t worker, uint64_t item)
{
    (void)worker;
    const struct draws *draws = context;
    struct engine_core *core = draws->core;
    const float *logits = core->logits;
    uint64_t turn = 0;
    for (uint32_t i = 0; i < draws->flight->count; i++) {
        struct flight_entry *entry = &draws->flight->entries[i];
        if (!entry->logits) {
            continue;
        }
        struct choice *choice = entry->choice;
        bool mine = turn == item;
        turn = turn + 1 == draws->item_count ? 0 : turn + 1;
        if (mine && !choice->finished && (!draws->flight->samples || entry->on_host)) {
            struct llcuda_error error;
            entry->row = logits;
            entry->status = sampler_choose(&choice->sampler, &core->workspaces[item], logits,
                                           choice->tokens, entry->at, choice->sequence.prompt_count,
                                           &entry->token, &draws->flight->logprobs[i], &error);
        }
        logits += core->options.vocabulary_size;
    }
}

static_assert(sizeof(struct device_logprob) == sizeof(llcuda_token_logprob) &&
                  offsetof(struct device_logprob, top) == offsetof(llcuda_token_logprob, top) &&
                  offsetof(struct device_logprob, rank) == offsetof(llcuda_token_logprob, rank),
              "the contract's log-probabilities are those of the API");

/* The device has chosen, or drawn all tokens but those on_host, whose number is returned. */
static uint32_t take_chosen(struct engine_core *core, struct flight *flight, const uint32_t *chosen)
{
    uint32_t row = 0;
    uint32_t on_host = 0;
    for (uint32_t i = 0; i < flight->count; i++) {
        struct flight_entry *entry = &flight->entries[i];
        if (!entry->logits) {
            continue;
        }
        if (flight->samples && entry->on_host) {
            on_host++;
            row++;
            continue;
        }
        entry->row = NULL;
        entry->token = chosen[row];
        entry->status = entry->token == DEVICE_NOT_FINITE ? LLCUDA_NOT_FINITE
                        : entry->token == DEVICE_REFUSED  ? LLCUDA_REFUSED
                                                          : LLCUDA_OK;
        if (entry->choice->request->sampler_params.logprobs && entry->status == LLCUDA_OK) {
            memcpy(&flight->logprobs[i], &device_logprobs(core->device)[row],
                   sizeof flight->logprobs[i]);
        }
        row++;
    }
    return on_host;
}

static void draw_all(struct engine_core *core, struct flight *flight)
{
    const uint32_t *chosen = device_chosen(core->device);
    uint32_t on_host = chosen ? take_chosen(core, flight, chosen) : flight->logits_count;
    core->counters[CORE_HOST_DRAWS] += on_host;
    core->counters[CORE_DEVICE_DRAWS] += flight->logits_count - on_host;
    if (on_host == 0) {
        return;
    }
    struct draws draws = {core, flight, 1};
    uint64_t logits = (uint64_t)flight->logits_count * core->options.vocabulary_size;
    if (core->workspace_count > 1 && flight->logits_count > 1 &&
        logits >= core->options.parallel_min) {
        draws.item_count = core->workspace_count < flight->logits_count ? core->workspace_count
                                                                        : flight->logits_count;
        device_parallel(core->device, draws.item_count, draw_item, &draws);
    } else {
        draw_item(&draws, 0, 0);
    }
}

/* Draws the next token of a choice in this thread, for the words of a failure and for siblings.
 * False when the request has failed. */
static bool draw_token(struct engine_core *core, struct choice *choice, const float *logits,
                       uint32_t at, uint32_t *token, llcuda_token_logprob *logprob)
{
    struct llcuda_error error;
    llcuda_status status =
        sampler_choose(&choice->sampler, &core->workspaces[0], logits, choice->tokens, at,
                       choice->sequence.prompt_count, token, logprob, &error);
    if (status != LLCUDA_OK) {
        core_fail_request(core, choice->request, status, error.message);
        return false;
    }
    return true;
}

static void accept_token(struct choice *choice, uint32_t at, uint32_t token)
{
    choice->tokens[at] = token;
    sampler_accept(&choice->sampler, choice->tokens, at + 1, choice->sequence.prompt_count);
    choice->ending =
        at + 1 == choice->sequence.token_max || core_is_end_token(choice->request, token);
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
        struct sequence *sequence = &choice->sequence;
        uint32_t at = sequence->known;
        uint32_t token;
        llcuda_token_logprob logprob;
        llcuda_token_logprob *wanted = request->sampler_params.logprobs ? &logprob : NULL;
        if (!draw_token(core, choice, logits, at, &token, wanted)) {
            return;
        }
        if (first->state != SEQUENCE_RUNNING ||
            !scheduler_fork(&core->scheduler, first, sequence)) {
            scheduler_add(&core->scheduler, sequence);
        }
        accept_token(choice, at, token);
        sequence->known++;
        core_emit_token(core, choice, at, wanted, now);
        if (!request->live) {
            return;
        }
    }
}

/* A token is known: what the next draw and the next launch must know of it. */
static void settle(struct engine_core *core, struct flight_entry *entry, uint64_t now)
{
    struct choice *choice = entry->choice;
    llcuda_request *request = choice->request;
    if (entry->status != LLCUDA_OK && !entry->row) {
        core_fail_request(core, request, entry->status,
                          entry->status == LLCUDA_REFUSED
                              ? "the logit biases forbid every token"
                              : "the model produced logits that are not finite");
        return;
    }
    if (entry->status != LLCUDA_OK &&
        !draw_token(core, choice, entry->row, entry->at, &entry->token, NULL)) {
        return;
    }
    if (request->first_ns == 0) {
        request->first_ns = now;
    }
    choice->sequence.frozen = false;
    if (choice->index == 0 && !request->choices_started) {
        start_siblings(core, request, entry->row, now);
        if (choice->finished) {
            return; /* a sibling's failure has ended the request */
        }
        core_update_pause(core, request); /* those in the queue are not looked at otherwise */
    }
    accept_token(choice, entry->at, entry->token);
}

static void pool_hidden(struct engine_core *core, const struct flight *flight)
{
    uint64_t stride;
    const float *hidden = device_hidden(core->device, &stride);
    for (uint32_t i = 0; i < flight->count; i++) {
        const struct flight_entry *entry = &flight->entries[i];
        struct choice *choice = entry->choice;
        if (choice->request->embedding_length > 0) {
            hidden += embedding_pool(choice->request, &choice->sequence, entry->begin, entry->rows,
                                     hidden, stride) *
                      stride;
        }
    }
}

/* The step that flies has its results: tokens are drawn. Nothing is left to emit when it failed. */
static struct flight *land(struct engine_core *core)
{
    struct flight *flight = &core->flights[core->flight_index];
    struct llcuda_error error;
    if (wait_for_device(core, &error) != LLCUDA_OK) {
        fail_flight(core, flight, &error);
        flight->count = 0;
        return flight;
    }
    flight->landed_ns = core_now_ns(core);
    core->counters[CORE_DEVICE_FAILED] = 0;
    if (flight->hidden_count > 0) {
        pool_hidden(core, flight);
    }
    if (flight->logits_count > 0) {
        draw_all(core, flight);
    }
    for (uint32_t i = 0; i < flight->count; i++) {
        struct flight_entry *entry = &flight->entries[i];
        if (entry->logits && !entry->choice->finished) {
            settle(core, entry, flight->landed_ns);
        }
    }
    core->flight_index ^= 1;
    return flight;
}

/* ------------------------------------------------------------------ after landing */

static void finish_embedding(struct engine_core *core, struct choice *choice, uint64_t now)
{
    llcuda_request *request = choice->request;
    struct llcuda_error error;
    llcuda_status status = embedding_finish(request, &error);
    if (status != LLCUDA_OK) {
        core_fail_request(core, request, status, error.message);
        return;
    }
    request->first_ns = now;
    request->last_ns = now;
    buffer_clear(&core->text);
    core_finish_choice(core, choice, LLCUDA_FINISH_STOP, -1);
}

/* Text, events and ends of a landed step. A request may end while its choices are walked. */
static void emit(struct engine_core *core, const struct flight *flight)
{
    for (uint32_t i = 0; i < flight->count; i++) {
        const struct flight_entry *entry = &flight->entries[i];
        struct choice *choice = entry->choice;
        llcuda_request *request = choice->request;
        if (choice->finished) {
            continue;
        }
        if (entry->logits) {
            core_emit_token(core, choice, entry->at,
                            request->sampler_params.logprobs ? &flight->logprobs[i] : NULL,
                            flight->landed_ns);
        } else if (request->embedding_length > 0 &&
                   entry->begin + entry->rows == request->prompt_count) {
            finish_embedding(core, choice, flight->landed_ns);
        }
    }
}

/* Pauses running requests whose readers are behind; waiting ones have room. */
static void update_pauses(struct engine_core *core)
{
    struct scheduler *scheduler = &core->scheduler;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        core_update_pause(core, choice_of(scheduler->running[i])->request);
    }
}

bool core_step(struct engine_core *core)
{
    uint64_t begin = core_now_ns(core);
    core->device_ns = 0;
    core_end_overdue(core, begin);
    update_pauses(core);
    bool worked = core->flying;
    if (core->device) {
        const struct step_plan *plan = scheduler_plan(&core->scheduler);
        struct flight *landed = core->flying ? land(core) : NULL;
        if (plan->row_count > 0) {
            launch(core, plan);
            worked = true;
        }
        if (landed) {
            emit(core, landed);
        }
        if (core->flying && !device_runs_ahead(core->device)) {
            emit(core, land(core));
        }
    }
    core_bury(core);
    if (worked) {
        core->counters[CORE_STEP_NS] += core->device_ns;
        core->counters[CORE_HOST_NS] += core_now_ns(core) - begin - core->device_ns;
    }
    core_publish_stats(core);
    return worked;
}

void core_abandon_step(struct engine_core *core)
{
    if (core->flying) {
        struct llcuda_error error;
        wait_for_device(core, &error);
        core->flights[core->flight_index].count = 0;
    }
    core_bury(core);
}
