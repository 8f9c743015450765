/* Owns the compilation of splitters into steps: which expression has a machine, which is a class,
 * which needs PCRE2. It knows the shape of steps, not how they run. */
#include "text/split.h"

static llcuda_status compile_matcher(struct matcher *matcher, struct text_view pattern,
                                     bool is_regex, struct llcuda_error *error)
{
    if (!is_regex) {
        matcher->kind = MATCHER_LITERAL;
        matcher->literal = pattern;
        return LLCUDA_OK;
    }
    matcher->machine = machine_find(pattern);
    if (matcher->machine) {
        matcher->kind = MATCHER_MACHINE;
        return LLCUDA_OK;
    }
    llcuda_status status;
    if (class_pattern_compile(&matcher->class, pattern, &status)) {
        matcher->kind = MATCHER_CLASS;
        return LLCUDA_OK;
    }
    if (status) {
        return error_no_memory(error, "a class of characters", 0);
    }
    matcher->kind = MATCHER_REGEX;
    return regex_create(pattern, &matcher->regex, error);
}

static struct split_step *add_step(struct split_plan *plan, enum split_step_kind kind)
{
    struct split_step *step = &plan->steps[plan->step_count++];
    *step = (struct split_step){.kind = kind};
    return step;
}

static llcuda_status add_split(struct split_plan *plan, const char *pattern,
                               enum split_behavior behavior, struct llcuda_error *error)
{
    struct split_step *step = add_step(plan, STEP_SPLIT);
    step->behavior = behavior;
    return compile_matcher(&step->matcher, text_view_of(pattern), true, error);
}

static void add_machine(struct split_plan *plan, const struct machine *machine,
                        enum split_behavior behavior, bool invert)
{
    struct split_step *step = add_step(plan, STEP_SPLIT);
    step->behavior = behavior;
    step->invert = invert;
    step->matcher = (struct matcher){.kind = MATCHER_MACHINE, .machine = machine};
}

/* Look-ahead over the rest of a number makes these expressions quadratic; counting does not. */
static enum digit_groups digit_groups_of(const struct vocabulary_splitter *splitter)
{
    if (!splitter->pattern_is_regex || splitter->behavior != SPLIT_ISOLATED || splitter->invert) {
        return DIGIT_GROUPS_NONE;
    }
    if (text_view_is(splitter->pattern, "\\d{1,3}(?=(?:\\d{3})*\\b)")) {
        return DIGIT_GROUPS_WORD_END;
    }
    if (text_view_is(splitter->pattern, "(?=(\\d{3})+(?!\\d))")) {
        return DIGIT_GROUPS_EDGES;
    }
    return DIGIT_GROUPS_NONE;
}

static llcuda_status compile_split(struct split_plan *plan,
                                   const struct vocabulary_splitter *splitter,
                                   struct llcuda_error *error)
{
    enum digit_groups groups = digit_groups_of(splitter);
    if (groups != DIGIT_GROUPS_NONE) {
        add_step(plan, STEP_DIGIT_GROUPS)->groups = groups;
        return LLCUDA_OK;
    }
    struct split_step *step = add_step(plan, STEP_SPLIT);
    step->behavior = splitter->behavior;
    step->invert = splitter->invert;
    return compile_matcher(&step->matcher, splitter->pattern, splitter->pattern_is_regex, error);
}

static llcuda_status compile_splitter(struct split_plan *plan,
                                      const struct vocabulary_splitter *splitter, bool last,
                                      struct llcuda_error *error)
{
    static const char punctuation[] = "[!-/:-@\\[-`{-~\\p{P}]";
    struct split_step *step;
    switch (splitter->kind) {
    case SPLITTER_SPLIT:
        return compile_split(plan, splitter, error);
    case SPLITTER_BYTE_LEVEL:
        if (splitter->add_prefix_space) {
            add_step(plan, STEP_SPACE_PREFIX);
        }
        if (splitter->use_regex) {
            add_machine(plan, &machine_gpt2, SPLIT_ISOLATED, false);
        }
        if (last) {
            plan->bytes = true;
        } else {
            add_step(plan, STEP_MAP_BYTES);
        }
        return LLCUDA_OK;
    case SPLITTER_METASPACE:
        step = add_step(plan, STEP_METASPACE);
        step->replacement = splitter->content;
        step->prepend = splitter->prepend;
        step->split = splitter->split;
        return compile_matcher(&step->matcher, splitter->content, false, error);
    case SPLITTER_DIGITS:
        return add_split(plan, "\\p{N}",
                         splitter->individual_digits ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, error);
    case SPLITTER_WHITESPACE:
        add_machine(plan, &machine_whitespace, SPLIT_REMOVED, true);
        return LLCUDA_OK;
    case SPLITTER_WHITESPACE_SPLIT:
        return add_split(plan, "\\s", SPLIT_REMOVED, error);
    case SPLITTER_PUNCTUATION:
        return add_split(plan, punctuation, splitter->behavior, error);
    case SPLITTER_BERT: {
        llcuda_status status = add_split(plan, "\\s", SPLIT_REMOVED, error);
        return status ? status : add_split(plan, punctuation, SPLIT_ISOLATED, error);
    }
    case SPLITTER_DELIMITER:
        step = add_step(plan, STEP_SPLIT);
        step->behavior = SPLIT_REMOVED;
        return compile_matcher(&step->matcher, splitter->content, false, error);
    case SPLITTER_FIXED_LENGTH:
        add_step(plan, STEP_FIXED_LENGTH)->length = splitter->length ? splitter->length : 1;
        return LLCUDA_OK;
    }
    return error_set(error, LLCUDA_UNSUPPORTED, "a splitter of an unknown kind");
}

llcuda_status split_plan_compile(struct split_plan *plan,
                                 const struct vocabulary_splitter *splitters, uint32_t count,
                                 struct llcuda_error *error)
{
    *plan = (struct split_plan){0};
    if (count > VOCABULARY_STEPS_MAX) {
        return error_set(error, LLCUDA_LIMIT, "a tokeniser with more than %u splitters",
                         VOCABULARY_STEPS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        llcuda_status status = compile_splitter(plan, &splitters[i], i + 1 == count, error);
        if (status) {
            return status;
        }
    }
    for (uint32_t i = 0; i < plan->step_count; i++) {
        plan->regex = plan->regex || plan->steps[i].matcher.kind == MATCHER_REGEX;
    }
    return LLCUDA_OK;
}

void split_plan_deinit(struct split_plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        class_pattern_deinit(&plan->steps[i].matcher.class);
        regex_destroy(plan->steps[i].matcher.regex);
    }
    *plan = (struct split_plan){0};
}
