/* Owns the normalisers. Each step reads one text and writes another, in linear time; a step that
 * would change nothing passes its input on. Invariant: texts stay valid UTF-8. */
#include "text/normalize.h"

#include "base/utf8.h"
#include "text/normal_form.h"
#include "text/split.h"
#include "text/unicode.h"

/* A normalised text is at most this much longer; U+FDFA becomes eighteen characters. */
#define GROWTH_MAX       40u
#define GROWTH_MAX_EXTRA 65536u

static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */

llcuda_status normalizer_plan_compile(struct normalizer_plan *plan,
                                      const struct vocabulary *vocabulary,
                                      const struct trie *user_defined, struct llcuda_error *error)
{
    *plan = (struct normalizer_plan){.user_defined = user_defined};
    for (uint32_t i = 0; i < vocabulary->normalizer_count; i++) {
        const struct vocabulary_normalizer *spec = &vocabulary->normalizers[i];
        struct normalizer_step *step = &plan->steps[plan->step_count++];
        *step = (struct normalizer_step){.spec = spec};
        llcuda_status status = charsmap_open(&step->charsmap, spec->charsmap, error);
        if (!status && spec->kind == NORMALIZER_REPLACE && spec->pattern_is_regex) {
            plan->regex = true;
            status = regex_create(spec->pattern, &step->regex, error);
        }
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

void normalizer_plan_deinit(struct normalizer_plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        regex_destroy(plan->steps[i].regex);
    }
    *plan = (struct normalizer_plan){0};
}

void normalizer_state_deinit(struct normalizer_state *state)
{
    buffer_deinit(&state->texts[0]);
    buffer_deinit(&state->texts[1]);
}

static void append_code(struct buffer *out, uint32_t code)
{
    char encoded[4];
    buffer_append(out, encoded, utf8_encode(code, encoded));
}

static void append_lower(struct text_view text, struct buffer *out)
{
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        uint32_t lower[3];
        size_t count = unicode_lower(unicode_next(text.data + at, &length), lower);
        for (size_t i = 0; i < count; i++) {
            append_code(out, lower[i]);
        }
    }
}

/* Copies the characters whose class has none of these bits. */
static void append_without(struct text_view text, uint32_t unwanted, struct buffer *out)
{
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        uint32_t code = unicode_next(text.data + at, &length);
        if (!(unicode_class(code) & unwanted)) {
            buffer_append(out, text.data + at, length);
        }
    }
}

static struct text_view strip(struct text_view text, bool left, bool right)
{
    size_t begin = 0;
    size_t end = text.length;
    size_t length;
    while (left && begin < end && unicode_is_space(unicode_next(text.data + begin, &length))) {
        begin += length;
    }
    while (right && end > begin) {
        size_t last = unicode_previous(text.data, end);
        if (!unicode_is_space(unicode_next(text.data + last, &length))) {
            break;
        }
        end = last;
    }
    return text_view_make(text.data + begin, end - begin);
}

static void replace_literal(struct text_view text, const struct vocabulary_normalizer *spec,
                            struct buffer *out)
{
    size_t done = 0;
    while (done < text.length) {
        const char *at =
            memmem(text.data + done, text.length - done, spec->pattern.data, spec->pattern.length);
        if (!at) {
            break;
        }
        buffer_append(out, text.data + done, (size_t)(at - text.data) - done);
        buffer_append_view(out, spec->content);
        done = (size_t)(at - text.data) + spec->pattern.length;
    }
    buffer_append(out, text.data + done, text.length - done);
}

static llcuda_status replace_regex(const struct normalizer_step *step,
                                   struct normalizer_state *state, struct text_view text,
                                   struct buffer *out, struct llcuda_error *error)
{
    size_t done = 0;
    size_t from = 0;
    while (from <= text.length) {
        bool found;
        size_t start, stop;
        llcuda_status status = regex_find(step->regex, state->regex_state, text.data, text.length,
                                          from, &found, &start, &stop, error);
        if (status) {
            return status;
        }
        if (!found) {
            break;
        }
        size_t skip = 1;
        if (start == stop && start == done && done > 0) {
            if (from < text.length) {
                unicode_next(text.data + from, &skip);
            }
            from += skip;
            continue;
        }
        buffer_append(out, text.data + done, start - done);
        buffer_append_view(out, step->spec->content);
        done = from = stop;
        if (start == stop) {
            if (from < text.length) {
                unicode_next(text.data + from, &skip);
            }
            from += skip;
        }
    }
    buffer_append(out, text.data + done, text.length - done);
    return LLCUDA_OK;
}

