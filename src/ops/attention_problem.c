/* What a legal attention problem is, and its normal form. */
#include "attention.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MAX_SEQ = 1 << 30 };

static clat_status check_sizes(const struct attention *a) {
    if (a->head_dim == 0 || a->head_dim > ATTENTION_MAX_DIM)
        return status_fail(CLAT_INVALID_SIZE, "problem.head_dim is %zu, not in 1..%d", a->head_dim,
                           ATTENTION_MAX_DIM);
    if (a->value_dim > ATTENTION_MAX_DIM)
        return status_fail(CLAT_INVALID_SIZE, "problem.head_dim_v is %zu, not in 1..%d",
                           a->value_dim, ATTENTION_MAX_DIM);
    if (a->seq_q > MAX_SEQ || a->seq_k > MAX_SEQ)
        return status_fail(CLAT_INVALID_SIZE, "problem.seq_%c is %zu, more than 2^30",
                           a->seq_q > MAX_SEQ ? 'q' : 'k',
                           a->seq_q > MAX_SEQ ? a->seq_q : a->seq_k);
    if (a->heads > INT32_MAX || a->batch > INT32_MAX)
        return status_fail(CLAT_INVALID_SIZE, "problem.%s is %zu, more than 2^31 - 1",
                           a->heads > INT32_MAX ? "heads" : "batch",
                           a->heads > INT32_MAX ? a->heads : a->batch);
    if (a->heads > 0 && a->heads % a->kv_heads != 0)
        return status_fail(CLAT_INVALID_SIZE,
                           "problem.kv_heads is %zu, which does not divide problem.heads = %zu",
                           a->kv_heads, a->heads);
    return CLAT_OK;
}

/* Fills a tensor's strides in and checks that its elements can be counted. */
static clat_status check_tensor(struct attention *a, enum attention_role role) {
    static const char *const name[] = {"q", "k", "v", "o"};
    clat_strides *const strides[] = {&a->q, &a->k, &a->v, &a->o};
    clat_strides *s = strides[role];
    size_t extent[4], stride[4], elements;
    attention_extent(a, role, extent, stride);
    if (s->batch == 0 && s->head == 0 && s->seq == 0 && s->feature == 0) {
        s->feature = 1;
        s->seq = extent[3];
        if (!size_multiply(extent[2], s->seq, &s->head) ||
            !size_multiply(extent[1], s->head, &s->batch))
            return status_fail(CLAT_INVALID_SIZE, "problem: the elements of %s overflow 64 bits",
                               name[role]);
    }
    if (extent[3] == 1)
        s->feature = 1;
    if (s->feature == 0)
        return status_fail(CLAT_INVALID_STRIDE, "problem.%s.feature is 0", name[role]);
    attention_extent(a, role, extent, stride);
    if (!view_span(4, extent, stride, clat_dtype_bytes(a->dtype), &elements))
        return status_fail(CLAT_INVALID_SIZE, "problem.%s: the bytes of the tensor overflow",
                           name[role]);
    if (role == ATTENTION_O && view_self_overlaps(4, extent, stride))
        return status_fail(CLAT_INVALID_OVERLAP, "problem.o: its strides make O overlap itself");
    return CLAT_OK;
}

static clat_status fill_mask(struct attention *a, const clat_mask *mask) {
    const int64_t seq_q = (int64_t)a->seq_q, seq_k = (int64_t)a->seq_k;
    const clat_status st = mask_check(mask, seq_q, seq_k, (int64_t)a->heads);
    if (st != CLAT_OK)
        return st;
    struct mask_band band;
    if (mask_band(mask, seq_q, seq_k, &band))
        a->band = band;
    else
        a->mask = (clat_mask *)(uintptr_t)mask; /* the plan retains it */
    return CLAT_OK;
}

/* Elements of 4 bytes that a text of the caller's reads, if there is one. */
static clat_status check_data(const char *name, size_t elements, bool is_read,
                              const char *without) {
    if (elements > 0 && !is_read)
        return status_fail(CLAT_INVALID_ARGUMENT, "problem.%s is %zu, but %s", name, elements,
                           without);
    if (elements > SIZE_MAX / 4)
        return status_fail(CLAT_INVALID_SIZE, "problem.%s is %zu, whose bytes overflow", name,
                           elements);
    return CLAT_OK;
}

static clat_status take_data(struct attention *a, const clat_attention_problem *problem) {
    clat_status st = CLAT_OK;
    TRY(check_data("mask_data", problem->mask_data, mask_has_code(problem->mask),
                   "problem.mask has no predicate"));
    TRY(check_data("score_data", problem->score_data, problem->score != NULL,
                   "problem.score is NULL"));
    a->mask_data = a->mask != NULL ? problem->mask_data : 0; /* a join may still be a band */
    a->score_data = problem->score_data;
    if (problem->score != NULL)
        TRY(snippet_take(&a->score, problem->score));
out:
    return st;
}

