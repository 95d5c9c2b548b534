/* What attention refuses, with which status, and that the sentence names the argument. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- problems */

#define HUGE_SIZE (SIZE_MAX / 2)

struct bad_problem {
    const char *name;
    clat_status status;
    const char *word;               /* must occur in the sentence */
    clat_attention_problem problem; /* one batch, two heads, 8 x 8, head_dim 8, f32 where 0 */
};

static const struct bad_problem bad_problems[] = {
    {"dtype out of range", CLAT_INVALID_ARGUMENT, "dtype", {.dtype = (clat_dtype)5}},
    {"f64", CLAT_INVALID_TYPE, "dtype", {.dtype = CLAT_F64}},
    {"infinite scale", CLAT_INVALID_ARGUMENT, "scale", {.scale = INFINITY}},
    {"scale that is no number", CLAT_INVALID_ARGUMENT, "scale", {.scale = NAN}},
    {"scale beyond f32", CLAT_INVALID_ARGUMENT, "scale", {.scale = 1e300}},
    {"negative scale beyond f32", CLAT_INVALID_ARGUMENT, "scale", {.scale = -1e39}},
    {"scale * log2(e) beyond f32", CLAT_INVALID_ARGUMENT, "scale", {.scale = 3e38}},
    {"head_dim 257", CLAT_INVALID_SIZE, "head_dim", {.head_dim = 257}},
    {"head_dim_v 257", CLAT_INVALID_SIZE, "head_dim_v", {.head_dim_v = 257}},
    {"kv_heads 3 of 8", CLAT_INVALID_SIZE, "kv_heads", {.heads = 8, .kv_heads = 3}},
    {"more kv_heads than heads", CLAT_INVALID_SIZE, "kv_heads", {.heads = 2, .kv_heads = 4}},
    {"seq_q beyond 2^30", CLAT_INVALID_SIZE, "seq_q", {.seq_q = ((size_t)1 << 30) + 1}},
    {"seq_k beyond 2^30", CLAT_INVALID_SIZE, "seq_k", {.seq_k = ((size_t)1 << 30) + 1}},
    {"heads beyond 2^31", CLAT_INVALID_SIZE, "heads", {.heads = (size_t)1 << 31}},
    {"batch beyond 2^31", CLAT_INVALID_SIZE, "batch", {.batch = (size_t)1 << 31}},
    {"elements overflow",
     CLAT_INVALID_SIZE,
     "q",
     {.batch = 1 << 30, .heads = 1 << 30, .seq_q = 1 << 30}},
    {"batch stride of k overflows",
     CLAT_INVALID_SIZE,
     "k",
     {.batch = 3, .k = {HUGE_SIZE, 64, 8, 1}}},
    {"bytes of v overflow", CLAT_INVALID_SIZE, "v", {.v = {0, HUGE_SIZE / 2, 8, 1}}},
    {"no feature stride of q", CLAT_INVALID_STRIDE, "q", {.q = {128, 64, 8, 0}}},
    {"no feature stride of v", CLAT_INVALID_STRIDE, "v", {.v = {128, 64, 8, 0}}},
    {"heads of o overlap", CLAT_INVALID_OVERLAP, "o", {.o = {128, 63, 8, 1}}},
    {"tokens of o overlap", CLAT_INVALID_OVERLAP, "o", {.o = {128, 64, 7, 1}}},
    {"batches of o overlap", CLAT_INVALID_OVERLAP, "o", {.batch = 2, .o = {0, 64, 8, 1}}},
    {"no such implementation", CLAT_NOT_FOUND, "implementation", {.implementation = "cuda"}},
    {"no such tunable",
     CLAT_INVALID_TUNABLES,
     "BQ",
     {.implementation = "simt", .tunables = "BQ=64"}},
    {"no candidate", CLAT_INVALID_TUNABLES, "TX", {.implementation = "simt", .tunables = "TX=5"}},
    {"tunables that do not fit",
     CLAT_INVALID_TUNABLES,
     "tunables",
     {.implementation = "simt", .tunables = "TX=4 RK=1 VC=32"}},
    {"tunables of nobody", CLAT_INVALID_TUNABLES, "implementation", {.tunables = "TX=16"}},
};