static bool is_cjk(uint32_t code)
{
    /* The blocks that BERT's own code lists, with its U+2B920. */
    return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
           (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B73F) ||
           (code >= 0x2B740 && code <= 0x2B81F) || (code >= 0x2B920 && code <= 0x2CEAF) ||
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

/* Control characters out, white space to spaces, spaces around ideographs. */
static void bert_clean(struct text_view text, const struct vocabulary_normalizer *spec,
                       struct buffer *out)
{
    uint32_t other = CLASS_OF(UNICODE_CC) | CLASS_OF(UNICODE_CF) | CLASS_OF(UNICODE_CO);
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        uint32_t code = unicode_next(text.data + at, &length);
        bool control_space = code == '\t' || code == '\n' || code == '\r';
        if (spec->clean_text) {
            if (code == 0 || code == UTF8_REPLACEMENT ||
                (!control_space && (unicode_class(code) & other))) {
                continue;
            }
            if (unicode_is_space(code)) {
                buffer_append_byte(out, ' ');
                continue;
            }
        }
        bool spaced = spec->chinese_characters && is_cjk(code);
        if (spaced) {
            buffer_append_byte(out, ' ');
        }
        buffer_append(out, text.data + at, length);
        if (spaced) {
            buffer_append_byte(out, ' ');
        }
    }
}

static llcuda_status bert(const struct vocabulary_normalizer *spec, struct text_view text,
                          struct buffer *out, struct llcuda_error *error)
{
    struct buffer clean = {0};
    struct buffer decomposed = {0};
    bert_clean(text, spec, &clean);
    struct text_view current = buffer_view(&clean);
    llcuda_status status = LLCUDA_OK;
    if (spec->strip_accents && !normal_form_holds(NORMAL_FORM_D, current)) {
        struct buffer form = {0};
        status = normal_form_append(NORMAL_FORM_D, current, &form, error);
        append_without(buffer_view(&form), CLASS_OF(UNICODE_MN), &decomposed);
        current = buffer_view(&decomposed);
        clean.failed |= form.failed || decomposed.failed;
        buffer_deinit(&form);
    }
    if (spec->lowercase) {
        append_lower(current, out);
    } else {
        buffer_append_view(out, current);
    }
    out->failed |= clean.failed;
    buffer_deinit(&clean);
    buffer_deinit(&decomposed);
    return status;
}

static void nmt(struct text_view text, struct buffer *out)
{
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        uint32_t c = unicode_next(text.data + at, &length);
        bool removed = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                       c == 0x8F || c == 0x9F;
        bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                     (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                     c == 0xFEFF || c == UTF8_REPLACEMENT;
        if (space) {
            buffer_append_byte(out, ' ');
        } else if (!removed) {
            buffer_append(out, text.data + at, length);
        }
    }
}

/* Grapheme by grapheme, as Hugging Face does it: a short grapheme that begins with a prefix of the
 * map is replaced whole, else each of its characters on its own. */
static llcuda_status precompiled(const struct charsmap *map, struct text_view text,
                                 struct buffer *out, struct llcuda_error *error)
{
    size_t at = 0;
    while (at < text.length) {
        size_t end;
        llcuda_status status = grapheme_end(text, at, &end, error);
        if (status) {
            return status;
        }
        struct text_view grapheme = text_view_make(text.data + at, end - at);
        struct text_view replacement;
        size_t matched;
        if (grapheme.length < 6 && charsmap_find(map, grapheme, false, &matched, &replacement)) {
            buffer_append_view(out, replacement);
            at = end;
            continue;
        }
        while (at < end) {
            size_t length;
            unicode_next(text.data + at, &length);
            struct text_view part = text_view_make(text.data + at, length);
            bool found = charsmap_find(map, part, false, &matched, &replacement);
            buffer_append_view(out, found ? replacement : part);
            at += length;
        }
    }
    return LLCUDA_OK;
}

