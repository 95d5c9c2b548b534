/* GEMM on CPU devices where one operand has a few rows and the other lies along k in memory: dot
 * products at the speed of memory. The picture is in cl/gemm_dot_cpu.cl. */
#include "gemm_blocks.h"

#include "sizes.h"

#include <stdio.h>
#include <string.h>

#define GEMM_DOT_CPU_TUNABLES(X)                                                                   \
    X(VW, "lanes of a vector", 16, 4, 8, 16)                                                       \
    X(MR, "rows of the register tile", 4, 1, 2, 3, 4, 6, 8)                                        \
    X(NB, "lines of the other operand in the register tile", 4, 1, 2, 4)                           \
    X(KC, "depth of a block", 256, 128, 256, 512, 1024, 2048)                                      \
    X(SPLIT_K, "work-groups that share k", 1, 1, 2, 4, 8, 16)

enum { GEMM_DOT_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_DOT_CPU_TUNABLES(TUNABLE_ROW)};

enum {
    MAX_ROWS = 32, /* with more, packing both operands pays */
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 8,
    SHORT_LINE = 2048, /* elements */
    PACK_DEPTH = 1024  /* of k, for one work-group that packs */
};

/* Few rows of A, which many long lines of B meet. */
static bool suits(const struct gemm *gemm) {
    return gemm->trans_b == CLAT_TRANS && gemm->m <= MAX_ROWS && gemm->n >= 4 * gemm->m &&
           gemm->k >= (gemm->m < 8 ? SHORT_LINE / 8 : SHORT_LINE / 2);
}

/* Few columns instead. With more of them, vectors across the columns serve better (`cpu`). */
static bool suits_swapped(const struct gemm *other) {
    return suits(other) && other->m < MAX_ROWS / 2;
}

/* With the operand that has few rows as A. */
static struct gemm oriented(const struct gemm *gemm, bool *swapped) {
    const struct gemm other = gemm_swapped(gemm);
    *swapped = !suits(gemm) || (suits_swapped(&other) && other.m < gemm->m);
    return *swapped ? other : *gemm;
}

static bool packs_rows(const struct device *device, const struct gemm *gemm) {
    return gemm->trans_a == CLAT_TRANS || (clat_dtype_bytes(gemm->dtype) != gemm_real_bytes(gemm) &&
                                           !gemm_uses_bf16_dot(device, gemm));
}

/* Rows that are packed, filled up to whole vectors. */
static double packed_words(const struct device *device, const struct gemm *gemm, size_t vw) {
    const size_t step = gemm_uses_bf16_dot(device, gemm) ? 2 : 1;
    const double rows = (double)gemm->batch * (double)gemm->m;
    return packs_rows(device, gemm) ? rows * (double)round_up(ceil_div(gemm->k, step), vw) : 0;
}

static bool fits_packed(const struct device *device, const struct gemm *problem) {
    bool swapped;
    const struct gemm gemm = oriented(problem, &swapped);
    const double words = packed_words(device, &gemm, 16); /* lanes of the longest vector */
    return words * (double)gemm_real_bytes(&gemm) <= (double)device->max_alloc_bytes / 8;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct gemm *gemm = problem, other = gemm_swapped(gemm);
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    else if (!suits(gemm) && !suits_swapped(&other))
        snprintf(why, OP_WHY_BYTES, "not %d or fewer rows against many long lines of k", MAX_ROWS);
    else if (!fits_packed(device, gemm))
        snprintf(why, OP_WHY_BYTES, "packed rows would take too much memory");
    else
        return gemm_supports_dtype(device, problem, why);
    return false;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    bool swapped;
    const struct gemm gemm = oriented(problem, &swapped);
    const size_t vw = (size_t)values[T_VW], mr = (size_t)values[T_MR], nb = (size_t)values[T_NB];
    const size_t native = device->f32_lanes * 4u;
    const size_t registers = (mr * nb + nb + 1) * ceil_div(vw * gemm_real_bytes(&gemm), native);
    return (gemm_uses_bf16_dot(device, &gemm) ? vw == 16 : vw * gemm_real_bytes(&gemm) <= 64) &&
           mr <= gemm.m && nb <= gemm.n && registers < device_vector_registers(device) &&
           (values[T_SPLIT_K] == 1 || gemm_blocks_may_split(device, &gemm, values[T_SPLIT_K]));
}

