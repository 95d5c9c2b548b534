/*
 * bf16 GEMM in native precision, also by instructions that this CPU lacks or is slow at: products
 * of pairs by the instruction where there is one, and everywhere by an emulation (emulated_dot.h).
 * So how pairs are packed is tested on every CPU. Trials judge.
 */
#include "emulated_dot.h"

#include "context.h"
#include "host_cpu.h"
#include "ops/gemm.h"

#include <stdio.h>
#include <string.h>

/* ---- contexts in which pairs are multiplied */

/* Kernels from `kernels`, or NULL: from the source tree, with the instruction. */
static clat_context *pairing_context(const char *kernels) {
    clat_context *ctx = NULL;
    clat_context_options options = harness_options();
    if (kernels != NULL)
        options.kernel_dir = kernels;
    assert_ok(clat_context_create(&ctx, &options));
    ctx->device.verdict[CAP_BF16_DOT] = 1;
    ctx->device.verdict[CAP_BF16_TILE] = 0;
    return ctx;
}

/* ---- problems */

/* Tiles are small, so that there are many of them. NULL: the library's choice. */
static const struct {
    const char *name, *tunables;
} choices[] = {
    {NULL, NULL},
    {"cpu", "VW=16 MR=2 NV=1 KC=64 MC=24 NC=64 UNROLL_K=1 PACK_A=1 PACK_B=1 SHARED=0 SPLIT_K=1 "
            "SWAP=0"},
    {"cpu", "VW=16 MR=6 NV=1 KC=128 MC=24 NC=64 UNROLL_K=4 PACK_A=1 PACK_B=1 SHARED=1 SPLIT_K=1 "
            "SWAP=1"},
    {"cpu", "VW=16 MR=4 NV=1 KC=16 MC=24 NC=64 UNROLL_K=4 PACK_A=1 PACK_B=0 SHARED=1 SPLIT_K=2 "
            "SWAP=0"},
    {"cpu", "VW=16 MR=2 NV=2 KC=64 MC=24 NC=64 UNROLL_K=1 PACK_A=1 PACK_B=0 SHARED=0 SPLIT_K=1 "
            "SWAP=1"},
    {"cpu_dot", "VW=16 MR=2 NB=2 KC=256 SPLIT_K=1"},
    {"cpu_dot", "VW=16 MR=1 NB=4 KC=512 SPLIT_K=4"},
};

/* Odd and even k, whole pairs and registers, edges on all sides; few long rows. */
static const struct {
    size_t m, n, k, padding;
} shapes[] = {{1, 1, 1, 0},     {5, 33, 7, 1},    {37, 41, 66, 0}, {64, 96, 128, 2},
              {29, 70, 301, 3}, {3, 50, 1030, 0}, {50, 2, 2049, 1}};

enum { SHAPES = sizeof shapes / sizeof *shapes, CHOICES = sizeof choices / sizeof *choices };

static clat_gemm_problem make_problem(unsigned choice, unsigned shape, unsigned transposes) {
    const size_t m = shapes[shape].m, n = shapes[shape].n, k = shapes[shape].k;
    const size_t padding = shapes[shape].padding;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.implementation = choices[choice].name;
    problem.tunables = choices[choice].tunables;
    problem.dtype = CLAT_BF16;
    problem.dtype_c = shape % 2 ? CLAT_F32 : CLAT_BF16;
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.trans_a = transposes & 1 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.trans_b = transposes & 2 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.m = m, problem.n = n, problem.k = k;
    problem.lda = (problem.trans_a ? m : k) + padding;
    problem.ldb = (problem.trans_b ? k : n) + padding;
    problem.ldc = n + padding;
    return problem;
}

/* False where these values are not for this problem. */
static bool judge(clat_verdict *verdict, clat_context *ctx, const clat_gemm_problem *problem) {
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    const clat_status status = clat_gemm_plan(&plan, ctx, problem);
    if (problem->implementation != NULL &&
        (status == CLAT_UNSUPPORTED || status == CLAT_INVALID_TUNABLES))
        return false;
    assert_ok(status);
    assert_ok(clat_trial_create(&trial, plan, 11));
    assert_ok(clat_trial_verify(trial, plan, verdict));
    clat_trial_release(trial);
    clat_plan_release(plan);
    return true;
}

