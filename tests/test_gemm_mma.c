/*
 * GEMM on matrix engines, each of them emulated (cl/mma/emulated.clh), against the plain f64
 * reference; on a GPU with an engine, test_gemm and test_gemm_tunables run it as it is.
 */
#include "gemm_cases.h"
#include "tunables_cases.h"

#include "context.h"
#include "engine.h"
#include "ops/gemm.h"
#include "plan.h"

#include <stdio.h>
#include <string.h>

/* ---- engines x types ---- */

/* Small tiles, so that small shapes have many of them and edges on all sides. */
struct target {
    const char *engine;
    clat_dtype dtype;
    clat_transpose trans_a, trans_b;
    const char *tunables;
};

#define NV80 "BM=32 BN=32 BK=32 SUBS_M=1 SUBS_N=2 STAGES=3 GROUP=4"
#define NV75 "BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"
#define TF32 "BM=32 BN=32 BK=16 SUBS_M=2 SUBS_N=1 STAGES=4 GROUP=1"
#define DPAS16 "BM=32 BN=16 BK=32 SUBS_M=2 SUBS_N=2 STAGES=2 GROUP=4"
#define DPAS8 "BM=16 BN=32 BK=32 SUBS_M=2 SUBS_N=2 STAGES=2 GROUP=1"
#define MFMA "BM=32 BN=32 BK=32 SUBS_M=1 SUBS_N=2 STAGES=2 GROUP=4"
#define WMMA "BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"

/* Lines of several strips of chunks. */
#define NV80_STRIPS "BM=96 BN=96 BK=32 SUBS_M=2 SUBS_N=2 STAGES=3 GROUP=1"
#define MFMA_STRIPS "BM=96 BN=96 BK=32 SUBS_M=1 SUBS_N=2 STAGES=2 GROUP=1"

/* Every engine loads either operand plain and turned. f32 has C transposed where neither is
 * transposed. */
static const struct target targets[] = {
    {"nv_sm80", CLAT_F16, 0, 0, NV80},         {"nv_sm80", CLAT_F16, 1, 1, NV80},
    {"nv_sm80", CLAT_BF16, 0, 1, NV80},        {"nv_sm80", CLAT_BF16, 1, 0, NV80},
    {"nv_sm80", CLAT_F32, 0, 0, TF32},         {"nv_sm80", CLAT_F32, 1, 1, TF32},
    {"nv_sm75", CLAT_F16, 0, 1, NV75},         {"nv_sm75", CLAT_F16, 1, 0, NV75},
    {"intel_dpas16", CLAT_F16, 0, 0, DPAS16},  {"intel_dpas16", CLAT_BF16, 1, 1, DPAS16},
    {"intel_dpas8", CLAT_BF16, 0, 0, DPAS8},   {"intel_dpas8", CLAT_F16, 1, 1, DPAS8},
    {"amd_mfma", CLAT_F16, 0, 1, MFMA},        {"amd_mfma", CLAT_BF16, 1, 0, MFMA},
    {"amd_wmma12", CLAT_BF16, 0, 1, WMMA},     {"amd_wmma12", CLAT_F16, 1, 0, WMMA},
    {"amd_wmma11", CLAT_F16, 0, 0, WMMA},      {"amd_wmma11", CLAT_BF16, 1, 1, WMMA},
    {"nv_sm80", CLAT_F32, 1, 0, TF32},         {"nv_sm80", CLAT_BF16, 1, 0, NV80_STRIPS},
    {"amd_mfma", CLAT_F16, 1, 0, MFMA_STRIPS},
};

/* Nothing, ones, edges, whole tiles, several steps; leading dimensions whose lines are aligned to
 * chunks and those whose are not. */
static const struct {
    size_t m, n, k, padding;
} shapes[] = {
    {5, 3, 0, 0},    {1, 1, 1, 0},     {1, 33, 17, 3},  {64, 64, 96, 0},   {40, 72, 104, 8},
    {33, 31, 65, 1}, {67, 41, 130, 6}, {24, 8, 200, 0}, {96, 104, 136, 0},
};

/* Plans are cached by problem, which knows nothing of emulated engines. */
static void use_engine(const char *name) {
    clat_context *ctx = harness_context();
    plan_cache_clear(ctx);
    ctx->device.emulated_engine = name != NULL ? engine_named(name) : NULL;
}

static clat_gemm_problem make_problem(const struct target *target, size_t m, size_t n, size_t k,
                                      size_t padding) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.implementation = "mma";
    problem.tunables = target->tunables;
    problem.dtype = target->dtype;
    problem.trans_a = target->trans_a, problem.trans_b = target->trans_b;
    problem.precision = target->dtype == CLAT_F32 ? CLAT_PRECISION_NATIVE : CLAT_PRECISION_F32;
    problem.m = m, problem.n = n, problem.k = k;
    problem.lda = (problem.trans_a ? m : k) + padding;
    problem.ldb = (problem.trans_b ? k : n) + padding;
    problem.ldc = n + padding;
    return problem;
}

