/*
 * Attention of a few queries to many keys on any GPU, as when a model writes one token after the
 * other: bound by how fast K and V come from memory. ROWS query rows that share a key head, of the
 * heads of its group times their queries, are one work-group's, so that a key is read once for all
 * of them; many work-groups split the keys and leave records (attention_merge.clh).
 *
 * A team of LANES work-items has a row of K and one of V, a chunk of 16 bytes each; TEAMS of them
 * read rows that are neighbours, KEYS times in a block:
 *
 *                LANES chunks
 *              +---+---+---+---+
 *     team 0   |   |   |   |   |  key 0      K: to local memory, where whole rows are multiplied by
 *     team 1   |   |   |   |   |  key 1        rows of Q, a score each work-item
 *       ...    |   |   |   |   |  ...        V: stays in registers, and a team adds up what its
 *              +---+---+---+---+               own keys weigh, under a maximum of its own
 *
 * So there are two barriers for a block, and teams meet only in the end. The next K and V are on
 * their way to registers while scores are computed.
 *
 * The mask is a band, so that every row sees one interval of the keys, and nothing outside it is
 * looked at.
 *
 * Contract (tunables): GROUP of a work-group, ROWS and KEYS as above, SPLIT (used by the host
 * only). See attention.clh for the variant.
 */
#if !defined(GROUP) || !defined(ROWS) || !defined(KEYS)
#error "attention_decode_simt.cl: GROUP, ROWS and KEYS must be defined"
#endif

#include "common.clh"

/* Elements of 16 bytes. */
#define CHUNK PASTE(CHUNK_, DTYPE)
#define CHUNK_f32 4
#define CHUNK_f16 8
#define CHUNK_bf16 8

#define K_LANES ((HEAD_DIM + CHUNK - 1) / CHUNK)
#define V_LANES ((VALUE_DIM + CHUNK - 1) / CHUNK)
#define LANES LARGER(K_LANES, V_LANES)
#define TEAMS (GROUP / LANES)
#define BQ ROWS
#define BK (TEAMS * KEYS)

#include "attention_params.clh"
#include "attention.clh"

#if MASK_LIST
#error "attention_decode_simt.cl: the mask must be a band"
#endif

#define FEATURES (K_LANES * CHUNK) /* of a row of Q */
#define O_FEATURES (V_LANES * CHUNK)
#define LINE (K_LANES | 1) /* chunks from row to row of K: odd, so that their banks differ */

/* Rows of which a work-item has the scores of one key: as few as keep all work-items busy. */
#define SCORES (BK * ROWS)
#define SHARED_ROWS                                                                                \
    (SCORES <= GROUP || ROWS < 2       ? 1                                                         \
     : SCORES <= 2 * GROUP || ROWS < 4 ? 2                                                         \
     : SCORES <= 4 * GROUP || ROWS < 8 ? 4                                                         \
                                       : 8)

/* Rows of O that teams add up at a time, in the memory of K. */
#define O_ROWS SMALLER(ROWS, LARGER(1, KEYS *CHUNK_f32 / CHUNK))
#define STAGE LARGER(BK *LINE, O_ROWS *TEAMS *O_FEATURES / CHUNK_f32) /* in chunks */

typedef uint4 chunk;
typedef VECTOR(float, CHUNK) floats;

/* ---- rows of the caller's tensors ---- */

#define WHOLE_CHUNKS (UNIT_FEATURES && HEAD_DIM % CHUNK == 0 && VALUE_DIM % CHUNK == 0)

/* Row 0 of K or V, and whether the chunks of all rows are aligned. */
struct rows {
    __global const element *x;
    long seq, feature;
    bool aligned;
};

static inline struct rows open_rows(__global const element *x, long seq, long feature)
{
    struct rows r;
    r.x = x, r.seq = seq, r.feature = feature;
    r.aligned = WHOLE_CHUNKS && ((size_t)x | (size_t)(seq * sizeof(element))) % sizeof(chunk) == 0;
    return r;
}

/* Features f .. f + CHUNK - 1 of a row of `dim`, zeros from there on. */
static inline floats load_one_by_one(__global const element *row, long feature, int f,
                                     const int dim)
{
    float x[CHUNK];
    UNROLL for (int i = 0; i < CHUNK; i++)
        x[i] = f + i < dim ? LOAD(DTYPE, row + (f + i) * feature) : 0.0f;
    return VLOAD(CHUNK, x);
}

