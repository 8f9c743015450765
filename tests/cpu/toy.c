/* Owns the toy models and their plain forward pass. One thread. */
#include "cpu/toy.h"

#include "cpu/guard.h"
#include "cpu/random_blocks.h"

#include "tensor/quant.h"

struct toy_options toy_defaults(void)
{
    return (struct toy_options){
        .embedding = 64,
        .heads = 4,
        .kv_heads = 2,
        .head_size = 16,
        .feed_forward = 96,
        .vocabulary = 101,
        .layers = 2,
        .dtype = DTYPE_F32,
        .gain = 1.5f,
        .rotary = PLAN_ROTARY_HALF,
    };
}

static bool coin(void)
{
    return test_random_below(2) != 0;
}

struct toy_options toy_random_options(void)
{
    static const uint32_t head_sizes[] = {8, 16, 20, 32, 64, 80};
    struct toy_options options = toy_defaults();
    options.kv_heads = 1 + (uint32_t)test_random_below(3);
    options.heads = options.kv_heads * (1 + (uint32_t)test_random_below(4));
    options.head_size = head_sizes[test_random_below(6)];
    options.embedding = 32 * (1 + (uint32_t)test_random_below(4));
    options.feed_forward = 32 * (1 + (uint32_t)test_random_below(8));
    options.vocabulary = 3 + (uint32_t)test_random_below(200);
    options.layers = 1 + (uint32_t)test_random_below(3);
    options.biases = coin();
    options.head_norms = coin();
    options.sinks = coin();
    options.layer_norm = coin();
    options.ungated = coin();
    options.product_norm = coin();
    options.tied = coin();
    options.rotary = (enum plan_rotary_kind)test_random_below(3);
    options.activation = (enum plan_activation)test_random_below(3);
    options.attention_cap = coin() ? 20.0f : 0.0f;
    options.logits_cap = coin() ? 10.0f : 0.0f;
    options.window = coin() ? 1 + (uint32_t)test_random_below(40) : 0;
    return options;
}

void toy_random_experts(struct toy_options *options)
{
    static const uint32_t counts[] = {1, 2, 3, 4, 8, 17, 33};
    options->experts = counts[test_random_below(7)];
    uint32_t most = options->experts < 6 ? options->experts : 6;
    options->experts_used = 1 + (uint32_t)test_random_below(most);
    options->expert_width = 32 * (1 + (uint32_t)test_random_below(4));
    options->shared_width = coin() ? 32 * (1 + (uint32_t)test_random_below(3)) : 0;
    options->sigmoid = coin();
    options->normalised = coin();
    options->expert_biases = coin();
    options->selection_bias = coin();
    options->shared_router = coin();
    if (coin()) {
        options->activation = PLAN_SWIGLU_CLAMPED;
        options->ungated = false;
    }
}

/* --- making --------------------------------------------------------------------------------- */

static uint32_t add_weight(struct toy *toy, const char *name, enum dtype dtype, uint64_t rows,
                           uint64_t columns, float mean, float deviation)
{
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(dtype, columns, &row_bytes));
    /* Odd addresses: a file promises no alignment. The size is exact for the sanitizer. */
    unsigned char *blob = malloc(rows * row_bytes + 1);
    float *row = malloc(columns * sizeof *row);
    assert_non_null(blob);
    assert_non_null(row);
    for (uint64_t r = 0; r < rows; r++) {
        if (r >= 512) { /* large ones repeat: chance is slow */
            memcpy(blob + 1 + r * row_bytes, blob + 1 + (r - 512) * row_bytes, row_bytes);
            continue;
        }
        for (uint64_t c = 0; c < columns; c++) {
            row[c] = mean + deviation * test_random_normal();
        }
        if (!quantize_row(dtype, row, NULL, blob + 1 + r * row_bytes, columns)) {
            random_row(dtype, deviation, blob + 1 + r * row_bytes, columns);
        }
    }
    free(row);
    assert_true(toy->blob_count < sizeof toy->blobs / sizeof *toy->blobs);
    toy->blobs[toy->blob_count++] = blob;
    struct tensor tensor = {
        .name = text_view_of(name),
        .dtype = dtype,
        .rank = rows == 1 ? 1 : 2,
        .shape = {rows == 1 ? columns : rows, columns},
        .data = blob + 1,
        .bytes = rows * row_bytes,
    };
    uint32_t index = plan_add_weight(toy->plan, &tensor, 0, tensor.shape[0]);
    assert_int_not_equal(index, PLAN_NONE);
    return index;
}

