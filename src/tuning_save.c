#include "tuning_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static void stamp_date(char out[16]) {
    time_t now = time(NULL);
    struct tm utc;
    out[0] = '\0';
    if (gmtime_r(&now, &utc) != NULL)
        strftime(out, 16, "%Y-%m-%d", &utc);
}

clat_status tuning_put(struct tuning *tuning, const struct tuned_entry *entry) {
    struct tuned_entry own;
    struct tuned_device device;
    tuned_device_of(&device, tuning->device);
    tuned_entry_copy(&own, entry);
    own.rank = TUNED_DEVICE;
    own.shipped = own.stale_noted = false;
    strcpy(own.driver, device.driver);
    stamp_date(own.date);
    tuned_copy_tail(own.origin, sizeof own.origin,
                    tuning->file != NULL ? tuning->file : "(not saved)");

    pthread_mutex_lock(&tuning->lock);
    own.unsaved = ++tuning->generation;
    /* Of several alike, the user's own one of this device is replaced; shipped ones stay. */
    size_t first = 0;
    while (first < tuning->count &&
           (tuning->entries[first].shipped || tuning->entries[first].rank != TUNED_DEVICE ||
            !tuned_entry_same(&tuning->entries[first], &own)))
        first++;
    clat_status st =
        tuned_list_put(&tuning->entries, &tuning->count, &tuning->capacity, first, &own);
    pthread_mutex_unlock(&tuning->lock);
    return st;
}

/* Waits for the lock file beside `path`; the tuned file itself is replaced, so it cannot serve. */
static clat_status lock_file(int *out, const char *path) {
    char *name = text_format("%s.lock", path);
    if (name == NULL)
        return status_no_memory(strlen(path) + 6);
    clat_status st = CLAT_OK;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666), locked = -1;
    while (fd >= 0 && (locked = flock(fd, LOCK_EX)) != 0 && errno == EINTR)
        ;
    if (locked != 0) {
        st = status_fail(CLAT_IO_ERROR, "cannot lock %s: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
    } else {
        *out = fd;
    }
    free(name);
    return st;
}

/* What is in the file now and may stay; a file that is not ours to rewrite moves aside. */
static clat_status read_present(struct tuning *tuning, struct tuned_file *out) {
    struct tuned_device own;
    tuned_device_of(&own, tuning->device);
    clat_status st = tuned_file_read(out, tuning->file);
    if (st == CLAT_OUT_OF_MEMORY || st == CLAT_IO_ERROR)
        return st;
    bool foreign = st == CLAT_OK && strcmp(out->device.name, own.name) != 0;
    if (st == CLAT_INVALID_FILE || foreign) {
        tuned_file_free(out);
        char *aside = text_format("%s.old", tuning->file);
        if (aside == NULL)
            return status_no_memory(strlen(tuning->file) + 5);
        bool moved = rename(tuning->file, aside) == 0;
        int error = errno;
        if (moved)
            log_printf(tuning->log, CLAT_LOG_WARNING, "tuned file %s %s; it is now %s",
                       tuning->file, foreign ? "is for another device" : "is malformed", aside);
        free(aside);
        if (!moved)
            return status_fail(CLAT_IO_ERROR, "cannot move %s aside: %s", tuning->file,
                               strerror(error));
    }
    out->device = own;
    return CLAT_OK;
}

static clat_status merge(struct tuning *tuning, struct tuned_file *file, unsigned *generation) {
    size_t capacity = file->count;
    clat_status st = CLAT_OK;
    pthread_mutex_lock(&tuning->lock);
    *generation = tuning->generation;
    for (size_t i = 0; st == CLAT_OK && i < tuning->count; i++)
        if (tuning->entries[i].unsaved != 0)
            st = tuned_list_put(&file->entries, &file->count, &capacity, 0, &tuning->entries[i]);
    pthread_mutex_unlock(&tuning->lock);
    return st;
}

static void mark_saved(struct tuning *tuning, unsigned generation) {
    pthread_mutex_lock(&tuning->lock);
    for (size_t i = 0; i < tuning->count; i++)
        if (tuning->entries[i].unsaved <= generation)
            tuning->entries[i].unsaved = 0;
    pthread_mutex_unlock(&tuning->lock);
}

clat_status tuning_save(struct tuning *tuning) {
    struct tuned_file file = {0};
    struct text content = {0};
    unsigned generation = 0;
    int lock = -1;
    clat_status st = CLAT_OK;
    if (tuning->file == NULL)
        return status_fail(CLAT_NOT_FOUND, "there is no tuned file to write");
    TRY(tuned_file_make_parents(tuning->file));
    TRY(lock_file(&lock, tuning->file));
    TRY(read_present(tuning, &file));
    TRY(merge(tuning, &file, &generation));
    TRY(tuned_file_print(&file, &content));
    TRY(tuned_file_write(tuning->file, &content));
    mark_saved(tuning, generation);
    status_clear();
out:
    if (lock >= 0)
        close(lock);
    text_free(&content);
    tuned_file_free(&file);
    return st;
}
