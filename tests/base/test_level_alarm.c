/* A level that rises, trembles and falls: what is told, and what not. */
#include "support/test_support.h"

#include <math.h>

#include "base/level_alarm.h"

static void each_threshold_is_told_once(void **state)
{
    (void)state;
    static const struct {
        double share;
        uint32_t told;
    } looks[] = {
        {0.5, 0},   {0.899, 0}, {0.90, 90}, {0.91, 0}, {0.89, 0}, {0.90, 0},  {0.94, 0},
        {0.95, 95}, {0.93, 0},  {0.96, 0},  {NAN, 0},  {0.95, 0}, {0.915, 0}, {0.95, 95},
        {0.86, 0},  {0.91, 90}, {0.5, 0},   {1.2, 95}, {0.0, 0},  {0.95, 95},
    };
    struct level_alarm alarm = {0};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        uint32_t told = level_alarm_look(&alarm, looks[i].share);
        if (told != looks[i].told) {
            fail_msg("look %zu at %g: told %u, wanted %u", i, looks[i].share, told, looks[i].told);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_threshold_is_told_once),
};

TEST_MAIN(tests)
