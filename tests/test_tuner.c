/*
 * The tuner, on an operator of the test's own: y = 2 x, with candidates that are slow, do not
 * build, compute wrongly in various ways, or are right and fast. The wrong ones are the fastest.
 */
#include "context.h"
#include "harness.h"
#include "trial.h"
#include "tuner_journal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the operator ---- */

enum { N = 1024, AWKWARD_N = 203 };

static const char kernel_source[] =
    "#if !defined(LOOPS) || !defined(MODE) || !defined(PAD)\n#error \"contract\"\n#endif\n"
    "#if MODE == 4\n#error \"does not build\"\n#endif\n"
    "struct params { long n; long offset_x; long offset_y; };\n"
    "__kernel void twice(__global const float *x, __global float *y, struct params p) {\n"
    "    long i = get_global_id(0);\n"
    "    x += p.offset_x; y += p.offset_y;\n"
    "    if (MODE == 1 && p.n % 4 != 0 && i == p.n - 1) return;\n" /* forgets an odd tail */
    "    if (MODE == 2 && p.n % 2 != 0 && i == 0) y[p.n] = 1;\n"   /* writes past its output */
    "    float t = x[i];\n"
    "    if (MODE == 0) for (int j = 0; j < LOOPS; j++) t = t * 0.999f + 0.001f;\n"
    "    y[i] = 2 * x[i] + (t == 12345.0f);\n"
    "    if (MODE == 3 && p.n == 1024 && i == p.n - 1) y[i] = 0;\n" /* only at full size */
    "}\n";

