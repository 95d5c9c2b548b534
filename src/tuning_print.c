#include "tuning_file.h"

#include "files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void copy_ascii(char *out, size_t size, const char *string) {
    size_t length = 0;
    for (; string[length] != '\0' && length + 1 < size; length++)
        out[length] = string[length] < ' ' || string[length] > '~' ? '?' : string[length];
    out[length] = '\0';
}

void tuned_device_of(struct tuned_device *out, const struct device *device) {
    memset(out, 0, sizeof *out);
    copy_ascii(out->name, sizeof out->name, device->name);
    copy_ascii(out->vendor, sizeof out->vendor, device_vendor_slug(device->vendor));
    copy_ascii(out->architecture, sizeof out->architecture, device->architecture);
    copy_ascii(out->driver, sizeof out->driver, device->driver);
    copy_ascii(out->platform, sizeof out->platform, device->platform_name);
    out->compute_units = device->compute_units;
}

static int compare_entries(const void *left, const void *right) {
    const struct tuned_entry *a = left, *b = right;
    int order = strcmp(a->op, b->op);
    if (order == 0)
        order = strcmp(a->shape.variant, b->shape.variant);
    for (unsigned i = 0; order == 0 && i < a->shape.count && i < b->shape.count; i++) {
        uint64_t x = a->shape.dim[i].value, y = b->shape.dim[i].value;
        order = x < y ? -1 : x > y;
    }
    return order != 0 ? order : strcmp(a->implementation, b->implementation);
}

static void sort_entries(struct tuned_file *file) {
    if (file->count > 1)
        qsort(file->entries, file->count, sizeof *file->entries, compare_entries);
    for (size_t i = 0; i < file->count; i++)
        tuned_entry_copy(&file->entries[i], &file->entries[i]);
}

static json_t *device_json(const struct tuned_device *device) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "name", device->name, "vendor",
                     device->vendor, "architecture", device->architecture, "driver", device->driver,
                     "platform", device->platform, "compute_units",
                     (json_int_t)device->compute_units);
}

static json_t *tunables_json(const char *tunables) {
    json_t *object = json_object();
    char copy[sizeof((struct tuned_entry *)NULL)->tunables], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", tunables);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        json_object_set_new(object, word, json_integer(strtol(equals + 1, NULL, 10)));
    }
    return object;
}

static json_t *entry_json(const struct tuned_entry *entry, const char *file_driver) {
    char source[17];
    json_t *object = json_object(), *shape = json_object();
    for (unsigned i = 0; i < entry->shape.count; i++)
        json_object_set_new(shape, entry->shape.dim[i].name,
                            json_integer((json_int_t)entry->shape.dim[i].value));
    snprintf(source, sizeof source, "%016llx", (unsigned long long)entry->source_hash);
    json_object_set_new(object, "op", json_string(entry->op));
    json_object_set_new(object, "implementation", json_string(entry->implementation));
    json_object_set_new(object, "variant", json_string(entry->shape.variant));
    json_object_set_new(object, "shape", shape);
    json_object_set_new(object, "tunables", tunables_json(entry->tunables));
    json_object_set_new(object, "gflops", json_real(entry->gflops));
    json_object_set_new(object, "source", json_string(source));
    if (entry->guess[0] != '\0')
        json_object_set_new(object, "guess", tunables_json(entry->guess));
    if (entry->date[0] != '\0')
        json_object_set_new(object, "date", json_string(entry->date));
    if (strcmp(entry->driver, file_driver) != 0)
        json_object_set_new(object, "driver", json_string(entry->driver));
    return object;
}

/* On one line; gives `json` up. */
static void print_json(struct text *out, json_t *json) {
    char *string = json != NULL ? json_dumps(json, JSON_REAL_PRECISION(6)) : NULL;
    if (string != NULL)
        text_printf(out, "%s", string);
    else
        out->failed = true;
    free(string);
    json_decref(json);
}

/* One entry a line: a shape tuned again is one changed line in a diff. */
clat_status tuned_file_print(struct tuned_file *file, struct text *out) {
    sort_entries(file);
    text_printf(out, "{\n  \"schema\": %d,\n  \"library\": \"%s\",\n  \"device\": ", TUNED_SCHEMA,
                clat_version());
    print_json(out, device_json(&file->device));
    text_printf(out, ",\n  \"entries\": [");
    for (size_t i = 0; i < file->count; i++) {
        text_printf(out, "%s\n    ", i > 0 ? "," : "");
        print_json(out, entry_json(&file->entries[i], file->device.driver));
    }
    text_printf(out, "%s]\n}\n", file->count > 0 ? "\n  " : "");
    return text_check(out);
}

clat_status tuned_file_make_parents(const char *path) {
    const int error = files_make_parents(path, 0777);
    if (error == 0)
        return CLAT_OK;
    return status_fail(CLAT_IO_ERROR, "cannot create the directory of %s: %s", path,
                       strerror(error));
}

clat_status tuned_file_write(const char *path, const struct text *content) {
    const struct file_replacement with = {
        .temporary = text_format("%s.XXXXXX", path),
        .mode = 0644, /* as readable as its directory */
        .sync = true,
        .count = 1,
        .parts = {{content->data, content->length}},
    };
    if (with.temporary == NULL)
        return status_no_memory(strlen(path) + 8);
    const int error = files_replace(path, &with);
    free(with.temporary);
    if (error == 0)
        return CLAT_OK;
    return status_fail(CLAT_IO_ERROR, "cannot write %s: %s", path, strerror(error));
}
