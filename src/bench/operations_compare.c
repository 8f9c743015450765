/* Owns the comparison of operations. Engines fuse differently: where one of them tells two
 * operations as one, nobody's figures for either can be compared alone, so that operations which
 * any engine fuses form a block, and the block's sum is what is compared. Invariants: a block is
 * the same for all engines of a test; a figure is only compared with figures of the same
 * operations. One thread. */
#include "bench/operations_compare.h"

#include <math.h>
#include <stdlib.h>

static const char *const kind_names[] = {"operation", "fused", "products", "total"};

const char *operation_row_kind_name(enum operation_row_kind kind)
{
    return kind_names[kind];
}

static double *value_at(const struct analysis *analysis, uint32_t engine, enum operation_test test,
                        int operation, uint32_t run)
{
    uint32_t repeats = analysis->config->repeats;
    return &analysis->operations[engine]
                .ms[((uint32_t)test * OPERATION_COUNT + (uint32_t)operation) * repeats + run];
}

bool operations_open(struct analysis *analysis)
{
    const struct config *config = analysis->config;
    size_t count = (size_t)OPERATION_TEST_COUNT * OPERATION_COUNT * config->repeats;
    if (!config->analysis.profile_prompt && !config->analysis.profile_generate) {
        return true;
    }
    analysis->operations = calloc(config->engine_count, sizeof *analysis->operations);
    for (uint32_t e = 0; analysis->operations && e < config->engine_count; e++) {
        double *ms = malloc(count * sizeof *ms);
        if (!ms) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            ms[i] = NAN;
        }
        analysis->operations[e].ms = ms;
    }
    return analysis->operations != NULL;
}

void operations_close(struct analysis *analysis)
{
    for (uint32_t e = 0; analysis->operations && e < analysis->config->engine_count; e++) {
        free(analysis->operations[e].ms);
    }
    free(analysis->operations);
    analysis->operations = NULL;
}

void operations_add(struct analysis *analysis, uint32_t engine, uint32_t repeat,
                    const struct operation_answer *answer)
{
    struct engine_operations *operations = &analysis->operations[engine];
    operations->told++;
    for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
        uint32_t generated =
            t == OPERATION_GENERATE ? analysis->config->analysis.profile_generate : 0;
        for (int o = 0; o < OPERATION_COUNT; o++) {
            const struct operation_time *time = &answer->tests[t].operations[o];
            operations->with[t][o] |= time->with;
            if (time->told) {
                *value_at(analysis, engine, (enum operation_test)t, o, repeat) =
                    time->ns / 1e6 / (generated ? generated : 1);
            }
        }
    }
}

bool operations_told(const struct analysis *analysis, uint32_t engine)
{
    return analysis->operations && analysis->operations[engine].told > 0;
}

const char *operations_silence(const struct analysis *analysis, uint32_t engine)
{
    const struct engine_result *result = &analysis->engines[engine];
    const char *reason = analysis->operations[engine].reason;
    if (reason[0]) {
        return reason;
    }
    if (result->reason[0]) {
        return result->reason;
    }
    return !result->sessions                                       ? "not run"
           : analysis->config->engines[engine].kind == ENGINE_HTTP ? "a server does not tell"
                                                                   : "its adapter does not tell";
}

double operations_run(const struct analysis *analysis, enum operation_test test,
                      uint32_t operations, uint32_t engine, uint32_t run)
{
    double sum = NAN;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        double ms = *value_at(analysis, engine, test, o, run);
        if (operations & 1u << o && !isnan(ms)) {
            sum = isnan(sum) ? ms : sum + ms;
        }
    }
    return sum;
}

uint32_t operations_runs(const struct analysis *analysis, enum operation_test test,
                         uint32_t operations, uint32_t engine, double *out)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < analysis->config->repeats; r++) {
        const double ms = operations_run(analysis, test, operations, engine, r);
        if (!isnan(ms)) {
            out[count++] = ms;
        }
    }
    return count;
}

/* ---------------------------------------------------------------- blocks */

void operations_join(uint32_t blocks[OPERATION_COUNT], const uint32_t with[OPERATION_COUNT])
{
    for (int o = 0; o < OPERATION_COUNT; o++) {
        uint32_t joined = blocks[o];
        for (int w = 0; w < OPERATION_COUNT; w++) {
            joined |= with[o] & 1u << w ? blocks[w] : 0;
        }
        for (int w = 0; w < OPERATION_COUNT; w++) {
            blocks[w] = joined & 1u << w ? joined : blocks[w];
        }
    }
}

