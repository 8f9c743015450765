/* When to say that something fills up: once for each threshold that is passed, and again only after
 * it has clearly fallen below, so that a reading that trembles fills no log. */
#ifndef BASE_LEVEL_ALARM_H
#define BASE_LEVEL_ALARM_H

#include <stdint.h>

/* A zeroed one has seen nothing yet. */
struct level_alarm {
    uint32_t percent; /* the threshold that is passed now; 0: none */
};

/* Looks at a share, 0 … 1 or more; NaN is no reading. Returns the threshold in percent (90 or 95)
 * that it has risen above just now, otherwise 0. */
uint32_t level_alarm_look(struct level_alarm *alarm, double share);

#endif
