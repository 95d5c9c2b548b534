/* The problems behind docs/benchmarks.md: what the `cpu` implementations are compared on. */
#include "suite.h"

#include <string.h>

static const char *const transposes[] = {"NN", "NT", "TN", "TT"};

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

static size_t gemm_square(struct spec *out) {
    static const size_t sizes[] = {512, 1000, 1021, 1024, 1536, 2048};
    size_t n = 0;
    for (int layout = 0; layout < 2; layout++)
        for (size_t s = 0; s < LENGTH(sizes); s++)
            for (int t = 0; t < 4; t++) {
                out[n] = suite_gemm(CLAT_F32, transposes[t], sizes[s], sizes[s], sizes[s]);
                out[n++].layout = layout ? CLAT_COL_MAJOR : CLAT_ROW_MAJOR;
            }
    return n;
}

static size_t gemm_f64(struct spec *out) {
    static const size_t sizes[] = {512, 1000, 1021, 1024, 1536, 2048};
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(sizes); s++)
        for (int t = 0; t < 4; t++)
            out[n++] = suite_gemm(CLAT_F64, transposes[t], sizes[s], sizes[s], sizes[s]);
    return n;
}

static size_t gemm_clblast(struct spec *out) {
    static const size_t sizes[] = {512, 1021, 1024};
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(sizes); s++)
        for (int t = 0; t < 4; t++)
            out[n++] = suite_gemm(CLAT_F32, transposes[t], sizes[s], sizes[s], sizes[s]);
    return n;
}

static size_t gemm_sizes(struct spec *out) {
    static const size_t sizes[] = {64,  96,  128,  192,  256,  384,  512, 640,
                                   768, 896, 1024, 1280, 1536, 1792, 2048};
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(sizes); s++)
        out[n++] = suite_gemm(CLAT_F32, "NN", sizes[s], sizes[s], sizes[s]);
    return n;
}

static size_t skinny(struct spec *out) {
    static const struct {
        const char *group;
        size_t m, n, k;
    } shapes[] = {
        {"M = 1", 1, 4096, 4096},         {"M = 4 and 16", 4, 4096, 4096},
        {"M = 4 and 16", 16, 4096, 4096}, {"few columns", 8192, 16, 1024},
        {"few columns", 8192, 32, 1024},  {"few columns", 4096, 64, 4096},
        {"K = 8 to 64", 1024, 1024, 8},   {"K = 8 to 64", 1024, 1024, 16},
        {"K = 8 to 64", 1024, 1024, 32},  {"K = 8 to 64", 1024, 1024, 64},
        {"K = 8 to 64", 2048, 2048, 16},  {"long sums", 64, 64, 16384},
        {"long sums", 128, 128, 8192},    {"long sums", 32, 32, 32768},
        {"long sums", 16, 256, 16384},
    };
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(shapes); s++)
        for (int t = 0; t < 2; t++) {
            out[n] = suite_gemm(CLAT_F32, transposes[t], shapes[s].m, shapes[s].n, shapes[s].k);
            out[n++].group = shapes[s].group;
        }
    return n;
}

static size_t batched(struct spec *out) {
    static const struct {
        const char *group;
        size_t size, batch;
    } shapes[] = {{"32 cubed", 32, 2048}, {"64 cubed", 64, 512}, {"128 cubed", 128, 64}};
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(shapes); s++)
        for (int t = 0; t < 4; t++) {
            const size_t size = shapes[s].size;
            out[n] = suite_gemm(CLAT_F32, transposes[t], size, size, size);
            out[n].batch = shapes[s].batch;
            out[n++].group = shapes[s].group;
        }
    return n;
}

static size_t fill_typed(struct spec *out, clat_dtype dtype, clat_precision precision) {
    static const size_t sizes[] = {1000, 1024, 2048}, features[] = {64, 128};
    const bool f16 = dtype == CLAT_F16;
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(sizes); s++)
        for (int t = 0; t < 4; t++) {
            out[n] = suite_gemm(dtype, transposes[t], sizes[s], sizes[s], sizes[s]);
            out[n++].group = f16 ? "GEMM f16" : "GEMM bf16";
        }
    for (size_t d = 0; d < LENGTH(features); d++)
        for (size_t s = 0; s < LENGTH(sizes); s++)
            for (int causal = 0; causal < 2; causal++) {
                out[n] = suite_attention(dtype, 1, 8, 8, sizes[s], features[d],
                                         causal ? "causal" : "full");
                out[n++].group = f16 ? "attention f16" : "attention bf16";
            }
    for (size_t i = 0; i < n; i++)
        out[i].precision = precision;
    return n;
}

static size_t storage(struct spec *out) {
    const size_t n = fill_typed(out, CLAT_F16, CLAT_PRECISION_F32);
    return n + fill_typed(out + n, CLAT_BF16, CLAT_PRECISION_F32);
}

static size_t native(struct spec *out) {
    return fill_typed(out, CLAT_BF16, CLAT_PRECISION_NATIVE);
}

