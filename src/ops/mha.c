/*
 * Multi-head self-attention as one plan of three: two GEMMs around an attention that reads Q, K and
 * V as strided views of the packed projection.
 *
 *     x [B N, E] --Wqkv^T--> packed [B N, (H + 2 KV) D] --attention--> o [B N, H D] --Wo^T--> y [B
 * N, E]
 *                            `-------------- workspace --------------------------'
 */
#include "mha.h"

#include "../context.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PART_QKV, PART_ATTENTION, PART_OUT, N_PARTS };

static size_t packed_width(const struct mha *p) {
    return (p->heads + 2 * p->kv_heads) * p->head_dim;
}

/* Offset of the attention's output in the workspace, in elements: past the packed projection, on a
 * cache line. */
static size_t attended_offset(const struct mha *p) {
    return (p->batch * p->seq * packed_width(p) + 63) / 64 * 64;
}

/* ---- the operation */

static void retain(void *problem) {
    struct mha *p = problem;
    p->mask = mask_retain(p->mask);
}

static void release(void *problem) {
    clat_mask_release(((struct mha *)problem)->mask);
}

static bool is_empty(const void *problem) {
    const struct mha *p = problem;
    return p->batch == 0 || p->seq == 0 || p->embed == 0;
}

static void shape(const void *problem, struct shape *out) {
    const struct mha *p = problem;
    *out = (struct shape){
        .count = 4,
        .dim = {{"batch", p->batch}, {"seq", p->seq}, {"embed", p->embed}, {"heads", p->heads}}};
    snprintf(out->variant, sizeof out->variant, "%s%s", clat_dtype_name(p->dtype),
             p->precision == CLAT_PRECISION_NATIVE ? " native" : "");
}

static void print(const void *problem, struct text *out) {
    const struct mha *p = problem;
    text_printf(out, "mha %s%s batch=%zu seq=%zu embed=%zu heads=%zu kv_heads=%zu head_dim=%zu ",
                clat_dtype_name(p->dtype), p->precision == CLAT_PRECISION_NATIVE ? " native" : "",
                p->batch, p->seq, p->embed, p->heads, p->kv_heads, p->head_dim);
    mask_print(p->mask, out);
}

static double flops(const void *problem) {
    const struct mha *p = problem;
    const double tokens = (double)p->batch * (double)p->seq;
    const double projections = (double)(packed_width(p) + p->heads * p->head_dim);
    const double pairs = mask_pairs(p->mask, (int64_t)p->seq, (int64_t)p->seq, (int64_t)p->heads);
    return 2 * tokens * (double)p->embed * projections +
           4 * (double)p->batch * pairs * (double)p->head_dim;
}

static const struct implementation *const no_implementations[] = {NULL};

const struct operation mha_operation = {
    .name = "mha",
    .problem_bytes = sizeof(struct mha),
    .implementations = no_implementations,
    .retain = retain,
    .release = release,
    .is_empty = is_empty,
    .shape = shape,
    .print = print,
    .flops = flops,
    .trial = &mha_trial,
};

/* ---- planning */

/* Whether every element count of the problem stays below 2^63 bytes; the parts check the rest. */
static bool is_countable(const struct mha *p) {
    size_t heads, width, tokens, packed, weights;
    return !__builtin_mul_overflow(p->kv_heads, (size_t)2, &heads) &&
           !__builtin_add_overflow(heads, p->heads, &heads) &&
           size_multiply(heads, p->head_dim, &width) && size_multiply(p->batch, p->seq, &tokens) &&
           size_multiply(tokens, width, &packed) && packed <= (size_t)INT64_MAX / 16 &&
           size_multiply(width, p->embed, &weights) && weights <= (size_t)INT64_MAX / 16;
}

