#include "mask_spec.h"

#include <stdlib.h>
#include <string.h>

/* Splits "window:128,64" into name and up to two numbers; gives how many, or -1. */
static int split(const char *text, char name[16], double number[2]) {
    const size_t length = strcspn(text, ":");
    if (length >= 16)
        return -1;
    memcpy(name, text, length);
    name[length] = '\0';
    if (!text[length])
        return 0;

    char rest[64];
    snprintf(rest, sizeof rest, "%s", text + length + 1);
    char *comma = strchr(rest, ',');
    if (comma)
        *comma = '\0';
    if (!parse_double(rest, &number[0]) || number[0] < 0)
        return -1;
    if (!comma)
        return 1;
    return parse_double(comma + 1, &number[1]) && number[1] >= 0 ? 2 : -1;
}

bool mask_spec_parse(const char *text, struct mask_spec *out) {
    char name[16];
    double number[2] = {0};
    const int count = split(text, name, number);
    *out = (struct mask_spec){0};

    if (count == 0 && strcmp(name, "full") == 0) {
        out->form = MASK_FULL;
    } else if (count == 0 && strcmp(name, "causal") == 0) {
        out->form = MASK_CAUSAL;
    } else if (count == 2 && strcmp(name, "window") == 0) {
        out->form = MASK_WINDOW;
        out->left = (int64_t)number[0];
        out->right = (int64_t)number[1];
    } else if (count == 2 && strcmp(name, "longformer") == 0) {
        out->form = MASK_LONGFORMER;
        out->left = out->right = (int64_t)number[0];
        out->globals = (int64_t)number[1];
    } else if (count == 2 && strcmp(name, "csr") == 0 && number[0] >= 1 && number[0] <= 1024 &&
               number[1] <= 1) {
        out->form = MASK_CSR;
        out->block = (uint32_t)number[0];
        out->density = number[1];
    } else {
        return tool_error("--mask takes full, causal, window:LEFT,RIGHT, longformer:WINDOW,GLOBALS "
                          "or csr:BLOCK,DENSITY, not \"%s\"",
                          text);
    }
    return true;
}

const char *mask_spec_print(char *text, size_t size, const struct mask_spec *spec) {
    switch (spec->form) {
    case MASK_FULL:
        snprintf(text, size, "full");
        break;
    case MASK_CAUSAL:
        snprintf(text, size, "causal");
        break;
    case MASK_WINDOW:
        snprintf(text, size, "window:%lld,%lld", (long long)spec->left, (long long)spec->right);
        break;
    case MASK_LONGFORMER:
        snprintf(text, size, "longformer:%lld,%lld", (long long)spec->left,
                 (long long)spec->globals);
        break;
    case MASK_CSR:
        snprintf(text, size, "csr:%u,%g", spec->block, spec->density);
        break;
    }
    return text;
}

static uint32_t random_below(uint64_t *state, uint32_t bound) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((*state >> 32) * bound) >> 32);
}

/* One row of blocks: the diagonal, then random others up to `wanted`; written in ascending order.
 * Gives how many. */
static uint32_t fill_row(uint32_t row, uint32_t n_cols, uint32_t wanted, uint64_t *random,
                         bool *taken, uint32_t *cols) {
    memset(taken, 0, n_cols * sizeof *taken);
    if (row < n_cols)
        taken[row] = true;
    for (uint32_t have = row < n_cols; have < wanted;) {
        const uint32_t col = random_below(random, n_cols);
        have += !taken[col];
        taken[col] = true;
    }
    uint32_t count = 0;
    for (uint32_t col = 0; col < n_cols; col++)
        if (taken[col])
            cols[count++] = col;
    return count;
}

static clat_status create_csr(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                              size_t seq_k) {
    const uint32_t n_rows = (uint32_t)((seq_q + spec->block - 1) / spec->block);
    const uint32_t n_cols = (uint32_t)((seq_k + spec->block - 1) / spec->block);
    uint32_t *row_ptr = calloc(n_rows + 1u, sizeof *row_ptr);
    uint32_t *col_idx = calloc((size_t)n_rows * n_cols + 1, sizeof *col_idx);
    bool *taken = calloc(n_cols + 1u, sizeof *taken);
    clat_status st = CLAT_OUT_OF_MEMORY;

    if (!row_ptr || !col_idx || !taken)
        goto out;
    uint64_t random = 20;
    const double per_row = spec->density * n_cols;
    for (uint32_t r = 0; r < n_rows; r++) {
        /* Rounded sums rather than rounded rows, so that the whole has the density asked for. */
        const uint32_t wanted =
            (uint32_t)(per_row * (r + 1.0) + 0.5) - (uint32_t)(per_row * (double)r + 0.5);
        row_ptr[r + 1] = row_ptr[r] + fill_row(r, n_cols, wanted < n_cols ? wanted : n_cols,
                                               &random, taken, col_idx + row_ptr[r]);
    }
    st = clat_mask_block_csr(out, spec->block, spec->block, n_rows, n_cols, 1, row_ptr, col_idx);
out:
    free(row_ptr);
    free(col_idx);
    free(taken);
    return st;
}

static clat_status create_longformer(clat_mask **out, const struct mask_spec *spec) {
    clat_mask *window = NULL, *global = NULL;
    clat_status st = clat_mask_window(&window, spec->left, spec->right);
    if (st == CLAT_OK)
        st = clat_mask_global(&global, spec->globals);
    if (st == CLAT_OK)
        st = clat_mask_any(out, 2, (const clat_mask *[]){window, global});
    clat_mask_release(window);
    clat_mask_release(global);
    return st;
}

clat_status mask_spec_create(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                             size_t seq_k) {
    *out = NULL;
    switch (spec->form) {
    case MASK_FULL:
        return CLAT_OK;
    case MASK_CAUSAL:
        return clat_mask_causal(out, CLAT_CAUSAL_TOP_LEFT);
    case MASK_WINDOW:
        return clat_mask_window(out, spec->left, spec->right);
    case MASK_LONGFORMER:
        return create_longformer(out, spec);
    case MASK_CSR:
        return create_csr(out, spec, seq_q, seq_k);
    }
    return CLAT_INVALID_ARGUMENT;
}
