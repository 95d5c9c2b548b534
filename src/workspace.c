#include "workspace.h"

#include <stdlib.h>

/* A host that runs ahead of its device gets this many buffers, then its queues wait for each other.
 */
enum { POOL_DEPTH = 8 };

struct workspace {
    struct workspace *next;
    cl_mem buffer;
    size_t bytes;
    bool taken;
    cl_command_queue queue; /* compared only, never used: the queue of the last command */
    bool in_order;
    cl_event last;
    cl_command_queue held; /* retained: the in-order queue whose last command has no event yet */
};

void workspace_open(struct workspace_pool *pool, cl_context cl) {
    *pool = (struct workspace_pool){.cl = cl};
    pthread_mutex_init(&pool->lock, NULL);
}

static void let_go(struct workspace *entry) {
    if (entry->held != NULL)
        clReleaseCommandQueue(entry->held);
    entry->held = NULL;
}

static void workspace_free(struct workspace *entry) {
    let_go(entry);
    if (entry->last != NULL)
        clReleaseEvent(entry->last);
    if (entry->buffer != NULL)
        clReleaseMemObject(entry->buffer);
    free(entry);
}

void workspace_close(struct workspace_pool *pool) {
    while (pool->entries != NULL) {
        struct workspace *entry = pool->entries;
        pool->entries = entry->next;
        workspace_free(entry);
    }
    pthread_mutex_destroy(&pool->lock);
}

/* An event of everything enqueued so far, where only the queue is known. */
static bool mark_held(struct workspace *entry) {
    if (clEnqueueMarkerWithWaitList(entry->held, 0, NULL, &entry->last) != CL_SUCCESS) {
        entry->last = NULL;
        return false;
    }
    clFlush(entry->held);
    let_go(entry);
    return true;
}

static bool is_finished(struct workspace *entry) {
    if (entry->held != NULL && !mark_held(entry))
        return false;
    if (entry->last == NULL)
        return true;
    cl_int status = CL_QUEUED;
    const cl_int err = clGetEventInfo(entry->last, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status,
                                      &status, NULL);
    /* A negative status is an aborted command: it no longer uses the buffer either. */
    if (err != CL_SUCCESS || status > CL_COMPLETE)
        return false;
    clReleaseEvent(entry->last);
    entry->last = NULL;
    return true;
}

bool queue_in_order(cl_command_queue queue) {
    cl_command_queue_properties properties = 0;
    const cl_int err =
        clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
    return err == CL_SUCCESS && (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) == 0;
}

/* Whether what comes next on `queue` comes after all uses of the entry. `last` or `held` still
 * retained means that the queue is alive, so equal handles are the same queue. */
static bool is_before(const struct workspace *entry, cl_command_queue queue, bool in_order) {
    return in_order && entry->in_order && entry->queue == queue;
}

/* The smallest idle entry that is large enough; with the lock held. The queue's own ones first,
 * which nobody has to be asked about. */
static struct workspace *find_idle(struct workspace_pool *pool, cl_command_queue queue,
                                   bool in_order, size_t bytes) {
    struct workspace *best = NULL;
    for (int others = 0; others < 2 && best == NULL; others++)
        for (struct workspace *entry = pool->entries; entry != NULL; entry = entry->next) {
            const bool fits = !entry->taken && entry->bytes >= bytes;
            if (!fits || (best != NULL && best->bytes <= entry->bytes))
                continue;
            if (others ? is_finished(entry) : is_before(entry, queue, in_order))
                best = entry;
        }
    return best;
}

/* The entry that was given back first, if at least POOL_DEPTH are large enough and in flight, their
 * ends known by events; with the lock held. The list is ordered by time, newest first. */
static struct workspace *find_oldest(struct workspace_pool *pool, size_t bytes) {
    struct workspace *oldest = NULL;
    unsigned in_flight = 0;
    for (struct workspace *entry = pool->entries; entry != NULL; entry = entry->next)
        if (!entry->taken && entry->last != NULL && entry->bytes >= bytes) {
            oldest = entry;
            in_flight++;
        }
    return in_flight >= POOL_DEPTH ? oldest : NULL;
}

/* Unlinks the idle entries that a larger one makes superfluous. With the lock held. */
static struct workspace *unlink_smaller(struct workspace_pool *pool, size_t bytes) {
    struct workspace *unlinked = NULL;
    for (struct workspace **link = &pool->entries; *link != NULL;) {
        struct workspace *entry = *link;
        if (!entry->taken && entry->bytes < bytes && is_finished(entry)) {
            *link = entry->next;
            entry->next = unlinked;
            unlinked = entry;
        } else
            link = &entry->next;
    }
    return unlinked;
}

/* Makes what follows on `queue` wait for `event`, whose own queue must not sit on it unflushed. */
static clat_status wait_in_queue(cl_command_queue queue, cl_event event) {
    clat_status st = CLAT_OK;
    cl_command_queue other = NULL;
    TRY_CL(clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof other, &other, NULL));
    if (other != NULL)
        TRY_CL(clFlush(other));
    TRY_CL(clEnqueueBarrierWithWaitList(queue, 1, &event, NULL));
