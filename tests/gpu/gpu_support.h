/* What the tests of the GPU room share: an open emulated device, kernels from tests/gpu/, and runs
 * of one kernel with plain arguments. */
#ifndef GPU_SUPPORT_H
#define GPU_SUPPORT_H

#include "support/test_support.h"

#include "base/buffer.h"
#include "gpu/driver.h"

/* An emulated device with its stream. */
struct gpu_bench {
    struct gpu_driver *driver;
    struct gpu_stream *stream;
    struct gpu_module *module; /* NULL: none loaded */
    struct gpu_faults faults;
    struct llcuda_error error;
};

/* LLCUDA_TEST_DEVICE=cuda runs the tests on a real GPU (the first; libraries of LLCUDA_CUDA_PATH).
 */
bool gpu_bench_is_emulated(void);

/* The driver of the device that tests run on, owned by the caller or the device opened on it;
 * `faults` counts and injects on the emulated one only. */
struct gpu_driver *gpu_test_driver(struct gpu_faults *faults);

/* Skips the test on a real GPU: it injects failures or counts calls. */
void gpu_test_needs_emulation(void);

void gpu_bench_open(struct gpu_bench *bench, enum gpu_emu_order order, uint64_t seed);
void gpu_bench_close(struct gpu_bench *bench);

/* Appends a text without the lines that include: as the JIT joins texts. */
void gpu_bench_append(struct buffer *text, const char *source);

/* The emulator's words and a file of tests/gpu/, joined; `without` (or NULL) is cut out at its
 * `occurrence`-th place (from 0): how a barrier is deleted. Owned by the caller. */
char *gpu_bench_text(const char *file, const char *without, uint32_t occurrence);

/* The words of the open device's vendor. */
void gpu_bench_append_words(struct buffer *text);

/* Compiles and loads; the log is printed when that fails. */
void gpu_bench_load(struct gpu_bench *bench, const char *text);

/* Runs one kernel of the loaded module. */
llcuda_status gpu_bench_launch(struct gpu_bench *bench, const char *kernel, uint32_t blocks,
                               uint32_t threads, uint32_t shared_bytes, const void *arguments,
                               uint32_t argument_bytes);

/* Device memory with a copy of `data` (NULL: as it comes), and back. */
uint64_t gpu_bench_upload(struct gpu_bench *bench, const void *data, uint64_t bytes);
void gpu_bench_download(struct gpu_bench *bench, void *data, uint64_t address, uint64_t bytes);

#endif
