#include "tuning.h"

#include "tuning_file.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- entries and shapes ---- */

/* Also relinks an entry that was moved as bytes: pass it twice. */
void tuned_entry_copy(struct tuned_entry *out, const struct tuned_entry *entry) {
    if (out != entry)
        *out = *entry;
    for (unsigned i = 0; i < out->shape.count; i++) {
        if (out != entry)
            snprintf(out->dim_names[i], sizeof out->dim_names[i], "%s", entry->shape.dim[i].name);
        out->shape.dim[i].name = out->dim_names[i];
    }
}

/* true: the two have the same dims, in any order; `other` then holds b's values in a's order. */
static bool shape_align(const struct shape *a, const struct shape *b, uint64_t other[OP_MAX_DIMS]) {
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++) {
        unsigned j = 0;
        while (j < b->count && strcmp(a->dim[i].name, b->dim[j].name) != 0)
            j++;
        if (j == b->count)
            return false;
        other[i] = b->dim[j].value;
    }
    return true;
}

bool tuned_entry_same(const struct tuned_entry *a, const struct tuned_entry *b) {
    uint64_t other[OP_MAX_DIMS];
    if (strcmp(a->op, b->op) != 0 || strcmp(a->implementation, b->implementation) != 0 ||
        strcmp(a->shape.variant, b->shape.variant) != 0 ||
        !shape_align(&a->shape, &b->shape, other))
        return false;
    for (unsigned i = 0; i < a->shape.count; i++)
        if (a->shape.dim[i].value != other[i])
            return false;
    return true;
}

clat_status tuned_list_put(struct tuned_entry **entries, size_t *count, size_t *capacity,
                           size_t first, const struct tuned_entry *entry) {
    size_t at = first;
    while (at < *count && !tuned_entry_same(&(*entries)[at], entry))
        at++;
    if (at == *capacity) {
        size_t wanted = *capacity > 0 ? 2 * *capacity : 16;
        struct tuned_entry *grown = realloc(*entries, wanted * sizeof *grown);
        if (grown == NULL)
            return status_no_memory(wanted * sizeof *grown);
        for (size_t i = 0; i < *count; i++)
            tuned_entry_copy(&grown[i], &grown[i]);
        *entries = grown;
        *capacity = wanted;
    }
    tuned_entry_copy(&(*entries)[at], entry);
    if (at == *count)
        ++*count;
    return CLAT_OK;
}

void tuned_copy_tail(char *out, size_t size, const char *path) {
    size_t length = strlen(path);
    if (length < size)
        memcpy(out, path, length + 1);
    else
        snprintf(out, size, "...%s", path + length - (size - 4));
}

/* ---- loading ---- */

/* How close the device of a file is to ours; false: too far for its values to mean anything. */
static bool device_rank(const struct tuned_device *own, const struct tuned_device *other,
                        const char *driver, enum tuned_rank *rank) {
    if (strcmp(own->name, other->name) == 0 && strcmp(own->driver, driver) == 0)
        *rank = TUNED_DEVICE;
    else if (strcmp(own->architecture, other->architecture) == 0)
        *rank = TUNED_ARCHITECTURE;
    else if (strcmp(own->vendor, other->vendor) == 0 &&
             strcmp(own->vendor, device_vendor_slug(VENDOR_OTHER)) != 0)
        *rank = TUNED_VENDOR;
    else
        return false;
    return true;
}

/* Takes over the entries of a file that parsed. */
static clat_status adopt(struct tuning *tuning, const struct tuned_file *file, const char *origin,
                         bool shipped) {
    struct tuned_device own;
    size_t first = tuning->count, used = 0;
    tuned_device_of(&own, tuning->device);
    for (size_t i = 0; i < file->count; i++) {
        struct tuned_entry *entry = &file->entries[i];
        if (!device_rank(&own, &file->device, entry->driver, &entry->rank))
            continue;
        entry->shipped = shipped;
        tuned_copy_tail(entry->origin, sizeof entry->origin, origin);
        clat_status st =
            tuned_list_put(&tuning->entries, &tuning->count, &tuning->capacity, first, entry);
        if (st != CLAT_OK)
            return st;
        used++;
    }
    if (used > 0 || !shipped) /* most of what is shipped is for others */
        log_printf(tuning->log, CLAT_LOG_DEBUG,
                   "tuned file %s: %zu of %zu entries are for this device", origin, used,
                   file->count);
    return CLAT_OK;
}

/* What reading and parsing came to: only exhausted memory is more than a log line. */
static clat_status take_over(struct tuning *tuning, clat_status read, struct tuned_file *file,
                             const char *origin, bool shipped) {
    if (read == CLAT_OK)
        read = adopt(tuning, file, origin, shipped);
    else if (read != CLAT_NOT_FOUND && read != CLAT_OUT_OF_MEMORY)
        log_printf(tuning->log, CLAT_LOG_WARNING, "%s; the file is ignored", clat_error_text());
    tuned_file_free(file);
    return read == CLAT_OUT_OF_MEMORY ? read : CLAT_OK;
}

