/*
 * How a trial exercises and judges attention: whole rows of O, and their logsumexp, in f64.
 *
 * What an element may be off, with u = 2^-24, D = head_dim, n visible keys, p their weights,
 *
 *     a = max_j scale sum_d |q_d k_jd|        s = (2 sqrt(D) + 8) u a
 *     O           (2 s + 16 u) sum_j p_j |v_j| + 4 sqrt(n) u |O|, then the rounding to dtype
 *     logsumexp   s + (16 + 2 |logsumexp| + sqrt(n)) u
 *
 * s is the error of a score: D products whose rounding errors have random signs add up to about
 * sqrt(D) u a; a weight is off by as much, relatively, and by a few u for the exponential; a sum of
 * n terms grows a random walk of its own. The factors of two and four above that are the margin. A
 * key left out or a wrong one let in moves O by about p_j |v_j - O|, which for evenly spread
 * weights stays far above the bound up to some 100,000 keys.
 *
 * A score modifier f is run on the device, in f32, on scores that f64 has summed up. What it gives
 * is off by what it changes when its argument moves by s either way, and by a few roundings of its
 * own, which the f32 reference has too. So for it
 *
 *     s = max_j max(|f(x_j - s) - f(x_j)|, |f(x_j + s) - f(x_j)|) + 16 u max_j |f(x_j)|
 *
 * f16 and bf16 in native precision: weights rounded to the type, each off by e at most, which is
 * 2^-11 or 2^-8, and exponentials off by 2^-13. The former have random signs, the latter need not:
 *
 *     O           + 4 e sqrt(sum_j (p_j v_j)^2) + 2 * 2^-13 sum_j p_j |v_j|
 *     logsumexp   + 2^-13
 *
 * which a key shows up against up to some 1,000 of them in bf16, 3,000 in f16.
 */
#include "attention.h"

#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned operands(const void *problem, struct operand *out) {
    static const char *const name[] = {"q", "k", "v", "o", "logsumexp", "score_data", "mask_data"};
    const struct attention *a = problem;
    unsigned count = 0;
    for (unsigned role = ATTENTION_Q; role <= ATTENTION_MASK_DATA; role++) {
        if ((role == ATTENTION_LSE && !a->logsumexp) ||
            (role == ATTENTION_SCORE_DATA && a->score_data == 0) ||
            (role == ATTENTION_MASK_DATA && a->mask_data == 0))
            continue;
        struct operand *operand = &out[count++];
        *operand = (struct operand){.name = name[role],
                                    .dtype = role >= ATTENTION_LSE ? CLAT_F32 : a->dtype,
                                    .range = 1.0,
                                    .output = role == ATTENTION_O || role == ATTENTION_LSE,
                                    .rank = 4};
        attention_extent(a, role, operand->extent, operand->stride);
        view_span(4, operand->extent, operand->stride, 1, &operand->elements);
    }
    return count;
}

static clat_status run(const clat_trial *trial, const clat_plan *plan, cl_command_queue queue,
                       cl_event *event) {
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = clat_trial_buffer(trial, "q", &args.q_offset);
    args.k = clat_trial_buffer(trial, "k", &args.k_offset);
    args.v = clat_trial_buffer(trial, "v", &args.v_offset);
    args.o = clat_trial_buffer(trial, "o", &args.o_offset);
    args.logsumexp = clat_trial_buffer(trial, "logsumexp", &args.logsumexp_offset);
    args.score_data = clat_trial_buffer(trial, "score_data", &args.score_data_offset);
    args.mask_data = clat_trial_buffer(trial, "mask_data", &args.mask_data_offset);
    return clat_attention_run(plan, queue, &args, 0, NULL, event);
}

/* ---- judging */

struct judgement {
    const struct attention *a;
    clat_trial *trial;
    double *score;                     /* of each key; -infinity where it is not visible */
    double *q, *row, *out, *magnitude; /* of a head's features; `magnitude` is sum p |v| */
    double *square;                    /* sum (p v)^2 */
    double largest, sum, score_error;  /* score_error is `s` above */
    size_t n_visible;
    float *modified;     /* three times seq_k, where scores are modified; else NULL */
    unsigned char *seen; /* of each key, where the mask has predicates; else NULL */
};

