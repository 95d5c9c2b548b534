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
    MAX_SCORES = 64         /* bits of the kernel's mask word */
};

/* Mirrors the local arrays of the kernel. */
static size_t local_bytes(const struct attention *a, const int *values) {
    const size_t tx = (size_t)values[T_TX], dc = (size_t)values[T_DC], vc = (size_t)values[T_VC];
    const size_t queries = (size_t)(values[T_TY] * values[T_RQ]);
    const size_t keys = tx * (size_t)values[T_RK], ldq = queries + 4, ldk = keys + 4;
    const size_t q_rows = values[T_KEEP_Q] ? round_up(a->head_dim, dc) : dc;
    const size_t k_floats = dc * ldk, v_floats = vc * round_up(a->head_dim, tx);
    const size_t stage = k_floats > v_floats ? k_floats : v_floats;
    return (q_rows * ldq + stage + keys * ldq + tx * queries) * sizeof(float);
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    const size_t tx = (size_t)values[T_TX], ty = (size_t)values[T_TY];
    const size_t rq = (size_t)values[T_RQ], rk = (size_t)values[T_RK];
    const size_t accumulators = rq * (rk + round_up(a->head_dim, tx) / tx);
    return tx * ty <= device->max_work_group && tx <= device->max_items[0] &&
           ty <= device->max_items[1] && tx * ty >= 16 && rq * rk <= MAX_SCORES &&
           accumulators <= MAX_ACCUMULATORS && tx * rk % (size_t)values[T_VC] == 0 &&
           local_bytes(a, values) <= device->local_bytes;
}

static void set(int *values, int tx, int ty, int rq, int rk, int dc, int vc) {
    values[T_TX] = tx, values[T_TY] = ty, values[T_RQ] = rq, values[T_RK] = rk;
    values[T_DC] = dc, values[T_VC] = vc;
}

/* Sizes of which one divides the other: no tile straddles the edge of a block. */
static bool agree(int tile, uint32_t block) {
    return (uint32_t)tile % block == 0 || block % (uint32_t)tile == 0;
}

static void guess(const struct device *device, const void *problem, int *values) {
    /* TX, TY, RQ, RK, DC, VC; the first that fits, and whose tiles agree with the mask's blocks if
     * there is such a one. */
    static const int gpu[][6] = {
        {16, 16, 4, 4, 16, 16}, {16, 8, 4, 4, 16, 16}, {16, 8, 4, 2, 16, 16}, {8, 8, 4, 4, 16, 16},
        {16, 4, 4, 1, 8, 8},    {8, 8, 2, 2, 8, 8},    {8, 8, 1, 1, 4, 4},    {4, 4, 1, 1, 4, 4},
    };
    enum { N_GPU = sizeof gpu / sizeof *gpu };
    /* Work-items are a loop on a CPU, and registers few: only to run there at all. */
    const unsigned first = device->is_cpu ? 5 : 0;
    const struct attention *a = problem;
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = first; i < N_GPU; i++)
            for (values[T_KEEP_Q] = 1; values[T_KEEP_Q] >= 0; values[T_KEEP_Q]--) {
                const int *g = gpu[i];
                set(values, g[0], g[1], g[2], g[3], g[4], g[5]);
                if (fits(device, problem, values) &&
                    (pass == 1 || (agree(g[1] * g[2], rows) && agree(g[0] * g[3], cols))))
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

static bool prefers(const struct device *device) {
    return !device->is_cpu;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    (void)device;
    const struct attention *a = problem;
    const size_t tile_q = (size_t)(values[T_TY] * values[T_RQ]);
    const size_t tile_k = (size_t)(values[T_TX] * values[T_RK]);
    const clat_status st =
        attention_launch_common(a, tile_q, tile_k, (struct attention_split){0}, out);
    if (st != CLAT_OK)
        return st;
    struct pass *pass = &out->passes[0];
    pass->dims = 2;
    pass->global[0] = attention_groups(a, tile_q) * (size_t)values[T_TX];
    pass->local[0] = (size_t)values[T_TX];
    pass->global[1] = pass->local[1] = (size_t)values[T_TY];
    return CLAT_OK;
}

const struct implementation attention_simt = {
    .name = "simt",
    .source = "attention_simt.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = prefers,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
