/*
 * Attention of bf16 for CPUs with tile registers (bf16_tile.clh): as attention_cpu.cl, a query in
 * each lane, but both products are of bf16 with f32 sums, weights rounded to bf16 among them.
 *
 *     32 x 32 of S^T = K Q^T                     32 x 32 of O^T += V^T P^T
 *
 *                    32 queries                                   32 queries
 *                 +------+------+                              +------+------+
 *                 |  6   |  7   |  16 words of                 |  6   |  7   |  16 words of
 *                 +------+------+  features                    +------+------+  keys
 *      16 words                                     16 words
 *     +------+    +------+------+                  +------+    +------+------+
 *     |  4   |    |  0   |  1   |                  |  4   |    |  0   |  1   |
 *     +------+    +------+------+  32 keys         +------+    +------+------+  32 features
 *     |  5   |    |  2   |  3   |                  |  5   |    |  2   |  3   |
 *     +------+    +------+------+                  +------+    +------+------+
 *
 * Rows of S^T make words of P^T in pairs. The kernel attention_pack comes first and lays K and V^T
 * out for all work-groups: K needs no more than padding, V its words along keys.
 *
 * Contract (tunables): NV vectors of queries, an even number, BK keys of a block, a multiple of 32.
 * See attention.clh for the variant; DTYPE is bf16.
 */
#if !defined(NV) || !defined(BK)
#error "attention_tile_cpu.cl: NV and BK must be defined"
#endif

#define VW 16
#define SIDE 32 /* of what four registers hold; elements along a row of one */
#define BQ (NV * VW)
#define KEY_ALIGN SIDE

#include "common.clh"
#include "attention_params.clh"
#include "attention.clh"
#include "attention_cpu.clh"
#include "attention_bf16.clh"
#include "bf16_tile.clh"

#define KEY_DIM ROUND_UP(HEAD_DIM, SIDE)
#define OUT_DIM ROUND_UP(VALUE_DIM, SIDE)
#define RUN_KEYS SIDE
#define RUN_VECTORS (SIDE / VW)

#include "attention_columns.clh"

#define TILE_WORDS (VW * VW)
/* From row to row: among BQ queries, in a packed tile. */
#define ROW_BYTES ((long)(BQ * sizeof(float)))
#define TILE_BYTES ((long)(VW * sizeof(uint)))

/* ---- K and V, packed ---- */

/*
 * For each SIDE keys of a key head, one after the other:
 *
 *     K    [features / 32][32 keys][16 words of features]
 *     V    [features / 16][16 features][16 words of keys]
 *     whether V holds NaN or infinities, which are zeros in the packed V: a line of the caches
 */
#define K_WORDS (SIDE / 2 * KEY_DIM)
#define V_WORDS (SIDE / 2 * OUT_DIM)
#define STEP_WORDS (K_WORDS + V_WORDS + VW)
#define PACKED_STEPS 8 /* of a work-group */

static inline int packed_steps(const struct attention_params *p)
{
    return (p->seq_k + SIDE - 1) / SIDE;
}

static inline void pack_keys(__global ushort *packed, __global const ushort *k, long seq,
                             long feature, int count)
{
    for (int d = 0; d < KEY_DIM; d += SIDE)
        for (int key = 0; key < SIDE; key++, packed += SIDE)
            for (int i = 0; i < SIDE; i += VW) {
                ushort16 x = 0;
                if (key < count)
                    x = load_elements(k + key * seq, feature, d + i, HEAD_DIM);
                VSTORE(16, x, packed + i);
            }
}

/* Zeros for what is no number; `bad` collects where any was. */
static inline ushort16 only_numbers(ushort16 x, ushort16 *bad)
{
    const ushort16 is_bad = as_ushort16((x & (ushort16)0x7f80) == (ushort16)0x7f80);
    *bad |= is_bad;
    return x & ~is_bad;
}

