#include "status.h"

#include <stdio.h>
#include <string.h>

/* The last call of this thread. A build log is the longest thing that goes in here. */
static _Thread_local char error_text[4096];
static _Thread_local cl_int error_cl;

const char *clat_version(void) {
#define QUOTE_(x) #x
#define QUOTE(x) QUOTE_(x)
    return QUOTE(CLAT_VERSION_MAJOR) "." QUOTE(CLAT_VERSION_MINOR) "." QUOTE(CLAT_VERSION_PATCH);
}

const char *clat_status_name(clat_status status) {
    switch (status) {
#define NAME_CASE(name, value, meaning)                                                            \
    case CLAT_##name:                                                                              \
        return "CLAT_" #name;
        CLAT_STATUS_MAP(NAME_CASE)
    }
    return "CLAT_UNKNOWN";
}

const char *clat_status_meaning(clat_status status) {
    switch (status) {
#define MEANING_CASE(name, value, meaning)                                                         \
    case CLAT_##name:                                                                              \
        return meaning;
        CLAT_STATUS_MAP(MEANING_CASE)
    }
    return "not a clattice status";
}

const char *clat_error_text(void) {
    return error_text;
}

cl_int clat_error_cl(void) {
    return error_cl;
}

void status_clear(void) {
    error_text[0] = '\0';
    error_cl = CL_SUCCESS;
}

clat_status status_fail(clat_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    return status;
}

clat_status status_cl(cl_int code, const char *call) {
    if (code == CL_SUCCESS)
        return CLAT_OK;
    const int length = (int)strcspn(call, "(");
    /* CL_OUT_OF_RESOURCES may be anything: NVIDIA's answer to a kernel's illegal access, too. */
    const bool memory = code == CL_OUT_OF_HOST_MEMORY || code == CL_MEM_OBJECT_ALLOCATION_FAILURE;
    error_cl = code;
    return status_fail(memory ? CLAT_OUT_OF_MEMORY : CLAT_OPENCL_ERROR, "%.*s failed: %s (%d)",
                       length, call, status_cl_name(code), (int)code);
}

clat_status status_no_memory(size_t bytes) {
    return status_fail(CLAT_OUT_OF_MEMORY, "no host memory for %zu bytes", bytes);
}

#define CL_CODE_MAP(X)                                                                             \
    X(CL_SUCCESS)                                                                                  \
    X(CL_DEVICE_NOT_FOUND)                                                                         \
    X(CL_DEVICE_NOT_AVAILABLE)                                                                     \
    X(CL_COMPILER_NOT_AVAILABLE)                                                                   \
    X(CL_MEM_OBJECT_ALLOCATION_FAILURE)                                                            \
    X(CL_OUT_OF_RESOURCES)                                                                         \
    X(CL_OUT_OF_HOST_MEMORY)                                                                       \
    X(CL_PROFILING_INFO_NOT_AVAILABLE)                                                             \
    X(CL_MEM_COPY_OVERLAP)                                                                         \
    X(CL_BUILD_PROGRAM_FAILURE)                                                                    \
    X(CL_MAP_FAILURE)                                                                              \
    X(CL_MISALIGNED_SUB_BUFFER_OFFSET)                                                             \
    X(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)                                                \
    X(CL_INVALID_VALUE)                                                                            \
    X(CL_INVALID_DEVICE_TYPE)                                                                      \
    X(CL_INVALID_PLATFORM)                                                                         \
    X(CL_INVALID_DEVICE)                                                                           \
    X(CL_INVALID_CONTEXT)                                                                          \
    X(CL_INVALID_QUEUE_PROPERTIES)                                                                 \
    X(CL_INVALID_COMMAND_QUEUE)                                                                    \
    X(CL_INVALID_HOST_PTR)                                                                         \
    X(CL_INVALID_MEM_OBJECT)                                                                       \
    X(CL_INVALID_BINARY)                                                                           \
    X(CL_INVALID_BUILD_OPTIONS)                                                                    \
    X(CL_INVALID_PROGRAM)                                                                          \
    X(CL_INVALID_PROGRAM_EXECUTABLE)                                                               \
    X(CL_INVALID_KERNEL_NAME)                                                                      \
    X(CL_INVALID_KERNEL_DEFINITION)                                                                \
    X(CL_INVALID_KERNEL)                                                                           \
    X(CL_INVALID_ARG_INDEX)                                                                        \
    X(CL_INVALID_ARG_VALUE)                                                                        \
    X(CL_INVALID_ARG_SIZE)                                                                         \
    X(CL_INVALID_KERNEL_ARGS)                                                                      \
    X(CL_INVALID_WORK_DIMENSION)                                                                   \
    X(CL_INVALID_WORK_GROUP_SIZE)                                                                  \
    X(CL_INVALID_WORK_ITEM_SIZE)                                                                   \
    X(CL_INVALID_GLOBAL_OFFSET)                                                                    \
    X(CL_INVALID_EVENT_WAIT_LIST)                                                                  \
    X(CL_INVALID_EVENT)                                                                            \
    X(CL_INVALID_OPERATION)                                                                        \
    X(CL_INVALID_BUFFER_SIZE)                                                                      \
    X(CL_INVALID_GLOBAL_WORK_SIZE)                                                                 \
    X(CL_INVALID_PROPERTY)

const char *status_cl_name(cl_int code) {
    switch (code) {
#define CODE_CASE(name)                                                                            \
    case name:                                                                                     \
        return #name;
        CL_CODE_MAP(CODE_CASE)
    default:
        return code == -1001 ? "no OpenCL platform is installed" : "unknown OpenCL error";
    }
}
