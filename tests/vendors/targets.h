/* Devices described by their facts, for compiling without one at hand (docs/devices.md). */
#ifndef CLAT_VENDORS_TARGETS_H
#define CLAT_VENDORS_TARGETS_H

#include "engine.h"

struct target {
    const char *name; /* the compiler's word for it: "gfx942"; more than one entry may have it */
    const char *compiler; /* "intel", "amd", "nvidia" or "spirv": what check.py runs */
    enum vendor vendor;
    bool is_cpu;
    unsigned f32_lanes;
    cl_uint compute_units;
    size_t max_work_group, local_kib;
    unsigned least_lanes;
    unsigned capabilities; /* a bit for each enum capability that a probe would prove */
    const char *emulated;  /* the matrix engine that kernels emulate, NULL: none */
    bool quick;            /* compiles in no time: gets every problem in every run */
};

extern const struct target targets[];
extern const size_t n_targets;

/* The device that `target` describes; to be closed with device_close. No driver is behind it: all
 * verdicts are known, and nothing may be built or run. */
void target_open(struct device *device, const struct target *target);

#endif
