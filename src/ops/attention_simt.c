/* Attention on any GPU, and wherever there is local memory: tiles of K and V in local memory,
 * accumulators in registers. The picture is in cl/attention_simt.cl. */
#include "attention.h"

#include "sizes.h"

#include <stdio.h>
#include <string.h>

#define ATTENTION_SIMT_TUNABLES(X)                                                                 \
    X(TX, "work-items across keys and features", 16, 4, 8, 16, 32)                                 \
    X(TY, "work-items across queries", 16, 4, 8, 16, 32)                                           \
    X(RQ, "queries of a work-item", 4, 1, 2, 4, 8)                                                 \
    X(RK, "keys of a work-item", 4, 1, 2, 4, 8)                                                    \
    X(DC, "features staged at a time", 16, 4, 8, 16, 32)                                           \
    X(VC, "keys of V staged at a time", 16, 4, 8, 16, 32)                                          \
    X(KEEP_Q, "keep Q in local memory", 1, 0, 1)

enum { ATTENTION_SIMT_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_SIMT_TUNABLES(TUNABLE_ROW)};

enum {
    MAX_ACCUMULATORS = 144, /* registers of S and O: more would spill everywhere */
    MAX_SCORES = 64,        /* bits of the kernel's mask word */
    FEW_SCORES = 16,        /* where there may be no registers for more */
    FEW_REGISTERS = 256,    /* of a work-item */
    OTHER_REGISTERS = 40    /* addresses, counters */
};

/* Of S and O, in one work-item. */
static size_t accumulators(const struct attention *a, const int *values) {
    const size_t tx = (size_t)values[T_TX];
    return (size_t)values[T_RQ] * ((size_t)values[T_RK] + round_up(a->value_dim, tx) / tx);
}

/* Mirrors the local arrays of the kernel. */
static size_t local_bytes(const struct attention *a, const int *values) {
    const size_t tx = (size_t)values[T_TX], dc = (size_t)values[T_DC], vc = (size_t)values[T_VC];
    const size_t queries = (size_t)(values[T_TY] * values[T_RQ]);
    const size_t keys = tx * (size_t)values[T_RK], ldq = queries + 4, ldk = keys + 4;
    const bool keep = values[T_KEEP_Q];
    const size_t kept_q = keep ? round_up(a->head_dim, dc) * ldq : 0;
    const size_t k_step = dc * (ldk + (keep ? 0 : ldq));
    const size_t v_step = vc * (round_up(a->value_dim, tx) + ldq);
    const size_t stage = k_step > v_step ? k_step : v_step;
    return (kept_q + 2 * stage + tx * queries) * sizeof(float);
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    const size_t tx = (size_t)values[T_TX], ty = (size_t)values[T_TY];
    const size_t rq = (size_t)values[T_RQ], rk = (size_t)values[T_RK], vc = (size_t)values[T_VC];
    return tx * ty <= device_largest_group(device) && tx * ty <= device->max_items[0] &&
           tx * ty >= 16 && rq * rk <= MAX_SCORES && accumulators(a, values) <= MAX_ACCUMULATORS &&
           vc % tx == 0 && tx * rk % vc == 0 && local_bytes(a, values) <= device->local_bytes;
}

static void set(int *values, int tx, int ty, int rq, int rk, int dc, int vc) {
    values[T_TX] = tx, values[T_TY] = ty, values[T_RQ] = rq, values[T_RK] = rk;
    values[T_DC] = dc, values[T_VC] = vc;
}

/* Where registers are known, compilers fill three times as many with what they load ahead; more is
 * spilled, and found so by `make vendors`. */
static bool has_registers(const struct device *device, const struct attention *a,
                          const int *values) {
    const unsigned registers = device_lane_registers(device);
    if (registers != 0 && !device->is_cpu)
        return accumulators(a, values) <= (registers - OTHER_REGISTERS) / 4;
    return device->vendor == VENDOR_NVIDIA || values[T_RQ] * values[T_RK] <= FEW_SCORES;
}

