/*
 * Judging multi-head attention on samples: every key and value of one batch element is projected in
 * f64, then some of its rows are followed to the output.
 *
 * The bound propagates rounding errors as independent random variables through each step (their
 * variances: u^2 n sum (a b)^2 for a sum of n products in f32, (s x)^2 for storing x), and allows
 * eight standard deviations of the outcome. Adding up worst cases instead would, for bf16, allow
 * errors larger than the outputs themselves.
 */
#include "mha.h"

#include <math.h>
#include <stdlib.h>

enum { X, W_QKV, W_O, Y, B_QKV, B_O };
enum { ROWS = 6 };

static struct operand dense(const char *name, clat_dtype dtype, size_t elements, double range) {
    return (struct operand){.name = name, .dtype = dtype, .elements = elements, .range = range};
}

static unsigned operands(const void *problem, struct operand *out) {
    const struct mha *p = problem;
    const size_t tokens = p->batch * p->seq, attended = p->heads * p->head_dim,
                 width = attended + 2 * p->kv_heads * p->head_dim;
    /* Weights of range sqrt(3 / n) keep the variance of what they multiply. */
    const double in = sqrt(3.0 / (double)(p->embed ? p->embed : 1));
    const double through = sqrt(3.0 / (double)attended);
    out[X] = dense("x", p->dtype, tokens * p->embed, 2.0);
    out[W_QKV] = dense("w_qkv", p->dtype, width * p->embed, in);
    out[W_O] = dense("w_o", p->dtype, p->embed * attended, through);
    out[Y] = dense("y", p->dtype, tokens * p->embed, 0);
    out[Y].output = true;
    if (!p->bias)
        return 4;
    out[B_QKV] = dense("b_qkv", p->dtype, width, 0.5);
    out[B_O] = dense("b_o", p->dtype, p->embed, 0.5);
    return 6;
}

static clat_status run(const clat_trial *trial, const clat_plan *plan, cl_command_queue queue,
                       cl_event *event) {
    clat_mha_args args = CLAT_MHA_ARGS_INIT;
    args.x = clat_trial_buffer(trial, "x", &args.x_offset);
    args.w_qkv = clat_trial_buffer(trial, "w_qkv", &args.w_qkv_offset);
    args.w_o = clat_trial_buffer(trial, "w_o", &args.w_o_offset);
    args.y = clat_trial_buffer(trial, "y", &args.y_offset);
    args.b_qkv = clat_trial_buffer(trial, "b_qkv", &args.b_qkv_offset);
    args.b_o = clat_trial_buffer(trial, "b_o", &args.b_o_offset);
    return clat_mha_run(plan, queue, &args, 0, NULL, event);
}

/* A vector of numbers with the variance of each one's error. */
struct estimate {
    double *value, *variance;
};

struct judge {
    const struct mha *p;
    clat_trial *trial;
    double u, s; /* unit roundoff of the arithmetic and of stored elements */
    size_t batch, attended;
    double *w_qkv, *w_o; /* decoded */
    struct estimate kv;  /* seq x 2 kv_heads head_dim */
    struct estimate q, o;
    double *x, *weight, *score_variance; /* one token; one row of probabilities */
};

/* sum a[i] b[i] + bias, with the variance of a computed and stored one; a, b exact. */
static void dot(const struct judge *j, const double *a, const double *b, size_t n, double bias,
                double *value, double *variance) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        const double product = a[i] * b[i];
        sum += product;
        squares += product * product;
    }
    *value = sum + bias;
    *variance = j->u * j->u * (double)n * squares + j->s * j->s * *value * *value;
}

/* Columns first .. first + count of the packed projection of one token. */
static void project(const struct judge *j, size_t token, size_t first, size_t count, double *value,
                    double *variance) {
    const size_t embed = j->p->embed;
    trial_row(j->trial, X, (j->batch * j->p->seq + token) * embed, 1, embed, j->x);
    for (size_t c = 0; c < count; c++)
        dot(j, j->x, j->w_qkv + (first + c) * embed, embed,
            j->p->bias ? trial_value(j->trial, B_QKV, first + c) : 0, &value[c], &variance[c]);
}

/* scale q.k, with the variance that the errors of q, of k and of the sum bring. */
static double score_of(const struct judge *j, const double *q, const double *q_variance,
                       const double *k, const double *k_variance, double *out_variance) {
    const size_t d = j->p->head_dim;
    const double scale = j->p->scale != 0 ? j->p->scale : 1 / sqrt((double)d);
    double score = 0, variance = 0, squares = 0;
    for (size_t i = 0; i < d; i++) {
        score += q[i] * k[i];
        squares += q[i] * k[i] * q[i] * k[i];
        variance += q[i] * q[i] * k_variance[i] + k[i] * k[i] * q_variance[i];
    }
    *out_variance = scale * scale * (variance + j->u * j->u * (double)d * squares);
    return scale * score;
}

