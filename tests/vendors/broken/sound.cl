/* Nothing is wrong with this one: 4096 bytes of local memory, as test_check.py expects. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x) {
    __local float tile[1024];
    const int i = get_local_id(0);
    for (int n = i; n < 1024; n += 64)
        tile[n] = x[n];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = i; n < 1024; n += 64)
        x[n] = tile[1023 - n];
}
