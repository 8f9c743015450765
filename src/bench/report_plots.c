/* Owns plots/ and report.pdf. The PDF needs cairo; without it the SVG files remain. */
#include "bench/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "bench/chart.h"
#include "build_config.h"

llcuda_status report_plots(const struct analysis *analysis, struct llcuda_error *error)
{
    static struct chart charts[CHART_MAX];
    struct buffer svg = {0};
    uint32_t count = chart_list(analysis, charts);
    char *folder = file_path_join(analysis->folder, "plots");
    llcuda_status status = folder ? LLCUDA_OK : error_no_memory(error, "a path", 1);
    if (!status && mkdir(folder, 0755) && errno != EEXIST) {
        status = error_from_errno(error, errno, "make the folder", folder);
    }
    for (uint32_t i = 0; i < count && !status; i++) {
        struct canvas canvas;
        char name[128];
        snprintf(name, sizeof name, "%s.svg", charts[i].name);
        char *path = file_path_join(folder, name);
        buffer_clear(&svg);
        buffer_append_text(&svg, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        canvas_svg_begin(&canvas, &svg, CHART_WIDTH, charts[i].height, charts[i].title);
        chart_draw(analysis, &charts[i], &canvas);
        canvas_svg_end(&canvas);
        status = path && !svg.failed ? file_write_atomic(path, svg.data, svg.length, error)
                                     : error_no_memory(error, "a plot", svg.length);
        free(path);
    }
    buffer_deinit(&svg);
    free(folder);
    return status;
}

#if LLCUDA_HAVE_CAIRO

#include <cairo-pdf.h>
#include <cairo.h>

#define PAGE_WIDTH  595.0 /* A4 */
#define PAGE_HEIGHT 842.0
#define MARGIN      40.0

static void set_colour(cairo_t *cairo, canvas_colour colour)
{
    cairo_set_source_rgb(cairo, (colour >> 16 & 255) / 255.0, (colour >> 8 & 255) / 255.0,
                         (colour & 255) / 255.0);
}

static void pdf_line(struct canvas *canvas, double x1, double y1, double x2, double y2,
                     canvas_colour colour, double width)
{
    cairo_t *cairo = canvas->user;
    set_colour(cairo, colour);
    cairo_set_line_width(cairo, width);
    cairo_move_to(cairo, x1, y1);
    cairo_line_to(cairo, x2, y2);
    cairo_stroke(cairo);
}

static void pdf_rectangle(struct canvas *canvas, double x, double y, double width, double height,
                          canvas_colour colour, const struct canvas_mark *mark)
{
    cairo_t *cairo = canvas->user;
    (void)mark;
    set_colour(cairo, colour);
    cairo_rectangle(cairo, x, y, width, height);
    cairo_fill(cairo);
}

static void pdf_point(struct canvas *canvas, double x, double y, double radius,
                      canvas_colour colour, const struct canvas_mark *mark)
{
    cairo_t *cairo = canvas->user;
    (void)mark;
    set_colour(cairo, colour);
    cairo_arc(cairo, x, y, radius, 0, 6.283185307179586);
    cairo_fill(cairo);
}

static void pdf_polyline(struct canvas *canvas, const double *xy, uint32_t count,
                         canvas_colour colour)
{
    cairo_t *cairo = canvas->user;
    set_colour(cairo, colour);
    cairo_set_line_width(cairo, 1.6);
    for (uint32_t i = 0; i < count; i++) {
        cairo_line_to(cairo, xy[2 * i], xy[2 * i + 1]);
    }
    cairo_stroke(cairo);
}

static void pdf_text(struct canvas *canvas, double x, double y, const char *text, double size,
                     enum canvas_anchor anchor, canvas_colour colour)
{
    cairo_t *cairo = canvas->user;
    cairo_text_extents_t extents;
    cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo, size);
    cairo_text_extents(cairo, text, &extents);
    set_colour(cairo, colour);
    cairo_move_to(cairo, x - extents.x_advance * (int)anchor / 2, y);
    cairo_show_text(cairo, text);
}

static const struct canvas_ops pdf_ops = {pdf_line, pdf_rectangle, pdf_point, pdf_polyline,
                                          pdf_text};

struct page {
    struct canvas canvas;
    double y;
    int number; /* from 1 */
};

static void need(struct page *page, double height)
{
    if (page->y + height > PAGE_HEIGHT - MARGIN) {
        cairo_show_page(page->canvas.user);
        page->y = MARGIN;
        page->number++;
    }
}

/* A paragraph, broken at spaces to the width of the page. */
static void paragraph(struct page *page, const char *text, double size)
{
    size_t columns = (size_t)((PAGE_WIDTH - 2 * MARGIN) / (size * 0.52));
    while (*text) {
        char line[256];
        size_t length = strlen(text);
        if (length > columns) {
            length = columns;
            while (length > columns / 2 && text[length] != ' ') {
                length--;
            }
            while (length > 1 && ((unsigned char)text[length] & 0xC0) == 0x80) {
                length--; /* never inside a character */
            }
        }
        snprintf(line, sizeof line, "%.*s", (int)length, text);
        need(page, size * 1.4);
        pdf_text(&page->canvas, MARGIN, page->y + size, line, size, CANVAS_LEFT, 0x222222);
        page->y += size * 1.4;
        text += length;
        while (*text == ' ') {
            text++;
        }
    }
}

