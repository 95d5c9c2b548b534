/*
 * Every legal combination of tunables builds and computes right: a sample of them, or all
 * (tunables_cases.h). And trials themselves: awkward relatives of all kinds of problems, and wrong
 * results that must not pass.
 */
#include "mask_cases.h"
#include "tunables_cases.h"

#include "context.h"
#include "engine.h"
#include "ops/attention.h"
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = 4, SAMPLES = 1 /* of each */ };

static const struct implementation *const implementations[] = {
    &attention_cpu, &attention_simt,  &attention_decode,     &attention_tile_cpu,
    &attention_mma, &attention_wgmma, &attention_decode_simt};

enum { N_IMPLEMENTATIONS = sizeof implementations / sizeof *implementations };

static clat_attention_problem make_problem(unsigned variant) {
    static const size_t dims[] = {64, 40, 128, 19};
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.heads = 2, problem.kv_heads = 1;
    problem.seq_q = 133, problem.seq_k = 197;
    problem.head_dim = dims[variant % 4];
    problem.dtype = variant % 4 == 1 ? CLAT_BF16 : CLAT_F32;
    problem.logsumexp = true;
    return problem;
}

/* Those that take nothing else. */
static void make_native(const struct implementation *impl, clat_attention_problem *problem) {
    if (impl != &attention_tile_cpu && impl != &attention_mma && impl != &attention_wgmma)
        return;
    if (impl == &attention_tile_cpu || problem->dtype != CLAT_BF16)
        problem->dtype = impl == &attention_tile_cpu ? CLAT_BF16 : CLAT_F16;
    if (impl == &attention_wgmma)
        problem->head_dim = (problem->head_dim + 7) / 8 * 8;
    problem->precision = CLAT_PRECISION_NATIVE;
}

/* Plans belong to the engine that they were made for. NULL: the device's own. */
static void use_engine(const struct engine *engine) {
    plan_cache_clear(harness_context());
    harness_context()->device.emulated_engine = engine;
}

/* Queries. */
static bool is_for_few(const struct implementation *impl) {
    return impl == &attention_decode || impl == &attention_decode_simt;
}

static void verify(const clat_attention_problem *problem) {
    clat_plan *plan = NULL;
    assert_ok(clat_attention_plan(&plan, harness_context(), problem));
    check_by_trial(plan);
}

/* Head dimensions that are no multiple of a vector: elements of f16 and bf16 lie at odd addresses.
 * With guesses, so that vectors are as long as the device's. */
static void test_odd_dimensions(void **state) {
    (void)state;
    static const size_t dims[] = {17, 20, 31, 100};
    for (unsigned i = 0; i < 16; i++) {
        clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
        problem.heads = 2;
        problem.head_dim = dims[i % 4];
        problem.dtype = i / 4 % 2 ? CLAT_BF16 : CLAT_F16;
        problem.seq_q = i / 8 ? 40 : 1;
        problem.seq_k = 77;
        verify(&problem);
    }
}

/* A sample of the combinations that are legal for the problem; false where it is declined. */
static bool verify_sample(const struct implementation *impl, clat_attention_problem problem) {
    struct device *device = &harness_context()->device;
    struct attention attention;
    char why[OP_WHY_BYTES];
    assert_ok(attention_normalise(&attention, &problem));
    if (!impl->supports(device, &attention, why))
        return false;
    struct combinations list = combinations_choose(impl, device, &attention, SAMPLES);
    assert_true(harness_full() || list.count == SAMPLES);
    for (size_t i = 0; i < list.count; i++) {
        struct text tunables = {0};
        tunables_print(impl, list.values[i], &tunables);
        problem.implementation = impl->name;
        problem.tunables = text_string(&tunables);
        verify(&problem);
        text_free(&tunables);
        program_store_trim(&harness_context()->programs, 1);
    }
    combinations_free(&list);
    return true;
}

static void test_combinations(void **state) {
    const struct implementation *impl = *(const struct implementation *const *)*state;
    for (unsigned variant = 0; variant < VARIANTS; variant++) {
        clat_attention_problem problem = make_problem(variant);
        if (is_for_few(impl))
            problem.seq_q = 3, problem.seq_k = 1097;
        make_native(impl, &problem);
        if (!verify_sample(impl, problem))
            skip();
    }
}

/* The same, emulated, for every matrix engine. */
static void test_engines(void **state) {
    (void)state;
    for (unsigned e = 0; e < n_engines; e++) {
        clat_attention_problem problem = make_problem(0);
        problem.seq_q = 70, problem.seq_k = 90; /* emulation takes its time */
        problem.head_dim = 12;
        make_native(&attention_mma, &problem);
        use_engine(&engines[e]);
        print_message("%s, ", engines[e].name);
        assert_true(verify_sample(&attention_mma, problem));
    }
    use_engine(NULL);
}

/* Whatever the engine: some head dimensions are too large for some. */
static void test_engine_guesses_fit(void **state) {
    (void)state;
    for (size_t n = 0; n < n_engines * ATTENTION_MAX_DIM; n++) {
        clat_attention_problem problem = make_problem(0);
        struct attention attention;
        char why[OP_WHY_BYTES];
        problem.head_dim = n / n_engines + 1;
        make_native(&attention_mma, &problem);
        use_engine(&engines[n % n_engines]);
        assert_ok(attention_normalise(&attention, &problem));
        if (attention_mma.supports(&harness_context()->device, &attention, why))
            check_guesses(&attention_mma, &harness_context()->device, &attention);
        else
            assert_true(problem.head_dim > 64);
    }
    use_engine(NULL);
}

