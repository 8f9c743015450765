/* The table of modules for check_kernels.c: shapes of published models, and corners of what the
 * kernels take. */
#include "check_modules.h"

#include "gpu/attention.h"
#include "gpu/kernel_sources.h"
#include "gpu/program.h"

#include <stdio.h>
#include <string.h>

static bool pointers(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    (void)device;
    (void)variant;
    return buffer_append_text(out, "#define KERNEL_POINTER(type) type *\n");
}

/* Whether kernels read weights of this type; others are converted when they are loaded. */
static bool has_format(const struct dtype_info *info)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "struct format_%s ", info->name);
    return strstr(kernel_source_find("weight_formats.cuh")->text, wanted) != NULL;
}

/* The layers between attention, for each type of activation; with all types of weights once. */
static bool elements(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    static const char *const activations[] = {"TYPE_F16", "TYPE_BF16", "TYPE_F32"};
    static const char *const uses[] = {"EMBED_FORMATS", "LINEAR_PLAIN_FORMATS"};
    static const bool none[DTYPE_COUNT];
    pointers(device, variant, out);
    buffer_printf(out, "#define ACT_TYPE %s\n", activations[variant]);
    for (int use = 0; use < 2; use++) {
        buffer_printf(out, "#define %s(X)", uses[use]);
        for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
            const struct dtype_info *info = dtype_info((enum dtype)dtype);
            if (has_format(info) && (variant == 0 || info->block_elements == 1)) {
                buffer_printf(out, " X(%s)", info->name);
            }
        }
        buffer_append_byte(out, '\n');
    }
    gpu_program_packed_prelude("PACKED_EMBED_FORMATS", variant == 0 ? NULL : none, out);
    gpu_program_packed_prelude("PACKED_FORMATS", variant == 0 ? NULL : none, out);
    return !out->failed;
}

/* Between the products of experts, and their plain products. */
static bool experts(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    static const char *const activations[] = {"TYPE_F16", "TYPE_BF16", "TYPE_F32"};
    pointers(device, variant, out);
    buffer_printf(out, "#define ACT_TYPE %s\n#define LINEAR_PLAIN_FORMATS(X)\n",
                  activations[variant]);
    return buffer_printf(out, "#define LINEAR_PLAIN_GROUPS(X) X(f32) X(f16) X(bf16)%s\n",
                         variant == 0 ? " X(q8_0) X(q4_k) X(q6_k) X(mxfp4)" : "");
}

static bool repack(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    pointers(device, variant, out);
    buffer_append_text(out, "#define ACT_TYPE TYPE_F16\n");
    gpu_program_packed_prelude("REPACK_FORMATS", NULL, out);
    return !out->failed;
}

static const struct gpu_attention_shape attention_shapes[] = {
    {32, 8, 64, DTYPE_BF16, DTYPE_BF16, false},  /* Llama-3.2-1B */
    {32, 8, 128, DTYPE_BF16, DTYPE_BF16, false}, /* Llama-3.1-8B */
    {28, 4, 128, DTYPE_F16, DTYPE_F16, false},   /* Qwen2.5-7B */
    {32, 32, 96, DTYPE_F16, DTYPE_F16, false},   /* Phi-3 mini */
    {8, 4, 256, DTYPE_BF16, DTYPE_BF16, false},  /* Gemma-2-2B */
    {64, 8, 64, DTYPE_BF16, DTYPE_BF16, false},     {32, 8, 128, DTYPE_BF16, DTYPE_BF16, true},
    {8, 2, 64, DTYPE_F32, DTYPE_F32, false},        {32, 8, 64, DTYPE_F8_E4M3, DTYPE_BF16, false},
    {32, 8, 128, DTYPE_F8_E4M3, DTYPE_BF16, false}, {32, 8, 64, DTYPE_Q8_0, DTYPE_BF16, false},
    {32, 8, 128, DTYPE_Q8_0, DTYPE_BF16, false},    {8, 4, 256, DTYPE_Q8_0, DTYPE_F16, false},
    {32, 8, 64, DTYPE_BF16, DTYPE_BF16, true},      {8, 4, 256, DTYPE_BF16, DTYPE_BF16, true},
    {32, 8, 64, DTYPE_Q8_0, DTYPE_BF16, true},
};

static bool attention(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    struct gpu_attention_config config;
    return !gpu_attention_configure(&attention_shapes[variant], device, &config, NULL) &&
           gpu_attention_prelude(&config, out);
}

