/* GEMM on CPU devices: one work-item per work-group, register tiles of vectors. The picture is in
 * cl/gemm_cpu.cl. */
#include "gemm.h"

#include "sizes.h"

#include <stdio.h>
#include <string.h>

#define GEMM_CPU_TUNABLES(X)                                                                       \
    X(VW, "lanes of a vector", 16, 4, 8, 16)                                                       \
    X(MR, "rows of the register tile", 12, 1, 2, 4, 6, 8, 12)                                      \
    X(NV, "vectors across the register tile", 2, 1, 2, 3, 4)                                       \
    X(KC, "depth of a packed block", 256, 128, 256, 384, 512)                                      \
    X(MC, "rows of C for one work-group, at most", 192, 24, 48, 96, 192, 384)                      \
    X(NC, "columns of C for one work-group, at most", 256, 64, 128, 256, 512)                      \
    X(SHARED, "pack operands once, for all work-groups", 1, 0, 1)                                  \
    X(UNROLL_K, "steps of the inner loop unrolled", 1, 1, 2, 4, 8)

enum { GEMM_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_CPU_TUNABLES(TUNABLE_ROW)};

enum {
    /* Private memory lies on the stacks of the runtime's threads. */
    PRIVATE_BYTES = 1024 * 1024,
    /* Fewer multiply-adds than this are not worth a work-group of their own. */
    GROUP_WORK = 1 << 16,
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 4,
    MAX_GRID_Z = 65535
};

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

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

static bool prefers(const struct device *device) {
    return device->is_cpu;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const size_t vw = (size_t)values[T_VW], nr = vw * (size_t)values[T_NV];
    const size_t mc = (size_t)values[T_MC], nc = (size_t)values[T_NC], kc = (size_t)values[T_KC];
    const size_t bytes = gemm_real_bytes(problem);
    const size_t packed = values[T_SHARED] ? 0 : (mc + nr) * kc;
    return vw * bytes <= 64 && nc >= nr && mc >= (size_t)values[T_MR] &&
           registers_used(device, problem, values) <= registers_available(device) &&
           (mc * nc + packed) * bytes <= PRIVATE_BYTES;
}

/* Relative time of the whole product with this register tile: two vector multiply-adds and two
 * loads a cycle, four cycles of latency, and padding at the edges. */
static double tile_cost(const struct gemm *gemm, const int *values) {
    const double mr = values[T_MR], nv = values[T_NV];
    const double multiply = mr * nv / 2, load = (mr + nv) / 2, latency = 4;
    double step = multiply > load ? multiply : load;
    step = step > latency ? step : latency;
    const size_t nr = (size_t)(values[T_NV] * values[T_VW]);
    return (step + load / 4) * (double)ceil_div(gemm->m, (size_t)values[T_MR]) *
           (double)ceil_div(gemm->n, nr);
}

/* The largest candidate of one tunable with which the others fit; `limit` or less. */
static void raise_to(const struct device *device, const struct gemm *gemm, int *values,
                     unsigned index, size_t limit) {
    for (unsigned i = tunable_count(&tunables[index]); i-- > 0;) {
        values[index] = tunables[index].candidates[i];
        if ((size_t)values[index] <= limit && fits(device, gemm, values))
            return;
    }
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct gemm *gemm = problem;
    const size_t bytes = gemm_real_bytes(gemm);
    const size_t native = device->f32_lanes * 4u / bytes;
    values[T_VW] = native >= 16 ? 16 : native >= 8 ? 8 : 4;
    values[T_KC] = 256;
    values[T_MC] = tunables[T_MC].candidates[0];
    values[T_NC] = 256;

    int best[2] = {1, 1};
    double best_cost = 0;
    for (unsigned i = 0; i < tunable_count(&tunables[T_MR]); i++)
        for (unsigned j = 0; j < tunable_count(&tunables[T_NV]); j++) {
            values[T_MR] = tunables[T_MR].candidates[i];
            values[T_NV] = tunables[T_NV].candidates[j];
            const double cost = tile_cost(gemm, values);
            if (fits(device, gemm, values) && (best_cost == 0 || cost <= best_cost)) {
                best_cost = cost;
                best[0] = values[T_MR], best[1] = values[T_NV];
            }
        }
    values[T_MR] = best[0], values[T_NV] = best[1];

    /* The packed block of A stays in half of the second-level cache. */
    const size_t cache = device->l2_bytes ? device->l2_bytes : 512 * 1024;
    raise_to(device, gemm, values, T_MC, cache / 2 / ((size_t)values[T_KC] * bytes));
}

