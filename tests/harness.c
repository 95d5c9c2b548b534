#include "harness.h"

#include "dtype.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ programs and cases ------ */

static struct CMUnitTest *added_tests;
static size_t added_count;

static void (*end_functions[16])(void);
static size_t end_count;

static bool failed_at_end;

static char **temp_dirs;
static size_t temp_dir_count;

void harness_at_end(void (*function)(void)) {
    assert_true(end_count < sizeof end_functions / sizeof *end_functions);
    end_functions[end_count++] = function;
}

void harness_fail_at_end(const char *why) {
    print_error("at the end: %s\n", why);
    failed_at_end = true;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void clean_up(void) {
    while (end_count > 0)
        end_functions[--end_count]();
    while (temp_dir_count > 0) {
        char *dir = temp_dirs[--temp_dir_count];
        nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        free(dir);
    }
    free(temp_dirs);
    temp_dirs = NULL;
    free(added_tests);
    added_tests = NULL;
}

/* Before main, which may use the device to choose its cases. Drivers keep caches too: below the
 * build directory they neither meet nor fill the user's. */
__attribute__((constructor)) static void set_environment(void) {
    static const char *const ours[] = {"CLATTICE_KERNEL_DIR", "CLATTICE_CACHE_DIR",
                                       "CLATTICE_TUNED_FILE"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        unsetenv(ours[i]);
    setenv("POCL_CACHE_DIR", HARNESS_BUILD_DIR "/test-cache/pocl", 0);
    setenv("CUDA_CACHE_PATH", HARNESS_BUILD_DIR "/test-cache/nvidia", 0);
}

static int list(const struct CMUnitTest *tests, size_t count) {
    for (size_t i = 0; i < count; i++)
        puts(tests[i].name);
    return 0;
}

int harness_run(const struct CMUnitTest *tests, size_t count) {
    const char *pattern = getenv("CLATTICE_TEST");
    if (pattern)
        cmocka_set_test_filter(pattern);
    int failed =
        getenv("CLATTICE_TEST_LIST")
            ? list(tests, count)
            : _cmocka_run_group_tests(program_invocation_short_name, tests, count, NULL, NULL);
    clean_up();
    return failed != 0 || failed_at_end;
}

void harness_add(const char *name, CMUnitTestFunction function, const void *initial_state) {
    struct CMUnitTest *grown = realloc(added_tests, (added_count + 1) * sizeof *grown);
    if (!grown)
        abort();
    added_tests = grown;
    added_tests[added_count++] = (struct CMUnitTest)HARNESS_CASE(name, function, initial_state);
}

int harness_run_added(void) {
    return harness_run(added_tests, added_count);
}

bool harness_full(void) {
    return getenv("CLATTICE_TEST_FULL") != NULL;
}

const char *harness_temp_dir(void) {
    const char *base = getenv("TMPDIR");
    size_t bytes = (base ? strlen(base) : 0) + 64;
    char *dir = harness_alloc(bytes);
    snprintf(dir, bytes, "%s/clattice-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    temp_dirs = realloc(temp_dirs, (temp_dir_count + 1) * sizeof *temp_dirs);
    assert_non_null(temp_dirs);
    temp_dirs[temp_dir_count++] = dir;
    return dir;
}

/* ------------------------------------------------------------------ assertions -------------- */

void harness_assert_status(clat_status expected, clat_status got, const char *call,
                           const char *file, int line) {
    if (got == expected)
        return;
    print_error("%s\n    gave %s, expected %s\n    \"%s\"\n", call, clat_status_name(got),
                clat_status_name(expected), clat_error_text());
    _fail(file, line);
}

static bool is_word_character(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_word(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
        bool starts = at == text || !is_word_character(at[-1]);
        if (starts && !is_word_character(at[length]))
            return true;
    }
    return false;
}

void harness_assert_error_names(const char *word, const char *file, int line) {
    if (has_word(clat_error_text(), word))
        return;
    print_error("the error text does not name \"%s\":\n    \"%s\"\n", word, clat_error_text());
    _fail(file, line);
}

void harness_assert_cl(cl_int code, const char *call, const char *file, int line) {
    if (code == CL_SUCCESS)
        return;
    print_error("%s\n    gave OpenCL code %d\n", call, (int)code);
    _fail(file, line);
}

/* Infinity where the two cannot be compared: a NaN or infinity that the other one is not. */
static double error_of(double got, double expected) {
    if (isnan(expected))
        return isnan(got) ? 0.0 : INFINITY;
    if (got == expected)
        return 0.0;
    double error = fabs(got - expected);
    return isfinite(error) ? error : INFINITY;
}

void harness_assert_matrix(const char *name, clat_dtype dtype, const void *got, size_t rows,
                           size_t cols, size_t ld, const double *expected, const double *bounds,
                           double tolerance, const char *file, int line) {
    size_t bad = 0, first = 0, worst = 0;
    double worst_excess = -INFINITY;

    for (size_t i = 0; i < rows * cols; i++) {
        double value = dtype_load(dtype, got, i / cols * ld + i % cols);
        double bound = tolerance + (bounds ? bounds[i] : 0.0);
        double excess = error_of(value, expected[i]) - bound;
        if (!(excess <= 0.0) && bad++ == 0)
            first = i;
        if (excess > worst_excess) {
            worst_excess = excess;
            worst = i;
        }
    }
    if (bad == 0)
        return;

    const size_t shown[] = {first, worst};
    print_error("%s: %zu of %zu elements (%zu x %zu) are wrong\n", name, bad, rows * cols, rows,
                cols);
    for (size_t s = 0; s < 2; s++) {
        size_t i = shown[s], row = i / cols, col = i % cols;
        double value = dtype_load(dtype, got, row * ld + col);
        print_error("    %s [%zu][%zu]: got %.9g, expected %.9g, error %.3g, allowed %.3g\n",
                    s == 0 ? "first" : "worst", row, col, value, expected[i],
                    error_of(value, expected[i]), tolerance + (bounds ? bounds[i] : 0.0));
    }
    _fail(file, line);
}

/* ------------------------------------------------------------------ data -------------------- */

size_t harness_tail(size_t elements) {
    return getenv("CLATTICE_TEST_NO_TAILS") ? 0 : elements;
}

uint64_t harness_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t harness_random_below(uint64_t *seed, uint64_t bound) {
    return harness_random(seed) % bound;
}

double harness_random_real(uint64_t *seed, double range) {
    return ((double)(harness_random(seed) >> 11) * 0x1p-52 - 1.0) * range;
}

void harness_fill(clat_dtype dtype, void *data, size_t count, uint64_t seed, double range) {
    for (size_t i = 0; i < count; i++)
        dtype_store(dtype, data, i, harness_random_real(&seed, range));
}

void harness_fill_value(clat_dtype dtype, void *data, size_t count, double value) {
    for (size_t i = 0; i < count; i++)
        dtype_store(dtype, data, i, value);
}

void *harness_alloc(size_t bytes) {
    void *data = malloc(bytes ? bytes : 1);
    assert_non_null(data);
    return data;
}
