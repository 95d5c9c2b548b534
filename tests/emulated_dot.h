/*
 * The instructions of cl/bf16_dot.clh in plain OpenCL C, so that what is made of them runs on every
 * CPU: a directory of kernels with another file of that name.
 */
#ifndef CLAT_EMULATED_DOT_H
#define CLAT_EMULATED_DOT_H

#include "harness.h"

enum emulated_dot {
    DOT_WHOLE,
    DOT_HALF /* forgets the lower elements of all pairs: tests must see it */
};

/* To be used as clat_context_options.kernel_dir. */
const char *emulated_dot_kernels(enum emulated_dot how);

#endif
