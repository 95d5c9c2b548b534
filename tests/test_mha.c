/* Multi-head attention against a plain f64 computation of the whole layer. */
#include "dtype.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct layer {
    const char *name;
    clat_dtype dtype;
    size_t batch, seq, embed, heads, kv_heads, head_dim;
    bool bias, causal;
    double tolerance;
};

static const struct layer layers[] = {
    {"f32", CLAT_F32, 2, 37, 48, 3, 0, 0, false, false, 3e-6},
    {"f32 causal, grouped, bias", CLAT_F32, 2, 50, 48, 4, 2, 16, true, true, 3e-6},
    {"f32 heads wider than embed", CLAT_F32, 1, 19, 10, 2, 1, 16, true, false, 3e-6},
    {"one token", CLAT_F32, 3, 1, 48, 3, 0, 0, true, true, 3e-6},
    {"f16 causal", CLAT_F16, 1, 33, 48, 3, 0, 0, true, true, 4e-3},
    {"bf16 grouped", CLAT_BF16, 1, 33, 64, 4, 1, 16, false, false, 3e-2},
};

struct tensors {
    void *x, *w_qkv, *w_o, *b_qkv, *b_o; /* stored */
    size_t n_x, n_qkv, n_o, n_bqkv, n_bo;
};

static size_t width_of(const struct layer *l, size_t kv, size_t d) {
    return (l->heads + 2 * kv) * d;
}

static double at(const struct layer *l, const void *data, size_t index) {
    return dtype_load(l->dtype, data, index);
}

/* c[m][n] = a[m][k] w[n][k]^T + bias, a in f64, w stored. */
static void project(const struct layer *l, double *c, const double *a, const void *w,
                    const void *bias, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = bias ? at(l, bias, j) : 0;
            for (size_t p = 0; p < k; p++)
                sum += a[i * k + p] * at(l, w, j * k + p);
            c[i * n + j] = sum;
        }
}

static void attend(const struct layer *l, size_t kv, size_t d, const double *packed, double *o) {
    const size_t width = width_of(l, kv, d);
    double *p = harness_alloc(l->seq * sizeof *p);
    for (size_t h = 0; h < l->heads; h++)
        for (size_t i = 0; i < l->seq; i++) {
            const size_t g = h / (l->heads / kv), keys = l->causal ? i + 1 : l->seq;
            double most = -INFINITY, sum = 0;
            for (size_t j = 0; j < keys; j++) {
                p[j] = 0;
                for (size_t c = 0; c < d; c++)
                    p[j] += packed[i * width + h * d + c] *
                            packed[j * width + (l->heads + g) * d + c] / sqrt((double)d);
                most = fmax(most, p[j]);
            }
            for (size_t j = 0; j < keys; j++)
                sum += p[j] = exp(p[j] - most);
            for (size_t c = 0; c < d; c++) {
                double value = 0;
                for (size_t j = 0; j < keys; j++)
                    value += p[j] / sum * packed[j * width + (l->heads + kv + g) * d + c];
                o[i * l->heads * d + h * d + c] = value;
            }
        }
    free(p);
}

static void *random_tensor(clat_dtype dtype, size_t count, uint64_t seed, double range) {
    void *data = harness_alloc(count * 8 + 8);
    harness_fill(dtype, data, count, seed, range);
    return data;
}

static struct tensors make_tensors(const struct layer *l, size_t kv, size_t d) {
    const size_t width = width_of(l, kv, d), attended = l->heads * d;
    struct tensors t = {.n_x = l->batch * l->seq * l->embed,
                        .n_qkv = width * l->embed,
                        .n_o = l->embed * attended,
                        .n_bqkv = width,
                        .n_bo = l->embed};
    t.x = random_tensor(l->dtype, t.n_x, 1, 2);
    t.w_qkv = random_tensor(l->dtype, t.n_qkv, 2, sqrt(3 / (double)l->embed));
    t.w_o = random_tensor(l->dtype, t.n_o, 3, sqrt(3 / (double)attended));
    t.b_qkv = random_tensor(l->dtype, t.n_bqkv, 4, 0.5);
    t.b_o = random_tensor(l->dtype, t.n_bo, 5, 0.5);
    return t;
}

