/*
 * Every implementation by name on small problems of odd sizes: few work-items, yet several tiles
 * and edges on all sides. Quick enough for an interpreter: tests/test_oclgrind.sh runs each case
 * under Oclgrind.
 */
#include "attention_cases.h"
#include "gemm_cases.h"
#include "mask_cases.h"
#include "score_cases.h"

#include "context.h"
#include "engine.h"
#include "ops/attention.h"
#include "ops/gemm.h"

/* A case that the device does not run is skipped. */
static bool runs(const struct operation *op, const char *implementation, const void *problem) {
    char why[OP_WHY_BYTES];
    return op_implementation(op, implementation)
        ->supports(&harness_context()->device, problem, why);
}

/* ---- GEMM */

/* Vectors of four lanes: Oclgrind mistakes lane 11 of longer ones (docs/devices.md). */
#define CPU(rest)                                                                                  \
    .implementation = "cpu", .tunables = "VW=4 MR=2 NV=2 KC=16 MC=24 NC=64 UNROLL_K=1 " rest
#define PACKED "PACK_A=1 PACK_B=1 SHARED=0 SPLIT_K=1 SWAP=0"
#define SHARED "PACK_A=1 PACK_B=1 SHARED=1 SPLIT_K=1 SWAP=0"
#define SPLIT "PACK_A=1 PACK_B=1 SHARED=1 SPLIT_K=4 SWAP=0"
#define SPLIT_SWAPPED "PACK_A=1 PACK_B=1 SHARED=0 SPLIT_K=2 SWAP=1"
#define A_IN_PLACE "PACK_A=0 PACK_B=1 SHARED=1 SPLIT_K=1 SWAP=0"
#define B_IN_PLACE "PACK_A=1 PACK_B=0 SHARED=0 SPLIT_K=2 SWAP=0"
#define IN_PLACE_SWAPPED "PACK_A=0 PACK_B=0 SHARED=0 SPLIT_K=1 SWAP=1"

#define DOT(rest) .implementation = "cpu_dot", .tunables = "VW=4 KC=128 " rest
#define SIMT_PLAIN "BK=8 SLICES=1 SPLIT_K=1 PAD=1 GROUP=4"
#define SIMT(rest) .implementation = "simt", .tunables = "BM=32 BN=32 TM=4 TN=4 " rest

#define F32 .dtype = CLAT_F32
#define F64 .dtype = CLAT_F64
#define F16 .dtype = CLAT_F16
#define BF16 .dtype = CLAT_BF16
#define NT .trans_b = CLAT_TRANS
#define TN .trans_a = CLAT_TRANS
#define TT .trans_a = CLAT_TRANS, .trans_b = CLAT_TRANS
#define SIZES(m_, n_, k_) .m = (m_), .n = (n_), .k = (k_)

