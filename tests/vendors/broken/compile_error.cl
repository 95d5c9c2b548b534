/* A name that is declared nowhere. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x) {
    x[get_global_id(0)] = missing;
}
