#include "problems.h"

#include "mask_cases.h"

#include <stdlib.h>

#define N CLAT_NO_TRANS
#define T CLAT_TRANS
#define SQUARE .m = 2048, .n = 2048, .k = 2048

/* All transposes of every type, and what is done to C at the end. lda = 0 is tight. */
static const clat_gemm_problem gemm_problems[] = {
    {SQUARE, .trans_a = N, .trans_b = N, .dtype = CLAT_F32},
    {SQUARE, .trans_a = N, .trans_b = T, .dtype = CLAT_F32},
    {SQUARE, .trans_a = T, .trans_b = N, .dtype = CLAT_F32},
    {SQUARE, .trans_a = T, .trans_b = T, .dtype = CLAT_F32},
    {SQUARE, .trans_a = N, .trans_b = T, .dtype = CLAT_F64},
    {SQUARE, .trans_a = T, .trans_b = N, .dtype = CLAT_F64, .activation = CLAT_ACT_GELU},
    {SQUARE, .trans_a = N, .trans_b = N, .dtype = CLAT_F16},
    {.m = 2047, .n = 2049, .k = 2051, .dtype = CLAT_F16}, /* worth padding */
    {SQUARE, .trans_a = N, .trans_b = T, .dtype = CLAT_F16, .bias = CLAT_BIAS_COLUMN,
     .activation = CLAT_ACT_SILU},
    {SQUARE, .trans_a = T, .trans_b = N, .dtype = CLAT_F16, .dtype_c = CLAT_F32},
    {SQUARE, .trans_a = T, .trans_b = T, .dtype = CLAT_F16, .batch = 3},
    {SQUARE, .trans_a = N, .trans_b = N, .dtype = CLAT_BF16, .bias = CLAT_BIAS_ROW,
     .activation = CLAT_ACT_GELU},
    {SQUARE, .trans_a = N, .trans_b = T, .dtype = CLAT_BF16},
    {SQUARE, .trans_a = T, .trans_b = T, .dtype = CLAT_BF16, .dtype_c = CLAT_F32,
     .activation = CLAT_ACT_RELU},
    {SQUARE, .dtype = CLAT_F32, .batch = 5, .batching = CLAT_BATCH_OFFSETS,
     .bias = CLAT_BIAS_COLUMN, .activation = CLAT_ACT_GELU},
    {SQUARE, .layout = CLAT_COL_MAJOR, .dtype = CLAT_BF16, .batch = 5,
     .batching = CLAT_BATCH_OFFSETS},
    /* Odd sizes: nothing is aligned, and other guesses. */
    {.m = 133, .n = 197, .k = 301, .dtype = CLAT_F32},
    {.m = 133, .n = 197, .k = 301, .dtype = CLAT_F16, .trans_b = T},
    /* A few rows: vectors times matrices. */
    {.m = 1, .n = 4096, .k = 4096, .dtype = CLAT_F32, .trans_b = T},
    {.m = 7, .n = 4096, .k = 4096, .dtype = CLAT_F16, .trans_b = T},
    /* Where the caller allows the device's own precision. */
    {SQUARE, .dtype = CLAT_F32, .precision = CLAT_PRECISION_NATIVE},
    {SQUARE, .dtype = CLAT_F32, .trans_b = T, .precision = CLAT_PRECISION_NATIVE},
    {SQUARE, .dtype = CLAT_F32, .trans_a = T, .trans_b = T, .precision = CLAT_PRECISION_NATIVE},
    {SQUARE, .dtype = CLAT_F32, .trans_a = T, .precision = CLAT_PRECISION_NATIVE},
    {SQUARE, .dtype = CLAT_F16, .precision = CLAT_PRECISION_NATIVE},
    {SQUARE, .dtype = CLAT_BF16, .trans_a = T, .precision = CLAT_PRECISION_NATIVE},
};

