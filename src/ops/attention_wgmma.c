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
    X(TURNS, "warpgroups take turns at the tensor cores", 0, 0, 1)                                 \
    X(RESIDENT, "work-groups of a multiprocessor", 1, 1, 2, 3)

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
    TURN_BYTES = 48,
    HEADER_BYTES = 512, /* of the workspace: three tensor maps and a counter */
    MAX_PARTS = 64,
    RESERVED_BYTES = 1024 /* of local memory, by the driver for each work-group */
};

/* Strides of tensor maps are below 2^40 bytes. */
static const size_t MAX_STRIDE = ((size_t)1 << 40) / ELEMENT_BYTES - 1;

/* A single query of each head that sees all keys: the heads that share theirs are rows of a tile.
 * Score modifiers are told heads and queries as they are. */
static struct attention gathered(const struct attention *a) {
    struct attention g = *a;
    if (a->seq_q != 1 || a->score != NULL || a->mask != NULL || a->band.low > -MASK_FAR ||
        a->band.high < MASK_FAR)
        return g;
    const size_t group = a->heads / a->kv_heads;
    g.seq_q = group;
    g.heads = a->kv_heads;
    g.q.seq = a->q.head, g.q.head = group * a->q.head;
    g.o.seq = a->o.head, g.o.head = group * a->o.head;
    return g;
}

/* Features of O as products take them: those of hopper.clh's table that are multiples of 16. */
static size_t output_dim(const struct attention *a) {
    static const unsigned short widths[] = {16, 32, 64, 80, 96, 128, 160, 192, 256};
    unsigned i = 0;
    while (widths[i] < a->value_dim)
        i++;
    return widths[i];
}

static size_t tile_q(const int *values) {
    return (size_t)values[T_CW] * ROWS;
}

/* Mirrors the local arrays of the kernel. */
static size_t local_bytes(const struct attention *a, const int *values) {
    const size_t key_line = round_up(a->head_dim, PANEL) * ELEMENT_BYTES;
    const size_t value_line = round_up(a->value_dim, PANEL) * ELEMENT_BYTES;
    const size_t stages = (size_t)values[T_STAGES], q_stages = (size_t)values[T_Q_STAGES];
    const size_t tiles = q_stages * tile_q(values) * key_line +
                         stages * (size_t)values[T_BK] * (key_line + value_line);
    const size_t barriers = 2 * (2 * stages + q_stages + TURN_STAGES);
    return tiles + barriers * BARRIER_BYTES + TURN_STAGES * TURN_BYTES;
}

/* S, P and O in one work-item, and what it takes beside them, of what the kernel deals out to those
 * that compute. Found by compiling, as `make vendors` does. */
static bool has_registers(const struct attention *a, const int *values) {
    enum { OTHERS = 28, WIDE = 128 };
    const size_t keys = (size_t)values[T_BK], dim = output_dim(a);
    const size_t dealt[] = {240, dim > WIDE ? 240 : 224, 160, 112}; /* REGISTERS_COMPUTING_ */
    const size_t dealt_to_many[] = {200, 128};                      /* ..._1, RESIDENT 2 and 3 */
    const size_t registers =
        values[T_RESIDENT] == 1 ? dealt[values[T_CW] - 1] : dealt_to_many[values[T_RESIDENT] - 2];
    return keys / 2 + keys / 4 + dim / 2 + OTHERS <= registers;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    return has_registers(a, values) &&
           (local_bytes(a, values) + RESERVED_BYTES) * (size_t)values[T_RESIDENT] <=
               device_static_local_bytes(device) + RESERVED_BYTES &&
           (values[T_CW] == 1 ? !values[T_TURNS] : values[T_RESIDENT] == 1);
}

/* Forms by speed on an NVIDIA H100. Small ones waste less at the edges of masks; where there are
 * few features, several of them share a multiprocessor, and fill each other's gaps. The last one is
 * for short causal sequences, unless a tile of it has room for all of their queries. */
static const struct form {
    int cw, bk, q_stages, turns, resident;
} forms[] = {{3, 128, 2, 1, 1}, {2, 128, 2, 1, 1}, {2, 96, 1, 1, 1}, {2, 80, 1, 1, 1},
             {1, 128, 2, 0, 1}, {1, 80, 1, 0, 1},  {1, 64, 2, 0, 3}, {1, 64, 2, 0, 1},
             {1, 64, 1, 0, 1},  {4, 64, 2, 1, 1}};

enum { N_FORMS = sizeof forms / sizeof *forms, NOT_TALL = 1, SMALL = 6, MANY_ROWS = 9 };

static void set(int *values, const struct form *form) {
    values[T_CW] = form->cw, values[T_BK] = form->bk;
    values[T_Q_STAGES] = form->q_stages, values[T_TURNS] = form->turns;
    values[T_RESIDENT] = form->resident;
}

/* Whether no tile straddles the edge of a mask's block, and none holds two: such tiles are full. */
static bool is_in_block(const int *values, uint32_t rows, uint32_t cols) {
    return rows % tile_q(values) == 0 && cols % (uint32_t)values[T_BK] == 0;
}

/* Query tiles, one after the other. */
static double rounds_of(const struct device *device, const struct attention *a, unsigned form) {
    return (double)ceil_div(attention_groups(a, (size_t)forms[form].cw * ROWS),
                            device_units(device));
}

/* Of a band. Tall tiles of many keys waste much of what they compute at its edges, if there is
 * little else; they do so less where it has but one. */
