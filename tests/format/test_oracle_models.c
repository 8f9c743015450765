/* Models and vocabularies that others made, when they are there: all open; the same weights in both
 * formats are equal up to the order of the rotary rows. */
#include "format/model_files.h"

#include "base/clock.h"
#include "base/file.h"
#include "format/model_source.h"

static struct model_source *open_oracle(const char *name, bool header_only)
{
    char *path = test_oracle_path(name);
    if (!path) {
        return NULL;
    }
    struct model_source *source;
    struct llcuda_error error;
    assert_ok(model_source_open(path, header_only, &source, &error), error);
    free(path);
    return source;
}

/* Where row `row` of a Hugging Face query or key matrix is in GGUF: heads of 8 rows, whose halves
 * are interleaved there. */
static uint64_t rotary_row(uint64_t row)
{
    enum { HEAD = 8 };
    uint64_t in_head = row % HEAD;
    return row - in_head + 2 * (in_head % (HEAD / 2)) + in_head / (HEAD / 2);
}

static void same_tensor(const struct model_source *gguf, const struct model_source *hf,
                        const char *gguf_name, const char *hf_name, bool rotary)
{
    const struct tensor *a = model_source_find(gguf, text_view_of(gguf_name));
    const struct tensor *b = model_source_find(hf, text_view_of(hf_name));
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->bytes, b->bytes);
    for (uint32_t i = 0; i < a->rank; i++) {
        assert_int_equal(a->shape[i], b->shape[i]);
    }
    uint64_t rows = a->rank == 2 ? a->shape[0] : 1;
    uint64_t row_bytes = a->bytes / rows;
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t place = rotary ? rotary_row(row) : row;
        assert_memory_equal((const char *)a->data + place * row_bytes,
                            (const char *)b->data + row * row_bytes, row_bytes);
    }
}

static void both_formats_hold_the_same_weights(void **state)
{
    (void)state;
    struct model_source *gguf = open_oracle("models/stories260K-f32.gguf", false);
    struct model_source *hf = open_oracle("models/stories260K-hf", false);
    if (!gguf || !hf) {
        skip();
    }
    static const struct {
        const char *gguf_name;
        const char *hf_name;
        bool rotary;
    } layer_tensors[] = {
        {"attn_norm", "input_layernorm", false}, {"ffn_norm", "post_attention_layernorm", false},
        {"attn_q", "self_attn.q_proj", true},    {"attn_k", "self_attn.k_proj", true},
        {"attn_v", "self_attn.v_proj", false},   {"attn_output", "self_attn.o_proj", false},
        {"ffn_gate", "mlp.gate_proj", false},    {"ffn_up", "mlp.up_proj", false},
        {"ffn_down", "mlp.down_proj", false},
    };
    same_tensor(gguf, hf, "token_embd.weight", "model.embed_tokens.weight", false);
    same_tensor(gguf, hf, "output_norm.weight", "model.norm.weight", false);
    for (int layer = 0; layer < 5; layer++) {
        for (size_t i = 0; i < sizeof layer_tensors / sizeof layer_tensors[0]; i++) {
            char gguf_name[64];
            char hf_name[64];
            snprintf(gguf_name, sizeof gguf_name, "blk.%d.%s.weight", layer,
                     layer_tensors[i].gguf_name);
            snprintf(hf_name, sizeof hf_name, "model.layers.%d.%s.weight", layer,
                     layer_tensors[i].hf_name);
            same_tensor(gguf, hf, gguf_name, hf_name, layer_tensors[i].rotary);
        }
    }
    const struct model_source *both[] = {gguf, hf};
    for (size_t i = 0; i < 2; i++) {
        uint32_t value;
        double number;
        struct llcuda_error error;
        assert_true(text_view_is(model_source_architecture(both[i]), "llama"));
        assert_ok(
            model_source_u32(both[i], "embedding_length", "hidden_size", 1, 1024, &value, &error),
            error);
        assert_int_equal(value, 64);
        assert_ok(model_source_number(both[i], "attention.layer_norm_rms_epsilon", "rms_norm_eps",
                                      0, 1, &number, &error),
                  error);
        assert_true(number > 0.99e-5 && number < 1.01e-5);
    }
    model_source_close(hf);
    model_source_close(gguf);
}

static void vocabularies_open_quickly(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t tokens;
    } files[] = {
        {"tokenizer/llama-3-vocab.gguf", 128256},
        {"tokenizer/llama-spm-vocab.gguf", 32000},
        {"tokenizer/gpt-2-vocab.gguf", 50257},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        uint64_t begin = clock_now_ns();
        struct model_source *source = open_oracle(files[i].name, false);
        if (!source) {
            skip();
        }
        printf("%s opens in %.2f ms\n", files[i].name, clock_ms(clock_now_ns() - begin));
        const struct gguf *gguf = model_source_gguf(source);
        const struct gguf_value *tokens;
        struct llcuda_error error;
        assert_ok(gguf_read_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, files[i].tokens,
                                  &tokens, &error),
                  error);
        assert_int_equal(model_source_tensor_count(source), 0);
        touch_gguf(gguf);
        model_source_close(source);
    }
}

/* Every byte of the header of a real model, and of the padding behind it. */
static void survives_every_header_byte(void **state)
{
    (void)state;
    char *path = test_oracle_path("models/stories260K-f32.gguf");
    if (!path) {
        skip();
    }
    struct buffer file = {0};
    struct llcuda_error error;
    struct model_source *source;
    assert_ok(file_read_all(path, 1u << 24, &file, &error), error);
    free(path);
    assert_ok(model_source_open_memory(file.data, file.length, &source, &error), error);
    const char *data = model_source_tensor_at(source, 0)->data;
    size_t header = (size_t)(data - file.data);
    model_source_close(source);
    size_t opened = 0;
    size_t refused = 0;
    for (size_t i = 0; i < header; i++) {
        uint8_t original = (uint8_t)file.data[i];
        const uint8_t values[] = {0, 0xff, original ^ 1, original ^ 0x80};
        for (size_t k = 0; k < sizeof values; k++) {
            file.data[i] = (char)values[k];
            llcuda_status status =
                model_source_open_memory(file.data, file.length, &source, &error);
            assert_int_equal(status == LLCUDA_OK, source != NULL);
            opened += status == LLCUDA_OK;
            refused += status != LLCUDA_OK;
            model_source_close(source);
        }
        file.data[i] = (char)original;
    }
    printf("%zu header bytes: %zu opened, %zu refused\n", header, opened, refused);
    assert_true(refused > header);
    buffer_deinit(&file);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(both_formats_hold_the_same_weights),
    cmocka_unit_test(vocabularies_open_quickly),
    cmocka_unit_test(survives_every_header_byte),
};

TEST_MAIN(tests)
