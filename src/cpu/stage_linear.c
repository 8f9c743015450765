/* Owns how a product of activations and weights is cut into items: row ranges of the weights, so
 * that each weight byte is read from memory by one thread, once a step, however many tokens there
 * are. Invariant: an item writes only its own range of rows of `out`. */
#include "cpu/model.h"

/* A range of rows that is multiplied at once should fit the second-level cache beside the
 * activations, since kernels may walk it once per few tokens … */
#define RANGE_BYTES_MAX (256u << 10)
/* … but few tokens stream weights once, and every new range makes memory wait. */
#define RANGE_BYTES_FEW  (512u << 10)
#define RANGE_TOKENS_FEW 4u
/* Kernels read two groups of rows side by side when one token leaves them waiting for memory, and
 * pass over many tokens for each range: it has so many groups at least, … */
#define RANGE_GROUPS_MIN 2u
/* … but for the last ones of few tokens, since who is late should hold as little as possible at the
 * end. An item is what is worth handing out then: about 5 µs of multiply-adds, and more than a
 * group where that is small. */
#define ITEM_WORK_MIN  (1u << 16)
#define ITEM_BYTES_MIN (32u << 10)
/* Of the next product's weights, what a thread fetches while it waits at the end of this one: a
 * part of the second-level cache of today's CPUs. */
#define FETCH_BYTES (512u << 10)

struct prepare {
    const struct linear_stage *stage;
    bool wanted[ACTIVATION_BF16 + 1];
};

static void prepare_row(void *context, uint32_t worker, uint64_t row)
{
    (void)worker;
    const struct prepare *prepare = context;
    struct cpu_model *model = prepare->stage->model;
    const float *input = cpu_row(prepare->stage->input, row);
    for (int format = ACTIVATION_Q8; format <= ACTIVATION_BF16; format++) {
        if (prepare->wanted[format]) {
            activation_prepare((enum activation_format)format, input, prepare->stage->columns,
                               model->prepared[format] + row * model->prepared_stride[format],
                               &model->device->features);
        }
    }
}

/* Returns whether there was anything to do. */
static bool prepare_inputs(const struct linear_stage *stage)
{
    struct prepare prepare = {.stage = stage};
    bool any = false;
    for (uint32_t i = 0; i < stage->part_count; i++) {
        const struct cpu_weight *weight = &stage->model->weights[stage->parts[i].weight];
        prepare.wanted[weight->kernel->activation] = true;
        any = any || weight->kernel->activation != ACTIVATION_F32;
    }
    if (any) {
        pool_run(stage->model->device->pool, stage->token_count, prepare_row, &prepare);
    }
    return any;
}

static void multiply(const struct linear_stage *stage, const struct linear_rows *rows,
                     uint32_t worker, uint32_t part, uint64_t row_begin, uint64_t row_end)
{
    struct cpu_model *model = stage->model;
    const struct cpu_weight *weight = &model->weights[stage->parts[part].weight + rows->expert];
    const struct linear_kernel *kernel = weight->kernel;
    struct linear_call call = {
        .weight = weight->data,
        .columns = weight->columns,
        .row_begin = row_begin,
        .row_end = row_end,
        .row_count = weight->rows,
        .activations = stage->input.data,
        .activation_stride = stage->input.stride * sizeof(float),
        .token_count = rows->count,
        .out = cpu_row(stage->parts[part].out, rows->begin),
        .out_stride = stage->parts[part].out.stride,
    };
    if (kernel->activation != ACTIVATION_F32) {
        call.activations = model->prepared[kernel->activation];
        call.activation_stride = model->prepared_stride[kernel->activation];
    }
    call.activations =
        (const unsigned char *)call.activations + rows->begin * call.activation_stride;
    uint64_t began = cpu_profile_now(&model->profile);
    kernel->multiply(&call);
    if (model->profile.on) {
        model->workers[worker].part_ns[part] += clock_now_ns() - began;
    }
    uint64_t groups = (row_end - row_begin + kernel->row_group - 1) / kernel->row_group;
    model->workers[worker].weight_bytes_read += groups * weight->group_bytes;
}

/* Items of one weight, and what they multiply. */
struct linear_items {
    struct linear_rows rows;
    uint32_t part;
    uint64_t begin, end;
};

