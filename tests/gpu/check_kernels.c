/* Compiles every kernel for the architectures that are supported, with the vendors' compilers that
 * are on this machine, and reports registers, shared memory and spills: `make check-kernels`. A
 * kernel that does not compile, or that spills and is not listed below, fails the check; so do
 * other architectures than the compiler knows, unless all were asked for.
 *
 * check_kernels [--one] [--module NAME] [--library-path FOLDERS] [--verbose]; exit 77 without any
 * compiler. */
#include "check_modules.h"
#include "gpu/arch.h"
#include "gpu/driver.h"
#include "gpu/kernel_sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_SKIPPED 77

static const char *const nvidia_archs[] = {"sm_75",  "sm_80",  "sm_86", "sm_89",
                                           "sm_90a", "sm_100", NULL};
static const char *const nvidia_one[] = {"sm_90a", NULL};
static const char *const amd_archs[] = {"gfx90a", "gfx1030", NULL};
static const char *const amd_one[] = {"gfx90a", NULL};

/* Kernels that may spill so many bytes a thread, stores and loads together (for AMD: registers),
 * with the reason beside them. Those of linear layers are numbered as in check_modules.c. */
static const struct {
    const char *module, *kernel, *arch; /* arch NULL: any */
    uint32_t bytes;
} spills_allowed[] = {
    /* AMD by hipRTC 5.2, for which no kernel was tuned. Two of our warps share a wavefront of 64,
     * and what is a fragment of 4 registers elsewhere is an array there: heads of 256, and tiles of
     * prompts that are exact, do not fit in 512 (256) registers. The first entries of each GPU are
     * scalar registers, kept in lanes of others. */
    {"elements", "sample_draw", "gfx90a", 46},
    {"experts", "route", "gfx90a", 48},
    {"attention", "attention_decode", "gfx90a", 785},
    {"attention", "attention_decode_fused", "gfx90a", 777},
    {"attention", "attention_prefill", "gfx90a", 1219},
    {"linear_decode", "linear_decode_1", "gfx90a", 6},
    {"linear_decode", "linear_decode_2", "gfx90a", 6},
    {"linear_decode", "linear_decode_4", "gfx90a", 6},
    {"linear_decode", "linear_decode_5", "gfx90a", 6},
    {"linear_decode_group", "linear_decode_2", "gfx90a", 124},
    {"linear_decode", "linear_decode_10", "gfx1030", 2},
    {"linear_decode", "linear_decode_3", "gfx1030", 13},
    {"linear_decode", "linear_decode_6", "gfx1030", 7},
    {"linear_decode", "linear_decode_7", "gfx1030", 7},
    {"linear_decode", "linear_decode_8", "gfx1030", 7},
    {"linear_decode_group", "linear_decode_0", "gfx1030", 7},
    {"linear_decode_group", "linear_decode_1", "gfx1030", 80},
    {"linear_decode_group", "linear_decode_2", "gfx1030", 379},
    {"attention", "attention_decode", "gfx1030", 1140},
    {"attention", "attention_decode_fused", "gfx1030", 1158},
    {"attention", "attention_prefill", "gfx1030", 1454},
    /* Heads of 128: words that a round of the loop reads once. The limit that makes them spill lets
     * two blocks share a multiprocessor, which is worth more. Without asynchronous copies and large
     * products (7.5) there are more of them. */
    {"attention", "attention_decode", "sm_75", 568},
    {"attention", "attention_decode_fused", "sm_75", 572},
    /* Deterministic tiles of heads of 256: sums of 16 rows are 128 registers of 255, their scores
     * of 64 positions 32, and weights relative to a partition's largest score want all of its
     * scores. */
    {"attention", "attention_prefill", "sm_80", 972},
    {"attention", "attention_prefill", "sm_90a", 1020},
    {"attention", "attention_prefill", "sm_100", 484},
    {"attention", "attention_decode_fused", "sm_100", 80},
    {"attention", "attention_decode", NULL, 96},
    {"attention", "attention_decode_fused", NULL, 68},
    /* Blocks of 512 threads have 128 registers each, and all of them are wanted: gate and up beside
     * each other, of two tiles (7) and of four (8), whose bound are the products. */
    {"linear_packed", "linear_decode_7", NULL, 144},
    {"linear_packed", "linear_decode_8", NULL, 144},
    /* Two tiles of five and six bits, two units ahead. */
    {"linear_packed", "linear_decode_1", NULL, 96},
    {"linear_packed", "linear_decode_4", NULL, 136},
    {"linear_packed", "linear_decode_6", NULL, 20},
    /* Four tiles: up to four words, kept for the end of a tile. */
    {"linear_packed", "linear_decode_2", NULL, 96},
    {"linear_packed", "linear_decode_5", NULL, 24},
    /* Compiled for these, the same kernels want more; no such GPU was there to see what it costs.
     */
    {"linear_packed", "linear_decode_7", "sm_80", 360},
    {"linear_packed", "linear_decode_7", "sm_86", 416},
    {"linear_packed", "linear_decode_7", "sm_89", 416},
    {"linear_packed", "linear_decode_8", "sm_80", 664},
    {"linear_packed", "linear_decode_8", "sm_86", 632},
    {"linear_packed", "linear_decode_8", "sm_89", 632},
    {"linear_packed", "linear_decode_5", "sm_100", 48},
    {"linear_decode", "linear_decode_1", "sm_75", 48},
    {"linear_decode", "linear_decode_2", "sm_75", 48},
};

