/* Owns the hand-written pre-tokenisers. Stateless. Invariant of every function here: a match ends
 * on a character boundary at or before `end`. They know expressions, not models. */
#include "text/machines.h"

#include "text/unicode.h"

#define INLINE static inline __attribute__((always_inline))

enum contraction { CONTRACTION_NONE, CONTRACTION_LOWER, CONTRACTION_ASCII, CONTRACTION_FOLDED };

INLINE uint32_t class_at(const char *text, size_t at, size_t *length)
{
    uint8_t first = (uint8_t)text[at];
    if (first < 0x80) {
        *length = 1;
        return unicode_ascii_class[first];
    }
    return unicode_class(unicode_next(text + at, length));
}

/* The end of the run of ASCII letters from `at` on, eight bytes at a time: in `low` the upper-case
 * letters are lower case, and adding puts into the highest bit of each byte whether it is at least
 * 'a', and whether it is beyond 'z'. */
INLINE size_t ascii_letters(const char *text, size_t end, size_t at)
{
    const uint64_t ones = 0x0101010101010101ull;
    const uint64_t tops = 0x80 * ones;
    while (end - at >= 8) {
        uint64_t bytes;
        memcpy(&bytes, text + at, sizeof bytes);
        uint64_t low = (bytes | 0x20 * ones) & ~tops;
        uint64_t letters =
            (low + (0x80 - 'a') * ones) & ~(low + (0x7F - 'z') * ones) & ~bytes & tops;
        if (letters != tops) {
            return at + (size_t)(__builtin_ctzll(letters ^ tops) >> 3);
        }
        at += 8;
    }
    while (at < end && (unicode_ascii_class[(uint8_t)text[at]] & CLASS_L)) {
        at++;
    }
    return at;
}

/* The end of the run of characters from `at` on that are in `wanted` and not in `unwanted`. */
INLINE size_t run_of(const char *text, size_t end, size_t at, uint32_t wanted, uint32_t unwanted)
{
    bool letters = (wanted == CLASS_L || wanted == (CLASS_L | CLASS_M)) && unwanted == 0;
    for (;;) {
        /* ASCII first: a byte of a longer character is in no class here. */
        if (letters) {
            at = ascii_letters(text, end, at);
        }
        while (!letters && at < end) {
            uint32_t class = unicode_ascii_class[(uint8_t)text[at]];
            if (!(class & wanted) || (class & unwanted)) {
                break;
            }
            at++;
        }
        if (at == end || (uint8_t)text[at] < 0x80) {
            return at;
        }
        size_t length;
        uint32_t class = unicode_class(unicode_next(text + at, &length));
        if (!(class & wanted) || (class & unwanted)) {
            return at;
        }
        at += length;
    }
}

INLINE size_t run_not(const char *text, size_t end, size_t at, uint32_t unwanted)
{
    return run_of(text, end, at, ~0u, unwanted);
}

INLINE bool is_newline(char c)
{
    return c == '\n' || c == '\r';
}

/* The bytes of 's 't 'm 'd 're 've 'll at text[at], where an apostrophe is; 0 for none. */
INLINE size_t contraction_at(const char *text, size_t end, size_t at, enum contraction mode)
{
    size_t left = end - at;
    if (mode == CONTRACTION_NONE || left < 2) {
        return 0;
    }
    char fold = mode == CONTRACTION_LOWER ? 0 : 0x20;
    char first = (char)(text[at + 1] | fold);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') {
        return 2;
    }
    if (left < 3) {
        return 0;
    }
    if (mode == CONTRACTION_FOLDED && (uint8_t)text[at + 1] == 0xC5 &&
        (uint8_t)text[at + 2] == 0xBF) {
        return 3; /* U+017F, the long s */
    }
    char second = (char)(text[at + 2] | fold);
    return ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l') ? 3
                                                                                                : 0;
}

/* \s+(?!\S)|\s+ for a run [at, run): all of it at the end of the text, else all but its last
 * character, or that one alone. */
