/* Named lists of problems. */
#ifndef SUITE_H
#define SUITE_H

#include "spec.h"

enum { SUITE_MAX = 64 };

extern const char suite_names[]; /* for help: "gemm, attention, ..." */

/* Fills up to SUITE_MAX problems; gives how many, 0 for an unknown name. */
size_t suite_get(const char *name, struct spec out[SUITE_MAX]);

/* Short ways to write a problem. `trans` is "NN", "NT", "TN" or "TT"; `mask` as on the command
 * line. */
struct spec suite_gemm(clat_dtype dtype, const char *trans, size_t m, size_t n, size_t k);
struct spec suite_attention(clat_dtype dtype, size_t batch, size_t heads, size_t kv_heads,
                            size_t seq, size_t head_dim, const char *mask);
struct spec suite_mha(size_t batch, size_t heads, size_t kv_heads, size_t seq, size_t head_dim,
                      const char *mask);

/* The problems that the words and options of a command line ask for: the one that the options
 * describe, else the suite `word`. Gives how many, or reports and gives 0. */
size_t suite_from_options(struct spec out[SUITE_MAX], const char *word,
                          const struct spec_options *options);

#endif