static void find_blocks(const struct analysis *analysis, enum operation_test test,
                        uint32_t blocks[OPERATION_COUNT])
{
    for (int o = 0; o < OPERATION_COUNT; o++) {
        blocks[o] = 1u << o;
    }
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        operations_join(blocks, analysis->operations[e].with[test]);
    }
}

static uint32_t product_operations(void)
{
    uint32_t products = 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        products |= operation_words[o].is_product ? 1u << o : 0;
    }
    return products;
}

static bool is_told(const struct analysis *analysis, enum operation_test test, int operation)
{
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        for (uint32_t r = 0; r < analysis->config->repeats; r++) {
            if (!isnan(*value_at(analysis, e, test, operation, r))) {
                return true;
            }
        }
    }
    return false;
}

/* ---------------------------------------------------------------- rows */

static void compute_figures(const struct analysis *analysis, enum operation_test test,
                            struct operation_row *row)
{
    const struct config *config = analysis->config;
    double *values = malloc(config->repeats * sizeof *values);
    for (uint32_t e = 0; e < config->engine_count; e++) {
        struct operation_figure *figure = &row->engines[e];
        figure->count = values ? operations_runs(analysis, test, row->operations, e, values) : 0;
        figure->mean = figure->count ? stats_mean(values, figure->count) : NAN;
        figure->interval = stats_mean_interval(values, figure->count, config->analysis.confidence);
        for (int o = 0; o < OPERATION_COUNT && row->kind == OPERATION_ROW_ONE; o++) {
            figure->with |= row->operations & 1u << o && figure->count
                                ? analysis->operations[e].with[test][o]
                                : 0;
        }
    }
    free(values);
}

static void choose_winner(const struct analysis *analysis, struct operation_row *row)
{
    uint32_t rivals = 0;
    row->winner = UINT32_MAX;
    for (uint32_t e = 0; e < analysis->config->engine_count; e++) {
        const struct operation_figure *figure = &row->engines[e];
        rivals += figure->count > 0;
        if (figure->count &&
            (row->winner == UINT32_MAX || figure->mean < row->engines[row->winner].mean)) {
            row->winner = e;
        }
    }
    row->compared = row->compared && rivals > 1;
    row->clear = row->compared;
    for (uint32_t e = 0; row->compared && e < analysis->config->engine_count; e++) {
        const struct operation_figure *figure = &row->engines[e];
        bool apart = row->engines[row->winner].interval.high < figure->interval.low;
        row->clear = row->clear && (e == row->winner || !figure->count || apart);
    }
}

static void add_row(const struct analysis *analysis, enum operation_test test,
                    enum operation_row_kind kind, uint32_t operations, bool compared,
                    struct operation_table *table)
{
    struct operation_row *row = &table->rows[table->count++];
    *row = (struct operation_row){.kind = kind, .operations = operations, .compared = compared};
    compute_figures(analysis, test, row);
    choose_winner(analysis, row);
}

/* What is left of a test is nobody's piece of work, and what products need beforehand is no merit
 * of whoever needs less than another, when a third needs nothing. */
static bool can_be_won(int operation)
{
    return operation != OPERATION_OTHER && operation != OPERATION_PREPARE;
}

/* A block's operations, and behind several of them the block itself. */
static void add_block(const struct analysis *analysis, enum operation_test test, uint32_t block,
                      struct operation_table *table)
{
    uint32_t told = 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        told |= block & 1u << o && is_told(analysis, test, o) ? 1u << o : 0;
    }
    bool several = (told & (told - 1)) != 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        if (told & 1u << o) {
            add_row(analysis, test, OPERATION_ROW_ONE, 1u << o, !several && can_be_won(o), table);
        }
    }
    if (several) {
        add_row(analysis, test, OPERATION_ROW_FUSED, told, true, table);
    }
}

void operations_compare(const struct analysis *analysis, enum operation_test test,
                        struct operation_table *table)
{
    uint32_t blocks[OPERATION_COUNT];
    uint32_t done = 0;
    uint32_t products = 0;
    uint32_t product_blocks = 0; /* that somebody told */
    table->count = 0;
    find_blocks(analysis, test, blocks);
    for (int o = 0; o < OPERATION_COUNT; o++) {
        uint32_t before = table->count;
        if (done & 1u << o) {
            continue;
        }
        done |= blocks[o];
        add_block(analysis, test, blocks[o], table);
        if (blocks[o] & product_operations() && table->count > before) {
            products |= blocks[o];
            product_blocks++;
        }
    }
    if (product_blocks > 1) {
        add_row(analysis, test, OPERATION_ROW_PRODUCTS, products, true, table);
    }
    if (table->count) {
        add_row(analysis, test, OPERATION_ROW_TOTAL, done, true, table);
    }
}
