/* Owns the splitting of a template into tokens: whitespace control, raw blocks, comments, literals.
 * Follows jinja2's lexer rule by rule, with trim_blocks and lstrip_blocks on. Invariants: the
 * position only grows; every token lies inside the source; text is valid UTF-8 from the start. One
 * lexer serves one parse. Knows nothing about grammar. */
#include "text/template_lexer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_node.h"
#include "text/template_unicode.h"

llcuda_status jinja_error_at(const struct template *template, struct llcuda_error *error,
                             llcuda_status status, uint32_t offset, const char *format, ...)
{
    char message[LLCUDA_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    struct template_position position = template_position(template, offset);
    return error_set_at(error, status, position.offset, "template line %u, column %u: %s",
                        position.line, position.column, message);
}

void jinja_lexer_init(struct jinja_lexer *lexer, struct template *template,
                      struct llcuda_error *error)
{
    *lexer = (struct jinja_lexer){.template = template,
                                  .error = error,
                                  .source = template->source.data,
                                  .length = template->source.length,
                                  .line_starting = true};
}

static bool fail(struct jinja_lexer *lexer, size_t offset, const char *message)
{
    lexer->status = jinja_error_at(lexer->template, lexer->error, LLCUDA_BAD_FORMAT,
                                   (uint32_t)offset, "%s", message);
    return false;
}

static bool starts(const struct jinja_lexer *lexer, size_t position, const char *text)
{
    size_t length = strlen(text);
    return lexer->length - position >= length &&
           memcmp(lexer->source + position, text, length) == 0;
}

static char byte_at(const struct jinja_lexer *lexer, size_t position)
{
    return position < lexer->length ? lexer->source[position] : 0;
}

/* The position after all whitespace from `position` on. */
static size_t skip_space(const struct jinja_lexer *lexer, size_t position)
{
    uint32_t code;
    size_t length;
    while (position < lexer->length &&
           (length = utf8_decode(lexer->source + position, lexer->length - position, &code)) > 0 &&
           jinja_is_space(code)) {
        position += length;
    }
    return position;
}

/* The end of source[begin, end) without its trailing whitespace. */
static size_t strip_right(const struct jinja_lexer *lexer, size_t begin, size_t end)
{
    while (end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)lexer->source[at] & 0xC0) == 0x80) {
            at--;
        }
        uint32_t code;
        if (!utf8_decode(lexer->source + at, end - at, &code) || !jinja_is_space(code)) {
            break;
        }
        end = at;
    }
    return end;
}

/* Matches the end of a tag at `position`: "-%}" and the whitespace behind it, "+%}", or "%}" and
 * one newline. Returns the position after it, or 0. */
static size_t match_tag_end(const struct jinja_lexer *lexer, size_t position, const char *closer)
{
    char sign = byte_at(lexer, position);
    if (sign == '-' && starts(lexer, position + 1, closer)) {
        return skip_space(lexer, position + 3);
    }
    if (sign == '+' && starts(lexer, position + 1, closer)) {
        return position + 3;
    }
    if (starts(lexer, position, closer)) {
        return position + 2 + (byte_at(lexer, position + 2) == '\n');
    }
    return 0;
}

/* Cuts the data before a tag as its sign and lstrip_blocks ask. */
static struct text_view strip_data(const struct jinja_lexer *lexer, size_t begin, size_t end,
                                   char sign, bool is_variable)
{
    if (sign == '-') {
        end = strip_right(lexer, begin, end);
    } else if (sign != '+' && !is_variable) {
        size_t line = end;
        while (line > begin && lexer->source[line - 1] != '\n') {
            line--;
        }
        if ((line > begin || lexer->line_starting) && skip_space(lexer, line) >= end) {
            end = line;
        }
    }
    return text_view_make(lexer->source + begin, end - begin);
}

static void set_position(struct jinja_lexer *lexer, size_t position)
{
    lexer->position = position;
    lexer->line_starting = position > 0 && lexer->source[position - 1] == '\n';
}