/* Rows and columns of C for one work-group, in tiles: as much as the tunables allow, less where
 * there would be too few work-groups, and all of about the same size. */
static void choose_block(const struct device *device, const struct gemm *gemm, const int *values,
                         size_t *block_m, size_t *block_n) {
    const size_t mr = (size_t)values[T_MR], nr = (size_t)(values[T_NV] * values[T_VW]);
    const size_t tiles_m = ceil_div(gemm->m, mr), tiles_n = ceil_div(gemm->n, nr);
    size_t m = smaller(tiles_m, (size_t)values[T_MC] / mr);
    size_t n = smaller(tiles_n, (size_t)values[T_NC] / nr);
    const double work = (double)gemm->m * (double)gemm->n * (double)(gemm->k + 1) / GROUP_WORK;
    double wanted = (double)device->compute_units * GROUPS_PER_CORE / (double)gemm->batch;
    if (wanted > work)
        wanted = work;
    while ((m > 1 || n > 1) &&
           (double)ceil_div(tiles_m, m) * (double)ceil_div(tiles_n, n) < wanted) {
        if (m * mr > n * nr || n == 1)
            m = ceil_div(m, 2);
        else
            n = ceil_div(n, 2);
    }
    *block_m = ceil_div(tiles_m, ceil_div(tiles_m, m)) * mr;
    *block_n = ceil_div(tiles_n, ceil_div(tiles_n, n)) * nr;
}

/* Words of a packed tile of `width` lines, as in the kernel. */
static size_t tile_words(const int *values, size_t block_k, size_t width) {
    return block_k * width + (size_t)values[T_VW];
}

/* All tiles of A and panels of B. */
static size_t packed_bytes(const struct gemm *gemm, const int *values, size_t block_k) {
    const size_t mr = (size_t)values[T_MR], nr = (size_t)(values[T_NV] * values[T_VW]);
    return gemm->batch * ceil_div(gemm->k, block_k) *
           (ceil_div(gemm->m, mr) * tile_words(values, block_k, mr) +
            ceil_div(gemm->n, nr) * tile_words(values, block_k, nr)) *
           gemm_real_bytes(gemm);
}

static void set_pass(struct pass *pass, size_t x, size_t y, size_t z) {
    const size_t global[] = {x, y, z};
    pass->dims = 3;
    for (unsigned i = 0; i < 3; i++) {
        pass->global[i] = global[i];
        pass->local[i] = 1;
    }
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm *gemm = problem;
    struct pass *pass = &out->passes[0];
    struct gemm_params params;
    size_t block_m, block_n;
    gemm_launch_common(gemm, out, pass);
    text_printf(&out->defines, "#define BF16_DOT %d\n", 0);
    choose_block(device, gemm, values, &block_m, &block_n);
    /* Blocks of about the same depth. */
    const size_t blocks_k = gemm->k ? ceil_div(gemm->k, (size_t)values[T_KC]) : 1;
    const size_t block_k = gemm->k ? round_up(ceil_div(gemm->k, blocks_k), 2) : 2;
    const size_t batch = smaller(gemm->batch, MAX_GRID_Z);

    memcpy(&params, out->params, sizeof params);
    params.block_m = (gemm_size)block_m;
    params.block_n = (gemm_size)block_n;
    params.block_k = (gemm_size)block_k;
    memcpy(out->params, &params, sizeof params);

    if (values[T_SHARED]) {
        const size_t mr = (size_t)values[T_MR], nr = (size_t)(values[T_NV] * values[T_VW]);
        const size_t mc = (size_t)values[T_MC] / mr * mr, nc = (size_t)values[T_NC] / nr * nr;
        pass_arg(pass, ARG_WORKSPACE, 0, 0);
        out->passes[out->n_passes] = *pass;
        out->passes[out->n_passes].kernel = "pack";
        set_pass(&out->passes[out->n_passes++], ceil_div(gemm->m, mc) + ceil_div(gemm->n, nc),
                 blocks_k, batch);
        out->passes[out->n_passes] = *pass;
        out->passes[out->n_passes].kernel = "gemm";
        out->workspace_bytes = packed_bytes(gemm, values, block_k);
        pass = &out->passes[out->n_passes];
    }
    out->n_passes++;
    set_pass(pass, ceil_div(gemm->n, block_n), ceil_div(gemm->m, block_m), batch);
    return CLAT_OK;
}

const struct implementation gemm_cpu = {
    .name = "cpu",
    .source = "gemm_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = prefers,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
