/* Every variant of attention, on each implementation, against the plain f64 reference. */
#include "attention_cases.h"
#include "emulated_dot.h"
#include "mask_cases.h"

#include "context.h"
#include "dtype.h"
#include "engine.h"
#include "host_cpu.h"
#include "ops/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Small tiles, so that short sequences have many of them and edges on all sides. NULL: the guess.
 */
static const struct {
    const char *label, *name, *tunables;
} implementations[] = {
    {"cpu", "cpu", "VW=8 NV=2 MR=4 BK=16 PACK=1 SPLIT=16"},
    {"simt", "simt", "TX=8 TY=4 RQ=2 RK=2 DC=8 VC=8 KEEP_Q=1"},
    {"decode", "decode", "VW=8 BK=16 SPLIT=8"},
    {"cpu_tile", "cpu_tile", "NV=2 BK=32 SPLIT=16"},
    {"mma", "mma", "SG=2 RQ=1 BK=16 STAGES=1 KEEP_Q=0"},
    {"cpu with pairs", "cpu", "VW=16 NV=1 MR=4 BK=16 PACK=1 SPLIT=16"},
    {"wgmma", "wgmma", "CW=1 BK=64 STAGES=2 Q_STAGES=2 TURNS=0 RESIDENT=1"},
    {"decode_simt", "decode_simt", "GROUP=64 ROWS=2 KEYS=2 SPLIT=4"},
};

enum { CPU, SIMT, DECODE, TILE, MMA, PAIRS, WGMMA, DECODE_SIMT, N_IMPLEMENTATIONS };

/* How many queries it takes, of so many. */
static size_t queries_of(unsigned implementation, size_t wanted) {
    const size_t most = implementation == DECODE ? 4 : implementation == DECODE_SIMT ? 16 : wanted;
    return wanted < most ? wanted : most;
}

/* They take bf16 in native precision and nothing else of what is tested here. */
static bool is_native(unsigned implementation) {
    return implementation == TILE || implementation == MMA || implementation == PAIRS ||
           implementation == WGMMA;
}

/* They run anywhere. */
static bool is_made_for_gpus(unsigned implementation) {
    return implementation == SIMT || implementation == DECODE_SIMT;
}

static bool is_available(unsigned implementation) {
    if (implementation == TILE)
        return device_can(&harness_context()->device, CAP_BF16_TILE);
    if (implementation == MMA)
        return engine_find(&harness_context()->device, CLAT_BF16) != NULL;
    if (implementation == WGMMA)
        return device_can(&harness_context()->device, CAP_WGMMA);
    if (implementation == PAIRS)
        return harness_device_is_cpu() && device_can(&harness_context()->device, CAP_BF16_DOT);
    return is_made_for_gpus(implementation) || harness_device_is_cpu();
}

/* Nothing, one, tile-1, tile, tile+1 (tiles are 16 or 8 queries by 16 keys), primes, several. */
static const struct attention_size shapes[] = {{0, 5},
                                               {5, 0},
                                               {1, 1},
                                               {15, 16},
                                               {16, 17},
                                               {17, 15},
                                               {7, 9},
                                               {31, 33},
                                               {47, 97},
                                               {64, 64},
                                               {1, 50},
                                               {50, 1},
                                               {13, 128},
                                               /* enough keys to be split */
                                               {1, 1025},
                                               {3, 700},
                                               {4, 513}};

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* ---- variants: each line is one program for each implementation */

struct variant {
    const char *name;
    clat_dtype dtype;
    size_t head_dim, value_dim; /* value_dim 0: as many */
    enum attention_layout layout;
    const char *masks[10]; /* all of one kind: bands, or one expression for a list */
    size_t batch, heads, kv_heads;
    bool no_logsumexp, guess;
    bool native; /* as fast as the device can, which is never less exact than docs/numerics.md says
                  */
    bool native_only; /* others take no path that their other variants do not take */
    bool gpu_only;    /* simt on a CPU takes seconds to build and no path that others do not take */
};

#define BANDS                                                                                      \
    {                                                                                              \
        "dense", "causal", "causal_br", "window", "sliding_br", "window_left", "window_self",      \
            "nothing"                                                                              \
    }
#define SOME_BANDS                                                                                 \
    { "dense", "causal_br", "window" }

