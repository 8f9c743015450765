/* Characters as Python's str methods see them, from the tables of text/unicode.h, so that every
 * build, the minimal one too, renders templates alike. Pure functions: any thread. */
#ifndef TEXT_TEMPLATE_UNICODE_H
#define TEXT_TEMPLATE_UNICODE_H

#include "text/unicode.h"

bool jinja_is_alpha(uint32_t code);
bool jinja_is_decimal(uint32_t code);
bool jinja_is_digit(uint32_t code);
bool jinja_is_numeric(uint32_t code);
bool jinja_is_alnum(uint32_t code);
bool jinja_is_upper(uint32_t code);
bool jinja_is_lower(uint32_t code);
bool jinja_is_title(uint32_t code); /* category Lt only */
bool jinja_is_printable(uint32_t code);
bool jinja_is_ignorable(uint32_t code);
/* str.isspace: also U+001C–U+001F, U+0085, U+00A0 and the Zs category. */
bool jinja_is_space(uint32_t code);
/* What str.splitlines splits at. */
bool jinja_is_line_break(uint32_t code);

enum jinja_case { JINJA_LOWER, JINJA_UPPER, JINJA_TITLE };

/* Full case mapping of one character without context: 1 to 3 characters; returns how many. */
size_t jinja_map_case(enum jinja_case to, uint32_t code, uint32_t out[3]);

#endif
