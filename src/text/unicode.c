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

size_t unicode_lower(uint32_t code, uint32_t out[3])
{
    out[0] = code;
    if (code < 0x80) {
        out[0] = code >= 'A' && code <= 'Z' ? code + 32 : code;
        return 1;
    }
    if (code == 0x130) { /* the only character whose lower case is more than one */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    uint32_t low = 0;
    uint32_t high = unicode_lower_run_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct unicode_lower_run *run = &unicode_lower_runs[middle];
        if (code < run->first) {
            high = middle;
        } else if (code > run->last) {
            low = middle + 1;
        } else {
            if ((code - run->first) % run->step == 0) {
                out[0] = (uint32_t)((int64_t)code + run->delta);
            }
            return 1;
        }
    }
    return 1;
}
