/*
 * How keys are split over work-groups. Bands: all query tiles alike.
 *
 * Tile lists whose rows are of very different lengths: the longest are split, so that no work-group
 * keeps the others waiting at the end, and their parts are spread among the other rows, because
 * runtimes hand neighbouring work-groups to one core.
 */
#include "attention.h"

#include "sizes.h"

#include <stdlib.h>
#include <string.h>

/* Tiles that are worth a work-group of their own. */
enum { MIN_TILES = 4, ITEM_WORDS = 4, MERGE_WORDS = 3 };

bool attention_tiles_agree(size_t tile, size_t block) {
    return tile % block == 0 || block % tile == 0;
}

size_t attention_worthwhile_parts(const struct attention *a, size_t tile_k) {
    const size_t parts = a->seq_k / (MIN_TILES * tile_k);
    return a->mask == NULL && parts > 1 ? parts : 1;
}

/* Few query tiles with many keys each are split; causal ones differ in length, yet there are enough
 * of them. */
struct attention_split attention_choose_split(const struct attention *a, size_t wanted,
                                              size_t groups, size_t tile_k) {
    const size_t parts = ceil_div(wanted, groups);
    const size_t worthwhile = attention_worthwhile_parts(a, tile_k);
    return (struct attention_split){.parts = parts < worthwhile ? parts : worthwhile,
                                    .shares = wanted};
}

void attention_split_pass(const struct attention *a, size_t tile_q, size_t out_dim,
                          struct pass *pass, struct launch *out) {
    struct attention_params params;
    memcpy(&params, out->params, sizeof params);
    /* O in whole vectors, the maximum and the sum: RECORD of the kernels. */
    const size_t record = out_dim + 2, tiles = pass->global[0];
    size_t merges = tiles, slots = tiles * (size_t)params.parts;
    if (params.items > 0) {
        const size_t rounds = tiles / (size_t)(params.list_heads * params.query_tiles);
        pass->global[0] = rounds * (size_t)params.items;
        merges = rounds * (size_t)params.merges;
        slots = rounds * (size_t)params.slots;
    } else if (params.parts > 1) {
        pass->global[0] = slots;
    } else {
        return;
    }
    attention_add_merge(a, slots * tile_q, record * sizeof(float), merges, out);
}

void attention_add_wide_merge(const struct attention *a, size_t parts, struct launch *out) {
    enum { ITEMS = 256 };
    const size_t queries = a->batch * a->heads * a->seq_q, lanes = round_up(a->value_dim, 32);
    const size_t items = lanes * 2 <= ITEMS ? ITEMS / lanes * lanes : lanes;
    attention_add_merge(a, queries * parts, (a->value_dim + 2) * sizeof(float), queries * items,
                        out);
    out->passes[out->n_passes - 1].local[0] = items;
}

/* ---- tile lists */

/* Where an item stands among all, from 0 to 1. */
struct place {
    double at;
    uint32_t row, part, parts, slot;
};

