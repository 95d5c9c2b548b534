/* GEMM on Hopper. The picture is in cl/gemm_wgmma.cl. */
#include "gemm.h"

#include "sizes.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define GEMM_WGMMA_TUNABLES(X)                                                                     \
    X(BM, "rows of C for one work-group", 128, 64, 128, 256)                                       \
    X(BN, "columns of C for one work-group", 128, 64, 128, 192, 256)                               \
    X(STAGES, "pairs of tiles in local memory", 4, 2, 3, 4, 5, 6, 7, 8)                            \
    X(GROUP, "rows of tiles walked together", 16, 1, 4, 8, 16)                                     \
    X(SPLIT_K, "work-groups that share k in the last round of tiles", 1, 1, 2, 3, 4, 5, 6, 8)      \
    X(PAD, "bring what tensor maps or products cannot take to the workspace first", 0, 0, 1)

enum { GEMM_WGMMA_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {GEMM_WGMMA_TUNABLES(TUNABLE_ROW)};

/* As in the kernel. */
enum {
    WARPGROUP = 128,
    LINE = 128,          /* bytes of a line of a tile */
    STAGING = 16 * 1024, /* bytes, of a consumer */
    MAPS = 3,
    BARRIER = 8,
    PAD_LINES = 8,
    PAD_ITEMS = 256,
    TURN_TILE = 64, /* lines and columns */
    MOST_SUMS = 128 /* of a work-item */
};

/* Of a tensor map: strides in bytes. */
static const size_t MOST_STRIDE = (size_t)1 << 40;

/* ---- which product */

/* Products of tf32 take B from local memory along k alone: a B that lies across is a left operand,
 * which they take from registers too, of C^T = B^T A^T. Where both lie across, the smaller one goes
 * to the right, to be turned in the workspace. */
static bool is_swapped(const struct gemm *gemm) {
    return gemm->dtype == CLAT_F32 && !gemm->trans_b && (!gemm->trans_a || gemm->m < gemm->n);
}

static struct gemm multiplied(const void *problem) {
    const struct gemm *gemm = problem;
    return is_swapped(gemm) ? gemm_swapped(gemm) : *gemm;
}

/* For an A that goes through them. */
static bool has_registers_for_a(const struct gemm *gemm, const int *values) {
    enum { ROWS = 64 }; /* of a consumer: there is no room for those of two blocks */
    return gemm->dtype != CLAT_F32 || !gemm->trans_a || values[T_BM] <= 2 * ROWS;
}

/* ---- padding */

/* Whether tensor maps cannot describe such lines, wherever they begin. */
static bool is_odd(const struct gemm *gemm, size_t ld, size_t stride) {
    enum { MAP_BYTES = 16 };
    return (ld | (gemm->batch > 1 ? stride : 0)) * clat_dtype_bytes(gemm->dtype) % MAP_BYTES != 0;
}

static bool pads_a(const struct gemm *gemm, const int *values) {
    return values[T_PAD] && is_odd(gemm, gemm->lda, gemm->stride_a);
}

/* Whether products of tf32 cannot take B, nor A in its stead: both lie across. */
static bool turns_b(const struct gemm *gemm) {
    return gemm->dtype == CLAT_F32 && !gemm->trans_b;
}

static bool pads_b(const struct gemm *gemm, const int *values) {
    return values[T_PAD] && (turns_b(gemm) || is_odd(gemm, gemm->ldb, gemm->stride_b));
}

/* Elements of a whole number of lines, from which on the next may begin. */
static size_t padded_ld(const struct gemm *gemm, size_t columns) {
    const size_t bytes = clat_dtype_bytes(gemm->dtype);
    return round_up(larger(columns, 1) * bytes, LINE) / bytes;
}

/* The product as it is multiplied. */
static struct gemm padded(const struct gemm *gemm, const int *values) {
    struct gemm g = *gemm;
    if (pads_a(gemm, values)) {
        g.lda = padded_ld(gemm, gemm_columns_a(gemm));
        g.stride_a = gemm->stride_a > 0 ? g.lda * gemm_rows_a(gemm) : 0;
    }
    if (pads_b(gemm, values)) {
        if (turns_b(gemm))
            g.trans_b = CLAT_TRANS;
        g.ldb = padded_ld(gemm, gemm_columns_b(&g));
        g.stride_b = gemm->stride_b > 0 ? g.ldb * gemm_rows_b(&g) : 0;
    }
    return g;
}

/* Of all matrices of an operand. */
static double lines_of(const struct gemm *gemm, size_t rows, size_t stride) {
    return (double)rows * (double)(stride > 0 ? gemm->batch : 1);
}

/* Padded, 0 where an operand is not. */
static double padded_a_bytes(const struct gemm *gemm, const int *values) {
    const struct gemm g = padded(gemm, values);
    return pads_a(gemm, values) ? lines_of(gemm, gemm_rows_a(gemm), gemm->stride_a) *
                                      (double)(g.lda * clat_dtype_bytes(gemm->dtype))
                                : 0;
}

static double padded_b_bytes(const struct gemm *gemm, const int *values) {
    const struct gemm g = padded(gemm, values);
    return pads_b(gemm, values) ? lines_of(gemm, gemm_rows_b(&g), gemm->stride_b) *
                                      (double)(g.ldb * clat_dtype_bytes(gemm->dtype))
                                : 0;
}

/* ---- geometry */

static size_t work_items(const int *values) {
    return WARPGROUP * (values[T_BM] == 64 ? 2 : 3);
}

static size_t depth_of(const struct gemm *gemm) {
    return LINE / clat_dtype_bytes(gemm->dtype);
}

static size_t tile_elements(const int *values) {
    return (size_t)values[T_BM] * (size_t)values[T_BN];
}

static size_t local_bytes(const int *values) {
    const size_t consumers = work_items(values) / WARPGROUP - 1;
    const size_t stage = (size_t)(values[T_BM] + values[T_BN]) * LINE + 2 * BARRIER;
    return (size_t)values[T_STAGES] * stage + consumers * STAGING + MAPS * LINE;
}

/* Of all matrices: tiles, those that are not split, and what work-groups have to do. */
struct round {
    double tiles, whole, work;
};

static struct round round_of(const struct device *device, const struct gemm *gemm,
                             const int *values) {
    const double units = device_units(device), split = values[T_SPLIT_K];
    struct round round;
    round.tiles = (double)ceil_div(gemm->m, (size_t)values[T_BM]) *
                  (double)ceil_div(gemm->n, (size_t)values[T_BN]) * (double)gemm->batch;
    round.whole = split > 1 ? floor(round.tiles / units) * units : round.tiles;
    round.work = round.whole + (round.tiles - round.whole) * split;
    return round;
}

/* In bytes: maps and flags, then the sums of slices. */
static double sums_at(const struct device *device, const struct gemm *gemm, const int *values) {
    const struct round round = round_of(device, gemm, values);
    const size_t consumers = work_items(values) / WARPGROUP - 1;
    const double flags = (round.work - round.whole) * (double)(consumers * sizeof(cl_ulong));
    return ceil((device_units(device) * (double)(MAPS * LINE) + flags) / LINE) * LINE;
}

/* Behind the sums, padded operands. */
static double padded_at(const struct device *device, const struct gemm *gemm, const int *values) {
    const struct round round = round_of(device, gemm, values);
    const double sums = (round.work - round.whole) * (double)tile_elements(values);
    return ceil((sums_at(device, gemm, values) + sums * sizeof(cl_float)) / LINE) * LINE;
}

static double workspace_bytes(const struct device *device, const struct gemm *gemm,
                              const int *values) {
    return padded_at(device, gemm, values) + padded_a_bytes(gemm, values) +
           padded_b_bytes(gemm, values);
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct gemm turned = multiplied(problem), *gemm = &turned;
    const struct round round = round_of(device, gemm, values);
    const size_t items = work_items(values), consumers = items / WARPGROUP - 1;
    return tile_elements(values) / (consumers * WARPGROUP) <= MOST_SUMS &&
           has_registers_for_a(gemm, values) && items <= device->max_work_group &&
           round.work <= INT_MAX && (values[T_PAD] || !turns_b(gemm)) &&
           (!values[T_PAD] || padded_a_bytes(gemm, values) + padded_b_bytes(gemm, values) > 0) &&
           (values[T_SPLIT_K] == 1 ||
            (round.whole < round.tiles &&
             ceil_div(gemm->k, depth_of(gemm)) >= (size_t)values[T_SPLIT_K])) &&
           local_bytes(values) <= device_static_local_bytes(device) &&
           workspace_bytes(device, gemm, values) <= (double)device->max_alloc_bytes / 4;
}

/* ---- the guess */

/* Tiles with the share of the engine's speed that they reach where there are many of them. */
static const struct preset {
    int bm, bn;
    double speed;
} presets[] = {
    {128, 256, 1.000}, {256, 128, 0.984}, {128, 192, 0.986}, {128, 128, 0.899}, {256, 64, 0.741},
    {128, 64, 0.576},  {64, 256, 0.458},  {64, 192, 0.446},  {64, 128, 0.461},  {64, 64, 0.386},
};

/* Of a multiprocessor, in cycles. Fitted to 223 timings of 18 products on an H100: what is cheapest
 * here was the fastest tried for 14 of them, and never slower by more than an eighth. */
static const double MULTIPLY_ADDS = 2048, LOADED = 59; /* each cycle: of 16 bits; bytes */
static const double TILE = 4650, TILE_SUMS = 12;       /* the way in and out; sums each cycle */
static const double MEETING = 4250, ADDED = 14;        /* of slices; bytes each cycle */

/* For a step's lines of an operand that no map describes: work-items carry BATCH of them at a time.
 * A rough guess from 1000x1021x777 and 2047x2049x2051. */
static const double BATCH = 128, CARRIED_BATCH = 1000, CARRIED_LINE = 8;

/* Of padding, which reads and writes what it pads, and its launch. */
static const double PADDED = 1300, PADDING = 4200;

/* For `lines` of an operand in each step. */
static double load_time(const struct gemm *gemm, double lines, size_t ld, size_t stride) {
    const size_t bytes = clat_dtype_bytes(gemm->dtype);
    if (ld * bytes % 16 == 0 && stride * bytes % 16 == 0)
        return lines * LINE / LOADED;
    return ceil(lines / BATCH) * CARRIED_BATCH + lines * CARRIED_LINE;
}

static double cost_of(const struct device *device, const struct gemm *stored, const int *values,
                      double speed) {
    const struct gemm loaded = padded(stored, values), *gemm = &loaded;
    const double pads = padded_a_bytes(stored, values) + padded_b_bytes(stored, values);
    const struct round round = round_of(device, gemm, values);
    const double units = device_units(device), split = values[T_SPLIT_K];
    const double bm = values[T_BM], bn = values[T_BN], area = bm * bn;
    const double steps = (double)ceil_div(gemm->k, depth_of(gemm));
    const double multiply = area * 64 / (MULTIPLY_ADDS * speed);
    const double load = load_time(gemm, fmin(bm, (double)gemm->m), gemm->lda, gemm->stride_a) +
                        load_time(gemm, fmin(bn, (double)gemm->n), gemm->ldb, gemm->stride_b);
    const double step = fmax(multiply, load), tile = TILE + area / TILE_SUMS;
    double cost = ceil(round.whole / units) * (steps * step + tile);
    if (values[T_PAD])
        cost += PADDING + 2 * pads / PADDED;
    if (split > 1)
        cost += ceil((round.work - round.whole) / units) * (ceil(steps / split) * step + tile) +
                MEETING + (split - 1) * area * sizeof(cl_float) / ADDED;
    return cost;
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct gemm turned = multiplied(problem), *gemm = &turned;
    double best = 0;
    for (size_t i = 0; i < 2 * (sizeof presets / sizeof *presets); i++) {
        const struct preset *preset = &presets[i / 2];
        int tried[T_COUNT];
        memcpy(tried, values, sizeof tried);
        tried[T_BM] = preset->bm, tried[T_BN] = preset->bn, tried[T_PAD] = (int)(i % 2);
        tried[T_GROUP] = preset->bm > 128 ? 4 : 16; /* 0.98 and 0.87 of cuBLAS at 4064x4128x4192 */
        for (unsigned split = 0; split < tunable_count(&tunables[T_SPLIT_K]); split++) {
            tried[T_SPLIT_K] = tunables[T_SPLIT_K].candidates[split];
            tried[T_STAGES] = 8;
            while (tried[T_STAGES] > 2 && local_bytes(tried) > device_static_local_bytes(device))
                tried[T_STAGES]--;
            const double cost = cost_of(device, gemm, tried, preset->speed);
            if (fits(device, problem, tried) && (best <= 0 || cost < best)) {
                best = cost;
                memcpy(values, tried, sizeof tried);
            }
        }
    }
}

/* ---- what is declined */

static bool has_tunables(const struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    int values[T_COUNT] = {128, 128, 4, 16, 1, 0};
    guess(device, problem, values);
    snprintf(why, OP_WHY_BYTES,
             "local memory or the workspace is too small, or there are too many tiles");
    return fits(device, problem, values);
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct gemm turned = multiplied(problem), *gemm = &turned;
    const size_t bytes = clat_dtype_bytes(gemm->dtype) * (gemm->dtype_c == CLAT_F32 ? 2 : 1);
    const size_t strides[] = {gemm->lda,      gemm->ldb,      gemm->ldc,
                              gemm->stride_a, gemm->stride_b, gemm->stride_c};
    const size_t sizes[] = {gemm->m, gemm->n, gemm->k, gemm->batch};
    if (gemm->dtype == CLAT_F64) {
        snprintf(why, OP_WHY_BYTES, "matrix engines do not multiply f64");
        return false;
    }
    if (gemm->dtype == CLAT_F32 && gemm->precision != CLAT_PRECISION_NATIVE) {
        snprintf(why, OP_WHY_BYTES, "f32 would be cut to tf32, which needs precision native");
        return false;
    }
    if (!device_can(device, CAP_WGMMA)) {
        snprintf(why, OP_WHY_BYTES, "the device has no wgmma, or its driver does not let it pass");
        return false;
    }
    if (gemm->batching == CLAT_BATCH_OFFSETS) {
        snprintf(why, OP_WHY_BYTES, "lists of offsets are no tensors");
        return false;
    }
    bool small = true;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        small = small && sizes[i] <= INT_MAX;
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++)
        small = small && strides[i] < MOST_STRIDE / bytes;
    if (!small)
        snprintf(why, OP_WHY_BYTES, "sizes or strides are too large for tensor maps");
    return small && has_tunables(device, problem, why);
}

