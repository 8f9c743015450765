/* Owns a feed-forward block of experts: which rows go where, the products of each expert with its
 * rows, and the sum of what comes back. Rows are sorted by expert, so that each touched expert's
 * weights are read once a step for all its rows. Invariants: an expert's rows keep the order of the
 * batch; a row adds its experts in the order of their numbers, whatever rows are beside it. */
#include <string.h>

#include "base/limits.h"
#include "cpu/model.h"
#include "tensor/reference.h"

struct experts_stage {
    struct cpu_model *model;
    const struct plan_op *op;
};

static void add_bias(float *x, const float *table, uint32_t expert, uint64_t width, uint64_t begin,
                     uint64_t end)
{
    if (table) {
        reference_add(table + expert * width + begin, end - begin, x + begin);
    }
}

/* --- routing -------------------------------------------------------------------------------- */

static void route_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    const struct experts_stage *stage = context;
    const struct plan_op *op = stage->op;
    struct cpu_model *model = stage->model;
    const struct reference_routing routing = {
        .expert_count = op->experts.expert_count,
        .used_count = op->experts.used_count,
        .sigmoid = op->experts.scoring == PLAN_SCORING_SIGMOID,
        .normalised = op->experts.normalised,
        .scale = op->experts.scale,
    };
    uint64_t first = row * routing.used_count;
    float *logits = cpu_row(model->router, row);
    add_bias(logits, cpu_vector(model, op->experts.router_bias), 0, 0, 0, routing.expert_count);
    reference_route(&routing, logits, cpu_vector(model, op->experts.selection_bias),
                    model->expert_ids + first, model->expert_weights + first);
}

static void route(struct experts_stage *stage)
{
    struct cpu_model *model = stage->model;
    uint32_t count = model->row_count;
    struct linear_stage router = {
        .model = model,
        .input = model->normed,
        .columns = model->base.plan->embedding_length,
        .token_count = count,
        .part_count = 1,
        .parts = {{stage->op->experts.router, model->router}},
        .work = CPU_WORK_ROUTER,
    };
    linear_stage_run(&router);
    pool_run(model->device->pool, count, route_row, stage);
}

/* Gives each expert that has rows its places, in order, and each row its places. */
static void sort_rows(struct cpu_model *model, const struct plan_op *op)
{
    uint32_t counts[LIMIT_EXPERT_COUNT] = {0};
    uint32_t next[LIMIT_EXPERT_COUNT];
    uint64_t pairs = (uint64_t)model->row_count * op->experts.used_count;
    for (uint64_t i = 0; i < pairs; i++) {
        counts[model->expert_ids[i]]++;
    }
    uint32_t place = 0;
    model->experts_touched = 0;
    for (uint32_t e = 0; e < op->experts.expert_count; e++) {
        next[e] = place;
        if (counts[e] > 0) {
            model->experts[model->experts_touched++] =
                (struct cpu_expert_rows){.expert = e, .begin = place, .count = counts[e]};
        }
        place += counts[e];
    }
    for (uint64_t i = 0; i < pairs; i++) {
        model->expert_places[i] = next[model->expert_ids[i]]++;
    }
}

/* --- products ------------------------------------------------------------------------------- */

static void gather_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    const struct experts_stage *stage = context;
    struct cpu_model *model = stage->model;
    uint32_t used = stage->op->experts.used_count;
    for (uint32_t i = 0; i < used; i++) {
        memcpy(cpu_row(model->expert_input, model->expert_places[row * used + i]),
               cpu_row(model->normed, row), model->base.plan->embedding_length * sizeof(float));
    }
}

static void finish_gate_up(const struct linear_stage *stage, const struct linear_rows *rows,
                           uint64_t begin, uint64_t end)
{
    struct cpu_model *model = stage->model;
    const struct plan_op *op = stage->op;
    uint64_t width = model->weights[op->experts.up].rows;
    const float *gate_bias = cpu_vector(model, op->experts.gate_bias);
    const float *up_bias = cpu_vector(model, op->experts.up_bias);
    for (uint32_t i = rows->begin; i < rows->begin + rows->count; i++) {
        float *hidden = cpu_row(model->expert_hidden, i);
        float *up = cpu_row(model->expert_up, i);
        add_bias(hidden, gate_bias, rows->expert, width, begin, end);
        add_bias(up, up_bias, rows->expert, width, begin, end);
        model->device->ops->activate(op->experts.activation, hidden + begin, up + begin,
                                     end - begin);
    }
}

