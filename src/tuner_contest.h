/*
 * One implementation's contest for the best candidate of one problem: a search under a time limit,
 * then the finalists side by side.
 */
#ifndef CLAT_TUNER_CONTEST_H
#define CLAT_TUNER_CONTEST_H

#include "tuner_bench.h"
#include "tuner_search.h"

enum { CONTEST_BEST = 3 };

struct finalist {
    int values[OP_MAX_TUNABLES];
    double seconds, single;
    bool is_guess;
    clat_plan *plan; /* during the finals */
};

/* What all contests of one call of clat_tune share. */
struct tuner {
    clat_context *ctx;
    const clat_tune_options *options;
    struct journal *journal;
    double start, deadline; /* of clock_seconds */
    clat_tune_progress progress;
    bool cancelled;
};

/* What all contests for one problem share. */
struct subject {
    struct tuner *tuner;
    const clat_plan *plan;
    struct bench bench;
    struct shape shape;
    double flops;
    double end; /* when the next problem's time begins */
    size_t candidates;
    double best_seconds, best_single;
};

struct contest {
    struct subject *subject;
    const struct implementation *impl;
    struct search *search;
    uint64_t source_hash;
    size_t tried;
    double spent;    /* seconds, also of candidates known from the journal */
    bool guess_runs; /* finalists[0] is the guess */
    unsigned n_finalists;
    struct finalist finalists[1 + CONTEST_BEST]; /* the guess, then the others, fastest first */
};

double subject_gflops(const struct subject *subject, double seconds);

clat_status contest_open(struct contest *contest, struct subject *subject,
                         const struct implementation *impl);
void contest_close(struct contest *contest); /* fine on zeroes */

/* Tries candidates until `end`, the guess and the caller's own tunables first. Errors: see
 * bench_measure. */
clat_status contest_search(struct contest *contest, double end);

/* How long a round of finals takes, from what the search saw. */
double contest_round_seconds(const struct contest *contest);

/* Times the finalists of all contests in turns until `end`, at least once. */
clat_status contest_finals(struct contest *contests, unsigned count, double end);

/* The fastest finalist that computes the problem itself rightly; the guess when it is as good.
 * NULL: there is none. */
clat_status contest_winner(struct contest *contest, const struct finalist **out);

/* The contest's problem and a candidate of it, as tuned values are stored. */
void contest_entry(const struct contest *contest, const int *values, struct tuned_entry *out);

#endif
