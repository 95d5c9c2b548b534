/*
 * A mask as OpenCL C. The text depends on the structure of the expression, on block sizes and on
 * whether a step is 1; whatever depends on sequence lengths is read from mask_words, so that one
 * program serves all lengths. Every word is a 32-bit integer:
 *
 *     [ numbers of term 0 | numbers of term 1 | ... | lists of all terms ]
 *
 *     causal          limit          j <= i + limit
 *     window          low, high      i + low <= j <= i + high
 *     global          count
 *     queries, keys   first, end
 *     periodic ones   period, and for division by it a factor and a shift; first, end
 *     stride          step, factor, shift; offset, a multiple of step that makes i - j positive
 *     distances       where their bits start, one for each distance; the least, negated
 *     intervals       where the first queries start, and the ends
 *     documents       where each query's number of its document starts, and each key's
 *     heads           for each the number of its mask
 *     blocks          where its row_ptr starts, where its col_idx starts, n_rows
 *     code            seq_q, seq_k, or how many blocks they are
 *
 * The caller's code is a function in front of it.
 *
 * A mask by blocks asks its own for the numbers of blocks, "((i) / 64)", where others ask for
 * "(i)".
 *
 * Terms are joined by & and |, not && and ||, which lets i be a vector, and be one in the result;
 * only terms with lists ask for one query at a time.
 */
#include "mask_tree.h"

#include <stdlib.h>
#include <string.h>

static const char SEARCH[] =
    "static int mask_listed(__global const uint *words, uint first, uint end, uint col)\n"
    "{\n"
    "    const uint stop = end;\n"
    "    while (first < end) {\n"
    "        const uint middle = first + (end - first) / 2;\n"
    "        if (words[middle] < col)\n"
    "            first = middle + 1;\n"
    "        else\n"
    "            end = middle;\n"
    "    }\n"
    "    return first < stop && words[first] == col;\n"
    "}\n"
    "static int mask_block(__global const uint *words, uint row_ptr, uint col_idx, uint row,\n"
    "                      uint col)\n"
    "{\n"
    "    const uint first = words[row_ptr + row], end = words[row_ptr + row + 1];\n"
    "    return mask_listed(words, col_idx + first, col_idx + end, col);\n"
    "}\n";

struct emitter {
    struct text *source, functions;
    uint32_t *words;
    size_t numbers; /* words of numbers so far */
    size_t lists;   /* words of lists so far, numbers of all terms included */
    int64_t seq_q, seq_k;
    const char *i, *j; /* the position that is asked for */
};

static size_t term_numbers(const clat_mask *mask) {
    switch (mask->kind) {
    case MASK_CAUSAL:
    case MASK_GLOBAL:
        return 1;
    case MASK_WINDOW:
    case MASK_QUERIES:
    case MASK_KEYS:
    case MASK_DISTANCES:
    case MASK_INTERVALS:
    case MASK_DOCUMENTS:
    case MASK_CODE:
        return 2;
    case MASK_BLOCKS:
        return 3;
    case MASK_PERIODIC_QUERIES:
    case MASK_PERIODIC_KEYS:
    case MASK_STRIDE:
        return 5;
    case MASK_HEADS:
        return mask->heads;
    case MASK_ALL:
    case MASK_ANY:
    case MASK_NOT:
    case MASK_BY_BLOCKS:
        break;
    }
    return 0;
}

/* Of the bits of all distances from 1 - seq_k to seq_q - 1. */
static size_t distance_words(int64_t seq_q, int64_t seq_k) {
    return (size_t)((seq_q + seq_k) / 32 + 1);
}

/* Words of numbers and of lists in a whole mask. */
static void count_words(const clat_mask *mask, int64_t seq_q, int64_t seq_k, size_t *numbers,
                        size_t *lists) {
    *numbers += term_numbers(mask);
    if (mask->kind == MASK_DOCUMENTS)
        *lists += (size_t)mask->documents.q_starts[mask->documents.count] +
                  mask->documents.k_starts[mask->documents.count];
    if (mask->kind == MASK_DISTANCES)
        *lists += distance_words(seq_q, seq_k);
    if (mask->kind == MASK_INTERVALS)
        *lists += 2 * (size_t)mask->intervals.count;
    if (mask->kind == MASK_BLOCKS) {
        const struct mask_blocks *b = &mask->blocks;
        const size_t rows = (size_t)b->heads * b->n_rows;
        *lists += rows + 1 + b->row_ptr[rows];
    }
    if (mask->kind == MASK_BY_BLOCKS) {
        seq_q = mask_count_blocks(seq_q, mask->blocks.block_rows);
        seq_k = mask_count_blocks(seq_k, mask->blocks.block_cols);
    }
    for (size_t c = 0; c < mask->n_children; c++)
        count_words(mask->children[c], seq_q, seq_k, numbers, lists);
}

