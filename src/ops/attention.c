/*
 * Attention, forward: the operation, its public entry points, and the launch that its
 * implementations share.
 *
 * Per query tile the kernels walk over key tiles with an online softmax:
 *
 *     m' = max(m, rowmax S)      l = l e^(m - m') + rowsum e^(S - m')
 *     O = O e^(m - m') + e^(S - m') V,   at the end O / l and logsumexp = m + log l
 *
 * Dense and sparse run the same code: a mask only decides which tiles are visited (mask.h).
 */
#include "attention.h"

#include "context.h"
#include "sizes.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the operation */

static void retain(void *problem) {
    struct attention *a = problem;
    a->mask = mask_retain(a->mask);
    a->score = snippet_retain(a->score);
}

static void release(void *problem) {
    clat_mask_release(((struct attention *)problem)->mask);
    snippet_release(((struct attention *)problem)->score);
}

static bool is_reachable(const void *problem) {
    const clat_mask *mask = ((const struct attention *)problem)->mask;
    return mask == NULL || mask_is_shared(mask);
}

static bool is_empty(const void *problem) {
    const struct attention *a = problem;
    return a->batch == 0 || a->heads == 0 || a->seq_q == 0;
}

/* Causal is a class of its own: its tiles are halved along the diagonal and unequal in number. */
static const char *mask_class(const struct attention *a) {
    if (a->mask != NULL)
        return "list";
    if (a->band.low > -MASK_FAR)
        return "band";
    return a->band.high >= MASK_FAR ? "dense" : "causal";
}

static void shape(const void *problem, struct shape *out) {
    const struct attention *a = problem;
    *out = (struct shape){
        .count = 4,
        .dim = {
            {"batch", a->batch}, {"heads", a->heads}, {"seq_q", a->seq_q}, {"seq_k", a->seq_k}}};
    char values[16] = "", grain[32] = "";
    if (a->value_dim != a->head_dim)
        snprintf(values, sizeof values, "/%zu", a->value_dim);
    /* Tiles that suit one size of blocks straddle the edges of another. */
    uint32_t rows = 1, cols = 1;
    mask_grain(a->mask, &rows, &cols);
    if (a->mask != NULL)
        snprintf(grain, sizeof grain, " %ux%u", rows, cols);
    snprintf(out->variant, sizeof out->variant, "%s%s d%zu%s %s%s", clat_dtype_name(a->dtype),
             a->precision == CLAT_PRECISION_NATIVE ? " native" : "", a->head_dim, values,
             mask_class(a), grain);
}

static const struct implementation *const implementations[] = {
    &attention_decode, &attention_tile_cpu, &attention_cpu,  &attention_decode_simt,
    &attention_wgmma,  &attention_mma,      &attention_simt, NULL};

const struct operation attention_operation = {
    .name = "attention",
    .problem_bytes = sizeof(struct attention),
    .implementations = implementations,
    .retain = retain,
    .release = release,
    .is_reachable = is_reachable,
    .is_empty = is_empty,
    .shape = shape,
    .print = attention_print,
    .flops = attention_flops,
    .trial = &attention_trial,
};

/* ---- launch */

size_t attention_groups(const struct attention *a, size_t tile_q) {
    return a->batch * a->heads * ceil_div(a->seq_q, tile_q);
}

size_t attention_section_heads(const struct attention *a) {
    enum { SECTION_BYTES = 32 << 20 };
    const size_t bytes = a->seq_k * (a->head_dim + a->value_dim) * clat_dtype_bytes(a->dtype);
    const size_t kv_heads = bytes > 0 && bytes < SECTION_BYTES ? SECTION_BYTES / bytes : 1;
    const size_t all = a->batch * a->heads, heads = kv_heads * (a->heads / a->kv_heads);
    return heads < all ? heads : all;
}

static struct attention_tensor tensor(const clat_strides *s) {
    return (struct attention_tensor){.batch = (attention_size)s->batch,
                                     .head = (attention_size)s->head,
                                     .seq = (attention_size)s->seq,
                                     .feature = (attention_size)s->feature};
}

static struct attention_params make_params(const struct attention *a, size_t tile_q) {
    const double magnitude = fabs(a->scale), rest = a->score != NULL ? 1 : magnitude;
    return (struct attention_params){
        .q = tensor(&a->q),
        .k = tensor(&a->k),
        .v = tensor(&a->v),
        .o = tensor(&a->o),
        .seq_q = (attention_int)a->seq_q,
        .seq_k = (attention_int)a->seq_k,
        .heads = (attention_int)a->heads,
        .group = (attention_int)(a->heads / a->kv_heads),
        .low = (attention_int)a->band.low,
        .high = (attention_int)a->band.high,
        .query_tiles = (attention_int)ceil_div(a->seq_q, tile_q),
        .list_heads = (attention_int)mask_heads(a->mask),
        .list_batches = 1,
        .listed_heads = (attention_int)mask_heads(a->mask),
        .sign = a->scale < 0 ? -1.0f : 1.0f,
        .score_scale = (float)magnitude,
        .scale = (float)rest,
        /* Never 0, so that -infinity stays what it is. */
        .log2_scale = (float)fmax(rest * 1.4426950408889634, (double)FLT_MIN),
        .last_first = a->band.high < MASK_FAR,
        .parts = 1,
    };
}

