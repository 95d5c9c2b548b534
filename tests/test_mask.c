/* Masks: bands, tile lists and counts against the plain definition, element by element. */
#include "mask_cases.h"

#include "mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    uint32_t seq_q, seq_k;
} sizes[] = {{0, 5},   {5, 0},   {1, 1},   {7, 13},  {16, 16},
             {18, 16}, {33, 29}, {64, 65}, {97, 48}, {40, 131}};

static const struct {
    int64_t rows, cols;
} tiles[] = {{1, 1}, {16, 16}, {5, 9}, {48, 64}, {200, 7}, {8, 200}};

enum { N_SIZES = sizeof sizes / sizeof *sizes, N_TILES = sizeof tiles / sizeof *tiles };

/* What all tests of one mask need: the mask for one size, and its visible elements. */
struct subject {
    const struct mask_case *is;
    clat_mask *mask;
    int64_t seq_q, seq_k, heads;
};

static bool sees(const struct subject *s, int64_t head, int64_t i, int64_t j) {
    return clat_mask_visible(s->mask, s->seq_q, s->seq_k, head, i, j);
}

/* ---- bands and counts */

static void check_band(const struct subject *s) {
    struct mask_band band;
    if (!mask_band(s->mask, s->seq_q, s->seq_k, &band)) {
        assert_false(s->is->band);
        return;
    }
    for (int64_t i = 0; i < s->seq_q; i++)
        for (int64_t j = 0; j < s->seq_k; j++)
            if (sees(s, 0, i, j) != (i + band.low <= j && j <= i + band.high))
                fail_msg("%s at %d x %d: band %d..%d differs at (%d, %d)", s->is->name,
                         (int)s->seq_q, (int)s->seq_k, (int)band.low, (int)band.high, (int)i,
                         (int)j);
}

static double count_pairs(const struct subject *s) {
    double pairs = 0;
    for (int64_t head = 0; head < s->heads; head++)
        for (int64_t i = 0; i < s->seq_q; i++)
            for (int64_t j = 0; j < s->seq_k; j++)
                pairs += sees(s, head, i, j);
    return pairs;
}

static void check_pairs(const struct subject *s) {
    const double pairs = count_pairs(s);
    const double got = mask_pairs(s->mask, s->seq_q, s->seq_k, s->heads);
    if (got != pairs)
        fail_msg("%s at %d x %d: %g pairs, not %g", s->is->name, (int)s->seq_q, (int)s->seq_k,
                 pairs, got);
}

/* ---- tile lists */

enum cover { EMPTY, PARTIAL, FULL };

static enum cover cover_of(const struct subject *s, int64_t head, int64_t i0, int64_t j0,
                           int64_t rows, int64_t cols) {
    int64_t seen = 0, all = 0;
    for (int64_t i = i0; i < i0 + rows && i < s->seq_q; i++)
        for (int64_t j = j0; j < j0 + cols; j++, all++)
            seen += j < s->seq_k && sees(s, head, i, j);
    return seen == 0 ? EMPTY : seen == all ? FULL : PARTIAL;
}

/* One row of the index against every tile it could list. */
static void check_tile_row(const struct subject *s, const struct mask_tiles *list, size_t row,
                           int64_t head, int64_t i0, int64_t rows, int64_t cols) {
    const uint32_t start = list->index[3 * row], partial = list->index[3 * row + 1];
    const uint32_t total = list->index[3 * row + 2];
    assert_true(partial <= total && start + total <= list->n_tiles);
    enum cover listed[256] = {EMPTY};
    for (uint32_t t = 0; t < total; t++) {
        const uint32_t tile = list->tiles[start + t];
        assert_true(tile < 256 && listed[tile] == EMPTY); /* none twice */
        listed[tile] = t < partial ? PARTIAL : FULL;
        if (t > 0 && t != partial)
            assert_true(tile > list->tiles[start + t - 1]);
    }
    for (int64_t tile = 0; tile * cols < s->seq_k; tile++)
        if (listed[tile] != cover_of(s, head, i0, tile * cols, rows, cols))
            fail_msg("%s at %d x %d, tiles %d x %d: tile %d of row %zu is listed as %d",
                     s->is->name, (int)s->seq_q, (int)s->seq_k, (int)rows, (int)cols, (int)tile,
                     row, listed[tile]);
}

