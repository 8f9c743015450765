/* Owns the compiler and matcher of one-class expressions. Invariants: ranges are sorted and
 * disjoint; the ASCII bits say the same as the slow test. What it does not understand it leaves to
 * PCRE2: a wrong "no" costs speed, a wrong "yes" would cost exactness, so it is strict. */
#include "text/char_class.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "text/unicode.h"

struct reader {
    const char *text;
    size_t end;
    size_t at;
};

static bool accept(struct reader *reader, const char *word)
{
    size_t length = strlen(word);
    if (reader->end - reader->at < length || memcmp(reader->text + reader->at, word, length) != 0) {
        return false;
    }
    reader->at += length;
    return true;
}

static bool category_bits(const char *name, size_t length, uint32_t *classes)
{
    static const struct {
        const char *name;
        uint32_t classes;
    } known[] = {
        {"L", CLASS_L},
        {"M", CLASS_M},
        {"N", CLASS_N},
        {"P", CLASS_P},
        {"S", CLASS_S},
        {"Lu", CLASS_OF(UNICODE_LU)},
        {"Ll", CLASS_OF(UNICODE_LL)},
        {"Lt", CLASS_OF(UNICODE_LT)},
        {"Lm", CLASS_OF(UNICODE_LM)},
        {"Lo", CLASS_OF(UNICODE_LO)},
        {"Nd", CLASS_OF(UNICODE_ND)},
        {"Han", CLASS_HAN},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) == length && memcmp(known[i].name, name, length) == 0) {
            *classes |= known[i].classes;
            return true;
        }
    }
    return false;
}

/* \s, \d or \p{…} after its backslash. */
static bool read_class_escape(struct reader *reader, uint32_t *classes)
{
    if (accept(reader, "s")) {
        *classes |= CLASS_SPACE;
        return true;
    }
    if (accept(reader, "d")) {
        *classes |= CLASS_OF(UNICODE_ND);
        return true;
    }
    if (!accept(reader, "p{")) {
        return false;
    }
    const char *name = reader->text + reader->at;
    const char *close = memchr(name, '}', reader->end - reader->at);
    if (!close || !category_bits(name, (size_t)(close - name), classes)) {
        return false;
    }
    reader->at += (size_t)(close - name) + 1;
    return true;
}

/* One literal character, escaped or not, that may stand in a class. */
static bool read_literal(struct reader *reader, uint32_t *code)
{
    if (accept(reader, "\\")) {
        static const char plain[] = "\\.-[]^$|+*?(){}/\"'<>=~`!#%&,:;@_";
        if (accept(reader, "n")) {
            *code = '\n';
        } else if (accept(reader, "r")) {
            *code = '\r';
        } else if (accept(reader, "t")) {
            *code = '\t';
        } else if (reader->at < reader->end && reader->text[reader->at] != 0 &&
                   strchr(plain, reader->text[reader->at])) {
            *code = (uint8_t)reader->text[reader->at++];
        } else {
            return false;
        }
        return true;
    }
    size_t length = utf8_decode(reader->text + reader->at, reader->end - reader->at, code);
    reader->at += length;
    return length > 0;
}

static bool add_range(struct char_class *set, uint32_t first, uint32_t last)
{
    if (first > last || set->range_count == CHAR_CLASS_RANGES_MAX) {
        return false;
    }
    set->ranges[set->range_count++] = (struct char_range){first, last};
    return true;
}

/* The inside of a class up to and with its ']'. Nested classes (Oniguruma's union) are the same as
 * their members when nothing is negated or intersected. */
static bool read_set(struct reader *reader, struct char_class *set)
{
    uint32_t depth = 1;
    bool empty = true;
    while (reader->at < reader->end) {
        char c = reader->text[reader->at];
        if (c == ']' && !empty) {
            reader->at++;
            if (--depth == 0) {
                return true;
            }
            continue;
        }
        if (c == '[') {
            bool odd = reader->end - reader->at < 2 || reader->text[reader->at + 1] == '^' ||
                       reader->text[reader->at + 1] == ':' || reader->text[reader->at + 1] == ']';
            if (odd || ++depth > 2) {
                return false;
            }
            reader->at++;
            continue;
        }
        if (c == '&' && reader->end - reader->at >= 2 && reader->text[reader->at + 1] == '&') {
            return false;
        }
        empty = false;
        size_t before = reader->at;
        if (c == '\\') {
            reader->at++;
            if (read_class_escape(reader, &set->classes)) {
                continue;
            }
            reader->at = before;
        }
        uint32_t first;
        if (!read_literal(reader, &first)) {
            return false;
        }
        uint32_t last = first;
        bool range = reader->end - reader->at >= 2 && reader->text[reader->at] == '-' &&
                     reader->text[reader->at + 1] != ']' && reader->text[reader->at + 1] != '[';
        if (range) {
            reader->at++;
            if (!read_literal(reader, &last)) {
                return false;
            }
        }
        if (!add_range(set, first, last)) {
            return false;
        }
    }
    return false;
}

