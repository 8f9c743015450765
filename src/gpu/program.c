/* Owns the compiled kernels of a model: which texts make up a module, and the constants before
 * them. One thread. Knows no plan beyond the types of its weights. */
#include "gpu/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/model.h"
#include "gpu/prelude.h"

const char *const gpu_element_files[] = {
    "arguments_linear.h",
    "device.cuh",
    "weight_formats.cuh",
    "packed_formats.cuh",
    "norm.cu",
    "embed.cu",
    "gather.cu",
    "activation.cu",
    "linear_groups.cuh",
    "linear_plain.cu",
    "arguments_choose.h",
    "choose.cu",
    "arguments_sample.h",
    "sample_select.cuh",
    "sample.cu",
    "dequantize.cu",
    NULL,
};

static const struct {
    const char *name;
    uint32_t threads;
} kernels[] = {
    [GPU_KERNEL_NORM_ROWS] = {"norm_rows", 512},
    [GPU_KERNEL_NORM_FLOATS] = {"norm_floats", 512},
    [GPU_KERNEL_PROJECT_FINISH] = {"project_finish", 512},
    [GPU_KERNEL_ACTIVATE] = {"activate", 256},
    [GPU_KERNEL_LOGITS_FINISH] = {"logits_finish", 256},
    [GPU_KERNEL_GATHER_ROWS] = {"gather_rows", 256},
    [GPU_KERNEL_CHOOSE] = {"choose", 256},
    [GPU_KERNEL_SAMPLE_EDIT] = {"sample_edit", 256},
    [GPU_KERNEL_SAMPLE_SCAN] = {"sample_scan", 256},
    [GPU_KERNEL_SAMPLE_DRAW] = {"sample_draw", 512},
    [GPU_KERNEL_SAMPLE_LOGPROBS] = {"sample_logprobs", 512},
};

uint32_t gpu_kernel_threads(enum gpu_kernel kernel)
{
    if (kernel >= GPU_KERNEL_REPACK) {
        return 32;
    }
    if (kernel >= GPU_KERNEL_PACKED_EMBED) {
        return 128;
    }
    if (kernel >= GPU_KERNEL_LINEAR_PLAIN) {
        return 256;
    }
    return kernel >= GPU_KERNEL_EMBED ? 128 : kernels[kernel].threads;
}

static const char *type_word(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? "TYPE_F32" : dtype == DTYPE_BF16 ? "TYPE_BF16" : "TYPE_F16";
}

static void append_types(const char *macro, const bool *wanted, struct buffer *prelude)
{
    buffer_printf(prelude, "#define %s(X)", macro);
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (wanted[dtype]) {
            buffer_printf(prelude, " X(%s)", dtype_info((enum dtype)dtype)->name);
        }
    }
    buffer_append_byte(prelude, '\n');
}

/* "#define EMBED_FORMATS(X) X(q8_0) X(f16)": the types that weights of one use and order have. */
static void append_formats(const struct gpu_model *model, const char *macro, bool embeddings,
                           bool packed, struct buffer *prelude)
{
    bool wanted[DTYPE_COUNT] = {false};
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        bool is_wanted =
            embeddings ? weight->is_embedding : weight->is_matrix && (packed || !weight->is_expert);
        if (is_wanted && weight->is_packed == packed) {
            wanted[weight->dtype] = true;
        }
    }
    append_types(macro, wanted, prelude);
}

static void append_expert_formats(const struct gpu_model *model, struct buffer *prelude)
{
    bool wanted[DTYPE_COUNT] = {false};
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        wanted[model->weights[i].dtype] |= model->weights[i].is_expert;
    }
    append_types("LINEAR_PLAIN_GROUPS", wanted, prelude);
}

void gpu_program_packed_prelude(const char *macro, const bool *wanted, struct buffer *prelude)
{
    bool all[DTYPE_COUNT] = {false};
    for (int dtype = 0; dtype < DTYPE_COUNT && !wanted; dtype++) {
        all[dtype] = gpu_dtype_packs((enum dtype)dtype);
    }
    append_types(macro, wanted ? wanted : all, prelude);
}

/* Modules by their place in gpu_program.modules; from MODULE_DECODE on, decode kernels are shared
 * among so many that each compiles in a short time. */
