/* Owns the table of recipes and their rules. */
#include "convert/recipe.h"

#include <string.h>

/* X(id, name, general.file_type, type) */
#define RECIPE_LIST(X)              \
    X(F32, "f32", 0, F32)           \
    X(F16, "f16", 1, F16)           \
    X(BF16, "bf16", 32, BF16)       \
    X(Q8_0, "q8_0", 7, Q8_0)        \
    X(Q6_K, "q6_k", 18, Q6_K)       \
    X(Q5_K_M, "q5_k_m", 17, Q5_K)   \
    X(Q5_K_S, "q5_k_s", 16, Q5_K)   \
    X(Q5_K, "q5_k", 16, Q5_K)       \
    X(Q5_0, "q5_0", 8, Q5_0)        \
    X(Q5_1, "q5_1", 9, Q5_1)        \
    X(Q4_K_M, "q4_k_m", 15, Q4_K)   \
    X(Q4_K_S, "q4_k_s", 14, Q4_K)   \
    X(Q4_K, "q4_k", 14, Q4_K)       \
    X(Q4_0, "q4_0", 2, Q4_0)        \
    X(Q4_1, "q4_1", 3, Q4_1)        \
    X(IQ4_NL, "iq4_nl", 25, IQ4_NL) \
    X(IQ4_XS, "iq4_xs", 30, IQ4_XS) \
    X(MXFP4, "mxfp4", 38, MXFP4)    \
    X(Q3_K_L, "q3_k_l", 13, Q3_K)   \
    X(Q3_K_M, "q3_k_m", 12, Q3_K)   \
    X(Q3_K_S, "q3_k_s", 11, Q3_K)   \
    X(Q3_K, "q3_k", 11, Q3_K)       \
    X(Q2_K, "q2_k", 10, Q2_K)       \
    X(Q2_K_S, "q2_k_s", 21, Q2_K)   \
    X(TQ2_0, "tq2_0", 37, TQ2_0)    \
    X(TQ1_0, "tq1_0", 36, TQ1_0)

enum recipe_id {
#define RECIPE_ENUM(id, ...) RECIPE_##id,
    RECIPE_LIST(RECIPE_ENUM)
#undef RECIPE_ENUM
        RECIPE_COUNT
};

static const struct recipe recipes[RECIPE_COUNT] = {
#define RECIPE_ROW(id, name, file_type, type) [RECIPE_##id] = {name, file_type, DTYPE_##type},
    RECIPE_LIST(RECIPE_ROW)
#undef RECIPE_ROW
};

enum role {
    ROLE_OTHER,
    ROLE_EMBEDDING,
    ROLE_OUTPUT,
    ROLE_QKV,
    ROLE_VALUE,
    ROLE_ATTENDED,
    ROLE_DOWN,
    ROLE_ROUTER /* of experts: small, and its choices are final */
};

/* When a rule holds. */
enum condition {
    ALWAYS,
    GROUPED,            /* four or more heads share the values */
    FIRST_TWO,          /* layers */
    FIRST_FOUR,         /* layers */
    FIRST_SIXTEENTH,    /* of the layers */
    FIRST_EIGHTH,       /* of the layers */
    FIRST_EIGHTH_BLIND, /* … without an importance matrix */
    MORE_BITS           /* the first and last eighth and every third layer between */
};