/* Constants hold at least one word: OpenCL knows no empty buffer. */
static clat_status set_constant(struct launch *out, unsigned index, uint32_t *words, size_t count) {
    if (words == NULL)
        words = calloc(1, sizeof *words);
    if (words == NULL)
        return status_no_memory(sizeof *words);
    out->constant[index].data = words;
    out->constant[index].bytes = (count > 0 ? count : 1) * sizeof *words;
    return CLAT_OK;
}

enum { CONSTANT_INDEX, CONSTANT_TILES, CONSTANT_WORDS, CONSTANT_ITEMS };

/* Tile lists with their order of rows behind them, and the predicate. */
static clat_status fill_lists(const struct attention *a, size_t tile_q, size_t tile_k,
                              size_t shares, struct attention_params *params, struct launch *out) {
    clat_status st = CLAT_OK;
    const int64_t seq_q = (int64_t)a->seq_q, seq_k = (int64_t)a->seq_k;
    struct mask_tiles list = {0};
    uint32_t *words = NULL, *items = NULL;
    size_t n_words = 0;
    TRY(mask_tiles(a->mask, seq_q, seq_k, (int64_t)tile_q, (int64_t)tile_k, &list));
    params->list_tiles = (attention_size)list.n_tiles;
    if (shares > 0 && !mask_has_code(a->mask)) { /* else rows are shorter than they look here */
        const size_t rounds = a->batch * (params->list_heads > 1 ? 1 : a->heads);
        TRY(attention_split_rows(&list, rounds, shares, params, &items, &n_words));
        if (items != NULL)
            TRY(set_constant(out, CONSTANT_ITEMS, items, n_words));
    }
    TRY(attention_order_rows(&list, params));
    TRY(set_constant(out, CONSTANT_INDEX, list.index, list.n_index));
    list.index = NULL;
    TRY(set_constant(out, CONSTANT_TILES, list.tiles, list.n_tiles));
    list.tiles = NULL;
    TRY(mask_predicate(a->mask, seq_q, seq_k, &out->snippet, &words, &n_words));
    TRY(set_constant(out, CONSTANT_WORDS, words, n_words));
out:
    free(list.index);
    free(list.tiles);
    return st;
}

/* Room in the workspace for lists that the device makes of those of the host: index, tiles and, on
 * the way, the full ones, for each head and batch element whose answers differ. Behind what the
 * kernels themselves may have at its beginning. */
static clat_status reserve_lists(const struct attention *a, struct attention_params *params,
                                 struct launch *out) {
    enum { BEGIN = 512 };
    const unsigned varies = mask_varies(a->mask);
    const double host_heads = params->listed_heads;
    params->list_batches = varies & CLAT_MASK_BY_BATCH ? (attention_int)a->batch : 1;
    params->list_heads = varies & CLAT_MASK_BY_HEAD || host_heads > 1 ? (attention_int)a->heads : 1;
    const double lists = (double)params->list_batches * (double)params->list_heads;
    const double index = 3 * lists * (double)params->query_tiles + (double)params->query_tiles;
    const double tiles = lists / host_heads * (double)params->list_tiles;
    if (index > INT32_MAX || tiles > INT32_MAX)
        return status_fail(CLAT_INVALID_SIZE,
                           "the mask's predicate needs lists of %.3g tiles, beyond 2^31", tiles);
    params->index_at = BEGIN / sizeof(uint32_t);
    params->tiles_at = params->index_at + (attention_size)index;
    params->full_at = params->tiles_at + (attention_size)tiles;
    out->workspace_bytes = (size_t)(params->full_at + (attention_size)tiles) * sizeof(uint32_t);
    return CLAT_OK;
}