static inline floats floats_of(chunk c)
{
    return LOADV(DTYPE, CHUNK, (const __private element *)&c);
}

static inline chunk chunk_of(floats x)
{
    chunk c;
    STOREV(DTYPE, CHUNK, x, (__private element *)&c);
    return c;
}

/* A team's rows of the block that begins at key `first`; those after `last` are read as that one,
 * and hidden. */
ALWAYS_INLINE void load_block(chunk *c, const struct rows *r, const int dim, int first, int last,
                              int team, int lane)
{
    if (dim < LANES * CHUNK && lane * CHUNK >= dim)
        return;
    if (r->aligned)
        UNROLL for (int n = 0; n < KEYS; n++)
        {
            const long row = min(first + team + n * TEAMS, last);
            c[n] = *(__global const chunk *)(r->x + row * r->seq + lane * CHUNK);
        }
    else
        UNROLL for (int n = 0; n < KEYS; n++)
        {
            const long row = min(first + team + n * TEAMS, last);
            c[n] = chunk_of(load_one_by_one(r->x + row * r->seq, r->feature, lane * CHUNK, dim));
        }
}

/* ---- rows of queries ---- */

/* A query of a head, and the keys that it sees. */
struct row {
    int head, query;
    int begin, end;
};

/* Row `index` of a key head: its queries one after the other for each head of the group. Those past
 * the last are that one. */
static inline struct row row_of(const struct attention_params *p, int kv_head, int index)
{
    struct row r;
    index = min(index, p->group * p->seq_q - 1);
    r.head = kv_head * p->group + index / p->seq_q;
    r.query = index % p->seq_q;
    r.begin = max(0, r.query + p->low);
    r.end = r.query + min(p->high, p->seq_k - 1 - r.query) + 1;
    return r;
}

/* What a work-group has. */
struct share_of_keys {
    int batch, kv_head, index; /* of its first row */
    int first, end, last;      /* keys that it walks over; the last one that any row sees */
    int full_begin, full_end;  /* those that all rows see */
    int part;
};

static inline struct share_of_keys find_share(const struct attention_params *p)
{
    const int kv_heads = p->heads / p->group;
    const int groups = (p->group * p->seq_q + ROWS - 1) / ROWS;
    const long unit = get_group_id(0) / groups;
    struct share_of_keys s;
    s.index = (int)(get_group_id(0) % groups) * ROWS;
    s.part = (int)(unit % p->parts);
    s.kv_head = (int)(unit / p->parts % kv_heads);
    s.batch = (int)(unit / p->parts / kv_heads);
    int begin = INT_MAX, end = 0;
    s.full_begin = 0, s.full_end = INT_MAX;
    UNROLL for (int i = 0; i < ROWS; i++)
    {
        const struct row r = row_of(p, s.kv_head, s.index + i);
        begin = min(begin, r.begin), end = max(end, r.end);
        s.full_begin = max(s.full_begin, r.begin), s.full_end = min(s.full_end, r.end);
    }
    const long blocks = max(0L, ((long)end - begin + BK - 1) / BK);
    s.first = begin + (int)(blocks * s.part / p->parts) * BK;
    s.end = (int)min((long)end, begin + blocks * (s.part + 1) / p->parts * BK);
    s.last = end - 1;
    return s;
}

/* ---- the steps of a block ---- */

static inline float sum_of(floats x)
{
    float lanes[CHUNK], sum = 0;
    VSTORE(CHUNK, x, lanes);
    UNROLL for (int i = 0; i < CHUNK; i++)
        sum += lanes[i];
    return sum;
}

/* Scores of the block's keys, those of one key side by side; -infinity where a row does not see
 * it. */
