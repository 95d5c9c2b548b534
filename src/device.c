#include "device.h"

#include "device_name.h"
#include "text.h"

#include <CL/cl_ext.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- what the driver tells ---- */

static clat_status copy_trimmed(char *out, size_t size, char *text) {
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == ' ')
        text[--length] = '\0';
    snprintf(out, size, "%s", text + strspn(text, " "));
    free(text);
    return CLAT_OK;
}

/* Any length, cut to what fits; blanks at both ends go. */
static clat_status device_string(char *out, size_t size, cl_device_id id, cl_device_info what) {
    clat_status st = CLAT_OK;
    char *text = NULL;
    size_t bytes = 0;
    TRY_CL(clGetDeviceInfo(id, what, 0, NULL, &bytes));
    text = calloc(1, bytes + 1);
    if (text == NULL)
        TRY(status_no_memory(bytes + 1));
    TRY_CL(clGetDeviceInfo(id, what, bytes, text, NULL));
    return copy_trimmed(out, size, text);
out:
    free(text);
    return st;
}

static clat_status platform_string(char *out, size_t size, cl_platform_id id,
                                   cl_platform_info what) {
    clat_status st = CLAT_OK;
    char *text = NULL;
    size_t bytes = 0;
    TRY_CL(clGetPlatformInfo(id, what, 0, NULL, &bytes));
    text = calloc(1, bytes + 1);
    if (text == NULL)
        TRY(status_no_memory(bytes + 1));
    TRY_CL(clGetPlatformInfo(id, what, bytes, text, NULL));
    return copy_trimmed(out, size, text);
out:
    free(text);
    return st;
}

static clat_status read_numbers(struct device *device) {
    clat_status st = CLAT_OK;
    const cl_device_id id = device->id;
    size_t items[16] = {0}; /* one per dimension; at least three by the standard */
    cl_device_type type = 0;
    cl_uint cacheline = 0;
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof device->compute_units,
                           &device->compute_units, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof device->max_work_group,
                           &device->max_work_group, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof items, items, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof device->global_bytes,
                           &device->global_bytes, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof device->max_alloc_bytes,
                           &device->max_alloc_bytes, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof device->local_bytes,
                           &device->local_bytes, NULL));
    TRY_CL(clGetDeviceInfo(id, CL_DEVICE_GLOBAL_MEM_CACHELINE_SIZE, sizeof cacheline, &cacheline,
                           NULL));
    device->is_cpu = (type & CL_DEVICE_TYPE_CPU) != 0;
    device->cacheline_bytes = cacheline != 0 ? cacheline : 64;
    memcpy(device->max_items, items, sizeof device->max_items);
out:
    return st;
}

static clat_status read_names(struct device *device) {
    clat_status st = CLAT_OK;
    const cl_device_id id = device->id;
    char name[128], vendor[128], version[128], device_version[256];
    TRY_CL(
        clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof device->platform, &device->platform, NULL));
    TRY(device_string(device->name, sizeof device->name, id, CL_DEVICE_NAME));
    TRY(device_string(device->vendor_name, sizeof device->vendor_name, id, CL_DEVICE_VENDOR));
    TRY(device_string(device->driver, sizeof device->driver, id, CL_DRIVER_VERSION));
    TRY(device_string(device_version, sizeof device_version, id, CL_DEVICE_VERSION));
    TRY(platform_string(name, sizeof name, device->platform, CL_PLATFORM_NAME));
    TRY(platform_string(vendor, sizeof vendor, device->platform, CL_PLATFORM_VENDOR));
    TRY(platform_string(version, sizeof version, device->platform, CL_PLATFORM_VERSION));
    snprintf(device->platform_name, sizeof device->platform_name, "%s %s", name, version);
    device->vendor = device_name_vendor(name, vendor, device->vendor_name);
    device_name_stem(device->slug, sizeof device->slug, device->vendor, device->name);
    device_name_architecture(device->architecture, sizeof device->architecture, device->vendor,
                             device->name, device_version);
out:
    return st;
}

/* NVIDIA's device names are product names; the extension tells the instruction set. */
static void read_compute_capability(struct device *device) {
    cl_uint major = 0, minor = 0;
    if (device->vendor == VENDOR_NVIDIA &&
        clGetDeviceInfo(device->id, CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV, sizeof major, &major,
                        NULL) == CL_SUCCESS &&
        clGetDeviceInfo(device->id, CL_DEVICE_COMPUTE_CAPABILITY_MINOR_NV, sizeof minor, &minor,
                        NULL) == CL_SUCCESS)
        snprintf(device->architecture, sizeof device->architecture, "sm_%u%u", major, minor);
}

