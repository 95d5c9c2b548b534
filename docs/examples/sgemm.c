/* C = A B in single precision, in one call. */
#include <clattice/clattice.h>

#include <stdio.h>
#include <stdlib.h>

enum { M = 2, N = 2, K = 3 };

static void check(clat_status status) {
    if (status == CLAT_OK)
        return;
    fprintf(stderr, "%s: %s\n", clat_status_name(status), clat_error_text());
    exit(EXIT_FAILURE);
}

static void check_cl(cl_int code, const char *call) {
    if (code == CL_SUCCESS)
        return;
    fprintf(stderr, "%s gave OpenCL code %d\n", call, (int)code);
    exit(EXIT_FAILURE);
}

int main(void) {
    float a[M * K] = {1, 2, 3, 4, 5, 6};
    float b[K * N] = {1, 0, 0, 1, 1, 1};
    float c[M * N];
    clat_context *ctx;
    cl_int err;

    check(clat_context_create(&ctx, NULL));

    /* Queue and buffers are plain OpenCL, in the cl_context that clattice made (or was given). */
    cl_context cl = clat_context_cl(ctx);
    cl_command_queue queue = clCreateCommandQueue(cl, clat_context_device(ctx), 0, &err);
    check_cl(err, "clCreateCommandQueue");
    cl_mem_flags input = CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR;
    cl_mem buffer_a = clCreateBuffer(cl, input, sizeof a, a, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem buffer_b = clCreateBuffer(cl, input, sizeof b, b, &err);
    check_cl(err, "clCreateBuffer");
    cl_mem buffer_c = clCreateBuffer(cl, CL_MEM_WRITE_ONLY, sizeof c, NULL, &err);
    check_cl(err, "clCreateBuffer");

    check(clat_sgemm(ctx, queue, CLAT_ROW_MAJOR, CLAT_NO_TRANS, CLAT_NO_TRANS, M, N, K, 1.0f,
                     buffer_a, 0, K, buffer_b, 0, N, 0.0f, buffer_c, 0, N, 0, NULL, NULL));

    /* The call has only enqueued its work; this read comes after it in the queue, and waits. */
    check_cl(clEnqueueReadBuffer(queue, buffer_c, CL_TRUE, 0, sizeof c, c, 0, NULL, NULL),
             "clEnqueueReadBuffer");
    printf("%g %g\n%g %g\n", c[0], c[1], c[2], c[3]);

    clReleaseMemObject(buffer_a);
    clReleaseMemObject(buffer_b);
    clReleaseMemObject(buffer_c);
    clReleaseCommandQueue(queue);
    clat_context_release(ctx);
    return EXIT_SUCCESS;
}
