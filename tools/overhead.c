#include "overhead.h"
#include "launches.h"
#include "suite.h"
#include "table.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- first calls, in fresh processes ---- */

enum { FIRST_CALLS = 3 };

static const char child_variable[] = "CLATTICE_OVERHEAD_CHILD"; /* its value: the device */

/* So small that its arithmetic takes no time. */
static struct spec first_problem(void) {
    return suite_gemm(CLAT_F32, "NN", 256, 256, 256);
}

static bool time_first_call(const char *device) {
    const struct tool_common common = {.device = device[0] ? device : NULL};
    const struct spec spec = first_problem();
    clat_context *ctx = NULL;
    clat_plan *plan = NULL;
    cl_command_queue queue = NULL;
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    cl_mem buffers[3] = {NULL};
    bool ok = false;

    const double start = now_seconds();
    TRY(tool_begin(&ctx, &common));
    const double created = now_seconds();
    cl_int err = CL_SUCCESS;
    queue = clCreateCommandQueue(clat_context_cl(ctx), clat_context_device(ctx), 0, &err);
    TRY(tool_cl(err, "clCreateCommandQueue"));
    const float zero = 0;
    for (int i = 0; i < 3; i++) {
        const size_t bytes = spec.m * spec.n * sizeof(float);
        buffers[i] = clCreateBuffer(clat_context_cl(ctx), CL_MEM_READ_WRITE, bytes, NULL, &err);
        TRY(tool_cl(err, "clCreateBuffer"));
        TRY(tool_cl(
            clEnqueueFillBuffer(queue, buffers[i], &zero, sizeof zero, 0, bytes, 0, NULL, NULL),
            "clEnqueueFillBuffer"));
    }
    TRY(tool_cl(clFinish(queue), "clFinish"));
    args.a = buffers[0];
    args.b = buffers[1];
    args.c = buffers[2];
    const double ready = now_seconds();
    TRY(spec_plan(&plan, ctx, &spec));
    const double planned = now_seconds();
    TRY(tool_clat(clat_gemm_run(plan, queue, &args, 0, NULL, NULL)));
    TRY(tool_cl(clFinish(queue), "clFinish"));
    printf("%.9f %.9f %.9f\n", created - start, planned - ready, now_seconds() - planned);
    ok = true;
out:
    for (int i = 0; i < 3; i++)
        if (buffers[i])
            clReleaseMemObject(buffers[i]);
    if (queue)
        clReleaseCommandQueue(queue);
    clat_plan_release(plan);
    clat_context_release(ctx);
    return ok;
}

int overhead_child(void) {
    const char *device = getenv(child_variable);
    if (!device)
        return -1;
    return time_first_call(device) ? TOOL_OK : TOOL_FAILED;
}

enum { CONTEXT, PLAN, RUN, N_STEPS };

