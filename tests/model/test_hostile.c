/* Configurations and headers that lie. Every number of every sample model is replaced by 0, 1, its
 * limits, negative and other-typed values in both containers, and every byte of a GGUF header, a
 * SafeTensors header and a config.json is changed: each time there is an error, or a plan that runs
 * a step. Under the sanitizers this shows that nothing is read out of bounds or divided by zero. */
#include "model/model_run.h"

#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/limits.h"
#include "format/gguf_write.h"

static const char *const models[] = {"llama",        "llama-rope3", "llama-yarn", "mistral-window",
                                     "qwen2-window", "gemma2",      "gemma3",     "phi3-longrope",
                                     "mixtral",      "qwen3moe"};
#define MODEL_COUNT (sizeof models / sizeof *models)

static struct device *device; /* one thread: thousands of models are loaded onto it */

static int open_device(void **state)
{
    (void)state;
    struct llcuda_error error;
    const struct cpu_options options = {.thread_count = 1, .level_max = CPU_SCALAR};
    assert_ok(cpu_device_open(&options, &device, &error), error);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    device_close(device);
    return 0;
}

static char *data_path(const char *model, const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "tests/oracle/data/%s/%s", model, file);
    return test_source_path(path);
}

static void read_file(const char *model, const char *file, struct buffer *out)
{
    struct llcuda_error error;
    char *path = data_path(model, file);
    assert_ok(file_read_all(path, 1u << 24, out, &error), error);
    free(path);
}

/* Takes the source. Builds a plan and, when that succeeds, runs three tokens. A refusal must have a
 * sentence. Returns the status of the plan. */
static llcuda_status try_source(struct model_source *source, struct llcuda_error *error)
{
    static const uint32_t tokens[3] = {0, 1, 2};
    struct model_run run = {.source = source};
    llcuda_status status = model_plan_build(source, &run.plan, &run.info, error);
    if (status == LLCUDA_OK && run.plan->vocabulary_size >= 3) {
        float *logits = calloc(3 * (size_t)run.plan->vocabulary_size, sizeof *logits);
        struct llcuda_error other;
        assert_non_null(logits);
        if (model_run_load(&run, device, DTYPE_F32, 16, 3, &other) == LLCUDA_OK) {
            (void)model_run_tokens(&run, tokens, 0, 3, 3, logits, &other);
        }
        free(logits);
    }
    model_run_close(&run);
    return status;
}

static llcuda_status try_memory(const void *data, size_t bytes, struct llcuda_error *error)
{
    struct model_source *source;
    llcuda_status status = model_source_open_memory(data, bytes, &source, error);
    status = status == LLCUDA_OK ? try_source(source, error) : status;
    if (status != LLCUDA_OK) {
        assert_true(error->status == status && error->message[0] != '\0');
    }
    return status;
}

static llcuda_status try_path(const char *path, struct llcuda_error *error)
{
    struct model_source *source;
    llcuda_status status = model_source_open(path, false, &source, error);
    status = status == LLCUDA_OK ? try_source(source, error) : status;
    if (status != LLCUDA_OK) {
        assert_true(error->status == status && error->message[0] != '\0');
    }
    return status;
}

/* A replacement for a value of GGUF metadata. */
struct replacement {
    enum gguf_kind kind;
    double number; /* of any scalar kind */
};

static void add_replacement(struct gguf_writer *writer, const char *key,
                            const struct replacement *with)
{
    uint32_t u32 = (uint32_t)(with->number < 0 ? 0 : with->number);
    int32_t i32 = (int32_t)(with->kind == GGUF_I32 ? with->number : 0);
    float f32 = (float)with->number;
    switch (with->kind) {
    case GGUF_U32:
        gguf_writer_add_u32(writer, key, u32);
        break;
    case GGUF_I32:
        gguf_writer_add_scalar(writer, key, GGUF_I32, &i32);
        break;
    case GGUF_F32:
        gguf_writer_add_f32(writer, key, f32);
        break;
    case GGUF_BOOL:
        gguf_writer_add_bool(writer, key, true);
        break;
    case GGUF_STRING:
        gguf_writer_add_text(writer, key, text_view_of("64"));
        break;
    default:
        gguf_writer_add_array(writer, key, GGUF_U32, &u32, 1);
        break;
    }
}