#define TWICE_TUNABLES(X)                                                                          \
    X(LOOPS, "how much time to waste", 100000, 10000, 100000)                                      \
    X(MODE, "right, or wrong in what way", 0, 0, 1, 2, 3, 4)                                       \
    X(PAD, "no effect but another program", 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
static const struct tunable twice_tunables[] = {TWICE_TUNABLES(TUNABLE_ROW)};
enum { TWICE_TUNABLES(TUNABLE_INDEX) TWICE_N_TUNABLES };

enum kind {
    PLAIN, /* without PAD: 9 candidates */
    LARGE, /* with it */
    ODD,   /* as PLAIN, of equal shape, but other values are guessed */
    WRONG, /* no candidate is right */
    NO_OPERANDS
};

enum { FEW = 800 }; /* n, of which other values are guessed */

struct twice {
    int64_t n, kind, id;
};

struct twice_params {
    int64_t n, offset_x, offset_y;
};

static atomic_uint awkward_runs;

static bool supports(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    (void)device;
    (void)problem;
    (void)why;
    return true;
}
static bool declines(struct device *device, const void *problem, char why[OP_WHY_BYTES]) {
    (void)device;
    (void)problem;
    snprintf(why, OP_WHY_BYTES, "it never does");
    return false;
}
static bool prefers(const struct device *device, const void *problem) {
    (void)device;
    (void)problem;
    return true;
}
static bool fits(const struct device *device, const void *problem, const int *values) {
    (void)device;
    const struct twice *p = problem;
    return (p->kind == LARGE || values[T_PAD] == 1) &&
           (values[T_LOOPS] == 10000 || values[T_MODE] != 4) &&
           (p->kind != WRONG || values[T_MODE] != 0);
}
static void guess(const struct device *device, const void *problem, int *values) {
    (void)device;
    const struct twice *p = problem;
    values[T_LOOPS] = (p->kind == PLAIN && p->n < FEW) || p->kind == ODD ? 10000 : 100000;
    values[T_MODE] = p->kind == WRONG;
    values[T_PAD] = 1;
}
static clat_status launch(const struct device *device, const void *problem, const int *values,
                          struct launch *out) {
    (void)device;
    (void)values;
    const struct twice *p = problem;
    const struct twice_params params = {.n = p->n};
    out->n_passes = 1;
    out->passes[0] = (struct pass){.kernel = "twice", .dims = 1, .global = {(size_t)p->n}};
    pass_arg(&out->passes[0], ARG_BUFFER, 0, 0);
    pass_arg(&out->passes[0], ARG_BUFFER, 1, 0);
    pass_arg(&out->passes[0], ARG_PARAMS, 0, 0);
    out->params_bytes = sizeof params;
    memcpy(out->params, &params, sizeof params);
    return CLAT_OK;
}

static const struct implementation twice_main = {.name = "main",
                                                 .source = "twice.cl",
                                                 .tunables = twice_tunables,
                                                 .n_tunables = TWICE_N_TUNABLES,
                                                 .supports = supports,
                                                 .prefers = prefers,
                                                 .fits = fits,
                                                 .guess = guess,
                                                 .launch = launch};
static const struct implementation twice_never = {.name = "never",
                                                  .source = "twice.cl",
                                                  .tunables = twice_tunables,
                                                  .n_tunables = TWICE_N_TUNABLES,
                                                  .supports = declines,
                                                  .prefers = prefers,
                                                  .fits = fits,
                                                  .guess = guess,
                                                  .launch = launch};
static const struct implementation *const twice_implementations[] = {&twice_main, &twice_never,
                                                                     NULL};

static bool is_empty(const void *problem) {
    return ((const struct twice *)problem)->n == 0;
}
static void shape(const void *problem, struct shape *out) {
    const struct twice *p = problem;
    *out = (struct shape){.count = 2, .dim = {{"n", (uint64_t)p->n}, {"id", (uint64_t)p->id}}};
    snprintf(out->variant, sizeof out->variant, "kind %d", (int)(p->kind == ODD ? PLAIN : p->kind));
}
static void print(const void *problem, struct text *out) {
    text_printf(out, "twice %d", (int)((const struct twice *)problem)->id);
}
static double flops(const void *problem) {
    return (double)((const struct twice *)problem)->n;
}

static unsigned operands(const void *problem, struct operand *out) {
    const size_t n = (size_t)((const struct twice *)problem)->n;
    if (((const struct twice *)problem)->kind == NO_OPERANDS)
        return 0;
    out[0] = (struct operand){.name = "x", .dtype = CLAT_F32, .elements = n, .range = 1};
    out[1] = (struct operand){.name = "y", .dtype = CLAT_F32, .elements = n, .output = true};
    return 2;
}
static clat_status run_twice(const clat_trial *trial, const clat_plan *plan, cl_command_queue queue,
                             cl_event *event) {
    size_t x = 0, y = 0;
    struct binding binding = {
        .buffer = {clat_trial_buffer(trial, "x", &x), clat_trial_buffer(trial, "y", &y)}};
    struct twice_params params;
    memcpy(&params, plan_launch(plan)->params, sizeof params);
    params.offset_x = (int64_t)x;
    params.offset_y = (int64_t)y;
    binding.params = &params;
    if (params.n == AWKWARD_N)
        atomic_fetch_add(&awkward_runs, 1);
    return plan_enqueue(plan, queue, &binding, 0, NULL, event);
}
static clat_status judge(const void *problem, clat_trial *trial) {
    const size_t n = (size_t)((const struct twice *)problem)->n;
    for (size_t i = 0; i < n; i++)
        trial_judge(trial, 1, i, 2 * trial_value(trial, 0, i), 0, "y[%zu]", i);
    return CLAT_OK;
}
static bool awkward(const void *problem, unsigned index, void *out) {
    struct twice *relative = out;
    *relative = *(const struct twice *)problem;
    relative->n = index == 0 ? AWKWARD_N : 1;
    return index < 2;
}

static const struct trial_hooks hooks = {
    .operands = operands, .run = run_twice, .judge = judge, .awkward = awkward};
static const struct operation twice = {.name = "twice",
                                       .problem_bytes = sizeof(struct twice),
                                       .implementations = twice_implementations,
                                       .is_empty = is_empty,
                                       .shape = shape,
                                       .print = print,
                                       .flops = flops,
                                       .trial = &hooks};
static const struct operation pair = {.name = "pair",
                                      .problem_bytes = sizeof(struct twice),
                                      .implementations = twice_implementations,
                                      .is_empty = is_empty,
                                      .shape = shape,
                                      .print = print,
                                      .flops = flops,
                                      .trial = &hooks};

/* ---- contexts ---- */

static const char *kernel_directory(void) {
    static const char *directory;
    if (directory != NULL)
        return directory;
    directory = harness_temp_dir();
    char *path = text_format("%s/twice.cl", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(kernel_source, file);
    fclose(file);
    free(path);
    return directory;
}

static char log_text[16384];

static void keep_line(void *user, clat_log_level level, const char *line) {
    (void)user;
    (void)level;
    const size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", line);
}

static clat_context *open_context(const char *tuned_file) {
    clat_context *ctx = NULL;
    clat_context_options options = harness_options();
    options.kernel_dir = kernel_directory();
    options.tuned_file = tuned_file;
    options.log = keep_line;
    log_text[0] = '\0';
    assert_ok(clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                       clat_context_device(harness_context()), &options));
    return ctx;
}

/* Tuned values beside those that are shipped for this device. */
static size_t count_tuned(const clat_context *ctx) {
    clat_device_info info, shipped;
    clat_context *other = open_context("/nonexistent/tuned.json");
    assert_ok(clat_context_info(other, &shipped));
    clat_context_release(other);
    assert_ok(clat_context_info(ctx, &info));
    return info.tuned_entries - shipped.tuned_entries;
}

static clat_plan *make_plan(clat_context *ctx, enum kind kind, int64_t n, int64_t id) {
    clat_plan *plan = NULL;
    const struct twice problem = {n, kind, id};
    assert_ok(plan_create(&plan, ctx, &twice, &problem, NULL, NULL));
    return plan;
}

static char *new_tuned_file(void) {
    char *path = text_format("%s/tuned/device.json", harness_temp_dir());
    assert_non_null(path);
    return path;
}

static bool exists(const char *format, const char *path) {
    char name[512];
    snprintf(name, sizeof name, format, path);
    return access(name, F_OK) == 0;
}

static char *read_all(const char *format, const char *path) {
    char name[512];
    struct text text = {0};
    snprintf(name, sizeof name, format, path);
    assert_ok(text_read_file(&text, name));
    text_append(&text, "", 0);
    return text.data;
}

static unsigned count_of(const char *text, const char *part) {
    unsigned count = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

/* ---- watching progress ---- */

struct watch {
    unsigned calls, rejected, stop_after; /* 0: never */
    unsigned late;                        /* calls with no time remaining */
    size_t index, count, candidate, candidates;
    double best, elapsed;
};

static bool watch_progress(void *user, const clat_tune_progress *progress) {
    struct watch *watch = user;
    assert_true(progress->index < progress->count);
    assert_true(progress->candidate >= 1 && progress->candidate <= progress->candidates);
    assert_true(progress->gflops <= progress->best_gflops);
    assert_true(progress->elapsed_seconds >= watch->elapsed);
    assert_true(progress->remaining_seconds >= 0);
    assert_non_null(strstr(progress->problem, "twice "));
    assert_string_equal(progress->implementation, "main");
    assert_non_null(strstr(progress->tunables, "LOOPS="));
    watch->calls++;
    watch->late += progress->remaining_seconds <= 0;
    watch->rejected += progress->gflops <= 0;
    watch->index = progress->index;
    watch->count = progress->count;
    watch->candidate = progress->candidate;
    watch->candidates = progress->candidates;
    watch->best = progress->best_gflops;
    watch->elapsed = progress->elapsed_seconds;
    return watch->calls != watch->stop_after;
}

static clat_tune_options watched(struct watch *watch) {
    return (clat_tune_options){.budget_seconds = 120, .progress = watch_progress, .user = watch};
}

static clat_status tune(clat_context *ctx, enum kind kind, int64_t id,
                        const clat_tune_options *options) {
    clat_plan *plan = make_plan(ctx, kind, N, id);
    const clat_status st = clat_tune(ctx, 1, (const clat_plan *const[]){plan}, options);
    clat_plan_release(plan);
    return st;
}

/* `tunables` NULL: whichever. */
static void check_tuned(clat_context *ctx, enum kind kind, int64_t id, const char *tunables) {
    clat_plan *plan = make_plan(ctx, kind, N, id);
    if (tunables != NULL)
        assert_string_equal(clat_plan_get_info(plan)->tunables, tunables);
    assert_non_null(strstr(clat_plan_get_info(plan)->tunables_from, "tuned file"));
    clat_plan_release(plan);
}

static void check_guessed(clat_context *ctx, enum kind kind, int64_t id) {
    clat_plan *plan = make_plan(ctx, kind, N, id);
    assert_string_equal(clat_plan_get_info(plan)->tunables_from, "guess");
    clat_plan_release(plan);
}

#define BEST "LOOPS=10000 MODE=0 PAD=1"
enum { PLAIN_CANDIDATES = 9, PLAIN_WRONG = 4, PLAIN_BROKEN = 1, LARGE_CANDIDATES = 9 * 12 };

/* ---- tests ---- */

/* Three candidates compute the awkward sizes wrongly or do not build in each speed; one is found
 * out only on the problem itself. None of them wins, though all are faster. */
static void test_finds_the_best(void **state) {
    (void)state;
    struct watch watch = {0};
    const clat_tune_options options = watched(&watch);
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    check_guessed(ctx, PLAIN, 1);
    assert_ok(tune(ctx, PLAIN, 1, &options));
    assert_string_equal(clat_error_text(), "");
    assert_int_equal(watch.calls, PLAIN_CANDIDATES);
    assert_int_equal(watch.candidate, PLAIN_CANDIDATES);
    assert_int_equal(watch.candidates, PLAIN_CANDIDATES);
    assert_int_equal(watch.rejected, PLAIN_WRONG + PLAIN_BROKEN);
    check_tuned(ctx, PLAIN, 1, BEST);
    assert_non_null(strstr(log_text, "is out: wrong result: y[1023]"));

    char *journal = read_all("%s.journal", path);
    assert_int_equal(count_of(journal, "\"outcome\":\"started\""), PLAIN_CANDIDATES);
    assert_int_equal(count_of(journal, "\"outcome\":\"wrong\""), PLAIN_WRONG);
    assert_int_equal(count_of(journal, "\"outcome\":\"failed\""), PLAIN_BROKEN);
    assert_int_equal(count_of(journal, "wrote outside its outputs"), 2);
    assert_int_equal(count_of(journal, "\n"), 2 * PLAIN_CANDIDATES);
    free(journal);
    clat_context_release(ctx);

    ctx = open_context(path); /* from the file, in another context */
    check_tuned(ctx, PLAIN, 1, BEST);
    clat_context_release(ctx);
    free(path);
}

/* A run that was stopped goes on without measuring anything twice. */
static void test_cancel_and_resume(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 4};
    const clat_tune_options options = watched(&watch);
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    atomic_store(&awkward_runs, 0);
    assert_status(CLAT_CANCELLED, tune(ctx, PLAIN, 2, &options));
    assert_int_equal(watch.calls, 4);
    assert_true(exists("%s", path)); /* what was found is kept */
    clat_context_release(ctx);
    const unsigned before = atomic_load(&awkward_runs);
    assert_in_range(before, 3, 4);

    ctx = open_context(path);
    watch = (struct watch){0};
    assert_ok(tune(ctx, PLAIN, 2, &options));
    assert_int_equal(watch.calls, PLAIN_CANDIDATES);
    assert_int_equal(atomic_load(&awkward_runs), PLAIN_CANDIDATES - PLAIN_BROKEN);
    check_tuned(ctx, PLAIN, 2, BEST);

    watch = (struct watch){0}; /* a third time: everything is known */
    assert_ok(tune(ctx, PLAIN, 2, &options));
    assert_int_equal(watch.calls, PLAIN_CANDIDATES);
    assert_int_equal(atomic_load(&awkward_runs), PLAIN_CANDIDATES - PLAIN_BROKEN);
    check_tuned(ctx, PLAIN, 2, BEST);
    clat_context_release(ctx);
    free(path);
}

/* Problems that were not tuned get the values of one that is near and that the guess takes for the
 * same. */
static void test_neighbours(void **state) {
    (void)state;
    struct watch watch = {0};
    const clat_tune_options options = watched(&watch);
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    assert_ok(tune(ctx, PLAIN, 3, &options));
    clat_context_release(ctx);
    ctx = open_context(path); /* what the guess was is in the file */
    clat_plan *like = make_plan(ctx, PLAIN, 2 * N, 3), *unlike = make_plan(ctx, PLAIN, FEW - 1, 3);
    clat_plan *far = make_plan(ctx, PLAIN, 2 * N + 1, 3), *odd = make_plan(ctx, ODD, N, 3);
    assert_string_equal(clat_plan_get_info(odd)->tunables_from, "guess");
    assert_string_equal(clat_plan_get_info(like)->tunables, BEST);
    assert_non_null(strstr(clat_plan_get_info(like)->tunables_from, "1.0 octaves away"));
    assert_string_equal(clat_plan_get_info(far)->tunables_from, "guess");
    assert_string_equal(clat_plan_get_info(unlike)->tunables_from, "guess");
    clat_plan_release(odd);
    clat_plan_release(far);
    clat_plan_release(like);
    clat_plan_release(unlike);
    clat_context_release(ctx);
    free(path);
}

static void test_dry_run(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 3};
    clat_tune_options options = watched(&watch);
    options.dry_run = true;
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    assert_status(CLAT_CANCELLED, tune(ctx, PLAIN, 1, &options));
    assert_non_null(strstr(log_text, "tuned twice 1"));
    assert_false(exists("%s", path));
    assert_false(exists("%s.journal", path));
    check_guessed(ctx, PLAIN, 1);
    clat_context_release(ctx);
    free(path);
}

