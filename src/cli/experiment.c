/* `llcuda experiment run|list|report`: combinations of factors, measured and kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/experiment.h"
#include "bench/report.h"
#include "bench/runner.h"
#include "cli/bench_suite.h"
#include "cli/open.h"

extern char **environ;

/* Perplexity of every combination that has none yet. */
static llcuda_status measure_quality(const struct experiment *experiment,
                                     struct experiment_store *store, const struct config *config,
                                     const char *program, const char *folder,
                                     struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    char *log = file_path_join(folder, "logs/perplexity.log");
    for (uint32_t e = 0; log && e < config->engine_count && !status; e++) {
        const struct config_engine *engine = &config->engines[e];
        double value = 0;
        if (!experiment->quality_text ||
            experiment_store_has_quality(store, experiment->id, engine->name, "perplexity")) {
            continue;
        }
        fprintf(stderr, "perplexity of %s\n", engine->name);
        status = experiment_perplexity(program, engine->model, experiment->quality_text, environ,
                                       log, &value, error);
        if (!status) {
            status = experiment_store_put_quality(store, experiment->id, engine->name, "perplexity",
                                                  value, error);
        }
        if (console_interrupted()) {
            status = error_set(error, LLCUDA_CANCELLED, "interrupted");
        }
    }
    free(log);
    return status;
}

static llcuda_status run_cells(struct options *options, const struct experiment *experiment,
                               struct experiment_store *store, const char *folder,
                               struct buffer *table, struct llcuda_error *error)
{
    struct config *config = NULL;
    struct analysis *analysis = NULL;
    struct config_places places;
    char self[4096];
    char *summary = file_path_join(folder, "summary.json");
    bench_find_places(options, &places, self, sizeof self);
    llcuda_status status = config_read("experiment", experiment->config, &places, &config, error);
    if (!status) {
        status = experiment_store_begin(store, experiment, folder, error);
    }
    /* A folder with a summary was measured to its end before. */
    if (!status && summary && !file_exists(summary)) {
        status = bench_run_config(config, folder, error);
    }
    if (!status) {
        status = measure_quality(experiment, store, config, self, folder, error);
    }
    if (!status) {
        status = analysis_open(folder, &analysis, error);
    }
    if (!status) {
        status = report_write(analysis, error);
    }
    if (!status) {
        status = experiment_store_figures(store, experiment->id, analysis, error);
    }
    if (!status) {
        status = experiment_store_table(store, experiment->id, table, error);
    }
    analysis_close(analysis);
    config_destroy(config);
    free(summary);
    return status;
}

static int run(struct options *options, struct experiment_store *store)
{
    struct llcuda_error error = {0};
    struct experiment experiment;
    struct buffer table = {0};
    char here[4096];
    const char *wanted = option_text(options, OPTION_OUTPUT);
    if (options->argument_count != 2 || !wanted) {
        return console_usage(options->command, "run takes FILE.yaml and --output DIR");
    }
    /* As it is found from every folder: the database remembers it. */
    bool is_relative = wanted[0] != '/' && getcwd(here, sizeof here);
    char *folder = is_relative ? file_path_join(here, wanted) : strdup(wanted);
    llcuda_status status = folder ? experiment_read(options->arguments[1], &experiment, &error)
                                  : error_no_memory(&error, "a path", strlen(wanted));
    if (!status) {
        status = run_cells(options, &experiment, store, folder, &table, &error);
        experiment_deinit(&experiment);
    }
    free(folder);
    bool written = !status && console_write_buffer(&table);
    buffer_deinit(&table);
    return status ? console_fail(options, &error) : written ? EXIT_DONE : EXIT_FAILED;
}

static int list(struct options *options, struct experiment_store *store)
{
    struct llcuda_error error = {0};
    struct buffer table = {0};
    llcuda_status status = experiment_store_list(store, &table, &error);
    bool written = !status && console_write_buffer(&table);
    buffer_deinit(&table);
    return status ? console_fail(options, &error) : written ? EXIT_DONE : EXIT_FAILED;
}

static int report(struct options *options, struct experiment_store *store)
{
    struct llcuda_error error = {0};
    struct buffer folder = {0};
    struct buffer table = {0};
    struct analysis *analysis = NULL;
    const char *id = option_text(options, OPTION_EXPERIMENT_ID);
    const char *path = option_text(options, OPTION_OUTPUT);
    if (!id) {
        return console_usage(options->command, "report takes --exp-id ID [--output report.pdf]");
    }
    llcuda_status status = experiment_store_folder(store, id, &folder, &error);
    if (!status) {
        status = experiment_store_table(store, id, &table, &error);
    }
    if (!status && path) {
        status = analysis_open(buffer_text(&folder), &analysis, &error);
    }
    if (!status && path) {
        status = report_pdf(analysis, path, &error);
    }
    bool written = !status && console_write_buffer(&table);
    analysis_close(analysis);
    buffer_deinit(&folder);
    buffer_deinit(&table);
    return status ? console_fail(options, &error) : written ? EXIT_DONE : EXIT_FAILED;
}

int command_experiment(struct options *options)
{
    static const struct {
        const char *word;
        int (*run)(struct options *options, struct experiment_store *store);
    } words[] = {{"run", run}, {"list", list}, {"report", report}};
    struct llcuda_error error = {0};
    struct experiment_store *store = NULL;
    for (size_t i = 0; options->argument_count && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(options->arguments[0], words[i].word) != 0) {
            continue;
        }
        const char *path = option_text(options, OPTION_DATABASE);
        if (words[i].run != run && !file_exists(path)) {
            error_set(&error, LLCUDA_NOT_FOUND,
                      "there are no experiments in '%s'; --database names another file", path);
            return console_fail(options, &error);
        }
        if (experiment_store_open(path, &store, &error)) {
            return console_fail(options, &error);
        }
        int result = words[i].run(options, store);
        experiment_store_close(store);
        return result;
    }
    return console_usage(options->command, "say what to do: run FILE.yaml, list or report");
}
