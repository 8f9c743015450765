/* `llcuda kernels`: compiles what a model needs on a GPU into a file, where there is a compiler but
 * perhaps no GPU, for machines where it is the other way round. */
#include "cli/evaluator.h"
#include "cli/gpu_devices.h"
#include "gpu/arch.h"
#include "gpu/gpu.h"

static llcuda_status open_model(const struct options *options, struct model_source **source,
                                struct llcuda_error *error)
{
    const char *path = option_text(options, OPTION_MODEL);
    return path ? model_source_open(path, false, source, error)
                : model_source_open_memory(builtin_model_data(), builtin_model_bytes(), source,
                                           error);
}

static llcuda_status open_compiler(const struct options *options,
                                   const struct gpu_device_info *arch, struct device **device,
                                   struct llcuda_error *error)
{
    struct gpu_driver *driver = NULL;
    struct gpu_open_options open = gpu_options_of(options, 0);
    const struct gpu_device_options device_options = {0};
    open.arch = arch->arch;
    llcuda_status status = arch->vendor == GPU_HIP ? gpu_compiler_open_hip(&open, &driver, error)
                                                   : gpu_compiler_open_cuda(&open, &driver, error);
    return status ? status : gpu_device_open(driver, &device_options, device, error);
}

static llcuda_status write_pack(const struct options *options, const struct gpu_device_info *arch,
                                struct llcuda_error *error)
{
    struct model_source *source = NULL;
    struct plan *plan = NULL;
    struct model_info info;
    struct device *device = NULL;
    const char *cache = option_text(options, OPTION_CACHE_TYPE);
    enum dtype kv_dtype = DTYPE_F16;
    if (!cache_type_find(cache, NULL, &kv_dtype)) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "--cache-type is f16, bf16, f32, q8_0 or fp8, not '%s'", cache);
    }
    const struct device_model_options model_options = {
        .kv_block_count = 1,
        .kv_dtype = kv_dtype,
        .rows_max = 1,
        .logits_rows_max = 1,
    };
    llcuda_status status = open_compiler(options, arch, &device, error);
    if (!status) {
        status = open_model(options, &source, error);
    }
    if (!status) {
        status = model_plan_build(source, &plan, &info, error);
    }
    if (!status) {
        status = gpu_device_pack(device, plan, &model_options, option_text(options, OPTION_OUTPUT),
                                 error);
    }
    plan_destroy(plan);
    model_source_close(source);
    device_close(device);
    return status;
}

int command_kernels(struct options *options)
{
    struct llcuda_error error = {0};
    struct gpu_device_info arch;
    const char *name = option_text(options, OPTION_ARCH);
    if (options->argument_count) {
        return console_usage(options->command, "'%s' is not expected here", options->arguments[0]);
    }
    if (!name || !option_text(options, OPTION_OUTPUT)) {
        return console_usage(options->command, "--arch and --output are needed");
    }
    if (gpu_arch_info(name, &arch, &error)) {
        return console_usage(options->command, "%s", error.message);
    }
    return write_pack(options, &arch, &error) ? console_fail(options, &error) : EXIT_DONE;
}
