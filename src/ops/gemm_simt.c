/* GEMM on any GPU: tiles in local memory. The picture is in cl/gemm_simt.cl. */
#include "gemm.h"

#include "sizes.h"

#include <math.h>
#include <string.h>

#define GEMM_SIMT_TUNABLES(X)                                                                      \
    X(BM, "rows of C for one work-group", 64, 32, 64, 128, 256)                                    \
    X(BN, "columns of C for one work-group", 64, 32, 64, 128, 256)                                 \
    X(BK, "depth of a step", 16, 8, 16, 32)                                                        \
    X(TM, "rows of C for one work-item", 4, 2, 4, 8, 16)                                           \
    X(TN, "columns of C for one work-item", 4, 2, 4, 8, 16)                                        \
    X(SLICES, "work-items that share the k of a step", 1, 1, 2, 4)                                 \
    X(SPLIT_K, "work-groups that share the k of a tile", 1, 1, 2, 4, 8, 16)                        \
    X(PAD, "fragments of four between rows of local tiles; 0: swizzle", 1, 0, 1)                   \
    X(GROUP, "rows of tiles walked together", 8, 1, 4, 8, 16)

enum { GEMM_SIMT_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_SIMT_TUNABLES(TUNABLE_ROW)};

enum {
    CHUNK = 4,             /* elements a work-item loads at a time */
    MIN_ITEMS = 32,        /* smaller work-groups leave most of a GPU idle */
    MAX_ACCUMULATORS = 128 /* 32-bit registers for sums */
};

static size_t work_items(const int *values) {
    return (size_t)(values[T_BM] / values[T_TM] * (values[T_BN] / values[T_TN]) * values[T_SLICES]);
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    return gemm_supports_dtype(device, problem, why);
}

/* Whether work-items that each take a chunk of a line after the other fill whole rows of a tile. */
static bool shares_tile(size_t items, size_t lines, size_t depth) {
    return CHUNK * items % lines == 0 && lines * depth % (CHUNK * items) == 0;
}

/* Sums of f32 that one work-item keeps in registers, as compiled (make vendors): more are spilled,
 * and Intel's compiler may crash over them. AMD's gfx10 and later have half the registers of gfx9.
 */
static size_t most_accumulators(const struct device *device) {
    switch (device->vendor) {
    case VENDOR_INTEL:
        return MAX_ACCUMULATORS / 8;
    case VENDOR_AMD:
        return strncmp(device->architecture, "gfx1", 4) == 0 ? MAX_ACCUMULATORS / 4
                                                             : MAX_ACCUMULATORS / 2;
    default:
        return MAX_ACCUMULATORS;
    }
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const size_t bm = (size_t)values[T_BM], bn = (size_t)values[T_BN], bk = (size_t)values[T_BK];
    const size_t tm = (size_t)values[T_TM], tn = (size_t)values[T_TN];
    const size_t items = work_items(values), pad = (size_t)values[T_PAD] * CHUNK;
    const size_t real = gemm_real_bytes(problem), tiles = 2 * bk * (bm + bn + 2 * pad);
    const size_t collected = ((size_t)values[T_SLICES] - 1) * (bm / tm) * bn;
    return items >= MIN_ITEMS && items <= device_largest_group(device) &&
           items <= device->max_items[0] && shares_tile(items, bm, bk) &&
           shares_tile(items, bn, bk) &&
           tm * tn * real / sizeof(float) <= most_accumulators(device) && collected <= tiles &&
           tiles * real <= device->local_bytes &&
           gemm_may_split(device, problem, (size_t)values[T_SPLIT_K]);
}

/* ---- good values ---- */

/* Shapes of work-groups, and how fast they multiply f32 where a compute unit has enough of them, as
 * measured on an NVIDIA H200 or H100; the fastest is 1. */
static const struct choice {
    int values[T_COUNT];
    double speed;
} choices[] = {
    {{256, 128, 16, 16, 8, 1, 1, 0, 8}, 1.00}, {{256, 128, 8, 16, 8, 1, 1, 1, 8}, 0.97},
    {{128, 128, 16, 8, 8, 1, 1, 0, 8}, 0.94},  {{128, 128, 8, 8, 8, 1, 1, 1, 8}, 0.86},
    {{64, 128, 16, 8, 8, 1, 1, 1, 8}, 0.90},   {{64, 128, 8, 8, 8, 1, 1, 1, 8}, 0.84},
    {{64, 128, 32, 8, 4, 1, 1, 0, 8}, 0.86},   {{128, 64, 16, 8, 8, 2, 1, 1, 8}, 0.84},
    {{64, 64, 32, 8, 8, 4, 1, 1, 8}, 0.75},    {{64, 64, 16, 8, 8, 2, 1, 1, 8}, 0.75},
    {{64, 64, 16, 8, 4, 1, 1, 1, 8}, 0.70},    {{64, 64, 8, 8, 4, 1, 1, 1, 8}, 0.65},
    {{64, 32, 32, 4, 4, 1, 1, 1, 8}, 0.45},    {{32, 32, 32, 4, 4, 4, 1, 1, 8}, 0.40},
    {{32, 32, 16, 4, 2, 1, 1, 1, 8}, 0.30},    {{32, 32, 8, 4, 4, 1, 1, 1, 8}, 0.40},
};

/* The same for GPUs that give a work-item 256 registers or fewer. Nobody has measured these: by
 * what is read from local memory for each multiply-add. */
