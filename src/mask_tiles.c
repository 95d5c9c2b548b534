/*
 * Masks over rectangles of the score matrix. A term classifies a rectangle exactly by interval
 * arithmetic; a join of terms sometimes only says "partial" and is then decided by halving.
 *
 *            keys ->
 *     q   F F P . .      F full: no test in the kernel
 *     u   F F F P .      P partial: the kernel evaluates the predicate
 *     e   . P F F P      . empty: not in the list
 */
#include "mask_tree.h"

#include <stdlib.h>

/* ---- bands */

static const struct mask_band BAND_ALL = {-MASK_FAR, MASK_FAR};
static const struct mask_band BAND_NONE = {MASK_FAR, -MASK_FAR};

static int64_t causal_limit(const clat_mask *mask, int64_t seq_q, int64_t seq_k) {
    return mask->alignment == CLAT_CAUSAL_BOTTOM_RIGHT ? seq_k - seq_q : 0;
}

/* The union of two bands is a band when they touch. */
static bool band_unite(struct mask_band *band, struct mask_band with) {
    if (with.low > with.high)
        return true;
    if (band->low > band->high) {
        *band = with;
        return true;
    }
    if (with.low > band->high + 1 || band->low > with.high + 1)
        return false;
    band->low = mask_min(band->low, with.low);
    band->high = mask_max(band->high, with.high);
    return true;
}

static bool join_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k, struct mask_band *band) {
    struct mask_band joined = mask->kind == MASK_ALL ? BAND_ALL : BAND_NONE;
    for (size_t c = 0; c < mask->n_children; c++) {
        struct mask_band child;
        if (!mask_band(mask->children[c], seq_q, seq_k, &child))
            return false;
        if (mask->kind == MASK_ALL) {
            joined.low = mask_max(joined.low, child.low);
            joined.high = mask_min(joined.high, child.high);
        } else if (!band_unite(&joined, child)) {
            return false;
        }
    }
    *band = joined;
    return true;
}

/* What a band leaves: a band, where it has one side. */
static bool band_complement(struct mask_band *band) {
    const struct mask_band b = *band;
    if (b.low > b.high)
        *band = BAND_ALL;
    else if (b.low <= -MASK_FAR && b.high >= MASK_FAR)
        *band = BAND_NONE;
    else if (b.low <= -MASK_FAR)
        *band = (struct mask_band){b.high + 1, MASK_FAR};
    else if (b.high >= MASK_FAR)
        *band = (struct mask_band){-MASK_FAR, b.low - 1};
    else
        return false;
    return true;
}

/* A range of positions that are all there are, or none of them. */
static bool range_band(const clat_mask *mask, int64_t length, struct mask_band *band) {
    const int64_t end = mask_min(mask->end, length);
    *band = mask->first >= end ? BAND_NONE : BAND_ALL;
    return mask->first >= end || (mask->first == 0 && end == length);
}

/* Distances without a gap. */
static bool distances_band(const struct mask_distances *d, struct mask_band *band) {
    *band = (struct mask_band){-d->list[d->count - 1], -d->list[0]};
    return d->list[d->count - 1] - d->list[0] == (int64_t)d->count - 1;
}

/* Bands of blocks are stairs, but for the one of all keys and the one of none. */
static bool blocks_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k,
                        struct mask_band *band) {
    const uint32_t rows = mask->blocks.block_rows, cols = mask->blocks.block_cols;
    if (!mask_band(mask->children[0], mask_count_blocks(seq_q, rows),
                   mask_count_blocks(seq_k, cols), band))
        return false;
    return (rows == 1 && cols == 1) || band->low > band->high ||
           (band->low <= -MASK_FAR && band->high >= MASK_FAR);
}

/* Where all heads have the same. */
static bool heads_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k,
                       struct mask_band *band) {
    struct mask_band other;
    if (!mask_band(mask->children[mask->of_head[0]], seq_q, seq_k, band))
        return false;
    for (uint32_t head = 1; head < mask->heads; head++)
        if (!mask_band(mask->children[mask->of_head[head]], seq_q, seq_k, &other) ||
            other.low != band->low || other.high != band->high)
            return false;
    return true;
}

