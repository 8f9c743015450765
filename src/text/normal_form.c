/* Owns normalisation over utf8proc's tables. utf8proc's own driver orders marks by swapping
 * neighbours, which takes quadratic time on a long run of them; here a segment is decomposed, its
 * marks are put in order by counting, and it is composed. A segment ends before a character that
 * neither is a mark nor joins what stands before it. */
#include "text/normal_form.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "build_config.h"
#include "text/unicode.h"

static bool is_ascii(struct text_view text)
{
    uint8_t bits = 0;
    for (size_t i = 0; i < text.length; i++) {
        bits |= (uint8_t)text.data[i];
    }
    return bits < 0x80;
}

bool normal_form_holds(enum normal_form form, struct text_view text)
{
    if (is_ascii(text)) {
        return true;
    }
    if (form != NORMAL_FORM_C) {
        return false;
    }
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        uint32_t code = unicode_next(text.data + at, &length);
        if (unicode_property(code) & UNICODE_PROPERTY_NFC_UNSAFE) {
            return false;
        }
    }
    return true;
}

#if LLCUDA_HAVE_UTF8PROC

#include <utf8proc.h>

#define DECOMPOSED_MAX 32 /* characters that one becomes; Unicode's longest is 18 */

struct segment {
    utf8proc_int32_t *codes;
    utf8proc_int32_t *sorted; /* as many again */
    size_t count;
    size_t capacity;
};

static bool segment_reserve(struct segment *segment, size_t more)
{
    if (segment->count + more <= segment->capacity) {
        return true;
    }
    size_t capacity = segment->capacity * 2 + more + 64;
    utf8proc_int32_t *codes = realloc(segment->codes, 2 * capacity * sizeof *codes);
    if (!codes) {
        return false;
    }
    segment->codes = codes;
    segment->sorted = codes + capacity;
    segment->capacity = capacity;
    return true;
}

static unsigned combining_class(utf8proc_int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & 0xFF;
}

/* Orders codes[first, last), all marks, by class; equal classes keep their order. */
static void order_marks(struct segment *segment, size_t first, size_t last)
{
    if (last - first <= 8) {
        for (size_t i = first + 1; i < last; i++) {
            utf8proc_int32_t code = segment->codes[i];
            size_t place = i;
            while (place > first &&
                   combining_class(segment->codes[place - 1]) > combining_class(code)) {
                segment->codes[place] = segment->codes[place - 1];
                place--;
            }
            segment->codes[place] = code;
        }
        return;
    }
    size_t starts[257] = {0};
    for (size_t i = first; i < last; i++) {
        starts[combining_class(segment->codes[i]) + 1]++;
    }
    for (size_t i = 1; i < 257; i++) {
        starts[i] += starts[i - 1];
    }
    for (size_t i = first; i < last; i++) {
        segment->sorted[starts[combining_class(segment->codes[i])]++] = segment->codes[i];
    }
    memcpy(segment->codes + first, segment->sorted, (last - first) * sizeof *segment->codes);
}

/* Puts the segment in order, composes it if the form asks for it, and writes it out. */
static void segment_flush(struct segment *segment, bool compose, struct buffer *out)
{
    size_t first = 0;
    while (first < segment->count) {
        size_t last = first;
        while (last < segment->count && combining_class(segment->codes[last]) != 0) {
            last++;
        }
        order_marks(segment, first, last);
        first = last + 1;
    }
    if (compose && segment->count > 1) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(
            segment->codes, (utf8proc_ssize_t)segment->count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        segment->count = left > 0 ? (size_t)left : 0;
    }
    for (size_t i = 0; i < segment->count; i++) {
        char encoded[4];
        buffer_append(out, encoded, utf8_encode((uint32_t)segment->codes[i], encoded));
    }
    segment->count = 0;
}

llcuda_status normal_form_append(enum normal_form form, struct text_view text, struct buffer *out,
                                 struct llcuda_error *error)
{
    bool compose = form == NORMAL_FORM_C || form == NORMAL_FORM_KC;
    bool compatible = form == NORMAL_FORM_KC || form == NORMAL_FORM_KD;
    utf8proc_option_t options =
        UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    struct segment segment = {0};
    size_t length;
    bool memory = true;
    for (size_t at = 0; at < text.length && memory; at += length) {
        uint32_t code = unicode_next(text.data + at, &length);
        utf8proc_int32_t parts[DECOMPOSED_MAX];
        int boundary = 0;
        utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)code, parts,
                                                         DECOMPOSED_MAX, options, &boundary);
        if (count <= 0 || count > DECOMPOSED_MAX) {
            parts[0] = (utf8proc_int32_t)code;
            count = 1;
        }
        bool joins = (unicode_property((uint32_t)parts[0]) & UNICODE_PROPERTY_NFC_UNSAFE) != 0 ||
                     combining_class(parts[0]) != 0;
        if (!joins) {
            segment_flush(&segment, compose, out);
        }
        memory = segment_reserve(&segment, (size_t)count);
        if (memory) {
            memcpy(segment.codes + segment.count, parts, (size_t)count * sizeof parts[0]);
            segment.count += (size_t)count;
        }
    }
    segment_flush(&segment, compose, out);
    free(segment.codes);
    if (!memory || out->failed) {
        return error_no_memory(error, "a normalised text", text.length);
    }
    return LLCUDA_OK;
}

llcuda_status grapheme_end(struct text_view text, size_t at, size_t *end,
                           struct llcuda_error *error)
{
    (void)error;
    size_t length;
    utf8proc_int32_t state = 0;
    uint32_t code = unicode_next(text.data + at, &length);
    at += length;
    while (at < text.length) {
        uint32_t next = unicode_next(text.data + at, &length);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code, (utf8proc_int32_t)next,
                                             &state)) {
            break;
        }
        code = next;
        at += length;
    }
    *end = at;
    return LLCUDA_OK;
}

#else

llcuda_status normal_form_append(enum normal_form form, struct text_view text, struct buffer *out,
                                 struct llcuda_error *error)
{
    if (!normal_form_holds(form, text)) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the tokeniser normalises text, for which this build lacks utf8proc");
    }
    if (!buffer_append_view(out, text)) {
        return error_no_memory(error, "a normalised text", text.length);
    }
    return LLCUDA_OK;
}

llcuda_status grapheme_end(struct text_view text, size_t at, size_t *end,
                           struct llcuda_error *error)
{
    uint8_t first = (uint8_t)text.data[at];
    uint8_t second = at + 1 < text.length ? (uint8_t)text.data[at + 1] : 0;
    if (first >= 0x80 || second >= 0x80) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "the tokeniser normalises graphemes, for which this build lacks utf8proc");
    }
    *end = at + (first == '\r' && second == '\n' ? 2 : 1);
    return LLCUDA_OK;
}

#endif
