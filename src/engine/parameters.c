/* Owns the table of request parameters. Everything that comes from a caller passes through here
 * before anything is allocated for it. */
#include "engine/parameters.h"

#include <math.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "engine/scheduler.h"
#include "engine/sequence_heap.h"

#define CHOICES_MAX     128
#define STOP_TOKENS_MAX 16u

#define ROW(name, kind, minimum, maximum, fallback, help)                                         \
    {                                                                                             \
#name, LLCUDA_PARAMETER_##kind, offsetof(llcuda_request_options, name), minimum, maximum, \
            fallback, help                                                                        \
    }

static const llcuda_parameter table[] = {
    ROW(max_tokens, U32, 0, LIMIT_CONTEXT_LENGTH, 0, "most tokens of an answer, 0: as many as fit"),
    ROW(min_tokens, U32, 0, LIMIT_CONTEXT_LENGTH, 0, "no end before so many tokens"),
    ROW(temperature, DOUBLE, 0, 100, 0, "0: greedy; higher is more random"),
    ROW(top_k, U32, 0, LIMIT_VOCABULARY_TOKENS, 0, "only the k most likely tokens, 0: off"),
    ROW(top_p, DOUBLE, 0, 1, 1, "only the most likely tokens of this mass, 1: off"),
    ROW(min_p, DOUBLE, 0, 1, 0, "only tokens this likely relative to the best, 0: off"),
    ROW(typical_p, DOUBLE, 0, 1, 1, "only the most typical tokens of this mass, 1: off"),
    ROW(repetition_penalty, DOUBLE, 0.01, 100, 1, "divides logits of seen tokens, 1: off"),
    ROW(presence_penalty, DOUBLE, -2, 2, 0, "taken from tokens that the answer has, 0: off"),
    ROW(frequency_penalty, DOUBLE, -2, 2, 0, "the same for each occurrence, 0: off"),
    ROW(penalty_window, U32, 0, LIMIT_CONTEXT_LENGTH, 0, "tokens that penalties see, 0: all"),
    ROW(dry_multiplier, DOUBLE, 0, 100, 0, "penalty for continuing a repetition, 0: off"),
    ROW(dry_base, DOUBLE, 1, 100, 1.75, "its growth with each repeated token"),
    ROW(dry_allowed_length, U32, 0, LIMIT_CONTEXT_LENGTH, 2, "repetitions not penalised"),
    ROW(dry_window, U32, 0, LIMIT_CONTEXT_LENGTH, 0, "tokens it looks back, 0: all"),
    ROW(seed, U64, 0, 18446744073709551615.0, 0, "of the random numbers"),
    ROW(seed_given, BOOL, 0, 1, 0, "false: a random seed"),
    ROW(choice_count, U32, 1, CHOICES_MAX, 1, "answers to the same prompt"),
    ROW(logprobs, BOOL, 0, 1, 0, "report log-probabilities"),
    ROW(top_logprobs, U32, 0, LLCUDA_LOGPROBS_MAX, 0, "and those of so many alternatives"),
    ROW(ignore_eos, BOOL, 0, 1, 0, "go on after the model's end tokens"),
    ROW(echo, BOOL, 0, 1, 0, "begin with the prompt"),
    ROW(special, BOOL, 0, 1, 1, "special tokens spelled out in the prompt count"),
    ROW(special_text, BOOL, 0, 1, 0, "spell out special tokens in the answer"),
    ROW(priority, I32, -SCHEDULER_PRIORITY_MAX, SCHEDULER_PRIORITY_MAX, 0, "higher goes first"),
    ROW(timeout_ms, U64, 0, 1e12, 0, "the answer ends after so long, 0: never"),
};

#define TABLE_COUNT (sizeof table / sizeof table[0])

const llcuda_parameter *llcuda_request_parameters(uint32_t *count)
{
    *count = (uint32_t)TABLE_COUNT;
    return table;
}

