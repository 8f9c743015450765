/* The filters, by the files that hold them; the table is in template_filter.c. */
#ifndef TEXT_TEMPLATE_FILTER_H
#define TEXT_TEMPLATE_FILTER_H

#include "text/template_engine.h"

/* template_filter_text.c */
jinja_function filter_capitalize, filter_center, filter_escape, filter_filesizeformat,
    filter_forceescape, filter_format, filter_from_json, filter_indent, filter_lower,
    filter_replace, filter_safe, filter_string, filter_title, filter_tojson, filter_trim,
    filter_truncate, filter_upper, filter_urlencode, filter_wordcount, filter_xmlattr;

/* template_filter_number.c */
jinja_function filter_abs, filter_float, filter_int, filter_round;

/* True with *out set when an optional argument is absent or an integer. */
bool jinja_integer_argument(struct jinja_render *render, struct jinja_value value, int64_t fallback,
                            int64_t *out);

#endif
