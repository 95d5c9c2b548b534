/*
 * GEMM for any GPU: tiles in local memory, register blocking, no extension needed.
 *
 * A work-group owns BM x BN elements of C and walks k in steps of BK. Both tiles of a step lie in
 * local memory with k as the slow index, whatever the transposes, so that the inner loop reads
 * fragments of neighbours. There are two of each: while one is multiplied, the next is on its way
 * through registers, and one barrier per step is enough. Fragments are read one k ahead of their
 * use, across the barrier too.
 *
 *                       BN                          work-items of a group, 4 x 8 within each 32,
 *                  +-----------+                    so that few different fragments are read at
 *              BK  |  tile_b   |                    a time:
 *                  +-----------+
 *       BK                                              0  1  2 ...  7 | 32 33 ...
 *     +----+       +--+--+--+--+                        8  9 10 ... 15 | 40
 *     |    |   FM  |t |  |t |  |  a work-item's         ...            |
 *  BM | t_a|       +--+--+--+--+  TM x TN elements     24 25 26 ... 31 | 56
 *     |    |       |  |  |  |  |  lie in fragments
 *     |    |   FM  |t |  |t |  |  FM x FN, spread over the tile
 *     +----+       +--+--+--+--+
 *                   FN    FN
 *
 * Where C has too few tiles to keep a GPU busy, SLICES times as many work-items share a tile: each
 * multiplies its part of every step, and the first ones collect the sums in the end.
 *
 * Where even that leaves compute units idle, SPLIT_K work-groups share the k of a tile.
 *
 * Contract (tunables): BM, BN, BK the tile, TM, TN elements per work-item, SLICES of each step's k,
 * SPLIT_K of all k, PAD fragments of four added to each row of a local tile against bank conflicts,
 * GROUP rows of tiles walked together so that neighbours share B in the cache. See gemm.clh for the
 * variant. The host sees to it that TM divides BM, TN divides BN, and the work-group divides both
 * tiles into chunks of four.
 */
#if !defined(BM) || !defined(BN) || !defined(BK) || !defined(TM) || !defined(TN) ||                \
    !defined(SLICES) || !defined(SPLIT_K) || !defined(PAD) || !defined(GROUP)
#error "gemm_simt.cl: BM, BN, BK, TM, TN, SLICES, SPLIT_K, PAD and GROUP must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#include "gemm_tiles.clh"

#define CHUNK 4
#define ITEMS_M (BM / TM)
#define ITEMS_N (BN / TN)
#define SLICE_ITEMS (ITEMS_M * ITEMS_N)
#define ITEMS (SLICE_ITEMS * SLICES)
#define SLICE_K (BK / SLICES)
#define LD_A (BM + PAD * CHUNK)
#define LD_B (BN + PAD * CHUNK)
#define TILE_A (BK * LD_A)
#define TILES (TILE_A + BK * LD_B)
#define CHUNKS_A (BM * BK / CHUNK / ITEMS)
#define CHUNKS_B (BN * BK / CHUNK / ITEMS)

#if TM % 4 == 0
#define FM 4
#else
#define FM 2
#endif
#if TN % 4 == 0
#define FN 4
#else
#define FN 2
#endif

typedef VECTOR(REAL(DTYPE), FM) fragment_a;
typedef VECTOR(REAL(DTYPE), FN) fragment_b;
typedef VECTOR(REAL(DTYPE), CHUNK) chunk;

DEFINE_FINISH(1)
#define DEFINE_FINISH_FRAGMENT(n) DEFINE_FINISH_ALIGNED(n)
DEFINE_FINISH_FRAGMENT(FN)

#include "gemm_split.clh"

/* ---- global memory -> registers -> local memory ---- */

/*
 * Lines are rows of op(A) and columns of op(B). Tiles come in as they are stored, in chunks of four
 * neighbours, one work-item after the other taking one. Where the local tile has lines as columns
 * but neighbours lie along k, a tile must turn: its chunks go down strips of two or four, so that
 * 32 work-items that store together meet 32 different banks, by padding or by a swizzle:
 *
 *     straight  k = 0 |  0  1  2  3  4 ...    turning  line 0 |  0  1  | 2 lines     | ...
 *               k = 1 | 32 33 34 35 36 ...             line 1 |  2  3  | 2 lines + 2 |
 *               ...                                    ...
 *
 * Lines beyond the edge of C are read as the last one, for sums nobody keeps. What is missing in
 * the last step of k would be missed, so that step is short, and comes first: its loads are
 * guarded, those in the loop are not.
 */
#if PAD || BK < 4 * CHUNK
#define STRIP 2
#else
#define STRIP 4
#endif
#define PER_ROW(turn, lines) ((turn) ? STRIP : (lines) / CHUNK)
#define PASS(turn, lines) (ITEMS / PER_ROW(turn, lines))

