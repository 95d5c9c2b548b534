/* Lines for the application's log callback. Never call with a lock held. */
#ifndef CLAT_LOG_H
#define CLAT_LOG_H

#include <clattice/clattice.h>

struct logger {
    clat_log_fn fn; /* may be NULL */
    void *user;
};

void log_printf(const struct logger *log, clat_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
