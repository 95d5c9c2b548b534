/*
 * Attention on matrix engines, after Dao, "FlashAttention-2", 2023. All tiles are transposed: a
 * query is a column, whose maximum and sum stay in the few lanes that hold it, and sums of S^T
 * become the right operand P^T without leaving their registers.
 *
 *                            BQ queries: SG sub-groups of RQ fragments
 *                                +-------+-------+
 *               DIM features     | Q^T           |   local memory, or registers
 *                                +-------+-------+
 *             +-------------+    +-------+-------+
 *     BK keys | K           |    | S^T, P^T      |   registers
 *             +-------------+    +-------+-------+
 *                  BK keys
 *             +-------------+    +-------+-------+
 *         DIM | V^T         |    | O^T           |   registers
 *             +-------------+    +-------+-------+
 *
 * K and V are staged in local memory while products of what came before them run:
 *
 *     STAGES = 1    V(n) during S(n), K(n + 1) during softmax and O(n)
 *     STAGES = 2    K(n + 1) and V(n + 1) during all of step n
 *
 * Full tiles run without a test of elements, empty ones are never visited.
 *
 * Contract (tunables): SG, RQ, BK, STAGES as above; KEEP_Q: 1 to keep Q in registers, 0 to read it
 * again for each tile. Of the device: see mma/mma.clh. Variant: CHUNKED, 1 where rows of Q, K, V
 * and O are whole chunks of 16 bytes, if the first one is aligned; see attention.clh for the
 * others.
 */
#if !defined(SG) || !defined(RQ) || !defined(BK) || !defined(STAGES) || !defined(KEEP_Q) ||        \
    !defined(CHUNKED)
#error "attention_mma.cl: SG, RQ, BK, STAGES, KEEP_Q and CHUNKED must be defined"
#endif

#include "common.clh"
#include "mma/mma.clh"

#define BQ (SG * RQ * MMA_N)

#include "attention_params.clh"
#include "attention.clh"

#define GROUP (SG * MMA_LANES)
#define K_DIM ROUND_UP(HEAD_DIM, 16) /* whole fragments, whichever way they lie */
#define V_DIM ROUND_UP(VALUE_DIM, 16)
#define DIM LARGER(K_DIM, V_DIM)
#define CHUNKS (DIM / MMA_CHUNK)    /* of a line of a tile */
#define TILE_CHUNKS (BK * CHUNKS)   /* of K or V */
#define Q_FRAGMENTS (K_DIM / MMA_K) /* along k; the others along m */
#define P_FRAGMENTS (BK / MMA_K)
#define S_FRAGMENTS (BK / MMA_M)
#define O_FRAGMENTS (V_DIM / MMA_M)
#define COLUMNS (RQ * MMA_LANE_COLUMNS) /* of a lane */

/* Left fragments that are multiplied at once. On an engine few, which takes few registers; the
 * emulation has its barriers once for all of them. */
#define BATCH(fragments) (MMA_EMULATED ? (fragments) : 16 / MMA_M)

/* Maxima may lag behind: weights are up to 2^LAG. And they are 2^SLACK times as large as they
 * should be until the end, so that far more of them are normal numbers of f16, whose largest is
 * above 2^15; bf16 has f32's exponents. */
#define LAG 6
#define SLACK PASTE(SLACK_, DTYPE)
#define SLACK_f16 9
#define SLACK_bf16 0

#include "attention_mma_tiles.clh"

/* ---- the steps of a key tile ---- */

/* S^T = K Q^T */
ALWAYS_INLINE void score(struct mma_subgroup self, mma_sums *s, const __local uint4 *tile_k,
                         const __local uint4 *tile_q, const mma_right *kept)
{
    MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++) s[f].x[i] = 0;
    MMA_UNROLL for (int d = 0; d < Q_FRAGMENTS; d++)
    {
        mma_right again[RQ];
        if (!KEEP_Q)
            mma_load_right(self, again, RQ, tile_q, CHUNKS, self.index * RQ * MMA_N, d * MMA_K);
        const mma_right *q = KEEP_Q ? kept + d * RQ : again;
        MMA_UNROLL for (int f = 0; f < S_FRAGMENTS; f += BATCH(S_FRAGMENTS))
        {
            mma_left k[BATCH(S_FRAGMENTS)];
            mma_load_left(self, k, BATCH(S_FRAGMENTS), tile_k, CHUNKS, f * MMA_M, d * MMA_K);
            mma_multiply(self, s + f * RQ, k, BATCH(S_FRAGMENTS), q, RQ);
        }
    }
}

