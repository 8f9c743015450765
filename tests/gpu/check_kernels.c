/* Compiles every kernel for the architectures that are supported, with the vendors' compilers that
 * are on this machine, and reports registers, shared memory and spills: `make check-kernels`. A
 * kernel that does not compile, or that spills and is not listed below, fails the check; so do
 * other architectures than the compiler knows, unless all were asked for.
 *
 * check_kernels [--one] [--library-path FOLDERS] [--verbose]; exit 77 without any compiler. */
#include "check_modules.h"
#include "gpu/driver.h"
#include "gpu/kernel_sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_SKIPPED 77

static const char *const nvidia_archs[] = {"sm_75",  "sm_80",  "sm_86", "sm_89",
                                           "sm_90a", "sm_100", NULL};
static const char *const nvidia_one[] = {"sm_90a", NULL};

/* Kernels that may spill, with the reason beside them: "kernel arch". */
static const char *const spills_allowed[] = {
    NULL,
};

struct module {
    const char *name;
    const char *prelude;
    const char *files[12];
};

static const struct module modules[] = {
#define MODULE_ROW(name, prelude, ...) {name, prelude, {__VA_ARGS__}},
    CHECK_MODULES(MODULE_ROW)
#undef MODULE_ROW
};

struct totals {
    uint32_t kernels, failures, registers_max;
    bool verbose;
};

static bool append_file(struct buffer *text, const char *name)
{
    const struct kernel_source *source = kernel_source_find(name);
    return source && buffer_append(text, source->text, source->length);
}

/* The number before `word` in a line such as "… 96 bytes spill stores …"; 0 when there is none. */
static uint32_t number_before(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    uint32_t scale = 1, value = 0;
    while (at && at > line && at[-1] == ' ') {
        at--;
    }
    for (; at && at > line && at[-1] >= '0' && at[-1] <= '9'; at--) {
        value += (uint32_t)(at[-1] - '0') * scale;
        scale *= 10;
    }
    return value;
}

static bool spill_allowed(const char *kernel, const char *arch)
{
    char key[160];
    snprintf(key, sizeof key, "%s %s", kernel, arch);
    for (const char *const *allowed = spills_allowed; *allowed; allowed++) {
        if (strcmp(*allowed, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Reads what ptxas says of each kernel: its name, then stack and spills, then registers. */
static void read_usage(struct totals *totals, const struct module *module, const char *arch,
                       char *log)
{
    char kernel[120] = "";
    uint32_t spilled = 0, stack = 0;
    char *rest = NULL;
    for (char *line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *named = strstr(line, "Compiling entry function '");
        if (named) {
            snprintf(kernel, sizeof kernel, "%.*s",
                     (int)strcspn(named + strlen("Compiling entry function '"), "'"),
                     named + strlen("Compiling entry function '"));
        }
        if (strstr(line, "spill stores")) {
            spilled = number_before(line, " bytes spill stores") +
                      number_before(line, " bytes spill loads");
            stack = number_before(line, " bytes stack frame");
        }
        if (!strstr(line, "Used ") || !*kernel) {
            continue;
        }
        uint32_t registers = number_before(line, " registers");
        bool bad = spilled && !spill_allowed(kernel, arch);
        totals->kernels++;
        totals->failures += bad;
        totals->registers_max =
            registers > totals->registers_max ? registers : totals->registers_max;
        if (totals->verbose || spilled) {
            printf("%s%-7s %-12s %-32s %3u registers, %6u bytes shared, %4u stack, %4u spilled\n",
                   bad ? "SPILL " : "", arch, module->name, kernel, registers,
                   number_before(line, " bytes smem"), stack, spilled);
        }
        *kernel = 0;
    }
}

static void check_module(struct gpu_driver *driver, const struct module *module, const char *arch,
                         const char *vendor, struct totals *totals)
{
    static const char *const options[] = {"--ptxas-options=-v"};
    struct buffer text = {0}, binary = {0}, log = {0};
    struct llcuda_error error = {0};
    bool complete = buffer_append_text(&text, module->prelude) && append_file(&text, vendor);
    for (const char *const *file = module->files; complete && *file; file++) {
        complete = append_file(&text, *file);
        if (!complete) {
            printf("FAILED  %s: there is no kernel file %s\n", module->name, *file);
        }
    }
    struct gpu_compile_request request = {.name = module->name,
                                          .source = buffer_view(&text),
                                          .options = options,
                                          .option_count = 1,
                                          .arch = arch};
    if (!complete) {
        totals->failures++;
    } else if (driver->compile(driver, &request, &binary, &log, &error)) {
        printf("FAILED  %s\n%s\n", error.message, buffer_text(&log));
        totals->failures++;
    } else {
        uint32_t before = totals->kernels;
        read_usage(totals, module, arch, log.data);
        if (totals->kernels == before) {
            printf("FAILED  %s for %s: the compiler reports no kernel\n", module->name, arch);
            totals->failures++;
        }
    }
    buffer_deinit(&text);
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

static void check_vendor(struct gpu_driver *driver, const char *const *archs, const char *vendor,
                         struct totals *totals)
{
    for (; *archs; archs++) {
        struct totals one = {.verbose = totals->verbose};
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
            check_module(driver, &modules[i], *archs, vendor, &one);
        }
        printf("%-7s %3u kernels, at most %3u registers, %u failed\n", *archs, one.kernels,
               one.registers_max, one.failures);
        totals->kernels += one.kernels;
        totals->failures += one.failures;
    }
}

int main(int argument_count, char **arguments)
{
    bool one = false;
    struct totals totals = {0};
    struct llcuda_error error = {0};
    struct gpu_driver *driver = NULL;
    struct gpu_device_info info;
    struct gpu_open_options options = {.library_path = getenv("LLCUDA_CUDA_PATH")};
    for (int i = 1; i < argument_count; i++) {
        if (strcmp(arguments[i], "--one") == 0) {
            one = true;
        } else if (strcmp(arguments[i], "--verbose") == 0) {
            totals.verbose = true;
        } else if (strcmp(arguments[i], "--library-path") == 0 && i + 1 < argument_count) {
            options.library_path = arguments[++i];
        } else {
            fprintf(stderr, "usage: check_kernels [--one] [--verbose] [--library-path FOLDERS]\n");
            return 2;
        }
    }
    if (gpu_compiler_open_cuda(&options, &driver, &error)) {
        printf("not compiled for NVIDIA: %s\n", error.message);
        return EXIT_SKIPPED;
    }
    driver->describe(driver, &info);
    printf("NVRTC %u.%u\n", info.compiler_version / 1000, info.compiler_version % 1000 / 10);
    check_vendor(driver, one ? nvidia_one : nvidia_archs, "vendor_nvidia.cuh", &totals);
    driver->close(driver);
    return totals.failures || totals.kernels == 0;
}
