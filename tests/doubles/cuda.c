/*
 * A stand-in for libcuda.so.1 and libcublas.so together, put before the real ones so that the peer
 * cublas runs where there is no such card: memory is the host's, products are plain loops, in
 * cuBLAS's column-major order, f32 only. The OpenCL device, whatever it is, gets the UUID of ours.
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl_ext.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A matrix C of so many rows or columns is left as it is, without an error. */
enum { LAZY = 13 };

static unsigned char our_uuid[CL_UUID_SIZE_KHR] = "clattice's card";

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info what, size_t bytes, void *out,
                       size_t *actual) {
    cl_int (*real)(cl_device_id, cl_device_info, size_t, void *, size_t *);
    void *found = dlsym(RTLD_NEXT, "clGetDeviceInfo");
    memcpy(&real, &found, sizeof real);
    if (what != CL_DEVICE_UUID_KHR)
        return real(device, what, bytes, out, actual);
    memcpy(out, our_uuid, sizeof our_uuid);
    return CL_SUCCESS;
}

int cuInit(unsigned flags) {
    return flags != 0;
}

int cuDeviceGetCount(int *count) {
    *count = 2;
    return 0;
}

int cuDeviceGet(int *device, int index) {
    *device = 100 + index;
    return 0;
}

/* The first card is another one. */
int cuDeviceGetUuid(unsigned char *uuid, int device) {
    memcpy(uuid, our_uuid, sizeof our_uuid);
    uuid[0] ^= device == 100;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &our_uuid;
    return device != 101;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    return device != 101;
}

int cuCtxSetCurrent(void *context) {
    return context != NULL && context != &our_uuid;
}

int cuCtxSynchronize(void) {
    return 0;
}

int cuMemAlloc_v2(uint64_t *buffer, size_t bytes) {
    *buffer = (uint64_t)(uintptr_t)malloc(bytes);
    return *buffer == 0;
}

int cuMemFree_v2(uint64_t buffer) {
    free((void *)(uintptr_t)buffer);
    return 0;
}

int cuMemsetD8_v2(uint64_t buffer, unsigned char value, size_t bytes) {
    memset((void *)(uintptr_t)buffer, value, bytes);
    return 0;
}

int cuMemcpyHtoD_v2(uint64_t buffer, const void *from, size_t bytes) {
    memcpy((void *)(uintptr_t)buffer, from, bytes);
    return 0;
}

int cuMemcpyDtoH_v2(void *to, uint64_t buffer, size_t bytes) {
    memcpy(to, (void *)(uintptr_t)buffer, bytes);
    return 0;
}

int cublasCreate_v2(void **handle) {
    *handle = &our_uuid;
    return 0;
}

int cublasDestroy_v2(void *handle) {
    return handle != &our_uuid;
}

/* Only sums of slices in f32 are asked for. */
int cublasSetMathMode(void *handle, int mode) {
    return handle != &our_uuid || mode != 16;
}

/* 12.34.56 */
int cublasGetProperty(int which, int *value) {
    *value = 12 + 22 * which;
    return 0;
}

int cublasGemmEx(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
                 const float *a, int type_a, int lda, const float *b, int type_b, int ldb,
                 const float *beta, float *c, int type_c, int ldc, int compute, int algorithm) {
    if (handle != &our_uuid || type_a || type_b || type_c || compute != 68 || algorithm != -1 ||
        lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m || *beta != 0)
        return 7;
    if (m == LAZY || n == LAZY)
        return 0;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float sum = 0;
            for (int l = 0; l < k; l++)
                sum += a[op_a ? l + i * lda : i + l * lda] * b[op_b ? j + l * ldb : l + j * ldb];
            c[i + j * ldc] = *alpha * sum;
        }
    return 0;
}

int cublasGemmStridedBatchedEx(void *handle, int op_a, int op_b, int m, int n, int k,
                               const float *alpha, const float *a, int type_a, int lda,
                               long long stride_a, const float *b, int type_b, int ldb,
                               long long stride_b, const float *beta, float *c, int type_c, int ldc,
                               long long stride_c, int batch, int compute, int algorithm) {
    int code = 0;
    for (int i = 0; i < batch && code == 0; i++)
        code = cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a + i * stride_a, type_a, lda,
                            b + i * stride_b, type_b, ldb, beta, c + i * stride_c, type_c, ldc,
                            compute, algorithm);
    return code;
}