static size_t add_lengths(struct spec *out, const char *group, const size_t *lengths, size_t count,
                          size_t kv_heads, size_t head_dim, bool causal) {
    for (size_t i = 0; i < count; i++) {
        out[i] = suite_attention(CLAT_F32, 1, 8, kv_heads, lengths[i], head_dim,
                                 causal ? "causal" : "full");
        out[i].group = group;
    }
    return count;
}

static size_t attention_table(struct spec *out) {
    static const size_t small[] = {128, 256, 512}, large[] = {1024, 2048, 4096, 8192};
    static const size_t odd[] = {777, 1000, 1021}, features[] = {64, 128, 32, 80, 256};
    size_t n = 0;
    for (int causal = 0; causal < 2; causal++) {
        for (size_t d = 0; d < LENGTH(features); d++) {
            const char *group = d >= 2   ? "other D"
                                : causal ? "D = 64 and 128, N >= 1024, causal"
                                         : "D = 64 and 128, N >= 1024, full";
            n += add_lengths(out + n, group, large, LENGTH(large), 8, features[d], causal);
            n += add_lengths(out + n, "N < 1024", small, LENGTH(small), 8, features[d], causal);
        }
        for (size_t d = 0; d < 2; d++) {
            n += add_lengths(out + n, "odd N", odd, LENGTH(odd), 8, features[d], causal);
            n += add_lengths(out + n, "2 key heads", large, 2, 2, features[d], causal);
        }
    }
    return n;
}

/* Shares of blocks for the curve of time over density, then patterns. With one head there is less
 * to share among cores. */
static size_t sparse(struct spec *out) {
    static const char *const patterns[] = {
        "window:255,0",        "window:128,128", "causal",      "longformer:128,16",
        "bslongformer:64,1,1", "bigbird:64,3",   "documents:8", "strided:128,128",
        "logsparse:128",       "csr:64,0.1",     "longrow:64"};
    static const char *const few[] = {"window:255,0", "causal", "longformer:128,16", "csr:64,0.1",
                                      "longrow:64"};
    size_t n = suite_add_densities(out, suite_attention(CLAT_F32, 1, 4, 4, 8192, 64, "full"));
    for (size_t i = 0; i < LENGTH(patterns); i++) {
        out[n] = suite_attention(CLAT_F32, 1, 8, 8, 8192, 64, patterns[i]);
        out[n++].group = i < 2 ? "windows" : "lists and causal";
    }
    for (size_t i = 0; i < LENGTH(few); i++) {
        out[n] = suite_attention(CLAT_F32, 1, 8, 8, 8192, 128, few[i]);
        out[n++].group = i < 1 ? "windows" : "lists and causal";
    }
    for (size_t i = 1; i < LENGTH(few); i++) {
        out[n] = suite_attention(CLAT_F32, 1, 1, 1, 8192, 64, few[i]);
        out[n++].group = "one head";
    }
    out[n] = suite_attention(CLAT_F32, 1, 8, 8, 8192, 64, "predicate:255");
    out[n++].group = "predicate";
    return n;
}

static size_t decode(struct spec *out) {
    static const struct {
        const char *group;
        size_t kv_heads, head_dim;
    } shapes[] = {{"8 key heads", 8, 64}, {"8 key heads", 8, 128}, {"2 key heads", 2, 128}};
    size_t n = 0;
    for (size_t s = 0; s < LENGTH(shapes); s++)
        for (size_t keys = 1024; keys <= 32768; keys *= 2) {
            out[n] = suite_attention(CLAT_F32, 1, 8, shapes[s].kv_heads, keys, shapes[s].head_dim,
                                     "full");
            out[n].seq_q = 1;
            out[n++].group = shapes[s].group;
        }
    return n;
}

const struct suite suites_cpu[] = {
    {"gemm-square", "SGEMM 512 to 2048, all transposes, both layouts", gemm_square,
     "openblas,onednn,peak", 0.6},
    {"gemm-f64", "DGEMM 512 to 2048, all transposes", gemm_f64, "openblas", 1},
    {"gemm-clblast", "SGEMM against OpenCL's own", gemm_clblast, "clblast", 1},
    {"gemm-sizes", "SGEMM over size, for the plot", gemm_sizes, "openblas,onednn,clblast,peak", 1},
    {"skinny", "few rows, few columns, short and long sums", skinny, "openblas,onednn,stream,read",
     1},
    {"batched", "many small matrices", batched, "openblas,onednn", 2},
    {"storage", "f16 and bf16 as stored types", storage, "f32", 0.6},
    {"native", "bf16 by the CPU's own dot products or tiles", native, "f32,onednn", 0.8},
    {"attention-table", "lengths, head dimensions, causal, grouped heads", attention_table,
     "gemm,unfused-openblas", 0.4},
    {"sparse", "lists of blocks over density, every pattern", sparse, "dense,tiles,gemm", 1},
    {"decode", "one query and a long past", decode, "stream,read,unfused-openblas", 1},
    {0},
};
