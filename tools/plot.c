#include "publish.h"

#include <string.h>

/* Rate over size: one plot for each kind of problem. */
static const struct plot {
    const char *name, *suite, *title;
    const char *x, *x_label; /* key of the problem */
    json_int_t head_dim;     /* attention: only this, and no grouped heads */
    const char *mask;
} plots[] = {
    {"gemm", "gemm-sizes", "SGEMM, square", "n", "M = N = K", 0, NULL},
    {"attention-64", "attention-table", "attention, 8 heads, D = 64", "seq_q", "queries and keys",
     64, "full"},
    {"attention-64-causal", "attention-table", "attention, 8 heads, D = 64, causal", "seq_q",
     "queries and keys", 64, "causal"},
    {"attention-128", "attention-table", "attention, 8 heads, D = 128", "seq_q", "queries and keys",
     128, "full"},
    {"attention-128-causal", "attention-table", "attention, 8 heads, D = 128, causal", "seq_q",
     "queries and keys", 128, "causal"},
};
enum { N_PLOTS = sizeof plots / sizeof plots[0] };

const char plot_names[] =
    "gemm, attention-64, attention-64-causal, attention-128, attention-128-causal";

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

static bool belongs(const struct plot *plot, const struct result *row) {
    const char *mask = json_string_value(json_object_get(row->problem, "mask"));
    return !plot->mask || (mask && strcmp(mask, plot->mask) == 0 &&
                           integer(row->problem, "head_dim") == plot->head_dim &&
                           integer(row->problem, "kv_heads") == integer(row->problem, "heads"));
}

/* A block of data for gnuplot: size and rate of ours, or of a peer. */
static size_t print_series(FILE *file, const struct plot *plot, const struct results *results,
                           unsigned series, const char *peer) {
    size_t points = 0;
    fprintf(file, "$series%u << END\n", series);
    for (size_t i = 0; i < results->count; i++) {
        const struct result *row = &results->rows[i];
        const int at = peer ? result_peer(row, peer) : -1;
        const double ratio = !peer ? 1 : at < 0 ? 0 : row->peers[at].ratio;
        if (!belongs(plot, row) || !(ratio > 0))
            continue;
        fprintf(file, "%lld %.6g\n", (long long)integer(row->problem, plot->x),
                row->gflops / ratio);
        points++;
    }
    fputs("END\n", file);
    return points;
}

/* What ours is held against, not another way to compute the same. */
static bool is_limit(const char *peer) {
    return strcmp(peer, "peak") == 0 || strcmp(peer, "gemm") == 0;
}

bool plot_print(FILE *file, const char *name, const struct results *results, size_t count) {
    const struct plot *plot = find(name);
    while (count && strcmp(results->suite, plot->suite) != 0) {
        results++;
        count--;
    }
    if (!count || !results->rows)
        return tool_error("the plot %s needs the results of %s", name, plot->suite);
    bool drawn[PEER_MAX] = {false};
    if (print_series(file, plot, results, 0, NULL) == 0)
        return tool_error("the results of %s hold nothing for the plot %s", plot->suite, name);
    for (unsigned p = 0; p < results->n_peers; p++)
        drawn[p] = print_series(file, plot, results, p + 1, results->peers[p]) > 0;
    fprintf(file,
            "set terminal svg size 760,480 dynamic background rgb 'white' font 'sans-serif,13'\n"
            "set title '%s' noenhanced\n"
            "set xlabel '%s' noenhanced\n"
            "set ylabel 'GFLOP/s'\n"
            "set logscale x 2\nset yrange [0:*]\nset grid\nset key outside right noenhanced\n"
            "plot $series0 smooth unique with linespoints lw 3 pt 7 title 'clattice'",
            plot->title, plot->x_label);
    for (unsigned p = 0; p < results->n_peers; p++)
        if (drawn[p])
            fprintf(file, ", $series%u smooth unique with linespoints lw 1.5 pt %u %s title '%s'",
                    p + 1, p + 4, is_limit(results->peers[p]) ? "dt 2 lc rgb 'gray40'" : "",
                    results->peers[p]);
    fputc('\n', file);
    return true;
}
