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
 * in the cache. See mma/mma.clh for the engine, gemm.clh for the variant. The host sees to it that
 * sub-groups divide the tile into fragments, that BK is an even number of them, and that a pass of
 * all work-items, a chunk each, is a number of whole lines of either tile and divides it.
 */
#if !defined(BM) || !defined(BN) || !defined(BK) || !defined(SUBS_M) || !defined(SUBS_N) ||        \
    !defined(STAGES) || !defined(GROUP)
#error "gemm_mma.cl: BM, BN, BK, SUBS_M, SUBS_N, STAGES and GROUP must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#include "gemm_tiles.clh"
#define MMA_HALVES (TRANS_A > TRANS_B)
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

/* Where sums pass on their way to C: rows of floats, MMA_N for each sub-group; the padding spreads
 * the rows that lanes write at a time over the banks. */
#define SLAB_LD (WN + 8)
#define SLABS (SUBGROUPS * MMA_N * SLAB_LD / 4)
#define RING (STAGES * (TILE_A + TILE_B))
#define MEMORY (RING > SLABS ? RING : SLABS)

/* Neighbours of C that one work-item writes: 16 bytes. */
#define WIDE_f32 4
#define WIDE_f16 8
#define WIDE_bf16 8
#define WIDE PASTE(WIDE_, DTYPE_C)

DEFINE_FINISH(1)
DEFINE_FINISH_ALIGNED(WIDE)

/* ---- global memory -> local memory ---- */

/* A tile comes in as it is stored. One work-item after the other takes a chunk, line by line; the
 * same work-item's next chunk is a pass, that is ITEMS / chunks lines, below. */
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
    s.line = get_local_id(0) / chunks, s.chunk = get_local_id(0) % chunks;
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

/* How many bytes of the chunk `pass` lines below lie inside, where lines x columns are left. */
ALWAYS_INLINE int bytes_inside(const struct stream *s, int pass, long lines, long columns)
{
    const long inside = s->line + pass < lines ? columns - s->chunk * MMA_CHUNK : 0;
    return (int)clamp(inside, 0L, (long)MMA_CHUNK) * (int)sizeof(element);
}

/* Takes the next tile, of which lines x columns are left; `whole`: all of it is there, aligned. */
ALWAYS_INLINE void copy_tile(__local uint4 *tile, struct stream *s, int count, int chunks,
                             long lines, long columns, bool whole)
{
    const int pass = ITEMS / chunks;
    if (whole)
        UNROLL for (int i = 0; i < count; i++)
            mma_copy(tile + MMA_AT(chunks, s->line + i * pass, s->chunk),
                     s->next + i * pass * s->ld);
    else
        for (int i = 0; i < count; i++) {
            __local uint4 *to = tile + MMA_AT(chunks, s->line + i * pass, s->chunk);
            const int bytes = bytes_inside(s, i * pass, lines, columns);
            __global const element *from = bytes > 0 ? s->next + i * pass * s->ld : s->next;
            if (s->aligned)
                mma_copy_part(to, from, bytes);
            else
                *to = mma_part(from, bytes);
        }
    s->next += s->step;
}

/* The same in two halves, with registers between them. */
ALWAYS_INLINE void fetch_tile(uint4 *kept, struct stream *s, int count, int chunks, long lines,
                              long columns, bool whole)
{
    const int pass = ITEMS / chunks;
    if (whole)
        UNROLL for (int i = 0; i < count; i++)
            kept[i] = *(__global const uint4 *)(s->next + i * pass * s->ld);
    else
        UNROLL for (int i = 0; i < count; i++)
            kept[i] = mma_part(s->next + i * pass * s->ld,
                               bytes_inside(s, i * pass, lines, columns));
    s->next += s->step;
}

ALWAYS_INLINE void keep_tile(__local uint4 *tile, const uint4 *kept, const struct stream *s,
                             int count, int chunks)
{
    UNROLL for (int i = 0; i < count; i++)
        tile[MMA_AT(chunks, s->line + i * (ITEMS / chunks), s->chunk)] = kept[i];
}

