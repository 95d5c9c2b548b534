/* Masks of blocks: lists in CSR form, and patterns that are made of them. */
#include "mask_tree.h"
#include "random.h"

#include <inttypes.h>
#include <stdlib.h>

static clat_status check_block_sizes(const struct mask_blocks *b) {
    if (b->block_rows < 1 || b->block_rows > MASK_MAX_BLOCK)
        return status_fail(CLAT_INVALID_MASK, "block_rows is %" PRIu32 ", not in 1..%d",
                           b->block_rows, MASK_MAX_BLOCK);
    if (b->block_cols < 1 || b->block_cols > MASK_MAX_BLOCK)
        return status_fail(CLAT_INVALID_MASK, "block_cols is %" PRIu32 ", not in 1..%d",
                           b->block_cols, MASK_MAX_BLOCK);
    if (b->heads < 1)
        return status_fail(CLAT_INVALID_MASK, "heads is 0, must be at least 1");
    if ((uint64_t)b->heads * b->n_rows >= UINT32_MAX)
        return status_fail(CLAT_INVALID_MASK, "heads x n_rows is beyond 32 bits");
    return CLAT_OK;
}

clat_status clat_mask_by_blocks(clat_mask **out, uint32_t block_rows, uint32_t block_cols,
                                const clat_mask *mask) {
    clat_status st = CLAT_OK;
    clat_mask *blocks = NULL;
    const struct mask_blocks sizes = {
        .block_rows = block_rows, .block_cols = block_cols, .heads = 1};
    TRY(mask_check_out(out));
    if (mask == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "mask is NULL"));
    TRY(check_block_sizes(&sizes));
    TRY(mask_join(&blocks, MASK_BY_BLOCKS, 1, &mask));
    blocks->blocks = sizes;
    *out = blocks;
out:
    return st;
}

static clat_status check_block_row(const struct mask_blocks *b, size_t row) {
    const uint32_t first = b->row_ptr[row], end = b->row_ptr[row + 1];
    for (uint32_t e = first; e < end; e++) {
        if (b->col_idx[e] >= b->n_cols)
            return status_fail(CLAT_INVALID_MASK,
                               "col_idx[%" PRIu32 "] is %" PRIu32 ", but n_cols is %" PRIu32, e,
                               b->col_idx[e], b->n_cols);
        if (e > first && b->col_idx[e] <= b->col_idx[e - 1])
            return status_fail(CLAT_INVALID_MASK,
                               "col_idx[%" PRIu32 "] does not ascend within row %zu", e, row);
    }
    return CLAT_OK;
}

static clat_status check_blocks(const struct mask_blocks *b) {
    clat_status st = CLAT_OK;
    const size_t rows = (size_t)b->heads * b->n_rows;
    if (b->row_ptr[0] != 0)
        TRY(status_fail(CLAT_INVALID_MASK, "row_ptr[0] is %" PRIu32 ", must be 0", b->row_ptr[0]));
    for (size_t r = 0; r < rows; r++)
        if (b->row_ptr[r + 1] < b->row_ptr[r])
            TRY(status_fail(CLAT_INVALID_MASK, "row_ptr[%zu] is less than the entry before it",
                            r + 1));
    if (b->row_ptr[rows] > 0 && b->col_idx == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "col_idx is NULL, but row_ptr counts %" PRIu32,
                        b->row_ptr[rows]));
    for (size_t r = 0; r < rows; r++)
        TRY(check_block_row(b, r));
out:
    return st;
}

clat_status clat_mask_block_csr(clat_mask **out, uint32_t block_rows, uint32_t block_cols,
                                uint32_t n_rows, uint32_t n_cols, uint32_t heads,
                                const uint32_t *row_ptr, const uint32_t *col_idx) {
    clat_status st = CLAT_OK;
    clat_mask *mask = NULL;
    TRY(mask_check_out(out));
    if (row_ptr == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "row_ptr is NULL"));
    /* Borrowed for the checks, copied after them. */
    struct mask_blocks blocks = {.block_rows = block_rows,
                                 .block_cols = block_cols,
                                 .n_rows = n_rows,
                                 .n_cols = n_cols,
                                 .heads = heads,
                                 .row_ptr = (uint32_t *)(uintptr_t)row_ptr,
                                 .col_idx = (uint32_t *)(uintptr_t)col_idx};
    TRY(check_block_sizes(&blocks));
    TRY(check_blocks(&blocks));

    TRY(mask_make(&mask, MASK_BLOCKS));
    const size_t rows = (size_t)heads * n_rows;
    mask->heads = heads;
    mask->blocks = blocks;
    mask->blocks.row_ptr = mask_copy_words(row_ptr, rows + 1);
    mask->blocks.col_idx = mask_copy_words(col_idx, row_ptr[rows]);
    if (mask->blocks.row_ptr == NULL || mask->blocks.col_idx == NULL)
        TRY(status_no_memory((rows + 1 + row_ptr[rows]) * sizeof(uint32_t)));
    *out = mask;
    mask = NULL;
