#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_reserve(struct text *text, size_t more) {
    if (text->failed)
        return false;
    if (more < text->capacity - text->length)
        return true;
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity - text->length <= more) {
        if (capacity > SIZE_MAX / 2)
            goto fail;
        capacity *= 2;
    }
    char *data = realloc(text->data, capacity);
    if (data == NULL)
        goto fail;
    text->data = data;
    text->capacity = capacity;
    return true;
fail:
    text->failed = true;
    return false;
}

void text_append(struct text *text, const char *data, size_t length) {
    if (!text_reserve(text, length))
        return;
    memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = '\0';
}

static void text_vprintf(struct text *text, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    if (length < 0)
        text->failed = true;
    else if (text_reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void text_printf(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_vprintf(text, format, args);
    va_end(args);
}

clat_status text_check(const struct text *text) {
    return text->failed ? status_no_memory(text->length) : CLAT_OK;
}

const char *text_string(const struct text *text) {
    return text->data ? text->data : "";
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

clat_status text_read_file(struct text *text, const char *path) {
    clat_status st = CLAT_OK;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return status_fail(errno == ENOENT || errno == ENOTDIR ? CLAT_NOT_FOUND : CLAT_IO_ERROR,
                           "cannot open %s: %s", path, strerror(errno));
    char block[16384];
    size_t got;
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        text_append(text, block, got);
    if (ferror(file))
        TRY(status_fail(CLAT_IO_ERROR, "cannot read %s: %s", path, strerror(errno)));
    st = text_check(text);
out:
    fclose(file);
    return st;
}

char *text_format(const char *format, ...) {
    struct text text = {0};
    va_list args;
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    if (!text.failed)
        return text.data;
    text_free(&text);
    return NULL;
}
