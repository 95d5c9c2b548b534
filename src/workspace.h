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

/* A buffer of at least `bytes` that no unfinished command uses, or that the same in-order queue
 * used last. It belongs to the caller until workspace_give. */
clat_status workspace_take(struct workspace **out, struct workspace_pool *pool,
                           cl_command_queue queue, size_t bytes);
cl_mem workspace_buffer(const struct workspace *workspace);

/* `last` is the event of the last command that uses it (retained here), or NULL when none was
 * enqueued. */
void workspace_give(struct workspace_pool *pool, struct workspace *workspace, cl_event last);

#endif