static void test_bad_problem(void **state) {
    const struct bad_problem *bad = *state;
    clat_attention_problem problem = bad->problem;
    clat_plan *plan = (clat_plan *)(uintptr_t)1;
    problem.batch = problem.batch ? problem.batch : 1;
    problem.heads = problem.heads ? problem.heads : 2;
    problem.seq_q = problem.seq_q ? problem.seq_q : 8;
    problem.seq_k = problem.seq_k ? problem.seq_k : 8;
    problem.head_dim = problem.head_dim ? problem.head_dim : 8;
    problem.dtype = problem.dtype ? problem.dtype : CLAT_F32;
    assert_status(bad->status, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names(bad->word);
    assert_null(plan);
}

static clat_attention_problem small_problem(void) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.heads = 2;
    problem.seq_q = problem.seq_k = problem.head_dim = 8;
    problem.logsumexp = true;
    return problem;
}

static void test_missing(void **state) {
    (void)state;
    clat_attention_problem problem = small_problem();
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    clat_plan *plan = NULL;
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_plan(NULL, harness_context(), &problem));
    assert_error_names("out");
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_plan(&plan, NULL, &problem));
    assert_error_names("ctx");
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_plan(&plan, harness_context(), NULL));
    assert_error_names("problem");
    assert_status(CLAT_INVALID_ARGUMENT,
                  clat_attention_run(NULL, harness_queue(), &args, 0, NULL, NULL));
    assert_error_names("plan");
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_run(plan, NULL, &args, 0, NULL, NULL));
    assert_error_names("queue");
    assert_status(CLAT_INVALID_ARGUMENT,
                  clat_attention_run(plan, harness_queue(), NULL, 0, NULL, NULL));
    assert_error_names("args");
    clat_plan_release(plan);
    problem.dtype = CLAT_DTYPE_DEFAULT;
    assert_status(CLAT_INVALID_TYPE, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names("dtype");
    problem = small_problem();
    problem.head_dim = 0;
    assert_status(CLAT_INVALID_SIZE, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names("head_dim");
    assert_null(plan);
}

/* A mask's own errors are test_mask.c's; here, one that does not fit the problem. */
static void test_masks(void **state) {
    (void)state;
    static const struct {
        const char *word;
        size_t heads, seq_q, seq_k;
    } bad[] = {{"seq_q", 2, 17, 16}, {"seq_k", 2, 16, 8}, {"heads", 4, 16, 16}};
    const uint32_t row_ptr[] = {0, 1, 1, 2, 3}, col_idx[] = {0, 1, 1};
    clat_mask *mask = NULL;
    clat_plan *plan = NULL;
    assert_ok(clat_mask_block_csr(&mask, 8, 8, 2, 2, 2, row_ptr, col_idx));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        clat_attention_problem problem = small_problem();
        problem.mask = mask;
        problem.heads = bad[i].heads, problem.seq_q = bad[i].seq_q, problem.seq_k = bad[i].seq_k;
        assert_status(CLAT_INVALID_MASK, clat_attention_plan(&plan, harness_context(), &problem));
        assert_error_names(bad[i].word);
    }
    clat_mask_release(mask);
}

/* ---- arguments: each tensor 512 bytes, logsumexp 64 */

static const struct {
    const char *name;
    size_t member, offset, bytes;
} operands[] = {
    {"q", offsetof(clat_attention_args, q), offsetof(clat_attention_args, q_offset), 512},
    {"k", offsetof(clat_attention_args, k), offsetof(clat_attention_args, k_offset), 512},
    {"v", offsetof(clat_attention_args, v), offsetof(clat_attention_args, v_offset), 512},
    {"o", offsetof(clat_attention_args, o), offsetof(clat_attention_args, o_offset), 512},
    {"logsumexp", offsetof(clat_attention_args, logsumexp),
     offsetof(clat_attention_args, logsumexp_offset), 64},
};

enum { N_OPERANDS = sizeof operands / sizeof *operands };

struct fixture {
    clat_plan *plan;
    clat_attention_args args;
};

static void set_buffer(clat_attention_args *args, size_t operand, cl_mem buffer) {
    memcpy((char *)args + operands[operand].member, &buffer, sizeof buffer);
}

static void fixture_make(struct fixture *it) {
    const clat_attention_problem problem = small_problem();
    it->args = (clat_attention_args)CLAT_ATTENTION_ARGS_INIT;
    assert_ok(clat_attention_plan(&it->plan, harness_context(), &problem));
    for (size_t i = 0; i < N_OPERANDS; i++)
        set_buffer(&it->args, i, harness_buffer(operands[i].bytes, NULL));
}

