/*
 * Longformer's self-attention (Beltagy et al. 2020), whole: a window on either side, dilated in the
 * upper heads; global tokens, whose keys all queries see, and whose own queries see all keys
 * through projections of their own; and a sequence that is padded at its end.
 *
 *     projections = x W        one product: q, k, v and the global q, k, v of every token
 *     out         = attention of all tokens, in the window and to global keys
 *     out[globals] = attention of the global tokens, to all keys
 *
 * Checks all results against plain loops in double.
 */
#include <clattice/clattice.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SEQ = 500,
    LENGTH = 470, /* what follows is padding: not seen, and 0 in the result */
    GLOBALS = 3,
    WINDOW = 32, /* keys on either side */
    DILATION = 3,
    HEADS = 4,
    DIM = 32,
    TOKEN = HEADS * DIM,
    PROJECTIONS = 6,
    ROW = PROJECTIONS * TOKEN
};
enum projection { Q, K, V, GLOBAL_Q, GLOBAL_K, GLOBAL_V };

static float x[SEQ * TOKEN], w[TOKEN * ROW], result[SEQ * TOKEN];
static double projected[SEQ * ROW];

static void check(clat_status status) {
    if (status == CLAT_OK)
        return;
    fprintf(stderr, "%s: %s\n", clat_status_name(status), clat_error_text());
    exit(EXIT_FAILURE);
}

static void check_cl(cl_int code, const char *call) {
    if (code == CL_SUCCESS)
        return;
    fprintf(stderr, "%s gave OpenCL code %d\n", call, (int)code);
    exit(EXIT_FAILURE);
}

/* Random numbers in -limit .. limit. */
static void fill(float *numbers, size_t count, float limit) {
    static uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223;
        numbers[i] = limit * ((float)(state >> 8) / (1 << 23) - 1);
    }
}

/* ---- masks: each function gives up what it joins */

static clat_mask *join(clat_status (*how)(clat_mask **, size_t, const clat_mask *const *),
                       clat_mask *a, clat_mask *b) {
    clat_mask *joined;
    check(how(&joined, 2, (const clat_mask *const[]){a, b}));
    clat_mask_release(a);
    clat_mask_release(b);
    return joined;
}

static clat_mask *first_keys(int64_t count) {
    clat_mask *keys;
    check(clat_mask_keys(&keys, 0, count));
    return keys;
}

/* The lower half of the heads has a plain window. */
static clat_mask *make_windows(void) {
    clat_mask *near, *far, *stride, *windows;
    uint32_t of_head[HEADS];
    for (int head = 0; head < HEADS; head++)
        of_head[head] = head >= HEADS / 2;
    check(clat_mask_window(&near, WINDOW, WINDOW));
    check(clat_mask_window(&far, WINDOW * DILATION, WINDOW * DILATION));
    check(clat_mask_stride(&stride, DILATION, 0));
    clat_mask *dilated = join(clat_mask_all, far, stride);
    check(clat_mask_heads(&windows, HEADS, of_head, 2, (const clat_mask *const[]){near, dilated}));
    clat_mask_release(near);
    clat_mask_release(dilated);
    return windows;
}

static clat_mask *make_local_mask(void) {
    clat_mask *queries;
    check(clat_mask_queries(&queries, 0, LENGTH));
    clat_mask *exists = join(clat_mask_all, queries, first_keys(LENGTH));
    return join(clat_mask_all, join(clat_mask_any, make_windows(), first_keys(GLOBALS)), exists);
}

/* ---- plans */

static clat_plan *plan_projections(clat_context *ctx) {
    clat_plan *plan;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = SEQ, problem.n = ROW, problem.k = TOKEN;
    check(clat_gemm_plan(&plan, ctx, &problem));
    return plan;
}

/* Of the first `seq_q` tokens; gives the mask up. */
static clat_plan *plan_attention(clat_context *ctx, size_t seq_q, clat_mask *mask) {
    clat_plan *plan;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.heads = HEADS;
    problem.seq_q = seq_q, problem.seq_k = SEQ;
    problem.head_dim = DIM;
    problem.q = problem.k = problem.v =
        (clat_strides){.batch = SEQ * ROW, .head = DIM, .seq = ROW, .feature = 1};
    problem.o = (clat_strides)CLAT_STRIDES_BNHD(HEADS, SEQ, DIM);
    problem.mask = mask;
    check(clat_attention_plan(&plan, ctx, &problem));
    clat_mask_release(mask);
    return plan;
}

