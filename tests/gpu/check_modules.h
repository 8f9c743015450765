/* The kernel modules that `make check-kernels` compiles, with preludes that stand for the models in
 * use. X(name, prelude, files after the vendor's words…) */
#ifndef CHECK_MODULES_H
#define CHECK_MODULES_H

#define POINTERS "#define KERNEL_POINTER(type) type *\n"

/* What gpu_attention_prelude gives for 32 query heads on 8: test_attention.c compares them. */
#define ATTENTION_64                       \
    "#define HEADS 32\n"                   \
    "#define KV_HEADS 8\n"                 \
    "#define HEAD_SIZE 64\n"               \
    "#define KV_TYPE 2\n"                  \
    "#define ACT_TYPE 2\n"                 \
    "#define DECODE_WARPS 8\n"             \
    "#define DECODE_GROUPS_MAX 32\n"       \
    "#define DECODE_SHARED_BYTES 11128\n"  \
    "#define PREFILL_ROW_TILES 2\n"        \
    "#define PREFILL_POSITIONS 64\n"       \
    "#define PREFILL_SHARED_BYTES 55296\n" \
    "#define PREFILL_BLOCKS 2\n"
#define ATTENTION_128                       \
    "#define HEADS 32\n"                    \
    "#define KV_HEADS 8\n"                  \
    "#define HEAD_SIZE 128\n"               \
    "#define KV_TYPE 1\n"                   \
    "#define ACT_TYPE 2\n"                  \
    "#define DECODE_WARPS 8\n"              \
    "#define DECODE_GROUPS_MAX 32\n"        \
    "#define DECODE_SHARED_BYTES 20856\n"   \
    "#define PREFILL_ROW_TILES 2\n"         \
    "#define PREFILL_POSITIONS 64\n"        \
    "#define PREFILL_SHARED_BYTES 104448\n" \
    "#define PREFILL_BLOCKS 2\n"

#define ATTENTION_FILES                                                                         \
    "arguments_attention.h", "attention_common.cuh", "attention_qkv.cu", "attention_decode.cu", \
        "attention_prefill.cu", "attention_copy.cu"

#define CHECK_MODULES(X)                                        \
    X("measure", POINTERS, "arguments_measure.h", "measure.cu") \
    X("attention 64 bf16", ATTENTION_64, ATTENTION_FILES)       \
    X("attention 128 f16", ATTENTION_128, ATTENTION_FILES)

#endif