/* The file again, with one value replaced (with NULL: left out). */
static void rewrite(const struct gguf *gguf, uint64_t target, const struct replacement *with,
                    struct buffer *out)
{
    struct llcuda_error error;
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(out, &writer, &error), error);
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        char key[128];
        snprintf(key, sizeof key, "%.*s", TEXT_ARGUMENTS(value->key));
        if (i != target) {
            gguf_writer_add_value(writer, value);
        } else if (with) {
            add_replacement(writer, key, with);
        }
    }
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        assert_ok(gguf_writer_add_tensor(writer, tensor->name, tensor->dtype, tensor->rank,
                                         tensor->shape, &error),
                  error);
    }
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        assert_ok(gguf_writer_data(writer, tensor->data, tensor->bytes, &error), error);
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
}

/* Numbers that a file may hold, and what they must be. Shapes hang on the first group: any other
 * value than the right one is refused. The others have a range. */
static const struct rule {
    const char *key;
    const char *hf_key;
    bool fixed;
    bool zero, one; /* accepted? */
    double maximum; /* accepted (0: not tried), and a little more is refused */
} rules[] = {
    {"block_count", "num_hidden_layers", true, false, false, LIMIT_LAYER_COUNT},
    {"embedding_length", "hidden_size", true, false, false, LIMIT_EMBEDDING_LENGTH},
    {"feed_forward_length", "intermediate_size", true, false, false, LIMIT_FEED_FORWARD_LENGTH},
    {"attention.head_count", "num_attention_heads", true, false, false, LIMIT_HEAD_COUNT},
    {"attention.head_count_kv", "num_key_value_heads", true, false, false, LIMIT_HEAD_COUNT},
    {"attention.key_length", "head_dim", true, false, false, LIMIT_HEAD_SIZE},
    {"attention.value_length", "", true, false, false, LIMIT_HEAD_SIZE},
    {"expert_count", "num_experts", true, false, false, LIMIT_EXPERT_COUNT},
    {"expert_used_count", "num_experts_per_tok", false, false, true, 0},
    {"expert_feed_forward_length", "moe_intermediate_size", true, false, false,
     LIMIT_FEED_FORWARD_LENGTH},
    {"vocab_size", "vocab_size", true, false, false, LIMIT_VOCABULARY_TOKENS},
    {"rope.dimension_count", "", false, false, false, 0},
    {"context_length", "max_position_embeddings", false, false, true, LIMIT_CONTEXT_LENGTH},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", false, false, false, 0.09},
    {"rope.freq_base", "rope_theta", false, false, false, 1e15},
    {"rope.freq_base_swa", "", false, false, false, 1e15},
    {"rope.scaling.factor", "", false, true, true, 1e6},
    {"", "factor", false, false, true, 1e6},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", false, false,
     false, LIMIT_CONTEXT_LENGTH},
    {"rope.scaling.attn_factor", "attention_factor", false, false, true, 1e6},
    {"attention.sliding_window", "sliding_window", false, true, true, UINT32_MAX},
    {"attn_logit_softcapping", "attn_logit_softcapping", false, true, true, 1e6},
    {"final_logit_softcapping", "final_logit_softcapping", false, true, true, 1e6},
    {"", "query_pre_attn_scalar", false, false, true, 1e6},
    {"", "partial_rotary_factor", false, false, false, 0},
    {"", "low_freq_factor", false, false, true, 0},
    {"", "high_freq_factor", false, false, false, 1e6},
};

