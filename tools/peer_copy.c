/*
 * What a GPU's memory can do: the driver's own copy of half as many bytes as the problem has, which
 * reads the one half and writes the other, each time at another place of a buffer that no cache
 * holds.
 */
#include "peer.h"

/* Places for as many copies as no cache holds, or for two. */
enum { ALIGNMENT = 256 };
static const size_t far_bytes = (size_t)1 << 30;

struct state {
    cl_command_queue queue; /* the trial's */
    cl_mem buffer;
    size_t bytes, size; /* of a copy, of the buffer */
    size_t next;        /* where a copy's source begins */
};

static bool is_about_memory(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    if (tool_is_cpu(clat_context_device(ctx))) {
        snprintf(why, PEER_WHY_BYTES, "it is about GPUs");
        return false;
    }
    snprintf(why, PEER_WHY_BYTES, "it is about products with a vector and single queries");
    return spec->op == SPEC_GEMM ? spec->m == 1 || spec->n == 1
                                 : spec->op == SPEC_ATTENTION && spec->seq_q == 1;
}

static bool open_copy(void *opaque, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct state *state = opaque;
    cl_int code;
    state->queue = clat_trial_queue(trial);
    state->bytes = ((size_t)(spec_bytes(spec) / 2) / ALIGNMENT + 1) * ALIGNMENT;
    state->size = 4 * state->bytes > far_bytes ? 4 * state->bytes : far_bytes;
    state->buffer =
        clCreateBuffer(clat_context_cl(ctx), CL_MEM_READ_WRITE, state->size, NULL, &code);
    const cl_uchar zero = 0;
    return tool_cl(code, "clCreateBuffer") &&
           tool_cl(clEnqueueFillBuffer(state->queue, state->buffer, &zero, sizeof zero, 0,
                                       state->size, 0, NULL, NULL),
                   "clEnqueueFillBuffer");
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    for (unsigned i = 0; i < repeats; i++) {
        if (state->next + 2 * state->bytes > state->size)
            state->next = 0;
        if (!tool_cl(clEnqueueCopyBuffer(state->queue, state->buffer, state->buffer, state->next,
                                         state->next + state->bytes, state->bytes, 0, NULL, NULL),
                     "clEnqueueCopyBuffer"))
            return false;
        state->next += 2 * state->bytes;
    }
    return tool_cl(clFinish(state->queue), "clFinish");
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    if (state->buffer)
        clReleaseMemObject(state->buffer);
}

const struct peer peer_copy = {.name = "copy",
                               .state_bytes = sizeof(struct state),
                               .supports = is_about_memory,
                               .open = open_copy,
                               .run = run,
                               .judge = peer_always_right,
                               .close = close_state};
