/* What callers bring as OpenCL C: score modifiers as a function; it and masks' predicates by
 * themselves, for f64 references. */
#include "attention.h"

#include "context.h"
#include "trial.h"

#include <stdlib.h>

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

/* ---- by themselves */

/* A kernel of a line, over all keys of one query. */
struct reference {
    clat_trial *trial;
    cl_program program;
    cl_kernel kernel;
    cl_mem buffer; /* of what it gives */
    cl_uint args;
};

static clat_status open_reference(struct reference *r, clat_trial *trial, const char *source,
                                  const char *kernel, const struct text *function) {
    clat_status st = CLAT_OK;
    cl_int err;
    *r = (struct reference){.trial = trial};
    TRY(text_check(function));
    TRY(program_get(&r->program, &trial_context(trial)->programs,
                    &(struct program_request){
                        .source = source, .defines = "", .snippet = text_string(function)}));
    r->kernel = clCreateKernel(r->program, kernel, &err);
    TRY(status_cl(err, "clCreateKernel"));
out:
    return st;
}

static clat_status add_arg(struct reference *r, size_t bytes, const void *value) {
    clat_status st = CLAT_OK;
    TRY_CL(clSetKernelArg(r->kernel, r->args++, bytes, value));
out:
    return st;
}

static clat_status add_ints(struct reference *r, size_t count, const cl_int *numbers) {
    clat_status st = CLAT_OK;
    for (size_t i = 0; i < count; i++)
        TRY(add_arg(r, sizeof numbers[i], &numbers[i]));
out:
    return st;
}

/* A new buffer with a copy of these. */
static clat_status add_buffer(struct reference *r, cl_mem *buffer, size_t bytes, const void *data) {
    clat_status st = CLAT_OK;
    cl_int err;
    *buffer = clCreateBuffer(trial_context(r->trial)->cl, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                             bytes, (void *)(uintptr_t)data, &err);
    TRY(status_cl(err, "clCreateBuffer"));
    TRY(add_arg(r, sizeof *buffer, buffer));
out:
    return st;
}

/* An operand of the trial, and its offset. */
static clat_status add_operand(struct reference *r, const char *name) {
    clat_status st = CLAT_OK;
    size_t offset = 0;
    const cl_mem data = clat_trial_buffer(r->trial, name, &offset);
    const cl_ulong first = offset;
    TRY(add_arg(r, sizeof data, data != NULL ? &data : NULL));
    TRY(add_arg(r, sizeof first, &first));
out:
    return st;
}

static clat_status run_reference(struct reference *r, size_t keys, size_t bytes, void *results) {
    clat_status st = CLAT_OK;
    cl_command_queue queue = clat_trial_queue(r->trial);
    TRY_CL(clEnqueueNDRangeKernel(queue, r->kernel, 1, NULL, &keys, NULL, 0, NULL, NULL));
    TRY_CL(clEnqueueReadBuffer(queue, r->buffer, CL_TRUE, 0, bytes, results, 0, NULL, NULL));
out:
    return st;
}

static void close_reference(struct reference *r) {
    if (r->buffer != NULL)
        clReleaseMemObject(r->buffer);
    if (r->kernel != NULL)
        clReleaseKernel(r->kernel);
    if (r->program != NULL)
        clReleaseProgram(r->program);
}

clat_status attention_modify_scores(const struct attention *a, clat_trial *trial, size_t batch,
                                    size_t head, size_t query, float *scores) {
    clat_status st = CLAT_OK;
    const size_t bytes = a->seq_k * sizeof *scores;
    const cl_int numbers[] = {(cl_int)batch,    (cl_int)head,     (cl_int)query,
                              (cl_int)a->heads, (cl_int)a->seq_q, (cl_int)a->seq_k};
    struct text function = {0};
    struct reference r = {0};
    attention_score_function(a, &function);
    TRY(open_reference(&r, trial, "attention_score.cl", "attention_score", &function));
    TRY(add_buffer(&r, &r.buffer, bytes, scores));
    TRY(add_ints(&r, sizeof numbers / sizeof *numbers, numbers));
    TRY(add_operand(&r, "score_data"));
    TRY(run_reference(&r, a->seq_k, bytes, scores));
out:
    close_reference(&r);
    text_free(&function);
    return st;
}

clat_status attention_ask_mask(const struct attention *a, clat_trial *trial, size_t batch,
                               size_t head, size_t query, unsigned char *seen) {
    clat_status st = CLAT_OK;
    const cl_int numbers[] = {(cl_int)batch, (cl_int)head, (cl_int)query, (cl_int)a->heads};
    struct text function = {0};
    struct reference r = {0};
    uint32_t *words = NULL;
    size_t n_words = 0;
    cl_mem numbers_of_mask = NULL;
    TRY(mask_predicate(a->mask, (int64_t)a->seq_q, (int64_t)a->seq_k, &function, &words, &n_words));
    TRY(open_reference(&r, trial, "attention_mask.cl", "attention_mask", &function));
    TRY(add_buffer(&r, &r.buffer, a->seq_k, seen));
    TRY(add_buffer(&r, &numbers_of_mask, n_words * sizeof *words, words));
    TRY(add_ints(&r, sizeof numbers / sizeof *numbers, numbers));
    TRY(add_operand(&r, "mask_data"));
    TRY(run_reference(&r, a->seq_k, a->seq_k, seen));
out:
    if (numbers_of_mask != NULL)
        clReleaseMemObject(numbers_of_mask);
    close_reference(&r);
    free(words);
    text_free(&function);
    return st;
}
