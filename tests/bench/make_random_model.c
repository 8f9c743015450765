/* Writes a GGUF file of a published shape with random weights, for measurements of speed and
 * memory:
 *
 *     make_random_model SHAPE TYPE OUT.gguf [HF_FOLDER]
 *
 * With a folder, the same weights also go there as Hugging Face would keep them (config.json and
 * model.safetensors, no tokenizer), for engines that read no GGUF; TYPE is then f32, f16 or bf16.
 * SHAPE: tiny, thin, medium, llama-1b (Llama 3.2), llama-8b (Llama 3.1); with experts tiny-experts,
 * mixtral-2l (two layers of Mixtral 8x7B) and fine-experts (eight layers with the 128 experts of
 * Qwen3-30B-A3B). TYPE: f32 f16 bf16 q8_0
 * q4_0 q4_1 q5_0 q5_1 mxfp4 q2_k q3_k q4_k q5_k q6_k, or q4_k_m, the usual mix of q4_k and q6_k.
 *
 * Weights are cut from a pool of normally distributed values that is quantised once, at random
 * places: speed does not depend on them, and a real quantisation of a billion weights would take
 * minutes. The vocabulary is the 256 bytes and made-up words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/random.h"
#include "base/utf8.h"
#include "format/gguf_write.h"
#include "tensor/quant.h"

#define POOL_ELEMENTS (1u << 20)

struct shape {
    const char *name;
    uint32_t layers, embedding, feed_forward, heads, kv_heads, head_size, vocabulary, context;
    bool tied;
    uint32_t experts, experts_used; /* `feed_forward` is the width of one */
};

static const struct shape shapes[] = {
    {"tiny", 2, 256, 768, 4, 2, 64, 1024, 2048, true, 0, 0},
    {"thin", 16, 256, 768, 4, 2, 64, 1024, 2048, true, 0,
     0}, /* the launches of 1b, and little else */
    {"medium", 8, 1024, 4096, 16, 4, 64, 8192, 4096, true, 0, 0},
    {"llama-1b", 16, 2048, 8192, 32, 8, 64, 128256, 131072, true, 0, 0},
    {"llama-8b", 32, 4096, 14336, 32, 8, 128, 128256, 131072, false, 0, 0},
    {"tiny-experts", 2, 256, 256, 4, 2, 64, 1024, 2048, true, 8, 2},
    {"mixtral-2l", 2, 4096, 14336, 32, 8, 128, 32000, 32768, false, 8, 2},
    {"fine-experts", 8, 2048, 768, 32, 4, 128, 32000, 32768, false, 128, 8},
};

/* The passes over all tensors: a table and the data, of each of the two files. */
enum pass { GGUF_TABLE, GGUF_DATA, HF_TABLE, HF_DATA };

struct maker {
    const struct shape *shape;
    bool mixed;       /* q4_k_m */
    enum dtype dtype; /* of most matrices */
    struct gguf_writer *writer;
    unsigned char *pools[DTYPE_COUNT];
    uint64_t state;
    enum pass pass;
    FILE *safetensors;
    struct buffer header; /* of the SafeTensors file */
    uint64_t hf_bytes;    /* of its tensors so far */
    struct llcuda_error error;
    llcuda_status status;
};

static uint64_t next_random(struct maker *maker)
{
    maker->state += 0x9E3779B97F4A7C15ull;
    return random_mix(maker->state);
}