static inline void pack_values(__global uint *packed, __global const ushort *v, long seq,
                               long feature, int count)
{
    ushort16 bad = 0;
    for (int d = 0; d < OUT_DIM; d += VW, packed += TILE_WORDS) {
        float16 r[VW];
        UNROLL for (int i = 0; i < VW; i++) {
            __global const ushort *row = v + 2 * i * seq;
            ushort16 even = 0, odd = 0;
            if (2 * i < count)
                even = only_numbers(load_elements(row, feature, d, VALUE_DIM), &bad);
            if (2 * i + 1 < count)
                odd = only_numbers(load_elements(row + seq, feature, d, VALUE_DIM), &bad);
            r[i] = as_float16(convert_uint16(even) | convert_uint16(odd) << 16);
        }
        transpose_float16(r);
        UNROLL for (int i = 0; i < VW; i++)
            VSTORE(16, as_uint16(r[i]), packed + i * VW);
    }
    *packed = any(as_short16(bad) != (short16)0);
}

/* PACKED_STEPS steps of a key head. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
attention_pack(__global const element *restrict k, __global const element *restrict v,
               const struct attention_params p, __global uint *workspace)
{
    const int steps = packed_steps(&p), heads = p.heads / p.group;
    const long groups = max(1, (steps + PACKED_STEPS - 1) / PACKED_STEPS);
    const long unit = get_group_id(0) / groups;
    const int first = (int)(get_group_id(0) % groups) * PACKED_STEPS;
    const int batch = (int)(unit / heads), head = (int)(unit % heads);
    __global const element *head_k = k + head_offset(&p.k, batch, head);
    __global const element *head_v = v + head_offset(&p.v, batch, head);
    __global uint *packed = workspace + p.packed + (unit * steps + first) * STEP_WORDS;
    for (int step = first; step < min(first + PACKED_STEPS, steps); step++, packed += STEP_WORDS) {
        const long key = (long)step * SIDE;
        const int count = min(SIDE, (int)(p.seq_k - key));
        pack_keys((__global ushort *)packed, head_k + key * p.k.seq, p.k.seq, FEATURE_STRIDE(p.k),
                  count);
        pack_values(packed + K_WORDS, head_v + key * p.v.seq, p.v.seq, FEATURE_STRIDE(p.v), count);
    }
}

/* ---- the steps of a key block ---- */

/* Sums 0 .. 3 += two tiles from `a` on times two from `b` on. */
static inline void multiply_tiles(__global const uint *a, const float *b)
{
    TILE_LOAD(4, a, TILE_BYTES);
    TILE_LOAD(6, b, ROW_BYTES);
    TILE_LOAD(7, b + VW, ROW_BYTES);
    TILE_DOT(0, 4, 6);
    TILE_LOAD(5, a + TILE_WORDS, TILE_BYTES);
    TILE_DOT(1, 4, 7);
    TILE_DOT(2, 5, 6);
    TILE_DOT(3, 5, 7);
}

static inline void store_sums(float *sums)
{
    TILE_STORE(0, sums, ROW_BYTES);
    TILE_STORE(1, sums + VW, ROW_BYTES);
    TILE_STORE(2, sums + VW * BQ, ROW_BYTES);
    TILE_STORE(3, sums + VW * BQ + VW, ROW_BYTES);
}

/* 32 keys, 32 queries. */
static inline void score_step(float *st, const uint *qt, __global const uint *k)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int d = 0; d < KEY_DIM; d += SIDE, k += 2 * TILE_WORDS, qt += SIDE / 2 * BQ)
        multiply_tiles(k, (const float *)qt);
    store_sums(st);
}

/* `highest` grows to the maximum of `keys` rows of two vectors. */
static inline void find_highest(vec *highest, const float *st, int keys)
{
    vec top[4] = {highest[0], highest[1], highest[0], highest[1]};
    int key = 0;
    for (; key + 2 <= keys; key += 2, st += 2 * BQ)
        UNROLL for (int i = 0; i < 4; i++)
            top[i] = max(top[i], VLOAD(VW, st + i / 2 * BQ + i % 2 * VW));
    if (key < keys)
        UNROLL for (int i = 0; i < 2; i++)
            top[i] = max(top[i], VLOAD(VW, st + i * VW));
    highest[0] = max(top[0], top[2]);
    highest[1] = max(top[1], top[3]);
}