/* O^T += V^T P^T */
ALWAYS_INLINE void add_values(struct mma_subgroup self, mma_sums *out, const mma_sums *s,
                              const __local uint4 *tile_v)
{
    MMA_UNROLL for (int n = 0; n < P_FRAGMENTS; n++)
    {
        mma_right weights[RQ];
        MMA_UNROLL for (int r = 0; r < RQ; r++) weights[r] =
            mma_right_from_sums(self, s + n * (MMA_K / MMA_M) * RQ + r, RQ);
        MMA_UNROLL for (int f = 0; f < O_FRAGMENTS; f += BATCH(O_FRAGMENTS))
        {
            mma_left v[BATCH(O_FRAGMENTS)];
            mma_load_left_turned(self, v, BATCH(O_FRAGMENTS), tile_v, CHUNKS, f * MMA_M, n * MMA_K);
            mma_multiply(self, out + f * RQ, v, BATCH(O_FRAGMENTS), weights, RQ);
        }
    }
}

/* Which column of a lane sum `i` of fragment `f` is in. */
#define LANE_COLUMN(f, i) ((f) % RQ * MMA_LANE_COLUMNS + MMA_SUM_LANE_COLUMN(i))

/* What sum `n` of a lane is, in the order of s[].x[]. */
#define N_SUMS (S_FRAGMENTS * RQ * MMA_SUMS)
#define KEY_OF(self, n)                                                                            \
    ((n) / (RQ * MMA_SUMS) * MMA_M + MMA_SUM_ROW((self).lane, (n) % MMA_SUMS))
#define QUERY_OF(self, n)                                                                          \
    (((self).index * RQ + (n) / MMA_SUMS % RQ) * MMA_N +                                           \
     MMA_SUM_COLUMN((self).lane, (n) % MMA_SUMS))

#if SCORE_MODIFIER
ALWAYS_INLINE void modify_scores(struct mma_subgroup self, mma_sums *s,
                                 const struct attention_params *p, const struct query_tile *t,
                                 const struct key_tile *tile, __global const float *data)
{
    MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int n = 0; n < MMA_SUMS; n++)
    {
        const int i = t->first + min(QUERY_OF(self, f * MMA_SUMS + n), t->rows - 1);
        const int key = tile->first + min(KEY_OF(self, f * MMA_SUMS + n), tile->count - 1);
        s[f].x[n] = modified(s[f].x[n], p, t->batch, t->head, i, key, data);
    }
}
#endif

/* Scores of keys that do not exist or that the mask hides become -infinity. */
#if !MASK_LIST
ALWAYS_INLINE void mask_scores(struct mma_subgroup self, mma_sums *s,
                               const struct attention_params *p, const struct query_tile *t,
                               const struct key_tile *tile, mask_words words)
{
    /* The first key of the tile that the query sees, from the lane's first row on: sums lie at the
     * same distances in all lanes. And how many follow. */
    int low[COLUMNS];
    uint more[COLUMNS];
    MMA_UNROLL for (int n = 0; n < RQ * MMA_SUMS; n++)
    {
        const int i = t->first + QUERY_OF(self, n) - tile->first;
        const int first = max(i + p->low, 0), last = min(i + p->high, tile->count - 1);
        const int c = LANE_COLUMN(n / MMA_SUMS, n % MMA_SUMS);
        low[c] = (first <= last ? first : BK) - MMA_SUM_ROW(self.lane, 0);
        more[c] = max(last - first, 0);
    }
    MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
    {
        const int c = LANE_COLUMN(f, i), key = f / RQ * MMA_M + MMA_SUM_ROW(0, i);
        s[f].x[i] = (uint)(key - low[c]) <= more[c] ? s[f].x[i] : -INFINITY;
    }
}
#else
/* A predicate's code is too long to be there once for each sum: bits of a word first. */
#define SEEN_BITS SMALLER(N_SUMS, 32)