static void test_no_tuned_file(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 2};
    const clat_tune_options options = watched(&watch);
    clat_context *ctx = open_context("");
    assert_status(CLAT_CANCELLED, tune(ctx, PLAIN, 1, &options));
    check_tuned(ctx, PLAIN, 1, NULL);
    clat_context_release(ctx);
}

static void test_unwritable_file(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 2};
    const clat_tune_options options = watched(&watch);
    char *path = text_format("%s/twice.cl/device.json", kernel_directory());
    clat_context *ctx = open_context(path);
    assert_status(CLAT_IO_ERROR, tune(ctx, PLAIN, 1, &options));
    check_tuned(ctx, PLAIN, 1, NULL); /* in use all the same */
    clat_context_release(ctx);
    free(path);
}

static void test_nothing_right(void **state) {
    (void)state;
    struct watch watch = {0};
    const clat_tune_options options = watched(&watch);
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    assert_ok(tune(ctx, WRONG, 1, &options));
    assert_non_null(strstr(log_text, "no candidate of main computes it rightly"));
    check_guessed(ctx, WRONG, 1);
    clat_context_release(ctx);
    free(path);
}

/* Far more candidates than time; what was found by then is kept. */
static void test_budget(void **state) {
    (void)state;
    struct watch watch = {0};
    clat_tune_options options = watched(&watch);
    options.budget_seconds = 1;
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    clat_plan *plans[] = {make_plan(ctx, LARGE, N, 1), make_plan(ctx, LARGE, N, 2)};
    assert_ok(clat_tune(ctx, 2, (const clat_plan *const *)plans, &options));
    assert_int_equal(watch.count, 2);
    /* However busy the machine: once the time is over, nothing but the candidate that was being
     * measured and each problem's guess. */
    assert_true(watch.calls < 2 * LARGE_CANDIDATES);
    assert_true(watch.late <= 2);
    assert_in_range(count_tuned(ctx), 1, 2);
    clat_plan_release(plans[0]);
    clat_plan_release(plans[1]);
    clat_context_release(ctx);
    free(path);
}

