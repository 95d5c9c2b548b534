/*
 * cuBLAS on the same card, in device memory of its own: GEMM of all types, sums in f32 (f64 for
 * f64). Native precision lets it take f32 operands as TF32. The library is loaded when first asked
 * for, by its usual names or by the path in CLATTICE_CUBLAS.
 */
#include "cuda.h"
#include "peer.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* cuBLAS's interface since CUDA 11, as cublas_api.h declares it; enumerators as ints. */
enum { OP_N = 0, OP_T = 1, ALGORITHM_DEFAULT = -1 };
enum { TYPE_F32 = 0, TYPE_F64 = 1, TYPE_F16 = 2, TYPE_BF16 = 14 };
enum { COMPUTE_F32 = 68, COMPUTE_F64 = 70, COMPUTE_TF32 = 77 };
/* Slices of k are else added in 16 bits for some shapes, which f64 does not confirm. */
enum { DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
enum { OLDEST_MAJOR = 11, NEWEST_MAJOR = 19 };

static int (*create)(void **handle);
static int (*destroy)(void *handle);
static int (*set_math_mode)(void *handle, int mode);
static int (*get_property)(int which, int *value); /* 0, 1, 2: major, minor, patch */
static int (*gemm)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                   const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                   const void *beta, void *c, int type_c, int ldc, int compute, int algorithm);
static int (*gemm_batched)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                           const void *a, int type_a, int lda, long long stride_a, const void *b,
                           int type_b, int ldb, long long stride_b, const void *beta, void *c,
                           int type_c, int ldc, long long stride_c, int batch, int compute,
                           int algorithm);

static const struct cuda_symbol functions[] = {
    {"cublasCreate_v2", &create},
    {"cublasDestroy_v2", &destroy},
    {"cublasGetProperty", &get_property},
    {"cublasSetMathMode", &set_math_mode},
    {"cublasGemmEx", &gemm},
    {"cublasGemmStridedBatchedEx", &gemm_batched},
};

static struct { void *library, *handle; /* the handle belongs to the current context */ } cublas;

/* In cuBLAS's order, which is column-major: a row-major C is the column-major C^T = op(B)^T
 * op(A)^T, of the same memory with the same transposes. */
struct product {
    int op_a, op_b, m, n, k, lda, ldb;
    uint64_t a, b;
    long long stride_a, stride_b;
};

struct state {
    const struct spec *spec;
    clat_trial *trial;
    uint64_t a, b, c;
    struct product product;
    int type, compute;
};

/* The newest, where no path is given. */
static void *open_library(char why[PEER_WHY_BYTES]) {
    const char *path = getenv("CLATTICE_CUBLAS");
    const bool given = path && path[0];
    void *library = given ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    for (int major = NEWEST_MAJOR; major >= OLDEST_MAJOR && !library && !given; major--) {
        char name[32];
        snprintf(name, sizeof name, "libcublas.so.%d", major);
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library && given)
        snprintf(why, PEER_WHY_BYTES, "%s", dlerror());
    else if (!library)
        snprintf(why, PEER_WHY_BYTES, "no libcublas.so is found (CLATTICE_CUBLAS may name it)");
    return library;
}

static bool load(char why[PEER_WHY_BYTES]) {
    if (cublas.library)
        return true;
    void *library = open_library(why);
    if (library && !cuda_symbols(library, functions, sizeof functions / sizeof functions[0], why,
                                 PEER_WHY_BYTES)) {
        dlclose(library);
        library = NULL;
    }
    cublas.library = library;
    return library != NULL;
}

static bool begin(clat_context *ctx, char why[PEER_WHY_BYTES]) {
    if (cublas.handle)
        return true;
    if (!cuda_begin(clat_context_device(ctx), why, PEER_WHY_BYTES) || !load(why))
        return false;
    snprintf(why, PEER_WHY_BYTES, "cublasCreate failed");
    if (create(&cublas.handle) != 0) {
        cublas.handle = NULL;
        return false;
    }
    if (set_math_mode(cublas.handle, DISALLOW_REDUCED_PRECISION_REDUCTION) != 0) {
        snprintf(why, PEER_WHY_BYTES, "it does not promise sums in f32");
        destroy(cublas.handle);
        cublas.handle = NULL;
        return false;
    }
    return true;
}

static void finish(void) {
    if (cublas.handle)
        destroy(cublas.handle);
    cublas.handle = NULL;
    cuda_end();
}

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    const size_t most = INT_MAX;
    snprintf(why, PEER_WHY_BYTES, "it has no attention");
    if (spec->op != SPEC_GEMM)
        return false;
    snprintf(why, PEER_WHY_BYTES, "its sizes are ints");
    return spec->m <= most && spec->n <= most && spec->k <= most && spec->batch <= most &&
           begin(ctx, why);
}

