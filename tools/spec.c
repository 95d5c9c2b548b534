#include "spec.h"

#include <string.h>

#define UNSET SIZE_MAX

const char *const spec_op_names[SPEC_N_OPS] = {"gemm", "attention", "mha"};

const char *const spec_implementations[SPEC_N_IMPLEMENTATIONS] = {
    "cpu", "cpu_dot", "cpu_tile", "decode", "decode_simt", "mma", "simt", "wgmma"};
const char spec_implementation_help[] =
    "only this one: cpu, cpu_dot, cpu_tile, decode, decode_simt, mma, simt or wgmma";

bool spec_knows_implementation(const char *name) {
    return !name || find_word(name, spec_implementations, SPEC_N_IMPLEMENTATIONS) >= 0 ||
           tool_error("no implementation \"%s\": see --help", name);
}

static const char *const dtype_words[] = {"f32", "f64", "f16", "bf16"};
static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64, CLAT_F16, CLAT_BF16};
static const char *const precision_words[] = {"f32", "native"};
static const clat_precision precisions[] = {CLAT_PRECISION_F32, CLAT_PRECISION_NATIVE};
static const char *const layout_words[] = {"row", "col"};

struct spec spec_default(enum spec_op op) {
    struct spec spec = {.op = op, .dtype = CLAT_F32, .batch = 1};
    if (op == SPEC_GEMM) {
        spec.m = spec.n = spec.k = 1024;
    } else {
        spec.batch = 2;
        spec.heads = spec.kv_heads = 8;
        spec.seq_q = spec.seq_k = 1024;
        spec.head_dim = 64;
        spec.embed = 512;
    }
    return spec;
}

struct spec_options spec_options_init(void) {
    return (struct spec_options){.m = UNSET,
                                 .n = UNSET,
                                 .k = UNSET,
                                 .batch = UNSET,
                                 .heads = UNSET,
                                 .kv_heads = UNSET,
                                 .seq_q = UNSET,
                                 .seq_k = UNSET,
                                 .head_dim = UNSET,
                                 .head_dim_v = UNSET};
}

void spec_args(struct arg *rows, struct spec_options *o) {
    const struct arg table[SPEC_N_ARGS] = {
        {"m", ARG_SIZE, &o->m, "M", "gemm: rows of C", NULL, 0, &o->gemm_given},
        {"n", ARG_SIZE, &o->n, "N", "gemm: columns of C", NULL, 0, &o->gemm_given},
        {"k", ARG_SIZE, &o->k, "K", "gemm: length of the sums", NULL, 0, &o->gemm_given},
        {"trans-a", ARG_FLAG, &o->trans_a, NULL, "gemm: A is stored transposed", NULL, 0,
         &o->gemm_given},
        {"trans-b", ARG_FLAG, &o->trans_b, NULL, "gemm: B is stored transposed", NULL, 0,
         &o->gemm_given},
        {"layout", ARG_WORD, &o->layout, "LAYOUT", "gemm: row or col", layout_words, 2,
         &o->gemm_given},
        {"batch", ARG_SIZE, &o->batch, "N", "matrices, or sequences", NULL, 0, &o->any_given},
        {"dtype", ARG_WORD, &o->dtype, "TYPE", "f32, f64, f16 or bf16", dtype_words, 4,
         &o->any_given},
        {"precision", ARG_WORD, &o->precision, "HOW",
         "f32, or native: by the device's own instructions, f32 also cut to tf32", precision_words,
         2, &o->any_given},
        {"heads", ARG_SIZE, &o->heads, "N", "attention: query heads", NULL, 0, &o->attention_given},
        {"kv-heads", ARG_SIZE, &o->kv_heads, "N", "attention: key and value heads", NULL, 0,
         &o->attention_given},
        {"seq-q", ARG_SIZE, &o->seq_q, "N", "attention: queries", NULL, 0, &o->attention_given},
        {"seq-k", ARG_SIZE, &o->seq_k, "N", "attention: keys; default as --seq-q", NULL, 0,
         &o->attention_given},
        {"head-dim", ARG_SIZE, &o->head_dim, "N", "attention: features of a head", NULL, 0,
         &o->attention_given},
        {"head-dim-v", ARG_SIZE, &o->head_dim_v, "N", "attention: those of V and O, if others",
         NULL, 0, &o->attention_given},
        {"mask", ARG_STRING, &o->mask, "MASK",
         "attention: causal, window:128,0, ...: `clattice help mask` lists them", NULL, 0,
         &o->attention_given},
        {"score", ARG_STRING, &o->score, "HOW",
         "attention: alibi, softcap, or a score modifier in OpenCL C without data", NULL, 0,
         &o->attention_given},
        {"implementation", ARG_STRING, &o->implementation, "NAME", spec_implementation_help, NULL,
         0, NULL},
        {"tunables", ARG_STRING, &o->tunables, "LIST",
         "these values, as \"MR=8 NV=2\"; needs --implementation", NULL, 0, NULL},
    };
    memcpy(rows, table, sizeof table);
}

