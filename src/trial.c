#include "trial.h"

#include "clock.h"
#include "context.h"
#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Guard elements before and after each operand: more than a tile overshoots by accident in one row.
 * The even number leaves operands as aligned as an application's own buffers, for timing; the odd
 * one makes sure that kernels need no alignment. */
enum { GUARD_ALIGNED = 64, GUARD_ODD = 67 };

struct trial_operand {
    struct operand is;
    cl_mem buffer;
    void *host;            /* as uploaded; outputs: as read back; with padding and guards */
    unsigned char *inside; /* for each element of `host`: it is no padding and no guard */
    size_t count, bytes;
};

struct clat_trial {
    clat_context *ctx;
    clat_plan *plan;
    cl_command_queue queue;
    size_t guard; /* elements before and after each operand */
    unsigned count;
    struct trial_operand operands[TRIAL_MAX_OPERANDS];
    uint64_t random;
    clat_verdict *verdict; /* being filled */
    double worst_excess;   /* the largest error / bound so far */
    bool wrong;
};

uint64_t trial_random(clat_trial *trial, uint64_t bound) {
    return random_next(&trial->random) % bound;
}

/* ---- operands */

/* Marks the elements that belong to the operand. The last dimension is the innermost loop. */
static void mark_inside(struct trial_operand *operand, size_t guard) {
    const struct operand *is = &operand->is;
    size_t extent[4] = {1, 1, 1, is->elements}, stride[4] = {0, 0, 0, 1};
    for (unsigned i = 0; i < is->rank; i++) {
        extent[4 - is->rank + i] = is->extent[i];
        stride[4 - is->rank + i] = is->stride[i];
    }
    for (size_t a = 0; a < extent[0]; a++)
        for (size_t b = 0; b < extent[1]; b++)
            for (size_t c = 0; c < extent[2]; c++) {
                unsigned char *row =
                    operand->inside + guard + a * stride[0] + b * stride[1] + c * stride[2];
                if (stride[3] == 1)
                    memset(row, 1, extent[3]);
                for (size_t d = 0; d < extent[3] && stride[3] != 1; d++)
                    row[d * stride[3]] = 1;
            }
}

/* What lies around outputs: a number that no result is, the same in every type. Around inputs lies
 * NaN, which spreads when it is read. */
#define GUARD_VALUE (-12352.0)

static void fill_input(struct trial_operand *operand, uint64_t *random) {
    const struct operand *is = &operand->is;
    for (size_t i = 0; i < operand->count; i++) {
        double value = (double)NAN;
        if (operand->inside[i])
            value = ((double)(random_next(random) >> 11) * 0x1p-52 - 1) * is->range;
        dtype_store(is->dtype, operand->host, i, value);
    }
}

/* NaN everywhere, by copies of what is there already, then the guards: outputs are poisoned before
 * each verified run. */
static void fill_output(struct trial_operand *operand) {
    const struct operand *is = &operand->is;
    const size_t element = clat_dtype_bytes(is->dtype);
    char *host = operand->host;
    dtype_store(is->dtype, host, 0, (double)NAN);
    for (size_t done = element; done < operand->bytes; done *= 2)
        memcpy(host + done, host, done < operand->bytes - done ? done : operand->bytes - done);
    for (size_t i = 0; i < operand->count; i++)
        if (!operand->inside[i])
            dtype_store(is->dtype, host, i, GUARD_VALUE);
}

static void fill(struct trial_operand *operand, uint64_t *random) {
    if (operand->is.output)
        fill_output(operand);
    else
        fill_input(operand, random);
}

static clat_status operand_create(struct trial_operand *operand, clat_trial *trial) {
    clat_status st = CLAT_OK;
    if (__builtin_add_overflow(operand->is.elements, 2 * trial->guard, &operand->count) ||
        !size_multiply(operand->count, clat_dtype_bytes(operand->is.dtype), &operand->bytes))
        TRY(status_fail(CLAT_INVALID_SIZE, "operand %s is too large", operand->is.name));
    operand->host = malloc(operand->bytes);
    operand->inside = calloc(operand->count, 1);
    if (operand->host == NULL || operand->inside == NULL)
        TRY(status_no_memory(operand->bytes));
    mark_inside(operand, trial->guard);
    fill(operand, &trial->random);
    cl_int err;
    operand->buffer = clCreateBuffer(trial->ctx->cl, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                     operand->bytes, operand->host, &err);
    TRY(status_cl(err, "clCreateBuffer"));
out:
    return st;
}

