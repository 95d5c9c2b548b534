#include "cache.h"

#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEADER_BYTES = 48, SIZE_OFFSET = 32 };

static atomic_uint warnings;

static void count_warnings(void *user, clat_log_level level, const char *line) {
    (void)user, (void)line;
    if (level == CLAT_LOG_WARNING)
        atomic_fetch_add(&warnings, 1);
}

static const struct logger logger = {count_warnings, NULL};

static struct cache *open_cache(const char *dir, uint64_t cap) {
    struct cache *cache = NULL;
    assert_ok(cache_open(&cache, dir, cap, &logger));
    assert_non_null(cache);
    atomic_store(&warnings, 0);
    return cache;
}

static struct cache_key key_number(unsigned number) {
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    return cache_key_of(1, (const char *const[]){text});
}

/* Paths are kept in a few static buffers: enough for one expression. */
static const char *join(const char *dir, const char *name) {
    static _Thread_local char buffer[4][4096];
    static _Thread_local unsigned next;
    char *out = buffer[next++ % 4];
    snprintf(out, sizeof buffer[0], "%s/%s", dir, name);
    return out;
}

static const char *entry_path(const struct cache *cache, struct cache_key key) {
    char name[48];
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 ".bin", key.high, key.low);
    return join(cache_directory(cache), name);
}

static bool exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

static unsigned count_files(const char *dir) {
    unsigned count = 0;
    DIR *list = opendir(dir);
    assert_non_null(list);
    while (readdir(list) != NULL)
        count++;
    closedir(list);
    return count - 2; /* . and .. */
}

static bool holds(struct cache *cache, struct cache_key key, const void *expected, size_t size) {
    void *data = NULL;
    size_t got = 0;
    const bool found = cache_load(cache, key, &data, &got);
    if (found) {
        assert_int_equal(got, size);
        assert_memory_equal(data, expected, size);
    } else {
        assert_null(data);
    }
    free(data);
    return found;
}

/* ---------------------------------------------------------------- keys and plain use ------- */

