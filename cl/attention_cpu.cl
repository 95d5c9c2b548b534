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

#define ROUND_UP(x, step) (((x) + (step) - 1) / (step) * (step))
#define OUT_DIM ROUND_UP(HEAD_DIM, MR)
#define PACKED_LD ROUND_UP(OUT_DIM, VW) /* also the rows of Q^T and O^T in memory */

typedef VECTOR(float, VW) vec;
typedef VECTOR(int, VW) ivec;

#if PACK
typedef const float *rows_of;
#else
typedef __global const float *rows_of;
#endif

/* ---- rows of the caller's tensors ---- */

/* Features d .. d + VW - 1 of a row, zeros past the last one. */
static inline vec load_features(__global const element *row, long stride, int d)
{
#if UNIT_FEATURES
    if (d + VW <= HEAD_DIM)
        return LOADV(DTYPE, VW, row + d);
#endif
    float x[VW];
    for (int i = 0; i < VW; i++)
        x[i] = d + i < HEAD_DIM ? LOAD(DTYPE, row + (d + i) * stride) : 0.0f;
    return VLOAD(VW, x);
}

static inline void store_features(vec x, __global element *row, long stride, int d)
{
#if UNIT_FEATURES
    if (d + VW <= HEAD_DIM) {
        STOREV(DTYPE, VW, x, row + d);
        return;
    }
#endif
    float values[VW];
    VSTORE(VW, x, values);
    for (int i = 0; i < VW && d + i < HEAD_DIM; i++)
        STORE(DTYPE, values[i], row + (d + i) * stride);
}

/* Queries past the last one repeat it: what they give is never stored. */
static inline void load_queries(float *qt, __global const element *q,
                                const struct attention_params *p, const struct query_tile *t)
{
    for (int first = 0; first < BQ; first += VW)
        for (int d = 0; d < HEAD_DIM; d += VW) {
            vec r[VW];
            UNROLL for (int i = 0; i < VW; i++)
            {
                const long row = t->first + min(first + i, t->rows - 1);
                r[i] = load_features(q + row * p->q.seq, FEATURE_STRIDE(p->q), d) * p->sign;
            }
            PASTE(transpose_, VECTOR(float, VW))(r);
            UNROLL for (int i = 0; i < VW; i++) VSTORE(VW, r[i], qt + (d + i) * BQ + first);
        }
}

/* Widens `count` rows and pads them with zeros, to whole vectors and to whole tiles of MR. */
static inline void pack_block(float *packed, __global const element *x, long seq, long feature,
                              int count)
{
    for (int row = 0; row < count; row++)
        for (int d = 0; d < PACKED_LD; d += VW)
            VSTORE(VW, load_features(x + row * seq, feature, d), packed + row * PACKED_LD + d);
    for (int i = count * PACKED_LD; i < ROUND_UP(count, MR) * PACKED_LD; i += VW)
        VSTORE(VW, (vec)0, packed + i);
}

/* ---- the three steps of a key block ---- */

/* S^T for MR keys from `first` on, of which `count` exist. `top` grows to their maximum. */
static inline void score_keys(float *st, vec *top, const float *qt, rows_of k, long ld, int first,
                              int count)
{
    vec s[MR][NV];
    rows_of row[MR];
    UNROLL for (int i = 0; i < MR; i++)
    {
#if PACK
        row[i] = k + (first + i) * ld;
#else
        row[i] = k + min(first + i, count - 1) * ld;
#endif
        UNROLL for (int v = 0; v < NV; v++) s[i][v] = 0;
    }
    for (int d = 0; d < HEAD_DIM; d++) {
        vec x[NV];
        UNROLL for (int v = 0; v < NV; v++) x[v] = VLOAD(VW, qt + d * BQ + v * VW);
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int v = 0; v < NV; v++) s[i][v] = fma((vec)row[i][d], x[v], s[i][v]);
    }
    UNROLL for (int i = 0; i < MR; i++)
        if (first + i < count)
            UNROLL for (int v = 0; v < NV; v++)
            {
                top[v] = max(top[v], s[i][v]);
                VSTORE(VW, s[i][v], st + (first + i) * BQ + v * VW);
            }
}

