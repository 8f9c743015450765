/* The emulated driver's parts: the table (driver_emu.c), modules (emu_module.c) and the work that
 * streams do at once or graphs keep (emu_work.c). */
#ifndef GPU_EMU_INTERNAL_H
#define GPU_EMU_INTERNAL_H

#include "gpu/driver.h"
#include "gpu/emu_compile.h"
#include "gpu/emu_run.h"

#define EMU_SHARED_BYTES_DEFAULT 49152u
#define EMU_SHARED_BYTES_MAX     232448u
#define EMU_THREADS_MAX          1024u

struct emu_allocation {
    uint64_t address;
    uint64_t bytes;
};

struct emu_driver {
    struct gpu_driver table; /* first: what the caller holds */
    struct emu_compiler compiler;
    struct emu_runner *runner;
    struct gpu_faults *faults;
    struct gpu_faults own_faults; /* when the caller gave none */
    char cache[256];              /* empty: none */
    uint64_t memory_bytes;
    uint64_t used_bytes;
    struct emu_allocation *allocations; /* device memory, by address */
    size_t allocation_count;
    size_t allocation_capacity;
};

struct gpu_function {
    struct gpu_module *module;
    const struct emu_kernel *kernel;
    uint32_t shared_limit;
};

struct gpu_module {
    struct emu_driver *driver;
    void *library;
    int descriptor; /* of the memory file; kept open, since the loader knows modules by its name */
    const struct emu_module *table;
    ptrdiff_t shared_offset; /* from the anchor to the start of the static shared memory */
    uint64_t shared_bytes;
    struct gpu_function *functions; /* [table->kernel_count] */
};

struct gpu_matmul {
    struct gpu_matmul_shape shape;
};

enum emu_work_kind { EMU_LAUNCH, EMU_COPY, EMU_FILL, EMU_MATMUL };

/* One thing that a stream does. */
struct emu_work {
    enum emu_work_kind kind;
    uint8_t value; /* fill */
    struct gpu_function *function;
    struct gpu_launch launch;
    void *arguments; /* owned */
    char *to;
    const char *from;
    uint64_t bytes;
    struct gpu_matmul_shape shape; /* matmul: y is `to`, x is `from` */
    const char *weight;
};

struct gpu_graph {
    struct emu_driver *driver;
    struct emu_work *work;
    size_t count;
    size_t capacity;
};

struct gpu_stream {
    struct gpu_graph *capture; /* being recorded, or NULL */
};

struct gpu_event {
    bool timing;
    bool recorded;
    uint64_t time_ns;
    struct gpu_graph *capture; /* recorded in this capture */
};

/* Counts a call; DEVICE when this one is to fail. `call` is the table's name of it. */
llcuda_status emu_enter(struct emu_driver *, const char *call, struct llcuda_error *);
void emu_count(uint64_t *counter, int64_t change);
/* Whether the range lies inside one live allocation; DEVICE otherwise. */
llcuda_status emu_range_check(const struct emu_driver *, const char *call, uint64_t address,
                              uint64_t bytes, struct llcuda_error *);

/* Does the work now, or keeps it when the stream is being captured. Takes work->arguments. */
llcuda_status emu_submit(struct emu_driver *, struct gpu_stream *, struct emu_work *,
                         struct llcuda_error *);
llcuda_status emu_graph_run(struct emu_driver *, const struct gpu_graph *, struct llcuda_error *);
void emu_graph_free(struct gpu_graph *);

/* Fill in the table's entries for modules and functions. */
void emu_module_entries(struct gpu_driver *table);

#endif