/* The normalised form of what `text` begins with; returns the bytes it stands for. */
static size_t sentencepiece_prefix(const struct normalizer_plan *plan, const struct charsmap *map,
                                   struct text_view text, struct text_view *form)
{
    size_t matched = 0;
    if (plan->user_defined &&
        trie_longest(plan->user_defined, text.data, text.length, &matched) != TRIE_NO_VALUE) {
        *form = text_view_make(text.data, matched);
        return matched;
    }
    if (!charsmap_find(map, text, true, &matched, form)) {
        unicode_next(text.data, &matched);
        *form = text_view_make(text.data, matched);
    }
    return matched;
}

static struct text_view drop(struct text_view text, size_t bytes)
{
    return text_view_make(text.data + bytes, text.length - bytes);
}

/* Spaces replaced, nothing else to do: most models have no charsmap and keep all white space. */
static void replace_spaces(struct text_view text, const char *space, struct buffer *out)
{
    size_t space_bytes = strlen(space);
    size_t done = 0;
    while (done < text.length) {
        const char *at = memchr(text.data + done, ' ', text.length - done);
        size_t stop = at ? (size_t)(at - text.data) : text.length;
        buffer_append(out, text.data + done, stop - done);
        if (at) {
            buffer_append(out, space, space_bytes);
            stop++;
        }
        done = stop;
    }
}

static void sentencepiece(const struct normalizer_plan *plan, const struct normalizer_step *step,
                          struct text_view text, bool prefix, struct buffer *out)
{
    const struct vocabulary_normalizer *spec = step->spec;
    struct text_view form;
    while (spec->remove_extra_whitespaces && text.length > 0) {
        size_t length = sentencepiece_prefix(plan, &step->charsmap, text, &form);
        if (!text_view_is(form, " ")) {
            break;
        }
        text = drop(text, length);
    }
    if (text.length == 0) {
        return;
    }
    const char *space = spec->escape_whitespaces ? space_symbol : " ";
    bool dummy = spec->add_dummy_prefix && prefix;
    if (dummy && !spec->treat_whitespace_as_suffix) {
        buffer_append_text(out, space);
    }
    bool plain =
        !spec->remove_extra_whitespaces && !plan->user_defined && step->charsmap.unit_count == 0;
    if (plain) {
        replace_spaces(text, space, out);
        text.length = 0;
    }
    bool after_space = spec->remove_extra_whitespaces;
    while (text.length > 0) {
        size_t length = sentencepiece_prefix(plan, &step->charsmap, text, &form);
        while (after_space && form.length > 0 && form.data[0] == ' ') {
            form = drop(form, 1);
        }
        for (size_t i = 0; i < form.length; i++) {
            if (form.data[i] == ' ') {
                buffer_append_text(out, space);
            } else {
                buffer_append_byte(out, form.data[i]);
            }
        }
        if (form.length > 0) {
            after_space = form.data[form.length - 1] == ' ';
        }
        after_space = after_space && spec->remove_extra_whitespaces;
        text = drop(text, length);
    }
    size_t space_bytes = strlen(space);
    while (spec->remove_extra_whitespaces && out->length >= space_bytes &&
           memcmp(out->data + out->length - space_bytes, space, space_bytes) == 0) {
        out->length -= space_bytes;
    }
    if (dummy && spec->treat_whitespace_as_suffix) {
        buffer_append_text(out, space);
    }
}

static void map_bytes(struct text_view text, struct buffer *out)
{
    for (size_t i = 0; i < text.length; i++) {
        append_code(out, byte_level_character((uint8_t)text.data[i]));
    }
}

static enum normal_form form_of(enum normalizer_kind kind)
{
    switch (kind) {
    case NORMALIZER_NFC:
        return NORMAL_FORM_C;
    case NORMALIZER_NFD:
        return NORMAL_FORM_D;
    case NORMALIZER_NFKC:
        return NORMAL_FORM_KC;
    default:
        return NORMAL_FORM_KD;
    }
}

