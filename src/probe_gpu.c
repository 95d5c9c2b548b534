/* Probes of GPUs: matrix engines as cl/mma/ uses them, and local memory. */
#include "probe.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- matrix engines ----------- */

/*
 * Every element of left is 1 or 2 and its partner of right 3 or 1/2, so that whatever the layout
 * a depth of 16 adds 8 (1 3 + 2 1/2) = 32 to every sum; all sums of all lanes are compared.
 * `operands`: declarations of left and right, `multiply`: statements that add to float sum[sums].
 */
#define F16_LEFT "0x40003c00u"
#define F16_RIGHT "0x38004200u"
#define BF16_LEFT "0x40003f80u"
#define BF16_RIGHT "0x3f004040u"

#define PROBE_MMA(before, attributes, items, sums, multiply)                                       \
    before "__kernel " attributes "__attribute__((reqd_work_group_size(" #items ", 1, 1)))\n"      \
           "void probe(__global const float *in, __global float *out) {\n"                         \
           "    __local float seen[" #items "];\n"                                                 \
           "    __local uint tile[32] __attribute__((aligned(128)));\n"                            \
           "    __local float4 copy;\n"                                                            \
           "    const int lane = get_local_id(0);\n"                                               \
           "    for (int i = 0; i < 4; i++) {\n"                                                   \
           "        float sum[" #sums "];\n"                                                       \
           "        for (int j = 0; j < " #sums "; j++) sum[j] = in[i];\n"                         \
           "        " multiply "\n"                                                                \
           "        int equal = 1;\n"                                                              \
           "        for (int j = 0; j < " #sums "; j++) equal &= sum[j] == sum[0];\n"              \
           "        seen[lane] = equal ? sum[0] : 0.0f;\n"                                         \
           "        barrier(CLK_LOCAL_MEM_FENCE);\n"                                               \
           "        for (int j = 0; j < " #items "; j++) equal &= seen[j] == seen[0];\n"           \
           "        if (lane == 0) out[i] = equal ? seen[0] : 0.0f;\n"                             \
           "        barrier(CLK_LOCAL_MEM_FENCE);\n"                                               \
           "    }\n"                                                                               \
           "}\n"

#define PTX_SUMS "\"+f\"(sum[0]), \"+f\"(sum[1]), \"+f\"(sum[2]), \"+f\"(sum[3])"
#define PTX_MULTIPLY(shape, types, a, b, operands)                                                 \
    "__asm__(\"mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0,%1,%2,%3}, {" a "}, {" b   \
    "}, {%0,%1,%2,%3};\" : " PTX_SUMS " : " operands ");\n"

/* A word of left comes by ldmatrix. */
#define PTX_LEFT(left)                                                                             \
    "tile[lane] = " left ";\n"                                                                     \
    "barrier(CLK_LOCAL_MEM_FENCE);\n"                                                              \
    "uint left;\n"                                                                                 \
    "__asm__ volatile(\"ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\"\n"                  \
    "    : \"=r\"(left) : \"r\"((uint)(size_t)(tile + lane % 8 * 4)) : \"memory\");\n"

#define SM75_MULTIPLY                                                                              \
    PTX_LEFT(F16_LEFT)                                                                             \
    "for (int k = 0; k < 2; k++)\n" PTX_MULTIPLY("m16n8k8", "f16.f16", "%4,%4", "%5",              \
                                                 "\"r\"(" F16_RIGHT "), \"r\"(left)")

#define SM80_PAIRS(types, left, right)                                                             \
    PTX_MULTIPLY("m16n8k16", types, "%4,%4,%4,%4", "%5,%5", "\"r\"(" right "), \"r\"(" left ")")

/* tf32 cuts 1 + 2^-11 to 1: eight of them. What is added first, less 8, comes from global memory by
 * cp.async. */