/* The decode kernels of a 1B and an 8B model of one type of weights. */
static bool decode_of(const struct gpu_device_info *device, enum dtype dtype, uint32_t model,
                      struct buffer *out)
{
    static const uint32_t columns[][2] = {{2048, 8192}, {4096, 14336}};
    static const struct gpu_decode_key keys[] = {
        {.from = GPU_DECODE_FROM_ACTIVATIONS, .to = GPU_DECODE_STORE},
        {.from = GPU_DECODE_FROM_ACTIVATIONS, .to = GPU_DECODE_ADD},
        {.from = GPU_DECODE_FROM_ACTIVATIONS, .to = GPU_DECODE_PAIR},
        {.from = GPU_DECODE_FROM_NORM, .to = GPU_DECODE_STORE},
        {.from = GPU_DECODE_FROM_NORM, .to = GPU_DECODE_PAIR},
    };
    struct gpu_program program = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (uint32_t tiles = 1; tiles <= (keys[i].from == GPU_DECODE_FROM_NORM ? 1u : 4u);
             tiles *= 2) {
            struct gpu_decode_key key = keys[i];
            key.dtype = (uint32_t)dtype;
            key.columns = columns[model][key.to == GPU_DECODE_ADD];
            key.token_tiles = tiles;
            if (key.from == GPU_DECODE_FROM_NORM && !gpu_decode_norms(dtype, key.columns, 1)) {
                continue; /* the last, so that numbers of others stay */
            }
            /* What the device does not take, one of half the width does: each keeps its number. */
            struct gpu_decode_kernel *kernel = &program.decode[program.decode_count++];
            kernel->key = key;
            while (!gpu_decode_serves(device, kernel) && kernel->key.token_tiles > 1) {
                kernel->key.token_tiles /= 2;
            }
        }
    }
    buffer_append_text(out, "#define KERNEL_POINTER(type) type *\n");
    buffer_printf(out, "#define ACT_TYPE %s\n", dtype == DTYPE_BF16 ? "TYPE_BF16" : "TYPE_F16");
    gpu_program_decode_prelude(&program, 0, 1, out);
    return !out->failed;
}

static bool decode(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    return decode_of(device, DTYPE_BF16, variant, out);
}

static const enum dtype packed_dtypes[] = {DTYPE_Q4_0,  DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K,
                                           DTYPE_Q6_K,  DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,
                                           DTYPE_MXFP4, DTYPE_Q2_K, DTYPE_Q3_K};
#define PACKED_COUNT (sizeof packed_dtypes / sizeof packed_dtypes[0])

/* Of experts: Qwen3-30B-A3B and Mixtral-8x7B. */
static bool decode_group(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    static const uint32_t columns[][2] = {{2048, 768}, {4096, 14336}};
    struct gpu_program program = {0};
    for (uint32_t i = 0; i < 6; i++) {
        struct gpu_decode_kernel *kernel = &program.decode[program.decode_count++];
        kernel->key = (struct gpu_decode_key){
            .dtype = DTYPE_BF16,
            .columns = columns[variant][i / 3],
            .token_tiles = 1u << i % 3,
            .to = i / 3 ? GPU_DECODE_STORE : GPU_DECODE_PAIR,
            .grouped = 1,
        };
        program.decode_count -= !gpu_decode_choose(device, kernel);
    }
    pointers(device, variant, out);
    buffer_append_text(out, "#define ACT_TYPE TYPE_BF16\n");
    gpu_program_decode_prelude(&program, 0, 1, out);
    return !out->failed;
}

static bool packed(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    /* Weights are packed only where their kernels fit. */
    struct gpu_decode_kernel kernel = {
        .key = {.dtype = DTYPE_Q4_0, .columns = 2048, .token_tiles = 1, .to = GPU_DECODE_PAIR}};
    return gpu_decode_choose(device, &kernel) &&
           decode_of(device, packed_dtypes[variant % PACKED_COUNT], variant / PACKED_COUNT, out);
}

/* For each 16-bit type of activation; with all types of weights once. */
static bool wide(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    enum dtype act = variant == 0 ? DTYPE_F16 : DTYPE_BF16;
    bool wanted[DTYPE_COUNT] = {false};
    for (int dtype = 0; dtype < DTYPE_COUNT && variant == 0; dtype++) {
        const struct dtype_info *info = dtype_info((enum dtype)dtype);
        wanted[dtype] = has_format(info) && info->block_elements > 1;
    }
    wanted[act] = true;
    pointers(device, variant, out);
    buffer_printf(out, "#define ACT_TYPE %s\n", variant == 0 ? "TYPE_F16" : "TYPE_BF16");
    return gpu_wide_prelude(device, act, wanted, out);
}

static bool wide_group(const struct gpu_device_info *device, uint32_t variant, struct buffer *out)
{
    static const bool none[DTYPE_COUNT];
    enum dtype act = variant == 0 ? DTYPE_F16 : DTYPE_BF16;
    bool wanted[DTYPE_COUNT] = {false};
    wanted[act] = wanted[DTYPE_Q4_K] = wanted[DTYPE_MXFP4] = true;
    wanted[DTYPE_Q8_0] = wanted[DTYPE_Q6_K] = variant == 0;
    pointers(device, variant, out);
    buffer_printf(out, "#define ACT_TYPE %s\n", variant == 0 ? "TYPE_F16" : "TYPE_BF16");
    struct buffer ignored = {0};
    const bool can = gpu_wide_prelude(device, act, wanted, &ignored);
    buffer_deinit(&ignored);
    gpu_wide_prelude(device, act, none, out);
    gpu_wide_group_prelude(device, act, wanted, out);
    return can && !out->failed;
}

static const char *const measure_files[] = {"arguments_measure.h", "measure.cu", NULL};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const struct check_module check_modules[] = {
    {"measure", measure_files, 1, pointers},
    {"elements", gpu_element_files, 3, elements},
    {"linear_decode", gpu_decode_files, 2, decode},
    {"linear_decode_group", gpu_decode_files, 2, decode_group},
    {"linear_wide_group", gpu_wide_files, 2, wide_group},
    {"experts", gpu_experts_files, 3, experts},
    {"linear_packed", gpu_decode_files, 2 * PACKED_COUNT, packed},
    {"repack", gpu_repack_files, 1, repack},
    {"linear_wide", gpu_wide_files, 2, wide},
    {"attention", gpu_attention_files, COUNT(attention_shapes), attention},
};
const uint32_t check_module_count = COUNT(check_modules);