static size_t element(const struct attention *a, enum attention_role role, size_t batch,
                      size_t head, size_t row) {
    size_t extent[4], stride[4];
    attention_extent(a, role, extent, stride);
    return batch * stride[0] + head * stride[1] + row * stride[2];
}

static bool visible(const struct judgement *judgement, size_t head, size_t i, size_t j) {
    const struct attention *a = judgement->a;
    const int64_t query = (int64_t)i, key = (int64_t)j;
    if (judgement->seen != NULL)
        return judgement->seen[j];
    if (a->mask != NULL)
        return clat_mask_visible(a->mask, (int64_t)a->seq_q, (int64_t)a->seq_k, (int64_t)head,
                                 query, key);
    return query + a->band.low <= key && key <= query + a->band.high;
}

/* Scores as the modifier leaves them, and what their error has become. */
static clat_status modify_scores(struct judgement *j, size_t batch, size_t head, size_t i) {
    clat_status st = CLAT_OK;
    const size_t n = j->a->seq_k;
    float *of = j->modified, *below = of + n, *above = below + n;
    double change = 0, magnitude = 0;
    for (size_t key = 0; key < n; key++) {
        const double x = isinf(j->score[key]) ? 0 : j->score[key];
        of[key] = (float)x;
        below[key] = (float)(x - j->score_error);
        above[key] = (float)(x + j->score_error);
    }
    for (unsigned moved = 0; moved < 3; moved++)
        TRY(attention_modify_scores(j->a, j->trial, batch, head, i, of + moved * n));
    j->largest = -INFINITY;
    for (size_t key = 0; key < n; key++) {
        if (isinf(j->score[key]))
            continue;
        const double x = j->score[key] = of[key];
        if (x == -INFINITY) {
            j->n_visible--;
            continue;
        }
        j->largest = fmax(j->largest, x);
        change = fmax(change, fmax(fabs((double)below[key] - x), fabs((double)above[key] - x)));
        magnitude = fmax(magnitude, fabs(x));
    }
    j->score_error = change + 16 * dtype_epsilon(CLAT_F32) * magnitude;
out:
    return st;
}

static void score_keys(struct judgement *j, size_t batch, size_t head, size_t i) {
    const struct attention *a = j->a;
    double largest = 0; /* `a` above */
    const size_t kv_head = head / (a->heads / a->kv_heads);
    trial_row(j->trial, ATTENTION_Q, element(a, ATTENTION_Q, batch, head, i), a->q.feature,
              a->head_dim, j->q);
    j->largest = -INFINITY;
    j->n_visible = 0;
    for (size_t key = 0; key < a->seq_k; key++) {
        double dot = 0, magnitude = 0;
        j->score[key] = -INFINITY;
        if (!visible(j, head, i, key))
            continue;
        trial_row(j->trial, ATTENTION_K, element(a, ATTENTION_K, batch, kv_head, key), a->k.feature,
                  a->head_dim, j->row);
        for (size_t d = 0; d < a->head_dim; d++) {
            dot += j->q[d] * j->row[d];
            magnitude += fabs(j->q[d] * j->row[d]);
        }
        j->score[key] = dot * a->scale;
        j->largest = fmax(j->largest, j->score[key]);
        largest = fmax(largest, magnitude * fabs(a->scale));
        j->n_visible++;
    }
    j->score_error = (2 * sqrt((double)a->head_dim) + 8) * dtype_epsilon(CLAT_F32) * largest;
}

static void average_values(struct judgement *j, size_t batch, size_t head) {
    const struct attention *a = j->a;
    const size_t kv_head = head / (a->heads / a->kv_heads);
    memset(j->out, 0, a->value_dim * sizeof *j->out);
    memset(j->magnitude, 0, a->value_dim * sizeof *j->magnitude);
    memset(j->square, 0, a->value_dim * sizeof *j->square);
    j->sum = 0;
    for (size_t key = 0; key < a->seq_k; key++) {
        if (isinf(j->score[key]))
            continue;
        const double weight = exp(j->score[key] - j->largest);
        trial_row(j->trial, ATTENTION_V, element(a, ATTENTION_V, batch, kv_head, key), a->v.feature,
                  a->value_dim, j->row);
        j->sum += weight;
        for (size_t d = 0; d < a->value_dim; d++) {
            j->out[d] += weight * j->row[d];
            j->magnitude[d] += weight * fabs(j->row[d]);
            j->square[d] += weight * j->row[d] * weight * j->row[d];
        }
    }
    for (size_t d = 0; d < a->value_dim && j->sum > 0; d++) {
        j->out[d] /= j->sum;
        j->magnitude[d] /= j->sum;
        j->square[d] /= j->sum * j->sum;
    }
}

