/*
 * Attention on Hopper's warpgroup matrix instructions, after Shah et al., "FlashAttention-3", 2024.
 * A work-group stays and takes one query tile after the other from a counter. Its last warpgroup
 * brings tiles of Q, K and V to local memory by TMA, the CW others compute, 64 queries each:
 *
 *                         BK keys                      V_DIM features
 *                     +-------------+                +-------------+
 *    K_DIM features   | K^T, local  |       BK keys  | V, local    |
 *                     +-------------+                +-------------+
 *     +------------+  +-------------+                +-------------+
 *  64 | Q, local   |  | S, then P   |  registers, -> | O           |  registers
 *     +------------+  +-------------+  left operand  +-------------+
 *
 * The tensor cores never wait for a softmax: S of a tile is multiplied while P V of the one before
 * it still runs, and that while the softmax of this tile runs:
 *
 *     tensor cores    S(n)  P V(n - 1)   S(n + 1)  P V(n)   ...
 *     registers       softmax(n)         softmax(n + 1)     ...
 *
 * Partial tiles of a mask come first, in a loop of their own: the other has no test.
 *
 * Where SPLIT_KEYS is 1, for bands only, a turn has a part of a query tile's keys, and leaves
 * records for attention_merge: rows of O not yet divided, their scaled maxima and their sums.
 *
 * Contract (tunables): CW, warpgroups that compute; BK, keys of a tile; STAGES, tiles of K and of V
 * in local memory; Q_STAGES, the same of Q; TURNS, 1 where warpgroups take turns at the tensor
 * cores; RESIDENT, work-groups of a multiprocessor. Variant: V_DIM, features of V filled up to
 * what products have (hopper.clh); NEGATIVE, 1 where scores weigh more the smaller they are; see
 * attention.clh for the others. The rows of all tensors are whole chunks of 16 bytes.
 */
#if !defined(CW) || !defined(BK) || !defined(STAGES) || !defined(Q_STAGES) || !defined(TURNS) ||   \
    !defined(RESIDENT) || !defined(V_DIM) || !defined(NEGATIVE)
#error "attention_wgmma.cl: a tunable or a variant is missing"
#endif

#include "common.clh"
#define WGMMA_TYPE DTYPE
#include "hopper.clh"

#define BQ (64 * CW)

#include "attention_params.clh"
#include "attention.clh"

#define GROUP (128 * (CW + 1))

/* Of a work-item, dealt out anew: a multiprocessor has 65536, ptxas gives each as many at first. */
#if RESIDENT == 1
#define REGISTERS_LOADING_1 96
#define REGISTERS_COMPUTING_1 240
#elif RESIDENT == 2
#define REGISTERS_LOADING_1 56
#define REGISTERS_COMPUTING_1 200
#else
#define REGISTERS_LOADING_1 32
#define REGISTERS_COMPUTING_1 128
#endif
#if V_DIM > 128
#define REGISTERS_LOADING_2 24
#define REGISTERS_COMPUTING_2 240
#else
#define REGISTERS_LOADING_2 56
#define REGISTERS_COMPUTING_2 224
#endif
#define REGISTERS_LOADING_3 32
#define REGISTERS_COMPUTING_3 160
#define REGISTERS_LOADING_4 32
#define REGISTERS_COMPUTING_4 112

/* Tiles are panels of 64 features, which is as far as a swizzle goes: [panel][line][64]. */
#define K_DIM ROUND_UP(HEAD_DIM, 16)
#define PANELS(dim) (((dim) + 63) / 64)
#define LINE_BYTES 128
#define Q_BYTES (BQ * PANELS(K_DIM) * LINE_BYTES)
#define K_BYTES (BK * PANELS(K_DIM) * LINE_BYTES)
#define V_BYTES (BK * PANELS(V_DIM) * LINE_BYTES)

/* Weights are 2^SLACK times as large as they should be until the end, so that far more of them are
 * normal numbers of f16, whose largest is above 2^15; bf16 has f32's exponents. */
#define SLACK PASTE(SLACK_, DTYPE)
#define SLACK_f16 9
#define SLACK_bf16 0

/* ---- single instructions ---- */

