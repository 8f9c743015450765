/* Owns the compiled kernels of a model: which texts make up a module, and the constants before
 * them. One thread. Knows no plan beyond the types of its weights. */
#include "gpu/program.h"

#include <stdio.h>
#include <stdlib.h>

#include "gpu/model.h"
#include "gpu/prelude.h"

static const char *const element_files[] = {
    "device.cuh", "arguments_linear.h", "weight_formats.cuh", "norm.cu",
    "embed.cu",   "activation.cu",      "linear_plain.cu",
};

static const struct {
    const char *name;
    uint32_t threads;
} kernels[] = {
    [GPU_KERNEL_NORM_ROWS] = {"norm_rows", 256},
    [GPU_KERNEL_NORM_FLOATS] = {"norm_floats", 256},
    [GPU_KERNEL_PROJECT_FINISH] = {"project_finish", 256},
    [GPU_KERNEL_ACTIVATE] = {"activate", 256},
    [GPU_KERNEL_LOGITS_FINISH] = {"logits_finish", 256},
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

/* Modules by their place in gpu_program.modules. */
enum { MODULE_ELEMENTS, MODULE_ATTENTION, MODULE_COUNT };

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
    texts->modules[MODULE_ELEMENTS] = (struct gpu_jit_module){
        .name = "elements",
        .prelude = buffer_view(elements),
        .files = element_files,
        .file_count = sizeof element_files / sizeof *element_files,
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
    llcuda_status status = make_texts(model, error);
    return status ? status
                  : gpu_jit_start(model->device->jit, model->program.texts->modules, MODULE_COUNT,
                                  &model->program.batch, error);
}

llcuda_status gpu_program_pack(struct gpu_model *model, const char *path,
                               struct llcuda_error *error)
{
    llcuda_status status = make_texts(model, error);
    return status ? status
                  : gpu_jit_pack(model->device->jit, model->program.texts->modules, MODULE_COUNT,
                                 path, error);
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
        for (int embeds = 0; embeds < 2 && status == LLCUDA_OK; embeds++) {
            uint32_t kernel =
                (embeds ? GPU_KERNEL_EMBED : GPU_KERNEL_LINEAR_PLAIN) + (uint32_t)weight->dtype;
            char name[64];
            snprintf(name, sizeof name, "%s_%s", embeds ? "embed" : "linear_plain",
                     dtype_info(weight->dtype)->name);
            bool wanted = embeds ? weight->is_embedding : weight->is_matrix;
            if (wanted && !program->functions[kernel]) {
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
        return status;
    }
    program->module_count = MODULE_COUNT;
    status = get_functions(model, error);
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
        model->driver->module_unload(model->driver, program->modules[i]);
    }
    *program = (struct gpu_program){0};
}
