/* A device that computes by itself: the engine is one step ahead of it. */
#include "fake.h"

static const uint32_t prompt[20] = {3, 4, 5, 6, 8, 9, 10, 11, 12, 13};

static bool open_ahead(struct fake_engine *engine)
{
    struct scheduler_options options = {
        .block_count = 64,
        .running_max = 8,
        .rows_max = 64,
        .sequence_max = 16,
        .context_max = 128,
        .throughput_bias = 0.5,
        .prefix_cache = true,
    };
    bool good = fake_engine_open(engine, &options, 61);
    fake_run_ahead(engine->model);
    return good;
}

static llcuda_request *ask(struct fake_engine *engine, uint32_t max_tokens)
{
    llcuda_request_options options;
    llcuda_status status;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 20;
    options.max_tokens = max_tokens;
    options.ignore_eos = true;
    llcuda_request *request = fake_submit(engine, &options, &status);
    assert_non_null(request);
    core_take_mail(&engine->core);
    return request;
}

/* Tokens that can be read now; *done when the last event is among them. */
static uint32_t read_tokens(llcuda_request *request, bool *done)
{
    const llcuda_event *event;
    uint32_t count = 0;
    *done = false;
    while (!*done && llcuda_request_next(request, 0, &event, NULL) == LLCUDA_OK) {
        count += event->kind == LLCUDA_EVENT_TOKENS ? event->token_count : 0;
        *done = event->kind == LLCUDA_EVENT_DONE;
    }
    return count;
}

struct watch {
    struct fake_engine *engine;
    uint32_t waits;   /* for steps */
    uint32_t planned; /* of them, with the next step's row planned already */
};

static void look(struct fake_model *model, void *user)
{
    struct watch *watch = user;
    const struct step_plan *plan = &watch->engine->core.scheduler.plan;
    const struct step_batch *batch = &model->batch;
    watch->waits++;
    watch->planned += plan->row_count == 1 &&
                      plan->sequences[0]->computed == batch->positions[batch->row_count - 1] + 1;
}

static void the_next_step_is_planned_while_one_runs(void **state)
{
    (void)state;
    struct fake_engine engine;
    struct watch watch = {.engine = &engine};
    assert_true(open_ahead(&engine));
    engine.model->on_end = look;
    engine.model->on_end_user = &watch;
    llcuda_request *request = ask(&engine, 10);
    bool done;
    uint32_t tokens = 0;
    for (uint32_t step = 0; step < 10; step++) {
        assert_true(core_step(&engine.core));
        /* A step runs, and what the one before it gave has been told. */
        assert_true(engine.core.flying && engine.model->flying);
        tokens += read_tokens(request, &done);
        assert_int_equal(tokens, step);
    }
    assert_true(core_step(&engine.core));
    assert_false(engine.core.flying);
    tokens += read_tokens(request, &done);
    assert_true(done);
    assert_int_equal(tokens, 10);
    assert_false(core_step(&engine.core));
    assert_int_equal(watch.waits, 10);
    assert_int_equal(watch.planned, 9); /* nothing follows the last one */
    assert_int_equal(engine.model->rows, 20 + 9);
    llcuda_request_release(request);
    fake_engine_close(&engine);
}

/* The row that was planned for an answer that has ended with the token in the air is not run. */
static void an_end_token_costs_no_row(void **state)
{
    (void)state;
    struct fake_engine engine;
    llcuda_request_options options;
    llcuda_status status;
    struct fake_answer answer;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 20;
    options.max_tokens = 60;
    options.temperature = 2;
    options.seed_given = true;
    assert_true(open_ahead(&engine));
    do { /* a seed whose answer has an end of its own */
        options.seed++;
        fake_answer_make(&engine.setup, &options, options.seed, 0, false, &answer);
        fake_answer_free(&answer);
    } while (answer.reason != LLCUDA_FINISH_STOP || answer.count < 3);
    llcuda_request *request = fake_submit(&engine, &options, &status);
    core_take_mail(&engine.core);
    bool done = false;
    while (!done) {
        core_step(&engine.core);
        read_tokens(request, &done);
    }
    assert_false(engine.core.flying);
    assert_int_equal(engine.model->rows, 20 + answer.count - 1);
    llcuda_request_release(request);
    fake_engine_close(&engine);
}

static void closing_waits_for_the_step(void **state)
{
    (void)state;
    struct fake_engine engine;
    assert_true(open_ahead(&engine));
    llcuda_request *request = ask(&engine, 0);
    for (uint32_t step = 0; step < 5; step++) {
        core_step(&engine.core);
    }
    assert_true(engine.model->flying);
    llcuda_request_release(request); /* cancelled while its row is computed */
    core_end_all(&engine.core, LLCUDA_CANCELLED, "closed");
    assert_false(engine.model->flying);
    assert_int_equal(engine.model->steps, 5);
    fake_engine_close(&engine);
}

/* Draws are shared out when there are enough of them, and a lone one is not. */
static void draws_are_shared_out(void **state)
{
    (void)state;
    struct fake_engine engine;
    assert_true(open_ahead(&engine));
    engine.core.options.parallel_min = 2 * 61;
    llcuda_request *first = ask(&engine, 3);
    core_step(&engine.core);
    core_step(&engine.core);
    assert_int_equal(engine.model->parallel_runs, 0);
    llcuda_request *second = ask(&engine, 3);
    bool done[2] = {false, false};
    while (!done[0] || !done[1]) {
        core_step(&engine.core);
        bool now;
        read_tokens(first, &now);
        done[0] |= now;
        read_tokens(second, &now);
        done[1] |= now;
    }
    assert_true(engine.model->parallel_runs > 0);
    llcuda_request_release(first);
    llcuda_request_release(second);
    fake_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_step_is_planned_while_one_runs),
        cmocka_unit_test(an_end_token_costs_no_row),
        cmocka_unit_test(closing_waits_for_the_step),
        cmocka_unit_test(draws_are_shared_out),
    };
    test_seed_print();
    return cmocka_run_group_tests_name("one step ahead", tests, NULL, NULL);
}
