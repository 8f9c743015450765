/* From kernel text to loaded modules. Ideas: shapes are compile-time constants, so a module is text
 * plus a prelude; compiling is slow, so a binary is looked for in packs and in a cache on disk
 * before a compiler is asked; and modules are made by threads of their own, while their user loads
 * weights. One JIT serves one driver. */
#ifndef GPU_JIT_H
#define GPU_JIT_H

#include "base/buffer.h"
#include "base/log.h"
#include "gpu/driver.h"

struct gpu_jit;
struct gpu_jit_batch;

struct gpu_jit_options {
    const char *cache;        /* folder for compiled kernels; NULL: none is kept */
    uint64_t cache_bytes_max; /* 0: 1 GiB */
    const char *const *packs; /* files of compiled kernels, looked into first */
    uint32_t pack_count;
    uint32_t thread_count;      /* that compile at a time; 0: one a CPU, at most 8 */
    const char *arch;           /* NULL: that of the device */
    const struct log_sink *log; /* may be NULL; outlives the JIT */
};

/* What a module is made of: prelude, the vendor's words, `files` of src/kernels in this order (with
 * "device.cuh" where it is wanted), `text`. All borrowed until the module is loaded. */
struct gpu_jit_module {
    const char *name; /* for messages */
    struct text_view prelude;
    const char *const *files;
    uint32_t file_count;
    struct text_view text; /* further text, may be empty */
    const char *const *options;
    uint32_t option_count;
};

/* A folder that cannot serve as a cache, or a pack that cannot be read, is said in the log and done
 * without. */
llcuda_status gpu_jit_create(struct gpu_driver *driver, const struct gpu_jit_options *options,
                             struct gpu_jit **jit, struct llcuda_error *error);
void gpu_jit_destroy(struct gpu_jit *jit); /* NULL is fine; before the driver, after all batches */

/* The complete text of a module, as the compiler gets it. NOT_FOUND for an unknown file. */
llcuda_status gpu_jit_text(const struct gpu_jit *jit, const struct gpu_jit_module *module,
                           struct buffer *text, struct llcuda_error *error);

/* The binary of a module: from a pack, the cache or the compiler, in this order. UNSUPPORTED when
 * it is nowhere and there is no compiler; BAD_FORMAT when it does not compile. Any thread. */
llcuda_status gpu_jit_build(struct gpu_jit *jit, const struct gpu_jit_module *module,
                            struct buffer *binary, struct llcuda_error *error);

/* Starts making all modules on other threads. */
llcuda_status gpu_jit_start(struct gpu_jit *jit, const struct gpu_jit_module *modules,
                            uint32_t count, struct gpu_jit_batch **batch,
                            struct llcuda_error *error);
/* Waits, loads what was made into loaded[count] and releases the batch, also after a failure, where
 * nothing stays loaded. On the driver's thread. */
llcuda_status gpu_jit_finish(struct gpu_jit_batch *batch, struct gpu_module **loaded,
                             struct llcuda_error *error);
/* Waits for what is running, drops the rest; NULL is fine. */
void gpu_jit_cancel(struct gpu_jit_batch *batch);

/* Both of the above for one module. */
llcuda_status gpu_jit_load(struct gpu_jit *jit, const struct gpu_jit_module *module,
                           struct gpu_module **loaded, struct llcuda_error *error);

/* Counts since the JIT was made. */
struct gpu_jit_statistics {
    uint64_t compiled;
    uint64_t from_cache;
    uint64_t from_pack;
    uint64_t damaged;  /* entries of the cache that were thrown away */
    double compile_ms; /* of all threads together */
    double wait_ms;    /* that gpu_jit_finish waited */
    bool has_cache;
    bool has_compiler;
};
void gpu_jit_statistics(const struct gpu_jit *jit, struct gpu_jit_statistics *statistics);

/* Writes all modules into one file, for machines that cannot compile. */
llcuda_status gpu_jit_pack(struct gpu_jit *jit, const struct gpu_jit_module *modules,
                           uint32_t count, const char *path, struct llcuda_error *error);

#endif
