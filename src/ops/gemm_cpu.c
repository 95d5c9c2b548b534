/* GEMM on CPU devices: one work-item per work-group, register tiles of vectors. The picture is in
 * cl/gemm_cpu.cl. */
#include "gemm_blocks.h"

#include "sizes.h"

#include <stdio.h>

#define GEMM_CPU_TUNABLES(X)                                                                       \
    X(VW, "lanes of a vector", 16, 4, 8, 16)                                                       \
    X(MR, "rows of the register tile", 12, 1, 2, 4, 6, 8, 12)                                      \
    X(NV, "vectors across the register tile", 2, 1, 2, 3, 4)                                       \
    X(KC, "depth of a block", 256, 16, 64, 128, 256, 512)                                          \
    X(MC, "rows of C for one work-group, at most", 192, 24, 48, 96, 192, 384)                      \
    X(NC, "columns of C for one work-group, at most", 256, 64, 256, 512, 2048)                     \
    X(UNROLL_K, "steps of the inner loop unrolled", 1, 1, 4)                                       \
    X(PACK_A, "pack rows of op(A), else read them in place", 1, 0, 1)                              \
    X(PACK_B, "pack columns of op(B), else read them in place", 1, 0, 1)                           \
    X(SHARED, "pack once for all work-groups, else each for itself", 1, 0, 1)                      \
    X(SPLIT_K, "work-groups that share the k of a block of C", 1, 1, 2, 4, 8, 16)                  \
    X(SWAP, "multiply as C^T = op(B)^T op(A)^T", 0, 0, 1)

enum { GEMM_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_CPU_TUNABLES(TUNABLE_ROW)};

enum {
    BATCH_PACKED = 1 << 24, /* elements, at most, of a batch that are packed at the same time */
    /* Fewer multiply-adds than this are not worth a work-group of their own. */
    GROUP_WORK = 1 << 16,
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 4,
    /* What meets so few rows or columns of the other operand is used too little to be worth
     * packing, and is read in place. */
    FEW_LINES = 64,
    MANY_ROWS = 768,   /* of a product whose panels are better shallow */
    STREAM_DEPTH = 16, /* rows of a large op(B) that are read side by side */
    SPLIT_BLOCK = 64   /* lines of C that are enough for a work-group before k is shared */
};

/* ---- the problem as one set of values sees it ---- */

static struct gemm oriented(const void *problem, const int *values) {
    const struct gemm *gemm = problem;
    return values[T_SWAP] ? gemm_swapped(gemm) : *gemm;
}

/* Elements of k in a word, see cl/gemm_cpu_words.clh. */
static size_t k_step(const struct device *device, const struct gemm *gemm) {
    return gemm_uses_bf16_dot(device, gemm) ? 2 : 1;
}

static struct gemm_cut cut(const struct device *device, const struct gemm *gemm,
                           const int *values) {
    /* Rows of op(B) that are read in place should not be cut short. */
    const unsigned per_core = values[T_PACK_B] ? GROUPS_PER_CORE : GROUPS_PER_CORE / 2;
    const size_t step = k_step(device, gemm), vector = step * (size_t)values[T_VW];
    const bool whole = (size_t)values[T_KC] % vector == 0;
    return (struct gemm_cut){
        .mr = (size_t)values[T_MR],
        .nr = (size_t)(values[T_NV] * values[T_VW]),
        .mc = (size_t)values[T_MC],
        .nc = (size_t)values[T_NC],
        .kc = (size_t)values[T_KC],
        .split_k = (size_t)values[T_SPLIT_K],
        .pack_a = values[T_PACK_A],
        .pack_b = values[T_PACK_B],
        .shared = values[T_SHARED],
        .k_step = step,
        .k_align = whole ? vector : step, /* packing goes by whole vectors */
        .slack = (size_t)values[T_VW],
        .groups_wanted = gemm_groups_wanted(device, gemm, values[T_SPLIT_K], per_core, GROUP_WORK),
    };
}

/* ---- legal values ---- */

/* Registers that a tile keeps alive: accumulators, a row of B, one element of A. */
static size_t registers_used(const struct device *device, const struct gemm *gemm,
                             const int *values) {
    const size_t vectors = (size_t)values[T_MR] * (size_t)values[T_NV] + (size_t)values[T_NV] + 1;
    return vectors * ceil_div((size_t)values[T_VW] * gemm_real_bytes(gemm), device->f32_lanes * 4u);
}

/* One is left to the compiler. */
static size_t registers_available(const struct device *device) {
    return device_vector_registers(device) - 1;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    if (!device->is_cpu) {
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
        return false;
    }
    return gemm_supports_dtype(device, problem, why);
}

/* In place, an element of A must be a word, a row of B whole vectors of words, and there must be as
 * many lines as a tile has. */
