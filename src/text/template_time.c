/* Owns strftime_now: the format directives of strftime in the C locale, at a given moment, in UTC.
 * Own code, because the C library's would follow the host program's locale and time zone. Pure. */
#include "text/template_engine.h"

#include <stdio.h>

struct moment {
    int64_t year;
    int month; /* 1 … 12 */
    int day;   /* 1 … 31 */
    int hour;
    int minute;
    int second;
    int weekday;  /* 0: Sunday */
    int year_day; /* 0 … 365 */
    int64_t unix_time;
};

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Civil date from days since 1970, after Howard Hinnant's "chrono-compatible low-level date
 * algorithms": years begin in March, so that the leap day is the last. */
static void set_date(struct moment *moment, int64_t days)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    moment->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    moment->month = (int)(month < 10 ? month + 3 : month - 9);
    moment->year = year_of_era + era * 400 + (moment->month <= 2);
    moment->weekday = (int)(((days + 4) % 7 + 7) % 7);
    moment->year_day =
        before[moment->month - 1] + moment->day - 1 + (moment->month > 2 && is_leap(moment->year));
}

static struct moment moment_of(int64_t unix_time)
{
    struct moment moment = {.unix_time = unix_time};
    int64_t days = unix_time / 86400;
    int64_t rest = unix_time % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    moment.hour = (int)(rest / 3600);
    moment.minute = (int)(rest / 60 % 60);
    moment.second = (int)(rest % 60);
    set_date(&moment, days);
    return moment;
}

/* ISO 8601: weeks begin on Monday, week 1 has the year's first Thursday. */
static int iso_week(const struct moment *moment, int64_t *year)
{
    int weekday = (moment->weekday + 6) % 7;
    int week = (moment->year_day - weekday + 10) / 7;
    *year = moment->year;
    if (week < 1) {
        (*year)--;
        int days = 365 + is_leap(*year);
        return (moment->year_day + days - weekday + 10) / 7;
    }
    int days = 365 + is_leap(moment->year);
    if (week == 53 && moment->year_day - weekday + 3 >= days) {
        (*year)++;
        return 1;
    }
    return week;
}

static bool put_number(struct jinja_render *render, int64_t value, int width, char pad)
{
    char text[32];
    if (pad == '-') {
        snprintf(text, sizeof text, "%lld", (long long)value);
    } else if (pad == '_') {
        snprintf(text, sizeof text, "%*lld", width, (long long)value);
    } else {
        snprintf(text, sizeof text, "%0*lld", width, (long long)value);
    }
    return jinja_put_text(render, text);
}

/* `pad` as glibc has it: '-' none, '_' spaces, '0' zeros, 0 what the directive wants. */
static bool put_name(struct jinja_render *render, const char *name, size_t length, bool upper)
{
    for (size_t i = 0; i < length && name[i]; i++) {
        char c = name[i];
        c = upper && c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        if (!jinja_put(render, &c, 1)) {
            return false;
        }
    }
    return true;
}

static bool put_compound(struct jinja_render *render, const struct moment *moment, bool upper,
                         const char *format);

static bool put_word(struct jinja_render *render, const struct moment *moment, char directive,
                     bool upper, bool *known)
{
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    *known = true;
    switch (directive) {
    case 'a':
        return put_name(render, days[moment->weekday], 3, upper);
    case 'A':
        return put_name(render, days[moment->weekday], 16, upper);
    case 'b':
    case 'h':
        return put_name(render, months[moment->month - 1], 3, upper);
    case 'B':
        return put_name(render, months[moment->month - 1], 16, upper);
    case 'p':
        return jinja_put_text(render, moment->hour < 12 ? "AM" : "PM");
    case 'P':
        return jinja_put_text(render, moment->hour < 12 ? "am" : "pm");
    case 'n':
        return jinja_put_text(render, "\n");
    case 't':
        return jinja_put_text(render, "\t");
    case '%':
        return jinja_put_text(render, "%");
    case 'Z':
        return jinja_put_text(render, "UTC");
    case 'z':
        return jinja_put_text(render, "+0000");
    case 'f':
        return jinja_put_text(render, "000000");
    case 'c':
        return put_compound(render, moment, upper, "%a %b %e %H:%M:%S %Y");
    case 'x':
    case 'D':
        return put_compound(render, moment, upper, "%m/%d/%y");
    case 'X':
    case 'T':
        return put_compound(render, moment, upper, "%H:%M:%S");
    case 'F':
        return put_compound(render, moment, upper, "%Y-%m-%d");
    case 'R':
        return put_compound(render, moment, upper, "%H:%M");
    case 'r':
        return put_compound(render, moment, upper, "%I:%M:%S %p");
    default:
        *known = false;
        return true;
    }
}

