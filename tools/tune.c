/* `clattice tune`: searches tunables and writes the device's config file. */
#include "report.h"
#include "suite.h"
#include "tuning_run.h"

static bool tune(const struct tool_common *common, const struct spec *specs, size_t count,
                 struct tuning_run *run) {
    clat_context *ctx = NULL;
    clat_device_info info;
    json_t *json = NULL;
    bool ok = false;

    run->file = tool_out(common);
    run->rows = json_array();
    TRY(tool_begin(&ctx, common));
    TRY(report_device(run->file, ctx, &info));
    fprintf(run->file, "tuning   %zu problem%s in about %.0f s\n", count, count == 1 ? "" : "s",
            run->budget);
    TRY(tuning_run(ctx, specs, count, run));
    TRY(tool_clat(clat_context_info(ctx, &info)));
    if (run->dry_run)
        fprintf(run->file, "\ndry run: nothing was written\n");
    else
        fprintf(run->file, "\nwritten  %s, %zu usable entries\n", info.tuned_file,
                info.tuned_entries);
    json = json_pack("{s:s, s:s, s:O}", "device", info.name, "file",
                     run->dry_run ? "" : info.tuned_file, "tuned", run->rows);
    TRY(tool_write_json(common, json));
    ok = !run->interrupted;
out:
    json_decref(json);
    json_decref(run->rows);
    clat_context_release(ctx);
    return ok;
}

int command_tune(int argc, char **argv) {
    struct tool_common common = {0};
    struct spec_options options = spec_options_init();
    struct spec specs[SUITE_MAX];
    struct tuning_run run = {.budget = 60};
    const char *const *words;
    size_t n_words;
    struct arg args[SPEC_N_ARGS + 2] = {
        {"budget", ARG_NUMBER, &run.budget, "SECONDS", "for all problems together; default 60",
         NULL, 0, NULL},
        {"dry-run", ARG_FLAG, &run.dry_run, NULL, "search, but write nothing", NULL, 0, NULL},
    };
    spec_args(args + 2, &options);
    const struct args_command command = {
        .usage = "tune [OPTION]... [OP|SUITE]",
        .about = "Searches the fastest tunables within a time budget. Every candidate is verified "
                 "before it\nis timed. Writes the device's config file, which later runs use.",
        .notes = "Without a problem it tunes the suite `default`. Suites as for `bench`: gemm, "
                 "attention, mha, "
                 "masks, default, all, and those that `clattice help bench` lists.",
        .max_words = 1,
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    const size_t count = suite_from_options(specs, n_words ? words[0] : "default", &options);
    if (!count)
        return TOOL_USAGE;
    if (!(run.budget > 0)) {
        tool_error("--budget must be more than 0");
        return TOOL_USAGE;
    }
    /* The tuner chooses among implementations itself. */
    run.implementation = options.implementation;
    return tune(&common, specs, count, &run) ? TOOL_OK : TOOL_FAILED;
}
