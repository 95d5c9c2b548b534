/* Other ways to get the same result, to compare with: each a table of functions. A peer works on
 * the operands of our trial, and its result is judged like ours. */
#ifndef PEER_H
#define PEER_H

#include "spec.h"

enum { PEER_WHY_BYTES = 160, PEER_MAX = 8 };

struct peer {
    const char *name;
    size_t state_bytes; /* the state is zeroed before `open`, and freed after `close` */
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
    /* Where it does more or less work than ours: its seconds times this are what our problem would
     * take at its rate. NULL: 1. */
    double (*scale)(const void *state);
    void (*close)(void *state);   /* after a failed `open` too */
    void (*describe)(FILE *file); /* one line for readers of the results; may be NULL */
    const char *library;          /* of other people, as "OpenBLAS"; NULL: none */
    const char *(*version)(void); /* of that; NULL: it is not there */
    void (*finish)(void);         /* gives up what it keeps between problems; may be NULL */
};

/* Other libraries. */
extern const struct peer peer_clblast;  /* GEMM */
extern const struct peer peer_unfused;  /* attention as CLBlast GEMMs and a softmax kernel */
extern const struct peer peer_openblas; /* GEMM on the host */
extern const struct peer peer_onednn;   /* GEMM on the host */
extern const struct peer peer_cublas;   /* GEMM on NVIDIA's cards, in memory of its own */
extern const struct peer peer_unfused_openblas; /* attention as two OpenBLAS GEMMs and a softmax */
extern const struct peer peer_panels_openblas;  /* the same, 256 queries at a time */

/* Ourselves at other work: what the problem would take at that rate. */
extern const struct peer peer_dense;      /* attention without the mask: the whole of it */
extern const struct peer peer_unmodified; /* attention without the score modifier */
extern const struct peer
    peer_tiles; /* attention without the mask, for as many tiles as ours visits */
extern const struct peer peer_gemm;  /* GEMM of 1024 cubed, on GPUs 4096, same type and precision */
extern const struct peer peer_f32;   /* the same problem in f32 */
extern const struct peer peer_guess; /* the same problem with untuned tunables */

/* What the device can do. */
extern const struct peer peer_copy;   /* moves the problem's bytes through a GPU's memory */
extern const struct peer peer_stream; /* reads the problem's bytes from memory, past all caches */
extern const struct peer peer_read;   /* reads as many bytes again and again, cached or not */
extern const struct peer peer_peak;   /* fused multiply-adds in registers */

/* Peers take no empty problems. As `supports`. */
bool peer_supports(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                   char why[PEER_WHY_BYTES]);

/* For a peer that computes on the host: memory for its result, full of NaN and touched before it is
 * timed, to be freed; NULL after an error. And the way of that result into the trial's output. */
void *peer_host_output(size_t bytes);
bool peer_publish_host(const struct spec *spec, clat_trial *trial, const void *result);

/* A state, or NULL. */
void *peer_open(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                clat_trial *trial);
void peer_close(const struct peer *peer, void *state); /* NULL is fine */

/* A line for each that has something to say of how it runs, and no line twice. */
void peer_describe(FILE *file, const struct peer *const *peers, unsigned count);

/* "clblast, openblas, ...": those for `--peer`. */
extern const char peer_names[];

/* {"OpenBLAS": "0.3.21 ..."}: the versions of the libraries; NULL: out of memory. */
json_t *peer_versions(void);

/* NULL when there is no such peer. */
const struct peer *peer_find(const char *name);

/* Seconds of one run, the fastest of a few; negative: it failed. For a peer that has two ways, and
 * takes the faster one. */
double peer_try(const struct peer *peer, void *state);

/* A verdict for peers that compute nothing that could be wrong. */
bool peer_always_right(void *state, clat_verdict *out);

/* "clblast,openblas" into a list; gives how many, or reports and gives -1. */
int peer_list(const char *names, const struct peer *out[PEER_MAX]);

/* Poisons the trial's output, runs the peer once, and judges what it wrote. */
bool peer_judge(const struct peer *peer, void *state, const struct spec *spec, clat_trial *trial,
                clat_verdict *out);

/* Around all use of peers: sets their libraries up for the device; gives up what they cache. */
bool peers_begin(clat_context *ctx);
void peers_finish(void);

/* `describe` of the peers that are made of OpenBLAS. */
void peer_openblas_describe(FILE *file);

/* Replaces the process by itself without the variables that make OpenBLAS slower than it is, and
 * with those that let idle threads sleep: they are read when the libraries are loaded. `argv` is
 * main's. */
void peer_openblas_unshackle(char **argv);

#endif
