/* Masks: what constructors, plans and inspections refuse. */
#include "mask_cases.h"

#include "mask.h"

struct bad_blocks {
    const char *name, *word;
    clat_status status;
    uint32_t block_rows, block_cols, n_rows, n_cols, heads;
    uint32_t row_ptr[4], col_idx[4];
};

static const struct bad_blocks bad_blocks[] = {
    {"block_rows 0", "block_rows", CLAT_INVALID_MASK, 0, 4, 2, 2, 1, {0}, {0}},
    {"block_rows 1025", "block_rows", CLAT_INVALID_MASK, 1025, 4, 2, 2, 1, {0}, {0}},
    {"block_cols 0", "block_cols", CLAT_INVALID_MASK, 4, 0, 2, 2, 1, {0}, {0}},
    {"block_cols 1025", "block_cols", CLAT_INVALID_MASK, 4, 1025, 2, 2, 1, {0}, {0}},
    {"no heads", "heads", CLAT_INVALID_MASK, 4, 4, 2, 2, 0, {0}, {0}},
    {"heads x rows", "heads", CLAT_INVALID_MASK, 4, 4, 1u << 31, 2, 2, {0}, {0}},
    {"row_ptr[0]", "row_ptr", CLAT_INVALID_MASK, 4, 4, 2, 2, 1, {1, 1, 1}, {0}},
    {"row_ptr falls", "row_ptr", CLAT_INVALID_MASK, 4, 4, 2, 2, 1, {0, 2, 1}, {0, 1}},
    {"column too large", "col_idx", CLAT_INVALID_MASK, 4, 4, 2, 2, 1, {0, 1, 2}, {0, 2}},
    {"column twice", "col_idx", CLAT_INVALID_MASK, 4, 4, 1, 3, 1, {0, 2}, {1, 1}},
    {"columns descend", "col_idx", CLAT_INVALID_MASK, 4, 4, 1, 3, 1, {0, 2}, {2, 1}},
};

static void test_bad_blocks(void **state) {
    const struct bad_blocks *bad = *state;
    clat_mask *mask = (clat_mask *)1;
    assert_status(bad->status,
                  clat_mask_block_csr(&mask, bad->block_rows, bad->block_cols, bad->n_rows,
                                      bad->n_cols, bad->heads, bad->row_ptr, bad->col_idx));
    assert_error_names(bad->word);
    assert_null(mask);
}

