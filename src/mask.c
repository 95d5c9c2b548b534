/* Masks as values: construction, reference counts, the plain definition of visibility. */
#include "mask_tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

clat_status mask_make(clat_mask **out, enum mask_kind kind) {
    clat_mask *mask = *out = calloc(1, sizeof *mask);
    if (mask == NULL)
        return status_no_memory(sizeof *mask);
    atomic_init(&mask->references, 1);
    mask->kind = kind;
    mask->depth = mask->terms = mask->heads = 1;
    return CLAT_OK;
}

clat_status mask_check_out(clat_mask **out) {
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    return CLAT_OK;
}

clat_status clat_mask_causal(clat_mask **out, clat_causal alignment) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (alignment != CLAT_CAUSAL_TOP_LEFT && alignment != CLAT_CAUSAL_BOTTOM_RIGHT)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "alignment is %d, no clat_causal", (int)alignment));
    TRY(mask_make(&mask, MASK_CAUSAL));
    mask->alignment = alignment;
    *out = mask;
out:
    return st;
}

clat_status clat_mask_window(clat_mask **out, int64_t left, int64_t right) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (left < 0 || right < 0)
        TRY(status_fail(CLAT_INVALID_MASK, "%s is %" PRId64 ", must not be negative",
                        left < 0 ? "left" : "right", left < 0 ? left : right));
    TRY(mask_make(&mask, MASK_WINDOW));
    mask->left = left < MASK_FAR ? left : MASK_FAR;
    mask->right = right < MASK_FAR ? right : MASK_FAR;
    *out = mask;
out:
    return st;
}

clat_status clat_mask_global(clat_mask **out, int64_t count) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (count < 0)
        TRY(status_fail(CLAT_INVALID_MASK, "count is %" PRId64 ", must not be negative", count));
    TRY(mask_make(&mask, MASK_GLOBAL));
    mask->count = count < MASK_FAR ? count : MASK_FAR;
    *out = mask;
out:
    return st;
}

static clat_status range(clat_mask **out, enum mask_kind kind, int64_t first, int64_t end) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (first < 0 || end < first)
        TRY(status_fail(CLAT_INVALID_MASK, "%" PRId64 " .. %" PRId64 " is no range of positions",
                        first, end));
    TRY(mask_make(&mask, kind));
    mask->first = first < MASK_FAR ? first : MASK_FAR;
    mask->end = end < MASK_FAR ? end : MASK_FAR;
    *out = mask;
out:
    return st;
}

clat_status clat_mask_queries(clat_mask **out, int64_t first, int64_t end) {
    return range(out, MASK_QUERIES, first, end);
}

clat_status clat_mask_keys(clat_mask **out, int64_t first, int64_t end) {
    return range(out, MASK_KEYS, first, end);
}

static clat_status periodic(clat_mask **out, enum mask_kind kind, int64_t period, int64_t first,
                            int64_t end) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (period < 1 || period > MASK_FAR)
        TRY(status_fail(CLAT_INVALID_MASK, "period is %" PRId64 ", not in 1..2^30", period));
    if (first < 0 || end < first || end > period)
        TRY(status_fail(CLAT_INVALID_MASK, "%" PRId64 " .. %" PRId64 " is no range of a period",
                        first, end));
    TRY(mask_make(&mask, kind));
    mask->step = period;
    mask->first = first;
    mask->end = end;
    *out = mask;
out:
    return st;
}

clat_status clat_mask_periodic_queries(clat_mask **out, int64_t period, int64_t first,
                                       int64_t end) {
    return periodic(out, MASK_PERIODIC_QUERIES, period, first, end);
}

clat_status clat_mask_periodic_keys(clat_mask **out, int64_t period, int64_t first, int64_t end) {
    return periodic(out, MASK_PERIODIC_KEYS, period, first, end);
}

