/* Owns the walk over a plan: which launches make up each stage, in order, for model->shape. What it
 * puts on the stream depends on the shape alone, so that it can be captured and replayed. One
 * thread. Knows no model's name. */
#include "gpu/model.h"

llcuda_status gpu_launch(struct gpu_model *model, enum gpu_kernel kernel, const uint32_t grid[3],
                         const void *arguments, uint32_t argument_bytes, struct llcuda_error *error)
{
    const struct gpu_launch launch = {
        .grid = {grid[0], grid[1], grid[2]},
        .block = {gpu_kernel_threads(kernel), 1, 1},
        .overlap = !model->device->options.no_overlap,
    };
    return model->driver->launch(model->driver, model->stream, model->program.functions[kernel],
                                 &launch, arguments, argument_bytes, error);
}

/* Address of a small vector, 0 for PLAN_NONE. */
static uint64_t vector_of(const struct gpu_model *model, uint32_t weight)
{
    return weight == PLAN_NONE ? 0 : model->weights[weight].address;
}

uint64_t gpu_logits_count(const struct gpu_model *model)
{
    return gpu_step_address(model, model->layout.state + offsetof(struct step_state, logits_count));
}

static struct norm_parameters norm_of(const struct gpu_model *model, const struct plan_norm *norm)
{
    return (struct norm_parameters){
        .weight = vector_of(model, norm->weight),
        .bias = norm->weight == PLAN_NONE ? 0 : vector_of(model, norm->bias),
        .epsilon = norm->epsilon,
        .weight_offset = norm->weight_offset,
        .kind = norm->kind == PLAN_NORM_RMS ? NORM_RMS : NORM_LAYER,
        .width = model->base.plan->embedding_length,
    };
}

/* normed = norm(residual), for all rows. */
static llcuda_status norm_all(struct gpu_model *model, const struct plan_norm *norm,
                              struct llcuda_error *error)
{
    const struct norm_arguments arguments = {
        .count = model->live.count,
        .input = model->live.residual,
        .output = model->buffers.normed,
        .norm = norm_of(model, norm),
    };
    const uint32_t grid[3] = {model->live.rows, 1, 1};
    return gpu_launch(model, GPU_KERNEL_NORM_ROWS, grid, &arguments, sizeof arguments, error);
}

static llcuda_status run_embed(struct gpu_model *model, const struct plan_op *op,
                               struct llcuda_error *error)
{
    const struct gpu_weight *weight = &model->weights[op->embed.weight];
    const struct embed_arguments arguments = {
        .count = model->live.count,
        .tokens = gpu_step_address(model, model->layout.tokens),
        .weight = weight->address,
        .residual = model->live.residual,
        .row_bytes = weight->row_bytes,
        .columns = model->base.plan->embedding_length,
        .scale = op->embed.scale,
    };
    const uint32_t grid[3] = {model->live.rows, 1, 1};
    enum gpu_kernel kernel =
        (weight->is_packed ? GPU_KERNEL_PACKED_EMBED : GPU_KERNEL_EMBED) + (uint32_t)weight->dtype;
    return gpu_launch(model, kernel, grid, &arguments, sizeof arguments, error);
}

/* --- queries, keys, values and attention ------------------------------------------------------ */

/* `linear` over the normed residual: norm and products in one launch, or in two, or one by one.
 * Without a norm in the kernel, `linear` reads model->buffers.normed. */
static llcuda_status run_normed(struct gpu_model *model, struct gpu_linear *linear,
                                const struct plan_norm *norm, bool *done,
                                struct llcuda_error *error)
{
    linear->norm = norm;
    llcuda_status status = gpu_linear_fused(model, linear, done, error);
    linear->norm = NULL;
    linear->input = model->buffers.normed;
    if (status != LLCUDA_OK || *done) {
        return status;
    }
    status = norm_all(model, norm, error);
    return status == LLCUDA_OK ? gpu_linear_fused(model, linear, done, error) : status;
}

/* raw = queries, keys, values, side by side; biases are added by what reads them. */
static llcuda_status run_qkv(struct gpu_model *model, const struct plan_op *op,
                             struct llcuda_error *error)
{
    uint32_t query_width = op->qkv.head_count * op->qkv.head_size;
    uint32_t key_width = op->qkv.kv_head_count * op->qkv.head_size;
    struct gpu_linear linear = {
        .weights = {op->qkv.query, op->qkv.key, op->qkv.value},
        .part_count = 3,
        .output = model->buffers.raw,
        .output_stride = query_width + 2 * key_width,
        .count = model->live.count,
        .rows = model->live.rows,
        .mode = LINEAR_STORE,
    };
    bool done;
    llcuda_status status = run_normed(model, &linear, &op->qkv.norm, &done, error);
    return status == LLCUDA_OK && !done ? gpu_linear_parts(model, &linear, error) : status;
}

