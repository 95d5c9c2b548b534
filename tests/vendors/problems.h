/* Problems that stand for all others: between them they select every piece of the kernels. */
#ifndef CLAT_VENDORS_PROBLEMS_H
#define CLAT_VENDORS_PROBLEMS_H

#include "ops/attention.h"
#include "ops/gemm.h"

struct problem {
    const struct operation *op;
    union {
        struct gemm gemm;
        struct attention attention;
    } of; /* normalised */
};

/* Fills `*out` with all of them, to be freed with problems_free. The count. */
size_t problems_make(struct problem **out);
void problems_free(struct problem *problems, size_t count);

#endif
