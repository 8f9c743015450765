/* Owns PCRE2: translation of an expression from Oniguruma's dialect, compiled code, match limits.
 * A regex is immutable and shared by threads; a regex_state belongs to one. Invariant: the text
 * that is searched is valid UTF-8, which PCRE2 is told not to check again. */
#include "text/regex.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "build_config.h"

#if LLCUDA_HAVE_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_STEPS_MAX 50000000u
#define MATCH_HEAP_KIB  65536u

struct regex {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct regex_state {
    pcre2_match_data *data;
};

static void *allocate(size_t bytes, void *user)
{
    (void)user;
    return malloc(bytes);
}

static void release(void *memory, void *user)
{
    (void)user;
    free(memory);
}

struct translator {
    struct text_view in;
    size_t at;
    struct buffer *out;
    bool in_class;
};

/* \p{Han} is a script; PCRE2 would take every character that is used with it. */
static bool translate_property(struct translator *t)
{
    static const char *const scripts[] = {
        "Han",      "Hiragana", "Katakana", "Hangul",   "Latin",      "Cyrillic", "Greek", "Arabic",
        "Hebrew",   "Thai",     "Lao",      "Khmer",    "Devanagari", "Bengali",  "Tamil", "Telugu",
        "Armenian", "Georgian", "Myanmar",  "Ethiopic", "Tibetan",    "Bopomofo"};
    const char *name = t->in.data + t->at + 3;
    size_t left = t->in.length - t->at;
    buffer_append(t->out, t->in.data + t->at, 2);
    if (left < 4 || name[-1] != '{') {
        return true;
    }
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        size_t length = strlen(scripts[i]);
        if (left > length + 3 && memcmp(name, scripts[i], length) == 0 && name[length] == '}') {
            t->at += 1;
            return buffer_append_text(t->out, "{sc:");
        }
    }
    return true;
}

