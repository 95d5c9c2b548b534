/*
 * The machinery around operators, with an operator of the test's own: y = factor x + constant in
 * two passes through the workspace. What is tested: the choice of implementation and its
 * explanation, tunables, the plan cache, multi-pass order on out-of-order queues, workspace, wait
 * lists.
 */
#include "harness.h"
#include "text.h"
#include "trial.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kernel_source[] =
    "#if !defined(STEP) || !defined(VARIANT)\n#error \"contract\"\n#endif\n"
    "struct params { long n; float factor; float unused; };\n"
    "__kernel void scale(__global const float *x, __global float *scratch, struct params p) {\n"
    "    long first = (long)get_global_id(0) * STEP;\n"
    "    for (long i = first; i < first + STEP && i < p.n; i++) scratch[i] = x[i] * p.factor;\n"
    "}\n"
    "__kernel void add(__global const float *scratch, __global const float *addend,\n"
    "                  __global float *y, struct params p) {\n"
    "    long first = (long)get_global_id(0) * STEP;\n"
    "    for (long i = first; i < first + STEP && i < p.n; i++) y[i] = scratch[i] + addend[0] + "
    "VARIANT;\n"
    "}\n";

struct axpb {
    size_t n;
};

struct axpb_params {
    int64_t n;
    float factor, unused;
};

enum { ROLE_X, ROLE_Y };

#define AXPB_TUNABLES(X) X(STEP, "elements for one work-item", 4, 1, 4, 16)
static const struct tunable axpb_tunables[] = {AXPB_TUNABLES(TUNABLE_ROW)};

static bool axpb_supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    (void)device;
    snprintf(why, OP_WHY_BYTES, "n is above 1000");
    return ((const struct axpb *)problem)->n <= 1000;
}
static bool yes(const struct device *device, const void *problem) {
    (void)problem;
    (void)device;
    return true;
}
static bool no(const struct device *device, const void *problem) {
    (void)problem;
    (void)device;
    return false;
}
static bool axpb_fits(const struct device *device, const void *problem, const int *values) {
    (void)device;
    return values[0] <= 4 || ((const struct axpb *)problem)->n >= 16;
}
static void axpb_guess(const struct device *device, const void *problem, int *values) {
    (void)device;
    (void)problem;
    values[0] = 4;
}
static clat_status axpb_launch(const struct device *device, const void *problem, const int *values,
                               struct launch *out) {
    (void)device;
    const struct axpb *p = problem;
    const size_t items = (p->n + (size_t)values[0] - 1) / (size_t)values[0];
    text_printf(&out->defines, "#define VARIANT 0.5f\n");
    out->n_passes = 2;
    out->passes[0] = (struct pass){.kernel = "scale", .dims = 1, .global = {items}};
    pass_arg(&out->passes[0], ARG_BUFFER, ROLE_X, 0);
    pass_arg(&out->passes[0], ARG_WORKSPACE, 0, 0);
    pass_arg(&out->passes[0], ARG_PARAMS, 0, 0);
    out->passes[1] = (struct pass){.kernel = "add", .dims = 1, .global = {items}};
    pass_arg(&out->passes[1], ARG_WORKSPACE, 0, 0);
    pass_arg(&out->passes[1], ARG_CONSTANT, 0, 0);
    pass_arg(&out->passes[1], ARG_BUFFER, ROLE_Y, 0);
    pass_arg(&out->passes[1], ARG_PARAMS, 0, 0);
    out->workspace_bytes = p->n * sizeof(float);
    float *constant = malloc(sizeof *constant);
    *constant = 2;
    out->constant[0].data = constant;
    out->constant[0].bytes = sizeof *constant;
    out->params_bytes = sizeof(struct axpb_params);
    return CLAT_OK;
}

static const struct implementation axpb_first = {
    "first", "axpb.cl", axpb_tunables, 1, axpb_supports, yes, axpb_fits, axpb_guess, axpb_launch};
static const struct implementation axpb_other = {
    "other", "axpb.cl", axpb_tunables, 1, axpb_supports, no, axpb_fits, axpb_guess, axpb_launch};
static const struct implementation *const axpb_implementations[] = {&axpb_other, &axpb_first, NULL};

