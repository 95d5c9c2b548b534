/* GEMM: what the operator is to the machinery, and its public entry points. */
#include "gemm.h"

#include "clock.h"
#include "context.h"
#include "engine.h"
#include "plan.h"
#include "sizes.h"

#include <stdio.h>
#include <string.h>

/* ---- the operator */

static bool is_empty(const void *problem) {
    const struct gemm *gemm = problem;
    return gemm->m == 0 || gemm->n == 0 || gemm->batch == 0;
}

/* The activation, bias and batching do not change which tiles are good; sizes do. */
static void shape(const void *problem, struct shape *out) {
    const struct gemm *gemm = problem;
    const bool widened = gemm->dtype_c != gemm->dtype;
    const char *const names[] = {"m", "n", "k", "batch"};
    const size_t sizes[] = {gemm->m, gemm->n, gemm->k, gemm->batch};
    memset(out, 0, sizeof *out);
    snprintf(out->variant, sizeof out->variant, "%s%s%s%s %c%c", clat_dtype_name(gemm->dtype),
             widened ? ">" : "", widened ? clat_dtype_name(gemm->dtype_c) : "",
             gemm->precision == CLAT_PRECISION_NATIVE ? " native" : "", gemm->trans_a ? 'T' : 'N',
             gemm->trans_b ? 'T' : 'N');
    out->count = 4;
    for (unsigned i = 0; i < out->count; i++) {
        out->dim[i].name = names[i];
        out->dim[i].value = sizes[i];
    }
}

static double flops(const void *problem) {
    const struct gemm *gemm = problem;
    return 2.0 * (double)gemm->m * (double)gemm->n * (double)gemm->k * (double)gemm->batch;
}

static const struct implementation *const implementations[] = {
    &gemm_tile_cpu, &gemm_dot_cpu, &gemm_cpu, &gemm_wgmma, &gemm_mma, &gemm_simt, NULL};

const struct operation gemm_operation = {
    .name = "gemm",
    .problem_bytes = sizeof(struct gemm),
    .implementations = implementations,
    .is_empty = is_empty,
    .shape = shape,
    .print = gemm_print,
    .flops = flops,
    .trial = &gemm_trial,
};

/* ---- what implementations share */

size_t gemm_real_bytes(const struct gemm *gemm) {
    return gemm->dtype == CLAT_F64 ? sizeof(cl_double) : sizeof(cl_float);
}

bool gemm_supports_dtype(const struct device *device, const struct gemm *gemm,
                         char why[OP_WHY_BYTES]) {
    if (gemm->dtype != CLAT_F64 || device_can(device, CAP_F64))
        return true;
    snprintf(why, OP_WHY_BYTES, "the device has no f64");
    return false;
}

bool gemm_uses_bf16_dot(const struct device *device, const struct gemm *gemm) {
    return gemm->precision == CLAT_PRECISION_NATIVE && gemm->dtype == CLAT_BF16 &&
           device_can(device, CAP_BF16_DOT);
}

struct gemm gemm_swapped(const struct gemm *gemm) {
    struct gemm swapped = *gemm;
    swapped.m = gemm->n, swapped.n = gemm->m;
    swapped.lda = gemm->ldb, swapped.ldb = gemm->lda;
    swapped.stride_a = gemm->stride_b, swapped.stride_b = gemm->stride_a;
    swapped.trans_a = gemm->trans_b ? CLAT_NO_TRANS : CLAT_TRANS;
    swapped.trans_b = gemm->trans_a ? CLAT_NO_TRANS : CLAT_TRANS;
    if (gemm->bias != CLAT_BIAS_NONE)
        swapped.bias = gemm->bias == CLAT_BIAS_ROW ? CLAT_BIAS_COLUMN : CLAT_BIAS_ROW;
    return swapped;
}

