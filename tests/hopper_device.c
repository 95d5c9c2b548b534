#include "hopper_device.h"

#include <string.h>

struct device hopper_device(void) {
    struct device device = {.vendor = VENDOR_NVIDIA,
                            .compute_units = 132,
                            .max_work_group = 1024,
                            .max_items = {1024, 1024, 64},
                            .local_bytes = 48 << 10,
                            .max_alloc_bytes = (cl_ulong)20 << 30,
                            .f32_lanes = 1};
    strcpy(device.architecture, "sm_90");
    for (unsigned i = 0; i < CAP_COUNT; i++)
        device.verdict[i] = i == CAP_WGMMA || i == CAP_LARGE_LOCAL;
    pthread_mutex_init(&device.probe_lock, NULL);
    return device;
}
