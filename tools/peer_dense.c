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
    if (!state)
        return;
    clat_trial_release(state->trial);
    clat_plan_release(state->plan);
    free(state);
}

static bool open_state(void **out, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct state *state = calloc(1, sizeof *state);
    struct spec dense = *spec;
    bool ok = false;
    (void)trial;
    dense.mask = (struct mask_spec){.form = MASK_FULL};
    if (!state) {
        tool_error("out of memory");
        goto out;
    }
    TRY(spec_plan(&state->plan, ctx, &dense));
    TRY(tool_clat(clat_trial_create(&state->trial, state->plan, 1)));
    ok = true;
out:
    if (!ok) {
        close_state(state);
        state = NULL;
    }
    *out = state;
    return ok;
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
                                .supports = supports,
                                .open = open_state,
                                .run = run,
                                .judge = judge,
                                .close = close_state};