out:
    return st;
}

static clat_status workspace_create(struct workspace **out, struct workspace_pool *pool,
                                    cl_command_queue queue, bool in_order, size_t bytes) {
    clat_status st = CLAT_OK;
    cl_int err;
    struct workspace *entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return status_no_memory(sizeof *entry);
    *entry =
        (struct workspace){.bytes = bytes, .taken = true, .queue = queue, .in_order = in_order};
    entry->buffer = clCreateBuffer(pool->cl, CL_MEM_READ_WRITE, bytes, NULL, &err);
    TRY(status_cl(err, "clCreateBuffer"));
    pthread_mutex_lock(&pool->lock);
    entry->next = pool->entries;
    pool->entries = entry;
    pthread_mutex_unlock(&pool->lock);
    *out = entry;
    return CLAT_OK;
out:
    workspace_free(entry);
    return st;
}

clat_status workspace_take(struct workspace **out, struct workspace_pool *pool,
                           cl_command_queue queue, size_t bytes) {
    clat_status st = CLAT_OK;
    const bool in_order = queue_in_order(queue);
    struct workspace *superfluous = NULL, *entry;
    cl_event wait = NULL;
    *out = NULL;

    pthread_mutex_lock(&pool->lock);
    entry = find_idle(pool, queue, in_order, bytes);
    if (entry == NULL && (entry = find_oldest(pool, bytes)) != NULL) {
        wait = entry->last;
        clRetainEvent(wait);
    }
    if (entry != NULL)
        entry->taken = true;
    else
        superfluous = unlink_smaller(pool, bytes);
    pthread_mutex_unlock(&pool->lock);

    while (superfluous != NULL) {
        struct workspace *next = superfluous->next;
        workspace_free(superfluous);
        superfluous = next;
    }
    if (entry == NULL)
        return workspace_create(out, pool, queue, in_order, bytes);
    if (wait != NULL) {
        st = wait_in_queue(queue, wait);
        clReleaseEvent(wait);
    }
    if (st != CLAT_OK) {
        workspace_give(pool, entry, NULL);
        return st;
    }
    entry->queue = queue; /* nobody looks at them while it is taken */
    entry->in_order = in_order;
    *out = entry;
    return CLAT_OK;
}

cl_mem workspace_buffer(const struct workspace *workspace) {
    return workspace->buffer;
}

/* With the lock held. */
static void give_locked(struct workspace_pool *pool, struct workspace *workspace) {
    struct workspace **link = &pool->entries;
    workspace->taken = false;
    while (*link != workspace)
        link = &(*link)->next;
    *link = workspace->next;
    workspace->next = pool->entries;
    pool->entries = workspace;
}

void workspace_give(struct workspace_pool *pool, struct workspace *workspace, cl_event last) {
    if (workspace == NULL)
        return;
    if (last != NULL)
        clRetainEvent(last);
    pthread_mutex_lock(&pool->lock);
    if (last != NULL) {
        let_go(workspace);
        if (workspace->last != NULL)
            clReleaseEvent(workspace->last);
        workspace->last = last;
    }
    give_locked(pool, workspace);
    pthread_mutex_unlock(&pool->lock);
}

void workspace_give_in_order(struct workspace_pool *pool, struct workspace *workspace,
                             cl_command_queue queue) {
    if (workspace == NULL)
        return;
    if (workspace->held != queue && clRetainCommandQueue(queue) != CL_SUCCESS) {
        workspace_give_failed(pool, workspace, queue);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (workspace->held != queue) {
        let_go(workspace);
        workspace->held = queue;
    }
    if (workspace->last != NULL)
        clReleaseEvent(workspace->last);
    workspace->last = NULL;
    give_locked(pool, workspace);
    pthread_mutex_unlock(&pool->lock);
}

void workspace_give_failed(struct workspace_pool *pool, struct workspace *workspace,
                           cl_command_queue queue) {
    cl_event marker = NULL;
    if (workspace == NULL)
        return;
    /* If not even a marker can be had, the buffer stays taken until the pool is closed: nobody
     * knows who still uses it. */
    if (clEnqueueMarkerWithWaitList(queue, 0, NULL, &marker) != CL_SUCCESS)
        return;
    workspace_give(pool, workspace, marker);
    clReleaseEvent(marker);
}

bool workspace_needs_event(const struct workspace *workspace, cl_command_queue queue) {
    return workspace != NULL && !queue_in_order(queue);
}

void workspace_end_run(struct workspace_pool *pool, struct workspace *workspace,
                       cl_command_queue queue, clat_status status, cl_event last) {
    if (status != CLAT_OK)
        workspace_give_failed(pool, workspace, queue);
    else if (last != NULL)
        workspace_give(pool, workspace, last);
    else
        workspace_give_in_order(pool, workspace, queue);
}
