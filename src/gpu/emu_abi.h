/* What a compiled kernel module and the emulated driver agree on. The text of this file is also
 * joined to every module that is compiled for the emulator, so it is plain C and C++ at once and
 * includes nothing there (the JIT drops `#include` lines). */
#ifndef GPU_EMU_ABI_H
#define GPU_EMU_ABI_H

#ifndef __cplusplus
#include <stdint.h>
#else /* kernel text */
typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __INT16_TYPE__ int16_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __SIZE_TYPE__ size_t;
#endif

enum { EMU_ABI_VERSION = 3 };
#define EMU_WARP_SIZE  32u
#define EMU_SLOT_WORDS 16u /* what a lane can hand to its warp at a time */
#define EMU_COPIES_MAX 64u /* background copies of one thread that are not yet waited for */

struct emu_index {
    uint32_t x, y, z;
};

/* Two mailboxes, used in turn: a lane that has left one rendezvous can be at most at the next one,
 * where it waits until the slowest lane has read the first mailbox. */
struct emu_mailbox {
    uint32_t words[EMU_WARP_SIZE][EMU_SLOT_WORDS];
    float tile[16 * 8];  /* result of a matrix product, row-major; of bytes: of int32_t */
    uint32_t tile_ready; /* made for the first lane that runs on */
};

struct emu_warp {
    struct emu_mailbox mailboxes[2];
    uint32_t lane_count; /* 32, fewer in a last warp that is not full */
};

struct emu_block {
    struct emu_index block_index, block_size, grid_size;
    void *shared_dynamic;
    uint32_t shared_bytes;
};

/* What the driver's tensor_map makes of a shape, in the 128 bytes that all vendors' maps have. */
struct emu_tensor_map {
    uint64_t address;
    uint64_t stride[3]; /* bytes, of all dimensions but the first */
    uint32_t size[4];   /* elements of 2 bytes, and rows */
    uint32_t box[4];
    uint32_t magic;
};
#define EMU_TENSOR_MAP_MAGIC 0x54454e53u

struct emu_copy { /* of 16 bytes */
    void *to;
    const void *from; /* null: zeros */
    uint32_t group;   /* committed in this group */
};

/* One thread of the block as its code sees it. */
struct emu_thread {
    struct emu_index index;
    uint32_t lane;
    uint32_t turn; /* which mailbox is next: 0 or 1 */
    struct emu_warp *warp;
    const struct emu_block *block;
    struct emu_copy *copies; /* [EMU_COPIES_MAX], a ring */
    uint32_t copy_first;     /* the oldest, modulo EMU_COPIES_MAX */
    uint32_t copy_count;
    uint32_t copy_group; /* groups committed so far */
};

/* What is made of the words that all 32 lanes have put into a mailbox. Matrix products take A in
 * words 0 … 3, B in 4 and 5, D in 6 … 9, and leave a tile; sums and maxima take word 0 and leave
 * tile[0]. */
enum emu_combine { EMU_MMA_F16, EMU_MMA_BF16, EMU_MMA_BYTES, EMU_WARP_SUM, EMU_WARP_MAX };

/* Where a thread stands when it waits: the same place for all threads that meet. */
struct emu_site {
    const char *word; /* "__syncthreads" */
    const char *file;
    int line;
};

/* The driver's half, called by kernels. */
struct emu_runtime {
    /* Returns when every thread of the block has arrived; of the warp. */
    void (*block_wait)(struct emu_thread *, const struct emu_site *);
    void (*warp_wait)(struct emu_thread *, const struct emu_site *);
    /* Waits until another thread of the block wakes those who wait for `key`. */
    void (*key_wait)(struct emu_thread *, const struct emu_site *, const void *key);
    void (*key_wake)(struct emu_thread *, const void *key);
    void (*combine)(struct emu_mailbox *, enum emu_combine);
    /* Reports a broken rule and ends the block: does not return. */
    void (*fail)(struct emu_thread *, const struct emu_site *, const char *what);
};

struct emu_kernel {
    const char *name;
    void (*call)(const void *arguments); /* one thread; copies the arguments */
    uint32_t argument_bytes;
    uint32_t threads_max; /* of KERNEL_BOUNDS; 0: not given */
};

/* The module's half: exported as `emu_module`. */
struct emu_module {
    uint32_t abi_version;
    uint32_t kernel_count;
    const struct emu_kernel *kernels;
    struct emu_thread **self;           /* the driver sets the running thread here */
    const struct emu_runtime **runtime; /* and its half here, once */
    char *(*shared_anchor)(void); /* a byte among the static shared memory of the calling thread */
};

#endif
