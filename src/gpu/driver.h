/* The table between the GPU device and a vendor's driver. Ideas: it has the shape of the CUDA
 * driver API, so that the CUDA filling is thin; every function checks its call and names it in the
 * error, so that nobody above handles vendor codes; and a third filling runs the same kernel text
 * on the CPU
 * (`driver_emu.c`), so that everything above this table is tested where there is no GPU.
 *
 * Addresses of device memory are plain integers: nobody above may dereference one. A driver belongs
 * to one thread at a time; several drivers may be open at once. All functions return LLCUDA_OK, or
 * DEVICE (a call failed or the device stopped answering), OUT_OF_MEMORY, UNSUPPORTED,
 * INVALID_ARGUMENT, TIMEOUT. */
#ifndef GPU_DRIVER_H
#define GPU_DRIVER_H

#include "base/buffer.h"
#include "base/error.h"
#include "tensor/dtype.h"

/* Opaque; made and released through the table. */
struct gpu_stream;
struct gpu_event;
struct gpu_module;
struct gpu_function;
struct gpu_graph; /* captured, instantiated and ready to be launched */
struct gpu_matmul;

enum gpu_vendor { GPU_CUDA, GPU_HIP, GPU_EMU };

struct gpu_device_info {
    char name[96]; /* "NVIDIA H200" */
    char arch[16]; /* what compile() takes: "sm_90a", "gfx90a", "emu" */
    enum gpu_vendor vendor;
    uint32_t capability; /* 90 for 9.0; 0 where the vendor has none */
    uint32_t multiprocessor_count;
    uint32_t warp_size;
    uint32_t shared_bytes_block_max; /* dynamic, after function_shared_limit */
    uint32_t shared_bytes_multiprocessor;
    uint32_t threads_multiprocessor_max;
    uint32_t registers_multiprocessor;
    uint64_t memory_bytes;
    uint64_t l2_bytes;
    uint32_t driver_version;   /* 12040 for 12.4 */
    uint32_t compiler_version; /* 12040; 0: no compiler at hand */
    char pci_bus_id[16];       /* "0000:41:00.0", empty where unknown */
};

/* What a monitor reads; a field is NaN where the vendor does not say. */
struct gpu_telemetry {
    double utilisation; /* 0 … 1 */
    double temperature_c;
    double power_w;
    double power_limit_w;
    double clock_mhz;
    double memory_clock_mhz;
    uint64_t memory_used_bytes;
    bool lost; /* the vendor says that the device is no longer there */
};

/* What a device is connected to. */
#define GPU_LINKS_MAX 18u
struct gpu_link_peer {
    char pci_bus_id[16];
    bool is_switch;
    uint32_t link_count;
};
struct gpu_surroundings {
    char driver_name[40];                      /* "580.65.06", empty where unknown */
    uint32_t pcie_generation;                  /* of the link as it is now; 0: unknown */
    uint32_t pcie_lanes;                       /* likewise */
    uint32_t link_count;                       /* NVLinks that are up */
    double link_bytes_per_second;              /* of one of them and each direction; NaN: unknown */
    struct gpu_link_peer peers[GPU_LINKS_MAX]; /* at their ends, each once */
    uint32_t peer_count;
    bool errors_known;
    uint64_t uncorrected_errors; /* of memory, since the driver was loaded */
};

/* compile(): text in, loadable binary out. */
struct gpu_compile_request {
    const char *name;           /* for messages: "linear_decode.cu" */
    struct text_view source;    /* prelude and kernels, complete: nothing is included */
    const char *const *options; /* further compiler options, or NULL */
    uint32_t option_count;
    const char *arch; /* "sm_90a"; NULL: of the open device */
};

struct gpu_function_info {
    uint32_t registers;
    uint32_t local_bytes; /* stack and spills a thread */
    uint32_t shared_bytes;
    uint32_t threads_max;
};

struct gpu_launch {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes; /* dynamic */
    /* May start while its predecessor on the stream still runs, where the architecture can; the
     * kernel then waits by itself before it reads what the predecessor writes. */
    bool overlap;
};

/* Boxes of a matrix of 16-bit values that kernels copy into shared memory: 64 columns of up to 256
 * rows, row after row, 128 bytes each, whose pieces of 16 bytes change places by the row. Rows may
 * have up to three dimensions, the first the nearest; those that are not used are 1. What lies
 * outside is zero. */