/* True when the step leaves this text alone, found without running it. */
static bool changes_nothing(const struct vocabulary_normalizer *spec, struct text_view text)
{
    switch (spec->kind) {
    case NORMALIZER_NFC:
    case NORMALIZER_NFD:
    case NORMALIZER_NFKC:
    case NORMALIZER_NFKD:
        return normal_form_holds(form_of(spec->kind), text);
    case NORMALIZER_REPLACE:
        return !spec->pattern_is_regex &&
               (spec->pattern.length == 0 ||
                !memmem(text.data, text.length, spec->pattern.data, spec->pattern.length));
    case NORMALIZER_PREPEND:
    case NORMALIZER_BYTE_LEVEL:
        return text.length == 0;
    default:
        return false;
    }
}

static llcuda_status run_step(const struct normalizer_plan *plan,
                              const struct normalizer_step *step, struct normalizer_state *state,
                              struct text_view text, bool prefix, struct buffer *out,
                              struct llcuda_error *error)
{
    const struct vocabulary_normalizer *spec = step->spec;
    switch (spec->kind) {
    case NORMALIZER_NFC:
    case NORMALIZER_NFD:
    case NORMALIZER_NFKC:
    case NORMALIZER_NFKD:
        return normal_form_append(form_of(spec->kind), text, out, error);
    case NORMALIZER_LOWERCASE:
        append_lower(text, out);
        return LLCUDA_OK;
    case NORMALIZER_STRIP:
        buffer_append_view(out, strip(text, spec->left, spec->right));
        return LLCUDA_OK;
    case NORMALIZER_STRIP_ACCENTS:
        append_without(text, CLASS_M, out);
        return LLCUDA_OK;
    case NORMALIZER_REPLACE:
        if (spec->pattern_is_regex) {
            return replace_regex(step, state, text, out, error);
        }
        replace_literal(text, spec, out);
        return LLCUDA_OK;
    case NORMALIZER_PREPEND:
        buffer_append_view(out, spec->content);
        buffer_append_view(out, text);
        return LLCUDA_OK;
    case NORMALIZER_APPEND:
        buffer_append_view(out, text);
        buffer_append_view(out, spec->content);
        return LLCUDA_OK;
    case NORMALIZER_BERT:
        return bert(spec, text, out, error);
    case NORMALIZER_NMT:
        nmt(text, out);
        return LLCUDA_OK;
    case NORMALIZER_BYTE_LEVEL:
        map_bytes(text, out);
        return LLCUDA_OK;
    case NORMALIZER_PRECOMPILED:
        return precompiled(&step->charsmap, text, out, error);
    case NORMALIZER_SENTENCEPIECE:
        sentencepiece(plan, step, text, prefix, out);
        return LLCUDA_OK;
    }
    return error_set(error, LLCUDA_UNSUPPORTED, "a normaliser of an unknown kind");
}

llcuda_status normalize(const struct normalizer_plan *plan, struct normalizer_state *state,
                        struct text_view text, bool first, bool after_special,
                        struct text_view *out, struct llcuda_error *error)
{
    size_t limit = text.length > (SIZE_MAX - GROWTH_MAX_EXTRA) / GROWTH_MAX
                       ? SIZE_MAX - 1
                       : text.length * GROWTH_MAX + GROWTH_MAX_EXTRA;
    unsigned turn = 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct normalizer_step *step = &plan->steps[i];
        if (changes_nothing(step->spec, text)) {
            continue;
        }
        struct buffer *buffer = &state->texts[turn];
        buffer_clear(buffer);
        buffer->limit_bytes = limit;
        bool prefix = first || (after_special && step->spec->dummy_prefix_after_specials);
        llcuda_status status = run_step(plan, step, state, text, prefix, buffer, error);
        if (status) {
            return status;
        }
        if (buffer->failed) {
            return buffer->length > limit / 2
                       ? error_set(error, LLCUDA_LIMIT,
                                   "the normalised text is longer than %zu bytes", limit)
                       : error_no_memory(error, "a normalised text", text.length);
        }
        text = buffer_view(buffer);
        turn ^= 1;
    }
    *out = text;
    return LLCUDA_OK;
}
