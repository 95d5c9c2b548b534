/*
 * Attention masks as data: an expression of terms, compiled for one problem and tile size into
 *   - a band, when the mask is an intersection of causal and window terms: tile ranges by formula;
 *   - else a list of tiles per query tile, partial ones first, then full ones;
 * and a predicate in OpenCL C that partial tiles evaluate.
 */
#ifndef CLAT_MASK_H
#define CLAT_MASK_H

#include "text.h"

/* The keys visible to query i are i + low <= j <= i + high. Unbounded sides hold +-MASK_FAR, small
 * enough that adding any sequence position cannot overflow 64 bits and, in int, 32; a band without
 * any key has low = MASK_FAR, high = -MASK_FAR. */
#define MASK_FAR ((int64_t)1 << 30)
struct mask_band {
    int64_t low, high;
};

/* A retained handle / its end. NULL is fine. */
clat_mask *mask_retain(const clat_mask *mask);

/* Whether anyone but the caller holds it. */
bool mask_is_shared(const clat_mask *mask);

/* INVALID_MASK when the mask cannot serve these sizes. A NULL mask serves all. */
clat_status mask_check(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t heads);

/* true: the whole mask is this band (a NULL mask is the widest). */
bool mask_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k, struct mask_band *band);

/* Visible (query, key) pairs of a band. */
double mask_band_pairs(struct mask_band band, int64_t seq_q, int64_t seq_k);

/* The heads that differ: 1 when every head sees the same, else the heads of its block lists. */
int64_t mask_heads(const clat_mask *mask);

/* Whether it has predicates of the caller's: then lists made here hold tiles that may be empty or
 * full, as partial ones, and devices find out; and by what their answers vary: clat_mask_varies. */
bool mask_has_code(const clat_mask *mask);
unsigned mask_varies(const clat_mask *mask);

/* Visible (query, key) pairs of one batch element, over all `heads`. For flop counts. */
double mask_pairs(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t heads);

/* A multiple of what rows and cols of tiles should divide or be divided by so that few tiles are
 * partial: the block sizes of the mask's CSR terms; 1 x 1 when there are none. */
void mask_grain(const clat_mask *mask, uint32_t *rows, uint32_t *cols);

/* "dense", "causal", "window(128,128)", "any(window(128,128),global(16))",
 * "block_csr(64x64,10.2%)". */
void mask_print(const clat_mask *mask, struct text *out);

/* "window(128,inf)": keys before and after the diagonal; at MASK_FAR and beyond, all. */
void mask_print_window(int64_t left, int64_t right, struct text *out);

/*
 * Tile lists of a mask that is no band. `index` holds, for each of mask_heads() x n_query_tiles
 * rows in that order, three words {start, n_partial, n_total}: the row's key tiles are tiles[start
 * .. start + n_total), the first n_partial of them partial. A tile that the end of the keys cuts
 * off counts as partial. Both arrays are malloc'ed, and NULL when empty.
 */
struct mask_tiles {
    uint32_t *index, *tiles;
    size_t n_index, n_tiles; /* words */
};
clat_status mask_tiles(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t rows,
                       int64_t cols, struct mask_tiles *out);

/*
 * The predicate of a mask that is no band, as OpenCL C: defines
 *     MASK_VISIBLE(mask_words, data, batch, head, heads, i, j)
 * non-zero when query i sees key j, with int i, j, batch, head, heads; `words` are the numbers it
 * reads (a __global const uint *), malloc'ed, `data` (the same) what the caller's predicates read.
 * Where it defines MASK_VECTORS as 1, not 0, i may be a vector of int too.
 */
clat_status mask_predicate(const clat_mask *mask, int64_t seq_q, int64_t seq_k, struct text *source,
                           uint32_t **words, size_t *n_words);

#endif