/* Turning takes two launches and all of an operand, which little work does not pay for: by timings
 * of 16 x 4096 to 1024 x 1024 on an H100, `mma` is faster below this. */
static bool prefers(const struct device *device, const void *problem) {
    const double WORTH = 1 << 20; /* elements of C */
    const struct gemm *gemm = problem;
    const struct gemm turned = multiplied(problem);
    return op_for_gpus(device, problem) &&
           (!turns_b(&turned) || (double)gemm->m * (double)gemm->n * (double)gemm->batch >= WORTH);
}

/* ---- launching */

static void add_padding(const struct gemm *gemm, bool swapped, const int *values,
                        struct launch *out) {
    const double a = pads_a(gemm, values) ? lines_of(gemm, gemm_rows_a(gemm), gemm->stride_a) : 0;
    const double b = pads_b(gemm, values) ? lines_of(gemm, gemm_rows_b(gemm), gemm->stride_b) : 0;
    const size_t turned = ceil_div(larger(gemm->k, 1), TURN_TILE) * ceil_div(gemm->n, TURN_TILE) *
                          (gemm->stride_b > 0 ? gemm->batch : 1);
    const size_t groups_b = turns_b(gemm) ? turned : ceil_div((size_t)b, PAD_LINES);
    struct pass *pass = &out->passes[out->n_passes++];
    *pass = (struct pass){.kernel = "gemm_pad", .dims = 1, .local = {PAD_ITEMS}};
    pass->global[0] = (ceil_div((size_t)a, PAD_LINES) + groups_b) * PAD_ITEMS;
    pass_arg(pass, ARG_BUFFER, swapped ? GEMM_B : GEMM_A, 0);
    pass_arg(pass, ARG_BUFFER, swapped ? GEMM_A : GEMM_B, 0);
    pass_arg(pass, ARG_PARAMS, 0, 0);
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct gemm turned = multiplied(problem), *gemm = &turned;
    const struct gemm loaded = padded(gemm, values);
    const struct round round = round_of(device, gemm, values);
    const size_t items = work_items(values), units = device_units(device);
    if (values[T_PAD])
        add_padding(gemm, is_swapped(problem), values, out);
    struct pass *pass = &out->passes[out->n_passes++];
    struct gemm_params params;
    gemm_launch_common(&loaded, is_swapped(problem), out, pass);
    text_printf(&out->defines,
                "#define WGMMA_TYPE %s\n#define PAD_A %d\n#define PAD_B %d\n#define TURN_B %d\n",
                gemm->dtype == CLAT_F32 ? "tf32" : clat_dtype_name(gemm->dtype),
                pads_a(gemm, values), pads_b(gemm, values), turns_b(gemm));
    memcpy(&params, out->params, sizeof params);
    params.whole = (gemm_size)round.whole;
    params.sums_at = (gemm_size)(sums_at(device, gemm, values) / sizeof(cl_uint));
    params.from_lda = (gemm_size)gemm->lda, params.from_stride_a = (gemm_size)gemm->stride_a;
    params.from_ldb = (gemm_size)gemm->ldb, params.from_stride_b = (gemm_size)gemm->stride_b;
    params.padded_a = (gemm_size)(padded_at(device, gemm, values) / sizeof(cl_uint));
    params.padded_b = params.padded_a + (gemm_size)(padded_a_bytes(gemm, values) / sizeof(cl_uint));
    memcpy(out->params, &params, sizeof params);
    out->workspace_bytes = (size_t)workspace_bytes(device, gemm, values);
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
    pass->dims = 1;
    pass->local[0] = items;
    pass->global[0] = smaller((size_t)round.work, units) * items;
    return CLAT_OK;
}

const struct implementation gemm_wgmma = {
    .name = "wgmma",
    .source = "gemm_wgmma.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = prefers,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
