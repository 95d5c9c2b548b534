/*
 * Attention for CPU devices: one work-item per work-group, which is one core, with vectors that lie
 * across queries. Scores, maxima, weights and sums of a query stay in one lane, so that nothing is
 * ever reduced across a vector:
 *
 *                     BQ = NV * VW queries
 *                    +------+------+------+
 *      HEAD_DIM      |  Q^T, transposed   |          Q^T: [feature][query]
 *                    |  once              |
 *                    +------+------+------+
 *      +------+      +------+------+------+
 *   MR | K    |   MR | S^T tile           |  BK      max, exp2, sum: vertical
 *      +------+      +------+------+------+
 *      |      |      |      |      |      |
 *      +------+      +------+------+------+
 *
 *      +-+-+-+       +------+------+------+
 *   BK | | | |    MR | O^T tile           |  HEAD_DIM (padded to MR), rescaled when a maximum grows,
 *      |V| | |       +------+------+------+           transposed back once at the end
 *      +-+-+-+       |      |      |      |
 *       MR           +------+------+------+
 *
 * Per key block of BK: S^T = K Q^T, then P^T = exp2(S^T - max), then O^T = O^T * alpha + V^T P^T.
 *
 * Contract (tunables): VW lanes of a vector, NV vectors and MR rows of a register tile, BK keys of
 * a block, PACK 1 to copy K and V blocks into private memory (needed for anything but f32 with
 * HEAD_DIM a multiple of MR), 0 to read them where they lie. See attention.clh for the variant.
 */
#if !defined(VW) || !defined(NV) || !defined(MR) || !defined(BK) || !defined(PACK)
#error "attention_cpu.cl: VW, NV, MR, BK and PACK must be defined"
#endif

#define BQ (NV * VW)

#include "common.clh"
#include "attention_params.clh"
#include "attention.clh"
#include "attention_cpu.clh"

#define OUT_DIM ROUND_UP(HEAD_DIM, MR)
#define PACKED_LD ROUND_UP(OUT_DIM, VW) /* also the rows of Q^T and O^T in memory */
#define RUN_KEYS MR
#define RUN_VECTORS 1

#include "attention_columns.clh"

#if PACK
typedef const float *rows_of;
#else
typedef __global const float *rows_of;
#endif

/* ---- rows of the caller's tensors ---- */

/* Queries past the last one repeat it: what they give is never stored. */
static inline void load_queries(float *qt, __global const element *q,
                                const struct attention_params *p, const struct query_tile *t)
{
    for (int first = 0; first < BQ; first += VW)
        for (int d = 0; d < HEAD_DIM; d += VW) {
            vec r[VW];
            UNROLL for (int i = 0; i < VW; i++) {
                const long row = t->first + min(first + i, t->rows - 1);
                r[i] = load_features(q + row * p->q.seq, FEATURE_STRIDE(p->q), d) * p->sign;
            }
            PASTE(transpose_, VECTOR(float, VW))(r);
            UNROLL for (int i = 0; i < VW; i++)
                VSTORE(VW, r[i], qt + (d + i) * BQ + first);
        }
}

/* Widens `count` rows and pads them with zeros to whole vectors. */
static inline void pack_block(float *packed, __global const element *x, long seq, long feature,
                              int count)
{
    for (int row = 0; row < count; row++)
        for (int d = 0; d < PACKED_LD; d += VW)
            VSTORE(VW, load_features(x + row * seq, feature, d), packed + row * PACKED_LD + d);
}

/* For each of n vectors, n <= NV a constant once all is inlined: loops over n itself would be seen too
 * early, and stay loops. */
#define EACH_VECTOR(v, n)                                                                          \
    UNROLL                                                                                         \
    for (int v = 0; v < NV; v++)                                                                   \
        if (v < (n))

/* Calls f(1) .. f(NV), by the number of vectors: tiles of registers need constants. */
#if NV >= 2
#define CASE_2(f)                                                                                  \
    case 2:                                                                                        \
        f(2);                                                                                      \
        break;
#else
#define CASE_2(f)
#endif
#if NV >= 3
#define CASE_3(f)                                                                                  \
    case 3:                                                                                        \
        f(3);                                                                                      \
        break;
#else
#define CASE_3(f)
#endif
#if NV >= 4
#define CASE_4(f)                                                                                  \
    case 4:                                                                                        \
        f(4);                                                                                      \
        break;
#else
#define CASE_4(f)
#endif
#define WITH_VECTORS(n, f)                                                                         \
    switch (n) {                                                                                   \
    case 1:                                                                                        \
        f(1);                                                                                      \
        break;                                                                                     \
        CASE_2(f) CASE_3(f) CASE_4(f)                                                              \
    }

