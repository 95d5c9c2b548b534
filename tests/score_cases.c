#include "score_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t one(size_t heads, size_t seq_q, size_t seq_k) {
    (void)heads, (void)seq_q, (void)seq_k;
    return 1;
}

static double softcap(double score, const struct score_at *at, const float *data) {
    (void)at;
    return (double)data[0] * tanh(score / (double)data[0]);
}

static size_t for_each_head(size_t heads, size_t seq_q, size_t seq_k) {
    (void)seq_q, (void)seq_k;
    return heads;
}

static double alibi(double score, const struct score_at *at, const float *data) {
    return score + (double)data[at->head] * (at->key - at->query);
}

static size_t for_each_distance(size_t heads, size_t seq_q, size_t seq_k) {
    return heads * (seq_q + seq_k);
}

static double distance(double score, const struct score_at *at, const float *data) {
    return score +
           (double)data[at->head * (at->seq_q + at->seq_k) + at->query - at->key + at->seq_k];
}

static double by_batch(double score, const struct score_at *at, const float *data) {
    (void)data;
    const int far = abs(at->query - at->key);
    if (far > 5)
        score -= 0.25 * far;
    return score * (1 + 0.5 * (at->batch % 2));
}

static double of_heads_up_to(double score, const struct score_at *at, const float *data) {
    for (int i = 0; i <= at->head; i++)
        score += (double)data[i] * ((at->key + i) % 3);
    return score;
}

static double every_third(double score, const struct score_at *at, const float *data) {
    (void)data;
    return (at->key + at->head) % 3 == 1 ? -INFINITY : score;
}

/* What the kernels call things, and what the library's own functions are called, is free. */
static double names(double score, const struct score_at *at, const float *data) {
    (void)data;
    return score + 0.5 * (at->query % 2);
}

const struct score_case score_cases[] = {
    {"softcap", "score = data[0] * tanh(score / data[0]);", one, softcap},
    {"alibi", "score += data[head] * (key - query);", for_each_head, alibi},
    {"distance", "score += data[head * (seq_q + seq_k) + query - key + seq_k];", for_each_distance,
     distance},
    {"by batch",
     "const int far = abs(query - key);\n"
     "if (far > 5)\n"
     "    score -= 0.25f * far;\n"
     "score *= 1 + 0.5f * (batch % 2); //@1 or 1.5: no mark of src/ptx.h",
     NULL, by_batch},
    {"loop", "for (int i = 0; i <= head; i++) score += data[i] * ((key + i) % 3);", for_each_head,
     of_heads_up_to},
    {"every third", "if ((key + head) % 3 == 1) score = -INFINITY;", NULL, every_third},
    {"names",
     "float p = query % 2, BK = 0.5f, HEAD_DIM = 0, modified = p * BK + HEAD_DIM;\n"
     "return score + modified;",
     NULL, names},
};

const size_t n_score_cases = sizeof score_cases / sizeof *score_cases;

const struct score_case *score_case_named(const char *name) {
    for (size_t i = 0; i < n_score_cases; i++)
        if (strcmp(score_cases[i].name, name) == 0)
            return &score_cases[i];
    fail_msg("there is no score case \"%s\"", name);
    return NULL;
}

const struct score_case *score_case_of(const char *text) {
    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < n_score_cases; i++)
        if (strcmp(score_cases[i].text, text) == 0)
            return &score_cases[i];
    fail_msg("there is no score case with the text \"%s\"", text);
    return NULL;
}
