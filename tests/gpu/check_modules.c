/* The table of modules for check_kernels.c: shapes of published models, and corners of what the
 * kernels take. */
#include "check_modules.h"

#include "gpu/attention.h"

static bool pointers(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    (void)device;
    (void)variant;
    return buffer_append_text(out, "#define KERNEL_POINTER(type) type *\n");
}

/* The layers between attention, for each type of activation; with all types of weights once. */
static bool elements(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    static const char *const activations[] = {"TYPE_F16", "TYPE_BF16", "TYPE_F32"};
    static const char *const uses[] = {"EMBED_FORMATS", "LINEAR_PLAIN_FORMATS"};
    pointers(device, variant, out);
    buffer_printf(out, "#define ACT_TYPE %s\n", activations[variant]);
    for (int use = 0; use < 2; use++) {
        buffer_printf(out, "#define %s(X)", uses[use]);
        for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
            const struct dtype_info *info = dtype_info((enum dtype)dtype);
            if (variant == 0 || info->block_elements == 1) {
                buffer_printf(out, " X(%s)", info->name);
            }
        }
        buffer_append_byte(out, '\n');
    }
    return !out->failed;
}

static const struct gpu_attention_shape attention_shapes[] = {
    {32, 8, 64, DTYPE_BF16, DTYPE_BF16, false},  /* Llama-3.2-1B */
    {32, 8, 128, DTYPE_BF16, DTYPE_BF16, false}, /* Llama-3.1-8B */
    {28, 4, 128, DTYPE_F16, DTYPE_F16, false},   /* Qwen2.5-7B */
    {32, 32, 96, DTYPE_F16, DTYPE_F16, false},   /* Phi-3 mini */
    {8, 4, 256, DTYPE_BF16, DTYPE_BF16, false},  /* Gemma-2-2B */
    {64, 8, 64, DTYPE_BF16, DTYPE_BF16, false},  {32, 8, 128, DTYPE_BF16, DTYPE_BF16, true},
    {8, 2, 64, DTYPE_F32, DTYPE_F32, false},
};

static bool attention(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    struct gpu_attention_config config;
    return !gpu_attention_configure(&attention_shapes[variant], device, &config, NULL) &&
           gpu_attention_prelude(&config, out);
}

static const char *const element_files[] = {
    "device.cuh", "arguments_linear.h", "weight_formats.cuh", "norm.cu",
    "embed.cu",   "activation.cu",      "linear_plain.cu",    NULL,
};
static const char *const measure_files[] = {"arguments_measure.h", "measure.cu", NULL};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const struct check_module check_modules[] = {
    {"measure", measure_files, 1, pointers},
    {"elements", element_files, 3, elements},
    {"attention", gpu_attention_files, COUNT(attention_shapes), attention},
};
const uint32_t check_module_count = COUNT(check_modules);
