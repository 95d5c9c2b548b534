/* What GEMM refuses, with which status, and that the sentence names the argument. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

/* ---- problems */

struct bad_problem {
    const char *name;
    clat_status status;
    const char *word;          /* must occur in the sentence */
    clat_gemm_problem problem; /* m = n = k = 8, f32 and one matrix where 0 */
};

static const struct bad_problem bad_problems[] = {
    {"layout", CLAT_INVALID_ARGUMENT, "layout", {.layout = (clat_layout)2}},
    {"trans_a", CLAT_INVALID_ARGUMENT, "trans_a", {.trans_a = (clat_transpose)2}},
    {"trans_b", CLAT_INVALID_ARGUMENT, "trans_b", {.trans_b = (clat_transpose)7}},
    {"dtype out of range", CLAT_INVALID_ARGUMENT, "dtype", {.dtype = (clat_dtype)5}},
    {"dtype_c out of range", CLAT_INVALID_ARGUMENT, "dtype_c", {.dtype_c = (clat_dtype)99}},
    {"batching", CLAT_INVALID_ARGUMENT, "batching", {.batching = (clat_batching)2}},
    {"bias", CLAT_INVALID_ARGUMENT, "bias", {.bias = (clat_bias)3}},
    {"activation", CLAT_INVALID_ARGUMENT, "activation", {.activation = (clat_activation)4}},
    {"f16 C of f32", CLAT_INVALID_TYPE, "dtype_c", {.dtype_c = CLAT_F16}},
    {"f64 C of f32", CLAT_INVALID_TYPE, "dtype_c", {.dtype_c = CLAT_F64}},
    {"f32 C of f64", CLAT_INVALID_TYPE, "dtype_c", {.dtype = CLAT_F64, .dtype_c = CLAT_F32}},
    {"bf16 C of f16", CLAT_INVALID_TYPE, "dtype_c", {.dtype = CLAT_F16, .dtype_c = CLAT_BF16}},
    {"lda", CLAT_INVALID_STRIDE, "lda", {.lda = 7}},
    {"ldb", CLAT_INVALID_STRIDE, "ldb", {.ldb = 7}},
    {"ldc", CLAT_INVALID_STRIDE, "ldc", {.ldc = 1}},
    {"lda of a transposed A", CLAT_INVALID_STRIDE, "lda", {.trans_a = 1, .m = 9, .lda = 8}},
    {"ldb of a transposed B", CLAT_INVALID_STRIDE, "ldb", {.trans_b = 1, .k = 9, .ldb = 8}},
    {"lda, column-major", CLAT_INVALID_STRIDE, "lda", {.layout = 1, .m = 9, .lda = 8}},
    {"ldb, column-major", CLAT_INVALID_STRIDE, "ldb", {.layout = 1, .k = 9, .ldb = 8}},
    {"ldc, column-major", CLAT_INVALID_STRIDE, "ldc", {.layout = 1, .m = 9, .ldc = 8}},
    {"stride_c in a row", CLAT_INVALID_OVERLAP, "stride_c", {.batch = 2, .stride_c = 1}},
    {"stride_c one short", CLAT_INVALID_OVERLAP, "stride_c", {.batch = 2, .stride_c = 63}},
    {"A overflows", CLAT_INVALID_SIZE, "a", {.m = (size_t)1 << 33, .k = (size_t)1 << 32}},
    {"B overflows", CLAT_INVALID_SIZE, "b", {.n = (size_t)1 << 33, .k = (size_t)1 << 31}},
    {"C overflows", CLAT_INVALID_SIZE, "c", {.m = (size_t)1 << 33, .n = (size_t)1 << 33}},
    {"lda overflows", CLAT_INVALID_SIZE, "a", {.lda = SIZE_MAX / 2}},
    {"stride_b overflows", CLAT_INVALID_SIZE, "b", {.batch = 3, .stride_b = SIZE_MAX / 2}},
    {"tight stride_c overflows", CLAT_INVALID_SIZE, "ldc", {.batch = 3, .ldc = SIZE_MAX / 4}},
    {"batch overflows C", CLAT_INVALID_SIZE, "c", {.batch = SIZE_MAX / 8}},
    {"lists overflow",
     CLAT_INVALID_SIZE,
     "batch",
     {.batching = CLAT_BATCH_OFFSETS, .batch = SIZE_MAX / 8}},
    {"no such implementation", CLAT_NOT_FOUND, "implementation", {.implementation = "cuda"}},
    {"no such tunable",
     CLAT_INVALID_TUNABLES,
     "MQ",
     {.implementation = "simt", .tunables = "MQ=1"}},
    {"no candidate", CLAT_INVALID_TUNABLES, "BM", {.implementation = "simt", .tunables = "BM=33"}},
    {"tunables that do not fit",
     CLAT_INVALID_TUNABLES,
     "tunables",
     {.implementation = "simt", .tunables = "BM=32 BN=32 BK=8 TM=8 TN=8 SLICES=1"}},
    {"tunables of nobody", CLAT_INVALID_TUNABLES, "implementation", {.tunables = "BM=64"}},
};

