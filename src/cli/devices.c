/* `llcuda devices`: what can compute here, and how fast at best. */
#include "cli/evaluator.h"
#include "cli/gpu_devices.h"
#include "cli/patience.h"
#include "engine/device_open.h"

static void write_json(const struct device_info *info, const struct device_ceilings *ceilings,
                       bool measured, struct json_writer *json)
{
    json_begin_object(json);
    json_key(json, "kind");
    json_write_string(json, info->kind);
    json_key(json, "name");
    json_write_string(json, info->name);
    json_key(json, "threads");
    json_write_unsigned(json, info->thread_count);
    json_key(json, "memory_bytes");
    json_write_unsigned(json, info->memory_bytes);
    json_key(json, "memory_free_bytes");
    json_write_unsigned(json, info->memory_free_bytes);
    if (measured) {
        json_key(json, "read_bytes_per_second");
        json_write_number(json, ceilings->read_bytes_per_second);
        json_key(json, "copy_bytes_per_second");
        json_write_number(json, ceilings->copy_bytes_per_second);
        json_key(json, "flop_per_second");
        json_write_number(json, ceilings->flop_per_second);
        json_key(json, "integer_op_per_second");
        json_write_number(json, ceilings->integer_op_per_second);
    }
    json_end_object(json);
}

static void write_text(const struct device_info *info, const struct device_ceilings *ceilings,
                       bool measured, struct buffer *out)
{
    buffer_printf(out, "%s     %s\n", info->kind, info->name);
    buffer_printf(out, "        memory  %.1f GiB, %.1f GiB free\n",
                  (double)info->memory_bytes / 0x1p30, (double)info->memory_free_bytes / 0x1p30);
    if (measured) {
        buffer_printf(out, "        read    %.1f GB/s\n", ceilings->read_bytes_per_second / 1e9);
        buffer_printf(out, "        copy    %.1f GB/s (read + written)\n",
                      ceilings->copy_bytes_per_second / 1e9);
        buffer_printf(out, "        float   %.0f GFLOP/s\n", ceilings->flop_per_second / 1e9);
        if (ceilings->integer_op_per_second > 0) {
            buffer_printf(out, "        int8    %.0f GOP/s\n",
                          ceilings->integer_op_per_second / 1e9);
        }
    }
}

static llcuda_status list_cpu(const struct device_open_options *cpu, bool measured,
                              struct json_writer *json, struct buffer *out,
                              struct llcuda_error *error)
{
    struct device *device = NULL;
    struct device_info info = {0};
    struct device_ceilings ceilings = {0};
    llcuda_status status = device_open(cpu, &device, error);
    if (!status) {
        device_describe(device, &info);
        status = measured ? device_measure(device, &ceilings, error) : LLCUDA_OK;
    }
    if (!status && json) {
        write_json(&info, &ceilings, measured, json);
    } else if (!status) {
        write_text(&info, &ceilings, measured, out);
    }
    device_close(device);
    return status;
}

int command_devices(struct options *options)
{
    struct llcuda_error error = {0};
    struct device_spec spec;
    struct json_writer writer;
    struct json_writer *json = NULL;
    struct buffer out = {0};
    struct device_open_options cpu = {
        .thread_count = (uint32_t)option_integer(options, OPTION_THREADS, 0),
    };
    bool measured = option_flag(options, OPTION_BENCH);
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    llcuda_status status =
        device_spec_parse(text_view_of(option_text(options, OPTION_DEVICE)), &spec, &error);
    if (!status) {
        status = open_device_name(options, &cpu.name, &error);
    }
    if (status) {
        return console_usage(options->command, "%s", error.message);
    }
    console_end_on_interrupt();
    if (option_flag(options, OPTION_JSON)) {
        json_writer_init(&writer, &out, 2);
        json_begin_array(&writer);
        json = &writer;
    }
    if (spec.kind == DEVICE_AUTO || spec.kind == DEVICE_CPU) {
        cpu.name =
            spec.kind == DEVICE_AUTO && !option_text(options, OPTION_CPU_LEVEL) ? "cpu" : cpu.name;
        status = list_cpu(&cpu, measured, json, &out, &error);
    }
    if (!status) {
        patience_begin(options);
        status = gpu_devices_list(options, &spec, measured, json, &out, &error);
        patience_end();
    }
    if (json) {
        json_end_array(json);
        buffer_append_byte(&out, '\n');
    }
    int result = EXIT_FAILED;
    if (status) {
        console_fail(options, &error);
    } else {
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    buffer_deinit(&out);
    return result;
}