/* Whether a term looks into a list, be it empty, or is code: then i is a number of one query. */
static bool reads_lists(const clat_mask *mask) {
    for (size_t c = 0; c < mask->n_children; c++)
        if (reads_lists(mask->children[c]))
            return true;
    return mask->kind == MASK_DOCUMENTS || mask->kind == MASK_DISTANCES ||
           mask->kind == MASK_INTERVALS || mask->kind == MASK_BLOCKS || mask->kind == MASK_CODE;
}

static void put_number(struct emitter *e, int64_t number) {
    e->words[e->numbers++] = (uint32_t)(int32_t)number;
}

static uint32_t put_list(struct emitter *e, const uint32_t *list, size_t count) {
    const size_t start = e->lists;
    if (count > 0)
        memcpy(e->words + start, list, count * sizeof *list);
    e->lists += count;
    return (uint32_t)start;
}

/* The number of each position's document. */
static void put_documents(struct emitter *e, const uint32_t *starts, uint32_t count) {
    put_number(e, (int64_t)e->lists);
    for (uint32_t doc = 0; doc < count; doc++)
        for (uint32_t at = starts[doc]; at < starts[doc + 1]; at++)
            put_list(e, &doc, 1);
}

/* What is left of `x`, 0 <= x < 2^30, when it is divided by a number of the mask. Processors divide
 * vectors slowly, but multiply them: with s = ceil(log2(step)), the product of x and
 * ceil(2^(30 + s) / step) has the quotient from bit 30 + s on. */
static void emit_rest(struct emitter *e, const char *x, int64_t step) {
    const size_t at = e->numbers;
    int bits = 1;
    while ((int64_t)1 << bits < step)
        bits++;
    put_number(e, step);
    put_number(e, step > 1 ? (((int64_t)1 << (30 + bits)) + step - 1) / step : 0);
    put_number(e, bits - 1);
    if (step == 1)
        text_printf(e->source, "(0 * %s)", x);
    else
        text_printf(e->source,
                    "(%s - (mul_hi(2 * %s, (int)words[%zu] + 0 * (i)) >> (int)words[%zu]) * "
                    "(int)words[%zu])",
                    x, x, at + 1, at + 2, at);
}

static void emit_stride(struct emitter *e, const clat_mask *mask) {
    const size_t at = e->numbers;
    struct text x = {0};
    text_printf(&x, "(%s - %s + (int)words[%zu])", e->i, e->j, at + 4);
    e->source->failed |= x.failed;
    text_printf(e->source, "(");
    emit_rest(e, text_string(&x), mask->step);
    text_printf(e->source, " == (int)words[%zu])", at + 3);
    put_number(e, mask->offset);
    put_number(e, (e->seq_k + mask->step) / mask->step * mask->step);
    text_free(&x);
}

static void emit_distances(struct emitter *e, const struct mask_distances *d) {
    const size_t at = e->numbers;
    uint32_t *bits = e->words + e->lists;
    const size_t count = distance_words(e->seq_q, e->seq_k);
    memset(bits, 0, count * sizeof *bits);
    for (size_t n = 0; n < d->count; n++)
        if (d->list[n] > -e->seq_k && d->list[n] < e->seq_q) {
            const uint64_t bit = (uint64_t)(d->list[n] + e->seq_k);
            bits[bit / 32] |= 1u << bit % 32;
        }
    put_number(e, (int64_t)e->lists);
    put_number(e, e->seq_k);
    e->lists += count;
    text_printf(e->source,
                "(words[words[%zu] + ((uint)(%s - %s + (int)words[%zu]) >> 5)] >> "
                "((%s - %s + (int)words[%zu]) & 31) & 1u)",
                at, e->i, e->j, at + 1, e->i, e->j, at + 1);
}

static void emit_intervals(struct emitter *e, const struct mask_intervals *v) {
    const size_t at = e->numbers;
    put_number(e, put_list(e, v->first, v->count));
    put_number(e, put_list(e, v->end, v->count));
    text_printf(e->source,
                "((words[words[%zu] + (uint)%s] <= (uint)%s) & "
                "((uint)%s < words[words[%zu] + (uint)%s]))",
                at, e->j, e->i, e->i, at + 1, e->j);
}

