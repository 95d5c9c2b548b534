/* How many pairs of a query and a key a mask leaves visible: by formula where it has one; else
 * regions are halved until their partial terms depend on one number alone, be it the distance. What
 * only devices can tell counts as visible. */
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
enum { ON_DISTANCE = 1, ON_KEY = 2, ON_QUERY = 4, ON_BOTH = 8, ON_CODE = 16 };

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
    if (mask->kind == MASK_CODE)
        return ON_CODE;
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

/* Neighbouring blocks with equally many positions of a range in each. */
struct run {
    int64_t first, last, positions;
};

/* The blocks of first .. last: at most three runs, since the outer ones may be cut off. */
static int cut(struct run *runs, int64_t first, int64_t last, int64_t block) {
    const int64_t b0 = first / block, b1 = last / block;
    int count = 0;
    if (b0 == b1) {
        runs[0] = (struct run){b0, b0, last - first + 1};
        return 1;
    }
    runs[count++] = (struct run){b0, b0, (b0 + 1) * block - first};
    if (b1 - b0 > 1)
        runs[count++] = (struct run){b0 + 1, b1 - 1, block};
    runs[count++] = (struct run){b1, b1, last - b1 * block + 1};
    return count;
}

static double region_pairs(const clat_mask *mask, const struct query *query, struct region r);

static double by_blocks_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    const struct query blocks = mask_query_of_blocks(mask, query);
    struct run rows[3], cols[3];
    const int n_rows = cut(rows, r.i0, r.i1, mask->blocks.block_rows);
    const int n_cols = cut(cols, r.j0, r.j1, mask->blocks.block_cols);
    double pairs = 0;
    for (const struct run *row = rows; row < rows + n_rows; row++)
        for (const struct run *col = cols; col < cols + n_cols; col++) {
            const struct region part = {row->first, row->last, col->first, col->last};
            pairs += region_pairs(mask->children[0], &blocks, part) *
                     (double)(row->positions * col->positions);
        }
    return pairs;
}

/* The child of a join that alone is partial where the join is: the others change nothing there. */
static const clat_mask *only_partial(const clat_mask *mask, const struct query *query,
                                     struct region r) {
    const clat_mask *only = NULL;
    if (mask->kind != MASK_ALL && mask->kind != MASK_ANY)
        return NULL;
    for (size_t c = 0; c < mask->n_children; c++)
        if (mask_cover(mask->children[c], query, r) == COVER_PARTIAL) {
            if (only != NULL)
                return NULL;
            only = mask->children[c];
        }
    return only;
}

static double region_pairs(const clat_mask *mask, const struct query *query, struct region r) {
    const double all = (double)(r.i1 - r.i0 + 1) * (double)(r.j1 - r.j0 + 1);
    const enum cover cover = mask_cover(mask, query, r);
    if (cover != COVER_PARTIAL)
        return cover == COVER_FULL ? all : 0;
    if (mask->kind == MASK_HEADS)
        return region_pairs(mask->children[mask->of_head[query->head]], query, r);
    if (mask->kind == MASK_NOT && mask->codes == 0)
        return all - region_pairs(mask->children[0], query, r);
    if (mask->kind == MASK_BY_BLOCKS)
        return by_blocks_pairs(mask, query, r);
    const clat_mask *only = only_partial(mask, query, r);
    if (only != NULL)
        return region_pairs(only, query, r);
    switch (dependence(mask, query, r) & ~(unsigned)ON_CODE) {
    case 0: /* code alone */
        return all;
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
        pairs += region_pairs(mask, &query, (struct region){0, seq_q - 1, 0, seq_k - 1});
    }
    return pairs * copies;
}
