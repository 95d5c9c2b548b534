/* Causal attention in a sliding window, as a plan: compiled once, run for every layer of a model.
 * Q, K and V are three views of one packed buffer: [token][q, k, v][head][feature]. */
#include <clattice/clattice.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEQ = 1024, HEADS = 4, DIM = 64, LAYERS = 3, TOKEN = HEADS * DIM };

static float qkv[SEQ * 3 * TOKEN], result[SEQ * TOKEN];

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

/* Key j is visible to query i when i - 127 <= j <= i. */
static clat_plan *make_plan(clat_context *ctx) {
    clat_mask *mask;
    check(clat_mask_window(&mask, 127, 0));

    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.heads = HEADS;
    problem.seq_q = problem.seq_k = SEQ;
    problem.head_dim = DIM;
    problem.q = problem.k = problem.v =
        (clat_strides){.batch = SEQ * 3 * TOKEN, .head = DIM, .seq = 3 * TOKEN, .feature = 1};
    problem.o = (clat_strides)CLAT_STRIDES_BNHD(HEADS, SEQ, DIM);
    problem.mask = mask;

    clat_plan *plan;
    check(clat_attention_plan(&plan, ctx, &problem));
    clat_mask_release(mask);
    return plan;
}

int main(void) {
    for (size_t i = 0; i < SEQ * 3 * TOKEN; i++)
        qkv[i] = sinf((float)i);

    clat_context *ctx;
    check(clat_context_create(&ctx, NULL));
    clat_plan *plan = make_plan(ctx);
    printf("%s\n", clat_plan_get_info(plan)->explanation);

    cl_int err;
    cl_context cl = clat_context_cl(ctx);
    cl_command_queue queue = clCreateCommandQueue(cl, clat_context_device(ctx), 0, &err);
    check_cl(err, "clCreateCommandQueue");
    cl_mem in = clCreateBuffer(cl, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof qkv, qkv, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem out = clCreateBuffer(cl, CL_MEM_WRITE_ONLY, sizeof result, NULL, &err);
    check_cl(err, "clCreateBuffer");

    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = args.k = args.v = in;
    args.k_offset = TOKEN;
    args.v_offset = 2 * TOKEN;
    args.o = out;
    for (int layer = 0; layer < LAYERS; layer++) /* a real model has its own buffers in each */
        check(clat_attention_run(plan, queue, &args, 0, NULL, NULL));

    check_cl(clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof result, result, 0, NULL, NULL),
             "clEnqueueReadBuffer");
    /* The first query sees only the first key: its output is that key's value. */
    printf("%.4f = %.4f\n", result[1], qkv[2 * TOKEN + 1]);

    clReleaseMemObject(in);
    clReleaseMemObject(out);
    clReleaseCommandQueue(queue);
    clat_plan_release(plan);
    clat_context_release(ctx);
    return EXIT_SUCCESS;
}