/* Which of the VW queries from `query` on see a key. */
static inline ivec seen_by(const struct attention_params *p, const struct query_tile *t,
                           __global const uint *words, const int *query, int key)
{
#if VISIBLE_VECTORS
    return VISIBLE(*p, *t, words, VLOAD(VW, query), key);
#else
    int seen[VW];
    for (int i = 0; i < VW; i++)
        seen[i] = VISIBLE(*p, *t, words, query[i], key);
    return VLOAD(VW, seen);
#endif
}

/* Scores that the mask hides become -infinity; `top` grows to the maximum of the others. */
static inline void mask_keys(float *st, vec *top, const struct attention_params *p,
                             const struct query_tile *t, const struct key_tile *tile,
                             __global const uint *words)
{
    int query[BQ]; /* those past the last one repeat it: no list says anything of them */
    for (int i = 0; i < BQ; i++)
        query[i] = t->first + min(i, t->rows - 1);
    for (int key = 0; key < tile->count; key++)
        UNROLL for (int v = 0; v < NV; v++)
        {
            float *s = st + key * BQ + v * VW;
            const ivec seen = seen_by(p, t, words, query + v * VW, tile->first + key);
            const vec masked = seen != 0 ? VLOAD(VW, s) : (vec)-INFINITY;
            top[v] = max(top[v], masked);
            VSTORE(VW, masked, s);
        }
}

/* 2^x for x <= 0, relative error below 1.7e-7; exactly 0 below -125 and for -infinity; any NaN
 * stays one. 2^round(x) becomes a float of its own, the rest goes into a minimax polynomial on
 * [-1/2, 1/2]. */
static inline vec weight(vec x)
{
    /* 1.5 * 2^23: adding it rounds to an integer; 127 more: the low bits are the exponent's. */
    const vec shift = 12582912.0f + 127.0f;
    const vec shifted = x + shift;
    const vec f = x - (shifted - shift);
    vec y = 1.326472228e-03f;
    y = fma(y, f, (vec)9.671512983e-03f);
    y = fma(y, f, (vec)5.550733760e-02f);
    y = fma(y, f, (vec)2.402224208e-01f);
    y = fma(y, f, (vec)6.931469776e-01f);
    y = fma(y, f, (vec)1.0f);
    y *= PASTE(as_, VECTOR(float, VW))(PASTE(as_, VECTOR(int, VW))(shifted) << 23);
    return x < -125.0f ? (vec)0 : y;
}

/* P^T from S^T, added up in `sum`. In a partial tile what is hidden gets HIDDEN_WEIGHT. */
ALWAYS_INLINE void weigh_keys(float *st, const vec *top, vec *sum, float log2_scale, int count,
                              const bool partial)
{
    for (int key = 0; key < count; key++)
        UNROLL for (int v = 0; v < NV; v++)
        {
            float *s = st + key * BQ + v * VW;
            const vec score = VLOAD(VW, s);
            vec w = weight((score - top[v]) * log2_scale);
            if (partial)
                w = score == -INFINITY ? (vec)HIDDEN_WEIGHT : w;
            sum[v] += w;
            VSTORE(VW, w, s);
        }
}

/* O^T = O^T * alpha + V^T P^T for MR features. */
ALWAYS_INLINE void add_values(float *ot, const vec *alpha, const float *pt, rows_of v, long ld,
                              int count, const bool partial)
{
    vec sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int n = 0; n < NV; n++) sum[i][n] = VLOAD(VW, ot + i * BQ + n * VW) * alpha[n];
    for (int key = 0; key < count; key++) {
        vec w[NV];
        UNROLL for (int n = 0; n < NV; n++) w[n] = VLOAD(VW, pt + key * BQ + n * VW);
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int n = 0; n < NV; n++)
        {
            const vec more = fma((vec)v[i], w[n], sum[i][n]);
            if (partial)
                sum[i][n] = IS_HIDDEN(PASTE(as_, VECTOR(int, VW)), w[n]) ? sum[i][n] : more;
            else
                sum[i][n] = more;
        }
        v += ld;
    }
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int n = 0; n < NV; n++) VSTORE(VW, sum[i][n], ot + i * BQ + n * VW);
}

