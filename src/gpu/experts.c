/* Owns a feed-forward block of experts on the device: its lists, and which kernels do its products.
 * Which rows go to which expert is known on the device alone: grids cover the most tiles that there
 * can be, so that a captured step serves any routing. Invariant: the bits of a row depend on no
 * choice made here, since all kernels of one type of weights sum in one order. One thread. */
#include "gpu/model.h"

#define PLAIN_ROWS   8u /* of the weight, a block: as in linear_plain.cu */
#define PLAIN_TOKENS 8u
/* Streaming kernels serve as many rows of an expert, on average; more are for tiles. */
#define DECODE_AVERAGE_MAX 16u
#define DECODE_ROWS_MAX    32u
/* Packed weights are read once for every 32 rows of an expert up to so many on average, and
 * unpacked for more; measured on an H200, where those of MXFP4 are the quickest to take apart. For
 * that, as many experts at a time as fit this, and one at least. */
#define PACKED_AVERAGE_MAX       96u
#define PACKED_AVERAGE_MAX_MXFP4 256u
#define UNPACKED_EXPERTS_BYTES   (256ull << 20)
#define UNPACKED_TILES_MAX       65535u /* of sixteen rows, by one launch */

/* --- memory ---------------------------------------------------------------------------------- */

/* Offsets into buffers.routes. */
struct routes {
    uint64_t arrived, tile_counts, tiles[2], ids, weights, shared, places;
};

static uint64_t put(uint64_t *end, uint64_t count, uint64_t size)
{
    uint64_t at = *end;
    *end = (at + count * size + 15) / 16 * 16;
    return at;
}

/* Most tiles that `pairs` rows of so many experts are cut into. */
static uint32_t tiles_max(uint32_t experts, uint32_t pairs, uint32_t tokens)
{
    return (experts < pairs ? experts : pairs) + pairs / tokens;
}

static uint64_t routes_of(const struct gpu_model *model, struct routes *routes)
{
    const struct plan *plan = model->base.plan;
    uint32_t rows = model->base.options.rows_max;
    uint32_t pairs = rows * plan->used_count;
    uint32_t tiles = tiles_max(plan->expert_count, pairs, PLAIN_TOKENS);
    uint64_t end = 0;
    routes->arrived = put(&end, 1, sizeof(uint32_t));
    routes->tile_counts = put(&end, 2, sizeof(uint32_t));
    routes->tiles[0] = put(&end, tiles, sizeof(struct expert_tile));
    routes->tiles[1] = put(&end, tiles, sizeof(struct expert_tile));
    routes->ids = put(&end, pairs, sizeof(uint32_t));
    routes->weights = put(&end, pairs, sizeof(float));
    routes->shared = put(&end, rows, sizeof(float));
    routes->places = put(&end, pairs, sizeof(uint32_t));
    return end;
}

uint64_t gpu_experts_route_bytes(const struct gpu_model *model)
{
    struct routes routes;
    return model->base.plan->expert_count ? routes_of(model, &routes) : 0;
}

uint64_t gpu_experts_raw_floats(const struct gpu_model *model)
{
    const struct plan *plan = model->base.plan;
    uint64_t raw = 2ull * plan->expert_width;
    return plan->expert_count == 0        ? 0
           : raw > plan->embedding_length ? raw
                                          : plan->embedding_length;
}

/* Of one expert, as activations. */
static uint64_t unpacked_tiles(const struct gpu_model *model, uint32_t weight)
{
    return (model->base.plan->weights[weight].rows + 15) / 16;
}

static uint64_t unpacked_bytes(const struct gpu_model *model, uint32_t weight)
{
    return unpacked_tiles(model, weight) * 16 * model->base.plan->weights[weight].columns * 2;
}

static uint32_t packed_average_max(enum dtype dtype)
{
    return dtype == DTYPE_MXFP4 ? PACKED_AVERAGE_MAX_MXFP4 : PACKED_AVERAGE_MAX;
}

