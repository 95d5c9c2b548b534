/* Kernel launches of the library, seen by this program: its own clEnqueueNDRangeKernel comes before
 * the loader's. */
#ifndef LAUNCHES_H
#define LAUNCHES_H

#include "tool.h"

enum { LAUNCHES_MAX = 8 };

struct launches {
    unsigned count; /* may be more than were kept */
    struct launch {
        cl_kernel kernel; /* borrowed; its arguments stay as they were set */
        cl_uint dims;
        size_t global[3], local[3];
        bool has_local;
    } launch[LAUNCHES_MAX];
};

/* Launches between the two are noted in `out`. */
void launches_watch(struct launches *out);
void launches_ignore(void);

/* Enqueues them again, by the loader's function. */
cl_int launches_repeat(const struct launches *launches, cl_command_queue queue);

#endif
