/*
 * Attention on Hopper's warpgroup instructions against the plain f64 reference: whole and cut tiles
 * of all shapes, more query tiles than work-groups, tensors that tensor maps take and that they do
 * not. Needs such a device. What all implementations have in common is in test_attention.c.
 */
#include "attention_cases.h"
#include "hopper_device.h"
#include "mask_cases.h"
#include "tunables_cases.h"

#include "context.h"
#include "ops/attention.h"

#include <stdio.h>
#include <string.h>

struct variant {
    const char *name, *tunables; /* NULL: the guess */
    clat_dtype dtype;
    size_t head_dim, batch, heads, kv_heads;
    unsigned layout;
    bool no_logsumexp;
    double scale;
    const char *masks[8]; /* all of one kind: bands, or one expression for a list */
    size_t value_dim;     /* 0: as head_dim */
};

#define BANDS                                                                                      \
    { "dense", "causal", "causal_br", "window", "window_left", "window_self", "nothing" }

static const struct variant variants[] = {
    {"f16 d64", NULL, CLAT_F16, 64, 1, 2, .layout = LAYOUT_ALIGNED, .masks = BANDS},
    {"f16 d128", NULL, CLAT_F16, 128, 1, 2, .layout = LAYOUT_ALIGNED, .masks = BANDS},
    {"bf16 d128 gqa bnhd", NULL, CLAT_BF16, 128, 2, 4, 2, LAYOUT_BNHD | LAYOUT_ALIGNED,
     .masks = {"dense", "causal_br"}},
    {"f16 d96 padded", NULL, CLAT_F16, 96, 2, 2, 1, LAYOUT_PADDED | LAYOUT_ALIGNED, true,
     .masks = {"causal", "window"}},
    {"bf16 d256", NULL, CLAT_BF16, 256, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"dense", "causal", "window"}},
    {"f16 d192, negative scale", NULL, CLAT_F16, 192, 1, 1, .layout = LAYOUT_ALIGNED, .scale = -0.4,
     .masks = {"dense", "causal"}},
    {"f16 d72, chunks", NULL, CLAT_F16, 72, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"dense", "causal"}},
    {"bf16 d192 v128", NULL, CLAT_BF16, 192, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"dense", "causal"}, .value_dim = 128},
    {"f16 d64 v256", NULL, CLAT_F16, 64, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"causal", "window"}, .value_dim = 256},
    {"f16 d40 v72, odd offsets", NULL, CLAT_F16, 40, 2, 2, .masks = {"dense", "causal"},
     .value_dim = 72},
    {"bf16 d8", NULL, CLAT_BF16, 8, 1, 2, .layout = LAYOUT_ALIGNED, .masks = {"causal"}},
    {"f16 d64 shared", NULL, CLAT_F16, 64, 2, 4, .layout = LAYOUT_SHARED | LAYOUT_ALIGNED,
     .masks = {"causal"}},
    {"f16 d64, odd offsets", NULL, CLAT_F16, 64, 2, 2, .masks = {"dense", "causal"}},
    {"bf16 d128, odd offsets", NULL, CLAT_BF16, 128, 1, 2, .layout = LAYOUT_BNHD,
     .masks = {"window"}},
    {"f16 d64 in turns", "CW=2 BK=128 STAGES=3 Q_STAGES=1 TURNS=1 RESIDENT=1", CLAT_F16, 64, 1, 2,
     .layout = LAYOUT_ALIGNED, .masks = {"dense", "causal", "window"}},
    {"f16 d64, four", "CW=4 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=1", CLAT_F16, 64, 1, 2,
     .layout = LAYOUT_ALIGNED, .masks = {"dense", "causal", "window"}},
    {"f16 d64, two together", "CW=1 BK=128 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=2", CLAT_F16, 64, 1,
     2, .layout = LAYOUT_ALIGNED, .masks = {"dense", "causal", "window"}},
    {"bf16 d128, two together", "CW=1 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=2", CLAT_BF16, 128,
     1, 2, .layout = LAYOUT_ALIGNED, .masks = {"longformer"}},
    {"f16 d64, three together", "CW=1 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=3", CLAT_F16, 64,
     1, 2, .layout = LAYOUT_BNHD, .masks = {"dense", "causal", "window"}},
    {"f16 d64, Q at an odd offset", NULL, CLAT_F16, 64, 2, 2,
     .layout = LAYOUT_ALIGNED | LAYOUT_ODD_Q, .masks = {"dense", "causal"}},
    {"f16 d64 longformer", NULL, CLAT_F16, 64, 2, 2, 1, LAYOUT_ALIGNED, .masks = {"longformer"}},
    {"bf16 d128 longformer", NULL, CLAT_BF16, 128, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"longformer"}},
    {"f16 d128 blocks per head", NULL, CLAT_F16, 128, 2, 4, .layout = LAYOUT_ALIGNED,
     .masks = {"blocks_heads"}},
    {"bf16 d64 bigbird", NULL, CLAT_BF16, 64, 1, 2, .layout = LAYOUT_ALIGNED, .masks = {"bigbird"}},
    {"f16 d64 odd blocks", NULL, CLAT_F16, 64, 1, 2, .layout = LAYOUT_ALIGNED,
     .masks = {"blocks_odd"}},
};

