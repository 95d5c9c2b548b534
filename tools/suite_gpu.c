/* The problems behind the GPU's part of docs/benchmarks.md. */
#include "suite.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

static size_t add_squares(struct spec *out, const char *group, clat_dtype dtype,
                          clat_precision precision, size_t smallest) {
    static const char *const transposes[] = {"NN", "NT", "TN", "TT"};
    size_t n = 0;
    for (size_t size = smallest; size <= 8192; size *= 2)
        for (size_t t = 0; t < LENGTH(transposes); t++) {
            out[n] = suite_gemm(dtype, transposes[t], size, size, size);
            out[n].precision = precision;
            out[n++].group = group;
        }
    return n;
}

static const char *const groups_16[2] = {"f16", "bf16"};
static const clat_dtype dtypes_16[2] = {CLAT_F16, CLAT_BF16};

static struct spec product(unsigned type, const char *trans, size_t m, size_t n, size_t k,
                           const char *group) {
    struct spec spec = suite_gemm(dtypes_16[type], trans, m, n, k);
    spec.group = group;
    return spec;
}

static size_t gpu_gemm(struct spec *out) {
    static const char *const transposes[] = {"NN", "NT", "TN", "TT"};
    size_t n = 0;
    for (unsigned type = 0; type < LENGTH(dtypes_16); type++) {
        n += add_squares(out + n, groups_16[type], dtypes_16[type], CLAT_PRECISION_F32, 2048);
        for (size_t t = 0; t < LENGTH(transposes); t++)
            out[n++] = product(type, transposes[t], 8192, 6144, 4096, groups_16[type]);
    }
    return n;
}

/* Few tiles; rounds of tiles that do not come out even; lines that start anywhere. */
static size_t gpu_gemm_sizes(struct spec *out) {
    static const char *const small = "512 to 1536", *const uneven = "uneven";
    static const char *const transposes[] = {"NN", "NT"};
    size_t n = 0;
    for (unsigned type = 0; type < LENGTH(dtypes_16); type++)
        for (size_t t = 0; t < LENGTH(transposes); t++) {
            const char *trans = transposes[t];
            for (size_t size = 512; size <= 1536; size += 256)
                out[n++] = product(type, trans, size, size, size, small);
            for (size_t size = 3072; size <= 6144; size += 1024)
                if (size != 4096)
                    out[n++] = product(type, trans, size, size, size, uneven);
            out[n++] = product(type, trans, 4064, 4128, 4192, uneven);
            out[n++] = product(type, trans, 1000, 1021, 777, "odd");
            out[n++] = product(type, trans, 2047, 2049, 2051, "odd");
        }
    return n;
}

/* A few tokens times the weights of models. */
static size_t gpu_gemm_tokens(struct spec *out) {
    static const size_t tokens[] = {1, 8, 16, 64, 256};
    static const size_t weights[][2] = {
        {4096, 4096}, {11008, 4096}, {4096, 11008}, {14336, 4096}, {4096, 14336}};
    static const char *const groups[] = {"1 token", "8 tokens", "16 tokens", "64 tokens",
                                         "256 tokens"};
    size_t n = 0;
    for (size_t i = 0; i < LENGTH(tokens); i++)
        for (size_t w = 0; w < LENGTH(weights); w++)
            out[n++] = product(1, "NT", tokens[i], weights[w][0], weights[w][1], groups[i]);
    return n;
}

static size_t gpu_tf32(struct spec *out) {
    return add_squares(out, NULL, CLAT_F32, CLAT_PRECISION_NATIVE, 2048);
}

static size_t gpu_sgemm(struct spec *out) {
    return add_squares(out, NULL, CLAT_F32, CLAT_PRECISION_F32, 1024);
}

/* Cards that have something faster take `mma` only when it is asked for. */
static size_t by_mma(struct spec *out, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i].implementation = "mma";
    return count;
}

static size_t gpu_gemm_mma(struct spec *out) {
    size_t n = 0;
    for (unsigned type = 0; type < LENGTH(dtypes_16); type++)
        n += add_squares(out + n, groups_16[type], dtypes_16[type], CLAT_PRECISION_F32, 2048);
    return by_mma(out, n);
}

static size_t gpu_tf32_mma(struct spec *out) {
    return by_mma(out, gpu_tf32(out));
}