/* Whether weights may be rounded to the type, and exponentials be less exact. */
static bool rounds_weights(const struct attention *a) {
    return a->dtype != CLAT_F32 && a->precision == CLAT_PRECISION_NATIVE;
}

static void judge_row(struct judgement *j, size_t batch, size_t head, size_t i) {
    const struct attention *a = j->a;
    const double u = dtype_epsilon(CLAT_F32), n = sqrt((double)j->n_visible);
    const double score = j->score_error;
    const double exponential = rounds_weights(a) ? 0x1p-13 : 0;
    const double rounding = rounds_weights(a) ? dtype_epsilon(a->dtype) : 0;
    const size_t at = element(a, ATTENTION_O, batch, head, i);
    for (size_t d = 0; d < a->value_dim; d++) {
        const double reference = j->out[d];
        double bound = (2 * score + 16 * u) * j->magnitude[d] + 4 * n * u * fabs(reference);
        bound += 4 * rounding * sqrt(j->square[d]) + 2 * exponential * j->magnitude[d];
        bound += dtype_epsilon(a->dtype) * (fabs(reference) + bound);
        if (a->dtype == CLAT_F16)
            bound += 0x1p-25; /* half of its smallest number */
        trial_judge(j->trial, ATTENTION_O, at + d * a->o.feature, reference, bound,
                    "o[%zu][%zu][%zu][%zu]", batch, head, i, d);
    }
    if (!a->logsumexp)
        return;
    const double reference = j->n_visible > 0 ? j->largest + log(j->sum) : -INFINITY;
    const double bound =
        j->n_visible > 0 ? score + exponential + (16 + 2 * fabs(reference) + n) * u : 0;
    trial_judge(j->trial, ATTENTION_LSE, element(a, ATTENTION_LSE, batch, head, i), reference,
                bound, "logsumexp[%zu][%zu][%zu]", batch, head, i);
}

/* Row `index` of all rows of the problem. */
static clat_status judge_one(struct judgement *j, size_t index) {
    clat_status st = CLAT_OK;
    const struct attention *a = j->a;
    const size_t i = index % a->seq_q, head = index / a->seq_q % a->heads;
    const size_t batch = index / a->seq_q / a->heads;
    if (j->seen != NULL)
        TRY(attention_ask_mask(a, j->trial, batch, head, i, j->seen));
    score_keys(j, batch, head, i);
    if (j->modified != NULL)
        TRY(modify_scores(j, batch, head, i));
    average_values(j, batch, head);
    judge_row(j, batch, head, i);
out:
    return st;
}

static clat_status judge(const void *problem, clat_trial *trial) {
    clat_status st = CLAT_OK;
    const struct attention *a = problem;
    const size_t rows = a->batch * a->heads * a->seq_q;
    const size_t d = a->head_dim > a->value_dim ? a->head_dim : a->value_dim;
    struct judgement j = {.a = a, .trial = trial};
    j.score = malloc((a->seq_k + 1) * sizeof *j.score);
    j.q = malloc(5 * d * sizeof *j.q);
    if (j.score == NULL || j.q == NULL)
        TRY(status_no_memory((a->seq_k + 5 * d + 1) * sizeof(double)));
    if (a->score != NULL && a->seq_k > 0 &&
        (j.modified = malloc(3 * a->seq_k * sizeof *j.modified)) == NULL)
        TRY(status_no_memory(3 * a->seq_k * sizeof *j.modified));
    if (mask_has_code(a->mask) && a->seq_k > 0 && (j.seen = calloc(a->seq_k, 1)) == NULL)
        TRY(status_no_memory(a->seq_k));
    j.row = j.q + d;
    j.out = j.row + d;
    j.magnitude = j.out + d;
    j.square = j.magnitude + d;

    const double wanted = TRIAL_BUDGET / (2.0 * (double)(a->seq_k + 1) * (double)d);
    if ((double)rows <= wanted) {
        for (size_t row = 0; row < rows; row++)
            TRY(judge_one(&j, row));
    } else {
        /* The first and last rows of the first and last heads, then a random choice. */
        const size_t samples = wanted > 16 ? (size_t)wanted : 16;
        TRY(judge_one(&j, 0));
        TRY(judge_one(&j, a->seq_q - 1));
        TRY(judge_one(&j, rows - a->seq_q));
        TRY(judge_one(&j, rows - 1));
        for (size_t n = 4; n < samples; n++)
            TRY(judge_one(&j, (size_t)trial_random(trial, rows)));
    }
out:
    free(j.score);
    free(j.q);
    free(j.modified);
    free(j.seen);
    return st;
}