static uint32_t add_matrix(struct toy *toy, const char *name, uint64_t rows, uint64_t columns)
{
    return add_weight(toy, name, toy->options.dtype, rows, columns, 0.0f,
                      toy->options.gain / sqrtf((float)columns));
}

static uint32_t add_vector(struct toy *toy, const char *name, uint64_t count, float mean)
{
    return add_weight(toy, name, DTYPE_F32, 1, count, mean, 0.2f);
}

static uint32_t add_bias(struct toy *toy, uint64_t count)
{
    return toy->options.biases ? add_vector(toy, "bias", count, 0.0f) : PLAN_NONE;
}

static struct plan_norm make_norm(struct toy *toy)
{
    struct plan_norm norm = {.bias = PLAN_NONE, .epsilon = 1e-5f};
    norm.kind = toy->options.layer_norm ? PLAN_NORM_LAYER : PLAN_NORM_RMS;
    norm.weight_offset = coin() && !toy->options.layer_norm ? 1.0f : 0.0f;
    norm.weight = add_vector(toy, "norm", toy->options.embedding, 1.0f - norm.weight_offset);
    if (toy->options.layer_norm) {
        norm.bias = add_bias(toy, toy->options.embedding);
    }
    return norm;
}

static void add_qkv(struct toy *toy, uint32_t layer, uint32_t table)
{
    const struct toy_options *o = &toy->options;
    uint64_t query_width = (uint64_t)o->heads * o->head_size;
    uint64_t key_width = (uint64_t)o->kv_heads * o->head_size;
    struct plan_op *op = plan_add_op(toy->plan, PLAN_QKV, layer);
    assert_non_null(op);
    op->qkv.norm = make_norm(toy);
    op->qkv.query = add_matrix(toy, "query", query_width, o->embedding);
    op->qkv.key = add_matrix(toy, "key", key_width, o->embedding);
    op->qkv.value = add_matrix(toy, "value", key_width, o->embedding);
    op->qkv.query_bias = add_bias(toy, query_width);
    op->qkv.key_bias = add_bias(toy, key_width);
    op->qkv.value_bias = add_bias(toy, key_width);
    if (o->head_norms) {
        op->qkv.query_norm = add_vector(toy, "query norm", o->head_size, 1.0f);
        op->qkv.key_norm = add_vector(toy, "key norm", o->head_size, 1.0f);
        op->qkv.head_norm_epsilon = 1e-6f;
    }
    op->qkv.head_count = o->heads;
    op->qkv.kv_head_count = o->kv_heads;
    op->qkv.head_size = o->head_size;
    op->qkv.rotary = o->rotary;
    op->qkv.rotary_size = toy->plan->rotary_tables[table].size;
    op->qkv.rotary_table = table;
}

static void add_attention(struct toy *toy, uint32_t layer)
{
    const struct toy_options *o = &toy->options;
    struct plan_op *op = plan_add_op(toy->plan, PLAN_ATTENTION, layer);
    assert_non_null(op);
    op->attention.head_count = o->heads;
    op->attention.kv_head_count = o->kv_heads;
    op->attention.head_size = o->head_size;
    op->attention.scale = 1.0f / sqrtf((float)o->head_size);
    op->attention.soft_cap = o->attention_cap;
    op->attention.window = layer % 2 ? o->window : 0;
    op->attention.sinks = o->sinks ? add_vector(toy, "sinks", o->heads, 0.5f) : PLAN_NONE;
}

