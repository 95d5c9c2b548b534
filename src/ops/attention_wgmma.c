/* Attention of f16 and bf16 on Hopper's warpgroup instructions. The picture is in
 * cl/attention_wgmma.cl. */
#include "attention.h"

#include "sizes.h"

#include <stdio.h>
#include <string.h>

#define ATTENTION_WGMMA_TUNABLES(X)                                                                \
    X(CW, "warpgroups that compute, of 64 queries each", 2, 1, 2, 3, 4)                            \
    X(BK, "keys of a tile", 128, 64, 80, 96, 128, 160, 192)                                        \
    X(STAGES, "tiles of K and of V in local memory", 2, 2, 3)                                      \
    X(Q_STAGES, "tiles of Q in local memory", 2, 1, 2)                                             \
    X(TURNS, "warpgroups take turns at the tensor cores", 0, 0, 1)

enum { ATTENTION_WGMMA_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_WGMMA_TUNABLES(TUNABLE_ROW)};

enum {
    ROWS = 64, /* of a warpgroup's products */
    WARPGROUP = 128,
    PANEL = 64, /* features in a line of a tile */
    ELEMENT_BYTES = 2,
    CHUNK = 8, /* elements in the 16 bytes that tensor maps count in */
    BARRIER_BYTES = 8,
    TURN_STAGES = 2,
    WORKSPACE_BYTES = 512 /* three tensor maps and a counter */
};

/* Strides of tensor maps are below 2^40 bytes. */
static const size_t MAX_STRIDE = ((size_t)1 << 40) / ELEMENT_BYTES - 1;

/* Features as products take them: those of hopper.clh's table that are multiples of 16. */
static size_t padded_dim(const struct attention *a) {
    static const unsigned short widths[] = {16, 32, 64, 80, 96, 128, 160, 192, 256};
    unsigned i = 0;
    while (widths[i] < a->head_dim)
        i++;
    return widths[i];
}

static size_t tile_q(const int *values) {
    return (size_t)values[T_CW] * ROWS;
}

/* Mirrors the local arrays of the kernel. */
static size_t local_bytes(const struct attention *a, const int *values) {
    const size_t line = round_up(padded_dim(a), PANEL) * ELEMENT_BYTES;
    const size_t stages = (size_t)values[T_STAGES], q_stages = (size_t)values[T_Q_STAGES];
    const size_t lines = q_stages * tile_q(values) + 2 * stages * (size_t)values[T_BK];
    const size_t barriers = 2 * (2 * stages + q_stages + TURN_STAGES);
    return lines * line + barriers * BARRIER_BYTES + TURN_STAGES * sizeof(int32_t);
}

/* S, P and O in one work-item, and what it takes beside them, of what the kernel deals out to those
 * that compute. Found by compiling, as `make vendors` does. */
static bool has_registers(const struct attention *a, const int *values) {
    enum { OTHERS = 28, WIDE = 128 };
    const size_t keys = (size_t)values[T_BK], dim = padded_dim(a);
    const size_t dealt[] = {240, dim > WIDE ? 240 : 224, 160, 112}; /* REGISTERS_COMPUTING_ */
    return keys / 2 + keys / 4 + dim / 2 + OTHERS <= dealt[values[T_CW] - 1];
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    return has_registers(a, values) &&
           local_bytes(a, values) <= device_static_local_bytes(device) &&
           (values[T_CW] > 1 || !values[T_TURNS]);
}

static void set(int *values, const int shape[4]) {
    values[T_CW] = shape[0], values[T_BK] = shape[1];
    values[T_Q_STAGES] = shape[2], values[T_TURNS] = shape[3];
}

