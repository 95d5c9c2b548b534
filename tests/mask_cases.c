#include "mask_cases.h"

#include <stdlib.h>
#include <string.h>

static clat_mask *join(bool all, size_t count, clat_mask **masks) {
    clat_mask *joined = NULL;
    const clat_mask *borrowed[8];
    for (size_t i = 0; i < count; i++)
        borrowed[i] = masks[i];
    assert_ok(all ? clat_mask_all(&joined, count, borrowed)
                  : clat_mask_any(&joined, count, borrowed));
    for (size_t i = 0; i < count; i++)
        clat_mask_release(masks[i]); /* the join keeps them */
    return joined;
}

#define ALL(...)                                                                                   \
    join(true, sizeof((clat_mask *[]){__VA_ARGS__}) / sizeof(clat_mask *),                         \
         (clat_mask *[]){__VA_ARGS__})
#define ANY(...)                                                                                   \
    join(false, sizeof((clat_mask *[]){__VA_ARGS__}) / sizeof(clat_mask *),                        \
         (clat_mask *[]){__VA_ARGS__})

static clat_mask *causal(clat_causal alignment) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_causal(&mask, alignment));
    return mask;
}

static clat_mask *window(int64_t left, int64_t right) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_window(&mask, left, right));
    return mask;
}

static clat_mask *global(int64_t count) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_global(&mask, count));
    return mask;
}

static clat_mask *queries(int64_t first, int64_t end) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_queries(&mask, first, end));
    return mask;
}

static clat_mask *keys(int64_t first, int64_t end) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_keys(&mask, first, end));
    return mask;
}

static clat_mask *stride(int64_t step, int64_t offset) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_stride(&mask, step, offset));
    return mask;
}

static clat_mask *periodic(int64_t period, int64_t first, int64_t end) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_periodic_keys(&mask, period, first, end));
    return mask;
}

static clat_mask *periodic_queries(int64_t period, int64_t first, int64_t end) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_periodic_queries(&mask, period, first, end));
    return mask;
}

static clat_mask *by_blocks(uint32_t rows, uint32_t cols, clat_mask *pattern) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_by_blocks(&mask, rows, cols, pattern));
    clat_mask_release(pattern);
    return mask;
}

/* 0, and powers of two below 2^count. */
static clat_mask *log_distances(unsigned count) {
    int64_t distances[32] = {0};
    for (unsigned e = 0; e < count; e++)
        distances[e + 1] = (int64_t)1 << e;
    clat_mask *mask = NULL;
    assert_ok(clat_mask_distances(&mask, count + 1, distances));
    return mask;
}

/* Some distances to either side, of which `count` are without a gap. */
static clat_mask *distances(unsigned count) {
    int64_t list[16] = {-9, -3};
    for (unsigned d = 0; d < count; d++)
        list[2 + d] = (int64_t)d - 1;
    list[2 + count] = 40;
    clat_mask *mask = NULL;
    assert_ok(clat_mask_distances(&mask, count + 3, list));
    return mask;
}

static clat_mask *neighbours(void) {
    static const int64_t list[] = {-2, -1, 0, 1, 2, 3};
    clat_mask *mask = NULL;
    assert_ok(clat_mask_distances(&mask, 6, list));
    return mask;
}

/* Of random lengths, every fifth of them empty; all of any two are long. */
static clat_mask *intervals(uint32_t seq_q, uint32_t seq_k, bool are_long) {
    uint32_t *first = harness_alloc((seq_k + 1) * sizeof *first);
    uint32_t *end = harness_alloc((seq_k + 1) * sizeof *end);
    uint64_t seed = 77;
    for (uint32_t j = 0; j < seq_k; j++) {
        first[j] = (uint32_t)harness_random_below(&seed, seq_q / (are_long ? 8 : 1) + 1);
        end[j] =
            j % 5 == 3 ? first[j] / 2 : first[j] + (uint32_t)harness_random_below(&seed, seq_q + 3);
    }
    clat_mask *mask = NULL;
    assert_ok(clat_mask_key_intervals(&mask, seq_k, first, end));
    free(first);
    free(end);
    return mask;
}

static clat_mask *complement_of(clat_mask *mask) {
    clat_mask *complement = NULL;
    assert_ok(clat_mask_not(&complement, mask));
    clat_mask_release(mask);
    return complement;
}

