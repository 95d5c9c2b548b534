/*
 * Attention under predicates of the caller's, whose tile lists are made on the device, against the
 * plain f64 reference with the same predicates in C.
 */
#include "attention_cases.h"

#include "context.h"
#include "engine.h"
#include "mask.h"
#include "ops/attention.h"
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static clat_mask *code(const char *text, unsigned varies) {
    clat_mask *mask = NULL;
    assert_ok(clat_mask_predicate(&mask, text, varies));
    return mask;
}

/* With a causal mask; gives up `mask`. */
static clat_mask *and_causal(clat_mask *mask) {
    clat_mask *causal = NULL, *joined = NULL;
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_BOTTOM_RIGHT));
    assert_ok(clat_mask_all(&joined, 2, (const clat_mask *const[]){causal, mask}));
    clat_mask_release(causal);
    clat_mask_release(mask);
    return joined;
}

static bool causal(const clat_attention_problem *p, size_t i, size_t j) {
    return j + p->seq_q <= i + p->seq_k;
}

/* ---- the cases */

static clat_mask *make_pure(const clat_attention_problem *p) {
    (void)p;
    return code("for (int n = 1; n < 1000; n *= 3)\n    visible |= abs(query - key) == n;\n"
                "if (query == key || key >= seq_k - 40) visible = 7;",
                0);
}
static bool see_pure(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                     size_t i, size_t j) {
    const size_t distance = i > j ? i - j : j - i;
    bool seen = distance == 0 || j + 40 >= p->seq_k; /* the last tile of keys is cut off */
    (void)data, (void)b, (void)h;
    for (size_t n = 1; n < 1000; n *= 3)
        seen |= distance == n;
    return seen;
}

/* Segments in any order: those of queries, then those of keys. */
static clat_mask *make_segments(const clat_attention_problem *p) {
    (void)p;
    return and_causal(code("visible = data[query] == data[seq_q + key];", 0));
}
static size_t fill_segments(const clat_attention_problem *p, uint32_t *words) {
    for (size_t n = 0; n < p->seq_q + p->seq_k && words != NULL; n++)
        words[n] = (uint32_t)((n < p->seq_q ? n : n - p->seq_q) * 7 / 100 % 3);
    return p->seq_q + p->seq_k;
}
static bool see_segments(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                         size_t i, size_t j) {
    (void)b, (void)h;
    return causal(p, i, j) && data[i] == data[p->seq_q + j];
}

static clat_mask *make_lengths(const clat_attention_problem *p) {
    clat_mask *mask = NULL;
    (void)p;
    assert_ok(clat_mask_lengths(&mask));
    return mask;
}
static size_t fill_lengths(const clat_attention_problem *p, uint32_t *words) {
    for (size_t b = 0; b < p->batch && words != NULL; b++) /* none for the first */
        words[b] = (uint32_t)(p->seq_k * b / (p->batch > 1 ? p->batch - 1 : 1));
    return p->batch;
}
static bool see_lengths(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                        size_t i, size_t j) {
    (void)p, (void)h, (void)i;
    return j < data[b];
}

/* Bits for each head and batch element, most keys hidden in whole stretches. */
static clat_mask *make_bits(const clat_attention_problem *p) {
    clat_mask *mask = NULL;
    (void)p;
    assert_ok(clat_mask_bits(&mask, CLAT_MASK_BY_BATCH | CLAT_MASK_BY_HEAD));
    return mask;
}
static size_t fill_bits(const clat_attention_problem *p, uint32_t *words) {
    const size_t width = (p->seq_k + 31) / 32, count = p->batch * p->heads * p->seq_q * width;
    uint64_t seed = 11;
    for (size_t n = 0; n < count && words != NULL; n++) {
        const uint32_t all = n / 40 % 3 == 0 ? 0 : n / 40 % 3 == 1 ? UINT32_MAX : 0x0FF0F123;
        words[n] = n % 17 == 0 ? (uint32_t)(harness_random_real(&seed, 1.0) * 1e9) : all;
    }
    return count;
}
static bool see_bits(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                     size_t i, size_t j) {
    const size_t width = (p->seq_k + 31) / 32;
    return data[((b * p->heads + h) * p->seq_q + i) * width + j / 32] >> j % 32 & 1;
}

