/* Owns the mathematics of rotary tables, in double precision, rounded to float once at the end.
 * Sources: linear interpolation (Chen et al., 2306.15595), YaRN (Peng et al., 2309.00071), LongRoPE
 * (Ding et al., 2402.13753), and for "llama3" the description in the Llama 3.1 release. Each is
 * written in config.json by name and parameters; GGUF has keys for linear and YaRN, and keeps the
 * other two as a tensor of divisors. Every parameter is ranged, since it may end up as a divisor or
 * in a logarithm. */
#include "model/rotary.h"

#include <math.h>
#include <stdio.h>

#include "base/limits.h"
#include "model/model.h"

#define PI         3.14159265358979323846
#define PAIRS_MAX  (LIMIT_HEAD_SIZE / 2)
#define FACTOR_MIN 1e-3
#define FACTOR_MAX 1e6
#define BASE_MIN   1.01
#define BASE_MAX   1e15

/* The table under work. */
struct table {
    const struct rotary_request *request;
    const char *hf_section; /* "rope_scaling.", "rope_parameters.…" or NULL: where parameters are */
    uint32_t *context_length;
    uint32_t pairs;
    double frequencies[PAIRS_MAX];
    double magnitude;
    char note[48]; /* "llama3 × 8" */
};

/* A parameter of the scaling in config.json. */
static double section_number(struct model_builder *builder, const struct table *table,
                             const char *name, double minimum, double maximum, double fallback)
{
    char key[96];
    snprintf(key, sizeof key, "%s%s", table->hf_section, name);
    return model_read_number_or(builder, NULL, key, minimum, maximum, fallback);
}

static double demanded_section_number(struct model_builder *builder, const struct table *table,
                                      const char *name)
{
    char key[96];
    snprintf(key, sizeof key, "%s%s", table->hf_section, name);
    return model_read_number(builder, NULL, key, FACTOR_MIN, FACTOR_MAX);
}

/* Positions of the first training; at least 2, since its logarithm is divided by. */
static double original_context(struct model_builder *builder, const struct table *table)
{
    if (model_is_gguf(builder)) {
        return model_read_u32_or(builder, "rope.scaling.original_context_length", NULL, 2,
                                 LIMIT_CONTEXT_LENGTH, table->request->context_length);
    }
    char key[96];
    snprintf(key, sizeof key, "%soriginal_max_position_embeddings", table->hf_section);
    uint32_t inside = model_read_u32_or(builder, NULL, key, 2, LIMIT_CONTEXT_LENGTH,
                                        table->request->context_length);
    /* Phi-3 keeps it beside the section, and there it counts more. */
    return model_read_u32_or(builder, NULL, "original_max_position_embeddings", 2,
                             LIMIT_CONTEXT_LENGTH, inside);
}

static void note(struct table *table, const char *name, double factor)
{
    snprintf(table->note, sizeof table->note, ", %s × %g", name, factor);
}

static void scale_linear(struct table *table, double factor)
{
    for (uint32_t i = 0; i < table->pairs; i++) {
        table->frequencies[i] /= factor;
    }
    note(table, "linear", factor);
}

/* Low frequencies are divided, high ones kept, those between blended by their wavelength. */
static void scale_llama3(struct model_builder *builder, struct table *table)
{
    double factor = demanded_section_number(builder, table, "factor");
    double low = demanded_section_number(builder, table, "low_freq_factor");
    double high = demanded_section_number(builder, table, "high_freq_factor");
    double original = original_context(builder, table);
    if (builder->status == LLCUDA_OK && !(low < high)) {
        model_fail(builder, LLCUDA_BAD_FORMAT,
                   "rotary scaling: low_freq_factor %g is not below high_freq_factor %g", low,
                   high);
    }
    if (builder->status != LLCUDA_OK) {
        return;
    }
    for (uint32_t i = 0; i < table->pairs; i++) {
        double turns = original * table->frequencies[i] / (2 * PI);
        double keep = fmin(fmax((turns - low) / (high - low), 0), 1);
        table->frequencies[i] *= keep + (1 - keep) / factor;
    }
    note(table, "llama3", factor);
}

struct yarn {
    double factor, original, beta_fast, beta_slow;
    bool truncate;
};

/* The pair, as a real number, that turns `turns` times over the original context. */
static double yarn_pair(const struct table *table, const struct yarn *yarn, double turns)
{
    return table->request->size * log(yarn->original / (turns * 2 * PI)) /
           (2 * log(table->request->base));
}

