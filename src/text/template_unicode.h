/* Characters as Python's str methods see them: categories and full case mapping. The tables come
 * from template_unicode_table.py, so that every build, the minimal one too, renders templates
 * alike. Pure functions over constant tables: any thread. */
#ifndef TEXT_TEMPLATE_UNICODE_H
#define TEXT_TEMPLATE_UNICODE_H

#include "base/view.h"

struct jinja_case_run {
    uint32_t first;
    uint16_t count; /* characters first, first + stride, … */
    uint8_t stride; /* 1 or 2 */
    int32_t delta;  /* added to each */
};

struct jinja_case_special {
    uint32_t code;
    uint32_t out[3]; /* two or three characters, then 0 */
};

extern const uint32_t jinja_set_alpha[], jinja_set_decimal[], jinja_set_digit[],
    jinja_set_numeric[], jinja_set_upper[], jinja_set_lower[], jinja_set_title[],
    jinja_set_printable[], jinja_set_ignorable[];
extern const size_t jinja_set_alpha_count, jinja_set_decimal_count, jinja_set_digit_count,
    jinja_set_numeric_count, jinja_set_upper_count, jinja_set_lower_count, jinja_set_title_count,
    jinja_set_printable_count, jinja_set_ignorable_count;
extern const struct jinja_case_run jinja_lower_runs[], jinja_upper_runs[], jinja_title_runs[];
extern const size_t jinja_lower_runs_count, jinja_upper_runs_count, jinja_title_runs_count;
extern const struct jinja_case_special jinja_lower_specials[], jinja_upper_specials[],
    jinja_title_specials[];
extern const size_t jinja_lower_specials_count, jinja_upper_specials_count,
    jinja_title_specials_count;

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
