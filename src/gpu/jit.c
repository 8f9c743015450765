/* Owns the making of one binary: joining texts, the key, and the way through packs, cache and
 * compiler. Invariant: a key stands for everything that the binary depends on but the compiler's
 * version, which the cache keeps beside it, so that a machine that has lost its compiler still
 * finds what another run has made. Statistics are under a lock; all else is constant after
 * gpu_jit_create, so that any thread may build. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "build_config.h"
#include "gpu/jit_internal.h"
#include "gpu/kernel_sources.h"

#define CACHE_BYTES_DEFAULT (1ull << 30)
#define TEXT_BYTES_MAX      (16u << 20)
#define LOG_BYTES_MAX       (1u << 20)
#define THREADS_DEFAULT_MAX 8u

/* Joining. */

/* Without the lines that include: kernel text has no headers, and those that it shares with C are
 * joined by name. */
static void append_source(struct buffer *text, const char *name, struct text_view source)
{
    const char *at = source.data;
    const char *end = source.data + source.length;
    buffer_printf(text, "#line 1 \"%s\"\n", name);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *next = newline ? newline + 1 : end;
        if ((size_t)(end - at) > 8 && memcmp(at, "#include", 8) == 0) {
            buffer_append_byte(text, '\n'); /* lines keep their numbers */
        } else {
            buffer_append(text, at, (size_t)(next - at));
        }
        at = next;
    }
    buffer_append_byte(text, '\n');
}

static llcuda_status append_file(struct buffer *text, const char *name, struct llcuda_error *error)
{
    const struct kernel_source *source = kernel_source_find(name);
    if (!source) {
        return error_set(error, LLCUDA_NOT_FOUND, "there is no kernel text '%s'", name);
    }
    append_source(text, name, text_view_make(source->text, source->length));
    return LLCUDA_OK;
}

static llcuda_status append_vendor(struct buffer *text, enum gpu_vendor vendor,
                                   struct llcuda_error *error)
{
    llcuda_status status;
    switch (vendor) {
    case GPU_CUDA:
        return append_file(text, "vendor_nvidia.cuh", error);
    case GPU_HIP:
        return append_file(text, "vendor_amd.cuh", error);
    case GPU_EMU:
        status = append_file(text, "emu_abi.h", error);
        return status == LLCUDA_OK ? append_file(text, "vendor_emu.cuh", error) : status;
    }
    return error_set(error, LLCUDA_INTERNAL, "a GPU of an unknown vendor");
}

llcuda_status gpu_jit_text(const struct gpu_jit *jit, const struct gpu_jit_module *module,
                           struct buffer *text, struct llcuda_error *error)
{
    append_source(text, "prelude", module->prelude);
    llcuda_status status = append_vendor(text, jit->info.vendor, error);
    for (uint32_t i = 0; i < module->file_count && status == LLCUDA_OK; i++) {
        status = append_file(text, module->files[i], error);
    }
    if (module->text.length) {
        append_source(text, module->name, module->text);
    }
    if (status == LLCUDA_OK && text->failed) {
        status = error_no_memory(error, "the text of kernels", text->length);
    }
    return status;
}

/* With its NUL, so that no two sequences of strings look alike. */
static void hash_string(struct sha256 *hash, const char *text)
{
    sha256_update(hash, text, strlen(text) + 1);
}

static void key_of(const struct gpu_jit *jit, const struct gpu_jit_module *module,
                   const struct buffer *text, uint8_t key[SHA256_BYTES])
{
    struct sha256 hash;
    const uint8_t vendor = (uint8_t)jit->info.vendor;
    sha256_init(&hash);
    hash_string(&hash, "llcuda kernels " LLCUDA_VERSION);
    sha256_update(&hash, &vendor, sizeof vendor);
    hash_string(&hash, jit->arch);
    for (uint32_t i = 0; i < module->option_count; i++) {
        hash_string(&hash, module->options[i]);
    }
    sha256_update(&hash, text->data, text->length);
    sha256_finish(&hash, key);
}

/* Building. */

static void count(struct gpu_jit *jit, uint64_t *counter, double compile_ms)
{
    pthread_mutex_lock(&jit->lock);
    *counter += 1;
    jit->statistics.compile_ms += compile_ms;
    pthread_mutex_unlock(&jit->lock);
}