/* Those that `item` is one of. */
static struct linear_items items_of(const struct linear_stage *stage, uint64_t item)
{
    struct linear_items items = {.rows = {.count = stage->token_count}};
    if (stage->experts) {
        uint64_t own = stage->item_end[0] / stage->expert_count;
        const struct cpu_expert_rows *found = &stage->experts[item / own];
        items.rows = (struct linear_rows){found->expert, found->begin, found->count};
        items.begin = item / own * own;
        items.end = items.begin + own;
        return items;
    }
    while (item >= stage->item_end[items.part]) {
        items.begin = stage->item_end[items.part++];
    }
    items.end = stage->item_end[items.part];
    return items;
}

/* Items [begin, end) of one weight. */
static void run_items(const struct linear_stage *stage, uint32_t worker,
                      const struct linear_items *items, uint64_t begin, uint64_t end)
{
    uint64_t row_count = stage->model->weights[stage->parts[items->part].weight].rows;
    uint64_t row_begin = (begin - items->begin) * stage->item_rows[items->part];
    uint64_t row_end = (end - items->begin) * stage->item_rows[items->part];
    row_end = row_end < row_count ? row_end : row_count;
    multiply(stage, &items->rows, worker, items->part, row_begin, row_end);
    for (uint32_t i = 1; stage->side_by_side && i < stage->part_count; i++) {
        multiply(stage, &items->rows, worker, i, row_begin, row_end);
    }
    if (stage->finish) {
        stage->finish(stage, &items->rows, row_begin, row_end);
    }
}

static void run_range(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    const struct linear_stage *stage = context;
    while (begin < end) {
        struct linear_items items = items_of(stage, begin);
        uint64_t stop = end < items.end ? end : items.end;
        run_items(stage, worker, &items, begin, stop);
        begin = stop;
    }
}

/* Tokens that an expert has on average, or all. */
static uint64_t tokens_of_weight(const struct linear_stage *stage)
{
    uint64_t sharers = stage->experts ? stage->expert_count : 1;
    return (stage->token_count + sharers - 1) / sharers;
}

static uint64_t row_bytes(const struct cpu_weight *weight)
{
    return weight->group_bytes / weight->kernel->row_group + 1;
}

/* Rows of an item: a multiple of the group. */
static uint64_t item_rows(const struct linear_stage *stage, const struct cpu_weight *weight,
                          uint64_t group)
{
    uint64_t tokens = tokens_of_weight(stage);
    uint64_t rows = ITEM_WORK_MIN / (weight->columns * tokens) + 1;
    uint64_t least =
        tokens > RANGE_TOKENS_FEW ? RANGE_GROUPS_MIN * group : ITEM_BYTES_MIN / row_bytes(weight);
    rows = rows > least ? rows : least;
    return (rows + group - 1) / group * group;
}

/* Items of a range of this weight's rows. */
static uint64_t range_items(const struct linear_stage *stage, const struct cpu_weight *weight,
                            uint64_t group, uint64_t rows)
{
    bool few = tokens_of_weight(stage) <= RANGE_TOKENS_FEW;
    uint64_t most = (few ? RANGE_BYTES_FEW : RANGE_BYTES_MAX) / row_bytes(weight);
    most = most > RANGE_GROUPS_MIN * group ? most : RANGE_GROUPS_MIN * group;
    return (most + rows - 1) / rows;
}

/* The stage's time goes to its parts in proportion to what workers spent in their products. */
static void profile_parts(const struct linear_stage *stage, uint64_t taken_ns)
{
    struct cpu_model *model = stage->model;
    uint64_t part_ns[3] = {0};
    uint64_t total_ns = 1;
    for (uint32_t i = 0; i < stage->part_count; i++) {
        for (uint32_t w = 0; w < pool_thread_count(model->device->pool); w++) {
            part_ns[i] += model->workers[w].part_ns[i];
            model->workers[w].part_ns[i] = 0;
        }
        total_ns += part_ns[i];
    }
    for (uint32_t i = 0; i < stage->part_count; i++) {
        const struct cpu_weight *weight = &model->weights[stage->parts[i].weight];
        uint64_t group = weight->kernel->row_group;
        struct device_profile_row *row =
            cpu_profile_row(&model->profile, stage->work, weight->kernel->dtype);
        row->is_integer = weight->kernel->activation == ACTIVATION_Q8;
        uint64_t weights = stage->experts ? stage->expert_count : 1;
        row->count++;
        row->ns += (uint64_t)((double)taken_ns * (double)part_ns[i] / (double)total_ns);
        row->bytes += (weight->rows + group - 1) / group * weight->group_bytes * weights;
        row->operations += 2 * weight->rows * weight->columns * stage->token_count;
    }
}

