/* Fills a canvas with SVG text. Text stays text: it can be read, searched and tested. */
#include "bench/canvas.h"

#include <math.h>

#include "base/json.h"
#include "base/utf8.h"

void canvas_escape(struct buffer *out, const char *text)
{
    for (const char *c = text ? text : ""; *c; c++) {
        switch (*c) {
        case '&':
            buffer_append_text(out, "&amp;");
            break;
        case '<':
            buffer_append_text(out, "&lt;");
            break;
        case '>':
            buffer_append_text(out, "&gt;");
            break;
        case '"':
            buffer_append_text(out, "&quot;");
            break;
        case '\'':
            buffer_append_text(out, "&#39;");
            break;
        default:
            buffer_append_byte(out, (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c);
        }
    }
}

static void attribute(struct buffer *out, const char *name, const char *value)
{
    if (value) {
        buffer_printf(out, " data-%s=\"", name);
        canvas_escape(out, value);
        buffer_append_byte(out, '"');
    }
}

static void write_mark(struct buffer *out, const struct canvas_mark *mark)
{
    if (!mark) {
        buffer_append_text(out, "/>\n");
        return;
    }
    attribute(out, "engine", mark->engine);
    attribute(out, "workload", mark->workload);
    attribute(out, "point", mark->point);
    attribute(out, "metric", mark->metric);
    if (mark->run) {
        buffer_printf(out, " data-run=\"%d\"", mark->run);
    }
    buffer_append_text(out, " data-value=\"");
    json_format_number(out, isfinite(mark->value) ? mark->value : 0, false);
    buffer_append_text(out, "\"><title>");
    canvas_escape(out, mark->engine);
    buffer_append_text(out, mark->point ? ", " : "");
    canvas_escape(out, mark->point);
    buffer_printf(out, ": %.4g</title></", mark->value);
}

static void svg_line(struct canvas *canvas, double x1, double y1, double x2, double y2,
                     canvas_colour colour, double width)
{
    buffer_printf(canvas->user,
                  "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#%06x\" "
                  "stroke-width=\"%.1f\"/>\n",
                  x1, y1, x2, y2, colour, width);
}

static void svg_rectangle(struct canvas *canvas, double x, double y, double width, double height,
                          canvas_colour colour, const struct canvas_mark *mark)
{
    buffer_printf(canvas->user,
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#%06x\"", x, y,
                  width, height, colour);
    write_mark(canvas->user, mark);
    if (mark) {
        buffer_append_text(canvas->user, "rect>\n");
    }
}

static void svg_point(struct canvas *canvas, double x, double y, double radius,
                      canvas_colour colour, const struct canvas_mark *mark)
{
    buffer_printf(canvas->user,
                  "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"#%06x\" stroke=\"#ffffff\" "
                  "stroke-width=\"0.6\"",
                  x, y, radius, colour);
    write_mark(canvas->user, mark);
    if (mark) {
        buffer_append_text(canvas->user, "circle>\n");
    }
}

static void svg_polyline(struct canvas *canvas, const double *xy, uint32_t count,
                         canvas_colour colour)
{
    buffer_printf(canvas->user,
                  "<polyline fill=\"none\" stroke=\"#%06x\" stroke-width=\"1.6\" points=\"",
                  colour);
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(canvas->user, "%s%.1f,%.1f", i ? " " : "", xy[2 * i], xy[2 * i + 1]);
    }
    buffer_append_text(canvas->user, "\"/>\n");
}

static void svg_text(struct canvas *canvas, double x, double y, const char *text, double size,
                     enum canvas_anchor anchor, canvas_colour colour)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    buffer_printf(canvas->user,
                  "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.1f\" text-anchor=\"%s\" "
                  "fill=\"#%06x\">",
                  x, y, size, anchors[anchor], colour);
    canvas_escape(canvas->user, text);
    buffer_append_text(canvas->user, "</text>\n");
}

static const struct canvas_ops svg_ops = {svg_line, svg_rectangle, svg_point, svg_polyline,
                                          svg_text};

void canvas_svg_begin(struct canvas *canvas, struct buffer *out, double width, double height,
                      const char *title)
{
    *canvas = (struct canvas){&svg_ops, out, width, height};
    buffer_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                  "width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" role=\"img\">\n"
                  "<title>",
                  width, height, width, height);
    canvas_escape(out, title);
    buffer_append_text(out, "</title>\n");
    svg_rectangle(canvas, 0, 0, width, height, 0xffffff, NULL);
}

void canvas_svg_end(struct canvas *canvas)
{
    buffer_append_text(canvas->user, "</svg>\n");
}
