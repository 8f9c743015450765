/* Owns the slots, the block tables and the order of sequences; decides what a step computes.
 *
 * Invariants. `running` is in tag order. A running sequence holds the blocks of all its known
 * positions but perhaps the newest, whose block is taken when its row is planned. The full blocks
 * [0, inserted) are in the prefix tree (unless its domain shares nothing) and are never written
 * again. A block that several sequences hold and one of them must write is copied first.
 * Planning touches a sequence at most once a step, and only sequences that are not yet in the plan
 * are preempted.
 *
 * It must not know the clock, devices, text or requests. */
#include "engine/scheduler.h"

#include <assert.h>
#include <stdlib.h>

/* A level of priority is worth so much head start, and an answer is expected to be no longer than
 * that when its tenant is charged; the difference is settled at the end. Virtual time runs in
 * sixteenths, so that a share among many tenants is not rounded to nothing. */
#define PRIORITY_TOKENS 4096
#define EXPECTED_TOKENS 256u
#define VIRTUAL_SCALE   16

static llcuda_status check_options(const struct scheduler_options *options,
                                   struct llcuda_error *error)
{
    if (options->running_max == 0 || options->sequence_max < options->running_max ||
        options->context_max == 0 || options->throughput_bias < 0 ||
        !(options->throughput_bias <= 1)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the scheduler's limits contradict");
    }
    if (options->rows_max < SCHEDULER_PREFILL_ROWS_MIN ||
        options->rows_max - SCHEDULER_PREFILL_ROWS_MIN < options->running_max) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a step of %u rows is too small for %u running sequences and a prompt",
                         options->rows_max, options->running_max);
    }
    return LLCUDA_OK;
}

static bool allocate(struct scheduler *s)
{
    uint32_t slots = s->options.running_max;
    uint32_t sequences = s->options.sequence_max;
    s->tables = calloc((size_t)slots * s->table_stride, sizeof *s->tables);
    s->free_slots = calloc(slots, sizeof *s->free_slots);
    s->running = calloc(slots, sizeof *s->running);
    s->waiting.items = calloc(sequences, sizeof *s->waiting.items);
    s->deadlines.items = calloc(sequences, sizeof *s->deadlines.items);
    s->plan.sequences = calloc(slots, sizeof *s->plan.sequences);
    s->plan.copy_from = calloc(slots, sizeof *s->plan.copy_from);
    s->plan.copy_to = calloc(slots, sizeof *s->plan.copy_to);
    return s->tables && s->free_slots && s->running && s->waiting.items && s->deadlines.items &&
           s->plan.sequences && s->plan.copy_from && s->plan.copy_to;
}