/* Parts of composite plans are tuned, each problem once, empty ones never. */
static void test_collects(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 1};
    const clat_tune_options options = watched(&watch);
    const struct twice problem = {N, PLAIN, 9};
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    clat_plan *parts[] = {make_plan(ctx, PLAIN, N, 1), make_plan(ctx, PLAIN, 0, 1),
                          make_plan(ctx, PLAIN, N, 2)};
    clat_plan *plans[] = {NULL, make_plan(ctx, PLAIN, N, 1), make_plan(ctx, PLAIN, 0, 3)};
    assert_ok(plan_create_composite(&plans[0], ctx, &pair, &problem, parts, 3, 0));
    assert_status(CLAT_CANCELLED, clat_tune(ctx, 3, (const clat_plan *const *)plans, &options));
    assert_int_equal(watch.count, 2);
    assert_ok(clat_tune(ctx, 1, (const clat_plan *const *)plans + 2, &options));
    assert_int_equal(watch.calls, 1);
    assert_ok(clat_tune(ctx, 0, NULL, NULL));
    for (unsigned i = 0; i < 3; i++)
        clat_plan_release(plans[i]);
    clat_context_release(ctx);
    free(path);
}

static void test_arguments(void **state) {
    (void)state;
    clat_context *ctx = open_context("");
    clat_plan *plan = make_plan(ctx, PLAIN, N, 1);
    const clat_plan *const plans[] = {plan, NULL};
    clat_tune_options options = CLAT_TUNE_OPTIONS_INIT;
    assert_status(CLAT_INVALID_ARGUMENT, clat_tune(NULL, 1, plans, NULL));
    assert_error_names("ctx");
    assert_status(CLAT_INVALID_ARGUMENT, clat_tune(ctx, 1, NULL, NULL));
    assert_error_names("plans");
    assert_status(CLAT_INVALID_ARGUMENT, clat_tune(ctx, 2, plans, NULL));
    assert_error_names("plans");
    assert_status(CLAT_INVALID_CONTEXT, clat_tune(harness_context(), 1, plans, NULL));
    options.budget_seconds = -1;
    assert_status(CLAT_INVALID_ARGUMENT, clat_tune(ctx, 1, plans, &options));
    assert_error_names("budget_seconds");
    options.budget_seconds = 1;
    options.implementation = "nobody";
    assert_status(CLAT_NOT_FOUND, clat_tune(ctx, 1, plans, &options));
    assert_error_names("nobody");
    options.implementation = "never";
    assert_status(CLAT_UNSUPPORTED, clat_tune(ctx, 1, plans, &options));
    clat_plan_release(plan);
    clat_context_release(ctx);
}

