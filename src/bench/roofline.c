/* Owns the reading and drawing of kernel profiles. The file lies in a report's folder, where
 * anybody may have put it: counts are bounded, texts are escaped by the canvas. */
#include "bench/roofline.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "bench/chart.h"

#define LEFT   64.0
#define RIGHT  16.0
#define TOP    34.0
#define BOTTOM 44.0
#define INK    0x222222u
#define FAINT  0xdddddcu
#define GREY   0x666666u

static double number_of(const struct json_value *object, const char *key)
{
    double value = 0;
    return json_number(json_member(object, key), &value) && isfinite(value) ? value : 0;
}

/* NaN when it is not there. */
static double said(const struct json_value *object, const char *key)
{
    double value = NAN;
    return json_number(json_member(object, key), &value) && isfinite(value) ? value : NAN;
}

static void copy_said(const struct json_value *object, const char *key, char *out, size_t bytes)
{
    struct text_view text = json_text(json_member(object, key));
    size_t length = text.length < bytes - 1 ? text.length : bytes - 1;
    snprintf(out, bytes, "%.*s", (int)length, text.data ? text.data : "");
}

/* A mean that is weighted by time over the operations that say something. */
struct weighted {
    double sum, weight;
};

static void weigh(struct weighted *mean, double value, double weight)
{
    if (!isnan(value)) {
        mean->sum += value * weight;
        mean->weight += weight;
    }
}

static double weighted_mean(const struct weighted *mean)
{
    return mean->weight > 0 ? mean->sum / mean->weight : NAN;
}

static void read_test(struct roofline *roofline, const struct json_value *profile)
{
    enum { ARITHMETIC, OCCUPANCY, ACHIEVED, TENSOR, MEANS };
    static const char *const keys[MEANS] = {"arithmetic_share", "occupancy", "achieved_occupancy",
                                            "tensor_share"};
    struct weighted means[MEANS] = {{0}};
    double bytes = 0;
    double ns = number_of(profile, "ns");
    struct text_view name = json_text(json_member(profile, "test"));
    if (roofline->test_count == ROOFLINE_TESTS_MAX || !(ns > 0)) {
        return;
    }
    JSON_EACH(row, json_member(profile, "operations"))
    {
        bytes += number_of(row, "bytes");
        for (int i = 0; i < MEANS; i++) {
            weigh(&means[i], said(row, keys[i]), number_of(row, "ns"));
        }
    }
    struct roofline_test *test = &roofline->tests[roofline->test_count++];
    *test = (struct roofline_test){
        .is_prompt = text_view_is(name, "pp"),
        .memory_share = roofline->bytes_s > 0 ? bytes / ns * 1e9 / roofline->bytes_s : NAN,
        .arithmetic_share = weighted_mean(&means[ARITHMETIC]),
        .occupancy = weighted_mean(&means[OCCUPANCY]),
        .achieved_occupancy = weighted_mean(&means[ACHIEVED]),
        .tensor_share = weighted_mean(&means[TENSOR]),
        .launches_per_step = said(profile, "launches_per_step"),
        .graph_ns = said(profile, "graph_ns"),
        .plain_ns = said(profile, "plain_ns"),
    };
    snprintf(test->name, sizeof test->name, "%.*s%.0f depth %.0f",
             (int)(name.length < 4 ? name.length : 4), name.data ? name.data : "",
             number_of(profile, "tokens"), number_of(profile, "depth"));
}

