/* What model_plan_build says: the sentence of each refusal names what is wrong, and model_info has
 * what the file says. */
#include "model/model_run.h"

#include "base/buffer.h"
#include "base/file.h"
#include "format/gguf_write.h"

/* One change of a GGUF file; NULL fields change nothing. */
struct change {
    const char *tensor;    /* this one … */
    const char *renamed;   /* … gets this name ("": is left out) */
    const uint64_t *shape; /* … or this shape, of the same size */
    uint32_t rank;
    bool halved;            /* … or type F16 of the same shape, zeros */
    const char *key, *text; /* this key gets a text … */
    const uint32_t *number; /* … or a number */
    bool no_tensors;
};

static void copy_values(struct gguf_writer *writer, const struct gguf *gguf,
                        const struct change *change)
{
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        if (!change->key || !text_view_is(value->key, change->key)) {
            gguf_writer_add_value(writer, value);
        }
    }
    if (change->key && change->text) {
        gguf_writer_add_text(writer, change->key, text_view_of(change->text));
    } else if (change->key && change->number) {
        gguf_writer_add_u32(writer, change->key, *change->number);
    }
}

static bool is_left_out(const struct tensor *tensor, const struct change *change)
{
    return change->no_tensors || (change->tensor && text_view_is(tensor->name, change->tensor) &&
                                  change->renamed && change->renamed[0] == '\0');
}

static void write_changed(const struct gguf *gguf, const struct change *change, struct buffer *out)
{
    struct llcuda_error error;
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(out, &writer, &error), error);
    copy_values(writer, gguf, change);
    for (int data = 0; data <= 1; data++) {
        if (data) {
            assert_ok(gguf_writer_begin_data(writer, &error), error);
        }
        for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
            const struct tensor *tensor = gguf_tensor_at(gguf, i);
            struct tensor changed = *tensor;
            if (is_left_out(tensor, change)) {
                continue;
            }
            if (change->tensor && text_view_is(tensor->name, change->tensor)) {
                if (change->renamed) {
                    changed.name = text_view_of(change->renamed);
                }
                if (change->shape) {
                    changed.rank = change->rank;
                    memcpy(changed.shape, change->shape, change->rank * sizeof(uint64_t));
                }
                if (change->halved) {
                    changed.dtype = DTYPE_F16;
                    changed.bytes /= 2;
                }
            }
            if (data) {
                assert_ok(gguf_writer_data(writer, changed.data, changed.bytes, &error), error);
            } else {
                assert_ok(gguf_writer_add_tensor(writer, changed.name, changed.dtype, changed.rank,
                                                 changed.shape, &error),
                          error);
            }
        }
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
}

/* The status and message of a model of the oracle with one change. */
static llcuda_status build_changed(const char *model, const struct change *change,
                                   struct model_info *info, struct llcuda_error *error)
{
    char path[96];
    snprintf(path, sizeof path, "tests/oracle/data/%s/model.gguf", model);
    char *whole = test_source_path(path);
    struct buffer file = {0};
    struct buffer changed = {0};
    struct gguf *gguf;
    assert_ok(file_read_all(whole, 1u << 24, &file, error), *error);
    assert_ok(gguf_open_memory(file.data, file.length, &gguf, error), *error);
    write_changed(gguf, change, &changed);
    struct model_source *source;
    assert_ok(model_source_open_memory(changed.data, changed.length, &source, error), *error);
    struct plan *plan = NULL;
    llcuda_status status = model_plan_build(source, &plan, info, error);
    assert_true((status == LLCUDA_OK) == (plan != NULL));
    plan_destroy(plan);
    model_source_close(source);
    gguf_close(gguf);
    buffer_deinit(&file);
    buffer_deinit(&changed);
    free(whole);
    return status;
}

static void expect(const char *model, const struct change *change, llcuda_status wanted,
                   const char *said)
{
    struct llcuda_error error = {0};
    struct model_info info;
    llcuda_status status = build_changed(model, change, &info, &error);
    if (status != wanted || !strstr(error.message, said)) {
        fail_msg("%s '%s', wanted is %s with '%s'", llcuda_status_name(status), error.message,
                 llcuda_status_name(wanted), said);
    }
}

