/* What the two tables of probes share. */
#ifndef CLAT_PROBE_H
#define CLAT_PROBE_H

#include "device.h"

enum { PROBE_VALUES = 4, PROBE_SCRATCH_BYTES = 1024 };

/* The kernel maps in[i] to out[i] in one work-group; the results are compared exactly. Behind them
 * `out` has PROBE_SCRATCH_BYTES to write to. */
struct probe {
    const char *name;
    const char *extension; /* NULL: none is needed */
    const char *source;    /* NULL: `file`, of the library's own copy of cl/ */
    /* false: running the kernel would end the process, or gain nothing. NULL: it never does. */
    bool (*is_safe)(const struct device *device);
    float in[PROBE_VALUES], expected[PROBE_VALUES];
    size_t items; /* work-items; 0: one */
    const char *file;
};

/* Of GPUs: matrix engines, local memory (probe_gpu.c). NULL for other capabilities. */
const struct probe *probe_of_gpu(enum capability capability);

/* How large a static local array may be on this architecture, told as LARGE_LOCAL to every probe's
 * kernel; 0: no larger than the driver says. */
size_t probe_large_local(const struct device *device);

bool probe_has_extension(cl_device_id id, const char *name);

#endif
