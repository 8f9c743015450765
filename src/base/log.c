/* Owns the formatting of log lines. Stateless. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_message(const struct log_sink *sink, enum log_level level, const char *format, ...)
{
    if (!sink || !sink->write || level > sink->level_max) {
        return;
    }
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sink->write(sink->user, level, line);
}
