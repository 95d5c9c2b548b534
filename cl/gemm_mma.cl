/*
 * GEMM on matrix engines, through the fragment interface of mma/mma.clh.
 *
 * A work-group owns BM x BN elements of C, each of its sub-groups WM x WN of them, and walks k in
 * steps of BK. The engine computes C^T = op(B)^T op(A)^T: columns of C are rows of its left
 * operand, rows of C columns of its right one.
 *
 *                     BN                    Tiles lie in local memory as they are stored, whole
 *              +--+--+--+--+                chunks of 16 bytes, so that they can come there without
 *          BK  |  tile of B|                registers in between; fragments are loaded plain where
 *              +--+--+--+--+                k runs along their lines, else turned.
 *      BK            WN
 *    +----+    +--+--+--+--+                Engines with asynchronous copies have a ring of STAGES
 *    |    | WM |  |  |  |  |  SUBS_M        pairs of tiles, of which all but one are on their way.
 * BM |    |    +--+--+--+--+  sub-groups    Others have two: the next one passes through registers
 *    |    |    |  |  |  |  |  down,         while this one is multiplied. Of the ring, fragments
 *    +----+    +--+--+--+--+  SUBS_N        of the next k are loaded while these are multiplied.
 *                             across        At last, sums go through local memory, so that C is
 *                                           written in vectors.
 *
 * A tile whose lines start at multiples of 16 bytes and that lies inside the matrix is copied by
 * whole chunks; at edges by parts of chunks, filled up with zeros; others are read by elements.
 *
 * Contract (tunables): BM, BN, BK the tile, SUBS_M, SUBS_N sub-groups down and across, STAGES pairs
 * of tiles (2 where MMA_ASYNC is 0), GROUP rows of tiles walked together so that neighbours share B
 * in the cache, SPLIT_K work-groups that share the k of a tile. See mma/mma.clh for the engine,
 * gemm.clh for the variant. The host sees to it that sub-groups divide the tile into fragments,
 * that BK is an even number of them, and that all work-items, a chunk each, are whole lines of a
 * strip of either tile, of which there are enough.
 */
#if !defined(BM) || !defined(BN) || !defined(BK) || !defined(SUBS_M) || !defined(SUBS_N) ||        \
    !defined(STAGES) || !defined(GROUP) || !defined(SPLIT_K)
#error "gemm_mma.cl: BM, BN, BK, SUBS_M, SUBS_N, STAGES, GROUP and SPLIT_K must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#include "gemm_tiles.clh"
#include "mma/mma.clh"

#define SUBGROUPS (SUBS_M * SUBS_N)
#define ITEMS (SUBGROUPS * MMA_LANES)
#define WM (BM / SUBS_M)
#define WN (BN / SUBS_N)
#define LEFTS (WN / MMA_M)
#define RIGHTS (WM / MMA_N)

/* Chunks of a line as stored; of a tile, and of a tile for one work-item. */
#define CHUNKS_A ((TRANS_A ? BM : BK) / MMA_CHUNK)
#define CHUNKS_B ((TRANS_B ? BK : BN) / MMA_CHUNK)
/* The same of a line in local memory. Engines that load turned tiles slowly get them turned on the
 * way through registers. */
#define TURNED_A (TRANS_A * MMA_TURNS)
#define TURNED_B (!TRANS_B * MMA_TURNS)
#define TURN_A (TRANS_A * !MMA_TURNS)
#define TURN_B (!TRANS_B * !MMA_TURNS)
#define LINE_A ((TURNED_A ? BM : BK) / MMA_CHUNK)
#define LINE_B ((TURNED_B ? BN : BK) / MMA_CHUNK)
#define TILE_A (BM * BK / MMA_CHUNK)
#define TILE_B (BN * BK / MMA_CHUNK)
#define COUNT_A (TILE_A / ITEMS)
#define COUNT_B (TILE_B / ITEMS)

/* Where sums pass on their way to C: lines of floats as they lie in memory, which are rows of C, or
 * with SWAP columns, MMA_N or MMA_M at a time for each sub-group; the padding spreads the lines
 * that lanes write at a time over the banks. */
#define PIECES (SWAP ? LEFTS : RIGHTS)
#define SLAB_LINES (SWAP ? MMA_M : MMA_N)
#define SLAB_WIDTH (SWAP ? WM : WN)
#define SLAB_LD (SLAB_WIDTH + 8)
#define SLABS (SUBGROUPS * SLAB_LINES * SLAB_LD / 4)
#define RING (STAGES * (TILE_A + TILE_B))
#define MEMORY (RING > SLABS ? RING : SLABS)

