/*
 * Instructions that NVIDIA's OpenCL compiler refuses. It makes PTX for sm_90; wgmma and others of
 * Hopper's belong to sm_90a. Kernels hold them as comments of PTX, each on a line of its own,
 *
 *     __asm__ volatile("//@wgmma.fence.sync.aligned;" : : : "memory");
 *
 * which the compiler passes on and the assembler skips. The program that it builds is text: here
 * the marks are taken away, the target becomes sm_90a, and what comes out is built as a binary.
 * That is the program then, and what the disk cache keeps. A driver that does not play along gives
 * an error, never another program: CAP_WGMMA is proven by a kernel that goes the same way.
 */
#ifndef CLAT_PTX_H
#define CLAT_PTX_H

#include "device.h"
#include "text.h"

/* Whether a kernel's source, or PTX, has marked instructions. */
bool ptx_is_marked(const char *text);

/* Appends `ptx` for sm_90a with its marked instructions in force; false when it is no PTX for
 * sm_90. Where work-items exchange registers (setmaxnreg), ptxas wants to be told that work-groups
 * have a multiprocessor to themselves. */
bool ptx_unmark(struct text *out, const char *ptx);

/* Builds the finished program from `program`, which was built from a marked source.
 * CL_INVALID_BINARY: the driver's binary is no PTX for sm_90. *out may be a program also on
 * failure, for its log; it is to be released if not NULL. */
cl_int ptx_finish(cl_program *out, const struct device *device, cl_program program,
                  const char *options);

#endif