static void read_operation(struct roofline *roofline, const struct json_value *profile,
                           const struct json_value *row, double total_ns)
{
    double bytes = number_of(row, "bytes");
    double operations = number_of(row, "arithmetic_operations");
    double ns = number_of(row, "ns");
    double memory = number_of(row, "memory_share");
    double arithmetic = number_of(row, "arithmetic_share");
    if (!(bytes > 0 && operations > 0 && ns > 0) || roofline->count == ROOFLINE_POINTS_MAX) {
        return; /* nothing that a roofline is about */
    }
    struct roofline_point *point = &roofline->points[roofline->count++];
    struct text_view name = json_text(json_member(row, "operation"));
    struct text_view type = json_text(json_member(row, "type"));
    struct text_view test = json_text(json_member(profile, "test"));
    *point = (struct roofline_point){.intensity = operations / bytes,
                                     .rate = operations / ns * 1e9,
                                     .time_share = total_ns > 0 ? ns / total_ns : 0,
                                     .ceiling_share = fmax(memory, arithmetic),
                                     .from_memory = memory >= arithmetic,
                                     .launches = said(row, "launches"),
                                     .fused = said(row, "fused"),
                                     .registers = said(row, "registers"),
                                     .shared_bytes = said(row, "shared_bytes"),
                                     .occupancy = said(row, "occupancy"),
                                     .achieved_occupancy = said(row, "achieved_occupancy"),
                                     .tensor_share = said(row, "tensor_share"),
                                     .sectors_per_request = said(row, "sectors_per_request")};
    snprintf(point->operation, sizeof point->operation, "%.*s%s%.*s",
             (int)(name.length < 30 ? name.length : 30), name.data ? name.data : "",
             type.length ? " " : "", (int)(type.length < 12 ? type.length : 12),
             type.data ? type.data : "");
    snprintf(point->test, sizeof point->test, "%.*s%.0f depth %.0f",
             (int)(test.length < 4 ? test.length : 4), test.data ? test.data : "",
             number_of(profile, "tokens"), number_of(profile, "depth"));
}

llcuda_status roofline_read(struct text_view json, struct roofline *roofline,
                            struct llcuda_error *error)
{
    struct json_document *document = NULL;
    *roofline = (struct roofline){0};
    llcuda_status status = json_parse(json, NULL, &document, error);
    if (status) {
        return error_prefix(error, status, "kernels.json");
    }
    const struct json_value *root = json_root(document);
    roofline->bytes_s = number_of(root, "read_bytes_per_second");
    roofline->flop_s = number_of(root, "flop_per_second");
    roofline->integer_s = number_of(root, "integer_op_per_second");
    const struct json_value *pool = json_member(root, "memory_pool");
    roofline->pool_reserved_bytes = said(pool, "reserved_bytes");
    roofline->pool_peak_bytes = said(pool, "used_peak_bytes");
    copy_said(root, "device_name", roofline->device, sizeof roofline->device);
    copy_said(root, "counters", roofline->counters, sizeof roofline->counters);
    JSON_EACH(profile, json_member(root, "profiles"))
    {
        double total = number_of(profile, "ns");
        read_test(roofline, profile);
        JSON_EACH(row, json_member(profile, "operations"))
        {
            read_operation(roofline, profile, row, total);
        }
    }
    json_destroy(document);
    if (!(roofline->bytes_s > 0 && roofline->flop_s > 0)) {
        status = error_set(error, LLCUDA_BAD_FORMAT, "kernels.json has no ceilings");
    }
    return status;
}

/* A logarithmic axis over whole powers of ten. */
struct decades {
    double low, high; /* exponents */
    double begin, end;
};

static double place(const struct decades *axis, double value)
{
    double share = (log10(value) - axis->low) / (axis->high - axis->low);
    return axis->begin + (axis->end - axis->begin) * fmin(fmax(share, 0), 1);
}

static void widen(struct decades *axis, double value)
{
    if (value > 0 && isfinite(value)) {
        axis->low = fmin(axis->low, floor(log10(value)));
        axis->high = fmax(axis->high, ceil(log10(value)));
    }
}

static void draw_axes(struct canvas *canvas, const struct decades *x, const struct decades *y)
{
    char text[32];
    for (double e = x->low; e <= x->high; e++) {
        double at = place(x, pow(10, e));
        snprintf(text, sizeof text, "%g", pow(10, e));
        canvas->ops->line(canvas, at, y->begin, at, y->end, FAINT, 0.8);
        canvas->ops->text(canvas, at, y->begin + 14, text, 10, CANVAS_MIDDLE, GREY);
    }
    for (double e = y->low; e <= y->high; e++) {
        double at = place(y, pow(10, e));
        snprintf(text, sizeof text, "%g", pow(10, e - 9));
        canvas->ops->line(canvas, x->begin, at, x->end, at, FAINT, 0.8);
        canvas->ops->text(canvas, x->begin - 6, at + 4, text, 10, CANVAS_RIGHT, GREY);
    }
    canvas->ops->text(canvas, x->begin - 6, TOP - 8, "GOP/s", 10, CANVAS_RIGHT, GREY);
    canvas->ops->text(canvas, x->end, y->begin + 30, "operations a byte read", 10, CANVAS_RIGHT,
                      GREY);
}