uint64_t gpu_experts_unpacked_bytes(const struct gpu_model *model)
{
    const struct plan *plan = model->base.plan;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind != PLAN_EXPERTS ||
            (uint64_t)model->base.options.rows_max * op->experts.used_count <=
                (uint64_t)PACKED_AVERAGE_MAX * op->experts.expert_count) {
            continue;
        }
        bool up = model->weights[op->experts.up].is_packed;
        bool down = model->weights[op->experts.down].is_packed;
        uint64_t each = up ? 2 * unpacked_bytes(model, op->experts.up) : 0;
        uint64_t other = down ? unpacked_bytes(model, op->experts.down) : 0;
        each = each > other ? each : other;
        uint64_t all = each * op->experts.expert_count;
        uint64_t most = model->device->options.unpacked_bytes_max;
        most = most ? most : UNPACKED_EXPERTS_BYTES;
        all = all < most ? all : most;
        all = all > each ? all : each;
        bytes = all > bytes ? all : bytes;
    }
    return bytes;
}

uint64_t gpu_experts_step_bytes(const struct gpu_model *model, uint32_t rows)
{
    const struct plan *plan = model->base.plan;
    const struct plan_op *last = NULL;
    double touched = 0;
    double bytes = 0;
    for (uint32_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind != PLAN_EXPERTS) {
            continue;
        }
        if (!last || last->experts.expert_count != op->experts.expert_count ||
            last->experts.used_count != op->experts.used_count) {
            touched = plan_experts_share(op, rows) * op->experts.expert_count;
        }
        last = op;
        bytes += touched * (double)(model->weights[op->experts.gate].bytes +
                                    model->weights[op->experts.up].bytes +
                                    model->weights[op->experts.down].bytes);
    }
    return (uint64_t)bytes;
}

/* --- kernels --------------------------------------------------------------------------------- */

bool gpu_experts_are_pair(const struct gpu_model *model, const struct plan_op *op)
{
    return op->experts.activation != PLAN_SWIGLU_CLAMPED && op->experts.gate_bias == PLAN_NONE &&
           op->experts.up_bias == PLAN_NONE &&
           model->weights[op->experts.gate].dtype == model->weights[op->experts.up].dtype &&
           (gpu_weight_streams(model, op->experts.up) ||
            gpu_weight_has_blocks(model, op->experts.up));
}

/* A product of experts with their rows. */
struct product {
    uint32_t weights[2]; /* of the first expert: gate and up, or down alone */
    uint32_t part_count;
    bool is_pair;
    uint32_t activation;
    uint32_t expert_count, used_count;
    uint64_t input, output;
    uint32_t output_stride;
    uint32_t divisor;
    uint32_t list; /* which of the two lists of tiles */
    /* What does it, chosen by choose_kernel: one of these, or the plain kernel. */
    const struct gpu_decode_kernel *decode;
    bool is_wide;
    bool unpacks; /* first */
    uint32_t tile;
    uint32_t tokens; /* most rows of a tile */
};

static const struct gpu_decode_kernel *find_decode(const struct gpu_model *model,
                                                   const struct product *product, uint32_t average)
{
    bool is_row = model->weights[product->weights[0]].is_packed && model->live.rows == 1;
    struct gpu_decode_key key = {
        .dtype = (uint32_t)model->weights[product->weights[0]].dtype,
        .columns = (uint32_t)model->base.plan->weights[product->weights[0]].columns,
        .token_tiles = is_row         ? 0 /* of each expert that is touched */
                       : average <= 4 ? 1
                       : average <= 8 ? 2
                                      : 4,
        .from = GPU_DECODE_FROM_ACTIVATIONS,
        .to = product->is_pair ? GPU_DECODE_PAIR : GPU_DECODE_STORE,
        .activation = product->is_pair ? product->activation : 0,
        .grouped = 1,
    };
    const struct gpu_decode_kernel *kernel = gpu_decode_find(&model->program, &key);
    while (!kernel && key.token_tiles != 1) { /* wider ones may not fit the device */
        key.token_tiles = key.token_tiles ? key.token_tiles / 2 : 1;
        kernel = gpu_decode_find(&model->program, &key);
    }
    return kernel;
}