static clat_status normalise(struct mha *out, const clat_mha_problem *problem) {
    memset(out, 0, sizeof *out);
    if (clat_dtype_bytes(problem->dtype) == 0)
        return status_fail(CLAT_INVALID_ARGUMENT, "problem.dtype is %d, which is no element type",
                           (int)problem->dtype);
    if (problem->dtype == CLAT_F64)
        return status_fail(CLAT_INVALID_TYPE, "problem.dtype must be f32, f16 or bf16");
    if ((unsigned)problem->precision > CLAT_PRECISION_NATIVE)
        return status_fail(CLAT_INVALID_ARGUMENT,
                           "problem.precision is %d, which is not one of its names",
                           (int)problem->precision);
    if (problem->heads == 0)
        return status_fail(CLAT_INVALID_SIZE, "problem.heads is 0");
    if (problem->head_dim == 0 && problem->embed % problem->heads != 0)
        return status_fail(CLAT_INVALID_SIZE,
                           "problem.embed is not a multiple of problem.heads, so problem.head_dim "
                           "must be given");
    if (!isfinite(problem->scale))
        return status_fail(CLAT_INVALID_ARGUMENT, "problem.scale is not finite");
    out->dtype = problem->dtype;
    out->batch = problem->batch;
    out->seq = problem->seq;
    out->embed = problem->embed;
    out->heads = problem->heads;
    out->kv_heads = problem->kv_heads ? problem->kv_heads : problem->heads;
    out->head_dim = problem->head_dim ? problem->head_dim : problem->embed / problem->heads;
    out->scale = problem->scale;
    out->mask = (clat_mask *)(uintptr_t)problem->mask;
    out->bias = problem->bias;
    if (problem->dtype != CLAT_F32)
        out->precision = problem->precision;
    if (out->head_dim == 0 || out->head_dim > 256)
        return status_fail(CLAT_INVALID_SIZE, "problem.head_dim is %zu; it must be 1 to 256",
                           out->head_dim);
    if (out->heads % out->kv_heads != 0)
        return status_fail(CLAT_INVALID_SIZE, "problem.kv_heads does not divide problem.heads");
    if (!is_countable(out))
        return status_fail(CLAT_INVALID_SIZE,
                           "problem.batch, seq, embed, heads or head_dim: their product overflows");
    return CLAT_OK;
}

static clat_status plan_projection(clat_plan **out, clat_context *ctx, const struct mha *p,
                                   size_t n, size_t k, const char *implementation) {
    clat_gemm_problem gemm = CLAT_GEMM_PROBLEM_INIT;
    gemm.dtype = p->dtype;
    gemm.m = p->batch * p->seq;
    gemm.n = n;
    gemm.k = k;
    gemm.trans_b = CLAT_TRANS;
    gemm.bias = p->bias ? CLAT_BIAS_COLUMN : CLAT_BIAS_NONE;
    gemm.precision = p->precision;
    gemm.implementation = implementation;
    return clat_gemm_plan(out, ctx, &gemm);
}

static clat_status plan_attention(clat_plan **out, clat_context *ctx, const struct mha *p,
                                  const char *implementation) {
    const size_t width = packed_width(p), d = p->head_dim;
    clat_attention_problem attention = CLAT_ATTENTION_PROBLEM_INIT;
    attention.dtype = p->dtype;
    attention.batch = p->batch;
    attention.heads = p->heads;
    attention.kv_heads = p->kv_heads;
    attention.seq_q = attention.seq_k = p->seq;
    attention.head_dim = d;
    attention.q = attention.k = attention.v = (clat_strides){p->seq * width, d, width, 1};
    attention.o = (clat_strides)CLAT_STRIDES_BNHD(p->heads, p->seq, d);
    attention.scale = p->scale;
    attention.mask = p->mask;
    attention.precision = p->precision;
    attention.implementation = implementation;
    return clat_attention_plan(out, ctx, &attention);
}