static const struct rule *find_rule(const char *key, bool hugging_face)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const char *own = hugging_face ? rules[i].hf_key : rules[i].key;
        if (own[0] != '\0' && strcmp(own, key) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

/* Whether a number must be accepted (1), refused (0), or either (−1). */
static int verdict(const struct rule *rule, double number, double original)
{
    if (number == original) {
        return 1;
    }
    if (!(number >= 0)) {
        return 0;
    }
    if (rule->fixed) {
        return 0;
    }
    if (number == 0) {
        return rule->zero;
    }
    if (number == 1) {
        return rule->one;
    }
    if (rule->maximum == 0) {
        return -1;
    }
    return number <= rule->maximum;
}

static uint64_t tries;

static void check(const char *model, const char *key, const char *value, int wanted,
                  llcuda_status status, const struct llcuda_error *error)
{
    tries++;
    if (wanted == 1 && status != LLCUDA_OK) {
        fail_msg("%s: %s = %s is refused: %s", model, key, value, error->message);
    }
    if (wanted == 0 && status == LLCUDA_OK) {
        fail_msg("%s: %s = %s is accepted", model, key, value);
    }
    if (status != LLCUDA_OK && status != LLCUDA_BAD_FORMAT && status != LLCUDA_UNSUPPORTED &&
        status != LLCUDA_LIMIT && status != LLCUDA_NOT_FOUND) {
        fail_msg("%s: %s = %s gives %s: %s", model, key, value, llcuda_status_name(status),
                 error->message);
    }
}

static void sweep_value(const char *model, const struct gguf *gguf, uint64_t index)
{
    const struct gguf_value *value = gguf_value_at(gguf, index);
    char key[128];
    snprintf(key, sizeof key, "%.*s", TEXT_ARGUMENTS(value->key));
    const char *dot = strchr(key, '.');
    const struct rule *rule = dot ? find_rule(dot + 1, false) : NULL;
    double original = value->kind == GGUF_F32 ? value->number : (double)value->unsigned_integer;
    double maximum = rule ? rule->maximum : 0;
    const struct replacement with[] = {
        {GGUF_U32, 0},
        {GGUF_U32, 1},
        {GGUF_U32, 2},
        {GGUF_I32, -1},
        {GGUF_U32, 3},
        {GGUF_U32, UINT32_MAX},
        {GGUF_I32, INT32_MIN},
        {GGUF_F32, NAN},
        {GGUF_F32, INFINITY},
        {GGUF_F32, -1},
        {GGUF_F32, 0},
        {GGUF_F32, maximum},
        {GGUF_F32, maximum * 1.01 + 1},
        {GGUF_U32, maximum < UINT32_MAX ? maximum : UINT32_MAX},
        {GGUF_U32, maximum < UINT32_MAX ? maximum + 1 : UINT32_MAX},
        {GGUF_STRING, 0},
        {GGUF_BOOL, 0},
        {GGUF_ARRAY, 64},
    };
    bool real = value->kind == GGUF_F32;
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        struct llcuda_error error;
        struct buffer file = {0};
        int wanted = -1;
        if (with[i].kind == GGUF_U32 && with[i].number != floor(with[i].number)) {
            continue; /* the limit is no integer */
        }
        rewrite(gguf, index, &with[i], &file);
        if (rule && (with[i].kind == GGUF_U32 || with[i].kind == GGUF_I32 ||
                     (real && with[i].kind == GGUF_F32))) {
            wanted = verdict(rule, with[i].number, original);
        } else if (rule) {
            wanted = 0; /* a wrong type */
        }
        char shown[48];
        snprintf(shown, sizeof shown, "%g (kind %d)", with[i].number, (int)with[i].kind);
        llcuda_status status = try_memory(file.data, file.length, &error);
        check(model, key, shown, wanted, status, &error);
        buffer_deinit(&file);
    }
    struct llcuda_error error;
    struct buffer file = {0};
    rewrite(gguf, index, NULL, &file);
    check(model, key, "(absent)", -1, try_memory(file.data, file.length, &error), &error);
    buffer_deinit(&file);
}