clat_status attention_launch_common(const struct attention *a, size_t tile_q, size_t tile_k,
                                    struct attention_split split, struct launch *out) {
    clat_status st = CLAT_OK;
    struct pass *pass = &out->passes[out->n_passes++];
    struct attention_params params = make_params(a, tile_q);
    pass->kernel = "attention";
    for (unsigned role = ATTENTION_Q; role <= ATTENTION_O; role++)
        pass_arg(pass, ARG_BUFFER, role, 0);
    pass_arg(pass, ARG_PARAMS, 0, 0);
    if (a->logsumexp)
        pass_arg(pass, ARG_BUFFER, ATTENTION_LSE, 0);
    if (a->score_data > 0)
        pass_arg(pass, ARG_BUFFER, ATTENTION_SCORE_DATA, 0);
    if (a->mask != NULL) {
        const bool made = mask_has_code(a->mask);
        pass_arg(pass, made ? ARG_WORKSPACE : ARG_CONSTANT, CONSTANT_INDEX, 0);
        pass_arg(pass, made ? ARG_WORKSPACE : ARG_CONSTANT, CONSTANT_TILES, 0);
        pass_arg(pass, ARG_CONSTANT, CONSTANT_WORDS, 0);
        if (a->mask_data > 0)
            pass_arg(pass, ARG_BUFFER, ATTENTION_MASK_DATA, 0);
        TRY(fill_lists(a, tile_q, tile_k, split.shares, &params, out));
        if (made)
            TRY(reserve_lists(a, &params, out));
    } else if (split.parts > 1) {
        params.parts = (attention_int)split.parts;
    }
    if (params.items > 0)
        pass_arg(pass, ARG_CONSTANT, CONSTANT_ITEMS, 0);
    if (params.items > 0 || params.parts > 1)
        pass_arg(pass, ARG_WORKSPACE, 0, 0);
    _Static_assert(sizeof params <= OP_MAX_PARAMS_BYTES, "raise the limit");
    out->params_bytes = sizeof params;
    memcpy(out->params, &params, sizeof params);
    text_printf(
        &out->defines,
        "#define DTYPE %s\n#define HEAD_DIM %zu\n#define VALUE_DIM %zu\n#define UNIT_FEATURES %d\n"
        "#define LOGSUMEXP %d\n#define MASK_LIST %d\n#define SPLIT_KEYS %d\n"
        "#define SCORE_MODIFIER %d\n#define SCORE_DATA %d\n#define MASK_CODE %d\n"
        "#define MASK_DATA %d\n",
        clat_dtype_name(a->dtype), a->head_dim, a->value_dim, attention_unit_features(a),
        a->logsumexp != 0, a->mask != NULL, params.items > 0 || params.parts > 1, a->score != NULL,
        a->score_data > 0, mask_has_code(a->mask), a->mask_data > 0);
    attention_score_function(a, &out->snippet);
    TRY(text_check(&out->defines));
out:
    return st;
}

void attention_add_lists(const struct device *device, const struct attention *a,
                         struct launch *out) {
    const size_t items = smaller(256, device->max_work_group);
    struct attention_params params;
    if (!mask_has_code(a->mask))
        return;
    text_printf(&out->defines, "#define LIST_ITEMS %zu\n", items);
    memcpy(&params, out->params, sizeof params);
    struct pass *pass = launch_prepend(out);
    *pass = (struct pass){.kernel = "attention_lists", .dims = 1, .local = {items}};
    pass->global[0] = (size_t)params.list_batches * (size_t)params.list_heads *
                      (size_t)params.query_tiles * items;
    pass_arg(pass, ARG_CONSTANT, CONSTANT_INDEX, 0);
    pass_arg(pass, ARG_CONSTANT, CONSTANT_TILES, 0);
    pass_arg(pass, ARG_CONSTANT, CONSTANT_WORDS, 0);
    if (a->mask_data > 0)
        pass_arg(pass, ARG_BUFFER, ATTENTION_MASK_DATA, 0);
    pass_arg(pass, ARG_PARAMS, 0, 0);
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
}

void attention_add_merge(const struct attention *a, size_t records, size_t record_bytes,
                         size_t groups, struct launch *out) {
    struct pass *pass = &out->passes[out->n_passes++];
    *pass = (struct pass){.kernel = "attention_merge", .dims = 1};
    pass->global[0] = groups;
    pass->local[0] = 1;
    pass_arg(pass, ARG_BUFFER, ATTENTION_O, 0);
    pass_arg(pass, ARG_PARAMS, 0, 0);
    if (a->logsumexp)
        pass_arg(pass, ARG_BUFFER, ATTENTION_LSE, 0);
    if (out->constant[CONSTANT_ITEMS].data != NULL)
        pass_arg(pass, ARG_CONSTANT, CONSTANT_ITEMS, 0);
    pass_arg(pass, ARG_WORKSPACE, 0, 0);
    out->workspace_bytes = records * record_bytes;
}

/* ---- entry points */

clat_status clat_attention_plan(clat_plan **out, clat_context *ctx,
                                const clat_attention_problem *problem) {
    clat_status st = CLAT_OK;
    struct attention normal = {0};
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (ctx == NULL || problem == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "%s is NULL", ctx ? "problem" : "ctx");
    TRY(attention_normalise(&normal, problem));
    TRY(plan_create(out, ctx, &attention_operation, &normal, problem->implementation,
                    problem->tunables));
out:
    snippet_release(normal.score);
    return st;
}

