/* Unicode normal forms, through utf8proc's tables, in linear time whatever the text. */
#ifndef TEXT_NORMAL_FORM_H
#define TEXT_NORMAL_FORM_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/view.h"

enum normal_form { NORMAL_FORM_C, NORMAL_FORM_D, NORMAL_FORM_KC, NORMAL_FORM_KD };

/* True when `text` is in this form for certain, found by looking at each character alone. */
bool normal_form_holds(enum normal_form form, struct text_view text);

/* Appends the normal form of `text`, valid UTF-8. UNSUPPORTED without utf8proc when it is not
 * certain that nothing changes. */
llcuda_status normal_form_append(enum normal_form form, struct text_view text, struct buffer *out,
                                 struct llcuda_error *error);

/* The end of the grapheme cluster that begins at text[at]. Without utf8proc: UNSUPPORTED for text
 * that is not ASCII. */
llcuda_status grapheme_end(struct text_view text, size_t at, size_t *end,
                           struct llcuda_error *error);

#endif
