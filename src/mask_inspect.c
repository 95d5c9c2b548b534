/* Looks at what a mask comes to: visible pairs, and the tiles that kernels visit. */
#include "mask_tree.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TILE = 1 << 20 };

static clat_status check_sizes(int64_t seq_q, int64_t seq_k, int64_t heads, int64_t tile_q,
                               int64_t tile_k) {
    if (seq_q < 0 || seq_k < 0 || seq_q > MASK_FAR || seq_k > MASK_FAR)
        return status_fail(CLAT_INVALID_SIZE,
                           "seq_q = %" PRId64 " or seq_k = %" PRId64 " is not in 0..2^30", seq_q,
                           seq_k);
    if (heads < 1 || heads > INT32_MAX)
        return status_fail(CLAT_INVALID_SIZE, "heads is %" PRId64 ", not in 1..2^31 - 1", heads);
    if (tile_q < 1 || tile_q > MAX_TILE || tile_k < 1 || tile_k > MAX_TILE)
        return status_fail(CLAT_INVALID_SIZE,
                           "tile_q = %" PRId64 " or tile_k = %" PRId64 " is not in 1..%d", tile_q,
                           tile_k, MAX_TILE);
    return CLAT_OK;
}

/* Counts the lists' tiles, and enters them in `map`. */
static void count_tiles(const struct mask_tiles *list, size_t k_tiles, clat_mask_info *out,
                        unsigned char *map) {
    for (size_t row = 0; row < list->n_index / 3; row++) {
        const uint32_t *at = list->index + 3 * row;
        out->partial_tiles += at[1];
        out->full_tiles += at[2] - at[1];
        for (uint32_t n = 0; n < at[2] && map != NULL; n++)
            map[row * k_tiles + list->tiles[at[0] + n]] =
                n < at[1] ? CLAT_TILE_PARTIAL : CLAT_TILE_FULL;
    }
}

clat_status clat_mask_inspect(clat_mask_info *out, const clat_mask *mask, int64_t seq_q,
                              int64_t seq_k, int64_t heads, int64_t tile_q, int64_t tile_k,
                              unsigned char *map) {
    clat_status st = CLAT_OK;
    struct mask_tiles list = {0};
    clat_mask *everything = NULL;
    status_clear();
    if (out == NULL)
        return status_fail(CLAT_INVALID_ARGUMENT, "out is NULL");
    *out = (clat_mask_info){0};
    TRY(check_sizes(seq_q, seq_k, heads, tile_q, tile_k));
    TRY(mask_check(mask, seq_q, seq_k, heads));
    if (mask == NULL)
        TRY(clat_mask_window(&everything, CLAT_UNBOUNDED, CLAT_UNBOUNDED));
    const clat_mask *seen = mask != NULL ? mask : everything;
    const size_t q_tiles = (size_t)((seq_q + tile_q - 1) / tile_q);
    const size_t k_tiles = (size_t)((seq_k + tile_k - 1) / tile_k);
    out->pairs = mask_pairs(seen, seq_q, seq_k, heads);
    out->lists = (size_t)mask_heads(seen);
    out->tiles = out->lists * q_tiles * k_tiles;
    if (out->tiles == 0)
        goto out;
    if (map != NULL)
        memset(map, CLAT_TILE_EMPTY, out->tiles);
    TRY(mask_tiles(seen, seq_q, seq_k, tile_q, tile_k, &list));
    count_tiles(&list, k_tiles, out, map);
out:
    free(list.index);
    free(list.tiles);
    clat_mask_release(everything);
    return st;
}
