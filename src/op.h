/*
 * What an operator and an implementation are to the machinery around them. plan.c, tuner.c and
 * trial.c work on these tables and know no operator by name; an operator knows nothing of them but
 * this header, plan.h and trial.h.
 *
 * Three kinds of numbers, never mixed:
 *   tunables   per device, declared in a table, become #defines
 *   variant    what selects code (types, transposes, mask terms), becomes #defines
 *   arguments  sizes, strides, scalars, buffers: go through clSetKernelArg
 */
#ifndef CLAT_OP_H
#define CLAT_OP_H

#include "device.h"
#include "text.h"

enum {
    OP_MAX_TUNABLES = 16,
    OP_MAX_CANDIDATES = 12,
    OP_MAX_DIMS = 8,
    OP_MAX_PASSES = 4,
    OP_MAX_ARGS = 16,
    OP_MAX_BUFFERS = 12,
    OP_MAX_CONSTANTS = 4,
    OP_MAX_PARAMS_BYTES = 320,
    OP_WHY_BYTES = 160
};

/* Declared by an X-macro table next to the implementation:
 *     #define GEMM_CPU_TUNABLES(X)                                                    \
 *         X(MR, "rows of the register tile", 12, 4, 6, 8, 12)                         \
 *         X(NV, "vectors across the register tile", 2, 1, 2, 3, 4)
 * name, meaning, default, candidates ascending. TUNABLE_INDEX turns it into the enumerators T_MR,
 * T_NV, ... (indices of values[]), TUNABLE_ROW into table rows. */
struct tunable {
    const char *name, *meaning;
    int fallback;
    int candidates[OP_MAX_CANDIDATES]; /* ends at the first 0 after the first entry, so that a
                                          leading 0 (off) is allowed */
};

#define TUNABLE_INDEX(name, meaning, fallback, ...) T_##name,
#define TUNABLE_ROW(name, meaning, fallback, ...) {#name, meaning, fallback, {__VA_ARGS__}},

struct implementation;

/* An implementation's guess, on top of its table's defaults. */
void tunables_guess(const struct implementation *impl, const struct device *device,
                    const void *problem, int *values);

/* The length of a candidate list. */
unsigned tunable_count(const struct tunable *tunable);

/* Size and class of a problem: the tuned values' look-up key. Classes must be equal, sizes are
 * compared by ratio. */
struct shape {
    char variant[64]; /* "f32 NT", "f16 d64 causal" */
    unsigned count;
    struct {
        const char *name; /* "m", static */
        uint64_t value;
    } dim[OP_MAX_DIMS];
};

bool shape_equal(const struct shape *a, const struct shape *b);

/* One kernel launch. */
struct pass {
    const char *kernel;
    cl_uint dims;
    size_t global[3], local[3]; /* local[0] = 0: the driver chooses */
    unsigned n_args;
    struct pass_arg {
        enum arg_kind {
            ARG_BUFFER,    /* index: an operand's role in the operator's binding */
            ARG_CONSTANT,  /* index: launch.constant */
            ARG_PARAMS,    /* the operator's parameter struct, by value */
            ARG_WORKSPACE, /* the whole workspace; offsets into it are parameters */
            ARG_LOCAL      /* bytes of local memory */
        } kind;
        unsigned index;
        size_t bytes;
    } args[OP_MAX_ARGS];
};

/* All that an implementation says about one plan. Filled by `launch`, owned by the plan. */
struct launch {
    struct text defines; /* the variant; the plan adds the tunables */
    struct text snippet; /* generated code; may stay empty */
    unsigned n_passes;
    struct pass passes[OP_MAX_PASSES];
    size_t workspace_bytes;
    struct {
        void *data; /* malloc'ed host data, uploaded once when the plan is made */
        size_t bytes;
    } constant[OP_MAX_CONSTANTS];
    /* Template of the parameter struct, with what the problem fixes (sizes, strides) filled in;
     * each run copies it and adds what the call brings (scalars, offsets). */
    size_t params_bytes;
    _Alignas(16) unsigned char params[OP_MAX_PARAMS_BYTES];
};

/* Appends one argument to a pass. */
void pass_arg(struct pass *pass, enum arg_kind kind, unsigned index, size_t bytes);

/* Makes room for a pass before all others, and clears it. */
struct pass *launch_prepend(struct launch *launch);

/* A program's #defines: the tunables, then the variant. */
void launch_defines(const struct launch *launch, const struct implementation *impl,
                    const int *values, struct text *out);

void launch_free(struct launch *launch);

/*
 * One way to run an operator on one class of device. `problem` is the operator's own normalised
 * struct. All five are pure: runtime, tuner and tests use the same ones.
 */
struct implementation {
    const char *name;   /* "cpu" */
    const char *source; /* "gemm_cpu.cl" */
    const struct tunable *tunables;
    unsigned n_tunables;

    /* May it run this problem on this device? If not, `why` gets half a sentence. */
    bool (*supports)(struct device *device, const void *problem, char why[OP_WHY_BYTES]);
    /* Is it made for such problems on this device? Others run only when asked for by name. */
    bool (*prefers)(const struct device *device, const void *problem);
    /* Are these values (each one of its candidates) legal together? */
    bool (*fits)(const struct device *device, const void *problem, const int *values);
    /* Good values from device facts, before any tuning, over the table's defaults, which `values`
     * holds already. They must fit. */
    void (*guess)(const struct device *device, const void *problem, int *values);
    /* Kernels, launch shapes, arguments, workspace. */
    clat_status (*launch)(const struct device *device, const void *problem, const int *values,
                          struct launch *out);
};

/* The usual answers to `prefers`. */
bool op_for_cpus(const struct device *device, const void *problem);
bool op_for_gpus(const struct device *device, const void *problem);

/* For kernels that are SMALL_SUB_GROUPS (cl/common.clh). */
void op_define_sub_groups(struct text *defines, const struct device *device);

struct trial_hooks; /* trial.h */

struct operation {
    const char *name;
    size_t problem_bytes;
    const struct implementation *const *implementations; /* by priority; ends with NULL */
    /* Copies what the problem points to (a mask) or gives it up again; may be NULL. */
    void (*retain)(void *problem);
    void (*release)(void *problem);
    /* false: what the problem points to has no other holder, so nobody can ask for it again. NULL:
     * always true. */
    bool (*is_reachable)(const void *problem);
    bool (*is_empty)(const void *problem); /* nothing to compute or write */
    void (*shape)(const void *problem, struct shape *out);
    void (*print)(const void *problem, struct text *out); /* for people: all that matters */
    double (*flops)(const void *problem);
    const struct trial_hooks *trial;
};

/* "MR=12 NV=2". */
void tunables_print(const struct implementation *impl, const int *values, struct text *out);

/* Overwrites the named ones. INVALID_TUNABLES: unknown name, not a candidate, malformed. */
clat_status tunables_parse(const struct implementation *impl, const char *text, int *values);

/* NULL when the operation has no implementation of that name. */
const struct implementation *op_implementation(const struct operation *op, const char *name);

#endif