/* Values measured on other kernel source are reported, once, and not used. */
static void test_stale(void **state) {
    (void)state;
    struct watch watch = {.stop_after = 1};
    const clat_tune_options options = watched(&watch);
    char *path = new_tuned_file();
    clat_context *ctx = open_context(path);
    assert_status(CLAT_CANCELLED, tune(ctx, PLAIN, 1, &options));
    clat_context_release(ctx);
    char *content = read_all("%s", path), *source = strstr(content, "\"source\": \"");
    source[11] = source[11] == '0' ? '1' : '0';
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    ctx = open_context(path);
    for (unsigned n = 0; n < 2; n++)
        check_guessed(ctx, PLAIN, 1 + n);
    assert_int_equal(count_of(log_text, "measured on other kernel source"), 1);
    clat_context_release(ctx);
    free(content);
    free(path);
}

/* Programs of candidates may be forgotten while plans use them. */
static void test_programs_trimmed(void **state) {
    (void)state;
    clat_context *ctx = open_context("");
    clat_plan *plans[3] = {NULL};
    clat_trial *trial = NULL;
    clat_verdict verdict;
    const struct twice problem = {N, LARGE, 1};
    for (unsigned i = 0; i < 3; i++) {
        char tunables[64];
        snprintf(tunables, sizeof tunables, "LOOPS=10000 MODE=0 PAD=%u", i + 1);
        assert_ok(plan_create(&plans[i], ctx, &twice, &problem, "main", tunables));
    }
    program_store_trim(&ctx->programs, 5);
    program_store_trim(&ctx->programs, 1);
    assert_ok(clat_trial_create(&trial, plans[0], 1));
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(clat_trial_verify(trial, plans[i], &verdict));
        assert_true(verdict.ok);
        clat_plan_release(plans[i]);
    }
    program_store_trim(&ctx->programs, 0);
    assert_null(ctx->programs.entries);
    clat_trial_release(trial);
    clat_context_release(ctx);
}