/* Chooses what does a product; false when nothing does it as a pair. */
static bool choose_kernel(const struct gpu_model *model, struct product *product)
{
    const struct gpu_weight *weight = &model->weights[product->weights[0]];
    uint32_t rows = model->live.rows;
    uint32_t average = rows * product->used_count / product->expert_count;
    bool one_type =
        product->part_count == 1 || weight->dtype == model->weights[product->weights[1]].dtype;
    enum dtype dtype = weight->is_packed ? model->activation : weight->dtype;
    struct gpu_function *const *wide = model->program.group[dtype][product->is_pair];
    bool has_wide = one_type && wide[GPU_WIDE_TILE_COUNT - 1] &&
                    model->base.plan->weights[product->weights[0]].columns % 32 == 0 &&
                    (!weight->is_packed || gpu_experts_unpacked_bytes(model) != 0);
    uint32_t average_max =
        weight->is_packed ? packed_average_max(weight->dtype) : DECODE_AVERAGE_MAX;
    product->tokens = PLAIN_TOKENS;
    product->unpacks = weight->is_packed;
    if (one_type && gpu_weight_streams(model, product->weights[0]) &&
        (rows <= DECODE_ROWS_MAX || average <= average_max || !has_wide)) {
        product->decode = find_decode(model, product, average);
    }
    if (product->decode) {
        uint32_t tiles = product->decode->key.token_tiles;
        product->tokens = tiles ? 8 * tiles : 1;
        return true;
    }
    product->is_wide = has_wide;
    for (uint32_t tile = 0; has_wide && tile < GPU_WIDE_TILE_COUNT; tile++) {
        product->tile = tile;
        product->tokens = gpu_wide_tokens(tile);
        if (wide[tile] && 4 * average >= 3 * product->tokens) {
            break;
        }
    }
    return has_wide || !product->is_pair;
}

static struct linear_group group_of(const struct gpu_model *model, const struct product *product)
{
    struct routes routes;
    uint64_t base = model->buffers.routes;
    routes_of(model, &routes);
    return (struct linear_group){
        .tiles = base + routes.tiles[product->list],
        .tile_count = base + routes.tile_counts + product->list * sizeof(uint32_t),
        .places = base + routes.places,
        .expert_bytes = gpu_weight_stored_bytes(model, product->weights[0]),
        .divisor = product->divisor,
        .expert_count = product->expert_count,
    };
}

static uint32_t tile_bound(const struct gpu_model *model, const struct product *product)
{
    uint32_t pairs = model->live.rows * product->used_count;
    uint32_t bound = tiles_max(product->expert_count, pairs, product->tokens);
    uint32_t most = product->expert_count < pairs ? product->expert_count : pairs;
    return model->live.rows <= product->tokens ? most : bound; /* no expert has more rows */
}

static uint32_t rows_of(const struct gpu_model *model, const struct product *product, uint32_t part)
{
    return (uint32_t)model->base.plan->weights[product->weights[part]].rows;
}

static llcuda_status launch(struct gpu_model *model, struct gpu_function *function,
                            struct gpu_launch *how, const void *arguments, uint32_t bytes,
                            struct llcuda_error *error)
{
    how->overlap = !model->device->options.no_overlap;
    return model->driver->launch(model->driver, model->stream, function, how, arguments, bytes,
                                 error);
}

/* Parts [begin, end) of a product. Few tiles share the device among them; of many, each is cut a
 * little, so that it fills up evenly at the end. */
static llcuda_status run_parts(struct gpu_model *model, const struct product *product,
                               uint32_t begin, uint32_t end, uint64_t output,
                               struct llcuda_error *error)
{
    struct linear_decode_group_arguments arguments = {
        .linear = {.count = model->live.count,
                   .input = product->input,
                   .output = output,
                   .output_stride = product->output_stride},
        .group = group_of(model, product),
    };
    uint32_t tiles = 0;
    for (uint32_t i = begin; i < end; i++) {
        arguments.linear.weights[i - begin] = model->weights[product->weights[i]].address;
        arguments.linear.rows[i - begin] = rows_of(model, product, i);
        tiles += i == 0 || !product->is_pair ? (rows_of(model, product, i) + 15) / 16 : 0;
    }
    uint32_t bound = tile_bound(model, product);
    uint32_t all = model->device->info.multiprocessor_count;
    uint32_t blocks = 2 * bound <= all ? all / bound : (4 * all + bound - 1) / bound;
    struct gpu_launch how = {
        .grid = {tiles < blocks ? tiles : blocks, bound, 1},
        .block = {GPU_DECODE_THREADS, 1, 1},
        .shared_bytes = product->decode->shared_bytes,
    };
    return launch(model, product->decode->function, &how, &arguments, sizeof arguments, error);
}

/* Packed gates and ups do not lie beside each other: the kernels that do not make pairs of them
 * take one after the other. */