enum { MODULE_ELEMENTS, MODULE_ATTENTION, MODULE_DECODE };

#define DECODE_KERNELS_MODULE 5u

static uint32_t decode_modules(const struct gpu_program *program)
{
    uint32_t wanted = (program->decode_count + DECODE_KERNELS_MODULE - 1) / DECODE_KERNELS_MODULE;
    uint32_t room = GPU_PROGRAM_MODULES_MAX - MODULE_DECODE - 2; /* the wide kernels, experts */
    return wanted < room ? wanted : room;
}

const char *const gpu_decode_files[] = {"arguments_linear.h",
                                        "device.cuh",
                                        "linear_groups.cuh",
                                        "linear_tiles.cuh",
                                        "linear_decode.cu",
                                        "linear_stream.cu",
                                        "packed_formats.cuh",
                                        "linear_packed.cu",
                                        "packed_rows.cuh",
                                        "linear_packed_row.cu",
                                        NULL};
const char *const gpu_repack_files[] = {"arguments_linear.h", "device.cuh", "weight_formats.cuh",
                                        "packed_formats.cuh", "repack.cu",  NULL};

const char *const gpu_experts_files[] = {
    "arguments_linear.h", "arguments_experts.h", "device.cuh", "weight_formats.cuh",
    "linear_groups.cuh",  "linear_plain.cu",     "experts.cu", NULL};

/* --- decode kernels -------------------------------------------------------------------------- */

const struct gpu_decode_kernel *gpu_decode_find(const struct gpu_program *program,
                                                const struct gpu_decode_key *key)
{
    for (uint32_t i = 0; i < program->decode_count; i++) {
        if (memcmp(&program->decode[i].key, key, sizeof *key) == 0) {
            return &program->decode[i];
        }
    }
    return NULL;
}

/* Every block norms all rows of x for itself: of more values than these a launch that norms them
 * once takes less time. Packed weights always gain by it (docs/internals/gpu-linear.md). */
#define NORM_VALUES_MAX 2048u

#define PACK_PAD     32u /* as in linear_packed.cu */
#define DECODE_WARPS 16u /* of all kernels for few rows */
/* What the decode kernels declare themselves, at most: a float a warp and row of activations, and
 * one a row. */
#define STATIC_SHARED_BYTES 4096u

/* Shared memory of a packed kernel; activations lie there when there is room. */
static uint32_t packed_shared_bytes(const struct gpu_decode_key *key, uint32_t sums, uint32_t limit,
                                    bool *stages)
{
    uint32_t group = sums >= 4 ? 1 : 4 / sums; /* as in linear_packed.cu */
    uint32_t bytes = sums * (sums >= 8 ? 1 : 2 * group) * (8u << 10);
    uint32_t activations = 8 * key->token_tiles * (2 * key->columns + PACK_PAD);
    *stages = key->token_tiles > 1 && bytes + activations <= limit;
    return bytes + (*stages ? activations : 0);
}

/* A ring of linear_packed_row.cu: two steps of two units. More on their way keep x waiting. */
#define ROW_RING       2u
#define ROW_TILES      2u
#define ROW_SUMS_BYTES (2u * 8 * DECODE_WARPS * 16 * 4)

/* What struct row_shared takes, and no less than half of a multiprocessor's: were there room for
 * two blocks of a launch, some multiprocessors would get two and others none. False when the device
 * has less. */
static bool choose_row(const struct gpu_device_info *device, uint32_t limit,
                       struct gpu_decode_kernel *kernel)
{
    const struct gpu_decode_key *key = &kernel->key;
    uint32_t half = key->grouped ? 0 : device->shared_bytes_block_max / 2 + 1024;
    uint32_t x = 2 * key->columns + key->columns / 32 * 16;
    kernel->ring = ROW_RING;
    kernel->shared_bytes =
        ROW_SUMS_BYTES + x +
        DECODE_WARPS * ROW_RING * ROW_TILES * gpu_packed_slot_bytes((enum dtype)key->dtype);
    kernel->shared_bytes = kernel->shared_bytes < half ? half : kernel->shared_bytes;
    return kernel->shared_bytes <= limit;
}

/* Runs of a ring of linear_stream.cu: as many as leave memory no time to idle. */
#define RING_MIN 3u
#define RING_MAX 6u

