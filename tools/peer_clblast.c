/* CLBlast's GEMM on the trial's own buffers and queue. */
#include "clblast.h"
#include "peer.h"

#include <stdlib.h>
#include <string.h>

struct state {
    struct clblast_gemm gemm;
    cl_command_queue queue;
};

/* The library does not tell; the build knows. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static const char *version(void) {
    return TEXT(CLBLAST_VERSION);
}

static bool has_extension(cl_device_id device, const char *name) {
    char text[8192] = "";
    return clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof text, text, NULL) == CL_SUCCESS &&
           strstr(text, name);
}

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    const cl_device_id device = clat_context_device(ctx);
    if (spec->op != SPEC_GEMM)
        snprintf(why, PEER_WHY_BYTES, "it has no attention (see the peer unfused)");
    else if (spec->dtype == CLAT_BF16)
        snprintf(why, PEER_WHY_BYTES, "it has no bf16");
    else if (spec->dtype == CLAT_F16 && !has_extension(device, "cl_khr_fp16"))
        snprintf(why, PEER_WHY_BYTES, "its f16 needs cl_khr_fp16, which the device lacks");
    else if (spec->dtype == CLAT_F64 && !has_extension(device, "cl_khr_fp64"))
        snprintf(why, PEER_WHY_BYTES, "its f64 needs cl_khr_fp64, which the device lacks");
    else
        return true;
    return false;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    clblast_gemm_free(&state->gemm);
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    (void)ctx;
    const bool col = spec->layout == CLAT_COL_MAJOR;
    size_t a, b, c;
    state->queue = clat_trial_queue(trial);
    state->gemm = (struct clblast_gemm){
        .dtype = spec->dtype,
        .layout = spec->layout,
        .trans_a = spec->trans_a,
        .trans_b = spec->trans_b,
        .m = spec->m,
        .n = spec->n,
        .k = spec->k,
        .lda = spec->trans_a != col ? spec->m : spec->k,
        .ldb = spec->trans_b != col ? spec->k : spec->n,
        .ldc = col ? spec->m : spec->n,
        .alpha = 1,
        .a = clat_trial_buffer(trial, "a", &a),
        .b = clat_trial_buffer(trial, "b", &b),
        .c = clat_trial_buffer(trial, "c", &c),
    };
    if (!clblast_gemm_offsets(&state->gemm, spec->batch))
        return false;
    for (size_t i = 0; i < spec->batch; i++) {
        state->gemm.a_offset[i] = a + i * spec->m * spec->k;
        state->gemm.b_offset[i] = b + i * spec->k * spec->n;
        state->gemm.c_offset[i] = c + i * spec->m * spec->n;
    }
    return clblast_gemm_prepare(&state->gemm, state->queue);
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    for (unsigned i = 0; i < repeats; i++)
        if (!clblast_gemm_enqueue(&state->gemm, state->queue))
            return false;
    return tool_cl(clFinish(state->queue), "clFinish");
}

const struct peer peer_clblast = {.name = "clblast",
                                  .state_bytes = sizeof(struct state),
                                  .supports = supports,
                                  .open = open_state,
                                  .run = run,
                                  .close = close_state,
                                  .describe = clblast_describe,
                                  .library = "CLBlast",
                                  .version = version};
