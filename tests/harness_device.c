/* The part of the harness that needs a device: a program that does not use it links no context. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static clat_context *context;
static cl_command_queue queue;
static const char *kernel_dir; /* of harness_use_kernels */

static void release_queue(void) {
    clFinish(queue);
    clReleaseCommandQueue(queue);
    queue = NULL;
}

/* Every buffer, queue, program and event keeps its OpenCL context: whoever was not released shows
 * in the count of the context's holders. Drivers let go of a finished command a little later. */
static bool is_held(cl_context cl) {
    cl_uint holders = 0;
    for (int i = 0; i < 2000; i++) {
        clGetContextInfo(cl, CL_CONTEXT_REFERENCE_COUNT, sizeof holders, &holders, NULL);
        if (holders == 1)
            return false;
        usleep(1000);
    }
    return true;
}

static void release_context(void) {
    cl_context cl = clat_context_cl(context);
    clRetainContext(cl);
    clat_context_release(context);
    context = NULL;
    if (is_held(cl))
        harness_fail_at_end("OpenCL objects were not released");
    clReleaseContext(cl);
}

void harness_use_kernels(const char *dir) {
    assert_null(context);
    kernel_dir = dir;
}

static const char *variable_or(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value ? value : fallback;
}

clat_context_options harness_options(void) {
    clat_context_options options = CLAT_CONTEXT_OPTIONS_INIT;
    options.kernel_dir =
        kernel_dir ? kernel_dir : variable_or("CLATTICE_TEST_KERNEL_DIR", HARNESS_KERNEL_DIR);
    options.cache_dir = variable_or("CLATTICE_TEST_CACHE_DIR", HARNESS_BUILD_DIR "/test-cache");
    options.tuned_file = "";
    return options;
}

clat_context *harness_context(void) {
    if (!context) {
        clat_context_options options = harness_options();
        assert_ok(clat_context_create(&context, &options));
        harness_at_end(release_context);
    }
    return context;
}

cl_command_queue harness_new_queue(cl_command_queue_properties properties) {
    clat_context *ctx = harness_context();
    cl_int err = CL_SUCCESS;
    cl_command_queue_properties supported = 0;
    assert_cl(clGetDeviceInfo(clat_context_device(ctx), CL_DEVICE_QUEUE_PROPERTIES,
                              sizeof supported, &supported, NULL));
    cl_command_queue made = clCreateCommandQueue(clat_context_cl(ctx), clat_context_device(ctx),
                                                 properties & supported, &err);
    assert_cl(err);
    return made;
}

cl_command_queue harness_queue(void) {
    if (!queue) {
        queue = harness_new_queue(0);
        harness_at_end(release_queue);
    }
    return queue;
}

bool harness_device_is_cpu(void) {
    cl_device_type type = 0;
    char name[256] = "";
    const cl_device_id device = clat_context_device(harness_context());
    assert_cl(clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof type, &type, NULL));
    assert_cl(clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof name, name, NULL));
    return (type & CL_DEVICE_TYPE_CPU) != 0 && strstr(name, "llvmpipe") == NULL;
}

cl_mem harness_buffer(size_t bytes, const void *data) {
    cl_int err = CL_SUCCESS;
    size_t size = bytes ? bytes : 1;
    cl_mem buffer =
        clCreateBuffer(clat_context_cl(harness_context()), CL_MEM_READ_WRITE, size, NULL, &err);
    assert_cl(err);
    if (data) {
        harness_write(buffer, 0, bytes, data);
    } else {
        void *poison = harness_alloc(size);
        memset(poison, 0xff, size);
        harness_write(buffer, 0, size, poison);
        free(poison);
    }
    return buffer;
}

void harness_read(cl_mem buffer, size_t offset, size_t bytes, void *data) {
    if (bytes)
        assert_cl(clEnqueueReadBuffer(harness_queue(), buffer, CL_TRUE, offset, bytes, data, 0,
                                      NULL, NULL));
}

/* A blocking write may return once `data` has been copied, before other queues see it, as it does
 * on Intel's CPU runtime: finish instead. */
void harness_write(cl_mem buffer, size_t offset, size_t bytes, const void *data) {
    if (!bytes)
        return;
    assert_cl(clEnqueueWriteBuffer(harness_queue(), buffer, CL_FALSE, offset, bytes, data, 0, NULL,
                                   NULL));
    assert_cl(clFinish(harness_queue()));
}
