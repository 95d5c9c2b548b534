/* Every variant of GEMM, on each implementation, against the plain f64 reference. */
#include "gemm_cases.h"

#include "context.h"
#include "engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- variants x shapes */

/* What selects code. Small tiles, so that small shapes have many of them and edges on all sides. */
struct variant {
    const char *name;
    clat_dtype dtype, dtype_c;
    clat_transpose trans_a, trans_b;
    clat_bias bias;
    clat_activation activation;
    clat_precision precision;
};

static const struct variant variants[] = {
    {"f32 NN", CLAT_F32, 0, 0, 0, 0, 0, 0},
    {"f32 NT", CLAT_F32, 0, 0, 1, 0, 0, 0},
    {"f32 TN", CLAT_F32, 0, 1, 0, 0, 0, 0},
    {"f32 TT", CLAT_F32, 0, 1, 1, 0, 0, 0},
    {"f64 NT", CLAT_F64, 0, 0, 1, 0, 0, 0},
    {"f16 TN", CLAT_F16, 0, 1, 0, 0, 0, 0},
    {"bf16 NT", CLAT_BF16, 0, 0, 1, 0, 0, 0},
    {"f16>f32 NN bias row gelu", CLAT_F16, CLAT_F32, 0, 0, CLAT_BIAS_ROW, CLAT_ACT_GELU, 0},
    {"bf16 TT bias column silu", CLAT_BF16, 0, 1, 1, CLAT_BIAS_COLUMN, CLAT_ACT_SILU, 0},
    {"f32 NT bias column relu", CLAT_F32, 0, 0, 1, CLAT_BIAS_COLUMN, CLAT_ACT_RELU, 0},
    {"bf16 native NN", CLAT_BF16, 0, 0, 0, 0, 0, CLAT_PRECISION_NATIVE},
    {"bf16 native TT bias row", CLAT_BF16, 0, 1, 1, CLAT_BIAS_ROW, 0, CLAT_PRECISION_NATIVE},
    {"bf16>f32 native NT", CLAT_BF16, CLAT_F32, 0, 1, 0, 0, CLAT_PRECISION_NATIVE},
};

#define CPU_TILE "VW=8 MR=2 NV=2 KC=128 MC=24 NC=64 UNROLL_K=1 "
#define CPU_NATIVE_TILE "VW=16 MR=2 NV=1 KC=128 MC=24 NC=64 UNROLL_K=1 "

/* `native`: for pairs of bf16, whose vectors have 16 lanes. `choosy`: not for every shape, each
 * variant must fit some. */
