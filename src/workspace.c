#include "workspace.h"

#include <stdlib.h>

struct workspace {
    struct workspace *next;
    cl_mem buffer;
    size_t bytes;
    bool taken;
    cl_command_queue queue; /* compared only, never used: the queue of the last command */
    bool in_order;
    cl_event last;
};

void workspace_open(struct workspace_pool *pool, cl_context cl) {
    *pool = (struct workspace_pool){.cl = cl};
    pthread_mutex_init(&pool->lock, NULL);
}

static void workspace_free(struct workspace *entry) {
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

static bool is_finished(struct workspace *entry) {
    if (entry->last == NULL)
        return true;
    cl_int status = CL_QUEUED;
    const cl_int err = clGetEventInfo(entry->last, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status,
                                      &status, NULL);
    /* A negative status is an aborted command: it no longer uses the buffer either. */
    if (err == CL_SUCCESS && status > CL_COMPLETE)
        return false;
    clReleaseEvent(entry->last);
    entry->last = NULL;
    return true;
}

bool queue_in_order(cl_command_queue queue) {
    cl_command_queue_properties properties = 0;
    clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
    return (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) == 0;
}

/* The smallest idle entry that is large enough; with the lock held. */
static struct workspace *find_idle(struct workspace_pool *pool, cl_command_queue queue,
                                   bool in_order, size_t bytes) {
    struct workspace *best = NULL;
    for (struct workspace *entry = pool->entries; entry != NULL; entry = entry->next) {
        if (entry->taken || entry->bytes < bytes || (best != NULL && best->bytes <= entry->bytes))
            continue;
        /* `last` still retained means its queue is alive, so equal handles are the same queue. */
        const bool follows = in_order && entry->in_order && entry->queue == queue;
        if (follows || is_finished(entry))
            best = entry;
    }
    return best;
}

clat_status workspace_take(struct workspace **out, struct workspace_pool *pool,
                           cl_command_queue queue, size_t bytes) {
    clat_status st = CLAT_OK;
    struct workspace *entry = NULL;
    const bool in_order = queue_in_order(queue);

    pthread_mutex_lock(&pool->lock);
    *out = find_idle(pool, queue, in_order, bytes);
    if (*out != NULL) {
        (*out)->taken = true;
        (*out)->queue = queue;
        (*out)->in_order = in_order;
    }
    pthread_mutex_unlock(&pool->lock);
    if (*out != NULL)
        return CLAT_OK;

    entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        TRY(status_no_memory(sizeof *entry));
    cl_int err;
    entry->buffer = clCreateBuffer(pool->cl, CL_MEM_READ_WRITE, bytes, NULL, &err);
    TRY(status_cl(err, "clCreateBuffer"));
    entry->bytes = bytes;
    entry->taken = true;
    entry->queue = queue;
    entry->in_order = in_order;

    pthread_mutex_lock(&pool->lock);
    entry->next = pool->entries;
    pool->entries = entry;
    pthread_mutex_unlock(&pool->lock);
    *out = entry;
    return CLAT_OK;
out:
    if (entry != NULL)
        workspace_free(entry);
    return st;
}

cl_mem workspace_buffer(const struct workspace *workspace) {
    return workspace->buffer;
}

void workspace_give(struct workspace_pool *pool, struct workspace *workspace, cl_event last) {
    if (workspace == NULL)
        return;
    if (last != NULL)
        clRetainEvent(last);
    pthread_mutex_lock(&pool->lock);
    if (last != NULL) {
        if (workspace->last != NULL)
            clReleaseEvent(workspace->last);
        workspace->last = last;
    }
    workspace->taken = false;
    pthread_mutex_unlock(&pool->lock);
}
