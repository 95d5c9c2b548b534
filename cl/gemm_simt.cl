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

/* Tiles come in as they are stored, COLUMNS neighbours in a row. One work-item after the other
 * takes a chunk, row by row; the same work-item's next chunk is PASS rows below. */
#define COLUMNS_A (TRANS_A ? BM : BK)
#define COLUMNS_B (TRANS_B ? BK : BN)
#define PASS(columns) (ITEMS * CHUNK / (columns))

struct stream {
    __global const element *next; /* this work-item's first chunk of the next tile */
    long ld, step;                /* step: from tile to tile */
    int row, column;              /* of that chunk within the tile */
    bool inside;                  /* but for the end of k, tiles are whole and chunks aligned */
};

static inline struct stream open_stream(__global const element *tile, long ld, long step,
                                        int columns, bool whole, int item) {
    struct stream s;
    s.row = item / (columns / CHUNK), s.column = item % (columns / CHUNK) * CHUNK;
    s.next = tile + s.row * ld + s.column;
    s.ld = ld, s.step = step;
    s.inside = whole && (((size_t)tile | (size_t)(ld * sizeof(element))) %
                         (CHUNK * sizeof(element))) == 0;
    return s;
}

static inline chunk load_edge(__global const element *p, bool in_row, long columns) {
    real x[CHUNK];
    UNROLL for (int i = 0; i < CHUNK; i++)
        x[i] = in_row && i < columns ? LOAD(DTYPE, p + i) : (real)0;
    return VLOAD(CHUNK, x);
}

/* Takes the next tile, of which rows x columns are left. */
static inline void load_tile(chunk *chunks, int count, struct stream *s, int pass, long rows,
                             long columns, bool whole) {
    if (whole)
        UNROLL for (int i = 0; i < count; i++)
            chunks[i] = LOADV_ALIGNED(DTYPE, CHUNK, s->next + i * pass * s->ld);
    else
        UNROLL for (int i = 0; i < count; i++)
            chunks[i] = load_edge(s->next + i * pass * s->ld, s->row + i * pass < rows,
                                  columns - s->column);
    s->next += s->step;
}

/* Stored rows become rows of the local tile, or its columns when `turn`. */
static inline void store_tile(__local real *tile, int ld, const chunk *chunks, int count,
                              const struct stream *s, int pass, bool turn) {
    UNROLL for (int i = 0; i < count; i++) {
        int row = s->row + i * pass;
        real x[CHUNK];
        VSTORE(CHUNK, chunks[i], x);
        if (turn)
            UNROLL for (int j = 0; j < CHUNK; j++) tile[(s->column + j) * ld + row] = x[j];
        else
            *(__local chunk *)(tile + row * ld + s->column) = chunks[i];
    }
}

static inline struct stream open_a(const struct gemm_operands *o, long row, int item) {
    return open_stream(o->a + row * (TRANS_A ? 1 : o->lda), o->lda, TRANS_A ? BK * o->lda : BK,
                       COLUMNS_A, o->m - row >= BM, item);
}

static inline struct stream open_b(const struct gemm_operands *o, long column, int item) {
    return open_stream(o->b + column * (TRANS_B ? o->ldb : 1), o->ldb, TRANS_B ? BK : BK * o->ldb,
                       COLUMNS_B, o->n - column >= BN, item);
}

/* m and n count what is left of C from this tile on, k what is left of the product. */
static inline void load_a(chunk *chunks, struct stream *s, long m, long k) {
    load_tile(chunks, CHUNKS_A, s, PASS(COLUMNS_A), TRANS_A ? k : m, TRANS_A ? m : k,
              s->inside && k >= BK);
}

static inline void load_b(chunk *chunks, struct stream *s, long n, long k) {
    load_tile(chunks, CHUNKS_B, s, PASS(COLUMNS_B), TRANS_B ? n : k, TRANS_B ? k : n,
              s->inside && k >= BK);
}

static inline void store_a(__local real *tile, const chunk *chunks, const struct stream *s) {
    store_tile(tile, LD_A, chunks, CHUNKS_A, s, PASS(COLUMNS_A), !TRANS_A);
}

static inline void store_b(__local real *tile, const chunk *chunks, const struct stream *s) {
    store_tile(tile, LD_B, chunks, CHUNKS_B, s, PASS(COLUMNS_B), TRANS_B);
}

/* ---- the product ---- */

/* Row i of a work-item's TM rows within the tile, and column j of its TN. */
#define ROW(item_m, i) (((i) / FM * ITEMS_M + (item_m)) * FM + (i) % FM)
#define COLUMN(item_n, j) (((j) / FN * ITEMS_N + (item_n)) * FN + (j) % FN)

static inline void multiply_tiles(fragment_b (*sum)[TN / FN], __local const real *tile_a,
                                  __local const real *tile_b, int item_m, int item_n) {
    UNROLL for (int k = 0; k < BK; k++) {
        real a[TM];
        fragment_b b[TN / FN];
        UNROLL for (int i = 0; i < TM; i += FM)
            VSTORE(FM, *(__local const fragment_a *)(tile_a + k * LD_A + ROW(item_m, i)), a + i);
        UNROLL for (int j = 0; j < TN; j += FN)
            b[j / FN] = *(__local const fragment_b *)(tile_b + k * LD_B + COLUMN(item_n, j));
        UNROLL for (int i = 0; i < TM; i++)
        UNROLL for (int j = 0; j < TN / FN; j++)
            sum[i][j] = fma((fragment_b)a[i], b[j], sum[i][j]);
    }
}

static inline void finish_tile(const struct gemm_operands *o, fragment_b (*sum)[TN / FN], long row0,
                               long column0, int item_m, int item_n) {
    UNROLL for (int i = 0; i < TM; i++) {
        long row = row0 + ROW(item_m, i);
        real x[TN];
        UNROLL for (int j = 0; j < TN / FN; j++) VSTORE(FN, sum[i][j], x + j * FN);
        UNROLL for (int j = 0; j < TN; j++) {
            long column = column0 + COLUMN(item_n, j);
            if (row < o->m && column < o->n)
                FINISH(1)(o, x[j], row, column);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(GEMM_PARAMETERS) {
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

        struct stream a_tiles = open_a(&o, row, item), b_tiles = open_b(&o, column, item);
        if (o.k > 0) {
            load_a(next_a, &a_tiles, o.m - row, o.k);
            load_b(next_b, &b_tiles, o.n - column, o.k);
            store_a(tile_a[0], next_a, &a_tiles);
            store_b(tile_b[0], next_b, &b_tiles);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        int now = 0;
        for (long left = o.k; left > 0; left -= BK) {
            bool more = left > BK;
            if (more) {
                load_a(next_a, &a_tiles, o.m - row, left - BK);
                load_b(next_b, &b_tiles, o.n - column, left - BK);
            }
            multiply_tiles(sum, tile_a[now], tile_b[now], item_m, item_n);
            if (more) {
                store_a(tile_a[1 - now], next_a, &a_tiles);
                store_b(tile_b[1 - now], next_b, &b_tiles);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            now = 1 - now;
        }
        finish_tile(&o, sum, row, column, item_m, item_n);
    }
}