static const struct gemm_line {
    const char *name;
    clat_gemm_problem problem;
} gemm_lines[] = {
    {"gemm simt NN", {SIMT(SIMT_PLAIN), F32, SIZES(17, 13, 9)}},
    {"gemm simt NT", {SIMT(SIMT_PLAIN), F32, NT, SIZES(33, 5, 19), .ldb = 23, .ldc = 7}},
    {"gemm simt TN f16", {SIMT(SIMT_PLAIN), F16, TN, SIZES(13, 35, 7)}},
    {"gemm simt TT bf16 bias column silu",
     {SIMT(SIMT_PLAIN), BF16, TT, SIZES(5, 37, 17), .bias = CLAT_BIAS_COLUMN,
      .activation = CLAT_ACT_SILU}},
    {"gemm simt aligned", {SIMT(SIMT_PLAIN), F32, SIZES(32, 64, 24)}},
    {"gemm simt bands of tiles",
     {SIMT("BK=8 SLICES=1 SPLIT_K=1 PAD=0 GROUP=1"), F32, NT, SIZES(65, 33, 3)}},
    {"gemm simt slices, k split",
     {SIMT("BK=16 SLICES=2 SPLIT_K=4 PAD=0 GROUP=4"), F32, SIZES(17, 13, 67)}},
    {"gemm simt slices TT f16",
     {SIMT("BK=32 SLICES=4 SPLIT_K=1 PAD=1 GROUP=4"), F16, TT, SIZES(17, 13, 67)}},
    {"gemm simt f64 NT", {SIMT(SIMT_PLAIN), F64, NT, SIZES(11, 7, 13)}},
    {"gemm simt f16>f32 bias row gelu",
     {SIMT(SIMT_PLAIN), F16, SIZES(9, 34, 11), .dtype_c = CLAT_F32, .bias = CLAT_BIAS_ROW,
      .activation = CLAT_ACT_GELU}},
    {"gemm simt column-major batch",
     {SIMT(SIMT_PLAIN), F32, TN, SIZES(7, 9, 10), .batch = 3, .layout = CLAT_COL_MAJOR,
      .stride_a = 73, .stride_b = 0, .stride_c = 67}},
    {"gemm simt one", {SIMT(SIMT_PLAIN), F32, SIZES(1, 1, 1)}},
    {"gemm simt empty sum", {SIMT(SIMT_PLAIN), F32, SIZES(3, 5, 0), .bias = CLAT_BIAS_ROW}},

    {"gemm cpu packed NN", {CPU(PACKED), F32, SIZES(17, 13, 9)}},
    {"gemm cpu packed TT", {CPU(PACKED), F32, TT, SIZES(27, 70, 37), .lda = 29, .ldc = 71}},
    {"gemm cpu shared NT", {CPU(SHARED), F32, NT, SIZES(27, 67, 21)}},
    {"gemm cpu shared TN f16", {CPU(SHARED), F16, TN, SIZES(29, 19, 35)}},
    {"gemm cpu split NN", {CPU(SPLIT), F32, SIZES(27, 21, 67)}},
    {"gemm cpu split swapped TN bias row relu",
     {CPU(SPLIT_SWAPPED), F32, TN, SIZES(31, 9, 67), .bias = CLAT_BIAS_ROW,
      .activation = CLAT_ACT_RELU}},
    {"gemm cpu A in place NT", {CPU(A_IN_PLACE), F32, NT, SIZES(7, 19, 37)}},
    {"gemm cpu B in place TN", {CPU(B_IN_PLACE), F32, TN, SIZES(13, 29, 37)}},
    {"gemm cpu in place swapped TN", {CPU(IN_PLACE_SWAPPED), F32, TN, SIZES(37, 5, 21)}},
    {"gemm cpu f64 NT", {CPU(PACKED), F64, NT, SIZES(11, 21, 19)}},
    {"gemm cpu bf16 TT bias column gelu",
     {CPU(SHARED), BF16, TT, SIZES(19, 23, 18), .bias = CLAT_BIAS_COLUMN,
      .activation = CLAT_ACT_GELU}},
    {"gemm cpu f16>f32 NT bias row silu",
     {CPU(SPLIT), F16, NT, SIZES(9, 18, 77), .dtype_c = CLAT_F32, .bias = CLAT_BIAS_ROW,
      .activation = CLAT_ACT_SILU}},
    {"gemm cpu column-major batch",
     {CPU(SHARED), F32, TN, SIZES(7, 9, 20), .batch = 3, .layout = CLAT_COL_MAJOR, .stride_a = 143,
      .stride_b = 0, .stride_c = 67}},
    {"gemm cpu empty sum", {CPU(PACKED), F32, SIZES(3, 5, 0), .bias = CLAT_BIAS_COLUMN}},

    {"gemm cpu_dot NT", {DOT("MR=2 NB=4 SPLIT_K=1"), F32, NT, SIZES(3, 13, 301)}},
    {"gemm cpu_dot TT packed", {DOT("MR=2 NB=2 SPLIT_K=4"), F32, TT, SIZES(3, 21, 517)}},
    {"gemm cpu_dot swapped NT", {DOT("MR=1 NB=4 SPLIT_K=1"), F32, NT, SIZES(13, 2, 259)}},
    {"gemm cpu_dot f16 NT bias row",
     {DOT("MR=1 NB=1 SPLIT_K=2"), F16, NT, SIZES(1, 5, 303), .bias = CLAT_BIAS_ROW}},

    {"gemm simt batch of offsets",
     {SIMT(SIMT_PLAIN), F32, SIZES(9, 10, 11), .batch = 3, .batching = CLAT_BATCH_OFFSETS}},
    {"gemm cpu batch of offsets",
     {CPU(SHARED), F32, NT, SIZES(9, 10, 21), .batch = 3, .batching = CLAT_BATCH_OFFSETS}},
    {"gemm cpu_dot batch of offsets",
     {DOT("MR=1 NB=2 SPLIT_K=2"), F32, NT, SIZES(2, 9, 259), .batch = 3,
      .batching = CLAT_BATCH_OFFSETS}},
};