static float next_normal(struct maker *maker)
{
    double u = (double)(next_random(maker) >> 11) * 0x1p-53 + 0x1p-54;
    double v = (double)(next_random(maker) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static const unsigned char *pool(struct maker *maker, enum dtype dtype)
{
    if (!maker->pools[dtype]) {
        uint64_t bytes;
        float *values = malloc(POOL_ELEMENTS * sizeof *values);
        dtype_row_bytes(dtype, POOL_ELEMENTS, &bytes);
        maker->pools[dtype] = malloc(bytes);
        if (!values || !maker->pools[dtype]) {
            exit(1);
        }
        /* A series of its own, so that the places in it are the same in every pass. */
        uint64_t state = maker->state;
        maker->state = random_mix(1000u + (uint64_t)dtype);
        for (uint32_t i = 0; i < POOL_ELEMENTS; i++) {
            values[i] = 0.02f * next_normal(maker);
        }
        if (!quantize_row(dtype, values, NULL, maker->pools[dtype], POOL_ELEMENTS)) {
            fprintf(stderr, "%s cannot be written\n", dtype_info(dtype)->name);
            exit(1);
        }
        maker->state = state;
        free(values);
    }
    return maker->pools[dtype];
}

static void hf_check(struct maker *maker, bool fine)
{
    if (!fine && !maker->status) {
        maker->status = error_set(&maker->error, LLCUDA_IO, "the folder cannot be written");
    }
}

/* What Hugging Face calls a tensor of GGUF. */
static void hf_name(const char *gguf, char *out, size_t bytes)
{
    static const char *const parts[][2] = {
        {"attn_norm.weight", "input_layernorm.weight"},
        {"ffn_norm.weight", "post_attention_layernorm.weight"},
        {"attn_q.weight", "self_attn.q_proj.weight"},
        {"attn_k.weight", "self_attn.k_proj.weight"},
        {"attn_v.weight", "self_attn.v_proj.weight"},
        {"attn_output.weight", "self_attn.o_proj.weight"},
        {"ffn_gate.weight", "mlp.gate_proj.weight"},
        {"ffn_up.weight", "mlp.up_proj.weight"},
        {"ffn_down.weight", "mlp.down_proj.weight"},
    };
    unsigned layer = 0;
    int used = 0;
    if (sscanf(gguf, "blk.%u.%n", &layer, &used) == 1) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            if (strcmp(gguf + used, parts[i][0]) == 0) {
                snprintf(out, bytes, "model.layers.%u.%s", layer, parts[i][1]);
            }
        }
    } else {
        snprintf(out, bytes, "%s",
                 strcmp(gguf, "token_embd.weight") == 0    ? "model.embed_tokens.weight"
                 : strcmp(gguf, "output_norm.weight") == 0 ? "model.norm.weight"
                                                           : "lm_head.weight");
    }
}

static void hf_add(struct maker *maker, const char *gguf, uint64_t rows, uint64_t columns)
{
    char name[96];
    char shape[48];
    const char *type = maker->dtype == DTYPE_F32   ? "F32"
                       : maker->dtype == DTYPE_F16 ? "F16"
                                                   : "BF16";
    uint64_t bytes = (rows ? rows : 1) * columns * dtype_info(maker->dtype)->block_bytes;
    hf_name(gguf, name, sizeof name);
    if (rows) {
        snprintf(shape, sizeof shape, "%llu,%llu", (unsigned long long)rows,
                 (unsigned long long)columns);
    } else {
        snprintf(shape, sizeof shape, "%llu", (unsigned long long)columns);
    }
    buffer_printf(
        &maker->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
        maker->header.length > 1 ? "," : "", name, type, shape, (unsigned long long)maker->hf_bytes,
        (unsigned long long)(maker->hf_bytes + bytes));
    maker->hf_bytes += bytes;
}

/* The row of GGUF that is row `row` of Hugging Face's file. GGUF pairs the neighbours that rotary
 * embedding turns together; Hugging Face keeps the halves of a head apart. */
static uint64_t gguf_row(const struct maker *maker, const char *name, uint64_t row)
{
    uint64_t size = maker->shape->head_size;
    if (!strstr(name, "attn_q.") && !strstr(name, "attn_k.")) {
        return row;
    }
    uint64_t within = row % size;
    return row - within + within % (size / 2) * 2 + within / (size / 2);
}

