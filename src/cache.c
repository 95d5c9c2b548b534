#include "cache.h"

#include "files.h"
#include "text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { KEY_DIGITS = 32, STALE_SECONDS = 3600 };

#define DEFAULT_CAP_BYTES ((uint64_t)256 << 20)
#define ENTRY_SUFFIX ".bin"
#define TEMPORARY_PREFIX "tmp-"

/* The cache has no state of its own but the directory: that is what makes it safe. */
struct cache {
    char *directory;
    uint64_t cap_bytes;
    const struct logger *log;
};

/* Stored in the byte order of the machine: on another one, the magic does not match. */
struct entry_header {
    uint64_t magic, format;
    struct cache_key key;
    uint64_t size, checksum; /* of the payload that follows */
};

#define ENTRY_MAGIC UINT64_C(0x6563697474616c63) /* "clattice" */
#define ENTRY_FORMAT 1

struct cache_key cache_key_of(size_t count, const char *const *strings) {
    const char *version = clat_version();
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    /* The terminating NUL goes in too, so that "ab" "c" and "a" "bc" differ. */
    for (size_t i = 0; i < count; i++)
        XXH3_128bits_update(&state, strings[i], strlen(strings[i]) + 1);
    XXH3_128bits_update(&state, version, strlen(version) + 1);
    const XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return (struct cache_key){hash.low64, hash.high64};
}

/* ---------------------------------------------------------------- directory ---------------- */

static char *default_directory(void) {
    const char *own = getenv("CLATTICE_CACHE_DIR");
    if (own != NULL)
        return text_format("%s", own);
    /* The XDG rules: a relative path there is to be ignored. */
    const char *xdg = getenv("XDG_CACHE_HOME");
    if (xdg != NULL && xdg[0] == '/')
        return text_format("%s/clattice", xdg);
    const char *home = getenv("HOME");
    if (home != NULL && home[0] == '/')
        return text_format("%s/.cache/clattice", home);
    return strdup("");
}

/* The pattern of a temporary file's name; malloc'ed. */
static char *temporary_pattern(const char *directory) {
    return text_format("%s/" TEMPORARY_PREFIX "XXXXXX", directory);
}

/* Permissions do not tell whether a file can be made (root, read-only mounts): make one. */
static int try_directory(const char *directory) {
    int error = files_make_directories(directory, 0700);
    if (error != 0)
        return error;
    char *path = temporary_pattern(directory);
    if (path == NULL)
        return ENOMEM;
    const int fd = files_open_temporary(path);
    if (fd < 0) {
        error = errno;
    } else {
        close(fd);
        unlink(path);
    }
    free(path);
    return error;
}

clat_status cache_open(struct cache **out, const char *dir, uint64_t cap_bytes,
                       const struct logger *log) {
    clat_status st = CLAT_OK;
    struct cache *cache = NULL;
    char *directory = dir != NULL ? text_format("%s", dir) : default_directory();
    *out = NULL;
    if (directory == NULL)
        TRY(status_no_memory(dir != NULL ? strlen(dir) + 1 : 1));
    if (directory[0] == '\0')
        goto out;
    const int error = try_directory(directory);
    if (error != 0) {
        log_printf(log, CLAT_LOG_WARNING, "no disk cache: cannot use directory %s: %s", directory,
                   strerror(error));
        goto out;
    }
    cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        TRY(status_no_memory(sizeof *cache));
    /* Absolute, so that a later chdir does not move the cache. */
    cache->directory = realpath(directory, NULL);
    if (cache->directory == NULL)
        cache->directory = strdup(directory);
    if (cache->directory == NULL)
        TRY(status_no_memory(strlen(directory) + 1));
    cache->cap_bytes = cap_bytes != 0 ? cap_bytes : DEFAULT_CAP_BYTES;
    cache->log = log;
    *out = cache;
    cache = NULL;
out:
    free(directory);
    cache_close(cache);
    return st;
}

void cache_close(struct cache *cache) {
    if (cache == NULL)
        return;
    free(cache->directory);
    free(cache);
}

const char *cache_directory(const struct cache *cache) {
    return cache != NULL ? cache->directory : "";
}

static char *entry_path(const struct cache *cache, struct cache_key key) {
    return text_format("%s/%016" PRIx64 "%016" PRIx64 ENTRY_SUFFIX, cache->directory, key.high,
                       key.low);
}

static bool is_entry_name(const char *name) {
    size_t digits = 0;
    while (isxdigit((unsigned char)name[digits]))
        digits++;
    return digits == KEY_DIGITS && strcmp(name + digits, ENTRY_SUFFIX) == 0;
}