static void take(size_t *field, size_t option) {
    if (option != UNSET)
        *field = option;
}

bool spec_from_options(struct spec *out, enum spec_op op, const struct spec_options *o) {
    if (op != SPEC_GEMM && o->gemm_given)
        return tool_error("%s takes no --m, --n, --k, --trans-a, --trans-b, --layout",
                          spec_op_names[op]);
    if (op == SPEC_GEMM && o->attention_given)
        return tool_error("gemm takes no --heads, --kv-heads, --seq-q, --seq-k, --head-dim, "
                          "--head-dim-v, --mask, --score");
    *out = spec_default(op);
    out->dtype = dtypes[o->dtype];
    out->precision = precisions[o->precision];
    out->layout = o->layout ? CLAT_COL_MAJOR : CLAT_ROW_MAJOR;
    out->trans_a = o->trans_a;
    out->trans_b = o->trans_b;
    out->implementation = o->implementation;
    out->tunables = o->tunables;
    take(&out->m, o->m);
    take(&out->n, o->n);
    take(&out->k, o->k);
    take(&out->batch, o->batch);
    take(&out->heads, o->heads);
    out->kv_heads = out->heads;
    take(&out->kv_heads, o->kv_heads);
    if (out->kv_heads == 0) /* as in the library: as many as heads */
        out->kv_heads = out->heads;
    take(&out->seq_q, o->seq_q);
    out->seq_k = out->seq_q;
    take(&out->seq_k, o->seq_k);
    take(&out->head_dim, o->head_dim);
    take(&out->head_dim_v, o->head_dim_v);
    if (out->head_dim_v == out->head_dim)
        out->head_dim_v = 0;
    out->embed = out->heads * out->head_dim;
    if (op == SPEC_MHA && o->tunables)
        return tool_error("mha takes no --tunables: its parts differ");
    if (op == SPEC_MHA && out->head_dim_v)
        return tool_error("mha takes no --head-dim-v");
    if (op == SPEC_MHA && o->score)
        return tool_error("mha takes no --score");
    out->score = o->score;
    if (op == SPEC_MHA && out->seq_k != out->seq_q)
        return tool_error("mha is self-attention: --seq-k must equal --seq-q");
    return !o->mask || (mask_spec_parse(o->mask, &out->mask) &&
                        mask_spec_fits(&out->mask, out->seq_q, out->seq_k));
}

bool spec_is_empty(const struct spec *spec) {
    if (spec->op == SPEC_GEMM)
        return !spec->batch || !spec->m || !spec->n || !spec->k;
    return !spec->batch || !spec->heads || !spec->seq_q || !spec->seq_k || !spec->head_dim;
}

static clat_status plan_gemm(clat_plan **out, clat_context *ctx, const struct spec *spec) {
    clat_gemm_problem problem = CLAT_GEMM_PROBLEM_INIT;
    problem.layout = spec->layout;
    problem.trans_a = spec->trans_a ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.trans_b = spec->trans_b ? CLAT_TRANS : CLAT_NO_TRANS;
    problem.m = spec->m;
    problem.n = spec->n;
    problem.k = spec->k;
    problem.dtype = spec->dtype;
    problem.precision = spec->precision;
    problem.batch = spec->batch;
    /* A stride of 0 repeats one matrix, so the tight ones are said. */
    problem.stride_a = spec->m * spec->k;
    problem.stride_b = spec->k * spec->n;
    problem.implementation = spec->implementation;
    problem.tunables = spec->tunables;
    return clat_gemm_plan(out, ctx, &problem);
}