/* Long runs before long rings; nothing where copies in the background or the room is missing. */
static void choose_stream(const struct gpu_device_info *device, uint32_t limit,
                          struct gpu_decode_kernel *kernel)
{
    if (device->vendor == GPU_HIP || (device->vendor == GPU_CUDA && device->capability < 80)) {
        return;
    }
    for (uint32_t segment = 128; segment >= 64; segment /= 2) {
        uint32_t run = DECODE_WARPS * segment * 32;
        uint32_t ring = limit > kernel->shared_bytes ? (limit - kernel->shared_bytes) / run : 0;
        if (kernel->key.columns % (DECODE_WARPS * segment) == 0 && ring >= RING_MIN) {
            kernel->segment = segment;
            kernel->ring = ring < RING_MAX ? ring : RING_MAX;
            kernel->shared_bytes += kernel->ring * run;
            return;
        }
    }
}

bool gpu_decode_norms(enum dtype dtype, uint64_t columns, uint64_t rows)
{
    return !gpu_dtype_packs(dtype) && rows * columns <= NORM_VALUES_MAX;
}

uint32_t gpu_decode_normed_bytes(const struct gpu_decode_key *key)
{
    return key->from == GPU_DECODE_FROM_NORM ? 8 * key->token_tiles * key->columns * 2 : 0;
}

bool gpu_decode_choose(const struct gpu_device_info *device, struct gpu_decode_kernel *kernel)
{
    uint32_t sums = (kernel->key.to == GPU_DECODE_PAIR ? 2u : 1u) * kernel->key.token_tiles;
    uint32_t limit = device->shared_bytes_block_max - STATIC_SHARED_BYTES;
    kernel->stages = false;
    kernel->segment = kernel->ring = 0;
    if (kernel->key.token_tiles == 0) {
        return choose_row(device, limit, kernel);
    }
    if (gpu_dtype_packs((enum dtype)kernel->key.dtype)) {
        kernel->shared_bytes = packed_shared_bytes(&kernel->key, sums, limit, &kernel->stages);
    } else {
        kernel->shared_bytes = sums * (16u << 10);
        choose_stream(device, limit, kernel);
        if (!kernel->segment) {
            kernel->shared_bytes += gpu_decode_normed_bytes(&kernel->key);
        }
    }
    return kernel->shared_bytes <= limit;
}

bool gpu_decode_serves(const struct gpu_device_info *device, struct gpu_decode_kernel *kernel)
{
    bool fits = gpu_decode_choose(device, kernel);
    struct gpu_decode_kernel half = *kernel;
    half.key.token_tiles /= 2;
    /* Reading weights twice costs less than activations from far away. */
    return fits && !(kernel->key.token_tiles == 4 && !kernel->stages &&
                     gpu_decode_choose(device, &half) && half.stages);
}

/* In all widths that fit the device's shared memory; more kernels than there is room for are left
 * out, and what needs them takes the plain ones. */
static void want_decode_of(struct gpu_model *model, uint32_t weight, uint32_t from, uint32_t to,
                           uint32_t activation, uint32_t grouped)
{
    struct gpu_program *program = &model->program;
    if (!gpu_weight_streams(model, weight)) {
        return;
    }
    uint32_t tiles = gpu_dtype_has_row(model->weights[weight].dtype) ? 0 : 1; /* one row */
    for (; tiles <= (from == GPU_DECODE_FROM_NORM ? 1u : 4u); tiles = tiles ? 2 * tiles : 1) {
        struct gpu_decode_kernel kernel = {
            .key =
                {
                    .dtype = (uint32_t)model->weights[weight].dtype,
                    .columns = (uint32_t)model->base.plan->weights[weight].columns,
                    .token_tiles = tiles,
                    .from = from,
                    .to = to,
                    .activation = activation,
                    .grouped = grouped,
                },
        };
        if (gpu_decode_serves(&model->device->info, &kernel) &&
            program->decode_count < GPU_DECODE_KERNELS_MAX &&
            !gpu_decode_find(program, &kernel.key)) {
            program->decode[program->decode_count++] = kernel;
        }
    }
}

static void want_decode(struct gpu_model *model, uint32_t weight, uint32_t from, uint32_t to,
                        uint32_t activation)
{
    want_decode_of(model, weight, from, to, activation, 0);
}