static int compare_places(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static size_t row_tiles(const struct mask_tiles *list, size_t row) {
    return list->index[3 * row + 2];
}

/* Tiles that one work-group may have. */
static size_t limit_of(const struct mask_tiles *list, size_t rounds, size_t shares) {
    size_t total = 0;
    for (size_t row = 0; row < list->n_index / 3; row++)
        total += row_tiles(list, row);
    const size_t limit = ceil_div(total * rounds, shares);
    return limit > MIN_TILES ? limit : MIN_TILES;
}

static size_t parts_of(const struct mask_tiles *list, size_t row, size_t limit) {
    const size_t parts = ceil_div(row_tiles(list, row), limit);
    return parts > 1 ? parts : 1;
}

/* Fills `places`, sorted, and the merges behind the items. */
static void place_rows(const struct mask_tiles *list, size_t limit, struct place *places,
                       uint32_t *merges) {
    const size_t rows = list->n_index / 3;
    uint32_t slot = 0;
    size_t n = 0;
    for (size_t row = 0; row < rows; row++) {
        const size_t parts = parts_of(list, row, limit);
        for (size_t part = 0; part < parts; part++)
            places[n++] = (struct place){.at = parts > 1 ? ((double)part + 0.5) / (double)parts
                                                         : ((double)row + 0.5) / (double)rows,
                                         .row = (uint32_t)row,
                                         .part = (uint32_t)part,
                                         .parts = (uint32_t)parts,
                                         .slot = slot};
        if (parts > 1) {
            *merges++ = (uint32_t)row;
            *merges++ = (uint32_t)parts;
            *merges++ = slot;
            slot += (uint32_t)parts;
        }
    }
    qsort(places, n, sizeof *places, compare_places);
}

/* ---- the order of rows */

struct ranked {
    size_t tiles;
    uint32_t row;
};

static int compare_ranks(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->tiles != y->tiles)
        return x->tiles > y->tiles ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

clat_status attention_order_rows(struct mask_tiles *list, struct attention_params *params) {
    enum { FAR_LONGER = 3 }; /* than rows are on average */
    const double MUCH = 0.6; /* of all work, for the later half */
    const size_t query_tiles = (size_t)params->query_tiles, lists = (size_t)params->list_heads;
    struct ranked *ranks = calloc(query_tiles + 1, sizeof *ranks); /* there may be none */
    uint32_t *index = realloc(list->index, (list->n_index + query_tiles + 1) * sizeof *index);
    size_t total = 0, later = 0;
    list->index = index != NULL ? index : list->index;
    if (ranks == NULL || index == NULL) {
        free(ranks);
        return status_no_memory(query_tiles * (sizeof *ranks + sizeof *index));
    }
    for (size_t row = 0; row < query_tiles; row++)
        ranks[row].row = (uint32_t)row;
    for (size_t n = 0; n < lists * query_tiles; n++) {
        const size_t tiles = row_tiles(list, n), row = n % query_tiles;
        ranks[row].tiles = larger(ranks[row].tiles, tiles);
        total += tiles;
        later += row >= query_tiles / 2 ? tiles : 0;
    }
    qsort(ranks, query_tiles, sizeof *ranks, compare_ranks);
    for (size_t n = 0; n < query_tiles; n++) {
        index[list->n_index++] = ranks[n].row;
        params->ahead += ranks[n].tiles * query_tiles * lists > FAR_LONGER * total;
    }
    params->last_first = (double)later > MUCH * (double)total;
    free(ranks);
    return CLAT_OK;
}

clat_status attention_split_rows(const struct mask_tiles *list, size_t rounds, size_t shares,
                                 struct attention_params *params, uint32_t **items,
                                 size_t *n_words) {
    const size_t limit = limit_of(list, rounds, shares);
    size_t n_items = 0, n_merges = 0, n_slots = 0;
    for (size_t row = 0; row < list->n_index / 3; row++) {
        const size_t parts = parts_of(list, row, limit);
        n_items += parts;
        n_merges += parts > 1;
        n_slots += parts > 1 ? parts : 0;
    }
    if (n_merges == 0)
        return CLAT_OK;
    *n_words = n_items * ITEM_WORDS + n_merges * MERGE_WORDS;
    struct place *places = malloc(n_items * sizeof *places);
    uint32_t *words = malloc(*n_words * sizeof *words);
    if (places == NULL || words == NULL) {
        free(places);
        free(words);
        return status_no_memory(n_items * sizeof *places + *n_words * sizeof *words);
    }
    place_rows(list, limit, places, words + n_items * ITEM_WORDS);
    for (size_t n = 0; n < n_items; n++) {
        uint32_t *item = words + n * ITEM_WORDS;
        item[0] = places[n].row, item[1] = places[n].part;
        item[2] = places[n].parts, item[3] = places[n].slot;
    }
    free(places);
    params->items = (attention_int)n_items;
    params->merges = (attention_int)n_merges;
    params->slots = (attention_int)n_slots;
    *items = words;
    return CLAT_OK;
}