/* "{% raw %}" behind the "{%" at `tag`: the position after it, or 0. */
static size_t match_raw_begin(const struct jinja_lexer *lexer, size_t tag)
{
    size_t position = tag + 2;
    char sign = byte_at(lexer, position);
    position += sign == '-' || sign == '+';
    position = skip_space(lexer, position);
    if (!starts(lexer, position, "raw")) {
        return 0;
    }
    position = skip_space(lexer, position + 3);
    if (starts(lexer, position, "-%}")) {
        return skip_space(lexer, position + 3);
    }
    return starts(lexer, position, "%}") ? position + 2 : 0;
}

static bool lex_raw(struct jinja_lexer *lexer, size_t tag, struct jinja_token *token)
{
    size_t begin = lexer->position;
    for (size_t at = begin; at < lexer->length; at++) {
        if (!starts(lexer, at, "{%")) {
            continue;
        }
        char sign = byte_at(lexer, at + 2);
        bool has_sign = sign == '-' || sign == '+';
        size_t word = skip_space(lexer, at + 2 + has_sign);
        if (!starts(lexer, word, "endraw")) {
            continue;
        }
        size_t end = match_tag_end(lexer, skip_space(lexer, word + 6), "%}");
        if (!end) {
            continue;
        }
        token->kind = TOKEN_DATA;
        token->offset = (uint32_t)begin;
        token->text = strip_data(lexer, begin, at, has_sign ? sign : 0, false);
        set_position(lexer, end);
        return true;
    }
    return fail(lexer, tag, "this raw block has no endraw");
}

static bool skip_comment(struct jinja_lexer *lexer, size_t tag, size_t position)
{
    for (; position < lexer->length; position++) {
        size_t end = match_tag_end(lexer, position, "#}");
        if (end) {
            set_position(lexer, end);
            return true;
        }
    }
    return fail(lexer, tag, "this comment has no end");
}

/* Data up to the next tag, and the tag's beginning; an empty piece of data is left out by going on.
 * Sets token->kind to TOKEN_DATA when there is text, leaving the lexer behind the tag. */
static bool lex_data(struct jinja_lexer *lexer, struct jinja_token *token)
{
    size_t begin = lexer->position;
    size_t tag = begin;
    while (tag < lexer->length) {
        const char *brace = memchr(lexer->source + tag, '{', lexer->length - tag);
        tag = brace ? (size_t)(brace - lexer->source) : lexer->length;
        char next = byte_at(lexer, tag + 1);
        if (next == '%' || next == '{' || next == '#') {
            break;
        }
        tag += tag < lexer->length;
    }
    token->kind = TOKEN_DATA;
    token->offset = (uint32_t)begin;
    if (tag >= lexer->length) {
        token->text = text_view_make(lexer->source + begin, lexer->length - begin);
        set_position(lexer, lexer->length);
        return true;
    }
    char kind = lexer->source[tag + 1];
    char sign = byte_at(lexer, tag + 2);
    bool has_sign = sign == '-' || sign == '+';
    token->text = strip_data(lexer, begin, tag, has_sign ? sign : 0, kind == '{');
    size_t raw = kind == '%' ? match_raw_begin(lexer, tag) : 0;
    if (raw) {
        /* The data before it is given out now, the raw text in the next round. */
        set_position(lexer, raw);
        lexer->raw_tag = tag + 1;
        return true;
    }
    if (kind == '#') {
        return skip_comment(lexer, tag, tag + 2 + has_sign);
    }
    set_position(lexer, tag + 2 + has_sign);
    lexer->state = kind == '%' ? LEXER_BLOCK : LEXER_VARIABLE;
    lexer->begin_pending = true;
    lexer->begin_offset = tag;
    return true;
}

/* --- literals --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int digit_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

/* (\d+_)*\d+ from `position`: the position after it, or `position` itself. */
static size_t skip_digits(const struct jinja_lexer *lexer, size_t position)
{
    size_t end = position;
    while (is_digit(byte_at(lexer, end)) ||
           (end > position && byte_at(lexer, end) == '_' && is_digit(byte_at(lexer, end + 1)))) {
        end++;
    }
    return end;
}