/* Line and k of a work-item's chunk i, seen from its chunk 0. */
#define CHUNK_LINE(i, turn, lines) ((turn) ? (i) * PASS(turn, lines) % (lines) : 0)
#define CHUNK_K(i, turn, lines)                                                                    \
    ((turn) ? (i) * PASS(turn, lines) / (lines) * STRIP * CHUNK : (i) * PASS(turn, lines))

/* Bits of a line's place that are exchanged in row k of a local tile without padding. */
#define SWIZZLE(turn, k) ((turn) && !PAD ? (k) / CHUNK % STRIP * (BANKS / STRIP) : 0)
#define BANKS 32

/* Where a line lies. `offset`, a constant, may leave the exchanged bits alone. */
#define SWIZZLED(line, offset, bits)                                                               \
    ((offset) % BANKS == 0 ? ((line) ^ (bits)) + (offset) : ((line) + (offset)) ^ (bits))

struct stream {
    int line, k; /* of this work-item's chunk 0 within the tile */
    int last;    /* of a chunk's elements, the last one that exists */
    bool whole;  /* chunks are aligned and inside */
    long line_stride, k_stride;
};

/* `left` lines are left from the tile on; next[] becomes where this work-item's chunks start. */
ALWAYS_INLINE struct stream open_stream(__global const element **next, int count,
                                        __global const element *tile, long ld, long left, long k,
                                        bool turn, int lines, int item)
{
    const int across = item % PER_ROW(turn, lines) * CHUNK, down = item / PER_ROW(turn, lines);
    const bool aligned = (((size_t)tile | (size_t)(ld * sizeof(element))) %
                          (CHUNK * sizeof(element))) == 0;
    struct stream s;
    s.line = turn ? down % lines : across;
    s.k = turn ? down / lines * (STRIP * CHUNK) + across : down;
    s.line_stride = turn ? ld : 1, s.k_stride = turn ? 1 : ld;
    s.whole = aligned && (turn ? k % CHUNK == 0 : left >= lines || left % CHUNK == 0);
    const long line_end = turn ? left - 1 : left - (s.whole ? CHUNK : 1);
    s.last = (int)min((long)CHUNK - 1, (turn ? k : left - min((long)s.line, line_end)) - 1);
    UNROLL for (int i = 0; i < count; i++)
        next[i] = tile + min((long)s.line + CHUNK_LINE(i, turn, lines), line_end) * s.line_stride +
                  (s.k + CHUNK_K(i, turn, lines)) * s.k_stride;
    return s;
}

/* Takes a step of k_count, which is the tile's depth or, in the first step, less. */
ALWAYS_INLINE void load_short(chunk *chunks, __global const element **next, int count,
                              const struct stream *s, bool turn, int lines, int k_count)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        real x[CHUNK];
        UNROLL for (int j = 0; j < CHUNK; j++)
        {
            const bool inside = s->k + CHUNK_K(i, turn, lines) + (turn ? j : 0) < k_count;
            x[j] = inside && j <= s->last ? LOAD(DTYPE, next[i] + j) : (real)0;
        }
        chunks[i] = VLOAD(CHUNK, x);
        next[i] += k_count * s->k_stride;
    }
}

/* The guard, of which turning tiles have no need, keeps compilers from making one predicated piece
 * of both paths: loads into the same registers would wait for each other. */
ALWAYS_INLINE void load_whole(chunk *chunks, __global const element **next, int count,
                              const struct stream *s, int k_count)
{
    if (s->whole) {
        UNROLL for (int i = 0; i < count; i++) chunks[i] = LOADV_ALIGNED(DTYPE, CHUNK, next[i]);
    } else {
        UNROLL for (int i = 0; i < count; i++)
        {
            real x[CHUNK];
            UNROLL for (int j = 0; j < CHUNK; j++)
                x[j] = j <= s->last ? LOAD(DTYPE, next[i] + j) : (real)0;
            chunks[i] = VLOAD(CHUNK, x);
        }
    }
    UNROLL for (int i = 0; i < count; i++) next[i] += k_count * s->k_stride;
}

ALWAYS_INLINE void store_tile(__local real *tile, int ld, const chunk *chunks, int count,
                              const struct stream *s, bool turn, int lines)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        __local real *to = tile + (s->k + CHUNK_K(i, turn, lines)) * ld +
                           SWIZZLED(s->line, CHUNK_LINE(i, turn, lines), SWIZZLE(turn, s->k));
        real x[CHUNK];
        VSTORE(CHUNK, chunks[i], x);
        if (turn)
            UNROLL for (int j = 0; j < CHUNK; j++) to[j * ld] = x[j];
        else
            *(__local chunk *)to = chunks[i];
    }
}

