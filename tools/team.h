/* Threads for peers on the host: as many as CPUs, asleep while nothing is to do. */
#ifndef TEAM_H
#define TEAM_H

#include <stdbool.h>
#include <stddef.h>

enum { TEAM_MAX = 256 };

/* CPUs this process may run on. */
unsigned team_size(void);

typedef void (*team_fn)(void *arg, size_t index, unsigned thread);

/*
 * Calls fn(arg, i, thread) for each i of 0 .. count-1, on all threads, `chunk` neighbours at a time
 * to whoever is free; thread < team_size(). Waits. Starts the threads when first used. One caller
 * at a time. false: no threads can be had, which stderr knows.
 */
bool team_for(size_t count, size_t chunk, team_fn fn, void *arg);

/* Ends the threads; the next team_for starts new ones. */
void team_finish(void);

#endif
