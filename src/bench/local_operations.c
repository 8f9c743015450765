/* Owns the translation of a device's profile into operations that engines share. A device that
 * launches kernels tells more by them than by its stages, so they are translated there. One thread.
 * It must not know how a profile is taken. */
#include "bench/local_operations.h"

#include <stdlib.h>

#include "bench/local_profile.h"
#include "bench/operations.h"

#define BIT(id) (1u << OPERATION_##id)

struct translation {
    const char *name; /* of a profile's row; of a kernel the beginning */
    enum operation operation;
    uint32_t with;
};

/* Rows of device_profile. */
static const struct translation stages[] = {
    {"angles", OPERATION_ROTARY, 0},
    {"embed", OPERATION_EMBED, 0},
    {"norm", OPERATION_NORM, 0},
    {"activations", OPERATION_PREPARE, 0},
    {"qkv", OPERATION_QKV, 0},
    {"rotary, cache", OPERATION_ROTARY, BIT(CACHE)},
    {"attention", OPERATION_ATTENTION, 0},
    {"project", OPERATION_OUTPUT, 0},
    {"gate, up", OPERATION_GATE_UP, BIT(ACTIVATION)},
    {"down", OPERATION_DOWN, 0},
    {"router", OPERATION_ROUTER, 0},
    {"experts", OPERATION_EXPERTS, BIT(ACTIVATION)},
    {"logits", OPERATION_LOGITS, 0},
    {"sampling", OPERATION_SAMPLING, 0},
    {"choose", OPERATION_SAMPLING, 0},
    {"sample", OPERATION_SAMPLING, 0},
};

/* Kernels whose work is not their stage's. */
static const struct translation kernels[] = {
    {"norm_", OPERATION_NORM, 0},
    {"activate", OPERATION_ACTIVATION, 0},
    {"dequantize", OPERATION_PREPARE, 0},
    {"gather_rows", OPERATION_OTHER, 0},
    {"qkv_finish", OPERATION_ROTARY, BIT(CACHE)},
    {"attention_decode_fused", OPERATION_ATTENTION, BIT(ROTARY) | BIT(CACHE)},
};

static struct translation find_stage(const char *name)
{
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        if (strcmp(stages[i].name, name) == 0) {
            return stages[i];
        }
    }
    return (struct translation){name, OPERATION_OTHER, 0};
}

/* Whether the step activates in a kernel of its own, and not where it multiplies. */
static bool activates_apart(const struct local_launches *launches)
{
    for (uint32_t i = 0; i < launches->count; i++) {
        if (strcmp(launches->kernels[i].kernel, "activate") == 0) {
            return true;
        }
    }
    return false;
}

/* A product for few rows says by its name that it norms them. Experts are timed as one. */
static struct translation find_kernel(const struct local_launches *launches,
                                      const struct device_profile_kernel *kernel)
{
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (strncmp(kernels[i].name, kernel->kernel, strlen(kernels[i].name)) == 0) {
            return kernels[i];
        }
    }
    struct translation found = find_stage(kernel->operation);
    if (found.operation == OPERATION_GATE_UP && activates_apart(launches)) {
        found.with = 0;
    }
    if (found.operation == OPERATION_EXPERTS) {
        found.with |= BIT(NORM) | BIT(ROUTER);
    }
    found.with |= strstr(kernel->kernel, "_norm") ? BIT(NORM) : 0;
    return found;
}

static void add(struct operation_time *operations, struct translation found, uint64_t ns,
                uint64_t times)
{
    struct operation_time *operation = &operations[found.operation];
    operation->told = true;
    operation->ns += (double)ns;
    operation->times += (double)times;
    operation->with |= found.with;
}

/* Into `operations`; returns the time of the whole. Steps that launch kernels are told as they run
 * when nobody profiles them, since timing them takes longer than they do. */
