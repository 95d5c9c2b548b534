/* Results as documents. */
#ifndef PUBLISH_H
#define PUBLISH_H

#include "results.h"

/*
 * Replaces what is between "<!-- results: SUITE -->" and the next "<!-- end -->" of the file by the
 * results as a Markdown table. A file without that place is left alone, with a note.
 */
bool markdown_update(const char *path, const struct results *results, size_t count);

/* "gemm, attention-64, ...": plots that plot_print knows. */
extern const char plot_names[];
bool plot_is_known(const char *name);

/* Writes a gnuplot script that draws the plot as SVG on standard output. */
bool plot_print(FILE *file, const char *name, const struct results *results, size_t count);

#endif