/* ---- the three steps of a key block ---- */

/* S^T for MR keys, of which `count` exist: the others repeat the last one, and are overwritten or
 * never looked at. `top` grows to the maximum. */
ALWAYS_INLINE void score_keys(float *st, vec *top, const float *qt, rows_of k, long ld, int count,
                              const int vectors)
{
    vec s[MR][NV];
    rows_of row[MR];
    row[0] = k;
    UNROLL for (int i = 1; i < MR; i++)
        row[i] = row[i - 1] + (i < count ? ld : 0);
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(v, vectors)
            s[i][v] = 0;
    for (int d = 0; d < HEAD_DIM; d++) {
        vec x[NV];
        EACH_VECTOR(v, vectors)
            x[v] = VLOAD(VW, qt + d * BQ + v * VW);
        UNROLL for (int i = 0; i < MR; i++)
            EACH_VECTOR(v, vectors)
                s[i][v] = fma((vec)row[i][d], x[v], s[i][v]);
    }
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(v, vectors) {
            top[v] = max(top[v], s[i][v]);
            VSTORE(VW, s[i][v], st + i * BQ + v * VW);
        }
}

static inline void score_run(float *st, vec *top, const float *qt, rows_of k, long ld,
                             const struct run *r)
{
    const int column = r->vector * VW;
    vec highest[NV];
    st += r->key * BQ + column;
    k += r->key * ld;
#define SCORE(n)                                                                                   \
    EACH_VECTOR(v, n)                                                                             \
        highest[v] = top[r->vector + v];                                                           \
    for (int left = r->keys; left > 0; left -= MR, st += MR * BQ, k += MR * ld)                    \
        score_keys(st, highest, qt + column, k, ld, left, n);                                      \
    EACH_VECTOR(v, n)                                                                             \
    top[r->vector + v] = highest[v]
    WITH_VECTORS(r->vectors, SCORE)
#undef SCORE
}

/* P^T from S^T, added up in `sum`. */
static inline void weigh_run(float *st, const vec *top, vec *sum, float log2_scale,
                             const struct run *r)
{
    const int end = r->key + r->keys;
    vec highest[NV], added[NV];
#define WEIGH(n)                                                                                   \
    EACH_VECTOR(v, n)                                                                             \
        highest[v] = top[r->vector + v], added[v] = 0;                                             \
    for (int key = r->key; key < end; key++)                                                       \
        EACH_VECTOR(v, n) {                                                                       \
            float *s = st + key * BQ + (r->vector + v) * VW;                                       \
            const vec w = weight((VLOAD(VW, s) - highest[v]) * log2_scale);                        \
            added[v] += w;                                                                         \
            VSTORE(VW, w, s);                                                                      \
        }                                                                                          \
    EACH_VECTOR(v, n)                                                                             \
    sum[r->vector + v] += added[v]
    WITH_VECTORS(r->vectors, WEIGH)
#undef WEIGH
}

/* O^T += V^T P^T for MR features. */
ALWAYS_INLINE void add_values(float *ot, const float *pt, rows_of v, long ld, int count,
                              const int vectors)
{
    vec sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(n, vectors)
            sum[i][n] = VLOAD(VW, ot + i * BQ + n * VW);
    for (int key = 0; key < count; key++) {
        vec w[NV];
        EACH_VECTOR(n, vectors)
            w[n] = VLOAD(VW, pt + key * BQ + n * VW);
        UNROLL for (int i = 0; i < MR; i++)
            EACH_VECTOR(n, vectors)
                sum[i][n] = fma((vec)v[i], w[n], sum[i][n]);
        v += ld;
    }
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(n, vectors)
            VSTORE(VW, sum[i][n], ot + i * BQ + n * VW);
}

static inline void add_run(float *ot, const float *pt, rows_of v, long ld, const struct run *r)
{
    const int column = r->vector * VW;
    v += r->key * ld;
    pt += r->key * BQ + column;
#define ADD(n)                                                                                     \
    for (int d = 0; d < OUT_DIM; d += MR)                                                          \
    add_values(ot + d * BQ + column, pt, v + d, ld, r->keys, n)
    WITH_VECTORS(r->vectors, ADD)
#undef ADD
}

/* ---- NaN and infinities in V behind a mask ---- */

/* Whether a block of V holds neither: if so, a weight of 0 is all it takes to hide a key. */
static inline bool is_finite(rows_of v, long ld, int count)
{
    vec zero = 0;
    float rest = 0;
    for (int key = 0; key < count; key++, v += ld) {
        for (int d = 0; d + VW <= HEAD_DIM; d += VW)
            zero = fma(VLOAD(VW, v + d), (vec)0, zero);
        for (int d = HEAD_DIM / VW * VW; d < HEAD_DIM; d++)
            rest = fma(v[d], 0.0f, rest);
    }
    return all(zero == 0) && rest == 0;
}