static const struct choice few_registers[] = {
    {{64, 64, 8, 8, 4, 1, 1, 1, 8}, 1.00},  {{64, 64, 16, 4, 4, 1, 1, 1, 8}, 0.80},
    {{64, 32, 32, 4, 4, 1, 1, 1, 8}, 0.75}, {{64, 32, 16, 4, 4, 1, 1, 1, 8}, 0.75},
    {{32, 32, 32, 4, 4, 4, 1, 1, 8}, 0.70}, {{32, 32, 8, 4, 4, 1, 1, 1, 8}, 0.65},
    {{32, 32, 16, 4, 2, 1, 1, 1, 8}, 0.50}, {{32, 32, 32, 2, 2, 1, 1, 1, 8}, 0.35},
};

enum {
    CHOICES = sizeof choices / sizeof *choices,
    FEW_CHOICES = sizeof few_registers / sizeof *few_registers,
    FEW_REGISTERS = 256,
    INTEL_AHEAD = 8,
    OTHER_REGISTERS = 40 /* addresses, counters */
};

/* In multiply-adds of a compute unit that is fully used. */
static const double SPLIT_COST = 1e6; /* another launch */

enum {
    BUSY_ITEMS = 256,  /* work-items that make a compute unit busy */
    LEAST_SLICE = 256, /* of k, for one of the work-groups that share it */
    FEW_ACCUMULATORS = 32
};

/* Of vendors whose compilers have not been asked, GPUs may have few registers. */
static size_t likely_accumulators(const struct device *device) {
    const bool known = device->vendor == VENDOR_NVIDIA || device->vendor == VENDOR_AMD ||
                       device->vendor == VENDOR_INTEL;
    return known ? most_accumulators(device) : FEW_ACCUMULATORS;
}

/* Compilers read fragments ahead of their use: AMD's all of a step, Intel's of a few rows. What
 * does not fit then is spilled, and found so by `make vendors`. */
static bool has_registers(const struct device *device, const void *problem, const int *values) {
    const unsigned registers = device_lane_registers(device);
    const size_t tm = (size_t)values[T_TM], tn = (size_t)values[T_TN], bk = (size_t)values[T_BK];
    const size_t rows = bk / (size_t)values[T_SLICES];
    const size_t ahead = device->vendor == VENDOR_INTEL ? smaller(rows, INTEL_AHEAD) : rows;
    const size_t staged = (size_t)(values[T_BM] + values[T_BN]) * bk / work_items(values);
    const size_t words =
        (tm * tn + (tm + tn) * ahead + staged) * gemm_real_bytes(problem) / sizeof(float);
    return registers == 0 || words + OTHER_REGISTERS <= registers;
}

/* Multiply-adds for which a compute unit has time until the whole product is done. */
static double cost(const struct device *device, const struct gemm *gemm, const int *values,
                   double speed) {
    const size_t bm = (size_t)values[T_BM], bn = (size_t)values[T_BN];
    const double split = values[T_SPLIT_K], batch = (double)gemm->batch;
    const double tiles = (double)ceil_div(gemm->m, bm) * (double)ceil_div(gemm->n, bn) * batch;
    const double rounds = ceil(tiles * split / device_units(device));
    const double busy = rounds * (double)work_items(values) / BUSY_ITEMS;
    const double multiply = rounds * (double)(bm * bn) * ((double)gemm->k / split + 64) /
                            (speed * (busy < 1 ? busy : 1));
    const double reduce =
        split > 1 ? SPLIT_COST + (double)gemm->m * (double)gemm->n * batch * split : 0;
    return multiply + reduce;
}

/* A CPU, which only gets here when asked to, has no use for large tiles. Without `spills` nothing
 * may be found. */
static bool choose(const struct device *device, const struct gemm *gemm, bool spills, int *values) {
    const unsigned registers = device_lane_registers(device);
    const bool few = !device->is_cpu && registers != 0 && registers <= FEW_REGISTERS;
    const struct choice *list = few ? few_registers : choices;
    const unsigned count = few ? FEW_CHOICES : CHOICES;
    double best = 0;
    for (unsigned i = device->is_cpu ? CHOICES - 1 : 0; i < count; i++) {
        int tried[T_COUNT];
        memcpy(tried, list[i].values, sizeof tried);
        for (int split = 1; split <= 16; split *= 2) {
            tried[T_SPLIT_K] = split;
            const double time = cost(device, gemm, tried, list[i].speed);
            if ((split > 1 && (device->is_cpu || gemm->k / (size_t)split < LEAST_SLICE)) ||
                (size_t)(tried[T_TM] * tried[T_TN]) > likely_accumulators(device) ||
                (!spills && !has_registers(device, gemm, tried)) || !fits(device, gemm, tried) ||
                (best > 0 && time >= best))
                continue;
            best = time;
            memcpy(values, tried, sizeof tried);
        }
    }
    return best > 0;
}

static void guess(const struct device *device, const void *problem, int *values) {
    if (!choose(device, problem, device->is_cpu, values))
        choose(device, problem, true, values);
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm *gemm = problem;
    const size_t split = (size_t)values[T_SPLIT_K], bk = (size_t)values[T_BK];
    struct pass *pass = &out->passes[out->n_passes++];
    gemm_launch_common(gemm, false, out, pass);
    op_define_sub_groups(&out->defines, device);
    gemm_launch_tiles(gemm, (size_t)values[T_BM], (size_t)values[T_BN], work_items(values), split,
                      pass);
    if (split > 1)
        gemm_launch_split(gemm, round_up(ceil_div(gemm->k, split), bk), split, out);
    return CLAT_OK;
}

const struct implementation gemm_simt = {
    .name = "simt",
    .source = "gemm_simt.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
