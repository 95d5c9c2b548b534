#include "report.h"
#include "table.h"

#include <string.h>

static const struct column columns[] = {
    {"operation", -38}, {"impl", -9},           {"tunables", -28},    {"ms", 6},
    {"GFLOP/s", 7},     {"ratio to peer", -23}, {"error/bound", -15}, {"ok?", -4},
};
enum { N_COLUMNS = sizeof columns / sizeof columns[0] };

void report_head(FILE *file) {
    table_head(file, columns, N_COLUMNS);
}

/* "MR=12 NV=2" as "MR12 NV2": there are many of them, and the line is full. */
static const char *shorten(char *text, size_t size, const char *tunables) {
    size_t length = 0;
    for (; *tunables && length + 1 < size; tunables++)
        if (*tunables != '=')
            text[length++] = *tunables;
    text[length] = '\0';
    return text;
}

static void print_line(FILE *file, const struct measurement *m, const struct measure_peer *peer,
                       bool first) {
    char name[SPEC_TEXT_BYTES], ms[32], gflops[32], ratio[32] = "", error[48];
    char tunables[sizeof m->tunables];
    /* A composite's tunables name the implementation of each part. */
    const bool composite = strcmp(m->implementation, "composite") == 0;
    if (peer && peer->ratio > 0)
        snprintf(ratio, sizeof ratio, "%sx %s", format_number(ms, sizeof ms, peer->ratio),
                 peer->peer->name);
    else if (peer)
        snprintf(ratio, sizeof ratio, "%s %s", peer->failed ? "failed" : "wrong", peer->peer->name);
    snprintf(error, sizeof error, "%.1e/%.1e", m->verdict.worst, m->verdict.bound);
    const char *cells[N_COLUMNS] = {spec_print(name, sizeof name, &m->spec),
                                    composite ? "-" : m->implementation,
                                    shorten(tunables, sizeof tunables, m->tunables),
                                    format_number(ms, sizeof ms, m->ms),
                                    format_number(gflops, sizeof gflops, m->gflops),
                                    ratio[0] ? ratio : "-",
                                    error,
                                    m->verdict.ok ? "ok" : "FAIL"};
    if (!first)
        for (size_t i = 0; i < N_COLUMNS; i++)
            if (i != 5)
                cells[i] = "";
    table_row(file, columns, N_COLUMNS, cells);
}

void report_measurement(FILE *file, const struct measurement *m) {
    print_line(file, m, m->n_peers ? &m->peers[0] : NULL, true);
    for (unsigned i = 1; i < m->n_peers; i++)
        print_line(file, m, &m->peers[i], false);
    if (!m->verdict.ok)
        fprintf(file, "  wrong: %s%s\n", m->verdict.where,
                m->verdict.guards ? "" : "; elements outside the output were written");
}

bool report_device(FILE *file, clat_context *ctx, clat_device_info *info) {
    char memory[32];
    if (!tool_clat(clat_context_info(ctx, info)))
        return false;
    fprintf(file, "device   %s (%s), %u compute units, %s\n", info->name, info->architecture,
            info->compute_units, format_bytes(memory, sizeof memory, info->global_bytes));
    fprintf(file, "driver   %s, %s\n", info->driver, info->platform);
    return true;
}
