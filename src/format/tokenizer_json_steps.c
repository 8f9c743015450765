/* Owns the steps of tokenizer.json: normalisers, pre-tokenisers, decoders, post-processors, each a
 * tagged object or a sequence of them. A step that is not known is UNSUPPORTED with its name and
 * place, never left out. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "format/tokenizer_internal.h"

static llcuda_status unsupported(struct llcuda_error *error, const struct json_value *value,
                                 const char *what)
{
    struct text_view type = json_text(json_member(value, "type"));
    return error_set_at(error, LLCUDA_UNSUPPORTED, value->offset,
                        "the %s '%.*s' at byte %u is not supported", what, TEXT_ARGUMENTS(type),
                        value->offset);
}

static llcuda_status bad(struct llcuda_error *error, const struct json_value *value,
                         const char *what)
{
    return error_set_at(error, LLCUDA_BAD_FORMAT, value->offset, "%s at byte %u", what,
                        value->offset);
}

static bool is_absent(const struct json_value *value)
{
    return !value || value->kind == JSON_NULL;
}

/* Copies a string member; absent leaves *out. */
static llcuda_status copy_member(struct vocabulary *vocabulary, const struct json_value *object,
                                 const char *key, struct text_view *out, struct llcuda_error *error)
{
    const struct json_value *value = json_member(object, key);
    if (is_absent(value)) {
        return LLCUDA_OK;
    }
    if (!json_is(value, JSON_STRING)) {
        return bad(error, value, "a string was expected");
    }
    *out = vocabulary_copy(vocabulary, json_text(value));
    return out->data ? LLCUDA_OK : error_no_memory(error, "a tokeniser's option", value->count);
}

/* {"Regex": "…"} or {"String": "…"}. */
static llcuda_status copy_pattern(struct vocabulary *vocabulary, const struct json_value *object,
                                  struct text_view *out, bool *is_regex, struct llcuda_error *error)
{
    const struct json_value *pattern = json_member(object, "pattern");
    if (!json_is(pattern, JSON_OBJECT) || pattern->count != 1) {
        return bad(error, object, "a pattern was expected");
    }
    *is_regex = json_member(pattern, "Regex") != NULL;
    return copy_member(vocabulary, pattern, *is_regex ? "Regex" : "String", out, error);
}

