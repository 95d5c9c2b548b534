/* Pieces of OpenCL C that callers bring. Equal texts are one object, so that problems which hold
 * one can be compared byte by byte. */
#ifndef CLAT_SNIPPET_H
#define CLAT_SNIPPET_H

#include "status.h"

#include <stdint.h>

struct snippet;

/* A reference to the snippet of this text, which is copied. */
clat_status snippet_take(struct snippet **out, const char *text);

struct snippet *snippet_retain(struct snippet *snippet); /* gives it back; NULL is fine */
void snippet_release(struct snippet *snippet);           /* NULL is fine */

const char *snippet_text(const struct snippet *snippet);
uint32_t snippet_number(const struct snippet *snippet); /* of its text, to tell it from others */

#endif