static clat_status load(struct tuning *tuning, const char *path, bool shipped) {
    struct tuned_file file;
    clat_status read = tuned_file_read(&file, path);
    return take_over(tuning, read, &file, path, shipped);
}

static int is_json(const struct dirent *file) {
    size_t length = strlen(file->d_name);
    return file->d_name[0] != '.' && length > 5 && strcmp(file->d_name + length - 5, ".json") == 0;
}

/* Whether one of the first `count` kernel directories holds a tuned file of this name: it hides
 * those of the same name further down, as with kernel files. */
static bool hidden(const struct program_store *programs, size_t count, const char *name) {
    bool found = false;
    for (size_t i = 0; !found && i < count; i++) {
        if (programs->directory[i] == NULL)
            continue;
        char *path = text_format("%s/tuned/%s", programs->directory[i], name);
        found = path != NULL && access(path, F_OK) == 0;
        free(path);
    }
    return found;
}

static clat_status load_directory(struct tuning *tuning, size_t index) {
    struct dirent **files = NULL;
    clat_status st = CLAT_OK;
    char *directory = text_format("%s/tuned", tuning->programs->directory[index]);
    int count = directory != NULL ? scandir(directory, &files, is_json, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        char *path = text_format("%s/%s", directory, files[i]->d_name);
        if (st == CLAT_OK && path != NULL && !hidden(tuning->programs, index, files[i]->d_name))
            st = load(tuning, path, true);
        free(path);
        free(files[i]);
    }
    free(files);
    free(directory);
    return st;
}

static clat_status load_embedded(struct tuning *tuning, size_t directories) {
    const char *const folder = "tuned/";
    clat_status st = CLAT_OK;
    for (const struct embedded_file *at = embedded_kernels; st == CLAT_OK && at->name != NULL;
         at++) {
        if (strncmp(at->name, folder, strlen(folder)) != 0 ||
            hidden(tuning->programs, directories, at->name + strlen(folder)))
            continue;
        struct tuned_file file;
        char origin[256];
        snprintf(origin, sizeof origin, "%s (embedded)", at->name);
        clat_status read = tuned_file_parse(&file, origin, at->data, at->size);
        st = take_over(tuning, read, &file, origin, true);
    }
    return st;
}

/* ---- opening ---- */

/* Absolute, so that a later chdir changes neither what is read nor what is written. The file need
 * not exist. */
static char *absolute_path(const char *path) {
    if (path[0] == '/' || path[0] == '\0')
        return text_format("%s", path);
    char *directory = getcwd(NULL, 0);
    char *out = text_format("%s/%s", directory != NULL ? directory : ".", path);
    free(directory);
    return out;
}

/* The user's file; "" when the user wants none, NULL when there is no place for one. */
static char *choose_file(const char *wanted, const char *slug) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (wanted == NULL)
        wanted = getenv("CLATTICE_TUNED_FILE");
    if (wanted != NULL)
        return absolute_path(wanted);
    if (data != NULL && data[0] == '/')
        return text_format("%s/clattice/tuned/%s.json", data, slug);
    if (home != NULL && home[0] == '/')
        return text_format("%s/.local/share/clattice/tuned/%s.json", home, slug);
    return NULL;
}

clat_status tuning_open(struct tuning *tuning, struct device *device,
                        struct program_store *programs, const char *file,
                        const struct logger *log) {
    const size_t directories = sizeof programs->directory / sizeof programs->directory[0];
    clat_status st = CLAT_OK;
    memset(tuning, 0, sizeof *tuning);
    tuning->device = device;
    tuning->programs = programs;
    tuning->log = log;
    pthread_mutex_init(&tuning->lock, NULL);
    tuning->file = choose_file(file, device->slug);
    if (tuning->file != NULL && tuning->file[0] == '\0') {
        free(tuning->file);
        tuning->file = NULL;
        return CLAT_OK;
    }
    if (tuning->file != NULL)
        TRY(load(tuning, tuning->file, false));
    for (size_t i = 0; i < directories; i++)
        if (programs->directory[i] != NULL)
            TRY(load_directory(tuning, i));
    TRY(load_embedded(tuning, directories));
    status_clear(); /* a file that was ignored left its sentence */
out:
    if (st != CLAT_OK)
        tuning_close(tuning);
    return st;
}

void tuning_close(struct tuning *tuning) {
    if (tuning->device != NULL)
        pthread_mutex_destroy(&tuning->lock);
    free(tuning->file);
    free(tuning->entries);
    memset(tuning, 0, sizeof *tuning);
}

const char *tuning_file(const struct tuning *tuning) {
    return tuning->file != NULL ? tuning->file : "";
}

size_t tuning_count(struct tuning *tuning) {
    pthread_mutex_lock(&tuning->lock);
    size_t count = tuning->count;
    pthread_mutex_unlock(&tuning->lock);
    return count;
}

unsigned tuning_generation(struct tuning *tuning) {
    pthread_mutex_lock(&tuning->lock);
    unsigned generation = tuning->generation;
    pthread_mutex_unlock(&tuning->lock);
    return generation;
}

/* ---- looking up ---- */

/* How far an entry that tells its guess may be from the shape, squared, in octaves. */
enum { FARTHEST = 1 };