ALWAYS_INLINE float exp2_fast(float x)
{
    float r;
    __asm__("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

#define HEAVIER_0 "max"
#define HEAVIER_1 "min"

/* Of two scores the one that weighs more; NaN only where both are. */
ALWAYS_INLINE float heavier(float a, float b)
{
    float r;
    __asm__(PASTE(HEAVIER_, NEGATIVE) ".f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
#define WEIGHTLESS (NEGATIVE ? INFINITY : -INFINITY) /* a score */

ALWAYS_INLINE float shuffle_xor(float x, int lanes)
{
    float r;
    __asm__ volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;"
                     : "=f"(r)
                     : "f"(x), "r"(lanes));
    return r;
}

ALWAYS_INLINE float shuffle_from(float x, int lane)
{
    float r;
    __asm__ volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;"
                     : "=f"(r)
                     : "f"(x), "r"(lane));
    return r;
}

/* A bit for each lane. */
ALWAYS_INLINE uint lanes_where(bool is)
{
    uint lanes;
    __asm__ volatile("{.reg .pred is;\n\tsetp.ne.s32 is, %1, 0;\n\t"
                     "vote.sync.ballot.b32 %0, is, 0xffffffff;\n\t}"
                     : "=r"(lanes)
                     : "r"((int)is));
    return lanes;
}

#include "attention_wgmma_turns.clh"
#define RECORD_SLACK SLACK
#include "attention_merge.clh"
#include "attention_wgmma_exact.clh"
#include "attention_wgmma_load.clh"

/* ---- the products of a warpgroup ---- */

#define N_SCORES (BK / 2) /* of a work-item; element j is row lane / 4 + j / 2 % 2 * 8, ... */
#define N_OUTPUTS (V_DIM / 2)
#define N_WEIGHTS (BK / 4)
#define COLUMN(lane, j) ((j) / 4 * 8 + (lane) % 4 * 2 + (j) % 2)

/* What a computing work-item holds: two rows of its warpgroup's 64. */
struct work {
    struct turn turn;
    uint n_turns, n_keys; /* before this one, and all key tiles of S so far */
    ulong q;              /* descriptor of the 64 rows */
    float s[N_SCORES], out[N_OUTPUTS];
    uint weights[N_WEIGHTS];
    float top[2], sum[2]; /* scaled maxima of its rows, and their weights added up */
    float alpha[2];       /* what `out` is to be multiplied by */
};

/* S = Q K^T, begun. */
ALWAYS_INLINE void begin_scores(struct work *w, const struct places *at)
{
    ulong q = w->q;
    /* Or all descriptors made of it would stay in registers from one key tile to the next. */
    __asm__ volatile("" : "+l"(q));
    const ulong k = WGMMA_K_MAJOR(at->k + STAGE(w->n_keys, STAGES) * K_BYTES);
    WGMMA_FENCE();
    UNROLL for (int d = 0; d < K_DIM / 16; d++)
    {
        const ulong left = q + d / 4 * (BQ * LINE_BYTES >> 4) + d % 4 * WGMMA_STEP;
        const ulong right = k + d / 4 * (BK * LINE_BYTES >> 4) + d % 4 * WGMMA_STEP;
        if (d == 0)
            WGMMA_SS_FIRST(BK, 0, 0, w->s, left, right);
        else
            WGMMA_SS(BK, 0, 0, w->s, left, right);
    }
    WGMMA_COMMIT();
}

/* O += P V of the key tile before, begun. */
ALWAYS_INLINE void begin_outputs(struct work *w, const struct places *at)
{
    const ulong v =
        WGMMA_MN_MAJOR(at->v + STAGE(w->n_keys - 1, STAGES) * V_BYTES, BK * LINE_BYTES);
    WGMMA_FENCE();
    UNROLL for (int n = 0; n < BK / 16; n++)
        WGMMA_RS(V_DIM, 1, w->out, w->weights + 4 * n, v + n * WGMMA_STEP_MN);
    WGMMA_COMMIT();
}

/* ---- softmax ---- */

/* Scores become weights. Tops are rounded, but the same number is subtracted from all scores, and
 * cancels out in the end. */
ALWAYS_INLINE void weigh(struct work *w, float log2_scale)
{
    const float scale = NEGATIVE ? -log2_scale : log2_scale;
    float *s = w->s;
    float high[4] = {s[0], s[1], s[2], s[3]}, least[2], sum[4] = {0, 0, 0, 0};
    UNROLL for (int j = 4; j < N_SCORES; j++) high[j % 4] = heavier(high[j % 4], s[j]);
    UNROLL for (int r = 0; r < 2; r++)
    {
        float top = heavier(high[2 * r], high[2 * r + 1]);
        top = heavier(top, shuffle_xor(top, 1));
        top = heavier(top, shuffle_xor(top, 2));
        top = fmax(top * scale, w->top[r]);
        const float finite = top == -INFINITY ? 0.0f : top;
        w->alpha[r] = exp2_fast(w->top[r] - finite);
        least[r] = SLACK - finite;
        w->top[r] = top;
    }
    UNROLL for (int j = 0; j < N_SCORES; j++)
    {
        s[j] = exp2_fast(fma(s[j], scale, least[j / 2 % 2]));
        sum[j % 4] += s[j];
    }
    UNROLL for (int r = 0; r < 2; r++)
        w->sum[r] = fma(w->sum[r], w->alpha[r], sum[2 * r] + sum[2 * r + 1]);
}

ALWAYS_INLINE void pack_weights(struct work *w)
{
    UNROLL for (int i = 0; i < N_WEIGHTS; i++)
        w->weights[i] = hopper_pack(w->s[2 * i], w->s[2 * i + 1]);
}

ALWAYS_INLINE void rescale(struct work *w)
{
    UNROLL for (int j = 0; j < N_OUTPUTS; j++) w->out[j] *= w->alpha[j / 2 % 2];
}

#include "attention_wgmma_scores.clh"
#include "attention_wgmma_store.clh"

/* ---- the work of a computing warpgroup ---- */

/* What is left to do with a query tile of which all products are done. */
ALWAYS_INLINE void finish(EXACT_PARAMETERS, struct work *w, int line, int lane)
{
    float inverse[2]; /* a query without any key has a sum of 0, and gets 0 */
    uint odd = 0;     /* rows that are to be computed again */
    UNROLL for (int r = 0; r < 2; r++)
    {
        float doubt = 0;
        w->sum[r] += shuffle_xor(w->sum[r], 1);
        w->sum[r] += shuffle_xor(w->sum[r], 2);
        inverse[r] = w->sum[r] == 0 ? 0.0f : 1.0f / w->sum[r];
        UNROLL for (int j = 2 * r; j < N_OUTPUTS; j += 4)
            doubt = fma(w->out[j], 0.0f, fma(w->out[j + 1], 0.0f, doubt));
        if (!(doubt == 0) || !(fabs(w->top[r]) < LARGE_SCORE || w->top[r] == -INFINITY))
            odd |= 1u << r;
    }
#if SPLIT_KEYS
    const long step = (long)p->parts * RECORD;
    __global float *record = records_of(p, partial, turn->batch, turn->head, turn->first + line);
    store_records(record + turn->part * RECORD, step, w, turn->rows - line, lane);
#else
    __global ushort *tile =
        (__global ushort *)o + head_offset(&p->o, turn->batch, turn->head) + turn->first * p->o.seq;
    store_outputs(tile + line * p->o.seq, p->o.seq, w->out, inverse, turn->rows - line, lane);
#if LOGSUMEXP
    UNROLL for (int r = 0; r < 2; r++)
        if (lane % 4 == 0 && line + 8 * r < turn->rows)
            lse[lse_row(p, turn) + line + 8 * r] =
                w->sum[r] == 0 ? -INFINITY
                               : w->top[r] * M_LN2_F + (log(w->sum[r]) - SLACK * M_LN2_F);
#endif
#endif
    exact_rows(EXACT_NAMES, odd, line - lane / 4, lane);
}

/* Warpgroups take turns at the tensor cores, which have their products in that order. */
#define MY_TURN()                                                                                  \
    if (TURNS)                                                                                     \
    HOPPER_SYNC(1 + warpgroup, 256)
#define YOUR_TURN()                                                                                \
    if (TURNS)                                                                                     \
    HOPPER_ARRIVE(1 + (warpgroup + 1) % CW, 256)

/* The first key tile that a warpgroup sees, after none or after hidden ones. */
ALWAYS_INLINE void first_step(int n, struct work *w, const struct attention_params *p,
                              const struct places *at, int warpgroup, int line,
                              int lane SCORE_PARAMETER MASK_PARAMETERS)
{
    const int key = FIRST_KEY(w->turn.keys, n);
    WAIT_FULL(at, K_FULL, w->n_keys, STAGES);
    MY_TURN();
    begin_scores(w, at);
    YOUR_TURN();
    WGMMA_WAIT(0);
    WGMMA_KEEP(BK, w->s);
    RELEASE(at, K_FREE, w->n_keys, STAGES);
    CHANGE_SCORES(w, p, line, key, lane);
    if (n < w->turn.keys.partial)
        mask_scores(w->s, p, &w->turn, w->turn.first + warpgroup * 64, w->turn.first + line, key,
                    MASK_WORDS, lane);
    weigh(w, p->log2_scale);
    pack_weights(w);
    rescale(w);
    NEXT(w->n_keys);
}

/* The outputs of the last one. */
ALWAYS_INLINE void last_step(struct work *w, const struct places *at)
{
    WAIT_FULL(at, V_FULL, w->n_keys - 1, STAGES);
    begin_outputs(w, at);
    WGMMA_WAIT(0);
    WGMMA_KEEP(V_DIM, w->out);
    RELEASE(at, V_FREE, w->n_keys - 1, STAGES);
}

/* A key tile that all queries of the warpgroup do not see; nothing is left to do of one before. */
ALWAYS_INLINE void skip_step(struct work *w, const struct places *at, int warpgroup)
{
    MY_TURN();
    YOUR_TURN();
    WAIT_FULL(at, K_FULL, w->n_keys, STAGES);
    RELEASE(at, K_FREE, w->n_keys, STAGES);
    NEXT(w->n_keys);
    WAIT_FULL(at, V_FULL, w->n_keys - 1, STAGES);
    RELEASE(at, V_FREE, w->n_keys - 1, STAGES);
}

/* Key tile `n` of a turn, and the outputs of the one before. */
ALWAYS_INLINE void step(bool masked, int n, struct work *w, const struct attention_params *p,
                        const struct places *at, int warpgroup, int line,
                        int lane SCORE_PARAMETER MASK_PARAMETERS)
{
    const int key = masked || SCORE_MODIFIER ? FIRST_KEY(w->turn.keys, n) : 0;
    WAIT_FULL(at, K_FULL, w->n_keys, STAGES);
    MY_TURN();
    begin_scores(w, at);
    WAIT_FULL(at, V_FULL, w->n_keys - 1, STAGES);
    begin_outputs(w, at);
    YOUR_TURN();
    if (masked && SLOW_MASK) {
        WGMMA_WAIT(0);
        WGMMA_KEEP(V_DIM, w->out);
    } else {
        WGMMA_WAIT(1);
    }
    WGMMA_KEEP(BK, w->s);
    RELEASE(at, K_FREE, w->n_keys, STAGES);
    CHANGE_SCORES(w, p, line, key, lane);
    if (masked)
        mask_scores(w->s, p, &w->turn, w->turn.first + warpgroup * 64, w->turn.first + line, key,
                    MASK_WORDS, lane);
    weigh(w, p->log2_scale);
    WGMMA_WAIT(0);
    WGMMA_KEEP(V_DIM, w->out);
    RELEASE(at, V_FREE, w->n_keys - 1, STAGES);
    pack_weights(w);
    rescale(w);
    NEXT(w->n_keys);
}

/* The key tiles of a turn. Those that the warpgroup does not see at all, since a band has them at
 * the ends of what the others see, or since it has no queries, cost nothing but the wait for the
 * others. */
ALWAYS_INLINE void all_steps(struct work *w, const struct attention_params *p,
                             const struct places *at, int warpgroup, int line,
                             int lane SCORE_PARAMETER MASK_PARAMETERS)
{
    const int first = w->turn.first + warpgroup * 64;
    bool begun = false; /* there are outputs of a tile to be added */
    int n = 0;
    NO_UNROLL for (; CW > 1 && warpgroup * 64 >= w->turn.rows && n < w->turn.keys.count; n++)
        skip_step(w, at, warpgroup);
    NO_UNROLL for (; MAY_SKIP && n < w->turn.keys.partial; n++)
    {
        if (is_hidden(p, first, FIRST_KEY(w->turn.keys, n))) {
            if (begun)
                last_step(w, at);
            skip_step(w, at, warpgroup);
            begun = false;
        } else if (begun) {
            step(true, n, w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
        } else {
            first_step(n, w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
            begun = true;
        }
    }
    if (!begun && n < w->turn.keys.count) {
        first_step(n++, w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
        begun = true;
    }
    NO_UNROLL for (; !MAY_SKIP && n < w->turn.keys.partial; n++)
        step(true, n, w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
    NO_UNROLL for (; n < w->turn.keys.count; n++)
        step(false, n, w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
    RELEASE(at, Q_FREE, w->n_turns, Q_STAGES);
    if (begun)
        last_step(w, at);
}

/* All query tiles. */
ALWAYS_INLINE void compute_tiles(const struct attention_params *p, const struct places *at,
                                 __global const element *q, __global const element *k,
                                 __global const element *v, __global element *o LSE_PARAMETER
                                     SCORE_PARAMETER MASK_PARAMETERS RECORD_PARAMETER)
{
    const int lane = get_local_id(0) % 32, warpgroup = get_local_id(0) / 128;
    const int line = warpgroup * 64 + get_local_id(0) % 128 / 32 * 16 + lane / 4;
    struct work w;
    w.n_keys = 0;
    if (TURNS && warpgroup == 0)
        HOPPER_ARRIVE(1, 256);
    NO_UNROLL for (w.n_turns = 0;; w.n_turns++)
    {
        WAIT_FULL(at, TURN_FULL, w.n_turns, TURN_STAGES);
        w.turn = read_turn(at, w.n_turns);
        hopper_sync_warp(); /* all lanes have read it */
        RELEASE(at, TURN_FREE, w.n_turns, TURN_STAGES);
        if (w.turn.first < 0)
            return;
        UNROLL for (int j = 0; j < N_OUTPUTS; j++) w.out[j] = 0;
        UNROLL for (int r = 0; r < 2; r++) w.top[r] = -INFINITY, w.sum[r] = 0;
        WAIT_FULL(at, Q_FULL, w.n_turns, Q_STAGES);
        w.q = WGMMA_K_MAJOR(at->q + STAGE(w.n_turns, Q_STAGES) * Q_BYTES +
                            warpgroup * 64 * LINE_BYTES);
        all_steps(&w, p, at, warpgroup, line, lane SCORE_NAME MASK_NAMES);
        finish(p, &w.turn, q, k, v, o LSE_NAME SCORE_NAME MASK_NAMES RECORD_NAME, &w, line, lane);
    }
}

/* ---- the kernels ---- */

/* Tensor maps and the counter of query tiles, for the launch that follows. */
__kernel __attribute__((reqd_work_group_size(32, 1, 1))) void
attention_prepare(__global const element *restrict q, __global const element *restrict k,
                  __global const element *restrict v, const struct attention_params p,
                  __global uchar *restrict workspace)
{
    __local ulong map[TENSOR_MAP_WORDS] __attribute__((aligned(128)));
    const int parts = SPLIT_KEYS ? p.parts : 1, batch = p.turns / parts / p.query_tiles / p.heads;
    make_map(workspace + MAP_Q, map, q, &p.q, HEAD_DIM, p.seq_q, p.heads, batch, BQ);
    make_map(workspace + MAP_K, map, k, &p.k, HEAD_DIM, p.seq_k, p.heads / p.group, batch, BK);
    make_map(workspace + MAP_V, map, v, &p.v, VALUE_DIM, p.seq_k, p.heads / p.group, batch, BK);
    if (get_local_id(0) == 0)
        *(__global int *)(workspace + COUNTER) = 0;
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention(ATTENTION_PARAMETERS, __global uchar *workspace)
{
    __local uchar tiles_memory[Q_STAGES * Q_BYTES + STAGES * (K_BYTES + V_BYTES)]
        __attribute__((aligned(1024)));
    __local ulong barriers[N_BARRIERS] __attribute__((aligned(16)));
    __local int4 turns[TURN_WORDS * TURN_STAGES];
    const int item = get_local_id(0);
    const uint base = hopper_address(tiles_memory);
    const struct places at = {base, base + Q_STAGES * Q_BYTES,
                              base + Q_STAGES * Q_BYTES + STAGES * K_BYTES,
                              hopper_address(barriers), turns};
    HOPPER_RESIDENT(RESIDENT);
    MASK_BEGIN(p)
    if (item == 0) {
        NO_UNROLL for (int i = 0; i < N_BARRIERS; i++)
            hopper_barrier_make(at.barriers + 8 * i, i < FREE ? 1 : 4 * CW);
        hopper_fence_barriers();
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    if (item >= CW * 128) {
        HOPPER_FEWER_REGISTERS(PASTE(REGISTERS_LOADING_, CW));
        tensor_map_acquire(workspace + MAP_Q);
        tensor_map_acquire(workspace + MAP_K);
        tensor_map_acquire(workspace + MAP_V);
        if (!(IS_ALIGNED(q, p.q) && IS_ALIGNED(k, p.k) && IS_ALIGNED(v, p.v)))
            load_tiles(false, &p, &at, q, k, v, workspace MASK_NAMES);
        else if (item == CW * 128)
            load_tiles(true, &p, &at, q, k, v, workspace MASK_NAMES);
    } else {
        HOPPER_MORE_REGISTERS(PASTE(REGISTERS_COMPUTING_, CW));
        compute_tiles(&p, &at, q, k, v, o LSE_NAME SCORE_NAME MASK_NAMES RECORD_NAME);
    }
}
