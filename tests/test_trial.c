/* Trials: what they notice, and what they refuse. */
#include "dtype.h"
#include "harness.h"

#include <math.h>
#include <string.h>

enum { M = 9, N = 11, K = 7, LDC = 16 };

static clat_plan *make_plan(size_t n) {
    clat_plan *plan = NULL;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = M;
    problem.n = n;
    problem.k = K;
    problem.ldc = LDC;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    return plan;
}

static clat_verdict judge(clat_trial *trial, const clat_plan *plan) {
    clat_verdict verdict;
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    return verdict;
}

/* Adds to one element of an operand, counted from its first. */
static void disturb(const clat_trial *trial, const char *name, ptrdiff_t element, float by) {
    size_t offset = 0;
    float value;
    cl_mem buffer = clat_trial_buffer(trial, name, &offset);
    assert_non_null(buffer);
    const size_t at = (size_t)((ptrdiff_t)offset + element) * sizeof value;
    harness_read(buffer, at, sizeof value, &value);
    value = isnan(value) ? by : value + by;
    harness_write(buffer, at, sizeof value, &value);
}

static void test_notices(void **state) {
    (void)state;
    const struct {
        const char *name;
        ptrdiff_t element;
        float by;
        bool guards, ok;
    } cases[] = {
        {"c", 3 * LDC + 5, 1e-7f, true, true},            /* within rounding */
        {"c", 3 * LDC + 5, 1e-3f, true, false},           /* a wrong element */
        {"c", (M - 1) * LDC + N - 1, 1e-3f, true, false}, /* the last one */
        {"c", N, 1, false, false},                        /* padding between rows */
        {"c", -1, 1, false, false},                       /* just before */
        {"c", (M - 1) * LDC + N, 1, false, false},        /* just behind */
        {"a", 0, 1, false, false},                        /* an input that was written to */
        {"b", -3, 1, false, false},
    };
    clat_plan *plan = make_plan(N);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clat_trial *trial = NULL;
        assert_ok(clat_trial_create(&trial, plan, i));
        const clat_verdict before = judge(trial, plan);
        assert_true(before.ok && before.guards && before.worst <= before.bound);
        disturb(trial, cases[i].name, cases[i].element, cases[i].by);
        const clat_verdict after = judge(trial, NULL);
        assert_int_equal(after.guards, cases[i].guards);
        assert_int_equal(after.ok, cases[i].ok);
        if (!cases[i].ok && cases[i].guards)
            assert_true(after.worst > after.bound && strlen(after.where) > 0);
        /* Another run starts from clean outputs; inputs stay as they are. */
        if (cases[i].name[0] == 'c')
            assert_true(judge(trial, plan).ok);
        clat_trial_release(trial);
    }
    clat_plan_release(plan);
}

/* Nothing was run: NaN everywhere is a wrong result. */
static void test_poison(void **state) {
    (void)state;
    clat_plan *plan = make_plan(N);
    clat_trial *trial = NULL;
    assert_ok(clat_trial_create(&trial, plan, 1));
    const clat_verdict verdict = judge(trial, NULL);
    assert_true(verdict.guards && !verdict.ok && isinf(verdict.worst));
    clat_trial_release(trial);
    clat_plan_release(plan);
}

static void test_operands(void **state) {
    (void)state;
    clat_plan *plan = make_plan(N);
    clat_trial *a = NULL, *b = NULL, *other = NULL;
    size_t offset = 1;
    assert_ok(clat_trial_create(&a, plan, 5));
    assert_ok(clat_trial_create(&b, plan, 5));
    assert_ok(clat_trial_create(&other, plan, 6));
    const size_t bytes = M * K * sizeof(float);
    assert_memory_equal(clat_trial_host(a, "a"), clat_trial_host(b, "a"), bytes);
    assert_memory_not_equal(clat_trial_host(a, "a"), clat_trial_host(other, "a"), bytes);
    assert_null(clat_trial_buffer(a, "nothing", &offset));
    assert_int_equal(offset, 0);
    assert_null(clat_trial_host(a, "c")); /* an output */
    assert_null(clat_trial_host(NULL, "a"));
    assert_null(clat_trial_buffer(NULL, "a", NULL));
    assert_null(clat_trial_queue(NULL));
    clat_trial_release(a);
    clat_trial_release(b);
    clat_trial_release(other);
    clat_trial_release(NULL);
    clat_plan_release(plan);
}

static void test_refuses(void **state) {
    (void)state;
    clat_plan *plan = make_plan(N), *wider = make_plan(N + 1), *lists = NULL;
    clat_trial *trial = (clat_trial *)plan;
    clat_verdict verdict;
    double seconds = 0;
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_create(NULL, plan, 0));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_create(&trial, NULL, 0));
    assert_null(trial);
    assert_ok(clat_trial_create(&trial, plan, 0));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_time(NULL, plan, 1, &seconds));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_time(trial, NULL, 1, &seconds));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_time(trial, plan, 0, &seconds));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_time(trial, plan, 1, NULL));
    assert_status(CLAT_INVALID_PLAN, clat_trial_time(trial, wider, 1, &seconds));
    assert_status(CLAT_INVALID_PLAN, clat_trial_verify(trial, wider, &verdict));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_verify(NULL, plan, &verdict));
    assert_status(CLAT_INVALID_ARGUMENT, clat_trial_verify(trial, plan, NULL));
    assert_ok(clat_trial_time(trial, plan, 3, &seconds));
    assert_true(seconds > 0);

    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 4;
    problem.batching = CLAT_BATCH_OFFSETS;
    assert_ok(clat_gemm_plan(&lists, harness_context(), &problem));
    clat_trial *none = NULL;
    assert_status(CLAT_UNSUPPORTED, clat_trial_create(&none, lists, 0));
    assert_null(none);
    clat_trial_release(trial);
    clat_plan_release(plan);
    clat_plan_release(wider);
    clat_plan_release(lists);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_notices),
    cmocka_unit_test(test_poison),
    cmocka_unit_test(test_operands),
    cmocka_unit_test(test_refuses),
};
HARNESS_MAIN(tests)
