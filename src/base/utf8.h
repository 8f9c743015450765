/* UTF-8, strictly as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/view.h"

#define UTF8_REPLACEMENT 0xFFFDu

/* Decodes one code point at data[0..length). Returns its length in bytes (1–4), or 0 when the bytes
 * there are no valid sequence or length is 0. */
size_t utf8_decode(const char *data, size_t length, uint32_t *code_point);

/* The number of bytes, 1 to 3, of an invalid sequence that one replacement character stands for
 * (the maximal-subpart rule of the Unicode standard, which Python and Rust follow). */
size_t utf8_invalid_length(const char *data, size_t length);

/* Writes 1–4 bytes, no NUL; 0 for surrogates and values above U+10FFFF. */
size_t utf8_encode(uint32_t code_point, char out[4]);

/* True when all of it is valid. */
bool utf8_valid(struct text_view text);

/* The length of the longest prefix that does not end inside a character which more bytes could
 * still complete: what a stream may print now. At most 3 bytes shorter than `text`. */
size_t utf8_complete_length(struct text_view text);

#endif
