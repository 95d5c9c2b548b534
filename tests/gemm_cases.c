#include "gemm_cases.h"

#include "dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- operands */

enum { TAIL = 11 }; /* elements behind each operand, where harness_tail() allows any */

#define CANARY (-192.0) /* no result is; exact in every type */

/* `batch` matrices as they are stored. */
struct operand {
    clat_dtype dtype;
    bool column_major;
    size_t rows, columns, ld, batch;
    size_t *start; /* the first element of each matrix */
    size_t count;  /* elements of the buffer */
    void *data;
    cl_mem buffer;
};

static size_t element(const struct operand *x, size_t b, size_t i, size_t j) {
    return x->start[b] + (x->column_major ? j * x->ld + i : i * x->ld + j);
}

static struct operand operand_new(clat_dtype dtype, clat_layout layout, size_t rows, size_t columns,
                                  size_t ld, size_t batch, size_t stride, size_t offset) {
    struct operand x = {.dtype = dtype, .rows = rows, .columns = columns, .batch = batch};
    x.column_major = layout == CLAT_COL_MAJOR;
    x.ld = ld ? ld : x.column_major ? rows : columns;
    const size_t lines = x.column_major ? columns : rows;
    x.start = harness_alloc(batch * sizeof *x.start);
    for (size_t b = 0; b < batch; b++)
        x.start[b] = offset + b * stride;
    /* Behind the last element, whatever the padding of lines. */
    const size_t run = x.column_major ? rows : columns;
    x.count = x.start[batch - 1] + (lines ? (lines - 1) * x.ld + run : 0) + harness_tail(TAIL);
    x.data = harness_alloc(x.count * clat_dtype_bytes(dtype));
    return x;
}

/* `outside` where no element is; elements random, or all NaN. */
static void operand_fill(struct operand *x, double outside, bool random, uint64_t seed) {
    harness_fill_value(x->dtype, x->data, x->count, outside);
    for (size_t b = 0; b < x->batch; b++)
        for (size_t i = 0; i < x->rows; i++)
            for (size_t j = 0; j < x->columns; j++)
                dtype_store(x->dtype, x->data, element(x, b, i, j),
                            random ? harness_random_real(&seed, 1.0) : (double)NAN);
}

static void operand_upload(struct operand *x) {
    const size_t bytes = x->count * clat_dtype_bytes(x->dtype);
    if (x->buffer)
        harness_write(x->buffer, 0, bytes, x->data);
    else
        x->buffer = harness_buffer(bytes, x->data);
}

static void operand_free(struct operand *x) {
    free(x->start);
    free(x->data);
    if (x->buffer)
        clReleaseMemObject(x->buffer);
}

static double operand_get(const struct operand *x, size_t b, size_t i, size_t j) {
    return dtype_load(x->dtype, x->data, element(x, b, i, j));
}

/* ---- the reference */

struct gemm_case {
    const char *name;
    const clat_gemm_problem *problem;
    struct operand a, b, c, bias;
};

static double activate(clat_activation activation, double x) {
    switch (activation) {
    case CLAT_ACT_RELU:
        return x < 0 ? 0 : x;
    case CLAT_ACT_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case CLAT_ACT_SILU:
        return x / (1 + exp(-x));
    default:
        return x;
    }
}

/* C[b][i][j] and how far off an implementation may be: rounding errors of k products of random sign
 * add up to about sqrt(k) units, far less than one product. */
static double reference(const struct gemm_case *it, size_t b, size_t i, size_t j, double alpha,
                        double beta, double *bound) {
    const clat_gemm_problem *p = it->problem;
    const double eps = dtype_epsilon(p->dtype == CLAT_F64 ? CLAT_F64 : CLAT_F32);
    const bool tf32 = p->dtype == CLAT_F32 && p->precision == CLAT_PRECISION_NATIVE;
    double sum = 0, size = 0, squares = 0;
    for (size_t k = 0; k < p->k && alpha != 0; k++) {
        const double x = p->trans_a ? operand_get(&it->a, b, k, i) : operand_get(&it->a, b, i, k);
        const double y = p->trans_b ? operand_get(&it->b, b, j, k) : operand_get(&it->b, b, k, j);
        sum += x * y;
        size += fabs(x * y);
        squares += x * y * x * y;
    }
    double value = alpha == 0 ? 0 : alpha * sum;
    *bound = (2 * sqrt((double)p->k) + 8) * eps * fabs(alpha) * size;
    if (tf32) /* operands are cut: less by up to 2^-10 each, half of that in the mean */
        *bound += fabs(alpha) * (2 * 0x1p-10 * fabs(sum) + 6 * 0x1p-11 * sqrt(squares));
    if (beta != 0) {
        value += beta * operand_get(&it->c, b, i, j);
        *bound += 4 * eps * fabs(beta);
    }
    if (p->bias != CLAT_BIAS_NONE) {
        value += operand_get(&it->bias, 0, 0, p->bias == CLAT_BIAS_ROW ? i : j);
        *bound += 4 * eps;
    }
    value = activate(p->activation, value);
    *bound = 1.2 * *bound + (p->activation ? 64 * eps * (fabs(value) + 0.1) : 0);
    *bound +=
        dtype_epsilon(it->c.dtype) * (fabs(value) + *bound) + 0x1p-25 * (it->c.dtype == CLAT_F16);
    return value;
}