/* Those that have a name. */
static const struct score {
    const char *name, *text;
    bool for_heads; /* it reads an element of data for each */
} scores[] = {{"alibi", "score += data[head] * (key - query);", true},
              {"softcap", "score = 30 * tanh(score / 30);", false}};

static const struct score *named_score(const char *name) {
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++)
        if (strcmp(scores[i].name, name) == 0)
            return &scores[i];
    return NULL;
}

static void set_score(clat_attention_problem *problem, const struct spec *spec) {
    const struct score *named = spec->score ? named_score(spec->score) : NULL;
    problem->score = named ? named->text : spec->score;
    problem->score_data = named && named->for_heads ? spec->heads : 0;
}

static clat_status plan_attention(clat_plan **out, clat_context *ctx, const struct spec *spec,
                                  const clat_mask *mask) {
    clat_attention_problem problem = CLAT_ATTENTION_PROBLEM_INIT;
    problem.dtype = spec->dtype;
    problem.precision = spec->precision;
    problem.batch = spec->batch;
    problem.heads = spec->heads;
    problem.kv_heads = spec->kv_heads;
    problem.seq_q = spec->seq_q;
    problem.seq_k = spec->seq_k;
    problem.head_dim = spec->head_dim;
    problem.head_dim_v = spec->head_dim_v;
    problem.mask = mask;
    set_score(&problem, spec);
    problem.implementation = spec->implementation;
    problem.tunables = spec->tunables;
    return clat_attention_plan(out, ctx, &problem);
}

static clat_status plan_mha(clat_plan **out, clat_context *ctx, const struct spec *spec,
                            const clat_mask *mask) {
    clat_mha_problem problem = CLAT_MHA_PROBLEM_INIT;
    problem.dtype = spec->dtype;
    problem.precision = spec->precision;
    problem.batch = spec->batch;
    problem.seq = spec->seq_q;
    problem.embed = spec->embed;
    problem.heads = spec->heads;
    problem.kv_heads = spec->kv_heads;
    problem.head_dim = spec->head_dim;
    problem.mask = mask;
    problem.implementation = spec->implementation;
    return clat_mha_plan(out, ctx, &problem);
}

clat_status spec_try_plan(clat_plan **out, clat_context *ctx, const struct spec *spec,
                          char why[SPEC_WHY_BYTES]) {
    clat_mask *mask = NULL;
    clat_status st = CLAT_OK;
    *out = NULL;
    why[0] = '\0';
    if (spec->op != SPEC_GEMM)
        st = mask_spec_create(&mask, &spec->mask, spec->seq_q, spec->seq_k);
    if (st == CLAT_OK && spec->op == SPEC_GEMM)
        st = plan_gemm(out, ctx, spec);
    else if (st == CLAT_OK && spec->op == SPEC_ATTENTION)
        st = plan_attention(out, ctx, spec, mask);
    else if (st == CLAT_OK)
        st = plan_mha(out, ctx, spec, mask);
    if (st != CLAT_OK)
        snprintf(why, SPEC_WHY_BYTES, "%s",
                 clat_error_text()[0] ? clat_error_text() : clat_status_meaning(st));
    clat_mask_release(mask);
    return st;
}

bool spec_plan(clat_plan **out, clat_context *ctx, const struct spec *spec) {
    char why[SPEC_WHY_BYTES], text[SPEC_TEXT_BYTES];
    const clat_status st = spec_try_plan(out, ctx, spec, why);
    return st == CLAT_OK ||
           tool_error("%s: %s: %s", spec_print(text, sizeof text, spec), clat_status_name(st), why);
}

static const char *precision_suffix(const struct spec *spec) {
    return spec->precision == CLAT_PRECISION_NATIVE ? " native" : "";
}