enum { N_ROLES = ATTENTION_MASK_DATA + 1 };

static void make_views(const struct attention *a, const clat_attention_args *args,
                       struct view views[N_ROLES]) {
    static const char *const name[N_ROLES] = {"q",         "k",          "v",        "o",
                                              "logsumexp", "score_data", "mask_data"};
    const cl_mem buffer[N_ROLES] = {args->q,         args->k,          args->v,        args->o,
                                    args->logsumexp, args->score_data, args->mask_data};
    const size_t offset[N_ROLES] = {
        args->q_offset,         args->k_offset,          args->v_offset,        args->o_offset,
        args->logsumexp_offset, args->score_data_offset, args->mask_data_offset};
    for (unsigned role = 0; role < N_ROLES; role++) {
        views[role] = (struct view){
            .name = name[role],
            .buffer = buffer[role],
            .offset = offset[role],
            .element_bytes = role >= ATTENTION_LSE ? sizeof(float) : clat_dtype_bytes(a->dtype),
            .rank = 4};
        attention_extent(a, role, views[role].extent, views[role].stride);
    }
}

/* Without any key, K and V are never looked at and may be NULL. */
static bool is_used(const struct attention *a, unsigned role) {
    if (role == ATTENTION_K || role == ATTENTION_V)
        return a->seq_k > 0;
    if (role == ATTENTION_SCORE_DATA || role == ATTENTION_MASK_DATA)
        return (role == ATTENTION_SCORE_DATA ? a->score_data : a->mask_data) > 0;
    return role != ATTENTION_LSE || a->logsumexp;
}

static bool is_input(unsigned role) {
    return role <= ATTENTION_V || role >= ATTENTION_SCORE_DATA;
}

static clat_status check_args(const struct attention *a, const struct view views[N_ROLES],
                              cl_context cl) {
    clat_status st = CLAT_OK;
    for (unsigned role = 0; role < N_ROLES; role++)
        if (is_used(a, role))
            TRY(view_check(&views[role], cl));
    for (unsigned input = ATTENTION_Q; input < N_ROLES; input++)
        if (is_input(input) && is_used(a, input)) {
            TRY(view_disjoint(&views[ATTENTION_O], &views[input]));
            if (a->logsumexp)
                TRY(view_disjoint(&views[ATTENTION_LSE], &views[input]));
        }
    if (a->logsumexp)
        TRY(view_disjoint(&views[ATTENTION_LSE], &views[ATTENTION_O]));
out:
    return st;
}

clat_status clat_attention_run(const clat_plan *plan, cl_command_queue queue,
                               const clat_attention_args *args, cl_uint n_wait,
                               const cl_event *wait_list, cl_event *event) {
    clat_status st = CLAT_OK;
    const void *problem = NULL;
    struct view views[N_ROLES];
    struct attention_params params;
    struct binding binding = {.params = &params};
    status_clear();
    TRY(plan_problem(&problem, plan, &attention_operation, queue, n_wait, wait_list));
    if (args == NULL)
        TRY(status_fail(CLAT_INVALID_ARGUMENT, "args is NULL"));
    const struct attention *a = problem;
    binding.workspace = args->workspace;
    if (!is_empty(a)) {
        make_views(a, args, views);
        TRY(check_args(a, views, plan_context(plan)->cl));
        for (unsigned role = 0; role < N_ROLES; role++)
            binding.buffer[role] = is_used(a, role) ? views[role].buffer : args->q;
        memcpy(&params, plan_launch(plan)->params, sizeof params);
        params.q.offset = (attention_size)args->q_offset;
        params.k.offset = (attention_size)args->k_offset;
        params.v.offset = (attention_size)args->v_offset;
        params.o.offset = (attention_size)args->o_offset;
        params.lse_offset = (attention_size)args->logsumexp_offset;
        params.score_offset = (attention_size)args->score_data_offset;
        params.mask_offset = (attention_size)args->mask_data_offset;
    }
    TRY(plan_enqueue(plan, queue, &binding, n_wait, wait_list, event));
out:
    return st;
}

clat_status clat_attention(clat_context *ctx, cl_command_queue queue,
                           const clat_attention_problem *problem, const clat_attention_args *args,
                           cl_uint n_wait, const cl_event *wait_list, cl_event *event) {
    clat_status st = CLAT_OK;
    clat_plan *plan = NULL;
    TRY(clat_attention_plan(&plan, ctx, problem));
    TRY(clat_attention_run(plan, queue, args, n_wait, wait_list, event));
out:
    clat_plan_release(plan);
    return st;
}
