/* A device for what the host decides: an H100 that nobody needs to have. */
#ifndef CLAT_HOPPER_DEVICE_H
#define CLAT_HOPPER_DEVICE_H

#include "device.h"

/* CAP_WGMMA and CAP_LARGE_LOCAL are proven. Its probe_lock is to be destroyed. */
struct device hopper_device(void);

#endif
