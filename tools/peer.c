#include "peer.h"
#include "clblast.h"

#include <math.h>
#include <string.h>

static const struct peer *const peers[] = {&peer_clblast, &peer_openblas, &peer_unfused,
                                           &peer_dense};

const struct peer *peer_find(const char *name) {
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    return NULL;
}

int peer_list(const char *names, const struct peer *out[PEER_MAX]) {
    int count = 0;
    for (const char *rest = names; rest && *rest;) {
        char name[16];
        const size_t length = strcspn(rest, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, rest);
        const struct peer *peer = peer_find(name);
        if (!peer) {
            tool_error("--peer takes clblast, openblas, unfused, dense, or several with commas, "
                       "not \"%s\"",
                       name);
            return -1;
        }
        for (int i = 0; i < count; i++)
            if (out[i] == peer) {
                tool_error("--peer names %s twice", name);
                return -1;
            }
        out[count++] = peer;
        rest += length + (rest[length] == ',');
    }
    return count;
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

bool peers_begin(clat_context *ctx) {
    return clblast_prepare(clat_context_device(ctx));
}

void peers_finish(void) {
    CLBlastClearCache();
}