static bool fits_in_place(const struct device *device, const struct gemm *gemm, const int *values) {
    const size_t step = k_step(device, gemm);
    const bool wide = clat_dtype_bytes(gemm->dtype) == gemm_real_bytes(gemm);
    return (values[T_PACK_A] || (wide && gemm->m >= (size_t)values[T_MR])) &&
           (values[T_PACK_B] || (gemm->trans_b == CLAT_NO_TRANS && gemm->k % step == 0 &&
                                 gemm->n >= (size_t)(values[T_NV] * values[T_VW])));
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct gemm gemm = oriented(problem, values);
    const struct gemm_cut wanted = cut(device, &gemm, values);
    const size_t vw = (size_t)values[T_VW];
    return (gemm_uses_bf16_dot(device, &gemm) ? vw == 16 : vw * gemm_real_bytes(&gemm) <= 64) &&
           values[T_NC] >= values[T_NV] * values[T_VW] && values[T_MC] >= values[T_MR] &&
           (!values[T_SHARED] || values[T_PACK_A] || values[T_PACK_B]) &&
           registers_used(device, &gemm, values) <= registers_available(device) &&
           fits_in_place(device, &gemm, values) && gemm_blocks_fit(device, &gemm, &wanted);
}

/* ---- good values ---- */

/* Relative time of the whole product with this register tile: two vector multiply-adds and two
 * loads a cycle, four cycles of latency, one for the loop, and what is computed in vain at the
 * edges. */
static double tile_cost(const struct gemm *gemm, const int *values) {
    const double mr = values[T_MR], nv = values[T_NV];
    const double multiply = mr * nv / 2, load = (mr + nv) / 2, latency = 4;
    double step = multiply > load ? multiply : load;
    step = step > latency ? step : latency;
    const size_t nr = (size_t)(values[T_NV] * values[T_VW]);
    return (step + load / 4 + 1) * (double)ceil_div(gemm->m, (size_t)values[T_MR]) *
           (double)ceil_div(gemm->n, nr);
}

/* The largest candidate of one tunable that is `limit` or less, with which the others fit; else the
 * value stays. */
static void raise_to(const struct device *device, const void *problem, int *values, unsigned index,
                     size_t limit) {
    const int before = values[index];
    for (unsigned i = tunable_count(&tunables[index]); i-- > 0;) {
        values[index] = tunables[index].candidates[i];
        if ((size_t)values[index] <= limit && fits(device, problem, values))
            return;
    }
    values[index] = before;
}

/* The register tile of least cost of which a panel takes no more than `panel_bytes`; false where
 * none fits. */
static bool choose_tile(const struct device *device, const void *problem, int *values,
                        size_t panel_bytes) {
    const struct gemm gemm = oriented(problem, values);
    const size_t depth = smaller(gemm.k, (size_t)values[T_KC]);
    const size_t column = (size_t)values[T_VW] * depth * gemm_real_bytes(&gemm);
    int best[2] = {0, 0};
    double best_cost = 0;
    for (unsigned i = 0; i < tunable_count(&tunables[T_MR]); i++)
        for (unsigned j = 0; j < tunable_count(&tunables[T_NV]); j++) {
            values[T_MR] = tunables[T_MR].candidates[i];
            values[T_NV] = tunables[T_NV].candidates[j];
            const double cost = tile_cost(&gemm, values);
            if (values[T_KC] == STREAM_DEPTH && values[T_NV] == 3)
                continue; /* no divisor of the lengths that rows usually have */
            if ((values[T_NV] == 1 || column * (size_t)values[T_NV] <= panel_bytes) &&
                fits(device, problem, values) && (best_cost == 0 || cost <= best_cost)) {
                best_cost = cost;
                best[0] = values[T_MR], best[1] = values[T_NV];
            }
        }
    values[T_MR] = best[0], values[T_NV] = best[1];
    return best_cost > 0;
}

/* The same; what cannot be read in place is packed by each work-group. */
static void choose_tile_in_place(const struct device *device, const void *problem, int *values,
                                 size_t panel_bytes) {
    const int pack_a = values[T_PACK_A], pack_b = values[T_PACK_B];
    for (int pack = 0; pack < 4; pack++) {
        values[T_PACK_A] = pack_a || (pack & 1);
        values[T_PACK_B] = pack_b || (pack & 2);
        if (choose_tile(device, problem, values, panel_bytes))
            return;
    }
}

/* C^T = op(B)^T op(A)^T has its few columns as rows: then rows of op(A)^T, which lie in one piece,
 * can be read in place by vectors. */
