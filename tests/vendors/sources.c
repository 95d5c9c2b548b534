/*
 * Writes the sources of programs for devices that are not at hand, for check.py to compile:
 *
 *     sources DIRECTORY      DIRECTORY/<hash>.cl and DIRECTORY/manifest.json: what is to be
 * compiled for which target, and what is expected of it sources --unmark FILE  PTX with its marked
 * instructions in force, as the library makes it
 *
 * For each target and each implementation made for it, every problem with its guess, and a random
 * sample of the legal tunables, or all (see tunables_cases.h), each with the next problem that it
 * is legal for.
 */
#include "problems.h"
#include "targets.h"
#include "tunables_cases.h"

#include "ptx.h"
#include "source.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of each implementation and target. */
enum { GUESSES = 6, SAMPLES = 2 };

/* Not to be compiled for any target: inline assembly of x86, which only a CPU's own driver takes.
 */
static bool is_assembly(const struct implementation *impl) {
    return strcmp(impl->name, "cpu_tile") == 0;
}

static const struct operation *const operations[] = {&gemm_operation, &attention_operation};

static struct {
    const char *directory;
    char *kernels[3];
    json_t *cases;
    struct text seen; /* "target hash" of each case */
    struct problem *problems;
    size_t n_problems;
} out;

/* ---- one case */

/* Work-groups that are to find room on a multiprocessor together. */
static size_t resident_groups(const struct implementation *impl, const int *values) {
    for (unsigned i = 0; i < impl->n_tunables; i++)
        if (strcmp(impl->tunables[i].name, "RESIDENT") == 0)
            return (size_t)values[i];
    return 1;
}

/* The local memory that the host counts with for a work-group: the least with which the values are
 * legal. */
static size_t expected_local_bytes(const struct implementation *impl, const struct device *device,
                                   const void *problem, const int *values) {
    enum { RESERVED = 1024 }; /* by the driver, for each work-group after the first */
    const size_t groups = resident_groups(impl, values);
    struct device smaller = *device;
    cl_ulong enough = device_static_local_bytes(device), too_few = 0;
    smaller.verdict[CAP_LARGE_LOCAL] = false; /* local_bytes alone shall count */
    smaller.local_bytes = 0;
    if (impl->fits(&smaller, problem, values))
        return 0;
    while (enough - too_few > 1) {
        smaller.local_bytes = too_few + (enough - too_few) / 2;
        if (impl->fits(&smaller, problem, values))
            enough = smaller.local_bytes;
        else
            too_few = smaller.local_bytes;
    }
    return ((size_t)enough - (groups - 1) * RESERVED) / groups;
}

