#include "clblast.h"
#include "tool.h"

#include <math.h>
#include <stdlib.h>

enum { HALF_ONE_EXPONENT = 15, HALF_FRACTION_BITS = 10, CPU_DIRECT_BELOW = 40 };

bool clblast_gemm_offsets(struct clblast_gemm *gemm, size_t count) {
    gemm->count = count;
    gemm->a_offset = calloc(count + 1, sizeof(size_t));
    gemm->b_offset = calloc(count + 1, sizeof(size_t));
    gemm->c_offset = calloc(count + 1, sizeof(size_t));
    return (gemm->a_offset && gemm->b_offset && gemm->c_offset) || tool_error("out of memory");
}

void clblast_gemm_free(struct clblast_gemm *gemm) {
    free(gemm->a_offset);
    free(gemm->b_offset);
    free(gemm->c_offset);
    if (gemm->temporary)
        clReleaseMemObject(gemm->temporary);
    *gemm = (struct clblast_gemm){0};
}

static size_t stride(const size_t *offset, size_t count) {
    return count > 1 ? offset[1] - offset[0] : 0;
}

/* Offsets that a stride describes. */
static bool is_uniform(const size_t *offset, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (offset[i] < offset[i - 1] || offset[i] - offset[i - 1] != stride(offset, count))
            return false;
    return true;
}

static bool form_applies(const struct clblast_gemm *g, enum clblast_form form) {
    if (form == CLBLAST_LOOP)
        return true;
    if (g->dtype == CLAT_F16 || g->count < 2)
        return false;
    return form == CLBLAST_OFFSETS ||
           (is_uniform(g->a_offset, g->count) && is_uniform(g->b_offset, g->count) &&
            is_uniform(g->c_offset, g->count));
}

static CLBlastTranspose transpose(bool yes) {
    return yes ? CLBlastTransposeYes : CLBlastTransposeNo;
}

static CLBlastLayout layout(const struct clblast_gemm *g) {
    return g->layout == CLAT_COL_MAJOR ? CLBlastLayoutColMajor : CLBlastLayoutRowMajor;
}

static bool succeeded(CLBlastStatusCode code) {
    return code == CLBlastSuccess || tool_error("CLBlast failed with code %d", (int)code);
}

static CLBlastStatusCode enqueue_one(const struct clblast_gemm *g, size_t i, cl_command_queue q) {
    const CLBlastTranspose ta = transpose(g->trans_a), tb = transpose(g->trans_b);
    switch (g->dtype) {
    case CLAT_F64:
        return CLBlastDgemmWithTempBuffer(layout(g), ta, tb, g->m, g->n, g->k, g->alpha, g->a,
                                          g->a_offset[i], g->lda, g->b, g->b_offset[i], g->ldb, 0,
                                          g->c, g->c_offset[i], g->ldc, &q, NULL, g->temporary);
    case CLAT_F16: /* alpha is 1 here: the attention pipelines are f32 */
        return CLBlastHgemmWithTempBuffer(layout(g), ta, tb, g->m, g->n, g->k,
                                          HALF_ONE_EXPONENT << HALF_FRACTION_BITS, g->a,
                                          g->a_offset[i], g->lda, g->b, g->b_offset[i], g->ldb, 0,
                                          g->c, g->c_offset[i], g->ldc, &q, NULL, g->temporary);
    default:
        return CLBlastSgemmWithTempBuffer(
            layout(g), ta, tb, g->m, g->n, g->k, (float)g->alpha, g->a, g->a_offset[i], g->lda,
            g->b, g->b_offset[i], g->ldb, 0, g->c, g->c_offset[i], g->ldc, &q, NULL, g->temporary);
    }
}

static CLBlastStatusCode enqueue_strided(const struct clblast_gemm *g, cl_command_queue q) {
    const CLBlastTranspose ta = transpose(g->trans_a), tb = transpose(g->trans_b);
    const size_t sa = stride(g->a_offset, g->count), sb = stride(g->b_offset, g->count),
                 sc = stride(g->c_offset, g->count);
    if (g->dtype == CLAT_F64)
        return CLBlastDgemmStridedBatched(
            layout(g), ta, tb, g->m, g->n, g->k, g->alpha, g->a, g->a_offset[0], g->lda, sa, g->b,
            g->b_offset[0], g->ldb, sb, 0, g->c, g->c_offset[0], g->ldc, sc, g->count, &q, NULL);
    return CLBlastSgemmStridedBatched(layout(g), ta, tb, g->m, g->n, g->k, (float)g->alpha, g->a,
                                      g->a_offset[0], g->lda, sa, g->b, g->b_offset[0], g->ldb, sb,
                                      0, g->c, g->c_offset[0], g->ldc, sc, g->count, &q, NULL);
}

