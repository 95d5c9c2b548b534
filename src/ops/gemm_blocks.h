/* How the CPU's GEMM implementations cut a product into blocks for work-groups: the host's side of
 * cl/gemm_blocks.clh. */
#ifndef CLAT_GEMM_BLOCKS_H
#define CLAT_GEMM_BLOCKS_H

#include "gemm.h"

enum {
    GEMM_MAX_GRID_Z = 65535,
    GEMM_SLICE_DEPTH = 512 /* of k, at least, for one of the work-groups that share it */
};

/* What an implementation wants, with its tunables' names. */
struct gemm_cut {
    size_t mr, nr;        /* lines of a tile, of a panel */
    size_t mc, nc, kc;    /* at most: rows and columns of C for one work-group, depth of a block */
    size_t split_k;       /* work-groups that share k */
    bool pack_a, pack_b;  /* or read in place */
    bool shared;          /* pack in a pass of its own */
    size_t k_step;        /* elements of k in a word */
    size_t k_align;       /* blocks are multiples of so many elements of k */
    size_t slack;         /* words after each packed tile or panel */
    double groups_wanted; /* work-groups, at least, where there is enough work for them */
};

/* What becomes of it. */
struct gemm_blocks {
    size_t tiles_m, tiles_n;              /* of C */
    size_t block_m, block_n;              /* rows and columns for one work-group */
    size_t block_k, slice_k, blocks_k;    /* depth of a block, of a work-group's share; blocks */
    size_t tile_words, panel_words;       /* packed */
    double packed_words, workspace_words; /* of all tiles and panels; with the sums of slices */
};

/* So many for each core, less where one would have fewer than `least` multiply-adds. */
double gemm_groups_wanted(const struct device *device, const struct gemm *gemm, int split,
                          unsigned per_core, double least);

struct gemm_blocks gemm_blocks_make(const struct gemm *gemm, const struct gemm_cut *cut);

/* Whether the work-groups' private memory and the workspace are large enough. */
bool gemm_blocks_fit(const struct device *device, const struct gemm *gemm,
                     const struct gemm_cut *cut);

/* Fills `*out` but for the implementation's own #defines. `swapped` as for gemm_launch_common. */
void gemm_blocks_launch(const struct gemm *gemm, const struct gemm_cut *cut, bool swapped,
                        struct launch *out);

/* Whether the sums of so many slices of k leave room in the workspace. */
bool gemm_blocks_may_split(const struct device *device, const struct gemm *gemm, int split);

/* How many work-groups should share k: more than one where there are fewer blocks of C, `side`
 * lines each way, than make the cores busy. */
int gemm_blocks_split(const struct device *device, const struct gemm *gemm, size_t side);

/* Another pass with the arguments of `like`, work-groups of one work-item. */
void gemm_add_pass(struct launch *out, const struct pass *like, const char *kernel, size_t x,
                   size_t y, size_t z);

#endif
