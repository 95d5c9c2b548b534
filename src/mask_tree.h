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

enum mask_kind {
    MASK_CAUSAL,
    MASK_WINDOW,
    MASK_GLOBAL,
    MASK_QUERIES,
    MASK_KEYS,
    MASK_DOCUMENTS,
    MASK_BLOCKS,
    MASK_ALL,
    MASK_ANY,
    MASK_NOT
};

/* Block CSR; the row_ptr entries of head h start at h * n_rows. */
struct mask_blocks {
    uint32_t block_rows, block_cols, n_rows, n_cols, heads;
    uint32_t *row_ptr, *col_idx;
};

/* Where documents start, count + 1 entries each. */
struct mask_documents {
    uint32_t count;
    uint32_t *q_starts, *k_starts;
};

struct clat_mask {
    atomic_uint references;
    enum mask_kind kind;
    unsigned depth, terms;
    uint32_t heads; /* 1, or the heads of the block lists below */
    clat_causal alignment;
    int64_t left, right; /* window */
    int64_t count;       /* global */
    int64_t first, end;  /* queries, keys */
    struct mask_documents documents;
    struct mask_blocks blocks;
    size_t n_children; /* all, any, not */
    clat_mask *children[MASK_MAX_CHILDREN];
};

/* Entries of the sorted list [first, end) below `col` come before the returned one. */
uint32_t mask_lower_bound(const uint32_t *col_idx, uint32_t first, uint32_t end, uint64_t col);

/* The document that has the position; count behind all of them. */
uint32_t mask_document_of(const uint32_t *starts, uint32_t count, int64_t position);

#endif
