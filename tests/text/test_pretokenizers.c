/* The hand-written pre-tokenisers against PCRE2 running the published expressions, on random text
 * of all Unicode categories, as long as TEXT_BYTES says. */
#include "support/test_support.h"

#include "base/buffer.h"
#include "base/utf8.h"
#include "text/pre_names.h"
#include "text/split.h"
#include "text/unicode.h"

#ifndef TEXT_BYTES
#define TEXT_BYTES 300000u
#endif
#define CHUNK_BYTES_MAX 3000u
#define CATEGORIES      30u

/* The code points of each category. */
static uint32_t *members[CATEGORIES];
static size_t member_counts[CATEGORIES];

static int collect_members(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        member_counts[unicode_property(code) & UNICODE_PROPERTY_CATEGORY]++;
    }
    for (unsigned i = 0; i < CATEGORIES; i++) {
        members[i] = malloc((member_counts[i] + 1) * sizeof **members);
        member_counts[i] = 0;
    }
    for (uint32_t code = 0; code < 0x110000; code++) {
        unsigned category = unicode_property(code) & UNICODE_PROPERTY_CATEGORY;
        members[category][member_counts[category]++] = code;
    }
    return 0;
}

static int free_members(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CATEGORIES; i++) {
        free(members[i]);
    }
    return 0;
}

static void append_code(struct buffer *out, uint32_t code)
{
    char encoded[4];
    buffer_append(out, encoded, utf8_encode(code, encoded));
}

/* A few characters: of any category, of ASCII, or of what the expressions look at closely. */
static void append_some(struct buffer *out)
{
    static const char *const bits[] = {"'s",
                                       "'S",
                                       "'T",
                                       "'re",
                                       "'vE",
                                       "'LL",
                                       "'d",
                                       "'\xC5\xBF",
                                       "' ",
                                       "''",
                                       "\n",
                                       "\r\n",
                                       "\n\n",
                                       " \n ",
                                       "  ",
                                       "   ",
                                       "\t",
                                       "\r",
                                       " ",
                                       "/",
                                       "//",
                                       "123",
                                       "4",
                                       "12345",
                                       "Ab",
                                       "aB",
                                       "ABc",
                                       "ab",
                                       ".",
                                       "...",
                                       "!/\n",
                                       "_a",
                                       "#a",
                                       "\xE4\xB8\x80",
                                       "\xE3\x81\x82",
                                       "\xEA\xB0\x80",
                                       "e\xCC\x81",
                                       "\xC2\xAA",
                                       "\xE1\xA0\x8E",
                                       "\xC2\x85",
                                       "\xC2\xA0",
                                       "\xE2\x80\xA8",
                                       "<sentinel:7>",
                                       "IMGIMGABZ",
                                       "    ",
                                       "(",
                                       "|"};
    switch (test_random_below(6)) {
    case 0:
        buffer_append_text(out, bits[test_random_below(sizeof bits / sizeof bits[0])]);
        break;
    case 1:
        for (uint64_t i = test_random_below(8); i > 0; i--) {
            buffer_append_byte(out, (char)(' ' + test_random_below(95)));
        }
        break;
    case 2:
        for (uint64_t i = test_random_below(12); i > 0; i--) {
            buffer_append_byte(out, (char)('a' + test_random_below(26)));
        }
        break;
    case 3:
        if (test_random_below(50) == 0) {
            static const char *const repeated[] = {" ", "a", "\t", "1", "\n", "\xC2\xA0"};
            const char *bit = repeated[test_random_below(6)];
            for (uint64_t i = test_random_below(1200); i > 0; i--) {
                buffer_append_text(out, bit);
            }
        }
        break;
    default: {
        unsigned category = (unsigned)test_random_below(CATEGORIES);
        if (category == UNICODE_CS) {
            break;
        }
        for (uint64_t i = test_random_below(4) + 1; i > 0; i--) {
            append_code(out, members[category][test_random_below(member_counts[category])]);
        }
    }
    }
}

static void make_text(struct buffer *out, size_t bytes)
{
    buffer_clear(out);
    while (out->length < bytes) {
        append_some(out);
    }
}

/* Ends of words. */
struct ends {
    size_t *at;
    size_t count;
    size_t capacity;
    const char *base;
    struct llcuda_error error;
};

static void add_end(struct ends *ends, size_t at)
{
    if (ends->count == ends->capacity) {
        ends->capacity = ends->capacity * 2 + 256;
        ends->at = realloc(ends->at, ends->capacity * sizeof *ends->at);
        assert_non_null(ends->at);
    }
    ends->at[ends->count++] = at;
}