/* Memory's slope up to the ridge, then the flat roof of arithmetic. */
static void draw_roof(const struct roofline *roofline, struct canvas *canvas,
                      const struct decades *x, const struct decades *y, double flat,
                      const char *name)
{
    char text[64];
    double ridge = flat / roofline->bytes_s;
    double left = pow(10, x->low);
    double from = fmax(left, pow(10, y->low) / roofline->bytes_s);
    canvas->ops->line(canvas, place(x, from), place(y, from * roofline->bytes_s), place(x, ridge),
                      place(y, flat), INK, 1.4);
    canvas->ops->line(canvas, place(x, ridge), place(y, flat), x->end, place(y, flat), INK, 1.4);
    snprintf(text, sizeof text, "%s %.4g GOP/s", name, flat / 1e9);
    canvas->ops->text(canvas, x->end - 4, place(y, flat) - 5, text, 10, CANVAS_RIGHT, INK);
}

void roofline_draw(const struct roofline *roofline, struct canvas *canvas, double height)
{
    static const canvas_colour colours[] = {0x0072b2, 0xe69f00, 0x009e73, 0xd55e00, 0xcc79a7};
    struct decades x = {0, 3, LEFT, canvas->width - RIGHT};
    struct decades y = {9, 10, height - BOTTOM, TOP};
    uint32_t colour = 0;
    char text[96];
    for (uint32_t i = 0; i < roofline->count; i++) {
        widen(&x, roofline->points[i].intensity);
        widen(&y, roofline->points[i].rate);
    }
    widen(&y, roofline->flop_s);
    widen(&y, roofline->integer_s);
    snprintf(text, sizeof text, "Roofline: read %.4g GB/s", roofline->bytes_s / 1e9);
    canvas->ops->text(canvas, LEFT, 16, text, 13, CANVAS_LEFT, INK);
    draw_axes(canvas, &x, &y);
    draw_roof(roofline, canvas, &x, &y, roofline->flop_s, "float");
    if (roofline->integer_s > 0) {
        draw_roof(roofline, canvas, &x, &y, roofline->integer_s, "int8");
    }
    for (uint32_t i = 0; i < roofline->count; i++) {
        const struct roofline_point *point = &roofline->points[i];
        struct canvas_mark mark = {point->operation, "kernels", point->test,
                                   "roofline_op_s",  0,         point->rate};
        if (i && strcmp(point->test, roofline->points[i - 1].test) != 0) {
            colour++;
        }
        double radius = 3 + 9 * sqrt(point->time_share); /* area follows time */
        canvas->ops->point(canvas, place(&x, point->intensity), place(&y, point->rate), radius,
                           colours[colour % 5], &mark);
        if (point->time_share > 0.1) {
            canvas->ops->text(canvas, place(&x, point->intensity) + radius + 2,
                              place(&y, point->rate) + 4, point->operation, 9, CANVAS_LEFT, INK);
        }
    }
}