static const struct {
    const char *label, *name, *tunables, *native;
    bool choosy;
} implementations[] = {
#define CPU(label, rest, choosy)                                                                   \
    { label, "cpu", CPU_TILE rest, CPU_NATIVE_TILE rest, choosy }
    CPU("cpu", "PACK_A=1 PACK_B=1 SHARED=0 SPLIT_K=1 SWAP=0", false),
    CPU("cpu shared", "PACK_A=1 PACK_B=1 SHARED=1 SPLIT_K=1 SWAP=0", false),
    CPU("cpu split swapped", "PACK_A=1 PACK_B=1 SHARED=1 SPLIT_K=4 SWAP=1", false),
    CPU("cpu split", "PACK_A=1 PACK_B=1 SHARED=0 SPLIT_K=16 SWAP=0", false),
    CPU("cpu A in place", "PACK_A=0 PACK_B=1 SHARED=0 SPLIT_K=1 SWAP=0", true),
    CPU("cpu B in place", "PACK_A=1 PACK_B=0 SHARED=1 SPLIT_K=4 SWAP=0", true),
    CPU("cpu in place swapped", "PACK_A=0 PACK_B=0 SHARED=0 SPLIT_K=1 SWAP=1", true),
    {"cpu_dot", "cpu_dot", "VW=8 MR=2 NB=4 KC=256 SPLIT_K=1", "VW=16 MR=2 NB=4 KC=256 SPLIT_K=1",
     true},
    {"cpu_dot split", "cpu_dot", "VW=4 MR=1 NB=2 KC=256 SPLIT_K=4",
     "VW=16 MR=1 NB=2 KC=256 SPLIT_K=4", true},
#define TILES(label, values)                                                                       \
    { label, "cpu_tile", NULL, values, true }
    TILES("cpu_tile", "KC=128 MC=64 NC=64 PACK_A=1 SHARED=0 SPLIT_K=1 SWAP=0"),
    TILES("cpu_tile shared", "KC=256 MC=32 NC=32 PACK_A=1 SHARED=1 SPLIT_K=1 SWAP=0"),
    TILES("cpu_tile swapped", "KC=128 MC=64 NC=32 PACK_A=1 SHARED=1 SPLIT_K=1 SWAP=1"),
    TILES("cpu_tile split", "KC=128 MC=32 NC=64 PACK_A=1 SHARED=0 SPLIT_K=4 SWAP=0"),
    TILES("cpu_tile split swapped", "KC=128 MC=64 NC=64 PACK_A=1 SHARED=1 SPLIT_K=2 SWAP=1"),
    TILES("cpu_tile A in place", "KC=128 MC=64 NC=64 PACK_A=0 SHARED=1 SPLIT_K=1 SWAP=0"),
    TILES("cpu_tile in place swapped", "KC=256 MC=64 NC=64 PACK_A=0 SHARED=0 SPLIT_K=2 SWAP=1"),
#define SIMT(label, values)                                                                        \
    { label, "simt", values, values, false }
    SIMT("simt", "BM=32 BN=32 BK=8 TM=4 TN=4 SLICES=1 SPLIT_K=1 PAD=1 GROUP=4"),
    SIMT("simt shared", "BM=32 BN=32 BK=16 TM=4 TN=4 SLICES=2 SPLIT_K=4 PAD=0 GROUP=1"),
    /* On a GPU's own engine; test_gemm_mma has the emulated ones. */
    {"mma", "mma", "BM=64 BN=64 BK=32 SUBS_M=2 SUBS_N=2 STAGES=2 GROUP=4",
     "BM=64 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1", true},
};

enum { IMPLEMENTATIONS = sizeof implementations / sizeof *implementations };

/* Nothing, ones, primes, tile-1, tile, tile+1, several tiles; padding of leading dimensions. */
static const struct {
    size_t m, n, k, padding;
} shapes[] = {
    {0, 5, 3, 0},     {5, 0, 3, 1},     {5, 3, 0, 0},      {1, 1, 1, 0},      {1, 1, 1, 2},
    {2, 16, 8, 0},    {3, 17, 9, 3},    {1, 15, 7, 1},     {7, 11, 13, 0},    {64, 64, 64, 0},
    {24, 64, 128, 4}, {25, 65, 129, 1}, {23, 63, 127, 0},  {33, 31, 257, 5},  {97, 29, 300, 0},
    {1, 100, 33, 0},  {100, 1, 33, 2},  {53, 131, 16, 3},  {32, 32, 512, 12}, {1, 37, 256, 0},
    {3, 33, 301, 3},  {45, 5, 517, 1},  {17, 70, 1028, 1},
};

struct variant_case {
    char name[64];
    const struct variant *variant;
    unsigned implementation;
};

static bool is_available(unsigned implementation, clat_dtype dtype) {
    clat_device_info info;
    if (strcmp(implementations[implementation].name, "mma") == 0)
        return dtype != CLAT_F32 && engine_find(&harness_context()->device, dtype) != NULL;
    if (strcmp(implementations[implementation].name, "simt") != 0 && !harness_device_is_cpu())
        return false;
    if (strcmp(implementations[implementation].name, "cpu_tile") == 0)
        return device_can(&harness_context()->device, CAP_BF16_TILE);
    assert_ok(clat_context_info(harness_context(), &info));
    return dtype != CLAT_F64 || info.f64;
}

