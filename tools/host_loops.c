/*
 * Compiled with -O3 -ffast-math: the compiler makes vectors of these loops. Each body is compiled
 * for each width, and the CPU is asked which it can run.
 */
#include "host_loops.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

/* exp for x <= 0: 2^n with whole n, times a polynomial for the rest, |f| <= 1/2. */
INLINE float exp_below_0(float x) {
    const float log2e = 1.44269504F;
    float t = x * log2e;
    t = t > -126.0F ? t : -126.0F;
    const int n = (int)(t - 0.5F); /* towards 0, so this is the nearest */
    const float f = t - (float)n;
    float p = 1.339887e-3F;
    p = p * f + 9.618437e-3F;
    p = p * f + 5.550332e-2F;
    p = p * f + 2.402265e-1F;
    p = p * f + 6.931472e-1F;
    p = p * f + 1.0F;
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

INLINE void softmax_body(float *s, size_t length, size_t first, size_t last) {
    float top = -FLT_MAX, sum = 0;
    for (size_t j = first; j < last; j++)
        top = s[j] > top ? s[j] : top;
    for (size_t j = first; j < last; j++) {
        s[j] = exp_below_0(s[j] - top);
        sum += s[j];
    }
    const float scale = first < last ? 1 / sum : 0;
    for (size_t j = first; j < last; j++)
        s[j] *= scale;
    memset(s, 0, first * sizeof *s);
    memset(s + last, 0, (length - last) * sizeof *s);
}

INLINE float sum_body(const float *values, size_t count) {
    float lane[4 * LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int l = 0; l < 4 * LANES; l++)
            lane[l] += values[i + (size_t)l];
    for (; i < count; i++)
        sum += values[i];
    for (int l = 0; l < 4 * LANES; l++)
        sum += lane[l];
    return sum;
}

enum { CHAINS = 12 }; /* independent, so that none waits for the one before */

/* A vector type by name: clang does not find these vectors by itself. */
#define FMA_BODY(flops, lanes)                                                                     \
    typedef float vec __attribute__((vector_size(4 * (lanes))));                                   \
    const size_t steps = (size_t)((flops) / (2 * CHAINS * (lanes)));                               \
    vec chain[CHAINS];                                                                             \
    float sum = 0;                                                                                 \
    for (int c = 0; c < CHAINS; c++)                                                               \
        chain[c] = (vec){(float)c} + (float)c;                                                     \
    for (size_t i = 0; i < steps; i++)                                                             \
        for (int c = 0; c < CHAINS; c++)                                                           \
            chain[c] = chain[c] * 0.999F + 0.001F;                                                 \
    for (int c = 0; c < CHAINS; c++)                                                               \
        for (int l = 0; l < (lanes); l++)                                                          \
            sum += chain[c][l];                                                                    \
    return sum

/* The three functions of one width. */
#define VERSION(name, target, lanes)                                                               \
    target static void softmax_##name(float *s, size_t length, size_t first, size_t last) {        \
        softmax_body(s, length, first, last);                                                      \
    }                                                                                              \
    target static float sum_##name(const float *values, size_t count) {                            \
        return sum_body(values, count);                                                            \
    }                                                                                              \
    target static float fma_##name(double flops) {                                                 \
        FMA_BODY(flops, lanes);                                                                    \
    }

VERSION(baseline, , 4)
#ifdef __x86_64__
VERSION(avx2, __attribute__((target("avx2,fma"))), 8)
VERSION(avx512, __attribute__((target("avx512f,avx512dq"))), 16)
#endif

static const struct version {
    const char *name;
    void (*softmax)(float *s, size_t length, size_t first, size_t last);
    float (*sum)(const float *values, size_t count);
    float (*fma)(double flops);
} versions[] = {
    {"baseline", softmax_baseline, sum_baseline, fma_baseline},
#ifdef __x86_64__
    {"AVX2 and FMA", softmax_avx2, sum_avx2, fma_avx2},
    {"AVX-512", softmax_avx512, sum_avx512, fma_avx512},
#endif
};

static const struct version *chosen(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return &versions[2];
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &versions[1];
#endif
    return &versions[0];
}

void host_softmax(float *scores, size_t length, size_t first, size_t last) {
    chosen()->softmax(scores, length, first, last);
}

float host_sum(const float *values, size_t count) {
    return chosen()->sum(values, count);
}

float host_fma(double flops) {
    return chosen()->fma(flops);
}

const char *host_vectors(void) {
    return chosen()->name;
}
