#include "engine.h"

#include <string.h>

/* By priority among those that one device may have. Shapes and lanes as in cl/mma/. */
const struct engine engines[] = {
    {"nv_sm80", CAP_MMA_NV_SM80, 32, 8, 16, 1, 255, .bf16 = true, .tf32 = true, .async = true,
     .turns = true},
    {"nv_sm75", CAP_MMA_NV_SM75, 32, 8, 16, 1, 255, .turns = true},
    {"intel_dpas16", CAP_MMA_INTEL_DPAS16, 16, 8, 16, 1, 176, .bf16 = true, .turns = true,
     .blocks = true},
    {"intel_dpas8", CAP_MMA_INTEL_DPAS8, 8, 8, 8, 1, 176, .bf16 = true, .turns = true,
     .blocks = true},
    {"amd_mfma", CAP_MMA_AMD_MFMA, 64, 16, 16, 1, 512, .bf16 = true},
    {"amd_wmma12", CAP_MMA_AMD_WMMA12, 32, 16, 16, 1, 256, .bf16 = true},
    {"amd_wmma11", CAP_MMA_AMD_WMMA11, 32, 16, 16, 2, 256, .bf16 = true},
};

const unsigned n_engines = sizeof engines / sizeof *engines;

const struct engine *engine_named(const char *name) {
    for (unsigned i = 0; i < n_engines; i++)
        if (strcmp(engines[i].name, name) == 0)
            return &engines[i];
    return NULL;
}

bool engine_takes(const struct engine *engine, clat_dtype dtype) {
    return dtype == CLAT_F16 || (dtype == CLAT_BF16 && engine->bf16) ||
           (dtype == CLAT_F32 && engine->tf32);
}

const struct engine *engine_find(const struct device *device, clat_dtype dtype) {
    if (device->emulated_engine != NULL)
        return engine_takes(device->emulated_engine, dtype) ? device->emulated_engine : NULL;
    for (unsigned i = 0; i < n_engines; i++)
        if (engine_takes(&engines[i], dtype) && device_can(device, engines[i].proof))
            return &engines[i];
    return NULL;
}

bool engine_keeps_denormals(const struct device *device, const struct engine *engine) {
    return engine->proof != CAP_MMA_AMD_MFMA || strncmp(device->architecture, "gfx90a", 6) != 0;
}

unsigned engine_k(clat_dtype dtype) {
    return dtype == CLAT_F32 ? 8 : 16;
}

unsigned engine_chunk(clat_dtype dtype) {
    return 16 / (unsigned)clat_dtype_bytes(dtype);
}

unsigned engine_fragment_registers(const struct engine *engine, clat_dtype dtype, size_t lefts,
                                   size_t rights) {
    const size_t elements = (lefts * engine->m + rights * engine->n) * engine_k(dtype);
    return (unsigned)(elements * clat_dtype_bytes(dtype) * engine->copies / engine->lanes / 4);
}

void engine_define(struct text *defines, const struct device *device, const struct engine *engine,
                   clat_dtype dtype) {
    text_printf(defines, "#define MMA_ENGINE %s\n#define MMA_EMULATED %d\n#define MMA_TYPE %s\n",
                engine->name, device->emulated_engine != NULL,
                dtype == CLAT_F32 ? "tf32" : clat_dtype_name(dtype));
    if (engine->blocks)
        text_printf(defines, "#define MMA_BLOCK_READS %d\n",
                    device->emulated_engine == NULL && device_can(device, CAP_BLOCK_READS));
}

/* See MMA_SCRATCH in cl/mma/emulated.clh: matrices, once or twice, or two values of each lane. */
size_t engine_scratch_bytes(const struct device *device, const struct engine *engine,
                            clat_dtype dtype, size_t lefts, size_t rights) {
    const size_t k = engine_k(dtype), copies = engine->copies;
    if (device->emulated_engine == NULL)
        return 0;
    return (copies * k * (lefts * engine->m + rights * engine->n) + rights * 2 * engine->lanes) *
           sizeof(float);
}
