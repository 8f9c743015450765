/* Owns the random life of one engine after another. */
#include "simulate.h"

#define REQUESTS_MAX 96u
#define VOCABULARY   61u

struct guest {
    llcuda_request *request;
    llcuda_request_options options;
    uint32_t *prompt;
    llcuda_text stops[2];
    char stop_bytes[2][4];
    uint32_t stop_token;
    llcuda_logit_bias bias;
    char tenant[8], salt[8];
    struct fake_answer *answers; /* [choice_count] */
    float embedding[FAKE_EMBEDDING];
    uint32_t *read; /* [choice_count] tokens read */
    size_t *text_read;
    bool *finished;
    bool cancelled;
    bool slow;
    uint64_t deadline_ns;
    uint64_t submitted_step;
};

struct episode {
    struct fake_engine engine;
    struct guest guests[REQUESTS_MAX];
    uint32_t count;
    uint32_t context;
    uint64_t step;
    uint32_t prefixes[4][200];
    struct simulate_totals *totals;
};

static bool chance(uint32_t percent)
{
    return test_random_below(100) < percent;
}

static uint32_t between(uint32_t low, uint32_t high)
{
    return low + (uint32_t)test_random_below(high - low + 1);
}

static void random_sampling(llcuda_request_options *o)
{
    o->temperature = chance(30) ? 0 : (double)between(1, 20) / 10;
    o->top_k = chance(30) ? between(1, 70) : 0;
    o->top_p = chance(30) ? (double)between(1, 100) / 100 : 1;
    o->min_p = chance(20) ? (double)between(0, 50) / 100 : 0;
    o->typical_p = chance(10) ? (double)between(1, 100) / 100 : 1;
    o->repetition_penalty = chance(20) ? 1.2 : 1;
    o->presence_penalty = chance(20) ? 0.5 : 0;
    o->frequency_penalty = chance(20) ? -0.3 : 0;
    o->penalty_window = chance(30) ? between(1, 40) : 0;
    o->dry_multiplier = chance(15) ? 0.8 : 0;
    o->seed_given = true;
    o->seed = test_random();
    o->logprobs = chance(20);
    o->top_logprobs = o->logprobs ? between(0, 20) : 0;
}

static void random_ends(struct guest *guest)
{
    llcuda_request_options *o = &guest->options;
    o->ignore_eos = chance(50);
    o->min_tokens = o->max_tokens > 0 && chance(20) ? between(0, o->max_tokens) : 0;
    o->stop_count = chance(40) ? between(1, 2) : 0;
    for (uint32_t i = 0; i < o->stop_count; i++) {
        uint32_t bytes = between(1, 4);
        for (uint32_t b = 0; b < bytes; b++) {
            guest->stop_bytes[i][b] = (char)('a' + between(0, 4));
        }
        guest->stops[i] = (llcuda_text){guest->stop_bytes[i], bytes};
    }
    o->stop = guest->stops;
    if (chance(20)) {
        guest->stop_token = between(0, VOCABULARY - 1);
        o->stop_tokens = &guest->stop_token;
        o->stop_token_count = 1;
    }
    if (chance(20)) {
        guest->bias = (llcuda_logit_bias){between(0, VOCABULARY - 1), chance(50) ? 3 : -INFINITY};
        o->logit_bias = &guest->bias;
        o->logit_bias_count = 1;
    }
}

/* A prompt that shares its beginning with others, more often than not. */
static void random_prompt(struct episode *e, struct guest *guest)
{
    uint32_t longest = e->context - 1 < 200 ? e->context - 1 : 200;
    uint32_t length = chance(20) ? between(1, longest) : between(1, longest / 4 + 1);
    uint32_t shared = chance(70) ? between(0, length) : 0;
    const uint32_t *prefix = e->prefixes[between(0, 3)];
    guest->prompt = calloc(length, sizeof *guest->prompt);
    for (uint32_t i = 0; i < length; i++) {
        guest->prompt[i] = i < shared ? prefix[i] : between(0, VOCABULARY - 1);
    }
    guest->options.prompt_tokens = guest->prompt;
    guest->options.prompt_token_count = length;
}

/* An embedding ignores all that is about an answer: some of it stays set. */
static void random_embedding(struct guest *guest)
{
    llcuda_request_options *o = &guest->options;
    o->embedding = (llcuda_pooling)between(LLCUDA_POOLING_MODEL, LLCUDA_POOLING_LAST);
    o->embedding_raw = chance(50);
    o->choice_count = 1; /* what the test counts with */
    fake_embedding_make(o, guest->embedding);
}

