/*
 * GEMM on Hopper against the plain f64 reference. There is no emulation: elsewhere all but what the
 * host decides is skipped.
 */
#include "gemm_cases.h"
#include "hopper_device.h"
#include "tunables_cases.h"

#include "context.h"
#include "ops/gemm.h"
#include "plan.h"
#include "sizes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need_hopper(void) {
    if (!device_can(&harness_context()->device, CAP_WGMMA))
        skip();
}

static clat_gemm_problem make_problem(clat_dtype dtype, unsigned trans, size_t m, size_t n,
                                      size_t k, size_t padding) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.implementation = "wgmma";
    problem.dtype = dtype;
    problem.trans_a = trans / 2, problem.trans_b = trans % 2;
    problem.precision = dtype == CLAT_F32 ? CLAT_PRECISION_NATIVE : CLAT_PRECISION_F32;
    problem.m = m, problem.n = n, problem.k = k;
    problem.lda = (problem.trans_a ? m : k) + padding;
    problem.ldb = (problem.trans_b ? k : n) + padding;
    problem.ldc = n + padding;
    return problem;
}

/* ---- types x transposes ---- */

static const struct target {
    const char *name;
    clat_dtype dtype;
    unsigned trans; /* 2 trans_a + trans_b */
} targets[] = {
    {"f16 NN", CLAT_F16, 0},   {"f16 NT", CLAT_F16, 1},   {"f16 TN", CLAT_F16, 2},
    {"f16 TT", CLAT_F16, 3},   {"bf16 NN", CLAT_BF16, 0}, {"bf16 NT", CLAT_BF16, 1},
    {"bf16 TN", CLAT_BF16, 2}, {"bf16 TT", CLAT_BF16, 3}, {"tf32 NT", CLAT_F32, 1},
    {"tf32 NN", CLAT_F32, 0},  {"tf32 TT", CLAT_F32, 3},  {"tf32 TN", CLAT_F32, 2},
};

/* Those that tests take which do not need all of them. */
static const size_t chosen[] = {0, 3, 6, 9, 11};
enum { N_CHOSEN = sizeof chosen / sizeof *chosen };

/* Left operands in registers leave no room for two blocks. */
static bool is_legal(const struct target *target, const char *tunables) {
    return target->dtype != CLAT_F32 || target->trans == 1 || strncmp(tunables, "BM=256", 6) != 0;
}

/* Nothing, ones, edges, whole tiles, several rounds of the ring; lines that tensor maps take, and
 * all kinds of those that they do not. */
static const struct {
    size_t m, n, k, padding;
    bool shifted;
} shapes[] = {
    {5, 3, 0, 0, false},      {1, 1, 1, 7, false},      {1, 33, 17, 3, true},
    {128, 128, 64, 0, false}, {200, 264, 128, 8, true}, {136, 72, 600, 8, false},
    {33, 31, 65, 1, true},    {67, 141, 230, 6, true},  {24, 8, 504, 0, false},
    {133, 130, 77, 0, false}, {65, 257, 40, 2, false},
};

/* All tiles, and slices of k. */
static const char *const tiles[] = {
    "BM=128 BN=128 STAGES=3 GROUP=4", "BM=64 BN=64 STAGES=2 GROUP=1", "BM=128 BN=256 STAGES=4",
    "BM=256 BN=128 STAGES=4 GROUP=4", "BM=128 BN=192 STAGES=3",       "BM=64 BN=256 STAGES=5",
    "BM=256 BN=64 STAGES=4",
};

/* Whether B is transposed in the workspace, which PAD = 1 is needed for. */
static bool is_turned(const clat_gemm_problem *problem) {
    return problem->dtype == CLAT_F32 && problem->trans_a && !problem->trans_b;
}

/* Whether lines can be padded, since they are no multiples of 16 bytes. */
static bool is_odd(const clat_gemm_problem *problem) {
    const size_t bytes = clat_dtype_bytes(problem->dtype);
    return problem->k > 0 && (problem->lda * bytes % 16 != 0 || problem->ldb * bytes % 16 != 0);
}

