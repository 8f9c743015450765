/* Owns the choice of a kernel for a linear layer, by the weight's type and the number of rows. One
 * thread. Knows no stages. */
#include "gpu/model.h"

#define PLAIN_ROWS   8u /* of the weight, a block: as in linear_plain.cu */
#define PLAIN_TOKENS 8u
#define DECODE_WARPS (GPU_DECODE_THREADS / 32)

static llcuda_status run_plain(struct gpu_model *model, const struct gpu_linear *linear,
                               struct llcuda_error *error)
{
    const struct plan_weight *source = &model->base.plan->weights[linear->weights[0]];
    const struct gpu_weight *weight = &model->weights[linear->weights[0]];
    const struct linear_plain_arguments arguments = {
        .count = linear->count,
        .weight = weight->address,
        .input = linear->input,
        .output = linear->output,
        .row_bytes = weight->row_bytes,
        .rows = (uint32_t)source->rows,
        .columns = (uint32_t)source->columns,
        .output_stride = linear->output_stride,
        .mode = linear->mode,
        .scale = 1.0f,
    };
    const uint32_t grid[3] = {
        (uint32_t)((source->rows + PLAIN_ROWS - 1) / PLAIN_ROWS),
        (linear->rows + PLAIN_TOKENS - 1) / PLAIN_TOKENS,
        1,
    };
    return gpu_launch(model, GPU_KERNEL_LINEAR_PLAIN + weight->dtype, grid, &arguments,
                      sizeof arguments, error);
}

bool gpu_weight_streams(const struct gpu_model *model, uint32_t weight)
{
    return model->device->options.linear != GPU_LINEAR_PLAIN && model->activation != DTYPE_F32 &&
           (model->weights[weight].is_packed ||
            (model->weights[weight].dtype == model->activation &&
             model->base.plan->weights[weight].columns % 32 == 0));
}

bool gpu_weight_has_blocks(const struct gpu_model *model, uint32_t weight)
{
    return model->device->options.linear != GPU_LINEAR_PLAIN && model->activation != DTYPE_F32 &&
           !model->weights[weight].is_packed &&
           dtype_info(model->weights[weight].dtype)->block_elements > 1;
}

static bool have_one_form(const struct gpu_model *model, uint32_t a, uint32_t b)
{
    return model->weights[a].dtype == model->weights[b].dtype &&
           model->weights[a].is_packed == model->weights[b].is_packed;
}

bool gpu_feed_forward_is_pair(const struct gpu_model *model, const struct plan_op *op)
{
    return op->feed_forward.gate != PLAN_NONE && op->feed_forward.gate_bias == PLAN_NONE &&
           op->feed_forward.up_bias == PLAN_NONE &&
           have_one_form(model, op->feed_forward.gate, op->feed_forward.up) &&
           (gpu_weight_streams(model, op->feed_forward.up) ||
            gpu_weight_has_blocks(model, op->feed_forward.up));
}

bool gpu_project_finishes(const struct plan_op *op)
{
    return op->project.bias != PLAN_NONE || op->project.norm.weight != PLAN_NONE;
}

uint32_t gpu_activation_kind(enum plan_activation activation)
{
    static const uint32_t kinds[] = {
        [PLAN_SILU] = ACTIVATION_SILU,
        [PLAN_GELU_TANH] = ACTIVATION_GELU_TANH,
        [PLAN_GELU_ERF] = ACTIVATION_GELU_ERF,
        [PLAN_SWIGLU_CLAMPED] = ACTIVATION_CLAMPED,
    };
    return kinds[activation];
}

/* Rows of x that two groups of blocks take side by side, each half of them on half of the
 * multiprocessors, when a block has few weights: reading them twice, mostly from the second-level
 * cache, costs less than what a kernel for more rows needs. */
#define HALF_ROWS       16u
#define TWICE_BYTES_MAX (192u << 10)

/* The widest that is not wider than needed. */
static uint32_t token_tiles(uint32_t rows)
{
    return rows <= 8 ? 1 : rows <= 16 ? 2 : 4;
}

bool gpu_linear_goes_twice(const struct gpu_model *model, const struct gpu_linear *linear)
{
    uint64_t columns = model->base.plan->weights[linear->weights[0]].columns;
    uint64_t tiles = 0;
    if (linear->rows <= HALF_ROWS || linear->rows > 2 * HALF_ROWS || linear->is_pair) {
        return false;
    }
    for (uint32_t i = 0; i < linear->part_count; i++) {
        if (!gpu_weight_streams(model, linear->weights[i]) ||
            model->weights[linear->weights[i]].is_packed) {
            return false;
        }
        tiles += (model->base.plan->weights[linear->weights[i]].rows + 15) / 16;
    }
    uint64_t blocks = model->device->info.multiprocessor_count / 2;
    return blocks && (tiles + blocks - 1) / blocks * columns * 32 <= TWICE_BYTES_MAX;
}