/* Blocks of 16 x 8 by bits of each head, and what no device needs to be asked for: a window. */
static clat_mask *make_blocks(const clat_attention_problem *p) {
    clat_mask *bits = NULL, *parts[2] = {NULL, NULL}, *mask = NULL;
    (void)p;
    assert_ok(clat_mask_bits(&bits, CLAT_MASK_BY_HEAD));
    assert_ok(clat_mask_by_blocks(&parts[0], 16, 8, bits));
    assert_ok(clat_mask_window(&parts[1], 20, 20));
    assert_ok(clat_mask_any(&mask, 2, (const clat_mask *const *)parts));
    clat_mask_release(bits);
    clat_mask_release(parts[0]);
    clat_mask_release(parts[1]);
    return mask;
}
static size_t block_words(const clat_attention_problem *p) {
    return ((p->seq_k + 7) / 8 + 31) / 32;
}
static size_t fill_blocks(const clat_attention_problem *p, uint32_t *words) {
    const size_t count = p->heads * ((p->seq_q + 15) / 16) * block_words(p);
    for (size_t n = 0; n < count && words != NULL; n++)
        words[n] = (uint32_t)(n * 2654435761u) & 0x0F0F3333;
    return count;
}
static bool see_blocks(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                       size_t i, size_t j) {
    const size_t row = h * ((p->seq_q + 15) / 16) + i / 16, distance = i > j ? i - j : j - i;
    (void)b;
    return distance <= 20 || data[row * block_words(p) + j / 8 / 32] >> j / 8 % 32 & 1;
}

/* Inside a join by heads and under a not; with heads that differ without it. */
static clat_mask *make_heads(const clat_attention_problem *p) {
    clat_mask *asked =
        code("visible = (key * 5 + query) % 64 < 40 + batch * 8;", CLAT_MASK_BY_BATCH);
    clat_mask *window = NULL, *mask = NULL, *without = NULL;
    uint32_t of_head[16];
    assert_true(p->heads <= 16);
    for (size_t h = 0; h < p->heads; h++)
        of_head[h] = h % 2;
    assert_ok(clat_mask_window(&window, 40, 0));
    assert_ok(clat_mask_not(&without, asked));
    assert_ok(clat_mask_heads(&mask, (uint32_t)p->heads, of_head, 2,
                              (const clat_mask *const[]){window, without}));
    clat_mask_release(asked);
    clat_mask_release(window);
    clat_mask_release(without);
    return mask;
}
static bool see_heads(const clat_attention_problem *p, const uint32_t *data, size_t b, size_t h,
                      size_t i, size_t j) {
    (void)p, (void)data;
    if (h % 2 == 0)
        return j <= i && i <= j + 40;
    return (j * 5 + i) % 64 >= 40 + b * 8;
}

static const struct predicate_case cases[] = {
    {"code without data", make_pure, NULL, see_pure},
    {"segments", make_segments, fill_segments, see_segments},
    {"lengths", make_lengths, fill_lengths, see_lengths},
    {"bits", make_bits, fill_bits, see_bits},
    {"heads", make_heads, NULL, see_heads},
    {"blocks of bits", make_blocks, fill_blocks, see_blocks},
};
enum { N_CASES = sizeof cases / sizeof *cases, BLOCKS_OF_BITS = N_CASES - 1 };

/* ---- implementations x cases x sizes */

static const struct target {
    const char *implementation;
    clat_dtype dtype;
    clat_precision precision;
    const char *emulated; /* tunables, where a device without its engine emulates one */
} targets[] = {
    {"cpu", CLAT_F32, CLAT_PRECISION_F32, NULL},
    {"cpu", CLAT_BF16, CLAT_PRECISION_F32, NULL},
    {"cpu_tile", CLAT_BF16, CLAT_PRECISION_NATIVE, NULL},
    {"simt", CLAT_F32, CLAT_PRECISION_F32, NULL},
    {"simt", CLAT_F16, CLAT_PRECISION_F32, NULL},
    {"mma", CLAT_F16, CLAT_PRECISION_NATIVE, "SG=2 RQ=1 BK=32 STAGES=2 KEEP_Q=0"},
    {"wgmma", CLAT_F16, CLAT_PRECISION_NATIVE, NULL},
    {"wgmma", CLAT_BF16, CLAT_PRECISION_NATIVE, NULL},
};

static void test_target(void **state) {
    static const struct attention_size sizes[] = {{1, 1},     {5, 0},     {5, 300},   {67, 45},
                                                  {130, 257}, {300, 300}, {300, 1000}};
    const struct target *target = *state;
    struct device *device = &harness_context()->device;
    const bool emulated = target->emulated != NULL && engine_find(device, target->dtype) == NULL;
    bool any = false;
    if (emulated)
        device->emulated_engine = &engines[0];
    /* Emulations are slow to build: of one case, which has all there is. */
    for (size_t c = emulated ? BLOCKS_OF_BITS : 0; c < N_CASES; c++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
            char name[120];
            problem.implementation = target->implementation;
            problem.tunables = emulated ? target->emulated : NULL;
            problem.dtype = target->dtype, problem.precision = target->precision;
            problem.batch = 3, problem.heads = 4, problem.kv_heads = 2;
            problem.seq_q = sizes[s].seq_q, problem.seq_k = sizes[s].seq_k;
            problem.head_dim = c % 2 ? 64 : 40, problem.logsumexp = c % 3 != 0;
            snprintf(name, sizeof name, "%s, %zu x %zu", cases[c].name, problem.seq_q,
                     problem.seq_k);
            clat_mask *mask = cases[c].make(&problem);
            problem.mask = mask;
            const bool declined = attention_is_declined(&problem);
            clat_mask_release(mask);
            if (!declined)
                attention_check_predicate(name, &problem,
                                          s % 2 ? LAYOUT_DEFAULT : LAYOUT_PADDED | LAYOUT_ALIGNED,
                                          &cases[c]);
            any |= !declined;
        }
    device->emulated_engine = NULL;
    plan_cache_clear(harness_context());
    if (!any)
        skip();
}