/* Rows past the last key of a run get a weight of 0. */
static inline void score_run(float *st, vec *highest, const uint *qt, __global const uint *packed,
                             const struct run *r)
{
    packed += (long)(r->key / SIDE) * STEP_WORDS;
    for (int v = r->vector; v < r->vector + r->vectors; v += RUN_VECTORS) {
        float *s = st + r->key * BQ + v * VW;
        __global const uint *k = packed;
        for (int left = r->keys; left > 0; left -= SIDE, s += SIDE * BQ, k += STEP_WORDS) {
            score_step(s, qt + v * VW, k);
            find_highest(highest + v, s, min(left, SIDE));
            for (int key = left; key < SIDE; key++)
                for (int i = 0; i < RUN_VECTORS; i++)
                    VSTORE(VW, (vec)-INFINITY, s + key * BQ + i * VW);
        }
    }
}

/* P^T from S^T in words, which take the first half of its rows. */
static inline void weigh_run(float *st, const vec *top, vec *sum, float log2_scale,
                             const struct run *r)
{
    const int end = ROUND_UP(r->key + r->keys, SIDE);
    for (int v = r->vector; v < r->vector + r->vectors; v += RUN_VECTORS) {
        vec added[2 * RUN_VECTORS] = {0};
        const vec highest[RUN_VECTORS] = {top[v], top[v + 1]};
        for (int key = r->key; key < end; key += 2)
            UNROLL for (int i = 0; i < RUN_VECTORS; i++) {
                float *s = st + key * BQ + (v + i) * VW;
                const vec even = weight_bf16((VLOAD(VW, s) - highest[i]) * log2_scale);
                const vec odd = weight_bf16((VLOAD(VW, s + BQ) - highest[i]) * log2_scale);
                added[2 * i] += even;
                added[2 * i + 1] += odd;
                VSTORE(VW, as_float16(round_words(even, odd)), st + key / 2 * BQ + (v + i) * VW);
            }
        UNROLL for (int i = 0; i < RUN_VECTORS; i++)
            sum[v + i] += added[2 * i] + added[2 * i + 1];
    }
}

/* O^T += V^T P^T for 32 features, 32 queries. */
static inline void add_values(float *ot, const float *pt, __global const uint *v, int keys)
{
    TILE_LOAD(0, ot, ROW_BYTES);
    TILE_LOAD(1, ot + VW, ROW_BYTES);
    TILE_LOAD(2, ot + VW * BQ, ROW_BYTES);
    TILE_LOAD(3, ot + VW * BQ + VW, ROW_BYTES);
    for (; keys > 0; keys -= SIDE, pt += SIDE / 2 * BQ, v += STEP_WORDS)
        multiply_tiles(v, pt);
    store_sums(ot);
}

static inline void add_run(float *ot, const float *st, __global const uint *packed,
                           const struct run *r)
{
    packed += (long)(r->key / SIDE) * STEP_WORDS + K_WORDS;
    for (int v = r->vector; v < r->vector + r->vectors; v += RUN_VECTORS)
        for (int d = 0; d < OUT_DIM; d += SIDE)
            add_values(ot + d * BQ + v * VW, st + r->key / 2 * BQ + v * VW, packed + d * VW,
                       r->keys);
}

/* ---- NaN and infinities in V ---- */

/* Adds them to the queries that see their key. Rare, hence by elements of V. */
static inline void add_no_numbers(float *ot, const float *st, __global const element *v,
                                  const struct attention_params *p, const struct query_tile *t,
                                  const struct key_tile *tile, mask_words words,
                                  const struct run *r)
{
    int query[BQ];
    for (int i = 0; i < BQ; i++)
        query[i] = t->first + min(i, t->rows - 1);
    for (int key = r->key; key < r->key + r->keys; key++)
        for (int d = 0; d < VALUE_DIM; d++) {
            const float value = LOAD(DTYPE, v + key * p->v.seq + d * FEATURE_STRIDE(p->v));
            if (isfinite(value))
                continue;
            for (int n = r->vector; n < r->vector + r->vectors; n++) {
                const uint16 pair = as_uint16(VLOAD(VW, st + key / 2 * BQ + n * VW));
                const vec w = as_float16(key % 2 ? pair & 0xffff0000u : pair << 16);
                const vec o = VLOAD(VW, ot + d * BQ + n * VW);
                ivec seen = 1;
                if (tile->partial)
                    seen = seen_by(p, t, words, query + n * VW, tile->first + key);
                VSTORE(VW, seen != 0 ? fma(w, (vec)value, o) : o, ot + d * BQ + n * VW);
            }
        }
}

