/*
 * Whether Hopper's instructions do what hopper.clh says: in[] comes to local memory by a tensor map
 * that is made here, and one wgmma of 64 x 8 x 16 adds 32 to each of its values, whatever the
 * layout: every element of A is 1 or 2, its partner of B 3 or 1/2, so that a depth of 16 adds
 * 8 (1 3 + 2 1/2). Behind its four values, `out` has room for the map.
 */
#define WGMMA_TYPE f16
#include "common.clh"
#include "hopper.clh"

#define VALUES 4
#define ITEMS 128

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void probe(__global const float *in,
                                                                      __global float *out)
{
    __local uint a[64 * 32] __attribute__((aligned(1024)));
    __local uint b[8 * 32] __attribute__((aligned(1024)));
    __local float values[VALUES] __attribute__((aligned(128)));
    __local ulong map[TENSOR_MAP_WORDS] __attribute__((aligned(128)));
    __local ulong barriers[1];
    __local float seen[ITEMS];
    const int item = get_local_id(0);
    const uint ready = hopper_address(barriers), map_at = hopper_address(map);
    __global void *place = (__global void *)(((size_t)(out + VALUES) + 127) / 128 * 128);

    for (int i = item; i < 64 * 32; i += ITEMS)
        a[i] = 0x40003c00u;
    for (int i = item; i < 8 * 32; i += ITEMS)
        b[i] = 0x38004200u;
    if (item < 32) {
        tensor_map_clear(map);
        if (item == 0) {
            hopper_barrier_make(ready, 1);
            hopper_fence_barriers();
            TENSOR_MAP_BASE(map_at, in, 2, HOPPER_32_BITS, HOPPER_PLAIN);
            TENSOR_MAP_DIMENSION(map_at, 0, VALUES, VALUES);
            TENSOR_MAP_DIMENSION(map_at, 1, 1, 1);
            TENSOR_MAP_STRIDE(map_at, 1, sizeof values);
        }
        tensor_map_publish(map_at, place);
    }
    hopper_fence_tiles();
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item == 0) {
        tensor_map_acquire(place);
        hopper_arrive_expecting(ready, sizeof values);
        hopper_load_2d(hopper_address(values), place, 0, 0, ready);
    }
    hopper_wait(ready, 0);
    for (int i = 0; i < VALUES; i++) {
        float sums[4] = {values[i], values[i], values[i], values[i]};
        const ulong of_a = WGMMA_K_MAJOR(hopper_address(a));
        const ulong of_b = WGMMA_K_MAJOR(hopper_address(b));
        WGMMA_FENCE();
        WGMMA_SS(8, 0, 0, sums, of_a, of_b);
        WGMMA_COMMIT();
        WGMMA_WAIT(0);
        WGMMA_KEEP(8, sums);
        bool equal = sums[0] == sums[1] && sums[0] == sums[2] && sums[0] == sums[3];
        seen[item] = sums[0];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = 0; j < ITEMS; j++)
            equal = equal && seen[j] == seen[0];
        if (item == 0)
            out[i] = equal ? seen[0] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
