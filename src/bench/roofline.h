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
    /* Of a GPU's kernels; NaN: the profile does not say. */
    double launches, fused, registers, shared_bytes;
    double occupancy; /* from registers and shared memory */
    double achieved_occupancy, tensor_share, sectors_per_request; /* of the GPU's counters */
};

/* A prompt or a generation as a whole; NaN: the profile does not say. */
struct roofline_test {
    char name[24];
    bool is_prompt;
    double memory_share;     /* bytes of all operations / time / ceiling */
    double arithmetic_share; /* shares of the ceilings, weighted by time */
    double occupancy, achieved_occupancy, tensor_share; /* of kernels, weighted by time */
    double launches_per_step, graph_ns, plain_ns; /* a step as one graph, and launch by launch */
};
#define ROOFLINE_TESTS_MAX 16u

struct roofline {
    double bytes_s, flop_s, integer_s; /* ceilings; 0: not measured */
    struct roofline_point points[ROOFLINE_POINTS_MAX];
    uint32_t count;
    struct roofline_test tests[ROOFLINE_TESTS_MAX];
    uint32_t test_count;
    char device[96];                             /* "" when the profile does not say */
    char counters[240];                          /* what it says about the GPU's counters */
    double pool_reserved_bytes, pool_peak_bytes; /* of the memory pool; NaN */
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
