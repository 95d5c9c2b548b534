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
 *   BK | | | |    MR | O^T tile           |  VALUE_DIM (padded to MR), rescaled when a maximum grows,
 *      |V| | |       +------+------+------+           transposed back once at the end
 *      +-+-+-+       |      |      |      |
 *       MR           +------+------+------+
 *
 * Per key block of BK: S^T = K Q^T, then P^T = exp2(S^T - max), then O^T = O^T * alpha + V^T P^T.
 *
 * Contract (tunables): VW lanes of a vector, NV vectors and MR rows of a register tile, BK keys of
 * a block, PACK 1 to copy K and V blocks into private memory (needed for anything but f32 with
 * VALUE_DIM a multiple of MR), 0 to read them where they lie. See attention.clh for the variant.
 * BF16_DOT 1: products are of pairs of bf16 (bf16_pair.clh), neighbours in features for S^T, in
 * keys for O^T, weights rounded to bf16 among them; VW is 16, MR even, PACK 1, DTYPE bf16.
 */
#if !defined(VW) || !defined(NV) || !defined(MR) || !defined(BK) || !defined(PACK) ||              \
    !defined(BF16_DOT)
#error "attention_cpu.cl: a tunable or BF16_DOT is not defined"
#endif

#define BQ (NV * VW)

#include "common.clh"
#include "attention_params.clh"
#include "attention.clh"
#include "attention_cpu.clh"

/* What is multiplied: steps of K_STEP elements along the sum. */
#if BF16_DOT
#include "attention_bf16.clh"
#define K_STEP 2
typedef uint word;
typedef uint16 words;
#define MULTIPLY_ADD(a, b, sum) bf16_dot((words)(a), b, sum)
#else
#define K_STEP 1
typedef float word;
typedef vec words;
#define MULTIPLY_ADD(a, b, sum) fma((words)(a), b, sum)
#endif
#define STEPS(n) (((n) + K_STEP - 1) / K_STEP)

#define OUT_DIM ROUND_UP(VALUE_DIM, MR)
#define KEY_DIM ROUND_UP(HEAD_DIM, K_STEP * VW) /* of a packed row of K */
#define KEY_WORDS (KEY_DIM / K_STEP)            /* also the rows of Q^T */
#define VALUE_LD ROUND_UP(OUT_DIM, VW)          /* of packed V; also the rows of O^T in memory */
#define RUN_KEYS MR
#define RUN_VECTORS 1

#include "attention_columns.clh"

#if PACK
typedef const word *rows_of;
#else
typedef __global const word *rows_of;
#endif

/* ---- rows of the caller's tensors ---- */

#if BF16_DOT

#define load_queries load_query_words

static inline void pack_keys(word *packed, __global const element *k, long seq, long feature,
                             int count)
{
    for (int key = 0; key < count; key++)
        for (int d = 0; d < KEY_DIM; d += VW)
            VSTORE(16, load_elements(k + key * seq, feature, d, HEAD_DIM),
                   (ushort *)(packed + key * KEY_WORDS) + d);
}

/* The partner of a last key without one is 0. */
static inline void pack_values(word *packed, __global const element *v, long seq, long feature,
                               int count)
{
    for (int key = 0; key < count; key += 2, packed += VALUE_LD)
        for (int d = 0; d < VALUE_LD; d += VW) {
            const ushort16 even = load_elements(v + key * seq, feature, d, VALUE_DIM);
            ushort16 odd = 0;
            if (key + 1 < count)
                odd = load_elements(v + (key + 1) * seq, feature, d, VALUE_DIM);
            VSTORE(16, bf16_pair(even, odd), packed + d);
        }
}

#else