static double read_field(const llcuda_request_options *options, const llcuda_parameter *row)
{
    const char *field = (const char *)options + row->offset;
    switch (row->kind) {
    case LLCUDA_PARAMETER_DOUBLE: {
        double value;
        memcpy(&value, field, sizeof value);
        return value;
    }
    case LLCUDA_PARAMETER_U32: {
        uint32_t value;
        memcpy(&value, field, sizeof value);
        return value;
    }
    case LLCUDA_PARAMETER_I32: {
        int32_t value;
        memcpy(&value, field, sizeof value);
        return value;
    }
    case LLCUDA_PARAMETER_U64: {
        uint64_t value;
        memcpy(&value, field, sizeof value);
        return (double)value;
    }
    case LLCUDA_PARAMETER_BOOL:
        break;
    }
    unsigned char value; /* a bool that holds 2 must be refused, not read */
    memcpy(&value, field, sizeof value);
    return value;
}

static void write_field(llcuda_request_options *options, const llcuda_parameter *row, double value)
{
    char *field = (char *)options + row->offset;
    switch (row->kind) {
    case LLCUDA_PARAMETER_DOUBLE:
        memcpy(field, &value, sizeof value);
        break;
    case LLCUDA_PARAMETER_U32:
    case LLCUDA_PARAMETER_I32: {
        int32_t integer = (int32_t)value; /* every fallback is small */
        memcpy(field, &integer, sizeof integer);
        break;
    }
    case LLCUDA_PARAMETER_U64: {
        uint64_t integer = (uint64_t)value;
        memcpy(field, &integer, sizeof integer);
        break;
    }
    case LLCUDA_PARAMETER_BOOL: {
        bool flag = value != 0;
        memcpy(field, &flag, sizeof flag);
        break;
    }
    }
}

/* ------------------------------------------------------------------ structs of any size */

static void defaults_request(llcuda_request_options *options)
{
    *options = (llcuda_request_options){.size = sizeof *options};
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        write_field(options, &table[i], table[i].fallback);
    }
}

static void defaults_engine(llcuda_engine_options *options)
{
    *options = (llcuda_engine_options){
        .size = sizeof *options,
        .prefix_cache = true,
        .throughput_bias = 0.5,
        .log_level = LLCUDA_LOG_INFO,
    };
}

void llcuda_request_options_init(llcuda_request_options *options, size_t size)
{
    llcuda_request_options defaults;
    defaults_request(&defaults);
    memset(options, 0, size);
    memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
    options->size = size;
}

void llcuda_engine_options_init(llcuda_engine_options *options, size_t size)
{
    llcuda_engine_options defaults;
    defaults_engine(&defaults);
    memset(options, 0, size);
    memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
    options->size = size;
}

/* Lays the caller's bytes over the defaults that are in `known` already. */
static llcuda_status lay_over(const void *given, size_t given_size, void *known, size_t known_size,
                              const char *init, struct llcuda_error *error)
{
    if (given_size < sizeof(size_t)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the options have no size: call %s first",
                         init);
    }
    const unsigned char *bytes = given;
    for (size_t i = known_size; i < given_size; i++) {
        if (bytes[i] != 0) {
            return error_set(error, LLCUDA_UNSUPPORTED,
                             "the options have a field that this version of the library lacks");
        }
    }
    memcpy(known, given, given_size < known_size ? given_size : known_size);
    memcpy(known, &known_size, sizeof known_size); /* `size` is the first field */
    return LLCUDA_OK;
}

llcuda_status parameters_read_request(const llcuda_request_options *given,
                                      llcuda_request_options *options, struct llcuda_error *error)
{
    defaults_request(options);
    return lay_over(given, given->size, options, sizeof *options, "llcuda_request_options_init",
                    error);
}

llcuda_status parameters_read_engine(const llcuda_engine_options *given,
                                     llcuda_engine_options *options, struct llcuda_error *error)
{
    defaults_engine(options);
    return lay_over(given, given->size, options, sizeof *options, "llcuda_engine_options_init",
                    error);
}

