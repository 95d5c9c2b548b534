/* What the names that drivers give tell about a device. Pure string work, for table-driven tests.
 */
#ifndef CLAT_DEVICE_NAME_H
#define CLAT_DEVICE_NAME_H

#include "device.h"

/* From the platform's name and vendor and the device's vendor; the platform decides first: PoCL on
 * an Intel CPU is PoCL. */
enum vendor device_name_vendor(const char *platform_name, const char *platform_vendor,
                               const char *device_vendor);

/* Lower case, everything but letters and digits as single dashes, "(R)" and "(TM)" dropped. */
void device_name_slug(char *out, size_t size, const char *text);

/* The stem of file names: vendor and device name, the same for all driver versions. */
void device_name_stem(char *out, size_t size, enum vendor vendor, const char *name);

/* What code is tuned for, as far as names tell; `version` is CL_DEVICE_VERSION. */
void device_name_architecture(char *out, size_t size, enum vendor vendor, const char *name,
                              const char *version);

#endif
