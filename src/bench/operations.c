/* Owns the vocabulary of operations, and the reading of what adapters say in it. Answers come from
 * outside: every member is checked, and what cannot be is refused with a sentence. Pure functions.
 */
#include "bench/operations.h"

#include <math.h>
#include <stdio.h>

#define COUNT_MAX 1e18 /* of nanoseconds thirty years: sums stay finite */

const struct operation_word operation_words[OPERATION_COUNT] = {
#define OPERATION_ROW(id, name, product, meaning) {name, product, meaning},
    OPERATION_LIST(OPERATION_ROW)
#undef OPERATION_ROW
};

static const char *const test_names[OPERATION_TEST_COUNT] = {"prompt", "generate"};

enum operation operation_find(struct text_view name)
{
    for (int i = 0; i < OPERATION_COUNT; i++) {
        if (text_view_is(name, operation_words[i].name)) {
            return (enum operation)i;
        }
    }
    return OPERATION_OTHER;
}

void operations_write_words(struct json_writer *writer, uint32_t operations)
{
    json_begin_array(writer);
    for (int o = 0; o < OPERATION_COUNT; o++) {
        if (operations & 1u << o) {
            json_write_string(writer, operation_words[o].name);
        }
    }
    json_end_array(writer);
}

const char *operation_test_name(enum operation_test test)
{
    return test_names[test];
}

uint32_t operation_test_tokens(const struct config_analysis *analysis, enum operation_test test)
{
    return test == OPERATION_PROMPT ? analysis->profile_prompt : analysis->profile_generate;
}

void operations_title(uint32_t operations, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = 0;
    for (int o = 0; o < OPERATION_COUNT && used < bytes; o++) {
        if (operations & 1u << o) {
            int length = snprintf(out + used, bytes - used, "%s%s", used ? " + " : "",
                                  operation_words[o].name);
            used += length > 0 ? (size_t)length : 0;
        }
    }
}

void operation_test_title(const struct config_analysis *analysis, enum operation_test test,
                          char *out, size_t bytes)
{
    if (test == OPERATION_PROMPT) {
        snprintf(out, bytes, "a prompt of %u tokens", analysis->profile_prompt);
    } else {
        snprintf(out, bytes, "a generated token after %u positions (of %u)",
                 analysis->profile_depth, analysis->profile_generate);
    }
}

void operations_request(const struct config_analysis *analysis, struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 0);
    json_begin_object(&writer);
    json_key(&writer, "op");
    json_write_string(&writer, "profile");
    json_key(&writer, "tests");
    json_begin_array(&writer);
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        uint32_t tokens = operation_test_tokens(analysis, (enum operation_test)t);
        const struct {
            const char *key;
            uint32_t value;
        } numbers[] = {{"prompt_tokens", t == OPERATION_PROMPT ? tokens : 0},
                       {"generate", t == OPERATION_GENERATE ? tokens : 0},
                       {"depth", t == OPERATION_GENERATE ? analysis->profile_depth : 0}};
        if (tokens == 0) {
            continue;
        }
        json_begin_object(&writer);
        json_key(&writer, "name");
        json_write_string(&writer, test_names[t]);
        for (size_t i = 0; i < 3; i++) {
            json_key(&writer, numbers[i].key);
            json_write_unsigned(&writer, numbers[i].value);
        }
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
}

/* False for a number that is none, or lies outside of what can be. */
static bool read_count(const struct json_value *object, const char *key, double *out)
{
    return json_number(json_member(object, key), out) && *out >= 0 && *out <= COUNT_MAX;
}

static llcuda_status read_operation(const struct json_value *row, const char *test,
                                    struct operation_time *operations, double *sum_ns,
                                    struct llcuda_error *error)
{
    struct text_view name = json_text(json_member(row, "operation"));
    double ns;
    double times = 0;
    if (!name.data || !read_count(row, "ns", &ns) ||
        (json_member(row, "times") && !read_count(row, "times", &times))) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "an operation of '%s' has no name or no time in 'ns'", test);
    }
    enum operation which = operation_find(name);
    struct operation_time *operation = &operations[which];
    operation->told = true;
    operation->ns += ns;
    operation->times += times;
    *sum_ns += ns;
    JSON_EACH(item, json_member(row, "with"))
    {
        enum operation other = operation_find(json_text(item));
        operation->with |= other == OPERATION_OTHER ? 0 : 1u << other;
    }
    operation->with &= ~(1u << which);
    return LLCUDA_OK;
}

static const struct json_value *find_test(const struct json_value *tests, const char *name)
{
    JSON_EACH(test, tests)
    {
        if (text_view_is(json_text(json_member(test, "name")), name)) {
            return test;
        }
    }
    return NULL;
}

static llcuda_status read_test(const struct json_value *test, const char *name, uint32_t tokens,
                               double *ns, struct operation_time *operations,
                               struct llcuda_error *error)
{
    double count;
    double sum_ns = 0;
    llcuda_status status = LLCUDA_OK;
    if (!test || !read_count(test, "ns", ns) || *ns == 0 ||
        !json_is(json_member(test, "operations"), JSON_ARRAY)) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "the profile has no test '%s' with a time in 'ns' and 'operations'", name);
    }
    if (!read_count(test, "tokens", &count) || count != tokens) {
        return error_set(error, LLCUDA_BAD_FORMAT, "the test '%s' is not one of %u tokens", name,
                         tokens);
    }
    JSON_EACH(row, json_member(test, "operations"))
    {
        status = status ? status : read_operation(row, name, operations, &sum_ns, error);
    }
    /* Times are rounded one by one. */
    if (!status && sum_ns > *ns * (1 + 1e-6) + 1000) {
        status = error_set(error, LLCUDA_BAD_FORMAT,
                           "the operations of '%s' take %.4g ms, longer than the whole of %.4g",
                           name, sum_ns / 1e6, *ns / 1e6);
    }
    struct operation_time *other = &operations[OPERATION_OTHER];
    other->told = true;
    other->ns += fmax(*ns - sum_ns, 0);
    return status;
}

llcuda_status operations_read(const struct json_value *answer,
                              const struct config_analysis *analysis, struct operation_answer *out,
                              struct llcuda_error *error)
{
    const struct json_value *tests = json_member(answer, "tests");
    llcuda_status status = LLCUDA_OK;
    *out = (struct operation_answer){0};
    for (int t = 0; !status && t < OPERATION_TEST_COUNT; t++) {
        uint32_t tokens = operation_test_tokens(analysis, (enum operation_test)t);
        if (tokens) {
            status = read_test(find_test(tests, test_names[t]), test_names[t], tokens,
                               &out->tests[t].ns, out->tests[t].operations, error);
        }
    }
    return status;
}