/* ---- awkward relatives */

/* BNHD with gaps of so many `units`, or with gaps between features too where the problem has them.
 */
static clat_strides padded(size_t heads, size_t seq, size_t head_dim, size_t feature, size_t unit) {
    const size_t head = (head_dim + 3 * unit) * feature, token = heads * head + 5 * unit;
    return (clat_strides){
        .batch = seq * token + 11 * unit, .head = head, .seq = token, .feature = feature};
}

/* Block lists belong to their sizes: only the cut of the last block may change. */
static bool shrink_blocks(struct attention *a, unsigned index) {
    enum { LARGEST_BLOCK = 1024 }; /* of blocks of blocks the cut would be far beyond the problem */
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    if (index > 0 || rows == 1 || cols == 1 || rows > LARGEST_BLOCK || cols > LARGEST_BLOCK)
        return false;
    a->seq_q = (a->seq_q - 1) / rows * rows + rows / 2;
    a->seq_k = a->seq_k > 0 ? (a->seq_k - 1) / cols * cols + (cols + 1) / 2 : 0;
    return mask_check(a->mask, (int64_t)a->seq_q, (int64_t)a->seq_k, (int64_t)a->heads) == CLAT_OK;
}

/* The same side open or closed, a few keys more or less. */
static struct mask_band moved_band(struct mask_band band, size_t seq_q, size_t seq_k) {
    if (band.low > -MASK_FAR && band.low < -(int64_t)(seq_q / 2))
        band.low = -(int64_t)(seq_q / 2);
    if (band.high < MASK_FAR && band.high > (int64_t)(seq_k / 2))
        band.high = (int64_t)(seq_k / 2);
    return band;
}

/* Few queries stay few: not every implementation takes more of them. */
static bool awkward(const void *problem, unsigned index, void *out) {
    enum { N_SIZES = 5, FEW_QUERIES = 4 };
    static const size_t many[N_SIZES][2] = {{5, 1}, {67, 259}, {131, 61}, {259, 131}, {5, 300}};
    static const size_t few[N_SIZES][2] = {{1, 1}, {1, 259}, {3, 61}, {2, 1031}, {4, 700}};
    struct attention *a = out;
    const size_t(*sizes)[2] = ((const struct attention *)problem)->seq_q > FEW_QUERIES ? many : few;
    memcpy(a, problem, sizeof *a);
    if (a->score_data > 0 || a->mask_data > 0) /* data belong to their sizes */
        return false;
    uint32_t rows = 1, cols = 1;
    mask_grain(a->mask, &rows, &cols);
    if (rows > 1 || cols > 1) {
        if (!shrink_blocks(a, index))
            return false;
    } else {
        if (index >= N_SIZES)
            return false;
        a->seq_q = sizes[index][0];
        a->seq_k = sizes[index][1];
        a->band = moved_band(a->band, a->seq_q, a->seq_k);
    }
    a->batch = a->batch > 1 ? 2 : 1;
    if (mask_heads(a->mask) == 1) {
        a->kv_heads = a->kv_heads > 1 ? 2 : 1;
        a->heads = a->heads > 1 ? 2 * a->kv_heads : 1;
        a->kv_heads = a->heads > 1 ? a->kv_heads : 1;
    }
    /* Of 16 bytes and more for those that take no others. */
    const size_t unit = index % 2 == 0 ? 1 : 8;
    a->q = padded(a->heads, a->seq_q, a->head_dim, a->q.feature, unit);
    a->k = padded(a->kv_heads, a->seq_k, a->head_dim, a->k.feature, unit);
    a->v = padded(a->kv_heads, a->seq_k, a->value_dim, a->v.feature, unit);
    a->o = padded(a->heads, a->seq_q, a->value_dim, a->o.feature, unit);
    return true;
}

const struct trial_hooks attention_trial = {
    .operands = operands,
    .run = run,
    .judge = judge,
    .awkward = awkward,
};