static llcuda_status find(struct gpu_jit *jit, const uint8_t key[SHA256_BYTES],
                          struct buffer *binary)
{
    struct llcuda_error reason;
    for (uint32_t i = 0; i < jit->pack_count; i++) {
        struct kernel_pack_item item;
        llcuda_status status = kernel_pack_find(&jit->packs[i].pack, key, &item, &reason);
        if (status == LLCUDA_OK && !file_map_damaged(&jit->packs[i].map)) {
            count(jit, &jit->statistics.from_pack, 0);
            return buffer_append(binary, item.data, item.bytes) ? LLCUDA_OK : LLCUDA_OUT_OF_MEMORY;
        }
        if (status != LLCUDA_NOT_FOUND) {
            log_message(jit->log, LOG_WARN, "%s", reason.message);
        }
    }
    llcuda_status status =
        jit_cache_read(&jit->cache, key, jit->info.compiler_version, binary, &reason);
    if (status == LLCUDA_OK) {
        count(jit, &jit->statistics.from_cache, 0);
    } else if (status != LLCUDA_NOT_FOUND) {
        count(jit, &jit->statistics.damaged, 0);
        log_message(jit->log, LOG_WARN, "an entry of the kernel cache is made anew: %s",
                    reason.message);
    }
    return status;
}

/* The compiler's words, a line a message. */
static void log_lines(const struct log_sink *sink, enum log_level level, const struct buffer *text)
{
    const char *at = buffer_text(text);
    while (*at) {
        const size_t length = strcspn(at, "\n");
        log_message(sink, level, "%.*s", (int)length, at);
        at += length + (at[length] ? 1 : 0);
    }
}

/* The first line that speaks of an error, which is what its reader wants to know. */
static struct text_view first_error(const struct buffer *text)
{
    const char *at = buffer_text(text);
    const char *found = strstr(at, "error");
    while (found && found > at && found[-1] != '\n') {
        found--;
    }
    found = found ? found : at;
    return text_view_make(found, strcspn(found, "\n"));
}

static llcuda_status compile(struct gpu_jit *jit, const struct gpu_jit_module *module,
                             const struct buffer *text, const uint8_t key[SHA256_BYTES],
                             struct buffer *binary, struct llcuda_error *error)
{
    struct buffer words = {.limit_bytes = LOG_BYTES_MAX};
    struct llcuda_error reason;
    const uint64_t start = clock_now_ns();
    const struct gpu_compile_request request = {
        .name = module->name,
        .source = buffer_view(text),
        .options = module->options,
        .option_count = module->option_count,
        .arch = jit->arch,
    };
    llcuda_status status = jit->driver->compile(jit->driver, &request, binary, &words, error);
    const double milliseconds = clock_ms(clock_now_ns() - start);
    log_lines(jit->log, status == LLCUDA_OK ? LOG_DEBUG : LOG_ERROR, &words);
    if (status == LLCUDA_OK) {
        count(jit, &jit->statistics.compiled, milliseconds);
        log_message(jit->log, LOG_DEBUG, "compiled %s for %s in %.0f ms", module->name, jit->arch,
                    milliseconds);
        if (jit_cache_write(&jit->cache, key, jit->info.compiler_version, module->name, binary,
                            &reason) != LLCUDA_OK) {
            log_message(jit->log, LOG_WARN, "a compiled kernel is not kept: %s", reason.message);
        }
    } else if (status == LLCUDA_BAD_FORMAT && words.length) {
        const struct text_view line = first_error(&words);
        error_set(error, status, "'%s' cannot be compiled: %.*s", module->name,
                  TEXT_ARGUMENTS(line));
    }
    buffer_deinit(&words);
    return status;
}

llcuda_status jit_build_keyed(struct gpu_jit *jit, const struct gpu_jit_module *module,
                              uint8_t key[SHA256_BYTES], struct buffer *binary,
                              struct llcuda_error *error)
{
    struct buffer text = {.limit_bytes = TEXT_BYTES_MAX};
    llcuda_status status = gpu_jit_text(jit, module, &text, error);
    if (status == LLCUDA_OK) {
        key_of(jit, module, &text, key);
        status = find(jit, key, binary);
        if (status == LLCUDA_OUT_OF_MEMORY) {
            error_no_memory(error, "a compiled kernel", text.length);
        } else if (status != LLCUDA_OK) {
            status = compile(jit, module, &text, key, binary, error);
        }
    }
    buffer_deinit(&text);
    return status;
}

llcuda_status gpu_jit_build(struct gpu_jit *jit, const struct gpu_jit_module *module,
                            struct buffer *binary, struct llcuda_error *error)
{
    uint8_t key[SHA256_BYTES];
    return jit_build_keyed(jit, module, key, binary, error);
}