static bool suits(const struct device *device, const struct attention *a, const int *values,
                  bool whole_blocks, bool enough_groups) {
    const size_t tile_q = (size_t)(values[T_TY] * values[T_RQ]);
    const size_t tile_k = (size_t)(values[T_TX] * values[T_RK]);
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    return fits(device, a, values) && has_registers(device, a, values) &&
           (!whole_blocks ||
            (attention_tiles_agree(tile_q, rows) && attention_tiles_agree(tile_k, cols))) &&
           (!enough_groups || attention_groups(a, tile_q) >= device_units(device));
}

static void guess(const struct device *device, const void *problem, int *values) {
    /* TX, TY, RQ, RK, DC, VC, by speed on an NVIDIA H200. The first is for wide heads; work-groups
     * of narrow ones share a compute unit, and with it a cache for instructions: their steps are
     * short. */
    static const int shapes[][6] = {
        {16, 16, 8, 8, 16, 16}, {8, 8, 8, 8, 8, 8},    {16, 8, 8, 8, 8, 16}, {16, 16, 4, 8, 8, 16},
        {16, 16, 4, 4, 16, 16}, {16, 8, 4, 4, 16, 16}, {8, 8, 4, 4, 16, 16}, {16, 4, 4, 1, 8, 16},
        {8, 8, 2, 2, 8, 8},     {8, 8, 1, 1, 4, 8},    {4, 4, 1, 1, 4, 4},
    };
    /* The same for GPUs that give a work-item 256 registers or fewer, not measured. */
    static const int small_shapes[][6] = {
        {16, 16, 4, 8, 8, 16},  {16, 16, 4, 4, 16, 16}, {16, 16, 2, 4, 16, 16},
        {16, 16, 2, 2, 16, 16}, {16, 8, 2, 2, 16, 16},  {8, 8, 2, 2, 8, 8},
        {16, 16, 1, 2, 16, 16}, {16, 8, 1, 1, 8, 16},   {8, 8, 1, 1, 4, 8},
        {4, 4, 1, 1, 4, 4},
    };
    enum {
        SHAPES = sizeof shapes / sizeof *shapes,
        SMALL_SHAPES = sizeof small_shapes / sizeof *small_shapes,
        FOR_CPUS = 8,
        NARROW = 64
    };
    const struct attention *a = problem;
    const unsigned registers = device_lane_registers(device);
    const bool few = !device->is_cpu && registers != 0 && registers <= FEW_REGISTERS;
    /* Work-items are a loop on a CPU, and registers few: only to run there at all. */
    const unsigned first =
        device->is_cpu ? FOR_CPUS : !few && a->head_dim <= NARROW && a->value_dim <= NARROW;
    for (int wish = 3; wish >= 0; wish--)
        for (unsigned i = first; i < (few ? (unsigned)SMALL_SHAPES : (unsigned)SHAPES); i++)
            for (values[T_KEEP_Q] = 1; values[T_KEEP_Q] >= 0; values[T_KEEP_Q]--) {
                const int *g = few ? small_shapes[i] : shapes[i];
                set(values, g[0], g[1], g[2], g[3], g[4], g[5]);
                if (suits(device, a, values, wish & 2, wish & 1))
                    return;
            }
    values[T_KEEP_Q] = 0;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    int values[T_COUNT];
    guess(device, problem, values);
    if (fits(device, problem, values))
        return true;
    snprintf(why, OP_WHY_BYTES, "work-groups of 16 items or local memory are too small");
    return false;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct attention *a = problem;
    const size_t tile_q = (size_t)(values[T_TY] * values[T_RQ]);
    const size_t tile_k = (size_t)(values[T_TX] * values[T_RK]);
    const clat_status st =
        attention_launch_common(a, tile_q, tile_k, (struct attention_split){0}, out);
    if (st != CLAT_OK)
        return st;
    op_define_sub_groups(&out->defines, device);
    struct pass *pass = &out->passes[0];
    pass->dims = 1;
    pass->local[0] = (size_t)(values[T_TX] * values[T_TY]);
    pass->global[0] = attention_groups(a, tile_q) * pass->local[0];
    attention_add_lists(device, a, out);
    return CLAT_OK;
}

const struct implementation attention_simt = {
    .name = "simt",
    .source = "attention_simt.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
