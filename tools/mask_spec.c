#include "mask_spec.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 32, BLOCK_MAX = 1024 };

#define NUMBER_MAX ((size_t)1 << 30)
#define DOCUMENTS_MAX ((int64_t)1 << 20)
#define CSR_BLOCKS_MAX ((size_t)1 << 28)

/* "window:128,64" into "window", "128" and "64"; absent words are empty. false: no such form. */
static bool split(const char *text, char words[3][WORD_BYTES]) {
    static const char *const ends[] = {":", ",", ""};
    for (int i = 0; i < 3; i++) {
        const size_t length = strcspn(text, ends[i]);
        if (length >= WORD_BYTES)
            return false;
        memcpy(words[i], text, length);
        words[i][length] = '\0';
        text += length;
        if (*text && !*++text)
            return false;
    }
    return true;
}

static bool parse_whole(const char *text, int64_t *out) {
    size_t value;
    if (!parse_size(text, &value) || value > NUMBER_MAX)
        return false;
    *out = (int64_t)value;
    return true;
}

static bool parse_block(const char *text, struct mask_spec *out) {
    size_t size;
    if (!parse_size(text, &size) || size < 1 || size > BLOCK_MAX)
        return false;
    out->block = (uint32_t)size;
    return true;
}

static bool parse_csr(const char *block, const char *density, struct mask_spec *out) {
    out->form = MASK_CSR;
    return parse_block(block, out) && parse_double(density, &out->density) && out->density >= 0 &&
           out->density <= 1;
}

static bool parse_words(char words[3][WORD_BYTES], struct mask_spec *out) {
    const char *name = words[0], *first = words[1], *second = words[2];
    if (!*first) {
        out->form = strcmp(name, "causal") == 0 ? MASK_CAUSAL : MASK_FULL;
        return out->form == MASK_CAUSAL || strcmp(name, "full") == 0;
    }
    if (strcmp(name, "window") == 0) {
        out->form = MASK_WINDOW;
        return parse_whole(first, &out->left) && parse_whole(second, &out->right);
    }
    if (strcmp(name, "longformer") == 0) {
        out->form = MASK_LONGFORMER;
        const bool ok = parse_whole(first, &out->left) && parse_whole(second, &out->count);
        out->right = out->left;
        return ok;
    }
    if (strcmp(name, "prefix") == 0) {
        out->form = MASK_PREFIX;
        return !*second && parse_whole(first, &out->count);
    }
    if (strcmp(name, "documents") == 0) {
        out->form = MASK_DOCUMENTS;
        return !*second && parse_whole(first, &out->count) && out->count >= 1 &&
               out->count <= DOCUMENTS_MAX;
    }
    if (strcmp(name, "longrow") == 0) {
        out->form = MASK_LONG_ROW;
        return !*second && parse_block(first, out);
    }
    return strcmp(name, "csr") == 0 && parse_csr(first, second, out);
}

bool mask_spec_parse(const char *text, struct mask_spec *out) {
    char words[3][WORD_BYTES];
    *out = (struct mask_spec){0};
    return (split(text, words) && parse_words(words, out)) ||
           tool_error("--mask takes full, causal, window:LEFT,RIGHT, longformer:WINDOW,GLOBALS, "
                      "prefix:KEYS, documents:COUNT, csr:BLOCK,DENSITY or longrow:BLOCK, in whole "
                      "numbers up to 2^30, COUNT from 1 to 2^20, BLOCK from 1 to %d, DENSITY from "
                      "0 to 1, not \"%s\"",
                      BLOCK_MAX, text);
}

static size_t count_blocks(const struct mask_spec *spec, size_t length) {
    return length / spec->block + (length % spec->block != 0);
}

bool mask_spec_fits(const struct mask_spec *spec, size_t seq_q, size_t seq_k) {
    if (spec->form != MASK_CSR && spec->form != MASK_LONG_ROW)
        return true;
    const size_t n_rows = count_blocks(spec, seq_q), n_cols = count_blocks(spec, seq_k);
    return (n_rows < CSR_BLOCKS_MAX && n_cols < CSR_BLOCKS_MAX / (n_rows + 1)) ||
           tool_error(
               "--mask: a list with blocks of %u on %zu queries and %zu keys is more than 2^28 "
               "blocks",
               spec->block, seq_q, seq_k);
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
        snprintf(text, size, "longformer:%lld,%lld", (long long)spec->left, (long long)spec->count);
        break;
    case MASK_PREFIX:
        snprintf(text, size, "prefix:%lld", (long long)spec->count);
        break;
    case MASK_DOCUMENTS:
        snprintf(text, size, "documents:%lld", (long long)spec->count);
        break;
    case MASK_CSR:
        snprintf(text, size, "csr:%u,%g", spec->block, spec->density);
        break;
    case MASK_LONG_ROW:
        snprintf(text, size, "longrow:%u", spec->block);
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
    const uint32_t n_rows = (uint32_t)count_blocks(spec, seq_q);
    const uint32_t n_cols = (uint32_t)count_blocks(spec, seq_k);
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
        uint32_t wanted =
            (uint32_t)(per_row * (r + 1.0) + 0.5) - (uint32_t)(per_row * (double)r + 0.5);
        if (spec->form == MASK_LONG_ROW)
            wanted = r == n_rows / 2 ? n_cols : 1;
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

/* Either of two masks, which are given up, if both were made. */
static clat_status create_any(clat_mask **out, clat_status st, clat_mask *a, clat_mask *b) {
    if (st == CLAT_OK)
        st = clat_mask_any(out, 2, (const clat_mask *[]){a, b});
    clat_mask_release(a);
    clat_mask_release(b);
    return st;
}

static clat_status create_longformer(clat_mask **out, const struct mask_spec *spec) {
    clat_mask *window = NULL, *global = NULL;
    clat_status st = clat_mask_window(&window, spec->left, spec->right);
    if (st == CLAT_OK)
        st = clat_mask_global(&global, spec->count);
    return create_any(out, st, window, global);
}

static clat_status create_prefix(clat_mask **out, const struct mask_spec *spec) {
    clat_mask *causal = NULL, *keys = NULL;
    clat_status st = clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT);
    if (st == CLAT_OK)
        st = clat_mask_keys(&keys, 0, spec->count);
    return create_any(out, st, causal, keys);
}

static clat_status create_documents(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                                    size_t seq_k) {
    const size_t count = (size_t)spec->count;
    uint32_t *q_starts = calloc(count + 1, sizeof *q_starts);
    uint32_t *k_starts = calloc(count + 1, sizeof *k_starts);
    clat_status st = CLAT_OUT_OF_MEMORY;
    if (q_starts && k_starts) {
        for (size_t d = 0; d <= count; d++) {
            q_starts[d] = (uint32_t)(seq_q * d / count);
            k_starts[d] = (uint32_t)(seq_k * d / count);
        }
        st = clat_mask_documents(out, (uint32_t)count, q_starts, k_starts);
    }
    free(q_starts);
    free(k_starts);
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
    case MASK_PREFIX:
        return create_prefix(out, spec);
    case MASK_DOCUMENTS:
        return create_documents(out, spec, seq_q, seq_k);
    case MASK_CSR:
    case MASK_LONG_ROW:
        return create_csr(out, spec, seq_q, seq_k);
    }
    return CLAT_INVALID_ARGUMENT;
}
