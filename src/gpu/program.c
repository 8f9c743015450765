/* Owns the compiled kernels of a model: which texts make up a module, and the constants before
 * them. One thread. Knows no plan beyond the types of its weights. */
#include "gpu/program.h"

#include <stdio.h>
#include <string.h>

#include "gpu/kernel_sources.h"
#include "gpu/model.h"

static const char *const vendor_files[][3] = {
    [GPU_CUDA] = {"vendor_nvidia.cuh"},
    [GPU_HIP] = {"vendor_amd.cuh"},
    [GPU_EMU] = {"emu_abi.h", "vendor_emu.cuh"},
};

static const char *const element_files[] = {
    "device.cuh", "arguments_linear.h", "weight_formats.cuh", "norm.cu",
    "embed.cu",   "activation.cu",      "linear_plain.cu",    NULL,
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

static void append_file(struct buffer *text, const char *name)
{
    const struct kernel_source *source = kernel_source_find(name);
    const char *at = source ? source->text : "#error a kernel file is missing\n";
    while (*at) {
        size_t length = strcspn(at, "\n");
        length += at[length] == '\n';
        if (strncmp(at, "#include", 8) != 0) {
            buffer_append(text, at, length);
        }
        at += length;
    }
}

static llcuda_status load_module(struct gpu_model *model, const char *name,
                                 const struct buffer *prelude, const char *const *files,
                                 struct gpu_module **module, struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct buffer text = {0};
    struct buffer binary = {0};
    struct buffer log = {0};
    buffer_append_view(&text, buffer_view(prelude));
    const char *const *vendor = vendor_files[model->device->info.vendor];
    for (int i = 0; i < 3 && vendor[i]; i++) {
        append_file(&text, vendor[i]);
    }
    for (; *files; files++) {
        append_file(&text, *files);
    }
    llcuda_status status = LLCUDA_OK;
    if (text.failed) {
        status = error_no_memory(error, "kernel text", text.length);
    } else {
        const struct gpu_compile_request request = {.name = name, .source = buffer_view(&text)};
        status = driver->compile(driver, &request, &binary, &log, error);
        if (log.length) {
            log_message(model->device->options.log, LOG_WARN, "%s: %s", name, buffer_text(&log));
        }
    }
    if (status == LLCUDA_OK) {
        status = driver->module_load(driver, binary.data, binary.length, module, error);
    }
    if (status == LLCUDA_OK) {
        model->program.modules[model->program.module_count++] = *module;
    }
    buffer_deinit(&log);
    buffer_deinit(&binary);
    buffer_deinit(&text);
    return status;
}

static const char *type_word(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? "TYPE_F32" : dtype == DTYPE_BF16 ? "TYPE_BF16" : "TYPE_F16";
}

/* "#define EMBED_FORMATS(X) X(q8_0) X(f16)": the types that weights of one use have. */
static void append_formats(const struct gpu_model *model, const char *macro, bool embeddings,
                           bool wanted[DTYPE_COUNT], struct buffer *prelude)
{
    buffer_printf(prelude, "#define %s(X)", macro);
    for (uint32_t i = 0; i < model->base.plan->weight_count; i++) {
        const struct gpu_weight *weight = &model->weights[i];
        if (embeddings ? weight->is_embedding : weight->is_matrix) {
            wanted[weight->dtype] = true;
        }
    }
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (wanted[dtype]) {
            buffer_printf(prelude, " X(%s)", dtype_info((enum dtype)dtype)->name);
        }
    }
    buffer_append_byte(prelude, '\n');
}

static llcuda_status get_typed(struct gpu_model *model, struct gpu_module *module,
                               const char *prefix, enum gpu_kernel base,
                               const bool wanted[DTYPE_COUNT], struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t dtype = 0; dtype < DTYPE_COUNT && status == LLCUDA_OK; dtype++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", prefix, dtype_info((enum dtype)dtype)->name);
        if (wanted[dtype]) {
            status = driver->function_get(driver, module, name,
                                          &model->program.functions[base + dtype], error);
        }
    }
    return status;
}

static llcuda_status build_elements(struct gpu_model *model, const struct buffer *common,
                                    struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    struct gpu_module *module;
    struct buffer prelude = {0};
    bool embeds[DTYPE_COUNT] = {false};
    bool multiplies[DTYPE_COUNT] = {false};
    buffer_append_view(&prelude, buffer_view(common));
    append_formats(model, "EMBED_FORMATS", true, embeds, &prelude);
    append_formats(model, "LINEAR_PLAIN_FORMATS", false, multiplies, &prelude);
    llcuda_status status = load_module(model, "elements", &prelude, element_files, &module, error);
    buffer_deinit(&prelude);
    for (uint32_t i = 0; i < GPU_KERNEL_EMBED && status == LLCUDA_OK; i++) {
        status = driver->function_get(driver, module, kernels[i].name,
                                      &model->program.functions[i], error);
    }
    if (status == LLCUDA_OK) {
        status = get_typed(model, module, "embed", GPU_KERNEL_EMBED, embeds, error);
    }
    if (status == LLCUDA_OK) {
        status = get_typed(model, module, "linear_plain", GPU_KERNEL_LINEAR_PLAIN, multiplies,
                           error);
    }
    return status;
}

static llcuda_status build_attention(struct gpu_model *model, const struct buffer *common,
                                     struct llcuda_error *error)
{
    struct gpu_module *module;
    struct buffer prelude = {0};
    buffer_append_view(&prelude, buffer_view(common));
    llcuda_status status = LLCUDA_OK;
    if (!gpu_attention_prelude(&model->attention, &prelude)) {
        status = error_no_memory(error, "a prelude", prelude.length);
    }
    if (status == LLCUDA_OK) {
        status = load_module(model, "attention", &prelude, gpu_attention_files, &module, error);
    }
    buffer_deinit(&prelude);
    if (status == LLCUDA_OK) {
        status = gpu_attention_load(model->driver, module, &model->attention,
                                    &model->program.attention, error);
    }
    return status;
}

llcuda_status gpu_program_build(struct gpu_model *model, struct llcuda_error *error)
{
    struct buffer common = {0};
    buffer_printf(&common, "#define KERNEL_POINTER(type) type *\n#define ACT_TYPE %s\n",
                  type_word(model->activation));
    llcuda_status status = build_elements(model, &common, error);
    if (status == LLCUDA_OK) {
        status = build_attention(model, &common, error);
    }
    buffer_deinit(&common);
    return status;
}

void gpu_program_release(struct gpu_model *model)
{
    for (uint32_t i = 0; i < model->program.module_count; i++) {
        model->driver->module_unload(model->driver, model->program.modules[i]);
    }
    model->program = (struct gpu_program){0};
}