static unsigned first_form(const struct device *device, const struct attention *a, int *values) {
    enum { FEW = 640 };        /* keys of a query */
    const double LOWER = 0.87; /* of the time of a tall tile */
    const double all = (double)a->seq_q * (double)a->seq_k;
    const double pairs = mask_band_pairs(a->band, (int64_t)a->seq_q, (int64_t)a->seq_k);
    const bool short_causal = a->band.low <= -MASK_FAR && a->seq_q > 3 * ROWS;
    const unsigned narrow = short_causal ? MANY_ROWS : SMALL;
    if (pairs >= (double)FEW * (double)a->seq_q || pairs >= 0.75 * all)
        return rounds_of(device, a, 0) <= LOWER * rounds_of(device, a, NOT_TALL) ? 0 : NOT_TALL;
    set(values, &forms[narrow]);
    return fits(device, a, values) ? narrow : NOT_TALL;
}

/* The first that fits. Of lists, the first whose tiles lie in blocks of the mask, else small ones:
 * of large ones more are partial. */
static void guess(const struct device *device, const void *problem, int *values) {
    const struct attention gather = gathered(problem), *a = &gather;
    const bool listed = a->mask != NULL;
    uint32_t rows, cols;
    mask_grain(a->mask, &rows, &cols);
    for (unsigned pass = listed ? 0 : 1; pass < 2; pass++)
        for (unsigned i = !listed    ? first_form(device, a, values)
                          : pass > 0 ? SMALL
                                     : 0;
             i < N_FORMS; i++) {
            set(values, &forms[i]);
            while (values[T_CW] > 1 && tile_q(values) - ROWS >= a->seq_q)
                values[T_CW]--;
            values[T_TURNS] &= values[T_CW] > 1;
            if ((pass > 0 || is_in_block(values, rows, cols)) && fits(device, problem, values))
                return;
        }
}

/* Whether a tensor map can describe it, if it begins at a multiple of 16 bytes. A row that is
 * repeated it cannot: no stride is 0. */
static bool is_mappable(const struct attention *a, enum attention_role role) {
    size_t extent[4], stride[4];
    attention_extent(a, role, extent, stride);
    for (unsigned i = 0; i < 3; i++)
        if (extent[i] > 1 && (stride[i] % CHUNK != 0 || stride[i] > MAX_STRIDE))
            return false;
    if (extent[2] > 1 && stride[2] == 0)
        return false;
    return extent[3] % CHUNK == 0 && stride[3] == 1;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    const struct attention gather = gathered(a);
    int values[T_COUNT] = {[T_STAGES] = 2, [T_RESIDENT] = 1};
    if (a->dtype == CLAT_F32 || a->precision != CLAT_PRECISION_NATIVE) {
        snprintf(why, OP_WHY_BYTES, "not f16 or bf16 in native precision");
        return false;
    }
    for (enum attention_role role = ATTENTION_Q; role <= ATTENTION_O; role++)
        if (!is_mappable(&gather, role)) {
            snprintf(why, OP_WHY_BYTES, "rows of %c are not whole chunks of 16 bytes, each its own",
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

/* Keys are split where there are fewer query tiles than work-groups would take: into as many parts
 * as make rounds of turns full, though each part has its price. */
static size_t parts_of(const struct attention *a, size_t tiles, size_t units, size_t tile_k) {
    const size_t worthwhile = attention_worthwhile_parts(a, tile_k);
    const size_t most = worthwhile < MAX_PARTS ? worthwhile : MAX_PARTS;
    size_t best = 1;
    double least = 0;
    for (size_t parts = 1; parts <= most && tiles < units; parts++) {
        const double rounds = (double)ceil_div(tiles * parts, units) / (double)parts;
        const double cost = rounds + 0.25 * (double)parts / (double)ceil_div(a->seq_k, tile_k);
        if (parts == 1 || cost < least)
            best = parts, least = cost;
    }
    return best;
}

/* Before all others. */
static void add_prepare(struct launch *out) {
    struct pass *prepare = launch_prepend(out);
    *prepare =
        (struct pass){.kernel = "attention_prepare", .dims = 1, .global = {32}, .local = {32}};
    for (unsigned role = ATTENTION_Q; role <= ATTENTION_V; role++)
        pass_arg(prepare, ARG_BUFFER, role, 0);
    pass_arg(prepare, ARG_PARAMS, 0, 0);
    pass_arg(prepare, ARG_WORKSPACE, 0, 0);
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    clat_status st = CLAT_OK;
    const struct attention gather = gathered(problem), *a = &gather;
    const size_t tiles = attention_groups(a, tile_q(values));
    const size_t units = device_units(device) * (size_t)values[T_RESIDENT];
    const size_t parts = parts_of(a, tiles, units, (size_t)values[T_BK]), turns = tiles * parts;
    struct attention_params params;
    TRY(attention_launch_common(a, tile_q(values), (size_t)values[T_BK],
                                (struct attention_split){.parts = parts}, out));
    memcpy(&params, out->params, sizeof params);
    params.section = params.last_first ? (attention_int)attention_section_heads(a) : 1;
    params.turns = (attention_int)turns;
    if (a->score != NULL) { /* which then multiplies, and the kernel need not know */
        params.score_scale *= params.sign;
        params.sign = 1;
    }
    memcpy(out->params, &params, sizeof params);
    text_printf(&out->defines, "#define V_DIM %zu\n#define NEGATIVE %d\n", output_dim(a),
                a->scale < 0 && a->score == NULL);
    TRY(text_check(&out->defines));
    struct pass *pass = &out->passes[0];
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
    pass->dims = 1;
    pass->local[0] = (size_t)(values[T_CW] + 1) * WARPGROUP;
    pass->global[0] = (turns < units ? turns : units) * pass->local[0];
    if (parts > 1)
        attention_add_wide_merge(a, parts, out);
    add_prepare(out);
    out->workspace_bytes += HEADER_BYTES;
    attention_add_lists(device, a, out);
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
