/* Log messages of the library go to a sink that the program gives; the library itself never prints.
 * A NULL sink, or one without a function, drops them. The sink may be called from any thread. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log_sink {
    void (*write)(void *user, enum log_level level, const char *message); /* one line, no newline */
    void *user;
    enum log_level level_max; /* more detailed messages are not formatted at all */
};

void log_message(const struct log_sink *sink, enum log_level level, const char *format, ...)
    BASE_PRINTF(3, 4);

#endif
