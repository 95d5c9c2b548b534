/* Read by clang-tidy before each source file: it looks at one file at a time, and would otherwise
 * suppose that these might report success. */
#include "status.h"

#define status_no_memory(bytes) (status_no_memory(bytes), CLAT_OUT_OF_MEMORY)
#define status_fail(status, ...) (status_fail(status, __VA_ARGS__), (status))
