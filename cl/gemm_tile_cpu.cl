/*
 * GEMM of bf16 for CPUs with tile registers (bf16_tile.clh): blocks as in gemm_cpu.cl, in which a
 * tile of 32 rows and a panel of 32 columns meet in four registers of sums.
 *
 *                    32 columns
 *                 +------+------+
 *       op(B)     |  6   |  7   |    16 words along k = 32 elements a step; the panel
 *                 +------+------+    [word][32], padded with zeros
 *      16 words
 *     +------+    +------+------+
 *     |  4   |    |  0   |  1   |
 *     +------+    +------+------+    registers 0 .. 3 keep the sums of a block of k
 *     |  5   |    |  2   |  3   |
 *     +------+    +------+------+
 *      op(A)      32 x 32 of C
 *
 * Four loads for four products of 16 cycles: B comes from the first cache, which A, from the
 * second, passes by.
 *
 *   PACK_A = 1   tiles [step][32 rows][16 words]
 *            0   read in place: not transposed, k a multiple of 32
 *
 * Contract (tunables): KC, MC, NC, PACK_A, SHARED, SPLIT_K, SWAP as in gemm_cpu.cl. Variant:
 * gemm.clh, A and B bf16.
 */
#if !defined(KC) || !defined(MC) || !defined(NC) || !defined(PACK_A) || !defined(SHARED) ||        \
    !defined(SPLIT_K)
#error "gemm_tile_cpu.cl: a tunable is not defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#include "bf16_tile.clh"

#define VW 16
#define MR 32
#define NR 32
#define PACK_B 1
#define BF16_DOT 1
#define K_ALIGN 32

#include "gemm_cpu_words.clh"

DEFINE_FINISHES(VW)

#define BEGIN_GROUP() TILE_CONFIGURE()
#define END_GROUP() TILE_RELEASE()
#define OWN_TILES 1
#include "gemm_blocks.clh"

/* ---- packing tiles ---- */

#define STEP_WORDS (MR * VW) /* of a tile */

/* Neighbouring lines are neighbours in memory. Goes over all tiles with the rows of one step. */
static inline void pack_tiles_across(PACKED word *packed, const struct block *b)
{
    for (long k = 0; k < b->steps; k += VW) {
        PACKED word *tile = packed + k * MR;
        for (long line = 0; line < b->lines; line += MR, tile += b->tile_words)
            for (long i = 0; i < MR; i += VW) {
                words r[VW];
                if (line + i + VW <= b->lines && k + VW <= b->whole_steps)
                    UNROLL for (int w = 0; w < VW; w++)
                        r[w] = words_across(b->x, b->ld, k + w, line + i);
                else
                    for (int w = 0; w < VW; w++) {
                        word lanes[VW];
                        for (int l = 0; l < VW; l++)
                            lanes[l] = one_word(b->x + min(line + i + l, b->lines - 1), b->ld,
                                                k + w, b->depth);
                        r[w] = VLOAD(VW, lanes);
                    }
                transpose_words(r);
                UNROLL for (int l = 0; l < VW; l++) VSTORE(VW, r[l], tile + (i + l) * VW);
            }
    }
}

/* The elements of one line are neighbours in memory. */
static inline void pack_tiles_along(PACKED word *packed, const struct block *b)
{
    PACKED word *tile = packed;
    for (long line = 0; line < b->lines; line += MR, tile += b->tile_words)
        for (long i = 0; i < MR; i++) {
            __global const element *x = b->x + min(line + i, b->lines - 1) * b->ld;
            PACKED word *row = tile + i * VW;
            long k = 0;
            for (; k + VW <= b->whole_steps; k += VW)
                VSTORE(VW, words_along(x, k), row + k * MR);
            if (k < b->steps)
                for (int w = 0; w < VW; w++)
                    row[k * MR + w] = one_word(x, 1, k + w, b->depth);
        }
}

static inline void pack_tiles(PACKED word *packed, const struct block *b)
{
#if TRANS_A
    pack_tiles_across(packed, b);
#else
    pack_tiles_along(packed, b);
#endif
}

/* ---- multiplying ---- */

#if SWAP && SPLIT_K == 1
/* Neighbours in a column of C are neighbours in memory. */
static inline void finish_tile(const struct gemm_operands *o, const real *sums, struct window rows,
                               struct window columns)
{
    if (rows.end - rows.wanted < MR || columns.end - columns.wanted < NR) {
        finish_lines(o, sums, rows, columns);
        return;
    }
    for (long i = 0; i < MR; i += VW)
        for (long j = 0; j < NR; j += VW) {
            vec x[VW];
            UNROLL for (int l = 0; l < VW; l++) x[l] = VLOAD(VW, sums + (i + l) * NR + j);
            transpose_float16(x);
            UNROLL for (int l = 0; l < VW; l++)
                FINISH_DOWN(VW)(o, x[l], rows.first + i, columns.first + j + l);
        }
}
#else
#define finish_tile finish_lines
#endif

/* Cache lines of the next panel that one step asks for. */
#define SHARE ((VW * NR * 4 / CACHE_LINE + TILES_M - 1) / TILES_M)

static inline void multiply_tile(const struct gemm_operands *o, real *sums, tile_pointer tile,
                                 panel_pointer panel, long depth, bool begins, bool ends,
                                 struct window rows, struct window columns, struct ahead ahead)
{
    const long sums_bytes = NR * sizeof(real), b_bytes = NR * sizeof(word);
#if PACK_A
    const long row = VW, step = STEP_WORDS;
#else
    const long row = o->lda, step = K_ALIGN;
#endif
    const long a_bytes = row * sizeof(*tile);
    const tile_pointer lower = tile + VW * row;
    real *lower_sums = sums + VW * NR;
    if (begins) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums, sums_bytes);
        TILE_LOAD(1, sums + VW, sums_bytes);
        TILE_LOAD(2, lower_sums, sums_bytes);
        TILE_LOAD(3, lower_sums + VW, sums_bytes);
    }
    const long steps = words_of(depth) / VW;
    for (long s = 0; s < steps; s++) {
        const panel_pointer b = panel + s * VW * NR;
        TILE_STREAM(4, tile + s * step, a_bytes);
        TILE_LOAD(6, b, b_bytes);
        TILE_LOAD(7, b + VW, b_bytes);
        TILE_DOT(0, 4, 6);
        TILE_STREAM(5, lower + s * step, a_bytes);
        TILE_DOT(1, 4, 7);
        if (ahead.tile)
            UNROLL for (int i = 0; i < MR; i++) PREFETCH_SECOND(ahead.tile + s * step + i * row);
#if SHARED
        UNROLL for (int i = 0; i < SHARE; i++)
            PREFETCH_SECOND(ahead.panel + (s * SHARE + i) * CACHE_LINE / sizeof(word));
#endif
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
    }
    TILE_STORE(0, sums, sums_bytes);
    TILE_STORE(1, sums + VW, sums_bytes);
    TILE_STORE(2, lower_sums, sums_bytes);
    TILE_STORE(3, lower_sums + VW, sums_bytes);
    if (ends)
        finish_tile(o, sums, rows, columns);
}
