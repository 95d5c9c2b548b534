/* Contexts: devices chosen and refused, options that cannot be honoured, lifetimes. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int warnings;

static void count_warnings(void *user, clat_log_level level, const char *line) {
    (void)user;
    (void)line;
    warnings += level == CLAT_LOG_WARNING;
}

static void test_info(void **state) {
    (void)state;
    clat_device_info info;
    assert_ok(clat_context_info(harness_context(), &info));
    assert_true(strlen(info.name) > 0 && strlen(info.architecture) > 0);
    assert_true(strlen(info.driver) > 0 && strlen(info.platform) > 0);
    assert_true(info.compute_units >= 1 && info.global_bytes > 1 << 20);
    assert_int_equal(info.is_cpu, harness_device_is_cpu());
    assert_int_equal(info.tuned_entries, 0); /* the harness loads none */
    assert_string_equal(info.tuned_file, "");
    assert_status(CLAT_INVALID_ARGUMENT, clat_context_info(NULL, &info));
    assert_status(CLAT_INVALID_ARGUMENT, clat_context_info(harness_context(), NULL));
}

static void test_invalid(void **state) {
    (void)state;
    clat_context_options options = harness_options();
    clat_context *ctx = (clat_context *)&options;
    cl_context cl = clat_context_cl(harness_context());
    cl_device_id device = clat_context_device(harness_context());
    assert_status(CLAT_INVALID_ARGUMENT, clat_context_create(NULL, &options));
    assert_error_names("out");
    options.device = "no such device anywhere";
    assert_status(CLAT_INVALID_DEVICE, clat_context_create(&ctx, &options));
    assert_null(ctx);
    options.device = "4711";
    assert_status(CLAT_INVALID_DEVICE, clat_context_create(&ctx, &options));
    options.device = NULL;
    assert_status(CLAT_INVALID_ARGUMENT, clat_context_create_with(&ctx, NULL, device, &options));
    assert_error_names("cl");
    assert_status(CLAT_INVALID_DEVICE, clat_context_create_with(&ctx, cl, NULL, &options));
    assert_error_names("device");
    assert_status(CLAT_INVALID_ARGUMENT, clat_context_create_with(NULL, cl, device, &options));
    clat_context_release(NULL);
    assert_null(clat_context_cl(NULL));
    assert_null(clat_context_device(NULL));
}

static void test_unknown_device_in_environment(void **state) {
    (void)state;
    clat_context *ctx = NULL;
    const char *before = getenv("CLATTICE_DEVICE");
    char *saved = before ? strdup(before) : NULL;
    setenv("CLATTICE_DEVICE", "no such device anywhere", 1);
    assert_status(CLAT_INVALID_DEVICE, clat_context_create(&ctx, NULL));
    if (saved != NULL)
        setenv("CLATTICE_DEVICE", saved, 1);
    else
        unsetenv("CLATTICE_DEVICE");
    free(saved);
    assert_null(ctx);
}

/* One small product on a context of its own: the proof that it works. */
static void multiply(clat_context *ctx) {
    cl_int err;
    cl_command_queue queue =
        clCreateCommandQueue(clat_context_cl(ctx), clat_context_device(ctx), 0, &err);
    assert_cl(err);
    float a[4] = {1, 2, 3, 4}, c[4];
    cl_mem buffer = clCreateBuffer(clat_context_cl(ctx), CL_MEM_COPY_HOST_PTR, sizeof a, a, &err);
    assert_cl(err);
    cl_mem out = clCreateBuffer(clat_context_cl(ctx), CL_MEM_READ_WRITE, sizeof c, NULL, &err);
    assert_cl(err);
    assert_ok(clat_sgemm(ctx, queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_TRANS, 2, 2, 2, 1, buffer,
                         0, 2, buffer, 0, 2, 0, out, 0, 2, 0, NULL, NULL));
    assert_cl(clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof c, c, 0, NULL, NULL));
    assert_true(c[0] == 5 && c[1] == 11 && c[2] == 11 && c[3] == 25);
    clReleaseMemObject(buffer);
    clReleaseMemObject(out);
    clReleaseCommandQueue(queue);
}

static void test_chosen_by_library(void **state) {
    (void)state;
    clat_context *ctx = NULL;
    const clat_context_options options = harness_options();
    assert_ok(clat_context_create(&ctx, &options));
    multiply(ctx);
    clat_context_release(ctx);
}

/* What cannot be used is reported and does without; results do not change. */
static void test_unusable_options(void **state) {
    (void)state;
    const char *directory = harness_temp_dir();
    char file[600], below[700];
    snprintf(file, sizeof file, "%s/a-file", directory);
    snprintf(below, sizeof below, "%s/below", file);
    FILE *stream = fopen(file, "w");
    assert_non_null(stream);
    fputs("{ this is no JSON", stream);
    fclose(stream);

    const struct {
        const char *cache_dir, *tuned_file, *kernel_dir;
        bool warns;
    } cases[] = {
        {below, "", "cl", true},              /* the cache's parent is a file */
        {"", file, "cl", true},               /* tuned values that do not parse */
        {"", below, "cl", false},             /* tuned values that cannot exist: just absent */
        {"", "", "/no/such/directory", true}, /* the library's own kernels serve */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clat_context *ctx = NULL;
        const clat_context_options options = {.cache_dir = cases[i].cache_dir,
                                              .tuned_file = cases[i].tuned_file,
                                              .kernel_dir = cases[i].kernel_dir,
                                              .log = count_warnings};
        warnings = 0;
        assert_ok(clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                           clat_context_device(harness_context()), &options));
        multiply(ctx);
        assert_int_equal(warnings > 0, cases[i].warns);
        clat_context_release(ctx);
    }
}

/* Errors inside one call leave the context usable and the next call's text clean. */
static void test_usable_after_errors(void **state) {
    (void)state;
    clat_plan *plan = NULL;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 2;
    problem.lda = 1;
    assert_status(CLAT_INVALID_STRIDE, clat_gemm_plan(&plan, harness_context(), &problem));
    assert_true(strlen(clat_error_text()) > 0);
    multiply(harness_context());
    assert_string_equal(clat_error_text(), "");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_info),
    cmocka_unit_test(test_invalid),
    cmocka_unit_test(test_unknown_device_in_environment),
    cmocka_unit_test(test_chosen_by_library),
    cmocka_unit_test(test_unusable_options),
    cmocka_unit_test(test_usable_after_errors),
};
HARNESS_MAIN(tests)
