/*
 * GEMM against another library that reads the same arguments: CLBlast, where it is installed. Says
 * that layouts, transposes, leading dimensions, offsets and scalars mean here what they mean in
 * BLAS.
 */
#include "harness.h"

#if __has_include(<clblast_c.h>)

#include "dtype.h"

#include <clblast_c.h>

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The header's types, but loaded at run time: without the library this test is skipped. */
static __typeof__(&CLBlastSgemm) sgemm;
static __typeof__(&CLBlastDgemm) dgemm;
static __typeof__(&CLBlastClearCache) clear_cache;

static void load_clblast(void) {
    void *library = dlopen("libclblast.so.1", RTLD_NOW);
    if (!library)
        return;
    /* POSIX wants functions to fit in object pointers; ISO C has no cast for it. */
    void *symbols[3] = {dlsym(library, "CLBlastSgemm"), dlsym(library, "CLBlastDgemm"),
                        dlsym(library, "CLBlastClearCache")};
    memcpy(&sgemm, &symbols[0], sizeof sgemm);
    memcpy(&dgemm, &symbols[1], sizeof dgemm);
    memcpy(&clear_cache, &symbols[2], sizeof clear_cache);
}

/* ---- shapes */

struct shape {
    size_t m, n, k;
    size_t slack[3];  /* leading dimensions of A, B, C: the least possible and this */
    size_t offset[3]; /* of A, B, C, in elements */
    double alpha, beta;
};

static const struct shape shapes[] = {
    {35, 50, 67, {4, 6, 1}, {3, 5, 7}, 1.25, -0.5}, {1, 1, 1, {0, 0, 0}, {0, 0, 0}, 1, 0},
    {1, 129, 300, {0, 1, 0}, {1, 0, 0}, -1, 1},     {130, 1, 33, {7, 0, 3}, {0, 64, 1}, 1, 0},
    {128, 96, 64, {0, 0, 0}, {0, 0, 0}, 1, 1},      {65, 97, 5, {3, 31, 2}, {17, 1, 9}, 0.5, 2},
};

enum { OPERAND_A, OPERAND_B, OPERAND_C };

struct matrix {
    size_t offset, ld, elements; /* elements: all that the buffer needs */
};

/* A matrix of `rows` x `columns` before its transpose. */
static struct matrix stored(const struct shape *s, int operand, clat_layout layout, bool transposed,
                            size_t rows, size_t columns) {
    const bool swap = transposed != (layout == CLAT_COL_MAJOR);
    const size_t lines = swap ? columns : rows, length = swap ? rows : columns;
    struct matrix out = {.offset = s->offset[operand], .ld = length + s->slack[operand]};
    out.elements = out.offset + lines * out.ld;
    return out;
}

/* ---- running */

struct run {
    const struct shape *shape;
    clat_dtype dtype;
    clat_layout layout;
    bool trans_a, trans_b;
    struct matrix a, b, c;
    cl_mem buffer_a, buffer_b, ours, theirs;
};

static void run_ours(const struct run *r) {
    const struct shape *s = r->shape;
    clat_context *ctx = harness_context();
    const clat_transpose ta = r->trans_a ? CLAT_TRANS : CLAT_NO_TRANS;
    const clat_transpose tb = r->trans_b ? CLAT_TRANS : CLAT_NO_TRANS;
    if (r->dtype == CLAT_F32)
        assert_ok(clat_sgemm(ctx, harness_queue(), r->layout, ta, tb, s->m, s->n, s->k,
                             (float)s->alpha, r->buffer_a, r->a.offset, r->a.ld, r->buffer_b,
                             r->b.offset, r->b.ld, (float)s->beta, r->ours, r->c.offset, r->c.ld, 0,
                             NULL, NULL));
    else
        assert_ok(clat_dgemm(ctx, harness_queue(), r->layout, ta, tb, s->m, s->n, s->k, s->alpha,
                             r->buffer_a, r->a.offset, r->a.ld, r->buffer_b, r->b.offset, r->b.ld,
                             s->beta, r->ours, r->c.offset, r->c.ld, 0, NULL, NULL));
}