static void test_target(void **state) {
    const struct target *target = *state;
    need_hopper();
    for (size_t t = 0; t < sizeof tiles / sizeof *tiles; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            if ((t >= 2 && s % 5 != t % 5) || !is_legal(target, tiles[t]))
                continue;
            clat_gemm_problem problem = make_problem(target->dtype, target->trans, shapes[s].m,
                                                     shapes[s].n, shapes[s].k, shapes[s].padding);
            const int least = is_turned(&problem), most = least || is_odd(&problem);
            for (int pad = least; pad <= most; pad++) {
                char name[160], tunables[80];
                snprintf(tunables, sizeof tunables, "%s PAD=%d", tiles[t], pad);
                problem.tunables = tunables;
                snprintf(name, sizeof name, "%s m=%zu n=%zu k=%zu %s", target->name, problem.m,
                         problem.n, problem.k, tunables);
                gemm_check(name, &problem, shapes[s].shifted);
            }
        }
}

static void test_slices(void **state) {
    (void)state;
    need_hopper();
    static const char *const splits[] = {"BM=64 BN=64 STAGES=4 SPLIT_K=3",
                                         "BM=128 BN=256 STAGES=3 SPLIT_K=8",
                                         "BM=128 BN=128 STAGES=4 SPLIT_K=2"};
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
        for (size_t padding = 0; padding < 8; padding += 3) {
            clat_gemm_problem problem =
                make_problem(i == 1 ? CLAT_BF16 : CLAT_F16, (unsigned)i, 131, 140, 520, padding);
            problem.tunables = splits[i];
            problem.activation = i == 2 ? CLAT_ACT_RELU : CLAT_ACT_NONE;
            problem.dtype_c = i == 2 ? CLAT_F32 : CLAT_DTYPE_DEFAULT;
            gemm_check(splits[i], &problem, padding == 3);
        }
}

/* ---- the rest of the operator ---- */

static void test_epilogues(void **state) {
    (void)state;
    need_hopper();
    for (size_t i = 0; i < N_CHOSEN; i++) {
        const struct target *target = &targets[chosen[i]];
        clat_gemm_problem problem = make_problem(target->dtype, target->trans, 145, 136, 80, 0);
        problem.dtype_c = i == 0 ? CLAT_F32 : CLAT_DTYPE_DEFAULT;
        problem.bias = i == 1 ? CLAT_BIAS_ROW : CLAT_BIAS_COLUMN;
        problem.activation = i == 0 ? CLAT_ACT_GELU : i == 1 ? CLAT_ACT_RELU : CLAT_ACT_SILU;
        gemm_check("epilogue, aligned", &problem, false);
        problem.ldc = 139;
        gemm_check("epilogue, C not aligned", &problem, true);
        problem.bias = CLAT_BIAS_NONE, problem.activation = CLAT_ACT_NONE;
        problem.dtype_c = CLAT_F32;
        gemm_check("f32 C, not aligned", &problem, true);
    }
}

static void test_batches(void **state) {
    (void)state;
    need_hopper();
    for (unsigned trans = 0; trans < 4; trans++) {
        clat_gemm_problem problem = make_problem(CLAT_F16, trans, 72, 136, 80, 8);
        problem.batch = 3;
        problem.stride_a = trans == 2 ? 0 : 8000, problem.stride_b = 16000;
        gemm_check("batch", &problem, false);
        problem.stride_b = 16003; /* only the first one aligned */
        gemm_check("batch, not aligned", &problem, false);
        problem.stride_b = 16000;
        problem.tunables = "BM=64 BN=64 STAGES=4 SPLIT_K=2";
        gemm_check("batch, slices of k", &problem, trans == 1);
        problem.stride_b = 16003;
        problem.tunables = "BM=64 BN=64 STAGES=4 SPLIT_K=2 PAD=1";
        gemm_check("batch, B padded", &problem, false);
        problem.lda += 3, problem.ldb += 1;
        gemm_check("batch, both padded", &problem, true);
    }
    clat_gemm_problem problem = make_problem(CLAT_F32, 2, 72, 136, 80, 1);
    problem.batch = 3;
    problem.stride_a = 8003, problem.stride_b = 16003;
    gemm_check("batch, B transposed, both padded", &problem, true);
    problem.stride_a = 0;
    problem.tunables = "BM=64 BN=64 STAGES=4 SPLIT_K=2 PAD=1";
    gemm_check("batch, one A, slices of k", &problem, false);
    problem.stride_a = 8003, problem.stride_b = 0;
    gemm_check("batch, one B, transposed", &problem, false);
}

