#include "publish.h"

#include <stdlib.h>
#include <string.h>

enum { PLOT_SUITES = 2 };

/* Rate over size, or time over density, where x is NULL: one plot for each kind of problem, out of
 * one or two suites. */
static const struct plot {
    const char *name, *suites[PLOT_SUITES], *title;
    const char *begins;      /* names of its rows do; of GEMM, only square ones */
    const char *x, *x_label; /* key of the problem; NULL: the share of its csr mask's blocks */
    json_int_t head_dim;     /* attention: only this, and no grouped heads */
    const char *mask;
} plots[] = {
#define GPU_ATTENTION                                                                              \
    { "gpu-attention-short", "gpu-attention" }
#define KEYS "seq_q", "queries and keys"
    {"gemm", {"gemm-sizes"}, "SGEMM, square", "gemm f32 NN", "n", "M = N = K", 0, NULL},
    {"attention-64", {"attention-table"}, "attention, 8 heads, D = 64", "attn", KEYS, 64, "full"},
    {"attention-64-causal",
     {"attention-table"},
     "attention, 8 heads, D = 64, causal",
     "attn",
     KEYS,
     64,
     "causal"},
    {"attention-128",
     {"attention-table"},
     "attention, 8 heads, D = 128",
     "attn",
     KEYS,
     128,
     "full"},
    {"attention-128-causal",
     {"attention-table"},
     "attention, 8 heads, D = 128, causal",
     "attn",
     KEYS,
     128,
     "causal"},
    {"gpu-gemm",
     {"gpu-gemm-sizes", "gpu-gemm"},
     "GEMM, f16, square",
     "gemm f16 NN",
     "n",
     "M = N = K",
     0,
     NULL},
    {"gpu-attention-64", GPU_ATTENTION, "attention, f16, 16384 tokens, D = 64", "attn f16", KEYS,
     64, "full"},
    {"gpu-attention-64-causal", GPU_ATTENTION, "attention, f16, 16384 tokens, D = 64, causal",
     "attn f16", KEYS, 64, "causal"},
    {"gpu-attention-128", GPU_ATTENTION, "attention, f16, 16384 tokens, D = 128", "attn f16", KEYS,
     128, "full"},
    {"gpu-attention-128-causal", GPU_ATTENTION, "attention, f16, 16384 tokens, D = 128, causal",
     "attn f16", KEYS, 128, "causal"},
    {"sparse",
     {"sparse"},
     "attention, f32, 4 heads, 8192 keys, D = 64, random blocks of 128",
     "attn f32",
     NULL,
     "share of blocks",
     64,
     "csr:128,"},
    {"gpu-sparse",
     {"gpu-sparse"},
     "attention, f16, 16 heads, 16384 keys, D = 128, random blocks of 128",
     "attn f16",
     NULL,
     "share of blocks",
     128,
     "csr:128,"},
};
enum { N_PLOTS = sizeof plots / sizeof plots[0] };

const char plot_names[] =
    "gemm, attention-64, attention-64-causal, attention-128, attention-128-causal, sparse, and the "
    "same with gpu- before it";

static const struct plot *find(const char *name) {
    for (size_t i = 0; i < N_PLOTS; i++)
        if (strcmp(plots[i].name, name) == 0)
            return &plots[i];
    return NULL;
}

bool plot_is_known(const char *name) {
    return find(name) != NULL;
}

