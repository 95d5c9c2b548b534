#include "summary.h"
#include "table.h"

#include <math.h>
#include <string.h>

/* The entry of a peer, in the order in which they first occur. */
static struct summary_peer *entry(struct summary *summary, const char *name) {
    unsigned i = 0;
    while (i < summary->n_peers && strcmp(summary->peers[i].name, name) != 0)
        i++;
    if (i == summary->n_peers)
        summary->peers[summary->n_peers++].name = name;
    return &summary->peers[i];
}

void summary_add(struct summary *summary, const struct measurement *m) {
    for (unsigned i = 0; i < m->n_peers; i++) {
        const double ratio = m->peers[i].ratio;
        if (!(ratio > 0) || !m->verdict.ok)
            continue;
        struct summary_peer *peer = entry(summary, m->peers[i].peer->name);
        if (peer->count == 0 || ratio < peer->least) {
            peer->least = ratio;
            peer->worst = m->spec;
        }
        peer->log_sum += log(ratio);
        peer->count++;
    }
}

double summary_mean(const struct summary_peer *peer) {
    return peer->count ? exp(peer->log_sum / peer->count) : 0;
}

void summary_print(FILE *file, const struct summary *summary) {
    char mean[32], least[32], name[SPEC_TEXT_BYTES];
    bool first = true;
    for (unsigned i = 0; i < summary->n_peers; i++) {
        const struct summary_peer *peer = &summary->peers[i];
        if (peer->count < 2)
            continue;
        if (first)
            fputc('\n', file);
        first = false;
        fprintf(file, "%-16s  geometric mean %s, minimum %s (%s), %u problems\n", peer->name,
                format_number(mean, sizeof mean, summary_mean(peer)),
                format_number(least, sizeof least, peer->least),
                spec_print(name, sizeof name, &peer->worst), peer->count);
    }
}