static llcuda_status on_word(struct split_run *run, const char *text, size_t length)
{
    struct ends *ends = run->user;
    add_end(ends, (size_t)(text - ends->base) + length);
    return LLCUDA_OK;
}

/* What PCRE2 makes of the expressions, each applied to every piece of the one before. */
struct reference {
    struct regex *regexes[PRE_EXPRESSIONS_MAX];
    size_t count;
    struct regex_state *state;
};

static void reference_split(struct reference *reference, size_t level, const char *text,
                            size_t length, struct ends *ends)
{
    if (level == reference->count) {
        if (length) {
            add_end(ends, (size_t)(text - ends->base) + length);
        }
        return;
    }
    size_t done = 0;
    size_t from = 0;
    while (from <= length) {
        bool found;
        size_t start, stop;
        assert_ok(regex_find(reference->regexes[level], reference->state, text, length, from,
                             &found, &start, &stop, &ends->error),
                  ends->error);
        if (!found) {
            break;
        }
        if (start == stop && from < length) { /* an empty match cuts where it stands */
            size_t step;
            unicode_next(text + start, &step);
            from = start + step;
        } else {
            from = stop > from ? stop : length + 1;
        }
        reference_split(reference, level + 1, text + done, start - done, ends);
        reference_split(reference, level + 1, text + start, stop - start, ends);
        done = stop;
    }
    reference_split(reference, level + 1, text + done, length - done, ends);
}

/* PCRE2 has no intersections of classes: the same, said with look-ahead. */
static struct regex *compile_reference(const char *expression)
{
    struct buffer pattern = {0};
    struct llcuda_error error;
    struct regex *regex;
    const char *at = expression;
    static const char han[] = "&&[^\\p{Han}]]";
    while (*at) {
        const char *close = *at == '[' ? strstr(at, han) : NULL;
        const char *other = *at == '[' ? strchr(at, ']') : NULL;
        if (close && other && close < other) {
            /* "[xyz&&[^\p{Han}]]*" becomes "(?:(?!\p{Han})[xyz])*". */
            buffer_append_text(&pattern, "(?:(?!\\p{Han})");
            buffer_append(&pattern, at, (size_t)(close - at));
            buffer_append_text(&pattern, "])");
            at = close + sizeof han - 1;
        } else {
            buffer_append_byte(&pattern, *at++);
        }
    }
    assert_ok(regex_create(buffer_view(&pattern), &regex, &error), error);
    buffer_deinit(&pattern);
    return regex;
}

static void show_difference(const char *name, const struct buffer *text, const struct ends *ours,
                            const struct ends *theirs)
{
    size_t i = 0;
    while (i < ours->count && i < theirs->count && ours->at[i] == theirs->at[i]) {
        i++;
    }
    size_t begin = i ? ours->at[i - 1] : 0;
    printf("%s: after byte %zu ours ends at %zu, PCRE2's at %zu:", name, begin,
           i < ours->count ? ours->at[i] : 0, i < theirs->count ? theirs->at[i] : 0);
    for (size_t k = begin; k < text->length && k < begin + 40; k++) {
        printf(" %02x", (uint8_t)text->data[k]);
    }
    printf("\n");
    fail_msg("%s differs from PCRE2", name);
}

static void compare(const char *name, const struct split_plan *plan, struct reference *reference)
{
    struct buffer text = {0};
    struct ends ours = {0};
    struct ends theirs = {0};
    struct split_run run = {.plan = plan,
                            .word = on_word,
                            .user = &ours,
                            .error = &ours.error,
                            .regex_state = reference->state};
    size_t total = 0;
    while (total < TEXT_BYTES) {
        make_text(&text, 1 + test_random_below(CHUNK_BYTES_MAX));
        ours.count = theirs.count = 0;
        if (text.length == 0) {
            continue;
        }
        ours.base = theirs.base = text.data;
        run.readable_end = text.data + text.length;
        assert_ok(split_run_over(&run, text.data, text.length, true), ours.error);
        reference_split(reference, 0, text.data, text.length, &theirs);
        if (ours.count != theirs.count ||
            memcmp(ours.at, theirs.at, ours.count * sizeof *ours.at) != 0) {
            show_difference(name, &text, &ours, &theirs);
        }
        total += text.length;
    }
    split_run_deinit(&run);
    buffer_deinit(&text);
    free(ours.at);
    free(theirs.at);
}

