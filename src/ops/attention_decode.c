/* Attention of a few queries to many keys on CPU devices, at the speed of memory. The picture is in
 * cl/attention_decode.cl. */
#include "attention.h"

#include "sizes.h"

#include <stdio.h>

#define ATTENTION_DECODE_TUNABLES(X)                                                               \
    X(VW, "lanes of a vector", 16, 4, 8, 16)                                                       \
    X(BK, "keys of a block", 64, 16, 32, 64, 128, 256)                                             \
    X(AHEAD, "keys asked for ahead of their use", 0, 0, 2, 4, 8, 16)                               \
    X(SPLIT, "work-groups for each core, by splitting keys", 2, 1, 2, 4, 8)

enum { ATTENTION_DECODE_TUNABLES(TUNABLE_INDEX) T_COUNT };

static const struct tunable tunables[] = {ATTENTION_DECODE_TUNABLES(TUNABLE_ROW)};

enum {
    MAX_ROWS = 32, /* query rows of a key head; BQ of the kernel */
    MAX_QUERIES =
        4,          /* more of them fill vectors of queries, which attention_cpu.cl computes with */
    MIN_PART = 256, /* keys that are worth a work-group */
    AHEAD_BYTES = 4096 /* of K or V that should be under way: too few wait, too many crowd the first
                          cache */
};

static size_t rows_of_unit(const struct attention *a) {
    return a->heads / a->kv_heads * a->seq_q;
}

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    const struct attention *a = problem;
    if (!device->is_cpu)
        snprintf(why, OP_WHY_BYTES, "the device is no CPU");
    else if (a->mask != NULL)
        snprintf(why, OP_WHY_BYTES, "the mask is not one band of keys");
    else if (a->seq_q > MAX_QUERIES || rows_of_unit(a) > MAX_ROWS)
        snprintf(why, OP_WHY_BYTES, "more than %d queries, or %d that share a key head",
                 MAX_QUERIES, MAX_ROWS);
    else
        return true;
    return false;
}

static bool fits(const struct device *device, const void *problem, const int *values) {
    (void)device;
    (void)problem;
    return values[T_BK] >= values[T_VW];
}

/* What the cores' second caches hold is near enough; asking for it only costs. */
static bool is_in_cache(const struct device *device, const struct attention *a) {
    const double keys = (double)a->batch * (double)a->kv_heads * (double)a->seq_k;
    const double dims = (double)(a->head_dim + a->value_dim);
    const double bytes = keys * dims * (double)clat_dtype_bytes(a->dtype);
    return bytes <= (double)device->l2_bytes * device->compute_units;
}

static void guess(const struct device *device, const void *problem, int *values) {
    const struct attention *a = problem;
    const size_t row = a->head_dim * clat_dtype_bytes(a->dtype);
    values[T_VW] = device->f32_lanes >= 16 ? 16 : device->f32_lanes >= 8 ? 8 : 4;
    if (!is_in_cache(device, a))
        for (unsigned i = 0; i < tunable_count(&tunables[T_AHEAD]); i++)
            if ((size_t)tunables[T_AHEAD].candidates[i] * row <= AHEAD_BYTES)
                values[T_AHEAD] = tunables[T_AHEAD].candidates[i];
}

/* Parts of the keys: enough work-groups for all cores, each with enough to do. */
static size_t parts_of(const struct device *device, const struct attention *a, const int *values) {
    const size_t units = a->batch * a->kv_heads;
    const size_t wanted = ceil_div(device->compute_units * (size_t)values[T_SPLIT], units);
    const size_t worthwhile = a->seq_k / MIN_PART;
    const size_t parts = wanted < worthwhile ? wanted : worthwhile;
    return parts > 1 ? parts : 1;
}

static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    const struct attention *a = problem;
    const size_t units = a->batch * a->kv_heads, rows = rows_of_unit(a);
    const size_t parts = parts_of(device, a, values);
    const clat_status st = attention_launch_common(a, a->seq_q, (size_t)values[T_BK],
                                                   (struct attention_split){.parts = parts}, out);
    if (st != CLAT_OK)
        return st;
    struct pass *pass = &out->passes[0];
    pass->dims = 1;
    pass->global[0] = units * parts;
    pass->local[0] = 1;
    if (parts > 1) {
        /* O in whole vectors, the maximum and the sum: RECORD of the kernel. */
        const size_t record = round_up(a->value_dim, (size_t)values[T_VW]) + 2;
        attention_add_merge(a, units * parts * rows, record * sizeof(float), units * rows, out);
    }
    return CLAT_OK;
}

const struct implementation attention_decode = {
    .name = "decode",
    .source = "attention_decode.cl",
    .tunables = tunables,
    .n_tunables = T_COUNT,
    .supports = supports,
    .prefers = op_for_cpus,
    .fits = fits,
    .guess = guess,
    .launch = launch,
};