/* The first rule that holds decides. */
static const struct rule {
    enum role role;
    enum recipe_id recipe;
    enum condition condition;
    enum dtype dtype;
} rules[] = {
    {ROLE_VALUE, RECIPE_Q2_K, GROUPED, DTYPE_Q4_K},
    {ROLE_VALUE, RECIPE_Q2_K, ALWAYS, DTYPE_Q3_K},
    {ROLE_VALUE, RECIPE_Q2_K_S, GROUPED, DTYPE_Q4_K},
    {ROLE_VALUE, RECIPE_Q3_K_M, FIRST_TWO, DTYPE_Q5_K},
    {ROLE_VALUE, RECIPE_Q3_K_M, ALWAYS, DTYPE_Q4_K},
    {ROLE_VALUE, RECIPE_Q3_K_L, ALWAYS, DTYPE_Q5_K},
    {ROLE_VALUE, RECIPE_Q4_K_S, FIRST_FOUR, DTYPE_Q5_K},
    {ROLE_VALUE, RECIPE_Q4_K_M, MORE_BITS, DTYPE_Q6_K},
    {ROLE_VALUE, RECIPE_Q5_K_M, MORE_BITS, DTYPE_Q6_K},
    {ROLE_VALUE, RECIPE_IQ4_NL, GROUPED, DTYPE_Q5_K},
    {ROLE_VALUE, RECIPE_IQ4_XS, GROUPED, DTYPE_Q5_K},
    {ROLE_DOWN, RECIPE_Q2_K, ALWAYS, DTYPE_Q3_K},
    {ROLE_DOWN, RECIPE_Q2_K_S, FIRST_EIGHTH, DTYPE_Q4_K},
    {ROLE_DOWN, RECIPE_Q3_K_M, FIRST_SIXTEENTH, DTYPE_Q5_K},
    {ROLE_DOWN, RECIPE_Q3_K_M, ALWAYS, DTYPE_Q4_K},
    {ROLE_DOWN, RECIPE_Q3_K_L, ALWAYS, DTYPE_Q5_K},
    {ROLE_DOWN, RECIPE_Q4_K_S, FIRST_EIGHTH, DTYPE_Q5_K},
    {ROLE_DOWN, RECIPE_Q4_K_M, MORE_BITS, DTYPE_Q6_K},
    {ROLE_DOWN, RECIPE_Q5_K_M, MORE_BITS, DTYPE_Q6_K},
    {ROLE_DOWN, RECIPE_IQ4_NL, FIRST_EIGHTH_BLIND, DTYPE_Q5_K},
    {ROLE_DOWN, RECIPE_IQ4_XS, FIRST_EIGHTH_BLIND, DTYPE_Q5_K},
    {ROLE_ATTENDED, RECIPE_Q2_K, ALWAYS, DTYPE_Q3_K},
    {ROLE_ATTENDED, RECIPE_Q3_K_M, ALWAYS, DTYPE_Q4_K},
    {ROLE_ATTENDED, RECIPE_Q3_K_L, ALWAYS, DTYPE_Q5_K},
    {ROLE_QKV, RECIPE_Q3_K_M, ALWAYS, DTYPE_Q4_K},
    {ROLE_QKV, RECIPE_Q3_K_L, ALWAYS, DTYPE_Q4_K},
    {ROLE_QKV, RECIPE_Q4_K_M, ALWAYS, DTYPE_Q5_K},
    {ROLE_QKV, RECIPE_Q5_K_M, ALWAYS, DTYPE_Q6_K},
    {ROLE_EMBEDDING, RECIPE_TQ1_0, ALWAYS, DTYPE_Q4_K},
    {ROLE_EMBEDDING, RECIPE_TQ2_0, ALWAYS, DTYPE_Q4_K},
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const struct recipe *recipe_find(const char *name)
{
    for (int i = 0; i < RECIPE_COUNT; i++) {
        const char *wanted = recipes[i].name;
        size_t at = 0;
        while (wanted[at] && lower(name[at]) == wanted[at]) {
            at++;
        }
        if (!wanted[at] && !name[at]) {
            return &recipes[i];
        }
    }
    return NULL;
}

void recipe_names(struct buffer *out)
{
    for (int i = 0; i < RECIPE_COUNT; i++) {
        buffer_printf(out, "%s%s", i ? ", " : "", recipes[i].name);
    }
}

/* "blk.12.attn_v.weight": the role, and the layer's number. */
static enum role role_of(struct text_view name, uint32_t *layer)
{
    static const struct {
        const char *name;
        enum role role;
    } layer_roles[] = {{"attn_v.weight", ROLE_VALUE},
                       {"attn_output.weight", ROLE_ATTENDED},
                       {"attn_qkv.weight", ROLE_QKV},
                       {"ffn_down.weight", ROLE_DOWN},
                       {"ffn_down_exps.weight", ROLE_DOWN},
                       {"ffn_gate_inp.weight", ROLE_ROUTER},
                       {"ffn_gate_inp_shexp.weight", ROLE_ROUTER}};
    *layer = 0;
    if (text_view_is(name, "token_embd.weight")) {
        return ROLE_EMBEDDING;
    }
    if (text_view_is(name, "output.weight")) {
        return ROLE_OUTPUT;
    }
    if (name.length < 4 || memcmp(name.data, "blk.", 4) != 0) {
        return ROLE_OTHER;
    }
    size_t at = 4;
    while (at < name.length && name.data[at] >= '0' && name.data[at] <= '9' && *layer < 1000000) {
        *layer = *layer * 10 + (uint32_t)(name.data[at++] - '0');
    }
    if (at == name.length) {
        return ROLE_OTHER;
    }
    struct text_view rest = text_view_make(name.data + at + 1, name.length - at - 1);
    for (size_t i = 0; i < sizeof layer_roles / sizeof layer_roles[0]; i++) {
        if (text_view_is(rest, layer_roles[i].name)) {
            return layer_roles[i].role;
        }
    }
    return ROLE_OTHER;
}

/* Biases of experts are a table, one row each. */
static bool is_table(struct text_view name)
{
    static const char end[] = ".bias";
    size_t length = sizeof end - 1;
    return name.length > length && memcmp(name.data + (name.length - length), end, length) == 0;
}

static bool holds(enum condition condition, const struct recipe_model *model, uint32_t layer)
{
    uint32_t count = model->layer_count;
    uint32_t eighth = count / 8;
    switch (condition) {
    case ALWAYS:
        return true;
    case GROUPED:
        return model->group_size >= 4;
    case FIRST_TWO:
        return layer < 2;
    case FIRST_FOUR:
        return layer < 4;
    case FIRST_SIXTEENTH:
        return layer < count / 16;
    case FIRST_EIGHTH:
        return layer < eighth;
    case FIRST_EIGHTH_BLIND:
        return layer < eighth && !model->has_importance;
    case MORE_BITS:
        return layer < eighth || layer >= 7 * count / 8 || (layer - eighth) % 3 == 2;
    }
    return false;
}

static bool is_plain(enum dtype dtype)
{
    return dtype_info(dtype)->block_elements == 1;
}

/* A type with blocks of 32 in place of one with super-blocks: never a smaller one. */
static enum dtype stand_in(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_Q4_K:
        return DTYPE_Q5_0;
    case DTYPE_Q5_K:
        return DTYPE_Q5_1;
    case DTYPE_Q6_K:
        return DTYPE_Q8_0;
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
        return DTYPE_Q4_0;
    default:
        return DTYPE_IQ4_NL;
    }
}

