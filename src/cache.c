#include "cache.h"

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

/* Makes `path` and its parents; 0 or an errno. */
static int make_directories(const char *path) {
    char *copy = strdup(path);
    if (copy == NULL)
        return ENOMEM;
    int error = 0;
    for (char *end = copy + 1; error == 0 && *end != '\0'; end++) {
        if (*end != '/')
            continue;
        *end = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            error = errno;
        *end = '/';
    }
    if (error == 0 && mkdir(copy, 0700) != 0 && errno != EEXIST)
        error = errno;
    free(copy);
    return error;
}

/* Opens a fresh temporary file; its name replaces *path (malloc'ed). -1 and errno on failure. */
static int open_temporary(const char *directory, char **path) {
    *path = text_format("%s/" TEMPORARY_PREFIX "XXXXXX", directory);
    if (*path == NULL) {
        errno = ENOMEM;
        return -1;
    }
    const int fd = mkostemp(*path, O_CLOEXEC);
    if (fd < 0) {
        const int error = errno;
        free(*path);
        *path = NULL;
        errno = error;
    }
    return fd;
}

/* Permissions do not tell whether a file can be made (root, read-only mounts): make one. */
static int try_directory(const char *directory) {
    char *path = NULL;
    const int error = make_directories(directory);
    if (error != 0)
        return error;
    const int fd = open_temporary(directory, &path);
    if (fd < 0)
        return errno;
    close(fd);
    unlink(path);
    free(path);
    return 0;
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

static bool read_all(int fd, void *data, size_t size) {
    unsigned char *at = data;
    while (size > 0) {
        const ssize_t got = read(fd, at, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

/* NULL, with *data and *size set, or what is wrong with the entry behind `fd`. */
static const char *read_entry(const struct cache *cache, int fd, struct cache_key key, void **data,
                              size_t *size) {
    struct stat info;
    struct entry_header header;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return "not a regular file";
    if (info.st_size < (off_t)sizeof header)
        return "too short";
    const uint64_t payload = (uint64_t)info.st_size - sizeof header;
    /* Never stored, so never believed: no allocation at the mercy of a file's size. */
    if ((uint64_t)info.st_size > cache->cap_bytes || payload >= SIZE_MAX)
        return "larger than the cache may be";
    if (!read_all(fd, &header, sizeof header))
        return "unreadable";
    if (header.magic != ENTRY_MAGIC || header.format != ENTRY_FORMAT)
        return "not of this format";
    if (header.key.low != key.low || header.key.high != key.high)
        return "of another key";
    if (header.size != payload)
        return "truncated or extended";
    void *copy = malloc((size_t)payload + 1);
    if (copy == NULL)
        return "too large for this machine's memory";
    if (!read_all(fd, copy, (size_t)payload)) {
        free(copy);
        return "unreadable";
    }
    if (XXH3_64bits(copy, (size_t)payload) != header.checksum) {
        free(copy);
        return "damaged";
    }
    *data = copy;
    *size = (size_t)payload;
    return NULL;
}

bool cache_load(struct cache *cache, struct cache_key key, void **data, size_t *size) {
    *data = NULL;
    *size = 0;
    char *path = cache != NULL ? entry_path(cache, key) : NULL;
    if (path == NULL)
        return false;
    /* O_NONBLOCK: something else under this name, such as a FIFO, must not block. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const char *wrong = NULL;
    if (fd >= 0) {
        wrong = read_entry(cache, fd, key, data, size);
        if (wrong == NULL)
            futimens(fd, NULL);
        close(fd);
    } else if (errno != ENOENT) {
        wrong = strerror(errno);
    }
    if (wrong != NULL) {
        log_printf(cache->log, CLAT_LOG_WARNING, "cache entry %s ignored and removed: %s", path,
                   wrong);
        unlink(path);
    }
    free(path);
    return fd >= 0 && wrong == NULL;
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

static bool write_all(int fd, const void *data, size_t size) {
    const unsigned char *at = data;
    while (size > 0) {
        const ssize_t put = write(fd, at, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        size -= (size_t)put;
    }
    return true;
}

/* Writes a temporary file and renames it to `path`, so that no reader sees half an entry. */
static bool write_entry(struct cache *cache, const char *path, const struct entry_header *header,
                        const void *data) {
    char *temporary = NULL;
    int fd = open_temporary(cache->directory, &temporary);
    if (fd < 0 && errno == ENOENT && make_directories(cache->directory) == 0)
        fd = open_temporary(cache->directory, &temporary); /* somebody cleaned up */
    if (fd < 0)
        return false;
    bool ok = write_all(fd, header, sizeof *header) && write_all(fd, data, (size_t)header->size);
    int error = errno;
    if (close(fd) != 0 && ok) {
        error = errno;
        ok = false;
    }
    if (ok && rename(temporary, path) != 0) {
        error = errno;
        ok = false;
    }
    if (!ok)
        unlink(temporary);
    free(temporary);
    errno = error;
    return ok;
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
    if (write_entry(cache, path, &header, data))
        evict(cache, strrchr(path, '/') + 1);
    else
        log_printf(cache->log, CLAT_LOG_WARNING, "cache entry %s not stored: %s", path,
                   strerror(errno));
    free(path);
}

void cache_remove(struct cache *cache, struct cache_key key) {
    char *path = cache != NULL ? entry_path(cache, key) : NULL;
    if (path != NULL)
        unlink(path);
    free(path);
}
