/* Masks for people. */
#include "mask_tree.h"

#include <inttypes.h>

static void print_side(int64_t side, struct text *out) {
    if (side >= MASK_FAR || side <= -MASK_FAR)
        text_printf(out, "inf");
    else
        text_printf(out, "%" PRId64, side);
}

void mask_print_window(int64_t left, int64_t right, struct text *out) {
    text_printf(out, "window(");
    print_side(left, out);
    text_printf(out, ",");
    print_side(right, out);
    text_printf(out, ")");
}

static void print_blocks(const struct mask_blocks *b, struct text *out) {
    const double cells = (double)b->heads * b->n_rows * b->n_cols;
    const double listed = b->row_ptr[(size_t)b->heads * b->n_rows];
    text_printf(out, "block_csr(%" PRIu32 "x%" PRIu32 ",%.1f%%)", b->block_rows, b->block_cols,
                cells > 0 ? 100 * listed / cells : 0.0);
}

void mask_print(const clat_mask *mask, struct text *out) {
    if (mask == NULL) {
        text_printf(out, "dense");
        return;
    }
    switch (mask->kind) {
    case MASK_CAUSAL:
        text_printf(out, mask->alignment == CLAT_CAUSAL_TOP_LEFT ? "causal" : "causal_br");
        break;
    case MASK_WINDOW:
        mask_print_window(mask->left, mask->right, out);
        break;
    case MASK_GLOBAL:
        text_printf(out, "global(%" PRId64 ")", mask->count);
        break;
    case MASK_QUERIES:
    case MASK_KEYS:
        text_printf(out, mask->kind == MASK_KEYS ? "keys(" : "queries(");
        print_side(mask->first, out);
        text_printf(out, ",");
        print_side(mask->end, out);
        text_printf(out, ")");
        break;
    case MASK_PERIODIC_QUERIES:
    case MASK_PERIODIC_KEYS:
        text_printf(out, "periodic_%s(%" PRId64 ",%" PRId64 ",%" PRId64 ")",
                    mask->kind == MASK_PERIODIC_KEYS ? "keys" : "queries", mask->step, mask->first,
                    mask->end);
        break;
    case MASK_STRIDE:
        text_printf(out, "stride(%" PRId64, mask->step);
        if (mask->offset > 0)
            text_printf(out, ",%" PRId64, mask->offset);
        text_printf(out, ")");
        break;
    case MASK_DISTANCES:
        text_printf(out, "distances(%zu)", mask->distances.count);
        break;
    case MASK_INTERVALS:
        text_printf(out, "key_intervals(%" PRIu32 ")", mask->intervals.count);
        break;
    case MASK_DOCUMENTS:
        text_printf(out, "documents(%" PRIu32 ")", mask->documents.count);
        break;
    case MASK_BLOCKS:
        print_blocks(&mask->blocks, out);
        break;
    case MASK_CODE:
        text_printf(out, "predicate(%08" PRIx32 ")", snippet_number(mask->code));
        break;
    case MASK_ALL:
    case MASK_ANY:
        text_printf(out, mask->kind == MASK_ALL ? "all(" : "any(");
        for (size_t c = 0; c < mask->n_children; c++) {
            if (c > 0)
                text_printf(out, ",");
            mask_print(mask->children[c], out);
        }
        text_printf(out, ")");
        break;
    case MASK_HEADS:
        text_printf(out, "heads(");
        for (size_t c = 0; c < mask->n_children; c++) {
            text_printf(out, c > 0 ? "," : "");
            mask_print(mask->children[c], out);
        }
        text_printf(out, ")");
        break;
    case MASK_BY_BLOCKS:
        text_printf(out, "by_blocks(%" PRIu32 "x%" PRIu32 ",", mask->blocks.block_rows,
                    mask->blocks.block_cols);
        mask_print(mask->children[0], out);
        text_printf(out, ")");
        break;
    case MASK_NOT:
        text_printf(out, "not(");
        mask_print(mask->children[0], out);
        text_printf(out, ")");
        break;
    }
}