static void arrive(struct episode *e)
{
    struct guest *guest = &e->guests[e->count];
    *guest = (struct guest){.submitted_step = e->step};
    llcuda_request_options *o = &guest->options;
    llcuda_request_options_init(o, sizeof *o);
    random_prompt(e, guest);
    random_sampling(o);
    o->max_tokens = chance(10) ? 0 : between(1, 40);
    guest->slow = chance(10);
    if (guest->slow) { /* with long answers and much to say of each token, so that rings run full */
        o->max_tokens = 0;
        o->logprobs = true;
        o->top_logprobs = 20;
    }
    o->choice_count = chance(25) ? between(2, 5) : 1;
    random_ends(guest);
    snprintf(guest->tenant, sizeof guest->tenant, "t%u", between(0, 3));
    snprintf(guest->salt, sizeof guest->salt, "s%u", chance(70) ? 0 : between(0, 5));
    o->tenant = guest->tenant;
    o->cache_salt = guest->salt;
    o->priority = chance(30) ? (int32_t)between(0, 20) - 10 : 0;
    o->timeout_ms = chance(8) ? between(1, 200) : 0;
    if (chance(15)) {
        random_embedding(guest);
    }
    uint32_t live = atomic_load(&e->engine.mailbox->sequences_live);
    if (live + o->choice_count > e->engine.core.options.scheduler.sequence_max) {
        free(guest->prompt);
        return; /* BUSY */
    }
    llcuda_status status;
    guest->request = fake_submit(&e->engine, o, &status);
    if (!guest->request) {
        fail_msg("submit: %s", llcuda_status_name(status));
    }
    guest->deadline_ns = o->timeout_ms > 0 ? e->engine.now_ns + o->timeout_ms * 1000000u : 0;
    guest->answers = calloc(o->choice_count, sizeof *guest->answers);
    guest->read = calloc(o->choice_count, sizeof *guest->read);
    guest->text_read = calloc(o->choice_count, sizeof *guest->text_read);
    guest->finished = calloc(o->choice_count, sizeof *guest->finished);
    for (uint32_t i = 0; i < o->choice_count; i++) {
        if (o->embedding != LLCUDA_POOLING_NONE) {
            guest->answers[i].reason = LLCUDA_FINISH_STOP; /* without a token */
            continue;
        }
        fake_answer_make(&e->engine.setup, o, o->seed, i, e->engine.model->nan_token,
                         &guest->answers[i]);
    }
    e->count++;
    e->totals->requests++;
}

static void check_text(struct guest *guest, const llcuda_event *event)
{
    struct fake_answer *answer = &guest->answers[event->choice];
    size_t begin = guest->text_read[event->choice];
    assert_true(begin + event->text_bytes <= answer->text.length);
    assert_memory_equal(event->text, buffer_text(&answer->text) + begin, event->text_bytes);
    guest->text_read[event->choice] += event->text_bytes;
}

static bool any_answer_fails(const struct guest *guest)
{
    for (uint32_t i = 0; i < guest->options.choice_count; i++) {
        if (guest->answers[i].reason == LLCUDA_FINISH_ERROR) {
            return true;
        }
    }
    return false;
}

static void check_finished(struct episode *e, struct guest *guest, const llcuda_event *event)
{
    struct fake_answer *answer = &guest->answers[event->choice];
    assert_false(guest->finished[event->choice]);
    guest->finished[event->choice] = true;
    switch (event->finish_reason) {
    case LLCUDA_FINISH_CANCELLED:
        assert_true(guest->cancelled);
        break;
    case LLCUDA_FINISH_TIMEOUT:
        assert_true(guest->deadline_ns > 0 && guest->deadline_ns <= e->engine.now_ns);
        break;
    case LLCUDA_FINISH_ERROR:
        assert_true(any_answer_fails(guest) || e->engine.model->fail_at_step > 0);
        break;
    default:
        assert_int_equal(event->finish_reason, answer->reason);
        assert_int_equal(guest->read[event->choice], answer->count);
        assert_int_equal(guest->text_read[event->choice], answer->text.length);
    }
}