static void check_tiles(const struct subject *s, int64_t rows, int64_t cols) {
    struct mask_tiles list;
    size_t row = 0;
    assert_ok(mask_tiles(s->mask, s->seq_q, s->seq_k, rows, cols, &list));
    for (int64_t head = 0; head < mask_heads(s->mask); head++)
        for (int64_t i0 = 0; i0 < s->seq_q; i0 += rows)
            check_tile_row(s, &list, row++, head, i0, rows, cols);
    assert_int_equal(list.n_index, 3 * row);
    free(list.index);
    free(list.tiles);
}

/* The same as anyone can ask for it. */
static void check_inspection(const struct subject *s, int64_t rows, int64_t cols) {
    clat_mask_info info;
    unsigned char *map = harness_alloc(256 * 256 * 4);
    size_t n = 0, full = 0, partial = 0;
    assert_ok(clat_mask_inspect(&info, s->mask, s->seq_q, s->seq_k, s->heads, rows, cols, map));
    assert_int_equal(info.lists, mask_heads(s->mask));
    for (size_t head = 0; head < info.lists; head++)
        for (int64_t i0 = 0; i0 < s->seq_q; i0 += rows)
            for (int64_t j0 = 0; j0 < s->seq_k; j0 += cols, n++) {
                const enum cover cover = cover_of(s, (int64_t)head, i0, j0, rows, cols);
                full += cover == FULL;
                partial += cover == PARTIAL;
                assert_int_equal(map[n], cover == FULL      ? CLAT_TILE_FULL
                                         : cover == PARTIAL ? CLAT_TILE_PARTIAL
                                                            : CLAT_TILE_EMPTY);
            }
    assert_int_equal(info.tiles, n);
    assert_int_equal(info.full_tiles, full);
    assert_int_equal(info.partial_tiles, partial);
    assert_true(info.pairs == count_pairs(s));
    free(map);
}

static void test_against_definition(void **state) {
    const struct mask_case *is = *state;
    for (unsigned n = 0; n < N_SIZES; n++) {
        struct subject s = {.is = is, .seq_q = sizes[n].seq_q, .seq_k = sizes[n].seq_k};
        s.mask = is->make(sizes[n].seq_q, sizes[n].seq_k);
        s.heads = is->heads;
        assert_int_equal(mask_heads(s.mask), is->heads);
        assert_ok(mask_check(s.mask, s.seq_q, s.seq_k, s.heads));
        check_band(&s);
        check_pairs(&s);
        for (unsigned t = 0; t < N_TILES; t++) {
            check_inspection(&s, tiles[t].rows, tiles[t].cols);
            if (s.mask != NULL)
                check_tiles(&s, tiles[t].rows, tiles[t].cols);
        }
        clat_mask_release(s.mask);
    }
}

/* Long sequences, where only closed forms and halving finish: 10^12 elements. */
static void test_long(void **state) {
    (void)state;
    const int64_t n = 1000000;
    clat_mask *causal = NULL, *longformer = mask_case_named("longformer")->make(0, 0);
    struct mask_tiles list;
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT));
    assert_true(mask_pairs(causal, n, n, 2) == (double)n * (double)(n + 1));
    assert_true(mask_pairs(NULL, n, 3, 1) == (double)(3 * n));
    assert_ok(mask_tiles(longformer, n, n, 64, 64, &list));
    /* Up to three tiles around the diagonal and the first column; the first row sees all. */
    assert_true(list.n_tiles > 3 * (size_t)n / 64 && list.n_tiles < 5 * (size_t)n / 64 + 5);
    free(list.index);
    free(list.tiles);
    clat_mask *dilated = mask_case_named("dilated")->make(0, 0);
    double pairs = 0;
    for (int64_t d = -12; d <= 15; d += 3)
        pairs += (double)(n - llabs(d));
    assert_true(mask_pairs(dilated, n, n, 1) == pairs);
    /* Every 50th diagonal of blocks of 100, up to the diagonal, which cuts blocks: what is left of
     * those are triangles. */
    clat_mask *stride = NULL, *blocks = NULL, *past = NULL;
    const int64_t side = 100, step = 50, count = n / side;
    assert_ok(clat_mask_stride(&stride, step, 0));
    assert_ok(clat_mask_by_blocks(&blocks, (uint32_t)side, (uint32_t)side, stride));
    assert_ok(clat_mask_all(&past, 2, (const clat_mask *const[]){blocks, causal}));
    const int64_t triangles = count * side * (side + 1) / 2;
    pairs = (double)triangles;
    for (int64_t d = step; d < count; d += step)
        pairs += (double)((count - d) * side * side);
    assert_true(mask_pairs(past, n, n, 1) == pairs);
    clat_mask_release(stride);
    clat_mask_release(blocks);
    clat_mask_release(past);
    clat_mask_release(dilated);
    clat_mask_release(causal);
    clat_mask_release(longformer);
}