static clat_gemm_problem make_problem(const struct variant *variant, unsigned implementation) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.dtype = variant->dtype;
    problem.dtype_c = variant->dtype_c;
    problem.trans_a = variant->trans_a;
    problem.trans_b = variant->trans_b;
    problem.bias = variant->bias;
    problem.activation = variant->activation;
    problem.precision = variant->precision;
    problem.implementation = implementations[implementation].name;
    problem.tunables = variant->precision == CLAT_PRECISION_NATIVE
                           ? implementations[implementation].native
                           : implementations[implementation].tunables;
    return problem;
}

/* Whether an implementation takes this problem; one that is not choosy must. */
static bool takes(unsigned implementation, const clat_gemm_problem *problem) {
    clat_plan *plan = NULL;
    if (!implementations[implementation].choosy)
        return true;
    const clat_status status = clat_gemm_plan(&plan, harness_context(), problem);
    clat_plan_release(plan);
    assert_true(status == CLAT_OK || status == CLAT_UNSUPPORTED || status == CLAT_INVALID_TUNABLES);
    return status == CLAT_OK;
}

static void set_shape(clat_gemm_problem *problem, size_t m, size_t n, size_t k, size_t padding) {
    const bool row = problem->layout == CLAT_ROW_MAJOR;
    problem->m = m, problem->n = n, problem->k = k;
    problem->lda = problem->ldb = problem->ldc = 0;
    if (padding == 0)
        return;
    problem->lda = ((problem->trans_a == CLAT_TRANS) == row ? m : k) + padding;
    problem->ldb = ((problem->trans_b == CLAT_TRANS) == row ? k : n) + padding;
    problem->ldc = (row ? n : m) + padding;
}

/* Tiles are for native bf16 alone, matrix engines for 16 bits, `cpu_dot` for lines along k; A in
 * place must not need widening, B in place no transposing, and what is swapped changes roles. */
static bool may_take(unsigned implementation, const struct variant *variant) {
    const char *label = implementations[implementation].label;
    const bool wide = variant->dtype == CLAT_F32 || variant->dtype == CLAT_F64;
    if (strcmp(implementations[implementation].name, "mma") == 0)
        return !wide;
    if (strcmp(implementations[implementation].name, "cpu_dot") == 0)
        return variant->trans_b || !variant->trans_a;
    if (strcmp(label, "cpu_tile A in place") == 0)
        return variant->precision == CLAT_PRECISION_NATIVE && !variant->trans_a;
    if (strcmp(label, "cpu_tile in place swapped") == 0)
        return variant->precision == CLAT_PRECISION_NATIVE && variant->trans_b;
    if (strcmp(implementations[implementation].name, "cpu_tile") == 0)
        return variant->precision == CLAT_PRECISION_NATIVE;
    if (strcmp(label, "cpu A in place") == 0)
        return wide;
    if (strcmp(label, "cpu B in place") == 0)
        return !variant->trans_b;
    if (strcmp(label, "cpu in place swapped") == 0)
        return wide && variant->trans_a;
    return true;
}

static void test_variant(void **state) {
    const struct variant_case *it = *state;
    if (!is_available(it->implementation, it->variant->dtype))
        skip();
    clat_gemm_problem problem = make_problem(it->variant, it->implementation);
    unsigned taken = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        char name[128];
        set_shape(&problem, shapes[s].m, shapes[s].n, shapes[s].k, shapes[s].padding);
        snprintf(name, sizeof name, "%s m=%zu n=%zu k=%zu", it->name, problem.m, problem.n,
                 problem.k);
        if (!takes(it->implementation, &problem))
            continue;
        gemm_check(name, &problem, shapes[s].padding % 4 != 0);
        taken += problem.m * problem.n * problem.k > 0;
    }
    if (taken == 0)
        fail_msg("%s takes none of the shapes", it->name);
}

