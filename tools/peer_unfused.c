/*
 * Attention the usual way: scores = Q K^T by CLBlast, a softmax kernel over the rows, P V by
 * CLBlast; for mha with CLBlast's projections before and after. All scores are in memory at once.
 *
 *   attention   Q, K, V, O are the trial's, one matrix per head. The heads of a group lie one
 *               after the other, so that a group is one GEMM of group * seq_q rows.
 *   mha         [q | k | v] of each token side by side in a workspace: one GEMM per head.
 */
#include "clblast.h"
#include "peer.h"
#include "softmax.h"

#include <math.h>
#include <stdlib.h>

struct state {
    const struct spec *spec;
    cl_command_queue queue;
    struct clblast_gemm project, scores, values, finish; /* first and last: mha only */
    struct softmax softmax;
    cl_mem score_buffer, packed, heads_out;
};

static double score_bytes(const struct spec *spec) {
    return 4.0 * (double)spec->batch * (double)spec->heads * (double)spec->seq_q *
           (double)spec->seq_k;
}

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    cl_ulong largest = 0;
    clGetDeviceInfo(clat_context_device(ctx), CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof largest,
                    &largest, NULL);
    if (spec->op == SPEC_GEMM)
        snprintf(why, PEER_WHY_BYTES, "it is about attention");
    else if (spec->dtype != CLAT_F32)
        snprintf(why, PEER_WHY_BYTES, "it has no %s", clat_dtype_name(spec->dtype));
    else if (spec->head_dim_v)
        snprintf(why, PEER_WHY_BYTES, "it has as many features in V as in Q");
    else if (spec->score)
        snprintf(why, PEER_WHY_BYTES, "it has no score modifiers");
    else if (spec->mask.form > MASK_WINDOW)
        snprintf(why, PEER_WHY_BYTES, "its softmax knows full, causal and window only");
    else if (score_bytes(spec) > (double)largest)
        snprintf(why, PEER_WHY_BYTES, "the scores do not fit into one buffer");
    else
        return true;
    return false;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    clblast_gemm_free(&state->project);
    clblast_gemm_free(&state->scores);
    clblast_gemm_free(&state->values);
    clblast_gemm_free(&state->finish);
    softmax_close(&state->softmax);
    cl_mem buffers[] = {state->score_buffer, state->packed, state->heads_out};
    for (size_t i = 0; i < 3; i++)
        if (buffers[i])
            clReleaseMemObject(buffers[i]);
}

static bool make_buffer(cl_mem *out, clat_context *ctx, size_t elements) {
    cl_int err = CL_SUCCESS;
    *out = clCreateBuffer(clat_context_cl(ctx), CL_MEM_READ_WRITE, elements * sizeof(float), NULL,
                          &err);
    return tool_cl(err, "clCreateBuffer");
}

/* Fills in what both layouts share: scores[i] = Q[i] K[i]^T / sqrt(D), out[i] = scores[i] V[i]. */
static bool set_shapes(struct state *state, size_t rows, size_t count) {
    const struct spec *spec = state->spec;
    state->scores.dtype = state->values.dtype = CLAT_F32;
    state->scores.trans_b = true;
    state->scores.alpha = 1 / sqrt((double)spec->head_dim);
    state->values.alpha = 1;
    state->scores.m = state->values.m = rows;
    state->scores.n = state->values.k = spec->seq_k;
    state->scores.k = state->values.n = spec->head_dim;
    state->scores.c = state->values.a = state->score_buffer;
    state->scores.ldc = state->values.lda = spec->seq_k;
    if (!clblast_gemm_offsets(&state->scores, count) ||
        !clblast_gemm_offsets(&state->values, count))
        return false;
    for (size_t i = 0; i < count; i++)
        state->scores.c_offset[i] = state->values.a_offset[i] = i * rows * spec->seq_k;
    return true;
}