/* The steps' seconds in a fresh process of this program. */
static bool run_child(double seconds[N_STEPS]) {
    int ends[2];
    if (pipe(ends) != 0)
        return tool_error("pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "clattice", (char *)NULL);
        _exit(TOOL_FAILED);
    }
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    char text[128] = "";
    int status = -1;
    bool ok = child > 0 && file && fgets(text, sizeof text, file);
    if (file)
        fclose(file);
    if (child > 0)
        waitpid(child, &status, 0);
    char *rest = text;
    for (int i = 0; i < N_STEPS; i++)
        seconds[i] = strtod(rest, &rest);
    ok = ok && WIFEXITED(status) && WEXITSTATUS(status) == 0 && seconds[RUN] > 0;
    return ok || tool_error("a fresh process could not make its first call");
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_tree(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

struct first_calls {
    const char *what;
    bool keep_ours, keep_driver; /* caches */
    double sample[N_STEPS][FIRST_CALLS];
};

static bool time_first_calls(struct first_calls *calls, const char *ours, const char *driver) {
    for (int i = 0; i < FIRST_CALLS; i++) {
        double seconds[N_STEPS] = {0};
        if (!calls->keep_ours)
            remove_tree(ours);
        if (!calls->keep_driver)
            remove_tree(driver);
        if (!run_child(seconds))
            return false;
        for (int s = 0; s < N_STEPS; s++)
            calls->sample[s][i] = seconds[s];
    }
    return true;
}

/* ---- enqueueing ---- */

enum { CALLS = 32, ROUNDS = 100 };

struct enqueue {
    bool is_attention;
    clat_plan *plan;
    clat_trial *trial; /* for its operands */
    cl_command_queue queue;
    clat_gemm_args gemm;
    clat_attention_args attention;
    struct launches launches; /* of one call */
    double ours[ROUNDS], bare[ROUNDS];
};

static void bind(struct enqueue *e) {
    e->gemm = (clat_gemm_args)CLAT_GEMM_ARGS_INIT;
    e->gemm.a = clat_trial_buffer(e->trial, "a", &e->gemm.a_offset);
    e->gemm.b = clat_trial_buffer(e->trial, "b", &e->gemm.b_offset);
    e->gemm.c = clat_trial_buffer(e->trial, "c", &e->gemm.c_offset);
    e->attention = (clat_attention_args)CLAT_ATTENTION_ARGS_INIT;
    e->attention.q = clat_trial_buffer(e->trial, "q", &e->attention.q_offset);
    e->attention.k = clat_trial_buffer(e->trial, "k", &e->attention.k_offset);
    e->attention.v = clat_trial_buffer(e->trial, "v", &e->attention.v_offset);
    e->attention.o = clat_trial_buffer(e->trial, "o", &e->attention.o_offset);
}

static bool call_library(struct enqueue *e) {
    return tool_clat(e->is_attention
                         ? clat_attention_run(e->plan, e->queue, &e->attention, 0, NULL, NULL)
                         : clat_gemm_run(e->plan, e->queue, &e->gemm, 0, NULL, NULL));
}

static bool call_driver(struct enqueue *e) {
    return tool_cl(launches_repeat(&e->launches, e->queue), "clEnqueueNDRangeKernel");
}

/* Seconds of one of CALLS calls on a queue that waits, so that no kernel takes a core meanwhile. */
static bool time_calls(struct enqueue *e, cl_context cl, bool (*call)(struct enqueue *),
                       double *seconds) {
    cl_int err = CL_SUCCESS;
    cl_event gate = clCreateUserEvent(cl, &err);
    bool ok = tool_cl(err, "clCreateUserEvent");
    if (!ok)
        return false;
    ok = tool_cl(clEnqueueMarkerWithWaitList(e->queue, 1, &gate, NULL),
                 "clEnqueueMarkerWithWaitList");
    const double start = now_seconds();
    for (int i = 0; i < CALLS && ok; i++)
        ok = call(e);
    *seconds = (now_seconds() - start) / CALLS;
    clSetUserEventStatus(gate, CL_COMPLETE);
    ok = tool_cl(clFinish(e->queue), "clFinish") && ok;
    clReleaseEvent(gate);
    return ok;
}

static bool time_enqueue(struct enqueue *e, clat_context *ctx, const struct spec *spec) {
    cl_context cl = clat_context_cl(ctx);
    cl_int err = CL_SUCCESS;
    double ignored;
    bool ok = false;
    e->is_attention = spec->op == SPEC_ATTENTION;
    TRY(spec_plan(&e->plan, ctx, spec));
    TRY(tool_clat(clat_trial_create(&e->trial, e->plan, 1)));
    e->queue = clCreateCommandQueue(cl, clat_context_device(ctx), 0, &err);
    TRY(tool_cl(err, "clCreateCommandQueue"));
    bind(e);
    launches_watch(&e->launches);
    ok = call_library(e);
    launches_ignore();
    TRY(ok);
    ok = false;
    TRY(tool_cl(clFinish(e->queue), "clFinish"));
    TRY((e->launches.count > 0 && e->launches.count <= LAUNCHES_MAX) ||
        tool_error("%u launches in one call: cannot be repeated", e->launches.count));
    TRY(time_calls(e, cl, call_library, &ignored) && time_calls(e, cl, call_driver, &ignored));
    for (int i = 0; i < ROUNDS; i++)
        TRY(time_calls(e, cl, call_library, &e->ours[i]) &&
            time_calls(e, cl, call_driver, &e->bare[i]));
    ok = true;
out:
    return ok;
}

static void close_enqueue(struct enqueue *e) {
    if (e->queue)
        clReleaseCommandQueue(e->queue);
    clat_trial_release(e->trial);
    clat_plan_release(e->plan);
}

/* ---- both ---- */

static bool add_row(json_t *rows, const char *what, double value, const char *unit) {
    json_t *row = json_pack("{s:s, s:f, s:s}", "what", what, "value", value, "unit", unit);
    return (row && json_array_append_new(rows, row) == 0) || tool_error("out of memory");
}

static bool report_row(FILE *file, json_t *rows, const char *what, double value, const char *unit) {
    char number[32];
    fprintf(file, "%-66s %8s %s\n", what, format_number(number, sizeof number, value), unit);
    return add_row(rows, what, value, unit);
}

static bool bench_first_calls(const struct tool_common *common, FILE *file, json_t *rows) {
    static const char *const steps[N_STEPS] = {[PLAN] = "plan", [RUN] = "first run and its end"};
    struct first_calls calls[] = {
        {.what = "caches empty"},
        {.what = "our cache filled, the driver's empty", .keep_ours = true},
        {.what = "caches filled", .keep_ours = true, .keep_driver = true},
    };
    char root[] = "/tmp/clattice-overhead-XXXXXX", ours[64], driver[64], what[128];
    if (!mkdtemp(root))
        return tool_error("mkdtemp: %s", strerror(errno));
    snprintf(ours, sizeof ours, "%s/ours", root);
    snprintf(driver, sizeof driver, "%s/driver", root);
    setenv(child_variable, common->device ? common->device : "", 1);
    setenv("CLATTICE_CACHE_DIR", ours, 1);
    setenv("POCL_CACHE_DIR", driver, 1);
    bool ok = true;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0] && ok; c++) {
        ok = time_first_calls(&calls[c], ours, driver);
        double cold[FIRST_CALLS];
        for (int i = 0; i < FIRST_CALLS; i++)
            cold[i] = calls[c].sample[PLAN][i] + calls[c].sample[RUN][i];
        snprintf(what, sizeof what, "driver and context, %s", calls[c].what);
        ok = ok && report_row(file, rows, what, median(calls[c].sample[CONTEXT], FIRST_CALLS) * 1e3,
                              "ms");
        snprintf(what, sizeof what, "GEMM plan and first run, %s", calls[c].what);
        ok = ok && report_row(file, rows, what, median(cold, FIRST_CALLS) * 1e3, "ms");
        for (int s = PLAN; s < N_STEPS && ok; s++) {
            snprintf(what, sizeof what, "    %s", steps[s]);
            ok = report_row(file, rows, what, median(calls[c].sample[s], FIRST_CALLS) * 1e3, "ms");
        }
    }
    remove_tree(root);
    unsetenv(child_variable);
    return ok;
}

