/* Finding kernel files and putting the text of a program together. */
#ifndef CLAT_SOURCE_H
#define CLAT_SOURCE_H

#include "program.h"
#include "text.h"

/* The strings for clCreateProgramWithSource. What callers bring comes first, before any macro. */
enum source_part { SOURCE_SNIPPET, SOURCE_DEFINES, SOURCE_FILE, SOURCE_PARTS };

struct source {
    struct text part[SOURCE_PARTS];
};

/* The directories to look in, in order: malloc'ed, NULL where there is none. */
void source_directories(char *directory[3], const char *kernel_dir, const struct logger *log);

/* Appends `name` with its includes expanded, from the first of the directories that has it, else
 * from the embedded copy; each file on its own. NOT_FOUND, IO_ERROR. */
clat_status source_read(struct text *out, char *const directory[3], const char *name);

clat_status source_assemble(struct source *source, char *const directory[3],
                            const struct program_request *request);
void source_free(struct source *source);

/* Appends a compiler's log. NVIDIA's compiler does not heed #line and counts lines over all
 * strings:
 * "<kernel>:40:7" becomes "gemm_cpu.cl:12:7". */
void source_name_lines(struct text *out, const struct source *source, const char *log);

#endif
