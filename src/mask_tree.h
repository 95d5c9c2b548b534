/* What a mask is made of. Only mask*.c look inside. */
#ifndef CLAT_MASK_TREE_H
#define CLAT_MASK_TREE_H

#include "mask.h"
#include "snippet.h"

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
    MASK_PERIODIC_QUERIES,
    MASK_PERIODIC_KEYS,
    MASK_STRIDE,
    MASK_DISTANCES,
    MASK_INTERVALS,
    MASK_DOCUMENTS,
    MASK_BLOCKS,
    MASK_CODE,
    MASK_ALL,
    MASK_ANY,
    MASK_NOT,
    MASK_HEADS,
    MASK_BY_BLOCKS
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

/* Ascending; each is i - j. */
struct mask_distances {
    size_t count;
    int64_t *list;
};

/* Of each key, the queries that see it. */
struct mask_intervals {
    uint32_t count;
    uint32_t *first, *end;
};

struct clat_mask {
    atomic_uint references;
    enum mask_kind kind;
    unsigned depth, terms, codes;
    unsigned varies; /* clat_mask_varies of its codes, joined */
    uint32_t heads;  /* 1, or those that differ */
    clat_causal alignment;
    int64_t left, right;  /* window */
    int64_t count;        /* global */
    int64_t first, end;   /* queries, keys, those of a period */
    int64_t step, offset; /* stride; of periodic ones the period */
    struct mask_distances distances;
    struct mask_intervals intervals;
    struct mask_documents documents;
    struct mask_blocks blocks; /* by blocks: only their sizes */
    struct snippet *code;
    uint32_t *of_head; /* heads: the child of each */
    size_t n_children; /* all, any, not, heads, by blocks */
    clat_mask *children[MASK_MAX_CHILDREN];
};

/* ---- what constructors share */

/* Clears the error and `*out`; INVALID_ARGUMENT where that is NULL. */
clat_status mask_check_out(clat_mask **out);

/* A term without its numbers. */
clat_status mask_make(clat_mask **out, enum mask_kind kind);

/* Of 1 .. MASK_MAX_CHILDREN masks, which it retains. */
clat_status mask_join(clat_mask **out, enum mask_kind kind, size_t count,
                      const clat_mask *const *masks);

/* malloc'ed, of one word at least; NULL where memory is exhausted. */
uint32_t *mask_copy_words(const uint32_t *words, size_t count);

/* ---- positions */

static inline int64_t mask_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t mask_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Blocks of `block` positions, the last of which may be cut off. */
static inline int64_t mask_count_blocks(int64_t seq, uint32_t block) {
    return seq / block + (seq % block != 0);
}

/* ---- looking up */

/* Entries of the sorted list [first, end) below `col` come before the returned one. */
uint32_t mask_lower_bound(const uint32_t *col_idx, uint32_t first, uint32_t end, uint64_t col);

/* The document that has the position; count behind all of them. */
uint32_t mask_document_of(const uint32_t *starts, uint32_t count, int64_t position);

/* Distances of the list that are less than `distance`. */
size_t mask_distances_below(const struct mask_distances *distances, int64_t distance);

/* ---- masks over rectangles of the score matrix (mask_tiles.c) */

enum cover { COVER_EMPTY, COVER_FULL, COVER_PARTIAL };

/* Queries i0..i1 and keys j0..j1, both ends included. */
struct region {
    int64_t i0, i1, j0, j1;
};

struct query {
    int64_t seq_q, seq_k, head;
};

/* The same in blocks, whose sizes those of a mask by blocks are. */
struct query mask_query_of_blocks(const clat_mask *mask, const struct query *query);
struct region mask_region_of_blocks(const clat_mask *mask, struct region region);

/* May say partial of a join that is full or empty; exact otherwise, and always on one element. */
enum cover mask_cover(const clat_mask *mask, const struct query *query, struct region region);

/* Cuts the longer side at a power of two, so that cuts meet the edges of blocks. */
void mask_halve(struct region region, struct region *first, struct region *second);

#endif
