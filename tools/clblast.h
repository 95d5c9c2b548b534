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
    cl_mem temporary;                       /* for the loop, so that it allocates nothing */
    enum clblast_form { CLBLAST_LOOP, CLBLAST_STRIDED, CLBLAST_OFFSETS, CLBLAST_N_FORMS } form;
};

/* Makes room for `count` offsets; clblast_gemm_free gives it up again. */
bool clblast_gemm_offsets(struct clblast_gemm *gemm, size_t count);
void clblast_gemm_free(struct clblast_gemm *gemm);

/* Enqueues C[i] = alpha op(A[i]) op(B[i]). */
bool clblast_gemm_enqueue(const struct clblast_gemm *gemm, cl_command_queue queue);

/* Allocates what the loop needs, runs each form that applies and keeps the fastest. */
bool clblast_gemm_prepare(struct clblast_gemm *gemm, cl_command_queue queue);

/*
 * Once, before the first GEMM on a device: says from which size on CLBlast takes its general
 * kernel, which packs, and not the "direct" one for small matrices. On CPUs its own choice, 448 or
 * more, is several times slower than it need be. One f32 GEMM on two cores with PoCL 3.1, in
 * microseconds:
 *
 *     m = n = k     8   16   32   48   64   96  128
 *     direct       31   34   59  136  180  526 1230
 *     general      89   95   90  109   85  275  211
 */
bool clblast_set_switch(cl_device_id device);

/* A peer's line: how CLBlast runs here. */
void clblast_describe(FILE *file);

#endif
