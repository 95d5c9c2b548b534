/* `clattice check`: does this device compute right? */
#include "args.h"
#include "suite.h"
#include "table.h"

#include <string.h>

static const struct column columns[] = {{"operation", -40},   {"impl", -9},    {"tunables", -28},
                                        {"error/bound", -15}, {"verdict", -8}, {"", -22}};
enum { N_COLUMNS = sizeof columns / sizeof columns[0] };

enum depth { QUICK, USUAL, ALL };

struct check {
    clat_context *ctx;
    FILE *file;
    json_t *rows;
    const char *device;
    const char *implementation; /* NULL: the library's choice */
    enum depth depth;           /* ALL: with each implementation */
    uint64_t seed;
    size_t right, wrong, declined;
};

/* Sizes that are no multiple of any tile; every type, transpose and mask. 16-bit types differ from
 * f32 in how elements are read: not every combination is compiled for them by default. */
static size_t fill_gemm(struct spec *out, enum depth depth) {
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F64, CLAT_F16, CLAT_BF16};
    static const char *const transposes[] = {"NN", "TT", "NT", "TN"};
    size_t n = 0;
    for (int d = 0; d < 4; d++) {
        const int count = depth == ALL || (depth == USUAL && d < 2) ? 4 : 2;
        for (int t = 0; t < count && !(depth == QUICK && d % 2); t++) {
            out[n] = suite_gemm(dtypes[d], transposes[t], 131, 93, 77);
            out[n++].batch = 2;
        }
    }
    out[n] = suite_gemm(CLAT_F32, "NT", 67, 129, 41);
    out[n++].layout = CLAT_COL_MAJOR;
    out[n++] = suite_gemm(CLAT_F32, "NT", 5, 103, 517); /* a few rows, lines along k */
    out[n] = suite_gemm(CLAT_BF16, "NN", 131, 93, 77);
    out[n++].precision = CLAT_PRECISION_NATIVE;
    out[n] = suite_gemm(CLAT_F32, "TN", 131, 93, 77); /* tf32 where there is an engine for it */
    out[n++].precision = CLAT_PRECISION_NATIVE;
    return n;
}

static size_t fill_attention(struct spec *out, enum depth depth) {
    static const clat_dtype dtypes[] = {CLAT_F32, CLAT_F16, CLAT_BF16};
    static const char *const masks[] = {"full", "csr:16,0.3", "causal", "window:37,12",
                                        "longformer:20,5"};
    size_t n = 0;
    for (int d = 0; d < (depth == QUICK ? 1 : 3); d++) {
        const int count = depth == ALL || (depth == USUAL && d == 0) ? 5 : 2;
        for (int m = 0; m < count; m++)
            out[n++] = suite_attention(dtypes[d], 2, 4, 2, 197, 64, masks[m]);
    }
    out[n++] = suite_attention(CLAT_F32, 1, 3, 3, 130, 40, "full");
    out[n] = suite_attention(CLAT_F32, 2, 4, 2, 517, 64, "full");
    out[n++].seq_q = 1; /* decoding */
    out[n] = suite_attention(CLAT_BF16, 2, 4, 2, 197, 64, "causal");
    out[n++].precision = CLAT_PRECISION_NATIVE;
    return n;
}

static size_t fill(struct spec *out, const char *op, enum depth depth) {
    size_t n = 0;
    if (!op || strcmp(op, "gemm") == 0)
        n += fill_gemm(out + n, depth);
    if (!op || strcmp(op, "attention") == 0)
        n += fill_attention(out + n, depth);
    if (!op || strcmp(op, "mha") == 0)
        out[n++] = suite_mha(2, 4, 2, 101, 32, "causal");
    return n;
}

static bool add_row(struct check *check, const struct spec *spec, const clat_plan_info *info,
                    const clat_verdict *verdict, const char *why) {
    char name[SPEC_TEXT_BYTES], error[48] = "-";
    const char *implementation = info                   ? info->implementation
                                 : spec->implementation ? spec->implementation
                                                        : "none";
    const char *word = !verdict ? "declined" : verdict->ok ? "ok" : "FAIL";
    const char *note = !verdict ? why : verdict->ok ? "" : verdict->where;
    if (verdict)
        snprintf(error, sizeof error, "%.1e/%.1e", verdict->worst, verdict->bound);
    table_row(check->file, columns, N_COLUMNS,
              (const char *[]){spec_print(name, sizeof name, spec), implementation,
                               info ? info->tunables : "-", error, word, note});
    json_t *row = json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:s}", "op", spec_op_names[spec->op],
        "problem", spec_json(spec), "dtype", clat_dtype_name(spec->dtype), "device", check->device,
        "implementation", implementation, "tunables", info ? info->tunables : "", "max_err",
        verdict ? json_real(verdict->worst) : json_null(), "err_bound",
        verdict ? json_real(verdict->bound) : json_null(), "verdict", word, "note", note);
    return json_array_append_new(check->rows, row) == 0 || tool_error("out of memory");
}