static void run_gemm(const struct gemm_line *line) {
    clat_gemm_problem problem = line->problem;
    struct gemm gemm;
    problem.batch = problem.batch ? problem.batch : 1;
    assert_ok(gemm_normalise(&gemm, &problem));
    if (!runs(&gemm_operation, problem.implementation, &gemm))
        skip();
    if (problem.batching == CLAT_BATCH_OFFSETS)
        gemm_check_offsets(line->name, &problem);
    else
        gemm_check(line->name, &problem, true);
}

static void test_gemm(void **state) {
    run_gemm(*state);
}

/* ---- GEMM on matrix engines, emulated */

#define MMA(values) .implementation = "mma", .tunables = values
#define NATIVE .precision = CLAT_PRECISION_NATIVE

static const struct engine_gemm_line {
    const char *engine;
    struct gemm_line gemm;
    bool full; /* only in full runs */
} engine_gemm_lines[] = {
    {"nv_sm80",
     {"gemm mma nv_sm80 NN",
      {MMA("BM=16 BN=16 BK=32 SUBS_M=1 SUBS_N=1 STAGES=3 GROUP=4"), F16, SIZES(17, 13, 41)}},
     false},
    {"nv_sm80",
     {"gemm mma nv_sm80 TT",
      {MMA("BM=32 BN=16 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"), BF16, TT, SIZES(19, 11, 35)}},
     true},
    {"nv_sm80",
     {"gemm mma nv_sm80 tf32 TN",
      {MMA("BM=32 BN=32 BK=16 SUBS_M=2 SUBS_N=1 STAGES=4 GROUP=1"), F32, NATIVE, TN,
       SIZES(17, 13, 37)}},
     false},
    {"nv_sm75",
     {"gemm mma nv_sm75 NT",
      {MMA("BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"), F16, NT, SIZES(17, 13, 35)}},
     true},
    {"intel_dpas16",
     {"gemm mma intel_dpas16 NN",
      {MMA("BM=32 BN=16 BK=32 SUBS_M=2 SUBS_N=2 STAGES=2 GROUP=4"), F16, SIZES(17, 13, 35)}},
     false},
    {"intel_dpas8",
     {"gemm mma intel_dpas8 TT",
      {MMA("BM=16 BN=32 BK=32 SUBS_M=2 SUBS_N=2 STAGES=2 GROUP=1"), BF16, TT, SIZES(17, 13, 35)}},
     true},
    {"amd_mfma",
     {"gemm mma amd_mfma TN",
      {MMA("BM=32 BN=32 BK=32 SUBS_M=1 SUBS_N=2 STAGES=2 GROUP=4"), BF16, TN, SIZES(17, 13, 35)}},
     true},
    {"amd_wmma11",
     {"gemm mma amd_wmma11 NN",
      {MMA("BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"), F16, SIZES(17, 13, 35)}},
     true},
    {"amd_wmma12",
     {"gemm mma amd_wmma12 TT",
      {MMA("BM=32 BN=32 BK=32 SUBS_M=2 SUBS_N=1 STAGES=2 GROUP=1"), BF16, TT, SIZES(17, 13, 35)}},
     false},
};

/* Plans are cached by problem, which knows nothing of emulated engines. */
static void use_engine(const char *name) {
    plan_cache_clear(harness_context());
    harness_context()->device.emulated_engine = name ? engine_named(name) : NULL;
}

static void test_engine_gemm(void **state) {
    const struct engine_gemm_line *line = *state;
    use_engine(line->engine);
    run_gemm(&line->gemm);
    use_engine(NULL);
}