/* ---- the lists themselves */

static const struct predicate_case *current;

static bool is_listed(const uint32_t *tiles, uint32_t count, size_t tile) {
    for (uint32_t n = 0; n < count; n++)
        if (tiles[n] == tile)
            return true;
    fail_msg("tile %zu is not listed as full", tile);
    return false;
}

/* Rows of the lists in the workspace against every pair of every tile. */
static void check_lists(const clat_attention_problem *p, const uint32_t *data,
                        const uint32_t *words, const struct attention_params *params, size_t tile_q,
                        size_t tile_k) {
    const size_t lists = (size_t)params->list_batches * (size_t)params->list_heads;
    for (size_t row = 0; row < lists * (size_t)params->query_tiles; row++) {
        const size_t list = row / (size_t)params->query_tiles,
                     q = row % (size_t)params->query_tiles;
        const size_t head = list % (size_t)params->list_heads,
                     b = list / (size_t)params->list_heads;
        const uint32_t *entry = words + params->index_at + 3 * row;
        const uint32_t *tiles = words + params->tiles_at + entry[0];
        uint32_t n_partial = 0, n_full = 0; /* full ones in any order */
        for (size_t j0 = 0; j0 < p->seq_k; j0 += tile_k) {
            size_t seen = 0, all = 0;
            for (size_t i = q * tile_q; i < (q + 1) * tile_q && i < p->seq_q; i++)
                for (size_t j = j0; j < j0 + tile_k; j++, all++)
                    seen += j < p->seq_k && current->visible(p, data, b, head, i, j);
            if (seen == all)
                n_full += is_listed(tiles + entry[1], entry[2] - entry[1], j0 / tile_k);
            else if (seen > 0)
                assert_int_equal(tiles[n_partial++], j0 / tile_k);
        }
        assert_int_equal(entry[1], n_partial);
        assert_int_equal(entry[2], n_partial + n_full);
    }
}

static void test_lists(void **state) {
    enum { TILE_Q = 32, TILE_K = 16, SEQ_Q = 300, SEQ_K = 5000 }; /* more tiles than work-items */
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    clat_plan *plan = NULL;
    char tunables[80];
    current = *state;
    problem.implementation = "simt";
    snprintf(tunables, sizeof tunables, "TX=8 TY=8 RQ=%d RK=%d", TILE_Q / 8, TILE_K / 8);
    problem.tunables = tunables;
    problem.batch = 2, problem.heads = 4, problem.seq_q = SEQ_Q, problem.seq_k = SEQ_K;
    problem.head_dim = 8;
    clat_mask *mask = current->make(&problem);
    problem.mask = mask;
    problem.mask_data = current->data != NULL ? current->data(&problem, NULL) : 0;
    uint32_t *data = harness_alloc((problem.mask_data + 1) * sizeof *data);
    if (current->data != NULL)
        current->data(&problem, data);
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    const size_t bytes = clat_plan_get_info(plan)->workspace_bytes;
    const size_t elements = problem.batch * problem.heads * SEQ_K * problem.head_dim;
    args.q = args.k = args.v = harness_buffer(elements * sizeof(float), NULL);
    args.o = harness_buffer(elements * sizeof(float), NULL);
    args.mask_data = harness_buffer((problem.mask_data + 1) * sizeof *data, data);
    args.workspace = harness_buffer(bytes, NULL);
    assert_ok(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL));
    uint32_t *words = harness_alloc(bytes);
    harness_read(args.workspace, 0, bytes, words);
    struct attention_params params;
    memcpy(&params, plan_launch(plan)->params, sizeof params);
    check_lists(&problem, data, words, &params, TILE_Q, TILE_K);
    clReleaseMemObject(args.q);
    clReleaseMemObject(args.o);
    clReleaseMemObject(args.mask_data);
    clReleaseMemObject(args.workspace);
    clat_plan_release(plan);
    clat_mask_release(mask);
    free(data);
    free(words);
}

/* ---- what is open, what does not compile, what is wrong */