static bool seen_before(size_t index)
{
    const struct pre_name *name = pre_name_at(index);
    for (size_t i = 0; i < index; i++) {
        if (pre_name_at(i)->expressions == name->expressions) {
            return true;
        }
    }
    return false;
}

static void names_split_as_their_expressions(void **state)
{
    (void)state;
    size_t native = 0;
    size_t names = 0;
    const struct pre_name *name;
    for (size_t i = 0; (name = pre_name_at(i)); i++) {
        struct llcuda_error error;
        names++;
        native += pre_name_is_native(name);
        if (!pre_name_is_native(name)) {
            printf("%s runs on PCRE2\n", name->name);
        }
        if (seen_before(i)) {
            continue;
        }
        struct vocabulary_splitter splitters[PRE_EXPRESSIONS_MAX + 1];
        uint32_t count = pre_name_splitters(name, splitters);
        struct split_plan plan;
        assert_ok(split_plan_compile(&plan, splitters, count, &error), error);
        assert_true(plan.bytes);
        struct reference reference = {0};
        assert_ok(regex_state_create(&reference.state, &error), error);
        for (; name->expressions[reference.count]; reference.count++) {
            reference.regexes[reference.count] =
                compile_reference(name->expressions[reference.count]);
        }
        compare(name->name, &plan, &reference);
        for (size_t k = 0; k < reference.count; k++) {
            regex_destroy(reference.regexes[k]);
        }
        regex_state_destroy(reference.state);
        split_plan_deinit(&plan);
    }
    printf("%zu names, %zu of them without PCRE2\n", names, native);
    assert_true(native + 2 >= names);
}

/* The forms in which a tokenizer.json may write an expression. */
static void machines_split_as_their_expressions(void **state)
{
    (void)state;
    const char *expression;
    for (size_t i = 0; (expression = machine_expression(i)); i++) {
        struct llcuda_error error;
        struct vocabulary_splitter splitter = {
            .kind = SPLITTER_SPLIT, .pattern = text_view_of(expression), .pattern_is_regex = true};
        struct split_plan plan;
        assert_ok(split_plan_compile(&plan, &splitter, 1, &error), error);
        assert_false(plan.regex);
        struct reference reference = {.count = 1};
        assert_ok(regex_state_create(&reference.state, &error), error);
        reference.regexes[0] = compile_reference(expression);
        compare(expression, &plan, &reference);
        regex_destroy(reference.regexes[0]);
        regex_state_destroy(reference.state);
        split_plan_deinit(&plan);
    }
}

/* The tables against PCRE2's: every character in every class that the machines use. */
static void tables_agree_with_pcre2(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        uint32_t classes;
    } classes[] = {
        {"\\p{L}", CLASS_L},
        {"\\p{M}", CLASS_M},
        {"\\p{N}", CLASS_N},
        {"\\p{P}", CLASS_P},
        {"\\p{S}", CLASS_S},
        {"\\s", CLASS_SPACE},
        {"\\p{Han}", CLASS_HAN},
        {"\\p{Lu}", CLASS_OF(UNICODE_LU)},
        {"\\p{Ll}", CLASS_OF(UNICODE_LL)},
        {"\\p{Nd}", CLASS_OF(UNICODE_ND)},
    };
    struct llcuda_error error;
    struct regex_state *regex_state;
    assert_ok(regex_state_create(&regex_state, &error), error);
    for (size_t i = 0; i <= sizeof classes / sizeof classes[0]; i++) {
        bool word = i == sizeof classes / sizeof classes[0];
        struct regex *regex;
        assert_ok(regex_create(text_view_of(word ? "\\w" : classes[i].pattern), &regex, &error),
                  error);
        for (uint32_t code = 0; code < 0x110000; code++) {
            char encoded[4];
            size_t length = utf8_encode(code, encoded);
            bool found = false;
            size_t start, stop;
            if (length == 0) {
                continue;
            }
            assert_ok(
                regex_find(regex, regex_state, encoded, length, 0, &found, &start, &stop, &error),
                error);
            bool member = word ? unicode_is_regex_word(code)
                               : (unicode_class(code) & classes[i].classes) != 0;
            if (member != found) {
                fail_msg("U+%04X and %s", code, word ? "\\w" : classes[i].pattern);
            }
        }
        regex_destroy(regex);
    }
    regex_state_destroy(regex_state);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tables_agree_with_pcre2),
    cmocka_unit_test(names_split_as_their_expressions),
    cmocka_unit_test(machines_split_as_their_expressions),
};

int main(void)
{
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, collect_members, free_members);
}
