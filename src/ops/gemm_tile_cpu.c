/* GEMM of bf16 on CPUs with tile registers. The picture is in cl/gemm_tile_cpu.cl. */
#include "gemm_blocks.h"

#include "sizes.h"

#include <stdio.h>

#define GEMM_TILE_CPU_TUNABLES(X)                                                                  \
    X(KC, "depth of a block", 512, 128, 256, 512, 1024, 2048, 4096)                                \
    X(MC, "rows of C for one work-group, at most", 256, 32, 64, 128, 256, 512, 1024)               \
    X(NC, "columns of C for one work-group, at most", 512, 32, 64, 128, 256, 512, 1024)            \
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
    /* Fewer multiply-adds than this are not worth a work-group of their own. */
    GROUP_WORK = 1 << 20,
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 4,
    /* With fewer rows or columns than this, f32 is as fast: what is read of the other operand, in
     * place or to be packed, is used too little. */
    LEAST_IN_PLACE = 5,
    LEAST_PACKED = 24,
    /* What meets so few rows or columns of the other operand is needed by one work-group only,
     * which packs it for itself. */
    FEW_LINES = 256,
    LITTLE = 128,    /* rows and columns of C that one work-group may pack for itself */
    SPLIT_BLOCK = 64 /* lines of C that are enough for a work-group before k is shared */
};

static struct gemm oriented(const void *problem, const int *values) {
    const struct gemm *gemm = problem;
    return values[T_SWAP] ? gemm_swapped(gemm) : *gemm;
}

static struct gemm_cut cut(const struct device *device, const struct gemm *gemm,
                           const int *values) {
    const unsigned per_core = values[T_SHARED] ? GROUPS_PER_CORE : GROUPS_PER_CORE / 2;
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
        .groups_wanted = gemm_groups_wanted(device, gemm, values[T_SPLIT_K], per_core, GROUP_WORK),
    };
}

/* Rows of op(A), enough for a tile, whole registers along k. */
static bool reads_in_place(const struct gemm *gemm) {
    return gemm->trans_a == CLAT_NO_TRANS && gemm->k % DEPTH == 0 && gemm->m >= SIDE;
}

/* With more rows than columns. */
static struct gemm made_tall(const struct gemm *gemm) {
    return gemm->n > gemm->m ? gemm_swapped(gemm) : *gemm;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct gemm *gemm = problem, tall = made_tall(gemm);
    const size_t least = reads_in_place(&tall) ? LEAST_IN_PLACE : LEAST_PACKED;
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    else if (gemm->dtype != CLAT_BF16 || gemm->precision != CLAT_PRECISION_NATIVE)
        snprintf(why, OP_WHY_BYTES, "not bf16 in native precision");
    else if (!device_can(device, CAP_BF16_TILE))
        snprintf(why, OP_WHY_BYTES, "the CPU has no bf16 tiles");
    else if (tall.n < least)
        snprintf(why, OP_WHY_BYTES, "fewer than %zu rows or columns", least);
    else
        return true;
    return false;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct gemm gemm = oriented(problem, values);
    const struct gemm_cut wanted = cut(device, &gemm, values);
    return (values[T_PACK_A] || reads_in_place(&gemm)) && gemm_blocks_fit(device, &gemm, &wanted);
}

/* Few lines of one operand: the other passes by once. */
static void guess_few(const struct gemm *gemm, int *values) {
    const struct gemm tall = made_tall(gemm);
    const bool in_place = reads_in_place(&tall);
    values[T_SHARED] = 0;
    values[T_SWAP] = (gemm->n > gemm->m) == in_place;
    values[T_KC] = in_place ? 1024 : 256;
    values[T_MC] = 256;
    values[T_NC] = in_place ? (tall.n <= 64 ? 64 : 256) : 512;
}

/* Both operands stay in the second cache: a pass of its own pays only if it packs both, and more
 * than a little. */
static void guess_small(const struct gemm *gemm, int *values) {
    const struct gemm swapped = gemm_swapped(gemm);
    const bool little = gemm->m <= LITTLE && gemm->n <= LITTLE;
    values[T_SWAP] = !reads_in_place(gemm) && reads_in_place(&swapped);
    if (!values[T_SWAP] && !reads_in_place(gemm) && !little)
        return;
    values[T_SHARED] = 0;
    values[T_MC] = 1024;
    values[T_NC] = 128;
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct gemm *gemm = problem;
    const size_t l2 = device->l2_bytes ? device->l2_bytes : 1024 * 1024;
    const double bytes = ((double)gemm->m + (double)gemm->n) * (double)gemm->k * 2;
    const bool few = gemm->m <= FEW_LINES || gemm->n <= FEW_LINES;
    values[T_SPLIT_K] = gemm_blocks_split(device, gemm, SPLIT_BLOCK);
    if (bytes <= (double)l2 / 2)
        guess_small(gemm, values);
    else if (few)
        guess_few(gemm, values);
    const struct gemm chosen = oriented(problem, values);
    values[T_PACK_A] = values[T_SHARED] || !reads_in_place(&chosen);
    /* Smaller, where memory does not suffice. */
    if (!fits(device, problem, values))
        values[T_SHARED] = 0;
    if (!fits(device, problem, values))
        values[T_SPLIT_K] = 1;
    for (; !fits(device, problem, values); values[T_MC] /= 2)
        if (values[T_MC] == SIDE)
            values[T_NC] /= 2, values[T_MC] *= 2;
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
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
