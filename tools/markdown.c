#include "publish.h"
#include "table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char end_mark[] = "<!-- end -->";

static void write_number(FILE *file, double value) {
    char text[32];
    fprintf(file, " %s |", value > 0 ? format_number(text, sizeof text, value) : "-");
}

static void write_totals(FILE *file, const struct results *results, const char *group,
                         const char *title, bool mean) {
    fprintf(file, "| **%s%s%s** | | |", group, group[0] ? ": " : "", title);
    for (unsigned p = 0; p < results->n_peers; p++) {
        double values[2];
        char text[32];
        if (results_ratios(results, group, results->peers[p], &values[0], &values[1]))
            fprintf(file, " **%s** |", format_number(text, sizeof text, values[mean ? 0 : 1]));
        else
            fputs(" |", file);
    }
    fputs(" |\n", file);
}

static void write_table(FILE *file, const struct results *results) {
    if (results->command)
        fprintf(file, "    %s\n\n", results->command);
    else
        fprintf(file, "    clattice bench %s\n\n", results->suite);
    if (results->device)
        fprintf(file, "On %s", results->device);
    if (results->device && results->implementation)
        fprintf(file, " by `%s`", results->implementation);
    if (results->device && results->libraries)
        fputs("; ", file);
    if (results->device || results->libraries)
        fprintf(file, "%s.\n\n", results->libraries ? results->libraries : "");
    fputs("| problem | ms | GFLOP/s |", file);
    for (unsigned p = 0; p < results->n_peers; p++)
        fprintf(file, " %s |", results->peers[p]);
    fputs(" error/bound |\n|---|--:|--:|", file);
    for (unsigned p = 0; p < results->n_peers; p++)
        fputs("--:|", file);
    fputs("--:|\n", file);
    for (size_t i = 0; i < results->count; i++) {
        const struct result *row = &results->rows[i];
        fprintf(file, "| %s |", row->name);
        write_number(file, row->ms);
        write_number(file, row->gflops);
        for (unsigned p = 0; p < results->n_peers; p++) {
            const int at = result_peer(row, results->peers[p]);
            write_number(file, at < 0 ? 0 : row->peers[at].ratio);
        }
        if (row->ok)
            fprintf(file, " %.2f |\n", row->bound > 0 ? row->error / row->bound : 0);
        else
            fputs(" **wrong** |\n", file);
    }
    for (unsigned g = 0; g < results->n_groups && results->n_peers; g++) {
        write_totals(file, results, results->groups[g], "geometric mean", true);
        write_totals(file, results, results->groups[g], "minimum", false);
    }
}

/* What `bench overhead` wrote. */
static void write_costs(FILE *file, const struct results *results) {
    fprintf(file, "    clattice bench %s\n\n| what | |\n|---|--:|\n", results->suite);
    size_t i;
    json_t *row;
    json_array_foreach(results->json, i, row) {
        const char *what = json_string_value(json_object_get(row, "what"));
        const char *unit = json_string_value(json_object_get(row, "unit"));
        char number[32];
        if (!what || !unit)
            continue;
        const size_t indent = strspn(what, " ");
        format_number(number, sizeof number, json_number_value(json_object_get(row, "value")));
        fprintf(file, "| %s%s | %s %s |\n", indent ? "&emsp;" : "", what + indent, number, unit);
    }
}

/* What `info` wrote: the machine and the peers. */
static void write_machine(FILE *file, const struct results *results) {
    static const char *const keys[] = {"name", "driver", "platform", "compute_units"};
    const json_t *device = json_object_get(results->json, "device");
    const char *name, *version = json_string_value(json_object_get(results->json, "version"));
    json_t *value;
    fprintf(file, "| | |\n|---|---|\n| clattice | %s |\n", version ? version : "");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        value = json_object_get(device, keys[i]);
        if (json_is_string(value))
            fprintf(file, "| %s | %s |\n", keys[i], json_string_value(value));
        else if (json_is_integer(value))
            fprintf(file, "| %s | %lld |\n", keys[i], (long long)json_integer_value(value));
    }
    json_object_foreach(json_object_get(results->json, "peers"), name, value)
        fprintf(file, "| %s | %s |\n", name, json_string_value(value));
}

static void write_results(FILE *file, const struct results *results) {
    if (results->rows)
        write_table(file, results);
    else if (json_is_array(results->json))
        write_costs(file, results);
    else
        write_machine(file, results);
}

/* The whole file, with a 0 behind it; NULL: it cannot be read. */
static char *read_file(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    errno = 0;
    const bool ok = file && (getdelim(&text, &size, '\0', file) > 0 || !ferror(file));
    if (file)
        fclose(file);
    if (ok && text)
        return text;
    tool_error("cannot read %s: %s", path, errno ? strerror(errno) : "it is empty");
    free(text);
    return NULL;
}

/* `text` with the results in their place; NULL: out of memory. `text` is freed. */
static char *put(char *text, const struct results *results) {
    char mark[96], *out = NULL;
    size_t size;
    snprintf(mark, sizeof mark, "<!-- results: %s -->\n", results->suite);
    char *start = strstr(text, mark), *end = start ? strstr(start, end_mark) : NULL;
    if (!end) {
        tool_note("no place for the results of %s", results->suite);
        return text;
    }
    FILE *file = open_memstream(&out, &size);
    if (file) {
        start += strlen(mark);
        fwrite(text, 1, (size_t)(start - text), file);
        write_results(file, results);
        fputs(end, file);
        fclose(file);
    }
    free(text);
    return out;
}

bool markdown_update(const char *path, const struct results *results, size_t count) {
    char *text = read_file(path), *temporary = NULL;
    if (!text)
        return false;
    for (size_t i = 0; i < count && text; i++)
        text = put(text, &results[i]);
    if (!text || asprintf(&temporary, "%s.tmp", path) < 0) {
        free(text);
        return tool_error("out of memory");
    }
    FILE *file = fopen(temporary, "w");
    const bool ok =
        file && fputs(text, file) >= 0 && fclose(file) == 0 && rename(temporary, path) == 0;
    if (!ok) {
        tool_error("cannot write %s: %s", path, strerror(errno));
        unlink(temporary);
    }
    free(temporary);
    free(text);
    return ok;
}