/* P^T and O^T. `partial` is a constant, so that full tiles run loops without any selection. */
ALWAYS_INLINE void accumulate(float *ot, float *st, const vec *top, const vec *alpha, vec *sum,
                              float log2_scale, rows_of v, long ld, int count, const bool partial)
{
    weigh_keys(st, top, sum, log2_scale, count, partial);
    for (int d = 0; d < OUT_DIM; d += MR)
        add_values(ot + d * BQ, alpha, st, v + d, ld, count, partial);
}

/* ---- the results ---- */

/* A query without any key has sum = 0, and gets 0. */
static inline void store_outputs(__global element *o, const float *ot, const vec *sum,
                                 const struct attention_params *p, const struct query_tile *t)
{
    float block[VW * VW];
    for (int v = 0; v < NV; v++) {
        const vec inverse = sum[v] == 0 ? (vec)0 : 1.0f / sum[v];
        for (int d = 0; d < HEAD_DIM; d += VW) {
            vec r[VW];
            UNROLL for (int i = 0; i < VW; i++)
                r[i] = VLOAD(VW, ot + (d + i) * BQ + v * VW) * inverse;
            PASTE(transpose_, VECTOR(float, VW))(r);
            UNROLL for (int i = 0; i < VW; i++) VSTORE(VW, r[i], block + i * VW);
            const int rows = min(VW, t->rows - v * VW);
            for (int i = 0; i < rows; i++)
                store_features(VLOAD(VW, block + i * VW),
                               o + (t->first + v * VW + i) * p->o.seq, FEATURE_STRIDE(p->o), d);
        }
    }
}

#if LOGSUMEXP
static inline void store_logsumexp(__global float *lse, const vec *top, const vec *sum, float scale,
                                   int rows)
{
    float x[BQ];
    UNROLL for (int v = 0; v < NV; v++)
        VSTORE(VW, sum[v] == 0 ? (vec)-INFINITY : top[v] * scale + log(sum[v]), x + v * VW);
    for (int i = 0; i < rows; i++)
        lse[i] = x[i];
}
#endif

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

    const struct query_tile t = query_tile(&p, get_group_id(0));
    const int kv_head = t.head / p.group;
    __global const element *head_k = k + head_offset(&p.k, t.batch, kv_head);
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);
    load_queries(qt, q + head_offset(&p.q, t.batch, t.head), &p, &t);
    for (int i = 0; i < PACKED_LD * BQ; i += VW)
        VSTORE(VW, (vec)0, ot + i);
    UNROLL for (int n = 0; n < NV; n++) top[n] = -INFINITY, sum[n] = 0;

    struct walk walk = WALK_START(p, t);
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
        vec before[NV], alpha[NV], finite[NV];
        UNROLL for (int n = 0; n < NV; n++) before[n] = top[n];
        for (int key = 0; key < tile.count; key += MR)
            score_keys(st, top, qt, block_k, ld_k, key, tile.count);
        if (tile.partial) {
            UNROLL for (int n = 0; n < NV; n++) top[n] = before[n];
            mask_keys(st, top, &p, &t, &tile, MASK_WORDS);
        }
        UNROLL for (int n = 0; n < NV; n++)
        {
            /* While a query has seen no key, any finite number serves as its maximum. */
            finite[n] = top[n] == -INFINITY ? (vec)0 : top[n];
            alpha[n] = weight((before[n] - finite[n]) * p.log2_scale);
            sum[n] *= alpha[n];
        }
        if (tile.partial)
            accumulate(ot, st, finite, alpha, sum, p.log2_scale, block_v, ld_v, tile.count, true);
        else
            accumulate(ot, st, finite, alpha, sum, p.log2_scale, block_v, ld_v, tile.count, false);
    }
    store_outputs(o + head_offset(&p.o, t.batch, t.head), ot, sum, &p, &t);
#if LOGSUMEXP
    store_logsumexp(lse + lse_offset(&p, &t), top, sum, p.scale, t.rows);
#endif
}
