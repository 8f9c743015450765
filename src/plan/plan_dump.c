/* A plan as text for people: one line a stage, weights with their types and shapes below it. Reads
 * a finished plan only; the text is no format and may change. */
#include "plan/plan.h"

static const char *norm_name(enum plan_norm_kind kind)
{
    return kind == PLAN_NORM_RMS ? "rms" : "layer";
}

static void dump_norm(const struct plan_norm *norm, struct buffer *out)
{
    if (norm->weight == PLAN_NONE) {
        return;
    }
    buffer_printf(out, " norm=%s epsilon=%g", norm_name(norm->kind), (double)norm->epsilon);
    if (norm->weight_offset != 0) {
        buffer_printf(out, " norm_offset=%g", (double)norm->weight_offset);
    }
}

static void dump_qkv(const struct plan *plan, const struct plan_op *op, struct buffer *out)
{
    static const char *const layouts[] = {"none", "interleaved", "half"};
    dump_norm(&op->qkv.norm, out);
    buffer_printf(out, " heads=%u/%u head_size=%u rotary=%s", op->qkv.head_count,
                  op->qkv.kv_head_count, op->qkv.head_size, layouts[op->qkv.rotary]);
    if (op->qkv.rotary != PLAN_ROTARY_NONE) {
        const struct plan_rotary_table *table = &plan->rotary_tables[op->qkv.rotary_table];
        buffer_printf(out, " rotary_size=%u frequencies=%g…%g magnitude=%g", op->qkv.rotary_size,
                      (double)table->frequencies[0],
                      (double)table->frequencies[table->size / 2 - 1], (double)table->magnitude);
    }
    if (op->qkv.query_norm != PLAN_NONE || op->qkv.key_norm != PLAN_NONE) {
        buffer_printf(out, " head_norm_epsilon=%g head_norm_offset=%g",
                      (double)op->qkv.head_norm_epsilon, (double)op->qkv.head_norm_weight_offset);
    }
}

static void dump_attention(const struct plan_op *op, struct buffer *out)
{
    buffer_printf(out, " heads=%u/%u head_size=%u scale=%g", op->attention.head_count,
                  op->attention.kv_head_count, op->attention.head_size,
                  (double)op->attention.scale);
    if (op->attention.soft_cap != 0) {
        buffer_printf(out, " soft_cap=%g", (double)op->attention.soft_cap);
    }
    if (op->attention.window) {
        buffer_printf(out, " window=%u", op->attention.window);
    }
}

static const char *const activations[] = {"silu", "gelu_tanh", "gelu_erf", "swiglu_clamped"};

static void dump_experts(const struct plan_op *op, struct buffer *out)
{
    dump_norm(&op->experts.norm, out);
    buffer_printf(out, " experts=%u used=%u scoring=%s%s scale=%g activation=%s",
                  op->experts.expert_count, op->experts.used_count,
                  op->experts.scoring == PLAN_SCORING_SOFTMAX ? "softmax" : "sigmoid",
                  op->experts.normalised ? " normalised" : "", (double)op->experts.scale,
                  activations[op->experts.activation]);
    if (op->experts.shared_up != PLAN_NONE) {
        buffer_append_text(out, " shared");
    }
}

static void dump_options(const struct plan *plan, const struct plan_op *op, struct buffer *out)
{
    switch (op->kind) {
    case PLAN_EMBED:
        buffer_printf(out, " scale=%g", (double)op->embed.scale);
        break;
    case PLAN_QKV:
        dump_qkv(plan, op, out);
        break;
    case PLAN_ATTENTION:
        dump_attention(op, out);
        break;
    case PLAN_PROJECT:
        buffer_append_text(out, op->project.input == PLAN_BUFFER_HIDDEN ? " input=hidden"
                                                                        : " input=attended");
        dump_norm(&op->project.norm, out);
        break;
    case PLAN_FEED_FORWARD:
        dump_norm(&op->feed_forward.norm, out);
        buffer_printf(out, " activation=%s%s", activations[op->feed_forward.activation],
                      op->feed_forward.gate == PLAN_NONE ? "" : " gated");
        break;
    case PLAN_EXPERTS:
        dump_experts(op, out);
        break;
    case PLAN_LOGITS:
        dump_norm(&op->logits.norm, out);
        buffer_printf(out, " scale=%g", (double)op->logits.scale);
        if (op->logits.soft_cap != 0) {
            buffer_printf(out, " soft_cap=%g", (double)op->logits.soft_cap);
        }
        break;
    case PLAN_OP_KIND_COUNT:
        break;
    }
}

void plan_dump(const struct plan *plan, struct buffer *out)
{
    buffer_printf(out,
                  "plan: %u stages, %u layers, E %u, V %u, %u key-value heads of %u, context %u, "
                  "%llu parameters\n",
                  plan->op_count, plan->layer_count, plan->embedding_length, plan->vocabulary_size,
                  plan->kv_head_count, plan->head_size, plan->context_length,
                  (unsigned long long)plan->parameter_count);
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        struct plan_op_weight slots[PLAN_OP_WEIGHTS_MAX];
        uint32_t count = plan_op_weights(op, slots);
        buffer_printf(out, "%4u %-12s layer %u", i, plan_op_name(op->kind), op->layer);
        dump_options(plan, op, out);
        buffer_append_byte(out, '\n');
        for (uint32_t s = 0; s < count; s++) {
            const struct plan_weight *weight = &plan->weights[slots[s].weight];
            buffer_printf(out, "       %-12s %-5s [%llu, %llu] %.*s", slots[s].role,
                          dtype_info(weight->dtype)->name, (unsigned long long)weight->rows,
                          (unsigned long long)weight->columns, TEXT_ARGUMENTS(weight->name));
            if (slots[s].count > 1) {
                buffer_printf(out, " … %u of them", slots[s].count);
            }
            buffer_append_byte(out, '\n');
        }
    }
}