static void test_column_major(void **state) {
    (void)state;
    need_hopper();
    clat_gemm_problem problem = make_problem(CLAT_BF16, 1, 45, 40, 70, 0);
    problem.layout = CLAT_COL_MAJOR;
    problem.lda = 48, problem.ldb = 40, problem.ldc = 48;
    gemm_check("column-major", &problem, false);
    problem.lda = 47, problem.ldb = 41;
    problem.tunables = "BM=64 BN=64 STAGES=2 PAD=1";
    gemm_check("column-major, padded", &problem, false);
}

/* ---- a result that moves is a race ---- */

static cl_mem random_buffer(clat_dtype dtype, size_t count, uint64_t seed) {
    const size_t bytes = count * clat_dtype_bytes(dtype);
    void *data = harness_alloc(bytes);
    harness_fill(dtype, data, count, seed, 1.0);
    cl_mem buffer = harness_buffer(bytes, data);
    free(data);
    return buffer;
}

static void check_repeated(clat_dtype dtype, unsigned trans, size_t a_offset,
                           const char *tunables) {
    enum { M = 1280, N = 1288, K = 776, RUNS = 60 };
    const size_t bytes = (size_t)M * N * clat_dtype_bytes(dtype);
    unsigned char *first = harness_alloc(bytes), *again = harness_alloc(bytes);
    cl_mem a = random_buffer(dtype, (size_t)M * K + 8, 1);
    cl_mem b = random_buffer(dtype, (size_t)K * N + 8, 2);
    clat_gemm_problem problem = make_problem(dtype, trans, M, N, K, 0);
    clat_plan *plan = NULL;
    problem.tunables = tunables;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    for (int run = 0; run < RUNS; run++) {
        clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
        args.a = a, args.b = b, args.a_offset = a_offset;
        args.c = harness_buffer(bytes, NULL);
        assert_ok(clat_gemm_run(plan, harness_queue(), &args, 0, NULL, NULL));
        harness_read(args.c, 0, bytes, run == 0 ? first : again);
        clReleaseMemObject(args.c);
        if (run > 0 && memcmp(first, again, bytes) != 0)
            fail_msg("%s: run %d differs from the first", tunables, run);
    }
    clat_plan_release(plan);
    clReleaseMemObject(a);
    clReleaseMemObject(b);
    free(first);
    free(again);
}

static void test_repeated(void **state) {
    (void)state;
    need_hopper();
    static const char *const tunables[] = {
        "BM=128 BN=256 STAGES=4 SPLIT_K=1", "BM=64 BN=128 STAGES=8 SPLIT_K=1",
        "BM=128 BN=128 STAGES=4 SPLIT_K=4", "BM=256 BN=128 STAGES=3 SPLIT_K=5"};
    for (unsigned i = 0; i < 8; i++) /* every other one without a tensor map of A */
        check_repeated(CLAT_F16, i % 4, i % 2 ? 3 : 0, tunables[i / 2]);
    for (unsigned i = 0; i < 3; i++)
        check_repeated(CLAT_F32, i == 1 ? 3 : 0, i == 2 ? 3 : 0, tunables[i]);
    check_repeated(CLAT_F32, 2, 3, "BM=128 BN=256 STAGES=4 SPLIT_K=1 PAD=1");
}

/* ---- trials judge a sample of legal values at a size with many tiles ---- */

static void test_combinations(void **state) {
    enum { SAMPLES = 6 };
    const struct target *target = *state;
    const struct device *device = &harness_context()->device;
    need_hopper();
    clat_gemm_problem problem = make_problem(target->dtype, target->trans, 1333, 1197, 850, 2);
    struct gemm gemm;
    assert_ok(gemm_normalise(&gemm, &problem));
    struct combinations list = combinations_choose(&gemm_wgmma, device, &gemm, SAMPLES);
    assert_true(harness_full() || list.count == SAMPLES);
    for (size_t i = 0; i < list.count; i++) {
        struct text tunables = {0};
        clat_plan *plan = NULL;
        tunables_print(&gemm_wgmma, list.values[i], &tunables);
        problem.tunables = text_string(&tunables);
        assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
        check_by_trial(plan);
        text_free(&tunables);
        program_store_trim(&harness_context()->programs, 1);
    }
    combinations_free(&list);
}

/* ---- what the host decides, on any device ---- */