llcuda_status recipe_dtype(const struct recipe *recipe, const struct recipe_model *model,
                           struct text_view name, const struct tensor *tensor, enum dtype *dtype,
                           struct llcuda_error *error)
{
    uint32_t layer;
    enum role role = role_of(name, &layer);
    enum recipe_id id = (enum recipe_id)(recipe - recipes);
    if (tensor->dtype == DTYPE_F8_E4M3) {
        return error_set(
            error, LLCUDA_UNSUPPORTED,
            "tensor '%.*s' is of 8-bit floats, whose scales are not read here: convert "
            "the model that it was made from",
            TEXT_ARGUMENTS(name));
    }
    if (tensor->rank < 2 || role == ROLE_ROUTER || is_table(name)) {
        *dtype = DTYPE_F32;
        return LLCUDA_OK;
    }
    *dtype = recipe->dtype;
    bool is_output = role == ROLE_OUTPUT || (role == ROLE_EMBEDDING && model->tied);
    if (is_output && !is_plain(*dtype) && *dtype != DTYPE_Q8_0) {
        *dtype = DTYPE_Q6_K;
    } else {
        for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
            if (rules[i].role == role && rules[i].recipe == id &&
                holds(rules[i].condition, model, layer)) {
                *dtype = rules[i].dtype;
                break;
            }
        }
    }
    uint64_t columns = tensor->shape[tensor->rank - 1];
    if (columns % dtype_info(*dtype)->block_elements != 0 && columns % 32 == 0) {
        *dtype = stand_in(*dtype);
    }
    if (columns % dtype_info(*dtype)->block_elements != 0) {
        return error_set(error, LLCUDA_INVALID_ARGUMENT,
                         "tensor '%.*s' has rows of %llu, which no block of 32 divides: %s cannot "
                         "hold it, f32, f16 and bf16 can",
                         TEXT_ARGUMENTS(name), (unsigned long long)columns, recipe->name);
    }
    return LLCUDA_OK;
}