static json_int_t integer(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

/* Over density, the masks that begin so. */
static bool has_mask(const struct plot *plot, const char *mask) {
    const size_t length = strlen(plot->mask) + (plot->x ? 1 : 0);
    return mask && strncmp(mask, plot->mask, length) == 0;
}

static bool belongs(const struct plot *plot, const struct result *row) {
    const char *mask = json_string_value(json_object_get(row->problem, "mask"));
    if (strncmp(row->name, plot->begins, strlen(plot->begins)) != 0)
        return false;
    if (!plot->mask)
        return integer(row->problem, "m") == integer(row->problem, "n") &&
               integer(row->problem, "n") == integer(row->problem, "k");
    return has_mask(plot, mask) && integer(row->problem, "head_dim") == plot->head_dim &&
           integer(row->problem, "kv_heads") == integer(row->problem, "heads");
}

/* What a plot is drawn from. */
struct sources {
    const struct results *results[PLOT_SUITES];
    unsigned count, n_peers;
    const char *peers[PEER_MAX]; /* of any of them */
};

static bool find_sources(struct sources *out, const struct plot *plot,
                         const struct results *results, size_t count) {
    memset(out, 0, sizeof *out);
    for (unsigned s = 0; s < PLOT_SUITES && plot->suites[s]; s++) {
        const struct results *found = NULL;
        for (size_t i = 0; i < count; i++)
            if (strcmp(results[i].suite, plot->suites[s]) == 0)
                found = &results[i];
        if (!found || !found->rows)
            return tool_error("the plot %s needs the results of %s", plot->name, plot->suites[s]);
        out->results[out->count++] = found;
        for (unsigned p = 0; p < found->n_peers; p++) {
            unsigned at = 0;
            while (at < out->n_peers && strcmp(out->peers[at], found->peers[p]) != 0)
                at++;
            if (at == out->n_peers && at < PEER_MAX)
                out->peers[out->n_peers++] = found->peers[p];
        }
    }
    return true;
}

static double x_of(const struct plot *plot, const struct result *row) {
    if (plot->x)
        return (double)integer(row->problem, plot->x);
    const char *mask = json_string_value(json_object_get(row->problem, "mask"));
    return strtod(mask + strlen(plot->mask), NULL);
}

/* A block of data for gnuplot: what is on both axes for ours, or for a peer. */
static size_t print_series(FILE *file, const struct plot *plot, const struct sources *sources,
                           unsigned series, const char *peer) {
    size_t points = 0;
    fprintf(file, "$series%u << END\n", series);
    for (unsigned s = 0; s < sources->count; s++)
        for (size_t i = 0; i < sources->results[s]->count; i++) {
            const struct result *row = &sources->results[s]->rows[i];
            const int at = peer ? result_peer(row, peer) : -1;
            const double ratio = !peer ? 1 : at < 0 ? 0 : row->peers[at].ratio;
            if (!belongs(plot, row) || !(ratio > 0))
                continue;
            fprintf(file, "%.6g %.6g\n", x_of(plot, row),
                    plot->x ? row->gflops / ratio : row->ms * ratio);
            points++;
        }
    fputs("END\n", file);
    return points;
}

/* What ours is held against, not another way to compute the same. */
static bool is_limit(const char *peer) {
    return strcmp(peer, "peak") == 0 || strcmp(peer, "gemm") == 0;
}

/* Of the same problem: its work, or its time where that is drawn. */
static bool is_drawn(const struct plot *plot, const char *peer) {
    return plot->x || strcmp(peer, "dense") == 0;
}

bool plot_print(FILE *file, const char *name, const struct results *results, size_t count) {
    const struct plot *plot = find(name);
    struct sources sources;
    bool drawn[PEER_MAX] = {false};
    if (!find_sources(&sources, plot, results, count))
        return false;
    if (print_series(file, plot, &sources, 0, NULL) == 0)
        return tool_error("the results hold nothing for the plot %s", name);
    for (unsigned p = 0; p < sources.n_peers; p++)
        drawn[p] = is_drawn(plot, sources.peers[p]) &&
                   print_series(file, plot, &sources, p + 1, sources.peers[p]) > 0;
    fprintf(file,
            "set terminal svg size 760,480 dynamic background rgb 'white' font 'sans-serif,13'\n"
            "set title '%s' noenhanced\n"
            "set xlabel '%s' noenhanced\n"
            "set ylabel '%s'\n%s"
            "set yrange [0:*]\nset grid\nset key outside right noenhanced\n"
            "plot $series0 smooth unique with linespoints lw 3 pt 7 title 'clattice'",
            plot->title, plot->x_label, plot->x ? "GFLOP/s" : "ms",
            plot->x ? "set logscale x 2\n" : "set xrange [0:1]\n");
    for (unsigned p = 0; p < sources.n_peers; p++)
        if (drawn[p])
            fprintf(file, ", $series%u smooth unique with linespoints lw 1.5 pt %u %s title '%s'",
                    p + 1, p + 4, is_limit(sources.peers[p]) ? "dt 2 lc rgb 'gray40'" : "",
                    sources.peers[p]);
    for (unsigned p = 0; p < sources.n_peers; p++)
        if (drawn[p] && !plot->x) /* what it would take if time went with density */
            fprintf(file,
                    ", $series%u using 1:($1*$2) smooth unique with lines lw 1.5 dt 2 lc rgb "
                    "'gray40' title 'ideal'",
                    p + 1);
    fputc('\n', file);
    return true;
}