static const struct gpu_decode_kernel *choose_decode(const struct gpu_model *model,
                                                     const struct gpu_linear *linear)
{
    const struct plan *plan = model->base.plan;
    for (uint32_t i = 0; i < linear->part_count; i++) {
        if (!gpu_weight_streams(model, linear->weights[i]) ||
            !have_one_form(model, linear->weights[0], linear->weights[i])) {
            return NULL;
        }
    }
    if (linear->norm && (linear->norm->kind != PLAN_NORM_RMS || linear->norm->bias != PLAN_NONE)) {
        return NULL;
    }
    struct gpu_decode_key key = {
        .dtype = (uint32_t)model->weights[linear->weights[0]].dtype,
        .columns = (uint32_t)plan->weights[linear->weights[0]].columns,
        .token_tiles =
            gpu_linear_goes_twice(model, linear) ? HALF_ROWS / 8 : token_tiles(linear->rows),
        .from = linear->norm ? GPU_DECODE_FROM_NORM : GPU_DECODE_FROM_ACTIVATIONS,
        .to = linear->is_pair              ? GPU_DECODE_PAIR
              : linear->mode == LINEAR_ADD ? GPU_DECODE_ADD
                                           : GPU_DECODE_STORE,
        .activation = linear->is_pair ? linear->activation : 0,
    };
    const struct gpu_decode_kernel *kernel = NULL;
    if (linear->rows == 1 && model->weights[linear->weights[0]].is_packed) {
        key.token_tiles = 0; /* one row alone */
        kernel = gpu_decode_find(&model->program, &key);
        key.token_tiles = 1;
    }
    kernel = kernel ? kernel : gpu_decode_find(&model->program, &key);
    while (!kernel && key.token_tiles > 1) { /* wider ones may not fit the device */
        key.token_tiles /= 2;
        kernel = gpu_decode_find(&model->program, &key);
    }
    return kernel;
}

/* One block a multiprocessor, or one a tile when there are fewer. A projection whose weights fit
 * the rings of half as many takes only those: on the others the successor begins to read its
 * weights, while memory has little to do. */
static uint32_t decode_blocks(const struct gpu_model *model, const struct gpu_linear *linear,
                              const struct gpu_decode_kernel *kernel, uint32_t tiles)
{
    uint32_t blocks = model->device->info.multiprocessor_count;
    blocks = gpu_linear_goes_twice(model, linear) ? blocks / 2 : blocks;
    if (tiles <= blocks && kernel->segment && linear->mode == LINEAR_ADD &&
        2 * kernel->key.columns <= kernel->ring * kernel->segment * DECODE_WARPS) {
        return (tiles + 1) / 2;
    }
    return tiles < blocks ? tiles : blocks;
}

/* Of kernels for few rows of 16-bit weights. */
static bool stages(const struct gpu_decode_kernel *kernel)
{
    return !gpu_dtype_packs((enum dtype)kernel->key.dtype);
}

static llcuda_status run_decode(struct gpu_model *model, const struct gpu_linear *linear,
                                const struct gpu_decode_kernel *kernel, struct llcuda_error *error)
{
    struct linear_decode_arguments arguments = {
        .count = linear->count,
        .input = linear->norm ? model->live.residual : linear->input,
        .output = linear->output,
        .output_stride = linear->output_stride,
        .input_is_staged = linear->input_is_staged,
        .output_is_staged = linear->output_may_be_staged && linear->is_pair && stages(kernel),
    };
    if (linear->is_pair) {
        model->hidden_is_staged = arguments.output_is_staged;
    }
    if (linear->norm) {
        arguments.norm_weight = model->weights[linear->norm->weight].address;
        arguments.norm_epsilon = linear->norm->epsilon;
        arguments.norm_weight_offset = linear->norm->weight_offset;
    }
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < linear->part_count; i++) {
        arguments.weights[i] = model->weights[linear->weights[i]].address;
        arguments.rows[i] = (uint32_t)model->base.plan->weights[linear->weights[i]].rows;
        tiles += i == 0 || !linear->is_pair ? (arguments.rows[i] + 15) / 16 : 0;
    }
    /* One row: blocks without tiles keep their places. */
    bool is_row = kernel->key.token_tiles == 0;
    uint32_t blocks = is_row ? model->device->info.multiprocessor_count
                             : decode_blocks(model, linear, kernel, tiles);
    uint32_t group = is_row ? 1 : 8 * kernel->key.token_tiles;
    const struct gpu_launch launch = {
        .grid = {blocks, (linear->rows + group - 1) / group, 1},
        .block = {GPU_DECODE_THREADS, 1, 1},
        .shared_bytes = kernel->shared_bytes,
        .overlap = !model->device->options.no_overlap,
    };
    return model->driver->launch(model->driver, model->stream, kernel->function, &launch,
                                 &arguments, sizeof arguments, error);
}