static void test_keys(void **state) {
    (void)state;
    static const char *const lists[][2] = {
        {"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"abd", ""}};
    enum { LISTS = sizeof lists / sizeof lists[0] };
    struct cache_key keys[LISTS];
    for (int i = 0; i < LISTS; i++) {
        keys[i] = cache_key_of(2, lists[i]);
        const struct cache_key again = cache_key_of(2, lists[i]);
        assert_memory_equal(&keys[i], &again, sizeof again);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(&keys[i], &keys[j], sizeof keys[i]);
    }
}

static void test_round_trip(void **state) {
    (void)state;
    struct cache *cache = open_cache(harness_temp_dir(), 0);
    static char big[100000];
    memset(big, 'x', sizeof big);
    assert_false(holds(cache, key_number(1), "", 0));
    cache_store(cache, key_number(1), "hello", 5);
    cache_store(cache, key_number(2), "", 0);
    cache_store(cache, key_number(3), big, sizeof big);
    assert_true(holds(cache, key_number(1), "hello", 5));
    assert_true(holds(cache, key_number(2), "", 0));
    assert_true(holds(cache, key_number(3), big, sizeof big));
    cache_store(cache, key_number(1), "other", 5);
    assert_true(holds(cache, key_number(1), "other", 5));
    cache_remove(cache, key_number(1));
    cache_remove(cache, key_number(1));
    assert_false(holds(cache, key_number(1), "", 0));
    assert_int_equal(count_files(cache_directory(cache)), 2);
    assert_int_equal(atomic_load(&warnings), 0);
    cache_close(cache);
}

static void test_none(void **state) {
    (void)state;
    struct cache *cache = NULL;
    void *data = NULL;
    size_t size = 0;
    assert_ok(cache_open(&cache, "", 0, &logger));
    assert_null(cache);
    assert_string_equal(cache_directory(NULL), "");
    cache_store(NULL, key_number(1), "x", 1);
    assert_false(cache_load(NULL, key_number(1), &data, &size));
    cache_remove(NULL, key_number(1));
    cache_close(NULL);
}

/* ---------------------------------------------------------------- damaged entries ---------- */

struct damage {
    const char *name;
    enum { FLIP, RESIZE, OTHER_KEY, HUGE_FILE, FIFO, SYMLINK, DIRECTORY } kind;
    long at; /* FLIP, RESIZE: an offset, from the end when negative */
};

static const struct damage damages[] = {
    {"magic", FLIP, 0},
    {"format", FLIP, 8},
    {"low half of the key", FLIP, 16},
    {"high half of the key", FLIP, 31},
    {"size field, low byte", FLIP, SIZE_OFFSET},
    {"size field, high byte", FLIP, SIZE_OFFSET + 7},
    {"checksum", FLIP, 40},
    {"first byte of the payload", FLIP, HEADER_BYTES},
    {"last byte of the payload", FLIP, -1},
    {"empty file", RESIZE, 0},
    {"one byte", RESIZE, 1},
    {"header cut", RESIZE, HEADER_BYTES - 1},
    {"header only", RESIZE, HEADER_BYTES},
    {"last byte missing", RESIZE, -1},
    {"zeros appended", RESIZE, 5000},
    {"entry of another key renamed", OTHER_KEY, 0},
    {"huge file with a size field to match", HUGE_FILE, 0},
    {"a FIFO", FIFO, 0},
    {"a symbolic link to an entry", SYMLINK, 0},
    {"a directory", DIRECTORY, 0},
};

static void damage_bytes(const char *path, const struct damage *damage) {
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    const off_t end = lseek(fd, 0, SEEK_END);
    const off_t at = damage->at < 0 ? end + damage->at : damage->at;
    if (damage->kind == FLIP) {
        unsigned char byte = 0;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    } else if (damage->kind == RESIZE) {
        assert_int_equal(ftruncate(fd, at), 0);
    } else {
        const uint64_t file = UINT64_C(1) << 40, size = file - HEADER_BYTES;
        assert_int_equal(pwrite(fd, &size, sizeof size, SIZE_OFFSET), sizeof size);
        if (ftruncate(fd, (off_t)file) != 0) /* not every file system takes such a file */
            assert_int_equal(ftruncate(fd, 1000000), 0);
    }
    close(fd);
}

static void apply(struct cache *cache, const struct damage *damage, struct cache_key key) {
    const char *path = entry_path(cache, key), *other = entry_path(cache, key_number(2));
    if (damage->kind == FLIP || damage->kind == RESIZE || damage->kind == HUGE_FILE) {
        damage_bytes(path, damage);
        return;
    }
    if (damage->kind == OTHER_KEY) {
        assert_int_equal(rename(other, path), 0);
        return;
    }
    assert_int_equal(rename(path, other), 0); /* out of the way */
    if (damage->kind == FIFO)
        assert_int_equal(mkfifo(path, 0600), 0);
    else if (damage->kind == SYMLINK)
        assert_int_equal(symlink(other, path), 0);
    else
        assert_int_equal(mkdir(path, 0700), 0);
}

static void test_damage(void **state) {
    const struct damage *damage = *state;
    struct cache *cache = open_cache(harness_temp_dir(), 0);
    const struct cache_key key = key_number(1);
    char payload[1000];
    memset(payload, 'p', sizeof payload);
    cache_store(cache, key, payload, sizeof payload);
    cache_store(cache, key_number(2), payload, sizeof payload);
    apply(cache, damage, key);
    assert_false(holds(cache, key, payload, sizeof payload));
    assert_int_equal(atomic_load(&warnings), 1);
    /* A directory is not ours to remove, and a large file may be right for a larger cap; everything
     * else is gone and can be stored again. */
    if (damage->kind != HUGE_FILE)
        assert_int_equal(exists(entry_path(cache, key)), damage->kind == DIRECTORY);
    cache_store(cache, key, payload, sizeof payload);
    assert_int_equal(holds(cache, key, payload, sizeof payload), damage->kind != DIRECTORY);
    cache_close(cache);
}

/* ---------------------------------------------------------------- healthy, but not now ----- */

static void test_no_file_descriptor(void **state) {
    (void)state;
    struct cache *cache = open_cache(harness_temp_dir(), 0);
    const struct cache_key key = key_number(1);
    void *data = NULL;
    size_t size = 0;
    struct rlimit limit, none;
    cache_store(cache, key, "hello", 5);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const bool found = cache_load(cache, key, &data, &size);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_false(found);
    assert_int_equal(atomic_load(&warnings), 1);
    assert_true(holds(cache, key, "hello", 5));
    cache_close(cache);
}

/* It could be a program made to harm whoever runs it. */
static void test_other_user(void **state) {
    (void)state;
    enum { SOMEBODY = 12345 };
    if (geteuid() != 0)
        skip(); /* only root can give files away */
    struct cache *cache = open_cache(harness_temp_dir(), 0);
    const struct cache_key key = key_number(1);
    cache_store(cache, key, "hello", 5);
    assert_int_equal(chown(entry_path(cache, key), SOMEBODY, SOMEBODY), 0);
    assert_false(holds(cache, key, "hello", 5));
    assert_int_equal(atomic_load(&warnings), 1);
    cache_store(cache, key, "again", 5);
    assert_true(holds(cache, key, "again", 5));
    cache_close(cache);
}

/* Another process may have a larger cap; the next store evicts. */
static void test_larger_than_cap(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct cache *large = open_cache(dir, 0), *small = open_cache(dir, 1000);
    char payload[1000] = {0};
    cache_store(large, key_number(1), payload, sizeof payload);
    assert_false(holds(small, key_number(1), payload, sizeof payload));
    assert_true(holds(large, key_number(1), payload, sizeof payload));
    cache_store(small, key_number(2), "x", 1);
    assert_false(exists(entry_path(large, key_number(1))));
    cache_close(large);
    cache_close(small);
}

/* ---------------------------------------------------------------- eviction ----------------- */

static void set_age(const char *path, time_t seconds) {
    const struct timespec then = {.tv_sec = time(NULL) - seconds};
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){then, then}, 0), 0);
}