static const struct variant variants[] = {
    {.name = "f32 d32", .head_dim = 32, .masks = BANDS, .heads = 2},
    {.name = "f32 d1", .head_dim = 1, .masks = SOME_BANDS, .batch = 2, .gpu_only = true},
    {.name = "f32 d3", .head_dim = 3, .masks = SOME_BANDS},
    {.name = "f32 d8 bnhd",
     .head_dim = 8,
     .masks = SOME_BANDS,
     .heads = 3,
     .layout = LAYOUT_BNHD,
     .gpu_only = true},
    {.name = "f32 d31",
     .head_dim = 31,
     .masks = SOME_BANDS,
     .layout = LAYOUT_PADDED,
     .gpu_only = true},
    {.name = "f32 d59 mqa", .head_dim = 59, .masks = SOME_BANDS, .heads = 4, .kv_heads = 1},
    {.name = "f32 d64 guess", .head_dim = 64, .masks = BANDS, .guess = true},
    {.name = "f32 d80",
     .head_dim = 80,
     .masks = SOME_BANDS,
     .no_logsumexp = true,
     .gpu_only = true},
    {.name = "f32 d128 guess",
     .head_dim = 128,
     .masks = {"dense", "causal"},
     .guess = true,
     .gpu_only = true},
    {.name = "f32 d256 guess",
     .head_dim = 256,
     .masks = {"causal"},
     .guess = true,
     .gpu_only = true},
    {.name = "f32 d20 v37", .head_dim = 20, .value_dim = 37, .masks = SOME_BANDS, .heads = 2},
    {.name = "f32 d48 v16 bnhd",
     .head_dim = 48,
     .value_dim = 16,
     .masks = SOME_BANDS,
     .heads = 4,
     .kv_heads = 2,
     .layout = LAYOUT_BNHD},
    {.name = "f32 d192 v128 guess",
     .head_dim = 192,
     .value_dim = 128,
     .masks = {"causal"},
     .guess = true,
     .gpu_only = true},
    {.name = "f16 d31", .dtype = CLAT_F16, .head_dim = 31, .masks = SOME_BANDS},
    {.name = "bf16 d64 bnhd",
     .dtype = CLAT_BF16,
     .head_dim = 64,
     .masks = SOME_BANDS,
     .heads = 2,
     .layout = LAYOUT_BNHD,
     .gpu_only = true},
    {.name = "bf16 d24 native",
     .dtype = CLAT_BF16,
     .head_dim = 24,
     .masks = SOME_BANDS,
     .native = true,
     .gpu_only = true},
    {.name = "bf16 d64 native",
     .dtype = CLAT_BF16,
     .head_dim = 64,
     .masks = BANDS,
     .heads = 2,
     .native = true,
     .native_only = true},
    {.name = "bf16 d64 native guess",
     .dtype = CLAT_BF16,
     .head_dim = 64,
     .masks = BANDS,
     .native = true,
     .guess = true,
     .native_only = true},
    {.name = "bf16 d40 v88 native",
     .dtype = CLAT_BF16,
     .head_dim = 40,
     .value_dim = 88,
     .masks = SOME_BANDS,
     .heads = 2,
     .native = true,
     .native_only = true},
    {.name = "bf16 d192 v128 native guess",
     .dtype = CLAT_BF16,
     .head_dim = 192,
     .value_dim = 128,
     .masks = {"causal"},
     .native = true,
     .guess = true,
     .native_only = true},
    {.name = "bf16 d100 v9 native features",
     .dtype = CLAT_BF16,
     .head_dim = 100,
     .value_dim = 9,
     .masks = SOME_BANDS,
     .layout = LAYOUT_FEATURES,
     .native = true,
     .native_only = true},
    {.name = "bf16 d80 native mqa",
     .dtype = CLAT_BF16,
     .head_dim = 80,
     .masks = SOME_BANDS,
     .heads = 4,
     .kv_heads = 2,
     .batch = 2,
     .layout = LAYOUT_PADDED,
     .no_logsumexp = true,
     .native = true,
     .native_only = true},
    {.name = "bf16 d31 native features",
     .dtype = CLAT_BF16,
     .head_dim = 31,
     .masks = SOME_BANDS,
     .heads = 2,
     .layout = LAYOUT_FEATURES,
     .native = true,
     .native_only = true},
    {.name = "bf16 d256 native guess",
     .dtype = CLAT_BF16,
     .head_dim = 256,
     .masks = {"causal"},
     .native = true,
     .guess = true,
     .native_only = true},
    {.name = "native longformer gqa",
     .dtype = CLAT_BF16,
     .head_dim = 32,
     .masks = {"longformer"},
     .heads = 4,
     .kv_heads = 2,
     .batch = 2,
     .native = true,
     .native_only = true},
    {.name = "native blocks per head guess",
     .dtype = CLAT_BF16,
     .head_dim = 32,
     .masks = {"blocks_heads"},
     .heads = 4,
     .batch = 2,
     .native = true,
     .guess = true,
     .native_only = true},
    {.name = "f32 d20 features",
     .head_dim = 20,
     .masks = SOME_BANDS,
     .heads = 2,
     .layout = LAYOUT_FEATURES},
    {.name = "global", .head_dim = 32, .masks = {"global"}, .gpu_only = true},
    {.name = "prefix", .head_dim = 32, .masks = {"prefix"}, .gpu_only = true},
    {.name = "documents", .head_dim = 32, .masks = {"documents_causal"}, .heads = 2, .batch = 2},
    {.name = "dilated", .head_dim = 32, .masks = {"dilated_global"}, .heads = 2, .gpu_only = true},
    {.name = "heads differ", .head_dim = 32, .masks = {"heads"}, .heads = 4, .kv_heads = 2},
    {.name = "log sparse", .head_dim = 32, .masks = {"log_sparse_local"}, .batch = 2},
    {.name = "key intervals", .head_dim = 32, .masks = {"intervals_causal"}, .gpu_only = true},
    {.name = "longformer gqa",
     .head_dim = 32,
     .masks = {"longformer"},
     .heads = 4,
     .kv_heads = 2,
     .batch = 2},
    {.name = "blocks", .head_dim = 32, .masks = {"blocks"}, .batch = 2},
    {.name = "blocks guess",
     .head_dim = 64,
     .masks = {"blocks"},
     .heads = 2,
     .guess = true,
     .gpu_only = true},
    {.name = "blocks odd", .head_dim = 32, .masks = {"blocks_odd"}, .gpu_only = true},
    {.name = "blocks per head", .head_dim = 32, .masks = {"blocks_heads"}, .heads = 4, .batch = 2},
    {.name = "bigbird f16", .dtype = CLAT_F16, .head_dim = 32, .masks = {"bigbird"}},
};