/* Head dimensions that fit tiles and that do not, every kind of mask, all types. */
static const struct {
    clat_dtype dtype;
    size_t head_dim;
    const char *mask;
    size_t seq_q;
    bool logsumexp, native;
    bool packed;      /* features are neighbours, the rest is strided: views of one QKV buffer */
    bool score;       /* with a score modifier */
    size_t value_dim; /* 0: as head_dim */
    bool predicate;   /* in place of the mask: the caller's, with data */
} attention_problems[] = {
    {CLAT_F32, 64, "dense", 1024, .logsumexp = false},
    {CLAT_F32, 80, "causal", 1024, .logsumexp = true},
    {CLAT_F32, 128, "blocks", 1024, .logsumexp = true},
    {CLAT_F32, 256, "dense", 1024, .logsumexp = false},
    {CLAT_F32, 17, "window", 133, .logsumexp = false},
    {CLAT_F16, 64, "causal", 1024, .logsumexp = true, .packed = true},
    {CLAT_F16, 128, "longformer", 1024, .logsumexp = false},
    {CLAT_BF16, 80, "bigbird", 1024, .logsumexp = true},
    {CLAT_BF16, 128, "dense", 1024, .packed = true},
    {CLAT_F16, 64, "dense", 1024, .native = true},
    {CLAT_F16, 80, "causal", 1024, .logsumexp = true, .native = true},
    {CLAT_F16, 128, "causal", 1024, .native = true, .packed = true},
    {CLAT_BF16, 64, "blocks_heads", 1024, .logsumexp = true, .native = true},
    {CLAT_BF16, 128, "longformer", 1024, .logsumexp = true, .native = true},
    {CLAT_BF16, 80, "dense", 133, .native = true},
    {CLAT_F32, 64, "window", 1024, .logsumexp = true, .score = true},
    {CLAT_F16, 128, "causal", 1024, .logsumexp = true, .native = true, .score = true},
    /* V of other rows than K. */
    {CLAT_BF16, 192, "causal", 1024, .logsumexp = true, .native = true, .value_dim = 128},
    {CLAT_F16, 48, "dense", 1024, .logsumexp = true, .value_dim = 80},
    /* A few queries against many keys. */
    {CLAT_F32, 128, "dense", 1, .logsumexp = true},
    {CLAT_F16, 64, "causal_br", 3, .logsumexp = false},
    {CLAT_BF16, 96, "window", 8, .logsumexp = true, .score = true, .value_dim = 256},
    {CLAT_F32, 64, "dense", 1024, .predicate = true},
    {CLAT_F16, 64, "dense", 1024, .native = true, .predicate = true},
};

enum {
    N_GEMM = sizeof gemm_problems / sizeof *gemm_problems,
    N_ATTENTION = sizeof attention_problems / sizeof *attention_problems,
    HEADS = 4,
    SEQ_K = 1024
};

static void make_gemm(struct problem *out, clat_gemm_problem problem) {
    if (problem.batch == 0)
        problem.batch = 1;
    out->op = &gemm_operation;
    assert_ok(gemm_normalise(&out->of.gemm, &problem));
}

static void make_attention(struct problem *out, size_t index) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    const size_t seq_q = attention_problems[index].seq_q;
    problem.heads = HEADS, problem.kv_heads = HEADS / 2;
    problem.seq_q = seq_q, problem.seq_k = SEQ_K;
    problem.dtype = attention_problems[index].dtype;
    problem.head_dim = attention_problems[index].head_dim;
    problem.head_dim_v = attention_problems[index].value_dim;
    problem.logsumexp = attention_problems[index].logsumexp;
    if (attention_problems[index].native)
        problem.precision = CLAT_PRECISION_NATIVE;
    if (attention_problems[index].packed) {
        const clat_strides strides = {(size_t)SEQ_K * 3 * HEADS * problem.head_dim,
                                      problem.head_dim, 3 * HEADS * problem.head_dim, 1};
        problem.q = problem.k = problem.v = strides;
    }
    if (attention_problems[index].score) {
        problem.score =
            "score = data[head] * tanh(score / data[head]) + data[head] * (key - query);";
        problem.score_data = HEADS;
    }
    clat_mask *mask = mask_case_named(attention_problems[index].mask)->make((uint32_t)seq_q, SEQ_K);
    if (attention_problems[index].predicate) {
        assert_ok(clat_mask_bits(&mask, CLAT_MASK_BY_BATCH));
        problem.mask_data = seq_q * (SEQ_K / 32);
    }
    problem.mask = mask;
    out->op = &attention_operation;
    assert_ok(attention_normalise(&out->of.attention, &problem));
    attention_operation.retain(&out->of.attention);
    snippet_release(out->of.attention.score);
    clat_mask_release(mask);
}

size_t problems_make(struct problem **out) {
    *out = harness_alloc((N_GEMM + N_ATTENTION) * sizeof **out);
    for (size_t i = 0; i < N_GEMM; i++)
        make_gemm(&(*out)[i], gemm_problems[i]);
    for (size_t i = 0; i < N_ATTENTION; i++)
        make_attention(&(*out)[N_GEMM + i], i);
    return N_GEMM + N_ATTENTION;
}

void problems_free(struct problem *problems, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (problems[i].op->release != NULL)
            problems[i].op->release(&problems[i].of);
    free(problems);
}
