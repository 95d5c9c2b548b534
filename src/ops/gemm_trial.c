/* How a trial exercises and judges GEMM. */
#include "gemm.h"

#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPERAND_A, OPERAND_B, OPERAND_C, OPERAND_BIAS };

/* Sampled rows and columns where all would take too long. */
enum { SAMPLES = 48 };

static struct operand matrix(const char *name, clat_dtype dtype, bool output, size_t batch,
                             size_t stride, size_t rows, size_t ld, size_t columns) {
    struct operand operand = {.name = name,
                              .dtype = dtype,
                              .range = 1.0,
                              .output = output,
                              .rank = 3,
                              .extent = {batch, rows, columns},
                              .stride = {stride, ld, 1}};
    view_span(3, operand.extent, operand.stride, 1, &operand.elements);
    return operand;
}

/* None for lists of offsets: random numbers make no offsets. */
static unsigned operands(const void *problem, struct operand *out) {
    const struct gemm *gemm = problem;
    if (gemm->batching == CLAT_BATCH_OFFSETS)
        return 0;
    const bool swap = gemm->layout == CLAT_COL_MAJOR;
    out[OPERAND_A] = matrix(swap ? "b" : "a", gemm->dtype, false, gemm->batch, gemm->stride_a,
                            gemm_rows_a(gemm), gemm->lda, gemm_columns_a(gemm));
    out[OPERAND_B] = matrix(swap ? "a" : "b", gemm->dtype, false, gemm->batch, gemm->stride_b,
                            gemm_rows_b(gemm), gemm->ldb, gemm_columns_b(gemm));
    out[OPERAND_C] =
        matrix("c", gemm->dtype_c, true, gemm->batch, gemm->stride_c, gemm->m, gemm->ldc, gemm->n);
    if (gemm->bias == CLAT_BIAS_NONE)
        return 3;
    out[OPERAND_BIAS] =
        (struct operand){.name = "bias",
                         .dtype = gemm->dtype_c,
                         .elements = gemm->bias == CLAT_BIAS_ROW ? gemm->m : gemm->n,
                         .range = 1.0};
    return 4;
}

static clat_status run(const clat_trial *trial, const clat_plan *plan, cl_command_queue queue,
                       cl_event *event) {
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = clat_trial_buffer(trial, "a", &args.a_offset);
    args.b = clat_trial_buffer(trial, "b", &args.b_offset);
    args.c = clat_trial_buffer(trial, "c", &args.c_offset);
    args.bias = clat_trial_buffer(trial, "bias", &args.bias_offset);
    return clat_gemm_run(plan, queue, &args, 0, NULL, event);
}

/* ---- judging */

static double activate(clat_activation activation, double x) {
    switch (activation) {
    case CLAT_ACT_RELU:
        return x < 0 ? 0 : x;
    case CLAT_ACT_GELU:
        return x / 2 * erfc(-x / sqrt(2.0));
    case CLAT_ACT_SILU:
        return x / (1 + exp(-x));
    default:
        return x;
    }
}

/* Of k products: themselves, their absolute values, their squares. */
struct sum {
    double products, magnitude, squares;
};

/*
 * What an element may be off. A sum of k products in order has a worst case of k eps sum |a b|;
 * rounding errors of random signs add up to about sqrt(k) of it, and twice that plus a floor is
 * still far less than one product left out. Activations are 1.13-Lipschitz and add a few units in
 * the last place. tf32 cuts up to 2^-10 off either factor of each product: off the sum that much at
 * most, and what single products lose more or less than the mean is of random sign. Then comes the
 * one rounding to C, with f16's smallest number as its floor.
 */
static double error_bound(const struct gemm *gemm, const struct sum *sum, double bias,
                          double reference) {
    const double eps = dtype_epsilon(gemm->dtype == CLAT_F64 ? CLAT_F64 : CLAT_F32);
    double bound = (2 * sqrt((double)gemm->k) + 8) * eps * sum->magnitude + 4 * eps * fabs(bias);
    if (gemm->dtype == CLAT_F32 && gemm->precision == CLAT_PRECISION_NATIVE)
        bound += 2 * 0x1p-10 * fabs(sum->products) + 6 * 0x1p-11 * sqrt(sum->squares);
    if (gemm->activation != CLAT_ACT_NONE)
        bound = 1.2 * bound + 64 * eps * (fabs(reference) + 0.1);
    bound += dtype_epsilon(gemm->dtype_c) * (fabs(reference) + bound);
    return gemm->dtype_c == CLAT_F16 ? bound + 0x1p-25 : bound;
}

struct judgement {
    const struct gemm *gemm;
    clat_trial *trial;
    size_t batch;
    size_t n_rows, n_columns; /* of the sample */
    size_t *rows, *columns;
    double *a, *b; /* one row of op(A); the sampled columns of op(B), one after the other */
};

static void judge_element(const struct judgement *j, size_t row, size_t column, const double *b) {
    const struct gemm *gemm = j->gemm;
    struct sum sum = {0};
    double bias = 0;
    for (size_t i = 0; i < gemm->k; i++) {
        const double product = j->a[i] * b[i];
        sum.products += product;
        sum.magnitude += fabs(product);
        sum.squares += product * product;
    }
    if (gemm->bias != CLAT_BIAS_NONE)
        bias = trial_value(j->trial, OPERAND_BIAS, gemm->bias == CLAT_BIAS_ROW ? row : column);
    const double reference = activate(gemm->activation, sum.products + bias);
    const bool swap = gemm->layout == CLAT_COL_MAJOR;
    trial_judge(j->trial, OPERAND_C, j->batch * gemm->stride_c + row * gemm->ldc + column,
                reference, error_bound(gemm, &sum, bias, reference), "c[%zu][%zu] of batch %zu",
                swap ? column : row, swap ? row : column, j->batch);
}

