/* GEMM on matrix engines. The picture is in cl/gemm_mma.cl. */
#include "gemm.h"

#include "engine.h"
#include "sizes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GEMM_MMA_TUNABLES(X)                                                                       \
    X(BM, "rows of C for one work-group", 64, 16, 32, 64, 96, 128, 192, 256)                       \
    X(BN, "columns of C for one work-group", 64, 16, 32, 64, 96, 128, 192, 256)                    \
    X(BK, "depth of a step", 32, 16, 32, 64)                                                       \
    X(SUBS_M, "sub-groups down", 2, 1, 2, 4, 8)                                                    \
    X(SUBS_N, "sub-groups across", 2, 1, 2, 4, 8)                                                  \
    X(STAGES, "pairs of tiles in local memory", 2, 2, 3, 4, 5, 6)                                  \
    X(GROUP, "rows of tiles walked together", 8, 1, 4, 8, 16)                                      \
    X(SPLIT_K, "work-groups that share the k of a tile", 1, 1, 2, 4, 8, 16)

enum { GEMM_MMA_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_MMA_TUNABLES(TUNABLE_ROW)};

enum {
    OTHER_REGISTERS = 32, /* addresses, counters */
    SLAB_PADDING = 8,     /* floats; as in the kernel */
    WIDEST = 8            /* neighbours of C that are written at a time */
};

/* Nothing transposes 32-bit operands on load: where one of two must be turned, it had better be
 * op(A), the engine's right one, of which a lane needs pairs. */
static bool wants_swap(const struct gemm *gemm) {
    return gemm->dtype == CLAT_F32 && gemm->trans_a == CLAT_NO_TRANS &&
           gemm->trans_b == CLAT_NO_TRANS;
}

/* The problem as the kernel sees it. */
static struct gemm oriented(const struct gemm *gemm) {
    return wants_swap(gemm) ? gemm_swapped(gemm) : *gemm;
}

static const struct engine *engine_of(const struct device *device, const struct gemm *gemm) {
    return engine_find(device, gemm->dtype);
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct gemm *gemm = problem;
    const bool native = gemm->precision == CLAT_PRECISION_NATIVE;
    if (gemm->dtype == CLAT_F64) {
        snprintf(why, OP_WHY_BYTES, "matrix engines do not multiply f64");
        return false;
    }
    if (gemm->dtype == CLAT_F32 && !native) {
        snprintf(why, OP_WHY_BYTES, "f32 would be cut to tf32, which needs precision native");
        return false;
    }
    const struct engine *engine = engine_of(device, gemm);
    if (engine == NULL) {
        snprintf(why, OP_WHY_BYTES, "the device has no matrix engine for %s, or none was proven",
                 gemm->dtype == CLAT_F32 ? "tf32" : clat_dtype_name(gemm->dtype));
        return false;
    }
    if (!native && !engine_keeps_denormals(device, engine)) {
        snprintf(why, OP_WHY_BYTES,
                 "the engine takes denormal operands for 0, which needs "
                 "precision native");
        return false;
    }
    return true;
}

/* ---- geometry */

/* What follows from the tunables for one type and engine. */
struct shape_of {
    size_t items, wm, wn;       /* work-items; a sub-group's part of the tile */
    size_t lefts, rights, sums; /* fragments of a sub-group, sums of a lane */
    size_t line_a, line_b;      /* chunks of a stored line of each tile */
    size_t tile_a, tile_b;      /* chunks of each tile */
    bool swap;                  /* C is stored transposed */
};

static struct shape_of shape_of(const struct engine *engine, const struct gemm *problem,
                                const int *values) {
    const struct gemm gemm = oriented(problem);
    const size_t bm = (size_t)values[T_BM], bn = (size_t)values[T_BN], bk = (size_t)values[T_BK];
    const size_t chunk = engine_chunk(gemm.dtype);
    struct shape_of s = {.wm = bm / (size_t)values[T_SUBS_M], .wn = bn / (size_t)values[T_SUBS_N]};
    s.items = (size_t)(values[T_SUBS_M] * values[T_SUBS_N]) * engine->lanes;
    s.lefts = s.wn / engine->m, s.rights = s.wm / engine->n;
    s.sums = s.wm * s.wn / engine->lanes;
    s.line_a = (gemm.trans_a ? bm : bk) / chunk, s.line_b = (gemm.trans_b ? bk : bn) / chunk;
    s.tile_a = bm * bk / chunk, s.tile_b = bn * bk / chunk;
    s.swap = wants_swap(problem);
    return s;
}

