/* Element types on the host. */
#ifndef CLAT_DTYPE_H
#define CLAT_DTYPE_H

#include <clattice/clattice.h>

/* Half a unit in the last place of 1.0: 2^-24, 2^-11, 2^-8, 2^-53. */
double dtype_epsilon(clat_dtype dtype);

/* Conversions of stored elements: f16 and bf16 round to nearest even. */
double dtype_load(clat_dtype dtype, const void *data, size_t index);
void dtype_store(clat_dtype dtype, void *data, size_t index, double value);

#endif