llcuda_status gpu_jit_pack(struct gpu_jit *jit, const struct gpu_jit_module *modules,
                           uint32_t module_count, const char *path, struct llcuda_error *error)
{
    struct kernel_pack_item *items = calloc(module_count + 1u, sizeof *items);
    struct buffer *binaries = calloc(module_count + 1u, sizeof *binaries);
    struct buffer content = {0};
    llcuda_status status = LLCUDA_OK;
    if (!items || !binaries) {
        status = error_no_memory(error, "a pack of kernels", module_count * sizeof *items);
        goto done;
    }
    for (uint32_t i = 0; i < module_count && status == LLCUDA_OK; i++) {
        status = jit_build_keyed(jit, &modules[i], items[i].key, &binaries[i], error);
        snprintf(items[i].name, sizeof items[i].name, "%s", modules[i].name);
        items[i].compiler_version = jit->info.compiler_version;
        items[i].data = binaries[i].data;
        items[i].bytes = binaries[i].length;
    }
    if (status == LLCUDA_OK) {
        status = kernel_pack_write(items, module_count, &content, error);
    }
    if (status == LLCUDA_OK) {
        status = file_write_atomic(path, content.data, content.length, error);
    }
done:
    for (uint32_t i = 0; binaries && i < module_count; i++) {
        buffer_deinit(&binaries[i]);
    }
    buffer_deinit(&content);
    free(binaries);
    free(items);
    return status;
}

/* Life. */

static llcuda_status open_pack(struct jit_pack *pack, const char *path, struct llcuda_error *error)
{
    struct file file;
    llcuda_status status = file_open(&file, path, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = file_map_open(&pack->map, &file, error);
    file_close(&file);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = kernel_pack_open(&pack->pack, pack->map.data, pack->map.size, error);
    if (status != LLCUDA_OK) {
        error_prefix(error, status, "'%s'", path);
        file_map_close(&pack->map);
    }
    return status;
}

static uint32_t threads_default(void)
{
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus < 1) {
        return 1;
    }
    return cpus > (long)THREADS_DEFAULT_MAX ? THREADS_DEFAULT_MAX : (uint32_t)cpus;
}

llcuda_status gpu_jit_create(struct gpu_driver *driver, const struct gpu_jit_options *options,
                             struct gpu_jit **result, struct llcuda_error *error)
{
    struct llcuda_error reason;
    struct gpu_jit *jit = calloc(1, sizeof *jit);
    if (!jit) {
        return error_no_memory(error, "the compiler of kernels", sizeof *jit);
    }
    jit->driver = driver;
    jit->log = options->log;
    jit->cache.folder = -1;
    jit->thread_count = options->thread_count ? options->thread_count : threads_default();
    pthread_mutex_init(&jit->lock, NULL);
    driver->describe(driver, &jit->info);
    snprintf(jit->arch, sizeof jit->arch, "%s", options->arch ? options->arch : jit->info.arch);
    const uint64_t bytes_max =
        options->cache_bytes_max ? options->cache_bytes_max : CACHE_BYTES_DEFAULT;
    if (options->cache &&
        jit_cache_open(&jit->cache, options->cache, bytes_max, &reason) != LLCUDA_OK) {
        log_message(jit->log, LOG_WARN, "compiled kernels are not kept: %s", reason.message);
    }
    for (uint32_t i = 0; i < options->pack_count; i++) {
        if (jit->pack_count == JIT_PACKS_MAX) {
            log_message(jit->log, LOG_WARN, "more than %u packs of kernels; the rest is not used",
                        JIT_PACKS_MAX);
            break;
        }
        if (open_pack(&jit->packs[jit->pack_count], options->packs[i], &reason) == LLCUDA_OK) {
            jit->pack_count++;
        } else {
            log_message(jit->log, LOG_WARN, "a pack of kernels is not used: %s", reason.message);
        }
    }
    *result = jit;
    return LLCUDA_OK;
}

void gpu_jit_destroy(struct gpu_jit *jit)
{
    if (!jit) {
        return;
    }
    for (uint32_t i = 0; i < jit->pack_count; i++) {
        file_map_close(&jit->packs[i].map);
    }
    jit_cache_close(&jit->cache);
    pthread_mutex_destroy(&jit->lock);
    free(jit);
}

void gpu_jit_statistics(const struct gpu_jit *jit, struct gpu_jit_statistics *statistics)
{
    /* The lock is no part of what the statistics are. */
    pthread_mutex_t *lock;
    const pthread_mutex_t *constant = &jit->lock;
    memcpy(&lock, &constant, sizeof lock);
    pthread_mutex_lock(lock);
    *statistics = jit->statistics;
    pthread_mutex_unlock(lock);
    statistics->has_cache = jit->cache.folder >= 0;
    statistics->has_compiler = jit->info.compiler_version != 0;
}