#define TURN_A (!TRANS_A)
#define TURN_B TRANS_B

/* Both operands on their way. */
struct staged {
    __global const element *next_a[CHUNKS_A], *next_b[CHUNKS_B];
    struct stream stream_a, stream_b;
    chunk a[CHUNKS_A], b[CHUNKS_B];
};

ALWAYS_INLINE void open_tiles(struct staged *g, const struct gemm_operands *o, long row,
                              long column, int item)
{
    g->stream_a = open_stream(g->next_a, CHUNKS_A, o->a + row * (TRANS_A ? 1 : o->lda), o->lda,
                              o->m - row, o->k, TURN_A, BM, item);
    g->stream_b = open_stream(g->next_b, CHUNKS_B, o->b + column * (TRANS_B ? o->ldb : 1), o->ldb,
                              o->n - column, o->k, TURN_B, BN, item);
}

ALWAYS_INLINE void load_first_tiles(struct staged *g, int k_count)
{
    load_short(g->a, g->next_a, CHUNKS_A, &g->stream_a, TURN_A, BM, k_count);
    load_short(g->b, g->next_b, CHUNKS_B, &g->stream_b, TURN_B, BN, k_count);
}

ALWAYS_INLINE void load_tiles(struct staged *g)
{
    load_whole(g->a, g->next_a, CHUNKS_A, &g->stream_a, BK);
    load_whole(g->b, g->next_b, CHUNKS_B, &g->stream_b, BK);
}

ALWAYS_INLINE void store_tiles(__local real *tiles, const struct staged *g)
{
    store_tile(tiles, LD_A, g->a, CHUNKS_A, &g->stream_a, TURN_A, BM);
    store_tile(tiles + TILE_A, LD_B, g->b, CHUNKS_B, &g->stream_b, TURN_B, BN);
}

/* ---- the product ---- */

/* Row i of a work-item's TM rows within the tile, and column j of its TN. */
#define ROW(item_m, i) (((i) / FM * ITEMS_M + (item_m)) * FM + (i) % FM)
#define COLUMN(item_n, j) (((j) / FN * ITEMS_N + (item_n)) * FN + (j) % FN)

struct fragments {
    real a[TM];
    fragment_b b[TN / FN];
};

/* Of row k of the tiles. */
ALWAYS_INLINE void read_fragments(struct fragments *f, __local const real *tiles, int k, int item_m,
                                  int item_n)
{
    __local const real *a = tiles + k * LD_A, *b = tiles + TILE_A + k * LD_B;
    UNROLL for (int i = 0; i < TM; i += FM)
        VSTORE(FM,
               *(__local const fragment_a *)(a + SWIZZLED(item_m * FM, i * ITEMS_M,
                                                          SWIZZLE(TURN_A, k))),
               f->a + i);
    UNROLL for (int j = 0; j < TN; j += FN)
        f->b[j / FN] = *(__local const fragment_b *)(b + SWIZZLED(item_n * FN, j * ITEMS_N,
                                                                  SWIZZLE(TURN_B, k)));
}

ALWAYS_INLINE void multiply(fragment_b (*sum)[TN / FN], const struct fragments *f)
{
    UNROLL for (int i = 0; i < TM; i++)
    UNROLL for (int j = 0; j < TN / FN; j++)
        sum[i][j] = fma((fragment_b)f->a[i], f->b[j], sum[i][j]);
}

/* The sums of one tile of C: `steps` steps of k, of which the first takes k_first. */
ALWAYS_INLINE void multiply_tiles(fragment_b (*sum)[TN / FN], struct staged *g, __local real *tiles,
                                  long steps, int k_first, int slice, int item_m, int item_n)
{
    const int slice_k = slice * SLICE_K;
    struct fragments f[2];
    if (k_first == BK)
        load_tiles(g);
    else
        load_first_tiles(g, k_first);
    store_tiles(tiles, g);
    if (steps > 1)
        load_tiles(g);
    barrier(CLK_LOCAL_MEM_FENCE);
    int now = 0; /* where the current tiles begin */
    read_fragments(&f[0], tiles, slice_k, item_m, item_n);
    /* 32 bits count the steps of longer lines than any memory holds. Over 64 Intel's compiler (IGC
     * 1.0.12504) crashes. */
    for (uint left = (uint)steps; left > 0; left--) {
        UNROLL for (int k = 0; k < SLICE_K - 1; k++)
        {
            read_fragments(&f[(k + 1) % 2], tiles + now, slice_k + k + 1, item_m, item_n);
            multiply(sum, &f[k % 2]);
        }
        now = TILES - now;
        store_tiles(tiles + now, g);
        /* Ahead of the barrier, so that no compiler delays the loads until they are needed. */
        if (left > 2)
            load_tiles(g);
        barrier(CLK_LOCAL_MEM_FENCE);
        read_fragments(&f[SLICE_K % 2], tiles + now, slice_k, item_m, item_n);
        multiply(sum, &f[(SLICE_K - 1) % 2]);
    }
}