static void add_project(struct toy *toy, uint32_t layer, enum plan_buffer input, uint64_t width)
{
    struct plan_op *op = plan_add_op(toy->plan, PLAN_PROJECT, layer);
    assert_non_null(op);
    op->project.input = input;
    op->project.weight = add_matrix(toy, "project", toy->options.embedding, width);
    op->project.bias = add_bias(toy, toy->options.embedding);
    if (toy->options.product_norm) {
        op->project.norm = make_norm(toy);
    }
}

static uint32_t add_experts(struct toy *toy, const char *name, uint64_t rows, uint64_t columns)
{
    enum dtype others = toy->options.dtype;
    toy->options.dtype =
        toy->options.expert_dtype == DTYPE_F32 ? others : toy->options.expert_dtype;
    uint32_t first = add_matrix(toy, name, rows, columns);
    for (uint32_t i = 1; i < toy->options.experts; i++) {
        add_matrix(toy, name, rows, columns);
    }
    toy->options.dtype = others;
    return first;
}

static uint32_t add_table(struct toy *toy, uint64_t rows, uint64_t columns)
{
    return toy->options.expert_biases
               ? add_weight(toy, "table", DTYPE_F32, rows, columns, 0.0f, 0.2f)
               : PLAN_NONE;
}

static void add_mixture(struct toy *toy, uint32_t layer)
{
    const struct toy_options *o = &toy->options;
    struct plan_op *op = plan_add_op(toy->plan, PLAN_EXPERTS, layer);
    assert_non_null(op);
    op->experts.norm = make_norm(toy);
    op->experts.expert_count = o->experts;
    op->experts.used_count = o->experts_used;
    op->experts.scoring = o->sigmoid ? PLAN_SCORING_SIGMOID : PLAN_SCORING_SOFTMAX;
    op->experts.normalised = o->normalised;
    op->experts.scale = o->sigmoid ? 1.5f : 1.0f;
    op->experts.activation = o->activation;
    /* Large logits: which experts are chosen must not hang on the last bits. */
    op->experts.router = add_weight(toy, "router", DTYPE_F32, o->experts, o->embedding, 0.0f,
                                    3.0f / sqrtf((float)o->embedding));
    op->experts.router_bias =
        o->expert_biases ? add_vector(toy, "bias", o->experts, 0.0f) : PLAN_NONE;
    op->experts.selection_bias =
        o->selection_bias ? add_vector(toy, "bias", o->experts, 0.0f) : PLAN_NONE;
    op->experts.gate = add_experts(toy, "gate", o->expert_width, o->embedding);
    op->experts.up = add_experts(toy, "up", o->expert_width, o->embedding);
    op->experts.down = add_experts(toy, "down", o->embedding, o->expert_width);
    op->experts.gate_bias = add_table(toy, o->experts, o->expert_width);
    op->experts.up_bias = add_table(toy, o->experts, o->expert_width);
    op->experts.down_bias = add_table(toy, o->experts, o->embedding);
    if (o->shared_width != 0) {
        op->experts.shared_gate = add_matrix(toy, "gate", o->shared_width, o->embedding);
        op->experts.shared_up = add_matrix(toy, "up", o->shared_width, o->embedding);
        op->experts.shared_down = add_matrix(toy, "down", o->embedding, o->shared_width);
        op->experts.shared_router =
            o->shared_router ? add_vector(toy, "router", o->embedding, 0.0f) : PLAN_NONE;
    }
}

static void add_layer(struct toy *toy, uint32_t layer, uint32_t table)
{
    const struct toy_options *o = &toy->options;
    add_qkv(toy, layer, table);
    add_attention(toy, layer);
    add_project(toy, layer, PLAN_BUFFER_ATTENDED, (uint64_t)o->heads * o->head_size);
    if (o->experts != 0 && (layer > 0 || o->layers == 1)) {
        add_mixture(toy, layer);
        return;
    }
    struct plan_op *op = plan_add_op(toy->plan, PLAN_FEED_FORWARD, layer);
    assert_non_null(op);
    op->feed_forward.norm = make_norm(toy);
    op->feed_forward.up = add_matrix(toy, "up", o->feed_forward, o->embedding);
    op->feed_forward.up_bias = add_bias(toy, o->feed_forward);
    if (!o->ungated) {
        op->feed_forward.gate = add_matrix(toy, "gate", o->feed_forward, o->embedding);
        op->feed_forward.gate_bias = add_bias(toy, o->feed_forward);
    }
    op->feed_forward.activation = o->activation == PLAN_SWIGLU_CLAMPED ? PLAN_SILU : o->activation;
    add_project(toy, layer, PLAN_BUFFER_HIDDEN, o->feed_forward);
}