static void emit_blocks(struct emitter *e, const struct mask_blocks *b) {
    const size_t at = e->numbers, rows = (size_t)b->heads * b->n_rows;
    put_number(e, put_list(e, b->row_ptr, rows + 1));
    put_number(e, put_list(e, b->col_idx, b->row_ptr[rows]));
    put_number(e, b->n_rows);
    text_printf(e->source, "mask_block(words, words[%zu], words[%zu], ", at, at + 1);
    if (b->heads > 1)
        text_printf(e->source, "(uint)(head) * words[%zu] + ", at + 2);
    text_printf(e->source, "(uint)%s / %uu, (uint)%s / %uu)", e->i, b->block_rows, e->j,
                b->block_cols);
}

/* Of keys, as a vector where i is one. */
static struct text position_of(const struct emitter *e, bool of_key) {
    struct text x = {0};
    text_printf(&x, of_key ? "(%s + 0 * (i))" : "%s", of_key ? e->j : e->i);
    e->source->failed |= x.failed;
    return x;
}

static void emit_range(struct emitter *e, const clat_mask *mask, bool of_key) {
    const size_t at = e->numbers;
    struct text x = position_of(e, of_key);
    put_number(e, mask->first);
    put_number(e, mask->end);
    text_printf(e->source, "((%s >= (int)words[%zu]) & (%s < (int)words[%zu]))", text_string(&x),
                at, text_string(&x), at + 1);
    text_free(&x);
}

static void emit_periodic(struct emitter *e, const clat_mask *mask, bool of_key) {
    const size_t at = e->numbers;
    struct text x = position_of(e, of_key);
    text_printf(e->source, "((");
    emit_rest(e, text_string(&x), mask->step);
    text_printf(e->source, " >= (int)words[%zu]) & (", at + 3);
    e->numbers = at; /* the same once more */
    emit_rest(e, text_string(&x), mask->step);
    text_printf(e->source, " < (int)words[%zu]))", at + 4);
    put_number(e, mask->first);
    put_number(e, mask->end);
    text_free(&x);
}

/* A function of the caller's statements, one for each term, and its call. */
static void emit_code(struct emitter *e, const clat_mask *mask) {
    const size_t at = e->numbers;
    text_printf(
        &e->functions,
        "static inline int mask_code%zu(int batch, int head, int query, int key, int heads, "
        "int seq_q, int seq_k, __global const uint *data)\n{\nint visible = 0;\n"
        "#line 1 \"mask\"\n%s\n#line 1 \"snippet\"\nreturn visible != 0;\n}\n",
        at, snippet_text(mask->code));
    text_printf(e->source,
                "mask_code%zu(batch, head, %s, %s, heads, (int)words[%zu], (int)words[%zu], data)",
                at, e->i, e->j, at, at + 1);
    put_number(e, e->seq_q);
    put_number(e, e->seq_k);
}

static void emit(struct emitter *e, const clat_mask *mask);

/* A choice of expressions. */
static void emit_heads(struct emitter *e, const clat_mask *mask) {
    const size_t at = e->numbers;
    for (uint32_t head = 0; head < mask->heads; head++)
        put_number(e, mask->of_head[head]);
    text_printf(e->source, "(");
    for (size_t c = 0; c < mask->n_children; c++) {
        if (c + 1 < mask->n_children)
            text_printf(e->source, "words[%zu + (uint)(head)] == %zu ? ", at, c);
        emit(e, mask->children[c]);
        if (c + 1 < mask->n_children)
            text_printf(e->source, " : ");
    }
    text_printf(e->source, ")");
}

/* Positions of blocks within blocks are texts that grow. */
static void emit_by_blocks(struct emitter *e, const clat_mask *mask) {
    struct text i = {0}, j = {0};
    const struct emitter outer = *e;
    text_printf(&i, "(%s / %u)", e->i, mask->blocks.block_rows);
    text_printf(&j, "(%s / %u)", e->j, mask->blocks.block_cols);
    e->source->failed |= i.failed || j.failed;
    e->i = text_string(&i), e->j = text_string(&j);
    e->seq_q = mask_count_blocks(e->seq_q, mask->blocks.block_rows);
    e->seq_k = mask_count_blocks(e->seq_k, mask->blocks.block_cols);
    emit(e, mask->children[0]);
    e->i = outer.i, e->j = outer.j;
    e->seq_q = outer.seq_q, e->seq_k = outer.seq_k;
    text_free(&i);
    text_free(&j);
}

