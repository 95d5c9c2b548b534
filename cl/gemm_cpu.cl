/*
 * GEMM for CPU devices: one work-item per work-group, which is one core, with explicit vectors.
 *
 * A work-group owns block_m x block_n elements of C (at most MC x NC) and walks k in blocks of KC.
 * Both operands are packed into private memory, which widens f16 and bf16 once, pads the edges with
 * zeros and makes every address in the inner loop a constant offset:
 *
 *                         NR = NV * VW
 *                        +------+------+------+
 *        op(B)      KC   | panel packed at a  |         panel: [k][NR], transposed in registers
 *                        | time |      |      |                when B is stored n x k
 *                        +------+------+------+
 *          KC
 *       +------+         +------+------+------+
 *    MR | pack |      MR | tile |      |      |         block of A: [row][KC], transposed likewise
 *       +------+         +------+------+------+                when A is stored k x m
 *       |      |         |      |      |      |
 *       +------+         +------+------+------+         partial sums: [panel][tile][MR][NR]
 *        op(A)     up to MC x NC of C
 *
 * A tile lives in MR * NV vector registers for a whole KC block; between blocks it rests in private
 * memory, unrounded, so that the epilogue happens once and C is written once.
 *
 * Contract (tunables): VW lanes of a vector, MR rows and NV vectors of the register tile, KC, MC,
 * NC as above. See gemm.clh for the variant.
 */
#if !defined(VW) || !defined(MR) || !defined(NV) || !defined(KC) || !defined(MC) || !defined(NC)
#error "gemm_cpu.cl: VW, MR, NV, KC, MC and NC must be defined"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"

#define NR (NV * VW)
#define TILES_M (MC / MR)
#define TILES_N (NC / NR)

typedef VECTOR(REAL(DTYPE), VW) vec;

DEFINE_FINISH(1)
DEFINE_FINISH(VW)

/* Copies rows x columns of a matrix, and fills up with zeros to padded_rows x padded_columns. NR
 * elements are loaded before the first is stored: a load that follows a store at the same distance
 * from a page's start waits for it. */
static inline void pack_rows(real *packed, long packed_ld, __global const element *matrix, long ld,
                             long rows, long columns, long padded_rows, long padded_columns) {
    for (long i = 0; i < padded_rows; i++) {
        long j = 0;
        if (i < rows) {
            for (; j + NR <= columns; j += NR) {
                vec x[NV];
                UNROLL for (int v = 0; v < NV; v++)
                    x[v] = LOADV(DTYPE, VW, matrix + i * ld + j + v * VW);
                UNROLL for (int v = 0; v < NV; v++)
                    VSTORE(VW, x[v], packed + i * packed_ld + j + v * VW);
            }
            for (; j + VW <= columns; j += VW)
                VSTORE(VW, LOADV(DTYPE, VW, matrix + i * ld + j), packed + i * packed_ld + j);
            for (; j < columns; j++)
                packed[i * packed_ld + j] = LOAD(DTYPE, matrix + i * ld + j);
        }
        for (; j < padded_columns; j++)
            packed[i * packed_ld + j] = 0;
    }
}

#if TRANS_A || TRANS_B
/* The same for the transpose, VW x VW elements at a time: column j of the matrix becomes row j of
 * the copy. Rows past the edge, up to the next multiple of VW or padded_rows, repeat the last one:
 * what they give is never stored. */
static inline void pack_columns(real *packed, long packed_ld, __global const element *matrix,
                                long ld, long rows, long columns, long padded_rows,
                                long padded_columns) {
    for (long i = 0; i < padded_rows; i += VW) {
        __global const element *row[VW];
        UNROLL for (int v = 0; v < VW; v++) row[v] = matrix + min(i + v, rows - 1) * ld;
        long j = 0;
        for (; j + VW <= columns; j += VW) {
            vec r[VW];
            UNROLL for (int v = 0; v < VW; v++) r[v] = LOADV(DTYPE, VW, row[v] + j);
            PASTE(transpose_, VECTOR(REAL(DTYPE), VW))(r);
            UNROLL for (int v = 0; v < VW; v++) VSTORE(VW, r[v], packed + (j + v) * packed_ld + i);
        }
        for (; j < padded_columns; j++)
            for (int v = 0; v < VW; v++)
                packed[j * packed_ld + i + v] = j < columns ? LOAD(DTYPE, row[v] + j) : (real)0;
    }
}
#endif

