#include "context.h"

#include "engine.h"
#include "plan.h"

#include <stdlib.h>

clat_context *context_retain(clat_context *ctx) {
    atomic_fetch_add_explicit(&ctx->references, 1, memory_order_relaxed);
    return ctx;
}

void context_drop(clat_context *ctx) {
    if (atomic_fetch_sub_explicit(&ctx->references, 1, memory_order_acq_rel) != 1)
        return;
    workspace_close(&ctx->workspace);
    tuning_close(&ctx->tuning);
    program_store_close(&ctx->programs);
    device_close(&ctx->device);
    cache_close(ctx->cache);
    pthread_mutex_destroy(&ctx->plan_lock);
    clReleaseContext(ctx->cl);
    free(ctx);
}

/* Takes over one reference to `cl`, also on failure. */
static clat_status context_make(clat_context **out, cl_context cl, cl_device_id device,
                                const clat_context_options *options) {
    clat_status st = CLAT_OK;
    bool device_open_done = false, programs_open = false;
    clat_context *ctx = calloc(1, sizeof *ctx);
    if (ctx == NULL)
        TRY(status_no_memory(sizeof *ctx));
    atomic_init(&ctx->references, 1);
    ctx->cl = cl;
    ctx->log = (struct logger){options->log, options->log_user};
    TRY(cache_open(&ctx->cache, options->cache_dir, options->cache_bytes, &ctx->log));
    TRY(device_open(&ctx->device, cl, device, ctx->cache, &ctx->log));
    device_open_done = true;
    TRY(program_store_open(&ctx->programs, cl, &ctx->device, ctx->cache, options->kernel_dir,
                           &ctx->log));
    programs_open = true;
    TRY(tuning_open(&ctx->tuning, &ctx->device, &ctx->programs, options->tuned_file, &ctx->log));
    workspace_open(&ctx->workspace, cl);
    pthread_mutex_init(&ctx->plan_lock, NULL);
    *out = ctx;
    return CLAT_OK;
out:
    if (programs_open)
        program_store_close(&ctx->programs);
    if (device_open_done)
        device_close(&ctx->device);
    if (ctx != NULL)
        cache_close(ctx->cache);
    free(ctx);
    clReleaseContext(cl);
    return st;
}

clat_status clat_context_create(clat_context **out, const clat_context_options *options) {
    const clat_context_options defaults = CLAT_CONTEXT_OPTIONS_INIT;
    clat_status st = CLAT_OK;
    cl_platform_id platform = NULL;
    cl_device_id device = NULL;
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (options == NULL)
        options = &defaults;
    TRY(device_choose(&platform, &device, options->device));
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)platform, 0};
    cl_int err;
    cl_context cl = clCreateContext(properties, 1, &device, NULL, NULL, &err);
    TRY(status_cl(err, "clCreateContext"));
    st = context_make(out, cl, device, options);
out:
    return st;
}

static clat_status check_device(cl_context cl, cl_device_id device) {
    clat_status st = CLAT_OK;
    cl_device_id *devices = NULL;
    size_t bytes = 0;
    bool found = false;
    TRY_CL(clGetContextInfo(cl, CL_CONTEXT_DEVICES, 0, NULL, &bytes));
    devices = malloc(bytes + 1);
    if (devices == NULL)
        TRY(status_no_memory(bytes));
    TRY_CL(clGetContextInfo(cl, CL_CONTEXT_DEVICES, bytes, devices, NULL));
    for (size_t i = 0; i < bytes / sizeof devices[0]; i++)
        found |= devices[i] == device;
    if (!found)
        st = status_fail(CLAT_INVALID_DEVICE, "device is not one of the OpenCL context's");
out:
    free(devices);
    return st;
}

clat_status clat_context_create_with(clat_context **out, cl_context cl, cl_device_id device,
                                     const clat_context_options *options) {
    const clat_context_options defaults = CLAT_CONTEXT_OPTIONS_INIT;
    clat_status st = CLAT_OK;
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (cl == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "cl is NULL");
    TRY(check_device(cl, device));
    TRY_CL(clRetainContext(cl));
    st = context_make(out, cl, device, options ? options : &defaults);
out:
    return st;
}

void clat_context_release(clat_context *ctx) {
    if (ctx == NULL)
        return;
    plan_cache_clear(ctx);
    context_drop(ctx);
}

cl_context clat_context_cl(const clat_context *ctx) {
    return ctx ? ctx->cl : NULL;
}

cl_device_id clat_context_device(const clat_context *ctx) {
    return ctx ? ctx->device.id : NULL;
}

clat_status clat_context_info(const clat_context *ctx, clat_device_info *out) {
    status_clear();
    if (ctx == NULL || out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", ctx == NULL ? "ctx" : "out");
    /* Probing and loading change caches behind the handle, never what it means. */
    clat_context *mutable_ctx = (clat_context *)(uintptr_t)ctx;
    const struct device *device = &ctx->device;
    const struct engine *engine = engine_find(device, CLAT_F16);
    *out = (clat_device_info){
        .name = device->name,
        .vendor = device_vendor_slug(device->vendor),
        .architecture = device->architecture,
        .driver = device->driver,
        .platform = device->platform_name,
        .is_cpu = device->is_cpu,
        .compute_units = device->compute_units,
        .global_bytes = device->global_bytes,
        .local_bytes = device->local_bytes,
        .f64 = device_can(&mutable_ctx->device, CAP_F64),
        .f16_arithmetic = device_can(&mutable_ctx->device, CAP_F16_ARITHMETIC),
        .bf16_dot = device_can(&mutable_ctx->device, CAP_BF16_DOT),
        .bf16_tile = device_has_bf16_tiles(device),
        .matrix_engine = engine != NULL ? engine->name : "",
        .wgmma = device_can(device, CAP_WGMMA),
        .static_local_bytes = device_static_local_bytes(device),
        .cache_dir = cache_directory(ctx->cache),
        .tuned_file = tuning_file(&ctx->tuning),
        .tuned_entries = tuning_count(&mutable_ctx->tuning),
        .kernel_dir = program_store_origin(&ctx->programs),
    };
    return CLAT_OK;
}