/* One matrix, or with a `count` so many of one shape in one tensor. */
static void matrices(struct maker *maker, const char *name, enum dtype dtype, uint64_t count,
                     uint64_t rows, uint64_t columns)
{
    const uint64_t shape[3] = {count, rows, columns};
    if (maker->status) {
        return;
    }
    if (maker->pass == GGUF_TABLE) {
        maker->status =
            gguf_writer_add_tensor(maker->writer, text_view_of(name), dtype, count ? 3 : 2,
                                   count ? shape : shape + 1, &maker->error);
        return;
    }
    rows *= count ? count : 1;
    if (maker->pass == HF_TABLE) {
        hf_add(maker, name, rows, columns);
        return;
    }
    const unsigned char *source = pool(maker, dtype);
    const struct dtype_info *info = dtype_info(dtype);
    uint64_t row_blocks = columns / info->block_elements;
    uint64_t row_bytes = row_blocks * info->block_bytes;
    uint64_t free_blocks = POOL_ELEMENTS / info->block_elements - row_blocks;
    uint64_t *begins = malloc(rows * sizeof *begins);
    if (!begins) {
        exit(1);
    }
    for (uint64_t row = 0; row < rows; row++) {
        begins[row] = next_random(maker) % (free_blocks + 1) * info->block_bytes;
    }
    for (uint64_t row = 0; !maker->status && row < rows; row++) {
        if (maker->pass == GGUF_DATA) {
            maker->status =
                gguf_writer_data(maker->writer, source + begins[row], row_bytes, &maker->error);
        } else {
            const unsigned char *data = source + begins[gguf_row(maker, name, row)];
            hf_check(maker, fwrite(data, row_bytes, 1, maker->safetensors) == 1);
        }
    }
    free(begins);
}

static void matrix(struct maker *maker, const char *name, enum dtype dtype, uint64_t rows,
                   uint64_t columns)
{
    matrices(maker, name, dtype, 0, rows, columns);
}

static void norm(struct maker *maker, const char *name, uint64_t length)
{
    const float one = 1;
    if (maker->status) {
        return;
    }
    if (maker->pass == GGUF_TABLE) {
        maker->status = gguf_writer_add_tensor(maker->writer, text_view_of(name), DTYPE_F32, 1,
                                               &length, &maker->error);
    } else if (maker->pass == HF_TABLE) {
        hf_add(maker, name, 0, length);
    }
    for (uint64_t i = 0; !maker->status && maker->pass == GGUF_DATA && i < length; i++) {
        maker->status = gguf_writer_data(maker->writer, &one, sizeof one, &maker->error);
    }
    for (uint64_t i = 0; maker->pass == HF_DATA && i < length; i++) {
        unsigned char bits[4];
        quantize_row(maker->dtype, &one, NULL, bits, 1);
        hf_check(maker,
                 fwrite(bits, dtype_info(maker->dtype)->block_bytes, 1, maker->safetensors) == 1);
    }
}

/* q4_k_m keeps the more sensitive matrices in six bits: values, half of the down projections, and
 * the output. */
static enum dtype sensitive(const struct maker *maker, uint32_t layer)
{
    uint32_t eighth = maker->shape->layers / 8;
    bool better = layer < eighth || layer >= 7 * eighth || (layer - eighth) % 3 == 2;
    return maker->mixed && better ? DTYPE_Q6_K : maker->dtype;
}

static void layer(struct maker *maker, uint32_t index)
{
    const struct shape *shape = maker->shape;
    uint64_t query = (uint64_t)shape->heads * shape->head_size;
    uint64_t key = (uint64_t)shape->kv_heads * shape->head_size;
    uint64_t experts = shape->experts;
    const struct {
        const char *name;
        uint64_t count, rows, columns;
        enum dtype dtype;
    } list[] = {
        {"attn_q", 0, query, shape->embedding, maker->dtype},
        {"attn_k", 0, key, shape->embedding, maker->dtype},
        {"attn_v", 0, key, shape->embedding, sensitive(maker, index)},
        {"attn_output", 0, shape->embedding, query, maker->dtype},
        {experts ? "ffn_gate_exps" : "ffn_gate", experts, shape->feed_forward, shape->embedding,
         maker->dtype},
        {experts ? "ffn_up_exps" : "ffn_up", experts, shape->feed_forward, shape->embedding,
         maker->dtype},
        {experts ? "ffn_down_exps" : "ffn_down", experts, shape->embedding, shape->feed_forward,
         sensitive(maker, index)},
    };
    char name[64];
    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", index);
    norm(maker, name, shape->embedding);
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", index);
    norm(maker, name, shape->embedding);
    if (experts) {
        snprintf(name, sizeof name, "blk.%u.ffn_gate_inp.weight", index);
        matrix(maker, name, DTYPE_F32, experts, shape->embedding);
    }
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        snprintf(name, sizeof name, "blk.%u.%s.weight", index, list[i].name);
        matrices(maker, name, list[i].dtype, list[i].count, list[i].rows, list[i].columns);
    }
}

