#include "plan.h"

#include "choice.h"
#include "context.h"

#include <stdlib.h>
#include <string.h>

enum { PLAN_CACHE_CAPACITY = 128 };

struct clat_plan {
    atomic_uint references;
    clat_context *ctx;
    const struct operation *op;
    void *problem;
    char *wish; /* the caller's implementation, for the cache; "" for none */

    struct choice choice;
    struct launch launch;
    cl_program program;
    bool cacheable; /* by the context; else an experiment with the caller's own tunables */
    bool used;      /* under enqueue_lock: it ran */
    cl_kernel kernels[OP_MAX_PASSES];
    cl_mem constants[OP_MAX_CONSTANTS];
    clat_plan *parts[PLAN_MAX_PARTS];

    /* clSetKernelArg and the enqueue that follows must not interleave between threads: OpenCL makes
     * no promise for one kernel object. Uncontended, this costs some 20 ns. */
    pthread_mutex_t enqueue_lock;

    struct text tunables_text, problem_text, explanation;
    clat_plan_info info;

    /* The context's cache, under its plan_lock. */
    clat_plan *next;
    unsigned generation;
};

/* ---- lifetime */

clat_plan *plan_retain(const clat_plan *plan) {
    clat_plan *counted = (clat_plan *)(uintptr_t)plan;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

void clat_plan_release(clat_plan *plan) {
    if (plan == NULL || atomic_fetch_sub_explicit(&plan->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < PLAN_MAX_PARTS; i++)
        clat_plan_release(plan->parts[i]);
    for (unsigned i = 0; i < OP_MAX_PASSES; i++)
        if (plan->kernels[i] != NULL)
            clReleaseKernel(plan->kernels[i]);
    for (unsigned i = 0; i < OP_MAX_CONSTANTS; i++)
        if (plan->constants[i] != NULL)
            clReleaseMemObject(plan->constants[i]);
    if (plan->program != NULL) {
        if (plan->cacheable && plan->used)
            program_mark_used(&plan->ctx->programs, plan->program);
        clReleaseProgram(plan->program);
    }
    launch_free(&plan->launch);
    text_free(&plan->tunables_text);
    text_free(&plan->problem_text);
    text_free(&plan->explanation);
    if (plan->problem != NULL && plan->op->release != NULL)
        plan->op->release(plan->problem);
    free(plan->problem);
    free(plan->wish);
    pthread_mutex_destroy(&plan->enqueue_lock);
    context_drop(plan->ctx);
    free(plan);
}

static clat_status plan_alloc(clat_plan **out, clat_context *ctx, const struct operation *op,
                              const void *problem, const char *wish) {
    clat_status st = CLAT_OK;
    clat_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return status_no_memory(sizeof *plan);
    atomic_init(&plan->references, 1);
    pthread_mutex_init(&plan->enqueue_lock, NULL);
    plan->ctx = context_retain(ctx);
    plan->op = op;
    plan->generation = tuning_generation(&ctx->tuning);
    plan->wish = text_format("%s", wish ? wish : "");
    plan->problem = malloc(op->problem_bytes);
    if (plan->problem == NULL || plan->wish == NULL) {
        free(plan->problem);
        plan->problem = NULL;
        TRY(status_no_memory(op->problem_bytes));
    }
    memcpy(plan->problem, problem, op->problem_bytes);
    if (op->retain != NULL)
        op->retain(plan->problem);
    op->print(plan->problem, &plan->problem_text);
    *out = plan;
    return CLAT_OK;
out:
    clat_plan_release(plan);
    return st;
}

/* Everything a caller may ask about, once the plan is complete. */
static clat_status plan_finish(clat_plan *plan, size_t workspace_bytes) {
    clat_status st = CLAT_OK;
    TRY(text_check(&plan->tunables_text));
    TRY(text_check(&plan->problem_text));
    TRY(text_check(&plan->explanation));
    plan->info = (clat_plan_info){
        .op = plan->op->name,
        .implementation = plan->choice.impl ? plan->choice.impl->name
                          : plan->parts[0]  ? "composite"
                                            : "none",
        .tunables = text_string(&plan->tunables_text),
        .tunables_from = plan->choice.from,
        .tuned = plan->choice.tuned,
        .problem = text_string(&plan->problem_text),
        .explanation = text_string(&plan->explanation),
        .workspace_bytes = workspace_bytes,
        .flops = plan->op->flops(plan->problem),
    };
out:
    return st;
}

/* ---- the context's cache */

static clat_plan *cache_take(clat_context *ctx, const struct operation *op, const void *problem,
                             const char *wish) {
    const unsigned generation = tuning_generation(&ctx->tuning);
    clat_plan *found = NULL;
    pthread_mutex_lock(&ctx->plan_lock);
    for (clat_plan **link = &ctx->plans; *link != NULL; link = &(*link)->next) {
        clat_plan *plan = *link;
        if (plan->op == op && plan->generation == generation && strcmp(plan->wish, wish) == 0 &&
            memcmp(plan->problem, problem, op->problem_bytes) == 0) {
            *link = plan->next;
            plan->next = ctx->plans;
            ctx->plans = plan;
            found = plan_retain(plan);
            break;
        }
    }
    pthread_mutex_unlock(&ctx->plan_lock);
    return found;
}

static void release_list(clat_plan *plan) {
    while (plan != NULL) {
        clat_plan *next = plan->next;
        clat_plan_release(plan);
        plan = next;
    }
}

/* Whether the cache may still be asked for this plan. */
static bool is_current(const clat_plan *plan, unsigned generation) {
    const struct operation *op = plan->op;
    return plan->generation == generation &&
           (op->is_reachable == NULL || op->is_reachable(plan->problem));
}

/* Adds a plan, and takes out the oldest above the capacity and those nobody can ask for again. */
static void cache_add(clat_context *ctx, clat_plan *plan) {
    const unsigned generation = tuning_generation(&ctx->tuning);
    clat_plan *evicted = NULL;
    unsigned count = 1;
    plan_retain(plan);
    pthread_mutex_lock(&ctx->plan_lock);
    plan->next = ctx->plans;
    ctx->plans = plan;
    for (clat_plan **link = &plan->next; *link != NULL;) {
        clat_plan *kept = *link;
        if (count < PLAN_CACHE_CAPACITY && is_current(kept, generation)) {
            count++;
            link = &kept->next;
        } else {
            *link = kept->next;
            kept->next = evicted;
            evicted = kept;
        }
    }
    pthread_mutex_unlock(&ctx->plan_lock);
    release_list(evicted);
}

void plan_cache_clear(clat_context *ctx) {
    pthread_mutex_lock(&ctx->plan_lock);
    clat_plan *plan = ctx->plans;
    ctx->plans = NULL;
    pthread_mutex_unlock(&ctx->plan_lock);
    release_list(plan);
}

/* ---- building */

static clat_status plan_build(clat_plan *plan) {
    clat_status st = CLAT_OK;
    struct text defines = {0};
    struct launch *launch = &plan->launch;
    cl_int err;
    TRY(plan->choice.impl->launch(&plan->ctx->device, plan->problem, plan->choice.values, launch));
    launch_defines(launch, plan->choice.impl, plan->choice.values, &defines);
    TRY(text_check(&defines));
    TRY(text_check(&launch->defines));
    TRY(text_check(&launch->snippet));
    const struct program_request request = {.source = plan->choice.impl->source,
                                            .defines = text_string(&defines),
                                            .snippet = launch->snippet.data};
    TRY(program_get(&plan->program, &plan->ctx->programs, &request));
    for (unsigned i = 0; i < launch->n_passes; i++) {
        plan->kernels[i] = clCreateKernel(plan->program, launch->passes[i].kernel, &err);
        TRY(status_cl(err, "clCreateKernel"));
    }
    for (unsigned i = 0; i < OP_MAX_CONSTANTS; i++) {
        if (launch->constant[i].data == NULL)
            continue;
        plan->constants[i] =
            clCreateBuffer(plan->ctx->cl, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR,
                           launch->constant[i].bytes, launch->constant[i].data, &err);
        TRY(status_cl(err, "clCreateBuffer"));
        free(launch->constant[i].data);
        launch->constant[i].data = NULL;
    }
out:
    text_free(&defines);
    return st;
}

clat_status plan_create(clat_plan **out, clat_context *ctx, const struct operation *op,
                        const void *problem, const char *implementation, const char *tunables) {
    clat_status st = CLAT_OK;
    clat_plan *plan = NULL;
    *out = NULL;
    /* Experiments are not worth a place in a cache. */
    const bool cacheable = tunables == NULL;
    TRY(choice_check(op, implementation, tunables));
    if (cacheable) {
        *out = cache_take(ctx, op, problem, implementation ? implementation : "");
        if (*out != NULL)
            return CLAT_OK;
    }
    TRY(plan_alloc(&plan, ctx, op, problem, implementation));
    plan->cacheable = cacheable;
    if (op->is_empty(plan->problem)) {
        text_printf(&plan->explanation, "%s: nothing to compute\n",
                    text_string(&plan->problem_text));
    } else {
        TRY(choice_make(&plan->choice, ctx, op, plan->problem, implementation, tunables));
        tunables_print(plan->choice.impl, plan->choice.values, &plan->tunables_text);
        text_printf(&plan->explanation, "%s on %s\n", text_string(&plan->problem_text),
                    ctx->device.name);
        choice_explain(&plan->choice, ctx, op, plan->problem, implementation, &plan->explanation);
        TRY(plan_build(plan));
    }
    TRY(plan_finish(plan, plan->launch.workspace_bytes));
    if (cacheable)
        cache_add(ctx, plan);
    *out = plan;
    return CLAT_OK;
out:
    clat_plan_release(plan);
    return st;
}

clat_status plan_create_composite(clat_plan **out, clat_context *ctx, const struct operation *op,
                                  const void *problem, clat_plan *const *parts, unsigned n_parts,
                                  size_t workspace_bytes) {
    clat_status st = CLAT_OK;
    clat_plan *plan = NULL;
    *out = NULL;
    st = plan_alloc(&plan, ctx, op, problem, NULL);
    if (st != CLAT_OK) {
        for (unsigned i = 0; i < n_parts; i++)
            clat_plan_release(parts[i]);
        return st;
    }
    plan->choice.tuned = true;
    for (unsigned i = 0; i < n_parts; i++) {
        const clat_plan_info *info = &parts[i]->info;
        plan->parts[i] = parts[i];
        plan->choice.tuned &= info->tuned;
        text_printf(&plan->explanation, "%s", info->explanation);
        text_printf(&plan->tunables_text, "%s%s:%s(%s)", i ? " " : "", info->op,
                    info->implementation, info->tunables);
    }
    strcpy(plan->choice.from, "parts");
    TRY(plan_finish(plan, workspace_bytes));
    *out = plan;
    return CLAT_OK;
out:
    clat_plan_release(plan);
    return st;
}

/* ---- running */

/* Not all drivers check a wait list before they read it. */
static clat_status check_wait_list(cl_uint n_wait, const cl_event *wait_list) {
    if ((n_wait > 0) != (wait_list != NULL))
        return status_fail(CLAT_INVALID_ARGUMENT, "wait_list is %s but n_wait is %u",
                           wait_list ? "given" : "NULL", (unsigned)n_wait);
    for (cl_uint i = 0; i < n_wait; i++)
        if (wait_list[i] == NULL)
            return status_fail(CLAT_INVALID_ARGUMENT, "wait_list[%u] is NULL", (unsigned)i);
    return CLAT_OK;
}

clat_status plan_problem(const void **out, const clat_plan *plan, const struct operation *op,
                         cl_command_queue queue, cl_uint n_wait, const cl_event *wait_list) {
    clat_status st = CLAT_OK;
    cl_context owner = NULL;
    if (plan == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "plan is NULL");
    if (plan->op != op)
        return status_fail(CLAT_INVALID_PLAN, "plan is for %s, not for %s", plan->op->name,
                           op->name);
    if (queue == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "queue is NULL");
    TRY_CL(clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof owner, &owner, NULL));
    if (owner != plan->ctx->cl)
        return status_fail(CLAT_INVALID_CONTEXT, "queue belongs to another OpenCL context");
    TRY(check_wait_list(n_wait, wait_list));
    *out = plan->problem;
out:
    return st;
}

static clat_status bind_pass(const clat_plan *plan, unsigned index, const struct binding *binding,
                             cl_mem workspace) {
    clat_status st = CLAT_OK;
    const struct pass *pass = &plan->launch.passes[index];
    cl_kernel kernel = plan->kernels[index];
    for (cl_uint i = 0; i < pass->n_args; i++) {
        const struct pass_arg *arg = &pass->args[i];
        const void *value = NULL;
        size_t bytes = sizeof(cl_mem);
        switch (arg->kind) {
        case ARG_BUFFER:
            value = &binding->buffer[arg->index];
            break;
        case ARG_CONSTANT:
            value = &plan->constants[arg->index];
            break;
        case ARG_WORKSPACE:
            value = &workspace;
            break;
        case ARG_PARAMS:
            value = binding->params;
            bytes = plan->launch.params_bytes;
            break;
        case ARG_LOCAL:
            bytes = arg->bytes;
            break;
        }
        TRY_CL(clSetKernelArg(kernel, i, bytes, value));
    }
out:
    return st;
}

/* All passes, with the plan's lock held. On return `*last` is the event of the last command that
 * was enqueued, when one was asked for. */
static clat_status enqueue_passes(const clat_plan *plan, cl_command_queue queue,
                                  const struct binding *binding, cl_mem workspace, cl_uint n_wait,
                                  const cl_event *wait_list, bool want_event, cl_event *last) {
    clat_status st = CLAT_OK;
    const struct launch *launch = &plan->launch;
    const bool chain = launch->n_passes > 1 && !queue_in_order(queue);
    for (unsigned i = 0; i < launch->n_passes; i++) {
        const struct pass *pass = &launch->passes[i];
        const bool follows = chain && i > 0;
        const bool event = chain || (want_event && i + 1 == launch->n_passes);
        cl_event previous = *last;
        TRY(bind_pass(plan, i, binding, workspace));
        TRY_CL(clEnqueueNDRangeKernel(
            queue, plan->kernels[i], pass->dims, NULL, pass->global,
            pass->local[0] ? pass->local : NULL, follows ? 1 : (i == 0 ? n_wait : 0),
            follows ? &previous : (i == 0 ? wait_list : NULL), event ? last : NULL));
        if (follows)
            clReleaseEvent(previous);
    }
out:
    return st;
}

static clat_status check_workspace(const clat_plan *plan, cl_mem workspace) {
    const struct view view = {.name = "workspace",
                              .buffer = workspace,
                              .element_bytes = 1,
                              .rank = 1,
                              .extent = {plan->info.workspace_bytes},
                              .stride = {1}};
    return view_check(&view, plan->ctx->cl);
}

clat_status plan_enqueue(const clat_plan *plan, cl_command_queue queue,
                         const struct binding *binding, cl_uint n_wait, const cl_event *wait_list,
                         cl_event *event) {
    clat_status st = CLAT_OK;
    struct workspace *borrowed = NULL;
    cl_event last = NULL;
    cl_mem workspace = NULL;
    const size_t workspace_bytes = plan->launch.workspace_bytes;

    if (plan->launch.n_passes == 0) {
        if (event != NULL || n_wait > 0)
            TRY_CL(clEnqueueMarkerWithWaitList(queue, n_wait, wait_list, event));
        return CLAT_OK;
    }
    if (workspace_bytes > 0 && binding->workspace != NULL) {
        TRY(check_workspace(plan, binding->workspace));
        workspace = binding->workspace;
    } else if (workspace_bytes > 0) {
        TRY(workspace_take(&borrowed, &plan->ctx->workspace, queue, workspace_bytes));
        workspace = workspace_buffer(borrowed);
    }

    clat_plan *locked = (clat_plan *)(uintptr_t)plan;
    pthread_mutex_lock(&locked->enqueue_lock);
    locked->used = true;
    st = enqueue_passes(plan, queue, binding, workspace, n_wait, wait_list,
                        event != NULL || workspace_needs_event(borrowed, queue), &last);
    pthread_mutex_unlock(&locked->enqueue_lock);
out:
    workspace_end_run(&plan->ctx->workspace, borrowed, queue, st, last);
    if (st == CLAT_OK && event != NULL)
        *event = last;
    else if (last != NULL)
        clReleaseEvent(last);
    return st;
}

/* ---- looking inside */

const clat_plan_info *clat_plan_get_info(const clat_plan *plan) {
    return plan ? &plan->info : NULL;
}

clat_plan *plan_part(const clat_plan *plan, unsigned index) {
    return index < PLAN_MAX_PARTS ? plan->parts[index] : NULL;
}

const struct operation *plan_operation(const clat_plan *plan) {
    return plan->op;
}

const void *plan_raw_problem(const clat_plan *plan) {
    return plan->problem;
}

clat_context *plan_context(const clat_plan *plan) {
    return plan->ctx;
}

const struct implementation *plan_implementation(const clat_plan *plan) {
    return plan->choice.impl;
}

const int *plan_tunables(const clat_plan *plan) {
    return plan->choice.values;
}

const struct launch *plan_launch(const clat_plan *plan) {
    return &plan->launch;
}
