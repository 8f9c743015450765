/* Format fields, shared by %-formatting and str.format (template_format.c) and their numbers
 * (template_number.c). */
#ifndef TEXT_TEMPLATE_FORMAT_H
#define TEXT_TEMPLATE_FORMAT_H

#include "text/template_engine.h"

/* One field: "[[fill]align][sign][#][0][width][,][.precision][type]". */
struct jinja_spec {
    uint32_t fill;  /* a code point */
    char align;     /* '<', '>', '^', '=' or 0 */
    char sign;      /* '+', ' ' or 0 */
    bool has_minus; /* '-' stood for the sign, which changes nothing but what is allowed */
    bool alternate; /* '#' */
    char grouping;  /* ',', '_' or 0 */
    bool zero;      /* a 0 before the width */
    size_t width;
    int precision; /* -1: none */
    char type;     /* 0: none */
};

#define JINJA_FORMAT_WIDTH_MAX 1000000

/* A short text on the stack; putting fails when it is full. */
struct jinja_buffer {
    size_t length;
    char data[2400];
};
bool jinja_buffer_put(struct jinja_buffer *out, const char *data, size_t length);

/* |value| by 'e', 'f', 'g' or their capitals. */
bool jinja_print_magnitude(struct jinja_buffer *out, double value, char conversion, int precision,
                           bool alternate);
bool jinja_put_padded(struct jinja_render *render, struct text_view prefix, struct text_view body,
                      const struct jinja_spec *spec, char default_align);
bool jinja_format_integer(struct jinja_render *render, int64_t value, struct jinja_spec spec);
bool jinja_format_float(struct jinja_render *render, double value, struct jinja_spec spec);

#endif
