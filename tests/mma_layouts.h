/* Where matrix engines have the elements of fragments, in the words of the vendors' documents. */
#ifndef CLAT_MMA_LAYOUTS_H
#define CLAT_MMA_LAYOUTS_H

struct place {
    unsigned line, k; /* line: row of left, column of right */
};

struct sum_place {
    unsigned row, column;
};

struct layout {
    const char *engine;
    unsigned left_elements, right_elements, sums;
    struct place (*left)(unsigned lane, unsigned i), (*right)(unsigned lane, unsigned i);
    struct sum_place (*sum)(unsigned lane, unsigned i);
};

/* Of 16-bit types, one for each engine in the order of `engines`; and nv_sm80's of tf32. */
extern const struct layout mma_layouts[];
extern const unsigned n_mma_layouts;
extern const struct layout mma_tf32_layout;

#endif
