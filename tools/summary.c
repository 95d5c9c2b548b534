#include "summary.h"
#include "table.h"

#include <math.h>
#include <string.h>

/* The line of a group and a peer, in the order in which they first occur; NULL: too many. */
static struct summary_line *find_line(struct summary *summary, const char *group,
                                      const char *peer) {
    for (unsigned i = 0; i < summary->count; i++)
        if (strcmp(summary->lines[i].group, group) == 0 &&
            strcmp(summary->lines[i].peer, peer) == 0)
            return &summary->lines[i];
    if (summary->count == SUMMARY_MAX)
        return NULL;
    struct summary_line *line = &summary->lines[summary->count++];
    *line = (struct summary_line){.group = group, .peer = peer};
    return line;
}

void summary_add(struct summary *summary, const struct measurement *m) {
    const char *group = m->spec.group ? m->spec.group : "";
    for (unsigned i = 0; i < m->n_peers; i++) {
        const double ratio = m->peers[i].ratio;
        struct summary_line *line =
            m->verdict.ok && ratio > 0 ? find_line(summary, group, m->peers[i].peer->name) : NULL;
        if (!line)
            continue;
        if (line->count == 0 || ratio < line->least) {
            line->least = ratio;
            line->worst = m->spec;
        }
        line->log_sum += log(ratio);
        line->count++;
    }
}

void summary_print(FILE *file, const struct summary *summary) {
    char mean[32], least[32], name[SPEC_TEXT_BYTES];
    const char *group = NULL;
    for (unsigned i = 0; i < summary->count; i++) {
        const struct summary_line *line = &summary->lines[i];
        if (line->count < 2)
            continue;
        if (!group || strcmp(group, line->group) != 0)
            fprintf(file, "\n%s%s", line->group, line->group[0] ? "\n" : "");
        group = line->group;
        fprintf(file, "  %-16s  geometric mean %5s, minimum %5s (%s), %u problems\n", line->peer,
                format_number(mean, sizeof mean, exp(line->log_sum / line->count)),
                format_number(least, sizeof least, line->least),
                spec_print(name, sizeof name, &line->worst), line->count);
    }
}
