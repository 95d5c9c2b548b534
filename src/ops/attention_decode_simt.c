/* Attention of a few queries to many keys on any GPU, at the speed of memory. The picture is in
 * cl/attention_decode_simt.cl. */
#include "attention.h"

#include "engine.h"
#include "sizes.h"

#include <stdio.h>

#define ATTENTION_DECODE_SIMT_TUNABLES(X)                                                          \
    X(GROUP, "work-items of a work-group", 256, 64, 128, 256, 512)                                 \
    X(ROWS, "query rows of a work-group", 4, 1, 2, 4, 8)                                           \
    X(KEYS, "keys of a team in a block", 4, 1, 2, 4, 8)                                            \
    X(SPLIT, "work-groups for each compute unit, by splitting keys", 2, 1, 2, 3, 4)

enum { ATTENTION_DECODE_SIMT_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_DECODE_SIMT_TUNABLES(TUNABLE_ROW)};

enum {
    MAX_QUERIES = 16, /* more of them fill tiles, and those compute faster */
    /* Query rows of a key head: K and V are read once for each ROWS of them. Matrix engines compute
     * so much faster that more rows make up for tiles that are not full. */
    MAX_ROWS = 64,
    MAX_ROWS_BESIDE_MMA = 16,
    MAX_ROWS_BESIDE_WGMMA = 4,
    CHUNK_BYTES = 16,
    MIN_PART = 128,       /* keys that are worth a work-group */
    MOST_REGISTERS = 144, /* of chunks and floats in one work-item: more would crowd */
    MERGE_ITEMS = 256
};

static size_t rows_of_unit(const struct attention *a) {
    return a->heads / a->kv_heads * a->seq_q;
}

static size_t chunk_of(const struct attention *a) {
    return CHUNK_BYTES / clat_dtype_bytes(a->dtype);
}

/* Work-items for a row of K, of V, of either. */
static size_t key_lanes(const struct attention *a) {
    return ceil_div(a->head_dim, chunk_of(a));
}

static size_t value_lanes(const struct attention *a) {
    return ceil_div(a->value_dim, chunk_of(a));
}

static size_t lanes_of(const struct attention *a) {
    return key_lanes(a) > value_lanes(a) ? key_lanes(a) : value_lanes(a);
}

static size_t teams_of(const struct attention *a, const int *values) {
    return (size_t)values[T_GROUP] / lanes_of(a);
}

/* Work-groups without a split. */
static size_t groups_of(const struct attention *a, const int *values) {
    return a->batch * a->kv_heads * ceil_div(rows_of_unit(a), (size_t)values[T_ROWS]);
}

/* Parts of the keys: one round of work-groups for the whole device, each with enough to do. */
static size_t parts_of(const struct device *device, const struct attention *a, const int *values) {
    const size_t groups = groups_of(a, values);
    const size_t all = device_units(device) * (size_t)values[T_SPLIT];
    const size_t wanted = groups > 0 ? all / groups : 1; /* without queries there are none */
    const size_t worthwhile = a->seq_k / MIN_PART;
    const size_t parts = wanted < worthwhile ? wanted : worthwhile;
    return parts <= 1 ? 1 : parts < ATTENTION_MAX_PARTS ? parts : ATTENTION_MAX_PARTS;
}

/* Mirrors the local arrays of the kernels. */
static size_t local_bytes(const struct device *device, const struct attention *a,
                          const int *values) {
    const size_t merge = parts_of(device, a, values) > 1 ? ATTENTION_MERGE_LOCAL_BYTES : 0;
    const size_t rows = (size_t)values[T_ROWS], keys = (size_t)values[T_KEYS];
    const size_t teams = teams_of(a, values), floats = chunk_of(a), block = teams * keys;
    const size_t at_once = keys * 4 / floats > 1 ? keys * 4 / floats : 1;
    const size_t o_rows = at_once < rows ? at_once : rows;
    const size_t o_bytes = o_rows * teams * value_lanes(a) * floats * sizeof(float);
    const size_t k_bytes = block * (key_lanes(a) | 1) * CHUNK_BYTES;
    const size_t others = key_lanes(a) * floats + block + 2 * teams + 4; /* floats of a row */
    const size_t bytes = (k_bytes > o_bytes ? k_bytes : o_bytes) + rows * others * sizeof(float);
    return bytes > merge ? bytes : merge;
}

