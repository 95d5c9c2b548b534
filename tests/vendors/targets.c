#include "targets.h"

#include <stdio.h>

/*
 * Limits are those that the vendors' drivers report through OpenCL, or less where models differ:
 * what is legal here is legal on every device of the name. compute_units: of a common model; they
 * decide which tiles a guess takes.
 */
#define CAN(capability) (1u << (capability))
#define GPU .f32_lanes = 1
#define INTEL(name_, units, group, local, lanes, more)                                             \
    .name = name_, .compiler = "intel", .vendor = VENDOR_INTEL, .compute_units = units,            \
    .max_work_group = group, .local_kib = local, .least_lanes = lanes,                             \
    .capabilities = CAN(CAP_F16_ARITHMETIC) | (more), GPU
#define AMD(name_, units, more)                                                                    \
    .name = name_, .compiler = "amd", .vendor = VENDOR_AMD, .compute_units = units,                \
    .max_work_group = 256, .local_kib = 64,                                                        \
    .capabilities = CAN(CAP_F64) | CAN(CAP_F16_ARITHMETIC) | (more), GPU
#define NVIDIA(name_, units, more)                                                                 \
    .name = name_, .compiler = "nvidia", .vendor = VENDOR_NVIDIA, .compute_units = units,          \
    .max_work_group = 1024, .local_kib = 48,                                                       \
    .capabilities = CAN(CAP_F64) | CAN(CAP_F16_ARITHMETIC) | CAN(CAP_MMA_NV_SM75) |                \
                    CAN(CAP_LARGE_LOCAL) | (more),                                                 \
    GPU
#define SPIRV                                                                                      \
    .name = "spirv", .compiler = "spirv", .capabilities = CAN(CAP_F64), .max_work_group = 1024,    \
    .local_kib = 64, .compute_units = 64, .quick = true
#define EMULATED(engine) SPIRV, .emulated = engine, GPU

const struct target targets[] = {
    {INTEL("skl", 24, 256, 64, 8, CAN(CAP_F64))},
    {INTEL("tgllp", 96, 512, 64, 8, 0)},
    {INTEL("dg2", 512, 1024, 64, 8, CAN(CAP_MMA_INTEL_DPAS8) | CAN(CAP_BLOCK_READS))},
    {INTEL("pvc", 1024, 1024, 128, 16,
           CAN(CAP_F64) | CAN(CAP_MMA_INTEL_DPAS16) | CAN(CAP_BLOCK_READS))},
    {AMD("gfx90a", 104, CAN(CAP_MMA_AMD_MFMA))},
    {AMD("gfx942", 304, CAN(CAP_MMA_AMD_MFMA))},
    {AMD("gfx1030", 40, 0)},
    {AMD("gfx1100", 48, CAN(CAP_MMA_AMD_WMMA11))},
    {AMD("gfx1201", 32, CAN(CAP_MMA_AMD_WMMA12))},
    {NVIDIA("sm_75", 40, 0)},
    {NVIDIA("sm_80", 108, CAN(CAP_MMA_NV_SM80))},
    {NVIDIA("sm_86", 84, CAN(CAP_MMA_NV_SM80))},
    {NVIDIA("sm_89", 128, CAN(CAP_MMA_NV_SM80))},
    {NVIDIA("sm_90", 132, CAN(CAP_MMA_NV_SM80) | CAN(CAP_WGMMA))},
    {NVIDIA("sm_100", 148, CAN(CAP_MMA_NV_SM80))},
    {NVIDIA("sm_120", 170, CAN(CAP_MMA_NV_SM80))},
    {SPIRV, GPU},
    {SPIRV, .is_cpu = true, .f32_lanes = 16},
    {EMULATED("nv_sm75")},
    {EMULATED("nv_sm80")},
    {EMULATED("intel_dpas8")},
    {EMULATED("intel_dpas16")},
    {EMULATED("amd_mfma")},
    {EMULATED("amd_wmma11")},
    {EMULATED("amd_wmma12")},
};
const size_t n_targets = sizeof targets / sizeof *targets;

void target_open(struct device *device, const struct target *target) {
    *device = (struct device){
        .vendor = target->vendor,
        .is_cpu = target->is_cpu,
        .compute_units = target->compute_units,
        .max_work_group = target->max_work_group,
        .max_items = {target->max_work_group, target->max_work_group, target->max_work_group},
        .global_bytes = (cl_ulong)8 << 30,
        .max_alloc_bytes = (cl_ulong)4 << 30,
        .local_bytes = target->local_kib << 10,
        .cacheline_bytes = 64,
        .f32_lanes = target->f32_lanes,
        .least_lanes = target->least_lanes,
        .l1_bytes = target->is_cpu ? 32 << 10 : 0,
        .l2_bytes = target->is_cpu ? 1 << 20 : 0,
    };
    snprintf(device->name, sizeof device->name, "%s", target->name);
    snprintf(device->architecture, sizeof device->architecture, "%s", target->name);
    if (target->emulated != NULL)
        device->emulated_engine = engine_named(target->emulated);
    _Static_assert(CAP_COUNT <= 8 * sizeof target->capabilities, "a bit for each");
    for (unsigned capability = 0; capability < CAP_COUNT; capability++)
        device->verdict[capability] = (target->capabilities & CAN(capability)) != 0;
    pthread_mutex_init(&device->probe_lock, NULL);
}
