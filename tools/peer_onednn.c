/* oneDNN's matrix multiplication on the host's copies of the operands. */
#include "peer.h"

#include <dnnl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The problem in row-major order: a column-major C is the row-major C^T = op(B)^T op(A)^T. */
struct product {
    bool trans_a, trans_b;
    size_t m, n, k;
};

struct state {
    const struct spec *spec;
    clat_trial *trial;
    struct product product;
    const void *a, *b;
    void *c;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_memory_t memory[3];
    bool sgemm; /* dnnl_sgemm is faster than the matmul primitive */
};

static bool check(dnnl_status_t status, const char *call) {
    return status == dnnl_success || tool_error("%s failed with oneDNN code %d", call, (int)status);
}

#define TRY_DNNL(call) TRY(check((call), #call))

static struct product product_of(const struct spec *spec) {
    if (spec->layout == CLAT_COL_MAJOR)
        return (struct product){spec->trans_b, spec->trans_a, spec->n, spec->m, spec->k};
    return (struct product){spec->trans_a, spec->trans_b, spec->m, spec->n, spec->k};
}

static dnnl_data_type_t data_type(clat_dtype dtype) {
    switch (dtype) {
    case CLAT_F32:
        return dnnl_f32;
    case CLAT_F16:
        return dnnl_f16;
    case CLAT_BF16:
        return dnnl_bf16;
    default:
        return dnnl_data_type_undef;
    }
}

static bool describe_matrix(dnnl_memory_desc_t *out, const struct spec *spec, size_t rows,
                            size_t cols, bool trans) {
    const dnnl_dim_t size = (dnnl_dim_t)(rows * cols), row = (dnnl_dim_t)(trans ? 1 : cols);
    const dnnl_dim_t col = (dnnl_dim_t)(trans ? rows : 1), n_rows = (dnnl_dim_t)rows;
    const dnnl_dims_t sizes = {(dnnl_dim_t)spec->batch, n_rows, (dnnl_dim_t)cols};
    const dnnl_dims_t strides = {size, row, col};
    const int skip = spec->batch == 1;
    return dnnl_memory_desc_init_by_strides(out, 3 - skip, sizes + skip, data_type(spec->dtype),
                                            strides + skip) == dnnl_success;
}

/* Descriptions of A, B, C and of the primitive. false: oneDNN does not do this; silent. */
static bool describe_product(dnnl_primitive_desc_t *out, dnnl_memory_desc_t matrices[3],
                             dnnl_engine_t engine, const struct spec *spec) {
    const struct product p = product_of(spec);
    dnnl_matmul_desc_t desc;
    return describe_matrix(&matrices[0], spec, p.m, p.k, p.trans_a) &&
           describe_matrix(&matrices[1], spec, p.k, p.n, p.trans_b) &&
           describe_matrix(&matrices[2], spec, p.m, p.n, false) &&
           dnnl_matmul_desc_init(&desc, &matrices[0], &matrices[1], NULL, &matrices[2]) ==
               dnnl_success &&
           dnnl_primitive_desc_create(out, &desc, NULL, engine, NULL) == dnnl_success;
}

static bool is_known(const struct spec *spec) {
    dnnl_engine_t engine = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_memory_desc_t matrices[3];
    const bool known = dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success &&
                       describe_product(&desc, matrices, engine, spec);
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    if (engine)
        dnnl_engine_destroy(engine);
    return known;
}

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    if (spec->op != SPEC_GEMM)
        snprintf(why, PEER_WHY_BYTES, "it has no attention");
    else if (spec->dtype == CLAT_F64 || !is_known(spec))
        snprintf(why, PEER_WHY_BYTES, "it has no %s on this CPU", clat_dtype_name(spec->dtype));
    else
        return true;
    return false;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    for (size_t i = 0; i < 3; i++)
        if (state->memory[i])
            dnnl_memory_destroy(state->memory[i]);
    if (state->matmul)
        dnnl_primitive_destroy(state->matmul);
    if (state->stream)
        dnnl_stream_destroy(state->stream);
    if (state->engine)
        dnnl_engine_destroy(state->engine);
    free(state->c);
}

