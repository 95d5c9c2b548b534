/*
 * What a device is: facts the driver tells, facts about the host when the device is its CPU, and
 * capabilities proven by running a probe kernel, because drivers under-report and over-report.
 */
#ifndef CLAT_DEVICE_H
#define CLAT_DEVICE_H

#include "cache.h"
#include "log.h"
#include "status.h"

#include <pthread.h>

struct engine; /* engine.h */

enum vendor { VENDOR_OTHER, VENDOR_NVIDIA, VENDOR_AMD, VENDOR_INTEL, VENDOR_POCL, VENDOR_MESA };

/* X(enumerator, name, meaning). Each has a probe in probe.c or probe_gpu.c. */
#define CAPABILITY_MAP(X)                                                                          \
    X(CAP_F64, "f64", "double arithmetic")                                                         \
    X(CAP_F16_ARITHMETIC, "f16_arithmetic", "half arithmetic, reported by the driver or not")      \
    X(CAP_BF16_DOT, "bf16_dot",                                                                    \
      "AVX-512's dot products of bf16 pairs, by inline assembly, where they are faster than f32")  \
    X(CAP_BF16_TILE, "bf16_tile",                                                                  \
      "AMX's products of bf16 tiles, by inline assembly, with the kernel's permission")            \
    X(CAP_MMA_NV_SM75, "mma_nv_sm75", "mma.sync of f16 and ldmatrix, by inline PTX")               \
    X(CAP_MMA_NV_SM80, "mma_nv_sm80", "mma.sync of f16, bf16 and tf32, and cp.async")              \
    X(CAP_MMA_INTEL_DPAS8, "mma_intel_dpas8", "matrix products by sub-groups of 8")                \
    X(CAP_MMA_INTEL_DPAS16, "mma_intel_dpas16", "matrix products by sub-groups of 16")             \
    X(CAP_BLOCK_READS, "block_reads", "reads of local memory by whole sub-groups of Intel's GPUs") \
    X(CAP_MMA_AMD_MFMA, "mma_amd_mfma", "MFMA of f16 and bf16, by the compiler's builtins")        \
    X(CAP_MMA_AMD_WMMA11, "mma_amd_wmma11", "gfx11's WMMA of f16 and bf16")                        \
    X(CAP_MMA_AMD_WMMA12, "mma_amd_wmma12", "gfx12's WMMA of f16 and bf16")                        \
    X(CAP_WGMMA, "wgmma", "Hopper's wgmma and tensor maps, by marked PTX (ptx.h)")                 \
    X(CAP_LARGE_LOCAL, "large_local", "static local arrays far larger than the driver reports")

enum capability {
#define CAPABILITY_ENUM(enumerator, name, meaning) enumerator,
    CAPABILITY_MAP(CAPABILITY_ENUM)
#undef CAPABILITY_ENUM
        CAP_COUNT
};

struct device {
    cl_platform_id platform;
    cl_device_id id;
    cl_context cl; /* borrowed from the context; probes build in it */
    enum vendor vendor;
    bool is_cpu; /* llvmpipe is none: it runs kernels the way a GPU does */
    char name[256], vendor_name[128], driver[128];
    char platform_name[256]; /* name and version */
    char architecture[64];   /* "sm_90", "skylake-avx512", else a slug of the name */
    char slug[128];          /* file-name-safe: the stem of the device's tuned file */
    cl_uint compute_units;   /* as the driver counts them; see device_units */
    size_t max_work_group;   /* see device_largest_group */
    size_t max_items[3];
    cl_ulong global_bytes, max_alloc_bytes, local_bytes;
    unsigned cacheline_bytes;
    unsigned f32_lanes;   /* of the native vector: 16 AVX-512, 8 AVX, 4 SSE and NEON; 1 on GPUs */
    unsigned least_lanes; /* of a sub-group on Intel's GPUs; 0: not told */
    size_t l1_bytes, l2_bytes; /* data caches of one core; 0 when unknown or no CPU */

    pthread_mutex_t probe_lock;
    struct cache *cache;            /* borrowed; remembers verdicts */
    const struct logger *log;       /* borrowed */
    signed char verdict[CAP_COUNT]; /* -1: not known yet */
    /* Tests set it: kernels for this matrix engine (engine.h) are built with its emulation. */
    const struct engine *emulated_engine;
};

/* Finds a device by `wanted` (see clat_context_options.device; NULL and no environment: the
 * default). The INVALID_DEVICE sentence lists what exists. */
clat_status device_choose(cl_platform_id *platform, cl_device_id *id, const char *wanted);

/* Fills `*device`; `device_close` undoes it. No probe runs yet. */
clat_status device_open(struct device *device, cl_context cl, cl_device_id id, struct cache *cache,
                        const struct logger *log);
void device_close(struct device *device);

/* Compute units that are alike on all vendors' GPUs: what shares local memory. Intel's drivers
 * count parts of them. */
unsigned device_units(const struct device *device);

/* Of AMD, with an architecture that begins so. */
bool device_is_amd(const struct device *device, const char *architecture);

/* AMD's gfx90a, gfx94* and gfx95*: matrix engines with accumulators of their own. */
bool device_is_cdna(const struct device *device);

/* How many registers of 32 bits a work-item can have at most, on Intel's GPUs in the smallest
 * sub-groups; 0: not known. */
unsigned device_lane_registers(const struct device *device);

/* How many native vectors a CPU device, which is the host, holds in registers. */
unsigned device_vector_registers(const struct device *device);

/* "pocl", "nvidia", ... */
const char *device_vendor_slug(enum vendor vendor);

/* Proven once per device, driver and library version; a probe that cannot run counts as false. */
bool device_can(const struct device *device, enum capability capability);

/* What arrays declared in a kernel may take: local_bytes, or more where CAP_LARGE_LOCAL is proven.
 */
size_t device_static_local_bytes(const struct device *device);

/* Intel's GPUs with matrix instructions can give each thread twice the registers, and then run half
 * as many: programs are built so. */
bool device_has_many_registers(const struct device *device);

/* Work-items of a work-group, at most. */
size_t device_largest_group(const struct device *device);

/* Whether asking for CAP_BF16_TILE is worth it. Unlike asking, this leaves the process as it is. */
bool device_has_bf16_tiles(const struct device *device);

#endif