/* Rows beyond which reading all weights once for every 32 of them costs more than a kernel for many
 * rows. */
#define DECODE_ROWS_MAX 32u

/* Whether one kernel can do weights a and b side by side: packed ones must lie so, too. */
static bool go_together(const struct gpu_model *model, uint32_t a, uint32_t b)
{
    return have_one_form(model, a, b) &&
           (!model->weights[a].is_packed ||
            model->weights[a].address + gpu_weight_stored_bytes(model, a) ==
                model->weights[b].address);
}

/* The parts of a layer that one kernel does: neighbours of one form. Returns their number. */
static uint32_t cut_runs(const struct gpu_model *model, const struct gpu_linear *linear,
                         struct gpu_linear runs[3])
{
    uint32_t count = 0;
    uint64_t output = linear->output;
    for (uint32_t i = 0; i < linear->part_count; i++) {
        uint32_t weight = linear->weights[i];
        bool joins =
            count > 0 && (linear->is_pair || go_together(model, linear->weights[i - 1], weight));
        if (joins) {
            struct gpu_linear *run = &runs[count - 1];
            run->weights[run->part_count++] = weight;
        } else {
            runs[count] = *linear;
            runs[count].weights[0] = weight;
            runs[count].part_count = 1;
            runs[count++].output = output;
        }
        output += model->base.plan->weights[weight].rows * sizeof(float);
    }
    return count;
}

llcuda_status gpu_linear_fused(struct gpu_model *model, const struct gpu_linear *linear, bool *done,
                               struct llcuda_error *error)
{
    struct gpu_linear runs[3];
    const struct gpu_decode_kernel *kernels[3];
    uint32_t count = cut_runs(model, linear, runs);
    const struct gpu_weight *weight = &model->weights[linear->weights[0]];
    uint64_t columns = model->base.plan->weights[linear->weights[0]].columns;
    bool packed = weight->is_packed && !linear->norm;
    bool few = linear->norm ? gpu_decode_norms(weight->dtype, columns, linear->rows)
                            : linear->rows <= DECODE_ROWS_MAX;
    few = packed || (few && !gpu_wide_serves(model, linear));
    struct gpu_linear first = *linear; /* packed parts are multiplied one by one */
    first.part_count = 1;
    *done =
        few && !gpu_matmul_serves(model, linear) && !(packed && gpu_matmul_serves(model, &first));
    for (uint32_t i = 0; i < count && *done; i++) {
        kernels[i] = choose_decode(model, &runs[i]);
        *done = kernels[i] != NULL;
    }
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < count && *done && status == LLCUDA_OK; i++) {
        status = run_decode(model, &runs[i], kernels[i], error);
    }
    /* Gate and up together save their way through memory. */
    if (!*done && !linear->norm && linear->is_pair && !gpu_matmul_serves(model, linear) &&
        gpu_wide_serves(model, linear)) {
        *done = true;
        status = gpu_wide_run(model, linear, error);
    }
    return status;
}

llcuda_status gpu_linear_parts(struct gpu_model *model, const struct gpu_linear *linear,
                               struct llcuda_error *error)
{
    if (gpu_matmul_serves(model, linear)) {
        return gpu_matmul_run(model, linear, error);
    }
    if (gpu_wide_serves(model, linear)) {
        return gpu_wide_run(model, linear, error);
    }
    struct gpu_linear part = *linear;
    part.part_count = 1;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < linear->part_count && status == LLCUDA_OK; i++) {
        part.weights[0] = linear->weights[i];
        status = gpu_linear_run(model, &part, error);
        part.output += model->base.plan->weights[linear->weights[i]].rows * sizeof(float);
    }
    return status;
}

bool gpu_linear_reads_staged(const struct gpu_model *model, const struct gpu_linear *linear)
{
    const struct gpu_decode_kernel *kernel =
        gpu_matmul_serves(model, linear) || gpu_wide_serves(model, linear)
            ? NULL
            : choose_decode(model, linear);
    return kernel && stages(kernel) && kernel->key.token_tiles == 1;
}

llcuda_status gpu_linear_run(struct gpu_model *model, const struct gpu_linear *linear,
                             struct llcuda_error *error)
{
    if (gpu_matmul_serves(model, linear)) {
        return gpu_matmul_run(model, linear, error);
    }
    if (gpu_wide_serves(model, linear)) {
        return gpu_wide_run(model, linear, error);
    }
    const struct gpu_decode_kernel *kernel = choose_decode(model, linear);
    return kernel ? run_decode(model, linear, kernel, error) : run_plain(model, linear, error);
}