static void check_done(struct episode *e, struct guest *guest, const llcuda_event *event)
{
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < guest->options.choice_count; i++) {
        assert_true(guest->finished[i]);
        tokens += guest->read[i];
    }
    assert_int_equal(event->usage.completion_tokens, tokens);
    assert_true(event->usage.cached_tokens < event->usage.prompt_tokens);
    struct simulate_totals *totals = e->totals;
    bool embedded = event->status == LLCUDA_OK && guest->options.embedding != LLCUDA_POOLING_NONE;
    assert_int_equal(event->embedding_length, embedded ? FAKE_EMBEDDING : 0);
    if (embedded) {
        assert_memory_equal(event->embedding, guest->embedding, sizeof guest->embedding);
        totals->embeddings++;
    }
    switch (event->status) {
    case LLCUDA_OK:
        totals->finished++;
        break;
    case LLCUDA_CANCELLED:
        totals->cancelled++;
        break;
    case LLCUDA_TIMEOUT:
        totals->timed_out++;
        break;
    default:
        assert_true(event->status == LLCUDA_NOT_FINITE || event->status == LLCUDA_DEVICE);
        assert_true(strlen(event->message) > 0);
        totals->failed++;
    }
}

/* Reads up to `events` events; true when the request is done. */
static bool read_guest(struct episode *e, struct guest *guest, uint32_t events)
{
    for (uint32_t i = 0; i < events; i++) {
        const llcuda_event *event;
        if (llcuda_request_next(guest->request, 0, &event, NULL) != LLCUDA_OK) {
            return false;
        }
        if (event->kind == LLCUDA_EVENT_DONE) {
            check_done(e, guest, event);
            return true;
        }
        struct fake_answer *answer = &guest->answers[event->choice];
        for (uint32_t t = 0; t < event->token_count; t++) {
            uint32_t at = guest->read[event->choice]++;
            assert_true(at < answer->count);
            assert_int_equal(event->tokens[t], answer->tokens[at]);
            assert_true((event->logprobs != NULL) == guest->options.logprobs);
            if (event->logprobs) {
                assert_int_equal(event->logprobs[t].token, event->tokens[t]);
                assert_true(event->logprobs[t].logprob <= 0);
            }
        }
        check_text(guest, event);
        if (event->kind == LLCUDA_EVENT_FINISHED) {
            check_finished(e, guest, event);
        }
    }
    return false;
}

static void leave(struct episode *e, uint32_t index)
{
    struct guest *guest = &e->guests[index];
    llcuda_request_release(guest->request);
    for (uint32_t i = 0; i < guest->options.choice_count; i++) {
        fake_answer_free(&guest->answers[i]);
    }
    free(guest->answers);
    free(guest->read);
    free(guest->text_read);
    free(guest->finished);
    free(guest->prompt);
    *guest = e->guests[--e->count];
    if (index < e->count) { /* `options` points into the struct that has moved */
        struct guest *moved = &e->guests[index];
        for (uint32_t i = 0; i < moved->options.stop_count; i++) {
            moved->stops[i].data = moved->stop_bytes[i];
        }
        moved->options.stop = moved->stops;
    }
}

static void run_step(struct episode *e)
{
    struct fake_engine *engine = &e->engine;
    core_take_mail(&engine->core);
    uint64_t steps = engine->model->steps;
    const struct scheduler *scheduler = &engine->core.scheduler;
    bool worked = core_step(&engine->core);
    if (engine->model->fail_at_step > 0 && engine->model->fail_at_step <= engine->model->steps) {
        engine->model->fail_at_step = engine->model->steps + between(1, 100);
    }
    if (!worked && engine->model->steps == steps) {
        /* Nothing ran: then nothing could have. */
        assert_int_equal(scheduler->running_count, scheduler->paused_count);
        assert_int_equal(scheduler->waiting.count, 0);
    }
    engine->now_ns += test_random_below(3000000);
    e->totals->paused += scheduler->paused_count + scheduler->parked_count;
    e->step++;
    e->totals->steps++;
    if (chance(30) && !scheduler_valid(scheduler)) {
        fail_msg("the scheduler's invariants are broken at step %llu", (unsigned long long)e->step);
    }
}

static void read_all(struct episode *e, bool draining)
{
    for (uint32_t i = 0; i < e->count;) {
        struct guest *guest = &e->guests[i];
        bool reads = draining || !guest->slow || chance(5);
        if (reads && read_guest(e, guest, guest->slow ? 5 : 1000)) {
            leave(e, i);
        } else if (!draining && chance(1) && chance(10)) {
            leave(e, i); /* released in the middle: cancels itself */
            e->totals->cancelled++;
        } else {
            if (!draining && !guest->cancelled && chance(1)) {
                guest->cancelled = true;
                llcuda_request_cancel(guest->request);
            }
            i++;
        }
    }
}

