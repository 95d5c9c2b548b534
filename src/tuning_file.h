/* The JSON form of tuned values, as docs/config-files.md describes it. */
#ifndef CLAT_TUNING_FILE_H
#define CLAT_TUNING_FILE_H

#include "tuning.h"

enum { TUNED_SCHEMA = 1 };

/* The device a file was measured on, in printable ASCII so that it survives JSON unchanged. */
struct tuned_device {
    char name[256], vendor[32], architecture[64], driver[128], platform[256];
    uint64_t compute_units;
};

struct tuned_file {
    struct tuned_device device;
    struct tuned_entry *entries; /* rank, origin and the flags are the loader's to fill */
    size_t count;
};

void tuned_device_of(struct tuned_device *out, const struct device *device);

/* INVALID_FILE with a sentence that names file, entry and field. Nothing half-read comes back. */
clat_status tuned_file_parse(struct tuned_file *out, const char *name, const char *data,
                             size_t size);

/* The same from disk: also NOT_FOUND and IO_ERROR. */
clat_status tuned_file_read(struct tuned_file *out, const char *path);

/* Sorts the entries; equal contents give equal bytes. */
clat_status tuned_file_print(struct tuned_file *file, struct text *out);

/* Replaces `path` in one step: readers see the old file or the new one. */
clat_status tuned_file_write(const char *path, const struct text *content);

/* Creates the directories that lead to `path`. */
clat_status tuned_file_make_parents(const char *path);

void tuned_file_free(struct tuned_file *file);

/* Equal op, implementation, variant and shape. */
bool tuned_entry_same(const struct tuned_entry *a, const struct tuned_entry *b);

/* Puts `entry` in the place of its like among those from `first` on, else at the end. */
clat_status tuned_list_put(struct tuned_entry **entries, size_t *count, size_t *capacity,
                           size_t first, const struct tuned_entry *entry);

/* A path that is too long loses its beginning, the end says more. */
void tuned_copy_tail(char *out, size_t size, const char *path);

#endif
