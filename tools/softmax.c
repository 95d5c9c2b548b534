#include "softmax.h"

#include <stdlib.h>

/*
 * One work-group for a row; VW scores at a time. On CPUs a group is one work-item with float16
 * vectors, on GPUs 128 work-items with float4.
 */
static const char source[] =
    "#define CAT_(a, b) a##b\n"
    "#define CAT(a, b) CAT_(a, b)\n"
    "typedef CAT(float, VW) vec;\n"
    "#define LOAD(p) CAT(vload, VW)(0, p)\n"
    "#define STORE(v, p) CAT(vstore, VW)(v, 0, p)\n"
    "\n"
    "#if WG > 1\n"
    "#define REDUCE(OP) float reduce_##OP(float mine, __local float *part) { \\\n"
    "    part[get_local_id(0)] = mine; \\\n"
    "    for (uint half_ = WG / 2; half_ > 0; half_ /= 2) { \\\n"
    "        barrier(CLK_LOCAL_MEM_FENCE); \\\n"
    "        if (get_local_id(0) < half_) \\\n"
    "            part[get_local_id(0)] = \\\n"
    "                OP(part[get_local_id(0)], part[get_local_id(0) + half_]); \\\n"
    "    } \\\n"
    "    barrier(CLK_LOCAL_MEM_FENCE); \\\n"
    "    const float all = part[0]; \\\n"
    "    barrier(CLK_LOCAL_MEM_FENCE); \\\n"
    "    return all; \\\n"
    "}\n"
    "#else\n"
    "#define REDUCE(OP) float reduce_##OP(float mine, __local float *part) { return mine; }\n"
    "#endif\n"
    "#define ADD(a, b) ((a) + (b))\n"
    "REDUCE(fmax)\n"
    "REDUCE(ADD)\n"
    "\n"
    "__kernel __attribute__((reqd_work_group_size(WG, 1, 1)))\n"
    "void softmax(__global float *scores, ulong seq_q, ulong seq_k, long left, long right) {\n"
    "    __local float part[WG];\n"
    "    const ulong row = get_group_id(0);\n"
    "    const long i = (long)(row % seq_q), n = (long)seq_k, id = (long)get_local_id(0);\n"
    "    __global float *s = scores + row * seq_k;\n"
    "    const long first = i > left ? min(i - left, n) : 0;\n"
    "    const long last = right < n - i ? max(first, i + right + 1 < n ? i + right + 1 : n) : n;\n"
    "    const long tail = first + (last - first) / VW * VW;\n"
    "    float lane[VW];\n"
    "\n"
    "    vec top = -INFINITY;\n"
    "    for (long j = first + id * VW; j < tail; j += WG * VW)\n"
    "        top = fmax(top, LOAD(s + j));\n"
    "    STORE(top, lane);\n"
    "    float m = -INFINITY;\n"
    "    for (int l = 0; l < VW; l++)\n"
    "        m = fmax(m, lane[l]);\n"
    "    for (long j = tail + id; j < last; j += WG)\n"
    "        m = fmax(m, s[j]);\n"
    "    m = reduce_fmax(m, part);\n"
    "\n"
    "    vec sums = 0;\n"
    "    for (long j = first + id * VW; j < tail; j += WG * VW) {\n"
    "        const vec e = exp(LOAD(s + j) - m);\n"
    "        sums += e;\n"
    "        STORE(e, s + j);\n"
    "    }\n"
    "    STORE(sums, lane);\n"
    "    float sum = 0;\n"
    "    for (int l = 0; l < VW; l++)\n"
    "        sum += lane[l];\n"
    "    for (long j = tail + id; j < last; j += WG) {\n"
    "        s[j] = exp(s[j] - m);\n"
    "        sum += s[j];\n"
    "    }\n"
    "    const float scale = 1 / reduce_ADD(sum, part);\n"
    "\n"
    "    for (long j = first + id * VW; j < tail; j += WG * VW)\n"
    "        STORE(LOAD(s + j) * scale, s + j);\n"
    "    for (long j = tail + id; j < last; j += WG)\n"
    "        s[j] *= scale;\n"
    "    for (long j = id; j < first; j += WG)\n"
    "        s[j] = 0;\n"
    "    for (long j = last + id; j < n; j += WG)\n"
    "        s[j] = 0;\n"
    "}\n";

bool softmax_open(struct softmax *out, clat_context *ctx) {
    const char *text = source;
    const cl_device_id device = clat_context_device(ctx);
    cl_int err = CL_SUCCESS;
    bool ok = false;

    *out = (struct softmax){0};
    const bool cpu = tool_is_cpu(device);
    out->group = cpu ? 1 : 128;
    out->program = clCreateProgramWithSource(clat_context_cl(ctx), 1, &text, NULL, &err);
    TRY(tool_cl(err, "clCreateProgramWithSource"));
    TRY(tool_cl(clBuildProgram(out->program, 1, &device,
                               cpu ? "-D VW=16 -D WG=1" : "-D VW=4 -D WG=128", NULL, NULL),
                "clBuildProgram"));
    out->kernel = clCreateKernel(out->program, "softmax", &err);
    TRY(tool_cl(err, "clCreateKernel"));
    ok = true;
out:
    return ok;
}

void softmax_close(struct softmax *softmax) {
    if (softmax->kernel)
        clReleaseKernel(softmax->kernel);
    if (softmax->program)
        clReleaseProgram(softmax->program);
    *softmax = (struct softmax){0};
}

bool softmax_enqueue(const struct softmax *softmax, cl_command_queue queue, cl_mem scores,
                     size_t rows, size_t seq_q, size_t seq_k, int64_t left, int64_t right) {
    const cl_ulong n_q = seq_q, n_k = seq_k;
    const cl_long before = left, after = right;
    const size_t global = rows * softmax->group;
    const struct {
        size_t bytes;
        const void *value;
    } args[] = {{sizeof scores, &scores},
                {sizeof n_q, &n_q},
                {sizeof n_k, &n_k},
                {sizeof before, &before},
                {sizeof after, &after}};
    for (cl_uint i = 0; i < sizeof args / sizeof args[0]; i++)
        if (!tool_cl(clSetKernelArg(softmax->kernel, i, args[i].bytes, args[i].value),
                     "clSetKernelArg"))
            return false;
    return tool_cl(clEnqueueNDRangeKernel(queue, softmax->kernel, 1, NULL, &global, &softmax->group,
                                          0, NULL, NULL),
                   "clEnqueueNDRangeKernel");
}