static void gguf_values_are_ranged(void **state)
{
    (void)state;
    tries = 0;
    for (size_t m = 0; m < MODEL_COUNT; m++) {
        struct llcuda_error error;
        struct buffer file = {0};
        struct gguf *gguf;
        read_file(models[m], "model.gguf", &file);
        assert_ok(gguf_open_memory(file.data, file.length, &gguf, &error), error);
        for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
            sweep_value(models[m], gguf, i);
        }
        gguf_close(gguf);
        buffer_deinit(&file);
    }
    printf("%llu values\n", (unsigned long long)tries);
}

/* A folder with a model's weights (a link) and any config.json. */
struct folder {
    const char *path;
    char *config;
};

static void make_folder(struct folder *folder, const char *model)
{
    folder->path = test_folder_make();
    folder->config = file_path_join(folder->path, "config.json");
    char *weights = data_path(model, "model.safetensors");
    char *link = file_path_join(folder->path, "model.safetensors");
    assert_int_equal(symlink(weights, link), 0);
    free(weights);
    free(link);
}

static void remove_folder(struct folder *folder)
{
    free(folder->config);
    test_folder_remove(folder->path);
}

static void write_config(const struct folder *folder, const void *data, size_t bytes)
{
    free(test_file_write(folder->path, "config.json", data, bytes));
}

static llcuda_status try_config(const struct folder *folder, const char *text, size_t begin,
                                size_t end, const char *value, struct llcuda_error *error)
{
    struct buffer config = {0};
    buffer_append(&config, text, begin);
    buffer_append_text(&config, value);
    buffer_append_text(&config, text + end);
    assert_false(config.failed);
    write_config(folder, config.data, config.length);
    buffer_deinit(&config);
    return try_path(folder->path, error);
}

/* text[begin … end) is the value of a scalar member `key`. */
static void sweep_member(const struct folder *folder, const char *model, const char *text,
                         const char *key, size_t begin, size_t end)
{
    static const char *const numbers[] = {"0",
                                          "1",
                                          "2",
                                          "3",
                                          "-1",
                                          "-1e300",
                                          "4294967295",
                                          "4294967296",
                                          "1e308",
                                          "0.0",
                                          "18446744073709551616"};
    static const char *const others[] = {"\"64\"", "true", "[]", "[64]", "{}", "{\"a\": 1}", "1.5"};
    const struct rule *rule = find_rule(key, true);
    char original_text[64] = {0};
    size_t length = end - begin < sizeof original_text ? end - begin : sizeof original_text - 1;
    memcpy(original_text, text + begin, length);
    double original = strtod(original_text, NULL);
    struct llcuda_error error;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double number = strtod(numbers[i], NULL);
        int wanted = rule ? verdict(rule, number, original) : -1;
        check(model, key, numbers[i], wanted,
              try_config(folder, text, begin, end, numbers[i], &error), &error);
    }
    if (rule && rule->maximum > 1) {
        char value[40];
        snprintf(value, sizeof value, "%.0f", rule->maximum);
        check(model, key, value, verdict(rule, rule->maximum, original),
              try_config(folder, text, begin, end, value, &error), &error);
        snprintf(value, sizeof value, "%.0f", rule->maximum * 1.02);
        check(model, key, value, 0, try_config(folder, text, begin, end, value, &error), &error);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        bool number = strcmp(others[i], "1.5") == 0;
        int wanted = rule && (!number || rule->fixed) ? 0 : -1;
        check(model, key, others[i], wanted,
              try_config(folder, text, begin, end, others[i], &error), &error);
    }
    check(model, key, "null", -1, try_config(folder, text, begin, end, "null", &error), &error);
}

static void config_values_are_ranged(void **state)
{
    (void)state;
    tries = 0;
    for (size_t m = 0; m < MODEL_COUNT; m++) {
        struct folder folder;
        struct buffer config = {0};
        make_folder(&folder, models[m]);
        read_file(models[m], "config.json", &config);
        for (const char *at = config.data; (at = strstr(at, "\": ")) != NULL; at += 3) {
            const char *quote = at;
            while (quote[-1] != '"') {
                quote--;
            }
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)(at - quote), quote);
            size_t begin = (size_t)(at + 3 - config.data);
            size_t end = begin + strcspn(at + 3, ",\n");
            if (config.data[begin] != '{' && config.data[begin] != '[' &&
                strncmp(config.data + begin, "null", 4) != 0) {
                sweep_member(&folder, models[m], config.data, key, begin, end);
            }
        }
        buffer_deinit(&config);
        remove_folder(&folder);
    }
    printf("%llu values\n", (unsigned long long)tries);
}

