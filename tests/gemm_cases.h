/* GEMM's plain f64 reference, and what it takes to compare an implementation with it. */
#ifndef CLAT_GEMM_CASES_H
#define CLAT_GEMM_CASES_H

#include "harness.h"

/*
 * Plans `problem` and runs it with several alphas and betas. A, B and bias lie at odd offsets when
 * `shifted`, with NaN wherever no element is; C lies among canaries that must survive, and holds
 * NaN where beta is 0; A and B are all NaN where alpha is 0. Fails the test when an element is
 * further from the reference than its bound.
 */
void gemm_check(const char *name, const clat_gemm_problem *problem, bool shifted);

/* The same for matrices that lie anywhere in their buffers: problem->batching is
 * CLAT_BATCH_OFFSETS; each matrix has its own offset, alpha and beta. */
void gemm_check_offsets(const char *name, const clat_gemm_problem *problem);

#endif