/* Seven, of which one has no queries, one no keys and one neither. */
static clat_mask *documents(uint32_t seq_q, uint32_t seq_k) {
    static const unsigned q_sevenths[8] = {0, 1, 1, 3, 3, 4, 6, 7};
    static const unsigned k_sevenths[8] = {0, 2, 3, 4, 4, 4, 5, 7};
    uint32_t q_starts[8], k_starts[8];
    for (unsigned d = 0; d < 8; d++) {
        q_starts[d] = (uint32_t)((uint64_t)seq_q * q_sevenths[d] / 7);
        k_starts[d] = (uint32_t)((uint64_t)seq_k * k_sevenths[d] / 7);
    }
    clat_mask *mask = NULL;
    assert_ok(clat_mask_documents(&mask, 7, q_starts, k_starts));
    return mask;
}

clat_mask *mask_random_blocks(uint32_t block_rows, uint32_t block_cols, uint32_t seq_q,
                              uint32_t seq_k, uint32_t heads, unsigned percent) {
    const uint32_t n_rows = (seq_q + block_rows - 1) / block_rows;
    const uint32_t n_cols = (seq_k + block_cols - 1) / block_cols;
    const size_t rows = (size_t)heads * n_rows;
    uint32_t *row_ptr = harness_alloc((rows + 1) * sizeof *row_ptr);
    uint32_t *col_idx = harness_alloc((rows * n_cols + 1) * sizeof *col_idx);
    uint64_t seed = block_rows * 1000 + block_cols;
    uint32_t count = 0;
    for (size_t r = 0; r < rows; r++) {
        row_ptr[r] = count;
        for (uint32_t c = 0; c < n_cols && r % 5 != 3; c++)
            if (harness_random_below(&seed, 100) < percent)
                col_idx[count++] = c;
    }
    row_ptr[rows] = count;
    clat_mask *mask = NULL;
    assert_ok(clat_mask_block_csr(&mask, block_rows, block_cols, n_rows, n_cols, heads, row_ptr,
                                  col_idx));
    free(row_ptr);
    free(col_idx);
    return mask;
}

/* ---- the makers */

#define MAKER(name, expression)                                                                    \
    static clat_mask *make_##name(uint32_t seq_q, uint32_t seq_k) {                                \
        (void)seq_q;                                                                               \
        (void)seq_k;                                                                               \
        return (expression);                                                                       \
    }

MAKER(dense, NULL)
MAKER(causal, causal(CLAT_CAUSAL_TOP_LEFT))
MAKER(causal_br, causal(CLAT_CAUSAL_BOTTOM_RIGHT))
MAKER(window, window(7, 4))
MAKER(window_self, window(0, 0))
MAKER(window_left, window(12, CLAT_UNBOUNDED))
MAKER(window_open, window(CLAT_UNBOUNDED, CLAT_UNBOUNDED))
MAKER(sliding, ALL(causal(CLAT_CAUSAL_TOP_LEFT), window(9, 20)))
MAKER(sliding_br, ALL(window(30, 30), causal(CLAT_CAUSAL_BOTTOM_RIGHT)))
MAKER(two_windows, ANY(window(2, 0), window(0, 5)))
/* One band where the two touch, two where fewer keys than queries pull them apart. */
MAKER(apart, ANY(window(0, 2), causal(CLAT_CAUSAL_BOTTOM_RIGHT)))
MAKER(apart_swapped, ANY(causal(CLAT_CAUSAL_BOTTOM_RIGHT), window(0, 2)))
MAKER(no_global, ANY(window(3, 3), global(0)))
MAKER(nothing, global(0))
MAKER(global, global(5))
MAKER(longformer, ANY(window(6, 6), global(3)))
MAKER(causal_global, ALL(causal(CLAT_CAUSAL_TOP_LEFT), ANY(window(5, 0), global(2))))
MAKER(prefix, ANY(causal(CLAT_CAUSAL_TOP_LEFT), keys(0, 9)))
MAKER(padded, ALL(causal(CLAT_CAUSAL_BOTTOM_RIGHT), keys(0, 23)))
MAKER(queries, queries(3, 20))
MAKER(keys, keys(6, CLAT_UNBOUNDED))
MAKER(all_positions, ALL(queries(0, 1000), keys(0, CLAT_UNBOUNDED)))
MAKER(future, complement_of(causal(CLAT_CAUSAL_TOP_LEFT)))
MAKER(past, complement_of(window(0, CLAT_UNBOUNDED)))
MAKER(not_window, complement_of(window(4, 6)))
MAKER(everything, complement_of(global(0)))
MAKER(periodic, periodic(7, 2, 5))
MAKER(periodic_all, ANY(periodic(5, 0, 5), periodic(3, 1, 1)))
MAKER(periodic_queries, periodic_queries(6, 1, 3))
MAKER(fixed, ALL(causal(CLAT_CAUSAL_TOP_LEFT), ANY(window(4, 0), periodic(8, 6, 8))))
MAKER(stride, stride(7, 3))
MAKER(every, stride(1, 0))
MAKER(dilated, ALL(window(15, 12), stride(3, 0)))
MAKER(strided, ALL(causal(CLAT_CAUSAL_TOP_LEFT), ANY(window(5, 0), stride(6, 0))))
MAKER(dilated_global, ANY(ALL(window(20, 20), stride(4, 0)), global(2)))
MAKER(log_sparse, log_distances(6))
MAKER(log_sparse_local, ANY(log_distances(7), window(4, 0)))
MAKER(distances, distances(5))
MAKER(neighbours, neighbours())
MAKER(intervals, intervals(seq_q, seq_k, false))
MAKER(intervals_causal,
      ALL(complement_of(intervals(seq_q, seq_k, true)), causal(CLAT_CAUSAL_TOP_LEFT)))
