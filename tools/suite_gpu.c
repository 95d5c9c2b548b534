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

static size_t gpu_gemm(struct spec *out) {
    size_t n = add_squares(out, "f16", CLAT_F16, CLAT_PRECISION_F32, 2048);
    return n + add_squares(out + n, "bf16", CLAT_BF16, CLAT_PRECISION_F32, 2048);
}

static size_t gpu_tf32(struct spec *out) {
    return add_squares(out, NULL, CLAT_F32, CLAT_PRECISION_NATIVE, 2048);
}

static size_t gpu_sgemm(struct spec *out) {
    return add_squares(out, NULL, CLAT_F32, CLAT_PRECISION_F32, 1024);
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

const struct suite suites_gpu[] = {
    {"gpu-gemm", "f16 and bf16 2048 to 8192, all transposes", gpu_gemm, "cublas", 1},
    {"gpu-tf32", "f32 2048 to 8192 as TF32, all transposes", gpu_tf32, "cublas", 1},
    {"gpu-sgemm", "SGEMM 1024 to 8192, all transposes", gpu_sgemm, "cublas,clblast", 1},
    {"gpu-attention", "f16 and bf16, 2048 to 16384 keys, full and causal", gpu_attention, "gemm",
     1},
    {0},
};
