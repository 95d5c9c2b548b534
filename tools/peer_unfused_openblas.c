/*
 * Attention on the host the usual way: S = Q K^T by OpenBLAS, softmax over the rows of S, O = P V
 * by OpenBLAS. Two peers:
 *
 *   unfused-openblas   S is whole, for one head at a time, as a user of a BLAS would write it. A
 *                      mask saves time in the softmax only.
 *   panels-openblas    256 queries at a time: their S stays in a cache, and keys that no query of
 *                      the panel sees are left out of both products.
 *
 * Both run in two ways, heads or panels spread over threads with a BLAS of one thread each, or one
 * after the other with all of OpenBLAS's threads and a softmax on all CPUs; the faster one counts.
 * Few queries that share a key head are one product of all their rows.
 */
#include "host_loops.h"
#include "peer.h"
#include "team.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PANEL_ROWS = 256, GROUP_ROWS = 64 };

/* One product: some rows of Q, of one head or of all heads of a group. */
struct panel {
    size_t row, rows; /* of Q, counted over all heads */
    size_t query;     /* of the first row in its head */
    size_t key, keys; /* looked at */
    size_t kv_row;    /* first row of K and V of its head */
};

struct state {
    const struct spec *spec;
    clat_trial *trial;
    const float *q, *k, *v;
    float *o, *scores;
    struct panel *panels;
    size_t n_panels, score_elements; /* of the largest panel */
    bool spread;
};

static bool supports(clat_context *ctx, const struct spec *spec, char why[PEER_WHY_BYTES]) {
    const double scores = 4.0 * (double)spec->seq_q * (double)spec->seq_k;
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    (void)ctx;
    if (spec->op != SPEC_ATTENTION)
        snprintf(why, PEER_WHY_BYTES, "it is about attention");
    else if (spec->dtype != CLAT_F32)
        snprintf(why, PEER_WHY_BYTES, "it has no %s", clat_dtype_name(spec->dtype));
    else if (spec->head_dim_v)
        snprintf(why, PEER_WHY_BYTES, "it has as many features in V as in Q");
    else if (spec->score)
        snprintf(why, PEER_WHY_BYTES, "it has no score modifiers");
    else if (spec->mask.form > MASK_WINDOW)
        snprintf(why, PEER_WHY_BYTES, "its softmax knows full, causal and window only");
    else if (spec->seq_q > INT_MAX || spec->seq_k > INT_MAX || scores > memory / 4)
        snprintf(why, PEER_WHY_BYTES, "the scores of a head do not fit");
    else
        return true;
    return false;
}

/* Scores are kept between problems: to touch fresh memory takes longer than to use it. */
static float *score_memory;
static size_t score_memory_elements;

static void finish(void) {
    free(score_memory);
    score_memory = NULL;
    score_memory_elements = 0;
}

static float *keep_scores(size_t elements) {
    if (elements > score_memory_elements) {
        finish();
        score_memory = aligned_alloc(4096, (elements * sizeof(float) + 4095) / 4096 * 4096);
        if (!score_memory) {
            tool_error("out of memory");
            return NULL;
        }
        memset(score_memory, 0, elements * sizeof(float));
        score_memory_elements = elements;
    }
    return score_memory;
}

static void close_state(void *opaque) {
    struct state *state = opaque;
    free(state->panels);
    free(state->o);
}

/* Keys first .. last - 1 are those that query `i` sees. */
static void visible_keys(const struct spec *spec, size_t i, size_t *first, size_t *last) {
    const size_t n = spec->seq_k, left = (size_t)spec->mask.number[0];
    const size_t right = (size_t)spec->mask.number[1];
    *first = 0;
    *last = n;
    if (spec->mask.form == MASK_CAUSAL) {
        *last = i + 1 < n ? i + 1 : n;
    } else if (spec->mask.form == MASK_WINDOW) {
        *last = i + right + 1 < n ? i + right + 1 : n;
        *first = i > left ? i - left : 0;
        *first = *first < *last ? *first : *last;
    }
}

static struct panel make_panel(const struct spec *spec, size_t head, size_t query, size_t rows,
                               bool skip) {
    struct panel panel = {.row = head * spec->seq_q + query,
                          .rows = rows,
                          .query = query,
                          .keys = spec->seq_k,
                          .kv_row = head / (spec->heads / spec->kv_heads) * spec->seq_k};
    if (skip) {
        size_t first, last, ignored;
        visible_keys(spec, query, &first, &ignored);
        visible_keys(spec, query + rows - 1, &ignored, &last);
        panel.key = first;
        panel.keys = last - first;
    }
    return panel;
}

static bool make_panels(struct state *state, bool in_panels) {
    const struct spec *spec = state->spec;
    const size_t group = spec->heads / spec->kv_heads, heads = spec->batch * spec->heads;
    /* Rows of the same query in the heads of a group see the same keys only without a mask. */
    const bool grouped = group > 1 && spec->seq_q * group <= GROUP_ROWS &&
                         (spec->seq_q == 1 || spec->mask.form == MASK_FULL);
    const size_t most = in_panels ? PANEL_ROWS : spec->seq_q;
    state->panels = calloc(heads * (spec->seq_q / most + 1), sizeof *state->panels);
    if (!state->panels)
        return tool_error("out of memory");
    for (size_t head = 0; head < heads; head += grouped ? group : 1)
        for (size_t query = 0; query < spec->seq_q; query += most) {
            const size_t left = spec->seq_q - query, rows = left < most ? left : most;
            struct panel panel = make_panel(spec, head, query, rows, in_panels);
            panel.rows *= grouped ? group : 1;
            if (panel.rows * panel.keys > state->score_elements)
                state->score_elements = panel.rows * panel.keys;
            state->panels[state->n_panels++] = panel;
        }
    return true;
}

