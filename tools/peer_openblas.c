/*
 * OpenBLAS on the host's copies of the operands. A batch is multiplied one matrix after the other
 * by all its threads, or one matrix per thread of ours: whichever is faster.
 */
#include "peer.h"
#include "team.h"

#include <cblas.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
    const struct spec *spec;
    clat_trial *trial;
    const void *a, *b;
    void *c;
    bool spread; /* a matrix per thread */
};

/* Both make OpenBLAS run kernels or blocks made for another CPU. */
static const char *const shackles[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"};

/* Idle threads of OpenBLAS spin for 2^28 cycles, 0.1 s, before they sleep, and take a core from who
 * comes next; 2^22 is longer than any pause within its own work. Those of OpenMP, oneDNN's, spin
 * some 20 ms, also when the one they wait for has no core to run on. */
static const struct {
    const char *name, *value;
} patience[] = {{"OPENBLAS_THREAD_TIMEOUT", "22"}, {"GOMP_SPINCOUNT", "5000"}};

static const char guard[] = "CLATTICE_OPENBLAS_UNSHACKLED"; /* "1": there were shackles */

/* OpenBLAS takes kernels without AVX for CPUs newer than itself, and has much better ones. NULL:
 * it chose well. */
static const char *better_kernels(void) {
#ifdef __x86_64__
    if (strcmp(openblas_get_corename(), "Prescott") == 0)
        return __builtin_cpu_supports("avx512vl") ? "SkylakeX"
               : __builtin_cpu_supports("avx2")   ? "Haswell"
                                                  : NULL;
#endif
    return NULL;
}

static void start_again(char **argv) {
    execv("/proc/self/exe", argv);
    tool_note("cannot start again without %s and %s, which slow OpenBLAS down: %s", shackles[0],
              shackles[1], strerror(errno));
}

void peer_openblas_unshackle(char **argv) {
    static const char advised[] = "CLATTICE_OPENBLAS_ADVISED";
    bool any = false;
    for (size_t i = 0; i < 2; i++) {
        any |= getenv(shackles[i]) != NULL;
        unsetenv(shackles[i]);
    }
    if (!getenv(guard)) {
        setenv(guard, any ? "1" : "0", 1);
        for (size_t i = 0; i < 2; i++)
            setenv(patience[i].name, patience[i].value, 0);
        start_again(argv);
    } else if (!getenv(advised) && better_kernels()) {
        setenv(shackles[0], better_kernels(), 1);
        setenv(advised, "1", 1);
        start_again(argv);
    }
}

void peer_openblas_describe(FILE *file) {
    cpu_set_t set;
    const int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    const int threads = openblas_get_num_threads();
    fprintf(file, "peer     OpenBLAS runs its %s kernels on %d thread%s", openblas_get_corename(),
            threads, threads == 1 ? "" : "s");
    const char *removed = getenv(guard);
    if (removed && removed[0] == '1')
        fprintf(file, "; %s and %s were removed", shackles[0], shackles[1]);
    fputc('\n', file);
    if (cpus > 0 && threads != cpus)
        tool_note("OpenBLAS has %d thread%s on %d CPU%s: it may be slower than it can be", threads,
                  threads == 1 ? "" : "s", cpus, cpus == 1 ? "" : "s");
}

static const char *version(void) {
    return openblas_get_config();
}

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    (void)ctx;
    if (spec->op != SPEC_GEMM)
        snprintf(why, PEER_WHY_BYTES, "it has no attention");
    else if (spec->dtype != CLAT_F32 && spec->dtype != CLAT_F64)
        snprintf(why, PEER_WHY_BYTES, "it has no %s", clat_dtype_name(spec->dtype));
    else if (spec->m > INT_MAX || spec->n > INT_MAX || spec->k > INT_MAX)
        snprintf(why, PEER_WHY_BYTES, "its sizes are ints");
    else
        return true;
    return false;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    free(state->c);
}

static void multiply(const struct state *state, size_t index) {
    const struct spec *s = state->spec;
    const bool col = s->layout == CLAT_COL_MAJOR;
    const enum CBLAS_ORDER order = col ? CblasColMajor : CblasRowMajor;
    const enum CBLAS_TRANSPOSE ta = s->trans_a ? CblasTrans : CblasNoTrans;
    const enum CBLAS_TRANSPOSE tb = s->trans_b ? CblasTrans : CblasNoTrans;
    const int m = (int)s->m, n = (int)s->n, k = (int)s->k;
    const int lda = s->trans_a != col ? m : k, ldb = s->trans_b != col ? k : n, ldc = col ? m : n;
    const size_t a = index * s->m * s->k, b = index * s->k * s->n, c = index * s->m * s->n;
    if (s->dtype == CLAT_F32)
        cblas_sgemm(order, ta, tb, m, n, k, 1, (const float *)state->a + a, lda,
                    (const float *)state->b + b, ldb, 0, (float *)state->c + c, ldc);
    else
        cblas_dgemm(order, ta, tb, m, n, k, 1, (const double *)state->a + a, lda,
                    (const double *)state->b + b, ldb, 0, (double *)state->c + c, ldc);
}

static void multiply_one(void *opaque, size_t index, unsigned thread) {
    const struct state *state = opaque;
    (void)thread;
    multiply(state, index % state->spec->batch);
}

/* All repeats in one go, so that threads wait for each other only at the end. Several matrices at a
 * time: they may be tiny. */
static bool run_spread(struct state *state, unsigned repeats) {
    const size_t batch = state->spec->batch, share = batch / (8 * (size_t)team_size());
    const int threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
    const bool ok = team_for(batch * repeats, share, multiply_one, state);
    openblas_set_num_threads(threads);
    return ok;
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    if (state->spread)
        return run_spread(state, repeats);
    for (unsigned i = 0; i < repeats; i++)
        for (size_t b = 0; b < state->spec->batch; b++)
            multiply(state, b);
    return true;
}

/* First the way that leaves no threads spinning. */
static bool choose(struct state *state) {
    state->spread = true;
    const double spread = peer_try(&peer_openblas, state);
    state->spread = false;
    const double one = peer_try(&peer_openblas, state);
    state->spread = spread < one;
    return spread >= 0 && one >= 0;
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    const size_t bytes = spec->batch * spec->m * spec->n * clat_dtype_bytes(spec->dtype);
    (void)ctx;
    state->spec = spec;
    state->trial = trial;
    state->a = clat_trial_host(trial, "a");
    state->b = clat_trial_host(trial, "b");
    state->c = peer_host_output(bytes);
    if (!state->c)
        return false;
    return spec->batch == 1 || choose(state);
}

static bool publish(void *opaque) {
    const struct state *state = opaque;
    return peer_publish_host(state->spec, state->trial, state->c);
}

const struct peer peer_openblas = {.name = "openblas",
                                   .state_bytes = sizeof(struct state),
                                   .supports = supports,
                                   .open = open_state,
                                   .run = run,
                                   .publish = publish,
                                   .close = close_state,
                                   .describe = peer_openblas_describe,
                                   .library = "OpenBLAS",
                                   .version = version};
