/* Borrowed bytes and text: a pointer and a length, never NUL-terminated, never owned. */
#ifndef BASE_VIEW_H
#define BASE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text_view {
    const char *data; /* may be NULL when length is 0 */
    size_t length;    /* bytes */
};

/* For printf's "%.*s": two arguments. Cuts at INT_MAX, which no message reaches. */
#define TEXT_ARGUMENTS(view) \
    (int)((view).length > 0x7fffffff ? 0x7fffffff : (view).length), (view).data ? (view).data : ""

static inline struct text_view text_view_of(const char *text)
{
    struct text_view view = {text, text ? strlen(text) : 0};
    return view;
}

static inline struct text_view text_view_make(const char *data, size_t length)
{
    struct text_view view = {data, length};
    return view;
}

static inline bool text_view_equal(struct text_view a, struct text_view b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static inline bool text_view_is(struct text_view view, const char *text)
{
    return text_view_equal(view, text_view_of(text));
}

#endif