/* Tiles are 64 to 256 queries by 64 to 128 keys. */
static const struct attention_size shapes[] = {
    {0, 5}, {5, 0}, {1, 1}, {64, 128}, {65, 127}, {129, 257}, {300, 97}, {77, 600}, {193, 384}};

enum { N_VARIANTS = sizeof variants / sizeof *variants, N_SHAPES = sizeof shapes / sizeof *shapes };

static clat_attention_problem make_problem(const struct variant *variant) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.dtype = variant->dtype;
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.batch = variant->batch;
    problem.heads = variant->heads;
    problem.kv_heads = variant->kv_heads;
    problem.head_dim = variant->head_dim;
    problem.head_dim_v = variant->value_dim;
    problem.scale = variant->scale;
    problem.logsumexp = !variant->no_logsumexp;
    problem.implementation = "wgmma";
    problem.tunables = variant->tunables;
    return problem;
}

static bool is_available(void) {
    if (device_can(&harness_context()->device, CAP_WGMMA))
        return true;
    print_message("the device has no warpgroup instructions\n");
    return false;
}

/* Nothing of this is declined. */
static void test_variant(void **state) {
    const struct variant *variant = *state;
    if (!is_available())
        skip();
    const clat_attention_problem problem = make_problem(variant);
    size_t masks = 0;
    while (variant->masks[masks] != NULL)
        masks++;
    const size_t checked =
        attention_check_all(variant->name, &problem, (enum attention_layout)variant->layout,
                            variant->masks, shapes, N_SHAPES);
    assert_int_equal(checked, masks * N_SHAPES);
}

/* Work-groups take many query tiles each, which all rings go around with. */
static void test_many(void **state) {
    (void)state;
    static const char *const masks[] = {"dense", "causal", "nothing", NULL};
    static const struct attention_size sizes[] = {{33, 33}, {150, 70}};
    if (!is_available())
        skip();
    clat_attention_problem problem = make_problem(&variants[0]);
    problem.batch = 4, problem.heads = 150, problem.kv_heads = 50;
    assert_int_equal(attention_check_all("many", &problem, LAYOUT_ALIGNED, masks, sizes, 2), 6);
    assert_int_equal(
        attention_check_all("many, odd offsets", &problem, LAYOUT_DEFAULT, masks, sizes, 1), 3);
    assert_int_equal(attention_check_all("many, Q at an odd offset", &problem,
                                         LAYOUT_ALIGNED | LAYOUT_ODD_Q, masks, sizes, 1),
                     3);
    problem.tunables = "CW=1 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=3";
    assert_int_equal(
        attention_check_all("many, three together", &problem, LAYOUT_ALIGNED, masks, sizes, 2), 6);
}

/* Few query tiles: keys are split, and heads that share keys and have one query are one tile. */
static void test_split(void **state) {
    (void)state;
    static const char *const masks[] = {"dense", "causal_br", "window", NULL};
    static const struct attention_size sizes[] = {{1, 5000}, {3, 2500}, {1, 1}, {1, 0}};
    static const unsigned layouts[] = {LAYOUT_ALIGNED, LAYOUT_BNHD | LAYOUT_ALIGNED,
                                       LAYOUT_DEFAULT};
    if (!is_available())
        skip();
    for (unsigned l = 0; l < sizeof layouts / sizeof *layouts; l++) {
        clat_attention_problem problem = make_problem(&variants[l % 2]);
        problem.batch = 2, problem.heads = 8, problem.kv_heads = 2;
        assert_int_equal(attention_check_all("split", &problem, (enum attention_layout)layouts[l],
                                             masks, sizes, sizeof sizes / sizeof *sizes),
                         3 * sizeof sizes / sizeof *sizes);
    }
}