static void test_open(void **state) {
    (void)state;
    clat_mask *asked = code("visible = data[0];", 0), *past = NULL, *window = NULL, *any = NULL;
    clat_mask_info info;
    past = and_causal(mask_retain(asked));
    assert_ok(clat_mask_window(&window, 4, 4));
    assert_ok(clat_mask_any(&any, 2, (const clat_mask *const[]){window, asked}));
    assert_true(clat_mask_visible(asked, 9, 9, 0, 8, 0) && clat_mask_visible(past, 9, 9, 0, 8, 0));
    assert_false(clat_mask_visible(past, 9, 9, 0, 0, 8));
    assert_true(mask_pairs(asked, 100, 50, 2) == 10000);
    assert_true(mask_pairs(past, 10000, 10000, 1) == 10000.0 * 10001 / 2);
    assert_ok(clat_mask_inspect(&info, any, 64, 64, 1, 4, 4, NULL));
    assert_int_equal(info.tiles, 256);
    assert_int_equal(info.full_tiles, 16); /* of the diagonal */
    clat_mask_release(asked);
    clat_mask_release(past);
    clat_mask_release(window);
    clat_mask_release(any);
}

static void test_errors(void **state) {
    (void)state;
    clat_mask *mask = NULL;
    clat_plan *plan = NULL;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_predicate(&mask, NULL, 0));
    assert_error_names("code");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_predicate(&mask, "", 4));
    assert_error_names("varies");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_bits(&mask, 4));
    assert_error_names("varies");
    assert_status(CLAT_INVALID_ARGUMENT, clat_mask_lengths(NULL));
    assert_error_names("out");
    problem.seq_q = problem.seq_k = 64, problem.head_dim = 16;
    problem.mask_data = 3;
    assert_status(CLAT_INVALID_ARGUMENT, clat_attention_plan(&plan, harness_context(), &problem));
    assert_error_names("mask_data");
    mask = code("visible = 1;\n  visible = undeclared;", 0);
    problem.mask = mask, problem.mask_data = 0;
    assert_status(CLAT_BUILD_FAILED, clat_attention_plan(&plan, harness_context(), &problem));
    assert_non_null(strstr(clat_error_text(), "mask:2:"));
    clat_mask_release(mask);
    /* Data of the caller's are checked like any operand. */
    assert_ok(clat_mask_lengths(&mask));
    problem.mask = mask, problem.mask_data = 3;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = args.k = args.v = harness_buffer(64 * 16 * sizeof(float), NULL);
    args.o = harness_buffer(64 * 16 * sizeof(float), NULL);
    assert_int_equal(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL),
                     CLAT_INVALID_BUFFER);
    assert_error_names("mask_data");
    args.mask_data = args.o;
    assert_int_equal(clat_attention_run(plan, harness_queue(), &args, 0, NULL, NULL),
                     CLAT_INVALID_OVERLAP);
    clReleaseMemObject(args.q);
    clReleaseMemObject(args.o);
    clat_plan_release(plan);
    clat_mask_release(mask);
}

/* A trial asks the device what is visible: right results pass, and it knows of one key more. */
static void test_trial(void **state) {
    (void)state;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    problem.seq_q = 50, problem.seq_k = 70, problem.head_dim = 16, problem.mask_data = 4;
    clat_mask *mask = code("visible = key % 3 == 0 || key == (int)(data[0] % 7);", 0);
    problem.mask = mask;
    assert_ok(clat_attention_plan(&plan, harness_context(), &problem));
    assert_ok(clat_trial_create(&trial, plan, 1));
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    assert_true(verdict.ok);
    cl_mem data = clat_trial_buffer(trial, "mask_data", NULL);
    const uint32_t host = *(const uint32_t *)clat_trial_host(trial, "mask_data");
    const uint32_t other = host + (host % 7 == 1 ? 3 : host % 7 < 5 ? 1 : 2);
    assert_cl(clEnqueueWriteBuffer(harness_queue(), data, CL_TRUE, 0, sizeof other, &other, 0, NULL,
                                   NULL));
    assert_ok(clat_trial_verify(trial, NULL, &verdict)); /* of the outputs that are there */
    assert_false(verdict.ok);
    clat_trial_release(trial);
    clat_plan_release(plan);
    clat_mask_release(mask);
}

int main(void) {
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        static char names[sizeof targets / sizeof *targets][40];
        snprintf(names[i], sizeof names[i], "%s %s", targets[i].implementation,
                 clat_dtype_name(targets[i].dtype));
        harness_add(names[i], test_target, &targets[i]);
    }
    for (size_t c = 0; c < N_CASES; c++) {
        static char names[N_CASES][40];
        snprintf(names[c], sizeof names[c], "lists, %s", cases[c].name);
        harness_add(names[c], test_lists, &cases[c]);
    }
    harness_add("open", test_open, NULL);
    harness_add("errors", test_errors, NULL);
    harness_add("trial", test_trial, NULL);
    return harness_run_added();
}