/* Neighbours of C that one work-item writes: 16 bytes. */
#define WIDE_f32 4
#define WIDE_f16 8
#define WIDE_bf16 8
#define WIDE PASTE(WIDE_, DTYPE_C)

/* C of 16 bits is of the engine's type. */
#if MMA_BITS == 16 && WIDE == 8
static inline void store_packed(float8 x, __global element_c *c)
{
    *(__global uint4 *)c = (uint4)(mma_pack(x.s0, x.s1), mma_pack(x.s2, x.s3),
                                   mma_pack(x.s4, x.s5), mma_pack(x.s6, x.s7));
}
#define STORE_WIDE(dtype, n, x, p) store_packed(x, p)
#else
#define STORE_WIDE(dtype, n, x, p) STOREV_ALIGNED(dtype, n, x, p)
#endif

DEFINE_FINISH(1)
#if SWAP
DEFINE_FINISH_(finish_wide, WIDE, ADD_BIAS_DOWN, LOADV_ALIGNED, STORE_WIDE)
#else
DEFINE_FINISH_(finish_wide, WIDE, ADD_BIAS, LOADV_ALIGNED, STORE_WIDE)
#endif

#include "gemm_split.clh"

/* Where sums go. */
#if SPLIT_K > 1
#define PUT(o, x, row, column) (*SUMS_AT(o, row, column) = (x))
#define PUT_WIDE(o, x, row, column) (*(__global VECTOR(float, WIDE) *)SUMS_AT(o, row, column) = (x))
#define IS_ALIGNED(o) ((SWAP ? (o)->m : (o)->n) % WIDE == 0)
#else
#define PUT(o, x, row, column) finish1(o, x, row, column)
#define PUT_WIDE(o, x, row, column) finish_wide(o, x, row, column)
#define IS_ALIGNED(o) ((((size_t)(o)->c | (size_t)((o)->ldc * sizeof(element_c))) % 16) == 0)
#endif

/* ---- global memory -> local memory ---- */

/* A tile comes in as it is stored. Work-items take a strip of chunks, as wide as a power of two
 * that divides the lines, as many lines at a time as they are enough for: all strips of these, then
 * the lines below. */
#define STRIP(chunks) ((chunks) & -(chunks))
#define STRIPS(chunks) ((chunks) / STRIP(chunks))

/* Line and chunk of a work-item's i-th chunk, seen from its first. */
#define DOWN(chunks, i) ((i) / STRIPS(chunks) * (ITEMS / STRIP(chunks)))
#define ACROSS(chunks, i) ((i) % STRIPS(chunks) * STRIP(chunks))

struct stream {
    __global const element *next; /* this work-item's first chunk of the next tile */
    long ld, step;                /* step: from tile to tile */
    int line, chunk;              /* of that chunk within the tile */
    bool aligned, inside;         /* inside: but for the end of k, tiles are whole */
};

ALWAYS_INLINE struct stream open_stream(__global const element *tile, long ld, long step,
                                        int chunks, bool inside)
{
    struct stream s;
    s.line = get_local_id(0) / STRIP(chunks), s.chunk = get_local_id(0) % STRIP(chunks);
    s.next = tile + s.line * ld + s.chunk * MMA_CHUNK;
    s.ld = ld, s.step = step;
    s.aligned = (((size_t)tile | (size_t)(ld * sizeof(element))) % 16) == 0;
    s.inside = inside;
    return s;
}

ALWAYS_INLINE struct stream open_a(const struct gemm_operands *o, long row)
{
    return open_stream(o->a + row * (TRANS_A ? 1 : o->lda), o->lda, TRANS_A ? BK * o->lda : BK,
                       CHUNKS_A, o->m - row >= BM);
}

ALWAYS_INLINE struct stream open_b(const struct gemm_operands *o, long column)
{
    return open_stream(o->b + column * (TRANS_B ? o->ldb : 1), o->ldb, TRANS_B ? BK : BK * o->ldb,
                       CHUNKS_B, o->n - column >= BN);
}

/* Where a work-item's i-th chunk comes from, and where it goes. */
#define CHUNK_FROM(s, chunks, i)                                                                   \
    ((s)->next + DOWN(chunks, i) * (s)->ld + ACROSS(chunks, i) * MMA_CHUNK)
