/* Instructions of the CPU this runs on that no OpenCL driver reports. */
#ifndef CLAT_HOST_CPU_H
#define CLAT_HOST_CPU_H

#include <stdbool.h>

/* AVX512_BF16 (VDPBF16PS) exists; and it is faster than multiply-adds of f32. */
bool host_has_bf16_dot(void);
bool host_gains_by_bf16_dot(void);

/* AMX tiles of bf16 exist, in the CPU and for the kernel. */
bool host_has_bf16_tiles(void);

/* And the kernel lets this process use them: on Linux that takes asking,
 * once, for the whole process, threads that exist already included. Asking again is harmless. */
bool host_allows_bf16_tiles(void);

#endif