/* The column-major twin runs the same program with a and b swapped. */
static void test_column_major(void **state) {
    (void)state;
    for (unsigned impl = 0; impl < IMPLEMENTATIONS; impl++)
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
            char name[128];
            if (!is_available(impl, variants[v].dtype))
                continue;
            clat_gemm_problem problem = make_problem(&variants[v], impl);
            problem.layout = CLAT_COL_MAJOR;
            problem.trans_a = variants[v].trans_b;
            problem.trans_b = variants[v].trans_a;
            if (problem.bias)
                problem.bias = variants[v].bias == CLAT_BIAS_ROW ? CLAT_BIAS_COLUMN : CLAT_BIAS_ROW;
            set_shape(&problem, 37, 29, 41, 3);
            snprintf(name, sizeof name, "column-major twin of %s on %s", variants[v].name,
                     implementations[impl].label);
            if (takes(impl, &problem))
                gemm_check(name, &problem, true);
        }
}

/* A problem that an implementation takes, with edges on all sides. */
static clat_gemm_problem example(unsigned impl) {
    enum {
        F32_NN = 0,
        F32_NT = 1,
        F32_TN = 2,
        F32_TT = 3,
        F16_TN = 5,
        NATIVE_TT = 11,
        NATIVE_NT = 12
    };
    const char *name = implementations[impl].name, *label = implementations[impl].label;
    const bool tiles = strcmp(name, "cpu_tile") == 0, swapped = strstr(label, "in place swapped");
    const bool dot = strcmp(name, "cpu_dot") == 0;
    const unsigned variant =
        strcmp(name, "mma") == 0 ? F16_TN
        : tiles                  ? (swapped ? NATIVE_TT : NATIVE_NT)
        : swapped                ? F32_TN
        : dot ? (strstr(label, "split") ? F32_TT : F32_NT) /* packs rows, or not */
              : F32_NN;
    clat_gemm_problem problem = make_problem(&variants[variant], impl);
    problem.bias = CLAT_BIAS_NONE;
    if (tiles)
        set_shape(&problem, 40, 45, 64, 2);
    else if (dot)
        set_shape(&problem, 5, 33, 300, 2);
    else
        set_shape(&problem, 19, 35, 21, 2);
    return problem;
}

static void test_batch(void **state) {
    static const struct {
        const char *name;
        size_t batch;
        bool one_a, one_b, tight_c;
    } cases[] = {
        {"tight C, A and B apart", 5, false, false, true},
        {"one A for all", 3, true, false, false},
        {"one B for all", 4, false, true, false},
        {"a batch of one", 1, false, false, false},
    };
    (void)state;
    for (unsigned impl = 0; impl < IMPLEMENTATIONS; impl++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char name[128];
            clat_gemm_problem problem = example(impl);
            if (!is_available(impl, problem.dtype))
                continue;
            const size_t lines_a = problem.trans_a ? problem.k : problem.m;
            const size_t lines_b = problem.trans_b ? problem.n : problem.k;
            problem.batch = cases[i].batch;
            problem.stride_a = cases[i].one_a ? 0 : lines_a * problem.lda + 11;
            problem.stride_b = cases[i].one_b ? 0 : lines_b * problem.ldb + 5;
            problem.stride_c = cases[i].tight_c ? 0 : problem.m * problem.ldc + 7;
            snprintf(name, sizeof name, "%s: %s", implementations[impl].label, cases[i].name);
            gemm_check(name, &problem, true);
        }
}

static void test_batch_offsets(void **state) {
    (void)state;
    for (unsigned impl = 0; impl < IMPLEMENTATIONS; impl++)
        for (int layout = CLAT_ROW_MAJOR; layout <= CLAT_COL_MAJOR; layout++) {
            clat_gemm_problem problem = example(impl);
            const size_t m = problem.m, n = problem.n, k = problem.k;
            const clat_transpose trans_a = problem.trans_a;
            if (!is_available(impl, problem.dtype))
                continue;
            problem.layout = (clat_layout)layout;
            problem.batching = CLAT_BATCH_OFFSETS;
            problem.batch = 4;
            if (layout == CLAT_COL_MAJOR) { /* the same product with A and B exchanged */
                problem.trans_a = problem.trans_b;
                problem.trans_b = trans_a;
                set_shape(&problem, n, m, k, 1);
            } else
                set_shape(&problem, m, n, k, 1);
            gemm_check_offsets(implementations[impl].label, &problem);
        }
}

