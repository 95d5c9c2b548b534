/*
 * Attention of a few queries to many keys on CPU devices, as when a model writes one token after
 * the other: bound by how fast K and V come from memory. All query rows that share a key head, the
 * heads of its group times their queries, are one work-group's, so that each key is read once for
 * all of them; several work-groups split the keys and leave partial results (attention_cpu.clh).
 *
 *              VW features                        BK keys
 *             +-----------+                      +---------+
 *     VW keys | K . Q_r   |  lanes summed:   R   | P       |  weights of row r
 *             |           |  VW scores           +---------+
 *             +-----------+
 *                                      O_r += P_rj V_j, lanes across features
 *
 * Rows go in fours or twos where they can, and share what is loaded and widened. Keys and values
 * are asked for AHEAD rows before their use: memory is to work while others are multiplied.
 *
 * The mask is a band, so that every row sees one interval of the keys, and nothing outside it is
 * looked at.
 *
 * Contract (tunables): VW lanes of a vector, BK keys of a block, AHEAD as above, SPLIT (used by the
 * host only). See attention.clh for the variant.
 */
#if !defined(VW) || !defined(BK) || !defined(AHEAD)
#error "attention_decode.cl: VW, BK and AHEAD must be defined"
#endif

#define BQ 32 /* rows at most; mirrored in attention_decode.c */

/* Sums that grow side by side, to hide their latency: of keys and of features. */
#define STREAMS 8
#define SUMS 16
#define TOGETHER 4 /* rows, at most, that share what is loaded */

#include "common.clh"
#include "attention_params.clh"
#include "attention.clh"
#include "attention_cpu.clh"

#if MASK_LIST
#error "attention_decode.cl: the mask must be a band"
#endif

/* One row: a query of a head. */
struct row {
    int head, query;
    int begin, end; /* the keys it sees */
};

/* Row `index` of a key head: its queries one after the other for each head of the group. */
static inline struct row row_of(const struct attention_params *p, int kv_head, int index)
{
    struct row r;
    r.head = kv_head * p->group + index / p->seq_q;
    r.query = index % p->seq_q;
    r.begin = max(0, r.query + p->low);
    r.end = r.query + min(p->high, p->seq_k - 1 - r.query) + 1;
    return r;
}

/* The keys of a block that a row sees. */
struct span {
    int from, count;
};

static inline struct span span_of(const struct attention_params *p, int kv_head, int index,
                                  int first)
{
    const struct row r = row_of(p, kv_head, index);
    struct span s = {max(first, r.begin), 0};
    s.count = min(first + BK, r.end) - s.from;
    return s;
}

/* How many rows from `index` on, 4, 2 or 1, see the same keys of a block. */
static inline int rows_together(const struct attention_params *p, int kv_head, int index, int rows,
                                int first)
{
    const struct span a = span_of(p, kv_head, index, first);
    int same = 1;
    for (; same < min(rows - index, TOGETHER); same++) {
        const struct span b = span_of(p, kv_head, index + same, first);
        if (a.from != b.from || a.count != b.count)
            break;
    }
    return same == 3 ? 2 : same;
}

/* Lane i gets the sum of x[i]'s lanes: a transpose that adds up on its way. */
static inline vec sum_lanes(vec *x)
{
    UNROLL for (int n = VW / 2; n >= 1; n /= 2)
    UNROLL for (int i = 0; i < VW / 2; i++)
        if (i < n) {
            vec t, u;
            INTERLEAVE(VW, t, u, x[i], x[i + n]);
            x[i] = t + u;
        }
    return x[0];
}

static inline float highest_of(const float *s, int count)
{
    vec top = VLOAD(VW, s);
    for (int i = VW; i < count; i += VW)
        top = max(top, VLOAD(VW, s + i));
    UNROLL for (int n = VW / 2; n >= 1; n /= 2)
    {
        vec t, u;
        INTERLEAVE(VW, t, u, top, top);
        top = max(t, u);
    }
    return top.s0;
}

/* Asks for the row AHEAD keys after `row`, of `dim` features. */
static inline void fetch_ahead(__global const element *row, long seq, const int dim)
{
#if AHEAD && UNIT_FEATURES
    UNROLL for (int d = 0; d < dim; d += CACHE_LINE / sizeof(element))
        PREFETCH(row + AHEAD * seq + d);
#endif
}

/* Scores of `count` keys for 1, 2 or 4 rows, BK apart in `s`, -infinity up to the next whole
 * vector. */
