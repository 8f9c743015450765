/* Owns the tables of a profile: what each operation of prompts and generations took, beside what
 * the machine allows. One thread. */
#include <stdlib.h>

#include "base/json.h"
#include "bench/local_counters.h"
#include "bench/local_profile.h"

/* The rate as a share of its ceiling; integer products are held against the integer ceiling. */
static double arithmetic_share(const struct device_profile_row *row,
                               const struct device_ceilings *ceilings)
{
    double ceiling = row->is_integer && ceilings->integer_op_per_second > 0
                         ? ceilings->integer_op_per_second
                         : ceilings->flop_per_second;
    return (double)row->operations / (double)row->ns * 1e9 / ceiling;
}

static double memory_share(const struct device_profile_row *row,
                           const struct device_ceilings *ceilings)
{
    return (double)row->bytes / (double)row->ns * 1e9 / ceilings->read_bytes_per_second;
}

static void write_text(const struct local_profile *profile, const struct device_ceilings *ceilings,
                       const struct local_counters *counters, struct buffer *out)
{
    uint64_t total = local_profile_total_ns(profile);
    double all_ms = (double)total / 1e6;
    buffer_printf(out, "%s%u at depth %u: %.2f ms, %.2f tok/s\n", profile->test, profile->tokens,
                  profile->depth, all_ms, profile->tokens / all_ms * 1000);
    buffer_printf(out, "  %-14s %-8s %8s %10s %6s %8s %6s %9s %6s\n", "operation", "type", "times",
                  "ms", "%", "GB/s", "of", "GOP/s", "of");
    for (uint32_t i = 0; i < profile->count; i++) {
        const struct device_profile_row *row = &profile->rows[i];
        buffer_printf(out, "  %-14s %-8s %8llu %10.3f %5.1f%%", row->operation,
                      row->has_dtype ? dtype_info(row->dtype)->name : "",
                      (unsigned long long)row->count, (double)row->ns / 1e6,
                      100 * (double)row->ns / (double)total);
        if (row->operations) {
            buffer_printf(out, " %8.2f %5.1f%% %9.1f %5.1f%%", (double)row->bytes / (double)row->ns,
                          100 * memory_share(row, ceilings),
                          (double)row->operations / (double)row->ns,
                          100 * arithmetic_share(row, ceilings));
        }
        buffer_append_byte(out, '\n');
    }
    local_launches_text(&profile->launches, ceilings, out);
    local_counters_text(counters, out);
}

static void write_json(struct json_writer *writer, const struct local_profile *profile,
                       const struct device_ceilings *ceilings,
                       const struct local_counters *counters)
{
    json_begin_object(writer);
    json_key(writer, "test");
    json_write_string(writer, profile->test);
    json_key(writer, "tokens");
    json_write_unsigned(writer, profile->tokens);
    json_key(writer, "depth");
    json_write_unsigned(writer, profile->depth);
    json_key(writer, "ns");
    json_write_unsigned(writer, local_profile_total_ns(profile));
    json_key(writer, "operations");
    json_begin_array(writer);
    for (uint32_t i = 0; i < profile->count; i++) {
        const struct device_profile_row *row = &profile->rows[i];
        json_begin_object(writer);
        json_key(writer, "operation");
        json_write_string(writer, row->operation);
        if (row->has_dtype) {
            json_key(writer, "type");
            json_write_string(writer, dtype_info(row->dtype)->name);
        }
        json_key(writer, "times");
        json_write_unsigned(writer, row->count);
        json_key(writer, "ns");
        json_write_unsigned(writer, row->ns);
        if (row->operations) {
            json_key(writer, "bytes");
            json_write_unsigned(writer, row->bytes);
            json_key(writer, "arithmetic_operations");
            json_write_unsigned(writer, row->operations);
            json_key(writer, "memory_share");
            json_write_number(writer, memory_share(row, ceilings));
            json_key(writer, "arithmetic_share");
            json_write_number(writer, arithmetic_share(row, ceilings));
        }
        json_end_object(writer);
    }
    json_end_array(writer);
    local_launches_json(&profile->launches, ceilings, writer);
    local_counters_json(counters, writer);
    json_end_object(writer);
}

struct work {
    struct local_steps *steps;
    uint32_t depth, tokens, rows;
};

static llcuda_status do_work(void *user, struct llcuda_error *error)
{
    const struct work *work = user;
    return local_steps_run(work->steps, work->depth, work->tokens, work->rows, error);
}

/* The counters of every test of a list, in the order of profile_list. Before any profile: a device
 * that keeps one does more than its steps. */
static llcuda_status count_list(struct local_steps *steps, const struct local_options *options,
                                const struct local_list *sizes, uint32_t rows,
                                struct local_counters *counters, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    uint32_t most = options->has_counters ? options->depths.count * sizes->count : 0;
    for (uint32_t i = 0; !status && i < most; i++) {
        uint32_t depth = options->depths.values[i / sizes->count];
        struct work work = {steps, depth, sizes->values[i % sizes->count], rows};
        if (work.tokens == 0) {
            continue;
        }
        status = local_steps_run(steps, 0, depth, steps->model->options.rows_max, error);
        if (!status) {
            status =
                local_counters_read(&counters[i], options->counters_device, do_work, &work, error);
        }
    }
    return status;
}

