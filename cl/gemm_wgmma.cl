/*
 * GEMM on Hopper: products of warpgroups, fed by tensor maps. hopper.clh has the vocabulary.
 *
 * Work-groups stay and walk over tiles of C, BM x BN each. Their first warpgroup brings operands,
 * a line of 128 bytes along k (or 64 lines of k) at a time, into a ring of STAGES pairs of tiles;
 * the others multiply, each a part of the tile's rows.
 *
 *     producer     a pair of tiles ----------> ring of STAGES pairs     waits until one is empty
 *     consumer 1   rows 0 .. BM/2       ring -> sums in registers       waits until one is full
 *     consumer 2   rows BM/2 .. BM                                      BM = 64: consumer 1 alone
 *
 * While consumers bring a tile to C, the producer is ahead in the next one.
 *
 * Tensor maps are made by each work-group, in its place of the workspace: the host does not know
 * addresses. They take multiples of 16 bytes: an operand whose start or stride is none is brought
 * by the work-items of the producer, aligned vectors shifted into place; or, PAD = 1, a launch
 * before this one (gemm_wgmma_pad.clh) copies those with such strides to the workspace. Sums go to
 * C by a map too, through local memory; what needs more than a factor, or is not aligned, goes row
 * by row, by ordinary stores.
 *
 * SPLIT_K > 1: all tiles from p.whole on are multiplied in so many slices of k. All but the last
 * one leave their sums in the workspace and raise a flag, which is the run's ticket, so that nobody
 * has to clear it before; the last one waits, adds them up and goes on. It waits only for the
 * SPLIT_K - 1 pieces of work right before its own. Work-groups that have none of such a tile's
 * pieces in front of them end, and make room for those that have not started: as long as a few more
 * than SPLIT_K find room at once, nothing stands still, whoever else is on the device.
 *
 *     workspace: maps of each work-group; flags [slice][consumer]; from word p.sums_at on sums
 *                [slice][consumer], as they lie in registers; from words p.padded_a and
 *                p.padded_b on what was padded
 *
 * Contract (tunables): BM, BN, STAGES, GROUP (gemm_tiles.clh), SPLIT_K, PAD; PAD_A and PAD_B:
 * which operands PAD = 1 is about, TURN_B: 1 where B is transposed too; WGMMA_TYPE (hopper.clh);
 * gemm.clh for the rest of the variant, without lists of offsets.
 *
 * tf32: B is transposed, since products take it from local memory along k alone. An A with lines
 * along its rows (TRANS_A) goes through registers. SWAP turns a plain B into such an A; where A is
 * one too, B is transposed on its way to the workspace (TURN_B).
 */
#if !defined(BM) || !defined(BN) || !defined(STAGES) || !defined(GROUP) || !defined(SPLIT_K) ||    \
    !defined(PAD_A) || !defined(PAD_B) || !defined(TURN_B)
#error "gemm_wgmma.cl: a tunable or a variant is missing"
#endif

#include "common.clh"
#include "gemm_params.clh"
#include "gemm.clh"
#include "gemm_tiles.clh"
#include "hopper.clh"

#if BM == 64
#define CONSUMERS 1
#else
#define CONSUMERS 2
#endif
#define WARPGROUP 128
#define ITEMS (WARPGROUP * (1 + CONSUMERS))
#define BLOCKS (BM / CONSUMERS / 64) /* of 64 rows of a consumer */

/* A tile is lines of 128 bytes: along k, a step deep, or as many rows or columns of C, one for each
 * k of a step, block by block. */
#define LINE 128
#define BLOCK (64 * LINE)
#define STEPS 4 /* products of a pair of tiles */
#if WGMMA_IS(tf32)
#define BYTES 4
#define MAP_ELEMENTS HOPPER_32_BITS
#else
#define BYTES 2
#define MAP_ELEMENTS HOPPER_16_BITS
#endif
#define BK (LINE / BYTES)
#define MN_A TRANS_A
#if TRANS_B
#define MN_B 0
#else
#define MN_B 1
#endif
#if WGMMA_IS(tf32) && TRANS_A
#define A_IN_REGISTERS 1
#else
#define A_IN_REGISTERS 0
#endif
/* Where A is in registers, sums of BN = 256 leave too few of a warpgroup's 168: the loading one
 * gives some to two others. */
#define DEALS_REGISTERS (A_IN_REGISTERS && CONSUMERS == 2)
#define REGISTERS_LOADING 88
#define REGISTERS_MULTIPLYING 208
#define TILE_A (BM * LINE)
#define TILE_B (BN * LINE)
#define STAGE (TILE_A + TILE_B)

