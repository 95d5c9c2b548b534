/* Masks of every kind, by name, for the tests of masks and of attention. */
#ifndef CLAT_MASK_CASES_H
#define CLAT_MASK_CASES_H

#include "harness.h"

/* Makes a mask for these sizes; NULL for the dense one. */
typedef clat_mask *(*mask_maker)(uint32_t seq_q, uint32_t seq_k);

struct mask_case {
    const char *name;
    mask_maker make;
    bool band;      /* whatever the sizes, it is one */
    uint32_t heads; /* 1, or those it is made for */
};

extern const struct mask_case mask_cases[];
extern const size_t n_mask_cases;

/* Fails the test when there is none of that name. */
const struct mask_case *mask_case_named(const char *name);

/* Seeded random blocks; about `percent` of them are listed, and whole rows are left out. */
clat_mask *mask_random_blocks(uint32_t block_rows, uint32_t block_cols, uint32_t seq_q,
                              uint32_t seq_k, uint32_t heads, unsigned percent);

#endif
