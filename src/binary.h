/* What a driver made of a program, for one of the devices it was built for. */
#ifndef CLAT_BINARY_H
#define CLAT_BINARY_H

#include "status.h"

/* malloc'ed, with a NUL behind it that *size does not count; NULL when the driver gives none. */
char *binary_read(cl_program program, cl_device_id device, size_t *size);

#endif