#define CHUNK_TO(s, chunks, i)                                                                     \
    MMA_AT(chunks, (s)->line + DOWN(chunks, i), (s)->chunk + ACROSS(chunks, i))

/* How many bytes of it lie inside, where lines x columns are left. */
ALWAYS_INLINE int bytes_inside(const struct stream *s, int chunks, int i, long lines, long columns)
{
    const long left = columns - (s->chunk + ACROSS(chunks, i)) * MMA_CHUNK;
    const long inside = s->line + DOWN(chunks, i) < lines ? left : 0;
    return (int)clamp(inside, 0L, (long)MMA_CHUNK) * (int)sizeof(element);
}

/* Takes the next tile, all of which is there and aligned; or of which lines x columns are left. */
ALWAYS_INLINE void copy_whole_tile(__local uint4 *tile, struct stream *s, int count, int chunks)
{
    UNROLL for (int i = 0; i < count; i++)
        mma_copy(tile + CHUNK_TO(s, chunks, i), CHUNK_FROM(s, chunks, i));
    s->next += s->step;
}

ALWAYS_INLINE void copy_tile(__local uint4 *tile, struct stream *s, int count, int chunks,
                             long lines, long columns)
{
    for (int i = 0; i < count; i++) {
        const int bytes = bytes_inside(s, chunks, i, lines, columns);
        __global const element *from = bytes > 0 ? CHUNK_FROM(s, chunks, i) : s->next;
        if (s->aligned)
            mma_copy_part(tile + CHUNK_TO(s, chunks, i), from, bytes);
        else
            tile[CHUNK_TO(s, chunks, i)] = mma_part(from, bytes);
    }
    s->next += s->step;
}

/* The same in two halves, with registers between them. */
ALWAYS_INLINE void fetch_tile(uint4 *kept, struct stream *s, int count, int chunks, long lines,
                              long columns, bool whole)
{
    if (whole)
        UNROLL for (int i = 0; i < count; i++)
            kept[i] = *(__global const uint4 *)CHUNK_FROM(s, chunks, i);
    else
        UNROLL for (int i = 0; i < count; i++)
            kept[i] = mma_part(CHUNK_FROM(s, chunks, i),
                               bytes_inside(s, chunks, i, lines, columns));
    s->next += s->step;
}

ALWAYS_INLINE void keep_tile(__local uint4 *tile, const uint4 *kept, const struct stream *s,
                             int count, int chunks)
{
    UNROLL for (int i = 0; i < count; i++) tile[CHUNK_TO(s, chunks, i)] = kept[i];
}

/* What came as lines of k becomes lines along k. */
ALWAYS_INLINE void keep_tile_turned(__local uint4 *tile, const uint4 *kept, const struct stream *s,
                                    int count, int chunks)
{
    __local ushort *to = (__local ushort *)tile;
    UNROLL for (int i = 0; i < count; i++)
    {
        const int k = s->line + DOWN(chunks, i), line = (s->chunk + ACROSS(chunks, i)) * 8;
        ushort x[8];
        VSTORE(8, as_ushort8(kept[i]), x);
        UNROLL for (int j = 0; j < 8; j++)
            to[MMA_AT(BK / 8, line + j, k / 8) * 8 + k % 8] = x[j];
    }
}

/* ---- one tile of C ---- */

struct tile {
    struct stream a, b;
    long rows, columns, k; /* what is left: of C from here on, of the product */
};

#define WHOLE(t, stream) ((t)->stream.aligned && (t)->stream.inside && (t)->k >= BK)
#define LINES_A(t) (TRANS_A ? (t)->k : (t)->rows)
#define COLUMNS_A(t) (TRANS_A ? (t)->rows : (t)->k)
#define LINES_B(t) (TRANS_B ? (t)->columns : (t)->k)
#define COLUMNS_B(t) (TRANS_B ? (t)->k : (t)->columns)

ALWAYS_INLINE void copy_whole_tiles(__local uint4 *stage, struct tile *t)
{
    copy_whole_tile(stage, &t->a, COUNT_A, CHUNKS_A);
    copy_whole_tile(stage + TILE_A, &t->b, COUNT_B, CHUNKS_B);
    t->k -= BK;
}

