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
    LAYOUT_SHARED    /* BHND, one K and V for all batch elements and heads (strides of 0) */
};

/*
 * Runs `problem`, whose strides are taken from `layout`, and compares every element of O and
 * logsumexp with the reference. Inputs are random in [-range, range), with NaN wherever no element
 * is; the outputs hold NaN before, and canaries between their elements that must survive.
 */
void attention_check(const char *name, const clat_attention_problem *problem,
                     enum attention_layout layout, double range);

#endif
