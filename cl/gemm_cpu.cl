/*
 * GEMM for CPU devices: one work-item per work-group, which is one core, with explicit vectors.
 *
 * k is cut into blocks of at most KC; in each block, MR rows of op(A) make a tile and NR = NV * VW
 * columns of op(B) a panel:
 *
 *                         NR
 *                        +------+------+------+
 *        op(B)      KC   | panel|      |      |         panel: stays in the first cache
 *                        |      |      |      |
 *                        +------+------+------+
 *          KC
 *       +------+         +------+------+------+
 *    MR | tile |      MR | C    |      |      |         tile: those of a work-group, MC rows, stay in
 *       +------+         +------+------+------+                the second cache
 *       |      |         |      |      |      |
 *       +------+         +------+------+------+         partial sums: [panel][tile][MR][NR]
 *        op(A)     up to MC x NC of C
 *
 * MR x NR elements of C live in MR * NV vector registers for a whole block; between blocks they rest
 * in private memory, unrounded, so that the epilogue happens once and C is written once.
 *
 *   PACK_A, PACK_B = 1   tiles [k][MR], panels [k][NR] are packed: that widens f16 and bf16 once,
 *                        lays out in the order of use what the inner loop reads, pads the edges
 *                    0   they are read where they are, rows of B in whole vectors; edges overlap
 *                        their neighbours, of what is computed twice one is dropped
 *   SHARED = 1           kernel `pack` packs into the workspace, kernel `gemm` reads it there: each
 *                        element is packed once
 *            0           each work-group packs what it needs into private memory
 *   SPLIT_K > 1          so many work-groups share the k of one block of C; their sums go to the
 *                        workspace, where kernel `reduce` adds them up (gemm_reduce.clh)
 *
 * Contract (tunables): VW lanes of a vector, MR rows and NV vectors of the register tile, KC, MC,
 * NC, UNROLL_K steps of the inner loop unrolled, PACK_A, PACK_B, SHARED, SPLIT_K as above, SWAP
 * (gemm.clh). Variant: gemm.clh, gemm_cpu_words.clh.
 */
#if !defined(VW) || !defined(MR) || !defined(NV) || !defined(KC) || !defined(MC) ||                \
    !defined(NC) || !defined(UNROLL_K) || !defined(PACK_A) || !defined(PACK_B) ||                  \
    !defined(SHARED) || !defined(SPLIT_K) || !defined(BF16_DOT)
#error "gemm_cpu.cl: a tunable or BF16_DOT is not defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"

#define NR (NV * VW)
#define TILES_M (MC / MR)
#define TILES_N (NC / NR)

#if SHARED
#define PACKED __global
#else
#define PACKED __private
#endif

#include "gemm_cpu_words.clh"
#include "gemm_cpu_pack.clh"

DEFINE_FINISHES(VW)

#include "gemm_reduce.clh"

/* ---- packing ---- */

static inline long tile_words(const struct gemm_params *p, long width)
{
    return words_of(p->block_k) * width + SLACK;
}

#define PACK_LINES(across, packed, block)                                                          \
    ((across) ? pack_across(packed, block) : pack_along(packed, block))

static inline struct block block_of_a(const struct gemm_params *p, const struct gemm_operands *o,
                                      long row, long rows, long k, long depth)
{
    return block(o->a + (TRANS_A ? k * o->lda + row : row * o->lda + k), o->lda, rows, depth, MR,
                 tile_words(p, MR));
}

static inline struct block block_of_b(const struct gemm_params *p, const struct gemm_operands *o,
                                      long column, long columns, long k, long depth)
{
    return block(o->b + (TRANS_B ? column * o->ldb + k : k * o->ldb + column), o->ldb, columns,
                 depth, NR, tile_words(p, NR));
}

#if SHARED

/* Where the workspace holds a tile of A, or a panel of B, of a block of k. */
static inline long packed_a_at(const struct gemm_params *p, long batch, long block, long tile)
{
    const long blocks = (p->k + p->block_k - 1) / p->block_k, tiles = (p->m + MR - 1) / MR;
    return ((batch * blocks + block) * tiles + tile) * tile_words(p, MR);
}

static inline long packed_b_at(const struct gemm_params *p, long batch, long block, long panel)
{
    const long blocks = (p->k + p->block_k - 1) / p->block_k, panels = (p->n + NR - 1) / NR;
    return (PACK_A ? packed_a_at(p, p->batch, 0, 0) : 0) +
           ((batch * blocks + block) * panels + panel) * tile_words(p, NR);
}