/* Where sums pass on their way to C: 64 rows x 128 columns of 16 bits, or rows of 64 floats. */
#define STAGING (4 * SLAB * 4)
#define SLAB (16 * 64) /* floats, of a warp */

/* Neighbours of C that one work-item writes: 16 bytes. */
#define WIDE_f32 4
#define WIDE_f16 8
#define WIDE_bf16 8
#define WIDE PASTE(WIDE_, DTYPE_C)

#define IS_none 1
#define IS_16_f16 1
#define IS_16_bf16 1
#if !BIAS && PASTE(IS_, ACTIVATION) && PASTE(IS_16_, DTYPE_C)
#define PLAIN_C 1
#else
#define PLAIN_C 0
#endif

DEFINE_FINISH(1)
#if SWAP
DEFINE_FINISH_DOWN_ALIGNED(WIDE)
#else
DEFINE_FINISH_ALIGNED(WIDE)
#endif

enum map { MAP_A, MAP_B, MAP_C, MAPS };

/* ---- what to do ---- */

/* A tile of C, or a slice of it: steps `first` to `end` of k. */
struct work {
    long batch;
    struct place place;
    int first, end;
    int slice; /* -1: a whole tile */
    uint slot; /* of the slice in the workspace */
};

static inline uint tiles_of(const struct gemm_params *p)
{
    return (uint)((p->m + BM - 1) / BM) * (uint)((p->n + BN - 1) / BN);
}

static inline uint all_work(const struct gemm_params *p)
{
    const uint tiles = tiles_of(p) * (uint)p->batch;
    return SPLIT_K == 1 ? tiles : (uint)p->whole + (tiles - (uint)p->whole) * SPLIT_K;
}

static inline struct work work_of(const struct gemm_params *p, uint index, int steps)
{
    const uint tiles = tiles_of(p), whole = (uint)p->whole;
    const bool split = SPLIT_K > 1 && index >= whole;
    const uint tile = split ? whole + (index - whole) / SPLIT_K : index;
    struct work w;
    w.batch = tile / tiles;
    w.place = place_of(p, tile % tiles);
    w.slot = index - whole;
    w.slice = split ? (int)(w.slot % SPLIT_K) : -1;
    w.first = split ? (int)((long)steps * w.slice / SPLIT_K) : 0;
    w.end = split ? (int)((long)steps * (w.slice + 1) / SPLIT_K) : steps;
    return w;
}

#include "gemm_wgmma_load.clh"
#include "gemm_wgmma_pad.clh"

/* ---- consumers: ring -> sums ---- */

#if A_IN_REGISTERS
/* What a work-item holds of 64 rows of A, as in hopper.clh with half the k, for a step. */
ALWAYS_INLINE void load_left(uint (*left)[4], __local const uint *blocks)
{
    const int item = get_local_id(0) % WARPGROUP, lane = item % 32;
    UNROLL for (int step = 0; step < STEPS; step++)
    UNROLL for (int i = 0; i < 4; i++)
    {
        const int row = item / 32 * 16 + lane / 4 + i % 2 * 8;
        const int k = step * WGMMA_K + lane % 4 + i / 2 * 4;
        left[step][i] = blocks[(row / BK * BK + k) * BK + ((row % BK / 4 ^ k % 8) * 4) + row % 4];
    }
}