static size_t local_bytes(const struct device *device, const struct engine *engine,
                          const struct gemm *gemm, const int *values) {
    const struct shape_of s = shape_of(engine, gemm, values);
    const size_t subgroups = s.items / engine->lanes;
    const size_t ring = (size_t)values[T_STAGES] * (s.tile_a + s.tile_b) * 16;
    const size_t slab =
        s.swap ? engine->m * (s.wm + SLAB_PADDING) : engine->n * (s.wn + SLAB_PADDING);
    const size_t slabs = subgroups * slab * sizeof(cl_float);
    return (ring > slabs ? ring : slabs) +
           subgroups * engine_scratch_bytes(device, engine, gemm->dtype, s.lefts, s.rights);
}

/* What a lane holds while it multiplies: sums and fragments, those of the next k too where copies
 * are asynchronous, else chunks on their way. More would be spilled. */
static size_t registers(const struct engine *engine, const struct gemm *gemm,
                        const struct shape_of *s) {
    const size_t fragments = engine_fragment_registers(engine, gemm->dtype, s->lefts, s->rights);
    return OTHER_REGISTERS + s->sums +
           (engine->async ? 2 * fragments : fragments + (s->tile_a + s->tile_b) / s->items * 4);
}

/* All work-items are whole lines of a strip of the tile, of which there are enough. */
static bool divides(size_t items, size_t line, size_t tile) {
    const size_t strip = line & -line;
    return line > 0 && items % strip == 0 && tile / line * strip % items == 0;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct gemm *gemm = problem;
    const struct engine *engine = engine_of(device, gemm);
    if (engine == NULL)
        return false;
    const struct shape_of s = shape_of(engine, gemm, values);
    const size_t depth = engine_k(gemm->dtype);
    return s.wm > 0 && s.wn > 0 && s.wm % engine->n == 0 && s.wn % engine->m == 0 &&
           s.wn % WIDEST == 0 && (size_t)values[T_BK] % (2 * depth) == 0 &&
           registers(engine, gemm, &s) <= engine->registers &&
           divides(s.items, s.line_a, s.tile_a) && divides(s.items, s.line_b, s.tile_b) &&
           s.items <= device_largest_group(device) && s.items <= device->max_items[0] &&
           (engine->async || values[T_STAGES] == 2) &&
           local_bytes(device, engine, gemm, values) <= device_static_local_bytes(device) &&
           gemm_may_split(device, gemm, (size_t)values[T_SPLIT_K]);
}

/* ---- the guess */

/* Tiles, k not split, with the share of the engine's speed that they reach where there are many of
 * them. */
struct preset {
    int values[T_COUNT];
    double speed;
};

static const struct preset presets_16[] = {
    {{128, 256, 64, 2, 4, 3, 16}, 1.0}, {{128, 256, 32, 2, 4, 4, 16}, 0.98},
    {{128, 192, 64, 2, 4, 3, 16}, .95}, {{96, 192, 64, 2, 4, 3, 16}, .85},
    {{128, 128, 64, 2, 2, 3, 16}, .96}, {{128, 128, 32, 2, 2, 4, 16}, .93},
    {{128, 128, 32, 4, 2, 2, 8}, 0.9},  {{128, 128, 32, 4, 4, 2, 8}, 0.8},
    {{64, 128, 64, 2, 2, 3, 8}, 0.8},   {{128, 64, 64, 2, 2, 3, 8}, 0.7},
    {{64, 128, 32, 2, 4, 2, 8}, 0.7},   {{64, 64, 64, 2, 2, 4, 8}, 0.6},
    {{64, 64, 32, 2, 2, 2, 8}, 0.55},   {{64, 64, 32, 4, 4, 2, 8}, 0.5},
    {{32, 64, 64, 1, 4, 4, 8}, 0.4},    {{64, 32, 64, 4, 1, 4, 8}, 0.4},
    {{32, 32, 32, 2, 2, 2, 8}, 0.2},    {{16, 64, 64, 1, 4, 4, 8}, 0.25},
    {{16, 32, 64, 1, 2, 6, 8}, 0.13},   {{32, 32, 32, 1, 1, 2, 8}, 0.25},
    {{16, 32, 32, 1, 1, 2, 8}, 0.1},
};

/* For sub-groups of 8 and 16 lanes, of which a work-group has more. Nobody has measured these: by
 * messages to local memory for each product. */
static const struct preset presets_narrow[] = {
    {{128, 128, 32, 4, 4, 2, 8}, 1.0}, {{128, 128, 32, 8, 4, 2, 8}, 0.9},
    {{64, 128, 32, 4, 4, 2, 8}, 0.8},  {{64, 64, 32, 4, 2, 2, 8}, 0.65},
    {{64, 64, 32, 4, 4, 2, 8}, 0.5},   {{32, 64, 32, 2, 2, 2, 8}, 0.4},
    {{32, 32, 32, 2, 2, 2, 8}, 0.25},  {{16, 64, 32, 1, 4, 2, 8}, 0.2},
    {{16, 32, 32, 1, 1, 2, 8}, 0.1},
};