static void want_experts(struct gpu_model *model, const struct plan_op *op)
{
    const uint32_t plain[] = {op->experts.router, op->experts.shared_gate, op->experts.shared_up,
                              op->experts.shared_down};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (plain[i] != PLAN_NONE) {
            want_decode(model, plain[i], GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0);
        }
    }
    bool pair = gpu_experts_are_pair(model, op);
    want_decode_of(model, op->experts.up, GPU_DECODE_FROM_ACTIVATIONS,
                   pair ? GPU_DECODE_PAIR : GPU_DECODE_STORE,
                   pair ? gpu_activation_kind(op->experts.activation) : 0, 1);
    want_decode_of(model, op->experts.down, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0, 1);
}

/* Kernels that norm their input too are wanted where they are faster. */
static void want_decode_both(struct gpu_model *model, const struct plan_norm *norm, uint32_t weight,
                             uint32_t to, uint32_t activation)
{
    want_decode(model, weight, GPU_DECODE_FROM_ACTIVATIONS, to, activation);
    if (norm->kind == PLAN_NORM_RMS &&
        gpu_decode_norms(model->weights[weight].dtype, model->base.plan->weights[weight].columns,
                         1)) {
        want_decode(model, weight, GPU_DECODE_FROM_NORM, to, activation);
    }
}

static void want_stage(struct gpu_model *model, const struct plan_op *op)
{
    switch (op->kind) {
    case PLAN_QKV:
        want_decode_both(model, &op->qkv.norm, op->qkv.query, GPU_DECODE_STORE, 0);
        want_decode_both(model, &op->qkv.norm, op->qkv.key, GPU_DECODE_STORE, 0);
        want_decode_both(model, &op->qkv.norm, op->qkv.value, GPU_DECODE_STORE, 0);
        break;
    case PLAN_PROJECT:
        want_decode(model, op->project.weight, GPU_DECODE_FROM_ACTIVATIONS,
                    gpu_project_finishes(op) ? GPU_DECODE_STORE : GPU_DECODE_ADD, 0);
        break;
    case PLAN_FEED_FORWARD:
        if (gpu_feed_forward_is_pair(model, op)) {
            want_decode_both(model, &op->feed_forward.norm, op->feed_forward.up, GPU_DECODE_PAIR,
                             gpu_activation_kind(op->feed_forward.activation));
        }
        if (!gpu_feed_forward_is_pair(model, op) ||
            !model->weights[op->feed_forward.up].is_packed) {
            want_decode(model, op->feed_forward.up, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE,
                        0);
            if (op->feed_forward.gate != PLAN_NONE) {
                want_decode(model, op->feed_forward.gate, GPU_DECODE_FROM_ACTIVATIONS,
                            GPU_DECODE_STORE, 0);
            }
        }
        break;
    case PLAN_LOGITS:
        want_decode(model, op->logits.weight, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0);
        break;
    case PLAN_EXPERTS:
        want_experts(model, op);
        break;
    case PLAN_EMBED:
    case PLAN_ATTENTION:
    case PLAN_OP_KIND_COUNT:
        break;
    }
}

static void append_decode(const struct gpu_decode_kernel *kernel, uint32_t index,
                          struct buffer *prelude)
{
    const struct gpu_decode_key *key = &kernel->key;
    uint32_t sets = key->to == GPU_DECODE_PAIR ? 2 : 1;
    const char *format = dtype_info((enum dtype)key->dtype)->name;
    if (key->token_tiles == 0) {
        buffer_printf(prelude, " X(linear_decode_%u, %s, %u, %u, %u, %u, %u, %u)", index, format,
                      key->columns, kernel->ring, sets, ROW_TILES, key->to, key->activation);
        return;
    }
    if (gpu_dtype_packs((enum dtype)key->dtype)) {
        buffer_printf(prelude, " X(linear_decode_%u, %s, %u, %u, %u, %u, %u, %u)", index, format,
                      key->columns, sets, key->token_tiles, key->to, key->activation,
                      (unsigned)kernel->stages);
        return;
    }
    buffer_printf(prelude, " X(linear_decode_%u, %u,", index, key->columns);
    if (kernel->segment) {
        buffer_printf(prelude, " %u, %u,", kernel->segment, kernel->ring);
    } else {
        uint32_t own = (key->columns / 32 + DECODE_WARPS - 1) / DECODE_WARPS;
        buffer_printf(prelude, " %u,", own < 4 / sets ? own : 4 / sets);
    }
    buffer_printf(prelude, " %u, %u, %u, %u, %u)", sets, key->token_tiles, key->from, key->to,
                  key->activation);
}

