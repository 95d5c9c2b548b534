/* Masks as the command line writes them: "causal", "window:128,0", "csr:64,0.1", ... */
#ifndef MASK_SPEC_H
#define MASK_SPEC_H

#include "tool.h"

struct mask_spec {
    enum mask_form {
        MASK_FULL,
        MASK_CAUSAL,
        MASK_WINDOW,     /* keys before and after */
        MASK_LONGFORMER, /* keys on either side, global tokens */
        MASK_DILATED,    /* keys on either side, from one to the next */
        MASK_STRIDED,    /* of the past: so many keys, and every so many-th */
        MASK_FIXED,      /* of the past: the own period, and the last keys of each */
        MASK_LOGSPARSE,  /* so many keys before, and those at powers of two */
        MASK_SINKS,      /* of the past: the first keys, and so many before */
        MASK_PREFIX,     /* causal, but for the first keys, which all queries see */
        MASK_DOCUMENTS,  /* as long as each other */
        MASK_PREDICATE,  /* so many keys before, by a predicate that the device is asked for */
        MASK_BIGBIRD,    /* blocks, random ones in each row */
        MASK_BLOCK_LONGFORMER, /* in blocks of so many: on either side, and global ones */
        MASK_BLOCK_WINDOW,     /* of the past, in blocks: the own one and so many before */
        MASK_BLOCK_FIXED,      /* in blocks: the own period, and the last ones of each */
        MASK_CSR,              /* blocks, visible share of them: the diagonal and random others */
        MASK_LONG_ROW, /* the blocks of the diagonal, and one row of blocks in the middle that
                          sees everything */
        N_MASK_FORMS
    } form;
    double number[3]; /* the form's */
};

/* "full, causal, window:LEFT,RIGHT, ...": all forms. */
const char *mask_spec_usage(void);

bool mask_spec_parse(const char *text, struct mask_spec *out);

/* false: the blocks of a csr mask on so many queries and keys would be too many to list. */
bool mask_spec_fits(const struct mask_spec *spec, size_t seq_q, size_t seq_k);

/* "longformer:128,16" into `text`; gives `text`. */
const char *mask_spec_print(char *text, size_t size, const struct mask_spec *spec);

/* A handle to release; NULL for `full`. Random blocks are always the same ones. */
clat_status mask_spec_create(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                             size_t seq_k);

#endif
