/* What an operator tells so that trial.c can exercise and judge it without knowing its name. */
#ifndef CLAT_TRIAL_H
#define CLAT_TRIAL_H

#include "dtype.h"
#include "plan.h"

enum { TRIAL_MAX_OPERANDS = 12 };

struct operand {
    const char *name; /* as in the args struct */
    clat_dtype dtype;
    size_t elements; /* from the first to one past the last */
    double range;    /* inputs are uniform in [-range, range) */
    bool output;
    unsigned rank; /* 0: every element counts; else those of this view, the rest is padding */
    size_t extent[4], stride[4];
};

struct trial_hooks {
    /* Fills up to TRIAL_MAX_OPERANDS, returns how many. None: random
     * operands cannot serve the problem. */
    unsigned (*operands)(const void *problem, struct operand *out);
    /* Runs `plan` on the trial's operands: an argument struct from clat_trial_buffer and a call of
     * the public _run. */
    clat_status (*run)(const clat_trial *trial, const clat_plan *plan, cl_command_queue queue,
                       cl_event *event);
    /* Recomputes sampled outputs in f64 from trial_value() of the inputs, and reports each through
     * trial_judge(). Samples are drawn with trial_random(); when all outputs can be had for about
     * TRIAL_BUDGET multiply-adds, all are taken. Must include first and last rows and columns. */
    clat_status (*judge)(const void *problem, clat_trial *trial);
    /* The index-th awkward relative of a problem: the same variant (same program) at sizes that are
     * no multiple of any tile, with padding. false: no more. */
    bool (*awkward)(const void *problem, unsigned index, void *out);
    /* For the tuner: a problem of the same shape (op.h) that does have random operands. false:
     * there is none. May be NULL where `operands` always serve. */
    bool (*stand_in)(const void *problem, void *out);
};

/* A trial whose operands start where no vector is aligned. */
clat_status trial_create_unaligned(clat_trial **out, const clat_plan *plan, uint64_t seed);

#define TRIAL_BUDGET 3e7

clat_context *trial_context(const clat_trial *trial);

/* Element `index` of operand number `operand`, as a double; outputs as read back. */
double trial_value(const clat_trial *trial, unsigned operand, size_t index);

/* A pointer to f32/f64-decoded values is slow to build for large operands; this decodes `count`
 * elements at `stride` from `index` on. */
void trial_row(const clat_trial *trial, unsigned operand, size_t index, size_t stride, size_t count,
               double *out);

/* Uniform in 0 .. bound-1. */
uint64_t trial_random(clat_trial *trial, uint64_t bound);

/* Compares output element `index` of `operand` with `reference`. `bound` >= 0 is the error it may
 * have; where the reference is not finite, the output must be the same infinity. `format` names it.
 */
void trial_judge(clat_trial *trial, unsigned operand, size_t index, double reference, double bound,
                 const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