/* As the papers on attention measure: 16384 tokens, heads that are 2048 features together. */
static size_t gpu_attention(struct spec *out) {
    static const size_t lengths[] = {2048, 4096, 16384}, features[] = {64, 128};
    static const clat_dtype dtypes[] = {CLAT_F16, CLAT_BF16};
    static const char *const masks[] = {"full", "causal"};
    static const char *const groups[2][2] = {{"f16, full", "f16, causal"},
                                             {"bf16, full", "bf16, causal"}};
    size_t n = 0;
    for (size_t t = 0; t < LENGTH(dtypes); t++)
        for (size_t mask = 0; mask < LENGTH(masks); mask++)
            for (size_t d = 0; d < LENGTH(features); d++)
                for (size_t i = 0; i < LENGTH(lengths); i++) {
                    const size_t heads = 2048 / features[d], batch = 16384 / lengths[i];
                    out[n] = suite_attention(dtypes[t], batch, heads, heads, lengths[i],
                                             features[d], masks[mask]);
                    out[n].precision = CLAT_PRECISION_NATIVE;
                    out[n++].group = groups[t][mask];
                }
    return n;
}

/* One token of each sequence, after a past that no cache holds; the longest take a host seconds to
 * fill. */
static size_t gpu_decode(struct spec *out) {
    static const struct {
        size_t batch, keys;
    } pasts[] = {{16, 4096}, {1, 16384}, {1, 32768}, {1, 131072}};
    static const struct {
        const char *group;
        clat_dtype dtype;
        clat_precision precision;
        size_t pasts;
    } types[] = {{"f16", CLAT_F16, CLAT_PRECISION_F32, LENGTH(pasts)},
                 {"f16 native", CLAT_F16, CLAT_PRECISION_NATIVE, 3},
                 {"bf16", CLAT_BF16, CLAT_PRECISION_F32, 2},
                 {"f32", CLAT_F32, CLAT_PRECISION_F32, 2}};
    size_t n = 0;
    for (size_t t = 0; t < LENGTH(types); t++)
        for (size_t i = 0; i < types[t].pasts; i++) {
            out[n] =
                suite_attention(types[t].dtype, pasts[i].batch, 32, 8, pasts[i].keys, 128, "full");
            out[n].seq_q = 1;
            out[n].precision = types[t].precision;
            out[n++].group = types[t].group;
        }
    return n;
}

static size_t gpu_sparse(struct spec *out) {
    static const char *const patterns[] = {"window:255,0",         "window:1023,0",
                                           "longformer:128,64",    "bigbird:64,3",
                                           "bslongformer:128,1,1", "documents:8"};
    size_t n = suite_add_densities(out, suite_attention(CLAT_F16, 1, 16, 16, 16384, 128, "full"));
    for (size_t i = 0; i < LENGTH(patterns); i++) {
        out[n] = suite_attention(CLAT_F16, 1, 16, 16, 16384, 128, patterns[i]);
        out[n++].group = "patterns";
    }
    out[n] = suite_attention(CLAT_F16, 1, 16, 16, 16384, 128, "predicate:255");
    out[n++].group = "predicate";
    for (size_t i = 0; i < n; i++)
        out[i].precision = CLAT_PRECISION_NATIVE;
    return n;
}

const struct suite suites_gpu[] = {
    {"gpu-gemm", "f16 and bf16 2048 to 8192, all transposes", gpu_gemm, "cublas", 1},
    {"gpu-gemm-sizes", "f16 and bf16, small, uneven and odd sizes", gpu_gemm_sizes, "cublas", 1},
    {"gpu-gemm-tokens", "bf16, 1 to 256 tokens times a model's weights", gpu_gemm_tokens, "cublas",
     1},
    {"gpu-tf32", "f32 2048 to 8192 as TF32, all transposes", gpu_tf32, "cublas", 1},
    {"gpu-gemm-mma", "f16 and bf16 2048 to 8192 by implementation mma", gpu_gemm_mma, "cublas", 1},
    {"gpu-tf32-mma", "f32 2048 to 8192 as TF32 by implementation mma", gpu_tf32_mma, "cublas", 1},
    {"gpu-sgemm", "SGEMM 1024 to 8192, all transposes", gpu_sgemm, "cublas,clblast", 1},
    {"gpu-attention", "f16 and bf16, 2048 to 16384 keys, full and causal", gpu_attention, "gemm",
     1},
    {"gpu-sparse", "lists of blocks over density, and patterns", gpu_sparse, "dense,tiles", 0.5},
    {"gpu-decode", "one query, 32 heads that share 8, and a long past", gpu_decode, "copy", 0.5},
    {0},
};