static void tensors(struct maker *maker)
{
    const struct shape *shape = maker->shape;
    enum dtype output = maker->mixed ? DTYPE_Q6_K : maker->dtype;
    matrix(maker, "token_embd.weight", output, shape->vocabulary, shape->embedding);
    for (uint32_t i = 0; i < shape->layers; i++) {
        layer(maker, i);
    }
    norm(maker, "output_norm.weight", shape->embedding);
    if (!shape->tied) {
        matrix(maker, "output.weight", output, shape->vocabulary, shape->embedding);
    }
}

/* GPT-2's printable stand-in for a byte. */
static uint32_t byte_character(uint32_t byte)
{
    bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    uint32_t before = 0;
    for (uint32_t b = 0; b < byte; b++) {
        before += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    }
    return plain ? byte : 256 + before;
}

static void vocabulary(struct maker *maker)
{
    uint32_t count = maker->shape->vocabulary;
    struct text_view *pieces = calloc(count, sizeof *pieces);
    int32_t *kinds = calloc(count, sizeof *kinds);
    char *text = malloc((size_t)count * 16);
    const struct text_view merge = text_view_of("a b");
    if (!pieces || !kinds || !text) {
        exit(1);
    }
    for (uint32_t i = 0; i < count; i++) {
        char *piece = text + (size_t)i * 16;
        size_t length =
            i < 256 ? utf8_encode(byte_character(i), piece) : (size_t)snprintf(piece, 16, "w%u", i);
        pieces[i] = text_view_make(piece, length);
        kinds[i] = 1;
    }
    pieces[256] = text_view_of("<bos>");
    pieces[257] = text_view_of("<eos>");
    pieces[258] = text_view_of("ab");
    kinds[256] = kinds[257] = 3;
    gguf_writer_add_text(maker->writer, "tokenizer.ggml.model", text_view_of("gpt2"));
    gguf_writer_add_text(maker->writer, "tokenizer.ggml.pre", text_view_of("llama-bpe"));
    gguf_writer_add_texts(maker->writer, "tokenizer.ggml.tokens", pieces, count);
    gguf_writer_add_array(maker->writer, "tokenizer.ggml.token_type", GGUF_I32, kinds, count);
    gguf_writer_add_texts(maker->writer, "tokenizer.ggml.merges", &merge, 1);
    gguf_writer_add_u32(maker->writer, "tokenizer.ggml.bos_token_id", 256);
    gguf_writer_add_u32(maker->writer, "tokenizer.ggml.eos_token_id", 257);
    free(pieces);
    free(kinds);
    free(text);
}

static void metadata(struct maker *maker)
{
    const struct shape *shape = maker->shape;
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"llama.block_count", shape->layers},
        {"llama.context_length", shape->context},
        {"llama.embedding_length", shape->embedding},
        {"llama.feed_forward_length", shape->feed_forward},
        {"llama.attention.head_count", shape->heads},
        {"llama.attention.head_count_kv", shape->kv_heads},
        {"llama.attention.key_length", shape->head_size},
        {"llama.attention.value_length", shape->head_size},
        {"llama.rope.dimension_count", shape->head_size},
        {"llama.vocab_size", shape->vocabulary},
    };
    gguf_writer_add_text(maker->writer, "general.architecture", text_view_of("llama"));
    if (shape->experts) {
        gguf_writer_add_u32(maker->writer, "llama.expert_count", shape->experts);
        gguf_writer_add_u32(maker->writer, "llama.expert_used_count", shape->experts_used);
    }
    gguf_writer_add_text(maker->writer, "general.name", text_view_of("random weights"));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        gguf_writer_add_u32(maker->writer, numbers[i].key, numbers[i].value);
    }
    gguf_writer_add_f32(maker->writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_writer_add_f32(maker->writer, "llama.rope.freq_base", 500000.0f);
    vocabulary(maker);
}

static bool choose(struct maker *maker, const char *shape, const char *type)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shape, shapes[i].name) == 0) {
            maker->shape = &shapes[i];
        }
    }
    maker->mixed = strcmp(type, "q4_k_m") == 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(maker->mixed ? "q4_k" : type, dtype_info((enum dtype)i)->name) == 0) {
            maker->dtype = (enum dtype)i;
            return maker->shape != NULL;
        }
    }
    return false;
}