static bool open_matmul(struct state *state) {
    void *const operands[3] = {(void *)(uintptr_t)state->a, (void *)(uintptr_t)state->b, state->c};
    dnnl_memory_desc_t matrices[3];
    dnnl_primitive_desc_t desc = NULL;
    bool ok = false;
    TRY_DNNL(dnnl_engine_create(&state->engine, dnnl_cpu, 0));
    TRY_DNNL(dnnl_stream_create(&state->stream, state->engine, dnnl_stream_default_flags));
    TRY(describe_product(&desc, matrices, state->engine, state->spec) ||
        tool_error("oneDNN does not take the problem"));
    TRY_DNNL(dnnl_primitive_create(&state->matmul, desc));
    for (int i = 0; i < 3; i++)
        TRY_DNNL(dnnl_memory_create(&state->memory[i], &matrices[i], state->engine, operands[i]));
    ok = true;
out:
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    return ok;
}

static bool run_sgemm(const struct state *state) {
    const struct product *p = &state->product;
    const dnnl_dim_t m = (dnnl_dim_t)p->m, n = (dnnl_dim_t)p->n, k = (dnnl_dim_t)p->k;
    return check(dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', m, n, k, 1, state->a,
                            p->trans_a ? m : k, state->b, p->trans_b ? k : n, 0, state->c, n),
                 "dnnl_sgemm");
}

static bool run_matmul(const struct state *state) {
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, state->memory[0]},
                                    {DNNL_ARG_WEIGHTS, state->memory[1]},
                                    {DNNL_ARG_DST, state->memory[2]}};
    return check(dnnl_primitive_execute(state->matmul, state->stream, 3, args),
                 "dnnl_primitive_execute");
}

static bool run(void *opaque, unsigned repeats) {
    const struct state *state = opaque;
    for (unsigned i = 0; i < repeats; i++)
        if (!(state->sgemm ? run_sgemm(state) : run_matmul(state)))
            return false;
    return state->sgemm || check(dnnl_stream_wait(state->stream), "dnnl_stream_wait");
}

static bool choose(struct state *state) {
    state->sgemm = true;
    const double sgemm = peer_try(&peer_onednn, state);
    state->sgemm = false;
    const double matmul = peer_try(&peer_onednn, state);
    state->sgemm = sgemm < matmul;
    return sgemm >= 0 && matmul >= 0;
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    const size_t bytes = spec->batch * spec->m * spec->n * clat_dtype_bytes(spec->dtype);
    const bool col = spec->layout == CLAT_COL_MAJOR;
    (void)ctx;
    state->spec = spec;
    state->trial = trial;
    state->product = product_of(spec);
    state->a = clat_trial_host(trial, col ? "b" : "a");
    state->b = clat_trial_host(trial, col ? "a" : "b");
    state->c = peer_host_output(bytes);
    if (!state->c)
        return false;
    return open_matmul(state) && (spec->dtype != CLAT_F32 || spec->batch > 1 || choose(state));
}

static bool publish(void *opaque) {
    const struct state *state = opaque;
    return peer_publish_host(state->spec, state->trial, state->c);
}

static const char *isa_name(void) {
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {{dnnl_cpu_isa_sse41, "SSE4.1"},
                 {dnnl_cpu_isa_avx, "AVX"},
                 {dnnl_cpu_isa_avx2, "AVX2"},
                 {dnnl_cpu_isa_avx2_vnni, "AVX2 with VNNI"},
                 {dnnl_cpu_isa_avx512_core, "AVX-512"},
                 {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 with VNNI"},
                 {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 with bf16"},
                 {dnnl_cpu_isa_avx512_core_amx, "AVX-512 with AMX"}};
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].isa == isa)
            return names[i].name;
    return "other";
}

static const char *version(void) {
    static char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d, %s", v->major, v->minor, v->patch, isa_name());
    return text;
}

static void describe(FILE *file) {
    fprintf(file, "peer     oneDNN %s\n", version());
}

const struct peer peer_onednn = {.name = "onednn",
                                 .state_bytes = sizeof(struct state),
                                 .supports = supports,
                                 .open = open_state,
                                 .run = run,
                                 .publish = publish,
                                 .close = close_state,
                                 .describe = describe,
                                 .library = "oneDNN",
                                 .version = version};
