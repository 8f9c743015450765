/* Owns the running of splitters. A run visits the cuts depth first: each piece of one step goes
 * through the rest of the steps at once, so nothing is stored but the texts of steps that rewrite.
 * The recursion is as deep as there are steps, at most SPLIT_STEPS_MAX. */
#include "text/split.h"

#include "base/utf8.h"
#include "text/unicode.h"

static llcuda_status run_step(struct split_run *run, uint32_t index, const char *text,
                              size_t length, bool first);

uint32_t byte_level_character(uint8_t byte)
{
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE) {
        return byte;
    }
    /* The other 68 bytes follow from U+0100 on, in order. */
    if (byte <= ' ') {
        return 0x100u + byte;
    }
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int byte_level_byte(uint32_t code)
{
    if (code < 0x100) {
        return byte_level_character((uint8_t)code) == code ? (int)code : -1;
    }
    if (code <= 0x120) {
        return (int)(code - 0x100);
    }
    if (code <= 0x142) {
        return (int)(code - 0x121 + 0x7F);
    }
    return code == 0x143 ? 0xAD : -1;
}

/* The next step of a run for text[begin, end). */
static inline llcuda_status pass_on(struct split_run *run, uint32_t index, const char *text,
                                    size_t begin, size_t end, bool first)
{
    if (begin == end) {
        return LLCUDA_OK;
    }
    if (index + 1 == run->plan->step_count) {
        return run->word(run, text + begin, end - begin);
    }
    return run_step(run, index + 1, text + begin, end - begin, first && begin == 0);
}

struct found {
    bool any;
    size_t start, stop;
};

static bool find_literal(struct text_view literal, const char *text, size_t length, size_t from,
                         struct found *found)
{
    const char *at =
        literal.length ? memmem(text + from, length - from, literal.data, literal.length) : NULL;
    if (at) {
        found->start = (size_t)(at - text);
        found->stop = found->start + literal.length;
    }
    return at != NULL;
}

/* The first match at or after `from`. */
static llcuda_status find(struct split_run *run, const struct matcher *matcher, const char *text,
                          size_t length, size_t from, struct found *found)
{
    found->any = false;
    switch (matcher->kind) {
    case MATCHER_MACHINE:
    case MATCHER_CLASS:
        while (from < length) {
            size_t stop = matcher->kind == MATCHER_MACHINE
                              ? matcher->machine->match(text, length, from)
                              : class_pattern_match(&matcher->class, text, length, from);
            if (stop > from) {
                *found = (struct found){true, from, stop};
                break;
            }
            size_t step;
            unicode_next(text + from, &step);
            from += step;
        }
        return LLCUDA_OK;
    case MATCHER_LITERAL:
        found->any = find_literal(matcher->literal, text, length, from, found);
        return LLCUDA_OK;
    case MATCHER_REGEX:
        break;
    }
    return regex_find(matcher->regex, run->regex_state, text, length, from, &found->any,
                      &found->start, &found->stop, run->error);
}

/* Pieces as they come, delimiters or not, turned into cuts by the behaviour. */
struct cutter {
    struct split_run *run;
    uint32_t index;
    const char *text;
    bool first;
    enum split_behavior behavior;
    /* The piece that may still grow. */
    bool pending;
    bool pending_match;
    size_t begin, end;
};

static llcuda_status cut_pending(struct cutter *cutter)
{
    if (!cutter->pending) {
        return LLCUDA_OK;
    }
    cutter->pending = false;
    return pass_on(cutter->run, cutter->index, cutter->text, cutter->begin, cutter->end,
                   cutter->first);
}

static llcuda_status cut_new(struct cutter *cutter, size_t begin, size_t end, bool match)
{
    llcuda_status status = cut_pending(cutter);
    cutter->pending = true;
    cutter->pending_match = match;
    cutter->begin = begin;
    cutter->end = end;
    return status;
}

static llcuda_status cut(struct cutter *cutter, size_t begin, size_t end, bool match)
{
    bool joins = false;
    switch (cutter->behavior) {
    case SPLIT_ISOLATED:
        return pass_on(cutter->run, cutter->index, cutter->text, begin, end, cutter->first);
    case SPLIT_REMOVED:
        return match ? LLCUDA_OK
                     : pass_on(cutter->run, cutter->index, cutter->text, begin, end, cutter->first);
    case SPLIT_CONTIGUOUS:
        joins = cutter->pending && match == cutter->pending_match;
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = cutter->pending && match && !cutter->pending_match;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = cutter->pending && !match && cutter->pending_match;
        break;
    }
    if (!joins) {
        return cut_new(cutter, begin, end, match);
    }
    cutter->end = end;
    cutter->pending_match = match;
    return LLCUDA_OK;
}