/* Fills weight[] with the probabilities of one row and score_variance[]; false: no key is seen. */
static bool attend_scores(const struct judge *j, size_t row, size_t head) {
    const struct mha *p = j->p;
    const size_t d = p->head_dim, kv_width = 2 * p->kv_heads * d,
                 kv_head = head / (p->heads / p->kv_heads);
    const int64_t seq = (int64_t)p->seq;
    double most = -INFINITY, sum = 0;
    for (size_t key = 0; key < p->seq; key++) {
        const size_t at = key * kv_width + kv_head * d;
        const double score =
            score_of(j, j->q.value + head * d, j->q.variance + head * d, j->kv.value + at,
                     j->kv.variance + at, &j->score_variance[key]);
        const bool seen =
            clat_mask_visible(p->mask, seq, seq, (int64_t)head, (int64_t)row, (int64_t)key);
        j->weight[key] = seen ? score : -INFINITY;
        most = fmax(most, j->weight[key]);
    }
    if (most == -INFINITY)
        return false;
    for (size_t key = 0; key < p->seq; key++)
        sum += j->weight[key] = exp(j->weight[key] - most);
    for (size_t key = 0; key < p->seq; key++)
        j->weight[key] /= sum;
    return true;
}

static void attend(const struct judge *j, size_t row, size_t head) {
    const struct mha *p = j->p;
    const size_t d = p->head_dim, kv_width = 2 * p->kv_heads * d,
                 v_first = (p->kv_heads + head / (p->heads / p->kv_heads)) * d;
    const bool seen = attend_scores(j, row, head);
    for (size_t i = 0; i < d; i++) {
        double value = 0, variance = 0, squares = 0;
        for (size_t key = 0; seen && key < p->seq; key++)
            value += j->weight[key] * j->kv.value[key * kv_width + v_first + i];
        for (size_t key = 0; seen && key < p->seq; key++) {
            const size_t at = key * kv_width + v_first + i;
            const double w = j->weight[key], v = j->kv.value[at], slope = w * (v - value);
            /* Probabilities may be rounded to the storage type for the second product. */
            squares += w * v * w * v;
            variance += slope * slope * j->score_variance[key] + w * w * j->kv.variance[at];
        }
        j->o.value[head * d + i] = value;
        j->o.variance[head * d + i] = variance +
                                      (j->u * j->u * (double)p->seq + j->s * j->s) * squares +
                                      j->s * j->s * value * value;
    }
}

static void judge_row(const struct judge *j, size_t row) {
    const struct mha *p = j->p;
    project(j, row, 0, j->attended, j->q.value, j->q.variance);
    for (size_t head = 0; head < p->heads; head++)
        attend(j, row, head);
    for (size_t c = 0; c < p->embed; c++) {
        const double *w = j->w_o + c * j->attended;
        double value, variance;
        dot(j, j->o.value, w, j->attended, p->bias ? trial_value(j->trial, B_O, c) : 0, &value,
            &variance);
        for (size_t i = 0; i < j->attended; i++)
            variance += w[i] * w[i] * j->o.variance[i];
        trial_judge(j->trial, Y, (j->batch * p->seq + row) * p->embed + c, value,
                    8 * sqrt(variance) + 1e-30, "y[%zu][%zu] of batch %zu", row, c, j->batch);
    }
}

/* Hands out the next `count` numbers of a block. */
static double *carve(double **at, size_t count) {
    double *start = *at;
    *at += count;
    return start;
}

static clat_status judge_outputs(const void *problem, clat_trial *trial) {
    const struct mha *p = problem;
    const size_t attended = p->heads * p->head_dim, kv_width = 2 * p->kv_heads * p->head_dim,
                 width = attended + kv_width;
    if (p->batch * p->seq * p->embed == 0)
        return CLAT_OK;
    const size_t total = (width + attended) * p->embed + 2 * p->seq * kv_width + 4 * attended +
                         p->embed + 2 * p->seq;
    double *memory = malloc(total * sizeof *memory), *at = memory;
    if (memory == NULL)
        return status_no_memory(total * sizeof *memory);
    const struct judge j = {
        .p = p,
        .trial = trial,
        .u = dtype_epsilon(CLAT_F32),
        .s = dtype_epsilon(p->dtype),
        .batch = trial_random(trial, p->batch),
        .attended = attended,
        .w_qkv = carve(&at, width * p->embed),
        .w_o = carve(&at, attended * p->embed),
        .kv = {carve(&at, p->seq * kv_width), carve(&at, p->seq * kv_width)},
        .q = {carve(&at, attended), carve(&at, attended)},
        .o = {carve(&at, attended), carve(&at, attended)},
        .x = carve(&at, p->embed),
        .weight = carve(&at, p->seq),
        .score_variance = carve(&at, p->seq),
    };
    trial_row(trial, W_QKV, 0, 1, width * p->embed, j.w_qkv);
    trial_row(trial, W_O, 0, 1, attended * p->embed, j.w_o);
    for (size_t key = 0; key < p->seq; key++)
        project(&j, key, attended, kv_width, j.kv.value + key * kv_width,
                j.kv.variance + key * kv_width);
    judge_row(&j, 0);
    judge_row(&j, p->seq - 1);
    for (unsigned i = 2; i < ROWS; i++)
        judge_row(&j, trial_random(trial, p->seq));
    free(memory);
    return CLAT_OK;
}

/* The tuner tunes the parts, which have their own. */
static bool awkward(const void *problem, unsigned index, void *out) {
    (void)problem;
    (void)index;
    (void)out;
    return false;
}

const struct trial_hooks mha_trial = {
    .operands = operands,
    .run = run,
    .judge = judge_outputs,
    .awkward = awkward,
};