static void attend(clat_plan *plan, cl_command_queue queue, cl_mem projections, enum projection q,
                   cl_mem out) {
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = args.k = args.v = projections;
    args.q_offset = (size_t)q * TOKEN; /* k and v come after it */
    args.k_offset = args.q_offset + TOKEN;
    args.v_offset = args.k_offset + TOKEN;
    args.o = out;
    check(clat_attention_run(plan, queue, &args, 0, NULL, NULL));
}

/* ---- the same by plain loops */

static bool sees(int head, int i, int j) {
    const int step = head < HEADS / 2 ? 1 : DILATION, distance = abs(i - j);
    if (i >= LENGTH || j >= LENGTH)
        return false;
    return i < GLOBALS || j < GLOBALS || (distance % step == 0 && distance <= WINDOW * step);
}

static const double *projection(enum projection which, int token, int head) {
    return projected + (size_t)token * ROW + which * TOKEN + head * DIM;
}

static void expected_row(double *out, int head, int i) {
    const enum projection q = i < GLOBALS ? GLOBAL_Q : Q;
    double sum = 0;
    for (int d = 0; d < DIM; d++)
        out[d] = 0;
    for (int j = 0; j < SEQ; j++) {
        double score = 0;
        if (!sees(head, i, j))
            continue;
        for (int d = 0; d < DIM; d++)
            score += projection(q, i, head)[d] * projection(q + 1, j, head)[d];
        const double weight = exp(score / sqrt(DIM));
        sum += weight;
        for (int d = 0; d < DIM; d++)
            out[d] += weight * projection(q + 2, j, head)[d];
    }
    for (int d = 0; d < DIM && sum > 0; d++)
        out[d] /= sum;
}

/* Of all results, beside the largest of them. */
static double relative_error(void) {
    double error = 0, largest = 0, row[DIM];
    for (int i = 0; i < SEQ; i++)
        for (int n = 0; n < ROW; n++) {
            projected[i * ROW + n] = 0;
            for (int k = 0; k < TOKEN; k++)
                projected[i * ROW + n] += (double)x[i * TOKEN + k] * w[k * ROW + n];
        }
    for (int i = 0; i < SEQ; i++)
        for (int head = 0; head < HEADS; head++) {
            expected_row(row, head, i);
            for (int d = 0; d < DIM; d++) {
                const double off = fabs(result[i * TOKEN + head * DIM + d] - row[d]);
                if (off > error || isnan(off)) /* which stays: nothing is greater */
                    error = off;
                largest = fmax(largest, fabs(row[d]));
            }
        }
    return error / largest;
}

int main(void) {
    fill(x, SEQ * TOKEN, 1);
    fill(w, TOKEN * ROW, 0.2F);

    clat_context *ctx;
    check(clat_context_create(&ctx, NULL));
    clat_plan *project = plan_projections(ctx);
    clat_plan *local = plan_attention(ctx, SEQ, make_local_mask());
    clat_plan *global = plan_attention(ctx, GLOBALS, first_keys(LENGTH));
    printf("%s\n%s\n", clat_plan_get_info(local)->explanation,
           clat_plan_get_info(global)->explanation);

    cl_int err;
    cl_context cl = clat_context_cl(ctx);
    cl_command_queue queue = clCreateCommandQueue(cl, clat_context_device(ctx), 0, &err);
    check_cl(err, "clCreateCommandQueue");
    cl_mem tokens = clCreateBuffer(cl, CL_MEM_COPY_HOST_PTR, sizeof x, x, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem weights = clCreateBuffer(cl, CL_MEM_COPY_HOST_PTR, sizeof w, w, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem projections =
        clCreateBuffer(cl, CL_MEM_READ_WRITE, SEQ * ROW * sizeof(float), NULL, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem out = clCreateBuffer(cl, CL_MEM_READ_WRITE, sizeof result, NULL, &err);
    check_cl(err, "clCreateBuffer");

    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = tokens, args.b = weights, args.c = projections;
    check(clat_gemm_run(project, queue, &args, 0, NULL, NULL));
    attend(local, queue, projections, Q, out);
    attend(global, queue, projections, GLOBAL_Q, out); /* over the rows of global tokens */
    check_cl(clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof result, result, 0, NULL, NULL),
             "clEnqueueReadBuffer");
    const double error = relative_error();
    printf("relative error %.1e\n", error);

    clReleaseMemObject(tokens);
    clReleaseMemObject(weights);
    clReleaseMemObject(projections);
    clReleaseMemObject(out);
    clReleaseCommandQueue(queue);
    clat_plan_release(project);
    clat_plan_release(local);
    clat_plan_release(global);
    clat_context_release(ctx);
    return error < 1e-5 ? EXIT_SUCCESS : EXIT_FAILURE;
}
