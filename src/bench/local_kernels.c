/* Owns the profile of steps: runs prompts and generations on a device and sets what each operation
 * took beside what the machine allows. One thread. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "bench/local_counters.h"
#include "bench/local_launches.h"
#include "bench/local_measure.h"

#define PROFILE_ROWS_MAX 256u

struct run {
    struct device_model *model;
    const uint32_t *blocks;
    uint32_t *tokens, *positions, *sequences; /* [rows_max] */
    const struct local_options *options;
    struct device_profile_row sampling;
};

/* Chooses a token as an engine would, and keeps what that took: logits are read, and the weight of
 * each is an exponential and a sum. */
static llcuda_status choose_token(struct run *run, const float *logits, struct llcuda_error *error)
{
    uint64_t vocabulary = run->model->plan->vocabulary_size;
    uint64_t began = clock_now_ns();
    llcuda_status status = run->options->choose(run->options->chooser, logits, error);
    run->sampling.ns += clock_now_ns() - began;
    run->sampling.count++;
    run->sampling.bytes += vocabulary * sizeof *logits;
    run->sampling.operations += 2 * vocabulary;
    return status;
}

/* `count` tokens from `position` on, in steps of at most `rows` rows; logits of the last row. */
static llcuda_status run_tokens(struct run *run, uint32_t position, uint32_t count, uint32_t rows,
                                struct llcuda_error *error)
{
    for (uint32_t begin = 0; begin < count; begin += rows) {
        uint32_t n = count - begin < rows ? count - begin : rows;
        local_random_tokens(run->tokens, n, run->model->plan->vocabulary_size, position + begin);
        for (uint32_t i = 0; i < n; i++) {
            run->positions[i] = position + begin + i;
        }
        const uint32_t last = n - 1;
        struct step_batch batch = {
            .row_count = n,
            .tokens = run->tokens,
            .positions = run->positions,
            .sequences = run->sequences,
            .sequence_count = 1,
            .block_tables = run->blocks,
            .block_table_stride = run->model->options.kv_block_count,
            .logits_count = rows == 1 || begin + n == count,
            .logits_rows = &last,
        };
        const float *logits;
        llcuda_status status = device_step(run->model, &batch, &logits, error);
        if (!status && run->options->choose && batch.logits_count > 0) {
            status = choose_token(run, logits, error);
        }
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

struct profile {
    const char *test; /* "pp" or "tg" */
    uint32_t tokens, depth;
    struct device_profile_row rows[PROFILE_ROWS_MAX];
    uint32_t count;
    struct local_launches launches;
    struct local_counters counters;
};

static uint64_t total_ns(const struct profile *profile)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < profile->count; i++) {
        total += profile->rows[i].ns;
    }
    return total;
}

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

static void write_text(const struct profile *profile, const struct device_ceilings *ceilings,
                       struct buffer *out)
{
    uint64_t total = total_ns(profile);
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
    local_counters_text(&profile->counters, out);
}

static void write_json(struct json_writer *writer, const struct profile *profile,
                       const struct device_ceilings *ceilings)
{
    json_begin_object(writer);
    json_key(writer, "test");
    json_write_string(writer, profile->test);
    json_key(writer, "tokens");
    json_write_unsigned(writer, profile->tokens);
    json_key(writer, "depth");
    json_write_unsigned(writer, profile->depth);
    json_key(writer, "ns");
    json_write_unsigned(writer, total_ns(profile));
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
    local_counters_json(&profile->counters, writer);
    json_end_object(writer);
}

/* One prompt or generation after `depth` positions, the best of the repeats. */
static llcuda_status profile_run(struct run *run, const struct local_options *options,
                                 uint32_t rows, struct profile *best, struct llcuda_error *error)
{
    struct profile *profile = malloc(sizeof *profile);
    if (!profile) {
        return error_no_memory(error, "a profile", sizeof *profile);
    }
    *profile = *best;
    best->count = 0;
    llcuda_status status = run_tokens(run, 0, best->depth, run->model->options.rows_max, error);
    for (uint32_t i = 0; !status && i <= options->repeats; i++) {
        struct local_launches *launches = &profile->launches;
        device_profile(run->model, profile->rows, 0);
        run->sampling = (struct device_profile_row){
            .operation = "sampling", .dtype = DTYPE_F32, .has_dtype = true};
        status = run_tokens(run, profile->depth, profile->tokens, rows, error);
        launches->count = device_profile_kernels(run->model, &launches->steps, launches->kernels,
                                                 LAUNCH_KERNELS_MAX);
        profile->count = device_profile(run->model, profile->rows, PROFILE_ROWS_MAX - 1);
        if (!status && profile->count == 0) {
            status = error_set(error, LLCUDA_UNSUPPORTED, "this device keeps no profile");
        }
        if (run->sampling.count) {
            profile->rows[profile->count++] = run->sampling;
        }
        if (!status && (best->count == 0 || total_ns(profile) < total_ns(best))) {
            *best = *profile;
        }
        if (!status && options->proceed &&
            !options->proceed(options->user, i, options->repeats + 1)) {
            status = error_set(error, LLCUDA_CANCELLED, "interrupted");
        }
    }
    free(profile);
    return status;
}