llcuda_status scheduler_init(struct scheduler *scheduler, const struct scheduler_options *options,
                             struct llcuda_error *error)
{
    *scheduler = (struct scheduler){.options = *options};
    llcuda_status status = check_options(options, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    scheduler->waiting.order = HEAP_BY_TAG;
    scheduler->deadlines.order = HEAP_BY_DEADLINE;
    scheduler->table_stride = kv_blocks_for(options->context_max);
    status = kv_pool_init(&scheduler->pool, options->block_count, error);
    if (status == LLCUDA_OK) {
        status = prefix_tree_init(&scheduler->tree, &scheduler->pool, options->running_max + 64,
                                  options->prefix_cache, error);
    }
    if (status == LLCUDA_OK) {
        status = tenant_table_init(&scheduler->tenants, options->sequence_max, error);
    }
    if (status == LLCUDA_OK && !allocate(scheduler)) {
        status = error_no_memory(error, "the scheduler",
                                 (uint64_t)options->running_max * scheduler->table_stride * 4);
    }
    if (status != LLCUDA_OK) {
        scheduler_deinit(scheduler);
        return status;
    }
    for (uint32_t i = 0; i < options->running_max; i++) {
        scheduler->free_slots[i] = options->running_max - 1 - i;
    }
    scheduler->free_slot_count = options->running_max;
    return LLCUDA_OK;
}

void scheduler_deinit(struct scheduler *scheduler)
{
    assert(scheduler_sequence_count(scheduler) == 0);
    free(scheduler->plan.copy_to);
    free(scheduler->plan.copy_from);
    free(scheduler->plan.sequences);
    free(scheduler->deadlines.items);
    free(scheduler->waiting.items);
    free(scheduler->running);
    free(scheduler->free_slots);
    free(scheduler->tables);
    tenant_table_deinit(&scheduler->tenants);
    prefix_tree_deinit(&scheduler->tree);
    kv_pool_deinit(&scheduler->pool);
    *scheduler = (struct scheduler){0};
}

bool scheduler_fits(const struct scheduler *scheduler, uint32_t token_max)
{
    return token_max <= scheduler->options.context_max &&
           kv_blocks_for(token_max) <= scheduler->options.block_count;
}

static uint32_t *table_of(const struct scheduler *s, const struct sequence *sequence)
{
    return s->tables + (size_t)sequence->slot * s->table_stride;
}

/* ------------------------------------------------------------------ arrival and departure */

/* Charges the tenant for what the sequence will probably take. */
static void charge(struct scheduler *s, struct sequence *sequence)
{
    uint32_t answer = sequence->token_max - sequence->prompt_count;
    sequence->tenant_index = tenant_acquire(&s->tenants, sequence->tenant);
    sequence->cost = sequence->prompt_count + (answer < EXPECTED_TOKENS ? answer : EXPECTED_TOKENS);
    struct tenant *tenant = &s->tenants.entries[sequence->tenant_index];
    if (tenant->finish < s->virtual_time) {
        tenant->finish = s->virtual_time;
    }
    sequence->tag = tenant->finish - (int64_t)sequence->priority * PRIORITY_TOKENS * VIRTUAL_SCALE;
    tenant->finish += (int64_t)sequence->cost * VIRTUAL_SCALE;
}

static void enter(struct scheduler *s, struct sequence *sequence)
{
    assert(sequence->known > 0 && sequence->known <= sequence->token_max &&
           scheduler_fits(s, sequence->token_max) &&
           scheduler_sequence_count(s) < s->options.sequence_max);
    sequence->id = s->next_id++;
    sequence->paused = false;
    sequence->frozen = false;
    sequence->want_logits = false;
    sequence->plan_rows = 0;
    sequence->computed = 0;
    sequence->block_count = 0;
    sequence->inserted = 0;
    sequence->preemptions = 0;
    sequence->wait_index = HEAP_NO_INDEX;
    sequence->deadline_index = HEAP_NO_INDEX;
    sequence->domain = prefix_domain_acquire(&s->tree, sequence->adapter, sequence->salt);
    charge(s, sequence);
    if (sequence->deadline_ns > 0) {
        heap_push(&s->deadlines, sequence);
    }
}

void scheduler_add(struct scheduler *scheduler, struct sequence *sequence)
{
    sequence->started = false;
    sequence->cached = 0;
    enter(scheduler, sequence);
    sequence->state = SEQUENCE_WAITING;
    heap_push(&scheduler->waiting, sequence);
}

/* Keeps `running` in tag order; newcomers mostly belong to the end. */
static void running_insert(struct scheduler *s, struct sequence *sequence)
{
    uint32_t index = s->running_count++;
    while (index > 0 && sequence_before(sequence, s->running[index - 1])) {
        s->running[index] = s->running[index - 1];
        s->running[index]->run_index = index;
        index--;
    }
    s->running[index] = sequence;
    sequence->run_index = index;
    sequence->state = SEQUENCE_RUNNING;
    s->paused_count += sequence->paused;
}

static void running_remove(struct scheduler *s, struct sequence *sequence)
{
    s->running_count--;
    for (uint32_t i = sequence->run_index; i < s->running_count; i++) {
        s->running[i] = s->running[i + 1];
        s->running[i]->run_index = i;
    }
    s->paused_count -= sequence->paused;
}

/* Gives back the slot and every block, the last one first (the prefix tree's rule). */
static void vacate(struct scheduler *s, struct sequence *sequence)
{
    const uint32_t *table = table_of(s, sequence);
    while (sequence->block_count > 0) {
        prefix_tree_drop(&s->tree, table[--sequence->block_count]);
    }
    s->free_slots[s->free_slot_count++] = sequence->slot;
    sequence->computed = 0;
    sequence->inserted = 0;
    running_remove(s, sequence);
}

bool scheduler_fork(struct scheduler *scheduler, const struct sequence *from,
                    struct sequence *sequence)
{
    if (scheduler->free_slot_count == 0) {
        return false;
    }
    assert(from->state == SEQUENCE_RUNNING && sequence->known >= from->computed);
    enter(scheduler, sequence);
    sequence->tag = from->tag; /* siblings stay together; ids tell them apart */
    sequence->started = true;
    sequence->cached = from->cached;
    sequence->slot = scheduler->free_slots[--scheduler->free_slot_count];
    sequence->computed = from->computed;
    sequence->inserted = from->inserted;
    sequence->block_count = kv_blocks_for(from->computed);
    assert(sequence->block_count <= from->block_count);
    uint32_t *table = table_of(scheduler, sequence);
    memcpy(table, table_of(scheduler, from), sequence->block_count * sizeof *table);
    for (uint32_t i = 0; i < sequence->block_count; i++) {
        kv_pool_retain(&scheduler->pool, table[i]);
    }
    running_insert(scheduler, sequence);
    return true;
}

void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence)
{
    switch (sequence->state) {
    case SEQUENCE_NEW:
        return;
    case SEQUENCE_WAITING:
        heap_remove(&scheduler->waiting, sequence);
        break;
    case SEQUENCE_PARKED:
        scheduler->parked_count--;
        break;
    case SEQUENCE_RUNNING:
        vacate(scheduler, sequence);
        break;
    }
    heap_remove(&scheduler->deadlines, sequence);
    prefix_domain_release(&scheduler->tree, sequence->domain);
    uint32_t used = sequence->started ? sequence->known : 0;
    scheduler->tenants.entries[sequence->tenant_index].finish +=
        ((int64_t)used - (int64_t)sequence->cost) * VIRTUAL_SCALE;
    tenant_release(&scheduler->tenants, sequence->tenant_index);
    sequence->state = SEQUENCE_NEW;
}

