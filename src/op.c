#include "op.h"

#include <stdlib.h>
#include <string.h>

unsigned tunable_count(const struct tunable *tunable) {
    unsigned count = 1;
    while (count < OP_MAX_CANDIDATES && tunable->candidates[count] != 0)
        count++;
    return count;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    bool equal = strcmp(a->variant, b->variant) == 0 && a->count == b->count;
    for (unsigned i = 0; equal && i < a->count; i++)
        equal = strcmp(a->dim[i].name, b->dim[i].name) == 0 && a->dim[i].value == b->dim[i].value;
    return equal;
}

void pass_arg(struct pass *pass, enum arg_kind kind, unsigned index, size_t bytes) {
    pass->args[pass->n_args++] = (struct pass_arg){kind, index, bytes};
}

struct pass *launch_prepend(struct launch *launch) {
    memmove(launch->passes + 1, launch->passes, launch->n_passes * sizeof *launch->passes);
    launch->passes[0] = (struct pass){0};
    launch->n_passes++;
    return &launch->passes[0];
}

void launch_defines(const struct launch *launch, const struct implementation *impl,
                    const int *values, struct text *out) {
    for (unsigned i = 0; i < impl->n_tunables; i++)
        text_printf(out, "#define %s %d\n", impl->tunables[i].name, values[i]);
    text_printf(out, "%s", text_string(&launch->defines));
}

void launch_free(struct launch *launch) {
    text_free(&launch->defines);
    text_free(&launch->snippet);
    for (unsigned i = 0; i < OP_MAX_CONSTANTS; i++) {
        free(launch->constant[i].data);
        launch->constant[i].data = NULL;
    }
}

void tunables_guess(const struct implementation *impl, const struct device *device,
                    const void *problem, int *values) {
    for (unsigned i = 0; i < impl->n_tunables; i++)
        values[i] = impl->tunables[i].fallback;
    impl->guess(device, problem, values);
}

void tunables_print(const struct implementation *impl, const int *values, struct text *out) {
    for (unsigned i = 0; i < impl->n_tunables; i++)
        text_printf(out, "%s%s=%d", i ? " " : "", impl->tunables[i].name, values[i]);
}

static bool is_candidate(const struct tunable *tunable, long value) {
    const unsigned count = tunable_count(tunable);
    for (unsigned i = 0; i < count; i++)
        if (tunable->candidates[i] == value)
            return true;
    return false;
}

clat_status tunables_parse(const struct implementation *impl, const char *text, int *values) {
    for (const char *word = text + strspn(text, " "); *word != '\0';) {
        const size_t length = strcspn(word, " ");
        const size_t name = strcspn(word, "= ");
        unsigned i = 0;
        while (i < impl->n_tunables && (strlen(impl->tunables[i].name) != name ||
                                        memcmp(impl->tunables[i].name, word, name) != 0))
            i++;
        if (i == impl->n_tunables)
            return status_fail(CLAT_INVALID_TUNABLES, "tunables: '%s' has no tunable '%.*s'",
                               impl->name, (int)name, word);
        char *end = NULL;
        const long value = name < length ? strtol(word + name + 1, &end, 10) : 0;
        if (end != word + length || end == word + name + 1)
            return status_fail(CLAT_INVALID_TUNABLES, "tunables: '%.*s' is not NAME=INTEGER",
                               (int)length, word);
        if (!is_candidate(&impl->tunables[i], value))
            return status_fail(CLAT_INVALID_TUNABLES, "tunables: %ld is no candidate of %s", value,
                               impl->tunables[i].name);
        values[i] = (int)value;
        word += length + strspn(word + length, " ");
    }
    return CLAT_OK;
}

const struct implementation *op_implementation(const struct operation *op, const char *name) {
    for (const struct implementation *const *impl = op->implementations; *impl != NULL; impl++)
        if (strcmp((*impl)->name, name) == 0)
            return *impl;
    return NULL;
}

bool op_for_cpus(const struct device *device, const void *problem) {
    (void)problem;
    return device->is_cpu;
}

bool op_for_gpus(const struct device *device, const void *problem) {
    (void)problem;
    return !device->is_cpu;
}

void op_define_sub_groups(struct text *defines, const struct device *device) {
    if (device->least_lanes != 0)
        text_printf(defines, "#define SUB_GROUP_LANES %u\n", device->least_lanes);
}