const char *spec_print(char *text, size_t size, const struct spec *spec) {
    char batch[32] = "", heads[48], keys[32] = "", values[32] = "", mask[48];
    const char *score = !spec->score ? "" : named_score(spec->score) ? spec->score : "modified";
    if (spec->op == SPEC_GEMM) {
        if (spec->batch != 1)
            snprintf(batch, sizeof batch, " x%zu", spec->batch);
        snprintf(text, size, "gemm %s%s %s%c%c %zux%zux%zu%s", clat_dtype_name(spec->dtype),
                 precision_suffix(spec), spec->layout == CLAT_COL_MAJOR ? "col " : "",
                 spec->trans_a ? 'T' : 'N', spec->trans_b ? 'T' : 'N', spec->m, spec->n, spec->k,
                 batch);
        return text;
    }
    if (spec->kv_heads != spec->heads)
        snprintf(heads, sizeof heads, "%zu/%zu", spec->heads, spec->kv_heads);
    else
        snprintf(heads, sizeof heads, "%zu", spec->heads);
    if (spec->seq_k != spec->seq_q)
        snprintf(keys, sizeof keys, "/%zu", spec->seq_k);
    if (spec->head_dim_v)
        snprintf(values, sizeof values, "/%zu", spec->head_dim_v);
    snprintf(text, size, "%s %s%s %zux%sx%zu%sx%zu%s %s%s%s", spec->op == SPEC_MHA ? "mha" : "attn",
             clat_dtype_name(spec->dtype), precision_suffix(spec), spec->batch, heads, spec->seq_q,
             keys, spec->head_dim, values, mask_spec_print(mask, sizeof mask, &spec->mask),
             *score ? " " : "", score);
    return text;
}

static json_t *gemm_json(const struct spec *spec) {
    json_t *json =
        json_pack("{s:I, s:I, s:I, s:I, s:b, s:b}", "m", (json_int_t)spec->m, "n",
                  (json_int_t)spec->n, "k", (json_int_t)spec->k, "batch", (json_int_t)spec->batch,
                  "trans_a", spec->trans_a, "trans_b", spec->trans_b);
    if (json && spec->layout == CLAT_COL_MAJOR)
        json_object_set_new(json, "layout", json_string(layout_words[1]));
    return json;
}

static json_t *attention_json(const struct spec *spec) {
    char mask[48];
    mask_spec_print(mask, sizeof mask, &spec->mask);
    json_t *json =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "batch", (json_int_t)spec->batch, "heads",
                  (json_int_t)spec->heads, "kv_heads", (json_int_t)spec->kv_heads, "seq_q",
                  (json_int_t)spec->seq_q, "seq_k", (json_int_t)spec->seq_k, "head_dim",
                  (json_int_t)spec->head_dim, "mask", mask);
    if (json && spec->head_dim_v)
        json_object_set_new(json, "head_dim_v", json_integer((json_int_t)spec->head_dim_v));
    if (json && spec->op == SPEC_MHA)
        json_object_set_new(json, "embed", json_integer((json_int_t)spec->embed));
    if (json && spec->score)
        json_object_set_new(json, "score", json_string(spec->score));
    return json;
}

json_t *spec_json(const struct spec *spec) {
    json_t *json = spec->op == SPEC_GEMM ? gemm_json(spec) : attention_json(spec);
    if (json && spec->precision == CLAT_PRECISION_NATIVE)
        json_object_set_new(json, "precision", json_string(precision_words[1]));
    return json;
}

static size_t value_dim(const struct spec *spec) {
    return spec->head_dim_v ? spec->head_dim_v : spec->head_dim;
}

double spec_bytes(const struct spec *spec) {
    const double m = (double)spec->m, n = (double)spec->n, k = (double)spec->k;
    const double heads = (double)spec->heads, kv_heads = (double)spec->kv_heads;
    const double seq_q = (double)spec->seq_q, seq_k = (double)spec->seq_k;
    const double d = (double)spec->head_dim, d_v = (double)value_dim(spec),
                 embed = (double)spec->embed;
    const double attention = (d + d_v) * (heads * seq_q + kv_heads * seq_k);
    const double gemm = m * k + k * n + m * n;
    const double weights = 2 * d * embed * (heads + kv_heads), tokens = 2 * seq_q * embed;
    const double batch = (double)spec->batch, bytes = (double)clat_dtype_bytes(spec->dtype);
    switch (spec->op) {
    case SPEC_GEMM:
        return bytes * batch * gemm;
    case SPEC_ATTENTION:
        return bytes * batch * attention;
    default:
        return bytes * (batch * tokens + weights);
    }
}

const char *spec_output(const struct spec *spec, size_t *elements) {
    switch (spec->op) {
    case SPEC_GEMM:
        *elements = spec->batch * spec->m * spec->n;
        return "c";
    case SPEC_ATTENTION:
        *elements = spec->batch * spec->heads * spec->seq_q * value_dim(spec);
        return "o";
    default:
        *elements = spec->batch * spec->seq_q * spec->embed;
        return "y";
    }
}