#define EXPECT(model, status, said, ...) \
    expect(model, &(const struct change){__VA_ARGS__}, LLCUDA_##status, said)

static void unknown_architectures_are_named(void **state)
{
    (void)state;
    EXPECT("llama", UNSUPPORTED,
           "architecture 'mamba' is not supported; supported are llama, mistral, mixtral, qwen2",
           .key = "general.architecture", .text = "mamba");
    for (size_t i = 0; model_architecture_name(i); i++) {
        assert_true(model_architecture_name(i)[0] != '\0');
    }
    assert_string_equal(model_architecture_name(0), "llama");
}

static void tensors_are_checked(void **state)
{
    (void)state;
    static const uint64_t turned[] = {48, 32};
    static const uint64_t flat[] = {48 * 32};
    EXPECT("llama", UNSUPPORTED, "vocabulary and no tensors", .no_tensors = true);
    EXPECT("llama", BAD_FORMAT, "tensor 'blk.1.attn_v.weight' [16, 32] is missing",
           .tensor = "blk.1.attn_v.weight", .renamed = "");
    EXPECT("llama", BAD_FORMAT, "tensor 'blk.0.ffn_down.weight' is [48, 32], wanted is [32, 48]",
           .tensor = "blk.0.ffn_down.weight", .shape = turned, .rank = 2);
    EXPECT("llama", BAD_FORMAT, "tensor 'blk.0.ffn_up.weight' is [1536], wanted is [48, 32]",
           .tensor = "blk.0.ffn_up.weight", .shape = flat, .rank = 1);
    static const uint32_t half = 24;
    EXPECT("llama", BAD_FORMAT, "tensor 'blk.0.ffn_gate.weight' is [48, 32], wanted is [24, 32]",
           .key = "llama.feed_forward_length", .number = &half);
    EXPECT("llama", BAD_FORMAT, "tensor 'token_embd.weight' [96, 32] is missing",
           .tensor = "token_embd.weight", .renamed = "");
    EXPECT("qwen2", BAD_FORMAT, "tensor 'blk.0.attn_k.bias' [16] is missing",
           .tensor = "blk.0.attn_k.bias", .renamed = "");
    EXPECT("qwen3", BAD_FORMAT, "tensor 'blk.0.attn_q_norm.weight' [16] is missing",
           .tensor = "blk.0.attn_q_norm.weight", .renamed = "");
}

static void unused_tensors_are_refused(void **state)
{
    (void)state;
    EXPECT("llama-yarn", UNSUPPORTED, "tensor 'blk.1.extra.weight' has no place",
           .tensor = "output.weight", .renamed = "blk.1.extra.weight");
}

static void features_are_named(void **state)
{
    (void)state;
    static const uint32_t eight = 8;
    static const uint32_t nine = 9;
    EXPECT("qwen3", UNSUPPORTED, "mixture of experts", .key = "qwen3.expert_count",
           .number = &eight);
    EXPECT("llama-yarn", UNSUPPORTED, "rotary scaling 'spiral' is not supported",
           .key = "llama.rope.scaling.type", .text = "spiral");
    EXPECT("llama", BAD_FORMAT, "'llama.block_count' is missing", .key = "llama.block_count");
    EXPECT("llama", BAD_FORMAT, "4 query heads cannot share 9 key-value heads",
           .key = "llama.attention.head_count_kv", .number = &nine);
    EXPECT("llama", BAD_FORMAT, "holds 96 tokens, but the configuration says vocab_size 9",
           .key = "llama.vocab_size", .number = &nine);
    EXPECT("llama-rope3", UNSUPPORTED, "keys of size 9 with values of size 16",
           .key = "llama.attention.key_length", .number = &nine);
}

static void experts_are_checked(void **state)
{
    (void)state;
    static const uint32_t three = 3;
    static const uint32_t eight = 8;
    static const uint32_t many = 2000;
    static const uint64_t flat[2] = {4 * 48, 32};
    EXPECT("mixtral", BAD_FORMAT, "a token goes to 8 experts, but there are 4 of them",
           .key = "llama.expert_used_count", .number = &eight);
    EXPECT("mixtral", BAD_FORMAT, "'llama.expert_used_count' is missing",
           .key = "llama.expert_used_count");
    EXPECT("mixtral", BAD_FORMAT, "expert_count", .key = "llama.expert_count", .number = &many);
    EXPECT("mixtral", BAD_FORMAT,
           "tensor 'blk.0.ffn_gate_inp.weight' is [4, 32], wanted is [3, 32]",
           .key = "llama.expert_count", .number = &three);
    EXPECT("mixtral", BAD_FORMAT, "tensor 'blk.1.ffn_down_exps.weight' [4, 32, 48] is missing",
           .tensor = "blk.1.ffn_down_exps.weight", .renamed = "");
    EXPECT("mixtral", BAD_FORMAT,
           "tensor 'blk.0.ffn_up_exps.weight' is [192, 32], wanted is [4, 48, 32]",
           .tensor = "blk.0.ffn_up_exps.weight", .shape = flat, .rank = 2);
    EXPECT("qwen2moe", BAD_FORMAT, "'qwen2moe.expert_shared_feed_forward_length' is missing",
           .key = "qwen2moe.expert_shared_feed_forward_length");
    EXPECT("qwen2moe", BAD_FORMAT, "tensor 'blk.0.ffn_gate_inp_shexp.weight' [32] is missing",
           .tensor = "blk.0.ffn_gate_inp_shexp.weight", .renamed = "");
    EXPECT("gpt-oss", BAD_FORMAT, "tensor 'blk.1.attn_sinks.weight' [4] is missing",
           .tensor = "blk.1.attn_sinks.weight", .renamed = "");
    EXPECT("gpt-oss", BAD_FORMAT, "tensor 'blk.0.ffn_up_exps.bias' [4, 48] is missing",
           .tensor = "blk.0.ffn_up_exps.bias", .renamed = "");
    EXPECT("qwen3moe", BAD_FORMAT, "tensor 'blk.2.ffn_gate_inp.weight' [8, 32] is missing",
           .tensor = "blk.2.ffn_gate_inp.weight", .renamed = "");
}

static void vectors_must_be_plain(void **state)
{
    (void)state;
    /* F16 norms are fine. */
    struct llcuda_error error;
    struct model_info info;
    const struct change change = {.tensor = "output_norm.weight", .halved = true};
    assert_ok(build_changed("llama", &change, &info, &error), error);
}

static void info_says_what_the_file_says(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct model_info info;
    const struct change none = {0};
    assert_ok(build_changed("gemma3", &none, &info, &error), error);
    assert_string_equal(info.architecture, "gemma3");
    assert_int_equal(info.layer_count, 3);
    assert_int_equal(info.embedding_length, 32);
    assert_int_equal(info.head_count, 4);
    assert_int_equal(info.kv_head_count, 2);
    assert_int_equal(info.head_size, 16);
    assert_int_equal(info.feed_forward_length, 48);
    assert_int_equal(info.vocabulary_size, 96);
    assert_int_equal(info.context_length, 256);
    assert_int_equal(info.window, 6);
    assert_int_equal(info.window_layer_count, 2);
    assert_true(info.tied_embeddings);
    assert_string_equal(info.rotary, "half, base 1e+06, linear × 8");
    uint64_t layer = 4 * 32 + 2 * 16 + 2 * 64 * 32 + 2 * 32 * 32 + 3 * 48 * 32;
    assert_int_equal(info.parameter_count, 96 * 32 + 32 + 3 * layer);
    assert_ok(build_changed("phi3-longrope", &none, &info, &error), error);
    assert_int_equal(info.context_length, 64);
    assert_string_equal(info.rotary, "half, base 10000, longrope up to 64");
    assert_false(info.tied_embeddings);
    assert_ok(build_changed("llama", &none, &info, &error), error);
    assert_string_equal(info.rotary, "interleaved, base 10000");
    assert_int_equal(info.weight_bytes, 4 * info.parameter_count);
}

/* The configuration of a Hugging Face folder with one member replaced, and what is said to it. */
static void expect_config(const char *model, const char *from, const char *to, llcuda_status wanted,
                          const char *said)
{
    struct llcuda_error error = {0};
    struct buffer config = {0};
    struct buffer weights = {0};
    char path[96];
    snprintf(path, sizeof path, "tests/oracle/data/%s/config.json", model);
    char *whole = test_source_path(path);
    assert_ok(file_read_all(whole, 1u << 24, &config, &error), error);
    free(whole);
    snprintf(path, sizeof path, "tests/oracle/data/%s/model.safetensors", model);
    whole = test_source_path(path);
    assert_ok(file_read_all(whole, 1u << 24, &weights, &error), error);
    free(whole);
    const char *at = strstr(config.data, from);
    assert_non_null(at);
    struct buffer changed = {0};
    buffer_append(&changed, config.data, (size_t)(at - config.data));
    buffer_append_text(&changed, to);
    buffer_append_text(&changed, at + strlen(from));
    const char *folder = test_folder_make();
    free(test_file_write(folder, "config.json", changed.data, changed.length));
    free(test_file_write(folder, "model.safetensors", weights.data, weights.length));
    struct model_source *source;
    assert_ok(model_source_open(folder, false, &source, &error), error);
    struct plan *plan = NULL;
    llcuda_status status = model_plan_build(source, &plan, NULL, &error);
    if (status != wanted || (wanted != LLCUDA_OK && !strstr(error.message, said))) {
        fail_msg("%s → %s: %s '%s', wanted is %s with '%s'", from, to, llcuda_status_name(status),
                 error.message, llcuda_status_name(wanted), said);
    }
    plan_destroy(plan);
    model_source_close(source);
    test_folder_remove(folder);
    buffer_deinit(&config);
    buffer_deinit(&changed);
    buffer_deinit(&weights);
}

static void configurations_are_checked(void **state)
{
    (void)state;
    expect_config("llama", "\"model_type\": \"llama\"", "\"model_type\": \"t5\"",
                  LLCUDA_UNSUPPORTED, "architecture 't5' is not supported");
    expect_config("llama", "\"model_type\": \"llama\"", "\"model_type\": \"gpt_oss\"",
                  LLCUDA_UNSUPPORTED, "use its GGUF file");
    expect_config("mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5",
                  LLCUDA_BAD_FORMAT, "a token goes to 5 experts, but there are 4 of them");
    expect_config("mixtral", "\"num_local_experts\": 4", "\"num_local_experts\": 5",
                  LLCUDA_BAD_FORMAT, "gate.weight' is [4, 32], wanted is [5, 32]");
    expect_config("qwen3moe", "\"num_experts\": 8", "\"num_experts\": 0", LLCUDA_BAD_FORMAT, "");
    expect_config("qwen3moe", "\"moe_intermediate_size\": 24", "\"moe_intermediate_size\": 25",
                  LLCUDA_BAD_FORMAT, "experts.0.gate_proj.weight' is [24, 32], wanted is [25, 32]");
    expect_config("llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu6\"",
                  LLCUDA_UNSUPPORTED, "activation 'relu6'");
    expect_config("llama", "\"hidden_act\": \"silu\"",
                  "\"quantization_config\": "
                  "{\"quant_method\": \"awq\"}",
                  LLCUDA_UNSUPPORTED, "quantised with 'awq'");
    expect_config("llama", "\"head_dim\": 8", "\"head_dim\": 9", LLCUDA_BAD_FORMAT,
                  "the head size 9");
    expect_config("llama", "\"attention_bias\": false", "\"attention_bias\": true",
                  LLCUDA_BAD_FORMAT, "'model.layers.0.self_attn.q_proj.bias' [32] is missing");
    expect_config("llama-linear-bias", "\"mlp_bias\": true", "\"mlp_bias\": false",
                  LLCUDA_UNSUPPORTED, ".mlp.");
    expect_config("llama-yarn", "\"rope_type\": \"yarn\"", "\"rope_type\": \"spiral\"",
                  LLCUDA_UNSUPPORTED, "rotary scaling 'spiral'");
    expect_config("llama-rope3", "\"rope_scaling\": {", "\"rope_scaling\": 5, \"other\": {",
                  LLCUDA_BAD_FORMAT, "rope_scaling of config.json must be an object");
    expect_config("llama-rope3", "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0",
                  LLCUDA_BAD_FORMAT, "low_freq_factor 4 is not below");
    expect_config("llama", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true",
                  LLCUDA_OK, "");
    expect_config("gemma3", "\"full_attention\",", "\"full_attention\", \"full_attention\",",
                  LLCUDA_BAD_FORMAT, "layer_types must be an array of 3 names");
    expect_config("gemma3", "\"full_attention\",", "\"linear_attention\",", LLCUDA_UNSUPPORTED,
                  "layer type 'linear_attention'");
    expect_config("gemma3", "\"use_bidirectional_attention\": false",
                  "\"use_bidirectional_attention\": true", LLCUDA_UNSUPPORTED, "embeds text");
    expect_config("phi3-longrope", "1.8", "0", LLCUDA_BAD_FORMAT,
                  "rope_parameters.short_factor: element 3");
    expect_config("phi3-longrope", "1.8", "\"a\"", LLCUDA_BAD_FORMAT, "element 3");
    expect_config("phi3-longrope", "1.3,", "", LLCUDA_BAD_FORMAT, "array of 4 numbers");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(unknown_architectures_are_named),
    cmocka_unit_test(tensors_are_checked),
    cmocka_unit_test(unused_tensors_are_refused),
    cmocka_unit_test(features_are_named),
    cmocka_unit_test(experts_are_checked),
    cmocka_unit_test(vectors_must_be_plain),
    cmocka_unit_test(info_says_what_the_file_says),
    cmocka_unit_test(configurations_are_checked),
};

TEST_MAIN(tests)