clat_status clat_mask_stride(clat_mask **out, int64_t step, int64_t offset) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (step < 1 || step > MASK_FAR)
        TRY(status_fail(CLAT_INVALID_MASK, "step is %" PRId64 ", not in 1..2^30", step));
    if (offset < 0 || offset >= step)
        TRY(status_fail(CLAT_INVALID_MASK, "offset is %" PRId64 ", not in 0..step - 1", offset));
    TRY(mask_make(&mask, MASK_STRIDE));
    mask->step = step;
    mask->offset = offset;
    *out = mask;
out:
    return st;
}

clat_status clat_mask_distances(clat_mask **out, size_t count, const int64_t *distances) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (distances == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "distances is NULL"));
    if (count < 1 || count >= UINT32_MAX)
        TRY(status_fail(CLAT_INVALID_MASK, "count is %zu, not in 1..2^32 - 2", count));
    for (size_t d = 0; d < count; d++) {
        if (distances[d] <= -MASK_FAR || distances[d] >= MASK_FAR)
            TRY(status_fail(CLAT_INVALID_MASK, "distances[%zu] is %" PRId64 ", beyond 2^30", d,
                            distances[d]));
        if (d > 0 && distances[d] <= distances[d - 1])
            TRY(status_fail(CLAT_INVALID_MASK, "distances[%zu] does not ascend", d));
    }
    TRY(mask_make(&mask, MASK_DISTANCES));
    mask->distances.count = count;
    mask->distances.list = malloc(count * sizeof *distances);
    if (mask->distances.list == NULL)
        TRY(status_no_memory(count * sizeof *distances));
    memcpy(mask->distances.list, distances, count * sizeof *distances);
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

uint32_t *mask_copy_words(const uint32_t *words, size_t count) {
    uint32_t *copy = malloc((count > 0 ? count : 1) * sizeof *copy);
    if (copy != NULL && count > 0)
        memcpy(copy, words, count * sizeof *copy);
    return copy;
}

/* ---- intervals */

clat_status clat_mask_key_intervals(clat_mask **out, uint32_t count, const uint32_t *first,
                                    const uint32_t *end) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (first == NULL || end == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", first == NULL ? "first" : "end"));
    TRY(mask_make(&mask, MASK_INTERVALS));
    mask->intervals.count = count;
    mask->intervals.first = mask_copy_words(first, count);
    mask->intervals.end = mask_copy_words(end, count);
    if (mask->intervals.first == NULL || mask->intervals.end == NULL)
        TRY(status_no_memory(2 * (size_t)count * sizeof(uint32_t)));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

/* ---- documents */

static clat_status check_starts(const char *name, const uint32_t *starts, uint32_t count) {
    if (starts == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", name);
    if (starts[0] != 0)
        return status_fail(CLAT_INVALID_MASK, "%s[0] is %" PRIu32 ", must be 0", name, starts[0]);
    for (uint32_t d = 0; d < count; d++)
        if (starts[d + 1] < starts[d])
            return status_fail(CLAT_INVALID_MASK,
                               "%s[%" PRIu32 "] is less than the entry before it", name, d + 1);
    return CLAT_OK;
}

clat_status clat_mask_documents(clat_mask **out, uint32_t count, const uint32_t *q_starts,
                                const uint32_t *k_starts) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (count < 1 || count == UINT32_MAX)
        TRY(status_fail(CLAT_INVALID_MASK, "count is %" PRIu32 ", not in 1..2^32 - 2", count));
    TRY(check_starts("q_starts", q_starts, count));
    TRY(check_starts("k_starts", k_starts, count));
    TRY(mask_make(&mask, MASK_DOCUMENTS));
    mask->documents.count = count;
    mask->documents.q_starts = mask_copy_words(q_starts, (size_t)count + 1);
    mask->documents.k_starts = mask_copy_words(k_starts, (size_t)count + 1);
    if (mask->documents.q_starts == NULL || mask->documents.k_starts == NULL)
        TRY(status_no_memory(2 * ((size_t)count + 1) * sizeof(uint32_t)));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

clat_status clat_mask_predicate(clat_mask **out, const char *code, unsigned varies) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (code == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "code is NULL"));
    if (varies > (CLAT_MASK_BY_BATCH | CLAT_MASK_BY_HEAD))
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "varies is %u, no clat_mask_varies", varies));
    TRY(mask_make(&mask, MASK_CODE));
    mask->codes = 1;
    mask->varies = varies;
    TRY(snippet_take(&mask->code, code));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