ALWAYS_INLINE void score_rows(float *s, const float *q, __global const element *k, long seq,
                              long feature, int count, const int rows)
{
    const int keys = VW / rows;
    for (int key = 0; key < count; key += keys) {
        vec x[VW];
        UNROLL for (int i = 0; i < VW; i++)
            x[i] = 0;
        UNROLL for (int i = 0; i < VW; i += STREAMS)
            if (i < keys) {
                __global const element *at[STREAMS];
                UNROLL for (int n = 0; n < STREAMS; n++)
                    at[n] = k + min(key + i + n, count - 1) * seq;
                UNROLL for (int n = 0; n < STREAMS; n++)
                    if (i + n < keys)
                        fetch_ahead(at[n], seq, HEAD_DIM);
                UNROLL for (int d = 0; d < HEAD_DIM; d += VW)
                UNROLL for (int n = 0; n < STREAMS; n++)
                    if (i + n < keys) {
                        const vec y = load_features(at[n], feature, d, HEAD_DIM);
                        UNROLL for (int r = 0; r < rows; r++)
                        {
                            vec *sum = &x[r * keys + i + n];
                            *sum = fma(y, VLOAD(VW, q + r * PADDED_DIM + d), *sum);
                        }
                    }
            }
        float scores[VW];
        VSTORE(VW, sum_lanes(x), scores);
        UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < keys; i++) s[r * BK + key + i] = scores[r * keys + i];
    }
    for (int key = count; key < ROUND_UP(count, VW); key++)
        UNROLL for (int r = 0; r < rows; r++) s[r * BK + key] = -INFINITY;
}

#if SCORE_MODIFIER
static inline void modify_row(float *s, const struct attention_params *p, int batch,
                              const struct row *r, const struct span *keys,
                              __global const float *data)
{
    for (int key = 0; key < keys->count; key++)
        s[key] = modified(s[key], p, batch, r->head, r->query, keys->from + key, data);
}
#endif

/* Weights from scores, added up in parts; what was summed before is to be scaled by alpha. */
static inline void weigh_row(float *s, float *top, float *alpha, vec *sum, float log2_scale,
                             int count)
{
    const float before = *top;
    *top = max(before, highest_of(s, count));
    const float finite = *top == -INFINITY ? 0 : *top;
    const vec rescale = weight((vec)((before - finite) * log2_scale));
    vec added = 0;
    for (int key = 0; key < count; key += VW) {
        const vec w = weight((VLOAD(VW, s + key) - finite) * log2_scale);
        added += w;
        VSTORE(VW, w, s + key);
    }
    *sum = fma(*sum, rescale, added);
    *alpha = rescale.s0;
}

