/*
 * One problem on the tuner's bench: its operands, and those of its awkward relatives, allocated
 * once and used by every candidate.
 */
#ifndef CLAT_TUNER_BENCH_H
#define CLAT_TUNER_BENCH_H

#include "context.h"
#include "plan.h"
#include "trial.h"
#include "tuner_journal.h"

enum { BENCH_MAX_AWKWARD = 8 };

/* A candidate this much slower than the best after one run is not measured more closely. */
#define BENCH_CUT_OFF 1.5

struct bench {
    clat_context *ctx;
    const struct operation *op;
    const void *problem; /* borrowed from the plan it was opened with */
    clat_trial *trial;
    unsigned n_awkward;
    struct awkward {
        void *problem;
        clat_trial *trial; /* made by the first candidate that gets there */
    } awkward[BENCH_MAX_AWKWARD];
};

clat_status bench_open(struct bench *bench, const clat_plan *plan);
void bench_close(struct bench *bench); /* fine on zeroes */

/* A plan of the bench's problem with exactly these tunables. */
clat_status bench_plan(clat_plan **out, const struct bench *bench,
                       const struct implementation *impl, const int *values);

/*
 * Builds a candidate, verifies it on the awkward relatives and times it. Whatever is wrong with the
 * candidate is its score; an error means that the bench itself can no longer be used, because the
 * device stopped answering or memory ran out. `best_single` is the smallest score.single so far, or
 * INFINITY.
 */
clat_status bench_measure(struct bench *bench, const struct implementation *impl, const int *values,
                          double best_single, struct score *out);

/* Runs for about `burst` seconds of `single` each; gives the seconds of one. */
clat_status bench_time(struct bench *bench, const clat_plan *plan, double single, double burst,
                       double *seconds);

/* WRONG_RESULT with a sentence when the plan computes the bench's problem wrongly. */
clat_status bench_verify(clat_trial *trial, const clat_plan *plan);

/* Whether the device still takes commands; after a kernel fault some never do again. */
clat_status bench_device_alive(const struct bench *bench);

#endif
