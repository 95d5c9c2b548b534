/* Finding a device among all platforms. Whatever one platform does, the others are not affected. */
#include "device.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLATFORMS = 64, MAX_DEVICES = 256, NAME_BYTES = 256 };

struct candidate {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
    bool usable; /* answers, and can compile */
    char name[NAME_BYTES], platform_name[NAME_BYTES];
};

struct candidates {
    struct candidate *list;
    size_t count;
};

static bool device_flag(cl_device_id id, cl_device_info what) {
    cl_bool flag = CL_FALSE;
    return clGetDeviceInfo(id, what, sizeof flag, &flag, NULL) == CL_SUCCESS && flag != CL_FALSE;
}

static void describe(struct candidate *candidate) {
    const cl_device_id id = candidate->id;
    cl_int err =
        clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof candidate->type, &candidate->type, NULL);
    if (err == CL_SUCCESS)
        err = clGetDeviceInfo(id, CL_DEVICE_NAME, NAME_BYTES, candidate->name, NULL);
    candidate->usable = err == CL_SUCCESS && device_flag(id, CL_DEVICE_AVAILABLE) &&
                        device_flag(id, CL_DEVICE_COMPILER_AVAILABLE);
}

static clat_status add_platform(struct candidates *all, cl_platform_id platform) {
    cl_device_id ids[MAX_DEVICES];
    cl_uint count = 0;
    if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &count) != CL_SUCCESS)
        return CLAT_OK;
    if (count > MAX_DEVICES)
        count = MAX_DEVICES;
    const size_t bytes = (all->count + count) * sizeof *all->list;
    struct candidate *list = count > 0 ? realloc(all->list, bytes) : all->list;
    if (list == NULL && count > 0)
        return status_no_memory(bytes);
    all->list = list;
    for (cl_uint i = 0; i < count; i++) {
        struct candidate *candidate = &list[all->count++];
        *candidate = (struct candidate){.platform = platform, .id = ids[i]};
        if (clGetPlatformInfo(platform, CL_PLATFORM_NAME, NAME_BYTES, candidate->platform_name,
                              NULL) != CL_SUCCESS)
            candidate->platform_name[0] = '\0';
        describe(candidate);
    }
    return CLAT_OK;
}

static clat_status list_devices(struct candidates *all) {
    clat_status st = CLAT_OK;
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint count = 0;
    /* An error here is how the loader says that it has no platform. */
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &count) != CL_SUCCESS)
        count = 0;
    for (cl_uint i = 0; i < count && i < MAX_PLATFORMS; i++)
        TRY(add_platform(all, platforms[i]));
out:
    return st;
}

/* The first usable device that matches, else the first that matches, else NULL. */
static const struct candidate *first(const struct candidates *all, cl_device_type type,
                                     const char *part) {
    const struct candidate *found = NULL;
    for (size_t i = 0; i < all->count; i++) {
        const struct candidate *candidate = &all->list[i];
        /* A device that does not even tell its type still counts among all. */
        if ((type != CL_DEVICE_TYPE_ALL && (candidate->type & type) == 0) ||
            (part != NULL && strcasestr(candidate->name, part) == NULL &&
             strcasestr(candidate->platform_name, part) == NULL))
            continue;
        if (candidate->usable)
            return candidate;
        if (found == NULL)
            found = candidate;
    }
    return found;
}

static const struct candidate *by_default(const struct candidates *all) {
    const struct candidate *gpu = first(all, CL_DEVICE_TYPE_GPU, NULL);
    return gpu != NULL && gpu->usable ? gpu : first(all, CL_DEVICE_TYPE_ALL, NULL);
}

/* A number is an index; one that is too large for that may still be part of a name ("4090"). */
static const struct candidate *by_name(const struct candidates *all, const char *wanted) {
    char *end = NULL;
    errno = 0;
    const unsigned long long index = strtoull(wanted, &end, 10);
    if (wanted[0] >= '0' && wanted[0] <= '9' && *end == '\0' && errno == 0 && index < all->count)
        return &all->list[index];
    return first(all, CL_DEVICE_TYPE_ALL, wanted);
}

static clat_status fail_with_list(const struct candidates *all, const char *what,
                                  const char *name) {
    struct text list = {0};
    for (size_t i = 0; i < all->count; i++)
        text_printf(&list, "%s%zu: %s (%s)%s", i > 0 ? "; " : "", i, all->list[i].name,
                    all->list[i].platform_name, all->list[i].usable ? "" : ", not available");
    const clat_status st = status_fail(CLAT_INVALID_DEVICE, "%s \"%s\"; there are: %s", what, name,
                                       text_string(&list));
    text_free(&list);
    return st;
}

clat_status device_choose(cl_platform_id *platform, cl_device_id *id, const char *wanted) {
    clat_status st = CLAT_OK;
    struct candidates all = {0};
    *platform = NULL;
    *id = NULL;
    TRY(list_devices(&all));
    if (all.list == NULL)
        TRY(status_fail(CLAT_INVALID_DEVICE,
                        "there is no OpenCL device: install the GPU vendor's OpenCL driver, or "
                        "PoCL (pocl-opencl-icd) to compute on the CPU"));
    if (wanted == NULL)
        wanted = getenv("CLATTICE_DEVICE");
    const bool any = wanted == NULL || wanted[0] == '\0';
    const struct candidate *chosen = any ? by_default(&all) : by_name(&all, wanted);
    if (chosen == NULL) {
        st = fail_with_list(&all, "no device matches", wanted);
    } else if (!chosen->usable) {
        st = fail_with_list(&all, "not available: device", chosen->name);
    } else {
        *platform = chosen->platform;
        *id = chosen->id;
    }
out:
    free(all.list);
    return st;
}
