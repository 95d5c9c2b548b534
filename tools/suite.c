#include "suite.h"

#include <string.h>

struct spec suite_gemm(clat_dtype dtype, const char *trans, size_t m, size_t n, size_t k) {
    struct spec spec = spec_default(SPEC_GEMM);
    spec.dtype = dtype;
    spec.trans_a = trans[0] == 'T';
    spec.trans_b = trans[1] == 'T';
    spec.m = m;
    spec.n = n;
    spec.k = k;
    return spec;
}

struct spec suite_attention(clat_dtype dtype, size_t batch, size_t heads, size_t kv_heads,
                            size_t seq, size_t head_dim, const char *mask) {
    struct spec spec = spec_default(SPEC_ATTENTION);
    spec.dtype = dtype;
    spec.batch = batch;
    spec.heads = heads;
    spec.kv_heads = kv_heads;
    spec.seq_q = spec.seq_k = seq;
    spec.head_dim = head_dim;
    spec.embed = heads * head_dim;
    mask_spec_parse(mask, &spec.mask);
    return spec;
}

struct spec suite_mha(size_t batch, size_t heads, size_t kv_heads, size_t seq, size_t head_dim,
                      const char *mask) {
    struct spec spec = suite_attention(CLAT_F32, batch, heads, kv_heads, seq, head_dim, mask);
    spec.op = SPEC_MHA;
    return spec;
}

size_t suite_add_densities(struct spec *out, struct spec base) {
    static const char *const masks[] = {"csr:128,0.02", "csr:128,0.05", "csr:128,0.1",
                                        "csr:128,0.2",  "csr:128,0.3",  "csr:128,0.5",
                                        "csr:128,0.7",  "csr:128,0.9",  "csr:128,1"};
    enum { COUNT = sizeof masks / sizeof masks[0] };
    for (size_t i = 0; i < COUNT; i++) {
        out[i] = base;
        mask_spec_parse(masks[i], &out[i].mask);
        out[i].group = "over density";
    }
    return COUNT;
}

static const char *const transposes[] = {"NN", "NT", "TN", "TT"};

static size_t gemm(struct spec *out) {
    size_t n = 0;
    for (int t = 0; t < 4; t++)
        out[n++] = suite_gemm(CLAT_F32, transposes[t], 1024, 1024, 1024);
    for (int t = 0; t < 4; t++)
        out[n++] = suite_gemm(CLAT_F32, transposes[t], 1000, 1021, 777);
    out[n++] = suite_gemm(CLAT_F32, "NN", 2048, 2048, 2048);
    out[n++] = suite_gemm(CLAT_F32, "NT", 2048, 1536, 512);
    out[n++] = suite_gemm(CLAT_F32, "NT", 16, 1024, 1024);
    out[n] = suite_gemm(CLAT_F32, "NN", 128, 128, 64);
    out[n++].batch = 64;
    out[n++] = suite_gemm(CLAT_F64, "NN", 1024, 1024, 1024);
    out[n++] = suite_gemm(CLAT_F16, "NN", 1024, 1024, 1024);
    out[n++] = suite_gemm(CLAT_BF16, "NN", 1024, 1024, 1024);
    return n;
}

static size_t attention(struct spec *out) {
    size_t n = 0;
    out[n++] = suite_attention(CLAT_F32, 2, 8, 8, 1024, 64, "full");
    out[n++] = suite_attention(CLAT_F32, 2, 8, 8, 1024, 64, "causal");
    out[n++] = suite_attention(CLAT_F32, 2, 8, 2, 1024, 64, "full");
    out[n++] = suite_attention(CLAT_F32, 2, 8, 8, 1024, 128, "full");
    out[n++] = suite_attention(CLAT_F16, 2, 8, 8, 1024, 64, "full");
    out[n++] = suite_attention(CLAT_BF16, 2, 8, 8, 1024, 64, "full");
    return n;
}

static size_t mha(struct spec *out) {
    size_t n = 0;
    out[n++] = suite_mha(2, 8, 8, 1024, 64, "full");
    out[n++] = suite_mha(2, 8, 8, 1024, 64, "causal");
    out[n++] = suite_mha(2, 8, 2, 1024, 64, "full");
    return n;
}

static size_t masks(struct spec *out) {
    size_t n = 0;
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "longformer:128,16");
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "csr:64,0.1");
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "window:256,0");
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "causal");
    return n;
}

/* What is worth tuning on any device: each code variant once, at its usual size. */
static size_t usual(struct spec *out) {
    size_t n = 0;
    for (int t = 0; t < 4; t++)
        out[n++] = suite_gemm(CLAT_F32, transposes[t], 1024, 1024, 1024);
    out[n++] = suite_gemm(CLAT_F16, "NN", 1024, 1024, 1024);
    out[n++] = suite_gemm(CLAT_BF16, "NN", 1024, 1024, 1024);
    out[n++] = suite_attention(CLAT_F32, 2, 8, 8, 1024, 64, "full");
    out[n++] = suite_attention(CLAT_F32, 2, 8, 8, 1024, 64, "causal");
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "longformer:128,16");
    out[n++] = suite_attention(CLAT_F32, 1, 8, 8, 4096, 64, "csr:64,0.1");
    return n;
}

static size_t all(struct spec *out) {
    size_t n = gemm(out);
    n += attention(out + n);
    n += mha(out + n);
    n += masks(out + n);
    return n;
}

static const struct suite suites[] = {
    {.name = "gemm", .fill = gemm},     {.name = "attention", .fill = attention},
    {.name = "mha", .fill = mha},       {.name = "masks", .fill = masks},
    {.name = "default", .fill = usual}, {.name = "all", .fill = all}};
enum { N_SUITES = sizeof suites / sizeof suites[0] };

const struct suite *suite_at(size_t index) {
    if (index < N_SUITES)
        return &suites[index];
    const struct suite *more[] = {suites_cpu, suites_gpu};
    index -= N_SUITES;
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        for (const struct suite *suite = more[i]; suite->name; suite++)
            if (index-- == 0)
                return suite;
    return NULL;
}

const struct suite *suite_find(const char *name) {
    const struct suite *suite;
    for (size_t i = 0; (suite = suite_at(i)) && strcmp(suite->name, name) != 0; i++)
        ;
    return suite;
}

void suite_list(FILE *file) {
    const struct suite *suite;
    for (size_t i = 0; (suite = suite_at(i)); i++)
        if (suite->about)
            fprintf(file, "  %-18s %s\n  %-18s beside %s\n", suite->name, suite->about, "",
                    suite->peers);
}

size_t suite_from_options(struct spec out[SUITE_MAX], const char *word,
                          const struct spec_options *options) {
    const int op = find_word(word, spec_op_names, SPEC_N_OPS);
    if (!spec_knows_implementation(options->implementation))
        return 0;
    if (options->gemm_given || options->attention_given || options->any_given) {
        if (op >= 0)
            return spec_from_options(&out[0], (enum spec_op)op, options) ? 1 : 0;
        tool_error("problem options need an operator, gemm, attention or mha, not \"%s\"", word);
        return 0;
    }
    const struct suite *suite = suite_find(word);
    const size_t count = suite ? suite->fill(out) : 0;
    if (!count)
        tool_error("no operator or suite \"%s\": see `clattice help bench`", word);
    for (size_t i = 0; i < count; i++) {
        if (options->implementation)
            out[i].implementation = options->implementation;
        out[i].tunables = options->tunables;
    }
    return count;
}
