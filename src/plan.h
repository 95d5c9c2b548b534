/* An immutable compiled operation. The only place that enqueues. */
#ifndef CLAT_PLAN_H
#define CLAT_PLAN_H

#include "op.h"

enum { PLAN_MAX_PARTS = 4 };

/* What one run brings: an operand's buffer for each role, and the finished parameter struct. */
struct binding {
    cl_mem buffer[OP_MAX_BUFFERS];
    const void *params;
    cl_mem workspace; /* NULL: the context's pool */
};

/*
 * Makes a plan, or gives the context's cached one for the same problem, implementation and
 * tunables. `problem` is normalised: equal problems are equal bytes (clear it before filling, no
 * dangling strings). `implementation` and `tunables` are the caller's wishes, or NULL.
 */
clat_status plan_create(clat_plan **out, clat_context *ctx, const struct operation *op,
                        const void *problem, const char *implementation, const char *tunables);

/*
 * A plan made of others, run by its operator one after the other. The parts change hands, also on
 * failure. `workspace_bytes` is what the operator itself needs; a part that needs some takes it
 * from the pool.
 */
clat_status plan_create_composite(clat_plan **out, clat_context *ctx, const struct operation *op,
                                  const void *problem, clat_plan *const *parts, unsigned n_parts,
                                  size_t workspace_bytes);
clat_plan *plan_part(const clat_plan *plan, unsigned index);

/* Gives up the plans that the context keeps for reuse. */
void plan_cache_clear(clat_context *ctx);

/* The checks of every _run: plan of this operator, queue of the plan's context, a sound wait list.
 * Gives the problem. */
clat_status plan_problem(const void **out, const clat_plan *plan, const struct operation *op,
                         cl_command_queue queue, cl_uint n_wait, const cl_event *wait_list);

const struct operation *plan_operation(const clat_plan *plan);
const void *plan_raw_problem(const clat_plan *plan);
clat_context *plan_context(const clat_plan *plan);
const struct implementation *
plan_implementation(const clat_plan *plan); /* NULL: empty or composite */
const int *plan_tunables(const clat_plan *plan);
const struct launch *plan_launch(const clat_plan *plan);
clat_plan *plan_retain(const clat_plan *plan);

/* Binds and enqueues all passes, in order also on an out-of-order queue. Nothing to do: a marker
 * that carries the event. */
clat_status plan_enqueue(const clat_plan *plan, cl_command_queue queue,
                         const struct binding *binding, cl_uint n_wait, const cl_event *wait_list,
                         cl_event *event);

/* A tensor in a buffer: `rank` extents and strides, in elements; what the argument is called. */
struct view {
    const char *name;
    cl_mem buffer;
    size_t offset, element_bytes;
    unsigned rank;
    size_t extent[4], stride[4];
};

/* INVALID_BUFFER, INVALID_CONTEXT: missing, of another context, or too short for the view. */
clat_status view_check(const struct view *view, cl_context cl);

/* INVALID_OVERLAP when the two share an element. Sub-buffers are seen through. Views that
 * interleave without touching (columns of one packed matrix) are told apart. */
clat_status view_disjoint(const struct view *output, const struct view *other);

/* *out = a * b, false on overflow. */
bool size_multiply(size_t a, size_t b, size_t *out);

/* Elements from the first to one past the last of a rank-dimensional view; false on overflow of
 * bytes. 0 when an extent is 0. */
bool view_span(unsigned rank, const size_t *extent, const size_t *stride, size_t element_bytes,
               size_t *elements);

/* true when two different index tuples reach the same element (for outputs). */
bool view_self_overlaps(unsigned rank, const size_t *extent, const size_t *stride);

#endif
