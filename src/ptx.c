#include "ptx.h"

#include "binary.h"

#include <stdlib.h>
#include <string.h>

static const char mark[] = "//@", target[] = ".target sm_90", comment[] = "//";
static const char entry[] = ".entry", work_group[] = ".reqntid", directive[] = "//@.";

enum { MARK = sizeof mark - 1, TARGET = sizeof target - 1 };

bool ptx_is_marked(const char *text) {
    return strstr(text, mark) != NULL;
}

/* `line` is that of sm_90 itself, of no variant. */
static bool is_target(const char *line) {
    return strncmp(line, target, TARGET) == 0 && strchr(", \t\r\n", line[TARGET]) != NULL;
}

static bool is_work_group(const char *line) {
    return strncmp(line + strspn(line, " \t"), work_group, sizeof work_group - 1) == 0;
}

static size_t line_length(const char *line) {
    const size_t length = strcspn(line, "\n");
    return length + (line[length] == '\n');
}

/* Directives stay where they are, as comments. Returns whether there was an instruction. */
static bool append_unmarked(struct text *out, const char *line, size_t length) {
    const char *const end = line + length;
    const char *found;
    bool any = false;
    while ((found = memmem(line, (size_t)(end - line), mark, MARK)) != NULL) {
        const bool is_directive = strncmp(found, directive, sizeof directive - 1) == 0;
        text_append(out, line, (size_t)(found - line));
        if (is_directive)
            text_append(out, comment, sizeof comment - 1);
        any |= !is_directive;
        line = found + MARK;
    }
    text_append(out, line, (size_t)(end - line));
    return any;
}

/* The directives in the body of the kernel whose head goes on here. */
static void append_directives(struct text *out, const char *ptx) {
    const char *const next = strstr(ptx, entry);
    const char *found = ptx;
    while ((found = strstr(found, directive)) != NULL && (next == NULL || found < next)) {
        found += MARK;
        text_append(out, found, strcspn(found, "\r\n"));
        text_append(out, "\n", 1);
    }
}

bool ptx_unmark(struct text *out, const char *ptx) {
    bool retargeted = false, unmarked = false;
    while (*ptx != '\0') {
        const size_t length = line_length(ptx);
        if (is_target(ptx)) {
            retargeted = true;
            text_append(out, target, TARGET);
            text_append(out, "a", 1);
            text_append(out, ptx + TARGET, length - TARGET);
        } else {
            if (is_work_group(ptx))
                append_directives(out, ptx);
            unmarked |= append_unmarked(out, ptx, length);
        }
        ptx += length;
    }
    return retargeted && unmarked;
}

cl_int ptx_finish(cl_program *out, const struct device *device, cl_program program,
                  const char *options) {
    struct text text = {0};
    size_t size = 0;
    cl_int err = CL_OUT_OF_RESOURCES, status = CL_SUCCESS; /* which proves nothing */
    char *ptx = binary_read(program, device->id, &size);
    const bool unmarked = ptx != NULL && ptx_unmark(&text, ptx);
    *out = NULL;
    if (ptx != NULL && !unmarked)
        err = CL_INVALID_BINARY;
    if (unmarked) {
        const unsigned char *binary = (const unsigned char *)text_string(&text);
        err = CL_OUT_OF_HOST_MEMORY;
        if (text_check(&text) == CLAT_OK)
            *out = clCreateProgramWithBinary(device->cl, 1, &device->id, &text.length, &binary,
                                             &status, &err);
        if (err == CL_SUCCESS)
            err = status;
        if (err == CL_SUCCESS)
            err = clBuildProgram(*out, 1, &device->id, options, NULL, NULL);
    }
    text_free(&text);
    free(ptx);
    return err;
}
