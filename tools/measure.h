/* One problem, timed beside its peers and verified. */
#ifndef MEASURE_H
#define MEASURE_H

#include "peer.h"

struct measure_options {
    unsigned reps;  /* samples of each; 0: as many as fit in `seconds`, 3 .. 25 */
    double seconds; /* with reps = 0: how long to sample, warm-up apart */
};

struct measure_peer {
    const struct peer *peer;
    bool failed;      /* it could not run, or stopped */
    double ms, ratio; /* ms: of this problem at its rate; ratio: over ours; both 0 when it failed or
                         was wrong */
};

struct measurement {
    struct spec spec;
    char implementation[64], tunables[256];
    double ms, gflops;
    clat_verdict verdict;
    unsigned n_peers;
    struct measure_peer peers[PEER_MAX];
};

/*
 * Plans the problem, verifies ours and every peer's result, then times them in turns. Peers that
 * do not take the problem are left out, those that fail are marked. false: nothing could be
 * measured.
 */
bool measure(struct measurement *out, clat_context *ctx, const struct spec *spec,
             const struct peer *const *peers, unsigned n_peers,
             const struct measure_options *options);

/* Appends the rows of a measurement, one for each peer, or one without peer. */
bool measure_add_json(json_t *rows, const struct measurement *measurement, const char *device);

#endif