/* O, K, V and the weights in one work-item. */
static size_t registers(const struct attention *a, const int *values) {
    const size_t rows = (size_t)values[T_ROWS], keys = (size_t)values[T_KEYS];
    return rows * (chunk_of(a) + 2) + 2 * keys * 4 + keys * rows;
}

/* Compilers fill twice as many, and spill the rest; found by `make vendors`. */
static size_t most_registers(const struct device *device) {
    const unsigned lane = device_lane_registers(device), most = lane / 3;
    return lane > 0 && most < MOST_REGISTERS ? most : MOST_REGISTERS;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    const struct attention *a = problem;
    const size_t items = (size_t)values[T_GROUP];
    return items <= device_largest_group(device) && items <= device->max_items[0] &&
           teams_of(a, values) > 0 && registers(a, values) <= most_registers(device) &&
           local_bytes(device, a, values) <= device->local_bytes;
}

/* Whether a work-group of each compute unit has a few blocks of so many keys. */
static bool has_blocks(const struct device *device, const struct attention *a, const int *values) {
    enum { BLOCKS = 4 };
    const size_t block = teams_of(a, values) * (size_t)values[T_KEYS];
    return a->seq_k * groups_of(a, values) >= BLOCKS * block * device_units(device);
}

/* Many keys at a time keep enough of them under way with one work-group on each compute unit, and
 * few parts are soon merged; but keys may be few, local memory or registers too small. */
static void guess(const struct device *device, const void *problem, int *values) {
    const struct attention *a = problem;
    const size_t rows = rows_of_unit(a);
    for (values[T_ROWS] = 8; values[T_ROWS] > 0; values[T_ROWS] /= 2)
        for (values[T_GROUP] = 256; values[T_GROUP] > 32; values[T_GROUP] /= 2)
            for (values[T_KEYS] = 8; values[T_KEYS] > 0; values[T_KEYS] /= 2) {
                values[T_SPLIT] = values[T_ROWS] < 8 && values[T_KEYS] < 8 ? 2 : 1;
                if ((size_t)values[T_ROWS] < 2 * rows && fits(device, a, values) &&
                    (values[T_KEYS] < 8 || has_blocks(device, a, values)))
                    return;
            }
    values[T_ROWS] = values[T_KEYS] = 1, values[T_GROUP] = 64;
}

static size_t most_rows(struct device *device, const struct attention *a) {
    if (a->dtype == CLAT_F32 || a->precision != CLAT_PRECISION_NATIVE)
        return MAX_ROWS;
    if (device_can(device, CAP_WGMMA))
        return MAX_ROWS_BESIDE_WGMMA;
    return engine_find(device, a->dtype) != NULL ? MAX_ROWS_BESIDE_MMA : MAX_ROWS;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    int values[T_COUNT];
    if (a->mask != NULL) {
        snprintf(why, OP_WHY_BYTES, "the mask is not one band of keys");
        return false;
    }
    if (a->seq_q > MAX_QUERIES || rows_of_unit(a) > most_rows(device, a)) {
        snprintf(why, OP_WHY_BYTES, "more than %d queries, or %zu that share a key head",
                 MAX_QUERIES, most_rows(device, a));
        return false;
    }
    guess(device, problem, values);
    if (fits(device, problem, values) && device_largest_group(device) >= MERGE_ITEMS &&
        device->max_items[0] >= MERGE_ITEMS)
        return true;
    snprintf(why, OP_WHY_BYTES, "work-groups of %d items or local memory are too small",
             MERGE_ITEMS);
    return false;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct attention *a = problem;
    const size_t parts = parts_of(device, a, values), items = (size_t)values[T_GROUP];
    const clat_status st =
        attention_launch_common(a, (size_t)values[T_ROWS], teams_of(a, values), /* not used */
                                (struct attention_split){.parts = parts}, out);
    if (st != CLAT_OK)
        return st;
    op_define_sub_groups(&out->defines, device);
    struct pass *pass = &out->passes[0];
    pass->dims = 1;
    pass->local[0] = items;
    pass->global[0] = groups_of(a, values) * parts * items;
    if (parts > 1)
        attention_add_wide_merge(a, parts, out);
    return CLAT_OK;
}

const struct implementation attention_decode_simt = {
    .name = "decode_simt",
    .source = "attention_decode_simt.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_gpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