static bool axpb_is_empty(const void *problem) {
    return ((const struct axpb *)problem)->n == 0;
}
static void axpb_shape(const void *problem, struct shape *out) {
    *out = (struct shape){
        .variant = "f32", .count = 1, .dim = {{"n", ((const struct axpb *)problem)->n}}};
}
static void axpb_print(const void *problem, struct text *out) {
    text_printf(out, "axpb n=%zu", ((const struct axpb *)problem)->n);
}
static double axpb_flops(const void *problem) {
    return 2.0 * (double)((const struct axpb *)problem)->n;
}

static const struct operation axpb = {
    .name = "axpb",
    .problem_bytes = sizeof(struct axpb),
    .implementations = axpb_implementations,
    .is_empty = axpb_is_empty,
    .shape = axpb_shape,
    .print = axpb_print,
    .flops = axpb_flops,
};

/* A context that finds axpb.cl, and its options. */
static clat_context *context;
static clat_context_options options;

static void drop_context(void) {
    clat_context_release(context);
}

static clat_context *axpb_context(void) {
    if (context != NULL)
        return context;
    options = harness_options();
    options.kernel_dir = harness_temp_dir();
    char *path = text_format("%s/axpb.cl", options.kernel_dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(kernel_source, file);
    fclose(file);
    free(path);
    assert_ok(clat_context_create_with(&context, clat_context_cl(harness_context()),
                                       clat_context_device(harness_context()), &options));
    harness_at_end(drop_context);
    return context;
}

static clat_plan *make(size_t n, const char *implementation, const char *tunables) {
    clat_plan *plan = NULL;
    const struct axpb problem = {n};
    assert_ok(plan_create(&plan, axpb_context(), &axpb, &problem, implementation, tunables));
    return plan;
}

static clat_status run(const clat_plan *plan, cl_command_queue queue, cl_mem x, cl_mem y,
                       float factor, cl_mem workspace, cl_uint n_wait, const cl_event *wait,
                       cl_event *event) {
    const struct axpb_params params = {
        .n = (int64_t)((const struct axpb *)plan_raw_problem(plan))->n, .factor = factor};
    const struct binding binding = {.buffer = {x, y}, .params = &params, .workspace = workspace};
    return plan_enqueue(plan, queue, &binding, n_wait, wait, event);
}

static void check(const clat_plan *plan, cl_command_queue queue, cl_mem workspace, size_t n) {
    float in[1000], out[1000];
    for (size_t i = 0; i < n; i++)
        in[i] = (float)i;
    cl_mem x = harness_buffer(sizeof in, in), y = harness_buffer(sizeof out, NULL);
    cl_event event = NULL;
    assert_ok(run(plan, queue, x, y, 3, workspace, 0, NULL, &event));
    assert_cl(clWaitForEvents(1, &event));
    clReleaseEvent(event);
    harness_read(y, 0, sizeof out, out);
    for (size_t i = 0; i < n; i++)
        assert_true(out[i] == 3 * (float)i + 2.5f);
    for (size_t i = n; i < 1000; i++)
        assert_true(out[i] != out[i]);
    clReleaseMemObject(x);
    clReleaseMemObject(y);
}

static void test_run(void **state) {
    (void)state;
    clat_plan *plan = make(777, NULL, NULL);
    check(plan, harness_queue(), NULL, 777);
    const clat_plan_info *info = clat_plan_get_info(plan);
    assert_string_equal(info->implementation, "first");
    assert_string_equal(info->tunables, "STEP=4");
    assert_string_equal(info->tunables_from, "guess");
    assert_int_equal(info->workspace_bytes, 777 * 4);
    assert_non_null(strstr(info->explanation, "other: not made for it on this device"));
    assert_non_null(strstr(info->explanation, "first: chosen, STEP=4 from guess"));
    clat_plan_release(plan);
    assert_null(clat_plan_get_info(NULL));
    clat_plan_release(NULL);
}

static void test_out_of_order(void **state) {
    (void)state;
    cl_command_queue queue = harness_new_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    clat_plan *plan = make(1000, NULL, NULL);
    for (int i = 0; i < 20; i++)
        check(plan, queue, NULL, 1000);
    clat_plan_release(plan);
    clReleaseCommandQueue(queue);
}

static void test_wait_list(void **state) {
    (void)state;
    cl_int err;
    clat_plan *plan = make(10, NULL, NULL), *empty = make(0, NULL, NULL);
    cl_event gate = clCreateUserEvent(clat_context_cl(axpb_context()), &err),
             done[2] = {NULL, NULL};
    assert_cl(err);
    cl_mem x = harness_buffer(40, NULL), y = harness_buffer(40, NULL);
    assert_ok(run(plan, harness_queue(), x, y, 1, NULL, 1, &gate, &done[0]));
    assert_ok(run(empty, harness_queue(), x, y, 1, NULL, 1, &gate, &done[1]));
    assert_cl(clFlush(harness_queue()));
    for (int i = 0; i < 2; i++) {
        cl_int status = CL_COMPLETE;
        clGetEventInfo(done[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL);
        assert_true(status > CL_COMPLETE);
    }
    assert_cl(clSetUserEventStatus(gate, CL_COMPLETE));
    assert_cl(clWaitForEvents(2, done));
    for (int i = 0; i < 2; i++)
        clReleaseEvent(done[i]);
    clReleaseEvent(gate);
    clReleaseMemObject(x);
    clReleaseMemObject(y);
    clat_plan_release(plan);
    clat_plan_release(empty);
}

static void test_workspace(void **state) {
    (void)state;
    clat_plan *plan = make(500, NULL, NULL);
    cl_mem enough = harness_buffer(2000, NULL), little = harness_buffer(1999, NULL);
    check(plan, harness_queue(), enough, 500);
    assert_status(CLAT_INVALID_BUFFER,
                  run(plan, harness_queue(), enough, enough, 1, little, 0, NULL, NULL));
    assert_error_names("args.workspace");
    clReleaseMemObject(enough);
    clReleaseMemObject(little);
    clat_plan_release(plan);
}

static void test_choice_errors(void **state) {
    (void)state;
    const struct {
        size_t n;
        const char *implementation, *tunables;
        clat_status status;
        const char *word;
    } cases[] = {
        {5000, NULL, NULL, CLAT_UNSUPPORTED, "1000"},
        {5000, "first", NULL, CLAT_UNSUPPORTED, "first"},
        {10, "none", NULL, CLAT_NOT_FOUND, "none"},
        {10, "first", "STEP=3", CLAT_INVALID_TUNABLES, "STEP"},
        {10, "first", "STEP=16", CLAT_INVALID_TUNABLES, "legal"},
        {10, NULL, "STEP=4", CLAT_INVALID_TUNABLES, "implementation"},
        {0, "none", NULL, CLAT_NOT_FOUND, "none"}, /* also where there is nothing to compute */
        {0, NULL, "STEP=4", CLAT_INVALID_TUNABLES, "implementation"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct axpb problem = {cases[i].n};
        clat_plan *plan = (clat_plan *)&problem;
        assert_status(cases[i].status, plan_create(&plan, axpb_context(), &axpb, &problem,
                                                   cases[i].implementation, cases[i].tunables));
        assert_null(plan);
        assert_non_null(strstr(clat_error_text(), cases[i].word));
    }
}

static void test_forced(void **state) {
    (void)state;
    clat_plan *plan = make(100, "other", "STEP=16");
    assert_string_equal(clat_plan_get_info(plan)->implementation, "other");
    assert_string_equal(clat_plan_get_info(plan)->tunables, "STEP=16");
    assert_string_equal(clat_plan_get_info(plan)->tunables_from, "caller");
    check(plan, harness_queue(), NULL, 100);
    clat_plan_release(plan);
}

static void test_cache(void **state) {
    (void)state;
    clat_plan *a = make(33, NULL, NULL), *b = make(33, NULL, NULL), *c = make(34, NULL, NULL),
              *forced = make(33, "first", NULL), *tuned = make(33, "first", "STEP=1");
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_ptr_not_equal(a, forced);
    assert_ptr_not_equal(forced, tuned);
    clat_plan_release(b);
    clat_plan_release(c);
    clat_plan_release(forced);
    clat_plan_release(tuned);
    /* More plans than the cache holds push the oldest out, which the holder can still use. */
    for (size_t n = 100; n < 300; n++)
        clat_plan_release(make(n, NULL, NULL));
    b = make(33, NULL, NULL);
    assert_ptr_not_equal(a, b);
    check(a, harness_queue(), NULL, 33);
    clat_plan_release(a);
    clat_plan_release(b);
}

/* A plan outlives the handle of its context. */
static void test_plan_outlives_context(void **state) {
    (void)state;
    clat_context *ctx = NULL;
    clat_plan *plan = NULL;
    const struct axpb problem = {64};
    axpb_context();
    assert_ok(clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                       clat_context_device(harness_context()), &options));
    assert_ok(plan_create(&plan, ctx, &axpb, &problem, NULL, NULL));
    clat_context_release(ctx);
    check(plan, harness_queue(), NULL, 64);
    clat_plan_release(plan);
}

static void test_plan_problem(void **state) {
    (void)state;
    static const struct operation another = {.name = "another"};
    clat_plan *plan = make(8, NULL, NULL);
    const void *problem = NULL;
    assert_ok(plan_problem(&problem, plan, &axpb, harness_queue(), 0, NULL));
    assert_int_equal(((const struct axpb *)problem)->n, 8);
    assert_status(CLAT_INVALID_ARGUMENT,
                  plan_problem(&problem, NULL, &axpb, harness_queue(), 0, NULL));
    assert_status(CLAT_INVALID_ARGUMENT, plan_problem(&problem, plan, &axpb, NULL, 0, NULL));
    assert_status(CLAT_INVALID_PLAN,
                  plan_problem(&problem, plan, &another, harness_queue(), 0, NULL));
    const cl_event none = NULL;
    assert_status(CLAT_INVALID_ARGUMENT,
                  plan_problem(&problem, plan, &axpb, harness_queue(), 1, NULL));
    assert_error_names("wait_list");
    assert_status(CLAT_INVALID_ARGUMENT,
                  plan_problem(&problem, plan, &axpb, harness_queue(), 0, &none));
    assert_error_names("n_wait");
    assert_status(CLAT_INVALID_ARGUMENT,
                  plan_problem(&problem, plan, &axpb, harness_queue(), 1, &none));
    assert_error_names("wait_list[0]");
    cl_device_id device = clat_context_device(harness_context());
    cl_int err;
    cl_context foreign = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
    assert_cl(err);
    cl_command_queue queue = clCreateCommandQueue(foreign, device, 0, &err);
    assert_cl(err);
    assert_status(CLAT_INVALID_CONTEXT, plan_problem(&problem, plan, &axpb, queue, 0, NULL));
    clReleaseCommandQueue(queue);
    clReleaseContext(foreign);
    clat_plan_release(plan);
}

/* ---- many threads, one plan: kernel arguments must not mix */

enum { THREADS = 4, ROUNDS = 200, N = 64 };

static void *hammer(void *argument) {
    const clat_plan *plan = argument;
    cl_int err;
    cl_command_queue queue = clCreateCommandQueue(clat_context_cl(axpb_context()),
                                                  clat_context_device(axpb_context()), 0, &err);
    size_t wrong = err != CL_SUCCESS;
    float in[N], out[N];
    const float factor = (float)((uintptr_t)queue % 1000);
    for (int i = 0; i < N; i++)
        in[i] = (float)i;
    cl_mem x = harness_buffer(sizeof in, in), y = harness_buffer(sizeof out, NULL);
    for (int round = 0; round < ROUNDS && wrong == 0; round++) {
        const float f = factor + (float)round;
        wrong += run(plan, queue, x, y, f, NULL, 0, NULL, NULL) != CLAT_OK;
        wrong +=
            clEnqueueReadBuffer(queue, y, CL_TRUE, 0, sizeof out, out, 0, NULL, NULL) != CL_SUCCESS;
        for (int i = 0; i < N; i++)
            wrong += out[i] != f * (float)i + 2.5f;
    }
    clReleaseMemObject(x);
    clReleaseMemObject(y);
    clReleaseCommandQueue(queue);
    return (void *)(uintptr_t)wrong;
}

static void test_threads_share_a_plan(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    clat_plan *plan = make(N, NULL, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, plan), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    clat_plan_release(plan);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_run),           cmocka_unit_test(test_out_of_order),
    cmocka_unit_test(test_wait_list),     cmocka_unit_test(test_workspace),
    cmocka_unit_test(test_choice_errors), cmocka_unit_test(test_forced),
    cmocka_unit_test(test_cache),         cmocka_unit_test(test_plan_outlives_context),
    cmocka_unit_test(test_plan_problem),  cmocka_unit_test(test_threads_share_a_plan),
};
HARNESS_MAIN(tests)
