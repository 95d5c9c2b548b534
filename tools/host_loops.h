/* Loops of the peers on the host, in the widest vectors that this CPU has. */
#ifndef HOST_LOOPS_H
#define HOST_LOOPS_H

#include <stddef.h>

/*
 * In place, one row of scores: exp(s[j]) / sum exp for first <= j < last, 0 elsewhere; all 0 when
 * nothing is visible. The exponential is a polynomial, off by 3e-7 at most.
 */
void host_softmax(float *scores, size_t length, size_t first, size_t last);

/* Reads floats and gives their sum, in no particular order. */
float host_sum(const float *values, size_t count);

/* About so many floating-point operations, all fused multiply-adds in registers where the CPU has
 * them. Gives a number that depends on all of them. */
float host_fma(double flops);

/* "AVX-512", "AVX2 and FMA" or "baseline". */
const char *host_vectors(void);

#endif