/* ---------------------------------------------------------------- load --------------------- */

/* What came of reading an entry. Only what is damaged for certain is removed: an entry may be
 * healthy although this process, with its limits, could not read it just now. */
enum finding { FOUND, NOT_NOW, DAMAGED };

static enum finding not_now(const char **why, int error) {
    *why = strerror(error);
    return NOT_NOW;
}

static enum finding damaged(const char **why, const char *what) {
    *why = what;
    return DAMAGED;
}

static enum finding read_all(int fd, void *data, size_t size, const char **why) {
    unsigned char *at = data;
    while (size > 0) {
        const ssize_t got = read(fd, at, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return not_now(why, errno);
        if (got == 0)
            return damaged(why, "truncated");
        at += got;
        size -= (size_t)got;
    }
    return FOUND;
}

/* Reads the header and holds it against the file and its name. */
static enum finding read_header(int fd, struct cache_key key, struct entry_header *header,
                                const char **why) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return not_now(why, errno);
    if (!S_ISREG(info.st_mode))
        return damaged(why, "not a regular file");
    /* A program that somebody else put here would run with this user's rights. */
    if (info.st_uid != geteuid()) {
        *why = "it belongs to another user";
        return NOT_NOW;
    }
    if (info.st_size < (off_t)sizeof *header)
        return damaged(why, "too short");
    const enum finding finding = read_all(fd, header, sizeof *header, why);
    if (finding != FOUND)
        return finding;
    if (header->magic != ENTRY_MAGIC || header->format != ENTRY_FORMAT)
        return damaged(why, "not of this format");
    if (header->key.low != key.low || header->key.high != key.high)
        return damaged(why, "of another key");
    if (header->size != (uint64_t)info.st_size - sizeof *header)
        return damaged(why, "truncated or extended");
    return FOUND;
}

static enum finding read_entry(const struct cache *cache, int fd, struct cache_key key, void **data,
                               size_t *size, const char **why) {
    struct entry_header header;
    enum finding finding = read_header(fd, key, &header, why);
    if (finding != FOUND)
        return finding;
    /* No allocation at the mercy of a file's size. Another process may have a larger cap. */
    if (header.size >= SIZE_MAX || header.size + sizeof header > cache->cap_bytes) {
        *why = "it is larger than the cache may be";
        return NOT_NOW;
    }
    void *copy = malloc((size_t)header.size + 1);
    if (copy == NULL)
        return not_now(why, ENOMEM);
    finding = read_all(fd, copy, (size_t)header.size, why);
    if (finding == FOUND && XXH3_64bits(copy, (size_t)header.size) != header.checksum)
        finding = damaged(why, "its checksum is wrong");
    if (finding != FOUND) {
        free(copy);
        return finding;
    }
    *data = copy;
    *size = (size_t)header.size;
    return FOUND;
}

/* What the error of opening an entry says about it. */
static enum finding judge_open(int error, const char **why) {
    /* O_NOFOLLOW refuses links with ELOOP, O_NONBLOCK sockets with ENXIO. */
    if (error == ELOOP || error == ENXIO)
        return damaged(why, "not a regular file");
    return not_now(why, error);
}

