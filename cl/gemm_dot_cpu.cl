/*
 * GEMM for CPU devices where op(A) has a few rows and the columns of op(B) lie along k in memory:
 * dot products, with lanes along k. B is read once, in place, at the speed of memory.
 *
 *      k ->                    k ->
 *     +-----------------+     +-----------------+
 *  MR | op(A), in cache |  NB | lines of B      |    NB streams through memory; what a work-group
 *     +-----------------+     +-----------------+    has read of them meets all rows of op(A)
 *
 * MR x NB vectors of sums live in registers for KC steps along k, between row tiles in private
 * memory; at the end of k the lanes of each are added up. Of the last tile and the last lines,
 * which overlap their neighbours, what is computed twice is dropped.
 *
 * Rows of op(A) that do not lie along k, or whose elements are to be widened, are packed into the
 * workspace first (kernel `pack`). Splitting k is told in gemm_reduce.clh.
 *
 * Contract (tunables): VW lanes of a vector, MR rows and NB lines of the register tile, KC depth of
 * a block in elements, SPLIT_K work-groups that share k. SWAP is the host's doing here. Variant:
 * gemm.clh with TRANS_B = 1, gemm_cpu_words.clh, and
 *   MAX_ROWS   the most rows op(A) may have, a multiple of MR
 *   PACK_A     1: rows of op(A) are packed
 */
#if !defined(VW) || !defined(MR) || !defined(NB) || !defined(KC) || !defined(SPLIT_K) ||           \
    !defined(MAX_ROWS) || !defined(PACK_A) || !defined(BF16_DOT)
#error "gemm_dot_cpu.cl: VW, MR, NB, KC, SPLIT_K, MAX_ROWS, PACK_A and BF16_DOT must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#if BF16_DOT
#include "bf16_dot.clh"
#endif
#include "gemm_cpu_words.clh"

DEFINE_FINISHES(VW)

#define SHARED PACK_A
#include "gemm_reduce.clh"

/* ---- rows of op(A) ---- */

/* Words of VW steps from k on; past `depth` elements they are 0. */
static inline words tail_along(__global const element *line, long k, long depth)
{
    word tail[VW];
    for (int i = 0; i < VW; i++)
        tail[i] = (k + i) * K_STEP < depth ? one_word(line, 1, k + i, depth) : 0;
    return VLOAD(VW, tail);
}

#if PACK_A

typedef __global const word *row_pointer;
#define ROW_WORDS(row, k) VLOAD(VW, (row) + (k))
#define ROW_TAIL(row, k, depth) ROW_WORDS(row, k)

/* Words of a packed row: whole vectors, filled up with zeros. */
static inline long row_words(const struct gemm_params *p)
{
    return (words_of(p->k) + VW - 1) / VW * VW;
}

/* Work-groups: stretches of k; rows; batch. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void pack(GEMM_PARAMETERS,
                                                                  __global word *restrict workspace)
{
    const long first = get_group_id(0) * (p.block_k / K_STEP), row = get_group_id(1);
    const long end = min(first + p.block_k / K_STEP, row_words(&p));
    for (long batch = get_group_id(2); batch < p.batch; batch += get_num_groups(2)) {
        GEMM_OPERANDS(o, batch);
        __global const element *x = o.a + (TRANS_A ? row : row * o.lda);
        __global word *packed = workspace + (batch * o.m + row) * row_words(&p);
        for (long k = first; k < end; k++)
            packed[k] = k * K_STEP < o.k ? one_word(x, TRANS_A ? o.lda : 1, k, o.k) : 0;
    }
}

#else

typedef __global const element *row_pointer;
#define ROW_WORDS(row, k) words_along(row, k)
#define ROW_TAIL(row, k, depth) tail_along(row, k, depth)

#endif

/* ---- multiplying ---- */

/* sum += MR rows from `a` on times NB lines from `b` on, steps first .. end - 1 of them, which
 * begin with whole vectors. Asks for the same of the next block, every `tiles`th line from line
 * `tile` on: what one row tile reads from memory, the others of a block find in the cache, and
 * memory should not rest meanwhile. With more tiles than lines it may. */