/* ---- what a plan guarantees */

static clat_gemm_problem default_problem(size_t m, size_t n, size_t k) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = m, problem.n = n, problem.k = k;
    return problem;
}

/* The library's own choice, on a shape with several of its tiles and its edges. */
static void test_default_choice(void **state) {
    (void)state;
    clat_gemm_problem problem = default_problem(203, 301, 517);
    gemm_check("default choice", &problem, true);
    clat_plan *plan = NULL;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    const clat_plan_info *info = clat_plan_get_info(plan);
    assert_string_equal(info->op, "gemm");
    assert_string_equal(info->implementation, harness_device_is_cpu() ? "cpu" : "simt");
    assert_string_equal(info->tunables_from, "guess");
    assert_string_equal(info->problem, "f32 row NN m=203 n=301 k=517 lda=517 ldb=301 ldc=301");
    assert_true(info->flops > 2.0 * 203 * 301 * 516 && info->flops < 2.0 * 203 * 301 * 518);
    clat_plan_release(plan);
}

static void test_equal_problems_share_a_plan(void **state) {
    (void)state;
    clat_gemm_problem problem = default_problem(8, 9, 10);
    clat_plan *first = NULL, *second = NULL, *third = NULL;
    assert_ok(clat_gemm_plan(&first, harness_context(), &problem));
    problem.lda = 10, problem.ldb = problem.ldc = 9; /* what 0 stands for */
    problem.stride_a = 12345;                        /* of no meaning for one matrix */
    assert_ok(clat_gemm_plan(&second, harness_context(), &problem));
    assert_ptr_equal(first, second);
    problem.ldc = 10;
    assert_ok(clat_gemm_plan(&third, harness_context(), &problem));
    assert_ptr_not_equal(first, third);
    clat_plan_release(first);
    clat_plan_release(second);
    clat_plan_release(third);
}