clat_status clat_mha_plan(clat_plan **out, clat_context *ctx, const clat_mha_problem *problem) {
    clat_status st = CLAT_OK;
    clat_plan *parts[N_PARTS] = {NULL};
    struct mha p;
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (ctx == NULL || problem == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", ctx == NULL ? "ctx" : "problem");
    TRY(normalise(&p, problem));
    const char *implementation = problem->implementation;
    const size_t attended = p.heads * p.head_dim;
    TRY(plan_projection(&parts[PART_QKV], ctx, &p, packed_width(&p), p.embed, implementation));
    TRY(plan_attention(&parts[PART_ATTENTION], ctx, &p, implementation));
    TRY(plan_projection(&parts[PART_OUT], ctx, &p, p.embed, attended, implementation));
    const size_t elements = attended_offset(&p) + p.batch * p.seq * attended;
    return plan_create_composite(out, ctx, &mha_operation, &p, parts, N_PARTS,
                                 elements * clat_dtype_bytes(p.dtype));
out:
    for (unsigned i = 0; i < N_PARTS; i++)
        clat_plan_release(parts[i]);
    return st;
}

/* ---- running */

static clat_status check_args(const struct mha *p, const clat_plan *plan,
                              const clat_mha_args *args) {
    clat_status st = CLAT_OK;
    const clat_context *ctx = plan_context(plan);
    const size_t bytes = clat_dtype_bytes(p->dtype), width = packed_width(p), embed = p->embed,
                 attended = p->heads * p->head_dim, tokens = p->batch * p->seq,
                 scratch = clat_plan_get_info(plan)->workspace_bytes;
    const struct view y = {"y", args->y, args->y_offset, bytes, 2, {tokens, embed}, {embed, 1}};
    const struct {
        bool present;
        struct view view;
    } inputs[] = {
        {true, {"x", args->x, args->x_offset, bytes, 2, {tokens, embed}, {embed, 1}}},
        {true, {"w_qkv", args->w_qkv, args->w_qkv_offset, bytes, 2, {width, embed}, {embed, 1}}},
        {true, {"w_o", args->w_o, args->w_o_offset, bytes, 2, {embed, attended}, {attended, 1}}},
        {p->bias, {"b_qkv", args->b_qkv, args->b_qkv_offset, bytes, 1, {width}, {1}}},
        {p->bias, {"b_o", args->b_o, args->b_o_offset, bytes, 1, {embed}, {1}}},
    };
    /* Without a buffer it overlaps nothing. */
    const struct view workspace = {"workspace", args->workspace, 0, 1, 1, {scratch}, {1}};
    TRY(view_check(&y, ctx->cl));
    if (args->workspace != NULL)
        TRY(view_check(&workspace, ctx->cl));
    TRY(view_disjoint(&y, &workspace));
    for (unsigned i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (!inputs[i].present)
            continue;
        TRY(view_check(&inputs[i].view, ctx->cl));
        TRY(view_disjoint(&y, &inputs[i].view));
        TRY(view_disjoint(&workspace, &inputs[i].view));
    }
out:
    return st;
}

/* The three parts; `between` receives the events that order them on an out-of-order queue. */
static clat_status run_parts(const struct mha *p, const clat_plan *plan, cl_command_queue queue,
                             const clat_mha_args *args, cl_mem scratch, cl_uint n_wait,
                             const cl_event *wait_list, cl_event between[2], cl_event *event) {
    clat_status st = CLAT_OK;
    const bool chain = !queue_in_order(queue);
    const size_t d = p->head_dim, attended = attended_offset(p);
    const clat_gemm_args project = {.a = args->x,
                                    .a_offset = args->x_offset,
                                    .b = args->w_qkv,
                                    .b_offset = args->w_qkv_offset,
                                    .c = scratch,
                                    .alpha = 1,
                                    .bias = args->b_qkv,
                                    .bias_offset = args->b_qkv_offset};
    const clat_attention_args attend = {.q = scratch,
                                        .k = scratch,
                                        .v = scratch,
                                        .o = scratch,
                                        .k_offset = p->heads * d,
                                        .v_offset = (p->heads + p->kv_heads) * d,
                                        .o_offset = attended};
    const clat_gemm_args output = {.a = scratch,
                                   .a_offset = attended,
                                   .b = args->w_o,
                                   .b_offset = args->w_o_offset,
                                   .c = args->y,
                                   .c_offset = args->y_offset,
                                   .alpha = 1,
                                   .bias = args->b_o,
                                   .bias_offset = args->b_o_offset};
    TRY(clat_gemm_run(plan_part(plan, PART_QKV), queue, &project, n_wait, wait_list,
                      chain ? &between[0] : NULL));
    TRY(clat_attention_run(plan_part(plan, PART_ATTENTION), queue, &attend, chain,
                           chain ? &between[0] : NULL, chain ? &between[1] : NULL));
    TRY(clat_gemm_run(plan_part(plan, PART_OUT), queue, &output, chain, chain ? &between[1] : NULL,
                      event));
out:
    return st;
}

clat_status clat_mha_run(const clat_plan *plan, cl_command_queue queue, const clat_mha_args *args,
                         cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    clat_status st = CLAT_OK;
    struct workspace *borrowed = NULL;
    struct workspace_pool *pool = NULL;
    cl_event between[2] = {NULL, NULL}, last = NULL;
    const void *problem = NULL;
    status_clear();
    TRY(plan_problem(&problem, plan, &mha_operation, queue, n_wait, wait_list));
    if (args == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "args is NULL");
    if (is_empty(problem))
        return plan_enqueue(plan, queue, &(struct binding){0}, n_wait, wait_list, event);
    TRY(check_args(problem, plan, args));

    cl_mem scratch = args->workspace;
    if (scratch == NULL) {
        pool = &plan_context(plan)->workspace;
        TRY(workspace_take(&borrowed, pool, queue, clat_plan_get_info(plan)->workspace_bytes));
        scratch = workspace_buffer(borrowed);
    }
    st = run_parts(problem, plan, queue, args, scratch, n_wait, wait_list, between,
                   event != NULL || workspace_needs_event(borrowed, queue) ? &last : NULL);
out:
    workspace_end_run(pool, borrowed, queue, st, last);
    for (unsigned i = 0; i < 2; i++)
        if (between[i] != NULL)
            clReleaseEvent(between[i]);
    if (st == CLAT_OK && event != NULL)
        *event = last;
    else if (last != NULL)
        clReleaseEvent(last);
    return st;
}
