/*
 * GEMM against another library that reads the same arguments: CLBlast, where it is installed. Says
 * that layouts, transposes, leading dimensions and offsets mean here what they mean in BLAS.
 */
#include "harness.h"

#include "dtype.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in clblast_c.h. */
enum { ROW_MAJOR = 101, COL_MAJOR = 102, NO_TRANS = 111, TRANS = 112 };

typedef int (*sgemm_fn)(int layout, int trans_a, int trans_b, size_t m, size_t n, size_t k,
                        float alpha, cl_mem a, size_t a_offset, size_t lda, cl_mem b,
                        size_t b_offset, size_t ldb, float beta, cl_mem c, size_t c_offset,
                        size_t ldc, cl_command_queue *queue, cl_event *event);
typedef int (*dgemm_fn)(int layout, int trans_a, int trans_b, size_t m, size_t n, size_t k,
                        double alpha, cl_mem a, size_t a_offset, size_t lda, cl_mem b,
                        size_t b_offset, size_t ldb, double beta, cl_mem c, size_t c_offset,
                        size_t ldc, cl_command_queue *queue, cl_event *event);

enum { M = 35, N = 50, K = 67, LDA = 71, LDB = 73, LDC = 54, ELEMENTS = 73 * 73 + 9 };

static sgemm_fn sgemm;
static dgemm_fn dgemm;

static void load_clblast(void) {
    void *library = dlopen("libclblast.so.1", RTLD_NOW);
    if (!library)
        return;
    /* POSIX wants functions to fit in object pointers; ISO C has no cast for it. */
    void *symbols[2] = {dlsym(library, "CLBlastSgemm"), dlsym(library, "CLBlastDgemm")};
    memcpy(&sgemm, &symbols[0], sizeof sgemm);
    memcpy(&dgemm, &symbols[1], sizeof dgemm);
}

struct operands {
    clat_dtype dtype;
    cl_mem a, b, ours, theirs;
};

static void run_ours(const struct operands *x, clat_layout layout, bool ta, bool tb) {
    clat_context *ctx = harness_context();
    const clat_transpose trans_a = ta ? CLAT_TRANS : CLAT_NO_TRANS;
    const clat_transpose trans_b = tb ? CLAT_TRANS : CLAT_NO_TRANS;
    if (x->dtype == CLAT_F32)
        assert_ok(clat_sgemm(ctx, harness_queue(), layout, trans_a, trans_b, M, N, K, 1.25f, x->a,
                             3, LDA, x->b, 5, LDB, -0.5f, x->ours, 7, LDC, 0, NULL, NULL));
    else
        assert_ok(clat_dgemm(ctx, harness_queue(), layout, trans_a, trans_b, M, N, K, 1.25, x->a, 3,
                             LDA, x->b, 5, LDB, -0.5, x->ours, 7, LDC, 0, NULL, NULL));
}

static void run_theirs(const struct operands *x, clat_layout layout, bool ta, bool tb) {
    cl_command_queue queue = harness_queue();
    const int order = layout == CLAT_ROW_MAJOR ? ROW_MAJOR : COL_MAJOR;
    const int trans_a = ta ? TRANS : NO_TRANS, trans_b = tb ? TRANS : NO_TRANS;
    if (x->dtype == CLAT_F32)
        assert_int_equal(0, sgemm(order, trans_a, trans_b, M, N, K, 1.25f, x->a, 3, LDA, x->b, 5,
                                  LDB, -0.5f, x->theirs, 7, LDC, &queue, NULL));
    else
        assert_int_equal(0, dgemm(order, trans_a, trans_b, M, N, K, 1.25, x->a, 3, LDA, x->b, 5,
                                  LDB, -0.5, x->theirs, 7, LDC, &queue, NULL));
}

static void compare(const struct operands *x, const char *name) {
    const size_t bytes = ELEMENTS * clat_dtype_bytes(x->dtype);
    void *ours = harness_alloc(bytes), *theirs = harness_alloc(bytes);
    double *expected = harness_alloc(ELEMENTS * sizeof *expected);
    harness_read(x->ours, 0, bytes, ours);
    harness_read(x->theirs, 0, bytes, theirs);
    for (size_t i = 0; i < ELEMENTS; i++)
        expected[i] = dtype_load(x->dtype, theirs, i);
    /* Each side's rounding; what lies between the matrices is the same on both. */
    assert_matrix(name, x->dtype, ours, 1, ELEMENTS, ELEMENTS, expected, NULL,
                  4 * K * dtype_epsilon(x->dtype));
    free(ours);
    free(theirs);
    free(expected);
}

static void test_same_as_clblast(void **state) {
    const clat_dtype dtype = *(const clat_dtype *)*state;
    clat_device_info info;
    assert_ok(clat_context_info(harness_context(), &info));
    /* CLBlast takes most of a minute to build its kernels on a CPU device. */
    if (!sgemm || !dgemm || (dtype == CLAT_F64 && !(info.f64 && harness_full())))
        skip();
    const size_t bytes = ELEMENTS * clat_dtype_bytes(dtype);
    void *data = harness_alloc(bytes);
    struct operands x = {.dtype = dtype};
    harness_fill(dtype, data, ELEMENTS, 1, 1.0);
    x.a = harness_buffer(bytes, data);
    harness_fill(dtype, data, ELEMENTS, 2, 1.0);
    x.b = harness_buffer(bytes, data);
    harness_fill(dtype, data, ELEMENTS, 3, 1.0);
    x.ours = harness_buffer(bytes, data);
    x.theirs = harness_buffer(bytes, data);
    for (unsigned i = 0; i < 8; i++) {
        const clat_layout layout = i < 4 ? CLAT_ROW_MAJOR : CLAT_COL_MAJOR;
        const bool ta = i & 1, tb = i & 2;
        char name[64];
        snprintf(name, sizeof name, "%s %s %c%c", clat_dtype_name(dtype), i < 4 ? "row" : "col",
                 ta ? 'T' : 'N', tb ? 'T' : 'N');
        harness_write(x.ours, 0, bytes, data);
        harness_write(x.theirs, 0, bytes, data);
        run_ours(&x, layout, ta, tb);
        run_theirs(&x, layout, ta, tb);
        compare(&x, name);
    }
    clReleaseMemObject(x.a);
    clReleaseMemObject(x.b);
    clReleaseMemObject(x.ours);
    clReleaseMemObject(x.theirs);
    free(data);
}

int main(void) {
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64};
    load_clblast();
    harness_add("f32", test_same_as_clblast, &dtypes[0]);
    harness_add("f64", test_same_as_clblast, &dtypes[1]);
    return harness_run_added();
}