static llcuda_status run_decode(struct gpu_model *model, const struct product *product,
                                struct llcuda_error *error)
{
    bool is_packed = model->weights[product->weights[0]].is_packed;
    uint32_t each = is_packed && !product->is_pair ? 1 : product->part_count;
    uint64_t output = product->output;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < product->part_count && status == LLCUDA_OK; i += each) {
        status = run_parts(model, product, i, i + each, output, error);
        output += rows_of(model, product, i) * sizeof(float);
    }
    return status;
}

/* Of experts [begin, begin + count) whose weights lie at buffers.unpacked, or with `count` 0 of all
 * as they are. */
static llcuda_status run_wide(struct gpu_model *model, const struct product *product,
                              uint32_t begin, uint32_t count, struct llcuda_error *error)
{
    const struct gpu_weight *first = &model->weights[product->weights[0]];
    enum dtype dtype = count ? model->activation : first->dtype;
    uint64_t columns = model->base.plan->weights[product->weights[0]].columns;
    struct linear_wide_group_arguments arguments = {
        .linear = {.count = model->live.count,
                   .input = product->input,
                   .output = product->output,
                   .row_bytes = count ? 2 * columns : first->row_bytes,
                   .columns = (uint32_t)columns,
                   .output_stride = product->output_stride,
                   .kind = product->is_pair ? product->activation : LINEAR_STORE},
        .group = group_of(model, product),
    };
    uint64_t unpacked = model->buffers.unpacked;
    for (uint32_t i = 0; i < product->part_count; i++) {
        arguments.linear.weights[i] =
            count ? unpacked : model->weights[product->weights[i]].address;
        arguments.linear.rows[i] = rows_of(model, product, i);
        unpacked += count * unpacked_bytes(model, product->weights[i]);
    }
    if (count) {
        arguments.group.expert_bytes = unpacked_bytes(model, product->weights[0]);
        arguments.group.expert_first = begin;
        arguments.group.expert_count = count;
    }
    struct gpu_launch how;
    gpu_wide_launch(&model->device->info, dtype, product->tile, product->is_pair,
                    arguments.linear.rows, product->part_count, 1, &how);
    how.grid[0] = tile_bound(model, product);
    return launch(model, model->program.group[dtype][product->is_pair][product->tile], &how,
                  &arguments, sizeof arguments, error);
}

/* Unpacks as many experts as there is room for, and multiplies with them. */
static llcuda_status run_unpacked(struct gpu_model *model, const struct product *product,
                                  struct llcuda_error *error)
{
    uint64_t tiles = unpacked_tiles(model, product->weights[0]); /* of each part */
    uint64_t each = unpacked_bytes(model, product->weights[0]) * product->part_count;
    uint64_t room = gpu_experts_unpacked_bytes(model) / each;
    room = room < UNPACKED_TILES_MAX / tiles ? room : UNPACKED_TILES_MAX / tiles;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t begin = 0; begin < product->expert_count && status == LLCUDA_OK;) {
        uint32_t left = product->expert_count - begin;
        uint32_t count = left < room ? left : (uint32_t)room;
        uint64_t output = model->buffers.unpacked;
        for (uint32_t i = 0; i < product->part_count && status == LLCUDA_OK; i++) {
            uint32_t weight = product->weights[i] + begin;
            status = gpu_unpack_tiles(model, weight, model->weights[weight].address,
                                      (uint32_t)(tiles * count), output, error);
            output += count * unpacked_bytes(model, weight);
        }
        if (status == LLCUDA_OK) {
            status = run_wide(model, product, begin, count, error);
        }
        begin += count;
    }
    return status;
}

static llcuda_status run_plain(struct gpu_model *model, const struct product *product,
                               struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    uint64_t output = product->output;
    for (uint32_t i = 0; i < product->part_count && status == LLCUDA_OK; i++) {
        const struct gpu_weight *weight = &model->weights[product->weights[i]];
        uint32_t rows = rows_of(model, product, i);
        struct linear_plain_group_arguments arguments = {
            .linear = {.count = model->live.count,
                       .weight = weight->address,
                       .input = product->input,
                       .output = output,
                       .row_bytes = weight->row_bytes,
                       .rows = rows,
                       .columns = (uint32_t)model->base.plan->weights[product->weights[i]].columns,
                       .output_stride = product->output_stride,
                       .mode = LINEAR_STORE,
                       .scale = 1.0f},
            .group = group_of(model, product),
        };
        arguments.group.expert_bytes = gpu_weight_stored_bytes(model, product->weights[i]);
        struct gpu_launch how = {
            .grid = {(rows + PLAIN_ROWS - 1) / PLAIN_ROWS, tile_bound(model, product), 1},
            .block = {32 * PLAIN_ROWS, 1, 1},
        };
        status = launch(model, model->program.group_plain[weight->dtype], &how, &arguments,
                        sizeof arguments, error);
        output += rows * sizeof(float);
    }
    return status;
}