static double translate(const struct local_profile *profile, struct operation_time *operations)
{
    const struct local_launches *launches = &profile->launches;
    uint64_t host_ns = 0;
    for (uint32_t i = 0; i < profile->count; i++) {
        const struct device_profile_row *row = &profile->rows[i];
        bool of_host = strcmp(row->operation, "sampling") == 0;
        host_ns += of_host ? row->ns : 0;
        if (!launches->count || of_host) {
            add(operations, find_stage(row->operation), row->ns, row->count);
        }
    }
    for (uint32_t i = 0; i < launches->count; i++) {
        const struct device_profile_kernel *kernel = &launches->kernels[i];
        add(operations, find_kernel(launches, kernel), kernel->ns, kernel->launches);
    }
    return (double)(launches->count ? launches->steps.graph_ns + host_ns : profile->wall_ns);
}

static void write_operation(struct json_writer *json, enum operation which,
                            const struct operation_time *operation)
{
    json_begin_object(json);
    json_key(json, "operation");
    json_write_string(json, operation_words[which].name);
    json_key(json, "ns");
    json_write_number(json, operation->ns);
    json_key(json, "times");
    json_write_number(json, operation->times);
    if (operation->with) {
        json_key(json, "with");
        operations_write_words(json, operation->with);
    }
    json_end_object(json);
}

static void write_test(struct json_writer *json, const struct local_test *test,
                       const struct local_profile *profile)
{
    struct operation_time operations[OPERATION_COUNT] = {0};
    double ns = translate(profile, operations);
    double sum = 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        sum += operations[o].ns;
    }
    json_begin_object(json);
    json_key(json, "name");
    json_write_text(json, test->name);
    json_key(json, "tokens");
    json_write_unsigned(json, test->tokens);
    json_key(json, "ns"); /* kernels one by one may take longer than in a row */
    json_write_number(json, ns > sum ? ns : sum);
    json_key(json, "operations");
    json_begin_array(json);
    for (int o = 0; o < OPERATION_COUNT; o++) {
        if (operations[o].told) {
            write_operation(json, (enum operation)o, &operations[o]);
        }
    }
    json_end_array(json);
    json_end_object(json);
}

static bool read_count(const struct json_value *object, const char *key, uint32_t *out)
{
    int64_t value = 0;
    bool fine =
        !json_member(object, key) || json_integer(json_member(object, key), 0, 1 << 24, &value);
    *out = (uint32_t)value;
    return fine;
}

llcuda_status local_tests_read(const struct json_value *request, struct local_tests *tests,
                               struct llcuda_error *error)
{
    *tests = (struct local_tests){0};
    JSON_EACH(item, json_member(request, "tests"))
    {
        uint32_t prompt;
        uint32_t generate;
        struct local_test *test = &tests->tests[tests->count];
        bool fine = tests->count < LOCAL_TESTS_MAX;
        fine = fine && read_count(item, "prompt_tokens", &prompt) &&
               read_count(item, "generate", &generate) && read_count(item, "depth", &test->depth);
        if (!fine || (prompt == 0) == (generate == 0)) {
            return error_set(error, LLCUDA_BAD_FORMAT,
                             "a test is a number of 'prompt_tokens' or one of 'generate'");
        }
        test->name = json_text(json_member(item, "name"));
        test->is_prompt = prompt > 0;
        test->tokens = prompt + generate;
        uint32_t positions = test->depth + test->tokens;
        tests->positions = positions > tests->positions ? positions : tests->positions;
        tests->count++;
    }
    return tests->count ? LLCUDA_OK
                        : error_set(error, LLCUDA_BAD_FORMAT, "there are no 'tests' to profile");
}

llcuda_status local_operations(struct device_model *model, const uint32_t *blocks,
                               const struct local_options *options, const struct local_tests *tests,
                               struct json_writer *json, struct llcuda_error *error)
{
    struct local_steps steps = {0};
    struct local_profile *profile = calloc(1, sizeof *profile);
    llcuda_status status = profile ? local_steps_init(&steps, model, blocks, options, error)
                                   : error_no_memory(error, "a profile", sizeof *profile);
    json_begin_array(json);
    for (uint32_t i = 0; !status && i < tests->count; i++) {
        const struct local_test *test = &tests->tests[i];
        profile->tokens = test->tokens;
        profile->depth = test->depth;
        status = local_profile_run(&steps, test->is_prompt ? model->options.rows_max : 1, profile,
                                   error);
        if (!status) {
            write_test(json, test, profile);
        }
    }
    json_end_array(json);
    local_steps_deinit(&steps);
    free(profile);
    return status;
}