static void test_bad_problem(void **state) {
    const struct bad_problem *bad = *state;
    clat_gemm_problem problem = bad->problem;
    clat_plan *plan = (clat_plan *)(uintptr_t)1;
    problem.m = problem.m ? problem.m : 8;
    problem.n = problem.n ? problem.n : 8;
    problem.k = problem.k ? problem.k : 8;
    problem.batch = problem.batch ? problem.batch : 1;
    problem.dtype = problem.dtype ? problem.dtype : CLAT_F32;
    assert_status(bad->status, clat_gemm_plan(&plan, harness_context(), &problem));
    assert_error_names(bad->word);
    assert_null(plan);
}

static void test_missing_pointers(void **state) {
    (void)state;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    clat_plan *plan = NULL;
    assert_status(CLAT_INVALID_ARGUMENT, clat_gemm_plan(NULL, harness_context(), &problem));
    assert_error_names("out");
    assert_status(CLAT_INVALID_ARGUMENT, clat_gemm_plan(&plan, NULL, &problem));
    assert_error_names("ctx");
    assert_status(CLAT_INVALID_ARGUMENT, clat_gemm_plan(&plan, harness_context(), NULL));
    assert_error_names("problem");
    assert_status(CLAT_INVALID_ARGUMENT,
                  clat_gemm_run(NULL, harness_queue(), &args, 0, NULL, NULL));
    assert_error_names("plan");
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    assert_status(CLAT_INVALID_ARGUMENT, clat_gemm_run(plan, NULL, &args, 0, NULL, NULL));
    assert_error_names("queue");
    assert_status(CLAT_INVALID_ARGUMENT, clat_gemm_run(plan, harness_queue(), NULL, 0, NULL, NULL));
    assert_error_names("args");
    clat_plan_release(plan);
    problem.dtype = CLAT_DTYPE_DEFAULT;
    assert_status(CLAT_INVALID_TYPE, clat_gemm_plan(&plan, harness_context(), &problem));
    assert_error_names("dtype");
}

/* ---- arguments: C = A B + bias, 8 x 8 x 8 in f32, each operand 256 bytes but the bias */

struct fixture {
    clat_plan *plan;
    clat_gemm_args args;
};

static void fixture_make(struct fixture *it, const clat_gemm_problem *problem) {
    it->args = (clat_gemm_args)CLAT_GEMM_ARGS_INIT;
    assert_ok(clat_gemm_plan(&it->plan, harness_context(), problem));
    it->args.a = harness_buffer(256, NULL);
    it->args.b = harness_buffer(256, NULL);
    it->args.c = harness_buffer(256, NULL);
    it->args.bias = harness_buffer(32, NULL);
}

