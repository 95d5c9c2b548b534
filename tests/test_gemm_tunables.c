/*
 * Every legal combination of tunables builds and computes right: a seeded sample of them, all with
 * CLATTICE_TEST_FULL. Each is judged by a trial, on an awkward shape in each of two variants.
 */
#include "harness.h"

#include "context.h"
#include "ops/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 6 };

static const struct implementation *const implementations[] = {&gemm_cpu, &gemm_simt};

static clat_gemm_problem make_problem(const struct implementation *impl, unsigned variant) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.implementation = impl->name;
    problem.m = 133, problem.n = 197, problem.k = 300;
    problem.lda = 303, problem.ldc = 201;
    problem.trans_b = variant % 2 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.trans_a = variant % 4 >= 2 ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.dtype = variant % 8 >= 4 ? CLAT_BF16 : CLAT_F32;
    return problem;
}

/* Counts up through all combinations of candidates; false after the last. */
static bool next_combination(const struct implementation *impl, unsigned *index) {
    for (unsigned i = 0; i < impl->n_tunables; i++) {
        if (++index[i] < tunable_count(&impl->tunables[i]))
            return true;
        index[i] = 0;
    }
    return false;
}

static void set_values(const struct implementation *impl, const unsigned *index, int *values) {
    for (unsigned i = 0; i < impl->n_tunables; i++)
        values[i] = impl->tunables[i].candidates[index[i]];
}

static void verify(const struct implementation *impl, const int *values, unsigned variant) {
    struct text tunables = {0};
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    clat_gemm_problem problem = make_problem(impl, variant);
    tunables_print(impl, values, &tunables);
    problem.tunables = text_string(&tunables);
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    assert_string_equal(clat_plan_get_info(plan)->tunables, problem.tunables);
    assert_string_equal(clat_plan_get_info(plan)->tunables_from, "caller");
    assert_ok(clat_trial_create(&trial, plan, 7));
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    if (!verdict.ok)
        fail_msg("%s %s is wrong at %s by %g, bound %g; guards %d", impl->name, problem.tunables,
                 verdict.where, verdict.worst, verdict.bound, verdict.guards);
    clat_trial_release(trial);
    clat_plan_release(plan);
    text_free(&tunables);
}

/* The legal ones; then `count` of them in random order. */
static void test_combinations(void **state) {
    const struct implementation *impl = *(const struct implementation *const *)*state;
    struct device *device = &harness_context()->device;
    const clat_gemm_problem example = make_problem(impl, 0);
    struct gemm gemm;
    char why[OP_WHY_BYTES];
    assert_ok(gemm_normalise(&gemm, &example));
    if (!impl->supports(device, &gemm, why))
        skip();

    unsigned index[OP_MAX_TUNABLES] = {0};
    size_t legal = 0, capacity = 1024;
    int(*values)[OP_MAX_TUNABLES] = harness_alloc(capacity * sizeof *values);
    do {
        if (legal == capacity) {
            capacity *= 2;
            values = realloc(values, capacity * sizeof *values);
            assert_non_null(values);
        }
        set_values(impl, index, values[legal]);
        legal += impl->fits(device, &gemm, values[legal]);
    } while (next_combination(impl, index));
    print_message("%s: %zu legal combinations\n", impl->name, legal);
    assert_true(legal >= SAMPLES);

    uint64_t seed = 20;
    const size_t count = harness_full() ? legal : SAMPLES;
    for (size_t i = 0; i < count; i++) {
        const size_t other = i + harness_random_below(&seed, legal - i);
        int swap[OP_MAX_TUNABLES];
        memcpy(swap, values[i], sizeof swap);
        memcpy(values[i], values[other], sizeof swap);
        memcpy(values[other], swap, sizeof swap);
        verify(impl, values[i], (unsigned)i);
    }
    free(values);
}

/* A guess is legal, whatever the shape. */
static void test_guesses_fit(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 40, 100, 1000, 5000, 100000};
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64, CLAT_F16, CLAT_BF16};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    struct device *device = &harness_context()->device;
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++)
        for (size_t s = 0; s < (size_t)SIZES * SIZES * 4; s++) {
            const struct implementation *impl = implementations[i];
            clat_gemm_problem problem = make_problem(impl, 0);
            struct gemm gemm;
            struct text text = {0};
            int values[OP_MAX_TUNABLES] = {0}, parsed[OP_MAX_TUNABLES] = {0};
            char why[OP_WHY_BYTES];
            problem.m = sizes[s % SIZES], problem.n = sizes[s / SIZES % SIZES];
            problem.dtype = dtypes[s / SIZES / SIZES];
            problem.lda = problem.ldc = 0;
            assert_ok(gemm_normalise(&gemm, &problem));
            if (!impl->supports(device, &gemm, why))
                continue;
            impl->guess(device, &gemm, values);
            assert_true(impl->fits(device, &gemm, values));
            tunables_print(impl, values, &text);
            assert_ok(tunables_parse(impl, text_string(&text), parsed)); /* all are candidates */
            assert_memory_equal(values, parsed, sizeof values);
            text_free(&text);
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
    harness_add("simt combinations", test_combinations, &implementations[1]);
    harness_add("guesses fit", test_guesses_fit, NULL);
    harness_add("trials", test_trials, NULL);
    return harness_run_added();
}