static const struct preset presets_32[] = {
    {{128, 256, 32, 2, 4, 4, 16}, 1.0}, {{128, 256, 16, 2, 4, 6, 16}, 0.96},
    {{128, 192, 32, 2, 4, 4, 16}, .95}, {{96, 192, 32, 2, 4, 3, 16}, .87},
    {{128, 128, 32, 2, 2, 3, 16}, .96}, {{128, 128, 16, 2, 2, 4, 16}, .9},
    {{64, 128, 32, 2, 2, 3, 8}, 0.8},   {{64, 128, 16, 2, 2, 4, 8}, 0.75},
    {{64, 64, 32, 2, 2, 4, 8}, 0.6},    {{32, 64, 32, 1, 4, 4, 8}, 0.4},
    {{16, 64, 32, 1, 4, 4, 8}, 0.25},   {{16, 32, 32, 1, 2, 6, 8}, 0.13},
    {{32, 32, 16, 1, 2, 3, 8}, 0.2},    {{16, 32, 16, 1, 1, 2, 8}, 0.1},
};

/* In multiply-adds of 16-bit operands by one compute unit that is fully used. */
static const double SPLIT_COST = 12e6, /* another launch */
    SPLIT_SUM_COST = 4;                /* a sum's way to the workspace and back, by all units */

enum { LEAST_SLICE = 256 }; /* of k, for one of the work-groups that share it */

/* Rounds of tiles on all compute units, each as long as its tile is large and k is deep, and the
 * way in and out, which shows less where several work-groups fit on a unit. */
static double cost_of(const struct device *device, const struct gemm *gemm, const int *values,
                      double speed) {
    const double split = values[T_SPLIT_K], batch = (double)gemm->batch;
    const double tiles = (double)ceil_div(gemm->m, (size_t)values[T_BM]) *
                         (double)ceil_div(gemm->n, (size_t)values[T_BN]) * batch;
    const double rounds = tiles * split / device_units(device);
    const double area = values[T_BM] * values[T_BN];
    const double lead = area > 128 * 128 ? 120 : 80;
    const double multiply =
        (rounds < 8 ? ceil(rounds) : rounds) * ((double)gemm->k / split + lead) * area / speed;
    const double sums = (double)gemm->m * (double)gemm->n * batch * split;
    const double width = (double)clat_dtype_bytes(gemm->dtype) / 2;
    return multiply + (split > 1 ? (SPLIT_COST + SPLIT_SUM_COST * sums) / width : 0);
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct gemm gemm = oriented(problem);
    const struct engine *engine = engine_of(device, &gemm);
    const struct preset *presets = presets_16;
    size_t count = sizeof presets_16 / sizeof *presets_16;
    double best = 0;
    if (engine != NULL && engine->lanes < 32)
        presets = presets_narrow, count = sizeof presets_narrow / sizeof *presets_narrow;
    else if (gemm.dtype == CLAT_F32)
        presets = presets_32, count = sizeof presets_32 / sizeof *presets_32;
    for (size_t i = 0; i < count; i++) {
        int tried[T_COUNT];
        memcpy(tried, presets[i].values, sizeof tried);
        for (int split = 1; split == 1 || (split <= 16 && gemm.k / (size_t)split >= LEAST_SLICE);
             split *= 2) {
            tried[T_SPLIT_K] = split;
            const double cost = cost_of(device, &gemm, tried, presets[i].speed);
            if (!fits(device, problem, tried) || (best > 0 && cost >= best))
                continue;
            best = cost;
            memcpy(values, tried, sizeof tried);
        }
    }
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm gemm = oriented(problem);
    const struct engine *engine = engine_of(device, &gemm);
    const size_t split = (size_t)values[T_SPLIT_K], bk = (size_t)values[T_BK];
    struct pass *pass = &out->passes[out->n_passes++];
    gemm_launch_common(&gemm, wants_swap(problem), out, pass);
    engine_define(&out->defines, device, engine, gemm.dtype);
    gemm_launch_tiles(&gemm, (size_t)values[T_BM], (size_t)values[T_BN],
                      shape_of(engine, problem, values).items, split, pass);
    if (split > 1)
        gemm_launch_split(problem, round_up(ceil_div(gemm.k, split), bk), split, out);
    return CLAT_OK;
}

const struct implementation gemm_mma = {
    .name = "mma",
    .source = "gemm_mma.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
