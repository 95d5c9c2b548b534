/* Masks as the command line writes them: full, causal, window:L,R, longformer:W,G, prefix:KEYS,
 * documents:COUNT, csr:BLOCK,DENSITY, longrow:BLOCK. */
#ifndef MASK_SPEC_H
#define MASK_SPEC_H

#include "tool.h"

struct mask_spec {
    enum mask_form {
        MASK_FULL,
        MASK_CAUSAL,
        MASK_WINDOW,
        MASK_LONGFORMER,
        MASK_PREFIX,    /* causal, but for the first keys, which all queries see */
        MASK_DOCUMENTS, /* as long as each other */
        MASK_CSR,
        MASK_LONG_ROW /* the blocks of the diagonal, and one row of blocks in the middle that sees
                         everything */
    } form;
    int64_t left, right; /* window; longformer: both the same */
    int64_t count;       /* longformer: global tokens; prefix: keys; documents */
    uint32_t block;      /* csr, long row */
    double density;      /* csr: visible share of the blocks */
};

bool mask_spec_parse(const char *text, struct mask_spec *out);

/* false: the blocks of a csr mask on so many queries and keys would be too many to list. */
bool mask_spec_fits(const struct mask_spec *spec, size_t seq_q, size_t seq_k);

/* "longformer:128,16" into `text`; gives `text`. */
const char *mask_spec_print(char *text, size_t size, const struct mask_spec *spec);

/* A handle to release; NULL for `full`. csr: the diagonal and random blocks, always the same ones.
 */
clat_status mask_spec_create(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                             size_t seq_k);

#endif