static llcuda_status read_sequence(struct vocabulary *vocabulary, const struct json_value *list,
                                   const struct json_value *value,
                                   llcuda_status (*reader)(struct vocabulary *,
                                                           const struct json_value *, uint32_t,
                                                           struct llcuda_error *),
                                   uint32_t depth, struct llcuda_error *error)
{
    if (!json_is(list, JSON_ARRAY)) {
        return bad(error, value, "a sequence has no list of steps");
    }
    if (depth + 1 > TOKENIZER_SEQUENCE_DEPTH) {
        return error_set_at(error, LLCUDA_LIMIT, value->offset,
                            "sequences are nested deeper than %u levels", TOKENIZER_SEQUENCE_DEPTH);
    }
    JSON_EACH(item, list)
    {
        llcuda_status status = reader(vocabulary, item, depth + 1, error);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

/* The position of a type in a list of names, -1 when it is not there. */
static int find_type(const struct json_value *value, const char *const *names)
{
    struct text_view type = json_text(json_member(value, "type"));
    for (int i = 0; names[i]; i++) {
        if (text_view_is(type, names[i])) {
            return i;
        }
    }
    return -1;
}

static llcuda_status too_many(struct llcuda_error *error, const struct json_value *value)
{
    return error_set_at(error, LLCUDA_LIMIT, value->offset,
                        "the tokeniser has more than %u steps of a kind", VOCABULARY_STEPS_MAX);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static llcuda_status read_charsmap(struct vocabulary *vocabulary, const struct json_value *value,
                                   struct text_view *out, struct llcuda_error *error)
{
    const struct json_value *member = json_member(value, "precompiled_charsmap");
    struct text_view text = json_text(member);
    char *data = arena_alloc(&vocabulary->arena, text.length / 4 * 3 + 4, 1);
    if (!data) {
        return error_no_memory(error, "a precompiled charsmap", text.length);
    }
    size_t length = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < text.length && text.data[i] != '='; i++) {
        int digit = base64_digit(text.data[i]);
        if (digit < 0) {
            return bad(error, member, "the precompiled charsmap is no base64");
        }
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            data[length++] = (char)(bits >> held);
        }
    }
    *out = text_view_make(data, length);
    return LLCUDA_OK;
}

llcuda_status read_normalizer(struct vocabulary *vocabulary, const struct json_value *value,
                              uint32_t depth, struct llcuda_error *error)
{
    static const char *const names[] = {
        "NFC",          "NFD",         "NFKC",    "NFKD",   "Lowercase",      "Strip",
        "StripAccents", "Replace",     "Prepend", "Append", "BertNormalizer", "Nmt",
        "ByteLevel",    "Precompiled", NULL};
    static const enum normalizer_kind kinds[] = {
        NORMALIZER_NFC,        NORMALIZER_NFD,        NORMALIZER_NFKC,          NORMALIZER_NFKD,
        NORMALIZER_LOWERCASE,  NORMALIZER_STRIP,      NORMALIZER_STRIP_ACCENTS, NORMALIZER_REPLACE,
        NORMALIZER_PREPEND,    NORMALIZER_APPEND,     NORMALIZER_BERT,          NORMALIZER_NMT,
        NORMALIZER_BYTE_LEVEL, NORMALIZER_PRECOMPILED};
    if (is_absent(value)) {
        return LLCUDA_OK;
    }
    if (text_view_is(json_text(json_member(value, "type")), "Sequence")) {
        return read_sequence(vocabulary, json_member(value, "normalizers"), value, read_normalizer,
                             depth, error);
    }
    int type = find_type(value, names);
    if (type < 0) {
        return unsupported(error, value, "normaliser");
    }
    if (vocabulary->normalizer_count == VOCABULARY_STEPS_MAX) {
        return too_many(error, value);
    }
    struct vocabulary_normalizer step = {
        .kind = kinds[type],
        .left = json_bool(json_member(value, "strip_left"), false),
        .right = json_bool(json_member(value, "strip_right"), false),
        .clean_text = json_bool(json_member(value, "clean_text"), true),
        .chinese_characters = json_bool(json_member(value, "handle_chinese_chars"), true),
        .lowercase = json_bool(json_member(value, "lowercase"), true),
    };
    step.strip_accents = json_bool(json_member(value, "strip_accents"), step.lowercase);
    llcuda_status status = LLCUDA_OK;
    if (step.kind == NORMALIZER_REPLACE) {
        status = copy_pattern(vocabulary, value, &step.pattern, &step.pattern_is_regex, error);
        if (!status) {
            status = copy_member(vocabulary, value, "content", &step.content, error);
        }
    } else if (step.kind == NORMALIZER_PREPEND) {
        status = copy_member(vocabulary, value, "prepend", &step.content, error);
    } else if (step.kind == NORMALIZER_APPEND) {
        status = copy_member(vocabulary, value, "append", &step.content, error);
    } else if (step.kind == NORMALIZER_PRECOMPILED) {
        status = read_charsmap(vocabulary, value, &step.charsmap, error);
    }
    if (!status) {
        vocabulary->normalizers[vocabulary->normalizer_count++] = step;
    }
    return status;
}

static bool read_behavior(const struct json_value *value, enum split_behavior *behavior)
{
    static const struct {
        const char *name;
        enum split_behavior behavior;
    } behaviors[] = {{"Isolated", SPLIT_ISOLATED},
                     {"Removed", SPLIT_REMOVED},
                     {"MergedWithPrevious", SPLIT_MERGED_WITH_PREVIOUS},
                     {"MergedWithNext", SPLIT_MERGED_WITH_NEXT},
                     {"Contiguous", SPLIT_CONTIGUOUS}};
    const struct json_value *name = json_member(value, "behavior");
    for (size_t i = 0; i < sizeof behaviors / sizeof behaviors[0]; i++) {
        if (text_view_is(json_text(name), behaviors[i].name)) {
            *behavior = behaviors[i].behavior;
            return true;
        }
    }
    return is_absent(name);
}

/* The scheme of Metaspace, which older files give as add_prefix_space. */
static bool read_prepend(const struct json_value *value, enum metaspace_prepend *prepend)
{
    const struct json_value *scheme = json_member(value, "prepend_scheme");
    struct text_view name = json_text(scheme);
    if (text_view_is(name, "first")) {
        *prepend = METASPACE_FIRST;
    } else if (text_view_is(name, "never")) {
        *prepend = METASPACE_NEVER;
    } else if (is_absent(scheme) || text_view_is(name, "always")) {
        *prepend = METASPACE_ALWAYS;
    } else {
        return false;
    }
    if (!json_bool(json_member(value, "add_prefix_space"), true)) {
        *prepend = METASPACE_NEVER;
    }
    return true;
}

static llcuda_status read_split_options(struct vocabulary *vocabulary,
                                        const struct json_value *value,
                                        struct vocabulary_splitter *step,
                                        struct llcuda_error *error)
{
    int64_t length = 5;
    const struct json_value *given = json_member(value, "length");
    if (given && !json_integer(given, 1, INT32_MAX, &length)) {
        return bad(error, given, "a length is no number in range");
    }
    step->length = (uint32_t)length;
    if (!read_behavior(value, &step->behavior)) {
        return bad(error, value, "a split has an unknown behaviour");
    }
    if (!read_prepend(value, &step->prepend)) {
        return bad(error, value, "Metaspace has an unknown prepend_scheme");
    }
    step->invert = json_bool(json_member(value, "invert"), false);
    step->add_prefix_space = json_bool(json_member(value, "add_prefix_space"), true);
    step->use_regex = json_bool(json_member(value, "use_regex"), true);
    step->split = json_bool(json_member(value, "split"), true);
    step->individual_digits = json_bool(json_member(value, "individual_digits"), false);
    switch (step->kind) {
    case SPLITTER_SPLIT:
        return copy_pattern(vocabulary, value, &step->pattern, &step->pattern_is_regex, error);
    case SPLITTER_METASPACE:
        step->content = text_view_of("\xE2\x96\x81");
        return copy_member(vocabulary, value, "replacement", &step->content, error);
    case SPLITTER_DELIMITER:
        return copy_member(vocabulary, value, "delimiter", &step->content, error);
    default:
        return LLCUDA_OK;
    }
}

llcuda_status read_splitter(struct vocabulary *vocabulary, const struct json_value *value,
                            uint32_t depth, struct llcuda_error *error)
{
    static const char *const names[] = {"Split",
                                        "ByteLevel",
                                        "Metaspace",
                                        "Digits",
                                        "Whitespace",
                                        "WhitespaceSplit",
                                        "Punctuation",
                                        "BertPreTokenizer",
                                        "CharDelimiterSplit",
                                        "FixedLength",
                                        NULL};
    static const enum splitter_kind kinds[] = {
        SPLITTER_SPLIT,      SPLITTER_BYTE_LEVEL,       SPLITTER_METASPACE,   SPLITTER_DIGITS,
        SPLITTER_WHITESPACE, SPLITTER_WHITESPACE_SPLIT, SPLITTER_PUNCTUATION, SPLITTER_BERT,
        SPLITTER_DELIMITER,  SPLITTER_FIXED_LENGTH};
    if (is_absent(value)) {
        return LLCUDA_OK;
    }
    if (text_view_is(json_text(json_member(value, "type")), "Sequence")) {
        return read_sequence(vocabulary, json_member(value, "pretokenizers"), value, read_splitter,
                             depth, error);
    }
    int type = find_type(value, names);
    if (type < 0) {
        return unsupported(error, value, "pre-tokeniser");
    }
    if (vocabulary->splitter_count == VOCABULARY_STEPS_MAX) {
        return too_many(error, value);
    }
    struct vocabulary_splitter step = {.kind = kinds[type]};
    llcuda_status status = read_split_options(vocabulary, value, &step, error);
    if (!status) {
        vocabulary->splitters[vocabulary->splitter_count++] = step;
    }
    return status;
}

static llcuda_status read_decoder_options(struct vocabulary *vocabulary,
                                          const struct json_value *value,
                                          struct vocabulary_decoder *step,
                                          struct llcuda_error *error)
{
    int64_t start = 0;
    int64_t stop = 0;
    bool is_regex;
    llcuda_status status = LLCUDA_OK;
    if (!read_prepend(value, &step->prepend)) {
        return bad(error, value, "Metaspace has an unknown prepend_scheme");
    }
    step->cleanup = json_bool(json_member(value, "cleanup"), true);
    switch (step->kind) {
    case DECODER_METASPACE:
        step->content = text_view_of("\xE2\x96\x81");
        return copy_member(vocabulary, value, "replacement", &step->content, error);
    case DECODER_REPLACE:
        status = copy_pattern(vocabulary, value, &step->pattern, &is_regex, error);
        if (!status && is_regex) {
            return unsupported(error, value, "regular expression of the decoder");
        }
        return status ? status : copy_member(vocabulary, value, "content", &step->content, error);
    case DECODER_STRIP:
        if (!json_integer(json_member(value, "start"), 0, UINT32_MAX, &start) ||
            !json_integer(json_member(value, "stop"), 0, UINT32_MAX, &stop)) {
            return bad(error, value, "Strip has no start and stop in range");
        }
        step->start = (uint32_t)start;
        step->stop = (uint32_t)stop;
        return copy_member(vocabulary, value, "content", &step->content, error);
    case DECODER_WORDPIECE:
        step->content = text_view_of("##");
        return copy_member(vocabulary, value, "prefix", &step->content, error);
    case DECODER_BPE:
        step->content = text_view_of("</w>");
        return copy_member(vocabulary, value, "suffix", &step->content, error);
    default:
        return LLCUDA_OK;
    }
}

llcuda_status read_decoder(struct vocabulary *vocabulary, const struct json_value *value,
                           uint32_t depth, struct llcuda_error *error)
{
    static const char *const names[] = {"ByteLevel", "Metaspace", "ByteFallback", "Fuse", "Replace",
                                        "Strip",     "WordPiece", "BPEDecoder",   NULL};
    static const enum decoder_kind kinds[] = {
        DECODER_BYTE_LEVEL, DECODER_METASPACE, DECODER_BYTE_FALLBACK, DECODER_FUSE,
        DECODER_REPLACE,    DECODER_STRIP,     DECODER_WORDPIECE,     DECODER_BPE};
    if (is_absent(value)) {
        return LLCUDA_OK;
    }
    if (text_view_is(json_text(json_member(value, "type")), "Sequence")) {
        return read_sequence(vocabulary, json_member(value, "decoders"), value, read_decoder, depth,
                             error);
    }
    int type = find_type(value, names);
    if (type < 0) {
        return unsupported(error, value, "decoder");
    }
    if (vocabulary->decoder_count == VOCABULARY_STEPS_MAX) {
        return too_many(error, value);
    }
    struct vocabulary_decoder step = {.kind = kinds[type]};
    llcuda_status status = read_decoder_options(vocabulary, value, &step, error);
    if (!status) {
        vocabulary->decoders[vocabulary->decoder_count++] = step;
    }
    return status;
}

/* Ids that one processor puts around what is there. */
struct surround {
    uint32_t prefix[VOCABULARY_TEMPLATE_MAX];
    uint32_t prefix_count;
    uint32_t suffix[VOCABULARY_TEMPLATE_MAX];
    uint32_t suffix_count;
};

static bool surround_add(struct surround *surround, bool before, int64_t id)
{
    uint32_t *ids = before ? surround->prefix : surround->suffix;
    uint32_t *count = before ? &surround->prefix_count : &surround->suffix_count;
    if (*count == VOCABULARY_TEMPLATE_MAX) {
        return false;
    }
    ids[(*count)++] = (uint32_t)id;
    return true;
}

/* Puts a processor's ids outside of those of the processors before it. */
static bool surround_apply(struct vocabulary *vocabulary, const struct surround *surround)
{
    if (surround->prefix_count + vocabulary->prefix_count > VOCABULARY_TEMPLATE_MAX ||
        surround->suffix_count + vocabulary->suffix_count > VOCABULARY_TEMPLATE_MAX) {
        return false;
    }
    memmove(vocabulary->prefix_ids + surround->prefix_count, vocabulary->prefix_ids,
            vocabulary->prefix_count * sizeof(uint32_t));
    memcpy(vocabulary->prefix_ids, surround->prefix, surround->prefix_count * sizeof(uint32_t));
    memcpy(vocabulary->suffix_ids + vocabulary->suffix_count, surround->suffix,
           surround->suffix_count * sizeof(uint32_t));
    vocabulary->prefix_count += surround->prefix_count;
    vocabulary->suffix_count += surround->suffix_count;
    return true;
}

static llcuda_status read_template(const struct vocabulary *vocabulary,
                                   const struct json_value *value, struct surround *surround,
                                   struct llcuda_error *error)
{
    const struct json_value *single = json_member(value, "single");
    const struct json_value *tokens = json_member(value, "special_tokens");
    bool before = true;
    if (!json_is(single, JSON_ARRAY)) {
        return bad(error, value, "a template without its form for one text");
    }
    JSON_EACH(piece, single)
    {
        const struct json_value *token = json_member(piece, "SpecialToken");
        if (!token) {
            bool text =
                text_view_is(json_text(json_member(json_member(piece, "Sequence"), "id")), "A");
            if (!text || !before) {
                return bad(error, piece, "a template for one text that is not around one text");
            }
            before = false;
            continue;
        }
        const struct json_value *entry = NULL;
        struct text_view name = json_text(json_member(token, "id"));
        JSON_EACH_KEY(key, tokens)
        {
            if (text_view_equal(json_text(key), name)) {
                entry = json_next(key);
            }
        }
        const struct json_value *ids = json_member(entry, "ids");
        if (!json_is(ids, JSON_ARRAY)) {
            return bad(error, piece, "a template names a special token without ids");
        }
        JSON_EACH(item, ids)
        {
            int64_t id;
            if (!json_integer(item, 0, (int64_t)vocabulary->token_count - 1, &id) ||
                !surround_add(surround, before, id)) {
                return bad(error, item, "an id of a template is out of range, or one too many");
            }
        }
    }
    return before ? bad(error, single, "a template without a place for the text") : LLCUDA_OK;
}

/* ["[SEP]", 102] */
static bool read_named_id(const struct vocabulary *vocabulary, const struct json_value *value,
                          const char *key, int64_t *id)
{
    const struct json_value *pair = json_member(value, key);
    return json_is(pair, JSON_ARRAY) && pair->count == 2 &&
           json_integer(json_next(json_first(pair)), 0, (int64_t)vocabulary->token_count - 1, id);
}

llcuda_status read_post_processor(struct vocabulary *vocabulary, const struct json_value *value,
                                  uint32_t depth, struct llcuda_error *error)
{
    static const char *const names[] = {"ByteLevel", "TemplateProcessing", "RobertaProcessing",
                                        "BertProcessing", NULL};
    if (is_absent(value)) {
        return LLCUDA_OK;
    }
    if (text_view_is(json_text(json_member(value, "type")), "Sequence")) {
        return read_sequence(vocabulary, json_member(value, "processors"), value,
                             read_post_processor, depth, error);
    }
    struct surround surround = {0};
    llcuda_status status = LLCUDA_OK;
    int64_t cls, sep;
    switch (find_type(value, names)) {
    case 0:
        return LLCUDA_OK;
    case 1:
        status = read_template(vocabulary, value, &surround, error);
        break;
    case 2:
    case 3:
        if (!read_named_id(vocabulary, value, "cls", &cls) ||
            !read_named_id(vocabulary, value, "sep", &sep)) {
            return bad(error, value, "a post-processor without cls and sep in range");
        }
        surround_add(&surround, true, cls);
        surround_add(&surround, false, sep);
        break;
    default:
        return unsupported(error, value, "post-processor");
    }
    if (!status && !surround_apply(vocabulary, &surround)) {
        return error_set_at(error, LLCUDA_LIMIT, value->offset,
                            "more than %u tokens would surround a text", VOCABULARY_TEMPLATE_MAX);
    }
    return status;
}
