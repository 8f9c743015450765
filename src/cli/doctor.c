/* `llcuda doctor`: looks for trouble and says what to do about it. */
#include <stdio.h>
#include <stdlib.h>

#include "build_config.h"
#include "cli/evaluator.h"
#include "cli/gpu_devices.h"
#include "cli/patience.h"
#include "cpu/cpu.h"

enum verdict { GOOD, NOTE, BAD };

struct report {
    struct json_writer *json; /* NULL: text to `out` */
    struct buffer *out;
    uint32_t bad;
};

static void say(struct report *report, enum verdict verdict, const char *what, const char *detail)
{
    static const char *const words[] = {"ok", "note", "bad"};
    report->bad += verdict == BAD;
    if (!report->json) {
        buffer_printf(report->out, "%-5s %-16s %s\n", words[verdict], what, detail);
        return;
    }
    json_begin_object(report->json);
    json_key(report->json, "check");
    json_write_string(report->json, what);
    json_key(report->json, "verdict");
    json_write_string(report->json, words[verdict]);
    json_key(report->json, "detail");
    json_write_string(report->json, detail);
    json_end_object(report->json);
}

static void check_build(struct report *report)
{
    struct buffer missing = {0};
    buffer_append_text(&missing, LLCUDA_HAVE_PCRE2 ? "" : " PCRE2 (unknown tokeniser patterns)");
    buffer_append_text(&missing, LLCUDA_HAVE_UTF8PROC ? "" : " utf8proc (Unicode normalisation)");
    buffer_append_text(&missing, LLCUDA_HAVE_EDIT ? "" : " libedit (line editing in chat)");
    buffer_append_text(&missing, LLCUDA_HAVE_YAML ? "" : " libyaml (--config files)");
    if (missing.length) {
        struct buffer detail = {0};
        buffer_printf(&detail, "llcuda " LLCUDA_VERSION ", a minimal build without%s",
                      buffer_text(&missing));
        say(report, NOTE, "build", buffer_text(&detail));
        buffer_deinit(&detail);
    } else {
        say(report, GOOD, "build", "llcuda " LLCUDA_VERSION ", with all optional libraries");
    }
    buffer_deinit(&missing);
}

static void check_cpu(struct report *report)
{
    struct cpu_options options = {.level_max = CPU_LEVEL_COUNT};
    struct device *device = NULL;
    struct device_info info;
    struct llcuda_error error;
    if (cpu_device_open(&options, &device, &error)) {
        say(report, BAD, "cpu", error.message);
        return;
    }
    device_describe(device, &info);
    if (cpu_level_detect() == CPU_SCALAR) {
        char detail[256];
        snprintf(detail, sizeof detail, "%s: no AVX2, so everything will be slow", info.name);
        say(report, NOTE, "cpu", detail);
    } else {
        say(report, GOOD, "cpu", info.name);
    }
    device_close(device);
}

/* A GPU with what computing on it needs; the driver's own sentences say what to do. */
static void check_gpu_device(struct report *report, const struct options *options,
                             enum device_kind kind, uint32_t index)
{
    char what[32];
    struct gpu_driver *driver = NULL;
    struct gpu_device_info info;
    struct llcuda_error error = {0};
    struct buffer detail = {0};
    snprintf(what, sizeof what, "%s:%u", device_kind_name(kind), index);
    patience_expect(what, "open", PATIENCE_ASK_MS);
    llcuda_status status = gpu_device_open_kind(options, kind, index, &driver, &error);
    patience_expect(NULL, NULL, 0);
    if (status) {
        say(report, BAD, what, error.message);
        return;
    }
    driver->describe(driver, &info);
    buffer_printf(&detail, "%s, %s, driver for %u.%u", info.name, info.arch,
                  info.driver_version / 1000, info.driver_version % 1000 / 10);
    if (info.compiler_version) {
        buffer_printf(&detail, ", compiler %u.%u%s", info.compiler_version / 1000,
                      info.compiler_version % 1000 / 10,
                      driver->matmul_create ? "" : ", without the vendor's matrix library");
        say(report, GOOD, what, buffer_text(&detail));
    } else {
        struct gpu_compile_request request = {.name = "nothing", .source = text_view_of("")};
        struct buffer binary = {0}, log = {0};
        driver->compile(driver, &request, &binary, &log, &error);
        buffer_printf(&detail, "; %s", error.message);
        say(report, NOTE, what, buffer_text(&detail));
        buffer_deinit(&binary);
        buffer_deinit(&log);
    }
    buffer_deinit(&detail);
    patience_expect(what, "close", PATIENCE_ASK_MS);
    driver->close(driver);
    patience_expect(NULL, NULL, 0);
}

static void check_gpu(struct report *report, const struct options *options)
{
    static const enum device_kind kinds[] = {DEVICE_CUDA, DEVICE_HIP};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct llcuda_error error = {0};
        uint32_t count = 0;
        llcuda_status status = gpu_devices_count(options, kinds[i], &count, &error);
        if (status) {
            /* Without a driver the machine has no GPU of this vendor; that is no fault. */
            say(report, status == LLCUDA_DEVICE ? BAD : NOTE, device_kind_name(kinds[i]),
                error.message);
        }
        for (uint32_t index = 0; !status && index < count; index++) {
            check_gpu_device(report, options, kinds[i], index);
        }
    }
}

static void check_model(struct report *report)
{
    static const char question[] = "What is 2+2?";
    struct llcuda_error error = {0};
    struct buffer text = {0};
    llcuda_engine_options options;
    llcuda_request_options request_options;
    llcuda_engine *engine = NULL;
    llcuda_request *request = NULL;
    const llcuda_event *done = NULL;
    struct request_sink sink = {.text = &text};
    llcuda_engine_options_init(&options, sizeof options);
    options.builtin_model = builtin_model_data();
    options.builtin_model_bytes = builtin_model_bytes();
    options.context_length = 128;
    llcuda_status status = llcuda_engine_open(&options, &engine, &error);
    if (!status) {
        llcuda_request_options_init(&request_options, sizeof request_options);
        request_options.prompt = question;
        request_options.prompt_bytes = sizeof question - 1;
        request_options.max_tokens = 8;
        status = llcuda_submit(engine, &request_options, &request, &error);
    }
    if (!status) {
        status = run_request(request, &sink, &done, &error);
    }
    if (status) {
        say(report, BAD, "built-in model", error.message);
    } else if (!strstr(buffer_text(&text), "4")) {
        say(report, BAD, "built-in model", "answers \"What is 2+2?\" without a 4: a wrong build?");
    } else {
        say(report, GOOD, "built-in model", "answers \"What is 2+2?\" with 4");
    }
    llcuda_request_release(request);
    llcuda_engine_close(engine);
    buffer_deinit(&text);
}

int command_doctor(struct options *options)
{
    struct buffer out = {0};
    struct json_writer writer;
    struct report report = {.out = &out};
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    console_end_on_interrupt();
    if (option_flag(options, OPTION_JSON)) {
        json_writer_init(&writer, &out, 2);
        json_begin_array(&writer);
        report.json = &writer;
    }
    check_build(&report);
    check_cpu(&report);
    patience_begin(options);
    check_gpu(&report, options);
    patience_end();
    check_model(&report);
    if (report.json) {
        json_end_array(&writer);
        buffer_append_byte(&out, '\n');
    }
    bool written = console_write_buffer(&out);
    buffer_deinit(&out);
    return written && report.bad == 0 ? EXIT_DONE : EXIT_FAILED;
}
