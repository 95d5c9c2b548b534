/* GEMM on any GPU: tiles in local memory. The picture is in cl/gemm_simt.cl. */
#include "gemm.h"

#include "sizes.h"

#include <string.h>

#define GEMM_SIMT_TUNABLES(X)                                                                      \
    X(BM, "rows of C for one work-group", 64, 32, 64, 128)                                         \
    X(BN, "columns of C for one work-group", 64, 32, 64, 128)                                      \
    X(BK, "depth of a step", 16, 8, 16, 32)                                                        \
    X(TM, "rows of C for one work-item", 4, 2, 4, 8)                                               \
    X(TN, "columns of C for one work-item", 4, 2, 4, 8)                                            \
    X(PAD, "fragments of four between rows of local tiles", 1, 0, 1)                               \
    X(GROUP, "rows of tiles walked together", 8, 1, 4, 8, 16)

enum { GEMM_SIMT_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_SIMT_TUNABLES(TUNABLE_ROW)};

enum {
    CHUNK = 4,             /* elements a work-item loads at a time */
    MIN_ITEMS = 32,        /* smaller work-groups leave most of a GPU idle */
    MAX_ACCUMULATORS = 64, /* 32-bit registers for sums; twice as many for f64 */
    MAX_GRID_Y = 65535
};

static size_t work_items(const int *values) {
    return (size_t)(values[T_BM] / values[T_TM] * (values[T_BN] / values[T_TN]));
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    return gemm_supports_dtype(device, problem, why);
}

static bool prefers(const struct device *device) {
    return !device->is_cpu;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const size_t bm = (size_t)values[T_BM], bn = (size_t)values[T_BN], bk = (size_t)values[T_BK];
    const size_t items = work_items(values), pad = (size_t)values[T_PAD] * CHUNK;
    const size_t local = 2 * bk * (bm + bn + 2 * pad) * gemm_real_bytes(problem);
    return items >= MIN_ITEMS && items <= device->max_work_group && items <= device->max_items[0] &&
           bm * bk % (CHUNK * items) == 0 && bn * bk % (CHUNK * items) == 0 &&
           values[T_TM] * values[T_TN] <= MAX_ACCUMULATORS && local <= device->local_bytes;
}

/* Large tiles read memory least; small ones give every compute unit something to do. A CPU, which
 * only gets here when asked to, has no use for large ones. */
static void guess(const struct device *device, const void *problem, int *values) {
    static const int presets[][T_COUNT] = {
        {64, 128, 16, 8, 8, 1, 8}, {64, 128, 8, 8, 8, 1, 8}, {64, 64, 16, 8, 4, 1, 8},
        {64, 64, 8, 8, 4, 1, 8},   {64, 32, 32, 4, 4, 1, 8}, {32, 32, 16, 4, 2, 1, 8},
        {32, 32, 8, 4, 4, 1, 8},
    };
    const struct gemm *gemm = problem;
    const unsigned count = sizeof presets / sizeof *presets;
    for (unsigned i = 0; i < count; i++) {
        if (!fits(device, problem, presets[i]))
            continue;
        memcpy(values, presets[i], sizeof presets[i]);
        const double tiles = (double)ceil_div(gemm->m, (size_t)values[T_BM]) *
                             (double)ceil_div(gemm->n, (size_t)values[T_BN]) * (double)gemm->batch;
        if (!device->is_cpu && tiles >= 0.75 * device->compute_units)
            return;
    }
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    (void)device;
    const struct gemm *gemm = problem;
    struct pass *pass = &out->passes[out->n_passes++];
    gemm_launch_common(gemm, false, out, pass);
    const size_t tiles =
        ceil_div(gemm->m, (size_t)values[T_BM]) * ceil_div(gemm->n, (size_t)values[T_BN]);
    pass->dims = 2;
    pass->local[0] = work_items(values);
    pass->local[1] = 1;
    pass->global[0] = tiles * pass->local[0];
    pass->global[1] = gemm->batch < MAX_GRID_Y ? gemm->batch : MAX_GRID_Y;
    return CLAT_OK;
}

const struct implementation gemm_simt = {
    .name = "simt",
    .source = "gemm_simt.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = prefers,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
