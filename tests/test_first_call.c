/* What a process pays before its first result: programs that an earlier process used come from the
 * disk cache with their kernels finished, and nothing is compiled. Each process is a child here: a
 * driver remembers what its own process has compiled. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <ftw.h>
#include <unistd.h>

enum { SIDE = 24, ELEMENTS = SIDE * SIDE };

/* What a child saw, in memory it shares with the test. */
struct sighting {
    bool is_pocl, right, done;
    unsigned built, loaded, warnings;
    unsigned driver_files[2]; /* in PoCL's cache: with the plan made, and after its first run */
};

struct child {
    const char *cache, *driver_cache; /* directories */
    bool plan_only;
    bool experiment; /* run with the caller's own tunables */
    /* While another context is open, and while the first run waits for an event. */
    bool beside_another, in_flight;
};

static struct sighting *seen;

static void count_lines(void *user, clat_log_level level, const char *line) {
    (void)user;
    seen->built += strstr(line, "built from source") != NULL;
    seen->loaded += strstr(line, "loaded from the disk cache") != NULL;
    seen->warnings += level == CLAT_LOG_WARNING;
}

static unsigned files;

static int count_file(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)path, (void)info, (void)ftw;
    files += type == FTW_F;
    return 0;
}

static unsigned files_below(const char *directory) {
    files = 0;
    nftw(directory, count_file, 16, FTW_PHYS);
    return files;
}

static clat_context *open_context(const struct child *child) {
    clat_context *ctx = NULL;
    clat_context_options options = harness_options();
    options.cache_dir = child->cache;
    options.log = count_lines;
    assert_ok(clat_context_create(&ctx, &options));
    clat_device_info info;
    assert_ok(clat_context_info(ctx, &info));
    seen->is_pocl = strcmp(info.vendor, "pocl") == 0;
    return ctx;
}

static cl_mem buffer_of(clat_context *ctx, float *values) {
    cl_int err;
    cl_mem buffer = clCreateBuffer(clat_context_cl(ctx), CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                   ELEMENTS * sizeof *values, values, &err);
    assert_cl(err);
    return buffer;
}

/* C = A B with B = 2 I. With `release`, the context goes while the run waits for an event. */
static void multiply(clat_context *ctx, const clat_plan *plan, const struct child *child,
                     void (*release)(clat_context *, const clat_plan *)) {
    cl_int err;
    float a[ELEMENTS], b[ELEMENTS] = {0}, c[ELEMENTS] = {0};
    cl_event gate = NULL;
    const cl_context cl = clat_context_cl(ctx);
    cl_command_queue queue = clCreateCommandQueue(cl, clat_context_device(ctx), 0, &err);
    assert_cl(err);
    for (int i = 0; i < ELEMENTS; i++)
        a[i] = (float)i;
    for (int i = 0; i < SIDE; i++)
        b[i * SIDE + i] = 2;
    clat_gemm_args args = CLAT_GEMM_ARGS_INIT;
    args.a = buffer_of(ctx, a), args.b = buffer_of(ctx, b), args.c = buffer_of(ctx, c);
    if (release != NULL) {
        gate = clCreateUserEvent(cl, &err);
        assert_cl(err);
    }
    assert_ok(clat_gemm_run(plan, queue, &args, gate != NULL, gate ? &gate : NULL, NULL));
    if (gate != NULL) {
        assert_cl(clFlush(queue));
        release(ctx, plan);
        assert_cl(clSetUserEventStatus(gate, CL_COMPLETE));
        clReleaseEvent(gate);
    }
    assert_cl(clEnqueueReadBuffer(queue, args.c, CL_TRUE, 0, sizeof c, c, 0, NULL, NULL));
    seen->driver_files[1] = files_below(child->driver_cache);
    seen->right = true;
    for (int i = 0; i < ELEMENTS; i++)
        seen->right &= c[i] == 2 * a[i];
    clReleaseMemObject(args.a);
    clReleaseMemObject(args.b);
    clReleaseMemObject(args.c);
    clReleaseCommandQueue(queue);
}

static void release_both(clat_context *ctx, const clat_plan *plan) {
    clat_plan_release((clat_plan *)(uintptr_t)plan);
    clat_context_release(ctx);
}

static void live(const struct child *child) {
    clat_context *other = child->beside_another ? open_context(child) : NULL;
    clat_context *ctx = open_context(child);
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = SIDE;
    clat_plan *plan = NULL, *model = NULL;
    assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    if (child->experiment) {
        model = plan;
        problem.implementation = clat_plan_get_info(model)->implementation;
        problem.tunables = clat_plan_get_info(model)->tunables;
        assert_ok(clat_gemm_plan(&plan, ctx, &problem));
    }
    clat_plan_release(model);
    seen->driver_files[0] = files_below(child->driver_cache);
    if (!child->plan_only)
        multiply(ctx, plan, child, child->in_flight ? release_both : NULL);
    if (!child->in_flight)
        release_both(ctx, plan);
    clat_context_release(other);
    seen->done = true;
}

/* Lives `child`'s life in a new process; what it saw is in *seen. */
static void run(const struct child *child) {
    memset(seen, 0, sizeof *seen);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed assertion ends this process, not a test */
        setenv("POCL_CACHE_DIR", child->driver_cache, 1);
        live(child);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(seen->done && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(seen->warnings, 0);
    assert_int_equal(seen->built + seen->loaded, 1);
    assert_true(seen->right || child->plan_only);
}

static bool is_loaded(const char *cache) {
    run(&(struct child){.cache = cache, .driver_cache = harness_temp_dir()});
    return seen->loaded == 1;
}

/* The driver's own cache is a new one each time: all that the second process has is ours. */
static void test_second_process(void **state) {
    (void)state;
    const char *cache = harness_temp_dir();
    assert_false(is_loaded(cache));
    if (seen->is_pocl)
        assert_true(seen->driver_files[1] > seen->driver_files[0]); /* it shows what it compiles */
    for (int i = 0; i < 2; i++) {
        assert_true(is_loaded(cache));
        if (seen->is_pocl)
            assert_int_equal(seen->driver_files[1], seen->driver_files[0]);
    }
}

/* Elsewhere than on PoCL a program is stored when it is built. */
struct not_stored {
    const char *name;
    struct child child;
};

static const struct not_stored not_stored[] = {
    {"nothing ran", {.plan_only = true}},
    {"an experiment", {.experiment = true}},
    {"another context is open", {.beside_another = true}},
    {"a kernel is in flight", {.in_flight = true}},
};

static void test_not_stored(void **state) {
    struct child child = ((const struct not_stored *)*state)->child;
    child.cache = harness_temp_dir();
    child.driver_cache = harness_temp_dir();
    run(&child);
    const bool is_pocl = seen->is_pocl;
    child.driver_cache = harness_temp_dir();
    child.plan_only = true;
    child.in_flight = false;
    run(&child);
    assert_int_equal(seen->loaded, !is_pocl);
}

int main(void) {
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED)
        return 1;
    harness_add("a second process compiles nothing", test_second_process, NULL);
    for (size_t i = 0; i < sizeof not_stored / sizeof not_stored[0]; i++)
        harness_add(not_stored[i].name, test_not_stored, &not_stored[i]);
    return harness_run_added();
}