static void finish_down(const struct linear_stage *stage, const struct linear_rows *rows,
                        uint64_t begin, uint64_t end)
{
    struct cpu_model *model = stage->model;
    const float *bias = cpu_vector(model, stage->op->experts.down_bias);
    for (uint32_t i = rows->begin; i < rows->begin + rows->count; i++) {
        add_bias(cpu_row(model->expert_input, i), bias, rows->expert,
                 model->base.plan->embedding_length, begin, end);
    }
}

static void multiply_experts(struct cpu_model *model, const struct plan_op *op)
{
    struct linear_stage linear = {
        .model = model,
        .input = model->expert_input,
        .columns = model->base.plan->embedding_length,
        .token_count = model->row_count * op->experts.used_count,
        .experts = model->experts,
        .expert_count = model->experts_touched,
        .part_count = 2,
        .parts = {{op->experts.gate, model->expert_hidden}, {op->experts.up, model->expert_up}},
        .side_by_side = true,
        .finish = finish_gate_up,
        .op = op,
        .work = CPU_WORK_EXPERTS,
    };
    linear_stage_run(&linear);
    linear.input = model->expert_hidden;
    linear.columns = model->weights[op->experts.down].columns;
    linear.part_count = 1;
    linear.parts[0] = (struct linear_part){op->experts.down, model->expert_input};
    linear.finish = finish_down;
    linear_stage_run(&linear);
}

/* --- the expert of all rows ------------------------------------------------------------------ */

static void finish_shared(const struct linear_stage *stage, const struct linear_rows *rows,
                          uint64_t begin, uint64_t end)
{
    struct cpu_model *model = stage->model;
    for (uint32_t i = 0; i < rows->count; i++) {
        model->device->ops->activate(stage->op->experts.activation,
                                     cpu_row(model->buffers[PLAN_BUFFER_HIDDEN], i) + begin,
                                     cpu_row(model->up, i) + begin, end - begin);
    }
}

static void multiply_shared(struct cpu_model *model, const struct plan_op *op)
{
    struct linear_stage linear = {
        .model = model,
        .input = model->normed,
        .columns = model->base.plan->embedding_length,
        .token_count = model->row_count,
        .part_count = 2,
        .parts = {{op->experts.shared_gate, model->buffers[PLAN_BUFFER_HIDDEN]},
                  {op->experts.shared_up, model->up}},
        .side_by_side = true,
        .finish = finish_shared,
        .op = op,
        .work = CPU_WORK_GATE_UP,
    };
    linear_stage_run(&linear);
    linear.input = model->buffers[PLAN_BUFFER_HIDDEN];
    linear.columns = model->weights[op->experts.shared_down].columns;
    linear.part_count = 1;
    linear.parts[0] = (struct linear_part){op->experts.shared_down, model->product};
    linear.finish = NULL;
    linear.work = CPU_WORK_DOWN;
    linear_stage_run(&linear);
}

/* --- the sum -------------------------------------------------------------------------------- */

static float shared_factor(const struct cpu_model *model, const struct plan_op *op, uint64_t row)
{
    const float *router = cpu_vector(model, op->experts.shared_router);
    float logit;
    if (!router) {
        return 1;
    }
    reference_linear(DTYPE_F32, router, 1, model->base.plan->embedding_length,
                     cpu_row(model->normed, row), &logit);
    return reference_sigmoid(logit);
}

static void combine_row(void *context, uint32_t worker, uint64_t row)
{
    const struct experts_stage *stage = context;
    const struct plan_op *op = stage->op;
    struct cpu_model *model = stage->model;
    uint64_t width = model->base.plan->embedding_length;
    uint32_t used = op->experts.used_count;
    float *sum = model->workers[worker].row;
    memset(sum, 0, width * sizeof *sum);
    for (uint64_t i = row * used; i < (row + 1) * used; i++) {
        reference_add_scaled(model->expert_weights[i],
                             cpu_row(model->expert_input, model->expert_places[i]), width, sum);
    }
    if (op->experts.shared_up != PLAN_NONE) {
        reference_add_scaled(shared_factor(model, op, row), cpu_row(model->product, row), width,
                             sum);
    }
    reference_add(sum, width, cpu_row(model->buffers[PLAN_BUFFER_RESIDUAL], row));
}

void experts_stage_run(struct cpu_model *model, const struct plan_op *op)
{
    struct experts_stage stage = {.model = model, .op = op};
    uint32_t count = model->row_count;
    cpu_norm_rows(model, &op->experts.norm, NULL, count);
    route(&stage);
    sort_rows(model, op);
    pool_run(model->device->pool, count, gather_row, &stage);
    multiply_experts(model, op);
    if (op->experts.shared_up != PLAN_NONE) {
        multiply_shared(model, op);
    }
    pool_run(model->device->pool, count, combine_row, &stage);
}
