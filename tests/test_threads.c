/*
 * One context, many threads: plans made and run at once, shared and separate. Meant for `make
 * tsan`; without it, still a stress test with checked results.
 */
#include "harness.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 6, ROUNDS = 30, SIDE = 40 };

struct worker {
    pthread_t thread;
    const clat_plan *shared;
    unsigned number;
    size_t wrong;
};

static size_t count_wrong(const float *c, double expected) {
    size_t wrong = 0;
    for (size_t i = 0; i < SIDE * SIDE; i++)
        wrong += c[i] != (float)expected;
    return wrong;
}

/* c = alpha a b for a full of ones and b full of twos: every element is 2 k alpha. */
static size_t one_round(const struct worker *worker, unsigned round, cl_command_queue queue,
                        cl_mem a, cl_mem b, cl_mem out) {
    float c[SIDE * SIDE];
    const double alpha = 1 + worker->number + round;
    const clat_gemm_args args = {.a = a, .b = b, .c = out, .alpha = alpha};
    size_t wrong = clat_gemm_run(worker->shared, queue, &args, 0, NULL, NULL) != CLAT_OK;
    clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof c, c, 0, NULL, NULL);
    wrong += count_wrong(c, 2 * SIDE * alpha);

    /* A plan that several threads ask for at about the same time, through the cache. */
    const size_t k = 1 + (worker->number / 2 + round) % SIDE;
    wrong +=
        clat_sgemm(harness_context(), queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, SIDE,
                   SIDE, k, 1, a, 0, k, b, 0, SIDE, 0, out, 0, SIDE, 0, NULL, NULL) != CLAT_OK;
    clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof c, c, 0, NULL, NULL);
    wrong += count_wrong(c, 2 * (double)k);

    /* Each thread has its own error text. */
    wrong += clat_gemm_run(NULL, queue, &args, 0, NULL, NULL) != CLAT_INVALID_ARGUMENT;
    wrong += strcmp(clat_error_text(), "plan is NULL") != 0;
    return wrong;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    clat_context *ctx = harness_context();
    cl_int err;
    cl_command_queue queue =
        clCreateCommandQueue(clat_context_cl(ctx), clat_context_device(ctx), 0, &err);
    float ones[SIDE * SIDE], twos[SIDE * SIDE];
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        ones[i] = 1;
        twos[i] = 2;
    }
    cl_mem a = harness_buffer(sizeof ones, ones), b = harness_buffer(sizeof twos, twos),
           out = harness_buffer(sizeof ones, NULL);
    worker->wrong += err != CL_SUCCESS;
    for (unsigned round = 0; round < ROUNDS && worker->wrong == 0; round++)
        worker->wrong += one_round(worker, round, queue, a, b, out);
    clReleaseMemObject(a);
    clReleaseMemObject(b);
    clReleaseMemObject(out);
    clReleaseCommandQueue(queue);
    return NULL;
}

static void test_shared_context(void **state) {
    (void)state;
    struct worker workers[THREADS];
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = SIDE;
    clat_plan *plan = NULL;
    harness_queue(); /* made here: the harness is not thread-safe */
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.shared = plan, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
    clat_plan_release(plan);
}

/* Masks are shared too: the count of their holders must survive. */
static void *hold_mask(void *argument) {
    for (int i = 0; i < 2000; i++) {
        clat_mask *both = NULL;
        if (clat_mask_all(&both, 1, (const clat_mask *[]){argument}) != CLAT_OK)
            return argument;
        clat_mask_release(both);
    }
    return NULL;
}

static void test_shared_mask(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    clat_mask *mask = NULL;
    assert_ok(clat_mask_window(&mask, 3, 0));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_mask, mask), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(clat_mask_visible(mask, 10, 10, 0, 5, 2));
    assert_false(clat_mask_visible(mask, 10, 10, 0, 5, 1));
    clat_mask_release(mask);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_shared_context),
    cmocka_unit_test(test_shared_mask),
};
HARNESS_MAIN(tests)
