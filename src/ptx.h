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
 *
 * A mark before a dot is a directive of the kernel in whose body it stands, and goes to its head:
 *
 *     __asm__ volatile("//@.minnctapersm 2" : : : "memory");
 */
#ifndef CLAT_PTX_H
#define CLAT_PTX_H

#include "device.h"
#include "text.h"

/* Names what is done here, for the keys of caches: to be changed with it. */
#define PTX_STEP "ptx 2"

/* Whether a kernel's source, or PTX, has marked instructions. */
bool ptx_is_marked(const char *text);

/* Appends `ptx` for sm_90a with its marked instructions in force; false when it is no PTX for sm_90
 * or has none. */
bool ptx_unmark(struct text *out, const char *ptx);

/* Builds the finished program from `program`, which was built from a marked source.
 * CL_INVALID_BINARY: the driver's binary is no PTX for sm_90, or holds none of the marks. *out may
 * be a program also on failure, for its log; it is to be released if not NULL. */
cl_int ptx_finish(cl_program *out, const struct device *device, cl_program program,
                  const char *options);

#endif