/* ---- attention */

#undef CPU
#undef SIMT
#define CPU(rest) .implementation = "cpu", .tunables = "VW=4 MR=2 BK=16 " rest
#define DECODE .implementation = "decode", .tunables = "VW=4 BK=16 SPLIT=8"
#define DECODE_SIMT .implementation = "decode_simt", .tunables = "GROUP=64 ROWS=2 KEYS=1 SPLIT=4"
#define SIMT .implementation = "simt", .tunables = "TX=8 TY=4 RQ=2 RK=2 DC=8 VC=8 KEEP_Q=1"
#define STAGED_Q .implementation = "simt", .tunables = "TX=4 TY=8 RQ=1 RK=4 DC=4 VC=4 KEEP_Q=0"

#define HEADS(heads_, kv_heads_) .heads = (heads_), .kv_heads = (kv_heads_)
#define SEQ(q_, k_, d_) .seq_q = (q_), .seq_k = (k_), .head_dim = (d_)
#define LSE .logsumexp = true
#define SCORE(name) .score = (name) /* of score_cases.h, until it is run */

static const struct attention_line {
    const char *name, *mask;
    clat_attention_problem problem;
    enum attention_layout layout;
} attention_lines[] = {
    {"attention simt full", "dense", {SIMT, F32, HEADS(1, 1), SEQ(17, 33, 13), LSE}, 0},
    {"attention simt causal gqa", "causal", {SIMT, F32, HEADS(4, 2), SEQ(13, 13, 8)}, LAYOUT_BNHD},
    {"attention simt window f16",
     "window",
     {SIMT, F16, HEADS(2, 1), SEQ(19, 37, 11), LSE},
     LAYOUT_PADDED},
    {"attention simt staged Q bf16",
     "causal_br",
     {STAGED_Q, BF16, HEADS(1, 1), SEQ(11, 29, 6), LSE},
     LAYOUT_FEATURES},
    {"attention simt documents",
     "documents_causal",
     {SIMT, F32, HEADS(2, 1), SEQ(19, 37, 8), LSE},
     0},
    {"attention simt longformer", "longformer", {SIMT, F32, HEADS(2, 1), SEQ(21, 35, 8), LSE}, 0},
    {"attention simt blocks per head",
     "blocks_heads",
     {SIMT, F32, HEADS(4, 2), SEQ(17, 31, 5), LSE},
     0},
    {"attention simt score modifier",
     "causal_br",
     {SIMT, F32, HEADS(2, 1), SEQ(11, 21, 5), LSE, SCORE("distance")},
     LAYOUT_PADDED},
    {"attention simt nothing", "nothing", {SIMT, F32, HEADS(1, 1), SEQ(5, 9, 3), LSE}, 0},

    {"attention decode_simt causal gqa",
     "causal_br",
     {DECODE_SIMT, F32, HEADS(4, 2), SEQ(3, 37, 5), LSE},
     LAYOUT_PADDED},
    {"attention decode_simt f16",
     "window",
     {DECODE_SIMT, F16, HEADS(3, 1), SEQ(2, 29, 16), .head_dim_v = 8},
     LAYOUT_BNHD},
    {"attention decode_simt score modifier",
     "dense",
     {DECODE_SIMT, BF16, HEADS(2, 2), SEQ(1, 19, 7), LSE, SCORE("distance")},
     LAYOUT_FEATURES},
    {"attention decode_simt split",
     "dense",
     {DECODE_SIMT, F32, HEADS(1, 1), SEQ(2, 260, 4), LSE},
     0},

    {"attention cpu full split",
     "dense",
     {CPU("NV=1 PACK=1 SPLIT=16"), F32, HEADS(1, 1), SEQ(7, 133, 13), LSE},
     0},
    {"attention cpu causal gqa",
     "causal",
     {CPU("NV=2 PACK=1 SPLIT=0"), F32, HEADS(4, 2), SEQ(21, 21, 10), LSE},
     LAYOUT_PACKED},
    {"attention cpu in place",
     "sliding_br",
     {CPU("NV=2 PACK=0 SPLIT=0"), F32, HEADS(2, 2), SEQ(21, 39, 12)},
     LAYOUT_BNHD},
    {"attention cpu window f16",
     "window",
     {CPU("NV=1 PACK=1 SPLIT=0"), F16, HEADS(2, 1), SEQ(19, 37, 11), LSE},
     LAYOUT_PADDED},
    {"attention cpu features bf16",
     "causal_br",
     {CPU("NV=3 PACK=1 SPLIT=0"), BF16, HEADS(2, 2), SEQ(11, 29, 6), LSE},
     LAYOUT_FEATURES},
    {"attention cpu longformer split",
     "longformer",
     {CPU("NV=2 PACK=1 SPLIT=16"), F32, HEADS(2, 1), SEQ(19, 129, 8), LSE},
     0},
    {"attention cpu blocks per head split",
     "blocks_heads",
     {CPU("NV=2 PACK=0 SPLIT=16"), F32, HEADS(4, 2), SEQ(11, 161, 4)},
     0},
    {"attention cpu score modifier",
     "window",
     {CPU("NV=1 PACK=1 SPLIT=0"), F32, HEADS(2, 1), SEQ(11, 21, 5), LSE, SCORE("distance")},
     0},
    {"attention cpu nothing",
     "nothing",
     {CPU("NV=1 PACK=1 SPLIT=0"), F32, HEADS(1, 1), SEQ(5, 9, 3), LSE},
     0},

    {"attention decode full gqa", "dense", {DECODE, F32, HEADS(4, 2), SEQ(1, 61, 13), LSE}, 0},
    {"attention decode causal f16",
     "causal_br",
     {DECODE, F16, HEADS(2, 1), SEQ(3, 45, 11)},
     LAYOUT_PADDED},
    {"attention decode window bf16",
     "window",
     {DECODE, BF16, HEADS(2, 2), SEQ(4, 27, 6), LSE},
     LAYOUT_FEATURES},
    {"attention decode score modifier",
     "dense",
     {DECODE, F32, HEADS(2, 1), SEQ(2, 21, 5), LSE, SCORE("alibi")},
     0},
    {"attention decode split",
     "dense",
     {DECODE, F32, HEADS(2, 1), SEQ(2, 521, 5), LSE},
     LAYOUT_BNHD},
};

