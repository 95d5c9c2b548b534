/* 16 KiB of local memory, which test_check.py, as a host would, expects to be 4096 bytes. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x) {
    __local float tile[4096];
    const int i = get_local_id(0);
    for (int n = i; n < 4096; n += 64)
        tile[n] = x[n];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = i; n < 4096; n += 64)
        x[n] = tile[4095 - n];
}