/* What came as lines of k becomes lines along k. */
ALWAYS_INLINE void keep_tile_turned(__local uint4 *tile, const uint4 *kept, const struct stream *s,
                                    int count, int chunks)
{
    __local ushort *to = (__local ushort *)tile;
    UNROLL for (int i = 0; i < count; i++)
    {
        const int k = s->line + i * (ITEMS / chunks);
        ushort x[8];
        VSTORE(8, as_ushort8(kept[i]), x);
        UNROLL for (int j = 0; j < 8; j++)
            to[MMA_AT(BK / 8, s->chunk * 8 + j, k / 8) * 8 + k % 8] = x[j];
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

ALWAYS_INLINE void copy_tiles(__local uint4 *stage, struct tile *t)
{
    copy_tile(stage, &t->a, COUNT_A, CHUNKS_A, LINES_A(t), COLUMNS_A(t), WHOLE(t, a));
    copy_tile(stage + TILE_A, &t->b, COUNT_B, CHUNKS_B, LINES_B(t), COLUMNS_B(t), WHOLE(t, b));
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

/* When the fragments of a stage's last step are loaded, nobody needs that stage any more once all
 * have got to the barrier: it takes the tiles STAGES - 1 steps ahead. What the very last step loads
 * ahead, from whichever stage comes next, is not multiplied. */
ALWAYS_INLINE void multiply_tile(struct mma_subgroup self, mma_sums *sums, __local uint4 *ring,
                                 struct tile *t)
{
    struct fragments f[2];
    int stage = 0, free_stage = STAGES - 1;
    long steps = (t->k + BK - 1) / BK;
    for (int i = 0; i < STAGES - 1; i++) {
        if (t->k > 0)
            copy_tiles(ring + i * (TILE_A + TILE_B), t);
        mma_commit();
    }
    MMA_WAIT(STAGES - 2);
    barrier(CLK_LOCAL_MEM_FENCE);
    load_fragments(self, &f[0], ring, 0);
    for (; steps > 0; steps--) {
        if (t->k > 0)
            copy_tiles(ring + free_stage * (TILE_A + TILE_B), t);
        mma_commit();
        free_stage = free_stage + 1 == STAGES ? 0 : free_stage + 1;
        MMA_UNROLL for (int k = 0; k < BK / MMA_K; k++)
        {
            if (k == BK / MMA_K - 1) {
                MMA_WAIT(STAGES - 2);
                barrier(CLK_LOCAL_MEM_FENCE);
                stage = stage + 1 == STAGES ? 0 : stage + 1;
            }
            load_fragments(self, &f[(k + 1) % 2], ring + stage * (TILE_A + TILE_B),
                           (k + 1) * MMA_K % BK);
            mma_multiply(self, sums, f[k % 2].left, LEFTS, f[k % 2].right, RIGHTS);
        }
    }
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

/* The row, or column, of a sub-group's part of C that a fragment's column, or row, is. */
#define ROW_OF(j, column) (TURNED_A ? MMA_TURNED_COLUMN(RIGHTS, j, column) : (j)*MMA_N + (column))
#define COLUMN_OF(i, row) (TURNED_B ? MMA_TURNED_ROW(LEFTS, i, row) : (i)*MMA_M + (row))

/* A lane's sums of one column of fragments, that is of MMA_N rows of C, into the rows of a slab:
 * as many neighbours at a time as lie in one fragment, or in neighbouring ones where rows are dealt
 * out to them. */
ALWAYS_INLINE void leave_sums(struct mma_subgroup self, __local float *slab, const mma_sums *sums)
{
#if MMA_DEALS && TURNED_B == 1
    UNROLL for (int s = 0; s < MMA_SUMS; s++)
    {
        __local float *to = slab + MMA_SUM_COLUMN(self.lane, s) * SLAB_LD +
                            COLUMN_OF(0, MMA_SUM_ROW(self.lane, s));
        UNROLL for (int i = 0; i < LEFTS; i++) to[i] = sums[i].x[s];
    }
#else
    UNROLL for (int i = 0; i < LEFTS; i++)
    UNROLL for (int s = 0; s < MMA_SUMS; s += MMA_SUM_RUN)
    {
        typedef VECTOR(float, MMA_SUM_RUN) run;
        *(__local run *)(slab + MMA_SUM_COLUMN(self.lane, s) * SLAB_LD +
                         COLUMN_OF(i, MMA_SUM_ROW(self.lane, s))) =
            VLOAD(MMA_SUM_RUN, sums[i].x + s);
    }
#endif
}

ALWAYS_INLINE void finish_wide(const struct gemm_operands *o, __local const float *x, long row,
                               long column, bool aligned)
{
    if (aligned && column + WIDE <= o->n)
        FINISH_ALIGNED(WIDE)(o, *(__local const VECTOR(float, WIDE) *)x, row, column);
    else
        for (int i = 0; i < WIDE && column + i < o->n; i++)
            finish1(o, x[i], row, column + i);
}

ALWAYS_INLINE void finish_tile(struct mma_subgroup self, const struct gemm_operands *o,
                               const mma_sums *sums, __local float *slabs, long row0, long column0)
{
    const bool aligned = (((size_t)o->c | (size_t)(o->ldc * sizeof(element_c))) % 16) == 0;
    __local float *slab = slabs + self.index * MMA_N * SLAB_LD;
    row0 += self.index / SUBS_N * WM, column0 += self.index % SUBS_N * WN;
    MMA_UNROLL for (int j = 0; j < RIGHTS; j++)
    {
        /* Where a compiler unrolls this loop too late, an index of j would keep sums in memory. */
        mma_sums column[LEFTS];
        UNROLL for (int i = 0; i < LEFTS; i++)
        UNROLL for (int c = 0; c < RIGHTS; c++)
        UNROLL for (int s = 0; s < MMA_SUMS; s++)
        {
            const float x = sums[i * RIGHTS + c].x[s];
            column[i].x[s] = c == 0 || c == j ? x : column[i].x[s];
        }
        leave_sums(self, slab, column);
        MMA_BARRIER();
        for (int i = self.lane; i < MMA_N * (WN / WIDE); i += MMA_LANES) {
            const int line = i / (WN / WIDE), column = i % (WN / WIDE) * WIDE;
            const long row = row0 + ROW_OF(j, line);
            if (row < o->m)
                finish_wide(o, slab + line * SLAB_LD + column, row, column0 + column, aligned);
        }
        MMA_BARRIER();
    }
}

__kernel MMA_KERNEL(ITEMS) void gemm(GEMM_PARAMETERS)
{
    __local uint4 memory[MEMORY] __attribute__((aligned(1024)));
    MMA_SUBGROUP(self, SUBGROUPS, LEFTS, RIGHTS);

    const struct place place = place_of(&p, (uint)get_group_id(0));
    const long row = place.row, column = place.column;

    for (long batch = get_group_id(1); batch < p.batch; batch += get_num_groups(1)) {
        GEMM_OPERANDS(o, batch);
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