static void judge_batch(const struct judgement *j) {
    const struct gemm *gemm = j->gemm;
    const size_t a0 = j->batch * gemm->stride_a, b0 = j->batch * gemm->stride_b;
    for (size_t i = 0; i < j->n_columns; i++)
        trial_row(j->trial, OPERAND_B, b0 + j->columns[i] * (gemm->trans_b ? gemm->ldb : 1),
                  gemm->trans_b ? 1 : gemm->ldb, gemm->k, j->b + i * gemm->k);
    for (size_t i = 0; i < j->n_rows; i++) {
        trial_row(j->trial, OPERAND_A, a0 + j->rows[i] * (gemm->trans_a ? 1 : gemm->lda),
                  gemm->trans_a ? gemm->lda : 1, gemm->k, j->a);
        for (size_t c = 0; c < j->n_columns; c++)
            judge_element(j, j->rows[i], j->columns[c], j->b + c * gemm->k);
    }
}

/* All of them, or the first, the last and a random choice. */
static void sample(clat_trial *trial, size_t extent, size_t count, size_t *out) {
    for (size_t i = 0; i < count; i++)
        out[i] = count == extent ? i
                 : i == 0        ? 0
                 : i == 1        ? extent - 1
                                 : (size_t)trial_random(trial, extent);
}

static clat_status judge(const void *problem, clat_trial *trial) {
    clat_status st = CLAT_OK;
    const struct gemm *gemm = problem;
    const size_t depth = gemm->k ? gemm->k : 1;
    const bool all =
        (double)gemm->m * (double)gemm->n * (double)gemm->batch * (double)depth <= TRIAL_BUDGET;
    struct judgement j = {.gemm = gemm, .trial = trial};
    j.n_rows = all || gemm->m < SAMPLES ? gemm->m : SAMPLES;
    j.n_columns = all || gemm->n < SAMPLES ? gemm->n : SAMPLES;
    /* Sizes of what exists in memory already, some elements wider: no overflow. */
    j.rows = malloc((j.n_rows + 1) * sizeof *j.rows);
    j.columns = malloc((j.n_columns + 1) * sizeof *j.columns);
    j.a = malloc(depth * sizeof *j.a);
    j.b = malloc((j.n_columns + 1) * depth * sizeof *j.b);
    if (j.rows == NULL || j.columns == NULL || j.a == NULL || j.b == NULL)
        TRY(status_no_memory((j.n_columns + 1) * depth * sizeof *j.b));

    const size_t batches = all || gemm->batch < 3 ? gemm->batch : 3;
    size_t chosen[3];
    if (!all)
        sample(trial, gemm->batch, batches, chosen);
    for (size_t i = 0; i < batches; i++) {
        j.batch = all ? i : chosen[i];
        sample(trial, gemm->m, j.n_rows, j.rows);
        sample(trial, gemm->n, j.n_columns, j.columns);
        judge_batch(&j);
    }
out:
    free(j.rows);
    free(j.columns);
    free(j.a);
    free(j.b);
    return st;
}

/* ---- awkward relatives */

static bool awkward(const void *problem, unsigned index, void *out) {
    static const size_t sizes[][3] = {{1, 1, 1},      {37, 53, 29},  {65, 130, 67},
                                      {129, 67, 131}, {3, 257, 300}, {200, 5, 517}};
    if (index >= sizeof sizes / sizeof *sizes)
        return false;
    struct gemm *gemm = out;
    memcpy(gemm, problem, sizeof *gemm);
    gemm->m = sizes[index][0], gemm->n = sizes[index][1], gemm->k = sizes[index][2];
    gemm->lda = gemm_columns_a(gemm) + 3;
    gemm->ldb = gemm_columns_b(gemm) + 1;
    gemm->ldc = gemm->n + 5;
    gemm->batch = gemm->batch > 1 ? 2 : 1;
    if (gemm->batch > 1 && gemm->batching == CLAT_BATCH_STRIDED) {
        gemm->stride_a = gemm->stride_a ? gemm_rows_a(gemm) * gemm->lda + 7 : 0;
        gemm->stride_b = gemm->stride_b ? gemm_rows_b(gemm) * gemm->ldb + 1 : 0;
        gemm->stride_c = gemm->m * gemm->ldc + 3;
    }
    return true;
}

/* ---- lists of offsets */

/* One matrix after the other; false where no memory could hold them. */
static bool pack(size_t rows, size_t ld, size_t batch, size_t *stride) {
    size_t all;
    *stride = 0;
    return batch == 1 || (size_multiply(rows, ld, stride) && size_multiply(*stride, batch, &all) &&
                          all <= (size_t)INT64_MAX / 16);
}

/* Tiles that are good at a fixed stride are good where offsets come from lists. */
static bool stand_in(const void *problem, void *out) {
    struct gemm *gemm = out;
    memcpy(gemm, problem, sizeof *gemm);
    gemm->batching = CLAT_BATCH_STRIDED;
    return pack(gemm_rows_a(gemm), gemm->lda, gemm->batch, &gemm->stride_a) &&
           pack(gemm_rows_b(gemm), gemm->ldb, gemm->batch, &gemm->stride_b) &&
           pack(gemm->m, gemm->ldc, gemm->batch, &gemm->stride_c);
}

const struct trial_hooks gemm_trial = {
    .operands = operands,
    .run = run,
    .judge = judge,
    .awkward = awkward,
    .stand_in = stand_in,
};
