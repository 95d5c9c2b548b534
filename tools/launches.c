#include "launches.h"

#include <dlfcn.h>
#include <string.h>

typedef cl_int (*enqueue_fn)(cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *,
                             const size_t *, cl_uint, const cl_event *, cl_event *);

static struct launches *watcher;

static enqueue_fn loader(void) {
    static enqueue_fn fn;
    if (!fn) {
        void *symbol = dlsym(RTLD_NEXT, "clEnqueueNDRangeKernel");
        memcpy(&fn, &symbol, sizeof fn); /* ISO C has no cast for this */
    }
    return fn;
}

static void note(cl_kernel kernel, cl_uint dims, const size_t *global, const size_t *local) {
    if (watcher->count++ >= LAUNCHES_MAX || dims > 3)
        return;
    struct launch *launch = &watcher->launch[watcher->count - 1];
    *launch = (struct launch){.kernel = kernel, .dims = dims, .has_local = local != NULL};
    for (cl_uint i = 0; i < dims; i++) {
        launch->global[i] = global[i];
        launch->local[i] = local ? local[i] : 0;
    }
}

/* Takes the place of the loader's for the whole program. */
__attribute__((visibility("default"))) cl_int
clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset,
                       const size_t *global, const size_t *local, cl_uint n_wait,
                       const cl_event *wait_list, cl_event *event) {
    if (watcher)
        note(kernel, dims, global, local);
    return loader()(queue, kernel, dims, offset, global, local, n_wait, wait_list, event);
}

void launches_watch(struct launches *out) {
    *out = (struct launches){0};
    watcher = out;
}

void launches_ignore(void) {
    watcher = NULL;
}

cl_int launches_repeat(const struct launches *launches, cl_command_queue queue) {
    const enqueue_fn enqueue = loader();
    for (unsigned i = 0; i < launches->count; i++) {
        const struct launch *l = &launches->launch[i];
        const cl_int err = enqueue(queue, l->kernel, l->dims, NULL, l->global,
                                   l->has_local ? l->local : NULL, 0, NULL, NULL);
        if (err != CL_SUCCESS)
            return err;
    }
    return CL_SUCCESS;
}
