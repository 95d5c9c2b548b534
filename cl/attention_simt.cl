/*
 * Attention for any GPU: a work-group of TX x TY work-items owns BQ queries and walks over blocks
 * of BK keys. Operands pass through local memory, accumulators stay in registers:
 *
 *                  BK = TX * RK keys                      OUT = TX * RO features
 *                 +----+----+----+----+                  +----+----+----+----+
 *              DC | K^T, DC features  |               VC | V, VC keys        |
 *                 | at a time         |                  | at a time         |
 *                 +----+----+----+----+                  +----+----+----+----+
 *        DC                                      VC
 *      +----+     +----+----+----+----+        +----+    +----+----+----+----+
 *  RQ  |Q^T |  RQ | S: RQ x RK for    |    RQ  |P^T |  RQ| O: RQ x RO for    |
 *      |    |     | each work-item    |        |    |    | each work-item    |
 *      +----+     +----+----+----+----+        +----+    +----+----+----+----+
 *  BQ = TY * RQ queries
 *
 * A block is a chain of steps, first those along the features, then those along the keys. There are
 * two stages in local memory: while one step is multiplied, the next one's K^T or V is on its way
 * through registers into the other stage, and one barrier per step is enough. P goes there from the
 * registers of S, a step at a time.
 *
 * Work-items of one row share its maximum through local memory once per block; its sum stays in
 * parts, one for each work-item, until the end.
 *
 * Contract (tunables): TX, TY, RQ, RK, DC, VC as above, and KEEP_Q: 1 to keep Q^T whole in local
 * memory, 0 to stage it with K^T. VC is a multiple of TX. See attention.clh for the variant.
 */
#if !defined(TX) || !defined(TY) || !defined(RQ) || !defined(RK) || !defined(DC) ||                \
    !defined(VC) || !defined(KEEP_Q)
#error "attention_simt.cl: TX, TY, RQ, RK, DC, VC and KEEP_Q must be defined"
#endif

#define BQ (TY * RQ)
#define BK (TX * RK)

#include "common.clh"
#include "attention_params.clh"
#include "attention.clh"


#define WORK_ITEMS (TX * TY)
#define FEATURES ROUND_UP(HEAD_DIM, DC) /* as Q^T and K^T have them */
#define RO ((VALUE_DIM + TX - 1) / TX)
#define OUT (TX * RO)
#define RV (VC / TX) /* columns of S that become P in one step */

/* Widths of reads from local memory, powers of two that divide RQ, RK, RO. */
#if RQ % 4 == 0
#define WQ 4
#elif RQ % 2 == 0
#define WQ 2
#else
#define WQ 1
#endif
#if RK % 4 == 0
#define WK 4
#elif RK % 2 == 0
#define WK 2
#else
#define WK 1
#endif
#if RO % 4 == 0
#define WO 4
#elif RO % 2 == 0
#define WO 2
#else
#define WO 1
#endif

/* The columns of one work-item lie TX * width apart, so that neighbours read neighbours. */
#define COLUMN(x, n, width) ((n) / (width) * (TX * (width)) + (x) * (width) + (n) % (width))

/* Leading dimensions: rows shifted by four banks. */
#define LDQ (BQ + 4)
#define LDK (BK + 4)

/* A stage: K^T, and Q^T if it is not kept; then V and P^T. */
#define Q_AT (DC * LDK)
#define P_AT (VC * OUT)
#define STAGE LARGER(DC *(LDK + (KEEP_Q ? 0 : LDQ)), VC *(OUT + LDQ))

#define READ(width, p) (*(__local const VECTOR(float, width) *)(p))

/* x[0 .. n-1] from local memory, `width` at a time, `step` apart. */
#define READ_ALL(x, n, width, p, step)                                                             \
    UNROLL for (int n_ = 0; n_ < (n) / (width); n_++)                                              \
        VSTORE(width, READ(width, (p) + n_ * (step)), (x) + n_ * (width))

/* ALWAYS_INLINE everywhere: PoCL 3.1 crashes in its inliner over large register tiles when it may
 * choose. */