void scheduler_pause(struct scheduler *scheduler, struct sequence *sequence, bool paused)
{
    if (sequence->paused == paused || sequence->state == SEQUENCE_NEW) {
        return;
    }
    sequence->paused = paused;
    if (sequence->state == SEQUENCE_RUNNING) {
        scheduler->paused_count =
            paused ? scheduler->paused_count + 1 : scheduler->paused_count - 1;
    } else if (paused) {
        heap_remove(&scheduler->waiting, sequence);
        sequence->state = SEQUENCE_PARKED;
        scheduler->parked_count++;
    } else {
        scheduler->parked_count--;
        sequence->state = SEQUENCE_WAITING;
        heap_push(&scheduler->waiting, sequence);
    }
}

struct sequence *scheduler_expired(const struct scheduler *scheduler, uint64_t now_ns)
{
    if (scheduler->deadlines.count == 0 || scheduler->deadlines.items[0]->deadline_ns > now_ns) {
        return NULL;
    }
    return scheduler->deadlines.items[0];
}

uint64_t scheduler_next_deadline_ns(const struct scheduler *scheduler)
{
    return scheduler->deadlines.count > 0 ? scheduler->deadlines.items[0]->deadline_ns : 0;
}

/* ------------------------------------------------------------------ preemption */

static void preempt(struct scheduler *s, struct sequence *sequence)
{
    assert(sequence->plan_rows == 0);
    vacate(s, sequence);
    sequence->preemptions++;
    s->preemptions++;
    if (sequence->paused) {
        sequence->state = SEQUENCE_PARKED;
        s->parked_count++;
    } else {
        sequence->state = SEQUENCE_WAITING;
        heap_push(&s->waiting, sequence);
    }
}