/* KC is a multiple of VW, so that there is room for what pack_columns repeats. */
static inline void pack_a(real *packed, const struct gemm_operands *o, long row, long rows, long k,
                          long depth) {
    long padded = (rows + MR - 1) / MR * MR;
#if TRANS_A
    pack_columns(packed, KC, o->a + k * o->lda + row, o->lda, depth, rows, depth, padded);
#else
    pack_rows(packed, KC, o->a + row * o->lda + k, o->lda, rows, depth, padded, depth);
#endif
}

static inline void pack_b(real *panel, const struct gemm_operands *o, long column, long columns,
                          long k, long depth) {
#if TRANS_B
    pack_columns(panel, NR, o->b + column * o->ldb + k, o->ldb, columns, depth, NR, depth);
#else
    pack_rows(panel, NR, o->b + k * o->ldb + column, o->ldb, depth, columns, depth, NR);
#endif
}

/* tile = MR rows of packed A times a panel, added to what the tile holds when `resume`. */
static inline void multiply_tile(real *tile, const real *a, const real *panel, long depth,
                                 bool resume) {
    vec sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++)
        sum[i][v] = resume ? VLOAD(VW, tile + i * NR + v * VW) : (vec)0;
    for (long k = 0; k < depth; k++) {
        vec b[NV];
        UNROLL for (int v = 0; v < NV; v++) b[v] = VLOAD(VW, panel + k * NR + v * VW);
        UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int v = 0; v < NV; v++)
            sum[i][v] = fma((vec)a[i * KC + k], b[v], sum[i][v]);
    }
    UNROLL for (int i = 0; i < MR; i++)
    UNROLL for (int v = 0; v < NV; v++) VSTORE(VW, sum[i][v], tile + i * NR + v * VW);
}

static inline void finish_tile(const struct gemm_operands *o, const real *tile, long row, long rows,
                               long column, long columns) {
    for (long i = 0; i < rows; i++) {
        long j = 0;
        for (; j + VW <= columns; j += VW)
            FINISH(VW)(o, VLOAD(VW, tile + i * NR + j), row + i, column + j);
        for (; j < columns; j++)
            FINISH(1)(o, tile[i * NR + j], row + i, column + j);
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void gemm(GEMM_PARAMETERS) {
    real packed_a[MC * KC] __attribute__((aligned(64)));
    real panel[KC * NR] __attribute__((aligned(64)));
    real partial[TILES_M * TILES_N][MR * NR] __attribute__((aligned(64)));

    long column0 = get_group_id(0) * p.block_n, columns = min(p.block_n, p.n - column0);
    long row0 = get_group_id(1) * p.block_m, rows = min(p.block_m, p.m - row0);
    for (long batch = get_group_id(2); batch < p.batch; batch += get_num_groups(2)) {
        GEMM_OPERANDS(o, batch);
        for (long k = 0; k == 0 || k < o.k; k += KC) {
            long depth = min((long)KC, o.k - k);
            pack_a(packed_a, &o, row0, rows, k, depth);
            for (long j = 0; j < columns; j += NR) {
                pack_b(panel, &o, column0 + j, min((long)NR, columns - j), k, depth);
                for (long i = 0; i < rows; i += MR) {
                    real *tile = partial[j / NR * TILES_M + i / MR];
                    multiply_tile(tile, packed_a + i * KC, panel, depth, k > 0);
                    if (k + KC >= o.k)
                        finish_tile(&o, tile, row0 + i, min((long)MR, rows - i), column0 + j,
                                    min((long)NR, columns - j));
                }
            }
        }
    }
}
