/* A problem as the command line and the suites write it, and its way into a plan. */
#ifndef SPEC_H
#define SPEC_H

#include "args.h"
#include "mask_spec.h"

enum spec_op { SPEC_GEMM, SPEC_ATTENTION, SPEC_MHA, SPEC_N_OPS };

struct spec {
    enum spec_op op;
    clat_dtype dtype;
    clat_precision precision;
    size_t batch;
    /* GEMM */
    size_t m, n, k;
    bool trans_a, trans_b;
    clat_layout layout;
    /* attention, mha */
    size_t heads, kv_heads, seq_q, seq_k, head_dim; /* mha: seq_q = seq_k */
    size_t head_dim_v;                              /* attention; 0: head_dim */
    size_t embed;                                   /* mha */
    struct mask_spec mask;
    const char *score; /* attention: "alibi", "softcap", or statements of its own; NULL: none */
    /* wishes; NULL: the library's choice */
    const char *implementation, *tunables;
    const char *group; /* of its suite, for the summary; NULL: the suite has none */
};

extern const char *const spec_op_names[SPEC_N_OPS];

/* Of all operators together. */
enum { SPEC_N_IMPLEMENTATIONS = 8 };
extern const char *const spec_implementations[SPEC_N_IMPLEMENTATIONS];
extern const char spec_implementation_help[];

/* False, and stderr knows, where none has this name. NULL is fine. */
bool spec_knows_implementation(const char *name);

/* The problem that an operator's options start from. */
struct spec spec_default(enum spec_op op);

/* What the options of a command line said; unset ones keep the default of the operator. */
struct spec_options {
    size_t m, n, k, batch, heads, kv_heads, seq_q, seq_k, head_dim, head_dim_v;
    bool trans_a, trans_b;
    int layout, dtype, precision;
    const char *mask, *score, *implementation, *tunables;
    bool gemm_given, attention_given, any_given; /* which options occurred */
};

struct spec_options spec_options_init(void);

enum { SPEC_N_ARGS = 19 };

/* Writes SPEC_N_ARGS rows of a command's option table. */
void spec_args(struct arg *rows, struct spec_options *options);

/* false: an option does not belong to the operator, or the mask is nonsense. */
bool spec_from_options(struct spec *out, enum spec_op op, const struct spec_options *options);

/* Some size is 0: legal, but there is nothing to multiply. */
bool spec_is_empty(const struct spec *spec);

enum { SPEC_WHY_BYTES = 512, SPEC_TEXT_BYTES = 128 };

/* Makes the plan. A failure may be expected: its sentence goes to `why`. */
clat_status spec_try_plan(clat_plan **out, clat_context *ctx, const struct spec *spec,
                          char why[SPEC_WHY_BYTES]);

/* The same where failure is failure. */
bool spec_plan(clat_plan **out, clat_context *ctx, const struct spec *spec);

/* "gemm f32 NT 1024x1024x1024", "attn f32 2x8/2x1024x64 causal" (batch, heads, sequence, features)
 * into `text`; gives `text`. */
const char *spec_print(char *text, size_t size, const struct spec *spec);

/* The problem's fields under the field's names. */
json_t *spec_json(const struct spec *spec);

/* What any algorithm must read or write once: the operands and the result. */
double spec_bytes(const struct spec *spec);

/* The operand that holds the result, and its elements. */
const char *spec_output(const struct spec *spec, size_t *elements);

#endif
