#include "mask_spec.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 32, BLOCK_MAX = 1024 };

#define NUMBER_MAX ((size_t)1 << 30)
#define DOCUMENTS_MAX (1 << 20)
#define CSR_BLOCKS_MAX ((size_t)1 << 28)

enum { NUMBERS = sizeof((struct mask_spec *)NULL)->number / sizeof(double), WORDS = NUMBERS + 1 };

/* "window:128,64" into "window", "128", "64" and ""; absent words are empty. false: no such form.
 */
static bool split(const char *text, char words[WORDS][WORD_BYTES]) {
    for (int i = 0; i < WORDS; i++) {
        const size_t length = strcspn(text, i == 0 ? ":" : i + 1 < WORDS ? "," : "");
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

enum number { NONE, WHOLE, POSITIVE, BLOCK, SHARE };

/* The forms, in the order of enum mask_form, with what their numbers are. */
static const struct {
    const char *name, *usage;
    enum number number[NUMBERS];
} forms[N_MASK_FORMS] = {
    [MASK_FULL] = {"full", "full", {NONE}},
    [MASK_CAUSAL] = {"causal", "causal", {NONE}},
    [MASK_WINDOW] = {"window", "window:LEFT,RIGHT", {WHOLE, WHOLE}},
    [MASK_LONGFORMER] = {"longformer", "longformer:WINDOW,GLOBALS", {WHOLE, WHOLE}},
    [MASK_DILATED] = {"dilated", "dilated:WINDOW,STEP", {WHOLE, POSITIVE}},
    [MASK_STRIDED] = {"strided", "strided:WINDOW,STEP", {WHOLE, POSITIVE}},
    [MASK_FIXED] = {"fixed", "fixed:PERIOD,LAST", {POSITIVE, WHOLE}},
    [MASK_LOGSPARSE] = {"logsparse", "logsparse:WINDOW", {WHOLE}},
    [MASK_SINKS] = {"sinks", "sinks:KEYS,WINDOW", {WHOLE, WHOLE}},
    [MASK_PREFIX] = {"prefix", "prefix:KEYS", {WHOLE}},
    [MASK_DOCUMENTS] = {"documents", "documents:COUNT", {POSITIVE}},
    [MASK_PREDICATE] = {"predicate", "predicate:WINDOW", {WHOLE}},
    [MASK_BIGBIRD] = {"bigbird", "bigbird:BLOCK,RANDOM", {BLOCK, WHOLE}},
    [MASK_BLOCK_LONGFORMER] = {"bslongformer",
                               "bslongformer:BLOCK,WINDOW,GLOBALS",
                               {BLOCK, WHOLE, WHOLE}},
    [MASK_BLOCK_WINDOW] = {"bswindow", "bswindow:BLOCK,WINDOW", {BLOCK, WHOLE}},
    [MASK_BLOCK_FIXED] = {"bsfixed", "bsfixed:BLOCK,PERIOD,LAST", {BLOCK, POSITIVE, WHOLE}},
    [MASK_CSR] = {"csr", "csr:BLOCK,DENSITY", {BLOCK, SHARE}},
    [MASK_LONG_ROW] = {"longrow", "longrow:BLOCK", {BLOCK}},
};

/* A number of that kind; none at all where there is to be none. */
static bool parse_number(const char *text, enum number kind, double *out) {
    size_t whole = 0;
    if (kind == NONE)
        return *text == '\0';
    if (kind == SHARE)
        return parse_double(text, out) && *out >= 0 && *out <= 1;
    if (!parse_size(text, &whole) || whole > NUMBER_MAX || (kind != WHOLE && whole == 0) ||
        (kind == BLOCK && whole > BLOCK_MAX))
        return false;
    *out = (double)whole;
    return true;
}

static bool parse_words(char words[WORDS][WORD_BYTES], struct mask_spec *out) {
    for (int form = 0; form < N_MASK_FORMS; form++)
        if (strcmp(words[0], forms[form].name) == 0) {
            bool good = true;
            out->form = (enum mask_form)form;
            for (int n = 0; n < NUMBERS; n++)
                good = good && parse_number(words[n + 1], forms[form].number[n], &out->number[n]);
            return good && (form != MASK_DOCUMENTS || out->number[0] <= DOCUMENTS_MAX);
        }
    return false;
}

const char *mask_spec_usage(void) {
    static char text[512];
    size_t used = 0;
    for (int form = 0; form < N_MASK_FORMS && used < sizeof text; form++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", form ? ", " : "",
                                 forms[form].usage);
    return text;
}

bool mask_spec_parse(const char *text, struct mask_spec *out) {
    char words[WORDS][WORD_BYTES];
    *out = (struct mask_spec){0};
    return (split(text, words) && parse_words(words, out)) ||
           tool_error("--mask takes %s, in whole numbers up to 2^30, STEP and PERIOD from 1, COUNT "
                      "from 1 to 2^20, BLOCK from 1 to %d, DENSITY from 0 to 1, not \"%s\"",
                      mask_spec_usage(), BLOCK_MAX, text);
}

static size_t block_of(const struct mask_spec *spec) {
    return (size_t)spec->number[0];
}

static size_t count_blocks(const struct mask_spec *spec, size_t length) {
    return length / block_of(spec) + (length % block_of(spec) != 0);
}

bool mask_spec_fits(const struct mask_spec *spec, size_t seq_q, size_t seq_k) {
    if (spec->form != MASK_CSR && spec->form != MASK_LONG_ROW && spec->form != MASK_BIGBIRD)
        return true;
    const size_t n_rows = count_blocks(spec, seq_q), n_cols = count_blocks(spec, seq_k);
    return (n_rows < CSR_BLOCKS_MAX && n_cols < CSR_BLOCKS_MAX / (n_rows + 1)) ||
           tool_error(
               "--mask: a list with blocks of %zu on %zu queries and %zu keys is more than 2^28 "
               "blocks",
               block_of(spec), seq_q, seq_k);
}

const char *mask_spec_print(char *text, size_t size, const struct mask_spec *spec) {
    size_t used = (size_t)snprintf(text, size, "%s", forms[spec->form].name);
    for (int n = 0; n < NUMBERS && forms[spec->form].number[n] != NONE && used < size; n++)
        used +=
            (size_t)snprintf(text + used, size - used, "%c%.15g", n ? ',' : ':', spec->number[n]);
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
    const double per_row = spec->number[1] * n_cols;
    for (uint32_t r = 0; r < n_rows; r++) {
        /* Rounded sums rather than rounded rows, so that the whole has the density asked for. */
        uint32_t wanted =
            (uint32_t)(per_row * (r + 1.0) + 0.5) - (uint32_t)(per_row * (double)r + 0.5);
        if (spec->form == MASK_LONG_ROW)
            wanted = r == n_rows / 2 ? n_cols : 1;
        row_ptr[r + 1] = row_ptr[r] + fill_row(r, n_cols, wanted < n_cols ? wanted : n_cols,
                                               &random, taken, col_idx + row_ptr[r]);
    }
    st = clat_mask_block_csr(out, (uint32_t)block_of(spec), (uint32_t)block_of(spec), n_rows,
                             n_cols, 1, row_ptr, col_idx);
out:
    free(row_ptr);
    free(col_idx);
    free(taken);
    return st;
}

/* Documents that start at these multiples of `length`, or of a `count`-th of the whole. */
static clat_status create_starts(clat_mask **out, size_t count, size_t length, size_t seq_q,
                                 size_t seq_k) {
    uint32_t *q_starts = calloc(count + 1, sizeof *q_starts);
    uint32_t *k_starts = calloc(count + 1, sizeof *k_starts);
    clat_status st = CLAT_OUT_OF_MEMORY;
    if (q_starts && k_starts) {
        for (size_t d = 0; d <= count; d++) {
            const size_t at = d * length;
            q_starts[d] = (uint32_t)(!length ? seq_q * d / count : at < seq_q ? at : seq_q);
            k_starts[d] = (uint32_t)(!length ? seq_k * d / count : at < seq_k ? at : seq_k);
        }
        st = clat_mask_documents(out, (uint32_t)count, q_starts, k_starts);
    }
    free(q_starts);
    free(k_starts);
    return st;
}

static clat_status create_documents(clat_mask **out, size_t count, size_t seq_q, size_t seq_k) {
    return create_starts(out, count, 0, seq_q, seq_k);
}

static clat_status create_predicate(clat_mask **out, int64_t window) {
    char code[80];
    snprintf(code, sizeof code, "visible = key <= query && query - key <= %d;", (int)window);
    return clat_mask_predicate(out, code, 0);
}

static clat_status create_periods(clat_mask **out, size_t period, size_t seq_q, size_t seq_k) {
    const size_t most = seq_q > seq_k ? seq_q : seq_k;
    return create_starts(out, most / period + 1, period, seq_q, seq_k);
}

/* Both of two masks, or either, which are given up, if they were made. */
static clat_status create_join(clat_mask **out, bool all, clat_status st, clat_mask *a,
                               clat_mask *b) {
    const clat_mask *const both[] = {a, b};
    if (st == CLAT_OK)
        st = all ? clat_mask_all(out, 2, both) : clat_mask_any(out, 2, both);
    clat_mask_release(a);
    clat_mask_release(b);
    return st;
}

/* `part` of the past: that and causal. */
static clat_status create_causal(clat_mask **out, clat_status st, clat_mask *part) {
    clat_mask *causal = NULL;
    if (st == CLAT_OK)
        st = clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT);
    return create_join(out, true, st, part, causal);
}

static clat_status create_longformer(clat_mask **out, int64_t window, int64_t globals) {
    clat_mask *near = NULL, *global = NULL;
    clat_status st = clat_mask_window(&near, window, window);
    if (st == CLAT_OK)
        st = clat_mask_global(&global, globals);
    return create_join(out, false, st, near, global);
}

static clat_status create_dilated(clat_mask **out, int64_t window, int64_t step) {
    clat_mask *near = NULL, *stride = NULL;
    clat_status st = clat_mask_window(&near, window * step, window * step);
    if (st == CLAT_OK)
        st = clat_mask_stride(&stride, step, 0);
    return create_join(out, true, st, near, stride);
}

static clat_status create_strided(clat_mask **out, int64_t window, int64_t step) {
    clat_mask *near = NULL, *stride = NULL, *part = NULL;
    clat_status st = clat_mask_window(&near, window, 0);
    if (st == CLAT_OK)
        st = clat_mask_stride(&stride, step, 0);
    st = create_join(&part, false, st, near, stride);
    return create_causal(out, st, part);
}

/* The own period, and the last keys of each. */
static clat_status create_summary(clat_mask **out, int64_t period, int64_t last, size_t seq_q,
                                  size_t seq_k) {
    clat_mask *own = NULL, *summary = NULL;
    clat_status st = create_periods(&own, (size_t)period, seq_q, seq_k);
    if (st == CLAT_OK)
        st = clat_mask_periodic_keys(&summary, period, last < period ? period - last : 0, period);
    return create_join(out, false, st, own, summary);
}

static clat_status create_fixed(clat_mask **out, int64_t period, int64_t last, size_t seq_q,
                                size_t seq_k) {
    clat_mask *part = NULL;
    const clat_status st = create_summary(&part, period, last, seq_q, seq_k);
    return create_causal(out, st, part);
}

static clat_status create_logsparse(clat_mask **out, int64_t window) {
    enum { POWERS = 30 };
    int64_t distances[POWERS + 1] = {0};
    clat_mask *near = NULL, *powers = NULL;
    for (int e = 0; e < POWERS; e++)
        distances[e + 1] = (int64_t)1 << e;
    clat_status st = clat_mask_window(&near, window, 0);
    if (st == CLAT_OK)
        st = clat_mask_distances(&powers, POWERS + 1, distances);
    return create_join(out, false, st, near, powers);
}

static clat_status create_sinks(clat_mask **out, int64_t sinks, int64_t window) {
    clat_mask *near = NULL, *keys = NULL, *part = NULL;
    clat_status st = clat_mask_window(&near, window, 0);
    if (st == CLAT_OK)
        st = clat_mask_keys(&keys, 0, sinks);
    st = create_join(&part, false, st, near, keys);
    return create_causal(out, st, part);
}

static clat_status create_prefix(clat_mask **out, int64_t prefix) {
    clat_mask *causal = NULL, *keys = NULL;
    clat_status st = clat_mask_causal(&causal, CLAT_CAUSAL_TOP_LEFT);
    if (st == CLAT_OK)
        st = clat_mask_keys(&keys, 0, prefix);
    return create_join(out, false, st, causal, keys);
}

static clat_status create_bigbird(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                                  size_t seq_k) {
    enum { WINDOW = 3, SEED = 20 };
    return clat_mask_bigbird(out, (uint32_t)block_of(spec), (uint32_t)count_blocks(spec, seq_q),
                             (uint32_t)count_blocks(spec, seq_k), 1, WINDOW,
                             (uint32_t)spec->number[1], SEED);
}

/* A pattern of blocks, which is given up, if it was made. */
static clat_status create_blocks(clat_mask **out, const struct mask_spec *spec, clat_status st,
                                 clat_mask *pattern) {
    if (st == CLAT_OK)
        st = clat_mask_by_blocks(out, (uint32_t)block_of(spec), (uint32_t)block_of(spec), pattern);
    clat_mask_release(pattern);
    return st;
}

static clat_status create_block_form(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                                     size_t seq_k) {
    const int64_t second = (int64_t)spec->number[1], third = (int64_t)spec->number[2];
    clat_mask *pattern = NULL;
    clat_status st;
    if (spec->form == MASK_BLOCK_LONGFORMER)
        st = create_longformer(&pattern, second, third);
    else if (spec->form == MASK_BLOCK_WINDOW)
        st = clat_mask_window(&pattern, second, 0);
    else
        st = create_summary(&pattern, second, third, count_blocks(spec, seq_q),
                            count_blocks(spec, seq_k));
    return create_blocks(out, spec, st, pattern);
}

clat_status mask_spec_create(clat_mask **out, const struct mask_spec *spec, size_t seq_q,
                             size_t seq_k) {
    const int64_t first = (int64_t)spec->number[0], second = (int64_t)spec->number[1];
    *out = NULL;
    switch (spec->form) {
    case MASK_CAUSAL:
        return clat_mask_causal(out, CLAT_CAUSAL_TOP_LEFT);
    case MASK_WINDOW:
        return clat_mask_window(out, first, second);
    case MASK_LONGFORMER:
        return create_longformer(out, first, second);
    case MASK_DILATED:
        return create_dilated(out, first, second);
    case MASK_STRIDED:
        return create_strided(out, first, second);
    case MASK_FIXED:
        return create_fixed(out, first, second, seq_q, seq_k);
    case MASK_LOGSPARSE:
        return create_logsparse(out, first);
    case MASK_SINKS:
        return create_sinks(out, first, second);
    case MASK_PREFIX:
        return create_prefix(out, first);
    case MASK_DOCUMENTS:
        return create_documents(out, (size_t)first, seq_q, seq_k);
    case MASK_PREDICATE:
        return create_predicate(out, first);
    case MASK_BIGBIRD:
        return create_bigbird(out, spec, seq_q, seq_k);
    case MASK_BLOCK_LONGFORMER:
    case MASK_BLOCK_WINDOW:
    case MASK_BLOCK_FIXED:
        return create_block_form(out, spec, seq_q, seq_k);
    case MASK_CSR:
    case MASK_LONG_ROW:
        return create_csr(out, spec, seq_q, seq_k);
    case MASK_FULL:
    case N_MASK_FORMS:
        break;
    }
    return CLAT_OK;
}