static void free_tensors(struct tensors *t) {
    free(t->x);
    free(t->w_qkv);
    free(t->w_o);
    free(t->b_qkv);
    free(t->b_o);
}

static double *reference(const struct layer *l, const struct tensors *t, size_t kv, size_t d) {
    const size_t width = width_of(l, kv, d), attended = l->heads * d, tokens = l->batch * l->seq;
    double *x = harness_alloc(t->n_x * sizeof *x), *packed = harness_alloc(tokens * width * 8),
           *o = harness_alloc(tokens * attended * 8), *y = harness_alloc(t->n_x * sizeof *y);
    for (size_t i = 0; i < t->n_x; i++)
        x[i] = at(l, t->x, i);
    project(l, packed, x, t->w_qkv, l->bias ? t->b_qkv : NULL, tokens, width, l->embed);
    for (size_t b = 0; b < l->batch; b++)
        attend(l, kv, d, packed + b * l->seq * width, o + b * l->seq * attended);
    project(l, y, o, t->w_o, l->bias ? t->b_o : NULL, tokens, l->embed, attended);
    free(x);
    free(packed);
    free(o);
    return y;
}

/* Runs on a queue with or without a caller's workspace, compares, looks at the guard after y. */
static void run_and_compare(const struct layer *l, const clat_plan *plan, cl_command_queue queue,
                            const struct tensors *t, const double *expected, cl_mem workspace) {
    const size_t bytes = clat_dtype_bytes(l->dtype), guard = 16;
    clat_mha_args args = CLAT_MHA_ARGS_INIT;
    args.x = harness_buffer(t->n_x * bytes, t->x);
    args.w_qkv = harness_buffer(t->n_qkv * bytes, t->w_qkv);
    args.w_o = harness_buffer(t->n_o * bytes, t->w_o);
    args.b_qkv = l->bias ? harness_buffer(t->n_bqkv * bytes, t->b_qkv) : NULL;
    args.b_o = l->bias ? harness_buffer(t->n_bo * bytes, t->b_o) : NULL;
    args.y = harness_buffer((t->n_x + 2 * guard) * bytes, NULL);
    args.y_offset = guard;
    args.workspace = workspace;
    cl_event event = NULL;
    assert_ok(clat_mha_run(plan, queue, &args, 0, NULL, &event));
    assert_cl(clWaitForEvents(1, &event));
    clReleaseEvent(event);
    char *y = harness_alloc((t->n_x + 2 * guard) * bytes);
    harness_read(args.y, 0, (t->n_x + 2 * guard) * bytes, y);
    for (size_t i = 0; i < guard; i++) {
        assert_true(isnan(at(l, y, i)));
        assert_true(isnan(at(l, y, guard + t->n_x + i)));
    }
    assert_matrix(l->name, l->dtype, y + guard * bytes, l->batch * l->seq, l->embed, l->embed,
                  expected, NULL, l->tolerance);
    free(y);
    clReleaseMemObject(args.x);
    clReleaseMemObject(args.w_qkv);
    clReleaseMemObject(args.w_o);
    clReleaseMemObject(args.y);
    if (l->bias) {
        clReleaseMemObject(args.b_qkv);
        clReleaseMemObject(args.b_o);
    }
}

static clat_mha_problem problem_of(const struct layer *l, const clat_mask *mask) {
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    problem.dtype = l->dtype;
    problem.batch = l->batch;
    problem.seq = l->seq;
    problem.embed = l->embed;
    problem.heads = l->heads;
    problem.kv_heads = l->kv_heads;
    problem.head_dim = l->head_dim;
    problem.bias = l->bias;
    problem.mask = mask;
    return problem;
}

