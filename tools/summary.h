/* Ratios of many problems in two numbers for each peer. */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "measure.h"

struct summary {
    unsigned n_peers;
    struct summary_peer {
        const char *name; /* borrowed */
        unsigned count;   /* problems with a ratio */
        double log_sum, least;
        struct spec worst; /* where the ratio is least */
    } peers[PEER_MAX];
};

void summary_add(struct summary *summary, const struct measurement *measurement);

double summary_mean(const struct summary_peer *peer); /* geometric */

/* A line for each peer with two problems or more. */
void summary_print(FILE *file, const struct summary *summary);

#endif