/* As weigh_run and add_run, to the bit, where hidden keys take no part whatever V holds there. Without
 * a register tile, for it is rare. */
static inline void add_run_selecting(float *ot, float *st, const vec *top, vec *sum,
                                     float log2_scale, rows_of v, long ld, const struct run *r)
{
    for (int n = r->vector; n < r->vector + r->vectors; n++) {
        vec added = 0;
        for (int key = r->key; key < r->key + r->keys; key++) {
            float *s = st + key * BQ + n * VW;
            const vec score = VLOAD(VW, s);
            const vec w = weight((score - top[n]) * log2_scale);
            added += w;
            VSTORE(VW, score == -INFINITY ? (vec)HIDDEN_WEIGHT : w, s);
        }
        sum[n] += added;
        for (int d = 0; d < HEAD_DIM; d++) {
            vec o = VLOAD(VW, ot + d * BQ + n * VW);
            for (int key = r->key; key < r->key + r->keys; key++) {
                const vec w = VLOAD(VW, st + key * BQ + n * VW);
                const vec more = fma((vec)v[key * ld + d], w, o);
                o = IS_HIDDEN(PASTE(as_, VECTOR(int, VW)), w) ? o : more;
            }
            VSTORE(VW, o, ot + d * BQ + n * VW);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention(ATTENTION_PARAMETERS)
{
    float qt[PACKED_LD * BQ] __attribute__((aligned(64)));
    float st[BK * BQ] __attribute__((aligned(64)));
    float ot[PACKED_LD * BQ] __attribute__((aligned(64)));
#if PACK
    float packed_k[BK * PACKED_LD] __attribute__((aligned(64)));
    float packed_v[BK * PACKED_LD] __attribute__((aligned(64)));
#endif
    vec top[NV], sum[NV];

    const struct share share = share_of(&p, ITEMS, get_group_id(0));
    const struct query_tile t = query_tile(&p, share.group);
    const int kv_head = t.head / p.group;
    __global const element *head_k = k + head_offset(&p.k, t.batch, kv_head);
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);
    load_queries(qt, q + head_offset(&p.q, t.batch, t.head), &p, &t);
    for (int i = 0; i < PACKED_LD * BQ; i += VW)
        VSTORE(VW, (vec)0, ot + i);
    UNROLL for (int n = 0; n < NV; n++)
        top[n] = -INFINITY, sum[n] = 0;

    struct walk walk = WALK_START(p, t);
    walk_share(&walk, &share, WALK_STEP);
    struct key_tile tile;
    while (WALK_NEXT(walk, p, t, tile)) {
#if PACK
        rows_of block_k = packed_k, block_v = packed_v;
        const long ld_k = PACKED_LD, ld_v = PACKED_LD;
        pack_block(packed_k, head_k + tile.first * p.k.seq, p.k.seq, FEATURE_STRIDE(p.k),
                   tile.count);
        pack_block(packed_v, head_v + tile.first * p.v.seq, p.v.seq, FEATURE_STRIDE(p.v),
                   tile.count);
#else
        rows_of block_k = head_k + tile.first * p.k.seq, block_v = head_v + tile.first * p.v.seq;
        const long ld_k = p.k.seq, ld_v = p.v.seq;
#endif
        vec before[NV], alpha[NV], finite[NV], unmasked[NV];
        UNROLL for (int n = 0; n < NV; n++)
            before[n] = unmasked[n] = top[n];
        for (struct run r = {0}; run_next(&r, &p, &t, &tile);) {
            score_run(st, tile.partial ? unmasked : top, qt, block_k, ld_k, &r);
            if (tile.partial)
                mask_run(st, top, &p, &t, &tile, MASK_WORDS, &r);
        }
        UNROLL for (int n = 0; n < NV; n++) {
            finite[n] = finite_top(top[n]);
            alpha[n] = weight((before[n] - finite[n]) * p.log2_scale);
            sum[n] *= alpha[n];
        }
        rescale(ot, alpha);
        const bool select = tile.partial && !is_finite(block_v, ld_v, tile.count);
        for (struct run r = {0}; run_next(&r, &p, &t, &tile);)
            if (select) {
                add_run_selecting(ot, st, finite, sum, p.log2_scale, block_v, ld_v, &r);
            } else {
                weigh_run(st, finite, sum, p.log2_scale, &r);
                add_run(ot, st, block_v, ld_v, &r);
            }
    }
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
