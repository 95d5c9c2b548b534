/* Pieces of attention on CPU devices by themselves: the exponential, how long rows of a tile
 * list are split, and in which order rows start. */
#include "harness.h"

#include "mask_cases.h"
#include "ops/attention.h"
#include "sizes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the weight of a score */

/* Calls weight() of attention_cpu.clh. */
static const char weights_source[] = "#define DTYPE f32\n"
                                     "#define HEAD_DIM 1\n"
                                     "#define VALUE_DIM 1\n"
                                     "#define UNIT_FEATURES 1\n"
                                     "#define LOGSUMEXP 0\n"
                                     "#define MASK_LIST 0\n"
                                     "#define MASK_CODE 0\n"
                                     "#define MASK_DATA 0\n"
                                     "#define SCORE_MODIFIER 0\n"
                                     "#define SCORE_DATA 0\n"
                                     "#define SPLIT_KEYS 0\n"
                                     "#define BQ 1\n"
                                     "#define BK 1\n"
                                     "#include \"common.clh\"\n"
                                     "#include \"attention_params.clh\"\n"
                                     "#include \"attention.clh\"\n"
                                     "#include \"attention_cpu.clh\"\n"
                                     "__kernel void weights(__global float *x) {\n"
                                     "    x += get_global_id(0) * VW;\n"
                                     "    VSTORE(VW, weight(VLOAD(VW, x)), x);\n"
                                     "}\n";

enum { N_WEIGHTS = 1 << 16 };

/* Runs weight() over `x` in vectors of `width`, in place. */
static void run_weights(unsigned width, float *x) {
    char options[1024];
    cl_int err;
    const char *source = weights_source;
    cl_device_id device = clat_context_device(harness_context());
    cl_program program =
        clCreateProgramWithSource(clat_context_cl(harness_context()), 1, &source, NULL, &err);
    assert_cl(err);
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DVW=%u -I%s", width, HARNESS_KERNEL_DIR);
    assert_cl(clBuildProgram(program, 1, &device, options, NULL, NULL));
    cl_kernel kernel = clCreateKernel(program, "weights", &err);
    assert_cl(err);
    cl_mem buffer = harness_buffer(N_WEIGHTS * sizeof *x, x);
    const size_t items = N_WEIGHTS / width;
    assert_cl(clSetKernelArg(kernel, 0, sizeof buffer, &buffer));
    assert_cl(
        clEnqueueNDRangeKernel(harness_queue(), kernel, 1, NULL, &items, NULL, 0, NULL, NULL));
    harness_read(buffer, 0, N_WEIGHTS * sizeof *x, x);
    clReleaseMemObject(buffer);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
}

/* Within 2 units in the last place of exp2, which are at least 2^-23 of it: docs/numerics.md. */
static void test_weights(void **state) {
    (void)state;
    static const float special[] = {0, -0.0f, -125, -125.00001f, -1000, -INFINITY, NAN, -3e38f};
    enum { N_SPECIAL = sizeof special / sizeof *special };
    float *x = harness_alloc(N_WEIGHTS * sizeof *x), *y = harness_alloc(N_WEIGHTS * sizeof *y);
    uint64_t seed = 3;
    for (unsigned n = 0; n < N_WEIGHTS; n++)
        x[n] = n < N_SPECIAL
                   ? special[n]
                   : (float)((harness_random_real(&seed, 0.5) - 0.5) * (n % 3 == 0   ? 1
                                                                        : n % 3 == 1 ? 12
                                                                                     : 125));
    for (unsigned width = 4; width <= 16; width *= 2) {
        double worst = 0;
        memcpy(y, x, N_WEIGHTS * sizeof *y);
        run_weights(width, y);
        for (unsigned n = 0; n < N_WEIGHTS; n++) {
            if (isnan(x[n])) {
                assert_true(isnan(y[n]));
            } else if (x[n] < -125) {
                assert_true(y[n] == 0);
            } else {
                const double exact = exp2((double)x[n]);
                worst = fmax(worst, fabs((double)y[n] - exact) / exact);
            }
        }
        if (!(worst < 1.7e-7))
            fail_msg("%u lanes: relative error %g", width, worst);
        assert_true(worst > 1e-8); /* it has been computed, in f32 */
    }
    free(x);
    free(y);
}

/* ---- long rows */