static void apply_yarn(struct table *table, const struct yarn *yarn)
{
    double low = yarn_pair(table, yarn, yarn->beta_fast);
    double high = yarn_pair(table, yarn, yarn->beta_slow);
    if (yarn->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, table->request->size - 1);
    double span = high == low ? 0.001 : high - low;
    for (uint32_t i = 0; i < table->pairs; i++) {
        double divided = fmin(fmax((i - low) / span, 0), 1);
        table->frequencies[i] *= (1 - divided) + divided / yarn->factor;
    }
    note(table, "yarn", yarn->factor);
}

static double yarn_magnitude(double factor, double weight)
{
    return factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1;
}

static void scale_yarn_hf(struct model_builder *builder, struct table *table)
{
    struct yarn yarn = {.original = original_context(builder, table)};
    double implied = table->request->context_length / yarn.original;
    yarn.factor = section_number(builder, table, "factor", FACTOR_MIN, FACTOR_MAX, implied);
    yarn.beta_fast = section_number(builder, table, "beta_fast", FACTOR_MIN, FACTOR_MAX, 32);
    yarn.beta_slow = section_number(builder, table, "beta_slow", FACTOR_MIN, FACTOR_MAX, 1);
    double weight = section_number(builder, table, "mscale", 0, 100, 0);
    double weight_all = section_number(builder, table, "mscale_all_dim", 0, 100, 0);
    double magnitude = weight != 0 && weight_all != 0 ? yarn_magnitude(yarn.factor, weight) /
                                                            yarn_magnitude(yarn.factor, weight_all)
                                                      : yarn_magnitude(yarn.factor, 1);
    table->magnitude =
        section_number(builder, table, "attention_factor", FACTOR_MIN, FACTOR_MAX, magnitude);
    char key[96];
    snprintf(key, sizeof key, "%struncate", table->hf_section);
    yarn.truncate = model_read_bool_or(builder, NULL, key, true);
    if (builder->status == LLCUDA_OK) {
        apply_yarn(table, &yarn);
    }
}

static void scale_yarn_gguf(struct model_builder *builder, struct table *table, double factor)
{
    struct yarn yarn = {
        .factor = factor,
        .original = original_context(builder, table),
        .truncate = !table->request->exact,
    };
    yarn.beta_fast = model_read_number_or(builder, "rope.scaling.yarn_beta_fast", NULL, FACTOR_MIN,
                                          FACTOR_MAX, 32);
    yarn.beta_slow = model_read_number_or(builder, "rope.scaling.yarn_beta_slow", NULL, FACTOR_MIN,
                                          FACTOR_MAX, 1);
    double weight_all =
        model_read_number_or(builder, "rope.scaling.yarn_log_multiplier", NULL, 0, 100, 0);
    double mixed =
        model_read_number_or(builder, "rope.scaling.yarn_ext_factor", NULL, -1, FACTOR_MAX, 1);
    if (mixed != 1 && mixed != -1) {
        model_fail(builder, LLCUDA_UNSUPPORTED,
                   "rope.scaling.yarn_ext_factor is %g; only 1 is supported", mixed);
    }
    if (builder->status == LLCUDA_OK) {
        table->magnitude *=
            yarn_magnitude(factor, 1) / (weight_all != 0 ? yarn_magnitude(factor, weight_all) : 1);
        apply_yarn(table, &yarn);
    }
}

static bool valid_divisor(double value)
{
    return value >= FACTOR_MIN && value <= FACTOR_MAX;
}

/* Divides by a tensor of divisors, one a pair. A file opened without its data leaves them out: such
 * a plan is for looking at only. */
static void divide_by_tensor(struct model_builder *builder, struct table *table, const char *name)
{
    const struct tensor *tensor =
        model_demand(builder, MODEL_NO_LAYER, name, NULL, table->pairs, 0);
    if (tensor && tensor->dtype != DTYPE_F32) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "tensor '%s' has type %s, wanted is f32", name,
                   dtype_info(tensor->dtype)->name);
    }
    for (uint32_t i = 0; builder->status == LLCUDA_OK && tensor->data && i < table->pairs; i++) {
        float divisor;
        memcpy(&divisor, (const char *)tensor->data + i * sizeof divisor, sizeof divisor);
        if (!valid_divisor((double)divisor)) {
            model_fail(builder, LLCUDA_BAD_FORMAT,
                       "tensor '%s': element %u is %g, wanted is %g … %g", name, i, (double)divisor,
                       FACTOR_MIN, FACTOR_MAX);
            return;
        }
        table->frequencies[i] /= (double)divisor;
    }
}

