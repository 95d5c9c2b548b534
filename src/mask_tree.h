/* What a mask is made of. Only mask*.c look inside. */
#ifndef CLAT_MASK_TREE_H
#define CLAT_MASK_TREE_H

#include "mask.h"

#include <stdatomic.h>

enum {
    MASK_MAX_CHILDREN = 8,
    MASK_MAX_DEPTH = 16, /* recursion over the tree stays shallow */
    MASK_MAX_TERMS = 64, /* and the generated predicate short */
    MASK_MAX_BLOCK = 1024
};

enum mask_kind { MASK_CAUSAL, MASK_WINDOW, MASK_GLOBAL, MASK_BLOCKS, MASK_ALL, MASK_ANY };

/* Block CSR; the row_ptr entries of head h start at h * n_rows. */
struct mask_blocks {
    uint32_t block_rows, block_cols, n_rows, n_cols, heads;
    uint32_t *row_ptr, *col_idx;
};

struct clat_mask {
    atomic_uint references;
    enum mask_kind kind;
    unsigned depth, terms;
    uint32_t heads; /* 1, or the heads of the block lists below */
    clat_causal alignment;
    int64_t left, right; /* window */
    int64_t count;       /* global */
    struct mask_blocks blocks;
    size_t n_children; /* all, any */
    clat_mask *children[MASK_MAX_CHILDREN];
};

/* Entries of the sorted list [first, end) below `col` come before the returned one. */
uint32_t mask_lower_bound(const uint32_t *col_idx, uint32_t first, uint32_t end, uint64_t col);

#endif
