/* The handle behind everything: device, program cache, tuned values, plan cache, workspace. */
#ifndef CLAT_CONTEXT_H
#define CLAT_CONTEXT_H

#include "cache.h"
#include "device.h"
#include "log.h"
#include "program.h"
#include "tuning.h"
#include "workspace.h"

#include <stdatomic.h>

struct clat_context {
    atomic_uint references; /* the handle's own, and one for each plan */
    cl_context cl;
    struct logger log;
    struct cache *cache;
    struct device device;
    struct program_store programs;
    struct tuning tuning;
    struct workspace_pool workspace;
    pthread_mutex_t plan_lock;
    clat_plan *plans; /* cache, most recently used first; see plan.c */
};

clat_context *context_retain(clat_context *ctx);
void context_drop(clat_context *ctx);

#endif