/* ---- running and comparing */

static void compare_matrix(const struct gemm_case *it, const void *got, size_t b, double alpha,
                           double beta) {
    const struct operand *c = &it->c;
    const size_t lines = c->column_major ? c->columns : c->rows;
    const size_t run = c->column_major ? c->rows : c->columns;
    double *expected = harness_alloc((lines * run + 1) * sizeof *expected);
    double *bounds = harness_alloc((lines * run + 1) * sizeof *bounds);
    for (size_t line = 0; line < lines; line++)
        for (size_t x = 0; x < run; x++) {
            const size_t i = c->column_major ? x : line, j = c->column_major ? line : x;
            expected[line * run + x] = reference(it, b, i, j, alpha, beta, &bounds[line * run + x]);
        }
    const char *first = (const char *)got + c->start[b] * clat_dtype_bytes(c->dtype);
    assert_matrix(it->name, c->dtype, first, lines, run, c->ld, expected, bounds, 0);
    free(expected);
    free(bounds);
}

static void check_canaries(const struct gemm_case *it, const void *got) {
    const struct operand *c = &it->c;
    bool *inside = harness_alloc(c->count);
    memset(inside, 0, c->count);
    for (size_t b = 0; b < c->batch; b++)
        for (size_t i = 0; i < c->rows; i++)
            for (size_t j = 0; j < c->columns; j++)
                inside[element(c, b, i, j)] = true;
    for (size_t i = 0; i < c->count; i++)
        if (!inside[i] && dtype_load(c->dtype, got, i) != CANARY)
            fail_msg("%s: element %zu outside of C was overwritten with %g", it->name, i,
                     dtype_load(c->dtype, got, i));
    free(inside);
}

static void case_make(struct gemm_case *it, const char *name, const clat_gemm_problem *p,
                      bool shifted) {
    const bool ta = p->trans_a == CLAT_TRANS, tb = p->trans_b == CLAT_TRANS;
    const clat_dtype dtype_c = p->dtype_c ? p->dtype_c : p->dtype;
    const size_t bias = p->bias == CLAT_BIAS_ROW ? p->m : p->bias == CLAT_BIAS_COLUMN ? p->n : 0;
    memset(it, 0, sizeof *it);
    it->name = name;
    it->problem = p;
    it->a = operand_new(p->dtype, p->layout, ta ? p->k : p->m, ta ? p->m : p->k, p->lda, p->batch,
                        p->stride_a, shifted ? 5 : 0);
    it->b = operand_new(p->dtype, p->layout, tb ? p->n : p->k, tb ? p->k : p->n, p->ldb, p->batch,
                        p->stride_b, shifted ? 3 : 0);
    it->c = operand_new(dtype_c, p->layout, p->m, p->n, p->ldc, p->batch, 0, shifted ? 7 : 0);
    it->bias = operand_new(dtype_c, CLAT_ROW_MAJOR, 1, bias, 0, 1, 0, shifted ? 1 : 0);
    operand_fill(&it->bias, NAN, true, 4);
}

static void case_free(struct gemm_case *it) {
    operand_free(&it->a);
    operand_free(&it->b);
    operand_free(&it->c);
    operand_free(&it->bias);
}

static void case_upload(struct gemm_case *it, bool poison_inputs, bool poison_output) {
    operand_fill(&it->a, NAN, !poison_inputs, 1);
    operand_fill(&it->b, NAN, !poison_inputs, 2);
    operand_fill(&it->c, CANARY, !poison_output, 3);
    operand_upload(&it->a);
    operand_upload(&it->b);
    operand_upload(&it->c);
    operand_upload(&it->bias);
}

static void case_compare(const struct gemm_case *it, const double *alpha, const double *beta) {
    const size_t bytes = it->c.count * clat_dtype_bytes(it->c.dtype);
    void *got = harness_alloc(bytes);
    harness_read(it->c.buffer, 0, bytes, got);
    for (size_t b = 0; b < it->c.batch; b++)
        compare_matrix(it, got, b, alpha[b], beta[b]);
    check_canaries(it, got);
    free(got);
}

static clat_plan *plan_new(const clat_gemm_problem *problem) {
    clat_plan *plan = NULL;
    assert_ok(clat_gemm_plan(&plan, harness_context(), problem));
    if (problem->implementation && problem->m && problem->n && problem->batch)
        assert_string_equal(clat_plan_get_info(plan)->implementation, problem->implementation);
    return plan;
}

