/*
 * What every command of `clattice` uses: exit codes, the report of errors, common options, numbers
 * from the command line. The tool stands on the public API alone.
 *
 * A function that returns bool has told stderr what went wrong when it returns false.
 */
#ifndef TOOL_H
#define TOOL_H

#include <clattice/clattice.h>
#include <jansson.h>

#include <stdio.h>

enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

/* Need a local `bool ok = false` that the last line before `out:` sets. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        if (!(expr))                                                                               \
            goto out;                                                                              \
    } while (0)

/* "clattice: <sentence>" on stderr; always false. */
bool tool_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tool_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* true for CLAT_OK; else reports the library's sentence. */
bool tool_clat(clat_status status);

/* true for CL_SUCCESS; else reports the call and its code. */
bool tool_cl(cl_int code, const char *call);

/* Options that every command has. */
struct tool_common {
    const char *device; /* NULL: the library's choice */
    const char *json;   /* file to write; "-" is stdout; NULL: none */
    bool verbose;
};

/* What each command starts with: a look that the file of --json can be written, before hours are
 * spent, and a context on the chosen device. The library's warnings (all lines when verbose) go to
 * stderr. */
bool tool_begin(clat_context **out, const struct tool_common *common);

/* Where people's output goes: stdout, or stderr when JSON takes stdout. */
FILE *tool_out(const struct tool_common *common);

bool tool_is_cpu(cl_device_id device);

/* Writes `json` to the file of --json, if there is one. A file is replaced at once, not in part. */
bool tool_write_json(const struct tool_common *common, const json_t *json);

/* Whole strings only; the bool is false on nonsense, silently. */
bool parse_size(const char *text, size_t *out);
bool parse_double(const char *text, double *out);

/* "a/b" words from a table of names: index of `word`, or -1. */
int find_word(const char *word, const char *const *words, size_t count);

double now_seconds(void);
void sleep_seconds(double seconds);

/* Sleeps a millisecond or more, until no thread of this process runs any more: those of OpenBLAS
 * and OpenMP spin for a while after their work, and would take a core from who comes next. */
void sleep_until_quiet(void);

/* The median; `values` is sorted in place. */
double median(double *values, size_t count);

/* "3.9 GiB" into `text`; gives `text`. */
const char *format_bytes(char *text, size_t size, uint64_t bytes);

/* The commands; argv[0] is the command's name. They return an exit code. */
int command_info(int argc, char **argv);
int command_check(int argc, char **argv);
int command_tune(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_report(int argc, char **argv);
int command_mask(int argc, char **argv);
int command_demo(int argc, char **argv);

#endif
