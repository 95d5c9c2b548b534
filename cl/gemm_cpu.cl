/*
 * GEMM for CPU devices: one work-item per work-group, which is one core, with explicit vectors.
 *
 * Both operands are packed, which widens f16 and bf16 once, lays out in the order of use what the
 * inner loop reads, and pads the edges. k is cut into blocks of at most KC; in each block, MR rows
 * of op(A) make a tile and NR = NV * VW columns of op(B) a panel:
 *
 *                         NR
 *                        +------+------+------+
 *        op(B)      KC   | panel|      |      |         panel: [k][NR], stays in the first cache
 *                        |      |      |      |
 *                        +------+------+------+
 *          KC
 *       +------+         +------+------+------+
 *    MR | tile |      MR | C    |      |      |         tile: [k][MR], the MC rows of a work-group
 *       +------+         +------+------+------+                stay in the second cache
 *       |      |         |      |      |      |
 *       +------+         +------+------+------+         partial sums: [panel][tile][MR][NR]
 *        op(A)     up to MC x NC of C
 *
 * MR x NR elements of C live in MR * NV vector registers for a whole block; between blocks they rest
 * in private memory, unrounded, so that the epilogue happens once and C is written once.
 *
 *   SHARED = 1   kernel `pack` fills the workspace with all tiles and panels, kernel `gemm` reads
 *                them there: each element is packed once
 *   SHARED = 0   each work-group packs what it needs into private memory: one launch, no workspace
 *
 * Contract (tunables): VW lanes of a vector, MR rows and NV vectors of the register tile, KC, MC,
 * NC, SHARED as above, UNROLL_K steps of the inner loop unrolled. Variant: gemm.clh, and
 *   BF16_DOT     1: A and B are bf16 and are multiplied in pairs along k (bf16_dot.clh); VW is 16
 */
#if !defined(VW) || !defined(MR) || !defined(NV) || !defined(KC) || !defined(MC) ||                \
    !defined(NC) || !defined(SHARED) || !defined(UNROLL_K) || !defined(BF16_DOT)
#error "gemm_cpu.cl: VW, MR, NV, KC, MC, NC, SHARED, UNROLL_K and BF16_DOT must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"

#define NR (NV * VW)
#define TILES_M (MC / MR)
#define TILES_N (NC / NR)

/* Lines of the widest vector that a tile of `width` lines takes. */
#define CHUNKS(width) (((width) + VW - 1) / VW)

/* After each tile and panel: the last vector stored there may be longer than what is left, and
 * panels at distances of a power of two would meet in the same sets of a cache. */
#define SLACK VW

typedef VECTOR(REAL(DTYPE), VW) vec;

#if SHARED
#define PACKED __global
#else
#define PACKED __private
#endif

DEFINE_FINISH(1)
DEFINE_FINISH(VW)

/* ---- words: what is packed, one for each step of the inner loop ---- */

#if BF16_DOT

#include "bf16_dot.clh"

#define K_STEP 2 /* elements of k in a word */
typedef uint word;
typedef uint16 words;

/* Words of step k from `line` on; the two elements lie in neighbouring rows of x. */
static inline words words_across(__global const element *x, long ld, long k, long line)
{
    __global const element *even = x + 2 * k * ld + line;
    return bf16_pair(VLOAD(VW, even), VLOAD(VW, even + ld));
}

/* Words of VW steps from k on, of one line. */
static inline words words_along(__global const element *line, long k)
{
    return VLOAD(VW, (__global const uint *)(line + 2 * k));
}

/* One word; what lies past `depth` elements counts as 0. */
static inline word one_word(__global const element *x, long stride, long k, long depth)
{
    const uint odd = 2 * k + 1 < depth ? x[(2 * k + 1) * stride] : 0;
    return x[2 * k * stride] | odd << 16;
}

#define MULTIPLY_ADD(a, b, sum) bf16_dot((words)(a), b, sum)

static inline void transpose_words(words *r)
{
    float16 x[VW];
    UNROLL for (int i = 0; i < VW; i++) x[i] = as_float16(r[i]);
    transpose_float16(x);
    UNROLL for (int i = 0; i < VW; i++) r[i] = as_uint16(x[i]);
}

#else

#define K_STEP 1
typedef real word;
typedef vec words;

static inline words words_across(__global const element *x, long ld, long k, long line)
{
    return LOADV(DTYPE, VW, x + k * ld + line);
}

static inline words words_along(__global const element *line, long k)
{
    return LOADV(DTYPE, VW, line + k);
}

static inline word one_word(__global const element *x, long stride, long k, long depth)
{
    return LOAD(DTYPE, x + k * stride);
}

#define MULTIPLY_ADD(a, b, sum) fma((vec)(a), b, sum)
#define transpose_words PASTE(transpose_, VECTOR(REAL(DTYPE), VW))

#endif

/* ---- packing: lines are rows of op(A) or columns of op(B) ---- */

/* `lines` lines from x on, `depth` elements of k, into tiles of `width` lines. */
struct block {
    __global const element *x;
    long ld, lines, depth;
    long steps, whole_steps; /* words of a line; of these, without padding */
    long tile_words;
};

