/* Named lists of problems. */
#ifndef SUITE_H
#define SUITE_H

#include "spec.h"

enum { SUITE_MAX = 160 };

struct suite {
    const char *name;
    const char *about; /* half a sentence; NULL: not one of those for documents */
    size_t (*fill)(struct spec out[SUITE_MAX]);
    const char *peers; /* for --peer, where the command line does not say; NULL: none */
    double seconds;    /* of sampling for each problem; 0: the usual time */
};

/* NULL for an unknown name. */
const struct suite *suite_find(const char *name);

/* Suites one after the other; NULL after the last. */
const struct suite *suite_at(size_t index);

/* Those that compare CPUs with libraries on the host: rows as above, up to one without name. */
extern const struct suite suites_cpu[];

/* The same for large GPUs, with libraries on the card. */
extern const struct suite suites_gpu[];

/* Prints "  name   about, peers" for each suite with `about`. */
void suite_list(FILE *file);

/* Short ways to write a problem. `trans` is "NN", "NT", "TN" or "TT"; `mask` as on the command
 * line. */
struct spec suite_gemm(clat_dtype dtype, const char *trans, size_t m, size_t n, size_t k);
struct spec suite_attention(clat_dtype dtype, size_t batch, size_t heads, size_t kv_heads,
                            size_t seq, size_t head_dim, const char *mask);
struct spec suite_mha(size_t batch, size_t heads, size_t kv_heads, size_t seq, size_t head_dim,
                      const char *mask);

/* `base` with random blocks of 128 x 128, in shares from 0.02 to 1. Gives how many. */
size_t suite_add_densities(struct spec *out, struct spec base);

/* The problems that the words and options of a command line ask for: the one that the options
 * describe, else the suite `word`. Gives how many, or reports and gives 0. */
size_t suite_from_options(struct spec out[SUITE_MAX], const char *word,
                          const struct spec_options *options);

#endif
