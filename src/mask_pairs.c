/* How many pairs of a query and a key a mask leaves visible: by formula where it has one; else
 * regions are halved until their partial terms depend on one number alone, be it the distance. */
#include "mask_tree.h"

/* Pairs with j <= i + high: the sum over i of min(max(i + high + 1, 0), seq_k). */
static double pairs_up_to(int64_t seq_q, int64_t seq_k, int64_t high) {
    const int64_t first = mask_min(mask_max(-high, 0), seq_q);      /* first i that sees a key */
    const int64_t all = mask_min(mask_max(seq_k - high, 0), seq_q); /* first i that sees all */
    const double rows = (double)(mask_max(all, first) - first);     /* those in between */
    const double sum = rows * (double)(first + high + 1) + rows * (rows - 1) / 2;
    return sum + (double)(seq_q - mask_max(all, first)) * (double)seq_k;
}

double mask_band_pairs(struct mask_band band, int64_t seq_q, int64_t seq_k) {
    if (band.low > band.high)
        return 0;
    return pairs_up_to(seq_q, seq_k, band.high) - pairs_up_to(seq_q, seq_k, band.low - 1);
}

/* What the terms depend on that are partial in a region. */
enum { ON_DISTANCE = 1, ON_KEY = 2, ON_QUERY = 4, ON_BOTH = 8 };

static unsigned dependence(const clat_mask *mask, const struct query *query, struct region r) {
    unsigned joined = 0;
    struct mask_band band;
    if (mask_cover(mask, query, r) != COVER_PARTIAL)
        return 0;
    if (mask->kind == MASK_HEADS)
        return dependence(mask->children[mask->of_head[query->head]], query, r);
    if (mask->kind == MASK_BY_BLOCKS) { /* pairs of a diagonal are in blocks of two */
        const struct query of_blocks = mask_query_of_blocks(mask, query);
        joined = dependence(mask->children[0], &of_blocks, mask_region_of_blocks(mask, r));
        const bool single = mask->blocks.block_rows == 1 && mask->blocks.block_cols == 1;
        return joined == ON_DISTANCE && !single ? ON_BOTH : joined;
    }
    for (size_t c = 0; c < mask->n_children; c++)
        joined |= dependence(mask->children[c], query, r);
    if (mask->n_children > 0)
        return joined;
    if (mask_band(mask, query->seq_q, query->seq_k, &band) || mask->kind == MASK_STRIDE ||
        mask->kind == MASK_DISTANCES)
        return ON_DISTANCE;
    if (mask->kind == MASK_KEYS || mask->kind == MASK_PERIODIC_KEYS)
        return ON_KEY;
    return mask->kind == MASK_QUERIES || mask->kind == MASK_PERIODIC_QUERIES ? ON_QUERY : ON_BOTH;
}

static bool sees(const clat_mask *mask, const struct query *q, int64_t i, int64_t j) {
    return clat_mask_visible(mask, q->seq_q, q->seq_k, q->head, i, j);
}

/* Where a pair is as visible as all of its diagonal. */
static double diagonal_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    double pairs = 0;
    for (int64_t d = r.i0 - r.j1; d <= r.i1 - r.j0; d++) {
        const int64_t first = r.j0 + d > r.i0 ? r.j0 + d : r.i0;
        const int64_t last = r.j1 + d < r.i1 ? r.j1 + d : r.i1;
        if (sees(mask, query, first, first - d))
            pairs += (double)(last - first + 1);
    }
    return pairs;
}

static double column_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    double keys = 0;
    for (int64_t j = r.j0; j <= r.j1; j++)
        keys += sees(mask, query, r.i0, j);
    return keys * (double)(r.i1 - r.i0 + 1);
}

static double row_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    double queries = 0;
    for (int64_t i = r.i0; i <= r.i1; i++)
        queries += sees(mask, query, i, r.j0);
    return queries * (double)(r.j1 - r.j0 + 1);
}