ALWAYS_INLINE void copy_tiles(__local uint4 *stage, struct tile *t)
{
    copy_tile(stage, &t->a, COUNT_A, CHUNKS_A, LINES_A(t), COLUMNS_A(t));
    copy_tile(stage + TILE_A, &t->b, COUNT_B, CHUNKS_B, LINES_B(t), COLUMNS_B(t));
    t->k -= BK;
}

ALWAYS_INLINE void fetch_tiles(uint4 *a, uint4 *b, struct tile *t)
{
    fetch_tile(a, &t->a, COUNT_A, CHUNKS_A, LINES_A(t), COLUMNS_A(t), WHOLE(t, a));
    fetch_tile(b, &t->b, COUNT_B, CHUNKS_B, LINES_B(t), COLUMNS_B(t), WHOLE(t, b));
    t->k -= BK;
}

ALWAYS_INLINE void keep_tiles(__local uint4 *stage, const uint4 *a, const uint4 *b,
                              const struct tile *t)
{
    if (TURN_A)
        keep_tile_turned(stage, a, &t->a, COUNT_A, CHUNKS_A);
    else
        keep_tile(stage, a, &t->a, COUNT_A, CHUNKS_A);
    if (TURN_B)
        keep_tile_turned(stage + TILE_A, b, &t->b, COUNT_B, CHUNKS_B);
    else
        keep_tile(stage + TILE_A, b, &t->b, COUNT_B, CHUNKS_B);
}

/* Fragments for one step of the engine. */
struct fragments {
    mma_left left[LEFTS];
    mma_right right[RIGHTS];
};

ALWAYS_INLINE void load_fragments(struct mma_subgroup self, struct fragments *f,
                                  __local const uint4 *stage, int k)
{
    const int row = self.index / SUBS_N * WM, column = self.index % SUBS_N * WN;
    if (TURNED_A)
        mma_load_right_turned(self, f->right, RIGHTS, stage, LINE_A, row, k);
    else
        mma_load_right(self, f->right, RIGHTS, stage, LINE_A, row, k);
    if (TURNED_B)
        mma_load_left_turned(self, f->left, LEFTS, stage + TILE_A, LINE_B, column, k);
    else
        mma_load_left(self, f->left, LEFTS, stage + TILE_A, LINE_B, column, k);
}

#if MMA_ASYNC

struct ring {
    __local uint4 *stages;
    int now, free; /* which stage fragments come from, which one takes the next tiles */
};

#define STAGE(ring, i) ((ring)->stages + (i) * (TILE_A + TILE_B))
#define NEXT_STAGE(i) ((i) + 1 == STAGES ? 0 : (i) + 1)

/* BK of the product. When the fragments of a stage's last step are loaded, nobody needs that stage
 * any more once all have got to the barrier: it takes the tiles STAGES - 1 steps ahead. Where these
 * are whole, their copies are free of branches, so that compilers spread them among the products.
 * What the very last step loads ahead, from whichever stage comes next, is not multiplied. */
ALWAYS_INLINE void multiply_step(struct mma_subgroup self, mma_sums *sums, struct fragments *f,
                                 struct ring *ring, struct tile *t, bool whole)
{
    if (whole)
        copy_whole_tiles(STAGE(ring, ring->free), t);
    else if (t->k > 0)
        copy_tiles(STAGE(ring, ring->free), t);
    mma_commit();
    ring->free = NEXT_STAGE(ring->free);
    MMA_UNROLL for (int k = 0; k < BK / MMA_K; k++)
    {
        if (k == BK / MMA_K - 1) {
            MMA_WAIT(STAGES - 2);
            barrier(CLK_LOCAL_MEM_FENCE);
            ring->now = NEXT_STAGE(ring->now);
        }
        load_fragments(self, &f[(k + 1) % 2], STAGE(ring, ring->now), (k + 1) * MMA_K % BK);
        mma_multiply(self, sums, f[k % 2].left, LEFTS, f[k % 2].right, RIGHTS);
    }
}

ALWAYS_INLINE void multiply_tile(struct mma_subgroup self, mma_sums *sums, __local uint4 *memory,
                                 struct tile *t)
{
    struct ring ring = {memory, 0, STAGES - 1};
    struct fragments f[2];
    long steps = (t->k + BK - 1) / BK;
    const bool whole = t->a.aligned && t->a.inside && t->b.aligned && t->b.inside;
    for (int i = 0; i < STAGES - 1; i++) {
        if (t->k > 0)
            copy_tiles(STAGE(&ring, i), t);
        mma_commit();
    }
    MMA_WAIT(STAGES - 2);
    barrier(CLK_LOCAL_MEM_FENCE);
    load_fragments(self, &f[0], memory, 0);
    for (; whole && t->k >= BK; steps--)
        multiply_step(self, sums, f, &ring, t, true);
    for (; steps > 0; steps--)
        multiply_step(self, sums, f, &ring, t, false);
    MMA_WAIT(0);
    barrier(CLK_LOCAL_MEM_FENCE);
}

