/* What a legal GEMM problem is, and its normal form. */
#include "gemm.h"

#include "plan.h"

#include <string.h>

size_t gemm_rows_a(const struct gemm *gemm) {
    return gemm->trans_a ? gemm->k : gemm->m;
}

size_t gemm_columns_a(const struct gemm *gemm) {
    return gemm->trans_a ? gemm->m : gemm->k;
}

size_t gemm_rows_b(const struct gemm *gemm) {
    return gemm->trans_b ? gemm->n : gemm->k;
}

size_t gemm_columns_b(const struct gemm *gemm) {
    return gemm->trans_b ? gemm->k : gemm->n;
}

static clat_status check_enumerator(const char *name, unsigned value, unsigned last) {
    if (value > last)
        return status_fail(CLAT_INVALID_ARGUMENT, "problem.%s is %u, which is not one of its names",
                           name, value);
    return CLAT_OK;
}

static clat_status check_enumerators(const clat_gemm_problem *problem) {
    clat_status st = CLAT_OK;
    TRY(check_enumerator("layout", problem->layout, CLAT_COL_MAJOR));
    TRY(check_enumerator("trans_a", problem->trans_a, CLAT_TRANS));
    TRY(check_enumerator("trans_b", problem->trans_b, CLAT_TRANS));
    TRY(check_enumerator("dtype", problem->dtype, CLAT_BF16));
    TRY(check_enumerator("dtype_c", problem->dtype_c, CLAT_BF16));
    TRY(check_enumerator("batching", problem->batching, CLAT_BATCH_OFFSETS));
    TRY(check_enumerator("bias", problem->bias, CLAT_BIAS_COLUMN));
    TRY(check_enumerator("activation", problem->activation, CLAT_ACT_SILU));
    TRY(check_enumerator("precision", problem->precision, CLAT_PRECISION_NATIVE));
out:
    return st;
}

static clat_status check_types(const clat_gemm_problem *problem) {
    const clat_dtype in = problem->dtype, out = problem->dtype_c;
    if (in == CLAT_DTYPE_DEFAULT)
        return status_fail(CLAT_INVALID_TYPE, "problem.dtype is not given");
    const bool widened = out == CLAT_F32 && (in == CLAT_F16 || in == CLAT_BF16);
    if (out != CLAT_DTYPE_DEFAULT && out != in && !widened)
        return status_fail(CLAT_INVALID_TYPE, "problem.dtype_c is %s, which %s inputs do not give",
                           clat_dtype_name(out), clat_dtype_name(in));
    return CLAT_OK;
}

/* One matrix as it is stored: `lines` runs of `run` neighbours, `ld` apart. */
struct matrix {
    const char *name;
    size_t lines, run, batch, element_bytes;
    size_t ld, stride;
};

static struct matrix stored_matrix(const clat_gemm_problem *problem, const char *name, size_t rows,
                                   size_t columns, size_t ld, size_t stride, clat_dtype dtype) {
    const bool rows_run = problem->layout == CLAT_COL_MAJOR;
    const bool strided = problem->batching == CLAT_BATCH_STRIDED && problem->batch > 1;
    return (struct matrix){
        .name = name,
        .lines = rows_run ? columns : rows,
        .run = rows_run ? rows : columns,
        .batch = strided ? problem->batch : 1,
        .element_bytes = clat_dtype_bytes(dtype),
        .ld = ld,
        .stride = strided ? stride : 0,
    };
}

static clat_status check_matrix(struct matrix *matrix, bool output) {
    const char *name = matrix->name;
    if (matrix->ld == 0)
        matrix->ld = matrix->run > 0 ? matrix->run : 1;
    if (matrix->ld < matrix->run)
        return status_fail(CLAT_INVALID_STRIDE, "problem.ld%s is %zu, less than the %zu of a %s",
                           name, matrix->ld, matrix->run, "stored row or column");
    if (output && matrix->stride == 0 && matrix->batch > 1 &&
        !size_multiply(matrix->lines, matrix->ld, &matrix->stride))
        return status_fail(CLAT_INVALID_SIZE, "problem.ld%s times its rows overflows 64 bits",
                           name);
    const size_t extent[3] = {matrix->batch, matrix->lines, matrix->run};
    const size_t stride[3] = {matrix->stride, matrix->ld, 1};
    size_t elements;
    if (!view_span(3, extent, stride, matrix->element_bytes, &elements))
        return status_fail(CLAT_INVALID_SIZE, "problem: the bytes of %s overflow 64 bits", name);
    if (output && view_self_overlaps(3, extent, stride))
        return status_fail(CLAT_INVALID_OVERLAP,
                           "problem.stride_%s is %zu: matrices of %s overlap each other", name,
                           matrix->stride, name);
    return CLAT_OK;
}