/* ---- the journal ---- */

static struct tuned_entry journal_entry(const char *tunables) {
    struct tuned_entry entry = {.op = "twice",
                                .implementation = "main",
                                .shape = {.variant = "kind 0", .count = 1, .dim = {{"n", 7}}},
                                .source_hash = 42};
    snprintf(entry.tunables, sizeof entry.tunables, "%s", tunables);
    return entry;
}

static struct journal *open_journal(const char *path) {
    struct journal *journal = NULL;
    clat_context *ctx = harness_context();
    assert_ok(journal_open(&journal, path, &ctx->device, &ctx->log));
    return journal;
}

static void test_journal(void **state) {
    (void)state;
    char *path = new_tuned_file();
    struct score score = {.outcome = OUTCOME_MEASURED, .seconds = 0.5, .single = 0.75, .cost = 2};
    struct tuned_entry first = journal_entry("A=1"), second = journal_entry("A=2"),
                       third = journal_entry("A=3");
    struct journal *journal = open_journal(path);
    assert_non_null(journal);
    journal_add(journal, &first, &score);
    journal_add(journal, &second, &(struct score){.outcome = OUTCOME_STARTED});
    journal_close(journal);

    journal = open_journal(path);
    assert_false(journal_find(journal, &second, &score)); /* killed, once: tried again */
    journal_add(journal, &second, &(struct score){.outcome = OUTCOME_STARTED});
    journal_close(journal);

    journal = open_journal(path);
    memset(&score, 0, sizeof score);
    assert_true(journal_find(journal, &first, &score));
    assert_int_equal(score.outcome, OUTCOME_MEASURED);
    assert_true(score.seconds == 0.5 && score.single == 0.75 && score.cost == 2);
    assert_true(journal_find(journal, &second, &score)); /* killed twice: a crash, it seems */
    assert_int_equal(score.outcome, OUTCOME_FAILED);
    journal_add(journal, &second, &(struct score){.outcome = OUTCOME_MEASURED, .seconds = 1});
    assert_true(journal_find(journal, &second, &score)); /* a result settles it */
    assert_int_equal(score.outcome, OUTCOME_MEASURED);
    assert_false(journal_find(journal, &third, &score));
    first.source_hash++; /* other source, other shape: another candidate */
    assert_false(journal_find(journal, &first, &score));
    first.source_hash--;
    first.shape.dim[0].value++;
    assert_false(journal_find(journal, &first, &score));

    struct journal *other = open_journal(path); /* in use */
    assert_null(other);
    journal_close(journal);
    assert_false(journal_find(NULL, &first, &score));
    free(path);
}

