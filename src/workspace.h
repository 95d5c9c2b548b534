/* Scratch buffers that plans borrow for one run; the pool grows until it serves the application's
 * concurrency, then allocates no more. */
#ifndef CLAT_WORKSPACE_H
#define CLAT_WORKSPACE_H

#include "status.h"

#include <pthread.h>

struct workspace_pool {
    cl_context cl;
    pthread_mutex_t lock;
    struct workspace *entries;
};

struct workspace; /* one buffer */

/* Whether commands of the queue follow one another without events. */
bool queue_in_order(cl_command_queue queue);

void workspace_open(struct workspace_pool *pool, cl_context cl);
void workspace_close(struct workspace_pool *pool);

/* A buffer of at least `bytes`. Commands enqueued on `queue` from now on come after the last user
 * of the buffer: it is idle, or the same in-order queue used it last, or, once POOL_DEPTH buffers
 * are in flight, the queue is told to wait for the oldest. It belongs to the caller until it is
 * given back. */
clat_status workspace_take(struct workspace **out, struct workspace_pool *pool,
                           cl_command_queue queue, size_t bytes);
cl_mem workspace_buffer(const struct workspace *workspace);

/* `last` is the event of the last command that uses it (retained here), or NULL when none was
 * enqueued. A NULL workspace is fine. */
void workspace_give(struct workspace_pool *pool, struct workspace *workspace, cl_event last);

/* The same where the last command was enqueued without an event, on an in-order queue: an event
 * costs a short kernel as much as its launch. The queue stays retained until another one, or the
 * end of the pool, takes its place. */
void workspace_give_in_order(struct workspace_pool *pool, struct workspace *workspace,
                             cl_command_queue queue);

/* The same after a failure that may have left commands on the queue: whatever is enqueued there now
 * counts as its users. */
void workspace_give_failed(struct workspace_pool *pool, struct workspace *workspace,
                           cl_command_queue queue);

/* Whether a run on the queue that borrows `workspace`, NULL if it borrows none, has to end with an
 * event; and its end, by whichever of the above: `last` is that event, NULL where none was asked
 * for. */
bool workspace_needs_event(const struct workspace *workspace, cl_command_queue queue);
void workspace_end_run(struct workspace_pool *pool, struct workspace *workspace,
                       cl_command_queue queue, clat_status status, cl_event last);

#endif
