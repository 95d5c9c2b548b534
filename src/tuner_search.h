/*
 * Proposes candidates of one implementation for one problem, one at a time, and learns from what
 * they turn out to cost. Knows nothing of time, devices or files. How it proposes is a strategy;
 * a new one is one more table of two functions.
 */
#ifndef CLAT_TUNER_SEARCH_H
#define CLAT_TUNER_SEARCH_H

#include "op.h"

struct search;

/* Every legal candidate once, in random order. For spaces that are listed: see search_size. */
extern const struct search_strategy search_exhaustive;

/* Walks from the best one known to a better neighbour until there is none, then starts again from
 * somewhere else. */
extern const struct search_strategy search_descent;

clat_status search_create(struct search **out, const struct implementation *impl,
                          const struct device *device, const void *problem, uint64_t seed);
void search_release(struct search *search); /* NULL is fine */

/* How many legal candidates there are; SIZE_MAX when the space is too large to list. */
size_t search_size(const struct search *search);

/* May change during the search: nothing is proposed twice. Without a call: descent. */
void search_use(struct search *search, const struct search_strategy *strategy);

/* The next candidate. false: none is left, or none was found in reasonable time. */
bool search_next(struct search *search, int *values);

/* What a candidate costs, proposed or not; INFINITY for one that cannot be used. */
void search_report(struct search *search, const int *values, double seconds);

#endif
