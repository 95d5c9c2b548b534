#ifndef CLAT_MHA_H
#define CLAT_MHA_H

#include "../mask.h"
#include "../trial.h"

/* A normalised clat_mha_problem: defaults filled in, equal problems are equal bytes. */
struct mha {
    size_t batch, seq, embed, heads, kv_heads, head_dim;
    double scale; /* 0: the attention's default */
    clat_mask *mask;
    clat_dtype dtype;
    uint32_t bias;
    clat_precision precision; /* F32 where the type leaves no choice */
};

extern const struct operation mha_operation;
extern const struct trial_hooks mha_trial;

#endif
