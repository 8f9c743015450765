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

/* "pp512 depth 0" */
static void test_name(const struct json_value *profile, char *out, size_t bytes)
{
    struct text_view test = json_text(json_member(profile, "test"));
    snprintf(out, bytes, "%.*s%.0f depth %.0f", (int)(test.length < 4 ? test.length : 4),
             test.data ? test.data : "", number_of(profile, "tokens"), number_of(profile, "depth"));
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

static void read_kernel(struct roofline *roofline, const struct json_value *profile,
                        const struct json_value *row, double total_ns)
{
    struct text_view name = json_text(json_member(row, "kernel"));
    if (roofline->kernel_count == ROOFLINE_KERNELS_MAX) {
        return;
    }
    struct roofline_kernel *kernel = &roofline->kernels[roofline->kernel_count++];
    *kernel = (struct roofline_kernel){.launches = said(row, "launches"),
                                       .us = said(row, "ns") / said(row, "launches") / 1e3,
                                       .time_share = said(row, "ns") / total_ns,
                                       .memory_share = said(row, "memory_share"),
                                       .arithmetic_share = said(row, "arithmetic_share"),
                                       .registers = said(row, "registers"),
                                       .shared_bytes = said(row, "shared_bytes"),
                                       .occupancy = said(row, "occupancy")};
    test_name(profile, kernel->test, sizeof kernel->test);
    snprintf(kernel->kernel, sizeof kernel->kernel, "%.*s",
             (int)(name.length < 47 ? name.length : 47), name.data ? name.data : "");
}

/* {"weights": 24000000, …} as text. */
static void read_memory(const struct json_value *memory, char *out, size_t bytes)
{
    size_t used = 0;
    JSON_EACH_KEY(key, memory)
    {
        struct text_view name = json_text(key);
        double value = 0;
        if (json_number(json_next(key), &value) && used < bytes) {
            int length =
                snprintf(out + used, bytes - used, "%s%.*s %.4g MB", used ? ", " : "",
                         (int)(name.length < 24 ? name.length : 24), name.data, value / 1e6);
            used += length > 0 ? (size_t)length : 0;
        }
    }
}

static void read_steps(struct roofline_test *test, const struct json_value *steps,
                       const struct json_value *counters)
{
    double count = said(steps, "count");
    struct text_view reason = json_text(json_member(counters, "reason"));
    test->launches = said(steps, "launches") / count;
    test->fused = said(steps, "plan_operations") / said(steps, "launches");
    test->graph_us = said(steps, "graph_ns") / count / 1e3;
    test->plain_us = said(steps, "plain_ns") / count / 1e3;
    test->achieved_occupancy = said(counters, "occupancy");
    test->tensor_share = said(counters, "tensor_share");
    test->sectors_per_request = said(counters, "sectors_per_request");
    read_memory(json_member(steps, "memory_bytes"), test->memory, sizeof test->memory);
    snprintf(test->counters, sizeof test->counters, "%.*s",
             (int)(reason.length < 199 ? reason.length : 199), reason.data ? reason.data : "");
}

static void read_test(struct roofline *roofline, const struct json_value *profile)
{
    struct weighted arithmetic = {0};
    struct weighted occupancy = {0};
    double bytes = 0;
    double kernel_ns = 0;
    double ns = number_of(profile, "ns");
    if (roofline->test_count == ROOFLINE_TESTS_MAX || !(ns > 0)) {
        return;
    }
    JSON_EACH(row, json_member(profile, "operations"))
    {
        bytes += number_of(row, "bytes");
        weigh(&arithmetic, said(row, "arithmetic_share"), number_of(row, "ns"));
    }
    JSON_EACH(row, json_member(profile, "kernels"))
    {
        kernel_ns += number_of(row, "ns");
        weigh(&occupancy, said(row, "occupancy"), number_of(row, "ns"));
    }
    JSON_EACH(row, json_member(profile, "kernels"))
    {
        read_kernel(roofline, profile, row, kernel_ns);
    }
    struct roofline_test *test = &roofline->tests[roofline->test_count++];
    *test = (struct roofline_test){
        .is_prompt = text_view_is(json_text(json_member(profile, "test")), "pp"),
        .memory_share = roofline->bytes_s > 0 ? bytes / ns * 1e9 / roofline->bytes_s : NAN,
        .arithmetic_share = weighted_mean(&arithmetic),
        .occupancy = weighted_mean(&occupancy)};
    test_name(profile, test->name, sizeof test->name);
    read_steps(test, json_member(profile, "steps"), json_member(profile, "counters"));
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
    *point = (struct roofline_point){.intensity = operations / bytes,
                                     .rate = operations / ns * 1e9,
                                     .time_share = total_ns > 0 ? ns / total_ns : 0,
                                     .ceiling_share = fmax(memory, arithmetic),
                                     .from_memory = memory >= arithmetic};
    snprintf(point->operation, sizeof point->operation, "%.*s%s%.*s",
             (int)(name.length < 30 ? name.length : 30), name.data ? name.data : "",
             type.length ? " " : "", (int)(type.length < 12 ? type.length : 12),
             type.data ? type.data : "");
    test_name(profile, point->test, sizeof point->test);
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
    const struct json_value *text = json_member(root, "tokenizing");
    roofline->text_bytes = said(text, "bytes");
    roofline->text_tokens = said(text, "tokens");
    roofline->text_ns = said(text, "ns");
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

static void name_cell(struct buffer *out, const char *name)
{
    buffer_append_text(out, "<td>");
    canvas_escape(out, name);
    buffer_append_text(out, "</td>");
}

/* Prompts and generations as wholes: launches, graphs, and how busy the device is. */
static void write_tests(const struct roofline *roofline, struct buffer *out)
{
    const char *reason = "";
    buffer_append_text(out, "<table><tr><th>Test</th><th class=\"n\">bandwidth, of the ceiling</th>"
                            "<th class=\"n\">arithmetic, of the ceiling</th><th class=\"n\">"
                            "occupancy</th><th class=\"n\">achieved</th><th class=\"n\">tensor "
                            "cores</th><th class=\"n\">sectors a request</th><th class=\"n\">"
                            "launches a step</th><th class=\"n\">operations a launch</th>"
                            "<th class=\"n\">step as a graph, µs</th><th class=\"n\">step launch "
                            "by launch, µs</th><th>memory</th></tr>\n");
    for (uint32_t i = 0; i < roofline->test_count; i++) {
        const struct roofline_test *test = &roofline->tests[i];
        const double values[] = {test->memory_share, test->arithmetic_share,
                                 test->occupancy,    test->achieved_occupancy,
                                 test->tensor_share, test->sectors_per_request,
                                 test->launches,     test->fused,
                                 test->graph_us,     test->plain_us};
        buffer_append_text(out, "<tr>");
        name_cell(out, test->name);
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            cell(out, values[v], v < 5 ? 100 : 1);
        }
        name_cell(out, test->memory);
        buffer_append_text(out, "</tr>\n");
        reason = test->counters[0] ? test->counters : reason;
    }
    buffer_append_text(out,
                       "</table><p class=\"small\">Occupancy: threads that registers and shared "
                       "memory let a multiprocessor hold / the most that it can, weighted by "
                       "the kernels' time. Achieved occupancy, tensor cores and sectors are "
                       "counters of the GPU. Above 100 %: what is read again comes from a cache, "
                       "which is faster than the memory whose ceiling it is held against. ");
    canvas_escape(out, reason);
    buffer_append_text(out, "</p>\n");
}

static void write_kernels(const struct roofline *roofline, struct buffer *out)
{
    if (roofline->kernel_count == 0) {
        return;
    }
    buffer_append_text(out, "<table><tr><th>Test</th><th>Kernel</th><th class=\"n\">launches</th>"
                            "<th class=\"n\">µs each</th><th class=\"n\">share of the kernels' "
                            "time</th><th class=\"n\">bandwidth</th><th class=\"n\">arithmetic</th>"
                            "<th class=\"n\">occupancy</th><th class=\"n\">registers</th>"
                            "<th class=\"n\">shared, KB</th></tr>\n");
    for (uint32_t i = 0; i < roofline->kernel_count; i++) {
        const struct roofline_kernel *kernel = &roofline->kernels[i];
        buffer_append_text(out, "<tr>");
        name_cell(out, kernel->test);
        name_cell(out, kernel->kernel);
        cell(out, kernel->launches, 1);
        cell(out, kernel->us, 1);
        cell(out, kernel->time_share, 100);
        cell(out, kernel->memory_share, 100);
        cell(out, kernel->arithmetic_share, 100);
        cell(out, kernel->occupancy, 100);
        cell(out, kernel->registers, 1);
        cell(out, kernel->shared_bytes / 1024, 1);
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out, "</table>\n");
}

/* The host's work before a first token. */
static void write_tokenizing(const struct roofline *roofline, struct buffer *out)
{
    if (!(roofline->text_ns > 0) || !(roofline->text_tokens > 0)) {
        buffer_append_text(out, "<p>Tokenising: the profile does not say it.</p>\n");
        return;
    }
    double seconds = roofline->text_ns / 1e9;
    buffer_printf(out,
                  "<p>Tokenising: %.0f bytes of prose are %.0f tokens after %.2f ms: %.1f MB/s, "
                  "%.2f million tokens/s, on one processor.</p>\n",
                  roofline->text_bytes, roofline->text_tokens, seconds * 1e3,
                  roofline->text_bytes / seconds / 1e6, roofline->text_tokens / seconds / 1e6);
}

void roofline_html(const struct roofline *roofline, struct buffer *out)
{
    write_tests(roofline, out);
    write_tokenizing(roofline, out);
    buffer_append_text(out,
                       "<table><tr><th>Test</th><th>Operation</th><th class=\"n\">share of the "
                       "time</th><th class=\"n\">GOP/s</th><th class=\"n\">share of the ceiling"
                       "</th><th>bound by</th><th class=\"n\">gain at most</th></tr>\n");
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
        buffer_append_text(out, "</tr>\n");
    }
    buffer_append_text(out,
                       "</table><p class=\"small\">Gain at most: how much faster the test would "
                       "be if this operation reached its ceiling. Bytes and operations are the "
                       "plan's, times are the device's own.</p>\n");
    write_kernels(roofline, out);
}