#define SM80_MULTIPLY                                                                              \
    PTX_LEFT(F16_LEFT)                                                                             \
    "__asm__ volatile(\"cp.async.cg.shared.global [%0], [%1], 16, %2;\"\n"                         \
    "    :: \"r\"((uint)(size_t)&copy), \"l\"(in), \"r\"(8) : \"memory\");\n"                      \
    "__asm__ volatile(\"cp.async.commit_group; cp.async.wait_group 0;\" ::: \"memory\");\n"        \
    "barrier(CLK_LOCAL_MEM_FENCE);\n"                                                              \
    "const float4 first = copy;\n"                                                                 \
    "for (int j = 0; j < 4; j++) sum[j] += first.x + first.y + first.z + first.w - "               \
    "8.0f;\n" SM80_PAIRS("f16.f16", "left", F16_RIGHT)                                             \
        SM80_PAIRS("bf16.bf16", BF16_LEFT, BF16_RIGHT)                                             \
            PTX_MULTIPLY("m16n8k8", "tf32.tf32", "%4,%4,%4,%4", "%5,%5",                           \
                         "\"r\"(as_uint(1.0f)), \"r\"(as_uint(1.0f + 0x1p-11f))")

#define DPAS(lanes, left)                                                                          \
    PROBE_MMA("#pragma OPENCL EXTENSION cl_intel_subgroups : enable\n"                             \
              "float8 __attribute__((overloadable))\n"                                             \
              "intel_sub_group_f16_f16_matrix_mad_k16(" left "8 a, int8 b, float8 c);\n"           \
              "float8 __attribute__((overloadable))\n"                                             \
              "intel_sub_group_bf16_bf16_matrix_mad_k16(" left "8 a, int8 b, float8 c);\n"         \
              "uint of_lane(uint pair) {\n"                                                        \
              "    return " #lanes " == 8 ? pair : get_sub_group_local_id() % 2 ? pair >> 16\n"    \
              "                                                               : pair & 0xffffu;\n" \
              "}\n",                                                                               \
              "__attribute__((intel_reqd_sub_group_size(" #lanes "))) ", lanes, 8,                 \
              "const " left "8 h = (" left ")of_lane(" F16_LEFT "), b = (" left                    \
              ")of_lane(" BF16_LEFT ");\n"                                                         \
              "float8 s = in[i];\n"                                                                \
              "s = intel_sub_group_f16_f16_matrix_mad_k16(h, (int8)(" F16_RIGHT "), s);\n"         \
              "s = intel_sub_group_bf16_bf16_matrix_mad_k16(b, (int8)(" BF16_RIGHT "), s);\n"      \
              "vstore8(s, 0, sum);\n")

/* Of 128 words, which are 0 .. 127, and of 128 of their halves. out[i] is in[i] where all lanes get
 * what they should. */
#define BLOCK_READS                                                                                \
    "#pragma OPENCL EXTENSION cl_intel_subgroups : enable\n"                                       \
    "#pragma OPENCL EXTENSION cl_intel_subgroups_short : enable\n"                                 \
    "uint8 __attribute__((overloadable)) intel_sub_group_block_read8(const __local uint *p);\n"    \
    "ushort8 __attribute__((overloadable))\n"                                                      \
    "intel_sub_group_block_read_us8(const __local ushort *p);\n"                                   \
    "__attribute__((intel_reqd_sub_group_size(16), reqd_work_group_size(16, 1, 1)))\n"             \
    "__kernel void probe(__global const float *in, __global float *out) {\n"                       \
    "    __local uint words[128] __attribute__((aligned(128)));\n"                                 \
    "    __local int right[16];\n"                                                                 \
    "    const uint lane = get_sub_group_local_id();\n"                                            \
    "    const ushort8 row = {0, 1, 2, 3, 4, 5, 6, 7};\n"                                          \
    "    for (int i = 0; i < 128; i += 16) words[i + lane] = i + lane;\n"                          \
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"                                                          \
    "    const uint8 x = intel_sub_group_block_read8(words);\n"                                    \
    "    const ushort8 h = intel_sub_group_block_read_us8((const __local ushort *)words);\n"       \
    "    const ushort8 half_words = (ushort)(lane % 2 == 0) * (row * (ushort)8 + "                 \
    "(ushort)(lane / 2));\n"                                                                       \
    "    right[lane] = all(x == convert_uint8(row) * 16 + lane) && all(h == half_words);\n"        \
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"                                                          \
    "    int all_right = 1;\n"                                                                     \
    "    for (int i = 0; i < 16; i++) all_right &= right[i];\n"                                    \
    "    if (lane < 4) out[lane] = all_right ? in[lane] : 0.0f;\n"                                 \
    "}\n"

