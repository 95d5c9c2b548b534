#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_cell(FILE *file, const struct column *column, const char *text, bool last) {
    const int width = abs(column->width), length = (int)strlen(text);
    if (length > width && width > 2)
        fprintf(file, "%.*s..", width - 2, text);
    else if (column->width < 0)
        fprintf(file, "%-*s", last ? 0 : width, text);
    else
        fprintf(file, "%*s", width, text);
    fputs(last ? "\n" : "  ", file);
}

void table_row(FILE *file, const struct column *columns, size_t count, const char *const *cells) {
    for (size_t i = 0; i < count; i++)
        print_cell(file, &columns[i], cells[i], i + 1 == count);
    fflush(file);
}

void table_head(FILE *file, const struct column *columns, size_t count) {
    for (size_t i = 0; i < count; i++)
        print_cell(file, &columns[i], columns[i].title, i + 1 == count);
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < abs(columns[i].width); c++)
            fputc('-', file);
        fputs(i + 1 == count ? "\n" : "  ", file);
    }
}

const char *format_number(char *text, size_t size, double value) {
    const double magnitude = fabs(value);
    const int digits = magnitude >= 100   ? 0
                       : magnitude >= 10  ? 1
                       : magnitude >= 1   ? 2
                       : magnitude >= 0.1 ? 3
                                          : 4;
    snprintf(text, size, "%.*f", digits, value);
    return text;
}