static bool put_digits(struct jinja_render *render, const struct moment *moment, char directive,
                       char pad, bool *known)
{
    int64_t iso_year;
    int week = iso_week(moment, &iso_year);
    int hour12 = moment->hour % 12 ? moment->hour % 12 : 12;
    char blank = pad ? pad : '_';
    *known = true;
    switch (directive) {
    case 'd':
        return put_number(render, moment->day, 2, pad);
    case 'e':
        return put_number(render, moment->day, 2, blank);
    case 'm':
        return put_number(render, moment->month, 2, pad);
    case 'Y':
        return put_number(render, moment->year, pad ? 4 : 1, pad);
    case 'y':
        return put_number(render, moment->year % 100, 2, pad);
    case 'C':
        return put_number(render, moment->year / 100, 2, pad);
    case 'H':
        return put_number(render, moment->hour, 2, pad);
    case 'k':
        return put_number(render, moment->hour, 2, blank);
    case 'I':
        return put_number(render, hour12, 2, pad);
    case 'l':
        return put_number(render, hour12, 2, blank);
    case 'M':
        return put_number(render, moment->minute, 2, pad);
    case 'S':
        return put_number(render, moment->second, 2, pad);
    case 'j':
        return put_number(render, moment->year_day + 1, 3, pad);
    case 's':
        return put_number(render, moment->unix_time, 1, pad);
    case 'u':
        return put_number(render, moment->weekday ? moment->weekday : 7, 1, pad);
    case 'w':
        return put_number(render, moment->weekday, 1, pad);
    case 'U':
        return put_number(render, (moment->year_day + 7 - moment->weekday) / 7, 2, pad);
    case 'W':
        return put_number(render, (moment->year_day + 7 - (moment->weekday + 6) % 7) / 7, 2, pad);
    case 'V':
        return put_number(render, week, 2, pad);
    case 'G':
        return put_number(render, iso_year, pad ? 4 : 1, pad);
    case 'g':
        return put_number(render, iso_year % 100, 2, pad);
    default:
        *known = false;
        return true;
    }
}

static bool put_time(struct jinja_render *render, const struct moment *moment, bool all_upper,
                     struct text_view format)
{
    for (size_t i = 0; i < format.length; i++) {
        char pad = 0;
        bool upper = all_upper;
        bool known = false;
        size_t begin = i;
        if (!jinja_step(render, 1)) {
            return false;
        }
        if (format.data[i] != '%' || i + 1 == format.length) {
            if (!jinja_put(render, format.data + i, 1)) {
                return false;
            }
            continue;
        }
        for (i++; i + 1 < format.length && memchr("-_0^#", format.data[i], 5); i++) {
            upper = upper || format.data[i] == '^' || format.data[i] == '#';
            pad = format.data[i] == '^' || format.data[i] == '#' ? pad : format.data[i];
        }
        char directive = format.data[i];
        if (!put_word(render, moment, directive, upper, &known) ||
            (!known && !put_digits(render, moment, directive, pad, &known)) ||
            (!known && !jinja_put(render, format.data + begin, i - begin + 1))) {
            return false;
        }
    }
    return true;
}

/* The formats above name simple directives only: the recursion is one level deep. */
static bool put_compound(struct jinja_render *render, const struct moment *moment, bool upper,
                         const char *format)
{
    return put_time(render, moment, upper, text_view_of(format));
}

bool jinja_print_time(struct jinja_render *render, int64_t unix_time, struct text_view format)
{
    /* The years 1 to 9999, as datetime has them. */
    if (unix_time < -62135596800 || unix_time > 253402300799) {
        return jinja_fail(render, "the time is out of range");
    }
    struct moment moment = moment_of(unix_time);
    return put_time(render, &moment, false, format);
}
