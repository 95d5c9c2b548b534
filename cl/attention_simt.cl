/*
 * Attention for any GPU: a work-group of TX x TY work-items owns BQ queries and walks over blocks of
 * BK keys. Operands pass through local memory, accumulators stay in registers:
 *
 *                  BK = TX * RK keys                      OUT = TX * RO features
 *                 +----+----+----+----+                  +----+----+----+----+
 *              DC | K^T, DC features  |               VC | V, VC keys        |
 *                 | at a time         |                  | at a time         |
 *                 +----+----+----+----+                  +----+----+----+----+
 *        DC                                      BK
 *      +----+     +----+----+----+----+        +----+    +----+----+----+----+
 *  RQ  |Q^T |  RQ | S: RQ x RK for    |    RQ  |P^T |  RQ| O: RQ x RO for    |
 *      |    |     | each work-item    |        |    |    | each work-item    |
 *      +----+     +----+----+----+----+        +----+    +----+----+----+----+
 *  BQ = TY * RQ queries
 *
 * Work-items of one row share its maximum through local memory once per block; its sum stays in
 * parts, one for each work-item, until the end.
 *
 * Contract (tunables): TX, TY, RQ, RK, DC, VC as above, and KEEP_Q: 1 to keep Q^T whole in local
 * memory, 0 to stage it with K^T. See attention.clh for the variant.
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

#define ROUND_UP(x, step) (((x) + (step) - 1) / (step) * (step))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))

#define RO ((HEAD_DIM + TX - 1) / TX)
#define OUT (TX * RO)

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

#define Q_ROWS (KEEP_Q ? ROUND_UP(HEAD_DIM, DC) : DC)
#define K_FLOATS (DC * LDK)
#define V_FLOATS (VC * OUT)
#define STAGE_FLOATS (K_FLOATS > V_FLOATS ? K_FLOATS : V_FLOATS)

#define READ(width, p) (*(__local const VECTOR(float, width) *)(p))

/* x[0 .. n-1] from local memory, `width` at a time, `step` apart. */
#define READ_ALL(x, n, width, p, step)                                                             \
    UNROLL for (int n_ = 0; n_ < (n) / (width); n_++)                                              \
        VSTORE(width, READ(width, (p) + n_ * (step)), (x) + n_ * (width))

/* ALWAYS_INLINE everywhere: PoCL 3.1 crashes in its inliner over large register tiles when it may
 * choose. */

/* ---- global to local memory; all work-items take part ---- */

/* `features` features from d on of `rows` rows, transposed: to[feature][row]. Zeros outside. */
ALWAYS_INLINE void stage_transposed(__local float *to, int ld, __global const element *x, long seq,
                                    long feature, int rows, int padded_rows, int d, int features,
                                    int item)
{
    for (int n = item; n < padded_rows * features; n += TX * TY) {
        const int row = n / features, f = n % features;
        const bool inside = row < rows && d + f < HEAD_DIM;
        to[f * ld + row] = inside ? LOAD(DTYPE, x + row * seq + (d + f) * feature) : 0.0f;
    }
}

/* VC rows as they are: to[row][feature]. Zeros outside. */
ALWAYS_INLINE void stage_rows(__local float *to, __global const element *x, long seq, long feature,
                              int rows, int item)
{
    for (int n = item; n < VC * OUT; n += TX * TY) {
        const int row = n / OUT, f = n % OUT;
        const bool inside = row < rows && f < HEAD_DIM;
        to[n] = inside ? LOAD(DTYPE, x + row * seq + f * feature) : 0.0f;
    }
}

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

/* Scores of keys that do not exist or that the mask hides become -infinity. */
ALWAYS_INLINE void mask_keys(float (*s)[RK], const struct attention_params *p,
                             const struct query_tile *t, const struct key_tile *tile,
                             __global const uint *words, int x, int y)
{
    ulong seen = 0;
    for (int n = 0; n < RQ * RK; n++) {
        const int i = t->first + min(y * RQ + n / RK, t->rows - 1);
        const int key = COLUMN(x, n % RK, WK);
        if (key < tile->count && VISIBLE(*p, *t, words, i, tile->first + key))
            seen |= 1ul << n;
    }
    UNROLL for (int r = 0; r < RQ; r++)
    UNROLL for (int c = 0; c < RK; c++)
        s[r][c] = seen >> (r * RK + c) & 1 ? s[r][c] : -INFINITY;
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

/* P = exp(S - top), into local memory; what was added up under the old maximum shrinks. */
ALWAYS_INLINE void weigh_keys(__local float *weights, float (*s)[RK], float (*out)[RO], float *sum,
                              const float *before, const float *top, float log2_scale, int x, int y)
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
            const float w = exp2((s[r][c] - finite) * log2_scale);
            s[r][c] = s[r][c] == -INFINITY ? HIDDEN_WEIGHT : w;
            sum[r] += s[r][c];
        }
    }
    UNROLL for (int c = 0; c < RK; c++)
    UNROLL for (int r = 0; r < RQ; r++)
        weights[COLUMN(x, c, WK) * LDQ + y * RQ + r] = s[r][c];
}