/* Extension cl_intel_required_subgroup_size. */
static void read_sub_groups(struct device *device) {
    size_t lanes[8] = {0}, bytes = 0;
    if (device->vendor != VENDOR_INTEL || device->is_cpu ||
        clGetDeviceInfo(device->id, CL_DEVICE_SUB_GROUP_SIZES_INTEL, sizeof lanes, lanes, &bytes) !=
            CL_SUCCESS)
        return;
    for (size_t i = 0; i < bytes / sizeof *lanes; i++)
        if (device->least_lanes == 0 || lanes[i] < device->least_lanes)
            device->least_lanes = (unsigned)lanes[i];
}

/* ---------------------------------------------------------------- what the host tells ------ */

/* 0 when the instruction set does not tell. */
static unsigned host_f32_lanes(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("avx512f") ? 16 : __builtin_cpu_supports("avx") ? 8 : 4;
#else
    return 0;
#endif
}

/* Drivers report 0, 1, or more than the CPU has; the host knows the upper bound. */
static unsigned cpu_f32_lanes(cl_device_id id) {
    const unsigned host = host_f32_lanes();
    cl_uint told = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof told, &told, NULL) !=
        CL_SUCCESS)
        told = 0;
    if (told != 4 && told != 8 && told != 16)
        told = host != 0 ? host : 4;
    return host != 0 && told > host ? host : told;
}

unsigned device_units(const struct device *device) {
    enum { INTEL_PARTS = 8 };
    return device->vendor == VENDOR_INTEL && device->compute_units > INTEL_PARTS
               ? device->compute_units / INTEL_PARTS
               : device->compute_units;
}

bool device_is_amd(const struct device *device, const char *architecture) {
    return device->vendor == VENDOR_AMD &&
           strncmp(device->architecture, architecture, strlen(architecture)) == 0;
}

bool device_is_cdna(const struct device *device) {
    return device_is_amd(device, "gfx90a") || device_is_amd(device, "gfx94") ||
           device_is_amd(device, "gfx95");
}

unsigned device_lane_registers(const struct device *device) {
    switch (device->vendor) {
    case VENDOR_INTEL: /* a register has a word of each lane */
        return device_has_many_registers(device) ? 256 : 128;
    case VENDOR_AMD: /* those for accumulators serve for all else, too */
        return device_is_cdna(device) ? 512 : 256;
    default:
        return 0;
    }
}

unsigned device_vector_registers(const struct device *device) {
#if defined(__i386__)
    (void)device;
    return 8;
#elif defined(__x86_64__)
    return device->f32_lanes >= 16 ? 32 : 16;
#else
    (void)device;
    return 32; /* NEON, VSX, RISC-V */
#endif
}

/* A file of one number with a unit, "32K", or of one word; "" when there is none. */
static void read_line(char *out, int size, const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(out, size, file) == NULL)
        out[0] = '\0';
    if (file != NULL)
        fclose(file);
}

/* sysconf knows caches on x86 only; Linux tells them of every CPU. */
static size_t sysfs_cache_bytes(int level) {
    for (int index = 0; index < 8; index++) {
        char path[96], line[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        read_line(line, sizeof line, path);
        if (atoi(line) != level)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        read_line(line, sizeof line, path);
        if (strncmp(line, "Instruction", 11) == 0)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        read_line(line, sizeof line, path);
        char *unit = line;
        const unsigned long number = strtoul(line, &unit, 10);
        return (size_t)number << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : 0);
    }
    return 0;
}

static size_t cache_bytes(int level, int name) {
    const long told = sysconf(name);
    return told > 0 ? (size_t)told : sysfs_cache_bytes(level);
}

/* Mesa's llvmpipe has a CPU run what was written for a GPU: work-items are the lanes of its
 * vectors, and it leaves loops after 65535 passes (docs/devices.md). */
static bool is_emulated_gpu(const struct device *device) {
    return strncmp(device->name, "llvmpipe", 8) == 0;
}

static void read_host(struct device *device) {
    device->f32_lanes = 1;
    if (!device->is_cpu)
        return;
    device->f32_lanes = cpu_f32_lanes(device->id);
    device->l1_bytes = cache_bytes(1, _SC_LEVEL1_DCACHE_SIZE);
    device->l2_bytes = cache_bytes(2, _SC_LEVEL2_CACHE_SIZE);
}

clat_status device_open(struct device *device, cl_context cl, cl_device_id id, struct cache *cache,
                        const struct logger *log) {
    clat_status st = CLAT_OK;
    *device = (struct device){.id = id, .cl = cl, .cache = cache, .log = log};
    memset(device->verdict, -1, sizeof device->verdict);
    TRY(read_numbers(device));
    TRY(read_names(device));
    read_compute_capability(device);
    read_sub_groups(device);
    device->is_cpu &= !is_emulated_gpu(device);
    read_host(device);
    pthread_mutex_init(&device->probe_lock, NULL);
    log_printf(log, CLAT_LOG_INFO, "device %s (%s), driver %s, architecture %s", device->name,
               device->platform_name, device->driver, device->architecture);
out:
    return st;
}

void device_close(struct device *device) {
    pthread_mutex_destroy(&device->probe_lock);
}