static void fixture_free(struct fixture *it) {
    clat_plan_release(it->plan);
    clReleaseMemObject(it->args.a);
    clReleaseMemObject(it->args.b);
    clReleaseMemObject(it->args.c);
    clReleaseMemObject(it->args.bias);
}

static clat_gemm_problem with_bias(void) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 8;
    problem.bias = CLAT_BIAS_COLUMN;
    return problem;
}

static void expect(const struct fixture *it, const clat_gemm_args *args, clat_status status,
                   const char *word) {
    assert_status(status, clat_gemm_run(it->plan, harness_queue(), args, 0, NULL, NULL));
    if (word)
        assert_error_names(word);
}

static void test_missing_and_short_buffers(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t member, offset;
    } operands[] = {
        {"a", offsetof(clat_gemm_args, a), offsetof(clat_gemm_args, a_offset)},
        {"b", offsetof(clat_gemm_args, b), offsetof(clat_gemm_args, b_offset)},
        {"c", offsetof(clat_gemm_args, c), offsetof(clat_gemm_args, c_offset)},
        {"bias", offsetof(clat_gemm_args, bias), offsetof(clat_gemm_args, bias_offset)},
    };
    const clat_gemm_problem problem = with_bias();
    struct fixture it;
    fixture_make(&it, &problem);
    expect(&it, &it.args, CLAT_OK, NULL);
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
        clat_gemm_args args = it.args;
        memset((char *)&args + operands[i].member, 0, sizeof(cl_mem));
        expect(&it, &args, CLAT_INVALID_BUFFER, operands[i].name);

        args = it.args;
        cl_mem small = harness_buffer(i == 3 ? 31 : 255, NULL);
        memcpy((char *)&args + operands[i].member, &small, sizeof small);
        expect(&it, &args, CLAT_INVALID_BUFFER, operands[i].name);
        clReleaseMemObject(small);

        const size_t offsets[] = {1, SIZE_MAX};
        const clat_status expected[] = {CLAT_INVALID_BUFFER, CLAT_INVALID_SIZE};
        for (int o = 0; o < 2; o++) {
            args = it.args;
            memcpy((char *)&args + operands[i].offset, &offsets[o], sizeof offsets[o]);
            expect(&it, &args, expected[o], operands[i].name);
        }
    }
    expect(&it, &it.args, CLAT_OK, NULL);
    fixture_free(&it);
}

/* In column-major order the sentence still speaks of the caller's a and b. */
static void test_names_in_column_major(void **state) {
    (void)state;
    clat_gemm_problem problem = with_bias();
    struct fixture it;
    problem.layout = CLAT_COL_MAJOR;
    fixture_make(&it, &problem);
    clat_gemm_args args = it.args;
    args.a = NULL;
    expect(&it, &args, CLAT_INVALID_BUFFER, "a");
    args = it.args;
    args.b_offset = 1;
    expect(&it, &args, CLAT_INVALID_BUFFER, "b");
    fixture_free(&it);
}

static void test_overlaps(void **state) {
    (void)state;
    const clat_gemm_problem problem = with_bias();
    struct fixture it;
    fixture_make(&it, &problem);
    cl_mem shared = harness_buffer(4096, NULL);
    clat_gemm_args args = it.args;
    args.a = args.c = shared;
    expect(&it, &args, CLAT_INVALID_OVERLAP, "a");
    args.a_offset = 63;
    expect(&it, &args, CLAT_INVALID_OVERLAP, "c");
    args.a_offset = 64;
    expect(&it, &args, CLAT_OK, NULL);
    args = it.args;
    args.b = args.c = shared;
    args.c_offset = 63;
    expect(&it, &args, CLAT_INVALID_OVERLAP, "b");
    args = it.args;
    args.bias = args.c = shared;
    args.bias_offset = 60;
    expect(&it, &args, CLAT_INVALID_OVERLAP, "bias");
    args = it.args;
    args.a = args.b = shared; /* inputs may share */
    expect(&it, &args, CLAT_OK, NULL);
    clReleaseMemObject(shared);
    fixture_free(&it);
}

