/* What a run costs, told by what it does rather than by a clock: it sets arguments and enqueues,
 * and neither waits, creates, compiles nor allocates. */
#include "harness.h"
#include "plan.h"
#include "trial.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, RUNS = 20 };

/* ---------------------------------------------------------------- counted calls ------------ */

static struct {
    unsigned set_arguments, enqueued, forbidden, allocated;
    const char *which; /* the last forbidden one */
} calls;

/* These stand in front of the loader's functions of the same names. */
#define COUNTED(type, name, parameters, arguments, count)                                          \
    type name parameters {                                                                         \
        static type(*real) parameters;                                                             \
        if (real == NULL)                                                                          \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        count;                                                                                     \
        return real arguments;                                                                     \
    }
#define FORBIDDEN(type, name, parameters, arguments)                                               \
    COUNTED(type, name, parameters, arguments, (calls.forbidden++, calls.which = #name))

COUNTED(cl_int, clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t bytes, const void *value),
        (kernel, index, bytes, value), calls.set_arguments++)
COUNTED(cl_int, clEnqueueNDRangeKernel,
        (cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
         const size_t *global, const size_t *local, cl_uint n_wait, const cl_event *wait_list,
         cl_event *event),
        (queue, kernel, dims, offset, global, local, n_wait, wait_list, event), calls.enqueued++)
FORBIDDEN(cl_int, clFinish, (cl_command_queue queue), (queue))
FORBIDDEN(cl_int, clFlush, (cl_command_queue queue), (queue))
FORBIDDEN(cl_int, clWaitForEvents, (cl_uint count, const cl_event *events), (count, events))
FORBIDDEN(cl_mem, clCreateBuffer,
          (cl_context cl, cl_mem_flags flags, size_t bytes, void *host, cl_int *err),
          (cl, flags, bytes, host, err))
FORBIDDEN(cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *err),
          (program, name, err))
FORBIDDEN(cl_program, clCreateProgramWithSource,
          (cl_context cl, cl_uint count, const char **strings, const size_t *lengths, cl_int *err),
          (cl, count, strings, lengths, err))

/* Allocations by the library's own code, which is part of this program: callers in it count, those
 * in drivers and the C library do not. A sanitizer has an allocator of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS false
#else
#define COUNTS_ALLOCATIONS true

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern const char __executable_start[], etext[];

static void count_allocation(const void *caller) {
    const uintptr_t at = (uintptr_t)caller;
    calls.allocated += at >= (uintptr_t)__executable_start && at < (uintptr_t)etext;
}

void *malloc(size_t bytes) {
    count_allocation(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    count_allocation(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    count_allocation(__builtin_return_address(0));
    return __libc_realloc(old, bytes);
}
#endif

/* The counts count. */
static void test_counting(void **state) {
    (void)state;
    cl_command_queue queue = harness_queue();
    memset(&calls, 0, sizeof calls);
    free(harness_alloc(10));
    assert_cl(clFinish(queue));
    assert_int_equal(calls.allocated, COUNTS_ALLOCATIONS);
    assert_int_equal(calls.forbidden, 1);
    assert_string_equal(calls.which, "clFinish");
}

/* ---------------------------------------------------------------- runs --------------------- */

static clat_plan *gemm_plan(void) {
    clat_plan *plan = NULL;
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.m = problem.n = problem.k = 64;
    assert_ok(clat_gemm_plan(&plan, harness_context(), &problem));
    return plan;
}

/* With a mask of tile lists, and a logsumexp. */
static clat_plan *attention_plan(void) {
    clat_plan *plan = NULL;
    clat_mask *window = NULL, *globals = NULL, *mask = NULL;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    assert_ok(clat_mask_window(&window, 16, 16));
    assert_ok(clat_mask_global(&globals, 1));
    assert_ok(clat_mask_any(&mask, 2, (const clat_mask *[]){window, globals}));
    problem.heads = 2;
    problem.seq_q = problem.seq_k = 100;
    problem.head_dim = 32;
    problem.mask = mask;
    problem.logsumexp = true;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    clat_mask_release(window);
    clat_mask_release(globals);
    clat_mask_release(mask);
    return plan;
}

static clat_plan *mha_plan(void) {
    clat_plan *plan = NULL;
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    problem.seq = 20;
    problem.embed = 64;
    problem.heads = 2;
    assert_ok(clat_mha_plan(&plan, harness_context(), &problem));
    return plan;
}

static unsigned passes(const clat_plan *plan) {
    unsigned count = plan_launch(plan)->n_passes;
    for (unsigned i = 0; i < PLAN_MAX_PARTS && plan_part(plan, i) != NULL; i++)
        count += passes(plan_part(plan, i));
    return count;
}

struct case_ {
    const char *name;
    clat_plan *(*plan)(void);
    bool event;
};

static const struct case_ cases[] = {
    {"gemm", gemm_plan, false},
    {"gemm with an event", gemm_plan, true},
    {"attention", attention_plan, false},
    {"multi-head attention", mha_plan, false},
};

static void run(clat_trial *trial, const clat_plan *plan, bool wants_event) {
    cl_event event = NULL;
    assert_ok(plan_operation(plan)->trial->run(trial, plan, clat_trial_queue(trial),
                                               wants_event ? &event : NULL));
    if (wants_event)
        clReleaseEvent(event);
}

static void test_run(void **state) {
    const struct case_ *row = *state;
    clat_trial *trial = NULL;
    clat_plan *plan = row->plan();
    assert_ok(clat_trial_create(&trial, plan, 1));
    for (int i = 0; i < WARM_UP; i++)
        run(trial, plan, row->event);
    memset(&calls, 0, sizeof calls);
    for (int i = 0; i < RUNS; i++)
        run(trial, plan, row->event);
    if (calls.forbidden > 0)
        fail_msg("a run calls %s", calls.which);
    assert_int_equal(calls.allocated, 0);
    assert_int_equal(calls.enqueued, RUNS * passes(plan));
    assert_in_range(calls.set_arguments, 1, 12 * calls.enqueued);
    clat_trial_release(trial);
    clat_plan_release(plan);
}

int main(void) {
    harness_add("the counts count", test_counting, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        harness_add(cases[i].name, test_run, &cases[i]);
    return harness_run_added();
}
