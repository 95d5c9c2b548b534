#include "attention_cases.h"

#include "context.h"
#include "dtype.h"
#include "mask_cases.h"
#include "ops/attention.h"
#include "score_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL = 13 }; /* elements behind the last one of a buffer, where harness_tail() allows any */

/* One tensor: its extents, strides and offset in its buffer's host copy. */
struct tensor {
    size_t batch, heads, seq, dim; /* extents */
    clat_strides stride;
    size_t offset;
};

struct fixture {
    clat_attention_problem problem;
    struct tensor q, k, v, o;
    size_t inputs, outputs, lse_offset;     /* elements of the two buffers */
    const struct score_case *score;         /* NULL: none */
    float *score_data;                      /* problem.score_data elements, NaN around them */
    const struct predicate_case *predicate; /* NULL: none */
    uint32_t *mask_data;                    /* problem.mask_data words, bits of ones around them */
};

enum { SCORE_DATA_OFFSET = 5, MASK_DATA_OFFSET = 3 };

static size_t at(const struct tensor *t, size_t b, size_t h, size_t i, size_t d) {
    return t->offset + b * t->stride.batch + h * t->stride.head + i * t->stride.seq +
           d * t->stride.feature;
}

/* One past the last element. */
static size_t end_of(const struct tensor *t) {
    if (t->batch * t->heads * t->seq == 0)
        return t->offset;
    return at(t, t->batch - 1, t->heads - 1, t->seq - 1, t->dim - 1) + 1;
}

/* ---- layouts */

static clat_strides strides_of(const struct tensor *t, unsigned layout, size_t unit) {
    const size_t gap = layout == LAYOUT_PADDED || layout == LAYOUT_FEATURES ? 3 * unit : 0;
    clat_strides s = {.feature = layout == LAYOUT_FEATURES ? 2 : 1};
    if (layout == LAYOUT_DEFAULT || layout == LAYOUT_SHARED)
        return (clat_strides)CLAT_STRIDES_BHND(t->heads, t->seq, t->dim);
    s.head = (t->dim + gap) * s.feature;
    s.seq = t->heads * s.head + gap;
    s.batch = t->seq * s.seq + 2 * gap;
    return s;
}

/* Q, K and V one after the other in one buffer, or interleaved there. */
static void place(struct fixture *f, enum attention_layout flags) {
    struct tensor *const all[] = {&f->q, &f->k, &f->v, &f->o};
    const unsigned layout = (unsigned)flags & ~(unsigned)(LAYOUT_ALIGNED | LAYOUT_ODD_Q);
    const size_t unit = flags & LAYOUT_ALIGNED ? 8 : 1;
    for (unsigned t = 0; t < 4; t++)
        all[t]->stride = strides_of(all[t], layout, unit);
    f->q.offset = flags & LAYOUT_ODD_Q ? 5 : 5 * unit;
    if (layout == LAYOUT_PACKED) {
        const size_t token = f->q.stride.seq + f->k.stride.seq + f->v.stride.seq;
        f->k.offset = f->q.offset + f->q.stride.seq;
        f->v.offset = f->k.offset + f->k.stride.seq;
        for (unsigned t = 0; t < 3; t++) {
            all[t]->stride.seq = token;
            all[t]->stride.batch = token * f->q.seq;
        }
    } else {
        if (layout == LAYOUT_SHARED)
            f->k.stride.batch = f->k.stride.head = f->v.stride.batch = f->v.stride.head = 0;
        f->k.offset = (end_of(&f->q) / unit + 4) * unit;
        f->v.offset = end_of(&f->k) + 1 * unit;
    }
    f->inputs = end_of(&f->v) + harness_tail(TAIL);
    f->o.offset = 7 * unit;
    f->outputs = end_of(&f->o) + harness_tail(TAIL);
    f->lse_offset = 3;
}

static struct fixture fixture_new(const clat_attention_problem *problem,
                                  enum attention_layout layout) {
    struct fixture f = {.problem = *problem, .score = score_case_of(problem->score)};
    clat_attention_problem *p = &f.problem;
    const size_t kv_heads = p->kv_heads ? p->kv_heads : p->heads;
    uint64_t seed = 4;
    const size_t value_dim = p->head_dim_v ? p->head_dim_v : p->head_dim;
    f.q = (struct tensor){p->batch, p->heads, p->seq_q, p->head_dim, {0}, 0};
    f.k = (struct tensor){p->batch, kv_heads, p->seq_k, p->head_dim, {0}, 0};
    f.v = (struct tensor){p->batch, kv_heads, p->seq_k, value_dim, {0}, 0};
    f.o = (struct tensor){p->batch, p->heads, p->seq_q, value_dim, {0}, 0};
    place(&f, layout);
    if (layout != LAYOUT_DEFAULT) {
        p->q = f.q.stride, p->k = f.k.stride;
        p->v = f.v.stride, p->o = f.o.stride;
    }
    if (f.score != NULL && f.score->data != NULL)
        p->score_data = f.score->data(p->heads, p->seq_q, p->seq_k);
    const size_t data = p->score_data + 2 * SCORE_DATA_OFFSET;
    f.score_data = harness_alloc(data * sizeof *f.score_data);
    for (size_t i = 0; i < data; i++)
        f.score_data[i] = i < SCORE_DATA_OFFSET || i >= SCORE_DATA_OFFSET + p->score_data
                              ? NAN
                              : (float)(1 + harness_random_real(&seed, 0.5));
    return f;
}

