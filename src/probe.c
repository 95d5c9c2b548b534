/* Capabilities are proven by running a kernel whose numbers come out right only if the device
 * really computes that way. */
#include "probe.h"

#include "host_cpu.h"
#include "ptx.h"
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_KERNEL(extension, expression)                                                        \
    "#pragma OPENCL EXTENSION " extension " : enable\n"                                            \
    "__kernel void probe(__global const float *in, __global float *out) {\n"                       \
    "    for (int i = 0; i < 4; i++)\n"                                                            \
    "        out[i] = (float)(" expression ");\n"                                                  \
    "}\n"

/* The device is the CPU this runs on, with registers of AVX-512. Oclgrind calls itself one too, and
 * crashes where a kernel has assembly in it: only known compilers are asked. */
static bool is_wide_host(const struct device *device) {
    return device->is_cpu && device->vendor != VENDOR_OTHER && device->f32_lanes == 16;
}

static bool gains_by_bf16_dot(const struct device *device) {
    return is_wide_host(device) && host_gains_by_bf16_dot();
}

bool device_has_bf16_tiles(const struct device *device) {
    return is_wide_host(device) && host_has_bf16_tiles();
}

/* Permission belongs to the process: it is asked for whatever a cache remembers. */
static bool allows_bf16_tiles(const struct device *device) {
    return is_wide_host(device) && host_allows_bf16_tiles();
}

static const struct probe probes[] = {
    /* What x + 2^-40 keeps of the 2^-40: all of it in double, nothing in float. */
    [CAP_F64] = {"f64", "cl_khr_fp64",
                 PROBE_KERNEL("cl_khr_fp64",
                              "(((double)in[i] + 0x1p-40) - (double)in[i]) * 0x1p40"),
                 .in = {1, 3, 1000, -2}, .expected = {1, 1, 1, 1}},
    /* 2048 + 1 is 2048 in half and 2049 in float. */
    [CAP_F16_ARITHMETIC] = {"f16_arithmetic", "cl_khr_fp16",
                            PROBE_KERNEL("cl_khr_fp16", "(half)in[i] + (half)1.0f"),
                            .in = {2048, 1, -3, 0.5f}, .expected = {2048, 2, -2, 1.5f}},
    /* in[i] + (1, 2) . (3, 0.5), in every lane. */
    [CAP_BF16_DOT] =
        {"bf16_dot", NULL,
         "__kernel void probe(__global const float *in, __global float *out) {\n"
         "    const uint16 a = 0x40003f80u, b = 0x3f004040u;\n"
         "    for (int i = 0; i < 4; i++) {\n"
         "        float16 sum = in[i];\n"
         "        __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(sum) : \"v\"(a), \"v\"(b));\n"
         "        out[i] = all(sum.lo == sum.hi) ? sum.s5 : 0.0f;\n"
         "    }\n"
         "}\n",
         gains_by_bf16_dot, .in = {2048, 1, -3, 0.5f}, .expected = {2052, 5, 1, 4.5f}},
    /* in[i] + 16 (1, 2) . (3, 0.5), in every element of a tile. */
    [CAP_BF16_TILE] =
        {"bf16_tile", NULL,
         "__constant uint config[16] = {1, 0, 0, 0, 0x400040, 0x40, 0, 0, 0, 0, 0, 0, 0x101010};\n"
         "#define TILE(instruction, p) \\\n"
         "    __asm__ volatile(instruction :: \"r\"((size_t)(p)), \"r\"(64L) : \"memory\")\n"
         "__kernel void probe(__global const float *in, __global float *out) {\n"
         "    uint a[256], b[256];\n"
         "    float sum[256];\n"
         "    TILE(\"ldtilecfg (%0)\", config);\n"
         "    for (int i = 0; i < 4; i++) {\n"
         "        for (int j = 0; j < 256; j++)\n"
         "            a[j] = 0x40003f80u, b[j] = 0x3f004040u, sum[j] = in[i];\n"
         "        TILE(\"tileloadd (%0,%1,1), %%tmm0\", sum);\n"
         "        TILE(\"tileloadd (%0,%1,1), %%tmm1\", a);\n"
         "        TILE(\"tileloadd (%0,%1,1), %%tmm2\", b);\n"
         "        TILE(\"tdpbf16ps %%tmm2, %%tmm1, %%tmm0\", 0);\n"
         "        TILE(\"tilestored %%tmm0, (%0,%1,1)\", sum);\n"
         "        int equal = 1;\n"
         "        for (int j = 0; j < 256; j++)\n"
         "            equal &= sum[j] == sum[0];\n"
         "        out[i] = equal ? sum[0] : 0.0f;\n"
         "    }\n"
         "    TILE(\"tilerelease\", 0);\n"
         "}\n",
         allows_bf16_tiles, .in = {2048, 1, -3, 0.5f}, .expected = {2112, 65, 61, 64.5f}},
};

