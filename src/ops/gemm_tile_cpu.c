/* GEMM of bf16 on CPUs with tile registers. The picture is in cl/gemm_tile_cpu.cl. */
#include "gemm_blocks.h"

#include "sizes.h"

#include <stdio.h>

#define GEMM_TILE_CPU_TUNABLES(X)                                                                  \
    X(KC, "depth of a block", 1024, 128, 256, 512, 1024, 2048, 4096)                               \
    X(MC, "rows of C for one work-group, at most", 256, 32, 64, 128, 256, 512, 1024)               \
    X(NC, "columns of C for one work-group, at most", 256, 32, 64, 128, 256, 512, 1024)            \
    X(PACK_A, "pack rows of op(A), else read them in place", 1, 0, 1)                              \
    X(SHARED, "pack once for all work-groups, else each for itself", 1, 0, 1)                      \
    X(SPLIT_K, "work-groups that share the k of a block of C", 1, 1, 2, 4, 8, 16)                  \
    X(SWAP, "multiply as C^T = op(B)^T op(A)^T", 0, 0, 1)

enum { GEMM_TILE_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_TILE_CPU_TUNABLES(TUNABLE_ROW)};

enum {
    SIDE = 32,         /* rows of a tile, columns of a panel */
    DEPTH = 32,        /* elements of k in a tile register */
    VECTOR_WORDS = 16, /* of the vectors that pack and finish */
    FEW_LINES = 16,    /* with fewer, what is read of the other operand is used too little */
    /* Fewer multiply-adds than this are not worth a work-group of their own. */
    GROUP_WORK = 1 << 20,
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 4
};

static struct gemm oriented(const void *problem, const int *values) {
    const struct gemm *gemm = problem;
    return values[T_SWAP] ? gemm_swapped(gemm) : *gemm;
}

static struct gemm_cut cut(const struct device *device, const struct gemm *gemm,
                           const int *values) {
    const double work = (double)gemm->m * (double)gemm->n * (double)(gemm->k + 1) / GROUP_WORK *
                        (double)gemm->batch * values[T_SPLIT_K];
    const double groups = (double)device->compute_units * GROUPS_PER_CORE;
    return (struct gemm_cut){
        .mr = SIDE,
        .nr = SIDE,
        .mc = (size_t)values[T_MC],
        .nc = (size_t)values[T_NC],
        .kc = (size_t)values[T_KC],
        .split_k = (size_t)values[T_SPLIT_K],
        .pack_a = values[T_PACK_A],
        .pack_b = true,
        .shared = values[T_SHARED],
        .k_step = 2,
        .k_align = DEPTH,
        .slack = VECTOR_WORDS,
        .groups_wanted = work < groups ? work : groups,
    };
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct gemm *gemm = problem;
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    else if (gemm->dtype != CLAT_BF16 || gemm->precision != CLAT_PRECISION_NATIVE)
        snprintf(why, OP_WHY_BYTES, "not bf16 in native precision");
    else if (!device_can(device, CAP_BF16_TILE))
        snprintf(why, OP_WHY_BYTES, "the CPU has no bf16 tiles");
    else
        return true;
    return false;
}

static bool prefers(const struct device *device) {
    return device->is_cpu;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct gemm gemm = oriented(problem, values);
    const struct gemm_cut wanted = cut(device, &gemm, values);
    return (values[T_PACK_A] || (!gemm.trans_a && gemm.k % DEPTH == 0 && gemm.m >= SIDE)) &&
           gemm_blocks_fit(device, &gemm, &wanted);
}

static void guess(const struct device *device, const void *problem, int *values) {
    values[T_PACK_A] = 0;
    if (!fits(device, problem, values))
        values[T_PACK_A] = 1;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm gemm = oriented(problem, values);
    const struct gemm_cut wanted = cut(device, &gemm, values);
    gemm_blocks_launch(&gemm, &wanted, values[T_SWAP], out);
    return CLAT_OK;
}

const struct implementation gemm_tile_cpu = {
    .name = "cpu_tile",
    .source = "gemm_tile_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = prefers,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