bool cache_load(struct cache *cache, struct cache_key key, void **data, size_t *size) {
    *data = NULL;
    *size = 0;
    char *path = cache != NULL ? entry_path(cache, key) : NULL;
    if (path == NULL)
        return false;
    /* O_NONBLOCK: something else under this name, such as a FIFO, must not block. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool absent = fd < 0 && errno == ENOENT;
    const char *why = NULL;
    enum finding finding = NOT_NOW;
    if (fd >= 0) {
        finding = read_entry(cache, fd, key, data, size, &why);
        if (finding == FOUND)
            futimens(fd, NULL);
        close(fd);
    } else if (!absent) {
        finding = judge_open(errno, &why);
    }
    const bool removed = finding == DAMAGED && unlink(path) == 0;
    if (finding != FOUND && !absent)
        log_printf(cache->log, CLAT_LOG_WARNING, "cache entry %s ignored%s: %s", path,
                   removed ? " and removed" : "", why);
    free(path);
    return finding == FOUND;
}

/* ---------------------------------------------------------------- store and evict ---------- */

struct listed_entry {
    char name[KEY_DIGITS + sizeof ENTRY_SUFFIX];
    struct timespec used;
    uint64_t bytes;
};

struct listing {
    struct listed_entry *entries;
    size_t count, capacity;
    uint64_t bytes;
};

static int older_first(const void *left, const void *right) {
    const struct listed_entry *a = left, *b = right;
    if (a->used.tv_sec != b->used.tv_sec)
        return a->used.tv_sec < b->used.tv_sec ? -1 : 1;
    if (a->used.tv_nsec != b->used.tv_nsec)
        return a->used.tv_nsec < b->used.tv_nsec ? -1 : 1;
    return 0;
}

static bool listing_add(struct listing *list, const char *name, const struct stat *info) {
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity != 0 ? 2 * list->capacity : 256;
        struct listed_entry *entries = realloc(list->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return false;
        list->entries = entries;
        list->capacity = capacity;
    }
    struct listed_entry *entry = &list->entries[list->count++];
    memcpy(entry->name, name, sizeof entry->name); /* is_entry_name: exactly that long */
    entry->used = info->st_mtim;
    entry->bytes = (uint64_t)info->st_size;
    list->bytes += entry->bytes;
    return true;
}

/* Lists the entries; on the way, removes temporary files that a killed process left. */
static void list_directory(struct listing *list, DIR *directory) {
    const int fd = dirfd(directory);
    const time_t now = time(NULL);
    const struct dirent *item;
    while ((item = readdir(directory)) != NULL) {
        struct stat info;
        const bool temporary =
            strncmp(item->d_name, TEMPORARY_PREFIX, sizeof TEMPORARY_PREFIX - 1) == 0;
        if ((!temporary && !is_entry_name(item->d_name)) ||
            fstatat(fd, item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
            continue;
        if (temporary && now - info.st_mtim.tv_sec > STALE_SECONDS)
            unlinkat(fd, item->d_name, 0);
        else if (!temporary && !listing_add(list, item->d_name, &info))
            return;
    }
}

/* Removes the least recently used entries until the rest fits. `keep` is the one just stored: time
 * stamps are too coarse to tell it from its neighbours. */
static void evict(struct cache *cache, const char *keep) {
    struct listing list = {0};
    DIR *directory = opendir(cache->directory);
    if (directory == NULL)
        return;
    list_directory(&list, directory);
    if (list.bytes > cache->cap_bytes)
        qsort(list.entries, list.count, sizeof *list.entries, older_first);
    size_t removed = 0;
    for (size_t i = 0; i < list.count && list.bytes > cache->cap_bytes; i++) {
        if (strcmp(list.entries[i].name, keep) == 0)
            continue;
        unlinkat(dirfd(directory), list.entries[i].name, 0);
        list.bytes -= list.entries[i].bytes;
        removed++;
    }
    closedir(directory);
    free(list.entries);
    if (removed > 0)
        log_printf(cache->log, CLAT_LOG_DEBUG, "cache: removed the %zu least recently used entries",
                   removed);
}

/* 0, or an errno. */
static int write_entry(struct cache *cache, const char *path, const struct entry_header *header,
                       const void *data) {
    int error = ENOMEM;
    /* Twice, where somebody cleaned up and took the directory with it. */
    for (int attempt = 0; attempt < 2; attempt++) {
        const struct file_replacement with = {
            .temporary = temporary_pattern(cache->directory),
            .count = 2,
            .parts = {{header, sizeof *header}, {data, (size_t)header->size}},
        };
        if (with.temporary != NULL)
            error = files_replace(path, &with);
        free(with.temporary);
        if (error != ENOENT || files_make_directories(cache->directory, 0700) != 0)
            break;
    }
    return error;
}

void cache_store(struct cache *cache, struct cache_key key, const void *data, size_t size) {
    if (cache == NULL || size > SIZE_MAX - sizeof(struct entry_header) ||
        size + sizeof(struct entry_header) > cache->cap_bytes)
        return;
    char *path = entry_path(cache, key);
    if (path == NULL)
        return;
    const struct entry_header header = {ENTRY_MAGIC, ENTRY_FORMAT, key, size,
                                        XXH3_64bits(data, size)};
    const int error = write_entry(cache, path, &header, data);
    if (error == 0)
        evict(cache, strrchr(path, '/') + 1);
    else
        log_printf(cache->log, CLAT_LOG_WARNING, "cache entry %s not stored: %s", path,
                   strerror(error));
    free(path);
}

void cache_remove(struct cache *cache, struct cache_key key) {
    char *path = cache != NULL ? entry_path(cache, key) : NULL;
    if (path != NULL)
        unlink(path);
    free(path);
}