/* The end of a float at the position, or 0 when there is none. */
static size_t match_float(const struct jinja_lexer *lexer)
{
    size_t position = lexer->position;
    if (position > 0 && lexer->source[position - 1] == '.') {
        return 0;
    }
    size_t end = skip_digits(lexer, position);
    if (end == position) {
        return 0;
    }
    bool fraction = false;
    if (byte_at(lexer, end) == '.') {
        size_t after = skip_digits(lexer, end + 1);
        fraction = after > end + 1;
        end = fraction ? after : end;
    }
    if ((byte_at(lexer, end) | 0x20) == 'e') {
        size_t exponent = end + 1;
        exponent += byte_at(lexer, exponent) == '+' || byte_at(lexer, exponent) == '-';
        size_t after = skip_digits(lexer, exponent);
        if (after > exponent) {
            return after;
        }
    }
    return fraction ? end : 0;
}

static bool lex_float(struct jinja_lexer *lexer, size_t end, struct jinja_token *token)
{
    struct text_view text = text_view_make(lexer->source + lexer->position, end - lexer->position);
    token->kind = TOKEN_FLOAT;
    if (!jinja_parse_float(text, &token->number)) {
        return fail(lexer, lexer->position, "this number is too long");
    }
    set_position(lexer, end);
    return true;
}

/* 0b…, 0o…, 0x…, a decimal without leading zeros, or zeros; '_' between digits. */
static bool lex_integer(struct jinja_lexer *lexer, struct jinja_token *token)
{
    size_t position = lexer->position;
    int base = 10;
    char first = lexer->source[position];
    char mark = (char)(byte_at(lexer, position + 1) | 0x20);
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (first == '0' && marked) {
        size_t digits = position + 2 + (byte_at(lexer, position + 2) == '_');
        if (digit_value(byte_at(lexer, digits)) < marked) {
            base = marked;
            position = digits;
        }
    }
    bool zeros = base == 10 && first == '0';
    int64_t value = 0;
    for (;;) {
        int digit = digit_value(byte_at(lexer, position));
        if (digit >= base || (zeros && digit != 0)) {
            break;
        }
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return fail(lexer, lexer->position, "this number does not fit 64 bits");
        }
        position++;
        int after = digit_value(byte_at(lexer, position + 1));
        if (byte_at(lexer, position) == '_' && after < base && !(zeros && after != 0)) {
            position++;
        }
    }
    token->kind = TOKEN_INTEGER;
    token->integer = value;
    set_position(lexer, position);
    return true;
}

struct decoder {
    struct jinja_lexer *lexer;
    char *out;
    size_t length;
    size_t position; /* in the source */
    size_t end;      /* the closing quote */
};

static bool put_code(struct decoder *decoder, uint32_t code)
{
    size_t length = utf8_encode(code, decoder->out + decoder->length);
    decoder->length += length;
    return length > 0 || fail(decoder->lexer, decoder->position, "this escape is no character");
}

static bool put_hex(struct decoder *decoder, size_t count)
{
    uint32_t code = 0;
    if (decoder->end - decoder->position < 2 + count) {
        return fail(decoder->lexer, decoder->position, "this escape is too short");
    }
    for (size_t i = 0; i < count; i++) {
        int digit = digit_value(decoder->lexer->source[decoder->position + 2 + i]);
        if (digit > 15) {
            return fail(decoder->lexer, decoder->position, "this escape is too short");
        }
        code = code << 4 | (uint32_t)digit;
    }
    if (!put_code(decoder, code)) {
        return false;
    }
    decoder->position += 2 + count;
    return true;
}

static bool put_octal(struct decoder *decoder)
{
    uint32_t code = 0;
    size_t at = decoder->position + 1;
    for (size_t i = 0; i < 3 && at < decoder->end; i++, at++) {
        char c = decoder->lexer->source[at];
        if (c < '0' || c > '7') {
            break;
        }
        code = code * 8 + (uint32_t)(c - '0');
    }
    decoder->position = at;
    return put_code(decoder, code);
}

/* Python decodes the literal after writing every character beyond ASCII as an escape, so that a
 * backslash before such a character shows that escape's letters. */
