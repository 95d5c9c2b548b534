#include "device_name.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *part;
    enum vendor vendor;
} vendor_marks[] = {
    {"Portable Computing Language", VENDOR_POCL},
    {"rusticl", VENDOR_MESA},
    {"Clover", VENDOR_MESA},
    {"Mesa", VENDOR_MESA},
    {"NVIDIA", VENDOR_NVIDIA},
    {"Advanced Micro Devices", VENDOR_AMD},
    {"AMD", VENDOR_AMD},
    {"Intel", VENDOR_INTEL},
};

enum vendor device_name_vendor(const char *platform_name, const char *platform_vendor,
                               const char *device_vendor) {
    const char *const texts[] = {platform_name, platform_vendor, device_vendor};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (size_t j = 0; j < sizeof vendor_marks / sizeof vendor_marks[0]; j++)
            if (strcasestr(texts[i], vendor_marks[j].part) != NULL)
                return vendor_marks[j].vendor;
    return VENDOR_OTHER;
}

const char *device_vendor_slug(enum vendor vendor) {
    switch (vendor) {
    case VENDOR_NVIDIA:
        return "nvidia";
    case VENDOR_AMD:
        return "amd";
    case VENDOR_INTEL:
        return "intel";
    case VENDOR_POCL:
        return "pocl";
    case VENDOR_MESA:
        return "mesa";
    case VENDOR_OTHER:
        break;
    }
    return "other";
}

/* Length of a trade mark sign at `text`, else 0. */
static size_t trade_mark(const char *text) {
    static const char *const marks[] = {"(R)", "(TM)", "(C)"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (strncasecmp(text, marks[i], strlen(marks[i])) == 0)
            return strlen(marks[i]);
    return 0;
}

void device_name_slug(char *out, size_t size, const char *text) {
    size_t length = 0;
    bool dash = false;
    while (*text != '\0' && length + 2 < size) {
        const size_t mark = trade_mark(text);
        const unsigned char c = (unsigned char)*text;
        text += mark != 0 ? mark : 1;
        /* ASCII only, whatever the locale. */
        if (mark != 0 || c >= 128 || !isalnum(c)) {
            dash = length > 0;
            continue;
        }
        if (dash)
            out[length++] = '-';
        dash = false;
        out[length++] = (char)tolower(c);
    }
    out[length] = '\0';
    if (length == 0)
        snprintf(out, size, "unknown");
}

/* PoCL puts its driver before the name of a CPU, and renamed that driver: "pthread-skylake...",
 * "cpu-skylake...". */
static const char *without_pocl_driver(const char *name) {
    static const char *const drivers[] = {"pthread-", "cpu-", "basic-"};
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++)
        if (strncmp(name, drivers[i], strlen(drivers[i])) == 0)
            return name + strlen(drivers[i]);
    return name;
}

void device_name_stem(char *out, size_t size, enum vendor vendor, const char *name) {
    const char *prefix = device_vendor_slug(vendor);
    char slug[256];
    device_name_slug(slug, sizeof slug, vendor == VENDOR_POCL ? without_pocl_driver(name) : name);
    const bool has_prefix = strncmp(slug, prefix, strlen(prefix)) == 0;
    const int length =
        snprintf(out, size, "%s%s%s", has_prefix ? "" : prefix, has_prefix ? "" : "-", slug);
    if (length > 0 && (size_t)length >= size && out[size - 2] == '-')
        out[size - 2] = '\0';
}

/* "OpenCL 3.0 PoCL HSTR: pthread-x86_64-pc-linux-gnu-skylake-avx512": driver, target triple of four
 * parts, and then the CPU that PoCL compiles for. NULL when there is no such thing. */
static const char *pocl_cpu(const char *version) {
    const char *at = strstr(version, "HSTR: ");
    for (int dashes = 0; at != NULL && dashes < 5; dashes++) {
        at = strchr(at, '-');
        if (at != NULL)
            at++;
    }
    return at;
}

void device_name_architecture(char *out, size_t size, enum vendor vendor, const char *name,
                              const char *version) {
    char chip[64];
    const char *from = name;
    if (vendor == VENDOR_POCL) {
        const char *cpu = pocl_cpu(version);
        from = cpu != NULL && *cpu != '\0' ? cpu : without_pocl_driver(name);
    } else if (vendor == VENDOR_AMD && strncmp(name, "gfx", 3) == 0) {
        /* "gfx90a:sramecc+:xnack-": the features are settings, not the chip. */
        snprintf(chip, sizeof chip, "%.*s", (int)strcspn(name, ":"), name);
        from = chip;
    }
    device_name_slug(out, size, from);
}
