/* Which implementation runs a problem, with which tunables, and where they came from. */
#ifndef CLAT_CHOICE_H
#define CLAT_CHOICE_H

#include "context.h"
#include "op.h"

struct choice {
    const struct implementation *impl;
    int values[OP_MAX_TUNABLES];
    char from[256]; /* "guess", "caller", or the tuned file and its entry */
    bool tuned;     /* a file has values for this device and this very shape */
};

/* The caller's wishes, whatever the problem: NOT_FOUND, INVALID_TUNABLES. */
clat_status choice_check(const struct operation *op, const char *implementation,
                         const char *tunables);

/*
 * In order: the tunables the caller gave; the nearest tuned entry that is fresh, supported and
 * legal; the first implementation made for this device, or the one the caller named, with its
 * guess. NOT_FOUND, UNSUPPORTED, INVALID_TUNABLES.
 */
clat_status choice_make(struct choice *out, clat_context *ctx, const struct operation *op,
                        const void *problem, const char *implementation, const char *tunables);

/* A line for each implementation: chosen, or why not. */
void choice_explain(const struct choice *choice, clat_context *ctx, const struct operation *op,
                    const void *problem, const char *implementation, struct text *out);

#endif