static void test_bad_arguments(void **state) {
    (void)state;
    clat_mask *mask = NULL, *heads2 = NULL, *heads3 = NULL;
    const uint32_t pointers[] = {0, 1, 1, 1}, column[] = {0};
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_causal(NULL, CLAT_CAUSAL_TOP_LEFT));
    assert_error_names("out");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_causal(&mask, (clat_causal)2));
    assert_error_names("alignment");
    assert_status(CLAT_INVALID_MASK, clat_mask_window(&mask, -1, 0));
    assert_error_names("left");
    assert_status(CLAT_INVALID_MASK, clat_mask_window(&mask, 0, -1));
    assert_error_names("right");
    assert_status(CLAT_INVALID_MASK, clat_mask_global(&mask, -1));
    assert_error_names("count");
    assert_status(CLAT_INVALID_MASK, clat_mask_queries(&mask, -1, 3));
    assert_error_names("-1 .. 3");
    assert_status(CLAT_INVALID_MASK, clat_mask_keys(&mask, 3, 2));
    assert_error_names("3 .. 2");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_not(&mask, NULL));
    assert_error_names("mask is NULL");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_not(NULL, NULL));
    assert_error_names("out is NULL");
    assert_status(CLAT_INVALID_MASK, clat_mask_periodic_keys(&mask, 0, 0, 0));
    assert_error_names("period");
    assert_status(CLAT_INVALID_MASK, clat_mask_periodic_keys(&mask, 4, 2, 5));
    assert_error_names("2 .. 5");
    assert_status(CLAT_INVALID_MASK, clat_mask_stride(&mask, 0, 0));
    assert_error_names("step");
    assert_status(CLAT_INVALID_MASK, clat_mask_stride(&mask, 3, 3));
    assert_error_names("offset");
    assert_status(CLAT_INVALID_MASK, clat_mask_distances(&mask, 0, (int64_t[]){0}));
    assert_error_names("count");
    assert_status(CLAT_INVALID_MASK, clat_mask_distances(&mask, 2, (int64_t[]){4, 4}));
    assert_error_names("distances[1]");
    assert_status(CLAT_INVALID_MASK, clat_mask_distances(&mask, 1, (int64_t[]){1 << 30}));
    assert_error_names("distances[0]");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_distances(&mask, 1, NULL));
    assert_error_names("distances is NULL");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_key_intervals(&mask, 1, pointers, NULL));
    assert_error_names("end");
    assert_status(CLAT_INVALID_MASK, clat_mask_periodic_queries(&mask, 4, 3, 2));
    assert_error_names("3 .. 2");
    clat_mask *one = NULL;
    assert_ok(clat_mask_window(&one, 1, 1));
    assert_status(CLAT_INVALID_MASK, clat_mask_by_blocks(&mask, 0, 4, one));
    assert_error_names("block_rows");
    assert_status(CLAT_INVALID_MASK, clat_mask_by_blocks(&mask, 4, 1025, one));
    assert_error_names("block_cols");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_by_blocks(&mask, 4, 4, NULL));
    assert_error_names("mask is NULL");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_by_blocks(NULL, 4, 4, one));
    assert_error_names("out is NULL");
    assert_status(CLAT_INVALID_MASK,
                  clat_mask_heads(&mask, 3, pointers, 1, (const clat_mask *const[]){one}));
    assert_error_names("of_head[1]");
    assert_status(CLAT_INVALID_ARGUMENT,
                  clat_mask_heads(&mask, 3, NULL, 1, (const clat_mask *const[]){one}));
    assert_error_names("of_head is NULL");
    assert_status(CLAT_INVALID_MASK,
                  clat_mask_heads(&mask, 0, pointers, 1, (const clat_mask *const[]){one}));
    assert_error_names("heads");
    clat_mask_release(one);
    assert_status(CLAT_INVALID_MASK, clat_mask_bigbird(&mask, 16, 4, 4, 1, 2, 1, 0));
    assert_error_names("window");
    assert_status(CLAT_INVALID_MASK, clat_mask_bigbird(&mask, 0, 1u << 16, 1u << 16, 1, 3, 1, 0));
    assert_error_names("block_rows");
    assert_status(CLAT_INVALID_MASK,
                  clat_mask_bigbird(&mask, 16, 1u << 16, 1u << 16, 1, 1, UINT32_MAX, 0));
    assert_error_names("32 bits");
    assert_status(CLAT_INVALID_MASK, clat_mask_documents(&mask, 0, pointers, pointers));
    assert_error_names("count");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_documents(&mask, 1, pointers, NULL));
    assert_error_names("k_starts");
    assert_status(CLAT_INVALID_MASK, clat_mask_documents(&mask, 1, pointers + 1, pointers));
    assert_error_names("q_starts[0]");
    assert_status(CLAT_INVALID_MASK,
                  clat_mask_documents(&mask, 2, pointers, (uint32_t[]){0, 2, 1}));
    assert_error_names("k_starts[2]");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_block_csr(&mask, 4, 4, 1, 1, 1, NULL, column));
    assert_error_names("row_ptr");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_block_csr(&mask, 4, 4, 1, 1, 1, pointers, NULL));
    assert_error_names("col_idx");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_all(&mask, 1, NULL));
    assert_error_names("masks");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_any(&mask, 1, (const clat_mask *[]){NULL}));
    assert_error_names("masks");

    assert_ok(clat_mask_block_csr(&heads2, 4, 4, 1, 1, 2, pointers, column));
    assert_ok(clat_mask_block_csr(&heads3, 4, 4, 1, 1, 3, pointers, column));
    const clat_mask *nine[9] = {heads2, heads2, heads2, heads2, heads2,
                                heads2, heads2, heads2, heads2};
    assert_status(CLAT_INVALID_MASK, clat_mask_all(&mask, 0, nine));
    assert_error_names("count");
    assert_status(CLAT_INVALID_MASK, clat_mask_any(&mask, 9, nine));
    assert_error_names("count");
    assert_status(CLAT_INVALID_MASK,
                  clat_mask_any(&mask, 2, (const clat_mask *[]){heads2, heads3}));
    assert_error_names("heads");
    assert_null(mask);
    clat_mask_release(heads2);
    clat_mask_release(heads3);
}