/* Neighbouring lines are neighbours in memory. Goes over all tiles with a few rows of memory at a
 * time: those of a whole block lie in too many pages. */
static inline __attribute__((always_inline)) void pack_across(PACKED word *packed,
                                                              const struct block *b,
                                                              const int width)
{
    for (long first = 0; first < b->steps; first += 16) {
        const long end = min(first + 16, b->steps);
        PACKED word *tile = packed;
        for (long line = 0; line < b->lines; line += width, tile += b->tile_words) {
            long k = first;
            if (line + CHUNKS(width) * VW <= b->lines)
                for (; k < min(end, b->whole_steps); k++)
                    UNROLL for (int c = 0; c < CHUNKS(width); c++)
                        VSTORE(VW, words_across(b->x, b->ld, k, line + c * VW),
                               tile + k * width + c * VW);
            for (; k < end; k++)
                for (int i = 0; i < width; i++)
                    tile[k * width + i] =
                        line + i < b->lines ? one_word(b->x + line + i, b->ld, k, b->depth) : 0;
        }
    }
}

/* VW steps of a tile from k on. The last vector of a step may reach into the next one, whose first
 * lines are stored after it. */
static inline __attribute__((always_inline)) void pack_steps(PACKED word *tile,
                                                             const struct block *b, long line,
                                                             long k, const int width)
{
    UNROLL for (int c = CHUNKS(width) - 1; c >= 0; c--)
    {
        words r[VW];
        UNROLL for (int i = 0; i < VW; i++)
            r[i] = words_along(
                b->x + min(line + min(c * VW + i, width - 1), b->lines - 1) * b->ld, k);
        transpose_words(r);
        UNROLL for (int i = 0; i < VW; i++) VSTORE(VW, r[i], tile + (k + i) * width + c * VW);
    }
}

/* The elements of one line are neighbours in memory. Lines past the last one repeat it: what they
 * give is never stored. */
static inline __attribute__((always_inline)) void pack_along(PACKED word *packed,
                                                             const struct block *b,
                                                             const int width)
{
    PACKED word *tile = packed;
    for (long line = 0; line < b->lines; line += width, tile += b->tile_words) {
        long k = 0;
        for (; k + VW <= b->whole_steps; k += VW)
            pack_steps(tile, b, line, k, width);
        for (; k < b->steps; k++)
            for (int i = 0; i < width; i++)
                tile[k * width + i] =
                    one_word(b->x + min(line + i, b->lines - 1) * b->ld, 1, k, b->depth);
    }
}

static inline long tile_words(const struct gemm_params *p, long width)
{
    return (p->block_k + K_STEP - 1) / K_STEP * width + SLACK;
}

static inline struct block block(const struct gemm_params *p, __global const element *x, long ld,
                                 long lines, long depth, long width)
{
    struct block b = {x, ld, lines, depth};
    b.steps = (depth + K_STEP - 1) / K_STEP;
    b.whole_steps = depth / K_STEP;
    b.tile_words = tile_words(p, width);
    return b;
}

static inline void pack_a(PACKED word *packed, const struct gemm_params *p,
                          const struct gemm_operands *o, long row, long rows, long k, long depth)
{
#if TRANS_A
    const struct block b = block(p, o->a + k * o->lda + row, o->lda, rows, depth, MR);
    pack_across(packed, &b, MR);
#else
    const struct block b = block(p, o->a + row * o->lda + k, o->lda, rows, depth, MR);
    pack_along(packed, &b, MR);
#endif
}

static inline void pack_b(PACKED word *packed, const struct gemm_params *p,
                          const struct gemm_operands *o, long column, long columns, long k,
                          long depth)
{
#if TRANS_B
    const struct block b = block(p, o->b + column * o->ldb + k, o->ldb, columns, depth, NR);
    pack_along(packed, &b, NR);
#else
    const struct block b = block(p, o->b + k * o->ldb + column, o->ldb, columns, depth, NR);
    pack_across(packed, &b, NR);
#endif
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
    return packed_a_at(p, p->batch, 0, 0) +
           ((batch * blocks + block) * panels + panel) * tile_words(p, NR);
}

/* Work-groups: blocks of A, then of B; blocks of k; batch. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void pack(GEMM_PARAMETERS,
                                                                  __global word *restrict packed)
{
    const long blocks_a = (p.m + TILES_M * MR - 1) / (TILES_M * MR);
    const long row = get_group_id(0) * (TILES_M * MR);
    const long column = (get_group_id(0) - blocks_a) * (TILES_N * NR);
    const long block = get_group_id(1), k = block * p.block_k;
    for (long batch = get_group_id(2); batch < p.batch; batch += get_num_groups(2)) {
        GEMM_OPERANDS(o, batch);
        const long depth = min(p.block_k, o.k - k);
        if (depth <= 0)
            continue;
        if (get_group_id(0) < blocks_a)
            pack_a(packed + packed_a_at(&p, batch, block, row / MR), &p, &o, row,
                   min((long)TILES_M * MR, p.m - row), k, depth);
        else
            pack_b(packed + packed_b_at(&p, batch, block, column / NR), &p, &o, column,
                   min((long)TILES_N * NR, p.n - column), k, depth);
    }
}

#define PACKED_PARAMETER , __global const word *restrict packed
#else
#define PACKED_PARAMETER
#endif

/* ---- multiplying ---- */

