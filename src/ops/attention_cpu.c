/* Attention on CPU devices: one work-item per work-group, vectors across queries. The picture is in
 * cl/attention_cpu.cl. */
#include "attention.h"

#include "sizes.h"

#include <stdio.h>

#define ATTENTION_CPU_TUNABLES(X)                                                                  \
    X(VW, "lanes of a vector", 16, 4, 8, 16)                                                       \
    X(NV, "vectors of queries in a tile", 3, 1, 2, 3, 4)                                           \
    X(MR, "keys or features in a register tile", 8, 1, 2, 4, 6, 8, 12)                             \
    X(BK, "keys of a block", 64, 16, 32, 48, 64, 96, 128)                                          \
    X(PACK, "copy K and V blocks", 1, 0, 1)                                                        \
    X(SPLIT, "work-groups for each core, by splitting keys", 8, 0, 4, 8, 16)

enum { ATTENTION_CPU_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_CPU_TUNABLES(TUNABLE_ROW)};

/* Private memory lies on the stacks of the runtime's threads. */
enum { PRIVATE_BYTES = 400 * 1024 };

/* Registers that a tile keeps alive: accumulators, a row of Q^T or P^T. Scalars of K and V come
 * from memory. */
static bool fits_registers(const struct device *device, const int *values) {
    const size_t width =
        (size_t)values[T_VW] > device->f32_lanes ? (size_t)values[T_VW] / device->f32_lanes : 1;
    const size_t used = (size_t)((values[T_MR] + 1) * values[T_NV]) * width;
    return used < device_vector_registers(device);
}

/* Mirrors the private arrays of the kernel; those of words are half as large. */
static size_t private_bytes(const struct attention *a, const int *values) {
    const size_t queries = (size_t)(values[T_VW] * values[T_NV]), keys = (size_t)values[T_BK];
    const size_t width = (size_t)values[T_VW];
    const size_t rows = round_up(a->head_dim, 2 * width) +
                        round_up(round_up(a->value_dim, (size_t)values[T_MR]), width);
    const size_t floats = (rows + keys + 1) * queries + (values[T_PACK] ? keys * rows : 0);
    return floats * sizeof(float);
}

/* Whether pairs of bf16 are multiplied by the device's own instruction. */
static bool uses_bf16_dot(const struct device *device, const struct attention *a) {
    return a->precision == CLAT_PRECISION_NATIVE && a->dtype == CLAT_BF16 &&
           device_can(device, CAP_BF16_DOT);
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    (void)problem;
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    return device->is_cpu;
}

/* Read in place: no conversion, no gathering, no padding. */
static bool may_read_in_place(const struct attention *a, const int *values) {
    return a->dtype == CLAT_F32 && attention_unit_features(a) &&
           a->value_dim % (size_t)values[T_MR] == 0;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    return values[T_BK] % values[T_MR] == 0 && fits_registers(device, values) &&
           private_bytes(a, values) <= PRIVATE_BYTES &&
           (values[T_PACK] || may_read_in_place(a, values)) &&
           (!uses_bf16_dot(device, a) || (values[T_VW] == 16 && values[T_MR] % 2 == 0));
}

/* Queries of a tile, in vectors: as many as registers hold, less where tiles would straddle blocks
 * of the mask, or be too few for all cores although their keys are split. */
static int guess_vectors(const struct device *device, const struct attention *a, const int *values,
                         uint32_t block_rows) {
    const size_t width = (size_t)values[T_VW];
    const size_t wanted =
        ceil_div(2 * device->compute_units, attention_worthwhile_parts(a, (size_t)values[T_BK]));
    int vectors = 3;
    if (a->mask != NULL && block_rows == 1)
        vectors = 2; /* small tiles follow an irregular mask more closely */
    while (vectors > 1 && width * (size_t)(vectors - 1) >= a->seq_q)
        vectors--;
    while (vectors > 2 && attention_groups(a, width * (size_t)vectors) < wanted)
        vectors--;
    while (vectors > 1 && !attention_tiles_agree(width * (size_t)vectors, block_rows))
        vectors--;
    return vectors;
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct attention *a = problem;
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    values[T_VW] = device->f32_lanes >= 16 ? 16 : device->f32_lanes >= 8 ? 8 : 4;
    if (uses_bf16_dot(device, a))
        values[T_VW] = 16;
    values[T_MR] = device_vector_registers(device) < 32 ? 4 : 8;
    values[T_BK] = a->mask != NULL && cols == 1 ? 32 : 64;
    while (!attention_tiles_agree((size_t)values[T_BK], cols) && values[T_BK] > 16)
        values[T_BK] /= 2;
    values[T_NV] = guess_vectors(device, a, values, rows);
    values[T_PACK] = 0;
    values[T_PACK] = !may_read_in_place(a, values);
    while (!fits(device, problem, values) && values[T_BK] > 16)
        values[T_BK] /= 2;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct attention *a = problem;
    const size_t tile_q = (size_t)(values[T_VW] * values[T_NV]);
    const size_t tile_k = (size_t)values[T_BK], tiles = attention_groups(a, tile_q);
    const size_t wanted = device->compute_units * (size_t)values[T_SPLIT];
    const clat_status st = attention_launch_common(
        a, tile_q, tile_k, attention_choose_split(a, wanted, tiles, tile_k), out);
    if (st != CLAT_OK)
        return st;
    struct pass *pass = &out->passes[0];
    pass->dims = 1;
    pass->global[0] = tiles;
    pass->local[0] = 1;
    text_printf(&out->defines, "#define BF16_DOT %d\n", uses_bf16_dot(device, a));
    attention_split_pass(a, tile_q, round_up(a->value_dim, (size_t)values[T_VW]), pass, out);
    attention_add_lists(device, a, out);
    return CLAT_OK;
}

const struct implementation attention_cpu = {
    .name = "cpu",
    .source = "attention_cpu.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