#else

ALWAYS_INLINE void multiply_tile(struct mma_subgroup self, mma_sums *sums, __local uint4 *ring,
                                 struct tile *t)
{
    uint4 a[COUNT_A], b[COUNT_B];
    struct fragments f;
    int stage = 0;
    fetch_tiles(a, b, t);
    keep_tiles(ring, a, b, t);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (bool more = true; more; stage = 1 - stage) {
        __local const uint4 *now = ring + stage * (TILE_A + TILE_B);
        more = t->k > 0;
        if (more)
            fetch_tiles(a, b, t);
        MMA_UNROLL for (int k = 0; k < BK; k += MMA_K)
        {
            load_fragments(self, &f, now, k);
            mma_multiply(self, sums, f.left, LEFTS, f.right, RIGHTS);
        }
        if (more)
            keep_tiles(ring + (1 - stage) * (TILE_A + TILE_B), a, b, t);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

#endif

/* ---- from sums to C ---- */

/* The row of a fragment's part of C that is its column. */
#define ROW_OF(column) (TURNED_A ? MMA_TURNED_COLUMN(column) : (column))

/* Row and column, within a sub-group's part of C, of what lies in a slab. */
#if SWAP
#define ROW_AT(piece, line, across) (across)
#define COLUMN_AT(piece, line, across) ((piece)*MMA_M + (line))
#else
#define ROW_AT(piece, line, across) ((piece)*MMA_N + ROW_OF(line))
#define COLUMN_AT(piece, line, across) (across)
#endif

/* Fragment j of a row. Intel's compiler unrolls the loop over pieces too late: an index would keep
 * all sums in memory, so the fragment is copied to `room`. */
ALWAYS_INLINE const mma_sums *sums_at(const mma_sums *row, int j, mma_sums *room)
{
#if MMA_LANES < 32
    *room = row[0];
    UNROLL for (int i = 1; i < RIGHTS; i++)
    UNROLL for (int s = 0; s < MMA_SUMS; s++) room->x[s] = i == j ? row[i].x[s] : room->x[s];
    return room;
#else
    return row + j;
#endif
}

/* A lane's sums of one row of fragments, that is of MMA_M columns of C, or of one column, MMA_N
 * rows, into the lines of a slab. There, as many neighbours at a time as lie in one fragment. */
ALWAYS_INLINE void leave_sums(struct mma_subgroup self, __local float *slab, const mma_sums *sums,
                              int piece)
{
#if SWAP
    UNROLL for (int j = 0; j < RIGHTS; j++)
    UNROLL for (int s = 0; s < MMA_SUMS; s++)
        slab[MMA_SUM_ROW(self.lane, s) * SLAB_LD + j * MMA_N +
             ROW_OF(MMA_SUM_COLUMN(self.lane, s))] = sums[piece * RIGHTS + j].x[s];
#else
    UNROLL for (int i = 0; i < LEFTS; i++)
    {
        typedef VECTOR(float, MMA_SUM_RUN) run;
        mma_sums room;
        const mma_sums *at = sums_at(sums + i * RIGHTS, piece, &room);
        UNROLL for (int s = 0; s < MMA_SUMS; s += MMA_SUM_RUN)
            *(__local run *)(slab + MMA_SUM_COLUMN(self.lane, s) * SLAB_LD + i * MMA_M +
                             MMA_SUM_ROW(self.lane, s)) = VLOAD(MMA_SUM_RUN, at->x + s);
    }
#endif
}

#define SLAB_RUNS (SLAB_LINES * (SLAB_WIDTH / WIDE))

/* Where a lane's i-th neighbours lie in a slab. */
#define LINE_AT(lane, i) (((i)*MMA_LANES + (lane)) / (SLAB_WIDTH / WIDE))
#define ACROSS_AT(lane, i) (((i)*MMA_LANES + (lane)) % (SLAB_WIDTH / WIDE) * WIDE)

ALWAYS_INLINE void finish_edge(const struct gemm_operands *o, __local const float *x, long row,
                               long column, bool aligned)
{
    const long left = SWAP ? o->m - row : o->n - column;
    if (SWAP ? column >= o->n : row >= o->m)
        return;
    if (aligned && left >= WIDE)
        PUT_WIDE(o, *(__local const VECTOR(float, WIDE) *)x, row, column);
    else
        for (int i = 0; i < WIDE && i < left; i++)
            PUT(o, x[i], row + (SWAP ? i : 0), column + (SWAP ? 0 : i));
}

/* `whole`: all of the sub-group's part of C is there, and aligned. */
ALWAYS_INLINE void finish_part(struct mma_subgroup self, const struct gemm_operands *o,
                               const mma_sums *sums, __local float *slab, long row0, long column0,
                               bool aligned, bool whole)
{
    MMA_UNROLL for (int piece = 0; piece < PIECES; piece++)
    {
        leave_sums(self, slab, sums, piece);
        MMA_BARRIER();
        if (whole && SLAB_RUNS % MMA_LANES == 0)
            UNROLL for (int i = 0; i < SLAB_RUNS / MMA_LANES; i++)
            {
                const int line = LINE_AT(self.lane, i), across = ACROSS_AT(self.lane, i);
                PUT_WIDE(o, *(__local const VECTOR(float, WIDE) *)(slab + line * SLAB_LD + across),
                         row0 + ROW_AT(piece, line, across),
                         column0 + COLUMN_AT(piece, line, across));
            }
        else
            for (int i = 0; i * MMA_LANES + self.lane < SLAB_RUNS; i++) {
                const int line = LINE_AT(self.lane, i), across = ACROSS_AT(self.lane, i);
                finish_edge(o, slab + line * SLAB_LD + across, row0 + ROW_AT(piece, line, across),
                            column0 + COLUMN_AT(piece, line, across), aligned);
            }
        MMA_BARRIER();
    }
}

/* Activations that are worth a way of their own for whole tiles; others take so long, and so many
 * registers, that one is enough. So it is where chunks on their way take registers too. */
#define SHORT_none 1
#define SHORT_relu 1
#define SHORT_gelu 0
#define SHORT_silu 0

ALWAYS_INLINE void finish_tile(struct mma_subgroup self, const struct gemm_operands *o,
                               const mma_sums *sums, __local float *slabs, long row0, long column0)
{
    const bool aligned = IS_ALIGNED(o);
    const bool whole = aligned && o->m - row0 >= BM && o->n - column0 >= BN;
    __local float *slab = slabs + self.index * SLAB_LINES * SLAB_LD;
    row0 += self.index / SUBS_N * WM, column0 += self.index % SUBS_N * WN;
    if (MMA_ASYNC && PASTE(SHORT_, ACTIVATION) && whole && o->beta == 0) {
        struct gemm_operands fresh = *o; /* nothing of C is read */
        fresh.beta = 0;
        finish_part(self, &fresh, sums, slab, row0, column0, true, true);
    } else {
        finish_part(self, o, sums, slab, row0, column0, aligned, false);
    }
}

__kernel MMA_KERNEL(ITEMS) void gemm(GEMM_PARAMETERS WORKSPACE_PARAMETER)
{
    __local uint4 memory[MEMORY] __attribute__((aligned(1024)));
    MMA_SUBGROUP(self, SUBGROUPS, LEFTS, RIGHTS);

    const struct place place = place_of(&p, (uint)get_group_id(0));
    const long row = place.row, column = place.column;

    for (long n = get_group_id(1); n < p.batch * SPLIT_K; n += get_num_groups(1)) {
        GEMM_OPERANDS(o, n / SPLIT_K);
        TAKE_SLICE(o, n);
        mma_sums sums[LEFTS * RIGHTS];
        UNROLL for (int i = 0; i < LEFTS * RIGHTS; i++)
        UNROLL for (int j = 0; j < MMA_SUMS; j++) sums[i].x[j] = 0;
        struct tile t = {open_a(&o, row), open_b(&o, column), o.m - row, o.n - column, o.k};
        if (o.k > 0)
            multiply_tile(self, sums, memory, &t);
        finish_tile(self, &o, sums, (__local float *)memory, row, column);
        barrier(CLK_LOCAL_MEM_FENCE); /* the next tiles come to where the sums were */
    }
}