static void open_episode(struct episode *e)
{
    struct scheduler_options options = {
        .running_max = between(1, 24),
        .sequence_max = 200,
        .context_max = between(17, 160),
        .throughput_bias = (double)between(0, 10) / 10,
        .prefix_cache = chance(80),
    };
    options.rows_max = options.running_max + SCHEDULER_PREFILL_ROWS_MIN + between(0, 60);
    uint32_t one = kv_blocks_for(options.context_max);
    options.block_count = chance(50) ? between(one, 2 * one + 2) : between(one, 20 * one);
    assert_true(fake_engine_open(&e->engine, &options, VOCABULARY));
    if (chance(50)) {
        fake_run_ahead(e->engine.model);
    }
    e->engine.model->nan_token = chance(10);
    e->engine.model->fail_at_step = chance(15) ? between(1, 100) : 0;
    e->context = options.context_max;
    e->count = 0;
    e->step = 0;
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 200; k++) {
            e->prefixes[i][k] = i == 1 ? e->prefixes[0][k] : between(0, VOCABULARY - 1);
            if (i == 1 && k > 50) { /* two prefixes part after 50 tokens */
                e->prefixes[i][k] = between(0, VOCABULARY - 1);
            }
        }
    }
}

/* Nobody is left: every block is free or idle, every counter at zero. */
static void check_empty(struct episode *e)
{
    const struct engine_core *core = &e->engine.core;
    const struct scheduler *scheduler = &core->scheduler;
    assert_int_equal(e->count, 0);
    assert_null(core->live);
    assert_int_equal(core->counters[CORE_REQUESTS], 0);
    assert_int_equal(scheduler_sequence_count(scheduler), 0);
    assert_int_equal(scheduler->tenants.live, 0);
    assert_int_equal(atomic_load(&e->engine.mailbox->sequences_live), 0);
    assert_int_equal(scheduler->pool.free_count + scheduler->tree.idle_count,
                     scheduler->pool.block_count);
    assert_true(scheduler_valid(scheduler));
    for (uint32_t i = 0; i < scheduler->tree.domain_count; i++) {
        assert_int_equal(scheduler->tree.domains[i].holders, 0);
    }
}

static void run_episode(struct episode *e)
{
    open_episode(e);
    uint32_t length = between(50, 1500);
    uint32_t arrivals = between(1, 60); /* percent a step */
    for (uint32_t i = 0; i < length; i++) {
        while (e->count < REQUESTS_MAX && chance(arrivals)) {
            arrive(e);
        }
        run_step(e);
        read_all(e, false);
    }
    /* No more arrivals: everyone must be served. A step makes a token or 16 prompt rows of progress
     * for somebody at least. */
    uint64_t bound = 64;
    for (uint32_t i = 0; i < e->count; i++) {
        const llcuda_request_options *o = &e->guests[i].options;
        bound += o->choice_count * 40ull * e->context;
    }
    for (uint64_t i = 0; e->count > 0; i++) {
        if (i > bound) {
            fail_msg("%u requests starve after %llu steps", e->count, (unsigned long long)bound);
        }
        run_step(e);
        read_all(e, true);
    }
    core_take_mail(&e->engine.core); /* releases in the middle */
    core_step(&e->engine.core);
    const struct scheduler *scheduler = &e->engine.core.scheduler;
    while (e->engine.core.live || e->engine.core.flying) {
        run_step(e);
    }
    e->totals->preemptions += scheduler->preemptions;
    e->totals->hit_tokens += scheduler->hit_tokens;
    e->totals->copied_blocks += scheduler->copied_blocks;
    e->totals->evictions += scheduler->tree.evictions;
    check_empty(e);
    fake_engine_close(&e->engine);
}

void simulate(uint64_t steps, struct simulate_totals *totals)
{
    *totals = (struct simulate_totals){0};
    struct episode *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->totals = totals;
    while (totals->steps < steps) {
        run_episode(e);
    }
    free(e);
    printf("%llu steps, %llu requests: %llu finished, %llu cancelled, %llu timed out, %llu failed; "
           "%llu embeddings; %llu preemptions, %llu prefix tokens found, %llu blocks copied, %llu "
           "evicted, "
           "%llu pauses\n",
           (unsigned long long)totals->steps, (unsigned long long)totals->requests,
           (unsigned long long)totals->finished, (unsigned long long)totals->cancelled,
           (unsigned long long)totals->timed_out, (unsigned long long)totals->failed,
           (unsigned long long)totals->embeddings, (unsigned long long)totals->preemptions,
           (unsigned long long)totals->hit_tokens, (unsigned long long)totals->copied_blocks,
           (unsigned long long)totals->evictions, (unsigned long long)totals->paused);
}