static llcuda_status split_by(struct split_run *run, uint32_t index, const struct matcher *matcher,
                              enum split_behavior behavior, bool invert, const char *text,
                              size_t length, bool first)
{
    struct cutter cutter = {
        .run = run, .index = index, .text = text, .first = first, .behavior = behavior};
    size_t done = 0;
    size_t from = 0;
    bool matched = false;
    while (from <= length) {
        struct found found;
        llcuda_status status = find(run, matcher, text, length, from, &found);
        if (status) {
            return status;
        }
        if (!found.any) {
            break;
        }
        /* No empty match right behind another one; the search goes on a character later. */
        if (found.start == found.stop && matched && found.start == done) {
            size_t step = 1;
            if (from < length) {
                unicode_next(text + from, &step);
            }
            from += step;
            continue;
        }
        if (found.start > done) {
            status = cut(&cutter, done, found.start, invert);
        }
        if (!status) {
            status = cut(&cutter, found.start, found.stop, !invert);
        }
        if (status) {
            return status;
        }
        matched = true;
        done = from = found.stop;
    }
    llcuda_status status = done < length ? cut(&cutter, done, length, invert) : LLCUDA_OK;
    return status ? status : cut_pending(&cutter);
}

/* The common case: a machine whose matches and gaps are all words. */
static llcuda_status split_isolated(struct split_run *run, uint32_t index,
                                    const struct machine *machine, const char *text, size_t length,
                                    bool first)
{
    size_t gap = 0;
    size_t at = 0;
    while (at < length) {
        size_t stop = machine->match(text, length, at);
        if (stop == at) {
            size_t step;
            unicode_next(text + at, &step);
            at += step;
            continue;
        }
        llcuda_status status = gap < at ? pass_on(run, index, text, gap, at, first) : LLCUDA_OK;
        if (!status) {
            status = pass_on(run, index, text, at, stop, first);
        }
        if (status) {
            return status;
        }
        gap = at = stop;
    }
    return pass_on(run, index, text, gap, length, first);
}

/* Runs `next` on the text that a step has written into its buffer. */
static llcuda_status run_rewritten(struct split_run *run, uint32_t index, bool first,
                                   const struct matcher *matcher)
{
    struct buffer *buffer = &run->rewritten[index];
    if (buffer->failed) {
        return error_no_memory(run->error, "a text being split", buffer->length);
    }
    const char *readable_end = run->readable_end;
    run->readable_end = buffer->data + buffer->capacity;
    llcuda_status status = matcher ? split_by(run, index, matcher, SPLIT_MERGED_WITH_NEXT, false,
                                              buffer->data, buffer->length, first)
                                   : pass_on(run, index, buffer->data, 0, buffer->length, first);
    run->readable_end = readable_end;
    return status;
}

static llcuda_status run_metaspace(struct split_run *run, uint32_t index,
                                   const struct split_step *step, const char *text, size_t length,
                                   bool first)
{
    struct buffer *buffer = &run->rewritten[index];
    buffer_clear(buffer);
    bool starts =
        text[0] == ' ' || (length >= step->replacement.length &&
                           memcmp(text, step->replacement.data, step->replacement.length) == 0);
    bool prepend = step->prepend == METASPACE_ALWAYS || (step->prepend == METASPACE_FIRST && first);
    if (prepend && !starts) {
        buffer_append_view(buffer, step->replacement);
    }
    size_t done = 0;
    while (done < length) {
        const char *space = memchr(text + done, ' ', length - done);
        size_t stop = space ? (size_t)(space - text) : length;
        buffer_append(buffer, text + done, stop - done);
        if (space) {
            buffer_append_view(buffer, step->replacement);
            stop++;
        }
        done = stop;
    }
    return run_rewritten(run, index, first, step->split ? &step->matcher : NULL);
}