/* Of a wrong barrier, only some runs tell. */
static void test_repeatable(void **state) {
    (void)state;
    enum { B = 2, H = 16, N = 777, RUNS = 300 };
    static const size_t dims[] = {64, 128, 256};
    if (!is_available())
        skip();
    clat_mask *causal = NULL;
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT));
    for (unsigned d = 0; d < 2 * sizeof dims / sizeof *dims; d++) {
        clat_attention_problem problem = make_problem(&variants[0]);
        const size_t bytes = 2 * (size_t)B * H * N * dims[d / 2];
        char *first = harness_alloc(bytes), *again = harness_alloc(bytes);
        problem.batch = B, problem.heads = H, problem.seq_q = problem.seq_k = N;
        problem.head_dim = dims[d / 2];
        problem.mask = d % 2 ? causal : NULL;
        problem.logsumexp = false;
        harness_fill(CLAT_F16, first, bytes / 2, 9, 1.0);
        clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
        clat_plan *plan = NULL;
        args.q = args.k = args.v = harness_buffer(bytes, first);
        args.o = harness_buffer(bytes, NULL);
        assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
        for (unsigned run = 0; run < RUNS; run++) {
            assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
            harness_read(args.o, 0, bytes, run == 0 ? first : again);
            if (run > 0 && memcmp(first, again, bytes) != 0)
                fail_msg("head_dim %zu: run %u is not like the first", dims[d / 2], run);
        }
        clat_plan_release(plan);
        clReleaseMemObject(args.q);
        clReleaseMemObject(args.o);
        free(first);
        free(again);
    }
    clat_mask_release(causal);
}

/* ---- what the host decides, on any device ---- */

/* `words` NULL: it is taken. */
static void expect(const char *words, struct device *device,
                   const clat_attention_problem *problem) {
    char why[OP_WHY_BYTES] = "";
    struct attention attention;
    assert_ok(attention_normalise(&attention, problem));
    assert_int_equal(attention_wgmma.supports(device, &attention, why), words == NULL);
    if (words != NULL && strstr(why, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void test_declined(void **state) {
    (void)state;
    struct device device = hopper_device();
    clat_attention_problem problem = make_problem(&variants[0]);
    problem.seq_q = problem.seq_k = 100;
    problem.tunables = NULL;
    expect(NULL, &device, &problem);
    problem.precision = CLAT_PRECISION_F32;
    expect("native precision", &device, &problem);
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.head_dim = 60;
    expect("rows of q", &device, &problem);
    problem.head_dim = 64;
    problem.k = (clat_strides)CLAT_STRIDES_BHND(problem.heads, problem.seq_k, problem.head_dim);
    problem.k.seq = 72;
    expect(NULL, &device, &problem);
    problem.k.seq = 65;
    expect("rows of k", &device, &problem);
    problem.k.seq = 0; /* one row for all keys */
    expect("rows of k", &device, &problem);
    problem.k.seq = 64;
    device.verdict[CAP_WGMMA] = false;
    expect("warpgroup", &device, &problem);
    pthread_mutex_destroy(&device.probe_lock);
}

static void test_guesses_fit(void **state) {
    (void)state;
    static const char *const masks[] = {"dense", "causal", "window", "longformer", "blocks_heads"};
    static const size_t lengths[] = {1, 100, 500, 1000, 5000, 20000};
    static const size_t dims[] = {8, 64, 96, 128, 256};
    enum { LENGTHS = sizeof lengths / sizeof *lengths, DIMS = sizeof dims / sizeof *dims };
    struct device device = hopper_device();
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++)
        for (size_t i = 0; i < (size_t)LENGTHS * DIMS; i++) {
            clat_attention_problem problem = make_problem(&variants[0]);
            struct attention attention;
            problem.seq_q = problem.seq_k = lengths[i / DIMS];
            problem.head_dim = dims[i % DIMS];
            problem.heads = problem.kv_heads = 4;
            clat_mask *mask =
                mask_case_named(masks[m])->make((uint32_t)problem.seq_q, (uint32_t)problem.seq_k);
            problem.mask = mask;
            assert_ok(attention_normalise(&attention, &problem));
            check_guesses(&attention_wgmma, &device, &attention);
            clat_mask_release(mask);
        }
    pthread_mutex_destroy(&device.probe_lock);
}

int main(void) {
    for (size_t v = 0; v < N_VARIANTS; v++)
        harness_add(variants[v].name, test_variant, (void *)(uintptr_t)&variants[v]);
    harness_add("many", test_many, NULL);
    harness_add("split", test_split, NULL);
    harness_add("repeatable", test_repeatable, NULL);
    harness_add("declined", test_declined, NULL);
    harness_add("guesses fit", test_guesses_fit, NULL);
    return harness_run_added();
}