/* ---- global memory -> registers -> local memory; all work-items take part ---- */

#define CHUNK 4
typedef float4 chunk;

#define WHOLE_CHUNKS (UNIT_FEATURES && HEAD_DIM % CHUNK == 0 && VALUE_DIM % CHUNK == 0)

/* Rows of a tensor from one query or key on. Those after `last` are read as that one: scores of
 * keys that do not exist are masked, results of such queries not stored. */
struct rows {
    __global const element *x;
    long seq, feature;
    int last;
    bool aligned; /* every row's chunks are */
};

static inline struct rows open_rows(__global const element *x, long seq, long feature)
{
    struct rows r;
    r.x = x, r.seq = seq, r.feature = feature, r.last = 0;
    r.aligned = (((size_t)x | (size_t)(seq * sizeof(element))) % (CHUNK * sizeof(element))) == 0;
    return r;
}

static inline __global const element *row_of(const struct rows *r, int row)
{
    return r->x + min(row, r->last) * r->seq;
}

/* Features f .. f + 3 of a row of `dim`, zeros from there on, where only padded rows have any. */
static inline chunk load_aligned(const struct rows *r, int row, int f, const int dim,
                                 const int padded)
{
    return padded == dim || f < dim ? LOADV_ALIGNED(DTYPE, CHUNK, row_of(r, row) + f) : (chunk)0;
}

static inline chunk load_one_by_one(const struct rows *r, int row, int f, const int dim)
{
    __global const element *x = row_of(r, row);
    float e[CHUNK];
    UNROLL for (int i = 0; i < CHUNK; i++)
        e[i] = f + i < dim ? LOAD(DTYPE, x + (f + i) * r->feature) : 0.0f;
    return VLOAD(CHUNK, e);
}

/*
 * Transposed, chunks go down strips of two, so that the 32 work-items that store together meet 16
 * columns and two rows four apart, which are different banks. As they are, chunks go row by row.
 */
#define STRIP (DC < 2 * CHUNK ? 1 : 2)
#define TURNED_ROW(n, count) ((n) / STRIP % (count))
#define TURNED_FEATURE(n, count) (((n) / STRIP / (count)*STRIP + (n) % STRIP) * CHUNK)
#define ROW_CHUNKS (OUT / CHUNK)

/* Chunks of one work-item, the last of which not all may have. */
#define COUNT(chunks) (((chunks) + WORK_ITEMS - 1) / WORK_ITEMS)
#define HAS(n, chunks) ((chunks) % WORK_ITEMS == 0 || (n) < (chunks))
#define Q_CHUNKS (BQ * DC / CHUNK)
#define K_CHUNKS (BK * DC / CHUNK)
#define V_CHUNKS (VC * ROW_CHUNKS)

/* What is on its way: q and k, or v. */
struct staged {
    chunk q[KEEP_Q ? 1 : COUNT(Q_CHUNKS)];
    chunk kv[LARGER(COUNT(K_CHUNKS), COUNT(V_CHUNKS))];
};

/* DC features from d on of `count` rows. A branch for all chunks: compilers would make predicated
 * loads of one for each, and loads into the same registers wait for each other. */
ALWAYS_INLINE void load_turned(chunk *chunks, const struct rows *r, int count, int d, int item)
{
    if (WHOLE_CHUNKS && r->aligned)
        UNROLL for (int i = 0; i < COUNT(count * DC / CHUNK); i++)
        {
            const int n = item + i * WORK_ITEMS;
            if (HAS(n, count * DC / CHUNK))
                chunks[i] = load_aligned(r, TURNED_ROW(n, count), d + TURNED_FEATURE(n, count),
                                         HEAD_DIM, FEATURES);
        }
    else
        UNROLL for (int i = 0; i < COUNT(count * DC / CHUNK); i++)
        {
            const int n = item + i * WORK_ITEMS;
            if (HAS(n, count * DC / CHUNK))
                chunks[i] = load_one_by_one(r, TURNED_ROW(n, count), d + TURNED_FEATURE(n, count),
                                            HEAD_DIM);
        }
}