/* Work-groups: blocks of A, then of B, where they are packed; blocks of k; batch. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void pack(GEMM_PARAMETERS,
                                                                  __global word *restrict workspace)
{
    const long blocks_a = PACK_A ? (p.m + TILES_M * MR - 1) / (TILES_M * MR) : 0;
    const long row = get_group_id(0) * (TILES_M * MR);
    const long column = (get_group_id(0) - blocks_a) * (TILES_N * NR);
    const long block_k = get_group_id(1), k = block_k * p.block_k;
    for (long batch = get_group_id(2); batch < p.batch; batch += get_num_groups(2)) {
        GEMM_OPERANDS(o, batch);
        const long depth = min(p.block_k, o.k - k);
        if (depth <= 0)
            continue;
        const bool is_a = get_group_id(0) < blocks_a;
        const struct block b =
            is_a ? block_of_a(&p, &o, row, min((long)TILES_M * MR, o.m - row), k, depth)
                 : block_of_b(&p, &o, column, min((long)TILES_N * NR, o.n - column), k, depth);
        __global word *packed =
            workspace + (is_a ? packed_a_at(&p, batch, block_k, row / MR)
                              : packed_b_at(&p, batch, block_k, column / NR));
        /* Each is there once, for both operands: compiling is half of a first call. */
        if (is_a ? TRANS_A : !TRANS_B)
            pack_across(packed, &b);
        else
            pack_along(packed, &b);
    }
}

#endif

/* ---- multiplying ---- */

/* Of the lines first .. first + width - 1, those from `wanted` on and before `end`. */
struct window {
    long first, wanted, end;
};

/* Lines of a tile. What is read in place ends with the last line at `limit`. */
static inline struct window window(long line, long width, long end, long limit, bool in_place)
{
    struct window w;
    w.first = in_place ? min(line, limit - width) : line;
    w.wanted = line;
    w.end = min(end, line + width);
    return w;
}

#if PACK_A
typedef const PACKED word *tile_pointer;
#define TILE_WORD(tile, ld, i, k) ((tile)[(k) * MR + (i)])
#else
typedef __global const element *tile_pointer;
#define TILE_WORD(tile, ld, i, k)                                                                  \
    (TRANS_A ? (tile)[(k) * (ld) + (i)] : (tile)[(i) * (ld) + (k)])
#endif

#if PACK_B
typedef const PACKED word *panel_pointer;
#define PANEL_WORDS(panel, ld, k, v) VLOAD(VW, (panel) + (k) * NR + (v) * VW)
#else
typedef __global const element *panel_pointer;
#define PANEL_WORDS(panel, ld, k, v) words_across(panel, ld, k, (v) * VW)
#endif

/* sum += the tile's rows times the panel's columns, at step k. */
static inline void multiply_step(vec sum[MR][NV], tile_pointer tile, long lda, panel_pointer panel,
                                 long ldb, long k)
{
    words x[NV];
    UNROLL for (int v = 0; v < NV; v++) x[v] = PANEL_WORDS(panel, ldb, k, v);
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++)
        sum[i][v] = MULTIPLY_ADD(TILE_WORD(tile, lda, i, k), x[v], sum[i][v]);
}

static inline void multiply(vec sum[MR][NV], tile_pointer tile, long lda, panel_pointer panel,
                            long ldb, long steps)
{
    long k = 0;
    for (; k + UNROLL_K <= steps; k += UNROLL_K)
        UNROLL for (int u = 0; u < UNROLL_K; u++)
            multiply_step(sum, tile, lda, panel, ldb, k + u);
    for (; k < steps; k++)
        multiply_step(sum, tile, lda, panel, ldb, k);
}

#if SHARED
/* Asks for what is wanted a tile later: the caches beyond the second are too slow to wait for. */
static inline void fetch(const PACKED word *x, long words)
{
    for (long i = 0; i < words; i += CACHE_LINE / sizeof(word))
        PREFETCH(x + i);
}
#endif

static inline void load_tile(vec sum[MR][NV], const real *tile)
{
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++) sum[i][v] = VLOAD(VW, tile + i * NR + v * VW);
}

static inline void store_tile(real *tile, const vec sum[MR][NV])
{
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++) VSTORE(VW, sum[i][v], tile + i * NR + v * VW);
}

