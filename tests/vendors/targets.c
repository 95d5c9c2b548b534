#include "targets.h"

#include <stdio.h>
#include <string.h>

/*
 * Limits are those that the vendors' drivers report through OpenCL, or less where models differ:
 * what is legal here is legal on every device of the name. compute_units: of a common model; they
 * decide which tiles a guess takes.
 */
#define GPU .f32_lanes = 1
#define INTEL(name_, units, group, local)                                                          \
    .name = name_, .compiler = "intel", .vendor = VENDOR_INTEL, .compute_units = units,            \
    .max_work_group = group, .local_kib = local, GPU
#define AMD(name_, units)                                                                          \
    .name = name_, .compiler = "amd", .vendor = VENDOR_AMD, .compute_units = units,                \
    .max_work_group = 256, .local_kib = 64, .f64 = true, GPU
#define NVIDIA(name_, units)                                                                       \
    .name = name_, .compiler = "nvidia", .vendor = VENDOR_NVIDIA, .compute_units = units,          \
    .max_work_group = 1024, .local_kib = 48, .f64 = true, GPU
#define SPIRV .name = "spirv", .compiler = "spirv", .f64 = true

const struct target targets[] = {
    {INTEL("skl", 24, 256, 64), .f64 = true},
    {INTEL("tgllp", 96, 512, 64)},
    {INTEL("dg2", 512, 1024, 64)},
    {INTEL("pvc", 1024, 1024, 128), .f64 = true},
    {AMD("gfx90a", 104)},
    {AMD("gfx942", 304)},
    {AMD("gfx1030", 40)},
    {AMD("gfx1100", 48)},
    {AMD("gfx1201", 32)},
    {NVIDIA("sm_75", 40)},
    {NVIDIA("sm_80", 108)},
    {NVIDIA("sm_86", 84)},
    {NVIDIA("sm_89", 128)},
    {NVIDIA("sm_90", 132)},
    {NVIDIA("sm_100", 148)},
    {NVIDIA("sm_120", 170)},
    {SPIRV, .compute_units = 64, .max_work_group = 1024, .local_kib = 64, GPU},
    {SPIRV, .is_cpu = true, .f32_lanes = 16, .compute_units = 8, .max_work_group = 4096,
     .local_kib = 256},
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
        .l1_bytes = target->is_cpu ? 32 << 10 : 0,
        .l2_bytes = target->is_cpu ? 1 << 20 : 0,
    };
    snprintf(device->name, sizeof device->name, "%s", target->name);
    snprintf(device->architecture, sizeof device->architecture, "%s", target->name);
    memset(device->verdict, 0, sizeof device->verdict);
    device->verdict[CAP_F64] = target->f64;
    device->verdict[CAP_F16_ARITHMETIC] = !target->is_cpu;
    pthread_mutex_init(&device->probe_lock, NULL);
}
