#include "tuning_file.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Far above any real file; keeps a mistaken path from eating the memory. */
#define TUNED_FILE_BYTES ((size_t)16 << 20)

/* Where in which file a complaint belongs. */
struct place {
    const char *file;
    const char *part; /* "device", "entry" or "" */
    size_t index;     /* of the entry */
};

static clat_status malformed(const struct place *at, const char *field, const char *complaint) {
    if (strcmp(at->part, "entry") == 0)
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: entry %zu: \"%s\" %s", at->file,
                           at->index, field, complaint);
    return status_fail(CLAT_INVALID_FILE, "tuned file %s: %s\"%s\" %s", at->file,
                       at->part[0] ? "device: " : "", field, complaint);
}

static clat_status read_string(const struct place *at, const json_t *object, const char *field,
                               char *out, size_t size) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_string(value))
        return malformed(at, field, "must be a string");
    const char *string = json_string_value(value);
    size_t length = strlen(string);
    if (length >= size)
        return malformed(at, field, "is too long");
    for (size_t i = 0; i < length; i++)
        if (string[i] < ' ' || string[i] > '~')
            return malformed(at, field, "must be printable ASCII");
    memcpy(out, string, length + 1);
    return CLAT_OK;
}

static bool is_identifier(const char *name, size_t size) {
    size_t length = strlen(name);
    return length > 0 && length < size && (name[0] < '0' || name[0] > '9') &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
               length;
}

static clat_status read_word(const struct place *at, const json_t *object, const char *field,
                             char *out, size_t size) {
    clat_status st = read_string(at, object, field, out, size);
    if (st == CLAT_OK && !is_identifier(out, size))
        return malformed(at, field, "must be one word of letters, digits and underscores");
    return st;
}

static clat_status read_count(const struct place *at, const json_t *value, const char *field,
                              uint64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return malformed(at, field, "must be an integer, 0 or more");
    *out = (uint64_t)json_integer_value(value);
    return CLAT_OK;
}

/* Every key of `object` must be in the NULL-terminated list: a misspelt optional field would
 * otherwise go unnoticed. */
static clat_status check_fields(const struct place *at, json_t *object, const char *const *known) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        unsigned i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return malformed(at, key, "is not a field of this schema");
    }
    return CLAT_OK;
}

static clat_status read_device(const struct place *at, json_t *object, struct tuned_device *out) {
    static const char *const fields[] = {
        "name", "vendor", "architecture", "driver", "platform", "compute_units", NULL};
    clat_status st = CLAT_OK;
    if (!json_is_object(object)) {
        const struct place file = {at->file, "", 0};
        return malformed(&file, "device", "must be an object");
    }
    TRY(check_fields(at, object, fields));
    TRY(read_string(at, object, "name", out->name, sizeof out->name));
    TRY(read_string(at, object, "vendor", out->vendor, sizeof out->vendor));
    TRY(read_string(at, object, "architecture", out->architecture, sizeof out->architecture));
    TRY(read_string(at, object, "driver", out->driver, sizeof out->driver));
    TRY(read_string(at, object, "platform", out->platform, sizeof out->platform));
    TRY(read_count(at, json_object_get(object, "compute_units"), "compute_units",
                   &out->compute_units));
out:
    return st;
}

static clat_status read_shape(const struct place *at, json_t *object, struct tuned_entry *out) {
    if (!json_is_object(object))
        return malformed(at, "shape", "must be an object");
    if (json_object_size(object) > OP_MAX_DIMS)
        return malformed(at, "shape", "has too many dimensions");
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        unsigned i = out->shape.count;
        if (!is_identifier(key, sizeof out->dim_names[i]))
            return malformed(at, key, "cannot be the name of a dimension");
        clat_status st = read_count(at, value, key, &out->shape.dim[i].value);
        if (st != CLAT_OK)
            return st;
        strcpy(out->dim_names[i], key);
        out->shape.dim[i].name = out->dim_names[i];
        out->shape.count++;
    }
    return CLAT_OK;
}

/* {"MR": 12, "NV": 2} becomes "MR=12 NV=2". */
static clat_status read_tunables(const struct place *at, json_t *entry, const char *name, char *out,
                                 size_t out_size) {
    json_t *object = json_object_get(entry, name);
    if (!json_is_object(object))
        return malformed(at, name, "must be an object");
    if (json_object_size(object) > OP_MAX_TUNABLES)
        return malformed(at, name, "has too many members");
    size_t used = 0;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!is_identifier(key, out_size))
            return malformed(at, key, "cannot be the name of a tunable");
        json_int_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < INT32_MIN || number > INT32_MAX)
            return malformed(at, key, "must be a 32-bit integer");
        int n =
            snprintf(out + used, out_size - used, "%s%s=%d", used > 0 ? " " : "", key, (int)number);
        if (n < 0 || (size_t)n >= out_size - used)
            return malformed(at, name, "is too long");
        used += (size_t)n;
    }
    return CLAT_OK;
}

static clat_status read_source(const struct place *at, const json_t *object, uint64_t *out) {
    char digits[17];
    clat_status st = read_string(at, object, "source", digits, sizeof digits);
    if (st != CLAT_OK)
        return st;
    if (strspn(digits, "0123456789abcdef") != 16)
        return malformed(at, "source", "must be 16 lower-case hexadecimal digits");
    *out = strtoull(digits, NULL, 16);
    return CLAT_OK;
}