MAKER(strided_documents, ALL(documents(seq_q, seq_k), ANY(stride(5, 1), keys(0, 3))))
MAKER(documents, documents(seq_q, seq_k))
MAKER(documents_causal, ALL(documents(seq_q, seq_k), causal(CLAT_CAUSAL_TOP_LEFT)))
MAKER(other_documents,
      ALL(complement_of(documents(seq_q, seq_k)), complement_of(ANY(keys(2, 5), queries(7, 8)))))
/* Heads 0 and 2 the first, 1 and 3 the others. */
static clat_mask *by_heads(clat_mask *first, clat_mask *second, clat_mask *third) {
    clat_mask *mask = NULL;
    const clat_mask *const masks[] = {first, second, third};
    assert_ok(clat_mask_heads(&mask, 4, (uint32_t[]){0, 1, 0, 2}, 3, masks));
    clat_mask_release(first);
    clat_mask_release(second);
    clat_mask_release(third);
    return mask;
}
MAKER(heads, by_heads(window(6, 6), ALL(window(20, 20), stride(4, 0)), global(3)))
MAKER(heads_blocks,
      ALL(by_heads(causal(CLAT_CAUSAL_TOP_LEFT), mask_random_blocks(8, 8, seq_q, seq_k, 4, 40),
                   complement_of(window(3, 3))),
          keys(1, CLAT_UNBOUNDED)))
MAKER(heads_alike, by_heads(window(9, 9), window(9, 9), window(9, 9)))
static clat_mask *bigbird_of(uint32_t block, uint32_t seq_q, uint32_t seq_k, uint32_t heads) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_bigbird(&mask, block, (seq_q + block - 1) / block,
                                (seq_k + block - 1) / block, heads, 3, 2, 9));
    return mask;
}
MAKER(bigbird_blocks, bigbird_of(4, seq_q, seq_k, 1))
MAKER(bigbird_heads, bigbird_of(8, seq_q, seq_k, 4))
MAKER(blocks, mask_random_blocks(16, 16, seq_q, seq_k, 1, 40))
MAKER(blocks_odd, mask_random_blocks(5, 9, seq_q, seq_k, 1, 30))
MAKER(blocks_single, mask_random_blocks(1, 1, seq_q, seq_k, 1, 50))
MAKER(blocks_heads, mask_random_blocks(16, 8, seq_q, seq_k, 4, 35))
MAKER(block_windows, by_blocks(8, 4, ANY(window(1, 2), global(1))))
MAKER(block_stairs, ALL(by_blocks(7, 5, causal(CLAT_CAUSAL_BOTTOM_RIGHT)), keys(2, 90)))
MAKER(block_fixed, by_blocks(4, 4, ANY(window(2, 0), periodic(4, 3, 4), periodic_queries(4, 3, 4))))
MAKER(block_blocks, by_blocks(2, 3, ANY(by_blocks(4, 2, window(0, 1)), distances(4), stride(5, 2))))
MAKER(block_heads, by_blocks(4, 8, by_heads(window(1, 1), stride(2, 1), queries(2, 4))))
MAKER(block_lists, by_blocks(2, 2,
                             ANY(mask_random_blocks(3, 2, (seq_q + 1) / 2, (seq_k + 1) / 2, 1, 30),
                                 documents((seq_q + 1) / 2, (seq_k + 1) / 2))))
MAKER(block_everything, by_blocks(16, 16, window(CLAT_UNBOUNDED, CLAT_UNBOUNDED)))
MAKER(single_blocks, by_blocks(1, 1, window(3, 2)))
MAKER(blocks_causal,
      ALL(mask_random_blocks(16, 16, seq_q, seq_k, 1, 60), causal(CLAT_CAUSAL_TOP_LEFT)))