static void fill_tensor(const struct tensor *t, clat_dtype dtype, void *data, uint64_t seed,
                        double range) {
    for (size_t b = 0; b < t->batch; b++)
        for (size_t h = 0; h < t->heads; h++)
            for (size_t i = 0; i < t->seq; i++)
                for (size_t d = 0; d < t->dim; d++)
                    dtype_store(dtype, data, at(t, b, h, i, d), harness_random_real(&seed, range));
}

/* ---- the reference */

struct row {
    double *out, *out_bound; /* of each feature */
    double lse, lse_bound;
};

static bool visible(const struct fixture *f, size_t b, size_t h, size_t i, size_t j) {
    const clat_attention_problem *p = &f->problem;
    if (f->predicate != NULL)
        return f->predicate->visible(p, f->mask_data + MASK_DATA_OFFSET, b, h, i, j);
    return clat_mask_visible(p->mask, (int64_t)p->seq_q, (int64_t)p->seq_k, (int64_t)h, (int64_t)i,
                             (int64_t)j);
}

/* Scores of one query: -infinity where it does not see the key. Gives the largest magnitude that
 * was added up, sum |q k| scale, which rounding errors are proportional to. */
static double score_row(const struct fixture *f, const void *in, size_t b, size_t h, size_t i,
                        double *score) {
    const clat_attention_problem *p = &f->problem;
    const double scale = p->scale != 0 ? p->scale : 1 / sqrt((double)p->head_dim);
    const size_t kv = h / (f->q.heads / f->k.heads);
    double largest = 0;
    for (size_t j = 0; j < p->seq_k; j++) {
        double sum = 0, magnitude = 0;
        for (size_t d = 0; d < p->head_dim; d++) {
            const double x = dtype_load(p->dtype, in, at(&f->q, b, h, i, d));
            const double y = dtype_load(p->dtype, in, at(&f->k, b, kv, j, d));
            sum += x * y;
            magnitude += fabs(x * y);
        }
        score[j] = visible(f, b, h, i, j) ? sum * scale : -INFINITY;
        if (score[j] > -INFINITY)
            largest = fmax(largest, magnitude * fabs(scale));
    }
    return largest;
}

/* Modifies scores, and gives what their error becomes: see src/ops/attention_trial.c. */
static double modify_scores(const struct fixture *f, size_t b, size_t h, size_t i, double *score,
                            double error) {
    const clat_attention_problem *p = &f->problem;
    struct score_at where = {(int)b,        (int)h,        (int)i,       0,
                             (int)p->heads, (int)p->seq_q, (int)p->seq_k};
    double largest = 0;
    for (; where.key < where.seq_k; where.key++) {
        double *s = &score[where.key];
        if (*s == -INFINITY)
            continue;
        *s = f->score->modify(*s, &where, f->score_data + SCORE_DATA_OFFSET);
        if (*s > -INFINITY)
            largest = fmax(largest, fabs(*s));
    }
    return SCORE_CASES_GAIN * error + 16 * 0x1p-24 * largest;
}

/*
 * softmax(S) V in f64. The bounds are those of docs/numerics.md: rounding errors of random signs,
 * twice over, plus a floor; far below what one key more or less would change.
 */