struct toy *toy_create(const struct toy_options *options)
{
    struct toy *toy = calloc(1, sizeof *toy);
    assert_non_null(toy);
    toy->options = *options;
    toy->plan = plan_create();
    assert_non_null(toy->plan);
    toy->plan->context_length = 4096;
    float frequencies[512];
    uint32_t rotary_size = options->head_size / 4 * 4;
    for (uint32_t i = 0; i < rotary_size / 2; i++) {
        frequencies[i] = powf(10000.0f, -(float)(2 * i) / (float)rotary_size);
    }
    uint32_t table = plan_add_rotary_table(toy->plan, frequencies, rotary_size, 1.0f);
    struct plan_op *op = plan_add_op(toy->plan, PLAN_EMBED, 0);
    assert_non_null(op);
    uint32_t embedding = add_weight(toy, "embedding", options->dtype, options->vocabulary,
                                    options->embedding, 0.0f, 1.0f);
    op->embed.weight = embedding;
    op->embed.scale = options->tied ? 2.0f : 1.0f;
    for (uint32_t i = 0; i < options->layers; i++) {
        add_layer(toy, i, table);
    }
    op = plan_add_op(toy->plan, PLAN_LOGITS, 0);
    assert_non_null(op);
    op->logits.norm = make_norm(toy);
    op->logits.weight = options->tied
                            ? embedding
                            : add_matrix(toy, "output", options->vocabulary, options->embedding);
    op->logits.bias = add_bias(toy, options->vocabulary);
    op->logits.scale = options->tied ? 0.5f : 1.0f;
    op->logits.soft_cap = options->logits_cap;
    struct llcuda_error error;
    assert_ok(plan_finish(toy->plan, &error), error);
    return toy;
}

void toy_destroy(struct toy *toy)
{
    for (uint32_t i = 0; i < toy->blob_count; i++) {
        free(toy->blobs[i]);
    }
    plan_destroy(toy->plan);
    free(toy);
}

/* --- the plain forward pass ----------------------------------------------------------------- */

static float *weight_row(const struct toy *toy, uint32_t index, uint64_t row)
{
    const struct plan_weight *weight = &toy->plan->weights[index];
    float *values = malloc(weight->columns * sizeof *values);
    assert_non_null(values);
    dequantize_row(weight->dtype,
                   (const unsigned char *)weight->data + row * (weight->bytes / weight->rows),
                   values, weight->columns);
    return values;
}

/* y [count, rows] = x [count, columns] · Wᵀ + bias */
static double *linear(const struct toy *toy, uint32_t index, uint32_t bias, const double *x,
                      uint32_t count)
{
    const struct plan_weight *weight = &toy->plan->weights[index];
    double *y = calloc(count * weight->rows, sizeof *y);
    assert_non_null(y);
    float *offsets = bias == PLAN_NONE ? NULL : weight_row(toy, bias, 0);
    for (uint64_t r = 0; r < weight->rows; r++) {
        float *row = weight_row(toy, index, r);
        for (uint32_t t = 0; t < count; t++) {
            double sum = offsets ? (double)offsets[r] : 0;
            for (uint64_t k = 0; k < weight->columns; k++) {
                sum += (double)row[k] * x[t * weight->columns + k];
            }
            y[t * weight->rows + r] = sum;
        }
        free(row);
    }
    free(offsets);
    return y;
}