/* Queries past the last one repeat it: what they give is never stored. */
static inline void load_queries(float *qt, __global const element *q,
                                const struct attention_params *p, const struct query_tile *t)
{
    for (int first = 0; first < BQ; first += VW)
        for (int d = 0; d < HEAD_DIM; d += VW) {
            vec r[VW];
            UNROLL for (int i = 0; i < VW; i++) {
                const long row = t->first + min(first + i, t->rows - 1);
                r[i] =
                    load_features(q + row * p->q.seq, FEATURE_STRIDE(p->q), d, HEAD_DIM) * p->sign;
            }
            PASTE(transpose_, VECTOR(float, VW))(r);
            UNROLL for (int i = 0; i < VW; i++)
                VSTORE(VW, r[i], qt + (d + i) * BQ + first);
        }
}

/* Widens `count` rows of `dim` features and pads them with zeros to `ld`, whole vectors. */
ALWAYS_INLINE void pack_rows(float *packed, __global const element *x, long seq, long feature,
                             int count, const int dim, const int ld)
{
    for (int row = 0; row < count; row++)
        for (int d = 0; d < ld; d += VW)
            VSTORE(VW, load_features(x + row * seq, feature, d, dim), packed + row * ld + d);
}

#define pack_keys(packed, k, seq, feature, count)                                                  \
    pack_rows(packed, k, seq, feature, count, HEAD_DIM, KEY_DIM)
#define pack_values(packed, v, seq, feature, count)                                                \
    pack_rows(packed, v, seq, feature, count, VALUE_DIM, VALUE_LD)

#endif

/* For each of n vectors, n <= NV a constant once all is inlined: loops over n itself would be seen
 * too early, and stay loops. */
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
ALWAYS_INLINE void score_keys(float *st, vec *top, const word *qt, rows_of k, long ld, int count,
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
    for (int d = 0; d < STEPS(HEAD_DIM); d++) {
        words x[NV];
        EACH_VECTOR(v, vectors)
            x[v] = VLOAD(VW, qt + d * BQ + v * VW);
        UNROLL for (int i = 0; i < MR; i++)
            EACH_VECTOR(v, vectors)
                s[i][v] = MULTIPLY_ADD(row[i][d], x[v], s[i][v]);
    }
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(v, vectors) {
            top[v] = max(top[v], s[i][v]);
            VSTORE(VW, s[i][v], st + i * BQ + v * VW);
        }
}