/* A vendor's compiler, and how it tells what kernels use. */
struct vendor {
    const char *words; /* file */
    const char *const *archs;
    const char *option; /* or NULL */
    bool is_amd;
};

struct totals {
    uint32_t kernels, failures, registers_max;
    uint32_t variant; /* of the module that is compiled */
    bool verbose;
    const char *module; /* the only one, or NULL */
};

/* Without the lines that include: as the JIT joins texts. */
static bool append_file(struct buffer *text, const char *name)
{
    const struct kernel_source *source = kernel_source_find(name);
    const char *at = source ? source->text : "";
    while (*at) {
        size_t length = strcspn(at, "\n");
        length += at[length] == '\n';
        if (strncmp(at, "#include", 8) != 0) {
            buffer_append(text, at, length);
        }
        at += length;
    }
    return source && !text->failed;
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

/* By any entry: what an architecture may have stands beside what all may. */
static bool spill_allowed(const char *module, const char *kernel, const char *arch, uint32_t bytes)
{
    for (size_t i = 0; i < sizeof spills_allowed / sizeof *spills_allowed; i++) {
        if (strcmp(spills_allowed[i].module, module) == 0 &&
            strcmp(spills_allowed[i].kernel, kernel) == 0 &&
            (!spills_allowed[i].arch || strcmp(spills_allowed[i].arch, arch) == 0) &&
            bytes <= spills_allowed[i].bytes) {
            return true;
        }
    }
    return false;
}

struct usage {
    char kernel[120];
    uint32_t registers, shared_bytes, stack_bytes, spilled;
};

static void report(struct totals *totals, const struct check_module *module, const char *arch,
                   const struct usage *usage)
{
    bool bad = usage->spilled && !spill_allowed(module->name, usage->kernel, arch, usage->spilled);
    totals->kernels++;
    totals->failures += bad;
    if (usage->registers > totals->registers_max) {
        totals->registers_max = usage->registers;
    }
    if (totals->verbose || usage->spilled) {
        printf("%s%-7s %-13s %2u %-24s %3u registers, %6u bytes shared, %4u stack, %4u spilled\n",
               bad ? "SPILL " : "", arch, module->name, totals->variant, usage->kernel,
               usage->registers, usage->shared_bytes, usage->stack_bytes, usage->spilled);
    }
}

/* Reads what ptxas says of each kernel: its name, then stack and spills, then registers. */
static void read_log(struct totals *totals, const struct check_module *module, const char *arch,
                     char *log)
{
    static const char begins[] = "Compiling entry function '";
    struct usage usage = {0};
    char *rest = NULL;
    for (char *line = log ? strtok_r(log, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *named = strstr(line, begins);
        if (named) {
            named += strlen(begins);
            usage = (struct usage){0};
            snprintf(usage.kernel, sizeof usage.kernel, "%.*s", (int)strcspn(named, "'"), named);
        }
        if (strstr(line, "spill stores")) {
            usage.spilled = number_before(line, " bytes spill stores") +
                            number_before(line, " bytes spill loads");
            usage.stack_bytes = number_before(line, " bytes stack frame");
        }
        if (strstr(line, "Used ") && *usage.kernel) {
            usage.registers = number_before(line, " registers");
            usage.shared_bytes = number_before(line, " bytes smem");
            report(totals, module, arch, &usage);
            usage.kernel[0] = 0;
        }
    }
}

/* The value of a key in the notes of an AMD binary, which are MessagePack: a map of strings and
 * small numbers, keys in alphabetical order. */
static bool note_value(const uint8_t *at, const uint8_t *end, const char *key, uint32_t *number,
                       char *text, size_t text_bytes)
{
    size_t length = strlen(key);
    if ((size_t)(end - at) < length + 6 || memcmp(at, key, length) != 0) {
        return false;
    }
    at += length;
    if (text && (*at & 0xe0) == 0xa0) {
        snprintf(text, text_bytes, "%.*s", *at & 0x1f, (const char *)at + 1);
    } else if (text && *at == 0xd9) {
        snprintf(text, text_bytes, "%.*s", at[1], (const char *)at + 2);
    } else {
        *number = *at < 0x80    ? *at
                  : *at == 0xcc ? at[1]
                  : *at == 0xcd ? (uint32_t)at[1] << 8 | at[2]
                  : *at == 0xce
                      ? (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4]
                      : 0;
    }
    return true;
}

static void read_notes(struct totals *totals, const struct check_module *module, const char *arch,
                       const struct buffer *binary)
{
    struct usage usage = {0};
    uint32_t ignored = 0, spilled = 0;
    const uint8_t *end = (const uint8_t *)binary->data + binary->length;
    for (const uint8_t *at = (const uint8_t *)binary->data; at < end; at++) {
        if (*at != '.') {
            continue;
        }
        if (note_value(at, end, ".name", &ignored, usage.kernel, sizeof usage.kernel)) {
            continue;
        }
        note_value(at, end, ".group_segment_fixed_size", &usage.shared_bytes, NULL, 0);
        note_value(at, end, ".private_segment_fixed_size", &usage.stack_bytes, NULL, 0);
        note_value(at, end, ".sgpr_spill_count", &usage.spilled, NULL, 0);
        note_value(at, end, ".vgpr_count", &usage.registers, NULL, 0);
        if (note_value(at, end, ".vgpr_spill_count", &spilled, NULL, 0) && *usage.kernel) {
            usage.spilled += spilled;
            report(totals, module, arch, &usage);
            usage = (struct usage){0};
        }
    }
}

static void check_module(struct gpu_driver *driver, const struct check_module *module,
                         uint32_t variant, const char *arch, const struct vendor *vendor,
                         struct totals *totals)
{
    struct buffer text = {0}, binary = {0}, log = {0};
    struct llcuda_error error = {0};
    struct gpu_device_info device;
    if (gpu_arch_info(arch, &device, &error) || !module->prelude(&device, variant, &text)) {
        printf("%-7s %s %u: not for this device\n", arch, module->name, variant);
        buffer_deinit(&text);
        return;
    }
    bool complete = append_file(&text, vendor->words);
    for (const char *const *file = module->files; complete && *file; file++) {
        complete = append_file(&text, *file);
        if (!complete) {
            printf("FAILED  %s: there is no kernel file %s\n", module->name, *file);
        }
    }
    struct gpu_compile_request request = {.name = module->name,
                                          .source = buffer_view(&text),
                                          .options = &vendor->option,
                                          .option_count = vendor->option != NULL,
                                          .arch = arch};
    if (!complete) {
        totals->failures++;
    } else if (driver->compile(driver, &request, &binary, &log, &error)) {
        printf("FAILED  %s, variant %u\n%s\n", error.message, variant, buffer_text(&log));
        totals->failures++;
    } else {
        uint32_t before = totals->kernels;
        if (vendor->is_amd) {
            read_notes(totals, module, arch, &binary);
        } else {
            read_log(totals, module, arch, log.data);
        }
        if (totals->kernels == before) {
            printf("FAILED  %s for %s: the compiler reports no kernel\n", module->name, arch);
            totals->failures++;
        }
    }
    buffer_deinit(&text);
    buffer_deinit(&binary);
    buffer_deinit(&log);
}

static void check_vendor(struct gpu_driver *driver, const struct vendor *vendor,
                         struct totals *totals)
{
    struct gpu_device_info info;
    driver->describe(driver, &info);
    printf("%s %u.%u\n", vendor->is_amd ? "hipRTC" : "NVRTC", info.compiler_version / 1000,
           info.compiler_version % 1000 / 10);
    for (const char *const *arch = vendor->archs; *arch; arch++) {
        struct totals one = {.verbose = totals->verbose};
        for (uint32_t i = 0; i < check_module_count; i++) {
            if (totals->module && strcmp(totals->module, check_modules[i].name) != 0) {
                continue;
            }
            for (uint32_t variant = 0; variant < check_modules[i].variant_count; variant++) {
                one.variant = variant;
                check_module(driver, &check_modules[i], variant, *arch, vendor, &one);
            }
        }
        printf("%-7s %3u kernels, at most %3u registers, %u failed\n", *arch, one.kernels,
               one.registers_max, one.failures);
        totals->kernels += one.kernels;
        totals->failures += one.failures;
    }
    driver->close(driver);
}

int main(int argument_count, char **arguments)
{
    bool one = false;
    struct totals totals = {0};
    struct llcuda_error error = {0};
    struct gpu_driver *driver = NULL;
    struct gpu_open_options options = {.library_path = getenv("LLCUDA_CUDA_PATH")};
    for (int i = 1; i < argument_count; i++) {
        if (strcmp(arguments[i], "--one") == 0) {
            one = true;
        } else if (strcmp(arguments[i], "--verbose") == 0) {
            totals.verbose = true;
        } else if (strcmp(arguments[i], "--module") == 0 && i + 1 < argument_count) {
            totals.module = arguments[++i];
        } else if (strcmp(arguments[i], "--library-path") == 0 && i + 1 < argument_count) {
            options.library_path = arguments[++i];
        } else {
            fprintf(stderr, "usage: check_kernels [--one] [--verbose] [--module NAME] "
                            "[--library-path FOLDERS]\n");
            return 2;
        }
    }
    const struct vendor nvidia = {.words = "vendor_nvidia.cuh",
                                  .archs = one ? nvidia_one : nvidia_archs,
                                  .option = "--ptxas-options=-v"};
    const struct vendor amd = {
        .words = "vendor_amd.cuh", .archs = one ? amd_one : amd_archs, .is_amd = true};
    if (gpu_compiler_open_cuda(&options, &driver, &error)) {
        printf("not compiled for NVIDIA: %s\n", error.message);
    } else {
        check_vendor(driver, &nvidia, &totals);
    }
    if (gpu_compiler_open_hip(&options, &driver, &error)) {
        printf("not compiled for AMD: %s\n", error.message);
    } else {
        check_vendor(driver, &amd, &totals);
    }
    if (totals.failures) {
        return 1;
    }
    return totals.kernels ? 0 : EXIT_SKIPPED;
}