/* O += P V for VC keys that lie in local memory. `partial` is a constant, so that full tiles run a
 * loop without any selection. */
ALWAYS_INLINE void add_values(float (*out)[RO], __local const float *weights,
                              __local const float *rows, int x, int y, const bool partial)
{
    UNROLL for (int n = 0; n < VC; n++)
    {
        float a[RQ], b[RO];
        READ_ALL(a, RQ, WQ, weights + n * LDQ + y * RQ, WQ);
        READ_ALL(b, RO, WO, rows + n * OUT + x * WO, TX * WO);
        UNROLL for (int r = 0; r < RQ; r++)
        UNROLL for (int c = 0; c < RO; c++)
        {
            const float more = fma(a[r], b[c], out[r][c]);
            out[r][c] = partial && IS_HIDDEN(as_int, a[r]) ? out[r][c] : more; /* no branch */
        }
    }
}

/* One row of O. A query without any key has total = 0, and gets 0. */
ALWAYS_INLINE void store_row(__global element *row, long stride, const float *out, float total,
                             int x)
{
    const float inverse = total == 0 ? 0.0f : 1.0f / total;
    UNROLL for (int c = 0; c < RO; c++)
    {
        const int f = COLUMN(x, c, WO);
        if (f < HEAD_DIM)
            STORE(DTYPE, out[c] * inverse, row + f * stride);
    }
}

__kernel __attribute__((reqd_work_group_size(TX, TY, 1))) void attention(ATTENTION_PARAMETERS)
{
    __local float stage_q[Q_ROWS * LDQ] __attribute__((aligned(16)));
    __local float stage[STAGE_FLOATS] __attribute__((aligned(16))); /* K^T, then V */
    __local float weights[BK * LDQ] __attribute__((aligned(16)));   /* P^T: [key][query] */
    __local float shared_rows[TX * BQ] __attribute__((aligned(16)));

    const int x = get_local_id(0), y = get_local_id(1), item = y * TX + x;
    /* What takes longest starts first, so that it does not run alone in the end. */
    const struct query_tile t = query_tile(
        &p, p.last_first ? get_num_groups(0) - 1 - get_group_id(0) : get_group_id(0));
    const int kv_head = t.head / p.group;
    const long seq_q = p.q.seq, seq_k = p.k.seq, seq_v = p.v.seq;
    __global const element *tile_q = q + head_offset(&p.q, t.batch, t.head) + t.first * seq_q;
    __global const element *head_k = k + head_offset(&p.k, t.batch, kv_head);
    __global const element *head_v = v + head_offset(&p.v, t.batch, kv_head);

    float top[RQ], sum[RQ], out[RQ][RO];
    UNROLL for (int r = 0; r < RQ; r++)
    {
        top[r] = -INFINITY, sum[r] = 0;
        UNROLL for (int c = 0; c < RO; c++) out[r][c] = 0;
    }
#if KEEP_Q
    stage_transposed(stage_q, LDQ, tile_q, seq_q, FEATURE_STRIDE(p.q), t.rows, BQ, 0, Q_ROWS, item);
#endif

    struct walk walk = WALK_START(p, t);
    struct key_tile tile;
    while (WALK_NEXT(walk, p, t, tile)) {
        __global const element *tile_k = head_k + tile.first * seq_k;
        __global const element *tile_v = head_v + tile.first * seq_v;
        float s[RQ][RK], before[RQ];
        UNROLL for (int r = 0; r < RQ; r++)
        UNROLL for (int c = 0; c < RK; c++) s[r][c] = 0;
        for (int d = 0; d < HEAD_DIM; d += DC) {
            barrier(CLK_LOCAL_MEM_FENCE);
#if !KEEP_Q
            stage_transposed(stage_q, LDQ, tile_q, seq_q, FEATURE_STRIDE(p.q), t.rows, BQ, d, DC,
                             item);
#endif
            stage_transposed(stage, LDK, tile_k, seq_k, FEATURE_STRIDE(p.k), tile.count, BK, d, DC,
                             item);
            barrier(CLK_LOCAL_MEM_FENCE);
            multiply_keys(s, stage_q + (KEEP_Q ? d : 0) * LDQ, stage, x, y);
        }
        UNROLL for (int r = 0; r < RQ; r++)
        {
            before[r] = top[r];
            UNROLL for (int c = 0; c < RK; c++) s[r][c] *= p.sign;
        }
        if (tile.partial || tile.count < BK)
            mask_keys(s, &p, &t, &tile, MASK_WORDS, x, y);
        raise_top(top, s, shared_rows, x, y);
        weigh_keys(weights, s, out, sum, before, top, p.log2_scale, x, y);
        for (int key = 0; key < tile.count; key += VC) {
            barrier(CLK_LOCAL_MEM_FENCE);
            stage_rows(stage, tile_v + key * seq_v, seq_v, FEATURE_STRIDE(p.v), tile.count - key,
                       item);
            barrier(CLK_LOCAL_MEM_FENCE);
            if (tile.partial)
                add_values(out, weights + key * LDQ, stage, x, y, true);
            else
                add_values(out, weights + key * LDQ, stage, x, y, false);
        }
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