/* A guess is legal, for every head dimension and mask. */
static void test_guesses_fit(void **state) {
    (void)state;
    struct device *device = &harness_context()->device;
    for (size_t n = 0; n < N_IMPLEMENTATIONS * n_mask_cases; n++) {
        const struct implementation *impl = implementations[n % N_IMPLEMENTATIONS];
        const size_t seq_q = is_for_few(impl) ? 3 : 133;
        clat_mask *mask = mask_cases[n / N_IMPLEMENTATIONS].make((uint32_t)seq_q, 197);
        for (size_t dim = 1; dim <= ATTENTION_MAX_DIM; dim++) {
            clat_attention_problem problem = make_problem(0);
            struct attention attention;
            char why[OP_WHY_BYTES];
            problem.heads = 4;
            problem.seq_q = seq_q;
            problem.head_dim = dim;
            problem.mask = mask;
            make_native(impl, &problem);
            assert_ok(attention_normalise(&attention, &problem));
            if (!impl->supports(device, &attention, why))
                continue;
            check_guesses(impl, device, &attention);
        }
        clat_mask_release(mask);
    }
}

/* ---- trials */

/* Relatives share the program of their problem, so only the problems build any. */
static void test_awkward(void **state) {
    (void)state;
    static const struct {
        const char *mask;
        uint32_t seq_q;
    } kinds[] = {{"dense", 133},  {"sliding", 133},      {"longformer", 133},
                 {"blocks", 133}, {"blocks_heads", 133}, {"dense", 1}};
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        clat_attention_problem problem = make_problem(0);
        clat_mask *mask = mask_case_named(kinds[n].mask)->make(kinds[n].seq_q, 197);
        struct attention attention, relative;
        problem.seq_q = kinds[n].seq_q;
        problem.heads = 4, problem.kv_heads = 2;
        problem.head_dim = 32;
        problem.mask = mask;
        verify(&problem);
        assert_ok(attention_normalise(&attention, &problem));
        unsigned count = 0;
        for (; attention_trial.awkward(&attention, count, &relative); count++) {
            clat_plan *plan = NULL;
            clat_trial *trial = NULL;
            clat_verdict verdict;
            struct shape shape[2];
            attention_operation.shape(&attention, &shape[0]);
            attention_operation.shape(&relative, &shape[1]);
            assert_string_equal(shape[0].variant, shape[1].variant);
            assert_int_equal(relative.seq_q > 4, attention.seq_q > 4); /* as many for "decode" */
            assert_ok(
                plan_create(&plan, harness_context(), &attention_operation, &relative, NULL, NULL));
            assert_ok(clat_trial_create(&trial, plan, count));
            assert_ok(clat_trial_verify(trial, plan, &verdict));
            if (!verdict.ok)
                fail_msg("%s is wrong at %s", clat_plan_get_info(plan)->problem, verdict.where);
            clat_trial_release(trial);
            clat_plan_release(plan);
        }
        assert_true(count >= 1);
        clat_mask_release(mask);
    }
}

/* A trial's buffers filled by a run under a mask that hides one element from one query. */
static void test_wrong_results(void **state) {
    (void)state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT, wrong;
    clat_plan *plan = NULL, *wrong_plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    clat_mask *window = NULL;
    problem.seq_q = problem.seq_k = 600;
    problem.head_dim = 32;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    assert_ok(clat_mask_window(&window, 598, CLAT_UNBOUNDED)); /* the last misses key 0 */
    wrong = problem;
    wrong.mask = window;
    assert_ok(clat_attention_plan(&wrong_plan, harness_context(), &wrong));
    assert_ok(clat_trial_create(&trial, plan, 3));
    assert_ok(clat_trial_verify(trial, NULL, &verdict));
    assert_false(verdict.ok); /* nothing has been computed yet */

    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = clat_trial_buffer(trial, "q", &args.q_offset);
    args.k = clat_trial_buffer(trial, "k", &args.k_offset);
    args.v = clat_trial_buffer(trial, "v", &args.v_offset);
    args.o = clat_trial_buffer(trial, "o", &args.o_offset);
    assert_ok(clat_attention_run(wrong_plan, clat_trial_queue(trial), &args, 0, NULL, NULL));
    assert_ok(clat_trial_verify(trial, NULL, &verdict));
    assert_false(verdict.ok);
    assert_ok(clat_attention_run(plan, clat_trial_queue(trial), &args, 0, NULL, NULL));
    assert_ok(clat_trial_verify(trial, NULL, &verdict));
    assert_true(verdict.ok);
    assert_non_null(strstr(verdict.where, "o["));
    clat_trial_release(trial);
    clat_plan_release(plan);
    clat_plan_release(wrong_plan);
    clat_mask_release(window);
}

int main(void) {
    harness_add("cpu combinations", test_combinations, &implementations[0]);
    harness_add("simt combinations", test_combinations, &implementations[1]);
    harness_add("decode combinations", test_combinations, &implementations[2]);
    harness_add("cpu_tile combinations", test_combinations, &implementations[3]);
    harness_add("mma combinations", test_combinations, &implementations[4]);
    harness_add("wgmma combinations", test_combinations, &implementations[5]);
    harness_add("decode_simt combinations", test_combinations, &implementations[6]);
    if (harness_device_is_cpu()) {
        harness_add("combinations on every engine", test_engines, NULL);
        harness_add("guesses fit every engine", test_engine_guesses_fit, NULL);
    }
    harness_add("odd dimensions", test_odd_dimensions, NULL);
    harness_add("guesses fit", test_guesses_fit, NULL);
    harness_add("awkward relatives", test_awkward, NULL);
    harness_add("wrong results", test_wrong_results, NULL);
    return harness_run_added();
}
