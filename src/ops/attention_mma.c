/* Attention of f16 and bf16 on matrix engines. The picture is in cl/attention_mma.cl. */
#include "attention.h"

#include "engine.h"
#include "sizes.h"

#include <stdio.h>
#include <string.h>

#define ATTENTION_MMA_TUNABLES(X)                                                                  \
    X(SG, "sub-groups of a work-group", 4, 1, 2, 4, 8)                                             \
    X(RQ, "fragments of queries of a sub-group", 2, 1, 2, 4)                                       \
    X(BK, "keys of a tile", 64, 16, 32, 64, 128)                                                   \
    X(STAGES, "tiles of K and V in local memory", 1, 1, 2)                                         \
    X(KEEP_Q, "keep Q in registers", 0, 0, 1)

enum { ATTENTION_MMA_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_MMA_TUNABLES(TUNABLE_ROW)};

/* As in the kernel: features are filled up to a multiple of DEPTH, which is that of a fragment;
 * chunks have CHUNK elements. */
enum { DEPTH = 16, CHUNK = 8, ELEMENT_BYTES = 2 };

enum {
    /* Of the stride from row to row where they are chunked: a tile's offsets fit 32 bits. */
    MAX_ROW = 1 << 21,
    /* Elements of a tile of V. Products with more of them Intel's compiler does not unroll, and
     * sums stay in memory. */
    MOST_UNROLLED = 2048
};

static size_t tile_q(const struct engine *engine, const int *values) {
    return (size_t)(values[T_SG] * values[T_RQ]) * engine->n;
}

/* Of Q and K; of V and O; of a line of a tile, which holds either. */
static size_t key_dim(const struct attention *a) {
    return round_up(a->head_dim, DEPTH);
}

static size_t output_dim(const struct attention *a) {
    return round_up(a->value_dim, DEPTH);
}

static size_t line_dim(const struct attention *a) {
    return key_dim(a) > output_dim(a) ? key_dim(a) : output_dim(a);
}

/* Mirrors the local arrays of the kernel. */
static size_t local_bytes(const struct device *device, const struct engine *engine,
                          const struct attention *a, const int *values) {
    const size_t queries = tile_q(engine, values), dim = line_dim(a), out = output_dim(a);
    const size_t keys = (size_t)(2 * values[T_STAGES] * values[T_BK]);
    const size_t spoilt = queries * ceil_div(dim, 32) * sizeof(uint32_t);
    const size_t lefts = (out > (size_t)values[T_BK] ? out : (size_t)values[T_BK]) / engine->m;
    return (queries + keys) * dim * ELEMENT_BYTES + spoilt + sizeof(int32_t) +
           (size_t)values[T_SG] *
               engine_scratch_bytes(device, engine, a->dtype, lefts, (size_t)values[T_RQ]);
}

/* Of S^T, O^T and what is kept of Q^T, in one lane. */
static size_t registers(const struct engine *engine, const struct attention *a, const int *values) {
    const size_t queries = (size_t)values[T_RQ] * engine->n;
    const size_t sums = ((size_t)values[T_BK] + output_dim(a)) * queries / engine->lanes;
    return sums + (values[T_KEEP_Q] ? key_dim(a) * queries / engine->lanes / 2 : 0);
}

/* Of an engine's registers: what is left holds operands and addresses. The latter are many where V
 * is loaded by elements (MMA_TURNS). Found by compiling for them, as `make vendors` does; Intel's
 * compiler moves many loads ahead. */
static size_t most_registers(const struct engine *engine) {
    if (engine->blocks)
        return 144;
    if (engine->turns)
        return 200;
    return engine->registers > 256 ? 256 : 96;
}

static bool fits_engine(const struct device *device, const struct engine *engine,
                        const struct attention *a, const int *values) {
    const size_t items = (size_t)values[T_SG] * engine->lanes;
    return items <= device_largest_group(device) && items <= device->max_items[0] &&
           registers(engine, a, values) <= most_registers(engine) &&
           (!engine->blocks || (size_t)values[T_BK] * line_dim(a) <= MOST_UNROLLED) &&
           local_bytes(device, engine, a, values) <= device_static_local_bytes(device);
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    const struct engine *engine = engine_find(device, a->dtype);
    return engine != NULL && fits_engine(device, engine, a, values);
}

/* More keys would take more addresses than registers are left, where V is loaded by elements. */
static int most_keys(const struct engine *engine) {
    return engine->turns ? 128 : 32;
}