ALWAYS_INLINE void multiply(vec sum[MR][NB], row_pointer a, long lda, __global const element *b,
                            long ldb, long first, long end, long depth, long tile, long tiles)
{
    const long whole = min(end, depth / K_STEP);
    long k = first;
    for (; k + VW <= whole; k += VW) {
        words x[NB];
        for (long j = tiles > NB ? NB : tile; j < NB; j += tiles)
            PREFETCH(b + j * ldb + k * K_STEP + KC);
        UNROLL for (int j = 0; j < NB; j++) x[j] = words_along(b + j * ldb, k);
        UNROLL for (int i = 0; i < MR; i++)
        {
            const words y = ROW_WORDS(a + i * lda, k);
            UNROLL for (int j = 0; j < NB; j++) sum[i][j] = MULTIPLY_ADD(y, x[j], sum[i][j]);
        }
    }
    if (k < end)
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int j = 0; j < NB; j++)
            sum[i][j] = MULTIPLY_ADD(ROW_TAIL(a + i * lda, k, depth),
                                     tail_along(b + j * ldb, k, depth), sum[i][j]);
}

static inline real sum_of_lanes(vec x)
{
    real lanes[VW];
    VSTORE(VW, x, lanes);
    for (int step = VW / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            lanes[i] += lanes[i + step];
    return lanes[0];
}

/* All rows of op(A) times lines line .. line + NB - 1 of B, steps first .. end - 1. */
static inline void dot_products(real products[MAX_ROWS][NB], const struct gemm_operands *o,
                                row_pointer a, long lda, long line, long first, long end)
{
    vec partial[MAX_ROWS / MR][MR][NB];
    __global const element *b = o->b + line * o->ldb;
    const long tiles = (o->m + MR - 1) / MR;
    for (long k = first; k == first || k < end; k += KC / K_STEP)
        for (long tile = 0; tile < tiles; tile++) {
            const long row = min(tile * MR, o->m - MR), block_end = min(k + KC / K_STEP, end);
            vec sum[MR][NB];
            UNROLL for (int i = 0; i < MR; i++)
            UNROLL for (int j = 0; j < NB; j++)
                sum[i][j] = k > first ? partial[tile][i][j] : (vec)0;
            multiply(sum, a + row * lda, lda, b, o->ldb, k, block_end, o->k, tile, tiles);
            if (block_end < end)
                UNROLL for (int i = 0; i < MR; i++)
                UNROLL for (int j = 0; j < NB; j++) partial[tile][i][j] = sum[i][j];
            else
                UNROLL for (int i = 0; i < MR; i++)
                UNROLL for (int j = 0; j < NB; j++) products[row + i][j] = sum_of_lanes(sum[i][j]);
        }
}

/* Work-groups: blocks of lines of B; 1; batch, and within it slices of k. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(GEMM_PARAMETERS
                                                                      WORKSPACE_PARAMETER)
{
    real rows[MAX_ROWS][VW];
    const long column0 = get_group_id(0) * p.block_n;
    for (long item = get_group_id(2); item < p.batch * SPLIT_K; item += get_num_groups(2)) {
        const long batch = item / SPLIT_K, slice = item % SPLIT_K;
        GEMM_OPERANDS(o, batch);
        o.sums = SLICE_SUMS(&o, batch, slice);
#if PACK_A
        row_pointer a = workspace + batch * o.m * row_words(&p);
        const long lda = row_words(&p);
#else
        row_pointer a = o.a;
        const long lda = o.lda;
#endif
        const long steps = words_of(o.k), first = min(slice * p.slice_k / K_STEP, steps);
        const long end = SPLIT_K > 1 ? min(first + p.slice_k / K_STEP, steps) : steps;
        const long column_end = min(column0 + p.block_n, o.n);
        for (long j = column0; j < column_end; j += VW) {
            for (long l = j; l < min(j + VW, column_end); l += NB) {
                real products[MAX_ROWS][NB];
                const long line = min(l, o.n - NB);
                dot_products(products, &o, a, lda, line, first, end);
                for (long i = 0; i < o.m; i++)
                    for (long c = l - line; c < NB; c++)
                        rows[i][line + c - j] = products[i][c];
            }
            for (long i = 0; i < o.m; i++)
                if (j + VW <= column_end)
                    RESULT(VW, &o, VLOAD(VW, rows[i]), i, j);
                else
                    for (long c = j; c < column_end; c++)
                        RESULT(1, &o, rows[i][c - j], i, c);
        }
    }
}
