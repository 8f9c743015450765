/* Owns what reports say of operations: who wins each kernel, in HTML, on a terminal and in
 * summary.json. Names of engines and their reasons come from outside and are escaped. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/operations_compare.h"
#include "bench/report_parts.h"

static const char explanation[] =
    "Times are means over the runs, ± half of their interval, from passes that do nothing else; "
    "the requests above run without this. Best: the smallest mean, where two engines at least tell "
    "the same; in bold where its interval lies below all others'. <em>with</em>: the engine does "
    "these in one piece of work and cannot tell them apart. Operations that any engine fuses are "
    "compared together, in the row of their sum, and not one by one: that row is the first in "
    "which every engine's figure holds the same work. Products: all that multiply with weights, "
    "with what is fused into them. On a GPU an operation is its kernels' own time, and "
    "<em>other</em> what the whole takes beyond them: waiting for launches, and the host.";

static void row_title(const struct operation_row *row, char *out, size_t bytes)
{
    if (row->kind == OPERATION_ROW_PRODUCTS || row->kind == OPERATION_ROW_TOTAL) {
        snprintf(out, bytes, "%s", row->kind == OPERATION_ROW_TOTAL ? "the whole" : "all products");
    } else {
        operations_title(row->operations, out, bytes);
    }
}

static void test_title(const struct analysis *analysis, enum operation_test test, char *out,
                       size_t bytes)
{
    operation_test_title(&analysis->config->analysis, test, out, bytes);
    const size_t used = strlen(out);
    snprintf(out + used, bytes - used, ", ms");
}

static struct number_text figure_text(const struct operation_figure *figure)
{
    const struct figure shown = {.mean = figure->mean, .interval = figure->interval};
    return report_figure(&shown);
}

/* ---------------------------------------------------------------- HTML */

static void write_with(uint32_t with, struct buffer *out)
{
    const char *before = "<br><span class=\"small\">with ";
    for (int o = 0; o < OPERATION_COUNT; o++) {
        if (with & 1u << o) {
            buffer_printf(out, "%s%s", before, operation_words[o].name);
            before = ", ";
        }
    }
    buffer_append_text(out, with ? "</span>" : "");
}

static void write_row(const struct analysis *analysis, const struct operation_row *row,
                      struct buffer *out)
{
    char title[300];
    row_title(row, title, sizeof title);
    bool single = row->kind == OPERATION_ROW_ONE;
    buffer_printf(out, single ? "<tr><td>%s</td>" : "<tr><td><em>%s</em></td>", title);
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct operation_figure *figure = &row->engines[e];
        bool best = row->compared && row->winner == e;
        if (!operations_told(analysis, e)) {
            continue;
        }
        buffer_printf(out, "<td class=\"n%s\">%s", best ? " better" : "", figure_text(figure).text);
        write_with(figure->with, out);
        buffer_append_text(out, "</td>");
    }
    buffer_append_text(out, row->clear ? "<td class=\"better\"><strong>" : "<td>");
    if (row->compared) {
        html_text(out, analysis->config->engines[row->winner].name);
    }
    buffer_append_text(out, row->clear ? "</strong></td></tr>\n" : "</td></tr>\n");
}

static void write_test(const struct analysis *analysis, enum operation_test test,
                       const struct operation_table *table, struct buffer *out)
{
    char title[120];
    test_title(analysis, test, title, sizeof title);
    buffer_printf(out, "<h3>%c%s</h3><figure><table><tr><th>Operation</th>", title[0] - 'a' + 'A',
                  title + 1);
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        if (operations_told(analysis, e)) {
            buffer_append_text(out, "<th class=\"n\">");
            html_text(out, analysis->config->engines[e].name);
            buffer_append_text(out, "</th>");
        }
    }
    buffer_append_text(out, "<th>Best</th></tr>\n");
    for (uint32_t i = 0; i < table->count; i++) {
        write_row(analysis, &table->rows[i], out);
    }
    buffer_append_text(out, "</table></figure>\n");
}

static void write_silent(const struct analysis *analysis, struct buffer *out)
{
    buffer_append_text(out, "<ul class=\"small\">\n");
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct engine_operations *engine = &analysis->operations[e];
        if (engine->told && !engine->failed) {
            continue;
        }
        buffer_append_text(out, "<li>");
        html_text(out, analysis->config->engines[e].name);
        if (engine->told) {
            buffer_printf(out, ": %u of %u profiles failed: ", engine->failed,
                          engine->failed + engine->told);
        } else {
            buffer_append_text(out, " is left out: ");
        }
        html_text(out, operations_silence(analysis, e));
        buffer_append_text(out, "</li>\n");
    }
    buffer_append_text(out, "</ul>\n");
}

static void write_words(struct buffer *out)
{
    buffer_append_text(out, "<details><summary>What the words mean</summary><table>\n");
    for (int o = 0; o < OPERATION_COUNT; o++) {
        buffer_printf(out, "<tr><td>%s</td><td>", operation_words[o].name);
        html_text(out, operation_words[o].meaning);
        buffer_append_text(out, "</td></tr>\n");
    }
    buffer_append_text(out, "</table></details>\n");
}

void report_html_operations(const struct analysis *analysis, struct buffer *out)
{
    struct operation_table *table = analysis->operations ? malloc(sizeof *table) : NULL;
    bool any = false;
    if (!table) {
        return;
    }
    buffer_append_text(out, "<h2 id=\"operations\">Who wins each kernel</h2>\n");
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        operations_compare(analysis, (enum operation_test)t, table);
        if (table->count) {
            write_test(analysis, (enum operation_test)t, table, out);
            any = true;
        }
    }
    buffer_printf(out, "<p class=\"small\">%s</p>\n",
                  any ? explanation : "No engine could tell where its time goes.");
    write_silent(analysis, out);
    write_words(out);
    free(table);
}