/* Visibility itself is the definition, so it is checked against the sentences of the header. */
static void test_visible(void **state) {
    (void)state;
    clat_mask *br = NULL, *window = NULL, *global = NULL, *blocks = NULL;
    assert_ok(clat_mask_causal(&br, CLAT_CAUSAL_BOTTOM_RIGHT));
    assert_ok(clat_mask_window(&window, 2, CLAT_UNBOUNDED));
    assert_ok(clat_mask_global(&global, 2));
    assert_ok(clat_mask_block_csr(&blocks, 2, 3, 2, 2, 2, (uint32_t[]){0, 1, 1, 2, 4},
                                  (uint32_t[]){1, 0, 0, 1}));
    assert_true(clat_mask_visible(br, 3, 5, 0, 2, 4) && clat_mask_visible(br, 3, 5, 0, 0, 2));
    assert_false(clat_mask_visible(br, 3, 5, 0, 0, 3) || clat_mask_visible(br, 5, 3, 0, 1, 0));
    assert_true(clat_mask_visible(window, 9, 9, 0, 5, 3) &&
                clat_mask_visible(window, 9, 9, 0, 5, 8));
    assert_false(clat_mask_visible(window, 9, 9, 0, 5, 2));
    assert_true(clat_mask_visible(global, 9, 9, 0, 1, 8) &&
                clat_mask_visible(global, 9, 9, 0, 8, 1));
    assert_false(clat_mask_visible(global, 9, 9, 0, 2, 2));
    assert_true(clat_mask_visible(blocks, 4, 6, 0, 1, 3));
    assert_false(clat_mask_visible(blocks, 4, 6, 0, 1, 2) ||
                 clat_mask_visible(blocks, 4, 6, 0, 2, 3));
    assert_true(clat_mask_visible(blocks, 4, 6, 1, 0, 2) &&
                clat_mask_visible(blocks, 4, 6, 1, 3, 5));
    assert_true(clat_mask_visible(NULL, 4, 6, 9, 3, 5));
    const int64_t outside[][3] = {{-1, 0, 0}, {0, -1, 0}, {0, 4, 0}, {0, 0, -1}, {0, 0, 6}};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        assert_false(clat_mask_visible(NULL, 4, 6, outside[i][0], outside[i][1], outside[i][2]));
        assert_false(clat_mask_visible(blocks, 4, 6, outside[i][0], outside[i][1], outside[i][2]));
    }
    assert_false(clat_mask_visible(blocks, 4, 6, 2, 0, 0));
    clat_mask_release(br);
    clat_mask_release(window);
    clat_mask_release(global);
    clat_mask_release(blocks);
    clat_mask_release(NULL);
}

static void test_visible_positions(void **state) {
    (void)state;
    clat_mask *queries = NULL, *keys = NULL, *none = NULL, *documents = NULL, *others = NULL;
    assert_ok(clat_mask_queries(&queries, 2, 4));
    assert_ok(clat_mask_keys(&keys, 3, CLAT_UNBOUNDED));
    assert_ok(clat_mask_keys(&none, 3, 3));
    /* Queries 0 1 | 2 | 3, keys 0 | | 1 2. */
    assert_ok(
        clat_mask_documents(&documents, 3, (uint32_t[]){0, 2, 3, 4}, (uint32_t[]){0, 1, 1, 3}));
    assert_ok(clat_mask_not(&others, documents));
    assert_true(clat_mask_visible(queries, 9, 9, 0, 2, 0) &&
                clat_mask_visible(queries, 9, 9, 0, 3, 8));
    assert_false(clat_mask_visible(queries, 9, 9, 0, 1, 2) ||
                 clat_mask_visible(queries, 9, 9, 0, 4, 2));
    assert_true(clat_mask_visible(keys, 9, 9, 0, 0, 3) && clat_mask_visible(keys, 9, 9, 0, 8, 8));
    assert_false(clat_mask_visible(keys, 9, 9, 0, 5, 2) || clat_mask_visible(none, 9, 9, 0, 3, 3));
    static const char *const seen[4] = {"100", "100", "000", "011"};
    for (int64_t i = 0; i < 4; i++)
        for (int64_t j = 0; j < 3; j++) {
            assert_int_equal(clat_mask_visible(documents, 4, 3, 0, i, j), seen[i][j] == '1');
            assert_int_equal(clat_mask_visible(others, 4, 3, 0, i, j), seen[i][j] == '0');
        }
    assert_false(clat_mask_visible(documents, 6, 6, 0, 5, 5)); /* in no document */
    clat_mask_release(queries);
    clat_mask_release(keys);
    clat_mask_release(none);
    clat_mask_release(documents);
    clat_mask_release(others);
}