/* "#define LINEAR_DECODE_KERNELS(X) X(linear_decode_0, 2048, 4, 1, 1, …) …" and the packed ones. */
void gpu_program_decode_prelude(const struct gpu_program *program, uint32_t part, uint32_t parts,
                                struct buffer *prelude)
{
    static const char *const lists[] = {"LINEAR_DECODE_KERNELS", "LINEAR_DECODE_GROUPS",
                                        "LINEAR_STREAM_KERNELS", "LINEAR_STREAM_GROUPS",
                                        "LINEAR_PACKED_KERNELS", "LINEAR_PACKED_GROUPS",
                                        "LINEAR_PACKED_ROWS",    "LINEAR_PACKED_ROW_GROUPS"};
    for (uint32_t list = 0; list < sizeof lists / sizeof *lists; list++) {
        buffer_printf(prelude, "#define %s(X)", lists[list]);
        for (uint32_t i = part; i < program->decode_count; i += parts) {
            const struct gpu_decode_kernel *kernel = &program->decode[i];
            bool is_packed = gpu_dtype_packs((enum dtype)kernel->key.dtype);
            uint32_t own = !is_packed ? (kernel->segment ? 2 : 0) : kernel->key.token_tiles ? 4 : 6;
            if (own + kernel->key.grouped == list) {
                append_decode(kernel, i, prelude);
            }
        }
        buffer_append_byte(prelude, '\n');
    }
}

static llcuda_status get_decode(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct gpu_program *program = &model->program;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < program->decode_count && status == LLCUDA_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "linear_decode_%u", i);
        uint32_t module = MODULE_DECODE + i % decode_modules(program);
        status = driver->function_get(driver, program->modules[module], name,
                                      &program->decode[i].function, error);
        if (status == LLCUDA_OK) {
            status = driver->function_shared_limit(driver, program->decode[i].function,
                                                   program->decode[i].shared_bytes, error);
        }
    }
    return status;
}

struct texts {
    struct buffer preludes[GPU_PROGRAM_MODULES_MAX + 1]; /* the last: of repack */
    struct gpu_jit_module modules[GPU_PROGRAM_MODULES_MAX + 1];
    uint32_t count; /* of modules, that of repack included */
    bool repacks;   /* the last module is that of repack */
};

static uint32_t count_files(const char *const *files)
{
    uint32_t count = 0;
    while (files[count]) {
        count++;
    }
    return count;
}

static struct gpu_jit_module module_of(const char *name, const struct buffer *prelude,
                                       const char *const *files)
{
    return (struct gpu_jit_module){
        .name = name,
        .prelude = buffer_view(prelude),
        .files = files,
        .file_count = count_files(files),
    };
}