out:
    clat_mask_release(mask);
    return st;
}

/* ---- BigBird */

struct bigbird {
    uint32_t n_rows, n_cols, window, random;
    unsigned char *drawn; /* for each column, 0 between rows */
};

static uint32_t random_below(uint64_t *state, uint32_t bound) {
    return (uint32_t)((random_next(state) >> 32) * bound >> 32);
}

static int64_t clamped(int64_t x, int64_t least, int64_t most) {
    return x < least ? least : x > most ? most : x;
}

static int compare_columns(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* At least as many as there are blocks in all rows; heads * n_rows is below 2^32. */
static uint64_t most_blocks(const struct bigbird *b, uint32_t heads) {
    const uint64_t listed = (uint64_t)b->window + b->random + 2;
    const uint64_t whole = b->n_rows < 2 ? b->n_rows : 2, inner = b->n_rows - whole;
    return heads * (whole * b->n_cols + inner * (listed < b->n_cols ? listed : b->n_cols));
}

/*
 * Draws from the columns first .. begin - 1 and end .. last - 1 by Floyd's algorithm: every set of
 * so many is as likely as any other. Gives how many.
 */
static uint32_t draw_columns(const struct bigbird *b, int64_t first, int64_t begin, int64_t end,
                             int64_t last, uint64_t *seed, uint32_t *cols) {
    const uint32_t n = (uint32_t)(begin - first + last - end);
    const uint32_t count = b->random < n ? b->random : n;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t most = n - count + i, drawn = random_below(seed, most + 1);
        const int64_t columns[] = {first + drawn, first + most};
        for (int c = 0; c < 2; c++) {
            const int64_t col = columns[c] < begin ? columns[c] : columns[c] + end - begin;
            cols[i] = (uint32_t)col;
            if (!b->drawn[col])
                break;
        }
        b->drawn[cols[i]] = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        b->drawn[cols[i]] = 0;
    return count;
}

/* A row's blocks in ascending order. Gives how many. */
static uint32_t fill_row(const struct bigbird *b, uint32_t row, uint64_t *seed, uint32_t *cols) {
    const int64_t last = (int64_t)b->n_cols - 1, near = b->window / 2;
    const bool whole = row == 0 || row + 1 == b->n_rows || last < 1;
    const int64_t begin = whole ? 1 : clamped(row - near, 1, last);
    const int64_t end = whole ? last : clamped(row + near + 1, begin, last);
    uint32_t count = 0;
    if (last >= 0)
        cols[count++] = 0;
    for (int64_t col = begin; col < end; col++)
        cols[count++] = (uint32_t)col;
    if (last >= 1)
        cols[count++] = (uint32_t)last;
    if (!whole) {
        count += draw_columns(b, 1, begin, end, last, seed, cols + count);
        qsort(cols, count, sizeof *cols, compare_columns);
    }
    return count;
}

clat_status clat_mask_bigbird(clat_mask **out, uint32_t block, uint32_t n_rows, uint32_t n_cols,
                              uint32_t heads, uint32_t window, uint32_t random, uint64_t seed) {
    clat_status st = CLAT_OK;
    struct bigbird b = {n_rows, n_cols, window, random, NULL};
    const struct mask_blocks sizes = {block, block, n_rows, n_cols, heads, NULL, NULL};
    const uint64_t rows = (uint64_t)heads * n_rows, most = most_blocks(&b, heads);
    uint32_t *row_ptr = NULL, *col_idx = NULL;
    TRY(mask_check_out(out));
    TRY(check_block_sizes(&sizes));
    if (window % 2 == 0)
        TRY(status_fail(CLAT_INVALID_MASK, "window is %" PRIu32 ", must be odd", window));
    if (most >= UINT32_MAX)
        TRY(status_fail(CLAT_INVALID_MASK, "more blocks than 32 bits count"));
    b.drawn = calloc((size_t)n_cols + 1, 1);
    row_ptr = malloc((rows + 1) * sizeof *row_ptr);
    col_idx = malloc((most + 1) * sizeof *col_idx);
    if (b.drawn == NULL || row_ptr == NULL || col_idx == NULL)
        TRY(status_no_memory(n_cols + (rows + most + 2) * sizeof(uint32_t)));
    row_ptr[0] = 0;
    for (uint64_t row = 0; row < rows; row++)
        row_ptr[row + 1] =
            row_ptr[row] + fill_row(&b, (uint32_t)(row % n_rows), &seed, col_idx + row_ptr[row]);
    TRY(clat_mask_block_csr(out, block, block, n_rows, n_cols, heads, row_ptr, col_idx));
out:
    free(b.drawn);
    free(row_ptr);
    free(col_idx);
    return st;
}