/* Shows an observer what goes into each product. */
static void observe(const struct linear_stage *stage)
{
    const struct device_observer *observer = stage->model->base.observer;
    for (uint32_t i = 0; observer && i < stage->part_count; i++) {
        if (!stage->experts) {
            observer->inputs(observer->user, stage->parts[i].weight, stage->input.data,
                             stage->input.stride, stage->token_count, stage->columns);
        }
        for (uint32_t e = 0; stage->experts && e < stage->expert_count; e++) {
            const struct cpu_expert_rows *rows = &stage->experts[e];
            observer->inputs(observer->user, stage->parts[i].weight + rows->expert,
                             cpu_row(stage->input, rows->begin), stage->input.stride, rows->count,
                             stage->columns);
        }
    }
}

/* Cuts the stage into items and returns their number. */
static uint64_t cut_items(struct linear_stage *stage)
{
    uint64_t group = 1;
    for (uint32_t i = 0; i < stage->part_count; i++) {
        const struct cpu_weight *weight = &stage->model->weights[stage->parts[i].weight];
        /* Groups are powers of two: the largest serves all. */
        group = weight->kernel->row_group > group ? weight->kernel->row_group : group;
    }
    uint64_t items = 0;
    uint32_t counted = stage->side_by_side ? 1 : stage->part_count;
    stage->range_items = UINT64_MAX;
    for (uint32_t i = 0; i < counted; i++) {
        const struct cpu_weight *weight = &stage->model->weights[stage->parts[i].weight];
        uint64_t rows = stage->item_rows[i] = item_rows(stage, weight, group);
        uint64_t most = range_items(stage, weight, group, rows);
        uint64_t own = (weight->rows + rows - 1) / rows;
        items += stage->experts ? own * stage->expert_count : own;
        stage->item_end[i] = items;
        stage->range_items = most < stage->range_items ? most : stage->range_items;
    }
    return items;
}

void linear_stage_fetch(struct linear_stage *stage)
{
    struct pool *pool = stage->model->device->pool;
    uint64_t count = stage->part_count ? cut_items(stage) : 0;
    for (uint32_t worker = 0; worker < pool_thread_count(pool); worker++) {
        uint64_t item = pool_share_begin(pool, worker, count);
        if (item >= count) {
            pool_fetch_meanwhile(pool, worker, NULL, 0);
            continue;
        }
        struct linear_items items = items_of(stage, item);
        const struct cpu_weight *weight = &stage->model->weights[stage->parts[items.part].weight];
        uint64_t row = (item - items.begin) * stage->item_rows[items.part];
        uint64_t offset = row / weight->kernel->row_group * weight->group_bytes;
        pool_fetch_meanwhile(pool, worker, (const unsigned char *)weight->data + offset,
                             FETCH_BYTES);
    }
}

void linear_stage_run(struct linear_stage *stage)
{
    struct cpu_profile *profile = &stage->model->profile;
    observe(stage);
    uint64_t began = cpu_profile_now(profile);
    if (prepare_inputs(stage)) {
        /* Read once, written with about a byte an element; the largest, the product, rounding. */
        uint64_t elements = stage->token_count * stage->columns;
        cpu_profile_add(
            profile, CPU_WORK_PREPARE, DTYPE_F32, began,
            (struct cpu_work_cost){elements * sizeof(float) +
                                       stage->token_count *
                                           activation_row_bytes(ACTIVATION_Q8, stage->columns),
                                   3 * elements});
    }
    uint64_t items = cut_items(stage);
    began = cpu_profile_now(profile);
    pool_run_ranges(stage->model->device->pool, items, stage->range_items, run_range, stage);
    if (profile->on) {
        profile_parts(stage, clock_now_ns() - began);
    }
}