/* O = O * alpha + P V for 1, 2 or 4 rows. */
ALWAYS_INLINE void add_rows(float *o, const float *alpha, const float *w, __global const element *v,
                            long seq, long feature, int count, const int rows)
{
    const int sums = SUMS / rows;
    for (int first = 0; first < PADDED_VALUE_DIM; first += sums * VW) {
        vec sum[TOGETHER][SUMS];
        UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int d = 0; d < SUMS; d++)
            if (d < sums && first + d * VW < PADDED_VALUE_DIM)
                sum[r][d] = VLOAD(VW, o + r * PADDED_VALUE_DIM + first + d * VW) * alpha[r];
        __global const element *row = v;
        for (int key = 0; key < count; key++, row += seq) {
            if (first == 0)
                fetch_ahead(row, seq, VALUE_DIM);
            UNROLL for (int d = 0; d < SUMS; d++)
            if (d < sums && first + d * VW < PADDED_VALUE_DIM) {
                const vec x = load_features(row, feature, first + d * VW, VALUE_DIM);
                UNROLL for (int r = 0; r < rows; r++)
                    sum[r][d] = fma((vec)w[r * BK + key], x, sum[r][d]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int d = 0; d < SUMS; d++)
            if (d < sums && first + d * VW < PADDED_VALUE_DIM)
                VSTORE(VW, sum[r][d], o + r * PADDED_VALUE_DIM + first + d * VW);
    }
}

static inline float sum_of(vec x)
{
    float lanes[VW], sum;
    VSTORE(VW, x, lanes);
    sum = lanes[0];
    UNROLL for (int i = 1; i < VW; i++)
        sum += lanes[i];
    return sum;
}

/* ---- the results ---- */

static inline void store_row(__global element *o, const struct attention_params *p, const float *ot,
                             float sum)
{
    const float inverse = sum == 0 ? 0 : 1 / sum;
    for (int d = 0; d < PADDED_VALUE_DIM; d += VW)
        store_features(VLOAD(VW, ot + d) * inverse, o, FEATURE_STRIDE(p->o), d);
}

static inline void store_record(__global float *record, const float *ot, float top, float sum)
{
    for (int d = 0; d < PADDED_VALUE_DIM; d += VW)
        VSTORE(VW, VLOAD(VW, ot + d), record + d);
    record[RECORD_TOP] = top;
    record[RECORD_SUM] = sum;
}

static inline __global element *row_output(const struct attention_params *p, __global element *o,
                                           int batch, const struct row *r)
{
    return o + head_offset(&p->o, batch, r->head) + r->query * p->o.seq;
}

static inline long row_logsumexp(const struct attention_params *p, int batch, const struct row *r)
{
    return p->lse_offset + ((long)batch * p->heads + r->head) * p->seq_q + r->query;
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention(ATTENTION_PARAMETERS)
{
    float rows_q[BQ * PADDED_DIM] __attribute__((aligned(64)));
    float rows_o[BQ * PADDED_VALUE_DIM] __attribute__((aligned(64)));
    float rows_s[BQ * BK] __attribute__((aligned(64)));
    float top[BQ], alpha[BQ];
    vec sum[BQ];

    const int kv_heads = p.heads / p.group, rows = p.group * p.seq_q;
    const long unit = get_group_id(0) / p.parts;
    const int part = (int)(get_group_id(0) % p.parts);
    const int batch = (int)(unit / kv_heads), kv_head = (int)(unit % kv_heads);
    k += head_offset(&p.k, batch, kv_head);
    v += head_offset(&p.v, batch, kv_head);

    for (int i = 0; i < rows; i++) {
        const struct row r = row_of(&p, kv_head, i);
        __global const element *at = q + head_offset(&p.q, batch, r.head) + r.query * p.q.seq;
        for (int d = 0; d < PADDED_DIM; d += VW)
            VSTORE(VW, load_features(at, FEATURE_STRIDE(p.q), d, HEAD_DIM) * p.sign,
                   rows_q + i * PADDED_DIM + d);
        for (int d = 0; d < PADDED_VALUE_DIM; d += VW)
            VSTORE(VW, (vec)0, rows_o + i * PADDED_VALUE_DIM + d);
        top[i] = -INFINITY;
        sum[i] = 0;
    }

    /* The part's share of the blocks that any row sees. */
    const long begin = row_of(&p, kv_head, 0).begin;
    const long blocks = max(0L, (row_of(&p, kv_head, rows - 1).end - begin + BK - 1) / BK);
    const long last = blocks * (part + 1) / p.parts;
    for (long block = blocks * part / p.parts; block < last; block++) {
        const int first = (int)(begin + block * BK);
        for (int i = 0, n; i < rows; i += n) {
            const struct span keys = span_of(&p, kv_head, i, first);
            __global const element *at = k + keys.from * p.k.seq;
            float *s = rows_s + i * BK, *x = rows_q + i * PADDED_DIM;
            n = rows_together(&p, kv_head, i, rows, first);
            if (keys.count <= 0)
                continue;
            if (n == TOGETHER)
                score_rows(s, x, at, p.k.seq, FEATURE_STRIDE(p.k), keys.count, TOGETHER);
            else if (n == 2)
                score_rows(s, x, at, p.k.seq, FEATURE_STRIDE(p.k), keys.count, 2);
            else
                score_rows(s, x, at, p.k.seq, FEATURE_STRIDE(p.k), keys.count, 1);
#if SCORE_MODIFIER
            for (int j = i; j < i + n; j++) {
                const struct row r = row_of(&p, kv_head, j);
                modify_row(rows_s + j * BK, &p, batch, &r, &keys, SCORE_DATA_OF(p));
            }
#endif
            for (int j = i; j < i + n; j++)
                weigh_row(rows_s + j * BK, &top[j], &alpha[j], &sum[j], p.log2_scale, keys.count);
        }
        for (int i = 0, n; i < rows; i += n) {
            const struct span keys = span_of(&p, kv_head, i, first);
            __global const element *at = v + keys.from * p.v.seq;
            float *s = rows_s + i * BK, *x = rows_o + i * PADDED_VALUE_DIM;
            n = rows_together(&p, kv_head, i, rows, first);
            if (keys.count <= 0)
                continue;
            if (n == TOGETHER)
                add_rows(x, alpha + i, s, at, p.v.seq, FEATURE_STRIDE(p.v), keys.count, TOGETHER);
            else if (n == 2)
                add_rows(x, alpha + i, s, at, p.v.seq, FEATURE_STRIDE(p.v), keys.count, 2);
            else
                add_rows(x, alpha + i, s, at, p.v.seq, FEATURE_STRIDE(p.v), keys.count, 1);
        }
    }

    for (int i = 0; i < rows; i++) {
        const float total = sum_of(sum[i]);
#if SPLIT_KEYS
        store_record(partial + (get_group_id(0) * rows + i) * RECORD, rows_o + i * PADDED_VALUE_DIM,
                     top[i], total);
#else
        const struct row r = row_of(&p, kv_head, i);
        store_row(row_output(&p, o, batch, &r), &p, rows_o + i * PADDED_VALUE_DIM, total);
#if LOGSUMEXP
        lse[row_logsumexp(&p, batch, &r)] = logsumexp_of((float2)(top[i], total), p.scale);
#endif
#endif
    }
}

#if SPLIT_KEYS
/* One row of one key head. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
attention_merge(ATTENTION_MERGE_PARAMETERS)
{
    const int kv_heads = p.heads / p.group, rows = p.group * p.seq_q;
    const long unit = get_group_id(0) / rows;
    const int index = (int)(get_group_id(0) % rows), batch = (int)(unit / kv_heads);
    const struct row r = row_of(&p, (int)(unit % kv_heads), index);
    const float2 merged = merge_records(row_output(&p, o, batch, &r), FEATURE_STRIDE(p.o),
                                        partial + (unit * p.parts * rows + index) * RECORD,
                                        (long)rows * RECORD, p.parts, p.log2_scale);
#if LOGSUMEXP
    lse[row_logsumexp(&p, batch, &r)] = logsumexp_of(merged, p.scale);
#endif
}
#endif