INLINE size_t space_run_end(const char *text, size_t end, size_t at, size_t run)
{
    if (run == end) {
        return run;
    }
    size_t last = unicode_previous(text, run);
    return last > at ? last : run;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
INLINE size_t match_spaces(const char *text, size_t end, size_t at)
{
    size_t run = at;
    size_t after_newline = 0;
    while (run < end) {
        size_t length;
        if (!(class_at(text, run, &length) & CLASS_SPACE)) {
            break;
        }
        if (is_newline(text[run])) {
            after_newline = run + 1;
        }
        run += length;
    }
    return after_newline ? after_newline : space_run_end(text, end, at, run);
}

/* The digits of a number, at most `most` characters; 0 means all. */
INLINE size_t match_number(const char *text, size_t end, size_t at, size_t most)
{
    for (size_t count = 0; at < end && (most == 0 || count < most); count++) {
        size_t length;
        if (!(class_at(text, at, &length) & CLASS_N)) {
            break;
        }
        at += length;
    }
    return at;
}

/* ' ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+' after the contractions. */
static size_t match_gpt2(const char *text, size_t end, size_t at)
{
    if (text[at] == '\'') {
        size_t contraction = contraction_at(text, end, at, CONTRACTION_LOWER);
        if (contraction) {
            return at + contraction;
        }
    }
    size_t length;
    size_t body = at;
    uint32_t class = class_at(text, at, &length);
    if (text[at] == ' ' && at + 1 < end) {
        body = at + 1;
        class = class_at(text, body, &length);
    }
    if (class & CLASS_L) {
        return run_of(text, end, body + length, CLASS_L, 0);
    }
    if (class & CLASS_N) {
        return run_of(text, end, body + length, CLASS_N, 0);
    }
    if (!(class & CLASS_SPACE)) {
        return run_not(text, end, body + length, CLASS_SPACE | CLASS_L | CLASS_N);
    }
    return space_run_end(text, end, at, run_of(text, end, at, CLASS_SPACE, 0));
}

/* \s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}. Inside of a run of
 * white space, behind anything but a line break, no line break follows any more: the match before
 * would have taken it. Without that, every piece would be looked for to the end of the run. */
static size_t match_cascading_spaces(const char *text, size_t end, size_t at)
{
    size_t length;
    bool inside = at > 0 && !is_newline(text[at - 1]) &&
                  (class_at(text, unicode_previous(text, at), &length) & CLASS_SPACE);
    size_t after_newline = 0;
    for (size_t run = at; !inside && run < end; run += length) {
        if (!(class_at(text, run, &length) & CLASS_SPACE)) {
            break;
        }
        if (is_newline(text[run])) {
            after_newline = run + 1;
        }
    }
    if (after_newline) {
        return after_newline;
    }
    size_t stops[513]; /* the ends of the first characters */
    size_t count = 0;
    size_t run = at;
    while (run < end && count < 513 && (class_at(text, run, &length) & CLASS_SPACE)) {
        run += length;
        stops[count++] = run;
    }
    size_t usable = run == end ? count : count - 1; /* one stays before a word */
    for (size_t wanted = 512; wanted >= 1; wanted /= 2) {
        if (wanted <= usable) {
            return stops[wanted - 1];
        }
    }
    return stops[0];
}

/* What the cl100k family varies. */
struct words {
    enum contraction contraction;
    uint32_t letters;   /* of a word */
    uint32_t no_symbol; /* besides \s: what [^\s…]+ leaves out */
    uint32_t digits;    /* of one number, at most; 0: all */
    bool newlines;      /* symbols take the newlines after them along */
    bool slashes;       /* and slashes */
    bool cascade;       /* white space in pieces of powers of two */
};

/* ' ?[^\s\p{L}\p{N}]+[\r\n]*' from `at`, whose first symbol is at `body`. */
INLINE size_t match_symbols(const char *text, size_t end, size_t body, struct words words)
{
    size_t stop = run_not(text, end, body, CLASS_SPACE | words.no_symbol);
    if (words.newlines) {
        while (stop < end && (is_newline(text[stop]) || (words.slashes && text[stop] == '/'))) {
            stop++;
        }
    }
    return stop;
}

/* contractions|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 * \s+(?!\S)|\s+ */
INLINE size_t match_words(const char *text, size_t end, size_t at, struct words words)
{
    char first = text[at];
    if (first == '\'') {
        size_t contraction = contraction_at(text, end, at, words.contraction);
        if (contraction) {
            return at + contraction;
        }
    }
    size_t length;
    uint32_t class = class_at(text, at, &length);
    if (class & words.letters) {
        return run_of(text, end, at + length, words.letters, 0);
    }
    if (class & CLASS_N) {
        return match_number(text, end, at, words.digits);
    }
    if (!is_newline(first) && at + length < end) {
        size_t next_length;
        uint32_t next = class_at(text, at + length, &next_length);
        if (next & words.letters) {
            return run_of(text, end, at + length + next_length, words.letters, 0);
        }
        if (first == ' ' && !(next & (CLASS_SPACE | words.no_symbol))) {
            return match_symbols(text, end, at + 1, words);
        }
    }
    if (!(class & CLASS_SPACE)) {
        return match_symbols(text, end, at, words);
    }
    return words.cascade ? match_cascading_spaces(text, end, at) : match_spaces(text, end, at);
}

#define WORDS_MACHINE(name, ...)                                        \
    static size_t name(const char *text, size_t end, size_t at)         \
    {                                                                   \
        return match_words(text, end, at, (struct words){__VA_ARGS__}); \
    }

WORDS_MACHINE(match_llama3, CONTRACTION_FOLDED, CLASS_L, CLASS_L | CLASS_N, 3, true, false, false)
WORDS_MACHINE(match_llama3_ascii, CONTRACTION_ASCII, CLASS_L, CLASS_L | CLASS_N, 3, true, false,
              false)
WORDS_MACHINE(match_qwen2, CONTRACTION_FOLDED, CLASS_L, CLASS_L | CLASS_N, 1, true, false, false)
WORDS_MACHINE(match_qwen2_ascii, CONTRACTION_ASCII, CLASS_L, CLASS_L | CLASS_N, 1, true, false,
              false)
WORDS_MACHINE(match_minicpm5, CONTRACTION_FOLDED, CLASS_L, CLASS_L | CLASS_N, 0, true, false, false)
WORDS_MACHINE(match_qwen35, CONTRACTION_FOLDED, CLASS_L | CLASS_M, CLASS_L | CLASS_M | CLASS_N, 1,
              true, false, false)
WORDS_MACHINE(match_seed_coder, CONTRACTION_FOLDED, CLASS_L, CLASS_L | CLASS_N, 1, false, false,
              false)
WORDS_MACHINE(match_no_contractions, CONTRACTION_NONE, CLASS_L, CLASS_L | CLASS_N, 1, true, false,
              false)

WORDS_MACHINE(match_jais2, CONTRACTION_FOLDED, CLASS_L, CLASS_L | CLASS_N, 3, true, false, true)

/* \p{L}\p{M}*(?: ?\p{L}\p{M}*)* from `at`, where a letter is: single spaces between words stay. */
static size_t run_of_spaced_words(const char *text, size_t end, size_t at)
{
    for (;;) {
        size_t length;
        class_at(text, at, &length);
        at = run_of(text, end, at + length, CLASS_M, 0);
        size_t next = at < end && text[at] == ' ' ? at + 1 : at;
        if (next >= end || !(class_at(text, next, &length) & CLASS_L)) {
            return at;
        }
        at = next;
    }
}

/* contractions|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|
 * ' ?[^\s\p{L}\p{N}]+[\r\n/]?'|\s*[\r\n]|\s+(?!\S)|\s+ */
static size_t match_exaone_moe(const char *text, size_t end, size_t at)
{
    if (text[at] == '\'') {
        size_t contraction = contraction_at(text, end, at, CONTRACTION_FOLDED);
        if (contraction) {
            return at + contraction;
        }
    }
    size_t length;
    uint32_t class = class_at(text, at, &length);
    if (class & CLASS_L) {
        return run_of_spaced_words(text, end, at);
    }
    if (class & CLASS_N) {
        return at + length;
    }
    size_t body = at;
    if (!is_newline(text[at]) && at + length < end) {
        size_t next_length;
        uint32_t next = class_at(text, at + length, &next_length);
        if (next & CLASS_L) {
            return run_of_spaced_words(text, end, at + length);
        }
        bool symbol = text[at] == ' ' && !(next & (CLASS_SPACE | CLASS_N));
        body = symbol ? at + 1 : at;
        class = symbol ? next : class;
    }
    if (class & CLASS_SPACE) {
        return match_spaces(text, end, at);
    }
    size_t stop = run_not(text, end, body, CLASS_SPACE | CLASS_L | CLASS_N);
    return stop < end && (is_newline(text[stop]) || text[stop] == '/') ? stop + 1 : stop;
}

#define UPPER                                                                                    \
    (CLASS_OF(UNICODE_LU) | CLASS_OF(UNICODE_LT) | CLASS_OF(UNICODE_LM) | CLASS_OF(UNICODE_LO) | \
     CLASS_M)
#define LOWER (CLASS_OF(UNICODE_LL) | CLASS_OF(UNICODE_LM) | CLASS_OF(UNICODE_LO) | CLASS_M)

/* UPPER*LOWER+ from `at`; `at` when it does not match. When nothing in LOWER follows the upper
 * run, the expression gives characters back until one that is in both classes ends the match. */
INLINE size_t match_upper_lower(const char *text, size_t end, size_t at, uint32_t unwanted)
{
    size_t upper = run_of(text, end, at, UPPER, unwanted);
    size_t lower = run_of(text, end, upper, LOWER, unwanted);
    if (lower > upper) {
        return lower;
    }
    while (upper > at) {
        size_t length;
        size_t last = unicode_previous(text, upper);
        if (class_at(text, last, &length) & LOWER) {
            return upper;
        }
        upper = last;
    }
    return at;
}

/* [^\r\n\p{L}\p{N}]?UPPER*LOWER+|[^\r\n\p{L}\p{N}]?UPPER+LOWER*, `at` for no match. */
INLINE size_t match_cased_word(const char *text, size_t end, size_t at, uint32_t unwanted)
{
    size_t length;
    uint32_t class = class_at(text, at, &length);
    size_t body = at;
    if (!is_newline(text[at]) && !(class & (CLASS_L | CLASS_N))) {
        body = at + length;
    }
    size_t stop = match_upper_lower(text, end, body, unwanted);
    if (stop > body) {
        return stop;
    }
    if (body > at) {
        stop = match_upper_lower(text, end, at, unwanted);
        if (stop > at) {
            return stop;
        }
    }
    stop = run_of(text, end, body, UPPER, unwanted);
    if (stop > body) {
        return run_of(text, end, stop, LOWER, unwanted);
    }
    return body > at ? run_of(text, end, at, UPPER, unwanted) : at;
}

struct cased_words {
    enum contraction contraction;
    uint32_t digits;
    uint32_t unwanted; /* in words: Han for Kimi */
    bool slashes;
};

/* o200k: cased words with an optional contraction, numbers, symbols with newlines and slashes. */
INLINE size_t match_cased(const char *text, size_t end, size_t at, struct cased_words cased)
{
    size_t length;
    uint32_t class = class_at(text, at, &length);
    if (cased.unwanted & class) {
        return run_of(text, end, at + length, cased.unwanted, 0);
    }
    size_t stop = match_cased_word(text, end, at, cased.unwanted);
    if (stop > at) {
        if (stop < end && text[stop] == '\'') {
            stop += contraction_at(text, end, stop, cased.contraction);
        }
        return stop;
    }
    if (class & CLASS_N) {
        return match_number(text, end, at, cased.digits);
    }
    struct words words = {
        .no_symbol = CLASS_L | CLASS_N, .newlines = true, .slashes = cased.slashes};
    if (text[at] == ' ' && at + 1 < end) {
        size_t next_length;
        if (!(class_at(text, at + 1, &next_length) & (CLASS_SPACE | CLASS_L | CLASS_N))) {
            return match_symbols(text, end, at + 1, words);
        }
    }
    if (!(class & (CLASS_SPACE | CLASS_L | CLASS_N))) {
        return match_symbols(text, end, at, words);
    }
    return class & CLASS_SPACE ? match_spaces(text, end, at) : at;
}

#define CASED_MACHINE(name, ...)                                              \
    static size_t name(const char *text, size_t end, size_t at)               \
    {                                                                         \
        return match_cased(text, end, at, (struct cased_words){__VA_ARGS__}); \
    }

CASED_MACHINE(match_gpt4o, CONTRACTION_FOLDED, 3, 0, true)
CASED_MACHINE(match_tekken, CONTRACTION_NONE, 1, 0, true)
CASED_MACHINE(match_youtu, CONTRACTION_FOLDED, 1, 0, true)
CASED_MACHINE(match_kimi, CONTRACTION_FOLDED, 3, CLASS_HAN, false)

INLINE bool is_ascii_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

INLINE bool is_ascii_punctuation(char c)
{
    return c > ' ' && c < 0x7F && !is_ascii_letter(c) && !(c >= '0' && c <= '9');
}

/* DeepSeek-V3: ASCII punctuation with ASCII letters, words with marks, symbols, spaces. What no
 * alternative takes (a lone control character or digit) is left over. */
INLINE size_t match_deepseek(const char *text, size_t end, size_t at, bool with_newlines)
{
    if (is_ascii_punctuation(text[at]) && at + 1 < end && is_ascii_letter(text[at + 1])) {
        size_t stop = at + 2;
        while (stop < end && is_ascii_letter(text[stop])) {
            stop++;
        }
        return stop;
    }
    size_t length;
    uint32_t class = class_at(text, at, &length);
    if (class & (CLASS_L | CLASS_M)) {
        return run_of(text, end, at + length, CLASS_L | CLASS_M, 0);
    }
    size_t next = at + length;
    if (next < end && !is_newline(text[at])) {
        size_t next_length;
        uint32_t next_class = class_at(text, next, &next_length);
        if (!(class & (CLASS_P | CLASS_S)) && (next_class & (CLASS_L | CLASS_M))) {
            return run_of(text, end, next + next_length, CLASS_L | CLASS_M, 0);
        }
        if (text[at] == ' ' && (next_class & (CLASS_P | CLASS_S))) {
            class = next_class;
        }
    }
    if (class & (CLASS_P | CLASS_S)) {
        size_t stop = run_of(text, end, text[at] == ' ' ? next : at, CLASS_P | CLASS_S, 0);
        while (with_newlines && stop < end && is_newline(text[stop])) {
            stop++;
        }
        return stop;
    }
    if (!(class & CLASS_SPACE)) {
        return at;
    }
    if (with_newlines) {
        return match_spaces(text, end, at);
    }
    return is_newline(text[at])
               ? at + 1
               : space_run_end(text, end, at, run_of(text, end, at, CLASS_SPACE, 0));
}

static size_t match_deepseek3(const char *text, size_t end, size_t at)
{
    return match_deepseek(text, end, at, true);
}

static size_t match_spark25(const char *text, size_t end, size_t at)
{
    return match_deepseek(text, end, at, false);
}

/* [^\n]+|[\n]+ */
static size_t match_lines(const char *text, size_t end, size_t at)
{
    bool newline = text[at] == '\n';
    while (at < end && (text[at] == '\n') == newline) {
        at++;
    }
    return at;
}

/* \s+$, where $ is the end of a line too. Only the beginning of a run is looked at: if the run does
 * not match there, no later part of it does, and looking again would take quadratic time. */
static size_t match_trailing_spaces(const char *text, size_t end, size_t at)
{
    size_t length;
    if (at > 0 && (class_at(text, unicode_previous(text, at), &length) & CLASS_SPACE)) {
        return at;
    }
    size_t run = at;
    size_t before_newline = at;
    while (run < end && (class_at(text, run, &length) & CLASS_SPACE)) {
        if (text[run] == '\n') {
            before_newline = run;
        }
        run += length;
    }
    return run == end ? run : before_newline;
}

static size_t match_whitespace(const char *text, size_t end, size_t at)
{
    size_t length;
    uint32_t code = unicode_next(text + at, &length);
    if (unicode_is_space(code)) {
        return at;
    }
    bool word = unicode_is_word(code);
    do {
        at += length;
        if (at == end) {
            break;
        }
        code = unicode_next(text + at, &length);
    } while (!unicode_is_space(code) && unicode_is_word(code) == word);
    return at;
}

const struct machine machine_whitespace = {match_whitespace};
const struct machine machine_gpt2 = {match_gpt2};

#define REST_OF_GPT2  " ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define REST_OF_WORDS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LETTERS       "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define FOLDED        "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define FOLDED_SHORT  "'(?i:[sdmt]|ll|ve|re)"
#define ASCII_FOLDED  "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define CASED_UPPER   "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_LOWER   "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(contraction)                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" CASED_UPPER "*" CASED_LOWER "+" contraction \
    "|[^\\r\\n\\p{L}\\p{N}]?" CASED_UPPER "+" CASED_LOWER "*" contraction
#define REST_OF_CASED "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define KIMI_UPPER    "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define KIMI_LOWER    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"

static const struct {
    const char *expression;
    struct machine machine;
} machines[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d|" REST_OF_GPT2 "|\\s+", {match_gpt2}},
    {"'s|'t|'re|'ve|'m|'ll|'d|" REST_OF_GPT2, {match_gpt2}},
    {"'(?:[sdmt]|ll|ve|re)|" REST_OF_GPT2 "|\\s+", {match_gpt2}},
    {"'(?:[sdmt]|ll|ve|re)|" REST_OF_GPT2, {match_gpt2}},
    {FOLDED "|" LETTERS "|\\p{N}{1,3}" REST_OF_WORDS, {match_llama3}},
    {FOLDED_SHORT "|" LETTERS "|\\p{N}{1,3}" REST_OF_WORDS, {match_llama3}},
    {FOLDED_SHORT "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
                  "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     {match_llama3}},
    {ASCII_FOLDED "|" LETTERS "|\\p{N}{1,3}" REST_OF_WORDS, {match_llama3_ascii}},
    {FOLDED "|" LETTERS "|\\p{N}" REST_OF_WORDS, {match_qwen2}},
    {FOLDED_SHORT "|" LETTERS "|\\p{N}" REST_OF_WORDS, {match_qwen2}},
    {FOLDED_SHORT "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
                  "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     {match_qwen2}},
    {ASCII_FOLDED "|" LETTERS "|\\p{N}" REST_OF_WORDS, {match_qwen2_ascii}},
    {FOLDED "|" LETTERS "|\\p{N}+" REST_OF_WORDS, {match_minicpm5}},
    {FOLDED "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|"
            "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {match_qwen35}},
    {FOLDED "|" LETTERS "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {match_seed_coder}},
    {LETTERS "|\\p{N}" REST_OF_WORDS, {match_no_contractions}},
    {CASED(FOLDED "?") "|\\p{N}{1,3}" REST_OF_CASED, {match_gpt4o}},
    {CASED("") "|\\p{N}" REST_OF_CASED, {match_tekken}},
    {"[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" FOLDED
     "?|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*" FOLDED "?|\\p{N}{1,3}" REST_OF_WORDS,
     {match_kimi}},
    {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
     "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     {match_deepseek3}},
    {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
     "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+",
     {match_spark25}},
    {CASED(FOLDED "?") "|\\p{N}" REST_OF_CASED, {match_youtu}},
    {FOLDED "|" LETTERS "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|"
            "\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|"
            "\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
     {match_jais2}},
    {FOLDED "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
            " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     {match_exaone_moe}},
    {"[^\\n]+|[\\n]+", {match_lines}},
    {"\\s+$", {match_trailing_spaces}},
};

/* The next character of an expression, with a line break in it seen as its escape. */
static size_t escaped(char c, char out[2])
{
    out[0] = '\\';
    switch (c) {
    case '\n':
        out[1] = 'n';
        return 2;
    case '\r':
        out[1] = 'r';
        return 2;
    default:
        out[0] = c;
        return 1;
    }
}

static bool same_expression(struct text_view expression, const char *known)
{
    for (size_t i = 0; i < expression.length; i++) {
        char text[2];
        size_t length = escaped(expression.data[i], text);
        if (strncmp(known, text, length) != 0) {
            return false;
        }
        known += length;
    }
    return *known == 0;
}

const struct machine *machine_find(struct text_view expression)
{
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        if (same_expression(expression, machines[i].expression)) {
            return &machines[i].machine;
        }
    }
    return NULL;
}

const char *machine_expression(size_t index)
{
    return index < sizeof machines / sizeof machines[0] ? machines[index].expression : NULL;
}
