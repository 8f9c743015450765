/* Owns what Python's str methods ask of single characters. Pure functions; any thread. ASCII never
 * reaches a table. */
#include "text/template_unicode.h"

static bool has_class(uint32_t code, uint32_t wanted)
{
    return (unicode_class(code) & wanted) != 0;
}

bool jinja_is_alpha(uint32_t code)
{
    if (code < 0x80) {
        return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    }
    return has_class(code, CLASS_L);
}

bool jinja_is_decimal(uint32_t code)
{
    if (code < 0x80) {
        return code >= '0' && code <= '9';
    }
    return has_class(code, CLASS_OF(UNICODE_ND));
}

bool jinja_is_digit(uint32_t code)
{
    return jinja_is_decimal(code) ||
           (code >= 0x80 &&
            unicode_in_ranges(unicode_digit_ranges, unicode_digit_range_count, code));
}

bool jinja_is_numeric(uint32_t code)
{
    if (code < 0x80) {
        return jinja_is_decimal(code);
    }
    return has_class(code, CLASS_N) ||
           unicode_in_ranges(unicode_numeric_ranges, unicode_numeric_range_count, code);
}

bool jinja_is_alnum(uint32_t code)
{
    return jinja_is_alpha(code) || jinja_is_numeric(code);
}

bool jinja_is_upper(uint32_t code)
{
    if (code < 0x80) {
        return code >= 'A' && code <= 'Z';
    }
    return has_class(code, CLASS_OF(UNICODE_LU)) ||
           unicode_in_ranges(unicode_upper_ranges, unicode_upper_range_count, code);
}

bool jinja_is_lower(uint32_t code)
{
    if (code < 0x80) {
        return code >= 'a' && code <= 'z';
    }
    return has_class(code, CLASS_OF(UNICODE_LL)) ||
           unicode_in_ranges(unicode_lower_ranges, unicode_lower_range_count, code);
}

bool jinja_is_title(uint32_t code)
{
    return code >= 0x80 && has_class(code, CLASS_OF(UNICODE_LT));
}

bool jinja_is_printable(uint32_t code)
{
    if (code < 0x80) {
        return code >= 0x20 && code < 0x7F;
    }
    return !has_class(code, CLASS_OF(UNICODE_CC) | CLASS_OF(UNICODE_CF) | CLASS_OF(UNICODE_CS) |
                                CLASS_OF(UNICODE_CO) | CLASS_OF(UNICODE_CN) | CLASS_OF(UNICODE_ZL) |
                                CLASS_OF(UNICODE_ZP) | CLASS_OF(UNICODE_ZS));
}

bool jinja_is_ignorable(uint32_t code)
{
    return has_class(code, CLASS_OF(UNICODE_MN) | CLASS_OF(UNICODE_ME) | CLASS_OF(UNICODE_CF) |
                               CLASS_OF(UNICODE_LM) | CLASS_OF(UNICODE_SK)) ||
           unicode_in_ranges(unicode_ignorable_ranges, unicode_ignorable_range_count, code);
}

bool jinja_is_space(uint32_t code)
{
    if (code < 0x80) {
        return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x1F);
    }
    return unicode_is_space(code);
}

bool jinja_is_line_break(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

size_t jinja_map_case(enum jinja_case to, uint32_t code, uint32_t out[3])
{
    return to == JINJA_LOWER   ? unicode_lower(code, out)
           : to == JINJA_UPPER ? unicode_upper(code, out)
                               : unicode_title(code, out);
}