static bool put_foreign(struct decoder *decoder)
{
    uint32_t code;
    size_t length = utf8_decode(decoder->lexer->source + decoder->position + 1,
                                decoder->end - decoder->position - 1, &code);
    char text[12];
    int written = snprintf(text, sizeof text,
                           code < 0x100     ? "\\x%02x"
                           : code < 0x10000 ? "\\u%04x"
                                            : "\\U%08x",
                           code);
    memcpy(decoder->out + decoder->length, text, (size_t)written);
    decoder->length += (size_t)written;
    decoder->position += 1 + length;
    return true;
}

static bool put_escape(struct decoder *decoder)
{
    static const char from[] = "\\'\"abfnrtv";
    static const char to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = decoder->lexer->source[decoder->position + 1];
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        decoder->out[decoder->length++] = to[simple - from];
        decoder->position += 2;
        return true;
    }
    if (c >= '0' && c <= '7') {
        return put_octal(decoder);
    }
    switch (c) {
    case '\n':
        decoder->position += 2;
        return true;
    case 'x':
        return put_hex(decoder, 2);
    case 'u':
        return put_hex(decoder, 4);
    case 'U':
        return put_hex(decoder, 8);
    case 'N':
        return fail(decoder->lexer, decoder->position, "escapes by name are not supported");
    default:
        break;
    }
    if ((unsigned char)c >= 0x80) {
        return put_foreign(decoder);
    }
    decoder->out[decoder->length++] = '\\';
    decoder->out[decoder->length++] = c;
    decoder->position += 2;
    return true;
}

static bool lex_string(struct jinja_lexer *lexer, struct jinja_token *token)
{
    size_t begin = lexer->position + 1;
    char quote = lexer->source[lexer->position];
    size_t end = begin;
    bool escaped = false;
    while (end < lexer->length && lexer->source[end] != quote) {
        if (lexer->source[end] == '\\') {
            escaped = true;
            end++;
        }
        end++;
    }
    if (end >= lexer->length) {
        return fail(lexer, lexer->position, "this string has no closing quote");
    }
    token->kind = TOKEN_STRING;
    token->text = text_view_make(lexer->source + begin, end - begin);
    if (escaped) {
        /* No escape grows more than a backslash and a two-byte character do: to five bytes. */
        struct decoder decoder = {lexer, NULL, 0, begin, end};
        decoder.out = arena_alloc(&lexer->template->arena, (end - begin) * 2 + 16, 1);
        if (!decoder.out) {
            lexer->status = error_no_memory(lexer->error, "a chat template", end - begin);
            return false;
        }
        while (decoder.position < end) {
            if (lexer->source[decoder.position] != '\\') {
                decoder.out[decoder.length++] = lexer->source[decoder.position++];
            } else if (!put_escape(&decoder)) {
                return false;
            }
        }
        token->text = text_view_make(decoder.out, decoder.length);
    }
    set_position(lexer, end + 1);
    return true;
}

/* --- names and operators --- */

