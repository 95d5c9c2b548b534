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
 * MR x NR elements of C live in MR * NV vector registers for a whole block; between blocks they
 * rest in private memory, unrounded, so that the epilogue happens once and C is written once.
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

#if BF16_DOT
#include "bf16_dot.clh"
#endif
#include "gemm_cpu_words.clh"

DEFINE_FINISHES(VW)

#define BEGIN_GROUP()
#define END_GROUP()
#define OWN_TILES 0
#include "gemm_blocks.clh"

/* ---- multiplying ---- */

#if PACK_A
#define TILE_WORD(tile, ld, i, k) ((tile)[(k) * MR + (i)])
#else
#define TILE_WORD(tile, ld, i, k)                                                                  \
    (TRANS_A ? (tile)[(k) * (ld) + (i)] : (tile)[(i) * (ld) + (k)])
#endif

#if PACK_B
#define PANEL_WORDS(panel, ld, k, v) VLOAD(VW, (panel) + (k) * NR + (v) * VW)
#else
#define PANEL_WORDS(panel, ld, k, v) words_across(panel, ld, k, (v) * VW)
#endif

/* sum += the tile's rows times the panel's columns, at step k. */
ALWAYS_INLINE void multiply_step(vec sum[MR][NV], tile_pointer tile, long lda, panel_pointer panel,
                                 long ldb, long k)
{
    words x[NV];
    UNROLL for (int v = 0; v < NV; v++) x[v] = PANEL_WORDS(panel, ldb, k, v);
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++)
        sum[i][v] = MULTIPLY_ADD(TILE_WORD(tile, lda, i, k), x[v], sum[i][v]);
}

ALWAYS_INLINE void multiply(vec sum[MR][NV], tile_pointer tile, long lda, panel_pointer panel,
                            long ldb, long steps)
{
    long k = 0;
    for (; k + UNROLL_K <= steps; k += UNROLL_K)
        UNROLL for (int u = 0; u < UNROLL_K; u++)
            multiply_step(sum, tile, lda, panel, ldb, k + u);
    for (; k < steps; k++)
        multiply_step(sum, tile, lda, panel, ldb, k);
}

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
    finish_lines(o, tile, rows, columns);
}

#if SHARED
static inline void fetch(const PACKED word *x, long words)
{
    for (long i = 0; i < words; i += CACHE_LINE / sizeof(word))
        PREFETCH(x + i);
}
#endif

static inline void multiply_tile(const struct gemm_operands *o, real *sums, tile_pointer tile,
                                 panel_pointer panel, long depth, bool begins, bool ends,
                                 struct window rows, struct window columns, struct ahead ahead)
{
    vec sum[MR][NV];
#if PACK_A && SHARED
    if (ahead.tile)
        fetch(ahead.tile, words_of(depth) * MR);
#endif
#if PACK_B && SHARED
    fetch(ahead.panel, words_of(depth) * NR / TILES_M);
#endif
    if (begins)
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int v = 0; v < NV; v++) sum[i][v] = 0;
    else
        load_tile(sum, sums);
    multiply(sum, tile, o->lda, panel, o->ldb, words_of(depth));
    if (ends)
        finish_tile(o, sum, rows, columns);
    else
        store_tile(sums, sum);
}
