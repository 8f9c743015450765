/* The compiled kernels of a model. */
#ifndef GPU_PROGRAM_H
#define GPU_PROGRAM_H

#include "gpu/attention.h"
#include "gpu/driver.h"

struct gpu_model;

enum gpu_kernel {
    GPU_KERNEL_NORM_ROWS,
    GPU_KERNEL_NORM_FLOATS,
    GPU_KERNEL_PROJECT_FINISH,
    GPU_KERNEL_ACTIVATE,
    GPU_KERNEL_LOGITS_FINISH,
    GPU_KERNEL_GATHER_ROWS,
    GPU_KERNEL_CHOOSE,
    GPU_KERNEL_SAMPLE_EDIT,
    GPU_KERNEL_SAMPLE_SCAN,
    GPU_KERNEL_SAMPLE_DRAW,
    GPU_KERNEL_SAMPLE_LOGPROBS,
    GPU_KERNEL_EMBED,                                              /* + type of the embedding */
    GPU_KERNEL_LINEAR_PLAIN = GPU_KERNEL_EMBED + DTYPE_COUNT,      /* + type of the weight */
    GPU_KERNEL_DEQUANTIZE = GPU_KERNEL_LINEAR_PLAIN + DTYPE_COUNT, /* likewise */
    GPU_KERNEL_PACKED_EMBED = GPU_KERNEL_DEQUANTIZE + DTYPE_COUNT, /* of packed weights */
    GPU_KERNEL_PACKED_DEQUANTIZE = GPU_KERNEL_PACKED_EMBED + DTYPE_COUNT,
    GPU_KERNEL_REPACK = GPU_KERNEL_PACKED_DEQUANTIZE + DTYPE_COUNT,
    GPU_KERNEL_COUNT = GPU_KERNEL_REPACK + DTYPE_COUNT
};

#define GPU_PROGRAM_MODULES_MAX 12u

/* A kernel of linear_decode.cu, linear_stream.cu, linear_packed.cu or linear_packed_row.cu: its
 * template's parameters. */
enum gpu_decode_from { GPU_DECODE_FROM_ACTIVATIONS, GPU_DECODE_FROM_NORM };
enum gpu_decode_to { GPU_DECODE_STORE, GPU_DECODE_ADD, GPU_DECODE_PAIR };
struct gpu_decode_key {
    uint32_t dtype; /* enum dtype: of the weights; a quantised one is packed */
    uint32_t columns;
    uint32_t token_tiles; /* of eight rows: 1, 2, 4; of packed weights also 0: one row */
    uint32_t from, to;
    uint32_t activation; /* ACTIVATION_*, of pairs */
    uint32_t grouped;    /* of experts */
};
struct gpu_decode_kernel {
    struct gpu_decode_key key;
    struct gpu_function *function;
    uint32_t shared_bytes;
    bool stages;      /* activations lie in shared memory */
    uint32_t segment; /* of linear_stream.cu; 0: another */
    uint32_t ring;    /* of that, or of linear_packed_row.cu */
};
#define GPU_DECODE_KERNELS_MAX 96u
#define GPU_DECODE_THREADS     512u

/* The kernels of linear_wide.cu and linear_blocks.cu: tiles of weight rows by rows of x, from the
 * largest on, each once for plain layers and once for gate and up together. Those from
 * GPU_WIDE_TILE_COUNT on are of linear_quads.cu, for 16-bit weights on devices that can. */
enum { GPU_WIDE_TILE_COUNT = 3, GPU_WIDE_ALL_TILE_COUNT = 8 };
struct gpu_wide_tile {
    uint32_t warps_rows, warps_tokens, row_tiles, token_tiles; /* template parameters */
};
extern const struct gpu_wide_tile gpu_wide_tiles[GPU_WIDE_ALL_TILE_COUNT];

struct texts;
struct gpu_jit_batch;

struct gpu_program {
    struct gpu_jit_batch *batch;        /* while compiling */
    struct gpu_jit_batch *repack_batch; /* likewise: wanted first */
    struct gpu_module *repack;
    uint32_t wide_module; /* number of the module of the wide kernels, when has_wide */
    struct texts *texts;  /* while compiling */
    struct gpu_module *modules[GPU_PROGRAM_MODULES_MAX];
    uint32_t module_count;
    struct gpu_function *functions[GPU_KERNEL_COUNT]; /* NULL: this model does not need it */
    struct gpu_attention_kernels attention;
    struct gpu_decode_kernel decode[GPU_DECODE_KERNELS_MAX];
    uint32_t decode_count;
    /* [type of the weight][is a pair]; NULL: not for this model or device. */
    struct gpu_function *wide[DTYPE_COUNT][2][GPU_WIDE_ALL_TILE_COUNT];
    bool has_wide;
    /* Of experts: likewise, and what lies between their products. */
    struct gpu_function *group[DTYPE_COUNT][2][GPU_WIDE_TILE_COUNT];
    struct gpu_function *group_plain[DTYPE_COUNT];
    struct gpu_function *route, *experts_activate, *experts_combine;
    bool has_experts;
    uint32_t experts_module; /* number of their module */
};

/* Starts compiling, or finding in the cache, what the model's plan needs, on threads of its own;
 * types of weights are decided. */
