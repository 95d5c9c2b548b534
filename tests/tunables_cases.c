#include "tunables_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_SEED = 20, FULL_SAMPLES = 3000 };

/* Counts up through all combinations of candidates; false after the last. */
static bool next_combination(const struct implementation *impl, unsigned *index) {
    for (unsigned i = 0; i < impl->n_tunables; i++) {
        if (++index[i] < tunable_count(&impl->tunables[i]))
            return true;
        index[i] = 0;
    }
    return false;
}

static struct combinations list_legal(const struct implementation *impl,
                                      const struct device *device, const void *problem) {
    struct combinations list = {0};
    unsigned index[OP_MAX_TUNABLES] = {0};
    size_t capacity = 0;
    do {
        if (list.count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 256;
            list.values = realloc(list.values, capacity * sizeof *list.values);
            assert_non_null(list.values);
        }
        for (unsigned i = 0; i < impl->n_tunables; i++)
            list.values[list.count][i] = impl->tunables[i].candidates[index[i]];
        list.count += impl->fits(device, problem, list.values[list.count]);
    } while (next_combination(impl, index));
    return list;
}

static uint64_t seed_of_run(void) {
    const char *wanted = getenv("CLATTICE_TEST_SEED");
    return wanted != NULL ? strtoull(wanted, NULL, 0) : USUAL_SEED;
}

/* A random choice moves to the front. */
/* There are some: else a test of all of them would test nothing. */
static void keep_sample(struct combinations *list, size_t samples, uint64_t seed) {
    assert_true(list->count > 0);
    if (samples > list->count)
        samples = list->count;
    for (size_t i = 0; i < samples; i++) {
        const size_t other = i + harness_random_below(&seed, list->count - i);
        int swap[OP_MAX_TUNABLES];
        memcpy(swap, list->values[i], sizeof swap);
        memcpy(list->values[i], list->values[other], sizeof swap);
        memcpy(list->values[other], swap, sizeof swap);
    }
    list->count = samples;
}

static void keep_shard(struct combinations *list, size_t first, size_t step) {
    size_t kept = 0;
    for (size_t i = first; i < list->count; i += step, kept++)
        memmove(list->values[kept], list->values[i], sizeof *list->values);
    list->count = kept;
}

struct combinations combinations_choose(const struct implementation *impl,
                                        const struct device *device, const void *problem,
                                        size_t samples) {
    struct combinations list = list_legal(impl, device, problem);
    const size_t legal = list.count;
    const char *shard = getenv("CLATTICE_TEST_SHARD");
    const uint64_t seed = seed_of_run();
    size_t first = 0, step = 1;
    if (!harness_full()) {
        keep_sample(&list, samples, seed);
        print_message("%s: %zu of %zu legal combinations, CLATTICE_TEST_SEED=%llu\n", impl->name,
                      list.count, legal, (unsigned long long)seed);
        return list;
    }
    if (legal > FULL_SAMPLES)
        keep_sample(&list, FULL_SAMPLES, seed);
    if (shard != NULL && (sscanf(shard, "%zu/%zu", &first, &step) != 2 || first >= step))
        fail_msg("CLATTICE_TEST_SHARD=%s is not i/n with i < n", shard);
    keep_shard(&list, first, step);
    print_message("%s: shard %zu/%zu, %zu of %zu legal combinations, CLATTICE_TEST_SEED=%llu\n",
                  impl->name, first, step, list.count, legal, (unsigned long long)seed);
    return list;
}

void combinations_free(struct combinations *combinations) {
    free(combinations->values);
    *combinations = (struct combinations){0};
}

static void check_guess(const struct implementation *impl, const struct device *device,
                        const void *problem) {
    int values[OP_MAX_TUNABLES] = {0}, parsed[OP_MAX_TUNABLES] = {0};
    struct text text = {0};
    tunables_guess(impl, device, problem, values);
    assert_true(impl->fits(device, problem, values));
    tunables_print(impl, values, &text);
    assert_ok(tunables_parse(impl, text_string(&text), parsed)); /* all are candidates */
    assert_memory_equal(values, parsed, sizeof values);
    text_free(&text);
}

void check_guesses(const struct implementation *impl, const struct device *device,
                   const void *problem) {
    check_guess(impl, device, problem);
    for (unsigned lanes = 4; lanes <= 16 && device->is_cpu; lanes *= 2) {
        struct device other = *device;
        other.f32_lanes = lanes;
        check_guess(impl, &other, problem);
    }
}

void check_by_trial(clat_plan *plan) {
    const clat_plan_info *info = clat_plan_get_info(plan);
    clat_trial *trial = NULL;
    clat_verdict verdict;
    assert_ok(clat_trial_create(&trial, plan, 7));
    assert_ok(clat_trial_verify(trial, plan, &verdict));
    if (!verdict.ok)
        fail_msg("%s by %s with %s is wrong at %s by %g, bound %g; guards %d", info->problem,
                 info->implementation, info->tunables, verdict.where, verdict.worst, verdict.bound,
                 verdict.guards);
    clat_trial_release(trial);
    clat_plan_release(plan);
}
