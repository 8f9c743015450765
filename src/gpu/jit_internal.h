/* The JIT's parts: making one binary (jit.c) and many at once (jit_batch.c). */
#ifndef GPU_JIT_INTERNAL_H
#define GPU_JIT_INTERNAL_H

#include <pthread.h>

#include "base/file.h"
#include "gpu/jit.h"
#include "gpu/jit_cache.h"
#include "gpu/kernel_pack.h"

#define JIT_PACKS_MAX   8u
#define JIT_MODULES_MAX 256u

struct jit_pack {
    struct file_map map;
    struct kernel_pack pack;
};

struct gpu_jit {
    struct gpu_driver *driver;
    struct gpu_device_info info;
    char arch[sizeof((struct gpu_device_info *)0)->arch];
    const struct log_sink *log;
    struct jit_cache cache;
    struct jit_pack packs[JIT_PACKS_MAX];
    uint32_t pack_count;
    uint32_t thread_count;
    pthread_mutex_t lock; /* of the statistics */
    struct gpu_jit_statistics statistics;
};

/* As gpu_jit_build, and tells the key of the text. */
llcuda_status jit_build_keyed(struct gpu_jit *jit, const struct gpu_jit_module *module,
                              uint8_t key[SHA256_BYTES], struct buffer *binary,
                              struct llcuda_error *error);

#endif