static void write_file(const char *name, const struct source *source) {
    char *path = text_format("%s/%s", out.directory, name);
    assert_non_null(path);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        fail_msg("cannot write %s", path);
    for (int part = 0; part < SOURCE_PARTS; part++)
        fputs(text_string(&source->part[part]), file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

/* Writes the program; false when the target has it already. */
static bool write_source(char name[32], const char *target, const struct implementation *impl,
                         const int *values, const struct launch *launch) {
    struct text defines = {0};
    struct source source;
    launch_defines(launch, impl, values, &defines);
    const struct program_request request = {
        .source = impl->source, .defines = text_string(&defines), .snippet = launch->snippet.data};
    assert_ok(source_assemble(&source, out.kernels, &request));
    const char *const parts[] = {text_string(&source.part[SOURCE_DEFINES]),
                                 text_string(&source.part[SOURCE_SNIPPET]),
                                 text_string(&source.part[SOURCE_FILE])};
    const struct cache_key key = cache_key_of(SOURCE_PARTS, parts);
    snprintf(name, 32, "%016llx.cl", (unsigned long long)key.low);
    char *mark = text_format("%s %s\n", target, name);
    assert_non_null(mark);
    const bool is_new = strstr(text_string(&out.seen), mark) == NULL;
    if (is_new) {
        text_printf(&out.seen, "%s", mark);
        write_file(name, &source);
    }
    free(mark);
    source_free(&source);
    text_free(&defines);
    return is_new;
}

static json_t *describe_kernels(const struct launch *launch) {
    json_t *kernels = json_array();
    for (unsigned i = 0; i < launch->n_passes; i++) {
        const struct pass *pass = &launch->passes[i];
        size_t items = 1;
        for (cl_uint dim = 0; dim < pass->dims; dim++)
            items *= pass->local[dim];
        json_array_append_new(kernels, json_pack("{s:s, s:I}", "name", pass->kernel, "work_group",
                                                 (json_int_t)items));
    }
    return kernels;
}

static void set_string(json_t *object, const char *key, const char *value) {
    json_object_set_new(object, key, json_string(value));
}

static void set_bytes(json_t *object, const char *key, size_t bytes) {
    json_object_set_new(object, key, json_integer((json_int_t)bytes));
}

static void add_case(const struct target *target, const struct device *device,
                     const struct implementation *impl, const struct problem *problem,
                     const int *values, const char *from) {
    struct launch launch = {0};
    struct text tunables = {0}, print = {0};
    char name[32];
    assert_true(impl->fits(device, &problem->of, values));
    assert_ok(impl->launch(device, &problem->of, values, &launch));
    if (write_source(name, target->name, impl, values, &launch)) {
        json_t *one = json_object();
        tunables_print(impl, values, &tunables);
        problem->op->print(&problem->of, &print);
        set_string(one, "target", target->name);
        set_string(one, "compiler", target->compiler);
        set_string(one, "options", program_options(device));
        set_string(one, "operator", problem->op->name);
        set_string(one, "implementation", impl->name);
        set_string(one, "problem", text_string(&print));
        set_string(one, "tunables", text_string(&tunables));
        set_string(one, "from", from);
        set_string(one, "source", name);
        set_bytes(one, "local_bytes", expected_local_bytes(impl, device, &problem->of, values));
        set_bytes(one, "local_limit", device_static_local_bytes(device));
        json_object_set_new(one, "kernels", describe_kernels(&launch));
        json_array_append_new(out.cases, one);
    }
    text_free(&tunables);
    text_free(&print);
    launch_free(&launch);
}

/* ---- which cases */

static bool is_meant(const struct problem *problem, const struct operation *op,
                     const struct implementation *impl, struct device *device) {
    char why[OP_WHY_BYTES];
    return problem->op == op && impl->prefers(device, &problem->of) &&
           impl->supports(device, &problem->of, why);
}

/* The next problem from `*at` on, round about, for which the values are legal. */
static const struct problem *next_problem(size_t *at, const struct operation *op,
                                          const struct implementation *impl, struct device *device,
                                          const int *values) {
    for (;;) {
        const struct problem *problem = &out.problems[(*at)++ % out.n_problems];
        if (is_meant(problem, op, impl, device) && impl->fits(device, &problem->of, values))
            return problem;
    }
}

/* Where the problems go on for the next target of this compiler. */
static size_t *turn_of(const struct target *target, const struct implementation *impl) {
    static struct {
        const char *compiler;
        const struct implementation *impl;
        size_t at;
    } turns[64];
    size_t i = 0;
    while (turns[i].impl != NULL &&
           (turns[i].impl != impl || strcmp(turns[i].compiler, target->compiler) != 0))
        assert_true(++i < sizeof turns / sizeof *turns);
    turns[i].compiler = target->compiler;
    turns[i].impl = impl;
    return &turns[i].at;
}

static void add_guesses(const struct target *target, struct device *device,
                        const struct operation *op, const struct implementation *impl) {
    const size_t wanted = harness_full() || target->quick ? out.n_problems : GUESSES;
    size_t *at = turn_of(target, impl);
    for (size_t seen = 0, added = 0; seen < out.n_problems && added < wanted; seen++) {
        const struct problem *problem = &out.problems[(*at)++ % out.n_problems];
        int values[OP_MAX_TUNABLES] = {0};
        if (!is_meant(problem, op, impl, device))
            continue;
        tunables_guess(impl, device, &problem->of, values);
        add_case(target, device, impl, problem, values, "guess");
        added++;
    }
}

static void add_samples(const struct target *target, struct device *device,
                        const struct operation *op, const struct implementation *impl) {
    size_t first = *turn_of(target, impl);
    while (!is_meant(&out.problems[first % out.n_problems], op, impl, device))
        first++;
    struct combinations list =
        combinations_choose(impl, device, &out.problems[first % out.n_problems].of, SAMPLES);
    for (size_t i = 0; i < list.count; i++) {
        const struct problem *problem = next_problem(&first, op, impl, device, list.values[i]);
        add_case(target, device, impl, problem, list.values[i], "sample");
    }
    combinations_free(&list);
}

static void add_implementation(const struct target *target, struct device *device,
                               const struct operation *op, const struct implementation *impl) {
    bool supported = false;
    for (size_t i = 0; i < out.n_problems && !supported; i++)
        supported = is_meant(&out.problems[i], op, impl, device);
    if (!supported)
        return;
    add_guesses(target, device, op, impl);
    add_samples(target, device, op, impl);
}

static void add_target(const struct target *target) {
    struct device device;
    target_open(&device, target);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        for (const struct implementation *const *impl = operations[i]->implementations;
             *impl != NULL; impl++)
            if (!is_assembly(*impl) &&
                (target->emulated == NULL || strcmp((*impl)->name, "mma") == 0))
                add_implementation(target, &device, operations[i], *impl);
    device_close(&device);
}

static int unmark(const char *path) {
    struct text ptx = {0}, out = {0};
    const bool done = text_read_file(&ptx, path) == CLAT_OK && ptx_unmark(&out, text_string(&ptx));
    fputs(done ? text_string(&out) : "error: no PTX for sm_90\n", stdout);
    text_free(&ptx);
    text_free(&out);
    return done ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--unmark") == 0)
        return unmark(argv[2]);
    if (argc != 2) {
        fprintf(stderr, "usage: sources DIRECTORY | --unmark FILE\n");
        return 2;
    }
    out.directory = argv[1];
    out.cases = json_array();
    source_directories(out.kernels, HARNESS_KERNEL_DIR, NULL);
    out.n_problems = problems_make(&out.problems);
    for (size_t i = 0; i < n_targets; i++)
        add_target(&targets[i]);
    char *path = text_format("%s/manifest.json", out.directory);
    assert_non_null(path);
    assert_int_equal(json_dump_file(out.cases, path, JSON_INDENT(1)), 0);
    printf("%zu programs\n", json_array_size(out.cases));
    json_decref(out.cases);
    free(path);
    problems_free(out.problems, out.n_problems);
    text_free(&out.seen);
    for (int i = 0; i < 3; i++)
        free(out.kernels[i]);
    return 0;
}
