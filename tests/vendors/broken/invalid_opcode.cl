/* A matrix instruction that the targets (skl, tgllp) do not have. */
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(int8 a, int8 b, float8 c);
__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void subject(__global float8 *x,
                                                                     __global const int8 *y) {
    const int i = get_local_id(0);
    x[i] = intel_sub_group_f16_f16_matrix_mad_k16(y[i], y[i + 8], x[i]);
}
