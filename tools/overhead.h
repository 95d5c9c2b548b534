/* What a call costs besides the arithmetic. */
#ifndef OVERHEAD_H
#define OVERHEAD_H

#include "tool.h"

/* Times the first call of a GEMM in fresh processes, with empty and with filled caches, and
 * clat_gemm_run beside bare enqueues of the very same kernels; prints both. */
bool bench_overhead(const struct tool_common *common);

/* What the fresh processes run, told by an environment variable that the parent sets: when it is
 * set, makes and runs one plan, prints the seconds on standard output, and gives an exit code. -1:
 * this is an ordinary process. */
int overhead_child(void);

#endif