static bool wants_swap(const struct gemm *gemm, const int *values) {
    return gemm->trans_a == CLAT_TRANS && gemm->n <= FEW_LINES && gemm->n < gemm->m &&
           (gemm->n < (size_t)values[T_VW] || gemm->k > (size_t)tunables[T_KC].fallback);
}

/* Work-groups as large as the second cache, of `cache` elements, allows: a block of A, and sums. */
static void guess_blocks(const struct device *device, const void *problem, int *values,
                         size_t cache) {
    const struct gemm gemm = oriented(problem, values);
    const size_t kc = (size_t)values[T_KC];
    size_t rows = smaller(384, cache * 3 / 8 / kc);
    /* A pass for packing is worth it where several work-groups would pack the same; not, for a
     * batch, as much memory as all its matrices together. */
    const double packed = ((double)gemm.m + (double)gemm.n) * (double)gemm.k * (double)gemm.batch;
    values[T_SHARED] = values[T_PACK_A] && values[T_PACK_B] && gemm.m > 2 * rows &&
                       (gemm.batch == 1 || packed <= BATCH_PACKED);
    if (!fits(device, problem, values))
        values[T_SHARED] = 0;
    if (!values[T_SHARED])
        rows /= 2;
    raise_to(device, problem, values, T_MC, rows);
    const size_t sums = cache * 4 / 5 / (size_t)values[T_MC];
    raise_to(device, problem, values, T_NC, sums > kc + 256 ? smaller(512, sums - kc) : 256);
}

static void guess(const struct device *device, const void *problem, int *values) {
    const size_t bytes = gemm_real_bytes(problem), native = device->f32_lanes * 4u / bytes;
    const size_t l1 = device->l1_bytes ? device->l1_bytes : 32 * 1024;
    const size_t l2 = device->l2_bytes ? device->l2_bytes : 512 * 1024;
    size_t panel = l1 * 2 / 3; /* the rest of the first cache is for the other operand */
    values[T_VW] = native >= 16 ? 16 : native >= 8 ? 8 : 4;
    if (gemm_uses_bf16_dot(device, problem))
        values[T_VW] = 16;
    values[T_SWAP] = wants_swap(problem, values);
    values[T_SHARED] = 0;
    values[T_MC] = 24;
    values[T_NC] = 64;
    values[T_KC] = 256;

    const struct gemm gemm = oriented(problem, values);
    const double operands = ((double)gemm.m + (double)gemm.n) * (double)gemm.k * (double)bytes;
    const bool few_rows = gemm.m <= FEW_LINES, few_columns = gemm.n <= FEW_LINES;
    const bool small = operands <= (double)l2 / 2;
    values[T_SPLIT_K] = gemm_blocks_split(device, &gemm, SPLIT_BLOCK);
    values[T_PACK_A] = !few_rows && !few_columns && !small;
    values[T_PACK_B] = values[T_PACK_A];
    if (values[T_PACK_A] && gemm.m > MANY_ROWS) {
        /* Panels of 32 columns, which leave little over at the edge, and of little depth. */
        values[T_KC] = 128;
        panel = smaller(panel, 32 * 128 * bytes);
    }
    if (few_rows && !few_columns && gemm.trans_b == CLAT_NO_TRANS)
        values[T_KC] = STREAM_DEPTH;
    choose_tile_in_place(device, problem, values, panel);
    /* Unrolling is worth the time to compile it where short sums come in batches. */
    values[T_UNROLL_K] = gemm.batch > 1 && !(values[T_PACK_A] && values[T_PACK_B]) ? 4 : 1;
    if (values[T_KC] == STREAM_DEPTH) {
        /* A few long rows of blocks: cores finish together if they share k. */
        if (gemm.m >= 8 && gemm.k >= 4 * GEMM_SLICE_DEPTH && values[T_SPLIT_K] < 4 &&
            gemm_blocks_may_split(device, &gemm, 4))
            values[T_SPLIT_K] = 4;
        raise_to(device, problem, values, T_MC, round_up(gemm.m, 24) + 24);
        raise_to(device, problem, values, T_NC, 2048);
    } else {
        const size_t nr = (size_t)(values[T_NV] * values[T_VW]);
        /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): no candidate is 0 */
        raise_to(device, problem, values, T_KC, panel / (nr * bytes));
        guess_blocks(device, problem, values, l2 / bytes);
    }
}

/* ---- launching ---- */

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm gemm = oriented(problem, values);
    const struct gemm_cut wanted = cut(device, &gemm, values);
    gemm_blocks_launch(&gemm, &wanted, values[T_SWAP], out);
    text_printf(&out->defines, "#define BF16_DOT %d\n", gemm_uses_bf16_dot(device, &gemm));
    return CLAT_OK;
}

const struct implementation gemm_cpu = {
    .name = "cpu",
    .source = "gemm_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
