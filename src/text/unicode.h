/* What a character is: general category, White_Space, Script=Han, and whether NFC leaves it alone.
 * Unicode 14.0, the version of Debian 12's PCRE2; the tables are made by
 * scripts/make_unicode_tables.py. Any thread. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include "base/view.h"

enum unicode_category {
    UNICODE_CN,
    UNICODE_LU,
    UNICODE_LL,
    UNICODE_LT,
    UNICODE_LM,
    UNICODE_LO,
    UNICODE_MN,
    UNICODE_MC,
    UNICODE_ME,
    UNICODE_ND,
    UNICODE_NL,
    UNICODE_NO,
    UNICODE_PC,
    UNICODE_PD,
    UNICODE_PS,
    UNICODE_PE,
    UNICODE_PI,
    UNICODE_PF,
    UNICODE_PO,
    UNICODE_SM,
    UNICODE_SC,
    UNICODE_SK,
    UNICODE_SO,
    UNICODE_ZS,
    UNICODE_ZL,
    UNICODE_ZP,
    UNICODE_CC,
    UNICODE_CF,
    UNICODE_CS,
    UNICODE_CO,
};

/* A character as a set of bits: one of its category and those of its other properties, so that a
 * class of a regular expression is one `&`. */
#define CLASS_OF(category) (1u << (category))
#define CLASS_L                                                                                  \
    (CLASS_OF(UNICODE_LU) | CLASS_OF(UNICODE_LL) | CLASS_OF(UNICODE_LT) | CLASS_OF(UNICODE_LM) | \
     CLASS_OF(UNICODE_LO))
#define CLASS_M (CLASS_OF(UNICODE_MN) | CLASS_OF(UNICODE_MC) | CLASS_OF(UNICODE_ME))
#define CLASS_N (CLASS_OF(UNICODE_ND) | CLASS_OF(UNICODE_NL) | CLASS_OF(UNICODE_NO))
#define CLASS_P                                                                                  \
    (CLASS_OF(UNICODE_PC) | CLASS_OF(UNICODE_PD) | CLASS_OF(UNICODE_PS) | CLASS_OF(UNICODE_PE) | \
     CLASS_OF(UNICODE_PI) | CLASS_OF(UNICODE_PF) | CLASS_OF(UNICODE_PO))
#define CLASS_S \
    (CLASS_OF(UNICODE_SM) | CLASS_OF(UNICODE_SC) | CLASS_OF(UNICODE_SK) | CLASS_OF(UNICODE_SO))
#define CLASS_SPACE (1u << 30) /* the property White_Space: what \s means in these patterns */
#define CLASS_HAN   (1u << 31)

#define UNICODE_PROPERTY_CATEGORY   0x1Fu
#define UNICODE_PROPERTY_SPACE      0x20u
#define UNICODE_PROPERTY_HAN        0x40u
#define UNICODE_PROPERTY_NFC_UNSAFE 0x80u

#define UNICODE_BLOCK_BITS 7

extern const uint8_t unicode_stage1[];
extern const uint8_t unicode_stage2[];
/* unicode_class() of the ASCII characters; 0 for bytes of longer ones. */
extern const uint32_t unicode_ascii_class[256];

/* Characters first, first + step, … last whose case is `delta` away; in rising order. */
struct unicode_case_run {
    uint32_t first, last;
    uint32_t step;
    int32_t delta;
};
extern const struct unicode_case_run unicode_lower_runs[], unicode_upper_runs[];
extern const uint32_t unicode_lower_run_count, unicode_upper_run_count;

/* Characters whose upper case is more than one character, and those whose title case is not their
 * upper case; in rising order. */
struct unicode_case_special {
    uint32_t code;
    uint32_t out[3]; /* one to three characters, then 0 */
};
extern const struct unicode_case_special unicode_upper_specials[], unicode_title_specials[];
extern const uint32_t unicode_upper_special_count, unicode_title_special_count;

/* What a property holds for beside whole categories, in rising order: digits that are no decimals,
 * numbers outside N, letters' cases outside Lu and Ll, and what a final sigma's rule looks past
 * beside Mn, Me, Cf, Lm and Sk. */
struct unicode_range {
    uint32_t first, last;
};
extern const struct unicode_range unicode_digit_ranges[], unicode_numeric_ranges[],
    unicode_upper_ranges[], unicode_lower_ranges[], unicode_ignorable_ranges[];
extern const uint32_t unicode_digit_range_count, unicode_numeric_range_count,
    unicode_upper_range_count, unicode_lower_range_count, unicode_ignorable_range_count;

/* `code` is at most U+10FFFF, as every decoded character is. */
static inline uint8_t unicode_property(uint32_t code)
{
    uint32_t block = unicode_stage1[code >> UNICODE_BLOCK_BITS];
    return unicode_stage2[block << UNICODE_BLOCK_BITS | (code & ((1u << UNICODE_BLOCK_BITS) - 1))];
}

static inline uint32_t unicode_class(uint32_t code)
{
    uint32_t property = unicode_property(code);
    return 1u << (property & UNICODE_PROPERTY_CATEGORY) |
           (property & (UNICODE_PROPERTY_SPACE | UNICODE_PROPERTY_HAN)) << 25;
}

/* The character at text[0], which must begin a valid UTF-8 sequence (the tokenizer has checked the
 * whole text); *length gets its bytes. */
static inline uint32_t unicode_next(const char *text, size_t *length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    if (bytes[0] < 0x80) {
        *length = 1;
        return bytes[0];
    }
    if (bytes[0] < 0xE0) {
        *length = 2;
        return (bytes[0] & 0x1Fu) << 6 | (bytes[1] & 0x3Fu);
    }
    if (bytes[0] < 0xF0) {
        *length = 3;
        return (bytes[0] & 0x0Fu) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
    }
    *length = 4;
    return (bytes[0] & 0x07u) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 |
           (bytes[3] & 0x3Fu);
}

/* The beginning of the character that ends before text[position]; position > 0. */
static inline size_t unicode_previous(const char *text, size_t position)
{
    position--;
    while (position > 0 && ((uint8_t)text[position] & 0xC0) == 0x80) {
        position--;
    }
    return position;
}

/* White_Space, not Pattern_White_Space, not \p{Z}. */
static inline bool unicode_is_space(uint32_t code)
{
    return (unicode_property(code) & UNICODE_PROPERTY_SPACE) != 0;
}

/* \w of UTS 18: alphabetic characters, marks, decimal digits, connectors and joiners. */
bool unicode_is_word(uint32_t code);
/* \w of Oniguruma: the same without joiners, but with the numbers of Latin-1 (U+00B2 …). */
bool unicode_is_regex_word(uint32_t code);
/* Number: Nd, Nl, No. */
bool unicode_is_numeric(uint32_t code);
/* ASCII punctuation or general category P. */
bool unicode_is_punctuation(uint32_t code);

/* Unconditional full case mappings: one to three characters, the count is returned. */
size_t unicode_lower(uint32_t code, uint32_t out[3]);
size_t unicode_upper(uint32_t code, uint32_t out[3]);
size_t unicode_title(uint32_t code, uint32_t out[3]);

/* Whether a character lies in one of `count` rising ranges. */
bool unicode_in_ranges(const struct unicode_range *ranges, uint32_t count, uint32_t code);

#endif