struct gpu_tensor_shape {
    uint64_t address;        /* a multiple of 16 */
    enum dtype type;         /* F16 or BF16 */
    uint32_t columns;        /* a multiple of 8 */
    uint32_t rows[3];        /* of each dimension */
    uint64_t row_strides[3]; /* bytes, multiples of 16 */
    uint32_t box_rows[3];
    uint32_t dimensions; /* with the columns: 2 to 4 */
};

/* y[n, rows] = x[n, columns] · Wᵀ (+ y): the vendor's matrix product, for many rows. */
struct gpu_matmul_shape {
    enum dtype weight; /* F16 or BF16, row-major [rows, columns]; x has the same type */
    enum dtype output; /* F32, or the weight's type */
    uint32_t n, rows, columns;
    uint32_t output_stride; /* elements from one row of y to the next */
    bool accumulate;        /* y += */
};

/* A captured piece of work is replayed with the arguments that it was captured with. */
struct gpu_driver {
    void (*close)(struct gpu_driver *driver);
    /* Makes the driver's context the calling thread's; before a new thread's first use. */
    llcuda_status (*attach)(struct gpu_driver *, struct llcuda_error *);
    void (*describe)(const struct gpu_driver *, struct gpu_device_info *);
    llcuda_status (*telemetry)(struct gpu_driver *, struct gpu_telemetry *, struct llcuda_error *);
    /* As far as the vendor's monitor tells; NULL where it tells nothing. */
    void (*surroundings)(struct gpu_driver *, struct gpu_surroundings *);

    /* Memory. Alignment of what alloc returns: 256 bytes at least. free(0) is fine. */
    llcuda_status (*memory_info)(struct gpu_driver *, uint64_t *free_bytes, uint64_t *total_bytes,
                                 struct llcuda_error *);
    llcuda_status (*memory_alloc)(struct gpu_driver *, uint64_t bytes, uint64_t *address,
                                  struct llcuda_error *);
    void (*memory_free)(struct gpu_driver *, uint64_t address);
    /* Pinned host memory, reachable by the device's copies; NULL is fine to free. */
    llcuda_status (*host_alloc)(struct gpu_driver *, uint64_t bytes, void **memory,
                                struct llcuda_error *);
    void (*host_free)(struct gpu_driver *, void *memory);

    /* Copies and fills, in order on a stream. Host memory stays as it is until the stream is done.
     */
    llcuda_status (*copy_in)(struct gpu_driver *, struct gpu_stream *, uint64_t to,
                             const void *from, uint64_t bytes, struct llcuda_error *);
    llcuda_status (*copy_out)(struct gpu_driver *, struct gpu_stream *, void *to, uint64_t from,
                              uint64_t bytes, struct llcuda_error *);
    llcuda_status (*copy)(struct gpu_driver *, struct gpu_stream *, uint64_t to, uint64_t from,
                          uint64_t bytes, struct llcuda_error *);
    llcuda_status (*fill)(struct gpu_driver *, struct gpu_stream *, uint64_t to, uint8_t value,
                          uint64_t bytes, struct llcuda_error *);

    llcuda_status (*stream_create)(struct gpu_driver *, struct gpu_stream **,
                                   struct llcuda_error *);
    void (*stream_destroy)(struct gpu_driver *, struct gpu_stream *); /* NULL is fine */
    /* Waits until all work is done, TIMEOUT after `timeout_ms` (0: for ever). */
    llcuda_status (*stream_wait)(struct gpu_driver *, struct gpu_stream *, uint32_t timeout_ms,
                                 struct llcuda_error *);
    llcuda_status (*stream_wait_event)(struct gpu_driver *, struct gpu_stream *, struct gpu_event *,
                                       struct llcuda_error *);
    llcuda_status (*event_create)(struct gpu_driver *, bool timing, struct gpu_event **,
                                  struct llcuda_error *);
    void (*event_destroy)(struct gpu_driver *, struct gpu_event *); /* NULL is fine */
    llcuda_status (*event_record)(struct gpu_driver *, struct gpu_event *, struct gpu_stream *,
                                  struct llcuda_error *);
    /* Waits for an event; spins, since a step is short; TIMEOUT after `timeout_ms` (0: for ever).
     */
    llcuda_status (*event_wait)(struct gpu_driver *, struct gpu_event *, uint32_t timeout_ms,
                                struct llcuda_error *);
    /* Both made with timing and done. */
    llcuda_status (*event_elapsed)(struct gpu_driver *, struct gpu_event *from,
                                   struct gpu_event *to, double *milliseconds,
                                   struct llcuda_error *);