MAKER(bigbird, ANY(mask_random_blocks(16, 16, seq_q, seq_k, 1, 10), window(10, 10), global(4)))
MAKER(two_blocks, ANY(mask_random_blocks(16, 16, seq_q, seq_k, 1, 20),
                      mask_random_blocks(8, 32, seq_q, seq_k, 4, 20)))
/* Halves that cover everything together, though neither does: every tile is full. */
MAKER(complement, ANY(causal(CLAT_CAUSAL_TOP_LEFT),
                      ALL(window(0, CLAT_UNBOUNDED), ANY(global(1), window(0, CLAT_UNBOUNDED)))))

const struct mask_case mask_cases[] = {
    {"dense", make_dense, true, 1},
    {"causal", make_causal, true, 1},
    {"causal_br", make_causal_br, true, 1},
    {"window", make_window, true, 1},
    {"window_self", make_window_self, true, 1},
    {"window_left", make_window_left, true, 1},
    {"window_open", make_window_open, true, 1},
    {"sliding", make_sliding, true, 1},
    {"sliding_br", make_sliding_br, true, 1},
    {"two_windows", make_two_windows, true, 1},
    {"apart", make_apart, false, 1},
    {"apart_swapped", make_apart_swapped, false, 1},
    {"no_global", make_no_global, true, 1},
    {"nothing", make_nothing, true, 1},
    {"global", make_global, false, 1},
    {"longformer", make_longformer, false, 1},
    {"causal_global", make_causal_global, false, 1},
    {"prefix", make_prefix, false, 1},
    {"padded", make_padded, false, 1},
    {"queries", make_queries, false, 1},
    {"keys", make_keys, false, 1},
    {"all_positions", make_all_positions, true, 1},
    {"future", make_future, true, 1},
    {"past", make_past, true, 1},
    {"not_window", make_not_window, false, 1},
    {"everything", make_everything, true, 1},
    {"periodic", make_periodic, false, 1},
    {"periodic_all", make_periodic_all, true, 1},
    {"periodic_queries", make_periodic_queries, false, 1},
    {"fixed", make_fixed, false, 1},
    {"stride", make_stride, false, 1},
    {"every", make_every, true, 1},
    {"dilated", make_dilated, false, 1},
    {"strided", make_strided, false, 1},
    {"dilated_global", make_dilated_global, false, 1},
    {"log_sparse", make_log_sparse, false, 1},
    {"log_sparse_local", make_log_sparse_local, false, 1},
    {"distances", make_distances, false, 1},
    {"neighbours", make_neighbours, true, 1},
    {"intervals", make_intervals, false, 1},
    {"intervals_causal", make_intervals_causal, false, 1},
    {"strided_documents", make_strided_documents, false, 1},
    {"documents", make_documents, false, 1},
    {"documents_causal", make_documents_causal, false, 1},
    {"other_documents", make_other_documents, false, 1},
    {"blocks", make_blocks, false, 1},
    {"blocks_odd", make_blocks_odd, false, 1},
    {"blocks_single", make_blocks_single, false, 1},
    {"blocks_heads", make_blocks_heads, false, 4},
    {"blocks_causal", make_blocks_causal, false, 1},
    {"bigbird", make_bigbird, false, 1},
    {"heads", make_heads, false, 4},
    {"heads_blocks", make_heads_blocks, false, 4},
    {"heads_alike", make_heads_alike, true, 4},
    {"bigbird_blocks", make_bigbird_blocks, false, 1},
    {"bigbird_heads", make_bigbird_heads, false, 4},
    {"block_windows", make_block_windows, false, 1},
    {"block_stairs", make_block_stairs, false, 1},
    {"block_fixed", make_block_fixed, false, 1},
    {"block_blocks", make_block_blocks, false, 1},
    {"block_heads", make_block_heads, false, 4},
    {"block_lists", make_block_lists, false, 1},
    {"block_everything", make_block_everything, true, 1},
    {"single_blocks", make_single_blocks, true, 1},
    {"two_blocks", make_two_blocks, false, 4},
    {"complement", make_complement, false, 1},
};
const size_t n_mask_cases = sizeof mask_cases / sizeof *mask_cases;

const struct mask_case *mask_case_named(const char *name) {
    for (size_t i = 0; i < n_mask_cases; i++)
        if (strcmp(mask_cases[i].name, name) == 0)
            return &mask_cases[i];
    fail_msg("no mask case '%s'", name);
    return NULL;
}