static inline bool all_numbers(__global const uint *packed, int keys)
{
    uint bad = 0;
    for (int key = 0; key < keys; key += SIDE, packed += STEP_WORDS)
        bad |= packed[K_WORDS + V_WORDS];
    return bad == 0;
}

/* ---- a query tile ---- */

/* A weight may be as large as 2^SLACK: sums are rescaled for a maximum that is higher by more. Each
 * query by itself, so that none depends on its neighbours. */
#define SLACK 8

static inline void raise_top(float *ot, vec *top, vec *sum, const vec *highest, float log2_scale)
{
    vec alpha[NV];
    UNROLL for (int n = 0; n < NV; n++) {
        const ivec grows = (highest[n] - top[n]) * log2_scale > SLACK;
        alpha[n] = 1;
        if (any(grows)) {
            const vec before = top[n];
            top[n] = grows ? highest[n] : before;
            alpha[n] = weight((before - finite_top(top[n])) * log2_scale);
            sum[n] *= alpha[n];
        }
    }
    rescale(ot, alpha);
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
attention(ATTENTION_PARAMETERS, __global const uint *workspace)
{
    uint qt[KEY_DIM / 2 * BQ] __attribute__((aligned(64)));
    float st[BK * BQ] __attribute__((aligned(64)));
    float ot[OUT_DIM * BQ] __attribute__((aligned(64)));
    vec top[NV], sum[NV];

    MASK_BEGIN(p)
    const struct share share = share_of(&p, ITEMS, get_group_id(0));
    const struct query_tile t = query_tile(&p, share.group);
    const int kv_head = t.head / p.group;
    const long unit = (long)t.batch * (p.heads / p.group) + kv_head;
    __global const uint *head_packed = workspace + p.packed + unit * packed_steps(&p) * STEP_WORDS;
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);
    load_query_words(qt, q + head_offset(&p.q, t.batch, t.head), &p, &t);
    for (int i = 0; i < OUT_DIM * BQ; i += VW)
        VSTORE(VW, (vec)0, ot + i);
    UNROLL for (int n = 0; n < NV; n++)
        top[n] = -INFINITY, sum[n] = 0;
    TILE_CONFIGURE();

    struct walk walk = WALK_START(p, t);
    walk_share(&walk, &share, WALK_STEP);
    struct key_tile tile;
    while (WALK_NEXT(walk, p, t, tile)) {
        __global const uint *packed = head_packed + (long)(tile.first / SIDE) * STEP_WORDS;
        vec highest[NV], unmasked[NV], finite[NV];
        UNROLL for (int n = 0; n < NV; n++)
            highest[n] = unmasked[n] = -INFINITY;
        for (struct run r = {0}; run_next(&r, &p, &t, &tile);) {
            score_run(st, tile.partial ? unmasked : highest, qt, packed, &r);
            if (tile.partial)
                mask_run(st, highest, &p, &t, &tile, MASK_WORDS, &r);
        }
        raise_top(ot, top, sum, highest, p.log2_scale);
        UNROLL for (int n = 0; n < NV; n++)
            finite[n] = finite_top(top[n]);
        const bool only_finite = all_numbers(packed, tile.count);
        for (struct run r = {0}; run_next(&r, &p, &t, &tile);) {
            weigh_run(st, finite, sum, p.log2_scale, &r);
            add_run(ot, st, packed, &r);
            if (!only_finite)
                add_no_numbers(ot, st, head_v + tile.first * p.v.seq, &p, &t, &tile, MASK_WORDS,
                               &r);
        }
    }
    TILE_RELEASE();
#if SPLIT_KEYS
    if (share.parts > 1) {
        store_records(partial + (share.slot + share.part) * BQ * RECORD, ot, top, sum, t.rows);
        return;
    }
#endif
    store_outputs(o + head_offset(&p.o, t.batch, t.head), ot, sum, &p, &t);
#if LOGSUMEXP
    store_logsumexp(lse + lse_offset(&p, &t), top, sum, p.scale, t.rows);
#endif
}