ALWAYS_INLINE void multiply(float (*sums)[BN / 2], const struct ring *ring, struct position *at,
                            int consumer, int steps)
{
    const int lane = get_local_id(0) % 32;
    UNROLL for (int i = 0; i < BN / 2; i++) sums[0][i] = 0;
    NO_UNROLL for (int k = 0; k < steps; k++)
    {
        __local const uchar *tile = ring->tiles + at->stage * STAGE;
        const ulong b = WGMMA_K_MAJOR(hopper_address(tile + TILE_A));
        uint left[STEPS][4];
        hopper_wait(ring->full + 8 * at->stage, at->parity);
        load_left(left, (__local const uint *)(tile + consumer * BLOCK));
        WGMMA_FENCE();
        UNROLL for (int step = 0; step < STEPS; step++)
            WGMMA_RS(BN, 0, sums[0], left[step], b + step * WGMMA_STEP);
        WGMMA_COMMIT();
        WGMMA_WAIT(0); /* the other consumer's products fill the time until the next ones */
        WGMMA_KEEP(BN, sums[0]);
        if (lane == 0)
            hopper_arrive(ring->empty + 8 * at->stage);
        advance(at);
    }
}
#else
ALWAYS_INLINE void multiply(float (*sums)[BN / 2], const struct ring *ring, struct position *at,
                            int consumer, int steps)
{
    const int lane = get_local_id(0) % 32;
    uint emptied = 0;
    UNROLL for (int block = 0; block < BLOCKS; block++)
    UNROLL for (int i = 0; i < BN / 2; i++) sums[block][i] = 0;
    NO_UNROLL for (int k = 0; k < steps; k++)
    {
        const uint tile = hopper_address(ring->tiles + at->stage * STAGE);
        const uint of_a = tile + consumer * BLOCKS * BLOCK, of_b = tile + TILE_A;
        const ulong a = MN_A ? WGMMA_MN_MAJOR(of_a, BLOCK) : WGMMA_K_MAJOR(of_a);
        const ulong b = MN_B ? WGMMA_MN_MAJOR(of_b, BLOCK) : WGMMA_K_MAJOR(of_b);
        hopper_wait(ring->full + 8 * at->stage, at->parity);
        WGMMA_FENCE();
        UNROLL for (int step = 0; step < STEPS; step++)
        UNROLL for (int block = 0; block < BLOCKS; block++)
            WGMMA_SS(BN, MN_A, MN_B, sums[block],
                     a + step * (MN_A ? WGMMA_STEP_MN : WGMMA_STEP) + block * (BLOCK >> 4),
                     b + step * (MN_B ? WGMMA_STEP_MN : WGMMA_STEP));
        WGMMA_COMMIT();
        WGMMA_WAIT(1); /* the step before is done */
        if (k > 0 && lane == 0)
            hopper_arrive(emptied);
        emptied = ring->empty + 8 * at->stage;
        advance(at);
    }
    WGMMA_WAIT(0);
    UNROLL for (int block = 0; block < BLOCKS; block++) WGMMA_KEEP(BN, sums[block]);
    if (steps > 0 && lane == 0)
        hopper_arrive(emptied);
}
#endif

/* ---- from sums to C ---- */

#if PLAIN_C
/* A block's sums by the map, 64 columns at a time, in either half of the staging in turn. */
ALWAYS_INLINE void store_block(const float *sums, uint staging, __global const uchar *map,
                               int consumer, int row, int column, int batch, float alpha)
{
    const int item = get_local_id(0) % WARPGROUP, lane = item % 32;
    const int line = item / 32 * 16 + lane % 16;
    UNROLL for (int j = 0; j < BN / 8; j += 2)
    {
        const uint half_at = staging + j / 8 % 2 * BLOCK;
        if (j % 8 == 0) {
            if (item == 0 && j == 0 && BN / 64 % 2 != 0)
                HOPPER_STORES_READ(0); /* the block before began and ended with this half */
            else if (item == 0)
                HOPPER_STORES_READ(1);
            HOPPER_SYNC(1 + consumer, WARPGROUP);
        }
        HOPPER_STORE_MATRICES(half_at + line * LINE + (((j % 8 + lane / 16) ^ line % 8) << 4),
                              hopper_pack(alpha * sums[4 * j], alpha * sums[4 * j + 1]),
                              hopper_pack(alpha * sums[4 * j + 2], alpha * sums[4 * j + 3]),
                              hopper_pack(alpha * sums[4 * j + 4], alpha * sums[4 * j + 5]),
                              hopper_pack(alpha * sums[4 * j + 6], alpha * sums[4 * j + 7]));
        if (j % 8 == 6) {
            hopper_fence_tiles();
            HOPPER_SYNC(1 + consumer, WARPGROUP);
            if (item == 0) {
                hopper_store_3d(map, column + j / 8 * 64, row, batch, half_at);
                hopper_store_commit();
            }
        }
    }
}
#endif

/* Rows of a slab: groups of eight are swapped so that work-items meet different banks. */
#define SLAB_AT(line, column) ((line)*64 + (((column) / 8 ^ (line) % 8) * 8) + (column) % 8)

