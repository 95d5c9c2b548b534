/* The tuner's progress: one line redrawn on a terminal, plain lines now and then elsewhere. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "tool.h"

struct progress {
    FILE *file;
    bool terminal;
    double next;  /* when the next line is due */
    size_t index; /* problem of the last line */
    bool drawn;   /* a redrawn line stands there */
    size_t tried, rejected;
};

void progress_begin(struct progress *progress, FILE *file);

/* A clat_tune_fn; `user` is a struct progress. Stops the tuning after an interrupt (SIGINT). */
bool progress_step(void *user, const clat_tune_progress *step);

/* Ends the line and the watch for interrupts. */
void progress_end(struct progress *progress);

#endif