/* The band of a term or a join as it is written. */
static bool plain_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k,
                       struct mask_band *band) {
    *band = BAND_ALL;
    switch (mask->kind) {
    case MASK_CAUSAL:
        band->high = causal_limit(mask, seq_q, seq_k);
        return true;
    case MASK_WINDOW:
        *band = (struct mask_band){-mask->left, mask->right};
        return true;
    case MASK_GLOBAL:
        if (mask->count == 0)
            *band = BAND_NONE;
        return mask->count == 0 || mask->count >= seq_q || mask->count >= seq_k;
    case MASK_QUERIES:
        return range_band(mask, seq_q, band);
    case MASK_KEYS:
        return range_band(mask, seq_k, band);
    case MASK_PERIODIC_QUERIES:
    case MASK_PERIODIC_KEYS:
        if (mask->first == mask->end)
            *band = BAND_NONE;
        return mask->first == mask->end || mask->end - mask->first == mask->step;
    case MASK_STRIDE:
        return mask->step == 1;
    case MASK_DISTANCES:
        return distances_band(&mask->distances, band);
    case MASK_DOCUMENTS:
        return mask->documents.count == 1;
    case MASK_INTERVALS:
    case MASK_BLOCKS:
    case MASK_CODE:
        return false;
    case MASK_ALL:
    case MASK_ANY:
        return join_band(mask, seq_q, seq_k, band);
    case MASK_NOT:
        return mask_band(mask->children[0], seq_q, seq_k, band) && band_complement(band);
    case MASK_HEADS:
        return heads_band(mask, seq_q, seq_k, band);
    case MASK_BY_BLOCKS:
        return blocks_band(mask, seq_q, seq_k, band);
    }
    return false;
}

bool mask_band(const clat_mask *mask, int64_t seq_q, int64_t seq_k, struct mask_band *band) {
    *band = BAND_ALL;
    if (mask != NULL && !plain_band(mask, seq_q, seq_k, band))
        return false;
    /* Equal bands are equal numbers: a side beyond every key says nothing, and a band without keys
     * is always the same. */
    if (band->low > band->high || band->low >= seq_k || band->high <= -seq_q)
        *band = BAND_NONE;
    else if (band->low <= 1 - seq_q)
        band->low = -MASK_FAR;
    if (band->high >= seq_k - 1)
        band->high = MASK_FAR;
    return true;
}

/* ---- rectangles */

static enum cover cover_band(struct mask_band band, struct region r) {
    if (r.j0 - r.i1 > band.high || r.j1 - r.i0 < band.low)
        return COVER_EMPTY;
    return r.j1 - r.i0 <= band.high && r.j0 - r.i1 >= band.low ? COVER_FULL : COVER_PARTIAL;
}

static enum cover cover_global(int64_t count, struct region r) {
    if (r.i0 >= count && r.j0 >= count)
        return COVER_EMPTY;
    return r.i1 < count || r.j1 < count ? COVER_FULL : COVER_PARTIAL;
}

/* Positions from..to against a range of them. */
static enum cover cover_range(const clat_mask *mask, int64_t from, int64_t to) {
    if (to < mask->first || from >= mask->end)
        return COVER_EMPTY;
    return from >= mask->first && to < mask->end ? COVER_FULL : COVER_PARTIAL;
}

/* So many of a number of values are visible. */
static enum cover cover_count(int64_t visible, int64_t all) {
    return visible == 0 ? COVER_EMPTY : visible == all ? COVER_FULL : COVER_PARTIAL;
}

/* Of the first `count` positions. */
static int64_t periodic_below(const clat_mask *mask, int64_t count) {
    const int64_t rest =
        mask_min(mask_max(count % mask->step - mask->first, 0), mask->end - mask->first);
    return count / mask->step * (mask->end - mask->first) + rest;
}

static enum cover cover_periodic(const clat_mask *mask, int64_t from, int64_t to) {
    return cover_count(periodic_below(mask, to + 1) - periodic_below(mask, from), to - from + 1);
}

/* Of the distances in a region, which are all between those of two corners. */
static enum cover cover_stride(const clat_mask *mask, struct region r) {
    const int64_t least = r.i0 - r.j1, most = r.i1 - r.j0;
    /* Multiples of step up to a number, counted from one that is less than all. */
    const int64_t base = least - mask->offset - (least - mask->offset) % mask->step - mask->step;
    const int64_t below = (least - 1 - mask->offset - base) / mask->step;
    return cover_count((most - mask->offset - base) / mask->step - below, most - least + 1);
}

static enum cover cover_distances(const struct mask_distances *d, struct region r) {
    const int64_t least = r.i0 - r.j1, most = r.i1 - r.j0;
    const size_t visible = mask_distances_below(d, most + 1) - mask_distances_below(d, least);
    return cover_count((int64_t)visible, most - least + 1);
}

static enum cover cover_intervals(const struct mask_intervals *v, struct region r) {
    bool any = false, all = true;
    for (int64_t j = r.j0; j <= r.j1 && (!any || all); j++) {
        any = any || (v->first[j] < v->end[j] && v->first[j] <= r.i1 && v->end[j] > r.i0);
        all = all && v->first[j] <= r.i0 && v->end[j] > r.i1;
    }
    return all ? COVER_FULL : any ? COVER_PARTIAL : COVER_EMPTY;
}

