/* Integer arithmetic on sizes. */
#ifndef CLAT_SIZES_H
#define CLAT_SIZES_H

#include <stddef.h>

/* For any `a`, without overflow. */
static inline size_t ceil_div(size_t a, size_t b) {
    return a / b + (a % b != 0);
}

/* To a multiple of `step`. */
static inline size_t round_up(size_t x, size_t step) {
    return ceil_div(x, step) * step;
}

static inline size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

#endif