static llcuda_status run_product(struct gpu_model *model, const struct product *product,
                                 struct llcuda_error *error)
{
    if (!product->decode && product->unpacks && !product->is_wide) {
        return error_set(error, LLCUDA_UNSUPPORTED, "no kernel reads these packed experts");
    }
    return product->decode                        ? run_decode(model, product, error)
           : product->is_wide && product->unpacks ? run_unpacked(model, product, error)
           : product->is_wide                     ? run_wide(model, product, 0, 0, error)
                                                  : run_plain(model, product, error);
}

/* --- the stage ------------------------------------------------------------------------------- */

static uint64_t vector_of(const struct gpu_model *model, uint32_t weight)
{
    return weight == PLAN_NONE ? 0 : model->weights[weight].address;
}

static struct gpu_linear dense(const struct gpu_model *model, uint32_t weight, uint64_t input,
                               uint64_t output)
{
    return (struct gpu_linear){
        .weights = {weight},
        .part_count = 1,
        .input = input,
        .output = output,
        .output_stride = (uint32_t)model->base.plan->weights[weight].rows,
        .count = model->live.count,
        .rows = model->live.rows,
        .mode = LINEAR_STORE,
    };
}

static llcuda_status run_route(struct gpu_model *model, const struct plan_op *op,
                               const uint32_t tokens[2], struct llcuda_error *error)
{
    const struct gpu_linear router =
        dense(model, op->experts.router, model->buffers.normed, model->buffers.router);
    struct routes routes;
    uint64_t base = model->buffers.routes;
    routes_of(model, &routes);
    const struct route_arguments arguments = {
        .count = model->live.count,
        .logits = model->buffers.router,
        .bias = vector_of(model, op->experts.router_bias),
        .selection_bias = vector_of(model, op->experts.selection_bias),
        .input = model->buffers.normed,
        .shared_router = vector_of(model, op->experts.shared_router),
        .ids = base + routes.ids,
        .weights = base + routes.weights,
        .shared = base + routes.shared,
        .places = base + routes.places,
        .tiles = {base + routes.tiles[0], base + routes.tiles[1]},
        .tile_counts = base + routes.tile_counts,
        .arrived = base + routes.arrived,
        .expert_count = op->experts.expert_count,
        .used_count = op->experts.used_count,
        .columns = model->base.plan->embedding_length,
        .sigmoid = op->experts.scoring == PLAN_SCORING_SIGMOID,
        .normalised = op->experts.normalised,
        .scale = op->experts.scale,
        .tile_tokens = {tokens[0], tokens[1]},
    };
    struct gpu_launch how = {
        .grid = {(model->live.rows + ROUTE_ROWS - 1) / ROUTE_ROWS, 1, 1},
        .block = {ROUTE_THREADS, 1, 1},
    };
    llcuda_status status = gpu_linear_run(model, &router, error);
    return status == LLCUDA_OK
               ? launch(model, model->program.route, &how, &arguments, sizeof arguments, error)
               : status;
}

/* hidden = activation(gate) · up; of `used` places a row with the biases of their experts, or of
 * the shared expert. */
static llcuda_status run_activate(struct gpu_model *model, const struct plan_op *op, bool shared,
                                  uint32_t width, struct llcuda_error *error)
{
    struct routes routes;
    routes_of(model, &routes);
    uint32_t used = shared ? 1 : op->experts.used_count;
    const struct experts_activate_arguments arguments = {
        .count = model->live.count,
        .raw = shared ? model->buffers.raw : model->buffers.expert_raw,
        .ids = shared ? 0 : model->buffers.routes + routes.ids,
        .gate_bias = shared ? 0 : vector_of(model, op->experts.gate_bias),
        .up_bias = shared ? 0 : vector_of(model, op->experts.up_bias),
        .hidden = shared ? model->buffers.hidden : model->buffers.expert_hidden,
        .width = width,
        .used_count = used,
        .kind = gpu_activation_kind(op->experts.activation),
    };
    struct gpu_launch how = {
        .grid = {model->live.rows * used, gpu_unit_blocks(width), 1},
        .block = {GPU_ELEMENT_THREADS, 1, 1},
    };
    return launch(model, model->program.experts_activate, &how, &arguments, sizeof arguments,
                  error);
}