void gemm_launch_common(const struct gemm *gemm, bool swapped, struct launch *out,
                        struct pass *pass) {
    static const char *const activation[] = {"none", "relu", "gelu", "silu"};
    const bool lists = gemm->batching == CLAT_BATCH_OFFSETS;
    text_printf(&out->defines,
                "#define DTYPE %s\n#define DTYPE_C %s\n#define TRANS_A %d\n#define TRANS_B %d\n"
                "#define BIAS %d\n#define ACTIVATION %s\n#define BATCH_OFFSETS %d\n"
                "#define NEED_F64 %d\n#define SWAP %d\n",
                clat_dtype_name(gemm->dtype), clat_dtype_name(gemm->dtype_c), gemm->trans_a,
                gemm->trans_b, gemm->bias, activation[gemm->activation], lists,
                gemm->dtype == CLAT_F64, swapped);

    const struct gemm_params params = {
        .m = (gemm_size)gemm->m,
        .n = (gemm_size)gemm->n,
        .k = (gemm_size)gemm->k,
        .batch = (gemm_size)gemm->batch,
        .lda = (gemm_size)gemm->lda,
        .ldb = (gemm_size)gemm->ldb,
        .ldc = (gemm_size)gemm->ldc,
        .stride_a = (gemm_size)gemm->stride_a,
        .stride_b = (gemm_size)gemm->stride_b,
        .stride_c = (gemm_size)gemm->stride_c,
    };
    _Static_assert(sizeof params <= OP_MAX_PARAMS_BYTES, "the template has room for it");
    memcpy(out->params, &params, sizeof params);
    out->params_bytes = sizeof params;

    pass->kernel = "gemm";
    pass_arg(pass, ARG_BUFFER, swapped ? GEMM_B : GEMM_A, 0);
    pass_arg(pass, ARG_BUFFER, swapped ? GEMM_A : GEMM_B, 0);
    pass_arg(pass, ARG_BUFFER, GEMM_C, 0);
    pass_arg(pass, ARG_PARAMS, 0, 0);
    if (gemm->bias != CLAT_BIAS_NONE)
        pass_arg(pass, ARG_BUFFER, GEMM_BIAS, 0);
    if (lists) {
        pass_arg(pass, ARG_BUFFER, swapped ? GEMM_B_OFFSETS : GEMM_A_OFFSETS, 0);
        pass_arg(pass, ARG_BUFFER, swapped ? GEMM_A_OFFSETS : GEMM_B_OFFSETS, 0);
        pass_arg(pass, ARG_BUFFER, GEMM_C_OFFSETS, 0);
        pass_arg(pass, ARG_BUFFER, GEMM_ALPHAS, 0);
        pass_arg(pass, ARG_BUFFER, GEMM_BETAS, 0);
    }
}

void gemm_launch_tiles(const struct gemm *gemm, size_t bm, size_t bn, size_t items, size_t shares,
                       struct pass *pass) {
    pass->dims = 2;
    pass->local[0] = items;
    pass->local[1] = 1;
    pass->global[0] = ceil_div(gemm->m, bm) * ceil_div(gemm->n, bn) * items;
    pass->global[1] = smaller(gemm->batch * shares, GEMM_MAX_GRID_Y);
}

enum { REDUCE_ITEMS = 64 };

/* 0 where k is not split. */
static double split_bytes(const struct gemm *gemm, size_t split) {
    const double sums = (double)gemm->m * (double)gemm->n * (double)gemm->batch * (double)split;
    return split > 1 ? sums * (double)gemm_real_bytes(gemm) : 0;
}

bool gemm_may_split(const struct device *device, const struct gemm *gemm, size_t split) {
    return split_bytes(gemm, split) <= (double)device->max_alloc_bytes / 4;
}

void gemm_launch_split(const struct gemm *gemm, size_t depth, size_t split, struct launch *out) {
    struct pass *first = &out->passes[0], *reduce = &out->passes[out->n_passes++];
    struct gemm_params params;
    memcpy(&params, out->params, sizeof params);
    params.slice_k = (gemm_size)depth;
    memcpy(out->params, &params, sizeof params);
    out->workspace_bytes = (size_t)split_bytes(gemm, split);
    pass_arg(first, ARG_WORKSPACE, 0, 0);
    *reduce = *first;
    reduce->kernel = "reduce";
    reduce->local[0] = REDUCE_ITEMS;
    reduce->global[0] = round_up(gemm->m * ceil_div(gemm->n, 4), REDUCE_ITEMS);
    reduce->global[1] = smaller(gemm->batch, GEMM_MAX_GRID_Y);
}

/* ---- running */

/* The caller's arguments with column-major's swap undone. */
struct operand_views {
    struct view a, b, c, bias;
};

static struct view matrix_view(const char *name, cl_mem buffer, size_t offset, clat_dtype dtype,
                               const size_t extent[3], const size_t stride[3]) {
    struct view view = {.name = name,
                        .buffer = buffer,
                        .offset = offset,
                        .element_bytes = clat_dtype_bytes(dtype),
                        .rank = 3};
    memcpy(view.extent, extent, 3 * sizeof *extent);
    memcpy(view.stride, stride, 3 * sizeof *stride);
    return view;
}

