/* `clattice mask`: what a mask comes to, and a picture of its tiles. */
#include "args.h"
#include "mask_spec.h"

#include <stdlib.h>
#include <string.h>

/* Options and what they come to. */
struct look {
    const char *mask, *svg;
    size_t seq_q, seq_k, tile_q, tile_k;
    struct mask_spec spec;
    size_t q_tiles, k_tiles;
    clat_mask_info info;
    unsigned char *map; /* [q_tiles][k_tiles] */
    double seconds;     /* that making it took */
};

static bool inspect(struct look *l) {
    clat_mask *mask = NULL;
    bool ok = false;
    l->q_tiles = (l->seq_q + l->tile_q - 1) / l->tile_q;
    l->k_tiles = (l->seq_k + l->tile_k - 1) / l->tile_k;
    l->map = calloc(l->q_tiles + 1, l->k_tiles + 1);
    TRY(l->map || tool_error("out of memory"));
    TRY(tool_clat(mask_spec_create(&mask, &l->spec, l->seq_q, l->seq_k)));
    const double start = now_seconds();
    TRY(tool_clat(clat_mask_inspect(&l->info, mask, (int64_t)l->seq_q, (int64_t)l->seq_k, 1,
                                    (int64_t)l->tile_q, (int64_t)l->tile_k, l->map)));
    l->seconds = now_seconds() - start;
    ok = true;
out:
    clat_mask_release(mask);
    return ok;
}

static double share(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static void print(FILE *file, const struct look *l) {
    char text[64];
    const clat_mask_info *i = &l->info;
    const double tiles = (double)i->tiles;
    fprintf(file, "mask     %s on %zu queries, %zu keys\n",
            mask_spec_print(text, sizeof text, &l->spec), l->seq_q, l->seq_k);
    fprintf(file, "visible  %.0f pairs, %.4g%% of all\n", i->pairs,
            100 * share(i->pairs, (double)l->seq_q * (double)l->seq_k));
    fprintf(file, "tiles    %zu x %zu of %zu x %zu: %zu full, %zu partial, %zu visited (%.4g%%)\n",
            l->q_tiles, l->k_tiles, l->tile_q, l->tile_k, i->full_tiles, i->partial_tiles,
            i->full_tiles + i->partial_tiles,
            100 * share((double)(i->full_tiles + i->partial_tiles), tiles));
    fprintf(file, "lists    %.3g ms on the host\n", l->seconds * 1e3);
}

/* A rectangle for each run of equal tiles in a row: full ones dark, partial ones lighter. */
static void draw_row(FILE *file, const struct look *l, size_t row) {
    const unsigned char *tiles = l->map + row * l->k_tiles;
    for (size_t first = 0, end; first < l->k_tiles; first = end) {
        for (end = first + 1; end < l->k_tiles && tiles[end] == tiles[first];)
            end++;
        if (tiles[first] != CLAT_TILE_EMPTY)
            fprintf(file, "<rect x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"1\" class=\"%s\"/>\n",
                    first, row, end - first, tiles[first] == CLAT_TILE_FULL ? "full" : "partial");
    }
}

/* One unit for a tile, as wide as the page lets it. */
static bool draw(const struct look *l) {
    enum { WIDTH = 480 };
    char text[64];
    FILE *file = fopen(l->svg, "w");
    if (!file)
        return tool_error("cannot write %s", l->svg);
    mask_spec_print(text, sizeof text, &l->spec);
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
            "viewBox=\"0 0 %zu %zu\" shape-rendering=\"crispEdges\">\n"
            "<title>%s: %zu queries down, %zu keys across, tiles of %zu x %zu</title>\n"
            "<style>.full{fill:#1f4e79}.partial{fill:#7fb2dd}</style>\n"
            "<rect width=\"%zu\" height=\"%zu\" fill=\"#eeeeee\"/>\n",
            WIDTH, WIDTH * share((double)l->q_tiles, (double)l->k_tiles), l->k_tiles, l->q_tiles,
            text, l->seq_q, l->seq_k, l->tile_q, l->tile_k, l->k_tiles, l->q_tiles);
    for (size_t row = 0; row < l->q_tiles; row++)
        draw_row(file, l, row);
    fputs("</svg>\n", file);
    const bool written = ferror(file) == 0;
    return (fclose(file) == 0 && written) || tool_error("cannot write %s", l->svg);
}