struct variant_case {
    char name[64];
    const struct variant *variant;
    unsigned implementation;
};

static clat_attention_problem make_problem(const struct variant_case *is) {
    const struct variant *variant = is->variant;
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.dtype = variant->dtype ? variant->dtype : CLAT_F32;
    problem.batch = variant->batch ? variant->batch : 1;
    problem.heads = variant->heads ? variant->heads : 1;
    problem.kv_heads = variant->kv_heads;
    problem.head_dim = variant->head_dim;
    problem.head_dim_v = variant->value_dim;
    problem.logsumexp = !variant->no_logsumexp;
    problem.precision = variant->native ? CLAT_PRECISION_NATIVE : problem.precision;
    problem.implementation = implementations[is->implementation].name;
    problem.tunables = variant->guess ? NULL : implementations[is->implementation].tunables;
    return problem;
}

static bool is_worthwhile(const struct variant_case *is) {
    const bool native = is->variant->native && is->variant->dtype == CLAT_BF16;
    if (is_native(is->implementation) ? !native : is->variant->native_only)
        return false;
    /* Others of it are in test_attention_wgmma.c; these are declined. */
    if (is->implementation == WGMMA &&
        (is->variant->layout == LAYOUT_PADDED || is->variant->layout == LAYOUT_FEATURES))
        return false;
    /* Variants on emulated engines are in test_attention_mma.c. */
    if (is->implementation == MMA && harness_device_is_cpu())
        return false;
    if (is->implementation == CPU && native && is_available(PAIRS))
        return false;
    return is_available(is->implementation) &&
           (!is->variant->gpu_only || !is_made_for_gpus(is->implementation) ||
            !harness_device_is_cpu() || harness_full());
}

