/* CLBlast's three ways to do many GEMMs, behind one struct, so that the fastest can be had. */
#ifndef CLBLAST_H
#define CLBLAST_H

#include "tool.h"

#include <clblast_c.h>

struct clblast_gemm {
    clat_dtype dtype; /* f32, f64, f16 */
    clat_layout layout;
    bool trans_a, trans_b;
    size_t m, n, k, lda, ldb, ldc;
    double alpha;
    cl_mem a, b, c;
    size_t count;
    size_t *a_offset, *b_offset, *c_offset; /* elements, one for each of `count` */
    enum clblast_form { CLBLAST_LOOP, CLBLAST_STRIDED, CLBLAST_OFFSETS, CLBLAST_N_FORMS } form;
};

extern const char *const clblast_form_names[CLBLAST_N_FORMS];

/* Makes room for `count` offsets; clblast_gemm_free gives it up again. */
bool clblast_gemm_offsets(struct clblast_gemm *gemm, size_t count);
void clblast_gemm_free(struct clblast_gemm *gemm);

/* Enqueues C[i] = alpha op(A[i]) op(B[i]). */
bool clblast_gemm_enqueue(const struct clblast_gemm *gemm, cl_command_queue queue);

/* Runs each form that applies and keeps the fastest. */
bool clblast_gemm_choose(struct clblast_gemm *gemm, cl_command_queue queue);

/*
 * Once, before the first GEMM on a device. On CPUs CLBlast's kernel for small matrices ("direct")
 * is several times slower than its general one at every size from 64 on, and takes a minute to
 * compile (PoCL 3.1); CLBlast would use it up to 448 x 448 x 448, or more: it is ruled out.
 */
bool clblast_prepare(cl_device_id device);

#endif