static bool look_at(const struct tool_common *common, struct look *l) {
    char text[64];
    json_t *json = NULL;
    bool ok = false;
    TRY(inspect(l));
    print(tool_out(common), l);
    TRY(!l->svg || draw(l));
    json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I}", "mask",
                     mask_spec_print(text, sizeof text, &l->spec), "seq_q", (json_int_t)l->seq_q,
                     "seq_k", (json_int_t)l->seq_k, "tile_q", (json_int_t)l->tile_q, "tile_k",
                     (json_int_t)l->tile_k, "pairs", l->info.pairs, "tiles",
                     (json_int_t)l->info.tiles, "full", (json_int_t)l->info.full_tiles, "partial",
                     (json_int_t)l->info.partial_tiles);
    TRY(tool_write_json(common, json));
    ok = true;
out:
    json_decref(json);
    free(l->map);
    return ok;
}

static bool check(const struct look *l) {
    enum { MOST = 1 << 30, MOST_TILE = 1 << 20, MOST_TILES = 1 << 26 };
    if (l->seq_q < 1 || l->seq_q > MOST || l->seq_k < 1 || l->seq_k > MOST)
        return tool_error("--seq-q and --seq-k are from 1 to 2^30");
    if (l->tile_q < 1 || l->tile_q > MOST_TILE || l->tile_k < 1 || l->tile_k > MOST_TILE)
        return tool_error("--tile-q and --tile-k are from 1 to 2^20");
    return ((l->seq_q - 1) / l->tile_q + 1) <= MOST_TILES / ((l->seq_k - 1) / l->tile_k + 1) ||
           tool_error("more than 2^26 tiles: larger ones would do");
}

int command_mask(int argc, char **argv) {
    struct tool_common common = {0};
    struct look look = {.seq_q = 4096, .tile_q = 64};
    const char *const *words;
    size_t n_words;
    const struct arg args[] = {
        {"mask", ARG_STRING, &look.mask, "MASK", mask_spec_usage(), NULL, 0, NULL},
        {"seq-q", ARG_SIZE, &look.seq_q, "N", "queries; default 4096", NULL, 0, NULL},
        {"seq-k", ARG_SIZE, &look.seq_k, "N", "keys; default as --seq-q", NULL, 0, NULL},
        {"tile-q", ARG_SIZE, &look.tile_q, "N", "queries of a tile; default 64", NULL, 0, NULL},
        {"tile-k", ARG_SIZE, &look.tile_k, "N", "keys of a tile; default as --tile-q", NULL, 0,
         NULL},
        {"svg", ARG_STRING, &look.svg, "FILE", "draw it: full tiles dark, partial ones lighter",
         NULL, 0, NULL},
    };
    const struct args_command command = {
        .usage = "mask --mask MASK [OPTION]...",
        .about = "Tells how much of the score matrix a mask leaves visible and which tiles kernels "
                 "visit\nfor it, and draws them. No device takes part.",
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    if (look.seq_k == 0)
        look.seq_k = look.seq_q;
    if (look.tile_k == 0)
        look.tile_k = look.tile_q;
    if (!look.mask) {
        tool_error("--mask is missing; see `clattice help mask`");
        return TOOL_USAGE;
    }
    if (!check(&look) || !mask_spec_parse(look.mask, &look.spec) ||
        !mask_spec_fits(&look.spec, look.seq_q, look.seq_k))
        return TOOL_USAGE;
    return look_at(&common, &look) ? TOOL_OK : TOOL_FAILED;
}