static inline void score_run(float *st, vec *top, const word *qt, rows_of k, long ld,
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

#if SCORE_MODIFIER
/* Modified scores take the place of a run's; `top` grows to the maximum. */
static inline void modify_run(float *st, vec *top, const struct attention_params *p,
                              const struct query_tile *t, const struct key_tile *tile,
                              __global const float *data, const struct run *r)
{
    for (int key = r->key; key < r->key + r->keys; key++)
        for (int n = r->vector; n < r->vector + r->vectors; n++) {
            float *s = st + key * BQ + n * VW;
            for (int lane = 0; lane < VW; lane++)
                s[lane] = modified(s[lane], p, t->batch, t->head,
                                   t->first + min(n * VW + lane, t->rows - 1), tile->first + key,
                                   data);
            top[n] = max(top[n], VLOAD(VW, s));
        }
}
#endif

/* The weights of K_STEP keys from `key` on, of which those from `end` on do not exist, take the
 * place of their scores; words that of the first half of them. `mark`: hidden keys get
 * HIDDEN_WEIGHT. */
#if BF16_DOT
#define WEIGH_KEYS(st, key, end, column, highest, log2_scale, added, mark)                         \
    {                                                                                              \
        const float *s = st + (key) * BQ + (column);                                               \
        const vec even = VLOAD(VW, s);                                                             \
        vec odd = -INFINITY;                                                                       \
        if ((key) + 1 < (end))                                                                     \
            odd = VLOAD(VW, s + BQ);                                                               \
        const vec low = weight_bf16((even - (highest)) * log2_scale);                              \
        const vec high = weight_bf16((odd - (highest)) * log2_scale);                              \
        words w = round_words(low, high);                                                          \
        if (mark)                                                                                  \
            w |= (even == -INFINITY ? (words)0x8000 : 0) |                                         \
                 (odd == -INFINITY ? (words)0x80000000 : 0);                                       \
        added += low + high;                                                                       \
        VSTORE(VW, w, (word *)st + (key) / 2 * BQ + (column));                                     \
    }
#else
#define WEIGH_KEYS(st, key, end, column, highest, log2_scale, added, mark)                         \
    {                                                                                              \
        float *s = st + (key) * BQ + (column);                                                     \
        const vec score = VLOAD(VW, s);                                                            \
        const vec w = weight((score - (highest)) * log2_scale);                                    \
        added += w;                                                                                \
        VSTORE(VW, (mark) && score == -INFINITY ? (vec)HIDDEN_WEIGHT : w, s);                      \
    }
#endif

/* P^T from S^T, added up in `sum`. */
static inline void weigh_run(float *st, const vec *top, vec *sum, float log2_scale,
                             const struct run *r)
{
    const int end = r->key + r->keys;
    vec highest[NV], added[NV];
#define WEIGH(n)                                                                                   \
    EACH_VECTOR(v, n)                                                                             \
        highest[v] = top[r->vector + v], added[v] = 0;                                             \
    for (int key = r->key; key < end; key += K_STEP)                                               \
        EACH_VECTOR(v, n)                                                                          \
            WEIGH_KEYS(st, key, end, (r->vector + v) * VW, highest[v], log2_scale, added[v], 0)    \
    EACH_VECTOR(v, n)                                                                             \
    sum[r->vector + v] += added[v]
    WITH_VECTORS(r->vectors, WEIGH)
#undef WEIGH
}

/* O^T += V^T P^T for MR features. */
ALWAYS_INLINE void add_values(float *ot, const word *pt, rows_of v, long ld, int count,
                              const int vectors)
{
    vec sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(n, vectors)
            sum[i][n] = VLOAD(VW, ot + i * BQ + n * VW);
    for (int key = 0; key < STEPS(count); key++) {
        words w[NV];
        EACH_VECTOR(n, vectors)
            w[n] = VLOAD(VW, pt + key * BQ + n * VW);
        UNROLL for (int i = 0; i < MR; i++)
            EACH_VECTOR(n, vectors)
                sum[i][n] = MULTIPLY_ADD(v[i], w[n], sum[i][n]);
        v += ld;
    }
    UNROLL for (int i = 0; i < MR; i++)
        EACH_VECTOR(n, vectors)
            VSTORE(VW, sum[i][n], ot + i * BQ + n * VW);
}

static inline void add_run(float *ot, const float *st, rows_of v, long ld, const struct run *r)
{
    const int column = r->vector * VW;
    const word *pt = (const word *)st + r->key / K_STEP * BQ + column;
    v += r->key / K_STEP * ld;
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
#if BF16_DOT
    const words low = 0x7f80, high = 0x7f800000;
    int16 bad = 0;
    for (int key = 0; key < STEPS(count); key++, v += ld)
        for (int d = 0; d < VALUE_LD; d += VW) {
            const words x = VLOAD(VW, v + d);
            bad |= ((x & low) == low) | ((x & high) == high);
        }
    return !any(bad);
#else
    vec zero = 0;
    float rest = 0;
    for (int key = 0; key < count; key++, v += ld) {
        for (int d = 0; d + VW <= VALUE_DIM; d += VW)
            zero = fma(VLOAD(VW, v + d), (vec)0, zero);
        for (int d = VALUE_DIM / VW * VW; d < VALUE_DIM; d++)
            rest = fma(v[d], 0.0f, rest);
    }
    return all(zero == 0) && rest == 0;
#endif
}

static inline vec add_unless_hidden(vec o, vec w, float value)
{
    const vec more = fma((vec)value, w, o);
    return IS_HIDDEN(PASTE(as_, VECTOR(int, VW)), w) ? o : more;
}

/* The order of bf16_dot. */
#if BF16_DOT
#define ADD_VISIBLE(o, w, v)                                                                       \
    o = add_unless_hidden(o, as_float16((w) & 0xffff0000u), as_float((v) & 0xffff0000u));          \
    o = add_unless_hidden(o, as_float16((w) << 16), as_float((v) << 16))
#else
#define ADD_VISIBLE(o, w, v) o = add_unless_hidden(o, w, v)
#endif

/* As weigh_run and add_run, to the bit, where hidden keys take no part whatever V holds there.
 * Without a register tile, for it is rare. */
static inline void add_run_selecting(float *ot, float *st, const vec *top, vec *sum,
                                     float log2_scale, rows_of v, long ld, const struct run *r)
{
    const int end = r->key + r->keys;
    for (int n = r->vector; n < r->vector + r->vectors; n++) {
        vec added = 0;
        for (int key = r->key; key < end; key += K_STEP)
            WEIGH_KEYS(st, key, end, n * VW, top[n], log2_scale, added, 1)
        sum[n] += added;
        for (int d = 0; d < VALUE_DIM; d++) {
            vec o = VLOAD(VW, ot + d * BQ + n * VW);
            for (int step = r->key / K_STEP; step < STEPS(end); step++) {
                const words w = VLOAD(VW, (const word *)st + step * BQ + n * VW);
                ADD_VISIBLE(o, w, v[step * ld + d]);
            }
            VSTORE(VW, o, ot + d * BQ + n * VW);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention(ATTENTION_PARAMETERS)
{
    word qt[KEY_WORDS * BQ] __attribute__((aligned(64)));
    float st[BK * BQ] __attribute__((aligned(64)));
    float ot[VALUE_LD * BQ] __attribute__((aligned(64)));
#if PACK
    word packed_k[BK * KEY_WORDS] __attribute__((aligned(64)));
    word packed_v[STEPS(BK) * VALUE_LD] __attribute__((aligned(64)));
#endif
    vec top[NV], sum[NV];

    MASK_BEGIN(p)
    const struct share share = share_of(&p, ITEMS, get_group_id(0));
    const struct query_tile t = query_tile(&p, share.group);
    const int kv_head = t.head / p.group;
    __global const element *head_k = k + head_offset(&p.k, t.batch, kv_head);
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);
    load_queries(qt, q + head_offset(&p.q, t.batch, t.head), &p, &t);
    for (int i = 0; i < VALUE_LD * BQ; i += VW)
        VSTORE(VW, (vec)0, ot + i);
    UNROLL for (int n = 0; n < NV; n++)
        top[n] = -INFINITY, sum[n] = 0;

    struct walk walk = WALK_START(p, t);
    walk_share(&walk, &share, WALK_STEP);
    struct key_tile tile;
    while (WALK_NEXT(walk, p, t, tile)) {
#if PACK
        rows_of block_k = packed_k, block_v = packed_v;
        const long ld_k = KEY_WORDS, ld_v = VALUE_LD;
        pack_keys(packed_k, head_k + tile.first * p.k.seq, p.k.seq, FEATURE_STRIDE(p.k),
                  tile.count);
        pack_values(packed_v, head_v + tile.first * p.v.seq, p.v.seq, FEATURE_STRIDE(p.v),
                    tile.count);
#else
        rows_of block_k = head_k + tile.first * p.k.seq, block_v = head_v + tile.first * p.v.seq;
        const long ld_k = p.k.seq, ld_v = p.v.seq;
#endif
        vec before[NV], alpha[NV], finite[NV], unmasked[NV];
        UNROLL for (int n = 0; n < NV; n++)
            before[n] = unmasked[n] = top[n];
        for (struct run r = {0}; run_next(&r, &p, &t, &tile);) {
            score_run(st, tile.partial || SCORE_MODIFIER ? unmasked : top, qt, block_k, ld_k, &r);
#if SCORE_MODIFIER
            modify_run(st, tile.partial ? unmasked : top, &p, &t, &tile, SCORE_DATA_OF(p), &r);
#endif
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
