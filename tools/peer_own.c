/* Our own plans at other work than the problem, whose rate is compared with the problem's. Each
 * runs on operands of its own and is verified there. */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

struct state {
    clat_plan *plan;
    clat_trial *trial;
    double scale;
};

static void close_state(void *opaque) {
    struct state *state = opaque;
    clat_trial_release(state->trial);
    clat_plan_release(state->plan);
}

static bool open_with(struct state *state, clat_context *ctx, const struct spec *spec) {
    state->scale = 1;
    return spec_plan(&state->plan, ctx, spec) &&
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

static double scale(const void *opaque) {
    const struct state *state = opaque;
    return state->scale;
}

#define OWN_PEER(name_, supports_, open_)                                                          \
    {                                                                                              \
        .name = (name_), .state_bytes = sizeof(struct state), .supports = (supports_),             \
        .open = (open_), .run = run, .judge = judge, .scale = scale, .close = close_state          \
    }

/* ---- dense: every key visible ---- */

static struct spec unmasked(const struct spec *spec) {
    struct spec dense = *spec;
    dense.mask = (struct mask_spec){.form = MASK_FULL};
    return dense;
}

static bool has_mask(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    if (spec->op != SPEC_GEMM && spec->mask.form != MASK_FULL)
        return true;
    snprintf(why, PEER_WHY_BYTES, "there is no mask to leave out");
    return false;
}

static bool open_dense(void *state, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    const struct spec dense = unmasked(spec);
    (void)trial;
    return open_with(state, ctx, &dense);
}

const struct peer peer_dense = OWN_PEER("dense", has_mask, open_dense);

/* ---- unmodified: without the score modifier ---- */

static bool has_score(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    snprintf(why, PEER_WHY_BYTES, "there is no score modifier to leave out");
    return spec->op == SPEC_ATTENTION && spec->score;
}

static bool open_unmodified(void *state, clat_context *ctx, const struct spec *spec,
                            clat_trial *trial) {
    struct spec plain = *spec;
    plain.score = NULL;
    (void)trial;
    return open_with(state, ctx, &plain);
}

const struct peer peer_unmodified = OWN_PEER("unmodified", has_score, open_unmodified);

/* ---- tiles: what the visited tiles would take if each cost what it costs without a mask ---- */

/* The value of "NAME=12" in a plan's tunables; 0: there is none. */
static size_t tunable(const char *tunables, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = tunables; at && *at; at += *at == ' ') {
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return strtoul(at + length + 1, NULL, 10);
        at += strcspn(at, " ");
    }
    return 0;
}

/* Queries and keys of one tile. */
static bool tile_size(const clat_plan *plan, size_t *queries, size_t *keys) {
    const char *tunables = clat_plan_get_info(plan)->tunables;
    *queries = tunable(tunables, "VW") * tunable(tunables, "NV");
    *keys = tunable(tunables, "BK");
    return *queries > 0 && *keys > 0;
}

static bool has_tiles(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    char plan_why[SPEC_WHY_BYTES];
    clat_plan *plan = NULL;
    size_t queries, keys;
    if (!has_mask(ctx, spec, why))
        return false;
    snprintf(why, PEER_WHY_BYTES, "the plan does not tell its tiles");
    const bool ok = spec->op == SPEC_ATTENTION &&
                    spec_try_plan(&plan, ctx, spec, plan_why) == CLAT_OK &&
                    tile_size(plan, &queries, &keys);
    clat_plan_release(plan);
    return ok;
}

/* Some query of the tile sees some key of it. */
static bool is_visited(const clat_mask *mask, const struct spec *spec, size_t i0, size_t i1,
                       size_t j0, size_t j1) {
    for (size_t i = i0; i < i1; i++)
        for (size_t j = j0; j < j1; j++)
            if (clat_mask_visible(mask, (int64_t)spec->seq_q, (int64_t)spec->seq_k, 0, (int64_t)i,
                                  (int64_t)j))
                return true;
    return false;
}

/* Share of the score matrix that lies in visited tiles; masks here are the same in all heads. */
static double visited_share(const clat_mask *mask, const struct spec *spec, size_t queries,
                            size_t keys) {
    double visited = 0;
    for (size_t i = 0; i < spec->seq_q; i += queries)
        for (size_t j = 0; j < spec->seq_k; j += keys) {
            const size_t i1 = i + queries < spec->seq_q ? i + queries : spec->seq_q;
            const size_t j1 = j + keys < spec->seq_k ? j + keys : spec->seq_k;
            if (is_visited(mask, spec, i, i1, j, j1))
                visited += (double)(i1 - i) * (double)(j1 - j);
        }
    return visited / ((double)spec->seq_q * (double)spec->seq_k);
}

static bool open_tiles(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    clat_plan *plan = NULL;
    clat_mask *mask = NULL;
    size_t queries = 1, keys = 1;
    bool ok = false;
    TRY(open_dense(state, ctx, spec, trial));
    TRY(spec_plan(&plan, ctx, spec) && tile_size(plan, &queries, &keys));
    TRY(tool_clat(mask_spec_create(&mask, &spec->mask, spec->seq_q, spec->seq_k)));
    state->scale = visited_share(mask, spec, queries, keys);
    ok = true;
out:
    clat_mask_release(mask);
    clat_plan_release(plan);
    return ok;
}

const struct peer peer_tiles = OWN_PEER("tiles", has_tiles, open_tiles);

/* ---- gemm: matrix multiplication as fast as we can ---- */

static bool always(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    (void)spec;
    (void)why;
    return true;
}

static bool open_gemm(void *opaque, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct state *state = opaque;
    struct spec gemm = spec_default(SPEC_GEMM);
    clat_plan *plan = NULL;
    (void)trial;
    gemm.dtype = spec->dtype;
    gemm.precision = spec->precision;
    if (!tool_is_cpu(clat_context_device(ctx)))
        gemm.m = gemm.n = gemm.k = 4096;
    if (!open_with(state, ctx, &gemm) || !spec_plan(&plan, ctx, spec))
        return false;
    state->scale = clat_plan_get_info(plan)->flops / clat_plan_get_info(state->plan)->flops;
    clat_plan_release(plan);
    return true;
}

const struct peer peer_gemm = OWN_PEER("gemm", always, open_gemm);

/* ---- f32: the same problem ---- */

static bool is_not_f32(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    snprintf(why, PEER_WHY_BYTES, "the problem is f32 already");
    return spec->dtype != CLAT_F32;
}

static bool open_f32(void *state, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct spec f32 = *spec;
    (void)trial;
    f32.dtype = CLAT_F32;
    f32.implementation = f32.tunables = NULL;
    return open_with(state, ctx, &f32);
}

const struct peer peer_f32 = OWN_PEER("f32", is_not_f32, open_f32);

/* ---- guess: the same problem, as on a device that was never tuned ---- */

static bool is_not_mha(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    snprintf(why, PEER_WHY_BYTES, "mha takes no tunables");
    return spec->op != SPEC_MHA;
}

static bool open_guess(void *state, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct spec guess = *spec;
    char implementation[64];
    clat_plan *plan = NULL;
    (void)trial;
    if (!spec_plan(&plan, ctx, spec))
        return false;
    snprintf(implementation, sizeof implementation, "%s", clat_plan_get_info(plan)->implementation);
    clat_plan_release(plan);
    guess.implementation = implementation;
    guess.tunables = ""; /* nothing over the guess */
    return open_with(state, ctx, &guess);
}

const struct peer peer_guess = OWN_PEER("guess", is_not_mha, open_guess);
