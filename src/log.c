#include "log.h"

#include <stdarg.h>
#include <stdio.h>

void log_printf(const struct logger *log, clat_log_level level, const char *format, ...) {
    if (log == NULL || log->fn == NULL)
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log->fn(log->user, level, line);
}