void roofline_svg(const struct roofline *roofline, struct buffer *out)
{
    struct canvas canvas;
    buffer_append_text(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    canvas_svg_begin(&canvas, out, CHART_WIDTH, ROOFLINE_HEIGHT, "Roofline");
    roofline_draw(roofline, &canvas, ROOFLINE_HEIGHT);
    canvas_svg_end(&canvas);
}

/* A number cell; a dash for what the profile does not say. `scale` 100: a share in per cent. */
static void cell(struct buffer *out, double value, double scale)
{
    if (!isfinite(value)) {
        buffer_append_text(out, "<td class=\"n\">–</td>");
    } else {
        buffer_printf(out, "<td class=\"n\">%.4g%s</td>", value * scale, scale == 100 ? " %" : "");
    }
}

/* Prompts and generations as wholes: launches, graphs, and how busy the device is. */
static void write_tests(const struct roofline *roofline, struct buffer *out)
{
    buffer_append_text(out,
                       "<table><tr><th>Test</th><th class=\"n\">bandwidth, of the ceiling</th>"
                       "<th class=\"n\">arithmetic, of the ceiling</th><th class=\"n\">"
                       "occupancy</th><th class=\"n\">achieved</th><th class=\"n\">tensor "
                       "cores</th><th class=\"n\">launches a step</th><th class=\"n\">step as "
                       "a graph, µs</th><th class=\"n\">step launch by launch, µs</th></tr>\n");
    for (uint32_t i = 0; i < roofline->test_count; i++) {
        const struct roofline_test *test = &roofline->tests[i];
        const double values[] = {test->memory_share,      test->arithmetic_share,
                                 test->occupancy,         test->achieved_occupancy,
                                 test->tensor_share,      test->launches_per_step,
                                 test->graph_ns / 1000.0, test->plain_ns / 1000.0};
        buffer_append_text(out, "<tr><td>");
        canvas_escape(out, test->name);
        buffer_append_text(out, "</td>");
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            cell(out, values[v], v < 5 ? 100 : 1);
        }
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table><p class=\"small\">");
    if (isfinite(roofline->pool_peak_bytes)) {
        buffer_printf(out, "Memory pool: %.4g of %.4g MB used at most. ",
                      roofline->pool_peak_bytes / 1e6, roofline->pool_reserved_bytes / 1e6);
    }
    canvas_escape(out, roofline->counters[0]
                           ? roofline->counters
                           : "The profile has no counters of a GPU: achieved occupancy and the use "
                             "of tensor cores are not measured here.");
    buffer_append_text(out, "</p>\n");
}

void roofline_html(const struct roofline *roofline, struct buffer *out)
{
    write_tests(roofline, out);
    buffer_append_text(out,
                       "<table><tr><th>Test</th><th>Operation</th><th class=\"n\">share of the "
                       "time</th><th class=\"n\">GOP/s</th><th class=\"n\">share of the ceiling"
                       "</th><th>bound by</th><th class=\"n\">gain at most</th><th class=\"n\">"
                       "launches</th><th class=\"n\">operations fused</th><th class=\"n\">"
                       "registers</th><th class=\"n\">shared, KB</th><th class=\"n\">occupancy"
                       "</th><th class=\"n\">achieved</th><th class=\"n\">tensor cores</th>"
                       "<th class=\"n\">sectors a request</th></tr>\n");
    for (uint32_t i = 0; i < roofline->count; i++) {
        const struct roofline_point *point = &roofline->points[i];
        /* If it reached its ceiling and nothing else changed. */
        double left = 1 - point->time_share * (1 - fmin(point->ceiling_share, 1));
        buffer_append_text(out, "<tr><td>");
        canvas_escape(out, point->test);
        buffer_append_text(out, "</td><td>");
        canvas_escape(out, point->operation);
        buffer_printf(out,
                      "</td><td class=\"n\">%.1f %%</td><td class=\"n\">%.4g</td><td class=\"n\">"
                      "%.1f %%</td><td>%s</td><td class=\"n\">%.1f %%</td>",
                      point->time_share * 100, point->rate / 1e9, point->ceiling_share * 100,
                      point->from_memory ? "memory" : "arithmetic",
                      left > 0 ? (1 / left - 1) * 100 : 0.0);
        const double values[] = {point->launches,     point->fused,
                                 point->registers,    point->shared_bytes / 1024.0,
                                 point->occupancy,    point->achieved_occupancy,
                                 point->tensor_share, point->sectors_per_request};
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            cell(out, values[v], v >= 4 && v < 7 ? 100 : 1);
        }
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out,
                       "</table><p class=\"small\">Gain at most: how much faster the test would "
                       "be if this operation reached its ceiling. Bytes and operations are the "
                       "plan's, times are the device's own. Occupancy: resident warps / the most "
                       "that a multiprocessor holds, from registers and shared memory; achieved "
                       "occupancy, tensor cores and sectors are the GPU's counters.</p>\n");
}