static void run_theirs(const struct run *r) {
    const struct shape *s = r->shape;
    cl_command_queue queue = harness_queue();
    const CLBlastLayout order =
        r->layout == CLAT_ROW_MAJOR ? CLBlastLayoutRowMajor : CLBlastLayoutColMajor;
    const CLBlastTranspose ta = r->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo;
    const CLBlastTranspose tb = r->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastStatusCode status;
    if (r->dtype == CLAT_F32)
        status = sgemm(order, ta, tb, s->m, s->n, s->k, (float)s->alpha, r->buffer_a, r->a.offset,
                       r->a.ld, r->buffer_b, r->b.offset, r->b.ld, (float)s->beta, r->theirs,
                       r->c.offset, r->c.ld, &queue, NULL);
    else
        status = dgemm(order, ta, tb, s->m, s->n, s->k, s->alpha, r->buffer_a, r->a.offset, r->a.ld,
                       r->buffer_b, r->b.offset, r->b.ld, s->beta, r->theirs, r->c.offset, r->c.ld,
                       &queue, NULL);
    assert_int_equal(status, CLBlastSuccess);
}

static void compare(const struct run *r) {
    const struct shape *s = r->shape;
    const size_t count = r->c.elements, bytes = count * clat_dtype_bytes(r->dtype);
    void *ours = harness_alloc(bytes), *theirs = harness_alloc(bytes);
    double *expected = harness_alloc(count * sizeof *expected);
    char name[128];
    snprintf(name, sizeof name, "%s %s %c%c %zux%zux%zu", clat_dtype_name(r->dtype),
             r->layout == CLAT_ROW_MAJOR ? "row" : "column", r->trans_a ? 'T' : 'N',
             r->trans_b ? 'T' : 'N', s->m, s->n, s->k);
    harness_read(r->ours, 0, bytes, ours);
    harness_read(r->theirs, 0, bytes, theirs);
    for (size_t i = 0; i < count; i++)
        expected[i] = dtype_load(r->dtype, theirs, i);
    /* Each side's rounding; what lies between the matrix's lines is the same on both. */
    const double magnitude = fabs(s->alpha) * (double)s->k + fabs(s->beta);
    assert_matrix(name, r->dtype, ours, 1, count, count, expected, NULL,
                  4 * magnitude * dtype_epsilon(r->dtype));
    free(ours);
    free(theirs);
    free(expected);
}

static cl_mem random_buffer(clat_dtype dtype, size_t elements, uint64_t seed) {
    const size_t bytes = elements * clat_dtype_bytes(dtype);
    void *data = harness_alloc(bytes);
    harness_fill(dtype, data, elements, seed, 1.0);
    cl_mem buffer = harness_buffer(bytes, data);
    free(data);
    return buffer;
}

static void run_both(const struct shape *s, clat_dtype dtype, clat_layout layout, bool trans_a,
                     bool trans_b) {
    struct run r = {s, dtype, layout, trans_a, trans_b, .a = {0}};
    r.a = stored(s, OPERAND_A, layout, trans_a, s->m, s->k);
    r.b = stored(s, OPERAND_B, layout, trans_b, s->k, s->n);
    r.c = stored(s, OPERAND_C, layout, false, s->m, s->n);
    r.buffer_a = random_buffer(dtype, r.a.elements, 1);
    r.buffer_b = random_buffer(dtype, r.b.elements, 2);
    r.ours = random_buffer(dtype, r.c.elements, 3);
    r.theirs = random_buffer(dtype, r.c.elements, 3);
    run_ours(&r);
    run_theirs(&r);
    compare(&r);
    clReleaseMemObject(r.buffer_a);
    clReleaseMemObject(r.buffer_b);
    clReleaseMemObject(r.ours);
    clReleaseMemObject(r.theirs);
}

static void test_same_as_clblast(void **state) {
    const clat_dtype dtype = *(const clat_dtype *)*state;
    clat_device_info info;
    assert_ok(clat_context_info(harness_context(), &info));
    /* CLBlast takes most of a minute to build its kernels on a CPU device. */
    if (!sgemm || !dgemm || !clear_cache || (dtype == CLAT_F64 && !(info.f64 && harness_full())))
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned j = 0; j < 8; j++)
            run_both(&shapes[i], dtype, j < 4 ? CLAT_ROW_MAJOR : CLAT_COL_MAJOR, j & 1, j & 2);
    assert_int_equal(clear_cache(), CLBlastSuccess); /* it holds on to the context */
}

#else

static void load_clblast(void) {
}

static void test_same_as_clblast(void **state) {
    (void)state;
    skip();
}

#endif

int main(void) {
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64};
    load_clblast();
    harness_add("f32", test_same_as_clblast, &dtypes[0]);
    harness_add("f64", test_same_as_clblast, &dtypes[1]);
    return harness_run_added();
}
