/* Rows of text in columns of fixed width, printed as they come. */
#ifndef TABLE_H
#define TABLE_H

#include "tool.h"

struct column {
    const char *title;
    int width; /* negative: flush left */
};

void table_head(FILE *file, const struct column *columns, size_t count);

/* Cells longer than their column are cut and end in "..". */
void table_row(FILE *file, const struct column *columns, size_t count, const char *const *cells);

/* "12.3", "0.0123", "4567": about three significant digits. */
const char *format_number(char *text, size_t size, double value);

#endif
