/* What a stage must move and compute at least: the yardstick of every measurement. Pure functions
 * of the plan; sums saturate instead of wrapping, since plans come from outside files. */
#include <math.h>

#include "base/checked.h"
#include "plan/plan.h"

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = UINT64_MAX;
    (void)checked_mul_u64(a, b, &product);
    return product;
}

static void add(uint64_t *sum, uint64_t more)
{
    if (!checked_add_u64(*sum, more, sum)) {
        *sum = UINT64_MAX;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t head_bytes(uint32_t head_size, enum dtype cache_dtype)
{
    const struct dtype_info *info = dtype_info(cache_dtype);
    return multiply((head_size + info->block_elements - 1) / info->block_elements,
                    info->block_bytes);
}

/* `share` of the bytes. */
static uint64_t scaled(uint64_t bytes, double share)
{
    double part = (double)bytes * share;
    return share < 1 && part < 1.8e19 ? (uint64_t)part : bytes;
}

double plan_experts_share(const struct plan_op *op, uint64_t rows)
{
    double used = (double)op->experts.used_count / (double)op->experts.expert_count;
    return 1 - pow(1 - used, (double)rows);
}

/* All weights are read once, every matrix multiplies `rows` rows; of experts, those that are
 * touched, and each row goes through as many as it is sent to. */
static struct plan_cost linear_cost(const struct plan *plan, const struct plan_op *op,
                                    uint64_t rows)
{
    struct plan_op_weight slots[PLAN_OP_WEIGHTS_MAX];
    uint32_t count = plan_op_weights(op, slots);
    struct plan_cost cost = {0};
    for (uint32_t i = 0; rows > 0 && i < count; i++) {
        const struct plan_weight *weight = &plan->weights[slots[i].weight];
        bool is_experts = slots[i].is_experts;
        uint64_t bytes = multiply(weight->bytes, slots[i].count);
        uint64_t times = is_experts ? multiply(rows, op->experts.used_count) : rows;
        add(&cost.weight_bytes, is_experts ? scaled(bytes, plan_experts_share(op, rows)) : bytes);
        if (slots[i].is_matrix) {
            add(&cost.flop, multiply(multiply(2 * weight->rows, weight->columns), times));
        }
    }
    return cost;
}

struct plan_cost plan_op_cost(const struct plan *plan, const struct plan_op *op, uint64_t rows,
                              uint64_t context_sum, uint64_t logits_rows, enum dtype cache_dtype)
{
    struct plan_cost cost = {0};
    switch (op->kind) {
    case PLAN_EMBED: {
        const struct plan_weight *weight = &plan->weights[op->embed.weight];
        cost.weight_bytes = multiply(weight->bytes / weight->rows, rows);
        return cost;
    }
    case PLAN_QKV:
        cost = linear_cost(plan, op, rows);
        cost.cache_bytes = multiply(multiply(2ull * op->qkv.kv_head_count, rows),
                                    head_bytes(op->qkv.head_size, cache_dtype));
        return cost;
    case PLAN_ATTENTION: {
        uint64_t positions = context_sum;
        if (op->attention.window) {
            positions = least(positions, multiply(op->attention.window, rows));
        }
        cost = linear_cost(plan, op, rows);
        cost.cache_bytes = multiply(multiply(2ull * op->attention.kv_head_count, positions),
                                    head_bytes(op->attention.head_size, cache_dtype));
        cost.flop =
            multiply(multiply(4ull * op->attention.head_count, op->attention.head_size), positions);
        return cost;
    }
    case PLAN_PROJECT:
    case PLAN_FEED_FORWARD:
    case PLAN_EXPERTS:
        return linear_cost(plan, op, rows);
    case PLAN_LOGITS:
        return linear_cost(plan, op, logits_rows);
    case PLAN_OP_KIND_COUNT:
        break;
    }
    return cost;
}

struct plan_cost plan_step_cost(const struct plan *plan, uint64_t rows, uint64_t context_sum,
                                uint64_t logits_rows, enum dtype cache_dtype)
{
    struct plan_cost total = {0};
    for (uint32_t i = 0; i < plan->op_count; i++) {
        struct plan_cost cost =
            plan_op_cost(plan, &plan->ops[i], rows, context_sum, logits_rows, cache_dtype);
        add(&total.weight_bytes, cost.weight_bytes);
        add(&total.cache_bytes, cost.cache_bytes);
        add(&total.flop, cost.flop);
    }
    return total;
}