ALWAYS_INLINE void store_turned(__local float *to, int ld, const chunk *chunks, int count, int item)
{
    UNROLL for (int i = 0; i < COUNT(count * DC / CHUNK); i++)
    {
        const int n = item + i * WORK_ITEMS;
        float x[CHUNK];
        if (HAS(n, count * DC / CHUNK)) {
            VSTORE(CHUNK, chunks[i], x);
            UNROLL for (int j = 0; j < CHUNK; j++)
                to[(TURNED_FEATURE(n, count) + j) * ld + TURNED_ROW(n, count)] = x[j];
        }
    }
}

ALWAYS_INLINE void load_queries(chunk *chunks, const struct rows *q, float sign, int d, int item)
{
    load_turned(chunks, q, BQ, d, item);
    UNROLL for (int i = 0; i < COUNT(Q_CHUNKS); i++)
        if (HAS(item + i * WORK_ITEMS, Q_CHUNKS))
            chunks[i] *= sign;
}

/* The keys whose weights are in columns c .. c + RV - 1 of all work-items. */
#define VALUE_ROW(n, c) COLUMN((n) / ROW_CHUNKS % TX, (c) + (n) / ROW_CHUNKS / TX, WK)
ALWAYS_INLINE void load_values(chunk *chunks, const struct rows *v, int c, int item)
{
    if (WHOLE_CHUNKS && v->aligned)
        UNROLL for (int i = 0; i < COUNT(V_CHUNKS); i++)
        {
            const int n = item + i * WORK_ITEMS;
            if (HAS(n, V_CHUNKS))
                chunks[i] =
                    load_aligned(v, VALUE_ROW(n, c), n % ROW_CHUNKS * CHUNK, VALUE_DIM, OUT);
        }
    else
        UNROLL for (int i = 0; i < COUNT(V_CHUNKS); i++)
        {
            const int n = item + i * WORK_ITEMS;
            if (HAS(n, V_CHUNKS))
                chunks[i] =
                    load_one_by_one(v, VALUE_ROW(n, c), n % ROW_CHUNKS * CHUNK, VALUE_DIM);
        }
}

ALWAYS_INLINE void store_values(__local float *to, const chunk *chunks, int item)
{
    UNROLL for (int i = 0; i < COUNT(V_CHUNKS); i++)
    {
        const int n = item + i * WORK_ITEMS;
        if (HAS(n, V_CHUNKS))
            *(__local chunk *)(to + n * CHUNK) = chunks[i];
    }
}

ALWAYS_INLINE void load_keys(struct staged *g, const struct rows *q, float sign,
                             const struct rows *k, int d, int item)
{
    if (!KEEP_Q)
        load_queries(g->q, q, sign, d, item);
    load_turned(g->kv, k, BK, d, item);
}

ALWAYS_INLINE void store_keys(__local float *stage, const struct staged *g, int item)
{
    store_turned(stage, LDK, g->kv, BK, item);
    if (!KEEP_Q)
        store_turned(stage + Q_AT, LDQ, g->q, BQ, item);
}

/* Q^T for the features from d on. */
#if KEEP_Q
#define Q_STEP(now, d) (kept_q + (d)*LDQ)
#else
#define Q_STEP(now, d) (stages + (now) + Q_AT)
#endif

/* ---- the steps of a key block, for one work-item (x, y) ---- */

/* S += Q K^T for DC features that lie in local memory. */
ALWAYS_INLINE void multiply_keys(float (*s)[RK], __local const float *qt, __local const float *kt,
                                 int x, int y)
{
    UNROLL for (int d = 0; d < DC; d++)
    {
        float a[RQ], b[RK];
        READ_ALL(a, RQ, WQ, qt + d * LDQ + y * RQ, WQ);
        READ_ALL(b, RK, WK, kt + d * LDK + x * WK, TX * WK);
        UNROLL for (int r = 0; r < RQ; r++)
        UNROLL for (int c = 0; c < RK; c++) s[r][c] = fma(a[r], b[c], s[r][c]);
    }
}

