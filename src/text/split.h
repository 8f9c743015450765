/* Cutting a normalised text into the words that a model encodes one by one: the splitters of a
 * vocabulary, compiled, and run over a text without storing the cuts. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H

#include "base/buffer.h"
#include "base/vocabulary.h"
#include "text/char_class.h"
#include "text/machines.h"
#include "text/regex.h"

/* Compiled steps at most: a splitter makes up to three. */
#define SPLIT_STEPS_MAX (3u * VOCABULARY_STEPS_MAX)

enum matcher_kind { MATCHER_MACHINE, MATCHER_CLASS, MATCHER_LITERAL, MATCHER_REGEX };

/* Finds delimiters or words. */
struct matcher {
    enum matcher_kind kind;
    const struct machine *machine;
    struct class_pattern class;
    struct text_view literal; /* borrowed from the vocabulary */
    struct regex *regex;
};

/* What (\p{N}{1,3} counted from the right) means where an expression says it with look-ahead. */
enum digit_groups {
    DIGIT_GROUPS_NONE,
    DIGIT_GROUPS_WORD_END, /* \d{1,3}(?=(?:\d{3})*\b) */
    DIGIT_GROUPS_EDGES,    /* (?=(\d{3})+(?!\d)) */
};

enum split_step_kind {
    STEP_SPLIT,
    STEP_METASPACE,
    STEP_SPACE_PREFIX,
    STEP_MAP_BYTES,
    STEP_FIXED_LENGTH,
    STEP_DIGIT_GROUPS,
};

struct split_step {
    enum split_step_kind kind;
    enum split_behavior behavior;
    bool invert;
    struct matcher matcher;
    struct text_view replacement; /* Metaspace */
    enum metaspace_prepend prepend;
    bool split;
    uint32_t length;
    enum digit_groups groups;
};

struct split_plan {
    struct split_step steps[SPLIT_STEPS_MAX];
    uint32_t step_count;
    bool bytes; /* words are bytes, for pieces in the byte-level alphabet */
    bool regex; /* a step needs a regex_state */
};

/* Compiles `count` splitters. Strings are borrowed. split_plan_deinit in any case. */
llcuda_status split_plan_compile(struct split_plan *plan,
                                 const struct vocabulary_splitter *splitters, uint32_t count,
                                 struct llcuda_error *error);
void split_plan_deinit(struct split_plan *plan);

/* One run over a text: what changes. */
struct split_run {
    const struct split_plan *plan;
    struct regex_state *regex_state;          /* when plan->regex */
    struct buffer rewritten[SPLIT_STEPS_MAX]; /* texts of the steps that change it */
    const char *readable_end;                 /* bytes up to here may be read, whatever they are */
    struct llcuda_error *error;
    /* Called for each word; a status other than OK ends the run. */
    llcuda_status (*word)(struct split_run *run, const char *text, size_t length);
    void *user;
};

/* Splits text[0, length), which is not empty. `first`: it begins where the whole input begins. */
llcuda_status split_run_over(struct split_run *run, const char *text, size_t length, bool first);
void split_run_deinit(struct split_run *run);

/* The character that stands for a byte in byte-level vocabularies, and back: -1 for a character
 * that stands for none. */
uint32_t byte_level_character(uint8_t byte);
int byte_level_byte(uint32_t code);

#endif
