/* Score modifiers, each also as C in f64. */
#ifndef CLAT_SCORE_CASES_H
#define CLAT_SCORE_CASES_H

#include "harness.h"

struct score_at {
    int batch, head, query, key, heads, seq_q, seq_k;
};

struct score_case {
    const char *name, *text;
    size_t (*data)(size_t heads, size_t seq_q, size_t seq_k); /* elements; NULL: none */
    double (*modify)(double score, const struct score_at *at, const float *data);
};

extern const struct score_case score_cases[];
extern const size_t n_score_cases;

/* How much more two modified scores differ than the scores, at most. */
#define SCORE_CASES_GAIN 2.0

/* By name; fails the test when there is none. */
const struct score_case *score_case_named(const char *name);

/* NULL for a NULL text; fails the test when there is none. */
const struct score_case *score_case_of(const char *text);

#endif