/* As many lines as there are streams a core follows well, and the tallest tile that leaves least to
 * compute twice. Short lines of which each is met once are read one after the other. */
static void guess(const struct device *device, const void *problem, int *values) {
    bool swapped;
    const struct gemm gemm = oriented(problem, &swapped);
    const size_t native = device->f32_lanes * 4u / gemm_real_bytes(&gemm);
    values[T_VW] = native >= 16 ? 16 : native >= 8 ? 8 : 4;
    if (gemm_uses_bf16_dot(device, &gemm))
        values[T_VW] = 16;
    size_t least = SIZE_MAX;
    for (values[T_NB] = gemm.m == 1 && gemm.k < SHORT_LINE ? 1 : 4; values[T_NB] >= 1;
         values[T_NB] /= 2) {
        int best = 0;
        for (unsigned i = 0; i < tunable_count(&tunables[T_MR]); i++) {
            values[T_MR] = tunables[T_MR].candidates[i];
            const size_t rows = round_up(gemm.m, (size_t)values[T_MR]);
            if (rows <= least && fits(device, problem, values)) {
                least = rows;
                best = values[T_MR];
            }
        }
        values[T_MR] = best;
        if (best)
            break;
    }
    /* Fewer columns than cores: they share k. */
    const size_t groups = gemm.batch * ceil_div(gemm.n, (size_t)values[T_VW]);
    while (groups * (size_t)values[T_SPLIT_K] < device->compute_units && values[T_SPLIT_K] < 16 &&
           gemm.k / (size_t)values[T_SPLIT_K] > 8192 &&
           gemm_blocks_may_split(device, &gemm, 2 * values[T_SPLIT_K]))
        values[T_SPLIT_K] *= 2;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    bool swapped;
    const struct gemm gemm = oriented(problem, &swapped);
    const size_t vw = (size_t)values[T_VW], slices = (size_t)values[T_SPLIT_K];
    const size_t step = gemm_uses_bf16_dot(device, &gemm) ? 2 : 1;
    const bool packs = packs_rows(device, &gemm);
    const size_t packed = (size_t)packed_words(device, &gemm, vw);
    const size_t chunks = ceil_div(gemm.n, vw);
    const size_t groups =
        ceil_div((size_t)device->compute_units * GROUPS_PER_CORE, gemm.batch * slices);
    struct pass pass = {0};
    struct gemm_params params;
    gemm_launch_common(&gemm, swapped, out, &pass);
    text_printf(&out->defines, "#define BF16_DOT %zu\n#define PACK_A %d\n#define MAX_ROWS %zu\n",
                step - 1, packs, round_up(MAX_ROWS, (size_t)values[T_MR]));
    memcpy(&params, out->params, sizeof params);
    params.block_m = (gemm_size)gemm.m;
    params.block_n = (gemm_size)(ceil_div(chunks, groups) * vw);
    params.block_k = PACK_DEPTH;
    params.slice_k = (gemm_size)round_up(ceil_div(gemm.k ? gemm.k : 1, slices), vw * step);
    params.sums_at = (gemm_size)packed;
    memcpy(out->params, &params, sizeof params);

    const size_t sums = slices > 1 ? slices * gemm.batch * gemm.m * gemm.n : 0;
    out->workspace_bytes = (packed + sums) * gemm_real_bytes(&gemm);
    if (out->workspace_bytes > 0)
        pass_arg(&pass, ARG_WORKSPACE, 0, 0);
    const size_t blocks_n = ceil_div(gemm.n, (size_t)params.block_n);
    if (packs)
        gemm_add_pass(out, &pass, "pack", ceil_div(round_up(gemm.k, vw * step), PACK_DEPTH), gemm.m,
                      gemm.batch);
    gemm_add_pass(out, &pass, "gemm", blocks_n, 1, gemm.batch * slices);
    if (slices > 1)
        gemm_add_pass(out, &pass, "reduce", blocks_n, 1, gemm.batch);
    return CLAT_OK;
}

const struct implementation gemm_dot_cpu = {
    .name = "cpu_dot",
    .source = "gemm_dot_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
