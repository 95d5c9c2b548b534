/* What the library writes to disk: directories, and files that appear whole or not at all. */
#ifndef CLAT_FILES_H
#define CLAT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The directories that `path` lies in; `path` itself as well. 0, or an errno. One that exists
 * already is fine. */
int files_make_parents(const char *path, mode_t mode);
int files_make_directories(const char *path, mode_t mode);

/* Creates a file of which nobody knows the name: `pattern` ends with XXXXXX, which the name
 * replaces. -1 and errno on failure. */
int files_open_temporary(char *pattern);

struct file_part {
    const void *data;
    size_t size;
};

struct file_replacement {
    char *temporary; /* a pattern as above, in the directory of the file */
    mode_t mode;     /* 0: for the user alone */
    bool sync;       /* survives a power failure right after */
    unsigned count;
    struct file_part parts[2];
};

/* Writes the parts to a temporary file and renames it to `path`, so that no reader ever sees half
 * of it. 0, or an errno; the temporary file is gone then. */
int files_replace(const char *path, const struct file_replacement *with);

#endif
