/* A drawing surface for charts, filled by SVG text or by cairo: the same chart goes to the HTML
 * report, to plots/ and to the PDF. Coordinates are points from the upper left. */
#ifndef BENCH_CANVAS_H
#define BENCH_CANVAS_H

#include "base/buffer.h"

/* 0xRRGGBB */
typedef uint32_t canvas_colour;

/* What a drawn point stands for: in SVG kept as data- attributes, so that a chart can be checked
 * against the data that it was drawn from. Texts may be NULL. */
struct canvas_mark {
    const char *engine, *workload, *point, *metric;
    int run;      /* from 1; 0: of all runs */
    double value; /* as plotted, in the metric's unit */
};

enum canvas_anchor { CANVAS_LEFT, CANVAS_MIDDLE, CANVAS_RIGHT };

struct canvas {
    const struct canvas_ops *ops;
    void *user;
    double width, height; /* of the chart that is being drawn */
};

struct canvas_ops {
    void (*line)(struct canvas *canvas, double x1, double y1, double x2, double y2,
                 canvas_colour colour, double width);
    void (*rectangle)(struct canvas *canvas, double x, double y, double width, double height,
                      canvas_colour colour, const struct canvas_mark *mark);
    void (*point)(struct canvas *canvas, double x, double y, double radius, canvas_colour colour,
                  const struct canvas_mark *mark);
    void (*polyline)(struct canvas *canvas, const double *xy, uint32_t count, canvas_colour colour);
    void (*text)(struct canvas *canvas, double x, double y, const char *text, double size,
                 enum canvas_anchor anchor, canvas_colour colour);
};

/* Draws into `out` as one <svg> element; canvas_svg_end closes it. */
void canvas_svg_begin(struct canvas *canvas, struct buffer *out, double width, double height,
                      const char *title);
void canvas_svg_end(struct canvas *canvas);

/* Appends text with & < > " ' replaced, for HTML and SVG alike; control characters become spaces.
 */
void canvas_escape(struct buffer *out, const char *text);

#endif