    /* Kernels. compile() alone may be called from several threads at a time, also while another
     * thread uses the driver. It appends the binary to `binary` and the compiler's words to `log`,
     * also when it fails (BAD_FORMAT then). UNSUPPORTED: no compiler on this machine. */
    llcuda_status (*compile)(struct gpu_driver *, const struct gpu_compile_request *,
                             struct buffer *binary, struct buffer *log, struct llcuda_error *);
    llcuda_status (*module_load)(struct gpu_driver *, const void *binary, uint64_t bytes,
                                 struct gpu_module **, struct llcuda_error *);
    void (*module_unload)(struct gpu_driver *, struct gpu_module *); /* NULL is fine */
    /* Lives as long as its module. NOT_FOUND when the module has no such kernel. */
    llcuda_status (*function_get)(struct gpu_driver *, struct gpu_module *, const char *name,
                                  struct gpu_function **, struct llcuda_error *);
    llcuda_status (*function_info)(struct gpu_driver *, struct gpu_function *,
                                   struct gpu_function_info *, struct llcuda_error *);
    /* Allows launches with up to `bytes` of dynamic shared memory. */
    llcuda_status (*function_shared_limit)(struct gpu_driver *, struct gpu_function *,
                                           uint32_t bytes, struct llcuda_error *);
    /* Blocks of this launch that one multiprocessor holds at a time. */
    llcuda_status (*function_occupancy)(struct gpu_driver *, struct gpu_function *,
                                        uint32_t threads, uint32_t shared_bytes, uint32_t *blocks,
                                        struct llcuda_error *);
    /* `arguments` are the kernel's one parameter struct, copied before the call returns. */
    llcuda_status (*launch)(struct gpu_driver *, struct gpu_stream *, struct gpu_function *,
                            const struct gpu_launch *, const void *arguments,
                            uint32_t argument_bytes, struct llcuda_error *);

    /* Makes what a kernel's word tensor_copy needs: 128 bytes, part of the arguments. NULL where
     * the vendor has no such copies. */
    llcuda_status (*tensor_map)(struct gpu_driver *, const struct gpu_tensor_shape *,
                                uint64_t map[16], struct llcuda_error *);

    /* Graphs: between begin and end the stream's work is recorded, not run. */
    llcuda_status (*capture_begin)(struct gpu_driver *, struct gpu_stream *, struct llcuda_error *);
    llcuda_status (*capture_end)(struct gpu_driver *, struct gpu_stream *, struct gpu_graph **,
                                 struct llcuda_error *);
    llcuda_status (*graph_launch)(struct gpu_driver *, struct gpu_stream *, struct gpu_graph *,
                                  struct llcuda_error *);
    void (*graph_destroy)(struct gpu_driver *, struct gpu_graph *); /* NULL is fine */

    /* The vendor's matrix products (cublasLt, hipBLASLt), or NULL: not there. `workspace` is device
     * memory of GPU_MATMUL_WORKSPACE_BYTES. Choosing an algorithm may take milliseconds: once a
     * shape. May be captured. */
    llcuda_status (*matmul_create)(struct gpu_driver *, const struct gpu_matmul_shape *,
                                   struct gpu_matmul **, struct llcuda_error *);
    void (*matmul_destroy)(struct gpu_driver *, struct gpu_matmul *); /* NULL is fine */
    llcuda_status (*matmul_run)(struct gpu_driver *, struct gpu_stream *, struct gpu_matmul *,
                                uint64_t y, uint64_t x, uint64_t weight, uint64_t workspace,
                                struct llcuda_error *);
};

#define GPU_MATMUL_WORKSPACE_BYTES (32u << 20)

/* How often each entry of the table was called, and failures on demand: the fillings count every
 * call that can fail through this. Kept by the emulated driver; tests read and write it. */