static double region_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    switch (mask_cover(mask, query, r)) {
    case COVER_EMPTY:
        return 0;
    case COVER_FULL:
        return (double)(r.i1 - r.i0 + 1) * (double)(r.j1 - r.j0 + 1);
    case COVER_PARTIAL:
        break;
    }
    switch (dependence(mask, query, r)) {
    case ON_DISTANCE:
        return diagonal_pairs(mask, query, r);
    case ON_KEY:
        return column_pairs(mask, query, r);
    case ON_QUERY:
        return row_pairs(mask, query, r);
    default:
        break;
    }
    struct region a, b;
    mask_halve(r, &a, &b);
    return region_pairs(mask, query, a) + region_pairs(mask, query, b);
}

/* Over all heads of the block lists. */
static double blocks_pairs(const struct mask_blocks *b, int64_t seq_q, int64_t seq_k) {
    double pairs = 0;
    for (size_t list = 0; list < (size_t)b->heads * b->n_rows; list++) {
        const int64_t i0 = (int64_t)(list % b->n_rows) * b->block_rows;
        const uint32_t first = b->row_ptr[list], end = b->row_ptr[list + 1];
        double keys = (double)(end - first) * b->block_cols;
        if (end > first && b->col_idx[end - 1] == b->n_cols - 1)
            keys -= (double)((int64_t)b->n_cols * b->block_cols - seq_k);
        pairs += keys * (double)(mask_min(i0 + b->block_rows, seq_q) - i0);
    }
    return pairs;
}

static double intervals_pairs(const struct mask_intervals *v, int64_t seq_q) {
    double pairs = 0;
    for (uint32_t j = 0; j < v->count; j++) {
        const int64_t end = mask_min(v->end[j], seq_q);
        pairs += end > v->first[j] ? (double)(end - v->first[j]) : 0;
    }
    return pairs;
}

/* Pairs of blocks times what a block has of them, which is less in the last ones. */
static double by_blocks_pairs(const clat_mask *mask, const struct query *query) {
    const struct query blocks = mask_query_of_blocks(mask, query);
    const int64_t rows[2] = {mask->blocks.block_rows,
                             query->seq_q - (blocks.seq_q - 1) * mask->blocks.block_rows};
    const int64_t cols[2] = {mask->blocks.block_cols,
                             query->seq_k - (blocks.seq_k - 1) * mask->blocks.block_cols};
    double pairs = 0;
    for (int part = 0; part < 4; part++) {
        const bool last_row = part / 2, last_col = part % 2;
        const struct region r = {last_row ? blocks.seq_q - 1 : 0, blocks.seq_q - (last_row ? 1 : 2),
                                 last_col ? blocks.seq_k - 1 : 0,
                                 blocks.seq_k - (last_col ? 1 : 2)};
        if (r.i0 <= r.i1 && r.j0 <= r.j1)
            pairs += region_pairs(mask->children[0], &blocks, r) *
                     (double)(rows[last_row] * cols[last_col]);
    }
    return pairs;
}

double mask_pairs(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t heads) {
    struct mask_band band;
    if (seq_q <= 0 || seq_k <= 0 || heads <= 0)
        return 0;
    if (mask_band(mask, seq_q, seq_k, &band))
        return mask_band_pairs(band, seq_q, seq_k) * (double)heads;
    const double copies = (double)heads / (double)mask->heads;
    if (mask->kind == MASK_BLOCKS)
        return blocks_pairs(&mask->blocks, seq_q, seq_k) * copies;
    if (mask->kind == MASK_INTERVALS)
        return intervals_pairs(&mask->intervals, seq_q) * copies;
    double pairs = 0;
    for (uint32_t head = 0; head < mask->heads; head++) {
        const struct query query = {seq_q, seq_k, head};
        pairs += mask->kind == MASK_BY_BLOCKS
                     ? by_blocks_pairs(mask, &query)
                     : region_pairs(mask, &query, (struct region){0, seq_q - 1, 0, seq_k - 1});
    }
    return pairs * copies;
}
