/*
 * Errors inside the library. A function that can fail returns a clat_status; whoever notices the
 * failure writes the sentence, callers pass the status up and never replace it.
 */
#ifndef CLAT_STATUS_H
#define CLAT_STATUS_H

#include <clattice/clattice.h>

#include <stdarg.h>

/* Need a local `clat_status st` and a label `out`. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != CLAT_OK)                                                                         \
            goto out;                                                                              \
    } while (0)

/* For calls that return an OpenCL code. Calls that give it through a pointer:
 *     mem = clCreateBuffer(..., &err);
 *     TRY(status_cl(err, "clCreateBuffer"));                                  */
#define TRY_CL(call) TRY(status_cl((call), #call))

/* Sets the calling thread's sentence and returns `status`. */
clat_status status_fail(clat_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* CLAT_OK for CL_SUCCESS; else records the OpenCL code and the function's name (`call` is cut at
 * its first parenthesis) and returns CLAT_OPENCL_ERROR, or CLAT_OUT_OF_MEMORY for the codes that
 * mean so. */
clat_status status_cl(cl_int code, const char *call);

/* CLAT_OUT_OF_MEMORY with the number of host bytes that were not to be had. */
clat_status status_no_memory(size_t bytes);

/* Every public entry point that can fail starts with this. */
void status_clear(void);

/* "CL_INVALID_VALUE", or "unknown OpenCL error". */
const char *status_cl_name(cl_int code);

#endif
