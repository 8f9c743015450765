/* Owns modules of the emulated driver: shared objects loaded from memory files, so that every load
 * is a private copy with its own static memory, and no file is left behind.
 * Invariant: the descriptor stays open as long as the module, because the loader recognises an
 * object by its name, and /proc/self/fd/N would name another object after N is used again. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/emu_internal.h"

static struct emu_driver *driver_of(struct gpu_driver *table)
{
    return (struct emu_driver *)table;
}

static llcuda_status write_all(int descriptor, const char *data, uint64_t bytes,
                               struct llcuda_error *error)
{
    while (bytes) {
        const ssize_t count = write(descriptor, data, bytes);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_from_errno(error, errno, "write", "a kernel module");
        }
        data += count;
        bytes -= (uint64_t)count;
    }
    return LLCUDA_OK;
}

/* A file that only this process sees: in memory, or an unlinked one in the cache folder. */
static int private_file(const struct emu_driver *driver)
{
    char path[300];
    const int descriptor = memfd_create("llcuda-kernel", MFD_CLOEXEC);
    if (descriptor >= 0) {
        return descriptor;
    }
    snprintf(path, sizeof path, "%s/module-XXXXXX", driver->cache[0] ? driver->cache : "/tmp");
    const int file = mkostemp(path, O_CLOEXEC);
    if (file >= 0) {
        unlink(path);
    }
    return file;
}

struct tls_search {
    uint64_t base; /* of the object that is looked for */
    const char *block;
    uint64_t bytes;
};

static int find_tls(struct dl_phdr_info *info, size_t size, void *user)
{
    struct tls_search *search = user;
    (void)size;
    if (info->dlpi_addr != search->base) {
        return 0;
    }
    for (uint32_t i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            search->block = info->dlpi_tls_data;
            search->bytes = info->dlpi_phdr[i].p_memsz;
        }
    }
    return 1;
}

/* Where the static shared memory lies, relative to the module's anchor. */
static void find_shared(struct gpu_module *module)
{
    Dl_info info;
    const char *anchor = module->table->shared_anchor(); /* makes this thread's block exist */
    if (!dladdr(module->table, &info)) {
        return;
    }
    struct tls_search search = {.base = (uint64_t)info.dli_fbase};
    dl_iterate_phdr(find_tls, &search);
    if (search.block) {
        module->shared_offset = search.block - anchor;
        module->shared_bytes = search.bytes;
    }
}

static void module_unload(struct gpu_driver *table, struct gpu_module *module)
{
    struct emu_driver *driver = driver_of(table);
    if (!module) {
        return;
    }
    if (module->library) {
        dlclose(module->library);
    }
    close(module->descriptor);
    free(module->functions);
    free(module);
    emu_count(&driver->faults->live_objects, -1);
}

static llcuda_status open_library(struct gpu_module *module, struct llcuda_error *error)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", module->descriptor);
    module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module->library) {
        return error_set(error, LLCUDA_DEVICE, "a kernel module cannot be loaded: %s", dlerror());
    }
    module->table = dlsym(module->library, "emu_module");
    if (!module->table || module->table->abi_version != EMU_ABI_VERSION) {
        return error_set(error, LLCUDA_DEVICE,
                         "a kernel module is not one of this version's emulated GPU");
    }
    module->functions = calloc((size_t)module->table->kernel_count + 1, sizeof *module->functions);
    if (!module->functions) {
        return error_no_memory(error, "a kernel module", sizeof *module->functions);
    }
    *module->table->runtime = &emu_run_runtime;
    for (uint32_t i = 0; i < module->table->kernel_count; i++) {
        module->functions[i] =
            (struct gpu_function){module, &module->table->kernels[i], EMU_SHARED_BYTES_DEFAULT};
    }
    find_shared(module);
    return LLCUDA_OK;
}

static llcuda_status module_load(struct gpu_driver *table, const void *binary, uint64_t bytes,
                                 struct gpu_module **result, struct llcuda_error *error)
{
    struct emu_driver *driver = driver_of(table);
    llcuda_status status = emu_enter(driver, "module_load", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    struct gpu_module *module = calloc(1, sizeof *module);
    if (!module) {
        return error_no_memory(error, "a kernel module", sizeof *module);
    }
    module->driver = driver;
    module->descriptor = private_file(driver);
    if (module->descriptor < 0) {
        status = error_from_errno(error, errno, "create", "a memory file for a kernel module");
        free(module);
        return status;
    }
    emu_count(&driver->faults->live_objects, 1);
    status = write_all(module->descriptor, binary, bytes, error);
    if (status == LLCUDA_OK) {
        status = open_library(module, error);
    }
    if (status != LLCUDA_OK) {
        module_unload(table, module);
        return status;
    }
    *result = module;
    return LLCUDA_OK;
}

static llcuda_status function_get(struct gpu_driver *table, struct gpu_module *module,
                                  const char *name, struct gpu_function **function,
                                  struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "function_get", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    for (uint32_t i = 0; i < module->table->kernel_count; i++) {
        if (strcmp(module->functions[i].kernel->name, name) == 0) {
            *function = &module->functions[i];
            return LLCUDA_OK;
        }
    }
    return error_set(error, LLCUDA_NOT_FOUND, "a module has no kernel '%s'", name);
}

static llcuda_status function_info(struct gpu_driver *table, struct gpu_function *function,
                                   struct gpu_function_info *info, struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "function_info", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    const uint32_t threads = function->kernel->threads_max;
    *info = (struct gpu_function_info){.threads_max = threads ? threads : EMU_THREADS_MAX};
    return LLCUDA_OK;
}

static llcuda_status function_shared_limit(struct gpu_driver *table, struct gpu_function *function,
                                           uint32_t bytes, struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "function_shared_limit", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (bytes > EMU_SHARED_BYTES_MAX) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "kernel '%s' wants %u bytes of shared memory, more than %u",
                         function->kernel->name, bytes, EMU_SHARED_BYTES_MAX);
    }
    if (bytes > function->shared_limit) {
        function->shared_limit = bytes;
    }
    return LLCUDA_OK;
}

static llcuda_status function_occupancy(struct gpu_driver *table, struct gpu_function *function,
                                        uint32_t threads, uint32_t shared_bytes, uint32_t *blocks,
                                        struct llcuda_error *error)
{
    llcuda_status status = emu_enter(driver_of(table), "function_occupancy", error);
    if (status != LLCUDA_OK) {
        return status;
    }
    if (threads == 0 || threads > EMU_THREADS_MAX || shared_bytes > function->shared_limit) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "kernel '%s' cannot run with %u threads and %u bytes of shared memory",
                         function->kernel->name, threads, shared_bytes);
    }
    /* A kibibyte of every block is the system's, as on current GPUs. */
    const uint32_t by_threads = 2048u / threads;
    const uint32_t by_shared = (EMU_SHARED_BYTES_MAX + 1024u) / (shared_bytes + 1024u);
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    *blocks = *blocks > 32u ? 32u : *blocks;
    return LLCUDA_OK;
}

void emu_module_entries(struct gpu_driver *table)
{
    table->module_load = module_load;
    table->module_unload = module_unload;
    table->function_get = function_get;
    table->function_info = function_info;
    table->function_shared_limit = function_shared_limit;
    table->function_occupancy = function_occupancy;
}
