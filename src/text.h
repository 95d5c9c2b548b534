/* A growing string. Once an append fails it stays failed: check once, at the end. */
#ifndef CLAT_TEXT_H
#define CLAT_TEXT_H

#include "status.h"

struct text {
    char *data; /* NUL-terminated after the first append; NULL before */
    size_t length, capacity;
    bool failed;
};

void text_append(struct text *text, const char *data, size_t length);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CLAT_OUT_OF_MEMORY when an append failed. */
clat_status text_check(const struct text *text);

/* "" instead of NULL. */
const char *text_string(const struct text *text);

void text_free(struct text *text);

/* Appends the whole file. CLAT_NOT_FOUND when it does not exist, CLAT_IO_ERROR otherwise. */
clat_status text_read_file(struct text *text, const char *path);

/* A malloc'ed string; NULL when memory is exhausted. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
