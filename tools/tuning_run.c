#include "tuning_run.h"
#include "progress.h"
#include "suite.h"
#include "table.h"

static const struct column columns[] = {{"problem", -42}, {"impl", -9}, {"tunables", -44}};
enum { N_COLUMNS = sizeof columns / sizeof columns[0] };

/* What each problem gets from now on. */
static bool show_outcome(clat_context *ctx, const struct spec *spec, const struct tuning_run *run) {
    clat_plan *plan = NULL;
    char name[SPEC_TEXT_BYTES];
    bool ok = false;
    TRY(spec_plan(&plan, ctx, spec));
    const clat_plan_info *info = clat_plan_get_info(plan);
    table_row(run->file, columns, N_COLUMNS,
              (const char *[]){spec_print(name, sizeof name, spec), info->implementation,
                               info->tunables});
    if (run->rows)
        json_array_append_new(
            run->rows, json_pack("{s:s, s:o, s:s, s:s, s:s, s:s}", "op", spec_op_names[spec->op],
                                 "problem", spec_json(spec), "dtype", clat_dtype_name(spec->dtype),
                                 "implementation", info->implementation, "tunables", info->tunables,
                                 "tunables_from", info->tunables_from));
    ok = true;
out:
    clat_plan_release(plan);
    return ok;
}

bool tuning_run(clat_context *ctx, const struct spec *specs, size_t count, struct tuning_run *run) {
    clat_plan *plans[SUITE_MAX] = {NULL};
    const struct spec *planned[SUITE_MAX];
    size_t n_plans = 0;
    char why[SPEC_WHY_BYTES], name[SPEC_TEXT_BYTES];
    struct progress progress;
    bool ok = false;

    for (size_t i = 0; i < count; i++) {
        const clat_status st = spec_try_plan(&plans[n_plans], ctx, &specs[i], why);
        if (st == CLAT_OK) {
            planned[n_plans++] = &specs[i];
        } else {
            tool_note("%s left out: %s", spec_print(name, sizeof name, &specs[i]), why);
            TRY(st == CLAT_UNSUPPORTED);
        }
    }
    clat_tune_options options = CLAT_TUNE_OPTIONS_INIT;
    options.budget_seconds = run->budget;
    options.implementation = run->implementation;
    options.dry_run = run->dry_run;
    options.progress = progress_step;
    options.user = &progress;
    progress_begin(&progress, run->file);
    const double start = now_seconds();
    const clat_status st = clat_tune(ctx, n_plans, (const clat_plan *const *)plans, &options);
    progress_end(&progress);
    run->interrupted = st == CLAT_CANCELLED;
    TRY(run->interrupted || tool_clat(st));

    fprintf(run->file, "%zu candidates in %.0f s, %zu rejected%s\n\n", progress.tried,
            now_seconds() - start, progress.rejected,
            run->interrupted ? "; interrupted, what was found is kept" : "");
    table_head(run->file, columns, N_COLUMNS);
    for (size_t i = 0; i < n_plans; i++)
        TRY(show_outcome(ctx, planned[i], run));
    ok = true;
out:
    for (size_t i = 0; i < n_plans; i++)
        clat_plan_release(plans[i]);
    return ok;
}