static bool bench_enqueue(clat_context *ctx, const struct spec *spec, FILE *file, json_t *rows) {
    struct enqueue *e = calloc(1, sizeof *e);
    char name[SPEC_TEXT_BYTES], what[SPEC_TEXT_BYTES + 64];
    bool ok = false;
    TRY(e || tool_error("out of memory"));
    TRY(time_enqueue(e, ctx, spec));
    spec_print(name, sizeof name, spec);
    const double ours = median(e->ours, ROUNDS), bare = median(e->bare, ROUNDS);
    snprintf(what, sizeof what, "%s, added by the library", name);
    TRY(report_row(file, rows, what, (ours - bare) * 1e6, "us"));
    TRY(report_row(file, rows, "    the library's call", ours * 1e6, "us"));
    snprintf(what, sizeof what, "    its %u bare clEnqueueNDRangeKernel", e->launches.count);
    TRY(report_row(file, rows, what, bare * 1e6, "us"));
    ok = true;
out:
    if (e)
        close_enqueue(e);
    free(e);
    return ok;
}

/* Put back after the first calls, which have directories of their own. */
static void restore(const char *name, char *value) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    free(value);
}

static char *copy_variable(const char *name) {
    const char *value = getenv(name);
    return value ? strdup(value) : NULL;
}

bool bench_overhead(const struct tool_common *common) {
    const struct spec specs[] = {suite_gemm(CLAT_F32, "NN", 64, 64, 64),
                                 suite_gemm(CLAT_F32, "NN", 256, 256, 256),
                                 suite_attention(CLAT_F32, 1, 8, 8, 128, 64, "causal")};
    FILE *file = tool_out(common);
    clat_context *ctx = NULL;
    clat_device_info info;
    json_t *rows = json_array();
    char *ours = copy_variable("CLATTICE_CACHE_DIR"), *driver = copy_variable("POCL_CACHE_DIR");
    bool ok = bench_first_calls(common, file, rows); /* before this process has a context */
    restore("CLATTICE_CACHE_DIR", ours);
    restore("POCL_CACHE_DIR", driver);
    TRY(ok);
    ok = false;
    TRY(tool_begin(&ctx, common));
    TRY(tool_clat(clat_context_info(ctx, &info)));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        TRY(bench_enqueue(ctx, &specs[i], file, rows));
    TRY(tool_write_json(common, rows));
    ok = true;
out:
    json_decref(rows);
    clat_context_release(ctx);
    return ok;
}