#if SWAP
/* Neighbours in a column of the slab are neighbours in memory. */
ALWAYS_INLINE void finish_slab(const struct gemm_operands *o, __local const float *slab, long row,
                               long column, bool aligned)
{
    const int lane = get_local_id(0) % 32;
    NO_UNROLL for (int i = lane; i < SLAB / WIDE; i += 32)
    {
        const int line = i % (16 / WIDE) * WIDE, x = i / (16 / WIDE);
        float sums[WIDE];
        if (column + x >= o->n)
            continue;
        UNROLL for (int j = 0; j < WIDE; j++) sums[j] = slab[SLAB_AT(line + j, x)];
        if (aligned && row + line + WIDE <= o->m)
            FINISH_DOWN_ALIGNED(WIDE)(o, VLOAD(WIDE, sums), row + line, column + x);
        else
            for (int j = 0; j < WIDE && row + line + j < o->m; j++)
                finish1(o, sums[j], row + line + j, column + x);
    }
}
#else
ALWAYS_INLINE void finish_slab(const struct gemm_operands *o, __local const float *slab, long row,
                               long column, bool aligned)
{
    const int lane = get_local_id(0) % 32;
    NO_UNROLL for (int i = lane; aligned && i < SLAB / WIDE; i += 32)
    {
        const int line = i / (64 / WIDE), x = i % (64 / WIDE) * WIDE;
        __local const float *from = slab + SLAB_AT(line, x);
        if (row + line >= o->m)
            continue;
        if (column + x + WIDE <= o->n)
            FINISH_ALIGNED(WIDE)(o, *(__local const VECTOR(float, WIDE) *)from, row + line,
                                 column + x);
        else
            for (int j = 0; j < WIDE && column + x + j < o->n; j++)
                finish1(o, from[j], row + line, column + x + j);
    }
    NO_UNROLL for (int i = lane; !aligned && i < SLAB; i += 32)
        if (row + i / 64 < o->m && column + i % 64 < o->n)
            finish1(o, slab[SLAB_AT(i / 64, i % 64)], row + i / 64, column + i % 64);
}
#endif

/* A warp's 16 rows of a block, 64 columns at a time. */
ALWAYS_INLINE void finish_block(const struct gemm_operands *o, const float *sums,
                                __local float *slab, long row, long column)
{
    const int lane = get_local_id(0) % 32, line = lane / 4, x = lane % 4 * 2;
    const bool aligned = is_aligned(o->c, o->ldc, 0, sizeof(element_c));
    UNROLL for (int first = 0; first < BN; first += 64)
    {
        UNROLL for (int j = 0; j < 8; j++)
        {
            const float *sum = sums + (first / 8 + j) * 4;
            *(__local float2 *)(slab + SLAB_AT(line, 8 * j + x)) = (float2)(sum[0], sum[1]);
            *(__local float2 *)(slab + SLAB_AT(line + 8, 8 * j + x)) = (float2)(sum[2], sum[3]);
        }
        hopper_sync_warp();
        finish_slab(o, slab, row, column + first, aligned);
        hopper_sync_warp();
    }
}

/* ---- slices of k ---- */

#define PART (BLOCKS * 64 * BN) /* sums of a consumer */

/* A work-item's sums lie WARPGROUP apart, in fours, so that those of a warp are neighbours. */
ALWAYS_INLINE void leave_sums(float (*sums)[BN / 2], __global float *part)
{
    __global float4 *to = (__global float4 *)part + get_local_id(0) % WARPGROUP;
    UNROLL for (int block = 0; block < BLOCKS; block++)
    UNROLL for (int j = 0; j < BN / 8; j++)
        to[(block * (BN / 8) + j) * WARPGROUP] =
            (float4)(sums[block][4 * j], sums[block][4 * j + 1], sums[block][4 * j + 2],
                     sums[block][4 * j + 3]);
}

ALWAYS_INLINE void add_sums(float (*sums)[BN / 2], __global const float *part)
{
    __global const float4 *from = (__global const float4 *)part + get_local_id(0) % WARPGROUP;
    UNROLL for (int block = 0; block < BLOCKS; block++)
    UNROLL for (int j = 0; j < BN / 8; j++)
    {
        const float4 x = from[(block * (BN / 8) + j) * WARPGROUP];
        sums[block][4 * j] += x.x, sums[block][4 * j + 1] += x.y;
        sums[block][4 * j + 2] += x.z, sums[block][4 * j + 3] += x.w;
    }
}