static bool read_count(struct reader *reader, uint32_t *least, uint32_t *most)
{
    *least = *most = 1;
    if (accept(reader, "+")) {
        *most = 0;
    } else if (accept(reader, "{1,3}")) {
        *most = 3;
    } else if (accept(reader, "{1,2}")) {
        *most = 2;
    } else if (!accept(reader, "{1}")) {
        return reader->at == reader->end;
    }
    return reader->at == reader->end;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct char_range *left = a;
    const struct char_range *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

static void finish_set(struct char_class *set)
{
    qsort(set->ranges, set->range_count, sizeof *set->ranges, compare_ranges);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < set->range_count; i++) {
        if (kept > 0 && set->ranges[i].first <= set->ranges[kept - 1].last + 1) {
            if (set->ranges[i].last > set->ranges[kept - 1].last) {
                set->ranges[kept - 1].last = set->ranges[i].last;
            }
        } else {
            set->ranges[kept++] = set->ranges[i];
        }
    }
    set->range_count = kept;
    uint64_t bits[2] = {0, 0};
    for (uint32_t code = 0; code < 128; code++) {
        bool member = (unicode_ascii_class[code] & set->classes) != 0;
        for (uint32_t i = 0; i < kept && !member; i++) {
            member = code >= set->ranges[i].first && code <= set->ranges[i].last;
        }
        if (member != set->negated) {
            bits[code >> 6] |= 1ull << (code & 63);
        }
    }
    set->ascii[0] = bits[0];
    set->ascii[1] = bits[1];
}

/* "[0-9][0-9][0-9]" is a class repeated three times. */
static bool read_tripled(struct text_view expression, struct class_pattern *pattern)
{
    if (!text_view_is(expression, "[0-9][0-9][0-9]")) {
        return false;
    }
    pattern->least = pattern->most = 3;
    return add_range(&pattern->set, '0', '9');
}

static bool read_pattern(struct text_view expression, struct class_pattern *pattern)
{
    if (read_tripled(expression, pattern)) {
        return true;
    }
    struct reader reader = {expression.data, expression.length, 0};
    if (accept(&reader, "\\s?")) {
        pattern->prefix = CLASS_PREFIX_WHITE_SPACE;
    } else if (accept(&reader, " ?")) {
        pattern->prefix = CLASS_PREFIX_SPACE;
    }
    if (accept(&reader, "[")) {
        pattern->set.negated = accept(&reader, "^");
        if (!read_set(&reader, &pattern->set)) {
            return false;
        }
    } else if (accept(&reader, "\\S")) {
        pattern->set.negated = true;
        pattern->set.classes = CLASS_SPACE;
    } else if (!accept(&reader, "\\") || !read_class_escape(&reader, &pattern->set.classes)) {
        return false;
    }
    return read_count(&reader, &pattern->least, &pattern->most);
}

bool class_pattern_compile(struct class_pattern *pattern, struct text_view expression,
                           llcuda_status *status)
{
    *pattern = (struct class_pattern){.least = 1, .most = 1};
    *status = LLCUDA_OK;
    pattern->set.ranges = malloc(CHAR_CLASS_RANGES_MAX * sizeof *pattern->set.ranges);
    if (!pattern->set.ranges) {
        *status = LLCUDA_OUT_OF_MEMORY;
        return false;
    }
    if (!read_pattern(expression, pattern)) {
        class_pattern_deinit(pattern);
        return false;
    }
    finish_set(&pattern->set);
    return true;
}

void class_pattern_deinit(struct class_pattern *pattern)
{
    free(pattern->set.ranges);
    *pattern = (struct class_pattern){.least = 1, .most = 1};
}

bool char_class_has(const struct char_class *set, uint32_t code)
{
    if (code < 128) {
        return (set->ascii[code >> 6] >> (code & 63) & 1) != 0;
    }
    bool member = (unicode_class(code) & set->classes) != 0;
    uint32_t low = 0;
    uint32_t high = set->range_count;
    while (!member && low < high) {
        uint32_t middle = (low + high) / 2;
        if (code < set->ranges[middle].first) {
            high = middle;
        } else if (code > set->ranges[middle].last) {
            low = middle + 1;
        } else {
            member = true;
        }
    }
    return member != set->negated;
}

static size_t match_set(const struct class_pattern *pattern, const char *text, size_t end,
                        size_t at)
{
    size_t count = 0;
    size_t stop = at;
    while (stop < end && (pattern->most == 0 || count < pattern->most)) {
        size_t length;
        if (!char_class_has(&pattern->set, unicode_next(text + stop, &length))) {
            break;
        }
        stop += length;
        count++;
    }
    return count >= pattern->least ? stop : at;
}

size_t class_pattern_match(const struct class_pattern *pattern, const char *text, size_t end,
                           size_t at)
{
    if (pattern->prefix != CLASS_PREFIX_NONE) {
        size_t length;
        uint32_t code = unicode_next(text + at, &length);
        bool prefix = pattern->prefix == CLASS_PREFIX_SPACE ? code == ' ' : unicode_is_space(code);
        if (prefix && at + length < end) {
            size_t stop = match_set(pattern, text, end, at + length);
            if (stop > at + length) {
                return stop;
            }
        }
    }
    return match_set(pattern, text, end, at);
}
