/*
 * Combinations of an implementation's tunables, for tests that build and run them.
 *
 *   CLATTICE_TEST_SEED=n    another random sample than the usual one
 *   CLATTICE_TEST_FULL=1    all combinations instead of a sample, where there are too many a larger
 *                           sample: an hour or more on a CPU device, so:
 *   CLATTICE_TEST_SHARD=i/n only every n-th, starting with the i-th of 0 .. n-1. All shards
 * together are the full run; one that failed or was stopped can be repeated
 */
#ifndef CLAT_TUNABLES_CASES_H
#define CLAT_TUNABLES_CASES_H

#include "harness.h"

#include "op.h"

struct combinations {
    size_t count; /* none, perhaps, in a shard */
    int (*values)[OP_MAX_TUNABLES];
};

/* Those that a test run should try, of all that are legal for `problem`: `samples` random ones, no
 * two alike (all, where there are fewer), or this shard of the full run. What is chosen and how to
 * choose the same again is printed. To be freed with combinations_free. */
struct combinations combinations_choose(const struct implementation *impl,
                                        const struct device *device, const void *problem,
                                        size_t samples);
void combinations_free(struct combinations *combinations);

/* Judges the plan by a trial, and gives it up. */
void check_by_trial(clat_plan *plan);

/* The guess is legal and made of candidates, on this device and, where it is a CPU, on others with
 * SSE, AVX and AVX-512. */
void check_guesses(const struct implementation *impl, const struct device *device,
                   const void *problem);

#endif
