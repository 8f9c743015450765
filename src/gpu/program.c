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
    "norm.cu",
    "embed.cu",
    "activation.cu",
    "linear_plain.cu",
    "arguments_choose.h",
    "choose.cu",
    "arguments_sample.h",
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
    [GPU_KERNEL_CHOOSE] = {"choose", 256},
    [GPU_KERNEL_SAMPLE_EDIT] = {"sample_edit", 256},
    [GPU_KERNEL_SAMPLE_SCAN] = {"sample_scan", 256},
    [GPU_KERNEL_SAMPLE_DRAW] = {"sample_draw", 512},
    [GPU_KERNEL_SAMPLE_LOGPROBS] = {"sample_logprobs", 512},
};

uint32_t gpu_kernel_threads(enum gpu_kernel kernel)
{
    if (kernel >= GPU_KERNEL_LINEAR_PLAIN) {
        return 256;
    }
    return kernel >= GPU_KERNEL_EMBED ? 128 : kernels[kernel].threads;
}

static const char *type_word(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? "TYPE_F32" : dtype == DTYPE_BF16 ? "TYPE_BF16" : "TYPE_F16";
}

/* "#define EMBED_FORMATS(X) X(q8_0) X(f16)": the types that weights of one use have. */
static void append_formats(const struct gpu_model *model, const char *macro, bool embeddings,
                           struct buffer *prelude)
{
    bool wanted[DTYPE_COUNT] = {false};
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        if (embeddings ? weight->is_embedding : weight->is_matrix) {
            wanted[weight->dtype] = true;
        }
    }
    buffer_printf(prelude, "#define %s(X)", macro);
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (wanted[dtype]) {
            buffer_printf(prelude, " X(%s)", dtype_info((enum dtype)dtype)->name);
        }
    }
    buffer_append_byte(prelude, '\n');
}

/* Modules by their place in gpu_program.modules; the last only when there are decode kernels. */
enum { MODULE_ELEMENTS, MODULE_ATTENTION, MODULE_DECODE, MODULE_COUNT };

const char *const gpu_decode_files[] = {"arguments_linear.h", "device.cuh", "linear_decode.cu",
                                        NULL};

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

/* In all widths that fit the device's shared memory; more kernels than there is room for are left
 * out, and what needs them takes the plain ones. */
static void want_decode(struct gpu_model *model, uint64_t columns, uint32_t from, uint32_t to,
                        uint32_t activation)
{
    struct gpu_program *program = &model->program;
    for (uint32_t tiles = 1; tiles <= (from == GPU_DECODE_FROM_NORM ? 1u : 4u); tiles *= 2) {
        const struct gpu_decode_key key = {
            .columns = (uint32_t)columns,
            .token_tiles = tiles,
            .from = from,
            .to = to,
            .activation = activation,
        };
        uint32_t shared = (to == GPU_DECODE_PAIR ? 2u : 1u) * tiles * (16u << 10);
        if (shared <= model->device->info.shared_bytes_block_max &&
            program->decode_count < GPU_DECODE_KERNELS_MAX && !gpu_decode_find(program, &key)) {
            program->decode[program->decode_count++] =
                (struct gpu_decode_kernel){.key = key, .shared_bytes = shared};
        }
    }
}

static void want_decode_both(struct gpu_model *model, const struct plan_norm *norm,
                             uint64_t columns, uint32_t to, uint32_t activation)
{
    want_decode(model, columns, GPU_DECODE_FROM_ACTIVATIONS, to, activation);
    if (norm->kind == PLAN_NORM_RMS) {
        want_decode(model, columns, GPU_DECODE_FROM_NORM, to, activation);
    }
}

static void want_stage(struct gpu_model *model, const struct plan_op *op)
{
    const struct plan_weight *weights = model->base.plan->weights;
    uint64_t embedding = model->base.plan->embedding_length;
    switch (op->kind) {
    case PLAN_QKV:
        if (gpu_weight_streams(model, op->qkv.query) || gpu_weight_streams(model, op->qkv.value)) {
            want_decode_both(model, &op->qkv.norm, embedding, GPU_DECODE_STORE, 0);
        }
        break;
    case PLAN_PROJECT:
        if (gpu_weight_streams(model, op->project.weight)) {
            uint64_t columns = weights[op->project.weight].columns;
            want_decode(model, columns, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_ADD, 0);
            want_decode(model, columns, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0);
        }
        break;
    case PLAN_FEED_FORWARD:
        if (gpu_weight_streams(model, op->feed_forward.up)) {
            want_decode(model, embedding, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0);
            if (gpu_feed_forward_is_pair(model, op)) {
                want_decode_both(model, &op->feed_forward.norm, embedding, GPU_DECODE_PAIR,
                                 gpu_activation_kind(op->feed_forward.activation));
            }
        }
        break;
    case PLAN_LOGITS:
        if (gpu_weight_streams(model, op->logits.weight)) {
            want_decode(model, embedding, GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_STORE, 0);
        }
        break;
    case PLAN_EMBED:
    case PLAN_ATTENTION:
    case PLAN_OP_KIND_COUNT:
        break;
    }
}

