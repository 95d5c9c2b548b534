#include "tuner_bench.h"

#include "clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Operands are the same in every run of the tuner. */
#define BENCH_SEED 0x5eed

/* Long enough to hide the cost of starting and waiting, short enough for hundreds of candidates. */
#define BURST_SECONDS 0.02
#define BURSTS 3
#define MAX_REPEATS 1000

clat_status bench_open(struct bench *bench, const clat_plan *plan) {
    clat_status st = CLAT_OK;
    *bench = (struct bench){
        .ctx = plan_context(plan), .op = plan_operation(plan), .problem = plan_raw_problem(plan)};
    TRY(clat_trial_create(&bench->trial, plan, BENCH_SEED));
    while (bench->n_awkward < BENCH_MAX_AWKWARD) {
        void *problem = calloc(1, bench->op->problem_bytes);
        if (problem == NULL)
            TRY(status_no_memory(bench->op->problem_bytes));
        if (!bench->op->trial->awkward(bench->problem, bench->n_awkward, problem)) {
            free(problem);
            break;
        }
        bench->awkward[bench->n_awkward++].problem = problem;
    }
out:
    if (st != CLAT_OK)
        bench_close(bench);
    return st;
}

void bench_close(struct bench *bench) {
    for (unsigned i = 0; i < bench->n_awkward; i++) {
        clat_trial_release(bench->awkward[i].trial);
        free(bench->awkward[i].problem);
    }
    clat_trial_release(bench->trial);
    *bench = (struct bench){0};
}

static clat_status make_plan(clat_plan **out, const struct bench *bench, const void *problem,
                             const struct implementation *impl, const int *values) {
    struct text tunables = {0};
    clat_status st = CLAT_OK;
    tunables_print(impl, values, &tunables);
    TRY(text_check(&tunables));
    TRY(plan_create(out, bench->ctx, bench->op, problem, impl->name, text_string(&tunables)));
out:
    text_free(&tunables);
    return st;
}

clat_status bench_plan(clat_plan **out, const struct bench *bench,
                       const struct implementation *impl, const int *values) {
    return make_plan(out, bench, bench->problem, impl, values);
}

clat_status bench_verify(clat_trial *trial, const clat_plan *plan) {
    clat_verdict verdict;
    clat_status st = clat_trial_verify(trial, plan, &verdict);
    if (st != CLAT_OK || verdict.ok)
        return st;
    if (!verdict.guards)
        return status_fail(CLAT_WRONG_RESULT, "wrote outside its outputs");
    return status_fail(CLAT_WRONG_RESULT, "wrong result: %s is off by %.3g, %.3g is allowed",
                       verdict.where, verdict.worst, verdict.bound);
}

/* The relatives run the very program that the real problem runs, at sizes that divide nothing. */
static clat_status verify_awkward(struct bench *bench, const struct implementation *impl,
                                  const int *values, const clat_plan *plan) {
    clat_status st = CLAT_OK;
    clat_plan *small = NULL;
    unsigned verified = 0;
    for (unsigned i = 0; i < bench->n_awkward; i++) {
        struct awkward *awkward = &bench->awkward[i];
        struct device *device = &bench->ctx->device;
        char why[OP_WHY_BYTES];
        if (bench->op->is_empty(awkward->problem) ||
            !impl->supports(device, awkward->problem, why) ||
            !impl->fits(device, awkward->problem, values))
            continue;
        TRY(make_plan(&small, bench, awkward->problem, impl, values));
        if (awkward->trial == NULL)
            TRY(trial_create_unaligned(&awkward->trial, small, BENCH_SEED + 1 + i));
        TRY(bench_verify(awkward->trial, small));
        clat_plan_release(small);
        small = NULL;
        verified++;
    }
    if (verified == 0)
        TRY(bench_verify(bench->trial, plan));
out:
    clat_plan_release(small);
    return st;
}

clat_status bench_time(struct bench *bench, const clat_plan *plan, double single, double burst,
                       double *seconds) {
    double repeats = ceil(burst / single);
    repeats = repeats < 1 ? 1 : repeats > MAX_REPEATS ? MAX_REPEATS : repeats;
    return clat_trial_time(bench->trial, plan, (unsigned)repeats, seconds);
}

static clat_status time_closely(struct bench *bench, const clat_plan *plan, double best_single,
                                struct score *out) {
    clat_status st = CLAT_OK;
    double seconds = 0;
    TRY(clat_trial_time(bench->trial, plan, 1, &seconds)); /* the first run may finish the build */
    TRY(clat_trial_time(bench->trial, plan, 1, &out->single));
    if (out->single > BENCH_CUT_OFF * best_single) {
        TRY(clat_trial_time(bench->trial, plan, 1, &seconds)); /* bad luck? */
        out->single = fmin(out->single, seconds);
    }
    out->seconds = out->single;
    if (out->single > BENCH_CUT_OFF * best_single)
        return CLAT_OK;
    const double first = out->single;
    for (unsigned i = 0; i < BURSTS; i++) {
        TRY(bench_time(bench, plan, first, BURST_SECONDS, &seconds));
        out->seconds = fmin(out->seconds, seconds);
        if (first > BURST_SECONDS)
            out->single = fmin(out->single, seconds);
    }
out:
    return st;
}

clat_status bench_device_alive(const struct bench *bench) {
    clat_status st = CLAT_OK;
    cl_int err;
    cl_int word = 0;
    cl_mem buffer = NULL;
    cl_command_queue queue = clCreateCommandQueue(bench->ctx->cl, bench->ctx->device.id, 0, &err);
    TRY(status_cl(err, "clCreateCommandQueue"));
    buffer = clCreateBuffer(bench->ctx->cl, CL_MEM_READ_WRITE, sizeof word, NULL, &err);
    TRY(status_cl(err, "clCreateBuffer"));
    TRY_CL(clEnqueueWriteBuffer(queue, buffer, CL_TRUE, 0, sizeof word, &word, 0, NULL, NULL));
out:
    if (buffer != NULL)
        clReleaseMemObject(buffer);
    if (queue != NULL)
        clReleaseCommandQueue(queue);
    return st;
}

/* The first line of the thread's sentence, in printable ASCII. */
static void keep_sentence(struct score *out) {
    const char *text = clat_error_text();
    size_t length = 0;
    for (; text[length] != '\0' && text[length] != '\n' && length + 1 < sizeof out->why; length++)
        out->why[length] = text[length] < ' ' || text[length] > '~' ? '?' : text[length];
    out->why[length] = '\0';
}

clat_status bench_measure(struct bench *bench, const struct implementation *impl, const int *values,
                          double best_single, struct score *out) {
    clat_status st = CLAT_OK;
    clat_plan *plan = NULL;
    const double start = clock_seconds();
    *out = (struct score){.outcome = OUTCOME_MEASURED};
    TRY(bench_plan(&plan, bench, impl, values));
    TRY(verify_awkward(bench, impl, values, plan));
    TRY(time_closely(bench, plan, best_single, out));
out:
    if (st != CLAT_OK) {
        out->outcome = st == CLAT_WRONG_RESULT ? OUTCOME_WRONG : OUTCOME_FAILED;
        keep_sentence(out);
        /* Its own fault, or the end of the device? */
        st = st == CLAT_WRONG_RESULT || st == CLAT_BUILD_FAILED ? CLAT_OK
                                                                : bench_device_alive(bench);
    }
    clat_plan_release(plan);
    out->cost = clock_seconds() - start;
    return st;
}