static struct attention_projection projection_of(const struct gpu_model *model,
                                                 const struct plan_op *op)
{
    static const uint32_t kinds[] = {
        [PLAN_ROTARY_NONE] = ROTARY_NONE,
        [PLAN_ROTARY_INTERLEAVED] = ROTARY_INTERLEAVED,
        [PLAN_ROTARY_HALF] = ROTARY_HALF,
    };
    bool has_rotary = op->qkv.rotary != PLAN_ROTARY_NONE;
    return (struct attention_projection){
        .raw = model->buffers.raw,
        .query_bias = vector_of(model, op->qkv.query_bias),
        .key_bias = vector_of(model, op->qkv.key_bias),
        .value_bias = vector_of(model, op->qkv.value_bias),
        .query_norm = vector_of(model, op->qkv.query_norm),
        .key_norm = vector_of(model, op->qkv.key_norm),
        .frequencies = has_rotary ? model->frequencies[op->qkv.rotary_table] : 0,
        .norm_epsilon = op->qkv.head_norm_epsilon,
        .norm_weight_offset = op->qkv.head_norm_weight_offset,
        .magnitude =
            has_rotary ? model->base.plan->rotary_tables[op->qkv.rotary_table].magnitude : 1.0f,
        .rotary_kind = kinds[op->qkv.rotary],
        .rotary_size = has_rotary ? op->qkv.rotary_size : 0,
    };
}

/* Rows that nobody wants write their keys and values in the last layer, and no more. */
static void attend_wanted(const struct gpu_model *model, struct gpu_attention_call *call)
{
    const struct gpu_step_layout *layout = &model->layout;
    call->attending = gpu_step_address(model, layout->wanted_state);
    call->decode_rows_max = model->shape.wanted_decode_rows;
    call->tiles_max = model->shape.wanted_tiles;
    call->groups = model->shape.wanted_groups;
    call->tiles = gpu_step_address(model, layout->wanted_tiles);
    call->decode_rows = gpu_step_address(model, layout->wanted_decode_rows);
}

/* `qkv` is the stage that made the queries. */
static llcuda_status run_attention(struct gpu_model *model, const struct plan_op *op,
                                   const struct plan_op *qkv, struct llcuda_error *error)
{
    const struct gpu_step_layout *layout = &model->layout;
    struct gpu_attention_call call = {
        .step = {.state = gpu_step_address(model, layout->state),
                 .positions = gpu_step_address(model, layout->positions),
                 .sequences = gpu_step_address(model, layout->sequences),
                 .block_tables = gpu_step_address(model, layout->block_tables)},
        .projection = projection_of(model, qkv),
        .query = model->buffers.query,
        .cache = model->cache + op->layer * model->layer_bytes,
        .attended = model->buffers.attended,
        .sinks = vector_of(model, op->attention.sinks),
        .scale = op->attention.scale,
        .soft_cap = op->attention.soft_cap,
        .window = op->attention.window,
        .workspace = model->buffers.attention,
        .decode = model->shape.is_decode != 0,
        .rows = model->live.rows,
        .decode_rows_max = model->shape.decode_rows,
        .tiles_max = model->shape.tiles,
        .groups = model->shape.groups,
        .tiles = gpu_step_address(model, layout->tiles),
        .decode_rows = gpu_step_address(model, layout->decode_rows),
        .overlap = !model->device->options.no_overlap,
    };
    bool leave = gpu_rows_leave_after(model, op);
    if (leave) {
        attend_wanted(model, &call);
    }
    llcuda_status status = gpu_attention_launch(model->driver, model->stream, &model->attention,
                                                &model->program.attention, &call, error);
    return status == LLCUDA_OK && leave ? gpu_rows_leave(model, error) : status;
}

/* --- projections and feed-forward ------------------------------------------------------------- */

static struct gpu_linear projection_linear(const struct gpu_model *model, const struct plan_op *op)
{
    bool finish = gpu_project_finishes(op);
    bool from_hidden = op->project.input == PLAN_BUFFER_HIDDEN;
    return (struct gpu_linear){
        .weights = {op->project.weight},
        .part_count = 1,
        .input = from_hidden ? model->buffers.hidden : model->live.attended,
        .output = finish ? model->buffers.product : model->live.residual,
        .output_stride = model->base.plan->embedding_length,
        .count = model->live.count,
        .rows = model->live.rows,
        .mode = finish ? LINEAR_STORE : LINEAR_ADD,
        .input_is_staged = from_hidden && model->hidden_is_staged,
    };
}

