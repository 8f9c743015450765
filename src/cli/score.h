/* How well a model predicts a text, cut into windows of the context's length: the first half of
 * each is only context, so that no token is judged without one. */
#ifndef CLI_SCORE_H
#define CLI_SCORE_H

#include "cli/evaluator.h"

/* Positions of a window unless --ctx says otherwise. */
#define SCORE_CONTEXT 512u

struct text_score {
    double sum; /* of negative log-likelihoods, natural */
    double square_sum;
    uint64_t scored; /* tokens */
    uint32_t windows;
};

/* Runs all of the text, with `what` on the progress line. INVALID_ARGUMENT when it is too short to
 * predict anything, CANCELLED on an interrupt. */
llcuda_status score_text(struct evaluator *evaluator, const struct buffer *text, const char *what,
                         struct text_score *score, struct llcuda_error *error);

double text_score_perplexity(const struct text_score *score);
/* Its standard error. */
double text_score_error(const struct text_score *score);

#endif
