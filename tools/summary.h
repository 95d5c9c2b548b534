/* Ratios of many problems in two numbers for each peer, and for each group of a suite. */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "measure.h"

enum { SUMMARY_MAX = 8 * PEER_MAX };

struct summary {
    unsigned count;
    struct summary_line {
        const char *group, *peer; /* borrowed; group: "" when there is none */
        unsigned count;           /* problems with a ratio */
        double log_sum, least;
        struct spec worst; /* where the ratio is least */
    } lines[SUMMARY_MAX];
};

void summary_add(struct summary *summary, const struct measurement *measurement);

/* A line for each peer with two problems or more in the group. */
void summary_print(FILE *file, const struct summary *summary);

#endif