static void test_variant(void **state) {
    const struct variant_case *is = *state;
    const clat_attention_problem problem = make_problem(is);
    const size_t checked = attention_check_all(is->name, &problem, is->variant->layout,
                                               is->variant->masks, shapes, N_SHAPES);
    if (checked == 0) /* as kernels for a few queries decline masks with lists */
        skip();
}

/* ---- further behaviour, on programs that the variants have built */

static clat_attention_problem plain_problem(unsigned implementation) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.seq_q = queries_of(implementation, 47);
    problem.seq_k = 61, problem.head_dim = 32;
    problem.logsumexp = true;
    problem.implementation = implementations[implementation].name;
    problem.tunables = implementations[implementation].tunables;
    if (is_native(implementation)) {
        problem.dtype = CLAT_BF16;
        problem.precision = CLAT_PRECISION_NATIVE;
    }
    return problem;
}

#define FOR_EACH_IMPLEMENTATION(n)                                                                 \
    for (unsigned n = 0; n < N_IMPLEMENTATIONS; n++)                                               \
        if (is_available(n))

static void test_layouts(void **state) {
    (void)state;
    FOR_EACH_IMPLEMENTATION(n) {
        clat_attention_problem problem = plain_problem(n);
        problem.batch = 2, problem.heads = 4, problem.kv_heads = 2, problem.seq_k = problem.seq_q;
        attention_check("default", &problem, LAYOUT_DEFAULT, 1.0);
        attention_check("bnhd", &problem, LAYOUT_BNHD, 1.0);
        attention_check("packed", &problem, LAYOUT_PACKED, 1.0);
        if (n != WGMMA) /* its rows begin at multiples of 16 bytes from the first */
            attention_check("padded", &problem, LAYOUT_PADDED, 1.0);
        attention_check("shared", &problem, LAYOUT_SHARED, 1.0);
        problem.kv_heads = 0;
        attention_check("packed, as many key heads", &problem, LAYOUT_PACKED, 1.0);
    }
}

static void test_scales(void **state) {
    (void)state;
    FOR_EACH_IMPLEMENTATION(n) {
        clat_attention_problem problem = plain_problem(n);
        const double scales[] = {1.0, -0.5, 30.0, -1000.0, 1e-30, 1e-300};
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
            char name[64];
            snprintf(name, sizeof name, "%s, scale %g", implementations[n].label, scales[s]);
            problem.scale = scales[s];
            attention_check(name, &problem, LAYOUT_DEFAULT, 1.0);
        }
    }
}

/* Floats as elements of f32 or bf16, cut off: every bit pattern of a NaN stays one of a NaN. */
static cl_mem buffer_of(clat_dtype dtype, const float *x, size_t count) {
    const size_t size = clat_dtype_bytes(dtype);
    char *elements = harness_alloc(count * size);
    for (size_t e = 0; e < count; e++) /* the upper bytes: the device is little-endian */
        memcpy(elements + e * size, (const char *)(x + e) + sizeof *x - size, size);
    cl_mem buffer = harness_buffer(count * size, elements);
    free(elements);
    return buffer;
}

static void read_floats(cl_mem buffer, clat_dtype dtype, float *x, size_t count) {
    const size_t size = clat_dtype_bytes(dtype);
    char *elements = harness_alloc(count * size);
    harness_read(buffer, 0, count * size, elements);
    memset(x, 0, count * sizeof *x);
    for (size_t e = 0; e < count; e++)
        memcpy((char *)(x + e) + sizeof *x - size, elements + e * size, size);
    free(elements);
}

/* Values that all queries and keys share give the mean of V, however large the score, and however
 * far it lies below that of keys which do not exist. */
