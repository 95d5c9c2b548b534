/*
 * GEMM for any GPU: tiles in local memory, register blocking, no extension needed.
 *
 * A work-group owns BM x BN elements of C and walks k in steps of BK. Both tiles of a step lie in
 * local memory with k as the slow index, whatever the transposes, so that the inner loop reads
 * fragments of neighbours. There are two of each: while one is multiplied, the next is on its way
 * through registers, and one barrier per step is enough.
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
 * Contract (tunables): BM, BN, BK the tile, TM, TN elements per work-item, PAD fragments of four
 * added to each row of a local tile against bank conflicts, GROUP rows of tiles walked together so
 * that neighbours share B in the cache. See gemm.clh for the variant. The host sees to it that TM
 * divides BM, TN divides BN, and the work-group divides both tiles into chunks of four.
 */
#if !defined(BM) || !defined(BN) || !defined(BK) || !defined(TM) || !defined(TN) ||                \
    !defined(PAD) || !defined(GROUP)
#error "gemm_simt.cl: BM, BN, BK, TM, TN, PAD and GROUP must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"

#define CHUNK 4
#define ITEMS_M (BM / TM)
#define ITEMS_N (BN / TN)
#define ITEMS (ITEMS_M * ITEMS_N)
#define LD_A (BM + PAD * CHUNK)
#define LD_B (BN + PAD * CHUNK)
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

/* ---- global memory -> registers -> local memory ---- */

/* A tile as it is stored: rows x COLUMNS, neighbours in a row. */
struct source {
    __global const element *matrix; /* the tile's first element */
    long ld, rows, columns;         /* what is left of the matrix from there */
    bool whole;                     /* no edge in this tile, and chunks are aligned */
};

static inline bool is_aligned(__global const element *matrix, long ld)
{
    return (((size_t)matrix | (size_t)(ld * sizeof(element))) % (CHUNK * sizeof(element))) == 0;
}

static inline chunk load_chunk(const struct source *from, long row, long column)
{
    __global const element *p = from->matrix + row * from->ld + column;
    if (from->whole)
        return LOADV_ALIGNED(DTYPE, CHUNK, p);
    real x[CHUNK];
    UNROLL for (int i = 0; i < CHUNK; i++)
        x[i] = row < from->rows && column + i < from->columns ? LOAD(DTYPE, p + i) : (real)0;
    return VLOAD(CHUNK, x);
}

static inline void load_tile(chunk *chunks, int count, const struct source *from, int columns,
                             int item)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        int index = item + i * ITEMS;
        chunks[i] = load_chunk(from, index / (columns / CHUNK), index % (columns / CHUNK) * CHUNK);
    }
}

/* Stored rows become rows of the local tile, or its columns when `turn`. */
static inline void store_tile(__local real *tile, int ld, const chunk *chunks, int count,
                              int columns, bool turn, int item)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        int index = item + i * ITEMS;
        int row = index / (columns / CHUNK), column = index % (columns / CHUNK) * CHUNK;
        real x[CHUNK];
        VSTORE(CHUNK, chunks[i], x);
        if (turn)
            UNROLL for (int j = 0; j < CHUNK; j++) tile[(column + j) * ld + row] = x[j];
        else
            *(__local chunk *)(tile + row * ld + column) = chunks[i];
    }
}

static inline void load_a(chunk *chunks, const struct gemm_operands *o, long row, long k, int item)
{
    struct source from;
    from.ld = o->lda;
#if TRANS_A
    from.matrix = o->a + k * o->lda + row, from.rows = o->k - k, from.columns = o->m - row;
    from.whole = from.rows >= BK && from.columns >= BM && is_aligned(from.matrix, from.ld);
    load_tile(chunks, CHUNKS_A, &from, BM, item);
#else
    from.matrix = o->a + row * o->lda + k, from.rows = o->m - row, from.columns = o->k - k;
    from.whole = from.rows >= BM && from.columns >= BK && is_aligned(from.matrix, from.ld);
    load_tile(chunks, CHUNKS_A, &from, BK, item);
#endif
}

static inline void load_b(chunk *chunks, const struct gemm_operands *o, long column, long k,
                          int item)
{
    struct source from;
    from.ld = o->ldb;
#if TRANS_B
    from.matrix = o->b + column * o->ldb + k, from.rows = o->n - column, from.columns = o->k - k;
    from.whole = from.rows >= BN && from.columns >= BK && is_aligned(from.matrix, from.ld);
    load_tile(chunks, CHUNKS_B, &from, BK, item);
#else
    from.matrix = o->b + k * o->ldb + column, from.rows = o->k - k, from.columns = o->n - column;
    from.whole = from.rows >= BK && from.columns >= BN && is_aligned(from.matrix, from.ld);
    load_tile(chunks, CHUNKS_B, &from, BN, item);
#endif
}