/* One trial. An implementation may decline; everything else that fails is a wrong device. */
static bool check_one(struct check *check, const struct spec *spec) {
    clat_plan *plan = NULL;
    clat_trial *trial = NULL;
    clat_verdict verdict = {0};
    char why[SPEC_WHY_BYTES];
    bool ok = false;

    const clat_status st = spec_try_plan(&plan, check->ctx, spec, why);
    if (st == CLAT_NOT_FOUND && check->depth == ALL) { /* no such implementation of this operator */
        ok = true;
        goto out;
    }
    if (st == CLAT_UNSUPPORTED || st == CLAT_NOT_FOUND) {
        check->declined++;
        TRY(add_row(check, spec, NULL, NULL, why));
        ok = true;
        goto out;
    }
    if (st != CLAT_OK) {
        tool_error("%s: %s", clat_status_name(st), why);
        goto out;
    }
    TRY(tool_clat(clat_trial_create(&trial, plan, check->seed)));
    TRY(tool_clat(clat_trial_verify(trial, plan, &verdict)));
    check->right += verdict.ok;
    check->wrong += !verdict.ok;
    TRY(add_row(check, spec, clat_plan_get_info(plan), &verdict, NULL));
    ok = true;
out:
    clat_trial_release(trial);
    clat_plan_release(plan);
    return ok;
}

static bool check_all(struct check *check, const char *op) {
    struct spec specs[SUITE_MAX];
    const size_t count = fill(specs, op, check->depth);
    const size_t n_names = check->depth == ALL ? SPEC_N_IMPLEMENTATIONS : 1;
    const char *const *names = check->depth == ALL ? spec_implementations : &check->implementation;
    bool ok = true;
    table_head(check->file, columns, N_COLUMNS);
    for (size_t i = 0; i < n_names; i++)
        for (size_t s = 0; s < count; s++) {
            specs[s].implementation = names[i];
            if (!check_one(check, &specs[s])) {
                check->wrong++;
                ok = false;
            }
        }
    return ok;
}

static bool run_check(const struct tool_common *common, struct check *check, const char *op) {
    clat_device_info info;
    bool ok = false;
    check->file = tool_out(common);
    check->rows = json_array();
    TRY(tool_begin(&check->ctx, common));
    TRY(tool_clat(clat_context_info(check->ctx, &info)));
    check->device = info.name;
    fprintf(check->file, "device   %s (%s)\n\n", info.name, info.architecture);
    const bool ran = check_all(check, op);
    fprintf(check->file, "\n%zu right, %zu wrong, %zu declined\n", check->right, check->wrong,
            check->declined);
    TRY(tool_write_json(common, check->rows));
    if (ran && check->right == 0)
        tool_error("nothing was checked");
    ok = ran && check->wrong == 0 && check->right > 0;
out:
    json_decref(check->rows);
    clat_context_release(check->ctx);
    return ok;
}

int command_check(int argc, char **argv) {
    struct tool_common common = {0};
    struct check check = {.seed = 1};
    size_t seed = 1, n_words;
    bool quick = false, all = false;
    const char *const *words;
    const struct arg args[] = {
        {"implementation", ARG_STRING, &check.implementation, "NAME", spec_implementation_help,
         NULL, 0, NULL},
        {"all", ARG_FLAG, &all, NULL, "every combination, with each implementation that runs here",
         NULL, 0, NULL},
        {"seed", ARG_SIZE, &seed, "N", "other random operands", NULL, 0, NULL},
        {"quick", ARG_FLAG, &quick, NULL, "fewer types, transposes and masks", NULL, 0, NULL},
    };
    const struct args_command command = {
        .usage = "check [OPTION]... [gemm|attention|mha]",
        .about =
            "Runs every operator with each type, transpose and mask, by the implementation made "
            "for\nthe device, and compares with f64. Exit status 1 when something is wrong.",
        .max_words = 1,
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    if (n_words && find_word(words[0], spec_op_names, SPEC_N_OPS) < 0) {
        tool_error("no operator \"%s\"; there are gemm, attention and mha", words[0]);
        return TOOL_USAGE;
    }
    if (all && (quick || check.implementation)) {
        tool_error("--all goes with neither --quick nor --implementation");
        return TOOL_USAGE;
    }
    if (!spec_knows_implementation(check.implementation))
        return TOOL_USAGE;
    check.depth = quick ? QUICK : all ? ALL : USUAL;
    check.seed = seed;
    return run_check(&common, &check, n_words ? words[0] : NULL) ? TOOL_OK : TOOL_FAILED;
}
