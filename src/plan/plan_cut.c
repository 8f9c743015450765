/* Cuts a plan at the border of a layer into two plans that are run one after the other: the first
 * gives the residual stream, the second takes it. Both keep the numbers of the weights, so that a
 * stage is copied as it is, whatever it is. Stateless: any thread; the whole plan must be finished.
 */
#include <stdlib.h>

#include "plan/plan.h"

/* Stages [begin, end) of the whole as a plan of their own, whose layers count from `layer` on. */
static struct plan *part_create(const struct plan *whole, uint32_t begin, uint32_t end,
                                uint32_t layer)
{
    struct plan *part = plan_create();
    if (!part) {
        return NULL;
    }
    part->ops = arena_alloc(&part->arena, end - begin, sizeof *part->ops);
    part->weights = arena_alloc(&part->arena, whole->weight_count, sizeof *part->weights);
    part->rotary_tables =
        arena_alloc(&part->arena, whole->rotary_table_count + 1u, sizeof *part->rotary_tables);
    if (!part->ops || !part->weights || !part->rotary_tables) {
        plan_destroy(part);
        return NULL;
    }
    memcpy(part->ops, whole->ops + begin, (end - begin) * sizeof *part->ops);
    memcpy(part->weights, whole->weights, whole->weight_count * sizeof *part->weights);
    if (whole->rotary_table_count) {
        memcpy(part->rotary_tables, whole->rotary_tables,
               whole->rotary_table_count * sizeof *part->rotary_tables);
    }
    part->op_count = part->op_capacity = end - begin;
    part->weight_count = part->weight_capacity = whole->weight_count;
    part->rotary_table_count = part->rotary_table_capacity = whole->rotary_table_count;
    part->embedding_length = whole->embedding_length;
    part->vocabulary_size = whole->vocabulary_size;
    part->context_length = whole->context_length;
    part->weights_mapped = whole->weights_mapped;
    part->takes_residual = whole->takes_residual || begin > 0;
    part->gives_residual = whole->gives_residual || end < whole->op_count;
    for (uint32_t i = 0; i < part->op_count; i++) {
        /* Below zero when it reads a cache of the first part: plan_finish refuses the number. */
        part->ops[i].layer -= part->ops[i].kind == PLAN_LOGITS ? 0 : layer;
    }
    return part;
}

llcuda_status plan_cut(const struct plan *whole, uint32_t layer, struct plan **first,
                       struct plan **second, struct llcuda_error *error)
{
    uint32_t border = 0;
    *first = NULL;
    *second = NULL;
    while (border < whole->op_count &&
           !(whole->ops[border].kind == PLAN_QKV && whole->ops[border].layer == layer)) {
        border++;
    }
    if (layer == 0 || border == whole->op_count) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "a plan of %u layers cannot be cut before layer %u", whole->layer_count,
                         layer);
    }
    *first = part_create(whole, 0, border, 0);
    *second = part_create(whole, border, whole->op_count, layer);
    llcuda_status status = LLCUDA_OK;
    if (!*first || !*second) {
        status = error_no_memory(error, "a plan in two parts",
                                 whole->weight_count * sizeof *whole->weights);
    }
    if (status == LLCUDA_OK) {
        status = plan_finish(*first, error);
    }
    if (status == LLCUDA_OK) {
        status = plan_finish(*second, error);
    }
    if (status != LLCUDA_OK) {
        plan_destroy(*first);
        plan_destroy(*second);
        *first = NULL;
        *second = NULL;
    }
    return status;
}