/* ------------------------------------------------------------------ checks */

static llcuda_status check_scalars(const llcuda_request_options *options,
                                   struct llcuda_error *error)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const llcuda_parameter *row = &table[i];
        double value = read_field(options, row);
        if (!(value >= row->minimum && value <= row->maximum)) { /* NaN lands here as well */
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s is %g, but must be %g to %g",
                             row->name, value, row->minimum, row->maximum);
        }
    }
    if (options->max_tokens > 0 && options->min_tokens > options->max_tokens) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "min_tokens is %u, above max_tokens, %u",
                         options->min_tokens, options->max_tokens);
    }
    if (options->add_bos < LLCUDA_MODEL_DEFAULT || options->add_bos > LLCUDA_NO) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "add_bos is no such value");
    }
    if (options->embedding < LLCUDA_POOLING_NONE || options->embedding > LLCUDA_POOLING_LAST) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "embedding is no such value");
    }
    return LLCUDA_OK;
}

static llcuda_status check_texts(const llcuda_text *texts, uint32_t count, const char *name,
                                 struct llcuda_error *error)
{
    if (count > LIMIT_STOP_STRINGS) {
        return error_set(error, LLCUDA_LIMIT, "%s has %u strings, at most %u are allowed", name,
                         count, LIMIT_STOP_STRINGS);
    }
    if (count > 0 && !texts) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s is NULL", name);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!texts[i].data || texts[i].bytes == 0) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s[%u] is empty", name, i);
        }
        if (texts[i].bytes > LIMIT_STOP_STRING_BYTES) {
            return error_set(error, LLCUDA_LIMIT, "%s[%u] has %zu bytes, at most %u are allowed",
                             name, i, texts[i].bytes, LIMIT_STOP_STRING_BYTES);
        }
        if (!utf8_valid(text_view_make(texts[i].data, texts[i].bytes))) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s[%u] is not valid UTF-8", name, i);
        }
    }
    return LLCUDA_OK;
}

static llcuda_status check_ids(const uint32_t *ids, size_t count, const char *name,
                               uint32_t vocabulary_size, struct llcuda_error *error)
{
    if (count > 0 && !ids) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s is NULL", name);
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= vocabulary_size) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "%s[%zu] is %u, but the vocabulary has %u tokens", name, i, ids[i],
                             vocabulary_size);
        }
    }
    return LLCUDA_OK;
}

static llcuda_status check_bias(const llcuda_request_options *options, uint32_t vocabulary_size,
                                struct llcuda_error *error)
{
    uint32_t count = options->logit_bias_count;
    if (count > LIMIT_LOGIT_BIAS) {
        return error_set(error, LLCUDA_LIMIT, "logit_bias has %u entries, at most %u are allowed",
                         count, LIMIT_LOGIT_BIAS);
    }
    if (count > 0 && !options->logit_bias) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "logit_bias is NULL");
    }
    for (uint32_t i = 0; i < count; i++) {
        llcuda_logit_bias bias = options->logit_bias[i];
        if (bias.token >= vocabulary_size) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "logit_bias names token %u, but the vocabulary has %u tokens",
                             bias.token, vocabulary_size);
        }
        if (!(bias.bias >= -100 && bias.bias <= 100) && bias.bias != -INFINITY) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT,
                             "the logit bias of token %u is %g, but must be -100 to 100",
                             bias.token, (double)bias.bias);
        }
    }
    return LLCUDA_OK;
}

static llcuda_status check_name(const char *text, const char *name, struct llcuda_error *error)
{
    if (text && strnlen(text, TENANT_NAME_BYTES + 1) > TENANT_NAME_BYTES) {
        return error_set(error, LLCUDA_LIMIT, "%s is longer than %u bytes", name,
                         TENANT_NAME_BYTES);
    }
    return LLCUDA_OK;
}