static enum cover cover_documents(const struct mask_documents *d, struct region r) {
    const uint32_t q0 = mask_document_of(d->q_starts, d->count, r.i0);
    const uint32_t q1 = mask_document_of(d->q_starts, d->count, r.i1);
    const uint32_t k0 = mask_document_of(d->k_starts, d->count, r.j0);
    const uint32_t k1 = mask_document_of(d->k_starts, d->count, r.j1);
    if (q0 == k0 && q1 == k1 && q0 == q1)
        return COVER_FULL;
    for (uint32_t doc = q0 > k0 ? q0 : k0; doc <= q1 && doc <= k1; doc++)
        if (d->q_starts[doc] < d->q_starts[doc + 1] && d->k_starts[doc] < d->k_starts[doc + 1])
            return COVER_PARTIAL;
    return COVER_EMPTY;
}

static enum cover opposite(enum cover cover) {
    return cover == COVER_EMPTY ? COVER_FULL : cover == COVER_FULL ? COVER_EMPTY : COVER_PARTIAL;
}

static enum cover cover_blocks(const struct mask_blocks *b, int64_t head, struct region r) {
    const uint64_t col0 = (uint64_t)r.j0 / b->block_cols, col1 = (uint64_t)r.j1 / b->block_cols;
    const uint64_t row0 = (uint64_t)r.i0 / b->block_rows, row1 = (uint64_t)r.i1 / b->block_rows;
    const size_t list = b->heads > 1 ? (size_t)head * b->n_rows : 0;
    bool any = false, all = true;
    for (uint64_t row = row0; row <= row1 && (!any || all); row++) {
        const uint32_t end = b->row_ptr[list + row + 1];
        const uint32_t first = mask_lower_bound(b->col_idx, b->row_ptr[list + row], end, col0);
        const uint32_t last = mask_lower_bound(b->col_idx, first, end, col1 + 1);
        any = any || last > first;
        all = all && last - first == col1 - col0 + 1;
    }
    return all ? COVER_FULL : any ? COVER_PARTIAL : COVER_EMPTY;
}

struct query mask_query_of_blocks(const clat_mask *mask, const struct query *q) {
    return (struct query){mask_count_blocks(q->seq_q, mask->blocks.block_rows),
                          mask_count_blocks(q->seq_k, mask->blocks.block_cols), q->head};
}

struct region mask_region_of_blocks(const clat_mask *mask, struct region r) {
    const int64_t rows = mask->blocks.block_rows, cols = mask->blocks.block_cols;
    return (struct region){r.i0 / rows, r.i1 / rows, r.j0 / cols, r.j1 / cols};
}

enum cover mask_cover(const clat_mask *mask, const struct query *query, struct region r) {
    struct mask_band band;
    if (mask_band(mask, query->seq_q, query->seq_k, &band))
        return cover_band(band, r);
    if (mask->kind == MASK_GLOBAL)
        return cover_global(mask->count, r);
    if (mask->kind == MASK_QUERIES)
        return cover_range(mask, r.i0, r.i1);
    if (mask->kind == MASK_KEYS)
        return cover_range(mask, r.j0, r.j1);
    if (mask->kind == MASK_PERIODIC_QUERIES)
        return cover_periodic(mask, r.i0, r.i1);
    if (mask->kind == MASK_PERIODIC_KEYS)
        return cover_periodic(mask, r.j0, r.j1);
    if (mask->kind == MASK_STRIDE)
        return cover_stride(mask, r);
    if (mask->kind == MASK_DISTANCES)
        return cover_distances(&mask->distances, r);
    if (mask->kind == MASK_INTERVALS)
        return cover_intervals(&mask->intervals, r);
    if (mask->kind == MASK_DOCUMENTS)
        return cover_documents(&mask->documents, r);
    if (mask->kind == MASK_CODE)
        return COVER_PARTIAL;
    if (mask->kind == MASK_BLOCKS)
        return cover_blocks(&mask->blocks, query->head, r);
    if (mask->kind == MASK_HEADS)
        return mask_cover(mask->children[mask->of_head[query->head]], query, r);
    if (mask->kind == MASK_BY_BLOCKS) {
        const struct query of_blocks = mask_query_of_blocks(mask, query);
        return mask_cover(mask->children[0], &of_blocks, mask_region_of_blocks(mask, r));
    }
    if (mask->kind == MASK_NOT)
        return opposite(mask_cover(mask->children[0], query, r));
    const enum cover decides = mask->kind == MASK_ALL ? COVER_EMPTY : COVER_FULL;
    enum cover joined = mask->kind == MASK_ALL ? COVER_FULL : COVER_EMPTY;
    for (size_t c = 0; c < mask->n_children; c++) {
        const enum cover child = mask_cover(mask->children[c], query, r);
        if (child == decides)
            return decides;
        if (child == COVER_PARTIAL)
            joined = COVER_PARTIAL;
    }
    return joined;
}