/* A zero-sized problem needs no buffers, and its event completes. k = 0 needs no A and B. */
static void test_nothing_to_do(void **state) {
    (void)state;
    clat_gemm_problem problem = default_problem(0, 5, 5);
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    cl_event event = NULL;
    clat_plan *plan = NULL;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    assert_string_equal(clat_plan_get_info(plan)->implementation, "none");
    assert_ok(clat_gemm_run(plan, harness_queue(), &args, 0, NULL, &event));
    assert_cl(clWaitForEvents(1, &event));
    clReleaseEvent(event);
    clat_plan_release(plan);

    float c[6] = {1, 2, 3, 4, 5, 6};
    problem = default_problem(2, 3, 0);
    args.c = harness_buffer(sizeof c, c);
    args.beta = 2;
    assert_ok(clat_gemm(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
    harness_read(args.c, 0, sizeof c, c);
    const float doubled[6] = {2, 4, 6, 8, 10, 12};
    assert_memory_equal(c, doubled, sizeof c);
    clReleaseMemObject(args.c);
}

/* ---- operands for the tests below: small integers, so that every result is exact */

enum { SIDE = 96 };

struct square {
    float a[SIDE * SIDE], b[SIDE * SIDE], c[SIDE * SIDE];
    cl_mem buffer[3];
};

static void square_make(struct square *it) {
    uint64_t seed = 9;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        it->a[i] = (float)harness_random_below(&seed, 9) - 4;
        it->b[i] = (float)harness_random_below(&seed, 9) - 4;
    }
    for (size_t i = 0; i < SIDE; i++)
        for (size_t j = 0; j < SIDE; j++) {
            it->c[i * SIDE + j] = 0;
            for (size_t k = 0; k < SIDE; k++)
                it->c[i * SIDE + j] += it->a[i * SIDE + k] * it->b[k * SIDE + j];
        }
    it->buffer[0] = harness_buffer(sizeof it->a, it->a);
    it->buffer[1] = harness_buffer(sizeof it->b, it->b);
    it->buffer[2] = harness_buffer(sizeof it->c, NULL);
}

static void square_free(struct square *it) {
    for (int i = 0; i < 3; i++)
        clReleaseMemObject(it->buffer[i]);
}

static void square_verify(const struct square *it, cl_mem c) {
    static float got[SIDE * SIDE];
    harness_read(c, 0, sizeof got, got);
    for (size_t i = 0; i < SIDE * SIDE; i++) /* rusticl gives -0 for 0 */
        assert_true(got[i] == it->c[i]);
}

/* Column-major arguments of the same product: B^T A^T, so b comes first. */
static void test_sgemm_dgemm(void **state) {
    (void)state;
    static struct square it;
    clat_context *ctx = harness_context();
    cl_command_queue queue = harness_queue();
    square_make(&it);
    assert_ok(clat_sgemm(ctx, queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, SIDE, SIDE, SIDE,
                         1.0f, it.buffer[0], 0, SIDE, it.buffer[1], 0, SIDE, 0.0f, it.buffer[2], 0,
                         SIDE, 0, NULL, NULL));
    square_verify(&it, it.buffer[2]);
    assert_ok(clat_sgemm(ctx, queue, CLAT_COL_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, SIDE, SIDE, SIDE,
                         -1.0f, it.buffer[1], 0, SIDE, it.buffer[0], 0, SIDE, 2.0f, it.buffer[2], 0,
                         SIDE, 0, NULL, NULL));
    square_verify(&it, it.buffer[2]);
    square_free(&it);

    clat_device_info info;
    assert_ok(clat_context_info(ctx, &info));
    double a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 0, 1, 1, 1}, c[4] = {1, 1, 1, 1};
    cl_mem buffer[3] = {harness_buffer(sizeof a, a), harness_buffer(sizeof b, b),
                        harness_buffer(sizeof c, c)};
    assert_status(info.f64 ? CLAT_OK : CLAT_UNSUPPORTED,
                  clat_dgemm(ctx, queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, 2, 2, 3, 1.0,
                             buffer[0], 0, 3, buffer[1], 0, 2, 10.0, buffer[2], 0, 2, 0, NULL,
                             NULL));
    if (info.f64) {
        const double expected[4] = {14, 15, 20, 21};
        harness_read(buffer[2], 0, sizeof c, c);
        assert_memory_equal(c, expected, sizeof c);
    }
    for (int i = 0; i < 3; i++)
        clReleaseMemObject(buffer[i]);
}

/* C = A B, then C = C0 again through a second command that waits for the first, on a queue that
 * keeps no order by itself. */
static void test_wait_lists(void **state) {
    (void)state;
    static struct square it;
    cl_command_queue queue = harness_new_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    cl_event events[2] = {NULL, NULL};
    square_make(&it);
    clat_gemm_problem problem = default_problem(SIDE, SIDE, SIDE);
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = it.buffer[0], args.b = it.buffer[1], args.c = it.buffer[2];
    assert_ok(clat_gemm(harness_context(), queue, &problem, &args, 0, NULL, &events[0]));
    args.alpha = -1, args.beta = 2;
    assert_ok(clat_gemm(harness_context(), queue, &problem, &args, 1, events, &events[1]));
    assert_cl(clWaitForEvents(1, &events[1]));
    square_verify(&it, it.buffer[2]);
    clReleaseEvent(events[0]);
    clReleaseEvent(events[1]);
    clReleaseCommandQueue(queue);
    square_free(&it);
}