static llcuda_status run_shared(struct gpu_model *model, const struct plan_op *op,
                                struct llcuda_error *error)
{
    uint32_t width = (uint32_t)model->base.plan->weights[op->experts.shared_up].rows;
    struct gpu_linear linear =
        dense(model, op->experts.shared_gate, model->buffers.normed, model->buffers.raw);
    linear.weights[1] = op->experts.shared_up;
    linear.part_count = 2;
    linear.output_stride = 2 * width;
    llcuda_status status = gpu_linear_parts(model, &linear, error);
    if (status == LLCUDA_OK) {
        status = run_activate(model, op, true, width, error);
    }
    linear = dense(model, op->experts.shared_down, model->buffers.hidden, model->buffers.product);
    return status == LLCUDA_OK ? gpu_linear_run(model, &linear, error) : status;
}

static llcuda_status run_combine(struct gpu_model *model, const struct plan_op *op,
                                 struct llcuda_error *error)
{
    struct routes routes;
    uint64_t base = model->buffers.routes;
    uint32_t width = model->base.plan->embedding_length;
    routes_of(model, &routes);
    const struct experts_combine_arguments arguments = {
        .count = model->live.count,
        .products = model->buffers.expert_raw,
        .ids = base + routes.ids,
        .weights = base + routes.weights,
        .bias = vector_of(model, op->experts.down_bias),
        .shared_product = op->experts.shared_up == PLAN_NONE ? 0 : model->buffers.product,
        .shared = base + routes.shared,
        .residual = model->live.residual,
        .width = width,
        .used_count = op->experts.used_count,
    };
    struct gpu_launch how = {
        .grid = {model->live.rows, gpu_element_blocks(width), 1},
        .block = {GPU_ELEMENT_THREADS, 1, 1},
    };
    return launch(model, model->program.experts_combine, &how, &arguments, sizeof arguments, error);
}

llcuda_status gpu_experts_run(struct gpu_model *model, const struct plan_op *op,
                              struct llcuda_error *error)
{
    uint32_t width = (uint32_t)model->base.plan->weights[op->experts.up].rows;
    struct product first = {
        .weights = {op->experts.gate, op->experts.up},
        .part_count = 2,
        .is_pair = gpu_experts_are_pair(model, op),
        .activation = gpu_activation_kind(op->experts.activation),
        .expert_count = op->experts.expert_count,
        .used_count = op->experts.used_count,
        .input = model->buffers.normed,
        .divisor = op->experts.used_count,
    };
    if (!choose_kernel(model, &first)) {
        first.is_pair = false;
        choose_kernel(model, &first);
    }
    first.output = first.is_pair ? model->buffers.expert_hidden : model->buffers.expert_raw;
    first.output_stride = first.is_pair ? width : 2 * width;
    struct product second = {
        .weights = {op->experts.down},
        .part_count = 1,
        .expert_count = op->experts.expert_count,
        .used_count = op->experts.used_count,
        .input = model->buffers.expert_hidden,
        .output = model->buffers.expert_raw,
        .output_stride = model->base.plan->embedding_length,
        .divisor = 1,
        .list = 1,
    };
    choose_kernel(model, &second);
    const uint32_t tokens[2] = {first.tokens, second.tokens};
    llcuda_status status = run_route(model, op, tokens, error);
    if (status == LLCUDA_OK) {
        status = run_product(model, &first, error);
    }
    if (status == LLCUDA_OK && !first.is_pair) {
        status = run_activate(model, op, false, width, error);
    }
    if (status == LLCUDA_OK) {
        status = run_product(model, &second, error);
    }
    if (status == LLCUDA_OK && op->experts.shared_up != PLAN_NONE) {
        status = run_shared(model, op, error);
    }
    return status == LLCUDA_OK ? run_combine(model, op, error) : status;
}