static void write_texts(struct gpu_model *model, struct texts *texts)
{
    uint32_t decode = decode_modules(&model->program);
    uint32_t wide = MODULE_DECODE + decode;
    struct buffer wide_prelude = {0};
    model->program.has_wide = gpu_wide_choose(model, &wide_prelude);
    model->program.wide_module = wide;
    model->program.has_experts = model->base.plan->expert_count != 0;
    model->program.experts_module = wide + model->program.has_wide;
    texts->count = wide + model->program.has_wide + model->program.has_experts + texts->repacks;
    for (uint32_t i = 0; i < texts->count; i++) {
        prelude_word(&texts->preludes[i], "KERNEL_POINTER(type)", "type *");
        prelude_word(&texts->preludes[i], "ACT_TYPE", type_word(model->activation));
    }
    struct buffer *elements = &texts->preludes[MODULE_ELEMENTS];
    append_formats(model, "EMBED_FORMATS", true, false, elements);
    append_formats(model, "PACKED_EMBED_FORMATS", true, true, elements);
    append_formats(model, "LINEAR_PLAIN_FORMATS", false, false, elements);
    append_formats(model, "PACKED_FORMATS", false, true, elements);
    texts->modules[MODULE_ELEMENTS] = module_of("elements", elements, gpu_element_files);
    struct buffer *attention = &texts->preludes[MODULE_ATTENTION];
    if (!gpu_attention_prelude(&model->attention, attention)) {
        attention->failed = true;
    }
    texts->modules[MODULE_ATTENTION] = module_of("attention", attention, gpu_attention_files);
    for (uint32_t i = 0; i < decode; i++) {
        struct buffer *prelude = &texts->preludes[MODULE_DECODE + i];
        gpu_program_decode_prelude(&model->program, i, decode, prelude);
        texts->modules[MODULE_DECODE + i] = module_of("linear_decode", prelude, gpu_decode_files);
    }
    if (model->program.has_wide) {
        struct buffer *prelude = &texts->preludes[wide];
        buffer_append(prelude, wide_prelude.data, wide_prelude.length);
        prelude->failed = prelude->failed || wide_prelude.failed;
        texts->modules[wide] = module_of("linear_wide", prelude, gpu_wide_files);
    }
    buffer_deinit(&wide_prelude);
    if (model->program.has_experts) {
        struct buffer *prelude = &texts->preludes[model->program.experts_module];
        buffer_append_text(prelude, "#define LINEAR_PLAIN_FORMATS(X)\n");
        append_expert_formats(model, prelude);
        texts->modules[model->program.experts_module] =
            module_of("experts", prelude, gpu_experts_files);
    }
    if (texts->repacks) {
        struct buffer *prelude = &texts->preludes[texts->count - 1];
        append_formats(model, "REPACK_FORMATS", false, true, prelude);
        texts->modules[texts->count - 1] = module_of("repack", prelude, gpu_repack_files);
    }
}

static llcuda_status make_texts(struct gpu_model *model, struct llcuda_error *error)
{
    struct texts *texts = calloc(1, sizeof *texts);
    if (!texts) {
        return error_no_memory(error, "kernel texts", sizeof *texts);
    }
    model->program.texts = texts;
    for (uint32_t i = 0; i < model->base.plan->op_count; i++) {
        want_stage(model, &model->base.plan->ops[i]);
    }
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        texts->repacks = texts->repacks || model->weights[i].is_packed;
    }
    write_texts(model, texts);
    model->program.module_count = texts->count - texts->repacks;
    for (uint32_t i = 0; i < texts->count; i++) {
        if (texts->preludes[i].failed) {
            return error_no_memory(error, "a prelude", texts->preludes[i].length);
        }
    }
    return LLCUDA_OK;
}

llcuda_status gpu_program_start(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    struct gpu_jit *jit = model->device->jit;
    llcuda_status status = make_texts(model, error);
    const struct texts *texts = program->texts;
    if (!status && texts->repacks) { /* weights wait for these */
        status =
            gpu_jit_start(jit, &texts->modules[texts->count - 1], 1, &program->repack_batch, error);
    }
    return status
               ? status
               : gpu_jit_start(jit, texts->modules, program->module_count, &program->batch, error);
}

llcuda_status gpu_program_finish_repack(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    struct gpu_jit_batch *batch = program->repack_batch;
    program->repack_batch = NULL;
    llcuda_status status = gpu_jit_finish(batch, &program->repack, error);
    for (uint32_t i = 0; i < model->base.plan->weight_count && !status; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        uint32_t kernel = GPU_KERNEL_REPACK + (uint32_t)weight->dtype;
        if (weight->is_packed && !program->functions[kernel]) {
            char name[64];
            snprintf(name, sizeof name, "repack_%s", dtype_info(weight->dtype)->name);
            status = model->driver->function_get(model->driver, program->repack, name,
                                                 &program->functions[kernel], error);
        }
    }
    return status;
}

llcuda_status gpu_program_pack(struct gpu_model *model, const char *path,
                               struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    llcuda_status status = make_texts(model, error);
    if (!status) {
        status = gpu_jit_pack(model->device->jit, program->texts->modules, program->texts->count,
                              path, error);
    }
    program->module_count = 0; /* nothing was loaded */
    return status;
}

