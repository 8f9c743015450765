/* The roofline of a kernel profile (`llcuda bench --mode kernels --output DIR` writes
 * kernels.json): each operation's rate over the bytes that it reads, under what the machine allows.
 */
#ifndef BENCH_ROOFLINE_H
#define BENCH_ROOFLINE_H

#include "base/buffer.h"
#include "base/error.h"
#include "bench/canvas.h"

#define ROOFLINE_POINTS_MAX 96u

struct roofline_point {
    char test[24];      /* "pp512 depth 0" */
    char operation[48]; /* "feed-forward q8_0" */
    double intensity;   /* operations a byte */
    double rate;        /* operations a second */
    double time_share;  /* of its test */
    double ceiling_share;
    bool from_memory; /* the roof above it is that of memory */
};

/* A prompt or a generation as a whole; NaN: the profile does not say. */
struct roofline_test {
    char name[24];
    bool is_prompt;
    double memory_share;     /* bytes of all operations / time / ceiling */
    double arithmetic_share; /* shares of the ceilings, weighted by time */
    double occupancy;        /* from registers and shared memory, weighted by the kernels' time */
    double achieved_occupancy, tensor_share, sectors_per_request; /* of the GPU's counters */
    double launches, fused;    /* a step; operations of the plan that a launch does */
    double graph_us, plain_us; /* a step as one graph, and launch by launch */
    char memory[160];          /* "weights 24 MB, cache 8 MB" */
    char counters[200];        /* why there are no counters, or "" */
};
#define ROOFLINE_TESTS_MAX 16u

/* A kernel in one of the tests; NaN likewise. */
struct roofline_kernel {
    char test[24];
    char kernel[48];
    double launches, us, time_share; /* of all steps; of one launch; of the kernels of the test */
    double memory_share, arithmetic_share;
    double registers, shared_bytes, occupancy;
};
#define ROOFLINE_KERNELS_MAX 128u

struct roofline {
    double bytes_s, flop_s, integer_s;       /* ceilings; 0: not measured */
    double text_bytes, text_tokens, text_ns; /* what tokenising took; NaN: the profile has none */
    struct roofline_point points[ROOFLINE_POINTS_MAX];
    uint32_t count;
    struct roofline_test tests[ROOFLINE_TESTS_MAX];
    uint32_t test_count;
    struct roofline_kernel kernels[ROOFLINE_KERNELS_MAX];
    uint32_t kernel_count;
};

/* Reads kernels.json. Errors: BAD_FORMAT. */
llcuda_status roofline_read(struct text_view json, struct roofline *roofline,
                            struct llcuda_error *error);

/* Draws within the canvas' width and `height`. */
void roofline_draw(const struct roofline *roofline, struct canvas *canvas, double height);

/* The same as a whole SVG file. */
void roofline_svg(const struct roofline *roofline, struct buffer *out);

/* Tables of the operations by their time, for report.html. */
void roofline_html(const struct roofline *roofline, struct buffer *out);

#endif