/* "#define LINEAR_DECODE_KERNELS(X) X(linear_decode_0, 2048, 4, 1, 1, …) …" */
void gpu_program_decode_prelude(const struct gpu_program *program, struct buffer *prelude)
{
    buffer_append_text(prelude, "#define LINEAR_DECODE_KERNELS(X)");
    for (uint32_t i = 0; i < program->decode_count; i++) {
        const struct gpu_decode_key *key = &program->decode[i].key;
        uint32_t sets = key->to == GPU_DECODE_PAIR ? 2 : 1;
        uint32_t own = (key->columns / 32 + 15) / 16;
        uint32_t unroll = own < 4 / sets ? own : 4 / sets;
        buffer_printf(prelude, " X(linear_decode_%u, %u, %u, %u, %u, %u, %u, %u)", i, key->columns,
                      unroll, sets, key->token_tiles, key->from, key->to, key->activation);
    }
    buffer_append_byte(prelude, '\n');
}

static llcuda_status get_decode(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct gpu_program *program = &model->program;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < program->decode_count && status == LLCUDA_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "linear_decode_%u", i);
        status = driver->function_get(driver, program->modules[MODULE_DECODE], name,
                                      &program->decode[i].function, error);
        if (status == LLCUDA_OK) {
            status = driver->function_shared_limit(driver, program->decode[i].function,
                                                   program->decode[i].shared_bytes, error);
        }
    }
    return status;
}

struct texts {
    struct buffer preludes[MODULE_COUNT];
    struct gpu_jit_module modules[MODULE_COUNT];
};

static uint32_t count_files(const char *const *files)
{
    uint32_t count = 0;
    while (files[count]) {
        count++;
    }
    return count;
}

static void write_texts(const struct gpu_model *model, struct texts *texts)
{
    for (int i = 0; i < MODULE_COUNT; i++) {
        prelude_word(&texts->preludes[i], "KERNEL_POINTER(type)", "type *");
        prelude_word(&texts->preludes[i], "ACT_TYPE", type_word(model->activation));
    }
    struct buffer *elements = &texts->preludes[MODULE_ELEMENTS];
    append_formats(model, "EMBED_FORMATS", true, elements);
    append_formats(model, "LINEAR_PLAIN_FORMATS", false, elements);
    if (!gpu_attention_prelude(&model->attention, &texts->preludes[MODULE_ATTENTION])) {
        texts->preludes[MODULE_ATTENTION].failed = true;
    }
    gpu_program_decode_prelude(&model->program, &texts->preludes[MODULE_DECODE]);
    texts->modules[MODULE_DECODE] = (struct gpu_jit_module){
        .name = "linear_decode",
        .prelude = buffer_view(&texts->preludes[MODULE_DECODE]),
        .files = gpu_decode_files,
        .file_count = count_files(gpu_decode_files),
    };
    texts->modules[MODULE_ELEMENTS] = (struct gpu_jit_module){
        .name = "elements",
        .prelude = buffer_view(elements),
        .files = gpu_element_files,
        .file_count = count_files(gpu_element_files),
    };
    texts->modules[MODULE_ATTENTION] = (struct gpu_jit_module){
        .name = "attention",
        .prelude = buffer_view(&texts->preludes[MODULE_ATTENTION]),
        .files = gpu_attention_files,
        .file_count = count_files(gpu_attention_files),
    };
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
    model->program.module_count = model->program.decode_count ? MODULE_COUNT : MODULE_DECODE;
    write_texts(model, texts);
    for (int i = 0; i < MODULE_COUNT; i++) {
        if (texts->preludes[i].failed) {
            return error_no_memory(error, "a prelude", texts->preludes[i].length);
        }
    }
    return LLCUDA_OK;
}

llcuda_status gpu_program_start(struct gpu_model *model, struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    llcuda_status status = make_texts(model, error);
    return status ? status
                  : gpu_jit_start(model->device->jit, program->texts->modules,
                                  program->module_count, &program->batch, error);
}

llcuda_status gpu_program_pack(struct gpu_model *model, const char *path,
                               struct llcuda_error *error)
{
    struct gpu_program *program = &model->program;
    llcuda_status status = make_texts(model, error);
    if (!status) {
        status = gpu_jit_pack(model->device->jit, program->texts->modules, program->module_count,
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
        const struct {
            const char *name;
            uint32_t kernel;
            bool wanted;
        } typed[] = {
            {"embed", GPU_KERNEL_EMBED, weight->is_embedding},
            {"linear_plain", GPU_KERNEL_LINEAR_PLAIN, weight->is_matrix},
            {"dequantize", GPU_KERNEL_DEQUANTIZE, weight->is_matrix},
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

static void texts_release(struct gpu_program *program)
{
    for (int i = 0; program->texts && i < MODULE_COUNT; i++) {
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
    if (status == LLCUDA_OK) {
        status = gpu_attention_load(model->driver, program->modules[MODULE_ATTENTION],
                                    &model->attention, &program->attention, error);
    }
    return status;
}

void gpu_program_release(struct gpu_model *model)
{
    struct gpu_program *program = &model->program;
    gpu_jit_cancel(program->batch);
    texts_release(program);
    for (uint32_t i = 0; i < program->module_count; i++) {
        model->driver->module_unload(model->driver, program->modules[i]); /* NULL is fine */
    }
    *program = (struct gpu_program){0};
}