static const uint8_t masks[] = {0xff, 0x01, 0x80};

static void gguf_header_bytes_flip(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer file = {0};
    struct gguf *gguf;
    read_file("llama-yarn", "model.gguf", &file);
    assert_ok(gguf_open_memory(file.data, file.length, &gguf, &error), error);
    size_t header = file.length;
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        size_t offset = (size_t)((const char *)gguf_tensor_at(gguf, i)->data - file.data);
        header = offset < header ? offset : header;
    }
    gguf_close(gguf);
    uint8_t *exact = malloc(file.length);
    assert_non_null(exact);
    memcpy(exact, file.data, file.length);
    size_t refused = 0;
    for (size_t i = 0; i < header; i++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            exact[i] ^= masks[m];
            refused += try_memory(exact, file.length, &error) != LLCUDA_OK;
            exact[i] ^= masks[m];
        }
    }
    printf("%zu of %zu changes refused\n", refused, header * sizeof masks);
    assert_true(refused > header * sizeof masks / 2);
    assert_ok(try_memory(exact, file.length, &error), error);
    free(exact);
    buffer_deinit(&file);
}

static void config_bytes_flip(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct folder folder;
    struct buffer config = {0};
    make_folder(&folder, "llama-yarn");
    read_file("llama-yarn", "config.json", &config);
    size_t refused = 0;
    for (size_t i = 0; i < config.length; i++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            config.data[i] = (char)(config.data[i] ^ masks[m]);
            write_config(&folder, config.data, config.length);
            refused += try_path(folder.path, &error) != LLCUDA_OK;
            config.data[i] = (char)(config.data[i] ^ masks[m]);
        }
    }
    printf("%zu of %zu changes refused\n", refused, config.length * sizeof masks);
    assert_true(refused > config.length * sizeof masks / 2);
    buffer_deinit(&config);
    remove_folder(&folder);
}

static void safetensors_header_bytes_flip(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct buffer config = {0};
    struct buffer weights = {0};
    const char *folder = test_folder_make();
    read_file("llama-yarn", "config.json", &config);
    read_file("llama-yarn", "model.safetensors", &weights);
    free(test_file_write(folder, "config.json", config.data, config.length));
    char *path = test_file_write(folder, "model.safetensors", weights.data, weights.length);
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    uint64_t header;
    memcpy(&header, weights.data, sizeof header);
    size_t refused = 0;
    size_t last = 0;
    for (size_t i = 0; i < 8 + header; i++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            int byte = (uint8_t)weights.data[i] ^ masks[m];
            assert_true(fseek(stream, (long)i, SEEK_SET) == 0 && fputc(byte, stream) == byte);
            assert_int_equal(fflush(stream), 0);
            refused += try_path(folder, &error) != LLCUDA_OK;
        }
        assert_int_equal(fseek(stream, (long)i, SEEK_SET), 0);
        assert_int_equal(fputc((uint8_t)weights.data[i], stream), (uint8_t)weights.data[i]);
        assert_int_equal(fflush(stream), 0);
        last = i;
    }
    printf("%zu of %zu changes refused\n", refused, (last + 1) * sizeof masks);
    assert_true(refused > last * sizeof masks / 2);
    assert_ok(try_path(folder, &error), error);
    fclose(stream);
    free(path);
    buffer_deinit(&config);
    buffer_deinit(&weights);
    test_folder_remove(folder);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(gguf_values_are_ranged),        cmocka_unit_test(config_values_are_ranged),
    cmocka_unit_test(gguf_header_bytes_flip),        cmocka_unit_test(config_bytes_flip),
    cmocka_unit_test(safetensors_header_bytes_flip),
};

int main(void)
{
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, open_device, close_device);
}