/* The first that fits and whose tiles agree with the mask's blocks, if there is such a one. */
static void guess(const struct device *device, const void *problem, int *values) {
    /* CW, BK, Q_STAGES, TURNS, by speed on an NVIDIA H100. */
    static const int shapes[][4] = {{3, 128, 2, 1}, {2, 128, 2, 0}, {2, 96, 1, 0},
                                    {2, 80, 1, 0},  {1, 128, 2, 0}, {1, 80, 1, 0}};
    enum { N_SHAPES = sizeof shapes / sizeof *shapes };
    const struct attention *a = problem;
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < N_SHAPES; i++) {
            set(values, shapes[i]);
            while (values[T_CW] > 1 && tile_q(values) - ROWS >= a->seq_q)
                values[T_CW]--;
            values[T_TURNS] &= values[T_CW] > 1;
            if ((pass > 0 || (attention_tiles_agree(tile_q(values), rows) &&
                              attention_tiles_agree((size_t)values[T_BK], cols))) &&
                fits(device, problem, values))
                return;
        }
}

/* Whether a tensor map can describe it, if it begins at a multiple of 16 bytes. */
static bool is_mappable(const struct attention *a, enum attention_role role) {
    size_t extent[4], stride[4];
    attention_extent(a, role, extent, stride);
    for (unsigned i = 0; i < 3; i++)
        if (extent[i] > 1 && (stride[i] % CHUNK != 0 || stride[i] > MAX_STRIDE))
            return false;
    return a->head_dim % CHUNK == 0 && stride[3] == 1;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    int values[T_COUNT] = {[T_STAGES] = 2};
    if (a->dtype == CLAT_F32 || a->precision != CLAT_PRECISION_NATIVE) {
        snprintf(why, OP_WHY_BYTES, "not f16 or bf16 in native precision");
        return false;
    }
    for (enum attention_role role = ATTENTION_Q; role <= ATTENTION_O; role++)
        if (!is_mappable(a, role)) {
            snprintf(why, OP_WHY_BYTES, "rows of %c are not whole chunks of 16 bytes",
                     "qkvo"[role]);
            return false;
        }
    if (!device_can(device, CAP_WGMMA)) {
        snprintf(why, OP_WHY_BYTES, "the device has no warpgroup instructions");
        return false;
    }
    guess(device, problem, values);
    if (!fits(device, problem, values)) {
        snprintf(why, OP_WHY_BYTES, "registers or local memory are too small");
        return false;
    }
    if (attention_groups(a, ROWS) > INT32_MAX / 2) {
        snprintf(why, OP_WHY_BYTES, "more query tiles than an int counts");
        return false;
    }
    return true;
}

/* Before the pass that attention_launch_common() has made. */
static void insert_prepare(struct launch *out) {
    struct pass prepare = {.kernel = "attention_prepare", .dims = 1, .global = {32}, .local = {32}};
    for (unsigned role = ATTENTION_Q; role <= ATTENTION_V; role++)
        pass_arg(&prepare, ARG_BUFFER, role, 0);
    pass_arg(&prepare, ARG_PARAMS, 0, 0);
    pass_arg(&prepare, ARG_WORKSPACE, 0, 0);
    out->passes[1] = out->passes[0];
    out->passes[0] = prepare;
    out->n_passes = 2;
    out->workspace_bytes = WORKSPACE_BYTES;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    clat_status st = CLAT_OK;
    const struct attention *a = problem;
    const size_t groups = attention_groups(a, tile_q(values)), units = device_units(device);
    struct attention_params params;
    TRY(attention_launch_common(a, tile_q(values), (size_t)values[T_BK],
                                (struct attention_split){0}, out));
    memcpy(&params, out->params, sizeof params);
    params.section = params.last_first ? (attention_int)attention_section_heads(a) : 1;
    params.turns = (attention_int)groups;
    memcpy(out->params, &params, sizeof params);
    text_printf(&out->defines, "#define DIM %zu\n#define NEGATIVE %d\n", padded_dim(a),
                a->scale < 0);
    TRY(text_check(&out->defines));
    insert_prepare(out);
    struct pass *pass = &out->passes[1];
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
    pass->dims = 1;
    pass->local[0] = (size_t)(values[T_CW] + 1) * WARPGROUP;
    pass->global[0] = (groups < units ? groups : units) * pass->local[0];
out:
    return st;
}

const struct implementation attention_wgmma = {
    .name = "wgmma",
    .source = "attention_wgmma.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