#if TRANS_A
#define STORE_A(tile, chunks, item) store_tile(tile, LD_A, chunks, CHUNKS_A, BM, false, item)
#else
#define STORE_A(tile, chunks, item) store_tile(tile, LD_A, chunks, CHUNKS_A, BK, true, item)
#endif
#if TRANS_B
#define STORE_B(tile, chunks, item) store_tile(tile, LD_B, chunks, CHUNKS_B, BK, true, item)
#else
#define STORE_B(tile, chunks, item) store_tile(tile, LD_B, chunks, CHUNKS_B, BN, false, item)
#endif

/* ---- the product ---- */

/* Row i of a work-item's TM rows within the tile, and column j of its TN. */
#define ROW(item_m, i) (((i) / FM * ITEMS_M + (item_m)) * FM + (i) % FM)
#define COLUMN(item_n, j) (((j) / FN * ITEMS_N + (item_n)) * FN + (j) % FN)

static inline void multiply_tiles(fragment_b (*sum)[TN / FN], __local const real *tile_a,
                                  __local const real *tile_b, int item_m, int item_n)
{
    UNROLL for (int k = 0; k < BK; k++)
    {
        real a[TM];
        fragment_b b[TN / FN];
        UNROLL for (int i = 0; i < TM; i += FM) VSTORE(
            FM, *(__local const fragment_a *)(tile_a + k * LD_A + ROW(item_m, i)), a + i);
        UNROLL for (int j = 0; j < TN; j += FN)
            b[j / FN] = *(__local const fragment_b *)(tile_b + k * LD_B + COLUMN(item_n, j));
        UNROLL for (int i = 0; i < TM; i++)
        UNROLL for (int j = 0; j < TN / FN; j++)
            sum[i][j] = fma((fragment_b)a[i], b[j], sum[i][j]);
    }
}

static inline void finish_tile(const struct gemm_operands *o, fragment_b (*sum)[TN / FN], long row0,
                               long column0, int item_m, int item_n)
{
    UNROLL for (int i = 0; i < TM; i++)
    {
        long row = row0 + ROW(item_m, i);
        real x[TN];
        UNROLL for (int j = 0; j < TN / FN; j++) VSTORE(FN, sum[i][j], x + j * FN);
        UNROLL for (int j = 0; j < TN; j++)
        {
            long column = column0 + COLUMN(item_n, j);
            if (row < o->m && column < o->n)
                FINISH(1)(o, x[j], row, column);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(GEMM_PARAMETERS)
{
    __local real tile_a[2][BK * LD_A] __attribute__((aligned(128)));
    __local real tile_b[2][BK * LD_B] __attribute__((aligned(128)));

    int item = get_local_id(0);
#if ITEMS_N % 8 == 0 && ITEMS_M % 4 == 0
    int item_m = item / 8 % 4 + item / (4 * ITEMS_N) * 4;
    int item_n = item % 8 + item / 32 % (ITEMS_N / 8) * 8;
#else
    int item_m = item / ITEMS_N, item_n = item % ITEMS_N;
#endif

    /* Tiles run down GROUP rows before they step to the next column. */
    long tiles_m = (p.m + BM - 1) / BM, tiles_n = (p.n + BN - 1) / BN;
    long band = get_group_id(0) / (GROUP * tiles_n), within = get_group_id(0) % (GROUP * tiles_n);
    long band_rows = min((long)GROUP, tiles_m - band * GROUP);
    long row = (band * GROUP + within % band_rows) * BM, column = within / band_rows * BN;

    for (long batch = get_group_id(1); batch < p.batch; batch += get_num_groups(1)) {
        GEMM_OPERANDS(o, batch);
        chunk next_a[CHUNKS_A], next_b[CHUNKS_B];
        fragment_b sum[TM][TN / FN];
        UNROLL for (int i = 0; i < TM; i++)
        UNROLL for (int j = 0; j < TN / FN; j++) sum[i][j] = (fragment_b)0;

        if (o.k > 0) {
            load_a(next_a, &o, row, 0, item);
            load_b(next_b, &o, column, 0, item);
            STORE_A(tile_a[0], next_a, item);
            STORE_B(tile_b[0], next_b, item);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        int now = 0;
        for (long k = 0; k < o.k; k += BK) {
            bool more = k + BK < o.k;
            if (more) {
                load_a(next_a, &o, row, k + BK, item);
                load_b(next_b, &o, column, k + BK, item);
            }
            multiply_tiles(sum, tile_a[now], tile_b[now], item_m, item_n);
            if (more) {
                STORE_A(tile_a[1 - now], next_a, item);
                STORE_B(tile_b[1 - now], next_b, item);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            now = 1 - now;
        }
        finish_tile(&o, sum, row, column, item_m, item_n);
    }
}
