/* Tuning a list of problems with progress on screen; `tune` and `demo` share it. */
#ifndef TUNING_RUN_H
#define TUNING_RUN_H

#include "spec.h"

struct tuning_run {
    double budget; /* seconds for all */
    const char *implementation;
    bool dry_run;
    FILE *file;
    json_t *rows;     /* one for each problem: what it got; may be NULL */
    bool interrupted; /* out: SIGINT came */
};

/* Problems that nothing on this device supports are left out with a note. */
bool tuning_run(clat_context *ctx, const struct spec *specs, size_t count, struct tuning_run *run);

#endif