static clat_status read_date(const struct place *at, const json_t *object, char out[16]) {
    char date[11];
    clat_status st = read_string(at, object, "date", date, sizeof date);
    if (st != CLAT_OK)
        return st;
    for (unsigned i = 0; i < 10; i++) {
        bool dash = i == 4 || i == 7;
        if (dash ? date[i] != '-' : date[i] < '0' || date[i] > '9')
            return malformed(at, "date", "must look like 2026-01-31");
    }
    strcpy(out, date);
    return CLAT_OK;
}

static clat_status read_entry(const struct place *at, json_t *object, const char *file_driver,
                              struct tuned_entry *out) {
    static const char *const fields[] = {"op",       "implementation", "variant", "shape",
                                         "tunables", "gflops",         "source",  "guess",
                                         "date",     "driver",         NULL};
    clat_status st = CLAT_OK;
    if (!json_is_object(object))
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: entry %zu must be an object",
                           at->file, at->index);
    TRY(check_fields(at, object, fields));
    TRY(read_word(at, object, "op", out->op, sizeof out->op));
    TRY(read_word(at, object, "implementation", out->implementation, sizeof out->implementation));
    TRY(read_string(at, object, "variant", out->shape.variant, sizeof out->shape.variant));
    TRY(read_shape(at, json_object_get(object, "shape"), out));
    TRY(read_tunables(at, object, "tunables", out->tunables, sizeof out->tunables));
    if (json_object_get(object, "guess") != NULL) {
        TRY(read_tunables(at, object, "guess", out->guess, sizeof out->guess));
        if (out->guess[0] == '\0')
            TRY(malformed(at, "guess", "must not be empty"));
    }
    const json_t *gflops = json_object_get(object, "gflops");
    out->gflops = json_number_value(gflops);
    if (!json_is_number(gflops) || !isfinite(out->gflops) || out->gflops < 0)
        TRY(malformed(at, "gflops", "must be a number, 0 or more"));
    TRY(read_source(at, object, &out->source_hash));
    if (json_object_get(object, "date") != NULL)
        TRY(read_date(at, object, out->date));
    strcpy(out->driver, file_driver);
    if (json_object_get(object, "driver") != NULL)
        TRY(read_string(at, object, "driver", out->driver, sizeof out->driver));
out:
    return st;
}

static clat_status read_root(const char *name, json_t *root, struct tuned_file *out) {
    static const char *const fields[] = {"schema", "library", "device", "entries", NULL};
    const struct place file = {name, "", 0}, device = {name, "device", 0};
    char library[32];
    clat_status st = CLAT_OK;
    if (!json_is_object(root))
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: must hold one JSON object", name);
    const json_t *schema = json_object_get(root, "schema");
    if (!json_is_integer(schema) || json_integer_value(schema) != TUNED_SCHEMA)
        TRY(malformed(&file, "schema", "must be 1, the only one this version reads"));
    TRY(check_fields(&file, root, fields));
    TRY(read_string(&file, root, "library", library, sizeof library));
    TRY(read_device(&device, json_object_get(root, "device"), &out->device));
    const json_t *entries = json_object_get(root, "entries");
    if (!json_is_array(entries))
        TRY(malformed(&file, "entries", "must be an array"));
    size_t count = json_array_size(entries);
    if (count > 0 && (out->entries = calloc(count, sizeof *out->entries)) == NULL)
        TRY(status_no_memory(count * sizeof *out->entries));
    for (; out->count < count; out->count++) {
        const struct place entry = {name, "entry", out->count};
        TRY(read_entry(&entry, json_array_get(entries, out->count), out->device.driver,
                       &out->entries[out->count]));
    }
out:
    return st;
}

clat_status tuned_file_parse(struct tuned_file *out, const char *name, const char *data,
                             size_t size) {
    memset(out, 0, sizeof *out);
    json_error_t error;
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: line %d: %s", name, error.line,
                           error.text);
    clat_status st = read_root(name, root, out);
    json_decref(root);
    if (st != CLAT_OK)
        tuned_file_free(out);
    return st;
}

clat_status tuned_file_read(struct tuned_file *out, const char *path) {
    struct text content = {0};
    struct stat about;
    clat_status st = CLAT_OK;
    memset(out, 0, sizeof *out);
    if (stat(path, &about) != 0)
        return status_fail(errno == ENOENT || errno == ENOTDIR ? CLAT_NOT_FOUND : CLAT_IO_ERROR,
                           "tuned file %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode))
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: not a regular file", path);
    if ((uint64_t)about.st_size > TUNED_FILE_BYTES)
        return status_fail(CLAT_INVALID_FILE, "tuned file %s: larger than 16 MiB", path);
    TRY(text_read_file(&content, path));
    TRY(tuned_file_parse(out, path, text_string(&content), content.length));
out:
    text_free(&content);
    return st;
}

void tuned_file_free(struct tuned_file *file) {
    free(file->entries);
    memset(file, 0, sizeof *file);
}
