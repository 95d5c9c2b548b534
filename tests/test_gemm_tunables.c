/*
 * Every legal combination of tunables builds and computes right: a sample of them, or all
 * (tunables_cases.h). Each is judged by a trial, on an awkward shape in one of eight variants.
 */
#include "tunables_cases.h"

#include "context.h"
#include "ops/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 12 };

static const struct implementation *const implementations[] = {
    &gemm_cpu, &gemm_dot_cpu, &gemm_tile_cpu, &gemm_simt, &gemm_mma};

static clat_gemm_problem make_problem(const struct implementation *impl, unsigned variant) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.implementation = impl->name;
    problem.m = 133, problem.n = 197, problem.k = 300;
    problem.lda = 303, problem.ldc = 201;
    problem.trans_b = variant % 2 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.trans_a = variant % 4 >= 2 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.dtype = variant % 8 >= 4 ? CLAT_BF16 : CLAT_F32;
    if (impl == &gemm_mma) {
        problem.dtype = variant % 8 >= 4 ? CLAT_BF16 : CLAT_F16;
        problem.dtype_c = variant % 8 >= 6 ? CLAT_F32 : CLAT_DTYPE_DEFAULT;
        problem.lda = 304, problem.ldc = variant % 3 ? 201 : 200; /* aligned, now and then */
    }
    if (impl == &gemm_tile_cpu) {
        problem.dtype = CLAT_BF16;
        problem.dtype_c = variant % 8 >= 4 ? CLAT_F32 : CLAT_BF16;
        problem.precision = CLAT_PRECISION_NATIVE;
        problem.k = 320, problem.lda = 323; /* so that rows may be read in place */
    }
    if (impl == &gemm_dot_cpu) { /* a few rows, and lines along k */
        problem.m = 23, problem.k = 1100, problem.lda = 1103;
        problem.trans_b = CLAT_TRANS;
    }
    return problem;
}

/* The next variant for which the values are legal; the first one, which all were chosen for, is. */
static clat_gemm_problem next_problem(const struct implementation *impl, const int *values,
                                      unsigned variant) {
    for (;; variant++) {
        const clat_gemm_problem problem = make_problem(impl, variant);
        struct gemm gemm;
        assert_ok(gemm_normalise(&gemm, &problem));
        if (impl->fits(&harness_context()->device, &gemm, values))
            return problem;
    }
}

static void verify(const struct implementation *impl, const int *values, unsigned variant) {
    struct text tunables = {0};
    clat_plan *plan = NULL;
    clat_gemm_problem problem = next_problem(impl, values, variant);
    tunables_print(impl, values, &tunables);
    problem.tunables = text_string(&tunables);
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    assert_string_equal(clat_plan_get_info(plan)->tunables, problem.tunables);
    assert_string_equal(clat_plan_get_info(plan)->tunables_from, "caller");
    check_by_trial(plan);
    text_free(&tunables);
    program_store_trim(&harness_context()->programs, 1);
}

static void test_combinations(void **state) {
    const struct implementation *impl = *(const struct implementation *const *)*state;
    struct device *device = &harness_context()->device;
    const clat_gemm_problem example = make_problem(impl, 0);
    struct gemm gemm;
    char why[OP_WHY_BYTES];
    assert_ok(gemm_normalise(&gemm, &example));
    if (!impl->supports(device, &gemm, why))
        skip();
    struct combinations list = combinations_choose(impl, device, &gemm, SAMPLES);
    assert_true(harness_full() || list.count == SAMPLES);
    for (size_t i = 0; i < list.count; i++)
        verify(impl, list.values[i], (unsigned)i);
    combinations_free(&list);
}

static void check_guess_of(const struct implementation *impl, const clat_gemm_problem *problem) {
    struct device *device = &harness_context()->device;
    struct gemm gemm;
    char why[OP_WHY_BYTES];
    assert_ok(gemm_normalise(&gemm, problem));
    if (impl->supports(device, &gemm, why))
        check_guesses(impl, device, &gemm);
}

/* A guess is legal, whatever the shape, also where a batch that reads the same matrix again and
 * again leaves little memory for what is packed and for sums. */
static void test_guesses_fit(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 40, 100, 1000, 5000, 100000};
    static const size_t depths[] = {64, 300, 5000}, batches[] = {1, 20000};
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64, CLAT_F16, CLAT_BF16};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++)
        for (size_t s = 0; s < (size_t)SIZES * SIZES * 4 * 6; s++) {
            clat_gemm_problem problem = make_problem(implementations[i], 0);
            const size_t rest = s / SIZES / SIZES;
            problem.m = sizes[s % SIZES], problem.n = sizes[s / SIZES % SIZES];
            problem.dtype = dtypes[rest % 4];
            problem.k = depths[rest / 4 % 3];
            problem.batch = batches[rest / 12];
            problem.dtype_c = CLAT_DTYPE_DEFAULT;
            problem.lda = problem.ldb = problem.ldc = 0;
            check_guess_of(implementations[i], &problem);
        }
}

/* The trial's other variants: widened output, epilogue, batches, column-major. */
static void test_trials(void **state) {
    (void)state;
    clat_gemm_problem problems[3];
    for (unsigned i = 0; i < 3; i++)
        problems[i] = (clat_gemm_problem)CLAT_GEMM_PROBLEM_INIT;
    problems[0].m = 45, problems[0].n = 67, problems[0].k = 89;
    problems[0].dtype = CLAT_F16, problems[0].dtype_c = CLAT_F32;
    problems[0].bias = CLAT_BIAS_ROW, problems[0].activation = CLAT_ACT_GELU;
    problems[1].m = 31, problems[1].n = 17, problems[1].k = 300;
    problems[1].layout = CLAT_COL_MAJOR, problems[1].trans_b = CLAT_TRANS;
    problems[1].batch = 3, problems[1].stride_a = 31 * 300;
    problems[2].m = problems[2].n = 400, problems[2].k = 300; /* too much to judge it all */
    for (unsigned i = 0; i < 3; i++) {
        clat_plan *plan = NULL;
        clat_trial *trial = NULL;
        clat_verdict verdict;
        assert_ok(clat_gemm_plan(&plan, harness_context(), &problems[i]));
        assert_ok(clat_trial_create(&trial, plan, i));
        assert_ok(clat_trial_verify(trial, NULL, &verdict));
        assert_false(verdict.ok); /* nothing has been computed yet */
        assert_ok(clat_trial_verify(trial, plan, &verdict));
        assert_true(verdict.ok);
        clat_trial_release(trial);
        clat_plan_release(plan);
    }
}

int main(void) {
    harness_add("cpu combinations", test_combinations, &implementations[0]);
    harness_add("cpu_dot combinations", test_combinations, &implementations[1]);
    harness_add("cpu_tile combinations", test_combinations, &implementations[2]);
    harness_add("simt combinations", test_combinations, &implementations[3]);
    harness_add("mma combinations", test_combinations, &implementations[4]);
    harness_add("guesses fit", test_guesses_fit, NULL);
    harness_add("trials", test_trials, NULL);
    return harness_run_added();
}