struct gpu_faults {
    uint64_t calls;         /* so far */
    uint64_t fail_at;       /* the n-th call fails with DEVICE; 0: none */
    uint64_t allocations;   /* memory_alloc and host_alloc so far */
    uint64_t fail_alloc_at; /* the n-th allocation fails with OUT_OF_MEMORY; 0: none */
    uint64_t launches;      /* kernels run one by one */
    uint64_t graph_launches;
    bool
        hang; /* waits with a time-out report TIMEOUT, as a device that stopped answering would … */
    bool hang_waits;           /* … after that time, not at once */
    uint64_t live_allocations; /* device and host memory that is not yet freed */
    uint64_t live_objects;     /* streams, events, modules, graphs */
};

/* emu: in which order blocks, and the threads that may run between two barriers, take their turns.
 * A kernel whose result depends on it lacks a barrier. */
enum gpu_emu_order { GPU_EMU_FORWARD, GPU_EMU_REVERSE, GPU_EMU_RANDOM };

struct gpu_open_options {
    uint32_t index;       /* which device */
    const char *compiler; /* path of the compiler library or program; NULL: found by name */
    /* Absolute folders ("/a:/b") in which libraries are looked for first, or NULL; emu: in which a
     * `c++` is looked for. */
    const char *library_path;
    const char *arch;  /* gpu_compiler_open_…: what to describe and compile for, or NULL */
    const char *cache; /* emu: folder for shared objects that must be loaded from a file */
    struct gpu_faults
        *faults; /* emu: counters and injected failures, or NULL; outlives the driver */
    enum gpu_emu_order emu_order;
    uint64_t emu_seed;         /* of GPU_EMU_RANDOM */
    uint64_t emu_memory_bytes; /* size of the emulated memory; 0: 8 GiB */
    bool emu_matmul;           /* fills in matmul_create …, which are NULL otherwise */
};

/* Opens a device. UNSUPPORTED when the vendor's driver is not on this machine, NOT_FOUND when it
 * has no device of this index; the sentence says what to do. */
llcuda_status gpu_driver_open_cuda(const struct gpu_open_options *, struct gpu_driver **,
                                   struct llcuda_error *);
llcuda_status gpu_driver_open_hip(const struct gpu_open_options *, struct gpu_driver **,
                                  struct llcuda_error *);
llcuda_status gpu_driver_open_emu(const struct gpu_open_options *, struct gpu_driver **,
                                  struct llcuda_error *);

/* Opens a device to be watched: close, describe and telemetry work, all else is not to be called.
 * It takes no context, and so no memory of the device; without the vendor's monitor telemetry is
 * UNSUPPORTED. The same errors. */
llcuda_status gpu_driver_watch_cuda(const struct gpu_open_options *, struct gpu_driver **,
                                    struct llcuda_error *);

/* Opens only the vendor's compiler, for packs and checks on machines without its GPU: close,
 * describe (compiler_version, and what gpu/arch.h knows of options.arch) and compile() work, all
 * else is NULL. Of the options arch, compiler and library_path count. UNSUPPORTED when there is no
 * compiler, INVALID_ARGUMENT for an unknown architecture. */
llcuda_status gpu_compiler_open_cuda(const struct gpu_open_options *, struct gpu_driver **,
                                     struct llcuda_error *);
llcuda_status gpu_compiler_open_hip(const struct gpu_open_options *, struct gpu_driver **,
                                    struct llcuda_error *);

/* Whether there is anything of NVIDIA's driver, be it of use or not. */
bool gpu_driver_present_cuda(const struct gpu_open_options *);

/* Devices of a vendor, 0 when its driver is not there. */
uint32_t gpu_driver_count_cuda(void);
uint32_t gpu_driver_count_hip(void);

/* The same with the reason when there is none: UNSUPPORTED without a driver that can be used,
 * NOT_FOUND when the driver sees no device. Of the options only library_path counts. */
llcuda_status gpu_driver_probe_cuda(const struct gpu_open_options *, uint32_t *count,
                                    struct llcuda_error *);
llcuda_status gpu_driver_probe_hip(const struct gpu_open_options *, uint32_t *count,
                                   struct llcuda_error *);

#endif
