#include "gemm_blocks.h"

#include "sizes.h"

#include <string.h>

enum {
    /* Private memory lies on the stacks of the runtime's threads. */
    PRIVATE_BYTES = 1024 * 1024,
    /* Work-groups per core, so that the last ones to finish do not keep the others waiting long. */
    GROUPS_PER_CORE = 4
};

/* Rows and columns for one work-group, in tiles: as much as the cut allows, less where there would
 * be too few work-groups, and all of about the same size. */
static void choose_block(struct gemm_blocks *b, const struct gemm *gemm,
                         const struct gemm_cut *cut) {
    size_t m = smaller(b->tiles_m, cut->mc / cut->mr), n = smaller(b->tiles_n, cut->nc / cut->nr);
    const double wanted = cut->groups_wanted / ((double)gemm->batch * (double)cut->split_k);
    while ((m > 1 || n > 1) &&
           (double)ceil_div(b->tiles_m, m) * (double)ceil_div(b->tiles_n, n) < wanted) {
        if (m * cut->mr > n * cut->nr || n == 1)
            m = ceil_div(m, 2);
        else
            n = ceil_div(n, 2);
    }
    b->block_m = ceil_div(b->tiles_m, ceil_div(b->tiles_m, m)) * cut->mr;
    b->block_n = ceil_div(b->tiles_n, ceil_div(b->tiles_n, n)) * cut->nr;
}

double gemm_groups_wanted(const struct device *device, const struct gemm *gemm, int split,
                          unsigned per_core, double least) {
    const double work = (double)gemm->m * (double)gemm->n * (double)(gemm->k + 1) *
                        (double)gemm->batch * split / least;
    const double groups = (double)device->compute_units * per_core;
    return work < groups ? work : groups;
}

struct gemm_blocks gemm_blocks_make(const struct gemm *gemm, const struct gemm_cut *cut) {
    const size_t k = gemm->k ? gemm->k : 1;
    struct gemm_blocks b = {.tiles_m = ceil_div(gemm->m, cut->mr),
                            .tiles_n = ceil_div(gemm->n, cut->nr)};
    choose_block(&b, gemm, cut);
    /* Slices and blocks of about the same depth. */
    const size_t slice = ceil_div(k, cut->split_k), per_slice = ceil_div(slice, cut->kc);
    b.block_k = round_up(ceil_div(slice, per_slice), cut->k_align);
    b.slice_k = b.block_k * per_slice;
    b.blocks_k = ceil_div(k, b.block_k);
    b.tile_words = b.block_k / cut->k_step * cut->mr + cut->slack;
    b.panel_words = b.block_k / cut->k_step * cut->nr + cut->slack;

    const double tiles = cut->pack_a ? (double)b.tiles_m * (double)b.tile_words : 0;
    const double panels = cut->pack_b ? (double)b.tiles_n * (double)b.panel_words : 0;
    const double batch = (double)gemm->batch, sums = (double)gemm->m * (double)gemm->n * batch;
    b.packed_words = cut->shared ? (tiles + panels) * (double)b.blocks_k * batch : 0;
    b.workspace_words = b.packed_words + (cut->split_k > 1 ? sums * (double)cut->split_k : 0);
    return b;
}

bool gemm_blocks_fit(const struct device *device, const struct gemm *gemm,
                     const struct gemm_cut *cut) {
    const struct gemm_blocks b = gemm_blocks_make(gemm, cut);
    const size_t real = gemm_real_bytes(gemm), depth = cut->kc / cut->k_step;
    const size_t packed = (cut->pack_a ? cut->mc * depth : 0) + (cut->pack_b ? cut->nr * depth : 0);
    return (cut->mc * cut->nc + (cut->shared ? 0 : packed)) * real <= PRIVATE_BYTES &&
           b.workspace_words * (double)real <= (double)device->max_alloc_bytes / 4;
}

void gemm_blocks_launch(const struct gemm *gemm, const struct gemm_cut *cut, bool swapped,
                        struct launch *out) {
    const struct gemm_blocks b = gemm_blocks_make(gemm, cut);
    struct pass pass = {0};
    struct gemm_params params;
    gemm_launch_common(gemm, swapped, out, &pass);
    memcpy(&params, out->params, sizeof params);
    params.block_m = (gemm_size)b.block_m;
    params.block_n = (gemm_size)b.block_n;
    params.block_k = (gemm_size)b.block_k;
    params.slice_k = (gemm_size)b.slice_k;
    params.sums_at = (gemm_size)b.packed_words;
    memcpy(out->params, &params, sizeof params);

    if (b.workspace_words > 0)
        pass_arg(&pass, ARG_WORKSPACE, 0, 0);
    out->workspace_bytes = (size_t)b.workspace_words * gemm_real_bytes(gemm);
    /* Small shares, so that cores finish together. */
    const size_t pack_tiles = ceil_div(cut->mc / cut->mr, 4);
    const size_t pack_panels = ceil_div(cut->nc / cut->nr, 4);
    text_printf(&out->defines, "#define PACK_TILES %zu\n#define PACK_PANELS %zu\n", pack_tiles,
                pack_panels);
    const size_t blocks_m = ceil_div(gemm->m, b.block_m), blocks_n = ceil_div(gemm->n, b.block_n);
    if (cut->shared)
        gemm_add_pass(out, &pass, "pack",
                      (cut->pack_a ? ceil_div(b.tiles_m, pack_tiles) : 0) +
                          (cut->pack_b ? ceil_div(b.tiles_n, pack_panels) : 0),
                      b.blocks_k, gemm->batch);
    gemm_add_pass(out, &pass, "gemm", blocks_n, blocks_m, gemm->batch * cut->split_k);
    if (cut->split_k > 1)
        gemm_add_pass(out, &pass, "reduce", blocks_n, blocks_m, gemm->batch);
}

bool gemm_blocks_may_split(const struct device *device, const struct gemm *gemm, int split) {
    const double sums = (double)gemm->m * (double)gemm->n * (double)gemm->batch * split;
    return sums * (double)gemm_real_bytes(gemm) <= (double)device->max_alloc_bytes / 8;
}

int gemm_blocks_split(const struct device *device, const struct gemm *gemm, size_t side) {
    const double blocks =
        (double)ceil_div(gemm->m, side) * (double)ceil_div(gemm->n, side) * (double)gemm->batch;
    int split = 1;
    while (split < 16 && blocks * split < (double)device->compute_units * GROUPS_PER_CORE &&
           gemm->k / (size_t)split >= 2 * GEMM_SLICE_DEPTH &&
           gemm_blocks_may_split(device, gemm, 2 * split))
        split *= 2;
    return split;
}

void gemm_add_pass(struct launch *out, const struct pass *like, const char *kernel, size_t x,
                   size_t y, size_t z) {
    const size_t global[] = {x, y, z < GEMM_MAX_GRID_Z ? z : GEMM_MAX_GRID_Z};
    struct pass *pass = &out->passes[out->n_passes++];
    *pass = *like;
    pass->kernel = kernel;
    pass->dims = 3;
    for (unsigned i = 0; i < 3; i++) {
        pass->global[i] = global[i];
        pass->local[i] = 1;
    }
}