ALWAYS_INLINE void score_block(__local float *scores, __local const chunk *keys,
                               __local const float *queries, __local const int2 *seen,
                               const struct attention_params *p, const struct share_of_keys *share,
                               int first, bool partial, __global const float *data, int item)
{
    for (int n = item; n < SCORES / SHARED_ROWS; n += GROUP) {
        const int at = n % BK, row = n / BK * SHARED_ROWS, key = first + at;
        floats sum[SHARED_ROWS];
        UNROLL for (int r = 0; r < SHARED_ROWS; r++) sum[r] = 0;
        _Pragma("unroll 4") for (int d = 0; d < K_LANES; d++)
        {
            const floats k = floats_of(keys[at * LINE + d]);
            UNROLL for (int r = 0; r < SHARED_ROWS; r++)
                sum[r] = fma(k,
                             *(__local const floats *)(queries + (row + r) * FEATURES + d * CHUNK),
                             sum[r]);
        }
        UNROLL for (int r = 0; r < SHARED_ROWS; r++)
        {
            float s = sum_of(sum[r]);
#if SCORE_MODIFIER
            const struct row q = row_of(p, share->kv_head, share->index + row + r);
            s = modified(s, p, share->batch, q.head, q.query, min(key, share->last), data);
#endif
            if (partial && !(key >= seen[row + r].x && key < seen[row + r].y))
                s = -INFINITY;
            scores[at * ROWS + row + r] = s;
        }
    }
}

/* What a team has of O, a chunk of each row, not yet divided by the sum. */
struct outputs {
    floats o[ROWS];
    float top[ROWS], sum[ROWS];
};

/* Weights of a team's keys from their scores, and what they add to O. */
ALWAYS_INLINE void add_block(struct outputs *out, const chunk *v, __local const float *scores,
                             __local const int2 *seen, float log2_scale, int first, bool partial,
                             int team)
{
    float w[KEYS][ROWS];
    UNROLL for (int n = 0; n < KEYS; n++)
    UNROLL for (int r = 0; r < ROWS; r++) w[n][r] = scores[(team + n * TEAMS) * ROWS + r];
    UNROLL for (int r = 0; r < ROWS; r++)
    {
        const float before = out->top[r];
        UNROLL for (int n = 0; n < KEYS; n++) out->top[r] = max(out->top[r], w[n][r]);
        /* While a query has seen no key, any finite number serves as its maximum. */
        const float finite = out->top[r] == -INFINITY ? 0.0f : out->top[r];
        const float alpha = exp2((before - finite) * log2_scale);
        out->sum[r] *= alpha;
        out->o[r] *= alpha;
        UNROLL for (int n = 0; n < KEYS; n++)
        {
            w[n][r] = exp2((w[n][r] - finite) * log2_scale);
            out->sum[r] += w[n][r];
        }
    }
    if (partial)
        UNROLL for (int n = 0; n < KEYS; n++)
        UNROLL for (int r = 0; r < ROWS; r++)
        {
            const int key = first + team + n * TEAMS;
            const floats more = fma((floats)w[n][r], floats_of(v[n]), out->o[r]);
            const bool visible = key >= seen[r].x && key < seen[r].y;
            out->o[r] = visible ? more : out->o[r];
        }
    else
        UNROLL for (int n = 0; n < KEYS; n++)
        UNROLL for (int r = 0; r < ROWS; r++)
            out->o[r] = fma((floats)w[n][r], floats_of(v[n]), out->o[r]);
}

/* ---- the results ---- */

#define RECORDS 0
#define RECORD_SLACK 0
#include "attention_merge.clh"

/* The maximum of a row's teams and the sum of their sums under it. */
static inline float2 meet(__local const float *tops, __local const float *sums, int row,
                          float log2_scale)
{
    float top = -INFINITY, sum = 0;
    for (int team = 0; team < TEAMS; team++)
        top = max(top, tops[team * ROWS + row]);
    const float finite = top == -INFINITY ? 0.0f : top;
    for (int team = 0; team < TEAMS; team++)
        sum = fma(exp2((tops[team * ROWS + row] - finite) * log2_scale), sums[team * ROWS + row],
                  sum);
    return (float2)(top, sum);
}