static void test_large_scores(void **state) {
    (void)state;
    enum { N = 61, D = 32 };
    for (unsigned c = 0; c < 2 * N_IMPLEMENTATIONS; c++) {
        const unsigned n = c / 2;
        const float sign = c % 2 ? -1 : 1;
        if (!is_available(n))
            continue;
        clat_attention_problem problem = plain_problem(n);
        float q[N * D], v[N * D], o[N * D], lse[N];
        double mean[D] = {0};
        uint64_t seed = 5;
        problem.seq_k = N;
        problem.scale = sign * 1e25;
        for (size_t e = 0; e < (size_t)N * D; e++) {
            q[e] = 1000;
            v[e] = (float)floor(harness_random_real(&seed, 1.0) * 128) / 128;
            mean[e % D] += v[e] / N;
        }
        clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
        args.q = args.k = buffer_of(problem.dtype, q, (size_t)N * D);
        args.v = buffer_of(problem.dtype, v, (size_t)N * D);
        args.o = harness_buffer(sizeof o, NULL);
        args.logsumexp = harness_buffer(sizeof lse, NULL);
        assert_ok(
            clat_attention(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
        read_floats(args.o, problem.dtype, o, (size_t)N * D);
        harness_read(args.logsumexp, 0, sizeof lse, lse);
        for (size_t i = 0; i < problem.seq_q; i++) {
            assert_matrix("mean", CLAT_F32, o + i * D, 1, D, D, mean, NULL,
                          is_native(n) ? 0x1p-9 : 1e-6);
            assert_true(fabsf(lse[i] / (sign * 1e6f * D * 1e25f) - 1) < 1e-5f);
        }
        clReleaseMemObject(args.q);
        clReleaseMemObject(args.v);
        clReleaseMemObject(args.o);
        clReleaseMemObject(args.logsumexp);
    }
}

enum { QUERIES = 40, KEYS = 61, DIM = 32 };

/* Q, K and V of one head, and what comes of them. */
struct head {
    float q[QUERIES * DIM], k[KEYS * DIM], v[KEYS * DIM];
    float o[QUERIES * DIM], lse[QUERIES];
};

static void head_fill(struct head *head) {
    harness_fill(CLAT_F32, head->q, (size_t)QUERIES * DIM, 1, 1.0);
    harness_fill(CLAT_F32, head->k, (size_t)KEYS * DIM, 2, 1.0);
    harness_fill(CLAT_F32, head->v, (size_t)KEYS * DIM, 3, 1.0);
}

static clat_attention_problem head_problem(unsigned implementation) {
    clat_attention_problem problem = plain_problem(implementation);
    problem.seq_q = queries_of(implementation, QUERIES);
    problem.seq_k = KEYS, problem.head_dim = DIM;
    return problem;
}

static void head_run(const clat_attention_problem *problem, struct head *head) {
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    args.q = buffer_of(problem->dtype, head->q, (size_t)QUERIES * DIM);
    args.k = buffer_of(problem->dtype, head->k, (size_t)KEYS * DIM);
    args.v = buffer_of(problem->dtype, head->v, (size_t)KEYS * DIM);
    args.o = harness_buffer(sizeof head->o, NULL);
    args.logsumexp = harness_buffer(sizeof head->lse, NULL);
    assert_ok(clat_attention(harness_context(), harness_queue(), problem, &args, 0, NULL, NULL));
    read_floats(args.o, problem->dtype, head->o, (size_t)QUERIES * DIM);
    harness_read(args.logsumexp, 0, sizeof head->lse, head->lse);
    clReleaseMemObject(args.q);
    clReleaseMemObject(args.k);
    clReleaseMemObject(args.v);
    clReleaseMemObject(args.o);
    clReleaseMemObject(args.logsumexp);
}

static float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A NaN reaches all rows that see it, whatever its payload, and no others. */
static void test_nan(void **state) {
    (void)state;
    static const uint32_t payloads[] = {0x7fc00000, 0x7fc00001, 0xffc00001, 0x7fffffff, 0xffffffff};
    enum { N_PAYLOADS = sizeof payloads / sizeof *payloads, BAD = 21 };
    clat_mask *causal = NULL;
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT));
    FOR_EACH_IMPLEMENTATION(n) {
        for (unsigned is = 0; is < 4 * N_PAYLOADS; is++) {
            const bool is_causal = is & 1, whole_row = is & 2;
            clat_attention_problem problem = head_problem(n);
            struct head head;
            head_fill(&head);
            for (unsigned d = 0; d < DIM; d++)
                if (whole_row || d == 7)
                    head.k[BAD * DIM + d] = float_of_bits(payloads[is / 4]);
            problem.mask = is_causal ? causal : NULL;
            head_run(&problem, &head);
            for (unsigned e = 0; e < problem.seq_q * DIM; e++) {
                const bool sees = !is_causal || e / DIM >= BAD;
                assert_int_equal(isnan(head.o[e]) != 0, sees);
                assert_int_equal(isnan(head.lse[e / DIM]) != 0, sees);
            }
        }
    }
    clat_mask_release(causal);
}

