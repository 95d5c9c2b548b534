/* Attention's plain f64 reference, and what it takes to compare an implementation with it. */
#ifndef CLAT_ATTENTION_CASES_H
#define CLAT_ATTENTION_CASES_H

#include "harness.h"

/* How Q, K, V and O lie in memory. */
enum attention_layout {
    LAYOUT_DEFAULT,  /* BHND, by leaving all strides zero */
    LAYOUT_BNHD,     /* heads side by side in each token */
    LAYOUT_PACKED,   /* Q, K and V are views of one buffer [token][q heads | k heads | v heads] */
    LAYOUT_PADDED,   /* BNHD with gaps behind heads, tokens and batches */
    LAYOUT_FEATURES, /* padded, and every other element between features unused */
    LAYOUT_SHARED,   /* BHND, one K and V for all batch elements and heads (strides of 0) */
    LAYOUT_ALIGNED = 8, /* with any of the others: offsets and gaps are multiples of 16 bytes, if
                           head_dim is a multiple of 8; else they are odd numbers of elements */
    LAYOUT_ODD_Q = 16   /* with that: all but the offset of Q */
};

/*
 * Runs `problem`, whose strides are taken from `layout`, and compares every element of O and
 * logsumexp with the reference. Inputs are random in [-range, range), with NaN wherever no element
 * is; the outputs hold NaN before, and canaries between their elements that must survive. A score
 * modifier is one of score_cases.h, whose data is made here.
 */
void attention_check(const char *name, const clat_attention_problem *problem,
                     enum attention_layout layout, double range);

/* A mask with predicates of the caller's, also as C. */
struct predicate_case {
    const char *name;
    clat_mask *(*make)(const clat_attention_problem *problem);
    /* Words of data, which it fills in where `words` is not NULL; NULL: none. */
    size_t (*data)(const clat_attention_problem *problem, uint32_t *words);
    bool (*visible)(const clat_attention_problem *problem, const uint32_t *data, size_t batch,
                    size_t head, size_t query, size_t key);
};

/* attention_check with its mask and data in place of the problem's. */
void attention_check_predicate(const char *name, const clat_attention_problem *problem,
                               enum attention_layout layout,
                               const struct predicate_case *predicate);

struct attention_size {
    size_t seq_q, seq_k;
};

/* attention_check for each of these masks (mask_cases.h; the list ends with NULL) and sizes, but
 * for those that the problem's implementation declines; how many there were. */
size_t attention_check_all(const char *name, const clat_attention_problem *problem,
                           enum attention_layout layout, const char *const *masks,
                           const struct attention_size *sizes, size_t n_sizes);

/* What its implementation is not made for: many queries, or masks with lists. */
bool attention_is_declined(const clat_attention_problem *problem);

#endif
