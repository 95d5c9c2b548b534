#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_directory(const char *path, mode_t mode) {
    return mkdir(path, mode) != 0 && errno != EEXIST ? errno : 0;
}

int files_make_parents(const char *path, mode_t mode) {
    char *partial = strdup(path);
    if (partial == NULL)
        return ENOMEM;
    int error = 0;
    /* From the second character on: "/" needs no making. */
    for (char *slash = partial; error == 0 && *slash != '\0';) {
        slash = strchr(slash + 1, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
        error = make_directory(partial, mode);
        *slash = '/';
    }
    free(partial);
    return error;
}

int files_make_directories(const char *path, mode_t mode) {
    const int error = files_make_parents(path, mode);
    return error != 0 ? error : make_directory(path, mode);
}

int files_open_temporary(char *pattern) {
    return mkostemp(pattern, O_CLOEXEC);
}

static bool write_all(int fd, const struct file_part *part) {
    const unsigned char *at = part->data;
    for (size_t left = part->size; left > 0;) {
        const ssize_t put = write(fd, at, left);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        left -= (size_t)put;
    }
    return true;
}

static bool write_parts(int fd, const struct file_replacement *with) {
    for (unsigned i = 0; i < with->count; i++)
        if (!write_all(fd, &with->parts[i]))
            return false;
    return (with->mode == 0 || fchmod(fd, with->mode) == 0) && (!with->sync || fsync(fd) == 0);
}

int files_replace(const char *path, const struct file_replacement *with) {
    const int fd = files_open_temporary(with->temporary);
    if (fd < 0)
        return errno;
    int error = write_parts(fd, with) ? 0 : errno;
    if (close(fd) != 0 && error == 0)
        error = errno;
    if (error == 0 && rename(with->temporary, path) != 0)
        error = errno;
    if (error != 0)
        unlink(with->temporary);
    return error;
}
