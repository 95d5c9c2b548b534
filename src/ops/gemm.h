/* Inside of GEMM: the normalised problem and what its implementations share. */
#ifndef CLAT_GEMM_H
#define CLAT_GEMM_H

#include "gemm_params.clh"
#include "op.h"

/*
 * Row-major, all leading dimensions and strides filled in. A column-major product is the row-major
 * C^T = op(B)^T op(A)^T, so its operands, m and n, and the sides of the bias are swapped here, and
 * only here: kernels, tuned values and trials know row-major alone.
 */
struct gemm {
    size_t m, n, k, batch;
    size_t lda, ldb, ldc;
    size_t stride_a, stride_b, stride_c; /* 0 where there is one matrix, or lists of offsets */
    clat_transpose trans_a, trans_b;
    clat_dtype dtype, dtype_c;
    clat_batching batching;
    clat_bias bias;
    clat_activation activation;
    clat_precision precision; /* F32 where the type, or the device, leaves no choice */
    clat_layout layout;       /* the caller's: column-major means that a and b are swapped */
};

/* Operands in the order of the kernels' arguments (cl/gemm.clh). */
enum gemm_role {
    GEMM_A,
    GEMM_B,
    GEMM_C,
    GEMM_BIAS,
    GEMM_A_OFFSETS,
    GEMM_B_OFFSETS,
    GEMM_C_OFFSETS,
    GEMM_ALPHAS,
    GEMM_BETAS
};

/* Stored rows and columns of an operand, and its views. */
size_t gemm_rows_a(const struct gemm *gemm);
size_t gemm_columns_a(const struct gemm *gemm);
size_t gemm_rows_b(const struct gemm *gemm);
size_t gemm_columns_b(const struct gemm *gemm);

/* Of an element while it is computed with. */
size_t gemm_real_bytes(const struct gemm *gemm);

/* Checks the caller's problem and fills `*out`: equal problems give equal bytes. */
clat_status gemm_normalise(struct gemm *out, const clat_gemm_problem *problem);

/* The same product as C^T = op(B)^T op(A)^T: A and B, m and n change roles, C is the same memory.
 */
struct gemm gemm_swapped(const struct gemm *gemm);

/* Whether pairs of bf16 are multiplied by the device's own instruction. */
bool gemm_uses_bf16_dot(const struct device *device, const struct gemm *gemm);

/* "f32 NT m=1024 ..." in the caller's terms. */
void gemm_print(const void *problem, struct text *out);

/* The variant's #defines, the parameter struct without what a run brings, and the arguments of a
 * pass. `swapped`: `gemm` comes from gemm_swapped. */
void gemm_launch_common(const struct gemm *gemm, bool swapped, struct launch *out,
                        struct pass *pass);

/* The shape of a launch for cl/gemm_tiles.clh: a work-group of `items` for each tile of bm x bn, in
 * the second dimension as many as there are matrices, each `shares` times, or as the limit allows.
 */
void gemm_launch_tiles(const struct gemm *gemm, size_t bm, size_t bn, size_t items, size_t shares,
                       struct pass *pass);

enum { GEMM_MAX_GRID_Y = 65535 };

/* Whether the sums of so many slices of k leave room in the workspace, and the pass that adds them
 * up, of slices `depth` deep: cl/gemm_split.clh. */
bool gemm_may_split(const struct device *device, const struct gemm *gemm, size_t split);
void gemm_launch_split(const struct gemm *gemm, size_t depth, size_t split, struct launch *out);

/* The refusal that all implementations share: f64 on a device without. */
bool gemm_supports_dtype(const struct device *device, const struct gemm *gemm,
                         char why[OP_WHY_BYTES]);

extern const struct implementation gemm_tile_cpu, gemm_dot_cpu, gemm_cpu, gemm_wgmma, gemm_mma,
    gemm_simt;
extern const struct trial_hooks gemm_trial;
extern const struct operation gemm_operation;

#endif
