#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool tool_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("clattice: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

void tool_note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("note: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

bool tool_clat(clat_status status) {
    if (status == CLAT_OK)
        return true;
    const char *text = clat_error_text();
    return tool_error("%s: %s", clat_status_name(status),
                      text[0] ? text : clat_status_meaning(status));
}

bool tool_cl(cl_int code, const char *call) {
    if (code == CL_SUCCESS)
        return true;
    return tool_error("%.*s failed with OpenCL code %d", (int)strcspn(call, "("), call, code);
}

static void log_line(void *user, clat_log_level level, const char *line) {
    const struct tool_common *common = user;
    if (common->verbose || level == CLAT_LOG_WARNING)
        fprintf(stderr, "%s: %s\n", level == CLAT_LOG_WARNING ? "warning" : "log", line);
}

bool tool_context(clat_context **out, const struct tool_common *common) {
    clat_context_options options = CLAT_CONTEXT_OPTIONS_INIT;
    options.device = common->device;
    options.log = log_line;
    options.log_user = (void *)(uintptr_t)common;
    return tool_clat(clat_context_create(out, &options));
}

FILE *tool_out(const struct tool_common *common) {
    return common->json && strcmp(common->json, "-") == 0 ? stderr : stdout;
}

bool tool_write_json(const struct tool_common *common, const json_t *json) {
    const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    char *temporary = NULL;
    bool ok = false;

    if (!common->json)
        return true;
    if (strcmp(common->json, "-") == 0) {
        if (json_dumpf(json, stdout, flags) == 0 && putchar('\n') != EOF && fflush(stdout) == 0)
            return true;
        return tool_error("cannot write JSON to standard output");
    }

    const size_t size = strlen(common->json) + sizeof ".tmp";
    temporary = malloc(size);
    if (!temporary) {
        tool_error("out of memory");
        goto out;
    }
    snprintf(temporary, size, "%s.tmp", common->json);
    errno = 0;
    if (json_dump_file(json, temporary, flags) != 0 || rename(temporary, common->json) != 0) {
        tool_error("cannot write %s: %s", common->json, strerror(errno));
        unlink(temporary);
        goto out;
    }
    ok = true;
out:
    free(temporary);
    return ok;
}

bool parse_size(const char *text, size_t *out) {
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || value > SIZE_MAX)
        return false;
    *out = (size_t)value;
    return true;
}

bool parse_double(const char *text, double *out) {
    char *end = NULL;
    errno = 0;
    const double value = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

int find_word(const char *word, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return (int)i;
    return -1;
}

double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void sleep_seconds(double seconds) {
    struct timespec rest = {.tv_sec = (time_t)seconds};
    rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        ;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, size_t count) {
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare_doubles);
    const size_t half = count / 2;
    return count % 2 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

const char *format_bytes(char *text, size_t size, uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}
