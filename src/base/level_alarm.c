/* Owns the thresholds at which memory counts as nearly full. No state but the caller's. */
#include "base/level_alarm.h"

#include <math.h>

/* A threshold counts as passed until the share is so far below. */
#define HYSTERESIS 0.03

uint32_t level_alarm_look(struct level_alarm *alarm, double share)
{
    static const uint32_t thresholds[] = {95, 90};
    uint32_t before = alarm->percent;
    uint32_t now = 0;
    if (isnan(share)) {
        return 0;
    }
    for (int i = 0; i < 2 && now == 0; i++) {
        double threshold = thresholds[i] / 100.0;
        if (share >= threshold - (thresholds[i] <= before ? HYSTERESIS : 0)) {
            now = thresholds[i];
        }
    }
    alarm->percent = now;
    return now > before ? now : 0;
}