llcuda_status gpu_program_start(struct gpu_model *model, struct llcuda_error *error);
/* Waits for the kernels that pack weights, and loads them. */
llcuda_status gpu_program_finish_repack(struct gpu_model *model, struct llcuda_error *error);
/* Waits for all others and loads. */
llcuda_status gpu_program_finish(struct gpu_model *model, struct llcuda_error *error);
/* Compiles it all into one file, for machines that cannot compile. */
llcuda_status gpu_program_pack(struct gpu_model *model, const char *path,
                               struct llcuda_error *error);
/* The kernel files of the modules, NULL at the end, and the prelude of the decode kernels that a
 * program wants: also for checks that have no model. */
extern const char *const gpu_element_files[];
extern const char *const gpu_decode_files[];
/* The decode kernels of number `part` of `parts` modules. */
void gpu_program_decode_prelude(const struct gpu_program *program, uint32_t part, uint32_t parts,
                                struct buffer *prelude);
extern const char *const gpu_repack_files[];
extern const char *const gpu_experts_files[];
/* "#define MACRO(X) X(q4_k) …": the types that can be packed, those of `wanted` or all. */
void gpu_program_packed_prelude(const char *macro, const bool *wanted, struct buffer *prelude);
/* Fills in which kernel does what kernel->key says on a device, and its dynamic shared memory;
 * false when that is more than a block may have. */
bool gpu_decode_choose(const struct gpu_device_info *device, struct gpu_decode_kernel *kernel);
/* Whether a kernel for few rows, of weights of `dtype`, norms `rows` rows of x itself. */
bool gpu_decode_norms(enum dtype dtype, uint64_t columns, uint64_t rows);
/* Shared memory of linear_decode.cu for normed rows. */
uint32_t gpu_decode_normed_bytes(const struct gpu_decode_key *key);
/* As gpu_decode_choose; also false when a kernel of half the width serves better. */
bool gpu_decode_serves(const struct gpu_device_info *device, struct gpu_decode_kernel *kernel);
extern const char *const gpu_wide_files[];
/* wide.c: what its kernels are compiled with for a device and weights of the types that `wanted`
 * says, of which `act` is not quantised; false when there is nothing for it. */
bool gpu_wide_prelude(const struct gpu_device_info *device, enum dtype act,
                      const bool wanted[DTYPE_COUNT], struct buffer *prelude);
/* The same of experts, after the first: LINEAR_WIDE_GROUPS and LINEAR_BLOCK_GROUPS. */
void gpu_wide_group_prelude(const struct gpu_device_info *device, enum dtype act,
                            const bool wanted[DTYPE_COUNT], struct buffer *prelude);
/* How the kernel of tile `tile` for weights of `dtype` is launched for parts of these rows (of a
 * pair gate, up) and `n` rows of x, by one block a tile, and its name; false when it does not fit
 * the device. */
bool gpu_wide_launch(const struct gpu_device_info *device, enum dtype dtype, uint32_t tile,
                     bool is_pair, const uint32_t *rows, uint32_t part_count, uint32_t n,
                     struct gpu_launch *launch);
/* Blocks of linear_quads.cu can share a tile: launch.grid[2] of them, when the tiles have room for
 * the sums of their ranges in GPU_WIDE_PARTIAL_BYTES: first GPU_WIDE_COUNTERS counters, which are
 * zero before and after. */
#define GPU_WIDE_SPLITS_MAX    16u
#define GPU_WIDE_COUNTERS      1024u
#define GPU_WIDE_PARTIAL_BYTES (32u << 20)
bool gpu_wide_can_split(uint32_t tile, const struct gpu_launch *launch);
struct linear_wide_arguments;
/* A launch of linear_quads.cu, which copies by maps that are made here. */
bool gpu_wide_is_quad(uint32_t tile);
struct gpu_wide_quad {
    uint32_t tile;
    enum dtype act;
    bool is_pair;
    uint32_t n; /* rows of x that there are in memory */
    uint32_t multiprocessors;
    uint64_t partials;        /* GPU_WIDE_PARTIAL_BYTES, or 0 when no tile is shared */
    struct gpu_launch launch; /* grid: tiles of x, of W, and blocks that share one */
};
llcuda_status gpu_wide_quad_run(struct gpu_driver *driver, struct gpu_stream *stream,
                                struct gpu_function *function, const struct gpu_wide_quad *quad,
                                const struct linear_wide_arguments *linear,
                                struct llcuda_error *error);
void gpu_wide_name(enum dtype dtype, bool is_pair, uint32_t tile, char name[40]);
void gpu_wide_group_name(enum dtype dtype, bool is_pair, uint32_t tile, char name[40]);
/* Rows of x of a tile. */
uint32_t gpu_wide_tokens(uint32_t tile);
/* At any time. */
void gpu_program_release(struct gpu_model *model);

/* The kernel of this key, or NULL. */
const struct gpu_decode_kernel *gpu_decode_find(const struct gpu_program *program,
                                                const struct gpu_decode_key *key);

/* A name for people: of a kernel for few rows its type, rows, columns, and what it fuses. */
void gpu_program_name(const struct gpu_program *program, const struct gpu_function *function,
                      char *name, size_t bytes);

/* Threads of a block of this kernel. */
uint32_t gpu_kernel_threads(enum gpu_kernel kernel);

#endif