static void write_words(const struct analysis *analysis, struct page *page)
{
    static struct advice advice[ADVICE_MAX];
    const struct config *config = analysis->config;
    char line[600];
    paragraph(page, config->name, 18);
    snprintf(line, sizeof line,
             "%u engines, %u runs each, %.0f %% intervals. Charts and figures "
             "come from raw_data; report.html and summary.json hold every number.",
             config->engine_count, config->repeats, config->analysis.confidence * 100);
    paragraph(page, line, 10);
    for (uint32_t rank = 1; rank <= config->engine_count; rank++) {
        for (uint32_t e = 0; e < config->engine_count; e++) {
            const struct engine_result *engine = &analysis->engines[e];
            if (engine->rank == rank) {
                snprintf(line, sizeof line, "%u. %s: %.2f times the baseline's speed", rank,
                         config->engines[e].name, engine->rank_score);
                paragraph(page, line, 10);
            }
        }
    }
    for (uint32_t e = 0; e < config->engine_count; e++) {
        if (analysis->engines[e].failed) {
            snprintf(line, sizeof line, "%s failed: %s", config->engines[e].name,
                     analysis->engines[e].reason);
            paragraph(page, line, 10);
        }
    }
    uint32_t count = report_advise(analysis, advice);
    page->y += 8;
    for (uint32_t i = 0; i < count; i++) {
        paragraph(page, advice[i].text, 10);
        snprintf(line, sizeof line, "    Evidence: %s", advice[i].evidence);
        paragraph(page, line, 8);
    }
}

llcuda_status report_pdf(const struct analysis *analysis, const char *path,
                         struct llcuda_error *error)
{
    static struct chart charts[CHART_MAX];
    uint32_t count = chart_list(analysis, charts);
    double scale = (PAGE_WIDTH - 2 * MARGIN) / CHART_WIDTH;
    cairo_surface_t *surface = cairo_pdf_surface_create(path, PAGE_WIDTH, PAGE_HEIGHT);
    cairo_t *cairo = cairo_create(surface);
    struct page page = {{&pdf_ops, cairo, PAGE_WIDTH, PAGE_HEIGHT}, MARGIN, 1};
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_TITLE, analysis->config->name);
    write_words(analysis, &page);
    for (uint32_t i = 0; i < count; i++) {
        char place[64];
        need(&page, charts[i].height * scale + 12);
        snprintf(place, sizeof place, "page=%d pos=[%.0f %.0f]", page.number, MARGIN, page.y);
        cairo_pdf_surface_add_outline(surface, CAIRO_PDF_OUTLINE_ROOT, charts[i].title, place,
                                      (cairo_pdf_outline_flags_t)0);
        cairo_save(cairo);
        cairo_translate(cairo, MARGIN, page.y);
        cairo_scale(cairo, scale, scale);
        struct canvas canvas = {&pdf_ops, cairo, CHART_WIDTH, charts[i].height};
        chart_draw(analysis, &charts[i], &canvas);
        cairo_restore(cairo);
        page.y += charts[i].height * scale + 12;
    }
    cairo_destroy(cairo);
    cairo_surface_finish(surface);
    cairo_status_t result = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    return result == CAIRO_STATUS_SUCCESS ? LLCUDA_OK
                                          : error_set(error, LLCUDA_IO, "cannot write '%s': %s",
                                                      path, cairo_status_to_string(result));
}

#else

llcuda_status report_pdf(const struct analysis *analysis, const char *path,
                         struct llcuda_error *error)
{
    (void)analysis;
    return error_set(error, LLCUDA_UNSUPPORTED, "'%s' was not written: this build has no cairo",
                     path);
}

#endif

static llcuda_status write_text(const struct analysis *analysis, const char *name,
                                const struct buffer *text, struct llcuda_error *error)
{
    char *path = file_path_join(analysis->folder, name);
    llcuda_status status = path && !text->failed
                               ? file_write_atomic(path, text->data, text->length, error)
                               : error_no_memory(error, name, text->length);
    free(path);
    return status;
}

llcuda_status report_write(const struct analysis *analysis, struct llcuda_error *error)
{
    struct buffer html = {0};
    struct buffer summary = {0};
    llcuda_status status = LLCUDA_OK;
    if (analysis->config->analysis.plots) {
        char *path = file_path_join(analysis->folder, "report.pdf");
        status = report_plots(analysis, error);
        if (!status && path && LLCUDA_HAVE_CAIRO) {
            status = report_pdf(analysis, path, error);
        }
        free(path);
    }
    if (!status) {
        status = report_html(analysis, &html, error);
    }
    if (!status) {
        status = write_text(analysis, "report.html", &html, error);
    }
    if (!status) {
        /* Last: a folder with a summary is a finished run. */
        report_summary(analysis, &summary);
        status = write_text(analysis, "summary.json", &summary, error);
    }
    buffer_deinit(&html);
    buffer_deinit(&summary);
    return status;
}