#if SCORE_MODIFIER
ALWAYS_INLINE void modify_scores(float (*s)[RK], const struct attention_params *p,
                                 const struct query_tile *t, const struct key_tile *tile,
                                 __global const float *data, int x, int y)
{
    UNROLL for (int r = 0; r < RQ; r++)
    UNROLL for (int c = 0; c < RK; c++)
    {
        const int i = t->first + min(y * RQ + r, t->rows - 1);
        const int key = tile->first + min(COLUMN(x, c, WK), tile->count - 1);
        s[r][c] = modified(s[r][c], p, t->batch, t->head, i, key, data);
    }
}
#endif

/* Scores of keys that do not exist or that the mask hides become -infinity. Bit r * RK + c tells
 * which are left. */
ALWAYS_INLINE ulong mask_keys(float (*s)[RK], const struct attention_params *p,
                              const struct query_tile *t, const struct key_tile *tile,
                              mask_words words, int x, int y)
{
    ulong seen = 0;
    NO_UNROLL for (int n = 0; n < RQ * RK; n++)
    {
        const int i = t->first + min(y * RQ + n / RK, t->rows - 1);
        const int key = COLUMN(x, n % RK, WK);
        if (key < tile->count && VISIBLE(*p, *t, words, i, tile->first + key))
            seen |= 1ul << n;
    }
    UNROLL for (int r = 0; r < RQ; r++)
    UNROLL for (int c = 0; c < RK; c++)
        s[r][c] = seen >> (r * RK + c) & 1 ? s[r][c] : -INFINITY;
    return seen;
}

/* `top` grows to the maxima of whole rows. Contains a barrier. */
ALWAYS_INLINE void raise_top(float *top, float (*s)[RK], __local float *shared_rows, int x, int y)
{
    UNROLL for (int r = 0; r < RQ; r++)
    {
        float own = s[r][0];
        UNROLL for (int c = 1; c < RK; c++) own = max(own, s[r][c]);
        shared_rows[x * BQ + y * RQ + r] = own;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = 0; n < TX; n++) {
        float other[RQ];
        READ_ALL(other, RQ, WQ, shared_rows + n * BQ + y * RQ, WQ);
        UNROLL for (int r = 0; r < RQ; r++) top[r] = max(top[r], other[r]);
    }
}

/* S becomes P = exp(S - top); what was added up under the old maximum shrinks. */
ALWAYS_INLINE void weigh_keys(float (*s)[RK], float (*out)[RO], float *sum, const float *before,
                              const float *top, float log2_scale)
{
    UNROLL for (int r = 0; r < RQ; r++)
    {
        /* While a query has seen no key, any finite number serves as its maximum. */
        const float finite = top[r] == -INFINITY ? 0.0f : top[r];
        const float alpha = exp2((before[r] - finite) * log2_scale);
        sum[r] *= alpha;
        UNROLL for (int c = 0; c < RO; c++) out[r][c] *= alpha;
        UNROLL for (int c = 0; c < RK; c++)
        {
            s[r][c] = exp2((s[r][c] - finite) * log2_scale);
            sum[r] += s[r][c];
        }
    }
}

ALWAYS_INLINE void hide_keys(float (*s)[RK], ulong seen)
{
    UNROLL for (int r = 0; r < RQ; r++)
    UNROLL for (int c = 0; c < RK; c++)
        s[r][c] = seen >> (r * RK + c) & 1 ? s[r][c] : HIDDEN_WEIGHT;
}

/* Scores become weights: everything between the two products. Contains a barrier. */
ALWAYS_INLINE void weigh_tile(float (*s)[RK], float (*out)[RO], float *sum, float *top,
                              const struct attention_params *p, const struct query_tile *t,
                              const struct key_tile *tile, mask_words words,
                              __local float *shared_rows, int x, int y)
{
    const bool masked = tile->partial || tile->count < BK;
    ulong seen = 0;
    float before[RQ];
    UNROLL for (int r = 0; r < RQ; r++) before[r] = top[r];
    if (masked)
        seen = mask_keys(s, p, t, tile, words, x, y);
    raise_top(top, s, shared_rows, x, y);
    weigh_keys(s, out, sum, before, top, p->log2_scale);
    if (masked)
        hide_keys(s, seen);
}