struct work {
    struct run *run;
    uint32_t depth, tokens, rows;
};

static llcuda_status do_work(void *user, struct llcuda_error *error)
{
    const struct work *work = user;
    return run_tokens(work->run, work->depth, work->tokens, work->rows, error);
}

/* The counters of every test of a list, in the order of profile_list. Before any profile: a device
 * that keeps one does more than its steps. */
static llcuda_status count_list(struct run *run, const struct local_options *options,
                                const struct local_list *sizes, uint32_t rows,
                                struct local_counters *counters, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    uint32_t most = options->has_counters ? options->depths.count * sizes->count : 0;
    for (uint32_t i = 0; !status && i < most; i++) {
        uint32_t depth = options->depths.values[i / sizes->count];
        struct work work = {run, depth, sizes->values[i % sizes->count], rows};
        if (work.tokens == 0) {
            continue;
        }
        status = run_tokens(run, 0, depth, run->model->options.rows_max, error);
        if (!status) {
            status =
                local_counters_read(&counters[i], options->counters_device, do_work, &work, error);
        }
    }
    return status;
}

static llcuda_status profile_list(struct run *run, const struct device_ceilings *ceilings,
                                  const struct local_options *options,
                                  const struct local_list *sizes, uint32_t rows, const char *test,
                                  const struct local_counters *counters, struct json_writer *json,
                                  struct buffer *out, struct llcuda_error *error)
{
    struct profile *profile = calloc(1, sizeof *profile);
    if (!profile) {
        return error_no_memory(error, "a profile", sizeof *profile);
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t d = 0; !status && d < options->depths.count; d++) {
        for (uint32_t i = 0; !status && i < sizes->count; i++) {
            profile->test = test;
            profile->tokens = sizes->values[i];
            profile->depth = options->depths.values[d];
            profile->counters = counters[d * sizes->count + i];
            if (profile->tokens == 0) {
                continue;
            }
            status = profile_run(run, options, rows, profile, error);
            if (!status && json) {
                write_json(json, profile, ceilings);
            } else if (!status) {
                write_text(profile, ceilings, out);
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

static llcuda_status profile_all(struct run *run, const struct device_ceilings *ceilings,
                                 const struct local_options *options, struct json_writer *json,
                                 struct buffer *out, struct llcuda_error *error)
{
    enum { TESTS_MAX = LOCAL_LIST_MAX * LOCAL_LIST_MAX };
    uint32_t rows = run->model->options.rows_max;
    struct local_counters *prompts = calloc(2 * TESTS_MAX, sizeof *prompts);
    if (!prompts) {
        return error_no_memory(error, "counters", 2 * TESTS_MAX * sizeof *prompts);
    }
    struct local_counters *generations = prompts + TESTS_MAX;
    llcuda_status status = count_list(run, options, &options->prompts, rows, prompts, error);
    if (!status) {
        status = count_list(run, options, &options->generations, 1, generations, error);
    }
    if (!status) {
        status = profile_list(run, ceilings, options, &options->prompts, rows, "pp", prompts, json,
                              out, error);
    }
    if (!status) {
        status = profile_list(run, ceilings, options, &options->generations, 1, "tg", generations,
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
    uint32_t rows = model->options.rows_max;
    uint32_t *arrays = calloc(rows, 3 * sizeof *arrays);
    if (!arrays) {
        return error_no_memory(error, "a step", rows * 3 * sizeof *arrays);
    }
    struct run run = {model,   blocks, arrays, arrays + rows, arrays + 2 * (uint64_t)rows,
                      options, {0}};
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
    llcuda_status status = profile_all(&run, ceilings, options, target, out, error);
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
    free(arrays);
    return status;
}