/* Rows of queries, columns of keys. */
static void expect_seen(const clat_mask *mask, const char *const *seen, int64_t seq_q,
                        int64_t seq_k) {
    for (int64_t i = 0; i < seq_q; i++)
        for (int64_t j = 0; j < seq_k; j++)
            assert_int_equal(clat_mask_visible(mask, seq_q, seq_k, 0, i, j), seen[i][j] == '1');
}

static void test_visible_diagonals(void **state) {
    (void)state;
    static const char *const every_third[4] = {"0010010", "1001001", "0100100", "0010010"};
    static const char *const apart[4] = {"0100000", "0010000", "1001000", "0100100"};
    static const char *const periodic_keys[4] = {"0110011", "0110011", "0110011", "0110011"};
    static const char *const columns[4] = {"1000100", "0000110", "0000010", "0000000"};
    clat_mask *stride = NULL, *distances = NULL, *intervals = NULL;
    assert_ok(clat_mask_stride(&stride, 3, 1));
    assert_ok(clat_mask_distances(&distances, 2, (int64_t[]){-1, 2}));
    assert_ok(clat_mask_key_intervals(&intervals, 7, (uint32_t[]){0, 3, 2, 9, 0, 1, 5},
                                      (uint32_t[]){1, 3, 0, 99, 2, 3, 6}));
    clat_mask *periodic = NULL;
    assert_ok(clat_mask_periodic_keys(&periodic, 4, 1, 3));
    expect_seen(periodic, periodic_keys, 4, 7);
    clat_mask_release(periodic);
    expect_seen(stride, every_third, 4, 7);
    expect_seen(distances, apart, 4, 7);
    expect_seen(intervals, columns, 4, 7);
    clat_mask_release(stride);
    clat_mask_release(distances);
    clat_mask_release(intervals);
}

/* Every row has its window, the global blocks and as many others as were asked for; rows, heads and
 * seeds differ in those. */
static void test_bigbird(void **state) {
    (void)state;
    enum { BLOCKS = 20, HEADS = 3, RANDOM = 4, MIDDLE = BLOCKS / 2 };
    clat_mask *mask = NULL, *again = NULL, *other = NULL;
    unsigned differ = 0, heads_differ = 0, rows_differ = 0;
    assert_ok(clat_mask_bigbird(&mask, 1, BLOCKS, BLOCKS, HEADS, 3, RANDOM, 1));
    assert_ok(clat_mask_bigbird(&again, 1, BLOCKS, BLOCKS, HEADS, 3, RANDOM, 1));
    assert_ok(clat_mask_bigbird(&other, 1, BLOCKS, BLOCKS, HEADS, 3, RANDOM, 2));
    for (int64_t e = 0; e < HEADS * BLOCKS * BLOCKS; e++) {
        const int64_t head = e / BLOCKS / BLOCKS, i = e / BLOCKS % BLOCKS, j = e % BLOCKS;
        const bool seen = clat_mask_visible(mask, BLOCKS, BLOCKS, head, i, j);
        assert_int_equal(clat_mask_visible(again, BLOCKS, BLOCKS, head, i, j), seen);
        differ += clat_mask_visible(other, BLOCKS, BLOCKS, head, i, j) != seen;
        heads_differ += clat_mask_visible(mask, BLOCKS, BLOCKS, 0, i, j) != seen;
        rows_differ += clat_mask_visible(mask, BLOCKS, BLOCKS, head, MIDDLE, j) != seen &&
                       i == MIDDLE + 6 && llabs(i - j) > 1 && llabs(MIDDLE - j) > 1;
        if (i == 0 || i == BLOCKS - 1 || j == 0 || j == BLOCKS - 1 || llabs(i - j) <= 1)
            assert_true(seen);
    }
    assert_true(differ > 0 && heads_differ > 0 && rows_differ > 0);
    for (int64_t i = 1; i < BLOCKS - 1; i++) {
        const int near = i == 1 || i == BLOCKS - 2 ? 2 : 3; /* beside the global ones */
        int count = 0;
        for (int64_t j = 0; j < BLOCKS; j++)
            count += clat_mask_visible(mask, BLOCKS, BLOCKS, 0, i, j);
        assert_int_equal(count, 2 + near + RANDOM);
    }
    clat_mask_release(mask);
    clat_mask_release(again);
    clat_mask_release(other);
    /* The dense matrix has more blocks than 32 bits count. */
    assert_ok(clat_mask_bigbird(&mask, 1, 1 << 16, 1 << 16, 1, 3, RANDOM, 1));
    assert_true(mask_pairs(mask, 1 << 16, 1 << 16, 1) <= (3 + 2 + RANDOM + 2) * (double)(1 << 16));
    clat_mask_release(mask);
    assert_ok(clat_mask_bigbird(&mask, 1, 5, 5, 1, 1, 99, 1)); /* as many as there are */
    for (int64_t e = 0; e < 25; e++)
        assert_true(clat_mask_visible(mask, 5, 5, 0, e / 5, e % 5));
    clat_mask_release(mask);
}