/* Asks for what is wanted a tile later: the caches beyond the second are too slow to wait for. */
static inline void fetch(const PACKED word *x, long words)
{
    for (long i = 0; i < words; i += CACHE_LINE / sizeof(word))
        PREFETCH(x + i);
}

/* sum += one word of each of the tile's rows times one of each of the panel's columns. */
static inline void multiply_step(vec sum[MR][NV], const PACKED word *a, const PACKED word *b)
{
    words x[NV];
    UNROLL for (int v = 0; v < NV; v++) x[v] = VLOAD(VW, b + v * VW);
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++) sum[i][v] = MULTIPLY_ADD(a[i], x[v], sum[i][v]);
}

static inline void multiply(vec sum[MR][NV], const PACKED word *a, const PACKED word *b, long steps)
{
    long k = 0;
    for (; k + UNROLL_K <= steps; k += UNROLL_K)
        UNROLL for (long u = 0; u < UNROLL_K; u++)
            multiply_step(sum, a + (k + u) * MR, b + (k + u) * NR);
    for (; k < steps; k++)
        multiply_step(sum, a + k * MR, b + k * NR);
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

static inline void finish_tile(const struct gemm_operands *o, const vec sum[MR][NV], long row,
                               long rows, long column, long columns)
{
    if (rows >= MR && columns >= NR) {
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int v = 0; v < NV; v++)
            FINISH(VW)(o, sum[i][v], row + i, column + v * VW);
        return;
    }
    real tile[MR * NR] __attribute__((aligned(64)));
    store_tile(tile, sum);
    for (long i = 0; i < min((long)MR, rows); i++) {
        long j = 0;
        for (; j + VW <= min((long)NR, columns); j += VW)
            FINISH(VW)(o, VLOAD(VW, tile + i * NR + j), row + i, column + j);
        for (; j < min((long)NR, columns); j++)
            FINISH(1)(o, tile[i * NR + j], row + i, column + j);
    }
}

/* Work-groups: blocks of columns, of rows; batch. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(GEMM_PARAMETERS PACKED_PARAMETER)
{
#if !SHARED
    word packed_a[TILES_M * (KC / K_STEP * MR + SLACK)] __attribute__((aligned(64)));
    word packed_b[KC / K_STEP * NR + SLACK] __attribute__((aligned(64)));
#endif
    real partial[TILES_M * TILES_N][MR * NR] __attribute__((aligned(64)));

    const long column0 = get_group_id(0) * p.block_n, columns = min(p.block_n, p.n - column0);
    const long row0 = get_group_id(1) * p.block_m, rows = min(p.block_m, p.m - row0);
    for (long batch = get_group_id(2); batch < p.batch; batch += get_num_groups(2)) {
        GEMM_OPERANDS(o, batch);
        for (long k = 0; k == 0 || k < o.k; k += p.block_k) {
            const long depth = min(p.block_k, o.k - k), steps = (depth + K_STEP - 1) / K_STEP;
            const bool last = k + p.block_k >= o.k;
#if SHARED
            const PACKED word *tiles =
                packed + packed_a_at(&p, batch, k / p.block_k, row0 / MR);
#else
            const PACKED word *tiles = packed_a, *panel = packed_b;
            pack_a(packed_a, &p, &o, row0, rows, k, depth);
#endif
            for (long j = 0; j < columns; j += NR) {
#if SHARED
                const PACKED word *panel =
                    packed + packed_b_at(&p, batch, k / p.block_k, (column0 + j) / NR);
#else
                pack_b(packed_b, &p, &o, column0 + j, min((long)NR, columns - j), k, depth);
#endif
                for (long i = 0; i < rows; i += MR) {
                    vec sum[MR][NV];
                    real *tile = partial[j / NR * TILES_M + i / MR];
                    if (k > 0)
                        load_tile(sum, tile);
                    else
                        UNROLL for (int r = 0; r < MR; r++)
                        UNROLL for (int v = 0; v < NV; v++) sum[r][v] = 0;
#if SHARED
                    /* The next tile if it is read for the first time, a share of the next panel. */
                    const long share = tile_words(&p, NR) / TILES_M;
                    if (j == 0)
                        fetch(tiles + (i / MR + 1) * tile_words(&p, MR), tile_words(&p, MR));
                    fetch(panel + tile_words(&p, NR) + i / MR * share, share);
#endif
                    multiply(sum, tiles + i / MR * tile_words(&p, MR), panel, steps);
                    if (last)
                        finish_tile(&o, sum, row0 + i, rows - i, column0 + j, columns - j);
                    else
                        store_tile(tile, sum);
                }
            }
        }
    }
}