static void test_target(void **state) {
    const struct target *target = *state;
    use_engine(target->engine);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        char name[128];
        const clat_gemm_problem problem =
            make_problem(target, shapes[s].m, shapes[s].n, shapes[s].k, shapes[s].padding);
        snprintf(name, sizeof name, "%s m=%zu n=%zu k=%zu", target->engine, problem.m, problem.n,
                 problem.k);
        gemm_check(name, &problem, shapes[s].padding % 2 != 0);
    }
    use_engine(NULL);
}

/* ---- the rest of the operator, on engines whose sums lie differently ---- */

static void test_epilogues(void **state) {
    (void)state;
    static const unsigned on[] = {0, 13, 16}; /* nv_sm80, amd_mfma, amd_wmma11 */
    for (size_t i = 0; i < sizeof on / sizeof *on; i++) {
        use_engine(targets[on[i]].engine);
        clat_gemm_problem problem = make_problem(&targets[on[i]], 45, 56, 40, 0);
        problem.dtype_c = i == 0 ? CLAT_F32 : CLAT_DTYPE_DEFAULT;
        problem.bias = i == 1 ? CLAT_BIAS_ROW : CLAT_BIAS_COLUMN;
        problem.activation = i == 0 ? CLAT_ACT_GELU : i == 1 ? CLAT_ACT_RELU : CLAT_ACT_SILU;
        gemm_check("epilogue, aligned", &problem, false);
        problem.ldc = 59;
        gemm_check("epilogue, C not aligned", &problem, true);
    }
    use_engine(NULL);
}

static void test_batches(void **state) {
    (void)state;
    static const unsigned on[] = {3, 9}; /* nv_sm80, intel_dpas16 */
    for (size_t i = 0; i < sizeof on / sizeof *on; i++) {
        use_engine(targets[on[i]].engine);
        clat_gemm_problem problem = make_problem(&targets[on[i]], 35, 40, 72, 8);
        problem.batch = 3;
        problem.stride_a = i == 0 ? 0 : 5000, problem.stride_b = 8000;
        gemm_check("batch", &problem, false);
        problem.stride_b = 8003; /* only the first one aligned */
        gemm_check("batch, not aligned", &problem, false);
        problem.batching = CLAT_BATCH_OFFSETS;
        gemm_check_offsets("offsets", &problem);
    }
    use_engine(NULL);
}

/* Slices of k of all sizes, empty ones too, and a batch of them; the sums of whole lines of C and
 * of odd ones, with all that comes after. */
static void test_split(void **state) {
    static const struct {
        const char *tunables;
        unsigned target;
    } runs[] = {
        {NV80 " SPLIT_K=4", 0},  {TF32 " SPLIT_K=2", 4},   {TF32 " SPLIT_K=16", 5},
        {MFMA " SPLIT_K=4", 13}, {DPAS8 " SPLIT_K=2", 11},
    };
    static const size_t depths[] = {0, 5, 200};
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        use_engine(targets[runs[i].target].engine);
        for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
            const bool odd = (i + d) % 2 != 0;
            clat_gemm_problem problem =
                make_problem(&targets[runs[i].target], 40, odd ? 67 : 72, depths[d], odd);
            problem.tunables = runs[i].tunables;
            problem.bias = i == 1 ? CLAT_BIAS_ROW : CLAT_BIAS_COLUMN;
            problem.activation = i == 0 ? CLAT_ACT_NONE : CLAT_ACT_RELU;
            problem.batch = 1 + d;
            gemm_check("split", &problem, odd);
        }
    }
    use_engine(NULL);
}

static void test_column_major(void **state) {
    (void)state;
    use_engine("nv_sm80");
    clat_gemm_problem problem = make_problem(&targets[2], 45, 33, 70, 0);
    problem.layout = CLAT_COL_MAJOR;
    problem.lda = 45, problem.ldb = 33, problem.ldc = 48;
    gemm_check("column-major", &problem, true);
    use_engine(NULL);
}

/* ---- who takes what ---- */

static void expect_declined(const clat_gemm_problem *problem, const char *word) {
    clat_plan *plan = NULL;
    assert_status(CLAT_UNSUPPORTED, clat_gemm_plan(&plan, harness_context(), problem));
    assert_error_names("mma");
    assert_error_names(word);
    assert_null(plan);
}