static void softmax_row(const struct state *state, const struct panel *panel, float *scores,
                        size_t row) {
    size_t first, last;
    visible_keys(state->spec, (panel->query + row) % state->spec->seq_q, &first, &last);
    /* A panel leaves out only what none of its rows sees. */
    host_softmax(scores + row * panel->keys, panel->keys, first < last ? first - panel->key : 0,
                 first < last ? last - panel->key : 0);
}

struct softmax_job {
    const struct state *state;
    const struct panel *panel;
};

static void softmax_one(void *opaque, size_t row, unsigned thread) {
    const struct softmax_job *job = opaque;
    (void)thread;
    softmax_row(job->state, job->panel, job->state->scores, row);
}

static void multiply(const struct state *state, const struct panel *p, float *scores, bool values) {
    const size_t d = state->spec->head_dim;
    const int rows = (int)p->rows, keys = (int)p->keys, features = (int)d;
    const size_t kv = (p->kv_row + p->key) * d;
    if (keys == 0) /* no leading dimension for BLAS */
        memset(state->o + p->row * d, 0, p->rows * d * sizeof(float));
    else if (!values)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, features,
                    1 / sqrtf((float)d), state->q + p->row * d, features, state->k + kv, features,
                    0, scores, keys);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, features, keys, 1, scores,
                    keys, state->v + kv, features, 0, state->o + p->row * d, features);
}

static void attend_alone(void *opaque, size_t index, unsigned thread) {
    const struct state *state = opaque;
    const struct panel *panel = &state->panels[index % state->n_panels];
    float *scores = state->scores + thread * state->score_elements;
    multiply(state, panel, scores, false);
    for (size_t row = 0; row < panel->rows; row++)
        softmax_row(state, panel, scores, row);
    multiply(state, panel, scores, true);
}

static bool attend_together(const struct state *state, size_t index) {
    const struct panel *panel = &state->panels[index];
    struct softmax_job job = {state, panel};
    multiply(state, panel, state->scores, false);
    if (!team_for(panel->rows, 16, softmax_one, &job))
        return false;
    multiply(state, panel, state->scores, true);
    return true;
}

static bool run(void *opaque, unsigned repeats) {
    struct state *state = opaque;
    if (state->spread) {
        const int threads = openblas_get_num_threads();
        openblas_set_num_threads(1);
        const bool ok = team_for(state->n_panels * repeats, 1, attend_alone, state);
        openblas_set_num_threads(threads);
        return ok;
    }
    for (unsigned i = 0; i < repeats; i++)
        for (size_t p = 0; p < state->n_panels; p++)
            if (!attend_together(state, p))
                return false;
    return true;
}

/* First the way that leaves no threads spinning; it needs scores for each thread. */
static bool choose(struct state *state, const struct peer *peer) {
    const size_t memory = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    const size_t all = state->score_elements * team_size();
    state->spread = all * sizeof(float) < memory / 4;
    state->scores = keep_scores(state->spread ? all : state->score_elements);
    if (!state->scores)
        return false;
    const double spread = state->spread ? peer_try(peer, state) : INFINITY;
    state->spread = false;
    const double together = peer_try(peer, state);
    state->spread = spread < together;
    return spread >= 0 && together >= 0;
}

static bool open_state(struct state *state, const struct spec *spec, clat_trial *trial,
                       const struct peer *peer) {
    const size_t elements = spec->batch * spec->heads * spec->seq_q * spec->head_dim;
    state->spec = spec;
    state->trial = trial;
    state->q = clat_trial_host(trial, "q");
    state->k = clat_trial_host(trial, "k");
    state->v = clat_trial_host(trial, "v");
    state->o = calloc(elements, sizeof *state->o);
    if (!state->o)
        return tool_error("out of memory");
    return make_panels(state, peer == &peer_panels_openblas) && choose(state, peer);
}

static bool open_whole(void *state, clat_context *ctx, const struct spec *spec, clat_trial *trial) {
    (void)ctx;
    return open_state(state, spec, trial, &peer_unfused_openblas);
}

static bool open_panels(void *state, clat_context *ctx, const struct spec *spec,
                        clat_trial *trial) {
    (void)ctx;
    return open_state(state, spec, trial, &peer_panels_openblas);
}

static bool publish(void *opaque) {
    const struct state *state = opaque;
    return peer_publish_host(state->spec, state->trial, state->o);
}

#define UNFUSED_PEER(name_, open_)                                                                 \
    {                                                                                              \
        .name = (name_), .state_bytes = sizeof(struct state), .supports = supports,                \
        .open = (open_), .run = run, .publish = publish, .close = close_state,                     \
        .describe = peer_openblas_describe, .finish = finish                                       \
    }

const struct peer peer_unfused_openblas = UNFUSED_PEER("unfused-openblas", open_whole);
const struct peer peer_panels_openblas = UNFUSED_PEER("panels-openblas", open_panels);
