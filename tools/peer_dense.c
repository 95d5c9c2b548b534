/* Our own attention with every key visible: what a mask saves. */
#include "peer.h"

#include <stdlib.h>

struct state {
    clat_plan *plan;
    clat_trial *trial;
};

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    if (spec->op != SPEC_GEMM && spec->mask.form != MASK_FULL)
        return true;
    snprintf(why, PEER_WHY_BYTES, "there is no mask to leave out");
    return false;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    clat_trial_release(state->trial);
    clat_plan_release(state->plan);
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    struct spec dense = *spec;
    (void)trial;
    dense.mask = (struct mask_spec){.form = MASK_FULL};
    return spec_plan(&state->plan, ctx, &dense) &&
           tool_clat(clat_trial_create(&state->trial, state->plan, 1));
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    double seconds;
    return tool_clat(clat_trial_time(state->trial, state->plan, repeats, &seconds));
}

static bool judge(void *opaque, clat_verdict *out) {
    struct state *state = opaque;
    return tool_clat(clat_trial_verify(state->trial, state->plan, out));
}

const struct peer peer_dense = {.name = "dense",
                                .rest_seconds = 1e-3,
                                .state_bytes = sizeof(struct state),
                                .supports = supports,
                                .open = open_state,
                                .run = run,
                                .judge = judge,
                                .close = close_state};
