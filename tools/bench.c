/* `clattice bench`: ours beside other libraries, verified. */
#include "report.h"
#include "suite.h"

#include <string.h>

struct bench {
    struct measure_options measure;
    const struct peer *peers[PEER_MAX];
    unsigned n_peers;
    FILE *file;
    json_t *rows;
    size_t wrong, failed;
};

/* What nothing on this device can run is passed over. */
static bool is_supported(clat_context *ctx, const struct spec *spec) {
    char why[SPEC_WHY_BYTES], name[SPEC_TEXT_BYTES];
    clat_plan *plan = NULL;
    const clat_status st = spec_try_plan(&plan, ctx, spec, why);
    clat_plan_release(plan);
    if (st == CLAT_UNSUPPORTED)
        tool_note("%s left out: %s", spec_print(name, sizeof name, spec), why);
    return st != CLAT_UNSUPPORTED; /* other failures are reported by measure() */
}

static bool bench_all(struct bench *bench, clat_context *ctx, const struct spec *specs,
                      size_t count, const char *device) {
    size_t measured = 0;
    for (size_t i = 0; i < count; i++) {
        struct measurement m;
        if (!is_supported(ctx, &specs[i]))
            continue;
        if (!measure(&m, ctx, &specs[i], bench->peers, bench->n_peers, &bench->measure)) {
            bench->failed++;
            continue;
        }
        measured++;
        bench->wrong += !m.verdict.ok;
        report_measurement(bench->file, &m);
        if (!measure_add_json(bench->rows, &m, device))
            return false;
    }
    return measured > 0 || bench->failed > 0 || tool_error("nothing was measured");
}

static bool run_bench(const struct tool_common *common, struct bench *bench,
                      const struct spec *specs, size_t count) {
    clat_context *ctx = NULL;
    clat_device_info info;
    bool ok = false;
    bench->file = tool_out(common);
    bench->rows = json_array();
    TRY(tool_begin(&ctx, common));
    TRY(peers_begin(ctx));
    TRY(report_device(bench->file, ctx, &info));
    peer_describe(bench->file, bench->peers, bench->n_peers);
    fputc('\n', bench->file);
    report_head(bench->file);
    TRY(bench_all(bench, ctx, specs, count, info.name));
    TRY(tool_write_json(common, bench->rows));
    ok = bench->wrong == 0 && bench->failed == 0;
out:
    peers_finish();
    json_decref(bench->rows);
    clat_context_release(ctx);
    return ok;
}

int command_bench(int argc, char **argv) {
    struct tool_common common = {0};
    struct spec_options options = spec_options_init();
    struct spec specs[SUITE_MAX];
    struct bench bench = {.measure.seconds = 2};
    const char *peers = NULL, *const * words;
    size_t reps = 0, n_words;
    struct arg args[SPEC_N_ARGS + 2] = {
        {"peer", ARG_STRING, &peers, "LIST", "clblast, openblas, unfused, dense; with commas", NULL,
         0, NULL},
        {"reps", ARG_SIZE, &reps, "N", "samples of each; default: about two seconds' worth", NULL,
         0, NULL},
    };
    spec_args(args + 2, &options);
    const struct args_command command = {
        .usage = "bench [OPTION]... [OP|SUITE]",
        .about = "Times operators beside peers in one process, in turns, each verified against f64 "
                 "on the\nsame operands. Medians; the ratio is the peer's time over ours.",
        .notes = "OP is gemm, attention or mha; problem options describe one problem of it. "
                 "Otherwise a suite\nruns: gemm, attention, mha, sparse, default, all; without a "
                 "word, default: ten problems, about half a minute once compiled.\n"
                 "Peers: clblast and openblas are GEMM; unfused is attention as CLBlast GEMMs "
                 "around a softmax\nkernel; dense is our own attention without the mask.",
        .max_words = 1,
        .args = args,
        .n_args = sizeof args / sizeof args[0]};
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;

    const size_t count = suite_from_options(specs, n_words ? words[0] : "default", &options);
    const int n_peers = peer_list(peers, bench.peers);
    if (!count || n_peers < 0)
        return TOOL_USAGE;
    bench.n_peers = (unsigned)n_peers;
    bench.measure.reps = (unsigned)(reps < 1000 ? reps : 1000);
    return run_bench(&common, &bench, specs, count) ? TOOL_OK : TOOL_FAILED;
}