static void test_declined(void **state) {
    (void)state;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 64;
    problem.implementation = "mma";
    use_engine("nv_sm80");
    expect_declined(&problem, "tf32");
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.dtype = CLAT_F64;
    expect_declined(&problem, "f64");
    use_engine("nv_sm75");
    problem.dtype = CLAT_BF16;
    expect_declined(&problem, "bf16");
    problem.dtype = CLAT_F32;
    expect_declined(&problem, "precision");
    use_engine(NULL);
}

/* MI200's products of denormals are 0: only with permission. */
static void test_denormals(void **state) {
    (void)state;
    struct device *device = &harness_context()->device;
    char architecture[sizeof device->architecture];
    clat_gemm_problem problem = make_problem(&targets[12], 32, 32, 32, 0);
    clat_plan *plan = NULL;
    memcpy(architecture, device->architecture, sizeof architecture);
    use_engine("amd_mfma");
    strcpy(device->architecture, "gfx90a");
    expect_declined(&problem, "denormal");
    problem.precision = CLAT_PRECISION_NATIVE;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    clat_plan_release(plan);
    memcpy(device->architecture, architecture, sizeof architecture);
    use_engine(NULL);
}

/* Where no engine takes tf32, f32 in native precision is the same problem as f32. */
static void test_native_f32(void **state) {
    (void)state;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    clat_plan *plans[2] = {NULL, NULL};
    problem.m = problem.n = problem.k = 20;
    for (int emulated = 0; emulated < 2; emulated++) {
        if (!emulated && engine_find(&harness_context()->device, CLAT_F32) != NULL)
            continue;
        use_engine(emulated ? "nv_sm80" : NULL);
        for (int native = 0; native < 2; native++) {
            problem.precision = native ? CLAT_PRECISION_NATIVE : CLAT_PRECISION_F32;
            assert_ok(clat_gemm_plan(&plans[native], harness_context(), &problem));
        }
        assert_int_equal(plans[0] != plans[1], emulated);
        clat_plan_release(plans[0]);
        clat_plan_release(plans[1]);
    }
    use_engine(NULL);
}

/* ---- tunables ---- */

/* A sample of legal values for an engine each; trials judge. */
static void test_combinations(void **state) {
    enum { SAMPLES = 3 };
    const struct target *target = *state;
    const struct device *device = &harness_context()->device;
    clat_gemm_problem problem = make_problem(target, 133, 197, 150, 2);
    struct gemm gemm;
    use_engine(target->engine);
    assert_ok(gemm_normalise(&gemm, &problem));
    struct combinations list = combinations_choose(&gemm_mma, device, &gemm, SAMPLES);
    assert_true(harness_full() || list.count == SAMPLES);
    for (size_t i = 0; i < list.count; i++) {
        struct text tunables = {0};
        clat_plan *plan = NULL;
        tunables_print(&gemm_mma, list.values[i], &tunables);
        problem.tunables = text_string(&tunables);
        assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
        check_by_trial(plan);
        text_free(&tunables);
        program_store_trim(&harness_context()->programs, 1);
    }
    combinations_free(&list);
    use_engine(NULL);
}

/* A guess is legal on every engine, whatever the shape. */
static void test_guesses_fit(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 8, 40, 200, 1000, 5000, 100000};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        use_engine(targets[i].engine);
        for (size_t s = 0; s < (size_t)SIZES * SIZES; s++) {
            const clat_gemm_problem problem =
                make_problem(&targets[i], sizes[s % SIZES], sizes[s / SIZES], 300, 0);
            struct gemm gemm;
            assert_ok(gemm_normalise(&gemm, &problem));
            check_guesses(&gemm_mma, &harness_context()->device, &gemm);
        }
    }
    use_engine(NULL);
}

int main(void) {
    static const unsigned sampled[] = {0, 4, 12};
    static char names[sizeof targets / sizeof *targets][64];
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const struct target *it = &targets[i];
        snprintf(names[i], sizeof names[i], "%s %s %c%c", it->engine, clat_dtype_name(it->dtype),
                 it->trans_a ? 'T' : 'N', it->trans_b ? 'T' : 'N');
        harness_add(names[i], test_target, it);
    }
    harness_add("epilogues", test_epilogues, NULL);
    harness_add("batches", test_batches, NULL);
    harness_add("split", test_split, NULL);
    harness_add("column-major", test_column_major, NULL);
    harness_add("declined", test_declined, NULL);
    harness_add("denormals", test_denormals, NULL);
    harness_add("native f32", test_native_f32, NULL);
    for (size_t i = 0; i < sizeof sampled / sizeof *sampled; i++)
        harness_add("combinations", test_combinations, &targets[sampled[i]]);
    harness_add("guesses fit", test_guesses_fit, NULL);
    return harness_run_added();
}