#define AMD(items, sums, words, n, f16, bf16, rest)                                                \
    PROBE_MMA("#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n", "", items, sums,                  \
              "float" #sums " s = in[i];\n"                                                        \
              "s = __builtin_amdgcn_" f16 "(as_half" #n "((uint" #words ")(" F16_LEFT ")),\n"      \
              "    as_half" #n "((uint" #words ")(" F16_RIGHT ")), s" rest ");\n"                  \
              "s = __builtin_amdgcn_" bf16 "(as_short" #n "((uint" #words ")(" BF16_LEFT ")),\n"   \
              "    as_short" #n "((uint" #words ")(" BF16_RIGHT ")), s" rest ");\n"                \
              "vstore" #sums "(s, 0, sum);\n")

static bool is_nvidia(const struct device *device) {
    return device->vendor == VENDOR_NVIDIA;
}

/* Compilers refuse the builtins of another architecture, or die of them. */
static bool is_gfx11(const struct device *device) {
    return device_is_amd(device, "gfx11");
}

static bool is_gfx12(const struct device *device) {
    return device_is_amd(device, "gfx12");
}

/* Where it is missing, the compiler may make something of the call all the same. */
static bool has_dpas(const struct device *device) {
    return device->vendor == VENDOR_INTEL &&
           probe_has_extension(device->id, "cl_intel_subgroup_matrix_multiply_accumulate");
}

/* The extension is for any sub-group; drivers for devices with matrix instructions have it. */
static bool has_block_reads(const struct device *device) {
    return has_dpas(device) && probe_has_extension(device->id, "cl_intel_subgroup_local_block_io");
}

/* ---------------------------------------------------------------- Hopper ------------------- */

/* sm_90a has no successors: later architectures have other instructions. */
static bool is_hopper(const struct device *device) {
    return is_nvidia(device) && strcmp(device->architecture, "sm_90") == 0;
}

/* ---------------------------------------------------------------- local memory ------------- */

/* What a work-group may have by the CUDA C++ Programming Guide's table of compute capabilities,
 * less the 1 KB that the driver adds for itself. */
size_t probe_large_local(const struct device *device) {
    static const struct {
        int architecture;
        size_t kilobytes;
    } table[] = {{75, 64},   {80, 163},  {86, 99},   {87, 163}, {89, 99}, {90, 227},
                 {100, 227}, {103, 227}, {110, 227}, {120, 99}, {121, 99}};
    if (!is_nvidia(device) || strncmp(device->architecture, "sm_", 3) != 0)
        return 0;
    const int architecture = atoi(device->architecture + 3);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].architecture == architecture)
            return (table[i].kilobytes - 1) * 1024;
    return 0;
}

static bool has_large_local(const struct device *device) {
    return probe_large_local(device) > device->local_bytes;
}

size_t device_static_local_bytes(const struct device *device) {
    return has_large_local(device) && device_can(device, CAP_LARGE_LOCAL)
               ? probe_large_local(device)
               : (size_t)device->local_bytes;
}

bool device_has_many_registers(const struct device *device) {
    return device_can(device, CAP_MMA_INTEL_DPAS8) || device_can(device, CAP_MMA_INTEL_DPAS16);
}

