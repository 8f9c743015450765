/* The tokens of a template, one at a time. */
#ifndef TEXT_TEMPLATE_LEXER_H
#define TEXT_TEMPLATE_LEXER_H

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/view.h"

enum jinja_token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_ADD,
    TOKEN_SUBTRACT,
    TOKEN_MULTIPLY,
    TOKEN_DIVIDE,
    TOKEN_FLOOR_DIVIDE,
    TOKEN_MODULO,
    TOKEN_POWER,
    TOKEN_TILDE,
    TOKEN_LEFT_BRACKET,
    TOKEN_RIGHT_BRACKET,
    TOKEN_LEFT_PAREN,
    TOKEN_RIGHT_PAREN,
    TOKEN_LEFT_BRACE,
    TOKEN_RIGHT_BRACE,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_GT,
    TOKEN_GE,
    TOKEN_LT,
    TOKEN_LE,
    TOKEN_ASSIGN,
    TOKEN_DOT,
    TOKEN_COLON,
    TOKEN_PIPE,
    TOKEN_COMMA,
    TOKEN_SEMICOLON,
};

struct jinja_token {
    uint8_t kind; /* enum jinja_token_kind */
    uint32_t offset;
    struct text_view text; /* name; data after stripping; a string's value after its escapes */
    int64_t integer;
    double number;
};

enum jinja_lexer_state { LEXER_DATA, LEXER_BLOCK, LEXER_VARIABLE };

struct template;

struct jinja_lexer {
    struct template *template;
    struct llcuda_error *error;
    llcuda_status status;
    const char *source;
    size_t length;
    size_t position;
    enum jinja_lexer_state state;
    bool line_starting; /* what was read last ends with a newline */
    bool begin_pending; /* data was given out; the tag behind it comes next */
    size_t begin_offset;
    size_t raw_tag;                          /* offset + 1 of a raw tag whose text comes next */
    char brackets[LIMIT_TEMPLATE_DEPTH * 2]; /* the closers that are awaited, innermost last */
    size_t bracket_count;
};

void jinja_lexer_init(struct jinja_lexer *lexer, struct template *template,
                      struct llcuda_error *error);
/* The next token; TOKEN_END again and again at the end. False after an error, which is in
 * lexer->status. */
bool jinja_lexer_next(struct jinja_lexer *lexer, struct jinja_token *token);

/* Puts a message with line and column into `error` and returns the status. */
llcuda_status jinja_error_at(const struct template *template, struct llcuda_error *error,
                             llcuda_status status, uint32_t offset, const char *format, ...)
    BASE_PRINTF(5, 6);

#endif
