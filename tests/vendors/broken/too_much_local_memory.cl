/* 400 KB of local memory: no device has that. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x) {
    __local float tile[100000];
    const int i = get_local_id(0);
    for (int n = i; n < 100000; n += 64)
        tile[n] = x[n];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = i; n < 100000; n += 64)
        x[n] = tile[99999 - n];
}