/* What the slices have added up goes to the work-items of the first, row by row. */
ALWAYS_INLINE void collect_slices(fragment_b (*sum)[TN / FN], __local real *tiles, int slice,
                                  int item)
{
    __local fragment_b *rows = (__local fragment_b *)tiles;
    UNROLL for (int i = 0; i < TM; i++)
    {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice > 0)
            UNROLL for (int j = 0; j < TN / FN; j++)
                rows[((slice - 1) * (TN / FN) + j) * SLICE_ITEMS + item] = sum[i][j];
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice == 0)
            UNROLL for (int n = 0; n < (SLICES - 1) * (TN / FN); n++)
                sum[i][n % (TN / FN)] += rows[n * SLICE_ITEMS + item];
    }
}

/* Where a work-group's results go. */
#if SPLIT_K > 1
#define PUT(o, x, row, column) (*SUMS_AT(o, row, column) = (x))
#define PUT_ALIGNED(o, x, row, column) (*(__global fragment_b *)SUMS_AT(o, row, column) = (x))
#define IS_ALIGNED(o) ((o)->n % FN == 0)
#else
#define PUT(o, x, row, column) FINISH(1)(o, x, row, column)
#define PUT_ALIGNED(o, x, row, column) FINISH_ALIGNED(FN)(o, x, row, column)
#define IS_ALIGNED(o)                                                                              \
    (((size_t)(o)->c | (size_t)((o)->ldc * sizeof(element_c))) % (FN * sizeof(element_c)) == 0)
#endif

ALWAYS_INLINE void finish_tile(const struct gemm_operands *o, fragment_b (*sum)[TN / FN], long row0,
                               long column0, int item_m, int item_n)
{
    const bool whole = IS_ALIGNED(o) && o->n - column0 >= BN;
    UNROLL for (int i = 0; i < TM; i++)
    {
        const long row = row0 + ROW(item_m, i);
        if (row >= o->m)
            continue;
        UNROLL for (int j = 0; j < TN; j += FN)
        {
            const long column = column0 + COLUMN(item_n, j);
            if (whole) {
                PUT_ALIGNED(o, sum[i][j / FN], row, column);
            } else {
                real x[FN];
                VSTORE(FN, sum[i][j / FN], x);
                UNROLL for (int e = 0; e < FN; e++)
                    if (column + e < o->n)
                        PUT(o, x[e], row, column + e);
            }
        }
    }
}

__kernel SMALL_SUB_GROUPS __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
gemm(GEMM_PARAMETERS WORKSPACE_PARAMETER)
{
    __local real tiles[2 * TILES] __attribute__((aligned(128)));

    const int item = get_local_id(0), in_slice = item % SLICE_ITEMS;
    const int slice = SLICES > 1 ? item / SLICE_ITEMS : 0;
#if ITEMS_N % 8 == 0 && ITEMS_M % 4 == 0
    const int item_m = in_slice % 2 + in_slice / 16 % 2 * 2 + in_slice / (4 * ITEMS_N) * 4;
    const int item_n = in_slice / 2 % 8 + in_slice / 32 % (ITEMS_N / 8) * 8;
#else
    const int item_m = in_slice / ITEMS_N, item_n = in_slice % ITEMS_N;
#endif
    const struct place place = place_of(&p, (uint)get_group_id(0));
    const long row = place.row, column = place.column;

    for (long n = get_group_id(1); n < p.batch * SPLIT_K; n += get_num_groups(1)) {
        GEMM_OPERANDS(o, n / SPLIT_K);
        TAKE_SLICE(o, n);
        struct staged g;
        fragment_b sum[TM][TN / FN];
        UNROLL for (int i = 0; i < TM; i++)
        UNROLL for (int j = 0; j < TN / FN; j++) sum[i][j] = (fragment_b)0;
        barrier(CLK_LOCAL_MEM_FENCE); /* nobody reads the tiles any more */
        if (o.k > 0) {
            open_tiles(&g, &o, row, column, item);
            multiply_tiles(sum, &g, tiles, (o.k + BK - 1) / BK, (int)((o.k - 1) % BK) + 1, slice,
                           item_m, item_n);
        }
#if SLICES > 1
        collect_slices(sum, tiles, slice, in_slice);
        if (slice == 0)
#endif
            finish_tile(&o, sum, row, column, item_m, item_n);
    }
}
