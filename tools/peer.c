#include "peer.h"
#include "clblast.h"
#include "team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct peer *const peers[] = {&peer_clblast,
                                           &peer_openblas,
                                           &peer_onednn,
                                           &peer_cublas,
                                           &peer_unfused,
                                           &peer_unfused_openblas,
                                           &peer_panels_openblas,
                                           &peer_dense,
                                           &peer_unmodified,
                                           &peer_tiles,
                                           &peer_gemm,
                                           &peer_f32,
                                           &peer_guess,
                                           &peer_stream,
                                           &peer_read,
                                           &peer_copy,
                                           &peer_peak};

const char peer_names[] =
    "clblast, openblas, onednn, cublas, unfused, unfused-openblas, panels-openblas, "
    "dense, unmodified, tiles, gemm, f32, guess, stream, read, copy, peak";

const struct peer *peer_find(const char *name) {
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    return NULL;
}

int peer_list(const char *names, const struct peer *out[PEER_MAX]) {
    int count = 0;
    for (const char *rest = names; rest && *rest;) {
        char name[24];
        const size_t length = strcspn(rest, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, rest);
        const struct peer *peer = peer_find(name);
        if (!peer) {
            tool_error("--peer takes %s, or several with commas, not \"%s\"", peer_names, name);
            return -1;
        }
        for (int i = 0; i < count; i++)
            if (out[i] == peer) {
                tool_error("--peer names %s twice", name);
                return -1;
            }
        if (count == PEER_MAX) {
            tool_error("--peer takes at most %d", PEER_MAX);
            return -1;
        }
        out[count++] = peer;
        rest += length + (rest[length] == ',');
    }
    return count;
}

bool peer_supports(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                   char why[PEER_WHY_BYTES]) {
    if (!spec_is_empty(spec))
        return peer->supports(ctx, spec, why);
    snprintf(why, PEER_WHY_BYTES, "the problem is empty");
    return false;
}

void *peer_host_output(size_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (memory)
        memset(memory, 0xff, bytes);
    else
        tool_error("out of memory");
    return memory;
}

bool peer_publish_host(const struct spec *spec, clat_trial *trial, const void *result) {
    const size_t bytes = clat_dtype_bytes(spec->dtype);
    size_t elements, offset;
    cl_mem buffer = clat_trial_buffer(trial, spec_output(spec, &elements), &offset);
    return tool_cl(clEnqueueWriteBuffer(clat_trial_queue(trial), buffer, CL_TRUE, offset * bytes,
                                        elements * bytes, result, 0, NULL, NULL),
                   "clEnqueueWriteBuffer");
}

void *peer_open(const struct peer *peer, clat_context *ctx, const struct spec *spec,
                clat_trial *trial) {
    void *state = calloc(1, peer->state_bytes);
    if (!state) {
        tool_error("out of memory");
        return NULL;
    }
    if (peer->open(state, ctx, spec, trial))
        return state;
    peer_close(peer, state);
    return NULL;
}

void peer_close(const struct peer *peer, void *state) {
    if (!state)
        return;
    peer->close(state);
    free(state);
}

void peer_describe(FILE *file, const struct peer *const *peers, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        bool said = !peers[i]->describe;
        for (unsigned j = 0; j < i; j++)
            said |= peers[j]->describe == peers[i]->describe;
        if (!said)
            peers[i]->describe(file);
    }
}

/* So that a peer that writes nothing is not judged by what we left there. */
static bool poison(const struct spec *spec, clat_trial *trial) {
    const double f64 = NAN;
    const float f32 = NAN;
    const uint16_t f16 = 0x7fff; /* NaN in f16 and in bf16 */
    const size_t bytes = clat_dtype_bytes(spec->dtype);
    const void *pattern = bytes == sizeof f64   ? (const void *)&f64
                          : bytes == sizeof f32 ? (const void *)&f32
                                                : (const void *)&f16;
    size_t elements, offset;
    cl_mem buffer = clat_trial_buffer(trial, spec_output(spec, &elements), &offset);
    cl_command_queue queue = clat_trial_queue(trial);
    return tool_cl(clEnqueueFillBuffer(queue, buffer, pattern, bytes, offset * bytes,
                                       elements * bytes, 0, NULL, NULL),
                   "clEnqueueFillBuffer") &&
           tool_cl(clFinish(queue), "clFinish");
}

bool peer_judge(const struct peer *peer, void *state, const struct spec *spec, clat_trial *trial,
                clat_verdict *out) {
    if (peer->judge)
        return peer->judge(state, out);
    return poison(spec, trial) && peer->run(state, 1) && (!peer->publish || peer->publish(state)) &&
           tool_clat(clat_trial_verify(trial, NULL, out));
}

json_t *peer_versions(void) {
    json_t *versions = json_object();
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
        const char *version = peers[i]->library ? peers[i]->version() : NULL;
        if (version &&
            json_object_set_new(versions, peers[i]->library, json_string(version)) != 0) {
            json_decref(versions);
            return NULL;
        }
    }
    return versions;
}

/* So long a run needs no second one. */
#define LONG_SECONDS 0.1

double peer_try(const struct peer *peer, void *state) {
    enum { TRIES = 3, MOST = 200 };
    double start = now_seconds();
    if (!peer->run(state, 1))
        return -1;
    double best = now_seconds() - start;
    const double runs = 10e-3 / fmax(best, 1e-7);
    const unsigned repeats = runs < 1 ? 1 : runs > MOST ? MOST : (unsigned)runs;
    for (int i = 0; i < TRIES && best < LONG_SECONDS; i++) {
        start = now_seconds();
        if (!peer->run(state, repeats))
            return -1;
        best = fmin(best, (now_seconds() - start) / repeats);
    }
    sleep_until_quiet();
    return best;
}

bool peer_always_right(void *state, clat_verdict *out) {
    (void)state;
    *out = (clat_verdict){.guards = true, .ok = true};
    return true;
}

bool peers_begin(clat_context *ctx) {
    return clblast_set_switch(clat_context_device(ctx));
}

void peers_finish(void) {
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (peers[i]->finish)
            peers[i]->finish();
    team_finish();
    CLBlastClearCache();
}