static llcuda_status check_prompt(const llcuda_request_options *options, uint32_t vocabulary_size,
                                  struct llcuda_error *error)
{
    int forms =
        (options->prompt != NULL) + (options->prompt_tokens != NULL) + (options->messages != NULL);
    if (forms != 1) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "exactly one of prompt, prompt_tokens and messages must be set, not %d",
                         forms);
    }
    if (options->prompt_bytes > LIMIT_PROMPT_BYTES ||
        options->messages_bytes > LIMIT_PROMPT_BYTES) {
        return error_set(error, LLCUDA_LIMIT, "the prompt has more than %llu bytes",
                         (unsigned long long)LIMIT_PROMPT_BYTES);
    }
    if (options->prompt_tokens &&
        (options->prompt_token_count == 0 || options->prompt_token_count > LIMIT_CONTEXT_LENGTH)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "prompt_token_count is %zu, but must be 1 to %u",
                         options->prompt_token_count, LIMIT_CONTEXT_LENGTH);
    }
    return options->prompt_tokens ? check_ids(options->prompt_tokens, options->prompt_token_count,
                                              "prompt_tokens", vocabulary_size, error)
                                  : LLCUDA_OK;
}

llcuda_status parameters_check_request(const llcuda_request_options *options,
                                       uint32_t vocabulary_size, struct llcuda_error *error)
{
    llcuda_status status = check_scalars(options, error);
    if (status == LLCUDA_OK) {
        status = check_texts(options->stop, options->stop_count, "stop", error);
    }
    if (status == LLCUDA_OK) {
        status = check_texts(options->dry_breakers,
                             options->dry_breakers ? options->dry_breaker_count : 0, "dry_breakers",
                             error);
    }
    if (status == LLCUDA_OK && options->stop_token_count > STOP_TOKENS_MAX) {
        status = error_set(error, LLCUDA_LIMIT, "stop_tokens has %u ids, at most %u are allowed",
                           options->stop_token_count, STOP_TOKENS_MAX);
    }
    if (status == LLCUDA_OK) {
        status = check_ids(options->stop_tokens, options->stop_token_count, "stop_tokens",
                           vocabulary_size, error);
    }
    if (status == LLCUDA_OK) {
        status = check_bias(options, vocabulary_size, error);
    }
    if (status == LLCUDA_OK) {
        status = check_name(options->tenant, "tenant", error);
    }
    if (status == LLCUDA_OK) {
        status = check_name(options->cache_salt, "cache_salt", error);
    }
    return status == LLCUDA_OK ? check_prompt(options, vocabulary_size, error) : status;
}

llcuda_status parameters_check_engine(const llcuda_engine_options *options,
                                      struct llcuda_error *error)
{
    const struct {
        const char *name;
        uint64_t value, maximum;
    } rows[] = {
        {"threads", options->threads, LIMIT_THREADS},
        {"context_length", options->context_length, LIMIT_CONTEXT_LENGTH},
        {"running_max", options->running_max, 4096},
        {"queue_max", options->queue_max, 1u << 20},
        {"step_tokens", options->step_tokens, 1u << 16},
        {"kv_type", (uint64_t)options->kv_type, LLCUDA_KV_FP8},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value > rows[i].maximum) {
            return error_set(error, LLCUDA_INVALID_ARGUMENT, "%s is %llu, but must be 0 to %llu",
                             rows[i].name, (unsigned long long)rows[i].value,
                             (unsigned long long)rows[i].maximum);
        }
    }
    if (!(options->gpu_memory_share >= 0 && options->gpu_memory_share <= 1)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "gpu_memory_share is %g, but must be 0 to 1", options->gpu_memory_share);
    }
    if (options->gpu_layers < LLCUDA_GPU_LAYERS_NONE) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "gpu_layers is %d, no such number",
                         (int)options->gpu_layers);
    }
    if (!(options->throughput_bias >= 0 && options->throughput_bias <= 1)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "throughput_bias is %g, but must be 0 to 1", options->throughput_bias);
    }
    return LLCUDA_OK;
}
