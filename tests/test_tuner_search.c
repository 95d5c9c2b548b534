/* The tuner's search strategies on made-up costs. Needs no device. */
#include "harness.h"
#include "tuner_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SPACE(X)                                                                                   \
    X(A, "", 1, 1, 2, 4, 8, 16, 32)                                                                \
    X(B, "", 0, 0, 1)                                                                              \
    X(C, "", 3, 1, 2, 3, 4, 5, 6, 7)                                                               \
    X(D, "", 1, 1)
static const struct tunable space[] = {SPACE(TUNABLE_ROW)};
enum { SPACE(TUNABLE_INDEX) N_TUNABLES };

static bool fits(const struct device *device, const void *problem, const int *values) {
    (void)device;
    (void)problem;
    return values[T_A] * values[T_C] <= 64 && (values[T_B] == 0 || values[T_C] != 7);
}

static const struct implementation impl = {
    .name = "made-up", .tunables = space, .n_tunables = N_TUNABLES, .fits = fits};

static size_t legal_count(void) {
    size_t count = 0;
    for (int a = 1; a <= 32; a *= 2)
        for (int b = 0; b <= 1; b++)
            for (int c = 1; c <= 7; c++)
                count += fits(NULL, NULL, (const int[]){a, b, c, 1});
    return count;
}

/* Best at A=8 B=1 C=6, with a wrong track: B only pays together with a large C. */
static double cost(const int *values) {
    const double a = log2(values[T_A]) - 3, c = values[T_C] - 6;
    return 1 + a * a + c * c + (values[T_B] == 1 ? (values[T_C] > 4 ? -0.5 : 3) : 0);
}

static struct search *create(const struct implementation *of, uint64_t seed) {
    struct search *search = NULL;
    assert_ok(search_create(&search, of, NULL, NULL, seed));
    return search;
}

/* Both strategies end, and by then have proposed every legal candidate once. */
static void check_covers(const struct search_strategy *strategy) {
    char seen[33][2][8] = {{{0}}};
    size_t count = 0;
    int values[OP_MAX_TUNABLES];
    struct search *search = create(&impl, 1);
    assert_int_equal(search_size(search), legal_count());
    search_use(search, strategy);
    const int guess[] = {1, 0, 3, 1};
    search_report(search, guess, cost(guess));
    while (search_next(search, values)) {
        assert_true(fits(NULL, NULL, values));
        assert_false(memcmp(values, guess, sizeof guess) == 0);
        char *mark = &seen[values[T_A]][values[T_B]][values[T_C]];
        assert_int_equal(*mark, 0);
        *mark = 1;
        count++;
        search_report(search, values, count % 5 == 0 ? INFINITY : cost(values));
    }
    assert_int_equal(count + 1, legal_count());
    assert_int_equal(search_size(search), legal_count());
    search_release(search);
}

static void test_exhaustive_covers(void **state) {
    (void)state;
    check_covers(&search_exhaustive);
}

static void test_descent_covers(void **state) {
    (void)state;
    check_covers(&search_descent);
}

/* Candidates tried until the best one was. */
static unsigned effort(const struct search_strategy *strategy, uint64_t seed) {
    int values[OP_MAX_TUNABLES] = {1, 0, 3, 1};
    struct search *search = create(&impl, seed);
    unsigned tried = 1;
    search_use(search, strategy);
    search_report(search, values, cost(values));
    while (cost(values) > 0.6 && search_next(search, values)) {
        search_report(search, values, cost(values));
        tried++;
    }
    assert_true(cost(values) < 0.6);
    search_release(search);
    return tried;
}

static void test_descent_is_directed(void **state) {
    (void)state;
    unsigned directed = 0, random = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        directed += effort(&search_descent, seed);
        random += effort(&search_exhaustive, seed);
    }
    if (2 * directed > random)
        fail_msg("descent tried %u candidates, random order %u", directed, random);
}

static void test_same_seed_same_walk(void **state) {
    (void)state;
    int first[OP_MAX_TUNABLES], second[OP_MAX_TUNABLES];
    struct search *a = create(&impl, 7), *b = create(&impl, 7);
    while (search_next(a, first)) {
        assert_true(search_next(b, second));
        assert_memory_equal(first, second, N_TUNABLES * sizeof *first);
        search_report(a, first, cost(first));
        search_report(b, second, cost(second));
    }
    assert_false(search_next(b, second));
    search_release(a);
    search_release(b);
}

/* The strategy may change on the way. */
static void test_switching(void **state) {
    (void)state;
    int values[OP_MAX_TUNABLES];
    struct search *search = create(&impl, 3);
    size_t count = 0;
    do {
        search_use(search, count % 3 == 0 ? &search_exhaustive : &search_descent);
        if (!search_next(search, values))
            break;
        search_report(search, values, cost(values));
        count++;
    } while (count < 1000);
    assert_int_equal(count, legal_count());
    search_release(search);
}

/* ---- spaces at the edges ---- */

static bool fits_none(const struct device *device, const void *problem, const int *values) {
    (void)device;
    (void)problem;
    (void)values;
    return false;
}

static void test_empty_space(void **state) {
    (void)state;
    const struct implementation none = {
        .tunables = space, .n_tunables = N_TUNABLES, .fits = fits_none};
    int values[OP_MAX_TUNABLES];
    struct search *search = create(&none, 1);
    assert_int_equal(search_size(search), 0);
    assert_false(search_next(search, values));
    search_use(search, &search_exhaustive);
    assert_false(search_next(search, values));
    search_release(search);
}

static bool fits_all(const struct device *device, const void *problem, const int *values) {
    (void)device;
    (void)problem;
    (void)values;
    return true;
}

static void test_no_tunables(void **state) {
    (void)state;
    const struct implementation plain = {.fits = fits_all};
    int values[OP_MAX_TUNABLES];
    struct search *search = create(&plain, 1);
    assert_int_equal(search_size(search), 1);
    assert_true(search_next(search, values));
    search_report(search, values, 1);
    assert_false(search_next(search, values));
    search_release(search);
}

/* 12 candidates for each of 16 tunables: nobody can list that, descent works all the same. */
static void test_huge_space(void **state) {
    (void)state;
    struct tunable many[OP_MAX_TUNABLES];
    for (unsigned i = 0; i < OP_MAX_TUNABLES; i++)
        many[i] = (struct tunable){"T", "", 1, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
    const struct implementation huge = {
        .tunables = many, .n_tunables = OP_MAX_TUNABLES, .fits = fits_all};
    int values[OP_MAX_TUNABLES];
    struct search *search = create(&huge, 1);
    double best = INFINITY;
    assert_int_equal(search_size(search), SIZE_MAX);
    for (unsigned i = 0; i < 3000 && best > 0; i++) {
        double sum = 0;
        assert_true(search_next(search, values));
        for (unsigned t = 0; t < OP_MAX_TUNABLES; t++) {
            assert_in_range(values[t], 1, 12);
            sum += abs(values[t] - 9);
        }
        search_report(search, values, sum);
        best = fmin(best, sum);
    }
    assert_true(best <= 0);
    search_release(search);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_exhaustive_covers),   cmocka_unit_test(test_descent_covers),
    cmocka_unit_test(test_descent_is_directed), cmocka_unit_test(test_same_seed_same_walk),
    cmocka_unit_test(test_switching),           cmocka_unit_test(test_empty_space),
    cmocka_unit_test(test_no_tunables),         cmocka_unit_test(test_huge_space),
};
HARNESS_MAIN(tests)