static void expect_support(bool expected, const char *word, struct device *device,
                           const clat_gemm_problem *problem) {
    char why[OP_WHY_BYTES] = "";
    struct gemm gemm;
    assert_ok(gemm_normalise(&gemm, problem));
    assert_int_equal(gemm_wgmma.supports(device, &gemm, why), expected);
    if (!expected && strstr(why, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, word);
}

static void test_declined(void **state) {
    (void)state;
    struct device device = hopper_device();
    for (unsigned trans = 0; trans < 4; trans++) {
        clat_gemm_problem problem = make_problem(CLAT_F16, trans, 64, 64, 64, 1);
        expect_support(true, "", &device, &problem);
        problem.dtype = CLAT_F32, problem.precision = CLAT_PRECISION_NATIVE;
        expect_support(true, "", &device, &problem);
        problem.precision = CLAT_PRECISION_F32;
        expect_support(false, "precision", &device, &problem);
    }
    clat_gemm_problem problem = make_problem(CLAT_BF16, 0, 64, 64, 64, 0);
    problem.dtype = CLAT_F64;
    expect_support(false, "f64", &device, &problem);
    problem = make_problem(CLAT_BF16, 0, 64, 64, 64, 0);
    problem.batch = 2, problem.batching = CLAT_BATCH_OFFSETS;
    expect_support(false, "offsets", &device, &problem);
    problem = make_problem(CLAT_BF16, 0, 64, 64, 64, (size_t)1 << 39);
    expect_support(false, "large", &device, &problem);
    device.verdict[CAP_WGMMA] = false;
    problem = make_problem(CLAT_BF16, 0, 64, 64, 64, 0);
    expect_support(false, "wgmma", &device, &problem);
    pthread_mutex_destroy(&device.probe_lock);
}

/* Of the smaller operand, where both lie across. */
static double turned_bytes(const struct gemm *gemm) {
    return (double)smaller(gemm->m, gemm->n) * (double)gemm->k * sizeof(cl_float);
}

/* Few elements are left to mma where an operand has to be turned. */
static void test_preferred(void **state) {
    (void)state;
    static const struct {
        unsigned trans;
        size_t m, n;
        bool preferred;
    } cases[] = {{0, 16, 4096, true},   {1, 16, 4096, true},   {2, 16, 4096, false},
                 {2, 4096, 64, false},  {2, 256, 4096, true},  {2, 4096, 256, true},
                 {2, 1024, 1024, true}, {2, 512, 1024, false}, {3, 16, 4096, true}};
    struct device device = hopper_device();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clat_gemm_problem problem =
            make_problem(CLAT_F32, cases[i].trans, cases[i].m, cases[i].n, 4096, 0);
        struct gemm gemm;
        assert_ok(gemm_normalise(&gemm, &problem));
        assert_int_equal(gemm_wgmma.prefers(&device, &gemm), cases[i].preferred);
    }
    pthread_mutex_destroy(&device.probe_lock);
}

static void test_guesses_fit(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 8, 64, 200, 1000, 5000, 100000};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    struct device device = hopper_device();
    const double most =
        0.95 * (double)device.max_alloc_bytes / 4; /* sums of slices take the rest */
    for (size_t i = 0; i < 2 * (size_t)SIZES * SIZES * SIZES; i++) {
        const bool turned = i % 2 == 1;
        const clat_gemm_problem problem =
            make_problem(turned ? CLAT_F32 : CLAT_F16, turned ? 2 : 0, sizes[i / 2 % SIZES],
                         sizes[i / 2 / SIZES % SIZES], sizes[i / 2 / SIZES / SIZES], 0);
        struct gemm gemm;
        char why[OP_WHY_BYTES];
        assert_ok(gemm_normalise(&gemm, &problem));
        if (gemm_wgmma.supports(&device, &gemm, why))
            check_guesses(&gemm_wgmma, &device, &gemm);
        else if (!turned || !strstr(why, "workspace") || turned_bytes(&gemm) < most)
            fail_msg("m=%zu n=%zu k=%zu: %s", problem.m, problem.n, problem.k, why);
    }
    pthread_mutex_destroy(&device.probe_lock);
}

int main(void) {
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        harness_add(targets[i].name, test_target, &targets[i]);
    harness_add("slices", test_slices, NULL);
    harness_add("epilogues", test_epilogues, NULL);
    harness_add("batches", test_batches, NULL);
    harness_add("column-major", test_column_major, NULL);
    harness_add("repeated", test_repeated, NULL);
    for (size_t i = 0; i < N_CHOSEN; i++)
        harness_add("combinations", test_combinations, &targets[chosen[i]]);
    harness_add("declined", test_declined, NULL);
    harness_add("preferred", test_preferred, NULL);
    harness_add("guesses fit", test_guesses_fit, NULL);
    return harness_run_added();
}