clat_status clat_mask_bits(clat_mask **out, unsigned varies) {
    static const char *const rows[] = {"(ulong)query", "batch * (ulong)seq_q + query",
                                       "head * (ulong)seq_q + query",
                                       "(batch * (ulong)heads + head) * seq_q + query"};
    struct text code = {0};
    clat_status st = CLAT_OK;
    TRY(mask_check_out(out));
    if (varies > (CLAT_MASK_BY_BATCH | CLAT_MASK_BY_HEAD))
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "varies is %u, no clat_mask_varies", varies));
    text_printf(&code, "visible = data[(%s) * ((seq_k + 31) / 32) + key / 32] >> key %% 32 & 1;",
                rows[varies]);
    TRY(text_check(&code));
    TRY(clat_mask_predicate(out, text_string(&code), varies));
out:
    text_free(&code);
    return st;
}

clat_status clat_mask_lengths(clat_mask **out) {
    return clat_mask_predicate(out, "visible = key < data[batch];", CLAT_MASK_BY_BATCH);
}

/* ---- joins */

clat_status mask_join(clat_mask **out, enum mask_kind kind, size_t count,
                      const clat_mask *const *masks) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (masks == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "masks is NULL"));
    if (count < 1 || count > MASK_MAX_CHILDREN)
        TRY(status_fail(CLAT_INVALID_MASK, "count is %zu, not in 1..%d", count, MASK_MAX_CHILDREN));
    TRY(mask_make(&mask, kind));
    mask->terms = 0;
    for (size_t c = 0; c < count; c++) {
        if (masks[c] == NULL)
            TRY(status_fail(CLAT_INVALID_ARGUMENT, "masks[%zu] is NULL", c));
        mask->children[mask->n_children++] = mask_retain(masks[c]);
        mask->terms += masks[c]->terms;
        mask->codes += masks[c]->codes;
        mask->varies |= masks[c]->varies;
        if (masks[c]->depth >= mask->depth)
            mask->depth = masks[c]->depth + 1;
        if (masks[c]->heads > 1 && mask->heads > 1 && masks[c]->heads != mask->heads)
            TRY(status_fail(CLAT_INVALID_MASK,
                            "masks[%zu] is for %" PRIu32 " heads, one before it for %" PRIu32, c,
                            masks[c]->heads, mask->heads));
        if (masks[c]->heads > 1)
            mask->heads = masks[c]->heads;
    }
    if (mask->depth > MASK_MAX_DEPTH || mask->terms > MASK_MAX_TERMS)
        TRY(status_fail(CLAT_INVALID_MASK, "masks nest %u deep with %u terms; at most %d and %d",
                        mask->depth, mask->terms, MASK_MAX_DEPTH, MASK_MAX_TERMS));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

clat_status clat_mask_all(clat_mask **out, size_t count, const clat_mask *const *masks) {
    return mask_join(out, MASK_ALL, count, masks);
}

clat_status clat_mask_any(clat_mask **out, size_t count, const clat_mask *const *masks) {
    return mask_join(out, MASK_ANY, count, masks);
}

clat_status clat_mask_not(clat_mask **out, const clat_mask *mask) {
    clat_status st = CLAT_OK;
    TRY(mask_check_out(out));
    if (mask == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "mask is NULL"));
    TRY(mask_join(out, MASK_NOT, 1, &mask));
out:
    return st;
}

