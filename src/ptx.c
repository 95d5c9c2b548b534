#include "ptx.h"

#include "binary.h"

#include <stdlib.h>
#include <string.h>

static const char mark[] = "//@", target[] = ".target sm_90", work_group[] = ".reqntid";
static const char deals_registers[] = "//@setmaxnreg";

enum { MARK = sizeof mark - 1, TARGET = sizeof target - 1 };

bool ptx_is_marked(const char *text) {
    return strstr(text, mark) != NULL;
}

/* `line` is that of sm_90 itself, of no variant. */
static bool is_target(const char *line) {
    return strncmp(line, target, TARGET) == 0 && strchr(", \t\r\n", line[TARGET]) != NULL;
}

static void append_unmarked(struct text *out, const char *line, size_t length) {
    const char *const end = line + length;
    const char *found;
    while ((found = memmem(line, (size_t)(end - line), mark, MARK)) != NULL) {
        text_append(out, line, (size_t)(found - line));
        line = found + MARK;
    }
    text_append(out, line, (size_t)(end - line));
}

bool ptx_unmark(struct text *out, const char *ptx) {
    const bool alone = strstr(ptx, deals_registers) != NULL;
    bool found = false;
    while (*ptx != '\0') {
        const size_t line = strcspn(ptx, "\n"), length = line + (ptx[line] == '\n');
        if (is_target(ptx)) {
            found = true;
            text_append(out, target, TARGET);
            text_append(out, "a", 1);
            text_append(out, ptx + TARGET, length - TARGET);
        } else {
            if (alone && strncmp(ptx, work_group, sizeof work_group - 1) == 0)
                text_printf(out, ".minnctapersm 1\n");
            append_unmarked(out, ptx, length);
        }
        ptx += length;
    }
    return found;
}

cl_int ptx_finish(cl_program *out, const struct device *device, cl_program program,
                  const char *options) {
    struct text text = {0};
    size_t size = 0;
    cl_int err = CL_INVALID_BINARY, status = CL_SUCCESS;
    char *ptx = binary_read(program, device->id, &size);
    *out = NULL;
    if (ptx != NULL && ptx_unmark(&text, ptx)) {
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