static void write_file(const char *path, const char *content) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
}

static void test_eviction(void **state) {
    (void)state;
    char payload[1000] = {0};
    const uint64_t entry = HEADER_BYTES + sizeof payload;
    struct cache *cache = open_cache(harness_temp_dir(), 4 * entry);
    for (unsigned i = 0; i < 4; i++) {
        cache_store(cache, key_number(i), payload, sizeof payload);
        set_age(entry_path(cache, key_number(i)), 1000 - 100 * (time_t)i);
    }
    /* The oldest is used again, so the second goes, then the third. */
    assert_true(holds(cache, key_number(0), payload, sizeof payload));
    cache_store(cache, key_number(4), payload, sizeof payload);
    cache_store(cache, key_number(5), payload, sizeof payload);
    static const bool kept[] = {true, false, false, true, true, true};
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(exists(entry_path(cache, key_number(i))), kept[i]);
    /* What can never fit is not stored and drives nothing out. */
    char *large = harness_alloc(5 * entry);
    memset(large, 0, 5 * entry);
    cache_store(cache, key_number(6), large, 5 * entry);
    assert_false(exists(entry_path(cache, key_number(6))));
    assert_int_equal(count_files(cache_directory(cache)), 4);
    /* One as large as the cap drives all others out. */
    cache_store(cache, key_number(7), large, 4 * entry - HEADER_BYTES);
    assert_true(exists(entry_path(cache, key_number(7))));
    assert_int_equal(count_files(cache_directory(cache)), 1);
    free(large);
    cache_close(cache);
}

/* The entry just stored stays, even when a wrong clock says that all others are younger. */
static void test_eviction_keeps_new(void **state) {
    (void)state;
    struct cache *cache = open_cache(harness_temp_dir(), 3 * (HEADER_BYTES + 10));
    for (unsigned i = 0; i < 6; i++) {
        cache_store(cache, key_number(i), "0123456789", 10);
        assert_true(exists(entry_path(cache, key_number(i))));
        set_age(entry_path(cache, key_number(i)), -1000);
    }
    assert_int_equal(count_files(cache_directory(cache)), 3);
    cache_close(cache);
}

/* Left by a killed process, being written by another, and not ours. */
static void test_other_files(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct cache *cache = open_cache(dir, 100);
    write_file(join(dir, "tmp-stale1"), "x");
    write_file(join(dir, "tmp-fresh1"), "x");
    write_file(join(dir, "notes.bin"), "x");
    set_age(join(dir, "tmp-stale1"), 7200);
    set_age(join(dir, "notes.bin"), 720000);
    for (unsigned i = 0; i < 3; i++)
        cache_store(cache, key_number(i), "0123456789", 10);
    assert_false(exists(join(dir, "tmp-stale1")));
    assert_true(exists(join(dir, "tmp-fresh1")));
    assert_true(exists(join(dir, "notes.bin")));
    assert_int_equal(count_files(dir), 3);
    cache_close(cache);
}

