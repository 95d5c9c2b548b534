/* Score modifiers: the caller's statements as a function, and that function by itself, for f64
 * references. */
#include "attention.h"

#include "context.h"
#include "trial.h"

static const char PARAMETERS[] =
    "(float score, int batch, int head, int query, int key, int heads, "
    "int seq_q, int seq_k, __global const float *data)";

void attention_score_function(const struct attention *a, struct text *out) {
    if (a->score == NULL)
        return;
    text_printf(out,
                "static inline float modify_score%s\n{\n#line 1 \"score\"\n%s\n"
                "#line 1 \"snippet\"\nreturn score;\n}\n",
                PARAMETERS, snippet_text(a->score));
}

clat_status attention_modify_scores(const struct attention *a, clat_trial *trial, size_t batch,
                                    size_t head, size_t query, float *scores) {
    clat_status st = CLAT_OK;
    clat_context *ctx = trial_context(trial);
    cl_command_queue queue = clat_trial_queue(trial);
    size_t offset = 0;
    const cl_mem data = clat_trial_buffer(trial, "score_data", &offset);
    const cl_ulong first = offset;
    const cl_int numbers[] = {(cl_int)batch,    (cl_int)head,     (cl_int)query,
                              (cl_int)a->heads, (cl_int)a->seq_q, (cl_int)a->seq_k};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    struct text function = {0};
    cl_program program = NULL;
    cl_kernel kernel = NULL;
    cl_mem buffer = NULL;
    cl_int err;
    attention_score_function(a, &function);
    TRY(text_check(&function));
    TRY(program_get(&program, &ctx->programs,
                    &(struct program_request){.source = "attention_score.cl",
                                              .defines = "",
                                              .snippet = text_string(&function)}));
    kernel = clCreateKernel(program, "attention_score", &err);
    TRY(status_cl(err, "clCreateKernel"));
    buffer = clCreateBuffer(ctx->cl, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                            a->seq_k * sizeof *scores, scores, &err);
    TRY(status_cl(err, "clCreateBuffer"));
    TRY_CL(clSetKernelArg(kernel, 0, sizeof buffer, &buffer));
    for (cl_uint i = 0; i < NUMBERS; i++)
        TRY_CL(clSetKernelArg(kernel, 1 + i, sizeof numbers[i], &numbers[i]));
    TRY_CL(clSetKernelArg(kernel, 1 + NUMBERS, sizeof data, data != NULL ? &data : NULL));
    TRY_CL(clSetKernelArg(kernel, 2 + NUMBERS, sizeof first, &first));
    TRY_CL(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &a->seq_k, NULL, 0, NULL, NULL));
    TRY_CL(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, a->seq_k * sizeof *scores, scores, 0,
                               NULL, NULL));
out:
    if (buffer != NULL)
        clReleaseMemObject(buffer);
    if (kernel != NULL)
        clReleaseKernel(kernel);
    if (program != NULL)
        clReleaseProgram(program);
    text_free(&function);
    return st;
}