/* ---------------------------------------------------------------- the terminal */

static void table_test(const struct analysis *analysis, enum operation_test test,
                       const struct operation_table *table, struct buffer *out)
{
    char title[300];
    test_title(analysis, test, title, sizeof title);
    buffer_printf(out, "who wins each kernel, %s\n", title);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct operation_row *row = &table->rows[i];
        const char *before = "";
        if (!row->compared) {
            continue; /* the report has it */
        }
        row_title(row, title, sizeof title);
        buffer_printf(out, "  %-22s  ", title);
        for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
            if (row->engines[e].count) {
                buffer_printf(out, "%s%s %s%s", before, analysis->config->engines[e].name,
                              figure_text(&row->engines[e]).text,
                              row->winner != e ? ""
                              : row->clear     ? " (best)"
                                               : " (best mean)");
                before = "; ";
            }
        }
        buffer_append_text(out, "\n");
    }
}

void report_table_operations(const struct analysis *analysis, struct buffer *out)
{
    struct operation_table *table = analysis->operations ? malloc(sizeof *table) : NULL;
    for (int t = 0; table && t < OPERATION_TEST_COUNT; t++) {
        operations_compare(analysis, (enum operation_test)t, table);
        if (table->count) {
            table_test(analysis, (enum operation_test)t, table, out);
        }
    }
    free(table);
}

/* ---------------------------------------------------------------- summary.json */

static void write_figure(struct json_writer *writer, const struct analysis *analysis,
                         enum operation_test test, const struct operation_row *row, uint32_t engine)
{
    const struct operation_figure *figure = &row->engines[engine];
    json_begin_object(writer);
    json_key(writer, "engine");
    json_write_string(writer, analysis->config->engines[engine].name);
    json_key(writer, "mean");
    json_write_number(writer, figure->mean);
    json_key(writer, "interval");
    json_begin_array(writer);
    json_write_number(writer, figure->interval.low);
    json_write_number(writer, figure->interval.high);
    json_end_array(writer);
    json_key(writer, "runs");
    json_begin_array(writer);
    for (uint32_t r = 0; r < analysis->config->repeats; r++) {
        double ms = operations_run(analysis, test, row->operations, engine, r);
        if (!isnan(ms)) {
            json_write_number(writer, ms);
        }
    }
    json_end_array(writer);
    json_key(writer, "with");
    operations_write_words(writer, figure->with);
    json_end_object(writer);
}

static void summary_row(struct json_writer *writer, const struct analysis *analysis,
                        enum operation_test test, const struct operation_row *row)
{
    json_begin_object(writer);
    json_key(writer, "kind");
    json_write_string(writer, operation_row_kind_name(row->kind));
    json_key(writer, "operations");
    operations_write_words(writer, row->operations);
    json_key(writer, "winner");
    if (row->compared) {
        json_write_string(writer, analysis->config->engines[row->winner].name);
    } else {
        json_write_null(writer);
    }
    json_key(writer, "clear");
    json_write_bool(writer, row->clear);
    json_key(writer, "engines");
    json_begin_array(writer);
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        if (row->engines[e].count) {
            write_figure(writer, analysis, test, row, e);
        }
    }
    json_end_array(writer);
    json_end_object(writer);
}

static void summary_test(struct json_writer *writer, const struct analysis *analysis,
                         enum operation_test test, const struct operation_table *table)
{
    const struct config_analysis *asked = &analysis->config->analysis;
    json_begin_object(writer);
    json_key(writer, "name");
    json_write_string(writer, operation_test_name(test));
    json_key(writer, "tokens");
    json_write_unsigned(writer, operation_test_tokens(asked, test));
    json_key(writer, "depth");
    json_write_unsigned(writer, test == OPERATION_GENERATE ? asked->profile_depth : 0);
    json_key(writer, "unit");
    json_write_string(writer, test == OPERATION_PROMPT ? "ms a prompt" : "ms a token");
    json_key(writer, "rows");
    json_begin_array(writer);
    for (uint32_t i = 0; i < table->count; i++) {
        summary_row(writer, analysis, test, &table->rows[i]);
    }
    json_end_array(writer);
    json_end_object(writer);
}

static void summary_silent(struct json_writer *writer, const struct analysis *analysis)
{
    json_key(writer, "silent");
    json_begin_array(writer);
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct engine_operations *engine = &analysis->operations[e];
        if (engine->told && !engine->failed) {
            continue;
        }
        json_begin_object(writer);
        json_key(writer, "engine");
        json_write_string(writer, analysis->config->engines[e].name);
        json_key(writer, "profiles");
        json_write_unsigned(writer, engine->told);
        json_key(writer, "reason");
        json_write_string(writer, operations_silence(analysis, e));
        json_end_object(writer);
    }
    json_end_array(writer);
}

void report_summary_operations(const struct analysis *analysis, struct json_writer *writer)
{
    struct operation_table *table = analysis->operations ? malloc(sizeof *table) : NULL;
    json_key(writer, "operations");
    if (!table) {
        json_write_null(writer);
        return;
    }
    json_begin_object(writer);
    json_key(writer, "tests");
    json_begin_array(writer);
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        operations_compare(analysis, (enum operation_test)t, table);
        if (table->count) {
            summary_test(writer, analysis, (enum operation_test)t, table);
        }
    }
    json_end_array(writer);
    summary_silent(writer, analysis);
    json_end_object(writer);
    free(table);
}
