/*
 * Attention on matrix engines: every engine's layout, emulated on devices that have none, against
 * the plain f64 reference. What all implementations have in common is in test_attention.c, on one
 * engine.
 */
#include "attention_cases.h"
#include "mask_cases.h"

#include "context.h"
#include "engine.h"
#include "ops/attention.h"

#include <stdio.h>

/* ---- every engine ---- */

struct variant {
    const char *name, *tunables; /* NULL: the guess */
    clat_dtype dtype;            /* f16 where the engine has no other */
    size_t head_dim, batch, heads, kv_heads;
    enum attention_layout layout;
    bool no_logsumexp;
    double scale;
    const char *masks[8]; /* all of one kind: bands, or one expression for a list */
    size_t value_dim;     /* 0: as head_dim */
};

/* Tiles and fragments are 8 or 16 by 16: full, cut and empty ones in each. */
static const struct variant variants[] = {
    {"f16 d32", "SG=2 RQ=1 BK=16 STAGES=1 KEEP_Q=0", CLAT_F16, 32, .batch = 1, .heads = 2,
     .masks = {"dense", "causal", "causal_br", "window", "window_self", "nothing"}},
    {"bf16 d20, negative scale", "SG=1 RQ=1 BK=32 STAGES=2 KEEP_Q=1", CLAT_BF16, 20, .batch = 2,
     .heads = 4, .kv_heads = 2, .layout = LAYOUT_PADDED, .no_logsumexp = true, .scale = -0.6,
     .masks = {"dense", "causal", "window"}, .value_dim = 36},
};

/* Further paths, on one engine. */
static const struct variant more[] = {
    {"f16 d48, longformer", "SG=2 RQ=1 BK=32 STAGES=2 KEEP_Q=0", CLAT_F16, 48, .batch = 2,
     .heads = 2, .kv_heads = 1, .layout = LAYOUT_BNHD, .masks = {"longformer"}},
    {"f16 d31, features", "SG=1 RQ=1 BK=16 STAGES=1 KEEP_Q=0", CLAT_F16, 31, .batch = 2, .heads = 2,
     .layout = LAYOUT_FEATURES, .masks = {"dense", "causal_br"}},
    {"bf16 d8, blocks per head", "SG=2 RQ=2 BK=16 STAGES=1 KEEP_Q=1", CLAT_BF16, 8, .batch = 2,
     .heads = 4, .masks = {"blocks_heads"}},
    {"f16 d256", "SG=1 RQ=1 BK=16 STAGES=1 KEEP_Q=0", CLAT_F16, 256, .batch = 1, .heads = 1,
     .masks = {"causal"}},
    {"f16 d56 v8", "SG=2 RQ=1 BK=16 STAGES=2 KEEP_Q=1", CLAT_F16, 56, .batch = 1, .heads = 2,
     .masks = {"dense", "causal_br"}, .value_dim = 8},
};

/* Guesses are for the device's own engine: their tiles are large. */
static const struct variant guesses[] = {
    {"f16 d64", NULL, CLAT_F16, 64, .batch = 1, .heads = 2, .masks = {"dense", "causal", "window"}},
    {"bf16 d128", NULL, CLAT_BF16, 128, .batch = 1, .heads = 2, .masks = {"causal", "window"}},
    {"f16 d256", NULL, CLAT_F16, 256, .batch = 1, .heads = 1, .masks = {"causal"}},
    {"f16 d192 v128", NULL, CLAT_F16, 192, .batch = 1, .heads = 2, .masks = {"causal"},
     .value_dim = 128},
    {"f16 d80, bigbird", NULL, CLAT_F16, 80, .batch = 1, .heads = 2, .masks = {"bigbird"}},
};

static const struct attention_size shapes[] = {{0, 5},   {5, 0},   {1, 1},   {16, 16},
                                               {17, 33}, {33, 31}, {61, 97}, {100, 64}};

enum {
    N_VARIANTS = sizeof variants / sizeof *variants,
    N_MORE = sizeof more / sizeof *more,
    N_GUESSES = sizeof guesses / sizeof *guesses,
    N_SHAPES = sizeof shapes / sizeof *shapes,
    MAX_CASES = 64
};

struct engine_case {
    char name[96];
    const struct engine *engine; /* NULL: the device's own */
    const struct variant *variant;
};

/* Plans belong to the engine that they were made for. */
static void use_engine(const struct engine *engine) {
    plan_cache_clear(harness_context());
    harness_context()->device.emulated_engine = engine;
}

static clat_attention_problem make_problem(const struct engine_case *is) {
    const struct variant *variant = is->variant;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    const bool takes = engine_find(&harness_context()->device, variant->dtype) != NULL;
    problem.dtype = takes ? variant->dtype : CLAT_F16;
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.batch = variant->batch;
    problem.heads = variant->heads;
    problem.kv_heads = variant->kv_heads;
    problem.head_dim = variant->head_dim;
    problem.head_dim_v = variant->value_dim;
    problem.scale = variant->scale;
    problem.logsumexp = !variant->no_logsumexp;
    problem.implementation = "mma";
    problem.tunables = variant->tunables;
    return problem;
}

/* Nothing of this is declined. */
static void test_variant(void **state) {
    const struct engine_case *is = *state;
    use_engine(is->engine);
    const clat_attention_problem problem = make_problem(is);
    size_t masks = 0;
    while (is->variant->masks[masks] != NULL)
        masks++;
    const size_t checked = attention_check_all(is->name, &problem, is->variant->layout,
                                               is->variant->masks, shapes, N_SHAPES);
    assert_int_equal(checked, masks * N_SHAPES);
    use_engine(NULL);
}

static struct engine_case cases[MAX_CASES];
static size_t n_cases;

static void add_variants(const struct engine *engine, const struct variant *list, size_t count) {
    for (size_t v = 0; v < count; v++) {
        struct engine_case *is = &cases[n_cases++];
        is->engine = engine;
        is->variant = &list[v];
        snprintf(is->name, sizeof is->name, "%s, %s", engine ? engine->name : "own engine",
                 list[v].name);
        harness_add(is->name, test_variant, is);
    }
}

int main(void) {
    const bool own = engine_find(&harness_context()->device, CLAT_F16) != NULL;
    _Static_assert(MAX_CASES >= 8 * N_VARIANTS + N_MORE + N_GUESSES, "room for all");
    if (own) {
        add_variants(NULL, variants, N_VARIANTS);
        add_variants(NULL, more, N_MORE);
        add_variants(NULL, guesses, N_GUESSES);
    } else {
        /* Emulations are slow to build: of engines alike in shape, one takes all variants. */
        for (unsigned e = 0; e < n_engines; e++)
            add_variants(&engines[e], variants, e % 2 == 0 || harness_full() ? N_VARIANTS : 1);
        add_variants(&engines[0], more, N_MORE);
    }
    return harness_run_added();
}