enum verdict { VERDICT_UNKNOWN = -1, VERDICT_NO = 0, VERDICT_YES = 1 };

bool probe_has_extension(cl_device_id id, const char *name) {
    size_t bytes = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS)
        return false;
    char *list = calloc(1, bytes + 1);
    bool found = false;
    if (list != NULL &&
        clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, list, NULL) == CL_SUCCESS) {
        char *rest = NULL;
        for (char *word = strtok_r(list, " ", &rest); word != NULL && !found;
             word = strtok_r(NULL, " ", &rest))
            found = strcmp(word, name) == 0;
    }
    free(list);
    return found;
}

static bool as_expected(const float *values, const float *expected) {
    for (int i = 0; i < PROBE_VALUES; i++)
        if (values[i] != expected[i])
            return false;
    return true;
}

/* Runs the kernel of `program`; UNKNOWN when it could not be run, which may pass. */
static enum verdict run_probe(const struct device *device, const struct probe *probe,
                              cl_program program) {
    enum verdict verdict = VERDICT_UNKNOWN;
    float values[PROBE_VALUES];
    const size_t items = probe->items != 0 ? probe->items : 1;
    const size_t out_bytes = sizeof values + PROBE_SCRATCH_BYTES;
    cl_int err[4] = {0};
    memcpy(values, probe->in, sizeof values);
    cl_command_queue queue = clCreateCommandQueue(device->cl, device->id, 0, &err[0]);
    cl_kernel kernel = clCreateKernel(program, "probe", &err[1]);
    cl_mem in = clCreateBuffer(device->cl, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof values,
                               values, &err[2]);
    cl_mem out = clCreateBuffer(device->cl, CL_MEM_READ_WRITE, out_bytes, NULL, &err[3]);
    if (err[0] == CL_SUCCESS && err[1] == CL_SUCCESS && err[2] == CL_SUCCESS &&
        err[3] == CL_SUCCESS && clSetKernelArg(kernel, 0, sizeof in, &in) == CL_SUCCESS &&
        clSetKernelArg(kernel, 1, sizeof out, &out) == CL_SUCCESS &&
        clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, &items, 0, NULL, NULL) ==
            CL_SUCCESS &&
        clEnqueueReadBuffer(queue, out, CL_TRUE, 0, sizeof values, values, 0, NULL, NULL) ==
            CL_SUCCESS)
        verdict = as_expected(values, probe->expected) ? VERDICT_YES : VERDICT_NO;
    if (out != NULL)
        clReleaseMemObject(out);
    if (in != NULL)
        clReleaseMemObject(in);
    if (kernel != NULL)
        clReleaseKernel(kernel);
    if (queue != NULL)
        clReleaseCommandQueue(queue);
    return verdict;
}

enum { OPTIONS_BYTES = 64 };

static void build_options(char options[OPTIONS_BYTES], const struct device *device) {
    snprintf(options, OPTIONS_BYTES, "-cl-std=CL1.2 -DLARGE_LOCAL=%zu", probe_large_local(device));
}

/* Replaces *program; on failure either may be left, to be released. */
static cl_int finish_marked(cl_program *program, const struct device *device, const char *options) {
    cl_program finished = NULL;
    const cl_int err = ptx_finish(&finished, device, *program, options);
    if (finished != NULL) {
        clReleaseProgram(*program);
        *program = finished;
    }
    return err;
}