/* Whatever is in the file, good lines before and after count. */
static void test_journal_damaged(void **state) {
    (void)state;
    static const char *const damage[] = {
        "\n\n\n",
        "garbage\n",
        "[1, 2]\n7\nnull\n",
        "{\"time\": 1}\n",
        "\xff\xfe\x00\n",
        "{\"time\": \"now\", \"device\": 1}\n",
        "{\"time\":1234567890,\"device\":\"cut sh",
    };
    const struct score score = {.outcome = OUTCOME_MEASURED, .seconds = 1, .single = 1};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char *path = new_tuned_file(), *name = text_format("%s.journal", path);
        struct tuned_entry first = journal_entry("A=1"), second = journal_entry("A=2");
        struct journal *journal = open_journal(path);
        journal_add(journal, &first, &score);
        journal_close(journal);
        FILE *file = fopen(name, "a");
        fputs(damage[i], file);
        fclose(file);
        journal = open_journal(path);
        assert_non_null(journal);
        journal_add(journal, &second, &score);
        journal_close(journal);
        journal = open_journal(path);
        struct score found;
        assert_true(journal_find(journal, &first, &found));
        assert_true(journal_find(journal, &second, &found));
        journal_close(journal);
        free(name);
        free(path);
    }
}

/* Every prefix of a journal, as a crash or a full disk may leave it. */
static void test_journal_truncated(void **state) {
    (void)state;
    char *path = new_tuned_file(), *name = text_format("%s.journal", path);
    const struct score score = {.outcome = OUTCOME_MEASURED, .seconds = 1, .single = 1};
    const struct tuned_entry first = journal_entry("A=1");
    struct journal *journal = open_journal(path);
    journal_add(journal, &first, &score);
    journal_close(journal);
    char *content = read_all("%s.journal", path);
    const size_t size = strlen(content);
    for (size_t length = 0; length < size - 1; length++) {
        struct score found;
        FILE *file = fopen(name, "w");
        fwrite(content, 1, length, file);
        fclose(file);
        journal = open_journal(path);
        assert_false(journal_find(journal, &first, &found));
        journal_close(journal);
        struct stat about;
        assert_int_equal(stat(name, &about), 0);
        assert_int_equal(about.st_size, 0); /* nothing good in it: starts anew */
    }
    free(content);
    free(name);
    free(path);
}

static void test_journal_old(void **state) {
    (void)state;
    char *path = new_tuned_file(), *name = text_format("%s.journal", path);
    const struct score score = {.outcome = OUTCOME_MEASURED, .seconds = 1, .single = 1};
    const struct tuned_entry first = journal_entry("A=1");
    struct journal *journal = open_journal(path);
    journal_add(journal, &first, &score);
    journal_close(journal);
    char *content = read_all("%s.journal", path);
    long long stamp = 0;
    assert_int_equal(sscanf(content, "{\"time\":%lld", &stamp), 1);
    for (unsigned hours = 20; hours <= 28; hours += 8) {
        FILE *file = fopen(name, "w");
        fprintf(file, "{\"time\":%lld%s", stamp - 3600LL * hours, strchr(content, ','));
        fclose(file);
        struct score found;
        journal = open_journal(path);
        assert_int_equal(journal_find(journal, &first, &found), hours < 24);
        journal_close(journal);
    }
    free(content);
    free(name);
    free(path);
}

/* ---- several at once ---- */

static void *tune_in_thread(void *user) {
    const char *path = ((const char **)user)[0];
    static atomic_int next = 21;
    const int64_t id = atomic_fetch_add(&next, 1);
    clat_context *ctx = NULL;
    clat_context_options options = harness_options();
    const clat_tune_options tuning = {.budget_seconds = 1};
    options.kernel_dir = kernel_directory();
    options.tuned_file = path;
    clat_status st = clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                              clat_context_device(harness_context()), &options);
    if (st == CLAT_OK) {
        clat_plan *plan = NULL;
        const struct twice problem = {N, PLAIN, id};
        st = plan_create(&plan, ctx, &twice, &problem, NULL, NULL);
        if (st == CLAT_OK)
            st = clat_tune(ctx, 1, (const clat_plan *const[]){plan}, &tuning);
        clat_plan_release(plan);
    }
    clat_context_release(ctx);
    return st == CLAT_OK ? user : NULL;
}