/* ---------------------------------------------------------------- directories -------------- */

struct rule {
    const char *name, *own, *xdg, *home; /* "@" stands for the temporary directory */
    const char *expected;                /* below it; NULL: no cache */
};

static const struct rule rules[] = {
    {"CLATTICE_CACHE_DIR first", "@/own", "@/xdg", "@/home", "/own"},
    {"CLATTICE_CACHE_DIR empty", "", "@/xdg", "@/home", NULL},
    {"XDG_CACHE_HOME next", NULL, "@/xdg", "@/home", "/xdg/clattice"},
    {"XDG_CACHE_HOME empty", NULL, "", "@/home", "/home/.cache/clattice"},
    {"XDG_CACHE_HOME relative", NULL, "xdg", "@/home", "/home/.cache/clattice"},
    {"HOME last", NULL, NULL, "@/home", "/home/.cache/clattice"},
    {"nothing set", NULL, NULL, NULL, NULL},
};

static void set_variable(const char *name, const char *value, const char *base) {
    if (value == NULL)
        unsetenv(name);
    else
        setenv(name, value[0] == '@' ? join(base, value + 2) : value, 1);
}

static void test_rule(void **state) {
    const struct rule *rule = *state;
    static const char *const names[] = {"CLATTICE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"};
    char *saved[3];
    char *base = realpath(harness_temp_dir(), NULL);
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);
        saved[i] = value != NULL ? strdup(value) : NULL;
    }
    set_variable(names[0], rule->own, base);
    set_variable(names[1], rule->xdg, base);
    set_variable(names[2], rule->home, base);
    struct cache *cache = NULL;
    const clat_status st = cache_open(&cache, NULL, 0, &logger);
    for (int i = 0; i < 3; i++) {
        set_variable(names[i], saved[i], "");
        free(saved[i]);
    }
    assert_ok(st);
    if (rule->expected == NULL)
        assert_null(cache);
    else
        assert_string_equal(cache_directory(cache), join(base, rule->expected + 1));
    cache_close(cache);
    free(base);
}