ALWAYS_INLINE void mask_scores(struct mma_subgroup self, mma_sums *s,
                               const struct attention_params *p, const struct query_tile *t,
                               const struct key_tile *tile, mask_words words)
{
    MMA_UNROLL for (int start = 0; start < N_SUMS; start += SEEN_BITS)
    {
        uint seen = 0;
        NO_UNROLL for (int bit = 0; bit < SEEN_BITS; bit++)
        {
            /* Queries past the last one repeat it: no list says anything of them. */
            const int i = t->first + min(QUERY_OF(self, start + bit), t->rows - 1);
            const int key = KEY_OF(self, start + bit);
            if (key < tile->count && VISIBLE(*p, *t, words, i, tile->first + key))
                seen |= 1u << bit;
        }
        MMA_UNROLL for (int f = 0; f < SEEN_BITS / MMA_SUMS; f++)
        MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
        {
            float *x = s[start / MMA_SUMS + f].x + i;
            *x = seen >> (f * MMA_SUMS + i) & 1 ? *x : -INFINITY;
        }
    }
}
#endif

/* Maxima grow to those of whole columns where these are higher by far, each by itself, and what was
 * added up under the old ones shrinks: seldom after the first tiles. */
ALWAYS_INLINE void raise_top(struct mma_subgroup self, float *top, float *sum, mma_sums *out,
                             const mma_sums *s, float log2_scale)
{
    float highest[COLUMNS], alpha[COLUMNS];
    bool grows = false;
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++) highest[c] = top[c];
    MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
        highest[LANE_COLUMN(f, i)] = fmax(highest[LANE_COLUMN(f, i)], s[f].x[i]);
    mma_max_down(self, highest, COLUMNS);
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++)
        grows |= (highest[c] - top[c]) * log2_scale > LAG;
    if (!grows)
        return;
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++)
    {
        const bool by_far = (highest[c] - top[c]) * log2_scale > LAG;
        alpha[c] = by_far ? mma_exp2((top[c] - highest[c]) * log2_scale) : 1.0f;
        top[c] = by_far ? highest[c] : top[c];
        sum[c] *= alpha[c];
    }
#if MMA_LANE_COLUMNS == 1 /* fewer words: Intel's compiler does not unroll what is long */
    MMA_UNROLL for (int f = 0; f < O_FRAGMENTS * RQ; f++)
        VSTORE(MMA_SUMS, VLOAD(MMA_SUMS, out[f].x) * alpha[LANE_COLUMN(f, 0)], out[f].x);
#else
    MMA_UNROLL for (int f = 0; f < O_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++) out[f].x[i] *= alpha[LANE_COLUMN(f, i)];
#endif
}

/* Scaled, such scores have no digit behind the point left. */
#define LARGE_SCORE 0x1p22f

/* P^T from S^T. Sums stay in parts, one for each lane of a column. One multiply-add for each score
 * is exact enough but for large ones, whose scaled maximum may be off by more than 1. */
ALWAYS_INLINE void weigh(mma_sums *s, const float *top, float *sum, float log2_scale)
{
    float finite[COLUMNS], least[COLUMNS], largest = 0;
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++)
    {
        finite[c] = top[c] == -INFINITY ? 0.0f : top[c];
        least[c] = SLACK - finite[c] * log2_scale;
        largest = fmax(largest, fabs(least[c]));
    }
    if (!(largest < LARGE_SCORE)) {
        MMA_UNROLL for (int c = 0; c < COLUMNS; c++)
        {
            const bool is_large = !(fabs(least[c]) < LARGE_SCORE); /* a column by itself */
            finite[c] = is_large ? finite[c] : 0.0f;
            least[c] = is_large ? SLACK : least[c];
        }
        MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
        MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++) s[f].x[i] -= finite[LANE_COLUMN(f, i)];
    }
    MMA_UNROLL for (int f = 0; f < S_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
    {
        s[f].x[i] = mma_exp2(fma(s[f].x[i], log2_scale, least[LANE_COLUMN(f, i)]));
        sum[LANE_COLUMN(f, i)] += s[f].x[i];
    }
}

/* ---- the results ---- */