static llcuda_status run_map_bytes(struct split_run *run, uint32_t index, const char *text,
                                   size_t length, bool first)
{
    struct buffer *buffer = &run->rewritten[index];
    buffer_clear(buffer);
    for (size_t i = 0; i < length; i++) {
        char encoded[4];
        size_t bytes = utf8_encode(byte_level_character((uint8_t)text[i]), encoded);
        buffer_append(buffer, encoded, bytes);
    }
    return run_rewritten(run, index, first, NULL);
}

static llcuda_status run_fixed_length(struct split_run *run, uint32_t index, uint32_t characters,
                                      const char *text, size_t length, bool first)
{
    size_t at = 0;
    while (at < length) {
        size_t begin = at;
        for (uint32_t i = 0; i < characters && at < length; i++) {
            size_t step;
            unicode_next(text + at, &step);
            at += step;
        }
        llcuda_status status = pass_on(run, index, text, begin, at, first);
        if (status) {
            return status;
        }
    }
    return LLCUDA_OK;
}

static bool is_digit_at(const char *text, size_t at, size_t *length)
{
    return (unicode_class(unicode_next(text + at, length)) & CLASS_OF(UNICODE_ND)) != 0;
}

/* Digits in groups of three from the right: every run is counted once, where the look-ahead of the
 * expression would count it again at every group. */
static llcuda_status run_digit_groups(struct split_run *run, uint32_t index,
                                      enum digit_groups groups, const char *text, size_t length,
                                      bool first)
{
    size_t gap = 0;
    size_t at = 0;
    while (at < length) {
        size_t step;
        if (!is_digit_at(text, at, &step)) {
            at += step;
            continue;
        }
        size_t count = 0;
        size_t stop = at;
        while (stop < length && is_digit_at(text, stop, &step)) {
            stop += step;
            count++;
        }
        bool counts = groups == DIGIT_GROUPS_EDGES || stop == length ||
                      !unicode_is_regex_word(unicode_next(text + stop, &step));
        for (size_t left = count; counts && at < stop; left--) {
            bool edge = left % 3 == 0 || (groups == DIGIT_GROUPS_WORD_END && left == count);
            if (edge) {
                llcuda_status status = pass_on(run, index, text, gap, at, first);
                if (status) {
                    return status;
                }
                gap = at;
            }
            is_digit_at(text, at, &step);
            at += step;
        }
        at = stop;
        if (counts && groups == DIGIT_GROUPS_WORD_END) {
            llcuda_status status = pass_on(run, index, text, gap, at, first);
            if (status) {
                return status;
            }
            gap = at;
        }
    }
    return pass_on(run, index, text, gap, length, first);
}

static llcuda_status run_step(struct split_run *run, uint32_t index, const char *text,
                              size_t length, bool first)
{
    const struct split_step *step = &run->plan->steps[index];
    switch (step->kind) {
    case STEP_SPLIT:
        if (step->matcher.kind == MATCHER_MACHINE && step->behavior == SPLIT_ISOLATED) {
            return split_isolated(run, index, step->matcher.machine, text, length, first);
        }
        return split_by(run, index, &step->matcher, step->behavior, step->invert, text, length,
                        first);
    case STEP_METASPACE:
        return run_metaspace(run, index, step, text, length, first);
    case STEP_SPACE_PREFIX:
        if (text[0] == ' ') {
            return pass_on(run, index, text, 0, length, first);
        }
        buffer_clear(&run->rewritten[index]);
        buffer_append_byte(&run->rewritten[index], ' ');
        buffer_append(&run->rewritten[index], text, length);
        return run_rewritten(run, index, first, NULL);
    case STEP_MAP_BYTES:
        return run_map_bytes(run, index, text, length, first);
    case STEP_FIXED_LENGTH:
        return run_fixed_length(run, index, step->length, text, length, first);
    case STEP_DIGIT_GROUPS:
        return run_digit_groups(run, index, step->groups, text, length, first);
    }
    return LLCUDA_OK;
}

llcuda_status split_run_over(struct split_run *run, const char *text, size_t length, bool first)
{
    return run->plan->step_count ? run_step(run, 0, text, length, first)
                                 : run->word(run, text, length);
}

void split_run_deinit(struct split_run *run)
{
    for (uint32_t i = 0; i < SPLIT_STEPS_MAX; i++) {
        buffer_deinit(&run->rewritten[i]);
    }
}