struct match {
    struct tuned_entry entry;
    double distance; /* squared, in octaves */
    size_t index;
};

static double shape_distance(const struct shape *a, const uint64_t other[OP_MAX_DIMS]) {
    double sum = 0;
    for (unsigned i = 0; i < a->count; i++) {
        double x = a->dim[i].value > 0 ? (double)a->dim[i].value : 1;
        double y = other[i] > 0 ? (double)other[i] : 1;
        double octaves = log2(x / y);
        sum += octaves * octaves;
    }
    return sum;
}

/* Closest device first, then nearest shape, the user's own before shipped ones, and of several
 * implementations the fastest. */
static int compare_matches(const void *left, const void *right) {
    const struct match *a = left, *b = right;
    if (a->entry.rank != b->entry.rank)
        return a->entry.rank < b->entry.rank ? -1 : 1;
    if (a->distance < b->distance || a->distance > b->distance)
        return a->distance < b->distance ? -1 : 1;
    if (a->entry.shipped != b->entry.shipped)
        return a->entry.shipped ? 1 : -1;
    if (a->entry.gflops < b->entry.gflops || a->entry.gflops > b->entry.gflops)
        return a->entry.gflops > b->entry.gflops ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* Copies of all entries for this operation, variant and set of dims, in the order of preference;
 * the caller frees them. */
static size_t collect(struct tuning *tuning, const char *op, const struct shape *shape,
                      struct match **out) {
    size_t count = 0;
    pthread_mutex_lock(&tuning->lock);
    struct match *matches = malloc((tuning->count + 1) * sizeof *matches);
    for (size_t i = 0; matches != NULL && i < tuning->count; i++) {
        const struct tuned_entry *entry = &tuning->entries[i];
        uint64_t other[OP_MAX_DIMS];
        if (strcmp(entry->op, op) != 0 || strcmp(entry->shape.variant, shape->variant) != 0 ||
            !shape_align(shape, &entry->shape, other))
            continue;
        matches[count].entry = *entry; /* relinked below, once it has its place */
        matches[count].distance = shape_distance(shape, other);
        matches[count].index = i;
        count++;
    }
    pthread_mutex_unlock(&tuning->lock);
    if (count > 1)
        qsort(matches, count, sizeof *matches, compare_matches);
    for (size_t i = 0; i < count; i++)
        tuned_entry_copy(&matches[i].entry, &matches[i].entry);
    *out = matches;
    return count;
}

/* "tuned file /x.json: m=1024 n=1024, 1.5 octaves away, same architecture". */
static void describe(struct match *match) {
    static const char *const rank[] = {"", ", same architecture", ", same vendor"};
    struct tuned_entry *entry = &match->entry;
    char file[sizeof entry->origin];
    struct text which = {0}, whole = {0};
    for (unsigned i = 0; i < entry->shape.count; i++)
        text_printf(&which, " %s=%llu", entry->shape.dim[i].name,
                    (unsigned long long)entry->shape.dim[i].value);
    if (match->distance > 0)
        text_printf(&which, ", %.1f octaves away", sqrt(match->distance));
    text_printf(&which, "%s", rank[entry->rank]);
    const size_t taken = which.length + sizeof "tuned file :", least = 16;
    tuned_copy_tail(file, taken + least < sizeof file ? sizeof file - taken : least, entry->origin);
    text_printf(&whole, "tuned file %s:%s", file, text_string(&which));
    const size_t length = whole.length < sizeof file ? whole.length : sizeof file - 1;
    memcpy(entry->origin, text_string(&whole), length);
    entry->origin[length] = '\0';
    text_free(&which);
    text_free(&whole);
}

bool tuning_find(struct tuning *tuning, const char *op, const struct shape *shape,
                 bool (*accept)(void *user, const struct tuned_entry *entry), void *user,
                 struct tuned_entry *out) {
    struct match *matches = NULL;
    bool found = false;
    size_t count = collect(tuning, op, shape, &matches);
    for (size_t i = 0; !found && i < count; i++) {
        const bool far = matches[i].entry.guess[0] != '\0' && matches[i].distance > FARTHEST;
        if (far || !accept(user, &matches[i].entry))
            continue;
        describe(&matches[i]);
        tuned_entry_copy(out, &matches[i].entry);
        found = true;
    }
    free(matches);
    return found;
}

void tuning_note_stale(struct tuning *tuning, const struct tuned_entry *entry) {
    bool first = false;
    pthread_mutex_lock(&tuning->lock);
    for (size_t i = 0; i < tuning->count; i++) {
        struct tuned_entry *own = &tuning->entries[i];
        if (own->stale_noted || own->source_hash != entry->source_hash ||
            own->rank != entry->rank || !tuned_entry_same(own, entry))
            continue;
        own->stale_noted = true;
        first = true;
    }
    pthread_mutex_unlock(&tuning->lock);
    if (first)
        log_printf(tuning->log, CLAT_LOG_INFO,
                   "tuned file %s: an entry for %s %s (%s, %s) was measured on other kernel source "
                   "and is not used",
                   entry->origin, entry->op, entry->implementation, entry->shape.variant,
                   entry->tunables);
}