static llcuda_status get_functions(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct gpu_program *program = &model->program;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < GPU_KERNEL_EMBED && status == LLCUDA_OK; i++) {
        status = driver->function_get(driver, program->modules[MODULE_ELEMENTS], kernels[i].name,
                                      &program->functions[i], error);
    }
    for (uint32_t i = 0; i < model->base.plan->weight_count && status == LLCUDA_OK; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        bool is_plain = weight->is_matrix && !weight->is_packed && !weight->is_expert;
        const struct {
            const char *name;
            uint32_t kernel;
            bool wanted;
        } typed[] = {
            {"embed", GPU_KERNEL_EMBED, weight->is_embedding && !weight->is_packed},
            {"embed_packed", GPU_KERNEL_PACKED_EMBED, weight->is_embedding && weight->is_packed},
            {"linear_plain", GPU_KERNEL_LINEAR_PLAIN, is_plain},
            {"dequantize", GPU_KERNEL_DEQUANTIZE, is_plain},
            {"dequantize_packed", GPU_KERNEL_PACKED_DEQUANTIZE, weight->is_packed},
        };
        for (size_t j = 0; j < sizeof typed / sizeof *typed && status == LLCUDA_OK; j++) {
            uint32_t kernel = typed[j].kernel + (uint32_t)weight->dtype;
            char name[64];
            snprintf(name, sizeof name, "%s_%s", typed[j].name, dtype_info(weight->dtype)->name);
            if (typed[j].wanted && !program->functions[kernel]) {
                status = driver->function_get(driver, program->modules[MODULE_ELEMENTS], name,
                                              &program->functions[kernel], error);
            }
        }
    }
    return status;
}

static llcuda_status get_experts(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct gpu_program *program = &model->program;
    struct gpu_module *module = program->modules[program->experts_module];
    const struct {
        const char *name;
        struct gpu_function **function;
    } functions[] = {{"route", &program->route},
                     {"experts_activate", &program->experts_activate},
                     {"experts_combine", &program->experts_combine}};
    llcuda_status status = LLCUDA_OK;
    for (size_t i = 0; i < sizeof functions / sizeof *functions && status == LLCUDA_OK; i++) {
        status =
            driver->function_get(driver, module, functions[i].name, functions[i].function, error);
    }
    for (uint32_t i = 0; i < model->base.plan->weight_count && status == LLCUDA_OK; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        if (weight->is_expert && !program->group_plain[weight->dtype]) {
            char name[64];
            snprintf(name, sizeof name, "linear_plain_group_%s", dtype_info(weight->dtype)->name);
            status = driver->function_get(driver, module, name,
                                          &program->group_plain[weight->dtype], error);
        }
    }
    return status;
}

static void texts_release(struct gpu_program *program)
{
    for (uint32_t i = 0; program->texts && i < program->texts->count; i++) {
        buffer_deinit(&program->texts->preludes[i]);
    }
    free(program->texts);
    program->texts = NULL;
}

llcuda_status gpu_program_finish(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    struct gpu_jit_batch *batch = program->batch;
    program->batch = NULL;
    llcuda_status status = gpu_jit_finish(batch, program->modules, error);
    texts_release(program);
    if (status != LLCUDA_OK) {
        program->module_count = 0; /* nothing stays loaded */
        return status;
    }
    status = get_functions(model, error);
    if (status == LLCUDA_OK) {
        status = get_decode(model, error);
    }
    if (status == LLCUDA_OK && program->has_wide) {
        status = gpu_wide_load(model, program->modules[program->wide_module], error);
    }
    if (status == LLCUDA_OK && program->has_experts) {
        status = get_experts(model, error);
    }
    if (status == LLCUDA_OK) {
        status = gpu_attention_load(model->driver, program->modules[MODULE_ATTENTION],
                                    &model->attention, &program->attention, error);
    }
    return status;
}