/* P^T of the columns whose keys make step `at` / VC. That is no constant, and registers cannot be
 * indexed: columns are compared. */
ALWAYS_INLINE void store_weights(__local float *weights, float (*s)[RK], int at, int x, int y)
{
    UNROLL for (int c = 0; c < RK; c++)
    {
        if (c / RV * VC == at) {
            float column[RQ];
            UNROLL for (int r = 0; r < RQ; r++) column[r] = s[r][c];
            UNROLL for (int r = 0; r < RQ; r += WQ)
                *(__local VECTOR(float, WQ) *)(weights + (c % RV * TX + x) * LDQ + y * RQ + r) =
                    VLOAD(WQ, column + r);
        }
    }
}

/* O += P V for `count` keys that lie in local memory. `hidden`, whether some keys are, is a
 * constant, so that full tiles run a loop without any selection. */
ALWAYS_INLINE void add_values(float (*out)[RO], __local const float *weights,
                              __local const float *rows, int count, int x, int y,
                              const bool hidden)
{
    UNROLL for (int n = 0; n < count; n++)
    {
        float a[RQ], b[RO];
        READ_ALL(a, RQ, WQ, weights + n * LDQ + y * RQ, WQ);
        READ_ALL(b, RO, WO, rows + n * OUT + x * WO, TX * WO);
        UNROLL for (int r = 0; r < RQ; r++)
        UNROLL for (int c = 0; c < RO; c++)
        {
            const float more = fma(a[r], b[c], out[r][c]);
            out[r][c] = hidden && IS_HIDDEN(as_int, a[r]) ? out[r][c] : more; /* no branch */
        }
    }
}

/* The same for a step. */
ALWAYS_INLINE void add_step(float (*out)[RO], __local const float *stage, int x, int y,
                            bool hidden)
{
    if (hidden)
        NO_UNROLL for (int n = 0; n < VC; n++)
            add_values(out, stage + P_AT + n * LDQ, stage + n * OUT, 1, x, y, true);
    else
        add_values(out, stage + P_AT, stage, VC, x, y, false);
}

/* One row of O. A query without any key has total = 0, and gets 0. */
ALWAYS_INLINE void store_row(__global element *row, long stride, const float *out, float total,
                             int x)
{
    const float inverse = total == 0 ? 0.0f : 1.0f / total;
    UNROLL for (int c = 0; c < RO; c++)
    {
        const int f = COLUMN(x, c, WO);
        if (f < VALUE_DIM)
            STORE(DTYPE, out[c] * inverse, row + f * stride);
    }
}

__kernel SMALL_SUB_GROUPS __attribute__((reqd_work_group_size(WORK_ITEMS, 1, 1))) void
attention(ATTENTION_PARAMETERS)
{
#if KEEP_Q
    __local float kept_q[FEATURES * LDQ] __attribute__((aligned(16)));
#endif
    __local float stages[2 * STAGE] __attribute__((aligned(16)));
    __local float shared_rows[TX * BQ] __attribute__((aligned(16)));

    MASK_BEGIN(p)
    /* Pairs of work-items are neighbours in y, which halves what eight read at a time. */
    const int item = get_local_id(0), x = item / 2 % TX, y = item % 2 + item / (2 * TX) * 2;
    /* What takes longest starts first, so that it does not run alone in the end. */
    const struct query_tile t = query_tile(
        &p, p.last_first ? get_num_groups(0) - 1 - get_group_id(0) : get_group_id(0));
    const int kv_head = t.head / p.group;
    __global const element *head_k = k + head_offset(&p.k, t.batch, kv_head);
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);
    struct rows rows_q = open_rows(q + head_offset(&p.q, t.batch, t.head) + t.first * p.q.seq,
                                   p.q.seq, FEATURE_STRIDE(p.q));
    struct rows rows_k = open_rows(head_k, p.k.seq, FEATURE_STRIDE(p.k));
    struct rows rows_v = open_rows(head_v, p.v.seq, FEATURE_STRIDE(p.v));
    rows_q.last = t.rows - 1;

    struct staged g;
    float top[RQ], sum[RQ], out[RQ][RO];
    UNROLL for (int r = 0; r < RQ; r++)
    {
        top[r] = -INFINITY, sum[r] = 0;
        UNROLL for (int c = 0; c < RO; c++) out[r][c] = 0;
    }
