/* Score modifiers on each implementation that takes them, against the plain f64 reference; what is
 * refused; and that trials judge them too. */
#include "attention_cases.h"
#include "mask_cases.h"
#include "score_cases.h"

#include "context.h"
#include "engine.h"
#include "ops/attention.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Small tiles, so that short sequences have many of them and edges on all sides. */
static const struct taker {
    const char *label, *name, *tunables, *engine; /* engine: emulated, where the device has none */
    bool native;                                  /* f16 or bf16 in native precision */
} takers[] = {
    {"cpu", "cpu", "VW=8 NV=2 MR=4 BK=16 PACK=1 SPLIT=16", NULL, false},
    {"simt", "simt", "TX=8 TY=4 RQ=2 RK=2 DC=8 VC=8 KEEP_Q=1", NULL, false},
    {"decode", "decode", "VW=8 BK=16 SPLIT=8", NULL, false},
    {"decode_simt", "decode_simt", "GROUP=64 ROWS=4 KEYS=2 SPLIT=4", NULL, false},
    {"mma nv_sm80", "mma", "SG=2 RQ=1 BK=16 STAGES=2 KEEP_Q=0", "nv_sm80", true},
    {"mma intel_dpas8", "mma", "SG=1 RQ=2 BK=16 STAGES=1 KEEP_Q=0", "intel_dpas8", true},
    {"wgmma", "wgmma", "CW=1 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=1", NULL, true},
};

static const struct attention_size sizes[] = {{1, 1},   {5, 0},   {17, 15}, {33, 31},
                                              {47, 97}, {3, 700}, {4, 33}};

enum {
    N_TAKERS = sizeof takers / sizeof *takers,
    N_SIZES = sizeof sizes / sizeof *sizes,
    MAX_SCORES = 8
};

struct taken {
    char name[96];
    const struct taker *taker;
    const struct score_case *score;
    bool bands, list; /* which masks: a program each */
};

static void use_engine(const struct engine *engine) {
    plan_cache_clear(harness_context());
    harness_context()->device.emulated_engine = engine;
}

static bool emulate(const char *name) {
    if (name == NULL || engine_find(&harness_context()->device, CLAT_F16) != NULL)
        return false;
    for (unsigned e = 0; e < n_engines; e++)
        if (strcmp(engines[e].name, name) == 0)
            use_engine(&engines[e]);
    return true;
}

static bool is_made_for_device(const char *name) {
    const bool cpu = harness_device_is_cpu();
    if (strcmp(name, "wgmma") == 0)
        return device_can(&harness_context()->device, CAP_WGMMA);
    return strcmp(name, "cpu") == 0 || strcmp(name, "decode") == 0 ? cpu : true;
}

static void test_taken(void **state) {
    static const char *const bands[] = {"dense", "causal_br", "window", "nothing", NULL};
    static const char *const lists[] = {"longformer", NULL};
    const struct taken *is = *state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    const bool emulated = emulate(is->taker->engine);
    problem.implementation = is->taker->name;
    problem.tunables = is->taker->tunables;
    problem.dtype = is->taker->native ? CLAT_F16 : CLAT_F32;
    problem.precision = is->taker->native ? CLAT_PRECISION_NATIVE : CLAT_PRECISION_F32;
    problem.batch = 2, problem.heads = 4, problem.kv_heads = 2, problem.head_dim = 24;
    problem.logsumexp = true;
    problem.score = is->score->text;
    size_t checked = 0;
    if (is->bands)
        checked += attention_check_all(is->name, &problem, LAYOUT_PADDED | LAYOUT_ALIGNED, bands,
                                       sizes, N_SIZES);
    problem.scale = -0.3;
    problem.logsumexp = false;
    if (is->list)
        checked += attention_check_all(is->name, &problem, LAYOUT_DEFAULT, lists, sizes, N_SIZES);
    if (emulated)
        use_engine(NULL);
    if (checked == 0 && is_made_for_device(is->taker->name))
        fail_msg("%s declines everything", is->taker->name);
    if (checked == 0)
        skip();
}

/* ---- native products of bf16 on CPUs: one takes modifiers, one leaves them to the other */

static void test_declined(void **state) {
    (void)state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.dtype = CLAT_BF16;
    problem.precision = CLAT_PRECISION_NATIVE;
    problem.seq_q = problem.seq_k = 50, problem.head_dim = 32, problem.heads = 2;
    problem.score = score_case_named("by batch")->text;
    attention_check("the best", &problem, LAYOUT_DEFAULT, 1.0);
    clat_plan *plan = NULL;
    problem.implementation = "cpu_tile";
    assert_status(CLAT_UNSUPPORTED, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names(harness_device_is_cpu() ? "score modifiers" : "no CPU");
}

/* ---- errors */

static clat_attention_problem small(void) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.seq_q = problem.seq_k = 8, problem.head_dim = 8;
    return problem;
}