/* A mask is made once and its sizes come later: mask_check says whether they fit. */
static void test_bad_sizes(void **state) {
    (void)state;
    clat_mask *blocks = mask_random_blocks(16, 8, 40, 40, 4, 50), *joined = NULL;
    assert_ok(clat_mask_any(&joined, 1, (const clat_mask *[]){blocks}));
    clat_mask_release(blocks);
    assert_ok(mask_check(joined, 33, 33, 4));
    assert_status(CLAT_INVALID_MASK, mask_check(joined, 32, 40, 4));
    assert_error_names("seq_q");
    assert_status(CLAT_INVALID_MASK, mask_check(joined, 40, 41, 4));
    assert_error_names("seq_k");
    assert_status(CLAT_INVALID_MASK, mask_check(joined, 40, 40, 8));
    assert_error_names("heads");
    clat_mask_release(joined);
    clat_mask *stride = NULL, *intervals = NULL;
    assert_ok(clat_mask_stride(&stride, 1 << 29, 0));
    assert_ok(mask_check(stride, 1 << 28, 1 << 28, 1));
    assert_status(CLAT_INVALID_MASK, mask_check(stride, 1 << 29, 1 << 28, 1));
    assert_error_names("step");
    assert_ok(clat_mask_key_intervals(&intervals, 2, (uint32_t[]){0, 0}, (uint32_t[]){1, 1}));
    assert_ok(mask_check(intervals, 9, 2, 1));
    assert_status(CLAT_INVALID_MASK, mask_check(intervals, 9, 3, 1));
    assert_error_names("seq_k");
    clat_mask_release(stride);
    assert_ok(clat_mask_periodic_queries(&stride, 3, 0, 1));
    assert_status(CLAT_INVALID_MASK, mask_check(stride, (1 << 30) + 1, 4, 1));
    assert_error_names("period");
    clat_mask_release(stride);
    clat_mask_release(intervals);
    clat_mask *documents = NULL;
    assert_ok(clat_mask_documents(&documents, 2, (uint32_t[]){0, 2, 5}, (uint32_t[]){0, 3, 4}));
    assert_ok(mask_check(documents, 5, 4, 3));
    assert_status(CLAT_INVALID_MASK, mask_check(documents, 6, 4, 3));
    assert_error_names("seq_q");
    assert_status(CLAT_INVALID_MASK, mask_check(documents, 5, 5, 3));
    assert_error_names("seq_k");
    clat_mask *of_blocks = NULL;
    assert_ok(clat_mask_by_blocks(&of_blocks, 16, 8, documents));
    assert_ok(mask_check(of_blocks, 65, 32, 3)); /* 5 x 4 blocks */
    assert_status(CLAT_INVALID_MASK, mask_check(of_blocks, 65, 33, 3));
    assert_error_names("16x8");
    assert_error_names("seq_k");
    clat_mask_release(of_blocks);
    clat_mask_release(documents);
}

static void test_bad_inspections(void **state) {
    (void)state;
    clat_mask_info info;
    clat_mask *blocks = mask_random_blocks(16, 8, 40, 40, 4, 50);
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_inspect(NULL, blocks, 40, 40, 4, 8, 8, NULL));
    assert_error_names("out");
    assert_status(CLAT_INVALID_SIZE, clat_mask_inspect(&info, blocks, -1, 40, 4, 8, 8, NULL));
    assert_error_names("seq_q");
    assert_status(CLAT_INVALID_SIZE, clat_mask_inspect(&info, blocks, 40, 40, 0, 8, 8, NULL));
    assert_error_names("heads");
    assert_status(CLAT_INVALID_SIZE, clat_mask_inspect(&info, blocks, 40, 40, 4, 8, 0, NULL));
    assert_error_names("tile_k");
    assert_status(CLAT_INVALID_MASK, clat_mask_inspect(&info, blocks, 40, 99, 4, 8, 8, NULL));
    assert_error_names("n_cols");
    clat_mask_release(blocks);
}

/* Nesting has an end, and does not lose references on the way. */
static void test_nesting(void **state) {
    (void)state;
    clat_mask *mask = NULL, *outer = NULL;
    clat_status st = CLAT_OK;
    unsigned depth = 1;
    assert_ok(clat_mask_window(&mask, 1, 1));
    for (; depth < 100; depth++) {
        st = clat_mask_all(&outer, 1, (const clat_mask *[]){mask});
        if (st != CLAT_OK)
            break;
        clat_mask_release(mask);
        mask = outer;
    }
    assert_int_equal(st, CLAT_INVALID_MASK);
    assert_int_equal(depth, 16);
    assert_true(clat_mask_visible(mask, 9, 9, 0, 4, 5));
    assert_false(clat_mask_visible(mask, 9, 9, 0, 4, 6));

    clat_mask *wide = NULL, *wider = NULL, *widest = NULL;
    clat_mask_release(mask);
    assert_ok(clat_mask_global(&mask, 1));
    const clat_mask *same[8] = {mask, mask, mask, mask, mask, mask, mask, mask};
    assert_ok(clat_mask_any(&wide, 8, same));
    const clat_mask *wides[8] = {wide, wide, wide, wide, wide, wide, wide, wide};
    assert_ok(clat_mask_any(&wider, 8, wides)); /* 64 terms */
    assert_status(CLAT_INVALID_MASK, clat_mask_any(&widest, 2, (const clat_mask *[]){wider, mask}));
    assert_error_names("terms");
    clat_mask_release(mask);
    clat_mask_release(wide);
    clat_mask_release(wider);
}

int main(void) {
    for (size_t i = 0; i < sizeof bad_blocks / sizeof *bad_blocks; i++)
        harness_add(bad_blocks[i].name, test_bad_blocks, &bad_blocks[i]);
    harness_add("bad arguments", test_bad_arguments, NULL);
    harness_add("bad sizes", test_bad_sizes, NULL);
    harness_add("bad inspections", test_bad_inspections, NULL);
    harness_add("nesting", test_nesting, NULL);
    return harness_run_added();
}