/* Leaves a slice's sums, or adds those of the others to the last one's. */
ALWAYS_INLINE void share_sums(float (*sums)[BN / 2], const struct work *w, int consumer,
                              __global uint *workspace, const struct gemm_params *p)
{
    const int item = get_local_id(0) % WARPGROUP;
    const uint slot = w->slot * CONSUMERS + consumer;
    __global float *parts = (__global float *)(workspace + p->sums_at);
    __global ulong *flags = (__global ulong *)(workspace + get_num_groups(0) * (MAPS * LINE / 4));
    if (w->slice < SPLIT_K - 1) {
        leave_sums(sums, parts + (size_t)slot * PART);
        HOPPER_SYNC(1 + consumer, WARPGROUP);
        if (item == 0)
            hopper_raise(flags + slot, p->ticket);
        return;
    }
    NO_UNROLL for (uint slice = 1; slice < SPLIT_K; slice++)
    {
        const uint other = slot - slice * CONSUMERS;
        if (item == 0)
            hopper_wait_for(flags + other, p->ticket);
        HOPPER_SYNC(1 + consumer, WARPGROUP);
        add_sums(sums, parts + (size_t)other * PART);
    }
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(GEMM_PARAMETERS,
                                                                      __global uint *workspace)
{
    __local uchar tiles[STAGES * STAGE] __attribute__((aligned(1024)));
    __local uchar staging[CONSUMERS * STAGING] __attribute__((aligned(1024)));
    __local ulong made[MAPS * TENSOR_MAP_WORDS] __attribute__((aligned(128)));
    __local ulong barriers[2 * STAGES];
    const int item = get_local_id(0), warp = item / 32, consumer = item / WARPGROUP - 1;
    struct ring ring = {tiles, hopper_address(barriers), hopper_address(barriers + STAGES)};
    __global uchar *maps = (__global uchar *)workspace + get_group_id(0) * (MAPS * LINE);
    GEMM_OPERANDS(o, 0);
    if (PAD_A)
        o.a = (__global const element *)(workspace + p.padded_a);
    if (PAD_B)
        o.b = (__global const element *)(workspace + p.padded_b);
    const struct mapped mapped = mapped_of(&p, &o);
    const int steps = (int)((o.k + BK - 1) / BK);

    if (item == MAPS * 32) {
        for (int i = 0; i < STAGES; i++) {
            hopper_barrier_make(ring.full + 8 * i, mapped.a && mapped.b ? 2 : WARPGROUP);
            hopper_barrier_make(ring.empty + 8 * i, 4 * CONSUMERS);
        }
        hopper_fence_barriers();
    }
    if (warp < MAPS)
        make_map(warp, made + warp * TENSOR_MAP_WORDS, maps + warp * LINE, &p, &o);
    barrier(CLK_LOCAL_MEM_FENCE);

    if (consumer < 0) {
#if DEALS_REGISTERS
        HOPPER_RESIDENT(1);
        HOPPER_FEWER_REGISTERS(REGISTERS_LOADING);
#endif
        if (item == MAP_A * 32 || item == MAP_B * 32 || !mapped.a || !mapped.b)
            produce(&ring, maps, &mapped, &p, &o, steps);
        return;
    }
#if DEALS_REGISTERS
    HOPPER_MORE_REGISTERS(REGISTERS_MULTIPLYING);
#endif
    struct position at = {0, 0};
    const uint stage = hopper_address(staging + consumer * STAGING);
    __local float *slab = (__local float *)(staging + consumer * STAGING) + warp % 4 * SLAB;
    if (mapped.c && item % WARPGROUP == 0)
        tensor_map_acquire(maps + MAP_C * LINE);
    NO_UNROLL for (uint i = get_group_id(0); i < all_work(&p); i += get_num_groups(0))
    {
        const struct work w = work_of(&p, i, steps);
        const long row = w.place.row + consumer * BLOCKS * 64, column = w.place.column;
        float sums[BLOCKS][BN / 2];
        multiply(sums, &ring, &at, consumer, w.end - w.first);
        if (SPLIT_K > 1 && w.slice >= 0)
            share_sums(sums, &w, consumer, workspace, &p);
        if (SPLIT_K > 1 && w.slice >= 0 && w.slice < SPLIT_K - 1)
            continue;
        UNROLL for (int block = 0; block < BLOCKS; block++)
        {
            const long first = row + block * 64;
#if PLAIN_C
            if (mapped.c) {
                store_block(sums[block], stage, maps + MAP_C * LINE, consumer, (int)first,
                            (int)column, (int)w.batch, o.alpha);
                continue;
            }
#endif
            o.c = c + p.c_offset + C_OFFSET(w.batch);
            finish_block(&o, sums[block], slab, first + warp % 4 * 16, column);
        }
    }
    if (mapped.c && item % WARPGROUP == 0)
        HOPPER_STORES_READ(0);
}