clat_status attention_normalise(struct attention *out, const clat_attention_problem *problem) {
    clat_status st = CLAT_OK;
    memset(out, 0, sizeof *out); /* padding too: plans are found by comparing bytes */
    if ((unsigned)problem->dtype > CLAT_BF16)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "problem.dtype is %d, which is not one of its names",
                        (int)problem->dtype));
    if (problem->dtype != CLAT_F32 && problem->dtype != CLAT_F16 && problem->dtype != CLAT_BF16)
        TRY(status_fail(CLAT_INVALID_TYPE, "problem.dtype is %s, must be f32, f16 or bf16",
                        problem->dtype ? clat_dtype_name(problem->dtype) : "not given"));
    if ((unsigned)problem->precision > CLAT_PRECISION_NATIVE)
        TRY(status_fail(CLAT_INVALID_ARGUMENT,
                        "problem.precision is %d, which is not one of its names",
                        (int)problem->precision));
    if (!isfinite(problem->scale))
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "problem.scale is not finite"));
    /* Kernels take weights as powers of 2, in f32. */
    if (fabs(problem->scale) * M_LOG2E > (double)FLT_MAX)
        TRY(status_fail(CLAT_INVALID_ARGUMENT,
                        "problem.scale is %g, which times log2(e) is beyond f32", problem->scale));
    out->dtype = problem->dtype;
    out->batch = problem->batch;
    out->heads = problem->heads;
    out->kv_heads = problem->kv_heads > 0 ? problem->kv_heads : problem->heads;
    out->seq_q = problem->seq_q;
    out->seq_k = problem->seq_k;
    out->head_dim = problem->head_dim;
    out->value_dim = problem->head_dim_v > 0 ? problem->head_dim_v : problem->head_dim;
    out->logsumexp = problem->logsumexp;
    if (problem->dtype != CLAT_F32)
        out->precision = problem->precision;
    out->q = problem->q, out->k = problem->k, out->v = problem->v, out->o = problem->o;
    TRY(check_sizes(out));
    out->scale = problem->scale != 0 ? problem->scale : 1 / sqrt((double)problem->head_dim);
    for (enum attention_role role = ATTENTION_Q; role <= ATTENTION_O; role++)
        TRY(check_tensor(out, role));
    TRY(fill_mask(out, problem->mask));
    TRY(take_data(out, problem));
out:
    return st;
}

void attention_extent(const struct attention *a, enum attention_role role, size_t extent[4],
                      size_t stride[4]) {
    const bool keys = role == ATTENTION_K || role == ATTENTION_V;
    const clat_strides *const strides[] = {&a->q, &a->k, &a->v, &a->o};
    extent[0] = a->batch;
    extent[1] = keys ? a->kv_heads : a->heads;
    extent[2] = keys ? a->seq_k : a->seq_q;
    extent[3] = role == ATTENTION_V || role == ATTENTION_O ? a->value_dim : a->head_dim;
    if (role >= ATTENTION_SCORE_DATA) {
        extent[0] = extent[1] = extent[2] = 1;
        extent[3] = role == ATTENTION_SCORE_DATA ? a->score_data : a->mask_data;
        stride[0] = stride[1] = stride[2] = stride[3] = 1;
        return;
    }
    if (role == ATTENTION_LSE) {
        extent[3] = 1;
        stride[0] = a->heads * a->seq_q;
        stride[1] = a->seq_q;
        stride[2] = stride[3] = 1;
        return;
    }
    stride[0] = strides[role]->batch;
    stride[1] = strides[role]->head;
    stride[2] = strides[role]->seq;
    stride[3] = strides[role]->feature;
}

bool attention_unit_features(const struct attention *a) {
    return a->q.feature == 1 && a->k.feature == 1 && a->v.feature == 1 && a->o.feature == 1;
}

/* ---- for people */

static void print_band(struct mask_band band, struct text *out) {
    if (band.low > band.high) {
        text_printf(out, "nothing");
    } else if (band.low <= -MASK_FAR && band.high >= MASK_FAR) {
        text_printf(out, "dense");
    } else if (band.low <= -MASK_FAR && band.high == 0) {
        text_printf(out, "causal");
    } else {
        mask_print_window(-band.low, band.high, out);
    }
}

/* "bhnd", "bnhd", or the strides themselves. */
static void print_strides(const struct attention *a, const char *name, enum attention_role role,
                          struct text *out) {
    size_t extent[4], stride[4];
    attention_extent(a, role, extent, stride);
    const bool dense_heads = stride[1] == extent[2] * extent[3];
    if (stride[3] == 1 && stride[2] == extent[3] && dense_heads &&
        stride[0] == extent[1] * extent[2] * extent[3])
        return;
    text_printf(out, " %s=%zu,%zu,%zu,%zu", name, stride[0], stride[1], stride[2], stride[3]);
}

void attention_print(const void *problem, struct text *out) {
    const struct attention *a = problem;
    text_printf(out, "%s ", clat_dtype_name(a->dtype));
    if (a->precision == CLAT_PRECISION_NATIVE)
        text_printf(out, "native ");
    if (a->mask != NULL)
        mask_print(a->mask, out);
    else
        print_band(a->band, out);
    text_printf(out, " batch=%zu heads=%zu", a->batch, a->heads);
    if (a->kv_heads != a->heads)
        text_printf(out, " kv_heads=%zu", a->kv_heads);
    text_printf(out, " seq_q=%zu seq_k=%zu head_dim=%zu", a->seq_q, a->seq_k, a->head_dim);
    if (a->value_dim != a->head_dim)
        text_printf(out, " head_dim_v=%zu", a->value_dim);
    print_strides(a, "q", ATTENTION_Q, out);
    print_strides(a, "k", ATTENTION_K, out);
    print_strides(a, "v", ATTENTION_V, out);
    print_strides(a, "o", ATTENTION_O, out);
    if (a->logsumexp)
        text_printf(out, " logsumexp");
    if (a->score != NULL)
        text_printf(out, " score=%08" PRIx32, snippet_number(a->score));
}

double attention_flops(const void *problem) {
    const struct attention *a = problem;
    const int64_t seq_q = (int64_t)a->seq_q, seq_k = (int64_t)a->seq_k;
    const double pairs = a->mask != NULL
                             ? mask_pairs(a->mask, seq_q, seq_k, (int64_t)a->heads)
                             : mask_band_pairs(a->band, seq_q, seq_k) * (double)a->heads;
    return 2 * pairs * (double)(a->head_dim + a->value_dim) * (double)a->batch;
}