/* Who gives way when blocks run out: the last paused sequence, else the last one. */
static struct sequence *victim_of(const struct scheduler *s)
{
    if (s->paused_count > 0) {
        for (uint32_t i = s->running_count; i-- > 0;) {
            if (s->running[i]->paused) {
                return s->running[i];
            }
        }
    }
    return s->running[s->running_count - 1];
}

/* A block for `sequence`, preempting whoever is behind it; KV_NO_BLOCK when it had to give way
 * itself. */
static uint32_t take_block(struct scheduler *s, struct sequence *sequence)
{
    for (;;) {
        uint32_t block = prefix_tree_take(&s->tree);
        if (block != KV_NO_BLOCK) {
            return block;
        }
        struct sequence *victim = victim_of(s);
        preempt(s, victim);
        if (victim == sequence) {
            return KV_NO_BLOCK;
        }
    }
}

/* Makes the position after the computed ones writable: its block exists and is not shared. False
 * when the sequence was preempted on the way. */
static bool make_writable(struct scheduler *s, struct sequence *sequence)
{
    uint32_t *table = table_of(s, sequence);
    uint32_t index = sequence->computed / KV_BLOCK_TOKENS;
    if (index == sequence->block_count) {
        uint32_t block = take_block(s, sequence);
        if (block == KV_NO_BLOCK) {
            return false;
        }
        table[sequence->block_count++] = block;
        return true;
    }
    while (s->pool.references[table[index]] > 1) {
        uint32_t block = prefix_tree_take(&s->tree);
        if (block == KV_NO_BLOCK) {
            /* The victim may have been the other holder: look again. */
            struct sequence *victim = victim_of(s);
            preempt(s, victim);
            if (victim == sequence) {
                return false;
            }
            continue;
        }
        struct step_plan *plan = &s->plan;
        plan->copy_from[plan->copy_count] = table[index];
        plan->copy_to[plan->copy_count++] = block;
        s->copied_blocks++;
        prefix_tree_drop(&s->tree, table[index]);
        table[index] = block;
    }
    return true;
}

/* ------------------------------------------------------------------ planning */

static void plan_rows(struct scheduler *s, struct sequence *sequence, uint32_t rows)
{
    struct step_plan *plan = &s->plan;
    assert(rows > 0 && plan->row_count + rows <= s->options.rows_max);
    sequence->plan_rows = rows;
    sequence->want_logits =
        sequence->output == SEQUENCE_LOGITS && sequence->computed + rows == sequence->known;
    plan->sequences[plan->sequence_count++] = sequence;
    plan->row_count += rows;
    plan->logits_count += sequence->want_logits;
}

/* One row for everyone who waits for the next token. */
static void plan_decodes(struct scheduler *s)
{
    uint32_t i = 0;
    while (i < s->running_count) {
        struct sequence *sequence = s->running[i];
        if (!sequence->paused && !sequence->frozen && sequence->known - sequence->computed == 1) {
            if (!make_writable(s, sequence)) {
                continue; /* gone: the next one has moved to place i */
            }
            plan_rows(s, sequence, 1);
            i = sequence->run_index; /* a paused one before it may have gone */
        }
        i++;
    }
}

static uint32_t prefill_budget(const struct scheduler *s)
{
    uint32_t rows = s->options.rows_max - s->plan.row_count;
    if (s->plan.row_count == 0) {
        return rows;
    }
    uint32_t share = (uint32_t)(s->options.throughput_bias * rows);
    return share < SCHEDULER_PREFILL_ROWS_MIN ? SCHEDULER_PREFILL_ROWS_MIN : share;
}

static void plan_chunk(struct scheduler *s, struct sequence *sequence, uint32_t *budget)
{
    uint32_t rows = sequence->known - sequence->computed;
    if (rows > *budget) {
        rows = *budget;
    }
    plan_rows(s, sequence, rows);
    *budget -= rows;
}

