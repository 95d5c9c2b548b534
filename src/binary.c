#include "binary.h"

#include <stdlib.h>

/* A program made in a context of several devices has a place for each. */
char *binary_read(cl_program program, cl_device_id device, size_t *size) {
    enum { MAX_DEVICES = 64 };
    cl_uint count = 0, own = 0;
    cl_device_id devices[MAX_DEVICES];
    size_t sizes[MAX_DEVICES] = {0};
    unsigned char *binaries[MAX_DEVICES] = {NULL};
    if (clGetProgramInfo(program, CL_PROGRAM_NUM_DEVICES, sizeof count, &count, NULL) !=
            CL_SUCCESS ||
        clGetProgramInfo(program, CL_PROGRAM_DEVICES, sizeof devices, devices, NULL) !=
            CL_SUCCESS ||
        clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof sizes, sizes, NULL) != CL_SUCCESS)
        return NULL;
    while (own < count && devices[own] != device)
        own++;
    if (own == count || sizes[own] == 0)
        return NULL;
    binaries[own] = calloc(1, sizes[own] + 1); /* the others stay NULL: not copied */
    /* rusticl ends the process over an array longer than needed. */
    if (binaries[own] != NULL &&
        clGetProgramInfo(program, CL_PROGRAM_BINARIES, count * sizeof binaries[0], binaries,
                         NULL) != CL_SUCCESS) {
        free(binaries[own]);
        return NULL;
    }
    *size = sizes[own];
    return (char *)binaries[own];
}