__kernel SMALL_SUB_GROUPS __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention(ATTENTION_PARAMETERS)
{
    __local chunk stage[STAGE] __attribute__((aligned(32)));
    __local float queries[ROWS * FEATURES] __attribute__((aligned(32)));
    __local float scores[SCORES], tops[TEAMS * ROWS], sums[TEAMS * ROWS];
    __local int2 seen[ROWS];
    __local float2 met[ROWS];

    const int item = get_local_id(0), team = item / LANES, lane = item % LANES;
    const struct share_of_keys share = find_share(&p);
    const struct rows rows_k =
        open_rows(k + head_offset(&p.k, share.batch, share.kv_head), p.k.seq, FEATURE_STRIDE(p.k));
    const struct rows rows_v =
        open_rows(v + head_offset(&p.v, share.batch, share.kv_head), p.v.seq, FEATURE_STRIDE(p.v));
    const bool works = team < TEAMS; /* else left over */

    chunk ks[KEYS], vs[KEYS];
    struct outputs out;
    UNROLL for (int r = 0; r < ROWS; r++) out.top[r] = -INFINITY, out.sum[r] = 0, out.o[r] = 0;
    if (works && share.first < share.end)
        load_block(ks, &rows_k, HEAD_DIM, share.first, share.last, team, lane);
    for (int n = item; n < ROWS * K_LANES; n += GROUP) {
        const struct row r = row_of(&p, share.kv_head, share.index + n / K_LANES);
        __global const element *row =
            q + head_offset(&p.q, share.batch, r.head) + r.query * p.q.seq;
        const int d = n % K_LANES * CHUNK;
        *(__local floats *)(queries + n / K_LANES * FEATURES + d) =
            load_one_by_one(row, FEATURE_STRIDE(p.q), d, HEAD_DIM) * p.sign;
    }
    if (item < ROWS) {
        const struct row r = row_of(&p, share.kv_head, share.index + item);
        seen[item] = (int2)(r.begin, r.end);
    }

    for (int first = share.first; first < share.end; first += BK) {
        const bool partial = first < share.full_begin || first + BK > share.full_end;
        if (works) {
            if (lane < K_LANES)
                UNROLL for (int n = 0; n < KEYS; n++)
                    stage[(team + n * TEAMS) * LINE + lane] = ks[n];
            load_block(vs, &rows_v, VALUE_DIM, first, share.last, team, lane);
            if (first + BK < share.end)
                load_block(ks, &rows_k, HEAD_DIM, first + BK, share.last, team, lane);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        score_block(scores, stage, queries, seen, &p, &share, first, partial, SCORE_DATA_OF(p),
                    item);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (works && lane < V_LANES)
            add_block(&out, vs, scores, seen, p.log2_scale, first, partial, team);
    }

    if (works && lane == 0)
        UNROLL for (int r = 0; r < ROWS; r++)
            tops[team * ROWS + r] = out.top[r], sums[team * ROWS + r] = out.sum[r];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < ROWS)
        met[item] = meet(tops, sums, item, p.log2_scale);
    UNROLL for (int start = 0; start < ROWS; start += O_ROWS)
    {
        __local float *shares = (__local float *)stage;
        barrier(CLK_LOCAL_MEM_FENCE);
        UNROLL for (int r = start; r < start + O_ROWS; r++)
        {
            const float top = met[r].x == -INFINITY ? 0.0f : met[r].x;
            const floats o = out.o[r] * exp2((out.top[r] - top) * p.log2_scale);
            if (works && lane < V_LANES)
                *(__local floats *)(shares + ((r - start) * TEAMS + team) * O_FEATURES +
                                    lane * CHUNK) = o;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int n = item; n < O_ROWS * VALUE_DIM; n += GROUP) {
            const int i = start + n / VALUE_DIM, d = n % VALUE_DIM;
            const struct row r = row_of(&p, share.kv_head, share.index + i);
            float sum = 0;
            for (int t = 0; t < TEAMS; t++)
                sum += shares[((i - start) * TEAMS + t) * O_FEATURES + d];
            if (share.index + i >= p.group * p.seq_q)
                continue;
#if SPLIT_KEYS
            __global float *record =
                records_of(&p, partial, share.batch, r.head, r.query) + share.part * RECORD;
            record[d] = sum;
            if (d == 0)
                record[RECORD_TOP] = met[i].x * p.log2_scale, record[RECORD_SUM] = met[i].y;
#else
            __global element *row =
                o + head_offset(&p.o, share.batch, r.head) + r.query * p.o.seq;
            const float total = met[i].y;
            STORE(DTYPE, total == 0 ? 0.0f : sum / total, row + d * FEATURE_STRIDE(p.o));
#if LOGSUMEXP
            if (d == 0)
                lse[p.lse_offset + ((long)share.batch * p.heads + r.head) * p.seq_q + r.query] =
                    total == 0 ? -INFINITY : met[i].x * p.scale + log(total);
#endif
#endif
        }
    }
}