static void fixture_free(struct fixture *it) {
    clat_plan_release(it->plan);
    for (size_t i = 0; i < N_OPERANDS; i++) {
        cl_mem buffer;
        memcpy(&buffer, (char *)&it->args + operands[i].member, sizeof buffer);
        clReleaseMemObject(buffer);
    }
}

static void expect(const struct fixture *it, const clat_attention_args *args, clat_status status,
                   const char *word) {
    assert_status(status, clat_attention_run(it->plan, harness_queue(), args, 0, NULL, NULL));
    if (word)
        assert_error_names(word);
}

static void test_buffers(void **state) {
    (void)state;
    struct fixture it;
    fixture_make(&it);
    expect(&it, &it.args, CLAT_OK, NULL);
    for (size_t i = 0; i < N_OPERANDS; i++) {
        clat_attention_args args = it.args;
        set_buffer(&args, i, NULL);
        expect(&it, &args, CLAT_INVALID_BUFFER, operands[i].name);

        cl_mem small = harness_buffer(operands[i].bytes - 1, NULL);
        set_buffer(&args, i, small);
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

/* Outputs may touch nothing; inputs may be one and the same. */
static void test_overlaps(void **state) {
    (void)state;
    struct fixture it;
    fixture_make(&it);
    cl_mem shared = harness_buffer(4096, NULL);
    for (size_t output = 3; output < N_OPERANDS; output++)
        for (size_t other = 0; other < output; other++) {
            clat_attention_args args = it.args;
            set_buffer(&args, output, shared);
            set_buffer(&args, other, shared);
            expect(&it, &args, CLAT_INVALID_OVERLAP, operands[output].name);
            expect(&it, &args, CLAT_INVALID_OVERLAP, operands[other].name);
            const size_t last = operands[output].bytes / 4 - 1, behind = last + 1;
            memcpy((char *)&args + operands[other].offset, &last, sizeof last);
            expect(&it, &args, CLAT_INVALID_OVERLAP, operands[other].name);
            memcpy((char *)&args + operands[other].offset, &behind, sizeof behind);
            expect(&it, &args, CLAT_OK, NULL);
        }
    clat_attention_args args = it.args;
    args.q = args.k = args.v = shared;
    expect(&it, &args, CLAT_OK, NULL);
    assert_cl(clFinish(harness_queue()));
    clReleaseMemObject(shared);
    fixture_free(&it);
}

static void test_strangers(void **state) {
    (void)state;
    struct fixture it;
    clat_plan *gemm = NULL;
    const clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    cl_int err;
    cl_device_id device = clat_context_device(harness_context());
    cl_context other = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
    assert_cl(err);
    cl_command_queue queue = clCreateCommandQueue(other, device, 0, &err);
    assert_cl(err);
    cl_mem foreign = clCreateBuffer(other, CL_MEM_READ_WRITE, 512, NULL, &err);
    assert_cl(err);

    fixture_make(&it);
    assert_status(CLAT_INVALID_CONTEXT,
                  clat_attention_run(it.plan, queue, &it.args, 0, NULL, NULL));
    assert_error_names("queue");
    clat_attention_args args = it.args;
    args.v = foreign;
    expect(&it, &args, CLAT_INVALID_CONTEXT, "v");
    assert_ok(clat_gemm_plan(&gemm, harness_context(), &problem));
    assert_status(CLAT_INVALID_PLAN,
                  clat_attention_run(gemm, harness_queue(), &it.args, 0, NULL, NULL));
    clat_plan_release(gemm);
    fixture_free(&it);
    clReleaseMemObject(foreign);
    clReleaseCommandQueue(queue);
    clReleaseContext(other);
}

/* An implementation that cannot run here says why; a GPU has no use for the CPU's. */
static void test_declined(void **state) {
    (void)state;
    clat_attention_problem problem = small_problem();
    clat_plan *plan = NULL;
    if (harness_device_is_cpu())
        skip();
    problem.implementation = "cpu";
    assert_status(CLAT_UNSUPPORTED, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names("CPU");
}

int main(void) {
    for (size_t i = 0; i < sizeof bad_problems / sizeof *bad_problems; i++)
        harness_add(bad_problems[i].name, test_bad_problem, &bad_problems[i]);
    harness_add("missing pointers", test_missing, NULL);
    harness_add("masks that do not fit", test_masks, NULL);
    harness_add("missing and short buffers", test_buffers, NULL);
    harness_add("overlaps", test_overlaps, NULL);
    harness_add("strangers", test_strangers, NULL);
    harness_add("declined", test_declined, NULL);
    return harness_run_added();
}