static enum verdict build_and_run(const struct device *device, const struct probe *probe,
                                  const char *source) {
    /* Compilers made of clang go by the list of extensions, and PoCL's prints to stderr when it
     * refuses: no need to ask. Others, such as NVIDIA's, compile more than they report. */
    if ((device->vendor == VENDOR_POCL || device->vendor == VENDOR_MESA) &&
        probe->extension != NULL && !probe_has_extension(device->id, probe->extension))
        return VERDICT_NO;
    cl_int err = CL_SUCCESS;
    cl_program program = clCreateProgramWithSource(device->cl, 1, &source, NULL, &err);
    if (err != CL_SUCCESS)
        return VERDICT_UNKNOWN;
    char options[OPTIONS_BYTES];
    build_options(options, device);
    err = clBuildProgram(program, 1, &device->id, options, NULL, NULL);
    if (err == CL_SUCCESS && ptx_is_marked(source))
        err = finish_marked(&program, device, options);
    enum verdict verdict = VERDICT_UNKNOWN;
    if (err == CL_SUCCESS)
        verdict = run_probe(device, probe, program);
    else if (err == CL_BUILD_PROGRAM_FAILURE || err == CL_INVALID_BINARY)
        verdict = VERDICT_NO;
    clReleaseProgram(program);
    return verdict;
}

static struct cache_key probe_key(const struct device *device, const struct probe *probe,
                                  const char *source) {
    char options[OPTIONS_BYTES];
    build_options(options, device);
    const char *const parts[] = {"probe", PTX_STEP,     probe->name,    source,
                                 options, device->name, device->driver, device->platform_name};
    return cache_key_of(sizeof parts / sizeof parts[0], parts);
}

/* One byte on disk: '0' or '1'. */
static enum verdict load_verdict(const struct device *device, struct cache_key key) {
    enum verdict verdict = VERDICT_UNKNOWN;
    void *data = NULL;
    size_t size = 0;
    if (cache_load(device->cache, key, &data, &size) && size == 1)
        verdict = *(const char *)data == '1' ? VERDICT_YES : VERDICT_NO;
    free(data);
    return verdict;
}

static enum verdict find_verdict_of(const struct device *device, const struct probe *probe,
                                    const char *source) {
    const struct cache_key key = probe_key(device, probe, source);
    enum verdict verdict = load_verdict(device, key);
    if (verdict != VERDICT_UNKNOWN)
        return verdict;
    verdict = build_and_run(device, probe, source);
    if (verdict != VERDICT_UNKNOWN)
        cache_store(device->cache, key, verdict == VERDICT_YES ? "1" : "0", 1);
    log_printf(device->log, CLAT_LOG_INFO, "probe %s on %s: %s", probe->name, device->name,
               verdict == VERDICT_YES  ? "yes"
               : verdict == VERDICT_NO ? "no"
                                       : "could not run");
    return verdict;
}

static enum verdict find_verdict(const struct device *device, const struct probe *probe) {
    char *const embedded_only[3] = {NULL, NULL, NULL};
    struct text file = {0};
    enum verdict verdict = VERDICT_UNKNOWN;
    /* Asked before the cache, which another machine may share: names tell little of a CPU. */
    if (probe->is_safe != NULL && !probe->is_safe(device))
        return VERDICT_NO;
    if (probe->file == NULL)
        return find_verdict_of(device, probe, probe->source);
    if (source_read(&file, embedded_only, probe->file) == CLAT_OK)
        verdict = find_verdict_of(device, probe, text_string(&file));
    text_free(&file);
    return verdict;
}

static const struct probe *probe_of(enum capability capability) {
    const struct probe *probe = probe_of_gpu(capability);
    return probe != NULL ? probe : &probes[capability];
}

/* Two threads may run the same probe at once; that beats holding the lock while a driver works. A
 * device does not change by being asked: that the answer is remembered is nobody else's affair. */
bool device_can(const struct device *asked, enum capability capability) {
    struct device *device = (struct device *)asked;
    pthread_mutex_lock(&device->probe_lock);
    signed char known = device->verdict[capability];
    pthread_mutex_unlock(&device->probe_lock);
    if (known < 0) {
        known = find_verdict(device, probe_of(capability)) == VERDICT_YES;
        pthread_mutex_lock(&device->probe_lock);
        device->verdict[capability] = known;
        pthread_mutex_unlock(&device->probe_lock);
    }
    return known == 1;
}
