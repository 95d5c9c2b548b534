/* Attention of bf16 on CPUs with tile registers. The picture is in cl/attention_tile_cpu.cl. */
#include "attention.h"

#include "sizes.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ATTENTION_TILE_CPU_TUNABLES(X)                                                             \
    X(NV, "vectors of queries in a tile", 2, 2, 4, 6, 8)                                           \
    X(BK, "keys of a block", 128, 32, 64, 96, 128, 192, 256)                                       \
    X(SPLIT, "work-groups for each core, by splitting keys", 8, 0, 4, 8, 16)

enum { ATTENTION_TILE_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_TILE_CPU_TUNABLES(TUNABLE_ROW)};

/* As in the kernel. */
enum { LANES = 16, SIDE = 32, PACKED_STEPS = 8 };

enum {
    /* Private memory lies on the stacks of the runtime's threads. */
    PRIVATE_BYTES = 400 * 1024,
    /* With fewer, packing K and V does not pay. */
    MIN_QUERIES = 5
};

static size_t key_dim(const struct attention *a) {
    return round_up(a->head_dim, SIDE);
}

static size_t output_dim(const struct attention *a) {
    return round_up(a->value_dim, SIDE);
}

/* Of the packed K and V of one key head. */
static size_t packed_bytes(const struct attention *a) {
    return ceil_div(a->seq_k, SIDE) * (SIDE / 2 * (key_dim(a) + output_dim(a)) + LANES) *
           sizeof(uint32_t);
}

static bool can_be_packed(const struct attention *a) {
    size_t bytes;
    return size_multiply(a->batch * a->kv_heads, packed_bytes(a), &bytes) && bytes < SIZE_MAX / 2;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    else if (a->dtype != CLAT_BF16 || a->precision != CLAT_PRECISION_NATIVE)
        snprintf(why, OP_WHY_BYTES, "not bf16 in native precision");
    else if (a->score != NULL)
        snprintf(why, OP_WHY_BYTES, "score modifiers are not built into it");
    else if (a->seq_q < MIN_QUERIES)
        snprintf(why, OP_WHY_BYTES, "fewer than %d queries", MIN_QUERIES);
    else if (!can_be_packed(a))
        snprintf(why, OP_WHY_BYTES, "packed, K and V overflow 64 bits");
    else if (!device_can(device, CAP_BF16_TILE))
        snprintf(why, OP_WHY_BYTES, "the CPU has no bf16 tiles");
    else
        return true;
    return false;
}

/* Mirrors the private arrays of the kernel: words of Q^T, S^T and O^T. */
static bool fits(const struct device *device, const void *problem, const int *values) {
    (void)device;
    const size_t queries = (size_t)values[T_NV] * LANES, dim = output_dim(problem);
    return (key_dim(problem) / 2 + (size_t)values[T_BK] + dim) * queries * sizeof(float) <=
           PRIVATE_BYTES;
}

/* Few queries keep scores in the first cache; K and V that the second does not hold are worth
 * reading for more of them. */
static void guess(const struct device *device, const void *problem, int *values) {
    const struct attention *a = problem;
    const size_t more = 6 * LANES;
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    if (a->mask != NULL && cols == 1)
        values[T_BK] = 64; /* small tiles follow an irregular mask more closely */
    while (!attention_tiles_agree((size_t)values[T_BK], cols) && values[T_BK] > SIDE)
        values[T_BK] /= 2;
    if (packed_bytes(a) > device->l2_bytes && (a->mask == NULL || rows > 1) &&
        attention_tiles_agree(more, rows) && attention_groups(a, more) >= 2 * device->compute_units)
        values[T_NV] = 6;
}

/* Packed K and V of all key heads behind the partial results of a split. */
static void add_packed(const struct attention *a, struct launch *out) {
    struct attention_params params;
    struct pass *pack = &out->passes[0];
    const size_t units = a->batch * a->kv_heads, steps = ceil_div(a->seq_k, SIDE);
    const size_t start = round_up(out->workspace_bytes, LANES * sizeof(uint32_t));
    memcpy(&params, out->params, sizeof params);
    params.packed = (attention_size)(start / sizeof(uint32_t));
    memcpy(out->params, &params, sizeof params);
    /* One word at least: OpenCL knows no empty buffer. */
    out->workspace_bytes = start + units * packed_bytes(a) + sizeof(uint32_t);
    pack->dims = 1;
    pack->global[0] = units * (steps > 0 ? ceil_div(steps, PACKED_STEPS) : 1);
    pack->local[0] = 1;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct attention *a = problem;
    const size_t tile_q = (size_t)values[T_NV] * LANES, tile_k = (size_t)values[T_BK];
    const size_t tiles = attention_groups(a, tile_q);
    const size_t wanted = device->compute_units * (size_t)values[T_SPLIT];
    struct pass *pack = &out->passes[out->n_passes++], *pass = &out->passes[1];
    pack->kernel = "attention_pack";
    pass_arg(pack, ARG_BUFFER, ATTENTION_K, 0);
    pass_arg(pack, ARG_BUFFER, ATTENTION_V, 0);
    pass_arg(pack, ARG_PARAMS, 0, 0);
    pass_arg(pack, ARG_WORKSPACE, 0, 0);
    const clat_status st = attention_launch_common(
        a, tile_q, tile_k, attention_choose_split(a, wanted, tiles, tile_k), out);
    if (st != CLAT_OK)
        return st;
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
    pass->dims = 1;
    pass->global[0] = tiles;
    pass->local[0] = 1;
    attention_split_pass(a, tile_q, round_up(a->value_dim, LANES), pass, out);
    add_packed(a, out);
    attention_add_lists(device, a, out);
    return CLAT_OK;
}

const struct implementation attention_tile_cpu = {
    .name = "cpu_tile",
    .source = "attention_tile_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