static void make_views(struct operand_views *out, const struct gemm *gemm,
                       const clat_gemm_args *args) {
    const bool swap = gemm->layout == CLAT_COL_MAJOR;
    const size_t batch = gemm->batching == CLAT_BATCH_STRIDED ? gemm->batch : 1;
    out->a = matrix_view(swap ? "b" : "a", swap ? args->b : args->a,
                         swap ? args->b_offset : args->a_offset, gemm->dtype,
                         (size_t[]){batch, gemm_rows_a(gemm), gemm_columns_a(gemm)},
                         (size_t[]){gemm->stride_a, gemm->lda, 1});
    out->b = matrix_view(swap ? "a" : "b", swap ? args->a : args->b,
                         swap ? args->a_offset : args->b_offset, gemm->dtype,
                         (size_t[]){batch, gemm_rows_b(gemm), gemm_columns_b(gemm)},
                         (size_t[]){gemm->stride_b, gemm->ldb, 1});
    out->c =
        matrix_view("c", args->c, args->c_offset, gemm->dtype_c,
                    (size_t[]){batch, gemm->m, gemm->n}, (size_t[]){gemm->stride_c, gemm->ldc, 1});
    out->bias = (struct view){.name = "bias",
                              .buffer = args->bias,
                              .offset = args->bias_offset,
                              .element_bytes = clat_dtype_bytes(gemm->dtype_c),
                              .rank = 1,
                              .extent = {gemm->bias == CLAT_BIAS_ROW ? gemm->m : gemm->n},
                              .stride = {1}};
}

static clat_status check_lists(const struct gemm *gemm, const clat_gemm_args *args, cl_context cl) {
    const size_t scalar = gemm_real_bytes(gemm);
    const struct {
        const char *name;
        cl_mem buffer;
        size_t element_bytes;
    } lists[] = {
        {"a_offsets", args->a_offsets, sizeof(cl_ulong)},
        {"b_offsets", args->b_offsets, sizeof(cl_ulong)},
        {"c_offsets", args->c_offsets, sizeof(cl_ulong)},
        {"alphas", args->alphas, scalar},
        {"betas", args->betas, scalar},
    };
    clat_status st = CLAT_OK;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const struct view view = {.name = lists[i].name,
                                  .buffer = lists[i].buffer,
                                  .element_bytes = lists[i].element_bytes,
                                  .rank = 1,
                                  .extent = {gemm->batch},
                                  .stride = {1}};
        TRY(view_check(&view, cl));
    }
out:
    return st;
}

/* Where offsets come from lists, matrices lie anywhere in their buffers: only that the buffers
 * exist can be told. */
static void forget_extent(struct view *view) {
    for (unsigned i = 0; i < view->rank; i++)
        view->extent[i] = 0;
}

static clat_status check_buffers(struct operand_views *views, const struct gemm *gemm,
                                 const clat_gemm_args *args, cl_context cl) {
    clat_status st = CLAT_OK;
    if (gemm->batching == CLAT_BATCH_OFFSETS) {
        TRY(check_lists(gemm, args, cl));
        forget_extent(&views->a);
        forget_extent(&views->b);
        forget_extent(&views->c);
    }
    if (gemm->k > 0) {
        TRY(view_check(&views->a, cl));
        TRY(view_check(&views->b, cl));
    }
    TRY(view_check(&views->c, cl));
    if (gemm->k > 0) {
        TRY(view_disjoint(&views->c, &views->a));
        TRY(view_disjoint(&views->c, &views->b));
    }
    if (gemm->bias != CLAT_BIAS_NONE) {
        TRY(view_check(&views->bias, cl));
        TRY(view_disjoint(&views->c, &views->bias));
    }
out:
    return st;
}

static gemm_bits scalar_bits(clat_dtype dtype, double value) {
    gemm_bits bits = 0;
    const float narrow = (float)value;
    uint32_t low;
    if (dtype == CLAT_F64) {
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }
    memcpy(&low, &narrow, sizeof low);
    return low;
}

static void fill_binding(struct binding *binding, struct gemm_params *params,
                         const struct operand_views *views, const struct gemm *gemm,
                         const clat_gemm_args *args) {
    params->a_offset = (gemm_size)views->a.offset;
    params->b_offset = (gemm_size)views->b.offset;
    params->c_offset = (gemm_size)views->c.offset;
    params->bias_offset = (gemm_size)views->bias.offset;
    params->alpha = scalar_bits(gemm->dtype, args->alpha);
    params->beta = scalar_bits(gemm->dtype, args->beta);
    params->ticket = (gemm_bits)(clock_seconds() * 1e9);
    /* k = 0: A and B may be missing, and kernels do not read them; any buffer will do. */
    *binding = (struct binding){
        .buffer = {[GEMM_A] = gemm->k ? views->a.buffer : args->c,
                   [GEMM_B] = gemm->k ? views->b.buffer : args->c,
                   [GEMM_C] = args->c,
                   [GEMM_BIAS] = args->bias,
                   [GEMM_A_OFFSETS] = gemm->layout ? args->b_offsets : args->a_offsets,
                   [GEMM_B_OFFSETS] = gemm->layout ? args->a_offsets : args->b_offsets,
                   [GEMM_C_OFFSETS] = args->c_offsets,
                   [GEMM_ALPHAS] = args->alphas,
                   [GEMM_BETAS] = args->betas},
        .params = params,
        .workspace = args->workspace,
    };
}