size_t device_largest_group(const struct device *device) {
    return device_has_many_registers(device) ? device->max_work_group / 2 : device->max_work_group;
}

/* ---------------------------------------------------------------- the table ---------------- */

#define VALUES .in = {2048, 1, -3, 0.5f}

static const struct probe probes[] = {
    [CAP_MMA_NV_SM75] = {"mma_nv_sm75", NULL, PROBE_MMA("", "", 32, 4, SM75_MULTIPLY), is_nvidia,
                         VALUES, .expected = {2080, 33, 29, 32.5f}, .items = 32},
    /* 32 + 32 + 8 - 8, and 2048 + 1 for the copy's first two values. */
    [CAP_MMA_NV_SM80] = {"mma_nv_sm80", NULL, PROBE_MMA("", "", 32, 4, SM80_MULTIPLY), is_nvidia,
                         VALUES, .expected = {4161, 2114, 2110, 2113.5f}, .items = 32},
    [CAP_MMA_INTEL_DPAS8] = {"mma_intel_dpas8", NULL, DPAS(8, "int"), has_dpas, VALUES,
                             .expected = {2112, 65, 61, 64.5f}, .items = 8},
    [CAP_MMA_INTEL_DPAS16] = {"mma_intel_dpas16", NULL, DPAS(16, "short"), has_dpas, VALUES,
                              .expected = {2112, 65, 61, 64.5f}, .items = 16},
    [CAP_BLOCK_READS] = {"block_reads", NULL, BLOCK_READS, has_block_reads, VALUES,
                         .expected = {2048, 1, -3, 0.5f}, .items = 16},
    [CAP_MMA_AMD_MFMA] = {"mma_amd_mfma", NULL,
                          AMD(64, 4, 2, 4, "mfma_f32_16x16x16f16", "mfma_f32_16x16x16bf16_1k",
                              ", 0, 0, 0"),
                          device_is_cdna, VALUES, .expected = {2112, 65, 61, 64.5f}, .items = 64},
    [CAP_MMA_AMD_WMMA11] = {"mma_amd_wmma11", NULL,
                            AMD(32, 8, 8, 16, "wmma_f32_16x16x16_f16_w32",
                                "wmma_f32_16x16x16_bf16_w32", ""),
                            is_gfx11, VALUES, .expected = {2112, 65, 61, 64.5f}, .items = 32},
    [CAP_MMA_AMD_WMMA12] = {"mma_amd_wmma12", NULL,
                            AMD(32, 8, 4, 8, "wmma_f32_16x16x16_f16_w32_gfx12",
                                "wmma_f32_16x16x16_bf16_w32_gfx12", ""),
                            is_gfx12, VALUES, .expected = {2112, 65, 61, 64.5f}, .items = 32},
    [CAP_WGMMA] = {"wgmma", NULL, NULL, is_hopper, VALUES, .expected = {2080, 33, 29, 32.5f},
                   .items = 128, .file = "probe_wgmma.cl"},
    /* In the first, the last and two elements between. */
    [CAP_LARGE_LOCAL] =
        {"large_local", NULL,
         "__kernel void probe(__global const float *in, __global float *out) {\n"
         "    volatile __local float x[LARGE_LOCAL / 4]\n"
         "        __attribute__((aligned(128)));\n"
         "    for (int i = 0; i < 4; i++) x[i * (LARGE_LOCAL / 4 - 1) / 3] = in[i];\n"
         "    for (int i = 0; i < 4; i++) out[i] = x[i * (LARGE_LOCAL / 4 - 1) / 3];\n"
         "}\n",
         has_large_local, VALUES, .expected = {2048, 1, -3, 0.5f}},
};

const struct probe *probe_of_gpu(enum capability capability) {
    const bool listed = capability < sizeof probes / sizeof *probes;
    return listed && probes[capability].name != NULL ? &probes[capability] : NULL;
}
