/* Owns questions about single characters that are more than one table look-up. Stateless. */
#include "text/unicode.h"

bool unicode_is_word(uint32_t code)
{
    uint32_t wanted =
        CLASS_L | CLASS_M | CLASS_OF(UNICODE_ND) | CLASS_OF(UNICODE_NL) | CLASS_OF(UNICODE_PC);
    if (unicode_class(code) & wanted) {
        return true;
    }
    /* Join_Control, and the symbols with Other_Alphabetic: circled, squared and regional letters.
     */
    return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
           (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
           (code >= 0x1F170 && code <= 0x1F189);
}

bool unicode_is_regex_word(uint32_t code)
{
    bool latin_number =
        code == 0xB2 || code == 0xB3 || code == 0xB9 || (code >= 0xBC && code <= 0xBE);
    return latin_number || (code != 0x200C && code != 0x200D && unicode_is_word(code));
}

bool unicode_is_numeric(uint32_t code)
{
    return (unicode_class(code) & CLASS_N) != 0;
}

bool unicode_is_punctuation(uint32_t code)
{
    if (code < 0x80) {
        return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
               (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
    }
    return (unicode_class(code) & CLASS_P) != 0;
}

bool unicode_in_ranges(const struct unicode_range *ranges, uint32_t count, uint32_t code)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (code < ranges[middle].first) {
            high = middle;
        } else if (code > ranges[middle].last) {
            low = middle + 1;
        } else {
            return true;
        }
    }
    return false;
}

static uint32_t map_run(const struct unicode_case_run *runs, uint32_t count, uint32_t code)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct unicode_case_run *run = &runs[middle];
        if (code < run->first) {
            high = middle;
        } else if (code > run->last) {
            low = middle + 1;
        } else {
            return (code - run->first) % run->step == 0 ? (uint32_t)((int64_t)code + run->delta)
                                                        : code;
        }
    }
    return code;
}

/* 0 when the character is none of the special ones. */
static size_t map_special(const struct unicode_case_special *specials, uint32_t count,
                          uint32_t code, uint32_t out[3])
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (specials[middle].code == code) {
            size_t length = 0;
            while (length < 3 && specials[middle].out[length] != 0) {
                out[length] = specials[middle].out[length];
                length++;
            }
            return length;
        }
        if (specials[middle].code < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

size_t unicode_lower(uint32_t code, uint32_t out[3])
{
    if (code < 0x80) {
        out[0] = code >= 'A' && code <= 'Z' ? code + 32 : code;
        return 1;
    }
    if (code == 0x130) { /* the only character whose lower case is more than one */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = map_run(unicode_lower_runs, unicode_lower_run_count, code);
    return 1;
}

size_t unicode_upper(uint32_t code, uint32_t out[3])
{
    if (code < 0x80) {
        out[0] = code >= 'a' && code <= 'z' ? code - 32 : code;
        return 1;
    }
    size_t count = map_special(unicode_upper_specials, unicode_upper_special_count, code, out);
    if (count > 0) {
        return count;
    }
    out[0] = map_run(unicode_upper_runs, unicode_upper_run_count, code);
    return 1;
}

size_t unicode_title(uint32_t code, uint32_t out[3])
{
    size_t count = map_special(unicode_title_specials, unicode_title_special_count, code, out);
    return count > 0 ? count : unicode_upper(code, out);
}