static void run_attention(const struct attention_line *line) {
    clat_attention_problem problem = line->problem;
    clat_mask *mask =
        mask_case_named(line->mask)->make((uint32_t)problem.seq_q, (uint32_t)problem.seq_k);
    struct attention attention;
    problem.batch = 2;
    problem.mask = mask;
    if (problem.score != NULL)
        problem.score = score_case_named(problem.score)->text;
    assert_ok(attention_normalise(&attention, &problem));
    const bool is_run = runs(&attention_operation, problem.implementation, &attention);
    snippet_release(attention.score);
    if (is_run)
        attention_check(line->name, &problem, line->layout, 1.0);
    clat_mask_release(mask);
    if (!is_run)
        skip();
}

static void test_attention(void **state) {
    run_attention(*state);
}

/* ---- attention on matrix engines, emulated */

static const struct engine_attention_line {
    const char *engine;
    struct attention_line attention;
    bool full; /* only in full runs */
} engine_attention_lines[] = {
    {"nv_sm80",
     {"attention mma nv_sm80",
      "dense",
      {MMA("SG=1 RQ=1 BK=16 STAGES=1 KEEP_Q=0"), F16, NATIVE, HEADS(1, 1), SEQ(17, 33, 13), LSE},
      0},
     false},
    {"nv_sm80",
     {"attention mma nv_sm80 score modifier",
      "causal",
      {MMA("SG=1 RQ=1 BK=16 STAGES=1 KEEP_Q=0"), F16, NATIVE, HEADS(2, 1), SEQ(17, 21, 13), LSE,
       SCORE("distance")},
      0},
     false},
    {"nv_sm75",
     {"attention mma nv_sm75 chunked",
      "causal",
      {MMA("SG=2 RQ=1 BK=16 STAGES=2 KEEP_Q=1"), F16, NATIVE, HEADS(2, 1), SEQ(19, 35, 16), LSE},
      0},
     true},
    {"intel_dpas16",
     {"attention mma intel_dpas16 longformer",
      "longformer",
      {MMA("SG=2 RQ=1 BK=32 STAGES=2 KEEP_Q=0"), F16, NATIVE, HEADS(2, 1), SEQ(17, 35, 8), LSE},
      LAYOUT_BNHD},
     true},
    {"intel_dpas8",
     {"attention mma intel_dpas8 window",
      "window",
      {MMA("SG=1 RQ=2 BK=16 STAGES=1 KEEP_Q=0"), BF16, NATIVE, HEADS(1, 1), SEQ(17, 33, 13), LSE},
      LAYOUT_PADDED},
     false},
    {"amd_mfma",
     {"attention mma amd_mfma",
      "causal_br",
      {MMA("SG=1 RQ=1 BK=16 STAGES=1 KEEP_Q=0"), F16, NATIVE, HEADS(1, 1), SEQ(17, 33, 13), LSE},
      LAYOUT_FEATURES},
     true},
    {"amd_wmma11",
     {"attention mma amd_wmma11 chunked",
      "dense",
      {MMA("SG=2 RQ=1 BK=16 STAGES=2 KEEP_Q=1"), F16, NATIVE, HEADS(1, 1), SEQ(17, 35, 24), LSE},
      0},
     false},
    {"amd_wmma12",
     {"attention mma amd_wmma12 blocks",
      "blocks_heads",
      {MMA("SG=1 RQ=1 BK=32 STAGES=1 KEEP_Q=0"), BF16, NATIVE, HEADS(4, 2), SEQ(9, 33, 16), LSE},
      0},
     true},
};

