/* Inside of attention: the normalised problem and what its implementations share. */
#ifndef CLAT_ATTENTION_H
#define CLAT_ATTENTION_H

#include "attention_params.clh"
#include "mask.h"
#include "plan.h"
#include "snippet.h"

enum { ATTENTION_MAX_DIM = 256 };

/*
 * Defaults and strides filled in. A mask that is a band is kept as the band alone, so that equal
 * bands share a plan whatever they were made of.
 */
struct attention {
    size_t batch, heads, kv_heads, seq_q, seq_k;
    size_t head_dim, value_dim; /* features of Q and K; of V and O */
    clat_strides q, k, v, o;
    double scale;
    clat_mask *mask;       /* NULL: the band says it all */
    struct mask_band band; /* zero where there is a mask */
    struct snippet *score; /* modifies scores, or NULL */
    size_t score_data;     /* elements of f32 that it reads */
    size_t mask_data;      /* words that the mask's predicates read */
    clat_dtype dtype;
    uint32_t logsumexp;
    clat_precision precision; /* F32 where the type leaves no choice */
};

/* Operands in the order of binding.buffer and of the trial's operands. */
enum attention_role {
    ATTENTION_Q,
    ATTENTION_K,
    ATTENTION_V,
    ATTENTION_O,
    ATTENTION_LSE,
    ATTENTION_SCORE_DATA,
    ATTENTION_MASK_DATA
};

/* Checks the caller's problem and fills `*out`: equal problems give equal bytes. The mask stays the
 * caller's; the score modifier is a reference that the caller gives up. */
clat_status attention_normalise(struct attention *out, const clat_attention_problem *problem);

/* The extents and strides of an operand. */
void attention_extent(const struct attention *attention, enum attention_role role, size_t extent[4],
                      size_t stride[4]);

/* true: neighbouring features are neighbours in memory, in all tensors. */
bool attention_unit_features(const struct attention *attention);

/* "f32 causal ..." for people; flops of the visible part. */
void attention_print(const void *problem, struct text *out);
double attention_flops(const void *problem);

/* The function modify_score() of attention.clh, where there is a score modifier. */
void attention_score_function(const struct attention *attention, struct text *out);

/* Whether a query sees each of all keys, by the mask's predicate on the trial's device. */
clat_status attention_ask_mask(const struct attention *attention, clat_trial *trial, size_t batch,
                               size_t head, size_t query, unsigned char *seen);

/* Modifies a query's scores of all keys, on the trial's device and with its score_data. */
clat_status attention_modify_scores(const struct attention *attention, clat_trial *trial,
                                    size_t batch, size_t head, size_t query, float *scores);

/* How the keys of a query tile are split over work-groups; zero: they are not. */
struct attention_split {
    size_t parts;  /* bands: of every tile */
    size_t shares; /* lists: none shall have more than one of so many shares of all work */
};

/* The variant's #defines, the mask's tile lists and predicate, the parameter struct without what a
 * run brings, and the one pass, whose launch shape is left to the implementation. Where the
 * parameters say that keys are split, attention_add_merge() is to follow. */
clat_status attention_launch_common(const struct attention *attention, size_t tile_q, size_t tile_k,
                                    struct attention_split split, struct launch *out);

/* Where the mask has predicates of the caller's, the pass that makes its lists, before all others;
 * to be called last. */
void attention_add_lists(const struct device *device, const struct attention *attention,
                         struct launch *out);

/* The pass that puts `records` partial results of `record_bytes` each together, in `groups`
 * work-groups of one item. */
void attention_add_merge(const struct attention *attention, size_t records, size_t record_bytes,
                         size_t groups, struct launch *out);

/* The same on GPUs: `parts` records for each query, put together by attention_merge.clh. */
void attention_add_wide_merge(const struct attention *attention, size_t parts, struct launch *out);

/* Parts of the keys that the records of attention_merge.clh are for, at most, and the local memory
 * of its kernel. */
enum { ATTENTION_MAX_PARTS = 256, ATTENTION_MERGE_LOCAL_BYTES = 3 * 256 * sizeof(float) };

/* Sizes of which one divides the other: no tile straddles the edge of a block. */
bool attention_tiles_agree(size_t tile, size_t block);

/* Parts that a band's keys can be split into, in tiles of `tile_k`; 1 for lists. */
size_t attention_worthwhile_parts(const struct attention *attention, size_t tile_k);

/* A split for `wanted` work-groups where there are `groups` query tiles. */
struct attention_split attention_choose_split(const struct attention *attention, size_t wanted,
                                              size_t groups, size_t tile_k);

/* What attention_launch_common() split, for kernels of which one work-group has one query tile,
 * with O padded to `out_dim` features: their groups, `pass->global[0]` query tiles so far, and the
 * pass that merges. */
void attention_split_pass(const struct attention *attention, size_t tile_q, size_t out_dim,
                          struct pass *pass, struct launch *out);

/* Splits the longest rows of tile lists: `*items` gets the table that share_of() in attention.clh
 * reads, or stays NULL when no row is too long. `rounds` is how often the lists are run through. */
clat_status attention_split_rows(const struct mask_tiles *list, size_t rounds, size_t shares,
                                 struct attention_params *params, uint32_t **items,
                                 size_t *n_words);

/* Appends to the list's index the numbers of its rows, the longest first, as group_in_turn() of
 * attention.clh reads them; rows of several heads go by the longest of them. Sets `ahead` and
 * `last_first`. */
clat_status attention_order_rows(struct mask_tiles *list, struct attention_params *params);

/* Query tiles of all heads and batches: work-groups to launch. */
size_t attention_groups(const struct attention *attention, size_t tile_q);

/* Where later query tiles take longer, those of so many heads take turns, so that all long ones are
 * early; not of all heads, so that their K and V stay in the last cache of a large GPU while
 * work-groups pass by. */
size_t attention_section_heads(const struct attention *attention);

extern const struct implementation attention_cpu, attention_decode, attention_decode_simt,
    attention_mma, attention_simt, attention_tile_cpu, attention_wgmma;
extern const struct trial_hooks attention_trial;
extern const struct operation attention_operation;

#endif
