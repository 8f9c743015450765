/* The prelude of a module: named constants that its text is compiled with. */
#ifndef GPU_PRELUDE_H
#define GPU_PRELUDE_H

#include "base/buffer.h"

/* Each appends `#define NAME value`; a failure is remembered in the buffer. Names are words of C.
 */
void prelude_integer(struct buffer *prelude, const char *name, int64_t value);
/* All bits of the float survive; it is finite. */
void prelude_float(struct buffer *prelude, const char *name, float value);
/* A word or an expression, such as a type. */
void prelude_word(struct buffer *prelude, const char *name, const char *value);

#endif
