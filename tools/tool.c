#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

FILE *tool_out(const struct tool_common *common) {
    return common->json && strcmp(common->json, "-") == 0 ? stderr : stdout;
}

/*
 * Where the JSON is written: beside its file, which it replaces when it is whole. A pipe or a
 * device is written to itself. NULL: neither can be. The caller frees it.
 */
static char *json_path(const char *file) {
    struct stat status;
    const bool exists = stat(file, &status) == 0;
    if (exists && S_ISDIR(status.st_mode)) {
        tool_error("cannot write %s: it is a directory", file);
        return NULL;
    }
    char *path = NULL;
    if (asprintf(&path, "%s%s", file, exists && !S_ISREG(status.st_mode) ? "" : ".tmp") >= 0)
        return path;
    tool_error("out of memory");
    return NULL;
}

static bool writes_file(const struct tool_common *common) {
    return common->json && strcmp(common->json, "-") != 0;
}

static bool try_json_file(const char *file) {
    char *path = json_path(file);
    const bool temporary = path && strcmp(path, file) != 0;
    FILE *stream = temporary ? fopen(path, "w") : NULL;
    const bool ok = stream || (path && !temporary);
    if (path && !ok)
        tool_error("cannot write %s: %s", file, strerror(errno));
    if (stream) {
        fclose(stream);
        unlink(path);
    }
    free(path);
    return ok;
}

bool tool_begin(clat_context **out, const struct tool_common *common) {
    clat_context_options options = CLAT_CONTEXT_OPTIONS_INIT;
    options.device = common->device;
    options.log = log_line;
    options.log_user = (void *)(uintptr_t)common;
    *out = NULL;
    return (!writes_file(common) || try_json_file(common->json)) &&
           tool_clat(clat_context_create(out, &options));
}

bool tool_is_cpu(cl_device_id device) {
    cl_device_type type = 0;
    return clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof type, &type, NULL) == CL_SUCCESS &&
           (type & CL_DEVICE_TYPE_CPU);
}

bool tool_write_json(const struct tool_common *common, const json_t *json) {
    const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    if (!common->json)
        return true;
    if (!writes_file(common)) {
        if (json_dumpf(json, stdout, flags) == 0 && putchar('\n') != EOF && fflush(stdout) == 0)
            return true;
        return tool_error("cannot write JSON to standard output");
    }
    char *path = json_path(common->json);
    if (!path)
        return false;
    const bool temporary = strcmp(path, common->json) != 0;
    errno = 0;
    const bool ok =
        json_dump_file(json, path, flags) == 0 && (!temporary || rename(path, common->json) == 0);
    if (!ok)
        tool_error("cannot write %s: %s", common->json, strerror(errno));
    if (!ok && temporary)
        unlink(path);
    free(path);
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

static double process_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void sleep_until_quiet(void) {
    const double step = 1e-3, longest = 0.3, end = now_seconds() + longest;
    double used;
    do {
        used = process_seconds();
        sleep_seconds(step);
        used = process_seconds() - used;
    } while (used > 0.2 * step && now_seconds() < end);
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