static clat_status run(const clat_plan *plan, cl_command_queue queue, const clat_gemm_args *args,
                       cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    clat_status st = CLAT_OK;
    const void *problem = NULL;
    struct binding binding = {0};
    struct gemm_params params;
    struct operand_views views;
    TRY(plan_problem(&problem, plan, &gemm_operation, queue, n_wait, wait_list));
    if (args == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "args is NULL"));
    if (!is_empty(problem)) {
        make_views(&views, problem, args);
        TRY(check_buffers(&views, problem, args, clat_context_cl(plan_context(plan))));
        memcpy(&params, plan_launch(plan)->params, sizeof params);
        fill_binding(&binding, &params, &views, problem, args);
    }
    TRY(plan_enqueue(plan, queue, &binding, n_wait, wait_list, event));
out:
    return st;
}

static clat_status make_plan(clat_plan **out, clat_context *ctx, const clat_gemm_problem *problem) {
    clat_status st = CLAT_OK;
    struct gemm gemm;
    if (ctx == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "ctx is NULL"));
    if (problem == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "problem is NULL"));
    TRY(gemm_normalise(&gemm, problem));
    if (gemm.dtype == CLAT_F32 && gemm.precision == CLAT_PRECISION_NATIVE &&
        engine_find(&ctx->device, CLAT_F32) == NULL)
        gemm.precision = CLAT_PRECISION_F32; /* nobody would make use of native */
    TRY(plan_create(out, ctx, &gemm_operation, &gemm, problem->implementation, problem->tunables));
out:
    return st;
}

static clat_status plan_and_run(clat_context *ctx, cl_command_queue queue,
                                const clat_gemm_problem *problem, const clat_gemm_args *args,
                                cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    clat_status st = CLAT_OK;
    clat_plan *plan = NULL;
    TRY(make_plan(&plan, ctx, problem));
    TRY(run(plan, queue, args, n_wait, wait_list, event));
out:
    clat_plan_release(plan);
    return st;
}

/* ---- public */

clat_status clat_gemm_plan(clat_plan **out, clat_context *ctx, const clat_gemm_problem *problem) {
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    return make_plan(out, ctx, problem);
}

clat_status clat_gemm_run(const clat_plan *plan, cl_command_queue queue, const clat_gemm_args *args,
                          cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    status_clear();
    return run(plan, queue, args, n_wait, wait_list, event);
}

clat_status clat_gemm(clat_context *ctx, cl_command_queue queue, const clat_gemm_problem *problem,
                      const clat_gemm_args *args, cl_uint n_wait, const cl_event *wait_list,
                      cl_event *event) {
    status_clear();
    return plan_and_run(ctx, queue, problem, args, n_wait, wait_list, event);
}

clat_status clat_sgemm(clat_context *ctx, cl_command_queue queue, clat_layout layout,
                       clat_transpose trans_a, clat_transpose trans_b, size_t m, size_t n, size_t k,
                       float alpha, cl_mem a, size_t a_offset, size_t lda, cl_mem b,
                       size_t b_offset, size_t ldb, float beta, cl_mem c, size_t c_offset,
                       size_t ldc, cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    status_clear();
    const clat_gemm_problem problem = {layout, trans_a, trans_b, m,        n,         k,
                                       lda,    ldb,     ldc,     CLAT_F32, .batch = 1};
    const clat_gemm_args args = {.a = a,
                                 .b = b,
                                 .c = c,
                                 .a_offset = a_offset,
                                 .b_offset = b_offset,
                                 .c_offset = c_offset,
                                 .alpha = (double)alpha,
                                 .beta = (double)beta};
    return plan_and_run(ctx, queue, &problem, &args, n_wait, wait_list, event);
}

clat_status clat_dgemm(clat_context *ctx, cl_command_queue queue, clat_layout layout,
                       clat_transpose trans_a, clat_transpose trans_b, size_t m, size_t n, size_t k,
                       double alpha, cl_mem a, size_t a_offset, size_t lda, cl_mem b,
                       size_t b_offset, size_t ldb, double beta, cl_mem c, size_t c_offset,
                       size_t ldc, cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    status_clear();
    const clat_gemm_problem problem = {layout, trans_a, trans_b, m,        n,         k,
                                       lda,    ldb,     ldc,     CLAT_F64, .batch = 1};
    const clat_gemm_args args = {.a = a,
                                 .b = b,
                                 .c = c,
                                 .a_offset = a_offset,
                                 .b_offset = b_offset,
                                 .c_offset = c_offset,
                                 .alpha = alpha,
                                 .beta = beta};
    return plan_and_run(ctx, queue, &problem, &args, n_wait, wait_list, event);
}