static void test_wrong_context(void **state) {
    (void)state;
    const clat_gemm_problem problem = with_bias();
    struct fixture it;
    cl_int err;
    cl_device_id device = clat_context_device(harness_context());
    cl_context other = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
    assert_cl(err);
    cl_command_queue queue = clCreateCommandQueue(other, device, 0, &err);
    assert_cl(err);
    cl_mem foreign = clCreateBuffer(other, CL_MEM_READ_WRITE, 256, NULL, &err);
    assert_cl(err);

    fixture_make(&it, &problem);
    assert_status(CLAT_INVALID_CONTEXT, clat_gemm_run(it.plan, queue, &it.args, 0, NULL, NULL));
    assert_error_names("queue");
    clat_gemm_args args = it.args;
    args.b = foreign;
    expect(&it, &args, CLAT_INVALID_CONTEXT, "b");
    fixture_free(&it);
    clReleaseMemObject(foreign);
    clReleaseCommandQueue(queue);
    clReleaseContext(other);
}

static void test_plan_of_another_operator(void **state) {
    (void)state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    clat_plan *plan = NULL;
    problem.head_dim = 8; /* no queries: nothing to build */
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    assert_status(CLAT_INVALID_PLAN, clat_gemm_run(plan, harness_queue(), &args, 0, NULL, NULL));
    clat_plan_release(plan);
}

static void test_lists(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t member;
    } lists[] = {
        {"a_offsets", offsetof(clat_gemm_args, a_offsets)},
        {"b_offsets", offsetof(clat_gemm_args, b_offsets)},
        {"c_offsets", offsetof(clat_gemm_args, c_offsets)},
        {"alphas", offsetof(clat_gemm_args, alphas)},
        {"betas", offsetof(clat_gemm_args, betas)},
    };
    static const cl_ulong zeros[2] = {0, 0};
    clat_gemm_problem problem = with_bias();
    struct fixture it;
    problem.batching = CLAT_BATCH_OFFSETS;
    problem.batch = 2;
    fixture_make(&it, &problem);
    cl_mem list = harness_buffer(sizeof zeros, zeros);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        clat_gemm_args args = it.args;
        args.a_offsets = args.b_offsets = args.c_offsets = args.alphas = args.betas = list;
        memset((char *)&args + lists[i].member, 0, sizeof(cl_mem));
        expect(&it, &args, CLAT_INVALID_BUFFER, lists[i].name);
        cl_mem small = harness_buffer(i < 3 ? 15 : 7, NULL);
        memcpy((char *)&args + lists[i].member, &small, sizeof small);
        expect(&it, &args, CLAT_INVALID_BUFFER, lists[i].name);
        clReleaseMemObject(small);
    }
    clReleaseMemObject(list);
    fixture_free(&it);
}

/* An implementation that cannot run here says why; a GPU has no use for the CPU's. */
static void test_declined(void **state) {
    (void)state;
    clat_gemm_problem problem = with_bias();
    clat_plan *plan = NULL;
    if (harness_device_is_cpu())
        skip();
    problem.implementation = "cpu";
    assert_status(CLAT_UNSUPPORTED, clat_gemm_plan(&plan, harness_context(), &problem));
    assert_error_names("CPU");
}

int main(void) {
    for (size_t i = 0; i < sizeof bad_problems / sizeof *bad_problems; i++)
        harness_add(bad_problems[i].name, test_bad_problem, &bad_problems[i]);
    harness_add("missing pointers", test_missing_pointers, NULL);
    harness_add("missing and short buffers", test_missing_and_short_buffers, NULL);
    harness_add("names in column-major", test_names_in_column_major, NULL);
    harness_add("overlaps", test_overlaps, NULL);
    harness_add("wrong context", test_wrong_context, NULL);
    harness_add("plan of another operator", test_plan_of_another_operator, NULL);
    harness_add("lists", test_lists, NULL);
    harness_add("declined", test_declined, NULL);
    return harness_run_added();
}