static int type_of(clat_dtype dtype) {
    switch (dtype) {
    case CLAT_F64:
        return TYPE_F64;
    case CLAT_F16:
        return TYPE_F16;
    case CLAT_BF16:
        return TYPE_BF16;
    default:
        return TYPE_F32;
    }
}

static int compute_of(const struct spec *spec) {
    if (spec->dtype == CLAT_F64)
        return COMPUTE_F64;
    return spec->dtype == CLAT_F32 && spec->precision == CLAT_PRECISION_NATIVE ? COMPUTE_TF32
                                                                               : COMPUTE_F32;
}

static struct product product_of(const struct state *state) {
    const struct spec *s = state->spec;
    const bool col = s->layout == CLAT_COL_MAJOR;
    const int m = (int)s->m, n = (int)s->n, k = (int)s->k;
    const int op_a = s->trans_a ? OP_T : OP_N, op_b = s->trans_b ? OP_T : OP_N;
    const int lda = s->trans_a != col ? m : k, ldb = s->trans_b != col ? k : n;
    const long long stride_a = (long long)(s->m * s->k), stride_b = (long long)(s->k * s->n);
    if (col)
        return (struct product){op_a, op_b,     m,        n,        k,       lda,
                                ldb,  state->a, state->b, stride_a, stride_b};
    return (struct product){op_b, op_a, n, m, k, ldb, lda, state->b, state->a, stride_b, stride_a};
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    cuda_free(state->a);
    cuda_free(state->b);
    cuda_free(state->c);
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    const size_t bytes = spec->batch * clat_dtype_bytes(spec->dtype);
    (void)ctx;
    state->spec = spec;
    state->trial = trial;
    state->a = cuda_buffer(bytes * spec->m * spec->k, clat_trial_host(trial, "a"));
    state->b = cuda_buffer(bytes * spec->k * spec->n, clat_trial_host(trial, "b"));
    state->c = cuda_buffer(bytes * spec->m * spec->n, NULL);
    state->product = product_of(state);
    state->type = type_of(spec->dtype);
    state->compute = compute_of(spec);
    return state->a && state->b && state->c;
}

static int multiply(const struct state *state) {
    static const float one_f32 = 1, zero_f32 = 0;
    static const double one_f64 = 1, zero_f64 = 0;
    const bool f64 = state->type == TYPE_F64;
    const void *one = f64 ? (const void *)&one_f64 : (const void *)&one_f32;
    const void *zero = f64 ? (const void *)&zero_f64 : (const void *)&zero_f32;
    const struct product *p = &state->product;
    const void *a = (const void *)(uintptr_t)p->a, *b = (const void *)(uintptr_t)p->b;
    void *c = (void *)(uintptr_t)state->c;
    if (state->spec->batch == 1)
        return gemm(cublas.handle, p->op_a, p->op_b, p->m, p->n, p->k, one, a, state->type, p->lda,
                    b, state->type, p->ldb, zero, c, state->type, p->m, state->compute,
                    ALGORITHM_DEFAULT);
    return gemm_batched(cublas.handle, p->op_a, p->op_b, p->m, p->n, p->k, one, a, state->type,
                        p->lda, p->stride_a, b, state->type, p->ldb, p->stride_b, zero, c,
                        state->type, p->m, (long long)p->m * p->n, (int)state->spec->batch,
                        state->compute, ALGORITHM_DEFAULT);
}

static bool run(void *opaque, unsigned repeats) {
    const struct state *state = opaque;
    for (unsigned i = 0; i < repeats; i++) {
        const int code = multiply(state);
        if (code != 0)
            return tool_error("cublasGemmEx failed with code %d", code);
    }
    return cuda_finish();
}

static bool publish(void *opaque) {
    const struct state *state = opaque;
    size_t elements;
    spec_output(state->spec, &elements);
    const size_t bytes = elements * clat_dtype_bytes(state->spec->dtype);
    void *result = peer_host_output(bytes);
    const bool ok = result && cuda_read(result, state->c, bytes) &&
                    peer_publish_host(state->spec, state->trial, result);
    free(result);
    return ok;
}

static const char *version(void) {
    static char text[48];
    char why[PEER_WHY_BYTES];
    int major = 0, minor = 0, patch = 0;
    if (!load(why) || get_property(0, &major) != 0 || get_property(1, &minor) != 0 ||
        get_property(2, &patch) != 0)
        return NULL;
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
    return text;
}

static void describe(FILE *file) {
    char why[PEER_WHY_BYTES];
    if (load(why))
        fprintf(file, "peer     cuBLAS %s\n", version());
    else
        fprintf(file, "peer     cuBLAS is missing: %s\n", why);
}

const struct peer peer_cublas = {.name = "cublas",
                                 .state_bytes = sizeof(struct state),
                                 .supports = supports,
                                 .open = open_state,
                                 .run = run,
                                 .publish = publish,
                                 .close = close_state,
                                 .describe = describe,
                                 .library = "cuBLAS",
                                 .version = version,
                                 .finish = finish};
