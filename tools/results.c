#include "results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static void set_suite(struct results *results, const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    snprintf(results->suite, sizeof results->suite, "%.*s",
             (int)(dot ? dot - name : (long)strlen(name)), name);
}

/* Adds a name that is not there yet, while there is room. */
static void add_name(const char **names, unsigned *count, unsigned most, const char *name) {
    for (unsigned i = 0; i < *count; i++)
        if (strcmp(names[i], name) == 0)
            return;
    if (*count < most)
        names[(*count)++] = name;
}

/* Rows of the file that differ only in the peer become one. */
static void add_row(struct results *results, const json_t *row) {
    const char *name = string(row, "name"), *peer = string(row, "peer");
    const char *group = string(row, "group");
    struct result *last = results->count ? &results->rows[results->count - 1] : NULL;
    if (!last || !last->name || strcmp(last->name, name) != 0) {
        last = &results->rows[results->count++];
        *last = (struct result){.name = name,
                                .group = group ? group : "",
                                .problem = json_object_get(row, "problem"),
                                .ms = number(row, "ms"),
                                .gflops = number(row, "gflops"),
                                .error = number(row, "max_err"),
                                .bound = number(row, "err_bound"),
                                .ok = json_is_true(json_object_get(row, "ok"))};
        add_name(results->groups, &results->n_groups, RESULTS_GROUPS, last->group);
    }
    if (!peer || last->n_peers == PEER_MAX)
        return;
    add_name(results->peers, &results->n_peers, PEER_MAX, peer);
    last->peers[last->n_peers].name = peer;
    last->peers[last->n_peers].ms = number(row, "peer_ms");
    last->peers[last->n_peers++].ratio = number(row, "ratio");
}

/* What all rows say under `key`; NULL: they differ. */
static const char *common(const json_t *rows, const char *key) {
    const char *first = string(json_array_get(rows, 0), key);
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const char *text = string(row, key);
        if (!first || !text || strcmp(first, text) != 0)
            return NULL;
    }
    return first;
}

bool results_load(struct results *out, const char *path) {
    json_error_t error;
    *out = (struct results){.json = json_load_file(path, 0, &error)};
    set_suite(out, path);
    if (!out->json)
        return tool_error("%s: %s", path, error.text);
    const size_t count = json_array_size(out->json);
    if (count == 0 || !string(json_array_get(out->json, 0), "name"))
        return true;
    out->rows = calloc(count, sizeof *out->rows);
    if (!out->rows) {
        results_free(out);
        return tool_error("out of memory");
    }
    out->command = string(json_array_get(out->json, 0), "command");
    out->libraries = string(json_array_get(out->json, 0), "libraries");
    out->device = common(out->json, "device");
    out->implementation = common(out->json, "implementation");
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(out->json, i);
        if (string(row, "name"))
            add_row(out, row);
    }
    return true;
}

void results_free(struct results *results) {
    free(results->rows);
    json_decref(results->json);
    *results = (struct results){0};
}

int result_peer(const struct result *row, const char *peer) {
    for (unsigned i = 0; i < row->n_peers; i++)
        if (strcmp(row->peers[i].name, peer) == 0)
            return (int)i;
    return -1;
}

size_t results_ratios(const struct results *results, const char *group, const char *peer,
                      double *mean, double *least) {
    double sum = 0;
    size_t count = 0;
    *least = INFINITY;
    for (size_t i = 0; i < results->count; i++) {
        const struct result *row = &results->rows[i];
        const int p = result_peer(row, peer);
        if (strcmp(row->group, group) != 0 || p < 0 || !row->ok || !(row->peers[p].ratio > 0))
            continue;
        sum += log(row->peers[p].ratio);
        *least = fmin(*least, row->peers[p].ratio);
        count++;
    }
    *mean = count ? exp(sum / (double)count) : 0;
    return count;
}