static clat_status trial_create(clat_trial **out, const clat_plan *plan, uint64_t seed,
                                size_t guard) {
    clat_status st = CLAT_OK;
    clat_trial *trial = calloc(1, sizeof *trial);
    if (trial == NULL)
        TRY(status_no_memory(sizeof *trial));
    trial->plan = plan_retain(plan);
    trial->ctx = plan_context(plan);
    trial->random = seed;
    trial->guard = guard;
    cl_int err;
    trial->queue = clCreateCommandQueue(trial->ctx->cl, trial->ctx->device.id, 0, &err);
    TRY(status_cl(err, "clCreateCommandQueue"));
    struct operand operands[TRIAL_MAX_OPERANDS];
    trial->count = plan_operation(plan)->trial->operands(plan_raw_problem(plan), operands);
    if (trial->count == 0)
        TRY(status_fail(CLAT_UNSUPPORTED, "plan: random operands cannot serve this problem: %s",
                        clat_plan_get_info(plan)->problem));
    for (unsigned i = 0; i < trial->count; i++) {
        trial->operands[i].is = operands[i];
        TRY(operand_create(&trial->operands[i], trial));
    }
    *out = trial;
    return CLAT_OK;
out:
    clat_trial_release(trial);
    return st;
}

clat_status clat_trial_create(clat_trial **out, const clat_plan *plan, uint64_t seed) {
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (plan == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "plan is NULL");
    return trial_create(out, plan, seed, GUARD_ALIGNED);
}

clat_status trial_create_unaligned(clat_trial **out, const clat_plan *plan, uint64_t seed) {
    *out = NULL;
    return trial_create(out, plan, seed, GUARD_ODD);
}

void clat_trial_release(clat_trial *trial) {
    if (trial == NULL)
        return;
    if (trial->queue != NULL) {
        clFinish(trial->queue);
        clReleaseCommandQueue(trial->queue);
    }
    for (unsigned i = 0; i < trial->count; i++) {
        if (trial->operands[i].buffer != NULL)
            clReleaseMemObject(trial->operands[i].buffer);
        free(trial->operands[i].host);
        free(trial->operands[i].inside);
    }
    clat_plan_release(trial->plan);
    free(trial);
}

static const struct trial_operand *find_operand(const clat_trial *trial, const char *name) {
    if (trial == NULL || name == NULL)
        return NULL;
    for (unsigned i = 0; i < trial->count; i++)
        if (strcmp(trial->operands[i].is.name, name) == 0)
            return &trial->operands[i];
    return NULL;
}

cl_mem clat_trial_buffer(const clat_trial *trial, const char *name, size_t *offset) {
    const struct trial_operand *operand = find_operand(trial, name);
    if (offset != NULL)
        *offset = operand ? trial->guard : 0;
    return operand ? operand->buffer : NULL;
}

const void *clat_trial_host(const clat_trial *trial, const char *name) {
    const struct trial_operand *operand = find_operand(trial, name);
    if (operand == NULL || operand->is.output)
        return NULL;
    return (const char *)operand->host + trial->guard * clat_dtype_bytes(operand->is.dtype);
}

clat_context *trial_context(const clat_trial *trial) {
    return trial->ctx;
}

cl_command_queue clat_trial_queue(const clat_trial *trial) {
    return trial ? trial->queue : NULL;
}

/* ---- running */

static clat_status check_plan(const clat_trial *trial, const clat_plan *plan) {
    const struct operation *op = plan_operation(trial->plan);
    if (plan_context(plan) != trial->ctx || plan_operation(plan) != op ||
        memcmp(plan_raw_problem(plan), plan_raw_problem(trial->plan), op->problem_bytes) != 0)
        return status_fail(CLAT_INVALID_PLAN, "plan is not for the trial's problem");
    return CLAT_OK;
}

clat_status clat_trial_time(clat_trial *trial, const clat_plan *plan, unsigned repeats,
                            double *seconds) {
    clat_status st = CLAT_OK;
    status_clear();
    if (trial == NULL || plan == NULL || seconds == NULL || repeats == 0)
        return status_fail(CLAT_INVALID_ARGUMENT, "trial, plan, repeats or seconds is NULL or 0");
    TRY(check_plan(trial, plan));
    const struct trial_hooks *hooks = plan_operation(plan)->trial;
    TRY_CL(clFinish(trial->queue));
    const double start = clock_seconds();
    for (unsigned i = 0; i < repeats; i++)
        TRY(hooks->run(trial, plan, trial->queue, NULL));
    TRY_CL(clFinish(trial->queue));
    *seconds = (clock_seconds() - start) / repeats;
out:
    return st;
}