static void test_layer(void **state) {
    const struct layer *l = *state;
    const size_t kv = l->kv_heads ? l->kv_heads : l->heads,
                 d = l->head_dim ? l->head_dim : l->embed / l->heads;
    clat_mask *mask = NULL;
    clat_plan *plan = NULL;
    if (l->causal)
        assert_ok(clat_mask_causal(&mask, CLAT_CAUSAL_TOP_LEFT));
    const clat_mha_problem problem = problem_of(l, mask);
    assert_ok(clat_mha_plan(&plan, harness_context(), &problem));
    clat_mask_release(mask); /* the plan keeps its own */
    struct tensors t = make_tensors(l, kv, d);
    double *expected = reference(l, &t, kv, d);
    const size_t workspace_bytes = clat_plan_get_info(plan)->workspace_bytes;
    cl_mem workspace = harness_buffer(workspace_bytes, NULL);
    cl_command_queue loose = harness_new_queue(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    run_and_compare(l, plan, harness_queue(), &t, expected, NULL);
    run_and_compare(l, plan, harness_queue(), &t, expected, workspace);
    run_and_compare(l, plan, loose, &t, expected, NULL);
    clReleaseCommandQueue(loose);
    clReleaseMemObject(workspace);
    free(expected);
    free_tensors(&t);
    clat_plan_release(plan);
}

/* The f64 judge of trials agrees with results that the reference above found right, and notices a
 * wrong one. */
static void test_trial(void **state) {
    (void)state;
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    for (size_t i = 1; i < sizeof layers / sizeof layers[0]; i++) {
        const clat_mha_problem problem = problem_of(&layers[i], NULL);
        assert_ok(clat_mha_plan(&plan, harness_context(), &problem));
        assert_ok(clat_trial_create(&trial, plan, i));
        assert_ok(clat_trial_verify(trial, plan, &verdict));
        if (!verdict.ok)
            fail_msg("%s: error %g above %g at %s", layers[i].name, verdict.worst, verdict.bound,
                     verdict.where);
        /* Half of each output: far outside any rounding bound. */
        size_t offset = 0;
        cl_mem y = clat_trial_buffer(trial, "y", &offset);
        const size_t bytes = clat_dtype_bytes(problem.dtype),
                     count = problem.batch * problem.seq * problem.embed;
        char *data = harness_alloc(count * bytes);
        harness_read(y, offset * bytes, count * bytes, data);
        for (size_t e = 0; e < count; e++)
            dtype_store(problem.dtype, data, e, 0.5 * dtype_load(problem.dtype, data, e));
        harness_write(y, offset * bytes, count * bytes, data);
        free(data);
        assert_ok(clat_trial_verify(trial, NULL, &verdict));
        assert_false(verdict.ok);
        assert_true(verdict.guards);
        clat_trial_release(trial);
        clat_plan_release(plan);
    }
}

static void test_empty(void **state) {
    (void)state;
    clat_plan *plan = NULL;
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    problem.seq = 0;
    problem.embed = 16;
    assert_ok(clat_mha_plan(&plan, harness_context(), &problem));
    assert_ok(
        clat_mha_run(plan, harness_queue(), &(clat_mha_args)CLAT_MHA_ARGS_INIT, 0, NULL, NULL));
    clat_plan_release(plan);
}

static void test_invalid_problems(void **state) {
    (void)state;
    const struct {
        clat_mha_problem problem;
        clat_status status;
        const char *word;
    } cases[] = {
        {{.batch = 1, .seq = 4, .embed = 16, .heads = 1}, CLAT_INVALID_ARGUMENT, "dtype"},
        {{.dtype = CLAT_F64, .batch = 1, .seq = 4, .embed = 16, .heads = 1},
         CLAT_INVALID_TYPE,
         "dtype"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 16}, CLAT_INVALID_SIZE, "heads"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 17, .heads = 2},
         CLAT_INVALID_SIZE,
         "embed"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 0, .heads = 2},
         CLAT_INVALID_SIZE,
         "head_dim"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 600, .heads = 2},
         CLAT_INVALID_SIZE,
         "head_dim"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 16, .heads = 4, .kv_heads = 3},
         CLAT_INVALID_SIZE,
         "kv_heads"},
        {{.dtype = CLAT_F32, .batch = SIZE_MAX / 8, .seq = 4, .embed = 16, .heads = 4},
         CLAT_INVALID_SIZE,
         "batch"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 16, .heads = 4, .scale = NAN},
         CLAT_INVALID_ARGUMENT,
         "scale"},
        {{.dtype = CLAT_F32, .batch = 1, .seq = 4, .embed = 16, .heads = 4, .implementation = "x"},
         CLAT_NOT_FOUND,
         "implementation"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clat_plan *plan = (clat_plan *)&plan;
        assert_status(cases[i].status, clat_mha_plan(&plan, harness_context(), &cases[i].problem));
        assert_non_null(strstr(clat_error_text(), cases[i].word));
        assert_null(plan);
    }
    clat_plan *plan = NULL;
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_plan(NULL, harness_context(), &cases[0].problem));
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_plan(&plan, NULL, &cases[0].problem));
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_plan(&plan, harness_context(), NULL));
}