static llcuda_status run_project(struct gpu_model *model, const struct plan_op *op,
                                 struct llcuda_error *error)
{
    bool finish = gpu_project_finishes(op);
    const struct gpu_linear linear = projection_linear(model, op);
    llcuda_status status = gpu_linear_run(model, &linear, error);
    if (!finish || status != LLCUDA_OK) {
        return status;
    }
    const struct project_finish_arguments arguments = {
        .count = model->live.count,
        .product = model->buffers.product,
        .bias = vector_of(model, op->project.bias),
        .residual = model->live.residual,
        .norm = norm_of(model, &op->project.norm),
    };
    const uint32_t grid[3] = {model->live.rows, 1, 1};
    return gpu_launch(model, GPU_KERNEL_PROJECT_FINISH, grid, &arguments, sizeof arguments, error);
}

/* Whether the projection after feed-forward `op` wants its input staged. */
static bool is_read_staged(const struct gpu_model *model, const struct plan_op *op)
{
    const struct plan *plan = model->base.plan;
    const struct plan_op *next = op + 1;
    if (next >= plan->ops + plan->op_count || next->kind != PLAN_PROJECT ||
        next->project.input != PLAN_BUFFER_HIDDEN) {
        return false;
    }
    const struct gpu_linear linear = projection_linear(model, next);
    return gpu_linear_reads_staged(model, &linear);
}

static llcuda_status run_feed_forward(struct gpu_model *model, const struct plan_op *op,
                                      struct llcuda_error *error)
{
    uint32_t width = model->base.plan->width[PLAN_BUFFER_HIDDEN];
    bool gated = op->feed_forward.gate != PLAN_NONE;
    bool pair = gpu_feed_forward_is_pair(model, op);
    uint32_t first = gated ? op->feed_forward.gate : op->feed_forward.up;
    struct gpu_linear linear = {
        .weights = {first, op->feed_forward.up},
        .part_count = gated ? 2 : 1,
        .is_pair = pair,
        .activation = gpu_activation_kind(op->feed_forward.activation),
        .output = pair ? model->buffers.hidden : model->buffers.raw,
        .output_stride = gated && !pair ? 2 * width : width,
        .count = model->live.count,
        .rows = model->live.rows,
        .mode = LINEAR_STORE,
        .output_may_be_staged = pair && is_read_staged(model, op),
    };
    bool done;
    model->hidden_is_staged = false;
    llcuda_status status = run_normed(model, &linear, &op->feed_forward.norm, &done, error);
    if (status != LLCUDA_OK || (done && pair)) {
        return status;
    }
    linear.is_pair = false;
    linear.output = model->buffers.raw;
    linear.output_stride = gated ? 2 * width : width;
    if (!done) {
        status = gpu_linear_parts(model, &linear, error);
    }
    if (status != LLCUDA_OK) {
        return status;
    }
    const struct activate_arguments arguments = {
        .count = model->live.count,
        .raw = model->buffers.raw,
        .gate_bias = vector_of(model, op->feed_forward.gate_bias),
        .up_bias = vector_of(model, op->feed_forward.up_bias),
        .hidden = model->buffers.hidden,
        .width = width,
        .is_gated = gated,
        .kind = gpu_activation_kind(op->feed_forward.activation),
    };
    const uint32_t grid[3] = {gpu_unit_blocks(width), model->live.rows, 1};
    return gpu_launch(model, GPU_KERNEL_ACTIVATE, grid, &arguments, sizeof arguments, error);
}

/* --- logits ----------------------------------------------------------------------------------- */

static llcuda_status norm_wanted(struct gpu_model *model, const struct plan_op *op,
                                 struct llcuda_error *error)
{
    const struct norm_arguments arguments = {
        .count = gpu_logits_count(model),
        .rows = gpu_step_address(model, model->layout.logits_rows),
        .input = model->live.residual,
        .output = model->buffers.normed,
        .norm = norm_of(model, &op->logits.norm),
    };
    const uint32_t grid[3] = {model->shape.logits_rows, 1, 1};
    return gpu_launch(model, GPU_KERNEL_NORM_ROWS, grid, &arguments, sizeof arguments, error);
}

/* Hidden states take the place of raw projections, which nobody reads any more. */
static llcuda_status norm_hidden(struct gpu_model *model, const struct plan_op *op,
                                 struct llcuda_error *error)
{
    const struct norm_arguments arguments = {
        .count = gpu_step_address(model, model->layout.hidden_count),
        .rows = gpu_step_address(model, model->layout.hidden_rows),
        .input = model->live.residual,
        .output = model->buffers.raw,
        .norm = norm_of(model, &op->logits.norm),
    };
    const uint32_t grid[3] = {model->shape.hidden_rows, 1, 1};
    return gpu_launch(model, GPU_KERNEL_NORM_FLOATS, grid, &arguments, sizeof arguments, error);
}