/* The swap of column-major: see struct gemm. */
static void fill(struct gemm *out, const clat_gemm_problem *problem, const struct matrix *a,
                 const struct matrix *b, const struct matrix *c) {
    const bool swap = problem->layout == CLAT_COL_MAJOR;
    const struct matrix *left = swap ? b : a, *right = swap ? a : b;
    memset(out, 0, sizeof *out); /* padding too: plans are found by comparing bytes */
    out->m = swap ? problem->n : problem->m;
    out->n = swap ? problem->m : problem->n;
    out->k = problem->k;
    out->batch = problem->batch;
    out->lda = left->ld, out->ldb = right->ld, out->ldc = c->ld;
    out->stride_a = left->stride, out->stride_b = right->stride, out->stride_c = c->stride;
    out->trans_a = swap ? problem->trans_b : problem->trans_a;
    out->trans_b = swap ? problem->trans_a : problem->trans_b;
    out->dtype = problem->dtype;
    out->dtype_c = problem->dtype_c ? problem->dtype_c : problem->dtype;
    out->batching = problem->batching;
    out->bias = problem->bias;
    if (swap && problem->bias != CLAT_BIAS_NONE)
        out->bias = problem->bias == CLAT_BIAS_ROW ? CLAT_BIAS_COLUMN : CLAT_BIAS_ROW;
    out->activation = problem->activation;
    if (problem->dtype != CLAT_F64)
        out->precision = problem->precision;
    out->layout = problem->layout;
}

clat_status gemm_normalise(struct gemm *out, const clat_gemm_problem *problem) {
    clat_status st = CLAT_OK;
    TRY(check_enumerators(problem));
    TRY(check_types(problem));

    const size_t m = problem->m, n = problem->n, k = problem->k;
    const bool ta = problem->trans_a == CLAT_TRANS, tb = problem->trans_b == CLAT_TRANS;
    const clat_dtype dtype_c = problem->dtype_c ? problem->dtype_c : problem->dtype;
    struct matrix a = stored_matrix(problem, "a", ta ? k : m, ta ? m : k, problem->lda,
                                    problem->stride_a, problem->dtype);
    struct matrix b = stored_matrix(problem, "b", tb ? n : k, tb ? k : n, problem->ldb,
                                    problem->stride_b, problem->dtype);
    struct matrix c = stored_matrix(problem, "c", m, n, problem->ldc, problem->stride_c, dtype_c);
    TRY(check_matrix(&a, false));
    TRY(check_matrix(&b, false));
    TRY(check_matrix(&c, true));
    if (problem->batching == CLAT_BATCH_OFFSETS && problem->batch > INT64_MAX / sizeof(cl_ulong))
        TRY(status_fail(CLAT_INVALID_SIZE, "problem.batch is %zu: its lists overflow 64 bits",
                        problem->batch));
    fill(out, problem, &a, &b, &c);
out:
    return st;
}

/* ---- for people */

static void print_strides(const struct gemm *gemm, struct text *out) {
    const bool swap = gemm->layout == CLAT_COL_MAJOR;
    const size_t lda = swap ? gemm->ldb : gemm->lda, ldb = swap ? gemm->lda : gemm->ldb;
    text_printf(out, " lda=%zu ldb=%zu ldc=%zu", lda, ldb, gemm->ldc);
    if (gemm->batch == 1)
        return;
    text_printf(out, " batch=%zu", gemm->batch);
    if (gemm->batching == CLAT_BATCH_OFFSETS)
        text_printf(out, " offsets");
    else
        text_printf(out, " stride_a=%zu stride_b=%zu stride_c=%zu",
                    swap ? gemm->stride_b : gemm->stride_a, swap ? gemm->stride_a : gemm->stride_b,
                    gemm->stride_c);
}

void gemm_print(const void *problem, struct text *out) {
    static const char *const activation[] = {"", " relu", " gelu", " silu"};
    const struct gemm *gemm = problem;
    const bool swap = gemm->layout == CLAT_COL_MAJOR;
    const clat_transpose ta = swap ? gemm->trans_b : gemm->trans_a;
    const clat_transpose tb = swap ? gemm->trans_a : gemm->trans_b;
    text_printf(out, "%s", clat_dtype_name(gemm->dtype));
    if (gemm->dtype_c != gemm->dtype)
        text_printf(out, ">%s", clat_dtype_name(gemm->dtype_c));
    if (gemm->precision == CLAT_PRECISION_NATIVE)
        text_printf(out, " native");
    text_printf(out, " %s %c%c m=%zu n=%zu k=%zu", swap ? "col" : "row", ta ? 'T' : 'N',
                tb ? 'T' : 'N', swap ? gemm->n : gemm->m, swap ? gemm->m : gemm->n, gemm->k);
    print_strides(gemm, out);
    if (gemm->bias != CLAT_BIAS_NONE)
        text_printf(out, " bias=%s", (gemm->bias == CLAT_BIAS_ROW) != swap ? "row" : "column");
    text_printf(out, "%s", activation[gemm->activation]);
}