static void norm_in_place(double *x, uint64_t width, bool centre, double epsilon,
                          const float *weight, double offset, const float *bias)
{
    double mean = 0;
    double squares = 0;
    for (uint64_t i = 0; i < width; i++) {
        mean += centre ? x[i] / (double)width : 0;
    }
    for (uint64_t i = 0; i < width; i++) {
        squares += (x[i] - mean) * (x[i] - mean) / (double)width;
    }
    for (uint64_t i = 0; i < width; i++) {
        x[i] = (x[i] - mean) / sqrt(squares + epsilon) * (offset + (double)weight[i]) +
               (bias ? (double)bias[i] : 0);
    }
}

static double *norm(const struct toy *toy, const struct plan_norm *norm, const double *x,
                    uint32_t count)
{
    uint64_t width = toy->options.embedding;
    double *y = malloc(count * width * sizeof *y);
    assert_non_null(y);
    memcpy(y, x, count * width * sizeof *y);
    float *weight = weight_row(toy, norm->weight, 0);
    float *bias = norm->bias == PLAN_NONE ? NULL : weight_row(toy, norm->bias, 0);
    for (uint32_t t = 0; t < count; t++) {
        norm_in_place(y + t * width, width, norm->kind == PLAN_NORM_LAYER, (double)norm->epsilon,
                      weight, (double)norm->weight_offset, bias);
    }
    free(weight);
    free(bias);
    return y;
}

static void turn(const struct toy *toy, const struct plan_op *op, double *heads,
                 uint32_t head_count, uint32_t norm_index, uint32_t count)
{
    uint32_t size = op->qkv.head_size;
    const struct plan_rotary_table *table = &toy->plan->rotary_tables[op->qkv.rotary_table];
    float *weight = norm_index == PLAN_NONE ? NULL : weight_row(toy, norm_index, 0);
    for (uint32_t i = 0; i < count * head_count; i++) {
        double *head = heads + (uint64_t)i * size;
        if (weight) {
            norm_in_place(head, size, false, (double)op->qkv.head_norm_epsilon, weight, 0, NULL);
        }
        for (uint32_t p = 0; op->qkv.rotary != PLAN_ROTARY_NONE && p < table->size / 2; p++) {
            double angle = (double)(i / head_count) * (double)table->frequencies[p];
            bool pairs = op->qkv.rotary == PLAN_ROTARY_INTERLEAVED;
            uint32_t a = pairs ? 2 * p : p;
            uint32_t b = pairs ? a + 1 : p + table->size / 2;
            double x = head[a];
            double y = head[b];
            head[a] = x * cos(angle) - y * sin(angle);
            head[b] = y * cos(angle) + x * sin(angle);
        }
    }
    free(weight);
}

static double capped(double x, double cap)
{
    return cap != 0 ? cap * tanh(x / cap) : x;
}

static void attend_head(const struct plan_op *op, const double *query, const double *keys,
                        const double *values, uint64_t stride, uint32_t position, const float *sink,
                        double *out)
{
    uint32_t size = op->attention.head_size;
    uint32_t window = op->attention.window;
    double total = sink ? exp((double)*sink) : 0;
    for (uint32_t d = 0; d < size; d++) {
        out[d] = 0;
    }
    for (uint32_t p = 0; p <= position; p++) {
        if (window != 0 && p + window <= position) {
            continue;
        }
        double score = 0;
        for (uint32_t d = 0; d < size; d++) {
            score += query[d] * keys[p * stride + d];
        }
        double weight =
            exp(capped(score * (double)op->attention.scale, (double)op->attention.soft_cap));
        total += weight;
        for (uint32_t d = 0; d < size; d++) {
            out[d] += weight * values[p * stride + d];
        }
    }
    for (uint32_t d = 0; d < size; d++) {
        out[d] /= total;
    }
}

static double *attend(const struct toy *toy, const struct plan_op *op, const double *query,
                      const double *key, const double *value, uint32_t count)
{
    uint32_t size = op->attention.head_size;
    uint32_t heads = op->attention.head_count;
    uint32_t group = heads / op->attention.kv_head_count;
    uint64_t stride = (uint64_t)op->attention.kv_head_count * size;
    double *out = malloc((uint64_t)count * heads * size * sizeof *out);
    assert_non_null(out);
    float *sinks =
        op->attention.sinks == PLAN_NONE ? NULL : weight_row(toy, op->attention.sinks, 0);
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t head = 0; head < heads; head++) {
            uint64_t at = ((uint64_t)t * heads + head) * size;
            uint64_t kv = (uint64_t)(head / group) * size;
            attend_head(op, query + at, key + kv, value + kv, stride, t,
                        sinks ? &sinks[head] : NULL, out + at);
        }
    }
    free(sinks);
    return out;
}