static clat_gemm_args case_args(const struct gemm_case *it) {
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = it->a.buffer;
    args.b = it->b.buffer;
    args.c = it->c.buffer;
    args.bias = it->problem->bias ? it->bias.buffer : NULL;
    args.bias_offset = it->bias.start[0];
    return args;
}

void gemm_check(const char *name, const clat_gemm_problem *problem, bool shifted) {
    static const double scalars[][2] = {{1, 0}, {-0.75, 0.5}, {0, 2}, {1.5, 1}};
    struct gemm_case it;
    case_make(&it, name, problem, shifted);
    const size_t tight = problem->layout ? problem->n * it.c.ld : problem->m * it.c.ld;
    const size_t stride_c = problem->stride_c ? problem->stride_c : tight;
    for (size_t b = 0; b < it.c.batch; b++)
        it.c.start[b] += b * stride_c;
    it.c.count += (it.c.batch - 1) * stride_c;
    it.c.data = realloc(it.c.data, it.c.count * clat_dtype_bytes(it.c.dtype));
    assert_non_null(it.c.data);

    clat_plan *plan = plan_new(problem);
    for (size_t s = 0; s < sizeof scalars / sizeof *scalars; s++) {
        clat_gemm_args args;
        double alpha[8], beta[8];
        assert_true(problem->batch <= 8);
        for (size_t b = 0; b < 8; b++)
            alpha[b] = scalars[s][0], beta[b] = scalars[s][1];
        case_upload(&it, scalars[s][0] == 0, scalars[s][1] == 0);
        args = case_args(&it);
        args.a_offset = it.a.start[0];
        args.b_offset = it.b.start[0];
        args.c_offset = it.c.start[0];
        args.alpha = scalars[s][0];
        args.beta = scalars[s][1];
        assert_ok(clat_gemm_run(plan, harness_queue(), &args, 0, NULL, NULL));
        case_compare(&it, alpha, beta);
    }
    clat_plan_release(plan);
    case_free(&it);
}

/* ---- lists of offsets */

/* Matrices in reverse order with gaps, so that nothing is at a stride. */
static void scatter(struct operand *x) {
    const size_t lines = x->column_major ? x->columns : x->rows;
    size_t at = 0;
    for (size_t b = x->batch; b-- > 0;) {
        at += 3 + b;
        x->start[b] = at;
        at += lines * x->ld;
    }
    x->count = at + harness_tail(TAIL);
    x->data = realloc(x->data, x->count * clat_dtype_bytes(x->dtype));
    assert_non_null(x->data);
}

/* Offsets relative to `base`, which the arguments add again. */
static cl_mem offset_list(const struct operand *x, size_t base) {
    cl_ulong list[8];
    for (size_t b = 0; b < x->batch; b++)
        list[b] = x->start[b] - base;
    return harness_buffer(x->batch * sizeof *list, list);
}

static cl_mem scalar_list(clat_dtype dtype, const double *values, size_t count) {
    double storage[8];
    const clat_dtype real = dtype == CLAT_F64 ? CLAT_F64 : CLAT_F32;
    for (size_t i = 0; i < count; i++)
        dtype_store(real, storage, i, values[i]);
    return harness_buffer(count * clat_dtype_bytes(real), storage);
}

void gemm_check_offsets(const char *name, const clat_gemm_problem *problem) {
    static const double alpha[8] = {1, -0.5, 0, 2, 1, 1, 1, 1};
    static const double beta[8] = {0.5, 0, 1, -1, 0, 0, 0, 0};
    struct gemm_case it;
    case_make(&it, name, problem, false);
    scatter(&it.a);
    scatter(&it.b);
    scatter(&it.c);
    case_upload(&it, false, false);

    clat_plan *plan = plan_new(problem);
    clat_gemm_args args = case_args(&it);
    args.a_offset = 1, args.b_offset = 2, args.c_offset = 3;
    args.a_offsets = offset_list(&it.a, 1);
    args.b_offsets = offset_list(&it.b, 2);
    args.c_offsets = offset_list(&it.c, 3);
    args.alphas = scalar_list(problem->dtype, alpha, problem->batch);
    args.betas = scalar_list(problem->dtype, beta, problem->batch);
    assert_ok(clat_gemm_run(plan, harness_queue(), &args, 0, NULL, NULL));
    case_compare(&it, alpha, beta);

    clReleaseMemObject(args.a_offsets);
    clReleaseMemObject(args.b_offsets);
    clReleaseMemObject(args.c_offsets);
    clReleaseMemObject(args.alphas);
    clReleaseMemObject(args.betas);
    clat_plan_release(plan);
    case_free(&it);
}
