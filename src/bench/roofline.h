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

struct roofline {
    double bytes_s, flop_s, integer_s; /* ceilings; 0: not measured */
    struct roofline_point points[ROOFLINE_POINTS_MAX];
    uint32_t count;
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