static bool is_name_byte(char c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static bool lex_name(struct jinja_lexer *lexer, struct jinja_token *token)
{
    size_t begin = lexer->position;
    size_t end = begin;
    while (end < lexer->length && is_name_byte(lexer->source[end])) {
        uint32_t code;
        size_t length = utf8_decode(lexer->source + end, lexer->length - end, &code);
        if (code != '_' && !(end > begin ? jinja_is_alnum(code) : jinja_is_alpha(code))) {
            return fail(lexer, end, "this character is not expected here");
        }
        end += length;
    }
    token->kind = TOKEN_NAME;
    token->text = text_view_make(lexer->source + begin, end - begin);
    set_position(lexer, end);
    return true;
}

static const struct {
    char text[3];
    uint8_t kind;
} operators[] = {
    {"//", TOKEN_FLOOR_DIVIDE},
    {"**", TOKEN_POWER},
    {"==", TOKEN_EQ},
    {"!=", TOKEN_NE},
    {">=", TOKEN_GE},
    {"<=", TOKEN_LE},
    {"+", TOKEN_ADD},
    {"-", TOKEN_SUBTRACT},
    {"/", TOKEN_DIVIDE},
    {"*", TOKEN_MULTIPLY},
    {"%", TOKEN_MODULO},
    {"~", TOKEN_TILDE},
    {"[", TOKEN_LEFT_BRACKET},
    {"]", TOKEN_RIGHT_BRACKET},
    {"(", TOKEN_LEFT_PAREN},
    {")", TOKEN_RIGHT_PAREN},
    {"{", TOKEN_LEFT_BRACE},
    {"}", TOKEN_RIGHT_BRACE},
    {">", TOKEN_GT},
    {"<", TOKEN_LT},
    {"=", TOKEN_ASSIGN},
    {".", TOKEN_DOT},
    {":", TOKEN_COLON},
    {"|", TOKEN_PIPE},
    {",", TOKEN_COMMA},
    {";", TOKEN_SEMICOLON},
};

static bool balance(struct jinja_lexer *lexer, char c)
{
    char closer = (char)(c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : 0);
    if (closer) {
        if (lexer->bracket_count == sizeof lexer->brackets) {
            lexer->status =
                jinja_error_at(lexer->template, lexer->error, LLCUDA_LIMIT,
                               (uint32_t)lexer->position, "brackets are nested too deeply");
            return false;
        }
        lexer->brackets[lexer->bracket_count++] = closer;
        return true;
    }
    if (lexer->bracket_count == 0 || lexer->brackets[lexer->bracket_count - 1] != c) {
        return fail(lexer, lexer->position, "this bracket closes nothing");
    }
    lexer->bracket_count--;
    return true;
}

static bool lex_operator(struct jinja_lexer *lexer, struct jinja_token *token)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (starts(lexer, lexer->position, operators[i].text)) {
            char c = operators[i].text[0];
            if (strchr("()[]{}", c) && !balance(lexer, c)) {
                return false;
            }
            token->kind = operators[i].kind;
            set_position(lexer, lexer->position + strlen(operators[i].text));
            return true;
        }
    }
    return fail(lexer, lexer->position, "this character is not expected here");
}

static bool lex_expression(struct jinja_lexer *lexer, struct jinja_token *token)
{
    bool block = lexer->state == LEXER_BLOCK;
    if (lexer->bracket_count == 0) {
        size_t end = 0;
        if (block) {
            end = match_tag_end(lexer, lexer->position, "%}");
        } else if (starts(lexer, lexer->position, "-}}")) {
            end = skip_space(lexer, lexer->position + 3);
        } else if (starts(lexer, lexer->position, "}}")) {
            end = lexer->position + 2;
        }
        if (end) {
            token->kind = block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END;
            lexer->state = LEXER_DATA;
            set_position(lexer, end);
            return true;
        }
    }
    char c = lexer->source[lexer->position];
    if (is_digit(c)) {
        size_t end = match_float(lexer);
        return end ? lex_float(lexer, end, token) : lex_integer(lexer, token);
    }
    if (is_name_byte(c)) {
        return lex_name(lexer, token);
    }
    return c == '\'' || c == '"' ? lex_string(lexer, token) : lex_operator(lexer, token);
}

bool jinja_lexer_next(struct jinja_lexer *lexer, struct jinja_token *token)
{
    *token = (struct jinja_token){.offset = (uint32_t)lexer->position};
    while (lexer->state == LEXER_DATA || lexer->begin_pending) {
        if (lexer->begin_pending) {
            lexer->begin_pending = false;
            token->kind = lexer->state == LEXER_BLOCK ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN;
            token->offset = (uint32_t)lexer->begin_offset;
            return true;
        }
        if (lexer->raw_tag) {
            size_t tag = lexer->raw_tag - 1;
            lexer->raw_tag = 0;
            if (!lex_raw(lexer, tag, token)) {
                return false;
            }
        } else if (lexer->position >= lexer->length) {
            token->kind = TOKEN_END;
            return true;
        } else if (!lex_data(lexer, token)) {
            return false;
        }
        if (token->text.length > 0) {
            return true;
        }
    }
    lexer->position = skip_space(lexer, lexer->position);
    token->offset = (uint32_t)lexer->position;
    if (lexer->position >= lexer->length) {
        token->kind = TOKEN_END;
        return true;
    }
    return lex_expression(lexer, token);
}
