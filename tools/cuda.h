/*
 * Memory of an NVIDIA card beside OpenCL's, for peers that compute there. CUDA's driver library is
 * loaded when first asked for; nothing is linked. One card at a time.
 */
#ifndef CUDA_H
#define CUDA_H

#include "tool.h"

/* Makes CUDA's context of this very card the thread's. false: `why` gets half a sentence. Cheap
 * when it is so already. */
bool cuda_begin(cl_device_id device, char *why, size_t why_bytes);
void cuda_end(void);

/* A buffer with these bytes, or full of NaN where `data` is NULL. 0 after an error. */
uint64_t cuda_buffer(size_t bytes, const void *data);
void cuda_free(uint64_t buffer); /* 0 is fine */
bool cuda_read(void *out, uint64_t buffer, size_t bytes);

/* Waits for all that was enqueued. */
bool cuda_finish(void);

/* Fills each `*where` with the function of that name. false: `why` knows which one is missing. */
struct cuda_symbol {
    const char *name;
    void *where; /* points to a function pointer */
};
bool cuda_symbols(void *library, const struct cuda_symbol *symbols, size_t count, char *why,
                  size_t why_bytes);

#endif
