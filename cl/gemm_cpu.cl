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
 *    MR | pack |      MR | tile |      |      |         block of A: as stored, that is [row][KC],
 *       +------+         +------+------+------+                or [k][MC] when stored k x m
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

#if TRANS_A
#define PACKED_A_LD MC
#define PACKED_A(a, row, k) ((a)[(k) * MC + (row)])
#else
#define PACKED_A_LD KC
#define PACKED_A(a, row, k) ((a)[(row) * KC + (k)])
#endif

typedef VECTOR(REAL(DTYPE), VW) vec;

DEFINE_FINISH(1)
DEFINE_FINISH(VW)

/* Copies rows x columns of a matrix and fills up with zeros to padded_rows x padded_columns. */
static inline void pack_rows(real *packed, long packed_ld, __global const element *matrix, long ld,
                             long rows, long columns, long padded_rows, long padded_columns) {
    for (long i = 0; i < padded_rows; i++) {
        long j = 0;
        if (i < rows) {
            for (; j + VW <= columns; j += VW)
                VSTORE(VW, LOADV(DTYPE, VW, matrix + i * ld + j), packed + i * packed_ld + j);
            for (; j < columns; j++)
                packed[i * packed_ld + j] = LOAD(DTYPE, matrix + i * ld + j);
        }
        for (; j < padded_columns; j++)
            packed[i * packed_ld + j] = 0;
    }
}

#if TRANS_B
/* A panel from B stored n x k, VW x VW elements at a time. Rows past the edge repeat the last one:
 * what they give is never stored. */
static inline void pack_panel_transposed(real *panel, __global const element *matrix, long ld,
                                         long columns, long depth) {
    for (long v = 0; v < NV; v++) {
        __global const element *row[VW];
        UNROLL for (int i = 0; i < VW; i++) row[i] = matrix + min(v * VW + i, columns - 1) * ld;
        long k = 0;
        for (; k + VW <= depth; k += VW) {
            vec r[VW];
            UNROLL for (int i = 0; i < VW; i++) r[i] = LOADV(DTYPE, VW, row[i] + k);
            PASTE(transpose_, VECTOR(REAL(DTYPE), VW))(r);
            UNROLL for (int i = 0; i < VW; i++) VSTORE(VW, r[i], panel + (k + i) * NR + v * VW);
        }
        for (; k < depth; k++)
            for (int i = 0; i < VW; i++)
                panel[k * NR + v * VW + i] = LOAD(DTYPE, row[i] + k);
    }
}
#endif

static inline void pack_a(real *packed, const struct gemm_operands *o, long row, long rows, long k,
                          long depth) {
    long padded = (rows + MR - 1) / MR * MR;
#if TRANS_A
    pack_rows(packed, PACKED_A_LD, o->a + k * o->lda + row, o->lda, depth, rows, depth, padded);
#else
    pack_rows(packed, PACKED_A_LD, o->a + row * o->lda + k, o->lda, rows, depth, padded, depth);
#endif
}

static inline void pack_b(real *panel, const struct gemm_operands *o, long column, long columns,
                          long k, long depth) {
#if TRANS_B
    pack_panel_transposed(panel, o->b + column * o->ldb + k, o->ldb, columns, depth);
#else
    pack_rows(panel, NR, o->b + k * o->ldb + column, o->ldb, depth, columns, depth, NR);
#endif
}

/* tile = MR x depth times depth x NR, added to what the tile holds when `resume`. */
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
            sum[i][v] = fma((vec)PACKED_A(a, i, k), b[v], sum[i][v]);
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
                    multiply_tile(tile, &PACKED_A(packed_a, i, 0), panel, depth, k > 0);
                    if (k + KC >= o.k)
                        finish_tile(&o, tile, row0 + i, min((long)MR, rows - i), column0 + j,
                                    min((long)NR, columns - j));
                }
            }
        }
    }
}