static void test_engine_attention(void **state) {
    const struct engine_attention_line *line = *state;
    use_engine(line->engine);
    run_attention(&line->attention);
    use_engine(NULL);
}

/* ---- multi-head attention, whose parts choose their own tunables */

static const struct mha_line {
    const char *name, *implementation;
} mha_lines[] = {{"mha cpu", "cpu"}, {"mha simt", "simt"}};

static void test_mha(void **state) {
    const struct mha_line *line = *state;
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    clat_mask *causal = NULL;
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict;
    harness_context()->device.f32_lanes = 4; /* as above */
    assert_ok(clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT));
    problem.batch = 2, problem.seq = 13, problem.embed = 18;
    problem.heads = 3, problem.kv_heads = 1;
    problem.bias = true;
    problem.mask = causal;
    problem.implementation = line->implementation;
    const clat_status status = clat_mha_plan(&plan, harness_context(), &problem);
    clat_mask_release(causal);
    if (status == CLAT_UNSUPPORTED)
        skip();
    assert_ok(status);
    assert_ok(clat_trial_create(&trial, plan, 1));
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    if (!verdict.ok)
        fail_msg("wrong at %s by %g, bound %g; guards %d", verdict.where, verdict.worst,
                 verdict.bound, verdict.guards);
    clat_trial_release(trial);
    clat_plan_release(plan);
}

int main(void) {
    for (size_t i = 0; i < sizeof gemm_lines / sizeof *gemm_lines; i++)
        harness_add(gemm_lines[i].name, test_gemm, &gemm_lines[i]);
    for (size_t i = 0; i < sizeof engine_gemm_lines / sizeof *engine_gemm_lines; i++)
        if (harness_full() || !engine_gemm_lines[i].full)
            harness_add(engine_gemm_lines[i].gemm.name, test_engine_gemm, &engine_gemm_lines[i]);
    for (size_t i = 0; i < sizeof attention_lines / sizeof *attention_lines; i++)
        harness_add(attention_lines[i].name, test_attention, &attention_lines[i]);
    for (size_t i = 0; i < sizeof engine_attention_lines / sizeof *engine_attention_lines; i++)
        if (harness_full() || !engine_attention_lines[i].full)
            harness_add(engine_attention_lines[i].attention.name, test_engine_attention,
                        &engine_attention_lines[i]);
    for (size_t i = 0; i < sizeof mha_lines / sizeof *mha_lines; i++)
        harness_add(mha_lines[i].name, test_mha, &mha_lines[i]);
    return harness_run_added();
}