static void reference_row(const struct fixture *f, const void *in, size_t b, size_t h, size_t i,
                          struct row *row) {
    const clat_attention_problem *p = &f->problem;
    const size_t kv = h / (f->q.heads / f->k.heads);
    const double u = 0x1p-24;
    double *score = harness_alloc((p->seq_k + 1) * sizeof *score);
    const double magnitude = score_row(f, in, b, h, i, score);
    double score_error = (2 * sqrt((double)p->head_dim) + 8) * u * magnitude;
    if (f->score != NULL)
        score_error = modify_scores(f, b, h, i, score, score_error);
    /* Weights rounded to the type, exponentials as exact as that is worth. */
    const bool native = p->dtype != CLAT_F32 && p->precision == CLAT_PRECISION_NATIVE;
    const double rounding = native ? dtype_epsilon(p->dtype) : 0,
                 exponential = native ? 0x1p-13 : 0;
    double largest = -INFINITY, sum = 0, n = 0; /* of modified scores */
    for (size_t j = 0; j < p->seq_k; j++)
        largest = fmax(largest, score[j]);
    for (size_t j = 0; j < p->seq_k; j++) {
        n += isfinite(score[j]) ? 1 : 0;
        score[j] = isfinite(score[j]) ? exp(score[j] - largest) : 0;
        sum += score[j];
    }
    for (size_t d = 0; d < f->o.dim; d++) {
        double out = 0, weight = 0, square = 0;
        for (size_t j = 0; j < p->seq_k; j++)
            if (score[j] > 0) {
                const double value = dtype_load(p->dtype, in, at(&f->v, b, kv, j, d));
                out += score[j] / sum * value;
                weight += score[j] / sum * fabs(value);
                square += score[j] / sum * value * score[j] / sum * value;
            }
        const double bound = (2 * score_error + 16 * u) * weight + 4 * sqrt(n) * u * fabs(out) +
                             4 * rounding * sqrt(square) + 2 * exponential * weight;
        row->out[d] = out;
        row->out_bound[d] = bound + dtype_epsilon(p->dtype) * (fabs(out) + bound) +
                            (p->dtype == CLAT_F16 ? 0x1p-25 : 0);
    }
    row->lse = n > 0 ? largest + log(sum) : -INFINITY;
    row->lse_bound =
        n > 0 ? score_error + exponential + (16 + 2 * fabs(row->lse) + sqrt(n)) * u : 0;
    free(score);
}

/* ---- comparing */

/* Elements of O one after the other, and proof that nothing between them was written. */
static void *gather_outputs(const char *name, const struct fixture *f, const void *got) {
    const clat_attention_problem *p = &f->problem;
    const size_t size = clat_dtype_bytes(p->dtype);
    const size_t rows = p->batch * p->heads * p->seq_q;
    char *tight = harness_alloc((rows * f->o.dim + 1) * size);
    char *is_output = harness_alloc(f->outputs);
    const unsigned char *bytes = got;
    memset(is_output, 0, f->outputs);
    for (size_t row = 0; row < rows; row++)
        for (size_t d = 0; d < f->o.dim; d++) {
            const size_t from =
                at(&f->o, row / p->seq_q / p->heads, row / p->seq_q % p->heads, row % p->seq_q, d);
            memcpy(tight + (row * f->o.dim + d) * size, bytes + from * size, size);
            is_output[from] = 1;
        }
    for (size_t e = 0; e < f->outputs; e++)
        for (size_t byte = 0; byte < size && !is_output[e]; byte++)
            if (bytes[e * size + byte] != 0xFF)
                fail_msg("%s: element %zu of O's buffer is outside O and was written", name, e);
    free(is_output);
    return tight;
}

static void compare(const char *name, const struct fixture *f, const void *in, const void *got,
                    const float *got_lse) {
    const clat_attention_problem *p = &f->problem;
    const size_t rows = p->batch * p->heads * p->seq_q, dim = f->o.dim;
    double *out = harness_alloc((rows * dim + 1) * sizeof *out);
    double *bounds = harness_alloc((rows * dim + 1) * sizeof *bounds);
    double *lse = harness_alloc((rows + 1) * sizeof *lse);
    double *lse_bounds = harness_alloc((rows + 1) * sizeof *lse_bounds);
    for (size_t n = 0; n < rows; n++) {
        struct row row = {.out = out + n * dim, .out_bound = bounds + n * dim};
        reference_row(f, in, n / p->seq_q / p->heads, n / p->seq_q % p->heads, n % p->seq_q, &row);
        lse[n] = row.lse;
        lse_bounds[n] = row.lse_bound;
    }
    void *tight = gather_outputs(name, f, got);
    assert_matrix(name, p->dtype, tight, rows, dim, dim, out, bounds, 0);
    if (p->logsumexp) {
        assert_matrix(name, CLAT_F32, got_lse + f->lse_offset, rows, 1, 1, lse, lse_bounds, 0);
        for (size_t e = 0; e < f->lse_offset; e++)
            assert_true(isnan(got_lse[e]) && isnan(got_lse[f->lse_offset + rows + e]));
    }
    free(tight);
    free(out);
    free(bounds);
    free(lse);
    free(lse_bounds);
}

static void run(const struct fixture *f, cl_mem in, cl_mem out, cl_mem lse, cl_mem score_data,
                cl_mem mask_data) {
    clat_plan *plan = NULL;
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = args.k = args.v = in;
    args.q_offset = f->q.offset, args.k_offset = f->k.offset, args.v_offset = f->v.offset;
    args.o = out, args.o_offset = f->o.offset;
    args.logsumexp = lse, args.logsumexp_offset = f->lse_offset;
    args.score_data = score_data, args.score_data_offset = SCORE_DATA_OFFSET;
    args.mask_data = mask_data, args.mask_data_offset = MASK_DATA_OFFSET;
    assert_ok(clat_attention_plan(&plan, harness_context(), &f->problem));
    assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    clat_plan_release(plan);
}

