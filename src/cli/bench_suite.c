/* `llcuda bench --config`, `bench report`, `bench compare` and `bench engine`: the suite over its
 * room. Progress goes to standard error, the table of results to standard output. */
#include "cli/bench_suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/report.h"
#include "bench/runner.h"
#include "cli/open.h"

extern char **environ;

static const char *const words[] = {"engine", "compare", "report", "check"};

bool bench_suite_wanted(const struct options *options)
{
    for (size_t i = 0; options->argument_count && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(options->arguments[0], words[i]) == 0) {
            return true;
        }
    }
    return option_given(options, OPTION_CONFIG) ||
           (option_given(options, OPTION_OUTPUT) && !bench_direct_wanted(options));
}

struct shown {
    bool terminal;
    uint32_t last_percent;
    char last_what[160];
};

/* On a terminal one line that is rewritten, elsewhere a line when something else begins. */
static bool show_progress(void *user, const struct runner_progress *progress)
{
    struct shown *shown = user;
    char left[32] = "";
    double whole = ((double)progress->sessions_done + progress->share) /
                   (double)(progress->session_count ? progress->session_count : 1);
    uint32_t percent = (uint32_t)(whole * 100);
    if (!isnan(progress->seconds_left)) {
        snprintf(left, sizeof left, ", about %.0f s left", progress->seconds_left);
    }
    if (shown->terminal) {
        fprintf(stderr, "\r\033[K%3u %%  %s%s", percent, progress->what, left);
    } else if (strcmp(shown->last_what, progress->what) != 0) {
        fprintf(stderr, "%3u %%  %s%s\n", percent, progress->what, left);
        snprintf(shown->last_what, sizeof shown->last_what, "%s", progress->what);
    }
    return !console_interrupted();
}

static void show_message(void *user, const char *text)
{
    const struct shown *shown = user;
    fprintf(stderr, "%s%s\n", shown->terminal ? "\r\033[K" : "", text);
}

void bench_find_places(const struct options *options, struct config_places *places, char *self,
                       size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", self, bytes - 1);
    self[length > 0 ? length : 0] = 0;
    places->self = length > 0 ? self : "llcuda";
    /* Below the working folder a relative path does, and does not tell a report's readers where. */
    char *here = getcwd(NULL, 0);
    size_t depth = here ? strlen(here) : 0;
    if (depth > 1 && strncmp(self, here, depth) == 0 && self[depth] == '/' &&
        strchr(self + depth + 1, '/')) {
        places->self = self + depth + 1;
    }
    free(here);
    places->engines = option_text(options, OPTION_ENGINES);
    places->python = option_text(options, OPTION_PYTHON);
}

/* Figures, files and the table from what lies in a folder. */
int bench_make_report(struct options *options, const char *folder)
{
    struct llcuda_error error = {0};
    struct analysis *analysis = NULL;
    struct buffer table = {0};
    llcuda_status status = analysis_open(folder, &analysis, &error);
    if (!status) {
        status = report_write(analysis, &error);
    }
    if (status) {
        analysis_close(analysis);
        return console_fail(options, &error);
    }
    bool any = false;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        any = any || analysis->engines[e].ran;
    }
    if (option_flag(options, OPTION_JSON)) {
        report_summary(analysis, &table);
    } else {
        report_table(analysis, &table);
        buffer_printf(&table, "report: %s/report.html\n", folder);
    }
    bool written = console_write_buffer(&table);
    buffer_deinit(&table);
    analysis_close(analysis);
    return written && any ? EXIT_DONE : EXIT_FAILED;
}

static int compare(struct options *options)
{
    struct llcuda_error error = {0};
    struct buffer out = {0};
    uint32_t regressions = 0;
    llcuda_status status =
        report_compare(options->arguments[1], options->arguments[2],
                       option_flag(options, OPTION_JSON), &out, &regressions, &error);
    bool written = !status && console_write_buffer(&out);
    buffer_deinit(&out);
    if (status) {
        return console_fail(options, &error);
    }
    return written && regressions == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* Reads a configuration and does nothing. */
static int check(struct options *options)
{
    struct llcuda_error error = {0};
    struct config *config = NULL;
    struct config_places places;
    char self[4096];
    bench_find_places(options, &places, self, sizeof self);
    llcuda_status status = config_read(options->arguments[1], NULL, &places, &config, &error);
    config_destroy(config);
    return status ? console_fail(options, &error) : EXIT_DONE;
}

llcuda_status bench_run_config(const struct config *config, const char *folder,
                               struct llcuda_error *error)
{
    struct shown shown = {.terminal = isatty(STDERR_FILENO)};
    struct runner_options runner = {.folder = folder,
                                    .builtin_model = builtin_model_data(),
                                    .builtin_model_bytes = builtin_model_bytes(),
                                    .environment = environ,
                                    .user = &shown,
                                    .progress = show_progress,
                                    .message = show_message};
    llcuda_status status = runner_run(config, &runner, error);
    if (shown.terminal) {
        fprintf(stderr, "\r\033[K");
    }
    return status;
}

static int run(struct options *options)
{
    struct llcuda_error error = {0};
    struct config *config = NULL;
    struct config_places places;
    char self[4096];
    const char *path = option_text(options, OPTION_CONFIG);
    const char *folder = option_text(options, OPTION_OUTPUT);
    if (!path || !folder) {
        return console_usage(options->command, "--config FILE.yaml and --output DIR go together");
    }
    bench_find_places(options, &places, self, sizeof self);
    if (config_read(path, NULL, &places, &config, &error)) {
        return console_fail(options, &error);
    }
    llcuda_status status = bench_run_config(config, folder, &error);
    config_destroy(config);
    return status ? console_fail(options, &error) : bench_make_report(options, folder);
}

int bench_suite(struct options *options)
{
    if (options->argument_count && strcmp(options->arguments[0], "engine") == 0) {
        return bench_engine(options);
    }
    if (options->argument_count == 2 && strcmp(options->arguments[0], "report") == 0) {
        return bench_make_report(options, options->arguments[1]);
    }
    if (options->argument_count == 3 && strcmp(options->arguments[0], "compare") == 0) {
        return compare(options);
    }
    if (options->argument_count == 2 && strcmp(options->arguments[0], "check") == 0) {
        return check(options);
    }
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    return run(options);
}