#if KEEP_Q
    for (int d = 0; d < FEATURES; d += DC) {
        chunk chunks[COUNT(Q_CHUNKS)];
        load_queries(chunks, &rows_q, p.sign, d, item);
        store_turned(kept_q + d * LDQ, LDQ, chunks, BQ, item);
    }
#endif

    struct walk walk = WALK_START(p, t);
    struct key_tile tile, next;
    bool more = WALK_NEXT(walk, p, t, tile);
    int now = 0; /* where the current stage begins */
    if (more) {
        rows_k.x = head_k + tile.first * p.k.seq, rows_k.last = tile.count - 1;
        load_keys(&g, &rows_q, p.sign, &rows_k, 0, item);
        store_keys(stages, &g, item);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    while (more) {
        float s[RQ][RK];
        UNROLL for (int r = 0; r < RQ; r++)
        UNROLL for (int c = 0; c < RK; c++) s[r][c] = 0;
        rows_v.x = head_v + tile.first * p.v.seq, rows_v.last = tile.count - 1;
        for (int d = 0; d < FEATURES; d += DC) {
            const bool keys = d + DC < FEATURES;
            if (keys)
                load_keys(&g, &rows_q, p.sign, &rows_k, d + DC, item);
            else
                load_values(g.kv, &rows_v, 0, item);
            multiply_keys(s, Q_STEP(now, d), stages + now, x, y);
            now = STAGE - now;
            if (keys)
                store_keys(stages + now, &g, item);
            else
                store_values(stages + now, g.kv, item);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
#if SCORE_MODIFIER
        modify_scores(s, &p, &t, &tile, SCORE_DATA_OF(p), x, y);
#endif
        weigh_tile(s, out, sum, top, &p, &t, &tile, MASK_WORDS, shared_rows, x, y);
        store_weights(stages + now + P_AT, s, 0, x, y);
        more = WALK_NEXT(walk, p, t, next);
        if (more)
            rows_k.x = head_k + next.first * p.k.seq, rows_k.last = next.count - 1;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int at = 0; at < BK; at += VC) {
            const bool values = at + VC < BK;
            if (values)
                load_values(g.kv, &rows_v, (at + VC) / TX, item);
            else if (more)
                load_keys(&g, &rows_q, p.sign, &rows_k, 0, item);
            add_step(out, stages + now, x, y, tile.partial || tile.count < BK);
            now = STAGE - now;
            if (values) {
                store_values(stages + now, g.kv, item);
                store_weights(stages + now + P_AT, s, at + VC, x, y);
            } else if (more) {
                store_keys(stages + now, &g, item);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        tile = next;
    }

    /* The sums lie in parts, one for each work-item of a row. */
    UNROLL for (int r = 0; r < RQ; r++) shared_rows[x * BQ + y * RQ + r] = sum[r];
    barrier(CLK_LOCAL_MEM_FENCE);
    __global element *tile_o = o + head_offset(&p.o, t.batch, t.head) + t.first * p.o.seq;
    UNROLL for (int r = 0; r < RQ; r++)
    {
        const int row = y * RQ + r;
        float total = 0;
        for (int n = 0; n < TX; n++)
            total += shared_rows[n * BQ + row];
        if (row < t.rows) {
            store_row(tile_o + row * p.o.seq, FEATURE_STRIDE(p.o), out[r], total, x);
#if LOGSUMEXP
            if (x == 0)
                lse[lse_offset(&p, &t) + row] =
                    total == 0 ? -INFINITY : top[r] * p.scale + log(total);
#endif
        }
    }
}