static double activate(enum plan_activation activation, double x)
{
    switch (activation) {
    case PLAN_SILU:
        return x / (1 + exp(-x));
    case PLAN_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case PLAN_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PLAN_SWIGLU_CLAMPED:
        break;
    }
    return x;
}

static double *feed_forward(const struct toy *toy, const struct plan_op *op, const double *x,
                            uint32_t count)
{
    double *h = norm(toy, &op->feed_forward.norm, x, count);
    double *up = linear(toy, op->feed_forward.up, op->feed_forward.up_bias, h, count);
    double *gate = NULL;
    if (op->feed_forward.gate != PLAN_NONE) {
        gate = linear(toy, op->feed_forward.gate, op->feed_forward.gate_bias, h, count);
    }
    for (uint64_t i = 0; i < (uint64_t)count * toy->options.feed_forward; i++) {
        up[i] = gate ? activate(op->feed_forward.activation, gate[i]) * up[i]
                     : activate(op->feed_forward.activation, up[i]);
    }
    free(h);
    free(gate);
    return up;
}

static double clamped(double gate, double up)
{
    gate = gate > 7 ? 7 : gate;
    up = up > 7 ? 7 : up < -7 ? -7 : up;
    return gate / (1 + exp(-1.702 * gate)) * (up + 1);
}

/* One expert's answer to one row, or the shared expert's; `biases` are rows of the tables. */
static double *expert(const struct toy *toy, enum plan_activation activation,
                      const uint32_t matrices[3], const double *h, const float *gate_bias,
                      const float *up_bias)
{
    uint64_t width = toy->plan->weights[matrices[1]].rows;
    double *gate = linear(toy, matrices[0], PLAN_NONE, h, 1);
    double *up = linear(toy, matrices[1], PLAN_NONE, h, 1);
    for (uint64_t i = 0; i < width; i++) {
        double g = gate[i] + (gate_bias ? (double)gate_bias[i] : 0);
        double u = up[i] + (up_bias ? (double)up_bias[i] : 0);
        up[i] = activation == PLAN_SWIGLU_CLAMPED ? clamped(g, u) : activate(activation, g) * u;
    }
    double *y = linear(toy, matrices[2], PLAN_NONE, up, 1);
    free(gate);
    free(up);
    return y;
}

/* p of all experts; those not chosen become 0. */
static void choose(const struct toy *toy, const struct plan_op *op, double *p)
{
    uint32_t count = op->experts.expert_count;
    bool chosen[64] = {false};
    double total = 0;
    float *bias = op->experts.selection_bias == PLAN_NONE
                      ? NULL
                      : weight_row(toy, op->experts.selection_bias, 0);
    for (uint32_t e = 0; e < count; e++) {
        p[e] = exp(p[e]);
        total += p[e];
    }
    for (uint32_t e = 0; e < count; e++) {
        p[e] = op->experts.scoring == PLAN_SCORING_SIGMOID ? p[e] / (1 + p[e]) : p[e] / total;
    }
    for (uint32_t i = 0; i < op->experts.used_count; i++) {
        uint32_t best = count;
        for (uint32_t e = 0; e < count; e++) {
            double score = p[e] + (bias ? (double)bias[e] : 0);
            if (!chosen[e] &&
                (best == count || score > p[best] + (bias ? (double)bias[best] : 0))) {
                best = e;
            }
        }
        chosen[best] = true;
    }
    total = 0;
    for (uint32_t e = 0; e < count; e++) {
        p[e] = chosen[e] ? p[e] : 0;
        total += p[e];
    }
    for (uint32_t e = 0; e < count; e++) {
        p[e] *= (double)op->experts.scale / (op->experts.normalised ? total : 1);
    }
    free(bias);
}

