/* A plain row softmax on the device, for the unfused attention. */
#ifndef SOFTMAX_H
#define SOFTMAX_H

#include "tool.h"

struct softmax {
    cl_program program;
    cl_kernel kernel;
    size_t group; /* work-items for one row */
};

bool softmax_open(struct softmax *out, clat_context *ctx);
void softmax_close(struct softmax *softmax);

/*
 * In place on `rows` rows of seq_k scores, of which row r belongs to query i = r % seq_q and sees
 * keys i - left .. i + right; 0 elsewhere, and in rows that see nothing.
 */
bool softmax_enqueue(const struct softmax *softmax, cl_command_queue queue, cl_mem scores,
                     size_t rows, size_t seq_q, size_t seq_k, int64_t left, int64_t right);

#endif
