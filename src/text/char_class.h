/* Expressions that are one class of characters, such as "\p{N}{1,3}", "[\r\n]" or " ?[^(\s|.,]+":
 * compiled to bits and ranges, matched without a regular-expression library. */
#ifndef TEXT_CHAR_CLASS_H
#define TEXT_CHAR_CLASS_H

#include "base/error.h"
#include "base/view.h"

#define CHAR_CLASS_RANGES_MAX 512u

struct char_range {
    uint32_t first, last;
};

/* A set of characters: those of some categories, those of some ranges; or all others. */
struct char_class {
    bool negated;
    uint32_t classes;          /* bits of unicode_class() */
    uint64_t ascii[2];         /* membership of U+0000 … U+007F, negation included */
    struct char_range *ranges; /* ascending, disjoint; owned */
    uint32_t range_count;
};

enum class_prefix { CLASS_PREFIX_NONE, CLASS_PREFIX_SPACE, CLASS_PREFIX_WHITE_SPACE };

/* An optional space, then `least` to `most` characters of the class; most 0: any number. */
struct class_pattern {
    enum class_prefix prefix;
    uint32_t least, most;
    struct char_class set;
};

/* True when `expression` has this form; false when it has not, and *pattern is then empty. When
 * memory ran out, *status is set too. class_pattern_deinit in either case. */
bool class_pattern_compile(struct class_pattern *pattern, struct text_view expression,
                           llcuda_status *status);
void class_pattern_deinit(struct class_pattern *pattern);

bool char_class_has(const struct char_class *set, uint32_t code);

/* The end of the match that begins at `at`, or `at`; see machines.h. */
size_t class_pattern_match(const struct class_pattern *pattern, const char *text, size_t end,
                           size_t at);

#endif