static void test_two_tuners(void **state) {
    (void)state;
    char *path = new_tuned_file();
    pthread_t threads[2];
    kernel_directory();
    harness_context();
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tune_in_thread, &path), 0);
    for (unsigned i = 0; i < 2; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        assert_non_null(good);
    }
    clat_context *ctx = open_context(path);
    assert_int_equal(count_tuned(ctx), 2);
    check_tuned(ctx, PLAIN, 21, NULL);
    check_tuned(ctx, PLAIN, 22, NULL);
    clat_context_release(ctx);
    free(path);
}

/* ---- the real thing ---- */

/* However slow the machine is: stops after some candidates, not after some time. */
static bool count_down(void *user, const clat_tune_progress *progress) {
    unsigned *calls_left = user;
    (void)progress;
    return --*calls_left > 0;
}

static void test_gemm(void **state) {
    (void)state;
    unsigned calls_left = 4;
    clat_context *ctx = NULL;
    clat_context_options options = harness_options();
    char *path = new_tuned_file();
    options.tuned_file = path;
    assert_ok(clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                       clat_context_device(harness_context()), &options));
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 96;
    const clat_tune_options tuning = {
        .budget_seconds = 200, .progress = count_down, .user = &calls_left};
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    assert_status(CLAT_CANCELLED, clat_tune(ctx, 1, (const clat_plan *const[]){plan}, &tuning));
    clat_plan_release(plan);
    assert_int_equal(calls_left, 0);
    assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    assert_non_null(strstr(clat_plan_get_info(plan)->tunables_from, path));
    assert_ok(clat_trial_create(&trial, plan, 1));
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    assert_true(verdict.ok);
    clat_trial_release(trial);
    clat_plan_release(plan);
    clat_context_release(ctx);
    free(path);
}

/* Matrices at offsets from lists have no random operands; they share their values with matrices at
 * a fixed stride, which are tuned instead. */
static void test_gemm_offsets(void **state) {
    (void)state;
    unsigned calls_left = 2;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = 33, problem.n = 47, problem.k = 20;
    problem.lda = 23;
    problem.batch = 3;
    problem.batching = CLAT_BATCH_OFFSETS;
    char *path = new_tuned_file();
    clat_context_options options = harness_options();
    clat_context *ctx = NULL;
    options.tuned_file = path;
    assert_ok(clat_context_create_with(&ctx, clat_context_cl(harness_context()),
                                       clat_context_device(harness_context()), &options));
    const clat_tune_options tuning = {
        .budget_seconds = 200, .progress = count_down, .user = &calls_left};
    clat_plan *plan = NULL;
    assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    assert_status(CLAT_CANCELLED, clat_tune(ctx, 1, (const clat_plan *const[]){plan}, &tuning));
    clat_plan_release(plan);
    assert_int_equal(calls_left, 0);
    assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    assert_non_null(strstr(clat_plan_get_info(plan)->tunables_from, path));
    clat_plan_release(plan);
    clat_context_release(ctx);
    free(path);
}

/* An operator without a stand-in: left out, with a line in the log. */
static void test_no_operands(void **state) {
    (void)state;
    struct watch watch = {0};
    const clat_tune_options options = watched(&watch);
    clat_context *ctx = open_context("");
    assert_ok(tune(ctx, NO_OPERANDS, 1, &options));
    assert_int_equal(watch.calls, 0);
    assert_non_null(strstr(log_text, "random operands cannot serve"));
    clat_context_release(ctx);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_journal),
    cmocka_unit_test(test_journal_damaged),
    cmocka_unit_test(test_journal_truncated),
    cmocka_unit_test(test_journal_old),
    cmocka_unit_test(test_finds_the_best),
    cmocka_unit_test(test_cancel_and_resume),
    cmocka_unit_test(test_neighbours),
    cmocka_unit_test(test_dry_run),
    cmocka_unit_test(test_no_tuned_file),
    cmocka_unit_test(test_unwritable_file),
    cmocka_unit_test(test_nothing_right),
    cmocka_unit_test(test_budget),
    cmocka_unit_test(test_collects),
    cmocka_unit_test(test_arguments),
    cmocka_unit_test(test_stale),
    cmocka_unit_test(test_programs_trimmed),
    cmocka_unit_test(test_two_tuners),
    cmocka_unit_test(test_gemm),
    cmocka_unit_test(test_gemm_offsets),
    cmocka_unit_test(test_no_operands),
};
HARNESS_MAIN(tests)