static void test_invalid_args(void **state) {
    (void)state;
    clat_plan *plan = NULL;
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    problem.seq = 4;
    problem.embed = 16;
    problem.heads = 1;
    problem.bias = true;
    assert_ok(clat_mha_plan(&plan, harness_context(), &problem));
    cl_mem big = harness_buffer(4096, NULL), out = harness_buffer(256, NULL),
           small = harness_buffer(16, NULL);
    const clat_mha_args good = {
        .x = big, .w_qkv = big, .w_o = big, .y = out, .b_qkv = big, .b_o = big};
    assert_ok(clat_mha_run(plan, harness_queue(), &good, 0, NULL, NULL));
    assert_cl(clFinish(harness_queue()));
#define BAD(field, value, status, word)                                                            \
    do {                                                                                           \
        clat_mha_args args = good;                                                                 \
        args.field = value;                                                                        \
        assert_status(status, clat_mha_run(plan, harness_queue(), &args, 0, NULL, NULL));          \
        assert_non_null(strstr(clat_error_text(), word));                                          \
    } while (0)
    BAD(x, NULL, CLAT_INVALID_BUFFER, "args.x");
    BAD(x, small, CLAT_INVALID_BUFFER, "args.x");
    BAD(w_qkv, small, CLAT_INVALID_BUFFER, "args.w_qkv");
    BAD(w_o, small, CLAT_INVALID_BUFFER, "args.w_o");
    BAD(y, small, CLAT_INVALID_BUFFER, "args.y");
    BAD(y, big, CLAT_INVALID_OVERLAP, "args.y");
    BAD(b_qkv, NULL, CLAT_INVALID_BUFFER, "args.b_qkv");
    BAD(b_o, small, CLAT_INVALID_BUFFER, "args.b_o");
    BAD(x_offset, SIZE_MAX / 2, CLAT_INVALID_SIZE, "args.x_offset");
    BAD(workspace, small, CLAT_INVALID_BUFFER, "args.workspace");
    BAD(workspace, big, CLAT_INVALID_OVERLAP, "args.workspace");
    BAD(workspace, out, CLAT_INVALID_BUFFER, "args.workspace");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_run(plan, harness_queue(), NULL, 0, NULL, NULL));
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_run(NULL, harness_queue(), &good, 0, NULL, NULL));
    assert_status(CLAT_INVALID_ARGUMENT, clat_mha_run(plan, NULL, &good, 0, NULL, NULL));
    clReleaseMemObject(big);
    clReleaseMemObject(out);
    clReleaseMemObject(small);
    clat_plan_release(plan);
}

int main(void) {
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        harness_add(layers[i].name, test_layer, &layers[i]);
    harness_add("trial", test_trial, NULL);
    harness_add("empty", test_empty, NULL);
    harness_add("invalid problems", test_invalid_problems, NULL);
    harness_add("invalid arguments", test_invalid_args, NULL);
    return harness_run_added();
}