/* Escapes whose meaning differs. True when the escape at `at` has been dealt with. */
static bool translate_escape(struct translator *t, char c)
{
    static const char word[] =
        "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
    switch (c) {
    case 'p':
    case 'P':
        return translate_property(t);
    case 'b':
    case 'B':
        return !t->in_class && buffer_printf(t->out,
                                             c == 'b' ? "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))"
                                                      : "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))",
                                             word, word, word, word);
    case 's':
        return buffer_append_text(t->out, "\\p{White_Space}");
    case 'S':
        return buffer_append_text(t->out, "\\P{White_Space}");
    case 'd':
        return buffer_append_text(t->out, "\\p{Nd}");
    case 'D':
        return buffer_append_text(t->out, "\\P{Nd}");
    case 'w':
        return t->in_class ? buffer_append_text(t->out, word) : buffer_printf(t->out, "[%s]", word);
    case 'W':
        return !t->in_class && buffer_printf(t->out, "[^%s]", word);
    case 'h':
        return buffer_append_text(t->out, t->in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
    case 'u': {
        bool four = t->in.length - t->at >= 6;
        for (size_t i = 2; four && i < 6; i++) {
            four = strchr("0123456789abcdefABCDEF", t->in.data[t->at + i]) != NULL &&
                   t->in.data[t->at + i] != 0;
        }
        if (!four || !buffer_printf(t->out, "\\x{%.4s}", t->in.data + t->at + 2)) {
            return false;
        }
        t->at += 4;
        return true;
    }
    default:
        buffer_append(t->out, t->in.data + t->at, 2);
        return strchr("HRXGKk", c) == NULL; /* other meanings, or none that is worth the risk */
    }
}

/* PCRE2 has no nested classes and no intersections; it would read them as characters. */
static bool odd_in_class(const struct translator *t, char c)
{
    char next = t->at + 1 < t->in.length ? t->in.data[t->at + 1] : 0;
    return (c == '[' && next != ':') || (c == '&' && next == '&');
}

static bool translate(struct text_view expression, struct buffer *out, size_t *bad)
{
    struct translator t = {expression, 0, out, false};
    size_t class_start = 0;
    while (t.at < expression.length) {
        char c = expression.data[t.at];
        *bad = t.at;
        if (c == '\\') {
            if (t.at + 1 >= expression.length || expression.data[t.at + 1] == 0 ||
                !translate_escape(&t, expression.data[t.at + 1])) {
                return false;
            }
            t.at += 2;
            continue;
        }
        if (t.in_class && odd_in_class(&t, c)) {
            return false;
        }
        if (!t.in_class && c == '[') {
            t.in_class = true;
            class_start = t.at + 1;
            if (class_start < expression.length && expression.data[class_start] == '^') {
                class_start++;
            }
        } else if (t.in_class && c == '[') { /* a POSIX class: copied up to its end */
            buffer_append_byte(out, c);
            t.at++;
            while (t.at < expression.length && expression.data[t.at] != ']') {
                buffer_append_byte(out, expression.data[t.at++]);
            }
            c = ']';
        } else if (t.in_class && c == ']' && t.at > class_start) {
            t.in_class = false;
        }
        buffer_append_byte(out, c);
        t.at++;
    }
    return true;
}

static llcuda_status compile(struct regex *regex, struct text_view expression,
                             const struct buffer *translated, struct llcuda_error *error)
{
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    regex->limits = context ? pcre2_match_context_create(general) : NULL;
    llcuda_status status = LLCUDA_OK;
    if (!regex->limits) {
        status = error_no_memory(error, "a regular expression", 0);
    } else {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_parens_nest_limit(context, 100);
        pcre2_set_match_limit(regex->limits, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(regex->limits, MATCH_HEAP_KIB);
        int code = 0;
        PCRE2_SIZE offset = 0;
        regex->code =
            pcre2_compile((PCRE2_SPTR)buffer_text(translated), translated->length,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                          &offset, context);
        if (!regex->code) {
            PCRE2_UCHAR message[160] = "";
            pcre2_get_error_message(code, message, sizeof message);
            status = code == PCRE2_ERROR_HEAP_FAILED
                         ? error_no_memory(error, "a regular expression", translated->length)
                         : error_set(error, LLCUDA_UNSUPPORTED,
                                     "the regular expression \"%.*s\" cannot be used: %s near "
                                     "character %zu",
                                     expression.length > 120 ? 120 : (int)expression.length,
                                     expression.data, (const char *)message, (size_t)offset);
        } else {
            /* Without JIT memory it is interpreted, with the same result. */
            pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
        }
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return status;
}

llcuda_status regex_create(struct text_view expression, struct regex **regex,
                           struct llcuda_error *error)
{
    *regex = NULL;
    if (expression.length > LIMIT_REGEX_BYTES) {
        return error_set(error, LLCUDA_LIMIT,
                         "a regular expression of %zu bytes exceeds the limit of %u",
                         expression.length, LIMIT_REGEX_BYTES);
    }
    struct buffer translated = {0};
    size_t bad = 0;
    bool understood = translate(expression, &translated, &bad);
    struct regex *made = calloc(1, sizeof *made);
    llcuda_status status;
    if (!made || translated.failed) {
        status = error_no_memory(error, "a regular expression", expression.length);
    } else if (!understood) {
        status =
            error_set(error, LLCUDA_UNSUPPORTED,
                      "the regular expression \"%.*s\" has a construct at character %zu that "
                      "is not supported",
                      expression.length > 120 ? 120 : (int)expression.length, expression.data, bad);
    } else {
        status = compile(made, expression, &translated, error);
    }
    buffer_deinit(&translated);
    if (status) {
        regex_destroy(made);
        return status;
    }
    *regex = made;
    return LLCUDA_OK;
}

void regex_destroy(struct regex *regex)
{
    if (regex) {
        pcre2_code_free(regex->code);
        pcre2_match_context_free(regex->limits);
        free(regex);
    }
}

llcuda_status regex_state_create(struct regex_state **state, struct llcuda_error *error)
{
    *state = calloc(1, sizeof **state);
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    if (*state && general) {
        (*state)->data = pcre2_match_data_create(1, general);
    }
    pcre2_general_context_free(general);
    if (!*state || !(*state)->data) {
        regex_state_destroy(*state);
        *state = NULL;
        return error_no_memory(error, "the state of a regular expression", 0);
    }
    return LLCUDA_OK;
}

void regex_state_destroy(struct regex_state *state)
{
    if (state) {
        pcre2_match_data_free(state->data);
        free(state);
    }
}

llcuda_status regex_find(const struct regex *regex, struct regex_state *state, const char *text,
                         size_t end, size_t from, bool *found, size_t *start, size_t *stop,
                         struct llcuda_error *error)
{
    int result = pcre2_match(regex->code, (PCRE2_SPTR)text, end, from, PCRE2_NO_UTF_CHECK,
                             state->data, regex->limits);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        result = pcre2_match(regex->code, (PCRE2_SPTR)text, end, from,
                             PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state->data, regex->limits);
    }
    *found = result >= 0;
    if (result >= 0) {
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(state->data);
        /* \K and look-behind may put a start before `from` or behind the stop. */
        *start = offsets[0] < from ? from : offsets[0];
        *stop = offsets[1] < *start ? *start : offsets[1];
        return LLCUDA_OK;
    }
    if (result == PCRE2_ERROR_NOMATCH) {
        return LLCUDA_OK;
    }
    if (result == PCRE2_ERROR_NOMEMORY) {
        return error_no_memory(error, "matching a regular expression", end);
    }
    return error_set(error, LLCUDA_LIMIT,
                     "a regular expression of the tokeniser takes too many steps on this text "
                     "(PCRE2 error %d)",
                     result);
}

#else

llcuda_status regex_create(struct text_view expression, struct regex **regex,
                           struct llcuda_error *error)
{
    *regex = NULL;
    return error_set(error, LLCUDA_UNSUPPORTED,
                     "the tokeniser needs the regular expression \"%.*s\", for which this build "
                     "lacks PCRE2",
                     expression.length > 120 ? 120 : (int)expression.length, expression.data);
}

void regex_destroy(struct regex *regex)
{
    (void)regex;
}

llcuda_status regex_state_create(struct regex_state **state, struct llcuda_error *error)
{
    (void)error;
    *state = NULL;
    return LLCUDA_OK;
}

void regex_state_destroy(struct regex_state *state)
{
    (void)state;
}

llcuda_status regex_find(const struct regex *regex, struct regex_state *state, const char *text,
                         size_t end, size_t from, bool *found, size_t *start, size_t *stop,
                         struct llcuda_error *error)
{
    (void)regex;
    (void)state;
    (void)text;
    (void)end;
    (void)from;
    (void)start;
    (void)stop;
    *found = false;
    return error_set(error, LLCUDA_UNSUPPORTED, "this build lacks PCRE2");
}

#endif
