/* Files that `clattice bench --json` or another command wrote in its form, read again. */
#ifndef RESULTS_H
#define RESULTS_H

#include "peer.h"

struct result {
    const char *name;  /* "gemm f32 NN 512x512x512"; all strings borrowed from the JSON */
    const char *group; /* "": none */
    const json_t *problem;
    double ms, gflops, error, bound;
    bool ok;
    unsigned n_peers;
    struct {
        const char *name;
        double ms, ratio; /* 0: it failed or was wrong */
    } peers[PEER_MAX];
};

enum { RESULTS_GROUPS = 16 };

struct results {
    char suite[64];                      /* the file's name without directory and .json */
    const char *device, *implementation; /* of all rows; NULL: they differ */
    const char *command;   /* that measured, where it was not `clattice bench`; else NULL */
    const char *libraries; /* it compared with, and their versions; NULL: see the machine */
    json_t *json;
    struct result *rows; /* a problem each; NULL: the file holds something else */
    size_t count;
    unsigned n_peers; /* all that occur, in order */
    const char *peers[PEER_MAX];
    unsigned n_groups;
    const char *groups[RESULTS_GROUPS];
};

bool results_load(struct results *out, const char *path);
void results_free(struct results *results);

/* Index of the peer in the row, or -1. */
int result_peer(const struct result *row, const char *peer);

/* Geometric mean and minimum of a group's ratios to the peer; gives how many there are. */
size_t results_ratios(const struct results *results, const char *group, const char *peer,
                      double *mean, double *least);

#endif