static void divide_by_array(struct model_builder *builder, struct table *table, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s%s", table->hf_section, name);
    const struct json_value *array = model_config_value(builder, path);
    if (!json_is(array, JSON_ARRAY) || array->count != table->pairs) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "%s must be an array of %u numbers", path,
                   table->pairs);
        return;
    }
    uint32_t i = 0;
    JSON_EACH(element, array)
    {
        double divisor;
        if (!json_number(element, &divisor) || !valid_divisor(divisor)) {
            model_fail(builder, LLCUDA_BAD_FORMAT, "%s: element %u is no number in %g … %g", path,
                       i, FACTOR_MIN, FACTOR_MAX);
            return;
        }
        table->frequencies[i++] /= divisor;
    }
}

/* Longrope has one set of divisors up to the original context and another for longer sequences.
 * A position's key must not depend on what comes after it (ARCHITECTURE, idea 7), so that one set
 * has to serve a whole sequence: the short one, with the context that goes with it. */
static void scale_longrope(struct model_builder *builder, struct table *table)
{
    double original = original_context(builder, table);
    if (builder->status != LLCUDA_OK) {
        return;
    }
    double factor = table->request->context_length / original;
    double magnitude = factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
    if (model_is_gguf(builder)) {
        divide_by_tensor(builder, table, "rope_factors_short.weight");
        if (model_find(builder, MODEL_NO_LAYER, "rope_factors_long.weight", NULL)) {
            model_demand(builder, MODEL_NO_LAYER, "rope_factors_long.weight", NULL, table->pairs,
                         0);
        }
        table->magnitude = model_read_number_or(builder, "rope.scaling.attn_factor", NULL,
                                                FACTOR_MIN, FACTOR_MAX, magnitude);
    } else {
        double given = section_number(builder, table, "factor", FACTOR_MIN, FACTOR_MAX, 0);
        if (given != 0) {
            magnitude = given <= 1 ? 1 : sqrt(1 + log(given) / log(original));
        }
        divide_by_array(builder, table, "short_factor");
        table->magnitude =
            section_number(builder, table, "attention_factor", FACTOR_MIN, FACTOR_MAX, magnitude);
    }
    if (*table->context_length > (uint32_t)original) {
        *table->context_length = (uint32_t)original;
    }
    snprintf(table->note, sizeof table->note, ", longrope up to %u", (uint32_t)original);
}

static void fail_type(struct model_builder *builder, struct text_view type)
{
    model_fail(builder, LLCUDA_UNSUPPORTED,
               "rotary scaling '%.*s' is not supported; supported are linear, dynamic, yarn, "
               "longrope and llama3",
               TEXT_ARGUMENTS(type));
}

static void scale_gguf(struct model_builder *builder, struct table *table)
{
    struct text_view type = model_read_text(builder, "rope.scaling.type", NULL);
    double factor = model_read_number_or(builder, "rope.scale_linear", NULL, 0, FACTOR_MAX, 0);
    factor = model_read_number_or(builder, "rope.scaling.factor", NULL, 0, FACTOR_MAX, factor);
    if (factor < FACTOR_MIN) {
        factor = 1; /* writers put 0 for "none" */
    }
    if (model_find(builder, MODEL_NO_LAYER, "rope_freqs.weight", NULL)) {
        divide_by_tensor(builder, table, "rope_freqs.weight");
        snprintf(table->note, sizeof table->note, ", with a table of divisors");
    }
    if (text_view_is(type, "longrope") ||
        model_find(builder, MODEL_NO_LAYER, "rope_factors_short.weight", NULL)) {
        scale_longrope(builder, table);
        return;
    }
    table->magnitude =
        model_read_number_or(builder, "rope.scaling.attn_factor", NULL, FACTOR_MIN, FACTOR_MAX, 1);
    if (text_view_is(type, "yarn")) {
        scale_yarn_gguf(builder, table, factor);
    } else if (!type.data || text_view_is(type, "linear")) {
        if (factor != 1) {
            scale_linear(table, factor);
        }
    } else if (!text_view_is(type, "none")) {
        fail_type(builder, type);
    }
}

/* Finds where config.json keeps the scaling: rope_scaling of old configurations comes first, then
 * rope_parameters of new ones, perhaps in a group for this kind of layer. */
