#include "tuner_journal.h"

#include "tuning_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Older lines are measured again: clocks, neighbours and moods of a machine change. */
#define JOURNAL_SECONDS (24 * 3600)
#define JOURNAL_BYTES ((off_t)64 << 20)

struct record {
    struct cache_key key;
    struct score score;
};

struct journal {
    int fd;
    const struct logger *log;
    bool broken; /* a write failed; said once, no more tried */
    struct tuned_device device;
    struct record *records;
    size_t count, capacity;
};

static const char *const outcome_names[] = {
#define OUTCOME_NAME(enumerator, name) [enumerator] = name,
    OUTCOME_MAP(OUTCOME_NAME)
#undef OUTCOME_NAME
};

/* ---- keys ---- */

static bool entry_key(const struct tuned_device *device, const struct tuned_entry *candidate,
                      struct cache_key *out) {
    struct text shape = {0};
    char source[17];
    for (unsigned i = 0; i < candidate->shape.count; i++)
        text_printf(&shape, "%s=%llu ", candidate->shape.dim[i].name,
                    (unsigned long long)candidate->shape.dim[i].value);
    snprintf(source, sizeof source, "%016llx", (unsigned long long)candidate->source_hash);
    const char *const parts[] = {device->name,        device->driver,
                                 candidate->op,       candidate->implementation,
                                 candidate->tunables, candidate->shape.variant,
                                 text_string(&shape), source};
    bool complete = !shape.failed;
    if (complete)
        *out = cache_key_of(sizeof parts / sizeof parts[0], parts);
    text_free(&shape);
    return complete;
}

static void remember(struct journal *journal, struct cache_key key, const struct score *score) {
    if (journal->count == journal->capacity) {
        size_t capacity = journal->capacity > 0 ? 2 * journal->capacity : 64;
        struct record *grown = realloc(journal->records, capacity * sizeof *grown);
        if (grown == NULL)
            return; /* measured again, no worse */
        journal->records = grown;
        journal->capacity = capacity;
    }
    journal->records[journal->count++] = (struct record){key, *score};
}

/* Power fails and processes are killed, so one start without an end is no proof. */
#define UNFINISHED_STARTS 2

bool journal_find(const struct journal *journal, const struct tuned_entry *candidate,
                  struct score *out) {
    struct cache_key key;
    unsigned unfinished = 0;
    if (journal == NULL || !entry_key(&journal->device, candidate, &key))
        return false;
    for (size_t i = journal->count; i-- > 0;) {
        const struct record *record = &journal->records[i];
        if (record->key.low != key.low || record->key.high != key.high)
            continue;
        if (record->score.outcome != OUTCOME_STARTED) {
            *out = record->score;
            return true;
        }
        unfinished++;
    }
    if (unfinished < UNFINISHED_STARTS)
        return false;
    *out = (struct score){.outcome = OUTCOME_FAILED};
    strcpy(out->why, "two earlier runs did not survive it");
    return true;
}

/* ---- reading ---- */

static bool copy_field(const json_t *line, const char *field, char *out, size_t size) {
    const char *value = json_string_value(json_object_get(line, field));
    if (value == NULL || strlen(value) >= size)
        return false;
    strcpy(out, value);
    return true;
}

static bool read_dims(json_t *dims, struct shape *shape) {
    const char *name;
    json_t *value;
    if (!json_is_object(dims) || json_object_size(dims) > OP_MAX_DIMS)
        return false;
    json_object_foreach(dims, name, value) {
        if (!json_is_integer(value))
            return false;
        shape->dim[shape->count].name = name;
        shape->dim[shape->count++].value = (uint64_t)json_integer_value(value);
    }
    return true;
}

static bool read_score(const json_t *line, struct score *out) {
    char outcome[16];
    const unsigned count = sizeof outcome_names / sizeof outcome_names[0];
    unsigned i = 0;
    if (!copy_field(line, "outcome", outcome, sizeof outcome))
        return false;
    while (i < count && strcmp(outcome_names[i], outcome) != 0)
        i++;
    out->outcome = (enum outcome)i;
    out->seconds = json_number_value(json_object_get(line, "seconds"));
    out->single = json_number_value(json_object_get(line, "single"));
    out->cost = json_number_value(json_object_get(line, "cost"));
    if (!isfinite(out->cost) || out->cost < 0)
        return false;
    if (out->outcome == OUTCOME_MEASURED)
        return isfinite(out->seconds) && out->seconds > 0 && isfinite(out->single) &&
               out->single > 0;
    return i < count && copy_field(line, "why", out->why, sizeof out->why);
}

/* The key and score of a line that is well-formed and fresh. */
static bool read_line(json_t *line, time_t now, struct cache_key *key, struct score *score) {
    struct tuned_device device = {0};
    struct tuned_entry entry = {0};
    char source[17];
    const json_t *time_field = json_object_get(line, "time");
    if (!json_is_integer(time_field) || json_integer_value(time_field) > now ||
        json_integer_value(time_field) < now - JOURNAL_SECONDS)
        return false;
    if (!copy_field(line, "device", device.name, sizeof device.name) ||
        !copy_field(line, "driver", device.driver, sizeof device.driver) ||
        !copy_field(line, "op", entry.op, sizeof entry.op) ||
        !copy_field(line, "implementation", entry.implementation, sizeof entry.implementation) ||
        !copy_field(line, "tunables", entry.tunables, sizeof entry.tunables) ||
        !copy_field(line, "variant", entry.shape.variant, sizeof entry.shape.variant) ||
        !copy_field(line, "source", source, sizeof source) ||
        !read_dims(json_object_get(line, "shape"), &entry.shape) || !read_score(line, score))
        return false;
    entry.source_hash = strtoull(source, NULL, 16);
    return entry_key(&device, &entry, key);
}