static void check_pairs(clat_context *ctx) {
    for (unsigned choice = 0; choice < CHOICES; choice++) {
        unsigned taken = 0;
        for (unsigned i = 0; i < SHAPES * 4; i++) {
            const clat_gemm_problem problem = make_problem(choice, i / 4, i % 4);
            clat_verdict verdict;
            if (!judge(&verdict, ctx, &problem))
                continue;
            taken++;
            if (!verdict.ok)
                fail_msg("%s %s, %zu x %zu x %zu, transposes %u: wrong at %s by %g, bound %g, "
                         "guards %d",
                         choices[choice].name ? choices[choice].name : "the choice",
                         choices[choice].tunables ? choices[choice].tunables : "", problem.m,
                         problem.n, problem.k, i % 4, verdict.where, verdict.worst, verdict.bound,
                         verdict.guards);
        }
        assert_true(taken > 0);
    }
    clat_context_release(ctx);
}

/* ---- cases */

static void test_emulation(void **state) {
    (void)state;
    if (!harness_device_is_cpu())
        skip();
    check_pairs(pairing_context(emulated_dot_kernels(DOT_WHOLE)));
}

/* Only PoCL's compiler is known to take the instruction. */
static void test_instruction(void **state) {
    (void)state;
    const struct device *device = &harness_context()->device;
    if (device->vendor != VENDOR_POCL || device->f32_lanes < 16 || !host_has_bf16_dot())
        skip();
    check_pairs(pairing_context(NULL));
}

/* An emulation that forgets half of each pair is found out: it is what runs, and trials see it. */
static void test_half_an_emulation(void **state) {
    (void)state;
    if (!harness_device_is_cpu())
        skip();
    clat_context *ctx = pairing_context(emulated_dot_kernels(DOT_HALF));
    for (unsigned choice = 1; choice < CHOICES; choice++)
        for (unsigned i = 4; i < SHAPES * 4; i++) {
            const clat_gemm_problem problem = make_problem(choice, i / 4, i % 4);
            clat_verdict verdict;
            if (judge(&verdict, ctx, &problem))
                assert_false(verdict.ok);
        }
    clat_context_release(ctx);
}

/* Where there are tiles they are chosen, but not for a few rows that are packed only to be used
 * once, nor in f32. */
static void test_tiles_are_chosen(void **state) {
    (void)state;
    static const struct {
        size_t m;
        clat_precision precision;
        bool tiles;
    } cases[] = {{256, CLAT_PRECISION_NATIVE, true},
                 {256, CLAT_PRECISION_F32, false},
                 {3, CLAT_PRECISION_NATIVE, false}};
    const bool can = device_can(&harness_context()->device, CAP_BF16_TILE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clat_plan *plan = NULL;
        clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
        problem.m = cases[i].m, problem.n = 256, problem.k = 128;
        problem.dtype = CLAT_BF16;
        problem.precision = cases[i].precision;
        assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
        const bool tiles = strcmp(clat_plan_get_info(plan)->implementation, "cpu_tile") == 0;
        assert_int_equal(tiles, can && cases[i].tiles);
        clat_plan_release(plan);
    }
}

/* What the guesses make of shapes that call for each of them: small, few lines of either operand,
 * in place or packed, large, k to be shared. */
static void test_tile_guesses(void **state) {
    (void)state;
    static const size_t shaped[][3] = {{96, 130, 64},    {50, 90, 77},     {700, 40, 1024},
                                       {30, 1500, 1200}, {400, 900, 2000}, {33, 40, 5000}};
    if (!device_can(&harness_context()->device, CAP_BF16_TILE))
        skip();
    for (unsigned i = 0; i < sizeof shaped / sizeof *shaped * 4; i++) {
        clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
        clat_verdict verdict;
        problem.m = shaped[i / 4][0], problem.n = shaped[i / 4][1], problem.k = shaped[i / 4][2];
        problem.dtype = CLAT_BF16;
        problem.precision = CLAT_PRECISION_NATIVE;
        problem.trans_a = i & 1 ? CLAT_TRANS : CLAT_NO_TRANS;
        problem.trans_b = i & 2 ? CLAT_TRANS : CLAT_NO_TRANS;
        judge(&verdict, harness_context(), &problem);
        if (!verdict.ok)
            fail_msg("%zu x %zu x %zu, transposes %u: wrong at %s by %g, bound %g, guards %d",
                     problem.m, problem.n, problem.k, i % 4, verdict.where, verdict.worst,
                     verdict.bound, verdict.guards);
    }
}

int main(void) {
    harness_add("pairs by emulation", test_emulation, NULL);
    harness_add("pairs by instruction", test_instruction, NULL);
    harness_add("half an emulation", test_half_an_emulation, NULL);
    harness_add("tiles are chosen", test_tiles_are_chosen, NULL);
    harness_add("tile guesses", test_tile_guesses, NULL);
    return harness_run_added();
}