static void emit(struct emitter *e, const clat_mask *mask) {
    const size_t at = e->numbers;
    switch (mask->kind) {
    case MASK_CAUSAL:
        put_number(e, mask->alignment == CLAT_CAUSAL_BOTTOM_RIGHT ? e->seq_k - e->seq_q : 0);
        text_printf(e->source, "(%s <= %s + (int)words[%zu])", e->j, e->i, at);
        break;
    case MASK_WINDOW:
        put_number(e, -mask->left);
        put_number(e, mask->right);
        text_printf(e->source, "((%s >= %s + (int)words[%zu]) & (%s <= %s + (int)words[%zu]))",
                    e->j, e->i, at, e->j, e->i, at + 1);
        break;
    case MASK_GLOBAL:
        put_number(e, mask->count);
        text_printf(e->source, "((%s < (int)words[%zu]) | (%s < (int)words[%zu]))", e->i, at, e->j,
                    at);
        break;
    case MASK_QUERIES:
    case MASK_KEYS:
        emit_range(e, mask, mask->kind == MASK_KEYS);
        break;
    case MASK_PERIODIC_QUERIES:
    case MASK_PERIODIC_KEYS:
        emit_periodic(e, mask, mask->kind == MASK_PERIODIC_KEYS);
        break;
    case MASK_STRIDE:
        emit_stride(e, mask);
        break;
    case MASK_DISTANCES:
        emit_distances(e, &mask->distances);
        break;
    case MASK_INTERVALS:
        emit_intervals(e, &mask->intervals);
        break;
    case MASK_DOCUMENTS:
        put_documents(e, mask->documents.q_starts, mask->documents.count);
        put_documents(e, mask->documents.k_starts, mask->documents.count);
        text_printf(e->source, "(words[words[%zu] + (uint)%s] == words[words[%zu] + (uint)%s])", at,
                    e->i, at + 1, e->j);
        break;
    case MASK_BLOCKS:
        emit_blocks(e, &mask->blocks);
        break;
    case MASK_CODE:
        emit_code(e, mask);
        break;
    case MASK_ALL:
    case MASK_ANY:
        text_printf(e->source, "(");
        for (size_t c = 0; c < mask->n_children; c++) {
            if (c > 0)
                text_printf(e->source, mask->kind == MASK_ALL ? " & " : " | ");
            emit(e, mask->children[c]);
        }
        text_printf(e->source, ")");
        break;
    case MASK_HEADS:
        emit_heads(e, mask);
        break;
    case MASK_BY_BLOCKS:
        emit_by_blocks(e, mask);
        break;
    case MASK_NOT:
        text_printf(e->source, "(");
        emit(e, mask->children[0]);
        text_printf(e->source, " == 0)");
        break;
    }
}

clat_status mask_predicate(const clat_mask *mask, int64_t seq_q, int64_t seq_k, struct text *source,
                           uint32_t **words, size_t *n_words) {
    clat_status st = CLAT_OK;
    size_t numbers = 0, lists = 0;
    *words = NULL;
    count_words(mask, seq_q, seq_k, &numbers, &lists);
    if (numbers + lists > UINT32_MAX)
        TRY(status_fail(CLAT_INVALID_SIZE, "the mask's lists are beyond 32-bit indices"));
    *n_words = numbers + lists;
    *words = malloc(*n_words * sizeof **words);
    if (*words == NULL)
        TRY(status_no_memory(*n_words * sizeof **words));

    struct text expression = {0};
    struct emitter e = {.source = &expression,
                        .words = *words,
                        .lists = numbers,
                        .seq_q = seq_q,
                        .seq_k = seq_k,
                        .i = "(i)",
                        .j = "(j)"};
    const bool reads = reads_lists(mask);
    if (reads)
        text_append(source, SEARCH, sizeof SEARCH - 1);
    emit(&e, mask);
    text_printf(source, "%s#define MASK_VECTORS %d\n", text_string(&e.functions), !reads);
    text_printf(source, "#define MASK_VISIBLE(words, data, batch, head, heads, i, j) %s\n",
                text_string(&expression));
    source->failed |= e.functions.failed || expression.failed;
    text_free(&e.functions);
    text_free(&expression);
    TRY(text_check(source));
    return CLAT_OK;
out:
    free(*words);
    *words = NULL;
    return st;
}