/* The name of one of the kernels for a type of weights. */
static bool name_typed(const struct gpu_program *program, const struct gpu_function *function,
                       char *name, size_t bytes)
{
    static const struct {
        uint32_t first;
        const char *name;
    } families[] = {{GPU_KERNEL_EMBED, "embed"},
                    {GPU_KERNEL_LINEAR_PLAIN, "linear_plain"},
                    {GPU_KERNEL_DEQUANTIZE, "dequantize"},
                    {GPU_KERNEL_PACKED_EMBED, "embed_packed"},
                    {GPU_KERNEL_PACKED_DEQUANTIZE, "dequantize_packed"}};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        for (uint32_t dtype = 0; dtype < DTYPE_COUNT; dtype++) {
            if (program->group_plain[dtype] == function) {
                snprintf(name, bytes, "linear_plain_group_%s", dtype_info((enum dtype)dtype)->name);
                return true;
            }
            if (program->functions[families[i].first + dtype] == function) {
                snprintf(name, bytes, "%s_%s", families[i].name,
                         dtype_info((enum dtype)dtype)->name);
                return true;
            }
        }
    }
    return false;
}

/* The name of a kernel for few rows, with what it does, or of one for many. */
static bool name_linear(const struct gpu_program *program, const struct gpu_function *function,
                        char *name, size_t bytes)
{
    static const char *const ends[] = {
        [GPU_DECODE_STORE] = "", [GPU_DECODE_ADD] = "_add", [GPU_DECODE_PAIR] = "_pair"};
    for (uint32_t i = 0; i < program->decode_count; i++) {
        const struct gpu_decode_key *key = &program->decode[i].key;
        if (program->decode[i].function == function) {
            snprintf(name, bytes, "linear_%s_%s_m%u_k%u%s%s",
                     key->grouped                              ? "group"
                     : gpu_dtype_packs((enum dtype)key->dtype) ? "packed"
                                                               : "decode",
                     dtype_info((enum dtype)key->dtype)->name,
                     key->token_tiles ? 8 * key->token_tiles : 1, key->columns,
                     key->from == GPU_DECODE_FROM_NORM ? "_norm" : "", ends[key->to]);
            return true;
        }
    }
    for (uint32_t i = 0; i < DTYPE_COUNT * 2 * GPU_WIDE_ALL_TILE_COUNT; i++) {
        const uint32_t tile = i % GPU_WIDE_ALL_TILE_COUNT;
        const uint32_t pair = i / GPU_WIDE_ALL_TILE_COUNT % 2;
        const uint32_t dtype = i / GPU_WIDE_ALL_TILE_COUNT / 2;
        bool grouped = tile < GPU_WIDE_TILE_COUNT && program->group[dtype][pair][tile] == function;
        if (grouped || program->wide[dtype][pair][tile] == function) {
            char wide[40];
            (grouped ? gpu_wide_group_name : gpu_wide_name)((enum dtype)dtype, pair != 0, tile,
                                                            wide);
            snprintf(name, bytes, "%s", wide);
            return true;
        }
    }
    return false;
}

void gpu_program_name(const struct gpu_program *program, const struct gpu_function *function,
                      char *name, size_t bytes)
{
    const struct {
        const struct gpu_function *function;
        const char *name;
    } others[] = {{program->route, "route"},
                  {program->experts_activate, "experts_activate"},
                  {program->experts_combine, "experts_combine"},
                  {program->attention.qkv_finish, "qkv_finish"},
                  {program->attention.decode, "attention_decode"},
                  {program->attention.decode_fused, "attention_decode_fused"},
                  {program->attention.prefill, "attention_prefill"},
                  {program->attention.copy_blocks, "copy_blocks"}};
    for (uint32_t i = 0; i < GPU_KERNEL_EMBED; i++) {
        if (program->functions[i] == function) {
            snprintf(name, bytes, "%s", kernels[i].name);
            return;
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i].function == function) {
            snprintf(name, bytes, "%s", others[i].name);
            return;
        }
    }
    if (!name_linear(program, function, name, bytes) &&
        !name_typed(program, function, name, bytes)) {
        snprintf(name, bytes, "another kernel");
    }
}

void gpu_program_release(struct gpu_model *model)
{
    struct gpu_program *program = &model->program;
    gpu_jit_cancel(program->repack_batch);
    gpu_jit_cancel(program->batch);
    texts_release(program);
    /* A driver that only compiles has loaded none, and knows no unloading. */
    if (program->repack) {
        model->driver->module_unload(model->driver, program->repack);
    }
    for (uint32_t i = 0; i < program->module_count; i++) {
        if (program->modules[i]) {
            model->driver->module_unload(model->driver, program->modules[i]);
        }
    }
    *program = (struct gpu_program){0};
}