static void plan_prompts(struct scheduler *s, uint32_t *budget)
{
    for (uint32_t i = 0; i<s->running_count && * budget> 0; i++) {
        struct sequence *sequence = s->running[i];
        if (!sequence->paused && sequence->plan_rows == 0 &&
            sequence->known > sequence->computed + 1) {
            plan_chunk(s, sequence, budget);
        }
    }
}

/* ------------------------------------------------------------------ admission */

/* Blocks kept free beside a newcomer's own, so that those who run can grow for a while. */
static uint32_t margin_of(const struct scheduler *s)
{
    uint32_t margin = s->options.block_count / 16;
    return margin < s->running_count ? margin : s->running_count;
}

/* Preempts for the head of the queue, before anything is planned: paused sequences, and running
 * ones of lower priority that are also behind it in tag order. */
static void make_way(struct scheduler *s)
{
    if (s->waiting.count == 0) {
        return;
    }
    const struct sequence *head = s->waiting.items[0];
    uint32_t needs = kv_blocks_for(head->known);
    while (s->running_count > 0 &&
           (s->free_slot_count == 0 || prefix_tree_available(&s->tree) < needs + margin_of(s))) {
        struct sequence *victim = victim_of(s);
        if (!victim->paused &&
            (victim->priority >= head->priority || !sequence_before(head, victim))) {
            break;
        }
        preempt(s, victim);
        if (s->waiting.items[0] != head) {
            break; /* cannot be: a victim is behind the head, or parked */
        }
    }
}

/* Gives the head of the queue a slot, its cached prefix and fresh blocks for the rest; false when
 * there is no room yet. */
static bool admit_head(struct scheduler *s)
{
    struct sequence *sequence = s->waiting.items[0];
    if (s->free_slot_count == 0) {
        return false;
    }
    uint32_t available = prefix_tree_available(&s->tree);
    if (sequence->id == s->blocked_id && available < s->blocked_needs && s->running_count > 0) {
        return false;
    }
    uint32_t slot = s->free_slots[s->free_slot_count - 1];
    uint32_t *table = s->tables + (size_t)slot * s->table_stride;
    /* The last known token is always computed: what follows from it is wanted. */
    uint32_t wanted = sequence->output == SEQUENCE_ALL ? 0 : sequence->known - 1;
    uint32_t found = prefix_tree_match(&s->tree, sequence->domain, sequence->tokens, wanted, table);
    uint32_t needs = kv_blocks_for(sequence->known) - found;
    uint32_t left = prefix_tree_available(&s->tree);
    if (left < needs + margin_of(s)) {
        for (uint32_t i = found; i-- > 0;) {
            prefix_tree_drop(&s->tree, table[i]);
        }
        s->blocked_id = sequence->id;
        s->blocked_needs = needs + margin_of(s) + (available - left);
        return false;
    }
    for (uint32_t i = 0; i < needs; i++) {
        table[found + i] = prefix_tree_take(&s->tree);
        assert(table[found + i] != KV_NO_BLOCK);
    }
    heap_remove(&s->waiting, sequence);
    s->free_slot_count--;
    sequence->slot = slot;
    sequence->block_count = found + needs;
    sequence->computed = found * KV_BLOCK_TOKENS;
    sequence->inserted = found;
    s->lookup_tokens += wanted;
    s->hit_tokens += sequence->computed;
    running_insert(s, sequence);
    return true;
}

/* Virtual time passes with every first admission by the share of the work that is due to each
 * tenant, and never lies behind the tag's own start. */
static void advance(struct scheduler *s, const struct sequence *sequence)
{
    int64_t start = sequence->tag + (int64_t)sequence->priority * PRIORITY_TOKENS * VIRTUAL_SCALE;
    if (s->virtual_time < start) {
        s->virtual_time = start;
    }
    int64_t share = (int64_t)sequence->cost * VIRTUAL_SCALE / s->tenants.live;
    s->virtual_time += share > 0 ? share : 1;
}