static void test_modes(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    struct cache *cache = open_cache(join(dir, "a/b//c/"), 0);
    struct stat info;
    assert_int_equal(stat(join(dir, "a/b"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    cache_store(cache, key_number(1), "x", 1);
    assert_int_equal(stat(entry_path(cache, key_number(1)), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    cache_close(cache);
}

/* Not by permissions: the tests may run as root. */
static void test_unusable_directory(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    write_file(join(dir, "file"), "content");
    status_clear();
    const char *const paths[] = {join(dir, "file"), join(dir, "file/below"), "/proc/clattice",
                                 "/proc"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct cache *cache = NULL;
        atomic_store(&warnings, 0);
        assert_ok(cache_open(&cache, paths[i], 0, &logger));
        assert_null(cache);
        assert_int_equal(atomic_load(&warnings), 1);
    }
    assert_string_equal(clat_error_text(), "");
}

static void test_directory_removed(void **state) {
    (void)state;
    const char *dir = join(harness_temp_dir(), "cache");
    struct cache *cache = open_cache(dir, 0);
    assert_int_equal(rmdir(cache_directory(cache)), 0);
    assert_false(holds(cache, key_number(1), "x", 1));
    cache_store(cache, key_number(1), "x", 1);
    assert_true(holds(cache, key_number(1), "x", 1));
    cache_close(cache);
}

/* A limit on the size of files stands for a full disk: the write is short, then fails. */
static void test_full_disk(void **state) {
    (void)state;
    const char *dir = harness_temp_dir();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct cache *cache = NULL;
        char payload[5000] = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
        if (cache_open(&cache, dir, 0, &logger) != CLAT_OK || cache == NULL)
            _exit(1);
        cache_store(cache, key_number(1), payload, sizeof payload);
        cache_store(cache, key_number(2), payload, 100);
        cache_close(cache);
        _exit(atomic_load(&warnings) == 1 ? 0 : 2);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct cache *cache = open_cache(dir, 0);
    assert_false(exists(entry_path(cache, key_number(1))));
    assert_true(exists(entry_path(cache, key_number(2))));
    assert_int_equal(count_files(dir), 1);
    cache_close(cache);
}

/* ---------------------------------------------------------------- many at once ------------- */

enum { STRESS_KEYS = 12, STRESS_STEPS = 400, STRESS_BYTES = 3000 };

struct stress {
    const char *dir;
    uint64_t seed;
    bool vandal; /* damages entries instead of using them */
    unsigned wrong, found;
};

/* What is stored under a number: its length and bytes follow from it. */
static size_t stress_payload(unsigned number, unsigned char *out) {
    const size_t size = (size_t)number * STRESS_BYTES / STRESS_KEYS + 1;
    memset(out, (int)('a' + number), size);
    return size;
}

static void stress_use(struct stress *stress, struct cache *cache, unsigned number) {
    unsigned char expected[STRESS_BYTES];
    const size_t size = stress_payload(number, expected);
    void *data = NULL;
    size_t got = 0;
    if (!cache_load(cache, key_number(number), &data, &got)) {
        cache_store(cache, key_number(number), expected, size);
        return;
    }
    stress->found++;
    if (got != size || memcmp(data, expected, size) != 0)
        stress->wrong++;
    free(data);
}

static void stress_damage(struct stress *stress, struct cache *cache, unsigned number) {
    const int fd = open(entry_path(cache, key_number(number)), O_RDWR);
    if (fd < 0)
        return;
    const off_t at = (off_t)harness_random_below(&stress->seed, HEADER_BYTES + 20);
    if (harness_random_below(&stress->seed, 2) == 0)
        stress->found += pwrite(fd, "!", 1, at) == 1;
    else
        stress->found += ftruncate(fd, at) == 0;
    close(fd);
}

static void *stress_run(void *user) {
    struct stress *stress = user;
    struct cache *cache = NULL;
    /* Room for half of the entries, so that eviction goes on all the time. */
    if (cache_open(&cache, stress->dir, STRESS_KEYS * STRESS_BYTES / 4, &logger) != CLAT_OK)
        stress->wrong++;
    for (unsigned step = 0; cache != NULL && step < STRESS_STEPS; step++) {
        const unsigned number = (unsigned)harness_random_below(&stress->seed, STRESS_KEYS);
        if (stress->vandal)
            stress_damage(stress, cache, number);
        else
            stress_use(stress, cache, number);
    }
    cache_close(cache);
    return NULL;
}

static void test_processes(void **state) {
    (void)state;
    enum { CHILDREN = 4 };
    const char *dir = harness_temp_dir();
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct stress stress = {.dir = dir, .seed = (uint64_t)i, .vandal = i == 0};
            stress_run(&stress);
            _exit(stress.wrong > 0 ? 1 : stress.found == 0 && !stress.vandal ? 2 : 0);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
}

static void test_threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    const char *dir = harness_temp_dir();
    pthread_t threads[THREADS];
    struct stress stress[THREADS];
    for (int i = 0; i < THREADS; i++) {
        stress[i] = (struct stress){.dir = dir, .seed = 10 + (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, stress_run, &stress[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(stress[i].wrong, 0);
        assert_true(stress[i].found > 0);
    }
}

int main(void) {
    harness_add("keys", test_keys, NULL);
    harness_add("round trip", test_round_trip, NULL);
    harness_add("no cache", test_none, NULL);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++)
        harness_add(damages[i].name, test_damage, &damages[i]);
    harness_add("eviction", test_eviction, NULL);
    harness_add("eviction keeps the newest", test_eviction_keeps_new, NULL);
    harness_add("no file descriptor left", test_no_file_descriptor, NULL);
    harness_add("entry of another user", test_other_user, NULL);
    harness_add("entry larger than the cap", test_larger_than_cap, NULL);
    harness_add("other files in the directory", test_other_files, NULL);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        harness_add(rules[i].name, test_rule, &rules[i]);
    harness_add("modes", test_modes, NULL);
    harness_add("unusable directory", test_unusable_directory, NULL);
    harness_add("directory removed meanwhile", test_directory_removed, NULL);
    harness_add("full disk", test_full_disk, NULL);
    harness_add("processes and a vandal", test_processes, NULL);
    harness_add("threads", test_threads, NULL);
    return harness_run_added();
}