static void test_print_and_grain(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
        uint32_t rows, cols;
    } expected[] = {
        {"dense", "dense", 1, 1},
        {"causal_br", "causal_br", 1, 1},
        {"window_left", "window(12,inf)", 1, 1},
        {"longformer", "any(window(6,6),global(3))", 1, 1},
        {"sliding", "all(causal,window(9,20))", 1, 1},
        {"prefix", "any(causal,keys(0,9))", 1, 1},
        {"keys", "keys(6,inf)", 1, 1},
        {"queries", "queries(3,20)", 1, 1},
        {"dilated", "all(window(15,12),stride(3))", 1, 1},
        {"stride", "stride(7,3)", 1, 1},
        {"periodic", "periodic_keys(7,2,5)", 1, 1},
        {"log_sparse", "distances(7)", 1, 1},
        {"intervals", "key_intervals(64)", 1, 1},
        {"bigbird_heads", NULL, 8, 8},
        {"heads", "heads(window(6,6),all(window(20,20),stride(4)),global(3))", 1, 1},
        {"documents_causal", "all(documents(7),causal)", 1, 1},
        {"future", "not(causal)", 1, 1},
        {"blocks_odd", NULL, 5, 9},
        {"periodic_queries", "periodic_queries(6,1,3)", 1, 1},
        {"block_windows", "by_blocks(8x4,any(window(1,2),global(1)))", 8, 4},
        {"block_blocks", NULL, 8, 6},
        {"two_blocks", NULL, 8, 16},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct text text = {0};
        uint32_t rows = 0, cols = 0;
        clat_mask *mask = mask_case_named(expected[i].name)->make(64, 64);
        mask_print(mask, &text);
        mask_grain(mask, &rows, &cols);
        if (expected[i].text != NULL)
            assert_string_equal(text_string(&text), expected[i].text);
        assert_int_equal(rows, expected[i].rows);
        assert_int_equal(cols, expected[i].cols);
        text_free(&text);
        clat_mask_release(mask);
    }
    struct text text = {0};
    clat_mask *half = NULL, *inner = NULL, *outer = NULL;
    uint32_t rows = 0, cols = 0;
    assert_ok(clat_mask_window(&inner, 1, 0));
    for (int level = 0; level < 4; level++) { /* larger than 32 bits tell */
        assert_ok(clat_mask_by_blocks(&outer, 1024, 3, inner));
        clat_mask_release(inner);
        inner = outer;
    }
    mask_grain(outer, &rows, &cols);
    assert_int_equal(rows, 1 << 30);
    assert_int_equal(cols, 81);
    clat_mask_release(outer);
    assert_ok(clat_mask_block_csr(&half, 64, 32, 1, 2, 1, (uint32_t[]){0, 1}, (uint32_t[]){1}));
    mask_print(half, &text);
    assert_string_equal(text_string(&text), "block_csr(64x32,50.0%)");
    text_free(&text);
    clat_mask_release(half);
}

int main(void) {
    for (size_t i = 0; i < n_mask_cases; i++)
        harness_add(mask_cases[i].name, test_against_definition, &mask_cases[i]);
    harness_add("long sequences", test_long, NULL);
    harness_add("visible", test_visible, NULL);
    harness_add("visible positions", test_visible_positions, NULL);
    harness_add("visible diagonals", test_visible_diagonals, NULL);
    harness_add("BigBird", test_bigbird, NULL);
    harness_add("print and grain", test_print_and_grain, NULL);
    return harness_run_added();
}