static bool open_heads(struct state *state, clat_trial *trial) {
    const struct spec *spec = state->spec;
    const size_t group = spec->heads / spec->kv_heads, d = spec->head_dim;
    const size_t rows = group * spec->seq_q, count = spec->batch * spec->kv_heads;
    size_t q, k, v, o;
    state->scores.a = clat_trial_buffer(trial, "q", &q);
    state->scores.b = clat_trial_buffer(trial, "k", &k);
    state->values.b = clat_trial_buffer(trial, "v", &v);
    state->values.c = clat_trial_buffer(trial, "o", &o);
    state->scores.lda = state->scores.ldb = state->values.ldb = state->values.ldc = d;
    if (!set_shapes(state, rows, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        state->scores.a_offset[i] = q + i * rows * d;
        state->scores.b_offset[i] = k + i * spec->seq_k * d;
        state->values.b_offset[i] = v + i * spec->seq_k * d;
        state->values.c_offset[i] = o + i * rows * d;
    }
    return true;
}

/* C = A W^T of all tokens at once. */
static bool set_projection(struct clblast_gemm *gemm, size_t tokens, size_t outputs, size_t inputs,
                           size_t a, size_t b, size_t c) {
    gemm->dtype = CLAT_F32;
    gemm->trans_b = true;
    gemm->alpha = 1;
    gemm->m = tokens;
    gemm->n = gemm->ldc = outputs;
    gemm->k = gemm->lda = gemm->ldb = inputs;
    if (!clblast_gemm_offsets(gemm, 1))
        return false;
    gemm->a_offset[0] = a;
    gemm->b_offset[0] = b;
    gemm->c_offset[0] = c;
    return true;
}

static bool open_packed(struct state *state, clat_context *ctx, clat_trial *trial) {
    const struct spec *spec = state->spec;
    const size_t d = spec->head_dim, tokens = spec->batch * spec->seq_q;
    const size_t inner = spec->heads * d, width = inner + 2 * spec->kv_heads * d;
    size_t x, w_qkv, w_o, y;
    if (!make_buffer(&state->packed, ctx, tokens * width) ||
        !make_buffer(&state->heads_out, ctx, tokens * inner))
        return false;
    state->project.a = clat_trial_buffer(trial, "x", &x);
    state->project.b = clat_trial_buffer(trial, "w_qkv", &w_qkv);
    state->finish.b = clat_trial_buffer(trial, "w_o", &w_o);
    state->finish.c = clat_trial_buffer(trial, "y", &y);
    state->project.c = state->scores.a = state->scores.b = state->values.b = state->packed;
    state->values.c = state->finish.a = state->heads_out;
    state->scores.lda = state->scores.ldb = state->values.ldb = width;
    state->values.ldc = inner;
    if (!set_projection(&state->project, tokens, width, spec->embed, x, w_qkv, 0) ||
        !set_projection(&state->finish, tokens, spec->embed, inner, 0, w_o, y) ||
        !set_shapes(state, spec->seq_q, spec->batch * spec->heads))
        return false;
    for (size_t b = 0, i = 0; b < spec->batch; b++)
        for (size_t h = 0; h < spec->heads; h++, i++) {
            const size_t token = b * spec->seq_q, kv = h / (spec->heads / spec->kv_heads);
            state->scores.a_offset[i] = token * width + h * d;
            state->scores.b_offset[i] = token * width + inner + kv * d;
            state->values.b_offset[i] = token * width + inner + (spec->kv_heads + kv) * d;
            state->values.c_offset[i] = token * inner + h * d;
        }
    return true;
}

static bool enqueue_softmax(struct state *state) {
    const struct spec *spec = state->spec;
    int64_t left = CLAT_UNBOUNDED, right = CLAT_UNBOUNDED;
    if (spec->mask.form == MASK_CAUSAL) {
        right = 0;
    } else if (spec->mask.form == MASK_WINDOW) {
        left = (int64_t)spec->mask.number[0];
        right = (int64_t)spec->mask.number[1];
    }
    return softmax_enqueue(&state->softmax, state->queue, state->score_buffer,
                           spec->batch * spec->heads * spec->seq_q, spec->seq_q, spec->seq_k, left,
                           right);
}

static bool open_state(void *opaque, clat_context *ctx, const struct spec *spec,
                       clat_trial *trial) {
    struct state *state = opaque;
    const bool mha = spec->op == SPEC_MHA;
    state->spec = spec;
    state->queue = clat_trial_queue(trial);
    return softmax_open(&state->softmax, ctx) &&
           make_buffer(&state->score_buffer, ctx, (size_t)score_bytes(spec) / sizeof(float)) &&
           (mha ? open_packed(state, ctx, trial) : open_heads(state, trial)) &&
           (!mha || clblast_gemm_prepare(&state->project, state->queue)) &&
           (!mha || clblast_gemm_enqueue(&state->project, state->queue)) &&
           clblast_gemm_prepare(&state->scores, state->queue) && enqueue_softmax(state) &&
           clblast_gemm_prepare(&state->values, state->queue) &&
           (!mha || clblast_gemm_prepare(&state->finish, state->queue));
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    const bool mha = state->spec->op == SPEC_MHA;
    for (unsigned i = 0; i < repeats; i++) {
        if (mha && !clblast_gemm_enqueue(&state->project, state->queue))
            return false;
        if (!clblast_gemm_enqueue(&state->scores, state->queue) || !enqueue_softmax(state) ||
            !clblast_gemm_enqueue(&state->values, state->queue))
            return false;
        if (mha && !clblast_gemm_enqueue(&state->finish, state->queue))
            return false;
    }
    return tool_cl(clFinish(state->queue), "clFinish");
}

const struct peer peer_unfused = {.name = "unfused",
                                  .state_bytes = sizeof(struct state),
                                  .supports = supports,
                                  .open = open_state,
                                  .run = run,
                                  .close = close_state,
                                  .describe = clblast_describe};
