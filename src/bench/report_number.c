/* Owns how figures are written for people. */
#include <math.h>
#include <stdio.h>

#include "bench/report.h"

struct number_text report_number(double value, int digits)
{
    struct number_text number;
    if (!isfinite(value)) {
        snprintf(number.text, sizeof number.text, "–");
    } else if (fabs(value) >= pow(10, digits) - 0.5 && fabs(value) < 1e15) {
        snprintf(number.text, sizeof number.text, "%.0f", value);
    } else {
        snprintf(number.text, sizeof number.text, "%.*g", digits, value);
    }
    return number;
}

struct number_text report_figure(const struct figure *figure)
{
    struct number_text number = report_number(figure->mean, 4);
    double half = (figure->interval.high - figure->interval.low) / 2;
    if (isfinite(figure->mean) && isfinite(half)) {
        size_t used = strlen(number.text);
        snprintf(number.text + used, sizeof number.text - used, " ± %s",
                 report_number(half, 2).text);
    }
    return number;
}