clat_status clat_mask_heads(clat_mask **out, uint32_t heads, const uint32_t *of_head, size_t count,
                            const clat_mask *const *masks) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (of_head == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "of_head is NULL"));
    if (heads < 1 || heads > INT32_MAX)
        TRY(status_fail(CLAT_INVALID_MASK, "heads is %" PRIu32 ", not in 1..2^31 - 1", heads));
    for (uint32_t h = 0; h < heads; h++)
        if (of_head[h] >= count)
            TRY(status_fail(CLAT_INVALID_MASK,
                            "of_head[%" PRIu32 "] is %" PRIu32 ", but count is %zu", h, of_head[h],
                            count));
    TRY(mask_join(&mask, MASK_HEADS, count, masks));
    if (mask->heads > 1 && mask->heads != heads)
        TRY(status_fail(CLAT_INVALID_MASK,
                        "masks has lists for %" PRIu32 " heads, but heads is %" PRIu32, mask->heads,
                        heads));
    mask->heads = heads;
    mask->of_head = mask_copy_words(of_head, heads);
    if (mask->of_head == NULL)
        TRY(status_no_memory(heads * sizeof *of_head));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

/* ---- references */

bool mask_is_shared(const clat_mask *mask) {
    return atomic_load_explicit(&mask->references, memory_order_relaxed) > 1;
}

clat_mask *mask_retain(const clat_mask *mask) {
    clat_mask *shared = (clat_mask *)(uintptr_t)mask; /* only the count changes */
    if (shared != NULL)
        atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    return shared;
}

