/* `llcuda devices`: what can compute here, and how fast at best. */
#include "cli/evaluator.h"

static void write_json(const struct device_info *info, const struct device_ceilings *ceilings,
                       bool measured, struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_key(&writer, "kind");
    json_write_string(&writer, info->kind);
    json_key(&writer, "name");
    json_write_string(&writer, info->name);
    json_key(&writer, "threads");
    json_write_unsigned(&writer, info->thread_count);
    json_key(&writer, "memory_bytes");
    json_write_unsigned(&writer, info->memory_bytes);
    json_key(&writer, "memory_free_bytes");
    json_write_unsigned(&writer, info->memory_free_bytes);
    if (measured) {
        json_key(&writer, "read_bytes_per_second");
        json_write_number(&writer, ceilings->read_bytes_per_second);
        json_key(&writer, "copy_bytes_per_second");
        json_write_number(&writer, ceilings->copy_bytes_per_second);
        json_key(&writer, "flop_per_second");
        json_write_number(&writer, ceilings->flop_per_second);
        json_key(&writer, "integer_op_per_second");
        json_write_number(&writer, ceilings->integer_op_per_second);
    }
    json_end_object(&writer);
    json_end_array(&writer);
    buffer_append_byte(out, '\n');
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

int command_devices(struct options *options)
{
    struct llcuda_error error = {0};
    struct device *device = NULL;
    struct device_info info = {0};
    struct device_ceilings ceilings = {0};
    bool measured = option_flag(options, OPTION_BENCH);
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    llcuda_status status = evaluator_open_device(options, &device, &error);
    if (status == LLCUDA_INVALID_ARGUMENT) {
        return console_usage(options->command, "%s", error.message);
    }
    if (!status) {
        device_describe(device, &info);
        status = measured ? device_measure(device, &ceilings, &error) : LLCUDA_OK;
    }
    int result = EXIT_FAILED;
    if (status) {
        console_fail(options, &error);
    } else {
        struct buffer out = {0};
        if (option_flag(options, OPTION_JSON)) {
            write_json(&info, &ceilings, measured, &out);
        } else {
            write_text(&info, &ceilings, measured, &out);
        }
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
        buffer_deinit(&out);
    }
    device_close(device);
    return result;
}