/* `alphas` holds the alphas, then as many zeros for the betas. */
static CLBlastStatusCode enqueue_offsets(const struct clblast_gemm *g, cl_command_queue q,
                                         void *alphas) {
    const CLBlastTranspose ta = transpose(g->trans_a), tb = transpose(g->trans_b);
    if (g->dtype == CLAT_F64) {
        double *alpha = alphas;
        for (size_t i = 0; i < g->count; i++)
            alpha[i] = g->alpha;
        return CLBlastDgemmBatched(layout(g), ta, tb, g->m, g->n, g->k, alpha, g->a, g->a_offset,
                                   g->lda, g->b, g->b_offset, g->ldb, alpha + g->count, g->c,
                                   g->c_offset, g->ldc, g->count, &q, NULL);
    }
    float *alpha = alphas;
    for (size_t i = 0; i < g->count; i++)
        alpha[i] = (float)g->alpha;
    return CLBlastSgemmBatched(layout(g), ta, tb, g->m, g->n, g->k, alpha, g->a, g->a_offset,
                               g->lda, g->b, g->b_offset, g->ldb, alpha + g->count, g->c,
                               g->c_offset, g->ldc, g->count, &q, NULL);
}

bool clblast_gemm_enqueue(const struct clblast_gemm *g, cl_command_queue queue) {
    CLBlastStatusCode code = CLBlastSuccess;
    if (g->form == CLBLAST_STRIDED) {
        code = enqueue_strided(g, queue);
    } else if (g->form == CLBLAST_OFFSETS) {
        void *alphas = calloc(2 * g->count, sizeof(double));
        if (!alphas)
            return tool_error("out of memory");
        code = enqueue_offsets(g, queue, alphas);
        free(alphas);
    } else {
        for (size_t i = 0; i < g->count && code == CLBlastSuccess; i++)
            code = enqueue_one(g, i, queue);
    }
    return succeeded(code);
}

/* The first run compiles. */
static bool time_form(const struct clblast_gemm *g, cl_command_queue queue, double *seconds) {
    for (int i = 0; i < 2; i++) {
        const double start = now_seconds();
        if (!clblast_gemm_enqueue(g, queue) || !tool_cl(clFinish(queue), "clFinish"))
            return false;
        *seconds = now_seconds() - start;
    }
    return true;
}

static CLBlastStatusCode temporary_bytes(const struct clblast_gemm *g, size_t i, cl_command_queue q,
                                         size_t *bytes) {
    const CLBlastTranspose ta = transpose(g->trans_a), tb = transpose(g->trans_b);
    const size_t a = g->a_offset[i], b = g->b_offset[i], c = g->c_offset[i];
    switch (g->dtype) {
    case CLAT_F64:
        return CLBlastDGemmTempBufferSize(layout(g), ta, tb, g->m, g->n, g->k, a, g->lda, b, g->ldb,
                                          c, g->ldc, &q, bytes);
    case CLAT_F16:
        return CLBlastHGemmTempBufferSize(layout(g), ta, tb, g->m, g->n, g->k, a, g->lda, b, g->ldb,
                                          c, g->ldc, &q, bytes);
    default:
        return CLBlastSGemmTempBufferSize(layout(g), ta, tb, g->m, g->n, g->k, a, g->lda, b, g->ldb,
                                          c, g->ldc, &q, bytes);
    }
}

/* Large enough for each: whether operands are copied depends on their offsets. */
static bool make_temporary(struct clblast_gemm *g, cl_command_queue queue) {
    size_t most = 0;
    for (size_t i = 0; i < g->count; i++) {
        size_t bytes = 0;
        if (!succeeded(temporary_bytes(g, i, queue, &bytes)))
            return false;
        most = bytes > most ? bytes : most;
    }
    if (most == 0)
        return true;
    cl_context context = NULL;
    cl_int err = clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL);
    if (err == CL_SUCCESS)
        g->temporary = clCreateBuffer(context, CL_MEM_READ_WRITE, most, NULL, &err);
    return tool_cl(err, "clCreateBuffer");
}

/* On a CPU the batched forms gain nothing from 2^22 multiply-adds on, and cost half a minute of
 * compilation. */
static bool is_large(const struct clblast_gemm *g, cl_command_queue queue) {
    cl_device_id device = NULL;
    clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof device, &device, NULL);
    return tool_is_cpu(device) && (double)g->m * (double)g->n * (double)g->k >= 1 << 22;
}

bool clblast_gemm_prepare(struct clblast_gemm *g, cl_command_queue queue) {
    enum clblast_form best = CLBLAST_LOOP;
    double best_seconds = INFINITY;
    g->form = CLBLAST_LOOP;
    if (!make_temporary(g, queue))
        return false;
    if (g->count < 2 || is_large(g, queue))
        return true;
    for (int form = 0; form < CLBLAST_N_FORMS; form++) {
        double seconds;
        if (!form_applies(g, (enum clblast_form)form))
            continue;
        g->form = (enum clblast_form)form;
        if (!time_form(g, queue, &seconds))
            return false;
        if (seconds < best_seconds) {
            best_seconds = seconds;
            best = g->form;
        }
    }
    g->form = best;
    return true;
}

bool clblast_set_switch(cl_device_id device) {
    static const CLBlastPrecision precisions[] = {CLBlastPrecisionSingle, CLBlastPrecisionDouble};
    const char *name = "XGEMM_MIN_INDIRECT_SIZE";
    const size_t size = CPU_DIRECT_BELOW;
    if (!tool_is_cpu(device))
        return true;
    for (size_t i = 0; i < 2; i++)
        if (!succeeded(
                CLBlastOverrideParameters(device, "GemmRoutine", precisions[i], 1, &name, &size)))
            return false;
    return true;
}

void clblast_describe(FILE *file) {
    fprintf(file, "peer     CLBlast runs with its default parameters (not tuned here)\n");
}