/* ---- what is hidden takes no part, whatever lies there */

struct poison {
    const char *name;
    uint32_t bits;
    bool in_k, whole_row;
};

static const struct poison poisons[] = {
    {"NaN in a row of V", 0xffffffff, false, true}, {"infinity in V", 0x7f800000, false, false},
    {"NaN in a row of K", 0x7fc00001, true, true},  {"infinity in K", 0x7f800000, true, false},
    {"-infinity in K", 0xff800000, true, false},
};

static const unsigned poisoned_keys[] = {6, 20, 33, 60};

enum { N_POISONED = sizeof poisoned_keys / sizeof *poisoned_keys };

static void spread(const struct poison *poison, struct head *head) {
    float *x = poison->in_k ? head->k : head->v;
    for (unsigned key = 0; key < N_POISONED; key++)
        for (unsigned d = 0; d < DIM; d++)
            if (poison->whole_row || d == 5)
                x[poisoned_keys[key] * DIM + d] = float_of_bits(poison->bits);
}

static bool sees_poison(const clat_attention_problem *problem, unsigned query) {
    for (unsigned key = 0; key < N_POISONED; key++)
        if (clat_mask_visible(problem->mask, (int64_t)problem->seq_q, KEYS, 0, query,
                              poisoned_keys[key]))
            return true;
    return false;
}

/* Rows that see none of it are as they were, or as near as `tolerance`; in the others V's shows,
 * however small the weight, an infinity as such where `keeps_infinities`. */
static void compare_poisoned(const char *name, const clat_attention_problem *problem,
                             const struct poison *poison, bool keeps_infinities, float tolerance,
                             const struct head *clean, const struct head *head) {
    const bool infinite = keeps_infinities && isinf(float_of_bits(poison->bits));
    for (unsigned i = 0; i < problem->seq_q; i++) {
        const bool sees = sees_poison(problem, i);
        if (!sees && !(head->lse[i] == clean->lse[i]))
            fail_msg("%s: logsumexp of row %u is %g instead of %g", name, i, (double)head->lse[i],
                     (double)clean->lse[i]);
        for (unsigned d = 0; d < DIM; d++) {
            const float got = head->o[i * DIM + d], expected = clean->o[i * DIM + d];
            if (!sees && !(fabsf(got - expected) <= tolerance))
                fail_msg("%s: row %u is %g instead of %g", name, i, (double)got, (double)expected);
            if (sees && !poison->in_k && (poison->whole_row || d == 5) &&
                (infinite ? !isinf(got) : isfinite(got)))
                fail_msg("%s: row %u lost it and is %g", name, i, (double)got);
        }
    }
}

static void test_hidden(void **state) {
    (void)state;
    static const char *const masks[] = {"dense",         "causal",      "causal_br",
                                        "window",        "window_self", "blocks",
                                        "blocks_single", "longformer",  "nothing"};
    static const double scales[] = {0, 300}; /* the second leaves most keys a weight of 0 */
    enum { N_MASKS = sizeof masks / sizeof *masks, N_POISONS = sizeof poisons / sizeof *poisons };
    FOR_EACH_IMPLEMENTATION(n) {
        for (unsigned m = 0; m < 2 * N_MASKS; m++) {
            clat_attention_problem problem = head_problem(n);
            clat_mask *mask = mask_case_named(masks[m / 2])->make((uint32_t)problem.seq_q, KEYS);
            struct head clean, head;
            problem.mask = mask;
            problem.scale = scales[m % 2];
            if (attention_is_declined(&problem)) {
                clat_mask_release(mask);
                continue;
            }
            head_fill(&clean);
            head_run(&problem, &clean);
            for (unsigned i = 0; i < N_POISONS; i++) {
                char name[128];
                snprintf(name, sizeof name, "%s %s scale %g, %s", implementations[n].label,
                         masks[m / 2], scales[m % 2], poisons[i].name);
                head_fill(&head);
                spread(&poisons[i], &head);
                head_run(&problem, &head);
                /* Weights of 0 make NaN of infinities, and `mma` does in any case. */
                /* `wgmma` computes such rows in another way. */
                compare_poisoned(name, &problem, &poisons[i], scales[m % 2] == 0 && n != MMA,
                                 n == WGMMA ? 0x1p-6f : 0, &clean, &head);
            }
            clat_mask_release(mask);
        }
    }
}