static void admit(struct scheduler *s, uint32_t *budget)
{
    while (*budget > 0 && s->waiting.count > 0) {
        struct sequence *sequence = s->waiting.items[0];
        if (!admit_head(s)) {
            return;
        }
        if (!sequence->started) {
            sequence->started = true;
            sequence->cached = sequence->computed;
            advance(s, sequence);
        }
        plan_chunk(s, sequence, budget);
    }
}

const struct step_plan *scheduler_plan(struct scheduler *scheduler)
{
    struct step_plan *plan = &scheduler->plan;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        scheduler->running[i]->plan_rows = 0; /* a plan that was not committed is forgotten */
    }
    plan->sequence_count = 0;
    plan->row_count = 0;
    plan->logits_count = 0;
    plan->copy_count = 0;
    make_way(scheduler);
    uint64_t preemptions = scheduler->preemptions;
    plan_decodes(scheduler);
    uint32_t budget = prefill_budget(scheduler);
    plan_prompts(scheduler, &budget);
    if (scheduler->preemptions == preemptions) {
        admit(scheduler, &budget);
    }
    return plan;
}

void scheduler_commit(struct scheduler *scheduler, struct sequence *sequence)
{
    assert(sequence->state == SEQUENCE_RUNNING && sequence->plan_rows > 0);
    sequence->computed += sequence->plan_rows;
    sequence->plan_rows = 0;
    uint32_t *table = table_of(scheduler, sequence);
    while ((uint64_t)(sequence->inserted + 1) * KV_BLOCK_TOKENS <= sequence->computed) {
        uint32_t index = sequence->inserted++;
        uint32_t parent = index > 0 ? table[index - 1] : KV_NO_BLOCK;
        table[index] =
            prefix_tree_insert(&scheduler->tree, sequence->domain, parent,
                               sequence->tokens + (size_t)index * KV_BLOCK_TOKENS, table[index]);
    }
}

void scheduler_forget_cache(struct scheduler *scheduler)
{
    scheduler->plan.sequence_count = 0;
    scheduler->plan.row_count = 0;
    scheduler->plan.logits_count = 0;
    scheduler->plan.copy_count = 0;
    while (scheduler->running_count > 0) {
        struct sequence *last = scheduler->running[scheduler->running_count - 1];
        last->plan_rows = 0;
        preempt(scheduler, last);
    }
    prefix_tree_clear(&scheduler->tree);
}

/* ------------------------------------------------------------------ checking */

static bool running_valid(const struct scheduler *s, uint32_t *references)
{
    uint32_t paused = 0;
    for (uint32_t i = 0; i < s->running_count; i++) {
        const struct sequence *sequence = s->running[i];
        const uint32_t *table = table_of(s, sequence);
        if (sequence->run_index != i || sequence->state != SEQUENCE_RUNNING ||
            (i > 0 && !sequence_before(s->running[i - 1], sequence)) ||
            sequence->computed > sequence->known ||
            sequence->block_count > kv_blocks_for(sequence->token_max) ||
            sequence->block_count < kv_blocks_for(sequence->computed) ||
            sequence->inserted != sequence->computed / KV_BLOCK_TOKENS) {
            return false;
        }
        paused += sequence->paused;
        for (uint32_t b = 0; b < sequence->block_count; b++) {
            references[table[b]]++;
            if (b >= sequence->inserted && s->tree.nodes[table[b]].present) {
                return false; /* it will be written */
            }
        }
    }
    return paused == s->paused_count;
}

bool scheduler_valid(const struct scheduler *scheduler)
{
    uint32_t *references = calloc(scheduler->pool.block_count, sizeof *references);
    if (!references) {
        return false;
    }
    bool valid =
        running_valid(scheduler, references) &&
        memcmp(references, scheduler->pool.references,
               scheduler->pool.block_count * sizeof *references) == 0 &&
        scheduler->running_count + scheduler->free_slot_count == scheduler->options.running_max &&
        heap_valid(&scheduler->waiting) && heap_valid(&scheduler->deadlines) &&
        prefix_tree_valid(&scheduler->tree);
    free(references);
    return valid;
}
