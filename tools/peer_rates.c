/*
 * What the CPU can do at best, so that a result can be seen as a part of it. They run with all CPUs
 * on the host and compute nothing.
 *
 *   stream   reads the problem's bytes from memory, from places no cache still holds
 *   read     reads as many bytes, the same ones each time: from a cache where they fit into one
 *   peak     does the problem's operations in registers
 */
#include "host_loops.h"
#include "peer.h"
#include "team.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A thread takes so much at a time: long enough to hide the taking, short enough to share evenly.
 */
enum { PIECE_BYTES = 1 << 16, PIECE_FLOATS = PIECE_BYTES / sizeof(float) };

struct state {
    size_t pieces;   /* of a run */
    size_t n_pieces; /* of the memory at `values` */
    const float *values;
    float *owned;
    double flops;
};

/* What nobody looks at may not be left out by the compiler. */
static volatile float sink;

static bool for_cpus(clat_context *ctx, char why[PEER_WHY_BYTES]) {
    snprintf(why, PEER_WHY_BYTES, "it is about CPUs");
    return tool_is_cpu(clat_context_device(ctx));
}

static bool is_about_memory(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    if (!for_cpus(ctx, why))
        return false;
    snprintf(why, PEER_WHY_BYTES, "it is about products with a vector and single queries");
    return spec->op == SPEC_GEMM        ? spec->m == 1 || spec->n == 1
           : spec->op == SPEC_ATTENTION ? spec->seq_q == 1
                                        : false;
}

static bool is_f32_arithmetic(clat_context *ctx, const struct spec *spec,
                              char why[PEER_WHY_BYTES]) {
    if (!for_cpus(ctx, why))
        return false;
    snprintf(why, PEER_WHY_BYTES, "it knows f32 arithmetic only");
    return spec->dtype != CLAT_F64 && spec->precision == CLAT_PRECISION_F32;
}

static void touch(void *opaque, size_t index, unsigned thread) {
    float *values = opaque;
    (void)thread;
    memset(values + index * PIECE_FLOATS, 0, PIECE_BYTES);
}

/* Zeroed memory; in large pages where the system likes to. */
static float *make_memory(size_t pieces) {
    const size_t page = (size_t)2 << 20, bytes = (pieces * PIECE_BYTES + page - 1) / page * page;
    float *values = aligned_alloc(page, bytes);
    if (!values) {
        tool_error("out of memory");
        return NULL;
    }
    madvise(values, bytes, MADV_HUGEPAGE);
    if (team_for(pieces, 16, touch, values))
        return values;
    free(values);
    return NULL;
}

/* Kept between problems: to make it takes seconds. */
static float *far_memory;
static size_t far_pieces, far_next;

/* Twice the last cache and half a GiB at least, but no more than a quarter of the memory. */
static size_t far_bytes(void) {
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE), pages = sysconf(_SC_PHYS_PAGES);
    const size_t quarter = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) / 4;
    size_t bytes = (size_t)512 << 20;
    if (cache > 0 && 2 * (size_t)cache > bytes)
        bytes = 2 * (size_t)cache;
    return bytes < quarter ? bytes : quarter;
}

static void set_pieces(struct state *state, const struct spec *spec) {
    state->pieces = (size_t)(spec_bytes(spec) / PIECE_BYTES + 0.5);
    state->pieces += state->pieces == 0;
}

static bool open_stream(void *opaque, clat_context *ctx, const struct spec *spec,
                        clat_trial *trial) {
    struct state *state = opaque;
    (void)ctx;
    (void)trial;
    if (!far_memory) {
        far_pieces = far_bytes() / PIECE_BYTES;
        far_memory = make_memory(far_pieces);
    }
    set_pieces(state, spec);
    state->values = far_memory;
    state->n_pieces = far_pieces;
    return far_memory != NULL;
}

static bool open_read(void *opaque, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct state *state = opaque;
    (void)ctx;
    (void)trial;
    set_pieces(state, spec);
    state->n_pieces = state->pieces;
    state->values = state->owned = make_memory(state->pieces);
    return state->owned != NULL;
}

static bool open_peak(void *opaque, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    struct state *state = opaque;
    clat_plan *plan = NULL;
    (void)trial;
    if (!spec_plan(&plan, ctx, spec))
        return false;
    state->flops = clat_plan_get_info(plan)->flops;
    clat_plan_release(plan);
    return true;
}

static void read_piece(void *opaque, size_t index, unsigned thread) {
    const struct state *state = opaque;
    (void)thread;
    sink = host_sum(state->values + index % state->n_pieces * PIECE_FLOATS, PIECE_FLOATS);
}

static void read_far_piece(void *opaque, size_t index, unsigned thread) {
    read_piece(opaque, far_next + index, thread);
}

static bool run_read(void *state, unsigned repeats) {
    const struct state *s = state;
    return team_for(s->pieces * repeats, 4, read_piece, state);
}

/* Goes on where the last run ended. */
static bool run_stream(void *opaque, unsigned repeats) {
    const struct state *state = opaque;
    const bool ok = team_for(state->pieces * repeats, 4, read_far_piece, opaque);
    far_next = (far_next + state->pieces * repeats) % state->n_pieces;
    return ok;
}

/* In parts small enough that a thread that is held up does not hold up the rest. */
static const double part_flops = 4e6;

static void do_flops(void *opaque, size_t index, unsigned thread) {
    const double *flops = opaque;
    (void)index;
    (void)thread;
    sink = host_fma(*flops);
}

static bool run_peak(void *opaque, unsigned repeats) {
    const struct state *state = opaque;
    const double whole = state->flops * repeats;
    const size_t parts = (size_t)(whole / part_flops) + 1;
    double part = whole / (double)parts;
    return team_for(parts, 1, do_flops, &part);
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    free(state->owned);
}

static void finish(void) {
    free(far_memory);
    far_memory = NULL;
}

static void describe(FILE *file) {
    const unsigned threads = team_size();
    fprintf(file, "rates    stream, read and peak: %s on %u thread%s\n", host_vectors(), threads,
            threads == 1 ? "" : "s");
}

#define RATE_PEER(name_, supports_, open_, run_)                                                   \
    {                                                                                              \
        .name = (name_), .state_bytes = sizeof(struct state), .supports = (supports_),             \
        .open = (open_), .run = (run_), .judge = peer_always_right, .close = close_state,          \
        .describe = describe, .finish = finish                                                     \
    }

const struct peer peer_stream = RATE_PEER("stream", is_about_memory, open_stream, run_stream);
const struct peer peer_read = RATE_PEER("read", is_about_memory, open_read, run_read);
const struct peer peer_peak = RATE_PEER("peak", is_f32_arithmetic, open_peak, run_peak);
