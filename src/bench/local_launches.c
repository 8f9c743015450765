/* Owns the printing of a device's launches: kernels with their place on a multiprocessor, steps as
 * graphs and plainly. Pure functions of what the device said. */
#include "bench/local_launches.h"

#include <math.h>

static double memory_share(const struct device_profile_kernel *row,
                           const struct device_ceilings *ceilings)
{
    return (double)row->bytes / (double)row->ns * 1e9 / ceilings->read_bytes_per_second;
}

static double arithmetic_share(const struct device_profile_kernel *row,
                               const struct device_ceilings *ceilings)
{
    return (double)row->arithmetic_operations / (double)row->ns * 1e9 / ceilings->flop_per_second;
}

static bool has_cost(const struct device_profile_kernel *row)
{
    return row->ns > 0 && (row->bytes > 0 || row->arithmetic_operations > 0);
}

double local_launches_saved(const struct device_profile_steps *steps)
{
    double plain = (double)steps->plain_ns - (double)steps->kernel_ns;
    double graph = (double)steps->graph_ns - (double)steps->kernel_ns;
    return plain > 0 ? 1 - graph / plain : NAN;
}

static double per_step_us(uint64_t ns, const struct device_profile_steps *steps)
{
    return (double)ns / (double)steps->step_count / 1e3;
}

static void steps_text(const struct device_profile_steps *steps, struct buffer *out)
{
    double launches = (double)steps->launches / (double)steps->step_count;
    double fused = (double)steps->plan_operations / (double)steps->launches;
    double saved = local_launches_saved(steps);
    buffer_printf(out,
                  "  a step: %.1f launches, %.1f operations of the plan each; kernels %.1f us, "
                  "launched plainly %.1f us",
                  launches, fused, per_step_us(steps->kernel_ns, steps),
                  per_step_us(steps->plain_ns, steps));
    if (steps->has_graphs) {
        buffer_printf(out, ", as a graph %.1f us", per_step_us(steps->graph_ns, steps));
        if (isfinite(saved)) {
            buffer_printf(out, ": launch overhead %+.1f %%", -100 * saved);
        }
    }
    buffer_append_text(out, "\n  memory:");
    for (uint32_t i = 0; i < steps->memory_count; i++) {
        buffer_printf(out, "%s %s %.1f MiB", i ? "," : "", steps->memory[i].name,
                      (double)steps->memory[i].bytes / 1048576);
    }
    buffer_append_byte(out, '\n');
}

void local_launches_text(const struct local_launches *launches,
                         const struct device_ceilings *ceilings, struct buffer *out)
{
    if (launches->count == 0 || launches->steps.step_count == 0) {
        return;
    }
    buffer_printf(out, "  %-10s %-42s %7s %9s %6s %6s %7s %5s %8s %6s %4s %6s\n", "stage", "kernel",
                  "times", "us each", "read", "flop", "blocks", "regs", "shared", "local", "held",
                  "occup.");
    for (uint32_t i = 0; i < launches->count; i++) {
        const struct device_profile_kernel *row = &launches->kernels[i];
        buffer_printf(out, "  %-10s %-42s %7llu %9.2f", row->operation, row->kernel,
                      (unsigned long long)row->launches,
                      (double)row->ns / (double)row->launches / 1e3);
        if (has_cost(row)) {
            buffer_printf(out, " %5.1f%% %5.1f%%", 100 * memory_share(row, ceilings),
                          100 * arithmetic_share(row, ceilings));
        } else {
            buffer_printf(out, " %6s %6s", "", "");
        }
        if (row->is_known) {
            buffer_printf(out, " %7llu %5u %8u %6u %4u %5.1f%%", (unsigned long long)row->blocks,
                          row->registers, row->shared_bytes, row->local_bytes, row->blocks_resident,
                          100 * row->occupancy);
        }
        buffer_append_byte(out, '\n');
    }
    steps_text(&launches->steps, out);
}

static void write_unsigned(struct json_writer *writer, const char *key, uint64_t value)
{
    json_key(writer, key);
    json_write_unsigned(writer, value);
}

static void kernel_json(const struct device_profile_kernel *row,
                        const struct device_ceilings *ceilings, struct json_writer *writer)
{
    json_begin_object(writer);
    json_key(writer, "kernel");
    json_write_string(writer, row->kernel);
    json_key(writer, "operation");
    json_write_string(writer, row->operation);
    if (row->has_dtype) {
        json_key(writer, "type");
        json_write_string(writer, dtype_info(row->dtype)->name);
    }
    write_unsigned(writer, "launches", row->launches);
    write_unsigned(writer, "ns", row->ns);
    if (has_cost(row)) {
        write_unsigned(writer, "bytes", row->bytes);
        write_unsigned(writer, "arithmetic_operations", row->arithmetic_operations);
        json_key(writer, "memory_share");
        json_write_number(writer, memory_share(row, ceilings));
        json_key(writer, "arithmetic_share");
        json_write_number(writer, arithmetic_share(row, ceilings));
    }
    if (row->is_known) {
        write_unsigned(writer, "threads", row->threads);
        write_unsigned(writer, "blocks", row->blocks);
        write_unsigned(writer, "registers", row->registers);
        write_unsigned(writer, "local_bytes", row->local_bytes);
        write_unsigned(writer, "shared_bytes", row->shared_bytes);
        write_unsigned(writer, "blocks_resident", row->blocks_resident);
        json_key(writer, "occupancy");
        json_write_number(writer, row->occupancy);
    }
    json_end_object(writer);
}

static void steps_json(const struct device_profile_steps *steps, struct json_writer *writer)
{
    double saved = local_launches_saved(steps);
    json_begin_object(writer);
    write_unsigned(writer, "count", steps->step_count);
    write_unsigned(writer, "launches", steps->launches);
    write_unsigned(writer, "plan_operations", steps->plan_operations);
    write_unsigned(writer, "kernel_ns", steps->kernel_ns);
    write_unsigned(writer, "plain_ns", steps->plain_ns);
    if (steps->has_graphs) {
        write_unsigned(writer, "graph_ns", steps->graph_ns);
        write_unsigned(writer, "graph_submit_ns", steps->graph_submit_ns);
        write_unsigned(writer, "plain_submit_ns", steps->plain_submit_ns);
    }
    if (steps->has_graphs && isfinite(saved)) {
        json_key(writer, "launch_overhead_saved");
        json_write_number(writer, saved);
    }
    json_key(writer, "memory_bytes");
    json_begin_object(writer);
    for (uint32_t i = 0; i < steps->memory_count; i++) {
        write_unsigned(writer, steps->memory[i].name, steps->memory[i].bytes);
    }
    json_end_object(writer);
    json_end_object(writer);
}

void local_launches_json(const struct local_launches *launches,
                         const struct device_ceilings *ceilings, struct json_writer *writer)
{
    if (launches->count == 0 || launches->steps.step_count == 0) {
        return;
    }
    json_key(writer, "kernels");
    json_begin_array(writer);
    for (uint32_t i = 0; i < launches->count; i++) {
        kernel_json(&launches->kernels[i], ceilings, writer);
    }
    json_end_array(writer);
    json_key(writer, "steps");
    steps_json(&launches->steps, writer);
}
