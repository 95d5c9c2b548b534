/* More values than any register file holds: 300 per work-item, all in use all the time. */
#define VALUES 300
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x, int n) {
    const int i = get_global_id(0);
    float a[VALUES];
    __attribute__((opencl_unroll_hint(VALUES)))
    for (int k = 0; k < VALUES; k++)
        a[k] = x[i + k * n];
    for (int r = 0; r < n; r++) {
        __attribute__((opencl_unroll_hint(VALUES)))
        for (int k = 0; k < VALUES; k++)
            a[k] = fma(a[k], a[(k + 7) % VALUES], a[(k + 13) % VALUES]);
    }
    __attribute__((opencl_unroll_hint(VALUES)))
    for (int k = 0; k < VALUES; k++)
        x[i + k * n] = a[k];
}
