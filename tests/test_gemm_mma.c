/*
 * GEMM on matrix engines, each of them emulated (cl/mma/emulated.clh), against the plain f64
 * reference; on a GPU with an engine, test_gemm and test_gemm_tunables run it as it is.
 */
#include "gemm_cases.h"

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
#define DPAS8 "BM=16 BN=32 BK=32 SUBS_M=1 SUBS_N=2 STAGES=2 GROUP=1"
#define MFMA "BM=32 BN=32 BK=32 SUBS_M=1 SUBS_N=2 STAGES=2 GROUP=4"
#define WMMA "BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"

/* Every engine loads either operand plain and turned. */
static const struct target targets[] = {
    {"nv_sm80", CLAT_F16, 0, 0, NV80},        {"nv_sm80", CLAT_F16, 1, 1, NV80},
    {"nv_sm80", CLAT_BF16, 0, 1, NV80},       {"nv_sm80", CLAT_BF16, 1, 0, NV80},
    {"nv_sm80", CLAT_F32, 0, 0, TF32},        {"nv_sm80", CLAT_F32, 1, 1, TF32},
    {"nv_sm75", CLAT_F16, 0, 1, NV75},        {"nv_sm75", CLAT_F16, 1, 0, NV75},
    {"intel_dpas16", CLAT_F16, 0, 0, DPAS16}, {"intel_dpas16", CLAT_BF16, 1, 1, DPAS16},
    {"intel_dpas8", CLAT_BF16, 0, 0, DPAS8},  {"intel_dpas8", CLAT_F16, 1, 1, DPAS8},
    {"amd_mfma", CLAT_F16, 0, 1, MFMA},       {"amd_mfma", CLAT_BF16, 1, 0, MFMA},
    {"amd_wmma12", CLAT_BF16, 0, 1, WMMA},    {"amd_wmma12", CLAT_F16, 1, 0, WMMA},
    {"amd_wmma11", CLAT_F16, 0, 0, WMMA},     {"amd_wmma11", CLAT_BF16, 1, 1, WMMA},
};

/* Nothing, ones, edges, whole tiles, several steps; leading dimensions whose lines are aligned to
 * chunks and those whose are not. */
static const struct {
    size_t m, n, k, padding;
} shapes[] = {
    {5, 3, 0, 0},     {1, 1, 1, 0},    {1, 33, 17, 3},   {64, 64, 96, 0},
    {40, 72, 104, 8}, {33, 31, 65, 1}, {67, 41, 130, 6}, {24, 8, 200, 0},
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

int main(void) {
    static char names[sizeof targets / sizeof *targets][64];
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const struct target *it = &targets[i];
        snprintf(names[i], sizeof names[i], "%s %s %c%c", it->engine, clat_dtype_name(it->dtype),
                 it->trans_a ? 'T' : 'N', it->trans_b ? 'T' : 'N');
        harness_add(names[i], test_target, it);
    }
    return harness_run_added();
}
