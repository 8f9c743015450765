/* Owns how a prelude is written: macros, since kernels also choose text by them (#if). */
#include "gpu/prelude.h"

void prelude_integer(struct buffer *prelude, const char *name, int64_t value)
{
    buffer_printf(prelude, "#define %s %s%lld%s\n", name, value < 0 ? "(" : "", (long long)value,
                  value < 0 ? ")" : "");
}

void prelude_float(struct buffer *prelude, const char *name, float value)
{
    /* Nine digits tell any two floats apart; the exponent makes it a floating-point literal. */
    buffer_printf(prelude, "#define %s (%.8ef)\n", name, (double)value);
}

void prelude_word(struct buffer *prelude, const char *name, const char *value)
{
    buffer_printf(prelude, "#define %s %s\n", name, value);
}