/* --- greedy tokens ---------------------------------------------------------------------------- */

/* Parts of buffers.choices: values and indices a slice, arrivals and ids a row. */
uint64_t gpu_choices_bytes(uint32_t rows)
{
    return (uint64_t)rows * (2 * CHOOSE_SLICES + 2) * sizeof(uint32_t);
}

static uint64_t choices_part(const struct gpu_model *model, uint32_t words_before)
{
    return model->buffers.choices +
           (uint64_t)model->base.options.logits_rows_max * words_before * sizeof(uint32_t);
}

uint64_t gpu_choices_chosen(const struct gpu_model *model)
{
    return choices_part(model, 2 * CHOOSE_SLICES + 1);
}

static llcuda_status run_choose(struct gpu_model *model, struct llcuda_error *error)
{
    const struct choose_arguments arguments = {
        .count = gpu_logits_count(model),
        .logits = model->buffers.logits,
        .values = choices_part(model, 0),
        .indices = choices_part(model, CHOOSE_SLICES),
        .arrived = choices_part(model, 2 * CHOOSE_SLICES),
        .chosen = gpu_choices_chosen(model),
        .width = model->base.plan->vocabulary_size,
    };
    const uint32_t grid[3] = {CHOOSE_SLICES, model->shape.logits_rows, 1};
    return gpu_launch(model, GPU_KERNEL_CHOOSE, grid, &arguments, sizeof arguments, error);
}

static llcuda_status run_logits(struct gpu_model *model, const struct plan_op *op,
                                struct llcuda_error *error)
{
    uint32_t width = model->base.plan->vocabulary_size;
    llcuda_status status = LLCUDA_OK;
    if (model->shape.hidden_rows != 0) {
        status = norm_hidden(model, op, error);
    }
    if (model->shape.logits_rows == 0 || status != LLCUDA_OK) {
        return status;
    }
    status = norm_wanted(model, op, error);
    const struct gpu_linear linear = {
        .weights = {op->logits.weight},
        .part_count = 1,
        .input = model->buffers.normed,
        .output = model->buffers.logits,
        .output_stride = width,
        .count = gpu_logits_count(model),
        .rows = model->shape.logits_rows,
        .mode = LINEAR_STORE,
    };
    if (status == LLCUDA_OK) {
        status = gpu_linear_run(model, &linear, error);
    }
    bool finish =
        op->logits.bias != PLAN_NONE || op->logits.scale != 1.0f || op->logits.soft_cap != 0;
    if (!finish || status != LLCUDA_OK) {
        return status;
    }
    const struct logits_finish_arguments arguments = {
        .count = gpu_logits_count(model),
        .logits = model->buffers.logits,
        .bias = vector_of(model, op->logits.bias),
        .width = width,
        .scale = op->logits.scale,
        .soft_cap = op->logits.soft_cap,
    };
    const uint32_t grid[3] = {gpu_element_blocks(width), model->shape.logits_rows, 1};
    return gpu_launch(model, GPU_KERNEL_LOGITS_FINISH, grid, &arguments, sizeof arguments, error);
}

/* --- the step --------------------------------------------------------------------------------- */

llcuda_status gpu_step_launch(struct gpu_model *model, struct llcuda_error *error)
{
    const struct plan *plan = model->base.plan;
    const struct plan_op *qkv = NULL;
    llcuda_status status = LLCUDA_OK;
    gpu_rows_all(model);
    for (uint32_t i = 0; i < plan->op_count && model->live.rows && status == LLCUDA_OK; i++) {
        const struct plan_op *op = &plan->ops[i];
        model->op = op;
        switch (op->kind) {
        case PLAN_EMBED:
            status = run_embed(model, op, error);
            break;
        case PLAN_QKV:
            status = run_qkv(model, op, error);
            qkv = op;
            break;
        case PLAN_ATTENTION:
            status = run_attention(model, op, qkv, error);
            break;
        case PLAN_PROJECT:
            status = run_project(model, op, error);
            break;
        case PLAN_FEED_FORWARD:
            status = run_feed_forward(model, op, error);
            break;
        case PLAN_EXPERTS:
            status = norm_all(model, &op->experts.norm, error);
            status = status == LLCUDA_OK ? gpu_experts_run(model, op, error) : status;
            break;
        case PLAN_LOGITS:
            status = run_logits(model, op, error);
            if (status == LLCUDA_OK && model->shape.chooses != 0) {
                status = run_choose(model, error);
            }
            if (status == LLCUDA_OK && model->shape.samples != 0) {
                status = gpu_sample_launch(model, error);
            }
            break;
        case PLAN_OP_KIND_COUNT:
            break;
        }
    }
    return status;
}
