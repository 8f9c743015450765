/* Owns the look-ups in the character tables. Pure functions; any thread. ASCII never reaches a
 * table. */
#include "text/template_unicode.h"

static bool in_set(const uint32_t *set, size_t count, uint32_t code)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t first = set[middle] >> 11;
        uint32_t last = first + (set[middle] & 0x7FF);
        if (code < first) {
            high = middle;
        } else if (code > last) {
            low = middle + 1;
        } else {
            return true;
        }
    }
    return false;
}

bool jinja_is_alpha(uint32_t code)
{
    if (code < 0x80) {
        return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    }
    return in_set(jinja_set_alpha, jinja_set_alpha_count, code);
}

bool jinja_is_decimal(uint32_t code)
{
    if (code < 0x80) {
        return code >= '0' && code <= '9';
    }
    return in_set(jinja_set_decimal, jinja_set_decimal_count, code);
}

bool jinja_is_digit(uint32_t code)
{
    return jinja_is_decimal(code) ||
           (code >= 0x80 && in_set(jinja_set_digit, jinja_set_digit_count, code));
}

bool jinja_is_numeric(uint32_t code)
{
    return jinja_is_digit(code) ||
           (code >= 0x80 && in_set(jinja_set_numeric, jinja_set_numeric_count, code));
}

bool jinja_is_alnum(uint32_t code)
{
    return jinja_is_alpha(code) || jinja_is_numeric(code);
}

bool jinja_is_upper(uint32_t code)
{
    if (code < 0x80) {
        return code >= 'A' && code <= 'Z';
    }
    return in_set(jinja_set_upper, jinja_set_upper_count, code);
}

bool jinja_is_lower(uint32_t code)
{
    if (code < 0x80) {
        return code >= 'a' && code <= 'z';
    }
    return in_set(jinja_set_lower, jinja_set_lower_count, code);
}

bool jinja_is_title(uint32_t code)
{
    return code >= 0x80 && in_set(jinja_set_title, jinja_set_title_count, code);
}

bool jinja_is_printable(uint32_t code)
{
    if (code < 0x80) {
        return code >= 0x20 && code < 0x7F;
    }
    return in_set(jinja_set_printable, jinja_set_printable_count, code);
}

bool jinja_is_ignorable(uint32_t code)
{
    return in_set(jinja_set_ignorable, jinja_set_ignorable_count, code);
}

bool jinja_is_space(uint32_t code)
{
    if (code < 0x80) {
        return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x1F);
    }
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool jinja_is_line_break(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

struct case_table {
    const struct jinja_case_run *runs;
    size_t run_count;
    const struct jinja_case_special *specials;
    size_t special_count;
};

static struct case_table table_of(enum jinja_case to)
{
    switch (to) {
    case JINJA_LOWER:
        return (struct case_table){jinja_lower_runs, jinja_lower_runs_count, jinja_lower_specials,
                                   jinja_lower_specials_count};
    case JINJA_UPPER:
        return (struct case_table){jinja_upper_runs, jinja_upper_runs_count, jinja_upper_specials,
                                   jinja_upper_specials_count};
    case JINJA_TITLE:
        break;
    }
    return (struct case_table){jinja_title_runs, jinja_title_runs_count, jinja_title_specials,
                               jinja_title_specials_count};
}

static const struct jinja_case_special *find_special(const struct case_table *table, uint32_t code)
{
    size_t low = 0;
    size_t high = table->special_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->specials[middle].code == code) {
            return &table->specials[middle];
        }
        if (table->specials[middle].code < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* Runs of stride 2 may interleave with others, so the nearest few before `code` are looked at. */
static uint32_t map_single(const struct case_table *table, uint32_t code)
{
    size_t low = 0;
    size_t high = table->run_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->runs[middle].first <= code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (size_t i = low; i > 0 && i + 4 > low; i--) {
        const struct jinja_case_run *run = &table->runs[i - 1];
        uint32_t offset = code - run->first;
        if (offset % run->stride == 0 && offset / run->stride < run->count) {
            return (uint32_t)((int64_t)code + run->delta);
        }
    }
    return code;
}

size_t jinja_map_case(enum jinja_case to, uint32_t code, uint32_t out[3])
{
    if (code < 0x80) {
        bool letter = jinja_is_alpha(code);
        out[0] = !letter ? code : to == JINJA_LOWER ? code | 0x20 : code & ~0x20u;
        return 1;
    }
    struct case_table table = table_of(to);
    const struct jinja_case_special *special = find_special(&table, code);
    if (special) {
        size_t count = 0;
        while (count < 3 && special->out[count]) {
            out[count] = special->out[count];
            count++;
        }
        return count;
    }
    out[0] = map_single(&table, code);
    return 1;
}