static const char *find_section(struct model_builder *builder, const char *group, char *buffer,
                                size_t bytes)
{
    const struct json_value *old = model_config_value(builder, "rope_scaling");
    const struct json_value *new = model_config_value(builder, "rope_parameters");
    if ((old && !json_is(old, JSON_OBJECT)) || (new && !json_is(new, JSON_OBJECT))) {
        model_fail(builder, LLCUDA_BAD_FORMAT, "%s of config.json must be an object, it is a %s",
                   json_is(old, JSON_OBJECT) || !old ? "rope_parameters" : "rope_scaling",
                   json_kind_name(json_is(old, JSON_OBJECT) || !old ? new : old));
        return NULL;
    }
    if (old && old->count > 0) {
        return "rope_scaling.";
    }
    if (!new) {
        return NULL;
    }
    snprintf(buffer, bytes, "rope_parameters.%.*s", group[0] ? (int)strlen(group) - 1 : 0, group);
    if (group[0] && json_is(model_config_value(builder, buffer), JSON_OBJECT)) {
        snprintf(buffer, bytes, "rope_parameters.%s", group);
        return buffer;
    }
    return "rope_parameters.";
}

static void scale_hf(struct model_builder *builder, struct table *table)
{
    char buffer[80];
    table->hf_section = find_section(builder, table->request->hf_group, buffer, sizeof buffer);
    if (!table->hf_section || builder->status != LLCUDA_OK) {
        return;
    }
    char key[96];
    snprintf(key, sizeof key, "%srope_type", table->hf_section);
    struct text_view type = model_read_text(builder, NULL, key);
    if (!type.data) {
        snprintf(key, sizeof key, "%stype", table->hf_section);
        type = model_read_text(builder, NULL, key);
    }
    /* "dynamic" changes the base only beyond the context that the model was made for. */
    if (!type.data || text_view_is(type, "default") || text_view_is(type, "dynamic")) {
        return;
    }
    if (text_view_is(type, "linear")) {
        double factor = demanded_section_number(builder, table, "factor");
        if (builder->status == LLCUDA_OK) {
            scale_linear(table, factor);
        }
    } else if (text_view_is(type, "llama3")) {
        scale_llama3(builder, table);
    } else if (text_view_is(type, "yarn")) {
        scale_yarn_hf(builder, table);
    } else if (text_view_is(type, "longrope") || text_view_is(type, "su")) {
        scale_longrope(builder, table);
    } else {
        fail_type(builder, type);
    }
}

uint32_t rotary_add(struct model_builder *builder, const struct rotary_request *request,
                    uint32_t *context_length)
{
    if (builder->status != LLCUDA_OK) {
        return PLAN_NONE;
    }
    struct table table = {.request = request,
                          .context_length = context_length,
                          .pairs = request->size / 2,
                          .magnitude = 1};
    for (uint32_t i = 0; i < table.pairs; i++) {
        table.frequencies[i] = pow(request->base, -2.0 * i / request->size);
    }
    if (request->scaled && model_is_gguf(builder)) {
        scale_gguf(builder, &table);
    } else if (request->scaled) {
        scale_hf(builder, &table);
    }
    if (builder->status != LLCUDA_OK) {
        return PLAN_NONE;
    }
    float rounded[PAIRS_MAX];
    for (uint32_t i = 0; i < table.pairs; i++) {
        rounded[i] = (float)table.frequencies[i];
    }
    if (builder->info->rotary[0] == '\0') {
        snprintf(builder->info->rotary, sizeof builder->info->rotary, "base %g%s", request->base,
                 table.note);
    }
    return plan_add_rotary_table(builder->plan, rounded, request->size, (float)table.magnitude);
}

double rotary_read_base(struct model_builder *builder, const char *hf_group, double fallback)
{
    double base =
        model_read_number_or(builder, "rope.freq_base", "rope_theta", BASE_MIN, BASE_MAX, fallback);
    if (!model_is_gguf(builder)) {
        char key[96];
        base = model_read_number_or(builder, NULL, "rope_parameters.rope_theta", BASE_MIN, BASE_MAX,
                                    base);
        snprintf(key, sizeof key, "rope_parameters.%srope_theta", hf_group);
        base = model_read_number_or(builder, NULL, key, BASE_MIN, BASE_MAX, base);
    }
    return base;
}

double rotary_read_local_base(struct model_builder *builder, double fallback)
{
    double base = model_read_number_or(builder, "rope.freq_base_swa", "rope_local_base_freq",
                                       BASE_MIN, BASE_MAX, fallback);
    return model_read_number_or(builder, NULL, "rope_parameters.sliding_attention.rope_theta",
                                BASE_MIN, BASE_MAX, base);
}

uint32_t rotary_read_size(struct model_builder *builder, uint32_t head_size)
{
    if (model_is_gguf(builder)) {
        return model_read_u32_or(builder, "rope.dimension_count", NULL, 2, head_size, head_size);
    }
    double part = model_read_number_or(builder, NULL, "partial_rotary_factor", 0.01, 1, 1);
    part =
        model_read_number_or(builder, NULL, "rope_parameters.partial_rotary_factor", 0.01, 1, part);
    return (uint32_t)(head_size * part);
}
