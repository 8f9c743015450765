/* Compiles the text of a kernel module with the system's C++ compiler. */
#ifndef GPU_EMU_COMPILE_H
#define GPU_EMU_COMPILE_H

#include "base/buffer.h"
#include "gpu/driver.h"

struct emu_compiler {
    char path[1024];  /* empty: none on this machine */
    uint32_t version; /* 120200 for GCC 12.2.0; clang counts from 1000000; 0 for none */
    char work[256];   /* folder for temporary files */
};

/* `path` NULL: c++, g++ or clang++ in the usual folders. `work` NULL: /tmp. */
void emu_compiler_find(struct emu_compiler *, const char *path, const char *work);

/* Whether this CPU runs what `arch` names, and the arch of the machine. */
const char *emu_arch(void);

/* As gpu_driver.compile; keeps no state, any thread. */
llcuda_status emu_compile(const struct emu_compiler *, const struct gpu_compile_request *,
                          struct buffer *binary, struct buffer *log, struct llcuda_error *);

#endif