/* The sentence tells the snippet's own line and column. */
static void test_syntax(void **state) {
    static const struct {
        const char *text, *where;
    } wrong[] = {
        {"score += nothing;", "score:1:10"},
        {"int a = 1;\nscore += a\n+ slope * 2;", "score:3:3"},
        {"score = ;", "score:1:9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        clat_attention_problem problem = small();
        clat_plan *plan = NULL;
        problem.score = wrong[i].text;
        assert_status(CLAT_BUILD_FAILED, clat_attention_plan(&plan, harness_context(), &problem));
        assert_null(plan);
        if (strstr(clat_error_text(), wrong[i].where) == NULL)
            fail_msg("\"%s\" is not in: %s", wrong[i].where, clat_error_text());
    }
}

static void test_data(void **state) {
    (void)state;
    enum { HEADS = 3 };
    clat_attention_problem problem = small();
    clat_plan *plan = NULL;
    problem.score_data = HEADS;
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_plan(&plan, harness_context(), &problem));
    problem.score = score_case_named("alibi")->text;
    problem.score_data = SIZE_MAX / 2;
    assert_status(CLAT_INVALID_SIZE, clat_attention_plan(&plan, harness_context(), &problem));
    problem.score_data = HEADS;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));

    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = args.k = args.v = harness_buffer(64 * sizeof(float), NULL);
    args.o = harness_buffer(64 * sizeof(float), NULL);
    assert_status(CLAT_INVALID_BUFFER,
                  clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    args.score_data = harness_buffer((HEADS + 1) * sizeof(float), NULL);
    args.score_data_offset = 2;
    assert_status(CLAT_INVALID_BUFFER,
                  clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    args.score_data_offset = 1;
    assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    clReleaseMemObject(args.score_data);
    args.score_data = args.o;
    assert_status(CLAT_INVALID_OVERLAP,
                  clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    clReleaseMemObject(args.q);
    clReleaseMemObject(args.o);
    clat_plan_release(plan);
}

/* ---- plans and trials */

/* Equal texts share a plan wherever they lie, different ones do not. */
static void test_plans(void **state) {
    (void)state;
    char text[] = "score *= 0.5f;";
    clat_attention_problem problem = small();
    clat_plan *plans[3] = {NULL, NULL, NULL};
    problem.score = text;
    assert_ok(clat_attention_plan(&plans[0], harness_context(), &problem));
    problem.score = "score *= 0.5f;";
    assert_ok(clat_attention_plan(&plans[1], harness_context(), &problem));
    text[9] = '1';
    problem.score = text;
    assert_ok(clat_attention_plan(&plans[2], harness_context(), &problem));
    assert_ptr_equal(plans[0], plans[1]);
    assert_ptr_not_equal(plans[0], plans[2]);
    assert_non_null(strstr(clat_plan_get_info(plans[0])->problem, "score="));
    for (size_t i = 0; i < 3; i++)
        clat_plan_release(plans[i]);
}

static void test_trial(void **state) {
    (void)state;
    for (size_t i = 0; i < n_score_cases; i += harness_full() ? 1 : 2) {
        clat_attention_problem problem = small();
        clat_plan *plan = NULL;
        clat_trial *trial = NULL;
        clat_verdict verdict;
        problem.heads = 2, problem.seq_q = 9, problem.seq_k = 21, problem.logsumexp = true;
        problem.score = score_cases[i].text;
        if (score_cases[i].data != NULL)
            problem.score_data = score_cases[i].data(2, 9, 21);
        assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
        assert_ok(clat_trial_create(&trial, plan, 1));
        assert_ok(clat_trial_verify(trial, NULL, &verdict));
        assert_false(verdict.ok); /* nothing has run */
        assert_ok(clat_trial_verify(trial, plan, &verdict));
        if (!verdict.ok)
            fail_msg("%s: %g at %s, bound %g", score_cases[i].name, verdict.worst, verdict.where,
                     verdict.bound);
        clat_trial_release(trial);
        clat_plan_release(plan);
    }
}

static struct taken cases[N_TAKERS * MAX_SCORES];

/* Programs take seconds to build: one for each case, of either kind of mask in turn; engines, which
 * differ in what a lane holds alone, take a few. */
static void add_takers(void) {
    enum { FEW = 2 };
    for (size_t t = 0; t < N_TAKERS; t++) {
        const bool few = takers[t].engine != NULL && !harness_full();
        const bool only_bands = strncmp(takers[t].name, "decode", 6) == 0;
        for (size_t s = 0; s < n_score_cases && (!few || s < FEW); s++) {
            struct taken *is = &cases[t * MAX_SCORES + s];
            is->taker = &takers[t], is->score = &score_cases[s];
            is->bands = only_bands || harness_full() || (t + s) % 2 == 0;
            is->list = !only_bands && (harness_full() || !is->bands);
            snprintf(is->name, sizeof is->name, "%s, %s", takers[t].label, score_cases[s].name);
            harness_add(is->name, test_taken, is);
        }
    }
}

int main(void) {
    assert(n_score_cases <= MAX_SCORES);
    add_takers();
    harness_add("declined", test_declined, NULL);
    harness_add("syntax", test_syntax, NULL);
    harness_add("data", test_data, NULL);
    harness_add("plans", test_plans, NULL);
    harness_add("trial", test_trial, NULL);
    return harness_run_added();
}
