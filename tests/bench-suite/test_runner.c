/* Sessions that the host of a virtual machine took too much of are measured again, and what was
 * measured is kept. The scripted engine writes the counters of processors that the monitor reads.
 */
#include "support/test_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/analysis.h"
#include "bench/runner.h"

extern char **environ;

struct place {
    char folder[64];
    char counters[80], output[80];
    unsigned messages;
};

static void count_message(void *user, const char *text)
{
    struct place *place = user;
    assert_non_null(strstr(text, "the host took 50 % of the processors' time; once more"));
    place->messages++;
}

static void write_counters(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("cpu 0 0 0 1000 0 0 0 100 0\n", file);
    assert_int_equal(fclose(file), 0);
}

static void make_place(struct place *place)
{
    *place = (struct place){.folder = "/tmp/llcuda-runner-XXXXXX"};
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->counters, sizeof place->counters, "%s/stat", place->folder);
    snprintf(place->output, sizeof place->output, "%s/out", place->folder);
    write_counters(place->counters);
}

/* A run of one session of `engine`, in the configuration's words; its analysis. */
static struct analysis *run_engine(struct place *place, const char *limit, const char *engine)
{
    struct llcuda_error error = {0};
    struct config *config = NULL;
    struct analysis *analysis = NULL;
    char text[2000];
    const struct config_places places = {"llcuda", TEST_ENGINES, "python3"};
    snprintf(text, sizeof text,
             "{\"benchmark\": {\"name\": \"t\", \"repeats\": 1, \"model_path\": \"%s\"},"
             " \"engines\": [{\"name\": \"one\", %s}],"
             " \"workloads\": [{\"name\": \"w\", \"batch_sizes\": [1], \"sequence_lengths\": [8],"
             " \"output_tokens\": 2, \"iterations\": 2, \"warmup\": 1}],"
             " \"system\": {\"steal_limit\": %s}}",
             TEST_MODEL, engine, limit);
    assert_ok(config_read("t.json", text, &places, &config, &error), error);
    const struct runner_options options = {.folder = place->output,
                                           .environment = environ,
                                           .user = place,
                                           .message = count_message,
                                           .processors_file = place->counters};
    assert_ok(runner_run(config, &options, &error), error);
    config_destroy(config);
    assert_ok(analysis_open(place->output, &analysis, &error), error);
    return analysis;
}

/* Its engine steals during its first `thefts` measurements. */
static struct analysis *run(struct place *place, const char *limit, unsigned thefts)
{
    char engine[500];
    make_place(place);
    snprintf(
        engine, sizeof engine,
        "\"engine\": \"custom\", \"command\": [\"python3\", \"%s\", \"steals\", \"%s\", \"%u\"]",
        TEST_FAKE_ENGINE, place->counters, thefts);
    return run_engine(place, limit, engine);
}

static void remove_place(struct place *place, struct analysis *analysis)
{
    char command[120];
    analysis_close(analysis);
    snprintf(command, sizeof command, "rm -r '%s'", place->folder);
    assert_int_equal(system(command), 0);
}

static double stolen(const struct analysis *analysis)
{
    uint32_t engine;
    uint32_t point;
    return analysis_worst(analysis, METRIC_STOLEN, &engine, &point);
}

static bool set_aside(const struct place *place, unsigned number)
{
    char path[160];
    snprintf(path, sizeof path, "%s/raw_data/00-one.run1.stolen%u.jsonl", place->output, number);
    return file_exists(path);
}

static void test_measured_again(void **state)
{
    (void)state;
    struct place place;
    struct analysis *analysis = run(&place, "0.1", 2);
    assert_int_equal(place.messages, 2);
    assert_int_equal(analysis->engines[0].sessions, 1);
    assert_int_equal(analysis->engines[0].sessions_set_aside, 2);
    assert_near(stolen(analysis), 0, 1e-9);
    assert_true(set_aside(&place, 1) && set_aside(&place, 2) && !set_aside(&place, 3));
    remove_place(&place, analysis);
}

static void test_gives_up(void **state)
{
    (void)state;
    struct place place;
    struct analysis *analysis = run(&place, "0.1", 1000);
    assert_int_equal(place.messages, 9);
    assert_int_equal(analysis->engines[0].sessions_set_aside, 9);
    assert_near(stolen(analysis), 0.5, 1e-9);
    remove_place(&place, analysis);
}

static void test_no_limit(void **state)
{
    (void)state;
    struct place place;
    struct analysis *analysis = run(&place, "0", 1000);
    assert_int_equal(place.messages, 0);
    assert_int_equal(analysis->engines[0].sessions_set_aside, 0);
    assert_near(stolen(analysis), 0.5, 1e-9);
    remove_place(&place, analysis);
}

/* The tool measures while it warms up and replays from then on, while nobody steals. */
static void test_of_a_tool_when_it_measured(void **state)
{
    (void)state;
    struct place place;
    char engine[500];
    make_place(&place);
    snprintf(engine, sizeof engine,
             "\"engine\": \"llama_bench\", \"model_path\": \"%s\", \"options\": {\"program\":"
             " [\"python3\", \"%s\"], \"flags\": [\"--steals\", \"%s\"]}",
             TEST_MODEL, TEST_FAKE_LLAMA_BENCH, place.counters);
    struct analysis *analysis = run_engine(&place, "0", engine);
    assert_near(stolen(analysis), 0.5, 1e-9);
    remove_place(&place, analysis);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured_again),
        cmocka_unit_test(test_gives_up),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_of_a_tool_when_it_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