static inline void finish_tile(const struct gemm_operands *o, const vec sum[MR][NV],
                               struct window rows, struct window columns)
{
    if (rows.end - rows.wanted == MR && columns.end - columns.wanted == NR) {
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int v = 0; v < NV; v++)
            RESULT(VW, o, sum[i][v], rows.first + i, columns.first + v * VW);
        return;
    }
    real tile[MR * NR] __attribute__((aligned(64)));
    store_tile(tile, sum);
    for (long i = rows.wanted; i < rows.end; i++) {
        const real *line = tile + (i - rows.first) * NR - columns.first;
        long j = columns.wanted;
        for (; j + VW <= columns.end; j += VW)
            RESULT(VW, o, VLOAD(VW, line + j), i, j);
        for (; j < columns.end; j++)
            RESULT(1, o, line[j], i, j);
    }
}

/* Work-groups: blocks of columns, of rows; batch, and within it slices of k. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(GEMM_PARAMETERS
                                                                      WORKSPACE_PARAMETER)
{
#if PACK_A && !SHARED
    word packed_a[TILES_M * (KC / K_STEP * MR + SLACK)] __attribute__((aligned(64)));
#endif
#if PACK_B && !SHARED
    word packed_b[KC / K_STEP * NR + SLACK] __attribute__((aligned(64)));
#endif
    real partial[TILES_M * TILES_N][MR * NR] __attribute__((aligned(64)));

    const long column0 = get_group_id(0) * p.block_n, row0 = get_group_id(1) * p.block_m;
    for (long item = get_group_id(2); item < p.batch * SPLIT_K; item += get_num_groups(2)) {
        const long batch = item / SPLIT_K, slice = item % SPLIT_K;
        GEMM_OPERANDS(o, batch);
        o.sums = SLICE_SUMS(&o, batch, slice);
        const long first = slice * p.slice_k, end = SPLIT_K > 1 ? min(first + p.slice_k, o.k) : o.k;
        const long row_end = min(row0 + p.block_m, o.m);
        const long column_end = min(column0 + p.block_n, o.n);
        for (long k = first; k == first || k < end; k += p.block_k) {
            const long depth = clamp(end - k, 0L, p.block_k);
#if PACK_A && SHARED
            const PACKED word *tiles =
                workspace + packed_a_at(&p, batch, k / p.block_k, row0 / MR);
#elif PACK_A
            const PACKED word *tiles = packed_a;
            const struct block a = block_of_a(&p, &o, row0, row_end - row0, k, depth);
            PACK_LINES(TRANS_A, packed_a, &a);
#endif
            for (long j = column0; j < column_end; j += NR) {
                const struct window columns = window(j, NR, column_end, o.n, !PACK_B);
#if PACK_B && SHARED
                panel_pointer panel = workspace + packed_b_at(&p, batch, k / p.block_k, j / NR);
#elif PACK_B
                panel_pointer panel = packed_b;
                const struct block b = block_of_b(&p, &o, j, columns.end - j, k, depth);
                PACK_LINES(!TRANS_B, packed_b, &b);
#else
                panel_pointer panel = o.b + k * o.ldb + columns.first;
#endif
                for (long i = row0; i < row_end; i += MR) {
                    const struct window rows = window(i, MR, row_end, o.m, !PACK_A);
                    const long index = (i - row0) / MR;
                    real *sums = partial[(j - column0) / NR * TILES_M + index];
#if PACK_A
                    tile_pointer tile = tiles + index * tile_words(&p, MR);
#else
                    tile_pointer tile =
                        o.a + (TRANS_A ? k * o.lda + rows.first : rows.first * o.lda + k);
#endif
#if PACK_A && SHARED
                    if (j == column0) /* a tile is read for the first time */
                        fetch(tile + tile_words(&p, MR), tile_words(&p, MR));
#endif
#if PACK_B && SHARED
                    const long share = tile_words(&p, NR) / TILES_M;
                    fetch(panel + tile_words(&p, NR) + index * share, share);
#endif
                    vec sum[MR][NV];
                    if (k > first)
                        load_tile(sum, sums);
                    else
                        UNROLL for (int r = 0; r < MR; r++)
                        UNROLL for (int v = 0; v < NV; v++) sum[r][v] = 0;
                    multiply(sum, tile, o.lda, panel, o.ldb, words_of(depth));
                    if (k + p.block_k < end)
                        store_tile(sums, sum);
                    else
                        finish_tile(&o, sum, rows, columns);
                }
            }
        }
    }
}