void mask_halve(struct region r, struct region *first, struct region *second) {
    const bool by_query = r.i1 - r.i0 >= r.j1 - r.j0;
    const int64_t low = by_query ? r.i0 : r.j0, high = by_query ? r.i1 : r.j1;
    int64_t step = 1;
    while (low / (2 * step) != high / (2 * step))
        step *= 2;
    const int64_t cut = high / step * step;
    *first = *second = r;
    if (by_query) {
        first->i1 = cut - 1;
        second->i0 = cut;
    } else {
        first->j1 = cut - 1;
        second->j0 = cut;
    }
}

static enum cover cover_exactly(const clat_mask *mask, const struct query *query, struct region r) {
    const enum cover whole = mask_cover(mask, query, r);
    if (whole != COVER_PARTIAL || mask->n_children == 0 || mask->codes > 0)
        return whole;
    struct region a, b;
    mask_halve(r, &a, &b);
    const enum cover first = cover_exactly(mask, query, a);
    if (first == COVER_PARTIAL)
        return COVER_PARTIAL;
    return cover_exactly(mask, query, b) == first ? first : COVER_PARTIAL;
}

/* ---- tile lists */

/* Kernels index them with int. */
struct words {
    uint32_t *data;
    size_t count, capacity;
    bool failed;
};

static void words_push(struct words *words, uint32_t word) {
    if (words->count == words->capacity && !words->failed) {
        const size_t capacity = words->capacity > 0 ? 2 * words->capacity : 256;
        uint32_t *data =
            capacity <= INT32_MAX ? realloc(words->data, capacity * sizeof *data) : NULL;
        words->failed = data == NULL;
        if (data != NULL) {
            words->data = data;
            words->capacity = capacity;
        }
    }
    if (!words->failed)
        words->data[words->count++] = word;
}

/* One query tile against ranges of key tiles. */
struct sweep {
    const clat_mask *mask;
    struct query query;
    int64_t i0, i1, cols;
    struct words *full, *partial;
};

/* Key tiles first..last: whole ranges are decided at once where the mask lets it. */
static void sweep_range(const struct sweep *s, int64_t first, int64_t last) {
    const struct region r = {s->i0, s->i1, first * s->cols,
                             mask_min((last + 1) * s->cols, s->query.seq_k) - 1};
    enum cover c = mask_cover(s->mask, &s->query, r);
    if (c == COVER_PARTIAL && first < last) {
        const int64_t middle = first + (last - first) / 2;
        sweep_range(s, first, middle);
        sweep_range(s, middle + 1, last);
        return;
    }
    if (c == COVER_PARTIAL)
        c = cover_exactly(s->mask, &s->query, r);
    if (c == COVER_EMPTY)
        return;
    for (int64_t tile = first; tile <= last; tile++) {
        const bool cut = (tile + 1) * s->cols > s->query.seq_k;
        words_push(c == COVER_FULL && !cut ? s->full : s->partial, (uint32_t)tile);
    }
}

clat_status mask_tiles(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t rows,
                       int64_t cols, struct mask_tiles *out) {
    clat_status st = CLAT_OK;
    struct words index = {0}, tiles = {0}, full = {0};
    const int64_t q_tiles = (seq_q + rows - 1) / rows, k_tiles = (seq_k + cols - 1) / cols;
    *out = (struct mask_tiles){0};
    for (int64_t row = 0; row < mask_heads(mask) * q_tiles; row++) {
        const int64_t i0 = row % q_tiles * rows;
        const struct sweep s = {.mask = mask,
                                .query = {seq_q, seq_k, row / q_tiles},
                                .i0 = i0,
                                .i1 = mask_min(i0 + rows, seq_q) - 1,
                                .cols = cols,
                                .full = &full,
                                .partial = &tiles};
        const size_t start = tiles.count;
        full.count = 0;
        if (k_tiles > 0)
            sweep_range(&s, 0, k_tiles - 1);
        words_push(&index, (uint32_t)start);
        words_push(&index, (uint32_t)(tiles.count - start));
        for (size_t f = 0; f < full.count; f++)
            words_push(&tiles, full.data[f]);
        words_push(&index, (uint32_t)(tiles.count - start));
        if (index.failed || tiles.failed || full.failed)
            TRY(status_no_memory((index.count + tiles.count) * 2 * sizeof(uint32_t)));
    }
    *out = (struct mask_tiles){index.data, tiles.data, index.count, tiles.count};
    index.data = tiles.data = NULL;
out:
    free(index.data);
    free(tiles.data);
    free(full.data);
    return st;
}
