/* `llcuda bench --config`, `bench report`, `bench compare` and `bench engine`: the suite over its
 * room. Progress goes to standard error, the table of results to standard output. */
#include "cli/bench_suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/runner.h"
#include "cli/open.h"

extern char **environ;

static const char *const words[] = {"engine", "compare", "report"};

bool bench_suite_wanted(const struct options *options)
{
    for (size_t i = 0; options->argument_count && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(options->arguments[0], words[i]) == 0) {
            return true;
        }
    }
    return option_given(options, OPTION_CONFIG) || option_given(options, OPTION_OUTPUT);
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

/* Where this program and its adapters are. */
static void find_places(const struct options *options, struct config_places *places, char *self,
                        size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", self, bytes - 1);
    self[length > 0 ? length : 0] = 0;
    places->self = length > 0 ? self : "llcuda";
    places->engines = option_text(options, OPTION_ENGINES);
    places->python = option_text(options, OPTION_PYTHON);
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
    find_places(options, &places, self, sizeof self);
    if (config_read(path, NULL, &places, &config, &error)) {
        return console_fail(options, &error);
    }
    struct shown shown = {.terminal = isatty(STDERR_FILENO)};
    struct runner_options runner = {.folder = folder,
                                    .builtin_model = builtin_model_data(),
                                    .builtin_model_bytes = builtin_model_bytes(),
                                    .environment = environ,
                                    .user = &shown,
                                    .progress = show_progress,
                                    .message = show_message};
    llcuda_status status = runner_run(config, &runner, &error);
    if (shown.terminal) {
        fprintf(stderr, "\r\033[K");
    }
    config_destroy(config);
    return status ? console_fail(options, &error) : EXIT_DONE;
}

int bench_suite(struct options *options)
{
    if (options->argument_count && strcmp(options->arguments[0], "engine") == 0) {
        return bench_engine();
    }
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    return run(options);
}