static void read_lines(struct journal *journal, const char *data, size_t size, const char *path) {
    size_t skipped = 0;
    const time_t now = time(NULL);
    for (const char *line = data, *end = data + size; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *stop = newline != NULL ? newline : end;
        struct cache_key key;
        struct score score = {0};
        json_t *json = json_loadb(line, (size_t)(stop - line), JSON_REJECT_DUPLICATES, NULL);
        if (json != NULL && read_line(json, now, &key, &score))
            remember(journal, key, &score);
        else
            skipped++;
        json_decref(json);
        line = stop + 1;
    }
    if (journal->count > 0 || skipped > 0)
        log_printf(journal->log, CLAT_LOG_DEBUG,
                   "journal %s: %zu lines, %zu more too old or malformed", path, journal->count,
                   skipped);
}

/* ---- writing ---- */

static json_t *line_json(const struct journal *journal, const struct tuned_entry *candidate,
                         const struct score *score) {
    char source[17];
    json_t *line = json_object(), *dims = json_object();
    for (unsigned i = 0; i < candidate->shape.count; i++)
        json_object_set_new(dims, candidate->shape.dim[i].name,
                            json_integer((json_int_t)candidate->shape.dim[i].value));
    snprintf(source, sizeof source, "%016llx", (unsigned long long)candidate->source_hash);
    json_object_set_new(line, "time", json_integer(time(NULL)));
    json_object_set_new(line, "device", json_string(journal->device.name));
    json_object_set_new(line, "driver", json_string(journal->device.driver));
    json_object_set_new(line, "op", json_string(candidate->op));
    json_object_set_new(line, "implementation", json_string(candidate->implementation));
    json_object_set_new(line, "variant", json_string(candidate->shape.variant));
    json_object_set_new(line, "shape", dims);
    json_object_set_new(line, "tunables", json_string(candidate->tunables));
    json_object_set_new(line, "source", json_string(source));
    json_object_set_new(line, "outcome", json_string(outcome_names[score->outcome]));
    json_object_set_new(line, "cost", json_real(score->cost));
    if (score->outcome == OUTCOME_MEASURED) {
        json_object_set_new(line, "seconds", json_real(score->seconds));
        json_object_set_new(line, "single", json_real(score->single));
    } else {
        json_object_set_new(line, "why", json_string(score->why));
    }
    return line;
}

/* One write for the whole line, so that a line is there or it is not. */
static void append(struct journal *journal, const struct text *line) {
    if (journal->broken || line->failed || line->length == 0 ||
        write(journal->fd, line->data, line->length) == (ssize_t)line->length)
        return;
    journal->broken = true;
    log_printf(journal->log, CLAT_LOG_WARNING, "the tuning journal cannot be written: %s",
               strerror(errno));
}

void journal_add(struct journal *journal, const struct tuned_entry *candidate,
                 const struct score *score) {
    struct cache_key key;
    if (journal == NULL || !entry_key(&journal->device, candidate, &key))
        return;
    remember(journal, key, score);
    json_t *json = line_json(journal, candidate, score);
    char *line = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    struct text text = {0};
    if (line != NULL)
        text_printf(&text, "%s\n", line);
    append(journal, &text);
    text_free(&text);
    free(line);
    json_decref(json);
}

/* ---- opening ---- */

/* true: the file is ours for the run. */
static bool claim(int fd, const char *path, const struct logger *log) {
    struct stat about;
    if (fd < 0 || fstat(fd, &about) != 0) {
        log_printf(log, CLAT_LOG_WARNING, "journal %s: %s; this run keeps none", path,
                   strerror(errno));
        return false;
    }
    if (!S_ISREG(about.st_mode) || about.st_size > JOURNAL_BYTES) {
        log_printf(log, CLAT_LOG_WARNING, "journal %s: %s; this run keeps none", path,
                   S_ISREG(about.st_mode) ? "larger than 64 MiB" : "not a regular file");
        return false;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        log_printf(log, CLAT_LOG_INFO, "journal %s: another tuner uses it; this run keeps none",
                   path);
        return false;
    }
    return true;
}

/* A line cut short by a crash must not swallow the next one; a file without a good line starts
 * anew. */
static void tidy(struct journal *journal, const struct text *content) {
    const struct text newline = {.data = (char[]){"\n"}, .length = 1};
    if (journal->count == 0)
        journal->broken = ftruncate(journal->fd, 0) != 0;
    else if (content->data[content->length - 1] != '\n')
        append(journal, &newline);
}

clat_status journal_open(struct journal **out, const char *tuned_file, const struct device *device,
                         const struct logger *log) {
    struct text content = {0};
    struct journal *journal = NULL;
    clat_status st = CLAT_OK;
    *out = NULL;
    if (tuned_file[0] == '\0' || tuned_file_make_parents(tuned_file) != CLAT_OK)
        return CLAT_OK;
    char *path = text_format("%s.journal", tuned_file);
    if (path == NULL)
        return status_no_memory(strlen(tuned_file) + 9);
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
    if (!claim(fd, path, log))
        goto out;
    journal = calloc(1, sizeof *journal);
    if (journal == NULL)
        TRY(status_no_memory(sizeof *journal));
    *journal = (struct journal){.fd = fd, .log = log};
    fd = -1;
    tuned_device_of(&journal->device, device);
    TRY(text_read_file(&content, path));
    read_lines(journal, text_string(&content), content.length, path);
    tidy(journal, &content);
    *out = journal;
    journal = NULL;
out:
    journal_close(journal);
    if (fd >= 0)
        close(fd);
    text_free(&content);
    free(path);
    return st;
}

void journal_close(struct journal *journal) {
    if (journal == NULL)
        return;
    close(journal->fd);
    free(journal->records);
    free(journal);
}