/* ---- judging */

double trial_value(const clat_trial *trial, unsigned operand, size_t index) {
    const struct trial_operand *from = &trial->operands[operand];
    return dtype_load(from->is.dtype, from->host, trial->guard + index);
}

void trial_row(const clat_trial *trial, unsigned operand, size_t index, size_t stride, size_t count,
               double *out) {
    const struct trial_operand *from = &trial->operands[operand];
    for (size_t i = 0; i < count; i++)
        out[i] = dtype_load(from->is.dtype, from->host, trial->guard + index + i * stride);
}

void trial_judge(clat_trial *trial, unsigned operand, size_t index, double reference, double bound,
                 const char *format, ...) {
    const double got = trial_value(trial, operand, index);
    double error = fabs(got - reference);
    if (got == reference || (isnan(got) && isnan(reference)))
        error = 0;
    else if (isnan(error) || !isfinite(reference))
        error = INFINITY;
    const double excess = bound > 0 ? error / bound : error;
    trial->wrong |= error > bound;
    if (excess < trial->worst_excess || (excess == 0 && trial->verdict->where[0] != '\0'))
        return;
    trial->worst_excess = excess;
    trial->verdict->worst = error;
    trial->verdict->bound = bound;
    va_list args;
    va_start(args, format);
    vsnprintf(trial->verdict->where, sizeof trial->verdict->where, format, args);
    va_end(args);
}

static clat_status poison(clat_trial *trial) {
    clat_status st = CLAT_OK;
    for (unsigned i = 0; i < trial->count; i++) {
        struct trial_operand *operand = &trial->operands[i];
        if (!operand->is.output)
            continue;
        fill(operand, &trial->random);
        TRY_CL(clEnqueueWriteBuffer(trial->queue, operand->buffer, CL_TRUE, 0, operand->bytes,
                                    operand->host, 0, NULL, NULL));
    }
out:
    return st;
}

/* Reads outputs back; `*guards` tells whether their padding and guards hold what was put there. */
static clat_status read_output(clat_trial *trial, struct trial_operand *operand, bool *guards) {
    clat_status st = CLAT_OK;
    TRY_CL(clEnqueueReadBuffer(trial->queue, operand->buffer, CL_TRUE, 0, operand->bytes,
                               operand->host, 0, NULL, NULL));
    for (size_t i = 0; i < operand->count; i++)
        if (!operand->inside[i] && dtype_load(operand->is.dtype, operand->host, i) != GUARD_VALUE)
            *guards = false;
out:
    return st;
}

/* Nothing writes to an input, or near it. */
static clat_status compare_input(clat_trial *trial, const struct trial_operand *operand,
                                 bool *guards) {
    clat_status st = CLAT_OK;
    void *now = malloc(operand->bytes);
    if (now == NULL)
        TRY(status_no_memory(operand->bytes));
    TRY_CL(clEnqueueReadBuffer(trial->queue, operand->buffer, CL_TRUE, 0, operand->bytes, now, 0,
                               NULL, NULL));
    if (memcmp(now, operand->host, operand->bytes) != 0)
        *guards = false;
out:
    free(now);
    return st;
}

static clat_status read_back(clat_trial *trial, bool *guards) {
    clat_status st = CLAT_OK;
    *guards = true;
    for (unsigned i = 0; i < trial->count; i++)
        TRY(trial->operands[i].is.output ? read_output(trial, &trial->operands[i], guards)
                                         : compare_input(trial, &trial->operands[i], guards));
out:
    return st;
}

clat_status clat_trial_verify(clat_trial *trial, const clat_plan *plan, clat_verdict *verdict) {
    clat_status st = CLAT_OK;
    status_clear();
    if (trial == NULL || verdict == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL",
                           trial == NULL ? "trial" : "verdict");
    *verdict = (clat_verdict){0};
    if (plan != NULL) {
        TRY(check_plan(trial, plan));
        TRY(poison(trial));
        TRY(plan_operation(plan)->trial->run(trial, plan, trial->queue, NULL));
    }
    TRY_CL(clFinish(trial->queue));
    TRY(read_back(trial, &verdict->guards));
    trial->verdict = verdict;
    trial->worst_excess = 0;
    trial->wrong = false;
    TRY(plan_operation(trial->plan)->trial->judge(plan_raw_problem(trial->plan), trial));
    verdict->ok = verdict->guards && !trial->wrong;
out:
    if (trial != NULL)
        trial->verdict = NULL;
    return st;
}
