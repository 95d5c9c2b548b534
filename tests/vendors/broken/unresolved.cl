/* Declared, as a vendor's built-in function would be, and defined nowhere. */
float __attribute__((overloadable)) no_such_builtin(float x);
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void subject(__global float *x) {
    x[get_global_id(0)] = no_such_builtin(x[get_global_id(0)]);
}