static void add_answer(const struct toy *toy, double factor, double *answer, const float *bias,
                       double *sum)
{
    for (uint32_t i = 0; i < toy->options.embedding; i++) {
        sum[i] += factor * (answer[i] + (bias ? (double)bias[i] : 0));
    }
    free(answer);
}

static float *table_row(const struct toy *toy, uint32_t table, uint32_t row)
{
    return table == PLAN_NONE ? NULL : weight_row(toy, table, row);
}

static void mixture(const struct toy *toy, const struct plan_op *op, double *residual,
                    uint32_t count)
{
    uint32_t width = toy->options.embedding;
    uint32_t experts = op->experts.expert_count;
    double *h = norm(toy, &op->experts.norm, residual, count);
    double *p = linear(toy, op->experts.router, op->experts.router_bias, h, count);
    for (uint32_t t = 0; t < count; t++) {
        double *sum = residual + t * width;
        choose(toy, op, p + t * experts);
        for (uint32_t e = 0; e < experts; e++) {
            if (p[t * experts + e] == 0) {
                continue;
            }
            const uint32_t matrices[] = {op->experts.gate + e, op->experts.up + e,
                                         op->experts.down + e};
            float *gate = table_row(toy, op->experts.gate_bias, e);
            float *up = table_row(toy, op->experts.up_bias, e);
            float *down = table_row(toy, op->experts.down_bias, e);
            add_answer(toy, p[t * experts + e],
                       expert(toy, op->experts.activation, matrices, h + t * width, gate, up), down,
                       sum);
            free(gate);
            free(up);
            free(down);
        }
        if (op->experts.shared_up != PLAN_NONE) {
            const uint32_t matrices[] = {op->experts.shared_gate, op->experts.shared_up,
                                         op->experts.shared_down};
            double factor = 1;
            if (op->experts.shared_router != PLAN_NONE) {
                double *logit = linear(toy, op->experts.shared_router, PLAN_NONE, h + t * width, 1);
                factor = 1 / (1 + exp(-*logit));
                free(logit);
            }
            add_answer(toy, factor,
                       expert(toy, op->experts.activation, matrices, h + t * width, NULL, NULL),
                       NULL, sum);
        }
    }
    free(h);
    free(p);
}

static void project(const struct toy *toy, const struct plan_op *op, const double *input,
                    double *residual, uint32_t count)
{
    double *product = linear(toy, op->project.weight, op->project.bias, input, count);
    if (op->project.norm.weight != PLAN_NONE) {
        double *normed = norm(toy, &op->project.norm, product, count);
        free(product);
        product = normed;
    }
    for (uint64_t i = 0; i < (uint64_t)count * toy->options.embedding; i++) {
        residual[i] += product[i];
    }
    free(product);
}

struct forward {
    double *residual, *query, *key, *value, *input;
};

static void forward_qkv(const struct toy *toy, const struct plan_op *op, struct forward *f,
                        uint32_t count)
{
    double *h = norm(toy, &op->qkv.norm, f->residual, count);
    f->query = linear(toy, op->qkv.query, op->qkv.query_bias, h, count);
    f->key = linear(toy, op->qkv.key, op->qkv.key_bias, h, count);
    f->value = linear(toy, op->qkv.value, op->qkv.value_bias, h, count);
    turn(toy, op, f->query, op->qkv.head_count, op->qkv.query_norm, count);
    turn(toy, op, f->key, op->qkv.kv_head_count, op->qkv.key_norm, count);
    free(h);
}

static float *forward_logits(const struct toy *toy, const struct plan_op *op, double *residual,
                             uint32_t count)
{
    double *h = norm(toy, &op->logits.norm, residual, count);
    double *y = linear(toy, op->logits.weight, PLAN_NONE, h, count);
    uint64_t width = toy->options.vocabulary;
    float *bias = op->logits.bias == PLAN_NONE ? NULL : weight_row(toy, op->logits.bias, 0);
    float *logits = malloc(count * width * sizeof *logits);
    assert_non_null(logits);
    for (uint64_t i = 0; i < count * width; i++) {
        double value = y[i] + (bias ? (double)bias[i % width] : 0);
        logits[i] = (float)capped(value * (double)op->logits.scale, (double)op->logits.soft_cap);
    }
    free(h);
    free(y);
    free(bias);
    return logits;
}