static void add_predicate(struct fixture *f, const struct predicate_case *predicate) {
    clat_attention_problem *p = &f->problem;
    f->predicate = predicate;
    p->mask = predicate->make(p);
    p->mask_data = predicate->data != NULL ? predicate->data(p, NULL) : 0;
    const size_t words = p->mask_data + 2 * MASK_DATA_OFFSET;
    f->mask_data = harness_alloc(words * sizeof *f->mask_data);
    memset(f->mask_data, 0xFF, words * sizeof *f->mask_data);
    if (predicate->data != NULL)
        predicate->data(p, f->mask_data + MASK_DATA_OFFSET);
}

static void check(const char *name, const clat_attention_problem *problem,
                  enum attention_layout layout, double range,
                  const struct predicate_case *predicate) {
    struct fixture f = fixture_new(problem, layout);
    if (predicate != NULL)
        add_predicate(&f, predicate);
    const size_t size = clat_dtype_bytes(problem->dtype);
    const size_t rows = problem->batch * problem->heads * problem->seq_q;
    const size_t lse_bytes = (rows + 2 * f.lse_offset) * sizeof(float);
    void *in = harness_alloc(f.inputs * size), *got = harness_alloc(f.outputs * size);
    float *got_lse = harness_alloc(lse_bytes);
    memset(in, 0xFF, f.inputs * size); /* NaN */
    fill_tensor(&f.q, problem->dtype, in, 1, range);
    fill_tensor(&f.k, problem->dtype, in, 2, range);
    fill_tensor(&f.v, problem->dtype, in, 3, range);
    cl_mem in_buffer = harness_buffer(f.inputs * size, in);
    cl_mem out_buffer = harness_buffer(f.outputs * size, NULL);
    cl_mem lse_buffer = harness_buffer(lse_bytes, NULL);
    cl_mem data_buffer = harness_buffer(
        (f.problem.score_data + 2 * SCORE_DATA_OFFSET) * sizeof(float), f.score_data);
    cl_mem mask_buffer =
        predicate != NULL
            ? harness_buffer((f.problem.mask_data + 2 * MASK_DATA_OFFSET) * sizeof(uint32_t),
                             f.mask_data)
            : NULL;
    run(&f, in_buffer, out_buffer, lse_buffer, data_buffer, mask_buffer);
    harness_read(out_buffer, 0, f.outputs * size, got);
    harness_read(lse_buffer, 0, lse_bytes, got_lse);
    compare(name, &f, in, got, got_lse);
    clReleaseMemObject(in_buffer);
    clReleaseMemObject(out_buffer);
    clReleaseMemObject(lse_buffer);
    clReleaseMemObject(data_buffer);
    if (predicate != NULL) {
        clReleaseMemObject(mask_buffer);
        clat_mask_release((clat_mask *)(uintptr_t)f.problem.mask);
    }
    free(f.mask_data);
    free(f.score_data);
    free(in);
    free(got);
    free(got_lse);
}

void attention_check(const char *name, const clat_attention_problem *problem,
                     enum attention_layout layout, double range) {
    check(name, problem, layout, range, NULL);
}

void attention_check_predicate(const char *name, const clat_attention_problem *problem,
                               enum attention_layout layout,
                               const struct predicate_case *predicate) {
    check(name, problem, layout, 1.0, predicate);
}

bool attention_is_declined(const clat_attention_problem *problem) {
    const struct implementation *impl =
        op_implementation(&attention_operation, problem->implementation);
    struct attention attention;
    char why[OP_WHY_BYTES];
    assert_ok(attention_normalise(&attention, problem));
    const bool takes = impl->supports(&harness_context()->device, &attention, why);
    snippet_release(attention.score);
    return !takes;
}

size_t attention_check_all(const char *name, const clat_attention_problem *problem,
                           enum attention_layout layout, const char *const *masks,
                           const struct attention_size *sizes, size_t n_sizes) {
    size_t checked = 0;
    for (; *masks != NULL; masks++)
        for (size_t s = 0; s < n_sizes; s++) {
            char label[192];
            clat_attention_problem one = *problem;
            one.seq_q = sizes[s].seq_q, one.seq_k = sizes[s].seq_k;
            clat_mask *mask =
                mask_case_named(*masks)->make((uint32_t)one.seq_q, (uint32_t)one.seq_k);
            one.mask = mask;
            snprintf(label, sizeof label, "%s, %s, %zu x %zu", name, *masks, one.seq_q, one.seq_k);
            if (!attention_is_declined(&one)) {
                attention_check(label, &one, layout, 1.0);
                checked++;
            }
            clat_mask_release(mask);
        }
    return checked;
}
