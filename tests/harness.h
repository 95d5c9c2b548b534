/*
 * What every test program uses. A test is written like this:
 *
 *     static void test_empty(void **state) { (void)state; assert_ok(clat_...); }
 *
 *     static const struct CMUnitTest tests[] = {
 *         cmocka_unit_test(test_empty),
 *         HARNESS_CASE("odd sizes", test_sizes, &odd),   // *state is &odd
 *     };
 *     HARNESS_MAIN(tests)
 *
 * or, with one case for each line of a table:
 *
 *     int main(void)
 *     {
 *         for (size_t i = 0; i < sizeof table / sizeof *table; i++)
 *             harness_add(table[i].name, test_line, &table[i]);
 *         return harness_run_added();
 *     }
 *
 * Programs run from the repository's root, on the device CLATTICE_DEVICE names. The other
 * CLATTICE_* variables are unset, so that a test means the same on every machine.
 * CLATTICE_TEST=pattern runs only the cases whose names match (`*` and `?`); CLATTICE_TEST_LIST=1
 * prints the names and runs none.
 */
#ifndef CLAT_HARNESS_H
#define CLAT_HARNESS_H

#include <clattice/clattice.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs the four above */

/* ------------------------------------------------------------------ programs and cases ------ */

#define HARNESS_CASE(name, function, initial_state)                                                \
    { (name), (function), NULL, NULL, (void *)(uintptr_t)(const void *)(initial_state) }

#define HARNESS_MAIN(tests)                                                                        \
    int main(void) {                                                                               \
        return harness_run((tests), sizeof(tests) / sizeof(tests)[0]);                             \
    }

/* Runs the cases and the clean-up; the exit status of main. There is no group setup: one that sets
 * `*state` would make cmocka ignore the cases' own. */
int harness_run(const struct CMUnitTest *tests, size_t count);

/* Adds a case to those of harness_run_added. Nothing is copied. */
void harness_add(const char *name, CMUnitTestFunction function, const void *initial_state);
int harness_run_added(void);

/* `function` is called when all cases have run; the last registered first. */
void harness_at_end(void (*function)(void));

/* Such a function found something wrong: the program fails although all cases passed. */
void harness_fail_at_end(const char *why);

/* CLATTICE_TEST_FULL is set: slow sweeps are wanted. */
bool harness_full(void);

/* A new empty directory, removed with its content at the end. */
const char *harness_temp_dir(void);

/* ------------------------------------------------------------------ assertions -------------- */

/* The call gives this status; if not, clat_error_text() is printed. */
#define assert_status(expected, call)                                                              \
    harness_assert_status((expected), (call), #call, __FILE__, __LINE__)
#define assert_ok(call) assert_status(CLAT_OK, (call))

/* The last sentence contains this word, as a word of its own. */
#define assert_error_names(word) harness_assert_error_names((word), __FILE__, __LINE__)

/* An OpenCL code that should be CL_SUCCESS. */
#define assert_cl(code) harness_assert_cl((code), #code, __FILE__, __LINE__)

void harness_assert_status(clat_status expected, clat_status got, const char *call,
                           const char *file, int line);
void harness_assert_error_names(const char *word, const char *file, int line);
void harness_assert_cl(cl_int code, const char *call, const char *file, int line);

/*
 * Compares `rows` x `cols` stored elements at row stride `ld` with `expected`, which is tight. The
 * error of element i may be `tolerance` + (bounds ? bounds[i] : 0). An expected infinity or NaN
 * must be met exactly. Reports the first bad index, how many are bad, and the worst error.
 */
#define assert_matrix(name, dtype, got, rows, cols, ld, expected, bounds, tolerance)               \
    harness_assert_matrix((name), (dtype), (got), (rows), (cols), (ld), (expected), (bounds),      \
                          (tolerance), __FILE__, __LINE__)

void harness_assert_matrix(const char *name, clat_dtype dtype, const void *got, size_t rows,
                           size_t cols, size_t ld, const double *expected, const double *bounds,
                           double tolerance, const char *file, int line);

/* ------------------------------------------------------------------ data -------------------- */

/* A seeded sequence, the same on every machine (splitmix64). */
uint64_t harness_random(uint64_t *seed);
/* Uniform in 0 .. bound-1, and in [-range, range). */
uint64_t harness_random_below(uint64_t *seed, uint64_t bound);
double harness_random_real(uint64_t *seed, double range);

/* `count` stored elements, uniform in [-range, range), or all the same. */
void harness_fill(clat_dtype dtype, void *data, size_t count, uint64_t seed, double range);
void harness_fill_value(clat_dtype dtype, void *data, size_t count, double value);

/* How many elements may lie behind an operand in its buffer, to be read or written by mistake:
 * `elements`, or none where CLATTICE_TEST_NO_TAILS is set, because a checker knows where buffers
 * end. */
size_t harness_tail(size_t elements);

/* malloc that fails the test instead of returning NULL. */
void *harness_alloc(size_t bytes);

/* ------------------------------------------------------------------ device ------------------ */

/* Options of the shared context, for tests that make their own: kernels from the source tree, or
 * CLATTICE_TEST_KERNEL_DIR; a disk cache kept between runs under the build directory, or
 * CLATTICE_TEST_CACHE_DIR; no tuned values. */
clat_context_options harness_options(void);

/* Before the first context: another directory in the place of the source tree's. What it lacks
 * comes from the copy in the library. */
void harness_use_kernels(const char *dir);

/* One context for the program; fails the test where there is no device. */
clat_context *harness_context(void);

/* One in-order queue on it; and a new one to release, with those of clCreateCommandQueue's
 * properties that the device has: rusticl's queues are all in order. */
cl_command_queue harness_queue(void);
cl_command_queue harness_new_queue(cl_command_queue_properties properties);

bool harness_device_is_cpu(void);

/* A new buffer to be released with clReleaseMemObject. `data` NULL: filled with bytes 0xFF, which
 * are NaN in every element type. At least one byte long. */
cl_mem harness_buffer(size_t bytes, const void *data);

/* Blocking copies on the harness's queue, in bytes. */
void harness_read(cl_mem buffer, size_t offset, size_t bytes, void *data);
void harness_write(cl_mem buffer, size_t offset, size_t bytes, const void *data);

#endif