/* Fewer queries where there are no more. */
static void shrink(const struct engine *engine, const struct attention *a, int *values) {
    while (values[T_SG] > 1 && tile_q(engine, values) / 2 >= a->seq_q)
        values[T_SG] /= 2;
    while (values[T_RQ] > 1 && tile_q(engine, values) / 2 >= a->seq_q)
        values[T_RQ] /= 2;
}

/* The first that fits, with room for a second work-group in local memory and in agreement with the
 * mask's blocks if there is such a one. */
static void guess(const struct device *device, const void *problem, int *values) {
    static const int shapes[][2] = {{2, 128}, {2, 64}, {2, 32}, {1, 64}, {1, 32}, {1, 16}};
    enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_GROUPS = 3 };
    const struct attention *a = problem;
    const struct engine *engine = engine_find(device, a->dtype);
    uint32_t rows, cols;
    if (engine == NULL)
        return;
    const int subgroups = engine->lanes < 32 ? 8 : 4;
    mask_grain(a->mask, &rows, &cols);
    for (unsigned pass = 0; pass < 3; pass++)
        for (unsigned i = 0; i < N_SHAPES * N_GROUPS; i++) {
            values[T_SG] = subgroups >> i / N_SHAPES, values[T_RQ] = shapes[i % N_SHAPES][0];
            values[T_BK] = shapes[i % N_SHAPES][1];
            if (values[T_BK] > most_keys(engine))
                continue;
            shrink(engine, a, values);
            const bool agrees = attention_tiles_agree(tile_q(engine, values), rows) &&
                                attention_tiles_agree((size_t)values[T_BK], cols);
            const size_t room = device_static_local_bytes(device) / (pass < 2 ? 2 : 1);
            if ((agrees || pass > 0) && local_bytes(device, engine, a, values) <= room &&
                fits_engine(device, engine, a, values))
                return;
        }
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    int values[T_COUNT] = {[T_STAGES] = 1};
    if (a->dtype == CLAT_F32 || a->precision != CLAT_PRECISION_NATIVE) {
        snprintf(why, OP_WHY_BYTES, "not f16 or bf16 in native precision");
        return false;
    }
    if (engine_find(device, a->dtype) == NULL) {
        snprintf(why, OP_WHY_BYTES, "the device has no matrix engine for %s",
                 clat_dtype_name(a->dtype));
        return false;
    }
    guess(device, problem, values);
    if (fits(device, problem, values))
        return true;
    snprintf(why, OP_WHY_BYTES, "registers, local memory or work-groups are too small");
    return false;
}

/* Rows that begin at multiples of 16 bytes, if the offset is one. */
static bool is_chunked(const struct attention *a, enum attention_role role) {
    size_t extent[4], stride[4];
    attention_extent(a, role, extent, stride);
    for (unsigned i = 0; i < 3; i++)
        if (extent[i] > 1 && stride[i] % CHUNK != 0)
            return false;
    return extent[3] % CHUNK == 0 && stride[3] == 1 && stride[2] <= MAX_ROW;
}

static bool all_chunked(const struct attention *a) {
    return is_chunked(a, ATTENTION_Q) && is_chunked(a, ATTENTION_K) && is_chunked(a, ATTENTION_V) &&
           is_chunked(a, ATTENTION_O);
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    clat_status st = CLAT_OK;
    const struct attention *a = problem;
    const struct engine *engine = engine_find(device, a->dtype);
    const size_t queries = tile_q(engine, values);
    const size_t items = (size_t)values[T_SG] * engine->lanes;
    struct attention_params params;
    TRY(attention_launch_common(a, queries, (size_t)values[T_BK], (struct attention_split){0},
                                out));
    memcpy(&params, out->params, sizeof params);
    params.section = params.last_first ? (attention_int)attention_section_heads(a) : 1;
    memcpy(out->params, &params, sizeof params);
    engine_define(&out->defines, device, engine, a->dtype);
    text_printf(&out->defines, "#define CHUNKED %d\n", all_chunked(a));
    TRY(text_check(&out->defines));
    out->passes[0].dims = 1;
    out->passes[0].global[0] = attention_groups(a, queries) * items;
    out->passes[0].local[0] = items;
    attention_add_lists(device, a, out);
out:
    return st;
}

const struct implementation attention_mma = {
    .name = "mma",
    .source = "attention_mma.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