/* The same bits every time, and no K or V where there are no keys. */
static void test_repeatable(void **state) {
    (void)state;
    enum { B = 2, H = 3, N = 600, D = 32, COUNT = B * H * N * D };
    FOR_EACH_IMPLEMENTATION(n) {
        clat_attention_problem problem = plain_problem(n);
        problem.batch = B, problem.heads = H, problem.seq_k = N;
        problem.logsumexp = false;
        float *in = harness_alloc(COUNT * sizeof *in);
        float *out[2] = {harness_alloc(COUNT * sizeof **out), harness_alloc(COUNT * sizeof **out)};
        harness_fill(CLAT_F32, in, COUNT, 9, 1.0);
        clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
        args.q = args.k = args.v = buffer_of(problem.dtype, in, COUNT);
        args.o = harness_buffer(COUNT * sizeof *in, NULL);
        for (unsigned repeat = 0; repeat < 2; repeat++) {
            assert_ok(
                clat_attention(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
            read_floats(args.o, problem.dtype, out[repeat], COUNT);
        }
        assert_memory_equal(out[0], out[1], COUNT * sizeof *in);

        problem.seq_k = 0;
        args.k = args.v = NULL;
        assert_ok(
            clat_attention(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
        read_floats(args.o, problem.dtype, out[0], COUNT);
        for (size_t e = 0; e < B * H * problem.seq_q * D; e++)
            assert_true(out[0][e] == 0);
        clReleaseMemObject(args.q);
        clReleaseMemObject(args.o);
        free(in);
        free(out[0]);
        free(out[1]);
    }
}

/* A buffer whose last byte is the last before a page that must not be touched. A device that copies
 * host memory sees nothing of it. */
static cl_mem guarded_buffer(clat_dtype dtype, size_t count, uint64_t seed) {
    const size_t bytes = count * clat_dtype_bytes(dtype);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page;
    char *memory =
        mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cl_int err;
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + pages * page, page, PROT_NONE), 0);
    char *data = memory + pages * page - bytes;
    harness_fill(dtype, data, count, seed, 1.0);
    cl_mem buffer = clCreateBuffer(clat_context_cl(harness_context()),
                                   CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes, data, &err);
    assert_cl(err);
    return buffer;
}

/* Nothing is read or written behind a tensor, not even by tiles and vectors that overhang. The
 * pages stay mapped: the device may hold on to them until the program ends. */
static void test_ends_of_buffers(void **state) {
    (void)state;
    static const struct {
        size_t dim;
        const char *mask;
        bool guess;
    } cases[] = {
        {59, "dense", false}, {64, "causal", true}, {64, "blocks", true}, {3, "dense", false}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        FOR_EACH_IMPLEMENTATION(n) {
            if (n == MMA && c > 1 && harness_device_is_cpu())
                continue; /* emulations are slow to build, guesses large */
            clat_attention_problem problem = plain_problem(n);
            clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
            clat_mask *mask = mask_case_named(cases[c].mask)->make((uint32_t)problem.seq_q, 61);
            const size_t row = cases[c].dim;
            problem.head_dim = cases[c].dim;
            problem.mask = mask;
            if (cases[c].guess && (n != MMA || !harness_device_is_cpu()))
                problem.tunables = NULL;
            if (attention_is_declined(&problem)) {
                clat_mask_release(mask);
                continue;
            }
            args.q = guarded_buffer(problem.dtype, problem.seq_q * row, 1);
            args.k = guarded_buffer(problem.dtype, problem.seq_k * row, 2);
            args.v = guarded_buffer(problem.dtype, problem.seq_k * row, 3);
            args.o = guarded_buffer(problem.dtype, problem.seq_q * row, 4);
            args.logsumexp = guarded_buffer(CLAT_F32, problem.seq_q, 5);
            assert_ok(
                clat_attention(harness_context(), harness_queue(), &problem, &args, 0, NULL, NULL));
            assert_cl(clFinish(harness_queue()));
            clReleaseMemObject(args.q);
            clReleaseMemObject(args.k);
            clReleaseMemObject(args.v);
            clReleaseMemObject(args.o);
            clReleaseMemObject(args.logsumexp);
            clat_mask_release(mask);
        }
}

/* Masks that are one band share a plan; nothing to do is a plan without implementation. */
static void test_plans(void **state) {
    (void)state;
    clat_attention_problem problem = plain_problem(harness_device_is_cpu() ? CPU : SIMT);
    clat_mask *causal = NULL, *window = NULL,
              *longformer = mask_case_named("longformer")->make(0, 0);
    clat_plan *a = NULL, *b = NULL;
    problem.implementation = problem.tunables = NULL;
    problem.seq_k = problem.seq_q;
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_BOTTOM_RIGHT));
    assert_ok(clat_mask_window(&window, CLAT_UNBOUNDED, 0));
    problem.mask = causal;
    assert_ok(clat_attention_plan(&a, harness_context(), &problem));
    problem.mask = window;
    assert_ok(clat_attention_plan(&b, harness_context(), &problem));
    assert_ptr_equal(a, b);
    assert_string_equal(clat_plan_get_info(a)->problem,
                        "f32 causal batch=1 heads=1 seq_q=47 seq_k=47 head_dim=32 logsumexp");
    assert_true(clat_plan_get_info(a)->flops == 4.0 * 47 * 48 / 2 * 32);
    clat_plan_release(a);
    clat_plan_release(b);

    problem.mask = longformer;
    assert_ok(clat_attention_plan(&a, harness_context(), &problem));
    clat_mask_release(longformer); /* the plan keeps it */
    assert_non_null(strstr(clat_plan_get_info(a)->problem, "any(window(6,6),global(3))"));
    clat_plan_release(a);

    problem.mask = NULL;
    problem.seq_q = 1;
    assert_ok(clat_attention_plan(&a, harness_context(), &problem));
    assert_string_equal(clat_plan_get_info(a)->implementation,
                        harness_device_is_cpu() ? "decode" : "decode_simt");
    clat_plan_release(a);

    problem.heads = 0;
    assert_ok(clat_attention_plan(&a, harness_context(), &problem));
    assert_string_equal(clat_plan_get_info(a)->implementation, "none");
    cl_event event = NULL;
    clat_attention_args args = CLAT_ATTENTION_ARGS_INIT;
    assert_ok(clat_attention_run(a, harness_queue(), &args, 0, NULL, &event));
    assert_non_null(event);
    assert_cl(clWaitForEvents(1, &event));
    clReleaseEvent(event);
    clat_plan_release(a);
    clat_mask_release(causal);
    clat_mask_release(window);
}

/* Pairs of bf16 are multiplied on every CPU, by the instruction where there is one. */
static void use_pairs(void) {
    if (!host_has_bf16_dot())
        harness_use_kernels(emulated_dot_kernels(DOT_WHOLE));
    harness_context()->device.verdict[CAP_BF16_DOT] = 1;
}

int main(void) {
    use_pairs();
    enum { N_VARIANTS = sizeof variants / sizeof *variants };
    static struct variant_case cases[N_IMPLEMENTATIONS * N_VARIANTS];
    struct device *device = &harness_context()->device;
    if (engine_find(device, CLAT_BF16) == NULL)
        device->emulated_engine = engine_named("nv_sm80");
    for (unsigned c = 0; c < N_IMPLEMENTATIONS * N_VARIANTS; c++) {
        cases[c].implementation = c % N_IMPLEMENTATIONS;
        cases[c].variant = &variants[c / N_IMPLEMENTATIONS];
        snprintf(cases[c].name, sizeof cases[c].name, "%s %s",
                 implementations[c % N_IMPLEMENTATIONS].label, cases[c].variant->name);
        if (is_worthwhile(&cases[c]))
            harness_add(cases[c].name, test_variant, &cases[c]);
    }
    harness_add("layouts", test_layouts, NULL);
    harness_add("scales", test_scales, NULL);
    harness_add("large scores", test_large_scores, NULL);
    harness_add("NaN", test_nan, NULL);
    harness_add("hidden NaN and infinities", test_hidden, NULL);
    harness_add("repeatable", test_repeatable, NULL);
    harness_add("ends of buffers", test_ends_of_buffers, NULL);
    harness_add("plans", test_plans, NULL);
    return harness_run_added();
}