float *toy_forward(const struct toy *toy, const uint32_t *tokens, uint32_t count)
{
    uint64_t width = toy->options.embedding;
    float *logits = NULL;
    struct forward f = {.residual = malloc(count * width * sizeof(double))};
    assert_non_null(f.residual);
    for (uint32_t i = 0; i < toy->plan->op_count; i++) {
        const struct plan_op *op = &toy->plan->ops[i];
        switch (op->kind) {
        case PLAN_EMBED:
            for (uint32_t t = 0; t < count; t++) {
                float *row = weight_row(toy, op->embed.weight, tokens[t]);
                for (uint64_t k = 0; k < width; k++) {
                    f.residual[t * width + k] = (double)row[k] * (double)op->embed.scale;
                }
                free(row);
            }
            break;
        case PLAN_QKV:
            forward_qkv(toy, op, &f, count);
            break;
        case PLAN_ATTENTION:
            f.input = attend(toy, op, f.query, f.key, f.value, count);
            free(f.query);
            free(f.key);
            free(f.value);
            break;
        case PLAN_FEED_FORWARD:
            f.input = feed_forward(toy, op, f.residual, count);
            break;
        case PLAN_PROJECT:
            project(toy, op, f.input, f.residual, count);
            free(f.input);
            break;
        case PLAN_EXPERTS:
            mixture(toy, op, f.residual, count);
            break;
        case PLAN_LOGITS:
            logits = forward_logits(toy, op, f.residual, count);
            break;
        case PLAN_OP_KIND_COUNT:
            break;
        }
    }
    free(f.residual);
    return logits;
}

double toy_distance(const float *a, const float *b, uint64_t count)
{
    double difference = 0;
    double size = 0;
    for (uint64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

struct device *toy_device(enum cpu_level level, uint32_t threads)
{
    struct device *device;
    struct llcuda_error error;
    if (!level_is_here(level)) {
        return NULL;
    }
    struct cpu_options options = {.thread_count = threads, .level_max = level};
    assert_ok(cpu_device_open(&options, &device, &error), error);
    return device;
}

/* --- batches -------------------------------------------------------------------------------- */

void toy_batch_init(struct toy_batch *batch, uint32_t sequences, uint32_t block_count)
{
    uint32_t order[16 * TOY_TABLE_STRIDE];
    assert_true(sequences <= 16 && block_count <= 16 * TOY_TABLE_STRIDE);
    for (uint32_t i = 0; i < block_count; i++) {
        uint32_t other = (uint32_t)test_random_below(i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (uint32_t i = 0; i < sequences * TOY_TABLE_STRIDE; i++) {
        /* Unused entries are out of range on purpose: nobody may look at them. */
        uint32_t turn = i % TOY_TABLE_STRIDE * sequences + i / TOY_TABLE_STRIDE;
        batch->tables[i] = turn < block_count ? order[turn] : UINT32_MAX;
    }
    batch->batch = (struct step_batch){
        .tokens = batch->tokens,
        .positions = batch->positions,
        .sequences = batch->sequences,
        .sequence_count = sequences,
        .block_tables = batch->tables,
        .block_table_stride = TOY_TABLE_STRIDE,
        .logits_rows = batch->logits_rows,
    };
}

void toy_batch_clear(struct toy_batch *batch)
{
    batch->batch.row_count = 0;
    batch->batch.logits_count = 0;
}

void toy_batch_add(struct toy_batch *batch, uint32_t sequence, const uint32_t *tokens,
                   uint32_t begin, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = batch->batch.row_count++;
        batch->tokens[row] = tokens[begin + i];
        batch->positions[row] = begin + i;
        batch->sequences[row] = sequence;
        batch->logits_rows[batch->batch.logits_count++] = row;
    }
}
