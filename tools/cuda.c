#include "cuda.h"

#include <CL/cl_ext.h>
#include <dlfcn.h>
#include <string.h>

/* The driver's interface, as cuda.h of the toolkit declares it. All results are 0 for success. */
static int (*init)(unsigned flags);
static int (*device_count)(int *count);
static int (*device_get)(int *device, int index);
static int (*device_uuid)(unsigned char *uuid, int device);
static int (*context_retain)(void **context, int device);
static int (*context_release)(int device);
static int (*context_set)(void *context);
static int (*context_finish)(void);
static int (*memory_alloc)(uint64_t *buffer, size_t bytes);
static int (*memory_free)(uint64_t buffer);
static int (*memory_set)(uint64_t buffer, unsigned char value, size_t bytes);
static int (*memory_write)(uint64_t buffer, const void *from, size_t bytes);
static int (*memory_read)(void *to, uint64_t buffer, size_t bytes);

static const struct cuda_symbol functions[] = {
    {"cuInit", &init},
    {"cuDeviceGetCount", &device_count},
    {"cuDeviceGet", &device_get},
    {"cuDeviceGetUuid", &device_uuid},
    {"cuDevicePrimaryCtxRetain", &context_retain},
    {"cuDevicePrimaryCtxRelease_v2", &context_release},
    {"cuCtxSetCurrent", &context_set},
    {"cuCtxSynchronize", &context_finish},
    {"cuMemAlloc_v2", &memory_alloc},
    {"cuMemFree_v2", &memory_free},
    {"cuMemsetD8_v2", &memory_set},
    {"cuMemcpyHtoD_v2", &memory_write},
    {"cuMemcpyDtoH_v2", &memory_read},
};

static struct {
    void *library;
    cl_device_id opencl; /* the card whose context is the thread's; NULL: none */
    int device;
} cuda;

bool cuda_symbols(void *library, const struct cuda_symbol *symbols, size_t count, char *why,
                  size_t why_bytes) {
    for (size_t i = 0; i < count; i++) {
        void *function = dlsym(library, symbols[i].name);
        if (!function) {
            snprintf(why, why_bytes, "its library lacks %s", symbols[i].name);
            return false;
        }
        memcpy(symbols[i].where, &function, sizeof function);
    }
    return true;
}

static bool load(char *why, size_t why_bytes) {
    if (cuda.library)
        return true;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, why_bytes, "there is no driver of CUDA here (libcuda.so.1)");
        return false;
    }
    if (!cuda_symbols(library, functions, sizeof functions / sizeof functions[0], why, why_bytes) ||
        init(0) != 0) {
        dlclose(library);
        return false;
    }
    cuda.library = library;
    return true;
}

/* CUDA's and OpenCL's lists of devices differ in order; the UUIDs are the same. */
static bool find_device(cl_device_id opencl, int *out) {
    unsigned char wanted[CL_UUID_SIZE_KHR], uuid[CL_UUID_SIZE_KHR];
    int count = 0;
    if (clGetDeviceInfo(opencl, CL_DEVICE_UUID_KHR, sizeof wanted, wanted, NULL) != CL_SUCCESS ||
        device_count(&count) != 0)
        return false;
    for (int i = 0; i < count; i++)
        if (device_get(out, i) == 0 && device_uuid(uuid, *out) == 0 &&
            memcmp(uuid, wanted, sizeof uuid) == 0)
            return true;
    return false;
}

bool cuda_begin(cl_device_id opencl, char *why, size_t why_bytes) {
    void *context = NULL;
    if (cuda.opencl == opencl)
        return true;
    cuda_end();
    snprintf(why, why_bytes, "CUDA does not start");
    if (!load(why, why_bytes))
        return false;
    snprintf(why, why_bytes, "this device is none of CUDA's");
    if (!find_device(opencl, &cuda.device))
        return false;
    snprintf(why, why_bytes, "CUDA gives no context on this device");
    if (context_retain(&context, cuda.device) != 0)
        return false;
    if (context_set(context) != 0) {
        context_release(cuda.device);
        return false;
    }
    cuda.opencl = opencl;
    return true;
}

void cuda_end(void) {
    if (!cuda.opencl)
        return;
    context_set(NULL);
    context_release(cuda.device);
    cuda.opencl = NULL;
}

static bool check(int code, const char *call) {
    return code == 0 || tool_error("%s failed with CUDA's code %d", call, code);
}

uint64_t cuda_buffer(size_t bytes, const void *data) {
    uint64_t buffer = 0;
    if (!check(memory_alloc(&buffer, bytes), "cuMemAlloc"))
        return 0;
    if (data ? check(memory_write(buffer, data, bytes), "cuMemcpyHtoD")
             : check(memory_set(buffer, 0xff, bytes), "cuMemsetD8"))
        return buffer;
    cuda_free(buffer);
    return 0;
}

void cuda_free(uint64_t buffer) {
    if (buffer)
        memory_free(buffer);
}

bool cuda_read(void *out, uint64_t buffer, size_t bytes) {
    return check(memory_read(out, buffer, bytes), "cuMemcpyDtoH");
}

bool cuda_finish(void) {
    return check(context_finish(), "cuCtxSynchronize");
}
