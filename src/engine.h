/* Matrix engines (cl/mma/mma.clh): what there is, what a device has, what a kernel must be told. */
#ifndef CLAT_ENGINE_H
#define CLAT_ENGINE_H

#include "device.h"
#include "text.h"

struct engine {
    const char *name; /* MMA_ENGINE: "nv_sm80" */
    enum capability proof;
    unsigned lanes, m, n; /* of a sub-group; rows and columns of fragments */
    unsigned copies;      /* lanes that hold the same element of an operand */
    unsigned registers;   /* of a lane, 32 bits each */
    bool bf16, tf32;      /* also, beside f16 */
    bool async;           /* copies to local memory that bypass registers */
    bool turns;           /* loads of turned 16-bit tiles are as fast as plain ones (MMA_TURNS) */
    bool blocks;          /* fragments come by block reads where CAP_BLOCK_READS is proven */
};

extern const struct engine engines[];
extern const unsigned n_engines;

/* By name, for tests; NULL when there is none. */
const struct engine *engine_named(const char *name);

/* The engine of `device` that multiplies elements of `dtype`, CLAT_F32 as tf32; NULL when it has
 * none. A device whose `emulated_engine` is set has that one and no other. */
const struct engine *engine_find(const struct device *device, clat_dtype dtype);

/* Whether it multiplies them. */
bool engine_takes(const struct engine *engine, clat_dtype dtype);

/* Whether denormal operands of 16 bits count: MI200's matrix instructions take them for 0. */
bool engine_keeps_denormals(const struct device *device, const struct engine *engine);

/* Depth of fragments; elements in 16 bytes. */
unsigned engine_k(clat_dtype dtype);
unsigned engine_chunk(clat_dtype dtype);

/* Registers of a lane for fragments of left and right, side by side. */
unsigned engine_fragment_registers(const struct engine *engine, clat_dtype dtype, size_t lefts,
                                   size_t rights);

/* The contract of mma.clh. */
void engine_define(struct text *defines, const struct device *device, const struct engine *engine,
                   clat_dtype dtype);

/* Local memory that the emulation takes on top for each sub-group with that many fragments of both
 * operands, at most; 0 where the engine is the device's own. */
size_t engine_scratch_bytes(const struct device *device, const struct engine *engine,
                            clat_dtype dtype, size_t lefts, size_t rights);

#endif