/* Every tile of every row belongs to exactly one item, and no item is longer than its share. */
static void check_split(const struct mask_tiles *list, size_t shares) {
    const size_t rows = list->n_index / 3;
    struct attention_params params = {0};
    uint32_t *items = NULL;
    size_t n_words = 0, total = 0;
    unsigned *parts = harness_alloc(rows * sizeof *parts);
    memset(parts, 0, rows * sizeof *parts);
    for (size_t row = 0; row < rows; row++)
        total += list->index[3 * row + 2];
    assert_ok(attention_split_rows(list, 1, shares, &params, &items, &n_words));
    assert_non_null(items);
    assert_true(params.merges > 0 && params.slots > params.merges);
    assert_int_equal(n_words, 4 * (size_t)params.items + 3 * (size_t)params.merges);
    for (int32_t i = 0; i < params.items; i++) {
        const uint32_t *item = items + 4 * i;
        assert_true(item[0] < rows && item[1] < item[2]);
        const size_t tiles = list->index[3 * item[0] + 2];
        assert_true(tiles / item[2] <= (total + shares - 1) / shares + 1);
        assert_int_equal(parts[item[0]] & 1u << item[1], 0);
        parts[item[0]] |= 1u << item[1];
    }
    const uint32_t *merge = items + 4 * params.items;
    uint32_t slot = 0;
    for (int32_t m = 0; m < params.merges; m++, merge += 3) {
        assert_int_equal(merge[2], slot);
        assert_true(merge[1] > 1 && parts[merge[0]] == (1u << merge[1]) - 1);
        slot += merge[1];
        parts[merge[0]] = 1;
    }
    assert_int_equal(slot, params.slots);
    for (size_t row = 0; row < rows; row++)
        assert_int_equal(parts[row], 1);
    free(parts);
    free(items);
}

static void test_split(void **state) {
    (void)state;
    struct mask_tiles list = {0};
    clat_mask *mask = mask_case_named("longformer")->make(1000, 1000);
    assert_ok(mask_tiles(mask, 1000, 1000, 16, 16, &list));
    check_split(&list, 16);
    check_split(&list, 50);

    /* Long enough for all: nothing is split. */
    struct attention_params params = {0};
    uint32_t *items = NULL;
    size_t n_words = 0;
    assert_ok(attention_split_rows(&list, 1, 1, &params, &items, &n_words));
    assert_null(items);
    assert_int_equal(params.items, 0);
    free(list.index);
    free(list.tiles);
    clat_mask_release(mask);
}

/* Every row of the lists once, by length; the few far longer ones ahead of all. */
static void test_order(void **state) {
    (void)state;
    static const struct {
        const char *mask;
        size_t heads;
        int32_t ahead, last_first;
    } cases[] = {{"longformer", 1, 1, 0},
                 {"dilated", 1, 0, 0},
                 {"heads", 4, 1, 0},
                 {"intervals_causal", 1, 0, 1}};
    enum { SEQ = 1024, TILE = 16, ROWS = SEQ / TILE };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct mask_tiles list = {0};
        clat_mask *mask = mask_case_named(cases[c].mask)->make(SEQ, SEQ);
        struct attention_params params = {.query_tiles = ROWS,
                                          .list_heads = (int32_t)mask_heads(mask)};
        bool seen[ROWS] = {false};
        size_t before = SIZE_MAX;
        assert_ok(mask_tiles(mask, SEQ, SEQ, TILE, TILE, &list));
        assert_ok(attention_order_rows(&list, &params));
        assert_int_equal(list.n_index, (3 * cases[c].heads + 1) * ROWS);
        for (size_t n = 0; n < ROWS; n++) {
            const uint32_t row = list.index[3 * cases[c].heads * ROWS + n];
            size_t tiles = 0;
            assert_true(row < ROWS && !seen[row]);
            seen[row] = true;
            for (size_t head = 0; head < cases[c].heads; head++)
                tiles = larger(tiles, list.index[3 * (head * ROWS + row) + 2]);
            assert_true(tiles <= before);
            before = tiles;
        }
        if (params.ahead != cases[c].ahead || params.last_first != cases[c].last_first)
            fail_msg("%s: %d ahead, last first: %d", cases[c].mask, params.ahead,
                     params.last_first);
        free(list.index);
        free(list.tiles);
        clat_mask_release(mask);
    }
}

/* What is split needs a workspace, the pool's or the caller's. */
static void test_workspace(void **state) {
    (void)state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    clat_plan *plan = NULL;
    if (!harness_device_is_cpu())
        skip();
    problem.seq_q = 1, problem.seq_k = 2048, problem.head_dim = 16;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    const size_t bytes = clat_plan_get_info(plan)->workspace_bytes;
    assert_true(bytes > 0);
    float *k = harness_alloc(2048 * 16 * sizeof *k), o[2][16];
    harness_fill(CLAT_F32, k, (size_t)2048 * 16, 4, 1.0);
    args.q = args.k = args.v = harness_buffer(2048 * 16 * sizeof *k, k);
    args.o = harness_buffer(sizeof o[0], NULL);
    assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    harness_read(args.o, 0, sizeof o[0], o[0]);
    args.workspace = harness_buffer(bytes - 1, NULL);
    assert_int_equal(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL),
                     CLAT_INVALID_BUFFER);
    clReleaseMemObject(args.workspace);
    args.workspace = harness_buffer(bytes, NULL);
    assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    harness_read(args.o, 0, sizeof o[1], o[1]);
    assert_memory_equal(o[0], o[1], sizeof o[0]);
    clReleaseMemObject(args.q);
    clReleaseMemObject(args.o);
    clReleaseMemObject(args.workspace);
    clat_plan_release(plan);
    free(k);
}

int main(void) {
    harness_add("weights", test_weights, NULL);
    harness_add("long rows", test_split, NULL);
    harness_add("order", test_order, NULL);
    harness_add("workspace", test_workspace, NULL);
    return harness_run_added();
}