static FILE *hf_open(struct maker *maker, const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    hf_check(maker, file != NULL);
    return file;
}

static void hf_config(struct maker *maker, const char *folder)
{
    const struct shape *shape = maker->shape;
    FILE *file = hf_open(maker, folder, "config.json");
    if (!file) {
        return;
    }
    fprintf(file,
            "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n"
            " \"torch_dtype\": \"%s\", \"vocab_size\": %u, \"hidden_size\": %u,\n"
            " \"intermediate_size\": %u, \"num_hidden_layers\": %u, \"num_attention_heads\": %u,\n"
            " \"num_key_value_heads\": %u, \"head_dim\": %u, \"max_position_embeddings\": %u,\n"
            " \"rope_theta\": 500000.0, \"rope_scaling\": null, \"rms_norm_eps\": 1e-05,\n"
            " \"hidden_act\": \"silu\", \"attention_bias\": false, \"mlp_bias\": false,\n"
            " \"tie_word_embeddings\": %s, \"bos_token_id\": 256, \"eos_token_id\": 257}\n",
            maker->dtype == DTYPE_F32   ? "float32"
            : maker->dtype == DTYPE_F16 ? "float16"
                                        : "bfloat16",
            shape->vocabulary, shape->embedding, shape->feed_forward, shape->layers, shape->heads,
            shape->kv_heads, shape->head_size, shape->context, shape->tied ? "true" : "false");
    hf_check(maker, fclose(file) == 0);
}

/* The folder: eight bytes of length, the header padded with spaces, and the tensors. */
static void write_hf(struct maker *maker, const char *folder)
{
    uint64_t begin_state = 1;
    mkdir(folder, 0755);
    hf_config(maker, folder);
    maker->safetensors = hf_open(maker, folder, "model.safetensors");
    if (!maker->safetensors) {
        return;
    }
    maker->pass = HF_TABLE;
    buffer_append_byte(&maker->header, '{');
    tensors(maker);
    buffer_append_byte(&maker->header, '}');
    while (maker->header.length % 8) {
        buffer_append_byte(&maker->header, ' ');
    }
    uint64_t length = maker->header.length;
    hf_check(maker, !maker->header.failed && fwrite(&length, 8, 1, maker->safetensors) == 1 &&
                        fwrite(maker->header.data, length, 1, maker->safetensors) == 1);
    maker->pass = HF_DATA;
    maker->state = begin_state;
    tensors(maker);
    hf_check(maker, fclose(maker->safetensors) == 0);
}

static void write_gguf(struct maker *maker, const char *path)
{
    maker->status = gguf_writer_create(path, &maker->writer, &maker->error);
    if (!maker->status) {
        metadata(maker);
        tensors(maker);
    }
    if (!maker->status) {
        maker->status = gguf_writer_begin_data(maker->writer, &maker->error);
        maker->pass = GGUF_DATA;
        tensors(maker);
    }
    if (maker->status) {
        gguf_writer_abort(maker->writer);
    } else {
        maker->status = gguf_writer_finish(maker->writer, &maker->error);
    }
}

int main(int count, char **arguments)
{
    struct maker maker = {.state = 1};
    if (count < 4 || count > 5 || !choose(&maker, arguments[1], arguments[2]) ||
        (count == 5 && (dtype_info(maker.dtype)->block_elements != 1 || maker.shape->experts))) {
        fprintf(stderr, "usage: make_random_model SHAPE TYPE OUT.gguf [HF_FOLDER]\nwith a folder "
                        "TYPE is f32, f16 or bf16, and there are no experts; shapes:");
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            fprintf(stderr, " %s", shapes[i].name);
        }
        fprintf(stderr, "\n");
        return 2;
    }
    write_gguf(&maker, arguments[3]);
    if (!maker.status && count == 5) {
        write_hf(&maker, arguments[4]);
    }
    for (int i = 0; i < DTYPE_COUNT; i++) {
        free(maker.pools[i]);
    }
    buffer_deinit(&maker.header);
    if (maker.status) {
        fprintf(stderr, "make_random_model: %s\n", maker.error.message);
        return 1;
    }
    return 0;
}