static void test_runs_are_bit_identical(void **state) {
    (void)state;
    enum { SIDE_A = 131, SIDE_B = 97, DEPTH = 1056 };
    static float a[SIDE_A * DEPTH], b[SIDE_B * DEPTH], first[SIDE_A * SIDE_B];
    static float again[SIDE_A * SIDE_B];
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = harness_buffer(sizeof a, NULL);
    args.b = harness_buffer(sizeof b, NULL);
    args.c = harness_buffer(sizeof first, NULL);
    for (unsigned impl = 0; impl < IMPLEMENTATIONS; impl++) {
        clat_gemm_problem problem = example(impl);
        if (!is_available(impl, problem.dtype))
            continue;
        const bool dot = strcmp(implementations[impl].name, "cpu_dot") == 0;
        set_shape(&problem, dot ? 17 : SIDE_A, SIDE_B, DEPTH, 0);
        harness_fill(problem.dtype, a, SIDE_A * DEPTH, 1, 1.0);
        harness_fill(problem.dtype, b, SIDE_B * DEPTH, 2, 1.0);
        harness_write(args.a, 0, sizeof a, a);
        harness_write(args.b, 0, sizeof b, b);
        const size_t bytes = problem.m * problem.n *
                             clat_dtype_bytes(problem.dtype_c ? problem.dtype_c : problem.dtype);
        for (int run = 0; run < 5; run++) {
            assert_ok(
                clat_gemm(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
            harness_read(args.c, 0, bytes, run ? again : first);
            if (run > 0)
                assert_memory_equal(first, again, bytes);
        }
    }
    clReleaseMemObject(args.a);
    clReleaseMemObject(args.b);
    clReleaseMemObject(args.c);
}

struct worker {
    const struct square *it;
    const clat_plan *plan;
    cl_command_queue queue;
    cl_mem c;
    clat_status status;
};

/* cmocka's assertions belong to the main thread. */
static void *work(void *user) {
    struct worker *worker = user;
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = worker->it->buffer[0], args.b = worker->it->buffer[1], args.c = worker->c;
    for (int i = 0; i < 50 && worker->status == CLAT_OK; i++)
        worker->status = clat_gemm_run(worker->plan, worker->queue, &args, 0, NULL, NULL);
    clFinish(worker->queue);
    return NULL;
}

static void test_one_plan_two_threads(void **state) {
    (void)state;
    static struct square it;
    clat_gemm_problem problem = default_problem(SIDE, SIDE, SIDE);
    clat_plan *plan = NULL;
    pthread_t threads[2];
    struct worker workers[2];
    square_make(&it);
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    for (int i = 0; i < 2; i++) {
        workers[i] = (struct worker){.it = &it, .plan = plan, .queue = harness_new_queue(0)};
        workers[i].c = harness_buffer(sizeof it.c, NULL);
        assert_int_equal(0, pthread_create(&threads[i], NULL, work, &workers[i]));
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(CLAT_OK, workers[i].status);
        square_verify(&it, workers[i].c);
        clReleaseMemObject(workers[i].c);
        clReleaseCommandQueue(workers[i].queue);
    }
    clat_plan_release(plan);
    square_free(&it);
}

int main(void) {
    enum { VARIANTS = sizeof variants / sizeof *variants };
    static struct variant_case cases[VARIANTS * IMPLEMENTATIONS];
    for (unsigned i = 0; i < VARIANTS * IMPLEMENTATIONS; i++) {
        cases[i] = (struct variant_case){.variant = &variants[i / IMPLEMENTATIONS],
                                         .implementation = i % IMPLEMENTATIONS};
        snprintf(cases[i].name, sizeof cases[i].name, "%s %s",
                 implementations[i % IMPLEMENTATIONS].label, variants[i / IMPLEMENTATIONS].name);
        if (may_take(cases[i].implementation, cases[i].variant))
            harness_add(cases[i].name, test_variant, &cases[i]);
    }
    harness_add("column-major", test_column_major, NULL);
    harness_add("batch", test_batch, NULL);
    harness_add("batch offsets", test_batch_offsets, NULL);
    harness_add("default choice", test_default_choice, NULL);
    harness_add("equal problems share a plan", test_equal_problems_share_a_plan, NULL);
    harness_add("nothing to do", test_nothing_to_do, NULL);
    harness_add("sgemm and dgemm", test_sgemm_dgemm, NULL);
    harness_add("wait lists", test_wait_lists, NULL);
    harness_add("runs are bit-identical", test_runs_are_bit_identical, NULL);
    harness_add("one plan, two threads", test_one_plan_two_threads, NULL);
    return harness_run_added();
}