/* O^T, rounded, as lines of a tile. */
ALWAYS_INLINE void stage_outputs(struct mma_subgroup self, __local uint4 *tile, const mma_sums *out,
                                 const float *inverse)
{
    MMA_UNROLL for (int f = 0; f < O_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
    {
        const int line = (self.index * RQ + f % RQ) * MMA_N + MMA_SUM_COLUMN(self.lane, i);
        const int d = f / RQ * MMA_M + MMA_SUM_ROW(self.lane, i);
        __local ushort *x = (__local ushort *)(tile + MMA_AT(CHUNKS, line, d / MMA_CHUNK));
        x[d % MMA_CHUNK] = (ushort)mma_pack(out[f].x[i] * inverse[LANE_COLUMN(f, i)], 0.0f);
    }
}

static inline void store_outputs(__global ushort *o, const struct attention_tensor *to,
                                 const __local uint4 *tile, const __local uint *spoilt, int rows,
                                 int item)
{
    const bool chunked = CHUNKED && (size_t)o % 16 == 0;
    NO_UNROLL for (int n = 0; n < COPIES(BQ); n++)
    {
        const int line = LINE(item, n), place = PLACE(item, n);
        const int features = min(VALUE_DIM - place * MMA_CHUNK, MMA_CHUNK);
        if (line >= rows || features <= 0)
            continue;
        __global ushort *row = o + line * to->seq;
        const uint4 chunk = spoilt_chunk(tile[MMA_AT(CHUNKS, line, place)],
                                         spoilt + line * SPOILT_WORDS, place);
        if (chunked) {
            *(__global uint4 *)(row + place * MMA_CHUNK) = chunk;
            continue;
        }
        ushort x[MMA_CHUNK];
        VSTORE(8, as_ushort8(chunk), x);
        UNROLL for (int i = 0; i < MMA_CHUNK; i++)
        {
            if (i < features)
                row[(place * MMA_CHUNK + i) * FEATURE_STRIDE(*to)] = x[i];
        }
    }
}

/* The lane with a column's first row speaks for it. `total` is 2^SLACK times as large. */
#if LOGSUMEXP
static inline void store_logsumexp(struct mma_subgroup self, __global float *lse, const float *top,
                                   const float *total, float scale, int rows)
{
    MMA_UNROLL for (int r = 0; r < RQ; r++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++)
    {
        const int c = LANE_COLUMN(r, i);
        const int row = (self.index * RQ + r) * MMA_N + MMA_SUM_COLUMN(self.lane, i);
        if (MMA_SUM_ROW(self.lane, i) == 0 && row < rows)
            lse[row] = total[c] == 0 ? -INFINITY
                                     : top[c] * scale + (log(total[c]) - SLACK * M_LN2_F);
    }
}
#endif

__kernel MMA_KERNEL(GROUP) void attention(ATTENTION_PARAMETERS)
{
    __local uint4 tile_q[BQ * CHUNKS] __attribute__((aligned(128))); /* in the end O */
    __local uint4 tile_k[STAGES * TILE_CHUNKS] __attribute__((aligned(128)));
    __local uint4 tile_v[STAGES * TILE_CHUNKS] __attribute__((aligned(128)));
    __local uint spoilt[BQ * SPOILT_WORDS];
    __local int found; /* a NaN or an infinity in V, in a partial tile */
    MMA_SUBGROUP(self, SG, BATCH(S_FRAGMENTS > O_FRAGMENTS ? S_FRAGMENTS : O_FRAGMENTS), RQ);

    MASK_BEGIN(p)
    const int item = get_local_id(0);
    const int heads = get_num_groups(0) / p.query_tiles;
    const struct query_tile t =
        query_tile(&p, group_in_turn(&p, heads, get_group_id(0) ORDER_NAME));
    const int kv_head = t.head / p.group;
    const struct rows rows_q = ROWS(q, t.head);
    const struct rows rows_k = ROWS(k, kv_head), rows_v = ROWS(v, kv_head);

    mma_sums out[O_FRAGMENTS * RQ];
    mma_right kept[KEEP_Q ? Q_FRAGMENTS * RQ : 1];
    float top[COLUMNS], sum[COLUMNS];
    MMA_UNROLL for (int f = 0; f < O_FRAGMENTS * RQ; f++)
    MMA_UNROLL for (int i = 0; i < MMA_SUMS; i++) out[f].x[i] = 0;
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++) top[c] = -INFINITY, sum[c] = 0;
    for (int i = item; i < BQ * SPOILT_WORDS; i += GROUP)
        spoilt[i] = 0;
    if (item == 0)
        found = 0;

    struct walk walk = WALK_START(p, t);
    struct key_tile tile, next = {0, 0, false};
    bool more = WALK_NEXT(walk, p, t, next);
    stage(tile_q, &rows_q, HEAD_DIM, t.first, t.rows, BQ, item);
    stage(tile_k, &rows_k, HEAD_DIM, next.first, next.count, BK, item);
    if (STAGES == 2)
        stage(tile_v, &rows_v, VALUE_DIM, next.first, next.count, BK, item);
    mma_commit();
    if (p.sign < 0) {
        MMA_WAIT(0);
        negate_queries(tile_q, item);
    }
#if KEEP_Q
    MMA_WAIT(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    MMA_UNROLL for (int d = 0; d < Q_FRAGMENTS; d++)
        mma_load_right(self, kept + d * RQ, RQ, tile_q, CHUNKS, self.index * RQ * MMA_N, d * MMA_K);
#elif STAGES == 2
    barrier(CLK_LOCAL_MEM_FENCE); /* `found` is there before the first step may write to it */
#endif

    for (int step = 1; more; step++) {
        mma_sums s[S_FRAGMENTS * RQ];
        const int now = STAGES == 2 ? (step + 1) % 2 * TILE_CHUNKS : 0;
        const int then = STAGES == 2 ? step % 2 * TILE_CHUNKS : 0;
        tile = next;
        MMA_WAIT(0);
        if (STAGES == 2 && tile.partial && keep_numbers(tile_v + now, item))
            found = 1;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (STAGES == 1)
            stage(tile_v, &rows_v, VALUE_DIM, tile.first, tile.count, BK, item);
        next.count = 0; /* where there is none, zeros are staged: cheaper than a branch around it */
        more = WALK_NEXT(walk, p, t, next);
        if (STAGES == 2) {
            stage(tile_k + then, &rows_k, HEAD_DIM, next.first, next.count, BK, item);
            stage(tile_v + then, &rows_v, VALUE_DIM, next.first, next.count, BK, item);
        }
        mma_commit();
        score(self, s, tile_k + now, tile_q, kept);
#if SCORE_MODIFIER
        modify_scores(self, s, &p, &t, &tile, SCORE_DATA_OF(p));
#endif
        if (tile.partial || tile.count < BK)
            mask_scores(self, s, &p, &t, &tile, MASK_WORDS);
#if STAGES == 1
        MMA_WAIT(0);
        if (tile.partial && keep_numbers(tile_v, item))
            found = 1;
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
        raise_top(self, top, sum, out, s, p.log2_scale);
#if STAGES == 1
        stage(tile_k, &rows_k, HEAD_DIM, next.first, next.count, BK, item);
        mma_commit();
#endif
        weigh(s, top, sum, p.log2_scale);
        add_values(self, out, s, tile_v + now);
    }

    MMA_WAIT(0);
    mma_sum_down(self, sum, COLUMNS);
    float inverse[COLUMNS]; /* a query without any key has a sum of 0, and gets 0 */
    MMA_UNROLL for (int c = 0; c < COLUMNS; c++) inverse[c] = sum[c] == 0 ? 0.0f : 1.0f / sum[c];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (found) {
        walk = WALK_START(p, t);
        while (WALK_NEXT(walk, p, t, tile))
            if (tile.partial)
                spoil(spoilt, &rows_v, &p, &t, &tile, MASK_WORDS, item);
    }
    stage_outputs(self, tile_q, out, inverse);
    barrier(CLK_LOCAL_MEM_FENCE);
    store_outputs((__global ushort *)o + head_offset(&p.o, t.batch, t.head) + t.first * p.o.seq,
                  &p.o, tile_q, spoilt, t.rows, item);
#if LOGSUMEXP
    store_logsumexp(self, lse + lse_offset(&p, &t), top, sum, p.scale, t.rows);
#endif
}