void clat_mask_release(clat_mask *mask) {
    if (mask == NULL || atomic_fetch_sub_explicit(&mask->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t c = 0; c < mask->n_children; c++)
        clat_mask_release(mask->children[c]);
    snippet_release(mask->code);
    free(mask->of_head);
    free(mask->distances.list);
    free(mask->intervals.first);
    free(mask->intervals.end);
    free(mask->documents.q_starts);
    free(mask->documents.k_starts);
    free(mask->blocks.row_ptr);
    free(mask->blocks.col_idx);
    free(mask);
}

/* ---- what a mask says */

uint32_t mask_lower_bound(const uint32_t *col_idx, uint32_t first, uint32_t end, uint64_t col) {
    while (first < end) {
        const uint32_t middle = first + (end - first) / 2;
        if (col_idx[middle] < col)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

uint32_t mask_document_of(const uint32_t *starts, uint32_t count, int64_t position) {
    return mask_lower_bound(starts, 0, count + 1, (uint64_t)position + 1) - 1;
}

size_t mask_distances_below(const struct mask_distances *d, int64_t distance) {
    size_t first = 0, end = d->count;
    while (first < end) {
        const size_t middle = first + (end - first) / 2;
        if (d->list[middle] < distance)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

static bool has_distance(const struct mask_distances *d, int64_t distance) {
    const size_t at = mask_distances_below(d, distance);
    return at < d->count && d->list[at] == distance;
}

static bool intervals_visible(const struct mask_intervals *v, int64_t i, int64_t j) {
    return j < v->count && v->first[j] <= i && i < v->end[j];
}

static bool documents_visible(const struct mask_documents *d, int64_t i, int64_t j) {
    const uint32_t of_query = mask_document_of(d->q_starts, d->count, i);
    return of_query < d->count && of_query == mask_document_of(d->k_starts, d->count, j);
}

static bool blocks_visible(const struct mask_blocks *b, int64_t head, int64_t i, int64_t j) {
    const uint64_t row = (uint64_t)i / b->block_rows, col = (uint64_t)j / b->block_cols;
    if (row >= b->n_rows || col >= b->n_cols)
        return false;
    const size_t list = (b->heads > 1 ? (size_t)head * b->n_rows : 0) + row;
    const uint32_t end = b->row_ptr[list + 1];
    const uint32_t at = mask_lower_bound(b->col_idx, b->row_ptr[list], end, col);
    return at < end && b->col_idx[at] == col;
}

static bool visible(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t head, int64_t i,
                    int64_t j) {
    switch (mask->kind) {
    case MASK_CAUSAL:
        return j <= i + (mask->alignment == CLAT_CAUSAL_BOTTOM_RIGHT ? seq_k - seq_q : 0);
    case MASK_WINDOW:
        return i - mask->left <= j && j <= i + mask->right;
    case MASK_GLOBAL:
        return i < mask->count || j < mask->count;
    case MASK_QUERIES:
        return mask->first <= i && i < mask->end;
    case MASK_KEYS:
        return mask->first <= j && j < mask->end;
    case MASK_PERIODIC_QUERIES:
        return mask->first <= i % mask->step && i % mask->step < mask->end;
    case MASK_PERIODIC_KEYS:
        return mask->first <= j % mask->step && j % mask->step < mask->end;
    case MASK_STRIDE: /* the remainder of C has the sign of i - j */
        return (i - j) % mask->step == mask->offset ||
               (i - j) % mask->step == mask->offset - mask->step;
    case MASK_DISTANCES:
        return has_distance(&mask->distances, i - j);
    case MASK_INTERVALS:
        return intervals_visible(&mask->intervals, i, j);
    case MASK_DOCUMENTS:
        return documents_visible(&mask->documents, i, j);
    case MASK_BLOCKS:
        return blocks_visible(&mask->blocks, head, i, j);
    case MASK_CODE: /* only devices know: see below */
        return true;
    case MASK_ALL:
        for (size_t c = 0; c < mask->n_children; c++)
            if (!visible(mask->children[c], seq_q, seq_k, head, i, j))
                return false;
        return true;
    case MASK_ANY:
        for (size_t c = 0; c < mask->n_children; c++)
            if (visible(mask->children[c], seq_q, seq_k, head, i, j))
                return true;
        return false;
    case MASK_NOT:
        return !visible(mask->children[0], seq_q, seq_k, head, i, j);
    case MASK_HEADS:
        return visible(mask->children[mask->of_head[head]], seq_q, seq_k, head, i, j);
    case MASK_BY_BLOCKS:
        return visible(mask->children[0], mask_count_blocks(seq_q, mask->blocks.block_rows),
                       mask_count_blocks(seq_k, mask->blocks.block_cols), head,
                       i / mask->blocks.block_rows, j / mask->blocks.block_cols);
    }
    return false;
}

bool clat_mask_visible(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t head, int64_t i,
                       int64_t j) {
    if (i < 0 || i >= seq_q || j < 0 || j >= seq_k || head < 0)
        return false;
    if (mask == NULL)
        return true;
    if (mask->heads > 1 && head >= mask->heads)
        return false;
    if (mask->codes > 0)
        return mask_cover(mask, &(struct query){seq_q, seq_k, head}, (struct region){i, i, j, j}) !=
               COVER_EMPTY;
    return visible(mask, seq_q, seq_k, head, i, j);
}

static clat_status check_length(const char *name, const struct mask_documents *d,
                                const uint32_t *starts, const char *length, int64_t seq) {
    if (starts[d->count] == seq)
        return CLAT_OK;
    return status_fail(CLAT_INVALID_MASK,
                       "mask has %s[%" PRIu32 "] = %" PRIu32 ", but %s is %" PRId64, name, d->count,
                       starts[d->count], length, seq);
}

/* Says in the error of a mask of blocks that lengths are counted in these. */
static clat_status in_blocks(clat_status st, const struct mask_blocks *blocks) {
    char inner[256];
    if (st == CLAT_OK)
        return CLAT_OK;
    snprintf(inner, sizeof inner, "%s", clat_error_text());
    return status_fail(st, "in blocks of %" PRIu32 "x%" PRIu32 ": %s", blocks->block_rows,
                       blocks->block_cols, inner);
}

clat_status mask_check(const clat_mask *mask, int64_t seq_q, int64_t seq_k, int64_t heads) {
    clat_status st = CLAT_OK;
    if (mask == NULL)
        return CLAT_OK;
    if (mask->kind == MASK_BY_BLOCKS)
        return in_blocks(mask_check(mask->children[0],
                                    mask_count_blocks(seq_q, mask->blocks.block_rows),
                                    mask_count_blocks(seq_k, mask->blocks.block_cols), heads),
                         &mask->blocks);
    for (size_t c = 0; c < mask->n_children; c++)
        TRY(mask_check(mask->children[c], seq_q, seq_k, heads));
    if (mask->kind == MASK_HEADS && mask->heads != heads)
        TRY(status_fail(CLAT_INVALID_MASK, "mask is for %" PRIu32 " heads, but heads is %" PRId64,
                        mask->heads, heads));
    if (mask->kind == MASK_STRIDE && seq_q + seq_k + mask->step > MASK_FAR)
        TRY(status_fail(CLAT_INVALID_MASK,
                        "mask has step %" PRId64 ", which with seq_q = %" PRId64
                        " and seq_k = %" PRId64 " is beyond 2^30",
                        mask->step, seq_q, seq_k));
    if ((mask->kind == MASK_PERIODIC_QUERIES && seq_q > MASK_FAR) ||
        (mask->kind == MASK_PERIODIC_KEYS && seq_k > MASK_FAR))
        TRY(status_fail(CLAT_INVALID_MASK,
                        "mask has a period, for positions below 2^30, but seq_q is %" PRId64
                        " and seq_k %" PRId64,
                        seq_q, seq_k));
    if (mask->kind == MASK_INTERVALS && mask->intervals.count != seq_k)
        TRY(status_fail(CLAT_INVALID_MASK,
                        "mask has intervals for %" PRIu32 " keys, but seq_k is %" PRId64,
                        mask->intervals.count, seq_k));
    if (mask->kind == MASK_DOCUMENTS) {
        const struct mask_documents *d = &mask->documents;
        TRY(check_length("q_starts", d, d->q_starts, "seq_q", seq_q));
        TRY(check_length("k_starts", d, d->k_starts, "seq_k", seq_k));
    }
    if (mask->kind == MASK_BLOCKS) {
        const struct mask_blocks *b = &mask->blocks;
        const int64_t rows = mask_count_blocks(seq_q, b->block_rows);
        const int64_t cols = mask_count_blocks(seq_k, b->block_cols);
        if (b->n_rows != rows)
            TRY(status_fail(CLAT_INVALID_MASK,
                            "mask has n_rows = %" PRIu32 " block rows, but seq_q = %" PRId64
                            " makes %" PRId64,
                            b->n_rows, seq_q, rows));
        if (b->n_cols != cols)
            TRY(status_fail(CLAT_INVALID_MASK,
                            "mask has n_cols = %" PRIu32 " block columns, but seq_k = %" PRId64
                            " makes %" PRId64,
                            b->n_cols, seq_k, cols));
        if (b->heads != 1 && b->heads != heads)
            TRY(status_fail(CLAT_INVALID_MASK,
                            "mask has block lists for %" PRIu32 " heads, but heads is %" PRId64,
                            b->heads, heads));
    }
out:
    return st;
}

int64_t mask_heads(const clat_mask *mask) {
    return mask == NULL ? 1 : mask->heads;
}

static uint32_t greatest_common_divisor(uint32_t a, uint32_t b) {
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Blocks of blocks, which may be larger than any mask. */
static uint32_t times(uint32_t outer, uint32_t inner) {
    return (uint32_t)mask_min((int64_t)outer * inner, MASK_FAR);
}

/* 0: no blocks so far. */
static void grain(const clat_mask *mask, uint32_t *rows, uint32_t *cols) {
    const struct mask_blocks *b = &mask->blocks;
    if (mask->kind == MASK_BLOCKS || mask->kind == MASK_BY_BLOCKS) {
        uint32_t inner_rows = 1, inner_cols = 1;
        if (mask->kind == MASK_BY_BLOCKS)
            mask_grain(mask->children[0], &inner_rows, &inner_cols);
        *rows = greatest_common_divisor(times(b->block_rows, inner_rows), *rows);
        *cols = greatest_common_divisor(times(b->block_cols, inner_cols), *cols);
        return;
    }
    for (size_t c = 0; c < mask->n_children; c++)
        grain(mask->children[c], rows, cols);
}

bool mask_has_code(const clat_mask *mask) {
    return mask != NULL && mask->codes > 0;
}

unsigned mask_varies(const clat_mask *mask) {
    return mask != NULL ? mask->varies : 0;
}

void mask_grain(const clat_mask *mask, uint32_t *rows, uint32_t *cols) {
    *rows = *cols = 0;
    if (mask != NULL)
        grain(mask, rows, cols);
    if (*rows == 0)
        *rows = *cols = 1;
}