static llcuda_status profile_list(struct local_steps *steps, const struct device_ceilings *ceilings,
                                  const struct local_options *options,
                                  const struct local_list *sizes, uint32_t rows, const char *test,
                                  const struct local_counters *counters, struct json_writer *json,
                                  struct buffer *out, struct llcuda_error *error)
{
    struct local_profile *profile = calloc(1, sizeof *profile);
    if (!profile) {
        return error_no_memory(error, "a profile", sizeof *profile);
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t d = 0; !status && d < options->depths.count; d++) {
        for (uint32_t i = 0; !status && i < sizes->count; i++) {
            profile->test = test;
            profile->tokens = sizes->values[i];
            profile->depth = options->depths.values[d];
            if (profile->tokens == 0) {
                continue;
            }
            status = local_profile_run(steps, rows, profile, error);
            if (!status && json) {
                write_json(json, profile, ceilings, &counters[d * sizes->count + i]);
            } else if (!status) {
                write_text(profile, ceilings, &counters[d * sizes->count + i], out);
            }
        }
    }
    free(profile);
    return status;
}

static void write_ceilings(struct json_writer *writer, const struct device_ceilings *ceilings)
{
    json_key(writer, "read_bytes_per_second");
    json_write_number(writer, ceilings->read_bytes_per_second);
    json_key(writer, "flop_per_second");
    json_write_number(writer, ceilings->flop_per_second);
    json_key(writer, "integer_op_per_second");
    json_write_number(writer, ceilings->integer_op_per_second);
}

static llcuda_status profile_all(struct local_steps *steps, const struct device_ceilings *ceilings,
                                 const struct local_options *options, struct json_writer *json,
                                 struct buffer *out, struct llcuda_error *error)
{
    enum { TESTS_MAX = LOCAL_LIST_MAX * LOCAL_LIST_MAX };
    uint32_t rows = steps->model->options.rows_max;
    struct local_counters *prompts = calloc(2 * TESTS_MAX, sizeof *prompts);
    if (!prompts) {
        return error_no_memory(error, "counters", 2 * TESTS_MAX * sizeof *prompts);
    }
    struct local_counters *generations = prompts + TESTS_MAX;
    llcuda_status status = count_list(steps, options, &options->prompts, rows, prompts, error);
    if (!status) {
        status = count_list(steps, options, &options->generations, 1, generations, error);
    }
    if (!status) {
        status = profile_list(steps, ceilings, options, &options->prompts, rows, "pp", prompts,
                              json, out, error);
    }
    if (!status) {
        status = profile_list(steps, ceilings, options, &options->generations, 1, "tg", generations,
                              json, out, error);
    }
    free(prompts);
    return status;
}

/* Once to warm up, then the best repeat: the work of the host alone, before any step. */
static llcuda_status time_tokenizing(const struct local_options *options, struct json_writer *json,
                                     struct buffer *out, struct llcuda_error *error)
{
    struct local_text best = {0};
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; !status && options->tokenize && i <= options->repeats; i++) {
        struct local_text text;
        status = options->tokenize(options->tokenizer, &text, error);
        /* Nanoseconds a token: texts differ a little in length. */
        bool better = best.tokens == 0 || text.ns * best.tokens < best.ns * text.tokens;
        best = !status && i > 0 && better ? text : best;
    }
    if (status || best.tokens == 0) {
        return status;
    }
    if (json) {
        const struct {
            const char *key;
            uint64_t value;
        } rows[] = {{"bytes", best.bytes}, {"tokens", best.tokens}, {"ns", best.ns}};
        json_key(json, "tokenizing");
        json_begin_object(json);
        for (size_t i = 0; i < 3; i++) {
            json_key(json, rows[i].key);
            json_write_unsigned(json, rows[i].value);
        }
        json_end_object(json);
    } else {
        buffer_printf(out, "tokenizing: %.1f MB/s, %.2f million tokens/s\n",
                      (double)best.bytes * 1e3 / (double)best.ns,
                      (double)best.tokens * 1e3 / (double)best.ns);
    }
    return status;
}

llcuda_status local_kernels(struct device_model *model, const uint32_t *blocks,
                            const struct device_ceilings *ceilings,
                            const struct local_options *options, bool json, struct buffer *out,
                            struct llcuda_error *error)
{
    struct local_steps steps;
    llcuda_status status = local_steps_init(&steps, model, blocks, options, error);
    if (status) {
        return status;
    }
    struct json_writer writer;
    struct json_writer *target = json ? &writer : NULL;
    if (json) {
        json_writer_init(&writer, out, 2);
        json_begin_object(&writer);
        write_ceilings(&writer, ceilings);
        json_key(&writer, "profiles");
        json_begin_array(&writer);
    } else {
        buffer_printf(out, "ceilings: read %.1f GB/s, float %.0f GFLOP/s, int8 %.0f GOP/s\n",
                      ceilings->read_bytes_per_second / 1e9, ceilings->flop_per_second / 1e9,
                      ceilings->integer_op_per_second / 1e9);
    }
    status = profile_all(&steps, ceilings, options, target, out, error);
    if (json) {
        json_end_array(&writer);
    }
    if (!status) {
        status = time_tokenizing(options, target, out, error);
    }
    if (json) {
        json_end_object(&writer);
        buffer_append_byte(out, '\n');
    }
    local_steps_deinit(&steps);
    return status;
}
