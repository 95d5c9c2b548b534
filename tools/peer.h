/* Other ways to get the same result, to compare with: each a table of functions. A peer works on
 * the operands of our trial, and its result is judged like ours. */
#ifndef PEER_H
#define PEER_H

#include "spec.h"

enum { PEER_WHY_BYTES = 160, PEER_MAX = 4 };

struct peer {
    const char *name;
    double rest_seconds; /* pause after it ran, before anybody else is timed */
    size_t state_bytes;  /* the state is zeroed before `open`, and freed after `close` */
    /* May it run this problem on this device? If not, `why` gets half a sentence. */
    bool (*supports)(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]);
    bool (*open)(void *state, clat_context *ctx, const struct spec *spec, clat_trial *trial);
    /* Runs `repeats` times and waits. */
    bool (*run)(void *state, unsigned repeats);
    /* Brings the result into the trial's output. NULL: `run` has done so. */
    bool (*publish)(void *state);
    /* Where the peer does other work than ours, and says itself whether it did it right; else NULL:
     * its result is judged in the trial's output. */
    bool (*judge)(void *state, clat_verdict *out);
    void (*close)(void *state);   /* after a failed `open` too */
    void (*describe)(FILE *file); /* one line for readers of the results; may be NULL */
};

extern const struct peer peer_clblast;  /* GEMM */
extern const struct peer peer_unfused;  /* attention as CLBlast GEMMs around a softmax kernel */
extern const struct peer peer_openblas; /* GEMM on the host */
extern const struct peer peer_dense;    /* our own attention without the mask */

/* Peers take no empty problems. As `supports`. */
bool peer_supports(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                   char why[PEER_WHY_BYTES]);

/* A state, or NULL. */
void *peer_open(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                clat_trial *trial);
void peer_close(const struct peer *peer, void *state); /* NULL is fine */

/* A line for each that has something to say of how it runs, and no line twice. */
void peer_describe(FILE *file, const struct peer *const *peers, unsigned count);

/* NULL when there is no such peer. */
const struct peer *peer_find(const char *name);

/* "clblast,openblas" into a list; gives how many, or reports and gives -1. */
int peer_list(const char *names, const struct peer *out[PEER_MAX]);

/* Poisons the trial's output, runs the peer once, and judges what it wrote. */
bool peer_judge(const struct peer *peer, void *state, const struct spec *spec, clat_trial *trial,
                clat_verdict *out);

/* Around all use of peers: sets their libraries up for the device; gives up what they cache. */
bool peers_begin(clat_context *ctx);
void peers_finish(void);

/* Replaces the process by itself without the variables that make OpenBLAS slower than it is; they
 * are read when the library is loaded. `argv` is main's. Does nothing when they are not set. */
void peer_openblas_unshackle(char **argv);

#endif
