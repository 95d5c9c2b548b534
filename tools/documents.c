/* `clattice report`: results of `bench --json` as Markdown tables and plots. */
#include "args.h"
#include "publish.h"

enum { FILES_MAX = 32 };

static bool make_documents(const struct tool_common *common, const char *markdown, const char *plot,
                           const char *const *paths, size_t count) {
    struct results results[FILES_MAX] = {0};
    size_t loaded = 0;
    bool ok = false;
    for (; loaded < count; loaded++)
        TRY(results_load(&results[loaded], paths[loaded]));
    TRY(!markdown || markdown_update(markdown, results, count));
    TRY(!plot || plot_print(tool_out(common), plot, results, count));
    ok = true;
out:
    for (size_t i = 0; i < loaded; i++)
        results_free(&results[i]);
    return ok;
}

int command_report(int argc, char **argv) {
    struct tool_common common = {0};
    const char *markdown = NULL, *plot = NULL, *const * words;
    size_t n_words;
    char plot_help[160];
    snprintf(plot_help, sizeof plot_help, "print a gnuplot script for SVG: %s", plot_names);
    const struct arg args[] = {
        {"markdown", ARG_STRING, &markdown, "DOCUMENT",
         "replace what is between <!-- results: SUITE --> and <!-- end --> there", NULL, 0, NULL},
        {"plot", ARG_STRING, &plot, "NAME", plot_help, NULL, 0, NULL},
    };
    const struct args_command command = {
        .usage = "report [OPTION]... SUITE.json...",
        .about =
            "Makes tables and plots of files that `clattice bench SUITE --json SUITE.json` and "
            "`clattice info\n--json machine.json` wrote. Measures nothing.",
        .min_words = 1,
        .max_words = FILES_MAX,
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    if (plot && !plot_is_known(plot)) {
        tool_error("--plot takes %s, not \"%s\"", plot_names, plot);
        return TOOL_USAGE;
    }
    if (!plot && !markdown) {
        tool_error("report needs --markdown or --plot");
        return TOOL_USAGE;
    }
    return make_documents(&common, markdown, plot, words, n_words) ? TOOL_OK : TOOL_FAILED;
}
